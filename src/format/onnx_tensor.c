/* One TensorProto: what it is and where its numbers lie. */
#include "base/checked.h"
#include "format/onnx.h"
#include <string.h>

static const struct {
    int32_t number;
    enum dtype dtype;
    uint8_t field; /* of the typed list */
    uint8_t ir;    /* first version of the format that has it */
} table[] = {
    {1, DT_F32, 4, 0},          {2, DT_U8, 5, 0},           {3, DT_I8, 5, 0},
    {4, DT_U16, 5, 0},          {5, DT_I16, 5, 0},          {6, DT_I32, 5, 0},
    {7, DT_I64, 7, 0},          {9, DT_BOOL, 5, 0},         {10, DT_F16, 5, 0},
    {11, DT_F64, 10, 0},        {12, DT_U32, 11, 0},        {13, DT_U64, 11, 0},
    {14, DT_C64, 4, 0},         {15, DT_C128, 10, 0},       {16, DT_BF16, 5, 0},
    {17, DT_F8_E4M3FN, 5, 9},   {18, DT_F8_E4M3FNUZ, 5, 9}, {19, DT_F8_E5M2, 5, 9},
    {20, DT_F8_E5M2FNUZ, 5, 9}, {21, DT_U4, 5, 10},         {22, DT_I4, 5, 10},
    {23, DT_F4_E2M1FN, 5, 11},  {24, DT_F8_E8M0FNU, 5, 12}, {25, DT_U2, 5, 13},
    {26, DT_I2, 5, 13},         {27, DT_F6_E2M3FN, 5, 14},  {28, DT_F6_E3M2FN, 5, 14},
};
#define N_TABLE (sizeof table / sizeof table[0])

enum dtype onnx_dtype(int32_t data_type)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].number == data_type)
            return table[i].dtype;
    return DT_NONE;
}

int32_t onnx_data_type(enum dtype t)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t)
            return table[i].number;
    return 0;
}

unsigned onnx_ir_version(enum dtype t)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t && table[i].ir > 8)
            return table[i].ir;
    return 8;
}

static bool is_data(uint32_t field)
{
    return field == 4 || field == 5 || field == 6 || field == 7 || field == 9 || field == 10 ||
           field == 11 || field == 13 || field == 14;
}

enum status onnx_tensor_rest(const struct proto *from, struct buf *b, struct err *e)
{
    struct proto m = *from;
    struct cursor *c = from->c;
    while (proto_next(&m)) {
        uint64_t end = m.body + m.n;
        if (is_data(m.field))
            continue;
        cur_seek(c, m.at);
        const uint8_t *p = cur_take(c, (size_t)(end - m.at));
        if (p)
            buf_bytes(b, p, (size_t)(end - m.at));
    }
    TRY(cur_ok(c, e));
    return buf_ok(b, e);
}

/* ---- reading ---- */

struct reader {
    struct onnx_tensor *t;
    struct arena *a;
    unsigned seen; /* fields that may stand once */
    int32_t place; /* data_location */
};

static void once(struct reader *r, const struct proto *m)
{
    if (r->seen & 1u << m->field)
        (void)proto_fail(m, "field-twice", "field %u stands twice", (unsigned)m->field);
    r->seen |= 1u << m->field;
}

static void read_dims(struct onnx_tensor *t, const struct proto *m)
{
    struct proto_list l;
    if (!proto_list(m, PROTO_VARINT, &l))
        return;
    while (proto_list_next(&l)) {
        if (t->n_dims == VIEW_MAX_AXES) {
            (void)proto_fail(m, "bad-shape", "more than %d dimensions", VIEW_MAX_AXES);
            return;
        }
        if ((int64_t)l.u < 0) {
            (void)proto_fail(m, "bad-shape", "dimension %lld is below 0", (long long)l.u);
            return;
        }
        t->dim[t->n_dims++] = l.u;
    }
}

static void read_typed(struct onnx_tensor *t, const struct proto *m)
{
    static const enum proto_wire wire[12] = {[4] = PROTO_I32,
                                             [5] = PROTO_VARINT,
                                             [7] = PROTO_VARINT,
                                             [10] = PROTO_I64,
                                             [11] = PROTO_VARINT};
    struct proto_list l;
    if (!proto_list(m, wire[m->field], &l) || m->n == 0)
        return;
    if (t->typed != 0 && t->typed != m->field) {
        (void)proto_fail(m, "data-twice", "the tensor has numbers in field %u and in field %u",
                         (unsigned)t->typed, (unsigned)m->field);
        return;
    }
    t->typed = m->field;
    t->typed_n += m->n;
    t->typed_pieces++;
    t->flat_at = t->typed_pieces == 1 && wire[m->field] != PROTO_VARINT ? m->body : UINT64_MAX;
}

