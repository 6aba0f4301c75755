/* Folded weights: what is found under which name, the numbers, and every refusal by its name. The
 * numbers themselves are compared with the frameworks' in tests/interop/folds.py.
 */
#include "base/mem.h"
#include "convert/fold.h"
#include "convert/plan.h"
#include "convert/run.h"
#include "tests/lib/toy.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, ad;
static struct upgrade up;
static struct fold *fold;
static struct err err;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&ad);
    up = (struct upgrade){0};
    fold = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    fold_free(fold);
    model_free(&ad);
    model_free(&m);
    return 0;
}

static enum status norms(void)
{
    struct fold_opt o = {.norms = true};
    up = (struct upgrade){0};
    toy_done(&m);
    return fold_plan(&m, &o, &up, &fold, &err);
}

#define CONFIG(more)                                                                               \
    "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 8, \"fan_in_fan_out\": false" more "}"
static enum status lora(const char *config)
{
    struct fold_opt o = {.adapter = &ad, .config = str_from(config)};
    up = (struct upgrade){0};
    toy_done(&m);
    toy_done(&ad);
    return fold_plan(&m, &o, &up, &fold, &err);
}

static void refused(enum status st, const char *code)
{
    assert_int_equal(st, ST_CANNOT);
    assert_string_equal(err.code, code);
}

static void value_is(const char *name, uint64_t at, double want)
{
    struct plan p;
    double got;
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &err), ST_OK);
    uint32_t t = (uint32_t)toy_find(&m, name);
    assert_int_equal(run_read(&p, t, at, at + 1, DT_F64, &got, &err), ST_OK);
    plan_free(&p);
    if (fabs(got - want) > 1e-6 * fabs(want))
        fail_msg("%s[%llu] is %g, not %g", name, (unsigned long long)at, got, want);
}

static const struct upgraded *told(const char *from)
{
    for (size_t i = 0; i < up.n; i++)
        if (str_is(up.item[i].from, from))
            return &up.item[i];
    fail_msg("nothing told of %s", from);
    return NULL;
}

static void weight_norm_of_rows(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight_g", 10, 2, 1, -1); /* 10, 11 */
    toy_add(&m, "fc.weight_v", 3, 2, 2, -1);  /* 3 4 5 6 */
    toy_add(&m, "fc.bias", 0, 2, -1);
    assert_true(toy_find(&m, "fc.weight_v") >= 0);
    assert_int_equal(norms(), ST_OK);
    assert_true(fold_bytes(fold) == 16);
    assert_true(told("fc.weight_v")->value);
    assert_true(str_is(told("fc.weight_v")->to, "fc.weight"));
    assert_null(told("fc.weight_g")->to.p);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 0, 10 * 3 / 5.0);
    value_is("fc.weight", 1, 10 * 4 / 5.0);
    value_is("fc.weight", 3, 11 * 6 / sqrt(61));
}

static void weight_norm_of_columns(void **state)
{
    (void)state;
    toy_add(&m, "fc.parametrizations.weight.original0", 10, 1, 2, -1);
    toy_add(&m, "fc.parametrizations.weight.original1", 1, 3, 2, -1); /* 1 2 / 3 4 / 5 6 */
    assert_int_equal(norms(), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 2, 10 * 3 / sqrt(35));
    value_is("fc.weight", 5, 11 * 6 / sqrt(56));
}

static void spectral_norm(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight_orig", 1, 2, 3, -1); /* 1 2 3 / 4 5 6 */
    toy_add(&m, "fc.weight_u", 1, 2, -1);       /* 1 2 */
    toy_add(&m, "fc.weight_v", 1, 3, -1);       /* 1 2 3 */
    assert_int_equal(norms(), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 5, 6 / 78.0); /* 1 * 14 + 2 * 32 */
}

