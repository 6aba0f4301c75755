/* Linear layers over several axes: Flax's DenseGeneral and NNX's LinearGeneral, Keras's
 * EinsumDense. Which axes are read and which are given is told by a bias, an equation, the other
 * side or a rules file, and never guessed; the numbers are where the formulas say, both ways.
 */
#include "framework/dense.h"
#include "framework/framework.h"
#include "tests/lib/judged.h"
#include "tests/lib/mapped.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, like, made;
static struct plan p;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&like);
    model_init(&made);
    return 0;
}

static int end(void **state)
{
    (void)state;
    model_free(&m);
    model_free(&like);
    model_free(&made);
    buf_free(&asked);
    return 0;
}

static enum status map_it(const struct model *src, const char *from, const char *to,
                          const struct model *skeleton, const char *rules)
{
    struct map_opt o = {.from = from, .to = to, .like = skeleton, .rules = str_from(rules)};
    return map_to(&p, src, o);
}

/* shape (ends with -1) and one value of a target tensor */
static double at(const char *name, size_t i, ...)
{
    int64_t t = toy_find(&p.dst, name);
    const struct tensor *x = &p.dst.tensor[t];
    uint64_t n;
    va_list ap;
    va_start(ap, i);
    has_shape(x, ap);
    va_end(ap);
    double *v = toy_values(&p, (size_t)t, &n), out = v[i];
    free(v);
    return out;
}

static enum verdict judge(const struct model *a, const char *from, const struct model *b,
                          const char *to)
{
    struct validate_report r;
    must(judged(a, from, b, to, "", &r, &err));
    enum verdict v = r.overall;
    if (v != VERDICT_EQUAL && r.n)
        print_message("%.*s\n", STR_ARG(r.layer[0].why));
    validate_free(&r);
    return v;
}

static void shape(struct tensor *t, const int *dim)
{
    *t = (struct tensor){0};
    static uint64_t room[2][8];
    static int k;
    t->dim = room[k++ % 2];
    for (; dim[t->n_dims] > 0; t->n_dims++)
        ((uint64_t *)(uintptr_t)t->dim)[t->n_dims] = (uint64_t)dim[t->n_dims];
}

static void by_bias(void **state)
{
    (void)state;
    static const struct {
        int kernel[8], bias[8];
        size_t n_in, n_batch;
    } of[] = {
        {{2, 3, 4, 5}, {4, 5}, 2, 0}, {{2, 3, 4}, {4}, 2, 0},
        {{2, 3, 4}, {3, 4}, 1, 0},    {{7, 3, 4}, {7, 4}, 1, 1}, /* one of each */
        {{7, 2, 3, 4}, {7, 4}, 2, 1}, {{6, 7, 3, 4}, {6, 7, 4}, 1, 2},
        {{4, 4, 4}, {4, 4}, 0, 0}, /* features 4,4, or features 4 of a batch of 4 */
        {{3, 3, 4}, {3, 4}, 0, 0},    {{2, 3, 4}, {5}, 0, 0},
        {{2, 3, 4}, {2, 3, 4}, 0, 0}, {{2, 3, 4}, {2}, 0, 0},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct tensor w, b;
        size_t n_batch;
        shape(&w, of[i].kernel);
        shape(&b, of[i].bias);
        size_t n = dense_inputs(&w, &b, &n_batch);
        if (n != of[i].n_in || (n && n_batch != of[i].n_batch))
            fail_msg("case %zu: %zu, %zu", i, n, n_batch);
    }
}

