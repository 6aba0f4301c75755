/* TensorFlow: goldens of TensorFlow itself, truncations, refusals by name, the other byte order,
 * ordered code, tensor protos, the writer's bytes, the object graph carried. */
#include "codec/crc.h"
#include "codec/sstable.h"
#include "format/tf.h"
#include "tests/lib/eager.h"
#include "tests/lib/golden.h"
#include "tests/lib/put.h"
#include "tests/unit/truncate.h"
#include <sys/stat.h>

#define G "tests/golden/tensorflow/"

static void goldens(void **state)
{
    (void)state;
    static const char *const list[] = {"names",  "slots",         "objects",        "keras_weights",
                                       "dtypes", "version1.ckpt", "version1_shards"};
    static const char *const folder[] = {G, "tests/golden/tensorflow-2.12/"};
    for (size_t k = 0; k < 2; k++) {
        char path[200];
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
            (void)snprintf(path, sizeof path, "%s%s", folder[k], list[i]);
            golden_check(path, "tf-checkpoint");
        }
        (void)snprintf(path, sizeof path, "%ssaved_model", folder[k]);
        golden_check(path, "savedmodel");
        (void)snprintf(path, sizeof path, "%sfrozen.pb", folder[k]);
        golden_check(path, "graphdef");
    }
    golden_check(G "keras3", "tf-checkpoint");
}

/* Keras 3: what the optimizer keeps belongs to the weights, by the graph's lists. */
static void optimizers_of_keras3(void **state)
{
    (void)state;
    static const struct {
        const char *slot, *of;
        enum role role;
    } want[] = {
        {"optimizer._variables.2", "model._operations.1._kernel", ROLE_MOMENT1},
        {"optimizer._variables.3", "model._operations.1._kernel", ROLE_MOMENT2},
        {"optimizer._variables.7", "model._operations.2.gamma", ROLE_MOMENT2},
        {"optimizer._variables.12", "model._operations.3.bias", ROLE_MOMENT1},
        {"optimizer._variables.14", "model._operations.1._kernel", ROLE_MOMENT2},
        {"optimizer._variables.19", "model._operations.3.bias", ROLE_MOMENT2},
        {"optimizer._iterations", NULL, ROLE_COUNTER},
        {"optimizer._learning_rate", NULL, ROLE_OTHER},
        {"model._operations.3._kernel", NULL, ROLE_PARAMETER},
    };
    struct model m;
    const struct format *fmt;
    struct err e = {0};
    struct read_opt opt = {.quick = false};
    model_init(&m);
    if (format_open(G "keras3", NULL, &opt, &m, &fmt, &e) != ST_OK)
        fail_msg("%s: %s", e.code, e.reason);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        int64_t t = model_find(&m, str_from(want[i].slot));
        int64_t of = want[i].of ? model_find(&m, str_from(want[i].of)) : -1;
        assert_true(t >= 0 && (of >= 0 || !want[i].of));
        if (m.tensor[t].role != want[i].role || m.tensor[t].of != of)
            fail_msg("%s: role %d of %lld", want[i].slot, (int)m.tensor[t].role,
                     (long long)m.tensor[t].of);
    }
    model_free(&m);
}

/* ---- a folder of our own ---- */

static char room[] = "/tmp/nnferry-tf-XXXXXX";
static char index_path[64], data_path[64], graph_path[64];

/* A new file each time: cutting an old one to nothing makes some file systems wait for the disk. */
static void put_anew(const char *path, const void *p, size_t n)
{
    unlink(path);
    put_file(path, p, n);
}

static void copy_golden(const char *index, const char *data)
{
    size_t n;
    uint8_t *p = get_file(index, &n);
    put_anew(index_path, p, n);
    free(p);
    p = get_file(data, &n);
    put_anew(data_path, p, n);
    free(p);
}

static void refuse(const char *path, const char *format, const char *code)
{
    struct err e;
    enum status st = open_once(path, format ? format_find(str_from(format)) : NULL, &e);
    if (st != ST_INPUT || !e.code || (code && strcmp(e.code, code) != 0))
        fail_msg("%s: status %d, code %s, wanted %s", path, (int)st, e.code ? e.code : "none",
                 code ? code : "any");
}

