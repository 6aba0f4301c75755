/* Overflow-safe arithmetic for every size, product and offset that comes from a file.
 * Each returns false on overflow and leaves *out unspecified.
 */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKED __attribute__((warn_unused_result)) static inline
CHECKED bool add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
CHECKED bool sub_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_sub_overflow(a, b, out);
}
CHECKED bool mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
CHECKED bool add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
CHECKED bool mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
CHECKED bool mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
CHECKED bool add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
/* true when [off, off+len) lies inside [0, total) */
CHECKED bool range_in(uint64_t off, uint64_t len, uint64_t total)
{
    return len <= total && off <= total - len;
}
/* product of n dims; a zero dim gives 0, but every other product is still checked */
CHECKED bool prod_u64(const uint64_t *dim, size_t n, uint64_t *out)
{
    uint64_t p = 1;
    bool zero = false;
    for (size_t i = 0; i < n; i++) {
        if (dim[i] == 0)
            zero = true;
        else if (__builtin_mul_overflow(p, dim[i], &p))
            return false;
    }
    *out = zero ? 0 : p;
    return true;
}
CHECKED bool round_up_u64(uint64_t a, uint64_t multiple, uint64_t *out)
{
    uint64_t r = a % multiple;
    return r == 0 ? (*out = a, true) : add_u64(a, multiple - r, out);
}
#endif
