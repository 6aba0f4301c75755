/* numpy and jax arrays inside pickles: what describes them, and where their bytes are. Bytes of
 * protocol 3 and later stand in the file as they are; those of protocol 0 to 2 are spelled as text
 * and decoded as a stream; those of joblib stand between opcodes.
 *
 * jax arrays are pickled as the call of a function on what numpy's own pickle would hold:
 * _reconstruct_array(fun, args, state, aval) since 0.4, reconstruct_device_array(the same) before,
 * and before that as numpy arrays, from which they cannot be told.
 *
 * Source: numpy/numpy numpy/_core/src/multiarray/methods.c and descriptor.c,
 * numpy/_core/numeric.py; jax-ml/jax jax/_src/array.py, jax/_src/device_array.py; joblib/joblib
 * joblib/numpy_pickle.py.
 */
#include "base/checked.h"
#include "codec/pickle_bytes.h"
#include "format/haiku.h"
#include <string.h>

static enum status latin1(struct hk_reader *r, uint32_t v, struct str s, struct str *out,
                          struct err *e)
{
    char *t = arena_alloc(&r->scratch, s.n + 1, 1);
    size_t n = 0;
    if (!t)
        return err_nomem(e, s.n);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c >= 0x80) { /* the text is proven UTF-8 */
            if (c > 0xc3)
                return pickle_fail(&r->pk, v, "pickle-latin1", e,
                                   "text that is no bytes in Latin-1");
            c = (uint8_t)(c << 6 | ((uint8_t)s.p[++i] & 0x3f));
        }
        t[n++] = (char)c;
    }
    *out = (struct str){t, n};
    return ST_OK;
}

enum status haiku_bytes(struct hk_reader *r, uint32_t v, struct str *out, struct pk_far *far,
                        struct err *e)
{
    const struct pickle *p = &r->pk;
    *out = STR_NONE;
    *far = (struct pk_far){0};
    if (pk_call_tag(p, v) == HK_BYTEARRAY && pk_count(p, pk_at(p, v)->call.args) == 1)
        v = pk_elem(p, pk_at(p, v)->call.args, 0);
    enum pk_kind k = pk_kind(p, v);
    if (k == PK_BYTES || k == PK_BYTEARRAY || k == PK_STR) {
        if (!pk_far(p, v, far))
            *out = pk_text(p, v);
        else if (far->spelling == PK_UTF8) /* text that nothing encodes */
            *far = (struct pk_far){0};
        return ST_OK;
    }
    int tag = pk_call_tag(p, v);
    if (tag != HK_ENCODE && tag != HK_BYTES && tag != HK_BYTEARRAY)
        return ST_OK;
    uint32_t args = pk_at(p, v)->call.args, text = pk_elem(p, args, 0), how = pk_elem(p, args, 1);
    if (tag != HK_ENCODE && pk_count(p, args) == 0) {
        *out = STR("");
        return ST_OK;
    }
    if (tag != HK_ENCODE || pk_count(p, args) != 2 || pk_kind(p, text) != PK_STR ||
        !(pk_is_text(p, how, "latin1") || pk_is_text(p, how, "latin-1")))
        return pickle_fail(p, v, "pickle-latin1", e, "bytes in an encoding other than latin1");
    return pk_far(p, text, far) ? ST_OK : latin1(r, v, pk_text(p, text), out, e);
}

/* ---- dtype ---- */

static enum dtype type_named(struct str s)
{
    static const struct {
        const char *text;
        enum dtype dtype;
    } types[] = {
        {"f8", DT_F64},  {"f4", DT_F32}, {"f2", DT_F16},   {"V2", DT_BF16},
        {"i8", DT_I64},  {"i4", DT_I32}, {"i2", DT_I16},   {"i1", DT_I8},
        {"u8", DT_U64},  {"u4", DT_U32}, {"u2", DT_U16},   {"u1", DT_U8},
        {"b1", DT_BOOL}, {"c8", DT_C64}, {"c16", DT_C128}, {"V1", DT_U8},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_is(s, types[i].text))
            return types[i].dtype;
    return DT_NONE;
}

/* Bytes of an element from "S5", "U5", "M8": 0 when the text does not tell. */
static uint64_t item_of(struct str s)
{
    uint64_t n;
    if (s.n < 2 || !str_u64(str_sub(s, 1, s.n), &n) || n > UINT32_MAX)
        return 0;
    return s.p[0] == 'U' ? n * 4 : n;
}

/* Records: one field of two bytes called bfloat16 is what JAX and numpy made of that type before
 * ml_dtypes. */
static bool is_old_bfloat16(const struct pickle *p, uint32_t names)
{
    return pk_count(p, names) == 1 && pk_is_text(p, pk_elem(p, names, 0), "bfloat16");
}

