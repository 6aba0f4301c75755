/* zarr's fill values, chunk names and LZ4 blocks, where goldens do not reach. */
#include "codec/blosc.h"
#include "codec/zarr.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static void fills(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bits;
        bool bf16;
        uint64_t want;
    } t[] = {
        {"0.1", 64, false, 0x3fb999999999999a},
        {"-0.0", 64, false, 0x8000000000000000},
        {"0.1", 32, false, 0x3dcccccd},
        {"16777217", 32, false, 0x4b800000},
        {"NaN", 32, false, 0x7fc00000},
        {"-Infinity", 32, false, 0xff800000},
        {"1e39", 32, false, 0x7f800000},
        {"1.5", 16, false, 0x3e00},
        {"65504", 16, false, 0x7bff},
        {"65520", 16, false, 0x7c00},
        {"65519", 16, false, 0x7bff},
        {"6.103515625e-05", 16, false, 0x0400},
        {"6.0975551605224609e-05", 16, false, 0x03ff},
        {"5.9604644775390625e-08", 16, false, 0x0001},
        {"2.98023223876953125e-08", 16, false, 0x0000},
        {"2.9802325e-08", 16, false, 0x0001},
        {"1e-30", 16, false, 0x0000},
        {"-1e-30", 16, false, 0x8000},
        {"NaN", 16, false, 0x7e00},
        {"Infinity", 16, true, 0x7f80},
        {"NaN", 16, true, 0x7fc0},
        {"1", 16, true, 0x3f80},
        {"1.00390625", 16, true, 0x3f80},
        {"1.01171875", 16, true, 0x3f82},
        {"3.4e38", 16, true, 0x7f80},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint64_t got = 0;
        assert_true(
            zarr_float((struct str){t[i].text, strlen(t[i].text)}, t[i].bits, t[i].bf16, &got));
        if (got != t[i].want)
            fail_msg("%s in %zu bits: %llx", t[i].text, t[i].bits, (unsigned long long)got);
    }
    static const char *const bad[] = {"", "x", "0x1p3", "nan", "inf", "1e", "1 ", "1,5", "--1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t got;
        if (zarr_float((struct str){bad[i], strlen(bad[i])}, 64, false, &got))
            fail_msg("'%s' was taken", bad[i]);
    }
    uint64_t v;
    assert_true(zarr_hex(STR("0x7fc00001"), 4, &v) && v == 0x7fc00001);
    assert_false(zarr_hex(STR("0x7fc00001"), 2, &v) || zarr_hex(STR("7fc00001"), 4, &v) ||
                 zarr_hex(STR("0x7FC00001"), 4, &v) || zarr_hex(STR("0x7fc0000g"), 4, &v));
}

static void names(void **state)
{
    (void)state;
    uint64_t dim[] = {5, 7}, chunk[] = {2, 7}, at[2];
    struct zarr z = {.n_dims = 2, .dim = dim, .chunk = chunk, .separator = '.'};
    bool outside;
    assert_true(zarr_chunk_at(&z, STR("2.0"), at, &outside) && at[0] == 2 && at[1] == 0);
    assert_false(zarr_chunk_at(&z, STR("3.0"), at, &outside));
    assert_true(outside);
    static const char *const bad[] = {"", "0", "0.0.0", "0/0", "00.0", "-1.0", "0.", ".0", "c/0/0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (zarr_chunk_at(&z, (struct str){bad[i], strlen(bad[i])}, at, &outside))
            fail_msg("'%s' is a chunk", bad[i]);
        assert_false(outside);
    }
    z.prefix = true;
    z.separator = '/';
    assert_true(zarr_chunk_at(&z, STR("c/1/0"), at, &outside) && at[0] == 1);
    struct buf b = BUF_INIT;
    zarr_chunk_name(&z, at, &b);
    assert_true(b.n == 5 && memcmp(b.p, "c/1/0", 5) == 0);
    buf_clear(&b);
    z.n_dims = 0;
    zarr_chunk_name(&z, at, &b);
    assert_true(b.n == 1 && b.p[0] == 'c' && zarr_chunk_at(&z, STR("c"), at, &outside));
    buf_clear(&b);
    z.prefix = false;
    zarr_chunk_name(&z, at, &b);
    assert_true(b.n == 1 && b.p[0] == '0' && zarr_chunk_at(&z, STR("0"), at, &outside));
    buf_free(&b);
}

static void lz4(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n_in, n;
        const char *out; /* NULL: damaged */
    } t[] = {
        {"\x10"
         "a",
         2, 1, "a"},
        {"\x14"
         "a\1\0\x50"
         "bcdef",
         10, 14, "aaaaaaaaabcdef"},
        {"\x14"
         "a\1\0\x50"
         "bcdef",
         10, 13, NULL},
        {"\x14"
         "a\1\0\x50"
         "bcde",
         9, 14, NULL},
        {"\x14"
         "a\2\0\x50"
         "bcdef",
         10, 14, NULL}, /* from before the start */
        {"\x14"
         "a\0\0\x50"
         "bcdef",
         10, 14, NULL},
        {"\xf0\xff", 2, 300, NULL},
        {"\x1f"
         "a\1\0\xff",
         5, 300, NULL},
        {"\x14"
         "a\1",
         3, 9, NULL},
        {"", 0, 0, ""},
        {"", 0, 1, NULL},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint8_t *out = malloc(t[i].n + 1);
        bool ok = lz4_block((const uint8_t *)t[i].in, t[i].n_in, out, t[i].n);
        if (ok != (t[i].out != NULL) || (ok && memcmp(out, t[i].out, t[i].n) != 0))
            fail_msg("case %zu", i);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fills), cmocka_unit_test(names),
                                       cmocka_unit_test(lz4)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
