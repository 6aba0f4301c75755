/* The loop under every sink: produces the target tensors of one plan (or of two, side by side)
 * slab by slab in a given order, on all threads, in bounded memory. Sinks write, hash, compare.
 */
#ifndef CONVERT_FEED_H
#define CONVERT_FEED_H
#include "convert/input.h"
#include "convert/run.h"

struct slab {
    uint32_t job;   /* place in the order */
    uint32_t t;     /* target tensor of plan[0] */
    uint64_t index; /* of the slab in its tensor */
    uint64_t lo, n; /* units (elements, bytes of block types), C order of the target; n is 0 only
                       for tensors without elements */
    bool first, last;
    uint8_t *data[2]; /* native units of the target dtypes, per side */
};
struct sink {
    void *ctx;
    uint64_t slot_bytes; /* memory the sink holds per thread, for the budget */
    /* Told once, before any slab, how many threads there will be and the largest slab. */
    enum status (*start)(void *ctx, int n_slots, struct err *e);
    /* Units a slab of tensor t must have; 0 = the feed chooses. NULL = always 0. */
    uint64_t (*slab_elems)(void *ctx, uint32_t t);
    /* As par_job's: body anywhere, commit in order, finish anywhere. commit and finish may be
     * NULL. The data is valid in all three. */
    enum status (*body)(void *ctx, const struct slab *s, int slot, struct err *e);
    enum status (*commit)(void *ctx, const struct slab *s, int slot, struct err *e);
    enum status (*finish)(void *ctx, const struct slab *s, int slot, struct err *e);
    bool finish_alone; /* as par_job's */
    /* As par_job's, or NULL. The data is valid. */
    enum status (*prove)(void *ctx, const struct slab *s, int slot, struct err *e);
};
struct feed {
    const struct plan *plan[2]; /* [1] NULL: one side */
    const uint32_t *order;      /* target tensors of plan[0] */
    const uint32_t *partner;    /* target tensor of plan[1] per place in the order */
    size_t n;
    uint64_t lo, hi;         /* only these units (of every tensor); 0, 0 = all */
    const struct sink *sink; /* NULL: cost only */
    struct run_opt opt;
    const char *spool_beside;
};
#define SLAB_BYTES ((uint64_t)1 << 20) /* of a slab that nothing speaks against */
/* Target tensor and recipe of a place in the order, on side 0 or 1. An alias that is written all
 * the same is made from its target's recipe. */
const struct tensor *feed_target(const struct feed *f, size_t job, int side);
const struct recipe *feed_recipe(const struct feed *f, size_t job, int side);
/* Units of a slab when the sink leaves it open. */
uint64_t feed_slab_elems(const struct feed *f, size_t job);
/* Runs; *cost (may be NULL) receives what it took, or without a sink what it would take. */
MUSTCHECK enum status feed_run(const struct feed *f, struct run_cost *cost, struct err *e);
#endif
