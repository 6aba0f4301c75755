/* See model.h. */
#include "model/model.h"
#include "base/checked.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

static const char *const role_names[] = {
    [ROLE_PARAMETER] = "parameter", [ROLE_BUFFER] = "buffer",   [ROLE_STATISTIC] = "statistic",
    [ROLE_MOMENT1] = "moment1",     [ROLE_MOMENT2] = "moment2", [ROLE_EMA] = "ema",
    [ROLE_COUNTER] = "counter",     [ROLE_RNG] = "rng",         [ROLE_CACHE] = "cache",
    [ROLE_OTHER] = "other",
};
#define N_ROLES (sizeof role_names / sizeof *role_names)

const char *role_name(enum role r)
{
    return (size_t)r < N_ROLES ? role_names[r] : "other";
}

bool role_parse(struct str s, enum role *out)
{
    for (size_t i = 0; i < N_ROLES; i++) {
        if (str_is(s, role_names[i])) {
            *out = (enum role)i;
            return true;
        }
    }
    return false;
}

void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
}

void model_free(struct model *m)
{
    for (size_t i = 0; i < m->n_files; i++)
        file_close(m->file[i]);
    mem_free(m->file);
    mem_free(m->tensor);
    mem_free(m->storage);
    mem_free(m->attachment);
    mem_free(m->meta);
    mem_free(m->index_);
    arena_free(&m->arena);
    memset(m, 0, sizeof *m);
}

/* Room for one more element of the given size; the new place is zeroed. */
static void *grow(void **v, size_t *n, size_t *cap, size_t size)
{
    if (*n == *cap) {
        size_t want = *cap < 1024 ? *cap * 2 + 16 : *cap + *cap / 4, bytes;
        if (!mul_size(want, size, &bytes))
            return NULL;
        void *w = mem_resize(*v, bytes);
        if (!w)
            return NULL;
        *v = w;
        *cap = want;
    }
    void *p = (char *)*v + *n * size;
    memset(p, 0, size);
    (*n)++;
    return p;
}

enum status model_tensor_add(struct model *m, struct tensor **out, struct err *e)
{
    *out = grow((void **)&m->tensor, &m->n_tensors, &m->cap_tensors_, sizeof **out);
    if (!*out)
        return err_nomem(e, m->n_tensors * 2 * sizeof **out);
    (*out)->of = (*out)->alias_of = -1;
    tensor_share_view(*out, &view_scalar);
    return ST_OK;
}

enum status model_storage_add(struct model *m, struct storage **out, uint32_t *index, struct err *e)
{
    if (m->n_storages >= UINT32_MAX)
        return err_set(e, ST_LIMIT, "too-many", "too many storages");
    *out = grow((void **)&m->storage, &m->n_storages, &m->cap_storages_, sizeof **out);
    if (!*out)
        return err_nomem(e, m->n_storages * 2 * sizeof **out);
    *index = (uint32_t)(m->n_storages - 1);
    return ST_OK;
}

enum status model_attach(struct model *m, struct attachment **out, struct err *e)
{
    *out = grow((void **)&m->attachment, &m->n_attachments, &m->cap_attachments_, sizeof **out);
    return *out ? ST_OK : err_nomem(e, m->n_attachments * 2 * sizeof **out);
}

enum status model_meta_add(struct model *m, struct str key, struct str value, struct err *e)
{
    struct meta *p = grow((void **)&m->meta, &m->n_meta, &m->cap_meta_, sizeof *p);
    if (!p)
        return err_nomem(e, m->n_meta * 2 * sizeof *p);
    p->key = arena_str(&m->arena, key.p, key.n);
    p->value = arena_str(&m->arena, value.p, value.n);
    return p->key.p && p->value.p ? ST_OK : err_nomem(e, key.n + value.n);
}

enum status model_own_file(struct model *m, struct file *f, struct err *e)
{
    struct file **p = grow((void **)&m->file, &m->n_files, &m->cap_files_, sizeof *p);
    if (!p) {
        file_close(f);
        return err_nomem(e, m->n_files * 2 * sizeof *p);
    }
    *p = f;
    return ST_OK;
}

