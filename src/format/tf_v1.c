/* Checkpoints of version 1: everything in the table itself. Read only.
 *
 *   key ""      SavedTensorSlices {1 meta {1 tensor {1 name, 2 shape, 3 type, 4 slice ...} ...}}
 *   other keys  (a slice's, as in a bundle) SavedTensorSlices {2 data {1 name, 2 slice, 3
 * TensorProto}} One file, or PATH-00000-of-00003 ...: each with a meta of its own, a tensor's
 * slices spread over them. Source: core/util/saved_tensor_slice.proto, saved_tensor_slice_util.cc.
 *
 * A value is had by reading its block, all of it. So the tensors of one slice share a storage with
 * the others of their block: one tile, decoded once, their values one behind the other. The slices
 * of a tensor in several are tiles of its own, each of which reads its block; where many small ones
 * would share a block (no writer does that), that is refused: tf-slices.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/sstable.h"
#include "format/tf.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 1000u
#define ITEMS_MAX 1048576u
#define PLACE 16u /* of a value in its block's storage */
/* Bytes of blocks read for slices, beyond SLICES_RATIO times what the shards hold. */
#define SLICES_FREE (UINT64_C(64) << 20)
#define SLICES_RATIO 16

/* A tensor as one shard's meta has it. */
struct item {
    struct str name;
    uint64_t type, at;
    uint32_t shard, n_slices;
    uint8_t n_dims;
    const uint64_t *dim, *slice;
};
/* One slice: what a tile's decoder needs. */
struct part {
    struct file *f;
    struct sstable_handle block;
    struct str key;
    const uint64_t *box;
    uint64_t elems;
    enum dtype dtype;
    /* of a whole tensor: its number (strings: their item's), and where it lies in the storage */
    uint32_t number;
    uint64_t at, n_bytes;
};
/* The whole tensors in a block, by key: what the decoder of its one tile needs. */
struct together {
    const struct part *part;
    size_t n;
};
struct shard {
    struct file *f;
    struct buf blocks; /* struct block */
};
struct block {
    struct sstable_handle h;
    struct str last; /* the index key */
};
struct v1 {
    struct model *m;
    const struct read_opt *opt;
    struct shard *shard;
    uint32_t n_shards;
    struct buf list;           /* struct item */
    struct buf whole, strings; /* struct part, of tensors of one slice */
    uint64_t slice_bytes;      /* of blocks, one for each slice of the other tensors */
};

static enum status bad(const struct v1 *v, const struct item *x, struct err *e, const char *code,
                       const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(v->shard[x->shard].f), x->at);
    err_in(e, x->name.p, x->name.n);
    return ST_INPUT;
}

/* ---- meta ---- */

static enum status add_slice(const struct proto *m, uint32_t n_slices, struct buf *pairs,
                             struct err *e)
{
    struct tf_slice s;
    TRY(tf_slice(m, &s, e));
    if (pairs->n != 16 * s.n * n_slices)
        (void)proto_fail(m, "tf-slice", "slices of different ranks");
    for (size_t i = 0; i < s.n; i++) {
        buf_bytes(pairs, &s.lo[i], 8);
        buf_bytes(pairs, &s.len[i], 8);
    }
    TRY(cur_ok(m->c, e));
    return buf_ok(pairs, e);
}

static enum status read_fields(struct v1 *v, const struct proto *field, struct item *x,
                               struct tf_shape *shape, struct buf *pairs, struct err *e)
{
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 1)
            x->name = proto_str(&m, &v->m->arena);
        else if (m.field == 2)
            TRY(tf_shape(&m, shape, e));
        else if (m.field == 3)
            x->type = proto_u64(&m);
        else if (m.field == 4)
            TRY(add_slice(&m, x->n_slices++, pairs, e));
    }
    if (!cur_failed(field->c) && (x->n_slices == 0 || pairs->n != 16 * shape->n * x->n_slices))
        (void)proto_fail(field, "tf-slice", "slices of another rank than their tensor");
    if (!cur_failed(field->c) && v->list.n / sizeof *x == ITEMS_MAX)
        (void)proto_fail(field, "too-many-tensors", "more than %u tensors", ITEMS_MAX);
    return cur_ok(field->c, e);
}

