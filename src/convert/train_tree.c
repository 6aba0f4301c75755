/* The structure around train state in the target. With a skeleton it is the skeleton's: its
 * containers, its settings, its order, with the tensors that were made. Without one a torch
 * checkpoint is {"model", "optimizer": {"state", "param_groups"}} and a flax TrainState the nested
 * names with the chain's empty states. Settings that the source does not have are torch's defaults,
 * each in the ledger.
 */
#include "convert/train.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

#define ORDERED STR("collections.OrderedDict")
#define EMPTY SIZE_MAX

struct named {
    struct str name;
    size_t at; /* target tensor; EMPTY: an empty dict of that name */
};
struct builder {
    struct train *x;
    struct arena *a;
    struct named *list; /* target tensors by name */
    size_t n;
    bool *hung; /* per target tensor */
    struct err *e;
};

static int by_name(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return str_cmp(x->name, y->name);
}

static int64_t tensor_at(const struct builder *b, struct str name)
{
    struct named key = {.name = name};
    const struct named *f = b->n ? bsearch(&key, b->list, b->n, sizeof *b->list, by_name) : NULL;
    return f ? (int64_t)f->at : -1;
}

static struct node *add(struct builder *b, struct node *parent, enum node_kind kind,
                        struct node *key)
{
    struct node *n = node_new(b->a, kind);
    if (!n)
        return NULL;
    n->key = key;
    if (parent)
        node_add(parent, n);
    return n;
}

static struct node *text_key(struct builder *b, struct str text)
{
    struct node *k = node_new(b->a, NODE_STR);
    if (k)
        k->text = text;
    return k;
}
static struct node *number_key(struct builder *b, uint64_t v)
{
    struct node *k = node_new(b->a, NODE_INT);
    if (k)
        k->i = (int64_t)v;
    return k;
}

static enum status hang(struct builder *b, struct node *parent, struct str key, int64_t tensor)
{
    struct node *k = text_key(b, key), *n = k ? add(b, parent, NODE_TENSOR, k) : NULL;
    if (!n)
        return err_nomem(b->e, sizeof *n);
    n->tensor = (uint32_t)tensor;
    b->hung[tensor] = true;
    return ST_OK;
}

/* ---- torch ---- */

/* {number: {"step": ..., "exp_avg": ...}} of what was made */
static enum status state(struct builder *b, struct node *state)
{
    struct train *x = b->x;
    static const char *const beside[] = {"step", "mu_product"};
    for (size_t i = 0; i < x->n_ordered; i++) {
        uint64_t id = x->number[x->ordered[i]];
        struct node *key = number_key(b, id), *entry = NULL;
        for (int s = -2; s < SLOT_N; s++) {
            const char *leaf =
                s < 0 ? beside[s + 2] : slot_spelled(STYLE_TORCH, x->s.kind, (enum slot)s);
            struct str name =
                arena_fmt(x->m->tmp, "%.*s%sstate.%llu.%s", STR_ARG(x->root), x->root.n ? "." : "",
                          (unsigned long long)id, leaf ? leaf : "?");
            int64_t t = name.p ? tensor_at(b, name) : -1;
            if (t < 0)
                continue;
            if (!entry)
                entry = key ? add(b, state, NODE_DICT, key) : NULL;
            if (!entry)
                return err_nomem(b->e, sizeof *entry);
            TRY(hang(b, entry, str_from(leaf), t));
        }
    }
    return ST_OK;
}

static struct node *value(struct builder *b, const struct optim_hyper *h, bool said)
{
    struct node *n = NULL;
    switch (h->what) {
    case HYPER_NONE:
        return node_new(b->a, NODE_NIL);
    case HYPER_BOOL:
        n = node_new(b->a, NODE_BOOL);
        if (n)
            n->i = said || h->bits[0];
        return n;
    case HYPER_FLOAT:
        n = node_new(b->a, NODE_FLOAT);
        if (n)
            n->bits[0] = h->bits[0];
        return n;
    case HYPER_PAIR:
        n = node_new(b->a, NODE_TUPLE);
        for (int i = 0; n && i < 2; i++) {
            struct node *f = add(b, n, NODE_FLOAT, NULL);
            if (!f)
                return NULL;
            f->bits[0] = h->bits[i];
        }
        return n;
    }
    return n;
}

