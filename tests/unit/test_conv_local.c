/* Layers with a kernel for each position: what is one and what only looks so, exact numbers through
 * windows and positions in both directions, what is asked, skeletons of another shape, targets that
 * have none, and that every number matters to what validation computes.
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

static void beside(struct model *m, const char *layers)
{
    struct attachment *a;
    struct str text = arena_fmt(
        &m->arena, "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[%s]}}", layers);
    assert_int_equal(model_attach(m, &a, &err), ST_OK);
    a->name = STR("model_config.json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
}

#define LAYER(cls, name, more)                                                                     \
    "{\"class_name\":\"" cls "\",\"config\":{\"name\":\"" name "\",\"padding\":\"valid\"" more "}" \
    "}"
#define ONE LAYER("LocallyConnected1D", "one", ",\"kernel_size\":[2]")
#define TWO LAYER("LocallyConnected2D", "two", ",\"kernel_size\":[2,1]")

/* Two positions, two taps of two channels; two outputs where there are two axes. */
static void keras(struct model *m, const char *framework, bool told, bool biased)
{
    model_init(m);
    m->framework = str_from(framework);
    bool h5 = strcmp(framework, "keras") == 0;
    toy_add(m, h5 ? "one.one.kernel:0" : "one.kernel", 1, 2, 4, 1, -1);
    toy_add(m, h5 ? "two.two.kernel:0" : "two.kernel", 1, 2, 4, 2, -1);
    if (biased) {
        toy_add(m, h5 ? "one.one.bias:0" : "one.bias", 21, 2, 1, -1);
        toy_add(m, h5 ? "two.two.bias:0" : "two.bias", 31, 1, 2, 2, -1);
    }
    if (told)
        beside(m, ONE "," TWO);
    toy_done(m);
}

/* ---- numbers ---- */

static void there_and_back(void **state)
{
    static const char *const from[] = {"keras", "tensorflow"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct model m, f, c, back;
        keras(&m, from[i], true, true);
        becomes(&m, (struct map_opt){.to = "flax"}, &f);
        HOLDS(&f, "params.one.kernel", 1, 3, 2, 4, 5, 7, 6, 8);
        HOLDS(&f, "params.one.bias", 21, 22);
        HOLDS(&f, "params.two.kernel", 1, 2, 5, 6, 3, 4, 7, 8, 9, 10, 13, 14, 11, 12, 15, 16);
        HOLDS(&f, "params.two.bias", 31, 32, 33, 34);
        const struct tensor *t = &f.tensor[toy_find(&f, "params.two.kernel")];
        assert_true(t->n_dims == 4 && t->dim[0] == 1 && t->dim[1] == 2 && t->dim[2] == 4);
        becomes(&m, (struct map_opt){.to = "canonical"}, &c);
        HOLDS(&c, "one.weight", 1, 5, 3, 7, 2, 6, 4, 8);
        HOLDS(&c, "two.weight", 1, 9, 5, 13, 3, 11, 7, 15, 2, 10, 6, 14, 4, 12, 8, 16);
        HOLDS(&c, "two.bias", 31, 33, 32, 34);
        becomes(&c, (struct map_opt){.to = "source"}, &back);
        same(&m, &back);
        model_free(&back);
        becomes(&c, (struct map_opt){.to = "flax"}, &back);
        same(&f, &back);
        model_free(&back);
        struct map_opt o = {.from = "flax", .to = from[i], .like = &m};
        becomes(&f, o, &back); /* the skeleton's config tells the window */
        same(&m, &back);
        model_free(&back);
        o.like = NULL;
        refused(&f, o, "map-ambiguous"); /* named nothing, with no config */
        o.rules = STR("kind one = conv_local\nkind two = conv_local\n");
        refused(&f, o, "map-ambiguous");
        o.rules = STR("kind one = conv_local\nkind two = conv_local\nflatten * = 2\n");
        becomes(&f, o, &back);
        HOLDS(&back, "one.kernel", 1, 2, 3, 4, 5, 6, 7, 8);
        HOLDS(&back, "two.kernel", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
        HOLDS(&back, "two.bias", 31, 32, 33, 34);
        model_free(&back);
        model_free(&c);
        model_free(&f);
        model_free(&m);
    }
}

/* Three axes: Flax and canonical alone. */
static void solid(void **state)
{
    (void)state;
    struct model m, c, back;
    model_init(&m);
    toy_add(&m, "params.ConvLocal_0.kernel", 1, 2, 1, 2, 2, 1, -1);
    toy_add(&m, "params.ConvLocal_0.bias", 21, 2, 1, 2, 1, -1);
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "canonical"}, &c);
    HOLDS(&c, "ConvLocal_0.weight", 1, 3, 5, 7, 2, 4, 6, 8);
    HOLDS(&c, "ConvLocal_0.bias", 21, 22, 23, 24);
    becomes(&c, (struct map_opt){.to = "flax"}, &back);
    same(&m, &back);
    model_free(&back);
    model_free(&c);
    model_free(&m);
}

