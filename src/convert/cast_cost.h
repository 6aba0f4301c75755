/* What casting cost: every tensor of a plan that ends in a cast, compared with what it would be
 * without it. Reads the source again; writes nothing.
 */
#ifndef CONVERT_CAST_COST_H
#define CONVERT_CAST_COST_H
#include "convert/run.h"

struct cast_cost {
    uint32_t tensor; /* of the target */
    enum dtype from, to;
    bool measured; /* false: to blocks, or beside numbers that were filled in */
    struct run_diff diff;
};
/* *cost: one for each such tensor, from the arena. */
MUSTCHECK enum status cast_cost(const struct plan *p, const struct run_opt *o, struct arena *a,
                                struct cast_cost **cost, size_t *n, struct err *e);
#endif
