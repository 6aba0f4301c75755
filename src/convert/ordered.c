/* Inputs that decode from front to back into a sliding buffer: streams, and tiles that fit no
 * slab. See input.h. What a stretch leaves over is kept for the next, so nothing decodes twice.
 */
#include "base/mem.h"
#include "convert/input.h"
#include <string.h>

static enum status room(struct input *in, uint64_t bytes, struct err *e)
{
    if (bytes <= in->buf_cap)
        return ST_OK;
    uint8_t *p = mem_pages(bytes);
    if (!p)
        return err_nomem(e, bytes);
    if (in->buf) {
        memcpy(p, in->buf, in->buf_hi - in->buf_lo);
        mem_pages_free(in->buf, in->buf_cap);
    }
    in->buf = p;
    in->buf_cap = bytes;
    return ST_OK;
}

/* Drops what lies below raw byte lo. */
static void slide(struct input *in, uint64_t lo)
{
    if (lo <= in->buf_lo)
        return;
    if (in->buf_hi > lo)
        memmove(in->buf, in->buf + (lo - in->buf_lo), in->buf_hi - lo);
    else
        in->buf_hi = lo;
    in->buf_lo = lo;
}

static enum status stream_more(struct input *in, uint8_t *dst, uint64_t want, struct err *e)
{
    while (want > 0) {
        size_t n = want;
        TRY(in->s->dec->read(in->s, in->stream, dst, &n, e));
        if (n == 0)
            return err_set(e, ST_INPUT, "stream-short", "fewer bytes than declared");
        dst += n;
        want -= n;
    }
    return ST_OK;
}

/* Reads on to the end, so that the decoder proves length and checksum. */
static enum status stream_drain(struct input *in, uint64_t at, struct err *e)
{
    uint8_t block[4096];
    for (;;) {
        size_t n = sizeof block;
        TRY(in->s->dec->read(in->s, in->stream, block, &n, e));
        if (n == 0)
            break;
        at += n;
        if (at > in->s->raw_bytes)
            return err_set(e, ST_INPUT, "stream-long", "more bytes than declared");
    }
    if (at != in->s->raw_bytes)
        return err_set(e, ST_INPUT, "stream-short", "fewer bytes than declared");
    return ST_OK;
}

static enum status advance_stream(struct input *in, uint64_t lo, uint64_t hi, bool last,
                                  struct feed_counts *c, struct err *e)
{
    if (!in->stream_open) {
        TRY(in->s->dec->open(in->s, &in->stream, e));
        in->stream_open = true;
        c->n_decodes++;
        c->bytes_fetched += in->s->stored_bytes;
    }
    /* bytes before the view's first are decoded and forgotten */
    while (in->buf_hi < lo) {
        uint64_t n = lo - in->buf_hi < in->buf_cap ? lo - in->buf_hi : in->buf_cap;
        TRY(stream_more(in, in->buf, n, e));
        in->buf_lo = in->buf_hi += n;
    }
    slide(in, lo);
    TRY(stream_more(in, in->buf + (in->buf_hi - in->buf_lo), hi - in->buf_hi, e));
    in->buf_hi = hi;
    return last ? stream_drain(in, hi, e) : ST_OK;
}

enum status ordered_advance(struct input *in, uint64_t p0, uint64_t p1, bool last, uint64_t *t0,
                            uint64_t *t1, struct feed_counts *c, struct err *e)
{
    uint64_t lo = ((uint64_t)in->v.offset + p0) * in->size;
    uint64_t hi = ((uint64_t)in->v.offset + p1) * in->size;
    *t0 = *t1 = 0;
    if (in->s->kind == STORAGE_STREAM) {
        TRY(room(in, hi - lo, e));
        return advance_stream(in, lo, hi, last, c, e);
    }
    uint64_t tile = in->s->tile_bytes;
    if (in->buf_hi == 0 && in->buf_lo == 0)
        in->buf_lo = in->buf_hi = lo / tile * tile;
    slide(in, lo < in->buf_hi ? lo : in->buf_hi);
    *t0 = (in->buf_hi + tile - 1) / tile;
    *t1 = hi <= in->buf_hi ? *t0 : (hi + tile - 1) / tile;
    uint64_t end = *t1 * tile < in->s->raw_bytes ? *t1 * tile : in->s->raw_bytes;
    if (end < in->buf_hi)
        end = in->buf_hi;
    TRY(room(in, end - in->buf_lo, e));
    in->buf_hi = end;
    return ST_OK;
}

enum status ordered_tile(struct input *in, uint64_t t, struct scratch *sc, struct feed_counts *c,
                         struct err *e)
{
    c->n_decodes++;
    c->bytes_fetched += in->s->n_tiles ? in->s->stored_bytes / in->s->n_tiles : 0;
    return in->s->dec->tile(in->s, t, in->buf + (t * in->s->tile_bytes - in->buf_lo), sc->decode,
                            e);
}