/* Settings that the source's state itself tells. */
static bool told(const struct train *x, const char *name)
{
    return (strcmp(name, "amsgrad") == 0 && x->s.slots & SLOT_BIT(SLOT_MAX)) ||
           (strcmp(name, "centered") == 0 && x->s.slots & SLOT_BIT(SLOT_CENTER));
}

/* One group of all parameters, as torch's own constructor would fill it. */
static enum status group(struct builder *b, struct node *list)
{
    struct train *x = b->x;
    struct node *g = add(b, list, NODE_DICT, NULL), *key;
    if (!g)
        return err_nomem(b->e, sizeof *g);
    for (size_t i = 0; i < n_optim_hypers; i++) {
        const struct optim_hyper *h = &optim_hypers[i];
        if (!(h->kinds & (1u << x->s.kind)))
            continue;
        struct node *v = value(b, h, told(x, h->name));
        key = text_key(b, str_from(h->name));
        struct str name = arena_fmt(b->a, "%.*s.param_groups.0.%s", STR_ARG(x->root), h->name);
        if (!v || !key || !name.p)
            return err_nomem(b->e, sizeof *v);
        v->key = key;
        node_add(g, v);
        bool none = v->kind == NODE_NIL || (v->kind == NODE_BOOL && !v->i) ||
                    (v->kind == NODE_FLOAT && v->bits[0] == 0);
        TRY(map_ledger(x->m, LEDGER_SYNTH, name, 0, h->plain || none || told(x, h->name),
                       STR("a setting the source does not hold: torch's default"), b->e));
    }
    key = text_key(b, STR("params"));
    struct node *params = key ? add(b, g, NODE_LIST, key) : NULL;
    key = text_key(b, STR("param_names"));
    struct node *names = key ? node_new(b->a, NODE_LIST) : NULL;
    if (!params || !names)
        return err_nomem(b->e, sizeof *params);
    names->key = key;
    for (size_t i = 0; i < x->n_ordered; i++) {
        struct node *n = add(b, params, NODE_INT, NULL), *s = add(b, names, NODE_STR, NULL);
        struct str name = x->m->made[x->ordered[i]].name;
        if (!n || !s)
            return err_nomem(b->e, sizeof *n);
        n->i = (int64_t)i;
        s->text = x->m->put.n ? str_sub(name, x->m->put.n + 1, name.n) : name;
    }
    node_add(g, names);
    return ST_OK;
}

static enum status torch_alone(struct builder *b, struct node *root)
{
    struct train *x = b->x;
    struct node *k1 = text_key(b, STR("model")), *k2 = text_key(b, STR("optimizer"));
    struct node *k3 = text_key(b, STR("state")), *k4 = text_key(b, STR("param_groups"));
    struct node *model = k1 ? add(b, root, NODE_DICT, k1) : NULL;
    struct node *opt = k2 ? add(b, root, NODE_DICT, k2) : NULL;
    struct node *st = k3 && opt ? add(b, opt, NODE_DICT, k3) : NULL;
    struct node *groups = k4 && opt ? add(b, opt, NODE_LIST, k4) : NULL;
    if (!model || !st || !groups)
        return err_nomem(b->e, sizeof *model);
    model->text = ORDERED;
    for (size_t i = 0; i < x->n_params; i++) {
        struct str name = x->m->made[i].name;
        if (str_starts(name, STR("model.")))
            TRY(hang(b, model, str_sub(name, 6, name.n), (int64_t)i));
    }
    TRY(state(b, st));
    return group(b, groups);
}

/* ---- a skeleton's tree ---- */

static bool is_params_list(const struct node *n)
{
    return n->key && n->key->kind == NODE_STR && str_is(n->key->text, "params");
}

