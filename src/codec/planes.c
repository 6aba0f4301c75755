/* Planes: the sample that chooses how a plane is coded, and the two directions. Words are loaded in
 * host order: every host we build for is little-endian.
 */
#include "codec/planes.h"
#include "base/cpu.h"
#include "codec/histogram.h"
#include "codec/xxh.h"
#include "codec/zstd.h"
#include <string.h>

static const struct planes_info info[PLANES_N] = {
    [PLANES_NONE] = {"none", 1, false},      [PLANES_BYTE] = {"byte", 1, false},
    [PLANES_SPLIT2] = {"split-2", 2, false}, [PLANES_ROT2] = {"rotate-2", 2, true},
    [PLANES_ROT4] = {"rotate-4", 4, true},   [PLANES_ROT8] = {"rotate-8", 8, true},
};
const struct planes_info *planes_info(enum planes_kind k)
{
    return &info[k];
}

struct mover {
    void (*split2)(const uint8_t *restrict, size_t, uint8_t *restrict, unsigned);
    void (*merge2)(const uint8_t *restrict, size_t, uint8_t *restrict, unsigned);
    void (*split4)(const uint8_t *restrict, size_t, uint8_t *restrict);
    void (*merge4)(const uint8_t *restrict, size_t, uint8_t *restrict);
    void (*split8)(const uint8_t *restrict, size_t, uint8_t *restrict);
    void (*merge8)(const uint8_t *restrict, size_t, uint8_t *restrict);
};
#define NAME(f) f##_plain
#define TARGET
#include "codec/planes_simd.h"
#if defined(__x86_64__)
#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2")))
#include "codec/planes_simd.h"
#define NAME(f) f##_avx512
#if defined(__clang__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#include "codec/planes_simd.h"
#endif

static const struct mover *mover(void)
{
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if (have & CPU_AVX512)
        return &mover_avx512;
    if (have & CPU_AVX2)
        return &mover_avx2;
#endif
    return &mover_plain;
}

void planes_split(enum planes_kind k, const void *src, size_t n_words, uint8_t *dst)
{
    const struct mover *m = mover();
    switch (info[k].width) {
    case 2:
        m->split2(src, n_words, dst, info[k].rotate);
        break;
    case 4:
        m->split4(src, n_words, dst);
        break;
    case 8:
        m->split8(src, n_words, dst);
        break;
    default:
        memcpy(dst, src, n_words);
    }
}

void planes_merge(enum planes_kind k, const uint8_t *src, size_t n_words, void *dst)
{
    const struct mover *m = mover();
    switch (info[k].width) {
    case 2:
        m->merge2(src, n_words, dst, info[k].rotate);
        break;
    case 4:
        m->merge4(src, n_words, dst);
        break;
    case 8:
        m->merge8(src, n_words, dst);
        break;
    default:
        memcpy(dst, src, n_words);
    }
}

/* log2(v) with 12 fractional bits, rounded down; v >= 1. Integer only, so the same everywhere. */
static uint32_t log2_fixed(uint32_t v)
{
    unsigned whole = 31u - (unsigned)__builtin_clz(v);
    uint64_t m = (uint64_t)v << (31 - whole);
    uint32_t r = whole;
    for (int i = 0; i < 12; i++) {
        m = m * m >> 31;
        unsigned bit = (unsigned)(m >> 32);
        m >>= bit;
        r = r << 1 | bit;
    }
    return r;
}

#define LINE 64u
#define SAMPLE (128 * LINE)

/* Whether a plane is worth coding, by its order-0 entropy: of 128 lines of 64 bytes at scattered
 * places (one in each 128th, so that rows of a matrix do not beat against them), of everything when
 * the plane is small. What is noise in the sample may miss a part that is not; the coder itself
 * decides block by block with exact counts. */
