/* The OpenCL worker, whole: devices of this host, kernels on the device against the same kernels
 * compiled as C. Needs an OpenCL driver (PoCL in CI); says 77 where no worker can run at all.
 */
#include "base/child.h"
#include "base/mem.h"
#include "tests/lib/worker.h"
#include "validate/devices.h"
#include "validate/executor.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

static void devices_are_listed(void **s)
{
    (void)s;
    struct devices *d = calloc(1, sizeof *d);
    struct err e = {0};
    assert_int_equal(devices_list(&(struct devices_opt){0}, d, &e), ST_OK);
    printf("%.*s", (int)d->note.n, d->note.p ? (const char *)d->note.p : "");
    for (size_t i = 0; i < d->n; i++)
        printf("%zu: %s | %s | %s | driver %s | fp64 %d | %s | via %s\n", i, d->row[i].kind,
               d->row[i].d.name, d->row[i].d.platform, d->row[i].d.driver, (int)d->row[i].d.fp64,
               d->row[i].d.version, d->row[i].via);
    assert_true(d->n > 0);
    const struct device_row *r;
    assert_int_equal(devices_select(d, NULL, &r, &e), ST_OK);
    assert_int_equal(devices_select(d, "0", &r, &e), ST_OK);
    assert_int_equal(devices_select(d, "no such device", &r, &e), ST_DEVICE);
    assert_int_equal(devices_select(d, "99", &r, &e), ST_DEVICE);
    devices_free(d);
    free(d);
}

static void missing_vendors_are_told(void **s)
{
    (void)s;
    struct devices *d = calloc(1, sizeof *d);
    struct err e = {0};
    assert_int_equal(
        devices_list(&(struct devices_opt){.vendors = "/nonexistent/libnone.so"}, d, &e), ST_OK);
    assert_int_equal(d->n, 0);
    assert_true(d->note.n > 0);
    printf("%.*s", (int)d->note.n, (const char *)d->note.p);
    devices_free(d);
    assert_int_equal(devices_list(&(struct devices_opt){.vendors = "/nonexistent"}, d, &e), ST_OK);
    assert_true(str_find_str(buf_as_str(&d->note), STR("No such file"), 0) < d->note.n);
    devices_free(d);
    free(d);
}

/* One call of every kernel with random operands: the device executor itself compares a sample with
 * the native one, here everything is compared. */
static void fill(double *x, size_t n, unsigned seed)
{
    uint64_t v = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        v = v * 6364136223846793005u + 1442695040888963407u;
        x[i] = (double)(int32_t)(v >> 32) / 2147483648.0;
    }
}
static void call_both(struct executor *dev, int kernel, const int64_t *p, double *in, size_t n_in,
                      size_t n_out)
{
    struct err e = {0};
    struct executor *nat;
    assert_int_equal(native_open(true, &nat, &e), ST_OK);
    double *out = calloc(n_out, sizeof *out);
    double *got = calloc(n_out, sizeof *got);
    struct exec_call c = {.kernel = kernel, .in = in, .n_in = n_in, .out = out, .n_out = n_out};
    memcpy(c.p, p, sizeof c.p);
    fill(out, n_out, 77);
    memcpy(got, out, n_out * sizeof *out);
    assert_int_equal(nat->run(nat, &c, &e), ST_OK);
    if (dev->fp64) {
        c.out = got;
        enum status st = dev->run(dev, &c, &e);
        if (st != ST_OK)
            print_error("%s\n", e.reason);
        assert_int_equal(st, ST_OK);
    } else {
        float *fin = calloc(n_in, sizeof *fin), *fout = calloc(n_out, sizeof *fout);
        for (size_t i = 0; i < n_in; i++)
            fin[i] = (float)in[i];
        for (size_t i = 0; i < n_out; i++)
            fout[i] = (float)got[i];
        c.in = fin;
        c.out = fout;
        enum status st = dev->run(dev, &c, &e);
        if (st != ST_OK)
            print_error("%s\n", e.reason);
        assert_int_equal(st, ST_OK);
        for (size_t i = 0; i < n_out; i++)
            got[i] = (double)fout[i];
        free(fin);
        free(fout);
    }
    double scale = 0, worst = 0;
    for (size_t i = 0; i < n_out; i++) {
        if (kernel == NNF_COMPARE && i % NNF_COMPARE_WIDTH >= NNF_C_MAX_REL)
            continue; /* counts and quotients of rounding */
        scale = fmax(scale, fabs(out[i]));
        worst = fmax(worst, fabs(out[i] - got[i]));
    }
    print_message("%d: worst %g of %g\n", kernel, worst, scale);
    assert_true(worst <= (dev->fp64 ? 1e-12 : 1e-6) * scale);
    free(out);
    free(got);
    nat->close(nat);
}
static void axis(int64_t *p, int k, int64_t extent, int64_t stride)
{
    int64_t *a = p + NNF_P_AXES + k * NNF_AXIS_N;
    a[NNF_AXIS_EXTENT] = extent;
    a[NNF_AXIS_STRIDE] = stride;
    a[NNF_AXIS_LO] = 0;
    a[NNF_AXIS_HI] = extent;
}

