/* A folder as the source: which weight sets it holds, the one to read, and the files that travel
 * along. Only files directly inside count; folders inside are noted and left.
 */
#include "format/folder.h"
#include "base/log.h"
#include "format/hf_index.h"
#include <stdio.h>
#include <string.h>

#define BID_SET 50                       /* a file this sure is a weight set, not an attachment */
#define BID_LAST 49                      /* ... and this sure, where there is no other */
#define BID_WHOLE 98                     /* a folder this sure has no weight sets but itself */
#define KEEP_BYTES ((uint64_t)256 << 10) /* smaller attachments are read at once, and closed */

enum use { USE_OTHER, USE_SET, USE_MEMBER, USE_INDEX };
struct folder {
    struct source s;
    struct arena arena;
    enum use *use;               /* per entry */
    const struct format **taker; /* per entry: USE_SET */
    const struct format *whole;  /* takes the folder as such, or NULL */
    const struct format *force;
    struct buf list; /* the sets, for the message */
    size_t n_sets;   /* that count */
    size_t at;       /* the entry of the one file set */
    bool dir_level;  /* the one set is the folder itself */
    size_t last;     /* the entry with BID_LAST, and who bid so; NULL: none */
    const struct format *last_taker;
    const struct format *of_index; /* whose index could not be read */
    struct model *m;
};

static bool is_index(struct str name)
{
    return hf_index_named(name) && (str_find_str(name, STR(".safetensors."), 0) < name.n ||
                                    str_find_str(name, STR(".bin."), 0) < name.n);
}

/* Pickles that trainers leave beside the weights and that hold none. */
static bool is_leftover(struct str name)
{
    return str_is(name, "training_args.bin") || str_is(name, "scheduler.pt") ||
           str_glob(STR("rng_state*.pth"), name);
}

static int64_t entry_of(const struct source *s, struct str name)
{
    for (size_t i = 0; i < s->n_entries; i++)
        if (str_eq(s->entry[i].name, name))
            return (int64_t)i;
    return -1;
}

/* The shards an index names are no sets of their own. */
static enum status mark_members(struct folder *d, size_t index, struct err *e)
{
    struct hf_index x;
    struct file *f;
    struct str name = d->s.entry[index].name;
    TRY(dir_file(d->s.dir, name, &f, e));
    enum status st = hf_index_read(f, &d->arena, &x, e);
    file_close(f);
    if (st != ST_OK)
        d->of_index = format_find(
            str_find_str(name, STR(".bin."), 0) < name.n ? STR("pytorch") : STR("safetensors"));
    TRY(st);
    d->use[index] = USE_INDEX;
    for (size_t i = 0; i < x.n_files; i++) {
        int64_t at = entry_of(&d->s, x.file[i]);
        if (at >= 0)
            d->use[at] = USE_MEMBER;
    }
    return ST_OK;
}

static void list_set(struct folder *d, const struct format *f, struct str name)
{
    bool counts = !d->force || d->force == f;
    if (!counts)
        return;
    if (d->list.n < 400)
        buf_fmt(&d->list, "%s%.*s (%s)", d->n_sets ? ", " : "", STR_ARG(name), f->name);
    d->n_sets++;
}

/* What stands beside the set, entry i or the folder itself, and belongs to it. */
static void mark_company(struct folder *d, int64_t i, const struct format *f)
{
    for (size_t k = 0; f->companion && k < d->s.n_entries; k++)
        if ((int64_t)k != i && d->use[k] == USE_OTHER &&
            f->companion(i < 0 ? STR("") : d->s.entry[i].name, d->s.entry[k].name))
            d->use[k] = USE_MEMBER;
}

/* May a file of this name be a set in several files? */
static bool may_have_company(struct str name)
{
    for (size_t i = 0; i < n_formats; i++)
        if (formats[i]->companion && formats[i]->companion(name, STR_NONE))
            return true;
    return false;
}

static void add_set(struct folder *d, size_t i, const struct format *f)
{
    d->use[i] = USE_SET;
    d->taker[i] = f;
    if (!d->force || d->force == f)
        d->at = i;
    list_set(d, f, d->s.entry[i].name);
    mark_company(d, (int64_t)i, f);
}

