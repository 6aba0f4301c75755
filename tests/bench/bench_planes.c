/* The planes codec alone, one thread: GB/s of raw bytes and the ratio, for a file of raw
 * little-endian numbers or for made-up weights (normal values with row scales).
 *
 *   bench_planes [KIND FILE [once|parts]]   KIND: rotate-2 rotate-4 rotate-8 split-2 byte none
 *
 * Times are the thread's processor time, so that other load disturbs less. "once": compresses the
 * file once and says its stored bytes and seconds, for tests/bench/run.py. "parts": GB/s of bytes
 * of the top plane through the histogram, the Huffman encoder and the decoder, for each instruction
 * set, beside libzstd's encoder with Huffman literals and no match search; they take turns.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "base/cpu.h"
#include "codec/histogram.h"
#include "codec/planes.h"
#include "codec/sha256.h"
#include "codec/xxh.h"
#include "codec/zstd.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

#define REPEATS 7
struct times {
    double v[REPEATS];
};
static double median(struct times *t)
{
    qsort(t->v, REPEATS, sizeof t->v[0], by_value);
    return t->v[REPEATS / 2];
}

static void once(enum planes_kind k, const uint8_t *raw, size_t n)
{
    size_t chunks = (n + PLANES_CHUNK - 1) / PLANES_CHUNK, cap = planes_bound(PLANES_CHUNK);
    size_t size[PLANES_MAX], stored = 0;
    uint8_t *z = malloc(n + cap);
    void *se = aligned_alloc(64, planes_encode_scratch());
    struct err e;
    if (!z || !se)
        exit(8);
    memset(z, 1, n + cap);
    double t = now();
    for (size_t i = 0; i < chunks; i++) {
        size_t m = n - i * PLANES_CHUNK < PLANES_CHUNK ? n - i * PLANES_CHUNK : PLANES_CHUNK;
        if (planes_encode(k, raw + i * PLANES_CHUNK, m, z + stored, cap, se, size, &e))
            exit(70);
        for (unsigned p = 0; p < planes_info(k)->width; p++)
            stored += size[p];
    }
    printf("stored %zu\nseconds %.6f\n", stored, now() - t);
    free(z);
    free(se);
}

static void bench(enum planes_kind k, const uint8_t *raw, size_t n)
{
    unsigned w = planes_info(k)->width;
    size_t chunks = (n + PLANES_CHUNK - 1) / PLANES_CHUNK, cap = planes_bound(PLANES_CHUNK);
    uint8_t *z = malloc(chunks * cap), *back = malloc(PLANES_CHUNK);
    size_t(*size)[PLANES_MAX] = calloc(chunks, sizeof *size);
    void *se = aligned_alloc(64, planes_encode_scratch());
    void *sd = aligned_alloc(64, (planes_decode_scratch() + 63) / 64 * 64);
    struct times split, enc, dec, copy;
    struct err e;
    size_t stored = 0;
    if (!z || !back || !size || !se || !sd)
        exit(8);
    memset(z, 1, chunks * cap);
    for (int r = 0; r < REPEATS; r++) {
        double t = now();
        for (size_t i = 0; i < chunks; i++)
            memcpy(back, raw + i * PLANES_CHUNK,
                   n - i * PLANES_CHUNK < PLANES_CHUNK ? n - i * PLANES_CHUNK : PLANES_CHUNK);
        copy.v[r] = now() - t;
        t = now();
        for (size_t i = 0; i < chunks; i++) {
            size_t m = n - i * PLANES_CHUNK < PLANES_CHUNK ? n - i * PLANES_CHUNK : PLANES_CHUNK;
            planes_split(k, raw + i * PLANES_CHUNK, m / w, back);
        }
        split.v[r] = now() - t;
        t = now();
        stored = 0;
        for (size_t i = 0; i < chunks; i++) {
            size_t m = n - i * PLANES_CHUNK < PLANES_CHUNK ? n - i * PLANES_CHUNK : PLANES_CHUNK;
            if (planes_encode(k, raw + i * PLANES_CHUNK, m, z + i * cap, cap, se, size[i], &e))
                exit(70);
            for (unsigned p = 0; p < w; p++)
                stored += size[i][p];
        }
        enc.v[r] = now() - t;
        t = now();
        for (size_t i = 0; i < chunks; i++) {
            size_t m = n - i * PLANES_CHUNK < PLANES_CHUNK ? n - i * PLANES_CHUNK : PLANES_CHUNK;
            if (planes_decode(k, z + i * cap, size[i], back, m, sd, &e) ||
                memcmp(back, raw + i * PLANES_CHUNK, m) != 0)
                exit(70);
        }
        dec.v[r] = now() - t; /* the comparison included */
    }
    double g = 1e-9 * (double)n;
    printf("%-9s ratio %.4f  compress %.2f GB/s  decompress+compare %.2f GB/s  split %.1f  memcpy "
           "%.1f\n",
           planes_info(k)->name, (double)n / (double)stored, g / median(&enc), g / median(&dec),
           g / median(&split), g / median(&copy));
    free(z);
    free(back);
    free(size);
    free(se);
    free(sd);
}

