/* Huffman-coded blocks: libzstd decodes every one, codes are complete and the best of their
 * longest length, the variants of every loop give the same bytes, and what
 * lies behind the output is left alone.
 */
#include "base/cpu.h"
#include "codec/histogram.h"
#include "codec/huffman.h"
#include "codec/sha256.h"
#include "codec/zstd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
/* after the above */
#include <cmocka.h>

static uint64_t seed = 11;
static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static const unsigned levels[] = {0, CPU_SSSE3 | CPU_AVX2, CPU_SSSE3 | CPU_AVX2 | CPU_AVX512, ~0u};
#define N_LEVELS (sizeof levels / sizeof *levels)

/* Kinds of data: what the coder can meet. */
enum {
    ONE,
    TWO,
    UNIFORM,
    EXPONENTS,
    FIBONACCI,
    WIDE,
    FAR,
    FOUR_BITS,
    SHIFTING,
    RARE,
    ALL,
    N_KINDS
};
static void fill(uint8_t *p, size_t n, int kind)
{
    unsigned base = rnd() & 255;
    for (size_t i = 0; i < n; i++) {
        uint32_t r = rnd();
        switch (kind) {
        case ONE:
            p[i] = (uint8_t)base;
            break;
        case TWO:
            p[i] = (uint8_t)(r % 7 ? 0 : 255);
            break;
        case UNIFORM:
            p[i] = (uint8_t)r;
            break;
        case EXPONENTS:
            p[i] = (uint8_t)(0x7c - __builtin_ctz(r | 1 << 20));
            break;
        case FIBONACCI: /* halving counts over 30 values: lengths must be limited */
            p[i] = (uint8_t)(base + 3 * (unsigned)__builtin_ctz(r | 1 << 30));
            break;
        case WIDE: /* exponents, and values 64 and 128 away from them */
            p[i] = (uint8_t)(0x30u + (unsigned)__builtin_ctz(r | 1 << 20) + (r >> 24 & 0xc0));
            break;
        case FAR: /* zeros among exponents: distinct in the low six bits */
            p[i] = (uint8_t)(r >> 28 ? 0x70 + __builtin_ctz(r | 1 << 12) : 0);
            break;
        case FOUR_BITS: /* flat enough for groups of four symbols */
            p[i] = (uint8_t)(r & 0x7f & (r >> 8 | 0x3f));
            break;
        case SHIFTING: /* blocks that resemble each other, then not */
            p[i] = (uint8_t)((i >> 18) * 40 + (unsigned)__builtin_ctz(r | 1 << 9));
            break;
        case RARE: /* one value, others once in a while */
            p[i] = (uint8_t)(r % 5000 ? 100 : r >> 24);
            break;
        default: /* every value, skewed */
            p[i] = (uint8_t)((r & 0xff) * (r >> 8 & 0xff) >> 8 & (r >> 16));
        }
    }
}

static void counts(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 7, 4095, 4096, 8191, 8192, 8193, 40000, 131072};
    uint8_t *p = malloc(131072 + 1);
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            uint32_t want[256] = {0}, got[256];
            fill(p + 1, sizes[i], kind);
            for (size_t k = 0; k < sizes[i]; k++)
                want[p[1 + k]]++;
            for (size_t l = 0; l < N_LEVELS; l++) {
                cpu_limit(levels[l]);
                memset(got, 0xee, sizeof got);
                histogram(p + 1, sizes[i], got);
                assert_memory_equal(got, want, sizeof got);
            }
        }
    cpu_limit(~0u);
    free(p);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Bits of the best code of at most HUF_BITS bits, by packages: of `HUF_BITS` rounds each pairs what
 * the round before left and adds the leaves; the cheapest 2n - 2 of the last are the answer. */
static uint64_t least(const uint32_t count[256])
{
    uint64_t leaf[256], v[512], sum = 0;
    size_t n = 0, m = 0;
    for (int s = 0; s < 256; s++)
        if (count[s] > 0)
            leaf[n++] = count[s];
    for (unsigned round = 0; round < HUF_BITS; round++) {
        m /= 2;
        for (size_t i = 0; i < m; i++)
            v[i] = v[2 * i] + v[2 * i + 1];
        memcpy(v + m, leaf, n * sizeof *leaf);
        m += n;
        qsort(v, m, sizeof *v, ascending);
    }
    for (size_t i = 0; i < 2 * n - 2; i++)
        sum += v[i];
    return sum;
}

