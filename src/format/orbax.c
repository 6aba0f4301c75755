/* Orbax checkpoints: the folder of an item, of a step with one item, or of a CheckpointManager with
 * one step.
 *
 *   ROOT/STEP/ITEM/
 *     _METADATA            JSON: every leaf with its keys (1 number, 2 name) and kind of value
 *     manifest.ocdbt d/    arrays in an OCDBT store (codec/ocdbt.h), keys NAME/.zarray, NAME/0.0
 *     ocdbt.process_N/     the stores of single processes; read when they were not merged
 *     NAME/.zarray ...     or arrays as folders of zarr (codec/zarr.h), version 2 or 3
 *     _strings.json        texts; array_metadatas/process_N: which arrays are PRNG keys
 *     checkpoint           old: msgpack as Flax writes it, leaves may be PLACEHOLDER://NAME
 *     _sharding            where the arrays lay; not needed
 *   NAME is the keys joined with '.'. Arrays in several chunks come back whole.
 *   Tags: "nnx" for a dump of an nnx.State or of its pure dict (format/msgpack.h), else "flax".
 *
 * Written: one item, an OCDBT store of one data file with raw zarr v2 arrays of one chunk each,
 * _METADATA, _strings.json, array_metadatas for PRNG keys, _CHECKPOINT_METADATA: what
 * StandardCheckpointer and PyTreeCheckpointer restore, and a CheckpointManager as STEP/default.
 * Sources: google/orbax, checkpoint/orbax/checkpoint/_src: serialization/, metadata/, handlers/.
 *
 * Refused beside what the codecs refuse: several-weight-sets (2, with a list), orbax-uncommitted,
 * orbax-metadata, orbax-tree, orbax-name, orbax-missing, orbax-shape, orbax-key, zarr-twice,
 * zarr-chunk, zarr-fill, chunk-missing, chunk-short, chunk-long, unknown-dtype, shape-overflow.
 */
#include "format/orbax.h"
#include <string.h>

#define LIST_BYTES 400
#define STEP_METADATA "_CHECKPOINT_METADATA"
#define MAX_ATTACHED ((uint64_t)16 << 20)

static bool is_temporary(const char *path)
{
    struct str s = str_from(path);
    while (s.n > 1 && s.p[s.n - 1] == '/')
        s.n--;
    size_t lo = s.n;
    while (lo > 0 && s.p[lo - 1] != '/')
        lo--;
    s = str_sub(s, lo, s.n);
    return str_find_str(s, STR(".orbax-checkpoint-tmp"), 0) < s.n;
}

static bool has(const struct source *s, const char *name)
{
    for (size_t i = 0; i < s->n_entries; i++)
        if (str_is(s->entry[i].name, name))
            return true;
    return false;
}

static int bid(const struct source *s)
{
    struct arena a = ARENA_INIT;
    struct orbax_found found;
    struct err ignored;
    if (!s->dir)
        return 0;
    enum status st = orbax_find(s->dir, s->entry, s->n_entries, &a, &found, &ignored);
    bool one = st == ST_OK && found.n > 0;
    bool self = one && found.item[0].n == 0;
    arena_free(&a);
    if (self || (one && has(s, STEP_METADATA)))
        return 98; /* its files are no sets of their own */
    return one ? 60 : st == ST_OK && found.temporary ? 40 : 0;
}

/* ---- reading ---- */

static enum status refuse(const struct source *s, enum status st, struct err *e, const char *code,
                          const char *why)
{
    (void)err_set(e, st, code, "%s", why);
    err_at(e, s->path, 0);
    return st;
}

static enum status choose(const struct source *s, const struct orbax_found *found, struct str *item,
                          struct err *e)
{
    struct buf list = BUF_INIT;
    if (is_temporary(s->path) || (found->n == 0 && found->temporary))
        return refuse(s, ST_INPUT, e, "orbax-uncommitted",
                      "a save that was never finished (.orbax-checkpoint-tmp)");
    if (found->n == 0)
        return refuse(s, ST_INPUT, e, "unrecognised", "no Orbax item in this folder");
    *item = found->item[0];
    if (found->n == 1)
        return ST_OK;
    for (size_t i = 0; i < found->n && list.n < LIST_BYTES; i++)
        buf_fmt(&list, "%s%.*s", i ? ", " : "", STR_ARG(found->item[i]));
    (void)err_set(e, ST_USAGE, "several-weight-sets", "several weight sets, name one: %.*s%s",
                  STR_ARG(buf_as_str(&list)), list.n >= LIST_BYTES ? " ..." : "");
    err_file(e, s->path);
    buf_free(&list);
    return ST_USAGE;
}

/* A small JSON file: a step's own metadata as a key-value, an item that is JSON as an attachment.
 */
