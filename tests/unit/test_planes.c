/* Planes: any bits survive (NaN payloads, signed zeros, subnormals are bits like others), the
 * variants of every loop agree, damaged frames are refused, and the choice of coding holds. */
#include "base/cpu.h"
#include "codec/planes.h"
#include "codec/zstd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static uint64_t seed = 7;
static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static const unsigned levels[] = {0, CPU_AVX2, CPU_AVX2 | CPU_AVX512, ~0u};
#define N_LEVELS (sizeof levels / sizeof *levels)

static void fill(uint8_t *p, size_t n, int how)
{
    for (size_t i = 0; i < n; i++)
        switch (how) {
        case 0:
            p[i] = (uint8_t)rnd();
            break;
        case 1:
            p[i] = 0;
            break;
        case 2: /* skewed, as exponents are */
            p[i] = (uint8_t)(0x3c + __builtin_ctz(rnd() | 0x100));
            break;
        case 3: /* halves: specials and noise */
            p[i] = (uint8_t)(i % 4 == 3 ? 0x7f + (rnd() & 1) * 0x80 : rnd() % 3 ? 0 : rnd());
            break;
        default:
            p[i] = (uint8_t)(i / 700);
        }
}

static void by_hand(void **state)
{
    (void)state;
    /* 1.0, -1.0, quiet NaN with a payload, smallest subnormal, -0 as float32 */
    const uint32_t w[5] = {0x3f800000, 0xbf800000, 0x7fc00001, 1, 0x80000000};
    const uint8_t want[20] = {0x00, 0x01, 0x02, 0x02, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
                              0x00, 0x00, 0x80, 0x00, 0x00, 0x7f, 0x7f, 0xff, 0x00, 0x00};
    uint8_t got[20];
    uint32_t back[5];
    for (size_t l = 0; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        planes_split(PLANES_ROT4, w, 5, got);
        assert_memory_equal(got, want, 20);
        planes_merge(PLANES_ROT4, got, 5, back);
        assert_memory_equal(back, w, 20);
    }
    cpu_limit(~0u);
}

static void variants_agree(void **state)
{
    (void)state;
    const size_t most = 8 * 1500;
    uint8_t *p = malloc(most), *a = malloc(most), *b = malloc(most);
    fill(p, most, 0);
    for (int k = 0; k < PLANES_N; k++)
        for (size_t n = 0; n <= 1500; n += 1 + n / 7) {
            size_t w = planes_info((enum planes_kind)k)->width;
            cpu_limit(0);
            planes_split((enum planes_kind)k, p, n, a);
            for (size_t l = 0; l < N_LEVELS; l++) {
                cpu_limit(levels[l]);
                memset(b, 0xee, most);
                planes_split((enum planes_kind)k, p, n, b);
                assert_memory_equal(a, b, n * w);
                memset(b, 0xee, most);
                planes_merge((enum planes_kind)k, a, n, b);
                assert_memory_equal(p, b, n * w);
            }
        }
    cpu_limit(~0u);
    free(p);
    free(a);
    free(b);
}

static void round_trip(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 8, 16, 248, 2048, 2056, 65528, 65536, 131072 + 8, 1048568, 1048576};
    uint8_t *p = malloc(PLANES_CHUNK), *q = malloc(PLANES_CHUNK);
    size_t cap = planes_bound(PLANES_CHUNK);
    uint8_t *z = malloc(cap), *z2 = malloc(cap);
    void *se = aligned_alloc(64, planes_encode_scratch());
    void *sd = aligned_alloc(64, (planes_holds_scratch() + 63) / 64 * 64);
    struct err e;
    for (int how = 0; how < 5; how++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int k = 0; k < PLANES_N; k++) {
                size_t n = sizes[s], size[8], size2[8], total = 0;
                unsigned w = planes_info((enum planes_kind)k)->width;
                fill(p, n, how);
                memset(se, 0xaa, planes_encode_scratch());
                assert_int_equal(planes_encode((enum planes_kind)k, p, n, z, cap, se, size, &e),
                                 ST_OK);
                for (unsigned i = 0; i < w; i++)
                    total += size[i];
                assert_true(total <= planes_bound(n));
                memset(se, 0x55, planes_encode_scratch()); /* what scratch held does not matter */
                cpu_limit(0);
                assert_int_equal(planes_encode((enum planes_kind)k, p, n, z2, cap, se, size2, &e),
                                 ST_OK);
                cpu_limit(~0u);
                assert_memory_equal(size, size2, w * sizeof *size);
                assert_memory_equal(z, z2, total);
                memset(q, 0xee, PLANES_CHUNK);
                enum status st = planes_decode((enum planes_kind)k, z, size, q, n, sd, &e);
                if (st != ST_OK)
                    fail_msg("how %d, %zu bytes, kind %d: %s", how, n, k, e.reason);
                assert_memory_equal(p, q, n);
                assert_true(planes_hold((enum planes_kind)k, z, size, p, n, sd));
                if (n < 2048)
                    continue;
                if (how == 1) /* zeros */
                    assert_true(total < w * 64);
                if (how == 0 && k != PLANES_NONE) /* noise is stored */
                    assert_true(total >= n && total < n + w * 64);
                if (how == 2 && n > 65536)
                    assert_true(total < n / 2);
            }
    free(p);
    free(q);
    free(z);
    free(z2);
    free(se);
    free(sd);
}

