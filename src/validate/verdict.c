/* Verdicts: names, tolerances, and what the layers' answers add up to. Coverage counts elements:
 * a tensor is proven at the lowest rung that any layer using it reached.
 */
#include "validate/verdict.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

const char *verdict_name(enum verdict v)
{
    static const char *const name[] = {"equal", "differs", "unproven"};
    return name[v];
}

const char *rung_name(enum rung r)
{
    static const char *const name[RUNG_N] = {"none", "transport", "meaning"};
    return name[r];
}

void tolerance_for(enum dtype a, enum dtype b, bool values_only, double *rtol, double *atol)
{
    const struct dtype_info *x = dtype_info(a), *y = dtype_info(b);
    bool floats = x->kind == DK_FLOAT && y->kind == DK_FLOAT;
    *rtol = a == DT_F64 && b == DT_F64 ? 1e-10 : 1e-5;
    *atol = a == DT_F64 && b == DT_F64 ? 1e-12 : 1e-6;
    if (a == b) {
        if (values_only)
            *rtol = *atol = 0;
        return;
    }
    if (!floats) /* integers against floats: what can be equal must be */
        return;
    if (x->bits <= 8 || y->bits <= 8) {
        *rtol = 1.5e-1;
        *atol = 1e-1;
    } else if (a == DT_BF16 || b == DT_BF16) {
        *rtol = 2e-2;
        *atol = 1e-2;
    } else if (a == DT_F16 || b == DT_F16) {
        *rtol = 1e-2;
        *atol = 1e-3;
    }
}

bool layer_dtypes(const struct side *a, const struct side *b, struct layer_types *out)
{
    out->has_f64 = out->has_odd = false;
    out->rtol = out->atol = 0;
    for (int i = 0; i < LEAF_N; i++) {
        const struct operand *oa = &a->op[i], *ob = &b->op[i];
        enum dtype x = oa->tensor >= 0 ? a->plan->dst.tensor[oa->tensor].dtype : DT_NONE;
        enum dtype y = ob->tensor >= 0 ? b->plan->dst.tensor[ob->tensor].dtype : DT_NONE;
        double rtol, atol;
        if (x == DT_NONE && y == DT_NONE)
            continue;
        x = x == DT_NONE ? y : x; /* absent is exact */
        y = y == DT_NONE ? x : y;
        const enum dtype both[] = {x, y};
        for (int k = 0; k < 2; k++) {
            const struct dtype_info *t = dtype_info(both[k]);
            out->has_odd |= t->kind == DK_COMPLEX || t->kind == DK_BLOCK;
            /* wider than a float's 24 bits */
            out->has_f64 |=
                both[k] == DT_F64 || ((t->kind == DK_INT || t->kind == DK_UINT) && t->bits > 16);
        }
        tolerance_for(x, y, false, &rtol, &atol);
        out->rtol = fmax(out->rtol, rtol);
        out->atol = fmax(out->atol, atol);
    }
    return !out->has_odd;
}

/* ---- coverage ---- */

static uint64_t alias_root(const struct model *m, uint64_t t)
{
    return m->tensor[t].alias_of >= 0 ? (uint64_t)m->tensor[t].alias_of : t;
}

enum status coverage_begin(struct coverage *c, const struct plan *a, struct err *e)
{
    c->plan = a;
    c->rung = mem_alloc(a->dst.n_tensors ? a->dst.n_tensors : 1);
    if (!c->rung)
        return err_nomem(e, a->dst.n_tensors);
    for (size_t i = 0; i < a->dst.n_tensors; i++) {
        enum role r = a->dst.tensor[i].role;
        bool counts = r == ROLE_PARAMETER || r == ROLE_BUFFER || r == ROLE_STATISTIC;
        c->rung[i] = counts ? COVERAGE_UNSEEN : COVERAGE_APART;
    }
    return ST_OK;
}

void coverage_apart(struct coverage *c, int64_t tensor)
{
    if (tensor >= 0)
        c->rung[tensor] = COVERAGE_APART;
}

void coverage_add(struct coverage *c, int64_t tensor, enum rung rung)
{
    if (tensor < 0 || c->rung[tensor] == COVERAGE_APART)
        return;
    uint64_t t = alias_root(&c->plan->dst, (uint64_t)tensor);
    uint8_t *at = &c->rung[t];
    if (*at == COVERAGE_APART)
        at = &c->rung[tensor];
    if (*at == COVERAGE_UNSEEN || *at > (uint8_t)rung)
        *at = (uint8_t)rung;
}

void coverage_end(struct coverage *c, struct validate_report *r)
{
    for (size_t i = 0; i < c->plan->dst.n_tensors; i++) {
        const struct tensor *t = &c->plan->dst.tensor[i];
        if (c->rung[i] == COVERAGE_APART || t->alias_of >= 0)
            continue;
        uint64_t n = tensor_elems(t);
        r->params_total += n;
        r->params_at[c->rung[i] == COVERAGE_UNSEEN ? RUNG_NONE : c->rung[i]] += n;
    }
    mem_free(c->rung);
    c->rung = NULL;
}

void verdict_overall(struct validate_report *r, const struct validate_opt *o)
{
    r->n_equal = r->n_differs = r->n_unproven = 0;
    for (size_t i = 0; i < r->n; i++) {
        r->n_equal += r->layer[i].verdict == VERDICT_EQUAL;
        r->n_differs += r->layer[i].verdict == VERDICT_DIFFERS;
        r->n_unproven += r->layer[i].verdict == VERDICT_UNPROVEN;
    }
    uint64_t proven = r->params_at[RUNG_MEANING];
    if (o->level == VALIDATE_TENSOR)
        proven += r->params_at[RUNG_TRANSPORT];
    r->coverage = r->params_total > 0 ? (double)proven / (double)r->params_total : 0;
    r->min_coverage = isnan(o->min_coverage) ? 1 : o->min_coverage;
    bool enough = r->min_coverage >= 1 ? proven == r->params_total : r->coverage >= r->min_coverage;
    r->overall = r->n_differs > 0                                          ? VERDICT_DIFFERS
                 : enough && (r->params_total > 0 || r->min_coverage == 0) ? VERDICT_EQUAL
                                                                           : VERDICT_UNPROVEN;
}
