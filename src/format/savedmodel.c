/* TensorFlow SavedModel: a folder.
 *
 *   saved_model.pb             SavedModel {1 schema_version = 1, 2 MetaGraphDef ...}; tf_nodes.h
 *   variables/variables.*      a bundle: see tf_checkpoint.c
 *   assets/NAME                files that the graph names
 *   fingerprint.pb             hashes; keras_metadata.pb: Keras' own description of the layers
 *
 * The tensors are the bundle's. saved_model.pb, keras_metadata.pb and the assets are attachments
 * under those names; tags, version and signatures stand in the metadata, the hashes of the
 * fingerprint too. The graph is never run.
 *
 * Written only when saved_model.pb came along and the tensors are the graph's: ST_CANNOT no-graph,
 * graph-differs. The fingerprint is left out, since it has a hash of the index; TensorFlow loads
 * without it. Source: core/protobuf/saved_model.proto, meta_graph.proto, saved_object_graph.proto,
 * fingerprint.proto.
 *
 * Refused beside what bundles and messages refuse: savedmodel-version, path-escape (an asset's
 * name).
 */
#include "base/log.h"
#include "codec/json.h"
#include "format/attach.h"
#include "format/tf_nodes.h"
#include <string.h>

#define PB "saved_model.pb"
#define VARIABLES "variables"
#define STEM VARIABLES "/variables"

/* Do variables stand beside the graph? Without them it is a set of weights only where there is no
 * other: it may have come along with one. */
static bool has_variables(struct str path)
{
    struct arena a = ARENA_INIT;
    while (path.n > 0 && path.p[path.n - 1] != '/')
        path.n--;
    struct str beside = arena_fmt(&a, "%.*svariables", STR_ARG(path));
    bool there = beside.p && path_kind(beside.p) == PATH_DIR;
    arena_free(&a);
    return there;
}

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    struct str path = str_from(s->path);
    bool named = str_ends(path, STR("/" PB)) || str_is(path, PB);
    /* version 1, then a meta graph, which begins with its info */
    bool version = s->head_n >= 4 && memcmp(s->head, "\x08\x01\x12", 3) == 0;
    size_t at = 3;
    while (version && at < s->head_n && at < 8 && s->head[at] & 0x80)
        at++;
    bool info = version && at + 1 < s->head_n && s->head[at + 1] == 0x0a;
    bool other = s->head_n >= 4 && s->head[0] == 0x08; /* another version, or damaged */
    return info ? (!named ? 45 : has_variables(path) ? 95 : 49) : named ? (other ? 60 : 25) : 0;
}

static bool companion(struct str set, struct str name)
{
    return str_is(set, PB) && (name.n == 0 || str_is(name, "variables") || str_is(name, "assets") ||
                               str_is(name, "fingerprint.pb"));
}

/* ---- reading ---- */

static enum status read_graph(struct file *f, const struct read_opt *opt, struct model *m,
                              struct buf *assets, struct err *e)
{
    struct cursor c;
    struct proto top;
    enum status st = ST_OK;
    uint64_t version = 0, n = 0;
    cur_file(&c, f, 0, file_size(f));
    proto_init(&top, &c, c.end);
    while (st == ST_OK && proto_next(&top)) {
        if (top.field == 1)
            version = proto_u64(&top);
        else if (top.field == 2 && n++ == 0)
            st = tf_meta_graph(&top, opt, m, assets, e);
    }
    if (st == ST_OK && (version > 1 || n == 0))
        (void)cur_fail(&c, 0, "savedmodel-version",
                       version > 1 ? "a SavedModel of version %llu" : "no graph (version %llu)",
                       (unsigned long long)version);
    if (st == ST_OK)
        st = cur_ok(&c, e);
    cur_close(&c);
    if (st == ST_OK && n > 1)
        log_note("%s: %llu graphs; signatures are of the first", file_path(f),
                 (unsigned long long)n);
    return st;
}

