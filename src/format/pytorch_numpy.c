/* numpy arrays and scalars inside a PyTorch pickle. Their bytes stand in the pickle: they are read
 * in place where the pickle is stored and the bytes are contiguous, else copied.
 * Source: numpy/numpy numpy/_core/src/multiarray/methods.c.
 */
#include "base/checked.h"
#include "format/pytorch.h"
#include <string.h>

enum status pytorch_bytes(struct pt_reader *r, uint32_t v, struct str *out, bool *flat,
                          struct err *e)
{
    struct pickle *p = &r->pk;
    enum pk_kind k = pk_kind(p, v);
    *flat = false;
    *out = STR_NONE;
    if (k == PK_BYTES || k == PK_BYTEARRAY || k == PK_STR) {
        const uint8_t *at = (const uint8_t *)pk_text(p, v).p;
        *out = pk_text(p, v);
        *flat = at >= p->bytes && at + out->n <= p->bytes + p->n_bytes;
        return ST_OK;
    }
    if (pk_call_tag(p, v) != PT_ENCODE)
        return ST_OK;
    /* text whose code points are the bytes */
    uint32_t args = pk_at(p, v)->call.args, how = pk_elem(p, args, 1);
    struct str s = pk_text(p, pk_elem(p, args, 0));
    if (pk_count(p, args) != 2 || pk_kind(p, pk_elem(p, args, 0)) != PK_STR ||
        !(pk_is_text(p, how, "latin1") || pk_is_text(p, how, "latin-1")))
        return pickle_fail(p, v, "torch-args", e, "bytes in an encoding other than latin1");
    char *t = arena_alloc(&r->m->arena, s.n + 1, 1);
    if (!t)
        return err_nomem(e, s.n);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c >= 0x80) {
            if (c > 0xc3)
                return pickle_fail(p, v, "torch-args", e, "bytes beyond latin1");
            c = (uint8_t)(c << 6 | ((uint8_t)s.p[++i] & 0x3f));
        }
        t[n++] = (char)c;
    }
    *out = (struct str){t, n};
    return ST_OK;
}

static enum dtype numpy_type(struct str s)
{
    static const struct {
        const char *text;
        enum dtype dtype;
    } types[] = {
        {"f8", DT_F64}, {"f4", DT_F32}, {"f2", DT_F16},  {"V2", DT_BF16}, {"i8", DT_I64},
        {"i4", DT_I32}, {"i2", DT_I16}, {"i1", DT_I8},   {"u8", DT_U64},  {"u4", DT_U32},
        {"u2", DT_U16}, {"u1", DT_U8},  {"b1", DT_BOOL}, {"c8", DT_C64},  {"c16", DT_C128},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_is(s, types[i].text))
            return types[i].dtype;
    return DT_NONE;
}

/* numpy.dtype(text, False, True) with state (version, byte order, ...). DT_NONE and *object for
 * element types that are no numbers of ours. */
enum status pytorch_np_dtype(struct pt_reader *r, uint32_t v, enum dtype *out, bool *big,
                             bool *object, struct err *e)
{
    struct pickle *p = &r->pk;
    *out = DT_NONE;
    *big = *object = false;
    if (pk_call_tag(p, v) != PT_NP_DTYPE)
        return pickle_fail(p, v, "numpy-dtype", e, "an array without a dtype");
    uint32_t args = pk_at(p, v)->call.args, what = pk_elem(p, args, 0);
    int tag = pk_tag(p, what);
    struct str text = pk_kind(p, what) == PK_STR ? pk_text(p, what) : STR_NONE;
    if (tag > PT_ML_DTYPE && tag < PT_ML_DTYPE + DT_COUNT)
        *out = (enum dtype)(tag - PT_ML_DTYPE);
    else if (text.p)
        *out = numpy_type(text);
    else
        return pickle_fail(p, v, "numpy-dtype", e, "unknown dtype");
    *object = *out == DT_NONE;
    uint32_t state = pk_more(p, v).state;
    struct str order = pk_text(p, pk_elem(p, state, 1));
    if (state && order.p) {
        if (order.n != 1 || !strchr("<>|=", order.p[0]))
            return pickle_fail(p, v, "numpy-dtype", e, "unknown byte order");
        *big = order.p[0] == '>';
    }
    return ST_OK;
}

