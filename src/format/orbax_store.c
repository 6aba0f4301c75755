/* Where an Orbax item keeps its arrays: keys NAME/.zarray, NAME/0.0, NAME/zarr.json, NAME/c/0/0 in
 * an OCDBT store, in the stores of several processes that were never merged, or as files in
 * folders. Two passes over the keys: the first reads what each array is, the second gives each its
 * chunks.
 */
#include "base/checked.h"
#include "codec/ocdbt.h"
#include "format/orbax.h"
#include <stdlib.h>
#include <string.h>

#define MAX_META ((uint64_t)1 << 20) /* bytes of one array's metadata */

struct opened {
    struct str path;
    struct file *file;
};
struct chunk_of {
    uint32_t array;
    struct orbax_chunk c;
};
struct store {
    struct orbax_item *x;
    struct str folder; /* of the OCDBT store, with a final '/'; empty */
    struct buf opened, arrays, chunks;
    bool second;   /* pass */
    bool unmerged; /* the stores of several processes */
    struct file *manifest;
};

bool orbax_has(const struct orbax_item *x, const char *name)
{
    for (size_t i = 0; i < x->n_entries; i++)
        if (str_is(x->entry[i].name, name))
            return true;
    return false;
}

enum status orbax_file(struct orbax_item *x, struct str path, struct file **out, struct err *e)
{
    TRY(dir_file(x->dir, path, out, e));
    return model_own_file(x->m, *out, e);
}

static enum status refuse(const struct orbax_array *a, struct err *e, const char *code,
                          const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, a->file ? file_path(a->file) : "", a->offset);
    err_in(e, a->name.p, a->name.n);
    return ST_INPUT;
}

/* ---- one key ---- */

struct key {
    struct str text;
    struct zarr_bytes b;
    struct file *decl; /* where it is said, for messages */
    uint64_t at;
};

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct orbax_array *)a)->name, ((const struct orbax_array *)b)->name);
}

struct orbax_array *orbax_array_named(const struct orbax_arrays *a, struct str name)
{
    struct orbax_array want = {.name = name};
    return a->n ? bsearch(&want, a->v, a->n, sizeof *a->v, by_name) : NULL;
}

static enum status read_meta(struct store *s, const struct key *k, struct str name, uint8_t version,
                             struct err *e)
{
    struct arena *arena = &s->x->m->arena;
    struct orbax_array a = {.file = k->decl, .offset = k->at};
    struct cursor c;
    uint64_t n = k->b.bytes;
    a.name = arena_str(arena, name.p, name.n);
    if (!a.name.p)
        return err_nomem(e, name.n);
    if (n > MAX_META)
        return refuse(&a, e, "zarr-metadata", "more than a megabyte of metadata");
    if (k->b.file)
        cur_file(&c, k->b.file, k->b.offset, n);
    else
        cur_mem(&c, k->b.mem, (size_t)n, file_path(k->decl), k->at);
    enum status st = version == 2 ? zarr_v2(&c, arena, &a.z, e) : zarr_v3(&c, arena, &a.z, e);
    cur_close(&c);
    if (st != ST_OK) {
        err_in(e, a.name.p, a.name.n);
        return st;
    }
    a.n_grid = 1;
    for (size_t d = 0; d < a.z.n_dims; d++)
        if (!mul_u64(a.n_grid, zarr_chunks(&a.z, d), &a.n_grid))
            return refuse(&a, e, "zarr-chunk", "more chunks than can be counted");
    buf_bytes(&s->arrays, &a, sizeof a);
    return buf_ok(&s->arrays, e);
}

/* The array whose name the key begins with, and what follows. */
static struct orbax_array *owner(const struct store *s, struct str key, struct str *rest)
{
    size_t i = key.n;
    for (int level = 0; level < ZARR_MAX_DIMS + 2; level++) {
        while (i > 0 && key.p[i - 1] != '/')
            i--;
        if (i < 2)
            return NULL;
        struct orbax_array *a = orbax_array_named(&s->x->arrays, str_sub(key, 0, i - 1));
        *rest = str_sub(key, i, key.n);
        if (a)
            return a;
        i--;
    }
    return NULL;
}

