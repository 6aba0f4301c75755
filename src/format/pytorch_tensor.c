/* PyTorch tensors from rebuild calls: storages (persistent ids) and views over them. See pytorch.c.
 */
#include "base/checked.h"
#include "codec/deflate.h"
#include "format/pytorch.h"
#include <string.h>

enum { WRAPPERS_MAX = 16 };

/* ---- deflated records: streams ---- */

struct packed {
    bool check_crc;
    uint32_t crc;
};
static enum status stream_open(const struct storage *s, void **state, struct err *e)
{
    const struct packed *p = s->priv;
    struct inflater *i = NULL;
    enum status st = inflate_open(s->file, s->offset, s->stored_bytes, s->raw_bytes,
                                  p->check_crc ? &p->crc : NULL, &i, e);
    *state = i;
    return st;
}
static enum status stream_read(const struct storage *s, void *state, void *dst, size_t *n,
                               struct err *e)
{
    (void)s;
    return inflate_read(state, dst, n, e);
}
static void stream_close(const struct storage *s, void *state)
{
    (void)s;
    inflate_close(state);
}
static const struct decoder deflated = {
    .name = "deflate", .open = stream_open, .read = stream_read, .close = stream_close};

/* ---- storages ---- */

static bool known_device(struct str s)
{
    static const char *const names[] = {
        "cpu",  "cuda", "meta",   "mps",    "xla",    "xpu",    "hpu",   "ipu",           "hip",
        "npu",  "mlu",  "musa",   "mtia",   "maia",   "gcu",    "dml",   "ort",           "lazy",
        "fpga", "ve",   "vulkan", "opencl", "opengl", "mkldnn", "ideep", "privateuseone",
    };
    size_t colon = str_find(s, ':', 0);
    uint64_t index;
    if (colon < s.n && !str_u64(str_sub(s, colon + 1, s.n), &index))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(str_sub(s, 0, colon), names[i]))
            return true;
    return false;
}

static enum status add_storage(struct pt_reader *r, const struct zip_entry *z, uint32_t *index,
                               struct err *e)
{
    struct storage *s;
    TRY(model_storage_add(r->m, &s, index, e));
    s->kind = z->method == ZIP_STORED ? STORAGE_FLAT : STORAGE_STREAM;
    s->file = r->file;
    s->offset = z->data;
    s->stored_bytes = z->stored;
    s->raw_bytes = z->raw;
    s->big_endian = r->big_endian;
    if (s->kind == STORAGE_STREAM) {
        struct packed *p = ARENA_NEW(&r->m->arena, struct packed);
        if (!p)
            return err_nomem(e, sizeof *p);
        *p = (struct packed){!r->zip.no_crc, z->crc};
        s->dec = &deflated;
        s->priv = p;
    }
    return ST_OK;
}

