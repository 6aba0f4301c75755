/* Frames through libzstd's static contexts; stored and Huffman-coded frames by hand. */
#define ZSTD_STATIC_LINKING_ONLY
#include "codec/zstd.h"
#include "base/mem.h"
#include "codec/huffman.h"
#include "codec/xxh.h"
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define BLOCK ZS_BLOCK
#if ZS_BLOCK > HUF_BLOCK
#error "blocks do not fit"
#endif
#define MAGIC 0xfd2fb528u

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

size_t zs_bound(size_t n)
{
    return n + 17 + 3 * (n / BLOCK + 1);
}

static int level_of(enum zs_how how)
{
    return how == ZS_FAST ? 1 : 3;
}

size_t zs_encode_scratch(void)
{
    size_t a = ZSTD_estimateCCtxSize(level_of(ZS_FAST)),
           b = ZSTD_estimateCCtxSize(level_of(ZS_USUAL));
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

enum block { RAW, RLE, CODED };
static size_t block_head(uint8_t *p, enum block type, size_t size, bool last)
{
    uint32_t v = (uint32_t)size << 3 | (uint32_t)type << 1 | (last ? 1u : 0u);
    for (int i = 0; i < 3; i++)
        p[i] = (uint8_t)(v >> 8 * i);
    return 3;
}

static bool all_equal(const uint8_t *p, size_t n)
{
    return memcmp(p, p + 1, n - 1) == 0;
}

void zs_put_begin(struct zs_put *w, size_t n, void *dst)
{
    w->dst = dst;
    w->out = frame_head(dst, n);
    w->left = n;
    w->code.top = 0;
}

void zs_put_block(struct zs_put *w, enum zs_how how, const uint8_t *p)
{
    size_t m = w->left < BLOCK ? w->left : BLOCK, coded = 0;
    bool last = m == w->left;
    uint8_t *head = w->dst + w->out, *body = head + 3;
    w->left -= m;
    if (m > 0 && (how == ZS_RLE || (how == ZS_HUFFMAN && all_equal(p, m)))) {
        w->out += block_head(head, RLE, m, last) + 1;
        *body = p[0];
        return;
    }
    if (how == ZS_HUFFMAN)
        coded = huf_encode(&w->code, p, m, body);
    if (coded == 0 && m > 0 && p != body)
        memcpy(body, p, m);
    w->out += block_head(head, coded > 0 ? CODED : RAW, coded > 0 ? coded : m, last);
    w->out += coded > 0 ? coded : m;
}

size_t zs_put_end(struct zs_put *w, uint64_t xxh)
{
    put32(w->dst + w->out, (uint32_t)xxh);
    return w->out + 4;
}

size_t zs_raw_size(size_t n)
{
    uint8_t head[16];
    return frame_head(head, n) + n + 3 * (n == 0 ? 1 : (n - 1) / BLOCK + 1) + 4;
}

size_t zs_by_hand(enum zs_how how, const void *src, size_t n, uint64_t xxh, void *dst)
{
    struct zs_put w;
    zs_put_begin(&w, n, dst);
    size_t lo = 0;
    do {
        zs_put_block(&w, how, (const uint8_t *)src + lo);
        lo += BLOCK;
    } while (lo < n);
    return zs_put_end(&w, xxh);
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
    if (n == 0 || (how != ZS_FAST && how != ZS_USUAL)) {
        *stored = zs_by_hand(n == 0 ? ZS_RAW : how, src, n, xxh64(src, n), dst);
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
    if (ZSTD_isError(r))
        return guest_failed(e, "a setting", r);
    r = ZSTD_compress2(c, dst, cap, src, n);
    if (ZSTD_isError(r) && ZSTD_getErrorCode(r) != ZSTD_error_dstSize_tooSmall)
        return guest_failed(e, "compress", r);
    size_t plain = zs_bound(n);
    *stored =
        ZSTD_isError(r) || r >= plain - 17 ? zs_by_hand(ZS_RAW, src, n, xxh64(src, n), dst) : r;
    return ST_OK;
}

size_t zs_decode_scratch(void)
{
    size_t n = (size_t)ZSTD_estimateDCtxSize();
    return ((n > sizeof(struct huf_decoder) ? n : sizeof(struct huf_decoder)) + 4095) / 4096 * 4096;
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

/* Frames of raw and RLE blocks alone need no libzstd, whose set-up costs more than they do (it asks
 * the CPU what it is, which a virtual machine answers slowly). false: not such a frame, or one that
 * libzstd shall find fault with; dst may have been written then. */
static bool plain_frame(const uint8_t *src, size_t stored, size_t head, uint8_t *dst, size_t n)
{
    size_t at = head, out = 0;
    for (bool last = false; !last;) {
        if (stored - at < 3)
            return false;
        uint32_t h = (uint32_t)src[at] | (uint32_t)src[at + 1] << 8 | (uint32_t)src[at + 2] << 16;
        uint32_t kind = h >> 1 & 3, m = h >> 3;
        at += 3;
        last = h & 1;
        if (kind > 1 || m > BLOCK || m > n - out || (kind == 0 ? m : 1) > stored - at)
            return false;
        if (kind == 0)
            memcpy(dst + out, src + at, m);
        else
            memset(dst + out, src[at], m);
        at += kind == 0 ? m : 1;
        out += m;
    }
    return out == n && stored - at == 4 && get32(src + at) == (uint32_t)xxh64(dst, n);
}

bool zs_take_begin(struct zs_take *t, const void *src, size_t stored, size_t n)
{
    uint64_t content;
    size_t head;
    if (n == 0 || !zs_frame_head(src, stored, &content, &head) || content != n)
        return false;
    *t = (struct zs_take){src, head, stored, n};
    return true;
}

const uint8_t *zs_take_block(struct zs_take *t, struct huf_decoder *d, uint8_t *room)
{
    const uint8_t *p = t->src + t->at + 3;
    size_t m = t->left < BLOCK ? t->left : BLOCK;
    if (m == 0 || t->stored - t->at < 3)
        return NULL;
    uint32_t v = p[-3] | (uint32_t)p[-2] << 8 | (uint32_t)p[-1] << 16;
    size_t size = v >> 3, here = (v >> 1 & 3) == RLE ? 1 : size;
    if ((v & 1) != (m == t->left) || t->stored - t->at - 3 < here)
        return NULL;
    t->at += 3 + here;
    t->left -= m;
    switch (v >> 1 & 3) {
    case RAW:
        return size == m ? p : NULL;
    case RLE:
        memset(room, p[0], m);
        return size == m ? room : NULL;
    case CODED:
        return size < m && huf_decode(d, p, size, room, m) ? room : NULL;
    default:
        return NULL;
    }
}

bool zs_take_end(const struct zs_take *t, uint32_t *xxh)
{
    if (t->left != 0 || t->stored - t->at != 4)
        return false;
    *xxh = get32(t->src + t->at);
    return true;
}

/* A frame that is ours, checksum and all. */
static bool take_all(const uint8_t *src, size_t stored, uint8_t *dst, size_t n,
                     struct huf_decoder *d)
{
    struct zs_take t;
    uint32_t xxh;
    d->code.top = 0;
    if (!zs_take_begin(&t, src, stored, n))
        return false;
    for (uint8_t *to = dst; t.left > 0;) {
        size_t left = t.left;
        const uint8_t *p = zs_take_block(&t, d, to);
        if (!p)
            return false;
        if (p != to)
            memcpy(to, p, left - t.left);
        to += left - t.left;
    }
    return zs_take_end(&t, &xxh) && zs_same_xxh(xxh, xxh64(dst, n));
}

bool zs_same_xxh(uint32_t frame, uint64_t data)
{
#ifdef NNFERRY_FUZZ
    (void)frame;
    (void)data;
    return true;
#else
    return frame == (uint32_t)data;
#endif
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
    if (plain_frame(src, stored, head, dst, n))
        return ST_OK;
    if (take_all(src, stored, dst, n, scratch))
        return ST_OK;
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
