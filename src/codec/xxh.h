/* XXH3-128 and XXH64 (seed 0): checks against accidents, never against people. The code is the
 * guest's xxhash.h. Digests are written in xxHash's canonical form (big-endian), so that other
 * tools print the same digits.
 */
#ifndef CODEC_XXH_H
#define CODEC_XXH_H
#include <stddef.h>
#include <stdint.h>

void xxh128(const void *p, size_t n, uint8_t out[16]);
uint64_t xxh64(const void *p, size_t n);
/* The same of each of n_runs (at most 8) runs of n bytes, which lie one after another. */
void xxh64_runs(const void *p, unsigned n_runs, size_t n, uint64_t *out);

/* Incremental XXH3-128. */
struct xxh128 {
    uint8_t state_[640] __attribute__((aligned(64)));
};
void xxh128_begin(struct xxh128 *x);
void xxh128_add(struct xxh128 *x, const void *p, size_t n);
void xxh128_end(const struct xxh128 *x, uint8_t out[16]);
#endif