/* A persistent id: ('storage', class, key, location, numel). *dtype is DT_NONE for bytes. */
static enum status storage(struct pt_reader *r, uint32_t v, uint32_t *index, enum dtype *dtype,
                           uint64_t *numel, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t id = pk_kind(p, v) == PK_PERSID ? pk_at(p, v)->ref : 0;
    if (!id)
        return pickle_fail(p, v, "torch-args", e, "a tensor without a storage");
    if (pk_kind(p, id) != PK_TUPLE || pk_count(p, id) != 5 ||
        !pk_is_text(p, pk_elem(p, id, 0), "storage"))
        return pickle_fail(p, v, "torch-persid", e, "persistent id that names no storage");
    int tag = pk_tag(p, pk_elem(p, id, 1));
    uint32_t key_v = pk_elem(p, id, 2), location = pk_elem(p, id, 3);
    struct str key = pk_text(p, key_v);
    if (tag == PT_STORAGE_PACKED)
        return pickle_fail(p, v, "torch-quantised", e, "storage packs several values in a byte");
    if (tag != PT_STORAGE_UNTYPED && !(tag > PT_STORAGE && tag < PT_STORAGE + DT_COUNT))
        return pickle_fail(p, v, "torch-storage", e, "unknown storage type");
    if (pk_kind(p, key_v) != PK_STR || key.n == 0 || key.n > 255 || str_find(key, '/', 0) < key.n ||
        str_find(key, 0, 0) < key.n || key.p[0] == '.')
        return pickle_fail(p, v, "torch-key", e, "storage key is no plain name");
    if (pk_kind(p, location) != PK_STR || !known_device(pk_text(p, location)))
        return pickle_fail(p, v, "torch-device", e, "unknown device");
    if (!pk_u64(p, pk_elem(p, id, 4), numel))
        return pickle_fail(p, v, "torch-storage-size", e, "storage size is no count");
    *dtype = tag == PT_STORAGE_UNTYPED ? DT_NONE : (enum dtype)(tag - PT_STORAGE);

    struct str name = arena_fmt(&r->scratch, "%.*s/data/%.*s", STR_ARG(r->prefix), STR_ARG(key));
    if (!name.p)
        return err_nomem(e, key.n);
    const struct zip_entry *z = zip_find(&r->zip, name);
    if (!z) {
        enum status st = pickle_fail(p, v, "torch-record-missing", e, "no record for the storage");
        err_in(e, name.p, name.n);
        return st;
    }
    uint64_t bytes, size = *dtype == DT_NONE ? 1 : dtype_bytes(*dtype);
    if (!mul_u64(*numel, size, &bytes) || bytes != z->raw) {
        enum status st = pickle_fail(p, v, "torch-storage-size", e,
                                     "%llu elements of %llu bytes, but the record holds %llu bytes",
                                     (unsigned long long)*numel, (unsigned long long)size,
                                     (unsigned long long)z->raw);
        err_in(e, name.p, name.n);
        return st;
    }
    size_t at = (size_t)(z - r->zip.entry);
    if (r->storage_of[at] == 0) {
        TRY(add_storage(r, z, index, e));
        r->storage_of[at] = *index + 1;
        r->type_of[at] = *dtype;
    } else if (r->type_of[at] != *dtype) {
        return pickle_fail(p, v, "torch-storage", e, "one storage under two types");
    }
    *index = r->storage_of[at] - 1;
    return ST_OK;
}

/* ---- views ---- */

/* A shape or strides: a tuple, a list, or torch.Size of one. */
static uint32_t plain_tuple(const struct pickle *p, uint32_t v)
{
    if (pk_call_tag(p, v) == PT_SIZE)
        v = pk_elem(p, pk_at(p, v)->call.args, 0);
    return pk_kind(p, v) == PK_TUPLE || pk_kind(p, v) == PK_LIST ? v : 0;
}

static enum status make_view(struct pt_reader *r, uint32_t args, enum dtype dtype, bool pairs,
                             struct view *out, struct err *e)
{
    struct pickle *p = &r->pk;
    uint64_t dim[VIEW_MAX_AXES], offset;
    int64_t stride[VIEW_MAX_AXES];
    uint32_t off = pk_elem(p, args, 1), size = plain_tuple(p, pk_elem(p, args, 2)),
             strides = plain_tuple(p, pk_elem(p, args, 3));
    if (!size || !strides || pk_count(p, size) != pk_count(p, strides))
        return pickle_fail(p, args, "torch-shape", e, "shape and strides do not match");
    uint32_t n = pk_count(p, size), cs = pk_at(p, size)->seq.head, ct = pk_at(p, strides)->seq.head;
    if (n >= VIEW_MAX_AXES)
        return pickle_fail(p, args, "torch-shape", e, "%u dimensions", n);
    if (!pk_u64(p, off, &offset) || offset > INT64_MAX / 2)
        return pickle_fail(p, args, "torch-shape", e, "storage offset is no count");
    bool empty = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!pk_u64(p, p->cell[cs].val, &dim[i]) || dim[i] > INT64_MAX)
            return pickle_fail(p, args, "torch-shape", e, "dimension %u is no count", i);
        if (!pk_i64(p, p->cell[ct].val, &stride[i]) || stride[i] < 0)
            return pickle_fail(p, args, "torch-stride", e, "stride %u is no count", i);
        empty = empty || dim[i] == 0;
        cs = p->cell[cs].next;
        ct = p->cell[ct].next;
    }
    enum status st;
    if (pairs) {
        /* two elements a byte along the last axis, which must be the dense one */
        if (n == 0 || (stride[n - 1] != 1 && dim[n - 1] > 1) || dim[n - 1] > INT64_MAX / 2)
            return pickle_fail(p, args, "torch-stride", e, "%s whose last axis is not dense",
                               dtype_info(dtype)->name);
        for (uint32_t i = 0; i + 1 < n; i++)
            if (!mul_i64(stride[i], 2, &stride[i]))
                return pickle_fail(p, args, "torch-stride", e, "stride %u overflows", i);
        dim[n - 1] *= 2;
        stride[n - 1] = 1;
        offset *= 2;
    }
    if (empty) {
        st = view_c(out, dim, n, e);
    } else {
        st = view_strided(out, dim, stride, n, (int64_t)offset, e);
    }
    if (st != ST_OK)
        err_at(e, p->file, p->base + pk_at(p, args)->at);
    return st;
}

