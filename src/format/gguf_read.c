/* GGUF, reading: header, key-values and tensor entries are walked once, every place is proved, and
 * only then does the model exist. A model in parts is read from all of them. See gguf.c.
 */
#include "base/checked.h"
#include "base/log.h"
#include "format/gguf.h"
#include "model/roles.h"
#include <stdio.h>
#include <string.h>

struct reader {
    struct model *m;
    struct file *f;
    struct gguf g;
    struct gguf_keys keys;
    size_t first;  /* its first tensor in the model */
    uint64_t data; /* file offset */
};

/* ---- tensors ---- */

static enum status refuse(struct reader *r, const struct gguf_entry *t, uint64_t at,
                          const char *code, const char *why, struct err *e)
{
    cur_fail(r->g.c, at, code, "%s", why);
    enum status st = cur_ok(r->g.c, e);
    err_in(e, t->name.p, t->name.n);
    return st;
}

static enum status add_tensor(struct reader *r, struct gguf_entry *x, struct err *e)
{
    struct model *m = r->m;
    struct tensor *t;
    struct storage *s;
    uint64_t dim[GGUF_DIMS_MAX], elems, bytes;
    uint32_t index;
    enum dtype dtype = gguf_dtype(x->type);
    if (dtype == DT_NONE)
        return refuse(r, x, x->type_at, "unknown-type", "no tensor type has this number", e);
    for (uint32_t d = 0; d < x->n_dims; d++)
        dim[d] = x->dim[x->n_dims - 1 - d];
    if (!prod_u64(dim, x->n_dims, &elems) || elems >= UINT64_C(1) << 62)
        return refuse(r, x, x->at, "shape-overflow", "the product of the shape is too large", e);
    if (x->dim[0] % dtype_info(dtype)->block_elems != 0)
        return refuse(r, x, x->type_at, "part-block", "the rows do not fill whole blocks", e);
    if (!dtype_span(dtype, elems, &bytes))
        return refuse(r, x, x->at, "shape-overflow", "the tensor is too large", e);
    TRY(model_storage_add(m, &s, &index, e));
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = r->f,
                          .offset = x->offset,
                          .stored_bytes = bytes,
                          .raw_bytes = bytes};
    TRY(model_tensor_add(m, &t, e));
    t->name = x->name;
    t->dtype = dtype;
    t->storage = index;
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    t->offset = x->at;
    t->decl = r->f;
    return tensor_set_shape(m, t, dim, x->n_dims, e);
}

/* Offsets follow each other, each padded: then nothing overlaps and nothing hides between. */
static enum status place(struct reader *r, struct err *e)
{
    uint64_t end = 0, room = file_size(r->f) - r->data;
    struct model *m = r->m;
    for (size_t i = r->first; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        struct storage *s = &m->storage[t->storage];
        const char *code = NULL, *why = NULL;
        uint64_t want = end;
        if (!round_up_u64(end, r->keys.alignment, &want) || s->offset != want) {
            code = s->offset % r->keys.alignment != 0 ? "unaligned"
                   : s->offset < want                 ? "overlap"
                                                      : "hole";
            why = "the tensor does not start where the one before it ends";
        } else if (s->offset > room || s->stored_bytes > room - s->offset) {
            code = "out-of-bounds";
            why = "the tensor reaches past the end of the file";
        }
        if (code) {
            (void)err_set(e, ST_INPUT, code, "%s (at %llu, %llu bytes; %llu expected)", why,
                          (unsigned long long)s->offset, (unsigned long long)s->stored_bytes,
                          (unsigned long long)want);
            err_at(e, file_path(r->f), t->offset);
            err_in(e, t->name.p, t->name.n);
            return ST_INPUT;
        }
        end = s->offset + s->stored_bytes;
        s->offset += r->data;
        s->big_endian = r->g.big && dtype_info(t->dtype)->swap_bytes > 1;
        if (r->g.big && dtype_is_block(t->dtype))
            gguf_swap_blocks(s, t->dtype);
    }
    if (!round_up_u64(end, r->keys.alignment, &end) || end < room)
        log_warn("%s: trailing-bytes: bytes behind the last tensor are left aside",
                 file_path(r->f));
    return ST_OK;
}

