/* Orbax: goldens of three versions of Orbax and of zarr-python, truncated files, what is refused,
 * and what is written.
 */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/lib/toy.h"
#include "tests/unit/truncate.h"
#include <dirent.h>
#include <sys/stat.h>

static const char *const folders[] = {"tests/golden/orbax", "tests/golden/orbax-0.5",
                                      "tests/golden/orbax-0.6", "tests/golden/orbax-0.2"};
static char room[] = "/tmp/nnferry-orbax-XXXXXX";

static void each_golden(void (*fn)(const char *path))
{
    size_t n_all = 0;
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".json", &n);
        for (size_t i = 0; i < n; i++) {
            list[i][strlen(list[i]) - 5] = 0;
            fn(list[i]);
        }
        n_all += n;
        golden_list_free(list, n);
    }
    assert_true(n_all >= 12);
}

static void one_golden(const char *path)
{
    golden_check(path, "orbax");
}

static void goldens(void **state)
{
    (void)state;
    each_golden(one_golden);
}

/* ---- trees of files ---- */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
    char cmd[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static const char *copy_of(const char *golden)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/copy", room);
    run("rm -rf '%s' && cp -r '%s' '%s' && chmod -R u+w '%s'", path, golden, path, path);
    return path;
}

/* Every tensor's bytes as one digest; "" when it cannot be read, then *e says why. */
static void digest(const char *path, char hex[65], enum status *st, struct err *e)
{
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    char all[64 * 64 + 1] = "", one[65];
    memset(e, 0, sizeof *e);
    model_init(&m);
    hex[0] = 0;
    *st = format_open(path, format_find(STR("orbax")), &opt, &m, &found, e);
    assert_true(m.n_tensors <= 64);
    for (size_t i = 0; *st == ST_OK && i < m.n_tensors; i++) {
        size_t n;
        uint8_t *p = eager_read(&m, i, &n, e);
        if (!p) {
            *st = e->status;
            break;
        }
        sha_hex(p, n, one);
        strcat(all, one);
        free(p);
    }
    if (*st == ST_OK)
        sha_hex(all, strlen(all), hex);
    model_free(&m);
}

static size_t n_refused;

static void cut(const char *golden, const char *rel, const char want[65])
{
    char path[1000], hex[65];
    struct err e;
    enum status st;
    size_t n, step;
    const char *copy = copy_of(golden);
    snprintf(path, sizeof path, "%s/%s", copy, rel);
    uint8_t *p = get_file(path, &n);
    step = n / 24 + 1;
    for (size_t k = 0; k < n; k = k + step < n || k == n - 1 ? k + step : n - 1) {
        put_file(path, p, k);
        digest(copy, hex, &st, &e);
        if (st == ST_OK && strcmp(hex, want) != 0)
            fail_msg("%s cut to %zu of %zu bytes: read, with other tensors", path, k, n);
        if (st != ST_OK && (st != ST_INPUT || !e.code))
            fail_msg("%s cut to %zu of %zu bytes: status %d, code %s", path, k, n, (int)st,
                     e.code ? e.code : "none");
        n_refused += st != ST_OK;
    }
    free(p);
}

/* Files that the arrays do not lie in may be cut; no cut may change what is read. */
static void truncation(void **state)
{
    (void)state;
    static const char *const some[] = {
        "tests/golden/orbax/standard", "tests/golden/orbax/zarr2", "tests/golden/orbax/ocdbt_zarr3",
        "tests/golden/orbax/unmerged", "tests/golden/orbax-0.2/aggregate"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char want[65], line[600], cmd[400];
        struct err e;
        enum status st;
        size_t before = n_refused;
        digest(some[i], want, &st, &e);
        assert_int_equal(st, ST_OK);
        snprintf(cmd, sizeof cmd, "cd '%s' && find . -type f -size +0 | sort", some[i]);
        FILE *list = popen(cmd, "r");
        assert_non_null(list);
        while (fgets(line, sizeof line, list)) {
            line[strcspn(line, "\n")] = 0;
            cut(some[i], line + 2, want);
        }
        assert_int_equal(pclose(list), 0);
        assert_true(n_refused > before + 50);
    }
}

