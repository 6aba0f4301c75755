/* See tf_nodes.h. */
#include "format/tf_nodes.h"
#include "codec/json.h"
#include <string.h>

/* What a graph may do to the machine it is run on. Ops that save and restore are in every
 * SavedModel, and get their file names from the caller. */
static const char *const unsafe_ops[] = {"ReadFile",
                                         "WriteFile",
                                         "PyFunc",
                                         "PyFuncStateless",
                                         "EagerPyFunc",
                                         "MatchingFiles",
                                         "WholeFileReader",
                                         "WholeFileReaderV2",
                                         "DebugIdentity",
                                         "DebugIdentityV2",
                                         "DebugIdentityV3",
                                         "ImmutableConst",
                                         "LMDBReader",
                                         "LMDBDataset",
                                         "SqlDataset",
                                         "RpcCall",
                                         "RemoteCall",
                                         "RemoteFusedGraphExecute",
                                         "FixedLengthRecordReaderV2",
                                         "TFRecordReaderV2",
                                         "TextLineReaderV2",
                                         "GenerateVocabRemapping",
                                         "LoadAndRemapMatrix",
                                         "DumpGraph",
                                         NULL};
static const char *const file_ops[] = {"InitializeTableFromTextFile",
                                       "InitializeTableFromTextFileV2",
                                       "TextLineDataset",
                                       "TextLineDatasetV2",
                                       "TFRecordDataset",
                                       "TFRecordDatasetV2",
                                       "FixedLengthRecordDataset",
                                       "FixedLengthRecordDatasetV2",
                                       "SaveSlices",
                                       "PrintV2",
                                       "ExperimentalLMDBDataset",
                                       NULL};

static bool among(struct str s, const char *const *list)
{
    for (; *list; list++)
        if (str_is(s, *list))
            return true;
    return false;
}

enum status tf_node_scan(const struct tf_node *n, const struct read_opt *opt, struct err *e)
{
    char text[400], name[200];
    bool unsafe = among(n->op, unsafe_ops);
    (void)e;
    if (!opt->finding || (!unsafe && !among(n->op, file_ops)))
        return ST_OK;
    (void)err_escape(n->name.p, n->name.n, name, sizeof name);
    struct str s = n->op;
    size_t k = s.n < 100 ? s.n : 100;
    memcpy(text, s.p, k);
    static const char *const says[] = {": reads a file that the graph names, in node ",
                                       ": reads or writes files, or runs code, in node "};
    size_t m = strlen(says[unsafe]), l = strlen(name);
    memcpy(text + k, says[unsafe], m);
    memcpy(text + k + m, name, l + 1);
    opt->finding(opt->finding_ctx, unsafe, "graph-op", n->field->c->base + n->field->at, text);
    return ST_OK;
}

/* ---- nodes ---- */

static enum status one_node(const struct proto *field, bool in_function, struct arena *a,
                            tf_node_fn *use, void *ctx, struct err *e)
{
    struct tf_node n = {.field = field, .in_function = in_function, .name = STR(""), .op = STR("")};
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 1)
            n.name = proto_str(&m, a);
        else if (m.field == 2)
            n.op = proto_str(&m, a);
    }
    TRY(cur_ok(field->c, e));
    return use(ctx, &n, e);
}

static enum status function_nodes(const struct proto *field, struct arena *a, tf_node_fn *use,
                                  void *ctx, struct err *e)
{
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m))
        if (m.field == 3) {
            TRY(one_node(&m, true, a, use, ctx, e));
            arena_free(a);
        }
    return cur_ok(field->c, e);
}

enum status tf_nodes(struct proto *graph, tf_node_fn *use, void *ctx, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct proto library;
    enum status st = ST_OK;
    while (st == ST_OK && proto_next(graph)) {
        if (graph->field == 1) {
            st = one_node(graph, false, &a, use, ctx, e);
        } else if (graph->field == 2 && proto_sub(graph, &library)) {
            while (st == ST_OK && proto_next(&library))
                if (library.field == 1)
                    st = function_nodes(&library, &a, use, ctx, e);
        }
        arena_free(&a);
    }
    return st == ST_OK ? cur_ok(graph->c, e) : st;
}

