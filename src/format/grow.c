/* See grow.h. All walks are iterative: by parent and sibling, with a place per level. */
#include "format/grow.h"
#include "base/buf.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

struct walk {
    const struct node *root, *n;
    uint64_t index[GROW_MAX_DEPTH];
    struct seg seg[GROW_MAX_DEPTH];
    size_t depth; /* segments of n */
};

static enum status cannot(struct str name, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- walking ---- */

static bool is_attribute(const struct node *n)
{
    return n->key && n->key->kind == NODE_OPAQUE;
}

/* Text of n's key, or of its place, as readers make it. */
static enum status key_of(const struct walk *w, struct arena *a, struct str *out, struct err *e)
{
    const struct node *k = w->n->key;
    size_t bad;
    if (k && (k->kind == NODE_STR || (k->kind == NODE_BYTES && str_utf8(k->text, &bad))))
        *out = k->text;
    else if (k && k->kind == NODE_INT)
        *out = arena_fmt(a, "%lld", (long long)k->i);
    else if (k && k->kind == NODE_BIGINT)
        *out = k->text;
    else if (k && k->kind == NODE_BOOL)
        *out = k->i ? STR("True") : STR("False");
    else if (k && k->kind == NODE_NIL)
        *out = STR("None");
    else
        *out = arena_fmt(a, k ? "(key %llu)" : "%llu", (unsigned long long)w->index[w->depth - 1]);
    return out->p ? ST_OK : err_nomem(e, 24);
}

/* n becomes the next node in preorder, NULL at the end. Nothing below a tensor or an opaque node.
 */
static enum status walk_on(struct walk *w, struct arena *a, struct err *e)
{
    const struct node *n = w->n;
    bool closed = n->kind == NODE_TENSOR || n->kind == NODE_OPAQUE || is_attribute(n);
    if (!closed && n->child) {
        if (w->depth == GROW_MAX_DEPTH)
            return err_set(e, ST_CANNOT, "tree-depth", "the tree is deeper than %d",
                           GROW_MAX_DEPTH);
        w->index[w->depth++] = 0;
        w->n = n->child;
    } else {
        while (w->n != w->root && !w->n->next) {
            w->n = w->n->parent;
            w->depth--;
        }
        if (w->n == w->root) {
            w->n = NULL;
            return ST_OK;
        }
        w->n = w->n->next;
        w->index[w->depth - 1]++;
    }
    w->seg[w->depth - 1] = (struct seg){.kind = SEG_KEY};
    return key_of(w, a, &w->seg[w->depth - 1].key, e);
}

static struct str lone_name(void)
{
    return STR("arr_0");
}

/* Does every tensor stand in the tree once, where its name says? */
static enum status fits(const struct model *m, struct walk *w, struct arena *a, bool *ok,
                        struct err *e)
{
    uint8_t *seen = ARENA_ARRAY(a, uint8_t, m->n_tensors + 1);
    size_t n_seen = 0;
    if (!seen)
        return err_nomem(e, m->n_tensors);
    *ok = true;
    while (w->n && *ok) {
        if (w->n->kind == NODE_TENSOR && !is_attribute(w->n)) {
            struct path p = {w->seg, w->depth};
            struct str name = lone_name();
            if (w->depth)
                TRY(path_print(&p, a, &name, e));
            *ok = w->n->tensor < m->n_tensors && !seen[w->n->tensor]++ &&
                  str_eq(name, m->tensor[w->n->tensor].name);
            n_seen++;
        }
        TRY(walk_on(w, a, e));
    }
    *ok = *ok && n_seen == m->n_tensors;
    return ST_OK;
}

/* ---- growing ---- */

static int by_path(const void *pa, const void *pb)
{
    const struct grow_leaf *a = pa, *b = pb;
    for (size_t i = 0; i < a->path.n && i < b->path.n; i++) {
        int c = str_cmp(a->path.seg[i].key, b->path.seg[i].key);
        if (c)
            return c;
    }
    return a->path.n < b->path.n ? -1 : a->path.n > b->path.n;
}

static struct node *keyed(struct arena *a, struct node *parent, enum node_kind kind, struct str key)
{
    struct node *n = node_new(a, kind);
    if (!n || !(n->key = node_new(a, NODE_STR)))
        return NULL;
    n->key->text = key;
    node_add(parent, n);
    return n;
}

/* A leaf's value: everything but its place. An empty container stays one. */
static void copy_leaf(struct node *to, const struct grow_leaf *from)
{
    to->tensor = from->tensor;
    if (!from->leaf)
        return;
    to->kind = from->leaf->kind;
    to->text = from->leaf->text;
    to->i = from->leaf->i;
    memcpy(to->bits, from->leaf->bits, sizeof to->bits);
}

static enum status hang(struct arena *a, struct node *root, const struct grow_leaf *x, size_t n,
                        struct err *e)
{
    struct node *at = root; /* the leaf added last, or the root */
    size_t depth = 0;       /* of `at` */
    for (size_t i = 0; i < n; i++) {
        const struct path *p = &x[i].path;
        size_t same = 0;
        while (i && same < p->n && same < x[i - 1].path.n &&
               str_eq(p->seg[same].key, x[i - 1].path.seg[same].key))
            same++;
        if (i && (same == p->n || same == x[i - 1].path.n))
            return cannot(x[i].name, "name-prefix",
                          "one name is the path of another: a tree cannot hold both", e);
        for (; depth > same; depth--)
            at = at->parent;
        for (; depth < p->n; depth++) {
            at = keyed(a, at, depth + 1 == p->n ? NODE_TENSOR : NODE_DICT, p->seg[depth].key);
            if (!at)
                return err_nomem(e, sizeof *at);
        }
        copy_leaf(at, &x[i]);
    }
    return ST_OK;
}

enum status grow_path(struct grow_leaf *x, struct arena *a, size_t most, struct err *e)
{
    bool ok;
    TRY(path_round_trips(x->name, a, &ok, e));
    if (!ok)
        return cannot(x->name, "name", "a tree cannot spell this name", e);
    TRY(path_parse(x->name, a, &x->path, e));
    return x->path.n > most ? cannot(x->name, "name", "the name has too many parts", e) : ST_OK;
}

enum status grow_dicts(struct arena *a, struct grow_leaf *list, size_t n, struct node **out,
                       struct err *e)
{
    *out = node_new(a, NODE_DICT);
    if (!*out)
        return err_nomem(e, sizeof **out);
    if (n)
        qsort(list, n, sizeof *list, by_path);
    return hang(a, *out, list, n, e);
}

static enum status name_entries(const struct model *m, struct arena *a, struct buf *list,
                                struct err *e)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct grow_leaf x = {.tensor = (uint32_t)i, .name = m->tensor[i].name};
        TRY(grow_path(&x, a, GROW_MAX_DEPTH, e));
        buf_bytes(list, &x, sizeof x);
    }
    return buf_ok(list, e);
}

