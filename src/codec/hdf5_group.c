/* HDF5: the links of a group.
 *
 *   old:     TREE (type 0) over SNOD nodes of 40-byte entries; names in a local heap (HEAP)
 *   compact: link messages in the object header
 *   dense:   link messages in a fractal heap, found through a B-tree of version 2
 *
 * Refused: hdf5-btree (type, level), hdf5-name (empty, "." or with '/'), hdf5-name-twice,
 * hdf5-heap, hdf5-signature, hdf5-version.
 */
#include "codec/hdf5_int.h"
#include <stdlib.h>
#include <string.h>

struct list {
    struct hdf5 *h;
    struct hdf5_link *first, **last;
    size_t n;
};

static enum status add(struct list *x, struct hdf5_link *l, struct err *e)
{
    bool ok = l->name.n > 0 && !str_is(l->name, ".") && !str_is(l->name, "..") &&
              str_find(l->name, '/', 0) == l->name.n && str_find(l->name, 0, 0) == l->name.n;
    if (!ok) {
        (void)err_set(e, ST_INPUT, "hdf5-name", "a link's name is no part of a path");
        err_at(e, file_path(x->h->file), l->at);
        return ST_INPUT;
    }
    *x->last = l;
    x->last = &l->next;
    x->n++;
    return ST_OK;
}

/* ---- old groups ---- */

struct tree_node {
    uint64_t addr;
    int level; /* as its parent wants it; -1: the root, any */
};

static enum status entry(struct list *x, struct h5_block *b, const struct h5_names *names,
                         struct err *e)
{
    struct hdf5_link *l = ARENA_NEW(x->h->arena, struct hdf5_link);
    if (!l)
        return err_nomem(e, sizeof *l);
    l->at = b->c.base + b->c.pos;
    uint64_t name = h5_addr(x->h, &b->c);
    l->addr = h5_addr(x->h, &b->c);
    uint32_t cache = cur_u32(&b->c);
    cur_skip(&b->c, 4);
    uint32_t soft = cur_u32(&b->c);
    cur_skip(&b->c, 12);
    TRY(cur_ok(&b->c, e));
    TRY(h5_name(x->h, names, name, &l->name, e));
    if (cache == 2) {
        l->kind = HDF5_SOFT;
        TRY(h5_name(x->h, names, soft, &l->target, e));
    }
    return add(x, l, e);
}

static enum status symbols(struct list *x, uint64_t addr, const struct h5_names *names,
                           struct err *e)
{
    struct h5_block b;
    TRY(h5_load(x->h, addr, 8, &b, e));
    uint64_t n = h5_uint_at(b.p + 6, 2);
    h5_free(&b);
    TRY(h5_load(x->h, addr, 8 + n * (2ull * x->h->off_n + 24), &b, e));
    enum status st = h5_begins(&b, "SNOD", 1, e);
    cur_skip(&b.c, 3);
    for (uint64_t i = 0; st == ST_OK && i < n; i++)
        st = entry(x, &b, names, e);
    h5_free(&b);
    return st;
}

static enum status tree_node(struct list *x, const struct tree_node *t, struct buf *todo,
                             const struct h5_names *names, struct err *e)
{
    struct hdf5 *h = x->h;
    struct h5_block b;
    unsigned level;
    uint64_t n;
    if (t->level == -2)
        return symbols(x, t->addr, names, e);
    TRY(h5_tree_head(h, t->addr, 0, t->level, &level, &n, e));
    TRY(h5_load(h, t->addr, 8 + 2ull * h->off_n + n * (h->off_n + h->len_n), &b, e));
    cur_skip(&b.c, 8 + 2ull * h->off_n);
    for (uint64_t i = 0; i < n; i++) {
        struct tree_node child = {.level = level ? (int)level - 1 : -2};
        (void)h5_len(h, &b.c);
        child.addr = h5_addr(h, &b.c);
        buf_bytes(todo, &child, sizeof child);
    }
    enum status st = cur_ok(&b.c, e);
    h5_free(&b);
    TRY(st);
    return buf_ok(todo, e);
}

