/* See hdf5_tensor.h. Chunks are tiles of a grid; what was never written is the fill value. */
#include "format/hdf5_tensor.h"
#include "base/checked.h"
#include <string.h>

/* ---- types ---- */

static enum dtype of_opaque(struct hdf5 *h, const struct hdf5_object *o)
{
    const struct hdf5_attr *a = hdf5_attr(o, "dtype");
    struct str name;
    struct err quiet;
    if (!a || a->n_elems != 1 || (a->type.cls != HDF5_STRING && a->type.cls != HDF5_VLEN_STRING) ||
        hdf5_text(h, a, 0, &name, &quiet) != ST_OK)
        return DT_NONE;
    enum dtype t = dtype_parse(name);
    size_t bytes = dtype_bytes(t);
    return t != DT_NONE && (bytes ? bytes : 1) == o->type.size ? t : DT_NONE;
}

static enum dtype of_float(unsigned exp, unsigned man, uint64_t size)
{
    return exp == 11 && man == 52 && size == 8  ? DT_F64
           : exp == 8 && man == 23 && size == 4 ? DT_F32
           : exp == 5 && man == 10 && size == 2 ? DT_F16
           : exp == 8 && man == 7 && size == 2  ? DT_BF16
           : exp == 5 && man == 2 && size == 1  ? DT_F8_E5M2
                                                : DT_NONE;
}

static enum dtype dtype_of(struct hdf5 *h, const struct hdf5_object *o)
{
    static const enum dtype ints[2][4] = {{DT_U8, DT_U16, DT_U32, DT_U64},
                                          {DT_I8, DT_I16, DT_I32, DT_I64}};
    const struct hdf5_type *t = &o->type;
    switch (t->cls) {
    case HDF5_INT:
        return ints[t->is_signed][t->size == 1 ? 0 : t->size == 2 ? 1 : t->size == 4 ? 2 : 3];
    case HDF5_FLOAT:
        return of_float(t->exp_bits, t->man_bits, t->size);
    case HDF5_BOOL:
        return DT_BOOL;
    case HDF5_COMPLEX:
        switch (of_float(t->exp_bits, t->man_bits, t->size / 2)) {
        case DT_F64:
            return DT_C128;
        case DT_F32:
            return DT_C64;
        case DT_F16:
            return DT_C32;
        default:
            return DT_NONE;
        }
    case HDF5_OPAQUE:
        return of_opaque(h, o);
    case HDF5_STRING:
    case HDF5_VLEN_STRING:
    case HDF5_OTHER:
        break;
    }
    return DT_NONE;
}

bool hdf5_tensor_took(const struct hdf5_object *o, const struct hdf5_attr *a)
{
    return o->type.cls == HDF5_OPAQUE && str_is(a->name, "dtype");
}

#define INT(sign, n) 0x10, (sign) ? 8 : 0, 0, 0, n, 0, 0, 0, 0, 0, (n)*8, 0
#define F16 0x11, 0x20, 15, 0, 2, 0, 0, 0, 0, 0, 16, 0, 10, 5, 0, 10, 15, 0, 0, 0
#define F32 0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0
#define F64 0x11, 0x20, 63, 0, 8, 0, 0, 0, 0, 0, 64, 0, 52, 11, 0, 52, 255, 3, 0, 0
/* version 1, as h5py writes it: names padded to 8, offset, no dimensions */
#define MEMBER(name, at)                                                                           \
    name, 0, 0, 0, 0, 0, 0, 0, at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define COMPLEX(size, part)                                                                        \
    0x16, 2, 0, 0, size, 0, 0, 0, MEMBER('r', 0), part, MEMBER('i', (size) / 2), part

static const uint8_t u8[] = {INT(0, 1)}, u16[] = {INT(0, 2)}, u32[] = {INT(0, 4)},
                     u64[] = {INT(0, 8)}, i8[] = {INT(1, 1)}, i16[] = {INT(1, 2)},
                     i32[] = {INT(1, 4)}, i64[] = {INT(1, 8)}, f16[] = {F16}, f32[] = {F32},
                     f64[] = {F64}, c32[] = {COMPLEX(4, F16)}, c64[] = {COMPLEX(8, F32)},
                     c128[] = {COMPLEX(16, F64)}, byte[] = {0x15, 0, 0, 0, 1, 0, 0, 0},
                     pair[] = {0x15, 0, 0, 0, 2, 0, 0, 0};