static void spectral_of_transposed(void **state)
{
    (void)state;
    toy_add(&m, "deconv.weight_orig", 1, 2, 2, 1, -1); /* 1 2 / 3 4 */
    toy_add(&m, "deconv.weight_u", 1, 2, -1);
    toy_add(&m, "deconv.weight_v", 1, 2, -1);
    assert_int_equal(norms(), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    /* u along axis 1: 1 * (1 * 1 + 2 * 3) + 2 * (1 * 2 + 2 * 4) */
    value_is("deconv.weight", 3, 4 / 27.0);
}

static void equinox_steps_out(void **state)
{
    (void)state;
    toy_add(&m, "fc.layer.weight", 3, 1, 2, -1);
    toy_add(&m, "fc.layer.bias", 3, 1, -1);
    toy_add(&m, "fc.g", 10, 1, 1, -1);
    assert_int_equal(norms(), ST_OK);
    assert_true(str_is(told("fc.layer.bias")->to, "fc.bias"));
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 1, 10 * 4 / 5.0);
}

static void flax_scale(void **state)
{
    (void)state;
    toy_add(&m, "params.a.WeightNorm_0.Dense_0/kernel/scale", 10, 2, -1);
    toy_add(&m, "params.a.Dense_0.kernel", 1, 3, 2, -1);
    assert_int_equal(norms(), ST_OK);
    assert_true(told("params.a.Dense_0.kernel")->value);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("params.a.Dense_0.kernel", 5, 11 * 6 / sqrt(56));
}

static void norms_refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *name[3];
        uint64_t dim[3][3];
    } c[] = {
        {"fold-shape", {"a.weight_g", "a.weight_v", NULL}, {{3, 1}, {2, 2}}},
        {"fold-shape", {"a.weight_g", "a.weight_v", NULL}, {{2, 2}, {2, 2}}},
        {"fold-shape", {"a.weight_orig", "a.weight_u", "a.weight_v"}, {{2, 3}, {2}, {4}}},
        {"fold-axis", {"a.weight_orig", "a.weight_u", "a.weight_v"}, {{2, 2, 1}, {2}, {2}}},
        {"fold-steps", {"batch_stats.SpectralNorm_0.d/kernel/u", NULL}, {{1, 2}}},
        {"fold-taken", {"a.weight_g", "a.weight_v", "a.weight"}, {{2, 1}, {2, 2}, {2, 2}}},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        model_free(&m);
        model_init(&m);
        for (size_t k = 0; k < 3 && c[i].name[k]; k++) {
            size_t n = 0;
            while (n < 3 && c[i].dim[k][n])
                n++;
            toy_tensor(&m, c[i].name[k], 1, c[i].dim[k], n);
        }
        refused(norms(), c[i].code);
        fold_free(fold);
        fold = NULL;
    }
}

static void state_and_types(void **state)
{
    (void)state;
    toy_add(&m, "a.weight_g", 1, 2, 1, -1);
    toy_add(&m, "a.weight_v", 1, 2, 2, -1);
    toy_counter(&m, "b.weight_v", 1);
    toy_add(&m, "b.weight_g", 1, 1, -1);
    refused(norms(), "fold-shape"); /* a scalar has no norm */
    fold_free(fold);
    fold = NULL;
    model_free(&m);
    model_init(&m);
    toy_add(&m, "a.weight_g", 1, 2, 1, -1);
    toy_add(&m, "a.weight_v", 1, 2, 2, -1);
    uint32_t t = toy_add(&m, "opt.exp_avg", 1, 2, 2, -1);
    m.tensor[t].role = ROLE_MOMENT1;
    refused(norms(), "fold-state");
}

static void zero_norm(void **state)
{
    (void)state;
    toy_add(&m, "a.weight_g", 1, 1, 1, -1);
    toy_add(&m, "a.weight_v", 0, 1, 1, -1);
    assert_int_equal(norms(), ST_OK);
    refused(fold_run(fold, &err), "fold-zero");
}

static float *data(struct model *of, const char *name)
{
    return (float *)(uintptr_t)of->storage[of->tensor[toy_find(of, name)].storage].mem;
}

static void again(void)
{
    fold_free(fold);
    fold = NULL;
    model_free(&ad);
    model_free(&m);
    model_init(&m);
    model_init(&ad);
}

/* What is no number is not divided by, and nothing is made of it. A g of zero is a weight of zeros.
 */
