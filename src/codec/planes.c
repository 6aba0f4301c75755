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
    void (*split2)(const uint8_t *restrict, size_t, uint8_t *const *, unsigned);
    void (*merge2)(const uint8_t *const *, size_t, uint8_t *restrict, unsigned);
    void (*split4)(const uint8_t *restrict, size_t, uint8_t *const *);
    void (*merge4)(const uint8_t *const *, size_t, uint8_t *restrict);
    void (*split8)(const uint8_t *restrict, size_t, uint8_t *const *);
    void (*merge8)(const uint8_t *const *, size_t, uint8_t *restrict);
    bool (*same)(const uint8_t *, const uint8_t *, size_t);
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

/* Word by word, plane i at dst[i] or src[i]. */
static void split(enum planes_kind k, const uint8_t *src, size_t n_words, uint8_t *const *dst)
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
        memcpy(dst[0], src, n_words);
    }
}

static void merge(enum planes_kind k, const uint8_t *const *src, size_t n_words, uint8_t *dst)
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
        memcpy(dst, src[0], n_words);
    }
}

void planes_split(enum planes_kind k, const void *src, size_t n_words, uint8_t *dst)
{
    uint8_t *plane[PLANES_MAX] = {0};
    for (unsigned i = 0; i < info[k].width; i++)
        plane[i] = dst + i * n_words;
    split(k, src, n_words, plane);
}

