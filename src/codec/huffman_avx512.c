/* Huffman streams, 64 symbols at a time: codes and lengths looked up with byte permutes, then put
 * together in registers, two, four and eight symbols to a group. Needs CPU_VBMI.
 */
#include "codec/huffman_impl.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A table of bytes by symbol: 64 entries where the symbols that have codes differ in their low six
 * bits, 128 where they differ in seven, else 256. */
struct table {
    __m512i v[4];
};
INLINE __m512i look_up(const struct table *t, __m512i s, int quarters)
{
    if (quarters == 1)
        return _mm512_permutexvar_epi8(s, t->v[0]);
    __m512i low = _mm512_permutex2var_epi8(t->v[0], s, t->v[1]);
    if (quarters == 2)
        return low;
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(s), low,
                                  _mm512_permutex2var_epi8(t->v[2], s, t->v[3]));
}

static void fold(struct table *t, const uint8_t *p, int quarters)
{
    for (int i = 0; i < 4; i++)
        t->v[i] = _mm512_loadu_si512(p + 64 * i);
    if (quarters <= 2)
        for (int i = 0; i < 2; i++)
            t->v[i] = _mm512_or_si512(t->v[i], t->v[i + 2]);
    if (quarters == 1)
        t->v[0] = _mm512_or_si512(t->v[0], t->v[1]);
}

static int quarters_of(const uint8_t len[256])
{
    __mmask64 m[4];
    for (int i = 0; i < 4; i++) {
        __m512i v = _mm512_loadu_si512(len + 64 * i);
        m[i] = _mm512_test_epi8_mask(v, v);
    }
    if ((m[0] & m[2]) || (m[1] & m[3]))
        return 4;
    return (m[0] | m[2]) & (m[1] | m[3]) ? 2 : 1;
}

/* 64 symbols in groups of four, [0] those that come first in the stream (the upper ones) of every
 * eight, [1] the others; lanes in order. Bits of the upper four and of all eight. */
struct quads {
    __m512i code[2], bits, bits8;
};
INLINE struct quads quads(const struct table t[3], const uint8_t *p, int quarters)
{
    /* of every lane's lengths: those that a pair's lower half, a four's lower half move up by */
    const __m512i odd0 = _mm512_set4_epi32(-0x7f7f7ff9, -0x7f7f7ffb, -0x7f7f7ffd, -0x7f7f7fff);
    const __m512i odd1 = _mm512_add_epi8(odd0, _mm512_set1_epi32(8));
    const __m512i up0 = _mm512_set4_epi32(-0x7f7f7f80, -0x7f7f7ffa, -0x7f7f7f80, -0x7f7f7ffe);
    const __m512i up1 = _mm512_add_epi8(up0, _mm512_set1_epi64(8));
    const __m512i low = _mm512_set1_epi64(0xffffffff), one = _mm512_set1_epi16(1);
    __m512i s = _mm512_loadu_si512(p);
    __m512i lo = look_up(&t[0], s, quarters), hi = look_up(&t[1], s, quarters);
    __m512i len = look_up(&t[2], s, quarters);
    __m512i len2 = _mm512_maddubs_epi16(len, _mm512_set1_epi8(1));
    __m512i len4 = _mm512_madd_epi16(len2, one);
    /* two: the lower symbol's code times a power of two, plus the upper one's */
    __m512i c0 = _mm512_madd_epi16(_mm512_unpacklo_epi8(lo, hi),
                                   _mm512_sllv_epi16(one, _mm512_shuffle_epi8(len, odd0)));
    __m512i c1 = _mm512_madd_epi16(_mm512_unpackhi_epi8(lo, hi),
                                   _mm512_sllv_epi16(one, _mm512_shuffle_epi8(len, odd1)));
    c0 = _mm512_or_si512(
        _mm512_srli_epi64(c0, 32),
        _mm512_sllv_epi64(_mm512_and_si512(c0, low), _mm512_shuffle_epi8(len2, up0)));
    c1 = _mm512_or_si512(
        _mm512_srli_epi64(c1, 32),
        _mm512_sllv_epi64(_mm512_and_si512(c1, low), _mm512_shuffle_epi8(len2, up1)));
    struct quads q = {{_mm512_unpackhi_epi64(c0, c1), _mm512_unpacklo_epi64(c0, c1)},
                      _mm512_srli_epi64(len4, 32),
                      _mm512_sad_epu8(len, _mm512_setzero_si512())};
    return q;
}