static enum status read_header(struct reader *r, const struct read_opt *opt, bool first,
                               struct err *e)
{
    struct gguf *g = &r->g;
    bool long_name = false;
    TRY(gguf_read_keys(g, r->f, opt, first, r->m, &r->keys, e));
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        struct gguf_entry t;
        TRY(gguf_next_entry(g, &r->m->arena, &t, e));
        long_name |= t.name.n > GGUF_TENSOR_NAME_MAX;
        TRY(add_tensor(r, &t, e));
    }
    if (long_name)
        log_warn(
            "%s: long-name: tensors with names of more than %u bytes, which ggml does not take",
            file_path(r->f), GGUF_TENSOR_NAME_MAX);
    if (!round_up_u64(g->c->pos, r->keys.alignment, &r->data))
        r->data = UINT64_MAX;
    if (r->data > file_size(r->f)) {
        if (g->n_tensors == 0) { /* nothing to pad for */
            r->data = file_size(r->f);
        } else {
            cur_fail(g->c, g->c->pos, "truncated", "the data would start at %llu",
                     (unsigned long long)r->data);
            return cur_ok(g->c, e);
        }
    }
    return place(r, e);
}

static enum status read_part(struct model *m, struct file *f, const struct read_opt *opt,
                             bool first, struct gguf_keys *keys, struct err *e)
{
    struct reader r = {.m = m, .f = f, .first = m->n_tensors};
    struct cursor c;
    cur_file(&c, f, 0, file_size(f));
    enum status st = gguf_begin(&r.g, &c, e);
    if (st == ST_OK)
        st = read_header(&r, opt, first, e);
    cur_close(&c);
    *keys = r.keys;
    return st;
}

/* ---- parts ---- */

static bool digits(struct str s, size_t at, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < 5; i++) {
        char c = s.p[at + i];
        if (c < '0' || c > '9')
            return false;
        *out = *out * 10 + (uint32_t)(c - '0');
    }
    return true;
}

bool gguf_part_name(struct str name, uint32_t *part, uint32_t *n_parts, size_t *stem_n)
{
    enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };
    if (name.n < TAIL || !str_ends(name, STR(".gguf")))
        return false;
    *stem_n = name.n - TAIL;
    return name.p[*stem_n] == '-' && digits(name, *stem_n + 1, part) &&
           str_eq(str_sub(name, *stem_n + 6, *stem_n + 10), STR("-of-")) &&
           digits(name, *stem_n + 10, n_parts) && *part >= 1 && *part <= *n_parts;
}

static enum status bad_split(const struct file *f, const char *why, struct err *e)
{
    (void)err_set(e, ST_INPUT, "bad-split", "%s", why);
    err_at(e, file_path(f), 0);
    return ST_INPUT;
}

static enum status check_part(const struct file *f, const struct gguf_keys *k, uint32_t no,
                              uint32_t count, struct err *e)
{
    if (!k->has_split || k->split_count != count)
        return bad_split(f, "split.count does not fit the file's name", e);
    if (k->split_no != no)
        return bad_split(f, "split.no does not fit the file's name", e);
    return ST_OK;
}

/* Parts lo to n of stem, from the folder they lie in; head: what the first says of itself, filled
 * here where it is among them. */
