/* Train state: moments and averaged copies ride the recipe of the parameter they belong to; all
 * else that no layer took (counters, generator states, foreign parts) keeps its name and axes.
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <string.h>

static bool rides(const struct tensor *t)
{
    return (t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2 || t->role == ROLE_EMA) &&
           t->of >= 0;
}

/* The moment of parameter p that belongs with moment t of parameter q: same role, and the same name
 * but for the parameter's own. -1 = none. */
static int64_t fellow(const struct mapping *m, const struct tensor *t, uint32_t q, uint32_t p)
{
    if (p == q)
        return t - m->src->tensor;
    struct str qn = m->src->tensor[q].name, pn = m->src->tensor[p].name;
    int64_t found = -1;
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *u = &m->src->tensor[i];
        if (!m->in[i] || u->of != (int64_t)p || u->role != t->role)
            continue;
        bool alike =
            str_ends(t->name, qn) && str_ends(u->name, pn) &&
            str_eq(str_sub(t->name, 0, t->name.n - qn.n), str_sub(u->name, 0, u->name.n - pn.n));
        struct str a, b, la, lb;
        name_tail(t->name, &a, &la);
        name_tail(u->name, &b, &lb);
        if (alike || str_eq(la, lb))
            found = found < 0 ? (int64_t)i : -2;
    }
    return found < 0 ? -1 : found;
}

/* A name for the moment of a target parameter: where the moment's name ends in the parameter's, so
 * does the new one; else its own, with the part's name when the parameter was split. */
static struct str name_for(struct mapping *m, const struct tensor *t, const struct made *d,
                           bool is_split)
{
    struct str p = m->src->tensor[t->of].name;
    if (str_ends(t->name, p) && t->name.n > p.n)
        return arena_fmt(m->a, "%.*s%.*s", STR_ARG(str_sub(t->name, 0, t->name.n - p.n)),
                         STR_ARG(d->name));
    if (!is_split)
        return t->name;
    struct str parent, leaf, up;
    name_tail(d->name, &parent, &leaf);
    name_tail(parent, &up, &leaf);
    return arena_fmt(m->a, "%.*s.%.*s", STR_ARG(t->name), STR_ARG(leaf));
}

static bool reads(const struct take *k, uint32_t src)
{
    return k->src == src && (!k->zero || k->twin);
}

/* What a take's values become for a moment; the operand of a sum is the moment of that one. */
static enum status summand(struct mapping *m, const struct tensor *t, const struct made *of,
                           struct take *k, bool *done, struct err *e)
{
    const struct take *plus = k->plus;
    take_ride(k, t->role);
    if (!plus)
        return ST_OK;
    int64_t u = fellow(m, t, (uint32_t)t->of, plus->src);
    if (u < 0)
        return err_set(e, ST_CANNOT, "moment-parts",
                       "%.*s adds parameters whose moments do not pair up", STR_ARG(of->name));
    done[u] = true;
    if (!k->plus)
        return map_left(m, (uint32_t)u, "the moment of a summed bias is that of either", true, e);
    struct take *own = ARENA_NEW(m->tmp, struct take);
    if (!own)
        return err_nomem(e, sizeof *own);
    *own = *plus;
    own->src = (uint32_t)u;
    k->plus = own;
    return ST_OK;
}

static enum status ride(struct mapping *m, size_t index, size_t n_params, bool *done, struct err *e)
{
    const struct tensor *t = &m->src->tensor[index];
    const struct tensor *p = &m->src->tensor[t->of];
    if (t->n_dims != p->n_dims || memcmp(t->dim, p->dim, t->n_dims * sizeof *t->dim) != 0)
        return ST_OK; /* factored moments and the like keep their own shape */
    size_t users = 0;
    for (size_t i = 0; i < n_params; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++) {
            const struct take *y = &m->made[i].take[k];
            users += reads(y, (uint32_t)t->of);
            if (y->plus && y->plus->src == (uint32_t)t->of)
                done[index] = true; /* goes with the one it is added to */
        }
    for (size_t i = 0; i < n_params; i++) {
        size_t at = 0, n = m->made[i].n_takes;
        while (at < n && !reads(&m->made[i].take[at], (uint32_t)t->of))
            at++;
        if (at == n)
            continue;
        struct made *d;
        TRY(map_made(m, n, &d, e));
        const struct made *of = &m->made[i];
        for (size_t k = 0; k < n; k++) {
            bool blank = of->take[k].n_fill_dims && !of->take[k].twin;
            int64_t u = blank ? (int64_t)index : fellow(m, t, (uint32_t)t->of, of->take[k].src);
            if (u < 0)
                return err_set(e, ST_CANNOT, "moment-parts",
                               "%.*s joins parameters whose moments do not pair up",
                               STR_ARG(of->name));
            d->take[k] = of->take[k];
            d->take[k].src = (uint32_t)u;
            TRY(summand(m, t, of, &d->take[k], done, e));
            if (u != (int64_t)index)
                done[u] = true;
        }
        d->name = name_for(m, t, of, users > 1);
        d->of = (int64_t)i;
        d->why = arena_fmt(m->tmp, "as its parameter %.*s", STR_ARG(of->name));
        if (!d->name.p || !d->why.p)
            return err_nomem(e, t->name.n);
        done[index] = true;
    }
    return ST_OK;
}

enum status map_train(struct mapping *m, struct err *e)
{
    size_t n = m->src->n_tensors, n_params = m->n_made;
    bool *done = ARENA_ARRAY(m->tmp, bool, n + 1);
    bool *taken = ARENA_ARRAY(m->tmp, bool, n + 1);
    if (!done || !taken)
        return err_nomem(e, n);
    for (size_t i = 0; i < m->n_made; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++)
            taken[m->made[i].take[k].src] = true;
    for (size_t i = 0; i < m->sl.n; i++) /* dropped on purpose: the ledger says so */
        for (int k = 0; k < LEAF_N; k++)
            if (m->sl.layer[i].tensor[k] >= 0)
                taken[m->sl.layer[i].tensor[k]] = true;
    for (size_t i = 0; i < n; i++) {
        if (!m->in[i] || taken[i] || done[i])
            continue;
        const struct tensor *t = &m->src->tensor[i];
        if (rides(t))
            TRY(ride(m, i, n_params, done, e));
        if (done[i])
            continue;
        struct made *d;
        TRY(map_made(m, 1, &d, e));
        d->take->src = (uint32_t)i;
        d->name = t->name;
        d->why = arena_fmt(m->tmp, "%s, kept as it is", role_name(t->role));
        if (!d->why.p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}
