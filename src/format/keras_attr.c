/* See keras_attr.h. Source: keras/src/legacy/saving/legacy_h5_format.py. */
#include "format/keras_attr.h"
#include "codec/json.h"
#include "format/keras_config.h"
#include <stdlib.h>
#include <string.h>

#define LAYERS "layer_names[]"

enum status keras_attr_text(struct hdf5_wnode *n, struct arena *a, struct str name, struct str text,
                            struct err *e)
{
    struct hdf5_wattr *w = ARENA_NEW(a, struct hdf5_wattr);
    if (!w)
        return err_nomem(e, sizeof *w);
    struct hdf5_wattr **last = &n->attr;
    for (; *last; last = &(*last)->next)
        if (str_eq((*last)->name, name))
            return ST_OK;
    w->name = name;
    w->text = text;
    *last = w;
    return ST_OK;
}

static enum status list(struct hdf5_wnode *n, struct arena *a, struct str name,
                        const struct str *item, size_t n_items, struct err *e)
{
    struct hdf5_wattr *w = ARENA_NEW(a, struct hdf5_wattr);
    if (!w)
        return err_nomem(e, sizeof *w);
    *w = (struct hdf5_wattr){.name = name, .list = true, .item = item, .n_items = n_items};
    struct hdf5_wattr **last = &n->attr;
    for (; *last; last = &(*last)->next)
        if (str_eq((*last)->name, name))
            return ST_OK;
    *last = w;
    return ST_OK;
}

/* ---- meta ---- */

/* ["a", "b"]: from the arena; *ok false when the text is something else. */
static enum status parse_list(struct str text, struct arena *a, struct str **item, size_t *n,
                              bool *ok, struct err *e)
{
    struct cursor c;
    struct json j;
    struct err quiet;
    struct buf b = BUF_INIT;
    cur_mem(&c, text.p, text.n, "meta", 0);
    json_init(&j, &c, 0);
    *ok = json_next(&j, &quiet) == ST_OK && j.kind == JSON_ARRAY;
    while (*ok) {
        *ok = json_next(&j, &quiet) == ST_OK;
        if (!*ok || j.kind == JSON_ARRAY_END)
            break;
        struct str s = arena_str(a, j.text.p, j.text.n);
        *ok = j.kind == JSON_STRING && !j.has_nul && s.p;
        buf_bytes(&b, &s, sizeof s);
    }
    *ok = *ok && json_next(&j, &quiet) == ST_OK && json_finish(&j, " \t\r\n", &quiet) == ST_OK;
    json_free(&j);
    cur_close(&c);
    enum status st = buf_ok(&b, e);
    *n = b.n / sizeof **item;
    *item = ARENA_ARRAY(a, struct str, *n + 1);
    if (st == ST_OK && !*item)
        st = err_nomem(e, b.n);
    if (st == ST_OK && b.n)
        memcpy(*item, b.p, b.n);
    buf_free(&b);
    return st;
}

enum status keras_layer_names(const struct model *m, struct arena *a, struct str **name, size_t *n,
                              struct err *e)
{
    bool ok = false;
    *n = 0;
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, LAYERS)) {
            TRY(parse_list(m->meta[i].value, a, name, n, &ok, e));
            break;
        }
    if (!ok)
        *n = 0;
    return ST_OK;
}

/* Names in meta come mostly in the order of the groups: the one behind the last found is tried
 * first. */
static struct hdf5_wnode *child(struct hdf5_wnode *g, struct str name)
{
    struct hdf5_wnode *from = g->hint ? g->hint : g->child;
    for (struct hdf5_wnode *c = from; c; c = c->next)
        if (str_eq(c->name, name))
            return g->hint = c;
    for (struct hdf5_wnode *c = g->child; c != from; c = c->next)
        if (str_eq(c->name, name))
            return g->hint = c;
    return NULL;
}

static struct hdf5_wnode *at_path(struct hdf5_wnode *root, struct str path)
{
    struct str part;
    while (root && path.n && str_split(&path, '/', &part))
        root = child(root, part);
    return root;
}

