/* Recurrent cells: exact numbers through gates, sums, signs and offsets; what is no cell, and what
 * a cell elsewhere cannot hold, by name.
 */
#include "base/mem.h"
#include "convert/op.h"
#include "framework/framework.h"
#include "framework/rules.h"
#include "tests/lib/cells.h"

/* Two inputs, one unit: every gate is one row. Values 1 2 .., 11 12 .., 21 .., 31 .. */
static void torch_lstm(struct model *m)
{
    model_init(m);
    toy_add(m, "lstm.weight_ih_l0", 1, 4, 2, -1);
    toy_add(m, "lstm.weight_hh_l0", 11, 4, 1, -1);
    toy_add(m, "lstm.bias_ih_l0", 21, 4, -1);
    toy_add(m, "lstm.bias_hh_l0", 31, 4, -1);
    toy_done(m);
}

static void lstm_by_gates(void **state)
{
    (void)state;
    struct model m, f;
    torch_lstm(&m);
    becomes(&m, (struct map_opt){.to = "flax"}, &f);
    holds(&f, "params.lstm.l0.ii.kernel", (const float[]){1, 2}, 2);
    holds(&f, "params.lstm.l0.if.kernel", (const float[]){3, 4}, 2);
    holds(&f, "params.lstm.l0.ig.kernel", (const float[]){5, 6}, 2);
    holds(&f, "params.lstm.l0.io.kernel", (const float[]){7, 8}, 2);
    holds(&f, "params.lstm.l0.ho.kernel", (const float[]){14}, 1);
    holds(&f, "params.lstm.l0.hi.bias", (const float[]){21 + 31}, 1);
    holds(&f, "params.lstm.l0.ho.bias", (const float[]){24 + 34}, 1);
    model_free(&f);
    becomes(&m, (struct map_opt){.to = "keras"}, &f);
    holds(&f, "lstm.l0.kernel", (const float[]){1, 3, 5, 7, 2, 4, 6, 8}, 8);
    holds(&f, "lstm.l0.bias", (const float[]){52, 54, 56, 58}, 4);
    model_free(&f);
    /* i g f o, inputs above state, 1 less for f */
    becomes(&m, (struct map_opt){.to = "haiku"}, &f);
    holds(&f, "params.lstm/l0/linear.w", (const float[]){1, 5, 3, 7, 2, 6, 4, 8, 11, 13, 12, 14},
          12);
    holds(&f, "params.lstm/l0/linear.b", (const float[]){52, 56, 53, 58}, 4);
    model_free(&f);
    model_free(&m);
}

static void torch_gru(struct model *m, float new_bias)
{
    model_init(m);
    toy_add(m, "gru.weight_ih_l0_reverse", 1, 3, 2, -1);
    toy_add(m, "gru.weight_hh_l0_reverse", 11, 3, 1, -1);
    toy_add(m, "gru.bias_ih_l0_reverse", 21, 3, -1);
    toy_add(m, "gru.bias_hh_l0_reverse", 31, 3, -1);
    float *b = values(m, "gru.bias_hh_l0_reverse");
    b[2] = new_bias;
    toy_done(m);
}

static void gru_after(void **state)
{
    (void)state;
    struct model m, f;
    torch_gru(&m, 33);
    becomes(&m, (struct map_opt){.to = "keras"}, &f); /* z r h; two rows of biases */
    holds(&f, "gru.l0_reverse.kernel", (const float[]){3, 1, 5, 4, 2, 6}, 6);
    holds(&f, "gru.l0_reverse.recurrent_kernel", (const float[]){12, 11, 13}, 3);
    holds(&f, "gru.l0_reverse.bias", (const float[]){22, 21, 23, 32, 31, 33}, 6);
    struct model back;
    becomes(&f, (struct map_opt){.from = "keras", .to = "pytorch"}, &back);
    same(&m, &back);
    model_free(&back);
    model_free(&f);
    becomes(&m, (struct map_opt){.to = "flax"}, &f);
    holds(&f, "params.gru.l0_reverse.ir.bias", (const float[]){52}, 1);
    holds(&f, "params.gru.l0_reverse.in.bias", (const float[]){23}, 1);
    holds(&f, "params.gru.l0_reverse.hn.bias", (const float[]){33}, 1);
    model_free(&f);
    refused(&m, (struct map_opt){.to = "nnx"}, "ledger"); /* nothing to hold it */
    refused(&m, (struct map_opt){.to = "haiku"}, "cell-unlike");
    model_free(&m);
    torch_gru(&m, 0);
    becomes(&m, (struct map_opt){.to = "nnx"}, &f);
    holds(&f, "gru.l0_reverse.dense_i.bias", (const float[]){52, 54, 23}, 3);
    model_free(&f);
    model_free(&m);
}