/* ---- what is asked ---- */

static void asked(void **state)
{
    (void)state;
    struct model m, f;
    keras(&m, "tensorflow", false, true); /* two axes of positions tell the kind */
    struct map_opt o = {.to = "flax"};
    refused(&m, o, "map-ambiguous");
    o.rules = STR("kind one = conv_local\nflatten * = 3\n");
    refused(&m, o, "map-flatten");
    o.rules = STR("kind one = conv_local\nflatten * = 2\n");
    becomes(&m, o, &f);
    HOLDS(&f, "params.one.kernel", 1, 3, 2, 4, 5, 7, 6, 8);
    model_free(&f);
    o.rules = STR("kind one = conv_local\nflatten * = none\n"); /* one tap */
    becomes(&m, o, &f);
    HOLDS(&f, "params.one.kernel", 1, 2, 3, 4, 5, 6, 7, 8);
    model_free(&f);
    model_free(&m);
    keras(&m, "keras", true, false); /* without biases, of how many rows? */
    o.rules = STR_NONE;
    refused(&m, o, "map-ambiguous");
    o.rules = STR("positions two = 4\n");
    refused(&m, o, "map-flatten");
    o.rules = STR("positions two = 2,1\n");
    becomes(&m, o, &f);
    const struct tensor *t = &f.tensor[toy_find(&f, "params.two.kernel")];
    assert_true(t->dim[0] == 2 && t->dim[1] == 1);
    model_free(&f);
    o = (struct map_opt){.to = "tensorflow"}; /* where they are joined too */
    becomes(&m, o, &f);
    HOLDS(&f, "two.kernel", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    model_free(&f);
    model_free(&m);
}

/* What a rules file may say of rows. */
static void rows_said(void **state)
{
    static const char *const bad[] = {"positions two = ?\n", "positions two = 0\n",
                                      "positions two = 1,x\n", "positions two\n"};
    (void)state;
    struct model m;
    struct plan p;
    keras(&m, "keras", true, false);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = str_from(bad[i])}),
                         ST_USAGE);
        plan_free(&p);
    }
    /* of one axis there are no rows */
    struct map_opt o = {.to = "flax", .rules = STR("positions two = 1\npositions one = 1\n")};
    assert_int_equal(map_to(&p, &m, o), ST_USAGE);
    assert_string_equal(err.code, "map-unused");
    plan_free(&p);
    model_free(&m);
}

