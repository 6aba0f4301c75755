/* safetensors, reading: the header is walked once with a pull reader, every range is proved, and
 * only then does the model exist. See safetensors.c for the layout.
 */
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/json.h"
#include "format/hf_index.h"
#include "format/safetensors.h"
#include "model/roles.h"
#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 262144u                   /* of one file */
#define PRESCAN_BYTES ((uint64_t)4 << 20)     /* headers from here on are counted first */
#define COMPARE_MAX_BYTES ((uint64_t)4 << 30) /* of two ranges said to be equal */

struct range {
    uint64_t lo, hi, at;
    size_t tensor;
};
struct shard {
    struct model *m;
    struct file *f;
    struct json j;
    uint64_t data;     /* file offset of the buffer */
    size_t first;      /* its first tensor in the model */
    size_t first_meta; /* and its first metadata */
    struct buf range;  /* struct range */
    bool has_meta, unknown;
};
enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4 };

static enum status read_shape(struct shard *s, struct tensor *t, struct err *e)
{
    struct json *j = &s->j;
    struct view v;
    uint64_t dim[VIEW_MAX_AXES];
    size_t n = 0;
    TRY(json_expect(j, JSON_ARRAY, "shape", e));
    uint64_t at = j->at;
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_ARRAY_END)
            break;
        if (n == VIEW_MAX_AXES)
            return json_fail(j, e, "bad-shape", "more than %d dimensions", VIEW_MAX_AXES);
        if (!json_u64(j, &dim[n++]))
            return json_fail(j, e, "bad-shape", "a dimension is not a whole number of 64 bits");
    }
    j->at = at;
    if (view_c(&v, dim, n, e) != ST_OK)
        return json_fail(j, e, "shape-overflow", "the product of the shape is too large");
    return tensor_set_view(s->m, t, &v, e);
}

static enum status read_offsets(struct json *j, struct range *r, struct err *e)
{
    uint64_t v[2];
    TRY(json_expect(j, JSON_ARRAY, "data_offsets", e));
    for (int i = 0; i < 2; i++) {
        TRY(json_next(j, e));
        if (!json_u64(j, &v[i]))
            return json_fail(j, e, "bad-offsets", "data_offsets are not two whole numbers");
    }
    TRY(json_next(j, e));
    if (j->kind != JSON_ARRAY_END)
        return json_fail(j, e, "bad-offsets", "data_offsets are more than two numbers");
    if (v[1] < v[0])
        return json_fail(j, e, "bad-offsets", "data_offsets end before they begin");
    r->lo = v[0];
    r->hi = v[1];
    return ST_OK;
}

static enum status read_member(struct shard *s, struct tensor *t, struct range *r, unsigned *seen,
                               struct err *e)
{
    struct json *j = &s->j;
    unsigned bit = str_is(j->text, "dtype")          ? HAS_DTYPE
                   : str_is(j->text, "shape")        ? HAS_SHAPE
                   : str_is(j->text, "data_offsets") ? HAS_OFFSETS
                                                     : 0;
    if (*seen & bit)
        return json_fail(j, e, "key-twice", "'%.*s' stands twice", STR_ARG(j->text));
    *seen |= bit;
    if (bit == HAS_SHAPE)
        return read_shape(s, t, e);
    if (bit == HAS_OFFSETS)
        return read_offsets(j, r, e);
    if (bit == HAS_DTYPE) {
        TRY(json_expect(j, JSON_STRING, "dtype", e));
        t->dtype = safetensors_dtype_parse(j->text);
        if (t->dtype == DT_NONE)
            return json_fail(j, e, "unknown-dtype", "dtype '%.*s' is not known",
                             (int)(j->text.n < 40 ? j->text.n : 40), j->text.p);
        return ST_OK;
    }
    s->unknown = true;
    TRY(json_next(j, e));
    return json_skip(j, e);
}

static enum status prove_size(struct json *j, const struct tensor *t, const struct range *r,
                              struct err *e)
{
    uint64_t bits, n = tensor_elems(t);
    if (!mul_u64(n, dtype_info(t->dtype)->bits, &bits))
        return json_fail(j, e, "shape-overflow", "the tensor's size is too large");
    if (bits % 8 != 0)
        return json_fail(j, e, "part-byte", "%llu elements of %s do not fill whole bytes",
                         (unsigned long long)n, dtype_info(t->dtype)->name);
    if (bits / 8 != r->hi - r->lo)
        return json_fail(j, e, "size-mismatch",
                         "shape and dtype need %llu bytes, the range has %llu",
                         (unsigned long long)(bits / 8), (unsigned long long)(r->hi - r->lo));
    return ST_OK;
}