static enum status attach(struct model *m, struct dir *d, struct str path, struct err *e)
{
    struct attachment *a;
    struct file *f;
    uint8_t *mem = NULL;
    TRY(dir_file(d, path, &f, e));
    uint64_t n = file_size(f);
    enum status st = ST_OK;
    if (n > MAX_ATTACHED)
        st = err_set(e, ST_INPUT, "orbax-metadata", "a JSON item of %llu bytes",
                     (unsigned long long)n);
    else if (!(mem = arena_alloc(&m->arena, (size_t)n + 1, 1)))
        st = err_nomem(e, n);
    else if (n)
        st = file_pread(f, mem, (size_t)n, 0, e);
    file_close(f);
    TRY(st);
    if (str_is(path, STEP_METADATA)) {
        struct str text = {(const char *)mem, (size_t)n};
        return str_utf8(text, NULL) ? model_meta_add(m, path, text, e) : ST_OK;
    }
    TRY(model_attach(m, &a, e));
    a->name = arena_str(&m->arena, path.p, path.n);
    a->media_type = STR("application/json");
    a->n_bytes = n;
    a->mem = mem;
    return a->name.p ? ST_OK : err_nomem(e, path.n);
}

/* What stands beside the item: the step's own metadata, and items that are JSON. */
static enum status attach_company(struct model *m, const struct source *s, struct str item,
                                  struct arena *tmp, struct err *e)
{
    size_t step = item.n; /* of the path to the step's folder */
    struct dir_entry *entry = s->entry;
    struct dir *d = NULL;
    size_t n = s->n_entries;
    enum status st = ST_OK;
    while (step > 0 && item.p[step - 1] != '/')
        step--;
    if (step > 1) {
        TRY(dir_sub(s->dir, str_sub(item, 0, step - 1), &d, e));
        st = dir_list(d, tmp, &entry, &n, e);
    }
    struct dir *at = d ? d : s->dir;
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        static const char *const texts[] = {"metadata", "data.json"};
        if (!entry[i].is_dir && str_is(entry[i].name, STEP_METADATA))
            st = attach(m, at, entry[i].name, e);
        for (size_t k = 0; item.n && entry[i].is_dir && st == ST_OK && k < 2; k++) {
            struct err ignored;
            struct file *f;
            struct str path = arena_fmt(tmp, "%.*s/%s", STR_ARG(entry[i].name), texts[k]);
            if (!path.p)
                st = err_nomem(e, 64);
            else if (dir_file(at, path, &f, &ignored) == ST_OK) {
                file_close(f);
                st = attach(m, at, path, e);
            }
        }
    }
    dir_close(d);
    return st;
}

static enum status read_item(const struct source *s, struct str item, struct arena *tmp,
                             struct model *m, struct err *e)
{
    struct orbax_item x = {.dir = s->dir, .m = m, .tmp = tmp};
    struct dir *own = NULL;
    enum status st;
    if (item.n) {
        TRY(dir_sub(s->dir, item, &own, e));
        x.dir = own;
    }
    st = orbax_list(x.dir, tmp, &x.entry, &x.n_entries, e);
    if (st == ST_OK)
        st = orbax_store(&x, e);
    if (st == ST_OK)
        st = orbax_tree(&x, e);
    dir_close(own);
    return st;
}

static enum status read_folder(struct source *s, const struct read_opt *opt, struct model *m,
                               struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct orbax_found found;
    struct str item;
    m->format = "orbax";
    if (!s->dir)
        return refuse(s, ST_INPUT, e, "unrecognised", "an Orbax checkpoint is a folder");
    enum status st = orbax_find(s->dir, s->entry, s->n_entries, &tmp, &found, e);
    if (st == ST_OK)
        st = choose(s, &found, &item, e);
    if (st == ST_OK)
        st = read_item(s, item, &tmp, m, e);
    if (st == ST_OK && !opt->weights_only)
        st = attach_company(m, s, item, &tmp, e);
    arena_free(&tmp);
    return st;
}

static bool companion(struct str set, struct str name)
{
    return set.n == 0 && (str_glob(STR("_*"), name) || str_is(name, "manifest.ocdbt") ||
                          str_is(name, "checkpoint") || str_is(name, "zarr.json") ||
                          str_is(name, "commit_success.txt"));
}

const struct format orbax_format = {
    .name = "orbax",
    .title = "Orbax checkpoint: zarr arrays, OCDBT (folder)",
    .suffix = {".orbax", NULL},
    .reads = true,
    .writes = true,
    .dir_source = true,
    .dir_target = true,
    .dir_only = true,
    .tree = true,
    .trains = true,
    .refuses = "unfinished saves, several steps or items, leaves without an array, arrays whose "
               "chunks are missing, of another size, outside the grid or damaged, codecs and "
               "filters it does not know, stores whose sums, keys or heights are wrong, names "
               "that lead out of the folder",
    .bid = bid,
    .companion = companion,
    .read = read_folder,
    .check = orbax_check,
    .begin = orbax_begin,
    .end = orbax_end,
};
