/* Views against an eager reference: random chains of edits, by the thousand. */
#include "model/view.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MAX_ELEMS 4096

/* The reference: the shape, and the storage position of every element in C order. */
struct eager {
    uint64_t dim[VIEW_MAX_AXES];
    size_t n;
    uint64_t n_elems;
    int64_t at[MAX_ELEMS];
};

static uint64_t rng;
static uint64_t next_random(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return below ? rng % below : 0;
}

static void count(struct eager *r)
{
    r->n_elems = 1;
    for (size_t d = 0; d < r->n; d++)
        r->n_elems *= r->dim[d];
}

static uint64_t c_index(const uint64_t *dim, size_t n, const uint64_t *i)
{
    uint64_t at = 0;
    for (size_t d = 0; d < n; d++)
        at = at * dim[d] + i[d];
    return at;
}

static void c_digits(const uint64_t *dim, size_t n, uint64_t at, uint64_t *i)
{
    for (size_t d = n; d-- > 0;) {
        i[d] = at % dim[d];
        at /= dim[d];
    }
}

/* Rebuilds r with a new shape; from() maps a new index to the old one. */
static void remake(struct eager *r, const uint64_t *dim, size_t n,
                   void (*from)(const uint64_t *now, uint64_t *old, const void *arg),
                   const void *arg)
{
    static struct eager out;
    out.n = n;
    memcpy(out.dim, dim, n * sizeof *dim);
    count(&out);
    for (uint64_t k = 0; k < out.n_elems; k++) {
        uint64_t now[VIEW_MAX_AXES], old[VIEW_MAX_AXES];
        c_digits(out.dim, n, k, now);
        from(now, old, arg);
        out.at[k] = r->at[c_index(r->dim, r->n, old)];
    }
    *r = out;
}

struct arg {
    size_t d, n;
    uint64_t v;
    uint8_t perm[VIEW_MAX_AXES];
};
static void from_permute(const uint64_t *now, uint64_t *old, const void *p)
{
    const struct arg *a = p;
    for (size_t i = 0; i < a->n; i++)
        old[a->perm[i]] = now[i];
}
static void from_slice(const uint64_t *now, uint64_t *old, const void *p)
{
    const struct arg *a = p;
    memcpy(old, now, a->n * sizeof *now);
    old[a->d] += a->v;
}
static void from_flip(const uint64_t *now, uint64_t *old, const void *p)
{
    const struct arg *a = p;
    memcpy(old, now, a->n * sizeof *now);
    old[a->d] = a->v - 1 - old[a->d];
}
static void from_expand(const uint64_t *now, uint64_t *old, const void *p)
{
    const struct arg *a = p;
    memcpy(old, now, a->n * sizeof *now);
    old[a->d] = 0;
}

static int64_t place(const struct view *v, uint64_t k)
{
    int64_t at = v->offset;
    for (size_t i = v->n_axes; i-- > 0;) {
        at += (int64_t)(k % v->axis[i].extent) * v->axis[i].stride;
        k /= v->axis[i].extent;
    }
    return at;
}

static void check(const struct view *v, const struct eager *r)
{
    uint64_t dim[VIEW_MAX_AXES];
    int64_t lo, hi, min = INT64_MAX, max = INT64_MIN;
    assert_int_equal(v->n_dims, r->n);
    view_shape(v, dim);
    for (size_t d = 0; d < r->n; d++) {
        assert_int_equal(dim[d], r->dim[d]);
        assert_true(v->group_end[d] > (d ? v->group_end[d - 1] : 0));
    }
    assert_int_equal(v->n_dims ? v->group_end[v->n_dims - 1] : 0, v->n_axes);
    assert_int_equal(view_elems(v), r->n_elems);
    struct view c = *v;
    view_collapse(&c);
    assert_int_equal(view_elems(&c), r->n_elems);
    assert_true(c.n_axes <= v->n_axes || r->n_elems == 0);
    bool is_c = true;
    for (uint64_t k = 0; k < r->n_elems; k++) {
        assert_int_equal(place(v, k), r->at[k]);
        assert_int_equal(place(&c, k), r->at[k]);
        min = r->at[k] < min ? r->at[k] : min;
        max = r->at[k] > max ? r->at[k] : max;
        is_c = is_c && r->at[k] == r->at[0] + (int64_t)k;
    }
    assert_int_equal(view_is_c(v), is_c);
    view_bounds(v, &lo, &hi);
    assert_int_equal(lo, r->n_elems ? min : 0);
    assert_int_equal(hi, r->n_elems ? max + 1 : 0);
}

