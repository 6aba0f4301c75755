/* ONNX: goldens of two versions, truncation, refusals by name, the graph filled again. */
#include "codec/proto.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/unit/truncate.h"
#include <sys/stat.h>

static const char *const folders[] = {"tests/golden/onnx", "tests/golden/onnx-1.13"};

static void goldens(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".onnx", &n), path[64];
        assert_true(n >= 4);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], "onnx");
        golden_list_free(list, n);
        snprintf(path, sizeof path, "%s/external", folders[k]);
        golden_check(path, "onnx");
    }
}

/* What stands behind the graph may be cut off field by field; the operator set may not. */
static bool may_pass(const uint8_t *p, size_t n)
{
    struct cursor c;
    struct proto m;
    bool graph = false, opset = false;
    cur_mem(&c, p, n, "prefix", 0);
    proto_init(&m, &c, n);
    while (proto_next(&m)) {
        graph = graph || m.field == 7;
        opset = opset || m.field == 8;
    }
    bool ok = cur_ok(&c, NULL) == ST_OK;
    cur_close(&c);
    return ok && graph && opset;
}

static void truncation(void **state)
{
    (void)state;
    size_t n;
    char **list = golden_list(folders[0], ".onnx", &n);
    for (size_t i = 0; i < n; i++)
        truncate_every(list[i], "onnx", may_pass);
    golden_list_free(list, n);
}

/* ---- building ---- */

static char temp[] = "/tmp/nnferry-onnx-XXXXXX";

static struct buf *tensor(struct buf *b, const char *name, int type, int64_t dim)
{
    buf_clear(b);
    if (dim != -99)
        proto_w_i64(b, 1, dim);
    proto_w_i64(b, 2, type);
    if (name)
        proto_w_str(b, 8, str_from(name));
    return b;
}

static void raw(struct buf *b, size_t n)
{
    proto_w_len(b, 9, n);
    buf_fill(b, 1, n);
}

static void pair(struct buf *b, const char *key, const char *value)
{
    struct buf kv = BUF_INIT;
    proto_w_str(&kv, 1, str_from(key));
    proto_w_str(&kv, 2, str_from(value));
    proto_w_sub(b, 13, &kv);
    buf_free(&kv);
}

static void external(struct buf *b, const char *location, const char *offset, const char *length)
{
    pair(b, "location", location);
    if (offset)
        pair(b, "offset", offset);
    if (length)
        pair(b, "length", length);
    proto_w_u64(b, 14, 1);
}

/* A model around a graph's bytes, written to temp. */
static void put_graph(const struct buf *graph, int n_graphs, bool opset)
{
    struct buf b = BUF_INIT, o = BUF_INIT;
    proto_w_u64(&b, 1, 8);
    for (int i = 0; i < n_graphs; i++)
        proto_w_sub(&b, 7, graph);
    proto_w_u64(&o, 2, 13);
    if (opset)
        proto_w_sub(&b, 8, &o);
    put_file(temp, b.p, b.n);
    buf_free(&b);
    buf_free(&o);
}

static void expect(const char *code, const char *what)
{
    struct err e;
    enum status st = open_once(temp, format_find(STR("onnx")), &e);
    if (!code && st != ST_OK)
        fail_msg("%s: code %s: %s", what, e.code ? e.code : "none", e.reason);
    if (code && (st != ST_INPUT || !e.code || strcmp(e.code, code) != 0))
        fail_msg("%s: status %d, code %s, expected %s", what, (int)st, e.code ? e.code : "none",
                 code);
}

/* One initializer. */
static void one(const char *code, const struct buf *t, const char *what)
{
    struct buf g = BUF_INIT;
    proto_w_sub(&g, 5, t);
    put_graph(&g, 1, true);
    expect(code, what);
    buf_free(&g);
}