static const uint8_t boolean[] = {0x18, 2,   0,   0,   1,   0, 0, 0, INT(1, 1),
                                  'F',  'A', 'L', 'S', 'E', 0, 0, 0, 'T',
                                  'R',  'U', 'E', 0,   0,   0, 0, 0, 1};

const uint8_t *hdf5_tensor_type(enum dtype t, size_t *n, bool *opaque)
{
    static const struct {
        enum dtype t;
        const uint8_t *p;
        size_t n;
    } table[] = {{DT_U8, u8, sizeof u8},
                 {DT_U16, u16, sizeof u16},
                 {DT_U32, u32, sizeof u32},
                 {DT_U64, u64, sizeof u64},
                 {DT_I8, i8, sizeof i8},
                 {DT_I16, i16, sizeof i16},
                 {DT_I32, i32, sizeof i32},
                 {DT_I64, i64, sizeof i64},
                 {DT_F16, f16, sizeof f16},
                 {DT_F32, f32, sizeof f32},
                 {DT_F64, f64, sizeof f64},
                 {DT_C32, c32, sizeof c32},
                 {DT_C64, c64, sizeof c64},
                 {DT_C128, c128, sizeof c128},
                 {DT_BOOL, boolean, sizeof boolean}};
    *opaque = false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].t == t) {
            *n = table[i].n;
            return table[i].p;
        }
    *opaque = true;
    *n = sizeof byte;
    return dtype_bytes(t) == 2 ? pair : byte;
}

/* ---- storages ---- */

struct chunked { /* a storage's priv, and its grid */
    struct hdf5_object o;
    struct hdf5_chunks c;
    uint64_t base;
    struct tile_grid grid;
};

static enum status where(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                         uint64_t *held, struct err *e)
{
    const struct chunked *x = s->priv;
    uint64_t number = x->c.chunk[t].number;
    (void)e;
    for (unsigned d = x->o.layout.rank; d-- > 0;) {
        held[d] = x->o.layout.chunk[d];
        lo[d] = number % x->c.grid[d] * held[d];
        number /= x->c.grid[d];
        n[d] = x->grid.dim[d] - lo[d] < held[d] ? x->grid.dim[d] - lo[d] : held[d];
    }
    return ST_OK;
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct chunked *x = s->priv;
    const struct hdf5_chunk *c = &x->c.chunk[t];
    uint64_t lo[HDF5_MAX_RANK], n[HDF5_MAX_RANK], held[HDF5_MAX_RANK];
    if (x->o.n_filters == 0)
        return file_pread(s->file, dst, (size_t)c->stored, x->base + c->addr, e);
    bool edge = false;
    TRY(where(s, t, lo, n, held, e));
    for (unsigned d = 0; d < x->o.layout.rank; d++)
        edge = edge || n[d] < held[d];
    TRY(file_pread(s->file, scratch, (size_t)c->stored, x->base + c->addr, e));
    enum status st = hdf5_unfilter(&x->o, c, edge, dst, scratch, e);
    if (st != ST_OK)
        err_at(e, file_path(s->file), x->base + c->addr);
    return st;
}

static const struct decoder chunks = {.name = "hdf5 chunks", .tile = tile};