/* The tree's other leaves, by the keys above them; a key's dots are parts here, as in the names. */
static enum status leaf_entries(struct walk *w, struct arena *a, struct buf *list, struct err *e)
{
    while (w->n) {
        const struct node *n = w->n;
        bool leaf = n->kind != NODE_TENSOR && n->kind != NODE_OPAQUE && !n->child && w->depth > 0;
        if (leaf && !is_attribute(n)) {
            struct grow_leaf x = {.leaf = n};
            struct buf text = BUF_INIT;
            for (size_t i = 0; i < w->depth; i++) {
                if (i)
                    buf_u8(&text, '.');
                buf_str(&text, w->seg[i].key);
            }
            struct str s = arena_str(a, text.p ? text.p : (const uint8_t *)"", text.n);
            buf_free(&text);
            if (!s.p)
                return err_nomem(e, 64);
            x.name = s;
            TRY(path_parse(s, a, &x.path, e));
            if (x.path.n > GROW_MAX_DEPTH)
                return cannot(s, "tree-depth", "the tree is too deep", e);
            buf_bytes(list, &x, sizeof x);
        }
        TRY(walk_on(w, a, e));
    }
    return buf_ok(list, e);
}

static void walk_init(struct walk *w, const struct node *root)
{
    w->root = w->n = root;
    w->depth = 0;
}

static enum status work(const struct model *m, struct walk *w, struct arena *a, struct buf *list,
                        const struct node **out, struct err *e)
{
    struct node *root;
    if (m->tree) {
        bool ok = false;
        walk_init(w, m->tree);
        *out = m->tree;
        TRY(fits(m, w, a, &ok, e));
        if (ok)
            return ST_OK;
    }
    TRY(name_entries(m, a, list, e));
    if (m->tree) {
        walk_init(w, m->tree);
        TRY(leaf_entries(w, a, list, e));
    }
    TRY(grow_dicts(a, (struct grow_leaf *)(void *)list->p, list->n / sizeof(struct grow_leaf),
                   &root, e));
    *out = root;
    return ST_OK;
}

enum status grow_tree(const struct model *m, struct arena *a, const struct node **out,
                      struct err *e)
{
    struct buf list = BUF_INIT;
    struct walk *w = mem_alloc(sizeof *w);
    if (!w)
        return err_nomem(e, sizeof *w);
    enum status st = work(m, w, a, &list, out, e);
    buf_free(&list);
    mem_free(w);
    return st;
}