static void no_numbers(void **state)
{
    (void)state;
    static const struct {
        float g, v;
        const char *code;
    } c[] = {{0, 1, NULL},
             {1, NAN, "fold-zero"},
             {1, INFINITY, "fold-zero"},
             {NAN, 1, "fold-value"},
             {-INFINITY, 1, "fold-value"}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        toy_add(&m, "a.weight_g", 1, 1, 1, -1);
        toy_add(&m, "a.weight_v", 1, 1, 2, -1);
        toy_done(&m);
        data(&m, "a.weight_g")[0] = c[i].g;
        data(&m, "a.weight_v")[0] = c[i].v;
        assert_int_equal(norms(), ST_OK);
        if (c[i].code) {
            refused(fold_run(fold, &err), c[i].code);
        } else {
            assert_int_equal(fold_run(fold, &err), ST_OK);
            value_is("a.weight", 1, 0);
        }
        again();
    }
    toy_add(&m, "a.weight_orig", 1, 1, 2, -1);
    toy_add(&m, "a.weight_u", 0, 1, -1); /* 0 */
    toy_add(&m, "a.weight_v", 1, 2, -1);
    assert_int_equal(norms(), ST_OK);
    refused(fold_run(fold, &err), "fold-zero");
}

/* Eight bits are nothing without their scale; a norm's parts neither. An average of the weights is
 * of those before. */
static void eight_bits_and_averages(void **state)
{
    (void)state;
    static const char *const of[] = {"a.weight_v", "a.weight_g"};
    for (size_t i = 0; i < 2; i++) {
        toy_add(&m, "a.weight_g", 1, 2, 1, -1);
        toy_add(&m, "a.weight_v", 1, 2, 2, -1);
        toy_add(&m, "a.weight_scale", 1, 1, -1);
        toy_done(&m);
        m.tensor[toy_find(&m, of[i])].dtype = DT_F8_E4M3FN;
        refused(norms(), "fold-type");
        again();
    }
    toy_add(&m, "a.weight_g", 1, 2, 1, -1);
    toy_add(&m, "a.weight_v", 1, 2, 2, -1);
    m.tensor[toy_add(&m, "ema.a.weight_v", 1, 2, 2, -1)].role = ROLE_EMA;
    refused(norms(), "fold-state");
}

/* Wrappers in wrapped models step out one by one; what only looks like one stays. */
static void wrapped_layers(void **state)
{
    (void)state;
    toy_add(&m, "layer.weight", 1, 1, 2, -1);
    toy_add(&m, "g", 1, 1, 1, -1);
    toy_add(&m, "layer.bias", 1, 1, -1);
    toy_add(&m, "b.layer.bias", 1, 1, -1);
    toy_add(&m, "b.layer.weight", 1, 1, 2, -1);
    toy_add(&m, "b.g", 1, 1, 1, -1);
    toy_add(&m, "c.layer.weight", 1, 1, 2, -1);
    toy_add(&m, "xlayer.bias", 1, 1, -1);
    assert_int_equal(norms(), ST_OK);
    assert_true(str_is(told("layer.bias")->to, "bias"));
    assert_true(str_is(told("b.layer.bias")->to, "b.bias"));
    assert_true(toy_find(&m, "c.layer.weight") >= 0);
    assert_true(toy_find(&m, "xlayer.bias") >= 0);
    assert_int_equal(up.n, 6);
}

/* What it holds is in the plan: it fits what is allowed, or is refused before anything is read. */
static void memory_is_told(void **state)
{
    (void)state;
    struct run_cost c = {0}, none = {.memory_bytes = 77};
    struct run_opt o = {.memory = UINT64_C(64) << 20};
    toy_add(&m, "a.weight_orig", 1, 1, 2000000, -1);
    toy_add(&m, "a.weight_u", 1, 1, -1);
    toy_add(&m, "a.weight_v", 1, 2000000, -1);
    assert_int_equal(norms(), ST_OK);
    uint64_t before = mem_in_use();
    o.memory += before;
    assert_int_equal(fold_cost(fold, &o, &c, &err), ST_OK);
    assert_true(c.memory_bytes >= 16000000 && c.memory_bytes < UINT64_C(64) << 20);
    assert_true(c.spool_bytes == 8000000);
    mem_set_ceiling(before + c.memory_bytes);
    enum status st = fold_run(fold, &err);
    mem_set_ceiling(0);
    assert_int_equal(st, ST_OK);
    o.memory = mem_in_use() + 15000000;
    assert_int_equal(fold_cost(fold, &o, &c, &err), ST_LIMIT);
    assert_string_equal(err.code, "memory");
    assert_int_equal(fold_cost(NULL, &o, &none, &err), ST_OK);
    assert_true(none.memory_bytes == 77 && none.spool_bytes == 0);
}

