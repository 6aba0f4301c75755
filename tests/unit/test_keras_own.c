/* Keras layers of the user's own class: one variable of three axes and more is a bare parameter,
 * unless its config or a name speaks of a convolution. And attention that the other side has as
 * dense layers, whatever the file calls its projections; layers that few models have.
 */
#include "convert/map.h"
#include "framework/framework.h"
#include "model/roles.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, sk;
static struct plan p;
static struct arena arena;
static struct layers found;
static struct err err;
static struct buf asked;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&sk);
    asked = (struct buf)BUF_INIT;
    return 0;
}

static int end(void **state)
{
    (void)state;
    plan_free(&p);
    arena_free(&arena);
    model_free(&m);
    model_free(&sk);
    buf_free(&asked);
    return 0;
}

static void done(struct model *x)
{
    toy_done(x);
    assert_int_equal(roles_by_name(x, &err), ST_OK);
}

static const struct layer *recognise(const char *path)
{
    done(&m);
    const struct framework *f = framework_find(STR("keras"));
    assert_int_equal(f->layers(&m, &arena, &found, &err), ST_OK);
    for (size_t i = 0; i < found.n; i++)
        if (str_is(found.layer[i].path, path))
            return &found.layer[i];
    fail_msg("no layer %s", path);
    return NULL;
}

static void config(const char *text)
{
    struct attachment *a;
    assert_int_equal(model_attach(&m, &a, &err), ST_OK);
    a->name = STR("config.json");
    a->mem = (const uint8_t *)text;
    a->n_bytes = strlen(text);
}

#define OWN(cls, name, more)                                                                       \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":[{\"class_name\":\"" cls \
    "\",\"registered_name\":\"x>" cls "\",\"config\":{\"name\":\"" name "\"" more "}}]}}"

/* ---- one variable ---- */

static void token(void **state)
{
    (void)state;
    toy_add(&m, "layers.token.vars.0", 1, 1, 1, 6, -1);
    config(OWN("Token", "cls", ",\"shape\":[1,1,6]"));
    const struct layer *l = recognise("cls");
    assert_int_equal(l->kind, LAYER_PARAM);
    assert_int_equal(l->tensor[LEAF_VALUE], 0);
    assert_true(str_is(l->reason, "the variable of a layer of the user's own class"));
}

static void asked_about(void)
{
    const struct layer *l = recognise("cls");
    assert_int_equal(l->kind, LAYER_NONE);
    assert_true(l->kinds & KIND_BIT(LAYER_CONV));
}

/* A class derived from a convolution keeps what that says of itself. */
static void kernel_size(void **state)
{
    (void)state;
    toy_add(&m, "layers.token.vars.0", 1, 3, 2, 6, -1);
    config(OWN("Token", "cls", ",\"kernel_size\":[3]"));
    asked_about();
}

static void class_says(void **state)
{
    (void)state;
    toy_add(&m, "layers.ws_conv1_d.vars.0", 1, 3, 2, 6, -1);
    config(OWN("WsConv1D", "cls", ""));
    asked_about();
}

static void name_says(void **state)
{
    (void)state;
    toy_add(&m, "layers.token.vars.0", 1, 3, 2, 6, -1);
    config(OWN("Token", "conv_1", ""));
    const struct layer *l = recognise("conv_1");
    assert_true(l->kinds & KIND_BIT(LAYER_CONV));
}

/* A bias tells, as it does without a config. */
static void bias_says(void **state)
{
    (void)state;
    toy_add(&m, "layers.token.vars.0", 1, 3, 2, 6, -1);
    toy_add(&m, "layers.token.vars.1", 1, 6, -1);
    config(OWN("Token", "cls", ""));
    assert_int_equal(recognise("cls")->kind, LAYER_CONV);
}

/* Nothing says what the class is. */
static void no_config(void **state)
{
    (void)state;
    toy_add(&m, "layers.cls.vars.0", 1, 1, 1, 6, -1);
    asked_about();
}

/* ---- layers of Keras that few models have ---- */

/* A kernel for each position, whatever the layer is called: 36 values of 4 channels in a window. */
static void locally_connected(void **state)
{
    (void)state;
    m.framework = STR("keras");
    toy_add(&m, "local_conv.local_conv.kernel:0", 1, 16, 36, 5, -1);
    config(OWN("LocallyConnected2D", "local_conv", ",\"kernel_size\":[3,3]"));
    const struct layer *l = recognise("local_conv");
    assert_int_equal(l->kind, LAYER_CONV_LOCAL);
    assert_int_equal(l->rank, 2);
    assert_int_equal(l->flat_c, 4);
}

static void locally_connected_numbered(void **state)
{
    (void)state;
    toy_add(&m, "layers.locally_connected2d.vars.0", 1, 16, 36, 5, -1);
    assert_int_equal(recognise("locally_connected2d")->kind, LAYER_CONV_LOCAL);
}

