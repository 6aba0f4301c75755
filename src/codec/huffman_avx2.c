/* Huffman streams, 64 symbols at a time: codes and lengths looked up with byte shuffles of 16
 * entries, then put together in registers as in huffman_avx512.c. For symbols that differ in their
 * low six bits, as the exponents of most tensors do; others go the plain way.
 */
#include "codec/huffman_impl.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A table of bytes by the symbol's low bits: 16 * n entries. */
struct table {
    __m256i v[4];
};
static void fold(struct table *t, const uint8_t *p, int n)
{
    for (int i = 0; i < n; i++) {
        __m128i v = _mm_setzero_si128();
        for (int k = i; k < 16; k += n)
            v = _mm_or_si128(v, _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * k)));
        t->v[i] = _mm256_broadcastsi128_si256(v);
    }
}

/* Whether symbols with codes differ in their low bits, 16 * n values of these. */
static bool apart(const uint8_t len[256], int n)
{
    int twice = 0;
    for (int i = 0; i < n; i++) {
        __m128i seen = _mm_setzero_si128();
        for (int k = i; k < 16; k += n) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(len + 16 * k));
            v = _mm_cmpgt_epi8(v, _mm_setzero_si128());
            twice |= _mm_movemask_epi8(_mm_and_si128(v, seen));
            seen = _mm_or_si128(v, seen);
        }
    }
    return twice == 0;
}

/* s16: the symbols' low four bits; bit4, bit5: these bits on top of each byte. */
INLINE __m256i look_up(const struct table *t, __m256i s16, __m256i bit4, __m256i bit5, int n)
{
    __m256i a = _mm256_shuffle_epi8(t->v[0], s16);
    if (n >= 2)
        a = _mm256_blendv_epi8(a, _mm256_shuffle_epi8(t->v[1], s16), bit4);
    if (n < 4)
        return a;
    __m256i b = _mm256_blendv_epi8(_mm256_shuffle_epi8(t->v[2], s16),
                                   _mm256_shuffle_epi8(t->v[3], s16), bit4);
    return _mm256_blendv_epi8(a, b, bit5);
}

/* As in huffman_avx512.c, of 32 symbols. */
struct quads {
    __m256i code[2], bits, bits8;
};
INLINE __m256i four(__m256i c, __m256i up2, __m256i up4)
{
    c = _mm256_or_si256(_mm256_srli_epi32(c, 16),
                        _mm256_sllv_epi32(_mm256_and_si256(c, _mm256_set1_epi32(0xffff)), up2));
    return _mm256_or_si256(
        _mm256_srli_epi64(c, 32),
        _mm256_sllv_epi64(_mm256_and_si256(c, _mm256_set1_epi64x(0xffffffff)), up4));
}
INLINE struct quads quads(const struct table t[3], const uint8_t *p, int n)
{
    const __m256i odd0 =
        _mm256_setr_epi8(1, -1, -1, -1, 3, -1, -1, -1, 5, -1, -1, -1, 7, -1, -1, -1, 1, -1, -1, -1,
                         3, -1, -1, -1, 5, -1, -1, -1, 7, -1, -1, -1);
    const __m256i odd1 = _mm256_add_epi32(odd0, _mm256_set1_epi32(8));
    const __m256i up0 =
        _mm256_setr_epi8(2, -1, -1, -1, -1, -1, -1, -1, 6, -1, -1, -1, -1, -1, -1, -1, 2, -1, -1,
                         -1, -1, -1, -1, -1, 6, -1, -1, -1, -1, -1, -1, -1);
    const __m256i up1 = _mm256_add_epi64(up0, _mm256_set1_epi64x(8));
    __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i s16 = _mm256_and_si256(s, _mm256_set1_epi8(15));
    __m256i bit4 = _mm256_slli_epi16(s, 3), bit5 = _mm256_slli_epi16(s, 2);
    __m256i lo = look_up(&t[0], s16, bit4, bit5, n), hi = look_up(&t[1], s16, bit4, bit5, n);
    __m256i len = look_up(&t[2], s16, bit4, bit5, n);
    __m256i len2 = _mm256_maddubs_epi16(len, _mm256_set1_epi8(1));
    __m256i len4 = _mm256_madd_epi16(len2, _mm256_set1_epi16(1));
    __m256i c0 = four(_mm256_unpacklo_epi8(lo, hi), _mm256_shuffle_epi8(len, odd0),
                      _mm256_shuffle_epi8(len2, up0));
    __m256i c1 = four(_mm256_unpackhi_epi8(lo, hi), _mm256_shuffle_epi8(len, odd1),
                      _mm256_shuffle_epi8(len2, up1));
    struct quads q = {{_mm256_unpackhi_epi64(c0, c1), _mm256_unpacklo_epi64(c0, c1)},
                      _mm256_srli_epi64(len4, 32),
                      _mm256_sad_epu8(len, _mm256_setzero_si256())};
    return q;
}

