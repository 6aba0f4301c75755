/* PyTorch, reading: the container's records, the pickle, and shards with an index. See pytorch.c.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/par.h"
#include "format/hf_index.h"
#include "format/pickle_value.h"
#include "format/pytorch.h"
#include "model/roles.h"
#include <string.h>

static enum status bad(struct file *f, uint64_t at, const char *code, const char *why,
                       struct err *e)
{
    err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), at);
    return ST_INPUT;
}

static const struct zip_entry *record(struct pt_reader *r, const char *name, struct err *e,
                                      enum status *st)
{
    struct str full = arena_fmt(&r->scratch, "%.*s/%s", STR_ARG(r->prefix), name);
    *st = full.p ? ST_OK : err_nomem(e, 64);
    return full.p ? zip_find(&r->zip, full) : NULL;
}

/* A small record's text, without the final newline; empty where there is none. */
static enum status small(struct pt_reader *r, const char *name, struct str *out, uint64_t *at,
                         struct err *e)
{
    enum status st;
    struct buf b = BUF_INIT;
    const struct zip_entry *z = record(r, name, e, &st);
    *out = STR_NONE;
    if (st != ST_OK || !z)
        return st;
    *at = z->data;
    st = zip_load(&r->zip, z, 64, &b, e);
    if (st == ST_OK) {
        size_t n = b.n > 0 && b.p[b.n - 1] == '\n' ? b.n - 1 : b.n;
        *out = arena_str(&r->scratch, b.p, n);
        st = out->p ? ST_OK : err_nomem(e, n);
    }
    buf_free(&b);
    return st;
}

/* Which of the relatives is this zip? */
static enum status records(struct pt_reader *r, const struct zip_entry **pickle,
                           const struct zip_entry **constants, struct err *e)
{
    enum status st;
    struct str s;
    uint64_t at = 0, version;
    if (r->zip.n == 0)
        return bad(r->file, 0, "torch-no-pickle", "an empty zip", e);
    struct str first = r->zip.entry[0].name;
    size_t slash = str_find(first, '/', 0);
    if (slash == 0 || slash == first.n)
        return bad(r->file, r->zip.entry[0].central, "torch-no-pickle",
                   "the first record stands in no folder", e);
    r->prefix = str_sub(first, 0, slash);
    *constants = record(r, "constants.pkl", e, &st);
    TRY(st);
    const struct zip_entry *package = record(r, ".data/extern_modules", e, &st);
    TRY(st);
    if (package)
        return bad(r->file, package->header, "torch-package",
                   "a torch.package archive: load it in torch and save its state_dict", e);
    *pickle = record(r, "data.pkl", e, &st);
    TRY(st);
    if (!*pickle)
        return bad(r->file, r->zip.entry[0].central, "torch-no-pickle",
                   "no data.pkl beside the first record", e);
    TRY(small(r, ".data/version", &s, &at, e));
    if (!s.p)
        TRY(small(r, "version", &s, &at, e));
    if (!s.p || !str_u64(s, &version) || version < 1 || version > 10)
        return bad(r->file, at, "torch-version", "no version record, or one beyond 1 to 10", e);
    TRY(small(r, "byteorder", &s, &at, e));
    if (s.p && !str_is(s, "little") && !str_is(s, "big"))
        return bad(r->file, at, "torch-byteorder", "byte order neither little nor big", e);
    r->big_endian = str_is(s, "big");
    return ST_OK;
}

static enum status parse(struct pt_reader *r, uint64_t base, struct pickle *p, const struct buf *b,
                         struct err *e)
{
    struct pickle_opt o = {.file = file_path(r->file),
                           .base = base,
                           .allow = pytorch_allow,
                           .n_allow = n_pytorch_allow,
                           .member = pytorch_members,
                           .n_members = n_pytorch_members,
                           .scan = r->opt->scan};
    enum status st = pickle_read(p, b->p, b->n, &o, e);
    for (uint32_t i = 0; r->script && i < p->n_global; i++) {
        struct pk_global *g = &p->global[i];
        if (g->tag == 0 && !g->runs_code &&
            (str_is(g->module, "__torch__") || str_starts(g->module, STR("__torch__."))))
            g->tag = PT_SCRIPT_CLASS;
    }
    pickle_tell_globals(p, r->opt, &r->m->arena);
    return st;
}

