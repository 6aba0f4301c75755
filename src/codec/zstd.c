/* Frames through libzstd's static contexts, and stored frames by hand. */
#define ZSTD_STATIC_LINKING_ONLY
#include "codec/zstd.h"
#include "base/mem.h"
#include "codec/xxh.h"
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define BLOCK (128u << 10)
#define MAGIC 0xfd2fb528u

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

size_t zs_bound(size_t n)
{
    return n + 17 + 3 * (n / BLOCK + 1);
}

static int level_of(enum zs_how how)
{
    return how == ZS_HUFFMAN ? -131072 : how == ZS_FAST ? 1 : 3;
}

size_t zs_encode_scratch(void)
{
    size_t a = ZSTD_estimateCCtxSize(level_of(ZS_HUFFMAN)), b = ZSTD_estimateCCtxSize(3);
    return ((a > b ? a : b) + 4095) / 4096 * 4096;
}

/* Header of a single-segment frame with checksum; the size field is the smallest that holds n. */
static size_t frame_head(uint8_t *p, size_t n)
{
    put32(p, MAGIC);
    if (n < 256) {
        p[4] = 0x24;
        p[5] = (uint8_t)n;
        return 6;
    }
    if (n < 65536 + 256) {
        p[4] = 0x64;
        p[5] = (uint8_t)(n - 256);
        p[6] = (uint8_t)((n - 256) >> 8);
        return 7;
    }
    p[4] = 0xa4;
    put32(p + 5, (uint32_t)n);
    return 9;
}

static size_t by_hand(bool rle, const uint8_t *src, size_t n, uint8_t *dst)
{
    size_t out = frame_head(dst, n), lo = 0;
    do {
        size_t m = n - lo < BLOCK ? n - lo : BLOCK;
        bool last = lo + m == n;
        uint32_t head = (uint32_t)m << 3 | (rle && m > 0 ? 2u : 0u) | (last ? 1u : 0u);
        dst[out] = (uint8_t)head;
        dst[out + 1] = (uint8_t)(head >> 8);
        dst[out + 2] = (uint8_t)(head >> 16);
        out += 3;
        if (rle && m > 0) {
            dst[out++] = src[0];
        } else if (m > 0) {
            memcpy(dst + out, src + lo, m);
            out += m;
        }
        lo += m;
    } while (lo < n);
    put32(dst + out, (uint32_t)xxh64(src, n));
    return out + 4;
}

static enum status guest_failed(struct err *e, const char *what, size_t code)
{
    return err_set(e, ST_BUG, "zstd-encode", "%s: %s", what, ZSTD_getErrorName(code));
}

enum status zs_encode(enum zs_how how, const void *src, size_t n, void *dst, size_t cap,
                      void *scratch, size_t *stored, struct err *e)
{
    if (n > ZS_FRAME_MAX || cap < zs_bound(n))
        return err_set(e, ST_BUG, "zstd-encode", "a frame of %zu bytes into %zu", n, cap);
    if (how == ZS_RAW || how == ZS_RLE || n == 0) {
        *stored = by_hand(how == ZS_RLE, src, n, dst);
        return ST_OK;
    }
    ZSTD_CCtx *c = ZSTD_initStaticCCtx(scratch, zs_encode_scratch());
    if (!c)
        return err_set(e, ST_BUG, "zstd-encode", "the scratch is too small");
    size_t r = ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level_of(how));
    if (!ZSTD_isError(r))
        r = ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    if (!ZSTD_isError(r))
        r = ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 1);
    if (!ZSTD_isError(r)) /* as large as a frame: one segment, whatever the level's habit */
        r = ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 20);
    if (!ZSTD_isError(r) && how == ZS_HUFFMAN)
        r = ZSTD_CCtx_setParameter(c, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
    if (ZSTD_isError(r))
        return guest_failed(e, "a setting", r);
    r = ZSTD_compress2(c, dst, cap, src, n);
    if (ZSTD_isError(r) && ZSTD_getErrorCode(r) != ZSTD_error_dstSize_tooSmall)
        return guest_failed(e, "compress", r);
    size_t plain = zs_bound(n);
    *stored = ZSTD_isError(r) || r >= plain - 17 ? by_hand(false, src, n, dst) : r;
    return ST_OK;
}

size_t zs_decode_scratch(void)
{
    return ((size_t)ZSTD_estimateDCtxSize() + 4095) / 4096 * 4096;
}

