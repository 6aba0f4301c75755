/* HDF5: where the chunks of a dataset lie.
 *
 *   B-tree 1:  TREE (type 1), keys: stored bytes u32, filter mask u32, (rank + 1) offsets u64
 *   single:    the layout message has it; implicit: all chunks in order
 *   B-tree 2:  records: address, [stored bytes, mask u32], rank coordinates u64 in chunks
 *   arrays:    hdf5_array.c
 *
 * Refused: hdf5-chunk, hdf5-filter, hdf5-btree, truncated.
 */
#include "base/checked.h"
#include "codec/hdf5_int.h"
#include <stdlib.h>
#include <string.h>

enum { DEFLATE = 1, SHUFFLE = 2, FLETCHER = 3, LZF = 32000 };

static enum status add(struct h5_index *x, struct hdf5_chunk c, uint64_t at, struct err *e)
{
    struct hdf5 *h = x->h;
    if (c.addr == HDF5_UNDEF) /* never written */
        return ST_OK;
    if (!range_in(c.addr, c.stored, h->size))
        return h5_fail(h, at - h->base, e, "truncated",
                       "a chunk of %llu bytes at address %llu lies outside the file",
                       (unsigned long long)c.stored, (unsigned long long)c.addr);
    bool whole = x->d->n_filters == 0;
    if (c.stored == 0 || c.stored > UINT32_MAX || (whole && c.stored != x->d->layout.chunk_bytes))
        return h5_fail(h, at - h->base, e, "hdf5-chunk", "a chunk of %llu stored bytes, %llu raw",
                       (unsigned long long)c.stored, (unsigned long long)x->d->layout.chunk_bytes);
    if (c.stored > x->out->max_stored)
        x->out->max_stored = c.stored;
    buf_bytes(&x->found, &c, sizeof c);
    return buf_ok(&x->found, e);
}

enum status h5_chunk_at(struct h5_index *x, const uint64_t *scaled, uint64_t addr, uint64_t stored,
                        uint32_t mask, uint64_t at, struct err *e)
{
    uint64_t number = 0;
    for (unsigned d = 0; d < x->d->layout.rank; d++) {
        if (scaled[d] >= x->out->grid[d])
            return h5_fail(x->h, at - x->h->base, e, "hdf5-chunk",
                           "a chunk outside the dataset's extents");
        number = number * x->out->grid[d] + scaled[d]; /* below out->total */
    }
    return add(x, (struct hdf5_chunk){addr, stored, number, mask}, at, e);
}

enum status h5_chunk_number(struct h5_index *x, uint64_t number, uint64_t addr, uint64_t stored,
                            uint32_t mask, uint64_t at, struct err *e)
{
    const struct hdf5_object *d = x->d;
    uint64_t scaled[HDF5_MAX_RANK];
    unsigned rank = d->layout.rank, first = 0;
    if (addr == HDF5_UNDEF)
        return ST_OK;
    if (d->layout.index == HDF5_IX_EXTENSIBLE)
        for (unsigned k = 0; k < rank; k++)
            if (d->space.max[k] == UINT64_MAX)
                first = k;
    for (unsigned k = rank; k-- > 0;) { /* the unlimited axis comes first, the others in order */
        if (k == first)
            continue;
        uint64_t n = d->space.max[k] / d->layout.chunk[k];
        n += d->space.max[k] % d->layout.chunk[k] != 0;
        scaled[k] = n ? number % n : UINT64_MAX;
        number = n ? number / n : number;
    }
    scaled[first] = number;
    return h5_chunk_at(x, scaled, addr, stored, mask, at, e);
}

/* ---- B-tree, version 1 ---- */

struct node {
    uint64_t addr;
    int level;
};

