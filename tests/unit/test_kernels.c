/* The kernels, compiled as C, against numbers worked out by hand and formulas written out plainly.
 */
#include "base/mem.h"
#include "validate/executor.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

static void run(int kernel, const int64_t *p, const double *in, size_t n_in, double *out,
                size_t n_out)
{
    struct err e = {0};
    struct executor *x;
    assert_int_equal(native_open(true, &x, &e), ST_OK);
    struct exec_call c = {.kernel = kernel, .in = in, .n_in = n_in, .out = out, .n_out = n_out};
    memcpy(c.p, p, sizeof c.p);
    assert_int_equal(x->run(x, &c, &e), ST_OK);
    x->close(x);
    /* The float form, compensated, agrees to a few units in the last place. */
    assert_int_equal(native_open(false, &x, &e), ST_OK);
    float *fin = calloc(n_in, sizeof *fin), *fout = calloc(n_out, sizeof *fout);
    for (size_t i = 0; i < n_in; i++)
        fin[i] = (float)in[i];
    c.in = fin;
    c.out = fout;
    assert_int_equal(x->run(x, &c, &e), ST_OK);
    double top = 0;
    for (size_t i = 0; i < n_out; i++)
        top = fmax(top, fabs(out[i]));
    for (size_t i = 0; i < n_out; i++)
        assert_true(fabs(out[i] - (double)fout[i]) <= 1e-6 * top);
    free(fin);
    free(fout);
    x->close(x);
    assert_int_equal(mem_in_use(), 0);
}

static void near_(const double *got, const double *want, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tol)) {
            print_error("element %zu: %.17g, expected %.17g\n", i, got[i], want[i]);
            fail();
        }
}

static void axis(int64_t *p, int k, int64_t extent, int64_t stride)
{
    int64_t *a = p + NNF_P_AXES + k * NNF_AXIS_N;
    a[NNF_AXIS_EXTENT] = extent;
    a[NNF_AXIS_STRIDE] = stride;
    a[NNF_AXIS_LO] = 0;
    a[NNF_AXIS_HI] = extent;
}

/* One spatial axis, one channel: x of n, w of k. */
static void conv1(int kernel, const double *x, int64_t n, const double *w, int64_t k,
                  int64_t stride, int64_t dilation, int64_t pad, int64_t outputs, double *out)
{
    int64_t p[NNF_MAX_PARAMS] = {outputs, 1, 0, n};
    double in[64];
    memcpy(in, x, (size_t)n * sizeof *x);
    memcpy(in + n, w, (size_t)k * sizeof *w);
    axis(p, 0, 1, k);
    axis(p, 1, 1, k);
    axis(p, 2, k, 1);
    axis(p, 3, 1, 0);
    axis(p, 4, 1, 0);
    p[NNF_P_GROUPS] = p[NNF_P_CHANNELS_IN] = p[NNF_P_CHANNELS_OUT] = 1;
    for (int i = 0; i < 3; i++) {
        p[NNF_P_IN_DIM + i] = i ? 1 : n;
        p[NNF_P_OUT_DIM + i] = i ? 1 : outputs;
        p[NNF_P_STRIDE + i] = i ? 1 : stride;
        p[NNF_P_DILATION + i] = i ? 1 : dilation;
        p[NNF_P_PAD + i] = i ? 0 : pad;
    }
    memset(out, 0, (size_t)outputs * sizeof *out);
    run(kernel, p, in, (size_t)(n + k), out, (size_t)outputs);
}

static void convolution_golden(void **s)
{
    (void)s;
    const double x[] = {1, 2, 3, 4, 5, 6}, w[] = {1, 10, 100};
    double out[8];
    conv1(NNF_CONV, x, 6, w, 3, 2, 1, 1, 3, out); /* symmetric padding */
    near_(out, (const double[]){210, 432, 654}, 3, 0);
    conv1(NNF_CONV, x, 6, w, 3, 2, 1, 0, 3, out); /* SAME: (0, 1) */
    near_(out, (const double[]){321, 543, 65}, 3, 0);
    conv1(NNF_CONV, x, 6, w, 3, 1, 2, 0, 2, out); /* dilated */
    near_(out, (const double[]){531, 642}, 2, 0);
}

