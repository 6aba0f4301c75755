/* Reads what an optimizer keeps out of a model, whichever way it is spelled. See optim.h. */
#include "framework/optim_int.h"
#include "framework/recognise.h"
#include "model/numbered.h"
#include <stdlib.h>
#include <string.h>

bool optim_is_state(const struct tensor *t)
{
    struct str parent, leaf;
    switch (t->role) {
    case ROLE_MOMENT1:
    case ROLE_MOMENT2:
    case ROLE_OTHER:
        return true;
    case ROLE_COUNTER:
        name_tail(t->name, &parent, &leaf);
        return !str_is(leaf, "num_batches_tracked");
    default:
        return false;
    }
}

static const struct optim_number no_number = {.tensor = -1};

struct optim_param *optim_param_at(struct optim_reader *r, uint32_t param)
{
    struct optim_state *s = r->s;
    if (s->of[param] < 0) {
        s->of[param] = (int64_t)s->n;
        struct optim_param *p = &s->param[s->n++];
        *p = (struct optim_param){.param = param, .n = no_number, .product = no_number};
        for (int k = 0; k < SLOT_N; k++)
            p->slot[k] = -1;
    }
    return &s->param[s->of[param]];
}

void optim_put(struct optim_reader *r, uint32_t t, uint32_t param, enum slot slot)
{
    struct optim_param *p = optim_param_at(r, param);
    if (p->slot[slot] >= 0)
        r->s->unclear = "a parameter has the same state twice";
    p->slot[slot] = t;
    r->s->mine[t] = true;
    r->s->slots |= SLOT_BIT(slot);
}

/* The path of a node as torch's names join keys: as they are. */
static struct str raw_path(struct arena *a, const struct node *root, const struct node *n)
{
    const struct node *chain[32] = {NULL};
    size_t k = 0;
    for (; n && n != root && k < 32; n = n->parent)
        chain[k++] = n;
    struct str out = STR("");
    while (k-- > 0 && out.p) {
        const struct node *c = chain[k];
        const char *dot = out.n ? "." : "";
        uint64_t at = 0;
        for (const struct node *b = c->parent->child; b != c; b = b->next)
            at++;
        if (c->key && c->key->kind == NODE_STR)
            out = arena_fmt(a, "%.*s%s%.*s", STR_ARG(out), dot, STR_ARG(c->key->text));
        else
            out = arena_fmt(a, "%.*s%s%lld", STR_ARG(out), dot,
                            (long long)(c->key ? c->key->i : (int64_t)at));
    }
    return out;
}

static bool is_number(const struct model *m, const struct node *n, struct optim_number *out)
{
    *out = no_number;
    if (n && n->kind == NODE_INT)
        out->node = n;
    else if (n && n->kind == NODE_TENSOR && tensor_elems(&m->tensor[n->tensor]) == 1)
        out->tensor = n->tensor;
    return out->node || out->tensor >= 0;
}

/* The training's own count: beside the state, or (NNX) inside it. */
static enum status whole_steps(struct optim_reader *r)
{
    static const char *const names[] = {"step", "global_step", "iteration", NULL};
    struct str inside = arena_fmt(r->a, "%.*s.step", STR_ARG(r->s->root));
    r->s->step = no_number;
    if (!inside.p)
        return err_nomem(r->e, r->s->root.n);
    for (const char *const *w = names;; w++) {
        bool last = !*w;
        if (last && (r->s->style != STYLE_OPTAX || !r->s->root.n))
            return ST_OK;
        int64_t t = model_find(r->m, last ? inside : str_from(*w));
        if (t >= 0 && optim_is_state(&r->m->tensor[t]) && tensor_elems(&r->m->tensor[t]) == 1) {
            r->s->step.tensor = t;
            r->s->mine[t] = true;
            return ST_OK;
        }
        if (last ||
            (r->m->tree && is_number(r->m, node_get(r->m->tree, str_from(*w)), &r->s->step)))
            return ST_OK;
    }
}

/* ---- torch ---- */

static const struct node *only_optimizer(const struct model *m, bool *two)
{
    const struct node *found = NULL;
    *two = false;
    for (struct node *n = m->tree; n; n = node_step(m->tree, n))
        if (numbered_is_optimizer(n)) {
            *two = *two || found;
            found = n;
        }
    return found;
}

/* A learning rate scheduler's state_dict: its position. Those inside another are that one's. */
static bool is_schedule(const struct node *n)
{
    const struct node *at = n->kind == NODE_DICT ? node_get(n, STR("last_epoch")) : NULL;
    return at && at->kind == NODE_INT && node_get(n, STR("_step_count"));
}

