/* Tensor bundles, reading: the index is walked once, every entry is proved, and only then does the
 * model exist. See tf_checkpoint.c for the layout.
 */
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/sstable.h"
#include "format/tf.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 99999u /* as many as the names' five digits count */
#define ENTRIES_MAX 4194304u
#define GRAPH_MAX ((uint64_t)256 << 20)
#define VERSION 1 /* the newest reader's number that we know */

struct entry {
    struct str key;
    uint64_t at; /* in the index */
    uint64_t type, offset, size;
    uint32_t shard, crc;
    uint8_t n_dims;
    bool used; /* a slice: taken by its tensor */
    const uint64_t *dim;
    uint32_t n_slices, storage;
    const uint64_t *slice; /* n_slices times n_dims pairs lo, length (TF_FULL) */
};
struct bundle {
    struct model *m;
    const struct read_opt *opt;
    struct dir *dir;
    struct str stem;
    struct file *index;
    struct file **shard;
    uint32_t n_shards;
    bool big;
    struct buf list; /* struct entry, in the table's order */
    size_t n_sliced; /* keys of slices stand first */
    struct str graph;
    uint64_t graph_at; /* in its shard */
    uint32_t graph_shard;
    struct tf_graph g;
    struct tf_attr *known; /* g's values by key */
};

static struct entry *entries(const struct bundle *b)
{
    return (struct entry *)(void *)b->list.p;
}

static size_t n_entries(const struct bundle *b)
{
    return b->list.n / sizeof(struct entry);
}

static enum status bad(const struct bundle *b, const struct entry *x, struct err *e,
                       const char *code, const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(b->index), x->at);
    err_in(e, x->key.p, x->key.n);
    return ST_INPUT;
}

/* ---- the index ---- */

static enum status read_header(struct bundle *b, const struct sstable *t, struct err *e)
{
    struct cursor c;
    struct proto m, v;
    uint64_t n = 0, endian = 0, consumer = 0;
    cur_mem(&c, t->value.p, t->value.n, file_path(b->index), t->at);
    proto_init(&m, &c, c.end);
    while (proto_next(&m)) {
        if (m.field == 1)
            n = proto_u64(&m);
        else if (m.field == 2)
            endian = proto_u64(&m);
        else if (m.field == 3 && proto_sub(&m, &v))
            while (proto_next(&v))
                if (v.field == 2)
                    consumer = proto_u64(&v);
    }
    if (!cur_failed(&c) && (n == 0 || n > SHARDS_MAX))
        (void)cur_fail(&c, 0, "tf-header", "a bundle of %llu shards", (unsigned long long)n);
    if (!cur_failed(&c) && endian > 1)
        (void)cur_fail(&c, 0, "tf-header", "no byte order is numbered %llu",
                       (unsigned long long)endian);
    if (!cur_failed(&c) && consumer > VERSION)
        (void)cur_fail(&c, 0, "tf-version", "written for readers of version %llu and later",
                       (unsigned long long)consumer);
    b->n_shards = (uint32_t)n;
    b->big = endian == 1;
    return cur_ok(&c, e);
}

/* Slices are kept as pairs in one array that grows. */
static enum status add_slice(struct proto *m, const struct entry *x, struct buf *pairs,
                             struct err *e)
{
    struct tf_slice s;
    TRY(tf_slice(m, &s, e));
    if (x->n_slices && s.n != pairs->n / (16 * (size_t)x->n_slices))
        (void)proto_fail(m, "tf-slice", "slices of different ranks");
    TRY(cur_ok(m->c, e));
    for (size_t i = 0; i < s.n; i++) {
        buf_bytes(pairs, &s.lo[i], 8);
        buf_bytes(pairs, &s.len[i], 8);
    }
    return buf_ok(pairs, e);
}

