/* The archive: every dtype, every structure, both layouts there and back; every flipped bit, every
 * truncation and every strange byte noticed. */
#include "base/cpu.h"
#include "base/par.h"
#include "codec/frames.h"
#include "codec/sha256.h"
#include "codec/xxh.h"
#include "codec/zstd.h"
#include "format/archive.h"
#include "tests/lib/eager.h"
#include "tests/lib/put.h"
#include "tests/unit/truncate.h"
#include <stdint.h>

static uint64_t seed = 99;
static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

struct made {
    struct model m;
    uint8_t *data[80];
};

static char path_a[] = "/tmp/nnferry-archive-a-XXXXXX", path_b[] = "/tmp/nnferry-archive-b-XXXXXX";

static struct tensor *add(struct made *x, const char *name, enum dtype dt, size_t n_dims,
                          const uint64_t *dim)
{
    struct tensor *t;
    struct err e;
    uint64_t bytes;
    unsigned bits = dtype_info(dt)->bits, mask = 255; /* of what a byte holds */
    assert_int_equal(model_tensor_add(&x->m, &t, &e), ST_OK);
    t->name = arena_str(&x->m.arena, name, strlen(name));
    t->dtype = dt;
    assert_int_equal(tensor_set_shape(&x->m, t, dim, n_dims, &e), ST_OK);
    t->order = 1000 - x->m.n_tensors;
    t->role = (enum role)(x->m.n_tensors % 10);
    t->requires_grad = x->m.n_tensors % 2;
    if (bits == 6 || !dtype_span(dt, tensor_elems(t), &bytes)) { /* one value a byte */
        bytes = tensor_elems(t);
        mask = (1u << bits) - 1;
    }
    uint8_t *p = malloc((size_t)bytes + 1);
    for (uint64_t i = 0; i < bytes; i++) /* specials of every type among them */
        p[i] = (uint8_t)(mask & (rnd() % 4 == 0 ? rnd()
                                 : i % 4 == 3   ? 0x3c + rnd() % 4
                                                : rnd() % 2 * 255));
    x->data[x->m.n_tensors - 1] = p;
    return t;
}

static struct node *leaf(struct made *x, struct node *parent, enum node_kind k, const char *key)
{
    struct node *n = node_new(&x->m.arena, k);
    if (key) {
        n->key = node_new(&x->m.arena, NODE_STR);
        n->key->text = str_from(key);
    }
    if (parent)
        node_add(parent, n);
    return n;
}

static void make_tree(struct made *x)
{
    struct node *top = leaf(x, NULL, NODE_DICT, NULL), *n, *list;
    top->text = STR("collections.OrderedDict");
    leaf(x, top, NODE_NIL, "nil");
    leaf(x, top, NODE_BOOL, "yes")->i = 1;
    leaf(x, top, NODE_INT, "least")->i = INT64_MIN;
    leaf(x, top, NODE_BIGINT, "big")->text = STR("-123456789012345678901234567890");
    leaf(x, top, NODE_FLOAT, "nan")->bits[0] = UINT64_C(0x7ff0000000000001);
    n = leaf(x, top, NODE_COMPLEX, "complex");
    n->bits[0] = UINT64_C(0x8000000000000000);
    n->bits[1] = 1;
    leaf(x, top, NODE_STR, "text \"\\\n\x01")->text = STR("\xc3\xa9\0x");
    leaf(x, top, NODE_STR, "not utf-8")->text = STR("\xff\xfe");
    leaf(x, top, NODE_BYTES, "bytes")->text = STR("\0\1\xff");
    leaf(x, top, NODE_BYTES, "no bytes");
    leaf(x, top, NODE_DTYPE, "dtype")->text = STR("float32");
    leaf(x, top, NODE_DICT, "empty dict");
    leaf(x, top, NODE_LIST, "empty list");
    list = leaf(x, top, NODE_LIST, "list");
    leaf(x, list, NODE_TUPLE, NULL);
    n = leaf(x, leaf(x, list, NODE_TUPLE, NULL), NODE_SET, NULL);
    leaf(x, n, NODE_INT, NULL)->i = 7;
    leaf(x, list, NODE_TENSOR, NULL)->tensor = 1;
    n = leaf(x, top, NODE_OPAQUE, "thing");
    n->text = STR("module.Class");
    leaf(x, n, NODE_STR, NULL)->text = STR("state");
    n = leaf(x, top, NODE_TENSOR, NULL);
    n->key = node_new(&x->m.arena, NODE_INT);
    n->key->i = 3;
    struct node *deep = top;
    for (int i = 0; i < 2000; i++)
        deep = leaf(x, deep, NODE_DICT, "d");
    x->m.tree = top;
}

