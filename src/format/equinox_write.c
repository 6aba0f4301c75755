/* Equinox, writing: headers and holes for the data, in the order of the leaves. See equinox.c. */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/json.h"
#include "format/equinox.h"
#include "format/npy_array.h"
#include <stdlib.h>
#include <string.h>

struct layout {
    const struct model *m;
    uint32_t *leaf; /* tensors in the order of the file */
    struct buf line;
};

static int by_order(const void *pa, const void *pb)
{
    const struct tensor *a = *(const struct tensor *const *)pa,
                        *b = *(const struct tensor *const *)pb;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* The names are 0 to n - 1: whoever made them knows the skeleton. */
static bool numbered(const struct model *m, uint32_t *leaf)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        leaf[i] = UINT32_MAX;
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        uint64_t at;
        if (!str_u64(m->tensor[i].name, &at) || at >= m->n_tensors || leaf[at] != UINT32_MAX)
            return false;
        leaf[at] = i;
    }
    return true;
}

static enum status in_order(const struct model *m, struct arena *a, uint32_t *leaf, struct err *e)
{
    const struct tensor **list = ARENA_ARRAY(a, const struct tensor *, m->n_tensors + 1);
    if (!list)
        return err_nomem(e, m->n_tensors * sizeof *list);
    for (size_t i = 0; i < m->n_tensors; i++)
        list[i] = &m->tensor[i];
    if (m->n_tensors)
        qsort(list, m->n_tensors, sizeof *list, by_order);
    for (size_t i = 0; i < m->n_tensors; i++)
        leaf[i] = (uint32_t)(list[i] - m->tensor);
    return ST_OK;
}

static struct str hyperparameters(const struct model *m)
{
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, EQX_META))
            return m->meta[i].value;
    return STR_NONE;
}

/* Appends our list to the object of the line. */
static enum status put_list(struct layout *x, struct str line, struct err *e)
{
    struct json_w w;
    struct buf list = BUF_INIT;
    size_t n = line.n;
    while (n > 0 && (line.p[n - 1] == ' ' || line.p[n - 1] == '\r'))
        n--;
    if (line.p && (n < 2 || line.p[0] != '{' || line.p[n - 1] != '}'))
        return err_set(
            e, ST_CANNOT, "eqx-line",
            "the line of hyper-parameters is no object, so that the leaves' names have no "
            "place in it: --like gives a skeleton");
    json_w_init(&w, &list, 0);
    json_w_array(&w);
    for (size_t i = 0; i < x->m->n_tensors; i++)
        json_w_str(&w, x->m->tensor[x->leaf[i]].name);
    json_w_array_end(&w);
    bool any = false;
    for (size_t i = 1; line.p && i + 1 < n; i++)
        any = any || line.p[i] != ' ';
    buf_bytes(&x->line, line.p ? line.p : "{", line.p ? n - 1 : 1);
    buf_z(&x->line, any ? ", " : "");
    buf_fmt(&x->line, "\"%s\": ", EQX_LEAVES);
    buf_bytes(&x->line, list.p, list.n);
    buf_u8(&x->line, '}');
    enum status st = buf_ok(&list, e);
    buf_free(&list);
    return st;
}

static enum status lay_out(const struct model *m, struct arena *a, struct layout *x, struct err *e)
{
    struct str line = hyperparameters(m);
    *x = (struct layout){.m = m};
    x->leaf = ARENA_ARRAY(a, uint32_t, m->n_tensors + 1);
    if (!x->leaf)
        return err_nomem(e, m->n_tensors * sizeof *x->leaf);
    if (m->n_tensors == 0)
        return err_set(e, ST_CANNOT, "no-tensors", "an Equinox file holds at least one leaf");
    if (str_find(line, '\n', 0) < line.n || line.n >= EQX_LINE_MAX)
        return err_set(e, ST_CANNOT, "eqx-line", "the hyper-parameters are no single line");
    if (numbered(m, x->leaf)) {
        buf_str(&x->line, line);
    } else {
        TRY(in_order(m, a, x->leaf, e));
        TRY(put_list(x, line, e));
    }
    if (x->line.n >= EQX_LINE_MAX)
        return err_set(e, ST_CANNOT, "eqx-line", "the list of leaves is too long");
    if (x->line.n)
        buf_u8(&x->line, '\n');
    TRY(buf_ok(&x->line, e));
    for (size_t i = 0; i < m->n_tensors; i++)
        TRY(npy_can(&m->tensor[i], e));
    return ST_OK;
}

enum status equinox_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x;
    (void)opt;
    enum status st = lay_out(m, &a, &x, e);
    buf_free(&x.line);
    arena_free(&a);
    return st;
}

/* Places of all leaves; text, when not NULL, receives the header of leaf i alone. */
static enum status header_of(const struct layout *x, size_t i, struct buf *text, uint64_t *bytes,
                             struct err *e)
{
    const struct tensor *t = &x->m->tensor[x->leaf[i]];
    buf_clear(text);
    npy_write(text, npy_descr(t->dtype), t->dim, t->n_dims);
    if (!dtype_span(t->dtype, tensor_elems(t), bytes))
        return err_set(e, ST_CANNOT, "too-large", "the array is too large");
    return buf_ok(text, e);
}

static enum status write_all(struct writer *w, const struct layout *x, struct buf *text,
                             struct err *e)
{
    uint64_t at = x->line.n, bytes = 0;
    int id;
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        TRY(header_of(x, i, text, &bytes, e));
        if (!add_u64(at, text->n, &at) || !add_u64(at, bytes, &at) || at > INT64_MAX)
            return err_set(e, ST_CANNOT, "too-large", "the file passes 2^63 bytes");
    }
    TRY(out_add(w->out, STR(""), at, &id, e));
    if (x->line.n)
        TRY(out_pwrite(w->out, id, x->line.p, x->line.n, 0, e));
    at = x->line.n;
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        TRY(header_of(x, i, text, &bytes, e));
        TRY(out_pwrite(w->out, id, text->p, text->n, at, e));
        at += text->n;
        w->place[x->leaf[i]] = (struct place){.kind = PLACE_FIXED, .file = id, .offset = at};
        w->order[i] = x->leaf[i];
        at += bytes;
    }
    return ST_OK;
}

enum status equinox_begin(struct writer *w, struct err *e)
{
    struct layout x;
    struct buf text = BUF_INIT;
    enum status st = lay_out(w->m, &w->arena, &x, e);
    if (st == ST_OK)
        st = write_all(w, &x, &text, e);
    buf_free(&text);
    buf_free(&x.line);
    return st;
}

enum status equinox_end(struct writer *w, struct err *e)
{
    (void)w;
    (void)e;
    return ST_OK;
}