static enum status read_fields(struct bundle *b, struct entry *x, struct cursor *c,
                               struct buf *pairs, struct err *e)
{
    struct proto m;
    struct tf_shape shape = {0};
    uint64_t shard = 0;
    proto_init(&m, c, c->end);
    while (proto_next(&m)) {
        switch (m.field) {
        case 1:
            x->type = proto_u64(&m);
            break;
        case 2:
            TRY(tf_shape(&m, &shape, e));
            break;
        case 3:
            shard = proto_u64(&m);
            break;
        case 4:
            x->offset = proto_u64(&m);
            break;
        case 5:
            x->size = proto_u64(&m);
            break;
        case 6:
            x->crc = proto_fixed32(&m);
            break;
        case 7:
            TRY(add_slice(&m, x, pairs, e));
            x->n_slices++;
            break;
        default:
            break;
        }
    }
    if (!cur_failed(c) && shard >= b->n_shards)
        (void)cur_fail(c, 0, "tf-shard", "shard %llu of %u", (unsigned long long)shard,
                       (unsigned)b->n_shards);
    if (!cur_failed(c) && x->n_slices && pairs->n != 16 * shape.n * x->n_slices)
        (void)cur_fail(c, 0, "tf-slice", "slices of another rank than their tensor");
    TRY(cur_ok(c, e));
    x->shard = (uint32_t)shard;
    x->n_dims = (uint8_t)shape.n;
    uint64_t *keep = ARENA_ARRAY(&b->m->arena, uint64_t, shape.n + pairs->n / 8 + 1);
    if (!keep)
        return err_nomem(e, pairs->n);
    memcpy(keep, shape.dim, shape.n * sizeof *keep);
    if (pairs->n)
        memcpy(keep + shape.n, pairs->p, pairs->n);
    x->dim = keep;
    x->slice = keep + shape.n;
    return ST_OK;
}

static enum status read_entry(struct bundle *b, const struct sstable *t, struct err *e)
{
    struct entry x = {.at = t->at};
    struct cursor c;
    struct buf pairs = BUF_INIT;
    if (n_entries(b) == ENTRIES_MAX) {
        (void)err_set(e, ST_INPUT, "too-many-tensors", "more than %u entries", ENTRIES_MAX);
        err_at(e, file_path(b->index), t->at);
        return ST_INPUT;
    }
    x.key = arena_str(&b->m->arena, t->key.p, t->key.n);
    if (!x.key.p)
        return err_nomem(e, t->key.n);
    cur_mem(&c, t->value.p, t->value.n, file_path(b->index), t->at);
    enum status st = read_fields(b, &x, &c, &pairs, e);
    buf_free(&pairs);
    if (st != ST_OK) {
        err_in(e, x.key.p, x.key.n);
        return st;
    }
    b->n_sliced += x.key.p[0] == 0;
    buf_bytes(&b->list, &x, sizeof x);
    return buf_ok(&b->list, e);
}

static enum status read_table(struct bundle *b, struct sstable *t, struct err *e)
{
    bool more;
    TRY(sstable_open(t, b->index, e));
    TRY(sstable_next(t, &more, e));
    if (!more || t->key.n != 0) {
        (void)err_set(e, ST_INPUT, "tf-header", "the table has no entry for the bundle itself");
        err_at(e, file_path(b->index), 0);
        return ST_INPUT;
    }
    TRY(read_header(b, t, e));
    for (;;) {
        TRY(sstable_next(t, &more, e));
        if (!more)
            return ST_OK;
        TRY(read_entry(b, t, e));
    }
}

/* ---- places ---- */

/* Opens the shard of x once. A failure names the entry, and the shard as its subject. */
static enum status shard_file(struct bundle *b, const struct entry *x, struct file **f,
                              struct err *e)
{
    uint32_t i = x->shard;
    *f = b->shard[i];
    if (*f)
        return ST_OK;
    struct str name = arena_fmt(&b->m->arena, "%.*s.data-%05u-of-%05u", STR_ARG(b->stem),
                                (unsigned)i, (unsigned)b->n_shards);
    if (!name.p)
        return err_nomem(e, b->stem.n);
    enum status st = dir_file(b->dir, name, f, e);
    if (st != ST_OK) {
        if (e)
            e->file[0] = 0;
        err_at(e, file_path(b->index), x->at);
        err_in(e, name.p, name.n);
        return st;
    }
    TRY(model_own_file(b->m, *f, e));
    b->shard[i] = *f;
    return ST_OK;
}