static void transposed_convolution_golden(void **s)
{
    (void)s;
    const double x[] = {1, 2, 3}, w[] = {1, 10, 100};
    double out[8];
    conv1(NNF_CONV_TRANSPOSE, x, 3, w, 3, 1, 1, 0, 5, out);
    near_(out, (const double[]){1, 12, 123, 230, 300}, 5, 0);
    conv1(NNF_CONV_TRANSPOSE, x, 3, w, 3, 2, 1, 0, 7, out);
    near_(out, (const double[]){1, 10, 102, 20, 203, 30, 300}, 7, 0);
    conv1(NNF_CONV_TRANSPOSE, x, 3, w, 3, 2, 1, 1, 6, out); /* padding 1, output padding 1 */
    near_(out, (const double[]){10, 102, 20, 203, 30, 300}, 6, 0);
}

/* Two inputs' channels, two taps, three positions, two outputs: w [p,s,c,o]; x [n,p,c,s]. */
static void a_kernel_for_each_position(void **s)
{
    (void)s;
    enum { N = 2, O = 2, P = 3, C = 2, S = 2, NX = N * P * C * S, NW = P * S * C * O };
    double in[NX + NW], out[N * O * P] = {0}, want[N * O * P] = {0};
    int64_t p[NNF_MAX_PARAMS] = {N * O * P, 1, 0, NX};
    for (int i = 0; i < NX + NW; i++)
        in[i] = (double)((i * 37 + 5) % 23) - 11;
    axis(p, 0, O, 1);
    axis(p, 1, C, O);
    axis(p, 2, S, C * O);
    axis(p, 3, 1, 0);
    axis(p, 4, P, S * C * O);
    axis(p, 5, 1, 0);
    for (int i = 0; i < N * O * P; i++) {
        int at = i % P, o = i / P % O, n = i / P / O;
        for (int c = 0; c < C; c++)
            for (int k = 0; k < S; k++)
                want[i] +=
                    in[((n * P + at) * C + c) * S + k] * in[NX + ((at * S + k) * C + c) * O + o];
    }
    run(NNF_LOCAL, p, in, NX + NW, out, N * O * P);
    near_(out, want, N * O * P, 0);
}

static double number(int i)
{
    return (double)((i * 7919 + 13) % 101) / 50.5 - 1;
}

/* Grouped, two axes, and its adjoint: <conv(x), y> == <x, conv_transpose(y)>. */
static void transposed_is_the_adjoint(void **s)
{
    (void)s;
    enum { N = 2, CI = 4, CO = 6, G = 2, H = 7, W = 5, KH = 3, KW = 2, OH = 3, OW = 2 };
    enum { NX = N * CI * H * W, NW = CO * (CI / G) * KH * KW, NY = N * CO * OH * OW };
    static double in[NX + NW], in2[NY + NW], y[NY], back[NX], v[NY];
    int64_t p[NNF_MAX_PARAMS] = {NY, 1, 0, NX}, q[NNF_MAX_PARAMS] = {NX, 1, 0, NY};
    for (int i = 0; i < NX + NW; i++)
        in[i] = number(i);
    for (int i = 0; i < NY; i++)
        in2[i] = v[i] = number(3 * i + 1);
    memcpy(in2 + NY, in + NX, NW * sizeof in[0]);
    axis(p, 0, CO, (CI / G) * KH * KW);
    axis(p, 1, CI / G, KH * KW);
    axis(q, 0, CO, (CI / G) * KH * KW); /* torch's transposed weight [I, O/g]: the same array */
    axis(q, 1, CI / G, KH * KW);
    for (int64_t *m = p; m; m = m == p ? q : NULL) {
        bool t = m == q;
        axis(m, 2, KH, KW);
        axis(m, 3, KW, 1);
        axis(m, 4, 1, 0);
        m[NNF_P_GROUPS] = G;
        m[NNF_P_CHANNELS_IN] = t ? CO : CI;
        m[NNF_P_CHANNELS_OUT] = t ? CI : CO;
        const int64_t big[] = {H, W, 1}, small[] = {OH, OW, 1}, stride[] = {2, 3, 1},
                      dilation[] = {1, 2, 1}, pad[] = {0, 1, 0};
        for (int i = 0; i < 3; i++) {
            m[NNF_P_IN_DIM + i] = t ? small[i] : big[i];
            m[NNF_P_OUT_DIM + i] = t ? big[i] : small[i];
            m[NNF_P_STRIDE + i] = stride[i];
            m[NNF_P_DILATION + i] = dilation[i];
            m[NNF_P_PAD + i] = pad[i];
        }
    }
    run(NNF_CONV, p, in, NX + NW, y, NY);
    run(NNF_CONV_TRANSPOSE, q, in2, NY + NW, back, NX);
    double left = 0, right = 0;
    for (int i = 0; i < NY; i++)
        left += y[i] * v[i];
    for (int i = 0; i < NX; i++)
        right += back[i] * in[i];
    assert_true(fabs(left - right) <= 1e-12 * fabs(left));
    /* one value by hand: n 1, o 4 (group 1), q (1, 1) */
    double want = 0;
    for (int i = 0; i < CI / G; i++)
        for (int a = 0; a < KH; a++)
            for (int b = 0; b < KW; b++) {
                int r = 1 * 2 + a, c = 1 * 3 + b * 2 - 1;
                if (c >= 0 && c < W && r < H)
                    want += in[((1 * CI + 2 + i) * H + r) * W + c] *
                            in[NX + ((4 * (CI / G) + i) * KH + a) * KW + b];
            }
    assert_true(fabs(y[((1 * CO + 4) * OH + 1) * OW + 1] - want) < 1e-12);
}