void tensor_share_view(struct tensor *t, const struct view_kept *k)
{
    t->n_dims = k->n_dims;
    t->dim = k->dim;
    t->view = k;
}

enum status tensor_set_view(struct model *m, struct tensor *t, const struct view *v, struct err *e)
{
    const struct view_kept *k;
    TRY(view_keep(v, &m->arena, &k, e));
    tensor_share_view(t, k);
    return ST_OK;
}

enum status tensor_set_shape(struct model *m, struct tensor *t, const uint64_t *dim, size_t n,
                             struct err *e)
{
    struct view v;
    TRY(view_c(&v, dim, n, e));
    return tensor_set_view(m, t, &v, e);
}

uint64_t tensor_elems(const struct tensor *t)
{
    return kept_elems(t->view);
}

uint64_t tensor_units(const struct tensor *t)
{
    return dtype_units(t->dtype, tensor_elems(t));
}

bool tensor_bytes(const struct tensor *t, uint64_t *out)
{
    if (dtype_is_block(t->dtype))
        return dtype_span(t->dtype, tensor_elems(t), out);
    uint64_t n = tensor_elems(t);
    size_t size = dtype_bytes(t->dtype);
    return mul_u64(n, size ? size : 1, out);
}

/* ---- names: an open-addressing table of tensor indices ---- */

static uint64_t hash_key(void)
{
    /* differs from run to run, so that names cannot be chosen to collide */
    static const char anchor;
    return (uint64_t)(uintptr_t)&anchor * UINT64_C(0x9e3779b97f4a7c15) ^
           (uint64_t)(uintptr_t)&hash_key;
}

static enum status index_names(struct model *m, struct err *e)
{
    size_t cap = 16;
    while (cap < m->n_tensors * 2)
        cap *= 2;
    mem_free(m->index_);
    m->index_ = mem_zalloc(cap, sizeof *m->index_);
    m->index_cap_ = m->index_ ? cap : 0;
    if (!m->index_)
        return err_nomem(e, cap * sizeof *m->index_);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        size_t at = str_hash(t->name, hash_key()) & (cap - 1);
        while (m->index_[at]) {
            if (str_eq(m->tensor[m->index_[at] - 1].name, t->name)) {
                enum status st =
                    err_set(e, ST_INPUT, "name-twice", "two tensors have the same name");
                err_in(e, t->name.p, t->name.n);
                if (t->decl)
                    err_at(e, file_path(t->decl), t->offset);
                return st;
            }
            at = (at + 1) & (cap - 1);
        }
        m->index_[at] = i + 1;
    }
    return ST_OK;
}

int64_t model_find(const struct model *m, struct str name)
{
    if (!m->index_) {
        for (size_t i = 0; i < m->n_tensors; i++)
            if (str_eq(m->tensor[i].name, name))
                return (int64_t)i;
        return -1;
    }
    size_t at = str_hash(name, hash_key()) & (m->index_cap_ - 1);
    while (m->index_[at]) {
        if (str_eq(m->tensor[m->index_[at] - 1].name, name))
            return (int64_t)(m->index_[at] - 1);
        at = (at + 1) & (m->index_cap_ - 1);
    }
    return -1;
}

/* ---- finish ---- */

static enum status refuse(const struct tensor *t, const char *code, const char *why, struct err *e)
{
    enum status st = err_set(e, ST_INPUT, code, "%s", why);
    err_in(e, t->name.p, t->name.n);
    if (t->decl)
        err_at(e, file_path(t->decl), t->offset);
    return st;
}

