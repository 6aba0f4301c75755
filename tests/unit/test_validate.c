/* validate --level layer and tensor, natively, on a network of every layer kind spelled as PyTorch
 * and as Flax, and every mutation that a checker must notice. test_validate_device.c does the same
 * on a device.
 */
#include "tests/lib/mutations.h"
#include "validate/validate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

static void twins_are_equal_natively(void **s)
{
    (void)s;
    twins_are_equal("native");
}
static void mutations_differ_natively(void **s)
{
    (void)s;
    mutations_differ("native");
}
/* ---- the rest ---- */

static void unknown_attributes_are_assumed(void **s)
{
    (void)s;
    struct twin_net t, u;
    struct validate_report r;
    twin_torch(&t);
    twin_torch(&u); /* torch against torch: heads are nowhere */
    t.layer[L_CONV].groups = u.layer[L_CONV].groups = 0;
    twin_check(&t, &u, "native", 0, &r);
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
    twin_check(&t, &f, "native", 0, &r);
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
    twin_check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_UNPROVEN);
    assert_true(str_find_str(r.layer[L_FLAT].why, STR("flattened map of 5 channels;"), 0) <
                r.layer[L_FLAT].why.n);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    validate_free(&r);
    /* a plain transpose is not believed either */
    for (size_t o = 0; o < 3; o++)
        for (size_t k = 0; k < 40; k++)
            w[k * 3 + o] = v[o * 40 + k];
    twin_check(&t, &f, "native", 0, &r);
    assert_int_equal(r.layer[L_FLAT].verdict, VERDICT_UNPROVEN);
    assert_true(str_find_str(r.layer[L_FLAT].why, STR("are not a flattened map;"), 0) <
                r.layer[L_FLAT].why.n);
    validate_free(&r);
    t.layer[L_FLAT].flat_said = true; /* unless a rule says that it is none */
    twin_check(&t, &f, "native", 0, &r);
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
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "nobody", pair, &o, &r, &e),
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_are_equal_natively),
        cmocka_unit_test(mutations_differ_natively),
        cmocka_unit_test(unknown_attributes_are_assumed),
        cmocka_unit_test(an_open_flatten_is_not_guessed),
        cmocka_unit_test(shapes_and_partners),
        cmocka_unit_test(min_coverage_decides),
        cmocka_unit_test(tensors_by_name),
        cmocka_unit_test(blocks_and_participation),
        cmocka_unit_test(no_device_falls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
