/* Keras and TensorFlow: what a layer is called, what its numbered variables are, kernels that are
 * asked about, depthwise and separable convolutions, what a skeleton lends.
 */
#include "convert/map.h"
#include "framework/keras_names.h"
#include "framework/rules.h"
#include "model/roles.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, like;
static struct plan p;
static struct arena arena;
static struct layers found;
static struct err err;
static struct buf asked;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&like);
    m.framework = like.framework = STR("keras");
    asked = (struct buf)BUF_INIT;
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    model_free(&m);
    model_free(&like);
    buf_free(&asked);
    return 0;
}

static void attach(struct model *x, const char *name, const char *text)
{
    struct attachment *a;
    assert_int_equal(model_attach(x, &a, &err), ST_OK);
    a->name = str_from(name);
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

static void meta(struct model *x, const char *key, const char *value)
{
    assert_int_equal(model_meta_add(x, str_from(key), str_from(value), &err), ST_OK);
}

static void done(struct model *x)
{
    toy_done(x);
    assert_int_equal(roles_by_name(x, &err), ST_OK);
}

static void recognise(const char *framework)
{
    done(&m);
    const struct framework *f = framework_find(str_from(framework));
    assert_non_null(f);
    assert_int_equal(f->layers(&m, &arena, &found, &err), ST_OK);
}

/* The layer of this path and kind; fails the test when there is none. */
static const struct layer *layer(const char *path, enum layer_kind kind)
{
    for (size_t i = 0; i < found.n; i++)
        if (str_is(found.layer[i].path, path)) {
            if (found.layer[i].kind != kind)
                fail_msg("%s is %s", path, layer_kind_name(found.layer[i].kind));
            return &found.layer[i];
        }
    for (size_t i = 0; i < found.n; i++)
        print_message("  %.*s\n", STR_ARG(found.layer[i].path));
    fail_msg("no layer %s", path);
    return NULL;
}

static void holds(const struct layer *l, enum leaf leaf, const char *name)
{
    assert_true(l->tensor[leaf] >= 0);
    if (!str_is(m.tensor[l->tensor[leaf]].name, name))
        fail_msg("%s is %.*s", leaf_name(leaf), STR_ARG(m.tensor[l->tensor[leaf]].name));
}

static enum status plan_of(struct map_opt o)
{
    plan_init(&p, &m);
    return map_plan(&p, &o, NULL, 0, &asked, &err);
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%s: %s (%s)\n%.*s", err.code ? err.code : "-", err.reason, err.tensor,
                 (int)asked.n, (const char *)asked.p);
}

