/* Blosc 1: blocks, their streams, and the shuffles undone. See blosc.h. */
#include "codec/blosc.h"
#include "base/mem.h"
#include "codec/deflate.h"
#include "codec/zstd.h"
#include <string.h>

enum { F_SHUFFLE = 1, F_PLAIN = 2, F_BITS = 4, F_WHOLE = 16 };
enum { IN_BLOSCLZ, IN_LZ4, IN_SNAPPY, IN_ZLIB, IN_ZSTD };
enum { MAX_SPLITS = 16, MIN_SPLIT = 128 };

struct blosc {
    const uint8_t *src;
    size_t stored, n, block;
    uint8_t flags, elem;
    uint8_t *room; /* one block, when shuffled */
};

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- inner formats ---- */

/* Copies from `back` bytes ago; the ranges may overlap, then the pattern repeats. */
static bool copy_back(uint8_t *dst, size_t *at, size_t n, size_t back, size_t len)
{
    if (back == 0 || back > *at || len > n - *at)
        return false;
    for (size_t i = 0; i < len; i++)
        dst[*at + i] = dst[*at - back + i];
    *at += len;
    return true;
}

/* A length that goes on while its bytes are 255. */
static bool more_length(const uint8_t *src, size_t stored, size_t *at, size_t *len)
{
    uint8_t b;
    do {
        if (*at == stored)
            return false;
        b = src[(*at)++];
        *len += b;
    } while (b == 255);
    return true;
}

bool lz4_block(const uint8_t *src, size_t stored, uint8_t *dst, size_t n)
{
    size_t at = 0, out = 0;
    while (at < stored) {
        uint8_t token = src[at++];
        size_t len = token >> 4;
        if (len == 15 && !more_length(src, stored, &at, &len))
            return false;
        if (len > stored - at || len > n - out)
            return false;
        if (len)
            memcpy(dst + out, src + at, len);
        at += len;
        out += len;
        if (at == stored) /* the last sequence has literals alone */
            return out == n;
        if (stored - at < 2)
            return false;
        size_t back = src[at] | (size_t)src[at + 1] << 8;
        at += 2;
        len = token & 15;
        if (len == 15 && !more_length(src, stored, &at, &len))
            return false;
        if (!copy_back(dst, &out, n, back, len + 4))
            return false;
    }
    return n == 0 && stored == 0;
}

/* Control bytes: below 32 that many literals and one; else a match of 3 and more bytes, 13 bits
 * back, or 8191 and 16 bits where all of those are set. */
static bool blosclz(const uint8_t *src, size_t stored, uint8_t *dst, size_t n)
{
    size_t at = 0, out = 0;
    bool first = true; /* the first control byte is always of literals */
    while (at < stored) {
        size_t c = src[at++];
        if (first)
            c &= 31;
        first = false;
        if (c < 32) {
            c++;
            if (c > stored - at || c > n - out)
                return false;
            memcpy(dst + out, src + at, c);
            at += c;
            out += c;
            continue;
        }
        size_t len = (c >> 5) - 1, far = (c & 31) << 8;
        if (len == 6 && !more_length(src, stored, &at, &len))
            return false;
        if (at == stored)
            return false;
        size_t low = src[at++];
        far += low;
        if (low == 255 && (c & 31) == 31) {
            if (stored - at < 2)
                return false;
            far = 8191 + ((size_t)src[at] << 8 | src[at + 1]);
            at += 2;
        }
        if (!copy_back(dst, &out, n, far + 1, len + 3))
            return false;
    }
    return out == n;
}

static bool zlib_block(const uint8_t *src, size_t stored, uint8_t *dst, size_t n, struct err *e)
{
    struct unzip *z;
    bool whole = false;
    uint8_t over;
    uint8_t *more = &over;
    size_t none = 1;
    if (unzip_open(false, &z, e) != ST_OK)
        return false;
    enum status st = unzip_step(z, &src, &stored, &dst, &n, &whole, e);
    if (st == ST_OK && n == 0 && !whole) /* the sum behind the data */
        st = unzip_step(z, &src, &stored, &more, &none, &whole, e);
    unzip_close(z);
    return st == ST_OK && n == 0 && none == 1 && stored == 0 && whole;
}

static bool zstd_block(const uint8_t *src, size_t stored, uint8_t *dst, size_t n, struct err *e)
{
    struct zs_stream *z;
    bool whole = false;
    if (zs_open(n, &z, e) != ST_OK)
        return false;
    enum status st = ST_OK;
    for (size_t left = 1; st == ST_OK && left != stored + n;) {
        left = stored + n;
        st = zs_step(z, &src, &stored, &dst, &n, &whole, e);
    }
    zs_close(z);
    return st == ST_OK && n == 0 && stored == 0 && whole;
}

