/* Scalar kernels and the choice among the others: see kernel.h. */
#include "convert/kernel.h"
#include "base/cpu.h"
#include <string.h>

/* Tiles keep the output rows in the first-level cache while the source is walked by lines. */
#define TILE 16

#define TRANSPOSE(NAME, T)                                                                         \
    static void NAME(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,       \
                     size_t cols)                                                                  \
    {                                                                                              \
        for (size_t c0 = 0; c0 < cols; c0 += TILE) {                                               \
            size_t c1 = cols - c0 < TILE ? cols : c0 + TILE;                                       \
            for (size_t r0 = 0; r0 < rows; r0 += TILE) {                                           \
                size_t r1 = rows - r0 < TILE ? rows : r0 + TILE;                                   \
                for (size_t c = c0; c < c1; c++) {                                                 \
                    const uint8_t *s = src + (ptrdiff_t)r0 * stride + c * sizeof(T);               \
                    uint8_t *d = row[c] + r0 * sizeof(T);                                          \
                    for (size_t r = r0; r < r1; r++, s += stride, d += sizeof(T)) {                \
                        T v;                                                                       \
                        memcpy(&v, s, sizeof v);                                                   \
                        memcpy(d, &v, sizeof v);                                                   \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
TRANSPOSE(transpose1, uint8_t)
TRANSPOSE(transpose2, uint16_t)
TRANSPOSE(transpose4, uint32_t)
TRANSPOSE(transpose8, uint64_t)

static bool f32_bf16(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    uint32_t over = 0;
    for (size_t i = 0; i < n; i++, s += 4, d += 2) {
        uint32_t u, a;
        memcpy(&u, s, 4);
        a = u & 0x7fffffff;
        uint32_t r = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        uint32_t nan = u >> 16 | (uint32_t)((u >> 16 & 0x7f) == 0) << 6;
        over |= (uint32_t)(a < 0x7f800000 && (r & 0x7fff) == 0x7f80);
        uint16_t v = (uint16_t)(a > 0x7f800000 ? nan : r);
        memcpy(d, &v, 2);
    }
    return over != 0;
}

static bool transpose_bf16(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,
                           size_t cols)
{
    uint8_t column[TILE * 4];
    bool over = false;
    for (size_t r0 = 0; r0 < rows; r0 += TILE) {
        size_t n = rows - r0 < TILE ? rows - r0 : TILE;
        for (size_t c = 0; c < cols; c++) {
            const uint8_t *s = src + (ptrdiff_t)r0 * stride + c * 4;
            for (size_t r = 0; r < n; r++, s += stride)
                memcpy(column + 4 * r, s, 4);
            over |= f32_bf16(column, row[c] + r0 * 2, n);
        }
    }
    return over;
}

static void bf16_f32(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    for (size_t i = 0; i < n; i++, s += 2, d += 4) {
        uint16_t h;
        memcpy(&h, s, 2);
        uint32_t u = (uint32_t)h << 16;
        memcpy(d, &u, 4);
    }
}

static uint16_t to_f16(uint32_t u, uint32_t *over)
{
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) {
        uint32_t payload = a >> 13 & 0x3ff;
        return (uint16_t)(sign | 0x7c00 | (payload ? payload : 0x200));
    }
    if (a == 0x7f800000)
        return (uint16_t)(sign | 0x7c00);
    if (a >= 0x477ff000) { /* 65520: the midpoint above the largest half */
        *over = 1;
        return (uint16_t)(sign | 0x7c00);
    }
    if (a >= 0x38800000) {
        uint32_t b = a - (112u << 23);
        return (uint16_t)(sign | ((b + 0xfff + (b >> 13 & 1)) >> 13));
    }
    if (a < 0x33000000) /* below half of the smallest subnormal */
        return (uint16_t)sign;
    uint32_t man = (a & 0x7fffff) | 0x800000, shift = 126 - (a >> 23);
    uint32_t q = man >> shift, rest = man & ((1u << shift) - 1), half = 1u << (shift - 1);
    return (uint16_t)(sign | (q + (rest > half || (rest == half && (q & 1)))));
}

static bool f32_f16(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    uint32_t over = 0;
    for (size_t i = 0; i < n; i++, s += 4, d += 2) {
        uint32_t u;
        memcpy(&u, s, 4);
        uint16_t v = to_f16(u, &over);
        memcpy(d, &v, 2);
    }
    return over != 0;
}

static uint32_t from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31)
        return sign | 0x7f800000 | man << 13;
    if (exp != 0)
        return sign | (exp + 112) << 23 | man << 13;
    if (man == 0)
        return sign;
    uint32_t up = (uint32_t)__builtin_clz(man) - 21; /* brings the top bit to bit 10 */
    return sign | (113 - up) << 23 | (man << up & 0x3ff) << 13;
}

static void f16_f32(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    for (size_t i = 0; i < n; i++, s += 2, d += 4) {
        uint16_t h;
        memcpy(&h, s, 2);
        uint32_t u = from_f16(h);
        memcpy(d, &u, 4);
    }
}

void kernel_swap(void *p, size_t n, size_t width)
{
    uint8_t *b = p;
    for (size_t i = 0; i < n; i++, b += width) {
        if (width == 2) {
            uint16_t v;
            memcpy(&v, b, 2);
            v = __builtin_bswap16(v);
            memcpy(b, &v, 2);
        } else if (width == 4) {
            uint32_t v;
            memcpy(&v, b, 4);
            v = __builtin_bswap32(v);
            memcpy(b, &v, 4);
        } else if (width == 8) {
            uint64_t v;
            memcpy(&v, b, 8);
            v = __builtin_bswap64(v);
            memcpy(b, &v, 8);
        }
    }
}

const struct kernel kernel_scalar = {"scalar", transpose1, transpose2, transpose4, transpose8,
                                     f32_bf16, bf16_f32,   f32_f16,    f16_f32,    transpose_bf16};

const struct kernel *kernel(void)
{
    unsigned have = cpu_have();
#if defined(__x86_64__)
    if ((have & CPU_AVX512) && (have & CPU_VBMI)) /* what the file is built for */
        return &kernel_avx512;
    if (have & CPU_AVX2)
        return &kernel_avx2;
#elif defined(__aarch64__)
    if (have & CPU_NEON)
        return &kernel_neon;
#endif
    (void)have;
    return &kernel_scalar;
}
