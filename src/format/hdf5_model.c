/* See hdf5_model.h. */
#include "format/hdf5_model.h"
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/json.h"
#include "format/hdf5_tensor.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define MAX_NODES 262144u
#define NAME_MAX_BYTES 65535u

/* ---- attributes ---- */

static bool is_text(const struct hdf5_attr *a)
{
    return a->type.cls == HDF5_STRING || a->type.cls == HDF5_VLEN_STRING;
}

enum status hdf5_model_texts(struct hdf5_model *x, const struct hdf5_attr *a, struct str **item,
                             size_t *n, struct err *e)
{
    *n = 0;
    *item = NULL;
    if (a->n_elems == 0)
        return ST_OK;
    if (!is_text(a)) {
        (void)err_set(e, ST_INPUT, "hdf5-attribute", "a list of names that is no list of texts");
        err_at(e, file_path(x->h.file), a->at);
        return ST_INPUT;
    }
    *item = ARENA_ARRAY(&x->m->arena, struct str, a->n_elems);
    if (!*item)
        return err_nomem(e, a->n_elems * sizeof **item);
    for (uint64_t i = 0; i < a->n_elems; i++)
        TRY(hdf5_text(&x->h, a, i, &(*item)[i], e));
    *n = (size_t)a->n_elems;
    return ST_OK;
}

static bool plain(struct str s)
{
    return str_utf8(s, NULL) && str_find(s, 0, 0) == s.n;
}

static enum status list_text(struct hdf5_model *x, const struct hdf5_attr *a, struct str *out,
                             bool *ok, struct err *e)
{
    struct buf b = BUF_INIT;
    struct json_w w;
    struct str *item;
    size_t n;
    TRY(hdf5_model_texts(x, a, &item, &n, e));
    json_w_init(&w, &b, 0);
    json_w_array(&w);
    *ok = true;
    for (size_t i = 0; i < n; i++) {
        *ok = *ok && plain(item[i]);
        json_w_str(&w, item[i]);
    }
    json_w_array_end(&w);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        *out = arena_str(&x->m->arena, b.p, b.n);
    buf_free(&b);
    return st == ST_OK && !out->p ? err_nomem(e, 64) : st;
}

static enum status to_meta(struct hdf5_model *x, struct str path, const struct hdf5_attr *a,
                           struct err *e)
{
    struct str value = STR_NONE;
    bool list = a->space.rank > 0, ok = is_text(a) && !a->space.null && plain(a->name);
    if (ok && list)
        TRY(list_text(x, a, &value, &ok, e));
    else if (ok)
        TRY(hdf5_text(&x->h, a, 0, &value, e));
    if (!ok || (!list && !plain(value))) {
        if (x->n_noted_++ < 8)
            log_note("%s: the attribute '%.*s' of '%.*s' is no text and left aside",
                     file_path(x->h.file), STR_ARG(a->name), STR_ARG(path));
        return ST_OK;
    }
    struct str key = arena_fmt(&x->m->arena, "%.*s%s%.*s%s", STR_ARG(path), path.n ? "@" : "",
                               STR_ARG(a->name), list ? "[]" : "");
    return key.p ? model_meta_add(x->m, key, value, e) : err_nomem(e, 64);
}

static enum status attributes(struct hdf5_model *x, struct node *node, struct str path,
                              const struct hdf5_object *o, struct err *e)
{
    for (const struct hdf5_attr *a = o->attr; a; a = a->next) {
        bool taken = false;
        if (x->attr)
            TRY(x->attr(x->ctx, x, node, path, a, &taken, e));
        if (!taken)
            TRY(to_meta(x, path, a, e));
    }
    return ST_OK;
}

/* ---- the tree ---- */

struct frame {
    struct node *node;
    struct hdf5_link *next;
    uint64_t addr;
    size_t path_n; /* of the group's path */
};
struct walk {
    struct hdf5_model *x;
    struct frame at[HDF5_DEPTH + 1];
    size_t depth;
    struct buf path; /* of the object in turn */
};

static enum status bad_link(struct hdf5_model *x, const struct hdf5_link *l, struct str path,
                            struct err *e)
{
    const char *what = l->kind == HDF5_SOFT ? "a soft link to" : "a link into another file,";
    char text[300];
    (void)err_escape(l->target.p ? l->target.p : "", l->target.n < 200 ? l->target.n : 200, text,
                     sizeof text);
    if (x->opt->scan && x->opt->finding) {
        struct str s = arena_fmt(&x->m->arena, "%.*s is %s '%s'", STR_ARG(path), what, text);
        if (!s.p)
            return err_nomem(e, 64);
        x->opt->finding(x->opt->finding_ctx, true, "hdf5-link", l->at, s.p);
        return ST_OK;
    }
    (void)err_set(e, ST_INPUT, "hdf5-link", "%s '%s' is not followed", what, text);
    err_at(e, file_path(x->h.file), l->at);
    err_in(e, path.p, path.n);
    return ST_INPUT;
}

