/* Every kernel of every level this host has equals its scalar twin, and the scalar casts equal the
 * conversion by parts in number.c: all 65536 halves and bfloats both ways, every float32 exponent
 * with the mantissas that matter, NaN payloads, subnormals.
 */
#include "base/cpu.h"
#include "convert/gather.h"
#include "convert/kernel.h"
#include "convert/number.h"
#include "convert/op.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const unsigned levels[] = {0, CPU_AVX2, ~0u};
#define N_LEVELS (sizeof levels / sizeof *levels)

static uint64_t rng = 88172645463325252u;
static uint32_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 16);
}

/* Bit patterns that reach every branch: each exponent, both signs, edge and random mantissas. */
static size_t patterns(uint32_t *out)
{
    static const uint32_t man[] = {
        0,        1,        2,        0x0fff,   0x1000,   0x1001,   0x2000,   0x2fff,  0x3000,
        0x7fff,   0x8000,   0x8001,   0xffff,   0x10000,  0x17fff,  0x18000,  0x18001, 0x200000,
        0x3fffff, 0x400000, 0x400001, 0x7f7fff, 0x7f8000, 0x7fefff, 0x7ff000, 0x7fffff};
    size_t n = 0;
    for (uint32_t exp = 0; exp < 256; exp++)
        for (uint32_t sign = 0; sign < 2; sign++) {
            for (size_t i = 0; i < sizeof man / sizeof *man; i++)
                out[n++] = sign << 31 | exp << 23 | man[i];
            for (int i = 0; i < 38; i++)
                out[n++] = sign << 31 | exp << 23 | (rnd() & 0x7fffff);
        }
    return n;
}

static void casts_equal_conversion_by_parts(void **state)
{
    (void)state;
    static uint32_t f[256 * 2 * 64 + 64], wide[65536], wide2[65536];
    static uint16_t h[256 * 2 * 64 + 64], h2[256 * 2 * 64 + 64], all[65536], back[65536];
    size_t n = patterns(f);
    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (size_t l = 0; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        for (int k = 0; k < 2; k++) {
            enum dtype t = k ? DT_F16 : DT_BF16;
            uint64_t first = num_cast(DT_F32, f, t, h, n);
            assert_int_equal(op_cast(DT_F32, f, t, h2, n), first);
            assert_memory_equal(h, h2, n * 2);
            for (size_t off = 1; off < 70; off += 7) { /* starts and lengths that fill no vector */
                memset(h2, 0, sizeof h2);
                assert_true(off + 1 < n);
                (void)op_cast(DT_F32, f + off, t, h2, n - 2 * off);
                assert_memory_equal(h + off, h2, (n - 2 * off) * 2);
            }
            num_cast(t, all, DT_F32, wide, 65536);
            assert_int_equal(op_cast(t, all, DT_F32, wide2, 65536), 65536);
            assert_memory_equal(wide, wide2, sizeof wide);
            /* widened and narrowed again, every pattern is itself: signalling NaNs too */
            assert_int_equal(op_cast(DT_F32, wide, t, back, 65536), 65536);
            assert_memory_equal(all, back, sizeof all);
        }
    }
    cpu_limit(~0u);
}