static enum status one_stream(unsigned inner, const uint8_t *src, size_t stored, uint8_t *dst,
                              size_t n, struct err *e)
{
    bool good = false;
    struct err why = {.status = ST_OK};
    if (stored == n) {
        memcpy(dst, src, n);
        return ST_OK;
    }
    switch (inner) {
    case IN_BLOSCLZ:
        good = blosclz(src, stored, dst, n);
        break;
    case IN_LZ4:
        good = lz4_block(src, stored, dst, n);
        break;
    case IN_ZLIB:
        good = zlib_block(src, stored, dst, n, &why);
        break;
    case IN_ZSTD:
        good = zstd_block(src, stored, dst, n, &why);
        break;
    default:
        return err_set(e, ST_INPUT, "blosc-codec", "inner format %u of blosc", inner);
    }
    if (!good && why.status == ST_LIMIT) {
        *e = why;
        return ST_LIMIT;
    }
    return good ? ST_OK
                : err_set(e, ST_INPUT, "blosc-stream",
                          "a stream of a block is damaged or of "
                          "another size");
}

/* ---- shuffles ---- */

static void unshuffle_bytes(const uint8_t *src, uint8_t *dst, size_t n, size_t elem)
{
    size_t count = n / elem;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < elem; k++)
            dst[i * elem + k] = src[k * count + i];
    memcpy(dst + count * elem, src + count * elem, n - count * elem);
}

static void unshuffle_bits(const uint8_t *src, uint8_t *dst, size_t n, size_t elem)
{
    size_t count = n / elem;
    if (count % 8) { /* such blocks are left as they are */
        memcpy(dst, src, n);
        return;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < elem; k++) {
            uint32_t v = 0;
            for (size_t b = 0; b < 8; b++)
                v |= ((uint32_t)src[(k * 8 + b) * (count / 8) + i / 8] >> (i % 8) & 1u) << b;
            dst[i * elem + k] = (uint8_t)v;
        }
    memcpy(dst + count * elem, src + count * elem, n - count * elem);
}

/* ---- blocks ---- */

static enum status one_block(const struct blosc *b, size_t at, uint8_t *dst, size_t n,
                             struct err *e)
{
    size_t elem = b->elem, parts = 1;
    bool bytes = b->flags & F_SHUFFLE && elem > 1;
    bool bits = !bytes && b->flags & F_BITS && n >= elem;
    uint8_t *to = bytes || bits ? b->room : dst;
    if (!(b->flags & F_WHOLE) && elem <= MAX_SPLITS && n / elem >= MIN_SPLIT && n == b->block)
        parts = elem;
    if (n % parts) /* a whole number of elements in every block that is split */
        return err_set(e, ST_INPUT, "blosc-block", "a block of %zu bytes in %zu streams", n, parts);
    for (size_t k = 0; k < parts; k++) {
        if (at > b->stored || b->stored - at < 4)
            return err_set(e, ST_INPUT, "blosc-block", "a block begins behind the end");
        size_t stored = get32(b->src + at);
        at += 4;
        if (stored > b->stored - at)
            return err_set(e, ST_INPUT, "blosc-block", "a stream reaches behind the end");
        TRY(one_stream(b->flags >> 5, b->src + at, stored, to + k * (n / parts), n / parts, e));
        at += stored;
    }
    if (bytes)
        unshuffle_bytes(to, dst, n, elem);
    else if (bits)
        unshuffle_bits(to, dst, n, elem);
    return ST_OK;
}

enum status blosc_decode(const void *src, size_t stored, void *dst, size_t n, struct err *e)
{
    struct blosc b = {.src = src, .stored = stored, .n = n};
    uint8_t *out = dst;
    if (stored < BLOSC_HEAD || b.src[0] == 0 || b.src[0] > 2 || b.src[3] == 0)
        return err_set(e, ST_INPUT, "blosc-header", "no blosc buffer begins like this");
    b.flags = b.src[2];
    b.elem = b.src[3];
    b.block = get32(b.src + 8);
    if (get32(b.src + 12) != stored)
        return err_set(e, ST_INPUT, "blosc-header", "the header says %u stored bytes, not %zu",
                       get32(b.src + 12), stored);
    if (get32(b.src + 4) != n)
        return err_set(e, ST_INPUT, "blosc-size", "the header says %u raw bytes, not %zu",
                       get32(b.src + 4), n);
    if (b.flags & F_PLAIN) {
        if (stored != n + BLOSC_HEAD)
            return err_set(e, ST_INPUT, "blosc-size", "%zu bytes stored plain, not %zu",
                           stored - BLOSC_HEAD, n);
        memcpy(dst, b.src + BLOSC_HEAD, n);
        return ST_OK;
    }
    if (n == 0)
        return ST_OK;
    if (b.block == 0 || b.block > n + 255) /* small buffers: rounded to whole elements */
        return err_set(e, ST_INPUT, "blosc-header", "blocks of %zu bytes", b.block);
    size_t n_blocks = (n + b.block - 1) / b.block;
    if (n_blocks > (stored - BLOSC_HEAD) / 4)
        return err_set(e, ST_INPUT, "blosc-block", "the table of blocks is longer than the buffer");
    enum status st = ST_OK;
    if (b.flags & (F_SHUFFLE | F_BITS)) {
        b.room = mem_alloc(b.block);
        if (!b.room)
            return err_nomem(e, b.block);
    }
    for (size_t i = 0; st == ST_OK && i < n_blocks; i++) {
        size_t left = n - i * b.block;
        st = one_block(&b, get32(b.src + BLOSC_HEAD + 4 * i), out + i * b.block,
                       left < b.block ? left : b.block, e);
    }
    mem_free(b.room);
    return st;
}
