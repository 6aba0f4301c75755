/* The matcher by itself: what each kind of evidence settles, and what it must leave open. */
#include "framework/match.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MANY 64
static struct match_item s[MANY], t[MANY];
static size_t n_s, n_t;

static struct match_item item(const char *path, uint64_t sig)
{
    return (struct match_item){
        .path = str_from(path), .sig = {sig}, .n_sigs = 1, .kinds = 1u << (sig / 10), .pair = -1};
}
static void src(const char *path, uint64_t sig)
{
    s[n_s++] = item(path, sig);
}
static void dst(const char *path, uint64_t sig)
{
    t[n_t++] = item(path, sig);
}

static void go(void)
{
    struct arena a = ARENA_INIT;
    struct err e = {0};
    assert_int_equal(match(s, n_s, t, n_t, &a, &e), ST_OK);
    arena_free(&a);
    for (size_t i = 0; i < n_s; i++)
        if (s[i].pair >= 0)
            assert_int_equal(t[s[i].pair].pair, i);
}

static void pairs(const char *from, const char *to)
{
    for (size_t i = 0; i < n_s; i++)
        if (str_is(s[i].path, from)) {
            if (!to) {
                if (s[i].pair >= 0)
                    fail_msg("%s -> %.*s (%s)", from, STR_ARG(t[s[i].pair].path), s[i].why);
                return;
            }
            if (s[i].pair < 0)
                fail_msg("%s stays open", from);
            if (!str_is(t[s[i].pair].path, to))
                fail_msg("%s -> %.*s (%s)", from, STR_ARG(t[s[i].pair].path), s[i].why);
            return;
        }
    fail();
}

static int clear(void **state)
{
    (void)state;
    n_s = n_t = 0;
    return 0;
}

static void equal_names(void **state)
{
    (void)state;
    src("model.layers.0.fc", 10), src("model.layers.1.fc", 10);
    dst("layers_1.fc", 10), dst("layers_0.fc", 10);
    go();
    pairs("model.layers.0.fc", "layers_0.fc");
    pairs("model.layers.1.fc", "layers_1.fc");
}

/* conv1, conv2 count from one, Conv_0, Conv_1 from zero */
static void other_numbers(void **state)
{
    (void)state;
    src("conv1", 10), src("conv2", 10);
    dst("Conv_0", 10), dst("Conv_1", 10);
    go();
    pairs("conv1", "Conv_0");
    pairs("conv2", "Conv_1");
}

static void necessity(void **state)
{
    (void)state;
    src("a", 10), src("b", 11), src("c", 12);
    s[0].sig[1] = 11;
    s[0].n_sigs = 2; /* a may be 10 or 11, b only 11 */
    dst("x", 12), dst("y", 11), dst("z", 10);
    go();
    pairs("a", "z");
    pairs("b", "y");
    pairs("c", "x");
}

/* Nothing is necessary where no complete pairing exists. */
static void not_complete(void **state)
{
    (void)state;
    src("a", 10), src("b", 11);
    dst("x", 10), dst("y", 12);
    go();
    pairs("a", NULL);
    pairs("b", NULL);
}

static void uninformative(void **state)
{
    (void)state;
    src("foo", 10), src("bar", 10);
    dst("one", 10), dst("two", 10);
    go();
    pairs("foo", NULL);
    pairs("bar", NULL);
}

static void last_words(void **state)
{
    (void)state;
    src("enc.attn.query", 10), src("enc.attn.key", 10);
    dst("Block.key", 10), dst("Block.query", 10);
    go();
    pairs("enc.attn.query", "Block.query");
    pairs("enc.attn.key", "Block.key");
}

static void place_in_the_tree(void **state)
{
    (void)state;
    src("front.lin", 10), src("front.norm", 20);
    src("rear.lin", 10), src("rear.table", 30);
    dst("P.x", 10), dst("P.y", 30);
    dst("Q.x", 10), dst("Q.z", 20);
    go();
    pairs("front.lin", "Q.x");
    pairs("rear.lin", "P.x");
}

/* Numbers alone, but the shapes contradict them: no order can be read from them. */
static void numbers_that_disagree(void **state)
{
    (void)state;
    src("net.0", 10), src("net.1", 10), src("net.2", 11);
    dst("Dense_0", 11), dst("Dense_1", 10), dst("Dense_2", 10);
    go();
    pairs("net.0", NULL);
    pairs("net.1", NULL);
    pairs("net.2", "Dense_0");
}

/* Two lists on one side and one on the other: numbers do not tell across them. */
static void two_lists(void **state)
{
    (void)state;
    src("up.0", 10), src("up.1", 10), src("down.0", 10), src("down.1", 10);
    dst("Dense_0", 10), dst("Dense_1", 10), dst("Dense_2", 10), dst("Dense_3", 10);
    go();
    pairs("up.0", NULL);
    pairs("down.1", NULL);
}

static void blocks(void **state)
{
    (void)state;
    static char name[4][4][48];
    for (int b = 0; b < 2; b++) {
        snprintf(name[b][0], 48, "encoder.layer.%d.fc", b);
        snprintf(name[b][1], 48, "encoder.layer.%d.norm", b);
        snprintf(name[b][2], 48, "Block_%d.Dense_0", b);
        snprintf(name[b][3], 48, "Block_%d.LayerNorm_0", b);
        src(name[b][0], 10), src(name[b][1], 20);
        dst(name[b][2], 10), dst(name[b][3], 20);
    }
    go();
    pairs("encoder.layer.0.fc", "Block_0.Dense_0");
    pairs("encoder.layer.1.fc", "Block_1.Dense_0");
    pairs("encoder.layer.1.norm", "Block_1.LayerNorm_0");
}

static void given_pairs_stay(void **state)
{
    (void)state;
    src("foo", 10), src("bar", 10);
    dst("one", 10), dst("two", 10);
    s[0].pair = 1;
    t[1].pair = 0;
    go();
    pairs("foo", "two");
    pairs("bar", "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(equal_names, clear),
        cmocka_unit_test_setup(other_numbers, clear),
        cmocka_unit_test_setup(necessity, clear),
        cmocka_unit_test_setup(not_complete, clear),
        cmocka_unit_test_setup(uninformative, clear),
        cmocka_unit_test_setup(last_words, clear),
        cmocka_unit_test_setup(place_in_the_tree, clear),
        cmocka_unit_test_setup(numbers_that_disagree, clear),
        cmocka_unit_test_setup(two_lists, clear),
        cmocka_unit_test_setup(blocks, clear),
        cmocka_unit_test_setup(given_pairs_stay, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
