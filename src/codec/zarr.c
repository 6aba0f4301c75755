/* zarr metadata and chunk names: see zarr.h. */
#include "codec/zarr.h"
#include "base/checked.h"
#include "codec/json_tree.h"
#include <string.h>

#define MAX_VALUES 4096 /* in the metadata of one array */

static enum status bad(struct cursor *c, const struct json_value *v, struct err *e,
                       const char *code, const char *why)
{
    (void)cur_fail(c, v ? v->at : 0, code, "%s", why);
    return cur_ok(c, e);
}

/* A list of whole numbers, each at least `least`. */
static enum status numbers(struct cursor *c, const struct json_value *list, uint64_t least,
                           uint64_t *out, size_t *n, struct err *e)
{
    size_t i = 0;
    if (!list || list->kind != JSON_ARRAY)
        return bad(c, list, e, "zarr-metadata", "no list where the extents should stand");
    if (list->n > ZARR_MAX_DIMS)
        return bad(c, list, e, "zarr-rank", "more than 32 dimensions");
    for (const struct json_value *v = list->child; v; v = v->next, i++)
        if (!json_value_u64(v, &out[i]) || out[i] < least || out[i] > INT64_MAX)
            return bad(c, v, e, least ? "zarr-chunk" : "zarr-metadata",
                       "an extent is no whole number that can be");
    *n = i;
    return ST_OK;
}

static enum status shape_and_chunks(struct cursor *c, const struct json_value *shape,
                                    const struct json_value *chunks, struct arena *a,
                                    struct zarr *z, struct err *e)
{
    uint64_t dim[ZARR_MAX_DIMS], chunk[ZARR_MAX_DIMS], all;
    size_t n, k;
    TRY(numbers(c, shape, 0, dim, &n, e));
    TRY(numbers(c, chunks, 1, chunk, &k, e));
    if (n != k)
        return bad(c, chunks, e, "zarr-rank", "chunks and shape differ in rank");
    if (!prod_u64(dim, n, &all) || !prod_u64(chunk, n, &all) || all > INT64_MAX / 32)
        return bad(c, shape, e, "shape-overflow", "the product of the extents is too large");
    z->n_dims = (uint8_t)n;
    z->dim = ARENA_ARRAY(a, uint64_t, 2 * n + 1);
    z->perm = ARENA_ARRAY(a, uint8_t, n + 1);
    if (!z->dim || !z->perm)
        return err_nomem(e, 16 * n);
    z->chunk = z->dim + n;
    for (size_t d = 0; d < n; d++) {
        z->dim[d] = dim[d];
        z->chunk[d] = chunk[d];
        z->perm[d] = (uint8_t)d;
    }
    return ST_OK;
}

static enum status keep(struct arena *a, struct str from, struct str *to, struct err *e)
{
    *to = arena_str(a, from.p, from.n);
    return to->p ? ST_OK : err_nomem(e, from.n);
}

static enum status read_fill(struct cursor *c, const struct json_value *v, struct arena *a,
                             struct zarr *z, struct err *e)
{
    z->fill = FILL_NULL;
    if (!v || v->kind == JSON_NULL)
        return ST_OK;
    if (v->kind == JSON_BOOL)
        z->fill_text[0] = v->truth ? STR("true") : STR("false");
    else if (v->kind != JSON_ARRAY && v->kind != JSON_OBJECT)
        TRY(keep(a, v->text, &z->fill_text[0], e));
    z->fill = v->kind == JSON_BOOL ? FILL_BOOL : v->kind == JSON_NUMBER ? FILL_NUMBER : FILL_TEXT;
    if (v->kind == JSON_ARRAY && v->n == 2) {
        const struct json_value *re = v->child, *im = re->next;
        bool ok = (re->kind == JSON_NUMBER || re->kind == JSON_STRING) &&
                  (im->kind == JSON_NUMBER || im->kind == JSON_STRING);
        z->fill = FILL_PAIR;
        if (!ok)
            return bad(c, v, e, "zarr-fill", "no fill value of any type");
        TRY(keep(a, re->text, &z->fill_text[0], e));
        return keep(a, im->text, &z->fill_text[1], e);
    }
    if (v->kind == JSON_OBJECT || v->kind == JSON_ARRAY)
        return bad(c, v, e, "zarr-fill", "no fill value of any type");
    return ST_OK;
}

static enum status add_codec(struct cursor *c, const struct json_value *v, enum zarr_codec k,
                             struct zarr_chain *chain, struct err *e)
{
    if (chain->n == ZARR_MAX_CODECS)
        return bad(c, v, e, "zarr-codec", "too many codecs");
    for (size_t i = 0; k != ZARR_CRC32C && i < chain->n; i++)
        if (chain->codec[i] != ZARR_CRC32C)
            return bad(c, v, e, "zarr-codec", "compressed twice");
    memmove(chain->codec + 1, chain->codec, chain->n); /* the last done is the first undone */
    chain->codec[0] = (uint8_t)k;
    chain->n++;
    return ST_OK;
}