static void by_equation(void **state)
{
    (void)state;
    static const struct {
        const char *equation, *bias_axes;
        int kernel[8], bias[8];
        const char *weight, *in, *out, *bias_is; /* weight NULL: none; "": a usual one */
        bool moves;
    } of[] = {
        {"abc,cde->abde", "de", {2, 3, 4}, {3, 4}, "Fij", "F", "ij", "ij", false},
        {"abc,ced->abde", "de", {2, 4, 3}, {3, 4}, "Fji", "F", "ij", "ij", false},
        {"abcd,cde->abe", "e", {2, 3, 4}, {4}, "abO", "ab", "O", "O", false},
        {"abcd,dce->abe", "e", {3, 2, 4}, {4}, "baO", "ab", "O", "O", false},
        {"abcd,edc->abe", "e", {4, 3, 2}, {4}, "Oba", "ab", "O", "O", false},
        {"...cd,cdef->...ef", "ef", {2, 3, 4, 5}, {4, 5}, "abij", "ab", "ij", "ij", false},
        {"abc,cd->abd", "d", {2, 3}, {3}, "", NULL, NULL, NULL, false},
        {"...x,xy->...y", "y", {2, 3}, {3}, "", NULL, NULL, NULL, false},
        {"abc,dc->abd", "d", {3, 2}, {3}, "OF", "F", "O", "O", false},
        {"abc,bd->adc", "d", {2, 3}, {3, 1}, "FO", "F", "O", "O1", true},
        {"abc,cde->adbe", "de", {2, 3, 4}, {3, 1, 4}, "Fij", "F", "ij", "i1j", true},
        {"abc...,bd->adc...", "d", {2, 3}, {3, 1, 1}, "FO", "F", "O", "O11", true},
        {"abc,cd->bad", "d", {2, 3}, {3}, "FO", "F", "O", "O", true},
        {"ba,bc->ac", NULL, {2, 3}, {0}, "FO", "F", "O", "", true},
        /* an axis shared by all three, one that is summed, a diagonal, what is no equation */
        {"abc,acd->abd", "d", {2, 3, 4}, {4}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->ad", "d", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,cde->abd", "d", {2, 3, 4}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,ccd->abd", "d", {2, 2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->abdx", "d", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,cd", "d", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"->,", "d", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"...c,cd->d...", "d", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"", NULL, {2, 3}, {0}, NULL, NULL, NULL, NULL, false},
        /* kernels of other axes, biases of other axes or fewer */
        {"abc,cde->abde", "de", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,cde->abde", "e", {2, 3, 4}, {4}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->abd", "b", {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->abd", "bd", {2, 3}, {5, 3}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->abd", "d", {2, 3}, {2}, NULL, NULL, NULL, NULL, false},
        {"abc,cd->abd", NULL, {2, 3}, {3}, NULL, NULL, NULL, NULL, false},
    };
    struct arena a = ARENA_INIT;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct tensor w, b;
        const struct dense_axes *d;
        const char *why;
        bool is;
        shape(&w, of[i].kernel);
        shape(&b, of[i].bias);
        assert_int_equal(dense_einsum(str_from(of[i].equation),
                                      str_from(of[i].bias_axes ? of[i].bias_axes : ""), &w,
                                      of[i].bias[0] ? &b : NULL, &a, &d, &is, &why, &err),
                         ST_OK);
        if (is != (of[i].weight != NULL) || (!is && !why))
            fail_msg("%s: %s", of[i].equation, why ? why : "is one");
        if (!is || !*of[i].weight) {
            assert_null(d);
            continue;
        }
        assert_non_null(d);
        assert_string_equal(d->weight, of[i].weight);
        assert_string_equal(d->in, of[i].in);
        assert_string_equal(d->out, of[i].out);
        assert_string_equal(d->bias, of[i].bias_is);
        assert_int_equal(d->moves, of[i].moves);
    }
    arena_free(&a);
}

/* ---- what Flax's trees tell ---- */

static void recognised(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum layer_kind kind;
        bool dense, open;
        unsigned kinds;
    } want[] = {
        {"DenseGeneral_0", LAYER_LINEAR, true, false, KIND_BIT(LAYER_LINEAR)},
        {"DenseGeneral_1", LAYER_NONE, false, true, 0},
        {"DenseGeneral_2", LAYER_NONE, false, false, 0}, /* batch axes */
        {"DenseGeneral_3", LAYER_NONE, false, true, 0},  /* two readings */
        {"DenseGeneral_4", LAYER_LINEAR, false, false, KIND_BIT(LAYER_LINEAR)},
        {"Dense_0", LAYER_NONE, false, false, 0}, /* a stack */
        {"Einsum_0", LAYER_NONE, false, false, 0},
        {"Einsum_1", LAYER_LINEAR, false, false, KIND_BIT(LAYER_LINEAR)},
        {"Einsum_2", LAYER_NONE, false, false, 0},
        {"Einsum_3", LAYER_NONE, false, false, 0},
        {"merge", LAYER_NONE, true, false,
         KIND_BIT(LAYER_LINEAR) | KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE)},
        {"split", LAYER_LINEAR, true, false, KIND_BIT(LAYER_LINEAR)},
    };
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 4, 5, -1);
    toy_add(&m, "params.DenseGeneral_0.bias", 0, 4, 5, -1);
    toy_add(&m, "params.DenseGeneral_1.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.DenseGeneral_2.kernel", 0, 7, 3, 4, -1);
    toy_add(&m, "params.DenseGeneral_2.bias", 0, 7, 4, -1);
    toy_add(&m, "params.DenseGeneral_3.kernel", 0, 4, 4, 4, -1);
    toy_add(&m, "params.DenseGeneral_3.bias", 0, 4, 4, -1);
    toy_add(&m, "params.DenseGeneral_4.kernel", 0, 4, 4, -1);
    toy_add(&m, "params.Dense_0.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.Dense_0.bias", 0, 3, 4, -1);
    toy_add(&m, "params.Einsum_0.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.Einsum_0.bias", 0, 3, 4, -1);
    toy_add(&m, "params.Einsum_1.kernel", 0, 2, 3, -1);
    toy_add(&m, "params.Einsum_1.bias", 0, 3, -1);
    toy_add(&m, "params.Einsum_2.kernel", 0, 3, 3, -1);
    toy_add(&m, "params.Einsum_2.bias", 0, 3, -1);
    toy_add(&m, "params.Einsum_3.kernel", 0, 2, 3, -1);
    toy_add(&m, "params.merge.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.merge.bias", 0, 4, -1);
    toy_add(&m, "params.split.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.split.bias", 0, 3, 4, -1);
    toy_done(&m);
    for (int stacked = 0; stacked < 2; stacked++) {
        struct arena a = ARENA_INIT;
        struct layers l;
        if (stacked) { /* a norm of several axes: what ends as its bias may be a stack's, too */
            model_free(&m);
            model_init(&m);
            toy_add(&m, "params.split.kernel", 0, 2, 3, 4, -1);
            toy_add(&m, "params.split.bias", 0, 3, 4, -1);
            toy_add(&m, "params.norm.scale", 0, 3, 4, -1);
            toy_done(&m);
        }
        assert_int_equal(framework_find(STR("flax"))->layers(&m, &a, &l, &err), ST_OK);
        for (size_t i = 0; i < l.n; i++) {
            const struct layer *y = &l.layer[i];
            size_t k = 0;
            while (k < sizeof want / sizeof *want && !str_is(y->path, want[k].path))
                k++;
            if (stacked) {
                assert_true(y->kind == LAYER_NONE && !y->dense);
                continue;
            }
            assert_true(k < sizeof want / sizeof *want);
            if (y->kind != want[k].kind || (y->dense != NULL) != want[k].dense ||
                y->split_open != want[k].open || y->kinds != want[k].kinds)
                fail_msg("%s is %s: %.*s", want[k].path, layer_kind_name(y->kind),
                         STR_ARG(y->reason));
        }
        arena_free(&a);
    }
}