static enum status add_tensor(struct shard *s, struct tensor *from, struct range *r, struct err *e)
{
    struct model *m = s->m;
    struct storage *st;
    struct tensor *t;
    uint32_t index;
    r->tensor = m->n_tensors;
    TRY(model_storage_add(m, &st, &index, e));
    *st = (struct storage){.kind = STORAGE_FLAT,
                           .file = s->f,
                           .offset = s->data + r->lo,
                           .stored_bytes = r->hi - r->lo,
                           .raw_bytes = r->hi - r->lo};
    TRY(model_tensor_add(m, &t, e));
    from->storage = index;
    from->of = from->alias_of = -1;
    from->order = r->tensor;
    from->requires_grad = true;
    from->decl = s->f;
    from->offset = 8 + r->at;
    *t = *from;
    buf_bytes(&s->range, r, sizeof *r);
    return buf_ok(&s->range, e);
}

static enum status read_entry(struct shard *s, struct err *e)
{
    struct json *j = &s->j;
    struct tensor t = {0};
    struct range r = {.at = j->at};
    unsigned seen = 0;
    if (j->text.n > ST_NAME_MAX)
        return json_fail(j, e, "name-too-long", "tensor name of %zu bytes", j->text.n);
    if (j->has_nul)
        return json_fail(j, e, "bad-name", "tensor name with a NUL in it");
    t.name = arena_str(&s->m->arena, j->text.p, j->text.n);
    if (!t.name.p)
        return err_nomem(e, j->text.n);
    TRY(json_next(j, e));
    if (j->kind != JSON_OBJECT)
        return json_fail(j, e, "bad-entry", "a tensor's entry is not an object");
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            break;
        TRY(read_member(s, &t, &r, &seen, e));
    }
    j->at = r.at;
    if (seen != (HAS_DTYPE | HAS_SHAPE | HAS_OFFSETS))
        return json_fail(j, e, "bad-entry", "a tensor's entry lacks %s",
                         !(seen & HAS_DTYPE)   ? "its dtype"
                         : !(seen & HAS_SHAPE) ? "its shape"
                                               : "its data_offsets");
    enum status st = prove_size(j, &t, &r, e);
    if (st == ST_OK && r.hi > file_size(s->f) - s->data)
        st = json_fail(j, e, "out-of-bounds", "the range ends at %llu, the buffer at %llu",
                       (unsigned long long)r.hi, (unsigned long long)(file_size(s->f) - s->data));
    if (st != ST_OK) {
        err_in(e, t.name.p, t.name.n);
        return st;
    }
    return add_tensor(s, &t, &r, e);
}

static enum status read_metadata(struct shard *s, struct err *e)
{
    struct json *j = &s->j;
    struct model *m = s->m;
    if (s->has_meta)
        return json_fail(j, e, "key-twice", "'__metadata__' stands twice");
    s->has_meta = true;
    TRY(json_next(j, e));
    if (j->kind != JSON_OBJECT)
        return json_fail(j, e, "bad-metadata", "__metadata__ is not an object");
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            return ST_OK;
        struct str key = arena_str(&m->arena, j->text.p, j->text.n);
        if (!key.p)
            return err_nomem(e, j->text.n);
        TRY(json_next(j, e));
        if (j->kind != JSON_STRING)
            return json_fail(j, e, "bad-metadata", "a value in __metadata__ is not a string");
        TRY(model_meta_add(m, key, j->text, e));
    }
}

/* A first look at a large header: how many entries, with no memory taken. */
static enum status count_entries(struct file *f, uint64_t n, struct err *e)
{
    struct cursor c;
    struct json j;
    uint64_t entries = 0;
    cur_file(&c, f, 8, n);
    json_init(&j, &c, (size_t)n);
    enum status st = json_next(&j, e);
    while (st == ST_OK && j.kind != JSON_END && j.kind != JSON_NONE) {
        entries += j.kind == JSON_KEY && j.depth == 1;
        if (entries > MAX_TENSORS)
            st = json_fail(&j, e, "too-many-tensors", "more than %u tensors in one file",
                           MAX_TENSORS);
        else
            st = json_next(&j, e);
    }
    json_free(&j);
    cur_close(&c);
    return st;
}

