/* Orbax, writing: see orbax.c. The tree is walked once; every leaf becomes a line of _METADATA, and
 * each array two keys of the store. Python's numbers in the tree are arrays without axes, as Orbax
 * keeps them.
 *
 *   d/HEX            arrays' bytes at multiples of 64, then the nodes of the store
 *   manifest.ocdbt   names the root node
 *   _METADATA, [_strings.json], [array_metadatas/process_0]
 */
#include "base/checked.h"
#include "codec/ocdbt.h"
#include "codec/sha256.h"
#include "format/attach.h"
#include "format/msgpack.h"
#include "format/orbax.h"
#include <stdlib.h>
#include <string.h>

#define ALIGN 64
#define MAX_DEPTH 128
#define LEAF_ENTRIES 16384 /* of a node of the store */
#define MAX_KEY 65535u
#define NO_TENSOR UINT32_MAX

struct item {         /* an array */
    struct str name;  /* in the store */
    uint32_t tensor;  /* NO_TENSOR: a number of the tree */
    struct str bytes; /* that number's */
    enum dtype dtype;
    uint64_t offset, n_bytes;
    struct str key_impl; /* a PRNG key's kind */
};
struct layout {
    const struct model *m;
    struct arena *a;
    struct buf items; /* struct item, in tree order */
    struct buf metadata, strings, arrays, nodes, manifest;
    struct json_w json, texts; /* on metadata and strings */
    bool any_text, any_key;
    uint64_t data_bytes; /* where the nodes begin */
    uint64_t n_seen;
    struct str data_path;
};

static enum status cannot(struct str name, struct err *e, const char *code, const char *why)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- types ---- */

/* What zarr version 2 calls a type, as tensorstore reads it; NULL: it has none. */
static const char *zarr_type(enum dtype t)
{
    switch (t) {
    case DT_F64:
        return "<f8";
    case DT_F32:
        return "<f4";
    case DT_F16:
        return "<f2";
    case DT_I64:
        return "<i8";
    case DT_I32:
        return "<i4";
    case DT_I16:
        return "<i2";
    case DT_I8:
        return "|i1";
    case DT_U64:
        return "<u8";
    case DT_U32:
        return "<u4";
    case DT_U16:
        return "<u2";
    case DT_U8:
        return "|u1";
    case DT_BOOL:
        return "|b1";
    case DT_C64:
        return "<c8";
    case DT_C128:
        return "<c16";
    case DT_BF16:
    case DT_F8_E4M3FN:
    case DT_F8_E5M2:
    case DT_F8_E4M3FNUZ:
    case DT_F8_E5M2FNUZ:
    case DT_F8_E8M0FNU:
    case DT_F4_E2M1FN:
    case DT_I4:
    case DT_I2:
        return dtype_info(t)->name;
    default:
        return NULL;
    }
}

static size_t item_size(enum dtype t)
{
    return dtype_bytes(t) ? dtype_bytes(t) : 1; /* sub-byte types: one value a byte */
}

/* ---- names ---- */

static bool can_be_a_key(struct str name)
{
    struct str rest = name, part;
    bool ok = name.n && name.n + 128 <= MAX_KEY && name.p[0] != '/' && name.p[name.n - 1] != '/' &&
              str_utf8(name, NULL) && str_find(name, 0, 0) == name.n;
    while (ok && str_split(&rest, '/', &part))
        ok = part.n && !str_is(part, "..") && !str_is(part, ".");
    return ok;
}

/* Python's repr of a tuple of texts: what Orbax has as the name of a leaf, for people. */
static void tuple_text(struct buf *b, const struct str *key, size_t n)
{
    buf_u8(b, '(');
    for (size_t i = 0; i < n; i++) {
        buf_z(b, i ? ", '" : "'");
        for (size_t k = 0; k < key[i].n; k++) {
            uint8_t c = (uint8_t)key[i].p[k];
            if (c == '\'' || c == '\\')
                buf_u8(b, '\\');
            if (c < 0x20 || c == 0x7f)
                buf_fmt(b, "\\x%02x", c);
            else
                buf_u8(b, c);
        }
        buf_u8(b, '\'');
    }
    buf_z(b, n == 1 ? ",)" : ")");
}

