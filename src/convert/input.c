/* See input.h. */
#include "convert/input.h"
#include "base/mem.h"
#include "convert/kernel.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/run.h"
#include <string.h>

static uint64_t tile_raw(const struct storage *s, uint64_t t)
{
    uint64_t at = t * s->tile_bytes, left = s->raw_bytes - at;
    return left < s->tile_bytes ? left : s->tile_bytes;
}

void input_init(struct input *in, const struct model *m, const struct view_kept *v, uint32_t tensor,
                bool unpack, const struct sources *x)
{
    const struct tensor *t = &m->tensor[tensor];
    const struct dtype_info *d = dtype_info(t->dtype);
    memset(in, 0, sizeof *in);
    in->m = m;
    in->s = &m->storage[t->storage];
    in->res = &x->storage[t->storage];
    in->dtype = t->dtype;
    if (unpack) {
        in->blocks = x->tensor[tensor];
        in->s = &in->blocks->s;
        in->res = &in->blocks->res;
        in->dtype = DT_F32;
        d = dtype_info(DT_F32);
    }
    in->packed = d->bits < 8 && !t->unpacked;
    in->tidy = d->bits < 8 && t->unpacked;
    in->swap = in->s->big_endian && d->swap_bytes > 1 ? d->swap_bytes : 0;
    in->size = num_bytes(in->dtype);
    view_load(&in->v, v);
    if (d->kind != DK_BLOCK)
        view_collapse(&in->v);
    else if (!view_to_blocks(&in->v, d->block_elems, d->block_bytes))
        in->v.n_axes = 0; /* plan_prove has said no to such */
    in->contiguous = view_is_c(&in->v);
    view_bounds(&in->v, &in->lo, &in->hi);
}

/* ---- choosing ---- */

static enum status panel(struct input *in, struct err *e)
{
    in->kind = IN_PANEL;
    if (in->piece)
        return ST_OK;
    in->piece = mem_alloc(MAX_PIECES * sizeof *in->piece);
    return in->piece ? ST_OK : err_nomem(e, MAX_PIECES * sizeof *in->piece);
}

/* Through a decoded copy, which then reads like memory or like a flat file. */
static enum status through_copy(struct input *in, struct input_budget *b, struct err *e)
{
    if (in->packed && !in->contiguous && in->s->raw_bytes > b->resident_bytes && !in->res->ready)
        return err_set(e, ST_LIMIT, "memory",
                       "packed %s elements in another order need %llu bytes of --memory",
                       dtype_info(in->dtype)->name, (unsigned long long)in->s->raw_bytes);
    TRY(resident_load(in->s, in->res, b, e));
    if (in->res->mem_bytes == in->s->raw_bytes) {
        in->kind = IN_MEMORY;
        in->origin = in->res->mem;
        return ST_OK;
    }
    if (!in->contiguous)
        return panel(in, e);
    in->kind = IN_SPOOL;
    return ST_OK;
}

static enum status choose_flat(struct input *in, struct input_budget *b, struct err *e)
{
    uint64_t span = (uint64_t)(in->hi - in->lo) * in->size;
    if (in->contiguous) {
        in->kind = IN_FILE;
        return ST_OK;
    }
    if (in->packed)
        return through_copy(in, b, e);
    if (file_maps(in->s->file) && span <= b->window_bytes && b->windows > 0) {
        struct err ignored;
        uint64_t off = (uint64_t)in->lo * in->size;
        in->kind = IN_MEMORY;
        b->window_bytes -= span;
        b->windows--;
        if (b->dry)
            return ST_OK;
        if (window_open(in->s->file, in->s->offset + off, span, &in->win, &ignored) == ST_OK) {
            in->origin = in->win.p - off;
            return ST_OK;
        }
        /* no address space, or a ceiling: rows will do */
        memset(&in->win, 0, sizeof in->win);
    } else if (file_is_network(in->s->file) && span > b->panel_bytes) {
        return through_copy(in, b, e);
    }
    return panel(in, e);
}

