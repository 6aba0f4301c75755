/* A walk over a ModelProto: every TensorProto in file order, under the name it has here, with the
 * messages around it. No recursion: an explicit stack of messages.
 *
 * Names: an initializer of the main graph keeps its own; the value of a Constant node is named by
 * the node's output; any other tensor attribute OUTPUT.ATTRIBUTE. In a subgraph they begin with
 * OUTPUT.ATTRIBUTE. of the node that holds it, in a function with functions.DOMAIN.NAME., in a
 * training graph with training_info.N.initialization. or training_info.N.algorithm. A node without
 * outputs is node_N, N being its place. A sparse tensor is NAME.values and NAME.indices.
 */
#include "format/onnx.h"
#include <string.h>

#define NAME_MAX_BYTES 65535u
#define NAMES_SLACK ((uint64_t)1 << 20) /* see push_name */

void onnx_walk_init(struct onnx_walk *w, struct cursor *c)
{
    memset(w, 0, sizeof *w);
    w->c = c;
    w->depth = 1;
    w->frame[0].kind = ONNX_MODEL;
    w->frame[0].span = -1;
    proto_init(&w->frame[0].m, c, c->end);
}

void onnx_walk_free(struct onnx_walk *w)
{
    buf_free(&w->name);
    buf_free(&w->span);
}

/* ---- names ---- */

static void add_bytes(struct onnx_walk *w, const struct proto *text)
{
    size_t n;
    const uint8_t *p = proto_bytes(text, &n);
    if (p)
        buf_bytes(&w->name, p, n);
}

static void add_number(struct onnx_walk *w, const char *before, uint64_t v)
{
    buf_fmt(&w->name, "%s%llu", before, (unsigned long long)v);
}

/* The name so far is what the children of the top frame begin with. */
static void keep_name(struct onnx_walk *w)
{
    struct onnx_frame *f = &w->frame[w->depth - 1];
    f->name_n = w->name.n;
    if (w->name.n > NAME_MAX_BYTES)
        (void)proto_fail(&f->m, "bad-name", "a name of more than %u bytes", NAME_MAX_BYTES);
}

static struct onnx_frame *push(struct onnx_walk *w, const struct proto *field, enum onnx_kind kind)
{
    struct onnx_frame *up = &w->frame[w->depth - 1], *f;
    if (w->depth == ONNX_DEPTH) {
        (void)proto_fail(field, "nested-too-deep", "more than %d messages inside each other",
                         ONNX_DEPTH);
        return NULL;
    }
    f = &w->frame[w->depth];
    *f = (struct onnx_frame){.kind = kind, .at = field->at, .field = field->field, .span = -1};
    if (!proto_sub(field, &f->m))
        return NULL;
    w->depth++;
    w->name.n = up->name_n;
    f->name_n = up->name_n;
    return f;
}

static void notice(struct onnx_walk *w, const char *what, const struct proto *at, struct str text)
{
    if (w->notice && text.p)
        w->notice(w->notice_ctx, what, w->c->base + at->at, text);
}

static struct str text_of(const struct proto *m)
{
    size_t n;
    const uint8_t *p = proto_bytes(m, &n);
    return p ? (struct str){(const char *)p, n} : STR_NONE;
}

/* ---- entering messages: what names them stands inside, in any order ---- */

static void enter_node(struct onnx_walk *w, const struct proto *field, uint64_t index)
{
    struct onnx_frame *f = push(w, field, ONNX_NODE);
    struct proto m, output = {0};
    bool plain = true, is_constant = false;
    if (!f)
        return;
    m = f->m;
    while (proto_next(&m)) {
        if (m.field == 2 && m.wire == PROTO_LEN && m.n > 0 && !output.c)
            output = m;
        if (m.field != 4 && m.field != 7)
            continue;
        struct str s = text_of(&m);
        if (m.field == 4) {
            is_constant = str_is(s, "Constant");
            if (str_is(s, "PythonOp") || str_is(s, "PythonOpGrad") || str_is(s, "PyOp"))
                notice(w, "python-op", &m, s);
            else if (str_is(s, "EPContext"))
                notice(w, "ep-context", &m, s);
        } else {
            plain = s.n == 0 || str_is(s, "ai.onnx");
            if (!plain)
                notice(w, "domain", &m, s);
        }
    }
    f->constant = is_constant && plain;
    if (output.c)
        add_bytes(w, &output);
    else
        add_number(w, "node_", index);
    keep_name(w);
}

