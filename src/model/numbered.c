/* See numbered.h. */
#include "model/numbered.h"
#include "base/mem.h"
#include <string.h>

bool numbered_is_optimizer(const struct node *n)
{
    const struct node *state, *groups;
    return n->kind == NODE_DICT && n->n_children <= 64 && (state = node_get(n, STR("state"))) &&
           state->kind == NODE_DICT && (groups = node_get(n, STR("param_groups"))) &&
           groups->kind == NODE_LIST;
}

struct finder {
    const struct model *m;
    const struct node *groups, *state;
    const struct node **entry; /* of the state, per number */
    uint64_t n_ids;            /* of the one group; 0 when there are several */
    uint32_t *seen, stamp;     /* per tensor: a tie counts once */
    uint32_t *first, *last;    /* parameters of a dict, or of its numbers */
};

static bool is_param(const struct model *m, const struct node *n)
{
    return n->kind == NODE_TENSOR && m->tensor[n->tensor].role == ROLE_PARAMETER;
}

static int64_t kept(const struct model *m, uint32_t t)
{
    return m->tensor[t].alias_of >= 0 ? m->tensor[t].alias_of : (int64_t)t;
}

/* Parameters directly inside dict; a tied tensor counts once. */
static size_t collect(struct finder *f, const struct node *dict, uint32_t *out)
{
    size_t n = 0;
    f->stamp++;
    for (const struct node *c = dict->child; c; c = c->next) {
        if (!is_param(f->m, c) || f->seen[kept(f->m, c->tensor)] == f->stamp)
            continue;
        f->seen[kept(f->m, c->tensor)] = f->stamp;
        out[n++] = c->tensor;
    }
    return n;
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dim, b->dim, a->n_dims * sizeof a->dim[0]) == 0;
}

/* Have the moments of a state entry (a dict of tensors and scalars; NULL: none) the shape of the
 * parameter? */
static bool entry_fits(const struct model *m, const struct node *entry, uint32_t param)
{
    for (const struct node *c = entry ? entry->child : NULL; c; c = c->next)
        if (c->kind == NODE_TENSOR) {
            const struct tensor *t = &m->tensor[c->tensor];
            if ((t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2) &&
                !same_shape(t, &m->tensor[param]))
                return false;
        }
    return true;
}

/* The one group's ids are 0, 1, 2 ...: then id is the parameter's number. 0: they are not. */
static uint64_t plain_ids(const struct node *groups)
{
    const struct node *g = groups->child, *params;
    uint64_t n = 0;
    if (groups->n_children != 1 || g->kind != NODE_DICT || !(params = node_get(g, STR("params"))) ||
        params->kind != NODE_LIST)
        return 0;
    for (const struct node *c = params->child; c; c = c->next, n++)
        if (c->kind != NODE_INT || c->i < 0 || (uint64_t)c->i != n)
            return 0;
    return n;
}

/* Lists the state's entries by number. False: a key is no number below n. */
static bool entries(struct finder *f, uint64_t n)
{
    if (n > f->m->n_tensors)
        return false;
    for (uint64_t i = 0; i < n; i++)
        f->entry[i] = NULL;
    for (const struct node *c = f->state->child; c; c = c->next) {
        if (!c->key || c->key->kind != NODE_INT || c->key->i < 0 || (uint64_t)c->key->i >= n)
            return false;
        f->entry[c->key->i] = c;
    }
    return true;
}

/* param_names: number -> the parameter of that name beside the first parameter of dict. Numbers run
 * through all groups in order. 0 when there are no names, or one of them is not there. */
