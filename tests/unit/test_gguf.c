/* GGUF: goldens of the gguf package, every truncation, refusals by name, key-values that come
 * through bit for bit, the writer's bytes.
 */
#include "base/mem.h"
#include "codec/gguf.h"
#include "convert/run.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/unit/truncate.h"

#define GOLDEN "tests/golden/gguf/"

static char temp[] = "/tmp/nnferry-gguf-XXXXXX";
static const char *const files[] = {GOLDEN "types.gguf",
                                    GOLDEN "shapes.gguf",
                                    GOLDEN "v2.gguf",
                                    GOLDEN "big.gguf",
                                    GOLDEN "aligned.gguf",
                                    GOLDEN "packed.gguf",
                                    "tests/golden/gguf-0.3/llama.gguf"};

static void open_model(const char *path, struct model *m)
{
    struct read_opt opt = {0};
    const struct format *found;
    struct err e;
    model_init(m);
    if (format_open(path, NULL, &opt, m, &found, &e) != ST_OK)
        fail_msg("%s: %s", path, e.reason);
}

static void goldens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        golden_check(files[i], "gguf");
    golden_check(GOLDEN "parts", "gguf");
}

/* Only the padding behind the last tensor may be missing. */
static uint64_t last_byte;
static bool may_pass(const uint8_t *p, size_t n)
{
    (void)p;
    return n >= last_byte;
}

static void truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct model m;
        open_model(files[i], &m);
        last_byte = 0;
        for (size_t k = 0; k < m.n_storages; k++)
            if (m.storage[k].offset + m.storage[k].stored_bytes > last_byte)
                last_byte = m.storage[k].offset + m.storage[k].stored_bytes;
        model_free(&m);
        assert_true(last_byte > 0);
        truncate_every(files[i], "gguf", may_pass);
    }
}

/* ---- files by hand ---- */

static struct buf b;

static void head(uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    buf_clear(&b);
    buf_z(&b, "GGUF");
    buf_u32(&b, version);
    buf_u64(&b, n_tensors);
    buf_u64(&b, n_keys);
}

static void text(const char *z)
{
    gguf_w_string(&b, str_from(z));
}

static void key(const char *name, uint32_t type)
{
    text(name);
    buf_u32(&b, type);
}

static void entry(const char *name, uint32_t type, uint64_t rows, uint64_t cols, uint64_t offset)
{
    struct gguf_entry t = {
        .name = str_from(name), .n_dims = 2, .type = type, .dim = {cols, rows}, .offset = offset};
    gguf_w_entry(&b, &t);
}

static void data(size_t align, size_t n)
{
    buf_fill(&b, 0, (align - b.n % align) % align);
    buf_fill(&b, 1, n);
}

static void expect(const char *code, const char *what)
{
    struct err e;
    put_file(temp, b.p, b.n);
    enum status st = open_once(temp, NULL, &e);
    if (!code && st != ST_OK)
        fail_msg("%s: refused: %s: %s", what, e.code ? e.code : "none", e.reason);
    if (code && (st != ST_INPUT || !e.code || strcmp(e.code, code) != 0 || !e.has_offset))
        fail_msg("%s: status %d, code %s, expected %s", what, (int)st, e.code ? e.code : "none",
                 code);
}

/* One float32 tensor of 2 x 3 behind the keys. */
static void rest(void)
{
    entry("w", 0, 2, 3, 0);
    data(32, 24);
}

static void versions(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        const char *code;
    } v[] = {
        {2, NULL},          {3, NULL},          {1, "version-1"},        {0x01000000, "version-1"},
        {0, "bad-version"}, {4, "bad-version"}, {0x10003, "bad-version"}};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        head(v[i].version, 1, 0);
        rest();
        expect(v[i].code, "version");
    }
    head(0x03000000, 1, 0); /* big-endian said, little-endian counts */
    rest();
    expect("too-many-tensors", "swapped version");
    head(3, UINT64_C(1) << 63, 0);
    rest();
    expect("too-many-tensors", "2^63 tensors");
    head(3, 1, 1000000000);
    rest();
    expect("too-many-keys", "10^9 keys");
    buf_clear(&b);
    buf_z(&b, "GGUF");
    expect("truncated", "the magic alone");
}