struct groups {
    uint64_t code[16], bits[16];
};
INLINE bool too_long(__m256i bits)
{
    return _mm256_movemask_epi8(_mm256_cmpgt_epi64(bits, _mm256_set1_epi64x(56))) != 0;
}
INLINE void keep(struct groups *g, size_t at, __m256i code, __m256i bits)
{
    _mm256_storeu_si256((__m256i *)(void *)(g->code + at), code);
    _mm256_storeu_si256((__m256i *)(void *)(g->bits + at), bits);
}
INLINE __m256i eights(const struct quads *q)
{
    return _mm256_or_si256(q->code[0], _mm256_sllv_epi64(q->code[1], q->bits));
}

/* 64 symbols from the last to the first, in the largest groups that fit. */
INLINE void put_batch(struct huf_bits *b, const struct table t[3], const uint8_t *p, int n,
                      unsigned most)
{
    struct groups g = {0};
    struct quads q[2] = {quads(t, p, n), quads(t, p + 32, n)};
    __m256i e[2] = {eights(&q[0]), eights(&q[1])};
    if (most >= 16) {
        __m256i up = _mm256_unpackhi_epi64(q[0].bits8, q[1].bits8);
        __m256i bits = _mm256_add_epi64(up, _mm256_unpacklo_epi64(q[0].bits8, q[1].bits8));
        if (!too_long(bits)) {
            keep(&g, 0,
                 _mm256_or_si256(_mm256_unpackhi_epi64(e[0], e[1]),
                                 _mm256_sllv_epi64(_mm256_unpacklo_epi64(e[0], e[1]), up)),
                 bits);
            for (int i = 1; i >= 0; i--)
                for (int k = 1; k >= 0; k--)
                    huf_put(b, g.code[2 * k + i], (unsigned)g.bits[2 * k + i]);
            return;
        }
    }
    if (most >= 8 && !too_long(q[0].bits8) && !too_long(q[1].bits8)) {
        keep(&g, 0, e[0], q[0].bits8);
        keep(&g, 4, e[1], q[1].bits8);
        for (int k = 7; k >= 0; k--)
            huf_put(b, g.code[k], (unsigned)g.bits[k]);
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        keep(&g, 8 * i, q[i].code[0], q[i].bits);
        keep(&g, 8 * i + 4, q[i].code[1], _mm256_sub_epi64(q[i].bits8, q[i].bits));
    }
    for (int i = 1; i >= 0; i--)
        for (int k = 3; k >= 0; k--) {
            huf_put(b, g.code[8 * i + k], (unsigned)g.bits[8 * i + k]);
            huf_put(b, g.code[8 * i + 4 + k], (unsigned)g.bits[8 * i + 4 + k]);
        }
}

INLINE uint8_t *body(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                     uint8_t *dst, int sixteens)
{
    struct huf_bits b = {.p = dst};
    struct table t[3];
    fold(&t[0], c->lo, sixteens);
    fold(&t[1], c->hi, sixteens);
    fold(&t[2], c->len, sixteens);
    size_t tail = n % 64;
    huf_put_symbols(&b, c, p + n - tail, tail);
    for (n -= tail; n > 0; n -= 64)
        put_batch(&b, t, p + n - 64, sixteens, most);
    return huf_close(&b);
}

uint8_t *huf_stream_avx2(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                         uint8_t *dst)
{
    if (apart(c->len, 2))
        return body(c, p, n, most, dst, 2);
    if (apart(c->len, 4))
        return body(c, p, n, most, dst, 4);
    return huf_stream_plain(c, p, n, most, dst);
}
