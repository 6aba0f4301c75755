/* validate --level layer and tensor on a network of every layer kind, spelled as PyTorch and as
 * Flax by index loops written here, and every mutation that a checker must notice.
 */
#include "base/child.h"
#include "base/mem.h"
#include "tests/lib/twins.h"
#include "validate/validate.h"
#include "worker/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

extern char **environ;

static void check(struct twin_net *a, struct twin_net *b, const char *device, uint64_t memory,
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

static void print(const struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        print_message("%-8.*s %-10s %-9s %-12.*s |%.*s|%.*s|%.*s| max %g of %g, cause %.*s\n",
                      STR_ARG(r->layer[i].path_a), verdict_name(r->layer[i].verdict),
                      rung_name(r->layer[i].rung), STR_ARG(r->layer[i].stage),
                      STR_ARG(r->layer[i].why), STR_ARG(r->layer[i].assumed),
                      STR_ARG(r->layer[i].input), r->layer[i].m.max_abs, r->layer[i].m.max_ref,
                      STR_ARG(r->layer[i].cause));
}

static void twins_are_equal(const char *device)
{
    struct twin_net t, f;
    struct validate_report r;
    twin_torch(&t);
    twin_flax(&f);
    check(&t, &f, device, 0, &r);
    if (r.overall != VERDICT_EQUAL)
        print(&r);
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
    check(&f, &t, device, 0, &r); /* and the other way round */
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    twin_free(&t);
    twin_free(&f);
}
static void twins_are_equal_natively(void **s)
{
    (void)s;
    twins_are_equal("native");
}
static void twins_are_equal_on_the_device(void **s)
{
    (void)s;
    twins_are_equal("0");
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

static void mutations_differ(const char *device)
{
    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
        struct twin_net t, f;
        struct validate_report r;
        twin_torch(&t);
        twin_flax(&f);
        mutations[i].mutate(&f);
        check(&t, &f, device, 0, &r);
        const struct validate_layer *l = &r.layer[mutations[i].layer];
        print_message("%s: %s, %.*s, cause: %.*s\n", mutations[i].name, verdict_name(l->verdict),
                      STR_ARG(l->why), STR_ARG(l->cause));
        if (r.n_differs != 1)
            print(&r);
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
static void mutations_differ_natively(void **s)
{
    (void)s;
    mutations_differ("native");
}
static void mutations_differ_on_the_device(void **s)
{
    (void)s;
    mutations_differ("0");
}

/* ---- the rest ---- */

static void device_and_native_metrics_agree(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r, q;
    twin_torch(&t);
    twin_flax(&f);
    for (int i = 0; i < L_N; i++)
        if (f.layer[i].tensor[LEAF_WEIGHT] >= 0)
            twin_data(&f, i, LEAF_WEIGHT)[1] += 3e-6f; /* small differences to measure */
    check(&t, &f, "native", 0, &r);
    check(&t, &f, "0", 0, &q);
    for (size_t i = 0; i < r.n; i++) {
        const struct metrics *x = &r.layer[i].m, *y = &q.layer[i].m;
        double scale = x->max_ref;
        assert_int_equal(r.layer[i].verdict, q.layer[i].verdict);
        assert_true(fabs(x->max_abs - y->max_abs) <= 1e-6 * scale);
        assert_true(fabs(x->mse - y->mse) <= 1e-6 * scale * scale);
        assert_true(fabs(x->cosine - y->cosine) <= 1e-6);
    }
    assert_true(q.kernel_ns > 0 && r.kernel_ns == 0);
    validate_free(&r);
    validate_free(&q);
    twin_free(&t);
    twin_free(&f);
}

static void unknown_attributes_are_assumed(void **s)
{
    (void)s;
    struct twin_net t, u;
    struct validate_report r;
    twin_torch(&t);
    twin_torch(&u); /* torch against torch: heads are nowhere */
    t.layer[L_CONV].groups = u.layer[L_CONV].groups = 0;
    check(&t, &u, "native", 0, &r);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_true(str_find_str(r.layer[L_ATT].assumed, STR("heads="), 0) < r.layer[L_ATT].assumed.n);
    assert_true(str_find_str(r.layer[L_CONV].assumed, STR("groups=1"), 0) <
                r.layer[L_CONV].assumed.n);
    assert_true(str_find_str(r.layer[L_BN].assumed, STR("eps="), 0) < r.layer[L_BN].assumed.n);
    validate_free(&r);
    twin_free(&t);
    twin_free(&u);
}

static void an_open_flatten_is_not_guessed(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    twin_torch(&t);
    twin_flax(&f);
    t.layer[L_FLAT].flat_c = f.layer[L_FLAT].flat_c = 0;
    /* 40 inputs; up gives 5 channels, nothing gives 40 or 4 */
    check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_DIFFERS);
    assert_true(str_find_str(r.layer[L_FLAT].cause, STR("flattened map with 4"), 0) <
                r.layer[L_FLAT].cause.n);
    validate_free(&r);
    /* written as a flattened map of 5 channels: equal then, but only then */
    float *w = twin_data(&f, L_FLAT, LEAF_WEIGHT), *v = twin_data(&t, L_FLAT, LEAF_WEIGHT);
    for (size_t o = 0; o < 3; o++)
        for (size_t c = 0; c < 5; c++)
            for (size_t q = 0; q < 8; q++)
                w[(q * 5 + c) * 3 + o] = v[o * 40 + c * 8 + q];
    check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_UNPROVEN);
    assert_true(str_find_str(r.layer[L_FLAT].why, STR("flattened map of 5 channels;"), 0) <
                r.layer[L_FLAT].why.n);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    validate_free(&r);
    /* a plain transpose is not believed either */
    for (size_t o = 0; o < 3; o++)
        for (size_t k = 0; k < 40; k++)
            w[k * 3 + o] = v[o * 40 + k];
    check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_UNPROVEN);
    assert_true(str_find_str(r.layer[L_FLAT].why, STR("are not a flattened map;"), 0) <
                r.layer[L_FLAT].why.n);
    validate_free(&r);
    t.layer[L_FLAT].flat_said = true; /* unless a rule says that it is none */
    check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_EQUAL);
    validate_free(&r);
    twin_free(&t);
    twin_free(&f);
}