static void known_values(void **state)
{
    (void)state;
    static const struct {
        enum dtype from;
        uint64_t a;
        enum dtype to;
        uint64_t b;
        bool over;
    } v[] = {
        {DT_F32, 0x3f800000, DT_BF16, 0x3f80, false},
        {DT_F32, 0x3f808000, DT_BF16, 0x3f80, false}, /* tie to even, down */
        {DT_F32, 0x3f818000, DT_BF16, 0x3f82, false}, /* tie to even, up */
        {DT_F32, 0x7f800001, DT_BF16, 0x7fc0, false}, /* payload lost: quiet */
        {DT_F32, 0x7fa00000, DT_BF16, 0x7fa0, false}, /* signalling stays */
        {DT_F32, 0xffc12345, DT_BF16, 0xffc1, false},
        {DT_F32, 0x00000001, DT_BF16, 0x0000, false},
        {DT_F32, 0x00018000, DT_BF16, 0x0002, false}, /* subnormals are kept */
        {DT_F32, 0x7f7fffff, DT_BF16, 0x7f80, true},
        {DT_F32, 0x477fefff, DT_F16, 0x7bff, false},
        {DT_F32, 0x477ff000, DT_F16, 0x7c00, true},
        {DT_F32, 0x33000000, DT_F16, 0x0000, false},
        {DT_F32, 0x33000001, DT_F16, 0x0001, false},
        {DT_F16, 0x7d01, DT_F32, 0x7fa02000, false},
        {DT_F64, 0x3ff0000000000000, DT_F32, 0x3f800000, false},
        {DT_F64, 0x7ff0000000000001, DT_F32, 0x7fc00000, false},
        {DT_F64, 0x47efffffffffffff, DT_F32, 0x7f800000, true},
        {DT_F32, 0x43e00000, DT_F8_E4M3FN, 0x7e, false}, /* 448 */
        {DT_F32, 0x43e80000, DT_F8_E4M3FN, 0x7e, false}, /* 464: tie to even */
        {DT_F32, 0x43e80001, DT_F8_E4M3FN, 0x7f, true},
        {DT_F32, 0x80000000, DT_F8_E4M3FNUZ, 0x00, false},
        {DT_F32, 0x7fc00000, DT_F8_E5M2FNUZ, 0x80, false},
        {DT_F32, 0x3fc00000, DT_F8_E8M0FNU, 0x80, false}, /* 1.5: tie to even */
        {DT_F32, 0xbf800000, DT_F8_E8M0FNU, 0xff, true},
        {DT_F32, 0x40e00000, DT_F4_E2M1FN, 0x7, true},   /* 7 > 6 */
        {DT_F32, 0x40a00000, DT_F4_E2M1FN, 0x6, false},  /* 5: tie to 4 */
        {DT_F32, 0xbfcccccd, DT_I32, 0xffffffff, false}, /* -1.6: toward zero */
        {DT_F32, 0x4f000000, DT_I32, 0x7fffffff, true},
        {DT_I64, 0x8000000000000000, DT_F64, 0xc3e0000000000000, false},
        {DT_I64, 0x7fffffffffffffff, DT_F64, 0x43e0000000000000, false},
        {DT_U8, 200, DT_I8, 127, true},
        {DT_F32, 0x7fc00000, DT_BOOL, 1, false},
        {DT_BF16, 0x8000, DT_BOOL, 0, false},
        {DT_F32, 0x3f800000, DT_C64, 0x3f800000, false},
    };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        uint64_t got = 0;
        bool over = num_cast(v[i].from, &v[i].a, v[i].to, &got, 1) == 0;
        if (got != v[i].b || over != v[i].over)
            printf("case %zu: %llx\n", i, (unsigned long long)got);
        assert_int_equal(got, v[i].b);
        assert_int_equal(over, v[i].over);
    }
}

static void small_floats_round_trip(void **state)
{
    (void)state;
    static const enum dtype t[] = {DT_F8_E4M3FN,  DT_F8_E5M2,   DT_F8_E4M3FNUZ, DT_F8_E5M2FNUZ,
                                   DT_F8_E8M0FNU, DT_F6_E2M3FN, DT_F6_E3M2FN,   DT_F4_E2M1FN};
    static const enum dtype via[] = {DT_F32, DT_F64, DT_BF16};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        for (size_t w = 0; w < 3; w++)
            for (unsigned c = 0; c < 1u << dtype_info(t[i])->bits; c++) {
                uint64_t wide = 0;
                uint8_t in = (uint8_t)c, out = 0;
                assert_int_equal(num_cast(t[i], &in, via[w], &wide, 1), 1);
                assert_int_equal(num_cast(via[w], &wide, t[i], &out, 1), 1);
                assert_int_equal(in, out);
            }
}