static void asks(enum status st, const char *line)
{
    assert_int_equal(st, ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    if (str_find_str(buf_as_str(&asked), str_from(line), 0) == asked.n)
        fail_msg("not asked: %s\n%.*s", line, (int)asked.n, (const char *)asked.p);
    plan_free(&p);
}

/* ---- names ---- */

static void words_of_classes(void **state)
{
    (void)state;
    assert_int_equal(keras_class_of(STR("Conv2DTranspose")), KERAS_CONV_TRANSPOSE);
    assert_int_equal(keras_class_of(STR("conv2d_transpose_12")), KERAS_CONV_TRANSPOSE);
    assert_int_equal(keras_class_of(STR("depthwise_conv2d")), KERAS_DEPTHWISE);
    assert_int_equal(keras_class_of(STR("dense_")), KERAS_DENSE);
    assert_int_equal(keras_class_of(STR("dense_x")), KERAS_UNKNOWN);
    assert_int_equal(keras_class_of(STR("")), KERAS_UNKNOWN);
    assert_true(str_is(keras_stem(STR("conv2d_12")), "conv2d"));
    assert_true(str_is(keras_stem(STR("conv2d")), "conv2d"));
    assert_true(str_is(keras_stem(STR("_1")), "_1"));
    struct str path = keras_class_path(STR("_layer_checkpoint_dependencies.conv2d_3"), &arena);
    assert_true(str_is(path, "layers.conv2d#3"));
}

static void legacy_names(void **state)
{
    (void)state;
    toy_add(&m, "d1.d1.kernel:0", 1, 3, 2, -1);
    toy_add(&m, "d1.d1.bias:0", 2, 2, -1);
    toy_add(&m, "d2.sequential.d2.kernel", 3, 2, 5, -1);
    toy_add(&m, "inner.inner.c\\.1.kernel:0", 4, 3, 3, 2, 4, -1);
    toy_add(&m, "inner.inner.c\\.1.bias:0", 5, 4, -1);
    toy_add(&m, "inner.bn.gamma:0", 6, 4, -1);
    toy_add(&m, "inner.bn.beta:0", 7, 4, -1);
    toy_add(&m, "inner.bn.moving_mean:0", 8, 4, -1);
    toy_add(&m, "inner.bn.moving_variance:0", 9, 4, -1);
    toy_add(&m, "emb.emb.embeddings:0", 10, 9, 4, -1);
    toy_add(&m, "token", 11, 1, 4, -1);
    recognise("keras");
    assert_int_equal(found.n, 6);
    holds(layer("d1", LAYER_LINEAR), LEAF_BIAS, "d1.d1.bias:0");
    holds(layer("d2", LAYER_LINEAR), LEAF_WEIGHT, "d2.sequential.d2.kernel");
    holds(layer("inner.c\\.1", LAYER_CONV), LEAF_WEIGHT, "inner.inner.c\\.1.kernel:0");
    const struct layer *bn = layer("inner.bn", LAYER_BATCHNORM);
    holds(bn, LEAF_VAR, "inner.bn.moving_variance:0");
    holds(bn, LEAF_BIAS, "inner.bn.beta:0");
    layer("emb", LAYER_EMBEDDING);
    layer("token", LAYER_PARAM);
}

/* Two layers that would be called alike keep the file's paths, all of them. */
static void alike(void **state)
{
    (void)state;
    toy_add(&m, "a.a.k.kernel", 1, 3, 2, -1);
    toy_add(&m, "a.b.a.k.kernel", 2, 3, 2, -1);
    toy_add(&m, "d.d.kernel", 3, 3, 2, -1);
    recognise("keras");
    layer("a.a.k", LAYER_LINEAR);
    layer("a.b.a.k", LAYER_LINEAR);
    layer("d.d", LAYER_LINEAR);
}

/* A scope that TensorFlow had given away is the layer's own; a model's inner layer is not. */
static void scopes_again(void **state)
{
    (void)state;
    toy_add(&m, "d_1.d_1_1.kernel:0", 1, 3, 2, -1);
    toy_add(&m, "d_1.d_1_1.bias:0", 2, 2, -1);
    toy_add(&m, "block.block_1.kernel:0", 3, 2, 5, -1);
    toy_add(&m, "e.e_x.kernel:0", 4, 2, 6, -1);
    toy_add(&m, "unsaid.unsaid_1.kernel:0", 5, 2, 7, -1);
    attach(&m, "model_config.json",
           "{\"class_name\":\"Model\",\"config\":{\"layers\":["
           "{\"class_name\":\"Dense\",\"config\":{\"name\":\"d_1\"}},"
           "{\"class_name\":\"Dense\",\"config\":{\"name\":\"e\"}},"
           "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"block\",\"layers\":["
           "{\"class_name\":\"Dense\",\"config\":{\"name\":\"block_1\"}}]}}]}}");
    recognise("keras");
    holds(layer("d_1", LAYER_LINEAR), LEAF_BIAS, "d_1.d_1_1.bias:0");
    layer("block.block_1", LAYER_LINEAR);
    layer("e.e_x", LAYER_LINEAR);
    layer("unsaid.unsaid_1", LAYER_LINEAR);
}

static void counted_layers(void **state)
{
    (void)state;
    m.framework = STR("tensorflow");
    uint32_t t = toy_add(&m, "layer_with_weights-0.kernel", 1, 3, 3, 2, 4, -1);
    m.tensor[t].note = STR("conv_a/kernel");
    t = toy_add(&m, "layer_with_weights-1.kernel", 1, 3, 3, 4, 4, -1);
    m.tensor[t].note = STR("net/conv2d_transpose/kernel");
    t = toy_add(&m, "blocks.0.kernel", 2, 3, 2, -1);
    m.tensor[t].note = STR("sub/dense/kernel");
    static const char *const part[] = {"query", "key", "value", "output"};
    for (int i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "layer_with_weights-3._%s_dense.kernel", part[i]);
        struct str name = arena_str(&arena, text, strlen(text));
        t = i < 3 ? toy_add(&m, name.p, i, 6, 2, 3, -1) : toy_add(&m, name.p, i, 2, 3, 6, -1);
        m.tensor[t].note = STR("net/att/part/kernel");
    }
    toy_add(&m, "scope.dense.kernel", 3, 3, 2, -1);
    toy_add(&m, "scope.dense.bias", 4, 2, -1);
    recognise("tensorflow");
    layer("conv_a", LAYER_CONV);
    layer("conv2d_transpose", LAYER_CONV_TRANSPOSE);
    layer("blocks.0", LAYER_LINEAR);
    layer("att", LAYER_ATTENTION);
    holds(layer("scope.dense", LAYER_LINEAR), LEAF_BIAS, "scope.dense.bias");
}

/* ---- numbered variables ---- */

static const char config[] =
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"model\",\"layers\":["
    "{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"c1\",\"groups\":2,\"kernel_initializer\":"
    "{\"class_name\":\"X\",\"config\":{\"scale\":true}}}},"
    "{\"class_name\":\"BatchNormalization\",\"config\":{\"name\":\"bn\",\"scale\":false,"
    "\"center\":true}},"
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"inner\",\"layers\":["
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"x\"}},"
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"y\"}}]}},"
    "{\"class_name\":\"LayerNormalization\",\"config\":{\"name\":\"ln\",\"scale\":true,"
    "\"center\":false}}]}}";