static void enter_attribute(struct onnx_walk *w, const struct proto *field, bool constant)
{
    struct onnx_frame *f = push(w, field, ONNX_ATTRIBUTE);
    struct proto m, name = {0};
    if (!f)
        return;
    m = f->m;
    while (proto_next(&m))
        if (m.field == 1)
            name = m;
    if (constant && name.c) {
        struct str s = text_of(&name);
        f->constant = s.p && (str_is(s, "value") || str_is(s, "sparse_value"));
    }
    if (!f->constant) {
        buf_u8(&w->name, '.');
        if (name.c)
            add_bytes(w, &name);
    }
    keep_name(w);
}

static void enter_function(struct onnx_walk *w, const struct proto *field)
{
    struct onnx_frame *f = push(w, field, ONNX_FUNCTION);
    struct proto m, name = {0}, domain = {0}, overload = {0};
    if (!f)
        return;
    m = f->m;
    while (proto_next(&m)) {
        if (m.field == 1)
            name = m;
        else if (m.field == 10)
            domain = m;
        else if (m.field == 13)
            overload = m;
    }
    buf_z(&w->name, "functions.");
    size_t from = w->name.n;
    if (domain.c)
        add_bytes(w, &domain);
    buf_u8(&w->name, '.');
    if (name.c)
        add_bytes(w, &name);
    if (overload.c && overload.n > 0) {
        buf_u8(&w->name, ':');
        add_bytes(w, &overload);
    }
    if (!w->name.failed)
        notice(w, "function", field, str_sub(buf_as_str(&w->name), from, w->name.n));
    buf_u8(&w->name, '.');
    keep_name(w);
}

static void enter_graph(struct onnx_walk *w, const struct proto *field, const char *between,
                        int64_t index)
{
    if (!push(w, field, ONNX_A_GRAPH))
        return;
    if (index >= 0)
        add_number(w, ".", (uint64_t)index);
    buf_z(&w->name, between);
    keep_name(w);
}

static void enter_training(struct onnx_walk *w, const struct proto *field, uint64_t index)
{
    if (!push(w, field, ONNX_TRAINING))
        return;
    add_number(w, "training_info.", index);
    keep_name(w);
}

/* A sparse tensor's name is that of its values. */
static void enter_sparse(struct onnx_walk *w, const struct proto *field, bool own_name,
                         int64_t index)
{
    struct onnx_frame *f = push(w, field, ONNX_SPARSE);
    struct proto m, name = {0};
    struct proto_list l;
    bool values = false, indices = false;
    if (!f)
        return;
    w->n_shape = 0;
    m = f->m;
    while (proto_next(&m)) {
        struct proto sub;
        if (m.field == 1 && proto_sub(&m, &sub)) {
            while (proto_next(&sub))
                if (sub.field == 8)
                    name = sub;
        }
        if ((m.field == 1 && values) || (m.field == 2 && indices))
            (void)proto_fail(&m, "field-twice", "a sparse tensor has field %u twice",
                             (unsigned)m.field);
        values = values || m.field == 1;
        indices = indices || m.field == 2;
        if (m.field != 3 || !proto_list(&m, PROTO_VARINT, &l))
            continue;
        while (proto_list_next(&l)) {
            if (w->n_shape == VIEW_MAX_AXES || (int64_t)l.u < 0)
                (void)proto_fail(&m, "bad-shape", "a dimension below 0, or more than %d of them",
                                 VIEW_MAX_AXES);
            else
                w->shape[w->n_shape++] = l.u;
        }
    }
    if (!cur_failed(w->c) && (!values || !indices))
        (void)proto_fail(field, "sparse-part", "a sparse tensor without its values or indices");
    if (index >= 0)
        add_number(w, ".", (uint64_t)index);
    if (own_name && name.c)
        add_bytes(w, &name);
    keep_name(w);
}

/* ---- leaving a tensor to the caller ---- */

/* Every open message encloses a tensor now. */
static int64_t open_spans(struct onnx_walk *w)
{
    int64_t parent = -1;
    for (size_t i = 1; i < w->depth; i++) {
        struct onnx_frame *f = &w->frame[i];
        if (f->span < 0) {
            struct onnx_span s = {.at = f->at,
                                  .body = f->m.end, /* set below */
                                  .end = f->m.end,
                                  .field = f->field,
                                  .parent = parent};
            s.body = w->frame[i - 1].m.body;
            f->span = (int64_t)onnx_n_spans(w);
            buf_bytes(&w->span, &s, sizeof s);
        }
        parent = f->span;
    }
    return parent;
}

