/* Linear layers over several axes (FORM_AXES): the letters of their axes, and which axes a kernel
 * reads and gives where a bias says it.
 */
#ifndef FRAMEWORK_DENSE_H
#define FRAMEWORK_DENSE_H
#include "base/arena.h"
#include "model/layers.h"

/* Letters of what is read and of what is given, in their order. */
#define DENSE_IN "abcdefgh"
#define DENSE_OUT "ijklmnoq"
/* A kernel whose first n_in axes are read and whose others are given, as Flax has it. NULL: no
 * memory, or more axes on a side than there are letters. */
const struct dense_axes *dense_split(size_t n_axes, size_t n_in, struct arena *a);
/* How many axes such a kernel reads, by its bias, which is its features behind as many batch axes:
 * 0 where not just one reading fits. *n_batch: the batch axes of that reading. */
size_t dense_inputs(const struct tensor *w, const struct tensor *bias, size_t *n_batch);
/* An einsum "ab,bc->ac" of input, kernel and output, as Keras's EinsumDense has it, with the axes
 * of its bias. False with *why where it is no linear layer, or the tensors are not its; *out is
 * NULL for a usual one, a kernel [in,out] and a bias [out]. b may be NULL. */
MUSTCHECK enum status dense_einsum(struct str equation, struct str bias_axes,
                                   const struct tensor *w, const struct tensor *b, struct arena *a,
                                   const struct dense_axes **out, bool *is, const char **why,
                                   struct err *e);
#endif