static enum status read_parts(struct dir *d, struct str stem, uint32_t lo, uint32_t n,
                              struct gguf_keys *head, const struct read_opt *opt, struct model *m,
                              struct err *e)
{
    struct gguf_keys k;
    struct file *f = NULL;
    for (uint32_t i = lo; i < n; i++) {
        char tail[32];
        (void)snprintf(tail, sizeof tail, "-%05u-of-%05u.gguf", i + 1, n);
        struct str name = arena_fmt(&m->arena, "%.*s%s", STR_ARG(stem), tail);
        if (!name.p)
            return err_nomem(e, stem.n + sizeof tail);
        TRY(dir_file(d, name, &f, e));
        TRY(model_own_file(m, f, e));
        TRY(read_part(m, f, opt, i == 0, &k, e));
        TRY(check_part(f, &k, i, n, e));
        if (i == 0)
            *head = k;
    }
    if (head->split_tensors != UINT64_MAX && head->split_tensors != m->n_tensors)
        return bad_split(m->file[0], "split.tensors.count is not the number of tensors", e);
    return ST_OK;
}

static enum status from_dir(struct source *s, const struct read_opt *opt, struct model *m,
                            struct err *e)
{
    struct gguf_keys head;
    for (size_t i = 0; i < s->n_entries; i++) {
        struct str name = s->entry[i].name;
        uint32_t part, n;
        size_t stem;
        if (!s->entry[i].is_dir && gguf_part_name(name, &part, &n, &stem) && part == 1 && n > 1)
            return read_parts(s->dir, str_sub(name, 0, stem), 0, n, &head, opt, m, e);
    }
    return err_set(e, ST_BUG, "gguf-dir", "no first part");
}

/* Parts lo and up, which lie beside the one that was named. */
static enum status beside(const char *path, uint32_t lo, struct gguf_keys *head,
                          const struct read_opt *opt, struct model *m, struct err *e)
{
    const char *slash = strrchr(path, '/');
    struct str name = str_from(slash ? slash + 1 : path), dir = STR(".");
    uint32_t part, n;
    size_t stem;
    struct dir *d;
    if (!gguf_part_name(name, &part, &n, &stem))
        return err_set(e, ST_BUG, "gguf-part", "no part's name");
    if (slash)
        dir = slash == path ? STR("/") : (struct str){path, (size_t)(slash - path)};
    dir = arena_str(&m->arena, dir.p, dir.n);
    if (!dir.p)
        return err_nomem(e, 1);
    TRY(dir_open(dir.p, &d, e));
    enum status st = read_parts(d, str_sub(name, 0, stem), lo, n, head, opt, m, e);
    dir_close(d);
    return st;
}

/* Do the keys say that it is one of several? */
static enum status is_part(struct file *f, bool *out, struct err *e)
{
    struct model m;
    struct cursor c;
    struct gguf g;
    struct gguf_keys k = {0};
    struct read_opt bare = {.weights_only = true};
    model_init(&m);
    cur_file(&c, f, 0, file_size(f));
    enum status st = gguf_begin(&g, &c, e);
    if (st == ST_OK)
        st = gguf_read_keys(&g, f, &bare, false, &m, &k, e);
    cur_close(&c);
    model_free(&m);
    *out = k.has_split && k.split_count > 1;
    return st;
}

static enum status from_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    const char *slash = strrchr(s->path, '/');
    uint32_t part = 0, n = 0;
    size_t stem;
    struct gguf_keys k = {0};
    bool named = gguf_part_name(str_from(slash ? slash + 1 : s->path), &part, &n, &stem) && n > 1;
    bool later = false;
    if (named && part > 1) /* the parts are read in their order; the keys of later ones are few */
        TRY(is_part(s->file, &later, e));
    if (later)
        return beside(s->path, 0, &k, opt, m, e);
    struct file *f = s->file;
    s->file = NULL;
    TRY(model_own_file(m, f, e));
    TRY(read_part(m, f, opt, true, &k, e));
    if (!k.has_split || k.split_count <= 1)
        return ST_OK;
    if (!named)
        return bad_split(f, "a part of a model, but the name does not say which", e);
    TRY(check_part(f, &k, part - 1, n, e));
    return beside(s->path, 1, &k, opt, m, e);
}

enum status gguf_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e)
{
    m->format = "gguf";
    TRY(s->dir ? from_dir(s, opt, m, e) : from_file(s, opt, m, e));
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}
