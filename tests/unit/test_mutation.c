/* Every entry of the rule tables, altered one at a time: a conversion by the altered table must be
 * refused, or level layer of validation, which shares nothing with the tables, must not call it
 * equal. All axes that may be equal are equal, so that shapes betray nothing.
 */
#include "convert/map.h"
#include "framework/rules.h"
#include "tests/lib/judged.h"
#include "tests/lib/toy.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef NNFERRY_MUTATE
/* model_type of a config.json beside the model */
static void config_beside(struct model *m, const char *type)
{
    struct attachment *a;
    struct err e;
    struct str text = arena_fmt(&m->arena, "{\"model_type\": \"%s\"}", type);
    assert_int_equal(model_attach(m, &a, &e), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
}

/* type: of a config.json, or NULL */
static void every_kind(struct model *m, bool split, const char *type)
{
    model_init(m);
    if (type && strcmp(type, "gpt2") != 0) {
        toy_add(m, "model.layers.0.self_attn.q_proj.weight", 25, 4, 4, -1);
        toy_add(m, "model.layers.0.input_layernorm.weight", 26, 4, -1);
    } else { /* GPT-2's Conv1D */
        toy_add(m, "h.0.attn.c_attn.weight", 21, 4, 12, -1);
        toy_add(m, "h.0.attn.c_attn.bias", 22, 12, -1);
        toy_add(m, "h.0.attn.c_proj.weight", 23, 4, 4, -1);
        toy_add(m, "h.0.attn.c_proj.bias", 24, 4, -1);
    }
    if (type)
        config_beside(m, type);
    toy_add(m, "fc.weight", 1, 4, 4, -1);
    toy_add(m, "fc.bias", 31, 4, -1);
    toy_add(m, "conv1.weight", 2, 4, 4, 3, -1);
    toy_add(m, "conv1.bias", 32, 4, -1);
    toy_add(m, "conv2.weight", 3, 4, 4, 4, 4, -1);
    toy_add(m, "conv2.bias", 61, 4, -1);
    toy_add(m, "conv3.weight", 4, 4, 4, 4, 4, 4, -1);
    toy_add(m, "conv3.bias", 62, 4, -1);
    toy_add(m, "deconv1.weight", 5, 4, 4, 4, -1);
    toy_add(m, "deconv1.bias", 33, 4, -1);
    toy_add(m, "deconv2.weight", 6, 4, 4, 4, 4, -1);
    toy_add(m, "deconv2.bias", 63, 4, -1);
    toy_add(m, "deconv3.weight", 7, 4, 4, 4, 4, 4, -1);
    toy_add(m, "deconv3.bias", 64, 4, -1);
    toy_add(m, "bn.weight", 8, 4, -1);
    toy_add(m, "bn.bias", 34, 4, -1);
    toy_add(m, "bn.running_mean", 9, 4, -1);
    toy_add(m, "bn.running_var", 10, 4, -1);
    toy_add(m, "layernorm.weight", 11, 4, -1);
    toy_add(m, "layernorm.bias", 35, 4, -1);
    toy_add(m, "groupnorm.weight", 12, 4, -1);
    toy_add(m, "groupnorm.bias", 36, 4, -1);
    toy_add(m, "embed.weight", 13, 4, 4, -1);
    if (split) {
        toy_add(m, "attn.q_proj_weight", 14, 4, 4, -1);
        toy_add(m, "attn.k_proj_weight", 114, 4, 4, -1);
        toy_add(m, "attn.v_proj_weight", 214, 4, 4, -1);
    } else {
        toy_add(m, "attn.in_proj_weight", 14, 12, 4, -1);
    }
    toy_add(m, "attn.in_proj_bias", 37, 12, -1);
    toy_add(m, "attn.out_proj.weight", 15, 4, 4, -1);
    toy_add(m, "attn.out_proj.bias", 38, 4, -1);
    /* weights of a size that tells in float32 */
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        float *p = (float *)(uintptr_t)m->storage[t->storage].mem;
        for (uint64_t k = 0; k < tensor_elems(t); k++)
            p[k] = str_ends(t->name, STR("running_var")) ? 0.5f + (float)(k % 3)
                                                         : sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

/* Cells of a route: by layers of a stack, alone, without a GRU or with one whose own bias of the
 * new gate is zero, a GRU that resets before as Haiku has it, an LSTM of one Dense a side as NNX, a
 * convolutional one as Flax has it, what an ONNX graph's nodes are seen as.
 */
enum cells { STACKED, ALONE, NO_GRU, NO_RNN, NO_NEW_BIAS, BEFORE, FUSED, CONV, ONNX };
static void every_cell(struct model *m, enum cells how)
{
    static const struct {
        const char *name;
        enum cells how;
        uint64_t dim[2];
    } all[] = {
        {"lstm.weight_ih_l0", STACKED, {16, 4}},
        {"lstm.weight_hh_l0", STACKED, {16, 4}},
        {"lstm.bias_ih_l0", STACKED, {16, 0}},
        {"lstm.bias_hh_l0", STACKED, {16, 0}},
        {"rnn.weight_ih_l0_reverse", NO_RNN, {4, 4}},
        {"rnn.weight_hh_l0_reverse", NO_RNN, {4, 4}},
        {"rnn.bias_ih_l0_reverse", NO_RNN, {4, 0}},
        {"rnn.bias_hh_l0_reverse", NO_RNN, {4, 0}},
        {"gru.weight_ih_l0", NO_GRU, {12, 4}},
        {"gru.weight_hh_l0", NO_GRU, {12, 4}},
        {"gru.bias_ih_l0", NO_GRU, {12, 0}},
        {"gru.bias_hh_l0", NO_GRU, {12, 0}},
        {"lstm.weight_ih", ALONE, {16, 4}},
        {"lstm.weight_hh", ALONE, {16, 4}},
        {"lstm.bias_ih", ALONE, {16, 0}},
        {"lstm.bias_hh", ALONE, {16, 0}},
        {"rnn.weight_ih", ALONE, {4, 4}},
        {"rnn.weight_hh", ALONE, {4, 4}},
        {"rnn.bias_ih", ALONE, {4, 0}},
        {"rnn.bias_hh", ALONE, {4, 0}},
        {"gru.weight_ih", ALONE, {12, 4}},
        {"gru.weight_hh", ALONE, {12, 4}},
        {"gru.bias_ih", ALONE, {12, 0}},
        {"gru.bias_hh", ALONE, {12, 0}},
        {"params.gru.w_i", BEFORE, {4, 12}},
        {"params.gru.w_h", BEFORE, {4, 12}},
        {"params.gru.b", BEFORE, {12, 0}},
        {"lstm.dense_i.kernel", FUSED, {4, 16}},
        {"lstm.dense_h.kernel", FUSED, {4, 16}},
        {"lstm.dense_h.bias", FUSED, {16, 0}},
    };
    static const struct {
        const char *name;
        uint64_t dim[4];
        size_t n;
    } conv[] = {{"params.c.ih.kernel", {4, 4, 4, 16}, 4},
                {"params.c.hh.kernel", {4, 4, 4, 16}, 4},
                {"params.c.ih.bias", {16}, 1},
                {"params.c.hh.bias", {16}, 1}};
    model_init(m);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool stack = how == STACKED || how == NO_GRU || how == NO_RNN || how == NO_NEW_BIAS;
        bool more = (all[i].how == NO_GRU || all[i].how == NO_RNN) && all[i].how != how;
        if (stack ? all[i].how == STACKED || more : all[i].how == how)
            toy_tensor(m, all[i].name, (double)(i * 7 + 1), all[i].dim, all[i].dim[1] ? 2 : 1);
    }
    for (size_t i = 0; i < sizeof conv / sizeof *conv && how == CONV; i++)
        toy_tensor(m, conv[i].name, (double)(i * 7 + 1), conv[i].dim, conv[i].n);
    static const char *const gates[] = {"lstm i o f c", "gru z r h", "rnn i"};
    for (size_t k = 0; how == ONNX && k < 3; k++) {
        const char *at = strchr(gates[k], ' ');
        for (const char *g = at + 1; *g; g += g[1] ? 2 : 1) {
            static const char *const word[] = {"W", "R", "Wb", "Rb"};
            for (size_t w = 0; w < 4; w++) {
                char name[32];
                snprintf(name, sizeof name, "%.*s.%s[%c]", (int)(at - gates[k]), gates[k], word[w],
                         *g);
                toy_tensor(m, name, (double)(m->n_tensors * 5 + 3), (uint64_t[]){4, 4},
                           w < 2 ? 2 : 1);
            }
        }
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        float *p = (float *)(uintptr_t)m->storage[t->storage].mem;
        bool zero = how == NO_NEW_BIAS && str_is(t->name, "gru.bias_hh_l0");
        for (uint64_t k = 0; k < tensor_elems(t); k++)
            p[k] = zero && k >= 8 ? 0 : sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

/* What only Keras's files have: depthwise kernels by channels. */
static void depthwise(struct model *m, const char *framework)
{
    model_init(m);
    m->framework = str_from(framework);
    toy_add(m, "dw1.depthwise_kernel", 1, 4, 4, 4, -1);
    toy_add(m, "dw1.bias", 2, 16, -1);
    toy_add(m, "dw2.depthwise_kernel", 3, 4, 4, 4, 4, -1);
    toy_add(m, "dw3.depthwise_kernel", 4, 4, 4, 4, 4, 4, -1);
    toy_add(m, "sep.depthwise_kernel", 5, 4, 4, 4, 4, -1);
    toy_add(m, "sep.pointwise_kernel", 6, 1, 1, 16, 16, -1);
    toy_done(m);
}

/* ... and attention with fewer heads of keys and values than of queries. */
static void grouped(struct model *m, const char *framework)
{
    static const struct {
        const char *name;
        uint64_t dim[3];
    } part[] = {{"a.query", {4, 4, 4}},
                {"a.key", {4, 2, 4}},
                {"a.value", {4, 2, 4}},
                {"a.attention_output", {4, 4, 4}}};
    model_init(m);
    m->framework = str_from(framework);
    for (size_t i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.kernel", part[i].name);
        toy_tensor(m, name, (double)(7 * i + 1), part[i].dim, 3);
        snprintf(name, sizeof name, "%s.bias", part[i].name);
        toy_tensor(m, name, (double)(7 * i + 4), part[i].dim + (i == 3 ? 2 : 1), i == 3 ? 1 : 2);
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        float *p = (float *)(uintptr_t)m->storage[m->tensor[i].storage].mem;
        for (uint64_t k = 0; k < tensor_elems(&m->tensor[i]); k++)
            p[k] = sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

/* A dense layer over several axes, with a Keras config for it, which tells its axes there. */
static void over_axes(struct model *m)
{
    static const char text[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
        "{\"class_name\":\"EinsumDense\",\"config\":{\"name\":\"fc\",\"equation\":"
        "\"xabc,abcde->xde\",\"output_shape\":[null,4,5],\"bias_axes\":\"de\"}}]}}";
    struct attachment *a;
    struct err e;
    model_init(m);
    assert_int_equal(model_attach(m, &a, &e), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
    toy_add(m, "params.fc.kernel", 1, 2, 3, 2, 4, 5, -1);
    toy_add(m, "params.fc.bias", 2, 4, 5, -1);
    for (size_t i = 0; i < m->n_tensors; i++) {
        float *p = (float *)(uintptr_t)m->storage[m->tensor[i].storage].mem;
        for (uint64_t k = 0; k < tensor_elems(&m->tensor[i]); k++)
            p[k] = sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

enum answer { REFUSED, EQUAL, NOT_EQUAL };

/* Converts and validates; *out, where asked for, is the converted model. */
static enum answer judge(const struct model *m, const char *from, const char *to, const char *rules,
                         struct model *out)
{
    struct plan p;
    struct model f;
    struct validate_report r;
    struct err e = {0};
    /* as the command maps: the numbers do not hang on the reasons */
    struct map_opt o = {.from = from, .to = to, .rules = str_from(rules), .unexplained = true};
    plan_init(&p, m);
    enum status st = map_plan(&p, &o, NULL, 0, NULL, &e);
    if (st != ST_OK) {
        plan_free(&p);
        return REFUSED;
    }
    toy_freeze(&p, &f);
    for (size_t i = 0; i < m->n_attachments; i++) {
        struct attachment *a;
        assert_int_equal(model_attach(&f, &a, &e), ST_OK);
        *a = m->attachment[i]; /* f is freed before m */
    }
    st = judged(m, from, &f, to, rules, &r, &e);
    if (st == ST_OK && getenv("SHOW"))
        for (size_t i = 0; i < r.n; i++)
            print_message("  %.*s %.*s %s %.*s\n", STR_ARG(r.layer[i].path_a),
                          STR_ARG(r.layer[i].path_b), verdict_name(r.layer[i].verdict),
                          STR_ARG(r.layer[i].why));
    if (st != ST_OK)
        print_message("%s: %s\n", e.code ? e.code : "-", e.reason);
    enum answer a = st != ST_OK ? NOT_EQUAL : r.overall == VERDICT_EQUAL ? EQUAL : NOT_EQUAL;
    validate_free(&r);
    plan_free(&p);
    if (out)
        *out = f;
    else
        model_free(&f);
    return a;
}

/* What weights do not tell, by the framework that PyTorch is mapped to: there, and back. */
struct route {
    const char *to, *there, *kept, *back;
    const char *from, *type; /* NULL: "pytorch", without a config */
};
#define CONVS "kind conv2 = conv\nkind conv3 = conv\n" /* even, and all axes are equal */
#define HEADS "heads attn = 2\n" CONVS
#define KEPT "kind deconv* = conv_transpose transpose_kernel\n"
static const struct route routes[] = {
    {"flax", HEADS, HEADS KEPT, "", NULL, NULL},
    {"keras", HEADS, HEADS KEPT, "", NULL, NULL},
    {"tensorflow", HEADS, HEADS KEPT, "", NULL, NULL},
    {"equinox", CONVS, CONVS, "", NULL, NULL},
    {"haiku", "rank bn = 2\n" CONVS, "rank bn = 2\n" CONVS, "", NULL, NULL},
    {"haiku", "rank bn = 3\n" CONVS, "rank bn = 3\n" CONVS, "", NULL, NULL},
    {"haiku", "rank bn = 4\n" CONVS, "rank bn = 4\n" CONVS, "", NULL, NULL},
    {"haiku", "rank bn = 5\n" CONVS, "rank bn = 5\n" CONVS, "", NULL, NULL},
    {"hf_flax", HEADS, HEADS KEPT, "", "hf", "gpt2"},
    {"hf_flax", HEADS, HEADS KEPT, "", "hf", "llama"},
    {"hf_flax", HEADS, HEADS KEPT, "", "hf", "gemma"},
};
#define N_ROUTES (sizeof routes / sizeof *routes)

static const char *from_of(const struct route *w)
{
    return w->from ? w->from : "pytorch";
}

static void nothing_altered(void **state)
{
    (void)state;
    struct model m, f;
    for (size_t r = 0; r < N_ROUTES; r++)
        for (int split = 0; split < 2; split++) {
            const struct route *w = &routes[r];
            every_kind(&m, split, w->type);
            assert_int_equal(judge(&m, from_of(w), w->to, w->there, &f), EQUAL);
            assert_int_equal(judge(&f, w->to, from_of(w), w->back, NULL), EQUAL);
            model_free(&f);
            model_free(&m);
        }
}

/* Names and shapes: leaves that compute nothing (counts, hidden averages) show in nothing else. */
static bool alike(const struct model *a, const struct model *b)
{
    if (a->n_tensors != b->n_tensors)
        return false;
    for (size_t i = 0; i < a->n_tensors; i++) {
        int64_t k = model_find(b, a->tensor[i].name);
        if (k < 0 || a->tensor[i].n_dims != b->tensor[k].n_dims ||
            memcmp(a->tensor[i].dim, b->tensor[k].dim,
                   a->tensor[i].n_dims * sizeof *a->tensor[i].dim) != 0)
            return false;
    }
    return true;
}

/* Refused, or another answer, or other names or shapes than `want`? */
static bool tells(const struct model *m, const char *from, const char *to, const char *rules,
                  const struct model *want)
{
    struct model got;
    enum answer a = judge(m, from, to, rules, &got);
    if (a == REFUSED)
        return true;
    bool told = a != EQUAL || !alike(&got, want);
    model_free(&got);
    return told;
}

/* A batch norm that counts its updates, as canonical has it. */
static void counted(struct model *m)
{
    model_init(m);
    toy_add(m, "bn.running_mean", 0, 4, -1);
    toy_add(m, "bn.running_var", 1, 4, -1);
    toy_counter(m, "bn.updates", 1 << 30);
    m->tensor[2].role = ROLE_COUNTER;
    toy_done(m);
}

/* Slopes of a PReLU: as Keras and Equinox have them, of as many axes as a rule says, or as torch.
 */
static void slopes(struct model *m, const char *framework, const struct leaf_rule *l)
{
    uint64_t dim[4] = {1, 1, 1, 1};
    size_t n = l->rank ? l->rank : 1;
    model_init(m);
    m->framework = str_from(framework);
    for (size_t d = 0; d < n; d++)
        dim[d] = l->variant == FORM_MAP || (d + 1 == n && l->variant != FORM_ONE) ? 4 : 1;
    toy_tensor(m, l->rank ? "prelu.alpha" : "prelu.weight", 3, dim, n);
    float *p = (float *)(uintptr_t)m->storage[0].mem;
    for (uint64_t k = 0; k < tensor_elems(&m->tensor[0]); k++)
        p[k] = sinf(p[k] * 1.7f) * 0.6f;
    toy_done(m);
}

/* Keras and Equinox know how many axes the input has; the others are told, or need not know. */
static bool slopes_show(const struct framework *fw, int i)
{
    const struct leaf_rule *l = &fw->rules->leaf[i];
    static const char *const rank[] = {"rank prelu = 2\n", "rank prelu = 2\n", "rank prelu = 3\n",
                                       "rank prelu = 4\n", "rank prelu = 5\n"};
    bool torch = strcmp(fw->name, "pytorch") == 0 || strcmp(fw->name, "hf") == 0,
         keras = strcmp(fw->name, "keras") == 0 || strcmp(fw->name, "tensorflow") == 0;
    const char *from = torch || keras ? fw->name
                       : l->rank      ? "keras"
                                      : "pytorch",
               *to = !torch && !keras ? fw->name : "equinox",
               *there = l->variant == FORM_ONE && !l->rank ? "" : rank[l->rank],
               *back = torch ? "" : there;
    struct model m, other, again;
    slopes(&m, from, l);
    assert_int_equal(judge(&m, from, to, there, &other), EQUAL);
    assert_int_equal(judge(&other, to, from, back, &again), EQUAL);
    assert_true(rules_mutate(fw, i));
    bool told = tells(&m, from, to, there, &other) || tells(&other, to, from, back, &again);
    assert_true(rules_mutate(fw, -1));
    model_free(&again);
    model_free(&other);
    model_free(&m);
    return told;
}

/* A kernel for each position, window and output, as Flax and Keras have it: all extents 4, but
 * where positions are one axis. */
static void local(struct model *m, const struct framework *fw, uint8_t rank)
{
    bool flax = strcmp(fw->name, "flax") == 0;
    uint64_t dim[5] = {4, 4, 4, 4, 4};
    model_init(m);
    m->framework = str_from(fw->name);
    if (!flax && rank == 2)
        dim[0] = 16;
    toy_tensor(m, flax ? "params.ConvLocal_0.kernel" : "ConvLocal_0.kernel", 1, dim,
               flax ? rank + 2u : 3);
    dim[0] = 4;
    toy_tensor(m, flax ? "params.ConvLocal_0.bias" : "ConvLocal_0.bias", 2, dim, rank + 1u);
    for (size_t i = 0; i < 2; i++) {
        float *p = (float *)(uintptr_t)m->storage[m->tensor[i].storage].mem;
        for (uint64_t k = 0; k < tensor_elems(&m->tensor[i]); k++)
            p[k] = sinf(p[k] * 1.7f + (float)i) * 0.6f;
    }
    toy_done(m);
}

static bool local_shows(const struct framework *fw, int i)
{
    uint8_t rank = fw->rules->leaf[i].rank;
    const char *to = strcmp(fw->name, "flax") != 0 ? "flax"
                     : rank == 3                   ? "canonical"
                                                   : "keras",
               *rules = "flatten ConvLocal_0 = 2\n";
    struct model m, other, again;
    local(&m, fw, rank);
    assert_int_equal(judge(&m, fw->name, to, rules, &other), EQUAL);
    assert_int_equal(judge(&other, to, fw->name, rules, &again), EQUAL);
    assert_true(rules_mutate(fw, i));
    bool told =
        tells(&m, fw->name, to, rules, &other) || tells(&other, to, fw->name, rules, &again);
    assert_true(rules_mutate(fw, -1));
    model_free(&again);
    model_free(&other);
    model_free(&m);
    return told;
}

/* Does the altered entry show, either way of this route? */
static bool shows(const struct route *w, const struct framework *fw, int i)
{
    const struct leaf_rule *l = &fw->rules->leaf[i];
    bool split = l->leaf == LEAF_Q_WEIGHT || l->leaf == LEAF_K_WEIGHT || l->leaf == LEAF_V_WEIGHT;
    const char *there = l->kind == LAYER_CONV_TRANSPOSE && l->variant ? w->kept : w->there;
    struct model m, back, again;
    bool heads =
        l->kind == LAYER_LINEAR && (l->variant == FORM_HEADS_OUT || l->variant == FORM_HEADS_IN);
    if (heads || (l->kind == LAYER_CONV && l->variant == VARIANT_DEPTH)) {
        (heads ? grouped : depthwise)(&m, fw->name);
        assert_int_equal(judge(&m, fw->name, "pytorch", "", &again), EQUAL);
        assert_true(rules_mutate(fw, i));
        bool told = tells(&m, fw->name, "pytorch", "", &again);
        assert_true(rules_mutate(fw, -1));
        model_free(&again);
        model_free(&m);
        return told;
    }
    if (l->kind == LAYER_LINEAR && l->variant == FORM_AXES) {
        const char *to = strcmp(fw->name, "flax") == 0 ? "keras" : fw->name;
        over_axes(&m);
        assert_int_equal(judge(&m, "flax", to, "", &back), EQUAL);
        assert_int_equal(judge(&back, to, "flax", "", &again), EQUAL);
        assert_true(rules_mutate(fw, i));
        bool told = tells(&m, "flax", to, "", &back) || tells(&back, to, "flax", "", &again);
        assert_true(rules_mutate(fw, -1));
        model_free(&back);
        model_free(&again);
        model_free(&m);
        return told;
    }
    if (l->kind == LAYER_BATCHNORM && l->variant == VARIANT_UPDATES) {
        counted(&m);
        assert_int_equal(judge(&m, "canonical", fw->name, "", &again), EQUAL);
        assert_true(rules_mutate(fw, i));
        bool told = tells(&m, "canonical", fw->name, "", &again);
        assert_true(rules_mutate(fw, -1));
        model_free(&again);
        model_free(&m);
        return told;
    }
    if (l->kind == LAYER_PRELU)
        return slopes_show(fw, i);
    if (l->kind == LAYER_CONV_LOCAL)
        return local_shows(fw, i);
    every_kind(&m, split, w->type);
    assert_int_equal(judge(&m, from_of(w), w->to, there, &back), EQUAL);
    assert_int_equal(judge(&back, w->to, from_of(w), w->back, &again), EQUAL);
    assert_true(rules_mutate(fw, i));
    bool told = tells(&m, from_of(w), w->to, there, &back) ||
                tells(&back, w->to, from_of(w), w->back, &again);
    assert_true(rules_mutate(fw, -1));
    model_free(&again);
    model_free(&back);
    model_free(&m);
    return told;
}

static void each_entry(void **state)
{
    (void)state;
    static const char *const frameworks_[] = {"pytorch", "equinox",    "flax", "haiku",
                                              "keras",   "tensorflow", "hf",   "hf_flax"};
    size_t n = 0, survivors = 0;
    for (size_t f = 0; f < sizeof frameworks_ / sizeof *frameworks_; f++) {
        const struct framework *fw = framework_find(str_from(frameworks_[f]));
        for (int i = 0; i < (int)fw->rules->n; i++) {
            const struct leaf_rule *l = &fw->rules->leaf[i];
            bool seen = false;
            for (size_t r = 0; r < N_ROUTES && !seen; r++)
                seen = (strcmp(from_of(&routes[r]), fw->name) == 0 ||
                        strcmp(routes[r].to, fw->name) == 0) &&
                       shows(&routes[r], fw, i);
            n++;
            if (!seen) {
                survivors++;
                print_message("survives: %s entry %d (%s %s)\n", fw->name, i,
                              layer_kind_name(l->kind), leaf_name(l->leaf));
            }
        }
    }
    print_message("%zu entries altered, %zu survivors\n", n, survivors);
    assert_int_equal(survivors, 0);
}

/* From where to where the entries of a framework's cells show, there and back. */
static const struct cell_route {
    const char *of, *from, *to;
    enum cells how;
} cell_routes[] = {
    {"pytorch", "pytorch", "flax", STACKED},
    {"pytorch", "pytorch", "flax", ONNX},
    {"equinox", "pytorch", "equinox", NO_RNN},
    {"pytorch", "pytorch", "flax", ALONE},
    {"flax", "pytorch", "flax", STACKED},
    {"nnx", "pytorch", "nnx", NO_NEW_BIAS},
    {"nnx", "nnx", "pytorch", FUSED},
    {"canonical", "pytorch", "canonical", STACKED},
    {"canonical", "haiku", "canonical", BEFORE},
    {"haiku", "pytorch", "haiku", NO_GRU},
    {"haiku", "haiku", "keras", BEFORE},
    {"keras", "pytorch", "keras", STACKED},
    {"keras", "haiku", "keras", BEFORE},
    {"tensorflow", "pytorch", "tensorflow", STACKED},
    {"tensorflow", "haiku", "tensorflow", BEFORE},
    {"flax", "flax", "keras", CONV},
    {"keras", "flax", "keras", CONV},
    {"tensorflow", "flax", "tensorflow", CONV},
    {"haiku", "flax", "haiku", CONV},
    {"canonical", "flax", "canonical", CONV},
};

/* Does an alteration show on some route? *tried: was there one to make? */
static bool cell_shows(const struct framework *fw, size_t i, enum cell_change what, bool *tried)
{
    bool seen = false;
    *tried = false;
    for (size_t k = 0; k < sizeof cell_routes / sizeof *cell_routes && !seen; k++) {
        const struct cell_route *w = &cell_routes[k];
        struct model m, back, again;
        if (strcmp(w->of, fw->name) != 0)
            continue;
        every_cell(&m, w->how);
        assert_int_equal(judge(&m, w->from, w->to, "", &back), EQUAL);
        bool returns = judge(&back, w->to, w->from, "", &again) == EQUAL;
        if (rules_mutate_cell(fw, i, what)) {
            *tried = true;
            seen = tells(&m, w->from, w->to, "", &back) ||
                   (returns && tells(&back, w->to, w->from, "", &again));
        }
        assert_true(rules_mutate(fw, -1));
        if (returns)
            model_free(&again);
        model_free(&back);
        model_free(&m);
    }
    return seen;
}

static void each_cell_entry(void **state)
{
    (void)state;
    size_t n = 0, survivors = 0;
    for (size_t f = 0; f < n_frameworks; f++)
        for (size_t i = 0; i < frameworks[f]->rules->n_cells; i++) {
            const struct cell_rule *c = &frameworks[f]->rules->cell[i];
            for (int what = 0; what < CELL_CHANGES && c->leaf != LEAF_HR_WEIGHT; what++) {
                if (what == CELL_SUMS && c->variant && !strstr(c->name, "weight") &&
                    strcmp(frameworks[f]->name, "pytorch") != 0)
                    continue; /* sums of what only skeletons ask for: test_cells.c */
                bool tried;
                bool seen = cell_shows(frameworks[f], i, (enum cell_change)what, &tried);
                n += tried;
                if (seen || !tried)
                    continue;
                survivors++;
                print_message("survives: %s cell entry %zu (%s %s), change %d\n",
                              frameworks[f]->name, i, layer_kind_name(c->kind), leaf_name(c->leaf),
                              what);
            }
        }
    print_message("%zu changes of cells' entries, %zu survivors\n", n, survivors);
    assert_int_equal(survivors, 0);
}
#endif

/* In every flavour: an altered entry is an exception of the check build. */
static void no_such_entry(void **state)
{
    (void)state;
    const struct framework *f = framework_find(STR("flax"));
    assert_non_null(f);
    assert_non_null(rules_find(f->rules, LAYER_LINEAR, 0, 0, LEAF_WEIGHT));
    assert_null(rules_find(f->rules, LAYER_LINEAR, 0, 0, LEAF_MEAN));
#ifdef NNFERRY_MUTATE
    assert_false(rules_mutate(f, 100000));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_such_entry),
#ifdef NNFERRY_MUTATE
        cmocka_unit_test(nothing_altered),
        cmocka_unit_test(each_entry),
        cmocka_unit_test(each_cell_entry),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