enum status input_choose(struct input *in, bool alone, uint64_t first, uint64_t slab,
                         struct input_budget *b, struct err *e)
{
    const struct storage *s = in->s;
    if (in->lo == in->hi) { /* no elements: nothing is ever asked for */
        in->kind = IN_MEMORY;
        in->contiguous = true;
        return ST_OK;
    }
    if (in->blocks &&
        (in->blocks->base->kind == STORAGE_TILED || in->blocks->base->kind == STORAGE_STREAM))
        TRY(resident_load(in->blocks->base, in->blocks->base_res, b, e));
    switch (s->kind) {
    case STORAGE_MEMORY:
        in->kind = IN_MEMORY;
        in->origin = s->mem;
        return ST_OK;
    case STORAGE_FLAT:
        return choose_flat(in, b, e);
    case STORAGE_TILED:
    case STORAGE_STREAM:
        break;
    }
    if (in->res->users > 1 || !alone || !in->contiguous || in->packed || s->grid)
        return through_copy(in, b, e);
    in->kind = IN_ORDERED;
    if (s->kind == STORAGE_TILED) {
        uint64_t at = ((uint64_t)in->lo + first) * in->size, step = slab * in->size;
        if (at % s->tile_bytes == 0 && step % s->tile_bytes == 0)
            in->kind = IN_TILES;
    }
    if (b->dry) {
        uint64_t lo = (uint64_t)in->lo * in->size, hi = (uint64_t)in->hi * in->size;
        b->counts->n_decodes += s->kind == STORAGE_STREAM
                                    ? 1
                                    : (hi + s->tile_bytes - 1) / s->tile_bytes - lo / s->tile_bytes;
        b->counts->bytes_fetched += s->stored_bytes;
    }
    return ST_OK;
}

static void leave(struct resident *r, struct input_budget *b)
{
    if (r->users > 0 && --r->users == 0 && r->ready) {
        b->resident_bytes += r->mem_bytes;
        resident_free(r);
    }
}

void input_close(struct input *in, struct input_budget *b)
{
    if (in->stream_open)
        in->s->dec->close(in->s, in->stream);
    in->stream_open = false;
    window_close(&in->win);
    mem_free(in->piece);
    in->piece = NULL;
    mem_pages_free(in->buf, in->buf_cap);
    in->buf = NULL;
    leave(in->res, b);
    if (in->blocks)
        leave(in->blocks->base_res, b);
}

/* ---- reading ---- */

static enum status read_flat(const struct input *in, uint8_t *dst, uint64_t n, uint64_t off,
                             struct feed_counts *c, struct err *e)
{
    c->bytes_fetched += n;
    if (in->kind == IN_SPOOL)
        return spool_pread(in->res->spool, dst, n, off, e);
    return file_pread(in->s->file, dst, n, in->s->offset + off, e);
}

/* Whole tiles from off on; the last may be wanted in part only. */
static enum status read_tiles(const struct input *in, uint8_t *dst, uint64_t n, uint64_t off,
                              struct scratch *sc, struct feed_counts *c, struct err *e)
{
    const struct storage *s = in->s;
    if (off % s->tile_bytes != 0)
        return err_set(e, ST_BUG, "tile-bound", "a range that starts inside a tile");
    for (uint64_t t = off / s->tile_bytes; n > 0; t++) {
        uint64_t raw = tile_raw(s, t), take = raw < n ? raw : n;
        uint8_t *to = raw <= n ? dst : sc->raw + sc->raw_bytes - s->tile_bytes;
        c->n_decodes++;
        TRY(s->dec->tile(s, t, to, sc->decode, e));
        if (to != dst)
            memcpy(dst, to, take);
        dst += take;
        n -= take;
    }
    c->bytes_fetched += s->n_tiles ? s->stored_bytes / s->n_tiles : 0;
    return ST_OK;
}

