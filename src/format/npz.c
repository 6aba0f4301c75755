/* npz: a zip of npy arrays, KEY.npy each. Zip: codec/zip.h; header: codec/npy.h; types:
 * format/npy_array.h. Stored members are read in place, deflated ones as streams; sizes and sums
 * come from the central directory, which the zip reader has proved.
 *
 * Haiku's users have a spelling of their own for {module: {parameter: array}}: MODULE//PARAMETER.
 * Where every key is that, the names are MODULE.PARAMETER and the framework is Haiku's; a model of
 * that framework whose names all have these two parts is written so.
 *
 * Written: members stored, their data at multiples of 64; with --compress deflated. Keys are the
 * flat names, or Haiku's. Ties have no spelling here: each name gets its own copy.
 * Source: numpy/lib/_npyio_impl.py.
 *
 * Refused beside what those refuse: npz-member (a folder, or a name without .npy), truncated,
 * trailing-bytes.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/deflate.h"
#include "codec/zip.h"
#include "format/npy_array.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES ((size_t)1 << 20)

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    bool named = str_ends(str_from(s->path), STR(".npz"));
    struct str first = zip_first_name(s->head, s->head_n);
    if (first.n)
        return str_ends(first, STR(".npy")) ? 85 : named ? 40 : 0;
    if (s->head_n >= 4 && memcmp(s->head, "PK\5\6", 4) == 0)
        return named ? 85 : 10;
    return named ? 1 : 0;
}

/* ---- reading ---- */

/* A deflated member: the raw stream is header, then data. */
struct member {
    uint64_t raw, header;
    uint32_t crc;
    bool has_crc;
};
struct stream {
    struct inflater *in;
    uint64_t left;
};

static enum status stream_open(const struct storage *s, void **state, struct err *e)
{
    const struct member *x = s->priv;
    uint8_t skip[512];
    struct stream *st = mem_zalloc(1, sizeof *st);
    if (!st)
        return err_nomem(e, sizeof *st);
    enum status r = inflate_open(s->file, s->offset, s->stored_bytes, x->raw,
                                 x->has_crc ? &x->crc : NULL, &st->in, e);
    for (uint64_t left = x->header; r == ST_OK && left;) {
        size_t n = left < sizeof skip ? (size_t)left : sizeof skip;
        r = inflate_read(st->in, skip, &n, e);
        left -= n;
        if (r == ST_OK && n == 0)
            r = err_set(e, ST_INPUT, "deflate-short", "the member ends inside its header");
    }
    if (r != ST_OK) {
        inflate_close(st->in);
        mem_free(st);
        return r;
    }
    *state = st;
    return ST_OK;
}

static enum status stream_read(const struct storage *s, void *state, void *dst, size_t *n,
                               struct err *e)
{
    (void)s;
    struct stream *st = state;
    return inflate_read(st->in, dst, n, e);
}

static void stream_close(const struct storage *s, void *state)
{
    (void)s;
    struct stream *st = state;
    if (st)
        inflate_close(st->in);
    mem_free(st);
}

static const struct decoder inflated = {
    .name = "deflate", .open = stream_open, .read = stream_read, .close = stream_close};

static enum status header_stored(struct file *f, const struct zip_entry *z, struct npy *h,
                                 struct err *e)
{
    struct cursor c;
    cur_file(&c, f, z->data, z->raw);
    enum status st = npy_read(&c, h, e);
    cur_close(&c);
    return st;
}

/* Reads until p holds want bytes or the stream ends. */
static enum status pull(struct inflater *in, uint8_t *p, size_t *n, size_t want, struct err *e)
{
    for (size_t k = 1; k && *n < want; *n += k) {
        k = want - *n;
        TRY(inflate_read(in, p + *n, &k, e));
    }
    return ST_OK;
}

