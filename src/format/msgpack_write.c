/* Flax msgpack, writing. Sizes stand before data in msgpack, so the whole text is laid out first:
 * `text` holds every byte that is no array data, `hole` says where data goes. See msgpack.c.
 */
#include "base/checked.h"
#include "codec/msgpack.h"
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

struct entry {
    struct path path;
    uint32_t tensor;
};

static int by_path(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
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

static enum status hang(struct arena *a, struct node *root, const struct entry *x, size_t n,
                        const struct model *m, struct err *e)
{
    struct node *at = root; /* the leaf added last, or the root */
    size_t depth = 0;       /* of `at` */
    for (size_t i = 0; i < n; i++) {
        const struct path *p = &x[i].path;
        size_t same = 0;
        if (i)
            while (same < p->n && same < x[i - 1].path.n &&
                   str_eq(p->seg[same].key, x[i - 1].path.seg[same].key))
                same++;
        if (i && (same == p->n || same == x[i - 1].path.n))
            return cannot(m->tensor[x[i].tensor].name, e, "name-prefix",
                          "one name is the path of another: a tree cannot hold both");
        for (; depth > same; depth--)
            at = at->parent;
        for (; depth < p->n; depth++) {
            bool leaf = depth + 1 == p->n;
            at = keyed(a, at, leaf ? NODE_TENSOR : NODE_DICT, p->seg[depth].key);
            if (!at)
                return err_nomem(e, sizeof *at);
        }
        at->tensor = x[i].tensor;
    }
    return ST_OK;
}

static enum status grow_tree(struct layout *x, struct node **out, struct err *e)
{
    const struct model *m = x->m;
    struct entry *list = ARENA_ARRAY(x->arena, struct entry, m->n_tensors + 1);
    *out = node_new(x->arena, NODE_DICT);
    if (!list || !*out)
        return err_nomem(e, m->n_tensors * sizeof *list);
    for (size_t i = 0; i < m->n_tensors; i++) {
        bool ok;
        list[i].tensor = (uint32_t)i;
        TRY(path_round_trips(m->tensor[i].name, x->arena, &ok, e));
        if (!ok)
            return cannot(m->tensor[i].name, e, "name", "a tree cannot spell this name");
        TRY(path_parse(m->tensor[i].name, x->arena, &list[i].path, e));
        if (list[i].path.n > MSGPACK_MAX_DEPTH - 3)
            return cannot(m->tensor[i].name, e, "name", "the name has too many parts");
    }
    if (m->n_tensors)
        qsort(list, m->n_tensors, sizeof *list, by_path);
    return hang(x->arena, *out, list, m->n_tensors, m, e);
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

/* ---- the tree ---- */

static enum status put_key(struct layout *x, const struct node *n, uint64_t index, struct err *e)
{
    const struct node *k = n->key;
    if (!k)
        put_number_key(x, index);
    else if (k->kind == NODE_STR)
        msgpack_w_str(&x->text, k->text);
    else if (k->kind == NODE_INT && k->i >= 0)
        put_number_key(x, (uint64_t)k->i);
    else
        return err_set(e, ST_CANNOT, "tree-key", "Flax takes text as keys only");
    return ST_OK;
}

/* PyTorch's version numbers of modules, an attribute of the dict and no entry: nothing in Flax
 * could hold or read them. */
static bool is_attribute(const struct node *n)
{
    return n->key && n->key->kind == NODE_OPAQUE && str_is(n->key->text, "_metadata");
}

static const struct node *kept(const struct node *n)
{
    while (n && is_attribute(n))
        n = n->next;
    return n;
}

static uint64_t n_kept(const struct node *parent)
{
    uint64_t n = 0;
    for (const struct node *c = kept(parent->child); c; c = kept(c->next))
        n++;
    return n;
}

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
    uint64_t index[MSGPACK_MAX_DEPTH];
    uint64_t n_seen = 0;
    size_t depth = 0;
    uint8_t *seen = ARENA_ARRAY(x->arena, uint8_t, x->m->n_tensors + 1);
    const struct node *n = root;
    if (!seen)
        return err_nomem(e, x->m->n_tensors);
    if (root->kind != NODE_DICT && root->kind != NODE_LIST && root->kind != NODE_TUPLE)
        return err_set(e, ST_CANNOT, "tree-top", "Flax msgpack has a map at the top");
    for (;;) {
        if (n->kind == NODE_DICT)
            TRY(check_keys(n, e));
        if (n->kind == NODE_TENSOR) {
            if (n->tensor >= x->m->n_tensors || seen[n->tensor]++)
                return err_set(e, ST_BUG, "tree-tensor", "a tensor hangs in the tree twice");
            n_seen++;
        }
        TRY(put_node(x, n, e));
        const struct node *next = n->kind == NODE_TENSOR ? NULL : kept(n->child);
        if (next) {
            if (depth == MSGPACK_MAX_DEPTH - 3)
                return err_set(e, ST_CANNOT, "tree-depth", "the tree is too deep for msgpack");
            index[depth++] = 0;
            n = next;
        } else {
            while (n != root && !kept(n->next)) {
                n = n->parent;
                depth--;
            }
            if (n == root)
                break;
            n = kept(n->next);
            index[depth - 1]++;
        }
        TRY(put_key(x, n, index[depth - 1], e));
    }
    if (n_seen != x->m->n_tensors)
        return err_set(e, ST_CANNOT, "tree-tensor", "%llu of %zu tensors have no place in the tree",
                       (unsigned long long)(x->m->n_tensors - n_seen), x->m->n_tensors);
    return ST_OK;
}

static enum status lay_out(struct layout *x, struct err *e)
{
    struct node *grown;
    const struct node *root = x->m->tree;
    if (!root) {
        TRY(grow_tree(x, &grown, e));
        root = grown;
    }
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