static void gru_before(void **state)
{
    (void)state;
    struct model m, k, back;
    model_init(&m);
    m.framework = STR("haiku");
    toy_add(&m, "params.gru.w_i", 1, 2, 3, -1);
    toy_add(&m, "params.gru.w_h", 11, 1, 3, -1);
    toy_add(&m, "params.gru.b", 21, 3, -1);
    toy_done(&m);
    becomes(&m, (struct map_opt){.from = "haiku", .to = "keras"}, &k);
    holds(&k, "gru.kernel", (const float[]){-1, 2, 3, -4, 5, 6}, 6);
    holds(&k, "gru.recurrent_kernel", (const float[]){-11, 12, 13}, 3);
    holds(&k, "gru.bias", (const float[]){-21, 22, 23}, 3);
    model_free(&k);
    refused(&m, (struct map_opt){.from = "haiku", .to = "pytorch"}, "cell-unlike");
    refused(&m, (struct map_opt){.from = "haiku", .to = "flax"}, "cell-unlike");
    /* canonical keeps it, and gives it back */
    becomes(&m, (struct map_opt){.from = "haiku", .to = "canonical"}, &k);
    holds(&k, "gru.bias", (const float[]){22, -21, 23}, 3);
    becomes(&k, (struct map_opt){.to = "source"}, &back);
    same(&m, &back);
    model_free(&back);
    model_free(&k);
    model_free(&m);
}

/* A bias that a float cannot add 1 to and take it away again comes back as it was. */
static void forget_bias(void **state)
{
    (void)state;
    struct model m, t, back;
    model_init(&m);
    m.framework = STR("haiku");
    toy_add(&m, "params.lstm/linear.w", 1, 3, 4, -1);
    toy_add(&m, "params.lstm/linear.b", 0, 4, -1);
    float *b = values(&m, "params.lstm/linear.b");
    static const float small[] = {1e-9f, 2e-9f, 3e-9f, 4e-9f};
    memcpy(b, small, sizeof small);
    toy_done(&m);
    const char *const there[] = {"pytorch", "canonical"};
    for (int i = 0; i < 2; i++) {
        becomes(&m, (struct map_opt){.from = "haiku", .to = there[i]}, &t);
        holds(&t, i ? "lstm.bias_ih" : "lstm.bias_ih", (const float[]){1e-9f, 3e-9f, 2e-9f, 4e-9f},
              4);
        holds(&t, "lstm.bias_hh", (const float[]){0, 1, 0, 0}, 4);
        becomes(&t, (struct map_opt){.from = there[i], .to = i ? "source" : "haiku"}, &back);
        same(&m, &back);
        model_free(&back);
        model_free(&t);
    }
    model_free(&m);
}

