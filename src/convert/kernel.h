/* Inner loops with one twin per instruction set, all equal to the scalar ones byte for byte
 * (tests/unit/test_kernel.c). Chosen at run time by what the CPU has: a static musl program has no
 * ifunc, so this is a table of function pointers.
 */
#ifndef CONVERT_KERNEL_H
#define CONVERT_KERNEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* row[c] + r * size receives the element at src + r * stride + c * size, for r < rows, c < cols.
 * stride in bytes, any sign. Rows of the output do not overlap the source. */
typedef void kernel_transpose(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride,
                              size_t rows, size_t cols);

/* The same for 4-byte floats, each rounded to bf16 as f32_bf16 does: row[c] + r * 2 receives it.
 * True when a finite value overflowed. */
typedef bool kernel_transpose_cast(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride,
                                   size_t rows, size_t cols);

struct kernel {
    const char *name; /* "scalar" "avx2" "avx512" "neon" */
    kernel_transpose *transpose1, *transpose2, *transpose4, *transpose8;
    /* Casts by the rules of convert/number.h; src and dst do not overlap and need no alignment.
     * The narrowing ones return true when a finite value overflowed (stored as infinity). */
    bool (*f32_bf16)(const void *src, void *dst, size_t n);
    void (*bf16_f32)(const void *src, void *dst, size_t n);
    bool (*f32_f16)(const void *src, void *dst, size_t n);
    void (*f16_f32)(const void *src, void *dst, size_t n);
    kernel_transpose_cast *transpose_bf16;
};
/* The table for this CPU, within what cpu_limit (base/cpu.h) allows. Cheap. */
const struct kernel *kernel(void);

/* Byte order of n units of 2, 4 or 8 bytes, in place; other widths do nothing. */
void kernel_swap(void *p, size_t n, size_t width);

/* Private to kernel*.c. What a table does not do itself it takes from the one below. */
extern const struct kernel kernel_scalar;
#if defined(__x86_64__)
extern const struct kernel kernel_avx2, kernel_avx512;
kernel_transpose kernel_avx2_transpose1, kernel_avx2_transpose2;
bool kernel_avx2_f32_bf16(const void *src, void *dst, size_t n);
void kernel_avx2_bf16_f32(const void *src, void *dst, size_t n);
bool kernel_avx2_f32_f16(const void *src, void *dst, size_t n);
void kernel_avx2_f16_f32(const void *src, void *dst, size_t n);
#elif defined(__aarch64__)
extern const struct kernel kernel_neon;
#endif
#endif
