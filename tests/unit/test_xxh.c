/* XXH3-128 and XXH64: known answers of the reference implementation, and incremental = whole. */
#include "base/cpu.h"
#include "codec/xxh.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static void known(void **state)
{
    (void)state;
    const char *want[] = {"99aa06d3014798d86001c324468d497f", "cf9bd4af9399c7e6f502800dd289b9ee",
                          "4e53faeda1b5812bb25cea78018497ff"};
    const size_t len[] = {0, 11, 100000};
    static uint8_t p[100000];
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (uint8_t)(i * 7 + i / 256);
    for (int i = 0; i < 3; i++) {
        uint8_t d[16];
        char hex[33];
        xxh128(p, len[i], d);
        for (int k = 0; k < 16; k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", d[k]);
        assert_string_equal(hex, want[i]);
    }
    assert_true(xxh64("", 0) == 0xef46db3751d8e999u);
    assert_true(xxh64(p, sizeof p) == 0xd88605c21700af94u);
}

static void incremental(void **state)
{
    (void)state;
    static uint8_t p[70000];
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (uint8_t)(i * 31 + i / 512);
    for (size_t step = 1; step < sizeof p; step = step * 3 + 1) {
        struct xxh128 x;
        uint8_t a[16], b[16];
        xxh128(p, sizeof p, b);
        for (int level = 0; level < 2; level++) {
            cpu_limit(level ? ~0u : 0);
            xxh128_begin(&x);
            for (size_t lo = 0; lo < sizeof p; lo += step)
                xxh128_add(&x, p + lo, sizeof p - lo < step ? sizeof p - lo : step);
            xxh128_end(&x, a);
            assert_memory_equal(a, b, 16);
        }
    }
}

/* Every length around the sizes where the algorithm changes, at several alignments. */
static void instruction_sets(void **state)
{
    (void)state;
    static uint8_t p[5000];
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (uint8_t)(i * 131 + i / 64);
    for (size_t n = 0; n + 64 <= sizeof p; n += n < 2100 ? 1 : 61) {
        uint8_t a[16], b[16];
        cpu_limit(0);
        xxh128(p + n % 64, n, a);
        cpu_limit(~0u);
        xxh128(p + n % 64, n, b);
        assert_memory_equal(a, b, 16);
    }
}

/* Several runs at once are as many single ones, whole or in pieces. */
static void runs(void **state)
{
    (void)state;
    static uint8_t p[8 * 3000 + 64];
    for (size_t i = 0; i < sizeof p; i++)
        p[i] = (uint8_t)(i * 131 + i / 64);
    for (size_t n = 0; n <= 3000; n += n < 300 ? 1 : 37)
        for (unsigned k = 1; k <= 8; k++) {
            uint64_t a[8], b[8];
            const uint8_t *at = p + n % 64;
            for (unsigned i = 0; i < k; i++)
                a[i] = xxh64(at + i * n, n);
            for (int level = 0; level < 2; level++) {
                cpu_limit(level ? ~0u : 0);
                for (size_t piece = 32; piece <= 4096; piece *= 4) {
                    struct xxh64_runs x;
                    const uint8_t *run[8];
                    xxh64_runs_begin(&x, k);
                    for (size_t lo = 0; lo < n; lo += piece) {
                        for (unsigned i = 0; i < k; i++)
                            run[i] = at + i * n + lo;
                        xxh64_runs_add(&x, run, n - lo < piece ? n - lo : piece);
                    }
                    xxh64_runs_end(&x, b);
                    assert_memory_equal(a, b, k * sizeof *a);
                }
            }
        }
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(known), cmocka_unit_test(incremental),
                                   cmocka_unit_test(instruction_sets), cmocka_unit_test(runs)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
