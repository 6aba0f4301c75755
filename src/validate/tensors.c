/* Level tensor: tensors of the same name against each other. Equal types must hold equal values; a
 * cast one may differ by its rounding.
 */
#include "base/mem.h"
#include "validate/verdict.h"

#include <math.h>
#include <string.h>

static bool counted(const struct tensor *t)
{
    return t->role == ROLE_PARAMETER || t->role == ROLE_BUFFER || t->role == ROLE_STATISTIC;
}

static bool same_shape(const struct tensor *x, const struct tensor *y)
{
    return x->n_dims == y->n_dims && memcmp(x->dim, y->dim, x->n_dims * sizeof x->dim[0]) == 0;
}

/* A row whose numbers are not known yet. */
static enum status add_row(struct validate_report *out, struct str path_a, struct str path_b,
                           uint64_t n, const char *why, struct err *e)
{
    struct validate_layer *l = &out->layer[out->n++];
    l->path_a = path_a;
    l->path_b = path_b;
    l->n_params = n;
    l->verdict = VERDICT_UNPROVEN;
    if (why)
        l->why = arena_fmt(&out->arena, "%s", why);
    return why && !l->why.p ? err_nomem(e, 64) : ST_OK;
}

static void take(struct validate_layer *l, const struct run_diff *d, uint64_t n)
{
    bool equal = d->n_fail == 0 && d->n_nonfinite == 0;
    l->verdict = equal ? VERDICT_EQUAL : VERDICT_DIFFERS;
    l->rung = equal ? RUNG_TRANSPORT : RUNG_NONE;
    l->bit_equal = d->bit_equal;
    l->stage = STR("values");
    l->m = (struct metrics){.max_abs = d->max_abs,
                            .mse = d->mse,
                            .cosine = d->cosine,
                            .max_rel = d->max_rel,
                            .max_ref = d->max_ref,
                            .n = n,
                            .n_fail = d->n_fail,
                            .first = d->first,
                            .n_nonfinite = d->n_nonfinite,
                            .n_finite = n - d->n_nonfinite};
    if (!equal)
        l->why = STR("the values differ");
}

/* Every pair with these tolerances in one run; rows of other tolerances wait for theirs. */
static enum status run_class(const struct plan *a, const struct plan *b, const int64_t *partner,
                             const int64_t *row, const double *rtol, const double *atol, double r,
                             double t, int64_t *b_of, struct run_diff *diff,
                             const struct validate_opt *o, struct validate_report *out,
                             struct err *e)
{
    for (size_t i = 0; i < a->dst.n_tensors; i++)
        b_of[i] = partner[i] >= 0 && rtol[i] == r && atol[i] == t ? partner[i] : -1;
    TRY(run_compare(a, b, b_of, r, t, &o->run, diff, e));
    for (size_t i = 0; i < a->dst.n_tensors; i++)
        if (b_of[i] >= 0)
            take(&out->layer[row[i]], &diff[i], tensor_elems(&a->dst.tensor[i]));
    return ST_OK;
}

static enum status compare_pairs(const struct plan *a, const struct plan *b, int64_t *partner,
                                 int64_t *row, double *rtol, double *atol,
                                 const struct validate_opt *o, struct validate_report *out,
                                 struct err *e)
{
    size_t n = a->dst.n_tensors;
    int64_t *b_of = mem_alloc(n * sizeof *b_of + 1);
    struct run_diff *diff = mem_zalloc(n + 1, sizeof *diff);
    enum status st = b_of && diff ? ST_OK : err_nomem(e, n * sizeof *diff);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        bool first = partner[i] >= 0;
        for (size_t k = 0; k < i && first; k++)
            first = partner[k] < 0 || rtol[k] != rtol[i] || atol[k] != atol[i];
        if (first)
            st = run_class(a, b, partner, row, rtol, atol, rtol[i], atol[i], b_of, diff, o, out, e);
    }
    mem_free(b_of);
    mem_free(diff);
    return st;
}

static enum status pair_up(const struct plan *a, const struct plan *b, int64_t *partner,
                           int64_t *row, double *rtol, double *atol, bool *met,
                           const struct validate_opt *o, struct validate_report *out, struct err *e)
{
    for (size_t i = 0; i < a->dst.n_tensors; i++) {
        const struct tensor *x = &a->dst.tensor[i];
        int64_t k = counted(x) ? model_find(&b->dst, x->name) : -1;
        partner[i] = -1;
        row[i] = (int64_t)out->n;
        if (!counted(x))
            continue;
        if (k < 0) {
            TRY(add_row(out, x->name, STR_NONE, tensor_elems(x), "no tensor of that name", e));
            continue;
        }
        const struct tensor *y = &b->dst.tensor[k];
        met[k] = true;
        TRY(add_row(out, x->name, y->name, tensor_elems(x), NULL, e));
        if (!same_shape(x, y)) {
            out->layer[row[i]].verdict = VERDICT_DIFFERS;
            out->layer[row[i]].why = STR("the shapes differ");
            continue;
        }
        partner[i] = k;
        tolerance_for(x->dtype, y->dtype, true, &rtol[i], &atol[i]);
        if (!isnan(o->rtol))
            rtol[i] = o->rtol;
        if (!isnan(o->atol))
            atol[i] = o->atol;
    }
    for (size_t k = 0; k < b->dst.n_tensors; k++) {
        const struct tensor *y = &b->dst.tensor[k];
        if (!counted(y) || met[k])
            continue;
        TRY(add_row(out, STR_NONE, y->name, tensor_elems(y), "no tensor of that name", e));
        if (y->alias_of < 0) {
            out->params_total += tensor_elems(y);
            out->params_at[RUNG_NONE] += tensor_elems(y);
        }
    }
    return ST_OK;
}

enum status validate_tensors(const struct plan *a, const struct plan *b,
                             const struct validate_opt *o, struct validate_report *out,
                             struct err *e)
{
    size_t n = a->dst.n_tensors, rows = n + b->dst.n_tensors;
    struct arena scratch = ARENA_INIT;
    struct coverage cover;
    int64_t *partner = ARENA_ARRAY(&scratch, int64_t, n + 1);
    int64_t *row = ARENA_ARRAY(&scratch, int64_t, n + 1);
    double *rtol = ARENA_ARRAY(&scratch, double, n + 1);
    double *atol = ARENA_ARRAY(&scratch, double, n + 1);
    bool *met = ARENA_ARRAY(&scratch, bool, b->dst.n_tensors + 1);
    out->layer = ARENA_ARRAY(&out->arena, struct validate_layer, rows + 1);
    enum status st = partner && row && rtol && atol && met && out->layer
                         ? pair_up(a, b, partner, row, rtol, atol, met, o, out, e)
                         : err_nomem(e, rows * sizeof *out->layer);
    if (st == ST_OK)
        st = compare_pairs(a, b, partner, row, rtol, atol, o, out, e);
    if (st == ST_OK)
        st = coverage_begin(&cover, a, e);
    if (st == ST_OK) {
        for (size_t i = 0; i < n; i++)
            if (counted(&a->dst.tensor[i]))
                coverage_add(&cover, (int64_t)i, out->layer[row[i]].rung);
        coverage_end(&cover, out);
        verdict_overall(out, o);
    }
    arena_free(&scratch);
    return st;
}
