/* Equinox: goldens of two versions, truncation, refusals, the writer's bytes and its list of
 * leaves. */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/lib/toy.h"
#include "tests/unit/truncate.h"

static const char *const folder[] = {"tests/golden/equinox", "tests/golden/equinox-0.10"};

static void goldens(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folder[k], ".eqx", &n);
        assert_true(n >= 3);
        for (size_t i = 0; i < n; i++)
            if (!strstr(list[i], "one.eqx")) /* its name alone tells it from npy */
                golden_check(list[i], "equinox");
        golden_list_free(list, n);
    }
    golden_check("tests/golden/equinox/one.eqx", "equinox");
}

/* Nothing marks the end: what ends with a leaf is a file. Headers are looked for by their magic. */
static bool whole(const uint8_t *p, size_t n)
{
    size_t at = 0, shown = 0;
    for (size_t i = 0; i + 6 <= n; i++)
        if (memcmp(p + i, "\x93NUMPY", 6) == 0) {
            at = i;
            shown++;
        }
    if (shown == 0 || n < at + 10)
        return false;
    size_t data = at + 10 + p[at + 8] + 256u * p[at + 9];
    if (n < data)
        return false;
    const char *shape = memmem(p + at, data - at, "'shape': (", 10), *descr = NULL;
    descr = memmem(p + at, data - at, "'descr': '", 10);
    assert_non_null(shape);
    assert_non_null(descr);
    size_t elems = 1, item = (size_t)strtoul(descr + 12, NULL, 10);
    for (const char *s = shape + 10; *s != ')';) {
        char *end;
        elems *= strtoul(s, &end, 10);
        s = *end == ',' ? end + 1 : end;
        while (*s == ' ')
            s++;
    }
    return n == data + elems * item;
}

static void truncation(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folder[k], ".eqx", &n);
        for (size_t i = 0; i < n; i++)
            truncate_every(list[i], "equinox", whole);
        golden_list_free(list, n);
    }
}

static char temp[] = "/tmp/nnferry-eqx-XXXXXX.eqx";

static size_t put_leaf(uint8_t *p, const char *descr, const char *shape, size_t data)
{
    char text[118];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                     descr, shape);
    memset(p, 0, 128 + data);
    memcpy(p, "\x93NUMPY\1\0\x76\0", 10);
    memset(p + 10, ' ', 117);
    memcpy(p + 10, text, (size_t)n);
    p[127] = '\n';
    return 128 + data;
}

/* line, then leaves float32 (2,) */
static size_t put(uint8_t *p, const char *line, int leaves)
{
    size_t n = strlen(line);
    memcpy(p, line, n);
    for (int i = 0; i < leaves; i++)
        n += put_leaf(p + n, "<f4", "(2,)", 8);
    return n;
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *line;
        int leaves;
    } bad[] = {
        {NULL, "{\"a\": 1}\n", 2},
        {NULL, "{\"a\": NaN}\n", 2},
        {NULL, "[1, 2]\n", 1},
        {NULL, "{\"nnferry.leaves\": [\"x\", \"y.z\"]}\n", 2},
        {"eqx-line", "{\"a\": 1}\n", 0},
        {"eqx-line", "{\"a\": 1}", 0},
        {"eqx-line", "{\"a\": \"\xff\"}\n", 1},
        {"eqx-leaves", "{\"nnferry.leaves\": [\"x\"]}\n", 2},
        {"eqx-leaves", "{\"nnferry.leaves\": [\"x\", \"y\", \"z\"]}\n", 2},
        {"eqx-leaves", "{\"nnferry.leaves\": [\"x\", 1]}\n", 2},
        {"eqx-leaves", "{\"nnferry.leaves\": [\"x\\u0000\", \"y\"]}\n", 2},
        {"eqx-leaves", "{\"nnferry.leaves\": [\"x\"], \"nnferry.leaves\": [\"x\"]}\n", 1},
        {"json-syntax", "{\"nnferry.leaves\": {\"x\": 1}}\n", 1},
        {"name-twice", "{\"nnferry.leaves\": [\"x\", \"x\"]}\n", 2},
    };
    static uint8_t p[4096];
    const struct format *f = format_find(STR("equinox"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e;
        put_file(temp, p, put(p, bad[i].line, bad[i].leaves));
        enum status st = open_once(temp, f, &e);
        if (bad[i].code ? st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0
                        : st != ST_OK)
            fail_msg("case %zu: status %d, code %s: %s", i, (int)st,
                     st != ST_OK && e.code ? e.code : "none", st != ST_OK ? e.reason : "");
    }
    struct err e;
    size_t n = put(p, "", 2); /* stray bytes behind leaf 1 */
    memcpy(p + n, "stray", 5);
    put_file(temp, p, n + 5);
    assert_int_equal(open_once(temp, f, &e), ST_INPUT);
    assert_string_equal(e.code, "npy-magic");
    assert_string_equal(e.tensor, "leaf 2");
    assert_int_equal(e.offset, n);
    n = put_leaf(p, "<f4", "(2,)", 8);
    n += put_leaf(p + n, "|O", "()", 8);
    put_file(temp, p, n);
    assert_int_equal(open_once(temp, f, &e), ST_INPUT);
    assert_string_equal(e.code, "npy-object");
    assert_string_equal(e.tensor, "leaf 1");
}

/* Written and read again: the same leaves under the same names; hyper-parameters stay what they
 * were. */
static void writing(void **state)
{
    (void)state;
    static const char *const line[] = {NULL, "{}", "{\"a\": [1, {}]}", "[1]"};
    const struct format *f = format_find(STR("equinox"));
    for (size_t k = 0; k < 4; k++)
        for (int by_number = 0; by_number < 2; by_number++) {
            struct model m, back;
            struct err e = {0};
            struct read_opt ro = {0};
            struct write_opt wo = {0};
            const struct format *found;
            model_init(&m);
            toy_add(&m, by_number ? "1" : "b.w", 1, 2, 3, -1);
            toy_add(&m, by_number ? "0" : "a \"x\"", 9, 4, -1);
            toy_done(&m);
            if (line[k])
                assert_int_equal(
                    model_meta_add(&m, STR("equinox.hyperparameters"), str_from(line[k]), &e),
                    ST_OK);
            bool no = k == 3 && !by_number;
            assert_int_equal(f->check(&m, &wo, &e), no ? ST_CANNOT : ST_OK);
            if (!no) {
                const uint8_t *data[2];
                for (size_t i = 0; i < 2; i++)
                    data[i] = m.storage[m.tensor[i].storage].mem;
                assert_int_equal(put_model(f, &m, data, &wo, temp, &e), ST_OK);
                model_init(&back);
                assert_int_equal(format_open(temp, NULL, &ro, &back, &found, &e), ST_OK);
                assert_ptr_equal(found, f);
                assert_int_equal(back.n_tensors, 2);
                for (size_t i = 0; i < 2; i++) {
                    size_t at = by_number ? 1 - i : i; /* numbers say the order */
                    size_t n;
                    assert_true(str_eq(back.tensor[at].name, m.tensor[i].name));
                    uint8_t *p = eager_read(&back, at, &n, &e);
                    assert_non_null(p);
                    assert_memory_equal(p, data[i], n);
                    free(p);
                }
                assert_int_equal(back.n_meta, line[k] && !(k == 1 && !by_number));
                if (back.n_meta)
                    assert_true(str_is(back.meta[0].value, line[k]));
                model_free(&back);
            }
            model_free(&m);
        }
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemps(temp, 4);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(temp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),
        cmocka_unit_test(truncation),
        cmocka_unit_test(refused),
        cmocka_unit_test(writing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
