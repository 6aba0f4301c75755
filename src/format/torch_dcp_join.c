/* A tensor from the parts it was saved in. One part that is all of it is read where it lies.
 * Several become a storage of tiles: each part is cut along the axes it is stored by, outermost
 * first, so that a tile is at most TILE_BYTES and lies in one piece in the file; the engine puts
 * them together.
 *
 * Refused: dcp-type, dcp-shape, dcp-bounds, dcp-overlap, dcp-hole, dcp-gaps, dcp-packed, dcp-order.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "format/torch_dcp.h"
#include <stdlib.h>
#include <string.h>

#define TILE_BYTES ((uint64_t)1 << 20)

/* A part: the box, and how its elements lie in the file. */
struct box {
    const uint64_t *lo, *n;
    uint64_t *stride; /* in elements, per axis */
    uint8_t *axis;    /* axes by stride, the largest first */
    struct file *file;
    uint64_t at;         /* file offset of its first element */
    uint64_t first_tile; /* number of its first tile */
    uint64_t rows;       /* of axis[cut] in a tile */
    uint8_t cut;         /* axis[0 .. cut) have one place a tile */
};
struct joined {
    struct tile_grid grid;
    struct box *box;
    size_t n_boxes;
    uint64_t n_tiles;
};

static enum status bad(const struct dcp_chunk *c, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(c->decl), c->at);
    err_in(e, c->name.p, c->name.n);
    return ST_INPUT;
}

/* ---- tiles ---- */

static const struct box *box_of(const struct joined *j, uint64_t t)
{
    size_t lo = 0, hi = j->n_boxes;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (j->box[mid].first_tile <= t)
            lo = mid;
        else
            hi = mid;
    }
    return &j->box[lo];
}

/* Tile t inside its box. */
static const struct box *tile_box(const struct joined *j, uint64_t t, uint64_t *lo, uint64_t *n)
{
    const struct box *b = box_of(j, t);
    uint64_t i = t - b->first_tile;
    for (size_t d = 0; d < j->grid.n_dims; d++) {
        lo[d] = 0;
        n[d] = b->n[d];
    }
    size_t cut = b->axis[b->cut];
    uint64_t steps = b->n[cut] / b->rows + (b->n[cut] % b->rows != 0);
    lo[cut] = i % steps * b->rows;
    n[cut] = b->n[cut] - lo[cut] < b->rows ? b->n[cut] - lo[cut] : b->rows;
    i /= steps;
    for (size_t k = b->cut; k-- > 0;) {
        size_t d = b->axis[k];
        lo[d] = i % b->n[d];
        n[d] = 1;
        i /= b->n[d];
    }
    return b;
}

static enum status where(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                         uint64_t *held, struct err *e)
{
    const struct joined *j = s->priv;
    const struct box *b = tile_box(j, t, lo, n);
    (void)e;
    for (size_t d = 0; d < j->grid.n_dims; d++) {
        lo[d] += b->lo[d];
        held[d] = n[d];
    }
    return ST_OK;
}

/* From the order of the file into C order. */
static void turn(const struct joined *j, const struct box *b, const uint64_t *n, const uint8_t *src,
                 uint8_t *dst)
{
    uint64_t at[VIEW_MAX_AXES] = {0}, from = 0, elems = 1;
    size_t size = j->grid.elem_bytes;
    for (size_t d = 0; d < j->grid.n_dims; d++)
        elems *= n[d];
    for (uint64_t i = 0; i < elems; i++) {
        memcpy(dst + i * size, src + from * size, size);
        for (size_t d = j->grid.n_dims; d-- > 0;) {
            from += b->stride[d];
            if (++at[d] < n[d])
                break;
            from -= n[d] * b->stride[d];
            at[d] = 0;
        }
    }
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct joined *j = s->priv;
    uint64_t lo[VIEW_MAX_AXES], n[VIEW_MAX_AXES], at = 0, bytes = j->grid.elem_bytes;
    const struct box *b = tile_box(j, t, lo, n);
    bool turned = false;
    for (size_t d = 0; d < j->grid.n_dims; d++) {
        at += lo[d] * b->stride[d];
        bytes *= n[d];
        turned = turned || b->axis[d] != d;
    }
    TRY(file_pread(b->file, turned ? scratch : dst, (size_t)bytes, b->at + at * j->grid.elem_bytes,
                   e));
    if (turned)
        turn(j, b, n, scratch, dst);
    return ST_OK;
}

