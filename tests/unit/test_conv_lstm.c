/* Convolutional LSTMs: what is one and what only looks so, exact numbers through axes, gates and
 * biases in both directions, targets that have none, and a step of one that every number matters
 * to.
 */
#include "base/mem.h"
#include "framework/framework.h"
#include "framework/rules.h"
#include "tests/lib/cells.h"
#include "tests/lib/judged.h"
#include <math.h>

#define HOLDS(m, name, ...)                                                                        \
    holds(m, name, (const float[]){__VA_ARGS__},                                                   \
          sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static bool has(const struct model *m, const char *name)
{
    return model_find(m, str_from(name)) >= 0;
}

/* ---- numbers ---- */

/* Two taps, one input, one unit; gates i f c o. */
static void keras(struct model *m, const char *framework, bool biased)
{
    model_init(m);
    m->framework = str_from(framework);
    toy_add(m, "c.l0.kernel", 1, 2, 1, 4, -1);
    toy_add(m, "c.l0.recurrent_kernel", 11, 2, 1, 4, -1);
    if (biased)
        toy_add(m, "c.l0.bias", 21, 4, -1);
    toy_done(m);
}

static void one_bias_to_two(void **state)
{
    static const char *const from[] = {"keras", "tensorflow"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct model m, f, h, c, back;
        keras(&m, from[i], true);
        becomes(&m, (struct map_opt){.to = "flax"}, &f); /* i g f o, f + 1 */
        HOLDS(&f, "params.c.l0.ih.kernel", 1, 3, 2, 4, 5, 7, 6, 8);
        HOLDS(&f, "params.c.l0.hh.kernel", 11, 13, 12, 14, 15, 17, 16, 18);
        HOLDS(&f, "params.c.l0.ih.bias", 21, 23, 22, 24);
        HOLDS(&f, "params.c.l0.hh.bias", 0, 0, -1, 0);
        becomes(&m, (struct map_opt){.to = "haiku"}, &h);
        HOLDS(&h, "params.c/l0/input_to_hidden.w", 1, 3, 2, 4, 5, 7, 6, 8);
        HOLDS(&h, "params.c/l0/hidden_to_hidden.w", 11, 13, 12, 14, 15, 17, 16, 18);
        HOLDS(&h, "params.c/l0/input_to_hidden.b", 21, 23, 22, 24);
        HOLDS(&h, "params.c/l0/hidden_to_hidden.b", 0, 0, -1, 0);
        becomes(&m, (struct map_opt){.to = "canonical"}, &c);
        HOLDS(&c, "c.l0.weight_ih", 1, 5, 2, 6, 3, 7, 4, 8);
        HOLDS(&c, "c.l0.weight_hh", 11, 15, 12, 16, 13, 17, 14, 18);
        HOLDS(&c, "c.l0.bias_ih", 21, 22, 23, 24);
        HOLDS(&c, "c.l0.bias_hh", 0, -1, 0, 0);
        becomes(&c, (struct map_opt){.to = "source"}, &back);
        same(&m, &back);
        model_free(&back);
        becomes(&f, (struct map_opt){.from = "flax", .to = from[i]}, &back);
        same(&m, &back);
        model_free(&back);
        becomes(&h, (struct map_opt){.from = "haiku", .to = from[i]}, &back);
        same(&m, &back);
        model_free(&back);
        model_free(&c);
        model_free(&h);
        model_free(&f);
        model_free(&m);
    }
}

static void flax(struct model *m, bool biased)
{
    model_init(m);
    toy_add(m, "params.c.ih.kernel", 1, 2, 1, 4, -1);
    toy_add(m, "params.c.hh.kernel", 11, 2, 1, 4, -1);
    if (biased) {
        toy_add(m, "params.c.ih.bias", 21, 4, -1);
        toy_add(m, "params.c.hh.bias", 31, 4, -1);
    }
    toy_done(m);
}

static void two_biases_to_one(void **state)
{
    (void)state;
    struct model m, k, h, c, back;
    flax(&m, true);
    becomes(&m, (struct map_opt){.to = "keras"}, &k);
    HOLDS(&k, "c.kernel", 1, 3, 2, 4, 5, 7, 6, 8);
    HOLDS(&k, "c.bias", 52, 23 + 33 + 1, 54, 58);
    becomes(&k, (struct map_opt){.from = "keras", .to = "flax"}, &back); /* the sum stays one */
    HOLDS(&back, "params.c.l0.ih.bias", 52, 54, 57, 58);
    HOLDS(&back, "params.c.l0.hh.bias", 0, 0, -1, 0);
    model_free(&back);
    /* exact where both are kept */
    float *b = values(&m, "params.c.hh.bias");
    b[2] = 1e-9F;
    becomes(&m, (struct map_opt){.to = "haiku"}, &h);
    HOLDS(&h, "params.c/hidden_to_hidden.b", 31, 32, 1e-9F, 34);
    becomes(&h, (struct map_opt){.from = "haiku", .to = "flax"}, &back);
    same(&m, &back);
    model_free(&back);
    becomes(&m, (struct map_opt){.to = "canonical"}, &c);
    HOLDS(&c, "c.bias_hh", 31, 1e-9F, 32, 34);
    becomes(&c, (struct map_opt){.to = "flax"}, &back);
    same(&m, &back);
    model_free(&back);
    model_free(&c);
    model_free(&h);
    model_free(&k);
    model_free(&m);
}

/* What is added when it runs is added without a bias too. */
static void no_biases(void **state)
{
    (void)state;
    struct model m, out, back, like;
    flax(&m, false);
    becomes(&m, (struct map_opt){.to = "keras"}, &out);
    HOLDS(&out, "c.bias", 0, 1, 0, 0);
    model_free(&out);
    becomes(&m, (struct map_opt){.to = "haiku"}, &out); /* which always has them */
    HOLDS(&out, "params.c/input_to_hidden.b", 0, 0, 0, 0);
    HOLDS(&out, "params.c/hidden_to_hidden.b", 0, 0, 0, 0);
    model_free(&out);
    becomes(&m, (struct map_opt){.to = "canonical"}, &out);
    assert_false(has(&out, "c.bias_ih") || has(&out, "c.bias_hh"));
    becomes(&out, (struct map_opt){.to = "flax"}, &back);
    same(&m, &back);
    model_free(&back);
    model_free(&out);
    model_free(&m);

    keras(&m, "keras", false);
    becomes(&m, (struct map_opt){.to = "flax"}, &out);
    HOLDS(&out, "params.c.l0.ih.bias", 0, 0, 0, 0);
    HOLDS(&out, "params.c.l0.hh.bias", 0, 0, -1, 0);
    becomes(&out, (struct map_opt){.from = "flax", .to = "keras"}, &back);
    HOLDS(&back, "c.l0.bias", 0, 0, 0, 0);
    model_free(&back);
    model_free(&out);
    flax(&like, false); /* a cell without biases adds its 1 all the same */
    refused(&m, (struct map_opt){.to = "flax", .like = &like}, "value-missing");
    model_free(&like);
    flax(&like, true);
    becomes(&m, (struct map_opt){.to = "flax", .like = &like}, &out);
    HOLDS(&out, "params.c.hh.bias", 0, 0, -1, 0);
    model_free(&out);
    model_free(&like);
    model_free(&m);
}

/* Element (h, w, input, gate * units + unit) of a kernel lies where canonical says. */
static void axes_of_every_rank(void **state)
{
    static const uint64_t k[] = {2, 3, 4};
    (void)state;
    for (size_t rank = 1; rank <= 3; rank++) {
        struct model m, c, f;
        uint64_t ih[5], hh[5], n = 1;
        const uint64_t in = 3, units = 2;
        for (size_t d = 0; d < rank; d++) {
            ih[d] = hh[d] = k[d];
            n *= k[d];
        }
        ih[rank] = in;
        hh[rank] = units;
        ih[rank + 1] = hh[rank + 1] = 4 * units;
        model_init(&m);
        m.framework = STR("keras");
        toy_tensor(&m, "c.kernel", 0, ih, rank + 2);
        toy_tensor(&m, "c.recurrent_kernel", 1000, hh, rank + 2);
        toy_done(&m);
        becomes(&m, (struct map_opt){.to = "canonical"}, &c);
        const struct tensor *t = &c.tensor[toy_find(&c, "c.l0.weight_ih")];
        assert_true(t->n_dims == rank + 2 && t->dim[0] == 4 * units && t->dim[1] == in);
        for (size_t d = 0; d < rank; d++)
            assert_int_equal(t->dim[2 + d], k[d]);
        const float *v = values(&c, "c.l0.weight_ih"), *h = values(&c, "c.l0.weight_hh");
        for (uint64_t o = 0; o < 4 * units; o++)
            for (uint64_t p = 0; p < n; p++) {
                for (uint64_t i = 0; i < in; i++)
                    assert_true(v[(o * in + i) * n + p] == (float)((p * in + i) * 4 * units + o));
                for (uint64_t i = 0; i < units; i++)
                    assert_true(h[(o * units + i) * n + p] ==
                                (float)(1000 + (p * units + i) * 4 * units + o));
            }
        becomes(&m, (struct map_opt){.to = "flax"}, &f);
        static const uint64_t from[] = {0, 2, 1, 3}; /* i g f o from i f g o */
        v = values(&f, "params.c.l0.ih.kernel");
        for (uint64_t p = 0; p < n * in; p++)
            for (uint64_t o = 0; o < 4 * units; o++)
                assert_true(v[p * 4 * units + o] ==
                            (float)(p * 4 * units + from[o / units] * units + o % units));
        model_free(&f);
        model_free(&c);
        model_free(&m);
    }
}

/* Moments ride: a sum's is that of either part, and what is added has none. */
static void moments(void **state)
{
    (void)state;
    struct model m, k;
    flax(&m, true);
    static const char *const name[] = {"ih", "hh"};
    for (int i = 0; i < 2; i++) {
        char text[64] = "m1.params.c.ih.bias";
        memcpy(text + 12, name[i], 2);
        uint32_t t = toy_add(&m, text, 100, 4, -1);
        m.tensor[t].role = ROLE_MOMENT1;
        m.tensor[t].of = toy_find(&m, text + 3);
    }
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "keras"}, &k);
    HOLDS(&k, "m1.c.bias", 100, 102, 101, 103);
    model_free(&k);
    model_free(&m);
    keras(&m, "keras", true);
    uint32_t t = toy_add(&m, "m1.c.l0.bias", 100, 4, -1);
    m.tensor[t].role = ROLE_MOMENT1;
    m.tensor[t].of = toy_find(&m, "c.l0.bias");
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "flax"}, &k);
    HOLDS(&k, "m1.params.c.l0.ih.bias", 100, 102, 101, 103);
    HOLDS(&k, "m1.params.c.l0.hh.bias", 100, 102, 101, 103);
    model_free(&k);
    model_free(&m);
}