/* ---- one leaf ---- */

static void put_shape(struct json_w *w, const char *key, const struct tensor *t)
{
    json_w_key(w, str_from(key));
    json_w_array(w);
    for (size_t d = 0; d < t->n_dims; d++)
        json_w_u64(w, t->dim[d]);
    json_w_array_end(w);
}

static void put_leaf(struct layout *x, const struct str *key, const bool *number, size_t n,
                     const char *type, const struct tensor *t, bool stored)
{
    struct json_w *w = &x->json;
    struct buf text = BUF_INIT;
    tuple_text(&text, key, n);
    json_w_key(w, buf_as_str(&text));
    buf_free(&text);
    json_w_object(w);
    json_w_key(w, STR("key_metadata"));
    json_w_array(w);
    for (size_t i = 0; i < n; i++) {
        json_w_object(w);
        json_w_key(w, STR("key"));
        json_w_str(w, key[i]);
        json_w_key(w, STR("key_type"));
        json_w_u64(w, number[i] ? 1 : 2);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_key(w, STR("value_metadata"));
    json_w_object(w);
    json_w_key(w, STR("value_type"));
    json_w_str(w, str_from(type));
    json_w_key(w, STR("skip_deserialize"));
    json_w_bool(w, !stored);
    if (t)
        put_shape(w, "write_shape", t);
    json_w_object_end(w);
    json_w_object_end(w);
}

static enum status add_item(struct layout *x, struct item *it, struct err *e)
{
    uint64_t at;
    if (!can_be_a_key(it->name))
        return cannot(it->name, e, "name", "the store of arrays cannot spell this name");
    if (!round_up_u64(x->data_bytes, ALIGN, &at) || !add_u64(at, it->n_bytes, &x->data_bytes) ||
        x->data_bytes > INT64_MAX / 2)
        return cannot(it->name, e, "too-large", "the arrays are too large for one file");
    it->offset = at;
    buf_bytes(&x->items, it, sizeof *it);
    return buf_ok(&x->items, e);
}

static enum status put_tensor(struct layout *x, const struct node *n, const struct str *key,
                              const bool *number, size_t depth, struct str name, struct err *e)
{
    const struct tensor *t = &x->m->tensor[n->tensor];
    struct item it = {.name = name, .tensor = n->tensor, .dtype = t->dtype};
    static const struct str mark = {ORBAX_KEY_MARK, sizeof ORBAX_KEY_MARK - 1};
    if (!zarr_type(t->dtype)) {
        (void)err_set(e, ST_CANNOT, "dtype", "zarr has no type for %s", dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    if (t->n_dims > ZARR_MAX_DIMS)
        return cannot(t->name, e, "dims", "zarr holds up to 32 dimensions");
    if (!mul_u64(tensor_elems(t), item_size(t->dtype), &it.n_bytes))
        return cannot(t->name, e, "too-large", "the array is too large");
    if (str_starts(n->text, mark)) {
        it.key_impl = str_sub(n->text, mark.n, n->text.n);
        x->any_key = true;
    }
    x->n_seen++;
    bool scalar = str_is(n->text, FLAX_SCALAR_MARK) && t->n_dims == 0;
    /* numpy: a jax.Array would ask for devices when it is restored */
    put_leaf(x, key, number, depth, scalar ? "scalar" : "np.ndarray", scalar ? NULL : t, true);
    return add_item(x, &it, e);
}

/* A number of the tree; false: it is none that an array could hold. */
static bool number_bytes(const struct node *n, struct item *it, uint8_t out[8])
{
    uint64_t v = (uint64_t)n->i;
    it->n_bytes = 8;
    switch (n->kind) {
    case NODE_BOOL:
        it->dtype = DT_BOOL;
        it->n_bytes = 1;
        v = n->i != 0;
        break;
    case NODE_INT:
        it->dtype = DT_I64;
        break;
    case NODE_BIGINT:
        it->dtype = DT_U64;
        if (!str_u64(n->text, &v))
            return false;
        break;
    case NODE_FLOAT:
        it->dtype = DT_F64;
        v = n->bits[0];
        break;
    default:
        return false; /* of complex numbers, too, Orbax knows arrays only */
    }
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> 8 * i);
    return true;
}

static enum status put_leaf_node(struct layout *x, const struct node *n, const struct str *key,
                                 const bool *number, size_t depth, struct err *e)
{
    struct buf joined = BUF_INIT;
    struct item it = {.tensor = NO_TENSOR};
    uint8_t raw[8];
    for (size_t i = 0; i < depth; i++) {
        if (i)
            buf_u8(&joined, '.');
        buf_str(&joined, key[i]);
        if (!str_utf8(key[i], NULL)) {
            buf_free(&joined);
            return cannot(key[i], e, "name", "a key that is no UTF-8");
        }
    }
    struct str name = arena_str(x->a, joined.p, joined.n);
    buf_free(&joined);
    if (!name.p)
        return err_nomem(e, 64);
    const char *empty = n->kind == NODE_NIL     ? "None"
                        : n->kind == NODE_DICT  ? "Dict"
                        : n->kind == NODE_LIST  ? "List"
                        : n->kind == NODE_TUPLE ? "Tuple"
                                                : NULL;
    if (empty) {
        put_leaf(x, key, number, depth, empty, NULL, false);
        return ST_OK;
    }
    if (n->kind == NODE_TENSOR)
        return put_tensor(x, n, key, number, depth, name, e);
    if (n->kind == NODE_STR && str_utf8(n->text, NULL)) {
        put_leaf(x, key, number, depth, "string", NULL, true);
        json_w_key(&x->texts, name);
        json_w_str(&x->texts, n->text);
        x->any_text = true;
        return ST_OK;
    }
    if (!number_bytes(n, &it, raw))
        return cannot(name, e, "tree-value", "Orbax cannot hold this value of the tree");
    it.name = name;
    it.bytes = arena_str(x->a, raw, (size_t)it.n_bytes);
    it.n_bytes = 0; /* inline in the store */
    if (!it.bytes.p)
        return err_nomem(e, 8);
    put_leaf(x, key, number, depth, "scalar", NULL, true);
    return add_item(x, &it, e);
}

/* ---- the tree ---- */

static enum status key_of(struct layout *x, const struct node *n, uint64_t index, struct str *key,
                          bool *number, struct err *e)
{
    const struct node *k = n->key;
    *number = k == NULL;
    if (k && k->kind == NODE_STR) {
        *key = k->text;
        return ST_OK;
    }
    if (k && (k->kind != NODE_INT || k->i < 0))
        return err_set(e, ST_CANNOT, "tree-key", "Orbax takes text as keys only");
    *key = arena_fmt(x->a, "%llu", (unsigned long long)(k ? (uint64_t)k->i : index));
    return key->p ? ST_OK : err_nomem(e, 24);
}

static enum status walk(struct layout *x, const struct node *root, struct err *e)
{
    struct str key[MAX_DEPTH];
    bool number[MAX_DEPTH];
    uint64_t index[MAX_DEPTH];
    size_t depth = 0;
    const struct node *n = root;
    if (root->kind != NODE_DICT && root->kind != NODE_LIST && root->kind != NODE_TUPLE)
        return err_set(e, ST_CANNOT, "tree-top", "an Orbax item has a map or a list at the top");
    for (;;) {
        const struct node *child = n->kind == NODE_TENSOR ? NULL : flax_kept(n->child);
        if (child) {
            if (depth == MAX_DEPTH)
                return err_set(e, ST_CANNOT, "tree-depth", "the tree is too deep");
            index[depth++] = 0;
            n = child;
        } else {
            if (n != root)
                TRY(put_leaf_node(x, n, key, number, depth, e));
            while (n != root && !flax_kept(n->next)) {
                n = n->parent;
                depth--;
            }
            if (n == root)
                return ST_OK;
            n = flax_kept(n->next);
            index[depth - 1]++;
        }
        TRY(key_of(x, n, index[depth - 1], &key[depth - 1], &number[depth - 1], e));
    }
}

/* ---- the store ---- */

static void zarray_text(struct buf *b, const struct layout *x, const struct item *it)
{
    struct json_w w;
    const struct tensor *t = it->tensor == NO_TENSOR ? NULL : &x->m->tensor[it->tensor];
    size_t n = t ? t->n_dims : 0;
    json_w_init(&w, b, 0);
    json_w_object(&w);
    json_w_key(&w, STR("chunks"));
    json_w_array(&w);
    for (size_t d = 0; d < n; d++)
        json_w_u64(&w, t->dim[d] ? t->dim[d] : 1);
    json_w_array_end(&w);
    json_w_key(&w, STR("compressor"));
    json_w_null(&w);
    json_w_key(&w, STR("dimension_separator"));
    json_w_str(&w, STR("."));
    json_w_key(&w, STR("dtype"));
    json_w_str(&w, str_from(zarr_type(it->dtype)));
    json_w_key(&w, STR("fill_value"));
    json_w_null(&w);
    json_w_key(&w, STR("filters"));
    json_w_null(&w);
    json_w_key(&w, STR("order"));
    json_w_str(&w, STR("C"));
    json_w_key(&w, STR("shape"));
    json_w_array(&w);
    for (size_t d = 0; d < n; d++)
        json_w_u64(&w, t->dim[d]);
    json_w_array_end(&w);
    json_w_key(&w, STR("zarr_format"));
    json_w_u64(&w, 2);
    json_w_object_end(&w);
}

static enum status array_entries(struct layout *x, const struct item *it, struct buf *entries,
                                 struct err *e)
{
    struct buf text = BUF_INIT, chunk = BUF_INIT;
    struct ocdbt_entry meta = {.length = 0}, data = {.offset = it->offset, .length = it->n_bytes};
    size_t n = it->tensor == NO_TENSOR ? 0 : x->m->tensor[it->tensor].n_dims;
    zarray_text(&text, x, it);
    for (size_t d = 0; d < (n ? n : 1); d++)
        buf_z(&chunk, d ? ".0" : "0");
    meta.key = arena_fmt(x->a, "%.*s/.zarray", STR_ARG(it->name));
    meta.bytes = arena_str(x->a, text.p, text.n);
    data.key = arena_fmt(x->a, "%.*s/%.*s", STR_ARG(it->name), STR_ARG(buf_as_str(&chunk)));
    data.bytes = it->bytes;
    bool ok = !text.failed && !chunk.failed && meta.key.p && meta.bytes.p && data.key.p;
    buf_free(&text);
    buf_free(&chunk);
    if (!ok)
        return err_nomem(e, 256);
    buf_bytes(entries, &meta, sizeof meta);
    if (it->n_bytes || it->bytes.p) /* an array without elements has no chunk */
        buf_bytes(entries, &data, sizeof data);
    return buf_ok(entries, e);
}

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct ocdbt_entry *)a)->key, ((const struct ocdbt_entry *)b)->key);
}