static enum status header_deflated(struct file *f, const struct zip_entry *z, struct npy *h,
                                   struct err *e)
{
    struct inflater *in;
    struct cursor c;
    size_t n = 0, cap = NPY_HEADER_MAX + 12;
    uint8_t *p = mem_zalloc(1, cap);
    if (!p)
        return err_nomem(e, cap);
    enum status st = inflate_open(f, z->data, z->stored, z->raw, NULL, &in, e);
    if (st == ST_OK) {
        st = pull(in, p, &n, 12, e);
        size_t more = p[6] == 1 ? 10 : 12; /* a longer length is refused by npy_read */
        more += (size_t)p[8] | (size_t)p[9] << 8;
        if (st == ST_OK)
            st = pull(in, p, &n, more < cap ? more : cap, e);
        inflate_close(in);
    }
    if (st == ST_OK) {
        cur_mem(&c, p, n, file_path(f), z->data);
        st = npy_read(&c, h, e);
        cur_close(&c);
    }
    mem_free(p);
    return st;
}

static enum status add_member(struct model *m, const struct zip *z, const struct zip_entry *x,
                              bool quick, struct err *e)
{
    struct file *f = z->file;
    struct npy h;
    enum dtype dtype;
    uint64_t bytes;
    struct storage *s;
    uint32_t index;
    struct str name = str_sub(x->name, 0, x->name.n - 4);
    if (x->is_dir || !str_ends(x->name, STR(".npy"))) {
        (void)err_set(e, ST_INPUT, "npz-member", "the member is no .npy array");
        err_at(e, file_path(f), x->header);
        return ST_INPUT;
    }
    bool stored = x->method == ZIP_STORED;
    if (stored && !quick)
        TRY(zip_check_crc(z, x, e));
    TRY(stored ? header_stored(f, x, &h, e) : header_deflated(f, x, &h, e));
    TRY(npy_dtype(&h, f, x->data, &dtype, &bytes, e));
    if (h.data > x->raw || bytes != x->raw - h.data) {
        bool lacks = h.data > x->raw || bytes > x->raw - h.data;
        (void)err_set(e, ST_INPUT, lacks ? "truncated" : "trailing-bytes",
                      "the array needs %llu bytes, the member has %llu", (unsigned long long)bytes,
                      (unsigned long long)(x->raw - h.data));
        err_at(e, file_path(f), x->data);
        return ST_INPUT;
    }
    struct member *priv = NULL;
    if (!stored) {
        priv = ARENA_NEW(&m->arena, struct member);
        if (!priv)
            return err_nomem(e, sizeof *priv);
        *priv = (struct member){x->raw, h.data, x->crc, !z->no_crc};
    }
    TRY(model_storage_add(m, &s, &index, e));
    *s = (struct storage){.kind = stored ? STORAGE_FLAT : STORAGE_STREAM,
                          .file = f,
                          .offset = x->data + (stored ? h.data : 0),
                          .stored_bytes = stored ? bytes : x->stored,
                          .raw_bytes = bytes,
                          .dec = stored ? NULL : &inflated,
                          .priv = priv};
    return npy_add(m, name, &h, dtype, index, f, x->header, e);
}

/* ---- Haiku's keys ---- */

/* MODULE//PARAMETER, neither of them empty, and no more of '//' in it. */
static bool haiku_key(struct str key, struct str *module, struct str *leaf)
{
    size_t at = str_find_str(key, STR("//"), 0);
    *module = str_sub(key, 0, at);
    *leaf = str_sub(key, at + 2, key.n);
    return at > 0 && at + 2 < key.n && str_find(*leaf, '/', 0) == leaf->n;
}

static enum status read_haiku(struct model *m, struct err *e)
{
    struct str module, leaf;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!haiku_key(m->tensor[i].name, &module, &leaf))
            return ST_OK;
    for (size_t i = 0; i < m->n_tensors; i++) {
        (void)haiku_key(m->tensor[i].name, &module, &leaf);
        TRY(path_join(STR_NONE, module, &m->arena, &module, e));
        TRY(path_join(module, leaf, &m->arena, &m->tensor[i].name, e));
    }
    if (m->n_tensors)
        m->framework = STR("haiku");
    return ST_OK;
}

