/* Recurrent nodes of an ONNX graph: gates in ONNX's order, both directions in one tensor, both
 * biases in one. Every number is compared with an index formula written out by hand. Nodes that
 * torch's cells do not compute stay what they were.
 */
#include "codec/proto.h"
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 2, I = 3 };
static struct model m;
static struct plan p;
static struct err err;
static struct buf graph, nodes;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    m.framework = STR("pytorch");
    graph = nodes = (struct buf)BUF_INIT;
    return 0;
}

static int end(void **state)
{
    (void)state;
    plan_free(&p);
    model_free(&m);
    buf_free(&graph);
    buf_free(&nodes);
    return 0;
}

/* "direction=reverse clip=1 activations=Relu,Relu": floats but for the two that are integers. */
static void w_attributes(struct buf *node, const char *text)
{
    struct str rest = str_from(text), one;
    while (rest.n && str_split(&rest, ' ', &one)) {
        struct buf a = BUF_INIT;
        size_t eq = str_find(one, '=', 0);
        struct str name = str_sub(one, 0, eq), value = str_sub(one, eq + 1, one.n), word;
        proto_w_str(&a, 1, name);
        if (str_is(name, "activations"))
            while (value.p && str_split(&value, ',', &word))
                proto_w_str(&a, 9, word);
        else if (str_is(name, "direction"))
            proto_w_str(&a, 4, value);
        else if (str_is(name, "clip"))
            proto_w_fixed32(&a, 2, 0x3f800000);
        else
            proto_w_i64(&a, 3, value.p[0] - '0');
        proto_w_sub(node, 5, &a);
        buf_free(&a);
    }
}

static void node(const char *op, const char *name, const char *inputs, const char *attributes)
{
    struct buf n = BUF_INIT, g = BUF_INIT;
    struct str rest = str_from(inputs), one;
    while (rest.p && str_split(&rest, ' ', &one))
        proto_w_str(&n, 1, str_is(one, "-") ? STR("") : one);
    proto_w_str(&n, 3, str_from(name));
    proto_w_str(&n, 4, str_from(op));
    w_attributes(&n, attributes);
    proto_w_sub(&nodes, 1, &n);
    buf_free(&n);
    buf_free(&g);
}

static enum status go(const char *to)
{
    struct attachment *a;
    proto_w_sub(&graph, 7, &nodes);
    assert_int_equal(model_attach(&m, &a, &err), ST_OK);
    a->name = STR("graph.onnx");
    a->mem = graph.p;
    a->n_bytes = graph.n;
    toy_done(&m);
    plan_init(&p, &m);
    memset(&err, 0, sizeof err);
    return map_plan(&p, &(struct map_opt){.to = to}, NULL, 0, NULL, &err);
}

static void must(const char *to)
{
    enum status st = go(to);
    if (st != ST_OK)
        fail_msg("%d %s: %s", (int)st, err.code ? err.code : "-", err.reason);
}

static double *values(const char *name, uint64_t n)
{
    uint64_t have;
    int64_t at = model_find(&p.dst, str_from(name));
    if (at < 0)
        fail_msg("no %s", name);
    double *v = toy_values(&p, (size_t)at, &have);
    assert_int_equal(have, n);
    return v;
}

/* A tensor of torch's, gate by gate out of ONNX's: rows of `gate` [H, columns] from `first` on. */
static void rows(const char *name, double base, uint64_t first, const int *gate, int n_gates,
                 uint64_t columns)
{
    double *v = values(name, (uint64_t)n_gates * H * columns);
    for (int g = 0; g < n_gates; g++)
        for (uint64_t i = 0; i < H * columns; i++) {
            double want = base + (double)(first + (uint64_t)gate[g] * H * columns + i);
            if (v[(uint64_t)g * H * columns + i] != want)
                fail_msg("%s: gate %d [%d] is %g, not %g", name, g, (int)i,
                         v[(uint64_t)g * H * columns + i], want);
        }
    free(v);
}

static const int lstm_gates[] = {0, 2, 3, 1}; /* i f g o of i o f c */
static const int gru_gates[] = {1, 0, 2};     /* r z n of z r h */
static const int rnn_gates[] = {0};

static void tensors(int dirs, int gates, bool bias)
{
    toy_add(&m, "w", 0, dirs, gates * H, I, -1);
    toy_add(&m, "r", 1000, dirs, gates * H, H, -1);
    if (bias)
        toy_add(&m, "b", 2000, dirs, 2 * gates * H, -1);
}

static void cell(const char *path, const char *end_, int dir, const int *gate, int n)
{
    char name[64];
    uint64_t at = (uint64_t)(dir * n * H);
    snprintf(name, sizeof name, "%s.weight_ih_%s", path, end_);
    rows(name, 0, at * I, gate, n, I);
    snprintf(name, sizeof name, "%s.weight_hh_%s", path, end_);
    rows(name, 1000, at * H, gate, n, H);
    snprintf(name, sizeof name, "%s.bias_ih_%s", path, end_);
    rows(name, 2000, 2 * at, gate, n, 1);
    snprintf(name, sizeof name, "%s.bias_hh_%s", path, end_);
    rows(name, 2000, 2 * at + (uint64_t)(n * H), gate, n, 1);
}

static void both_directions(void **state)
{
    (void)state;
    tensors(2, 4, true);
    node("LSTM", "/net/enc/LSTM_1", "x w r b - h c", "direction=bidirectional hidden_size=2");
    must("pytorch");
    cell("net.enc", "l1", 0, lstm_gates, 4);
    cell("net.enc", "l1_reverse", 1, lstm_gates, 4);
    assert_int_equal(p.dst.n_tensors, 8);
    assert_int_equal(p.n_lines, 0);
}

