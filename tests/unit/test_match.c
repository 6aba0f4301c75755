/* The matcher by itself: what each kind of evidence settles, and what it must leave open. */
#include "framework/match.h"
#include "framework/words.h"
#include "model/layers.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MANY 512
static struct match_item s[MANY], t[MANY];
static size_t n_s, n_t;

/* One kind for each ten of signatures; 90 and on are cells. */
static struct match_item item(const char *path, uint64_t sig)
{
    unsigned kinds = sig / 10 == 9 ? KIND_BIT(LAYER_LSTM) : 1u << (sig / 10);
    return (struct match_item){
        .path = str_from(path), .sig = {sig}, .n_sigs = 1, .kinds = kinds, .pair = -1};
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

/* Cells of two directions. */
static void directions(void **state)
{
    (void)state;
    static const char *const way[][2] = {{"bi.forward_rnn.cell", "bi.backward_rnn.cell"},
                                         {"enc.fw", "enc.bw"},
                                         {"fwd_lstm.linear", "bwd_lstm.linear"},
                                         {"net.lstm_l2r", "net.lstm_r2l"},
                                         {"cells.ltr", "cells.rtl"},
                                         {"a", "a_reversed"}};
    for (size_t i = 0; i < sizeof way / sizeof *way; i++)
        for (int turned = 0; turned < 2; turned++) {
            n_s = n_t = 0;
            src("lstm.l0", 90), src("lstm.l0_reverse", 90);
            dst(way[i][turned], 90), dst(way[i][!turned], 90);
            go();
            pairs("lstm.l0", way[i][0]);
            pairs("lstm.l0_reverse", way[i][1]);
            n_s = n_t = 0;
            dst("lstm.l0", 90), dst("lstm.l0_reverse", 90);
            src(way[i][turned], 90), src(way[i][!turned], 90);
            go();
            pairs(way[i][0], "lstm.l0");
            pairs(way[i][1], "lstm.l0_reverse");
        }
}

static void directions_of_several(void **state)
{
    (void)state;
    src("rnn.l0", 91), src("rnn.l0_reverse", 91), src("rnn.l1", 90), src("rnn.l1_reverse", 90),
        src("rnn.l2", 90), src("rnn.l2_reverse", 90);
    dst("layers_0.backward_rnn.cell", 91), dst("layers_0.forward_rnn.cell", 91),
        dst("layers_1.backward_rnn.cell", 90), dst("layers_1.forward_rnn.cell", 90),
        dst("layers_2.backward_rnn.cell", 90), dst("layers_2.forward_rnn.cell", 90);
    go();
    pairs("rnn.l0", "layers_0.forward_rnn.cell");
    pairs("rnn.l0_reverse", "layers_0.backward_rnn.cell");
    pairs("rnn.l1", "layers_1.forward_rnn.cell");
    pairs("rnn.l1_reverse", "layers_1.backward_rnn.cell");
    pairs("rnn.l2", "layers_2.forward_rnn.cell");
    pairs("rnn.l2_reverse", "layers_2.backward_rnn.cell");
}

/* Two that say nothing stay open, and what says the other way is no partner, even the only one. */
static void no_direction(void **state)
{
    (void)state;
    src("rnn.l0", 90), src("rnn.l0_reverse", 90);
    dst("one", 90), dst("two", 90);
    go();
    pairs("rnn.l0", NULL);
    pairs("rnn.l0_reverse", NULL);
    n_s = n_t = 0;
    src("enc.fwd", 90);
    dst("rnn.back.bwd", 90);
    go();
    pairs("enc.fwd", NULL);
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

/* ---- the evidence beyond names ---- */

static char text[4096][64];
static size_t n_text;
static const char *fmt(const char *f, int a, int b)
{
    char *out = text[n_text++ % 4096];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    snprintf(out, 64, f, a, b);
#pragma GCC diagnostic pop
    return out;
}

/* Every layer of one width: only words and blocks tell. */
static void transformer_blocks(void **state)
{
    (void)state;
    static const char *const from[] = {"enc.layers.%d.ln_1",          "enc.layers.%d.attn.q_proj",
                                       "enc.layers.%d.attn.k_proj",   "enc.layers.%d.attn.v_proj",
                                       "enc.layers.%d.attn.out_proj", "enc.layers.%d.ln_2"};
    static const char *const to[] = {"Block_%d.norm_before",     "Block_%d.attention.query",
                                     "Block_%d.attention.key",   "Block_%d.attention.value",
                                     "Block_%d.attention.dense", "Block_%d.norm_after"};
    for (int b = 11; b >= 0; b--) /* in no order */
        for (int k = 0; k < 6; k++) {
            src(fmt(from[k], b, 0), k == 0 || k == 5 ? 20 : 10);
            dst(fmt(to[5 - k], b, 0), k == 0 || k == 5 ? 20 : 10);
        }
    go();
    for (int b = 0; b < 12; b++)
        for (int k = 0; k < 6; k++)
            pairs(fmt(from[k], b, 0), fmt(to[k], b, 0));
}

/* stages.0.blocks.1 against stages.0.1, and against one flat list of all blocks */
static void nested_lists(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        n_s = n_t = 0;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 2; j++) {
                src(fmt("stages.%d.blocks.%d.conv", i, j), 10);
                src(fmt("stages.%d.blocks.%d.norm", i, j), 20);
                dst(way ? fmt("Block_%d.Conv_0", 2 * i + j, 0) : fmt("s_%d.%d.a", i, j), 10);
                dst(way ? fmt("Block_%d.Norm_0", 2 * i + j, 0) : fmt("s_%d.%d.b", i, j), 20);
            }
        go();
        pairs("stages.1.blocks.1.conv", way ? "Block_3.Conv_0" : "s_1.1.a");
        pairs("stages.2.blocks.0.norm", way ? "Block_4.Norm_0" : "s_2.0.b");
    }
}

