/* Flax msgpack, reading: one pass makes the tree and a list of arrays (places in the file, no
 * data), a walk over the tree then names them. See msgpack.c for the layout.
 */
#include "base/checked.h"
#include "codec/msgpack.h"
#include "format/msgpack.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

/* Values in the tree, keys apart: so many are free; more must take this many bytes each, arrays'
 * data not counted, or a small file would fill much memory. An array's head alone takes as many. */
#define FREE_NODES 131072u
#define VALUE_BYTES 16u
#define TILE_BYTES ((uint64_t)1 << 20)
#define SEGMENT_MAX 65535u

/* An array in the file, or several chunks of one. */
struct array {
    uint64_t at; /* of its extension, in the file */
    enum dtype dtype;
    uint8_t n_dims;
    uint64_t *dim; /* from the arena */
    uint64_t data, bytes;
    struct pieces *pieces; /* NULL: one piece */
};
struct pieces {
    size_t n;
    uint64_t *raw;  /* n + 1: where piece k begins in the raw bytes */
    uint64_t *file; /* and in the file */
};
struct reader {
    struct model *m;
    struct file *f;
    struct msgpack r;
    struct buf arrays; /* struct array; node.tensor counts into it until they are named */
    struct node *root;
    uint64_t n_nodes;
    uint64_t data_bytes;              /* of arrays, so far */
    const struct flax_leaves *leaves; /* NULL: Flax's own file */
};

static struct array *array_of(const struct reader *x, const struct node *n)
{
    return (struct array *)(void *)x->arrays.p + n->tensor;
}

/* ---- one array ---- */

static enum status item_bytes(enum dtype t, uint64_t n, uint64_t *bytes)
{
    size_t size = dtype_bytes(t);
    return mul_u64(n, size ? size : 1, bytes) ? ST_OK : ST_INPUT;
}

static enum status read_dims(struct msgpack *r, struct array *a, struct arena *arena, struct err *e)
{
    uint64_t n = r->n;
    if (n > VIEW_MAX_AXES)
        return msgpack_fail(r, e, "bad-array", "more than %d dimensions", VIEW_MAX_AXES);
    a->n_dims = (uint8_t)n;
    a->dim = ARENA_ARRAY(arena, uint64_t, n + 1);
    if (!a->dim)
        return err_nomem(e, n * 8);
    for (uint64_t d = 0; d < n; d++) {
        TRY(msgpack_next(r, e));
        if (r->kind != MSGPACK_UINT)
            return msgpack_fail(r, e, "bad-array", "a dimension is no whole number");
        a->dim[d] = r->u;
    }
    TRY(msgpack_next(r, e)); /* CLOSE */
    return ST_OK;
}

static enum status want(struct msgpack *r, bool ok, struct err *e)
{
    return ok ? ST_OK
              : msgpack_fail(r, e, "bad-array", "an array is not [shape, dtype name, data]");
}

/* The extension is the outer reader's token. */
static enum status read_array(struct reader *x, struct array *a, struct err *e)
{
    struct msgpack *out = &x->r, in;
    struct arena *arena = &x->m->arena;
    struct str name;
    struct view v;
    uint64_t bytes = 0;
    *a = (struct array){.at = out->at};
    cur_seek(out->c, out->body);
    msgpack_init(&in, out->c, out->body + out->n);
    TRY(msgpack_next(&in, e));
    TRY(want(&in, in.kind == MSGPACK_ARRAY && in.n == 3, e));
    TRY(msgpack_next(&in, e));
    TRY(want(&in, in.kind == MSGPACK_ARRAY, e));
    TRY(read_dims(&in, a, arena, e));
    TRY(msgpack_next(&in, e));
    TRY(want(&in, (in.kind == MSGPACK_STR || in.kind == MSGPACK_BIN) && in.n <= 64, e));
    TRY(msgpack_body(&in, arena, &name, e));
    a->dtype = dtype_parse(name);
    /* numpy has no 16-bit complex halves */
    if (a->dtype == DT_NONE || a->dtype == DT_C32)
        return msgpack_fail(&in, e, "unknown-dtype", "dtype '%.*s' is not known", STR_ARG(name));
    if (view_c(&v, a->dim, a->n_dims, e) != ST_OK ||
        item_bytes(a->dtype, view_elems(&v), &bytes) != ST_OK)
        return msgpack_fail(out, e, "shape-overflow", "the product of the shape is too large");
    TRY(msgpack_next(&in, e));
    TRY(want(&in, in.kind == MSGPACK_BIN || in.kind == MSGPACK_STR, e));
    a->data = in.body;
    a->bytes = in.n;
    if (bytes != in.n)
        return msgpack_fail(&in, e, "size-mismatch",
                            "shape and dtype need %llu bytes, the data has %llu",
                            (unsigned long long)bytes, (unsigned long long)in.n);
    TRY(msgpack_next(&in, e)); /* CLOSE */
    return msgpack_finish(&in, e);
}

