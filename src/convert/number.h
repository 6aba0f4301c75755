/* Values of any element type, taken apart and put together with integers alone: the reference for
 * every conversion, and the path of those without a kernel.
 *
 * Rules of a conversion
 *  - float to narrower float: round to nearest, ties to even, subnormals kept.
 *  - float or integer to integer: toward zero, as every framework does.
 *  - NaN: the sign and the payload bits that fit are kept, signalling stays signalling; where no
 *    payload bit is left the quiet bit is set. Widening therefore loses nothing, and a value
 *    widened and narrowed again is itself. Types with one NaN only get that one.
 *  - -0 becomes 0 in types without it.
 *  - A finite value beyond the target's range is an overflow: with allow_overflow it becomes
 *    infinity, else NaN in types without infinity, else (float6, float4, integers) the nearest end
 *    of the range. NaN to a type without NaN, and infinity to one without it, are overflows too
 *    (NaN then becomes 0).
 *  - to bool: anything but zero is true. Real to complex: imaginary part +0.
 */
#ifndef CONVERT_NUMBER_H
#define CONVERT_NUMBER_H
#include "model/dtype.h"

enum num_class { NUM_ZERO, NUM_FINITE, NUM_INF, NUM_NAN };
/* FINITE: sig * 2^exp with bit 63 of sig set. NAN: sig is the payload, left-aligned. */
struct num {
    enum num_class cls;
    bool neg;
    int exp;
    uint64_t sig;
};
/* code: the element's bits, sub-byte types in the low bits. Real types only. */
struct num num_decode(enum dtype t, uint64_t code);
/* *overflow is set (never cleared) where the value had no place. */
uint64_t num_encode(enum dtype t, struct num v, bool *overflow);
/* The smallest normal number of a float type; 0 of others. */
double num_smallest(enum dtype t);
/* Can values of type a be cast to b at all? (complex to real cannot) */
bool num_castable(enum dtype a, enum dtype b);
/* n elements, one a byte for sub-byte types (high bits zero); dst and src do not overlap.
 * Returns the index of the first overflow, n when none. */
uint64_t num_cast(enum dtype from, const void *src, enum dtype to, void *dst, uint64_t n);
/* Bytes an element takes inside the engine: sub-byte types take one. */
static inline size_t num_bytes(enum dtype t)
{
    size_t n = dtype_bytes(t);
    return n ? n : 1;
}
/* The real type of a complex type's halves; t itself for others. */
enum dtype num_half(enum dtype t);
#endif