static enum status put_nodes(struct layout *x, const struct ocdbt_entry *v, size_t n, struct err *e)
{
    struct ocdbt_root root = {.n_keys = n};
    struct buf children = BUF_INIT;
    uint8_t id[32];
    for (size_t lo = 0; lo < n; lo += LEAF_ENTRIES) {
        size_t k = n - lo < LEAF_ENTRIES ? n - lo : LEAF_ENTRIES;
        struct ocdbt_child c = {v[lo].key, x->data_bytes + x->nodes.n, 0, k, 0};
        ocdbt_w_leaf(&x->nodes, x->data_path, v + lo, k);
        c.length = x->data_bytes + x->nodes.n - c.offset;
        for (size_t i = lo; i < lo + k; i++)
            c.value_bytes += v[i].bytes.p ? 0 : v[i].length;
        root.value_bytes += c.value_bytes;
        root.offset = c.offset;
        root.length = c.length;
        buf_bytes(&children, &c, sizeof c);
    }
    if (n > LEAF_ENTRIES) {
        root.height = 1;
        root.offset = x->data_bytes + x->nodes.n;
        ocdbt_w_interior(&x->nodes, x->data_path,
                         (const struct ocdbt_child *)(const void *)children.p,
                         children.n / sizeof(struct ocdbt_child));
        root.length = x->data_bytes + x->nodes.n - root.offset;
    }
    root.tree_bytes = x->nodes.n;
    sha256(x->nodes.p, x->nodes.n, id);
    ocdbt_w_manifest(&x->manifest, id, x->data_path, &root);
    enum status st = buf_ok(&children, e);
    buf_free(&children);
    TRY(st);
    TRY(buf_ok(&x->nodes, e));
    return buf_ok(&x->manifest, e);
}