static enum status read_item(struct v1 *v, const struct proto *field, uint32_t shard, struct err *e)
{
    struct item x = {.shard = shard, .at = field->c->base + field->at, .name = STR("")};
    struct tf_shape shape = {0};
    struct buf pairs = BUF_INIT;
    enum status st = read_fields(v, field, &x, &shape, &pairs, e);
    uint64_t *keep = ARENA_ARRAY(&v->m->arena, uint64_t, shape.n + pairs.n / 8 + 1);
    if (keep) {
        memcpy(keep, shape.dim, shape.n * sizeof *keep);
        if (pairs.n)
            memcpy(keep + shape.n, pairs.p, pairs.n);
        x.n_dims = (uint8_t)shape.n;
        x.dim = keep;
        x.slice = keep + shape.n;
        buf_bytes(&v->list, &x, sizeof x);
    } else if (st == ST_OK) {
        st = err_nomem(e, pairs.n);
    }
    buf_free(&pairs);
    return st == ST_OK ? buf_ok(&v->list, e) : st;
}

static enum status read_meta(struct v1 *v, const struct sstable *t, uint32_t shard, struct err *e)
{
    struct cursor c;
    struct proto top, meta;
    cur_mem(&c, t->value.p, t->value.n, file_path(t->f), t->at);
    proto_init(&top, &c, c.end);
    while (proto_next(&top)) {
        if (top.field != 1 || !proto_sub(&top, &meta))
            continue;
        while (proto_next(&meta))
            if (meta.field == 1) {
                enum status st = read_item(v, &meta, shard, e);
                if (st != ST_OK) {
                    err_at(e, file_path(t->f), t->at);
                    return st;
                }
            }
    }
    return cur_ok(&c, e);
}

static enum status read_blocks(struct v1 *v, struct shard *s, struct err *e)
{
    struct sstable t;
    bool more = true;
    enum status st = sstable_open(&t, s->f, e);
    while (st == ST_OK && more) {
        st = sstable_next_block(&t, &more, e);
        if (st != ST_OK || !more)
            break;
        struct block b = {t.in, arena_str(&v->m->arena, t.key.p, t.key.n)};
        buf_bytes(&s->blocks, &b, sizeof b);
        st = b.last.p ? buf_ok(&s->blocks, e) : err_nomem(e, t.key.n);
    }
    sstable_close(&t);
    return st;
}

static enum status read_shard(struct v1 *v, uint32_t i, struct err *e)
{
    struct sstable t;
    bool more;
    enum status st = sstable_open(&t, v->shard[i].f, e);
    if (st == ST_OK)
        st = sstable_next(&t, &more, e);
    if (st == ST_OK && (!more || t.key.n != 0)) {
        st = err_set(e, ST_INPUT, "tf-header", "the table has no entry for the checkpoint itself");
        err_at(e, file_path(v->shard[i].f), 0);
    }
    if (st == ST_OK)
        st = read_meta(v, &t, i, e);
    sstable_close(&t);
    return st == ST_OK ? read_blocks(v, &v->shard[i], e) : st;
}

/* ---- values ---- */

/* The TensorProto in a slice's value: *m is its field. */
static enum status find_tensor(struct cursor *c, struct proto *m, struct err *e)
{
    struct proto top;
    bool found = false;
    proto_init(&top, c, c->end);
    while (!found && proto_next(&top)) {
        if (top.field != 2 || !proto_sub(&top, m))
            continue;
        while (!found && proto_next(m))
            found = m->field == 3;
    }
    if (!found && !cur_failed(c))
        (void)cur_fail(c, 0, "tf-values", "the slice has no tensor");
    return cur_ok(c, e);
}

typedef enum status use_fn(void *ctx, const struct part *p, const struct proto *field,
                           struct err *e);

/* Hands the TensorProtos of n parts to use, all of one block and by key; the block is read once. */
static enum status with_values(const struct part *p, size_t n, use_fn *use, void *ctx,
                               struct err *e)
{
    struct sstable_block b;
    struct sstable_walk w;
    bool more = true;
    size_t i = 0;
    TRY(sstable_load(p->f, p->block, &b, e));
    sstable_walk_init(&w, p->f, &b);
    enum status st = sstable_walk_next(&w, &more, e);
    while (st == ST_OK && more && i < n) {
        struct cursor c;
        struct proto m;
        if (str_eq(buf_as_str(&w.key), p[i].key)) {
            cur_mem(&c, w.value.p, w.value.n, file_path(p->f), w.at);
            st = find_tensor(&c, &m, e);
            if (st == ST_OK)
                st = use(ctx, &p[i++], &m, e);
        }
        if (st == ST_OK)
            st = sstable_walk_next(&w, &more, e);
    }
    if (st == ST_OK && i < n) {
        st = err_set(e, ST_INPUT, "tf-slice", "a slice has no entry");
        err_at(e, file_path(p->f), p->block.at);
    }
    sstable_walk_free(&w);
    sstable_block_free(&b);
    return st;
}