/* A skeleton of as many positions in other rows, or of as wide a window of other channels. */
static void other_shapes(void **state)
{
    (void)state;
    struct model m, sk;
    keras(&m, "keras", true, true);
    model_init(&sk);
    toy_add(&sk, "params.one.kernel", 0, 2, 4, 1, -1);
    toy_add(&sk, "params.one.bias", 0, 2, 1, -1);
    toy_add(&sk, "params.two.kernel", 0, 2, 1, 4, 2, -1);
    toy_add(&sk, "params.two.bias", 0, 2, 1, 2, -1);
    toy_done(&sk);
    refused(&m, (struct map_opt){.to = "flax", .like = &sk}, "local-shape");
    model_free(&sk);
    model_init(&sk);
    sk.framework = STR("tensorflow");
    toy_add(&sk, "one.kernel", 0, 2, 4, 1, -1);
    toy_add(&sk, "one.bias", 0, 2, 1, -1);
    toy_add(&sk, "two.kernel", 0, 2, 4, 2, -1);
    toy_add(&sk, "two.bias", 0, 1, 2, 2, -1);
    beside(&sk, ONE "," LAYER("LocallyConnected2D", "two", ",\"kernel_size\":[2,2]"));
    toy_done(&sk);
    refused(&m, (struct map_opt){.to = "tensorflow", .like = &sk}, "local-shape");
    model_free(&sk);
    model_free(&m);
}

/* ---- recognition ---- */

enum { NOT, SURE, OPEN };
static void found(const char *framework, const char *path, int how, uint8_t rank,
                  const char *kernel, const uint64_t *w, size_t n, const char *bias,
                  const uint64_t *b, size_t n_b, const char *config)
{
    struct arena arena = ARENA_INIT;
    struct layers l;
    struct model m;
    bool seen = false;
    model_init(&m);
    m.framework = str_from(framework);
    toy_tensor(&m, kernel, 0, w, n);
    if (bias)
        toy_tensor(&m, bias, 0, b, n_b);
    if (config)
        beside(&m, config);
    toy_done(&m);
    assert_int_equal(framework_find(str_from(framework))->layers(&m, &arena, &l, &err), ST_OK);
    for (size_t i = 0; i < l.n; i++) {
        if (!str_is(l.layer[i].path, path))
            continue;
        seen = true;
        int is = l.layer[i].kind == LAYER_CONV_LOCAL               ? SURE
                 : (l.layer[i].kinds & KIND_BIT(LAYER_CONV_LOCAL)) ? OPEN
                                                                   : NOT;
        if (is != how || (how != NOT && l.layer[i].rank != rank))
            fail_msg("%s %s: %d of rank %u (%.*s)", framework, kernel, is,
                     (unsigned)l.layer[i].rank, STR_ARG(l.layer[i].reason));
    }
    assert_true(seen);
    model_free(&m);
    arena_free(&arena);
}
#define DIM(...) (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8
#define NO_BIAS NULL, NULL, 0
#define FLAX(name) "params." name ".kernel"
#define FLAX_B(name) "params." name ".bias"

