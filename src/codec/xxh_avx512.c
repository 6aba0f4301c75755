/* XXH64 of several runs of equal length: its four lanes of 64 bits leave most of a register empty,
 * so two runs share one, and pairs of runs are worked on in turn. Source: the specification in
 * xxHash's doc/xxhash_spec.md.
 */
#include "codec/xxh_impl.h"
#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

static const uint64_t P1 = 0x9e3779b185ebca87, P2 = 0xc2b2ae3d27d4eb4f, P3 = 0x165667b19e3779f9,
                      P4 = 0x85ebca77c2b2ae63, P5 = 0x27d4eb2f165667c5;

static uint64_t rotate(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}
static uint64_t mix(uint64_t acc, uint64_t lane)
{
    return rotate(acc + lane * P2, 31) * P1;
}

/* From the lanes after all whole stripes of 32 bytes; tail: the bytes left, fewer than 32. */
static uint64_t finish(const uint64_t acc[4], uint64_t n, const uint8_t *tail)
{
    uint64_t h = P5;
    if (n >= 32) {
        h = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) + rotate(acc[3], 18);
        for (int i = 0; i < 4; i++)
            h = (h ^ mix(0, acc[i])) * P1 + P4;
    }
    h += n;
    size_t left = n % 32;
    for (; left >= 8; left -= 8, tail += 8) {
        uint64_t v;
        memcpy(&v, tail, 8);
        h = rotate(h ^ mix(0, v), 27) * P1 + P4;
    }
    if (left >= 4) {
        uint32_t v;
        memcpy(&v, tail, 4);
        h = rotate(h ^ v * P1, 23) * P2 + P3;
        left -= 4;
        tail += 4;
    }
    for (; left > 0; left--)
        h = rotate(h ^ *tail++ * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

INLINE void pairs(const uint8_t *p, unsigned n_pairs, size_t n, uint64_t *out)
{
    const __m512i p1 = _mm512_set1_epi64((long long)P1), p2 = _mm512_set1_epi64((long long)P2);
    const __m512i first = _mm512_broadcast_i64x4(
        _mm256_setr_epi64x((long long)(P1 + P2), (long long)P2, 0, (long long)(0 - P1)));
    __m512i acc[4];
    for (unsigned k = 0; k < n_pairs; k++)
        acc[k] = first;
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (unsigned k = 0; k < n_pairs; k++) {
            const void *a = p + 2 * k * n + i, *b = p + (2 * k + 1) * n + i;
            __m512i v = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)),
                                           _mm256_loadu_si256(b), 1);
            v = _mm512_add_epi64(acc[k], _mm512_mullo_epi64(v, p2));
            acc[k] = _mm512_mullo_epi64(_mm512_rol_epi64(v, 31), p1);
        }
    for (unsigned k = 0; k < n_pairs; k++) {
        uint64_t lane[8];
        _mm512_storeu_si512(lane, acc[k]);
        for (unsigned i = 0; i < 2; i++)
            out[2 * k + i] = finish(lane + 4 * i, n, p + (2 * k + i) * n + n / 32 * 32);
    }
}

void xxh64_runs_avx512(const void *p, unsigned n_runs, size_t n, uint64_t *out)
{
    const uint8_t *at = p;
    for (; n_runs >= 8; n_runs -= 8, at += 8 * n, out += 8)
        pairs(at, 4, n, out);
    for (; n_runs >= 4; n_runs -= 4, at += 4 * n, out += 4)
        pairs(at, 2, n, out);
    for (; n_runs >= 2; n_runs -= 2, at += 2 * n, out += 2)
        pairs(at, 1, n, out);
}