static void read_external(struct reader *r, const struct proto *m)
{
    struct onnx_tensor *t = r->t;
    struct proto kv;
    struct str key = STR_NONE, value = STR_NONE;
    if (!proto_sub(m, &kv))
        return;
    while (proto_next(&kv))
        if (kv.field == 1)
            key = proto_str(&kv, r->a);
        else if (kv.field == 2)
            value = proto_str(&kv, r->a);
    if (cur_failed(m->c))
        return;
    if (str_is(key, "location"))
        t->location = value.p ? value : STR("");
    else if (str_is(key, "offset") && !str_u64(value, &t->offset))
        (void)proto_fail(m, "external-key", "the offset '%.*s' is no whole number", STR_ARG(value));
    else if (str_is(key, "length") && !str_u64(value, &t->length))
        (void)proto_fail(m, "external-key", "the length '%.*s' is no whole number", STR_ARG(value));
    else if (str_is(key, "length"))
        t->has_length = true;
}

static void read_field(struct reader *r, const struct proto *m)
{
    struct onnx_tensor *t = r->t;
    switch (m->field) {
    case 1:
        read_dims(t, m);
        break;
    case 2:
        once(r, m);
        t->data_type = proto_i32(m);
        break;
    case 3:
        (void)proto_fail(m, "tensor-segment", "a tensor in segments");
        break;
    case 4:
    case 5:
    case 7:
    case 10:
    case 11:
        read_typed(t, m);
        break;
    case 8:
        once(r, m);
        t->name = proto_str(m, r->a);
        break;
    case 9:
        once(r, m);
        if (m->wire != PROTO_LEN)
            (void)proto_u64(m), (void)proto_fail(m, "proto-type", "raw_data is no run of bytes");
        t->has_raw = true;
        t->raw_at = m->body;
        t->raw_n = m->n;
        break;
    case 13:
        read_external(r, m);
        break;
    case 14:
        once(r, m);
        r->place = proto_i32(m);
        break;
    default:
        break;
    }
}

/* The size that shape and type need; the numbers must be one run of that size or a list. */
static enum status settle(const struct proto *from, struct onnx_tensor *t, bool need_data)
{
    uint64_t bits, bytes = dtype_bytes(t->dtype);
    if (t->external + (t->has_raw && t->raw_n > 0) + (t->typed != 0) > 1)
        return proto_fail(from, "data-twice", "the tensor's numbers stand in two places");
    if (!mul_u64(t->n_elems, dtype_info(t->dtype)->bits, &bits))
        return proto_fail(from, "shape-overflow", "the tensor's size is too large");
    t->raw_bytes = bits / 8 + (bits % 8 != 0);
    if (t->external || !need_data)
        return ST_OK;
    if (t->typed == 0) {
        if (t->raw_n != t->raw_bytes)
            return proto_fail(from, "size-mismatch",
                              "shape and type need %llu bytes, the tensor has %llu",
                              (unsigned long long)t->raw_bytes, (unsigned long long)t->raw_n);
        return ST_OK;
    }
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t->dtype && table[i].field != t->typed)
            return proto_fail(from, "data-field", "field %u holds no %s", (unsigned)t->typed,
                              dtype_info(t->dtype)->name);
    /* values in the list, and the least and the most bytes that so many take */
    if (dtype_info(t->dtype)->bits == 6) { /* one a number, where other small types are packed */
        t->unpacked = true;
        t->raw_bytes = t->n_elems;
    }
    uint64_t n = bytes == 0 ? t->raw_bytes : t->n_elems, least, most;
    uint64_t width = t->typed == 4 ? 4 : t->typed == 10 ? 8 : 1;
    if (t->typed == 4 || t->typed == 10)
        n = t->raw_bytes / width;
    if (!mul_u64(n, width, &least) || !mul_u64(n, width == 1 ? 10 : width, &most) ||
        t->typed_n < least || t->typed_n > most)
        return proto_fail(from, "size-mismatch",
                          "shape and type need %llu values, the list is "
                          "%llu bytes long",
                          (unsigned long long)n, (unsigned long long)t->typed_n);
    return ST_OK;
}

enum status onnx_tensor_read(const struct proto *from, bool need_data, struct arena *a,
                             struct onnx_tensor *t, struct err *e)
{
    struct proto m = *from;
    struct reader r = {.t = t, .a = a};
    struct view v;
    memset(t, 0, sizeof *t);
    t->flat_at = UINT64_MAX;
    while (proto_next(&m))
        read_field(&r, &m);
    TRY(cur_ok(from->c, e));
    t->external = r.place == 1;
    if (r.place != 0 && r.place != 1)
        (void)proto_fail(from, "data-location", "data_location %ld is none", (long)r.place);
    t->dtype = onnx_dtype(t->data_type);
    if (t->data_type == ONNX_STRING)
        return cur_ok(from->c, e);
    if (t->dtype == DT_NONE)
        (void)proto_fail(from, "unknown-dtype", "data_type %ld is not known", (long)t->data_type);
    else if (view_c(&v, t->dim, t->n_dims, NULL) != ST_OK)
        (void)proto_fail(from, "shape-overflow", "the product of the shape is too large");
    else {
        t->n_elems = view_elems(&v);
        (void)settle(from, t, need_data);
    }
    enum status st = cur_ok(from->c, e);
    if (st != ST_OK)
        err_in(e, t->name.p, t->name.n);
    return st;
}
