/* Legacy Keras HDF5 (`.h5`, `.hdf5`): what Keras 1 and 2, tf-keras and Keras 3's legacy path save.
 *
 *   whole model   attributes model_config, training_config (JSON), keras_version, backend; groups
 *                 model_weights and optimizer_weights
 *   weights only  the content of model_weights at the root
 *   model_weights attribute layer_names; a group a layer with attribute weight_names: paths inside
 *                 the group ("dense/kernel:0", Keras 3: "dense/kernel")
 *   lists above 64 KiB are split: weight_names0, weight_names1 ...
 *
 * A tensor's name is its path below model_weights, '.' between parts: dense.dense.kernel:0; the
 * optimizer's stand below optimizer_weights. Order is that of the lists, as loaders go by it. The
 * configs are attachments model_config.json and training_config.json.
 * Source: keras/src/legacy/saving/legacy_h5_format.py, tf_keras/src/saving/legacy/hdf5_format.py.
 *
 * Refused beside what format/hdf5_model.h refuses: keras-names (a list that names what is not
 * there, or a name twice; weights of a layer that its list leaves out).
 */
#include "codec/json.h"
#include "format/hdf5_model.h"
#include "format/keras_config.h"
#include "format/keras_write.h"
#include <stdlib.h>
#include <string.h>

static int bid(const struct source *s)
{
    return hdf5_model_look(s) == HDF5_LOOK_KERAS_H5 ? 90 : 0;
}

/* ---- lists of names ---- */

struct names { /* one part of a list, as an attribute has it */
    struct node *group;
    bool layers;
    uint64_t part;
    struct str *item;
    size_t n;
    uint64_t at; /* file offset of the attribute */
};
struct reader {
    struct hdf5_model x;
    struct buf names; /* struct names */
    uint64_t next;    /* order of what comes next */
};

/* "layer_names", "layer_names0" ... */
static bool is_list(struct str name, const char *what, uint64_t *part)
{
    struct str stem = str_from(what);
    *part = 0;
    return str_starts(name, stem) &&
           (name.n == stem.n || str_u64(str_sub(name, stem.n, name.n), part));
}

static enum status on_attr(void *ctx, struct hdf5_model *x, struct node *node, struct str path,
                           const struct hdf5_attr *a, bool *taken, struct err *e)
{
    struct reader *r = ctx;
    struct names n = {.group = node, .at = a->at};
    struct str text;
    n.layers = is_list(a->name, "layer_names", &n.part);
    if (n.layers || is_list(a->name, "weight_names", &n.part)) {
        *taken = true;
        TRY(hdf5_model_texts(x, a, &n.item, &n.n, e));
        buf_bytes(&r->names, &n, sizeof n);
        return buf_ok(&r->names, e);
    }
    bool config = str_is(a->name, "model_config"), training = str_is(a->name, "training_config");
    bool is_text =
        a->n_elems == 1 && (a->type.cls == HDF5_STRING || a->type.cls == HDF5_VLEN_STRING);
    if (path.n == 0 && (config || training) && is_text) {
        *taken = true;
        TRY(hdf5_text(&x->h, a, 0, &text, e));
        keras_config_scan(x->opt, text, a->at);
        return x->opt->weights_only
                   ? ST_OK
                   : keras_config_attach(x->m, config ? KERAS_MODEL_CONFIG : KERAS_TRAINING_CONFIG,
                                         text, e);
    }
    if (str_is(path, "model_weights") &&
        (str_is(a->name, "keras_version") || str_is(a->name, "backend")))
        for (size_t i = 0; i < x->m->n_meta; i++) /* the root's own came first */
            *taken = *taken || str_eq(x->m->meta[i].key, a->name);
    return ST_OK;
}

static int by_group(const void *a, const void *b)
{
    const struct names *x = a, *y = b;
    if (x->group != y->group)
        return (uintptr_t)x->group < (uintptr_t)y->group ? -1 : 1;
    if (x->layers != y->layers)
        return x->layers ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

/* The parts of a group's list, in order; they stand together. */
static struct names *list_of(const struct reader *r, const struct node *group, bool layers,
                             size_t *n)
{
    struct names *v = (struct names *)(void *)r->names.p;
    size_t lo = 0, hi = r->names.n / sizeof *v, all = hi;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        bool before = v[mid].group != group ? (uintptr_t)v[mid].group < (uintptr_t)group
                                            : v[mid].layers && !layers;
        if (before)
            lo = mid + 1;
        else
            hi = mid;
    }
    *n = 0;
    while (lo + *n < all && v[lo + *n].group == group && v[lo + *n].layers == layers)
        ++*n;
    return *n ? v + lo : v;
}

