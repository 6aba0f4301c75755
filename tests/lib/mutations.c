/* See mutations.h. */
#include "tests/lib/mutations.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

void twin_check(struct twin_net *a, struct twin_net *b, const char *device, uint64_t memory,
                struct validate_report *r)
{
    struct err e = {0};
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .device = device,
                             .seed = 7,
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN,
                             .run.memory = memory};
    enum status st = validate_run(&a->plan, &a->layers, a->layers.framework, &b->plan, &b->layers,
                                  b->layers.framework, pair, &o, r, &e);
    if (st != ST_OK)
        print_error("%s\n", e.reason);
    assert_int_equal(st, ST_OK);
    assert_int_equal(r->n, L_N);
}

void twin_print(const struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        print_message("%-8.*s %-10s %-9s %-12.*s |%.*s|%.*s|%.*s| max %g of %g, cause %.*s\n",
                      STR_ARG(r->layer[i].path_a), verdict_name(r->layer[i].verdict),
                      rung_name(r->layer[i].rung), STR_ARG(r->layer[i].stage),
                      STR_ARG(r->layer[i].why), STR_ARG(r->layer[i].assumed),
                      STR_ARG(r->layer[i].input), r->layer[i].m.max_abs, r->layer[i].m.max_ref,
                      STR_ARG(r->layer[i].cause));
}

void twins_are_equal(const char *device)
{
    struct twin_net t, f;
    struct validate_report r;
    twin_torch(&t);
    twin_flax(&f);
    twin_check(&t, &f, device, 0, &r);
    if (r.overall != VERDICT_EQUAL)
        twin_print(&r);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_int_equal(r.n_equal, L_N);
    assert_true(r.coverage == 1 && r.params_at[RUNG_MEANING] == r.params_total);
    assert_int_equal(r.fallback, false);
    print_message("%.*s, %llu ns\n", STR_ARG(r.executor), (unsigned long long)r.kernel_ns);
    for (size_t i = 0; i < r.n; i++) {
        assert_true(r.layer[i].m.n > 0 && r.layer[i].m.max_ref > 0);
        assert_true(r.layer[i].m.max_abs <= 1e-6 * r.layer[i].m.max_ref);
    }
    validate_free(&r);
    twin_check(&f, &t, device, 0, &r); /* and the other way round */
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    twin_free(&t);
    twin_free(&f);
}
/* ---- mutations ---- */

static void mutate_transpose(struct twin_net *n)
{
    float *w = twin_data(n, L_SQUARE, LEAF_WEIGHT);
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < i; k++) {
            float t = w[i * 7 + k];
            w[i * 7 + k] = w[k * 7 + i];
            w[k * 7 + i] = t;
        }
}
static void mutate_variance(struct twin_net *n)
{
    for (int i = 0; i < 6; i++)
        twin_data(n, L_BN, LEAF_VAR)[i] *= 1.01f;
}
static void swap_floats(float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}
static void mutate_flip(struct twin_net *n)
{
    float *w = twin_data(n, L_CONV, LEAF_WEIGHT); /* [3, 3, 2, 6] */
    for (size_t k = 0; k < 4; k++)
        swap_floats(w + k * 12, w + (8 - k) * 12, 12);
}
static void mutate_unflip(struct twin_net *n)
{
    float *w = twin_data(n, L_UP, LEAF_WEIGHT); /* [3, 2, 4, 5] */
    for (size_t k = 0; k < 3; k++)
        swap_floats(w + k * 20, w + (5 - k) * 20, 20);
}
static void mutate_scale_bias(struct twin_net *n)
{
    swap_floats(twin_data(n, L_LN, LEAF_WEIGHT), twin_data(n, L_LN, LEAF_BIAS), 9);
}
static void mutate_mean_var(struct twin_net *n)
{
    for (int i = 0; i < 6; i++) /* a mean that can be a variance */
        assert_true(twin_data(n, L_BN, LEAF_VAR)[i] > 0);
    swap_floats(twin_data(n, L_BN, LEAF_MEAN), twin_data(n, L_BN, LEAF_VAR), 6);
}
static void mutate_qk(struct twin_net *n)
{
    swap_floats(twin_data(n, L_ATT, LEAF_Q_WEIGHT), twin_data(n, L_ATT, LEAF_K_WEIGHT), E * E);
    swap_floats(twin_data(n, L_ATT, LEAF_Q_BIAS), twin_data(n, L_ATT, LEAF_K_BIAS), E);
}
static void mutate_heads(struct twin_net *n)
{
    for (int k = 0; k < 3; k++) {
        float *w = twin_data(n, L_ATT, (enum leaf)(LEAF_Q_WEIGHT + k));
        for (size_t i = 0; i < E; i++)
            swap_floats(w + i * E, w + i * E + D, D);
        float *b = twin_data(n, L_ATT, (enum leaf)(LEAF_Q_BIAS + k));
        swap_floats(b, b + D, D);
    }
}
static void mutate_bias(struct twin_net *n)
{
    twin_data(n, L_LIN, LEAF_BIAS)[3] += 1e-3f;
}
static void mutate_key_bias(struct twin_net *n)
{
    twin_data(n, L_ATT, LEAF_K_BIAS)[2] += .1f; /* cancels in the softmax */
}
static void mutate_embedding(struct twin_net *n)
{
    swap_floats(twin_data(n, L_EMB, LEAF_WEIGHT), twin_data(n, L_EMB, LEAF_WEIGHT) + E, E);
}
static void mutate_flatten(struct twin_net *n)
{
    float *w = twin_data(n, L_FLAT, LEAF_WEIGHT), old[120];
    memcpy(old, w, sizeof old);
    for (size_t c = 0; c < 4; c++)
        for (size_t s = 0; s < 10; s++)
            memcpy(w + (c * 10 + s) * 3, old + (s * 4 + c) * 3, 3 * sizeof *w);
}
static void mutate_one_tap(struct twin_net *n)
{
    twin_data(n, L_CONV3, LEAF_WEIGHT)[143] *= 1.001f;
}
static void mutate_parameter(struct twin_net *n)
{
    twin_data(n, L_POS, LEAF_VALUE)[29] += 1e-3f;
}
static void mutate_group(struct twin_net *n)
{
    twin_data(n, L_GN, LEAF_BIAS)[7] = 0;
}