static const struct decoder decoder = {.name = "shards", .tile = tile};

/* ---- parts ---- */

/* Axes by stride; dense when each stride is the product of the extents behind it. */
static bool dense(struct box *b, size_t n_dims)
{
    uint64_t step = 1;
    for (size_t d = 0; d < n_dims; d++) {
        size_t k = d;
        for (; k > 0; k--) {
            size_t other = b->axis[k - 1];
            /* axes of one element lie anywhere; they stay where they are */
            if (b->stride[other] >= b->stride[d] || b->n[d] == 1 || b->n[other] == 1)
                break;
            b->axis[k] = b->axis[k - 1];
        }
        b->axis[k] = (uint8_t)d;
    }
    for (size_t k = n_dims; k-- > 0;) {
        size_t d = b->axis[k];
        if (b->n[d] == 1)
            b->stride[d] = step;
        if (b->stride[d] != step)
            return false;
        step *= b->n[d]; /* inside the tensor: proven */
    }
    return true;
}

static void cut_tiles(struct box *b, size_t n_dims, size_t elem_bytes, uint64_t *n_tiles)
{
    uint64_t inner = elem_bytes, outer = 1;
    size_t k = n_dims;
    while (k > 1 && inner * b->n[b->axis[k - 1]] <= TILE_BYTES)
        inner *= b->n[b->axis[--k]];
    b->cut = (uint8_t)(k - 1);
    uint64_t extent = b->n[b->axis[k - 1]], most = TILE_BYTES / inner;
    b->rows = most > extent ? extent : most ? most : 1;
    for (size_t i = 0; i + 1 < k; i++)
        outer *= b->n[b->axis[i]];
    b->first_tile = *n_tiles;
    *n_tiles += outer * (extent / b->rows + (extent % b->rows != 0));
}

static enum status make_box(struct dcp *d, const struct dcp_item *it, const struct dcp_chunk *c,
                            struct box *b, struct err *e)
{
    const struct storage *s = &d->m->storage[c->storage];
    struct arena *a = &d->m->arena;
    struct view v;
    *b = (struct box){.lo = c->lo, .n = c->n, .file = s->file};
    b->stride = ARENA_ARRAY(a, uint64_t, it->n_dims);
    b->axis = ARENA_ARRAY(a, uint8_t, it->n_dims);
    if (!b->stride || !b->axis)
        return err_nomem(e, it->n_dims * 9);
    view_load(&v, c->view);
    if (v.n_axes != v.n_dims)
        return err_set(e, ST_BUG, "view", "a tensor of PyTorch in joined axes");
    for (size_t i = 0; i < it->n_dims; i++)
        b->stride[i] = (uint64_t)v.axis[i].stride;
    if (s->kind != STORAGE_FLAT || !dense(b, it->n_dims))
        return bad(c, "dcp-gaps", "a part whose elements do not lie together in its file", e);
    uint64_t size = dtype_bytes(it->dtype), first, bytes;
    if (!mul_u64((uint64_t)v.offset, size, &first) || !prod_u64(c->n, it->n_dims, &bytes) ||
        !mul_u64(bytes, size, &bytes) || !range_in(first, bytes, s->raw_bytes))
        return bad(c, "out-of-bounds", "a part reaches past the end of its storage", e);
    b->at = s->offset + first;
    return ST_OK;
}

/* ---- proofs ---- */

static enum status check_chunk(const struct dcp_item *it, const struct dcp_chunk *c, bool *empty,
                               struct err *e)
{
    *empty = false;
    if (c->n_dims != it->n_dims)
        return bad(c, "dcp-shape", "a part with another number of dimensions", e);
    for (size_t i = 0; i < it->n_dims; i++) {
        if (!range_in(c->lo[i], c->n[i], it->dim[i]))
            return bad(c, "dcp-bounds", "a part reaches outside its tensor", e);
        *empty = *empty || c->n[i] == 0;
    }
    return ST_OK;
}