static enum status read_complex(struct reader *x, struct node *n, struct err *e)
{
    struct msgpack *out = &x->r, in;
    cur_seek(out->c, out->body);
    msgpack_init(&in, out->c, out->body + out->n);
    TRY(msgpack_next(&in, e));
    if (in.kind != MSGPACK_ARRAY || in.n != 2)
        return msgpack_fail(&in, e, "bad-scalar", "a complex number is not [re, im]");
    for (int i = 0; i < 2; i++) {
        TRY(msgpack_next(&in, e));
        if (in.kind != MSGPACK_F64)
            return msgpack_fail(&in, e, "bad-scalar", "a complex number is not of two doubles");
        n->bits[i] = in.u;
    }
    n->kind = NODE_COMPLEX;
    TRY(msgpack_next(&in, e));
    return msgpack_finish(&in, e);
}

/* ---- the tree ---- */

/* float to double by integers alone: signalling NaNs keep their payload. */
static uint64_t widen(uint32_t f)
{
    uint64_t sign = (uint64_t)(f >> 31) << 63, man = f & 0x7fffff;
    uint32_t exp = f >> 23 & 0xff;
    if (exp == 0xff)
        return sign | (uint64_t)0x7ff << 52 | man << 29;
    if (exp == 0) {
        if (man == 0)
            return sign;
        int shift = __builtin_clzll(man) - 40; /* brings the first bit to place 23 */
        return sign | (uint64_t)(897 - shift) << 52 | ((man << shift & 0x7fffff) << 29);
    }
    return sign | (uint64_t)(exp + 896) << 52 | man << 29;
}

static enum status read_ext(struct reader *x, struct node *n, struct err *e)
{
    struct array a;
    if (x->r.type == FLAX_COMPLEX)
        return read_complex(x, n, e);
    if (x->r.type != FLAX_NDARRAY && x->r.type != FLAX_SCALAR)
        return msgpack_fail(&x->r, e, "unknown-ext", "extension %d is not one of Flax's",
                            x->r.type);
    TRY(read_array(x, &a, e));
    if (x->r.type == FLAX_SCALAR && a.n_dims != 0)
        return msgpack_fail(&x->r, e, "bad-scalar", "a scalar with a shape");
    n->kind = NODE_TENSOR;
    if (x->r.type == FLAX_SCALAR)
        n->text = STR(FLAX_SCALAR_MARK);
    n->tensor = (uint32_t)(x->arrays.n / sizeof a);
    buf_bytes(&x->arrays, &a, sizeof a);
    x->data_bytes += a.bytes;
    return buf_ok(&x->arrays, e);
}

static enum status read_value(struct reader *x, struct node *n, struct err *e)
{
    struct msgpack *r = &x->r;
    n->offset = r->at;
    switch (r->kind) {
    case MSGPACK_NIL:
        n->kind = NODE_NIL;
        return ST_OK;
    case MSGPACK_BOOL:
        n->kind = NODE_BOOL;
        n->i = (int64_t)r->u;
        return ST_OK;
    case MSGPACK_INT:
        n->kind = NODE_INT;
        n->i = r->i;
        return ST_OK;
    case MSGPACK_UINT:
        n->kind = r->u > INT64_MAX ? NODE_BIGINT : NODE_INT;
        n->i = (int64_t)r->u;
        if (n->kind == NODE_BIGINT) {
            n->i = 0;
            n->text = arena_fmt(&x->m->arena, "%llu", (unsigned long long)r->u);
            return n->text.p ? ST_OK : err_nomem(e, 24);
        }
        return ST_OK;
    case MSGPACK_F32:
    case MSGPACK_F64:
        n->kind = NODE_FLOAT;
        n->bits[0] = r->kind == MSGPACK_F32 ? widen((uint32_t)r->u) : r->u;
        return ST_OK;
    case MSGPACK_STR:
        n->kind = NODE_STR;
        TRY(msgpack_body(r, &x->m->arena, &n->text, e));
        if (str_starts(n->text, STR("//GDAPlaceholder:")))
            return msgpack_fail(r, e, "gda-placeholder",
                                "the array lies in another file of a multi-host checkpoint");
        return ST_OK;
    case MSGPACK_BIN:
        n->kind = NODE_BYTES;
        return msgpack_body(r, &x->m->arena, &n->text, e);
    case MSGPACK_EXT:
        return read_ext(x, n, e);
    case MSGPACK_ARRAY:
        n->kind = NODE_LIST;
        return ST_OK;
    case MSGPACK_MAP:
        n->kind = NODE_DICT;
        return ST_OK;
    case MSGPACK_CLOSE:
    case MSGPACK_DONE:
        break;
    }
    return err_set(e, ST_BUG, "msgpack-kind", "a token out of place");
}