/* Shape and dtype make the size, and the bytes lie in the shard. */
static enum status prove_entry(struct bundle *b, const struct entry *x, struct err *e)
{
    struct tf_type type;
    struct file *f;
    uint64_t elems, bytes;
    if (!tf_elems(x->dim, x->n_dims, &elems))
        return bad(b, x, e, "shape-overflow", "the product of the shape is too large");
    bool plain = tf_type(x->type, &type);
    if (!plain && x->type != TF_STRING && x->type != TF_VARIANT) {
        (void)err_set(e, ST_INPUT, "unknown-dtype", "element type %llu (%s) cannot be read",
                      (unsigned long long)x->type, tf_type_name(x->type));
        err_at(e, file_path(b->index), x->at);
        err_in(e, x->key.p, x->key.n);
        return ST_INPUT;
    }
    if (x->n_slices)
        return plain ? ST_OK : bad(b, x, e, "tf-slice", "slices of a tensor of strings");
    size_t width = !plain ? 0 : type.unpacked ? 1 : dtype_bytes(type.dtype);
    if (plain && (!mul_u64(elems, width, &bytes) || bytes != x->size))
        return bad(b, x, e, "size-mismatch", "shape and dtype need another number of bytes");
    if (!plain && elems > x->size)
        return bad(b, x, e, "tf-string", "more strings than bytes");
    TRY(shard_file(b, x, &f, e));
    if (!range_in(x->offset, x->size, file_size(f))) {
        (void)err_set(e, ST_INPUT, "truncated",
                      "%llu bytes from %llu on do not lie in the shard of %llu",
                      (unsigned long long)x->size, (unsigned long long)x->offset,
                      (unsigned long long)file_size(f));
        err_at(e, file_path(f), x->offset < file_size(f) ? x->offset : file_size(f));
        err_in(e, x->key.p, x->key.n);
        return ST_INPUT;
    }
    return ST_OK;
}

/* Slices' keys begin with a zero: they stand in the front of the list. */
static bool is_slice(const struct bundle *b, const struct entry *x)
{
    return x < entries(b) + b->n_sliced;
}

static int by_place(const void *pa, const void *pb)
{
    const struct entry *a = *(struct entry *const *)pa, *b = *(struct entry *const *)pb;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return str_cmp(a->key, b->key);
}

/* One storage per place; two places are the same or apart. */
static enum status make_storages(struct bundle *b, struct err *e)
{
    size_t n = 0, all = n_entries(b);
    struct entry **list = mem_zalloc(all + 1, sizeof *list), *last = NULL;
    if (!list)
        return err_nomem(e, all * sizeof *list);
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < all; i++) {
        struct entry *x = &entries(b)[i];
        st = prove_entry(b, x, e);
        if (!x->n_slices)
            list[n++] = x;
    }
    if (n)
        qsort(list, n, sizeof *list, by_place);
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        struct entry *x = list[i];
        struct storage *s;
        bool near = last && last->shard == x->shard && x->size, slice = is_slice(b, x);
        if (near && last->offset == x->offset && last->size == x->size && !slice &&
            !is_slice(b, last)) {
            x->storage = last->storage;
            continue;
        }
        if (near && x->offset < last->offset + last->size)
            st = bad(b, x, e, "tf-overlap", "two entries share some of their bytes");
        last = x->size ? x : last;
        if (slice)
            continue;
        if (st == ST_OK)
            st = model_storage_add(b->m, &s, &x->storage, e);
        if (st != ST_OK)
            break;
        *s = (struct storage){.kind = STORAGE_FLAT,
                              .file = b->shard[x->shard],
                              .offset = x->offset,
                              .stored_bytes = x->size,
                              .raw_bytes = x->size,
                              .big_endian = b->big};
    }
    mem_free(list);
    return st;
}

static enum status check_sums(const struct bundle *b, struct err *e)
{
    for (size_t i = 0; !b->opt->quick && i < n_entries(b); i++) {
        const struct entry *x = &entries(b)[i];
        uint32_t sum;
        if (x->n_slices || x->type == TF_STRING || x->type == TF_VARIANT)
            continue;
        TRY(tf_sum(b->shard[x->shard], x->offset, x->size, &sum, e));
        if (sum != x->crc) {
            (void)err_set(e, ST_INPUT, "tf-sum", "the tensor's checksum does not fit its bytes");
            err_at(e, file_path(b->shard[x->shard]), x->offset);
            err_in(e, x->key.p, x->key.n);
            return ST_INPUT;
        }
    }
    return ST_OK;
}

/* ---- tensors ---- */

/* ---- names ---- */

static int by_attr_key(const void *x, const void *y)
{
    return str_cmp(((const struct tf_attr *)x)->key, ((const struct tf_attr *)y)->key);
}