static void truncation(void **state)
{
    (void)state;
    copy_golden(G "slots/ck-1.index", G "slots/ck-1.data-00000-of-00001");
    size_t n, d;
    uint8_t *p = get_file(index_path, &n), *q = get_file(data_path, &d);
    for (size_t k = n; k-- > 0;) {
        put_anew(index_path, p, k);
        refuse(index_path, "tf-checkpoint", NULL);
    }
    put_anew(index_path, p, n);
    for (size_t k = d; k-- > 0;) {
        put_anew(data_path, q, k);
        refuse(index_path, NULL, "truncated");
    }
    put_anew(data_path, q, d);
    assert_true(open_once(index_path, NULL, &(struct err){0}) == ST_OK);
    unlink(data_path);
    refuse(index_path, NULL, "unreadable");
    free(p);
    free(q);
    truncate_every(G "version1.ckpt", "tf-checkpoint", NULL);
}

/* A graph cut behind a node is a smaller graph, and nothing marks its end. */
static bool whole_nodes(const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at + 2 <= n && (p[at] == 0x0a || p[at] == 0x22 || p[at] == 0x12)) {
        size_t len = p[at + 1], head = 2;
        if (len & 0x80) {
            len = (len & 0x7f) | (at + 2 < n ? (size_t)p[at + 2] << 7 : 0);
            head = 3;
        }
        at += head + len;
    }
    return n > 0 && at == n;
}

static void graph_truncation(void **state)
{
    (void)state;
    truncate_every(G "frozen.pb", "graphdef", whole_nodes);
    size_t n;
    uint8_t *p = get_file(G "saved_model/saved_model.pb", &n);
    for (size_t k = n; k-- > 0;) {
        put_anew(graph_path, p, k);
        refuse(graph_path, "savedmodel", NULL);
    }
    free(p);
}

static void flipped(void **state)
{
    (void)state;
    copy_golden(G "slots/ck-1.index", G "slots/ck-1.data-00000-of-00001");
    size_t n, d;
    uint8_t *p = get_file(index_path, &n), *q = get_file(data_path, &d);
    for (size_t i = 0; i < d; i++) {
        q[i] ^= 0x10;
        put_anew(data_path, q, d);
        refuse(index_path, NULL, NULL);
        q[i] ^= 0x10;
    }
    put_anew(data_path, q, d);
    for (size_t i = 0; i < n; i++) {
        p[i] ^= 0x04;
        put_anew(index_path, p, n);
        refuse(index_path, NULL, NULL);
        p[i] ^= 0x04;
    }
    free(p);
    free(q);
}

/* ---- tables made by hand ---- */

struct given {
    const char *key;
    size_t key_n;
    struct buf value;
};

static void dim(struct buf *shape, int64_t v)
{
    struct buf d = BUF_INIT;
    proto_w_i64(&d, 1, v);
    proto_w_sub(shape, 2, &d);
    buf_free(&d);
}

/* A BundleEntryProto. */
static struct buf entry(unsigned dtype, size_t n, const int64_t *dims, uint64_t shard,
                        uint64_t offset, uint64_t size, uint32_t crc)
{
    struct buf b = BUF_INIT, shape = BUF_INIT;
    for (size_t i = 0; i < n; i++)
        dim(&shape, dims[i]);
    proto_w_u64(&b, 1, dtype);
    proto_w_sub(&b, 2, &shape);
    proto_w_u64(&b, 3, shard);
    proto_w_u64(&b, 4, offset);
    proto_w_u64(&b, 5, size);
    proto_w_fixed32(&b, 6, crc);
    buf_free(&shape);
    return b;
}

static void slice(struct buf *b, size_t n, const int64_t *pairs)
{
    struct buf s = BUF_INIT;
    for (size_t i = 0; i < n; i++) {
        struct buf x = BUF_INIT;
        if (pairs[2 * i + 1] >= 0) {
            proto_w_i64(&x, 1, pairs[2 * i]);
            proto_w_i64(&x, 2, pairs[2 * i + 1]);
        }
        proto_w_sub(&s, 1, &x);
        buf_free(&x);
    }
    proto_w_sub(b, 7, &s);
    buf_free(&s);
}

static struct buf header(uint64_t shards, uint64_t endian, uint64_t consumer)
{
    struct buf b = BUF_INIT, v = BUF_INIT;
    proto_w_u64(&b, 1, shards);
    proto_w_u64(&b, 2, endian);
    proto_w_u64(&v, 1, 1);
    proto_w_u64(&v, 2, consumer);
    proto_w_sub(&b, 3, &v);
    buf_free(&v);
    return b;
}