static enum status torch_schedules(struct optim_reader *r)
{
    struct optim_state *s = r->s;
    size_t n = 0;
    for (struct node *c = r->m->tree; c; c = node_step(r->m->tree, c))
        n += is_schedule(c);
    s->schedule = ARENA_ARRAY(r->a, struct optim_number, n + 1);
    if (!s->schedule)
        return err_nomem(r->e, n * sizeof *s->schedule);
    for (struct node *c = r->m->tree; c; c = node_step(r->m->tree, c)) {
        bool inside = false;
        for (const struct node *p = c->parent; p && !inside; p = p->parent)
            inside = is_schedule(p);
        if (is_schedule(c) && !inside)
            s->schedule[s->n_schedules++] =
                (struct optim_number){.tensor = -1, .node = node_get(c, STR("last_epoch"))};
    }
    return ST_OK;
}

static enum status torch_by_tree(struct optim_reader *r, const struct node *opt)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    struct numbered ids = {.param = ARENA_ARRAY(r->a, uint32_t, m->n_tensors + 1)};
    if (!ids.param)
        return err_nomem(r->e, m->n_tensors * 4);
    TRY(numbered_params(m, m->tree, opt, &ids, r->e));
    s->style = STYLE_TORCH;
    s->node = opt;
    s->root = raw_path(r->a, m->tree, opt);
    if (!s->root.p)
        return err_nomem(r->e, 64);
    if (ids.n == 0) {
        s->unclear = "its numbers do not say which parameters they are";
        return ST_OK;
    }
    s->dict = ids.dict;
    s->weights = raw_path(r->a, m->tree, ids.dict);
    if (!s->weights.p)
        return err_nomem(r->e, 64);
    for (size_t i = 0; i < ids.n; i++)
        optim_param_at(r, ids.param[i])->number = i;
    for (const struct node *g = node_get(opt, STR("param_groups"))->child; g; g = g->next) {
        const struct node *list = g->kind == NODE_DICT ? node_get(g, STR("params")) : NULL;
        for (const struct node *c = list ? list->child : NULL; c; c = c->next)
            if (c->kind == NODE_INT && c->i >= 0 && (uint64_t)c->i < ids.n)
                s->param[s->of[ids.param[c->i]]].group = g;
    }
    TRY(torch_schedules(r));
    for (const struct node *c = node_get(opt, STR("state"))->child; c; c = c->next)
        for (const struct node *d = c->child; d; d = d->next) {
            enum slot slot;
            struct optim_param *p = optim_param_at(r, ids.param[c->key->i]);
            if (!d->key || d->key->kind != NODE_STR)
                continue;
            if (str_is(d->key->text, "step"))
                (void)is_number(m, d, &p->n);
            else if (str_is(d->key->text, "mu_product"))
                s->nadam = is_number(m, d, &p->product);
            else if (d->kind == NODE_TENSOR && slot_parse(STYLE_TORCH, d->key->text, &slot))
                optim_put(r, d->tensor, ids.param[c->key->i], slot);
        }
    return ST_OK;
}

/* ROOT.state.PARAMETER.LEAF */
static bool torch_name(struct str name, struct str *root, struct str *entry, struct str *leaf)
{
    struct str parent;
    name_tail(name, &parent, leaf);
    size_t at = str_starts(parent, STR("state.")) ? 0 : str_find_str(parent, STR(".state."), 0) + 1;
    if (!parent.p || at >= parent.n)
        return false;
    *root = str_sub(parent, 0, at ? at - 1 : 0);
    *entry = str_sub(parent, at + 6, parent.n);
    return entry->n > 0;
}

/* The dict that all parameters stand in, where it is called as scripts call it. */
static struct str wrapper(const struct optim_reader *r)
{
    static const char *const names[] = {"model",  "state_dict", "model_state_dict",
                                        "module", "net",        NULL};
    const struct optim_state *s = r->s;
    for (const char *const *w = names; *w && s->n; w++) {
        size_t i = 0;
        struct str seg;
        for (; i < s->n; i++) {
            struct str rest = r->m->tensor[s->param[i].param].name;
            if (!name_head(&rest, &seg) || !rest.n || !str_is(seg, *w))
                break;
        }
        if (i == s->n)
            return str_from(*w);
    }
    return STR("");
}

