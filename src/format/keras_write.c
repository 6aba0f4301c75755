/* See keras_write.h. The tree of groups comes from the names; empty groups from the model's tree
 * and, for layers without weights, from the list of layers that the reader left in the meta.
 */
#include "format/keras_write.h"
#include "base/checked.h"
#include "codec/deflate.h"
#include "format/hdf5_tensor.h"
#include "format/keras_attr.h"
#include "format/keras_config.h"
#include <stdlib.h>
#include <string.h>

struct item {
    struct path path;
    int64_t tensor; /* -1: an empty group */
    struct str name;
};
struct build {
    const struct model *m;
    struct arena *a;
    bool legacy, whole;
    struct buf item; /* struct item */
    struct hdf5_wnode *root;
    struct keras_layout *x;
};

static enum status cannot(struct str name, struct err *e, const char *code, const char *why)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- what goes into the tree ---- */

static bool is_link_name(struct str s)
{
    return s.n > 0 && s.n < 60000 && str_find(s, '/', 0) == s.n && str_find(s, 0, 0) == s.n &&
           !str_is(s, ".") && !str_is(s, "..");
}

/* Below model_weights, where the file is a whole model. */
static enum status add(struct build *b, struct path p, int64_t tensor, struct str name,
                       struct err *e)
{
    struct item it = {p, tensor, name};
    bool inside = b->whole && !(p.n && str_is(p.seg[0].key, "optimizer_weights"));
    for (size_t i = 0; i < p.n; i++)
        if (!is_link_name(p.seg[i].key))
            return tensor < 0 ? ST_OK
                              : cannot(name, e, "name-not-spelled",
                                       "a part of this name cannot be a link's name in HDF5");
    if (p.n + inside > HDF5_DEPTH)
        return cannot(name, e, "tree-depth", "the name has too many parts");
    if (inside) {
        it.path.n++;
        it.path.seg = ARENA_ARRAY(b->a, struct seg, it.path.n);
        if (!it.path.seg)
            return err_nomem(e, it.path.n * sizeof *it.path.seg);
        it.path.seg[0] = (struct seg){.key = STR("model_weights")};
        memcpy(it.path.seg + 1, p.seg, p.n * sizeof *p.seg);
    }
    buf_bytes(&b->item, &it, sizeof it);
    return buf_ok(&b->item, e);
}

static enum status add_tensors(struct build *b, const bool *in, struct err *e)
{
    for (size_t i = 0; i < b->m->n_tensors; i++) {
        const struct tensor *t = &b->m->tensor[i];
        struct path p;
        bool ok;
        if (in && !in[i])
            continue;
        TRY(path_round_trips(t->name, b->a, &ok, e));
        if (!ok)
            return cannot(t->name, e, "name-not-spelled", "a tree cannot spell this name");
        if (dtype_info(t->dtype)->kind == DK_BLOCK)
            return cannot(t->name, e, "dtype", "HDF5 has no type for quantised blocks");
        if (t->n_dims > HDF5_MAX_RANK)
            return cannot(t->name, e, "rank", "HDF5 has 32 dimensions at most");
        TRY(path_parse(t->name, b->a, &p, e));
        TRY(add(b, p, (int64_t)i, t->name, e));
    }
    return ST_OK;
}

static enum status add_empty(struct build *b, const struct node *n, struct err *e)
{
    struct path p = {0};
    for (const struct node *k = n; k->parent; k = k->parent, p.n++)
        if (!k->key || k->key->kind != NODE_STR)
            return ST_OK;
    p.seg = ARENA_ARRAY(b->a, struct seg, p.n + 1);
    if (!p.seg)
        return err_nomem(e, p.n * sizeof *p.seg);
    size_t i = p.n;
    for (const struct node *k = n; k->parent; k = k->parent)
        p.seg[--i] = (struct seg){.key = k->key->text};
    return p.n ? add(b, p, -1, STR_NONE, e) : ST_OK;
}

static enum status add_layers(struct build *b, struct err *e)
{
    struct str *name;
    size_t n;
    TRY(keras_layer_names(b->m, b->a, &name, &n, e));
    for (size_t i = 0; i < n; i++) {
        struct str rest = name[i], part;
        struct path p = {.seg = ARENA_ARRAY(b->a, struct seg, name[i].n + 1)};
        if (!p.seg)
            return err_nomem(e, name[i].n * sizeof *p.seg);
        while (str_split(&rest, '/', &part))
            p.seg[p.n++] = (struct seg){.key = part};
        TRY(add(b, p, -1, STR_NONE, e));
    }
    return ST_OK;
}

