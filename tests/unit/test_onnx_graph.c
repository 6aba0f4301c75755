/* What the nodes of an ONNX graph tell of the layers whose weights they read: settings for the
 * notes on defaults, a weight that is the other way round, and graphs that are damaged. */
#include "codec/proto.h"
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct plan p;
static struct err err;
static struct buf graph;

static int begin(void **state)
{
    (void)state;
    model_init(&m);
    return 0;
}

static int end(void **state)
{
    (void)state;
    model_free(&m);
    return 0;
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s", (int)st, err.code ? err.code : "-", err.reason);
}

static enum status plan_into(struct map_opt o)
{
    plan_init(&p, &m);
    memset(&err, 0, sizeof err);
    return map_plan(&p, &o, NULL, 0, NULL, &err);
}

#include "tests/unit/note_says.h"

static void torch_model(void)
{
    m.framework = STR("pytorch");
    toy_add(&m, "conv1.weight", 0, 4, 3, 3, 3, -1);
    toy_add(&m, "conv2.weight", 0, 4, 4, 1, 1, -1);
    toy_add(&m, "bn1.weight", 0, 4, -1);
    toy_add(&m, "bn1.bias", 0, 4, -1);
    toy_add(&m, "bn1.running_mean", 0, 4, -1);
    toy_add(&m, "bn1.running_var", 1, 4, -1);
    toy_add(&m, "ln1.weight", 0, 4, -1);
    toy_add(&m, "ln1.bias", 0, 4, -1);
    toy_done(&m);
}

static void w_attr(struct buf *node, const char *name, char type, double v)
{
    struct buf a = BUF_INIT;
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    proto_w_str(&a, 1, str_from(name));
    if (type == 'f')
        proto_w_fixed32(&a, 2, bits);
    else
        proto_w_i64(&a, 3, (int64_t)v);
    proto_w_sub(node, 5, &a);
    buf_free(&a);
}

static void w_ints(struct buf *node, const char *name, int64_t x, int64_t y, size_t times)
{
    struct buf a = BUF_INIT;
    proto_w_str(&a, 1, str_from(name));
    for (size_t i = 0; i < times; i++) {
        proto_w_i64(&a, 8, x);
        proto_w_i64(&a, 8, y);
    }
    proto_w_sub(node, 5, &a);
    buf_free(&a);
}

static void w_text(struct buf *node, const char *name, const char *text)
{
    struct buf a = BUF_INIT;
    proto_w_str(&a, 1, str_from(name));
    proto_w_str(&a, 4, str_from(text));
    proto_w_sub(node, 5, &a);
    buf_free(&a);
}

static void w_begin(struct buf *node, const char *op, const char *name, const char *weight)
{
    proto_w_str(node, 1, STR("x"));
    if (weight)
        proto_w_str(node, 1, str_from(weight));
    proto_w_str(node, 3, str_from(name));
    proto_w_str(node, 4, str_from(op));
}

static void w_end(struct buf *all, struct buf *node)
{
    proto_w_sub(all, 1, node);
    buf_free(node);
}

/* trans_b < 0: without the dense layer */
static void graph_of(int trans_b, bool same, double epsilon)
{
    struct buf all = BUF_INIT, n = BUF_INIT;
    w_begin(&n, "Conv", "/conv1/Conv", "conv1.weight");
    w_ints(&n, "kernel_shape", 3, 3, 1);
    w_ints(&n, "pads", same, same, 2);
    w_end(&all, &n);
    w_begin(&n, "BatchNormalization", "/bn1/BN", "bn1.weight");
    if (epsilon > 0)
        w_attr(&n, "epsilon", 'f', epsilon);
    w_attr(&n, "momentum", 'f', 0.75);
    w_end(&all, &n);
    w_begin(&n, "LayerNormalization", "/ln1/LN", "ln1.weight");
    w_attr(&n, "epsilon", 'f', 1e-12);
    w_end(&all, &n);
    w_begin(&n, "Gelu", "/act/Gelu", NULL);
    w_text(&n, "approximate", "tanh");
    w_end(&all, &n);
    w_begin(&n, "LeakyRelu", "/leak", NULL);
    w_attr(&n, "alpha", 'f', 0.125);
    w_end(&all, &n);
    w_begin(&n, "HardSigmoid", "/hard", NULL);
    w_end(&all, &n);
    w_begin(&n, "AveragePool", "/pool", NULL);
    w_text(&n, "auto_pad", "SAME_UPPER");
    w_end(&all, &n);
    if (trans_b >= 0) {
        w_begin(&n, trans_b == 2 ? "MatMul" : "Gemm", "/fc", "fc.weight");
        if (trans_b < 2)
            w_attr(&n, "transB", 'i', trans_b);
        w_end(&all, &n);
    }
    proto_w_u64(&graph, 1, 8);
    proto_w_sub(&graph, 7, &all);
    buf_free(&all);
    must(buf_ok(&graph, &err));
}

