/* The inverse that archives carry, as a stranger may have written it. */
#include "convert/map.h"
#include "framework/recognise.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The inverse is foreign text: whatever it says, a status, never more. */
static void hostile_spelling(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{",
        "[]",
        "{}",
        "{\"format\":2}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\"}]}",
        "{\"format\":1,\"tensors\":[{\"from\":[{\"tensor\":\"a\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"b\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"a\",\"canonical\":"
        "\"O I\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"a\",\"canonical\":"
        "\"O I H\",\"source\":\"I O H\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"a\",\"canonical\":"
        "\"(\",\"source\":\"O\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"a\"},{\"tensor\":"
        "\"s\"}]}]}",
        "{\"format\":1,\"tensors\":[{\"name\":\"x\",\"from\":[{\"tensor\":\"a\"}]},{\"name\":"
        "\"x\",\"from\":[{\"tensor\":\"a\"}]}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"tensor\",\"tensor\":0}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"dict\",\"up\":0}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"int\"},{\"kind\":\"int\",\"up\":0}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"list\"},{\"kind\":\"int\",\"up\":1}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"dict\"},{\"kind\":\"int\",\"up\":0}]}",
        "{\"format\":1,\"tensors\":[],\"nodes\":[{\"kind\":\"nonsense\"}]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct model m;
        struct plan p;
        model_init(&m);
        toy_add(&m, "a", 0, 2, 3, -1);
        toy_add(&m, "s", 0, -1);
        toy_done(&m);
        m.spelling = str_from(bad[i]);
        struct map_opt o = {.to = "source"};
        struct err err = {0};
        struct buf asked = BUF_INIT;
        plan_init(&p, &m);
        enum status st = map_plan(&p, &o, NULL, 0, &asked, &err);
        if (st != ST_INPUT && st != ST_CANNOT)
            fail_msg("%d %s: %s", (int)st, err.reason, bad[i]);
        buf_free(&asked);
        plan_free(&p);
        model_free(&m);
    }
}

/* Dots cut a name, but for those that a backslash makes part of a segment. */
static void tails(void **state)
{
    (void)state;
    static const struct {
        const char *name, *parent, *leaf; /* parent NULL: none */
    } cases[] = {
        {"", NULL, ""},
        {"weight", NULL, "weight"},
        {"a.weight", "a", "weight"},
        {"a.b.weight", "a.b", "weight"},
        {".weight", "", "weight"},
        {"a.", "a", ""},
        {"a..b", "a.", "b"},
        {"a\\.b", NULL, "a\\.b"},
        {"a.b\\.c", "a", "b\\.c"},
        {"a\\\\.b", "a\\\\", "b"},
        {"a.b\\\\\\.c", "a", "b\\\\\\.c"},
        {"\\.b", NULL, "\\.b"},
        {"a.b\\c", "a", "b\\c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str parent, leaf;
        name_tail(str_from(cases[i].name), &parent, &leaf);
        assert_true(str_is(leaf, cases[i].leaf));
        assert_int_equal(parent.p != NULL, cases[i].parent != NULL);
        assert_true(!cases[i].parent || str_is(parent, cases[i].parent));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hostile_spelling), cmocka_unit_test(tails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
