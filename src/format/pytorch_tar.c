/* PyTorch's tar of before 0.1.10. Members, in any order (sys_info is not looked at):
 *
 *   storages  pickle: how many; then for each: pickle (key, location, class), i64 number of
 *             elements, the elements; last a pickle [(key, key of the whole, first, elements), ...]
 *             of storages that are parts of others
 *   tensors   pickle: how many; then for each: pickle (key, key of its storage, class), i32 number
 *             of dimensions, 4 bytes, i64 extents, i64 strides, i64 first element
 *   pickle    the object; persistent ids: the decimal key of a tensor or storage, or (class, source
 *             file, source text)
 *
 * Source: pytorch/pytorch torch/serialization.py, legacy_load.
 *
 * Refused: tar-* (codec/tar.h), torch-tar-member, torch-tar-count, torch-key, torch-storage,
 * torch-storage-size, torch-shape, torch-stride, torch-tail.
 */
#include "base/checked.h"
#include "base/cursor.h"
#include "codec/tar.h"
#include "format/pytorch.h"
#include <stdlib.h>

struct whole {
    uint64_t key, first, n_elems; /* first and n_elems: of the storage in the model */
    uint32_t storage;
    enum dtype dtype;
};
struct tar {
    struct pt_reader *r;
    const struct tar_entry *entry;
    size_t n_entries;
    struct buf wholes, named; /* struct whole, struct pt_named */
    struct pickle pk;         /* the small one at work */
    struct buf bytes;
};

static enum status bad(const struct tar *t, uint64_t at, const char *code, const char *why,
                       struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(t->r->file), at);
    return ST_INPUT;
}

static enum status member(struct tar *t, const char *name, struct cursor *c, struct err *e)
{
    for (size_t i = 0; i < t->n_entries; i++)
        if (str_is(t->entry[i].name, name)) {
            cur_file(c, t->r->file, t->entry[i].data, t->entry[i].bytes);
            return cur_ok(c, e);
        }
    (void)err_set(e, ST_INPUT, "torch-tar-member", "no member %s", name);
    err_at(e, file_path(t->r->file), 0);
    return ST_INPUT;
}

/* The next pickle of a member, into t->pk. */
static enum status next_pickle(struct tar *t, struct cursor *c, struct err *e)
{
    uint64_t n = 0;
    pickle_free(&t->pk);
    TRY(pytorch_pickle(t->r, c->base + c->pos, &n, &t->pk, &t->bytes, e));
    cur_skip(c, n);
    return cur_ok(c, e);
}

/* A count that the rest of the member can hold, at least `least` bytes each. */
static enum status count(struct tar *t, struct cursor *c, uint64_t least, uint64_t *n,
                         struct err *e)
{
    uint64_t at = c->base + c->pos;
    TRY(next_pickle(t, c, e));
    if (!pk_u64(&t->pk, t->pk.root, n) || *n > cur_left(c) / least)
        return bad(t, at, "torch-tar-count", "more entries than the member can hold", e);
    return ST_OK;
}

static enum status at_end(struct tar *t, const struct cursor *c, struct err *e)
{
    return cur_left(c) == 0 ? ST_OK
                            : bad(t, c->base + c->pos, "torch-tail",
                                  "bytes behind the last entry of a member", e);
}

/* The three things every entry begins with. */
static enum status head(struct tar *t, struct cursor *c, uint64_t *key, uint32_t *second,
                        uint32_t *third, struct err *e)
{
    TRY(next_pickle(t, c, e));
    const struct pickle *p = &t->pk;
    if (pk_kind(p, p->root) != PK_TUPLE || pk_count(p, p->root) != 3 ||
        !pk_u64(p, pk_elem(p, p->root, 0), key))
        return pickle_fail(p, p->root, "torch-key", e, "an entry that is not (key, ., class)");
    *second = pk_elem(p, p->root, 1);
    *third = pk_elem(p, p->root, 2);
    return ST_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct whole *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}
static int by_name(const void *a, const void *b)
{
    const struct pt_named *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}
static const struct whole *find(const struct tar *t, uint64_t key)
{
    const struct whole want = {.key = key};
    size_t n = t->wholes.n / sizeof want;
    return n ? bsearch(&want, t->wholes.p, n, sizeof want, by_key) : NULL;
}

