/* TFLite: goldens of TensorFlow's converter, truncation, refusals by name. */
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

/* the schema of 2.12 knows no buffers outside of the FlatBuffer, and fewer types */
static const char *const folders[] = {"tests/golden/tflite", "tests/golden/tflite-2.12"};

static void goldens(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".tflite", &n);
        assert_true(n >= 3);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], "tflite");
        golden_list_free(list, n);
    }
}

/* A FlatBuffer does not say how long it is: what no weight needs may be cut off. */
static size_t whole;
static bool may_pass(const uint8_t *p, size_t n)
{
    (void)p;
    return n + 48 > whole; /* padding, mostly */
}

static void truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".tflite", &n);
        for (size_t i = 0; i < n; i++) {
            free(get_file(list[i], &whole));
            truncate_some(list[i], "tflite", may_pass, k ? 17 : 1);
        }
        golden_list_free(list, n);
    }
}

/* ---- a small builder: tables laid one behind the other, references forward ---- */

static char temp[] = "/tmp/nnferry-tflite-XXXXXX";

struct made {
    uint8_t p[4096];
    uint32_t n;
};

static uint32_t put(struct made *b, uint64_t v, unsigned bytes)
{
    uint32_t at = b->n;
    for (unsigned i = 0; i < bytes; i++)
        b->p[b->n++] = (uint8_t)(v >> 8 * i);
    return at;
}

static void poke(struct made *b, uint32_t at, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        b->p[at + i] = (uint8_t)(v >> 8 * i);
}

/* Makes the reference at `at` lead to the end of what there is. */
static void here(struct made *b, uint32_t at)
{
    poke(b, at, b->n - at, 4);
}

/* A table of n fields of 8 bytes each; gives where field 0 is. */
static uint32_t table(struct made *b, unsigned n)
{
    uint32_t vtable = put(b, 4 + 2 * n, 2);
    put(b, 4 + 8 * n, 2);
    for (unsigned i = 0; i < n; i++)
        put(b, 0, 2);
    uint32_t at = put(b, b->n - vtable, 4);
    for (unsigned i = 0; i < n; i++)
        put(b, 0, 8);
    return at + 4;
}

/* Field i of the table is there. */
static uint32_t field(struct made *b, uint32_t t, unsigned n, unsigned i)
{
    poke(b, t - 4 - 2 * (n - i), 4 + 8 * i, 2);
    return t + 8 * i;
}

struct model_at {
    uint32_t version, buffers, subgraphs, tensor_shape, tensor_type, tensor_buffer, tensor_name,
        sparsity, data, offset, size, tensors, external, root, buffer_table, tensor_table;
};

enum { N_MODEL = 10, N_TENSOR = 11, N_BUFFER = 3 };

/* One float32 tensor [2] named "w" in buffer 1. */
static struct model_at build(struct made *b)
{
    struct model_at m = {0};
    memset(b, 0, sizeof *b);
    put(b, 0, 4);
    memcpy(b->p + b->n, "TFL3", 4);
    b->n += 4;
    uint32_t t;
    /* tables stand behind their layouts, so the reference is set when the table's place is known */
    t = table(b, N_MODEL);
    m.root = t - 4;
    poke(b, 0, t - 4, 4);
    m.version = field(b, t, N_MODEL, 0);
    poke(b, m.version, 3, 4);
    m.subgraphs = field(b, t, N_MODEL, 2);
    m.buffers = field(b, t, N_MODEL, 4);
    here(b, m.buffers);
    put(b, 2, 4);
    uint32_t empty = put(b, 0, 4), full = put(b, 0, 4);
    uint32_t e = table(b, N_BUFFER);
    poke(b, empty, e - 4 - empty, 4);
    uint32_t f = table(b, N_BUFFER);
    m.buffer_table = f;
    poke(b, full, f - 4 - full, 4);
    m.data = field(b, f, N_BUFFER, 0);
    here(b, m.data);
    put(b, 8, 4);
    put(b, 0x3f80000040000000u, 8);
    here(b, m.subgraphs);
    put(b, 1, 4);
    uint32_t graph = put(b, 0, 4), g = table(b, 1);
    poke(b, graph, g - 4 - graph, 4);
    m.tensors = field(b, g, 1, 0);
    here(b, m.tensors);
    put(b, 1, 4);
    uint32_t tensor = put(b, 0, 4), w = table(b, N_TENSOR);
    m.tensor_table = w;
    poke(b, tensor, w - 4 - tensor, 4);
    m.tensor_type = field(b, w, N_TENSOR, 1);
    m.tensor_buffer = field(b, w, N_TENSOR, 2);
    poke(b, m.tensor_buffer, 1, 4);
    m.tensor_shape = field(b, w, N_TENSOR, 0);
    here(b, m.tensor_shape);
    put(b, 1, 4);
    put(b, 2, 4);
    m.tensor_name = field(b, w, N_TENSOR, 3);
    here(b, m.tensor_name);
    put(b, 1, 4);
    put(b, 'w', 1);
    put(b, 0, 1);
    put(b, 0, 6);
    return m;
}