/* Writes the table of n entries, frees them, and gives 8 bytes of data. */
static void put_table(struct given *g, size_t n)
{
    struct sstable_w w = SSTABLE_W_INIT;
    for (size_t i = 0; i < n; i++) {
        sstable_w_add(&w, (struct str){g[i].key, g[i].key_n}, buf_as_str(&g[i].value));
        buf_free(&g[i].value);
    }
    assert_true(sstable_w_end(&w, NULL) == ST_OK);
    put_anew(index_path, w.out.p, w.out.n);
    put_anew(data_path, "\1\2\3\4\5\6\7\10", 8);
    sstable_w_free(&w);
}

#define KEY(z) z, sizeof(z) - 1
#define DIMS(...)                                                                                  \
    sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[])                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static uint32_t sum8(void)
{
    return crc32c_mask(crc32c_update(0, "\1\2\3\4\5\6\7\10", 8));
}

static void refused(void **state)
{
    (void)state;
    uint32_t s = sum8();
#define ONE(code, e)                                                                               \
    do {                                                                                           \
        put_table((struct given[]){{KEY(""), header(1, 0, 0)}, {KEY("w"), e}}, 2);                 \
        refuse(index_path, NULL, code);                                                            \
    } while (0)
    put_table(
        (struct given[]){{KEY(""), header(1, 0, 0)}, {KEY("w"), entry(4, DIMS(8), 0, 0, 8, s)}}, 2);
    assert_true(open_once(index_path, NULL, &(struct err){0}) == ST_OK);
    ONE("tf-sum", entry(4, DIMS(8), 0, 0, 8, s + 1));
    ONE("size-mismatch", entry(4, DIMS(7), 0, 0, 8, s));
    ONE("size-mismatch", entry(1, DIMS(8), 0, 0, 8, s));
    ONE("truncated", entry(4, DIMS(8), 0, 1, 8, s));
    ONE("truncated", entry(4, DIMS(8), 0, UINT64_MAX, 8, s));
    ONE("tf-shard", entry(4, DIMS(8), 1, 0, 8, s));
    ONE("tf-shape", entry(4, DIMS(-1), 0, 0, 8, s));
    ONE("shape-overflow", entry(4, DIMS(INT64_C(1) << 33, INT64_C(1) << 33), 0, 0, 8, s));
    ONE("shape-overflow", entry(4, DIMS(0, INT64_C(1) << 62, 4), 0, 0, 0, 0));
    ONE("unknown-dtype", entry(127, DIMS(8), 0, 0, 8, s));
    ONE("unknown-dtype", entry(20, DIMS(8), 0, 0, 8, s));
    ONE("unknown-dtype", entry(27, DIMS(8), 0, 0, 8, s));
    ONE("tf-string", entry(7, DIMS(INT64_C(1) << 60), 0, 0, 8, s));
    ONE("tf-string", entry(7, DIMS(1), 0, 0, 8, s));
    ONE("tf-string", entry(7, DIMS(9), 0, 0, 8, s));
    int64_t many[300];
    for (size_t i = 0; i < 300; i++)
        many[i] = 1;
    ONE("tf-shape", entry(4, 300, many, 0, 0, 1, s));
    struct buf unknown = BUF_INIT, shape = BUF_INIT;
    proto_w_u64(&shape, 3, 1);
    proto_w_u64(&unknown, 1, 4);
    proto_w_sub(&unknown, 2, &shape);
    buf_free(&shape);
    ONE("tf-shape", unknown);
#undef ONE
    struct buf wrong = BUF_INIT;
    buf_z(&wrong, "\x0b");
    put_table((struct given[]){{KEY(""), header(1, 0, 0)}, {KEY("w"), wrong}}, 2);
    refuse(index_path, NULL, "proto-group");
    put_table((struct given[]){{KEY("w"), entry(4, DIMS(8), 0, 0, 8, s)}}, 1);
    refuse(index_path, NULL, "tf-header");
    put_table(NULL, 0);
    refuse(index_path, NULL, "tf-header");
    static const struct {
        const char *code;
        uint64_t shards, endian, consumer;
    } heads[] = {{"tf-header", 0, 0, 0},
                 {"tf-header", 100000, 0, 0},
                 {"tf-header", 1, 2, 0},
                 {"tf-version", 1, 0, 2}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        put_table((struct given[]){{KEY(""),
                                    header(heads[i].shards, heads[i].endian, heads[i].consumer)}},
                  1);
        refuse(index_path, NULL, heads[i].code);
    }
    put_table((struct given[]){{KEY(""), header(1, 0, 0)},
                               {KEY("a"), entry(4, DIMS(5), 0, 0, 5, 0)},
                               {KEY("b"), entry(4, DIMS(5), 0, 3, 5, 0)}},
              3);
    refuse(index_path, NULL, "tf-overlap");
    put_table(
        (struct given[]){{KEY(""), header(1, 0, 0)},
                         {KEY("_CHECKPOINTABLE_OBJECT_GRAPH"), entry(4, DIMS(8), 0, 0, 8, s)}},
        2);
    assert_true(open_once(index_path, NULL, &(struct err){0}) == ST_OK); /* no string: a tensor */
}

