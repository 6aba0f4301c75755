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

enum status pytorch_flat(struct pt_reader *r, uint64_t offset, uint64_t bytes, uint32_t *index,
                         struct err *e)
{
    struct storage *s;
    TRY(model_storage_add(r->m, &s, index, e));
    s->kind = STORAGE_FLAT;
    s->file = r->file;
    s->offset = offset;
    s->stored_bytes = s->raw_bytes = bytes;
    s->big_endian = r->big_endian;
    return ST_OK;
}

static enum status add_record(struct pt_reader *r, const struct zip_entry *z, uint32_t *index,
                              struct err *e)
{
    TRY(pytorch_flat(r, z->data, z->raw, index, e));
    if (z->method == ZIP_STORED)
        return ST_OK;
    struct storage *s = &r->m->storage[*index];
    struct packed *p = ARENA_NEW(&r->m->arena, struct packed);
    if (!p)
        return err_nomem(e, sizeof *p);
    *p = (struct packed){!r->zip.no_crc, z->crc};
    s->kind = STORAGE_STREAM;
    s->stored_bytes = z->stored;
    s->dec = &deflated;
    s->priv = p;
    return ST_OK;
}

/* What a persistent id gives: elements [first, first + n) of a storage. */
struct store {
    uint32_t index;
    enum dtype dtype; /* DT_NONE: bytes */
    uint64_t first, n;
};

static enum status wrong_size(struct pt_reader *r, uint32_t v, const struct store *s, size_t size,
                              uint64_t bytes, struct str what, struct err *e)
{
    enum status st = pickle_fail(&r->pk, v, "torch-storage-size", e,
                                 "%llu elements of %zu bytes, but the record holds %llu bytes",
                                 (unsigned long long)s->n, size, (unsigned long long)bytes);
    err_in(e, what.p, what.n);
    return st;
}

static enum status in_record(struct pt_reader *r, uint32_t v, struct str key, struct store *s,
                             struct err *e)
{
    struct pickle *p = &r->pk;
    struct str name =
        arena_fmt(&r->scratch, "%.*s/%s/%.*s", STR_ARG(r->prefix), r->folder, STR_ARG(key));
    if (!name.p)
        return err_nomem(e, key.n);
    const struct zip_entry *z = zip_find(&r->zip, name);
    if (!z) {
        enum status st = pickle_fail(p, v, "torch-record-missing", e, "no record for the storage");
        err_in(e, name.p, name.n);
        return st;
    }
    uint64_t bytes;
    size_t size = s->dtype == DT_NONE ? 1 : dtype_bytes(s->dtype);
    if (!mul_u64(s->n, size, &bytes) || bytes != z->raw)
        return wrong_size(r, v, s, size, z->raw, name, e);
    size_t at = (size_t)(z - r->zip.entry);
    if (r->storage_of[at] == 0) {
        TRY(add_record(r, z, &s->index, e));
        r->storage_of[at] = s->index + 1;
        r->type_of[at] = s->dtype;
    } else if (r->type_of[at] != s->dtype) {
        return pickle_fail(p, v, "torch-storage", e, "one storage under two types");
    }
    s->index = r->storage_of[at] - 1;
    return ST_OK;
}