static bool is_true(const struct pickle *p, uint32_t v)
{
    return pk_kind(p, v) == PK_BOOL && pk_at(p, v)->i != 0;
}

/* Conjugate and negative views are said beside the data and not done to it. */
static enum status metadata(struct pt_reader *r, uint32_t v, struct err *e)
{
    struct pickle *p = &r->pk;
    if (v && (is_true(p, pk_get(p, v, "conj")) || is_true(p, pk_get(p, v, "neg"))))
        return pickle_fail(p, v, "torch-conj", e,
                           "a lazily conjugated or negated tensor: save it with resolve_conj()");
    return ST_OK;
}

static enum status rebuild(struct pt_reader *r, int tag, uint32_t args, struct pt_tensor *t,
                           struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t n = pk_count(p, args);
    uint32_t least = tag == PT_REBUILD ? 4 : tag == PT_REBUILD_V2 ? 6 : 7;
    uint32_t most = tag == PT_REBUILD ? 4 : tag == PT_REBUILD_V2 ? 7 : tag == PT_QTENSOR ? 7 : 8;
    if (n < least || n > most)
        return pickle_fail(p, args, "torch-args", e, "rebuild call with %u arguments", n);
    uint64_t numel;
    enum dtype dtype = DT_NONE;
    TRY(storage(r, pk_elem(p, args, 0), &t->storage, &dtype, &numel, e));
    bool pairs = false;
    if (tag == PT_REBUILD_V3) {
        int d = pk_tag(p, pk_elem(p, args, 6));
        pairs = d == PT_DTYPE_F4X2;
        if (!pairs && !(d > PT_DTYPE && d < PT_DTYPE + DT_COUNT))
            return pickle_fail(p, args, "torch-storage", e, "unknown dtype");
        enum dtype said = pairs ? DT_F4_E2M1FN : (enum dtype)(d - PT_DTYPE);
        if (dtype != DT_NONE && dtype != said)
            return pickle_fail(p, args, "torch-storage", e, "storage and tensor differ in type");
        dtype = said;
    } else if (dtype == DT_NONE) {
        dtype = DT_U8; /* what an untyped storage is without a type */
    }
    t->dtype = dtype;
    if (tag != PT_REBUILD)
        t->requires_grad = is_true(p, pk_elem(p, args, tag == PT_QTENSOR ? 5 : 4));
    TRY(metadata(r,
                 tag == PT_REBUILD_V2   ? pk_elem(p, args, 6)
                 : tag == PT_REBUILD_V3 ? pk_elem(p, args, 7)
                                        : 0,
                 e));
    return make_view(r, args, dtype, pairs, &t->view, e);
}

