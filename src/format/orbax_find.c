/* Which folders hold an Orbax item: the folder itself, its children (a step with its items), its
 * grandchildren (a CheckpointManager's root with its steps).
 */
#include "format/orbax.h"
#include <string.h>

#define MAX_LOOKS 4096 /* folders listed in all */
#define MAX_PROBES 64  /* folders asked for zarr metadata, to know an item by its arrays alone */

struct search {
    struct arena *a;
    struct buf items; /* struct str */
    size_t looks;
    bool temporary;
};

static bool named(const struct dir_entry *entry, size_t n, const char *name, bool is_dir)
{
    for (size_t i = 0; i < n; i++)
        if (entry[i].is_dir == is_dir && str_is(entry[i].name, name))
            return true;
    return false;
}

/* A pipe, a socket or a device of this name: no listing has it, and it is not absent for that. */
static bool special(const struct dir *d, const char *name)
{
    struct buf path = BUF_INIT;
    buf_fmt(&path, "%s/%s", dir_path(d), name);
    buf_u8(&path, 0);
    bool yes = !path.failed && path_kind((const char *)path.p) == PATH_OTHER;
    buf_free(&path);
    return yes;
}

enum status orbax_list(struct dir *d, struct arena *a, struct dir_entry **out, size_t *n,
                       struct err *e)
{
    static const char *const name[] = {"_METADATA", "manifest.ocdbt", "checkpoint", "_strings.json",
                                       "array_metadatas"};
    const size_t n_names = sizeof name / sizeof *name;
    struct dir_entry *found, *all;
    TRY(dir_list(d, a, &found, n, e));
    *out = all = ARENA_ARRAY(a, struct dir_entry, *n + n_names);
    if (!all)
        return err_nomem(e, *n * sizeof *all);
    if (*n)
        memcpy(all, found, *n * sizeof *all);
    for (size_t i = 0; i < n_names; i++)
        if (special(d, name[i]))
            all[(*n)++] = (struct dir_entry){.name = str_from(name[i])};
    return ST_OK;
}

static bool opens(struct dir *d, struct str path)
{
    struct err ignored;
    struct file *f;
    if (dir_file(d, path, &f, &ignored) != ST_OK)
        return false;
    file_close(f);
    return true;
}

/* TensorFlow keeps a text of that name; this one is a map of msgpack. */
static bool is_old_file(struct dir *d)
{
    struct err ignored;
    struct file *f;
    uint8_t b = 0;
    if (dir_file(d, STR("checkpoint"), &f, &ignored) != ST_OK)
        return false;
    bool ok = file_size(f) > 0 && file_pread(f, &b, 1, 0, &ignored) == ST_OK;
    file_close(f);
    return ok && ((b >= 0x80 && b <= 0x8f) || b == 0xde || b == 0xdf);
}

static enum status is_item(struct search *s, struct dir *d, const struct dir_entry *entry, size_t n,
                           bool *yes, struct err *e)
{
    *yes = named(entry, n, "_METADATA", false) || named(entry, n, "manifest.ocdbt", false) ||
           special(d, "_METADATA") || special(d, "manifest.ocdbt") ||
           (named(entry, n, "checkpoint", false) && is_old_file(d));
    for (size_t i = 0; i < n && !*yes; i++)
        *yes = entry[i].is_dir && str_starts(entry[i].name, STR("ocdbt.process_"));
    for (size_t i = 0, probes = 0; i < n && !*yes && probes < MAX_PROBES; i++) {
        if (!entry[i].is_dir || entry[i].name.p[0] == '.')
            continue;
        probes++;
        struct str v2 = arena_fmt(s->a, "%.*s/.zarray", STR_ARG(entry[i].name));
        struct str v3 = arena_fmt(s->a, "%.*s/zarr.json", STR_ARG(entry[i].name));
        if (!v2.p || !v3.p)
            return err_nomem(e, 64);
        *yes = opens(d, v2) || opens(d, v3);
    }
    return ST_OK;
}

static bool is_temporary(struct str name)
{
    return str_find_str(name, STR(".orbax-checkpoint-tmp"), 0) < name.n;
}

static enum status look(struct search *s, struct dir *d, const struct dir_entry *entry, size_t n,
                        struct str path, bool *item, struct err *e)
{
    TRY(is_item(s, d, entry, n, item, e));
    if (!*item)
        return ST_OK;
    buf_bytes(&s->items, &path, sizeof path);
    return buf_ok(&s->items, e);
}

/* The folders in a listing, looked at; those that are no items go to *next. */
static enum status look_below(struct search *s, struct dir *root, struct str path,
                              const struct dir_entry *entry, size_t n, struct buf *next,
                              struct err *e)
{
    for (size_t i = 0; i < n && s->looks < MAX_LOOKS; i++) {
        struct dir_entry *own;
        struct dir *d;
        size_t n_own;
        bool item = false;
        struct err ignored;
        if (!entry[i].is_dir || entry[i].name.p[0] == '.')
            continue;
        struct str sub = path.n
                             ? arena_fmt(s->a, "%.*s/%.*s", STR_ARG(path), STR_ARG(entry[i].name))
                             : entry[i].name;
        if (!sub.p)
            return err_nomem(e, 64);
        if (is_temporary(entry[i].name)) {
            s->temporary = true;
            continue;
        }
        s->looks++;
        if (dir_sub(root, sub, &d, &ignored) != ST_OK)
            continue; /* not to be entered: nothing of ours is there */
        enum status st = dir_list(d, s->a, &own, &n_own, e);
        if (st == ST_OK)
            st = look(s, d, own, n_own, sub, &item, e);
        dir_close(d);
        TRY(st);
        if (!item && next)
            buf_bytes(next, &sub, sizeof sub);
    }
    return next ? buf_ok(next, e) : ST_OK;
}

static enum status search(struct search *s, struct dir *d, const struct dir_entry *entry, size_t n,
                          struct buf *steps, struct err *e)
{
    bool item;
    TRY(look(s, d, entry, n, STR(""), &item, e));
    if (item)
        return ST_OK;
    TRY(look_below(s, d, STR(""), entry, n, steps, e));
    const struct str *v = (const struct str *)(const void *)steps->p;
    for (size_t i = 0; i < steps->n / sizeof *v; i++) {
        struct dir_entry *own;
        struct dir *sub;
        size_t n_own;
        TRY(dir_sub(d, v[i], &sub, e));
        enum status st = dir_list(sub, s->a, &own, &n_own, e);
        dir_close(sub);
        TRY(st);
        TRY(look_below(s, d, v[i], own, n_own, NULL, e));
    }
    return ST_OK;
}

enum status orbax_find(struct dir *d, const struct dir_entry *entry, size_t n, struct arena *a,
                       struct orbax_found *out, struct err *e)
{
    struct search s = {.a = a};
    struct buf steps = BUF_INIT;
    enum status st = search(&s, d, entry, n, &steps, e);
    *out = (struct orbax_found){.n = s.items.n / sizeof *out->item, .temporary = s.temporary};
    if (st == ST_OK) {
        out->item = ARENA_ARRAY(a, struct str, out->n + 1);
        if (!out->item)
            st = err_nomem(e, s.items.n);
        else if (out->n)
            memcpy(out->item, s.items.p, s.items.n);
    }
    buf_free(&steps);
    buf_free(&s.items);
    return st;
}