enum status pytorch_pickle(struct pt_reader *r, uint64_t at, uint64_t *n, struct pickle *p,
                           struct buf *b, struct err *e)
{
    *p = (struct pickle){0};
    if (*n == 0)
        TRY(pickle_span(r->file, at, n, e));
    if (*n > PICKLE_BYTES_MAX)
        return err_set(e, ST_LIMIT, "pickle-too-big", "pickle of %llu bytes",
                       (unsigned long long)*n);
    buf_clear(b);
    if (!buf_reserve(b, (size_t)*n + 1))
        return buf_ok(b, e);
    TRY(file_pread(r->file, b->p, (size_t)*n, at, e));
    b->n = (size_t)*n;
    return parse(r, at, p, b, e);
}

static void warn_unused(const struct pt_reader *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->zip.n; i++) {
        struct str name = r->zip.entry[i].name;
        size_t at = str_find(name, '/', 0);
        n += r->storage_of[i] == 0 && str_starts(str_sub(name, at, name.n), STR("/data/")) &&
             r->zip.entry[i].raw > 0;
    }
    if (n)
        log_warn("%s: %zu storage records belong to no tensor and are left aside",
                 file_path(r->file), n);
}

enum status pytorch_record(struct pt_reader *r, const struct zip_entry *z, struct err *e)
{
    r->pk_flat = z->method == ZIP_STORED;
    pickle_free(&r->pk);
    buf_clear(&r->bytes);
    enum status st = zip_load(&r->zip, z, PICKLE_BYTES_MAX, &r->bytes, e);
    if (st == ST_OK)
        st = parse(r, r->pk_flat ? z->data : 0, &r->pk, &r->bytes, e);
    if (st != ST_OK)
        err_in(e, z->name.p, z->name.n);
    return st;
}

static enum status read_object(struct pt_reader *r, const struct zip_entry *z, struct err *e)
{
    TRY(pytorch_record(r, z, e));
    enum status st = pytorch_tree(r, r->pk.root, STR_NONE, &r->root, e);
    if (st != ST_OK)
        err_in(e, z->name.p, z->name.n);
    return st;
}

static enum status check_record(void *ctx, uint64_t item, int slot, struct err *e)
{
    struct pt_reader *r = ctx;
    const struct zip_entry *z = &r->zip.entry[item];
    (void)slot;
    return r->storage_of[item] && z->method == ZIP_STORED ? zip_check_crc(&r->zip, z, e) : ST_OK;
}
enum status pytorch_check_records(struct pt_reader *r, struct err *e)
{
    struct par_job job = {.n_items = r->zip.n, .ctx = r, .body = check_record};
    return r->opt->quick || r->zip.no_crc ? ST_OK : par_run(&job, e);
}

enum status pytorch_open(struct pt_reader *r, uint64_t at, uint64_t bytes,
                         const struct zip_entry **data, const struct zip_entry **constants,
                         struct err *e)
{
    r->folder = "data";
    if (at == 0 && bytes == file_size(r->file))
        TRY(zip_read(r->file, &r->scratch, &r->zip, e));
    else
        TRY(zip_read_part(r->file, at, bytes, &r->scratch, &r->zip, e));
    TRY(records(r, data, constants, e));
    r->storage_of = ARENA_ARRAY(&r->scratch, uint32_t, r->zip.n);
    r->type_of = ARENA_ARRAY(&r->scratch, enum dtype, r->zip.n);
    return r->storage_of && r->type_of ? ST_OK : err_nomem(e, r->zip.n * 8);
}

void pytorch_close(struct pt_reader *r)
{
    pickle_free(&r->pk);
    buf_free(&r->bytes);
    arena_free(&r->scratch);
}

/* One zip into the model; the file is the model's already. */
static enum status read_zip(struct model *m, struct file *f, const struct read_opt *opt,
                            struct node **root, struct err *e)
{
    struct pt_reader r = {.m = m, .opt = opt, .file = f};
    const struct zip_entry *z = NULL, *constants = NULL;
    enum status st = pytorch_open(&r, 0, file_size(f), &z, &constants, e);
    if (st == ST_OK)
        st = constants ? pytorch_script(&r, z, constants, e) : read_object(&r, z, e);
    if (st == ST_OK)
        st = pytorch_check_records(&r, e);
    if (st == ST_OK)
        warn_unused(&r);
    *root = r.root;
    pytorch_close(&r);
    return st;
}