static void refused_tensors(void **state)
{
    (void)state;
    struct buf t = BUF_INIT;
    raw(tensor(&t, "w", 1, 2), 8);
    one(NULL, &t, "control");
    raw(tensor(&t, "w", 1, 2), 7);
    one("size-mismatch", &t, "a byte short");
    raw(tensor(&t, "w", 1, -1), 8);
    one("bad-shape", &t, "a dimension below 0");
    raw(tensor(&t, "w", 99, 2), 8);
    one("unknown-dtype", &t, "type 99");
    raw(tensor(&t, "w", 0, 2), 8);
    one("unknown-dtype", &t, "type 0");
    raw(tensor(&t, NULL, 1, 2), 8);
    one("bad-name", &t, "no name");
    raw(tensor(&t, "w", 1, 2), 8);
    raw(&t, 8);
    one("field-twice", &t, "raw_data twice");
    raw(tensor(&t, "w", 1, 2), 8);
    proto_w_fixed32(&t, 4, 0);
    one("data-twice", &t, "raw_data and float_data");
    tensor(&t, "w", 1, 1);
    proto_w_u64(&t, 5, 0);
    one("data-field", &t, "float32 in int32_data");
    raw(tensor(&t, "w", 1, 2), 8);
    proto_w_str(&t, 3, STR(""));
    one("tensor-segment", &t, "segments");
    raw(tensor(&t, "w", 1, 2), 8);
    proto_w_u64(&t, 14, 2);
    one("data-location", &t, "data_location 2");
    tensor(&t, "w", 1, INT64_C(1) << 32);
    proto_w_i64(&t, 1, INT64_C(1) << 32);
    one("shape-overflow", &t, "2^32 x 2^32");
    tensor(&t, "w", 1, 1);
    for (int i = 0; i < 100; i++)
        proto_w_i64(&t, 1, 1);
    raw(&t, 4);
    one("bad-shape", &t, "101 dimensions");
    tensor(&t, "w", 22, 3);
    raw(&t, 1);
    one("size-mismatch", &t, "three int4 in a byte");
    tensor(&t, "w", 22, 3);
    raw(&t, 2);
    one(NULL, &t, "three int4 in two bytes");
    proto_w_u64(tensor(&t, "w", 3, 1), 5, 128);
    one("value-range", &t, "int8 of 128");
    proto_w_u64(tensor(&t, "w", 9, 1), 5, 2);
    one("value-range", &t, "bool of 2");
    proto_w_u64(tensor(&t, "w", 10, 1), 5, 65536);
    one("value-range", &t, "float16 of 17 bits");
    proto_w_u64(tensor(&t, "w", 12, 1), 11, UINT64_C(1) << 32);
    one("value-range", &t, "uint32 of 33 bits");
    proto_w_u64(tensor(&t, "w", 7, 2), 7, 1);
    one("size-mismatch", &t, "one int64 of two");
    tensor(&t, "w", 7, 2);
    for (int i = 0; i < 3; i++)
        proto_w_u64(&t, 7, 1);
    one("size-mismatch", &t, "three int64 of two");
    proto_w_str(tensor(&t, "w", 1, 1), 4, STR("12345"));
    one("proto-packed", &t, "five bytes of floats");
    buf_free(&t);
}

static void refused_externals(void **state)
{
    (void)state;
    struct buf t = BUF_INIT;
    static const char *const bad[] = {"../../x", "/x", "", "..", "a/../x", "file:///x", "./x"};
    char *name = strrchr(temp, '/') + 1, data[64];
    snprintf(data, sizeof data, "%s.data", temp);
    put_file(data, "0123456789", 10);
    snprintf(data, sizeof data, "%s.data", name);
    external(tensor(&t, "w", 1, 2), data, "2", "8");
    one(NULL, &t, "control");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        external(tensor(&t, "w", 1, 2), bad[i], NULL, NULL);
        one("path-escape", &t, bad[i]);
    }
    external(tensor(&t, "w", 1, 2), "#../nnferry-no-such-file", NULL, NULL);
    one("unreadable", &t, "a file that is not there");
    external(tensor(&t, "w", 1, 2), data, "3", NULL);
    one("external-range", &t, "a byte too far");
    external(tensor(&t, "w", 1, 2), data, "18446744073709551615", NULL);
    one("external-range", &t, "offset 2^64-1");
    external(tensor(&t, "w", 1, 2), data, "1", "9");
    one("external-length", &t, "another length");
    external(tensor(&t, "w", 1, 2), data, "0x2", NULL);
    one("external-key", &t, "an offset in hex");
    external(tensor(&t, "w", 1, 2), data, "2", "8");
    raw(&t, 8);
    one("data-twice", &t, "inside and outside");
    snprintf(data, sizeof data, "%s.data", temp);
    unlink(data);
    buf_free(&t);
}

/* node{output y, attribute{name a, g: graph}} around g, in place. */
static void wrap(struct buf *g)
{
    struct buf a = BUF_INIT, n = BUF_INIT;
    proto_w_str(&a, 1, STR("a"));
    proto_w_sub(&a, 6, g);
    proto_w_str(&n, 2, STR("y"));
    proto_w_sub(&n, 5, &a);
    buf_clear(g);
    proto_w_sub(g, 1, &n);
    buf_free(&a);
    buf_free(&n);
}

