/* Equinox's names and axes, both ways, and the states of its batch norms. */
#include "convert/map.h"
#include "framework/framework.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, made;
static struct plan p;
static struct err err;
static struct buf asked;

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
    buf_free(&asked);
    return 0;
}

static enum status map_to(const struct model *src, const char *from, const char *to)
{
    struct map_opt o = {.from = from, .to = to};
    plan_init(&p, src);
    memset(&err, 0, sizeof err);
    buf_free(&asked);
    asked = (struct buf)BUF_INIT;
    return map_plan(&p, &o, NULL, 0, &asked, &err);
}

static void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%s: %s (%s)\n%.*s", err.code ? err.code : "-", err.reason, err.tensor,
                 (int)asked.n, (const char *)asked.p);
}

/* shape (ends with -1) and one value of a target tensor */
static double at(const char *name, size_t i, ...)
{
    int64_t t = toy_find(&p.dst, name);
    const struct tensor *x = &p.dst.tensor[t];
    size_t d = 0;
    uint64_t n;
    va_list ap;
    va_start(ap, i);
    for (int k = va_arg(ap, int); k >= 0; k = va_arg(ap, int), d++) {
        assert_true(d < x->n_dims);
        assert_int_equal(x->dim[d], k);
    }
    va_end(ap);
    assert_int_equal(d, x->n_dims);
    double *v = toy_values(&p, (size_t)t, &n), out = v[i];
    free(v);
    return out;
}

static void layers(void **state)
{
    (void)state;
    toy_add(&m, "conv1.weight", 0, 2, 3, 4, 5, -1);
    toy_add(&m, "conv1.bias", 50, 2, -1);
    toy_add(&m, "up_deconv.weight", 0, 3, 2, 2, -1);
    toy_add(&m, "up_deconv.bias", 60, 2, -1);
    toy_add(&m, "attn.in_proj_weight", 0, 12, 4, -1);
    toy_add(&m, "attn.in_proj_bias", 100, 12, -1);
    toy_add(&m, "attn.out_proj.weight", 200, 4, 4, -1);
    toy_add(&m, "c_proj.weight", 0, 4, 4, -1); /* Equinox has no Conv1D of GPT-2 */
    toy_add(&m, "ln.weight", 0, 3, -1);
    toy_add(&m, "ln.bias", 5, 3, -1);
    toy_add(&m, "cls", 9, 3, -1);
    toy_done(&m);
    must(map_to(&m, "pytorch", "equinox"));
    assert_true(at("conv1.weight", 7, 2, 3, 4, 5, -1) == 7);
    assert_true(at("conv1.bias", 1, 2, 1, 1, -1) == 51);
    /* [in,out,k] to [out,in,-k] */
    assert_true(at("up_deconv.weight", 0, 2, 3, 2, -1) == 1);
    assert_true(at("up_deconv.weight", 1, 2, 3, 2, -1) == 0);
    assert_true(at("up_deconv.weight", 2, 2, 3, 2, -1) == 5);
    assert_true(at("up_deconv.weight", 6, 2, 3, 2, -1) == 3);
    assert_true(at("up_deconv.bias", 1, 2, 1, -1) == 61);
    assert_true(at("attn.key_proj.weight", 0, 4, 4, -1) == 16);
    assert_true(at("attn.value_proj.bias", 0, 4, -1) == 108);
    assert_true(at("attn.output_proj.weight", 0, 4, 4, -1) == 200);
    assert_true(at("ln.bias", 0, 3, -1) == 5);
    assert_true(at("cls", 0, 3, -1) == 9);
    toy_freeze(&p, &made);
    plan_free(&p);
    must(map_to(&made, NULL, "pytorch"));
    assert_int_equal(p.dst.n_tensors, m.n_tensors);
    assert_true(at("up_deconv.weight", 5, 3, 2, 2, -1) == 5);
    assert_true(at("conv1.bias", 1, 2, -1) == 51);
    assert_true(at("attn.in_proj_bias", 11, 12, -1) == 111);
    plan_free(&p);
    model_free(&made);
}

/* Both kinds of convolution are stored alike: a name that does not tell is asked about. */
static void open_kind(void **state)
{
    (void)state;
    toy_add(&m, "stage.weight", 0, 2, 3, 4, -1);
    toy_add(&m, "stage.bias", 0, 2, 1, -1);
    toy_done(&m);
    assert_int_equal(map_to(&m, "equinox", "flax"), ST_CANNOT);
    assert_string_equal(err.code, "map-ambiguous");
    assert_true(str_find_str(buf_as_str(&asked), STR("kind \"stage\" = ?"), 0) < asked.n);
    plan_free(&p);
}

static void states(void **state)
{
    (void)state;
    toy_add(&m, "bn.weight", 10, 3, -1);
    toy_add(&m, "bn.bias", 20, 3, -1);
    toy_add(&m, "bn.running_mean", 30, 3, -1);
    toy_add(&m, "bn.running_var", 40, 3, -1);
    toy_counter(&m, "bn.num_batches_tracked", 17);
    toy_done(&m);
    must(map_to(&m, NULL, "equinox"));
    assert_int_equal(p.dst.n_tensors, 5);
    assert_true(at("bn.ema_state_index.0", 0, 3, -1) == 30);
    assert_true(at("bn.ema_state_index.1", 0, 3, -1) == 40);
    assert_true(at("bn.ema_first_time_index", 0, -1) == 0);
    assert_int_equal(p.dst.tensor[toy_find(&p.dst, "bn.ema_first_time_index")].dtype, DT_BOOL);
    toy_freeze(&p, &made);
    plan_free(&p);
    made.framework = STR_NONE;
    assert_string_equal(framework_of(&made)->name, "equinox");
    must(map_to(&made, NULL, "pytorch"));
    assert_true(at("bn.running_var", 2, 3, -1) == 42);
    plan_free(&p);
    model_free(&made);
}

/* Statistics that wait to be divided by 1 - momentum^count are not taken for what they are not. */
static void counted(void **state)
{
    (void)state;
    static const int64_t count[] = {0, 5, 1 << 30};
    for (int i = 0; i < 3; i++) {
        model_free(&m);
        model_init(&m);
        toy_add(&m, "bn.batch_state_index.0", 30, 3, -1);
        toy_add(&m, "bn.batch_state_index.1", 40, 3, -1);
        toy_counter(&m, "bn.batch_counter", count[i]);
        m.tensor[2].role = ROLE_COUNTER;
        toy_done(&m);
        enum status st = map_to(&m, "equinox", "pytorch");
        if (i == 1) {
            assert_int_equal(st, ST_CANNOT);
            assert_string_equal(err.code, "not-debiased");
            plan_free(&p);
        } else {
            must(st);
            assert_true(at("bn.running_mean", 0, 3, -1) == 30);
            plan_free(&p);
        }
        /* the archive keeps both, and gives them back */
        must(map_to(&m, "equinox", "canonical"));
        assert_true(at("bn.updates", 0, -1) == (double)count[i]);
        toy_freeze(&p, &made);
        plan_free(&p);
        must(map_to(&made, NULL, "equinox"));
        assert_true(at("bn.batch_counter", 0, -1) == (double)count[i]);
        assert_true(at("bn.batch_state_index.1", 0, 3, -1) == 40);
        plan_free(&p);
        model_free(&made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers, begin, end),
        cmocka_unit_test_setup_teardown(open_kind, begin, end),
        cmocka_unit_test_setup_teardown(states, begin, end),
        cmocka_unit_test_setup_teardown(counted, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