static enum status np_storage(struct pt_reader *r, struct str bytes, bool flat, bool big,
                              uint32_t *index, struct err *e)
{
    struct storage *s;
    TRY(model_storage_add(r->m, &s, index, e));
    s->big_endian = big;
    s->raw_bytes = s->stored_bytes = bytes.n;
    if (flat && r->pk_flat) {
        s->kind = STORAGE_FLAT;
        s->file = r->file;
        s->offset = r->pk.base + (uint64_t)((const uint8_t *)bytes.p - r->pk.bytes);
        return ST_OK;
    }
    s->kind = STORAGE_MEMORY;
    struct str copy = arena_str(&r->m->arena, bytes.p, bytes.n);
    if (!copy.p)
        return err_nomem(e, bytes.n);
    s->mem = (const uint8_t *)copy.p;
    return ST_OK;
}

static enum status shape_of(struct pt_reader *r, uint32_t v, uint64_t *dim, uint32_t *n,
                            struct err *e)
{
    struct pickle *p = &r->pk;
    if (pk_kind(p, v) != PK_TUPLE || pk_count(p, v) >= VIEW_MAX_AXES)
        return pickle_fail(p, v, "numpy-array", e, "an array without a shape");
    *n = 0;
    for (uint32_t c = pk_at(p, v)->seq.head; c; c = p->cell[c].next)
        if (!pk_u64(p, p->cell[c].val, &dim[(*n)++]))
            return pickle_fail(p, v, "numpy-array", e, "a dimension is no count");
    return ST_OK;
}

enum status pytorch_numpy(struct pt_reader *r, uint32_t v, struct pt_tensor *out, bool *is,
                          struct err *e)
{
    struct pickle *p = &r->pk;
    if (pk_kind(p, v) != PK_CALL)
        return pickle_fail(p, v, "numpy-array", e, "an array that nothing makes");
    uint32_t args = pk_at(p, v)->call.args, state = pk_more(p, v).state;
    uint32_t shape = 0, dtype = 0, data = 0, n = 0;
    uint64_t dim[VIEW_MAX_AXES];
    bool fortran = false, big, object, flat;
    *is = true;
    *out = (struct pt_tensor){0};
    switch (pk_call_tag(p, v)) {
    case PT_NP_SCALAR:
        if (pk_count(p, args) != 2)
            return pickle_fail(p, v, "numpy-array", e, "scalar that is not (dtype, bytes)");
        dtype = pk_elem(p, args, 0);
        data = pk_elem(p, args, 1);
        break;
    case PT_NP_ARRAY:
        if (pk_tag(p, pk_elem(p, args, 0)) != PT_NP_NDARRAY)
            return pickle_fail(p, v, "numpy-array", e, "an array class other than ndarray");
        if (pk_kind(p, state) != PK_TUPLE || pk_count(p, state) != 5)
            return pickle_fail(p, v, "numpy-array", e, "array without its state");
        shape = pk_elem(p, state, 1);
        dtype = pk_elem(p, state, 2);
        fortran = pk_kind(p, pk_elem(p, state, 3)) == PK_BOOL && pk_at(p, pk_elem(p, state, 3))->i;
        data = pk_elem(p, state, 4);
        break;
    default:
        if (pk_count(p, args) != 4 ||
            (!pk_is_text(p, pk_elem(p, args, 3), "C") && !pk_is_text(p, pk_elem(p, args, 3), "F")))
            return pickle_fail(p, v, "numpy-array", e,
                               "array that is not (buffer, dtype, shape, C or F)");
        data = pk_elem(p, args, 0);
        dtype = pk_elem(p, args, 1);
        shape = pk_elem(p, args, 2);
        fortran = pk_is_text(p, pk_elem(p, args, 3), "F");
    }
    TRY(pytorch_np_dtype(r, dtype, &out->dtype, &big, &object, e));
    if (object) { /* text, dates, objects: kept as a node */
        *is = false;
        return ST_OK;
    }
    if (shape)
        TRY(shape_of(r, shape, dim, &n, e));
    struct str bytes;
    TRY(pytorch_bytes(r, data, &bytes, &flat, e));
    uint64_t elems, want;
    if (!bytes.p || !prod_u64(dim, n, &elems) || !mul_u64(elems, dtype_bytes(out->dtype), &want) ||
        want != bytes.n)
        return pickle_fail(p, v, "numpy-array", e, "bytes do not match shape and dtype");
    TRY(np_storage(r, bytes, flat, big, &out->storage, e));
    out->note = STR(PYTORCH_NUMPY);
    if (!fortran || elems == 0)
        return view_c(&out->view, dim, n, e);
    int64_t stride[VIEW_MAX_AXES], step = 1;
    for (uint32_t i = 0; i < n; i++) {
        stride[i] = step;
        step *= (int64_t)dim[i]; /* the product is proven above */
    }
    return view_strided(&out->view, dim, stride, n, 0, e);
}