void planes_merge(enum planes_kind k, const uint8_t *src, size_t n_words, void *dst)
{
    const uint8_t *plane[PLANES_MAX];
    for (unsigned i = 0; i < info[k].width; i++)
        plane[i] = src + i * n_words;
    merge(k, plane, n_words, dst);
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

/* Whether bytes are not worth coding, by their order-0 entropy. */
static bool noise(const uint8_t *p, size_t n)
{
    uint32_t h[256];
    histogram(p, n, h);
    uint64_t sum = 0;
    for (int s = 0; s < 256; s++)
        if (h[s] > 0)
            sum += (uint64_t)h[s] * log2_fixed(h[s]);
    uint64_t bits = n * log2_fixed((uint32_t)n) - sum; /* 12 fraction bits */
    return bits * 100 >= n * 4096 * 8 * 98;
}

/* How each plane of n_words bytes is coded: by a sample of 128 lines of 64 bytes at scattered
 * places (one in each 128th, so that rows of a matrix do not beat against them), by everything when
 * the plane is small. What is noise in the sample may miss a part that is not; the coder itself
 * decides block by block with exact counts, and finds blocks of equal bytes. room: w planes of
 * 2 * SAMPLE bytes. */
static void choose(enum planes_kind k, const uint8_t *raw, size_t n_words, uint8_t *room,
                   enum zs_how how[PLANES_MAX])
{
    size_t w = info[k].width, n = n_words > 2 * SAMPLE ? SAMPLE : n_words;
    uint8_t *plane[PLANES_MAX] = {0};
    for (size_t i = 0; i < w; i++)
        plane[i] = room + i * n;
    size_t lines = n_words / SAMPLE; /* in a 128th of a plane */
    if (n_words <= 2 * SAMPLE)
        split(k, raw, n, plane);
    for (uint32_t i = 0; n_words > 2 * SAMPLE && i < SAMPLE / LINE; i++) {
        size_t at = (i * lines + (uint64_t)(i * 2654435761u) * lines / (1ull << 32)) * LINE;
        split(k, raw + at * w, LINE, plane);
        for (size_t x = 0; x < w; x++)
            plane[x] += LINE;
    }
    for (size_t i = 0; i < w; i++)
        how[i] = n_words < 2 || noise(room + i * n, n) ? ZS_RAW : ZS_HUFFMAN;
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
    size_t a = zs_decode_scratch(), b = PLANES_MAX * sizeof(struct huf_decoder);
    return PLANES_CHUNK + (a > b ? a : b);
}

/* The planes up to the first that is coded go where they belong while they are split, a block at a
 * time: a stored frame's size is known. Those behind it wait in scratch until its size is known
 * too. */
static enum status encode(enum planes_kind k, const uint8_t *raw, size_t n_words, uint8_t *out,
                          size_t cap, uint8_t *scratch, size_t size[PLANES_MAX], struct err *e)
{
    unsigned w = info[k].width, now = 0;
    enum zs_how how[PLANES_MAX];
    struct zs_put put[PLANES_MAX];
    struct xxh64_runs sum;
    uint8_t *at[PLANES_MAX], *wait = scratch + ZS_BLOCK;
    const uint8_t *from[PLANES_MAX];
    uint64_t xxh[PLANES_MAX];
    if (cap < w * zs_bound(n_words))
        return err_set(e, ST_BUG, "planes", "no room for the frames");
    choose(k, raw, n_words, scratch, how);
    while (now + 1 < w && how[now] == ZS_RAW)
        now++;
    for (unsigned i = 0; i <= now; i++)
        zs_put_begin(&put[i], n_words, out + i * zs_raw_size(n_words));
    xxh64_runs_begin(&sum, w);
    size_t lo = 0;
    do {
        size_t m = n_words - lo < ZS_BLOCK ? n_words - lo : ZS_BLOCK;
        from[0] = raw + lo;
        for (unsigned i = 0; i < w && w > 1; i++) {
            at[i] = i > now            ? wait + (i - now - 1) * n_words + lo
                    : how[i] == ZS_RAW ? zs_put_room(&put[i])
                                       : scratch;
            from[i] = at[i];
        }
        if (w > 1)
            split(k, raw + lo * w, m, at);
        xxh64_runs_add(&sum, from, m);
        for (unsigned i = 0; i <= now; i++)
            zs_put_block(&put[i], how[i], from[i]);
        lo += m;
    } while (lo < n_words);
    xxh64_runs_end(&sum, xxh);
    for (unsigned i = 0; i < w; i++) {
        size[i] = i <= now
                      ? zs_put_end(&put[i], xxh[i])
                      : zs_by_hand(how[i], wait + (i - now - 1) * n_words, n_words, xxh[i], out);
        out += size[i];
    }
    return ST_OK;
}

enum status planes_encode(enum planes_kind k, const void *raw, size_t n, void *dst, size_t cap,
                          void *scratch, size_t size[PLANES_MAX], struct err *e)
{
    unsigned w = info[k].width;
    if (n > PLANES_CHUNK || n % w != 0)
        return err_set(e, ST_BUG, "planes", "a chunk of %zu bytes in words of %u", n, w);
    if (k != PLANES_NONE)
        return encode(k, raw, n / w, dst, cap, scratch, size, e);
    bool same = n > 1 && memcmp(raw, (const uint8_t *)raw + 1, n - 1) == 0;
    /* libzstd's set-up costs more than it gains on a little */
    enum zs_how how = n < 2 ? ZS_RAW : same ? ZS_RLE : n < PLANES_SMALL ? ZS_HUFFMAN : ZS_USUAL;
    return zs_encode(how, raw, n, dst, cap, (uint8_t *)scratch + PLANES_CHUNK, &size[0], e);
}

#define BITE ((size_t)4096) /* words that are merged and compared in the first-level cache */

static bool merges_to(enum planes_kind k, const uint8_t *const *src, size_t n_words,
                      const uint8_t *raw, uint8_t *room)
{
    const struct mover *m = mover();
    size_t w = info[k].width;
    for (size_t lo = 0; lo < n_words; lo += BITE) {
        size_t n = n_words - lo < BITE ? n_words - lo : BITE;
        const uint8_t *at[PLANES_MAX];
        for (size_t i = 0; i < w; i++)
            at[i] = src[i] + lo;
        merge(k, at, n, room);
        if (!m->same(room, raw + lo * w, n * w))
            return false;
    }
    return true;
}

/* Frames of our own: block by block, stored ones where they lie; to raw, or with `same` and room to
 * see whether they give what that holds, which says more than their checksums. False where anything
 * is not as it should be; planes_decode_all says what. */
static bool blocks(enum planes_kind k, const uint8_t *src, const size_t size[PLANES_MAX],
                   uint8_t *raw, const uint8_t *same, uint8_t *room, size_t n_words,
                   uint8_t *scratch)
{
    unsigned w = info[k].width;
    struct zs_take take[PLANES_MAX];
    struct huf_decoder *d = (void *)(scratch + PLANES_CHUNK);
    struct xxh64_runs sum;
    uint64_t xxh[PLANES_MAX];
    for (unsigned i = 0; i < w; i++) {
        if (!zs_take_begin(&take[i], src, size[i], n_words))
            return false;
        d[i].code.top = 0;
        src += size[i];
    }
    xxh64_runs_begin(&sum, w);
    for (size_t lo = 0; lo < n_words; lo += ZS_BLOCK) {
        size_t m = n_words - lo < ZS_BLOCK ? n_words - lo : ZS_BLOCK;
        const uint8_t *at[PLANES_MAX];
        for (unsigned i = 0; i < w; i++) {
            at[i] = zs_take_block(&take[i], &d[i], scratch + i * m);
            if (!at[i])
                return false;
        }
        if (same) {
            if (!merges_to(k, at, m, same + lo * w, room))
                return false;
            continue;
        }
        xxh64_runs_add(&sum, at, m);
        merge(k, at, m, raw + lo * w);
    }
    if (!same)
        xxh64_runs_end(&sum, xxh);
    for (unsigned i = 0; i < w; i++) {
        uint32_t want;
        if (!zs_take_end(&take[i], &want) || (!same && !zs_same_xxh(want, xxh[i])))
            return false;
    }
    return true;
}

enum status planes_decode_all(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                              void *raw, size_t n, void *scratch, struct err *e)
{
    unsigned w = info[k].width;
    uint8_t *planes = scratch, *ws = planes + PLANES_CHUNK, *to = w > 1 ? planes : raw;
    const uint8_t *p = src;
    if (n > PLANES_CHUNK || n % w != 0)
        return err_set(e, ST_BUG, "planes", "a chunk of %zu bytes in words of %u", n, w);
    for (unsigned i = 0; i < w; i++) {
        TRY(zs_decode(p, size[i], to + i * (n / w), n / w, ws, e));
        p += size[i];
    }
    if (w > 1)
        planes_merge(k, planes, n / w, raw);
    return ST_OK;
}

enum status planes_decode(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                          void *raw, size_t n, void *scratch, struct err *e)
{
    unsigned w = info[k].width;
    if (k != PLANES_NONE && n <= PLANES_CHUNK && n % w == 0 && n > 0 &&
        blocks(k, src, size, raw, NULL, NULL, n / w, scratch))
        return ST_OK;
    return planes_decode_all(k, src, size, raw, n, scratch, e);
}

size_t planes_holds_scratch(void)
{
    return PLANES_CHUNK + planes_decode_scratch();
}

bool planes_hold(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                 const void *raw, size_t n, void *scratch)
{
    unsigned w = info[k].width;
    uint8_t *room = scratch, *work = room + PLANES_CHUNK;
    if (n > PLANES_CHUNK || n % w != 0)
        return false;
    if (k != PLANES_NONE && n > 0 && blocks(k, src, size, NULL, raw, room, n / w, work))
        return true;
    return planes_decode_all(k, src, size, room, n, work, NULL) == ST_OK &&
           mover()->same(room, raw, n);
}
