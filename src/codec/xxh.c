/* The door to xxHash: the guest's header, compiled into this file and, for wider registers, into
 * xxh_avx2.c; XXH64 of several runs, ours. Source: the specification in xxHash's
 * doc/xxhash_spec.md.
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

static uint64_t rotate(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}
static uint64_t mix(uint64_t acc, uint64_t lane)
{
    return rotate(acc + lane * XXH64_P2, 31) * XXH64_P1;
}

void xxh64_runs_begin(struct xxh64_runs *x, unsigned n_runs)
{
    x->n_runs = n_runs;
    x->n = 0;
    for (unsigned i = 0; i < n_runs; i++) {
        x->acc[i][0] = XXH64_P1 + XXH64_P2;
        x->acc[i][1] = XXH64_P2;
        x->acc[i][2] = 0;
        x->acc[i][3] = 0 - XXH64_P1;
    }
}

static void stripes(uint64_t (*acc)[4], const uint8_t *const *p, unsigned n_runs, size_t n)
{
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if (n_runs % 2 == 0 && (have & CPU_AVX512) && (have & CPU_VBMI)) {
        xxh64_stripes_avx512(acc, p, n_runs, n);
        return;
    }
#endif
    for (unsigned k = 0; k < n_runs; k++)
        for (size_t i = 0; i < n; i += 32)
            for (size_t l = 0; l < 4; l++) {
                uint64_t v;
                memcpy(&v, p[k] + i + 8 * l, 8);
                acc[k][l] = mix(acc[k][l], v);
            }
}

void xxh64_runs_add(struct xxh64_runs *x, const uint8_t *const *p, size_t n)
{
    size_t whole = n / 32 * 32;
    stripes(x->acc, p, x->n_runs, whole);
    for (unsigned k = 0; k < x->n_runs; k++)
        memcpy(x->tail[k], p[k] + whole, n - whole);
    x->n += n;
}

/* From the lanes after all whole stripes; tail: the bytes left, fewer than 32. */
static uint64_t finish(const uint64_t acc[4], uint64_t n, const uint8_t *tail)
{
    uint64_t h = XXH64_P5;
    if (n >= 32) {
        h = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) + rotate(acc[3], 18);
        for (int i = 0; i < 4; i++)
            h = (h ^ mix(0, acc[i])) * XXH64_P1 + XXH64_P4;
    }
    h += n;
    size_t left = n % 32;
    for (; left >= 8; left -= 8, tail += 8) {
        uint64_t v;
        memcpy(&v, tail, 8);
        h = rotate(h ^ mix(0, v), 27) * XXH64_P1 + XXH64_P4;
    }
    if (left >= 4) {
        uint32_t v;
        memcpy(&v, tail, 4);
        h = rotate(h ^ v * XXH64_P1, 23) * XXH64_P2 + XXH64_P3;
        left -= 4;
        tail += 4;
    }
    for (; left > 0; left--)
        h = rotate(h ^ *tail++ * XXH64_P5, 11) * XXH64_P1;
    h = (h ^ h >> 33) * XXH64_P2;
    h = (h ^ h >> 29) * XXH64_P3;
    return h ^ h >> 32;
}

void xxh64_runs_end(const struct xxh64_runs *x, uint64_t *out)
{
    for (unsigned k = 0; k < x->n_runs; k++)
        out[k] = finish(x->acc[k], x->n, x->tail[k]);
}

void xxh128_begin(struct xxh128 *x)
{
    (void)XXH3_128bits_reset((XXH3_state_t *)(void *)x->state_);
}

void xxh128_add(struct xxh128 *x, const void *p, size_t n)
{
#if defined(__x86_64__)
    if (cpu_have() & CPU_AVX2) { /* the state is the same for any instruction set */
        xxh128_add_avx2(x->state_, p, n);
        return;
    }
#endif
    (void)XXH3_128bits_update((XXH3_state_t *)(void *)x->state_, p, n);
}

void xxh128_end(const struct xxh128 *x, uint8_t out[16])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c,
                             XXH3_128bits_digest((const XXH3_state_t *)(const void *)x->state_));
    memcpy(out, c.digest, 16);
}
