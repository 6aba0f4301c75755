/* Tensor bundles, writing: data files first, tensors in the order of their keys, then the strings
 * that travel along; the index last. See tf_checkpoint.c for the layout.
 *
 * Keys are the names, joined by '/'. Where an object graph travels along, a tensor that it knows
 * gets the graph's key, and the graph goes back without the values that are no longer there.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/crc.h"
#include "codec/sstable.h"
#include "format/attach.h"
#include "format/hf_index.h"
#include "format/tf.h"
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX 99999u

/* One entry of the index. */
struct item {
    struct str key;
    int64_t tensor; /* -1: an attachment or the graph */
    unsigned type;
    uint8_t n_dims;
    uint32_t shard, crc; /* crc: of a string, masked */
    const uint64_t *dim;
    uint64_t offset, size;
    struct str stored; /* a string's bytes */
};
struct layout {
    struct item *item; /* by key */
    size_t n;
    size_t n_shards;
    uint64_t *shard_bytes;
    struct str stem;
    int *file;
    struct str graph; /* as it travels along; empty: none */
};

/* ---- keys ---- */

struct known { /* a key of the graph and the name it is read as */
    struct str name, key;
};

static int by_known(const void *a, const void *b)
{
    return str_cmp(((const struct known *)a)->name, ((const struct known *)b)->name);
}

static enum status known_keys(struct str graph, struct arena *a, struct known **out, size_t *n,
                              struct err *e)
{
    struct tf_graph g = {0};
    enum status st = graph.n ? tf_graph_read(graph, TF_GRAPH_NAME, 0, a, &g, e) : ST_OK;
    if (st == ST_INPUT)
        st = err_set(e, ST_CANNOT, "tf-graph", "the object graph that travels along is damaged");
    TRY(st);
    *out = ARENA_ARRAY(a, struct known, g.n_attrs + 1);
    *n = g.n_attrs;
    if (!*out)
        return err_nomem(e, g.n_attrs * sizeof **out);
    for (size_t i = 0; i < g.n_attrs; i++) {
        (*out)[i].key = g.attr[i].key;
        (*out)[i].name = g.attr[i].tensor;
    }
    if (*n)
        qsort(*out, *n, sizeof **out, by_known);
    return ST_OK;
}

static enum status key_of(const struct tensor *t, const struct known *list, size_t n, bool strip,
                          struct arena *a, struct str *key, struct err *e)
{
    struct known want = {.name = t->name};
    const struct known *k = n ? bsearch(&want, list, n, sizeof *list, by_known) : NULL;
    if (!k)
        return tf_key(t->name, strip, a, key, e);
    *key = k->key;
    return ST_OK;
}

static enum status cannot(struct str name, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- items ---- */

static enum status tensor_item(const struct model *m, size_t i, struct item *x, struct err *e)
{
    const struct tensor *t = &m->tensor[i];
    *x = (struct item){.key = x->key, .tensor = (int64_t)i, .n_dims = t->n_dims, .dim = t->dim};
    x->type = tf_number(t->dtype);
    if (x->type == 0) {
        (void)err_set(e, ST_CANNOT, "dtype", "TensorFlow has no type for %s",
                      dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    size_t width = dtype_bytes(t->dtype) ? dtype_bytes(t->dtype) : 1;
    if (!mul_u64(tensor_elems(t), width, &x->size) || x->size > INT64_MAX)
        return cannot(t->name, "too-large", "the tensor is too large", e);
    return ST_OK;
}

static enum status put_string(struct str s, struct arena *a, struct item *x, struct err *e)
{
    struct tf_strings_w w = {.sum_lengths = 0};
    struct buf b = BUF_INIT;
    tf_strings_add(&w, s);
    tf_strings_end(&w, &b, &x->crc);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK) {
        x->stored = arena_str(a, b.p, b.n);
        st = x->stored.p ? ST_OK : err_nomem(e, b.n);
    }
    buf_free(&b);
    x->type = TF_STRING;
    x->size = x->stored.n;
    return st;
}

/* "; dtype=string; crc32c=0123abcd; shape=2,3" */
static bool parse_stored(struct str type, struct item *x, uint64_t *dim)
{
    struct str rest = str_sub(type, sizeof TF_STORED - 1, type.n), part;
    if (!str_starts(rest, STR("; dtype=")))
        return false;
    rest = str_sub(rest, 8, rest.n);
    size_t end = str_find_str(rest, STR("; crc32c="), 0);
    part = str_sub(rest, 0, end);
    x->type = str_is(part, "string") ? TF_STRING : str_is(part, "variant") ? TF_VARIANT : 0;
    rest = str_sub(rest, end + 9, rest.n);
    if (x->type == 0 || rest.n < 17 || !str_eq(str_sub(rest, 8, 16), STR("; shape=")))
        return false;
    x->crc = 0;
    for (size_t i = 0; i < 8; i++) {
        char c = rest.p[i];
        unsigned v = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                            : 16;
        if (v > 15)
            return false;
        x->crc = x->crc << 4 | v;
    }
    rest = str_sub(rest, 16, rest.n);
    while (rest.n && str_split(&rest, ',', &part)) {
        if (x->n_dims == VIEW_MAX_AXES || !str_u64(part, &dim[x->n_dims++]))
            return false;
    }
    return true;
}

/* A string tensor that travels along; x->key empty: it is none. */
static enum status string_item(const struct attachment *at, struct arena *a, struct item *x,
                               struct err *e)
{
    *x = (struct item){.tensor = -1};
    if (!str_starts(at->name, STR(TF_STRINGS)))
        return ST_OK;
    struct str key = str_sub(at->name, sizeof TF_STRINGS - 1, at->name.n), bytes;
    TRY(attach_bytes(at, a, &bytes, e));
    if (str_starts(at->media_type, STR(TF_STORED))) {
        uint64_t *dim = ARENA_ARRAY(a, uint64_t, VIEW_MAX_AXES);
        if (!dim)
            return err_nomem(e, VIEW_MAX_AXES * sizeof *dim);
        if (!parse_stored(at->media_type, x, dim))
            return cannot(at->name, "attachment-name", "its media type does not say what it is", e);
        x->dim = dim;
        x->stored = bytes;
        x->size = bytes.n;
    } else {
        TRY(put_string(bytes, a, x, e));
    }
    x->key = key;
    return ST_OK;
}

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct item *)a)->key, ((const struct item *)b)->key);
}

