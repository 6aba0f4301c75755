/* TensorProto: an array as graphs and checkpoints of version 1 hold it. See tf.h.
 *
 *   1 dtype, 2 shape, 4 tensor_content (raw, little-endian), or one typed list:
 *   5 float, 6 double, 7 int (8 to 32 bits), 8 string, 9 complex64 (re, im ...), 10 int64, 11 bool,
 *   12 complex128, 13 half (bits of float16 and bfloat16), 16 uint32, 17 uint64, 18 float8 (bytes)
 * A list may be packed or not, and shorter than the shape: its last value is repeated.
 * Source: core/framework/tensor.proto, tensor.cc (FromProtoField).
 */
#include "base/checked.h"
#include "format/tf.h"
#include <string.h>

/* Which list holds a type, how its values are written, and their width here (of one part of a
 * complex number). */
struct list {
    uint32_t field;
    enum proto_wire wire;
    size_t unit, per; /* bytes of a value, values of an element */
};

static bool list_of(enum dtype t, struct list *l)
{
    size_t n = dtype_bytes(t) ? dtype_bytes(t) : 1;
    switch (t) {
    case DT_F32:
        *l = (struct list){5, PROTO_I32, 4, 1};
        return true;
    case DT_F64:
        *l = (struct list){6, PROTO_I64, 8, 1};
        return true;
    case DT_C64:
        *l = (struct list){9, PROTO_I32, 4, 2};
        return true;
    case DT_C128:
        *l = (struct list){12, PROTO_I64, 8, 2};
        return true;
    case DT_F16:
    case DT_BF16:
        *l = (struct list){13, PROTO_VARINT, 2, 1};
        return true;
    case DT_I64:
        *l = (struct list){10, PROTO_VARINT, 8, 1};
        return true;
    case DT_BOOL:
        *l = (struct list){11, PROTO_VARINT, 1, 1};
        return true;
    case DT_U32:
        *l = (struct list){16, PROTO_VARINT, 4, 1};
        return true;
    case DT_U64:
        *l = (struct list){17, PROTO_VARINT, 8, 1};
        return true;
    case DT_F8_E4M3FN:
    case DT_F8_E5M2:
    case DT_F8_E4M3FNUZ:
    case DT_F8_E5M2FNUZ:
        *l = (struct list){18, PROTO_LEN, 1, 1};
        return true;
    default:
        *l = (struct list){7, PROTO_VARINT, n, 1};
        return dtype_info(t)->kind == DK_INT || dtype_info(t)->kind == DK_UINT;
    }
}

/* The wire type of a list's values; PROTO_LEN: bytes and strings, one occurrence a value (strings)
 * or a byte a value (float8). false: no list. */
static bool wire_of(uint32_t field, enum proto_wire *w)
{
    switch (field) {
    case 5:
    case 9:
        *w = PROTO_I32;
        return true;
    case 6:
    case 12:
        *w = PROTO_I64;
        return true;
    case 7:
    case 10:
    case 11:
    case 13:
    case 16:
    case 17:
        *w = PROTO_VARINT;
        return true;
    case 8:
    case 18:
        *w = PROTO_LEN;
        return true;
    default:
        return false;
    }
}

static void count(struct proto *m, struct tf_values *v, enum proto_wire wire)
{
    struct proto_list l;
    uint64_t n = 0;
    if (wire == PROTO_LEN) {
        n = m->field == 8 ? 1 : m->n;
    } else if (proto_list(m, wire, &l)) {
        if (wire == PROTO_VARINT)
            while (proto_list_next(&l))
                n++;
        else
            n = m->n / (wire == PROTO_I32 ? 4 : 8);
    }
    if (cur_failed(m->c) || n == 0)
        return;
    if (v->field && v->field != m->field) {
        (void)proto_fail(m, "tf-values", "values in two lists");
        return;
    }
    if (v->field == 0) {
        v->first = m->body;
        v->first_n = m->n;
        v->one_run = wire == PROTO_I32 || wire == PROTO_I64 || m->field == 18;
    } else {
        v->one_run = false;
    }
    v->field = m->field;
    v->n += n;
}

enum status tf_values_read(const struct proto *field, struct tf_values *v, struct err *e)
{
    struct proto m;
    enum proto_wire wire;
    *v = (struct tf_values){.at = field->at};
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 1) {
            v->type = proto_u64(&m);
            v->has_type = true;
        } else if (m.field == 2) {
            TRY(tf_shape(&m, &v->shape, e));
            v->has_shape = true;
        } else if (m.field == 4 && m.wire == PROTO_LEN) {
            v->has_content = m.n > 0;
            v->content = m.body;
            v->content_n = m.n;
        } else if (wire_of(m.field, &wire)) {
            count(&m, v, wire);
        }
    }
    return cur_ok(field->c, e);
}