static ZSTD_CCtx *guest(void)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    if (!c || ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, -131072)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 20)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_literalCompressionMode, ZSTD_ps_enable)))
        exit(70);
    return c;
}

static void parts(enum planes_kind k, const uint8_t *raw, size_t n)
{
    static const struct {
        const char *name;
        unsigned keep;
    } level[] = {{"plain", 0}, {"AVX2", CPU_SSSE3 | CPU_AVX2}, {"all", ~0u}};
    enum { N_LEVELS = 3, GUEST = N_LEVELS };
    size_t w = planes_info(k)->width, each = PLANES_CHUNK / w, chunks = n / PLANES_CHUNK;
    size_t cap = zs_bound(each), stored[N_LEVELS + 1] = {0};
    uint8_t *all = malloc(PLANES_CHUNK), *p = malloc(chunks * each + 1), *z = malloc(cap + 4096);
    void *sd = aligned_alloc(64, (zs_decode_scratch() + 63) / 64 * 64);
    ZSTD_CCtx *c = guest();
    struct times hist[N_LEVELS], enc[N_LEVELS + 1], dec;
    uint32_t count[256];
    struct err e;
    if (!all || !p || !z || !sd || chunks == 0)
        exit(8);
    for (size_t i = 0; i < chunks; i++) {
        planes_split(k, raw + i * PLANES_CHUNK, each, all);
        memcpy(p + i * each, all + (w - 1) * each, each);
    }
    for (int r = 0; r < REPEATS; r++) {
        double t;
        for (int l = 0; l <= N_LEVELS; l++) {
            cpu_limit(l == GUEST ? ~0u : level[l].keep);
            t = now();
            for (size_t i = 0; i < chunks && l != GUEST; i++)
                histogram(p + i * each, each, count);
            if (l != GUEST)
                hist[l].v[r] = now() - t;
            stored[l] = 0;
            t = now();
            for (size_t i = 0; i < chunks; i++) {
                size_t m = 0;
                if (l == GUEST)
                    m = ZSTD_compress2(c, z, cap + 4096, p + i * each, each);
                else if (zs_encode(ZS_HUFFMAN, p + i * each, each, z, cap, NULL, &m, &e))
                    exit(70);
                stored[l] += m;
            }
            enc[l].v[r] = now() - t;
        }
        dec.v[r] = 0;
        for (size_t i = 0; i < chunks; i++) {
            size_t m;
            if (zs_encode(ZS_HUFFMAN, p + i * each, each, z, cap, NULL, &m, &e))
                exit(70);
            t = now();
            if (zs_decode(z, m, all, each, sd, &e))
                exit(70);
            dec.v[r] += now() - t;
        }
    }
    double g = 1e-9 * (double)(chunks * each);
    for (int l = 0; l < N_LEVELS; l++)
        printf("%-9s %-6s histogram %5.2f GB/s  frames %5.2f GB/s  stored %zu\n",
               planes_info(k)->name, level[l].name, g / median(&hist[l]), g / median(&enc[l]),
               stored[l]);
    printf("%-9s libzstd                       frames %5.2f GB/s  stored %zu, decodes ours at %.2f "
           "GB/s\n",
           planes_info(k)->name, g / median(&enc[GUEST]), stored[GUEST], g / median(&dec));
    (void)ZSTD_freeCCtx(c);
    free(all);
    free(p);
    free(z);
    free(sd);
}

static uint64_t seed = 42;
static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static void made_up(void)
{
    const size_t n = 16u << 20;
    float *f = malloc(n * 4);
    uint16_t *b = malloc(n * 2);
    if (!f || !b)
        exit(8);
    double scale = 1;
    for (size_t i = 0; i < n; i++) {
        if (i % 4096 == 0)
            scale = 0.02 * exp(0.5 * (uniform() - 0.5));
        f[i] = (float)(scale * sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
        uint32_t u;
        memcpy(&u, &f[i], 4);
        b[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    bench(PLANES_ROT2, (const uint8_t *)b, n * 2);
    bench(PLANES_ROT4, (const uint8_t *)f, n * 4);
    free(f);
    free(b);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        made_up();
        return 0;
    }
    FILE *in = fopen(argv[2], "rb");
    if (!in || fseek(in, 0, SEEK_END) != 0)
        return 3;
    size_t n = (size_t)ftell(in) / 8 * 8;
    uint8_t *p = malloc(n + 1);
    rewind(in);
    if (!p || fread(p, 1, n, in) != n)
        return 3;
    (void)fclose(in);
    for (int k = 0; k < PLANES_N; k++)
        if (strcmp(argv[1], planes_info((enum planes_kind)k)->name) == 0)
            (argc <= 3                       ? bench
             : strcmp(argv[3], "parts") == 0 ? parts
                                             : once)((enum planes_kind)k, p, n);
    free(p);
    return 0;
}