static enum status add_named(struct tar *t, uint64_t key, const struct whole *w,
                             const struct view *v, bool bare, struct err *e)
{
    struct pt_named x = {key, w->storage, w->dtype, NULL, bare};
    TRY(view_keep(v, &t->r->m->arena, &x.view, e));
    buf_bytes(&t->named, &x, sizeof x);
    return buf_ok(&t->named, e);
}

/* A storage may be a value of its own: its elements in a row. */
static enum status add_whole(struct tar *t, const struct whole *w, struct err *e)
{
    struct view v;
    TRY(view_c(&v, &w->n_elems, 1, e));
    v.offset = (int64_t)w->first;
    buf_bytes(&t->wholes, w, sizeof *w);
    TRY(buf_ok(&t->wholes, e));
    return add_named(t, w->key, w, &v, true, e);
}

static enum status one_storage(struct tar *t, struct cursor *c, struct err *e)
{
    struct whole w = {0};
    uint32_t location, class;
    uint64_t at = c->base + c->pos, bytes;
    TRY(head(t, c, &w.key, &location, &class, e));
    int tag = pk_tag(&t->pk, class);
    if (!(tag > PT_STORAGE && tag < PT_STORAGE + DT_COUNT))
        return pickle_fail(&t->pk, class, "torch-storage", e, "unknown storage type");
    w.dtype = (enum dtype)(tag - PT_STORAGE);
    w.n_elems = cur_u64(c);
    at = c->base + c->pos;
    if (w.n_elems > INT64_MAX || !mul_u64(w.n_elems, dtype_bytes(w.dtype), &bytes))
        return bad(t, at - 8, "torch-storage-size", "the storage's size is no count", e);
    cur_skip(c, bytes);
    TRY(cur_ok(c, e));
    TRY(pytorch_flat(t->r, at, bytes, &w.storage, e));
    return add_whole(t, &w, e);
}

static enum status parts(struct tar *t, struct cursor *c, struct err *e)
{
    TRY(next_pickle(t, c, e));
    const struct pickle *p = &t->pk;
    size_t n_wholes = t->wholes.n / sizeof(struct whole);
    struct whole *all = (struct whole *)(void *)t->wholes.p;
    if (n_wholes)
        qsort(all, n_wholes, sizeof *all, by_key);
    if (pk_kind(p, p->root) != PK_LIST)
        return pickle_fail(p, p->root, "torch-tar-count", e, "no list of partial storages");
    for (uint32_t cell = pk_at(p, p->root)->seq.head; cell; cell = p->cell[cell].next) {
        uint32_t v = p->cell[cell].val;
        uint64_t key, root, first, n;
        if (pk_kind(p, v) != PK_TUPLE || pk_count(p, v) != 4 ||
            !pk_u64(p, pk_elem(p, v, 0), &key) || !pk_u64(p, pk_elem(p, v, 1), &root) ||
            !pk_u64(p, pk_elem(p, v, 2), &first) || !pk_u64(p, pk_elem(p, v, 3), &n))
            return pickle_fail(p, v, "torch-key", e, "a partial storage that is no four counts");
        const struct whole want = {.key = root};
        const struct whole *w =
            n_wholes ? bsearch(&want, t->wholes.p, n_wholes, sizeof want, by_key) : NULL;
        if (!w || !range_in(first, n, w->n_elems))
            return pickle_fail(p, v, "torch-storage-size", e,
                               "a partial storage that is no part of one");
        struct whole part = {key, w->first + first, n, w->storage, w->dtype};
        TRY(add_whole(t, &part, e));
    }
    size_t n = t->wholes.n / sizeof *all;
    all = (struct whole *)(void *)t->wholes.p;
    if (n)
        qsort(all, n, sizeof *all, by_key);
    return ST_OK;
}

static enum status storages(struct tar *t, struct err *e)
{
    struct cursor c;
    uint64_t n = 0;
    TRY(member(t, "storages", &c, e));
    enum status st = count(t, &c, 16, &n, e);
    for (; n > 0 && st == ST_OK; n--)
        st = one_storage(t, &c, e);
    if (st == ST_OK)
        st = parts(t, &c, e);
    if (st == ST_OK)
        st = at_end(t, &c, e);
    cur_close(&c);
    return st;
}

