/* What a rules file answers, and what is never answered by itself: kinds by a pattern, weights
 * whose axes nobody names, layers that one side alone has, the dense layers of an autoencoder,
 * what may be a bilinear layer.
 */
#include "model/roles.h"
#include "tests/lib/mapped.h"
#include <stdio.h>

static bool says(const char *text)
{
    struct str s = buf_as_str(&asked);
    return str_find_str(s, str_from(text), 0) < s.n;
}

/* a target tensor has this shape (ends with -1) */
static void shaped(const struct plan *p, const char *name, ...)
{
    const struct tensor *x = &p->dst.tensor[toy_find(&p->dst, name)];
    va_list ap;
    va_start(ap, name);
    has_shape(x, ap);
    va_end(ap);
}

static int end(void **state)
{
    (void)state;
    buf_free(&asked);
    asked = (struct buf)BUF_INIT;
    return 0;
}

/* A line that names a weight and not its axes says where it goes, and not that its axes are the
 * target's: a square one would fit either way. */
static void weights_need_axes(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "fc.weight", 0, 3, 3, -1);
    toy_add(&m, "fc.bias", 0, 3, -1);
    toy_done(&m);
    assert_int_equal(
        map_to(&p, &m,
               (struct map_opt){.to = "flax", .rules = STR("fc.weight -> params.out.kernel\n")}),
        ST_CANNOT);
    assert_string_equal(err.code, "map-axes");
    assert_non_null(strstr(err.reason, "\"fc\" -> LAYER"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("fc -> out\n")}));
    shaped(&p, "params.out.kernel", 3, 3, -1);
    plan_free(&p);
    must(map_to(&p, &m,
                (struct map_opt){.to = "flax",
                                 .rules = STR("fc.weight -> params.out.kernel axes \"O I\" -> "
                                              "\"O I\"\nfc.bias -> params.out.bias\n")}));
    plan_free(&p);
    model_free(&m);
}

/* A pattern that says a kind is for the layers that may be of it; one that fits none is refused. */
static void kinds_by_pattern(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "f.0.weight", 0, 4, 4, 3, 3, -1);
    toy_add(&m, "f.1.weight", 0, 4, -1);
    toy_add(&m, "f.1.bias", 0, 4, -1);
    toy_add(&m, "f.1.running_mean", 0, 4, -1);
    toy_add(&m, "f.1.running_var", 0, 4, -1);
    toy_add(&m, "f.2.weight", 0, 4, 5, 2, 2, -1); /* transposed: its bias has axis 1 */
    toy_add(&m, "f.2.bias", 0, 5, -1);
    toy_add(&m, "f.3.weight", 0, 7, 5, -1);
    toy_add(&m, "f.3.bias", 0, 7, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("kind f.* = conv\n")}));
    shaped(&p, "params.f.0.kernel", 3, 3, 4, 4, -1);
    shaped(&p, "params.f.2.kernel", 2, 2, 4, 5, -1);
    shaped(&p, "params.f.3.kernel", 5, 7, -1);
    plan_free(&p);
    assert_int_equal(
        map_to(&p, &m,
               (struct map_opt){.to = "flax", .rules = STR("kind f.0 = conv\nkind f.1* = conv\n")}),
        ST_USAGE);
    assert_string_equal(err.code, "map-unused");
    plan_free(&p);
    assert_int_equal(
        map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("kind f.1 = conv\n")}),
        ST_CANNOT);
    assert_string_equal(err.code, "map-kind");
    plan_free(&p);
    model_free(&m);
}

/* An autoencoder's last dense layer gives as many values as its first reads from a map: it comes
 * after, and answers nothing. A block's first dense layer does come before its second. */
static void flatten_of_autoencoders(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "conv.weight", 0, 4, 1, 3, 3, -1);
    toy_add(&m, "conv.bias", 0, 4, -1);
    toy_add(&m, "back.weight", 0, 36, 5, -1);
    toy_add(&m, "back.bias", 0, 36, -1);
    toy_add(&m, "mean.weight", 0, 2, 36, -1);
    toy_add(&m, "mean.bias", 0, 2, -1);
    toy_add(&m, "out.weight", 0, 5, 2, -1);
    toy_add(&m, "out.bias", 0, 5, -1);
    toy_add(&m, "up.weight", 0, 4, 1, 3, 3, -1);
    toy_add(&m, "up.bias", 0, 1, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(says("flatten \"mean\" = ?"));
    plan_free(&p);
    model_free(&m);
    model_init(&m);
    toy_add(&m, "patch.weight", 0, 4, 1, 3, 3, -1);
    toy_add(&m, "patch.bias", 0, 4, -1);
    toy_add(&m, "block.fc.weight", 0, 16, 4, -1);
    toy_add(&m, "block.fc.bias", 0, 16, -1);
    toy_add(&m, "block.proj.weight", 0, 4, 16, -1);
    toy_add(&m, "block.proj.bias", 0, 4, -1);
    toy_done(&m);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    plan_free(&p);
    model_free(&m);
}