static enum status decode(void *ctx, const struct part *p, const struct proto *field, struct err *e)
{
    struct tf_values v;
    TRY(tf_values_read(field, &v, e));
    return tf_values_decode(field, &v, p->dtype, p->elems, (uint8_t *)ctx + p->at, e);
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    (void)scratch;
    return with_values((const struct part *)s->priv + t, 1, decode, dst, e);
}

static enum status tile_of_block(const struct storage *s, uint64_t t, void *dst, void *scratch,
                                 struct err *e)
{
    const struct together *x = s->priv;
    (void)t;
    (void)scratch;
    memset(dst, 0, (size_t)s->raw_bytes); /* what lies between */
    return with_values(x->part, x->n, decode, dst, e);
}

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

static enum status where_block(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                               uint64_t *held, struct err *e)
{
    (void)t;
    (void)e;
    lo[0] = 0;
    n[0] = held[0] = s->raw_bytes;
    return ST_OK;
}

static const struct decoder values = {.name = "tensor-protos", .tile = tile};
static const struct decoder block_values = {.name = "tensor-protos", .tile = tile_of_block};

/* ---- tensors ---- */

static int by_name(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    int c = str_cmp(a->name, b->name);
    return c ? c : a->shard < b->shard ? -1 : a->shard > b->shard;
}

static enum status find_block(const struct v1 *v, const struct item *x, struct part *p,
                              struct err *e)
{
    const struct shard *s = &v->shard[x->shard];
    const struct block *list = (const struct block *)(const void *)s->blocks.p;
    size_t lo = 0, hi = s->blocks.n / sizeof *list;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        *(str_cmp(list[mid].last, p->key) < 0 ? &lo : &hi) =
            str_cmp(list[mid].last, p->key) < 0 ? mid + 1 : mid;
    }
    if (lo == s->blocks.n / sizeof *list)
        return bad(v, x, e, "tf-slice", "a slice has no entry");
    p->f = s->f;
    p->block = list[lo].h;
    return ST_OK;
}

/* Parts of all slices of the n items, which are of one tensor. */
static enum status add_parts(struct v1 *v, const struct item *x, size_t n, enum dtype dtype,
                             struct part *p, uint64_t *box, size_t *n_parts, struct err *e)
{
    size_t n_dims = x->n_dims, width = n_dims ? n_dims : 1;
    *n_parts = 0;
    for (size_t k = 0; k < n; k++) {
        const struct item *y = &x[k];
        bool same = y->type == x->type && y->n_dims == x->n_dims;
        for (size_t d = 0; same && d < n_dims; d++)
            same = y->dim[d] == x->dim[d];
        if (!same)
            return bad(v, y, e, "tf-slice", "two shards disagree about the tensor");
        for (size_t i = 0; i < y->n_slices; i++, (*n_parts)++) {
            struct part *q = &p[*n_parts];
            uint64_t *b = box + 2 * width * *n_parts, lo[VIEW_MAX_AXES], len[VIEW_MAX_AXES];
            struct buf key = BUF_INIT;
            *q = (struct part){.box = b, .dtype = dtype, .elems = 1};
            b[0] = 0;
            b[1] = 1;
            for (size_t d = 0; d < n_dims; d++) {
                b[2 * d] = lo[d] = y->slice[2 * (n_dims * i + d)];
                len[d] = y->slice[2 * (n_dims * i + d) + 1];
                b[2 * d + 1] = len[d] == TF_FULL ? y->dim[d] : len[d];
            }
            tf_slice_key(&key, y->name, n_dims, lo, len);
            q->key = arena_str(&v->m->arena, key.p, key.n);
            bool failed = key.failed || !q->key.p;
            buf_free(&key);
            if (failed)
                return err_nomem(e, 64);
            TRY(find_block(v, y, q, e));
        }
    }
    return ST_OK;
}