static enum status bad(const struct reader *r, const struct names *l, struct str name,
                       const char *why, struct err *e)
{
    (void)err_set(e, ST_INPUT, "keras-names", "%s", why);
    err_at(e, file_path(r->x.h.file), l->at);
    err_in(e, name.p, name.n);
    return ST_INPUT;
}

/* ---- order ----
 * A node's i is its place while the file is read: tensors and layers get theirs from the lists. */

#define UNSET INT64_MAX

static enum status place_weights(struct reader *r, struct node *group, struct err *e)
{
    size_t n;
    const struct names *l = list_of(r, group, false, &n);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < l[k].n; i++) {
            struct node *t = hdf5_model_find(group, l[k].item[i]);
            if (!t || t->kind != NODE_TENSOR)
                return bad(r, &l[k], l[k].item[i], "weight_names names no dataset of its group", e);
            if (t->i != UNSET)
                return bad(r, &l[k], l[k].item[i], "a weight is named twice", e);
            t->i = (int64_t)r->next++;
        }
    return ST_OK;
}

static enum status none_left(const struct reader *r, struct node *group, const struct names *l,
                             struct err *e)
{
    for (struct node *n = group; n; n = node_step(group, n))
        if (n->kind == NODE_TENSOR && n->i == UNSET)
            return bad(r, l, n->key->text, "weight_names leaves out a weight of its layer", e);
    return ST_OK;
}

static enum status place_layers(struct reader *r, struct node *w, struct err *e)
{
    size_t n;
    const struct names *l = list_of(r, w, true, &n);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < l[k].n; i++) {
            struct node *g = hdf5_model_find(w, l[k].item[i]);
            if (!g || g->kind != NODE_DICT || g == w)
                return bad(r, &l[k], l[k].item[i], "layer_names names no group", e);
            if (g->i != UNSET)
                return bad(r, &l[k], l[k].item[i], "a layer is named twice", e);
            g->i = (int64_t)r->next++;
            TRY(place_weights(r, g, e));
        }
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < l[k].n; i++)
            TRY(none_left(r, hdf5_model_find(w, l[k].item[i]), &l[k], e));
    struct node *top = node_get(w, STR("top_level_model_weights"));
    return top && top->kind == NODE_DICT && top->i == UNSET ? place_weights(r, top, e) : ST_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    if (x->i != y->i)
        return x->i < y->i ? -1 : 1;
    return str_cmp(x->key->text, y->key->text);
}

static enum status sort_children(struct node *g, struct buf *list, struct err *e)
{
    buf_clear(list);
    for (struct node *c = g->child; c; c = c->next)
        buf_bytes(list, &c, sizeof c);
    TRY(buf_ok(list, e));
    struct node **v = (struct node **)(void *)list->p;
    size_t n = list->n / sizeof *v;
    if (n)
        qsort(v, n, sizeof *v, by_place);
    for (size_t i = 0; i < n; i++)
        v[i]->next = i + 1 < n ? v[i + 1] : NULL;
    g->child = n ? v[0] : NULL;
    g->last = n ? v[n - 1] : NULL;
    return ST_OK;
}

/* A group stands where the first of what is in it stands. Groups are done from the last of a
 * preorder to the first, so what is in them is done before. */
static enum status sort_tree(struct node *root, struct err *e)
{
    struct buf groups = BUF_INIT, list = BUF_INIT;
    for (struct node *n = root; n; n = node_step(root, n))
        if (n->kind == NODE_DICT)
            buf_bytes(&groups, &n, sizeof n);
    enum status st = buf_ok(&groups, e);
    struct node **v = (struct node **)(void *)groups.p;
    for (size_t i = groups.n / sizeof *v; st == ST_OK && i-- > 0;) {
        st = sort_children(v[i], &list, e);
        if (v[i]->i == UNSET && v[i]->child)
            v[i]->i = v[i]->child->i;
    }
    buf_free(&groups);
    buf_free(&list);
    return st;
}