/* The source's value of a setting of the skeleton's group `at`. */
static const struct node *source_setting(const struct train *x, const struct node *n)
{
    const struct node *groups = x->k.node ? node_get(x->k.node, STR("param_groups")) : NULL;
    const struct node *own =
        x->s.node && x->s.style == STYLE_TORCH ? node_get(x->s.node, STR("param_groups")) : NULL;
    if (!groups || !own || !n->parent || n->parent->parent != groups || !n->key ||
        n->key->kind != NODE_STR || is_params_list(n) || str_is(n->key->text, "param_names") ||
        groups->n_children != own->n_children)
        return NULL;
    const struct node *g = own->child;
    for (const struct node *k = groups->child; k != n->parent; k = k->next)
        g = g->next;
    return node_get(g, n->key->text);
}

/* What the source does not say of settings: named, with the skeleton's path. */
static enum status own_setting(struct builder *b, const struct node *n)
{
    struct str path = STR("");
    const struct node *chain[64];
    size_t k = 0;
    if (n->child || n->kind == NODE_NIL || n->kind == NODE_DICT || n->kind == NODE_LIST ||
        n->kind == NODE_TUPLE || train_replaced(b->x, n, NULL))
        return ST_OK;
    for (; n->parent && k < 64; n = n->parent) {
        if (is_params_list(n) || (n->key && n->key->kind == NODE_OPAQUE) ||
            (n->key && str_is(n->key->text, "param_names")))
            return ST_OK;
        chain[k++] = n;
    }
    while (k-- > 0) {
        const struct node *key = chain[k]->key;
        uint64_t at = 0;
        for (const struct node *c = chain[k]->parent->child; c != chain[k]; c = c->next)
            at++;
        struct str seg = key && key->kind == NODE_STR
                             ? key->text
                             : arena_fmt(b->a, "%llu", (unsigned long long)at);
        path = path.n ? arena_fmt(b->a, "%.*s.%.*s", STR_ARG(path), STR_ARG(seg)) : seg;
    }
    if (!path.p)
        return err_nomem(b->e, 64);
    /* torch's schedulers go on from the rate they left, which only their own past tells */
    bool rate = b->x->schedule > 0 &&
                (str_ends(path, STR(".lr")) || str_find_str(path, STR("._last_lr."), 0) < path.n);
    return map_ledger(b->x->m, LEDGER_SYNTH, path, 0, !rate,
                      rate ? STR("the skeleton's own rate, not that of its schedule's position")
                           : STR("the skeleton's own value"),
                      b->e);
}

/* Copies a node without its children. */
static struct node *copy(struct builder *b, struct node *parent, const struct node *n,
                         const struct node *from)
{
    struct node *d = add(b, parent, from->kind, n->key);
    if (!d)
        return NULL;
    d->text = from->text;
    d->i = from->i;
    memcpy(d->bits, from->bits, sizeof d->bits);
    return d;
}

static enum status below(struct builder *b, const struct node *top, struct node *d)
{
    struct train *x = b->x;
    const struct model *like = x->m->o->like;
    const struct node *n = top->child;
    const struct node *fresh =
        x->to == STYLE_TORCH && x->k.node ? node_get(x->k.node, STR("state")) : NULL;
    while (n) {
        bool down = n->child != NULL;
        struct node *made = NULL;
        const struct node *own = source_setting(x, n);
        if (n->kind == NODE_TENSOR) {
            int64_t t = tensor_at(b, like->tensor[n->tensor].name);
            down = false;
            if (t >= 0 && !b->hung[t]) {
                made = copy(b, d, n, n);
                if (!made)
                    return err_nomem(b->e, sizeof *made);
                made->tensor = (uint32_t)t;
                b->hung[t] = true;
            }
        } else {
            made = copy(b, d, n, own && !own->child && !n->child ? own : n);
            if (!made)
                return err_nomem(b->e, sizeof *made);
            if (!own)
                TRY(own_setting(b, n));
            (void)train_replaced(x, n, made);
            if (n == fresh) {
                down = false;
                TRY(state(b, made));
            } else if (own && own->child && n->child) { /* betas */
                down = false;
                for (const struct node *c = own->child; c; c = c->next)
                    if (!copy(b, made, c, c))
                        return err_nomem(b->e, sizeof *c);
            }
        }
        if (down) {
            n = n->child;
            d = made;
            continue;
        }
        while (n != top && !n->next) {
            n = n->parent;
            d = n != top ? d->parent : d;
        }
        n = n == top ? NULL : n->next;
    }
    return ST_OK;
}