static void transposes_equal_scalar(void **state)
{
    (void)state;
    enum { MAX = 70 };
    static uint8_t src[MAX * (MAX * 8 + 64)], a[MAX][MAX * 8 + 1], b[MAX][MAX * 8 + 1];
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)rnd();
    for (size_t l = 1; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        const struct kernel *k = kernel();
        kernel_transpose *fn[] = {k->transpose1, k->transpose2, k->transpose4, k->transpose8};
        kernel_transpose *sc[] = {kernel_scalar.transpose1, kernel_scalar.transpose2,
                                  kernel_scalar.transpose4, kernel_scalar.transpose8};
        for (int s = 0; s < 4; s++)
            for (int round = 0; round < 400; round++) {
                size_t size = (size_t)1 << s, rows = rnd() % MAX, cols = rnd() % MAX;
                ptrdiff_t stride = (ptrdiff_t)(cols * size + rnd() % 64);
                const uint8_t *from = src;
                uint8_t *ra[MAX], *rb[MAX];
                memset(a, 0, sizeof a);
                memset(b, 0, sizeof b);
                for (size_t c = 0; c < cols; c++) {
                    ra[c] = a[c];
                    rb[c] = b[c];
                }
                if (round % 3 == 0 && rows) {
                    from += (ptrdiff_t)(rows - 1) * stride;
                    stride = -stride;
                }
                fn[s](ra, from, stride, rows, cols);
                sc[s](rb, from, stride, rows, cols);
                assert_memory_equal(a, b, sizeof a);
            }
    }
    cpu_limit(~0u);
}

/* Patterns of every class, transposed and cast in one go, against one after the other; any range.
 */
static void transposes_that_cast(void **state)
{
    (void)state;
    enum { MAX = 90 };
    static uint32_t f[256 * 2 * 64 + 64], turned[MAX * MAX];
    static uint16_t want[MAX * MAX], got[MAX * MAX + 1];
    size_t n = patterns(f);
    for (size_t l = 0; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        for (int round = 0; round < 1000; round++) {
            uint64_t rows = 1 + rnd() % MAX, cols = 1 + rnd() % MAX, pitch = cols + rnd() % 9;
            uint64_t dim[2] = {cols, rows}, lo = rnd() % (rows * cols), hi;
            int64_t stride[2] = {1, (int64_t)pitch};
            const uint8_t *src = (const uint8_t *)(f + rnd() % (n - MAX * (MAX + 9)));
            struct view v;
            struct err e;
            bool over = false;
            hi = round % 2 ? rows * cols : lo + 1 + rnd() % (rows * cols - lo);
            lo = round % 4 == 1 ? 0 : lo;
            assert_int_equal(view_strided(&v, dim, stride, 2, 0, &e), ST_OK);
            gather(&v, lo, hi, src, 4, (uint8_t *)turned);
            bool first = num_cast(DT_F32, turned, DT_BF16, want, hi - lo) < hi - lo;
            memset(got, 0x5a, sizeof got);
            if (!gather_bf16(&v, lo, hi, src, (uint8_t *)got, &over))
                continue; /* one row: no transpose */
            assert_memory_equal(want, got, (hi - lo) * 2);
            assert_int_equal(got[hi - lo], 0x5a5a);
            assert_int_equal(over, first);
        }
    }
    cpu_limit(~0u);
}

static void packing(void **state)
{
    (void)state;
    static const enum dtype t[] = {DT_I4, DT_U4, DT_I2, DT_U2, DT_F4_E2M1FN, DT_F6_E3M2FN};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint8_t one[64], packed[64], back[64];
        for (size_t k = 0; k < 64; k++)
            one[k] = (uint8_t)rnd();
        op_tidy(t[i], one, 64);
        op_pack(t[i], one, packed, 64);
        op_unpack(t[i], packed, 0, back, 64);
        assert_memory_equal(one, back, 64);
        op_unpack(t[i], packed, 5, back, 40);
        assert_memory_equal(one + 5, back, 40);
    }
    uint8_t two[2] = {0x01, 0xff}, nibbles;
    op_pack(DT_I4, two, &nibbles, 2);
    assert_int_equal(nibbles, 0xf1); /* low nibble first */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(casts_equal_conversion_by_parts),
                                       cmocka_unit_test(known_values),
                                       cmocka_unit_test(small_floats_round_trip),
                                       cmocka_unit_test(transposes_equal_scalar),
                                       cmocka_unit_test(transposes_that_cast),
                                       cmocka_unit_test(packing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
