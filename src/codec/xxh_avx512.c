/* Stripes of XXH64 of several runs of equal length: its four lanes of 64 bits leave most of a
 * register empty, so two runs share one, and pairs of runs are worked on in turn. Source: the
 * specification in xxHash's doc/xxhash_spec.md.
 */
#include "codec/xxh_impl.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE void pairs(uint64_t (*acc)[4], const uint8_t *const *p, unsigned n_pairs, size_t n)
{
    const __m512i p1 = _mm512_set1_epi64((long long)XXH64_P1),
                  p2 = _mm512_set1_epi64((long long)XXH64_P2);
    const uint8_t *at[8];
    __m512i v[4];
    for (unsigned k = 0; k < n_pairs; k++) {
        v[k] = _mm512_loadu_si512(acc[2 * k]);
        at[2 * k] = p[2 * k];
        at[2 * k + 1] = p[2 * k + 1];
    }
    for (size_t i = 0; i < n; i += 32)
        for (unsigned k = 0; k < n_pairs; k++) {
            const void *a = at[2 * k] + i, *b = at[2 * k + 1] + i;
            __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(a)),
                                           _mm256_loadu_si256(b), 1);
            x = _mm512_add_epi64(v[k], _mm512_mullo_epi64(x, p2));
            v[k] = _mm512_mullo_epi64(_mm512_rol_epi64(x, 31), p1);
        }
    for (unsigned k = 0; k < n_pairs; k++)
        _mm512_storeu_si512(acc[2 * k], v[k]);
}

void xxh64_stripes_avx512(uint64_t (*acc)[4], const uint8_t *const *p, unsigned n_runs, size_t n)
{
    for (; n_runs >= 8; n_runs -= 8, p += 8, acc += 8)
        pairs(acc, p, 4, n);
    for (; n_runs >= 4; n_runs -= 4, p += 4, acc += 4)
        pairs(acc, p, 2, n);
    for (; n_runs >= 2; n_runs -= 2, p += 2, acc += 2)
        pairs(acc, p, 1, n);
}