/* A head of its own is a dense layer beside the embedding; scales of small integers are none. */
static void reversible(void **state)
{
    (void)state;
    toy_add(&m, "layers.reversible_embedding.vars.0", 1, 11, 6, -1);
    toy_add(&m, "layers.reversible_embedding.vars.1", 100, 6, 11, -1);
    toy_add(&m, "layers.reversible_embedding_1.vars.0", 1, 11, 6, -1);
    toy_add(&m, "layers.reversible_embedding_2.vars.0", 1, 11, 6, -1);
    toy_add(&m, "layers.reversible_embedding_2.vars.1", 1, 11, -1);
    assert_int_equal(recognise("reversible_embedding")->kind, LAYER_EMBEDDING);
    const char *const path[] = {"reversible_embedding.reverse", "reversible_embedding_1",
                                "reversible_embedding_2.vars.0"};
    const enum layer_kind kind[] = {LAYER_LINEAR, LAYER_EMBEDDING, LAYER_PARAM};
    for (size_t k = 0; k < 3; k++) {
        size_t n = 0;
        for (size_t i = 0; i < found.n; i++)
            if (str_is(found.layer[i].path, path[k])) {
                assert_int_equal(found.layer[i].kind, kind[k]);
                n++;
            }
        assert_true(n > 0);
    }
    struct map_opt o = {.from = "keras", .to = "pytorch"};
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, &asked, &err), ST_OK);
    uint64_t n;
    int64_t t = toy_find(&p.dst, "reversible_embedding.reverse.weight");
    assert_true(p.dst.tensor[t].dim[0] == 11 && p.dst.tensor[t].dim[1] == 6);
    double *v = toy_values(&p, (size_t)t, &n);
    assert_true(v[0] == 100 && v[1] == 111 && v[6] == 101);
    free(v);
}

/* Cells on each other in one layer are cells alone: none takes another's name. */
static void stacked(void **state)
{
    static const char *const name[] = {
        "layers.rnn.cell.cells.lstm_cell.vars.0",   "layers.rnn.cell.cells.lstm_cell.vars.1",
        "layers.rnn.cell.cells.lstm_cell_1.vars.0", "layers.rnn.cell.cells.lstm_cell_1.vars.1",
        "layers.rnn.cell.cells.gru_cell.vars.0",    "layers.rnn.cell.cells.gru_cell.vars.1",
        "layers.rnn.cell.cells.gru_cell.vars.2"};
    static const uint64_t dim[][2] = {{8, 16}, {4, 16}, {4, 20}, {5, 20}, {5, 9}, {3, 9}, {2, 9}};
    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        toy_tensor(&m, name[i], (double)i, dim[i], 2);
    assert_int_equal(recognise("rnn.cell.cells.lstm_cell_1")->kind, LAYER_LSTM);
    struct map_opt o = {.from = "keras", .to = "pytorch"};
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, &asked, &err), ST_OK);
    (void)toy_find(&p.dst, "rnn.cell.cells.lstm_cell.weight_ih");
    (void)toy_find(&p.dst, "rnn.cell.cells.lstm_cell_1.weight_ih");
    (void)toy_find(&p.dst, "rnn.cell.cells.gru_cell.weight_ih");
}

/* Fewer heads of keys and values: four dense layers, there and into Keras's own shapes again. */
static void grouped(void **state)
{
    static const struct {
        const char *name;
        uint64_t dim[3];
    } part[] = {{"query_dense", {5, 4, 3}},
                {"key_dense", {5, 2, 3}},
                {"value_dense", {5, 2, 6}},
                {"output_dense", {4, 6, 7}}};
    struct model out;
    (void)state;
    m.framework = sk.framework = STR("keras");
    for (size_t i = 0; i < 4; i++)
        for (int side = 0; side < 2; side++) {
            struct model *x = side ? &sk : &m;
            char name[64];
            snprintf(name, sizeof name, "layers.gqa._%s.vars.0", part[i].name);
            toy_tensor(x, name, side ? 0 : (double)(100 * i), part[i].dim, 3);
            snprintf(name, sizeof name, "layers.gqa._%s.vars.1", part[i].name);
            toy_tensor(x, name, side ? 0 : (double)(100 * i), part[i].dim + (i == 3 ? 2 : 1),
                       i == 3 ? 1 : 2);
        }
    done(&sk);
    const struct layer *l = recognise("gqa.key_dense");
    assert_true(l->kind == LAYER_LINEAR && l->form == FORM_HEADS_OUT && l->heads == 2);
    struct map_opt o = {.from = "keras", .to = "pytorch"};
    plan_init(&p, &m);
    assert_int_equal(map_plan(&p, &o, NULL, 0, &asked, &err), ST_OK);
    toy_freeze(&p, &out);
    plan_free(&p);
    const struct tensor *t = &out.tensor[toy_find(&out, "gqa.key_dense.weight")];
    const float *v = (const float *)(const void *)out.storage[t->storage].mem;
    assert_true(t->n_dims == 2 && t->dim[0] == 6 && t->dim[1] == 5);
    for (uint64_t r = 0; r < 6; r++) /* row: head * width + d */
        for (uint64_t i = 0; i < 5; i++)
            assert_true(v[r * 5 + i] == (float)(100 + i * 6 + r));
    t = &out.tensor[toy_find(&out, "gqa.output_dense.weight")];
    v = (const float *)(const void *)out.storage[t->storage].mem;
    assert_true(t->n_dims == 2 && t->dim[0] == 7 && t->dim[1] == 24);
    for (uint64_t r = 0; r < 7; r++)
        for (uint64_t i = 0; i < 24; i++)
            assert_true(v[r * 24 + i] == (float)(300 + i * 7 + r));
    o = (struct map_opt){.from = "pytorch", .to = "keras", .like = &sk};
    plan_init(&p, &out);
    assert_int_equal(map_plan(&p, &o, NULL, 0, &asked, &err), ST_OK);
    for (size_t i = 0; i < m.n_tensors; i++) {
        char name[64] = {0};
        uint64_t n;
        memcpy(name, m.tensor[i].name.p, m.tensor[i].name.n);
        double *got = toy_values(&p, (size_t)toy_find(&p.dst, name), &n);
        const float *want = (const float *)(const void *)m.storage[m.tensor[i].storage].mem;
        assert_int_equal(n, tensor_elems(&m.tensor[i]));
        for (uint64_t k = 0; k < n; k++)
            assert_true(got[k] == (double)want[k]);
        free(got);
    }
    plan_free(&p);
    model_free(&out);
}