static void layer_norm_golden(void **s)
{
    (void)s;
    static const struct {
        double eps, want[3];
    } t[] = {{1e-3, {-.3922, -.0981, .4903}},
             {1e-5, {-1.0363, -.2591, 1.2953}},
             {1e-6, {-1.0656, -.2664, 1.3320}},
             {1e-12, {-1.0690, -.2673, 1.3363}}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        double in[] = {.01, .02, .04, t[i].eps, 2, 3, 4, 1, 1, 2}, out[3];
        int64_t p[NNF_MAX_PARAMS] = {1, 3, 0, 0};
        p[NNF_P_C] = 3;
        p[NNF_P_S] = p[NNF_P_G] = 1;
        p[NNF_P_EPS] = 3;
        p[NNF_P_GAMMA] = 4;
        p[NNF_P_BETA] = 7;
        p[NNF_P_PER_ELEMENT] = 1;
        run(NNF_GROUPNORM, p, in, 10, out, 3);
        near_(out, t[i].want, 3, 6e-5);
        double first = out[0];
        p[NNF_P_STAGE] = 1;
        run(NNF_GROUPNORM, p, in, 10, out, 3);
        assert_true(fabs(out[0] - (first * 2 + 1)) < 1e-12);
    }
}

static void group_and_batch_norm(void **s)
{
    (void)s;
    /* two groups of one channel each with values 1 3 and 10 14: -1 1 -1 1 without eps */
    double in[] = {1, 3, 10, 14, 0, 5, 7, .5, .25}, out[4];
    int64_t p[NNF_MAX_PARAMS] = {2, 2, 0, 0, 1};
    p[NNF_P_C] = p[NNF_P_G] = p[NNF_P_S] = 2;
    p[NNF_P_EPS] = 4;
    p[NNF_P_GAMMA] = 5;
    p[NNF_P_BETA] = 7;
    run(NNF_GROUPNORM, p, in, 9, out, 4);
    near_(out, (const double[]){-4.5, 5.5, -6.75, 7.25}, 4, 1e-12);
    /* mean 5 7, variance .25 (+0): (x - 5) / .5 and (x - 7) / .5 with channels of two */
    double in2[] = {1, 3, 10, 14, 0, 5, 7, .25, .25, 2, 1, 0, 1};
    int64_t q[NNF_MAX_PARAMS] = {4, 1, 0, 0, 1};
    q[NNF_P_C] = q[NNF_P_S] = 2;
    q[NNF_P_EPS] = 4;
    q[NNF_P_MEAN] = 5;
    q[NNF_P_VAR] = 7;
    q[NNF_P_GAMMA] = 9;
    q[NNF_P_BETA] = 11;
    run(NNF_BATCHNORM, q, in2, 13, out, 4);
    near_(out, (const double[]){-16, -8, 7, 15}, 4, 1e-12);
}