static void codes(void **state)
{
    (void)state;
    uint32_t count[256];
    struct huf_code c;
    int n_limited = 0;
    for (int round = 0; round < 2000; round++) {
        unsigned n = 2 + rnd() % 255, shape = rnd() % 4, left = HUF_BLOCK;
        memset(count, 0, sizeof count);
        for (unsigned i = 0; i < n; i++) {
            uint32_t most = left - (n - i), v = 1;
            if (shape == 1)
                v = 1 + rnd() % 500;
            if (shape == 2)
                v = 1u << (i < 17 ? i : 0);
            if (shape == 3)
                v = 1 + (rnd() >> (rnd() % 32)) % 60000;
            v = v > most ? (most ? most : 1) : v;
            unsigned s = rnd() & 255;
            while (count[s] > 0)
                s = (s + 1) & 255;
            count[s] = v;
            left -= v;
        }
        huf_build(count, &c);
        unsigned room = 0;
        uint64_t bits = 0;
        for (int s = 0; s < 256; s++) {
            assert_int_equal(count[s] > 0, c.len[s] > 0);
            assert_true(c.len[s] <= HUF_BITS && c.len[s] <= c.top);
            room += c.len[s] > 0 ? 2048u >> c.len[s] : 0;
            bits += (uint64_t)count[s] * c.len[s];
        }
        assert_int_equal(room, 2048);
        assert_int_equal(bits, least(count));
        n_limited += c.top == HUF_BITS;
    }
    assert_true(n_limited > 100 && n_limited < 1900);
}

static void *scratch; /* of zs_decode */

/* A frame by hand, decoded by libzstd itself, the same at every level. */
static void one_frame(const uint8_t *p, size_t n, uint8_t *z, uint8_t *z2, uint8_t *back,
                      size_t *stored)
{
    struct err e;
    size_t size = 0;
    for (size_t l = 0; l < N_LEVELS; l++) {
        uint8_t *to = l == 0 ? z : z2;
        memset(to, 0xa5, zs_bound(n) + 16);
        cpu_limit(levels[l]);
        assert_int_equal(zs_encode(ZS_HUFFMAN, p, n, to, zs_bound(n), NULL, stored, &e), ST_OK);
        assert_true(*stored <= zs_bound(n));
        for (size_t i = 0; i < 16; i++)
            assert_int_equal(to[zs_bound(n) + i], 0xa5);
        if (l > 0) {
            assert_int_equal(size, *stored);
            assert_memory_equal(z, z2, size);
        }
        size = *stored;
    }
    cpu_limit(~0u);
    for (size_t l = 0; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        memset(back, 0xee, n);
        if (zs_decode(z, size, back, n, scratch, &e) != ST_OK)
            fail_msg("%zu bytes: %s", n, e.reason);
        assert_memory_equal(p, back, n);
    }
    cpu_limit(~0u);
    memset(back, 0xee, n);
    size_t r = ZSTD_decompress(back, n, z, size);
    if (ZSTD_isError(r))
        fail_msg("%zu bytes: %s", n, ZSTD_getErrorName(r));
    assert_int_equal(r, n);
    assert_memory_equal(p, back, n);
}