static enum status child(struct walk *w, const struct hdf5_link *l, enum node_kind kind,
                         struct node **out, struct err *e)
{
    struct hdf5_model *x = w->x;
    if (x->n_nodes_++ == MAX_NODES) {
        (void)err_set(e, ST_INPUT, "too-many-nodes", "more than %u groups and datasets", MAX_NODES);
        err_at(e, file_path(x->h.file), l->at);
        return ST_INPUT;
    }
    struct node *n = node_new(&x->m->arena, kind);
    if (!n || !(n->key = node_new(&x->m->arena, NODE_STR)))
        return err_nomem(e, 2 * sizeof *n);
    n->key->text = l->name;
    n->offset = l->at;
    node_add(w->at[w->depth - 1].node, n);
    *out = n;
    return ST_OK;
}

static int by_number(const void *a, const void *b)
{
    struct str x = (*(struct hdf5_link *const *)a)->name;
    struct str y = (*(struct hdf5_link *const *)b)->name;
    return x.n != y.n ? (x.n < y.n ? -1 : 1) : str_cmp(x, y);
}

/* 0, 1, 2 ... 10: variables stand by number. */
static enum status numbered(struct hdf5_link **first, size_t n, struct err *e)
{
    uint64_t v;
    for (const struct hdf5_link *l = *first; l; l = l->next)
        if (!str_u64(l->name, &v))
            return ST_OK;
    struct hdf5_link **list = mem_alloc((n + 1) * sizeof *list);
    if (!list)
        return err_nomem(e, n * sizeof *list);
    n = 0;
    for (struct hdf5_link *l = *first; l; l = l->next)
        list[n++] = l;
    if (n)
        qsort(list, n, sizeof *list, by_number);
    for (size_t i = 0; i < n; i++)
        list[i]->next = i + 1 < n ? list[i + 1] : NULL;
    *first = n ? list[0] : NULL;
    mem_free(list);
    return ST_OK;
}

static enum status enter(struct walk *w, struct node *n, const struct hdf5_object *o, uint64_t at,
                         struct err *e)
{
    struct hdf5_model *x = w->x;
    struct str path = buf_as_str(&w->path);
    const char *code = w->depth > HDF5_DEPTH ? "hdf5-depth" : NULL;
    for (size_t i = 0; i < w->depth; i++)
        if (w->at[i].addr == o->addr)
            code = "hdf5-loop";
    if (code) {
        (void)err_set(e, ST_INPUT, code, "groups that hold themselves, or more than %d deep",
                      HDF5_DEPTH);
        err_at(e, file_path(x->h.file), at);
        return ST_INPUT;
    }
    struct frame *f = &w->at[w->depth++];
    size_t count;
    *f = (struct frame){.node = n, .addr = o->addr, .path_n = path.n};
    TRY(hdf5_links(&x->h, o, &f->next, &count, e));
    TRY(numbered(&f->next, count, e));
    return attributes(x, n, path, o, e);
}

static enum status visit(struct walk *w, const struct hdf5_link *l, struct err *e)
{
    struct hdf5_model *x = w->x;
    struct hdf5_object o;
    struct node *n = NULL;
    struct str path = buf_as_str(&w->path);
    if (l->kind != HDF5_HARD)
        return bad_link(x, l, path, e);
    if (path.n > NAME_MAX_BYTES) {
        (void)err_set(e, ST_INPUT, "bad-name", "a path of %zu bytes", path.n);
        err_at(e, file_path(x->h.file), l->at);
        return ST_INPUT;
    }
    TRY(hdf5_object(&x->h, l->addr, &o, e));
    if (o.kind == HDF5_NEITHER) /* a committed datatype */
        return ST_OK;
    TRY(child(w, l, o.kind == HDF5_GROUP ? NODE_DICT : NODE_TENSOR, &n, e));
    if (o.kind == HDF5_GROUP)
        return enter(w, n, &o, l->at, e);
    TRY(hdf5_tensor_add(x->m, &x->h, &o, e));
    n->tensor = (uint32_t)(x->m->n_tensors - 1);
    for (struct hdf5_attr **a = &o.attr; *a; a = &(*a)->next)
        if (hdf5_tensor_took(&o, *a)) {
            *a = (*a)->next;
            break;
        }
    return attributes(x, n, path, &o, e);
}

static enum status walk(struct walk *w, struct err *e)
{
    while (w->depth) {
        struct frame *f = &w->at[w->depth - 1];
        const struct hdf5_link *l = f->next;
        if (!l) {
            w->depth--;
            continue;
        }
        f->next = l->next;
        w->path.n = f->path_n;
        if (w->path.n)
            buf_u8(&w->path, '/');
        buf_str(&w->path, l->name);
        TRY(buf_ok(&w->path, e));
        enum status st = visit(w, l, e);
        if (st != ST_OK) {
            err_in(e, (const char *)w->path.p, w->path.n);
            return st;
        }
    }
    return ST_OK;
}

