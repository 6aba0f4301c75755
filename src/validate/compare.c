/* Comparing two stages: the reductions run on the executor in stripes, the stripes are merged here
 * in double.
 */
#include "base/mem.h"
#include "validate/evaluate.h"

#include <math.h>
#include <string.h>

enum { STRIPES = 128, PIECE = 1 << 20 /* values per call */ };

void comparison_begin(struct comparison *c)
{
    memset(c, 0, sizeof *c);
}

static double get(bool fp64, const void *p, uint64_t i)
{
    return fp64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void put(bool fp64, void *p, uint64_t i, double v)
{
    if (fp64)
        ((double *)p)[i] = v;
    else
        ((float *)p)[i] = (float)v;
}

/* Counts come back as numbers: only whole ones up to n are believed. */
static bool count_of(double v, uint64_t n, uint64_t *out)
{
    if (!(v >= 0 && v <= (double)n) || v != floor(v))
        return false;
    *out = (uint64_t)v;
    return true;
}

static enum status merge(struct comparison *c, bool fp64, const void *stripes, uint64_t n_stripes,
                         uint64_t n, uint64_t base, struct err *e)
{
    for (uint64_t s = 0; s < n_stripes; s++) {
        double v[NNF_COMPARE_WIDTH];
        uint64_t fails, odd, finite, first = 0;
        for (uint64_t k = 0; k < NNF_COMPARE_WIDTH; k++)
            v[k] = get(fp64, stripes, s * NNF_COMPARE_WIDTH + k);
        if (!count_of(v[NNF_C_FAILS], n, &fails) || !count_of(v[NNF_C_NONFINITE], n, &odd) ||
            !count_of(v[NNF_C_FINITE], n, &finite) ||
            (fails > 0 && (!count_of(v[NNF_C_FIRST], n, &first) || first >= n)))
            return err_set(e, ST_DEVICE, "device-lied", "counts of a comparison cannot be");
        if (fails > 0 && (c->m.n_fail == 0 || base + first < c->m.first))
            c->m.first = base + first;
        c->m.n_fail += fails;
        c->m.n_nonfinite += odd;
        c->m.n_finite += finite;
        c->m.max_abs = fmax(c->m.max_abs, v[NNF_C_MAX_ABS]);
        c->m.max_rel = fmax(c->m.max_rel, v[NNF_C_MAX_REL]);
        c->squares += v[NNF_C_SQUARES];
        c->dot += v[NNF_C_DOT];
        c->aa += v[NNF_C_AA];
        c->bb += v[NNF_C_BB];
    }
    return ST_OK;
}

static enum status largest(struct executor *x, const void *b, uint64_t n, double *top,
                           struct err *e)
{
    double stripe[STRIPES];
    struct exec_call c = {.kernel = NNF_MAX_ABS, .in = b, .n_in = n, .out = stripe};
    c.n_out = n < STRIPES ? n : STRIPES;
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    c.p[NNF_P_COUNT] = (int64_t)n;
    memset(stripe, 0, sizeof stripe);
    TRY(x->run(x, &c, e));
    for (uint64_t i = 0; i < c.n_out; i++) {
        double v = get(x->fp64, stripe, i);
        if (v > *top)
            *top = v;
    }
    return ST_OK;
}

enum status comparison_add(struct comparison *c, struct executor *x, const void *a, const void *b,
                           uint64_t n, double rtol, double atol, uint64_t index_base, struct err *e)
{
    size_t real = exec_real_bytes(x);
    double top = 0;
    for (uint64_t at = 0; at < n; at += PIECE)
        TRY(largest(x, (const char *)b + at * real, n - at < PIECE ? n - at : PIECE, &top, e));
    c->m.max_ref = fmax(c->m.max_ref, top);
    uint64_t room = n < PIECE ? n : PIECE;
    char *in = mem_alloc((2 * room + 2) * real);
    if (!in)
        return err_nomem(e, (2 * room + 2) * real);
    enum status st = ST_OK;
    for (uint64_t at = 0; at < n && st == ST_OK; at += PIECE) {
        double stripe[STRIPES * NNF_COMPARE_WIDTH];
        uint64_t m = n - at < PIECE ? n - at : PIECE;
        uint64_t items = m < STRIPES ? m : STRIPES;
        struct exec_call call = {.kernel = NNF_COMPARE, .in = in, .n_in = 2 * m + 2, .out = stripe};
        memset(stripe, 0, sizeof stripe);
        memcpy(in, (const char *)a + at * real, m * real);
        memcpy(in + m * real, (const char *)b + at * real, m * real);
        put(x->fp64, in, 2 * m, rtol);
        put(x->fp64, in, 2 * m + 1, atol * top);
        call.n_out = items * NNF_COMPARE_WIDTH;
        call.p[NNF_P_ITEMS] = (int64_t)items;
        call.p[NNF_P_WIDTH] = NNF_COMPARE_WIDTH;
        call.p[NNF_P_W] = (int64_t)m;
        call.p[NNF_P_COUNT] = (int64_t)m;
        call.p[NNF_P_TOL] = (int64_t)(2 * m);
        st = x->run(x, &call, e);
        if (st == ST_OK)
            st = merge(c, x->fp64, stripe, items, m, index_base + at, e);
    }
    mem_free(in);
    c->m.n += n;
    return st;
}

void comparison_end(struct comparison *c)
{
    c->m.mse = c->m.n_finite > 0 ? c->squares / (double)c->m.n_finite : 0;
    if (c->aa > 0 && c->bb > 0)
        c->m.cosine = c->dot / (sqrt(c->aa) * sqrt(c->bb));
    else
        c->m.cosine = c->aa == 0 && c->bb == 0 ? 1 : 0;
}
