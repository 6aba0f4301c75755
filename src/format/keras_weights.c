/* Keras 3 weights, `.weights.h5`: an HDF5 file (codec/hdf5.h) with a group `vars` for every object
 * that has variables, numbered datasets in it; any other HDF5 file of arrays is read the same way.
 * Names are the paths, '.' between parts: layers.dense.vars.0. bfloat16 is opaque with an
 * attribute that says so. Shards: NAME.weights.json {"metadata", "weight_map":
 * {"/layers/dense/vars": FILE or [FILE ...]}} beside NAME_00000.weights.h5 ...
 *
 * Written: superblock 0, old groups, contiguous data: what every HDF5 library since 1.0 reads; with
 * a `vars` at the root, which tf-keras asks for. Sharded with --max-shard-size.
 * Source: keras/src/saving/saving_lib.py, tf_keras/src/saving/saving_lib.py.
 *
 * Refused beside what format/hdf5_model.h refuses: keras-shards (a shard map that its shards do
 * not bear out), path-escape, key-twice.
 */
#include "base/checked.h"
#include "codec/json.h"
#include "format/attach.h"
#include "format/hdf5_model.h"
#include "format/hf_index.h"
#include "format/keras_write.h"
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 65535u

static bool is_map(const struct source *s)
{
    return !s->dir && str_ends(str_from(s->path), STR(".weights.json")) && s->head_n &&
           s->head[0] == '{';
}

static int bid(const struct source *s)
{
    if (is_map(s))
        return 80;
    switch (hdf5_model_look(s)) {
    case HDF5_LOOK_NONE:
        return 0;
    case HDF5_LOOK_BAD:
        return 60;
    case HDF5_LOOK_ANY:
        return 80;
    case HDF5_LOOK_KERAS_H5:
        return 50;
    }
    return 0;
}

/* X_00001.weights.h5 belongs to X.weights.json. */
static bool companion(struct str set, struct str name)
{
    struct str suffix = STR(".weights.json"), stem;
    if (!str_ends(set, suffix))
        return false;
    if (name.n == 0)
        return true;
    stem = str_sub(set, 0, set.n - suffix.n);
    if (name.n != stem.n + 17 || !str_starts(name, stem) || name.p[stem.n] != '_' ||
        !str_ends(name, STR(".weights.h5")))
        return false;
    for (size_t i = stem.n + 1; i < stem.n + 6; i++)
        if (name.p[i] < '0' || name.p[i] > '9')
            return false;
    return true;
}

/* Does any name end in vars and a number? */
static bool has_vars(const struct model *m)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str name = m->tensor[i].name;
        size_t k = name.n;
        while (k && name.p[k - 1] != '.')
            k--;
        struct str group = str_sub(name, 0, k ? k - 1 : 0);
        if (str_is(group, "vars") || str_ends(group, STR(".vars")))
            return true;
    }
    return false;
}

static enum status finish(struct model *m, struct node *const *root, size_t n, struct err *e)
{
    TRY(hdf5_model_finish(m, root, n, e));
    if (has_vars(m))
        m->framework = STR("keras");
    return ST_OK;
}

/* ---- shards ---- */

struct line {
    struct str key, file;
    uint64_t at;
};
struct shards {
    struct model *m;
    struct file *map;
    struct buf line; /* struct line */
};

static bool plain_name(struct str s)
{
    return s.n > 0 && s.n <= 255 && str_find(s, '/', 0) == s.n && str_find(s, 0, 0) == s.n &&
           !str_is(s, ".") && !str_is(s, "..");
}

static enum status add_line(struct shards *x, struct json *j, struct str key, struct err *e)
{
    if (j->kind != JSON_STRING || !plain_name(j->text))
        return json_fail(j, e, "path-escape", "a shard that is no plain file name");
    struct line l = {key, arena_str(&x->m->arena, j->text.p, j->text.n), j->at};
    if (!l.file.p)
        return err_nomem(e, j->text.n);
    buf_bytes(&x->line, &l, sizeof l);
    return buf_ok(&x->line, e);
}