static enum zarr_codec codec_named(const struct json_value *name)
{
    return json_value_is(name, "zstd")     ? ZARR_ZSTD
           : json_value_is(name, "gzip")   ? ZARR_GZIP
           : json_value_is(name, "zlib")   ? ZARR_ZLIB
           : json_value_is(name, "blosc")  ? ZARR_BLOSC
           : json_value_is(name, "crc32c") ? ZARR_CRC32C
                                           : (enum zarr_codec)0;
}

static bool format_is(const struct json_value *root, uint64_t want)
{
    uint64_t v;
    return json_value_u64(json_get(root, "zarr_format"), &v) && v == want;
}

/* ---- version 2 ---- */

static enum status read_v2(struct cursor *c, const struct json_value *root, struct arena *a,
                           struct zarr *z, struct err *e)
{
    if (!format_is(root, 2))
        return bad(c, root, e, "zarr-metadata", "no metadata of zarr version 2");
    TRY(shape_and_chunks(c, json_get(root, "shape"), json_get(root, "chunks"), a, z, e));
    const struct json_value *v = json_get(root, "dtype");
    if (!v || v->kind != JSON_STRING)
        return bad(c, v ? v : root, e, "unknown-dtype", "the dtype is no plain type");
    TRY(keep(a, v->text, &z->dtype, e));
    TRY(read_fill(c, json_get(root, "fill_value"), a, z, e));
    v = json_get(root, "filters");
    if (v && v->kind != JSON_NULL && !(v->kind == JSON_ARRAY && v->n == 0))
        return bad(c, v, e, "zarr-codec", "filters are not undone here");
    v = json_get(root, "compressor");
    if (v && v->kind != JSON_NULL) {
        enum zarr_codec k = codec_named(json_get(v, "id"));
        if (k == 0)
            return bad(c, v, e, "zarr-codec", "a compressor that is not known here");
        TRY(add_codec(c, v, k, &z->chain, e));
    }
    v = json_get(root, "order");
    if (!json_value_is(v, "C") && !json_value_is(v, "F"))
        return bad(c, v ? v : root, e, "zarr-order", "the order is neither C nor F");
    for (size_t d = 0; json_value_is(v, "F") && d < z->n_dims; d++)
        z->perm[d] = (uint8_t)(z->n_dims - 1 - d);
    v = json_get(root, "dimension_separator");
    if (v && !json_value_is(v, ".") && !json_value_is(v, "/"))
        return bad(c, v, e, "zarr-metadata", "chunk names are separated neither by . nor by /");
    z->separator = v && json_value_is(v, "/") ? '/' : '.';
    return ST_OK;
}

/* ---- version 3 ---- */

static enum status read_bytes(struct cursor *c, const struct json_value *codec, struct zarr *z,
                              struct err *e)
{
    const struct json_value *endian = json_get(json_get(codec, "configuration"), "endian");
    if (endian && !json_value_is(endian, "little") && !json_value_is(endian, "big"))
        return bad(c, endian, e, "zarr-codec", "neither little nor big endian");
    z->big_endian = endian && json_value_is(endian, "big");
    return ST_OK;
}

static enum status read_transpose(struct cursor *c, const struct json_value *codec, struct zarr *z,
                                  struct err *e)
{
    const struct json_value *order = json_get(json_get(codec, "configuration"), "order");
    uint64_t to[ZARR_MAX_DIMS];
    uint8_t was[ZARR_MAX_DIMS];
    uint64_t seen = 0;
    size_t n = z->n_dims;
    for (size_t d = 0; d < n; d++)
        to[d] = json_value_is(order, "F") ? n - 1 - d : d;
    if (!json_value_is(order, "F") && !json_value_is(order, "C"))
        TRY(numbers(c, order, 0, to, &n, e));
    if (n != z->n_dims)
        return bad(c, order, e, "zarr-codec", "transpose has another rank");
    memcpy(was, z->perm, n);
    for (size_t d = 0; d < n; d++) {
        if (to[d] >= n || seen >> to[d] & 1)
            return bad(c, order, e, "zarr-codec", "transpose is no permutation");
        seen |= (uint64_t)1 << to[d];
        z->perm[d] = was[to[d]];
    }
    return ST_OK;
}