static void sparse(const char *code, const int64_t *index, size_t n, int64_t dim, const char *what)
{
    struct buf v = BUF_INIT, x = BUF_INIT, s = BUF_INIT, g = BUF_INIT;
    raw(tensor(&v, "s", 1, 2), 8);
    tensor(&x, NULL, 7, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        proto_w_i64(&x, 7, index[i]);
    proto_w_sub(&s, 1, &v);
    if (n)
        proto_w_sub(&s, 2, &x);
    proto_w_i64(&s, 3, dim);
    proto_w_i64(&s, 3, 4);
    proto_w_sub(&g, 15, &s);
    put_graph(&g, 1, true);
    expect(code, what);
    buf_free(&v);
    buf_free(&x);
    buf_free(&s);
    buf_free(&g);
}

static void refused_structure(void **state)
{
    (void)state;
    struct buf t = BUF_INIT, g = BUF_INIT;
    raw(tensor(&t, "w", 1, 2), 8);
    proto_w_sub(&g, 5, &t);
    put_graph(&g, 2, true);
    expect("field-twice", "two graphs");
    put_graph(&g, 1, false);
    expect("no-opset", "no operator set");
    put_graph(&g, 0, true);
    expect("truncated", "no graph");
    proto_w_sub(&g, 5, &t);
    put_graph(&g, 1, true);
    expect("name-twice", "two of one name");
    buf_clear(&g);
    proto_w_sub(&g, 5, &t);
    for (int i = 0; i < 31; i++)
        wrap(&g);
    put_graph(&g, 1, true);
    expect(NULL, "31 graphs deep");
    for (int i = 0; i < 2000; i++)
        wrap(&g);
    put_graph(&g, 1, true);
    expect("nested-too-deep", "2031 graphs deep");
    static const int64_t good[] = {0, 11}, far[] = {0, 12}, below[] = {-1, 3}, back[] = {5, 2},
                         twice[] = {5, 5};
    sparse(NULL, good, 2, 3, "control");
    sparse("sparse-index", far, 2, 3, "an index outside");
    sparse("sparse-index", below, 2, 3, "an index below 0");
    sparse("sparse-order", back, 2, 3, "indices that fall");
    sparse("sparse-order", twice, 2, 3, "an index twice");
    sparse("sparse-shape", good, 1, 3, "one index, two values");
    sparse("sparse-part", good, 0, 3, "no indices");
    sparse("sparse-size", good, 2, INT64_C(250000000000), "10^12 elements");
    sparse("bad-shape", good, 2, -3, "a dense shape below 0");
    buf_free(&t);
    buf_free(&g);
}

/* ---- scan ---- */

struct heard {
    char codes[200];
    unsigned n_unsafe;
};

static void on_finding(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *text)
{
    struct heard *h = ctx;
    (void)offset;
    (void)text;
    h->n_unsafe += unsafe;
    snprintf(h->codes + strlen(h->codes), sizeof h->codes - strlen(h->codes), "%s ", code);
}

/* Nothing that scan tells stops it. */
static void scanned(void **state)
{
    (void)state;
    static const char *const ops[][2] = {
        {"PythonOp", "com.microsoft"}, {"Relu", "ai.onnx"}, {"EPContext", ""}};
    struct buf g = BUF_INIT, t = BUF_INIT, n = BUF_INIT, b = BUF_INIT;
    struct heard h = {{0}, 0};
    struct read_opt opt = {.scan = true, .finding = on_finding, .finding_ctx = &h};
    const struct format *found;
    struct model m;
    struct err e = {0};
    for (size_t i = 0; i < 3; i++) {
        buf_clear(&n);
        proto_w_str(&n, 4, str_from(ops[i][0]));
        proto_w_str(&n, 7, str_from(ops[i][1]));
        proto_w_sub(&g, 1, &n);
    }
    external(tensor(&t, "w", 1, 2), "../x", NULL, NULL);
    proto_w_sub(&g, 5, &t);
    raw(tensor(&t, "v", 1, 2), 8);
    proto_w_sub(&g, 5, &t);
    put_graph(&g, 1, true);
    size_t size;
    uint8_t *p = get_file(temp, &size);
    buf_bytes(&b, p, size);
    buf_clear(&n);
    proto_w_str(&n, 1, STR("F"));
    proto_w_sub(&b, 25, &n);
    put_file(temp, b.p, b.n);
    model_init(&m);
    assert_int_equal(format_open(temp, NULL, &opt, &m, &found, &e), ST_OK);
    assert_string_equal(h.codes, "python-op custom-domain ep-context function path-escape ");
    assert_int_equal(h.n_unsafe, 2);
    model_free(&m);
    free(p);
    buf_free(&g);
    buf_free(&t);
    buf_free(&n);
    buf_free(&b);
}

/* ---- writing ---- */

static void read_model(const char *path, struct model *m)
{
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    model_init(m);
    if (format_open(path, NULL, &opt, m, &found, &e) != ST_OK)
        fail_msg("%s: %s: %s", path, e.code ? e.code : "none", e.reason);
    assert_string_equal(found->name, "onnx");
}

static uint8_t **bytes_of(const struct model *m)
{
    uint8_t **data = calloc(m->n_tensors + 1, sizeof *data);
    struct err e;
    size_t n;
    assert_non_null(data);
    for (size_t i = 0; i < m->n_tensors; i++) {
        data[i] = eager_read(m, i, &n, &e);
        assert_non_null(data[i]);
    }
    return data;
}

static void same_model(const char *path, const struct model *a, uint8_t **data)
{
    struct model b;
    read_model(path, &b);
    assert_int_equal(a->n_tensors, b.n_tensors);
    uint8_t **got = bytes_of(&b);
    for (size_t i = 0; i < a->n_tensors; i++) {
        int64_t k = model_find(&b, a->tensor[i].name);
        uint64_t n;
        assert_true(k >= 0);
        assert_int_equal(a->tensor[i].dtype, b.tensor[k].dtype);
        assert_int_equal(a->tensor[i].n_dims, b.tensor[k].n_dims);
        assert_true(tensor_bytes(&a->tensor[i], &n));
        assert_memory_equal(data[i], got[k], n);
    }
    for (size_t i = 0; i < b.n_tensors; i++)
        free(got[i]);
    free(got);
    model_free(&b);
}

static bool holds(const char *path, const char *text)
{
    size_t n;
    uint8_t *p = get_file(path, &n);
    bool found = str_find_str((struct str){(const char *)p, n}, str_from(text), 0) < n;
    free(p);
    return found;
}

static void written(void **state)
{
    (void)state;
    static const char *const names[] = {"nested", "raw", "typed", "unpacked"};
    const struct format *f = format_find(STR("onnx"));
    struct write_opt opt = {0};
    struct err e = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct model m;
        char path[64];
        snprintf(path, sizeof path, "tests/golden/onnx-1.13/%s.onnx", names[i]);
        read_model(path, &m);
        uint8_t **data = bytes_of(&m);
        assert_int_equal(f->check(&m, &opt, &e), ST_OK);
        assert_int_equal(put_model(f, &m, (const uint8_t *const *)data, &opt, temp, &e), ST_OK);
        same_model(temp, &m, data);
        if (i == 0) { /* nodes, strings and metadata came along */
            assert_true(holds(temp, "ConstantOfShape"));
            assert_true(holds(temp, "\xff two"));
            assert_true(holds(temp, "made for"));
            assert_false(holds(temp, "nnferry"));
        }
        /* another shape, and the graph no longer fits: initializers alone */
        struct tensor *t = &m.tensor[0];
        uint64_t dim[VIEW_MAX_AXES + 1] = {1};
        memcpy(dim + 1, t->dim, t->n_dims * sizeof *dim);
        assert_int_equal(tensor_set_shape(&m, t, dim, t->n_dims + 1u, &e), ST_OK);
        assert_int_equal(f->check(&m, &opt, &e), ST_OK);
        assert_int_equal(put_model(f, &m, (const uint8_t *const *)data, &opt, temp, &e), ST_OK);
        same_model(temp, &m, data);
        assert_false(holds(temp, "ConstantOfShape"));
        for (size_t k = 0; k < m.n_tensors; k++)
            free(data[k]);
        free(data);
        model_free(&m);
    }
}