/* What rides: signs of first moments, none of second ones; a sum's moment is that of either. */
static void moments(void **state)
{
    (void)state;
    struct model m, f;
    torch_lstm(&m);
    static const enum role role[] = {ROLE_MOMENT1, ROLE_MOMENT2, ROLE_EMA};
    static const char *const name[2][3] = {
        {"m1.lstm.bias_ih_l0", "m2.lstm.bias_ih_l0", "ema.lstm.bias_ih_l0"},
        {"m1.lstm.bias_hh_l0", "m2.lstm.bias_hh_l0", "ema.lstm.bias_hh_l0"}};
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < 3; k++) {
            uint32_t t = toy_add(&m, name[side][k], 100 * k + 10 * side, 4, -1);
            m.tensor[t].role = role[k];
            m.tensor[t].of = toy_find(&m, side ? "lstm.bias_hh_l0" : "lstm.bias_ih_l0");
        }
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "haiku"}, &f);
    holds(&f, "params.lstm/l0/linear.b", (const float[]){52, 56, 53, 58}, 4);
    holds(&f, "m1.params.lstm/l0/linear.b", (const float[]){10, 12, 11, 13}, 4);
    holds(&f, "m2.params.lstm/l0/linear.b", (const float[]){110, 112, 111, 113}, 4);
    holds(&f, "ema.params.lstm/l0/linear.b",
          (const float[]){200 + 210, 202 + 212, 201 + 211 - 1, 203 + 213}, 4);
    model_free(&f);
    model_free(&m);
}

static void into_skeletons(void **state)
{
    (void)state;
    struct model m, like, f, back;
    torch_lstm(&m);
    model_init(&like); /* NNX's cell of one Dense a side, which nothing else asks for */
    toy_add(&like, "rnn.cell.dense_i.kernel", 0, 2, 4, -1);
    toy_add(&like, "rnn.cell.dense_h.kernel", 0, 1, 4, -1);
    toy_add(&like, "rnn.cell.dense_h.bias", 0, 4, -1);
    toy_done(&like);
    becomes(&m, (struct map_opt){.to = "nnx", .like = &like}, &f);
    holds(&f, "rnn.cell.dense_i.kernel", (const float[]){1, 3, 5, 7, 2, 4, 6, 8}, 8);
    holds(&f, "rnn.cell.dense_h.bias", (const float[]){52, 54, 56, 58}, 4);
    becomes(&f, (struct map_opt){.from = "nnx", .to = "pytorch", .like = &m}, &back);
    holds(&back, "lstm.weight_ih_l0", values(&m, "lstm.weight_ih_l0"), 8);
    holds(&back, "lstm.bias_ih_l0", (const float[]){52, 54, 56, 58}, 4);
    holds(&back, "lstm.bias_hh_l0", (const float[]){0, 0, 0, 0}, 4);
    model_free(&back);
    model_free(&f);
    model_free(&like);
    model_init(&like); /* without biases: they would be lost */
    toy_add(&like, "x.weight_ih_l0", 0, 4, 2, -1);
    toy_add(&like, "x.weight_hh_l0", 0, 4, 1, -1);
    toy_done(&like);
    refused(&m, (struct map_opt){.to = "pytorch", .like = &like}, "ledger");
    model_free(&like);
    model_free(&m);
}

static void projected(void **state)
{
    (void)state;
    struct model m, c, back;
    model_init(&m);
    toy_add(&m, "lstm.weight_ih_l0", 1, 8, 3, -1);
    toy_add(&m, "lstm.weight_hh_l0", 31, 8, 1, -1);
    toy_add(&m, "lstm.weight_hr_l0", 41, 1, 2, -1);
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "canonical"}, &c);
    holds(&c, "lstm.l0.weight_hr", (const float[]){41, 42}, 2);
    becomes(&c, (struct map_opt){.to = "pytorch"}, &back);
    same(&m, &back);
    refused(&m, (struct map_opt){.to = "flax"}, "ledger");
    model_free(&back);
    model_free(&c);
    model_free(&m);
}

