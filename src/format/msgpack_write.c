/* Flax msgpack, writing. Sizes stand before data in msgpack, so the whole text is laid out first:
 * `text` holds every byte that is no array data, `hole` says where data goes. See msgpack.c.
 */
#include "base/checked.h"
#include "codec/msgpack.h"
#include "format/grow.h"
#include "format/msgpack.h"
#include <stdlib.h>
#include <string.h>

struct hole {
    size_t at; /* place in text that the data stands before */
    uint64_t bytes;
    uint32_t tensor;
    uint64_t part; /* number of the chunk */
};
struct layout {
    const struct model *m;
    struct arena *arena;
    struct buf text, hole; /* struct hole, in file order */
    uint64_t total;        /* of the file */
};

static enum status cannot(struct str name, struct err *e, const char *code, const char *why)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- a tree for a model that has none ---- */

#define NAME_PARTS (MSGPACK_MAX_DEPTH - 3)

static enum status grow(struct layout *x, struct grow_leaf *list, size_t n, struct node **out,
                        struct err *e)
{
    for (size_t i = 0; i < n; i++)
        TRY(grow_path(&list[i], x->arena, NAME_PARTS, e));
    return grow_dicts(x->arena, list, n, out, e);
}

static enum status from_names(struct layout *x, struct node **out, struct err *e)
{
    size_t n = x->m->n_tensors;
    struct grow_leaf *list = ARENA_ARRAY(x->arena, struct grow_leaf, n + 1);
    if (!list)
        return err_nomem(e, n * sizeof *list);
    for (size_t i = 0; i < n; i++)
        list[i] = (struct grow_leaf){.tensor = (uint32_t)i, .name = x->m->tensor[i].name};
    return grow(x, list, n, out, e);
}

/* ---- a tree of another format ---- */

/* PyTorch's version numbers of modules, an attribute of the dict and no entry: nothing in Flax
 * could hold or read them. */
static bool is_attribute(const struct node *n)
{
    return n->key && n->key->kind == NODE_OPAQUE && str_is(n->key->text, "_metadata");
}

const struct node *flax_kept(const struct node *n)
{
    while (n && is_attribute(n))
        n = n->next;
    return n;
}

static uint64_t n_kept(const struct node *parent)
{
    uint64_t n = 0;
    for (const struct node *c = flax_kept(parent->child); c; c = flax_kept(c->next))
        n++;
    return n;
}

/* A walk over the kept nodes of a tree, with each one's place among its siblings. */
struct walk {
    const struct node *root, *n;
    uint64_t index[MSGPACK_MAX_DEPTH];
    size_t depth;
};

/* n becomes the next node, or NULL at the end. */
static enum status walk_on(struct walk *w, struct err *e)
{
    const struct node *next = w->n->kind == NODE_TENSOR ? NULL : flax_kept(w->n->child);
    if (next) {
        if (w->depth == NAME_PARTS)
            return err_set(e, ST_CANNOT, "tree-depth", "the tree is too deep for msgpack");
        w->index[w->depth++] = 0;
        w->n = next;
        return ST_OK;
    }
    while (w->n != w->root && !flax_kept(w->n->next)) {
        w->n = w->n->parent;
        w->depth--;
    }
    if (w->n == w->root) {
        w->n = NULL;
        return ST_OK;
    }
    w->n = flax_kept(w->n->next);
    w->index[w->depth - 1]++;
    return ST_OK;
}

static enum status key_text(const struct walk *w, struct arena *a, struct str *out, struct err *e)
{
    const struct node *k = w->n->key;
    if (k && k->kind == NODE_STR) {
        *out = k->text;
        return ST_OK;
    }
    if (k && (k->kind != NODE_INT || k->i < 0))
        return err_set(e, ST_CANNOT, "tree-key", "Flax takes text as keys only");
    *out = arena_fmt(a, "%llu", (unsigned long long)(k ? (uint64_t)k->i : w->index[w->depth - 1]));
    return out->p ? ST_OK : err_nomem(e, 24);
}

/* Walks the whole tree with the path of keys to each node. Finds whether its keys spell the
 * tensors' names as a tree does (*spells); a state_dict's keys hold dots that are separators. Then
 * list, when not NULL, receives every leaf under the text that its keys make. */