/* The graph, and its values by key. */
static enum status read_graph(struct bundle *b, struct err *e)
{
    struct arena *a = &b->m->arena;
    if (!b->graph.p)
        return ST_OK;
    TRY(tf_graph_read(b->graph, file_path(b->shard[b->graph_shard]), b->graph_at, a, &b->g, e));
    b->known = ARENA_ARRAY(a, struct tf_attr, b->g.n_attrs + 1);
    if (!b->known)
        return err_nomem(e, b->g.n_attrs * sizeof *b->known);
    if (b->g.n_attrs) {
        memcpy(b->known, b->g.attr, b->g.n_attrs * sizeof *b->known);
        qsort(b->known, b->g.n_attrs, sizeof *b->known, by_attr_key);
    }
    return ST_OK;
}

static enum status name_of(struct bundle *b, const struct entry *x, struct str *name, struct err *e)
{
    struct tf_attr want = {.key = x->key};
    const struct tf_attr *k =
        b->g.n_attrs ? bsearch(&want, b->known, b->g.n_attrs, sizeof want, by_attr_key) : NULL;
    if (!k)
        return tf_name(x->key, b->graph.p != NULL, &b->m->arena, name, e);
    *name = k->tensor;
    return ST_OK;
}

static enum status add_tensor(struct bundle *b, const struct entry *x, uint32_t storage,
                              struct err *e)
{
    struct tensor t = {.storage = storage, .of = -1, .alias_of = -1, .requires_grad = true}, *out;
    struct tf_type type;
    if (!tf_type(x->type, &type))
        return err_set(e, ST_BUG, "tf-type", "no array");
    t.dtype = type.dtype;
    t.unpacked = type.unpacked;
    t.note = str_from(type.note);
    t.decl = b->index;
    t.offset = x->at;
    t.order = b->m->n_tensors;
    TRY(name_of(b, x, &t.name, e));
    TRY(tensor_set_shape(b->m, &t, x->dim, x->n_dims, e));
    TRY(model_tensor_add(b->m, &out, e));
    *out = t;
    return ST_OK;
}

/* A slice's bytes, wherever they are. */
struct part {
    struct file *f;
    uint64_t offset;
    const uint64_t *box;
};

static enum status where(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                         uint64_t *held, struct err *e)
{
    const struct part *p = s->priv;
    (void)e;
    for (size_t d = 0; d < s->grid->n_dims; d++) {
        lo[d] = p[t].box[2 * d];
        n[d] = held[d] = p[t].box[2 * d + 1];
    }
    return ST_OK;
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct part *p = (const struct part *)s->priv + t;
    uint64_t bytes = s->grid->elem_bytes;
    (void)scratch;
    for (size_t d = 0; d < s->grid->n_dims; d++)
        bytes *= p->box[2 * d + 1];
    return file_pread(p->f, dst, (size_t)bytes, p->offset, e);
}

static const struct decoder slices = {.name = "slices", .tile = tile};

static struct entry *find_slice(const struct bundle *b, struct str key)
{
    size_t lo = 0, hi = b->n_sliced;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(entries(b)[mid].key, key);
        if (c == 0)
            return &entries(b)[mid];
        *(c < 0 ? &lo : &hi) = c < 0 ? mid + 1 : mid;
    }
    return NULL;
}

/* The entry of slice i of x, and its box in whole numbers. */
static enum status take_slice(struct bundle *b, const struct entry *x, size_t i, uint64_t *box,
                              struct entry **out, struct err *e)
{
    struct buf key = BUF_INIT;
    uint64_t lo[VIEW_MAX_AXES], len[VIEW_MAX_AXES];
    for (size_t d = 0; d < x->n_dims; d++) {
        lo[d] = x->slice[2 * (x->n_dims * i + d)];
        len[d] = x->slice[2 * (x->n_dims * i + d) + 1];
        box[2 * d] = lo[d];
        box[2 * d + 1] = len[d] == TF_FULL ? x->dim[d] : len[d];
    }
    tf_slice_key(&key, x->key, x->n_dims, lo, len);
    enum status st = buf_ok(&key, e);
    struct entry *y = st == ST_OK ? find_slice(b, buf_as_str(&key)) : NULL;
    buf_free(&key);
    TRY(st);
    if (!y)
        return bad(b, x, e, "tf-slice", "a slice of the tensor has no entry");
    bool same = y->type == x->type && y->n_dims == x->n_dims && !y->n_slices;
    for (size_t d = 0; same && d < x->n_dims; d++)
        same = y->dim[d] == box[2 * d + 1];
    if (!same)
        return bad(b, y, e, "tf-slice", "the slice has another type or shape than its tensor says");
    if (y->used)
        return bad(b, y, e, "tf-slice", "the slice is used twice");
    y->used = true;
    *out = y;
    return ST_OK;
}

