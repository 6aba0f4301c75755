/* See cast_cost.h. A second plan is the first with the last cast of each recipe left out; the two
 * are run side by side.
 */
#include "convert/cast_cost.h"
#include "convert/op.h"

/* The type before the last op, where that is a cast in every part; DT_NONE where it is in none.
 * *whole: it can be left out everywhere. */
static enum dtype before_cast(const struct plan *p, size_t t, bool *whole)
{
    const struct recipe *r = &p->recipe[t];
    enum dtype from = DT_NONE;
    *whole = !dtype_is_block(p->dst.tensor[t].dtype);
    for (size_t i = 0; i < r->n_parts; i++) {
        const struct part *q = &r->part[i];
        if (q->src < 0 || !q->n_ops || q->op[q->n_ops - 1].kind != OP_CAST) {
            *whole = false;
            continue;
        }
        enum dtype now = op_chain_type(q->op, q->n_ops - 1, p->src->tensor[q->src].dtype);
        *whole = *whole && (from == DT_NONE || from == now);
        from = now;
    }
    return from;
}

static enum status without(const struct plan *p, const enum dtype *from, const int64_t *b_of,
                           struct plan *out, struct err *e)
{
    struct arena *a = &out->dst.arena;
    size_t n = p->dst.n_tensors;
    out->recipe = ARENA_ARRAY(a, struct recipe, n + 1);
    if (!out->recipe)
        return err_nomem(e, n * sizeof *out->recipe);
    for (size_t t = 0; t < n; t++) {
        struct tensor *d;
        const struct recipe *r = &p->recipe[t];
        TRY(model_tensor_add(&out->dst, &d, e));
        *d = p->dst.tensor[t];
        out->recipe[t] = *r;
        if (b_of[t] < 0)
            continue;
        d->dtype = from[t];
        struct part *part = ARENA_ARRAY(a, struct part, r->n_parts);
        if (!part)
            return err_nomem(e, r->n_parts * sizeof *part);
        for (size_t i = 0; i < r->n_parts; i++) {
            part[i] = r->part[i];
            part[i].n_ops--;
        }
        out->recipe[t].part = part;
    }
    return ST_OK;
}

enum status cast_cost(const struct plan *p, const struct run_opt *o, struct arena *a,
                      struct cast_cost **cost, size_t *n_out, struct err *e)
{
    size_t n = p->dst.n_tensors, k = 0;
    struct cast_cost *c = *cost = ARENA_ARRAY(a, struct cast_cost, n + 1);
    enum dtype *from = ARENA_ARRAY(a, enum dtype, n + 1);
    int64_t *b_of = ARENA_ARRAY(a, int64_t, n + 1);
    struct run_diff *diff = ARENA_ARRAY(a, struct run_diff, n + 1);
    *n_out = 0;
    if (!c || !from || !b_of || !diff)
        return err_nomem(e, n * sizeof *diff);
    for (size_t t = 0; t < n; t++) {
        bool whole;
        from[t] = before_cast(p, t, &whole);
        b_of[t] = from[t] != DT_NONE && whole ? (int64_t)t : -1;
        if (from[t] != DT_NONE)
            c[k++] = (struct cast_cost){.tensor = (uint32_t)t,
                                        .from = from[t],
                                        .to = p->dst.tensor[t].dtype,
                                        .measured = b_of[t] >= 0};
    }
    struct plan exact;
    plan_init(&exact, p->src);
    enum status st = without(p, from, b_of, &exact, e);
    if (st == ST_OK)
        st = run_compare(p, &exact, b_of, 0, 0, o, diff, e);
    plan_free(&exact);
    for (size_t i = 0; i < k; i++)
        if (c[i].measured)
            c[i].diff = diff[c[i].tensor];
    *n_out = k;
    return st;
}