static void slices_refused(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        int64_t a[2], b[2]; /* start and length of the two slices of [4, 2] */
    } cases[] = {
        {NULL, {0, 3}, {3, 1}},
        {"tf-slice", {0, 2}, {3, 1}},
        {"tf-slice", {0, 3}, {2, 2}},
        {"tf-slice", {0, 3}, {3, 2}},
        {NULL, {0, 4}, {4, 0}},
        {"tf-slice", {1, 3}, {-1, 1}},
        {"tf-slice", {0, 3}, {3, INT64_MAX}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t pa[] = {cases[i].a[0], cases[i].a[1], 0, -1};
        int64_t pb[] = {cases[i].b[0], cases[i].b[1], 0, -1};
        bool odd = pb[0] < 0 || pb[1] > 100;
        struct buf whole = entry(4, DIMS(4, 2), 0, 0, 0, 0), ka = BUF_INIT, kb = BUF_INIT;
        slice(&whole, 2, pa);
        slice(&whole, 2, pb);
        uint64_t full[] = {TF_FULL, TF_FULL};
        uint64_t la[] = {(uint64_t)pa[0], 0}, lb[] = {(uint64_t)(odd ? 3 : pb[0]), 0};
        uint64_t na[] = {(uint64_t)pa[1], full[0]}, nb[] = {(uint64_t)(odd ? 1 : pb[1]), full[1]};
        tf_slice_key(&ka, STR("w"), 2, la, na);
        tf_slice_key(&kb, STR("w"), 2, lb, nb);
        uint64_t za = 2 * (uint64_t)pa[1], zb = odd ? 2 : 2 * (uint64_t)pb[1];
        za = za > 8 ? 8 : za;
        zb = za + zb > 8 ? 8 - za : zb;
        struct given g[] = {
            {KEY(""), header(1, 0, 0)},
            {(const char *)ka.p, ka.n, entry(4, DIMS(pa[1], 2), 0, 0, za, 0)},
            {(const char *)kb.p, kb.n, entry(4, DIMS((int64_t)nb[0], 2), 0, za, zb, 0)},
            {KEY("w"), whole},
        };
        if (str_cmp(buf_as_str(&ka), buf_as_str(&kb)) > 0) {
            struct given x = g[1];
            g[1] = g[2];
            g[2] = x;
        }
        put_table(g, 4);
        struct model m;
        struct read_opt opt = {.quick = true};
        const struct format *found;
        struct err e = {0};
        model_init(&m);
        enum status st = format_open(index_path, NULL, &opt, &m, &found, &e);
        if (cases[i].code == NULL) {
            size_t n;
            assert_true(st == ST_OK && m.n_tensors == 1);
            uint8_t *p = eager_read(&m, 0, &n, &e);
            assert_non_null(p);
            assert_true(n == 8 && memcmp(p, "\1\2\3\4\5\6\7\10", 8) == 0);
            free(p);
        } else if (st != ST_INPUT ||
                   (strcmp(e.code, cases[i].code) != 0 && strcmp(e.code, "size-mismatch") != 0)) {
            fail_msg("%zu: status %d, code %s", i, (int)st, e.code ? e.code : "none");
        }
        model_free(&m);
        buf_free(&ka);
        buf_free(&kb);
    }
    /* a slice of no tensor, and a tensor whose slice is not there */
    struct buf k = BUF_INIT, whole = entry(4, DIMS(8), 0, 0, 0, 0);
    tf_slice_key(&k, STR("w"), 1, (uint64_t[]){0}, (uint64_t[]){8});
    put_table((struct given[]){{KEY(""), header(1, 0, 0)},
                               {(const char *)k.p, k.n, entry(4, DIMS(8), 0, 0, 8, sum8())}},
              2);
    refuse(index_path, NULL, "tf-slice");
    slice(&whole, 1, (int64_t[]){0, 8});
    put_table((struct given[]){{KEY(""), header(1, 0, 0)}, {KEY("w"), whole}}, 2);
    refuse(index_path, NULL, "tf-slice");
    buf_free(&k);
}