static enum status attach(struct dir *dir, struct str name, struct model *m, struct err *e)
{
    struct attachment *at;
    struct file *f;
    TRY(dir_file(dir, name, &f, e));
    TRY(model_own_file(m, f, e));
    TRY(model_attach(m, &at, e));
    *at = (struct attachment){.name = name,
                              .media_type = STR("application/octet-stream"),
                              .file = f,
                              .n_bytes = file_size(f)};
    return ST_OK;
}

static enum status look(struct dir *dir, const char *name, struct model *m, bool *there,
                        struct err *e)
{
    struct str path = arena_fmt(&m->arena, "%s/%s", dir_path(dir), name);
    if (!path.p)
        return err_nomem(e, strlen(name));
    *there = path_kind(path.p) != PATH_NONE; /* what is no file is refused where it is opened */
    return ST_OK;
}

/* Where the folder of the variables should be, is there something else? */
static enum status odd_folder(struct dir *dir, struct model *m, bool *odd, struct err *e)
{
    struct str path = arena_fmt(&m->arena, "%s/" VARIABLES, dir_path(dir));
    if (!path.p)
        return err_nomem(e, sizeof VARIABLES);
    enum path_kind kind = path_kind(path.p);
    *odd = kind == PATH_FILE || kind == PATH_OTHER;
    return ST_OK;
}

static bool leaves(struct str name)
{
    struct str part, rest = name;
    bool up = name.n == 0 || name.p[0] == '/' || memchr(name.p, 0, name.n);
    while (!up && str_split(&rest, '/', &part))
        up = part.n == 0 || str_is(part, ".") || str_is(part, "..");
    return up;
}

static enum status attach_all(struct dir *dir, struct file *pb, const struct buf *assets,
                              struct model *m, struct err *e)
{
    const struct str *name = (const struct str *)(const void *)assets->p;
    struct attachment *at;
    bool there = false;
    TRY(model_attach(m, &at, e));
    *at = (struct attachment){.name = STR(PB),
                              .media_type = STR("application/x-protobuf"),
                              .file = pb,
                              .n_bytes = file_size(pb)};
    TRY(look(dir, "keras_metadata.pb", m, &there, e));
    if (there)
        TRY(attach(dir, STR("keras_metadata.pb"), m, e));
    for (size_t i = 0; i < assets->n / sizeof *name; i++) {
        struct str full = arena_fmt(&m->arena, "assets/%.*s", STR_ARG(name[i]));
        bool twice = false;
        if (!full.p)
            return err_nomem(e, name[i].n);
        if (leaves(name[i]))
            full = name[i]; /* dir_file says what is wrong with it, before it opens anything */
        for (size_t k = 0; k < i; k++)
            twice = twice || str_eq(name[k], name[i]);
        if (!twice)
            TRY(attach(dir, full, m, e));
    }
    return ST_OK;
}

/* The hashes as JSON; nothing depends on them. */
static enum status read_fingerprint(struct dir *dir, struct model *m, struct err *e)
{
    static const char *const names[] = {"saved_model_checksum", "graph_def_program_hash",
                                        "signature_def_hash", "saved_object_graph_hash",
                                        "checkpoint_hash"};
    struct buf text = BUF_INIT;
    struct cursor c;
    struct proto x;
    struct json_w w;
    struct file *f;
    bool there = false;
    TRY(look(dir, "fingerprint.pb", m, &there, e));
    if (!there)
        return ST_OK;
    TRY(dir_file(dir, STR("fingerprint.pb"), &f, e));
    cur_file(&c, f, 0, file_size(f));
    proto_init(&x, &c, c.end);
    json_w_init(&w, &text, 0);
    json_w_object(&w);
    while (proto_next(&x))
        if (x.field >= 1 && x.field <= 5) {
            json_w_key(&w, str_from(names[x.field - 1]));
            json_w_u64(&w, proto_u64(&x));
        }
    json_w_object_end(&w);
    enum status st = cur_ok(&c, e);
    if (st == ST_OK)
        st = buf_ok(&text, e);
    if (st == ST_OK)
        st = model_meta_add(m, STR("fingerprint"), buf_as_str(&text), e);
    buf_free(&text);
    cur_close(&c);
    file_close(f);
    return st;
}