/* Every bit of a frame that can change what it decodes to, or how long it is, is noticed. */
static void damaged(void **state)
{
    (void)state;
    uint8_t p[600], q[600], z[1000];
    void *se = aligned_alloc(64, planes_encode_scratch());
    void *sd = aligned_alloc(64, (planes_decode_scratch() + 63) / 64 * 64);
    const enum zs_how ways[] = {ZS_RAW, ZS_RLE, ZS_HUFFMAN, ZS_FAST, ZS_USUAL};
    struct err e;
    for (size_t way = 0; way < 5; way++) {
        size_t n;
        fill(p, sizeof p, ways[way] == ZS_RLE ? 1 : 2);
        assert_int_equal(zs_encode(ways[way], p, sizeof p, z, sizeof z, se, &n, &e), ST_OK);
        assert_int_equal(zs_decode(z, n, q, sizeof q, sd, &e), ST_OK);
        for (size_t bit = 0; bit < n * 8; bit++) {
            z[bit / 8] ^= (uint8_t)(1 << bit % 8);
            memset(q, 0, sizeof q);
            if (zs_decode(z, n, q, sizeof q, sd, &e) == ST_OK)
                assert_memory_equal(p, q, sizeof p); /* an unused bit */
            else
                assert_string_equal(e.code, "zstd-frame");
            z[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *copy = malloc(cut + 1);
            memcpy(copy, z, cut);
            assert_int_equal(zs_decode(copy, cut, q, sizeof q, sd, &e), ST_INPUT);
            free(copy);
        }
        assert_int_equal(zs_decode(z, n + 1, q, sizeof q, sd, &e), ST_INPUT);
        assert_int_equal(zs_decode(z, n, q, sizeof q - 1, sd, &e), ST_INPUT);
    }
    free(se);
    free(sd);
}

/* A chunk's frames are checked together: a bit changed in any plane's data is noticed. */
static void damaged_planes(void **state)
{
    (void)state;
    const size_t n = 40000;
    uint8_t *p = malloc(n), *q = malloc(n), *z = malloc(planes_bound(n));
    void *se = aligned_alloc(64, planes_encode_scratch());
    void *sd = aligned_alloc(64, (planes_holds_scratch() + 63) / 64 * 64);
    struct err e;
    for (int k = 0; k < PLANES_N; k++)
        for (int how = 0; how < 3; how++) {
            size_t size[PLANES_MAX], at = 0;
            unsigned w = planes_info((enum planes_kind)k)->width;
            fill(p, n, how);
            assert_int_equal(
                planes_encode((enum planes_kind)k, p, n, z, planes_bound(n), se, size, &e), ST_OK);
            for (unsigned i = 0; i < w; at += size[i++])
                for (int flip = 0; flip < 20; flip++) {
                    size_t bit = at * 8 + rnd() % (size[i] * 8);
                    if (flip == 0) /* of the checksum */
                        bit = (at + size[i]) * 8 - 1;
                    z[bit / 8] ^= (uint8_t)(1 << bit % 8);
                    bool held = planes_hold((enum planes_kind)k, z, size, p, n, sd);
                    enum status st = planes_decode((enum planes_kind)k, z, size, q, n, sd, &e);
                    if (bit / 8 < at + size[i] - 4) /* the checksum is for who decodes */
                        assert_int_equal(held, st == ST_OK);
                    if (flip == 0)
                        assert_int_equal(st, ST_INPUT);
                    if (st == ST_OK)
                        assert_memory_equal(p, q, n); /* an unused bit */
                    else
                        assert_string_equal(e.code, "zstd-frame");
                    z[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
            assert_int_equal(planes_decode((enum planes_kind)k, z, size, q, n, sd, &e), ST_OK);
            assert_true(planes_hold((enum planes_kind)k, z, size, p, n, sd));
            for (int flip = 0; flip < 20; flip++) { /* what was to be stored is another thing */
                size_t bit = flip == 0 ? n * 8 - 1 : rnd() % (n * 8);
                p[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_false(planes_hold((enum planes_kind)k, z, size, p, n, sd));
                p[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
        }
    free(p);
    free(q);
    free(z);
    free(se);
    free(sd);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(by_hand), cmocka_unit_test(variants_agree),
                                   cmocka_unit_test(round_trip), cmocka_unit_test(damaged),
                                   cmocka_unit_test(damaged_planes)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