static void give(struct onnx_walk *w, struct onnx_item *it, bool own_name, int64_t index)
{
    struct onnx_frame *f = &w->frame[w->depth - 1];
    *it = (struct onnx_item){.at = f->m.at,
                             .end = f->m.body + f->m.n,
                             .field = f->m.field,
                             .own_name = own_name,
                             .shape = w->shape,
                             .n_shape = w->n_shape};
    if (!proto_sub(&f->m, &it->tensor))
        return;
    w->name.n = f->name_n;
    if (f->kind == ONNX_SPARSE) {
        it->part = f->m.field == 1 ? 1 : 2;
        it->sparse_at = f->at;
        buf_z(&w->name, it->part == 1 ? ".values" : ".indices");
    }
    if (index >= 0)
        add_number(w, ".", (uint64_t)index);
    it->span = open_spans(w);
    it->prefix = (const char *)w->name.p;
    it->prefix_n = w->name.n;
    /* many small tensors below one long name must not take more than the file */
    w->name_bytes += w->name.n;
    if (w->name_bytes / 4 > w->c->end + NAMES_SLACK)
        (void)proto_fail(&f->m, "bad-name", "the names of nodes around tensors are too long");
    if (++w->n_tensors > ONNX_MAX_TENSORS)
        (void)proto_fail(&f->m, "too-many-tensors", "more than %u tensors in one file",
                         ONNX_MAX_TENSORS);
}

/* One field of the top frame; true: *it is filled. */
static bool step(struct onnx_walk *w, struct onnx_item *it)
{
    struct onnx_frame *f = &w->frame[w->depth - 1];
    struct proto *m = &f->m;
    switch (f->kind) {
    case ONNX_MODEL:
        if (m->field == 7) {
            if (w->graph_seen)
                (void)proto_fail(m, "field-twice", "the model has two graphs");
            w->graph_seen = true;
            enter_graph(w, m, "", -1);
        } else if (m->field == 20) {
            enter_training(w, m, f->n_inside++);
        } else if (m->field == 25) {
            enter_function(w, m);
        }
        return false;
    case ONNX_TRAINING:
        if (m->field == 1 || m->field == 2)
            enter_graph(w, m, m->field == 1 ? ".initialization." : ".algorithm.", -1);
        return false;
    case ONNX_FUNCTION:
        if (m->field == 7)
            enter_node(w, m, f->n_inside++);
        else if (m->field == 11)
            enter_attribute(w, m, false);
        return false;
    case ONNX_A_GRAPH:
        if (m->field == 1)
            enter_node(w, m, f->n_inside++);
        else if (m->field == 15)
            enter_sparse(w, m, true, -1);
        if (m->field != 5)
            return false;
        give(w, it, true, -1);
        return true;
    case ONNX_NODE:
        if (m->field == 5)
            enter_attribute(w, m, f->constant);
        return false;
    case ONNX_ATTRIBUTE:
        if (m->field == 6)
            enter_graph(w, m, ".", -1);
        else if (m->field == 11)
            enter_graph(w, m, ".", (int64_t)f->n_inside++);
        else if (m->field == 22)
            enter_sparse(w, m, false, -1);
        else if (m->field == 23)
            enter_sparse(w, m, false, (int64_t)f->n_inside++);
        if (m->field != 5 && m->field != 10)
            return false;
        give(w, it, false, m->field == 10 ? (int64_t)f->n_inside++ : -1);
        return true;
    case ONNX_SPARSE:
        if (m->field != 1 && m->field != 2)
            return false;
        give(w, it, false, -1);
        return true;
    }
    return false;
}

enum status onnx_walk_next(struct onnx_walk *w, struct onnx_item *it, bool *more, struct err *e)
{
    *more = false;
    while (w->depth > 0 && !*more && !cur_failed(w->c)) {
        if (proto_next(&w->frame[w->depth - 1].m))
            *more = step(w, it);
        else
            w->depth--;
    }
    TRY(cur_ok(w->c, e));
    TRY(buf_ok(&w->name, e));
    return buf_ok(&w->span, e);
}