static void attach(struct made *x, const char *name, const void *p, size_t n)
{
    struct attachment *a;
    struct err e;
    assert_int_equal(model_attach(&x->m, &a, &e), ST_OK);
    a->name = arena_str(&x->m.arena, name, strlen(name));
    a->media_type = STR("application/octet-stream");
    a->n_bytes = n;
    a->mem = (const uint8_t *)arena_str(&x->m.arena, p, n).p;
}

/* Every block type: rows of two blocks, and a tensor of more than one slab. */
static void make_blocks(struct made *x)
{
    memset(x, 0, sizeof *x);
    model_init(&x->m);
    for (int dt = DT_NONE + 1; dt < DT_COUNT; dt++) {
        const uint64_t dim[3] = {2, 3, 512}, big[2] = {5000, 512};
        if (!dtype_is_block((enum dtype)dt))
            continue;
        add(x, dtype_info((enum dtype)dt)->name, (enum dtype)dt, 3, dim);
        if (dt == DT_Q6_K)
            add(x, "large", (enum dtype)dt, 2, big);
    }
}

static void make(struct made *x, bool plain, bool large)
{
    struct err e;
    memset(x, 0, sizeof *x);
    model_init(&x->m);
    for (int dt = DT_NONE + 1; dt < DT_COUNT; dt++) {
        char name[64];
        const struct dtype_info *d = dtype_info((enum dtype)dt);
        bool shard = !strstr(d->name, "fnuz") && !strstr(d->name, "int2") &&
                     !strstr(d->name, "int4") && dt != DT_C32 && dt != DT_C128 &&
                     !strstr(d->name, "float6");
        if ((plain && !shard) || d->kind == DK_BLOCK)
            continue;
        const uint64_t dims[3][3] = {{5, 3, 8}, {40, 100}, {3, 1, 7}};
        snprintf(name, sizeof name, "layer.%s.small", d->name);
        add(x, name, (enum dtype)dt, 3, dims[0]);
        if (!plain && d->bits < 8) {
            snprintf(name, sizeof name, "layer.%s.odd", d->name);
            add(x, name, (enum dtype)dt, 3, dims[2]);
        }
        if (!large)
            continue;
        snprintf(name, sizeof name, "layer.%s.large", d->name);
        add(x, name, (enum dtype)dt, 2, dims[1]);
    }
    const uint64_t none[2] = {0, 7}, big[2] = {700, 1001};
    add(x, "empty", DT_F32, 2, none);
    add(x, "scalar", DT_F64, 0, none);
    add(x, "../\xc3\xa9vil \x1b[31m/name", DT_U8, 1, none + 1);
    if (large) {
        add(x, "big.bf16", DT_BF16, 2, big);
        add(x, "big.f32", DT_F32, 2, big);
    }
    struct tensor *t = add(x, "alias", x->m.tensor[0].dtype, 3, x->m.tensor[0].dim);
    t->alias_of = 0;
    t->of = 1;
    const char *gone = (const char *)x->data[x->m.n_tensors - 1];
    free((void *)(uintptr_t)gone);
    x->data[x->m.n_tensors - 1] = NULL;
    x->m.framework = STR("pytorch");
    x->m.spelling = STR("{\"rules\":[1,{\"a\":\"}\"}],\"version\":3}");
    assert_int_equal(model_meta_add(&x->m, STR("format"), STR("pt"), &e), ST_OK);
    assert_int_equal(model_meta_add(&x->m, STR(""), STR("\n\"quoted\"\x01"), &e), ST_OK);
    attach(x, "config.json", "{}", 2);
    attach(x, "a/b.c", "", 0);
    attach(x, "../../etc/passwd", "x", 1);
    attach(x, "/\x1b[31m.hidden/%/", "xyz", 3);
    if (large) {
        char long_name[400];
        static char zeros[3000000];
        memset(long_name, 'n', sizeof long_name - 1);
        long_name[sizeof long_name - 1] = 0;
        attach(x, long_name, "long", 4);
        attach(x, "grows/much", zeros, sizeof zeros);
    }
    make_tree(x);
}

