/* A zarr array as a tensor. One plain chunk is read in place; one compressed chunk is a stream;
 * anything else is boxes of an array (struct tile_grid), in the order of axes that chunks are
 * stored in, which the tensor's view turns back.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "format/orbax.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_PROBES 4096 /* places of missing chunks that are looked at */

/* What a storage's decoder needs; axes as stored. */
struct boxes {
    const struct orbax_array *a;
    uint64_t chunk_bytes;
    uint64_t *dim, *chunk;
    struct tile_grid grid;
};

static enum status refuse(const struct orbax_array *a, struct err *e, const char *code,
                          const char *fmt, ...) PRINTF(4, 5);
static enum status refuse(const struct orbax_array *a, struct err *e, const char *code,
                          const char *fmt, ...)
{
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(a->file), a->offset);
    err_in(e, a->name.p, a->name.n);
    return ST_INPUT;
}

/* ---- types ---- */

static enum dtype v2_type(struct str s, bool *big)
{
    static const struct {
        char kind, size[3];
        enum dtype t;
    } known[] = {
        {'f', "8", DT_F64},   {'f', "4", DT_F32}, {'f', "2", DT_F16}, {'i', "8", DT_I64},
        {'i', "4", DT_I32},   {'i', "2", DT_I16}, {'i', "1", DT_I8},  {'u', "8", DT_U64},
        {'u', "4", DT_U32},   {'u', "2", DT_U16}, {'u', "1", DT_U8},  {'b', "1", DT_BOOL},
        {'c', "16", DT_C128}, {'c', "8", DT_C64},
    };
    *big = false;
    if (s.n < 3 || (s.p[0] != '<' && s.p[0] != '>' && s.p[0] != '|'))
        return DT_NONE;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (s.p[1] == known[i].kind && str_is(str_sub(s, 2, s.n), known[i].size)) {
            *big = s.p[0] == '>' && dtype_info(known[i].t)->swap_bytes > 1;
            return s.p[0] == '|' && dtype_bytes(known[i].t) > 1 ? DT_NONE : known[i].t;
        }
    return DT_NONE;
}

static enum dtype type_of(const struct zarr *z, bool *big)
{
    enum dtype t = DT_NONE;
    *big = false;
    if (z->version == 2)
        t = v2_type(z->dtype, big);
    if (t == DT_NONE) {
        t = dtype_parse(z->dtype);
        if (z->version == 3)
            *big = z->big_endian && dtype_info(t)->swap_bytes > 1;
        else if (t != DT_BF16 && !str_starts(z->dtype, STR("float8_")) && dtype_info(t)->bits >= 8)
            t = DT_NONE; /* version 2 has codes for the others */
    }
    return t == DT_C32 ? DT_NONE : t;
}

/* ---- fill values ---- */

