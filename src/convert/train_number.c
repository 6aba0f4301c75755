/* Numbers of training: counts and rates, wherever a source keeps them (a value of its tree, a
 * tensor of one element), as values, as tensors of the target, or in place of a skeleton's. See
 * train.h.
 */
#include "base/mem.h"
#include "convert/number.h"
#include "convert/train.h"
#include <string.h>

enum status train_element(const struct model *m, const struct tensor *t, uint8_t out[16],
                          struct err *e)
{
    const struct storage *s = &m->storage[t->storage];
    const struct dtype_info *d = dtype_info(t->dtype);
    size_t n = dtype_bytes(t->dtype), unit = d->swap_bytes;
    uint8_t raw[16] = {0};
    int64_t at = t->view->offset;
    enum status st = ST_CANNOT;
    bool fits = n > 0 && n <= sizeof raw && d->bits == 8 * n && tensor_elems(t) == 1 && at >= 0 &&
                (uint64_t)at < s->raw_bytes / n;
    if (fits && s->kind == STORAGE_FLAT)
        st = file_pread(s->file, raw, n, s->offset + (uint64_t)at * n, e);
    else if (fits && s->kind == STORAGE_MEMORY)
        st = (memcpy(raw, s->mem + (uint64_t)at * n, n), ST_OK);
    else if (fits && s->kind == STORAGE_TILED && s->raw_bytes == n && s->n_tiles == 1 &&
             s->tile_bytes <= sizeof raw) {
        void *scratch = mem_zalloc(s->scratch_bytes + 1, 1);
        st = scratch ? s->dec->tile(s, 0, raw, scratch, e) : err_nomem(e, s->scratch_bytes);
        mem_free(scratch);
    } else {
        st = err_set(e, ST_CANNOT, "train-number", "a number that is stored in pieces");
    }
    if (st != ST_OK) {
        err_in(e, t->name.p, t->name.n);
        return st;
    }
    memset(out, 0, 16);
    for (size_t i = 0; i < n; i++)
        out[i] = s->big_endian && unit > 1 ? raw[i / unit * unit + (unit - 1 - i % unit)] : raw[i];
    return ST_OK;
}

enum status train_value(const struct model *m, struct optim_number n, int64_t *out, struct err *e)
{
    *out = 0;
    if (n.node) {
        *out = n.node->i;
        return ST_OK;
    }
    if (n.tensor < 0)
        return err_set(e, ST_CANNOT, "train-number", "there is no count");
    const struct tensor *t = &m->tensor[n.tensor];
    uint8_t raw[16], whole[16] = {0}, back[16] = {0};
    TRY(train_element(m, t, raw, e));
    enum dtype_kind k = dtype_info(t->dtype)->kind;
    bool real = k == DK_FLOAT || k == DK_INT || k == DK_UINT;
    real = real && num_cast(t->dtype, raw, DT_I64, whole, 1) == 1 &&
           num_cast(DT_I64, whole, t->dtype, back, 1) == 1 &&
           memcmp(raw, back, num_bytes(t->dtype)) == 0;
    if (!real) {
        (void)err_set(e, ST_CANNOT, "train-number", "a count that is no number of steps");
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    memcpy(out, whole, sizeof *out);
    return ST_OK;
}

enum status train_real(const struct model *m, struct optim_number n, double *out, struct err *e)
{
    uint8_t raw[16], wide[16] = {0};
    if (n.node) {
        *out = (double)n.node->i;
        if (n.node->kind == NODE_FLOAT)
            memcpy(out, &n.node->bits[0], sizeof *out);
        return ST_OK;
    }
    TRY(train_element(m, &m->tensor[n.tensor], raw, e));
    if (num_cast(m->tensor[n.tensor].dtype, raw, DT_F64, wide, 1) == 0)
        return err_set(e, ST_CANNOT, "train-number", "a number beyond float64");
    memcpy(out, wide, sizeof *out);
    return ST_OK;
}

enum status train_number(struct train *x, struct optim_number n, struct str name, enum dtype type,
                         bool harmless, struct err *e)
{
    struct mapping *m = x->m;
    struct made *d;
    if (!optim_told(n))
        n = x->step;
    TRY(map_made(m, n.tensor >= 0, &d, e));
    d->name = name;
    d->copy = true;
    d->role = ROLE_COUNTER;
    d->dtype = type;
    if (n.tensor >= 0) {
        d->take->src = (uint32_t)n.tensor;
        d->why = STR("number of updates");
        if (m->src->tensor[n.tensor].n_dims == 0)
            return ST_OK;
        d->take = NULL; /* in a shape of its own: taken as a value */
        d->n_takes = 0;
        x->carried[n.tensor] = true;
    }
    d->harmless = harmless || optim_told(n);
    d->why = optim_told(n) ? STR("the source's number of updates")
                           : STR("0: the source does not count updates");
    if (optim_told(n)) {
        int64_t v;
        uint8_t raw[8];
        TRY(train_value(m->src, n, &v, e));
        memcpy(raw, &v, sizeof raw);
        if (num_cast(DT_I64, raw, type, d->fill, 1) == 0)
            return err_set(e, ST_CANNOT, "train-number", "%.*s: %lld does not fit %s",
                           STR_ARG(name), (long long)v, dtype_info(type)->name);
    }
    return ST_OK;
}

static void replace(struct train *x, const struct node *node, int64_t by, bool real)
{
    if (!node || x->n_replaced == TRAIN_REPLACED)
        return;
    x->replaced[x->n_replaced].node = node;
    x->replaced[x->n_replaced].real = real;
    x->replaced[x->n_replaced++].by = by;
}

void train_replace(struct train *x, const struct node *node, int64_t by)
{
    replace(x, node, by, false);
}

void train_replace_real(struct train *x, const struct node *node, double by)
{
    int64_t bits;
    memcpy(&bits, &by, sizeof bits);
    replace(x, node, bits, true);
}

bool train_replaced(const struct train *x, const struct node *node, struct node *copy)
{
    for (size_t i = 0; i < x->n_replaced; i++) {
        if (x->replaced[i].node != node)
            continue;
        if (copy && x->replaced[i].real) {
            copy->kind = NODE_FLOAT;
            copy->i = 0;
            copy->bits[0] = (uint64_t)x->replaced[i].by;
        } else if (copy) {
            copy->i = x->replaced[i].by;
        }
        return true;
    }
    return false;
}
