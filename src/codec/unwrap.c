/* See unwrap.h. Source: RFC 1950, RFC 1952; zlib does the work. */
#include "codec/unwrap.h"
#include "base/mem.h"
#include "base/out.h"
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

enum { IN_BYTES = 64 << 10, OUT_BYTES = 256 << 10, EITHER = 32 };

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

bool unwrap_peek(const uint8_t *head, size_t head_n, uint8_t *out, size_t cap, size_t *n)
{
    z_stream z = {.zalloc = z_alloc, .zfree = z_free};
    *n = 0;
    bool gzip = head_n >= 3 && memcmp(head, "\x1f\x8b\x08", 3) == 0;
    bool zlib = head_n >= 2 && (head[0] & 0x8f) == 0x08 && (head[0] * 256u + head[1]) % 31 == 0 &&
                !(head[1] & 0x20);
    if ((!gzip && !zlib) || inflateInit2(&z, 15 + EITHER) != Z_OK)
        return false;
    z.next_in = head;
    z.avail_in = (unsigned)head_n;
    z.next_out = out;
    z.avail_out = (unsigned)cap;
    int r = inflate(&z, Z_SYNC_FLUSH);
    *n = cap - z.avail_out;
    (void)inflateEnd(&z);
    return r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR;
}

struct work {
    z_stream z;
    struct file *in;
    struct spool *to;
    uint64_t read, written, most;
    uint8_t *buf; /* IN_BYTES, then OUT_BYTES */
};

static enum status bad(const struct work *w, const char *code, const char *why, struct err *e)
{
    err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(w->in), w->read - w->z.avail_in);
    return ST_INPUT;
}

static enum status pump(struct work *w, struct err *e)
{
    uint64_t size = file_size(w->in);
    for (;;) {
        if (w->z.avail_in == 0 && w->read < size) {
            size_t n = size - w->read < IN_BYTES ? (size_t)(size - w->read) : IN_BYTES;
            TRY(file_pread(w->in, w->buf, n, w->read, e));
            w->read += n;
            w->z.next_in = w->buf;
            w->z.avail_in = (unsigned)n;
        }
        w->z.next_out = w->buf + IN_BYTES;
        w->z.avail_out = OUT_BYTES;
        int r = inflate(&w->z, Z_NO_FLUSH);
        size_t got = OUT_BYTES - w->z.avail_out;
        if (r == Z_MEM_ERROR)
            return err_nomem(e, 48u << 10);
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
            return bad(w, "deflate-bad", "not a zlib or gzip stream, or its sum is wrong", e);
        if (got > w->most - w->written)
            return bad(w, "deflate-long", "the stream unfolds to more than is credible", e);
        if (got)
            TRY(spool_pwrite(w->to, w->buf + IN_BYTES, got, w->written, e));
        w->written += got;
        if (r == Z_STREAM_END)
            break;
        if (got == 0 && w->z.avail_in == 0 && w->read == size)
            return bad(w, "deflate-short", "the stream does not end where the file does", e);
    }
    if (w->z.avail_in || w->read < size)
        return bad(w, "deflate-tail", "bytes behind the end of the stream", e);
    return ST_OK;
}

enum status unwrap_spool(struct file *f, uint64_t most, struct file **out, struct err *e)
{
    struct work w = {.in = f, .most = most, .z = {.zalloc = z_alloc, .zfree = z_free}};
    *out = NULL;
    w.buf = mem_alloc((size_t)IN_BYTES + OUT_BYTES);
    if (!w.buf || inflateInit2(&w.z, 15 + EITHER) != Z_OK) {
        mem_free(w.buf);
        return err_nomem(e, (size_t)IN_BYTES + OUT_BYTES);
    }
    enum status st = spool_open(NULL, &w.to, e);
    if (st == ST_OK)
        st = pump(&w, e);
    if (st == ST_OK)
        st = spool_file(w.to, file_path(f), out, e);
    spool_close(w.to);
    (void)inflateEnd(&w.z);
    mem_free(w.buf);
    return st;
}
