/* GGUF, writing: one little-endian file of version 3, tensors in the source's order, each padded.
 * See gguf.c.
 */
#include "base/checked.h"
#include "format/gguf.h"
#include <stdlib.h>

struct item {
    uint64_t order, bytes, offset; /* offset: in the data */
    uint32_t tensor, type;
};
struct layout {
    struct item *item;
    size_t n;
    struct buf header; /* padded: the data follows */
    uint64_t data_bytes;
};

static int by_order(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static enum status cannot(const struct tensor *t, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "GGUF %s", why);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}

static enum status make_item(const struct model *m, uint32_t i, struct item *it, struct err *e)
{
    const struct tensor *t = &m->tensor[i];
    size_t bad;
    *it = (struct item){.order = t->order, .tensor = i};
    if (!gguf_type_of(t->dtype, &it->type)) {
        (void)err_set(e, ST_CANNOT, "dtype", "GGUF has no type for %s", dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    if (t->name.n == 0 || t->name.n > GGUF_TENSOR_NAME_MAX || !str_utf8(t->name, &bad) ||
        str_find(t->name, 0, 0) < t->name.n)
        return cannot(t, "name", "names have 1 to 63 bytes of UTF-8", e);
    if (t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX)
        return cannot(t, "dims", "tensors have one to four dimensions", e);
    if (tensor_elems(t) == 0)
        return cannot(t, "dims", "tensors have elements", e);
    if (!dtype_span(t->dtype, tensor_elems(t), &it->bytes))
        return cannot(t, "part-block", "rows fill whole blocks", e);
    return ST_OK;
}

static void put_entry(const struct model *m, const struct item *it, struct buf *b)
{
    const struct tensor *t = &m->tensor[it->tensor];
    struct gguf_entry x = {
        .name = t->name, .n_dims = t->n_dims, .type = it->type, .offset = it->offset};
    for (size_t d = 0; d < t->n_dims; d++)
        x.dim[d] = t->dim[t->n_dims - 1u - d];
    gguf_w_entry(b, &x);
}

/* Pads the header, after it is all there. */
static enum status finish_header(const struct model *m, struct layout *x, const struct buf *keys,
                                 uint64_t n_keys, uint32_t alignment, struct err *e)
{
    gguf_w_begin(&x->header, x->n, n_keys);
    buf_bytes(&x->header, keys->p, keys->n);
    for (size_t i = 0; i < x->n; i++)
        put_entry(m, &x->item[i], &x->header);
    if (x->n) /* without tensors the file ends here, as ggml's tokenizer files do */
        buf_fill(&x->header, 0, (alignment - x->header.n % alignment) % alignment);
    return buf_ok(&x->header, e);
}

static enum status lay_out(const struct model *m, struct arena *a, struct layout *x, struct err *e)
{
    struct buf keys = BUF_INIT;
    uint64_t n_keys;
    uint32_t alignment;
    x->n = m->n_tensors;
    if (x->n > GGUF_TENSORS_MAX)
        return err_set(e, ST_CANNOT, "too-many-tensors", "more than %u tensors", GGUF_TENSORS_MAX);
    x->item = ARENA_ARRAY(a, struct item, x->n + 1);
    if (!x->item)
        return err_nomem(e, x->n * sizeof *x->item);
    for (size_t i = 0; i < x->n; i++)
        TRY(make_item(m, (uint32_t)i, &x->item[i], e));
    qsort(x->item, x->n, sizeof *x->item, by_order);
    enum status st = gguf_write_keys(m, &keys, &n_keys, &alignment, e);
    for (size_t i = 0; i < x->n && st == ST_OK; i++) {
        x->item[i].offset = x->data_bytes;
        if (!add_u64(x->data_bytes, x->item[i].bytes, &x->data_bytes) ||
            !round_up_u64(x->data_bytes, alignment, &x->data_bytes))
            st = err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
    }
    if (st == ST_OK)
        st = finish_header(m, x, &keys, n_keys, alignment, e);
    buf_free(&keys);
    return st;
}

enum status gguf_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x = {0};
    (void)opt;
    enum status st = lay_out(m, &a, &x, e);
    buf_free(&x.header);
    arena_free(&a);
    return st;
}

enum status gguf_begin_file(struct writer *w, struct err *e)
{
    struct layout x = {0};
    uint64_t size;
    int id = -1;
    enum status st = lay_out(w->m, &w->arena, &x, e);
    if (st == ST_OK && !add_u64(x.header.n, x.data_bytes, &size))
        st = err_set(e, ST_CANNOT, "too-large", "the file passes 2^64 bytes");
    if (st == ST_OK)
        st = out_add(w->out, STR(""), size, &id, e);
    if (st == ST_OK)
        st = out_pwrite(w->out, id, x.header.p, x.header.n, 0, e);
    if (st == ST_OK) /* what lies between tensors is zero */
        st = out_truncate(w->out, id, size, e);
    for (size_t i = 0; i < x.n && st == ST_OK; i++) {
        w->order[i] = x.item[i].tensor;
        w->place[x.item[i].tensor] = (struct place){
            .kind = PLACE_FIXED, .file = id, .offset = x.header.n + x.item[i].offset};
    }
    buf_free(&x.header);
    return st;
}

enum status gguf_end_file(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}
