/* Between xxh.c and its variants for one instruction set. */
#ifndef CODEC_XXH_IMPL_H
#define CODEC_XXH_IMPL_H
#include <stddef.h>
#include <stdint.h>

#define XXH64_P1 0x9e3779b185ebca87u
#define XXH64_P2 0xc2b2ae3d27d4eb4fu
#define XXH64_P3 0x165667b19e3779f9u
#define XXH64_P4 0x85ebca77c2b2ae63u
#define XXH64_P5 0x27d4eb2f165667c5u

#if defined(__x86_64__)
/* The host has CPU_AVX2. */
void xxh128_avx2(const void *p, size_t n, uint8_t out[16]);
void xxh128_add_avx2(void *state, const void *p, size_t n);
/* The host has CPU_AVX512 and CPU_VBMI. n_runs is even, n a multiple of 32: whole stripes of run i
 * at p[i] into acc[i]. */
void xxh64_stripes_avx512(uint64_t (*acc)[4], const uint8_t *const *p, unsigned n_runs, size_t n);
#endif
#endif
