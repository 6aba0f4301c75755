/* The door to xxHash: the guest's header, compiled into this file and, for wider registers, into
 * xxh_avx2.c.
 */
#include "codec/xxh.h"
#include "base/cpu.h"
#include "codec/xxh_impl.h"
#include <string.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct xxh128), "state fits");

void xxh128(const void *p, size_t n, uint8_t out[16])
{
    XXH128_canonical_t c;
#if defined(__x86_64__)
    if (n >= 1024 && (cpu_have() & CPU_AVX2)) {
        xxh128_avx2(p, n, out);
        return;
    }
#endif
    XXH128_canonicalFromHash(&c, XXH3_128bits(p, n));
    memcpy(out, c.digest, 16);
}

uint64_t xxh64(const void *p, size_t n)
{
    return XXH64(p, n, 0);
}

void xxh64_runs(const void *p, unsigned n_runs, size_t n, uint64_t *out)
{
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if (n_runs % 2 == 0 && (have & CPU_AVX512) && (have & CPU_VBMI)) {
        xxh64_runs_avx512(p, n_runs, n, out);
        return;
    }
#endif
    for (unsigned i = 0; i < n_runs; i++)
        out[i] = xxh64((const uint8_t *)p + i * n, n);
}

void xxh128_begin(struct xxh128 *x)
{
    (void)XXH3_128bits_reset((XXH3_state_t *)(void *)x->state_);
}

void xxh128_add(struct xxh128 *x, const void *p, size_t n)
{
    (void)XXH3_128bits_update((XXH3_state_t *)(void *)x->state_, p, n);
}

void xxh128_end(const struct xxh128 *x, uint8_t out[16])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c,
                             XXH3_128bits_digest((const XXH3_state_t *)(const void *)x->state_));
    memcpy(out, c.digest, 16);
}