enum status tf_values_fit(const struct proto *field, const struct tf_values *v, enum dtype type,
                          uint64_t elems, struct err *e)
{
    struct list l;
    uint64_t bytes, most;
    const char *why = NULL;
    size_t width = dtype_bytes(type) ? dtype_bytes(type) : 1;
    if (!mul_u64(elems, width, &bytes) || !mul_u64(elems, 2, &most))
        why = "the tensor passes 2^64 bytes";
    else if (v->has_content && v->field)
        why = "the tensor has both content and a list of values";
    else if (v->has_content && v->content_n != bytes)
        why = "shape and dtype need another number of bytes than the content has";
    else if (!list_of(type, &l) || (v->field && v->field != l.field))
        why = "the values are not in the list that the type has";
    else if (v->field && (v->n > elems * l.per || v->n % l.per != 0))
        why = "the list has more values than the shape, or a part of one";
    if (!why)
        return ST_OK;
    (void)proto_fail(field, "tf-values", "%s", why);
    return cur_ok(field->c, e);
}

static void put(uint8_t *dst, uint64_t bits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)(bits >> (8 * i));
}

enum status tf_values_decode(const struct proto *field, const struct tf_values *v, enum dtype type,
                             uint64_t elems, uint8_t *dst, struct err *e)
{
    struct cursor *c = field->c;
    struct list l;
    struct proto m;
    struct proto_list run;
    TRY(tf_values_fit(field, v, type, elems, e));
    (void)list_of(type, &l);
    size_t width = l.unit * l.per, done = 0, all = (size_t)elems * width;
    const uint8_t *p;
    if (v->has_content) {
        cur_seek(c, v->content);
        p = cur_take(c, (size_t)v->content_n);
        if (p)
            memcpy(dst, p, (size_t)v->content_n);
        return cur_ok(c, e);
    }
    if (!proto_sub(field, &m))
        return cur_ok(c, e);
    while (proto_next(&m)) {
        if (m.field != l.field)
            continue;
        if (l.wire == PROTO_LEN) {
            size_t n = 0;
            p = proto_bytes(&m, &n);
            if (p && n <= all - done) {
                memcpy(dst + done, p, n);
                done += n;
            }
        } else if (proto_list(&m, l.wire, &run)) {
            while (done < all && proto_list_next(&run)) {
                put(dst + done, run.u, l.unit);
                done += l.unit;
            }
        }
    }
    TRY(cur_ok(c, e));
    if (done == 0)
        memset(dst, 0, all);
    for (; done > 0 && done < all; done += width)
        memcpy(dst + done, dst + done - width, width);
    return ST_OK;
}

enum status tf_values_attach(const struct proto *field, const struct tf_values *v, struct str key,
                             struct model *m, struct err *e)
{
    struct proto x;
    struct tf_strings_w w = {.sum_lengths = 0};
    struct buf stored = BUF_INIT, type = BUF_INIT;
    struct str one = STR("");
    struct attachment *at;
    uint32_t masked;
    uint64_t elems;
    bool scalar = v->shape.n == 0;
    if (!prod_u64(v->shape.dim, v->shape.n, &elems) || v->has_content || v->n != elems ||
        (v->n && v->field != 8))
        (void)proto_fail(field, "tf-values", "the strings are not as many as the shape says");
    if (!proto_sub(field, &x))
        return cur_ok(field->c, e);
    while (proto_next(&x)) {
        size_t n;
        const uint8_t *p = x.field == 8 ? proto_bytes(&x, &n) : NULL;
        if (p && scalar)
            one = arena_str(&m->arena, p, n);
        else if (p)
            tf_strings_add(&w, (struct str){(const char *)p, n});
    }
    tf_strings_end(&w, &stored, &masked);
    tf_stored_type(&type, "string", masked, v->shape.dim, v->shape.n);
    if (!scalar)
        one = arena_str(&m->arena, stored.p, stored.n);
    enum status st = cur_ok(field->c, e);
    if (st == ST_OK && (stored.failed || type.failed || !one.p))
        st = err_nomem(e, v->n);
    if (st == ST_OK)
        st = model_attach(m, &at, e);
    if (st == ST_OK) {
        at->name = arena_fmt(&m->arena, TF_STRINGS "%.*s", STR_ARG(key));
        at->media_type = scalar ? STR(TF_ONE_STRING) : arena_str(&m->arena, type.p, type.n);
        at->mem = (const uint8_t *)one.p;
        at->n_bytes = one.n;
        if (!at->name.p || !at->media_type.p)
            st = err_nomem(e, key.n);
    }
    buf_free(&stored);
    buf_free(&type);
    return st;
}