/* ---- there and back ---- */

/* kernel [2,3,4,5], bias [4,5]: W[(i j),(a b)] = kernel[a,b,i,j] */
static void flax_model(const char *framework)
{
    bool nnx = strcmp(framework, "nnx") == 0;
    m.framework = str_from(framework);
    toy_add(&m, nnx ? "fc.kernel" : "params.fc.kernel", 0, 2, 3, 4, 5, -1);
    toy_add(&m, nnx ? "fc.bias" : "params.fc.bias", 500, 4, 5, -1);
    toy_done(&m);
}

static void to_torch(void **state)
{
    (void)state;
    static const char *const of[] = {"flax", "nnx"};
    for (int f = 0; f < 2; f++) {
        flax_model(of[f]);
        must(map_it(&m, NULL, "pytorch", NULL, ""));
        for (int o = 0; o < 20; o++)
            for (int i = 0; i < 6; i++)
                assert_true(at("fc.weight", (size_t)(o * 6 + i), 20, 6, -1) == i * 20 + o);
        assert_true(at("fc.bias", 13, 20, -1) == 513);
        toy_freeze(&p, &made);
        plan_free(&p);
        /* alone a dense layer; with a skeleton its axes */
        must(map_it(&made, "pytorch", of[f], NULL, ""));
        assert_true(at(f ? "fc.kernel" : "params.fc.kernel", 21, 6, 20, -1) == 21);
        plan_free(&p);
        must(map_it(&made, "pytorch", of[f], &m, ""));
        for (int i = 0; i < 120; i++)
            assert_true(at(f ? "fc.kernel" : "params.fc.kernel", (size_t)i, 2, 3, 4, 5, -1) == i);
        assert_true(at(f ? "fc.bias" : "params.fc.bias", 7, 4, 5, -1) == 507);
        plan_free(&p);
        model_free(&made);
        model_free(&m);
        model_init(&m);
    }
    model_init(&made);
}

