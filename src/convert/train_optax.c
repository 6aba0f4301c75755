/* optax's spelling: a chain of states, each a tuple of trees like the parameters'; and Keras's,
 * which is a list of variables, as the skeleton has them. Names are the skeleton's where there is
 * one; else those of the usual chain inside a flax TrainState. A skeleton that keeps no state for a
 * parameter (masked, partitioned) gets none.
 */
#include "convert/number.h"
#include "convert/train.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

/* ---- as a skeleton has it ---- */

static enum status slots_like(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    const struct model *like = m->o->like;
    for (size_t i = 0; i < x->n_params; i++) {
        int64_t p = train_place(x, i);
        for (int s = 0; p >= 0 && s < SLOT_N; s++) {
            int64_t t = x->k.param[p].slot[s];
            if (t < 0)
                continue;
            TRY(train_slot(x, i, (enum slot)s, like->tensor[t].name, e));
            x->filled[t] = true;
            if (x->k.twin[t] < 0)
                continue;
            TRY(train_slot(x, i, (enum slot)s, like->tensor[x->k.twin[t]].name, e));
            x->filled[x->k.twin[t]] = true;
        }
    }
    return ST_OK;
}

static enum status fill_number(struct train *x, int64_t t, struct optim_number n, struct err *e)
{
    const struct model *like = x->m->o->like;
    if (t < 0 || x->filled[t])
        return ST_OK;
    for (int64_t to = t; to >= 0; to = to == t ? x->k.twin[t] : -1) {
        x->filled[to] = true;
        TRY(train_number(x, n, like->tensor[to].name, like->tensor[to].dtype,
                         !optim_counts(x->s.kind), e));
    }
    return ST_OK;
}

/* Numbers without axes that nothing in the source tells: settings, counts of wrappers. */
static enum status own_values(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    const struct model *like = m->o->like;
    for (size_t t = 0; t < like->n_tensors; t++) {
        const struct tensor *k = &like->tensor[t];
        struct made *d;
        if (!x->k.mine[t] || x->filled[t] || !optim_is_state(k))
            continue;
        TRY(map_made(m, 0, &d, e));
        d->name = k->name;
        d->role = k->role;
        d->dtype = k->dtype;
        d->n_dims = k->n_dims;
        d->dim = k->dim;
        d->why = STR("zeros: the source has nothing for it");
        bool power;
        TRY(train_power(x, k, d, &power, e));
        if (power) {
            d->harmless = true;
            d->why = STR("beta, multiplied with itself once for each update, in float32");
        } else if (x->has_rate && x->k.rate.tensor >= 0 &&
                   (x->k.rate.tensor == (int64_t)t || x->k.twin[x->k.rate.tensor] == (int64_t)t)) {
            uint8_t wide[16] = {0};
            memcpy(wide, &x->rate, sizeof x->rate);
            if (num_cast(DT_F64, wide, k->dtype, d->fill, 1) == 0)
                return err_set(e, ST_CANNOT, "train-rate", "the learning rate does not fit");
            d->why = STR("the learning rate");
            d->harmless = true;
        } else if (tensor_elems(k) == 1) {
            TRY(train_element(like, k, d->fill, e));
            d->why = STR("the skeleton's own value");
            d->harmless = true;
        }
        x->filled[t] = true;
    }
    return ST_OK;
}