static void shapes_and_partners(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    struct err e = {0};
    twin_torch(&t);
    twin_flax(&f);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    pair[L_LIN] = L_SQUARE; /* another shape */
    pair[L_SQUARE] = -1;
    pair[L_CONV] = L_BN; /* another kind */
    pair[L_BN] = L_CONV;
    f.layer[L_GN].kind = t.layer[L_GN].kind = LAYER_NONE; /* no rule */
    f.layer[L_EMB].kind = LAYER_NONE;
    twin_data(&t, L_LN, LEAF_BIAS)[0] = twin_data(&f, L_LN, LEAF_BIAS)[0] = NAN;
    struct validate_opt o = {
        .level = VALIDATE_LAYER, .device = "native", .rtol = NAN, .atol = NAN, .min_coverage = NAN};
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.layer[L_LIN].verdict, VERDICT_DIFFERS);
    assert_int_equal(r.layer[L_SQUARE].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_CONV].verdict, VERDICT_DIFFERS);
    assert_int_equal(r.layer[L_GN].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_GN].rung, RUNG_TRANSPORT);
    assert_int_equal(r.layer[L_EMB].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_EMB].rung, RUNG_NONE);
    assert_int_equal(r.layer[L_LN].verdict, VERDICT_UNPROVEN); /* NaN hides */
    assert_int_equal(r.layer[L_ATT].verdict, VERDICT_EQUAL);
    assert_true(r.n == L_N + 1 && r.layer[L_N].path_a.n == 0); /* flax's "lin" has no partner */
    assert_true(r.params_at[RUNG_NONE] + r.params_at[RUNG_TRANSPORT] + r.params_at[RUNG_MEANING] ==
                r.params_total);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    validate_free(&r);
    for (int i = 0; i < L_N; i++) /* unknown conventions prove nothing */
        pair[i] = i;
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "haiku", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    assert_int_equal(r.n_equal, 0);
    validate_free(&r);
    twin_free(&t);
    twin_free(&f);
}

static void min_coverage_decides(void **s)
{
    (void)s;
    struct twin_net t, u;
    struct validate_report r;
    struct err e = {0};
    twin_torch(&t);
    twin_torch(&u);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    pair[L_POS] = -1;
    struct validate_opt o = {.level = VALIDATE_LAYER, .device = "native", .rtol = NAN, .atol = NAN};
    o.min_coverage = NAN;
    assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &u.plan, &u.layers, "pytorch",
                                  pair, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    assert_true(r.coverage > .8 && r.coverage < 1);
    validate_free(&r);
    o.min_coverage = .8;
    assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &u.plan, &u.layers, "pytorch",
                                  pair, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    twin_free(&t);
    twin_free(&u);
}

