/* A dynamic loss scale beside an optimizer: the scale, and how many steps in a row were finite
 * since it changed last. Told by what stands together, in the tree or by names. Sources:
 * torch/amp/grad_scaler.py; flax/training/dynamic_scale.py; jmp/_src/loss_scale.py;
 * keras/src/optimizers/loss_scale_optimizer.py; tf_keras/mixed_precision/loss_scale_optimizer.py.
 */
#include "framework/optim_int.h"
#include "framework/recognise.h"

static const struct {
    const char *scale, *good, *mark; /* mark: what stands there too; or NULL */
} spelled[] = {
    {"scale", "_growth_tracker", "growth_factor"}, {"scale", "fin_steps", NULL},
    {"loss_scale", "counter", "period"},           {"dynamic_scale", "step_counter", NULL},
    {"current_loss_scale", "good_steps", NULL},
};
#define N_SPELLED (sizeof spelled / sizeof *spelled)

static bool number(const struct model *m, const struct node *n, struct optim_number *out)
{
    *out = (struct optim_number){.tensor = -1};
    if (n && (n->kind == NODE_INT || n->kind == NODE_FLOAT))
        out->node = n;
    else if (n && n->kind == NODE_TENSOR && tensor_elems(&m->tensor[n->tensor]) == 1)
        out->tensor = n->tensor;
    return out->node || out->tensor >= 0;
}

static void found(struct optim_state *s, struct optim_number scale, struct optim_number good)
{
    if (s->scale.node || s->scale.tensor >= 0)
        s->scales = 2;
    else
        s->scales = 1;
    s->scale = scale;
    s->good = good;
}

static void by_tree(struct optim_reader *r)
{
    const struct model *m = r->m;
    for (struct node *n = m->tree; n; n = node_step(m->tree, n))
        for (size_t i = 0; i < N_SPELLED && n->kind == NODE_DICT; i++) {
            struct optim_number scale, good;
            if (number(m, node_get(n, str_from(spelled[i].scale)), &scale) &&
                number(m, node_get(n, str_from(spelled[i].good)), &good) &&
                (!spelled[i].mark || node_get(n, str_from(spelled[i].mark))))
                found(r->s, scale, good);
        }
}

/* The tensor LEAF beside one; -1. */
static int64_t beside(const struct optim_reader *r, struct str parent, const char *leaf)
{
    struct str name = parent.n ? arena_fmt(r->a, "%.*s.%s", STR_ARG(parent), leaf) : str_from(leaf);
    int64_t t = name.p ? model_find(r->m, name) : -1;
    return t >= 0 && tensor_elems(&r->m->tensor[t]) == 1 ? t : -1;
}

static void by_names(struct optim_reader *r)
{
    for (size_t t = 0; t < r->m->n_tensors; t++) {
        struct str parent, leaf;
        name_tail(r->m->tensor[t].name, &parent, &leaf);
        for (size_t i = 0; i < N_SPELLED; i++) {
            if (!str_is(leaf, spelled[i].good) || tensor_elems(&r->m->tensor[t]) != 1)
                continue;
            int64_t scale = beside(r, parent, spelled[i].scale);
            struct optim_number there = {.tensor = scale}, good = {.tensor = (int64_t)t};
            if (scale >= 0 && (!spelled[i].mark || beside(r, parent, spelled[i].mark) >= 0))
                found(r->s, there, good);
        }
    }
}

void optim_scale(struct optim_reader *r)
{
    struct optim_state *s = r->s;
    static const char *const own[] = {"period", "factor", "min_loss_scale", NULL};
    struct str parent, leaf;
    if (s->scales == 0) /* Keras's files number it */
        by_tree(r);
    if (s->scales == 0)
        by_names(r);
    if (s->scales != 1) { /* which of them? */
        s->scale = s->good = (struct optim_number){.tensor = -1};
        return;
    }
    if (s->good.tensor >= 0)
        s->mine[s->good.tensor] = true;
    if (s->scale.tensor < 0)
        return;
    s->mine[s->scale.tensor] = true;
    name_tail(r->m->tensor[s->scale.tensor].name, &parent, &leaf);
    for (const char *const *w = own; *w && str_is(leaf, "loss_scale"); w++) {
        int64_t t = beside(r, parent, *w);
        if (t >= 0)
            s->mine[t] = true;
    }
}
