/* Private to codec/sha256*.c: the variants the dispatcher chooses from. */
#ifndef CODEC_SHA256_IMPL_H
#define CODEC_SHA256_IMPL_H
#include <stddef.h>
#include <stdint.h>

extern const uint32_t sha256_k[64];
extern const uint32_t sha256_h0[8];

/* n whole blocks of 64 bytes into the state */
void sha256_blocks_scalar(uint32_t h[8], const uint8_t *p, size_t n);
#if defined(__x86_64__)
void sha256_blocks_shani(uint32_t h[8], const uint8_t *p, size_t n);
/* Lanes: streams of equal length, leaf i at p + i * stride, n blocks each; h[word][lane]. The
 * states come in and go out, so padding is a further call. */
void sha256_lanes2_shani(uint32_t h[2][8], const uint8_t *p, size_t stride, size_t n);
void sha256_lanes3_shani(uint32_t h[3][8], const uint8_t *p, size_t stride, size_t n); /* AVX512 */
void sha256_lanes4_shani(uint32_t h[4][8], const uint8_t *p, size_t stride, size_t n); /* AVX512 */
void sha256_lanes8_avx2(uint32_t h[8][8], const uint8_t *p, size_t stride, size_t n);
void sha256_lanes16_avx512(uint32_t h[8][16], const uint8_t *p, size_t stride, size_t n);
#elif defined(__aarch64__)
void sha256_blocks_arm(uint32_t h[8], const uint8_t *p, size_t n);
#endif
#endif