static void numbered(struct model *x)
{
    toy_add(x, "layers.conv2d.vars.0", 1, 3, 3, 2, 4, -1);
    toy_add(x, "layers.conv2d.vars.1", 2, 4, -1);
    toy_add(x, "layers.batch_normalization.vars.0", 3, 4, -1);
    toy_add(x, "layers.batch_normalization.vars.1", 4, 4, -1);
    toy_add(x, "layers.batch_normalization.vars.2", 5, 4, -1);
    toy_add(x, "layers.sequential.layers.dense.vars.0", 6, 4, 3, -1);
    toy_add(x, "layers.sequential.layers.dense_1.vars.0", 7, 3, 2, -1);
    toy_add(x, "layers.sequential.layers.dense_1.vars.1", 8, 2, -1);
    toy_add(x, "layers.layer_normalization.vars.0", 9, 4, -1);
}

static void by_config(void **state)
{
    (void)state;
    numbered(&m);
    attach(&m, "config.json", config);
    recognise("keras");
    assert_int_equal(found.n, 5);
    assert_int_equal(layer("c1", LAYER_CONV)->groups, 2);
    const struct layer *bn = layer("bn", LAYER_BATCHNORM);
    assert_int_equal(bn->tensor[LEAF_WEIGHT], -1);
    holds(bn, LEAF_BIAS, "layers.batch_normalization.vars.0");
    holds(bn, LEAF_MEAN, "layers.batch_normalization.vars.1");
    holds(bn, LEAF_VAR, "layers.batch_normalization.vars.2");
    layer("inner.x", LAYER_LINEAR);
    holds(layer("inner.y", LAYER_LINEAR), LEAF_BIAS, "layers.sequential.layers.dense_1.vars.1");
    holds(layer("ln", LAYER_LAYERNORM), LEAF_WEIGHT, "layers.layer_normalization.vars.0");
}

/* Gamma or beta: without a config nothing tells, and they stay what they are. */
static void no_config(void **state)
{
    (void)state;
    numbered(&m);
    recognise("keras");
    layer("conv2d", LAYER_CONV);
    layer("sequential.dense_1", LAYER_LINEAR);
    layer("batch_normalization.vars.0", LAYER_PARAM);
    layer("layer_normalization.vars.0", LAYER_PARAM);
}

static void damaged_config(void **state)
{
    (void)state;
    numbered(&m);
    attach(&m, "config.json", "{\"class_name\":\"Functional\",\"config\":{\"layers\":[{");
    recognise("keras");
    layer("conv2d", LAYER_CONV);
    layer("batch_normalization.vars.2", LAYER_PARAM);
}

/* A config that nests, with names whose paths together pass every bound, says nothing. */
static void large_config(void **state)
{
    (void)state;
    static char text[400000];
    char name[1000];
    size_t n = 0;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < 60; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"%s\","
                              "\"layers\":[",
                              name);
    for (int i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s{\"class_name\":\"Dense\"}",
                              i ? "," : "");
    for (int i = 0; i < 60; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "]}}");
    assert_true(n < sizeof text - 1);
    numbered(&m);
    attach(&m, "config.json", text);
    recognise("keras");
    layer("conv2d", LAYER_CONV);
}

/* A model in a model, as Keras 2 and Keras 3 store it: what reads the flattened map is told by the
 * graph, and its rows are put in torch's order without a question. */
#define CONV_OF(n, more)                                                                           \
    "{\"class_name\":\"Conv2D\",\"config\":{\"name\":\"" n                                         \
    "\",\"filters\":2,\"data_format\":\"channels_last\"}" more "}"
#define PLAIN(cls, n, more) "{\"class_name\":\"" cls "\",\"config\":{\"name\":\"" n "\"}" more "}"
#define INNER                                                                                      \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"trunk\",\"layers\":[" PLAIN(            \
        "InputLayer", "in1",                                                                       \
        "") "," CONV_OF("c1", "") "," PLAIN("ReLU", "r", "") "," PLAIN("Flatten", "fl", "") "]}"
static const char nested_2[] =
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"outer\",\"layers\":[" PLAIN(
        "InputLayer", "in",
        ",\"inbound_nodes\":[]") "," INNER ",\"inbound_nodes\":[[[\"in\",0,0,{}]]]}"
                                 "," PLAIN(
                                     "Dropout", "dr",
                                     ",\"inbound_nodes\":[[[\"trunk\",1,0,{}]]"
                                     "]") "," PLAIN("Dense", "fc",
                                                    ",\"inbound_nodes\":[[["
                                                    "\"dr\",0,0,{\"training\":"
                                                    "false}]]]") "," PLAIN("Den"
                                                                           "se",
                                                                           "hea"
                                                                           "d",
                                                                           ",\""
                                                                           "inb"
                                                                           "oun"
                                                                           "d_"
                                                                           "nod"
                                                                           "es"
                                                                           "\":"
                                                                           "[[["
                                                                           "\"f"
                                                                           "c\""
                                                                           ",0,"
                                                                           "0,{"
                                                                           "}]]"
                                                                           "]") "],"
                                                                                "\"output_layers\":"
                                                                                "[[\"head\",0,0]]}"
                                                                                "}";