/* ---- recognition ---- */

static void kinds_are(const struct model *m, const char *framework, const char *path,
                      enum layer_kind kind, uint8_t rank)
{
    struct arena a = ARENA_INIT;
    struct layers l;
    assert_int_equal(framework_find(str_from(framework))->layers(m, &a, &l, &err), ST_OK);
    size_t n = 0;
    for (size_t i = 0; i < l.n; i++)
        if (str_is(l.layer[i].path, path)) {
            n++;
            if (l.layer[i].kind != kind || l.layer[i].rank != rank)
                fail_msg("%s: a %s of rank %u", path, layer_kind_name(l.layer[i].kind),
                         (unsigned)l.layer[i].rank);
        }
    assert_int_equal(n, 1);
    arena_free(&a);
}

static void named(void **state)
{
    (void)state;
    struct model m;
    model_init(&m); /* by numbers, in both directions, by names, 1-D and 3-D */
    m.framework = STR("keras");
    toy_add(&m, "layers.conv_lstm2d.cell.vars.0", 0, 3, 2, 3, 16, -1);
    toy_add(&m, "layers.conv_lstm2d.cell.vars.1", 0, 3, 2, 4, 16, -1);
    toy_add(&m, "layers.conv_lstm2d.cell.vars.2", 0, 16, -1);
    toy_add(&m, "layers.bidirectional.forward_layer.cell.vars.0", 0, 3, 3, 16, -1);
    toy_add(&m, "layers.bidirectional.forward_layer.cell.vars.1", 0, 3, 4, 16, -1);
    toy_add(&m, "layers.bidirectional.backward_layer.cell.vars.0", 0, 3, 3, 16, -1);
    toy_add(&m, "layers.bidirectional.backward_layer.cell.vars.1", 0, 3, 4, 16, -1);
    toy_add(&m, "layers.lstm.cell.vars.0", 0, 3, 16, -1);
    toy_add(&m, "layers.lstm.cell.vars.1", 0, 4, 16, -1);
    toy_add(&m, "layers.lstm.cell.vars.2", 0, 16, -1);
    toy_done(&m);
    kinds_are(&m, "keras", "conv_lstm2d.l0", LAYER_CONV_LSTM, 2);
    kinds_are(&m, "keras", "bidirectional.l0", LAYER_CONV_LSTM, 1);
    kinds_are(&m, "keras", "bidirectional.l0_reverse", LAYER_CONV_LSTM, 1);
    kinds_are(&m, "keras", "lstm.l0", LAYER_LSTM, 0);
    model_free(&m);
    model_init(&m);
    m.framework = STR("keras");
    toy_add(&m, "enc.model.enc.conv_lstm_cell.kernel", 0, 3, 3, 3, 2, 8, -1);
    toy_add(&m, "enc.model.enc.conv_lstm_cell.recurrent_kernel", 0, 3, 3, 3, 2, 8, -1);
    toy_done(&m);
    kinds_are(&m, "keras", "enc.l0", LAYER_CONV_LSTM, 3);
    model_free(&m);
    model_init(&m);
    m.framework = STR("tensorflow");
    toy_add(&m, "layer_with_weights-0.cell.kernel", 0, 3, 3, 3, 16, -1);
    toy_add(&m, "layer_with_weights-0.cell.recurrent_kernel", 0, 3, 3, 4, 16, -1);
    toy_done(&m);
    kinds_are(&m, "tensorflow", "layer_with_weights-0.l0", LAYER_CONV_LSTM, 2);
    model_free(&m);
    model_init(&m);
    toy_add(&m, "params.ConvLSTMCell_0.ih.kernel", 0, 3, 3, 3, 16, -1);
    toy_add(&m, "params.ConvLSTMCell_0.hh.kernel", 0, 3, 3, 4, 16, -1);
    toy_done(&m);
    kinds_are(&m, "flax", "ConvLSTMCell_0", LAYER_CONV_LSTM, 2);
    model_free(&m);
    model_init(&m); /* the cell alone */
    toy_add(&m, "params.ih.kernel", 0, 3, 3, 16, -1);
    toy_add(&m, "params.hh.kernel", 0, 3, 4, 16, -1);
    toy_done(&m);
    kinds_are(&m, "flax", "", LAYER_CONV_LSTM, 1);
    model_free(&m);
    model_init(&m);
    m.framework = STR("haiku");
    toy_add(&m, "params.core/~/conv2_d_lstm/input_to_hidden.w", 0, 3, 3, 3, 16, -1);
    toy_add(&m, "params.core/~/conv2_d_lstm/input_to_hidden.b", 0, 16, -1);
    toy_add(&m, "params.core/~/conv2_d_lstm/hidden_to_hidden.w", 0, 3, 3, 4, 16, -1);
    toy_add(&m, "params.core/~/conv2_d_lstm/hidden_to_hidden.b", 0, 16, -1);
    toy_done(&m);
    kinds_are(&m, "haiku", "core.conv2_d_lstm", LAYER_CONV_LSTM, 2);
    model_free(&m);
}