static void other_kinds(void **state)
{
    (void)state;
    tensors(1, 3, true);
    node("GRU", "/gru/GRU", "x w r b", "linear_before_reset=1");
    must("pytorch");
    cell("gru", "l0", 0, gru_gates, 3);
    end(NULL);
    begin(NULL);
    tensors(1, 1, true);
    node("RNN", "no layer's name", "x w r b", "direction=reverse activations=Relu");
    must("pytorch");
    cell("rnn_0", "l0_reverse", 0, rnn_gates, 1);
    assert_int_equal(p.n_notes, 1);
    assert_string_equal(p.note[0].setting, "activation");
    assert_true(str_is(p.note[0].source, "relu"));
}

/* One bias for two, gate by gate, [in,out]. */
static void into_flax(void **state)
{
    (void)state;
    tensors(1, 4, true);
    node("LSTM", "/enc/LSTM", "x w r b", "");
    must("flax");
    double *k = values("params.enc.l0.io.kernel", I * H), *b = values("params.enc.l0.ho.bias", H);
    for (int o = 0; o < H; o++) {
        for (int i = 0; i < I; i++)
            assert_true(k[i * H + o] == (H + o) * I + i);
        assert_true(b[o] == 2000 + H + o + 2000 + 4 * H + H + o);
    }
    free(k);
    free(b);
    assert_int_equal(p.n_lines, 0);
}

/* Without biases, and two nodes of one name. */
static void names_and_none(void **state)
{
    (void)state;
    tensors(1, 4, false);
    toy_add(&m, "w2", 0, 1, 4 * H, H, -1);
    toy_add(&m, "r2", 0, 1, 4 * H, H, -1);
    node("LSTM", "/enc/LSTM", "x w r", "activations=Sigmoid,Tanh,Tanh");
    node("LSTM", "/enc/LSTM", "y w2 r2 -", "");
    must("pytorch");
    assert_true(model_find(&p.dst, STR("enc.weight_ih_l0")) >= 0);
    assert_true(model_find(&p.dst, STR("lstm_1.weight_hh_l0")) >= 0);
    assert_true(model_find(&p.dst, STR("enc.bias_ih_l0")) < 0);
    assert_int_equal(p.dst.n_tensors, 4);
}

static void no_cells(void **state)
{
    (void)state;
    static const struct {
        const char *op, *inputs, *attributes;
        int gates;
    } all[] = {
        {"LSTM", "x w r b - - - p", "", 4}, /* peepholes */
        {"LSTM", "x w r b", "input_forget=1", 4},
        {"LSTM", "x w r b", "clip=1", 4},
        {"LSTM", "x w r b", "activations=Sigmoid,Tanh,Relu", 4},
        {"LSTM", "x w r b", "activations=Sigmoid,Tanh", 4},
        {"LSTM", "x w r b", "direction=bidirectional", 4}, /* of one direction's weights */
        {"LSTM", "x w r b", "", 3},                        /* not four gates */
        {"LSTM", "x w r w", "", 4},                        /* no such bias */
        {"LSTM", "x w", "", 4},
        {"LSTM", "x w gone b", "", 4},
        {"LSTM", "x gone r b", "", 4},
        {"LSTM", "x w b b", "", 4},
        {"GRU", "x w r b", "", 3}, /* resets before */
        {"GRU", "x w r b", "linear_before_reset=1 activations=Relu,Relu", 3},
        {"RNN", "x w r b", "activations=Elu", 1},
        {"Conv", "x w r b", "", 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        tensors(1, all[i].gates, true);
        node(all[i].op, "/a/LSTM", all[i].inputs, all[i].attributes);
        must("flax");
        if (!(model_find(&p.dst, STR("params.w")) >= 0 && p.dst.n_tensors == 3))
            fail_msg("node %d is a cell", (int)i);
        end(NULL);
        begin(NULL);
    }
}

/* A second node on the same weights, and graphs that break off anywhere. */
static void shared_and_broken(void **state)
{
    (void)state;
    tensors(1, 4, true);
    node("LSTM", "/a/LSTM", "x w r b", "");
    node("LSTM", "/b/LSTM", "y w r b", "");
    must("pytorch");
    assert_int_equal(p.dst.n_tensors, 4);
    assert_true(model_find(&p.dst, STR("a.weight_ih_l0")) >= 0);
    plan_free(&p);
    struct attachment *a = &m.attachment[0];
    size_t whole = (size_t)a->n_bytes;
    for (size_t n = 0; n < whole; n++) {
        uint8_t *cut = malloc(n + 1);
        assert_non_null(cut);
        memcpy(cut, graph.p, n);
        a->mem = cut;
        a->n_bytes = n;
        plan_init(&p, &m);
        assert_int_equal(map_plan(&p, &(struct map_opt){.to = "flax"}, NULL, 0, NULL, &err), ST_OK);
        plan_free(&p);
        free(cut);
    }
    a->mem = graph.p; /* every byte another: any answer, no crash */
    a->n_bytes = whole;
    for (size_t n = 0; n < whole; n++)
        for (unsigned flip = 1; flip < 256; flip = flip * 5 + 2) {
            graph.p[n] ^= (uint8_t)flip;
            plan_init(&p, &m);
            (void)!map_plan(&p, &(struct map_opt){.to = "flax"}, NULL, 0, NULL, &err);
            plan_free(&p);
            graph.p[n] ^= (uint8_t)flip;
        }
    plan_init(&p, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_directions, begin, end),
        cmocka_unit_test_setup_teardown(other_kinds, begin, end),
        cmocka_unit_test_setup_teardown(into_flax, begin, end),
        cmocka_unit_test_setup_teardown(names_and_none, begin, end),
        cmocka_unit_test_setup_teardown(no_cells, begin, end),
        cmocka_unit_test_setup_teardown(shared_and_broken, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