static const char nested_3[] =
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"outer\",\"layers\":[" INNER "},"
    "{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"td\",\"layer\":" PLAIN(
        "Dense", "fc", "") "}}," PLAIN("Dense", "head", "") "]}}";

static void nested_model(struct model *x, const char *fc)
{
    char name[64];
    toy_add(x, "trunk.c1.kernel:0", 1, 3, 3, 1, 2, -1);
    toy_add(x, "trunk.c1.bias:0", 2, 2, -1);
    snprintf(name, sizeof name, "%s.kernel:0", fc);
    toy_add(x, name, 100, 8, 2, -1);
    snprintf(name, sizeof name, "%s.bias:0", fc);
    toy_add(x, name, 6, 2, -1);
    toy_add(x, "head.head.kernel:0", 7, 2, 5, -1);
    toy_add(x, "head.head.bias:0", 8, 5, -1);
    x->format = "keras-h5";
}

/* An EinsumDense on the last axis is a dense layer; others have another kernel, or another bias. */
static void einsum_dense(void **state)
{
    static const struct {
        const char *equation, *bias;
        bool dense;
    } of[] = {
        {"abc,cd->abd", "d", true},  {"...x,xy->...y", "y", true}, {"ab,bc->ac", NULL, true},
        {"abc,dc->abd", "d", false}, {"abc,bd->adc", "d", false},  {"abc,cd->abd", "b", false},
        {"abc,cd->bad", "d", false}, {"abc,cd", "d", false},       {"", NULL, false},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char text[256], bias[8];
        snprintf(bias, sizeof bias, of[i].bias ? "\"%s\"" : "null", of[i].bias);
        snprintf(text, sizeof text,
                 "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
                 "{\"class_name\":\"EinsumDense\",\"config\":{\"name\":\"fc\",\"equation\":"
                 "\"%s\",\"output_shape\":[null,5],\"bias_axes\":%s}}]}}",
                 of[i].equation, bias);
        model_init(&m);
        toy_add(&m, "layers.einsum_dense.vars.0", 0, 5, 5, -1);
        toy_add(&m, "layers.einsum_dense.vars.1", 0, 5, -1);
        attach(&m, "config.json", text);
        recognise("keras");
        bool dense = found.n == 1 && found.layer[0].kind == LAYER_LINEAR;
        if (dense != of[i].dense)
            fail_msg("%s %s", of[i].equation, bias);
        end(state);
    }
    begin(state);
}

/* Names of tf.slim, and of modules written by hand. */
static void old_tensorflow(void **state)
{
    (void)state;
    toy_add(&m, "net.conv1.weights", 0, 3, 3, 3, 6, -1);
    toy_add(&m, "net.conv1.biases", 0, 6, -1);
    toy_add(&m, "net.conv2.weights", 0, 3, 3, 6, 8, -1);
    toy_add(&m, "net.conv2.BatchNorm.beta", 0, 8, -1);
    toy_add(&m, "net.conv2.BatchNorm.moving_mean", 0, 8, -1);
    toy_add(&m, "net.conv2.BatchNorm.moving_variance", 0, 8, -1);
    toy_add(&m, "net.sep.depthwise_weights", 0, 3, 3, 8, 1, -1);
    toy_add(&m, "net.sep.pointwise_weights", 0, 1, 1, 8, 5, -1);
    toy_add(&m, "net.sep.biases", 0, 5, -1);
    toy_add(&m, "net.conv3_depthwise.depthwise_weights", 0, 3, 3, 5, 1, -1);
    toy_add(&m, "net.fc.weights", 0, 5, 4, -1);
    toy_add(&m, "net.fc.biases", 0, 4, -1);
    toy_add(&m, "net.layers.0.w", 0, 4, 4, -1);
    toy_add(&m, "net.layers.0.b", 0, 4, -1);
    toy_add(&m, "net.table.weights", 0, 30, 4, -1); /* whose axes nothing tells */
    toy_add(&m, "net.classes.weights", 0, 4, -1);
    toy_add(&m, "net.lone.w", 0, 4, 5, -1);
    toy_add(&m, "net.odd.weights", 0, 4, 5, -1);
    toy_add(&m, "net.odd.biases", 0, 4, -1);
    toy_add(&m, "net.odd2.w", 0, 4, 4, -1);
    toy_add(&m, "net.odd2.b", 0, 4, -1);
    toy_add(&m, "net.odd2.c", 0, 4, -1);
    recognise("tensorflow");
    holds(layer("net.conv1", LAYER_CONV), LEAF_BIAS, "net.conv1.biases");
    holds(layer("net.conv2", LAYER_CONV), LEAF_WEIGHT, "net.conv2.weights");
    layer("net.conv2.BatchNorm", LAYER_BATCHNORM);
    assert_int_equal(layer("net.sep.depthwise", LAYER_CONV)->groups, 8);
    holds(layer("net.sep.pointwise", LAYER_CONV), LEAF_BIAS, "net.sep.biases");
    assert_int_equal(layer("net.conv3_depthwise", LAYER_CONV)->groups, 5);
    holds(layer("net.fc", LAYER_LINEAR), LEAF_WEIGHT, "net.fc.weights");
    holds(layer("net.layers.0", LAYER_LINEAR), LEAF_BIAS, "net.layers.0.b");
    layer("net.table.weights", LAYER_PARAM);
    layer("net.classes.weights", LAYER_PARAM);
    layer("net.lone.w", LAYER_PARAM);
    layer("net.odd.weights", LAYER_PARAM);
    layer("net.odd2.w", LAYER_PARAM);
}