static enum status read_header(struct shard *s, struct err *e)
{
    struct json *j = &s->j;
    TRY(json_expect(j, JSON_OBJECT, "the header", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            break;
        if (str_is(j->text, "__metadata__"))
            TRY(read_metadata(s, e));
        else if (s->range.n / sizeof(struct range) == MAX_TENSORS)
            return json_fail(j, e, "too-many-tensors", "more than %u tensors in one file",
                             MAX_TENSORS);
        else
            TRY(read_entry(s, e));
    }
    TRY(json_next(j, e));
    return json_finish(j, " ", e);
}

static int by_place(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->lo != y->lo)
        return x->lo < y->lo ? -1 : 1;
    if (x->hi != y->hi)
        return x->hi < y->hi ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static enum status prove_tiling(struct shard *s, struct err *e)
{
    struct range *r = (struct range *)(void *)s->range.p;
    size_t n = s->range.n / sizeof *r;
    uint64_t end = 0, size = file_size(s->f) - s->data;
    if (n)
        qsort(r, n, sizeof *r, by_place);
    for (size_t i = 0; i < n; i++) {
        if (r[i].lo == end) {
            end = r[i].hi;
            continue;
        }
        (void)err_set(e, ST_INPUT, r[i].lo > end ? "hole" : "overlap",
                      "the range starts at %llu where the one before it ends at %llu",
                      (unsigned long long)r[i].lo, (unsigned long long)end);
        err_at(e, file_path(s->f), 8 + r[i].at);
        err_in(e, s->m->tensor[r[i].tensor].name.p, s->m->tensor[r[i].tensor].name.n);
        return ST_INPUT;
    }
    if (end != size) {
        (void)err_set(e, ST_INPUT, "trailing-bytes", "%llu bytes follow the last tensor",
                      (unsigned long long)(size - end));
        err_at(e, file_path(s->f), s->data + end);
        return ST_INPUT;
    }
    return ST_OK;
}

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct meta *)a)->key, ((const struct meta *)b)->key);
}

/* Sorts this file's metadata, refuses a doubled key, drops what an earlier shard said alike. */
static enum status settle_metadata(struct shard *s, struct err *e)
{
    struct model *m = s->m;
    size_t n = m->n_meta - s->first_meta, kept = s->first_meta;
    if (n == 0)
        return ST_OK;
    struct meta *meta = m->meta + s->first_meta;
    qsort(meta, n, sizeof *meta, by_key);
    for (size_t i = 1; i < n; i++)
        if (str_eq(meta[i - 1].key, meta[i].key)) {
            (void)err_set(e, ST_INPUT, "key-twice", "a key stands twice in __metadata__");
            err_at(e, file_path(s->f), 8);
            err_in(e, meta[i].key.p, meta[i].key.n);
            return ST_INPUT;
        }
    for (size_t i = 0; i < n; i++) {
        const struct meta *old =
            s->first_meta ? bsearch(&meta[i], m->meta, s->first_meta, sizeof *meta, by_key) : NULL;
        bool ours = str_is(meta[i].key, ST_ALIASES);
        if (old && !ours && !str_eq(old->value, meta[i].value))
            log_warn("%s: metadata-differs: metadata '%.*s' differs from another shard's and is "
                     "left aside",
                     file_path(s->f), (int)(meta[i].key.n < 80 ? meta[i].key.n : 80),
                     meta[i].key.p);
        if (!old || ours)
            m->meta[kept++] = meta[i];
    }
    m->n_meta = kept;
    qsort(m->meta, kept, sizeof *meta, by_key);
    return ST_OK;
}

static enum status read_shard(struct model *m, struct file *f, struct err *e)
{
    struct shard s = {.m = m, .f = f, .first = m->n_tensors, .first_meta = m->n_meta};
    struct cursor c;
    uint64_t size = file_size(f);
    uint8_t head[9];
    if (size < 8) {
        (void)err_set(e, ST_INPUT, "truncated", "%llu bytes are no safetensors file",
                      (unsigned long long)size);
        err_at(e, file_path(f), size);
        return ST_INPUT;
    }
    TRY(file_pread(f, head, size > 8 ? 9 : 8, 0, e));
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | head[i];
    if (n > size - 8 || n > ST_HEADER_MAX || n < 2) {
        (void)err_set(e, ST_INPUT, "header-length",
                      "the header's length is %llu, of a file of %llu bytes", (unsigned long long)n,
                      (unsigned long long)size);
        err_at(e, file_path(f), 0);
        return ST_INPUT;
    }
    if (head[8] != '{') {
        (void)err_set(e, ST_INPUT, "header-start", "byte 0x%02x where '{' should be", head[8]);
        err_at(e, file_path(f), 8);
        return ST_INPUT;
    }
    if (n >= PRESCAN_BYTES)
        TRY(count_entries(f, n, e));
    s.data = 8 + n;
    cur_file(&c, f, 8, n);
    json_init(&s.j, &c, (size_t)n);
    enum status st = read_header(&s, e);
    json_free(&s.j);
    cur_close(&c);
    if (st == ST_OK)
        st = prove_tiling(&s, e);
    buf_free(&s.range);
    if (st == ST_OK && s.unknown)
        log_warn("%s: unknown-member: unknown members of tensors are left aside", file_path(f));
    return st == ST_OK ? settle_metadata(&s, e) : st;
}