static enum status add_sliced(struct bundle *b, const struct entry *x, struct err *e)
{
    struct arena *a = &b->m->arena;
    size_t n_dims = x->n_dims, n = 0;
    struct tile_grid *g = ARENA_NEW(a, struct tile_grid);
    struct part *p = ARENA_ARRAY(a, struct part, x->n_slices);
    uint64_t *box = ARENA_ARRAY(a, uint64_t, 2 * n_dims * x->n_slices + 1), raw, most = 0;
    struct tf_type type;
    struct storage *s;
    uint32_t index;
    const char *why;
    if (!g || !p || !box)
        return err_nomem(e, x->n_slices * sizeof *p);
    if (n_dims == 0 || !tf_type(x->type, &type))
        return bad(b, x, e, "tf-slice", "slices of a tensor without axes");
    for (size_t i = 0; i < x->n_slices; i++) {
        struct entry *y;
        TRY(take_slice(b, x, i, box + 2 * n_dims * i, &y, e));
        if (y->size == 0)
            continue;
        p[n++] = (struct part){b->shard[y->shard], y->offset, box + 2 * n_dims * i};
        most = y->size > most ? y->size : most;
    }
    TRY(tf_boxes(n_dims, x->dim, x->n_slices, box, &why, e));
    if (why)
        return bad(b, x, e, "tf-slice", why);
    size_t width = type.unpacked ? 1 : dtype_bytes(type.dtype);
    if (!prod_u64(x->dim, n_dims, &raw) || !mul_u64(raw, width, &raw))
        return bad(b, x, e, "shape-overflow", "the product of the shape is too large");
    *g = (struct tile_grid){.n_dims = (uint8_t)n_dims,
                            .elem_bytes = width,
                            .dim = x->dim,
                            .covers = true,
                            .where = where};
    TRY(model_storage_add(b->m, &s, &index, e));
    *s = (struct storage){.kind = raw ? STORAGE_TILED : STORAGE_MEMORY,
                          .file = raw ? p[0].f : NULL,
                          .stored_bytes = raw,
                          .raw_bytes = raw,
                          .mem = (const uint8_t *)"",
                          .big_endian = b->big,
                          .n_tiles = n,
                          .tile_bytes = most,
                          .grid = raw ? g : NULL,
                          .dec = raw ? &slices : NULL,
                          .priv = p};
    return add_tensor(b, x, index, e);
}

/* ---- strings ---- */

static enum status load_graph(struct bundle *b, const struct tf_strings *s, const struct entry *x,
                              struct err *e)
{
    uint64_t n = s->offset + s->size - s->body;
    if (x->n_dims != 0 || x->type != TF_STRING)
        return bad(b, x, e, "tf-graph", "the object graph is not one string");
    if (n > GRAPH_MAX)
        return bad(b, x, e, "tf-graph", "the object graph is larger than 256 MiB");
    uint8_t *p = arena_alloc(&b->m->arena, 1, (size_t)n + 1);
    if (!p)
        return err_nomem(e, n);
    TRY(file_pread(s->f, p, (size_t)n, s->body, e));
    b->graph = (struct str){(const char *)p, (size_t)n};
    b->graph_at = s->body;
    b->graph_shard = x->shard;
    return ST_OK;
}