static int by_path(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    for (size_t i = 0; i < a->path.n && i < b->path.n; i++) {
        int c = str_cmp(a->path.seg[i].key, b->path.seg[i].key);
        if (c)
            return c;
    }
    if (a->path.n != b->path.n)
        return a->path.n < b->path.n ? -1 : 1;
    return a->tensor > b->tensor ? -1 : a->tensor < b->tensor; /* a group behind a tensor */
}

/* ---- the tree ---- */

static enum status set_tensor(struct build *b, struct hdf5_wnode *n, uint32_t i, struct err *e)
{
    const struct tensor *t = &b->m->tensor[i];
    bool opaque;
    n->is_data = true;
    n->type = hdf5_tensor_type(t->dtype, &n->type_n, &opaque);
    n->dim = t->dim;
    n->rank = t->n_dims;
    n->order = t->order;
    if (!tensor_bytes(t, &n->bytes))
        return cannot(t->name, e, "too-large", "the tensor is too large");
    b->x->node[i] = n;
    return opaque ? keras_attr_text(n, b->a, STR("dtype"), str_from(dtype_info(t->dtype)->name), e)
                  : ST_OK;
}

static enum status hang(struct build *b, struct err *e)
{
    const struct item *x = (const struct item *)(const void *)b->item.p;
    struct hdf5_wnode *open[HDF5_DEPTH + 1], *last[HDF5_DEPTH + 1] = {0};
    size_t depth = 0; /* of the node added last */
    open[0] = b->root;
    for (size_t i = 0; i < b->item.n / sizeof *x; i++) {
        const struct path *p = &x[i].path;
        size_t same = 0;
        while (same < p->n && same < depth && str_eq(p->seg[same].key, open[same + 1]->name))
            same++;
        if (same == p->n && x[i].tensor < 0)
            continue; /* a group that is there */
        if (same == p->n || (same && open[same]->is_data)) {
            if (x[i].tensor < 0)
                continue;
            return cannot(x[i].name, e, "name-prefix",
                          "one name is the path of another: a tree cannot hold both");
        }
        for (depth = same; depth < p->n;) {
            struct hdf5_wnode *n = ARENA_NEW(b->a, struct hdf5_wnode), *up = open[depth];
            if (!n)
                return err_nomem(e, sizeof *n);
            n->name = p->seg[depth].key;
            n->parent = up;
            if (up->child)
                last[depth]->next = n;
            else
                up->child = n;
            last[depth] = n;
            up->n_children++;
            open[++depth] = n;
        }
        if (x[i].tensor >= 0)
            TRY(set_tensor(b, open[depth], (uint32_t)x[i].tensor, e));
    }
    return ST_OK;
}

static void tie(const struct model *m, struct keras_layout *x)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        int64_t of = m->tensor[i].alias_of;
        if (x->node[i] && of >= 0 && x->node[of]) {
            x->node[i]->same = x->node[of];
            x->node[i]->attr = NULL;
            x->node[i] = NULL;
        }
    }
}

static bool wants_root_vars(const struct build *b)
{
    const struct item *x = (const struct item *)(const void *)b->item.p;
    for (size_t i = 0; i < b->item.n / sizeof *x; i++)
        if (x[i].path.n > 1 && str_is(x[i].path.seg[x[i].path.n - 2].key, "vars"))
            return true;
    return false;
}

static bool is_whole(const struct model *m)
{
    if (keras_config_find(m, KERAS_MODEL_CONFIG) || keras_config_find(m, KERAS_TRAINING_CONFIG))
        return true;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (str_starts(m->tensor[i].name, STR("optimizer_weights.")))
            return true;
    return false;
}

