/* torch's spelling of an optimizer's state: OPTIMIZER.state.NUMBER.{step, exp_avg ...}. Numbers are
 * the skeleton's where there is one. Without one they follow the source's order, which is the
 * module's only where the source is torch's own: the ledger says so. Parameters that the source's
 * optimizer does not know have no entry, as in torch itself.
 */
#include "convert/train.h"
#include <stdlib.h>
#include <string.h>

/* The skeleton's number of each made parameter. */
static enum status numbers_like(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    size_t *at = ARENA_ARRAY(m->tmp, size_t, x->k.n + 1); /* by number: made + 1 */
    if (!at)
        return err_nomem(e, x->k.n * sizeof *at);
    for (size_t i = 0; i < x->n_params; i++) {
        int64_t p = train_place(x, i);
        if (p < 0)
            continue;
        x->number[i] = x->k.param[p].number;
        at[p] = i + 1;
    }
    for (size_t p = 0; p < x->k.n; p++)
        if (at[p])
            x->ordered[x->n_ordered++] = at[p] - 1;
    return ST_OK;
}

static bool tied(const struct train *x, size_t i, const bool *seen)
{
    const struct model *s = x->m->src;
    const struct made *d = &x->m->made[i];
    if (d->n_takes != 1 || d->take->zero) /* the other of two biases that are added is none */
        return false;
    int64_t root = s->tensor[d->take->src].alias_of;
    return seen[root >= 0 ? root : (int64_t)d->take->src];
}

struct numbering {
    uint64_t number;
    size_t made;
};
static int by_number(const void *a, const void *b)
{
    const struct numbering *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return x->made < y->made ? -1 : x->made > y->made;
}

/* Without a skeleton: the source's numbers, or its order; ties count once. */
static enum status numbers_alone(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    bool *seen = ARENA_ARRAY(m->tmp, bool, m->src->n_tensors + 1);
    struct numbering *p = ARENA_ARRAY(m->tmp, struct numbering, x->n_params + 1);
    if (!seen || !p)
        return err_nomem(e, x->n_params * sizeof *p);
    for (size_t i = 0; i < x->n_params; i++) {
        const struct made *d = &m->made[i];
        if (x->entry[i] < 0 || tied(x, i, seen))
            continue;
        if (d->n_takes == 1 && !d->take->zero) {
            int64_t root = m->src->tensor[d->take->src].alias_of;
            seen[root >= 0 ? root : (int64_t)d->take->src] = true;
        }
        bool own = x->s.style == STYLE_TORCH;
        p[x->n_ordered++] =
            (struct numbering){own ? x->s.param[x->entry[i]].number : (uint64_t)i, i};
    }
    if (x->n_ordered)
        qsort(p, x->n_ordered, sizeof *p, by_number);
    for (size_t i = 0; i < x->n_ordered; i++) {
        x->ordered[i] = p[i].made;
        x->number[p[i].made] = i;
    }
    if (x->s.style == STYLE_TORCH || x->n_ordered < 2)
        return ST_OK;
    struct str name = arena_fmt(m->a, "%.*s.param_groups.0.params", STR_ARG(x->root));
    return name.p ? map_ledger(m, LEDGER_SYNTH, name, 0, false,
                               STR("the order of the module's parameters, taken to be the "
                                   "source's: --like tells it"),
                               e)
                  : err_nomem(e, 64);
}

/* A parameter without any state has none in the target. */
static bool stepped(const struct train *x, size_t i)
{
    if (x->entry[i] < 0)
        return false;
    const struct optim_param *p = &x->s.param[x->entry[i]];
    for (int s = 0; s < SLOT_N; s++)
        if (p->slot[s] >= 0)
            return true;
    return false;
}

