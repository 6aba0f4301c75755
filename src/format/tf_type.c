/* TensorFlow's element types, shapes, slices and names. See tf.h. Sources:
 * core/framework/types.proto, tensor_shape.proto, tensor_slice.proto;
 * core/lib/strings/ordered_code.cc for slices' keys.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "format/tf.h"
#include <stdlib.h>

static const struct {
    uint8_t number;
    enum dtype dtype;
    const char *name, *note;
} types[] = {
    {1, DT_F32, "float", NULL},
    {2, DT_F64, "double", NULL},
    {3, DT_I32, "int32", NULL},
    {4, DT_U8, "uint8", NULL},
    {5, DT_I16, "int16", NULL},
    {6, DT_I8, "int8", NULL},
    {7, DT_NONE, "string", NULL},
    {8, DT_C64, "complex64", NULL},
    {9, DT_I64, "int64", NULL},
    {10, DT_BOOL, "bool", NULL},
    {11, DT_I8, "qint8", "qint8 in TensorFlow"},
    {12, DT_U8, "quint8", "quint8 in TensorFlow"},
    {13, DT_I32, "qint32", "qint32 in TensorFlow"},
    {14, DT_BF16, "bfloat16", NULL},
    {15, DT_I16, "qint16", "qint16 in TensorFlow"},
    {16, DT_U16, "quint16", "quint16 in TensorFlow"},
    {17, DT_U16, "uint16", NULL},
    {18, DT_C128, "complex128", NULL},
    {19, DT_F16, "half", NULL},
    {20, DT_NONE, "resource", NULL},
    {21, DT_NONE, "variant", NULL},
    {22, DT_U32, "uint32", NULL},
    {23, DT_U64, "uint64", NULL},
    {24, DT_F8_E5M2, "float8_e5m2", NULL},
    {25, DT_F8_E4M3FN, "float8_e4m3fn", NULL},
    {26, DT_F8_E4M3FNUZ, "float8_e4m3fnuz", NULL},
    {27, DT_NONE, "float8_e4m3b11fnuz", NULL},
    {28, DT_F8_E5M2FNUZ, "float8_e5m2fnuz", NULL},
    {29, DT_I4, "int4", NULL},
    {30, DT_U4, "uint4", NULL},
    {31, DT_I2, "int2", NULL},
    {32, DT_U2, "uint2", NULL},
};
#define N_TYPES (sizeof types / sizeof types[0])

bool tf_type(uint64_t number, struct tf_type *t)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].number == number && types[i].dtype != DT_NONE) {
            *t = (struct tf_type){types[i].dtype, dtype_info(types[i].dtype)->bits < 8,
                                  types[i].note};
            return true;
        }
    return false;
}

unsigned tf_number(enum dtype t)
{
    for (size_t i = 0; t != DT_NONE && i < N_TYPES; i++)
        if (types[i].dtype == t && !types[i].note)
            return types[i].number;
    return 0;
}

const char *tf_type_name(uint64_t number)
{
    uint64_t n = number > TF_REFERENCE ? number - TF_REFERENCE : number;
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].number == n)
            return types[i].name;
    return "unknown type";
}

/* ---- shapes and slices ---- */

enum status tf_shape(const struct proto *field, struct tf_shape *s, struct err *e)
{
    struct proto m, dim;
    s->n = 0;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 3 && proto_bool(&m)) {
            (void)proto_fail(&m, "tf-shape", "a tensor of unknown rank");
        } else if (m.field == 2 && proto_sub(&m, &dim)) {
            int64_t size = 0;
            while (proto_next(&dim))
                if (dim.field == 1)
                    size = proto_i64(&dim);
            if (!cur_failed(m.c) && size < 0)
                (void)proto_fail(&m, "tf-shape", "an extent of %lld", (long long)size);
            else if (!cur_failed(m.c) && s->n == VIEW_MAX_AXES)
                (void)proto_fail(&m, "tf-shape", "more than %d dimensions", VIEW_MAX_AXES);
            else if (!cur_failed(m.c))
                s->dim[s->n++] = (uint64_t)size;
        }
    }
    return cur_ok(field->c, e);
}

enum status tf_slice(const struct proto *field, struct tf_slice *s, struct err *e)
{
    struct proto m, x;
    s->n = 0;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field != 1 || !proto_sub(&m, &x))
            continue;
        int64_t start = 0, length = -1;
        while (proto_next(&x)) {
            if (x.field == 1)
                start = proto_i64(&x);
            else if (x.field == 2)
                length = proto_i64(&x);
        }
        if (cur_failed(m.c))
            break;
        if (start < 0 || length < -1 || (length == -1 && start != 0) || s->n == VIEW_MAX_AXES) {
            (void)proto_fail(&m, "tf-slice", "a slice from %lld of %lld", (long long)start,
                             (long long)length);
            break;
        }
        s->lo[s->n] = (uint64_t)start;
        s->len[s->n++] = length < 0 ? TF_FULL : (uint64_t)length;
    }
    return cur_ok(field->c, e);
}

static void put_num(struct buf *b, uint64_t v)
{
    uint8_t n = 0;
    while (n < 8 && v >> (8 * n) != 0)
        n++;
    buf_u8(b, n);
    while (n-- > 0)
        buf_u8(b, (uint8_t)(v >> (8 * n)));
}

static void put_text(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        buf_u8(b, c);
        if (c == 0 || c == 0xff)
            buf_u8(b, c == 0 ? 0xff : 0);
    }
    buf_u8(b, 0);
    buf_u8(b, 1);
}