static int by_key(const void *a, const void *b)
{
    return str_cmp((*(struct node *const *)a)->key->text, (*(struct node *const *)b)->key->text);
}

static enum status refuse(const struct reader *x, const struct node *n, struct err *e,
                          const char *code, const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(x->f), n->offset);
    if (n->key)
        err_in(e, n->key->text.p, n->key->text.n);
    return ST_INPUT;
}

static enum status keys_differ(struct reader *x, struct node *dict, struct err *e)
{
    struct buf list = BUF_INIT;
    enum status st = ST_OK;
    for (struct node *c = dict->child; c; c = c->next)
        buf_bytes(&list, &c, sizeof c);
    st = buf_ok(&list, e);
    if (st == ST_OK && list.n) {
        struct node **v = (struct node **)(void *)list.p;
        size_t n = list.n / sizeof *v;
        qsort(v, n, sizeof *v, by_key);
        for (size_t i = 1; st == ST_OK && i < n; i++)
            if (str_eq(v[i - 1]->key->text, v[i]->key->text))
                st = refuse(x, v[i]->offset > v[i - 1]->offset ? v[i] : v[i - 1], e, "key-twice",
                            "a key stands twice in its map");
    }
    buf_free(&list);
    return st;
}

/* {"0": .., "1": ..}: is child c number i? */
static bool numbered(const struct node *c, uint64_t i)
{
    uint64_t v;
    return str_u64(c->key->text, &v) && v == i;
}

static bool chunk_shape(struct reader *x, const struct node *shape, struct array *a)
{
    uint64_t i = 0;
    if (!shape || shape->kind != NODE_DICT || shape->n_children > VIEW_MAX_AXES)
        return false;
    a->n_dims = (uint8_t)shape->n_children;
    a->dim = ARENA_ARRAY(&x->m->arena, uint64_t, shape->n_children + 1);
    for (const struct node *c = shape->child; a->dim && c; c = c->next, i++) {
        if (!numbered(c, i) || c->kind != NODE_INT || c->i < 0)
            return false;
        a->dim[i] = (uint64_t)c->i;
    }
    return a->dim != NULL;
}

static bool chunk_list(struct reader *x, const struct node *chunks, struct array *a)
{
    uint64_t i = 0;
    struct pieces *p = ARENA_NEW(&x->m->arena, struct pieces);
    if (!p || !chunks || chunks->kind != NODE_DICT || chunks->n_children == 0)
        return false;
    p->n = (size_t)chunks->n_children;
    p->raw = ARENA_ARRAY(&x->m->arena, uint64_t, p->n + 1);
    p->file = ARENA_ARRAY(&x->m->arena, uint64_t, p->n);
    if (!p->raw || !p->file)
        return false;
    for (const struct node *c = chunks->child; c; c = c->next, i++) {
        if (!numbered(c, i) || c->kind != NODE_TENSOR)
            return false;
        const struct array *one = array_of(x, c);
        if (one->pieces || one->n_dims != 1 || (i && one->dtype != a->dtype))
            return false;
        a->dtype = one->dtype;
        p->file[i] = one->data;
        if (!add_u64(p->raw[i], one->bytes, &p->raw[i + 1]))
            return false;
    }
    a->data = p->file[0];
    a->bytes = p->raw[p->n];
    a->pieces = p;
    return true;
}