static void adapter(const char *module)
{
    struct str a = arena_fmt(&ad.arena, "base_model.model.%s.lora_A.weight", module),
               b = arena_fmt(&ad.arena, "base_model.model.%s.lora_B.weight", module);
    toy_add(&ad, a.p, 1, 2, 3, -1); /* 1 2 3 / 4 5 6 */
    toy_add(&ad, b.p, 1, 4, 2, -1); /* 1 2 / 3 4 / 5 6 / 7 8 */
}

static void lora_of_a_file(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight", 100, 4, 3, -1);
    adapter("fc");
    assert_int_equal(lora(CONFIG("")), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 0, 100 + 4 * (1 * 1 + 2 * 4));
    value_is("fc.weight", 11, 111 + 4 * (7 * 3 + 8 * 6));
}

static void lora_stored_inputs_first(void **state)
{
    (void)state;
    toy_add(&m, "c_attn.weight", 100, 3, 4, -1);
    adapter("c_attn");
    assert_int_equal(lora(CONFIG(", \"use_rslora\": true")), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("c_attn.weight", 4, 104 + 8 / sqrt(2) * (1 * 2 + 2 * 5)); /* input 1, output 0 */
}

static void lora_in_one_model(void **state)
{
    (void)state;
    toy_add(&m, "base_model.model.fc.base_layer.weight", 100, 4, 3, -1);
    toy_add(&m, "base_model.model.fc.base_layer.bias", 100, 4, -1);
    toy_add(&m, "base_model.model.head.bias", 100, 4, -1);
    toy_add(&m, "base_model.model.fc.lora_A.default.weight", 1, 2, 3, -1);
    toy_add(&m, "base_model.model.fc.lora_B.default.weight", 1, 4, 2, -1);
    assert_int_equal(lora(CONFIG(", \"alpha_pattern\": {\"fc\": 2}")), ST_OK);
    assert_true(str_is(told("base_model.model.head.bias")->to, "head.bias"));
    assert_true(str_is(told("base_model.model.fc.base_layer.bias")->to, "fc.bias"));
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.weight", 0, 100 + 1 * (1 * 1 + 2 * 4));
}

static void lora_refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *config, *base, *module, *more;
    } c[] = {
        {"lora-config", "", "fc.weight", "fc", NULL},
        {"lora-config", "[]", "fc.weight", "fc", NULL},
        {"lora-config", "{\"peft_type\": \"IA3\"}", "fc.weight", "fc", NULL},
        {"lora-config", "{\"peft_type\": \"LORA\", \"r\": 2}", "fc.weight", "fc", NULL},
        {"lora-dora", CONFIG(", \"use_dora\": true"), "fc.weight", "fc", NULL},
        {"lora-pattern", CONFIG(", \"alpha_pattern\": {\".*fc\": 1}"), "fc.weight", "fc", NULL},
        {"lora-pattern", CONFIG(", \"alpha_pattern\": {\"fc$\": 1}"), "fc.weight", "fc", NULL},
        {"lora-config", CONFIG(", \"alpha_pattern\": {\"fc\": \"2\"}"), "fc.weight", "fc", NULL},
        {"lora-config", CONFIG(", \"alpha_pattern\": {\"fc\": 1e999}"), "fc.weight", "fc", NULL},
        {"lora-config", CONFIG(", \"alpha_pattern\": [1]"), "fc.weight", "fc", NULL},
        {"lora-config", "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1e999}", "fc.weight",
         "fc", NULL},
        {"lora-config", "{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 1}", "fc.weight", "fc",
         NULL},
        {"lora-base", CONFIG(""), "other.weight", "fc", NULL},
        {"lora-shape", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 1}", "fc.weight", "fc",
         NULL},
        {"lora-pair", CONFIG(""), "fc.weight", "fc", "base_model.model.x.lora_A.weight"},
        {"lora-pair", CONFIG(""), "fc.weight", "fc", "base_model.model.x.lora_B.weight"},
        {"lora-other", CONFIG(""), "fc.weight", "fc", "base_model.model.x.weight"},
        {"lora-other", CONFIG(""), "fc.weight", "fc",
         "base_model.model.fc.lora_magnitude_vector.weight"},
        {"lora-none", CONFIG(""), "fc.weight", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        model_free(&m);
        model_free(&ad);
        model_init(&m);
        model_init(&ad);
        toy_add(&m, c[i].base, 1, 4, 3, -1);
        if (c[i].module)
            adapter(c[i].module);
        if (c[i].more)
            toy_add(&ad, c[i].more, 1, 2, 3, -1);
        refused(lora(c[i].config), c[i].code);
        fold_free(fold);
        fold = NULL;
    }
}