bool zs_frame_head(const void *p, size_t n, uint64_t *content, size_t *head)
{
    ZSTD_frameHeader h;
    if (ZSTD_getFrameHeader(&h, p, n) != 0)
        return false;
    *content = h.frameContentSize;
    *head = h.headerSize;
    return h.frameType == ZSTD_frame && h.frameContentSize <= ZS_FRAME_MAX && h.dictID == 0 &&
           h.checksumFlag == 1 && h.windowSize == h.frameContentSize;
}

enum status zs_decode(const void *src, size_t stored, void *dst, size_t n, void *scratch,
                      struct err *e)
{
    uint64_t content;
    size_t head;
    if (!zs_frame_head(src, stored, &content, &head))
        return err_set(e, ST_INPUT, "zstd-frame",
                       "no frame of one segment with content size and checksum here");
    if (content != n)
        return err_set(e, ST_INPUT, "zstd-frame", "the frame says %llu raw bytes, the table %zu",
                       (unsigned long long)content, n);
    ZSTD_DCtx *d = ZSTD_initStaticDCtx(scratch, zs_decode_scratch());
    if (!d)
        return err_set(e, ST_BUG, "zstd-decode", "the scratch is too small");
#ifdef NNFERRY_FUZZ
    (void)ZSTD_DCtx_setParameter(d, ZSTD_d_forceIgnoreChecksum, ZSTD_d_ignoreChecksum);
#endif
    size_t whole = ZSTD_findFrameCompressedSize(src, stored);
    if (ZSTD_isError(whole) || whole != stored)
        return err_set(e, ST_INPUT, "zstd-frame", "the frame does not fill its %zu bytes", stored);
    size_t r = ZSTD_decompressDCtx(d, dst, n, src, stored);
    if (ZSTD_isError(r))
        return err_set(e, ST_INPUT, "zstd-frame", "damaged: %s", ZSTD_getErrorName(r));
    if (r != n)
        return err_set(e, ST_INPUT, "zstd-frame", "%zu raw bytes instead of %zu", r, n);
    return ST_OK;
}

/* ---- streams ---- */

struct zs_stream {
    ZSTD_DCtx *d;
    bool begun; /* a frame is open */
};

static void *guest_alloc(void *ctx, size_t n)
{
    (void)ctx;
    return mem_alloc(n);
}

static void guest_free(void *ctx, void *p)
{
    (void)ctx;
    mem_free(p);
}

enum status zs_open(uint64_t raw, struct zs_stream **out, struct err *e)
{
    ZSTD_customMem door = {guest_alloc, guest_free, NULL};
    int window = 23;
    *out = NULL;
    while (window < 27 && raw >> window)
        window++;
    struct zs_stream *s = mem_zalloc(1, sizeof *s);
    if (s)
        s->d = ZSTD_createDCtx_advanced(door);
    if (!s || !s->d) {
        mem_free(s);
        return err_nomem(e, zs_decode_scratch());
    }
    if (ZSTD_isError(ZSTD_DCtx_setParameter(s->d, ZSTD_d_windowLogMax, window))) {
        zs_close(s);
        return err_set(e, ST_BUG, "zstd-decode", "the window has no such limit");
    }
#ifdef NNFERRY_FUZZ
    (void)ZSTD_DCtx_setParameter(s->d, ZSTD_d_forceIgnoreChecksum, ZSTD_d_ignoreChecksum);
#endif
    *out = s;
    return ST_OK;
}

enum status zs_step(struct zs_stream *s, const uint8_t **in, size_t *n_in, uint8_t **out,
                    size_t *n_out, bool *whole, struct err *e)
{
    ZSTD_inBuffer src = {*in, *n_in, 0};
    ZSTD_outBuffer dst = {*out, *n_out, 0};
    size_t r = ZSTD_decompressStream(s->d, &dst, &src);
    if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
        return err_nomem(e, ZSTD_estimateDStreamSize((size_t)1 << 23));
    if (ZSTD_isError(r))
        return err_set(e, ST_INPUT, "zstd-frame", "%s", ZSTD_getErrorName(r));
    if (src.pos || dst.pos)
        s->begun = r != 0;
    *in += src.pos;
    *n_in -= src.pos;
    if (dst.pos)
        *out += dst.pos;
    *n_out -= dst.pos;
    *whole = !s->begun;
    return ST_OK;
}

void zs_close(struct zs_stream *s)
{
    if (s)
        (void)ZSTD_freeDCtx(s->d);
    mem_free(s);
}