static enum status take_graph(const struct model *m, struct arena *a, struct layout *x,
                              struct err *e)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, TF_GRAPH_NAME))
            TRY(attach_bytes(&m->attachment[i], a, &x->graph, e));
    return ST_OK;
}

/* The pruned graph, among the items sorted by then. */
static enum status graph_item(struct layout *x, struct arena *a, struct err *e)
{
    struct str *keys = ARENA_ARRAY(a, struct str, x->n + 1);
    struct buf pruned = BUF_INIT;
    struct item g = {.tensor = -1, .key = STR(TF_GRAPH_KEY)};
    if (!keys)
        return err_nomem(e, x->n * sizeof *keys);
    for (size_t i = 0; i < x->n; i++)
        keys[i] = x->item[i].key;
    enum status st = tf_graph_prune(x->graph, keys, x->n, &pruned, e);
    if (st == ST_OK)
        st = put_string(buf_as_str(&pruned), a, &g, e);
    buf_free(&pruned);
    TRY(st);
    x->item[x->n++] = g;
    qsort(x->item, x->n, sizeof *x->item, by_key);
    return ST_OK;
}

static enum status collect(const struct model *m, struct arena *a, struct layout *x, struct err *e)
{
    struct known *list = NULL;
    size_t n = 0;
    x->item = ARENA_ARRAY(a, struct item, m->n_tensors + m->n_attachments + 2);
    if (!x->item)
        return err_nomem(e, m->n_tensors * sizeof *x->item);
    TRY(take_graph(m, a, x, e));
    TRY(known_keys(x->graph, a, &list, &n, e));
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct item *y = &x->item[x->n++];
        TRY(key_of(&m->tensor[i], list, n, x->graph.n > 0, a, &y->key, e));
        TRY(tensor_item(m, i, y, e));
    }
    for (size_t i = 0; i < m->n_attachments; i++) {
        struct item *y = &x->item[x->n];
        TRY(string_item(&m->attachment[i], a, y, e));
        x->n += y->key.n > 0;
    }
    if (x->n)
        qsort(x->item, x->n, sizeof *x->item, by_key);
    if (x->graph.n)
        TRY(graph_item(x, a, e));
    for (size_t i = 0; i < x->n; i++)
        if (x->item[i].key.p[0] == 0 || (i && str_eq(x->item[i - 1].key, x->item[i].key)))
            return cannot(x->item[i].key, "name-not-spelled",
                          "two tensors have one key, or a key begins with a NUL", e);
    return ST_OK;
}