static enum status add_chunk(struct store *s, const struct key *k, struct err *e)
{
    struct str rest;
    uint64_t at[ZARR_MAX_DIMS], linear = 0;
    bool outside;
    struct orbax_array *a = owner(s, k->text, &rest);
    if (!a) {
        (void)err_set(e, ST_INPUT, "orbax-key", "a key that belongs to no array");
        err_at(e, file_path(k->decl), k->at);
        err_in(e, k->text.p, k->text.n);
        return ST_INPUT;
    }
    if (!zarr_chunk_at(&a->z, rest, at, &outside))
        return refuse(a, e, "zarr-chunk",
                      outside ? "a chunk lies outside the grid" : "a key that names no chunk");
    for (size_t d = 0; d < a->z.n_dims; d++)
        linear = linear * zarr_chunks(&a->z, d) + at[d];
    struct chunk_of c = {(uint32_t)(a - s->x->arrays.v), {linear, k->b}};
    if (!k->b.file && k->b.bytes) {
        c.c.b.mem = (const uint8_t *)arena_str(&s->x->m->arena, k->b.mem, (size_t)k->b.bytes).p;
        if (!c.c.b.mem)
            return err_nomem(e, k->b.bytes);
    }
    buf_bytes(&s->chunks, &c, sizeof c);
    return buf_ok(&s->chunks, e);
}

static enum status take_key(struct store *s, const struct key *k, struct err *e)
{
    struct str name = k->text;
    size_t slash = name.n;
    while (slash > 0 && name.p[slash - 1] != '/')
        slash--;
    struct str last = str_sub(name, slash, name.n);
    uint8_t version = str_is(last, ".zarray") ? 2 : str_is(last, "zarr.json") ? 3 : 0;
    if (slash < 2 || str_is(last, ".zattrs") || str_is(last, ".zgroup"))
        return ST_OK; /* a file of the item itself; what zarr-python keeps beside arrays */
    if (version)
        return s->second ? ST_OK : read_meta(s, k, str_sub(name, 0, slash - 1), version, e);
    return s->second ? add_chunk(s, k, e) : ST_OK;
}

/* ---- between the passes ---- */

/* Each process writes down what an array is. */
static bool same_array(const struct zarr *a, const struct zarr *b)
{
    size_t n = a->n_dims;
    return a->version == b->version && n == b->n_dims && a->separator == b->separator &&
           a->prefix == b->prefix && a->big_endian == b->big_endian && str_eq(a->dtype, b->dtype) &&
           a->fill == b->fill && str_eq(a->fill_text[0], b->fill_text[0]) &&
           str_eq(a->fill_text[1], b->fill_text[1]) &&
           memcmp(&a->chain, &b->chain, sizeof a->chain) == 0 &&
           memcmp(a->dim, b->dim, n * sizeof *a->dim) == 0 &&
           memcmp(a->chunk, b->chunk, n * sizeof *a->chunk) == 0 &&
           memcmp(a->perm, b->perm, n) == 0 && !a->inner == !b->inner &&
           (!a->inner || memcmp(a->inner, b->inner, n * sizeof *a->inner) == 0) &&
           a->index_first == b->index_first && a->index_crc == b->index_crc;
}

static enum status sort_arrays(struct store *s, struct err *e)
{
    struct orbax_arrays *out = &s->x->arrays;
    out->n = s->arrays.n / sizeof *out->v;
    out->v = ARENA_ARRAY(&s->x->m->arena, struct orbax_array, out->n + 1);
    if (!out->v)
        return err_nomem(e, s->arrays.n);
    if (out->n) {
        memcpy(out->v, s->arrays.p, s->arrays.n);
        qsort(out->v, out->n, sizeof *out->v, by_name);
    }
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++) {
        bool again = n && str_eq(out->v[n - 1].name, out->v[i].name);
        if (again && !(s->unmerged && same_array(&out->v[n - 1].z, &out->v[i].z)))
            return refuse(&out->v[i], e, "zarr-twice", "an array stands twice in the store");
        if (!again)
            out->v[n++] = out->v[i];
    }
    out->n = n;
    return ST_OK;
}

static int by_place(const void *pa, const void *pb)
{
    const struct chunk_of *a = pa, *b = pb;
    if (a->array != b->array)
        return a->array < b->array ? -1 : 1;
    return a->c.at < b->c.at ? -1 : a->c.at > b->c.at;
}

