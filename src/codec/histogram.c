/* The plain count, and the choice of a variant. */
#include "codec/histogram.h"
#include "base/cpu.h"
#include "codec/huffman_impl.h"

void histogram_plain(const uint8_t *p, size_t n, uint32_t count[256])
{
    uint32_t h[4][256] = {{0}}; /* equal neighbours do not wait for each other */
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        h[0][v & 255]++;
        h[1][v >> 8 & 255]++;
        h[2][v >> 16 & 255]++;
        h[3][v >> 24 & 255]++;
        h[0][v >> 32 & 255]++;
        h[1][v >> 40 & 255]++;
        h[2][v >> 48 & 255]++;
        h[3][v >> 56]++;
    }
    for (; i < n; i++)
        h[0][p[i]]++;
    for (int s = 0; s < 256; s++)
        count[s] = h[0][s] + h[1][s] + h[2][s] + h[3][s];
}

void histogram(const uint8_t *p, size_t n, uint32_t count[256])
{
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if ((have & CPU_AVX512) && (have & CPU_VBMI)) {
        histogram_avx512(p, n, count);
        return;
    }
    if (have & CPU_AVX2) {
        histogram_avx2(p, n, count);
        return;
    }
#endif
    histogram_plain(p, n, count);
}