static enum status put_store(struct layout *x, struct err *e)
{
    const struct item *it = (const struct item *)(const void *)x->items.p;
    struct buf entries = BUF_INIT;
    uint8_t id[32];
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < x->items.n / sizeof *it; i++)
        st = array_entries(x, &it[i], &entries, e);
    struct ocdbt_entry *v = (struct ocdbt_entry *)(void *)entries.p;
    size_t n = entries.n / sizeof *v;
    if (st == ST_OK && n)
        qsort(v, n, sizeof *v, by_key);
    for (size_t i = 1; st == ST_OK && i < n; i++)
        if (str_eq(v[i - 1].key, v[i].key))
            st = cannot(v[i].key, e, "name", "two arrays have one name in the store");
    if (st == ST_OK) {
        struct buf hex = BUF_INIT;
        sha256(x->metadata.p, x->metadata.n, id);
        buf_z(&hex, "d/");
        for (int i = 0; i < 16; i++)
            buf_fmt(&hex, "%02x", id[i]);
        x->data_path = arena_str(x->a, hex.p, hex.n);
        buf_free(&hex);
        st = x->data_path.p ? put_nodes(x, v, n, e) : err_nomem(e, 64);
    }
    buf_free(&entries);
    return st;
}

/* ---- files ---- */