static enum status deal_chunks(struct store *s, struct err *e)
{
    struct orbax_arrays *arrays = &s->x->arrays;
    struct chunk_of *v = (struct chunk_of *)(void *)s->chunks.p;
    size_t n = s->chunks.n / sizeof *v;
    struct orbax_chunk *all = ARENA_ARRAY(&s->x->m->arena, struct orbax_chunk, n + 1);
    if (!all)
        return err_nomem(e, n * sizeof *all);
    if (n)
        qsort(v, n, sizeof *v, by_place);
    for (size_t i = 0; i < n; i++) {
        struct orbax_array *a = &arrays->v[v[i].array];
        if (i && v[i - 1].array == v[i].array && v[i - 1].c.at == v[i].c.at)
            return refuse(a, e, "zarr-twice", "a chunk stands twice in the store");
        all[i] = v[i].c;
        if (!a->chunk)
            a->chunk = &all[i];
        a->n_chunks++;
    }
    return ST_OK;
}

/* ---- shards ---- */

/* The inner chunks of one shard that lie inside the array. */
static enum status open_shard(const struct orbax_array *a, const struct orbax_chunk *shard,
                              uint64_t n_inner, uint64_t *pairs, struct buf *out, struct err *e)
{
    const struct zarr *z = &a->z;
    uint64_t corner[ZARR_MAX_DIMS], left = shard->at;
    TRY(zarr_index(z, &shard->b, n_inner, pairs, e));
    for (size_t d = z->n_dims; d-- > 0;) {
        corner[d] = left % zarr_chunks(z, d) * (z->chunk[d] / z->inner[d]);
        left /= zarr_chunks(z, d);
    }
    for (uint64_t i = 0; i < n_inner; i++) {
        uint64_t rest = i, linear = 0, step = 1;
        bool inside = true;
        if (pairs[2 * i] == UINT64_MAX)
            continue;
        for (size_t d = z->n_dims; d-- > 0;) {
            uint64_t per = z->chunk[d] / z->inner[d], x = corner[d] + rest % per;
            uint64_t grid = z->dim[d] / z->inner[d] + (z->dim[d] % z->inner[d] != 0);
            rest /= per;
            inside = inside && x < grid;
            linear += x * step;
            step *= grid;
        }
        struct orbax_chunk c = {linear, shard->b};
        c.b.bytes = pairs[2 * i + 1];
        c.b.offset += c.b.file ? pairs[2 * i] : 0;
        c.b.mem += c.b.file ? 0 : pairs[2 * i];
        if (inside)
            buf_bytes(out, &c, sizeof c);
    }
    return buf_ok(out, e);
}

static int by_at(const void *pa, const void *pb)
{
    const struct orbax_chunk *a = pa, *b = pb;
    return a->at < b->at ? -1 : a->at > b->at;
}

static enum status open_shards(struct store *s, struct orbax_array *a, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct buf out = BUF_INIT;
    uint64_t n_inner = 1, n_grid = 1;
    enum status st = ST_OK;
    for (size_t d = 0; d < a->z.n_dims; d++) {
        uint64_t grid = a->z.dim[d] / a->z.inner[d] + (a->z.dim[d] % a->z.inner[d] != 0);
        if (!mul_u64(n_inner, a->z.chunk[d] / a->z.inner[d], &n_inner) ||
            !mul_u64(n_grid, grid, &n_grid))
            return refuse(a, e, "zarr-chunk", "more chunks than can be counted");
    }
    for (uint64_t i = 0; st == ST_OK && i < a->n_chunks; i++) {
        uint64_t *pairs = NULL;
        if (n_inner > a->chunk[i].b.bytes / 16)
            st = refuse(a, e, "shard-index", "the shard is shorter than its index");
        else if (!(pairs = ARENA_ARRAY(&tmp, uint64_t, 2 * n_inner)))
            st = err_nomem(e, 16 * n_inner);
        else
            st = open_shard(a, &a->chunk[i], n_inner, pairs, &out, e);
        arena_free(&tmp);
    }
    size_t n = out.n / sizeof *a->chunk;
    if (st == ST_OK) {
        a->chunk = ARENA_ARRAY(&s->x->m->arena, struct orbax_chunk, n + 1);
        st = a->chunk ? ST_OK : err_nomem(e, out.n);
    }
    if (st == ST_OK && n) {
        memcpy(a->chunk, out.p, out.n);
        qsort(a->chunk, n, sizeof *a->chunk, by_at);
    }
    buf_free(&out);
    a->n_chunks = n;
    a->n_grid = n_grid;
    a->z.chunk = a->z.inner;
    if (st != ST_OK)
        err_in(e, a->name.p, a->name.n);
    return st;
}