static enum status entries(struct h5_index *x, struct h5_block *b, uint64_t n, unsigned level,
                           struct buf *todo, struct err *e)
{
    unsigned rank = x->d->layout.rank;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t scaled[HDF5_MAX_RANK], at = b->c.base + b->c.pos;
        uint32_t stored = cur_u32(&b->c), mask = cur_u32(&b->c);
        bool even = true;
        for (unsigned d = 0; d < rank; d++) {
            uint64_t off = cur_u64(&b->c);
            even = even && off % x->d->layout.chunk[d] == 0;
            scaled[d] = off / x->d->layout.chunk[d];
        }
        even = cur_u64(&b->c) == 0 && even;
        struct node child = {h5_addr(x->h, &b->c), (int)level - 1};
        TRY(cur_ok(&b->c, e));
        if (level) {
            buf_bytes(todo, &child, sizeof child);
            continue;
        }
        if (!even)
            return h5_fail(x->h, at - x->h->base, e, "hdf5-chunk",
                           "a chunk that does not begin where chunks do");
        TRY(h5_chunk_at(x, scaled, child.addr, stored, mask, at, e));
    }
    return buf_ok(todo, e);
}

static enum status tree_node(struct h5_index *x, const struct node *t, struct buf *todo,
                             struct err *e)
{
    struct hdf5 *h = x->h;
    struct h5_block b;
    unsigned level;
    uint64_t n;
    TRY(h5_tree_head(h, t->addr, 1, t->level, &level, &n, e));
    uint64_t head = 8 + 2ull * h->off_n, key = 8 + 8 * (x->d->layout.rank + 1ull);
    TRY(h5_load(h, t->addr, head + n * (key + h->off_n), &b, e));
    cur_skip(&b.c, head);
    enum status st = entries(x, &b, n, level, todo, e);
    h5_free(&b);
    return st;
}

static enum status btree1(struct h5_index *x, struct err *e)
{
    struct buf todo = BUF_INIT;
    struct node t = {x->d->layout.addr, -1};
    buf_bytes(&todo, &t, sizeof t);
    enum status st = buf_ok(&todo, e);
    while (st == ST_OK && todo.n) {
        todo.n -= sizeof t;
        memcpy(&t, todo.p + todo.n, sizeof t);
        st = tree_node(x, &t, &todo, e);
    }
    buf_free(&todo);
    return st;
}

/* ---- the others ---- */

static enum status record(void *ctx, const uint8_t *rec, size_t n, uint64_t at, struct err *e)
{
    struct h5_index *x = ctx;
    unsigned rank = x->d->layout.rank, off_n = x->h->off_n;
    uint64_t scaled[HDF5_MAX_RANK], stored = x->d->layout.chunk_bytes;
    uint32_t mask = 0;
    bool sized = x->d->n_filters > 0;
    size_t least = off_n + 8u * rank + (sized ? 5 : 0);
    if (n < least || (!sized && n != least) || n > least + 7)
        return h5_fail(x->h, at - x->h->base, e, "hdf5-btree", "chunk records of %zu bytes", n);
    uint64_t addr = h5_uint_at(rec, off_n);
    if (sized) {
        unsigned size_n = (unsigned)(n - off_n - 8u * rank - 4);
        stored = h5_uint_at(rec + off_n, size_n);
        mask = (uint32_t)h5_uint_at(rec + off_n + size_n, 4);
    }
    for (unsigned d = 0; d < rank; d++)
        scaled[d] = h5_uint_at(rec + n - 8 * (rank - d), 8);
    return h5_chunk_at(x, scaled, addr, stored, mask, at, e);
}

static enum status implicit(struct h5_index *x, struct err *e)
{
    const struct hdf5_layout *l = &x->d->layout;
    uint64_t all;
    if (x->d->n_filters)
        return h5_fail(x->h, x->d->addr, e, "hdf5-chunk", "filtered chunks without an index");
    if (l->addr == HDF5_UNDEF)
        return ST_OK;
    if (!mul_u64(x->out->total, l->chunk_bytes, &all) || !range_in(l->addr, all, x->h->size))
        return h5_fail(x->h, x->d->addr, e, "truncated", "the chunks lie outside the file");
    if (x->out->total > x->h->budget / 8)
        return h5_fail(x->h, x->d->addr, e, "hdf5-loop", "more chunks than the file can hold");
    x->h->budget -= x->out->total * 8;
    for (uint64_t i = 0; i < x->out->total; i++)
        TRY(h5_chunk_number(x, i, l->addr + i * l->chunk_bytes, l->chunk_bytes, 0, x->d->at, e));
    return ST_OK;
}