/* Two towers of equal blocks under names that say nothing: either could be either. */
static void two_towers(void **state)
{
    (void)state;
    for (int b = 0; b < 3; b++) {
        src(fmt("foo.%d.fc", b, 0), 10), src(fmt("foo.%d.norm", b, 0), 20);
        src(fmt("bar.%d.fc", b, 0), 10), src(fmt("bar.%d.norm", b, 0), 20);
        dst(fmt("one.%d.fc", b, 0), 10), dst(fmt("one.%d.norm", b, 0), 20);
        dst(fmt("two.%d.fc", b, 0), 10), dst(fmt("two.%d.norm", b, 0), 20);
    }
    go();
    for (size_t i = 0; i < n_s; i++)
        assert_true(s[i].pair < 0);
}

static void towers_with_names(void **state)
{
    (void)state;
    for (int b = 0; b < 3; b++) {
        src(fmt("text_model.layers.%d.fc", b, 0), 10), src(fmt("text_model.layers.%d.n", b, 0), 20);
        src(fmt("vision_model.layers.%d.fc", b, 0), 10),
            src(fmt("vision_model.layers.%d.n", b, 0), 20);
        dst(fmt("visual.blocks.%d.up", b, 0), 10), dst(fmt("visual.blocks.%d.m", b, 0), 20);
        dst(fmt("text.blocks.%d.up", b, 0), 10), dst(fmt("text.blocks.%d.m", b, 0), 20);
    }
    go();
    pairs("text_model.layers.2.fc", "text.blocks.2.up");
    pairs("vision_model.layers.0.n", "visual.blocks.0.m");
}

/* A wrapper on one side only. */
static void wrappers(void **state)
{
    (void)state;
    src("module.model.layers.0.fc", 10), src("module.model.layers.1.fc", 10);
    src("module.lm_head", 10);
    dst("layers.1.fc", 10), dst("layers.0.fc", 10), dst("lm_head", 10);
    go();
    pairs("module.model.layers.0.fc", "layers.0.fc");
    pairs("module.lm_head", "lm_head");
}

/* "linear" is the one before "linear_1". */
static void first_without_number(void **state)
{
    (void)state;
    src("fc1", 10), src("fc2", 10), src("fc3", 10);
    dst("linear", 10), dst("linear_2", 10), dst("linear_1", 10);
    go();
    pairs("fc1", "linear");
    pairs("fc2", "linear_1");
    pairs("fc3", "linear_2");
}

/* BERT's block against one whose norms are numbered: the norm inside the attention is the first. */
static void block(bool target, const char *const name[5])
{
    static const uint64_t sig[] = {10, 11, 12, 20, 20};
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 5; i++)
            (target ? dst : src)(fmt(name[i], b, 0), sig[i]);
}

static void norm_of_attention(void **state)
{
    (void)state;
    static const char *const bert[] = {
        "encoder.layer.%d.attention.output.dense", "encoder.layer.%d.intermediate.dense",
        "encoder.layer.%d.output.dense", "encoder.layer.%d.output.LayerNorm",
        "encoder.layer.%d.attention.output.LayerNorm"};
    static const char *const other[] = {"blocks_%d_attn.out", "blocks_%d_fc1", "blocks_%d_fc2",
                                        "blocks_%d_norm1", "blocks_%d_norm2"};
    for (int way = 0; way < 2; way++) {
        clear(state);
        block(way, bert);
        block(!way, other);
        go();
        pairs(way ? "blocks_1_norm1" : "encoder.layer.1.attention.output.LayerNorm",
              way ? "encoder.layer.1.attention.output.LayerNorm" : "blocks_1_norm1");
        pairs(way ? "blocks_0_norm2" : "encoder.layer.0.output.LayerNorm",
              way ? "encoder.layer.0.output.LayerNorm" : "blocks_0_norm2");
    }
}