static enum status look(struct layout *x, const struct node *root, bool *spells, struct buf *list,
                        struct err *e)
{
    struct seg seg[MSGPACK_MAX_DEPTH];
    struct walk w = {.root = root, .n = root};
    *spells = true;
    for (;;) {
        TRY(walk_on(&w, e));
        if (!w.n)
            return ST_OK;
        seg[w.depth - 1] = (struct seg){.kind = SEG_KEY};
        TRY(key_text(&w, x->arena, &seg[w.depth - 1].key, e));
        bool tensor = w.n->kind == NODE_TENSOR;
        if (tensor && w.n->tensor >= x->m->n_tensors)
            return err_set(e, ST_BUG, "tree-tensor", "no such tensor");
        if (tensor && *spells) {
            struct path p = {seg, w.depth};
            struct str name;
            TRY(path_print(&p, x->arena, &name, e));
            *spells = str_eq(name, x->m->tensor[w.n->tensor].name);
        }
        if (!list || (!tensor && flax_kept(w.n->child)))
            continue;
        struct grow_leaf it = {.leaf = w.n, .tensor = w.n->tensor};
        struct buf text = BUF_INIT;
        for (size_t i = 0; i < w.depth; i++) {
            if (i)
                buf_u8(&text, '.');
            buf_str(&text, seg[i].key);
        }
        it.name = tensor ? x->m->tensor[w.n->tensor].name : arena_str(x->arena, text.p, text.n);
        buf_free(&text);
        if (!it.name.p)
            return err_nomem(e, 64);
        buf_bytes(list, &it, sizeof it);
        TRY(buf_ok(list, e));
    }
}

static enum status from_tree(struct layout *x, const struct node **root, struct err *e)
{
    struct buf list = BUF_INIT;
    struct node *grown = NULL;
    bool spells;
    TRY(look(x, *root, &spells, NULL, e));
    if (spells)
        return ST_OK;
    enum status st = look(x, *root, &spells, &list, e);
    if (st == ST_OK)
        st = grow(x, (struct grow_leaf *)(void *)list.p, list.n / sizeof(struct grow_leaf), &grown,
                  e);
    buf_free(&list);
    *root = grown;
    return st;
}

/* ---- arrays ---- */

static size_t item_of(enum dtype t)
{
    size_t n = dtype_bytes(t);
    return n ? n : 1; /* sub-byte types: one value a byte */
}

static void put_hole(struct layout *x, uint32_t tensor, uint64_t part, uint64_t bytes)
{
    struct hole h = {x->text.n, bytes, tensor, part};
    buf_bytes(&x->hole, &h, sizeof h);
    x->total += bytes; /* below 2^62 by the check on every tensor, and few enough of those */
}

/* One extension: all of the tensor, or chunk number part of it (flat). */
static enum status put_ext(struct layout *x, uint32_t i, int8_t type, const uint64_t *dim,
                           size_t n_dims, uint64_t part, uint64_t bytes, struct err *e)
{
    struct buf head = BUF_INIT;
    msgpack_w_array(&head, 3);
    msgpack_w_array(&head, (uint32_t)n_dims);
    for (size_t d = 0; d < n_dims; d++)
        msgpack_w_u64(&head, dim[d]);
    msgpack_w_str(&head, str_from(dtype_info(x->m->tensor[i].dtype)->name));
    msgpack_w_bin_head(&head, (uint32_t)bytes);
    msgpack_w_ext_head(&x->text, type, (uint32_t)(head.n + bytes));
    buf_str(&x->text, buf_as_str(&head));
    enum status st = buf_ok(&head, e);
    buf_free(&head);
    put_hole(x, i, part, bytes);
    return st;
}

static void put_number_key(struct layout *x, uint64_t v)
{
    char text[24];
    size_t n = sizeof text;
    do
        text[--n] = (char)('0' + v % 10);
    while (v /= 10);
    msgpack_w_str(&x->text, (struct str){text + n, sizeof text - n});
}

static enum status put_chunked(struct layout *x, uint32_t i, uint64_t bytes, struct err *e)
{
    const struct tensor *t = &x->m->tensor[i];
    uint64_t n = bytes / FLAX_CHUNK_BYTES + (bytes % FLAX_CHUNK_BYTES != 0);
    if (n > 1000000)
        return cannot(t->name, e, "too-large", "the array is too large for msgpack");
    msgpack_w_map(&x->text, 3);
    msgpack_w_str(&x->text, STR(FLAX_CHUNKED));
    msgpack_w_bool(&x->text, true);
    msgpack_w_str(&x->text, STR("shape"));
    msgpack_w_map(&x->text, t->n_dims);
    for (size_t d = 0; d < t->n_dims; d++) {
        put_number_key(x, d);
        msgpack_w_u64(&x->text, t->dim[d]);
    }
    msgpack_w_str(&x->text, STR("chunks"));
    msgpack_w_map(&x->text, (uint32_t)n);
    for (uint64_t k = 0; k < n; k++) {
        uint64_t left = bytes - k * FLAX_CHUNK_BYTES;
        uint64_t piece = left < FLAX_CHUNK_BYTES ? left : FLAX_CHUNK_BYTES;
        uint64_t elems = piece / item_of(t->dtype);
        put_number_key(x, k);
        TRY(put_ext(x, i, FLAX_NDARRAY, &elems, 1, k, piece, e));
    }
    return ST_OK;
}