static enum status look_at(struct folder *d, size_t i, struct err *e)
{
    struct source s = {.path = NULL};
    int bid = 0;
    struct str path = arena_fmt(&d->arena, "%s/%.*s", d->s.path, STR_ARG(d->s.entry[i].name));
    if (!path.p)
        return err_nomem(e, 64);
    s.path = path.p;
    TRY(dir_file(d->s.dir, d->s.entry[i].name, &s.file, e));
    enum status st = source_open(&s, e);
    const struct format *f = NULL;
    if (st == ST_OK)
        f = source_bid(&s, &bid);
    if (f && d->force && d->force->bid(&s) >= BID_SET)
        f = d->force;
    file_close(s.file);
    TRY(st);
    if (bid == BID_LAST) {
        d->last = i;
        d->last_taker = f;
    }
    if (bid >= BID_SET)
        add_set(d, i, f);
    return ST_OK;
}

static enum status find_sets(struct folder *d, struct err *e)
{
    struct source *s = &d->s;
    for (size_t i = 0; i < s->n_entries; i++)
        if (!s->entry[i].is_dir && is_index(s->entry[i].name))
            TRY(mark_members(d, i, e));
    bool whole = false;
    for (size_t i = 0; i < n_formats; i++) {
        const struct format *f = formats[i];
        int bid = f->reads && f->dir_source ? f->bid(s) : 0;
        if (bid <= 0)
            continue;
        whole = whole || bid >= BID_WHOLE;
        if (!d->force || d->force == f) {
            d->whole = f;
            d->dir_level = true;
        }
        list_set(d, f, STR("the folder"));
        mark_company(d, -1, f);
    }
    if (whole)
        return ST_OK;
    /* sets in several files first, so that none of those is looked at by itself */
    for (int company = 1; company >= 0; company--)
        for (size_t i = 0; i < s->n_entries; i++)
            if (!s->entry[i].is_dir && d->use[i] == USE_OTHER && s->entry[i].name.p[0] != '.' &&
                !is_leftover(s->entry[i].name) && (!company || may_have_company(s->entry[i].name)))
                TRY(look_at(d, i, e));
    if (d->n_sets == 0 && d->last_taker)
        add_set(d, d->last, d->last_taker);
    return ST_OK;
}

static struct str media_type(struct str name)
{
    return str_ends(name, STR(".json"))  ? STR("application/json")
           : str_ends(name, STR(".txt")) ? STR("text/plain")
           : str_ends(name, STR(".md"))  ? STR("text/markdown")
           : str_ends(name, STR(".py"))  ? STR("text/x-python")
                                         : STR("application/octet-stream");
}

static bool attached(const struct model *m, struct str name)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_eq(m->attachment[i].name, name))
            return true;
    return false;
}

static enum status attach(struct folder *d, struct str name, struct err *e)
{
    struct model *m = d->m;
    struct attachment *a;
    struct file *f;
    TRY(dir_file(d->s.dir, name, &f, e));
    uint64_t n = file_size(f);
    uint8_t *mem = NULL;
    if (n <= KEEP_BYTES) {
        enum status st = ST_OK;
        mem = arena_alloc(&m->arena, 1, (size_t)n + 1);
        if (!mem)
            st = err_nomem(e, n);
        else if (n)
            st = file_pread(f, mem, (size_t)n, 0, e);
        file_close(f);
        f = NULL;
        TRY(st);
    } else {
        TRY(model_own_file(m, f, e));
    }
    TRY(model_attach(m, &a, e));
    a->name = arena_str(&m->arena, name.p, name.n);
    a->media_type = media_type(name);
    a->file = f;
    a->n_bytes = n;
    a->mem = mem;
    return a->name.p ? ST_OK : err_nomem(e, name.n);
}

/* Files that the set itself reads (external data) are no company. */
static void mark_read(struct folder *d)
{
    size_t skip = strlen(d->s.path) + 1;
    for (size_t i = 0; i < d->m->n_files; i++) {
        struct str path = str_from(file_path(d->m->file[i]));
        int64_t at = path.n > skip ? entry_of(&d->s, str_sub(path, skip, path.n)) : -1;
        if (at >= 0 && path.p[skip - 1] == '/' && strncmp(path.p, d->s.path, skip - 1) == 0)
            d->use[at] = USE_MEMBER;
    }
}

