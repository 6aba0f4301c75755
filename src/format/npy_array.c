/* See npy_array.h. */
#include "format/npy_array.h"
#include "base/checked.h"
#include <string.h>

static const struct {
    char type;
    uint8_t item;
    enum dtype dtype;
    const char *descr; /* written; NULL: read only */
} table[] = {
    {'b', 1, DT_BOOL, "|b1"},   {'i', 1, DT_I8, "|i1"},     {'i', 2, DT_I16, "<i2"},
    {'i', 4, DT_I32, "<i4"},    {'i', 8, DT_I64, "<i8"},    {'u', 1, DT_U8, "|u1"},
    {'u', 2, DT_U16, "<u2"},    {'u', 4, DT_U32, "<u4"},    {'u', 8, DT_U64, "<u8"},
    {'f', 2, DT_F16, "<f2"},    {'f', 4, DT_F32, "<f4"},    {'f', 8, DT_F64, "<f8"},
    {'c', 8, DT_C64, "<c8"},    {'c', 16, DT_C128, "<c16"}, {'V', 2, DT_BF16, "<V2"},
    {'f', 1, DT_F8_E5M2, NULL}, {'V', 1, DT_U8, NULL},
};
#define N_TABLE (sizeof table / sizeof table[0])

enum status npy_dtype(const struct npy *h, struct file *f, uint64_t at, enum dtype *out,
                      uint64_t *bytes, struct err *e)
{
    uint64_t n;
    enum status st;
    *out = DT_NONE;
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].type == h->type && table[i].item == h->item)
            *out = table[i].dtype;
    if (h->type == 'O')
        st = err_set(e, ST_INPUT, "npy-object", "the array is a pickle of Python objects");
    else if (*out == DT_NONE || (h->type == 'V' && h->order == '>'))
        st = err_set(e, ST_INPUT, "npy-dtype", "elements of type %c%c%u are no tensor",
                     h->order ? h->order : ' ', h->type, h->item);
    else if (!prod_u64(h->dim, h->n_dims, &n) || !mul_u64(n, h->item, bytes))
        st = err_set(e, ST_INPUT, "npy-shape", "the array is too large");
    else
        return ST_OK;
    err_at(e, file_path(f), at);
    return st;
}

enum status npy_add(struct model *m, struct str name, const struct npy *h, enum dtype dtype,
                    uint32_t storage, struct file *f, uint64_t at, struct err *e)
{
    struct tensor *t;
    int64_t stride[NPY_MAX_DIMS], step = 1;
    m->storage[storage].big_endian = h->order == '>' && dtype_info(dtype)->swap_bytes > 1;
    TRY(model_tensor_add(m, &t, e));
    t->name = name;
    t->dtype = dtype;
    t->storage = storage;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->offset = at;
    t->decl = f;
    if (!h->fortran)
        return tensor_set_shape(m, t, h->dim, h->n_dims, e);
    for (size_t d = 0; d < h->n_dims; d++) {
        stride[d] = step;
        step *= h->dim[d] ? (int64_t)h->dim[d] : 1; /* npy_read bounds the product */
    }
    struct view v;
    TRY(view_strided(&v, h->dim, stride, h->n_dims, 0, e));
    return tensor_set_view(m, t, &v, e);
}

const char *npy_descr(enum dtype t)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t && table[i].descr)
            return table[i].descr;
    return NULL;
}

enum status npy_can(const struct tensor *t, struct err *e)
{
    if (npy_descr(t->dtype))
        return ST_OK;
    (void)err_set(e, ST_CANNOT, "dtype", "numpy files cannot name %s", dtype_info(t->dtype)->name);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}