static void nested_flatten(void **state)
{
    (void)state;
    nested_model(&m, "fc.fc");
    attach(&m, "model_config.json", nested_2);
    recognise("keras");
    assert_int_equal(layer("fc", LAYER_LINEAR)->flat_c, 2);
    assert_true(layer("head", LAYER_LINEAR)->flat_said);
    assert_int_equal(layer("head", LAYER_LINEAR)->flat_c, 0);
    must(plan_of((struct map_opt){.from = "keras", .to = "pytorch"}));
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, "fc.weight"), &n);
    for (int o = 0; o < 2; o++)
        for (int c = 0; c < 2; c++)
            for (int s = 0; s < 4; s++)
                assert_true(v[o * 8 + c * 4 + s] == 100 + (s * 2 + c) * 2 + o);
    free(v);
    plan_free(&p);
}

static void wrapped_flatten(void **state)
{
    (void)state;
    nested_model(&m, "td.td");
    attach(&m, "model_config.json", nested_3);
    recognise("keras");
    assert_int_equal(layer("td", LAYER_LINEAR)->flat_c, 2);
    must(plan_of((struct map_opt){.from = "keras", .to = "pytorch"}));
    plan_free(&p);
}

/* A graph that forks, or a step that no table knows: as before, it is asked. */
static void unknown_flatten(void **state)
{
    (void)state;
    static const char other[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"outer\",\"layers\":[" INNER
        "}," PLAIN("Mine", "x", "") "," PLAIN("Dense", "fc", "") "," PLAIN("Dense", "head", "") "]}"
                                                                                                "}";
    nested_model(&m, "fc.fc");
    attach(&m, "model_config.json", other);
    recognise("keras");
    assert_false(layer("fc", LAYER_LINEAR)->flat_said);
    asks(plan_of((struct map_opt){.from = "keras", .to = "pytorch"}), "flatten \"fc\" = ?");
}

static void group_names(void **state)
{
    (void)state;
    numbered(&m);
    meta(&m, "layers/conv2d/vars@name", "stem");
    meta(&m, "layers/sequential/vars@name", "inner");
    meta(&m, "layers/sequential/layers/dense/vars@name", "dense_7");
    meta(&m, "layers/sequential/layers/dense_1/vars@name", "a.b");
    toy_add(&m, "head.vars.0", 20, 3, 2, -1);
    toy_add(&m, "head.vars.1", 21, 2, -1);
    meta(&m, "head/vars@name", "dense_9");
    toy_add(&m, "conv2d.vars.0", 22, 3, 3, 4, 4, -1);
    meta(&m, "conv2d/vars@name", "conv2d_transpose_1");
    recognise("keras");
    assert_int_equal(layer("conv2d", LAYER_NONE)->kinds,
                     KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE)); /* words disagree */
    layer("stem", LAYER_CONV);
    layer("inner.dense", LAYER_LINEAR); /* Keras's own name says no more than the path */
    layer("inner.a\\.b", LAYER_LINEAR);
    layer("head", LAYER_LINEAR); /* an attribute keeps its name; the class is told by the group's */
}