/* ---- ties ---- */

struct named {
    struct str name;
    size_t tensor;
};
struct names {
    struct named *list;
    size_t n;
};

static int by_named(const void *a, const void *b)
{
    return str_cmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static int64_t names_find(const struct names *x, struct str name)
{
    struct named key = {name, 0};
    const struct named *at = x->n ? bsearch(&key, x->list, x->n, sizeof key, by_named) : NULL;
    return at ? (int64_t)at->tensor : -1;
}

static enum status same_bytes(const struct storage *a, const struct storage *b, bool *same,
                              struct err *e)
{
    enum { STEP = 1 << 18 };
    uint64_t n = a->raw_bytes;
    enum status st = ST_OK;
    *same = true;
    uint8_t *p = mem_alloc((size_t)2 * STEP);
    if (!p)
        return err_nomem(e, (size_t)2 * STEP);
    for (uint64_t at = 0; st == ST_OK && *same && at < n; at += STEP) {
        size_t k = n - at < STEP ? (size_t)(n - at) : STEP;
        st = file_pread(a->file, p, k, a->offset + at, e);
        if (st == ST_OK)
            st = file_pread(b->file, p + STEP, k, b->offset + at, e);
        *same = st == ST_OK && memcmp(p, p + STEP, k) == 0;
    }
    mem_free(p);
    return st;
}

/* Both names are written in full; they become one tensor when their bytes say so. */
static enum status tie(struct model *m, int64_t alias, int64_t kept, struct err *e)
{
    struct tensor *a = &m->tensor[alias];
    const struct tensor *k = &m->tensor[kept];
    const struct storage *sa = &m->storage[a->storage], *sk = &m->storage[k->storage];
    bool same = a->dtype == k->dtype && a->n_dims == k->n_dims &&
                memcmp(a->dim, k->dim, a->n_dims * sizeof a->dim[0]) == 0 &&
                sa->raw_bytes <= COMPARE_MAX_BYTES;
    if (alias == kept || a->storage == k->storage)
        return ST_OK;
    if (same)
        TRY(same_bytes(sa, sk, &same, e));
    if (same)
        a->storage = k->storage;
    else
        log_warn("%s: alias-differs: '%.*s' is said to be tied to '%.*s' but is not equal to it; "
                 "both are kept",
                 file_path(a->decl), (int)(a->name.n < 80 ? a->name.n : 80), a->name.p,
                 (int)(k->name.n < 80 ? k->name.n : 80), k->name.p);
    return ST_OK;
}

static enum status ties_listed(struct model *m, const struct names *x, struct str text,
                               struct err *e)
{
    struct cursor c;
    struct json j;
    cur_mem(&c, text.p, text.n, "__metadata__ " ST_ALIASES, 0);
    json_init(&j, &c, 0);
    enum status st = json_expect(&j, JSON_OBJECT, "the list of aliases", e);
    while (st == ST_OK) {
        st = json_next(&j, e);
        if (st != ST_OK || j.kind == JSON_OBJECT_END)
            break;
        int64_t alias = names_find(x, j.text);
        st = json_expect(&j, JSON_STRING, "an alias's tensor", e);
        int64_t kept = st == ST_OK ? names_find(x, j.text) : -1;
        if (alias >= 0 && kept >= 0)
            st = tie(m, alias, kept, e);
    }
    json_free(&j);
    cur_close(&c);
    return st;
}

/* REMOVED -> KEPT: the name was left out of the file. */
static enum status add_removed(struct model *m, struct str name, int64_t kept, struct err *e)
{
    struct tensor *t;
    size_t bad;
    if (name.n > ST_NAME_MAX || !str_utf8(name, &bad) || str_find(name, 0, 0) < name.n)
        return ST_OK;
    TRY(model_tensor_add(m, &t, e));
    *t = m->tensor[kept];
    t->name = name;
    t->order = m->n_tensors - 1;
    return ST_OK;
}

static enum status find_ties(struct model *m, struct err *e)
{
    struct names x = {.n = m->n_tensors};
    enum status st = ST_OK;
    size_t kept_meta = 0;
    if (m->n_meta == 0)
        return ST_OK;
    x.list = mem_zalloc(x.n + 1, sizeof *x.list);
    if (!x.list)
        return err_nomem(e, x.n * sizeof *x.list);
    for (size_t i = 0; i < x.n; i++)
        x.list[i] = (struct named){m->tensor[i].name, i};
    qsort(x.list, x.n, sizeof *x.list, by_named);
    for (size_t i = 0; i < m->n_meta && st == ST_OK; i++) {
        struct meta kv = m->meta[i];
        int64_t kept;
        if (str_is(kv.key, ST_ALIASES))
            st = ties_listed(m, &x, kv.value, e);
        else if (!str_is(kv.key, "format") && names_find(&x, kv.key) < 0 &&
                 (kept = names_find(&x, kv.value)) >= 0)
            st = add_removed(m, kv.key, kept, e);
        else
            m->meta[kept_meta++] = kv;
    }
    m->n_meta = st == ST_OK ? kept_meta : m->n_meta;
    mem_free(x.list);
    return st;
}

/* ---- one file, or shards ---- */

static void tag(struct model *m)
{
    m->format = "safetensors";
    for (size_t i = 0; i < m->n_meta; i++) {
        struct str v = m->meta[i].value;
        if (!str_is(m->meta[i].key, "format"))
            continue;
        m->framework = str_is(v, "pt")     ? STR("pytorch")
                       : str_is(v, "flax") ? STR("flax")
                       : str_is(v, "tf")   ? STR("tensorflow")
                                           : m->framework;
    }
}

static enum status prove_index(const struct model *m, size_t n_stored, const struct hf_index *x,
                               struct file **shard, struct file *index, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct hf_entry *h = &x->entry[i];
        int64_t at = model_find(m, h->name);
        if (at >= 0 && m->tensor[at].decl == shard[h->shard])
            continue;
        (void)err_set(e, ST_INPUT, "index-mismatch", "the tensor is not in shard %.*s",
                      STR_ARG(x->file[h->shard]));
        err_at(e, file_path(index), h->offset);
        err_in(e, h->name.p, h->name.n);
        return ST_INPUT;
    }
    if (n_stored > x->n)
        log_warn("%s: index-incomplete: the shards hold %zu tensors that the index does not name; "
                 "they are kept",
                 file_path(index), n_stored - x->n);
    return ST_OK;
}

