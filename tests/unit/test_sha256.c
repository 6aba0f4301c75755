/* SHA-256: known answers (FIPS 180-4, checked with another implementation), every vector variant
 * against the scalar one, and the tree. */
#include "base/cpu.h"
#include "codec/sha256.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static uint64_t seed = 1;
static uint8_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(seed >> 56);
}

static void is_hex(const uint8_t d[32], const char *want)
{
    char hex[65];
    sha256_hex(d, hex);
    assert_string_equal(hex, want);
}

static const unsigned levels[] = {0,
                                  CPU_SSSE3,
                                  CPU_SSSE3 | CPU_SHA | CPU_NEON,
                                  CPU_SSSE3 | CPU_AVX2,
                                  CPU_SSSE3 | CPU_AVX2 | CPU_AVX512,
                                  ~0u};
#define N_LEVELS (sizeof levels / sizeof *levels)

static void known(void **state)
{
    (void)state;
    uint8_t d[32];
    for (size_t i = 0; i < N_LEVELS; i++) {
        cpu_limit(levels[i]);
        sha256("", 0, d);
        is_hex(d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        sha256("abc", 3, d);
        is_hex(d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, d);
        is_hex(d, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        struct sha256 s;
        sha256_begin(&s);
        for (int k = 0; k < 1000; k++) {
            char a[1000];
            memset(a, 'a', sizeof a);
            sha256_add(&s, a, sizeof a);
        }
        sha256_end(&s, d);
        is_hex(d, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    cpu_limit(~0u);
}

static void variants_agree(void **state)
{
    (void)state;
    const size_t n = 5000;
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = rnd();
    for (size_t len = 0; len < n; len += 1 + len / 9) {
        uint8_t want[32], got[32];
        cpu_limit(0);
        sha256(p, len, want);
        for (size_t l = 1; l < N_LEVELS; l++) {
            cpu_limit(levels[l]);
            sha256(p, len, got);
            assert_memory_equal(got, want, 32);
            struct sha256 s; /* in uneven bites */
            sha256_begin(&s);
            for (size_t lo = 0; lo < len;) {
                size_t take = 1 + rnd() % 150;
                if (take > len - lo)
                    take = len - lo;
                sha256_add(&s, p + lo, take);
                lo += take;
            }
            sha256_end(&s, got);
            assert_memory_equal(got, want, 32);
        }
    }
    cpu_limit(~0u);
    free(p);
}

static void leaves_agree(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 63, 64, 100, 128, 4096};
    uint8_t want[41][32], got[41][32];
    for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++) {
        size_t leaf = sizes[z];
        uint8_t *p = malloc(41 * leaf + 1);
        for (size_t i = 0; i < 41 * leaf; i++)
            p[i] = rnd();
        cpu_limit(0);
        for (size_t i = 0; i < 41; i++)
            sha256(p + i * leaf, leaf, want[i]);
        for (size_t l = 0; l < N_LEVELS; l++)
            for (size_t n = 0; n <= 41; n++) {
                cpu_limit(levels[l]);
                memset(got, 0, sizeof got);
                sha256_leaves(p, n, leaf, got);
                assert_memory_equal(got, want, n * 32);
            }
        free(p);
    }
    cpu_limit(~0u);
}

static void tree(void **state)
{
    (void)state;
    uint8_t d[32];
    sha256_tree("", 0, d);
    is_hex(d, "3f36d4809965facba79db54d6ed9f127ab7c6a1879f10db79fb3f71bb55f1718");
    sha256_tree("abc", 3, d);
    is_hex(d, "3e5273063a3dfd9c3b2877afc2852a99fe0f024cae7ecc8e1758bd724cdb6fe6");
    const size_t n = 2500001;
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t l = 0; l < N_LEVELS; l++) {
        cpu_limit(levels[l]);
        sha256_tree(p, n, d);
        is_hex(d, "02145128d06d440c5d2df69c0b64fdb84dbe1e6f7128397c659f2517e79580b6");
        sha256_tree(p, 65536, d);
        is_hex(d, "5922a369b32fc6293f85d2cf6fecd7eea770c8b6e5bb0e9d94257409f04c0904");
    }
    cpu_limit(~0u);
    assert_int_equal(sha256_tree_n_leaves(0), 0);
    assert_int_equal(sha256_tree_n_leaves(65536), 1);
    assert_int_equal(sha256_tree_n_leaves(65537), 2);
    free(p);
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(known), cmocka_unit_test(variants_agree),
                                   cmocka_unit_test(leaves_agree), cmocka_unit_test(tree)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