/* The other spelling of one row: kernels [in,out] too, and no axes. */
static void to_haiku(void **state)
{
    (void)state;
    flax_model("flax");
    must(map_it(&m, NULL, "haiku", NULL, ""));
    assert_true(at("params.fc.w", 27, 6, 20, -1) == 27);
    assert_true(at("params.fc.b", 7, 20, -1) == 507);
    plan_free(&p);
}

static void archived(void **state)
{
    (void)state;
    flax_model("flax");
    must(map_it(&m, NULL, "canonical", NULL, ""));
    assert_true(at("fc.weight", 1, 20, 6, -1) == 20);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&made, NULL, "source", NULL, ""));
    for (int i = 0; i < 120; i++)
        assert_true(at("params.fc.kernel", (size_t)i, 2, 3, 4, 5, -1) == i);
    assert_true(at("params.fc.bias", 19, 4, 5, -1) == 519);
    plan_free(&p);
}

/* The axes may be divided otherwise there, where one side's are a run of the other's. */
static void divided(void **state)
{
    (void)state;
    flax_model("flax");
    like.framework = STR("nnx");
    toy_add(&like, "d.kernel", 0, 6, 2, 2, 5, -1);
    toy_add(&like, "d.bias", 0, 2, 2, 5, -1);
    toy_done(&like);
    must(map_it(&m, NULL, "nnx", &like, ""));
    assert_true(at("d.kernel", 77, 6, 2, 2, 5, -1) == 77);
    assert_true(at("d.bias", 7, 2, 2, 5, -1) == 507);
    plan_free(&p);
}

/* ---- no bias: the other side tells, or nothing is moved ---- */

static void by_other_side(void **state)
{
    (void)state;
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 4, -1);
    toy_done(&m);
    must(map_it(&m, "flax", "pytorch", NULL, "")); /* kept, with a note */
    assert_true(at("DenseGeneral_0.kernel", 5, 2, 3, 4, -1) == 5);
    assert_int_equal(p.n_notes, 1);
    plan_free(&p);
    toy_add(&like, "fc.weight", 0, 4, 6, -1);
    toy_done(&like);
    must(map_it(&m, "flax", "pytorch", &like, ""));
    assert_true(at("fc.weight", 7, 4, 6, -1) == 1 * 4 + 1);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&made, "pytorch", "flax", &m, ""));
    assert_true(at("params.DenseGeneral_0.kernel", 5, 2, 3, 4, -1) == 5);
    plan_free(&p);
}