/* Which arrays are PRNG keys; all are listed, as Orbax does. */
static void put_arrays(struct layout *x)
{
    const struct item *it = (const struct item *)(const void *)x->items.p;
    struct json_w w;
    json_w_init(&w, &x->arrays, 0);
    json_w_object(&w);
    json_w_key(&w, STR("array_metadatas"));
    json_w_array(&w);
    for (size_t i = 0; i < x->items.n / sizeof *it; i++) {
        if (it[i].tensor == NO_TENSOR)
            continue;
        const struct tensor *t = &x->m->tensor[it[i].tensor];
        json_w_object(&w);
        json_w_key(&w, STR("array_metadata"));
        json_w_object(&w);
        json_w_key(&w, STR("param_name"));
        json_w_str(&w, it[i].name);
        put_shape(&w, "write_shape", t);
        put_shape(&w, "chunk_shape", t);
        json_w_key(&w, STR("ext_metadata"));
        if (it[i].key_impl.p) {
            json_w_object(&w);
            json_w_key(&w, STR("random_key_impl"));
            json_w_str(&w, it[i].key_impl);
            json_w_object_end(&w);
        } else {
            json_w_null(&w);
        }
        json_w_object_end(&w);
        json_w_object_end(&w);
    }
    json_w_array_end(&w);
    json_w_object_end(&w);
}