/* A map with the marker becomes one array. */
static enum status join_chunks(struct reader *x, struct node *n, struct err *e)
{
    struct array a = {.at = n->offset};
    struct view v;
    uint64_t bytes;
    const struct node *mark = node_get(n, STR(FLAX_CHUNKED));
    if (n->n_children != 3 || mark->kind != NODE_BOOL || !mark->i ||
        !chunk_shape(x, node_get(n, STR("shape")), &a) ||
        !chunk_list(x, node_get(n, STR("chunks")), &a))
        return refuse(x, n, e, "chunked-array",
                      "a chunked array is not {marker, shape, chunks in order}");
    if (view_c(&v, a.dim, a.n_dims, e) != ST_OK ||
        item_bytes(a.dtype, view_elems(&v), &bytes) != ST_OK)
        return refuse(x, n, e, "shape-overflow", "the product of the shape is too large");
    if (bytes != a.bytes)
        return refuse(x, n, e, "chunked-array", "the chunks do not add up to the shape");
    n->kind = NODE_TENSOR;
    n->child = n->last = NULL;
    n->n_children = 0;
    n->tensor = (uint32_t)(x->arrays.n / sizeof a);
    buf_bytes(&x->arrays, &a, sizeof a);
    return buf_ok(&x->arrays, e);
}

static enum status close_dict(struct reader *x, struct node *n, struct err *e)
{
    if (n->kind != NODE_DICT)
        return ST_OK;
    TRY(keys_differ(x, n, e));
    if (n->n_children <= 8 && node_get(n, STR("nd")) && node_get(n, STR("data")))
        return refuse(x, n, e, "msgpack-numpy", "an array of msgpack-numpy, not of Flax");
    return node_get(n, STR(FLAX_CHUNKED)) ? join_chunks(x, n, e) : ST_OK;
}

static enum status read_key(struct reader *x, struct node **key, struct err *e)
{
    struct msgpack *r = &x->r;
    if (r->kind != MSGPACK_STR)
        return msgpack_fail(r, e, "msgpack-key", "a key is no text");
    if (r->n > SEGMENT_MAX)
        return msgpack_fail(r, e, "bad-name", "a key of %llu bytes", (unsigned long long)r->n);
    *key = node_new(&x->m->arena, NODE_STR);
    if (!*key)
        return err_nomem(e, sizeof **key);
    (*key)->offset = r->at;
    TRY(msgpack_body(r, &x->m->arena, &(*key)->text, e));
    if (str_find((*key)->text, 0, 0) < (*key)->text.n)
        return msgpack_fail(r, e, "bad-name", "a key with a NUL in it");
    return ST_OK;
}

static enum status read_tree(struct reader *x, struct err *e)
{
    struct node *open = NULL, *key = NULL;
    for (;;) {
        TRY(msgpack_next(&x->r, e));
        if (x->r.kind == MSGPACK_DONE)
            return msgpack_finish(&x->r, e);
        if (x->r.kind == MSGPACK_CLOSE) {
            struct node *n = open;
            open = open->parent;
            TRY(close_dict(x, n, e));
            continue;
        }
        if (open && open->kind == NODE_DICT && !key) {
            TRY(read_key(x, &key, e));
            continue;
        }
        if (x->n_nodes++ >= FREE_NODES && (x->r.at - x->data_bytes) / x->n_nodes < VALUE_BYTES)
            return msgpack_fail(&x->r, e, "too-many-nodes",
                                "more than %u values of less than %u bytes each", FREE_NODES,
                                VALUE_BYTES);
        struct node *n = node_new(&x->m->arena, NODE_NIL);
        if (!n)
            return err_nomem(e, sizeof *n);
        TRY(read_value(x, n, e));
        n->key = key;
        key = NULL;
        if (!open) {
            x->root = n;
            if (n->kind != NODE_DICT)
                return msgpack_fail(&x->r, e, "flax-top", "the top value is no map");
        } else {
            node_add(open, n);
        }
        if (n->kind == NODE_DICT || n->kind == NODE_LIST)
            open = n;
    }
}

/* ---- naming ---- */

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct pieces *p = s->priv;
    uint64_t lo = t * s->tile_bytes;
    uint64_t hi = s->raw_bytes - lo < s->tile_bytes ? s->raw_bytes : lo + s->tile_bytes;
    size_t k = 0;
    (void)scratch;
    for (size_t a = 0, b = p->n; a < b;) { /* the last piece that begins at or before lo */
        size_t mid = a + (b - a) / 2;
        if (p->raw[mid] <= lo) {
            k = mid;
            a = mid + 1;
        } else {
            b = mid;
        }
    }
    for (uint64_t at = lo; at < hi; k++) {
        uint64_t end = p->raw[k + 1] < hi ? p->raw[k + 1] : hi;
        if (end > at)
            TRY(file_pread(s->file, (uint8_t *)dst + (at - lo), (size_t)(end - at),
                           p->file[k] + (at - p->raw[k]), e));
        at = end > at ? end : at;
    }
    return ST_OK;
}