enum status haiku_dtype(struct hk_reader *r, uint32_t v, enum dtype *out, bool *big, uint64_t *item,
                        bool *object, struct err *e)
{
    const struct pickle *p = &r->pk;
    *out = DT_NONE;
    *big = *object = false;
    *item = 0;
    if (pk_call_tag(p, v) != HK_DTYPE)
        return pickle_fail(p, v, "numpy-dtype", e, "an array without a dtype");
    uint32_t what = pk_elem(p, pk_at(p, v)->call.args, 0), state = pk_more(p, v).state;
    int tag = pk_tag(p, what);
    struct str text = pk_text(p, what);
    if (tag > HK_TYPE && tag < HK_TYPE + DT_COUNT)
        *out = (enum dtype)(tag - HK_TYPE);
    else if ((pk_kind(p, what) == PK_STR || pk_kind(p, what) == PK_BYTES) && text.n)
        *out = type_named(text);
    else
        return pickle_fail(p, v, "numpy-dtype", e, "unknown dtype");
    *object = text.n > 0 && text.p[0] == 'O';
    *item = *out != DT_NONE ? dtype_info(*out)->bits < 8 ? 1 : dtype_bytes(*out) : item_of(text);
    if (!state)
        return ST_OK;
    struct str order = pk_text(p, pk_elem(p, state, 1));
    uint32_t sub = pk_elem(p, state, 2), names = pk_elem(p, state, 3);
    uint64_t size;
    if (pk_kind(p, state) != PK_TUPLE || pk_count(p, state) < 8 || order.n != 1 ||
        !strchr("<>|=", order.p[0]))
        return pickle_fail(p, v, "numpy-dtype", e, "a dtype whose state is unknown");
    *big = order.p[0] == '>';
    if (pk_u64(p, pk_elem(p, state, 5), &size))
        *item = size;
    if (pk_kind(p, names) == PK_TUPLE) {
        bool old = *item == 2 && is_old_bfloat16(p, names);
        *out = old ? DT_BF16 : DT_NONE;
        uint64_t flags = 0;
        *object = !old && pk_u64(p, pk_elem(p, state, 7), &flags) && (flags & 1); /* has objects */
    } else if (pk_kind(p, sub) == PK_TUPLE) {
        *out = DT_NONE;
    }
    if (*out == DT_BF16 && *item != 2)
        return pickle_fail(p, v, "numpy-dtype", e, "bfloat16 of %llu bytes",
                           (unsigned long long)*item);
    return ST_OK;
}

/* ---- arrays ---- */

static enum status shape_of(const struct pickle *p, uint32_t v, struct hk_array *a, struct err *e)
{
    if (pk_kind(p, v) != PK_TUPLE || pk_count(p, v) >= VIEW_MAX_AXES)
        return pickle_fail(p, v, "numpy-array", e, "an array without a shape");
    for (uint32_t c = pk_at(p, v)->seq.head; c; c = p->cell[c].next)
        if (!pk_u64(p, p->cell[c].val, &a->dim[a->n_dims++]) || a->dim[a->n_dims - 1] > INT64_MAX)
            return pickle_fail(p, v, "numpy-array", e, "a dimension is no count");
    return ST_OK;
}

/* numpy's own state: (version, shape, dtype, fortran order, bytes). */
static enum status from_state(const struct pickle *p, uint32_t v, uint32_t fn_args, uint32_t state,
                              struct hk_array *a, uint32_t *dtype, struct err *e)
{
    if (pk_tag(p, pk_elem(p, fn_args, 0)) != HK_NDARRAY)
        return pickle_fail(p, v, "numpy-array", e, "an array class other than ndarray");
    if (pk_kind(p, state) != PK_TUPLE || pk_count(p, state) != 5)
        return pickle_fail(p, v, "numpy-array", e, "array without its state");
    uint32_t order = pk_elem(p, state, 3);
    int64_t i = 0;
    a->fortran =
        pk_kind(p, order) == PK_BOOL ? pk_at(p, order)->i != 0 : pk_i64(p, order, &i) && i != 0;
    *dtype = pk_elem(p, state, 2);
    a->data = pk_elem(p, state, 4);
    return shape_of(p, pk_elem(p, state, 1), a, e);
}

static enum status from_jax(const struct pickle *p, uint32_t v, struct hk_array *a, uint32_t *dtype,
                            struct err *e)
{
    uint32_t args = pk_at(p, v)->call.args;
    if (pk_count(p, args) < 3 || pk_tag(p, pk_elem(p, args, 0)) != HK_RECONSTRUCT)
        return pickle_fail(p, v, "jax-array", e, "a jax array that numpy does not make");
    return from_state(p, v, pk_elem(p, args, 1), pk_elem(p, args, 2), a, dtype, e);
}

