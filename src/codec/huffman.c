/* Blocks of Huffman-coded literals: which code, whether it pays, the section's header and the
 * streams.
 */
#include "codec/huffman.h"
#include "base/cpu.h"
#include "codec/histogram.h"
#include "codec/huffman_impl.h"

uint8_t *huf_stream_plain(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                          uint8_t *dst)
{
    struct huf_bits b = {.p = dst};
    uint16_t both[256];
    (void)most;
    for (int s = 0; s < 256; s++)
        both[s] = (uint16_t)(c->lo[s] | c->hi[s] << 8 | c->len[s] << HUF_BITS);
    for (; n >= 5; n -= 5) { /* 55 bits at most */
        uint64_t v = 0;
        unsigned len = 0;
        for (size_t i = 1; i <= 5; i++) {
            unsigned x = both[p[n - i]];
            v |= (uint64_t)(x & ((1u << HUF_BITS) - 1)) << len;
            len += x >> HUF_BITS;
        }
        huf_put(&b, v, len);
    }
    huf_put_symbols(&b, c, p, n);
    return huf_close(&b);
}

typedef uint8_t *(*stream_fn)(const struct huf_code *, const uint8_t *, size_t, unsigned,
                              uint8_t *);
static stream_fn stream(void)
{
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if ((have & CPU_AVX512) && (have & CPU_VBMI))
        return huf_stream_avx512;
    if (have & CPU_AVX2)
        return huf_stream_avx2;
#endif
    return huf_stream_plain;
}

/* Bits of what was counted, UINT64_MAX when a symbol has no code. */
static uint64_t cost(const uint32_t count[256], const struct huf_code *c)
{
    uint64_t bits = 0;
    bool whole = true;
    for (int s = 0; s < 256; s++) {
        bits += (uint64_t)count[s] * c->len[s];
        whole &= count[s] == 0 || c->len[s] > 0;
    }
    return whole ? bits : UINT64_MAX;
}

static void put(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* Literals_Section_Header: n raw bytes in `coded`; again: with the last block's code. */
static size_t section_head(uint8_t *p, size_t n, size_t coded, bool again)
{
    unsigned size = n < HUF_FOUR ? 0 : n < 1024 ? 1 : n < 16384 ? 2 : 3;
    unsigned width = size < 2 ? 10 : size == 2 ? 14 : 18;
    size_t bytes = (4 + 2 * width) / 8;
    put(p, (uint64_t)coded << (4 + width) | (uint64_t)n << 4 | size << 2 | (again ? 3u : 2u),
        bytes);
    return bytes;
}

static size_t streams(const struct huf_code *c, const uint8_t *p, size_t n, uint64_t bits,
                      uint8_t *dst)
{
    stream_fn fn = stream();
    unsigned most = bits * 16 <= n * 46 ? 16 : bits * 8 <= n * 46 ? 8 : 4;
    if (n < HUF_FOUR)
        return (size_t)(fn(c, p, n, most, dst) - dst);
    size_t each = (n + 3) / 4;
    uint8_t *at = dst + 6, *end = at;
    for (size_t i = 0; i < 4; i++) {
        end = fn(c, p + i * each, i < 3 ? each : n - 3 * each, most, at);
        if (i < 3)
            put(dst + 2 * i, (uint64_t)(end - at), 2);
        at = end;
    }
    return (size_t)(end - dst);
}

size_t huf_encode(struct huf_code *last, const uint8_t *p, size_t n, uint8_t *dst)
{
    uint32_t count[256];
    uint8_t text[HUF_DESCRIBED];
    struct huf_code now;
    histogram(p, n, count);
    if (count[p[0]] == n)
        return 0;
    huf_build(count, &now);
    size_t described = huf_describe(&now, text);
    uint64_t old = last->top > 0 ? cost(count, last) : UINT64_MAX;
    uint64_t bits = cost(count, &now);
    bool again = old != UINT64_MAX && (described == 0 || old <= bits + 8 * described);
    if (again) {
        bits = old;
        described = 0;
    } else if (described == 0) {
        return 0;
    }
    /* 5 head, 6 stream sizes, 4 ends of streams, 1 number of sequences, 8 that stores may pass */
    if (bits / 8 + described + 24 + n / 64 > n)
        return 0;
    if (!again)
        *last = now;
    size_t head = n < 1024 ? 3 : n < 16384 ? 4 : 5;
    memcpy(dst + head, text, described);
    size_t coded = described + streams(last, p, n, bits, dst + head + described);
    (void)section_head(dst, n, coded, again);
    dst[head + coded] = 0; /* no sequences */
    return head + coded + 1;
}