static enum status lay_out(const struct model *m, const struct write_opt *opt, struct arena *a,
                           struct layout *x, struct err *e)
{
    *x = (struct layout){.n = 0};
    TRY(collect(m, a, x, e));
    uint64_t *bytes = ARENA_ARRAY(a, uint64_t, x->n + 1);
    uint32_t *shard = ARENA_ARRAY(a, uint32_t, x->n + 1);
    if (!bytes || !shard)
        return err_nomem(e, x->n * sizeof *bytes);
    for (size_t i = 0; i < x->n; i++)
        bytes[i] = x->item[i].size;
    x->n_shards = hf_shard_cut(bytes, x->n, opt->max_shard_size, shard);
    if (x->n_shards > SHARDS_MAX)
        return err_set(e, ST_CANNOT, "too-many-shards", "more than %u shards", SHARDS_MAX);
    x->shard_bytes = ARENA_ARRAY(a, uint64_t, x->n_shards + 1);
    x->file = ARENA_ARRAY(a, int, x->n_shards + 1);
    if (!x->shard_bytes || !x->file)
        return err_nomem(e, x->n_shards * 8);
    for (size_t i = 0; i < x->n; i++) {
        struct item *y = &x->item[i];
        y->shard = shard[i];
        y->offset = x->shard_bytes[y->shard];
        if (!add_u64(y->offset, y->size, &x->shard_bytes[y->shard]) ||
            x->shard_bytes[y->shard] > INT64_MAX)
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^63 bytes");
    }
    return ST_OK;
}

enum status tf_bundle_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x;
    enum status st = lay_out(m, opt, &a, &x, e);
    arena_free(&a);
    return st;
}

/* ---- files ---- */

enum status tf_bundle_begin(struct writer *w, struct str stem, struct err *e)
{
    struct layout *x = ARENA_NEW(&w->arena, struct layout);
    if (!x)
        return err_nomem(e, sizeof *x);
    w->priv = x;
    TRY(lay_out(w->m, &w->opt, &w->arena, x, e));
    x->stem = stem;
    for (size_t s = 0; s < x->n_shards; s++) {
        struct str name =
            arena_fmt(&w->arena, "%.*s.data-%05zu-of-%05zu", STR_ARG(stem), s, x->n_shards);
        if (!name.p)
            return err_nomem(e, stem.n);
        TRY(out_add(w->out, name, x->shard_bytes[s], &x->file[s], e));
    }
    size_t k = 0;
    for (size_t i = 0; i < x->n; i++) {
        const struct item *y = &x->item[i];
        int id = x->file[y->shard];
        if (y->tensor < 0) {
            TRY(out_pwrite(w->out, id, y->stored.p, y->stored.n, y->offset, e));
            continue;
        }
        w->place[y->tensor] = (struct place){.kind = PLACE_FIXED,
                                             .file = id,
                                             .offset = y->offset,
                                             .want = WANT_CRC32C,
                                             .unpacked = true};
        w->order[k++] = (uint32_t)y->tensor;
    }
    return ST_OK;
}

static void put_entry(struct buf *b, const struct item *x, uint32_t crc)
{
    struct buf shape = BUF_INIT, dim = BUF_INIT;
    buf_clear(b);
    for (size_t d = 0; d < x->n_dims; d++) {
        buf_clear(&dim);
        if (x->dim[d])
            proto_w_u64(&dim, 1, x->dim[d]);
        proto_w_sub(&shape, 2, &dim);
    }
    proto_w_u64(b, 1, x->type);
    proto_w_sub(b, 2, &shape);
    if (x->shard)
        proto_w_u64(b, 3, x->shard);
    if (x->offset)
        proto_w_u64(b, 4, x->offset);
    if (x->size)
        proto_w_u64(b, 5, x->size);
    proto_w_fixed32(b, 6, crc);
    buf_free(&shape);
    buf_free(&dim);
}

static enum status write_table(struct writer *w, const struct layout *x, struct sstable_w *t,
                               struct buf *b, struct err *e)
{
    struct buf version = BUF_INIT;
    struct str name = arena_fmt(&w->arena, "%.*s.index", STR_ARG(x->stem));
    int id;
    if (!name.p)
        return err_nomem(e, x->stem.n);
    proto_w_u64(b, 1, x->n_shards);
    proto_w_u64(&version, 1, 1);
    proto_w_sub(b, 3, &version);
    buf_free(&version);
    TRY(buf_ok(b, e));
    sstable_w_add(t, STR(""), buf_as_str(b));
    for (size_t i = 0; i < x->n; i++) {
        const struct item *y = &x->item[i];
        uint32_t crc = y->tensor < 0 ? y->crc : crc32c_mask(w->placed[y->tensor].crc32c);
        put_entry(b, y, crc);
        TRY(buf_ok(b, e));
        sstable_w_add(t, y->key, buf_as_str(b));
    }
    TRY(sstable_w_end(t, e));
    TRY(out_add(w->out, name, t->out.n, &id, e));
    return out_pwrite(w->out, id, t->out.p, t->out.n, 0, e);
}

enum status tf_bundle_end(struct writer *w, struct err *e)
{
    struct sstable_w t = SSTABLE_W_INIT;
    struct buf b = BUF_INIT;
    enum status st = write_table(w, w->priv, &t, &b, e);
    sstable_w_free(&t);
    buf_free(&b);
    return st;
}
