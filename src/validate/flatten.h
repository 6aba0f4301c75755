/* A Dense after a flattened map reads its features channels first in one framework and channels
 * last in another, and its weights do not tell whether it is one. Where that is open, no order is
 * taken for granted.
 */
#ifndef VALIDATE_FLATTEN_H
#define VALIDATE_FLATTEN_H
#include "validate/convention.h"

#define FLATTEN_MAX 8
/* The channel counts that a linear layer's inputs may be a flattened map of: outputs of A's
 * convolutions that divide them, unless some layer gives exactly as many, or the two conventions
 * flatten alike, or the layer says what it is. *inputs receives their number. 0: nothing is open.
 */
size_t flatten_candidates(const struct layers *la, size_t i, const struct plan *p,
                          const struct convention *a, const struct convention *b,
                          uint64_t channels[FLATTEN_MAX], uint64_t *inputs);
#endif