/* A random shape with the product of the old one. */
static size_t reshape_dims(uint64_t product, uint64_t *dim)
{
    size_t n = 0;
    if (product == 0) {
        dim[0] = next_random(3);
        dim[1] = dim[0] ? 0 : next_random(4);
        return 2;
    }
    while (product > 1 && n < 5) {
        uint64_t f = 1 + next_random(product < 12 ? product : 12);
        if (product % f == 0) {
            dim[n++] = f;
            product /= f;
        }
    }
    if (product > 1)
        dim[n++] = product;
    return n;
}

static bool reachable(const struct eager *r, const uint64_t *dim, size_t n);

/* One random edit on both sides; edits the view cannot express leave it unchanged. */
static void edit(struct view *v, struct eager *r)
{
    struct err e;
    struct view before = *v;
    uint64_t dim[VIEW_MAX_AXES];
    struct arg a = {.n = r->n};
    enum status st = ST_OK;
    bool ok;
    memcpy(dim, r->dim, sizeof dim);
    a.d = r->n ? (size_t)next_random(r->n) : 0;
    switch (next_random(10)) {
    case 0:
    case 1:
        for (size_t i = 0; i < r->n; i++)
            a.perm[i] = (uint8_t)i;
        for (size_t i = r->n; i > 1; i--) {
            size_t k = (size_t)next_random(i);
            uint8_t t = a.perm[i - 1];
            a.perm[i - 1] = a.perm[k];
            a.perm[k] = t;
        }
        for (size_t i = 0; i < r->n; i++)
            dim[i] = r->dim[a.perm[i]];
        assert_int_equal(view_permute(v, a.perm, r->n, &e), ST_OK);
        remake(r, dim, r->n, from_permute, &a);
        break;
    case 2:
        if (r->n == 0)
            return;
        a.v = next_random(dim[a.d] + 1);
        uint64_t hi = a.v + next_random(dim[a.d] - a.v + 1);
        if (next_random(4) == 0 || hi == a.v)
            hi = dim[a.d];
        dim[a.d] = hi - a.v;
        st = view_slice(v, a.d, a.v, hi, &e);
        if (st == ST_OK)
            remake(r, dim, r->n, from_slice, &a);
        break;
    case 3:
        if (r->n == 0 || r->n > 12 || dim[a.d] == 0)
            return;
        a.v = 1 + next_random(dim[a.d]);
        if (dim[a.d] % a.v != 0)
            return;
        st = view_split(v, a.d, a.v, &e);
        if (st == ST_OK) {
            memmove(r->dim + a.d + 1, r->dim + a.d, (r->n - a.d) * sizeof *dim);
            r->dim[a.d] /= a.v;
            r->dim[a.d + 1] = a.v;
            r->n++;
        }
        break;
    case 4:
        if (r->n < 2 || a.d + 1 == r->n)
            return;
        assert_int_equal(view_join(v, a.d, &e), ST_OK);
        r->dim[a.d] *= r->dim[a.d + 1];
        memmove(r->dim + a.d + 1, r->dim + a.d + 2, (r->n - a.d - 2) * sizeof *dim);
        r->n--;
        break;
    case 5:
        if (r->n == 0)
            return;
        a.v = dim[a.d];
        assert_int_equal(view_flip(v, a.d, &e), ST_OK);
        remake(r, dim, r->n, from_flip, &a);
        break;
    case 6:
        if (r->n > 12)
            return;
        a.d = (size_t)next_random(r->n + 1);
        assert_int_equal(view_insert(v, a.d, &e), ST_OK);
        memmove(r->dim + a.d + 1, r->dim + a.d, (r->n - a.d) * sizeof *dim);
        r->dim[a.d] = 1;
        r->n++;
        break;
    case 7:
        if (r->n == 0 || dim[a.d] != 1)
            return;
        assert_int_equal(view_drop(v, a.d, &e), ST_OK);
        memmove(r->dim + a.d, r->dim + a.d + 1, (r->n - a.d - 1) * sizeof *dim);
        r->n--;
        break;
    case 8:
        a.v = next_random(5);
        if (r->n == 0 || dim[a.d] != 1 || r->n_elems * (a.v ? a.v : 1) > MAX_ELEMS)
            return;
        dim[a.d] = a.v;
        assert_int_equal(view_expand(v, a.d, a.v, &e), ST_OK);
        remake(r, dim, r->n, from_expand, &a);
        break;
    default: {
        size_t n = reshape_dims(r->n_elems, dim);
        assert_int_equal(view_reshape(v, dim, n, &ok, &e), ST_OK);
        assert_int_equal(ok, reachable(r, dim, n));
        if (!ok) {
            assert_memory_equal(v, &before, sizeof before);
            return;
        }
        memcpy(r->dim, dim, n * sizeof *dim);
        r->n = n;
    }
    }
    assert_true(st == ST_OK || st == ST_CANNOT);
    if (st != ST_OK)
        assert_memory_equal(v, &before, sizeof before);
}