/* Is the current field an entry of a map, under this key? */
static bool keyed(const struct proto *field, struct str want)
{
    struct proto entry;
    bool is = false;
    if (!proto_sub(field, &entry))
        return false;
    while (proto_next(&entry)) {
        size_t k = 0;
        const uint8_t *p = entry.field == 1 ? proto_bytes(&entry, &k) : NULL;
        if (p)
            is = str_eq((struct str){(const char *)p, k}, want);
    }
    return is;
}

enum status tf_node_value(const struct tf_node *n, struct proto *value, bool *found, struct err *e)
{
    struct cursor *c = n->field->c;
    struct proto m, entry;
    *found = false;
    if (!proto_sub(n->field, &m))
        return cur_ok(c, e);
    while (!*found && proto_next(&m)) {
        if (m.field != 5 || !keyed(&m, STR("value")) || !proto_sub(&m, &entry))
            continue;
        while (!*found && proto_next(&entry))
            if (entry.field == 2 && proto_sub(&entry, value))
                while (!*found && proto_next(value))
                    *found = value->field == 8;
    }
    return cur_ok(c, e);
}

/* ---- meta graphs ---- */

static enum status add_meta(struct model *m, const char *prefix, struct str key, struct buf *text,
                            struct err *e)
{
    struct str full = arena_fmt(&m->arena, "%s%.*s", prefix, STR_ARG(key));
    enum status st = full.p ? buf_ok(text, e) : err_nomem(e, key.n);
    if (st == ST_OK)
        st = model_meta_add(m, full, buf_as_str(text), e);
    buf_free(text);
    return st;
}

static void put_text(struct json_w *w, struct str s)
{
    json_w_str(w, s.p && str_utf8(s, NULL) ? s : STR("(not UTF-8)"));
}

static enum status read_info(const struct proto *field, struct model *m, struct err *e)
{
    struct proto x;
    struct buf tags = BUF_INIT;
    if (!proto_sub(field, &x))
        return cur_ok(field->c, e);
    while (proto_next(&x)) {
        struct str s = x.field == 4 || x.field == 5 ? proto_str(&x, &m->arena) : STR_NONE;
        if (s.p && !str_utf8(s, NULL))
            s = STR("(not UTF-8)");
        if (s.p && x.field == 5) {
            enum status st = model_meta_add(m, STR("tensorflow_version"), s, e);
            if (st != ST_OK) {
                buf_free(&tags);
                return st;
            }
        } else if (s.p) {
            buf_z(&tags, tags.n ? "," : "");
            buf_str(&tags, s);
        }
    }
    enum status st = cur_ok(field->c, e);
    if (st == ST_OK)
        return add_meta(m, "tags", STR(""), &tags, e);
    buf_free(&tags);
    return st;
}

/* TensorInfo {1 name, 2 dtype, 3 shape} as {"dtype": .., "shape": [..]}, unknown extents -1. */
static void put_info(const struct proto *field, struct json_w *w)
{
    struct proto x, shape, dim;
    uint64_t type = 0;
    bool unknown = true;
    json_w_object(w);
    json_w_key(w, STR("shape"));
    if (proto_sub(field, &x))
        while (proto_next(&x)) {
            if (x.field == 2) {
                type = proto_u64(&x);
            } else if (x.field == 3 && unknown && proto_sub(&x, &shape)) {
                unknown = false;
                json_w_array(w);
                while (proto_next(&shape)) {
                    int64_t size = 0;
                    if (shape.field != 2 || !proto_sub(&shape, &dim))
                        continue;
                    while (proto_next(&dim))
                        if (dim.field == 1)
                            size = proto_i64(&dim);
                    json_w_i64(w, size);
                }
                json_w_array_end(w);
            }
        }
    if (unknown)
        json_w_null(w);
    json_w_key(w, STR("dtype"));
    json_w_str(w, str_from(tf_type_name(type)));
    json_w_object_end(w);
}

