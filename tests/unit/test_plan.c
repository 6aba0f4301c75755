/* Plans: what the proof accepts and what it refuses. */
#include "convert/plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct plan p;
static struct err e;

/* One float32 tensor "a" [4,6] in memory, and an alias "b" of it. */
static void start(uint64_t raw_bytes)
{
    struct storage *s;
    struct tensor *t;
    uint32_t si;
    uint64_t dim[2] = {4, 6};
    model_init(&m);
    assert_int_equal(model_storage_add(&m, &s, &si, &e), ST_OK);
    s->kind = STORAGE_MEMORY;
    s->mem = arena_alloc(&m.arena, 1, raw_bytes);
    s->raw_bytes = s->stored_bytes = raw_bytes;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(model_tensor_add(&m, &t, &e), ST_OK);
        t->name = arena_fmt(&m.arena, "%c", 'a' + i);
        t->dtype = DT_F32;
        t->storage = si;
        assert_int_equal(tensor_set_shape(&m, t, dim, 2, &e), ST_OK);
    }
    assert_int_equal(model_finish(&m, &e), ST_OK);
    plan_init(&p, &m);
    assert_int_equal(plan_identity(&p, &e), ST_OK);
}

static void stop(void)
{
    plan_free(&p);
    model_free(&m);
}

static void refused(const char *code)
{
    assert_int_not_equal(plan_prove(&p, 0, &e), ST_OK);
    assert_string_equal(e.code, code);
    stop();
}

/* The part of `from` that lies in [lo, hi) of an axis. */
static void slice(struct part *q, const struct part *from, size_t axis, uint64_t lo, uint64_t hi)
{
    struct view v;
    *q = *from;
    view_load(&v, from->view);
    assert_int_equal(view_slice(&v, axis, lo, hi, &e), ST_OK);
    assert_int_equal(part_set_view(q, &p.dst.arena, &v, &e), ST_OK);
    assert_int_equal(part_move(q, &p.dst.arena, axis, lo, &e), ST_OK);
}

/* Cuts "a" in parts along an axis at the given bounds. */
static struct part *cut(size_t axis, const uint64_t *bound, size_t n)
{
    struct part *q = ARENA_ARRAY(&p.dst.arena, struct part, n);
    for (size_t i = 0; i < n; i++)
        slice(&q[i], &p.recipe[0].part[0], axis, bound[i], bound[i + 1]);
    p.recipe[0] = (struct recipe){q, n};
    return q;
}

static void identity_is_proven(void **state)
{
    (void)state;
    start(96);
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    assert_int_equal(p.dst.tensor[1].alias_of, 0);
    assert_int_equal(p.elems_read, 24);
    assert_int_equal(p.elems_written, 24);
    assert_int_equal(p.elems_dropped + p.elems_synth, 0);
    stop();
}

static void parts_must_tile(void **state)
{
    (void)state;
    uint64_t three[4] = {0, 2, 5, 6};
    start(96);
    cut(1, three, 3);
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    stop();
    start(96);
    cut(1, three, 2); /* a gap */
    refused("plan-tiling");
    start(96);
    struct part *q = cut(1, three, 3); /* the right volume, yet one place twice */
    slice(&q[2], &q[0], 1, 0, 1);
    assert_int_equal(part_move(&q[2], &p.dst.arena, 1, 1, &e), ST_OK);
    refused("plan-tiling");
    start(96);
    const uint64_t too_far[2] = {5, 6};
    p.recipe[0].part[0].hi = too_far;
    refused("plan-tiling");
    start(96);
    p.recipe[0].n_parts = 0;
    refused("plan-tiling");
}

static void thousands_of_parts(void **state)
{
    (void)state;
    struct storage *s;
    struct tensor *t;
    uint32_t si;
    uint64_t dim[2] = {3, 6000};
    for (int overlap = 0; overlap < 2; overlap++) {
        model_init(&m);
        assert_int_equal(model_storage_add(&m, &s, &si, &e), ST_OK);
        s->kind = STORAGE_MEMORY;
        s->mem = arena_alloc(&m.arena, 4, 18000);
        s->raw_bytes = s->stored_bytes = 72000;
        assert_int_equal(model_tensor_add(&m, &t, &e), ST_OK);
        t->name = STR("a");
        t->dtype = DT_F32;
        t->storage = si;
        assert_int_equal(tensor_set_shape(&m, t, dim, 2, &e), ST_OK);
        assert_int_equal(model_finish(&m, &e), ST_OK);
        plan_init(&p, &m);
        assert_int_equal(plan_identity(&p, &e), ST_OK);
        static uint64_t bound[6001];
        for (uint64_t i = 0; i <= 6000; i++)
            bound[i] = i;
        struct part *q = cut(1, bound, 6000);
        if (overlap)
            q[4321] = q[17];
        assert_int_equal(plan_prove(&p, 0, &e), overlap ? ST_BUG : ST_OK);
        stop();
    }
}

