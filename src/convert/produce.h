/* One target tensor as its recipe makes it: any range of its C order, on demand. A part's own C
 * order and the target's run the same way, so a range of the target is one range of each part,
 * cut into runs that lie together in the target. Ranges count units: elements, or the bytes of a
 * block type, whose last axis is as long as a row has bytes.
 */
#ifndef CONVERT_PRODUCE_H
#define CONVERT_PRODUCE_H
#include "convert/input.h"

struct made_part {
    const struct part *p;
    const struct op *op; /* those left to do: UNPACK is done by the input */
    size_t n_ops;
    bool packs;       /* the last op makes blocks: elements before it, units after */
    uint64_t n_units; /* of the target, see dtype_units */
    uint64_t run;     /* units that follow each other in the target */
    uint64_t base;    /* target index of its first unit */
    size_t first_in, n_in;
};
struct side {
    const struct tensor *dst;
    struct made_part *part;
    size_t n_parts;
    struct input *input; /* a part's source, then the operands of its ops */
    size_t n_inputs;
};
/* Inputs are initialised, not chosen. side_free in any case. */
MUSTCHECK enum status side_make(struct side *sd, const struct plan *p, const struct tensor *dst,
                                const struct recipe *r, const struct sources *x, struct err *e);
void side_free(struct side *sd);
/* How many of the part's units lie below target index x. */
uint64_t part_floor(const struct side *sd, const struct made_part *q, uint64_t x);
/* The elements that units [*p0, *p1) of the part are made of: whole blocks where it packs. */
void part_elems(const struct side *sd, const struct made_part *q, uint64_t *p0, uint64_t *p1);
/* Target units [lo, lo+n) into dst: native elements, or bytes of raw blocks. */
MUSTCHECK enum status side_produce(struct side *sd, uint64_t lo, uint64_t n, uint8_t *dst,
                                   struct scratch *sc, struct feed_counts *c, struct err *e);
#endif