static void keys(void **state)
{
    (void)state;
    head(3, 1, 2);
    key("a", GGUF_BOOL);
    buf_u8(&b, 1);
    key("a", GGUF_U8);
    buf_u8(&b, 1);
    rest();
    expect("key-twice", "a key twice");
    static const struct {
        uint32_t type, value;
        const char *code;
    } align[] = {{GGUF_U32, 32, NULL},
                 {GGUF_U32, 1, NULL},
                 {GGUF_U32, 0, "bad-alignment"},
                 {GGUF_U32, 3, "bad-alignment"},
                 {GGUF_U32, 0x80000000, "bad-alignment"},
                 {GGUF_I32, 32, "bad-alignment"}};
    for (size_t i = 0; i < sizeof align / sizeof *align; i++) {
        head(3, 1, 1);
        key("general.alignment", align[i].type);
        buf_u32(&b, align[i].value);
        entry("w", 0, 2, 3, 0);
        data(align[i].value == 1 ? 1 : 32, 24);
        expect(align[i].code, "alignment");
    }
    head(3, 1, 1);
    key("general.alignment", GGUF_STRING);
    text("32");
    rest();
    expect("bad-alignment", "alignment as a text");
    for (uint32_t bad = 13; bad < 100; bad += 43) {
        head(3, 1, 1);
        key("k", bad);
        buf_u64(&b, 0);
        rest();
        expect("bad-type", "type of a value");
        head(3, 1, 1);
        key("k", GGUF_ARRAY);
        buf_u32(&b, bad);
        buf_u64(&b, 1);
        buf_u64(&b, 0);
        rest();
        expect("bad-type", "type of elements");
    }
    head(3, 1, 1);
    key("k", GGUF_ARRAY);
    for (int i = 0; i < 10000; i++) {
        buf_u32(&b, GGUF_ARRAY);
        buf_u64(&b, 1);
    }
    rest();
    expect("nested-array", "arrays in arrays");
    for (uint32_t t = 0; t < GGUF_TYPES; t++) {
        head(3, 1, 1);
        key("k", t);
        if (t == GGUF_ARRAY)
            buf_u32(&b, GGUF_STRING);
        buf_u64(&b, (uint64_t)1 << 30);
        if (gguf_type_bytes(t)) /* a number: nothing to be long */
            continue;
        rest();
        expect("truncated", "a length beyond the file");
    }
    head(3, 1, 1);
    key("k", GGUF_ARRAY);
    buf_u32(&b, GGUF_F64);
    buf_u64(&b, UINT64_C(1) << 61); /* wraps when multiplied */
    rest();
    expect("truncated", "an array of 2^61");
    head(3, 1, 1);
    key("", GGUF_U8);
    buf_u8(&b, 0);
    rest();
    expect("bad-key", "a key without a letter");
    head(3, 1, 1);
    key("\xff", GGUF_U8);
    buf_u8(&b, 0);
    rest();
    expect("bad-key", "a key that is no UTF-8");
    head(3, 1, 3);
    key("split.no", GGUF_U16);
    buf_u16(&b, 0);
    key("split.count", GGUF_U16);
    buf_u16(&b, 65535);
    key("split.tensors.count", GGUF_I32);
    buf_u32(&b, 1);
    rest();
    expect("bad-split", "a part whose name does not say so");
}