static void unmake(struct made *x)
{
    for (size_t i = 0; i < x->m.n_tensors; i++)
        free(x->data[i]);
    model_free(&x->m);
}

static void same_str(struct str a, struct str b)
{
    assert_int_equal(a.n, b.n);
    if (a.n > 0)
        assert_memory_equal(a.p, b.p, a.n);
}

static void same_node(const struct node *a, const struct node *b)
{
    assert_int_equal(a->kind, b->kind);
    same_str(a->text, b->text);
    assert_true(a->i == b->i);
    assert_memory_equal(a->bits, b->bits, sizeof a->bits);
    assert_int_equal(a->n_children, b->n_children);
    if (a->kind == NODE_TENSOR)
        assert_int_equal(a->tensor, b->tensor);
}

static void same_tree(const struct node *a, const struct node *b)
{
    struct node *x = (struct node *)(uintptr_t)a, *y = (struct node *)(uintptr_t)b;
    for (; x && y; x = node_step(a, x), y = node_step(b, y)) {
        same_node(x, y);
        assert_int_equal(!x->key, !y->key);
        if (x->key)
            same_node(x->key, y->key);
    }
    assert_true(!x && !y);
}

static void same_model(const struct made *x, const struct model *m)
{
    struct err e;
    assert_int_equal(m->n_tensors, x->m.n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *a = &x->m.tensor[i], *b = &m->tensor[i];
        same_str(a->name, b->name);
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->role, b->role);
        assert_int_equal(a->order, b->order);
        assert_int_equal(a->of, b->of);
        assert_int_equal(a->requires_grad, b->requires_grad);
        assert_true(kept_same(a->view, b->view));
        uint8_t *p = eager_storage(&m->storage[b->storage], &e);
        const uint8_t *want = x->data[a->alias_of < 0 ? (int64_t)i : a->alias_of];
        assert_non_null(p);
        assert_memory_equal(p, want, m->storage[b->storage].raw_bytes);
        free(p);
    }
    /* "alias" sorts before the name it points to, so the reader turns the pair around */
    int64_t a = (int64_t)m->n_tensors - 1;
    assert_true(m->tensor[0].alias_of == a || m->tensor[a].alias_of == 0);
    assert_int_equal(m->tensor[0].storage, m->tensor[a].storage);
    same_str(m->framework, x->m.framework);
    same_str(m->spelling, x->m.spelling);
    assert_int_equal(m->n_meta, x->m.n_meta);
    for (size_t i = 0; i < m->n_meta; i++) {
        same_str(m->meta[i].key, x->m.meta[i].key);
        same_str(m->meta[i].value, x->m.meta[i].value);
    }
    assert_int_equal(m->n_attachments, x->m.n_attachments);
    for (size_t i = 0; i < m->n_attachments; i++) {
        const struct attachment *p = &m->attachment[i], *q = &x->m.attachment[i];
        same_str(p->name, q->name);
        same_str(p->media_type, q->media_type);
        assert_int_equal(p->n_bytes, q->n_bytes);
        if (p->n_bytes > 0)
            assert_memory_equal(p->mem, q->mem, p->n_bytes);
    }
    same_tree(x->m.tree, m->tree);
    assert_true(m->has_opaque);
}