static enum status read_shards(struct source *s, struct model *m, struct err *e)
{
    struct hf_index x;
    struct file *index;
    size_t at = 0;
    if (hf_index_find(s, ST_INDEX, &at) != 1)
        return err_set(e, ST_USAGE, "several-indexes",
                       "%s holds several indexes of safetensors shards: name one of them", s->path);
    TRY(dir_file(s->dir, s->entry[at].name, &index, e));
    TRY(model_own_file(m, index, e));
    TRY(hf_index_read(index, &m->arena, &x, e));
    struct file **shard = ARENA_ARRAY(&m->arena, struct file *, x.n_files);
    if (!shard)
        return err_nomem(e, x.n_files * sizeof *shard);
    for (size_t i = 0; i < x.n_files; i++) {
        if (!str_ends(x.file[i], STR(".safetensors"))) {
            (void)err_set(e, ST_INPUT, "index-mismatch", "shard %.*s is no safetensors file",
                          STR_ARG(x.file[i]));
            err_at(e, file_path(index), 0);
            return ST_INPUT;
        }
        struct file *f;
        TRY(dir_file(s->dir, x.file[i], &f, e));
        shard[i] = f;
        TRY(model_own_file(m, f, e));
        TRY(read_shard(m, f, e));
    }
    size_t n_stored = m->n_tensors;
    tag(m);
    TRY(find_ties(m, e));
    TRY(model_finish(m, e));
    TRY(roles_by_name(m, e));
    return prove_index(m, n_stored, &x, shard, index, e);
}

enum status safetensors_read(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    (void)opt;
    if (s->dir)
        return read_shards(s, m, e);
    struct file *f = s->file;
    s->file = NULL;
    TRY(model_own_file(m, f, e));
    TRY(read_shard(m, f, e));
    tag(m);
    TRY(find_ties(m, e));
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}