enum status pytorch_unwrap(struct pt_reader *r, uint32_t v, int *tag, uint32_t *args,
                           struct pt_tensor *said, struct err *e)
{
    struct pickle *p = &r->pk;
    *tag = PT_OTHER;
    *args = 0;
    *said = (struct pt_tensor){0};
    if (pk_kind(p, v) != PK_CALL)
        return ST_OK;
    *tag = pk_call_tag(p, v);
    *args = pk_at(p, v)->call.args;
    for (int depth = 0; depth < WRAPPERS_MAX; depth++) {
        uint32_t n = pk_count(p, *args), inner = 0;
        switch (*tag) {
        case PT_PARAMETER:
        case PT_PARAMETER_STATE:
            if (n != (*tag == PT_PARAMETER ? 3 : 4))
                return pickle_fail(p, *args, "torch-args", e, "parameter with %u arguments", n);
            if (!said->is_parameter)
                said->requires_grad = is_true(p, pk_elem(p, *args, 1));
            said->is_parameter = true;
            inner = pk_elem(p, *args, 0);
            break;
        case PT_FROM_NUMPY:
            if (n != 4)
                return pickle_fail(p, *args, "torch-args", e, "device tensor with %u arguments", n);
            inner = pk_elem(p, *args, 0);
            break;
        case PT_FROM_TYPE: {
            if (n != 4 || pk_kind(p, pk_elem(p, *args, 0)) != PK_GLOBAL ||
                pk_kind(p, pk_elem(p, *args, 1)) != PK_GLOBAL ||
                pk_kind(p, pk_elem(p, *args, 2)) != PK_TUPLE)
                return pickle_fail(p, *args, "torch-args", e,
                                   "typed tensor that is not (function, type, arguments, state)");
            *tag = pk_tag(p, pk_elem(p, *args, 0));
            *args = pk_elem(p, *args, 2);
            continue;
        }
        default:
            return ST_OK;
        }
        if (pk_kind(p, inner) != PK_CALL)
            return pickle_fail(p, *args, "torch-args", e, "a wrapper around no tensor");
        *tag = pk_call_tag(p, inner);
        *args = pk_at(p, inner)->call.args;
        if (*tag == PT_NP_ARRAY || *tag == PT_NP_FROMBUFFER || *tag == PT_NP_SCALAR) {
            *args = inner; /* numpy needs the state, too */
            return ST_OK;
        }
    }
    return pickle_fail(p, *args, "torch-args", e, "a tensor wrapped more than %d times",
                       WRAPPERS_MAX);
}

enum status pytorch_tensor(struct pt_reader *r, uint32_t v, bool *is, struct pt_tensor *out,
                           struct err *e)
{
    struct pickle *p = &r->pk;
    int tag;
    uint32_t args;
    struct pt_tensor said;
    *is = true;
    *out = (struct pt_tensor){0};
    if (pk_kind(p, v) == PK_PERSID) { /* a storage of its own: its elements in a row */
        uint64_t n;
        TRY(storage(r, v, &out->storage, &out->dtype, &n, e));
        if (out->dtype == DT_NONE)
            out->dtype = DT_U8;
        out->note = STR("a bare storage");
        return view_c(&out->view, &n, 1, e);
    }
    TRY(pytorch_unwrap(r, v, &tag, &args, &said, e));
    switch (tag) {
    case PT_REBUILD:
    case PT_REBUILD_V2:
    case PT_REBUILD_V3:
        TRY(rebuild(r, tag, args, out, e));
        break;
    case PT_QTENSOR: /* the integers; scales are its caller's */
        TRY(rebuild(r, tag, args, out, e));
        out->note = STR("integers of a quantised tensor");
        break;
    case PT_NP_ARRAY:
    case PT_NP_FROMBUFFER:
    case PT_NP_SCALAR:
        return pytorch_numpy(r, said.is_parameter || pk_call_tag(p, v) != tag ? args : v, out, is,
                             e);
    default:
        *is = false;
        return ST_OK;
    }
    if (said.is_parameter) {
        out->is_parameter = true;
        out->requires_grad = said.requires_grad;
    }
    return ST_OK;
}