static void recognised(void **state)
{
    (void)state;
    /* the class, or a bias by position and the name */
    found("flax", "ConvLocal_0", SURE, 1, FLAX("ConvLocal_0"), DIM(3, 6, 5), NO_BIAS, NULL);
    found("flax", "local1", SURE, 2, FLAX("local1"), DIM(3, 2, 6, 5), FLAX_B("local1"),
          DIM(3, 2, 5), NULL);
    found("flax", "local1", OPEN, 1, FLAX("local1"), DIM(3, 6, 5), FLAX_B("local1"), DIM(3, 5),
          NULL); /* dense layers in a stack look so */
    found("flax", "Dense_0", NOT, 0, FLAX("Dense_0"), DIM(3, 6, 5), FLAX_B("Dense_0"), DIM(3, 5),
          NULL);
    found("flax", "a", OPEN, 2, FLAX("a"), DIM(3, 2, 6, 5), FLAX_B("a"), DIM(3, 2, 5), NULL);
    found("flax", "local1", OPEN, 2, FLAX("local1"), DIM(3, 2, 6, 5), NO_BIAS, NULL);
    found("flax", "conv", NOT, 0, FLAX("conv"), DIM(3, 2, 6, 5), NO_BIAS, NULL);
    found("flax", "local1", NOT, 0, FLAX("local1"), DIM(3, 2, 6, 5), FLAX_B("local1"), DIM(5),
          NULL);
    found("flax", "ConvLocal_0", NOT, 0, FLAX("ConvLocal_0"), DIM(3, 6, 5), FLAX_B("ConvLocal_0"),
          DIM(2, 5), NULL);
    /* a dense layer's output in heads, and one for each of a batch */
    found("flax", "a", NOT, 0, FLAX("a"), DIM(6, 3, 5), FLAX_B("a"), DIM(3, 5), NULL);
    found("flax", "DenseGeneral_0", NOT, 0, FLAX("DenseGeneral_0"), DIM(3, 6, 5),
          FLAX_B("DenseGeneral_0"), DIM(3, 5), NULL);
    found("nnx", "local1", NOT, 0, "local1.kernel", DIM(3, 6, 5), "local1.bias", DIM(3, 5), NULL);
    /* Keras: by class, or by shape */
    found("keras", "one", SURE, 1, "one.one.kernel:0", DIM(3, 4, 5), NO_BIAS, ONE);
    found("keras", "two", SURE, 2, "two.two.kernel:0", DIM(6, 4, 5), NO_BIAS, TWO);
    found("keras", "locally_connected2d", SURE, 2, "layers.locally_connected2d.vars.0",
          DIM(6, 4, 5), "layers.locally_connected2d.vars.1", DIM(3, 2, 5), NULL);
    found("tensorflow", "a", SURE, 2, "a.kernel", DIM(6, 4, 5), "a.bias", DIM(3, 2, 5), NULL);
    found("tensorflow", "local", SURE, 1, "local.kernel", DIM(6, 4, 5), "local.bias", DIM(6, 5),
          NULL);
    found("tensorflow", "a", OPEN, 1, "a.kernel", DIM(6, 4, 5), "a.bias", DIM(6, 5), NULL);
    found("tensorflow", "a", NOT, 0, "a.kernel", DIM(4, 4, 5), "a.bias", DIM(4, 5), NULL);
    found("tensorflow", "a", NOT, 0, "a.kernel", DIM(6, 4, 5), "a.bias", DIM(3, 3, 5), NULL);
    /* implementation 2, 3; channels first; a bias of another model */
    found("keras", "one", NOT, 0, "one.one.kernel:0", DIM(4, 2, 3, 5), "one.one.bias:0", DIM(3, 5),
          ONE);
    found("keras", "one", NOT, 0, "one.one.kernel:0", DIM(60), "one.one.bias:0", DIM(3, 5), ONE);
    found("keras", "one", NOT, 0, "one.one.kernel:0", DIM(3, 4, 5), "one.one.bias:0", DIM(3, 5),
          LAYER("LocallyConnected1D", "one", ",\"data_format\":\"channels_first\""));
    found("keras", "two", NOT, 0, "two.two.kernel:0", DIM(6, 4, 5), "two.two.bias:0", DIM(2, 2, 5),
          TWO);
}

/* ---- targets without one ---- */

static void unlike(void **state)
{
    static const char *const to[] = {"pytorch", "equinox", "nnx"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct model m, out;
        struct plan p;
        keras(&m, "keras", true, true);
        assert_int_equal(map_to(&p, &m, (struct map_opt){.to = to[i]}), ST_OK);
        assert_int_equal(p.n_notes, 2);
        assert_non_null(strstr(p.note[0].text.p, " has no conv_local"));
        toy_freeze(&p, &out);
        HOLDS(&out, "one.kernel:0", 1, 2, 3, 4, 5, 6, 7, 8);
        plan_free(&p);
        model_free(&out);
        model_free(&m);
    }
    /* whatever it is, it is kept: nothing to ask */
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "params.a.kernel", 0, 3, 2, 6, 5, -1);
    toy_add(&m, "params.a.bias", 0, 3, 2, 5, -1);
    toy_add(&m, "params.b.kernel", 0, 3, 6, 5, -1);
    toy_add(&m, "params.b.bias", 0, 3, 5, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "pytorch"}), ST_OK);
    assert_int_equal(p.n_notes, 2);
    plan_free(&p);
    struct map_opt o = {.to = "keras"};
    refused(&m, o, "map-ambiguous");
    o.rules = STR("kind a = param\n"); /* b: most are dense layers in a stack */
    assert_int_equal(map_to(&p, &m, o), ST_OK);
    plan_free(&p);
    model_free(&m);
}

