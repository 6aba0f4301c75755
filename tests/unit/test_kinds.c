/* Layer kinds that few models have: what tells a PReLU, which slopes fit where, what is asked. */
#include "convert/map.h"
#include "framework/rules.h"
#include "model/roles.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct plan p;
static struct arena arena;
static struct layers found;
static struct err err;
static struct buf asked;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    plan_init(&p, &m);
    asked = (struct buf)BUF_INIT;
    return 0;
}

static int end(void **state)
{
    (void)state;
    plan_free(&p);
    model_free(&m);
    arena_free(&arena);
    buf_free(&asked);
    return 0;
}

static void recognise(const char *framework)
{
    toy_done(&m);
    assert_int_equal(roles_by_name(&m, &err), ST_OK);
    const struct framework *f = framework_find(str_from(framework));
    assert_non_null(f);
    assert_int_equal(f->layers(&m, &arena, &found, &err), ST_OK);
}

static const struct layer *layer(const char *path)
{
    for (size_t i = 0; i < found.n; i++)
        if (str_is(found.layer[i].path, path))
            return &found.layer[i];
    fail_msg("no layer %s", path);
    return NULL;
}

static enum status map(const char *from, const char *to, const char *rules)
{
    struct map_opt o = {.from = from, .to = to, .rules = str_from(rules)};
    plan_free(&p);
    plan_init(&p, &m);
    buf_clear(&asked);
    return map_plan(&p, &o, NULL, 0, &asked, &err);
}

static void shape_of(const char *name, size_t n, const uint64_t *dim)
{
    const struct tensor *t = &p.dst.tensor[toy_find(&p.dst, name)];
    assert_int_equal(t->n_dims, n);
    for (size_t d = 0; d < n; d++)
        assert_int_equal(t->dim[d], dim[d]);
}

static void torch_by_name(void **state)
{
    (void)state;
    toy_add(&m, "act1.weight", 1, 1, -1);
    toy_add(&m, "stem.prelu.weight", 2, 4, -1);
    toy_add(&m, "net.1.weight", 3, 4, -1);
    toy_add(&m, "norm.weight", 4, 4, -1);
    toy_add(&m, "relu.weight", 5, 4, -1);
    toy_add(&m, "relu.bias", 5, 4, -1);
    recognise("pytorch");
    assert_int_equal(layer("act1")->kind, LAYER_PRELU);
    assert_int_equal(layer("act1")->form, FORM_ONE);
    assert_int_equal(layer("stem.prelu")->kind, LAYER_PRELU);
    assert_int_equal(layer("stem.prelu")->form, FORM_USUAL);
    assert_int_equal(layer("net.1")->kind, LAYER_NONE);
    assert_true(layer("net.1")->kinds & KIND_BIT(LAYER_PRELU));
    assert_true(layer("net.1")->kinds & KIND_BIT(LAYER_LAYERNORM));
    assert_int_equal(layer("norm")->kinds & KIND_BIT(LAYER_PRELU), 0);
    assert_int_equal(layer("relu")->kind, LAYER_LAYERNORM); /* a PReLU has no bias */
}