/* A bias that does not fit leaves all of them as they are. */
static void grouped_not(void **state)
{
    (void)state;
    toy_add(&m, "gqa.query.kernel", 0, 5, 4, 3, -1);
    toy_add(&m, "gqa.query.bias", 0, 3, 4, -1);
    toy_add(&m, "gqa.key.kernel", 0, 5, 2, 3, -1);
    toy_add(&m, "gqa.value.kernel", 0, 5, 2, 3, -1);
    toy_add(&m, "gqa.attention_output.kernel", 0, 4, 3, 5, -1);
    done(&m);
    assert_int_equal(framework_find(STR("keras"))->layers(&m, &arena, &found, &err), ST_OK);
    for (size_t i = 0; i < found.n; i++)
        assert_int_not_equal(found.layer[i].form, FORM_HEADS_OUT);
}

/* ---- attention as dense layers ---- */

enum { E = 6, N = 2, D = 3 };
static const char *const theirs[] = {"query_dense", "key_dense", "value_dense", "output_dense"};
static const char *const mine[] = {"attention.query", "attention.key", "attention.value",
                                   "output.dense"};

static void keras(struct model *x, double base)
{
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "layers.multi_head_attention.%s.vars.0", theirs[i]);
        if (i < 3)
            toy_add(x, name, base + 1000 * i, E, N, D, -1);
        else
            toy_add(x, name, base + 1000 * i, N, D, E, -1);
        snprintf(name, sizeof name, "layers.multi_head_attention.%s.vars.1", theirs[i]);
        if (i < 3)
            toy_add(x, name, base + 1000 * i + 500, N, D, -1);
        else
            toy_add(x, name, base + 1000 * i + 500, E, -1);
    }
}

static void dense(struct model *x, double base)
{
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "layer.0.attention.%s.weight", mine[i]);
        toy_add(x, name, base + 1000 * i, E, E, -1);
        snprintf(name, sizeof name, "layer.0.attention.%s.bias", mine[i]);
        toy_add(x, name, base + 1000 * i + 500, E, -1);
    }
}

static void go(const char *from, const char *to)
{
    done(&m);
    done(&sk);
    plan_init(&p, &m);
    struct map_opt o = {.from = from, .to = to, .like = &sk};
    if (map_plan(&p, &o, NULL, UINT64_MAX, &asked, &err) != ST_OK)
        fail_msg("%s: %s\n%.*s", err.code, err.reason, (int)asked.n, (const char *)asked.p);
}

/* Row r of one is column r of the other. */
static void turned(const char *name, double base)
{
    uint64_t n;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, name), &n);
    assert_int_equal(n, E * E);
    for (int r = 0; r < E; r++)
        for (int c = 0; c < E; c++)
            assert_true(v[r * E + c] == base + c * E + r);
    free(v);
}

static void as_dense(void **state)
{
    (void)state;
    char name[64];
    m.framework = STR("keras");
    keras(&m, 0);
    dense(&sk, 9e6);
    go("keras", "pytorch");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "layer.0.attention.%s.weight", mine[i]);
        turned(name, 1000 * i);
    }
}

static void from_dense(void **state)
{
    (void)state;
    char name[64];
    sk.framework = STR("keras");
    dense(&m, 0);
    keras(&sk, 9e6);
    go("pytorch", "keras");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "layers.multi_head_attention.%s.vars.0", theirs[i]);
        turned(name, 1000 * i);
        const struct tensor *t = &p.dst.tensor[toy_find(&p.dst, name)];
        assert_int_equal(t->n_dims, 3);
        assert_int_equal(t->dim[0], i < 3 ? E : N);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(token),
        T(kernel_size),
        T(class_says),
        T(name_says),
        T(bias_says),
        T(no_config),
        T(as_dense),
        T(from_dense),
        T(locally_connected),
        T(locally_connected_numbered),
        T(reversible),
        T(grouped),
        T(grouped_not),
        T(stacked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