/* SignatureDef {1 inputs map, 2 outputs map, 3 method} as JSON. */
static enum status put_signature(const struct proto *field, struct model *m, struct json_w *w,
                                 struct err *e)
{
    struct proto x, entry;
    if (!proto_sub(field, &x))
        return cur_ok(field->c, e);
    for (uint32_t part = 1; part <= 2; part++) {
        struct proto again = x;
        json_w_key(w, part == 1 ? STR("inputs") : STR("outputs"));
        json_w_object(w);
        while (proto_next(&again)) {
            struct str key = STR("");
            if (again.field != part || !proto_sub(&again, &entry))
                continue;
            while (proto_next(&entry)) {
                if (entry.field == 1)
                    key = proto_str(&entry, &m->arena);
                else if (entry.field == 2 && key.p && str_utf8(key, NULL)) {
                    json_w_key(w, key);
                    put_info(&entry, w);
                }
            }
        }
        json_w_object_end(w);
    }
    while (proto_next(&x))
        if (x.field == 3) {
            json_w_key(w, STR("method"));
            put_text(w, proto_str(&x, &m->arena));
        }
    return cur_ok(field->c, e);
}

static enum status read_signature(const struct proto *field, struct model *m, struct err *e)
{
    struct proto entry;
    struct str key = STR("");
    struct buf text = BUF_INIT;
    struct json_w w;
    enum status st = ST_OK;
    if (!proto_sub(field, &entry))
        return cur_ok(field->c, e);
    json_w_init(&w, &text, 0);
    json_w_object(&w);
    while (st == ST_OK && proto_next(&entry)) {
        if (entry.field == 1)
            key = proto_str(&entry, &m->arena);
        else if (entry.field == 2)
            st = put_signature(&entry, m, &w, e);
    }
    json_w_object_end(&w);
    if (st == ST_OK)
        st = cur_ok(field->c, e);
    if (st == ST_OK && str_utf8(key, NULL))
        return add_meta(m, "signature.", key, &text, e);
    buf_free(&text);
    return st;
}

/* AssetFileDef {1 tensor, 2 filename}. */
static enum status read_asset(const struct proto *field, struct model *m, struct buf *assets,
                              struct err *e)
{
    struct proto x;
    if (!proto_sub(field, &x))
        return cur_ok(field->c, e);
    while (proto_next(&x))
        if (x.field == 2) {
            struct str name = proto_str(&x, &m->arena);
            if (name.p)
                buf_bytes(assets, &name, sizeof name);
        }
    TRY(cur_ok(field->c, e));
    return buf_ok(assets, e);
}

struct scan {
    const struct read_opt *opt;
};

static enum status scan_node(void *ctx, const struct tf_node *n, struct err *e)
{
    const struct scan *s = ctx;
    return tf_node_scan(n, s->opt, e);
}

enum status tf_meta_graph(const struct proto *field, const struct read_opt *opt, struct model *m,
                          struct buf *assets, struct err *e)
{
    struct proto x, graph;
    struct scan s = {opt};
    if (!proto_sub(field, &x))
        return cur_ok(field->c, e);
    while (proto_next(&x)) {
        switch (x.field) {
        case 1:
            TRY(read_info(&x, m, e));
            break;
        case 2:
            if (proto_sub(&x, &graph))
                TRY(tf_nodes(&graph, scan_node, &s, e));
            break;
        case 5:
            TRY(read_signature(&x, m, e));
            break;
        case 6:
            TRY(read_asset(&x, m, assets, e));
            break;
        default:
            break;
        }
    }
    return cur_ok(field->c, e);
}

enum status tf_meta_scan(struct file *f, const struct read_opt *opt, struct err *e)
{
    struct cursor c;
    struct proto x, graph;
    struct scan s = {opt};
    enum status st = ST_OK;
    cur_file(&c, f, 0, file_size(f));
    proto_init(&x, &c, c.end);
    while (st == ST_OK && proto_next(&x))
        if (x.field == 2 && proto_sub(&x, &graph))
            st = tf_nodes(&graph, scan_node, &s, e);
    if (st == ST_OK)
        st = cur_ok(&c, e);
    cur_close(&c);
    return st;
}