static enum status build(struct build *b, const bool *in, struct err *e)
{
    static struct seg vars[] = {{.key = {"vars", 4}}};
    static struct seg layers[] = {{.key = {"model_weights", 13}}};
    TRY(add_tensors(b, in, e));
    for (struct node *n = b->m->tree; n; n = node_step(b->m->tree, n))
        if (n->kind == NODE_DICT && !n->child)
            TRY(add_empty(b, n, e));
    if (b->legacy)
        TRY(add_layers(b, e));
    else if (wants_root_vars(b))
        TRY(add(b, (struct path){vars, 1}, -1, STR_NONE, e));
    if (b->whole) {
        struct item it = {{layers, 1}, -1, STR_NONE};
        buf_bytes(&b->item, &it, sizeof it);
        TRY(buf_ok(&b->item, e));
    }
    size_t n = b->item.n / sizeof(struct item);
    if (n)
        qsort(b->item.p, n, sizeof(struct item), by_path);
    TRY(hang(b, e));
    tie(b->m, b->x);
    return b->legacy ? keras_attr_legacy(b->m, b->root, b->whole, b->a, e)
                     : keras_attr_meta(b->m, b->root, b->a, e);
}

/* ---- layout ---- */

struct ordered {
    struct hdf5_wnode *node;
    uint64_t order;
    size_t index;
};

static int by_order(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static enum status lay(struct build *b, struct err *e)
{
    size_t n = 0;
    struct ordered *v = ARENA_ARRAY(b->a, struct ordered, b->m->n_tensors + 1);
    struct hdf5_wnode **list = ARENA_ARRAY(b->a, struct hdf5_wnode *, b->m->n_tensors + 1);
    if (!v || !list)
        return err_nomem(e, b->m->n_tensors * sizeof *v);
    for (size_t i = 0; i < b->m->n_tensors; i++)
        if (b->x->node[i])
            v[n++] = (struct ordered){b->x->node[i], b->m->tensor[i].order, i};
    if (n)
        qsort(v, n, sizeof *v, by_order);
    b->x->n = n;
    for (size_t i = 0; i < n; i++) {
        list[i] = v[i].node;
        b->x->order[i] = (uint32_t)v[i].index;
    }
    return hdf5_write(b->root, list, n, &b->x->head, &b->x->end, e);
}

enum status keras_lay_out(const struct model *m, enum keras_style style, const bool *in,
                          struct arena *a, struct keras_layout *x, struct err *e)
{
    struct build b = {.m = m, .a = a, .legacy = style == KERAS_LEGACY, .x = x};
    *x = (struct keras_layout){0};
    b.whole = b.legacy && is_whole(m);
    b.root = ARENA_NEW(a, struct hdf5_wnode);
    x->node = ARENA_ARRAY(a, struct hdf5_wnode *, m->n_tensors + 1);
    x->order = ARENA_ARRAY(a, uint32_t, m->n_tensors + 1);
    if (!b.root || !x->node || !x->order)
        return err_nomem(e, m->n_tensors * sizeof *x->node);
    enum status st = build(&b, in, e);
    buf_free(&b.item);
    return st == ST_OK ? lay(&b, e) : st;
}

void keras_layout_free(struct keras_layout *x)
{
    buf_free(&x->head);
}

enum status keras_put(struct writer *w, const struct keras_layout *x, int file, uint64_t base,
                      unsigned want, struct err *e)
{
    for (size_t k = 0; k < x->n; k++) {
        uint32_t i = x->order[k];
        uint64_t at = x->node[i]->data;
        w->place[i] = (struct place){.kind = PLACE_FIXED,
                                     .file = file,
                                     .offset = at == HDF5_UNDEF ? base : base + at,
                                     .want = want,
                                     .unpacked = dtype_info(w->m->tensor[i].dtype)->bits < 8};
    }
    return out_pwrite(w->out, file, x->head.p, x->head.n, base, e);
}

uint32_t keras_crc(const struct writer *w, const struct keras_layout *x)
{
    static const uint8_t zeros[64];
    uint32_t crc = crc32_update(0, x->head.p, x->head.n);
    uint64_t at = x->head.n;
    for (size_t k = 0; k < x->n; k++) {
        const struct hdf5_wnode *n = x->node[x->order[k]];
        if (n->data == HDF5_UNDEF)
            continue;
        crc = crc32_update(crc, zeros, (size_t)(n->data - at));
        crc = crc32_join(crc, w->placed[x->order[k]].crc32, n->bytes);
        at = n->data + n->bytes;
    }
    return crc;
}