static void all_kernels(struct executor *x)
{
    static double in[40000];
    fill(in, 40000, 3);
    {
        int64_t p[NNF_MAX_PARAMS] = {3 * 7, 1, 0, 3 * 60};
        axis(p, 0, 7, 1);
        axis(p, 1, 1, 0);
        axis(p, 2, 5, 84);
        axis(p, 3, 12, 7);
        axis(p, 4, 1, 0);
        axis(p, 5, 1, 0);
        call_both(x, NNF_LINEAR, p, in, 1000, 21);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {2 * 5 * 12, 1, 0, 2 * 12 * 6};
        axis(p, 0, 5, 1);
        axis(p, 1, 2, 15);
        axis(p, 2, 3, 5);
        axis(p, 3, 1, 0);
        axis(p, 4, 3, 4 * 30);
        axis(p, 5, 4, 30);
        call_both(x, NNF_LOCAL, p, in, 2 * 12 * 6 + 360, 120);
    }
    for (int t = 0; t < 2; t++) {
        int64_t p[NNF_MAX_PARAMS] = {0, 1, 0, 2000};
        axis(p, 0, t ? 4 : 6, t ? 3 * 6 : 2 * 6);
        axis(p, 1, t ? 3 : 2, 6);
        axis(p, 2, 1, 6);
        axis(p, 3, 2, 3);
        axis(p, 4, 3, 1);
        p[NNF_P_GROUPS] = 2;
        p[NNF_P_CHANNELS_IN] = 4;
        p[NNF_P_CHANNELS_OUT] = 6;
        for (int k = 0; k < 3; k++) {
            p[NNF_P_IN_DIM + k] = k ? 4 + k : 1;
            p[NNF_P_STRIDE + k] = t ? 2 : 1;
            p[NNF_P_DILATION + k] = 1;
            p[NNF_P_PAD + k] = 0;
            int64_t kernel = k + 1;
            int64_t n = p[NNF_P_IN_DIM + k];
            p[NNF_P_OUT_DIM + k] = t ? (n - 1) * 2 + kernel : n - kernel + 1;
        }
        p[0] = 2 * 6 * p[NNF_P_OUT_DIM] * p[NNF_P_OUT_DIM + 1] * p[NNF_P_OUT_DIM + 2];
        call_both(x, t ? NNF_CONV_TRANSPOSE : NNF_CONV, p, in, 3000, (size_t)p[0]);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {2 * 5 * 3, 1, 0, 0, 1};
        double v[100];
        fill(v, 100, 9);
        for (int i = 40; i < 60; i++)
            v[i] = fabs(v[i]);
        p[NNF_P_C] = 5;
        p[NNF_P_S] = 3;
        p[NNF_P_MEAN] = 30;
        p[NNF_P_VAR] = 40;
        p[NNF_P_GAMMA] = 60;
        p[NNF_P_BETA] = 70;
        p[NNF_P_EPS] = 45;
        call_both(x, NNF_BATCHNORM, p, v, 100, 30);
        p[NNF_P_C] = 6;
        p[NNF_P_S] = 5;
        p[NNF_P_G] = 2;
        p[NNF_P_ITEMS] = 2;
        p[NNF_P_WIDTH] = 15;
        call_both(x, NNF_GROUPNORM, p, v, 100, 30);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {11 * 4, 1, 0, 0};
        p[NNF_P_ROWS] = 11;
        p[NNF_P_DIM] = 4;
        p[NNF_P_STEP] = 7;
        p[NNF_P_SHIFT] = 3;
        call_both(x, NNF_EMBEDDING, p, in, 100, 44);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {2 * 3 * 4, 5, 0, 0};
        p[NNF_P_T] = 3;
        p[NNF_P_KEYS] = 5;
        p[NNF_P_HEADS] = 4;
        p[NNF_P_HEAD_DIM] = 6;
        p[NNF_P_Q] = 0;
        p[NNF_P_K] = 1000;
        p[NNF_P_V] = 2000;
        p[NNF_P_SCALE] = 3000;
        p[NNF_P_VALUE_DIM] = 5;
        call_both(x, NNF_ATTENTION, p, in, 4000, 120);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {1000, 1, 0, 1000};
        call_both(x, NNF_MULTIPLY, p, in, 2000, 1000);
    }
    {
        int64_t p[NNF_MAX_PARAMS] = {64, 1, 0, 0};
        p[NNF_P_COUNT] = 15000;
        call_both(x, NNF_MAX_ABS, p, in, 40000, 64);
        p[NNF_P_WIDTH] = NNF_COMPARE_WIDTH;
        p[NNF_P_W] = 15000;
        p[NNF_P_TOL] = 30000;
        in[30000] = 1e-5;
        in[30001] = 1e-6;
        call_both(x, NNF_COMPARE, p, in, 40000, 64 * NNF_COMPARE_WIDTH);
    }
}