/* Two dense layers of its size that read differently: asked about, and told by a pair. */
static void by_rules(void **state)
{
    (void)state;
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.Dense_1.kernel", 0, 2, 12, -1);
    toy_done(&m);
    toy_add(&like, "one.weight", 0, 4, 6, -1);
    toy_add(&like, "two.weight", 0, 12, 2, -1);
    toy_done(&like);
    assert_int_equal(map_it(&m, "flax", "pytorch", &like, ""), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    plan_free(&p);
    must(map_it(&m, "flax", "pytorch", &like, "DenseGeneral_0 -> one\n"));
    assert_true(at("one.weight", 7, 4, 6, -1) == 5);
    assert_true(at("two.weight", 1, 12, 2, -1) == 12);
    plan_free(&p);
    /* told otherwise, nothing is left for the other one */
    assert_int_equal(map_it(&m, "flax", "pytorch", &like, "DenseGeneral_0 -> two\n"), ST_CANNOT);
    plan_free(&p);
    /* a single tensor, whose axes the rules file names; as the manual has it */
    must(map_it(&m, "flax", "pytorch", NULL,
                "params.DenseGeneral_0.kernel -> fc.weight axes \"N D O\" -> \"O (N D)\"\n"));
    assert_true(at("fc.weight", 7, 4, 6, -1) == 5);
    plan_free(&p);
}

/* A kernel of three axes and a bias of its last is a dense layer's or a convolution's. */
static void or_convolution(void **state)
{
    (void)state;
    toy_add(&m, "params.merge.kernel", 0, 2, 3, 4, -1);
    toy_add(&m, "params.merge.bias", 50, 4, -1);
    toy_done(&m);
    assert_int_equal(map_it(&m, "flax", "pytorch", NULL, ""), ST_CANNOT);
    assert_true(str_find_str(buf_as_str(&asked), STR("linear | conv | conv_transpose"), 0) <
                asked.n);
    plan_free(&p);
    must(map_it(&m, "flax", "pytorch", NULL, "kind merge = linear\n"));
    assert_true(at("merge.weight", 7, 4, 6, -1) == 5);
    plan_free(&p);
    must(map_it(&m, "flax", "pytorch", NULL, "kind merge = conv\n"));
    assert_true(at("merge.weight", 1, 4, 3, 2, -1) == 12);
    plan_free(&p);
    toy_add(&like, "net.weight", 0, 4, 6, -1);
    toy_add(&like, "net.bias", 0, 4, -1);
    toy_done(&like);
    must(map_it(&m, "flax", "pytorch", &like, ""));
    assert_true(at("net.weight", 7, 4, 6, -1) == 5);
    toy_freeze(&p, &made);
    plan_free(&p);
    assert_int_equal(judge(&m, "flax", &made, "pytorch"), VERDICT_EQUAL);
}

/* Batch axes: the other side's list of dense layers, one for each. */
static void batches(void **state)
{
    (void)state;
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 5, -1);
    toy_add(&m, "params.DenseGeneral_0.bias", 50, 2, 5, -1);
    toy_done(&m);
    must(map_it(&m, "flax", "pytorch", NULL, ""));
    assert_true(at("DenseGeneral_0.kernel", 5, 2, 3, 5, -1) == 5);
    assert_int_equal(p.n_notes, 1);
    plan_free(&p);
    for (int i = 0; i < 2; i++) {
        toy_add(&like, i ? "fc.1.weight" : "fc.0.weight", 0, 5, 3, -1);
        toy_add(&like, i ? "fc.1.bias" : "fc.0.bias", 0, 5, -1);
    }
    toy_done(&like);
    must(map_it(&m, "flax", "pytorch", &like, ""));
    assert_true(at("fc.1.weight", 3, 5, 3, -1) == 15 + 1);
    assert_true(at("fc.1.bias", 2, 5, -1) == 57);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&made, "pytorch", "flax", &m, ""));
    assert_true(at("params.DenseGeneral_0.kernel", 16, 2, 3, 5, -1) == 16);
    plan_free(&p);
}