/* ---- OCDBT ---- */

static enum status open_path(void *ctx, struct str path, struct file **out, struct err *e)
{
    struct store *s = ctx;
    struct opened *v = (struct opened *)(void *)s->opened.p;
    struct str whole = arena_fmt(s->x->tmp, "%.*s%.*s", STR_ARG(s->folder), STR_ARG(path));
    if (!whole.p)
        return err_nomem(e, path.n);
    if (path.n == 0 || memchr(path.p, 0, path.n))
        whole = path; /* refused where files are opened */
    for (size_t i = s->opened.n / sizeof *v; i-- > 0;)
        if (str_eq(v[i].path, whole)) {
            *out = v[i].file;
            return ST_OK;
        }
    struct opened o = {whole, NULL};
    TRY(orbax_file(s->x, whole, &o.file, e));
    buf_bytes(&s->opened, &o, sizeof o);
    *out = o.file;
    return buf_ok(&s->opened, e);
}

static enum status each_value(void *ctx, const struct ocdbt_value *v, struct err *e)
{
    struct store *s = ctx;
    struct key k = {.text = v->key,
                    .b = {v->file, (const uint8_t *)v->bytes.p, v->file ? v->offset : 0, v->length},
                    .decl = v->file ? v->file : s->manifest,
                    .at = v->file ? v->offset : 0};
    return take_key(s, &k, e);
}

/* The manifest with the highest number in a listing, for stores that keep them apart. */
static struct str last_manifest(const struct dir_entry *entry, size_t n)
{
    struct str best = STR_NONE;
    for (size_t i = 0; i < n; i++)
        if (!entry[i].is_dir && entry[i].name.n == 25 &&
            str_starts(entry[i].name, STR("manifest.")) &&
            (!best.p || str_cmp(entry[i].name, best) > 0))
            best = entry[i].name;
    return best;
}

static enum status read_ocdbt(struct store *s, struct str folder, struct err *e)
{
    struct ocdbt o = {open_path, each_value, s};
    bool numbered;
    s->folder = folder;
    TRY(open_path(s, STR("manifest.ocdbt"), &s->manifest, e));
    TRY(ocdbt_read(&o, s->manifest, &numbered, e));
    if (!numbered)
        return ST_OK;
    struct dir_entry *entry = s->x->entry;
    size_t n = s->x->n_entries;
    if (folder.n) {
        struct dir *d;
        TRY(dir_sub(s->x->dir, str_sub(folder, 0, folder.n - 1), &d, e));
        enum status st = dir_list(d, s->x->tmp, &entry, &n, e);
        dir_close(d);
        TRY(st);
    }
    struct str last = last_manifest(entry, n);
    if (!last.p) {
        (void)err_set(e, ST_INPUT, "ocdbt-config", "the store's numbered manifest is not there");
        err_at(e, file_path(s->manifest), 0);
        return ST_INPUT;
    }
    TRY(open_path(s, last, &s->manifest, e));
    TRY(ocdbt_read(&o, s->manifest, &numbered, e));
    if (!numbered)
        return ST_OK;
    (void)err_set(e, ST_INPUT, "ocdbt-config", "a numbered manifest names another");
    err_at(e, file_path(s->manifest), 0);
    return ST_INPUT;
}

static bool is_process(const struct dir_entry *x)
{
    return x->is_dir && str_starts(x->name, STR("ocdbt.process_"));
}

static enum status each_store(struct store *s, struct err *e)
{
    if (orbax_has(s->x, "manifest.ocdbt"))
        return read_ocdbt(s, STR_NONE, e);
    for (size_t i = 0; i < s->x->n_entries; i++) {
        if (!is_process(&s->x->entry[i]))
            continue;
        struct str folder = arena_fmt(s->x->tmp, "%.*s/", STR_ARG(s->x->entry[i].name));
        if (!folder.p)
            return err_nomem(e, 64);
        TRY(read_ocdbt(s, folder, e));
    }
    return ST_OK;
}

/* ---- folders ---- */

struct listed {
    struct str path;
    uint64_t size;
};

