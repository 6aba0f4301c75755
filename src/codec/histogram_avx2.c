/* Counting by comparison: a tile is compared with each value seen so far, eight at a time; where
 * that leaves bytes over, or many values were seen, the tile is counted the plain way.
 */
#include "codec/huffman_impl.h"
#include <immintrin.h>

#define TILE 4096u /* 32 * 128: a lane's count fits a byte */
#define MANY 48u   /* values from which comparing no longer pays */

static void eight(const uint8_t *p, const uint8_t value[8], uint32_t got[8])
{
    __m256i v[8], sum[8];
    for (int k = 0; k < 8; k++) {
        v[k] = _mm256_set1_epi8((char)value[k]);
        sum[k] = _mm256_setzero_si256();
    }
    for (size_t i = 0; i < TILE; i += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
        for (int k = 0; k < 8; k++)
            sum[k] = _mm256_sub_epi8(sum[k], _mm256_cmpeq_epi8(x, v[k]));
    }
    for (int k = 0; k < 8; k++) {
        __m256i s = _mm256_sad_epu8(sum[k], _mm256_setzero_si256());
        __m128i h = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        got[k] = (uint32_t)(_mm_cvtsi128_si64(h) + _mm_extract_epi64(h, 1));
    }
}

/* Adds a tile; false, and nothing added, when it holds other values than these. */
static bool tile(const uint8_t *p, const uint8_t *value, unsigned n, uint32_t count[256])
{
    uint32_t got[MANY], sum = 0;
    for (unsigned i = 0; i < n; i += 8)
        eight(p, value + i, got + i);
    for (unsigned i = 0; i < n; i++)
        sum += got[i];
    for (unsigned i = 0; i < n && sum == TILE; i++)
        count[value[i]] += got[i];
    return sum == TILE;
}

static void plain(const uint8_t *p, size_t n, uint32_t count[256])
{
    uint32_t more[256];
    histogram_plain(p, n, more);
    for (int s = 0; s < 256; s++)
        count[s] += more[s];
}

void histogram_avx2(const uint8_t *p, size_t n, uint32_t count[256])
{
    uint8_t value[256];
    unsigned n_values = 0;
    size_t lo = n % TILE;
    histogram_plain(p, lo, count);
    for (; lo < n; lo += TILE) {
        if (n_values > 0 && n_values <= MANY && tile(p + lo, value, n_values, count))
            continue;
        plain(p + lo, TILE, count);
        n_values = 0;
        for (unsigned s = 0; s < 256; s++)
            if (count[s] > 0)
                value[n_values++] = (uint8_t)s;
        /* whole eights, with values that do not occur, so that none is counted twice */
        for (unsigned s = 0; s < 256 && n_values % 8 != 0; s++)
            if (count[s] == 0)
                value[n_values++] = (uint8_t)s;
    }
}
