/* PyTorch's stream of before 1.6 (and of torch.save(_use_new_zipfile_serialization=False)).
 *
 *   pickle   the magic number 0x1950a86a20f9469cfc6c
 *   pickle   the protocol, 1001
 *   pickle   {protocol_version, little_endian, type_sizes} of the machine that wrote
 *   pickle   the object; persistent ids: ('storage', class, key, location, numel, view),
 *            ('module', class, source file, source text)
 *   pickle   [key, ...]
 *   per key, in that order: i64 number of elements, the elements
 *
 * A view is None or (key, first element, elements) of a part of the storage. Numbers are
 * little-endian whatever machine wrote: torch swaps while writing and never looks at little_endian.
 * Source: pytorch/pytorch torch/serialization.py, torch/csrc/serialization.cpp.
 *
 * Refused: torch-magic, torch-protocol, torch-system, torch-keys, torch-storage-size, torch-tail.
 */
#include "base/checked.h"
#include "base/cursor.h"
#include "format/pytorch.h"
#include <stdlib.h>

static enum status bad(const struct pt_reader *r, uint64_t at, const char *code, const char *why,
                       struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(r->file), at);
    return ST_INPUT;
}

static bool is_magic(const struct pickle *p, uint32_t v)
{
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    return pk_kind(p, v) == PK_LONG && str_is(pk_text(p, v), magic);
}

static bool is_protocol(const struct pickle *p, uint32_t v)
{
    int64_t i;
    return v && pk_i64(p, v, &i) && i == 1001;
}

/* The three pickles that say what this is; *at moves behind them. */
static enum status preface(struct pt_reader *r, uint64_t *at, struct err *e)
{
    static const char *const code[] = {"torch-magic", "torch-protocol", "torch-system"};
    static const char *const why[] = {"another magic number", "a protocol other than 1001",
                                      "no description of the machine that wrote"};
    enum status st = ST_OK;
    for (int i = 0; i < 3 && st == ST_OK; i++) {
        struct pickle p;
        struct buf b = BUF_INIT;
        uint64_t n = 0;
        st = pytorch_pickle(r, *at, &n, &p, &b, e);
        if (st == ST_OK) {
            bool ok = i == 0   ? is_magic(&p, p.root)
                      : i == 1 ? is_protocol(&p, p.root)
                               : is_protocol(&p, pk_get(&p, p.root, "protocol_version"));
            if (!ok)
                st = bad(r, *at, code[i], why[i], e);
        }
        pickle_free(&p);
        buf_free(&b);
        *at += n;
    }
    return st;
}

static int by_key(const void *a, const void *b)
{
    const struct pt_blob *x = a, *y = b;
    int d = str_cmp(x->key, y->key);
    return d ? d : (x->dtype > y->dtype) - (x->dtype < y->dtype);
}

/* Every storage the object names, once, with the type that tells its element size. */
static enum status list_storages(struct pt_reader *r, struct err *e)
{
    const struct pickle *p = &r->pk;
    size_t n = 0, n_ids = 0;
    for (uint32_t v = 1; v < p->n_val; v++)
        n_ids += pk_kind(p, v) == PK_PERSID;
    r->blob = ARENA_ARRAY(&r->scratch, struct pt_blob, n_ids + 1);
    if (!r->blob)
        return err_nomem(e, n_ids * sizeof *r->blob);
    for (uint32_t v = 1; v < p->n_val; v++) {
        uint32_t id = pk_kind(p, v) == PK_PERSID ? pk_at(p, v)->ref : 0;
        if (!id || pk_count(p, id) != 6 || !pk_is_text(p, pk_elem(p, id, 0), "storage"))
            continue;
        int tag = pk_tag(p, pk_elem(p, id, 1));
        struct pt_blob b = {.key = pk_text(p, pk_elem(p, id, 2))};
        if (tag > PT_STORAGE && tag < PT_STORAGE + DT_COUNT)
            b.dtype = (enum dtype)(tag - PT_STORAGE);
        else if (tag != PT_STORAGE_UNTYPED && tag != PT_STORAGE_PACKED)
            continue;
        if (b.key.p)
            r->blob[n++] = b;
    }
    if (n)
        qsort(r->blob, n, sizeof *r->blob, by_key);
    for (size_t i = 0; i < n; i++) {
        if (r->n_blobs && str_eq(r->blob[r->n_blobs - 1].key, r->blob[i].key)) {
            if (r->blob[r->n_blobs - 1].dtype == r->blob[i].dtype)
                continue;
            enum status st = bad(r, p->base, "torch-storage", "one storage under two types", e);
            err_in(e, r->blob[i].key.p, r->blob[i].key.n);
            return st;
        }
        r->blob[r->n_blobs++] = r->blob[i];
    }
    return ST_OK;
}