static enum status read_folder(struct dir *dir, struct file *pb, const struct read_opt *opt,
                               struct model *m, struct buf *assets, struct err *e)
{
    struct file *index;
    bool there = false;
    TRY(read_graph(pb, opt, m, assets, e));
    if (!opt->weights_only) {
        TRY(attach_all(dir, pb, assets, m, e));
        TRY(read_fingerprint(dir, m, e));
    }
    TRY(look(dir, STEM ".index", m, &there, e));
    if (!there)
        TRY(odd_folder(dir, m, &there, e));
    if (!there) {
        log_warn("%s: the graph has no variables", file_path(pb));
        return model_finish(m, e);
    }
    TRY(dir_file(dir, STR(STEM ".index"), &index, e));
    return tf_bundle_read(dir, STR(STEM), index, opt, m, e);
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct str path = str_from(s->path), folder;
    struct buf assets = BUF_INIT;
    struct dir *dir;
    size_t lo = path.n;
    m->format = "savedmodel";
    m->framework = STR("tensorflow");
    while (lo > 0 && path.p[lo - 1] != '/')
        lo--;
    folder = lo == 0 ? STR(".") : arena_str(&m->arena, path.p, lo > 1 ? lo - 1 : 1);
    if (!folder.p)
        return err_nomem(e, lo);
    TRY(dir_open(folder.p, &dir, e));
    struct file *pb = s->file;
    s->file = NULL;
    enum status st = model_own_file(m, pb, e);
    if (st == ST_OK)
        st = read_folder(dir, pb, opt, m, &assets, e);
    buf_free(&assets);
    dir_close(dir);
    return st;
}

/* ---- writing ---- */

static bool is_file(struct str name)
{
    return !str_starts(name, STR(TF_STRINGS)) && !str_is(name, TF_GRAPH_NAME);
}

static const struct attachment *find(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, name))
            return &m->attachment[i];
    return NULL;
}

/* What the graph says of the variable in a node. */
struct variable {
    bool is;
    uint64_t type;
    struct tf_shape shape;
};

/* SavedObject {7 variable {1 dtype, 2 shape}} of node i: the place of its message, counted. */
static enum status read_variable(const struct proto *object, struct variable *v, struct err *e)
{
    struct proto x, y;
    if (!proto_sub(object, &x))
        return cur_ok(object->c, e);
    while (proto_next(&x)) {
        if (x.field != 7 || !proto_sub(&x, &y))
            continue;
        v->is = true;
        while (proto_next(&y)) {
            if (y.field == 1)
                v->type = proto_u64(&y);
            else if (y.field == 2)
                TRY(tf_shape(&y, &v->shape, e));
        }
    }
    return cur_ok(object->c, e);
}

static enum status differs(struct str key, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, "graph-differs", "%s", why);
    err_in(e, key.p, key.n);
    return ST_CANNOT;
}

/* The values of a node against the variable that the graph has there. Attributes stand in the order
 * of their nodes; *next is where the search begins. */
static enum status check_node(const struct model *m, const struct tf_graph *g, uint32_t node,
                              const struct variable *v, size_t *next, struct arena *a,
                              struct err *e)
{
    while (*next < g->n_attrs && g->attr[*next].node < node)
        ++*next;
    for (size_t i = *next; i < g->n_attrs && g->attr[i].node == node; i++) {
        struct str name = g->attr[i].tensor;
        if (!str_is(g->attr[i].name, "VARIABLE_VALUE"))
            continue;
        int64_t at = model_find(m, name);
        if (at < 0) {
            struct str full = arena_fmt(a, TF_STRINGS "%.*s", STR_ARG(g->attr[i].key));
            if (!full.p)
                return err_nomem(e, name.n);
            if (!find(m, full.p))
                return differs(g->attr[i].key, "the graph has a variable that the model lacks", e);
            continue;
        }
        const struct tensor *t = &m->tensor[at];
        struct tf_type type;
        bool same = tf_type(v->type, &type) && type.dtype == t->dtype && v->shape.n == t->n_dims;
        for (size_t d = 0; same && d < t->n_dims; d++)
            same = v->shape.dim[d] == t->dim[d];
        if (!same)
            return differs(name, "the graph has another type or shape for it", e);
    }
    return ST_OK;
}