static void expect(const struct made *b, const char *code, const char *what)
{
    struct err e;
    put_file(temp, b->p, b->n);
    enum status st = open_once(temp, format_find(STR("tflite")), &e);
    if (!code && st != ST_OK)
        fail_msg("%s: code %s: %s", what, e.code ? e.code : "none", e.reason);
    if (code && (st != ST_INPUT || !e.code || strcmp(e.code, code) != 0 || !e.has_offset))
        fail_msg("%s: status %d, code %s, expected %s", what, (int)st, e.code ? e.code : "none",
                 code);
}

#define BREAK(code, what, change)                                                                  \
    do {                                                                                           \
        struct model_at m = build(&b);                                                             \
        change;                                                                                    \
        (void)m;                                                                                   \
        expect(&b, code, what);                                                                    \
    } while (0)

static void refused(void **state)
{
    (void)state;
    static struct made b;
    BREAK(NULL, "control", (void)0);
    BREAK("tflite-version", "version 2", poke(&b, m.version, 2, 4));
    BREAK("tflite-version", "another identifier", poke(&b, 4, 0x33464c55, 4));
    BREAK("flat-offset", "the root behind the end", poke(&b, 0, 0x7fffffff, 4));
    BREAK("flat-offset", "a reference of 0", poke(&b, m.buffers, 0, 4));
    BREAK("flat-offset", "a layout before the file", poke(&b, m.root, 0x7fffffff, 4));
    BREAK("flat-offset", "a layout behind the file", poke(&b, m.root, 0x80000000, 4));
    BREAK("flat-table", "a table longer than the file",
          poke(&b, m.root - 2 * N_MODEL - 2, 65535, 2));
    BREAK("flat-table", "a layout of an odd length", poke(&b, m.root - 2 * N_MODEL - 4, 5, 2));
    BREAK("flat-table", "a layout of 2 bytes", poke(&b, m.root - 2 * N_MODEL - 4, 2, 2));
    BREAK("flat-table", "a field outside its table",
          poke(&b, m.root - 2 * N_MODEL, 4 + 8 * N_MODEL, 2));
    BREAK("flat-vector", "2^32-1 tensors", poke(&b, m.tensors + b.p[m.tensors], 0xffffffff, 4));
    BREAK("flat-string", "a name behind the end",
          poke(&b, m.tensor_name + b.p[m.tensor_name], 0x7fffffff, 4));
    BREAK("flat-string", "a name without a NUL", poke(&b, b.n - 7, 'x', 1));
    BREAK("tflite-buffer", "buffer 2 of 2", poke(&b, m.tensor_buffer, 2, 4));
    BREAK("unknown-dtype", "type 99", poke(&b, m.tensor_type, 99, 1));
    BREAK("unknown-dtype", "a resource", poke(&b, m.tensor_type, 13, 1));
    BREAK("size-mismatch", "float64 in 8 bytes", poke(&b, m.tensor_type, 10, 1));
    BREAK("bad-shape", "a dimension below 0",
          poke(&b, m.tensor_shape + b.p[m.tensor_shape] + 4, 0xffffffff, 4));
    BREAK("tflite-buffer", "inside and outside",
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 1), 8, 8);
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 2), 8, 8));
    BREAK("tflite-buffer", "outside behind the end",
          poke(&b, m.buffer_table - 4 - 2 * N_BUFFER, 0, 2);
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 1), UINT64_MAX - 3, 8);
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 2), 8, 8));
    BREAK(NULL, "outside", poke(&b, m.buffer_table - 4 - 2 * N_BUFFER, 0, 2);
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 1), 8, 8);
          poke(&b, field(&b, m.buffer_table, N_BUFFER, 2), 8, 8));
    BREAK("tflite-sparse", "sparsity", {
        uint32_t at = field(&b, m.tensor_table, N_TENSOR, 6);
        uint32_t t = table(&b, 1);
        poke(&b, at, t - 4 - at, 4);
    });
    BREAK("tflite-external-buffer", "a tensor in another file", {
        uint32_t at = field(&b, m.root + 4, N_MODEL, 9);
        here(&b, at);
        put(&b, 1, 4);
        put(&b, 0, 4);
        poke(&b, field(&b, m.tensor_table, N_TENSOR, 10), 1, 4);
    });
}