static void lora_more_refused(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight", 1, 4, 4, -1);
    toy_add(&ad, "base_model.model.fc.lora_A.weight", 1, 2, 4, -1);
    toy_add(&ad, "base_model.model.fc.lora_B.weight", 1, 4, 2, -1);
    refused(lora("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1}"), "lora-config");
    fold_free(fold);
    fold = NULL;
    model_free(&ad);
    model_init(&ad);
    toy_add(&ad, "base_model.model.fc.lora_A.one.weight", 1, 2, 4, -1);
    toy_add(&ad, "base_model.model.fc.lora_B.one.weight", 1, 4, 2, -1);
    toy_add(&ad, "base_model.model.fc.lora_A.two.weight", 1, 2, 4, -1);
    toy_add(&ad, "base_model.model.fc.lora_B.two.weight", 1, 4, 2, -1);
    refused(lora(CONFIG("")), "lora-several");
}

/* Factors of eight bits; factors and scales of no number, or too far for the weight. */
static void lora_no_numbers(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight", 1, 4, 3, -1);
    adapter("fc");
    toy_done(&ad);
    ad.tensor[1].dtype = DT_F8_E5M2;
    refused(lora(CONFIG("")), "fold-type");
    again();
    toy_add(&m, "fc.weight", 1, 4, 3, -1);
    adapter("fc");
    toy_done(&ad);
    data(&ad, "base_model.model.fc.lora_B.weight")[7] = NAN;
    assert_int_equal(lora(CONFIG("")), ST_OK);
    refused(fold_run(fold, &err), "fold-value");
    again();
    toy_add(&m, "fc.weight", 1, 4, 3, -1);
    adapter("fc");
    assert_int_equal(lora("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1e300,"
                          "\"fan_in_fan_out\": false}"),
                     ST_OK);
    refused(fold_run(fold, &err), "overflow");
    again();
    toy_add(&m, "fc.weight", 1, 4, 3, -1);
    adapter("fc");
    assert_int_equal(lora("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1.7e308,"
                          "\"fan_in_fan_out\": false}"),
                     ST_OK);
    refused(fold_run(fold, &err), "fold-value");
}