static enum status read_legacy(struct model *m, struct file *f, const struct read_opt *opt,
                               enum status (*read)(struct pt_reader *r, struct err *e),
                               struct err *e)
{
    struct pt_reader r = {.m = m, .opt = opt, .file = f, .pk_flat = true};
    enum status st = read(&r, e);
    if (st == ST_OK && !opt->weights_only)
        st = pytorch_sources(&r, e);
    m->tree = r.root;
    pytorch_close(&r);
    return st;
}

/* ---- shards ---- */

static enum status prove_index(const struct model *m, const struct hf_index *x, struct file **shard,
                               struct file *index, struct err *e)
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
    if (m->n_tensors > x->n)
        log_warn("%s: the shards hold %zu tensors that the index does not name; they are kept",
                 file_path(index), m->n_tensors - x->n);
    return ST_OK;
}

/* What structure does not tell, names do, as in every other container: a Flax TrainState kept in a
 * PyTorch file has the roles it has in msgpack. */
static enum status names_too(struct model *m, struct err *e)
{
    struct told {
        enum role role;
        int64_t of;
        bool grad;
    } *told = mem_zalloc(m->n_tensors + 1, sizeof *told);
    if (!told)
        return err_nomem(e, m->n_tensors * sizeof *told);
    for (size_t i = 0; i < m->n_tensors; i++)
        told[i] = (struct told){m->tensor[i].role, m->tensor[i].of, m->tensor[i].requires_grad};
    enum status st = roles_by_name(m, e);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        bool open = told[i].role == ROLE_PARAMETER || told[i].role == ROLE_BUFFER;
        if (!open || t->role == ROLE_PARAMETER) {
            t->role = told[i].role;
            t->of = told[i].of;
            t->requires_grad = told[i].grad;
        }
    }
    mem_free(told);
    return st;
}

enum status pytorch_finish(struct model *m, struct err *e)
{
    pytorch_roles(m, m->tree);
    TRY(model_finish(m, e));
    TRY(names_too(m, e));
    return pytorch_moments(m, m->tree, e);
}

static enum status read_shards(struct source *s, const struct read_opt *opt, struct model *m,
                               struct err *e)
{
    struct hf_index x;
    struct file *index;
    struct node *root;
    size_t at = 0;
    if (hf_index_find(s, PT_INDEX, &at) != 1)
        return err_set(e, ST_USAGE, "several-indexes",
                       "%s holds several indexes of PyTorch shards: name one of them", s->path);
    TRY(dir_file(s->dir, s->entry[at].name, &index, e));
    TRY(model_own_file(m, index, e));
    TRY(hf_index_read(index, &m->arena, &x, e));
    struct file **shard = ARENA_ARRAY(&m->arena, struct file *, x.n_files);
    if (!shard)
        return err_nomem(e, x.n_files * sizeof *shard);
    for (size_t i = 0; i < x.n_files; i++) {
        struct file *f;
        TRY(dir_file(s->dir, x.file[i], &f, e));
        shard[i] = f;
        TRY(model_own_file(m, f, e));
        if (file_size(f) < 4) /* what is no zip at all is told by zip_read */
            return bad(f, 0, "truncated", "a shard of no bytes", e);
        TRY(read_zip(m, f, opt, &root, e));
        pytorch_roles(m, root);
    }
    TRY(model_finish(m, e));
    TRY(names_too(m, e));
    return prove_index(m, &x, shard, index, e);
}

enum status pytorch_read(struct source *s, const struct read_opt *opt, struct model *m,
                         struct err *e)
{
    m->format = "pytorch";
    m->framework = STR("pytorch");
    if (s->dir)
        return read_shards(s, opt, m, e);
    struct file *f = s->file;
    s->file = NULL;
    TRY(model_own_file(m, f, e));
    if (s->head_n >= 2 && s->head[0] == 0x80 && s->head[1] == 0x02)
        TRY(read_legacy(m, f, opt, pytorch_stream, e));
    else if (s->head_n >= 512 && memcmp(s->head + 257, "ustar", 5) == 0)
        TRY(read_legacy(m, f, opt, pytorch_tar, e));
    else
        TRY(read_zip(m, f, opt, &m->tree, e));
    return pytorch_finish(m, e);
}
