/* npy: one array, without a name; here it is "arr_0", as numpy calls it. For the layout and the
 * header's refusals see codec/npy.h, for the types format/npy_array.h.
 *
 * Refused beside those: truncated, trailing-bytes (a second array, or anything else).
 */
#include "format/npy_array.h"
#include "model/roles.h"
#include <string.h>

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    if (s->head_n >= 6 && memcmp(s->head, "\x93NUMPY", 6) == 0)
        return 90;
    return str_ends(str_from(s->path), STR(".npy")) ? 1 : 0;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct file *f = s->file;
    struct cursor c;
    struct npy h;
    struct storage *st;
    enum dtype dtype;
    uint64_t bytes, left;
    uint32_t index;
    (void)opt;
    s->file = NULL;
    m->format = "npy";
    TRY(model_own_file(m, f, e));
    cur_file(&c, f, 0, file_size(f));
    enum status result = npy_read(&c, &h, e);
    cur_close(&c);
    TRY(result);
    TRY(npy_dtype(&h, f, 0, &dtype, &bytes, e));
    left = file_size(f) - h.data;
    if (bytes != left) {
        (void)err_set(e, ST_INPUT, bytes > left ? "truncated" : "trailing-bytes",
                      "the array needs %llu bytes, the file has %llu", (unsigned long long)bytes,
                      (unsigned long long)left);
        err_at(e, file_path(f), bytes > left ? file_size(f) : h.data + bytes);
        return ST_INPUT;
    }
    TRY(model_storage_add(m, &st, &index, e));
    *st = (struct storage){.kind = STORAGE_FLAT,
                           .file = f,
                           .offset = h.data,
                           .stored_bytes = bytes,
                           .raw_bytes = bytes};
    TRY(npy_add(m, STR("arr_0"), &h, dtype, index, f, 0, e));
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    (void)opt;
    if (m->n_tensors != 1)
        return err_set(e, ST_CANNOT, "one-tensor",
                       "an npy file holds one array, this are %zu: npz?", m->n_tensors);
    if (!str_is(m->tensor[0].name, "arr_0")) {
        (void)err_set(e, ST_CANNOT, "name",
                      "an npy file keeps no name: rename the tensor to arr_0");
        err_in(e, m->tensor[0].name.p, m->tensor[0].name.n);
        return ST_CANNOT;
    }
    return npy_can(&m->tensor[0], e);
}

static enum status begin(struct writer *w, struct err *e)
{
    const struct tensor *t = &w->m->tensor[0];
    struct buf b = BUF_INIT;
    uint64_t bytes = 0;
    int id;
    enum status st = ST_OK;
    npy_write(&b, npy_descr(t->dtype), t->dim, t->n_dims);
    if (!dtype_span(t->dtype, tensor_elems(t), &bytes))
        st = err_set(e, ST_CANNOT, "too-large", "the array is too large");
    if (st == ST_OK)
        st = buf_ok(&b, e);
    if (st == ST_OK)
        st = out_add(w->out, STR(""), b.n + bytes, &id, e);
    if (st == ST_OK)
        st = out_pwrite(w->out, id, b.p, b.n, 0, e);
    if (st == ST_OK)
        w->place[0] = (struct place){.kind = PLACE_FIXED, .file = id, .offset = b.n};
    buf_free(&b);
    return st;
}

static enum status end(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}

const struct format npy_format = {
    .name = "npy",
    .title = "numpy array, one without a name",
    .suffix = {".npy", NULL},
    .reads = true,
    .writes = true,
    .refuses = "object arrays (pickles), structured types, text and dates, bytes behind the array",
    .bid = bid,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
};