static void statistics(void **state)
{
    (void)state;
    numbered(&m);
    toy_add(&m, "layers.batch_normalization_1.vars.0", 1, 4, -1);
    toy_add(&m, "layers.batch_normalization_1.vars.1", 1, 4, -1);
    toy_add(&m, "layers.batch_normalization_1.vars.2", 1, 4, -1);
    toy_add(&m, "layers.batch_normalization_1.vars.3", 1, 4, -1);
    toy_add(&m, "metrics.mean.vars.0", 1, -1);
    done(&m);
    static const struct {
        const char *name;
        enum role role;
    } want[] = {{"layers.batch_normalization.vars.0", ROLE_PARAMETER},
                {"layers.batch_normalization.vars.1", ROLE_STATISTIC},
                {"layers.batch_normalization_1.vars.1", ROLE_PARAMETER},
                {"layers.batch_normalization_1.vars.2", ROLE_STATISTIC},
                {"layers.batch_normalization_1.vars.3", ROLE_STATISTIC},
                {"metrics.mean.vars.0", ROLE_OTHER},
                {"layers.conv2d.vars.1", ROLE_PARAMETER}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(m.tensor[toy_find(&m, want[i].name)].role, want[i].role);
}

/* ---- kernels ---- */

static void kernel_asked(void **state)
{
    (void)state;
    toy_add(&m, "x.x.kernel", 1, 3, 3, 4, 4, -1);
    toy_add(&m, "x.x.bias", 2, 4, -1);
    done(&m);
    asks(plan_of((struct map_opt){.from = "keras", .to = "pytorch"}), "kind \"x\" = ?");
}

static void kernel_told(void **state)
{
    (void)state;
    toy_add(&m, "a.a.kernel", 1, 3, 3, 2, 4, -1); /* by the bias */
    toy_add(&m, "a.a.bias", 2, 4, -1);
    toy_add(&m, "b.b.kernel", 3, 3, 3, 2, 4, -1);
    toy_add(&m, "b.b.bias", 4, 2, -1);
    toy_add(&m, "c.c.kernel", 5, 3, 3, 2, 4, -1);
    toy_add(&m, "c.c.bias", 6, 8, -1);
    toy_add(&m, "deconv.deconv.kernel", 7, 3, 3, 4, 4, -1); /* by the name */
    toy_add(&m, "conv1.conv1.kernel", 8, 3, 3, 4, 4, -1);
    toy_add(&m, "d.d.depthwise_kernel", 9, 3, 3, 4, 4, -1);
    toy_add(&m, "e.e.kernel", 10, 3, 3, 2, 4, -1); /* fits nothing */
    toy_add(&m, "e.e.bias", 11, 3, -1);
    toy_add(&m, "l.l.kernel", 12, 3, 8, -1); /* a cell: no rule here */
    toy_add(&m, "l.l.recurrent_kernel", 13, 2, 8, -1);
    recognise("keras");
    layer("a", LAYER_CONV);
    layer("b", LAYER_CONV_TRANSPOSE);
    assert_int_equal(layer("c", LAYER_CONV)->depth_c, 2);
    layer("deconv", LAYER_CONV_TRANSPOSE);
    assert_int_equal(layer("conv1", LAYER_CONV)->depth_c, 0);
    assert_int_equal(layer("d", LAYER_CONV)->depth_c, 4);
    layer("e", LAYER_NONE);
    for (size_t i = 0; i < found.n; i++)
        assert_int_not_equal(found.layer[i].kind, LAYER_LINEAR);
}

/* [k,C,m] holds channel c's outputs c*m .. c*m+m-1. */
static void depthwise(void **state)
{
    (void)state;
    toy_add(&m, "dw.dw.depthwise_kernel:0", 0, 2, 3, 2, -1);
    done(&m);
    must(plan_of((struct map_opt){.from = "keras", .to = "pytorch"}));
    assert_int_equal(p.dst.n_tensors, 1);
    const struct tensor *t = &p.dst.tensor[0];
    assert_true(str_is(t->name, "dw.weight"));
    assert_int_equal(t->n_dims, 3);
    assert_int_equal(t->dim[0], 6);
    assert_int_equal(t->dim[1], 1);
    assert_int_equal(t->dim[2], 2);
    uint64_t n;
    double *v = toy_values(&p, 0, &n);
    for (int c = 0; c < 3; c++)
        for (int j = 0; j < 2; j++)
            for (int k = 0; k < 2; k++)
                assert_true(v[(c * 2 + j) * 2 + k] == k * 6 + c * 2 + j);
    free(v);
    plan_free(&p);
}

/* The skeleton says that torch's grouped kernel stands by channels. */
static void depthwise_back(void **state)
{
    (void)state;
    m.framework = STR("pytorch");
    toy_add(&m, "dw.weight", 0, 6, 1, 2, -1);
    toy_add(&m, "dw.bias", 50, 6, -1);
    toy_done(&m);
    toy_add(&like, "layers.depthwise_conv1d.vars.0", 0, 2, 3, 2, -1);
    toy_add(&like, "layers.depthwise_conv1d.vars.1", 0, 6, -1);
    done(&like);
    must(plan_of((struct map_opt){.to = "keras", .like = &like}));
    int64_t at = toy_find(&p.dst, "layers.depthwise_conv1d.vars.0");
    uint64_t n;
    double *v = toy_values(&p, (size_t)at, &n);
    for (int k = 0; k < 2; k++)
        for (int o = 0; o < 6; o++)
            assert_true(v[k * 6 + o] == o * 2 + k);
    free(v);
    plan_free(&p);
}

/* Without a skeleton, a grouped kernel stays one: Keras has Conv with groups. */
static void no_skeleton(void **state)
{
    (void)state;
    m.framework = STR("pytorch");
    toy_add(&m, "dw.weight", 0, 6, 1, 2, -1);
    toy_add(&m, "dw.bias", 1, 6, -1);
    toy_add(&m, "bn.weight", 1, 6, -1);
    toy_add(&m, "bn.bias", 1, 6, -1);
    toy_add(&m, "bn.running_mean", 1, 6, -1);
    toy_add(&m, "bn.running_var", 1, 6, -1);
    toy_counter(&m, "bn.num_batches_tracked", 3);
    done(&m);
    must(plan_of((struct map_opt){.to = "keras"}));
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "dw.kernel")].dim[1], 1);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "bn.moving_variance")].role, ROLE_STATISTIC);
    toy_find(&p.dst, "bn.gamma");
    plan_free(&p);
}