static enum status check_data(struct dcp_item *it, const struct dcp_chunk *c, struct err *e)
{
    if (c->dtype != it->dtype)
        return bad(c, "dcp-type", "a part of another type than its tensor", e);
    bool same = c->view->n_dims == it->n_dims;
    for (size_t i = 0; same && i < it->n_dims; i++) {
        bool pairs = it->dtype == DT_F4_E2M1FN && i + 1 == it->n_dims;
        same = c->view->dim[i] == (pairs ? 2 * c->n[i] : c->n[i]);
    }
    return same ? ST_OK : bad(c, "dcp-shape", "a part of another shape than the metadata says", e);
}

struct order {
    const struct dcp_chunk *c;
    size_t axis;
};
static int by_low(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    uint64_t p = x->c->lo[x->axis], q = y->c->lo[y->axis];
    return p < q ? -1 : p > q;
}

static bool meet(const struct dcp_chunk *a, const struct dcp_chunk *b)
{
    for (size_t i = 0; i < a->n_dims; i++)
        if (a->lo[i] + a->n[i] <= b->lo[i] || b->lo[i] + b->n[i] <= a->lo[i])
            return false;
    return true;
}

/* Parts lie apart: swept along the axis with the most different beginnings. */
static enum status apart(const struct dcp_item *it, const struct dcp_chunk *const *part, size_t n,
                         struct err *e)
{
    struct order *o = mem_zalloc(n + 1, sizeof *o);
    size_t best = 0, most = 0;
    enum status st = ST_OK;
    if (!o)
        return err_nomem(e, n * sizeof *o);
    for (size_t axis = 0; axis <= it->n_dims; axis++) {
        size_t use = axis < it->n_dims ? axis : best, different = 1;
        for (size_t i = 0; i < n; i++)
            o[i] = (struct order){part[i], use};
        qsort(o, n, sizeof *o, by_low);
        for (size_t i = 1; i < n; i++)
            different += by_low(&o[i - 1], &o[i]) != 0;
        if (axis < it->n_dims && different > most) {
            most = different;
            best = axis;
        }
    }
    for (size_t i = 0; i < n && st == ST_OK; i++)
        for (size_t k = i + 1; k < n && o[k].c->lo[best] < o[i].c->lo[best] + o[i].c->n[best]; k++)
            if (meet(o[i].c, o[k].c)) {
                st = bad(o[k].c, "dcp-overlap", "two parts of a tensor overlap", e);
                break;
            }
    mem_free(o);
    return st;
}

/* ---- tensors ---- */

static enum status add(struct dcp *d, const struct dcp_item *it, uint32_t storage,
                       const struct view_kept *view, uint32_t *index, struct err *e)
{
    struct model *m = d->m;
    struct tensor *t;
    TRY(model_tensor_add(m, &t, e));
    *index = (uint32_t)(m->n_tensors - 1);
    t->name = it->name;
    t->dtype = it->dtype;
    t->storage = storage;
    t->requires_grad = it->requires_grad;
    t->role = ROLE_PARAMETER;
    t->order = *index;
    t->offset = it->at;
    t->decl = it->n_chunks ? it->chunk[0].decl : d->decl;
    tensor_share_view(t, view);
    return ST_OK;
}