static bool noise(const uint8_t *p, size_t n)
{
    uint8_t sample[SAMPLE];
    uint32_t h[256];
    if (n > 2 * SAMPLE) {
        size_t lines = n / SAMPLE; /* in a 128th of the plane */
        for (uint32_t i = 0; i < SAMPLE / LINE; i++)
            memcpy(sample + i * LINE,
                   p + (i * lines + (uint64_t)(i * 2654435761u) * lines / (1ull << 32)) * LINE,
                   LINE);
        p = sample;
        n = SAMPLE;
    }
    histogram(p, n, h);
    uint64_t sum = 0;
    for (int s = 0; s < 256; s++)
        if (h[s] > 0)
            sum += (uint64_t)h[s] * log2_fixed(h[s]);
    uint64_t bits = n * log2_fixed((uint32_t)n) - sum; /* 12 fraction bits */
    return bits * 100 >= n * 4096 * 8 * 98;
}

static enum zs_how how_to(const uint8_t *p, size_t n, enum zs_how usual)
{
    if (n < 2)
        return ZS_RAW;
    if (memcmp(p, p + 1, n - 1) == 0)
        return ZS_RLE;
    return usual == ZS_HUFFMAN && noise(p, n) ? ZS_RAW : usual;
}

size_t planes_bound(size_t n)
{
    return zs_bound(n) + PLANES_MAX * zs_bound(0) + n / 8; /* every width at any n */
}
size_t planes_encode_scratch(void)
{
    return PLANES_CHUNK + zs_encode_scratch();
}
size_t planes_decode_scratch(void)
{
    return PLANES_CHUNK + zs_decode_scratch();
}

enum status planes_encode(enum planes_kind k, const void *raw, size_t n, void *dst, size_t cap,
                          void *scratch, size_t size[PLANES_MAX], struct err *e)
{
    unsigned w = info[k].width;
    uint8_t *planes = scratch, *ws = planes + PLANES_CHUNK, *out = dst;
    if (n > PLANES_CHUNK || n % w != 0)
        return err_set(e, ST_BUG, "planes", "a chunk of %zu bytes in words of %u", n, w);
    const uint8_t *p = raw;
    if (w > 1) {
        planes_split(k, raw, n / w, planes);
        p = planes;
    }
    uint64_t xxh[PLANES_MAX] = {0};
    if (k != PLANES_NONE)
        xxh64_runs(p, w, n / w, xxh);
    for (unsigned i = 0; i < w; i++) {
        enum zs_how how = how_to(p, n / w, k == PLANES_NONE ? ZS_USUAL : ZS_HUFFMAN);
        if (cap < zs_bound(n / w))
            return err_set(e, ST_BUG, "planes", "no room for a frame");
        if (k == PLANES_NONE)
            TRY(zs_encode(how, p, n / w, out, cap, ws, &size[i], e));
        else
            size[i] = zs_by_hand(how, p, n / w, xxh[i], out);
        p += n / w;
        out += size[i];
        cap -= size[i];
    }
    return ST_OK;
}

enum status planes_decode(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                          void *raw, size_t n, void *scratch, struct err *e)
{
    unsigned w = info[k].width;
    uint8_t *planes = scratch, *ws = planes + PLANES_CHUNK;
    const uint8_t *p = src;
    if (n > PLANES_CHUNK || n % w != 0)
        return err_set(e, ST_BUG, "planes", "a chunk of %zu bytes in words of %u", n, w);
    uint8_t *to = w > 1 ? planes : raw;
    bool check[PLANES_MAX], any = false;
    uint32_t want[PLANES_MAX];
    uint64_t xxh[PLANES_MAX] = {0};
    for (unsigned i = 0; i < w; i++) {
        check[i] = zs_read_by_hand(p, size[i], to + i * (n / w), n / w, ws, &want[i]);
        any |= check[i];
        if (!check[i])
            TRY(zs_decode(p, size[i], to + i * (n / w), n / w, ws, e));
        p += size[i];
    }
    if (any)
        xxh64_runs(to, w, n / w, xxh);
    p = src;
    for (unsigned i = 0; i < w; i++) {
        if (check[i] && !zs_same_xxh(want[i], xxh[i])) /* says what is wrong */
            TRY(zs_decode(p, size[i], to + i * (n / w), n / w, ws, e));
        p += size[i];
    }
    if (w > 1)
        planes_merge(k, planes, n / w, raw);
    return ST_OK;
}
