/* HDF5: the filters of a chunk, undone from the last to the first.
 *
 *   1 deflate (a zlib stream)      2 shuffle: byte k of every element together; value: element size
 *   3 fletcher32: 4 bytes behind   32000 LZF (liblzf's stream; a chunk that did not shrink is
 * masked)
 *
 * A chunk's mask skips filters. One filter at most shrinks, so every size in between is known.
 *
 * Refused: hdf5-chunk-size, hdf5-fletcher, lzf-bad, and deflate-bad.
 */
#include "codec/deflate.h"
#include "codec/hdf5_int.h"
#include <string.h>

enum { DEFLATE = 1, SHUFFLE = 2, FLETCHER = 3, LZF = 32000 };

/* Room for one buffer in between: raw bytes and the sums behind them. */
static size_t room(const struct hdf5_object *d)
{
    return (size_t)d->layout.chunk_bytes + 4u * HDF5_MAX_FILTERS;
}

size_t hdf5_chunk_scratch(const struct hdf5_object *d, uint64_t max_stored)
{
    size_t one = room(d);
    return ((size_t)max_stored > one ? (size_t)max_stored : one) + one;
}

/* ST_INPUT without a place: the caller knows it. */
static enum status bad(struct err *e, const char *code, const char *why)
{
    return err_set(e, ST_INPUT, code, "%s", why);
}

/* HDF5's own sum: words of two bytes, high byte first, modulo 65535. */
static uint32_t fletcher32(const uint8_t *p, size_t n)
{
    uint32_t a = 0, b = 0;
    size_t words = n / 2;
    while (words) {
        size_t k = words > 360 ? 360 : words;
        words -= k;
        for (; k; k--, p += 2) {
            a += (uint32_t)p[0] << 8 | p[1];
            b += a;
        }
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    if (n % 2) {
        a += (uint32_t)*p << 8;
        b += a;
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
    return b << 16 | a;
}

static enum status unfletcher(const uint8_t *p, size_t *n, struct err *e)
{
    if (*n < 4)
        return bad(e, "hdf5-chunk-size", "a chunk without its sum");
    *n -= 4;
    uint32_t have = fletcher32(p, *n), want = (uint32_t)h5_uint_at(p + *n, 4);
    /* old libraries wrote the bytes of each half the other way round */
    uint32_t old = (have & 0xff00ff) << 8 | (have >> 8 & 0xff00ff);
    return want == have || want == old ? ST_OK
                                       : bad(e, "hdf5-fletcher", "the sum of a chunk is wrong");
}

static void unshuffle(const uint8_t *p, size_t n, size_t elem, uint8_t *to)
{
    if (elem > n)
        elem = 1;
    size_t count = n / elem, tail = count * elem;
    for (size_t k = 0; k < elem; k++) {
        const uint8_t *from = p + k * count;
        for (size_t i = 0; i < count; i++)
            to[i * elem + k] = from[i];
    }
    memcpy(to + tail, p + tail, n - tail);
}

static enum status unlzf(const uint8_t *p, size_t n, uint8_t *to, size_t raw, struct err *e)
{
    size_t in = 0, out = 0;
    while (in < n) {
        size_t ctrl = p[in++];
        if (ctrl < 32) { /* ctrl + 1 bytes as they are */
            if (ctrl + 1 > n - in || ctrl + 1 > raw - out)
                return bad(e, "lzf-bad", "a run leaves the chunk");
            memcpy(to + out, p + in, ctrl + 1);
            in += ctrl + 1;
            out += ctrl + 1;
            continue;
        }
        size_t len = ctrl >> 5, back;
        if (len == 7) {
            if (in == n)
                return bad(e, "lzf-bad", "the chunk ends inside a reference");
            len += p[in++];
        }
        if (in == n)
            return bad(e, "lzf-bad", "the chunk ends inside a reference");
        back = ((ctrl & 31) << 8 | p[in++]) + 1;
        len += 2;
        if (back > out || len > raw - out)
            return bad(e, "lzf-bad", "a reference leaves the chunk");
        for (size_t i = 0; i < len; i++, out++)
            to[out] = to[out - back];
    }
    return out == raw ? ST_OK : bad(e, "lzf-bad", "the chunk ends early");
}

static enum status inflate_all(const uint8_t *p, size_t n, uint8_t *to, size_t raw, struct err *e)
{
    struct unzip *z;
    uint8_t extra = 0, *more = &extra;
    size_t space = raw, one = 1;
    bool whole = false;
    TRY(unzip_open(false, &z, e));
    enum status st = ST_OK;
    for (size_t before = n + space + 1; st == ST_OK && !whole && n + space < before;) {
        before = n + space;
        st = unzip_step(z, &p, &n, &to, &space, &whole, e);
    }
    if (st == ST_OK && !whole && space == 0) /* the stream's end, or a byte too many */
        st = unzip_step(z, &p, &n, &more, &one, &whole, e);
    unzip_close(z);
    TRY(st);
    if (one == 0)
        return bad(e, "hdf5-chunk-size", "a chunk inflates to more than its size");
    if (!whole || space)
        return bad(e, "hdf5-chunk-size", "a chunk inflates to less than its size");
    return n ? bad(e, "hdf5-chunk-size", "bytes stand behind a chunk's stream") : ST_OK;
}

/* Bytes that went into filter i: raw bytes and the sums of the filters before it. */
static size_t size_into(const struct hdf5_object *d, const struct hdf5_chunk *c, unsigned i)
{
    size_t n = (size_t)d->layout.chunk_bytes;
    for (unsigned k = 0; k < i; k++)
        if (d->filter[k].id == FLETCHER && !(c->mask >> k & 1))
            n += 4;
    return n;
}

enum status hdf5_unfilter(const struct hdf5_object *d, const struct hdf5_chunk *c, bool edge,
                          void *dst, uint8_t *scratch, struct err *e)
{
    size_t n = (size_t)c->stored, raw = (size_t)d->layout.chunk_bytes;
    size_t first = hdf5_chunk_scratch(d, c->stored) - room(d);
    uint8_t *at = scratch, *other = scratch + first;
    for (unsigned i = edge && d->layout.plain_edges ? 0 : d->n_filters; i-- > 0;) {
        const struct hdf5_filter *f = &d->filter[i];
        size_t want = size_into(d, c, i);
        if (c->mask >> i & 1)
            continue;
        if (f->id == FLETCHER) {
            TRY(unfletcher(at, &n, e));
            continue;
        }
        uint8_t *to = i == 0 ? dst : other; /* filter 0 gives raw bytes */
        if (f->id == SHUFFLE) {
            size_t elem = f->value ? f->value : d->type.size; /* as large as it likes */
            if (n != want)
                return bad(e, "hdf5-chunk-size", "a shuffled chunk of another size");
            unshuffle(at, n, elem, to);
        } else if (f->id == DEFLATE) {
            TRY(inflate_all(at, n, to, want, e));
        } else {
            TRY(unlzf(at, n, to, want, e));
        }
        n = want;
        other = at;
        at = to;
    }
    if (n != raw)
        return bad(e, "hdf5-chunk-size", "a chunk that does not decode to its size");
    if (at != (uint8_t *)dst)
        memcpy(dst, at, raw);
    return ST_OK;
}