static void attention_formula(void **s)
{
    (void)s;
    enum { N = 2, T = 3, S = 5, H = 2, D = 3, V = 4 };
    enum { NQ = N * T * H * D, NK = N * S * H * D, NV = N * S * H * V };
    static double in[NQ + NK + NV + 1], out[N * T * H * V], want[N * T * H * V];
    for (int i = 0; i < NQ + NK + NV; i++)
        in[i] = number(i);
    in[NQ + NK + NV] = .5;
    const double *q = in, *k = in + NQ, *v = in + NQ + NK;
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            for (int h = 0; h < H; h++) {
                double w[S], total = 0;
                for (int j = 0; j < S; j++) {
                    w[j] = 0;
                    for (int d = 0; d < D; d++)
                        w[j] += q[((n * T + t) * H + h) * D + d] * k[((n * S + j) * H + h) * D + d];
                    w[j] = exp(w[j] * .5);
                    total += w[j];
                }
                for (int d = 0; d < V; d++)
                    for (int j = 0; j < S; j++)
                        want[((n * T + t) * H + h) * V + d] +=
                            w[j] / total * v[((n * S + j) * H + h) * V + d];
            }
    int64_t p[NNF_MAX_PARAMS] = {N * T * H, V, 0, 0};
    p[NNF_P_T] = T;
    p[NNF_P_KEYS] = S;
    p[NNF_P_HEADS] = H;
    p[NNF_P_HEAD_DIM] = D;
    p[NNF_P_VALUE_DIM] = V;
    p[NNF_P_Q] = 0;
    p[NNF_P_K] = NQ;
    p[NNF_P_V] = NQ + NK;
    p[NNF_P_SCALE] = NQ + NK + NV;
    run(NNF_ATTENTION, p, in, NQ + NK + NV + 1, out, N * T * H * V);
    near_(out, want, N * T * H * V, 1e-14);
}

static void linear_reads_strides_and_blocks(void **s)
{
    (void)s;
    /* w stored [I=6 as 2 positions x 3 channels][O=2]; x counts channels first */
    double in[12 + 6], out[2] = {.5, -.5}, want[2] = {.5, -.5};
    int64_t p[NNF_MAX_PARAMS] = {2, 1, 0, 6};
    for (int i = 0; i < 18; i++)
        in[i] = number(i);
    axis(p, 0, 2, 1);
    axis(p, 1, 1, 0);
    axis(p, 2, 3, 2); /* channel */
    axis(p, 3, 2, 6); /* position */
    axis(p, 4, 1, 0);
    axis(p, 5, 1, 0);
    for (int o = 0; o < 2; o++)
        for (int c = 0; c < 3; c++)
            for (int q = 0; q < 2; q++)
                want[o] += in[c * 2 + q] * in[6 + (q * 3 + c) * 2 + o];
    /* in two blocks: position 0, then position 1 */
    for (int block = 0; block < 2; block++) {
        int64_t *a = p + NNF_P_AXES + 3 * NNF_AXIS_N;
        a[NNF_AXIS_LO] = block;
        a[NNF_AXIS_HI] = block + 1;
        struct err e = {0};
        struct executor *x;
        assert_int_equal(native_open(true, &x, &e), ST_OK);
        struct exec_call c = {.kernel = NNF_LINEAR, .in = in, .n_in = 18, .out = out, .n_out = 2};
        memcpy(c.p, p, sizeof p);
        assert_int_equal(x->run(x, &c, &e), ST_OK);
        x->close(x);
    }
    near_(out, want, 2, 1e-15);
}

static void embedding_and_multiply(void **s)
{
    (void)s;
    double in[10], out[10];
    bool seen[5] = {false};
    int64_t p[NNF_MAX_PARAMS] = {10, 1, 0, 0};
    for (int i = 0; i < 10; i++)
        in[i] = i + 1;
    p[NNF_P_ROWS] = 5;
    p[NNF_P_DIM] = 2;
    p[NNF_P_STEP] = 3;
    p[NNF_P_SHIFT] = 1;
    run(NNF_EMBEDDING, p, in, 10, out, 10);
    for (int t = 0; t < 5; t++) {
        int row = (t * 3 + 1) % 5;
        seen[row] = true;
        assert_true(out[t * 2] == row * 2 + 1 && out[t * 2 + 1] == row * 2 + 2);
    }
    for (int i = 0; i < 5; i++)
        assert_true(seen[i]);
    int64_t m[NNF_MAX_PARAMS] = {5, 1, 0, 5};
    run(NNF_MULTIPLY, m, in, 10, out, 5);
    near_(out, (const double[]){6, 14, 24, 36, 50}, 5, 0);
}