static enum status entry(struct train *x, size_t i, struct err *e)
{
    struct mapping *m = x->m;
    const char *dot = x->root.n ? "." : "";
    unsigned long long id = x->number[i];
    for (int s = 0; s < SLOT_N; s++) {
        const char *leaf = slot_spelled(STYLE_TORCH, x->s.kind, (enum slot)s);
        if (!(x->s.slots & SLOT_BIT(s)) || !leaf)
            continue;
        struct str name = arena_fmt(m->a, "%.*s%sstate.%llu.%s", STR_ARG(x->root), dot, id, leaf);
        if (!name.p)
            return err_nomem(e, 64);
        TRY(train_slot(x, i, (enum slot)s, name, e));
    }
    struct str name;
    if (x->s.kind == OPTIM_NADAM) {
        name = arena_fmt(m->a, "%.*s%sstate.%llu.mu_product", STR_ARG(x->root), dot, id);
        if (!name.p)
            return err_nomem(e, 64);
        TRY(train_product(x, i, name, -1, e));
    }
    if (!optim_steps(STYLE_TORCH, x->s.kind))
        return ST_OK;
    name = arena_fmt(m->a, "%.*s%sstate.%llu.step", STR_ARG(x->root), dot, id);
    return name.p ? train_number(x, x->s.param[x->entry[i]].n, name, DT_F32,
                                 !optim_counts(x->s.kind), e)
                  : err_nomem(e, 64);
}

/* The training's own count has a place at the top, as torch's scripts have it, where the
 * parameters' own counts do not say the same. */
static enum status whole(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    struct optim_number n = x->s.step;
    int64_t all, each;
    if (!n.node && n.tensor < 0)
        return ST_OK;
    TRY(train_value(m->src, n, &all, e));
    if (x->n_ordered && optim_steps(STYLE_TORCH, x->s.kind)) {
        TRY(train_value(m->src, x->step, &each, e));
        if (all == each)
            return ST_OK; /* every parameter has it */
    }
    if (!x->k.step.node)
        return train_number(x, n,
                            x->k.step.tensor >= 0 && m->o->like
                                ? m->o->like->tensor[x->k.step.tensor].name
                                : STR("step"),
                            DT_I64, true, e);
    train_replace(x, x->k.step.node, all);
    if (n.tensor >= 0)
        x->carried[n.tensor] = true;
    return ST_OK;
}

/* The position of the source's schedule, or its number of updates, in the skeleton's schedulers.
 * Their rates follow from what no file holds: train_tree.c names them. */
static enum status schedules(struct train *x, struct err *e)
{
    struct optim_number n = x->s.n_schedules ? x->s.schedule[0] : x->step;
    if (x->s.style == STYLE_TORCH || x->k.n_schedules == 0 || (!n.node && n.tensor < 0))
        return ST_OK;
    TRY(train_value(x->m->src, n, &x->schedule, e));
    for (size_t i = 0; i < x->k.n_schedules; i++) {
        const struct node *at = x->k.schedule[i].node;
        train_replace(x, at, x->schedule);
        train_replace(x, node_get(at->parent, STR("_step_count")), x->schedule + 1);
    }
    if (n.tensor >= 0)
        x->carried[n.tensor] = true;
    return ST_OK;
}

enum status train_to_torch(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    if (m->o->like) {
        if (x->k.style != STYLE_TORCH)
            return ST_OK; /* no optimizer: all of the state is left over */
        if (x->k.unclear)
            return err_set(e, ST_CANNOT, "train-like", "the skeleton's optimizer: %s",
                           x->k.unclear);
        TRY(train_alike(x, e));
        if (x->k.slots & ~x->s.slots && x->s.slots)
            return err_set(e, ST_CANNOT, "train-like",
                           "the skeleton's optimizer keeps more than the source's %s",
                           optim_name(x->s.kind));
        x->root = x->k.root;
        TRY(numbers_like(x, e));
    } else {
        TRY(numbers_alone(x, e));
    }
    for (size_t k = 0; k < x->n_ordered; k++)
        if (stepped(x, x->ordered[k]))
            TRY(entry(x, x->ordered[k], e));
    TRY(schedules(x, e));
    TRY(train_scale(x, e));
    return whole(x, e);
}