/* Whether a shape can be a view at all, told from the positions alone: each dim must split into
 * factors along which the position moves by a constant step. A prime factorisation, tried from the
 * outside in, finds the finest split there is. */
static bool reachable(const struct eager *r, const uint64_t *dim, size_t n)
{
    uint64_t below = r->n_elems;
    if (r->n_elems == 0)
        return true;
    for (size_t d = 0; d < n; d++) {
        uint64_t left = dim[d];
        while (left > 1) {
            /* the largest block of equal steps at this level that divides what is left */
            uint64_t best = 0;
            for (uint64_t f = left; f > 1 && !best; f--) {
                if (left % f)
                    continue;
                uint64_t inner = below / f;
                int64_t step = r->at[inner] - r->at[0];
                bool good = true;
                for (uint64_t k = 0; k < r->n_elems && good; k++)
                    good = r->at[k] - r->at[k - k / inner % f * inner] ==
                           (int64_t)(k / inner % f) * step;
                if (good)
                    best = f;
            }
            if (!best)
                return false;
            left /= best;
            below /= best;
        }
    }
    return true;
}

static void chains_match_the_reference(void **state)
{
    (void)state;
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    static struct eager r;
    printf("seed %llu (TEST_SEED)\n", (unsigned long long)seed);
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int chain = 0; chain < 4000; chain++) {
        struct view v;
        struct err e;
        int64_t stride[4];
        r.n = (size_t)next_random(5);
        for (size_t d = 0; d < r.n; d++) {
            r.dim[d] = next_random(20) == 0 ? 0 : 1 + next_random(6);
            stride[d] = (int64_t)next_random(41) - 20;
        }
        count(&r);
        if (next_random(2)) {
            assert_int_equal(view_c(&v, r.dim, r.n, &e), ST_OK);
            for (uint64_t k = 0; k < r.n_elems; k++)
                r.at[k] = (int64_t)k;
        } else {
            assert_int_equal(view_strided(&v, r.dim, stride, r.n, 77, &e), ST_OK);
            for (uint64_t k = 0; k < r.n_elems; k++) {
                uint64_t i[VIEW_MAX_AXES];
                c_digits(r.dim, r.n, k, i);
                r.at[k] = 77;
                for (size_t d = 0; d < r.n; d++)
                    r.at[k] += (int64_t)i[d] * stride[d];
            }
        }
        check(&v, &r);
        for (int step = 0; step < 12; step++) {
            edit(&v, &r);
            check(&v, &r);
        }
    }
}

static void overflow_is_refused(void **state)
{
    (void)state;
    struct view v;
    struct err e;
    uint64_t wide[2] = {UINT64_C(1) << 32, UINT64_C(1) << 32};
    uint64_t zero[2] = {0, UINT64_C(1) << 62};
    uint64_t many[VIEW_MAX_AXES + 1] = {0};
    int64_t far[1] = {INT64_MAX};
    uint64_t three[1] = {3};
    assert_int_equal(view_c(&v, wide, 2, &e), ST_INPUT);
    assert_string_equal(e.code, "shape-overflow");
    assert_int_equal(view_c(&v, zero, 2, &e), ST_INPUT);
    assert_int_equal(view_strided(&v, three, far, 1, 0, &e), ST_INPUT);
    assert_int_equal(view_c(&v, many, VIEW_MAX_AXES + 1, &e), ST_LIMIT);
}

static void sameness(void **state)
{
    (void)state;
    struct view a, b;
    struct err e;
    uint64_t dim[2] = {4, 6}, one[1] = {24};
    int64_t stride[2] = {6, 1};
    assert_int_equal(view_c(&a, dim, 2, &e), ST_OK);
    assert_int_equal(view_strided(&b, dim, stride, 2, 0, &e), ST_OK);
    assert_true(view_same(&a, &b));
    stride[0] = 7;
    assert_int_equal(view_strided(&b, dim, stride, 2, 0, &e), ST_OK);
    assert_false(view_same(&a, &b));
    assert_int_equal(view_c(&b, one, 1, &e), ST_OK);
    assert_false(view_same(&a, &b)); /* another shape */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chains_match_the_reference),
                                       cmocka_unit_test(overflow_is_refused),
                                       cmocka_unit_test(sameness)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