static void onnx_model(size_t n_bytes)
{
    struct attachment *a;
    torch_model();
    toy_add(&m, "fc.weight", 0, 4, 4, -1);
    toy_done(&m);
    must(model_attach(&m, &a, &err));
    a->name = STR("graph.onnx"); /* format/onnx.h */
    a->mem = graph.p;
    a->n_bytes = n_bytes;
}

static void onnx_end(void)
{
    plan_free(&p);
    buf_free(&graph);
    model_free(&m);
    model_init(&m);
}

static void graphs_tell(void **state)
{
    (void)state;
    graph_of(1, true, 0.001);
    onnx_model(graph.n);
    must(plan_into((struct map_opt){.from = "pytorch", .to = "keras"}));
    assert_null(note_on("bn1", "epsilon")); /* Keras's own */
    says("bn1", "momentum",
         "momentum keeps 0.75 in pytorch, 0.99 in keras by default: set "
         "momentum=0.75 (training alone)");
    says("ln1", "epsilon",
         "epsilon is 1e-12 in pytorch, 0.001 in keras by default: set "
         "epsilon=1e-12");
    says("conv1", "padding",
         "padding is same in pytorch, none in keras by default: set "
         "padding='same'");
    says("/act/Gelu", "form",
         "gelu is tanh in pytorch, exact in keras by default: set "
         "approximate=True");
    says("/leak", "slope",
         "leaky_relu's slope is 0.125 in pytorch, 0.3 in keras by default: set "
         "negative_slope=0.125");
    assert_non_null(note_on("/hard", "form"));
    assert_non_null(note_on("/pool", "padding"));
    onnx_end();
    graph_of(1, false, 0);
    onnx_model(graph.n);
    must(plan_into((struct map_opt){.from = "pytorch", .to = "keras"}));
    says("bn1", "epsilon",
         "epsilon is 1e-05 in pytorch, 0.001 in keras by default: set "
         "epsilon=1e-05");
    assert_null(note_on("conv1", "padding"));
    onnx_end();
}

/* A weight that the graph has the other way round would be turned wrong. */
static void graphs_turned(void **state)
{
    (void)state;
    for (int b = 0; b < 3; b++) {
        graph_of(b, true, 0.001);
        onnx_model(graph.n);
        enum status st = plan_into((struct map_opt){.from = "pytorch", .to = "keras"});
        assert_int_equal(st, b == 1 ? ST_OK : ST_CANNOT);
        if (b != 1)
            assert_string_equal(err.code, "graph-turned");
        onnx_end();
    }
    graph_of(0, true, 0.001);
    onnx_model(graph.n);
    must(plan_into((struct map_opt){.from = "pytorch",
                                    .to = "keras",
                                    .rules = STR("\"fc.weight\" -> \"fc.kernel\" axes "
                                                 "\"I O\" -> \"I O\"\n")}));
    onnx_end();
}

/* Cut anywhere, or any byte another: a hint, never a failure. */
static void graphs_damaged(void **state)
{
    (void)state;
    graph_of(-1, true, 0.001);
    size_t n = graph.n;
    for (size_t i = 0; i < n; i++) {
        onnx_model(i);
        uint8_t old = graph.p[i];
        must(plan_into((struct map_opt){.from = "pytorch", .to = "keras"}));
        plan_free(&p);
        m.attachment[0].n_bytes = n;
        graph.p[i] = (uint8_t)(old ^ 0xa5);
        must(plan_into((struct map_opt){.from = "pytorch", .to = "keras"}));
        plan_free(&p);
        graph.p[i] = old;
        model_free(&m);
        model_init(&m);
    }
    buf_free(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(graphs_tell, begin, end),
        cmocka_unit_test_setup_teardown(graphs_turned, begin, end),
        cmocka_unit_test_setup_teardown(graphs_damaged, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