/* A layer that only the source has goes, and one that only the skeleton has is made up, by the
 * names that the questions have: those of layers, which files may call otherwise. */
static void layers_dropped(void **state)
{
    static const char *const gone[] = {"norm_in.*", NULL};
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct model m, sk;
        struct plan p;
        model_init(&m);
        model_init(&sk);
        m.framework = STR("keras");
        toy_add(&m, "layers.dense.vars.0", 0, 3, 4, -1);
        toy_add(&m, "layers.dense.vars.1", 20, 4, -1);
        toy_add(&m, "layers.normalization.vars.0", 0, 7, -1);
        toy_add(&m, "layers.normalization.vars.1", 0, 7, -1);
        assert_int_equal(
            model_meta_add(&m, STR("layers/normalization/vars@name"), STR("norm_in"), &err), ST_OK);
        toy_add(&sk, "fc.weight", 0, 4, 3, -1);
        toy_add(&sk, "fc.bias", 0, 4, -1);
        toy_add(&sk, "scale", 0, 9, -1);
        toy_done(&m);
        toy_done(&sk);
        struct map_opt o = {.to = "pytorch", .like = &sk};
        if (way == 1)
            o.rules = STR("drop norm_in.*\nsynth scale = 0\n");
        if (way == 2) {
            o.rules = STR("synth scale = 1\n");
            o.allow_drop = gone;
        }
        enum status st = map_to(&p, &m, o);
        if (way == 0) {
            assert_int_equal(st, ST_CANNOT);
            assert_true(says("drop \"norm_in.vars.0\""));
            assert_true(says("synth \"scale\" = 0"));
        } else {
            must(st);
            uint64_t n;
            double *v = toy_values(&p, (size_t)toy_find(&p.dst, "scale"), &n);
            assert_int_equal(n, 9);
            for (size_t i = 0; i < n; i++)
                assert_true(v[i] == (way == 2));
            free(v);
            assert_int_equal(p.dst.n_tensors, 3);
        }
        plan_free(&p);
        model_free(&m);
        model_free(&sk);
    }
}

/* Counters beside the weights: TensorFlow's own stays behind, others where the skeleton has none
 * and they may. */
static void counters_beside(void **state)
{
    static const char *const may[] = {"step", "*.ExponentialMovingAverage", NULL};
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct model m, sk;
        struct plan p;
        model_init(&m);
        model_init(&sk);
        m.framework = STR("tensorflow");
        toy_add(&m, "fc.kernel", 0, 3, 4, -1);
        toy_add(&m, "fc.bias", 0, 4, -1);
        toy_add(&m, "fc.kernel.ExponentialMovingAverage", 0, 3, 4, -1);
        toy_counter(&m, "save_counter", 1);
        toy_counter(&m, "step", 7);
        toy_add(&sk, "fc.weight", 0, 4, 3, -1);
        toy_add(&sk, "fc.bias", 0, 4, -1);
        toy_done(&m);
        toy_done(&sk);
        assert_int_equal(roles_by_name(&m, &err), ST_OK);
        must(
            map_to(&p, &m,
                   (struct map_opt){.to = "pytorch", .like = &sk, .allow_drop = way ? may : NULL}));
        assert_int_equal(p.dst.n_tensors, way ? 2 : 4);
        plan_free(&p);
        model_free(&m);
        model_free(&sk);
    }
}

static void dense_norm(struct model *m, const char *name, uint64_t n)
{
    static const char *const leaf[] = {"weight", "bias", "running_mean", "running_var"};
    char text[96];
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "%s.%s", name, leaf[i]);
        toy_tensor(m, text, 0, &n, 1);
    }
}

