/* What verdicts are made of: the types a layer holds, tolerances, coverage, the overall answer. */
#ifndef VALIDATE_VERDICT_H
#define VALIDATE_VERDICT_H
#include "validate/evaluate.h"

struct layer_types {
    bool has_f64; /* needs double arithmetic */
    bool has_odd; /* complex or block types: not computed */
    double rtol, atol;
};
/* false when the layer cannot be computed in real numbers */
bool layer_dtypes(const struct side *a, const struct side *b, struct layer_types *out);

enum { COVERAGE_UNSEEN = 254, COVERAGE_APART = 255 };
struct coverage {
    const struct plan *plan; /* A's */
    uint8_t *rung;           /* per tensor: enum rung, or one of the above */
};
MUSTCHECK enum status coverage_begin(struct coverage *c, const struct plan *a, struct err *e);
void coverage_apart(struct coverage *c, int64_t tensor); /* counters: compute nothing */
void coverage_add(struct coverage *c, int64_t tensor, enum rung rung);
void coverage_end(struct coverage *c, struct validate_report *r); /* frees */
/* counts, coverage and overall from the rest of the report */
void verdict_overall(struct validate_report *r, const struct validate_opt *o);

/* Level tensor, into a report whose arena is ready. tensors.c */
MUSTCHECK enum status validate_tensors(const struct plan *a, const struct plan *b,
                                       const struct validate_opt *o, struct validate_report *out,
                                       struct err *e);
#endif