static void write_from(const struct made *x, bool plain, bool full, const uint8_t *id,
                       enum origin_tensors tensors, const char *path)
{
    static const struct origin_file file = {.name = {"w.bin", 5}, .n_bytes = 1234};
    struct origin o = {.file = &file,
                       .n_files = 1,
                       .format = STR("numpy"),
                       .framework = STR("flax"),
                       .writer = STR("x"),
                       .tensors = tensors};
    struct write_opt opt = {.plain = plain, .sums_full = full, .origin = &o};
    struct err e;
    memcpy(o.id, id, sizeof o.id);
    char line[1200];
    enum status st = put_model(format_find(STR("archive")), &x->m, (const uint8_t *const *)x->data,
                               &opt, path, &e);
    if (st != ST_OK) {
        err_line(&e, line, sizeof line);
        fail_msg("%s", line);
    }
}

static void write_one(const struct made *x, bool plain, bool full, const char *path)
{
    uint8_t id[32];
    memset(id, 0xa5, sizeof id);
    write_from(x, plain, full, id, ORIGIN_CHANGED, path);
}

static void verify_ok(const char *path)
{
    struct archive_facts facts;
    struct err e;
    char line[1200];
    if (archive_verify(path, &facts, &e) != ST_OK) {
        err_line(&e, line, sizeof line);
        fail_msg("%s", line);
    }
    assert_true(facts.n_frames > 0 && facts.n_members > 4);
}

static void round_trip(void **state)
{
    (void)state;
    for (int v = 0; v < 4; v++) {
        struct made x;
        struct model m;
        struct err e;
        char line[1200];
        const struct format *f;
        struct read_opt opt = {0};
        make(&x, v & 1, true);
        write_one(&x, v & 1, v & 2, path_a);
        model_init(&m);
        enum status st = format_open(path_a, NULL, &opt, &m, &f, &e);
        if (st != ST_OK) {
            err_line(&e, line, sizeof line);
            fail_msg("%s", line);
        }
        assert_string_equal(f->name, "archive");
        same_model(&x, &m);
        assert_non_null(m.origin);
        assert_int_equal(m.origin->n_files, 1);
        same_str(m.origin->file[0].name, STR("w.bin"));
        assert_int_equal(m.origin->file[0].n_bytes, 1234);
        same_str(m.origin->format, STR("numpy"));
        same_str(m.origin->framework, STR("flax"));
        same_str(m.origin->writer, STR("x"));
        assert_int_equal(m.origin->tensors, ORIGIN_CHANGED);
        assert_int_equal(m.origin->id[0] & m.origin->id[31], 0xa5);
        model_free(&m);
        for (int threads = 1; threads <= 3; threads++) {
            par_set_threads(threads);
            verify_ok(path_a);
        }
        par_set_threads(1);
        model_init(&m);
        opt.weights_only = true;
        assert_int_equal(format_open(path_a, NULL, &opt, &m, &f, &e), ST_OK);
        assert_int_equal(m.n_attachments, 0);
        model_free(&m);
        unmake(&x);
    }
}

/* The plain layout packs: what fills no whole byte, and 6-bit floats, it says no to. */
static void plain_packs(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_I4, DT_U2, DT_F4_E2M1FN, DT_F6_E2M3FN};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct made x = {0};
        const uint64_t dim[1] = {3};
        struct write_opt plain = {.plain = true};
        struct err e;
        model_init(&x.m);
        add(&x, "w", types[i], 1, dim);
        assert_int_equal(format_find(STR("archive"))->check(&x.m, &plain, &e), ST_CANNOT);
        assert_string_equal(e.code, "part-byte");
        unmake(&x);
    }
}

