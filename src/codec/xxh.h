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

/* XXH64 of up to XXH64_RUNS runs of equal length side by side, piece by piece. */
#define XXH64_RUNS 8
struct xxh64_runs {
    uint64_t acc[XXH64_RUNS][4];
    uint64_t n; /* bytes of each run so far */
    unsigned n_runs;
    uint8_t tail[XXH64_RUNS][32];
};
void xxh64_runs_begin(struct xxh64_runs *x, unsigned n_runs);
/* The next n bytes of run i at p[i]; but for the last call n is a multiple of 32. */
void xxh64_runs_add(struct xxh64_runs *x, const uint8_t *const *p, size_t n);
void xxh64_runs_end(const struct xxh64_runs *x, uint64_t *out);

/* Incremental XXH3-128. */
struct xxh128 {
    uint8_t state_[640] __attribute__((aligned(64)));
};
void xxh128_begin(struct xxh128 *x);
void xxh128_add(struct xxh128 *x, const void *p, size_t n);
void xxh128_end(const struct xxh128 *x, uint8_t out[16]);
#endif