struct groups {
    uint64_t code[32], bits[32];
};
struct pair {
    __m512i code, bits;
};
INLINE struct pair eights(const struct quads *q)
{
    return (struct pair){_mm512_or_si512(q->code[0], _mm512_sllv_epi64(q->code[1], q->bits)),
                         q->bits8};
}
INLINE bool too_long(__m512i bits)
{
    return _mm512_cmpgt_epu64_mask(bits, _mm512_set1_epi64(56)) != 0;
}
INLINE void keep(struct groups *g, size_t at, __m512i code, __m512i bits)
{
    _mm512_storeu_si512(g->code + at, code);
    _mm512_storeu_si512(g->bits + at, bits);
}

/* 128 symbols from the last to the first, in the largest groups that fit. */
INLINE void put_batch(struct huf_bits *b, const struct table t[3], const uint8_t *p, int quarters,
                      unsigned most)
{
    struct groups g = {0};
    struct quads q[2] = {quads(t, p, quarters), quads(t, p + 64, quarters)};
    struct pair e[2] = {eights(&q[0]), eights(&q[1])};
    if (most >= 16) {
        __m512i up = _mm512_unpackhi_epi64(e[0].bits, e[1].bits);
        __m512i bits = _mm512_add_epi64(up, _mm512_unpacklo_epi64(e[0].bits, e[1].bits));
        if (!too_long(bits)) {
            __m512i code = _mm512_unpacklo_epi64(e[0].code, e[1].code);
            code = _mm512_or_si512(_mm512_unpackhi_epi64(e[0].code, e[1].code),
                                   _mm512_sllv_epi64(code, up));
            keep(&g, 0, code, bits);
            for (int i = 1; i >= 0; i--)
                for (int k = 3; k >= 0; k--)
                    huf_put(b, g.code[2 * k + i], (unsigned)g.bits[2 * k + i]);
            return;
        }
    }
    if (most >= 8 && !too_long(_mm512_max_epu64(e[0].bits, e[1].bits))) {
        keep(&g, 0, e[0].code, e[0].bits);
        keep(&g, 8, e[1].code, e[1].bits);
        for (int k = 15; k >= 0; k--)
            huf_put(b, g.code[k], (unsigned)g.bits[k]);
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        keep(&g, 16 * i, q[i].code[0], q[i].bits);
        keep(&g, 16 * i + 8, q[i].code[1], _mm512_sub_epi64(q[i].bits8, q[i].bits));
    }
    for (int i = 1; i >= 0; i--)
        for (int k = 7; k >= 0; k--) {
            huf_put(b, g.code[16 * i + k], (unsigned)g.bits[16 * i + k]);
            huf_put(b, g.code[16 * i + 8 + k], (unsigned)g.bits[16 * i + 8 + k]);
        }
}

INLINE uint8_t *body(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                     uint8_t *dst, int quarters)
{
    struct huf_bits b = {.p = dst};
    struct table t[3];
    fold(&t[0], c->lo, quarters);
    fold(&t[1], c->hi, quarters);
    fold(&t[2], c->len, quarters);
    size_t tail = n % 128;
    huf_put_symbols(&b, c, p + n - tail, tail);
    for (n -= tail; n > 0; n -= 128)
        put_batch(&b, t, p + n - 128, quarters, most);
    return huf_close(&b);
}

uint8_t *huf_stream_avx512(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                           uint8_t *dst)
{
    switch (quarters_of(c->len)) {
    case 1:
        return body(c, p, n, most, dst, 1);
    case 2:
        return body(c, p, n, most, dst, 2);
    default:
        return body(c, p, n, most, dst, 4);
    }
}