/* Tables may be shared: a vector of a million references to one empty graph. */
static void shared_tables(void **state)
{
    (void)state;
    static struct made b;
    struct buf big = BUF_INIT;
    struct err e;
    uint32_t n = 1100000;
    struct model_at m = build(&b);
    here(&b, m.subgraphs);
    put(&b, n, 4);
    buf_bytes(&big, b.p, b.n);
    for (uint32_t i = 0; i < n; i++)
        buf_u32(&big, 4 * (n - i) + 4);
    buf_u16(&big, 4);
    buf_u16(&big, 4);
    buf_u32(&big, 4);
    put_file(temp, big.p, big.n);
    buf_free(&big);
    assert_int_equal(open_once(temp, format_find(STR("tflite")), &e), ST_INPUT);
    assert_string_equal(e.code, "too-many-tensors");
}

static void names(void **state)
{
    (void)state;
    static struct made b;
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    struct err e = {0};
    struct model_at at = build(&b);
    poke(&b, at.tensor_name + b.p[at.tensor_name], 0, 4); /* "" */
    poke(&b, at.tensor_name + b.p[at.tensor_name] + 4, 0, 1);
    put_file(temp, b.p, b.n);
    model_init(&m);
    assert_int_equal(format_open(temp, NULL, &opt, &m, &found, &e), ST_OK);
    assert_int_equal(m.n_tensors, 1);
    assert_true(str_is(m.tensor[0].name, "tensor_0"));
    model_free(&m);
}

struct heard {
    char codes[100];
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

static void scanned(void **state)
{
    (void)state;
    static const char *const ops[] = {"", "MyOp", "FlexPyFunc"};
    static struct made b;
    struct heard h = {{0}, 0};
    struct read_opt opt = {.scan = true, .finding = on_finding, .finding_ctx = &h};
    const struct format *found;
    struct model m;
    struct err e = {0};
    struct model_at at = build(&b);
    uint32_t codes = field(&b, at.root + 4, N_MODEL, 1), place[3];
    here(&b, codes);
    put(&b, 3, 4);
    for (size_t i = 0; i < 3; i++)
        place[i] = put(&b, 0, 4);
    for (size_t i = 0; i < 3; i++) {
        uint32_t t = table(&b, 2), name = field(&b, t, 2, 1);
        poke(&b, place[i], t - 4 - place[i], 4);
        here(&b, name);
        put(&b, strlen(ops[i]), 4);
        for (const char *p = ops[i]; *p; p++)
            put(&b, (uint8_t)*p, 1);
        put(&b, 0, 1);
    }
    put_file(temp, b.p, b.n);
    model_init(&m);
    assert_int_equal(format_open(temp, NULL, &opt, &m, &found, &e), ST_OK);
    assert_string_equal(h.codes, "custom-op code-op ");
    assert_int_equal(h.n_unsafe, 1);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),       cmocka_unit_test(truncation), cmocka_unit_test(refused),
        cmocka_unit_test(shared_tables), cmocka_unit_test(names),      cmocka_unit_test(scanned),
    };
    int fd = mkstemp(temp);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(temp);
    return failed;
}
