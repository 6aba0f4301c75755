/* Haiku pickles: goldens of several generations of numpy, jax, haiku, optax and joblib, every
 * truncation, refusals by name, roles of optimizer states, and files that hold more than memory. */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/lib/toy.h"
#include "tests/unit/truncate.h"

static const struct {
    const char *folder, *suffix;
} sets[] = {
    {"tests/golden/haiku", ".pkl"},        {"tests/golden/haiku", ".joblib"},
    {"tests/golden/haiku-0.0.10", ".pkl"}, {"tests/golden/haiku-0.0.10", ".joblib"},
    {"tests/golden/haiku-old", ".pkl"},    {"tests/golden/joblib-1.1", ".joblib"},
};
#define N_SETS (sizeof sets / sizeof *sets)

static void goldens(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_SETS; k++) {
        size_t n;
        char **list = golden_list(sets[k].folder, sets[k].suffix, &n);
        assert_true(n >= 3);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], "haiku");
        golden_list_free(list, n);
    }
}

static void truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_SETS; k++) {
        size_t n;
        if (strcmp(sets[k].folder, "tests/golden/haiku-0.0.10") == 0)
            continue; /* cut like those of today's versions */
        char **list = golden_list(sets[k].folder, sets[k].suffix, &n);
        for (size_t i = 0; i < n; i++)
            truncate_every(list[i], "haiku", NULL);
        golden_list_free(list, n);
    }
}

static char temp[] = "/tmp/nnferry-haiku-XXXXXX.pkl";

#define NDARRAY                                                                                    \
    "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"                               \
    "C\1b\x87R"
#define F4                                                                                         \
    "cnumpy\ndtype\nX\2\0\0\0f4\x89\x88\x87R(K\3X\1\0\0\0<"                                        \
    "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
#define TYPE(name) "cnumpy\ndtype\nX\2\0\0\0" name "\x89\x88\x87R"
#define W(value) "\x80\3}X\1\0\0\0w" value "s."
#define DATA                                                                                       \
    "C\x08"                                                                                        \
    "abcdefgh"

