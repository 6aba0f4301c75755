/* What travels along with the weights, and the ledger's lines of what does not arrive. */
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct err err;

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s", (int)st, err.code ? err.code : "-", err.reason);
}

static enum status map_into(struct plan *p, const struct model *m, struct map_opt o,
                            const char *format)
{
    plan_init(p, m);
    memset(&err, 0, sizeof err);
    return map_plan(p, &o, format ? format_find(str_from(format)) : NULL, 0, NULL, &err);
}

/* Attachments and key-values: kept, or a harmless line with their bytes. */
static void what_travels_along(void **state)
{
    static const char *const names[] = {"config.json", "gguf.kv", "assets/x", "model_config.json"};
    static const struct {
        const char *format;
        bool folder, meta;
        bool kept[4];
    } cases[] = {{"npz", false, false, {0}},
                 {"archive", false, true, {true, true, true, true}},
                 {"gguf", false, true, {false, true}},
                 {"keras", false, true, {true, false, true}},
                 {"keras-h5", false, true, {false, false, false, true}},
                 {"safetensors", false, true, {0}},
                 {"safetensors", true, true, {true, true, true, true}},
                 {"tf-checkpoint", true, false, {true, true, true, true}}};
    struct model m;
    struct plan p;
    (void)state;
    model_init(&m);
    toy_add(&m, "w", 0, 2, -1);
    for (size_t i = 0; i < 4; i++) {
        struct attachment *a;
        must(model_attach(&m, &a, &err));
        *a = (struct attachment){.name = str_from(names[i]), .mem = (uint8_t *)"abc", .n_bytes = i};
    }
    must(model_meta_add(&m, STR("key"), STR("value"), &err));
    toy_done(&m);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        size_t n_lines = 0, n_kept = 0;
        must(map_into(&p, &m, (struct map_opt){.as_is = true, .folder = cases[c].folder},
                      cases[c].format));
        for (size_t i = 0; i < 4; i++) {
            if (cases[c].kept[i]) {
                assert_true(str_is(p.dst.attachment[n_kept++].name, names[i]));
                continue;
            }
            const struct ledger_line *l = &p.line[n_lines++];
            assert_true(l->harmless && l->kind == LEDGER_DROP && l->what == LEDGER_ATTACHMENT);
            assert_true(str_is(l->name, names[i]));
            assert_int_equal(l->n_bytes, i);
            assert_int_equal(l->n_elems, 0);
        }
        assert_int_equal(p.dst.n_attachments, n_kept);
        assert_int_equal(p.dst.n_meta, cases[c].meta);
        if (!cases[c].meta) {
            const struct ledger_line *l = &p.line[n_lines++];
            assert_true(l->harmless && l->what == LEDGER_METADATA && str_is(l->name, "key"));
            assert_int_equal(l->n_bytes, 8);
        }
        assert_int_equal(p.n_lines, n_lines);
        plan_free(&p);
    }
    /* without a format, all; as asked, nothing and no line */
    must(map_into(&p, &m, (struct map_opt){.as_is = true}, NULL));
    assert_int_equal(p.dst.n_attachments, 4);
    assert_int_equal(p.n_lines, 0);
    plan_free(&p);
    must(map_into(&p, &m, (struct map_opt){.as_is = true, .weights_only = true}, "gguf"));
    assert_int_equal(p.dst.n_attachments + p.n_lines, 0);
    plan_free(&p);
    model_free(&m);
}

/* The container's own tag is no loss; a first glob behind '!' says no. */
static void own_tags(void **state)
{
    struct model m;
    struct plan p;
    (void)state;
    model_init(&m);
    toy_add(&m, "w", 0, 2, -1);
    m.format = "safetensors";
    must(model_meta_add(&m, STR("format"), STR("pt"), &err));
    toy_done(&m);
    must(map_into(&p, &m, (struct map_opt){.as_is = true}, "npz"));
    assert_int_equal(p.n_lines, 0);
    plan_free(&p);
    model_free(&m);
    assert_false(format_keeps_meta(format_find(STR("keras-weights")), STR("layer_names[]")));
    assert_true(format_keeps_meta(format_find(STR("keras-weights")), STR("a@name")));
    assert_true(format_keeps_meta(format_find(STR("savedmodel")), STR("signature.serve")));
    assert_false(format_keeps_meta(format_find(STR("savedmodel")), STR("fingerprint")));
    assert_false(format_keeps(format_find(STR("haiku")), false, STR("config.json")));
}

/* Names hold any byte: a NUL, and what a rules file takes for a pattern, in a line as long as they
 * are. */
static void odd_names(void **state)
{
    static char name[10000];
    struct model m;
    struct plan p;
    struct buf help = BUF_INIT;
    struct map_opt o = {.as_is = true};
    (void)state;
    memset(name, '"', sizeof name);
    name[1] = 0;
    model_init(&m);
    toy_add(&m, "w", 0, 2, -1);
    struct node *top = node_new(&m.arena, NODE_DICT), *key = node_new(&m.arena, NODE_STR),
                *odd = node_new(&m.arena, NODE_OPAQUE);
    assert_true(top && key && odd);
    key->text = (struct str){name, sizeof name};
    odd->text = STR("m.Thing");
    odd->key = key;
    node_add(top, odd);
    m.tree = top;
    m.has_opaque = true;
    toy_done(&m);
    plan_init(&p, &m);
    memset(&err, 0, sizeof err);
    assert_int_equal(map_plan(&p, &o, format_find(STR("npz")), 0, &help, &err), ST_CANNOT);
    assert_true(help.n > 2 * sizeof name);
    assert_null(memchr(help.p, 0, help.n));
    buf_free(&help);
    plan_free(&p);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_names),
        cmocka_unit_test(what_travels_along),
        cmocka_unit_test(own_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