static void frames(void **state)
{
    (void)state;
    static const size_t bounds[] = {64,     128,    255,    256,     257,    1023,
                                    1024,   1025,   16383,  16384,   16385,  65535,
                                    65536,  131071, 131072, 131073,  131074, 131072 + 300,
                                    262144, 262145, 524288, 1048575, 1048576};
    const size_t most = ZS_FRAME_MAX;
    uint8_t *p = malloc(most), *back = malloc(most);
    uint8_t *z = malloc(zs_bound(most) + 16), *z2 = malloc(zs_bound(most) + 16);
    for (int kind = 0; kind < N_KINDS; kind++) {
        size_t stored;
        for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
            fill(p, bounds[i], kind);
            one_frame(p, bounds[i], z, z2, back, &stored);
            if (bounds[i] < 65536)
                continue;
            if (kind == ONE)
                assert_true(stored < 64);
            if (kind == UNIFORM)
                assert_true(stored > bounds[i]);
            if (kind == EXPONENTS || kind == FIBONACCI || kind == FAR) /* two bits, three bits */
                assert_true(stored < bounds[i] / 8 * 4);
        }
        for (size_t n = 0; n < 600; n++) { /* every tail of every loop */
            fill(p, n, kind);
            one_frame(p, n, z, z2, back, &stored);
        }
        for (int round = 0; round < 40; round++) {
            size_t n = rnd() % 5000;
            fill(p, n, kind);
            one_frame(p, n, z, z2, back, &stored);
        }
    }
    free(p);
    free(back);
    free(z);
    free(z2);
}

/* Random codes: distributions of every steepness over any set of symbols. */
static void distributions(void **state)
{
    (void)state;
    const size_t most = 40000;
    uint8_t *p = malloc(most), *back = malloc(most);
    uint8_t *z = malloc(zs_bound(most) + 16), *z2 = malloc(zs_bound(most) + 16);
    for (int round = 0; round < 400; round++) {
        uint8_t symbol[256];
        size_t n = 600 + rnd() % (most - 600), stored;
        unsigned n_symbols = 2 + rnd() % 255, bits = 1 + rnd() % 20;
        for (unsigned i = 0; i < 256; i++)
            symbol[i] = (uint8_t)i;
        for (unsigned i = 255; i > 0; i--) {
            unsigned k = rnd() % (i + 1);
            uint8_t t = symbol[i];
            symbol[i] = symbol[k];
            symbol[k] = t;
        }
        for (size_t i = 0; i < n; i++) {
            unsigned r = rnd() % n_symbols;
            for (unsigned k = 1; k < bits; k += 3)
                r = rnd() % (r + 1);
            p[i] = symbol[r];
        }
        one_frame(p, n, z, z2, back, &stored);
    }
    free(p);
    free(back);
    free(z);
    free(z2);
}

/* A block's code is used again where that is shorter, and not where it is not. */
static void again(void **state)
{
    (void)state;
    uint8_t p[3000], z[3000];
    struct huf_code c = {.top = 0};
    fill(p, sizeof p, EXPONENTS);
    size_t first = huf_encode(&c, p, sizeof p, z);
    assert_int_equal(z[0] & 3, 2);
    size_t second = huf_encode(&c, p, sizeof p, z);
    assert_int_equal(z[0] & 3, 3);
    assert_true(second < first);
    for (size_t i = 0; i < sizeof p; i++)
        p[i] ^= 0x80;
    assert_true(huf_encode(&c, p, sizeof p, z) > 0);
    assert_int_equal(z[0] & 3, 2);
    struct huf_code before = c;
    fill(p, sizeof p, UNIFORM);
    assert_int_equal(huf_encode(&c, p, sizeof p, z), 0);
    assert_memory_equal(&c, &before, sizeof c);
}

/* Damaged blocks: what our reader takes, libzstd takes too, and reads the same. Every block that we
 * write is ours to read. */