static enum status read_index_codecs(struct cursor *c, const struct json_value *list,
                                     struct zarr *z, struct err *e)
{
    struct zarr ignored = {0};
    const struct json_value *first = list && list->kind == JSON_ARRAY ? list->child : NULL;
    if (!first || !json_value_is(json_get(first, "name"), "bytes") || list->n > 2)
        return bad(c, list, e, "zarr-codec", "a shard's index is not plain bytes");
    TRY(read_bytes(c, first, &ignored, e));
    if (ignored.big_endian)
        return bad(c, list, e, "zarr-codec", "a shard's index is big-endian");
    if (list->n == 2 && !json_value_is(json_get(first->next, "name"), "crc32c"))
        return bad(c, list, e, "zarr-codec", "a shard's index has a codec other than crc32c");
    z->index_crc = list->n == 2;
    return ST_OK;
}

static enum status read_codecs(struct cursor *c, const struct json_value *list, struct arena *a,
                               struct zarr *z, struct err *e)
{
    const struct json_value *inner = NULL;
    bool to_bytes = false;
    if (!list || list->kind != JSON_ARRAY)
        return bad(c, list, e, "zarr-codec", "no list of codecs");
    for (const struct json_value *v = list->child; v; v = v->next) {
        const struct json_value *name = v->kind == JSON_STRING ? v : json_get(v, "name");
        enum zarr_codec k = codec_named(name);
        if (json_value_is(name, "transpose") && !to_bytes && !z->inner) {
            TRY(read_transpose(c, v, z, e));
        } else if (json_value_is(name, "bytes") && !to_bytes) {
            to_bytes = true;
            TRY(read_bytes(c, v, z, e));
        } else if (json_value_is(name, "sharding_indexed") && !to_bytes && !z->inner) {
            to_bytes = true;
            inner = v;
        } else if (k && to_bytes && !inner) {
            TRY(add_codec(c, v, k, &z->chain, e));
        } else {
            return bad(c, v, e, "zarr-codec", "a codec that is not known here, or out of place");
        }
    }
    if (!to_bytes)
        return bad(c, list, e, "zarr-codec", "no codec turns the array into bytes");
    if (!inner)
        return ST_OK;
    /* the shard's own axes are not permuted: only inner chunks may be */
    for (size_t d = 0; d < z->n_dims; d++)
        if (z->perm[d] != d)
            return bad(c, inner, e, "zarr-codec", "a transposed shard");
    const struct json_value *conf = json_get(inner, "configuration");
    const struct json_value *where = json_get(conf, "index_location");
    uint64_t extent[ZARR_MAX_DIMS];
    size_t n;
    z->inner = ARENA_ARRAY(a, uint64_t, z->n_dims + 1);
    if (!z->inner)
        return err_nomem(e, 8u * z->n_dims);
    TRY(numbers(c, json_get(conf, "chunk_shape"), 1, extent, &n, e));
    if (n != z->n_dims)
        return bad(c, inner, e, "zarr-rank", "inner chunks have another rank");
    for (size_t d = 0; d < n; d++)
        if (z->chunk[d] % (z->inner[d] = extent[d]))
            return bad(c, inner, e, "zarr-chunk", "inner chunks do not divide their shard");
    if (where && !json_value_is(where, "end") && !json_value_is(where, "start"))
        return bad(c, where, e, "zarr-codec", "a shard's index stands at neither end");
    z->index_first = where && json_value_is(where, "start");
    TRY(read_index_codecs(c, json_get(conf, "index_codecs"), z, e));
    /* once: inner is set, so that a shard in a shard is out of place */
    const struct json_value *codecs = json_get(conf, "codecs");
    for (const struct json_value *v = codecs ? codecs->child : NULL; v; v = v->next)
        if (json_value_is(json_get(v, "name"), "sharding_indexed") ||
            json_value_is(json_get(v, "name"), "transpose"))
            return bad(c, v, e, "zarr-codec", "a shard of shards, or of transposed chunks");
    return ST_OK;
}

static enum status read_inner_codecs(struct cursor *c, const struct json_value *list,
                                     struct arena *a, struct zarr *z, struct err *e)
{
    for (const struct json_value *v = list->child; v; v = v->next)
        if (json_value_is(json_get(v, "name"), "sharding_indexed"))
            return read_codecs(c, json_get(json_get(v, "configuration"), "codecs"), a, z, e);
    return ST_OK;
}

static enum status read_names(struct cursor *c, const struct json_value *v, struct zarr *z,
                              struct err *e)
{
    const struct json_value *name = json_get(v, "name");
    const struct json_value *sep = json_get(json_get(v, "configuration"), "separator");
    z->prefix = json_value_is(name, "default");
    if (!z->prefix && !json_value_is(name, "v2"))
        return bad(c, v, e, "zarr-metadata", "chunk names of an unknown kind");
    z->separator = z->prefix ? '/' : '.';
    if (sep && (json_value_is(sep, "/") || json_value_is(sep, ".")))
        z->separator = sep->text.p[0];
    else if (sep)
        return bad(c, sep, e, "zarr-metadata", "chunk names are separated neither by . nor by /");
    return ST_OK;
}