static void other_byte_order(void **state)
{
    (void)state;
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    struct err e;
    size_t n;
    put_table((struct given[]){{KEY(""), header(1, 1, 0)},
                               {KEY("w"), entry(3, DIMS(2), 0, 0, 8, sum8())}},
              2);
    model_init(&m);
    assert_true(format_open(index_path, NULL, &opt, &m, &found, &e) == ST_OK);
    uint8_t *p = eager_read(&m, 0, &n, &e);
    assert_non_null(p);
    assert_true(n == 8);
    assert_memory_equal(p, "\4\3\2\1\10\7\6\5", 8);
    free(p);
    model_free(&m);
}

/* What core/lib/strings/ordered_code.cc gives. */
static void ordered_code(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    tf_slice_key(&b, (struct str){"a\0\xff", 3}, 4, (uint64_t[]){0, 63, 64, 8191},
                 (uint64_t[]){TF_FULL, 1, 8192, 1000000});
    static const char want[] = "\x00"
                               "a\x00\xff\xff\x00\x00\x01"
                               "\x01\x04"
                               "\x80\x7f\xbf\x81\xc0\x40\xe0\x20\x00\xdf\xff\xef\x42\x40";
    assert_true(b.n == sizeof want - 1);
    assert_memory_equal(b.p, want, b.n);
    buf_clear(&b);
    tf_slice_key(&b, STR(""), 2, (uint64_t[]){1048576, UINT64_C(1) << 40},
                 (uint64_t[]){UINT64_C(1) << 55, INT64_MAX});
    static const char more[] = "\x00\x00\x01\x01\x02"
                               "\xf0\x10\x00\x00"
                               "\xff\x80\x80\x00\x00\x00\x00\x00\x00"
                               "\xfd\x00\x00\x00\x00\x00"
                               "\xff\xc0\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert_true(b.n == sizeof more - 1);
    assert_memory_equal(b.p, more, b.n);
    buf_free(&b);
}

/* ---- scan ---- */

static void node(struct buf *graph, const char *op)
{
    struct buf n = BUF_INIT;
    proto_w_str(&n, 1, STR("n"));
    proto_w_str(&n, 2, str_from(op));
    proto_w_sub(graph, 1, &n);
    buf_free(&n);
}

static void count(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *text)
{
    unsigned *n = ctx;
    (void)offset;
    assert_string_equal(code, "graph-op");
    assert_non_null(strstr(text, "node n"));
    n[unsafe]++;
}