/* The key of a name of two parts; .p == NULL when it has none that would be read as that name. */
static enum status spell_haiku(struct str name, struct arena *a, struct str *out, struct err *e)
{
    struct path p;
    struct str part, rest, module, leaf;
    *out = STR_NONE;
    TRY(path_parse(name, a, &p, e));
    if (p.n != 2)
        return ST_OK;
    rest = p.seg[0].key;
    while (str_split(&rest, '/', &part))
        if (part.n == 0 || str_is(part, ".") || str_is(part, ".."))
            return ST_OK;
    if (str_is(p.seg[1].key, ".") || str_is(p.seg[1].key, ".."))
        return ST_OK;
    struct str key = arena_fmt(a, "%.*s//%.*s", STR_ARG(p.seg[0].key), STR_ARG(p.seg[1].key));
    if (!key.p)
        return err_nomem(e, name.n);
    if (haiku_key(key, &module, &leaf) && key.n + 4 <= ZIP_NAME_MAX)
        *out = key;
    return ST_OK;
}

/* *keys: per tensor; NULL where the names stand as they are. ST_CANNOT when those would be read as
 * Haiku's. */
static enum status haiku_keys(const struct model *m, struct arena *a, struct str **keys,
                              struct err *e)
{
    size_t n = m->n_tensors, n_like = 0;
    struct str module, leaf;
    *keys = NULL;
    for (size_t i = 0; i < n; i++)
        n_like += haiku_key(m->tensor[i].name, &module, &leaf);
    if (n && n_like == n) {
        (void)err_set(e, ST_CANNOT, "name",
                      "an npz file whose names all hold '//' would be read as Haiku's modules");
        err_in(e, m->tensor[0].name.p, m->tensor[0].name.n);
        return ST_CANNOT;
    }
    if (!str_is(m->framework, "haiku"))
        return ST_OK;
    struct str *list = ARENA_ARRAY(a, struct str, n + 1);
    if (!list)
        return err_nomem(e, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        TRY(spell_haiku(m->tensor[i].name, a, &list[i], e));
        if (!list[i].p)
            return ST_OK;
    }
    *keys = list;
    return ST_OK;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct file *f = s->file;
    struct zip z;
    s->file = NULL;
    m->format = "npz";
    TRY(model_own_file(m, f, e));
    TRY(zip_read(f, &m->arena, &z, e));
    for (size_t i = 0; i < z.n; i++) {
        enum status st = add_member(m, &z, &z.entry[i], opt->quick, e);
        if (st != ST_OK) {
            err_in(e, z.entry[i].name.p, z.entry[i].name.n);
            return st;
        }
    }
    TRY(read_haiku(m, e));
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}

/* ---- writing ---- */

struct npz {
    struct zip_writer zip;
    struct buf header, name; /* of the tensor in turn, from mem */
    struct str *key;         /* per tensor: Haiku's spelling; NULL: the names */
    size_t *member;          /* per tensor: index in zip */
    int id;
};

static enum status encode(const void *raw, size_t n, enum dtype dtype, bool is_first, bool is_last,
                          void *dst, size_t dst_cap, void *scratch, size_t *stored,
                          struct piece *piece, size_t max_pieces, size_t *n_pieces, struct err *e)
{
    (void)dtype;
    (void)is_first;
    TRY(deflate_slab(raw, n, is_last, dst, dst_cap, scratch, stored, e));
    if (max_pieces)
        piece[0] = (struct piece){.stored = (uint32_t)*stored, .raw = (uint32_t)n};
    *n_pieces = max_pieces ? 1 : 0;
    return ST_OK;
}

static const struct encoder deflater = {.name = "deflate",
                                        .slab_bytes = SLAB_BYTES,
                                        .bound = deflate_bound,
                                        .scratch_bytes = DEFLATE_SCRATCH,
                                        .encode = encode,
                                        .max_pieces = 1};

static enum status cannot_name(const struct tensor *t, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, "name", "%s", why);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}

static int fold(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? ch + 32 : (uint8_t)ch;
}