static enum status old_links(struct list *x, const struct hdf5_object *g, struct err *e)
{
    struct h5_names names;
    struct buf todo = BUF_INIT;
    struct tree_node t = {g->tree_, -1};
    TRY(h5_names_open(x->h, g->heap_, &names, e));
    buf_bytes(&todo, &t, sizeof t);
    enum status st = buf_ok(&todo, e);
    while (st == ST_OK && todo.n) {
        todo.n -= sizeof t;
        memcpy(&t, todo.p + todo.n, sizeof t);
        st = tree_node(x, &t, &todo, &names, e);
    }
    buf_free(&todo);
    h5_free(&names.block);
    return st;
}

/* ---- dense groups ---- */

struct dense {
    struct list *x;
    struct h5_heap heap;
};

static enum status dense_link(void *ctx, const uint8_t *rec, size_t n, uint64_t at, struct err *e)
{
    struct dense *d = ctx;
    struct h5_block own = {0};
    struct cursor c;
    struct hdf5_link *l;
    (void)at;
    if (n < (size_t)d->heap.id_n + 4)
        return h5_fail(d->x->h, 0, e, "hdf5-btree", "records too short for a heap id");
    TRY(h5_heap_get(d->x->h, &d->heap, rec + 4, &own, &c, e));
    enum status st = h5_link(d->x->h, &c, &l, e);
    h5_free(&own);
    TRY(st);
    return add(d->x, l, e);
}

static enum status dense_links(struct list *x, const struct hdf5_object *g, struct err *e)
{
    struct dense d = {.x = x};
    enum status st = h5_heap_open(x->h, g->link_heap_, &d.heap, e);
    if (st == ST_OK)
        st = h5_btree2(x->h, g->link_tree_, 5, dense_link, &d, e);
    h5_heap_close(&d.heap);
    return st;
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b)
{
    return str_cmp((*(struct hdf5_link *const *)a)->name, (*(struct hdf5_link *const *)b)->name);
}

static enum status sorted(struct list *x, struct err *e)
{
    struct hdf5_link **v = ARENA_ARRAY(x->h->arena, struct hdf5_link *, x->n + 1);
    size_t n = 0;
    if (!v)
        return err_nomem(e, x->n * sizeof *v);
    for (struct hdf5_link *l = x->first; l; l = l->next)
        v[n++] = l;
    if (n)
        qsort(v, n, sizeof *v, by_name);
    for (size_t i = 0; i < n; i++) {
        v[i]->next = i + 1 < n ? v[i + 1] : NULL;
        if (i && str_eq(v[i]->name, v[i - 1]->name)) {
            (void)err_set(e, ST_INPUT, "hdf5-name-twice", "a name stands twice in its group");
            err_at(e, file_path(x->h->file), v[i]->at > v[i - 1]->at ? v[i]->at : v[i - 1]->at);
            err_in(e, v[i]->name.p, v[i]->name.n);
            return ST_INPUT;
        }
    }
    x->first = n ? v[0] : NULL;
    return ST_OK;
}

enum status hdf5_links(struct hdf5 *h, const struct hdf5_object *g, struct hdf5_link **list,
                       size_t *n, struct err *e)
{
    struct list x = {.h = h};
    x.last = &x.first;
    if (g->tree_ != HDF5_UNDEF || g->heap_ != HDF5_UNDEF)
        TRY(old_links(&x, g, e));
    for (struct hdf5_link *l = g->link_, *next; l; l = next) {
        next = l->next;
        l->next = NULL;
        TRY(add(&x, l, e));
    }
    if (g->link_heap_ != HDF5_UNDEF && g->link_tree_ != HDF5_UNDEF)
        TRY(dense_links(&x, g, e));
    TRY(sorted(&x, e));
    *list = x.first;
    *n = x.n;
    return ST_OK;
}
