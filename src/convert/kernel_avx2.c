/* AVX2 kernels; see kernel.h. Every processor with AVX2 has the half-precision conversions
 * (F16C) too.
 */
#include "convert/kernel.h"
#include <immintrin.h>
#include <string.h>

#define LINE 64

static inline __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void store(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
static inline __m128i load128(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline void store128(uint8_t *p, __m128i v)
{
    _mm_storeu_si128((__m128i *)(void *)p, v);
}

/* 8 by 8 of 4 bytes; a[i] becomes column i */
static inline void turn4(__m256i a[8], const uint8_t *s, ptrdiff_t stride)
{
    __m256i b[8];
    for (int i = 0; i < 8; i++)
        a[i] = load(s + i * stride);
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m256i lo = a[i], hi = a[i + 4];
        a[i] = _mm256_permute2x128_si256(lo, hi, 0x20);
        a[i + 4] = _mm256_permute2x128_si256(lo, hi, 0x31);
    }
}

static void tile4(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m256i a[8];
    turn4(a, s, stride);
    for (int i = 0; i < 8; i++)
        store(row[i] + at, a[i]);
}

static void tile8(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m256i a = load(s), b = load(s + stride), c = load(s + 2 * stride), d = load(s + 3 * stride);
    __m256i ab0 = _mm256_unpacklo_epi64(a, b), ab1 = _mm256_unpackhi_epi64(a, b);
    __m256i cd0 = _mm256_unpacklo_epi64(c, d), cd1 = _mm256_unpackhi_epi64(c, d);
    store(row[0] + at, _mm256_permute2x128_si256(ab0, cd0, 0x20));
    store(row[1] + at, _mm256_permute2x128_si256(ab1, cd1, 0x20));
    store(row[2] + at, _mm256_permute2x128_si256(ab0, cd0, 0x31));
    store(row[3] + at, _mm256_permute2x128_si256(ab1, cd1, 0x31));
}

/* 16 rows by 16 columns of 2 bytes: two 8x8 blocks a register pair, then lanes are crossed */
static void tile2(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m256i a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = load(s + i * stride);
    for (int h = 0; h < 16; h += 8) {
        for (int i = 0; i < 4; i++) {
            b[h + 2 * i] = _mm256_unpacklo_epi16(a[h + 2 * i], a[h + 2 * i + 1]);
            b[h + 2 * i + 1] = _mm256_unpackhi_epi16(a[h + 2 * i], a[h + 2 * i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            a[h + i] = _mm256_unpacklo_epi32(b[h + i], b[h + i + 2]);
            a[h + i + 1] = _mm256_unpackhi_epi32(b[h + i], b[h + i + 2]);
            a[h + i + 2] = _mm256_unpacklo_epi32(b[h + i + 1], b[h + i + 3]);
            a[h + i + 3] = _mm256_unpackhi_epi32(b[h + i + 1], b[h + i + 3]);
        }
        for (int i = 0; i < 4; i++) {
            b[h + 2 * i] = _mm256_unpacklo_epi64(a[h + i], a[h + i + 4]);
            b[h + 2 * i + 1] = _mm256_unpackhi_epi64(a[h + i], a[h + i + 4]);
        }
    }
    for (int i = 0; i < 8; i++) {
        store(row[i] + at, _mm256_permute2x128_si256(b[i], b[i + 8], 0x20));
        store(row[i + 8] + at, _mm256_permute2x128_si256(b[i], b[i + 8], 0x31));
    }
}

/* 16 rows by 16 columns of 1 byte */
static void tile1(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m128i a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = load128(s + i * stride);
    /* four rounds of interleaving row i with row i + 8 */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        for (int i = 0; i < 8; i++) {
            a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
            a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
        }
    }
    for (int i = 0; i < 16; i++)
        store128(row[i] + at, a[i]);
}

/* Tiles are stacked until their rows fill a cache line of the output, so that each line is written
 * once; the source is asked for ahead, its rows being too far apart for the hardware to guess. At
 * the edges the last tile is moved back over what is done already: the same bytes are stored twice,
 * nothing goes the slow way. */
#define WALK(LINKAGE, NAME, TILE_FN, SCALAR, N, SIZE)                                              \
    LINKAGE void NAME(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,      \
                      size_t cols)                                                                 \
    {                                                                                              \
        if (rows < N || cols < N) {                                                                \
            SCALAR(row, src, stride, rows, cols);                                                  \
            return;                                                                                \
        }                                                                                          \
        for (size_t r = 0; r < rows; r += LINE / SIZE) {                                           \
            size_t end = rows - r < LINE / SIZE ? rows : r + LINE / SIZE;                          \
            for (size_t c = 0; c < cols; c += N) {                                                 \
                size_t at = cols - c < N ? cols - N : c;                                           \
                if (r + 2 * (LINE / SIZE) < rows && c * SIZE % LINE < N * SIZE)                    \
                    for (size_t i = 0; i < LINE / SIZE; i++)                                       \
                        _mm_prefetch(                                                              \
                            (const char *)(src + (ptrdiff_t)(end + i) * stride + c * SIZE),        \
                            _MM_HINT_T0);                                                          \
                for (size_t k = r; k < end; k += N) {                                              \
                    size_t top = rows - k < N ? rows - N : k;                                      \
                    TILE_FN(row + at, top * SIZE, src + (ptrdiff_t)top * stride + at * SIZE,       \
                            stride);                                                               \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

WALK(, kernel_avx2_transpose1, tile1, kernel_scalar.transpose1, 16, 1)
WALK(, kernel_avx2_transpose2, tile2, kernel_scalar.transpose2, 16, 2)
WALK(static, transpose4, tile4, kernel_scalar.transpose4, 8, 4)
WALK(static, transpose8, tile8, kernel_scalar.transpose8, 4, 8)

/* 8 floats to bf16 in the low halves of 8 words; integers only, so subnormals are kept */
static inline __m256i bf16_of(__m256i u, __m256i *over)
{
    const __m256i inf = _mm256_set1_epi32(0x7f800000), one = _mm256_set1_epi32(1);
    __m256i a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i hi = _mm256_srli_epi32(u, 16);
    __m256i r = _mm256_srli_epi32(
        _mm256_add_epi32(u, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(hi, one))),
        16);
    __m256i empty =
        _mm256_cmpeq_epi32(_mm256_and_si256(hi, _mm256_set1_epi32(0x7f)), _mm256_setzero_si256());
    __m256i nan = _mm256_or_si256(hi, _mm256_and_si256(empty, _mm256_set1_epi32(0x40)));
    __m256i is_nan = _mm256_cmpgt_epi32(a, inf), is_fin = _mm256_cmpgt_epi32(inf, a);
    __m256i at_inf = _mm256_cmpeq_epi32(_mm256_and_si256(r, _mm256_set1_epi32(0x7fff)),
                                        _mm256_set1_epi32(0x7f80));
    *over = _mm256_or_si256(*over, _mm256_and_si256(is_fin, at_inf));
    return _mm256_blendv_epi8(r, nan, is_nan);
}

/* As WALK, tiles stacked to a line of 32 results. */
static bool transpose_bf16(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,
                           size_t cols)
{
    __m256i over = _mm256_setzero_si256();
    if (rows < 8 || cols < 8)
        return kernel_scalar.transpose_bf16(row, src, stride, rows, cols);
    for (size_t r = 0; r < rows; r += LINE / 2) {
        size_t end = rows - r < LINE / 2 ? rows : r + LINE / 2;
        for (size_t c = 0; c < cols; c += 8) {
            size_t at = cols - c < 8 ? cols - 8 : c;
            if (end + LINE / 2 <= rows && c * 4 % LINE == 0)
                for (size_t i = 0; i < LINE / 2; i++)
                    _mm_prefetch((const char *)(src + (ptrdiff_t)(end + i) * stride + c * 4),
                                 _MM_HINT_T0);
            for (size_t k = r; k < end; k += 8) {
                size_t top = rows - k < 8 ? rows - 8 : k;
                __m256i a[8];
                turn4(a, src + (ptrdiff_t)top * stride + at * 4, stride);
                for (int i = 0; i < 8; i++) {
                    __m256i v = bf16_of(a[i], &over);
                    store128(row[at + (size_t)i] + top * 2,
                             _mm_packus_epi32(_mm256_castsi256_si128(v),
                                              _mm256_extracti128_si256(v, 1)));
                }
            }
        }
    }
    return !_mm256_testz_si256(over, over);
}

bool kernel_avx2_f32_bf16(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    __m256i over = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i a = bf16_of(load(s + 4 * i), &over), b = bf16_of(load(s + 4 * i + 32), &over);
        store(d + 2 * i, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8));
    }
    bool left = kernel_scalar.f32_bf16(s + 4 * i, d + 2 * i, n - i);
    return left || !_mm256_testz_si256(over, over);
}

void kernel_avx2_bf16_f32(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        store(d + 4 * i, _mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(s + 2 * i)), 16));
    kernel_scalar.bf16_f32(s + 2 * i, d + 4 * i, n - i);
}

/* The conversion instruction makes NaNs quiet; blocks that hold one go the integer way. */
bool kernel_avx2_f32_f16(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    const __m256i last = _mm256_set1_epi32(0x477fefff); /* above: infinity, NaN, overflow */
    bool over = false;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i u = load(s + 4 * i);
        __m256i a = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(a, last))) {
            over |= kernel_scalar.f32_f16(s + 4 * i, d + 2 * i, 8);
            continue;
        }
        store128(d + 2 * i, _mm256_cvtps_ph(_mm256_castsi256_ps(u),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    bool left = kernel_scalar.f32_f16(s + 4 * i, d + 2 * i, n - i);
    return left || over;
}

void kernel_avx2_f16_f32(const void *src, void *dst, size_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    const __m128i inf = _mm_set1_epi16(0x7c00);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = load128(s + 2 * i);
        if (_mm_movemask_epi8(_mm_cmpgt_epi16(_mm_and_si128(h, _mm_set1_epi16(0x7fff)), inf)))
            kernel_scalar.f16_f32(s + 2 * i, d + 4 * i, 8);
        else
            store(d + 4 * i, _mm256_castps_si256(_mm256_cvtph_ps(h)));
    }
    kernel_scalar.f16_f32(s + 2 * i, d + 4 * i, n - i);
}

const struct kernel kernel_avx2 = {.name = "avx2",
                                   .transpose1 = kernel_avx2_transpose1,
                                   .transpose2 = kernel_avx2_transpose2,
                                   .transpose4 = transpose4,
                                   .transpose8 = transpose8,
                                   .f32_bf16 = kernel_avx2_f32_bf16,
                                   .bf16_f32 = kernel_avx2_bf16_f32,
                                   .f32_f16 = kernel_avx2_f32_f16,
                                   .f16_f32 = kernel_avx2_f16_f32,
                                   .transpose_bf16 = transpose_bf16};
