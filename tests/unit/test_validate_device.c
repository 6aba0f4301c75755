/* validate on an OpenCL device (PoCL in CI): the same answers as natively, the same metrics. Says
 * 77 where no worker can run at all (another machine's program under an emulator).
 */
#include "base/child.h"
#include "tests/lib/mutations.h"
#include "tests/lib/worker.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

static void twins_are_equal_on_the_device(void **s)
{
    (void)s;
    twins_are_equal("0");
}

static void mutations_differ_on_the_device(void **s)
{
    (void)s;
    mutations_differ("0");
}

static void device_and_native_metrics_agree(void **s)
{
    (void)s;
    struct twin_net t, f;
    struct validate_report r, q;
    twin_torch(&t);
    twin_flax(&f);
    for (int i = 0; i < L_N; i++)
        if (f.layer[i].tensor[LEAF_WEIGHT] >= 0)
            twin_data(&f, i, LEAF_WEIGHT)[1] += 3e-6f; /* small differences to measure */
    twin_check(&t, &f, "native", 0, &r);
    twin_check(&t, &f, "0", 0, &q);
    for (size_t i = 0; i < r.n; i++) {
        const struct metrics *x = &r.layer[i].m, *y = &q.layer[i].m;
        double scale = x->max_ref;
        assert_int_equal(r.layer[i].verdict, q.layer[i].verdict);
        assert_true(fabs(x->max_abs - y->max_abs) <= 1e-6 * scale);
        assert_true(fabs(x->mse - y->mse) <= 1e-6 * scale * scale);
        assert_true(fabs(x->cosine - y->cosine) <= 1e-6);
    }
    assert_true(q.kernel_ns > 0 && r.kernel_ns == 0);
    validate_free(&r);
    validate_free(&q);
    twin_free(&t);
    twin_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_are_equal_on_the_device),
        cmocka_unit_test(mutations_differ_on_the_device),
        cmocka_unit_test(device_and_native_metrics_agree),
    };
    int r = worker_begin();
    if (r == 0) {
        r = cmocka_run_group_tests(tests, NULL, NULL);
        child_stop();
    }
    return r;
}