/* What only looks like a cell, and what may be two. */
static void no_cells(void **state)
{
    (void)state;
    const struct framework *torch = framework_find(STR("pytorch")),
                           *flax = framework_find(STR("flax")),
                           *keras = framework_find(STR("keras"));
    struct arena a = ARENA_INIT;
    struct layers l;
    struct model m;
    model_init(&m);
    toy_add(&m, "a.weight_ih_l0", 0, 10, 4, -1); /* rows are no number of gates */
    toy_add(&m, "a.weight_hh_l0", 0, 10, 4, -1);
    toy_add(&m, "b.weight_ih_lx", 0, 16, 4, -1); /* no layer */
    toy_add(&m, "b.weight_hh_lx", 0, 16, 4, -1);
    toy_add(&m, "c.weight_hh_l0", 0, 16, 4, -1); /* half a cell */
    toy_done(&m);
    assert_int_equal(torch->layers(&m, &a, &l, &err), ST_OK);
    for (size_t i = 0; i < l.n; i++)
        assert_int_equal(l.layer[i].kind, LAYER_PARAM);
    model_free(&m);
    model_init(&m); /* two dense layers called i and h, both with a bias */
    toy_add(&m, "params.i.kernel", 0, 4, 4, -1);
    toy_add(&m, "params.i.bias", 0, 4, -1);
    toy_add(&m, "params.h.kernel", 0, 4, 4, -1);
    toy_add(&m, "params.h.bias", 0, 4, -1);
    toy_done(&m);
    assert_int_equal(flax->layers(&m, &a, &l, &err), ST_OK);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.layer[0].kind, LAYER_LINEAR);
    model_free(&m);
    model_init(&m); /* a GRU without biases: before or after, nothing tells */
    m.framework = STR("keras");
    toy_add(&m, "gru.gru_cell.kernel", 0, 4, 12, -1);
    toy_add(&m, "gru.gru_cell.recurrent_kernel", 0, 4, 12, -1);
    toy_done(&m);
    assert_int_equal(keras->layers(&m, &a, &l, &err), ST_OK);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.layer[0].kinds, KIND_BIT(LAYER_GRU) | KIND_BIT(LAYER_GRU_BEFORE));
    refused(&m, (struct map_opt){.to = "pytorch"}, "map-ambiguous");
    struct model t;
    becomes(&m, (struct map_opt){.to = "pytorch", .rules = STR("kind gru.l0 = gru\n")}, &t);
    assert_true(toy_find(&t, "gru.weight_hh_l0") >= 0);
    model_free(&t);
    refused(&m, (struct map_opt){.to = "pytorch", .rules = STR("kind gru.l0 = gru_before\n")},
            "cell-unlike");
    model_free(&m);
    arena_free(&a);
}

/* An archive's inverse is foreign: pieces that do not lie side by side are refused, no more. */
static void hostile_places(void **state)
{
    (void)state;
#define PART(cut, at) "{\"tensor\":\"a\",\"cut\":[" cut "],\"at\":[" at "]}"
    static const char *const bad[] = {
        PART("[0,0,3]", ""),                              /* more than is there */
        PART("[2,0,1]", ""),                              /* no such axis */
        PART("[0,0,1],[0,1,2]", ""),                      /* one axis twice */
        PART("[0,2,1]", ""),                              /* backwards */
        PART("[0,0,1]", "") "," PART("[0,0,1]", ""),      /* on each other */
        PART("[0,0,1]", "") "," PART("[0,1,2]", "[0,2]"), /* a gap */
        PART("[0,0,1]", "[9,1]"),                         /* no such axis there */
        PART("[0,0,1]", "[0,18446744073709551615]"),      /* beyond all */
        PART("[0,0,1]", "") ",{\"tensor\":\"a\"}",        /* one without a place */
        PART("[0,0,1],[1,0,1],[0,0,1]", ""),
        PART("[0,0]", ""), /* no cuts */
        "{\"tensor\":\"a\",\"at\":[],\"neg\":1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct model m;
        struct plan p;
        model_init(&m);
        toy_add(&m, "a", 0, 2, 3, -1);
        toy_done(&m);
        m.spelling = arena_fmt(
            &m.arena, "{\"format\":2,\"tensors\":[{\"name\":\"x\",\"from\":[%s]}]}", bad[i]);
        enum status st = map_to(&p, &m, (struct map_opt){.to = "source"});
        if (st != ST_INPUT && st != ST_CANNOT)
            fail_msg("%d %s: %s", (int)st, err.reason, bad[i]);
        plan_free(&p);
        model_free(&m);
    }
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "a", 0, 2, 3, -1);
    toy_done(&m);
    m.spelling = STR("{\"format\":2,\"tensors\":[{\"name\":\"x\",\"from\":[" PART(
        "[0,1,2]", "") "," PART("[0,0,1]", "[0,1]") "]}]}");
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "source"}), ST_OK);
    uint64_t n;
    double *v = toy_values(&p, 0, &n);
    assert_true(n == 6 && v[0] == 3 && v[3] == 0);
    free(v);
    plan_free(&p);
    model_free(&m);
}