static enum status read_extras(struct cursor *c, const struct json_value *root, struct err *e)
{
    static const char *const known[] = {
        "zarr_format", "node_type", "shape",      "data_type",       "chunk_grid",
        "fill_value",  "codecs",    "attributes", "dimension_names", "chunk_key_encoding"};
    for (const struct json_value *v = root->child; v; v = v->next) {
        bool ok = false;
        for (size_t i = 0; !ok && i < sizeof known / sizeof *known; i++)
            ok = str_is(v->key, known[i]);
        const struct json_value *must = json_get(v, "must_understand");
        if (json_value_is(json_get(root, "node_type"), "array") && !ok &&
            !(must && must->kind == JSON_BOOL && !must->truth) &&
            !(str_is(v->key, "storage_transformers") && v->kind == JSON_ARRAY && v->n == 0))
            return bad(c, v, e, "zarr-metadata", "a field that is not understood here");
    }
    return ST_OK;
}

static enum status read_v3(struct cursor *c, const struct json_value *root, struct arena *a,
                           struct zarr *z, struct err *e)
{
    if (!format_is(root, 3) || !json_value_is(json_get(root, "node_type"), "array"))
        return bad(c, root, e, "zarr-metadata", "no metadata of an array of zarr version 3");
    TRY(read_extras(c, root, e));
    const struct json_value *grid = json_get(root, "chunk_grid");
    if (!json_value_is(json_get(grid, "name"), "regular"))
        return bad(c, grid ? grid : root, e, "zarr-metadata", "the grid of chunks is not regular");
    TRY(shape_and_chunks(c, json_get(root, "shape"),
                         json_get(json_get(grid, "configuration"), "chunk_shape"), a, z, e));
    const struct json_value *v = json_get(root, "data_type");
    if (!v || v->kind != JSON_STRING)
        return bad(c, v ? v : root, e, "unknown-dtype", "the data type is no plain one");
    TRY(keep(a, v->text, &z->dtype, e));
    TRY(read_fill(c, json_get(root, "fill_value"), a, z, e));
    TRY(read_names(c, json_get(root, "chunk_key_encoding"), z, e));
    TRY(read_codecs(c, json_get(root, "codecs"), a, z, e));
    return z->inner ? read_inner_codecs(c, json_get(root, "codecs"), a, z, e) : ST_OK;
}

static enum status read_any(struct cursor *c, uint8_t version, struct arena *a, struct zarr *z,
                            struct err *e)
{
    struct arena tree = ARENA_INIT;
    struct json_value *root;
    memset(z, 0, sizeof *z);
    z->version = version;
    enum status st = json_tree(c, &tree, MAX_VALUES, &root, e);
    if (st == ST_OK)
        st = version == 2 ? read_v2(c, root, a, z, e) : read_v3(c, root, a, z, e);
    arena_free(&tree);
    return st;
}

enum status zarr_v2(struct cursor *c, struct arena *a, struct zarr *z, struct err *e)
{
    return read_any(c, 2, a, z, e);
}

enum status zarr_v3(struct cursor *c, struct arena *a, struct zarr *z, struct err *e)
{
    return read_any(c, 3, a, z, e);
}

/* ---- names of chunks ---- */

uint64_t zarr_chunks(const struct zarr *z, size_t d)
{
    return z->dim[d] / z->chunk[d] + (z->dim[d] % z->chunk[d] != 0);
}

bool zarr_chunk_at(const struct zarr *z, struct str name, uint64_t *at, bool *outside)
{
    struct str rest = name, part;
    *outside = false;
    if (z->prefix) {
        if (name.n == 0 || name.p[0] != 'c')
            return false;
        if (z->n_dims == 0)
            return name.n == 1;
        if (name.n < 2 || name.p[1] != z->separator)
            return false;
        rest = str_sub(name, 2, name.n);
    } else if (z->n_dims == 0) {
        return str_is(name, "0");
    }
    size_t d = 0;
    for (; str_split(&rest, z->separator, &part); d++)
        if (d == z->n_dims || !str_u64(part, &at[d]))
            return false;
    if (d != z->n_dims)
        return false;
    for (d = 0; d < z->n_dims; d++)
        *outside = *outside || at[d] >= zarr_chunks(z, d);
    return !*outside;
}

void zarr_chunk_name(const struct zarr *z, const uint64_t *at, struct buf *out)
{
    if (z->prefix)
        buf_u8(out, 'c');
    else if (z->n_dims == 0)
        buf_u8(out, '0');
    for (size_t d = 0; d < z->n_dims; d++) {
        if (d || z->prefix)
            buf_u8(out, (uint8_t)z->separator);
        buf_fmt(out, "%llu", (unsigned long long)at[d]);
    }
}