static const struct decoder chunked = {.name = "flax chunks", .tile = tile};

static enum status add_tensor(struct reader *x, struct node *n, struct str name, struct err *e)
{
    const struct array *a = array_of(x, n);
    struct model *m = x->m;
    struct storage *s;
    struct tensor *t;
    uint32_t index;
    TRY(model_storage_add(m, &s, &index, e));
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = x->f,
                          .offset = a->data,
                          .stored_bytes = a->bytes,
                          .raw_bytes = a->bytes};
    if (a->pieces) {
        s->kind = STORAGE_TILED;
        s->tile_bytes = TILE_BYTES;
        s->n_tiles = a->bytes / TILE_BYTES + (a->bytes % TILE_BYTES != 0);
        s->dec = &chunked;
        s->priv = a->pieces;
    }
    TRY(model_tensor_add(m, &t, e));
    t->name = name;
    t->dtype = a->dtype;
    t->storage = index;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->unpacked = dtype_info(a->dtype)->bits < 8;
    t->offset = a->at;
    t->decl = x->f;
    n->tensor = (uint32_t)(m->n_tensors - 1);
    return tensor_set_shape(m, t, a->dim, a->n_dims, e);
}

static enum status name_arrays(struct reader *x, struct err *e)
{
    struct seg seg[MSGPACK_MAX_DEPTH];
    uint64_t index[MSGPACK_MAX_DEPTH];
    size_t depth = 0; /* of n: segments in front of and with its own */
    struct arena *arena = &x->m->arena;
    struct node *n = x->root;
    for (;;) {
        if (n->child) {
            index[depth++] = 0;
            n = n->child;
        } else {
            while (n != x->root && !n->next) {
                n = n->parent;
                depth--;
            }
            if (n == x->root)
                return ST_OK;
            n = n->next;
            index[depth - 1]++;
        }
        struct seg *s = &seg[depth - 1];
        *s = (struct seg){.kind = SEG_KEY};
        if (n->key) {
            s->key = n->key->text;
        } else {
            s->kind = SEG_INDEX;
            s->index = index[depth - 1];
            s->key = arena_fmt(arena, "%llu", (unsigned long long)s->index);
            if (!s->key.p)
                return err_nomem(e, 24);
        }
        bool lies_elsewhere = x->leaves && n->kind == NODE_STR;
        if (n->kind == NODE_TENSOR || lies_elsewhere) {
            struct path path = {seg, depth};
            struct str name;
            TRY(path_print(&path, arena, &name, e));
            TRY(lies_elsewhere ? x->leaves->text(x->leaves->ctx, n, name, e)
                               : add_tensor(x, n, name, e));
        }
    }
}

enum status flax_tree(struct model *m, struct file *f, const struct flax_leaves *leaves,
                      struct err *e)
{
    struct reader x = {.m = m, .f = f, .leaves = leaves};
    struct cursor c;
    cur_file(&c, f, 0, file_size(f));
    msgpack_init(&x.r, &c, file_size(f));
    enum status st = read_tree(&x, e);
    cur_close(&c);
    if (st == ST_OK)
        st = name_arrays(&x, e);
    buf_free(&x.arrays);
    m->tree = x.root;
    return st;
}

/* In Linen mean and var stand in a collection of their own. */
static bool mean_beside_scale(const struct model *m, struct str name)
{
    struct buf scale = BUF_INIT;
    if (!str_ends(name, STR(".mean")) || str_starts(name, STR("batch_stats.")))
        return false;
    buf_str(&scale, str_sub(name, 0, name.n - 4));
    buf_z(&scale, "scale");
    bool found = !scale.failed && model_find(m, buf_as_str(&scale)) >= 0;
    buf_free(&scale);
    return found;
}

bool flax_is_nnx(const struct model *m)
{
    bool variables = m->n_tensors > 0, beside = false;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str name = m->tensor[i].name;
        variables =
            variables && (str_ends(name, STR(".value")) || str_ends(name, STR(".raw_value")));
        beside = beside || mean_beside_scale(m, name);
    }
    return variables || beside;
}

enum status flax_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e)
{
    struct file *f = s->file;
    (void)opt;
    s->file = NULL;
    m->format = "msgpack";
    TRY(model_own_file(m, f, e));
    TRY(flax_tree(m, f, NULL, e));
    TRY(model_finish(m, e));
    m->framework = flax_is_nnx(m) ? STR("nnx") : STR("flax");
    return roles_by_name(m, e);
}