static enum status map_lines(struct shards *x, struct json *j, struct err *e)
{
    TRY(json_expect(j, JSON_OBJECT, "weight_map", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            return ST_OK;
        struct str key = arena_str(&x->m->arena, j->text.p, j->text.n);
        if (!key.p)
            return err_nomem(e, j->text.n);
        if (j->text.n > NAME_MAX_BYTES || j->has_nul)
            return json_fail(j, e, "bad-name", "a key that is no path");
        TRY(json_next(j, e));
        if (j->kind != JSON_ARRAY) {
            TRY(add_line(x, j, key, e));
            continue;
        }
        for (;;) {
            TRY(json_next(j, e));
            if (j->kind == JSON_ARRAY_END)
                break;
            TRY(add_line(x, j, key, e));
        }
    }
}

static enum status map_text(struct shards *x, struct json *j, struct err *e)
{
    bool seen = false;
    TRY(json_expect(j, JSON_OBJECT, "the shard map", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            break;
        bool map = str_is(j->text, "weight_map");
        if (map && seen)
            return json_fail(j, e, "key-twice", "weight_map stands twice");
        seen = seen || map;
        if (map) {
            TRY(map_lines(x, j, e));
        } else {
            TRY(json_next(j, e));
            TRY(json_skip(j, e));
        }
    }
    TRY(json_next(j, e));
    TRY(json_finish(j, " \t\r\n", e));
    return seen ? ST_OK : json_fail(j, e, "keras-shards", "no weight_map is in the file");
}

static int by_file(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int c = str_cmp(x->file, y->file);
    return c ? c : str_cmp(x->key, y->key);
}

static enum status no_group(const struct shards *x, const struct line *l, struct err *e)
{
    (void)err_set(e, ST_INPUT, "keras-shards", "the shard '%.*s' has no such group",
                  STR_ARG(l->file));
    err_at(e, file_path(x->map), l->at);
    err_in(e, l->key.p, l->key.n);
    return ST_INPUT;
}

static enum status read_shards(struct shards *x, struct dir *d, const struct read_opt *opt,
                               struct err *e)
{
    struct line *v = (struct line *)(void *)x->line.p;
    size_t n = x->line.n / sizeof *v, n_roots = 0;
    struct hdf5_model in = {.m = x->m, .opt = opt};
    struct node **root = ARENA_ARRAY(&x->m->arena, struct node *, n + 1);
    if (!root)
        return err_nomem(e, n * sizeof *root);
    if (n)
        qsort(v, n, sizeof *v, by_file);
    for (size_t i = 0; i < n; i++) {
        if (i && by_file(&v[i - 1], &v[i]) == 0)
            return no_group(x, &v[i], e);
        if (i == 0 || !str_eq(v[i - 1].file, v[i].file)) {
            struct file *f;
            TRY(dir_file(d, v[i].file, &f, e));
            TRY(model_own_file(x->m, f, e));
            root[n_roots] = node_new(&x->m->arena, NODE_DICT);
            if (!root[n_roots])
                return err_nomem(e, sizeof **root);
            TRY(hdf5_model_read(&in, f, 0, file_size(f), root[n_roots++], e));
        }
        struct node *g = hdf5_model_find(root[n_roots - 1], v[i].key);
        if (!g || g->kind != NODE_DICT)
            return no_group(x, &v[i], e);
    }
    return finish(x->m, root, n_roots, e);
}

static enum status read_map(struct shards *x, struct err *e)
{
    struct cursor c;
    struct json j;
    cur_file(&c, x->map, 0, file_size(x->map));
    json_init(&j, &c, 0);
    enum status st = map_text(x, &j, e);
    json_free(&j);
    cur_close(&c);
    return st;
}

static enum status read_sharded(struct source *s, const struct read_opt *opt, struct model *m,
                                struct err *e)
{
    struct shards x = {.m = m, .map = s->file};
    struct dir *d = NULL;
    const char *slash = strrchr(s->path, '/');
    size_t n = slash ? (size_t)(slash - s->path) : 0;
    struct str dir = !slash ? STR(".") : n == 0 ? STR("/") : arena_str(&m->arena, s->path, n);
    if (!dir.p)
        return err_nomem(e, n);
    s->file = NULL;
    TRY(model_own_file(m, x.map, e));
    enum status st = read_map(&x, e);
    if (st == ST_OK)
        st = dir_open(dir.p, &d, e);
    if (st == ST_OK)
        st = read_shards(&x, d, opt, e);
    dir_close(d);
    buf_free(&x.line);
    return st;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct hdf5_model x = {.m = m, .opt = opt};
    struct file *f = s->file;
    m->format = "keras-weights";
    if (is_map(s))
        return read_sharded(s, opt, m, e);
    s->file = NULL;
    TRY(model_own_file(m, f, e));
    struct node *root = node_new(&m->arena, NODE_DICT);
    if (!root)
        return err_nomem(e, sizeof *root);
    TRY(hdf5_model_read(&x, f, 0, file_size(f), root, e));
    return finish(m, &root, 1, e);
}

/* ---- writing ---- */

struct layout {
    uint32_t *tensor, *shard; /* in the source's order */
    size_t n, n_shards;
    uint64_t total;
    bool *in; /* the shard in turn */
};

static int by_order(const void *pa, const void *pb)
{
    const struct tensor *a = *(const struct tensor *const *)pa;
    const struct tensor *b = *(const struct tensor *const *)pb;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a < b ? -1 : a > b;
}

static enum status cut(const struct model *m, uint64_t max, struct arena *a, struct layout *x,
                       struct err *e)
{
    const struct tensor **v = ARENA_ARRAY(a, const struct tensor *, m->n_tensors + 1);
    uint64_t *bytes = ARENA_ARRAY(a, uint64_t, m->n_tensors + 1);
    *x = (struct layout){.n = m->n_tensors, .n_shards = 1};
    x->tensor = ARENA_ARRAY(a, uint32_t, x->n + 1);
    x->shard = ARENA_ARRAY(a, uint32_t, x->n + 1);
    x->in = ARENA_ARRAY(a, bool, x->n + 1);
    if (!v || !bytes || !x->tensor || !x->shard || !x->in)
        return err_nomem(e, x->n * sizeof *v);
    for (size_t i = 0; i < x->n; i++)
        v[i] = &m->tensor[i];
    if (x->n)
        qsort(v, x->n, sizeof *v, by_order);
    for (size_t i = 0; i < x->n; i++) {
        x->tensor[i] = (uint32_t)(v[i] - m->tensor);
        if (!tensor_bytes(v[i], &bytes[i]) || !add_u64(x->total, bytes[i], &x->total))
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
    }
    x->n_shards = hf_shard_cut(bytes, x->n, max, x->shard);
    return ST_OK;
}

static enum status lay_shard(const struct model *m, struct layout *l, size_t s, struct arena *a,
                             struct keras_layout *x, struct err *e)
{
    for (size_t i = 0; i < l->n; i++)
        l->in[l->tensor[i]] = l->shard[i] == s;
    return keras_lay_out(m, KERAS_PATHS, l->n_shards > 1 ? l->in : NULL, a, x, e);
}

static struct str shard_name(struct arena *a, const struct layout *l, size_t s)
{
    return l->n_shards == 1 ? STR("model.weights.h5") : arena_fmt(a, "model_%05zu.weights.h5", s);
}

static enum status check_attachments(const struct model *m, const struct layout *l, struct arena *a,
                                     struct err *e)
{
    struct str *taken = ARENA_ARRAY(a, struct str, l->n_shards + 1);
    if (!taken)
        return err_nomem(e, l->n_shards * sizeof *taken);
    for (size_t s = 0; s < l->n_shards; s++)
        if (!(taken[s] = shard_name(a, l, s)).p)
            return err_nomem(e, 64);
    taken[l->n_shards] = STR("model.weights.json");
    return attach_check(m, taken, l->n_shards + 1, e);
}

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout l;
    enum status st = cut(m, opt->max_shard_size, &a, &l, e);
    for (size_t s = 0; st == ST_OK && s < l.n_shards; s++) {
        struct keras_layout x = {0};
        st = lay_shard(m, &l, s, &a, &x, e);
        keras_layout_free(&x);
    }
    if (st == ST_OK && opt->max_shard_size)
        st = check_attachments(m, &l, &a, e);
    arena_free(&a);
    return st;
}

static enum status begin(struct writer *w, struct err *e)
{
    struct layout *l = ARENA_NEW(&w->arena, struct layout);
    if (!l)
        return err_nomem(e, sizeof *l);
    TRY(cut(w->m, w->opt.max_shard_size, &w->arena, l, e));
    w->priv = l;
    for (size_t s = 0; s < l->n_shards; s++) {
        struct keras_layout x = {0};
        struct str name = w->opt.max_shard_size ? shard_name(&w->arena, l, s) : STR("");
        int id;
        enum status st = name.p ? ST_OK : err_nomem(e, 64);
        if (st == ST_OK)
            st = lay_shard(w->m, l, s, &w->arena, &x, e);
        if (st == ST_OK)
            st = out_add(w->out, name, x.end, &id, e);
        if (st == ST_OK)
            st = keras_put(w, &x, id, 0, 0, e);
        keras_layout_free(&x);
        TRY(st);
    }
    memcpy(w->order, l->tensor, l->n * sizeof *w->order);
    return ST_OK;
}

/* The group a tensor lies in, as h5py names it: "/layers/dense/vars". */
static enum status group_key(const struct tensor *t, struct arena *a, struct str *out,
                             struct err *e)
{
    struct path p;
    struct buf b = BUF_INIT;
    TRY(path_parse(t->name, a, &p, e));
    for (size_t i = 0; i + 1 < p.n; i++) {
        buf_u8(&b, '/');
        buf_str(&b, p.seg[i].key);
    }
    if (p.n < 2)
        buf_u8(&b, '/');
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        *out = arena_str(a, b.p, b.n);
    buf_free(&b);
    return st == ST_OK && !out->p ? err_nomem(e, 64) : st;
}

static void map_json(const struct layout *l, const struct line *v, size_t n, struct buf *b)
{
    struct json_w w;
    json_w_init(&w, b, 4);
    json_w_object(&w);
    json_w_key(&w, STR("metadata"));
    json_w_object(&w);
    json_w_key(&w, STR("total_size"));
    json_w_u64(&w, l->total);
    json_w_object_end(&w);
    json_w_key(&w, STR("weight_map"));
    json_w_object(&w);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && str_eq(v[k].key, v[i].key); k++)
            ;
        json_w_key(&w, v[i].key);
        bool several = !str_eq(v[k - 1].file, v[i].file); /* sorted by file in a key */
        if (several)
            json_w_array(&w);
        for (size_t f = i; f < k; f++)
            if (f == i || !str_eq(v[f].file, v[f - 1].file))
                json_w_str(&w, v[f].file);
        if (several)
            json_w_array_end(&w);
    }
    json_w_object_end(&w);
    json_w_object_end(&w);
    buf_u8(b, '\n');
}