static void open_is_asked(void **state)
{
    (void)state;
    static const uint64_t one[] = {4};
    toy_add(&m, "net.1.weight", 3, 4, -1);
    toy_done(&m);
    assert_int_equal(map("pytorch", "equinox", ""), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    assert_true(str_find_str(buf_as_str(&asked), STR("prelu"), 0) < asked.n);
    assert_int_equal(map("pytorch", "equinox", "kind net.1 = prelu\nrank net.1 = 2\n"), ST_OK);
    shape_of("net.1.negative_slope", 1, one);
    assert_int_equal(map("pytorch", "canonical", ""), ST_OK); /* whichever it is */
    shape_of("net.1.weight", 1, one);
}

static void rank_is_asked_or_told(void **state)
{
    (void)state;
    static const uint64_t image[] = {1, 1, 4}, row[] = {4};
    toy_add(&m, "act.weight", 1, 4, -1);
    toy_done(&m);
    assert_int_equal(map("pytorch", "keras", ""), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    assert_true(str_find_str(buf_as_str(&asked), STR("rank \"act\" = ?"), 0) < asked.n);
    assert_int_equal(map("pytorch", "keras", "rank act = 4\n"), ST_OK);
    shape_of("act.alpha", 3, image);
    assert_int_equal(map("pytorch", "keras", "rank act = 2\n"), ST_OK);
    shape_of("act.alpha", 1, row);
}

static void rank_by_the_layer_before(void **state)
{
    (void)state;
    static const uint64_t image[] = {4, 1, 1}, scalar[] = {0};
    toy_add(&m, "0.weight", 1, 4, 3, 3, 3, -1);
    toy_add(&m, "0.bias", 2, 4, -1);
    toy_add(&m, "1.weight", 3, 4, -1);
    toy_add(&m, "2.weight", 4, 5, 4, 3, 3, -1);
    toy_add(&m, "2.bias", 5, 5, -1);
    toy_add(&m, "3.weight", 6, 1, -1);
    toy_done(&m);
    assert_int_equal(map("pytorch", "equinox", "kind 1 = prelu\nkind 3 = prelu\n"), ST_OK);
    shape_of("1.negative_slope", 3, image);
    shape_of("3.negative_slope", 0, scalar);
    static const uint64_t ones[] = {1, 1, 1};
    assert_int_equal(map("pytorch", "keras", "kind 1 = prelu\nkind 3 = prelu\n"), ST_OK);
    shape_of("3.alpha", 3, ones);
}

static void refused_by_name(void **state)
{
    (void)state;
    toy_add(&m, "act.weight", 1, 4, -1);
    toy_done(&m);
    assert_int_equal(map("pytorch", "flax", ""), ST_CANNOT);
    assert_string_equal(err.code, "prelu-shape");
    assert_int_equal(map("pytorch", "nnx", ""), ST_CANNOT);
    assert_string_equal(err.code, "prelu-shape");
    assert_int_equal(map("pytorch", "haiku", ""), ST_CANNOT);
    assert_string_equal(err.code, "prelu-unknown");
}

static void each_position(void **state)
{
    (void)state;
    static const uint64_t first[] = {4, 2, 3};
    m.framework = STR("keras");
    toy_add(&m, "prelu.alpha", 1, 2, 3, 4, -1);
    recognise("keras");
    assert_int_equal(layer("prelu")->form, FORM_MAP);
    assert_int_equal(map("keras", "equinox", ""), ST_OK);
    shape_of("prelu.negative_slope", 3, first);
    uint64_t n;
    double *v = toy_values(&p, 0, &n);
    assert_int_equal(n, 24);
    assert_true(v[1] > 4.5 && v[1] < 5.5); /* channel 0, position (0,1): the fifth of the source */
    free(v);
    assert_int_equal(map("keras", "pytorch", ""), ST_CANNOT);
    assert_string_equal(err.code, "prelu-shape");
}

static void own_alpha(void **state)
{
    (void)state;
    m.framework = STR("keras");
    toy_add(&m, "mix.alpha", 1, 4, -1);
    toy_add(&m, "blend.alpha", 1, 4, -1);
    toy_add(&m, "blend.kernel", 1, 4, 4, -1);
    recognise("keras");
    assert_int_equal(layer("mix")->kinds, KIND_BIT(LAYER_PRELU) | KIND_BIT(LAYER_PARAM));
    for (size_t i = 0; i < found.n; i++)
        if (str_starts(found.layer[i].path, STR("blend")))
            assert_int_equal(found.layer[i].kind, LAYER_PARAM);
}

/* peft's factors are dense layers and convolutions of their own, never tables. */
static void lora_factors(void **state)
{
    (void)state;
    toy_add(&m, "base_model.model.embed_proj.lora_A.default.weight", 1, 2, 6, -1);
    toy_add(&m, "base_model.model.embed_proj.lora_B.default.weight", 1, 4, 2, -1);
    toy_add(&m, "base_model.model.conv.lora_A.weight", 1, 2, 3, 3, 3, -1);
    toy_add(&m, "base_model.model.embed_proj.base_layer.weight", 1, 4, 6, -1);
    recognise("pytorch");
    assert_int_equal(layer("base_model.model.embed_proj.lora_A.default")->kind, LAYER_LINEAR);
    assert_int_equal(layer("base_model.model.embed_proj.lora_B.default")->kind, LAYER_LINEAR);
    assert_int_equal(layer("base_model.model.conv.lora_A")->kind, LAYER_CONV);
    assert_int_equal(layer("base_model.model.embed_proj.base_layer")->kind, LAYER_LINEAR);
}

static void norms_are_refused_unfolded(void **state)
{
    (void)state;
    toy_add(&m, "fc.weight_g", 1, 2, 1, -1);
    toy_add(&m, "fc.weight_v", 1, 2, 2, -1);
    toy_done(&m);
    assert_int_equal(map("pytorch", "flax", ""), ST_CANNOT);
    assert_string_equal(err.code, "norm-unfolded");
    assert_int_equal(map("pytorch", "canonical", ""), ST_OK); /* kept as they came */
    assert_true(toy_find(&p.dst, "fc.weight_g") >= 0);
}

static void cudnn_is_refused(void **state)
{
    (void)state;
    m.framework = STR("keras");
    toy_add(&m, "a.kernel", 0, 3, 8, -1);
    toy_add(&m, "a.recurrent_kernel", 0, 2, 8, -1);
    toy_add(&m, "a.bias", 0, 16, -1);
    toy_done(&m);
    assert_int_equal(map("keras", "pytorch", ""), ST_CANNOT);
    assert_string_equal(err.code, "cudnn-cell");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(torch_by_name, begin, end),
        cmocka_unit_test_setup_teardown(open_is_asked, begin, end),
        cmocka_unit_test_setup_teardown(rank_is_asked_or_told, begin, end),
        cmocka_unit_test_setup_teardown(rank_by_the_layer_before, begin, end),
        cmocka_unit_test_setup_teardown(refused_by_name, begin, end),
        cmocka_unit_test_setup_teardown(each_position, begin, end),
        cmocka_unit_test_setup_teardown(own_alpha, begin, end),
        cmocka_unit_test_setup_teardown(lora_factors, begin, end),
        cmocka_unit_test_setup_teardown(norms_are_refused_unfolded, begin, end),
        cmocka_unit_test_setup_teardown(cudnn_is_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