/* A map that is read by its axes, [H,W,C], where torch reads [C,H,W]. */
static void flattened(void **state)
{
    (void)state;
    toy_add(&m, "params.Conv_0.kernel", 0, 3, 3, 1, 4, -1);
    toy_add(&m, "params.Conv_0.bias", 0, 4, -1);
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 4, 5, -1);
    toy_add(&m, "params.DenseGeneral_0.bias", 0, 5, -1);
    toy_done(&m);
    assert_int_equal(map_it(&m, "flax", "pytorch", NULL, ""), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    plan_free(&p);
    must(map_it(&m, "flax", "pytorch", NULL, "flatten DenseGeneral_0 = 4\n"));
    for (int c = 0; c < 4; c++)
        for (int s = 0; s < 6; s++)
            assert_true(at("DenseGeneral_0.weight", (size_t)(24 + c * 6 + s), 5, 24, -1) ==
                        (s * 4 + c) * 5 + 1);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&made, "pytorch", "flax", &m, "flatten DenseGeneral_0 = 4\n"));
    assert_true(at("params.DenseGeneral_0.kernel", 77, 2, 3, 4, 5, -1) == 77);
    plan_free(&p);
    must(map_it(&m, "flax", "pytorch", NULL, "flatten DenseGeneral_0 = none\n"));
    assert_true(at("DenseGeneral_0.weight", 25, 5, 24, -1) == 6);
    plan_free(&p);
    assert_int_equal(map_it(&m, "flax", "pytorch", NULL, "flatten DenseGeneral_0 = 2\n"),
                     ST_CANNOT);
    assert_string_equal(err.code, "dense-flatten");
    plan_free(&p);
}

/* ---- Keras ---- */

static void config(struct model *x, char *text, size_t room, const char *equation, const char *bias)
{
    struct attachment *a;
    snprintf(text, room,
             "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":["
             "{\"class_name\":\"EinsumDense\",\"config\":{\"name\":\"fc\",\"equation\":"
             "\"%s\",\"output_shape\":[null,5],\"bias_axes\":%s}}]}}",
             equation, bias);
    assert_int_equal(model_attach(x, &a, &err), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

/* "abcd,fdce->abef": kernel [f,d,c,e], in (c d), out (e f), of 5,3,2,4 */
static void keras_model(struct model *x, char *text, size_t room)
{
    x->framework = STR("keras");
    config(x, text, room, "abcd,fdce->abef", "\"ef\"");
    toy_add(x, "layers.einsum_dense.vars.0", 0, 5, 3, 2, 4, -1);
    toy_add(x, "layers.einsum_dense.vars.1", 500, 4, 5, -1);
    toy_done(x);
}

static double einsum_at(int e, int f, int c, int d)
{
    return ((f * 3 + d) * 2 + c) * 4 + e;
}

static void keras(void **state)
{
    (void)state;
    char text[400], other[400];
    keras_model(&m, text, sizeof text);
    must(map_it(&m, NULL, "pytorch", NULL, ""));
    for (int e = 0; e < 4; e++)
        for (int f = 0; f < 5; f++)
            for (int c = 0; c < 2; c++)
                for (int d = 0; d < 3; d++)
                    assert_true(at("fc.weight", (size_t)((e * 5 + f) * 6 + c * 3 + d), 20, 6, -1) ==
                                einsum_at(e, f, c, d));
    assert_true(at("fc.bias", 13, 20, -1) == 513);
    assert_int_equal(p.n_notes, 0);
    toy_freeze(&p, &made);
    plan_free(&p);
    keras_model(&like, other, sizeof other);
    must(map_it(&made, "pytorch", "keras", &like, ""));
    for (int i = 0; i < 120; i++)
        assert_true(at("layers.einsum_dense.vars.0", (size_t)i, 5, 3, 2, 4, -1) == i);
    plan_free(&p);
    /* Flax has what is read first */
    must(map_it(&m, NULL, "flax", NULL, ""));
    assert_true(at("params.fc.kernel", 1 * 60 + 2 * 20 + 3 * 5 + 4, 2, 3, 4, 5, -1) ==
                einsum_at(3, 4, 1, 2));
    model_free(&made);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&made, "flax", "keras", &like, ""));
    assert_true(at("layers.einsum_dense.vars.0", 77, 5, 3, 2, 4, -1) == 77);
    plan_free(&p);
    must(map_it(&made, "flax", "keras", NULL, "")); /* alone it stays as Flax has it */
    assert_true(at("fc.kernel", 119, 2, 3, 4, 5, -1) == 119);
    plan_free(&p);
}

/* Where its axes are not the last, the weights do not tell, and the ledger does. */
static void keras_moves(void **state)
{
    (void)state;
    char text[400];
    m.framework = STR("keras");
    config(&m, text, sizeof text, "abc,bd->adc", "\"d\"");
    toy_add(&m, "layers.einsum_dense.vars.0", 0, 3, 5, -1);
    toy_add(&m, "layers.einsum_dense.vars.1", 50, 5, 1, -1);
    toy_done(&m);
    must(map_it(&m, NULL, "pytorch", NULL, ""));
    assert_true(at("fc.weight", 1, 5, 3, -1) == 5);
    assert_true(at("fc.bias", 1, 5, -1) == 51);
    assert_int_equal(p.n_notes, 1);
    plan_free(&p);
}

/* What no dense layer is stays as it came, and says why. */
static void keras_kept(void **state)
{
    (void)state;
    char text[400];
    m.framework = STR("keras");
    config(&m, text, sizeof text, "abc,acd->abd", "null");
    toy_add(&m, "layers.einsum_dense.vars.0", 0, 3, 4, 5, -1);
    toy_done(&m);
    must(map_it(&m, NULL, "pytorch", NULL, ""));
    assert_true(at("fc.0", 7, 3, 4, 5, -1) == 7);
    assert_int_equal(p.n_notes, 1);
    assert_true(str_find_str(p.note[0].text, STR("a stack of dense layers"), 0) < p.note[0].text.n);
    plan_free(&p);
}

/* ---- each framework computes what the other does ---- */

static void computed(void **state)
{
    (void)state;
    char text[400];
    keras_model(&m, text, sizeof text);
    must(map_it(&m, NULL, "flax", NULL, ""));
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_it(&m, NULL, "pytorch", NULL, ""));
    toy_freeze(&p, &like);
    plan_free(&p);
    assert_int_equal(judge(&m, "keras", &made, "flax"), VERDICT_EQUAL);
    assert_int_equal(judge(&made, "flax", &like, "pytorch"), VERDICT_EQUAL);
    assert_int_equal(judge(&like, "pytorch", &m, "keras"), VERDICT_EQUAL);
    float *w = (float *)(uintptr_t)made.storage[made.tensor[0].storage].mem;
    w[3] += 1;
    assert_int_equal(judge(&m, "keras", &made, "flax"), VERDICT_DIFFERS);
}

