/* Flax msgpack: goldens of Flax itself, refusals, the tree, roles, and the writer's heads. */
#include "codec/msgpack.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/unit/truncate.h"

static const char *const folders[] = {"tests/golden/flax", "tests/golden/flax-0.5"};
enum { N_FOLDERS = sizeof folders / sizeof *folders };

static void goldens(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_FOLDERS; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".msgpack", &n);
        assert_true(n >= 3);
        for (size_t i = 0; i < n; i++)
            golden_check(list[i], "msgpack");
        golden_list_free(list, n);
    }
    golden_check("tests/golden/flax-0.5/checkpoint_7", "msgpack");
}

static void truncation(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_FOLDERS; k++) {
        size_t n;
        char **list = golden_list(folders[k], ".msgpack", &n);
        for (size_t i = 0; i < n; i++)
            truncate_some(list[i], "msgpack", NULL, k ? 17 : 1);
        golden_list_free(list, n);
    }
}

static char temp[] = "/tmp/nnferry-msgpack-XXXXXX";

#define W "\x81\xa1w"

static void refused(void **state)
{
    (void)state;
#define T(code, bytes)                                                                             \
    {                                                                                              \
        code, bytes, sizeof bytes - 1                                                              \
    }
    static const struct {
        const char *code, *bytes;
        size_t n;
    } bad[] = {
        T("msgpack-count", W "\xdd\xff\xff\xff\xff"),
        T("msgpack-count", "\xdf\xff\xff\xff\xff\xa1w"),
        T("truncated", W "\xc6\xff\xff\xff\xff"),
        T("truncated", W "\xdb\xff\xff\xff\xff"),
        T("truncated", W "\xc9\xff\xff\xff\xff\x01"),
        T("msgpack-type", W "\xc1"),
        T("msgpack-key", "\x81\x01\x01"),
        T("msgpack-key", "\x81\xc4\x02nd\x01"),
        T("key-twice", "\x82\xa1w\x01\xa1w\x02"),
        T("msgpack-utf8", W "\xa1\xff"),
        T("msgpack-utf8", "\x81\xa1\xff\x01"),
        T("bad-name", "\x81\xa1\x00\x01"),
        T("flax-top", "\x93\x01\x02\x03"),
        T("msgpack-trailing", W "\x01\x00"),
        T("unknown-ext", W "\xd4\x2a\x00"),
        T("msgpack-numpy", W "\x84\xa2nd\xc3\xa4type\xa1O\xa4kind\xa1O\xa4"
                             "data\xc4\x02\x80."),
        T("gda-placeholder", W "\xd9\x1c//GDAPlaceholder:/etc/passwd"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e;
        put_file(temp, bad[i].bytes, bad[i].n);
        enum status st = open_once(temp, format_find(STR("msgpack")), &e);
        if (st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0 || !e.has_offset)
            fail_msg("case %zu, %s: status %d, code %s", i, bad[i].code, (int)st,
                     e.code ? e.code : "none");
    }
}

static void refused_arrays(void **state)
{
    (void)state;
#define A(type, code, body)                                                                        \
    {                                                                                              \
        type, code, body, sizeof body - 1                                                          \
    }
    static const struct {
        int8_t type;
        const char *code, *body;
        size_t n;
    } bad[] = {
        A(1, "", "\x93\x91\x02\xa5int16\xc4\x04\1\2\3\4"), /* the control */
        A(1, "unknown-dtype", "\x93\x91\x01\xa6object\xc4\x01\1"),
        A(1, "unknown-dtype", "\x93\x91\x01\xa2V8\xc4\x01\1"),
        A(1, "unknown-dtype", "\x93\x91\x01\xa3<f3\xc4\x01\1"),
        A(1, "size-mismatch", "\x93\x91\x02\xa5int16\xc4\x03\1\2\3"),
        A(1, "size-mismatch", "\x93\x91\x02\xa5int16\xc4\x05\1\2\3\4\5"),
        A(1, "truncated", "\x93\x91\x02\xa5int16\xc4\x04\1\2\3"),
        A(1, "shape-overflow",
          "\x93\x92\xcf\x80\0\0\0\0\0\0\0\xcf\x80\0\0\0\0\0\0\0\xa4int8\xc4\0"),
        A(1, "bad-array", "\x92\x91\x01\xa5int16"),
        A(1, "bad-array", "\x94\x91\x01\xa4int8\xc4\1\1\xc0"),
        A(1, "bad-array", "\x93\x91\xff\xa4int8\xc4\1\1"),
        A(1, "bad-array", "\x93\x01\xa4int8\xc4\1\1"),
        A(1, "bad-array",
          "\xa3"
          "abc"),
        A(1, "msgpack-trailing", "\x93\x91\x01\xa4int8\xc4\1\1\0"),
        A(3, "bad-scalar", "\x93\x91\x01\xa4int8\xc4\1\1"),
        A(3, "", "\x93\x90\xa4int8\xc4\1\1"),
        A(2, "bad-scalar", "\x91\xcb\0\0\0\0\0\0\0\0"),
        A(42, "unknown-ext", "\0"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        struct buf b = BUF_INIT;
        buf_z(&b, W);
        msgpack_w_ext_head(&b, bad[i].type, (uint32_t)bad[i].n);
        buf_bytes(&b, bad[i].body, bad[i].n);
        put_file(temp, b.p, b.n);
        buf_free(&b);
        enum status st = open_once(temp, NULL, &e);
        const char *code = st == ST_OK ? "" : e.code ? e.code : "none";
        if (strcmp(code, bad[i].code) != 0 || (st != ST_OK && !e.has_offset))
            fail_msg("case %zu, %s: status %d, code %s", i, bad[i].code, (int)st, code);
    }
}

static void put_chunked(struct buf *b, const char *const *keys, size_t n, uint64_t dim)
{
    buf_clear(b);
    buf_z(b, W "\x83\xb9__msgpack_chunked_array__\xc3\xa5shape");
    msgpack_w_map(b, 1);
    msgpack_w_str(b, STR("0"));
    msgpack_w_u64(b, dim);
    msgpack_w_str(b, STR("chunks"));
    msgpack_w_map(b, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        msgpack_w_str(b, str_from(keys[i]));
        buf_bytes(b, "\xc7\x0f\x01\x93\x91\x02\xa5int16\xc4\x04", 14);
        for (uint8_t k = 0; k < 4; k++)
            buf_u8(b, (uint8_t)(i * 4 + k));
    }
}

static void chunks(void **state)
{
    (void)state;
    static const struct {
        const char *keys[4];
        size_t n;
        uint64_t dim;
        bool good;
    } t[] = {
        {{"0", "1", "2"}, 3, 6, true},  {{"0"}, 1, 2, true},
        {{"1", "0", "2"}, 3, 6, false}, {{"0", "2"}, 2, 4, false},
        {{"0", "0"}, 2, 4, false},      {{"0", "01"}, 2, 4, false},
        {{"0", "1"}, 2, 5, false},      {{"0", "1"}, 2, 1000000, false},
        {{"0"}, 0, 0, false},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct err e = {0};
        struct buf b = BUF_INIT;
        put_chunked(&b, t[i].keys, t[i].n, t[i].dim);
        put_file(temp, b.p, b.n);
        enum status st = open_once(temp, NULL, &e);
        if ((st == ST_OK) != t[i].good)
            fail_msg("case %zu: status %d, code %s", i, (int)st, e.code ? e.code : "none");
        buf_free(&b);
    }
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *f;
    struct buf b = BUF_INIT;
    size_t n;
    put_chunked(&b, t[0].keys, 3, 6);
    put_file(temp, b.p, b.n);
    buf_free(&b);
    model_init(&m);
    assert_int_equal(format_open(temp, NULL, &opt, &m, &f, &e), ST_OK);
    assert_int_equal(m.n_tensors, 1);
    assert_int_equal(m.storage[m.tensor[0].storage].kind, STORAGE_TILED);
    uint8_t *p = eager_read(&m, 0, &n, &e);
    assert_non_null(p);
    assert_int_equal(n, 12);
    for (uint8_t k = 0; k < 12; k++)
        assert_int_equal(p[k], k);
    free(p);
    model_free(&m);
}

static void frameworks(void **state)
{
    (void)state;
    static const char *const t[][2] = {{"tests/golden/flax/nnx_pure.msgpack", "nnx"},
                                       {"tests/golden/flax/variables.msgpack", "flax"},
                                       {"tests/golden/flax/train_state.msgpack", "flax"},
                                       {"tests/golden/flax/checkpoint_3", "flax"},
                                       {"tests/golden/orbax/nnx_state", "nnx"},
                                       {"tests/golden/orbax/nnx_pure", "nnx"},
                                       {"tests/golden/orbax/standard", "flax"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct model m;
        struct err e;
        struct read_opt opt = {0};
        const struct format *found;
        model_init(&m);
        assert_int_equal(format_open(t[i][0], NULL, &opt, &m, &found, &e), ST_OK);
        assert_true(str_is(m.framework, t[i][1]));
        size_t statistics = 0;
        for (size_t k = 0; k < m.n_tensors; k++)
            statistics += m.tensor[k].role == ROLE_STATISTIC;
        if (str_is(m.framework, "nnx")) /* which has no collection to tell by */
            assert_int_equal(statistics, 2);
        model_free(&m);
    }
    golden_check("tests/golden/flax/checkpoint_3", "msgpack");
}

/* Values are free as long as they take room in the file, too. */
static void many(void **state)
{
    (void)state;
    struct err e;
    for (int dense = 0; dense < 2; dense++) {
        struct buf b = BUF_INIT;
        buf_u8(&b, 0x82);
        msgpack_w_str(&b, STR("params"));
        msgpack_w_map(&b, 140000);
        for (int i = 0; i < 140000; i++) {
            char key[16];
            snprintf(key, sizeof key, "k%d", i);
            msgpack_w_str(&b, str_from(key));
            if (dense)
                msgpack_w_nil(&b);
            else
                buf_bytes(&b, "\xc7\x0f\x01\x93\x91\x02\xa5int16\xc4\x04\1\2\3\4", 18);
        }
        msgpack_w_str(&b, STR("step"));
        msgpack_w_u64(&b, 3);
        put_file(temp, b.p, b.n);
        buf_free(&b);
        assert_int_equal(open_once(temp, NULL, &e), dense ? ST_INPUT : ST_OK);
        if (dense)
            assert_string_equal(e.code, "too-many-nodes");
    }
}

static void depth(void **state)
{
    (void)state;
    struct err e;
    size_t n = 100003;
    uint8_t *p = malloc(n);
    assert_non_null(p);
    memset(p, 0x91, n);
    memcpy(p, W, 3);
    put_file(temp, p, n);
    assert_int_equal(open_once(temp, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "msgpack-depth");
    /* arrays that each fit alone, but count the same bytes */
    for (size_t i = 3; i + 3 <= 3003; i += 3)
        memcpy(p + i, "\xdc\x0b\xb8", 3);
    put_file(temp, p, 6003);
    assert_int_equal(open_once(temp, NULL, &e), ST_INPUT);
    assert_string_equal(e.code, "msgpack-count");
    free(p);
}

static void roles_of(const char *path, size_t want, size_t want_counters)
{
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *f;
    size_t moments = 0, counters = 0;
    model_init(&m);
    assert_int_equal(format_open(path, NULL, &opt, &m, &f, &e), ST_OK);
    for (size_t i = 0; i < m.n_tensors; i++) {
        const struct tensor *t = &m.tensor[i];
        counters += t->role == ROLE_COUNTER;
        if (t->role != ROLE_MOMENT1 && t->role != ROLE_MOMENT2)
            continue;
        moments++;
        assert_true(t->of >= 0);
        assert_int_equal(m.tensor[t->of].role, ROLE_PARAMETER);
        assert_int_equal(m.tensor[t->of].n_dims, t->n_dims);
    }
    assert_int_equal(moments, want);
    assert_int_equal(counters, want_counters);
    model_free(&m);
}

static void roles(void **state)
{
    (void)state;
    roles_of("tests/golden/flax/train_state.msgpack", 12, 1);
    roles_of("tests/golden/flax-0.5/optimizer.msgpack", 12, 1);
}

/* The tree keeps what is no array. */
static void scalars(void **state)
{
    (void)state;
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *f;
    model_init(&m);
    assert_int_equal(format_open("tests/golden/flax/tree.msgpack", NULL, &opt, &m, &f, &e), ST_OK);
    const struct node *s = node_get(m.tree, STR("scalars"));
    assert_int_equal(node_get(s, STR("int"))->i, 7);
    assert_int_equal(node_get(s, STR("negative"))->i, -70000);
    assert_true(str_is(node_get(s, STR("big"))->text, "9223372036854775808"));
    assert_true(node_get(s, STR("float"))->bits[0] == 0x3fb999999999999a);
    assert_int_equal(node_get(s, STR("true"))->i, 1);
    assert_int_equal(node_get(s, STR("none"))->kind, NODE_NIL);
    assert_int_equal(node_get(s, STR("complex"))->kind, NODE_COMPLEX);
    assert_true(str_is(node_get(s, STR("text"))->text, "caf\xc3\xa9"));
    assert_int_equal(node_get(m.tree, STR("empty"))->n_children, 0);
    model_free(&m);
}

/* Bytes stay bytes, in the tree and in what is written from it. */
static void bytes(void **state)
{
    (void)state;
    static const char text[] = "\x82\xa1k\xc4\x03\x00\xff\x01\xa1w\xc7\x11\x01\x93\x91\x01\xa7"
                               "float32\xc4\x04\x00\x00\x80?";
    struct model m;
    struct err e = {0};
    struct read_opt opt = {0};
    const struct format *f;
    model_init(&m);
    put_file(temp, text, sizeof text - 1);
    assert_int_equal(format_open(temp, format_find(STR("msgpack")), &opt, &m, &f, &e), ST_OK);
    const struct node *k = node_get(m.tree, STR("k"));
    assert_int_equal(k->kind, NODE_BYTES);
    assert_true(k->text.n == 3 && memcmp(k->text.p, "\0\xff\1", 3) == 0);
    model_free(&m);
}

/* Every head and value comes back, in its shortest form. */
static void writer(void **state)
{
    (void)state;
    static const uint64_t edge[] = {
        0,        31,     32,     127,   128,      255,        256,
        0x7fff,   0x8000, 0xffff, 65536, 1u << 31, UINT32_MAX, UINT64_C(1) << 32,
        INT64_MAX};
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < sizeof edge / sizeof *edge; i++)
        for (int sign = 0; sign < 2; sign++) {
            struct cursor c;
            struct msgpack r;
            struct err e;
            buf_clear(&b);
            msgpack_w_i64(&b, sign ? -1 - (int64_t)edge[i] : (int64_t)edge[i]);
            cur_mem(&c, b.p, b.n, "text", 0);
            msgpack_init(&r, &c, b.n);
            assert_int_equal(msgpack_next(&r, &e), ST_OK);
            if (sign) {
                assert_int_equal(r.kind, MSGPACK_INT);
                assert_true(r.i == -1 - (int64_t)edge[i]);
            } else {
                assert_int_equal(r.kind, MSGPACK_UINT);
                assert_true(r.u == edge[i]);
            }
            assert_int_equal(msgpack_next(&r, &e), ST_OK);
            assert_int_equal(r.kind, MSGPACK_DONE);
            assert_int_equal(msgpack_finish(&r, &e), ST_OK);
            cur_close(&c);
        }
    buf_clear(&b);
    msgpack_w_ext_head(&b, 1, 1);
    msgpack_w_ext_head(&b, 1, 3);
    msgpack_w_ext_head(&b, 1, 16);
    msgpack_w_ext_head(&b, 1, 256);
    msgpack_w_bin_head(&b, 256);
    msgpack_w_map(&b, 15);
    msgpack_w_map(&b, 16);
    msgpack_w_array(&b, 65536);
    static const uint8_t want[] = {0xd4, 1, 0xc7, 3,    1, 0xd8, 1,    0xc8, 1, 0, 1, 0xc5,
                                   1,    0, 0x8f, 0xde, 0, 16,   0xdd, 0,    1, 0, 0};
    assert_int_equal(b.n, sizeof want);
    assert_memory_equal(b.p, want, sizeof want);
    buf_free(&b);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(temp);
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
        cmocka_unit_test(goldens), cmocka_unit_test(truncation),
        cmocka_unit_test(refused), cmocka_unit_test(refused_arrays),
        cmocka_unit_test(chunks),  cmocka_unit_test(frameworks),
        cmocka_unit_test(many),    cmocka_unit_test(depth),
        cmocka_unit_test(roles),   cmocka_unit_test(scalars),
        cmocka_unit_test(bytes),   cmocka_unit_test(writer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
