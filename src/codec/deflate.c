/* Raw deflate through zlib. The inflater reads its file range with pread and never gives more than
 * the declared size; the deflater works in caller's scratch, so neither touches the heap but for
 * the inflater's state, which comes from base/mem.h.
 *
 * Source: RFC 1951. Slabs end with a sync flush (an empty stored block), which returns the stream
 * to a byte bound.
 */
#include "codec/deflate.h"
#include "base/mem.h"
#include <libdeflate.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

enum { IN_BYTES = 32 << 10 };

struct inflater {
    z_stream z;
    struct file *file;
    uint64_t off, left; /* stored bytes not yet read */
    uint64_t raw, done; /* raw bytes declared, given */
    uint32_t crc, want_crc;
    bool check_crc, ended;
    uint8_t in[IN_BYTES];
};

uint32_t crc32_update(uint32_t crc, const void *p, size_t n)
{
    return libdeflate_crc32(crc, p, n); /* several times as fast as zlib's */
}

uint32_t crc32_join(uint32_t a, uint32_t b, uint64_t b_bytes)
{
    return (uint32_t)crc32_combine(a, b, (z_off_t)b_bytes);
}

static void *z_alloc(void *ctx, unsigned n, unsigned size)
{
    (void)ctx;
    return mem_zalloc(n, size);
}
static void z_free(void *ctx, void *p)
{
    (void)ctx;
    mem_free(p);
}

enum status inflate_open(struct file *f, uint64_t off, uint64_t stored, uint64_t raw,
                         const uint32_t *crc, struct inflater **out, struct err *e)
{
    *out = NULL;
    struct inflater *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(e, sizeof *s);
    s->file = f;
    s->off = off;
    s->left = stored;
    s->raw = raw;
    s->check_crc = crc != NULL;
    s->want_crc = crc ? *crc : 0;
    s->z.zalloc = z_alloc;
    s->z.zfree = z_free;
    if (inflateInit2(&s->z, -15) != Z_OK) {
        mem_free(s);
        return err_nomem(e, 48u << 10);
    }
    *out = s;
    return ST_OK;
}

void inflate_close(struct inflater *s)
{
    if (!s)
        return;
    (void)inflateEnd(&s->z);
    mem_free(s);
}

static enum status bad(struct inflater *s, const char *code, const char *why, struct err *e)
{
    err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(s->file), s->off - s->z.avail_in);
    return ST_INPUT;
}

/* Inflates up to room bytes into dst; stops early at the end of the stream or of the input. */
static enum status step(struct inflater *s, uint8_t *dst, size_t room, size_t *got, struct err *e)
{
    *got = 0;
    while (*got < room && !s->ended) {
        if (s->z.avail_in == 0 && s->left > 0) {
            size_t n = s->left < IN_BYTES ? (size_t)s->left : IN_BYTES;
            TRY(file_pread(s->file, s->in, n, s->off, e));
            s->off += n;
            s->left -= n;
            s->z.next_in = s->in;
            s->z.avail_in = (unsigned)n;
        }
        size_t want = room - *got;
        unsigned part = want < (1u << 30) ? (unsigned)want : 1u << 30;
        s->z.next_out = dst + *got;
        s->z.avail_out = part;
        int r = inflate(&s->z, Z_NO_FLUSH);
        *got += part - s->z.avail_out;
        if (r == Z_STREAM_END)
            s->ended = true;
        else if (r == Z_MEM_ERROR)
            return err_nomem(e, 48u << 10);
        else if (r == Z_BUF_ERROR && s->z.avail_in == 0 && s->left == 0)
            return ST_OK; /* input used up; the caller tells short from done */
        else if (r != Z_OK)
            return bad(s, "deflate-bad", "not a deflate stream", e);
    }
    return ST_OK;
}

static enum status finish(struct inflater *s, struct err *e)
{
    uint8_t more;
    size_t got = 0;
    TRY(step(s, &more, 1, &got, e));
    if (got != 0)
        return bad(s, "deflate-long", "stream is longer than declared", e);
    if (!s->ended)
        return bad(s, "deflate-short", "stream does not end where its bytes do", e);
    if (s->z.avail_in != 0 || s->left != 0)
        return bad(s, "deflate-tail", "bytes behind the end of the stream", e);
    if (s->check_crc && s->crc != s->want_crc)
        return bad(s, "zip-crc", "CRC-32 does not match the data", e);
    return ST_OK;
}