struct keyed {
    struct str key;
    const struct tensor *t;
};
/* As zip readers compare that ignore case: equal names would be one member to them. */
static int by_folded(const void *pa, const void *pb)
{
    struct str a = ((const struct keyed *)pa)->key, b = ((const struct keyed *)pb)->key;
    size_t n = a.n < b.n ? a.n : b.n;
    for (size_t i = 0; i < n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return fold(a.p[i]) - fold(b.p[i]);
    return a.n < b.n ? -1 : a.n > b.n;
}

/* keys: Haiku's spelling, or NULL. */
static enum status check_names(const struct model *m, const struct str *keys, struct keyed *list,
                               struct err *e)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        struct str key = keys ? keys[i] : t->name, part, rest = key;
        bool ok = key.n + 4 <= ZIP_NAME_MAX && str_find(key, 0, 0) == key.n &&
                  str_find(key, '\\', 0) == key.n && !str_starts(key, STR("/"));
        while (ok && str_split(&rest, '/', &part))
            ok = !str_is(part, ".") && !str_is(part, "..");
        if (!ok)
            return cannot_name(t, "an npz file cannot hold an array of this name", e);
        list[i] = (struct keyed){key, t};
    }
    if (m->n_tensors)
        qsort(list, m->n_tensors, sizeof *list, by_folded);
    for (size_t i = 1; i < m->n_tensors; i++)
        if (by_folded(&list[i - 1], &list[i]) == 0)
            return cannot_name(list[i].t, "two names differ in case alone, zip readers may not", e);
    return ST_OK;
}

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    (void)opt;
    for (size_t i = 0; i < m->n_tensors; i++)
        TRY(npy_can(&m->tensor[i], e));
    struct keyed *list = mem_zalloc(m->n_tensors + 1, sizeof *list);
    if (!list)
        return err_nomem(e, m->n_tensors * sizeof *list);
    struct arena a = ARENA_INIT;
    struct str *keys;
    enum status st = haiku_keys(m, &a, &keys, e);
    if (st == ST_OK)
        st = check_names(m, keys, list, e);
    arena_free(&a);
    mem_free(list);
    return st;
}

static enum status raw_bytes(const struct tensor *t, const struct buf *header, uint64_t *data,
                             uint64_t *member, struct err *e)
{
    if (!dtype_span(t->dtype, tensor_elems(t), data) || !add_u64(*data, header->n, member))
        return err_set(e, ST_CANNOT, "too-large", "the array is too large");
    return ST_OK;
}

/* The npy header of a tensor: made where it is needed, into one buffer. */
static enum status header_of(const struct writer *w, uint32_t t, struct buf **out, struct err *e)
{
    struct npz *x = w->priv;
    const struct tensor *tensor = &w->m->tensor[t];
    *out = &x->header;
    buf_clear(&x->header);
    npy_write(&x->header, npy_descr(tensor->dtype), tensor->dim, tensor->n_dims);
    return buf_ok(&x->header, e);
}

static enum status member_name(const struct writer *w, uint32_t t, struct str *out, struct err *e)
{
    struct npz *x = w->priv;
    buf_clear(&x->name);
    buf_str(&x->name, x->key ? x->key[t] : w->m->tensor[t].name);
    buf_z(&x->name, ".npy");
    TRY(buf_ok(&x->name, e));
    *out = buf_as_str(&x->name);
    return ST_OK;
}

static enum status begin_stored(struct writer *w, struct npz *x, uint32_t t, struct err *e)
{
    const struct tensor *tensor = &w->m->tensor[t];
    struct str name;
    struct buf *h;
    uint64_t data = 0, member = 0;
    TRY(member_name(w, t, &name, e));
    TRY(header_of(w, t, &h, e));
    TRY(raw_bytes(tensor, h, &data, &member, e));
    TRY(zip_add(&x->zip, name, ZIP_STORED, member, &x->member[t], e));
    w->place[t] = (struct place){
        .kind = PLACE_FIXED, .offset = x->zip.member[x->member[t]].data + h->n, .want = WANT_CRC32};
    return ST_OK;
}