struct in_like {
    uint64_t order;
    struct made made;
};
static int by_order(const void *a, const void *b)
{
    const struct in_like *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* What was made for the state from `first` on, in the skeleton's order: Keras 2 reads it so. */
static enum status in_order(struct mapping *m, size_t first, struct err *e)
{
    size_t n = m->n_made - first;
    struct in_like *list = ARENA_ARRAY(m->tmp, struct in_like, n + 1);
    if (!list)
        return err_nomem(e, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        int64_t at = model_find(m->o->like, m->made[first + i].name);
        list[i] = (struct in_like){at < 0 ? UINT64_MAX : m->o->like->tensor[at].order,
                                   m->made[first + i]};
    }
    if (n)
        qsort(list, n, sizeof *list, by_order);
    for (size_t i = 0; i < n; i++)
        m->made[first + i] = list[i].made;
    return ST_OK;
}

static enum status as_like(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    size_t first = m->n_made;
    if (x->k.style != x->to)
        return ST_OK; /* no optimizer: all of the state is left over */
    if (x->k.unclear)
        return err_set(e, ST_CANNOT, "train-like", "the skeleton's optimizer: %s", x->k.unclear);
    TRY(train_alike(x, e));
    if (((x->k.slots & ~x->s.slots) || (x->k.nadam != x->s.nadam && x->k.style != STYLE_OPTAX)) &&
        x->s.slots && x->k.slots)
        return err_set(e, ST_CANNOT, "train-like",
                       "the skeleton's optimizer (%s) is not the "
                       "source's (%s)",
                       optim_name(x->k.kind), optim_name(x->s.kind));
    TRY(slots_like(x, e));
    for (size_t p = 0; p < x->k.n; p++)
        TRY(fill_number(x, x->k.param[p].n.tensor, x->step, e));
    for (size_t i = 0; i < x->k.n_schedules; i++)
        TRY(fill_number(x, x->k.schedule[i].tensor, x->s.n_schedules ? x->s.schedule[0] : x->step,
                        e));
    x->scheduled = x->k.n_schedules > 0 && x->s.n_schedules > 0;
    struct optim_number all = x->s.step.node || x->s.step.tensor >= 0 ? x->s.step : x->step;
    if (x->k.step.node && (all.node || all.tensor >= 0)) {
        int64_t v;
        TRY(train_value(m->src, all, &v, e));
        train_replace(x, x->k.step.node, v);
        if (all.tensor >= 0)
            x->carried[all.tensor] = true;
    } else if (x->k.step.tensor >= 0 && !x->filled[x->k.step.tensor]) {
        int64_t t = x->k.step.tensor;
        TRY(train_number(x, all, m->o->like->tensor[t].name, m->o->like->tensor[t].dtype, false,
                         e));
        x->filled[t] = true;
    }
    TRY(train_scale(x, e));
    if (x->k.product.tensor >= 0 && x->s.slots) {
        const struct tensor *t = &m->o->like->tensor[x->k.product.tensor];
        TRY(train_product(x, SIZE_MAX, t->name, x->k.product.tensor, e));
        if (x->k.twin[x->k.product.tensor] >= 0)
            TRY(train_product(x, SIZE_MAX, m->o->like->tensor[x->k.twin[x->k.product.tensor]].name,
                              x->k.twin[x->k.product.tensor], e));
    }
    TRY(own_values(x, e));
    return in_order(m, first, e);
}

/* ---- the usual chain ---- */

/* The parameter's name below its collection: opt_state holds trees of params alone. Equinox has no
 * collections. */
static bool below_params(const struct train *x, struct str name, struct str *rest)
{
    struct str seg;
    *rest = name;
    if (x->by_leaves)
        return true;
    return name_head(rest, &seg) && str_is(seg, "params") && rest->n;
}

/* Does the source keep anything for it? */
static bool has_state(const struct train *x, size_t i)
{
    for (int s = 0; x->entry[i] >= 0 && s < SLOT_N; s++)
        if (x->s.param[x->entry[i]].slot[s] >= 0)
            return true;
    return false;
}

/* Equinox: do the leaves hold moments of as many as the source has state for, and not of all? Then
 * the rest is filtered out there too. */
static bool filtered(const struct train *x)
{
    size_t n = 0, n_state = 0, n_all = 0;
    for (size_t i = 0; x->m->leaves && i < x->m->leaves->n_tensors; i++)
        n += x->m->leaves->tensor[i].role == ROLE_MOMENT1;
    for (size_t i = 0; i < x->n_params; i++) {
        n_all += x->m->made[i].role == ROLE_PARAMETER;
        n_state += x->m->made[i].role == ROLE_PARAMETER && has_state(x, i);
    }
    return x->by_leaves && n == n_state && n < n_all;
}

static enum status field(struct train *x, size_t state, struct str word, struct err *e)
{
    struct mapping *m = x->m;
    enum slot slot = SLOT_N;
    if (str_is(word, "count")) {
        struct str name = arena_fmt(m->a, "%.*s.%zu.count", STR_ARG(x->root), state);
        return name.p ? train_number(x, x->step, name, DT_I32, !optim_counts(x->s.kind), e)
                      : err_nomem(e, 64);
    }
    for (int s = 0; s < SLOT_N; s++) {
        const char *leaf = slot_spelled(STYLE_OPTAX, x->s.kind, (enum slot)s);
        if (leaf && str_is(word, leaf) && (x->chain->slots & SLOT_BIT(s)))
            slot = (enum slot)s;
    }
    if (slot == SLOT_N)
        return err_set(e, ST_BUG, "chain-field", "no slot is called %.*s", STR_ARG(word));
    bool few = filtered(x);
    for (size_t i = 0; i < x->n_params; i++) {
        struct str rest;
        if ((few && !has_state(x, i)) || m->made[i].role != ROLE_PARAMETER ||
            !below_params(x, m->made[i].name, &rest))
            continue;
        const struct tensor *t = m->made[i].n_takes ? &m->src->tensor[m->made[i].take->src] : NULL;
        if (!t || t->role != ROLE_PARAMETER)
            continue;
        struct str name = arena_fmt(m->a, "%.*s.%zu.%.*s.%.*s", STR_ARG(x->root), state,
                                    STR_ARG(word), STR_ARG(rest));
        if (!name.p)
            return err_nomem(e, rest.n);
        TRY(train_slot(x, i, slot, name, e));
    }
    return ST_OK;
}

enum status train_to_optax(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    if (m->o->like)
        return as_like(x, e);
    if (x->to != STYLE_OPTAX)
        return ST_OK; /* all of it is left over */
    if (x->s.slots && !x->chain)
        return err_set(e, ST_CANNOT, "train-chain", "optax has no usual chain for this %s: --like",
                       optim_name(x->s.kind));
    for (size_t i = 0; x->chain && x->chain->state[i]; i++) {
        struct str words = str_from(x->chain->state[i]), word;
        while (words.n && str_split(&words, ' ', &word))
            TRY(field(x, i, word, e));
    }
    struct optim_number all = x->s.step.node || x->s.step.tensor >= 0 ? x->s.step : x->step;
    if (!x->by_leaves)
        return train_number(x, all, STR("step"), DT_I32, false, e);
    size_t n = 0; /* the leaves' counts: the optimizer's, then those of schedules */
    for (size_t i = 0; m->leaves && i < m->leaves->n_tensors; i++) {
        const struct tensor *t = &m->leaves->tensor[i];
        struct str name = arena_fmt(m->a, "%.*s.%zu.count", STR_ARG(x->root), n);
        if (!name.p)
            return err_nomem(e, 64);
        if (t->role != ROLE_COUNTER)
            continue;
        if (n++ > 0)
            TRY(train_number(x, x->s.n_schedules ? x->s.schedule[0] : x->step, name, t->dtype,
                             false, e));
    }
    return ST_OK;
}