enum status inflate_read(struct inflater *s, void *dst, size_t *n, struct err *e)
{
    uint64_t left = s->raw - s->done;
    size_t room = left < *n ? (size_t)left : *n, got = 0;
    bool all_asked = *n != 0 || s->raw == 0;
    *n = 0;
    if (room > 0) {
        TRY(step(s, dst, room, &got, e));
        if (got < room)
            return bad(s, "deflate-short", "stream is shorter than declared", e);
        s->crc = crc32_update(s->crc, dst, got);
        s->done += got;
    }
    if (s->done == s->raw && all_asked)
        TRY(finish(s, e));
    *n = got;
    return ST_OK;
}

/* ---- zlib and gzip streams ---- */

struct unzip {
    z_stream z;
    bool ended;
};

enum status unzip_open(bool gzip, struct unzip **out, struct err *e)
{
    *out = NULL;
    struct unzip *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(e, sizeof *s);
    s->z.zalloc = z_alloc;
    s->z.zfree = z_free;
    if (inflateInit2(&s->z, gzip ? 15 + 16 : 15) != Z_OK) {
        mem_free(s);
        return err_nomem(e, 48u << 10);
    }
    *out = s;
    return ST_OK;
}

enum status unzip_step(struct unzip *s, const uint8_t **in, size_t *n_in, uint8_t **out,
                       size_t *n_out, bool *whole, struct err *e)
{
    unsigned a = *n_in < (1u << 30) ? (unsigned)*n_in : 1u << 30;
    unsigned b = *n_out < (1u << 30) ? (unsigned)*n_out : 1u << 30;
    if (!s->ended && (a || b)) {
        s->z.next_in = *in;
        s->z.avail_in = a;
        s->z.next_out = *out;
        s->z.avail_out = b;
        int r = inflate(&s->z, Z_NO_FLUSH);
        if (r == Z_MEM_ERROR)
            return err_nomem(e, 48u << 10);
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
            return err_set(e, ST_INPUT, "deflate-bad", "not a zlib or gzip stream");
        s->ended = r == Z_STREAM_END;
        *in += a - s->z.avail_in;
        *n_in -= a - s->z.avail_in;
        *out += b - s->z.avail_out;
        *n_out -= b - s->z.avail_out;
    }
    *whole = s->ended;
    return ST_OK;
}

void unzip_close(struct unzip *s)
{
    if (s)
        (void)inflateEnd(&s->z);
    mem_free(s);
}

/* ---- deflating ---- */

struct bump {
    uint8_t *p;
    size_t left;
};
static void *bump_alloc(void *ctx, unsigned n, unsigned size)
{
    struct bump *b = ctx;
    size_t want = ((size_t)n * size + 15) & ~(size_t)15;
    if (want > b->left)
        return NULL;
    void *p = b->p;
    memset(p, 0, want);
    b->p += want;
    b->left -= want;
    return p;
}
static void bump_free(void *ctx, void *p)
{
    (void)ctx;
    (void)p;
}

size_t deflate_bound(size_t n)
{
    /* zlib's bound for the default window, the sync flush, and blocks stored in the worst case */
    return n + (n >> 12) + (n >> 14) + (n >> 25) + 64;
}

enum status deflate_slab(const void *raw, size_t n, bool is_last, void *dst, size_t dst_cap,
                         void *scratch, size_t *stored, struct err *e)
{
    if (n > UINT32_MAX || dst_cap > UINT32_MAX)
        return err_set(e, ST_BUG, "deflate-slab", "slab of %zu bytes", n);
    struct bump b = {scratch, DEFLATE_SCRATCH};
    z_stream z = {.zalloc = bump_alloc, .zfree = bump_free, .opaque = &b};
    if (deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return err_set(e, ST_BUG, "deflate-slab", "deflate does not start in its scratch");
    z.next_in = raw;
    z.avail_in = (unsigned)n;
    z.next_out = dst;
    z.avail_out = (unsigned)dst_cap;
    int r = deflate(&z, is_last ? Z_FINISH : Z_SYNC_FLUSH);
    *stored = dst_cap - z.avail_out;
    bool ok = z.avail_in == 0 && (is_last ? r == Z_STREAM_END : r == Z_OK && z.avail_out != 0);
    (void)deflateEnd(&z);
    if (!ok)
        return err_set(e, ST_BUG, "deflate-slab", "slab does not fit its bound");
    return ST_OK;
}