/* Block types as raw blocks; in the plain layout, which is safetensors', there is no place. */
static void blocks(void **state)
{
    (void)state;
    struct made x;
    struct model m;
    struct err e;
    const struct format *f;
    struct read_opt opt = {0};
    struct write_opt plain = {.plain = true};
    make_blocks(&x);
    write_one(&x, false, false, path_a);
    model_init(&m);
    assert_int_equal(format_open(path_a, NULL, &opt, &m, &f, &e), ST_OK);
    assert_int_equal(m.n_tensors, x.m.n_tensors);
    for (size_t i = 0; i < m.n_tensors; i++) {
        const struct tensor *a = &x.m.tensor[i], *b = &m.tensor[i];
        uint64_t bytes = 0;
        uint8_t *p = eager_storage(&m.storage[b->storage], &e);
        assert_non_null(p);
        assert_true(str_eq(a->name, b->name) && a->dtype == b->dtype &&
                    kept_same(a->view, b->view) && tensor_bytes(a, &bytes));
        assert_memory_equal(p, x.data[i], bytes);
        free(p);
    }
    model_free(&m);
    verify_ok(path_a);
    assert_int_equal(f->check(&x.m, &plain, &e), ST_CANNOT);
    assert_string_equal(e.code, "dtype");
    unmake(&x);
}

/* The bytes do not depend on the processor, and are pinned: a change of the format must be meant.
 */
static void pinned(void **state)
{
    (void)state;
    static const char *const want[] = {
        "728674c3cf8f53d981a3f5204d40b08b5683bbb86766380b2b69794eaf0bec9a",
        "3f07e295dd11814515f05aa9a14e7bef150dbfd37ae0d4c97581166f05c21d38",
        "0403908b73b6afc2c1fed4ec1031ed42f03eb8456c14631dd64cda3ad21ad6f1",
        "2f3818bb1566a2b2e1a70bb3a5125e6ae742ed04247941962fd37da64f39d4e3"};
    bool good = true;
    struct made x;
    for (int v = 0; v < 4; v++) {
        char hex[65];
        size_t n;
        seed = 5;
        make(&x, v & 1, false);
        for (int level = 0; level < 2; level++) {
            cpu_limit(level ? ~0u : 0);
            write_one(&x, v & 1, v & 2, path_a);
            uint8_t *p = get_file(path_a, &n);
            sha_hex(p, n, hex);
            free(p);
            if (strcmp(hex, want[v]) != 0)
                print_message("archive %d is %s\n", v, hex);
            good &= strcmp(hex, want[v]) == 0;
        }
        unmake(&x);
    }
    assert_true(good);
}

static void small(struct made *x)
{
    struct err e;
    memset(x, 0, sizeof *x);
    model_init(&x->m);
    const uint64_t dim[2] = {33, 33}, few = 5;
    add(x, "w", DT_F32, 2, dim);
    add(x, "b", DT_BF16, 1, &few);
    struct tensor *t = add(x, "a", DT_BF16, 1, &few);
    t->alias_of = 1;
    free(x->data[2]);
    x->data[2] = NULL;
    attach(x, "config.json", "{\"a\":1}", 7);
    assert_int_equal(model_meta_add(&x->m, STR("k"), STR("v"), &e), ST_OK);
    x->m.tree = leaf(x, NULL, NODE_DICT, NULL);
    leaf(x, x->m.tree, NODE_TENSOR, "w");
}

static void every_bit(void **state)
{
    (void)state;
    for (int v = 0; v < 2; v++) { /* the plain layout by samples: the frames are the same */
        struct made x;
        size_t n, by_code = 0, step = v ? 61 : 1, tried = 0;
        struct archive_facts facts;
        struct err e;
        small(&x);
        write_one(&x, v, false, path_a);
        verify_ok(path_a);
        uint8_t *p = get_file(path_a, &n);
        int fd = open(path_a, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t bit = 0; bit < n * 8; bit += step, tried++) {
            uint8_t b = (uint8_t)(p[bit / 8] ^ 1 << bit % 8);
            assert_int_equal(pwrite(fd, &b, 1, (off_t)(bit / 8)), 1);
            enum status st = archive_verify(path_a, &facts, &e);
            if (st != ST_NO)
                fail_msg("bit %zu of byte %zu: status %d", bit % 8, bit / 8, (int)st);
            by_code += e.code != NULL && e.has_offset;
            assert_int_equal(pwrite(fd, p + bit / 8, 1, (off_t)(bit / 8)), 1);
        }
        assert_int_equal(by_code, tried);
        verify_ok(path_a);
        assert_int_equal(close(fd), 0);
        free(p);
        unmake(&x);
    }
}