/* (buffer, dtype, shape, order [, axis order]) */
static enum status from_buffer(const struct pickle *p, uint32_t v, struct hk_array *a,
                               uint32_t *dtype, struct err *e)
{
    uint32_t args = pk_at(p, v)->call.args, order = pk_elem(p, args, 3);
    a->fortran = pk_is_text(p, order, "F");
    if (pk_count(p, args) < 4 || pk_count(p, args) > 5 ||
        (!a->fortran && !pk_is_text(p, order, "C")))
        return pickle_fail(p, v, "numpy-array", e,
                           "array that is not (buffer, dtype, shape, C or F)");
    a->data = pk_elem(p, args, 0);
    *dtype = pk_elem(p, args, 1);
    return shape_of(p, pk_elem(p, args, 2), a, e);
}

static int by_val(const struct hk_raw *list, size_t n, uint32_t v, uint64_t *offset)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (list[mid].val < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    *offset = lo < n && list[lo].val == v ? list[lo].offset : 0;
    return lo < n && list[lo].val == v;
}

/* The state of a NumpyArrayWrapper. */
static enum status from_joblib(struct hk_reader *r, uint32_t v, struct hk_array *a, uint32_t *dtype,
                               struct err *e)
{
    const struct pickle *p = &r->pk;
    uint32_t state = pk_more(p, v).state, order = pk_get(p, state, "order");
    if (pk_kind(p, state) != PK_DICT || pk_tag(p, pk_get(p, state, "subclass")) != HK_NDARRAY)
        return pickle_fail(p, v, "numpy-array", e, "an array class other than ndarray");
    a->fortran = pk_is_text(p, order, "F");
    if (!a->fortran && !pk_is_text(p, order, "C"))
        return pickle_fail(p, v, "numpy-array", e, "array in an order other than C or F");
    *dtype = pk_get(p, state, "dtype");
    return shape_of(p, pk_get(p, state, "shape"), a, e);
}

static bool is_joblib(const struct pickle *p, uint32_t v)
{
    int tag = pk_call_tag(p, v);
    if (tag == HK_RECONSTRUCTOR)
        tag = pk_tag(p, pk_elem(p, pk_at(p, v)->call.args, 0));
    return tag == HK_JOBLIB;
}

static enum status dtype_for(struct hk_reader *r, uint32_t v, uint32_t dtype, struct hk_array *a,
                             uint64_t *item, struct err *e)
{
    bool object;
    TRY(haiku_dtype(r, dtype, &a->dtype, &a->big, item, &object, e));
    if (object)
        return pickle_fail(&r->pk, v, "numpy-object", e, "an array of Python objects");
    return ST_OK;
}

enum status haiku_raw(void *ctx, const struct pickle *p, uint32_t v, uint64_t at, uint64_t *skip,
                      struct err *e)
{
    struct hk_reader *r = ctx;
    struct hk_array a = {0};
    uint32_t dtype = 0;
    uint64_t item, pad = 0, bytes;
    *skip = 0;
    if (!is_joblib(p, v))
        return ST_OK;
    TRY(from_joblib(r, v, &a, &dtype, e));
    TRY(dtype_for(r, v, dtype, &a, &item, e));
    uint32_t align = pk_get(p, pk_more(p, v).state, "numpy_array_alignment_bytes");
    if (align && pk_kind(p, align) != PK_NONE) { /* a count of ff bytes, then those */
        uint8_t n;
        if (at >= p->n_bytes)
            return pickle_fail(p, v, "pickle-truncated", e, "no data behind the array's header");
        TRY(file_pread(r->file, &n, 1, p->base + at, e));
        pad = 1 + (uint64_t)n;
    }
    if (item == 0 || !prod_u64(a.dim, a.n_dims, &bytes) || !mul_u64(bytes, item, &bytes) ||
        !add_u64(bytes, pad, skip))
        return pickle_fail(p, v, "numpy-array", e, "an array whose size is not told");
    struct hk_raw raw = {v, p->base + at + pad};
    buf_bytes(&r->raw, &raw, sizeof raw);
    return buf_ok(&r->raw, e);
}

