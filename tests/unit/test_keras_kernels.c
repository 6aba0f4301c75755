/* Kernels under other names than Keras's own: an EinsumDense that is a dense layer, the variables
 * of tf.slim and of modules written by hand.
 */
#include "framework/framework.h"
#include "model/roles.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct arena arena;
static struct layers found;
static struct err err;

static void begin(void)
{
    model_init(&m);
    found = (struct layers){0};
}

static void end(void)
{
    arena_free(&arena);
    model_free(&m);
}

static void attach(struct model *x, const char *name, const char *text)
{
    struct attachment *a;
    assert_int_equal(model_attach(x, &a, &err), ST_OK);
    a->name = str_from(name);
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

static void recognise(const char *framework)
{
    toy_done(&m);
    assert_int_equal(roles_by_name(&m, &err), ST_OK);
    const struct framework *f = framework_find(str_from(framework));
    assert_non_null(f);
    assert_int_equal(f->layers(&m, &arena, &found, &err), ST_OK);
}

static const struct layer *layer(const char *path, enum layer_kind kind)
{
    for (size_t i = 0; i < found.n; i++)
        if (str_is(found.layer[i].path, path)) {
            if (found.layer[i].kind != kind)
                fail_msg("%s is %s", path, layer_kind_name(found.layer[i].kind));
            return &found.layer[i];
        }
    fail_msg("no layer %s", path);
    return NULL;
}

static void holds(const struct layer *l, enum leaf leaf, const char *name)
{
    assert_true(l->tensor[leaf] >= 0);
    assert_true(str_is(m.tensor[l->tensor[leaf]].name, name));
}

/* An EinsumDense on the last axis is a usual dense layer, others have axes of their own
 * (test_dense.c); no rule knows those whose tensors or bias are not their equation's. */
static void einsum_dense(void **state)
{
    (void)state;
    static const struct {
        const char *equation, *bias;
        bool dense;
    } of[] = {
        {"abc,cd->abd", "d", true}, {"...x,xy->...y", "y", true}, {"ab,bc->ac", "c", true},
        {"abc,dc->abd", "d", true}, {"abc,bd->adc", "d", false},  {"abc,cd->abd", "b", false},
        {"abc,cd->bad", "d", true}, {"abc,cd", "d", false},       {"", NULL, false},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char text[256], bias[8];
        snprintf(bias, sizeof bias, of[i].bias ? "\"%s\"" : "null", of[i].bias);
        snprintf(text, sizeof text,
                 "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
                 "{\"class_name\":\"EinsumDense\",\"config\":{\"name\":\"fc\",\"equation\":"
                 "\"%s\",\"output_shape\":[null,5],\"bias_axes\":%s}}]}}",
                 of[i].equation, bias);
        begin();
        toy_add(&m, "layers.einsum_dense.vars.0", 0, 5, 5, -1);
        toy_add(&m, "layers.einsum_dense.vars.1", 0, 5, -1);
        attach(&m, "config.json", text);
        recognise("keras");
        bool dense = found.n == 1 && found.layer[0].kind == LAYER_LINEAR;
        if (dense != of[i].dense)
            fail_msg("%s %s", of[i].equation, bias);
        end();
    }
}

/* Names of tf.slim, and of modules written by hand. */
static void old_tensorflow(void **state)
{
    (void)state;
    begin();
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
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(einsum_dense),
        cmocka_unit_test(old_tensorflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