/* Without a tree (archives, state by names): the names and the readers' word for the parameters. */
static enum status torch_by_names(struct optim_reader *r)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    struct str *of = ARENA_ARRAY(r->a, struct str, m->n_tensors + 1); /* per place in s->param */
    bool any = false;
    if (!of)
        return err_nomem(r->e, m->n_tensors * sizeof *of);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        struct str root, entry, leaf;
        enum slot slot;
        uint64_t number;
        if (!optim_is_state(t) || t->of < 0 || !torch_name(t->name, &root, &entry, &leaf) ||
            !slot_parse(STYLE_TORCH, leaf, &slot))
            continue;
        if (any && !str_eq(root, s->root))
            s->unclear = "there are several optimizers";
        s->root = root;
        any = true;
        optim_put(r, (uint32_t)i, (uint32_t)t->of, slot);
        of[s->of[t->of]] = entry;
        struct optim_param *p = optim_param_at(r, (uint32_t)t->of);
        p->number = str_u64(entry, &number) ? number : m->tensor[t->of].order;
    }
    size_t at = 0; /* steps stand beside moments, in one order or another */
    for (size_t i = 0; i < m->n_tensors && s->n; i++) {
        struct str root, entry, leaf;
        if (!optim_is_state(&m->tensor[i]) ||
            !torch_name(m->tensor[i].name, &root, &entry, &leaf) || !str_eq(root, s->root))
            continue;
        bool product = str_is(leaf, "mu_product");
        if (!product && !str_is(leaf, "step"))
            continue;
        for (size_t k = 0; k < s->n; k++, at = (at + 1) % s->n)
            if (str_eq(of[at], entry)) {
                *(product ? &s->param[at].product : &s->param[at].n) =
                    (struct optim_number){.tensor = (int64_t)i};
                break;
            }
        s->nadam = s->nadam || product;
    }
    s->style = any ? STYLE_TORCH : STYLE_NONE;
    s->weights = wrapper(r);
    return ST_OK;
}

/* ---- optax ---- */

struct component {
    struct str path; /* "opt_state.0" */
    unsigned fields; /* SLOT_BIT as spelled: MEAN is mu, SQUARE is nu */
    int64_t count;
};

/* CHAIN.FIELD.PARAMETER: where the field ends is the first segment that is one. */
static bool optax_name(struct str name, struct str *path, struct str *field)
{
    struct str rest = name, seg;
    while (name_head(&rest, &seg)) {
        enum slot slot;
        if (rest.p && seg.p > name.p && slot_parse(STYLE_OPTAX, seg, &slot)) {
            *path = str_sub(name, 0, (size_t)(seg.p - name.p) - 1);
            *field = seg;
            return true;
        }
    }
    return false;
}

static struct component *component_at(struct component *c, size_t *n, struct str path)
{
    for (size_t i = 0; i < *n; i++)
        if (str_eq(c[i].path, path))
            return &c[i];
    c[*n] = (struct component){.path = path, .count = -1};
    return &c[(*n)++];
}

/* What nu and mu are depends on what stands beside them. Adam counts, RMSprop does not. */
static enum slot optax_slot(const struct component *c, enum slot field)
{
    bool counts = c->count >= 0;
    if (field == SLOT_SQUARE && !counts)
        return SLOT_POWER;
    if (field == SLOT_MEAN && !counts)
        return SLOT_CENTER;
    return field;
}

static int by_order(const void *x, const void *y)
{
    const struct optim_param *a = x, *b = y;
    return a->number < b->number ? -1 : a->number > b->number;
}