static void separable(void **state)
{
    (void)state;
    toy_add(&m, "s.s.depthwise_kernel", 1, 3, 3, 2, 2, -1);
    toy_add(&m, "s.s.pointwise_kernel", 2, 1, 1, 4, 5, -1);
    toy_add(&m, "s.s.bias", 3, 5, -1);
    recognise("keras");
    assert_int_equal(found.n, 2);
    assert_int_equal(layer("s.depthwise", LAYER_CONV)->depth_c, 2);
    const struct layer *l = layer("s.pointwise", LAYER_CONV);
    assert_int_equal(l->depth_c, 0);
    holds(l, LEAF_BIAS, "s.s.bias");
}

/* ---- attention ---- */

static void put_attention(struct model *x, const char *at, const char *const name[4],
                          const char *weight, const char *bias)
{
    char text[100];
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "%s.%s.%s", at, name[i], weight);
        if (i < 3)
            toy_add(x, arena_str(&arena, text, strlen(text)).p, i, 6, 2, 3, -1);
        else
            toy_add(x, arena_str(&arena, text, strlen(text)).p, i, 2, 3, 6, -1);
        snprintf(text, sizeof text, "%s.%s.%s", at, name[i], bias);
        if (i < 3)
            toy_add(x, arena_str(&arena, text, strlen(text)).p, i, 2, 3, -1);
        else
            toy_add(x, arena_str(&arena, text, strlen(text)).p, i, 6, -1);
    }
}

static void attentions(void **state)
{
    (void)state;
    static const char *const legacy[] = {"query", "key", "value", "attention_output"};
    static const char *const public[] = {"query_dense", "key_dense", "value_dense", "output_dense"};
    static const char *const private[] = {"_query_dense", "_key_dense", "_value_dense",
                                          "_output_dense"};
    put_attention(&m, "att.att", legacy, "kernel:0", "bias:0");
    put_attention(&m, "layers.multi_head_attention", public, "vars.0", "vars.1");
    put_attention(&m, "mha", private, "vars.0", "vars.1");
    recognise("keras");
    assert_int_equal(found.n, 3);
    assert_int_equal(layer("att", LAYER_ATTENTION)->heads, 2);
    holds(layer("multi_head_attention", LAYER_ATTENTION), LEAF_O_BIAS,
          "layers.multi_head_attention.output_dense.vars.1");
    holds(layer("mha", LAYER_ATTENTION), LEAF_K_WEIGHT, "mha._key_dense.vars.0");
}

/* Fewer heads of keys than of queries: dense layers, and no convolution. */
static void grouped_queries(void **state)
{
    (void)state;
    toy_add(&m, "a.query.kernel", 1, 6, 2, 3, -1);
    toy_add(&m, "a.key.kernel", 2, 6, 1, 3, -1);
    toy_add(&m, "a.value.kernel", 3, 6, 1, 3, -1);
    toy_add(&m, "a.attention_output.kernel", 4, 2, 3, 6, -1);
    recognise("keras");
    assert_int_equal(found.n, 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(found.layer[i].kind == LAYER_LINEAR &&
                    found.layer[i].form == (str_is(found.layer[i].path, "a.attention_output")
                                                ? FORM_HEADS_IN
                                                : FORM_HEADS_OUT));
}

/* ---- skeletons ---- */

static void lends(void **state)
{
    (void)state;
    m.framework = STR("pytorch");
    toy_add(&m, "d.bias", 1, 2, -1);
    toy_add(&m, "d.weight", 2, 2, 3, -1);
    meta(&m, "backend", "torch");
    meta(&m, "own", "kept");
    attach(&m, "config.json", "{}");
    toy_done(&m);
    toy_add(&like, "layers.dense.vars.0", 3, 3, 2, -1);
    toy_add(&like, "layers.dense.vars.1", 4, 2, -1);
    toy_add(&like, "layers.dropout.seed_generator.vars.0", 5, 2, -1);
    toy_add(&like, "optimizer.vars.1", 6, 2, -1);
    like.tensor[0].order = 7;
    like.tensor[1].order = 4;
    meta(&like, "layers/dense/vars@name", "d");
    meta(&like, "backend", "jax");
    attach(&like, "config.json", "{\"of\":\"keras\"}");
    attach(&like, "metadata.json", "{}");
    done(&like);
    must(plan_of((struct map_opt){.to = "keras", .like = &like}));
    assert_int_equal(p.dst.n_tensors, 3);
    const struct tensor *seed =
        &p.dst.tensor[toy_find(&p.dst, "layers.dropout.seed_generator.vars.0")];
    assert_int_equal(seed->role, ROLE_RNG);
    assert_int_equal(p.n_lines, 1);
    assert_true(p.line[0].harmless);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "layers.dense.vars.0")].order, 7);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "layers.dense.vars.1")].order, 4);
    assert_int_equal(p.dst.n_meta, 3);
    assert_true(str_is(p.dst.meta[1].value, "jax"));
    assert_true(str_is(p.dst.meta[2].key, "own"));
    assert_int_equal(p.dst.n_attachments, 2);
    assert_int_equal(p.dst.attachment[0].n_bytes, 14);
    plan_free(&p);
}