/* One unit, one input; x = 1, h = .5, c = .25. */
static void cell(int64_t kind, int64_t gates, const double *w, const double *u, const double *b,
                 int64_t stage, double *out)
{
    double in[4 + 4 + 5 + 2] = {0};
    int64_t p[NNF_MAX_PARAMS] = {1, 2, 0};
    for (int64_t g = 0; g < gates; g++) {
        in[g] = w[g];
        in[gates + g] = u[g] * .5;
    }
    for (int64_t g = 0; g <= gates; g++)
        in[2 * gates + g] = b[g];
    in[3 * gates + 1] = .5;
    in[3 * gates + 2] = .25;
    p[NNF_P_CELL] = kind;
    p[NNF_P_STAGE] = stage;
    p[NNF_P_UNITS] = 1;
    p[NNF_P_GATES] = gates;
    p[NNF_P_STATE_SIDE] = gates;
    p[NNF_P_BIASES] = 2 * gates;
    p[NNF_P_STATE] = 3 * gates + 1;
    p[NNF_P_MEMORY] = 3 * gates + 2;
    run(NNF_CELL, p, in, (size_t)(3 * gates + 3), out, 2);
}

static void cells_golden(void **s)
{
    (void)s;
    const double w[] = {.1, .2, .3, .4}, u[] = {.5, .6, .7, .8};
    double out[2];
    cell(NNF_CELL_LSTM, 4, w, u, (const double[]){.01, .02, .03, .04, 0}, 1, out);
    near_(out, (const double[]){.32563091, .50521578}, 2, 5e-9);
    cell(NNF_CELL_GRU, 3, w, u, (const double[]){.01 + .04, .02 + .05, .03, .06}, 1, out);
    near_(out, (const double[]){.50699328}, 1, 5e-9);
    /* reset before: the state side of the new gate is made of r h */
    const double b[] = {.01 + .04, .02 + .05, .03 + .06, 0};
    cell(NNF_CELL_GRU_BEFORE, 3, w, u, b, 0, out);
    double again[] = {.5, .6, .7 * out[0] / .5};
    assert_true(fabs(out[0] - out[1] * .5) < 1e-15);
    cell(NNF_CELL_GRU_BEFORE, 3, w, again, b, 1, out);
    near_(out, (const double[]){.51326557}, 1, 5e-9);
    cell(NNF_CELL_RNN, 1, w, u, (const double[]){.03, 0}, 1, out);
    near_(out, (const double[]){tanh(.1 + .25 + .03), .38}, 2, 1e-15);
}

static void compare_counts(void **s)
{
    (void)s;
    double in[] = {1, 2, NAN, INFINITY, 5, NAN, 1, 2.5, NAN, -INFINITY, 5, 6, .1, .01};
    double out[2 * NNF_COMPARE_WIDTH];
    int64_t p[NNF_MAX_PARAMS] = {1, NNF_COMPARE_WIDTH, 0, 6};
    p[NNF_P_COUNT] = 6;
    p[NNF_P_TOL] = 12;
    struct err e = {0};
    struct executor *x;
    assert_int_equal(native_open(true, &x, &e), ST_OK);
    struct exec_call c = {.kernel = NNF_COMPARE, .in = in, .n_in = 14, .out = out, .n_out = 10};
    memcpy(c.p, p, sizeof p);
    assert_int_equal(x->run(x, &c, &e), ST_OK);
    x->close(x);
    assert_true(out[NNF_C_MAX_ABS] == .5);
    assert_true(out[NNF_C_FAILS] == 3 && out[NNF_C_NONFINITE] == 2 && out[NNF_C_FIRST] == 1);
    assert_true(out[NNF_C_FINITE] == 3);
    assert_true(fabs(out[NNF_C_MAX_REL] - .2) < 1e-15 && fabs(out[NNF_C_SQUARES] - .25) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_golden),
        cmocka_unit_test(a_kernel_for_each_position),
        cmocka_unit_test(transposed_convolution_golden),
        cmocka_unit_test(transposed_is_the_adjoint),
        cmocka_unit_test(layer_norm_golden),
        cmocka_unit_test(group_and_batch_norm),
        cmocka_unit_test(attention_formula),
        cmocka_unit_test(linear_reads_strides_and_blocks),
        cmocka_unit_test(embedding_and_multiply),
        cmocka_unit_test(cells_golden),
        cmocka_unit_test(compare_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