enum status keras_attr_meta(const struct model *m, struct hdf5_wnode *root, struct arena *a,
                            struct err *e)
{
    for (size_t i = 0; i < m->n_meta; i++) {
        struct str key = m->meta[i].key, value = m->meta[i].value;
        size_t at = key.n;
        while (at && key.p[at - 1] != '@')
            at--;
        struct str path = str_sub(key, 0, at ? at - 1 : 0), name = str_sub(key, at, key.n);
        bool is_list = str_ends(name, STR("[]")) && name.n > 2;
        struct hdf5_wnode *n = at_path(root, path);
        if (!n || n->same || name.n == 0 || name.n > 255 || str_find(name, 0, 0) < name.n ||
            str_is(key, LAYERS))
            continue;
        if (is_list) {
            struct str *item;
            size_t count;
            TRY(parse_list(value, a, &item, &count, &is_list, e));
            if (is_list) {
                TRY(list(n, a, str_sub(name, 0, name.n - 2), item, count, e));
                continue;
            }
        }
        TRY(keras_attr_text(n, a, name, value, e));
    }
    return ST_OK;
}

/* ---- legacy lists ---- */

struct weight {
    struct str name; /* path inside its layer */
    uint64_t group, order;
    int rank;
};

static int rank_of(struct str leaf)
{
    static const char *const first[] = {"depthwise_kernel",
                                        "pointwise_kernel",
                                        "kernel",
                                        "recurrent_kernel",
                                        "embeddings",
                                        "gamma",
                                        "beta",
                                        "bias",
                                        "moving_mean",
                                        "moving_variance"};
    leaf = str_sub(leaf, 0, str_find(leaf, ':', 0));
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (str_is(leaf, first[i]))
            return (int)i;
    return (int)(sizeof first / sizeof *first);
}

static int by_creation(const void *a, const void *b)
{
    const struct weight *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static struct hdf5_wnode *step(const struct hdf5_wnode *root, struct hdf5_wnode *n)
{
    if (n->child)
        return n->child;
    while (n != root && !n->next)
        n = n->parent;
    return n == root ? NULL : n->next;
}

static uint64_t least_child(const struct hdf5_wnode *g)
{
    uint64_t v = UINT64_MAX;
    for (const struct hdf5_wnode *c = g->child; c; c = c->next)
        if (c->is_data && c->order < v)
            v = c->order;
    return v;
}

/* n's path below g, names joined with '/'. */
static struct str path_below(const struct hdf5_wnode *g, const struct hdf5_wnode *n,
                             struct arena *a)
{
    size_t bytes = 0;
    for (const struct hdf5_wnode *k = n; k != g; k = k->parent)
        bytes += k->name.n + 1;
    char *p = ARENA_ARRAY(a, char, bytes + 1);
    if (!p)
        return STR_NONE;
    size_t at = bytes - 1;
    for (const struct hdf5_wnode *k = n; k != g; k = k->parent) {
        at -= k->name.n;
        memcpy(p + at, k->name.p, k->name.n);
        if (at)
            p[--at] = '/';
    }
    return (struct str){p, bytes - 1};
}

/* weight_names of a group: every dataset below it. */
static enum status weight_names(struct hdf5_wnode *g, bool trust, struct arena *a, struct err *e)
{
    size_t n = 0, i = 0;
    for (struct hdf5_wnode *k = g; k; k = step(g, k))
        n += k->is_data;
    struct weight *v = ARENA_ARRAY(a, struct weight, n + 1);
    struct str *item = ARENA_ARRAY(a, struct str, n + 1);
    if (!v || !item)
        return err_nomem(e, n * sizeof *v);
    const struct hdf5_wnode *last = NULL;
    for (struct hdf5_wnode *k = g; k; k = step(g, k)) {
        if (!k->is_data)
            continue;
        v[i] = (struct weight){.name = path_below(g, k, a), .order = k->order};
        if (!v[i].name.p)
            return err_nomem(e, 64);
        if (!trust) {
            v[i].group = k->parent == last ? v[i - 1].group : least_child(k->parent);
            v[i].rank = rank_of(k->name);
        }
        last = k->parent;
        i++;
    }
    if (n)
        qsort(v, n, sizeof *v, by_creation);
    for (i = 0; i < n; i++)
        item[i] = v[i].name;
    return list(g, a, STR("weight_names"), item, n, e);
}

struct layer {
    struct hdf5_wnode *group;
    struct str name;
    uint64_t listed, order;
};

static int by_layer(const void *a, const void *b)
{
    const struct layer *x = a, *y = b;
    if (x->listed != y->listed)
        return x->listed < y->listed ? -1 : 1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return str_cmp(x->name, y->name);
}

static uint64_t least_below(struct hdf5_wnode *g)
{
    uint64_t v = UINT64_MAX;
    for (struct hdf5_wnode *k = g; k; k = step(g, k))
        if (k->is_data && k->order < v)
            v = k->order;
    return v;
}

/* The layers: those that are listed, then every other group that holds none of them. */
static enum status find_layers(const struct model *m, struct hdf5_wnode *w, struct arena *a,
                               struct layer **out, size_t *n_out, struct err *e)
{
    struct str *name;
    size_t n_listed, n = 0, all = w->n_children;
    TRY(keras_layer_names(m, a, &name, &n_listed, e));
    struct layer *v = ARENA_ARRAY(a, struct layer, n_listed + all + 1);
    if (!v)
        return err_nomem(e, (n_listed + all) * sizeof *v);
    for (struct hdf5_wnode *c = w->child; c; c = c->next)
        c->hint = NULL; /* from now on: not NULL where a layer is in it */
    w->hint = NULL;
    for (size_t i = 0; i < n_listed; i++) {
        struct hdf5_wnode *g = at_path(w, name[i]), *top = g;
        if (!g || g == w || g->is_data)
            continue;
        for (; top->parent != w; top = top->parent)
            ;
        top->hint = g;
        v[n++] = (struct layer){g, name[i], i, 0};
    }
    for (struct hdf5_wnode *c = w->child; c; c = c->next) {
        if (c->is_data || c->hint || str_is(c->name, "top_level_model_weights"))
            continue;
        v[n++] = (struct layer){c, c->name, UINT64_MAX, least_below(c)};
    }
    if (n)
        qsort(v, n, sizeof *v, by_layer);
    *out = v;
    *n_out = n;
    return ST_OK;
}

static enum status layer_lists(const struct model *m, struct hdf5_wnode *w, bool trust,
                               struct arena *a, struct err *e)
{
    struct layer *v = NULL;
    size_t n = 0;
    TRY(find_layers(m, w, a, &v, &n, e));
    struct str *item = ARENA_ARRAY(a, struct str, n + 1);
    if (!item)
        return err_nomem(e, n * sizeof *item);
    for (size_t i = 0; i < n; i++) {
        item[i] = v[i].name;
        TRY(weight_names(v[i].group, trust, a, e));
    }
    TRY(list(w, a, STR("layer_names"), item, n, e));
    w->hint = NULL;
    struct hdf5_wnode *top = child(w, STR("top_level_model_weights"));
    return top && !top->is_data ? weight_names(top, trust, a, e) : ST_OK;
}

static struct str meta_or(const struct model *m, const char *key, const char *otherwise)
{
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, key))
            return m->meta[i].value;
    return str_from(otherwise);
}

