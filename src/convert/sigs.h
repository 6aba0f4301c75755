/* Sorted lists of 64-bit numbers (signatures of layers, counts of channels): filled, sorted once,
 * then asked. */
#ifndef CONVERT_SIGS_H
#define CONVERT_SIGS_H
#include "base/arena.h"
#include "base/err.h"

struct sigs {
    uint64_t *v; /* from the arena */
    size_t n;
};
/* Empty, with room for that many, which the caller adds to v and n. */
MUSTCHECK enum status sigs_room(struct sigs *s, size_t most, struct arena *a, struct err *e);
void sigs_sort(struct sigs *s);
size_t sigs_count(const struct sigs *s, uint64_t v); /* how often it is in there */
bool sigs_equal(const struct sigs *a, const struct sigs *b);
#endif