/* ---- refusals ---- */

struct piece_of {
    const char *name, *text;
};
#define KEY(k) "\"key_metadata\":[{\"key\":\"" k "\",\"key_type\":2}]"
#define META(leaf) "{\"tree_metadata\":{\"x\":{" leaf "}}}"
#define ARRAY "\"value_metadata\":{\"value_type\":\"np.ndarray\",\"skip_deserialize\":false}"
#define ZARRAY(chunks, more, shape)                                                                \
    "{\"chunks\":[" chunks "]," more "\"order\":\"C\",\"shape\":[" shape "],\"zarr_format\":2}"
#define PLAIN "\"compressor\":null,\"dtype\":\"<f4\",\"fill_value\":null,\"filters\":null,"
#define GOOD ZARRAY("2", PLAIN, "2")

static void build(const struct piece_of *part, size_t n)
{
    run("rm -rf '%s/item' && mkdir -p '%s/item'", room, room);
    for (size_t i = 0; i < n && part[i].name; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/item/%s", room, part[i].name);
        *strrchr(path, '/') = 0;
        run("mkdir -p '%s'", path);
        snprintf(path, sizeof path, "%s/item/%s", room, part[i].name);
        put_file(path, part[i].text, strlen(part[i].text));
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        struct piece_of part[5];
    } t[] = {
        {"", {{"_METADATA", META(KEY("w") "," ARRAY)}, {"w/.zarray", GOOD}, {"w/0", "8 bytes "}}},
        {"", {{"w/.zarray", GOOD}, {"w/0", "8 bytes "}}},
        {"orbax-metadata", {{"_METADATA", "[]"}}},
        {"orbax-metadata", {{"_METADATA", "{}"}}},
        {"json-truncated", {{"_METADATA", "{\"tree_metadata\""}}},
        {"key-twice", {{"_METADATA", "{\"a\":1,\"a\":2}"}}},
        {"orbax-missing", {{"_METADATA", META(KEY("w") "," ARRAY)}}},
        {"orbax-name", {{"_METADATA", META(KEY("/abs/path") "," ARRAY)}}},
        {"orbax-name", {{"_METADATA", META(KEY("a/../../b") "," ARRAY)}}},
        {"orbax-name", {{"_METADATA", META(KEY("..") "," ARRAY)}}},
        {"orbax-shape",
         {{"_METADATA", META(KEY("w") ",\"value_metadata\":{\"value_type\":\"jax.Array\","
                                      "\"write_shape\":[3]}")},
          {"w/.zarray", GOOD},
          {"w/0", "8 bytes "}}},
        {"orbax-missing",
         {{"_METADATA", META(KEY("s") ",\"value_metadata\":{\"value_type\":\"string\"}")}}},
        {"orbax-tree",
         {{"_METADATA",
           "{\"tree_metadata\":{\"x\":{" KEY("w") "," ARRAY "},\"y\":{" KEY("w") "," ARRAY "}}}"},
          {"w/.zarray", GOOD},
          {"w/0", "8 bytes "}}},
        {"orbax-tree",
         {{"_METADATA", "{\"tree_metadata\":{\"x\":{\"key_metadata\":[{\"key\":\"1\",\"key_type\":"
                        "1}]," ARRAY "}}}"},
          {"1/.zarray", GOOD},
          {"1/0", "8 bytes "}}},
        {"chunk-missing",
         {{"_METADATA", "{\"tree_metadata\":{\"x\":{" KEY(
                            "w") "," ARRAY "}},\"store_array_data_equal_to_fill_value\":true}"},
          {"w/.zarray", GOOD}}},
        {"chunk-short", {{"w/.zarray", GOOD}, {"w/0", "7 bytes"}}},
        {"chunk-long", {{"w/.zarray", GOOD}, {"w/0", "9 bytes  "}}},
        {"zarr-chunk", {{"w/.zarray", GOOD}, {"w/1", "8 bytes "}}},
        {"zarr-chunk", {{"w/.zarray", GOOD}, {"w/0/0", "8 bytes "}}},
        {"zarr-chunk", {{"w/.zarray", ZARRAY("0", PLAIN, "2")}}},
        {"zarr-chunk", {{"w/.zarray", ZARRAY("-1", PLAIN, "2")}}},
        {"zarr-chunk", {{"w/.zarray", ZARRAY("1099511627776", PLAIN, "2")}}},
        {"zarr-rank", {{"w/.zarray", ZARRAY("2,2", PLAIN, "2")}}},
        {"zarr-rank",
         {{"w/.zarray",
           ZARRAY("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", PLAIN,
                  "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                  "1")}}},
        {"shape-overflow", {{"w/.zarray", ZARRAY("1", PLAIN, "4611686018427387904")}}},
        {"shape-overflow",
         {{"w/.zarray", ZARRAY("1,1,1", PLAIN, "1073741824,1073741824,1073741824")}}},
        {"unknown-dtype",
         {{"w/.zarray",
           ZARRAY("2", "\"compressor\":null,\"dtype\":\"|O\",\"fill_value\":null,\"filters\":null,",
                  "2")}}},
        {"zarr-codec",
         {{"w/.zarray", ZARRAY("2",
                               "\"compressor\":{\"id\":\"bz2\"},\"dtype\":\"<f4\",\"fill_value\":"
                               "null,\"filters\":null,",
                               "2")}}},
        {"zarr-codec",
         {{"w/.zarray", ZARRAY("2",
                               "\"compressor\":null,\"dtype\":\"<f4\",\"fill_value\":null,"
                               "\"filters\":[{\"id\":\"delta\"}],",
                               "2")}}},
        {"zarr-fill",
         {{"w/.zarray", ZARRAY("2",
                               "\"compressor\":null,\"dtype\":\"<f4\",\"fill_value\":\"x\","
                               "\"filters\":null,",
                               "2")}}},
        {"zarr-order",
         {{"w/.zarray", "{\"chunks\":[2],\"dtype\":\"<f4\",\"shape\":[2],"
                        "\"order\":\"K\",\"zarr_format\":2}"}}},
        {"zarr-metadata", {{"w/.zarray", "{\"zarr_format\":3}"}}},
        {"zarr-metadata", {{"w/zarr.json", "{\"zarr_format\":3,\"node_type\":\"array\",\"x\":1}"}}},
        {"ocdbt-length", {{"manifest.ocdbt", "short"}}},
        {"ocdbt-magic", {{"manifest.ocdbt", "no manifest of OCDBT at all, but long enough"}}},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char path[300], hex[65];
        struct err e = {0};
        enum status st;
        build(t[i].part, 5);
        snprintf(path, sizeof path, "%s/item", room);
        digest(path, hex, &st, &e);
        const char *code = st == ST_OK ? "" : e.code ? e.code : "none";
        if (strcmp(code, t[i].code) != 0 || (st != ST_OK && st != ST_INPUT))
            fail_msg("case %zu, %s: status %d, code %s: %s", i, t[i].code, (int)st, code, e.reason);
    }
}

static void no_chunk(void **state)
{
    (void)state;
    static const struct piece_of fill[] = {
        {"w/.zarray", ZARRAY("2",
                             "\"compressor\":null,\"dtype\":\"<f4\",\"fill_value\":1.5,"
                             "\"filters\":null,",
                             "5")},
        {"w/1", "8 bytes "}};
    char path[300];
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *found;
    size_t n;
    build(fill, 2);
    snprintf(path, sizeof path, "%s/item", room);
    model_init(&m);
    assert_int_equal(format_open(path, NULL, &opt, &m, &found, &e), ST_OK);
    uint8_t *p = eager_read(&m, 0, &n, &e);
    assert_non_null(p);
    assert_memory_equal(p,
                        "\0\0\xc0\x3f\0\0\xc0\x3f"
                        "8 bytes "
                        "\0\0\xc0\x3f",
                        20);
    free(p);
    model_free(&m);
    /* where a chunk should be there stands something else */
    run("mkfifo '%s/item/w/0'", room);
    assert_int_equal(open_once(path, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "not-a-file");
}

static void temporary(void **state)
{
    (void)state;
    static const struct piece_of good[] = {{"w/.zarray", GOOD}, {"w/0", "8 bytes "}};
    char path[300];
    struct err e;
    build(good, 2);
    run("rm -rf '%s/s' && mkdir -p '%s/s' && cp -r '%s/item' '%s/s/7.orbax-checkpoint-tmp-3'", room,
        room, room, room);
    snprintf(path, sizeof path, "%s/s", room);
    assert_int_equal(open_once(path, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "orbax-uncommitted");
    snprintf(path, sizeof path, "%s/s/7.orbax-checkpoint-tmp-3", room);
    assert_int_equal(open_once(path, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "orbax-uncommitted");
    run("cp -r '%s/item' '%s/s/6' && cp -r '%s/item' '%s/s/5'", room, room, room, room);
    snprintf(path, sizeof path, "%s/s", room);
    assert_int_equal(open_once(path, NULL, &e), ST_USAGE);
    assert_string_equal(e.code, "several-weight-sets");
    assert_non_null(strstr(e.reason, "5, 6"));
}

/* ---- writing ---- */

static void round_trip(const char *golden)
{
    struct model m, back;
    struct err e = {0};
    struct read_opt opt = {0};
    struct write_opt wo = {0};
    const struct format *found, *f = format_find(STR("orbax"));
    uint8_t *data[64];
    char path[300], line[1600];
    model_init(&m);
    model_init(&back);
    assert_int_equal(format_open(golden, NULL, &opt, &m, &found, &e), ST_OK);
    assert_true(m.n_tensors <= 64);
    for (size_t i = 0; i < m.n_tensors; i++) {
        size_t n;
        data[i] = eager_read(&m, i, &n, &e);
        assert_non_null(data[i]);
    }
    snprintf(path, sizeof path, "%s/written", room);
    run("rm -rf '%s'", path);
    if (put_model(f, &m, (const uint8_t *const *)data, &wo, path, &e) != ST_OK ||
        format_open(path, NULL, &opt, &back, &found, &e) != ST_OK) {
        err_line(&e, line, sizeof line);
        fail_msg("%s: %s", golden, line);
    }
    assert_int_equal(back.n_tensors, m.n_tensors);
    for (size_t i = 0; i < m.n_tensors; i++) {
        int64_t at = model_find(&back, m.tensor[i].name);
        size_t n, k;
        assert_true(at >= 0);
        const struct tensor *a = &m.tensor[i], *b = &back.tensor[at];
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->role, b->role);
        assert_int_equal(a->n_dims, b->n_dims);
        assert_memory_equal(a->dim, b->dim, a->n_dims * sizeof *a->dim);
        free(data[i]);
        data[i] = eager_read(&m, i, &n, &e);
        uint8_t *p = eager_read(&back, (size_t)at, &k, &e);
        assert_non_null(p);
        assert_int_equal(n, k);
        assert_memory_equal(p, data[i], n);
        free(p);
        free(data[i]);
    }
    const struct node *x = m.tree, *y = back.tree;
    for (; x && y; x = node_step(m.tree, (struct node *)(uintptr_t)x),
                   y = node_step(back.tree, (struct node *)(uintptr_t)y)) {
        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->n_children, y->n_children);
        if (x->kind == NODE_STR || x->kind == NODE_TENSOR)
            assert_true(str_eq(x->text, y->text));
        if (x->kind == NODE_INT || x->kind == NODE_BOOL)
            assert_int_equal(x->i, y->i);
        if (x->kind == NODE_FLOAT)
            assert_int_equal(x->bits[0], y->bits[0]);
    }
    assert_true(!m.tree || (!x && !y));
    model_free(&m);
    model_free(&back);
}

static void writes(void **state)
{
    (void)state;
    round_trip("tests/golden/orbax/standard");
    round_trip("tests/golden/orbax/zarr2");
    round_trip("tests/golden/orbax/nnx_state");
    round_trip("tests/golden/orbax-0.2/aggregate");
    round_trip("tests/golden/flax/train_state.msgpack");
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(room) ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    run("rm -rf '%s'", room);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),   cmocka_unit_test(refused), cmocka_unit_test(no_chunk),
        cmocka_unit_test(temporary), cmocka_unit_test(writes),  cmocka_unit_test(truncation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