static enum status fill(struct writer *w, struct npz *x, struct err *e)
{
    for (uint32_t t = 0; t < w->m->n_tensors; t++) {
        if (w->opt.compress)
            w->place[t] =
                (struct place){.kind = PLACE_APPEND, .want = WANT_CRC32, .enc = &deflater};
        else
            TRY(begin_stored(w, x, t, e));
    }
    TRY(out_add(w->out, STR(""), w->opt.compress ? 0 : x->zip.end, &x->id, e));
    for (uint32_t t = 0; t < w->m->n_tensors; t++) {
        w->place[t].file = x->id;
        if (w->opt.compress)
            continue;
        struct buf *h;
        TRY(header_of(w, t, &h, e));
        TRY(out_pwrite(w->out, x->id, h->p, h->n, x->zip.member[x->member[t]].data, e));
    }
    return ST_OK;
}

static enum status begin(struct writer *w, struct err *e)
{
    struct npz *x = ARENA_NEW(&w->arena, struct npz);
    if (!x)
        return err_nomem(e, sizeof *x);
    x->member = ARENA_ARRAY(&w->arena, size_t, w->m->n_tensors + 1);
    if (!x->member)
        return err_nomem(e, w->m->n_tensors * sizeof *x->member);
    TRY(haiku_keys(w->m, &w->arena, &x->key, e));
    zip_writer_init(&x->zip);
    w->priv = x;
    return fill(w, x, e);
}

static enum status around(struct writer *w, uint32_t t, int when, uint64_t at, struct buf *extra,
                          struct err *e)
{
    struct npz *x = w->priv;
    const struct tensor *tensor = &w->m->tensor[t];
    struct zip_member *z;
    if (when == 0) {
        struct buf *h;
        struct str name;
        uint64_t data = 0, member = 0;
        size_t stored = 0;
        TRY(member_name(w, t, &name, e));
        TRY(header_of(w, t, &h, e));
        TRY(raw_bytes(tensor, h, &data, &member, e));
        x->zip.end = at;
        TRY(zip_add(&x->zip, name, ZIP_DEFLATED, member, &x->member[t], e));
        zip_local(&x->zip, x->member[t], extra);
        size_t cap = deflate_bound(h->n);
        void *scratch = mem_alloc(DEFLATE_SCRATCH);
        enum status st = ST_OK;
        if (!scratch || !buf_reserve(extra, cap))
            st = err_nomem(e, DEFLATE_SCRATCH);
        else
            st = deflate_slab(h->p, h->n, data == 0, extra->p + extra->n, cap, scratch, &stored, e);
        mem_free(scratch);
        extra->n += stored;
        return st;
    }
    if (when == 1) {
        z = &x->zip.member[x->member[t]];
        z->stored = at - z->data;
        x->zip.end = at;
    }
    return ST_OK;
}

static enum status finish(struct writer *w, struct npz *x, struct buf *b, struct err *e)
{
    for (uint32_t t = 0; t < w->m->n_tensors; t++) {
        struct zip_member *z = &x->zip.member[x->member[t]];
        struct buf *h;
        TRY(header_of(w, t, &h, e));
        z->crc = crc32_join(crc32_update(0, h->p, h->n), w->placed[t].crc32, z->raw - h->n);
        buf_clear(b);
        zip_local(&x->zip, x->member[t], b);
        TRY(buf_ok(b, e));
        TRY(out_pwrite(w->out, x->id, b->p, b->n, z->header, e));
    }
    buf_clear(b);
    zip_tail(&x->zip, b);
    TRY(buf_ok(b, e));
    return out_pwrite(w->out, x->id, b->p, b->n, x->zip.end, e);
}

static enum status end(struct writer *w, struct err *e)
{
    struct npz *x = w->priv;
    struct buf b = BUF_INIT;
    enum status st = finish(w, x, &b, e);
    buf_free(&b);
    return st;
}

static void drop(struct writer *w)
{
    struct npz *x = w->priv;
    if (!x)
        return;
    buf_free(&x->header);
    buf_free(&x->name);
    zip_writer_free(&x->zip);
}

const struct format npz_format = {
    .name = "npz",
    .title = "numpy archive, stored or deflated",
    .suffix = {".npz", NULL},
    .reads = true,
    .writes = true,
    .refuses = "what npy and the strict zip reader refuse; members that are no arrays",
    .bid = bid,
    .read = read_file,
    .check = check,
    .begin = begin,
    .around = around,
    .end = end,
    .drop = drop,
};