static void every_length(void **state)
{
    (void)state;
    struct made x;
    size_t n;
    struct archive_facts facts;
    struct err e;
    small(&x);
    write_one(&x, false, false, path_a);
    uint8_t *p = get_file(path_a, &n);
    for (size_t cut = 0; cut < n; cut++) {
        put_file(path_b, p, cut);
        enum status st = archive_verify(path_b, &facts, &e);
        /* what still begins like an archive is one, damaged */
        if (st != (cut < 300 ? ST_INPUT : ST_NO) && (cut < 100 || cut > 800))
            fail_msg("cut to %zu of %zu: status %d", cut, n, (int)st);
        assert_true(st == ST_NO || st == ST_INPUT);
    }
    /* and longer */
    uint8_t *q = malloc(n + 16);
    memcpy(q, p, n);
    memset(q + n, 0, 16);
    for (size_t more = 1; more <= 16; more++) {
        put_file(path_b, q, n + more);
        assert_int_equal(archive_verify(path_b, &facts, &e), ST_NO);
    }
    free(q);
    free(p);
    unmake(&x);
    truncate_every(path_a, "archive", NULL);
}

/* An archive taken apart into frames and put together again with one frame's content changed, all
 * checks and sizes mended: what only the content can tell. */
static void rebuild(const char *from, const char *to, const char *find, const char *replace,
                    bool twice)
{
    struct file *f;
    struct frames fr;
    struct arena a = ARENA_INIT;
    struct err e;
    struct buf out = BUF_INIT, raw = BUF_INIT;
    assert_int_equal(file_open(from, &f, &e), ST_OK);
    assert_int_equal(frames_open(f, &a, &fr, &e), ST_OK);
    void *enc = aligned_alloc(64, (zs_encode_scratch() + 63) / 64 * 64);
    void *dec = aligned_alloc(64, (frames_scratch(&fr) + 63) / 64 * 64);
    struct frame_note *note = ARENA_ARRAY(&a, struct frame_note, fr.n + 1);
    size_t n = 0, len = strlen(find), done = 0;
    uint64_t index = fr.index;
    for (uint64_t i = 0; i < fr.n; i++) {
        buf_clear(&raw);
        assert_true(buf_reserve(&raw, frame_raw(&fr, i) + 1));
        assert_int_equal(frames_decode(&fr, i, raw.p, dec, &e), ST_OK);
        raw.n = frame_raw(&fr, i);
        size_t at = str_find_str(buf_as_str(&raw), (struct str){find, len}, 0);
        bool hit = at < raw.n;
        if (hit) {
            memcpy(raw.p + at, replace, len);
            done++;
        }
        for (int k = 0; k < (hit && twice ? 2 : 1); k++) {
            size_t stored;
            assert_true(buf_reserve(&out, zs_bound(raw.n)));
            assert_int_equal(
                zs_encode(ZS_RAW, raw.p, raw.n, out.p + out.n, zs_bound(raw.n), enc, &stored, &e),
                ST_OK);
            note[n].stored = (uint32_t)stored;
            note[n].raw = (uint32_t)raw.n;
            xxh128(out.p + out.n, stored, note[n++].check);
            out.n += stored;
            index += k > 0 && i < fr.index;
        }
    }
    if (done != 1 || strlen(replace) != len)
        fail_msg("%s: %zu times", find, done);
    assert_int_equal(frames_tail(&out, note, n, index, &e), ST_OK);
    put_file(to, out.p, out.n);
    buf_free(&out);
    buf_free(&raw);
    free(enc);
    free(dec);
    arena_free(&a);
    file_close(f);
}