static void cannot(void **state)
{
    (void)state;
    const struct format *f = format_find(STR("onnx"));
    struct write_opt opt = {0};
    struct model m;
    struct tensor *t;
    struct err e;
    uint64_t dim = (uint64_t)1 << 30;
    model_init(&m);
    assert_int_equal(model_tensor_add(&m, &t, &e), ST_OK);
    t->name = STR("w");
    t->dtype = DT_C32;
    assert_int_equal(f->check(&m, &opt, &e), ST_CANNOT);
    assert_string_equal(e.code, "dtype");
    t->dtype = DT_F32;
    t->name = STR("");
    assert_int_equal(f->check(&m, &opt, &e), ST_CANNOT);
    assert_string_equal(e.code, "name");
    t->name = STR("w");
    assert_int_equal(tensor_set_shape(&m, t, &dim, 1, &e), ST_OK);
    assert_int_equal(f->check(&m, &opt, &e), ST_CANNOT);
    assert_string_equal(e.code, "too-large");
    opt.max_shard_size = (uint64_t)1 << 40;
    assert_int_equal(f->check(&m, &opt, &e), ST_OK);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),           cmocka_unit_test(truncation),
        cmocka_unit_test(refused_tensors),   cmocka_unit_test(refused_externals),
        cmocka_unit_test(refused_structure), cmocka_unit_test(written),
        cmocka_unit_test(scanned),           cmocka_unit_test(cannot),
    };
    int fd = mkstemp(temp);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(temp);
    return failed;
}