static int by_key(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int c = str_cmp(x->key, y->key);
    return c ? c : str_cmp(x->file, y->file);
}

static enum status write_map(struct writer *w, const struct layout *l, struct err *e)
{
    struct line *v = ARENA_ARRAY(&w->arena, struct line, l->n + 1);
    struct str *file = ARENA_ARRAY(&w->arena, struct str, l->n_shards);
    struct buf b = BUF_INIT;
    int id;
    if (!v || !file)
        return err_nomem(e, l->n * sizeof *v);
    for (size_t s = 0; s < l->n_shards; s++)
        if (!(file[s] = shard_name(&w->arena, l, s)).p)
            return err_nomem(e, 64);
    for (size_t i = 0; i < l->n; i++) {
        v[i].file = file[l->shard[i]];
        TRY(group_key(&w->m->tensor[l->tensor[i]], &w->arena, &v[i].key, e));
    }
    if (l->n)
        qsort(v, l->n, sizeof *v, by_key);
    map_json(l, v, l->n, &b);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        st = out_add(w->out, STR("model.weights.json"), b.n, &id, e);
    if (st == ST_OK)
        st = out_pwrite(w->out, id, b.p, b.n, 0, e);
    buf_free(&b);
    return st;
}

static enum status end(struct writer *w, struct err *e)
{
    const struct layout *l = w->priv;
    if (!w->opt.max_shard_size)
        return ST_OK;
    TRY(attach_write(w, e));
    return l->n_shards > 1 ? write_map(w, l, e) : ST_OK;
}

const struct format keras_weights_format = {
    .name = "keras-weights",
    .title = "Keras 3 weights (.weights.h5), one file or shards; other HDF5 files of arrays",
    .suffix = {".weights.h5", NULL},
    .reads = true,
    .writes = true,
    .dir_target = true,
    .tree = true,
    .aliases = true,
    .keeps_meta = {"!layer_names*", "*"}, /* those are of keras-h5 */
    .refuses = "soft and external links, data in other files, datasets of text or records, filters "
               "other than deflate, shuffle, fletcher32 and lzf",
    .bid = bid,
    .companion = companion,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
};
