/* AVX-512 kernels; see kernel.h. Tiles whose rows are whole cache lines; narrow types and casts,
 * which are bound by memory with AVX2 already, come from there.
 */
#include "convert/kernel.h"
#include <immintrin.h>

#define LINE 64

static inline __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

static inline void store(uint8_t *p, __m512i v)
{
    _mm512_storeu_si512((void *)p, v);
}

/* 16 by 16 of 4 bytes: 32 then 64 bits are interleaved inside lanes, then the lanes are crossed */
static inline void turn4(__m512i out[16], const uint8_t *s, ptrdiff_t stride)
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = load(s + i * stride);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    /* a[4g + c] holds rows 4g..4g+3 of columns c, c+4, c+8, c+12, one a lane */
    for (int c = 0; c < 4; c++) {
        __m512i x = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
        __m512i y = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
        __m512i z = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
        __m512i w = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        out[c] = _mm512_shuffle_i32x4(x, z, 0x88);
        out[c + 8] = _mm512_shuffle_i32x4(x, z, 0xdd);
        out[c + 4] = _mm512_shuffle_i32x4(y, w, 0x88);
        out[c + 12] = _mm512_shuffle_i32x4(y, w, 0xdd);
    }
}

static void tile4(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m512i a[16];
    turn4(a, s, stride);
    for (int i = 0; i < 16; i++)
        store(row[i] + at, a[i]);
}

/* 8 by 8 of 8 bytes */
static void tile8(uint8_t *const *row, size_t at, const uint8_t *s, ptrdiff_t stride)
{
    __m512i a[8], b[8];
    for (int i = 0; i < 8; i++)
        a[i] = load(s + i * stride);
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    /* b[2g + c] holds rows 2g, 2g+1 of columns c, c+2, c+4, c+6, one a lane */
    for (int c = 0; c < 2; c++) {
        __m512i x = _mm512_shuffle_i32x4(b[c], b[2 + c], 0x88);
        __m512i y = _mm512_shuffle_i32x4(b[c], b[2 + c], 0xdd);
        __m512i z = _mm512_shuffle_i32x4(b[4 + c], b[6 + c], 0x88);
        __m512i w = _mm512_shuffle_i32x4(b[4 + c], b[6 + c], 0xdd);
        store(row[c] + at, _mm512_shuffle_i32x4(x, z, 0x88));
        store(row[c + 4] + at, _mm512_shuffle_i32x4(x, z, 0xdd));
        store(row[c + 2] + at, _mm512_shuffle_i32x4(y, w, 0x88));
        store(row[c + 6] + at, _mm512_shuffle_i32x4(y, w, 0xdd));
    }
}

/* The source is asked for ahead, its rows being too far apart for the hardware to guess. At
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

WALK(static, transpose4, tile4, kernel_scalar.transpose4, 16, 4)
WALK(static, transpose8, tile8, kernel_scalar.transpose8, 8, 8)

/* 16 floats to bf16 in the low halves of 16 words; integers only, so subnormals are kept */
static inline __m512i bf16_of(__m512i u, __mmask16 *over)
{
    const __m512i inf = _mm512_set1_epi32(0x7f800000);
    __m512i a = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffffff)), hi = _mm512_srli_epi32(u, 16);
    __m512i even = _mm512_and_si512(hi, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(
        _mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), even)), 16);
    __mmask16 empty = _mm512_testn_epi32_mask(hi, _mm512_set1_epi32(0x7f));
    __m512i nan = _mm512_mask_or_epi32(hi, empty, hi, _mm512_set1_epi32(0x40));
    *over |= _mm512_mask_cmpeq_epi32_mask(_mm512_cmplt_epi32_mask(a, inf),
                                          _mm512_and_si512(r, _mm512_set1_epi32(0x7fff)),
                                          _mm512_set1_epi32(0x7f80));
    return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, inf), r, nan);
}

/* As WALK, two tiles stacked to a line of 32 results. */
static bool transpose_bf16(uint8_t *const *row, const uint8_t *src, ptrdiff_t stride, size_t rows,
                           size_t cols)
{
    __mmask16 over = 0;
    if (rows < 16 || cols < 16)
        return kernel_avx2.transpose_bf16(row, src, stride, rows, cols);
    for (size_t r = 0; r < rows; r += LINE / 2) {
        size_t end = rows - r < LINE / 2 ? rows : r + LINE / 2;
        for (size_t c = 0; c < cols; c += 16) {
            size_t at = cols - c < 16 ? cols - 16 : c;
            if (end + LINE / 2 <= rows)
                for (size_t i = 0; i < LINE / 2; i++)
                    _mm_prefetch((const char *)(src + (ptrdiff_t)(end + i) * stride + c * 4),
                                 _MM_HINT_T0);
            for (size_t k = r; k < end; k += 16) {
                size_t top = rows - k < 16 ? rows - 16 : k;
                __m512i a[16];
                turn4(a, src + (ptrdiff_t)top * stride + at * 4, stride);
                for (int i = 0; i < 16; i++)
                    _mm256_storeu_si256((__m256i *)(void *)(row[at + (size_t)i] + top * 2),
                                        _mm512_cvtepi32_epi16(bf16_of(a[i], &over)));
            }
        }
    }
    return over != 0;
}

const struct kernel kernel_avx512 = {.name = "avx512",
                                     .transpose1 = kernel_avx2_transpose1,
                                     .transpose2 = kernel_avx2_transpose2,
                                     .transpose4 = transpose4,
                                     .transpose8 = transpose8,
                                     .f32_bf16 = kernel_avx2_f32_bf16,
                                     .bf16_f32 = kernel_avx2_bf16_f32,
                                     .f32_f16 = kernel_avx2_f32_f16,
                                     .f16_f32 = kernel_avx2_f16_f32,
                                     .transpose_bf16 = transpose_bf16};