static void run_on_device(bool direct, bool single)
{
    struct executor *x;
    struct err e = {0};
    struct buf tried = BUF_INIT;
    struct device_opt o = {.seed = 5, .direct = direct, .single = single};
    enum status st = device_open(&o, &x, &tried, &e);
    if (st != ST_OK)
        print_error("%s\n%.*s", e.reason, (int)tried.n, (const char *)tried.p);
    assert_int_equal(st, ST_OK);
    buf_free(&tried);
    printf("%s, fp64 %d\n", x->name, (int)x->fp64);
    all_kernels(x);
    assert_true(x->kernel_ns > 0);
    printf("%llu ns on the device\n", (unsigned long long)x->kernel_ns);
    x->close(x);
}

static void kernels_agree_on_the_device(void **s)
{
    (void)s;
    run_on_device(false, false);
}
static void kernels_agree_without_a_loader(void **s)
{
    (void)s;
    run_on_device(true, false);
}

static void kernels_agree_without_double(void **s)
{
    (void)s;
    run_on_device(false, true);
}

static void compensated_float_agrees(void **s)
{
    (void)s;
    struct executor *x;
    struct err e = {0};
    assert_int_equal(native_open(false, &x, &e), ST_OK);
    all_kernels(x);
    x->close(x);
}

int main(void)
{
    int r = worker_begin();
    if (r != 0)
        return r;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compensated_float_agrees),
        cmocka_unit_test(devices_are_listed),
        cmocka_unit_test(missing_vendors_are_told),
        cmocka_unit_test(kernels_agree_on_the_device),
        cmocka_unit_test(kernels_agree_without_a_loader),
        cmocka_unit_test(kernels_agree_without_double),
    };
    r = cmocka_run_group_tests(tests, NULL, NULL);
    child_stop();
    assert_int_equal(mem_in_use(), 0);
    return r;
}