/* What stands in model_weights stands at the root of the names. */
static void lift(struct node *root, struct node *w)
{
    struct node *rest = NULL, **last = &rest;
    for (struct node *c = root->child, *next; c; c = next) {
        next = c->next;
        if (c == w)
            continue;
        c->next = NULL;
        *last = c;
        last = &c->next;
    }
    root->child = root->last = NULL;
    root->n_children = 0;
    for (struct node *from = w->child, *next; from; from = next) {
        next = from->next;
        node_add(root, from);
    }
    for (struct node *next; rest; rest = next) {
        next = rest->next;
        node_add(root, rest);
    }
}

static enum status layer_meta(struct reader *r, struct node *w, struct err *e)
{
    struct buf b = BUF_INIT;
    struct json_w j;
    size_t n;
    const struct names *l = list_of(r, w, true, &n);
    if (n == 0)
        return ST_OK;
    json_w_init(&j, &b, 0);
    json_w_array(&j);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < l[k].n; i++)
            json_w_str(&j, l[k].item[i]);
    json_w_array_end(&j);
    enum status st = buf_ok(&b, e);
    struct str text = st == ST_OK ? arena_str(&r->x.m->arena, b.p, b.n) : STR_NONE;
    buf_free(&b);
    TRY(st);
    return text.p ? model_meta_add(r->x.m, STR("layer_names[]"), text, e) : err_nomem(e, 64);
}

static enum status settle(struct reader *r, struct node *root, struct err *e)
{
    struct model *m = r->x.m;
    struct node *w = node_get(root, STR("model_weights"));
    struct node *opt = node_get(root, STR("optimizer_weights"));
    if (r->names.n)
        qsort(r->names.p, r->names.n / sizeof(struct names), sizeof(struct names), by_group);
    for (struct node *k = root; k; k = node_step(root, k))
        k->i = UNSET;
    if (!w || w->kind != NODE_DICT)
        w = root;
    TRY(place_layers(r, w, e));
    if (w != root && opt && opt->kind == NODE_DICT)
        TRY(place_weights(r, opt, e));
    for (struct node *k = root; k; k = node_step(root, k))
        if (k->kind == NODE_TENSOR) {
            if (k->i == UNSET)
                k->i = (int64_t)r->next++;
            m->tensor[k->tensor].order = (uint64_t)k->i;
        }
    TRY(layer_meta(r, w, e));
    TRY(sort_tree(root, e));
    for (struct node *k = root; k; k = node_step(root, k))
        k->i = 0;
    if (w != root)
        lift(root, w);
    return ST_OK;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct file *f = s->file;
    struct node *root = node_new(&m->arena, NODE_DICT);
    struct reader r = {.x = {.m = m, .opt = opt, .attr = on_attr}};
    if (!root)
        return err_nomem(e, sizeof *root);
    r.x.ctx = &r;
    s->file = NULL;
    m->format = "keras-h5";
    m->framework = STR("keras");
    TRY(model_own_file(m, f, e));
    enum status st = hdf5_model_read(&r.x, f, 0, file_size(f), root, e);
    if (st == ST_OK)
        st = settle(&r, root, e);
    buf_free(&r.names);
    TRY(st);
    return hdf5_model_finish(m, &root, 1, e);
}

/* ---- writing ---- */

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct keras_layout x = {0};
    (void)opt;
    enum status st = keras_lay_out(m, KERAS_LEGACY, NULL, &a, &x, e);
    keras_layout_free(&x);
    arena_free(&a);
    return st;
}

static enum status begin(struct writer *w, struct err *e)
{
    struct keras_layout x = {0};
    int id;
    enum status st = keras_lay_out(w->m, KERAS_LEGACY, NULL, &w->arena, &x, e);
    if (st == ST_OK)
        st = out_add(w->out, STR(""), x.end, &id, e);
    if (st == ST_OK)
        st = keras_put(w, &x, id, 0, 0, e);
    keras_layout_free(&x);
    return st;
}

static enum status end(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}

const struct format keras_h5_format = {
    .name = "keras-h5",
    .title = "Keras HDF5 of Keras 1 and 2, tf-keras and Keras 3: whole models and weights",
    .suffix = {".h5", ".hdf5", NULL},
    .reads = true,
    .writes = true,
    .tree = true,
    .aliases = true,
    .keeps = {KERAS_MODEL_CONFIG, KERAS_TRAINING_CONFIG},
    .keeps_meta = {"*"},
    .refuses = "what keras-weights refuses; lists of names that the groups do not bear out",
    .bid = bid,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
};
