/* Matching the layers of two models: which layer of the source is which of the skeleton? A pair is
 * made only where it is the only one left that kinds, shapes and structure allow, or where names
 * determine it. What stays open is reported, never guessed.
 *
 * Evidence, in this order, repeated until nothing changes:
 *  1. equal names: the words of two paths are the same (case, '.', '_' and '/' do not count), and
 *     no other path has them;
 *  2. necessity: a layer with one partner left is paired with it (the pairing must be complete);
 *  3. names without their numbers, then the last segment alone, where both sides of an open group
 *     have the same words equally often;
 *  4. place in the tree: parents that hold the same things, where this splits both sides alike;
 *  5. numbers: where all layers of one kind below a place are told apart by numbers alone, on both
 *     sides, and the sequences of shapes agree, n-th goes to n-th.
 */
#ifndef FRAMEWORK_MATCH_H
#define FRAMEWORK_MATCH_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

#define MATCH_SIGS 4
struct match_item {
    struct str path;
    uint64_t sig[MATCH_SIGS]; /* what it may be: hashes of kind, leaves and canonical shapes */
    size_t n_sigs;
    unsigned kinds; /* KIND_BIT set: what rule 5 numbers together */
    int64_t pair;   /* in: -1 or settled by a rule; out: index on the other side, -1 = open */
    const char *why;
    /* private */
    uint64_t color;
    size_t degree;
};
/* Fills pair and why on both sides. Leaves open what is not proven: the caller reports it. */
MUSTCHECK enum status match(struct match_item *s, size_t n_s, struct match_item *t, size_t n_t,
                            struct arena *a, struct err *e);
/* Could they still be partners? For reports. */
bool match_fits(const struct match_item *s, const struct match_item *t);
#endif