static size_t named_ids(const struct finder *f, const struct node *dict, uint32_t *param)
{
    struct str prefix = STR("");
    for (const struct node *c = dict->child; c; c = c->next)
        if (is_param(f->m, c)) {
            struct str name = f->m->tensor[c->tensor].name;
            size_t key = c->key && c->key->kind == NODE_STR ? c->key->text.n : 0;
            prefix = str_sub(name, 0, name.n - (key < name.n ? key : name.n));
            break;
        }
    size_t n_params = 0;
    for (const struct node *g = f->groups->child; g; g = g->next) {
        const struct node *ids = g->kind == NODE_DICT ? node_get(g, STR("params")) : NULL;
        const struct node *names = ids ? node_get(g, STR("param_names")) : NULL;
        if (!names || names->n_children != ids->n_children)
            return 0;
        const struct node *name = names->child;
        for (const struct node *id = ids->child; id; id = id->next, name = name->next) {
            char full[1024];
            size_t n = prefix.n + name->text.n;
            if (id->kind != NODE_INT || (uint64_t)id->i != n_params || name->kind != NODE_STR ||
                n > sizeof full || n_params >= f->m->n_tensors)
                return 0;
            if (prefix.n)
                memcpy(full, prefix.p, prefix.n);
            if (name->text.n)
                memcpy(full + prefix.n, name->text.p, name->text.n);
            int64_t p = model_find(f->m, (struct str){full, n});
            if (p < 0)
                return 0;
            param[n_params++] = (uint32_t)p;
        }
    }
    return n_params;
}

static bool all_fit(const struct finder *f, const uint32_t *param, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!entry_fits(f->m, f->entry[i], param[i]))
            return false;
    return true;
}

/* The numbers are some of the n parameters in `all`, in order: written to all[0 .. n_ids) when the
 * earliest and the latest way are one and the same, so that there is no other. */
static bool some_of(struct finder *f, uint32_t *all, size_t n)
{
    uint64_t got = 0;
    for (size_t k = 0; k < n && got < f->n_ids; k++)
        if (entry_fits(f->m, f->entry[got], all[k]))
            f->last[got++] = all[k];
    if (got < f->n_ids)
        return false;
    for (size_t k = n; k-- > 0 && got > 0;)
        if (entry_fits(f->m, f->entry[got - 1], all[k]) && f->last[--got] != all[k])
            return false;
    if (got == 0)
        memcpy(all, f->last, f->n_ids * sizeof *all);
    return got == 0;
}

static void find(struct finder *f, const struct node *root, struct numbered *out)
{
    const struct node *part = NULL;
    bool two = false, two_parts = false;
    for (struct node *d = (struct node *)(uintptr_t)root; d; d = node_step(root, d)) {
        if (d->kind != NODE_DICT || !d->child)
            continue;
        bool any = false;
        for (const struct node *c = d->child; c && !any; c = c->next)
            any = is_param(f->m, c);
        if (!any)
            continue;
        size_t n = named_ids(f, d, f->first);
        if (n && entries(f, n) && all_fit(f, f->first, n)) {
            *out = (struct numbered){out->param, n, d};
            memcpy(out->param, f->first, n * sizeof *f->first);
            return;
        }
        if (f->n_ids == 0 || !entries(f, f->n_ids))
            continue;
        n = collect(f, d, f->first);
        if (n == f->n_ids && all_fit(f, f->first, n)) {
            two = out->n > 0;
            *out = (struct numbered){out->param, n, d};
            memcpy(out->param, f->first, n * sizeof *f->first);
        } else if (n > f->n_ids && some_of(f, f->first, n)) {
            two_parts = part != NULL;
            part = d;
        }
    }
    if (two)
        *out = (struct numbered){.param = out->param};
    if (out->n || two || !part || two_parts || !entries(f, f->n_ids))
        return;
    size_t n = collect(f, part, out->param);
    if (some_of(f, out->param, n))
        *out = (struct numbered){out->param, f->n_ids, part};
}

enum status numbered_params(const struct model *m, const struct node *root, const struct node *opt,
                            struct numbered *out, struct err *e)
{
    size_t n = m->n_tensors + 1;
    struct finder f = {.m = m,
                       .groups = node_get(opt, STR("param_groups")),
                       .state = node_get(opt, STR("state")),
                       .entry = mem_zalloc(n, sizeof *f.entry),
                       .seen = mem_zalloc(n, sizeof *f.seen),
                       .first = mem_zalloc(n, sizeof *f.first),
                       .last = mem_zalloc(n, sizeof *f.last)};
    enum status st = ST_OK;
    *out = (struct numbered){.param = out->param};
    if (!f.entry || !f.seen || !f.first || !f.last)
        st = err_nomem(e, n * 20);
    if (st == ST_OK) {
        f.n_ids = plain_ids(f.groups);
        find(&f, root, out);
    }
    mem_free(f.entry);
    mem_free(f.seen);
    mem_free(f.first);
    mem_free(f.last);
    return st;
}