/* A kernel whose inputs only the other side tells, and a map read by its axes. */
static void computed_open(void **state)
{
    (void)state;
    toy_add(&m, "params.DenseGeneral_0.kernel", 0, 2, 3, 4, -1);
    toy_done(&m);
    toy_add(&like, "fc.weight", 0, 4, 6, -1);
    toy_done(&like);
    must(map_it(&m, "flax", "pytorch", &like, ""));
    toy_freeze(&p, &made);
    plan_free(&p);
    assert_int_equal(judge(&m, "flax", &made, "pytorch"), VERDICT_EQUAL);
    assert_int_equal(judge(&m, "flax", &like, "pytorch"), VERDICT_DIFFERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_bias),
        cmocka_unit_test(by_equation),
        cmocka_unit_test_setup_teardown(recognised, begin, end),
        cmocka_unit_test_setup_teardown(to_torch, begin, end),
        cmocka_unit_test_setup_teardown(to_haiku, begin, end),
        cmocka_unit_test_setup_teardown(archived, begin, end),
        cmocka_unit_test_setup_teardown(divided, begin, end),
        cmocka_unit_test_setup_teardown(by_other_side, begin, end),
        cmocka_unit_test_setup_teardown(by_rules, begin, end),
        cmocka_unit_test_setup_teardown(or_convolution, begin, end),
        cmocka_unit_test_setup_teardown(batches, begin, end),
        cmocka_unit_test_setup_teardown(flattened, begin, end),
        cmocka_unit_test_setup_teardown(keras, begin, end),
        cmocka_unit_test_setup_teardown(keras_moves, begin, end),
        cmocka_unit_test_setup_teardown(keras_kept, begin, end),
        cmocka_unit_test_setup_teardown(computed, begin, end),
        cmocka_unit_test_setup_teardown(computed_open, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
