/* SHA-256, whole, incremental, and as the tree every tensor digest is made of.
 *
 * Tree: the bytes are cut into leaves of 64 KiB (the last may be shorter; no bytes, no leaves);
 * root = SHA-256("nnt1" || total length, 8 bytes little-endian || SHA-256 of every leaf, in order).
 * Leaves may be hashed in any order and on any thread, and run in SIMD lanes; hashlib checks them.
 * Source of SHA-256: FIPS 180-4. Every vector variant equals the scalar one bit for bit.
 */
#ifndef CODEC_SHA256_H
#define CODEC_SHA256_H
#include <stddef.h>
#include <stdint.h>

#define SHA256_LEAF 65536u

struct sha256 {
    uint32_t h[8];
    uint64_t n_bytes;
    uint8_t tail[64];
};
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[32]); /* s is used up */
void sha256(const void *p, size_t n, uint8_t out[32]);

/* Digests of n_leaves equal leaves that follow each other: out[i] = SHA-256 of
 * p[i * leaf_bytes .. (i + 1) * leaf_bytes). */
void sha256_leaves(const uint8_t *p, size_t n_leaves, size_t leaf_bytes, uint8_t (*out)[32]);

static inline uint64_t sha256_tree_n_leaves(uint64_t total_bytes)
{
    return total_bytes / SHA256_LEAF + (total_bytes % SHA256_LEAF != 0);
}
/* The leaf digests of n bytes that start at a leaf bound; only the end of the whole may be short.
 * out holds sha256_tree_n_leaves(n). */
void sha256_tree_leaves(const void *p, size_t n, uint8_t (*out)[32]);
/* The root from a total length and leaf digests given in order. */
void sha256_tree_begin(struct sha256 *s, uint64_t total_bytes);
void sha256_tree_add(struct sha256 *s, const uint8_t (*leaf)[32], size_t n_leaves);
void sha256_tree_end(struct sha256 *s, uint8_t out[32]);
/* All at once. */
void sha256_tree(const void *p, size_t n, uint8_t out[32]);

/* 64 lower-case hex digits and a NUL. */
void sha256_hex(const uint8_t digest[32], char out[65]);
#endif