static enum status config(const struct model *m, struct hdf5_wnode *root, const char *attachment,
                          const char *attr, struct arena *a, struct err *e)
{
    const struct attachment *x = keras_config_find(m, attachment);
    if (!x)
        return ST_OK;
    struct str text = {(const char *)x->mem, (size_t)x->n_bytes};
    if (!x->mem) {
        char *p = ARENA_ARRAY(a, char, x->n_bytes + 1);
        if (!p)
            return err_nomem(e, x->n_bytes);
        TRY(file_pread(x->file, p, (size_t)x->n_bytes, x->offset, e));
        text.p = p;
    }
    return keras_attr_text(root, a, str_from(attr), text, e);
}

enum status keras_attr_legacy(const struct model *m, struct hdf5_wnode *root, bool whole,
                              struct arena *a, struct err *e)
{
    /* a file without a version is one of Keras 1 to Keras, which would turn its kernels round */
    struct str version = meta_or(m, "keras_version", "3.0.0");
    struct str backend = meta_or(m, "backend", "tensorflow");
    bool trust = m->format && strcmp(m->format, "keras-h5") == 0;
    struct hdf5_wnode *w = whole ? child(root, STR("model_weights")) : root;
    struct hdf5_wnode *opt = whole ? child(root, STR("optimizer_weights")) : NULL;
    for (int i = 0; i < (whole ? 2 : 1); i++) {
        TRY(keras_attr_text(i ? w : root, a, STR("keras_version"), version, e));
        TRY(keras_attr_text(i ? w : root, a, STR("backend"), backend, e));
    }
    TRY(layer_lists(m, w, trust, a, e));
    if (opt && !opt->is_data)
        TRY(weight_names(opt, true, a, e));
    if (whole) {
        TRY(config(m, root, KERAS_MODEL_CONFIG, "model_config", a, e));
        TRY(config(m, root, KERAS_TRAINING_CONFIG, "training_config", a, e));
    }
    for (struct hdf5_wnode *k = root; k; k = step(root, k))
        k->hint = NULL;
    return keras_attr_meta(m, root, a, e);
}