enum status haiku_array(struct hk_reader *r, uint32_t v, bool *is, struct hk_array *a,
                        struct err *e)
{
    const struct pickle *p = &r->pk;
    enum pk_kind k = pk_kind(p, v);
    uint32_t dtype = 0;
    uint64_t item, elems, want;
    *a = (struct hk_array){0};
    *is = false;
    if (k != PK_CALL && k != PK_NEW)
        return ST_OK;
    uint32_t args = pk_at(p, v)->call.args;
    struct pk_more more = pk_more(p, v);
    if (is_joblib(p, v)) {
        const struct hk_raw *raw = (const struct hk_raw *)(const void *)r->raw.p;
        TRY(from_joblib(r, v, a, &dtype, e));
        if (!by_val(raw, r->raw.n / sizeof *raw, v, &a->offset))
            return pickle_fail(p, v, "numpy-array", e, "an array wrapper without its state");
    } else {
        switch (k == PK_CALL ? pk_call_tag(p, v) : HK_OTHER) {
        case HK_SCALAR:
            if (pk_count(p, args) != 2)
                return pickle_fail(p, v, "numpy-array", e, "scalar that is not (dtype, bytes)");
            dtype = pk_elem(p, args, 0);
            a->data = pk_elem(p, args, 1);
            a->scalar = true;
            break;
        case HK_RECONSTRUCT:
            TRY(from_state(p, v, args, more.state, a, &dtype, e));
            break;
        case HK_FROMBUFFER:
            TRY(from_buffer(p, v, a, &dtype, e));
            break;
        case HK_JAX_ARRAY:
            TRY(from_jax(p, v, a, &dtype, e));
            break;
        default:
            return ST_OK;
        }
    }
    if (more.items.head || more.pairs.head)
        return pickle_fail(p, v, "numpy-array", e, "an array that is filled like a container");
    TRY(dtype_for(r, v, dtype, a, &item, e));
    if (a->dtype == DT_NONE) /* text, dates, records: a node */
        return ST_OK;
    *is = true;
    if (!prod_u64(a->dim, a->n_dims, &elems) || !mul_u64(elems, item, &want) || want > INT64_MAX)
        return pickle_fail(p, v, "numpy-array", e, "the array is too large");
    if (!a->data)
        return ST_OK; /* of joblib: its length is what was stepped over */
    struct str near;
    struct pk_far far;
    TRY(haiku_bytes(r, a->data, &near, &far, e));
    bool fits = near.p ? near.n == want : far.spelling != PK_NEAR && pickle_bytes_fit(&far, want);
    if (!fits)
        return pickle_fail(p, v, "numpy-array", e, "bytes do not match shape and dtype");
    return ST_OK;
}

/* ---- storages ---- */

static enum status stream_open(const struct storage *s, void **state, struct err *e)
{
    struct pickle_bytes *b = NULL;
    enum status st = pickle_bytes_open(s->file, s->priv, s->raw_bytes, &b, e);
    *state = b;
    return st;
}
static enum status stream_read(const struct storage *s, void *state, void *dst, size_t *n,
                               struct err *e)
{
    (void)s;
    return pickle_bytes_read(state, dst, n, e);
}
static void stream_close(const struct storage *s, void *state)
{
    (void)s;
    pickle_bytes_close(state);
}
static const struct decoder spelled = {
    .name = "pickled text", .open = stream_open, .read = stream_read, .close = stream_close};

enum status haiku_storage(struct hk_reader *r, uint32_t v, const struct hk_array *a,
                          uint32_t *storage, struct err *e)
{
    struct str near = STR_NONE;
    struct pk_far far = {PK_RAW, a->offset, 0}, *kept;
    struct storage *s;
    uint64_t raw = 0, item = dtype_info(a->dtype)->bits < 8 ? 1 : dtype_bytes(a->dtype);
    if (r->storage_of[v]) {
        *storage = r->storage_of[v] - 1;
        return ST_OK;
    }
    if (!prod_u64(a->dim, a->n_dims, &raw) || !mul_u64(raw, item, &raw))
        return err_set(e, ST_BUG, "haiku-array", "an array that was not proven");
    if (a->data)
        TRY(haiku_bytes(r, a->data, &near, &far, e));
    TRY(model_storage_add(r->m, &s, storage, e));
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = r->file,
                          .offset = far.offset,
                          .stored_bytes = raw,
                          .raw_bytes = raw,
                          .big_endian = a->big && dtype_info(a->dtype)->swap_bytes > 1};
    if (near.p) {
        near = arena_str(&r->m->arena, near.p, near.n);
        if (!near.p)
            return err_nomem(e, near.n);
        s->kind = STORAGE_MEMORY;
        s->file = NULL;
        s->mem = (const uint8_t *)near.p;
    } else if (far.spelling != PK_RAW) {
        kept = ARENA_NEW(&r->m->arena, struct pk_far);
        if (!kept)
            return err_nomem(e, sizeof *kept);
        *kept = far;
        s->kind = STORAGE_STREAM;
        s->stored_bytes = far.bytes;
        s->dec = &spelled;
        s->priv = kept;
    }
    r->storage_of[v] = *storage + 1;
    return ST_OK;
}
