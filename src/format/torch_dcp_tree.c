/* The saved object's structure, from the paths of planner_data: keys and list places, which the
 * planner of torch turned into one name each. Keys that were numbers are text there. Without paths
 * the names stay flat.
 */
#include "base/mem.h"
#include "format/torch_dcp.h"

/* (parent, key) -> node: open addressing. */
struct slot {
    struct node *node;
    bool made; /* here: a container that paths lead through */
};
struct tree {
    struct dcp *d;
    struct slot *slot;
    size_t cap;
};

static struct slot *find(struct tree *t, const struct node *parent, struct str key)
{
    size_t at = str_hash(key, (uint64_t)(uintptr_t)parent) & (t->cap - 1);
    for (;; at = (at + 1) & (t->cap - 1)) {
        const struct node *n = t->slot[at].node;
        if (!n || (n->parent == parent && n->key && str_eq(n->key->text, key)))
            return &t->slot[at];
    }
}

/* Keys of list places are kept until the tree stands: a list must have all its places in order. */
static enum status hang(struct tree *t, struct node *parent, struct str key, struct slot *at,
                        struct node *n, struct err *e)
{
    struct arena *a = &t->d->m->arena;
    n->key = node_new(a, NODE_STR);
    struct str text = arena_str(a, key.p, key.n);
    if (!n->key || !text.p)
        return err_nomem(e, key.n);
    n->key->text = text;
    node_add(parent, n);
    at->node = n;
    return ST_OK;
}

static enum status path_key(struct dcp *d, uint32_t v, struct str *out, bool *place, struct err *e)
{
    const struct pickle *p = &d->meta.pk;
    uint64_t i;
    *place = pk_u64(p, v, &i);
    *out = *place ? arena_fmt(&d->scratch, "%llu", (unsigned long long)i) : pk_text(p, v);
    if (!*place && pk_kind(p, v) != PK_STR)
        return pickle_fail(p, v, "dcp-metadata", e, "a path of neither keys nor places");
    return out->p ? ST_OK : err_nomem(e, 24);
}

static enum status clash(struct dcp *d, const struct dcp_item *it, struct err *e)
{
    (void)err_set(e, ST_INPUT, "dcp-metadata", "two values at one place of the structure");
    err_at(e, file_path(d->decl), it->at);
    err_in(e, it->name.p, it->name.n);
    return ST_INPUT;
}

static enum status insert(struct tree *t, struct node *root, const struct dcp_item *it,
                          struct err *e)
{
    struct dcp *d = t->d;
    const struct pickle *p = &d->meta.pk;
    struct node *here = root;
    if (!it->path) {
        struct slot *at = find(t, root, it->name);
        return at->node ? clash(d, it, e) : hang(t, root, it->name, at, it->node, e);
    }
    for (uint32_t c = pk_at(p, it->path)->seq.head; c; c = p->cell[c].next) {
        struct str key, ahead;
        bool place, below;
        TRY(path_key(d, p->cell[c].val, &key, &place, e));
        struct slot *at = find(t, here, key);
        if (!p->cell[c].next)
            return at->node ? clash(d, it, e) : hang(t, here, key, at, it->node, e);
        if (!at->node) {
            TRY(path_key(d, p->cell[p->cell[c].next].val, &ahead, &below, e));
            struct node *next = node_new(&d->m->arena, below ? NODE_LIST : NODE_DICT);
            if (!next)
                return err_nomem(e, sizeof *next);
            next->offset = it->at;
            at->made = true;
            TRY(hang(t, here, key, at, next, e));
        } else if (!at->made) {
            return clash(d, it, e);
        }
        here = at->node;
    }
    return ST_OK;
}

/* A list whose places are all there, in order, loses its keys; any other is a dict. */
static void settle(struct node *list)
{
    uint64_t i = 0, said;
    for (const struct node *c = list->child; c; c = c->next)
        if (!str_u64(c->key->text, &said) || said != i++) {
            list->kind = NODE_DICT;
            return;
        }
    for (struct node *c = list->child; c; c = c->next)
        c->key = NULL;
}

static size_t segments(const struct dcp *d)
{
    size_t n = 16;
    for (size_t i = 0; i < d->n_items; i++)
        n += d->item[i].path ? pk_count(&d->meta.pk, d->item[i].path) : 1;
    return n;
}

enum status dcp_tree(struct dcp *d, struct err *e)
{
    struct tree t = {.d = d, .cap = 64};
    struct node *root = node_new(&d->m->arena, NODE_DICT);
    while (t.cap < 2 * segments(d))
        t.cap *= 2;
    t.slot = mem_zalloc(t.cap, sizeof *t.slot);
    enum status st = root && t.slot ? ST_OK : err_nomem(e, t.cap * sizeof *t.slot);
    for (size_t i = 0; i < d->n_items && st == ST_OK; i++)
        if (d->item[i].node)
            st = insert(&t, root, &d->item[i], e);
    mem_free(t.slot);
    TRY(st);
    d->m->tree = root;
    /* bytes entries hold lists of their own, without keys */
    for (struct node *n = root; n; n = node_step(root, n))
        if (n->kind == NODE_LIST && n->child && n->child->key)
            settle(n);
    return ST_OK;
}