/* Of three, "the first" is no evidence; and a norm of keys is no block's. */
static void norms_of_three(void **state)
{
    (void)state;
    src("b.attention.norm", 20), src("b.mlp.norm", 20), src("b.norm", 20), src("b.fc", 10);
    dst("c.norm1", 20), dst("c.norm2", 20), dst("c.norm3", 20), dst("c.fc", 10);
    go();
    pairs("b.attention.norm", NULL);
    pairs("b.norm", NULL);
    clear(state);
    src("b.attention.k_norm", 20), src("b.norm", 20), src("b.fc", 10);
    dst("c.norm1", 20), dst("c.norm2", 20), dst("c.fc", 10);
    go();
    pairs("b.attention.k_norm", NULL);
}

/* Words of position are no numbers: "norm" beside "norm_pre" is not the one before it. */
static void norm_and_norm_pre(void **state)
{
    (void)state;
    src("ln_pre", 20), src("ln_post", 20);
    dst("norm", 20), dst("norm_pre", 20);
    go();
    pairs("ln_pre", "norm_pre");
    pairs("ln_post", "norm");
}

/* Shapes and counts would do, but a key is no query. */
static void contradiction(void **state)
{
    (void)state;
    src("x.query", 10), src("y", 11);
    dst("z.key", 10), dst("w", 11);
    go();
    pairs("x.query", NULL);
    pairs("y", "w");
}

/* One side's generic words mean something else: nothing may be read from them. */
static void generic_words(void **state)
{
    (void)state;
    src("a.proj", 10), src("b.fc", 10);
    dst("x.dense", 10), dst("y.projection", 10);
    go();
    pairs("a.proj", NULL);
    pairs("b.fc", NULL);
}

static void in_order(bool s_too)
{
    for (size_t i = 0; i < n_s; i++)
        s[i].order = s_too ? i : 0;
    for (size_t i = 0; i < n_t; i++)
        t[i].order = i;
}

/* a, b, a: what stands between the two that look alike tells them apart, in defined orders. */
static void order_of_definition(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) {
        n_s = n_t = 0;
        src("foo", 10), src("mid", 20), src("bar", 10);
        dst("one", 10), dst("centre", 20), dst("two", 10);
        in_order(known);
        go();
        pairs("foo", known ? "one" : NULL);
        pairs("bar", known ? "two" : NULL);
    }
}

/* Side by side: their order alone is no evidence. */
static void order_of_neighbours(void **state)
{
    (void)state;
    src("foo", 10), src("bar", 10), src("end", 20);
    dst("one", 10), dst("two", 10), dst("last", 20);
    in_order(true);
    go();
    pairs("foo", NULL);
}

static void said(void **state)
{
    (void)state;
    assert_int_equal(joined_said(STR("h.0.attn.c_attn")), JOINED_QKV);
    assert_int_equal(joined_said(STR("blocks.3.attn.qkv")), JOINED_QKV);
    assert_int_equal(joined_said(STR("to_kv")), JOINED_KV);
    assert_int_equal(joined_said(STR("mlp.gate_up_proj")), JOINED_GATE_UP);
    assert_int_equal(joined_said(STR("attention.query_key_value")), JOINED_NONE);
    assert_int_equal(joined_said(STR("fc")), JOINED_NONE);
    assert_int_equal(part_said(STR("attn.q_proj")), PART_Q);
    assert_int_equal(part_said(STR("attention.self.key")), PART_K);
    assert_int_equal(part_said(STR("to_v.0")), PART_V);
    assert_int_equal(part_said(STR("mlp.gate_proj")), PART_GATE);
    assert_int_equal(part_said(STR("mlp.c_proj")), PART_NONE);
}