/* What every check accepts and the content gives away. */
static void forged(void **state)
{
    (void)state;
    static const struct {
        const char *find, *replace, *code;
        bool twice;
    } bad[] = {
        {"\"digest\":\"sha256-tree\"", "\"digest\":\"md5-of-all1\"", "manifest-value", false},
        {"\"provenance\":true", "\"provenancf\":true", "manifest-key", false},
        {"\"order\":999", "\"ordes\":999", "manifest-key", false},
        {"\"order\":999", "\"order\":1e3", "manifest-value", false},
        {"\"tree\":true,\"version\":1}", "\"tree\":true,\"version\":2}", "manifest-version", false},
        {"\"sums\":\"short\"", "\"sums\": \"shor\"", "manifest-value", false},
        {"[[\"k\",\"v\"]]", "[[\"k\" ,\"\"]]", "manifest-canonical", false},
        {"\"shape\":[33,33]", "\"shape\":[33,34]", "manifest-value", false},
        {"\"member\":\"attach/config.json\"", "\"member\":\"attach/../fig.json\"", "manifest-value",
         false},
        {"\"alias_of\":1", "\"alias_of\":2", "manifest-value", false},
        {"\"alias_of\":1", "\"alias_of\":9", "manifest-value", false},
        {"\"dtype\":\"float32\"", "\"dtype\":\"float99\"", "unknown-dtype", false},
        {"weights/000000.000", "weights/../../.000", "archive-member", false},
        {"weights/000001.000", "weights/000001.000", "archive-frames", true},
        {"{\"a\":1}", "{\"a\":2}", "sums", false},
        {"sha256sum -c", "sha256sum -C", "sums", false},
        {"\"kind\":\"tensor\",\"n\":0,\"value\":0", "\"kind\":\"tensor\",\"n\":0,\"value\":7",
         "tree-json", false},
        {"nnferry-tree", "nnferry-trex", "tree-json", false},
        {"\"source_id\":", "\"source_ix\":", "provenance-key", false},
        {"\"nnf1:a5", "\"nnf1:A5", "provenance-value", false},
        {"\"nnf1:a5", "\"nnc1:a5", "provenance-value", false},
        {"\"bytes\":1234", "\"bytes\":12.4", "provenance-value", false},
        {"\"bytes\":1234", "\"bytes\":1 34", "json-syntax", false},
        {"\"tensors\":\"changed\"", "\"tensors\":\"chanced\"", "provenance-value", false},
        {"\"tensors\":\"changed\"", "\"tensors\":\"same\"   ", "provenance-canonical", false},
        {"\"writer\":\"x\"", "\"writer\":\"y\"", "sums", false},
    };
    struct made x;
    struct archive_facts facts;
    struct err e;
    small(&x);
    write_one(&x, false, false, path_a);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rebuild(path_a, path_b, bad[i].find, bad[i].replace, bad[i].twice);
        enum status st = archive_verify(path_b, &facts, &e);
        if (st != ST_NO || !e.code || strcmp(e.code, bad[i].code) != 0)
            fail_msg("%s: status %d, code %s: %s", bad[i].find, (int)st, e.code ? e.code : "none",
                     e.reason);
    }
    unmake(&x);
}

/* "same" means that the digest is this model's, "changed" that it is not. */
static void claims(void **state)
{
    (void)state;
    struct made x;
    struct archive_facts facts;
    struct err e;
    uint8_t digest[3][32], id[32];
    small(&x);
    for (size_t i = 0; i < 3; i++) {
        const struct tensor *t = &x.m.tensor[i];
        uint64_t n;
        x.m.tensor[i].role = ROLE_PARAMETER;
        assert_true(tensor_bytes(t, &n));
        sha256_tree(x.data[t->alias_of >= 0 ? t->alias_of : (int64_t)i], (size_t)n, digest[i]);
    }
    assert_int_equal(x.m.n_tensors, 3);
    assert_int_equal(id_plain(&x.m, NULL, (const uint8_t(*)[32])digest, id, &e), ST_OK);
    for (int wrong = 0; wrong < 2; wrong++, id[31] ^= 1)
        for (int tensors = 0; tensors < ORIGIN_N; tensors++) {
            bool good =
                tensors == (wrong ? ORIGIN_CHANGED : ORIGIN_SAME) || tensors > ORIGIN_CHANGED;
            write_from(&x, false, false, id, (enum origin_tensors)tensors, path_a);
            assert_int_equal(archive_verify(path_a, &facts, &e), good ? ST_OK : ST_NO);
            if (!good)
                assert_string_equal(e.code, "source-id");
        }
    unmake(&x);
}