/* ---- names ---- */

static struct node *child_of(struct builder *b, struct node *parent, struct str key)
{
    /* names come sorted: it is the last, or new, or one of the few made before them */
    struct node *n = parent->last;
    size_t few = 64;
    if (n && n->kind == NODE_DICT && n->key->kind == NODE_STR && str_eq(n->key->text, key))
        return n;
    for (n = parent->child; n && few-- > 0; n = n->next)
        if (n->kind == NODE_DICT && n->key && n->key->kind == NODE_STR && str_eq(n->key->text, key))
            return n;
    struct node *k = text_key(b, key);
    return k ? add(b, parent, NODE_DICT, k) : NULL;
}

/* Hangs a tensor where its path says; EMPTY: a dict. */
static enum status hang_path(struct builder *b, struct node *root, struct str name, size_t tensor)
{
    struct path p;
    TRY(path_parse(name, b->a, &p, b->e));
    struct node *at = root;
    size_t n = tensor == EMPTY ? p.n : p.n - 1;
    for (size_t i = 0; i < n && at; i++)
        at = child_of(b, at, p.seg[i].key);
    if (!at)
        return err_nomem(b->e, sizeof *at);
    return tensor == EMPTY ? ST_OK : hang(b, at, p.seg[p.n - 1].key, (int64_t)tensor);
}

static enum status rest(struct builder *b, struct node *root)
{
    struct train *x = b->x;
    for (size_t i = 0; i < b->n; i++) {
        struct named *k = &b->list[i];
        if (b->hung[k->at])
            continue;
        if (x->to == STYLE_TORCH)
            TRY(hang(b, root, k->name, (int64_t)k->at));
        else
            TRY(hang_path(b, root, k->name, k->at));
    }
    return ST_OK;
}

static enum status chain(struct builder *b, struct node *root)
{
    struct train *x = b->x;
    for (size_t i = 0; x->chain && x->chain->state[i]; i++) {
        struct str name = arena_fmt(b->a, "%.*s.%zu", STR_ARG(x->root), i);
        if (!name.p)
            return err_nomem(b->e, 32);
        TRY(hang_path(b, root, name, EMPTY));
    }
    if (x->chain)
        return ST_OK;
    /* an optimizer that keeps nothing (plain SGD): two empty states */
    TRY(hang_path(b, root, STR("opt_state.0"), EMPTY));
    return hang_path(b, root, STR("opt_state.1"), EMPTY);
}

enum status train_tree(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    struct model *d = &m->p->dst;
    struct builder b = {.x = x, .a = m->a, .e = e, .n = d->n_tensors};
    const struct node *top = m->o->like ? m->o->like->tree : NULL;
    b.list = ARENA_ARRAY(m->tmp, struct named, b.n + 1);
    b.hung = ARENA_ARRAY(m->tmp, bool, b.n + 1);
    if (!b.list || !b.hung)
        return err_nomem(e, b.n * sizeof *b.list);
    for (size_t i = 0; i < b.n; i++)
        b.list[i] = (struct named){d->tensor[i].name, i};
    if (b.n)
        qsort(b.list, b.n, sizeof *b.list, by_name);
    if ((m->o->like && !top) || (x->to == STYLE_TORCH && !m->put.n && !top))
        return ST_OK; /* names alone say it */
    struct node *root = add(&b, NULL, top ? top->kind : NODE_DICT, NULL);
    if (!root)
        return err_nomem(e, sizeof *root);
    if (top) {
        root->text = top->text;
        TRY(below(&b, top, root));
    } else if (x->to == STYLE_TORCH) {
        TRY(torch_alone(&b, root));
    } else {
        TRY(chain(&b, root));
    }
    TRY(rest(&b, root));
    d->tree = root;
    return ST_OK;
}