static enum status add_chunked(struct model *m, struct hdf5 *h, const struct hdf5_object *o,
                               uint64_t bytes, struct storage *s, struct err *e)
{
    struct chunked *x = ARENA_NEW(&m->arena, struct chunked);
    uint64_t *dim = ARENA_ARRAY(&m->arena, uint64_t, o->space.rank + 1u);
    if (!x || !dim)
        return err_nomem(e, sizeof *x);
    x->o = *o;
    x->base = h->base;
    memcpy(dim, o->space.dim, o->space.rank * sizeof *dim);
    if (o->layout.kind == HDF5_CHUNKED)
        TRY(hdf5_chunks(h, o, &x->c, e));
    x->grid.n_dims = o->space.rank;
    x->grid.elem_bytes = o->type.size;
    x->grid.dim = dim;
    x->grid.covers = x->c.n == x->c.total && o->layout.kind == HDF5_CHUNKED;
    memcpy(x->grid.fill, o->fill, sizeof o->fill);
    x->grid.where = where;
    if (o->space.rank == 0) { /* a scalar never written */
        x->grid.n_dims = 1;
        dim[0] = 1;
    }
    s->kind = STORAGE_TILED;
    s->raw_bytes = bytes;
    s->n_tiles = x->c.n;
    s->tile_bytes = o->layout.kind == HDF5_CHUNKED ? o->layout.chunk_bytes : o->type.size;
    for (uint64_t i = 0; i < x->c.n; i++)
        s->stored_bytes += x->c.chunk[i].stored;
    s->grid = &x->grid;
    s->scratch_bytes = o->n_filters ? hdf5_chunk_scratch(o, x->c.max_stored) : 0;
    s->dec = &chunks;
    s->priv = x;
    return ST_OK;
}

static enum status refuse(const struct hdf5 *h, const struct hdf5_object *o, struct err *e,
                          const char *code, const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(h->file), o->at);
    return ST_INPUT;
}

static enum status add_flat(struct hdf5 *h, const struct hdf5_object *o, uint64_t bytes,
                            struct storage *s, struct err *e)
{
    const struct hdf5_layout *l = &o->layout;
    uint64_t have = l->bytes == UINT64_MAX ? bytes : l->bytes;
    if (have != bytes)
        return refuse(h, o, e, "size-mismatch", "the extents need another size than is stored");
    if (o->n_filters)
        return refuse(h, o, e, "hdf5-filter", "filters without chunks");
    s->offset = l->kind == HDF5_COMPACT ? l->at : h->base + l->addr;
    if (bytes == 0)
        s->offset = 0;
    else if (l->kind == HDF5_CONTIGUOUS && !range_in(l->addr, bytes, h->size))
        return refuse(h, o, e, "truncated", "the data lies outside the file");
    s->stored_bytes = s->raw_bytes = bytes;
    return ST_OK;
}

enum status hdf5_tensor_add(struct model *m, struct hdf5 *h, const struct hdf5_object *o,
                            struct err *e)
{
    struct storage *s;
    struct tensor *t;
    uint64_t n = 0, bytes = 0;
    uint32_t index;
    enum dtype dtype = dtype_of(h, o);
    if (dtype == DT_NONE) {
        (void)err_set(e, ST_INPUT, "hdf5-dtype", "a dataset of class %u and %u bytes an element",
                      o->type.id, o->type.size);
        err_at(e, file_path(h->file), o->at);
        return ST_INPUT;
    }
    if (o->space.null)
        return refuse(h, o, e, "hdf5-space", "a dataset without extents");
    if (!prod_u64(o->space.dim, o->space.rank, &n) || !mul_u64(n, o->type.size, &bytes))
        return refuse(h, o, e, "shape-overflow", "the product of the extents is too large");
    struct storage made = {.kind = STORAGE_FLAT, .file = h->file, .big_endian = o->type.big_endian};
    bool empty = o->layout.kind == HDF5_CONTIGUOUS && o->layout.addr == HDF5_UNDEF;
    if (bytes && (empty || o->layout.kind == HDF5_CHUNKED)) {
        TRY(add_chunked(m, h, o, bytes, &made, e));
    } else if (o->layout.kind != HDF5_CHUNKED) {
        TRY(add_flat(h, o, bytes, &made, e));
    }
    TRY(model_storage_add(m, &s, &index, e));
    *s = made;
    TRY(model_tensor_add(m, &t, e));
    t->dtype = dtype;
    t->storage = index;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->unpacked = dtype_info(dtype)->bits < 8;
    t->offset = o->at;
    t->decl = h->file;
    return tensor_set_shape(m, t, o->space.dim, o->space.rank, e);
}
