/* NEON kernels (aarch64); see kernel.h. Casts are left to the compiler's own vectors. */
#include "convert/kernel.h"
#include <arm_neon.h>

static void tile4(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(s));
    uint32x4_t b = vreinterpretq_u32_u8(vld1q_u8(s + stride));
    uint32x4_t c = vreinterpretq_u32_u8(vld1q_u8(s + 2 * stride));
    uint32x4_t d = vreinterpretq_u32_u8(vld1q_u8(s + 3 * stride));
    uint32x4x2_t ab = vtrnq_u32(a, b), cd = vtrnq_u32(c, d);
    for (int i = 0; i < 2; i++) {
        uint32x4_t lo = vcombine_u32(vget_low_u32(ab.val[i]), vget_low_u32(cd.val[i]));
        uint32x4_t hi = vcombine_u32(vget_high_u32(ab.val[i]), vget_high_u32(cd.val[i]));
        vst1q_u8(row[i] + at, vreinterpretq_u8_u32(lo));
        vst1q_u8(row[i + 2] + at, vreinterpretq_u8_u32(hi));
    }
}

static void tile8(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    uint64x2_t a = vreinterpretq_u64_u8(vld1q_u8(s));
    uint64x2_t b = vreinterpretq_u64_u8(vld1q_u8(s + stride));
    vst1q_u8(row[0] + at, vreinterpretq_u8_u64(vtrn1q_u64(a, b)));
    vst1q_u8(row[1] + at, vreinterpretq_u8_u64(vtrn2q_u64(a, b)));
}

static void tile2(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    uint16x8_t a[8], b[8];
    for (int i = 0; i < 8; i++)
        a[i] = vreinterpretq_u16_u8(vld1q_u8(s + i * stride));
    for (int i = 0; i < 8; i += 2) {
        b[i] = vtrn1q_u16(a[i], a[i + 1]);
        b[i + 1] = vtrn2q_u16(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int k = 0; k < 2; k++) {
            uint32x4_t x = vreinterpretq_u32_u16(b[i + k]);
            uint32x4_t y = vreinterpretq_u32_u16(b[i + k + 2]);
            a[i + k] = vreinterpretq_u16_u32(vtrn1q_u32(x, y));
            a[i + k + 2] = vreinterpretq_u16_u32(vtrn2q_u32(x, y));
        }
    }
    for (int k = 0; k < 4; k++) {
        uint64x2_t x = vreinterpretq_u64_u16(a[k]), y = vreinterpretq_u64_u16(a[k + 4]);
        vst1q_u8(row[k] + at, vreinterpretq_u8_u64(vtrn1q_u64(x, y)));
        vst1q_u8(row[k + 4] + at, vreinterpretq_u8_u64(vtrn2q_u64(x, y)));
    }
}

/* 16 by 16 of 1 byte: four rounds of interleaving row i with row i + 8 */
static void tile1(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    uint8x16_t a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = vld1q_u8(s + i * stride);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = vzip1q_u8(a[i], a[i + 8]);
            b[2 * i + 1] = vzip2q_u8(a[i], a[i + 8]);
        }
        for (int i = 0; i < 8; i++) {
            a[2 * i] = vzip1q_u8(b[i], b[i + 8]);
            a[2 * i + 1] = vzip2q_u8(b[i], b[i + 8]);
        }
    }
    for (int i = 0; i < 16; i++)
        vst1q_u8(row[i] + at, a[i]);
}

/* At the edges the last tile is moved back over what is done already: the same bytes are stored
 * twice, nothing goes the slow way. */
#define WALK(NAME, TILE_FN, N, SIZE)                                                               \
    static void NAME(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,       \
                     size_t cols)                                                                  \
    {                                                                                              \
        if (rows < N || cols < N) {                                                                \
            kernel_scalar.NAME(row, src, stride, rows, cols);                                      \
            return;                                                                                \
        }                                                                                          \
        for (size_t r = 0; r < rows; r += N) {                                                     \
            size_t top = rows - r < N ? rows - N : r;                                              \
            for (size_t c = 0; c < cols; c += N) {                                                 \
                size_t at = cols - c < N ? cols - N : c;                                           \
                TILE_FN(row + at, top * SIZE, src + (ptrdiff_t)top * stride + at * SIZE, stride);  \
            }                                                                                      \
        }                                                                                          \
    }
WALK(transpose1, tile1, 16, 1)
WALK(transpose2, tile2, 8, 2)
WALK(transpose4, tile4, 4, 4)
WALK(transpose8, tile8, 2, 8)

static bool f32_bf16(const void *src, void *dst, size_t n)
{
    return kernel_scalar.f32_bf16(src, dst, n);
}

static void bf16_f32(const void *src, void *dst, size_t n)
{
    kernel_scalar.bf16_f32(src, dst, n);
}

static bool f32_f16(const void *src, void *dst, size_t n)
{
    return kernel_scalar.f32_f16(src, dst, n);
}

static void f16_f32(const void *src, void *dst, size_t n)
{
    kernel_scalar.f16_f32(src, dst, n);
}

static bool transpose_bf16(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,
                           size_t cols)
{
    return kernel_scalar.transpose_bf16(row, src, stride, rows, cols);
}

const struct kernel kernel_neon = {.name = "neon",
                                   .transpose1 = transpose1,
                                   .transpose2 = transpose2,
                                   .transpose4 = transpose4,
                                   .transpose8 = transpose8,
                                   .f32_bf16 = f32_bf16,
                                   .bf16_f32 = bf16_f32,
                                   .f32_f16 = f32_f16,
                                   .f16_f32 = f16_f32,
                                   .transpose_bf16 = transpose_bf16};