static enum status one_tensor(struct tar *t, struct cursor *c, struct err *e)
{
    uint64_t key, id, dim[VIEW_MAX_AXES], at, first;
    int64_t stride[VIEW_MAX_AXES], lo, hi;
    uint32_t second, class;
    struct view v;
    TRY(head(t, c, &key, &second, &class, e));
    const struct whole *w = pk_u64(&t->pk, second, &id) ? find(t, id) : NULL;
    if (!w)
        return pickle_fail(&t->pk, second, "torch-record-missing", e, "no storage of this key");
    at = c->base + c->pos;
    uint32_t n = cur_u32(c);
    cur_skip(c, 4);
    if (n >= VIEW_MAX_AXES)
        return bad(t, at, "torch-shape", "more dimensions than a tensor has", e);
    bool empty = false, negative = false;
    for (uint32_t i = 0; i < n; i++) {
        dim[i] = cur_u64(c);
        empty = empty || dim[i] == 0;
        negative = negative || dim[i] > INT64_MAX;
    }
    for (uint32_t i = 0; i < n; i++) {
        stride[i] = (int64_t)cur_u64(c);
        negative = negative || stride[i] < 0;
    }
    first = cur_u64(c);
    TRY(cur_ok(c, e));
    if (negative || first > INT64_MAX / 2)
        return bad(t, at, "torch-stride", "an extent, stride or first element that is no count", e);
    enum status st =
        empty ? view_c(&v, dim, n, e) : view_strided(&v, dim, stride, n, (int64_t)first, e);
    if (st == ST_OK) {
        view_bounds(&v, &lo, &hi);
        if (lo < 0 || (uint64_t)hi > w->n_elems)
            return bad(t, at, "out-of-bounds", "the tensor reaches past the end of its storage", e);
        v.offset += (int64_t)w->first;
        st = add_named(t, key, w, &v, false, e);
    }
    if (st != ST_OK)
        err_at(e, file_path(t->r->file), at);
    return st;
}

static enum status tensors(struct tar *t, struct err *e)
{
    struct cursor c;
    uint64_t n = 0;
    TRY(member(t, "tensors", &c, e));
    enum status st = count(t, &c, 24, &n, e);
    for (; n > 0 && st == ST_OK; n--)
        st = one_tensor(t, &c, e);
    if (st == ST_OK)
        st = at_end(t, &c, e);
    cur_close(&c);
    return st;
}

/* The names persistent ids use, sorted; a key twice would make them ambiguous. */
static enum status names(struct tar *t, struct err *e)
{
    struct pt_reader *r = t->r;
    r->n_named = t->named.n / sizeof *r->named;
    r->named = ARENA_ARRAY(&r->scratch, struct pt_named, r->n_named + 1);
    if (!r->named)
        return err_nomem(e, t->named.n);
    const struct pt_named *from = (const struct pt_named *)(const void *)t->named.p;
    for (size_t i = 0; i < r->n_named; i++)
        r->named[i] = from[i];
    qsort(r->named, r->n_named, sizeof *r->named, by_name);
    for (size_t i = 1; i < r->n_named; i++)
        if (r->named[i - 1].key == r->named[i].key)
            return bad(t, 0, "torch-key", "two tensors or storages of one key", e);
    return ST_OK;
}

static enum status object(struct tar *t, struct err *e)
{
    struct pt_reader *r = t->r;
    struct cursor c;
    TRY(member(t, "pickle", &c, e));
    uint64_t at = c.base, n = c.end;
    cur_close(&c);
    if (n == 0)
        return bad(t, at, "truncated", "an object of no bytes", e);
    TRY(pytorch_pickle(r, at, &n, &r->pk, &r->bytes, e));
    return pytorch_tree(r, r->pk.root, STR_NONE, &r->root, e);
}

enum status pytorch_tar(struct pt_reader *r, struct err *e)
{
    struct tar t = {.r = r};
    struct tar_entry *list = NULL;
    enum status st = tar_list(r->file, &r->scratch, &list, &t.n_entries, e);
    t.entry = list;
    if (st == ST_OK)
        st = storages(&t, e);
    if (st == ST_OK)
        st = tensors(&t, e);
    if (st == ST_OK)
        st = names(&t, e);
    if (st == ST_OK)
        st = object(&t, e);
    pickle_free(&t.pk);
    buf_free(&t.bytes);
    buf_free(&t.wholes);
    buf_free(&t.named);
    return st;
}
