/* Frozen graphs of TensorFlow: a GraphDef whose weights are Const nodes. Read only.
 *
 *   1 node {1 name, 2 op = "Const", 5 attr "value" {8 TensorProto}} ...; see tf_nodes.h,
 * tf_values.c
 *
 * A tensor is called as its node, '/' parting the name; what functions hold (field 2) is left, and
 * said. Raw content is taken where it lies; one value for a whole tensor is a view of that value;
 * values written as numbers of varying length are decoded. Strings are attachments. The graph
 * itself is not carried: it is the file. Source: core/framework/graph.proto, node_def.proto.
 *
 * Refused beside what the messages refuse: graph-top (no nodes, or something else stands at the
 * top), tf-values, tf-shape, unknown-dtype, shape-overflow, too-many-tensors.
 */
#include "base/checked.h"
#include "base/log.h"
#include "format/tf_nodes.h"
#include "model/roles.h"
#include <string.h>

#define TENSORS_MAX 262144u

struct reader {
    struct model *m;
    struct file *f;
    const struct read_opt *opt;
    uint64_t n_nodes, n_left;
};

/* What the lists of numbers need to be decoded. */
struct listed {
    struct file *f;
    uint64_t at, n; /* the TensorProto field in the file */
    struct tf_values v;
    enum dtype dtype;
    uint64_t elems;
};

/* ---- recognising ---- */

/* The front of p as nodes of a graph: are the first fields what NodeDef has? */
static int looks(const uint8_t *p, size_t n)
{
    struct cursor c;
    struct proto m, node;
    int fields = 0;
    bool name = false, op = false;
    cur_mem(&c, p, n, "", 0);
    proto_init(&m, &c, n);
    if (!proto_next(&m) && !(n > 2 && p[0] == 0x0a)) /* a node longer than what is seen */
        return 0;
    if (cur_failed(&c)) {
        size_t skip = 1;
        while (skip < n && skip < 6 && p[skip] & 0x80)
            skip++;
        cur_mem(&c, p + skip + 1, n - skip - 1, "", 0);
        proto_init(&node, &c, n - skip - 1);
    } else if (m.field != 1 || !proto_sub(&m, &node)) {
        return 0;
    }
    while (proto_next(&node) && fields++ < 64) {
        if (node.field > 7 || node.field == 0 || node.wire != PROTO_LEN)
            return 0;
        size_t k = 0;
        const uint8_t *s = node.field <= 2 ? proto_bytes(&node, &k) : NULL;
        for (size_t i = 0; s && i < k; i++)
            if (s[i] < 0x20 || s[i] == 0x7f)
                return 0;
        name = name || (node.field == 1 && k > 0);
        op = op || (node.field == 2 && k > 0 && s && s[0] >= 'A' && s[0] <= '_');
    }
    return name && op ? 70 : 0;
}

static int bid(const struct source *s)
{
    if (s->dir || s->head_n < 4 || s->head[0] != 0x0a)
        return 0;
    int b = looks(s->head, s->head_n);
    return b ? b : str_ends(str_from(s->path), STR(".pb")) ? 5 : 0;
}

/* ---- tensors ---- */

/* Makes the cursor and field that tf_values_decode wants. */
static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct listed *x = s->priv;
    struct cursor c;
    struct proto m;
    (void)t;
    (void)scratch;
    cur_file(&c, x->f, x->at, x->n);
    proto_init(&m, &c, c.end);
    enum status st = ST_OK;
    if (proto_next(&m))
        st = tf_values_decode(&m, &x->v, x->dtype, x->elems, dst, e);
    if (st == ST_OK)
        st = cur_ok(&c, e);
    cur_close(&c);
    return st;
}

static const struct decoder numbers = {.name = "tensor-proto", .tile = tile};

/* One element's bytes in memory, for tensors that repeat it. */
static enum status one_element(const struct proto *field, const struct tf_values *v, size_t width,
                               enum dtype dtype, struct storage *s, struct model *m, struct err *e)
{
    uint8_t *p = arena_alloc(&m->arena, 1, width);
    if (!p)
        return err_nomem(e, width);
    TRY(tf_values_decode(field, v, dtype, 1, p, e));
    *s = (struct storage){
        .kind = STORAGE_MEMORY, .mem = p, .stored_bytes = width, .raw_bytes = width};
    return ST_OK;
}

/* The field again as a message of its own: tag, length, body; from its tag's place. */
static enum status listed_values(struct reader *r, const struct proto *field,
                                 const struct tf_values *v, enum dtype dtype, uint64_t elems,
                                 uint64_t bytes, struct storage *s, struct err *e)
{
    struct listed *x = ARENA_NEW(&r->m->arena, struct listed);
    if (!x)
        return err_nomem(e, sizeof *x);
    *x = (struct listed){.f = r->f,
                         .at = field->c->base + field->at,
                         .n = field->body + field->n - field->at,
                         .v = *v,
                         .dtype = dtype,
                         .elems = elems};
    *s = (struct storage){.kind = STORAGE_TILED,
                          .file = r->f,
                          .offset = x->at,
                          .stored_bytes = x->n,
                          .raw_bytes = bytes,
                          .n_tiles = 1,
                          .tile_bytes = bytes,
                          .dec = &numbers,
                          .priv = x};
    return ST_OK;
}