/* Strings are read when the table is; many at once where they share a block. */
static enum status attach(void *ctx, const struct part *p, const struct proto *field, struct err *e)
{
    struct v1 *a = ctx;
    const struct item *x = (const struct item *)(const void *)a->list.p + p->number;
    struct tf_values v;
    TRY(tf_values_read(field, &v, e));
    v.shape.n = x->n_dims;
    memcpy(v.shape.dim, x->dim, v.shape.n * sizeof *v.shape.dim);
    return tf_values_attach(field, &v, x->name, a->m, e);
}

static enum status add_strings(struct v1 *v, const struct item *x, struct part *p, size_t n,
                               struct err *e)
{
    if (v->opt->weights_only)
        return ST_OK;
    if (n != 1)
        return bad(v, x, e, "tf-slice", "slices of a tensor of strings");
    p->number = (uint32_t)(x - (const struct item *)(const void *)v->list.p);
    buf_bytes(&v->strings, p, sizeof *p);
    return buf_ok(&v->strings, e);
}

/* A tensor of one slice: its storage comes with the others of the block. */
static enum status add_whole(struct v1 *v, struct part *p, uint64_t raw, struct err *e)
{
    p->number = (uint32_t)v->m->n_tensors;
    p->n_bytes = raw;
    buf_bytes(&v->whole, p, sizeof *p);
    return buf_ok(&v->whole, e);
}

static int by_block(const void *pa, const void *pb)
{
    const struct part *a = pa, *b = pb;
    if (a->f != b->f)
        return strcmp(file_path(a->f), file_path(b->f));
    return a->block.at != b->block.at ? (a->block.at < b->block.at ? -1 : 1)
                                      : str_cmp(a->key, b->key);
}

/* The parts in b by block and key; how many from p on share its block. */
static size_t sort_parts(struct buf *b, struct part **p)
{
    size_t n = b->n / sizeof **p;
    *p = (struct part *)(void *)b->p;
    if (n)
        qsort(*p, n, sizeof **p, by_block);
    return n;
}

static size_t same_block(const struct part *p, size_t n)
{
    size_t k = 1;
    while (k < n && p[k].f == p->f && p[k].block.at == p->block.at)
        k++;
    return k;
}

static enum status read_strings(struct v1 *v, struct err *e)
{
    struct part *p;
    size_t n = sort_parts(&v->strings, &p);
    for (size_t i = 0, k; i < n; i += k) {
        k = same_block(&p[i], n - i);
        TRY(with_values(&p[i], k, attach, v, e));
    }
    return ST_OK;
}

/* A storage for the n whole tensors of a block. */
static enum status add_block(struct v1 *v, const struct part *list, size_t n, struct err *e)
{
    struct together *x = ARENA_NEW(&v->m->arena, struct together);
    struct part *p = ARENA_ARRAY(&v->m->arena, struct part, n);
    struct tile_grid *g = ARENA_NEW(&v->m->arena, struct tile_grid);
    uint64_t *dim = ARENA_ARRAY(&v->m->arena, uint64_t, 1), end = 0;
    struct storage *s;
    uint32_t index;
    if (!x || !p || !g || !dim)
        return err_nomem(e, n * sizeof *p);
    memcpy(p, list, n * sizeof *p);
    TRY(model_storage_add(v->m, &s, &index, e));
    for (size_t i = 0; i < n; i++) {
        struct tensor *t = &v->m->tensor[p[i].number];
        struct view view;
        p[i].at = end;
        if (!add_u64(end, p[i].n_bytes, &end) || !add_u64(end, -end % PLACE, &end) ||
            end > UINT64_C(1) << 62) {
            enum status st = err_set(e, ST_INPUT, "shape-overflow",
                                     "the tensors of a block are too large together");
            err_at(e, file_path(t->decl), t->offset);
            err_in(e, t->name.p, t->name.n);
            return st;
        }
        TRY(view_c(&view, t->dim, t->n_dims, e));
        view.offset = (int64_t)(p[i].at / (p[i].n_bytes / p[i].elems));
        TRY(tensor_set_view(v->m, t, &view, e));
        t->storage = index;
    }
    *dim = end;
    *x = (struct together){p, n};
    *g = (struct tile_grid){
        .n_dims = 1, .elem_bytes = 1, .dim = dim, .covers = true, .where = where_block};
    *s = (struct storage){.kind = STORAGE_TILED,
                          .file = p->f,
                          .stored_bytes = p->block.n,
                          .raw_bytes = end,
                          .n_tiles = 1,
                          .tile_bytes = end,
                          .grid = g,
                          .dec = &block_values,
                          .priv = x};
    return ST_OK;
}