/* NNX: a b, without a factor, to a kernel around which it stands, or beside which. */
static void lora_of_nnx(void **state)
{
    (void)state;
    toy_add(&m, "fc.base_module.kernel.value", 100, 3, 4, -1);
    toy_add(&m, "fc.base_module.bias.value", 100, 4, -1);
    toy_add(&m, "fc.lora_a.value", 1, 3, 2, -1); /* 1 2 / 3 4 / 5 6 */
    toy_add(&m, "fc.lora_b.value", 1, 2, 4, -1); /* 1 2 3 4 / 5 6 7 8 */
    toy_add(&m, "out.kernel.value", 0, 1, 1, -1);
    toy_add(&m, "out.lora.lora_a.value", 2, 1, 1, -1);
    toy_add(&m, "out.lora.lora_b.value", 3, 1, 1, -1);
    assert_int_equal(lora(""), ST_OK);
    assert_true(str_is(told("fc.base_module.bias.value")->to, "fc.bias.value"));
    assert_null(told("out.lora.lora_b.value")->to.p);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("fc.kernel.value", 0, 100 + 1 * 1 + 2 * 5);
    value_is("fc.kernel.value", 11, 111 + 5 * 4 + 6 * 8);
    value_is("out.kernel.value", 0, 6);
    again();
    toy_add(&m, "kernel", 0, 2, 2, -1); /* at the top, the factors in a file of their own */
    toy_add(&ad, "lora.lora_a", 1, 2, 1, -1);
    toy_add(&ad, "lora.lora_b", 1, 1, 2, -1);
    assert_int_equal(lora(""), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("kernel", 3, 3 + 2 * 2);
}

static void lora_of_nnx_refused(void **state)
{
    (void)state;
    static const struct {
        const char *code, *name[4];
        uint64_t dim[4][3];
    } c[] = {
        {"lora-base", {"x.kernel", "y.lora_a", "y.lora_b"}, {{3, 4}, {3, 2}, {2, 4}}},
        {"lora-pair", {"y.base_module.kernel", "y.lora_a"}, {{3, 4}, {3, 2}}},
        {"lora-pair", {"y.base_module.kernel", "y.lora_b"}, {{3, 4}, {2, 4}}},
        {"lora-shape", {"y.base_module.kernel", "y.lora_a", "y.lora_b"}, {{3, 4}, {3, 2}, {3, 4}}},
        {"lora-shape", {"y.base_module.kernel", "y.lora_a", "y.lora_b"}, {{3, 4}, {4, 2}, {2, 3}}},
        {"lora-shape",
         {"y.base_module.kernel", "y.lora_a", "y.lora_b"},
         {{3, 4, 1}, {3, 2}, {2, 4}}},
        {"lora-several",
         {"y.lora.base_module.kernel", "y.kernel", "y.lora.lora_a", "y.lora.lora_b"},
         {{3, 4}, {3, 4}, {3, 2}, {2, 4}}},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        for (size_t k = 0; k < 4 && c[i].name[k]; k++) {
            size_t n = 0;
            while (n < 3 && c[i].dim[k][n])
                n++;
            toy_tensor(&m, c[i].name[k], 1, c[i].dim[k], n);
        }
        refused(lora(""), c[i].code);
        again();
    }
    toy_add(&m, "y.base_module.kernel", 1, 3, 4, -1);
    toy_add(&ad, "y.lora_a", 1, 3, 2, -1);
    toy_add(&ad, "y.lora_b", 1, 2, 4, -1);
    toy_add(&ad, "z.kernel", 1, 2, 4, -1);
    refused(lora(""), "lora-other");
}

static enum status upgraded(void)
{
    struct fold_opt o = {.cudnn = true};
    toy_done(&m);
    return fold_plan(&m, &o, &up, &fold, &err);
}

static void cudnn_lstm(void **state)
{
    (void)state;
    toy_add(&m, "a.kernel:0", 0, 3, 8, -1); /* gate 0: 0 1 / 8 9 / 16 17 */
    toy_add(&m, "a.recurrent_kernel:0", 0, 2, 8, -1);
    toy_add(&m, "a.bias:0", 0, 16, -1);
    toy_done(&m);
    assert_int_equal(fold_cudnn_found(&m), 1);
    assert_int_equal(upgraded(), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    /* the block's values in order are [units, inputs]: 0 1 8 / 9 16 17 */
    value_is("a.kernel:0", 1, 9);
    value_is("a.kernel:0", 8, 1);
    value_is("a.kernel:0", 17, 17);
    value_is("a.kernel:0", 7, 15); /* gate 3: 6 7 / 14 15 / 22 23, unit 1 of input 0 */
    value_is("a.recurrent_kernel:0", 1, 8);
    value_is("a.recurrent_kernel:0", 8, 1);
    value_is("a.bias:0", 3, 3 + 11);
    assert_int_equal(m.tensor[2].dim[0], 8);
}

static void cudnn_gru(void **state)
{
    (void)state;
    toy_add(&m, "a.kernel", 0, 2, 6, -1);
    toy_add(&m, "a.recurrent_kernel", 0, 2, 6, -1);
    toy_add(&m, "a.bias", 0, 12, -1);
    toy_add(&m, "b.kernel", 0, 2, 6, -1); /* Keras's own */
    toy_add(&m, "b.recurrent_kernel", 0, 2, 6, -1);
    toy_add(&m, "b.bias", 0, 2, 6, -1);
    assert_int_equal(upgraded(), ST_OK);
    assert_int_equal(up.n, 3);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    assert_int_equal(m.tensor[2].n_dims, 2);
    assert_int_equal(m.tensor[2].dim[1], 6);
    value_is("a.bias", 7, 7);
    value_is("b.recurrent_kernel", 1, 1);
}

static void types_shares_overflow(void **state)
{
    (void)state;
    static const float far[] = {3e38f, 3e38f};
    toy_add(&m, "a.weight_g", 1, 1, 1, -1);
    toy_add(&m, "a.weight_v", 1, 1, 1, -1);
    m.tensor[1].dtype = DT_I32;
    refused(norms(), "fold-type");
    fold_free(fold);
    fold = NULL;
    m.tensor[1].dtype = DT_F32;
    struct tensor *t;
    assert_int_equal(model_tensor_add(&m, &t, &err), ST_OK);
    t->name = STR("z.weight"); /* the same storage under another name */
    t->dtype = DT_F32;
    t->storage = m.tensor[1].storage;
    t->role = ROLE_PARAMETER;
    tensor_share_view(t, m.tensor[1].view);
    refused(norms(), "fold-shared");
    fold_free(fold);
    fold = NULL;
    model_free(&m);
    model_init(&m);
    toy_add(&m, "a.weight_g", 1, 1, -1);
    toy_add(&m, "a.weight_v", 1, 2, -1);
    memcpy((void *)(uintptr_t)m.storage[0].mem, far, sizeof *far);
    assert_int_equal(norms(), ST_OK);
    assert_int_equal(fold_run(fold, &err), ST_OK);
    value_is("a.weight", 1, 3e38 * 2 / sqrt(5));
    fold_free(fold);
    fold = NULL;
    model_free(&m);
    model_init(&m);
    toy_add(&m, "fc.weight", 1, 1, 1, -1);
    toy_add(&ad, "base_model.model.fc.lora_A.weight", 1, 2, 1, -1);
    toy_add(&ad, "base_model.model.fc.lora_B.weight", 1, 1, 2, -1);
    memcpy((void *)(uintptr_t)ad.storage[0].mem, far, sizeof far);
    assert_int_equal(lora(CONFIG("")), ST_OK);
    refused(fold_run(fold, &err), "overflow");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(weight_norm_of_rows, begin, end),
        cmocka_unit_test_setup_teardown(weight_norm_of_columns, begin, end),
        cmocka_unit_test_setup_teardown(spectral_norm, begin, end),
        cmocka_unit_test_setup_teardown(spectral_of_transposed, begin, end),
        cmocka_unit_test_setup_teardown(equinox_steps_out, begin, end),
        cmocka_unit_test_setup_teardown(flax_scale, begin, end),
        cmocka_unit_test_setup_teardown(norms_refused, begin, end),
        cmocka_unit_test_setup_teardown(state_and_types, begin, end),
        cmocka_unit_test_setup_teardown(zero_norm, begin, end),
        cmocka_unit_test_setup_teardown(no_numbers, begin, end),
        cmocka_unit_test_setup_teardown(eight_bits_and_averages, begin, end),
        cmocka_unit_test_setup_teardown(wrapped_layers, begin, end),
        cmocka_unit_test_setup_teardown(memory_is_told, begin, end),
        cmocka_unit_test_setup_teardown(lora_of_a_file, begin, end),
        cmocka_unit_test_setup_teardown(lora_stored_inputs_first, begin, end),
        cmocka_unit_test_setup_teardown(lora_in_one_model, begin, end),
        cmocka_unit_test_setup_teardown(lora_refused, begin, end),
        cmocka_unit_test_setup_teardown(lora_more_refused, begin, end),
        cmocka_unit_test_setup_teardown(lora_no_numbers, begin, end),
        cmocka_unit_test_setup_teardown(lora_of_nnx, begin, end),
        cmocka_unit_test_setup_teardown(lora_of_nnx_refused, begin, end),
        cmocka_unit_test_setup_teardown(cudnn_lstm, begin, end),
        cmocka_unit_test_setup_teardown(cudnn_gru, begin, end),
        cmocka_unit_test_setup_teardown(types_shares_overflow, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
