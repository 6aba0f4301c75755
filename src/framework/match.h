/* Matching the layers of two models: which layer of the source is which of the skeleton? A pair is
 * made only where it is the only one left that kinds, shapes and structure allow, or where names
 * determine it. What stays open is reported, never guessed.
 *
 * Every item has a colour; items may pair when colours are equal and a signature is shared. Each
 * piece of evidence splits colours, alike on both sides, until nothing changes:
 *  1. equal names: the words of two paths are the same (case, '.', '_' and '/' do not count), and
 *     no other path has them;
 *  2. words of the path that tell (match_words.c: attn and attention, q_proj and query, wte and
 *     embed_tokens are one word), where they are equally often on both sides;
 *  3. place in the tree: parents that hold the same things;
 *  4. repeated blocks: a numbered sequence of parents that hold, one by one, the same things on
 *     both sides: n-th goes to n-th, and what lies in them with it;
 *  5. numbers: layers told apart by numbers alone, on both sides, whose shapes agree one by one;
 *  6. the order of both, where both are in the order of their definition (never an alphabet's) and
 *     what lies below two parents that are known to be partners is alike, one by one;
 *  7. necessity: an item with one partner left is paired with it, as the pairing must be complete.
 * Time and memory grow as n log n.
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
    uint64_t order; /* place in the definition; the same for all of a side: not known */
    int64_t pair;   /* in: -1 or settled by a rule; out: index on the other side, -1 = open */
    const char *why;
    /* private */
    uint64_t color;
};
/* Fills pair and why on both sides. Leaves open what is not proven: the caller reports it. */
MUSTCHECK enum status match(struct match_item *s, size_t n_s, struct match_item *t, size_t n_t,
                            struct arena *a, struct err *e);
/* Could they still be partners? For reports. */
bool match_fits(const struct match_item *s, const struct match_item *t);
#endif