static int key_only(const void *a, const void *b)
{
    return str_cmp(((const struct pt_blob *)a)->key, ((const struct pt_blob *)b)->key);
}

/* The count and the elements of one storage, at the cursor. */
static enum status one_storage(struct pt_reader *r, struct cursor *c, struct str key, struct err *e)
{
    const struct pt_blob want = {.key = key};
    struct pt_blob *b =
        r->n_blobs && key.p ? bsearch(&want, r->blob, r->n_blobs, sizeof *b, key_only) : NULL;
    uint64_t at = c->pos, bytes = 0;
    enum status st = ST_OK;
    if (!b || b->offset != 0) {
        st = bad(r, at, "torch-keys",
                 b ? "a storage stands twice" : "a storage that the object does not name", e);
    } else {
        size_t size = b->dtype == DT_NONE ? 1 : dtype_bytes(b->dtype);
        b->n_elems = cur_u64(c);
        b->offset = c->pos;
        if (b->n_elems > INT64_MAX || !mul_u64(b->n_elems, size, &bytes))
            st = bad(r, at, "torch-storage-size", "the storage's size is no count", e);
        else
            cur_skip(c, bytes);
    }
    if (st == ST_OK)
        st = cur_ok(c, e);
    if (st != ST_OK && key.p)
        err_in(e, key.p, key.n);
    return st;
}

/* The list of keys at `at`, and what stands behind it up to the end of the file. */
static enum status storages(struct pt_reader *r, uint64_t at, struct err *e)
{
    struct pickle p;
    struct buf b = BUF_INIT;
    struct cursor c;
    uint64_t n = 0;
    enum status st = pytorch_pickle(r, at, &n, &p, &b, e);
    cur_file(&c, r->file, 0, file_size(r->file));
    cur_seek(&c, at + n);
    if (st == ST_OK && pk_kind(&p, p.root) != PK_LIST)
        st = bad(r, at, "torch-keys", "no list of storages behind the object", e);
    uint32_t cell = st == ST_OK ? pk_at(&p, p.root)->seq.head : 0;
    for (; cell && st == ST_OK; cell = p.cell[cell].next)
        st = one_storage(r, &c, pk_text(&p, p.cell[cell].val), e);
    if (st == ST_OK && cur_left(&c) != 0)
        st = bad(r, c.pos, "torch-tail",
                 "bytes behind the last storage: is this several objects in one file?", e);
    cur_close(&c);
    pickle_free(&p);
    buf_free(&b);
    return st;
}

enum status pytorch_stream(struct pt_reader *r, struct err *e)
{
    uint64_t at = 0, n = 0;
    TRY(preface(r, &at, e));
    TRY(pytorch_pickle(r, at, &n, &r->pk, &r->bytes, e));
    TRY(list_storages(r, e));
    TRY(storages(r, at + n, e));
    /* a storage that the object names but the list does not */
    size_t kept = 0;
    for (size_t i = 0; i < r->n_blobs; i++)
        if (r->blob[i].offset != 0)
            r->blob[kept++] = r->blob[i];
    r->n_blobs = kept;
    return pytorch_tree(r, r->pk.root, STR_NONE, &r->root, e);
}

/* ---- source text ---- */

static enum status attach_source(struct pt_reader *r, uint32_t class, uint32_t text, struct err *e)
{
    struct pickle *p = &r->pk;
    struct attachment *a;
    struct str s = pk_text(p, text);
    if (pk_kind(p, class) != PK_GLOBAL || s.n == 0)
        return ST_OK;
    const struct pk_global *g = &p->global[pk_at(p, class)->ref];
    struct str name =
        arena_fmt(&r->m->arena, "code/%.*s.%.*s.py", STR_ARG(g->module), STR_ARG(g->name));
    if (!name.p)
        return err_nomem(e, 64);
    for (size_t i = 0; i < r->m->n_attachments; i++)
        if (str_eq(r->m->attachment[i].name, name))
            return ST_OK;
    s = arena_str(&r->m->arena, s.p, s.n);
    if (!s.p)
        return err_nomem(e, s.n);
    TRY(model_attach(r->m, &a, e));
    a->name = name;
    a->media_type = STR("text/x-python");
    a->mem = (const uint8_t *)s.p;
    a->n_bytes = s.n;
    return ST_OK;
}

enum status pytorch_sources(struct pt_reader *r, struct err *e)
{
    const struct pickle *p = &r->pk;
    for (uint32_t v = 1; v < p->n_val; v++) {
        uint32_t class = pytorch_class(p, v), id = class != v ? pk_at(p, v)->ref : 0;
        if (id)
            TRY(attach_source(r, class, pk_elem(p, id, pk_count(p, id) - 1), e));
    }
    return ST_OK;
}