enum status hdf5_model_read(struct hdf5_model *x, struct file *f, uint64_t lo, uint64_t n,
                            struct node *root, struct err *e)
{
    struct hdf5_object o;
    TRY(hdf5_open(f, lo, n, &x->m->arena, &x->h, e));
    struct walk *w = ARENA_NEW(&x->m->arena, struct walk);
    if (!w) {
        hdf5_close(&x->h);
        return err_nomem(e, sizeof *w);
    }
    w->x = x;
    enum status st = hdf5_object(&x->h, x->h.root, &o, e);
    if (st == ST_OK && o.kind != HDF5_GROUP) {
        st = err_set(e, ST_INPUT, "hdf5-header", "the root is no group");
        err_at(e, file_path(f), o.at);
    }
    if (st == ST_OK)
        st = enter(w, root, &o, o.at, e);
    if (st == ST_OK)
        st = walk(w, e);
    buf_free(&w->path);
    hdf5_close(&x->h);
    return st;
}

struct node *hdf5_model_find(struct node *root, struct str path)
{
    struct str part;
    while (root && str_split(&path, '/', &part))
        root = part.n ? node_get(root, part) : root;
    return root;
}

/* ---- finishing ---- */

static int by_order(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    if (x->decl != y->decl)
        return (uintptr_t)x->decl < (uintptr_t)y->decl ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Hard links to one dataset: one object header, so one storage. */
static enum status share(struct model *m, struct err *e)
{
    const struct tensor **v = ARENA_ARRAY(&m->arena, const struct tensor *, m->n_tensors + 1);
    if (!v)
        return err_nomem(e, m->n_tensors * sizeof *v);
    for (size_t i = 0; i < m->n_tensors; i++)
        v[i] = &m->tensor[i];
    if (m->n_tensors)
        qsort(v, m->n_tensors, sizeof *v, by_place);
    for (size_t i = 1; i < m->n_tensors; i++)
        if (by_place(&v[i - 1], &v[i]) == 0)
            m->tensor[v[i] - m->tensor].storage = v[i - 1]->storage;
    return ST_OK;
}

static enum status name_all(struct model *m, struct node *root, struct err *e)
{
    struct seg seg[2 * HDF5_DEPTH + 8];
    size_t depth = 0;
    for (struct node *n = root;;) {
        if (n->kind == NODE_DICT && n->child) {
            n = n->child;
            depth++;
        } else {
            while (n != root && !n->next) {
                n = n->parent;
                depth--;
            }
            if (n == root)
                return ST_OK;
            n = n->next;
        }
        seg[depth - 1] = (struct seg){.kind = SEG_KEY, .key = n->key->text};
        if (n->kind == NODE_TENSOR) {
            struct path path = {seg, depth};
            TRY(path_print(&path, &m->arena, &m->tensor[n->tensor].name, e));
        }
    }
}

enum status hdf5_model_finish(struct model *m, struct node *const *root, size_t n_roots,
                              struct err *e)
{
    uint32_t *to = ARENA_ARRAY(&m->arena, uint32_t, m->n_tensors + 1);
    if (!to)
        return err_nomem(e, m->n_tensors * sizeof *to);
    TRY(share(m, e));
    for (size_t i = 0; i < m->n_tensors; i++)
        m->tensor[i].of = (int64_t)i; /* where it stood */
    if (m->n_tensors)
        qsort(m->tensor, m->n_tensors, sizeof *m->tensor, by_order);
    for (size_t i = 0; i < m->n_tensors; i++) {
        to[m->tensor[i].of] = (uint32_t)i;
        m->tensor[i].of = -1;
        m->tensor[i].order = i;
    }
    for (size_t k = 0; k < n_roots; k++) {
        for (struct node *n = root[k]; n; n = node_step(root[k], n))
            if (n->kind == NODE_TENSOR)
                n->tensor = to[n->tensor];
        TRY(name_all(m, root[k], e));
    }
    m->tree = n_roots == 1 ? root[0] : NULL;
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}

/* ---- bids ---- */

static bool keras_root(struct hdf5 *h, const struct hdf5_object *o)
{
    struct hdf5_link *l;
    struct err quiet;
    size_t n;
    if (hdf5_attr(o, "layer_names") || hdf5_attr(o, "layer_names0") || hdf5_attr(o, "model_config"))
        return true;
    if (hdf5_links(h, o, &l, &n, &quiet) != ST_OK)
        return false;
    for (; l; l = l->next)
        if (str_is(l->name, "model_weights"))
            return true;
    return false;
}

enum hdf5_look hdf5_model_look(const struct source *s)
{
    struct arena a = ARENA_INIT;
    struct hdf5 h = {0};
    struct hdf5_object o;
    struct err quiet;
    enum hdf5_look look = HDF5_LOOK_NONE;
    if (s->dir)
        return look;
    bool sure = hdf5_is(s->head, s->head_n);
    for (size_t at = 512; !sure && at + 8 <= s->head_n; at *= 2)
        sure = hdf5_is(s->head + at, 8);
    if (!sure)
        return look;
    if (hdf5_open(s->file, 0, file_size(s->file), &a, &h, &quiet) != ST_OK ||
        hdf5_object(&h, h.root, &o, &quiet) != ST_OK)
        look = HDF5_LOOK_BAD;
    else
        look = keras_root(&h, &o) ? HDF5_LOOK_KERAS_H5 : HDF5_LOOK_ANY;
    hdf5_close(&h);
    arena_free(&a);
    return look;
}
