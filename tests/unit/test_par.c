/* Items on threads: all run once, commits come in order, the lowest failure is reported whatever
 * the number of threads. */
#include "base/par.h"
#include "base/stop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define N 500
struct work {
    atomic_int body[N], finish[N], prove[N], busy[64];
    uint64_t order[N];
    size_t n_order;
    uint64_t fail_body[2], fail_commit, fail_finish, fail_prove;
    atomic_int in_commit, in_finish;
    int n_slots;
    bool alone;
};

static enum status body(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct work *w = ctx;
    assert_int_equal(atomic_fetch_add(&w->busy[slot], 1), 0); /* a slot has one owner */
    w->body[item]++;
    for (volatile int i = 0; i < (int)(item * 7919 % 3000); i++)
        ;
    w->busy[slot]--;
    if (item == w->fail_body[0] || item == w->fail_body[1])
        return err_set(e, ST_INPUT, "test", "item %llu", (unsigned long long)item);
    return ST_OK;
}
static enum status commit(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct work *w = ctx;
    (void)slot;
    assert_int_equal(atomic_fetch_add(&w->in_commit, 1), 0);
    w->order[w->n_order++] = item;
    w->in_commit--;
    if (item == w->fail_commit)
        return err_set(e, ST_OUTPUT, "test", "commit %llu", (unsigned long long)item);
    return ST_OK;
}
static enum status finish(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct work *w = ctx;
    assert_true(atomic_fetch_add(&w->in_finish, 1) == 0 || !w->alone);
    assert_int_equal(atomic_fetch_add(&w->busy[slot], 1), 0);
    w->finish[item]++;
    w->busy[slot]--;
    w->in_finish--;
    if (item == w->fail_finish)
        return err_set(e, ST_OUTPUT, "test", "finish %llu", (unsigned long long)item);
    return ST_OK;
}
static enum status prove(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct work *w = ctx;
    assert_int_equal(w->finish[item], 1);
    assert_int_equal(atomic_fetch_add(&w->busy[slot], 1), 0);
    w->prove[item]++;
    w->busy[slot]--;
    if (item == w->fail_prove)
        return err_set(e, ST_OUTPUT, "test", "prove %llu", (unsigned long long)item);
    return ST_OK;
}

static enum status go(struct work *w, struct err *e)
{
    struct par_job j = {.n_items = N,
                        .n_slots = w->n_slots,
                        .ctx = w,
                        .body = body,
                        .commit = commit,
                        .finish = finish,
                        .finish_alone = w->alone,
                        .prove = prove};
    return par_run(&j, e);
}

/* Every round another number of slots, finishes side by side or alone. */
static void fresh(struct work *w)
{
    static int round;
    memset(w, 0, sizeof *w);
    w->n_slots = round % 4 * 11;
    w->alone = ++round % 3 == 0;
    w->fail_body[0] = w->fail_body[1] = w->fail_commit = UINT64_MAX;
    w->fail_finish = w->fail_prove = UINT64_MAX;
}

static void all_items_once_in_order(void **state)
{
    static struct work w;
    struct err e;
    (void)state;
    for (int threads = 1; threads <= 8; threads *= 2) {
        par_set_threads(threads);
        assert_int_equal(par_threads(), threads);
        for (int round = 0; round < 12; round++) {
            fresh(&w);
            assert_int_equal(go(&w, &e), ST_OK);
            assert_int_equal(w.n_order, N);
            for (uint64_t i = 0; i < N; i++) {
                assert_int_equal(w.body[i], 1);
                assert_int_equal(w.finish[i], 1);
                assert_int_equal(w.prove[i], 1);
                assert_int_equal(w.order[i], i);
            }
        }
    }
}

static void lowest_failure_wins(void **state)
{
    static struct work w;
    struct err e;
    (void)state;
    for (int threads = 1; threads <= 8; threads *= 2) {
        par_set_threads(threads);
        for (int round = 0; round < 20; round++) {
            fresh(&w);
            w.fail_body[0] = 101;
            w.fail_body[1] = 100;
            assert_int_equal(go(&w, &e), ST_INPUT);
            assert_string_equal(e.reason, "item 100");
            assert_int_equal(w.n_order, 100); /* all below are committed, none above */
            fresh(&w);
            w.fail_commit = 50;
            w.fail_body[0] = 60;
            assert_int_equal(go(&w, &e), ST_OUTPUT);
            assert_string_equal(e.reason, "commit 50");
            assert_int_equal(w.n_order, 51);
            fresh(&w);
            w.fail_finish = 30;
            assert_int_equal(go(&w, &e), ST_OUTPUT);
            assert_string_equal(e.reason, "finish 30");
            assert_int_equal(w.prove[30], 0);
            fresh(&w);
            w.fail_prove = 20;
            assert_int_equal(go(&w, &e), ST_OUTPUT);
            assert_string_equal(e.reason, "prove 20");
        }
    }
}

static void host_has_a_thread(void **state)
{
    const char *why = NULL;
    (void)state;
    assert_true(par_host_threads(&why) >= 1);
    assert_non_null(why);
}

/* last: a stop request stays */
static void a_stop_ends_the_run(void **state)
{
    static struct work w;
    struct err e;
    (void)state;
    fresh(&w);
    stop_request(15);
    assert_int_equal(go(&w, &e), ST_SIGNAL);
    assert_int_equal(e.signal, 15);
    assert_int_equal(w.n_order, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_items_once_in_order), cmocka_unit_test(lowest_failure_wins),
        cmocka_unit_test(host_has_a_thread), cmocka_unit_test(a_stop_ends_the_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