static enum status check_tensor(const struct model *m, const struct tensor *t, struct err *e)
{
    size_t bad;
    int64_t lo, hi;
    uint64_t need;
    if (!str_utf8(t->name, &bad) || (t->name.n && memchr(t->name.p, 0, t->name.n)))
        return refuse(t, "bad-name", "the name is not UTF-8 or holds a NUL", e);
    if (t->name.n >= 65536)
        return refuse(t, "bad-name", "the name is longer than 65535 bytes", e);
    if (t->dtype == DT_NONE || (unsigned)t->dtype >= DT_COUNT)
        return refuse(t, "bad-dtype", "unknown element type", e);
    if (t->n_dims != t->view->n_dims || t->dim != t->view->dim)
        return err_set(e, ST_BUG, "view-dim", "shape and view differ");
    if (t->storage >= m->n_storages)
        return err_set(e, ST_BUG, "storage", "a tensor without storage");
    const struct storage *s = &m->storage[t->storage];
    kept_bounds(t->view, &lo, &hi);
    const struct dtype_info *d = dtype_info(t->dtype);
    if (lo < 0)
        return refuse(t, "out-of-bounds", "the view starts before its storage", e);
    if (t->unpacked) {
        need = (uint64_t)hi;
    } else if (d->kind == DK_BLOCK) {
        struct view v;
        view_load(&v, t->view);
        if (t->n_dims == 0 || t->dim[t->n_dims - 1] % d->block_elems != 0 ||
            !view_to_blocks(&v, d->block_elems, d->block_bytes))
            return refuse(t, "part-block", "the rows do not fill whole blocks", e);
        if (!dtype_span(t->dtype, (uint64_t)hi, &need))
            return refuse(t, "out-of-bounds", "the view passes any storage", e);
    } else {
        uint64_t bits;
        if (!mul_u64((uint64_t)hi, d->bits, &bits))
            return refuse(t, "out-of-bounds", "the view passes any storage", e);
        need = bits / 8 + (bits % 8 != 0);
    }
    if (need > s->raw_bytes)
        return refuse(t, "out-of-bounds", "the tensor reaches past the end of its storage", e);
    if (s->kind == STORAGE_FLAT && s->file &&
        !range_in(s->offset, s->stored_bytes, file_size(s->file)))
        return refuse(t, "truncated", "the tensor's bytes reach past the end of the file", e);
    return ST_OK;
}

struct sort_key {
    const struct tensor *t;
    size_t i;
};

static int by_place(const void *pa, const void *pb)
{
    const struct sort_key *a = pa, *b = pb;
#define CMP(x)                                                                                     \
    if (a->t->x != b->t->x)                                                                        \
    return a->t->x < b->t->x ? -1 : 1
    CMP(storage);
    CMP(dtype);
    CMP(view->offset);
    CMP(n_dims);
    CMP(view->n_axes);
#undef CMP
    for (size_t k = 0; k < a->t->view->n_axes; k++) {
        const struct axis *x = &a->t->view->axis[k], *y = &b->t->view->axis[k];
        if (x->extent != y->extent)
            return x->extent < y->extent ? -1 : 1;
        if (x->stride != y->stride)
            return x->stride < y->stride ? -1 : 1;
    }
    return str_cmp(a->t->name, b->t->name);
}

/* Tensors with one storage, dtype and view point to the one with the smallest name. Empty tensors
 * share nothing. */
static enum status find_aliases(struct model *m, struct err *e)
{
    struct sort_key *k = mem_zalloc(m->n_tensors ? m->n_tensors : 1, sizeof *k);
    if (!k)
        return err_nomem(e, m->n_tensors * sizeof *k);
    for (size_t i = 0; i < m->n_tensors; i++)
        k[i] = (struct sort_key){&m->tensor[i], i};
    qsort(k, m->n_tensors, sizeof *k, by_place);
    size_t lead = 0;
    for (size_t i = 1; i < m->n_tensors; i++) {
        const struct tensor *a = k[lead].t, *b = k[i].t;
        bool same = a->storage == b->storage && a->dtype == b->dtype &&
                    a->unpacked == b->unpacked && kept_same(a->view, b->view) &&
                    tensor_elems(a) != 0;
        if (same)
            m->tensor[k[i].i].alias_of = (int64_t)k[lead].i;
        else
            lead = i;
    }
    mem_free(k);
    return ST_OK;
}

enum status model_finish(struct model *m, struct err *e)
{
    TRY(index_names(m, e));
    for (size_t i = 0; i < m->n_tensors; i++)
        TRY(check_tensor(m, &m->tensor[i], e));
    return find_aliases(m, e);
}

bool tensor_is_weight(const struct tensor *t)
{
    return t->role == ROLE_PARAMETER || t->role == ROLE_BUFFER || t->role == ROLE_STATISTIC;
}