static void tensors(void **state)
{
    (void)state;
    static const uint32_t dims[] = {0, 5, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        head(3, 1, 0);
        text("w");
        buf_u32(&b, dims[i]);
        buf_fill(&b, 1, 64);
        expect("bad-dims", "number of dimensions");
    }
    static const struct {
        uint32_t type;
        uint64_t rows, cols, offset;
        size_t data;
        const char *code;
    } t[] = {{0, 2, 3, 0, 24, NULL},
             {0, 2, 3, 0, 23, "out-of-bounds"},
             {0, 0, 3, 0, 24, "bad-dims"},
             {0, 2, 0, 0, 24, "bad-dims"},
             {0, 2, (UINT64_C(1) << 63) + 500, 0, 24, "shape-overflow"},
             {0, UINT64_C(1) << 30, UINT64_C(1) << 28, 0, 24, "out-of-bounds"},
             {28, UINT64_C(1) << 31, UINT64_C(1) << 30, 0, 24, "shape-overflow"},
             {4, 2, 3, 0, 24, "unknown-type"},
             {5, 2, 3, 0, 24, "unknown-type"},
             {36, 2, 3, 0, 24, "unknown-type"},
             {999, 2, 3, 0, 24, "unknown-type"},
             {2, 2, 3, 0, 24, "part-block"},
             {2, 2, 48, 0, 54, "part-block"},
             {2, 2, 32, 0, 36, NULL},
             {2, 2, 32, 0, 35, "out-of-bounds"},
             {0, 2, 3, 4, 64, "unaligned"},
             {0, 2, 3, 32, 64, "hole"},
             {0, 2, 3, UINT64_C(1) << 32, 64, "hole"},
             {0, 2, 3, 0, 100, NULL} /* bytes behind: a warning */};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char what[32];
        snprintf(what, sizeof what, "tensor case %zu", i);
        head(3, 1, 0);
        entry("w", t[i].type, t[i].rows, t[i].cols, t[i].offset);
        data(32, t[i].data);
        expect(t[i].code, what);
    }
    static const struct {
        uint64_t at;
        const char *code;
    } second[] = {{32, NULL}, {0, "overlap"}, {64, "hole"}, {24, "unaligned"}, {33, "unaligned"}};
    for (size_t i = 0; i < 5; i++) {
        head(3, 2, 0);
        entry("a", 0, 2, 3, 0);
        entry("b", 0, 2, 3, second[i].at);
        data(32, 128);
        expect(second[i].code, "second tensor");
    }
    head(3, 2, 0);
    entry("w", 0, 2, 3, 0);
    entry("w", 0, 2, 3, 32);
    data(32, 56);
    expect("name-twice", "a name twice");
    head(3, 1, 0);
    entry("w\xc3", 0, 2, 3, 0);
    data(32, 24);
    expect("bad-name", "a name that is no UTF-8");
    head(3, 1, 0);
    entry("0123456789012345678901234567890123456789012345678901234567890123456789", 0, 2, 3, 0);
    data(32, 24);
    expect(NULL, "a name of 70 bytes"); /* a warning */
}

/* ---- writing ---- */

static void write_model(const char *from, const char *to)
{
    struct model m;
    struct err e;
    open_model(from, &m);
    uint8_t **bytes = calloc(m.n_tensors + 1, sizeof *bytes);
    for (size_t i = 0; i < m.n_tensors; i++) {
        size_t n;
        bytes[i] = eager_read(&m, i, &n, &e);
        assert_non_null(bytes[i]);
    }
    struct write_opt wo = {0};
    if (put_model(format_find(STR("gguf")), &m, (const uint8_t *const *)bytes, &wo, to, &e) !=
        ST_OK)
        fail_msg("%s: %s", from, e.reason);
    for (size_t i = 0; i < m.n_tensors; i++)
        free(bytes[i]);
    free(bytes);
    model_free(&m);
}

static void same_files(const char *x, const char *y, size_t skip)
{
    size_t n, k;
    uint8_t *p = get_file(x, &n), *q = get_file(y, &k);
    assert_int_equal(n, k);
    assert_memory_equal(p + skip, q + skip, n - skip);
    free(p);
    free(q);
}

/* What the package wrote comes out as it was, key-values and all. */
static void rewritten(void **state)
{
    (void)state;
    write_model(GOLDEN "types.gguf", temp);
    same_files(GOLDEN "types.gguf", temp, 0);
    write_model(GOLDEN "shapes.gguf", temp);
    same_files(GOLDEN "shapes.gguf", temp, 0);
    write_model(GOLDEN "aligned.gguf", temp);
    same_files(GOLDEN "aligned.gguf", temp, 0);
    write_model(GOLDEN "v2.gguf", temp);
    same_files(GOLDEN "shapes.gguf", temp, 0);
    /* from big-endian: the pairs of the little-endian twin */
    char again[] = "/tmp/nnferry-gguf-XXXXXX";
    int fd = mkstemp(again);
    assert_true(fd >= 0);
    close(fd);
    write_model(GOLDEN "big.gguf", temp);
    write_model(temp, again);
    same_files(temp, again, 0);
    struct model x, y;
    open_model(GOLDEN "big.gguf", &x);
    open_model(temp, &y);
    assert_int_equal(x.n_tensors, y.n_tensors);
    assert_int_equal(x.n_meta, y.n_meta);
    for (size_t i = 0; i < x.n_meta; i++)
        assert_true(str_eq(x.meta[i].value, y.meta[i].value));
    for (size_t i = 0; i < x.n_tensors; i++) {
        struct err e;
        size_t n, k;
        uint8_t *p = eager_read(&x, i, &n, &e), *q = eager_read(&y, i, &k, &e);
        assert_int_equal(n, k);
        assert_memory_equal(p, q, n);
        free(p);
        free(q);
    }
    model_free(&x);
    model_free(&y);
    unlink(again);
}