/* Two kernels, their names and shapes, and whether something stands beside them. */
static void none_of(const char *a, const char *b, const uint64_t *x, const uint64_t *y, size_t n,
                    const char *more, const char *framework)
{
    struct arena arena = ARENA_INIT;
    struct layers l;
    struct model m;
    model_init(&m);
    m.framework = str_from(framework);
    toy_tensor(&m, a, 0, x, n);
    toy_tensor(&m, b, 0, y, n);
    if (more)
        toy_add(&m, more, 0, 4, -1);
    toy_done(&m);
    assert_int_equal(framework_find(str_from(framework))->layers(&m, &arena, &l, &err), ST_OK);
    for (size_t i = 0; i < l.n; i++)
        if (l.layer[i].kind == LAYER_CONV_LSTM || (l.layer[i].kinds & KIND_BIT(LAYER_CONV_LSTM)))
            fail_msg("%s: %s and %s", framework, a, b);
    assert_int_equal(l.n_maybe, 0);
    model_free(&m);
    arena_free(&arena);
}

static void no_conv_lstm(void **state)
{
    static const uint64_t x[] = {3, 3, 5, 16}, y[] = {3, 3, 4, 16}, wide[] = {3, 3, 8, 16},
                          three[] = {3, 3, 4, 12}, tap[] = {3, 1, 4, 16}, flat[] = {5, 16},
                          none[] = {0, 3, 4, 16}, state_[] = {4, 16};
    static const struct {
        const char *framework, *a, *b, *more;
    } of[] = {{"flax", "params.c.ih.kernel", "params.c.hh.kernel", "params.c.norm.scale"},
              {"haiku", "params.c/input_to_hidden.w", "params.c/hidden_to_hidden.w",
               "params.c/norm.scale"},
              {"keras", "c.cell.kernel", "c.cell.recurrent_kernel", "c.cell.peephole"}};
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        none_of(of[i].a, of[i].b, x, wide, 4, NULL, of[i].framework);  /* the state's width */
        none_of(of[i].a, of[i].b, x, three, 4, NULL, of[i].framework); /* three gates */
        none_of(of[i].a, of[i].b, x, tap, 4, NULL, of[i].framework);   /* other kernels */
        none_of(of[i].a, of[i].b, flat, state_, 2, NULL, of[i].framework);
        none_of(of[i].a, of[i].b, x, none, 4, NULL, of[i].framework);
        none_of(of[i].a, of[i].b, none, y, 4, NULL, of[i].framework);
        none_of(of[i].a, of[i].b, x, y, 4, of[i].more, of[i].framework); /* another cell */
    }
    /* names of others */
    none_of("params.c.conv1.kernel", "params.c.conv2.kernel", x, y, 4, NULL, "flax");
    none_of("params.c.ih.kernel", "params.d.hh.kernel", x, y, 4, NULL, "flax");
    none_of("params.c/conv2_d.w", "params.c/conv2_d_1.w", x, y, 4, NULL, "haiku");
    none_of("ih.kernel", "hh.kernel", x, y, 4, NULL, "nnx"); /* which has no such cell */
    none_of("c.weight_ih", "c.weight_hh", x, y, 4, NULL, "pytorch");
}