/* Values of fewer than eight bits, one a byte: nothing may hide above them. */
static void stray_bits(void **state)
{
    (void)state;
    static const enum dtype types[] = {DT_I2,        DT_U2,        DT_I4,       DT_U4,
                                       DT_F4_E2M1FN, DT_F6_E2M3FN, DT_F6_E3M2FN};
    static const char plain[] = "\1\2\3\3\2\1\3";
    const uint64_t dim[1] = {7};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (unsigned bit = dtype_info(types[i])->bits; bit < 8; bit++) {
            struct made x = {0};
            struct archive_facts facts;
            struct err e;
            char strange[sizeof plain];
            memcpy(strange, plain, sizeof plain);
            strange[i % 7] = (char)(strange[i % 7] | 1 << bit);
            model_init(&x.m);
            add(&x, "w", types[i], 1, dim);
            memcpy(x.data[0], plain, 7);
            write_one(&x, false, false, path_a);
            verify_ok(path_a);
            rebuild(path_a, path_b, plain, strange, false);
            assert_int_equal(archive_verify(path_b, &facts, &e), ST_NO);
            assert_string_equal(e.code, "stray-bits");
            assert_true(e.has_offset);
            unmake(&x);
        }
}

static void strangers(void **state)
{
    (void)state;
    struct archive_facts facts;
    struct err e;
    put_file(path_b, "", 0);
    assert_int_equal(archive_verify(path_b, &facts, &e), ST_INPUT);
    put_file(path_b, "hello", 5);
    assert_int_equal(archive_verify(path_b, &facts, &e), ST_INPUT);
    assert_string_equal(e.code, "unrecognised");
    assert_int_equal(archive_verify("/tmp/nnferry-not-there", &facts, &e), ST_INPUT);
    assert_int_equal(archive_verify("/tmp", &facts, &e), ST_INPUT);
}

static void cannot(void **state)
{
    (void)state;
    struct made x;
    struct err e;
    struct write_opt plain = {.plain = true}, planes = {0};
    const struct format *f = format_find(STR("archive"));
    const uint64_t two = 2;
    small(&x);
    assert_int_equal(f->check(&x.m, &plain, &e), ST_OK);
    add(&x, "c", DT_C128, 1, &two);
    assert_int_equal(f->check(&x.m, &planes, &e), ST_OK);
    assert_int_equal(f->check(&x.m, &plain, &e), ST_CANNOT);
    assert_string_equal(e.code, "dtype");
    attach(&x, "\xff", "", 0);
    assert_int_equal(f->check(&x.m, &planes, &e), ST_CANNOT);
    assert_string_equal(e.code, "not-utf8");
    x.m.n_attachments--;
    x.m.tree->child->key->kind = NODE_TUPLE;
    assert_int_equal(f->check(&x.m, &planes, &e), ST_CANNOT);
    assert_string_equal(e.code, "tree-key");
    unmake(&x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(plain_packs), cmocka_unit_test(blocks),
        cmocka_unit_test(pinned),     cmocka_unit_test(every_bit),   cmocka_unit_test(every_length),
        cmocka_unit_test(strangers),  cmocka_unit_test(cannot),      cmocka_unit_test(forged),
        cmocka_unit_test(claims),     cmocka_unit_test(stray_bits)};
    int fa = mkstemp(path_a), fb = mkstemp(path_b);
    if (fa < 0 || fb < 0)
        return 1;
    (void)close(fa);
    (void)close(fb);
    if (argc > 1) /* one test by its name */
        cmocka_set_test_filter(argv[1]);
    int failed = cmocka_run_group_tests(t, NULL, NULL);
    (void)unlink(path_a);
    (void)unlink(path_b);
    return failed;
}