static void refused(void **state)
{
    (void)state;
#define BAD(code, text)                                                                            \
    {                                                                                              \
        code, text, sizeof text - 1                                                                \
    }
    static const struct {
        const char *code, *bytes;
        size_t n;
    } bad[] = {
        BAD(NULL, W(NDARRAY "(K\1K\2\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1K\3\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1K\1\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1J\xfe\xff\xff\xff\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1X\1\0\0\0a\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1K\2" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W(NDARRAY "(K\1K\2\x85" F4 "\x89tb")),
        BAD("numpy-array", W(NDARRAY)),
        BAD("numpy-array", W(NDARRAY "(K\1K\2\x85" F4 "\x89Ntb")),
        BAD("numpy-array", W(NDARRAY "(K\1\x8a\x08\0\0\0\0\0\0\0\x40\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W("cnumpy.core.multiarray\n_reconstruct\ncnumpy\nmatrix\nK\0\x85"
                             "C\1b\x87R(K\1K\2\x85" F4 "\x89" DATA "tb")),
        BAD("numpy-array", W("cnumpy.core.multiarray\nscalar\n" F4 DATA "\x86R")),
        BAD("numpy-array", W("cnumpy.core.multiarray\nscalar\n" F4 "\x85R")),
        BAD("numpy-array", W("cnumpy.core.numeric\n_frombuffer\n(" DATA F4 "K\2\x85X\1\0\0\0KtR")),
        BAD("numpy-dtype", W(NDARRAY "(K\1K\2\x85K\5\x89" DATA "tb")),
        BAD("numpy-dtype", W(NDARRAY "(K\1K\2\x85"
                                     "cnumpy\ndtype\nK\5\x85R\x89" DATA "tb")),
        BAD("numpy-dtype",
            W(NDARRAY "(K\1K\2\x85" TYPE("f4") "(K\3X\1\0\0\0!NNNK\4K\4K\0tb\x89" DATA "tb")),
        BAD("numpy-dtype", W(NDARRAY "(K\1K\2\x85" TYPE("f4") "K\3b\x89" DATA "tb")),
        BAD("numpy-object", W(NDARRAY "(K\1K\2\x85" TYPE("O8") "\x89](NNetb")),
        BAD("jax-array", W("cjax._src.array\n_reconstruct_array\nNNN\x87R")),
        BAD("jax-array", W("cjax._src.array\n_reconstruct_array\n)R")),
        BAD("numpy-array", W("cjax._src.array\n_reconstruct_array\n(cnumpy.core.multiarray\n"
                             "_reconstruct\n)NNtR")),
        BAD("haiku-mapping", W("chaiku._src.data_structures\nFlatMapping\nK\1\x85R")),
        BAD("haiku-mapping", W("chaiku._src.data_structures\nFlatMapping\n}}\x86R")),
        BAD("pickle-persid", "\x80\3}X\1\0\0\0wK\1Qs."),
        BAD("pickle-latin1", W(NDARRAY "(K\1K\2\x85" F4 "\x89"
                                       "c_codecs\nencode\nX\2\0\0\0\xc8\x80"
                                       "X\6\0\0\0latin1\x86Rtb")),
        BAD("pickle-latin1", W(NDARRAY "(K\1K\2\x85" F4 "\x89"
                                       "c_codecs\nencode\nX\2\0\0\0abX\5\0\0\0utf16\x86Rtb")),
        BAD("pickle-buffer", "\x80\5}X\1\0\0\0w\x97s."),
        BAD("pickle-runs-code", W("cposix\nsystem\nX\2\0\0\0ls\x85R")),
        BAD("joblib-files", W("cjoblib.numpy_pickle\nNDArrayWrapper\n)\x81")),
        BAD("numpy-array", W("cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b")),
        BAD("numpy-array", W("cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81")),
        BAD("joblib-compression", "BZh91AY"),
        BAD("joblib-zfile", "ZF0x12                x"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e;
        put_file(temp, bad[i].bytes, bad[i].n);
        enum status st = open_once(temp, NULL, &e);
        if (!bad[i].code && st != ST_OK)
            fail_msg("case %zu: %s: %s", i, e.code, e.reason);
        if (bad[i].code && (st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0))
            fail_msg("case %zu: status %d, code %s, not %s: %s", i, (int)st,
                     st != ST_OK && e.code ? e.code : "none", bad[i].code, e.reason);
        if (bad[i].code)
            assert_true(e.has_offset);
    }
}

static void open_golden(const char *path, struct model *m)
{
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    model_init(m);
    if (format_open(path, NULL, &opt, m, &found, &e) != ST_OK)
        fail_msg("%s: %s", path, e.reason);
}

/* role and `of` of a tensor */
static void told(const struct model *m, const char *name, const char *role, const char *of)
{
    int64_t at = model_find(m, str_from(name));
    if (at < 0)
        fail_msg("no tensor %s", name);
    const struct tensor *t = &m->tensor[at];
    assert_string_equal(role_name(t->role), role);
    if (of) {
        if (t->of < 0)
            fail_msg("%s belongs to nothing", name);
        assert_true(str_is(m->tensor[t->of].name, of));
    } else {
        assert_int_equal(t->of, -1);
    }
}

static void roles(void **state)
{
    (void)state;
    static const char *const folder[] = {"tests/golden/haiku", "tests/golden/haiku-0.0.10"};
    for (int k = 0; k < 2; k++) {
        struct model m;
        char path[128];
        snprintf(path, sizeof path, "%s/train.pkl", folder[k]);
        open_golden(path, &m);
        told(&m, "params.mlp/~/linear_0.w", "parameter", NULL);
        told(&m, "state.norm/~/mean_ema.average", "statistic", NULL);
        told(&m, "state.norm/~/mean_ema.counter", "counter", NULL);
        told(&m, "opt_state.1.0.count", "counter", NULL);
        told(&m, "opt_state.1.0.mu.mlp/~/linear_0.w", "moment1", "params.mlp/~/linear_0.w");
        told(&m, "opt_state.1.0.nu.norm.scale", "moment2", "params.norm.scale");
        model_free(&m);
        snprintf(path, sizeof path, "%s/tuple.pkl", folder[k]);
        open_golden(path, &m);
        told(&m, "0.mlp/~/linear_1.b", "parameter", NULL);
        told(&m, "1.norm/~/var_ema.hidden", "statistic", NULL);
        told(&m, "2.1.0.mu.mlp/~/linear_1.b", "moment1", "0.mlp/~/linear_1.b");
        told(&m, "2.1.0.count", "counter", NULL);
        model_free(&m);
        snprintf(path, sizeof path, "%s/sgd.pkl", folder[k]);
        open_golden(path, &m);
        told(&m, "opt_state.0.trace.norm.offset", "moment1", "params.norm.offset");
        model_free(&m);
        snprintf(path, sizeof path, "%s/flat_mapping.pkl", folder[k]);
        open_golden(path, &m);
        assert_true(str_is(m.framework, "haiku"));
        model_free(&m);
    }
}

/* An array of 6 GiB in a sparse file: nothing of it is read to know what it is. */
static void larger_than_memory(void **state)
{
    (void)state;
    static const char before[] =
        "\x80\4}X\1\0\0\0m}X\1\0\0\0w" NDARRAY "(K\1J\0\0\0\x60\x85" TYPE("f4") "\x89\x8e";
    static const uint8_t size[8] = {0, 0, 0, 0x80, 1, 0, 0, 0};
    uint64_t bytes = (uint64_t)6 << 30;
    struct model m;
    int fd = open(temp, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, before, sizeof before - 1), (ssize_t)sizeof before - 1);
    assert_int_equal(write(fd, size, 8), 8);
    assert_int_equal(pwrite(fd, "tbss.", 5, (off_t)(sizeof before + 7 + bytes)), 5);
    assert_int_equal(close(fd), 0);
    open_golden(temp, &m);
    assert_int_equal(m.n_tensors, 1);
    assert_int_equal(m.storage[m.tensor[0].storage].kind, STORAGE_FLAT);
    assert_int_equal(m.storage[m.tensor[0].storage].offset, sizeof before + 7);
    assert_int_equal(m.storage[m.tensor[0].storage].raw_bytes, bytes);
    model_free(&m);
}

static void write_and_open(const struct format *f, struct model *m, const char *path,
                           struct model *back)
{
    struct err e = {0};
    struct write_opt wo = {0};
    struct read_opt ro = {.quick = true}; /* put_model leaves npz's sums out */
    const struct format *found;
    const uint8_t *data[16];
    assert_true(m->n_tensors <= 16);
    for (size_t i = 0; i < m->n_tensors; i++)
        data[i] = m->tensor[i].alias_of < 0 ? m->storage[m->tensor[i].storage].mem : NULL;
    assert_int_equal(f->check(m, &wo, &e), ST_OK);
    assert_int_equal(put_model(f, m, data, &wo, path, &e), ST_OK);
    model_init(back);
    if (format_open(path, f, &ro, back, &found, &e) != ST_OK)
        fail_msg("%s: %s", f->name, e.reason);
}

static void same(const struct model *m, const struct model *back)
{
    assert_int_equal(m->n_tensors, back->n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct err e;
        size_t n, k;
        int64_t at = model_find(back, m->tensor[i].name);
        if (at < 0)
            fail_msg("no %.*s", STR_ARG(m->tensor[i].name));
        uint8_t *a = eager_read(m, i, &n, &e), *b = eager_read(back, (size_t)at, &k, &e);
        assert_non_null(a);
        assert_non_null(b);
        assert_int_equal(n, k);
        assert_memory_equal(a, b, n);
        free(a);
        free(b);
        assert_int_equal(m->tensor[i].alias_of >= 0, back->tensor[at].alias_of >= 0);
    }
}

/* What is written is read as it was; names make dicts, ties stay ties. */
static void writing(void **state)
{
    (void)state;
    const struct format *f = format_find(STR("haiku"));
    struct model m, back;
    model_init(&m);
    toy_add(&m, "mlp/~/linear_0.w", 1, 2, 3, -1);
    toy_add(&m, "mlp/~/linear_0.b", 7, 3, -1);
    toy_add(&m, "dot\\.ted.a.b.c", 9, 1, 1, 1, 1, 5, -1);
    toy_counter(&m, "state.count", 4);
    toy_add(&m, "empty.w", 0, 0, 3, -1);
    toy_done(&m);
    write_and_open(f, &m, temp, &back);
    same(&m, &back);
    assert_int_equal(back.tree->n_children, 4);
    model_free(&back);
    model_free(&m);
    /* one name is another's path */
    struct err e;
    struct write_opt wo = {0};
    model_init(&m);
    toy_add(&m, "a", 1, 2, -1);
    toy_add(&m, "a.b", 1, 2, -1);
    toy_done(&m);
    assert_int_equal(f->check(&m, &wo, &e), ST_CANNOT);
    assert_string_equal(e.code, "name-prefix");
    model_free(&m);
    model_init(&m);
    toy_add(&m, "a", 1, 2, -1);
    toy_done(&m);
    m.tensor[0].dtype = DT_F8_E4M3FN;
    assert_int_equal(f->check(&m, &wo, &e), ST_CANNOT);
    assert_string_equal(e.code, "dtype");
    model_free(&m);
}

/* npz as Haiku's users write it. */
static void npz(void **state)
{
    (void)state;
    const struct format *f = format_find(STR("npz"));
    char path[] = "/tmp/nnferry-haiku-XXXXXX.npz";
    int fd = mkstemps(path, 4);
    struct model m, back;
    struct err e;
    struct write_opt wo = {0};
    assert_true(fd >= 0);
    close(fd);
    for (int k = 0; k < 2; k++) {
        model_init(&m);
        toy_add(&m, "mlp/~/linear_0.w", 1, 2, 3, -1);
        toy_add(&m, k ? "deep.er.w" : "a\\.b.w", 7, 3, -1);
        toy_done(&m);
        m.framework = STR("haiku");
        write_and_open(f, &m, path, &back);
        same(&m, &back);
        assert_int_equal(str_is(back.framework, "haiku"), !k); /* only two parts are its own */
        size_t n;
        uint8_t *p = get_file(path, &n);
        assert_int_equal(memmem(p, n, "mlp/~/linear_0//w.npy", 21) != NULL, !k);
        free(p);
        model_free(&back);
        model_free(&m);
    }
    /* names that would be read as others */
    model_init(&m);
    toy_add(&m, "a//w", 1, 2, -1);
    toy_done(&m);
    assert_int_equal(f->check(&m, &wo, &e), ST_CANNOT);
    assert_string_equal(e.code, "name");
    model_free(&m);
    unlink(path);
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
        cmocka_unit_test(goldens), cmocka_unit_test(truncation),         cmocka_unit_test(refused),
        cmocka_unit_test(roles),   cmocka_unit_test(larger_than_memory), cmocka_unit_test(writing),
        cmocka_unit_test(npz),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