/* Sums and numbers added, by the engine's own op: to nearest, ties to even, in the type at hand. */
static void offset_op(void **state)
{
    (void)state;
    static const float in[] = {1, -1, 0x1p-24f, 0x1.8p-24f, 16777216, 0};
    static const float want[] = {2, 0, 1, 1 + 0x1p-23f, 16777216, 1};
    float out[6];
    double one = 1;
    struct op op = {.kind = OP_OFFSET};
    enum dtype t;
    size_t bad;
    memcpy(&op.scale_bits, &one, sizeof one);
    op_apply(&op, DT_F32, in, NULL, out, 6, &t, &bad);
    assert_int_equal(bad, 6);
    assert_int_equal(t, DT_F32);
    assert_memory_equal(out, want, sizeof want);
    const uint16_t bf[] = {0x3b80, 0x3f80, 0x4380}; /* 2^-8 (a tie), 1, 256 */
    uint16_t bo[3];
    op_apply(&op, DT_BF16, bf, NULL, bo, 3, &t, &bad);
    assert_int_equal(bo[0], 0x3f80);
    assert_int_equal(bo[1], 0x4000);
    assert_int_equal(bo[2], 0x4380);
    assert_int_equal(op_chain_type(&op, 1, DT_I32), DT_NONE);
    assert_int_equal(op_chain_type(&op, 1, DT_F16), DT_F16);
}

/* Every table: layouts over the letters, gates of their kind, no tensor twice. */
static void tables(void **state)
{
    (void)state;
    for (size_t f = 0; f < n_frameworks; f++)
        for (size_t i = 0; i < frameworks[f]->rules->n_cells; i++) {
            const struct cell_rule *c = &frameworks[f]->rules->cell[i];
            const char *text[] = {c->gates, c->sums, c->minus, c->plus};
            struct axes x;
            assert_true(kind_is_cell(c->kind) && strlen(c->gates) <= GATES_MAX);
            bool conv = c->kind == LAYER_CONV_LSTM;
            char axes[64];
            assert_int_equal(rules_cell_axes(c, conv ? 3 : 0, axes, &err), ST_OK);
            assert_int_equal(axes_parse(str_from(axes), &x, &err), ST_OK);
            for (size_t k = 0; k < x.n; k++)
                assert_non_null(strchr(conv ? "GOIRDHW" : "GOIRJ", x.at[k].letter));
            for (size_t k = 0; k < 4; k++)
                for (const char *g = text[k]; g && *g; g++)
                    assert_true(strchr(cell_gates(c->kind), *g) && (k || strchr(g, *g) == g));
            for (size_t j = 0; j < i; j++) {
                const struct cell_rule *d = &frameworks[f]->rules->cell[j];
                assert_false(d->kind == c->kind && d->variant == c->variant && d->leaf == c->leaf);
            }
        }
    assert_true(path_in_stack(STR("a.l0")) && path_in_stack(STR("l12_reverse")));
    assert_false(path_in_stack(STR("l")) || path_in_stack(STR("a.l0x")) ||
                 path_in_stack(STR("a.0")) || path_in_stack(STR("")) ||
                 path_in_stack(STR("_reverse")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lstm_by_gates),  cmocka_unit_test(gru_after),
        cmocka_unit_test(gru_before),     cmocka_unit_test(forget_bias),
        cmocka_unit_test(moments),        cmocka_unit_test(into_skeletons),
        cmocka_unit_test(projected),      cmocka_unit_test(no_cells),
        cmocka_unit_test(hostile_places), cmocka_unit_test(offset_op),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