/* The same network renamed at random and shuffled: what is paired is right. */
static void renamed(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252ull;
    for (int net = 0; net < 300; net++) {
        n_s = n_t = 0;
        int blocks = 2 + net % 5, same = net % 3;
        for (int b = 0; b < blocks; b++)
            for (int k = 0; k < 4; k++) {
                uint64_t sig =
                    10 * (uint64_t)(1 + (same == 2 ? 0 : k / 2)) + (same ? 0u : (unsigned)k);
                src(fmt(net % 2 ? "trunk.%d.p%d" : "body.block%d.layer%d", b, k), sig);
                dst(fmt(net % 7 < 4 ? "net.seq.%d.%d" : "Unit_%d.Sub_%d", b, k), sig);
            }
        size_t truth[MANY];
        for (size_t i = 0; i < n_t; i++)
            truth[i] = i;
        for (size_t i = n_t; i > 1; i--) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            size_t j = seed % i;
            struct match_item x = t[i - 1];
            t[i - 1] = t[j];
            t[j] = x;
            size_t y = truth[i - 1];
            truth[i - 1] = truth[j];
            truth[j] = y;
        }
        go();
        size_t n = 0;
        for (size_t i = 0; i < n_s; i++) {
            if (s[i].pair >= 0 && truth[s[i].pair] != i)
                fail_msg("net %d: %.*s -> %.*s (%s)", net, STR_ARG(s[i].path),
                         STR_ARG(t[s[i].pair].path), s[i].why);
            n += s[i].pair >= 0;
        }
        assert_int_equal(n, n_s);
    }
}

/* 10^5 layers of one shape: time and memory grow as n log n. The bound is some ten times what a
 * sanitised build needs on a slow machine; all pairs would be 10^10 steps. */
static void many_layers(void **state)
{
    (void)state;
    enum { BLOCKS = 20000, EACH = 5, N = BLOCKS * EACH };
    static const char *const part[2][EACH] = {{"q", "k", "v", "o", "norm"},
                                              {"query", "key", "value", "out", "ln"}};
    struct match_item *a = calloc(N, sizeof *a), *b = calloc(N, sizeof *b);
    char(*name)[2][48] = calloc(N, sizeof *name);
    assert_true(a && b && name);
    for (size_t i = 0; i < N; i++) {
        size_t k = i % EACH, j = (i * 7919) % N; /* shuffled: 7919 and N share no divisor */
        snprintf(name[i][0], 48, "layers.%zu.attn.%s", i / EACH, part[0][k]);
        snprintf(name[i][1], 48, "Block_%zu.%s", i / EACH, part[1][k]);
        a[i] = item(name[i][0], k == 4 ? 20 : 10);
        b[j] = item(name[i][1], k == 4 ? 20 : 10);
    }
    struct arena m = ARENA_INIT;
    struct err e = {0};
    clock_t t0 = clock();
    assert_int_equal(match(a, N, b, N, &m, &e), ST_OK);
    double took = (double)(clock() - t0) / CLOCKS_PER_SEC;
    arena_free(&m);
    print_message("100000 layers on either side: %.1f s\n", took);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(a[i].pair, (i * 7919) % N);
    assert_true(took < 120);
    free(a);
    free(b);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(equal_names, clear),
        cmocka_unit_test_setup(other_numbers, clear),
        cmocka_unit_test_setup(directions, clear),
        cmocka_unit_test_setup(directions_of_several, clear),
        cmocka_unit_test_setup(no_direction, clear),
        cmocka_unit_test_setup(necessity, clear),
        cmocka_unit_test_setup(not_complete, clear),
        cmocka_unit_test_setup(uninformative, clear),
        cmocka_unit_test_setup(last_words, clear),
        cmocka_unit_test_setup(place_in_the_tree, clear),
        cmocka_unit_test_setup(numbers_that_disagree, clear),
        cmocka_unit_test_setup(two_lists, clear),
        cmocka_unit_test_setup(blocks, clear),
        cmocka_unit_test_setup(given_pairs_stay, clear),
        cmocka_unit_test_setup(transformer_blocks, clear),
        cmocka_unit_test_setup(nested_lists, clear),
        cmocka_unit_test_setup(two_towers, clear),
        cmocka_unit_test_setup(towers_with_names, clear),
        cmocka_unit_test_setup(wrappers, clear),
        cmocka_unit_test_setup(first_without_number, clear),
        cmocka_unit_test_setup(norm_of_attention, clear),
        cmocka_unit_test_setup(norms_of_three, clear),
        cmocka_unit_test_setup(norm_and_norm_pre, clear),
        cmocka_unit_test_setup(contradiction, clear),
        cmocka_unit_test_setup(generic_words, clear),
        cmocka_unit_test_setup(order_of_definition, clear),
        cmocka_unit_test_setup(order_of_neighbours, clear),
        cmocka_unit_test(said),
        cmocka_unit_test_setup(renamed, clear),
        cmocka_unit_test_setup(many_layers, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