static enum status list_folder(struct store *s, struct str path, struct buf *folders,
                               struct buf *files, struct err *e)
{
    struct dir_entry *entry;
    struct dir *d;
    size_t n;
    TRY(dir_sub(s->x->dir, path, &d, e));
    enum status st = dir_list(d, s->x->tmp, &entry, &n, e);
    dir_close(d);
    TRY(st);
    for (size_t i = 0; i < n; i++) {
        struct str whole = arena_fmt(s->x->tmp, "%.*s/%.*s", STR_ARG(path), STR_ARG(entry[i].name));
        struct listed one = {whole, entry[i].size};
        if (!whole.p)
            return err_nomem(e, path.n);
        if (entry[i].is_dir)
            buf_bytes(folders, &whole, sizeof whole);
        else
            buf_bytes(files, &one, sizeof one);
    }
    TRY(buf_ok(folders, e));
    return buf_ok(files, e);
}

static enum status list_all(struct store *s, struct buf *files, struct err *e)
{
    struct buf folders = BUF_INIT;
    enum status st = ST_OK;
    for (size_t i = 0; i < s->x->n_entries; i++) {
        const struct dir_entry *x = &s->x->entry[i];
        if (x->is_dir && !is_process(x) && !str_is(x->name, "array_metadatas") &&
            !str_is(x->name, "d") && x->name.p[0] != '.')
            buf_bytes(&folders, &x->name, sizeof x->name);
    }
    st = buf_ok(&folders, e);
    while (st == ST_OK && folders.n) {
        struct str path;
        folders.n -= sizeof path;
        memcpy(&path, folders.p + folders.n, sizeof path);
        st = list_folder(s, path, &folders, files, e);
    }
    buf_free(&folders);
    return st;
}

static enum status each_file(struct store *s, const struct buf *files, struct err *e)
{
    const struct listed *v = (const struct listed *)(const void *)files->p;
    for (size_t i = 0; i < files->n / sizeof *v; i++) {
        bool meta = str_ends(v[i].path, STR("/.zarray")) || str_ends(v[i].path, STR("/zarr.json"));
        struct key k = {.text = v[i].path, .b = {.bytes = v[i].size}};
        struct str rest;
        if (meta == s->second)
            continue;
        if (s->second && (str_ends(v[i].path, STR("/.zattrs")) || !owner(s, v[i].path, &rest)))
            continue; /* a file beside the arrays */
        enum status st = orbax_file(s->x, v[i].path, &k.b.file, e);
        if (st != ST_OK && e && e->code && strcmp(e->code, "path-escape") == 0) {
            struct err why = *e; /* the path is a link: name it below its folder */
            (void)err_set(e, st, why.code, "%s", why.reason);
            err_file(e, dir_path(s->x->dir));
            err_in(e, v[i].path.p, v[i].path.n);
        }
        TRY(st);
        k.b.bytes = file_size(k.b.file);
        k.decl = k.b.file;
        TRY(take_key(s, &k, e));
    }
    return ST_OK;
}

static enum status read_all(struct store *s, struct err *e)
{
    struct buf files = BUF_INIT;
    bool ocdbt = orbax_has(s->x, "manifest.ocdbt");
    for (size_t i = 0; i < s->x->n_entries; i++)
        s->unmerged = s->unmerged || (!ocdbt && is_process(&s->x->entry[i]));
    ocdbt = ocdbt || s->unmerged;
    enum status st = ocdbt ? ST_OK : list_all(s, &files, e);
    for (int pass = 0; st == ST_OK && pass < 2; pass++) {
        s->second = pass == 1;
        st = ocdbt ? each_store(s, e) : each_file(s, &files, e);
        if (st == ST_OK)
            st = pass == 0 ? sort_arrays(s, e) : deal_chunks(s, e);
    }
    for (size_t i = 0; st == ST_OK && i < s->x->arrays.n; i++)
        if (s->x->arrays.v[i].z.inner)
            st = open_shards(s, &s->x->arrays.v[i], e);
    buf_free(&files);
    return st;
}

enum status orbax_store(struct orbax_item *x, struct err *e)
{
    struct store s = {.x = x};
    enum status st = read_all(&s, e);
    buf_free(&s.opened);
    buf_free(&s.arrays);
    buf_free(&s.chunks);
    return st;
}
