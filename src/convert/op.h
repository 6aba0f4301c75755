/* What happens to values: casts, sums, signs, scales, on blocks of elements in scratch memory.
 * Elements are native: little-endian, sub-byte types one a byte, high bits zero (as
 * ml_dtypes stores them).
 */
#ifndef CONVERT_OP_H
#define CONVERT_OP_H
#include "convert/plan.h"

/* Elements of one call; scratch blocks hold this many of the widest type. */
#define OP_BLOCK 16384
#define OP_BLOCK_BYTES ((size_t)OP_BLOCK * 16)

/* One op on n <= OP_BLOCK elements of type `from`; *out receives the type after it. operand: n
 * elements of `from` (ADD). dst may be src but for casts. *bad is the index of the first element
 * that has no place in the target, n when none (the caller names the tensor). A cast to a block
 * type takes whole blocks. UNPACK is no op of this function: inputs do it (input.h). */
void op_apply(const struct op *op, enum dtype from, const void *src, const void *operand, void *dst,
              size_t n, enum dtype *out, size_t *bad);
/* Cast of n elements, by a kernel where there is one. Returns the first overflow, n when none. */
size_t op_cast(enum dtype from, const void *src, enum dtype to, void *dst, size_t n);
/* The type after the chain; DT_NONE when an op does not take the type it is given. */
enum dtype op_chain_type(const struct op *op, size_t n_ops, enum dtype from);
/* Packed elements (lowest bits first) from element `at` of p on, to one a byte. */
void op_unpack(enum dtype t, const uint8_t *p, uint64_t at, uint8_t *dst, size_t n);
/* One a byte as a foreign file holds it, to the engine's form: high bits cleared. */
void op_tidy(enum dtype t, uint8_t *p, size_t n);
/* One a byte to packed; n fills whole bytes. */
void op_pack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n);
#endif