static struct pt_blob *find_blob(struct pt_reader *r, struct str key)
{
    size_t lo = 0, hi = r->n_blobs;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = str_cmp(r->blob[mid].key, key);
        if (d == 0)
            return &r->blob[mid];
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* view: None, or (key, first element, elements) of a part of the storage. */
static enum status in_stream(struct pt_reader *r, uint32_t v, struct str key, uint32_t view,
                             struct store *s, struct err *e)
{
    struct pickle *p = &r->pk;
    struct pt_blob *b = find_blob(r, key);
    size_t size = s->dtype == DT_NONE ? 1 : dtype_bytes(s->dtype);
    if (!b) {
        enum status st = pickle_fail(p, v, "torch-record-missing", e, "no data for the storage");
        err_in(e, key.p, key.n);
        return st;
    }
    if (b->dtype != s->dtype)
        return pickle_fail(p, v, "torch-storage", e, "one storage under two types");
    if (b->n_elems != s->n)
        return wrong_size(r, v, s, size, b->n_elems * size, key, e);
    if (b->storage == 0) {
        TRY(pytorch_flat(r, b->offset, b->n_elems * size, &s->index, e));
        b->storage = s->index + 1;
    }
    s->index = b->storage - 1;
    if (pk_kind(p, view) == PK_NONE)
        return ST_OK;
    uint64_t first, n;
    if (pk_kind(p, view) != PK_TUPLE || pk_count(p, view) != 3 ||
        !pk_u64(p, pk_elem(p, view, 1), &first) || !pk_u64(p, pk_elem(p, view, 2), &n) ||
        !range_in(first, n, s->n))
        return pickle_fail(p, v, "torch-persid", e, "a view that is no part of its storage");
    s->first = first;
    s->n = n;
    return ST_OK;
}

/* A persistent id: ('storage', class, key, location, numel), in the legacy stream with a view. */
static enum status storage(struct pt_reader *r, uint32_t v, struct store *s, struct err *e)
{
    struct pickle *p = &r->pk;
    uint32_t id = pk_kind(p, v) == PK_PERSID ? pk_at(p, v)->ref : 0;
    *s = (struct store){0};
    if (!id)
        return pickle_fail(p, v, "torch-args", e, "a tensor without a storage");
    if (r->named || pk_kind(p, id) != PK_TUPLE || pk_count(p, id) != (r->blob ? 6 : 5) ||
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
    if (!pk_u64(p, pk_elem(p, id, 4), &s->n))
        return pickle_fail(p, v, "torch-storage-size", e, "storage size is no count");
    s->dtype = tag == PT_STORAGE_UNTYPED ? DT_NONE : (enum dtype)(tag - PT_STORAGE);
    return r->blob ? in_stream(r, v, key, pk_elem(p, id, 5), s, e) : in_record(r, v, key, s, e);
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

/* The tensor's elements count from the first of its part of the storage. */
static enum status inside_part(struct pt_reader *r, uint32_t args, const struct store *s,
                               enum dtype dtype, struct view *v, struct err *e)
{
    int64_t lo, hi;
    size_t size = dtype_bytes(dtype) ? dtype_bytes(dtype) : 1;
    uint64_t unit = s->dtype == DT_NONE ? size : 1; /* bytes against elements */
    view_bounds(v, &lo, &hi);
    if (lo < 0 || (uint64_t)hi > s->n / unit || s->first % unit != 0)
        return pickle_fail(&r->pk, args, "out-of-bounds", e,
                           "the tensor reaches past the end of its storage");
    v->offset += (int64_t)(s->first / unit);
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
    struct store s;
    TRY(storage(r, pk_elem(p, args, 0), &s, e));
    t->storage = s.index;
    enum dtype dtype = s.dtype;
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
    TRY(make_view(r, args, dtype, pairs, &t->view, e));
    return r->blob ? inside_part(r, args, &s, dtype, &t->view, e) : ST_OK;
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
        case PT_VARIABLE:
            if (n < 1)
                return ST_OK;
            if (depth == 0 && !said->is_parameter)
                said->requires_grad = is_true(p, pk_elem(p, pk_more(p, v).state, 0));
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
        if (r->named && pk_kind(p, inner) == PK_PERSID) {
            *tag = PT_PERSID;
            *args = inner;
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

uint32_t pytorch_class(const struct pickle *p, uint32_t v)
{
    uint32_t id = pk_kind(p, v) == PK_PERSID ? pk_at(p, v)->ref : 0;
    if (!id || pk_kind(p, id) != PK_TUPLE)
        return v;
    if (pk_count(p, id) == 4 && pk_is_text(p, pk_elem(p, id, 0), "module"))
        return pk_elem(p, id, 1); /* stream: ('module', class, file, text) */
    if (pk_count(p, id) == 3 && pk_kind(p, pk_elem(p, id, 0)) == PK_GLOBAL)
        return pk_elem(p, id, 0); /* tar: (class, file, text) */
    return v;
}

/* A storage of its own: its elements in a row. */
static enum status bare(struct pt_reader *r, uint32_t v, struct pt_tensor *out, struct err *e)
{
    struct store s;
    TRY(storage(r, v, &s, e));
    out->storage = s.index;
    out->dtype = s.dtype == DT_NONE ? DT_U8 : s.dtype;
    out->note = STR("a bare storage");
    TRY(view_c(&out->view, &s.n, 1, e));
    out->view.offset = (int64_t)s.first;
    return ST_OK;
}

/* Legacy tar: the id is the decimal key of a tensor or a storage; *is false for a class. */
static enum status named(struct pt_reader *r, uint32_t v, bool *is, struct pt_tensor *out,
                         struct err *e)
{
    struct pickle *p = &r->pk;
    uint64_t key;
    *is = pytorch_class(p, v) == v;
    if (!*is)
        return ST_OK;
    if (!str_u64(pk_text(p, pk_at(p, v)->ref), &key))
        return pickle_fail(p, v, "torch-persid", e, "persistent id that is no key");
    size_t lo = 0, hi = r->n_named;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->named[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == r->n_named || r->named[lo].key != key)
        return pickle_fail(p, v, "torch-record-missing", e, "no tensor of the key %llu",
                           (unsigned long long)key);
    const struct pt_named *n = &r->named[lo];
    out->storage = n->storage;
    out->dtype = n->dtype;
    view_load(&out->view, n->view);
    if (n->bare)
        out->note = STR("a bare storage");
    return ST_OK;
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
    if (pk_kind(p, v) == PK_PERSID && r->named)
        return named(r, v, is, out, e);
    if (pk_kind(p, v) == PK_PERSID) {
        *is = pytorch_class(p, v) == v;
        return *is ? bare(r, v, out, e) : ST_OK;
    }
    TRY(pytorch_unwrap(r, v, &tag, &args, &said, e));
    switch (tag) {
    case PT_REBUILD:
    case PT_REBUILD_V2:
    case PT_REBUILD_V3:
        TRY(rebuild(r, tag, args, out, e));
        break;
    case PT_PERSID:
        TRY(named(r, args, is, out, e));
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