static void cannot(void **state)
{
    (void)state;
    static const struct {
        const char *name, *code;
        enum dtype dtype;
        size_t n_dims;
        uint64_t dim[5];
    } t[] = {{"w", NULL, DT_F32, 1, {4}},
             {"w", "dims", DT_F32, 0, {0}},
             {"w", "dims", DT_F32, 5, {1, 1, 1, 1, 1}},
             {"w", "dims", DT_F32, 2, {3, 0}},
             {"w", "dtype", DT_U8, 1, {4}},
             {"w", "dtype", DT_C64, 1, {4}},
             {"w", "dtype", DT_F8_E4M3FN, 1, {4}},
             {"0123456789012345678901234567890123456789012345678901234567890123",
              "name",
              DT_F32,
              1,
              {4}}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct model m;
        struct tensor *x;
        struct err e = {0};
        struct write_opt wo = {0};
        model_init(&m);
        assert_int_equal(model_tensor_add(&m, &x, &e), ST_OK);
        x->name = str_from(t[i].name);
        x->dtype = t[i].dtype;
        assert_int_equal(tensor_set_shape(&m, x, t[i].dim, t[i].n_dims, &e), ST_OK);
        enum status st = format_find(STR("gguf"))->check(&m, &wo, &e);
        assert_int_equal(st, t[i].code ? ST_CANNOT : ST_OK);
        if (t[i].code)
            assert_string_equal(e.code, t[i].code);
        model_free(&m);
    }
}

/* Pairs that came along as a file are foreign bytes. */
static void attached(void **state)
{
    (void)state;
    struct model m;
    struct attachment *a;
    struct err e = {0};
    struct write_opt wo = {0};
    model_init(&m);
    assert_int_equal(model_attach(&m, &a, &e), ST_OK);
    a->name = STR("gguf.kv");
    buf_clear(&b);
    gguf_w_kv_string(&b, STR("general.architecture"), STR("x"));
    for (size_t n = b.n; n > 0; n--) {
        a->mem = b.p;
        a->n_bytes = n;
        enum status st = format_find(STR("gguf"))->check(&m, &wo, &e);
        assert_int_equal(st, n == b.n ? ST_OK : ST_INPUT);
    }
    model_free(&m);
}

/* ---- scan ---- */

static unsigned n_notes, n_unsafe;
static const char *last_code;
static void finding(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *said)
{
    (void)ctx;
    assert_true(offset > 24 && said[0] != 0);
    *(unsafe ? &n_unsafe : &n_notes) += 1;
    last_code = code;
}

static void templates(void **state)
{
    (void)state;
    static char large[(1 << 20) + 2];
    memset(large, 'x', sizeof large - 1);
    const struct {
        const char *key, *text, *code;
    } t[] = {{"general.name", "{{ x.__class__ }}", NULL},
             {"tokenizer.chat_template", "{% for m in messages %}{{ m }}{% endfor %}", ""},
             {"tokenizer.chat_template.tool", "{{ x.__globals__ }}", "template-escape"},
             {"tokenizer.chat_template", "{{ x|attr('a') }}", "template-escape"},
             {"tokenizer.chat_template", large, "template-size"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct model m;
        struct err e;
        struct read_opt opt = {.scan = true, .finding = finding};
        const struct format *found;
        head(3, 1, 1);
        key(t[i].key, GGUF_STRING);
        text(t[i].text);
        rest();
        put_file(temp, b.p, b.n);
        n_notes = n_unsafe = 0;
        model_init(&m);
        assert_int_equal(format_open(temp, NULL, &opt, &m, &found, &e), ST_OK);
        model_free(&m);
        assert_int_equal(n_notes, t[i].code != NULL);
        assert_int_equal(n_unsafe, t[i].code && t[i].code[0]);
        if (n_unsafe)
            assert_string_equal(last_code, t[i].code);
    }
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(temp);
    return fd < 0 ? 1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    buf_free(&b);
    return unlink(temp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens), cmocka_unit_test(truncation), cmocka_unit_test(versions),
        cmocka_unit_test(keys),    cmocka_unit_test(tensors),    cmocka_unit_test(rewritten),
        cmocka_unit_test(cannot),  cmocka_unit_test(templates),  cmocka_unit_test(attached),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
