/* SHA-256 on x86-64: SHA extensions with one stream and with two to four interleaved (the rounds of
 * one stream wait on each other), AVX2 with eight lanes, AVX-512 with sixteen. Lanes hash as many
 * leaves at once: word i of every lane sits in one register.
 */
#include "codec/sha256_impl.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define SHA_TARGET __attribute__((target("sha,ssse3,sse4.1")))

struct ni {
    __m128i s0, s1; /* ABEF, CDGH */
};

SHA_TARGET static inline struct ni ni_load(const uint32_t h[8])
{
    __m128i lo = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
    __m128i hi = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    return (struct ni){_mm_alignr_epi8(lo, hi, 8), _mm_blend_epi16(hi, lo, 0xf0)};
}
SHA_TARGET static inline void ni_store(uint32_t h[8], struct ni s)
{
    __m128i lo = _mm_shuffle_epi32(s.s0, 0x1b);
    __m128i hi = _mm_shuffle_epi32(s.s1, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(lo, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(hi, lo, 8));
}
SHA_TARGET static inline __m128i ni_word(const uint8_t *p)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), swap);
}
/* four rounds with words w */
SHA_TARGET static inline void ni_rounds(struct ni *s, __m128i w, int i)
{
    __m128i m = _mm_add_epi32(w, _mm_load_si128((const __m128i *)(sha256_k + i)));
    s->s1 = _mm_sha256rnds2_epu32(s->s1, s->s0, m);
    s->s0 = _mm_sha256rnds2_epu32(s->s0, s->s1, _mm_shuffle_epi32(m, 0x0e));
}
/* the four words after a, b, c, d */
SHA_TARGET static inline __m128i ni_next(__m128i a, __m128i b, __m128i c, __m128i d)
{
    __m128i t = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4));
    return _mm_sha256msg2_epu32(t, d);
}

SHA_TARGET void sha256_blocks_shani(uint32_t h[8], const uint8_t *p, size_t n)
{
    struct ni s = ni_load(h);
    for (; n > 0; n--, p += 64) {
        struct ni in = s;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = ni_word(p + 16 * i);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            ni_rounds(&s, w[i % 4], 4 * i);
            if (i < 12)
                w[i % 4] = ni_next(w[i % 4], w[(i + 1) % 4], w[(i + 2) % 4], w[(i + 3) % 4]);
        }
        s.s0 = _mm_add_epi32(s.s0, in.s0);
        s.s1 = _mm_add_epi32(s.s1, in.s1);
    }
    ni_store(h, s);
}

/* n_lanes streams in turn; w is a ring of each stream's last sixteen words. */
SHA_TARGET static inline __attribute__((always_inline)) void
ni_lanes(uint32_t (*h)[8], const unsigned n_lanes, const uint8_t *p, size_t stride, size_t n)
{
    struct ni s[4];
    for (unsigned l = 0; l < n_lanes; l++)
        s[l] = ni_load(h[l]);
    for (; n > 0; n--, p += 64) {
        struct ni in[4];
        __m128i w[4][4];
        for (unsigned l = 0; l < n_lanes; l++) {
            in[l] = s[l];
            for (unsigned i = 0; i < 4; i++)
                w[l][i] = ni_word(p + l * stride + 16 * i);
        }
#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; i++) {
            for (unsigned l = 0; l < n_lanes; l++)
                ni_rounds(&s[l], w[l][i % 4], (int)(4 * i));
            for (unsigned l = 0; l < n_lanes && i < 12; l++)
                w[l][i % 4] =
                    ni_next(w[l][i % 4], w[l][(i + 1) % 4], w[l][(i + 2) % 4], w[l][(i + 3) % 4]);
        }
        for (unsigned l = 0; l < n_lanes; l++) {
            s[l].s0 = _mm_add_epi32(s[l].s0, in[l].s0);
            s[l].s1 = _mm_add_epi32(s[l].s1, in[l].s1);
        }
    }
    for (unsigned l = 0; l < n_lanes; l++)
        ni_store(h[l], s[l]);
}

SHA_TARGET void sha256_lanes2_shani(uint32_t h[2][8], const uint8_t *p, size_t stride, size_t n)
{
    ni_lanes(h, 2, p, stride, n);
}

/* Three or four streams keep the unit busier than two, where there are registers for them. */
#define SHA_TARGET_512 __attribute__((target("sha,avx512f,avx512bw,avx512vl")))
SHA_TARGET_512 void sha256_lanes3_shani(uint32_t h[3][8], const uint8_t *p, size_t stride, size_t n)
{
    ni_lanes(h, 3, p, stride, n);
}
SHA_TARGET_512 void sha256_lanes4_shani(uint32_t h[4][8], const uint8_t *p, size_t stride, size_t n)
{
    ni_lanes(h, 4, p, stride, n);
}