static enum status put_tensor(struct layout *x, uint32_t i, bool scalar, struct err *e)
{
    const struct tensor *t = &x->m->tensor[i];
    uint64_t bytes, all;
    if (t->dtype == DT_C32 || dtype_info(t->dtype)->kind == DK_BLOCK) {
        (void)err_set(e, ST_CANNOT, "dtype", "Flax has no type for %s", dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    if (!mul_u64(tensor_elems(t), item_of(t->dtype), &bytes) || !add_u64(x->total, bytes, &all) ||
        all > INT64_MAX)
        return cannot(t->name, e, "too-large", "the array is too large for msgpack");
    if (bytes > FLAX_CHUNK_BYTES)
        return put_chunked(x, i, bytes, e);
    int8_t type = scalar && t->n_dims == 0 ? FLAX_SCALAR : FLAX_NDARRAY;
    return put_ext(x, i, type, t->dim, t->n_dims, 0, bytes, e);
}

/* ---- the text ---- */

static enum status put_node(struct layout *x, const struct node *n, struct err *e)
{
    uint64_t v;
    switch (n->kind) {
    case NODE_NIL:
        msgpack_w_nil(&x->text);
        return ST_OK;
    case NODE_BOOL:
        msgpack_w_bool(&x->text, n->i != 0);
        return ST_OK;
    case NODE_INT:
        msgpack_w_i64(&x->text, n->i);
        return ST_OK;
    case NODE_BIGINT:
        if (!str_u64(n->text, &v))
            break;
        msgpack_w_u64(&x->text, v);
        return ST_OK;
    case NODE_FLOAT:
        msgpack_w_f64(&x->text, n->bits[0]);
        return ST_OK;
    case NODE_COMPLEX:
        msgpack_w_ext_head(&x->text, FLAX_COMPLEX, 19);
        msgpack_w_array(&x->text, 2);
        msgpack_w_f64(&x->text, n->bits[0]);
        msgpack_w_f64(&x->text, n->bits[1]);
        return ST_OK;
    case NODE_STR:
        if (n->text.n > UINT32_MAX)
            break;
        msgpack_w_str(&x->text, n->text);
        return ST_OK;
    case NODE_BYTES:
        if (n->text.n > UINT32_MAX)
            break;
        msgpack_w_bin_head(&x->text, (uint32_t)n->text.n);
        buf_str(&x->text, n->text);
        return ST_OK;
    case NODE_DICT:
    case NODE_LIST:
    case NODE_TUPLE:
        if (n->n_children > UINT32_MAX)
            break;
        msgpack_w_map(&x->text, (uint32_t)n_kept(n));
        return ST_OK;
    case NODE_TENSOR:
        return put_tensor(x, n->tensor, str_is(n->text, FLAX_SCALAR_MARK), e);
    case NODE_SET:
    case NODE_DTYPE:
    case NODE_OPAQUE:
        break;
    }
    (void)err_set(e, ST_CANNOT, "tree-value", "Flax msgpack cannot hold this value of the tree");
    if (n->key)
        err_in(e, n->key->text.p, n->key->text.n);
    return ST_CANNOT;
}

/* Which keys are equal once they are text; only where some are not text can that be. */
static enum status check_keys(const struct node *dict, struct err *e)
{
    bool mixed = false;
    for (const struct node *c = dict->child; c; c = c->next)
        mixed = mixed || (c->key && c->key->kind == NODE_INT);
    for (const struct node *c = dict->child; mixed && c; c = c->next) {
        uint64_t v;
        if (c->key && c->key->kind == NODE_STR && str_u64(c->key->text, &v))
            return err_set(e, ST_CANNOT, "tree-key", "a map has %llu as a number and as text",
                           (unsigned long long)v);
    }
    return ST_OK;
}

static enum status put_tree(struct layout *x, const struct node *root, struct err *e)
{
    struct walk w = {.root = root, .n = root};
    struct str key;
    uint64_t n_seen = 0;
    uint8_t *seen = ARENA_ARRAY(x->arena, uint8_t, x->m->n_tensors + 1);
    if (!seen)
        return err_nomem(e, x->m->n_tensors);
    if (root->kind != NODE_DICT && root->kind != NODE_LIST && root->kind != NODE_TUPLE)
        return err_set(e, ST_CANNOT, "tree-top", "Flax msgpack has a map at the top");
    while (w.n) {
        if (w.n != root) {
            TRY(key_text(&w, x->arena, &key, e));
            msgpack_w_str(&x->text, key);
        }
        if (w.n->kind == NODE_DICT)
            TRY(check_keys(w.n, e));
        if (w.n->kind == NODE_TENSOR) {
            if (w.n->tensor >= x->m->n_tensors || seen[w.n->tensor]++)
                return err_set(e, ST_BUG, "tree-tensor", "a tensor hangs in the tree twice");
            n_seen++;
        }
        TRY(put_node(x, w.n, e));
        TRY(walk_on(&w, e));
    }
    if (n_seen != x->m->n_tensors)
        return err_set(e, ST_CANNOT, "tree-tensor", "%llu of %zu tensors have no place in the tree",
                       (unsigned long long)(x->m->n_tensors - n_seen), x->m->n_tensors);
    return ST_OK;
}

static enum status tree_of(struct layout *x, const struct node **root, struct err *e)
{
    struct node *grown;
    *root = x->m->tree;
    if (*root)
        return from_tree(x, root, e);
    TRY(from_names(x, &grown, e));
    *root = grown;
    return ST_OK;
}

enum status flax_spelled(const struct model *m, struct arena *a, const struct node **root,
                         struct err *e)
{
    struct layout x = {.m = m, .arena = a};
    return tree_of(&x, root, e);
}

static enum status lay_out(struct layout *x, struct err *e)
{
    const struct node *root;
    TRY(tree_of(x, &root, e));
    TRY(put_tree(x, root, e));
    TRY(buf_ok(&x->text, e));
    TRY(buf_ok(&x->hole, e));
    if (!add_u64(x->total, x->text.n, &x->total))
        return err_set(e, ST_CANNOT, "too-large", "the file passes 2^64 bytes");
    return ST_OK;
}

enum status flax_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x = {.m = m, .arena = &a};
    (void)opt;
    enum status st = lay_out(&x, e);
    buf_free(&x.text);
    buf_free(&x.hole);
    arena_free(&a);
    return st;
}

static enum status place(struct writer *w, const struct hole *h, int id, uint64_t at, struct err *e)
{
    struct place *p = &w->place[h->tensor];
    const struct tensor *t = &w->m->tensor[h->tensor];
    if (h->part == 0) {
        uint64_t bytes = tensor_elems(t) * item_of(t->dtype); /* checked in put_tensor */
        *p = (struct place){.kind = PLACE_FIXED,
                            .file = id,
                            .offset = at,
                            .unpacked = dtype_info(t->dtype)->bits < 8};
        if (bytes > FLAX_CHUNK_BYTES) {
            uint64_t n = bytes / FLAX_CHUNK_BYTES + (bytes % FLAX_CHUNK_BYTES != 0);
            uint64_t *part = ARENA_ARRAY(&w->arena, uint64_t, n);
            if (!part)
                return err_nomem(e, n * sizeof *part);
            p->part_bytes = FLAX_CHUNK_BYTES;
            p->part_offset = part;
        }
    }
    if (p->part_offset)
        ((uint64_t *)(uintptr_t)p->part_offset)[h->part] = at;
    return ST_OK;
}

static enum status write_text(struct writer *w, const struct layout *x, struct err *e)
{
    const struct hole *h = (const struct hole *)(const void *)x->hole.p;
    size_t n = x->hole.n / sizeof *h, done = 0, k = 0;
    uint64_t at = 0;
    int id;
    TRY(out_add(w->out, STR(""), x->total, &id, e));
    for (size_t i = 0; i <= n; i++) {
        size_t end = i < n ? h[i].at : x->text.n;
        if (end > done)
            TRY(out_pwrite(w->out, id, x->text.p + done, end - done, at, e));
        at += end - done;
        done = end;
        if (i == n)
            break;
        TRY(place(w, &h[i], id, at, e));
        if (h[i].part == 0)
            w->order[k++] = h[i].tensor;
        at += h[i].bytes;
    }
    return ST_OK;
}

enum status flax_begin(struct writer *w, struct err *e)
{
    struct layout x = {.m = w->m, .arena = &w->arena};
    enum status st = lay_out(&x, e);
    if (st == ST_OK)
        st = write_text(w, &x, e);
    buf_free(&x.text);
    buf_free(&x.hole);
    return st;
}

enum status flax_end(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}