static enum status place(struct reader *r, const struct proto *field, const struct tf_values *v,
                         enum dtype dtype, uint64_t elems, uint32_t *index, bool *repeat,
                         struct err *e)
{
    struct storage *s;
    size_t width = dtype_bytes(dtype) ? dtype_bytes(dtype) : 1;
    uint64_t bytes, parts = dtype_info(dtype)->kind == DK_COMPLEX ? 2 : 1;
    TRY(tf_values_fit(field, v, dtype, elems, e));
    if (!mul_u64(elems, width, &bytes))
        return err_set(e, ST_BUG, "tf-values", "unproved size");
    TRY(model_storage_add(r->m, &s, index, e));
    *s = (struct storage){.kind = STORAGE_MEMORY, .mem = (const uint8_t *)""};
    *repeat = elems > 1 && !v->has_content && v->n <= parts;
    if (elems == 0)
        return ST_OK;
    if (*repeat || (elems == 1 && !v->has_content))
        return one_element(field, v, width, dtype, s, r->m, e);
    bool flat = v->has_content || (v->one_run && v->n == elems * parts);
    if (!flat)
        return listed_values(r, field, v, dtype, elems, bytes, s, e);
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = r->f,
                          .offset = field->c->base + (v->has_content ? v->content : v->first),
                          .stored_bytes = bytes,
                          .raw_bytes = bytes};
    return ST_OK;
}

static enum status set_view(struct model *m, struct tensor *t, const struct tf_shape *shape,
                            bool repeat, struct err *e)
{
    static const int64_t still[VIEW_MAX_AXES];
    struct view v;
    if (!repeat)
        return tensor_set_shape(m, t, shape->dim, shape->n, e);
    TRY(view_strided(&v, shape->dim, still, shape->n, 0, e));
    return tensor_set_view(m, t, &v, e);
}

static enum status add_const(struct reader *r, const struct tf_node *n, const struct proto *field,
                             const struct tf_values *v, struct err *e)
{
    struct tensor t = {.of = -1, .alias_of = -1, .requires_grad = true}, *out;
    struct tf_type type;
    uint64_t elems = 0;
    bool repeat = false;
    if (!tf_type(v->type, &type)) {
        (void)proto_fail(field, "unknown-dtype", "element type %llu (%s) cannot be read",
                         (unsigned long long)v->type, tf_type_name(v->type));
        return cur_ok(field->c, e);
    }
    if (r->m->n_tensors == TENSORS_MAX)
        (void)proto_fail(field, "too-many-tensors", "more than %u tensors", TENSORS_MAX);
    else if (!tf_elems(v->shape.dim, v->shape.n, &elems) || elems > UINT64_MAX / 32)
        (void)proto_fail(field, "shape-overflow", "the product of the shape is too large");
    TRY(cur_ok(field->c, e));
    TRY(place(r, field, v, type.dtype, elems, &t.storage, &repeat, e));
    TRY(set_view(r->m, &t, &v->shape, repeat, e));
    t.dtype = type.dtype;
    t.unpacked = type.unpacked;
    t.note = str_from(type.note);
    t.decl = r->f;
    t.offset = field->c->base + n->field->at;
    t.order = r->m->n_tensors;
    TRY(tf_name(n->name, false, &r->m->arena, &t.name, e));
    TRY(model_tensor_add(r->m, &out, e));
    *out = t;
    return ST_OK;
}

static enum status take_value(struct reader *r, const struct tf_node *n, struct err *e)
{
    struct proto value;
    struct tf_values v;
    bool found;
    TRY(tf_node_value(n, &value, &found, e));
    if (!found) {
        (void)proto_fail(n->field, "tf-values", "a constant without a value");
        return cur_ok(n->field->c, e);
    }
    TRY(tf_values_read(&value, &v, e));
    if (v.type != TF_STRING)
        return add_const(r, n, &value, &v, e);
    return r->opt->weights_only ? ST_OK : tf_values_attach(&value, &v, n->name, r->m, e);
}

static enum status use_node(void *ctx, const struct tf_node *n, struct err *e)
{
    struct reader *r = ctx;
    r->n_nodes++;
    if (r->opt->scan)
        TRY(tf_node_scan(n, r->opt, e));
    if (!str_is(n->op, "Const"))
        return ST_OK;
    if (n->in_function) {
        r->n_left++;
        return ST_OK;
    }
    enum status st = take_value(r, n, e);
    if (st != ST_OK)
        err_in(e, n->name.p, n->name.n);
    return st;
}

static enum status read_graph(struct reader *r, struct err *e)
{
    struct cursor c;
    struct proto graph;
    cur_file(&c, r->f, 0, file_size(r->f));
    proto_init(&graph, &c, c.end);
    enum status st = tf_nodes(&graph, use_node, r, e);
    if (st == ST_OK && r->n_nodes == 0) {
        (void)cur_fail(&c, 0, "graph-top", "the file holds no node of a graph");
        st = cur_ok(&c, e);
    }
    cur_close(&c);
    return st;
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct reader r = {.m = m, .f = s->file, .opt = opt};
    s->file = NULL;
    m->format = "graphdef";
    m->framework = STR("tensorflow");
    TRY(model_own_file(m, r.f, e));
    TRY(read_graph(&r, e));
    if (r.n_left)
        log_note("%s: %llu constants of functions are left aside", file_path(r.f),
                 (unsigned long long)r.n_left);
    TRY(model_finish(m, e));
    return roles_by_name(m, e);
}

const struct format graphdef_format = {
    .name = "graphdef",
    .title = "TensorFlow frozen graph: constants of a GraphDef",
    .suffix = {".pb", NULL},
    .reads = true,
    .refuses = "constants whose values do not fit shape and type, unknown types, groups and other "
               "damage of the messages",
    .bid = bid,
    .read = read_file,
};