static void tensors_by_name(void **s)
{
    (void)s;
    struct twin_net t, u;
    struct validate_report r;
    struct err e = {0};
    twin_torch(&t);
    twin_torch(&u);
    struct validate_opt o = {
        .level = VALIDATE_TENSOR, .rtol = NAN, .atol = NAN, .min_coverage = NAN};
    assert_int_equal(validate_run(&t.plan, NULL, NULL, &u.plan, NULL, NULL, NULL, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_int_equal(r.n, t.m.n_tensors);
    assert_true(r.params_at[RUNG_TRANSPORT] == r.params_total);
    validate_free(&r);
    twin_data(&u, L_LIN, LEAF_BIAS)[2] *= 1.0000002f;
    assert_int_equal(validate_run(&t.plan, NULL, NULL, &u.plan, NULL, NULL, NULL, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    assert_int_equal(r.n_differs, 1);
    validate_free(&r);
    twin_free(&t);
    twin_free(&u);
}

/* A weight read in many blocks gives what one block gives; every element takes part. */
static void blocks_and_participation(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    struct err e = {0};
    memset(&t, 0, sizeof t);
    memset(&f, 0, sizeof f);
    const uint64_t outs = 700, ins = 600;
    model_init(&t.m);
    model_init(&f.m);
    t.layers.layer = t.layer;
    f.layers.layer = f.layer;
    twin_layer(&t, LAYER_LINEAR, "big");
    twin_layer(&f, LAYER_LINEAR, "big");
    float *w = twin_add(&t, &t.layer[0], LEAF_WEIGHT, "weight", DIM(outs, ins));
    float *k = twin_add(&f, &f.layer[0], LEAF_WEIGHT, "kernel", DIM(ins, outs));
    for (size_t o = 0; o < outs; o++)
        for (size_t i = 0; i < ins; i++)
            k[i * outs + o] = w[o * ins + i] = twin_value(1, o * ins + i);
    twin_finish(&t, "pytorch");
    twin_finish(&f, "flax");
    int64_t pair[] = {0};
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .device = "native",
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN,
                             .run.memory = 1 << 20}; /* 256 KiB blocks */
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    for (size_t i = 0; i < 40; i++) { /* anywhere */
        size_t at = (i * 10501) % (outs * ins);
        float old = k[at];
        k[at] += .01f;
        assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax",
                                      pair, &o, &r, &e),
                         ST_OK);
        assert_int_equal(r.overall, VERDICT_DIFFERS);
        validate_free(&r);
        k[at] = old;
    }
    twin_free(&t);
    twin_free(&f);
}

static void no_device_falls_back(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r;
    struct err e = {0};
    twin_torch(&t);
    twin_flax(&f);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .vendors = "/nonexistent",
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN};
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_true(r.fallback && r.note.n > 0 && str_is(r.executor, "native"));
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    o.device = "gpu"; /* named: no falling back */
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_DEVICE);
    validate_free(&r);
    twin_free(&t);
    twin_free(&f);
}

int main(void)
{
    struct err e = {0};
    struct child_opt o = {.env = (const char *const *)environ,
                          .image = nnferry_worker_image,
                          .image_bytes = (size_t)(nnferry_worker_image_end - nnferry_worker_image)};
    if (child_start(&o, &e) != ST_OK) {
        print_error("%s\n", e.reason);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_are_equal_natively),
        cmocka_unit_test(twins_are_equal_on_the_device),
        cmocka_unit_test(mutations_differ_natively),
        cmocka_unit_test(mutations_differ_on_the_device),
        cmocka_unit_test(device_and_native_metrics_agree),
        cmocka_unit_test(unknown_attributes_are_assumed),
        cmocka_unit_test(an_open_flatten_is_not_guessed),
        cmocka_unit_test(shapes_and_partners),
        cmocka_unit_test(min_coverage_decides),
        cmocka_unit_test(tensors_by_name),
        cmocka_unit_test(blocks_and_participation),
        cmocka_unit_test(no_device_falls_back),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    child_stop();
    return r;
}
