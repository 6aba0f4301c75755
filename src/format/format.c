/* The registry of formats, and opening: what a path holds is told by its content. A bid below
 * BID_SURE means "damaged, or only named so": it wins only where nothing else is known.
 *
 * A folder may hold one weight set: a file some format takes, or shards with their index. Several
 * are ST_USAGE with a list, unless --input-format leaves one. The other files in it travel along
 * as attachments.
 */
#include "format/format.h"
#include "base/log.h"
#include "format/folder.h"
#include "format/hf_index.h"
#include "format/sniff.h"
#include <string.h>

#define FORMAT(name) extern const struct format name##_format;
#include "format/list.h"
#undef FORMAT
#define FORMAT(name) &name##_format,
const struct format *const formats[] = {
#include "format/list.h"
};
#undef FORMAT
const size_t n_formats = sizeof formats / sizeof formats[0];

#define BID_SURE 30

const struct format *format_find(struct str name)
{
    for (size_t i = 0; i < n_formats; i++)
        if (str_is(name, formats[i]->name))
            return formats[i];
    return NULL;
}

const struct format *format_by_suffix(struct str path)
{
    const struct format *best = NULL;
    size_t longest = 0;
    for (size_t i = 0; i < n_formats; i++)
        for (size_t k = 0; k < 6 && formats[i]->suffix[k]; k++) {
            struct str suffix = str_from(formats[i]->suffix[k]);
            if (suffix.n > longest && str_ends(path, suffix)) {
                longest = suffix.n;
                best = formats[i];
            }
        }
    return best;
}

static bool fits(const char *const *glob, size_t n, struct str name)
{
    for (size_t i = 0; i < n && glob[i]; i++)
        if (str_glob(str_from(glob[i] + (*glob[i] == '!')), name))
            return *glob[i] != '!';
    return false;
}

bool format_keeps(const struct format *f, bool folder, struct str name)
{
    return folder || fits(f->keeps, sizeof f->keeps / sizeof *f->keeps, name);
}

bool format_keeps_meta(const struct format *f, struct str key)
{
    return fits(f->keeps_meta, sizeof f->keeps_meta / sizeof *f->keeps_meta, key);
}

enum status source_open(struct source *s, struct err *e)
{
    uint64_t size = file_size(s->file);
    s->head_n = size < sizeof s->head ? (size_t)size : sizeof s->head;
    return s->head_n ? file_pread(s->file, s->head, s->head_n, 0, e) : ST_OK;
}

const struct format *source_bid(const struct source *s, int *bid)
{
    const struct format *best = NULL;
    *bid = 0;
    for (size_t i = 0; i < n_formats; i++) {
        if (!formats[i]->reads || (s->dir && !formats[i]->dir_source))
            continue;
        int b = formats[i]->bid(s);
        /* equal bids: the name decides, not the place in the list */
        if (b > *bid || (b == *bid && best && strcmp(formats[i]->name, best->name) < 0)) {
            *bid = b;
            best = formats[i];
        }
    }
    return best;
}

enum status source_unrecognised(const struct source *s, struct err *e)
{
    const char *what = sniff(s);
    if (what)
        (void)err_set(e, ST_INPUT, "unrecognised",
                      "this is %s, and no checkpoint of a known format", what);
    else
        (void)err_set(e, ST_INPUT, "unrecognised", "no format known here begins like this");
    err_at(e, s->path, 0);
    return ST_INPUT;
}

static enum status read_file(struct source *s, const struct format *force,
                             const struct read_opt *opt, struct model *m,
                             const struct format **found, struct err *e)
{
    int bid = 100;
    const struct format *f = force;
    TRY(source_open(s, e));
    if (!f)
        f = source_bid(s, &bid);
    if (!f || (bid < BID_SURE && sniff(s)))
        return source_unrecognised(s, e);
    *found = f;
    return f->read(s, opt, m, e);
}

/* True when the model has taken the file over. */
static bool taken(const struct model *m, const struct file *f)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (m->file[i] == f)
            return true;
    return false;
}

/* TensorFlow's users name a checkpoint by the part that its files' names share. */
static enum status by_prefix(struct source *s, struct model *m, struct err *e)
{
    if (path_kind(s->path) != PATH_NONE)
        return ST_OK;
    struct str index = arena_fmt(&m->arena, "%s.index", s->path);
    if (!index.p)
        return err_nomem(e, strlen(s->path));
    if (path_kind(index.p) == PATH_FILE)
        s->path = index.p;
    return ST_OK;
}

enum status format_open(const char *path, const struct format *force, const struct read_opt *opt,
                        struct model *m, const struct format **found, struct err *e)
{
    struct source s = {.path = path};
    *found = NULL;
    if (force && !force->reads)
        return err_set(e, ST_USAGE, "format", "%s is written only", force->name);
    if (path_kind(path) == PATH_DIR)
        return folder_open(path, STR_NONE, force, opt, m, found, e);
    if (hf_index_named(str_from(path))) {
        const char *slash = strrchr(path, '/');
        struct str dir = {path, slash ? (size_t)(slash - path) : 0};
        struct str name = str_from(slash ? slash + 1 : path);
        dir = !slash ? STR(".") : dir.n == 0 ? STR("/") : dir;
        dir = arena_str(&m->arena, dir.p, dir.n);
        if (!dir.p)
            return err_nomem(e, dir.n);
        return folder_open(dir.p, name, force, opt, m, found, e);
    }
    TRY(by_prefix(&s, m, e));
    TRY(file_open(s.path, &s.file, e));
    enum status st = read_file(&s, force, opt, m, found, e);
    if (s.file && !taken(m, s.file))
        file_close(s.file);
    return st;
}