static enum status add_blocks(struct v1 *v, struct err *e)
{
    struct part *p;
    size_t n = sort_parts(&v->whole, &p);
    for (size_t i = 0, k; i < n; i += k) {
        k = same_block(&p[i], n - i);
        TRY(add_block(v, &p[i], k, e));
    }
    return ST_OK;
}

/* Slices of a tensor in several parts each read their block. */
static enum status count_slices(struct v1 *v, const struct item *x, const struct part *p, size_t n,
                                struct err *e)
{
    uint64_t most = SLICES_FREE;
    for (uint32_t i = 0; i < v->n_shards; i++)
        most += SLICES_RATIO * file_size(v->shard[i].f);
    for (size_t i = 0; i < n; i++)
        v->slice_bytes += p[i].block.n;
    return v->slice_bytes <= most
               ? ST_OK
               : bad(v, x, e, "tf-slices", "too many slices that share too few blocks");
}

static enum status add_storage(struct v1 *v, const struct item *x, const struct tf_type *type,
                               struct part *p, size_t n_parts, uint64_t raw, uint32_t *index,
                               struct err *e)
{
    struct tile_grid *g = ARENA_NEW(&v->m->arena, struct tile_grid);
    uint64_t *one = ARENA_ARRAY(&v->m->arena, uint64_t, 1), most = 0;
    size_t width = type->unpacked ? 1 : dtype_bytes(type->dtype), n = 0;
    struct storage *s;
    if (!g || !one)
        return err_nomem(e, sizeof *g);
    *one = 1;
    *g = (struct tile_grid){.n_dims = x->n_dims ? x->n_dims : 1,
                            .elem_bytes = width,
                            .dim = x->n_dims ? x->dim : one,
                            .covers = true,
                            .where = where};
    for (size_t i = 0; i < n_parts; i++) {
        for (size_t d = 0; d < g->n_dims; d++)
            p[i].elems *= p[i].box[2 * d + 1];
        if (p[i].elems == 0)
            continue;
        most = p[i].elems > most ? p[i].elems : most;
        p[n++] = p[i];
    }
    TRY(model_storage_add(v->m, &s, index, e));
    *s = (struct storage){.kind = raw ? STORAGE_TILED : STORAGE_MEMORY,
                          .file = raw ? p[0].f : NULL,
                          .stored_bytes = raw,
                          .raw_bytes = raw,
                          .mem = (const uint8_t *)"",
                          .n_tiles = n,
                          .tile_bytes = most * width,
                          .grid = raw ? g : NULL,
                          .dec = raw ? &values : NULL,
                          .priv = p};
    return ST_OK;
}

/* The n items are of one tensor. */
static enum status add_tensor(struct v1 *v, const struct item *x, size_t n, struct err *e)
{
    struct tensor t = {.of = -1, .alias_of = -1, .requires_grad = true}, *out;
    struct tf_type type = {.dtype = DT_NONE};
    uint64_t slices = 0, raw;
    size_t n_parts, width = x->n_dims ? x->n_dims : 1;
    const char *why;
    bool strings = x->type == TF_STRING;
    for (size_t k = 0; k < n; k++)
        slices += x[k].n_slices;
    if (!strings && !tf_type(x->type, &type))
        return bad(v, x, e, "unknown-dtype", "the element type cannot be read");
    struct part *p = ARENA_ARRAY(&v->m->arena, struct part, slices);
    uint64_t *box = ARENA_ARRAY(&v->m->arena, uint64_t, 2 * width * slices);
    if (!p || !box)
        return err_nomem(e, slices * sizeof *p);
    TRY(add_parts(v, x, n, type.dtype, p, box, &n_parts, e));
    if (strings)
        return add_strings(v, x, p, n_parts, e);
    if (!tf_elems(x->dim, x->n_dims, &raw) ||
        !mul_u64(raw, type.unpacked ? 1 : dtype_bytes(type.dtype), &raw))
        return bad(v, x, e, "shape-overflow", "the product of the shape is too large");
    TRY(tensor_set_shape(v->m, &t, x->dim, x->n_dims, e));
    TRY(tf_boxes(x->n_dims, x->dim, n_parts, box, &why, e));
    if (why)
        return bad(v, x, e, "tf-slice", why);
    if (n_parts == 1 && raw > 0) {
        p->elems = raw / (type.unpacked ? 1 : dtype_bytes(type.dtype));
        TRY(add_whole(v, p, raw, e));
    } else {
        TRY(count_slices(v, x, p, n_parts, e));
        TRY(add_storage(v, x, &type, p, n_parts, raw, &t.storage, e));
    }
    t.dtype = type.dtype;
    t.unpacked = type.unpacked;
    t.note = str_from(type.note);
    t.decl = v->shard[x->shard].f;
    t.offset = x->at;
    t.order = v->m->n_tensors;
    TRY(tf_name(x->name, false, &v->m->arena, &t.name, e));
    TRY(model_tensor_add(v->m, &out, e));
    *out = t;
    return ST_OK;
}