/* Blocks stacked along an axis meet layers that only their names number. */
static void stacked(void **state)
{
    (void)state;
    m.framework = STR("flax");
    toy_add(&m, "params.blocks.fc1.bias", 1, 3, 5, -1);
    toy_add(&m, "params.blocks.fc1.kernel", 2, 3, 4, 5, -1);
    toy_add(&m, "params.blocks.fc2.bias", 3, 3, 4, -1);
    toy_add(&m, "params.blocks.fc2.kernel", 4, 3, 5, 4, -1);
    toy_done(&m);
    static char text[6][4][64]; /* the models keep what they are given */
    for (int i = 0; i < 6; i++) {
        char number[16] = "";
        if (i)
            snprintf(number, sizeof number, "_%d", i);
        snprintf(text[i][0], sizeof text[i][0], "layers.dense%s.vars.0", number);
        snprintf(text[i][1], sizeof text[i][1], "layers.dense%s.vars.1", number);
        snprintf(text[i][2], sizeof text[i][2], "layers/dense%s/vars@name", number);
        snprintf(text[i][3], sizeof text[i][3], "blocks_%d_fc%d", i / 2, i % 2 + 1);
        toy_add(&like, text[i][0], 10 + i, i % 2 ? 5 : 4, i % 2 ? 4 : 5, -1);
        toy_add(&like, text[i][1], 20 + i, i % 2 ? 4 : 5, -1);
        meta(&like, text[i][2], text[i][3]);
    }
    done(&like);
    must(plan_of((struct map_opt){.to = "keras", .like = &like}));
    assert_int_equal(p.dst.n_tensors, 12);
    for (int i = 0; i < 6; i++) {
        uint64_t n;
        double *v = toy_values(&p, (size_t)toy_find(&p.dst, text[i][0]), &n);
        assert_int_equal(n, 20);
        for (uint64_t k = 0; k < n; k++)
            assert_true(v[k] == (double)((i % 2 ? 4 : 2) + (uint64_t)(i / 2) * n + k));
        free(v);
    }
    plan_free(&p);
}

/* ---- notes ---- */

/* Keras adds 1e-3 to a variance, torch 1e-5; a config knows better. */
static void epsilon(void **state)
{
    (void)state;
    toy_add(&m, "a.a.gamma", 1, 4, -1);
    toy_add(&m, "a.a.beta", 2, 4, -1);
    toy_add(&m, "b.b.gamma", 3, 4, -1);
    toy_add(&m, "b.b.beta", 4, 4, -1);
    attach(&m, "model_config.json",
           "{\"class_name\":\"Sequential\",\"config\":{\"layers\":["
           "{\"class_name\":\"LayerNormalization\",\"config\":{\"name\":\"a\","
           "\"epsilon\":1e-05}},"
           "{\"class_name\":\"LayerNormalization\",\"config\":{\"name\":\"b\"}}]}}");
    done(&m);
    must(plan_of((struct map_opt){.to = "pytorch"}));
    assert_int_equal(p.n_notes, 1);
    assert_true(str_is(p.note[0].layer, "b"));
    assert_true(str_is(p.note[0].text, "epsilon is 0.001 in keras by default, 1e-05 in pytorch by "
                                       "default: set eps to what the model has"));
    plan_free(&p);
}

/* ---- bids ---- */

static void bids(void **state)
{
    (void)state;
    m.framework = STR("");
    toy_add(&m, "d.d.kernel:0", 1, 3, 2, -1);
    toy_add(&m, "layers.dense.vars.0", 1, 3, 2, -1);
    done(&m);
    assert_string_equal(framework_of(&m)->name, "keras");
    like.framework = STR("");
    toy_add(&like, "layer_with_weights-0.kernel", 1, 3, 2, -1);
    toy_add(&like, "layer_with_weights-0.bias", 1, 2, -1);
    done(&like);
    assert_string_equal(framework_of(&like)->name, "tensorflow");
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(words_of_classes),
        T(legacy_names),
        T(alike),
        T(counted_layers),
        T(by_config),
        T(no_config),
        T(damaged_config),
        T(large_config),
        T(scopes_again),
        T(nested_flatten),
        T(wrapped_flatten),
        T(unknown_flatten),
        T(group_names),
        T(statistics),
        T(kernel_asked),
        T(kernel_told),
        T(depthwise),
        T(depthwise_back),
        T(no_skeleton),
        T(separable),
        T(attentions),
        T(einsum_dense),
        T(old_tensorflow),
        T(grouped_queries),
        T(lends),
        T(stacked),
        T(epsilon),
        T(bids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