static void damaged(void **state)
{
    (void)state;
    const size_t most = 20000;
    uint8_t *p = malloc(most), *back = malloc(most), *theirs = malloc(most);
    struct huf_decoder *d = malloc(sizeof *d);
    unsigned n_taken = 0, n_refused = 0;
    for (int round = 0; round < 300; round++) {
        size_t n = round % 3 == 0 ? HUF_FOUR + rnd() % 700 : HUF_FOUR + rnd() % (most - HUF_FOUR);
        uint8_t *frame = malloc(n + 12), *z = frame + 12;
        struct huf_code c = {.top = 0};
        fill(p, n, round % N_KINDS);
        size_t size = huf_encode(&c, p, n, z);
        for (int flip = 0; flip < 100 && size > 0; flip++) {
            /* mostly in what stands before the streams */
            size_t at = (rnd() & 3 ? rnd() % 60 : rnd()) % size;
            uint8_t was = z[at];
            if (flip > 0)
                z[at] ^= (uint8_t)(1u << (rnd() & 7));
            d->code.top = 0;
            cpu_limit(levels[flip % (int)N_LEVELS]);
            bool ours = huf_decode(d, z, size, back, n);
            cpu_limit(~0u);
            /* one block in a frame without checksum: four bytes of content size */
            const uint32_t head = (uint32_t)size << 3 | 2 << 1 | 1;
            const uint8_t before[12] = {0x28,
                                        0xb5,
                                        0x2f,
                                        0xfd,
                                        0xa0,
                                        (uint8_t)n,
                                        (uint8_t)(n >> 8),
                                        (uint8_t)(n >> 16),
                                        0,
                                        (uint8_t)head,
                                        (uint8_t)(head >> 8),
                                        (uint8_t)(head >> 16)};
            memcpy(frame, before, 12);
            size_t r = ZSTD_decompress(theirs, n, frame, size + 12);
            if (ours) {
                assert_int_equal(r, n);
                assert_memory_equal(back, theirs, n);
            }
            if (flip == 0)
                assert_true(ours && memcmp(p, back, n) == 0);
            else if (ours)
                n_taken++;
            else
                n_refused++;
            z[at] = was;
        }
        free(frame);
    }
    assert_true(n_taken > 500 && n_refused > 500);
    free(p);
    free(back);
    free(theirs);
    free(d);
}

/* Descriptions read back; any bytes as one are taken only when they are what we would write. */
static void recalled(void **state)
{
    (void)state;
    struct huf_code c, back;
    uint8_t text[HUF_DESCRIBED], again[HUF_DESCRIBED];
    for (int round = 0; round < 20000; round++) {
        uint32_t count[256] = {0};
        unsigned n = 2 + rnd() % 254;
        for (unsigned i = 0; i < n; i++)
            count[rnd() % n] = 1 + (rnd() >> (12 + rnd() % 20)) % 500;
        count[0]++;
        count[1]++;
        huf_build(count, &c);
        size_t size = huf_describe(&c, text);
        if (size == 0)
            continue;
        for (size_t cut = 0; cut < size; cut += 1 + size / 4)
            assert_int_equal(huf_recall(text, cut, &back), 0);
        assert_int_equal(huf_recall(text, size, &back), size);
        assert_memory_equal(&c, &back, sizeof c);
        uint8_t *copy = malloc(size); /* for the sanitizer */
        memcpy(copy, text, size);
        copy[rnd() % size] ^= (uint8_t)(1u << (rnd() & 7));
        size_t got = huf_recall(copy, size, &back);
        if (got > 0) {
            assert_int_equal(huf_describe(&back, again), got);
            assert_memory_equal(again, copy, got);
        }
        free(copy);
    }
}

/* The bytes of frames are pinned: a change of them is a change of archives, and must be meant. */
static void pinned(void **state)
{
    (void)state;
    static const char want[] = "41ed54fd057d97b74ff3afe19e171cf2072c6efca7a5e3d71ec85cf4c69012b4";
    uint8_t *p = malloc(300000), *z = malloc(zs_bound(300000));
    uint8_t digest[32];
    char hex[65];
    struct sha256 x;
    struct err e;
    sha256_begin(&x);
    for (int kind = 0; kind < N_KINDS; kind++) {
        size_t n;
        seed = (uint64_t)kind;
        fill(p, 300000, kind);
        assert_int_equal(zs_encode(ZS_HUFFMAN, p, 300000, z, zs_bound(300000), NULL, &n, &e),
                         ST_OK);
        sha256_add(&x, z, n);
    }
    sha256_end(&x, digest);
    sha256_hex(digest, hex);
    assert_string_equal(hex, want);
    free(p);
    free(z);
}

int main(void)
{
    scratch = aligned_alloc(64, zs_decode_scratch());
    const struct CMUnitTest t[] = {cmocka_unit_test(damaged), cmocka_unit_test(recalled),
                                   cmocka_unit_test(counts),  cmocka_unit_test(codes),
                                   cmocka_unit_test(frames),  cmocka_unit_test(distributions),
                                   cmocka_unit_test(again),   cmocka_unit_test(pinned)};
    int failed = cmocka_run_group_tests(t, NULL, NULL);
    free(scratch);
    return failed;
}