/* What Flax does unless told, and Keras cannot do otherwise. */
static void padding(void **state)
{
    (void)state;
    struct model m, f;
    struct plan p;
    keras(&m, "keras", true, true);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_OK);
    assert_int_equal(p.n_notes, 2);
    assert_string_equal(p.note[0].setting, "padding");
    assert_true(str_is(p.note[0].set, "padding='VALID'"));
    toy_freeze(&p, &f);
    plan_free(&p);
    assert_int_equal(map_to(&p, &f, (struct map_opt){.from = "flax", .to = "keras", .like = &m}),
                     ST_OK);
    assert_int_equal(p.n_notes, 2);
    assert_true(str_is(p.note[0].source, "same") && str_is(p.note[0].target, "none"));
    plan_free(&p);
    model_free(&f);
    model_free(&m);
}

/* ---- what it computes ---- */

static enum verdict verdict_of(const struct model *m, const char *from, const struct model *f,
                               const char *to, const char *rules)
{
    struct validate_report r;
    assert_int_equal(judged(m, from, f, to, rules, &r, &err), ST_OK);
    enum verdict v = r.overall;
    validate_free(&r);
    return v;
}

static void every_number_matters(void **state)
{
    static const char *const to[] = {"flax", "canonical", "tensorflow"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct model m, f;
        keras(&m, "keras", true, true);
        becomes(&m, (struct map_opt){.to = to[i]}, &f);
        assert_int_equal(verdict_of(&m, "keras", &f, to[i], ""), VERDICT_EQUAL);
        for (size_t t = 0; t < f.n_tensors; t++) {
            float *p = (float *)(uintptr_t)f.storage[f.tensor[t].storage].mem;
            for (uint64_t k = 0; k < tensor_elems(&f.tensor[t]); k++) {
                float was = p[k];
                p[k] += 0.5F;
                if (verdict_of(&m, "keras", &f, to[i], "") != VERDICT_DIFFERS)
                    fail_msg("%.*s: element %llu does not matter", STR_ARG(f.tensor[t].name),
                             (unsigned long long)k);
                p[k] = was;
            }
        }
        model_free(&f);
        model_free(&m);
    }
}

/* A window that neither side tells is proven where both have it in one order, and nowhere else. */
static void untold(void **state)
{
    (void)state;
    struct model m, f, c;
    model_init(&m);
    toy_add(&m, "params.local1.kernel", 1, 2, 1, 4, 2, -1);
    toy_add(&m, "params.local1.bias", 21, 2, 1, 2, -1);
    toy_done(&m);
    becomes(&m, (struct map_opt){.to = "canonical"}, &c);
    assert_int_equal(verdict_of(&m, "flax", &c, "canonical", ""), VERDICT_EQUAL);
    const char *rules = "flatten local1 = 2\n";
    becomes(&m, (struct map_opt){.to = "tensorflow", .rules = str_from(rules)}, &f);
    assert_int_equal(verdict_of(&m, "flax", &f, "tensorflow", ""), VERDICT_UNPROVEN);
    assert_int_equal(verdict_of(&m, "flax", &f, "tensorflow", rules), VERDICT_EQUAL);
    assert_int_equal(verdict_of(&m, "flax", &f, "tensorflow", "flatten local1 = 4\n"),
                     VERDICT_DIFFERS);
    model_free(&c);
    model_free(&f);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(solid),
        cmocka_unit_test(asked),
        cmocka_unit_test(rows_said),
        cmocka_unit_test(other_shapes),
        cmocka_unit_test(recognised),
        cmocka_unit_test(unlike),
        cmocka_unit_test(padding),
        cmocka_unit_test(every_number_matters),
        cmocka_unit_test(untold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