static const struct {
    const char *name;
    void (*mutate)(struct twin_net *n);
    int layer;
    const char *cause; /* text that the cause must hold, NULL = any */
} mutations[] = {
    {"a square weight transposed", mutate_transpose, L_SQUARE, "transposed"},
    {"variance scaled by 1.01", mutate_variance, L_BN, "variance scaled by 1.0"},
    {"a convolution's kernel flipped", mutate_flip, L_CONV, "kernel flipped"},
    {"a transposed convolution's kernel not flipped", mutate_unflip, L_UP, "kernel flipped"},
    {"scale and bias exchanged", mutate_scale_bias, L_LN, "scale and bias"},
    {"mean and variance exchanged", mutate_mean_var, L_BN, NULL},
    {"query and key exchanged", mutate_qk, L_ATT, "query and key"},
    {"heads reversed", mutate_heads, L_ATT, "heads in reverse"},
    {"one bias off by 1e-3", mutate_bias, L_LIN, "bias"},
    {"a key's bias", mutate_key_bias, L_ATT, NULL},
    {"two rows of a table exchanged", mutate_embedding, L_EMB, NULL},
    {"flattened features in the other order", mutate_flatten, L_FLAT, "flattened map"},
    {"one tap of a kernel", mutate_one_tap, L_CONV3, NULL},
    {"one element of a parameter", mutate_parameter, L_POS, NULL},
    {"one group norm bias", mutate_group, L_GN, "bias"},
};

void mutations_differ(const char *device)
{
    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
        struct twin_net t, f;
        struct validate_report r;
        twin_torch(&t);
        twin_flax(&f);
        mutations[i].mutate(&f);
        twin_check(&t, &f, device, 0, &r);
        const struct validate_layer *l = &r.layer[mutations[i].layer];
        print_message("%s: %s, %.*s, cause: %.*s\n", mutations[i].name, verdict_name(l->verdict),
                      STR_ARG(l->why), STR_ARG(l->cause));
        if (r.n_differs != 1)
            twin_print(&r);
        assert_int_equal(r.overall, VERDICT_DIFFERS);
        assert_int_equal(r.n_differs, 1);
        assert_int_equal(l->verdict, VERDICT_DIFFERS);
        assert_true(l->why.n > 0 && l->m.n_fail > 0 && l->m.max_abs > 0);
        if (mutations[i].cause)
            assert_true(str_find_str(l->cause, str_from(mutations[i].cause), 0) < l->cause.n);
        validate_free(&r);
        twin_free(&t);
        twin_free(&f);
    }
}