static void dense_conv(struct model *m, const char *name, uint64_t out, uint64_t in, uint64_t k)
{
    char text[96];
    snprintf(text, sizeof text, "%s.weight", name);
    toy_tensor(m, text, 0, (uint64_t[]){out, in, k, k}, 4);
}

/* A small DenseNet; wide: what the third block reads besides the sum of what came before. */
static void dense_net(struct model *m, uint64_t wide)
{
    char text[64];
    uint64_t n = 8;
    model_init(m);
    dense_conv(m, "features.conv0", 8, 3, 3);
    for (unsigned i = 1; i <= 3; i++, n += 4) {
        n += i == 3 ? wide : 0;
        for (unsigned k = 1; k <= 2; k++) {
            snprintf(text, sizeof text, "features.block.layer%u.norm%u", i, k);
            dense_norm(m, text, k == 1 ? n : 16);
            snprintf(text, sizeof text, "features.block.layer%u.conv%u", i, k);
            dense_conv(m, text, k == 1 ? 16 : 4, k == 1 ? n : 16, k == 1 ? 1 : 3);
        }
    }
    dense_norm(m, "features.norm5", n);
    toy_add(m, "classifier.weight", 0, 2, (int)n, -1);
    toy_add(m, "classifier.bias", 0, 2, -1);
    toy_done(m);
}

/* Maps put side by side: what a block reads is no flattened map, nor what the last one leaves,
 * where each block reads what the one before read and gave. */
static void flatten_of_dense_nets(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    dense_net(&m, 0);
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    plan_free(&p);
    model_free(&m);
    dense_net(&m, 4); /* the last norm and the classifier, whose 24 may be 6 positions of 4 */
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(says("flatten \"features.norm5\" = ?"));
    assert_true(says("flatten \"classifier\" = ?"));
    assert_false(says("flatten \"features.block"));
    plan_free(&p);
    model_free(&m);
    /* a norm that pairs with no convolution: asked */
    dense_net(&m, 0);
    dense_norm(&m, "tail.norm1", 64);
    dense_conv(&m, "tail.conv1", 16, 60, 1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(says("flatten \"tail.norm1\" = ?"));
    plan_free(&p);
    model_free(&m);
}

/* No target has nn.Bilinear: a layer named so is kept and said, one that may be is asked about. */
static void bilinear_is_no_convolution(void **state)
{
    (void)state;
    struct model m;
    struct plan p;
    model_init(&m);
    toy_add(&m, "left.weight", 0, 12, 10, -1);
    toy_add(&m, "left.bias", 0, 12, -1);
    toy_add(&m, "right.weight", 0, 8, 9, -1);
    toy_add(&m, "right.bias", 0, 8, -1);
    toy_add(&m, "bilinear.weight", 0, 5, 12, 8, -1);
    toy_add(&m, "bilinear.bias", 0, 5, -1);
    toy_done(&m);
    static const char *const to[] = {"flax", "nnx", "keras", "haiku", "equinox", "tensorflow"};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        must(map_to(&p, &m, (struct map_opt){.to = to[i]}));
        assert_int_equal(p.n_notes, 1);
        assert_true(str_is(p.note[0].layer, "bilinear"));
        plan_free(&p);
    }
    must(map_to(&p, &m, (struct map_opt){.to = "flax"}));
    shaped(&p, "params.bilinear.weight", 5, 12, 8, -1);
    plan_free(&p);
    toy_add(&m, "score.weight", 0, 5, 12, 8, -1);
    toy_add(&m, "score.bias", 0, 5, -1);
    toy_done(&m);
    assert_int_equal(map_to(&p, &m, (struct map_opt){.to = "flax"}), ST_CANNOT);
    assert_true(says("kind \"score\" = ?"));
    assert_true(says("nn.Bilinear"));
    plan_free(&p);
    must(map_to(&p, &m, (struct map_opt){.to = "flax", .rules = STR("kind score = param\n")}));
    shaped(&p, "params.score.weight", 5, 12, 8, -1);
    plan_free(&p);
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(weights_need_axes, end),
        cmocka_unit_test_teardown(kinds_by_pattern, end),
        cmocka_unit_test_teardown(flatten_of_autoencoders, end),
        cmocka_unit_test_teardown(layers_dropped, end),
        cmocka_unit_test_teardown(counters_beside, end),
        cmocka_unit_test_teardown(flatten_of_dense_nets, end),
        cmocka_unit_test_teardown(bilinear_is_no_convolution, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