static void fix(const struct input *in, uint8_t *p, uint64_t n)
{
    if (in->swap)
        kernel_swap(p, n * in->size / in->swap, in->swap);
    if (in->tidy)
        op_tidy(in->dtype, p, n);
}

/* Packed elements: n <= OP_BLOCK. */
static enum status get_packed(struct input *in, uint64_t p0, uint64_t n, uint8_t *dst,
                              struct scratch *sc, struct feed_counts *c, struct err *e)
{
    unsigned bits = dtype_info(in->dtype)->bits, group = 8; /* 8 elements fill `bits` bytes */
    if (in->contiguous) {
        uint64_t first = (uint64_t)in->v.offset + p0, lo = first / group * bits;
        uint64_t hi = ((first + n) * bits + 7) / 8;
        const uint8_t *p = sc->packed;
        if (in->kind == IN_MEMORY)
            p = in->origin + lo;
        else
            TRY(read_flat(in, sc->packed, hi - lo, lo, c, e));
        op_unpack(in->dtype, p, first % group, dst, n);
        return ST_OK;
    }
    struct box b;
    for (uint64_t at = p0; at < p0 + n; at = b.hi) {
        uint64_t digit[VIEW_MAX_AXES] = {0};
        box_next(&in->v, at, p0 + n, false, &b);
        int64_t x = b.offset;
        for (uint64_t i = at; i < b.hi; i++) {
            op_unpack(in->dtype, in->origin, (uint64_t)x, dst + (i - p0), 1);
            for (size_t k = b.n_axes; k-- > 0;) {
                x += b.axis[k].stride;
                if (++digit[k] < b.axis[k].extent)
                    break;
                x -= (int64_t)b.axis[k].extent * b.axis[k].stride;
                digit[k] = 0;
            }
        }
    }
    return ST_OK;
}

static void get_panel(const struct input *in, uint64_t p0, uint64_t n, uint8_t *dst)
{
    uint64_t p1 = p0 + n;
    for (size_t i = 0; i < in->n_pieces; i++) {
        const struct piece_box *q = &in->piece[i];
        uint64_t lo = q->lo > p0 ? q->lo : p0, hi = q->hi < p1 ? q->hi : p1;
        if (lo < hi) {
            gather(&q->v, lo - q->lo, hi - q->lo, in->panel + q->at, in->size,
                   dst + (lo - p0) * in->size);
            p0 = hi; /* hulls may overlap: go on behind this one */
            dst += (hi - lo) * in->size;
        }
    }
}

enum status input_get(struct input *in, uint64_t p0, uint64_t n, uint8_t *dst, struct scratch *sc,
                      struct feed_counts *c, const uint8_t **out, struct err *e)
{
    uint64_t bytes = n * in->size;
    *out = dst;
    if (n == 0)
        return ST_OK;
    if (in->packed)
        return get_packed(in, p0, n, dst, sc, c, e);
    uint64_t off = in->contiguous ? ((uint64_t)in->v.offset + p0) * in->size : 0;
    const uint8_t *there = NULL;
    switch (in->kind) {
    case IN_FILE:
    case IN_SPOOL:
        TRY(read_flat(in, dst, bytes, off, c, e));
        break;
    case IN_TILES:
        TRY(read_tiles(in, dst, bytes, off, sc, c, e));
        break;
    case IN_ORDERED:
        there = in->buf + (off - in->buf_lo);
        break;
    case IN_PANEL:
        get_panel(in, p0, n, dst);
        break;
    case IN_MEMORY:
        if (in->contiguous)
            there = in->origin + off;
        else
            gather(&in->v, p0, p0 + n, in->origin, in->size, dst);
        break;
    }
    if (there && !in->swap && !in->tidy)
        *out = there;
    else if (there)
        memcpy(dst, there, bytes);
    if (*out == dst)
        fix(in, dst, n);
    return ST_OK;
}