static void views_must_fit(void **state)
{
    (void)state;
    start(96);
    struct view v;
    view_load(&v, p.recipe[0].part[0].view);
    v.offset = 1;
    assert_int_equal(part_set_view(p.recipe[0].part, &p.dst.arena, &v, &e), ST_OK);
    refused("plan-view");
    start(96);
    uint8_t perm[2] = {1, 0};
    view_load(&v, p.recipe[0].part[0].view);
    assert_int_equal(view_permute(&v, perm, 2, &e), ST_OK);
    assert_int_equal(view_keep(&v, &p.dst.arena, &p.recipe[0].part[0].view, &e), ST_OK);
    refused("plan-view");
    start(96);
    p.recipe[0].part[0].src = 7;
    refused("plan-source");
}

static void ops_must_end_in_the_type(void **state)
{
    (void)state;
    struct op cast = {.kind = OP_CAST, .to = DT_BF16};
    start(96);
    p.recipe[0].part[0].op = &cast;
    p.recipe[0].part[0].n_ops = 1;
    refused("plan-ops");
    start(96);
    p.recipe[0].part[0].op = &cast;
    p.recipe[0].part[0].n_ops = 1;
    p.dst.tensor[0].dtype = p.dst.tensor[1].dtype = DT_BF16;
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    stop();
}

static void the_ledger_must_balance(void **state)
{
    (void)state;
    uint64_t half[3] = {0, 2, 4};
    start(96);
    struct part *q = cut(0, half, 2);
    q[1].src = -1; /* half of the tensor is filled in, half of the source is not read */
    q[1].n_ops = 0;
    refused("plan-ledger");
    start(96);
    q = cut(0, half, 2);
    q[1].src = -1;
    struct ledger_line line[2] = {{.kind = LEDGER_DROP,
                                   .harmless = true,
                                   .name = STR("a"),
                                   .n_elems = 12,
                                   .why = STR("test")},
                                  {.kind = LEDGER_DROP,
                                   .harmless = true,
                                   .name = STR("b"),
                                   .n_elems = 12,
                                   .why = STR("test")}};
    p.line = line;
    p.n_lines = 2;
    refused("plan-ledger"); /* the fill is not named */
    start(96);
    q = cut(0, half, 2);
    q[1].src = -1;
    struct ledger_line lines[3] = {line[0],
                                   line[1],
                                   {.kind = LEDGER_SYNTH,
                                    .harmless = true,
                                    .name = STR("a"),
                                    .n_elems = 12,
                                    .why = STR("test")}};
    p.line = lines;
    p.n_lines = 3;
    assert_int_equal(plan_prove(&p, 0, &e), ST_OK);
    assert_int_equal(p.elems_synth, 12);
    assert_int_equal(p.elems_read, 12);
    stop();
}

static void output_too_big(void **state)
{
    (void)state;
    start(96);
    assert_int_equal(plan_prove(&p, 95, &e), ST_INPUT);
    assert_string_equal(e.code, "output-too-big");
    assert_int_equal(plan_prove(&p, 96, &e), ST_OK);
    /* four bytes expanded to a terabyte */
    struct tensor *d = &p.dst.tensor[0];
    const uint64_t million[2] = {1000000, 1000000};
    assert_int_equal(tensor_set_shape(&p.dst, d, million, 2, &e), ST_OK);
    assert_int_equal(plan_prove(&p, 0, &e), ST_INPUT);
    assert_string_equal(e.code, "output-too-big");
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(identity_is_proven),
                                       cmocka_unit_test(parts_must_tile),
                                       cmocka_unit_test(thousands_of_parts),
                                       cmocka_unit_test(views_must_fit),
                                       cmocka_unit_test(ops_must_end_in_the_type),
                                       cmocka_unit_test(the_ledger_must_balance),
                                       cmocka_unit_test(output_too_big)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