static enum status lay_out(struct layout *x, struct err *e)
{
    const struct node *root;
    struct json_w *w = &x->json;
    TRY(flax_spelled(x->m, x->a, &root, e));
    json_w_init(w, &x->metadata, 0);
    json_w_init(&x->texts, &x->strings, 0);
    json_w_object(&x->texts);
    json_w_object(w);
    json_w_key(w, STR("tree_metadata"));
    json_w_object(w);
    TRY(walk(x, root, e));
    json_w_object_end(w);
    json_w_key(w, STR("use_ocdbt"));
    json_w_bool(w, true);
    json_w_key(w, STR("use_zarr3"));
    json_w_bool(w, false);
    json_w_key(w, STR("store_array_data_equal_to_fill_value"));
    json_w_bool(w, true);
    json_w_key(w, STR("custom_metadata"));
    json_w_null(w);
    json_w_object_end(w);
    json_w_object_end(&x->texts);
    if (x->n_seen != x->m->n_tensors)
        return err_set(e, ST_CANNOT, "tree-tensor", "%llu of %zu tensors have no place in the tree",
                       (unsigned long long)(x->m->n_tensors - x->n_seen), x->m->n_tensors);
    TRY(buf_ok(&x->metadata, e));
    TRY(buf_ok(&x->strings, e));
    if (!round_up_u64(x->data_bytes, ALIGN, &x->data_bytes))
        return err_set(e, ST_CANNOT, "too-large", "the arrays are too large for one file");
    TRY(put_store(x, e));
    if (x->any_key)
        put_arrays(x);
    TRY(buf_ok(&x->arrays, e));
    const struct str taken[] = {x->data_path,
                                STR("manifest.ocdbt"),
                                STR("_METADATA"),
                                STR("_strings.json"),
                                STR("array_metadatas/process_0"),
                                STR("checkpoint"),
                                STR("_sharding"),
                                STR("_CHECKPOINT_METADATA")};
    return attach_check(x->m, taken, sizeof taken / sizeof *taken, e);
}

static void drop(struct layout *x)
{
    buf_free(&x->items);
    buf_free(&x->metadata);
    buf_free(&x->strings);
    buf_free(&x->arrays);
    buf_free(&x->nodes);
    buf_free(&x->manifest);
}

enum status orbax_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x = {.m = m, .a = &a};
    (void)opt;
    enum status st = lay_out(&x, e);
    drop(&x);
    arena_free(&a);
    return st;
}

static enum status put_file(struct writer *w, struct str name, const struct buf *b, struct err *e)
{
    int id;
    TRY(out_add(w->out, name, b->n, &id, e));
    return out_pwrite(w->out, id, b->p, b->n, 0, e);
}

static enum status put_files(struct writer *w, const struct layout *x, struct err *e)
{
    const struct item *it = (const struct item *)(const void *)x->items.p;
    size_t k = 0;
    int id;
    TRY(out_add(w->out, x->data_path, x->data_bytes + x->nodes.n, &id, e));
    TRY(out_pwrite(w->out, id, x->nodes.p, x->nodes.n, x->data_bytes, e));
    for (size_t i = 0; i < x->items.n / sizeof *it; i++) {
        if (it[i].tensor == NO_TENSOR)
            continue;
        w->place[it[i].tensor] = (struct place){.kind = PLACE_FIXED,
                                                .file = id,
                                                .offset = it[i].offset,
                                                .unpacked = dtype_info(it[i].dtype)->bits < 8};
        w->order[k++] = it[i].tensor;
    }
    TRY(put_file(w, STR("manifest.ocdbt"), &x->manifest, e));
    if (x->any_text)
        TRY(put_file(w, STR("_strings.json"), &x->strings, e));
    if (x->any_key)
        TRY(put_file(w, STR("array_metadatas/process_0"), &x->arrays, e));
    return put_file(w, STR("_METADATA"), &x->metadata, e);
}

enum status orbax_begin(struct writer *w, struct err *e)
{
    struct layout x = {.m = w->m, .a = &w->arena};
    enum status st = lay_out(&x, e);
    if (st == ST_OK)
        st = put_files(w, &x, e);
    drop(&x);
    return st;
}

enum status orbax_end(struct writer *w, struct err *e)
{
    return attach_write(w, e);
}