static void scans(void **state)
{
    (void)state;
    struct buf g = BUF_INIT, f = BUF_INIT, inner = BUF_INIT;
    struct buf meta = BUF_INIT, top = BUF_INIT;
    unsigned found[2] = {0};
    char prefix[64], meta_path[80];
    (void)snprintf(prefix, sizeof prefix, "%s/P", room);
    (void)snprintf(meta_path, sizeof meta_path, "%s/P.meta", room);
    copy_golden(G "slots/ck-1.index", G "slots/ck-1.data-00000-of-00001");
    struct read_opt opt = {.scan = true, .finding = count, .finding_ctx = found};
    node(&g, "MatMul");
    node(&g, "ReadFile");
    node(&g, "EagerPyFunc");
    node(&g, "TextLineDataset");
    node(&inner, "WriteFile"); /* as field 1; functions have their nodes in 3 */
    inner.p[0] = 3 << 3 | 2;
    proto_w_sub(&f, 1, &inner);
    proto_w_sub(&g, 2, &f);
    put_anew(graph_path, g.p, g.n);
    for (int whole = 0; whole < 3; whole++) { /* a graph, a SavedModel, a checkpoint's .meta */
        static const char *const as[] = {"graphdef", "savedmodel", "tf-checkpoint"};
        struct model m;
        const struct format *fmt;
        struct err e = {0};
        found[0] = found[1] = 0;
        model_init(&m);
        enum status st = format_open(whole < 2 ? graph_path : prefix,
                                     format_find(str_from(as[whole])), &opt, &m, &fmt, &e);
        if (st != ST_OK)
            fail_msg("%s: %s", e.code, e.reason);
        assert_true(found[0] == 1 && found[1] == 3);
        model_free(&m);
        if (whole == 0) {
            proto_w_sub(&meta, 2, &g);
            proto_w_u64(&top, 1, 1);
            proto_w_sub(&top, 2, &meta);
            put_anew(graph_path, top.p, top.n);
        } else {
            put_anew(meta_path, meta.p, meta.n);
        }
    }
    unlink(meta_path);
    buf_free(&g);
    buf_free(&f);
    buf_free(&inner);
    buf_free(&meta);
    buf_free(&top);
}

/* ---- writing ---- */

static struct tensor *tensor(struct model *m, const char *name, enum dtype dtype, size_t n,
                             const uint64_t *dims)
{
    struct tensor *t;
    struct storage *s;
    uint32_t index;
    assert_true(model_storage_add(m, &s, &index, NULL) == ST_OK);
    assert_true(model_tensor_add(m, &t, NULL) == ST_OK);
    t->name = str_from(name);
    t->dtype = dtype;
    t->storage = index;
    assert_true(tensor_set_shape(m, t, dims, n, NULL) == ST_OK);
    uint64_t bytes;
    assert_true(tensor_bytes(t, &bytes));
    *s = (struct storage){.kind = STORAGE_MEMORY,
                          .mem = (const uint8_t *)"\1\2\3\4\5\6\7\10",
                          .stored_bytes = bytes,
                          .raw_bytes = bytes};
    return t;
}

static void cannot(const char *name, enum dtype dtype, const char *code)
{
    const struct format *f = format_find(STR("tf-checkpoint"));
    struct write_opt opt = {0};
    struct model m;
    struct err e = {0};
    model_init(&m);
    (void)tensor(&m, name, dtype, 1, (uint64_t[]){1});
    assert_true(model_finish(&m, &e) == ST_OK);
    enum status st = f->check(&m, &opt, &e);
    if (code ? st != ST_CANNOT || strcmp(e.code, code) != 0 : st != ST_OK)
        fail_msg("%s: %s, wanted %s", name, e.code ? e.code : "taken", code ? code : "none");
    if (!code) {
        f = format_find(STR("savedmodel"));
        assert_true(f->check(&m, &opt, &e) == ST_CANNOT);
        assert_string_equal(e.code, "no-graph");
    }
    model_free(&m);
}

static void not_written(void **state)
{
    (void)state;
    cannot("a.b", DT_F32, NULL);
    cannot("a..b", DT_F32, NULL);
    cannot("a\\.b", DT_F32, NULL);
    cannot("", DT_F32, "name-not-spelled");
    cannot("a/b", DT_F32, "name-not-spelled");
    cannot("w", DT_F8_E8M0FNU, "dtype");
    cannot("w", DT_F4_E2M1FN, "dtype");
    cannot("w", DT_C32, "dtype");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),        cmocka_unit_test(optimizers_of_keras3),
        cmocka_unit_test(truncation),     cmocka_unit_test(graph_truncation),
        cmocka_unit_test(flipped),        cmocka_unit_test(refused),
        cmocka_unit_test(slices_refused), cmocka_unit_test(other_byte_order),
        cmocka_unit_test(scans),          cmocka_unit_test(not_written),
        cmocka_unit_test(ordered_code),
    };
    char line[200];
    if (!mkdtemp(room))
        return 1;
    (void)snprintf(index_path, sizeof index_path, "%s/P.index", room);
    (void)snprintf(data_path, sizeof data_path, "%s/P.data-00000-of-00001", room);
    (void)snprintf(graph_path, sizeof graph_path, "%s/saved_model.pb", room);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(line, sizeof line, "rm -rf %s", room);
    return rc | system(line);
}
