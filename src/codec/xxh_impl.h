/* Between xxh.c and its variants for one instruction set. */
#ifndef CODEC_XXH_IMPL_H
#define CODEC_XXH_IMPL_H
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
/* The host has CPU_AVX2. */
void xxh128_avx2(const void *p, size_t n, uint8_t out[16]);
#endif
#endif
