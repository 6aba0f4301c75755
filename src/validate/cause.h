/* What would explain a difference: each mistake that is commonly made is undone on B's side and
 * the layer compared again. A suggestion, never a repair.
 */
#ifndef VALIDATE_CAUSE_H
#define VALIDATE_CAUSE_H
#include "validate/evaluate.h"

/* Compares every stage of both sides. c[k] receives stage k, ended; *equal tells whether none has
 * a fault. */
MUSTCHECK enum status stages_compare(const struct setting *s, const struct side *a,
                                     const struct side *b, struct executor *x, uint64_t block_elems,
                                     double rtol, double atol, struct comparison c[STAGES_MAX],
                                     bool *equal, struct err *e);
/* c: the comparison that found the layer to differ. *cause stays empty where nothing explains it,
 * or where the layer is too large to try (4 Mi elements). */
MUSTCHECK enum status cause_find(const struct setting *s, const struct side *a,
                                 const struct side *b, struct executor *x, double rtol, double atol,
                                 const struct comparison c[STAGES_MAX], struct arena *arena,
                                 struct str *cause, struct err *e);
#endif
