/* Block types: what their blocks mean, and the making of the simple ones. The numbers are those of
 * ggml's reference code and of the gguf package, bit for bit: every product, sum and difference is
 * one rounding to float32, in their order, never fused. Where an operation meets a NaN its first
 * NaN operand comes out, made quiet; one that has none to pass on gives the NaN with the sign set:
 * what x86 does, here on every machine.
 */
#ifndef CONVERT_BLOCK_H
#define CONVERT_BLOCK_H
#include "model/dtype.h"

#define BLOCK_ELEMS_MAX 256

/* n blocks to n * block_elems float32 (native); dst need not be aligned. */
void block_unpack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n);
/* Can blocks of this type be made of numbers? */
bool block_packs(enum dtype t);
/* n_elems float32 (whole blocks) to blocks of type t, of which block_packs says yes. Returns the
 * first element that is not finite, or whose size is beyond what the block's float16 scale can
 * say; n_elems when there is none. */
size_t block_pack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n_elems);
#endif