static enum status attach_others(struct folder *d, bool by_index, struct err *e)
{
    mark_read(d);
    for (size_t i = 0; i < d->s.n_entries; i++) {
        struct str name = d->s.entry[i].name;
        if (d->use[i] == USE_MEMBER || (d->s.entry[i].is_dir && d->dir_level && !by_index))
            continue;
        if (d->s.entry[i].is_dir || name.p[0] == '.' || d->use[i] == USE_SET)
            log_note("%s: '%.*s' is left aside", d->s.path, STR_ARG(name));
        else if (d->use[i] == USE_OTHER && !attached(d->m, name))
            TRY(attach(d, name, e));
    }
    return ST_OK;
}

static bool taken(const struct model *m, const struct file *f)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (m->file[i] == f)
            return true;
    return false;
}

static enum status read_set(struct folder *d, const struct read_opt *opt,
                            const struct format **found, struct err *e)
{
    if (d->dir_level) {
        *found = d->whole;
        return d->whole->read(&d->s, opt, d->m, e);
    }
    struct source s = {.path = NULL};
    struct str name = d->s.entry[d->at].name;
    struct str path = arena_fmt(&d->m->arena, "%s/%.*s", d->s.path, STR_ARG(name));
    if (!path.p)
        return err_nomem(e, name.n);
    s.path = path.p;
    *found = d->taker[d->at];
    d->use[d->at] = USE_MEMBER;
    TRY(dir_file(d->s.dir, name, &s.file, e));
    enum status st = source_open(&s, e);
    if (st == ST_OK)
        st = (*found)->read(&s, opt, d->m, e);
    if (s.file && !taken(d->m, s.file))
        file_close(s.file);
    return st;
}

static enum status open_listed(struct folder *d, struct str index, const struct read_opt *opt,
                               const struct format **found, struct err *e)
{
    struct source *s = &d->s;
    bool by_index = false;
    if (index.n) { /* the user named one index: the others are not there */
        int64_t at = entry_of(s, index);
        if (at < 0)
            return err_set(e, ST_INPUT, "not-found", "there is no file %.*s", STR_ARG(index));
        s->entry += at;
        s->n_entries = 1;
    }
    d->use = ARENA_ARRAY(&d->arena, enum use, s->n_entries + 1);
    d->taker = ARENA_ARRAY(&d->arena, const struct format *, s->n_entries + 1);
    if (!d->use || !d->taker)
        return err_nomem(e, s->n_entries * sizeof *d->taker);
    enum status st = find_sets(d, e);
    if (st != ST_OK)
        *found = d->of_index; /* it is known what is wrong */
    TRY(st);
    TRY(buf_ok(&d->list, e));
    if (d->n_sets == 0) {
        (void)err_set(e, ST_INPUT, "unrecognised", "%s",
                      d->force ? "the folder holds no weights of the format named"
                               : "the folder holds no weights of a known format");
        err_file(e, s->path);
        return ST_INPUT;
    }
    if (d->n_sets > 1) {
        (void)err_set(e, ST_USAGE, "several-weight-sets",
                      "several weight sets, name one or use --input-format: %.*s%s",
                      STR_ARG(buf_as_str(&d->list)), d->list.n >= 400 ? " ..." : "");
        err_file(e, s->path);
        return ST_USAGE;
    }
    TRY(read_set(d, opt, found, e));
    for (size_t i = 0; i < s->n_entries; i++)
        by_index = by_index || d->use[i] == USE_INDEX;
    /* of a format that is a folder of its own kind: where it knows its own files */
    if (!opt->weights_only && !index.n && (!d->dir_level || by_index || d->whole->companion))
        TRY(attach_others(d, by_index, e));
    return ST_OK;
}

enum status folder_open(const char *path, struct str index, const struct format *force,
                        const struct read_opt *opt, struct model *m, const struct format **found,
                        struct err *e)
{
    struct folder d = {.s.path = path, .force = force, .m = m};
    TRY(dir_open(path, &d.s.dir, e));
    enum status st = dir_list(d.s.dir, &d.arena, &d.s.entry, &d.s.n_entries, e);
    if (st == ST_OK)
        st = open_listed(&d, index, opt, found, e);
    dir_close(d.s.dir);
    buf_free(&d.list);
    arena_free(&d.arena);
    return st;
}
