/* Between xxh.c and its variants for one instruction set. */
#ifndef CODEC_XXH_IMPL_H
#define CODEC_XXH_IMPL_H
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
/* The host has CPU_AVX2. */
void xxh128_avx2(const void *p, size_t n, uint8_t out[16]);
/* The host has CPU_AVX512 and CPU_VBMI. n_runs is even. */
void xxh64_runs_avx512(const void *p, unsigned n_runs, size_t n, uint64_t *out);
#endif
#endif
