/* The value of a tensor without axes: numbers of a skeleton that are taken over, counts that are
 * read, the value 1.
 */
#include "convert/map_int.h"
#include "convert/number.h"
#include <string.h>

enum status map_value(const struct model *like, const struct tensor *t, uint8_t out[16],
                      struct err *e)
{
    const struct storage *s = &like->storage[t->storage];
    size_t n = dtype_bytes(t->dtype), unit = dtype_info(t->dtype)->swap_bytes;
    uint8_t raw[16] = {0};
    bool flat = s->kind == STORAGE_FLAT || s->kind == STORAGE_MEMORY;
    if (n == 0 || n > sizeof raw || !flat || s->raw_bytes != n)
        return err_set(e, ST_CANNOT, "like-value", "leaf %.*s of the skeleton cannot be taken over",
                       STR_ARG(t->name));
    if (s->kind == STORAGE_MEMORY)
        memcpy(raw, s->mem, n);
    else
        TRY(file_pread(s->file, raw, n, s->offset, e));
    for (size_t i = 0; i < n; i++)
        out[i] = s->big_endian && unit > 1 ? raw[i / unit * unit + (unit - 1 - i % unit)] : raw[i];
    return ST_OK;
}

bool map_scalar(const struct model *md, const struct tensor *t, uint64_t *out)
{
    uint8_t raw[16] = {0};
    struct err quiet;
    enum dtype_kind k = dtype_info(t->dtype)->kind;
    size_t n = dtype_bytes(t->dtype);
    if (t->n_dims != 0 || (k != DK_INT && k != DK_UINT && k != DK_BOOL) || n > 8 ||
        map_value(md, t, raw, &quiet) != ST_OK)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)raw[i] << (8 * i);
    return true;
}

enum status map_one(enum dtype t, uint8_t out[16], struct err *e)
{
    const struct dtype_info *d = dtype_info(t);
    struct num one = {NUM_FINITE, false, -63, 1ull << 63};
    bool over = false;
    if (d->kind == DK_BLOCK || (d->kind == DK_COMPLEX && d->bits > 128))
        return err_set(e, ST_CANNOT, "no-one", "%s has no value 1", d->name);
    uint64_t code = num_encode(num_half(t), one, &over);
    memset(out, 0, 16);
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(code >> (8 * i));
    return ST_OK;
}