static enum status add_tiled(struct dcp *d, const struct dcp_item *it,
                             const struct dcp_chunk *const *part, size_t n, uint64_t elems,
                             uint32_t *index, struct err *e)
{
    struct model *m = d->m;
    struct storage *s;
    struct view v;
    const struct view_kept *k;
    uint32_t at;
    size_t size = dtype_bytes(it->dtype);
    struct joined *j = ARENA_NEW(&m->arena, struct joined);
    struct box *box = ARENA_ARRAY(&m->arena, struct box, n);
    if (!j || !box)
        return err_nomem(e, n * sizeof *box);
    if (size == 0)
        return bad(part[0], "dcp-packed", "parts of a tensor of several elements a byte", e);
    j->box = box;
    j->n_boxes = n;
    j->grid = (struct tile_grid){
        .n_dims = it->n_dims, .elem_bytes = size, .dim = it->dim, .covers = true, .where = where};
    bool big = m->storage[part[0]->storage].big_endian;
    for (size_t i = 0; i < n; i++) {
        TRY(make_box(d, it, part[i], &box[i], e));
        if (m->storage[part[i]->storage].big_endian != big)
            return bad(part[i], "dcp-order", "parts of one tensor in both byte orders", e);
        cut_tiles(&box[i], it->n_dims, size, &j->n_tiles);
    }
    TRY(model_storage_add(m, &s, &at, e));
    s->kind = STORAGE_TILED;
    s->file = box[0].file;
    s->stored_bytes = s->raw_bytes = elems * size;
    s->big_endian = big;
    s->n_tiles = j->n_tiles;
    s->tile_bytes = TILE_BYTES;
    s->scratch_bytes = TILE_BYTES;
    s->grid = &j->grid;
    s->dec = &decoder;
    s->priv = j;
    TRY(view_c(&v, it->dim, it->n_dims, e));
    TRY(view_keep(&v, &m->arena, &k, e));
    return add(d, it, at, k, index, e);
}

/* A tensor without elements needs no file. */
static enum status add_empty(struct dcp *d, const struct dcp_item *it, uint32_t *index,
                             struct err *e)
{
    struct storage *s;
    struct view v;
    const struct view_kept *k;
    uint32_t at;
    TRY(model_storage_add(d->m, &s, &at, e));
    s->kind = STORAGE_MEMORY;
    s->mem = (const uint8_t *)"";
    TRY(view_c(&v, it->dim, it->n_dims, e));
    TRY(view_keep(&v, &d->m->arena, &k, e));
    return add(d, it, at, k, index, e);
}

static enum status join(struct dcp *d, struct dcp_item *it, const struct dcp_chunk **part,
                        uint32_t *index, struct err *e)
{
    uint64_t elems, bytes, sum = 0, one;
    size_t n = 0;
    bool empty;
    if (!prod_u64(it->dim, it->n_dims, &elems) || !mul_u64(elems, 16, &bytes)) {
        (void)err_set(e, ST_INPUT, "shape-overflow", "the tensor's extents overflow");
        err_at(e, file_path(d->decl ? d->decl : it->chunk[0].decl), it->at);
        err_in(e, it->name.p, it->name.n);
        return ST_INPUT;
    }
    for (size_t i = 0; i < it->n_chunks; i++) {
        const struct dcp_chunk *c = &it->chunk[i];
        TRY(check_chunk(it, c, &empty, e));
        if (empty)
            continue;
        TRY(check_data(it, c, e));
        if (!prod_u64(c->n, c->n_dims, &one) || !add_u64(sum, one, &sum))
            return bad(c, "dcp-overlap", "the parts of a tensor hold more than it has", e);
        part[n++] = c;
    }
    if (elems == 0)
        return add_empty(d, it, index, e);
    if (n > 1)
        TRY(apart(it, part, n, e));
    if (sum != elems) {
        (void)err_set(e, ST_INPUT, "dcp-hole", "its parts hold %llu of %llu elements",
                      (unsigned long long)sum, (unsigned long long)elems);
        err_at(e, file_path(d->decl ? d->decl : it->chunk[0].decl), it->at);
        err_in(e, it->name.p, it->name.n);
        return ST_INPUT;
    }
    if (n == 1)
        return add(d, it, part[0]->storage, part[0]->view, index, e);
    return add_tiled(d, it, part, n, elems, index, e);
}

enum status dcp_join(struct dcp *d, struct dcp_item *it, uint32_t *index, struct err *e)
{
    const struct dcp_chunk **part = mem_zalloc(it->n_chunks + 1, sizeof *part);
    if (!part)
        return err_nomem(e, it->n_chunks * sizeof *part);
    enum status st = join(d, it, part, index, e);
    mem_free(part);
    return st;
}