/* Length and sign in the leading bits: 7 bits of value a byte, one of them the sign. */
static void put_signed(struct buf *b, int64_t v)
{
    static const uint8_t head[11][2] = {{0, 0},    {0x80, 0},    {0xc0, 0},   {0xe0, 0},
                                        {0xf0, 0}, {0xf8, 0},    {0xfc, 0},   {0xfe, 0},
                                        {0xff, 0}, {0xff, 0x80}, {0xff, 0xc0}};
    uint64_t magnitude = (uint64_t)(v < 0 ? ~v : v);
    unsigned bits = 0, n = 1;
    while (bits < 64 && magnitude >> bits != 0)
        bits++;
    while (bits > 7 * n - 1)
        n++;
    for (unsigned i = 0; i < n; i++) {
        unsigned low = 8 * (n - 1 - i);
        uint8_t byte = (uint8_t)(low >= 64 ? (v < 0 ? 0xffu : 0u) : (uint64_t)v >> low);
        buf_u8(b, i < 2 ? (uint8_t)(byte ^ head[n][i]) : byte);
    }
}

void tf_slice_key(struct buf *b, struct str name, size_t n, const uint64_t *lo, const uint64_t *len)
{
    put_num(b, 0);
    put_text(b, name);
    put_num(b, n);
    for (size_t i = 0; i < n; i++) {
        put_signed(b, (int64_t)lo[i]);
        put_signed(b, len[i] == TF_FULL ? -1 : (int64_t)len[i]);
    }
}

/* ---- names ---- */

enum status tf_name(struct str key, bool strip, struct arena *a, struct str *name, struct err *e)
{
    struct path p = {.n = 1};
    struct str rest, part;
    if (strip && str_ends(key, STR(TF_TAIL)))
        key.n -= sizeof TF_TAIL - 1;
    for (size_t i = 0; i < key.n; i++)
        p.n += key.p[i] == '/';
    p.seg = ARENA_ARRAY(a, struct seg, p.n);
    if (!p.seg)
        return err_nomem(e, p.n * sizeof *p.seg);
    rest = key.p ? key : STR("");
    for (size_t i = 0; str_split(&rest, '/', &part); i++)
        p.seg[i] = (struct seg){.key = part};
    return path_print(&p, a, name, e);
}

enum status tf_key(struct str name, bool strip, struct arena *a, struct str *key, struct err *e)
{
    struct path p;
    struct buf b = BUF_INIT;
    struct str again = STR_NONE;
    bool ok = true;
    TRY(path_parse(name, a, &p, e));
    for (size_t i = 0; i < p.n; i++) {
        ok = ok && str_find(p.seg[i].key, '/', 0) == p.seg[i].key.n;
        if (i)
            buf_u8(&b, '/');
        buf_str(&b, p.seg[i].key);
    }
    enum status st = buf_ok(&b, e);
    if (st == ST_OK) {
        *key = arena_str(a, b.p, b.n);
        st = key->p ? ST_OK : err_nomem(e, b.n);
    }
    buf_free(&b);
    TRY(st);
    TRY(tf_name(*key, strip, a, &again, e));
    if (ok && key->n && str_eq(again, name))
        return ST_OK;
    (void)err_set(e, ST_CANNOT, "name-not-spelled",
                  "the name is empty, or a part of it holds a '/', which parts names here");
    err_in(e, name.p, name.n);
    return ST_CANNOT;
}

/* ---- boxes ---- */

#define LOOKS_MAX (UINT64_C(1) << 26) /* comparisons of boxes with each other */

struct box {
    const uint64_t *p; /* lo, len pairs */
};

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct box *)a)->p[0], y = ((const struct box *)b)->p[0];
    return x < y ? -1 : x > y;
}

static bool apart(const uint64_t *a, const uint64_t *b, size_t n_dims)
{
    for (size_t d = 0; d < n_dims; d++)
        if (a[2 * d] + a[2 * d + 1] <= b[2 * d] || b[2 * d] + b[2 * d + 1] <= a[2 * d])
            return true;
    return false;
}

static const char *look(size_t n_dims, const struct box *list, size_t n)
{
    uint64_t looks = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t *a = list[i].p;
        for (size_t k = i + 1; k < n && list[k].p[0] < a[0] + a[1]; k++) {
            if (++looks > LOOKS_MAX)
                return "the slices are too many and too tangled";
            if (!apart(a, list[k].p, n_dims))
                return "two slices overlap";
        }
    }
    return NULL;
}

enum status tf_boxes(size_t n_dims, const uint64_t *dim, size_t n_boxes, const uint64_t *box,
                     const char **why, struct err *e)
{
    uint64_t whole, covered = 0, end;
    *why = "the slices do not cover the tensor";
    if (n_boxes == 0 || !prod_u64(dim, n_dims, &whole))
        return ST_OK;
    struct box *list = mem_zalloc(n_boxes, sizeof *list);
    if (!list)
        return err_nomem(e, n_boxes * sizeof *list);
    size_t n = 0;
    bool inside = true;
    for (size_t i = 0; i < n_boxes && inside; i++) {
        const uint64_t *b = box + 2 * n_dims * i;
        uint64_t elems = 1;
        for (size_t d = 0; d < n_dims; d++) {
            inside = inside && add_u64(b[2 * d], b[2 * d + 1], &end) && end <= dim[d];
            elems *= inside ? b[2 * d + 1] : 0; /* no more than the tensor has */
        }
        if (elems == 0)
            continue;
        inside = inside && add_u64(covered, elems, &covered);
        list[n++].p = b;
    }
    if (n_dims && n)
        qsort(list, n, sizeof *list, by_first);
    *why = !inside  ? "a slice lies outside the tensor"
           : n_dims ? look(n_dims, list, n)
           : n == 1 ? NULL
                    : "two slices of one element";
    if (!*why && covered != whole)
        *why = "the slices do not cover the tensor";
    mem_free(list);
    return ST_OK;
}