/* MetaGraphDef {7 SavedObjectGraph {1 SavedObject ...}} of the first graph: objects are numbered as
 * in the checkpoint's graph. */
static enum status check_objects(const struct model *m, struct str pb, const struct tf_graph *g,
                                 struct arena *a, struct err *e)
{
    struct cursor c;
    struct proto top, meta, graph;
    size_t next = 0;
    bool done = false;
    cur_mem(&c, pb.p, pb.n, PB, 0);
    proto_init(&top, &c, c.end);
    while (!done && proto_next(&top)) {
        if (top.field != 2 || !proto_sub(&top, &meta))
            continue;
        while (proto_next(&meta)) {
            uint32_t node = 0;
            if (meta.field != 7 || !proto_sub(&meta, &graph))
                continue;
            while (proto_next(&graph)) {
                struct variable v = {.is = false};
                if (graph.field != 1)
                    continue;
                TRY(read_variable(&graph, &v, e));
                if (v.is)
                    TRY(check_node(m, g, node, &v, &next, a, e));
                node++;
            }
        }
        done = true;
    }
    return cur_ok(&c, e);
}

static enum status check_graph(const struct model *m, const struct attachment *pb, struct arena *a,
                               struct err *e)
{
    const struct attachment *graph = find(m, TF_GRAPH_NAME);
    struct tf_graph g = {0};
    struct str bytes;
    if (!graph)
        return ST_OK; /* variables go by name alone */
    TRY(attach_bytes(graph, a, &bytes, e));
    TRY(tf_graph_read(bytes, TF_GRAPH_NAME, 0, a, &g, e));
    TRY(attach_bytes(pb, a, &bytes, e));
    return check_objects(m, bytes, &g, a, e);
}

static enum status check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    static const struct str taken[] = {{STEM ".index", sizeof STEM ".index" - 1},
                                       {"fingerprint.pb", sizeof "fingerprint.pb" - 1}};
    const struct attachment *pb = find(m, PB);
    struct arena a = ARENA_INIT;
    if (!pb)
        return err_set(e, ST_CANNOT, "no-graph",
                       "a SavedModel is written only where its graph (" PB ") came along");
    TRY(attach_check_some(m, is_file, taken, sizeof taken / sizeof *taken, e));
    enum status st = check_graph(m, pb, &a, e);
    arena_free(&a);
    if (st == ST_INPUT)
        st = err_set(e, ST_CANNOT, "graph-differs", "the graph that came along is damaged");
    return st == ST_OK ? tf_bundle_check(m, opt, e) : st;
}

static enum status begin(struct writer *w, struct err *e)
{
    return tf_bundle_begin(w, STR(STEM), e);
}

static enum status end(struct writer *w, struct err *e)
{
    TRY(attach_write_some(w, is_file, e));
    return tf_bundle_end(w, e);
}

const struct format savedmodel_format = {
    .name = "savedmodel",
    .title = "TensorFlow SavedModel: variables, graph carried along",
    .suffix = {".savedmodel", NULL},
    .reads = true,
    .writes = true,
    .dir_target = true,
    .dir_only = true,
    .keeps_meta = {"tags", "tensorflow_version", "signature.*"},
    .refuses = "what tensor bundles refuse, assets whose names leave the folder, newer versions",
    .bid = bid,
    .companion = companion,
    .read = read_file,
    .check = check,
    .begin = begin,
    .end = end,
};