/* ---- files ---- */

/* "NAME-00001-of-00003": NAME and 3. */
static bool split(struct str base, struct str *stem, uint32_t *n)
{
    uint64_t i, total;
    struct str tail = base.n > 15 ? str_sub(base, base.n - 15, base.n) : STR_NONE;
    if (tail.n != 15 || tail.p[0] != '-' || !str_eq(str_sub(tail, 6, 10), STR("-of-")))
        return false;
    i = total = 0;
    for (size_t k = 0; k < 5; k++) {
        char a = tail.p[1 + k], b = tail.p[10 + k];
        if (a < '0' || a > '9' || b < '0' || b > '9')
            return false;
        i = i * 10 + (uint64_t)(a - '0');
        total = total * 10 + (uint64_t)(b - '0');
    }
    *stem = str_sub(base, 0, base.n - 15);
    *n = (uint32_t)total;
    return i < total && total <= SHARDS_MAX;
}

static enum status open_shards(struct v1 *v, struct dir *dir, struct str base, struct file *f,
                               struct err *e)
{
    struct str stem;
    bool several = split(base, &stem, &v->n_shards);
    v->n_shards = several ? v->n_shards : 1;
    v->shard = ARENA_ARRAY(&v->m->arena, struct shard, v->n_shards);
    enum status st = v->shard ? ST_OK : err_nomem(e, v->n_shards * sizeof *v->shard);
    for (uint32_t i = 0; st == ST_OK && i < v->n_shards; i++) {
        struct str name = several ? arena_fmt(&v->m->arena, "%.*s-%05u-of-%05u", STR_ARG(stem),
                                              (unsigned)i, (unsigned)v->n_shards)
                                  : base;
        if (!name.p)
            return err_nomem(e, base.n);
        if (str_eq(name, base)) {
            v->shard[i].f = f; /* the model has it */
            continue;
        }
        st = dir_file(dir, name, &v->shard[i].f, e);
        if (st == ST_OK)
            st = model_own_file(v->m, v->shard[i].f, e);
    }
    return st;
}

static enum status read_all(struct v1 *v, struct err *e)
{
    for (uint32_t i = 0; i < v->n_shards; i++)
        TRY(read_shard(v, i, e));
    struct item *x = (struct item *)(void *)v->list.p;
    size_t n = v->list.n / sizeof *x;
    if (n)
        qsort(x, n, sizeof *x, by_name);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && str_eq(x[i].name, x[k].name); k++)
            if (x[k].shard == x[k - 1].shard)
                return bad(v, &x[k], e, "name-twice", "the meta lists the tensor twice");
        TRY(add_tensor(v, &x[i], k - i, e));
    }
    TRY(read_strings(v, e));
    TRY(add_blocks(v, e));
    TRY(model_finish(v->m, e));
    return roles_by_name(v->m, e);
}

enum status tf_v1_read(struct dir *dir, struct str base, struct file *f, const struct read_opt *opt,
                       struct model *m, struct err *e)
{
    struct v1 v = {.m = m, .opt = opt};
    TRY(model_own_file(m, f, e));
    m->framework = STR("tensorflow");
    enum status st = open_shards(&v, dir, base, f, e);
    if (st == ST_OK)
        st = read_all(&v, e);
    for (uint32_t i = 0; v.shard && i < v.n_shards; i++)
        buf_free(&v.shard[i].blocks);
    buf_free(&v.whole);
    buf_free(&v.strings);
    buf_free(&v.list);
    return st;
}