static void put_bits(uint8_t *out, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

static bool fill_one(enum dtype t, enum zarr_fill_kind kind, struct str text, size_t bytes,
                     uint8_t *out)
{
    const struct dtype_info *d = dtype_info(t);
    bool minus = text.n && text.p[0] == '-';
    uint64_t v = 0;
    bool zero = str_is(text, "0") || str_is(text, "0.0") || str_is(text, "-0");
    if (kind == FILL_TEXT && zarr_hex(text, bytes, &v)) {
        put_bits(out, v, bytes);
        return true;
    }
    if (d->kind == DK_BOOL) {
        *out = str_is(text, "true");
        return kind == FILL_BOOL || str_is(text, "0");
    }
    if (kind == FILL_BOOL)
        return false;
    if (d->kind == DK_FLOAT || d->kind == DK_COMPLEX) {
        bool wide = bytes == 8 || bytes == 4 || t == DT_F16 || t == DT_BF16;
        if (wide ? !zarr_float(text, bytes * 8, t == DT_BF16, &v) : !zero)
            return false;
        put_bits(out, v, bytes);
        return true;
    }
    if (kind != FILL_NUMBER)
        return false;
    if (str_ends(text, STR(".0"))) /* zarr-python writes whole numbers so */
        text.n -= 2;
    if (!str_u64(str_sub(text, minus, text.n), &v) || (minus && d->kind != DK_INT))
        return false;
    unsigned bits = d->bits;
    uint64_t top = d->kind == DK_INT ? ((uint64_t)1 << (bits - 1)) - !minus
                   : bits == 64      ? UINT64_MAX
                                     : ((uint64_t)1 << bits) - 1;
    if (v > top)
        return false;
    put_bits(out, minus ? 0 - v : v, bytes);
    if (bits < 8)
        *out &= (uint8_t)((1u << bits) - 1);
    return true;
}

/* One element as the chunks would hold it. */
static bool fill_bytes(const struct zarr *z, enum dtype t, bool big, uint8_t out[16])
{
    const struct dtype_info *d = dtype_info(t);
    size_t size = dtype_bytes(t) ? dtype_bytes(t) : 1;
    size_t unit = d->kind == DK_COMPLEX ? size / 2 : size;
    memset(out, 0, 16);
    if (z->fill == FILL_NULL)
        return true;
    if (!fill_one(t, z->fill == FILL_PAIR ? FILL_TEXT : z->fill, z->fill_text[0], unit, out) ||
        (z->fill == FILL_PAIR &&
         (unit == size || !fill_one(t, FILL_TEXT, z->fill_text[1], unit, out + unit))))
        return false;
    for (size_t u = 0; big && u < size; u += unit)
        for (size_t i = 0; i < unit / 2; i++) {
            uint8_t x = out[u + i];
            out[u + i] = out[u + unit - 1 - i];
            out[u + unit - 1 - i] = x;
        }
    return true;
}

/* ---- decoding ---- */

static enum status where(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                         uint64_t *held, struct err *e)
{
    const struct boxes *b = s->priv;
    const struct zarr *z = &b->a->z;
    uint64_t left = b->a->chunk[t].at, at[ZARR_MAX_DIMS] = {0};
    (void)e;
    for (size_t d = z->n_dims; d-- > 0;) {
        at[d] = left % zarr_chunks(z, d);
        left /= zarr_chunks(z, d);
    }
    for (size_t i = 0; i < b->grid.n_dims; i++) {
        lo[i] = z->n_dims ? at[z->perm[i]] * b->chunk[i] : 0;
        uint64_t rest = b->dim[i] - lo[i];
        n[i] = rest < b->chunk[i] ? rest : b->chunk[i];
        held[i] = b->chunk[i];
    }
    return ST_OK;
}

static enum status in_array(const struct boxes *b, enum status st, struct err *e)
{
    if (st != ST_OK)
        err_in(e, b->a->name.p, b->a->name.n);
    return st;
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct boxes *b = s->priv;
    (void)scratch;
    return in_array(b, zarr_decode(&b->a->chunk[t].b, &b->a->z.chain, dst, b->chunk_bytes, e), e);
}

static enum status open_chunk(const struct storage *s, void **state, struct err *e)
{
    const struct boxes *b = s->priv;
    struct zarr_stream *z = NULL;
    enum status st = zarr_open(&b->a->chunk[0].b, &b->a->z.chain, s->raw_bytes, &z, e);
    *state = z;
    return in_array(b, st, e);
}

static enum status read_chunk(const struct storage *s, void *state, void *dst, size_t *n,
                              struct err *e)
{
    return in_array(s->priv, zarr_read(state, dst, n, e), e);
}

static void close_chunk(const struct storage *s, void *state)
{
    (void)s;
    zarr_close(state);
}

static const struct decoder zarr_decoder = {.name = "zarr chunks",
                                            .tile = tile,
                                            .open = open_chunk,
                                            .read = read_chunk,
                                            .close = close_chunk};

/* ---- the storage ---- */

/* A chunk that is not there: really not, or a thing that no folder of chunks should hold? */
static enum status look_at_missing(const struct orbax_item *x, const struct orbax_array *a,
                                   struct err *e)
{
    const struct zarr *z = &a->z;
    uint64_t k = 0;
    if (x->complete)
        return refuse(a, e, "chunk-missing", "%llu of %llu chunks are there, and all were stored",
                      (unsigned long long)a->n_chunks, (unsigned long long)a->n_grid);
    bool folders = str_ends(str_from(file_path(a->file)), STR("/.zarray")) ||
                   str_ends(str_from(file_path(a->file)), STR("/zarr.json"));
    for (uint64_t t = 0; folders && !z->inner && t < a->n_grid && t < MAX_PROBES; t++) {
        uint64_t left = t, at[ZARR_MAX_DIMS];
        if (k < a->n_chunks && a->chunk[k].at == t) {
            k++;
            continue;
        }
        struct buf path = BUF_INIT;
        for (size_t d = z->n_dims; d-- > 0;) {
            at[d] = left % zarr_chunks(z, d);
            left /= zarr_chunks(z, d);
        }
        buf_fmt(&path, "%s/%.*s/", dir_path(x->dir), STR_ARG(a->name));
        zarr_chunk_name(z, at, &path);
        buf_u8(&path, 0);
        enum path_kind kind = path.failed ? PATH_NONE : path_kind((const char *)path.p);
        buf_free(&path);
        if (kind != PATH_NONE)
            return refuse(a, e, "not-a-file", "chunk %llu is no regular file",
                          (unsigned long long)t);
    }
    return ST_OK;
}

static enum status make_boxes(const struct orbax_array *a, struct model *m, size_t size,
                              struct boxes **out, struct err *e)
{
    const struct zarr *z = &a->z;
    size_t n = z->n_dims ? z->n_dims : 1;
    struct boxes *b = ARENA_NEW(&m->arena, struct boxes);
    if (!b || !(b->dim = ARENA_ARRAY(&m->arena, uint64_t, 2 * n)))
        return err_nomem(e, sizeof *b + 16 * n);
    b->a = a;
    b->chunk = b->dim + n;
    b->dim[0] = b->chunk[0] = 1;
    b->chunk_bytes = size;
    for (size_t i = 0; i < z->n_dims; i++) {
        b->dim[i] = z->dim[z->perm[i]];
        b->chunk[i] = z->chunk[z->perm[i]];
        b->chunk_bytes *= b->chunk[i]; /* below 2^63: checked where it was read */
    }
    b->grid = (struct tile_grid){.n_dims = (uint8_t)n,
                                 .elem_bytes = size,
                                 .dim = b->dim,
                                 .covers = a->n_chunks == a->n_grid,
                                 .where = where};
    *out = b;
    return ST_OK;
}

static enum status describe(const struct orbax_item *x, const struct orbax_array *a, enum dtype t,
                            bool big, uint64_t raw, struct storage *s, struct err *e)
{
    const struct zarr *z = &a->z;
    const struct zarr_bytes *first = a->n_chunks ? &a->chunk[0].b : NULL;
    struct boxes *b = NULL;
    uint64_t stored = 0;
    *s = (struct storage){.kind = STORAGE_MEMORY, .raw_bytes = raw, .big_endian = big};
    if (raw == 0) {
        s->mem = (const uint8_t *)"";
        return ST_OK;
    }
    TRY(make_boxes(a, x->m, dtype_bytes(t) ? dtype_bytes(t) : 1, &b, e));
    if (b->chunk_bytes > ((uint64_t)64 << 20) && b->chunk_bytes / 2 > raw)
        return refuse(a, e, "zarr-chunk", "chunks of %llu bytes in an array of %llu",
                      (unsigned long long)b->chunk_bytes, (unsigned long long)raw);
    if (!b->grid.covers) {
        TRY(look_at_missing(x, a, e));
        if (!fill_bytes(z, t, big, b->grid.fill))
            return refuse(a, e, "zarr-fill", "the fill value is none of its type");
    }
    for (uint64_t i = 0; i < a->n_chunks; i++) {
        const struct zarr_bytes *c = &a->chunk[i].b;
        stored += c->bytes;
        if (z->chain.n == 0 && c->bytes != b->chunk_bytes)
            return refuse(a, e, c->bytes < b->chunk_bytes ? "chunk-short" : "chunk-long",
                          "a chunk of %llu bytes, not %llu", (unsigned long long)c->bytes,
                          (unsigned long long)b->chunk_bytes);
    }
    s->stored_bytes = stored;
    s->file = a->file;
    s->priv = b;
    s->dec = &zarr_decoder;
    bool whole = a->n_grid == 1 && a->n_chunks == 1 && b->chunk_bytes == raw;
    bool blosc = false;
    for (size_t i = 0; i < z->chain.n; i++)
        blosc = blosc || z->chain.codec[i] == ZARR_BLOSC;
    if (whole && z->chain.n == 0) {
        s->kind = first->file ? STORAGE_FLAT : STORAGE_MEMORY;
        s->file = first->file;
        s->offset = first->offset;
        s->mem = first->mem;
    } else if (whole && !blosc) {
        s->kind = STORAGE_STREAM;
        s->offset = first->offset;
    } else {
        s->kind = STORAGE_TILED;
        s->n_tiles = a->n_chunks;
        s->tile_bytes = b->chunk_bytes;
        s->grid = &b->grid;
    }
    return ST_OK;
}

/* The view that undoes the order of axes inside chunks. */
static enum status turn_back(const struct orbax_item *x, const struct zarr *z, struct tensor *t,
                             struct err *e)
{
    int64_t stride[ZARR_MAX_DIMS], step = 1;
    struct view v;
    for (size_t i = z->n_dims; i-- > 0;) {
        stride[z->perm[i]] = step;
        step *= (int64_t)(z->dim[z->perm[i]] ? z->dim[z->perm[i]] : 1);
    }
    TRY(view_strided(&v, z->dim, stride, z->n_dims, 0, e));
    return tensor_set_view(x->m, t, &v, e);
}

enum status orbax_tensor(const struct orbax_item *x, struct orbax_array *a, struct str name,
                         uint32_t *index, struct err *e)
{
    struct model *m = x->m;
    const struct zarr *z = &a->z;
    struct storage *s, made;
    struct tensor *t;
    struct view v;
    bool big, plain = true;
    uint64_t raw;
    enum dtype dtype = type_of(z, &big);
    if (dtype == DT_NONE)
        return refuse(a, e, "unknown-dtype", "dtype '%.*s' is not known", STR_ARG(z->dtype));
    if (view_c(&v, z->dim, z->n_dims, e) != ST_OK ||
        !mul_u64(view_elems(&v), dtype_bytes(dtype) ? dtype_bytes(dtype) : 1, &raw) ||
        raw > INT64_MAX)
        return refuse(a, e, "shape-overflow", "the product of the shape is too large");
    TRY(describe(x, a, dtype, big, raw, &made, e));
    TRY(model_storage_add(m, &s, index, e));
    *s = made;
    TRY(model_tensor_add(m, &t, e));
    t->name = name;
    t->dtype = dtype;
    t->storage = *index;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->unpacked = dtype_info(dtype)->bits < 8;
    t->offset = a->offset;
    t->decl = a->file;
    *index = (uint32_t)(m->n_tensors - 1);
    a->used = true;
    for (size_t d = 0; d < z->n_dims; d++)
        plain = plain && z->perm[d] == d;
    return plain ? tensor_set_view(m, t, &v, e) : turn_back(x, z, t, e);
}

/* ---- numbers ---- */

enum status orbax_number(const struct orbax_item *x, struct orbax_array *a, struct node *n,
                         bool *is_one, struct err *e)
{
    uint8_t raw[16] = {0};
    uint64_t v[2] = {0, 0};
    bool big;
    enum dtype t = type_of(&a->z, &big);
    size_t size = dtype_bytes(t);
    *is_one = a->z.n_dims == 0 &&
              (t == DT_I64 || t == DT_U64 || t == DT_F64 || t == DT_BOOL || t == DT_C128);
    if (!*is_one)
        return ST_OK;
    if (a->n_chunks) {
        enum status st = zarr_decode(&a->chunk[0].b, &a->z.chain, raw, size, e);
        if (st != ST_OK) {
            err_at(e, file_path(a->file), a->offset);
            err_in(e, a->name.p, a->name.n);
            return st;
        }
    } else {
        TRY(look_at_missing(x, a, e));
        if (!fill_bytes(&a->z, t, big, raw))
            return refuse(a, e, "zarr-fill", "the fill value is none of its type");
    }
    size_t unit = size > 8 ? 8 : size;
    for (size_t i = 0; i < size; i++) {
        size_t k = i % unit;
        v[i / unit] |= (uint64_t)raw[i] << 8 * (big ? unit - 1 - k : k);
    }
    n->i = 0;
    n->kind = t == DT_BOOL                      ? NODE_BOOL
              : t == DT_F64                     ? NODE_FLOAT
              : t == DT_C128                    ? NODE_COMPLEX
              : t == DT_U64 && v[0] > INT64_MAX ? NODE_BIGINT
                                                : NODE_INT;
    if (n->kind == NODE_FLOAT || n->kind == NODE_COMPLEX)
        memcpy(n->bits, v, sizeof v);
    else if (n->kind == NODE_BIGINT)
        n->text = arena_fmt(&x->m->arena, "%llu", (unsigned long long)v[0]);
    else
        n->i = n->kind == NODE_BOOL ? v[0] != 0 : (int64_t)v[0];
    return n->kind == NODE_BIGINT && !n->text.p ? err_nomem(e, 24) : ST_OK;
}