/* The 64 rounds over lanes, for a vector type given by its operations. w[16] is a ring. */
#define LANE_ROUNDS(V, ADD, S0, S1, M0, M1, CH, MAJ, SET1)                                         \
    do {                                                                                           \
        V a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], hh = s[7];         \
        _Pragma("GCC unroll 64") for (int i = 0; i < 64; i++)                                      \
        {                                                                                          \
            if (i >= 16)                                                                           \
                w[i % 16] = ADD(ADD(w[i % 16], M0(w[(i + 1) % 16])),                               \
                                ADD(w[(i + 9) % 16], M1(w[(i + 14) % 16])));                       \
            /* what waits for e and a comes last: the rounds are bound by latency */               \
            V t1 = ADD(ADD(hh, ADD(w[i % 16], SET1((int)sha256_k[i]))), CH(e, f, g));              \
            V sg = S1(e);                                                                          \
            V t2 = ADD(t1, MAJ(a, b, c));                                                          \
            hh = g;                                                                                \
            g = f;                                                                                 \
            f = e;                                                                                 \
            e = ADD(ADD(d, t1), sg);                                                               \
            d = c;                                                                                 \
            c = b;                                                                                 \
            b = a;                                                                                 \
            a = ADD(ADD(t2, sg), S0(b));                                                           \
        }                                                                                          \
        s[0] = ADD(s[0], a);                                                                       \
        s[1] = ADD(s[1], b);                                                                       \
        s[2] = ADD(s[2], c);                                                                       \
        s[3] = ADD(s[3], d);                                                                       \
        s[4] = ADD(s[4], e);                                                                       \
        s[5] = ADD(s[5], f);                                                                       \
        s[6] = ADD(s[6], g);                                                                       \
        s[7] = ADD(s[7], hh);                                                                      \
    } while (0)

#define AVX2_TARGET __attribute__((target("avx2")))
#define R8(x, n) _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define X8(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define S0_8(x) X8(R8(x, 2), R8(x, 13), R8(x, 22))
#define S1_8(x) X8(R8(x, 6), R8(x, 11), R8(x, 25))
#define M0_8(x) X8(R8(x, 7), R8(x, 18), _mm256_srli_epi32(x, 3))
#define M1_8(x) X8(R8(x, 17), R8(x, 19), _mm256_srli_epi32(x, 10))
#define CH_8(e, f, g) _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
#define MAJ_8(a, b, c)                                                                             \
    _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)))

/* Eight rows of eight 32-bit words become columns, bytes of a word reversed. */
AVX2_TARGET static inline void rows8(__m256i *w, const uint8_t *p, size_t stride)
{
    const __m256i swap =
        _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m256i r[8], t[8];
    for (size_t i = 0; i < 8; i++)
        r[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(p + i * stride)), swap);
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        w[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
        w[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
    }
}

AVX2_TARGET void sha256_lanes8_avx2(uint32_t h[8][8], const uint8_t *p, size_t stride, size_t n)
{
    __m256i s[8];
    for (int i = 0; i < 8; i++)
        s[i] = _mm256_loadu_si256((const __m256i *)h[i]);
    for (; n > 0; n--, p += 64) {
        __m256i w[16];
        rows8(w, p, stride);
        rows8(w + 8, p + 32, stride);
        LANE_ROUNDS(__m256i, _mm256_add_epi32, S0_8, S1_8, M0_8, M1_8, CH_8, MAJ_8,
                    _mm256_set1_epi32);
    }
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)h[i], s[i]);
}

#define AVX512_TARGET __attribute__((target("avx512f,avx512bw")))
#define R16(x, n) _mm512_ror_epi32(x, n)
#define X16(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define S0_16(x) X16(R16(x, 2), R16(x, 13), R16(x, 22))
#define S1_16(x) X16(R16(x, 6), R16(x, 11), R16(x, 25))
#define M0_16(x) X16(R16(x, 7), R16(x, 18), _mm512_srli_epi32(x, 3))
#define M1_16(x) X16(R16(x, 17), R16(x, 19), _mm512_srli_epi32(x, 10))
#define CH_16(e, f, g) _mm512_ternarylogic_epi32(e, f, g, 0xca)
#define MAJ_16(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)

/* Sixteen rows of sixteen 32-bit words become columns, bytes of a word reversed. */
AVX512_TARGET static inline void rows16(__m512i *w, const uint8_t *p, size_t stride)
{
    const __m512i swap =
        _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m512i r[16], t[16];
    for (size_t i = 0; i < 16; i++)
        r[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(p + i * stride), swap);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4g + c] holds, in 128-bit lane q, word 4q + c of rows 4g .. 4g + 3 */
    for (int c = 0; c < 4; c++) {
        __m512i a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x44);
        __m512i b = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xee);
        __m512i d = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x44);
        __m512i e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xee);
        w[c] = _mm512_shuffle_i32x4(a, d, 0x88);
        w[4 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
        w[8 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
        w[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
    }
}

AVX512_TARGET void sha256_lanes16_avx512(uint32_t h[8][16], const uint8_t *p, size_t stride,
                                         size_t n)
{
    __m512i s[8];
    for (int i = 0; i < 8; i++)
        s[i] = _mm512_loadu_si512(h[i]);
    for (; n > 0; n--, p += 64) {
        __m512i w[16];
        rows16(w, p, stride);
        LANE_ROUNDS(__m512i, _mm512_add_epi32, S0_16, S1_16, M0_16, M1_16, CH_16, MAJ_16,
                    _mm512_set1_epi32);
    }
    for (int i = 0; i < 8; i++)
        _mm512_storeu_si512(h[i], s[i]);
}
#else
typedef int sha256_x86_is_empty_here;
#endif