#define COMPONENTS 64
static enum status optax(struct optim_reader *r)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    struct component *c = ARENA_ARRAY(r->a, struct component, COMPONENTS + 1);
    size_t n = 0;
    struct str root = STR_NONE, path, field, seg;
    if (!c)
        return err_nomem(r->e, COMPONENTS * sizeof *c);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        enum slot slot;
        if (!optim_is_state(t) || t->of < 0 || !optax_name(t->name, &path, &field))
            continue;
        if (n == COMPONENTS) {
            s->unclear = "it has too many parts";
            return ST_OK;
        }
        struct component *x = component_at(c, &n, path);
        if (slot_parse(STYLE_OPTAX, field, &slot))
            x->fields |= SLOT_BIT(slot);
        struct str rest = t->name;
        (void)name_head(&rest, &seg);
        if (root.p && !str_eq(root, seg))
            s->unclear = "there are several optimizers";
        root = seg;
    }
    if (n == 0)
        return ST_OK;
    s->style = STYLE_OPTAX;
    s->root = root;
    s->schedule = ARENA_ARRAY(r->a, struct optim_number, m->n_tensors + 1);
    if (!s->schedule)
        return err_nomem(r->e, m->n_tensors * sizeof *s->schedule);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str rest = m->tensor[i].name, parent, leaf;
        name_tail(rest, &parent, &leaf);
        if (!name_head(&rest, &seg) || !str_eq(seg, root) || !str_is(leaf, "count") ||
            m->tensor[i].role != ROLE_COUNTER || tensor_elems(&m->tensor[i]) != 1)
            continue;
        size_t k = 0;
        while (k < n && !str_eq(c[k].path, parent))
            k++;
        if (k < n)
            c[k].count = (int64_t)i;
        else
            s->schedule[s->n_schedules++] = (struct optim_number){.tensor = (int64_t)i};
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        enum slot slot;
        if (!optim_is_state(t) || t->of < 0 || !optax_name(t->name, &path, &field) ||
            !slot_parse(STYLE_OPTAX, field, &slot))
            continue;
        const struct component *x = component_at(c, &n, path);
        if (x->count >= 0 && !(x->fields & SLOT_BIT(SLOT_MEAN))) {
            s->unclear = "RMSprop with bias correction is optax's alone";
            return ST_OK;
        }
        optim_put(r, (uint32_t)i, (uint32_t)t->of, optax_slot(x, slot));
        struct optim_param *p = optim_param_at(r, (uint32_t)t->of);
        if (x->count >= 0)
            p->n.tensor = x->count;
        p->number = m->tensor[t->of].order;
    }
    qsort(s->param, s->n, sizeof *s->param, by_order);
    for (size_t i = 0; i < s->n; i++)
        s->of[s->param[i].param] = (int64_t)i;
    s->node = m->tree ? node_get(m->tree, root) : NULL;
    return ST_OK;
}

/* ---- */

static enum status mark(struct optim_reader *r)
{
    struct optim_state *s = r->s;
    struct str root = s->root.n ? arena_fmt(r->a, "%.*s.", STR_ARG(s->root)) : STR("state.");
    if (!root.p)
        return err_nomem(r->e, s->root.n);
    for (size_t i = 0; i < r->m->n_tensors; i++)
        s->mine[i] = s->mine[i] ||
                     (optim_is_state(&r->m->tensor[i]) && str_starts(r->m->tensor[i].name, root));
    return ST_OK;
}

enum status optim_read(const struct model *m, const struct framework *f, struct arena *a,
                       struct optim_state *out, struct err *e)
{
    struct optim_reader r = {m, a, out, e};
    *out = (struct optim_state){.step = no_number,
                                .rate = no_number,
                                .scale = no_number,
                                .good = no_number,
                                .product = no_number};
    out->param = ARENA_ARRAY(a, struct optim_param, m->n_tensors + 1);
    out->of = ARENA_ARRAY(a, int64_t, m->n_tensors + 1);
    out->mine = ARENA_ARRAY(a, bool, m->n_tensors + 1);
    out->twin = ARENA_ARRAY(a, int64_t, m->n_tensors + 1);
    out->idle = ARENA_ARRAY(a, bool, m->n_tensors + 1);
    if (!out->param || !out->of || !out->mine || !out->twin || !out->idle)
        return err_nomem(e, m->n_tensors * sizeof *out->param);
    for (size_t i = 0; i < m->n_tensors; i++)
        out->of[i] = out->twin[i] = -1;
    bool two = false;
    const struct node *opt = only_optimizer(m, &two);
    (void)f;
    if (two) {
        out->style = STYLE_TORCH;
        out->unclear = "there are several optimizers";
    } else if (opt) {
        TRY(torch_by_tree(&r, opt));
    } else {
        TRY(optim_keras(&r));
        if (out->style == STYLE_NONE)
            TRY(optax(&r));
        if (out->style == STYLE_NONE)
            TRY(torch_by_names(&r));
        if (out->style == STYLE_NONE)
            TRY(optim_named(&r));
    }
    if (out->style == STYLE_NONE || out->unclear)
        return ST_OK;
    TRY(mark(&r));
    optim_scale(&r);
    if (out->style == STYLE_TORCH || out->style == STYLE_OPTAX)
        TRY(whole_steps(&r));
    out->kind = optim_of(out->slots);
    if (out->kind == OPTIM_ADAM && out->nadam)
        out->kind = OPTIM_NADAM;
    if (out->kind == OPTIM_NONE && out->slots)
        out->unclear = "no table knows what it keeps";
    return ST_OK;
}
