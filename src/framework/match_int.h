/* Inside matching: the two sides, what their names say, their trees. Not for others. */
#ifndef FRAMEWORK_MATCH_INT_H
#define FRAMEWORK_MATCH_INT_H
#include "framework/match.h"
#include "framework/words.h"

/* ---- match_words.c ---- */

/* A path taken apart: words and numbers apart ("layer_3" and "layer.3" are word, 3). */
struct step {
    bool number;
    uint64_t v; /* hash of the words of a segment, or the number */
};
#define STEPS_MAX 48
enum {
    TOWER_TEXT = 1,
    TOWER_IMAGE = 2,
    TOWER_FIRST = 4,
    TOWER_SECOND = 8,
    WAY_AHEAD = 16, /* of a cell: reads from the first step to the last */
    WAY_BACK = 32   /* ... from the last to the first */
};
struct spoken {
    struct step *step; /* room for twice as many */
    size_t n;
    uint64_t full;    /* the words of the whole path, wrappers and lists left out; 0 = none */
    uint64_t telling; /* the telling ones among them that the tables know; 0 = none */
    uint64_t own;     /* the telling words of the last segment that has words; 0 = none */
    uint64_t last;    /* the last two words, where one of them tells; 0 = none */
    unsigned tower;   /* TOWER_*: text or image, encoder or decoder; WAY_* */
    bool norm;        /* the last word is a norm's */
    uint8_t rank; /* of a norm in its block: 1 the first, 2 the second, by words; 0 = not said */
    enum part_of part; /* by the last word; partners never differ in it */
};
MUSTCHECK enum status speak(struct str path, struct arena *a, struct spoken *out, struct err *e);
/* Of the words of a path; numbers: else they are all alike; wrappers: else "model" and its like
 * are left out. */
uint64_t text_hash(struct str path, bool numbers, bool wrappers);

/* ---- match_tree.c ---- */

/* A place in the tree: a run [lo, hi) of the items in the order of their steps. */
struct place {
    uint32_t lo, hi;
    uint32_t parent, up;      /* the place around; the nearest one that holds more. 0: the top */
    uint32_t n_numbered, nth; /* numbered places right below; its own number among those */
    uint64_t form;            /* hash of the steps, numbers being alike */
    bool numbered, twin;      /* its last step is a number; one around it is, and holds the same */
    bool counted;             /* a number stands somewhere in its steps */
};
struct side {
    struct match_item *it;
    size_t n;
    struct spoken *word;
    uint64_t *key;       /* of the evidence at hand; 0 = none */
    uint32_t *perm, *at; /* items in the order of their steps; the place of each item */
    uint64_t *sum;       /* over perm, n + 1 of them: of what is known */
    uint64_t *known;     /* what an item is known to be, the same number on both sides */
    uint32_t *n_like;    /* per item: open items of its colour */
    struct place *place; /* parents first */
    size_t n_places;
    bool defined; /* order is that of a definition */
};
struct game {
    struct side s, t;
    struct arena *a;
};
uint64_t match_mix(uint64_t h, uint64_t v);
bool match_shares(const struct match_item *s, const struct match_item *t);

MUSTCHECK enum status tree_build(struct side *x, struct arena *a, struct err *e);
/* The keys of one kind of evidence, for all items of both sides. known, sum and n_like are up to
 * date. up: how many places around. inner: the innermost of several sequences. */
void keys_of_parents(struct side *x, unsigned up);
void keys_of_ranks(struct side *x);
MUSTCHECK enum status keys_of_blocks(struct game *g, bool inner, struct arena *a, struct err *e);
MUSTCHECK enum status keys_of_numbers(struct game *g, struct arena *a, struct err *e);
/* Those that keys_of_numbers leaves: where the layers of one sort on one side are a part of a
 * longer sequence (conv1, conv2 and a shortcut's conv), what both sequences have says the same. */
MUSTCHECK enum status keys_of_places(struct game *g, struct arena *a, struct err *e);
MUSTCHECK enum status keys_of_order(struct game *g, struct arena *a, struct err *e);
#endif