/* One string is attached as it is; several, and variants, as they are stored. */
static enum status attach(struct bundle *b, const struct entry *x, const struct tf_strings *s,
                          struct err *e)
{
    struct arena *a = &b->m->arena;
    struct attachment *at;
    bool one = x->type == TF_STRING && x->n_dims == 0;
    struct buf type = BUF_INIT;
    if (str_find(x->key, 0, 0) < x->key.n)
        return bad(b, x, e, "bad-name", "the key holds a NUL");
    if (one)
        buf_z(&type, TF_ONE_STRING);
    else
        tf_stored_type(&type, tf_type_name(x->type), x->crc, x->dim, x->n_dims);
    enum status st = buf_ok(&type, e);
    if (st == ST_OK)
        st = model_attach(b->m, &at, e);
    if (st == ST_OK) {
        at->name = arena_fmt(a, TF_STRINGS "%.*s", STR_ARG(x->key));
        at->media_type = arena_str(a, type.p, type.n);
        at->file = b->shard[x->shard];
        at->offset = one ? s->body : x->offset;
        at->n_bytes = x->offset + x->size - at->offset;
        st = at->name.p && at->media_type.p ? ST_OK : err_nomem(e, x->key.n);
    }
    buf_free(&type);
    return st;
}

static enum status read_strings(struct bundle *b, const struct entry *x, struct err *e)
{
    bool graph = str_is(x->key, TF_GRAPH_KEY);
    struct tf_strings s = {.f = b->shard[x->shard],
                           .offset = x->offset,
                           .size = x->size,
                           .crc = x->crc,
                           .big = b->big};
    if (!prod_u64(x->dim, x->n_dims, &s.n))
        return bad(b, x, e, "shape-overflow", "the product of the shape is too large");
    enum status st =
        x->type == TF_STRING ? tf_strings_check(&s, !b->opt->quick || graph, e) : ST_OK;
    if (st != ST_OK) {
        err_in(e, x->key.p, x->key.n);
        return st;
    }
    if (graph)
        return load_graph(b, &s, x, e);
    if (b->opt->weights_only)
        return ST_OK;
    if (b->big && !(x->type == TF_STRING && x->n_dims == 0)) {
        log_warn("%s: '%.*s' is left aside: strings in the byte order of another machine",
                 file_path(b->index), STR_ARG(x->key));
        return ST_OK;
    }
    return attach(b, x, &s, e);
}

static enum status attach_graph(struct bundle *b, struct err *e)
{
    struct attachment *at;
    if (!b->graph.p || b->opt->weights_only)
        return ST_OK;
    TRY(model_attach(b->m, &at, e));
    *at = (struct attachment){.name = STR(TF_GRAPH_NAME),
                              .media_type = STR("application/x-protobuf"),
                              .n_bytes = b->graph.n,
                              .mem = (const uint8_t *)b->graph.p};
    return ST_OK;
}

static enum status make_tensors(struct bundle *b, struct err *e)
{
    for (int strings = 1; strings >= 0; strings--) { /* the graph says how keys are read */
        if (!strings)
            TRY(read_graph(b, e));
        for (size_t i = 0; i < n_entries(b); i++) {
            const struct entry *x = &entries(b)[i];
            if (strings != (x->type == TF_STRING || x->type == TF_VARIANT))
                continue;
            if (strings)
                TRY(read_strings(b, x, e));
            else if (x->n_slices)
                TRY(add_sliced(b, x, e));
            else if (i >= b->n_sliced)
                TRY(add_tensor(b, x, x->storage, e));
        }
    }
    for (size_t i = 0; i < b->n_sliced; i++)
        if (!entries(b)[i].used)
            return bad(b, &entries(b)[i], e, "tf-slice", "a slice of no tensor");
    return ST_OK;
}

static enum status read_all(struct bundle *b, struct err *e)
{
    b->shard = ARENA_ARRAY(&b->m->arena, struct file *, b->n_shards);
    if (!b->shard)
        return err_nomem(e, b->n_shards * sizeof *b->shard);
    TRY(make_storages(b, e));
    TRY(check_sums(b, e));
    TRY(make_tensors(b, e));
    TRY(attach_graph(b, e));
    TRY(model_finish(b->m, e));
    TRY(roles_by_name(b->m, e));
    return b->graph.p ? tf_graph_roles(&b->g, b->m, e) : ST_OK;
}

enum status tf_bundle_read(struct dir *dir, struct str stem, struct file *index,
                           const struct read_opt *opt, struct model *m, struct err *e)
{
    struct bundle b = {.m = m, .opt = opt, .dir = dir, .stem = stem, .index = index};
    struct sstable t;
    TRY(model_own_file(m, index, e));
    m->framework = STR("tensorflow");
    enum status st = read_table(&b, &t, e);
    sstable_close(&t);
    if (st == ST_OK)
        st = read_all(&b, e);
    buf_free(&b.list);
    return st;
}