/* ---- targets without one ---- */

static void unlike(void **state)
{
    static const char *const to[] = {"pytorch", "equinox", "nnx"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct model m, out;
        struct plan p;
        keras(&m, "keras", true);
        assert_int_equal(map_to(&p, &m, (struct map_opt){.to = to[i]}), ST_OK);
        assert_int_equal(p.n_notes, 1);
        assert_true(str_is(p.note[0].layer, "c.l0"));
        assert_non_null(strstr(p.note[0].text.p, " has no conv_lstm"));
        toy_freeze(&p, &out);
        same(&m, &out);
        plan_free(&p);
        model_free(&out);
        model_free(&m);
    }
}

/* ---- what a config tells ---- */

static const char config[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
    "{\"class_name\":\"ConvLSTM1D\",\"config\":{\"name\":\"c\",\"padding\":\"%s\",\"strides\":[%d],"
    "\"dilation_rate\":[%d],\"activation\":\"%s\",\"recurrent_activation\":\"%s\"}}]}}";

static enum status told(const char *padding, int stride, int dilation, const char *activation,
                        const char *gates, const char *to, const char *what)
{
    struct model m;
    struct plan p;
    struct attachment *a;
    model_init(&m);
    m.framework = STR("keras");
    toy_add(&m, "c.c.kernel", 1, 2, 1, 4, -1);
    toy_add(&m, "c.c.recurrent_kernel", 11, 2, 1, 4, -1);
    toy_add(&m, "c.c.bias", 21, 4, -1);
    assert_int_equal(model_attach(&m, &a, &err), ST_OK);
    struct str text = arena_fmt(&m.arena, config, padding, stride, dilation, activation, gates);
    a->name = STR("model_config.json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
    toy_done(&m);
    enum status st = map_to(&p, &m, (struct map_opt){.to = to});
    if (st != ST_OK) {
        assert_string_equal(err.code, "ledger");
        assert_non_null(strstr(err.reason, what));
        plan_free(&p);
        const char *const allowed[] = {what, NULL};
        assert_int_equal(map_to(&p, &m, (struct map_opt){.to = to, .allow_drop = allowed}), ST_OK);
    } else if (*what) {
        bool found = false;
        for (size_t i = 0; i < p.n_notes; i++)
            found = found || strcmp(p.note[i].setting, what) == 0;
        assert_true(found);
    } else {
        assert_int_equal(p.n_notes, 0);
    }
    plan_free(&p);
    model_free(&m);
    return st;
}

static void settings(void **state)
{
    (void)state;
    assert_int_equal(told("same", 1, 1, "tanh", "sigmoid", "flax", ""), ST_OK);
    assert_int_equal(told("valid", 1, 1, "tanh", "sigmoid", "flax", "c.l0.padding"), ST_CANNOT);
    assert_int_equal(told("same", 2, 1, "tanh", "sigmoid", "flax", "c.l0.stride"), ST_CANNOT);
    assert_int_equal(told("same", 1, 2, "tanh", "sigmoid", "flax", "c.l0.dilation"), ST_CANNOT);
    assert_int_equal(told("same", 2, 1, "tanh", "hard_sigmoid", "tensorflow", "stride"), ST_OK);
    assert_int_equal(told("valid", 1, 1, "tanh", "hard_sigmoid", "tensorflow", ""), ST_OK);
    assert_int_equal(told("same", 1, 1, "relu", "sigmoid", "flax", "c.l0.activation"), ST_CANNOT);
    assert_int_equal(told("same", 1, 1, "tanh", "hard_sigmoid", "flax", "c.l0.gates"), ST_CANNOT);
    assert_int_equal(told("same", 1, 1, "tanh", "sigmoid", "haiku", "batch"), ST_OK);
    assert_int_equal(told("same", 1, 1, "tanh", "sigmoid", "tensorflow", "gates"), ST_OK);
}

/* ---- a step ---- */

static enum verdict verdict_of(const struct model *m, const char *from, const struct model *f,
                               const char *to)
{
    struct validate_report r;
    assert_int_equal(judged(m, from, f, to, "", &r, &err), ST_OK);
    assert_int_equal(r.n, 1);
    enum verdict v = r.overall;
    validate_free(&r);
    return v;
}

/* Of kernels of any extent no tap is passed over: each number of the copy, changed, shows. */
static void every_number_matters(void **state)
{
    static const struct {
        size_t rank;
        uint64_t k[3];
        const char *to;
    } of[] = {{1, {5, 0, 0}, "flax"},
              {1, {4, 0, 0}, "canonical"},
              {2, {3, 2, 0}, "haiku"},
              {3, {1, 2, 3}, "flax"}};
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct model m, f;
        uint64_t dim[5] = {of[i].k[0], of[i].k[1], of[i].k[2]};
        size_t rank = of[i].rank;
        model_init(&m);
        m.framework = STR("keras");
        dim[rank] = 2;
        dim[rank + 1] = 4;
        toy_tensor(&m, "c.kernel", 1, dim, rank + 2);
        dim[rank] = 1;
        toy_tensor(&m, "c.recurrent_kernel", 2, dim, rank + 2);
        toy_add(&m, "c.bias", 3, 4, -1);
        for (size_t t = 0; t < m.n_tensors; t++) {
            float *p = (float *)(uintptr_t)m.storage[m.tensor[t].storage].mem;
            for (uint64_t k = 0; k < tensor_elems(&m.tensor[t]); k++)
                p[k] = sinf(p[k] * 1.7F + (float)t) * 0.4F;
        }
        toy_done(&m);
        becomes(&m, (struct map_opt){.to = of[i].to}, &f);
        assert_int_equal(verdict_of(&m, "keras", &f, of[i].to), VERDICT_EQUAL);
        for (size_t t = 0; t < f.n_tensors; t++) {
            float *p = (float *)(uintptr_t)f.storage[f.tensor[t].storage].mem;
            for (uint64_t k = 0; k < tensor_elems(&f.tensor[t]); k++) {
                float was = p[k];
                p[k] += 0.05F;
                if (verdict_of(&m, "keras", &f, of[i].to) != VERDICT_DIFFERS)
                    fail_msg("%.*s: element %llu does not matter", STR_ARG(f.tensor[t].name),
                             (unsigned long long)k);
                p[k] = was;
            }
        }
        model_free(&f);
        model_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_bias_to_two), cmocka_unit_test(two_biases_to_one),
        cmocka_unit_test(no_biases),       cmocka_unit_test(axes_of_every_rank),
        cmocka_unit_test(moments),         cmocka_unit_test(named),
        cmocka_unit_test(no_conv_lstm),    cmocka_unit_test(unlike),
        cmocka_unit_test(settings),        cmocka_unit_test(every_number_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
