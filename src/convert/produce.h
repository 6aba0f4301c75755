/* One target tensor as its recipe makes it: any range of its C order, on demand. A part's own C
 * order and the target's run the same way, so a range of the target is one range of each part,
 * cut into runs that lie together in the target.
 */
#ifndef CONVERT_PRODUCE_H
#define CONVERT_PRODUCE_H
#include "convert/input.h"

struct made_part {
    const struct part *p;
    uint64_t n_elems;
    uint64_t run;  /* elements that follow each other in the target */
    uint64_t base; /* target index of its first element */
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
                                const struct recipe *r, struct resident *table, struct err *e);
void side_free(struct side *sd);
/* How many of the part's elements lie below target index x. */
uint64_t part_floor(const struct side *sd, const struct made_part *q, uint64_t x);
/* Target elements [lo, lo+n) into dst, native. */
MUSTCHECK enum status side_produce(struct side *sd, uint64_t lo, uint64_t n, uint8_t *dst,
                                   struct scratch *sc, struct feed_counts *c, struct err *e);
#endif