static enum status find(struct h5_index *x, struct err *e)
{
    const struct hdf5_layout *l = &x->d->layout;
    static const uint64_t origin[HDF5_MAX_RANK];
    if (l->addr == HDF5_UNDEF || x->out->total == 0)
        return ST_OK;
    switch (l->index) {
    case HDF5_IX_BTREE1:
        return btree1(x, e);
    case HDF5_IX_SINGLE:
        if (x->out->total != 1)
            return h5_fail(x->h, x->d->addr, e, "hdf5-chunk", "one chunk for a larger dataset");
        return h5_chunk_at(x, origin, l->addr, l->sized ? l->stored : l->chunk_bytes, l->mask,
                           x->d->at, e);
    case HDF5_IX_IMPLICIT:
        return implicit(x, e);
    case HDF5_IX_FIXED:
        return h5_fixed_array(x, e);
    case HDF5_IX_EXTENSIBLE:
        return h5_extensible_array(x, e);
    case HDF5_IX_BTREE2:
        return h5_btree2(x->h, l->addr, x->d->n_filters ? 11 : 10, record, x, e);
    }
    return err_set(e, ST_BUG, "hdf5-index", "no such index");
}

static int by_number(const void *a, const void *b)
{
    const struct hdf5_chunk *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static enum status settle(struct h5_index *x, struct err *e)
{
    struct hdf5_chunks *out = x->out;
    struct hdf5_chunk *v = (struct hdf5_chunk *)(void *)x->found.p;
    out->n = x->found.n / sizeof *v;
    out->chunk = ARENA_ARRAY(x->h->arena, struct hdf5_chunk, out->n + 1);
    if (!out->chunk)
        return err_nomem(e, x->found.n);
    if (out->n == 0)
        return ST_OK;
    memcpy(out->chunk, v, x->found.n);
    qsort(out->chunk, (size_t)out->n, sizeof *v, by_number);
    for (uint64_t i = 1; i < out->n; i++)
        if (out->chunk[i].number == out->chunk[i - 1].number)
            return h5_fail(x->h, x->d->addr, e, "hdf5-chunk", "a chunk stands twice in the index");
    return ST_OK;
}

static enum status filters_known(struct hdf5 *h, const struct hdf5_object *d, struct err *e)
{
    unsigned shrink = 0;
    for (unsigned i = 0; i < d->n_filters; i++) {
        unsigned id = d->filter[i].id;
        if (id != DEFLATE && id != SHUFFLE && id != FLETCHER && id != LZF)
            return h5_fail(h, d->addr, e, "hdf5-filter", "filter %u%s is not known here", id,
                           id == 4       ? " (szip)"
                           : id == 5     ? " (n-bit)"
                           : id == 6     ? " (scale-offset)"
                           : id == 32001 ? " (blosc)"
                           : id == 32015 ? " (zstd)"
                                         : "");
        shrink += id == DEFLATE || id == LZF;
    }
    if (shrink > 1)
        return h5_fail(h, d->addr, e, "hdf5-filter", "two filters that compress");
    return ST_OK;
}

enum status hdf5_chunks(struct hdf5 *h, const struct hdf5_object *d, struct hdf5_chunks *out,
                        struct err *e)
{
    struct h5_index x = {.h = h, .d = d, .out = out};
    const struct hdf5_layout *l = &d->layout;
    memset(out, 0, sizeof *out);
    if (l->rank != d->space.rank || l->elem != d->type.size || d->space.null)
        return h5_fail(h, d->addr, e, "hdf5-chunk",
                       "chunks of rank %u and elements of %u bytes, a dataset of rank %u and %u",
                       l->rank, l->elem, d->space.rank, d->type.size);
    TRY(filters_known(h, d, e));
    for (unsigned k = 0; k < l->rank; k++)
        out->grid[k] = d->space.dim[k] / l->chunk[k] + (d->space.dim[k] % l->chunk[k] != 0);
    if (!prod_u64(out->grid, l->rank, &out->total))
        return h5_fail(h, d->addr, e, "hdf5-chunk", "the number of chunks overflows");
    enum status st = find(&x, e);
    if (st == ST_OK)
        st = settle(&x, e);
    buf_free(&x.found);
    return st;
}
