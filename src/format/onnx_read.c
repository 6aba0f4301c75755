/* ONNX, reading: one walk finds every tensor and proves its place; a second pass over the same
 * bytes keeps the graph without its numbers as an attachment. See onnx.c for the layout.
 */
#include "base/checked.h"
#include "format/onnx.h"
#include "model/roles.h"
#include <stdio.h>
#include <string.h>

/* A sparse tensor, were it dense: at most this, or SPARSE_RATIO times the file. */
#define SPARSE_MAX_BYTES ((uint64_t)1 << 30)
#define SPARSE_RATIO 64
#define OPSET_SINCE 3 /* ir_version from which opset_import must be there */

struct sparse {
    uint64_t sparse_at;
    size_t values, indices; /* tensors; SIZE_MAX: not seen yet */
    const uint64_t *shape;
    size_t n_shape;
};
struct reader {
    struct model *m;
    struct file *f;
    struct arena *a;
    const struct read_opt *opt;
    struct cursor c;
    struct onnx_walk walk;
    struct buf external; /* struct onnx_external */
    struct buf edit;     /* struct onnx_edit: what the graph loses; head: an offset in rest */
    struct buf rest;
    struct buf sparse; /* struct sparse */
};

/* ---- what a tensor is called and where it lies ---- */

static enum status name_of(struct reader *r, const struct onnx_item *it,
                           const struct onnx_tensor *t, struct str *out, struct err *e)
{
    struct str own = it->own_name ? t->name : STR_NONE;
    struct buf b = BUF_INIT;
    if (it->own_name && own.n == 0) {
        (void)proto_fail(&it->tensor, "bad-name", "an initializer without a name");
        return cur_ok(&r->c, e);
    }
    buf_bytes(&b, it->prefix, it->prefix_n);
    buf_str(&b, own);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK) {
        *out = arena_str(r->a, b.p, b.n);
        if (!out->p)
            st = err_nomem(e, b.n);
    }
    buf_free(&b);
    return st;
}

/* Decodes a short typed list at once; its refusals then come with the others. */
static enum status keep_block(void *ctx, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
    (void)e;
    memcpy((uint8_t *)ctx + at, p, n);
    return ST_OK;
}

static enum status decode_now(struct reader *r, struct storage *s, struct err *e)
{
    uint8_t *mem = arena_alloc(r->a, 1, (size_t)s->raw_bytes + 1);
    if (!mem)
        return err_nomem(e, s->raw_bytes);
    TRY(onnx_each_block(s, keep_block, mem, e));
    *s = (struct storage){.kind = STORAGE_MEMORY, .mem = mem, .raw_bytes = s->raw_bytes};
    return ST_OK;
}

static enum status storage_of(struct reader *r, const struct onnx_item *it,
                              const struct onnx_tensor *t, struct storage *s, struct err *e)
{
    uint64_t body = it->tensor.at; /* the cursor's range is the file */
    if (t->typed != 0 && t->flat_at == UINT64_MAX && !t->external) {
        TRY(onnx_typed_storage(t, r->f, body, it->end - body, r->a, s, e));
        return s->raw_bytes <= ONNX_SMALL ? decode_now(r, s, e) : ST_OK;
    }
    *s = (struct storage){.kind = STORAGE_FLAT,
                          .file = r->f,
                          .offset = t->raw_bytes == 0 ? body
                                    : t->typed        ? t->flat_at
                                                      : t->raw_at,
                          .stored_bytes = t->raw_bytes,
                          .raw_bytes = t->raw_bytes};
    if (t->external)
        s->offset = 0; /* onnx_external_place will know */
    return ST_OK;
}

static enum status add_external(struct reader *r, const struct onnx_item *it,
                                const struct onnx_tensor *t, struct str name, struct err *e)
{
    struct onnx_external x = {.location = t->location,
                              .offset = t->offset,
                              .length = t->length,
                              .has_length = t->has_length,
                              .want = t->raw_bytes,
                              .at = it->at,
                              .tensor = (uint32_t)r->m->n_tensors - 1,
                              .name = name};
    buf_bytes(&r->external, &x, sizeof x);
    return buf_ok(&r->external, e);
}

/* What the graph keeps of a tensor: all but its numbers. */
static enum status add_edit(struct reader *r, const struct onnx_item *it, struct err *e)
{
    struct buf b = BUF_INIT;
    enum status st = onnx_tensor_rest(&it->tensor, &b, e);
    size_t from = r->rest.n;
    proto_w_sub(&r->rest, it->field, &b);
    buf_free(&b);
    struct onnx_edit x = {
        .at = it->at, .end = it->end, .span = it->span, .head_n = r->rest.n - from};
    buf_bytes(&r->edit, &x, sizeof x);
    TRY(st);
    TRY(buf_ok(&r->rest, e));
    return buf_ok(&r->edit, e);
}

/* ---- sparse tensors ---- */

static enum status note_sparse(struct reader *r, const struct onnx_item *it, struct err *e)
{
    size_t n = r->sparse.n / sizeof(struct sparse);
    struct sparse *last = n ? (struct sparse *)(void *)r->sparse.p + (n - 1) : NULL;
    struct tensor *t = &r->m->tensor[r->m->n_tensors - 1];
    struct buf dims = BUF_INIT;
    if (!last || last->sparse_at != it->sparse_at) {
        uint64_t *shape = ARENA_ARRAY(r->a, uint64_t, it->n_shape + 1);
        if (!shape)
            return err_nomem(e, it->n_shape * sizeof *shape);
        for (size_t d = 0; d < it->n_shape; d++)
            shape[d] = it->shape[d];
        struct sparse s = {it->sparse_at, SIZE_MAX, SIZE_MAX, shape, it->n_shape};
        buf_bytes(&r->sparse, &s, sizeof s);
        TRY(buf_ok(&r->sparse, e));
        last = (struct sparse *)(void *)r->sparse.p + n;
    }
    *(it->part == 1 ? &last->values : &last->indices) = r->m->n_tensors - 1;
    for (size_t d = 0; d < it->n_shape; d++)
        buf_fmt(&dims, "%s%llu", d ? "," : "", (unsigned long long)it->shape[d]);
    enum status st = buf_ok(&dims, e);
    if (st == ST_OK) {
        t->note = arena_fmt(r->a, "%s of a sparse tensor of shape [%.*s]",
                            it->part == 1 ? "values" : "indices", STR_ARG(buf_as_str(&dims)));
        if (!t->note.p)
            st = err_nomem(e, dims.n);
    }
    if (st == ST_OK && it->part == 1) {
        struct str base = str_sub(t->name, 0, t->name.n - strlen(".values"));
        struct str key = arena_fmt(r->a, "onnx.sparse.%.*s", STR_ARG(base));
        struct str value = arena_str(r->a, dims.n ? (const char *)dims.p : "", dims.n);
        st = key.p && value.p ? model_meta_add(r->m, key, value, e) : err_nomem(e, dims.n);
    }
    buf_free(&dims);
    return st;
}

struct order { /* of indices, checked as they pass */
    const struct sparse *s;
    const struct tensor *t;
    size_t rank; /* numbers of one index */
    uint64_t size;
    uint64_t now[VIEW_MAX_AXES], before[VIEW_MAX_AXES];
    size_t d;
    bool any;
};

static enum status bad_sparse(const struct tensor *t, const char *code, const char *why,
                              struct err *e)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(t->decl), t->offset);
    err_in(e, t->name.p, t->name.n);
    return ST_INPUT;
}

static enum status check_block(void *ctx, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
    struct order *o = ctx;
    (void)at;
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t v = 0, limit = o->rank == 1 && o->s->n_shape != 1 ? o->size : o->s->shape[o->d];
        for (size_t k = 0; k < 8; k++)
            v |= (uint64_t)p[i + k] << 8 * k;
        if (v >= limit)
            return bad_sparse(o->t, "sparse-index", "an index lies outside the dense shape", e);
        o->now[o->d++] = v;
        if (o->d < o->rank)
            continue;
        o->d = 0;
        int c = 0;
        for (size_t k = 0; k < o->rank && c == 0; k++)
            c = o->now[k] < o->before[k] ? -1 : o->now[k] > o->before[k];
        if (o->any && c <= 0)
            return bad_sparse(o->t, "sparse-order", "indices are not in rising order", e);
        memcpy(o->before, o->now, o->rank * sizeof *o->now);
        o->any = true;
    }
    return ST_OK;
}

static enum status check_sparse(struct reader *r, const struct sparse *s, struct err *e)
{
    const struct tensor *v = &r->m->tensor[s->values], *x = &r->m->tensor[s->indices];
    const struct storage *st = &r->m->storage[x->storage];
    struct order o = {.s = s, .t = x, .rank = x->n_dims == 2 ? s->n_shape : 1};
    uint64_t bytes, limit, bits = dtype_info(v->dtype)->bits;
    if (x->dtype != DT_I64 || v->n_dims != 1 || x->n_dims < 1 || x->n_dims > 2 ||
        x->dim[0] != v->dim[0] || (x->n_dims == 2 && x->dim[1] != s->n_shape))
        return bad_sparse(x, "sparse-shape", "indices and values of a sparse tensor do not fit", e);
    if (!prod_u64(s->shape, s->n_shape, &o.size) || !mul_u64(o.size, bits, &bytes))
        return bad_sparse(v, "shape-overflow", "the dense shape is too large", e);
    if (!mul_u64(file_size(r->f), SPARSE_RATIO, &limit) || limit < SPARSE_MAX_BYTES)
        limit = SPARSE_MAX_BYTES;
    if (bytes / 8 > limit)
        return bad_sparse(v, "sparse-size", "the dense tensor is too large for this file", e);
    bool quick = r->opt->quick && st->raw_bytes > ONNX_SMALL;
    if (quick || (st->kind == STORAGE_MEMORY && !st->mem) || o.rank == 0)
        return ST_OK;
    return onnx_each_block(st, check_block, &o, e);
}

/* ---- the walk ---- */

static enum status add_tensor(struct reader *r, const struct onnx_item *it, struct err *e)
{
    struct onnx_tensor x;
    struct storage *s, st;
    struct tensor *t;
    uint32_t index;
    struct str name;
    TRY(onnx_tensor_read(&it->tensor, true, r->a, &x, e));
    if (x.dtype == DT_NONE) { /* strings stay in the graph */
        if (it->part)
            (void)proto_fail(&it->tensor, "unknown-dtype", "a sparse tensor of strings");
        return cur_ok(&r->c, e);
    }
    TRY(name_of(r, it, &x, &name, e));
    TRY(storage_of(r, it, &x, &st, e));
    TRY(model_storage_add(r->m, &s, &index, e));
    *s = st;
    TRY(model_tensor_add(r->m, &t, e));
    t->name = name;
    t->dtype = x.dtype;
    t->storage = index;
    t->unpacked = x.unpacked;
    t->order = r->m->n_tensors - 1;
    t->requires_grad = true;
    t->decl = r->f;
    t->offset = it->at;
    TRY(tensor_set_shape(r->m, t, x.dim, x.n_dims, e));
    if (x.external)
        TRY(add_external(r, it, &x, name, e));
    if (it->part)
        TRY(note_sparse(r, it, e));
    return r->opt->weights_only || r->opt->scan ? ST_OK : add_edit(r, it, e);
}

/* ---- the container's own words ---- */

static enum status meta(struct reader *r, struct str key, struct str value, struct err *e)
{
    return key.p && value.p ? model_meta_add(r->m, key, value, e) : err_nomem(e, 64);
}

static enum status meta_pair(struct reader *r, const struct proto *from, bool opset, struct err *e)
{
    struct proto m;
    struct str key = STR(""), value = STR("");
    if (!proto_sub(from, &m))
        return cur_ok(&r->c, e);
    while (proto_next(&m))
        if (m.field == 1)
            key = proto_str(&m, r->a);
        else if (m.field == 2 && opset)
            value = arena_fmt(r->a, "%lld", (long long)proto_i64(&m));
        else if (m.field == 2)
            value = proto_str(&m, r->a);
    TRY(cur_ok(&r->c, e));
    if (opset)
        key = arena_fmt(r->a, "onnx.opset.%.*s", STR_ARG(key.n ? key : STR("ai.onnx")));
    return meta(r, key, value, e);
}

static enum status read_meta(struct reader *r, struct err *e)
{
    static const struct {
        uint32_t field;
        const char *key;
    } named[] = {{1, "onnx.ir_version"}, {2, "onnx.producer_name"}, {3, "onnx.producer_version"},
                 {4, "onnx.domain"},     {5, "onnx.model_version"}, {6, "onnx.doc_string"}};
    struct proto m;
    bool opset = false;
    cur_seek(&r->c, 0);
    proto_init(&m, &r->c, r->c.end);
    while (proto_next(&m)) {
        opset = opset || m.field == 8 || (m.field == 1 && m.u < OPSET_SINCE);
        if (m.field == 8 || m.field == 14)
            TRY(meta_pair(r, &m, m.field == 8, e));
        for (size_t i = 0; i < sizeof named / sizeof *named; i++)
            if (m.field == named[i].field && (m.wire == PROTO_VARINT || m.n > 0))
                TRY(meta(r, str_from(named[i].key),
                         m.field == 1 || m.field == 5
                             ? arena_fmt(r->a, "%lld", (long long)proto_i64(&m))
                             : proto_str(&m, r->a),
                         e));
    }
    if (!opset)
        (void)cur_fail(&r->c, r->c.end, "no-opset", "the model names no set of operators");
    return cur_ok(&r->c, e);
}

/* ---- the graph ---- */

static enum status keep_piece(void *ctx, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
    return keep_block((uint8_t *)ctx + onnx_mark_bytes, p, n, at, e);
}

static enum status keep_graph(struct reader *r, struct err *e)
{
    struct onnx_edit *edit = (struct onnx_edit *)(void *)r->edit.p;
    struct onnx_rewrite w = {.span = onnx_spans(&r->walk),
                             .n_spans = onnx_n_spans(&r->walk),
                             .edit = edit,
                             .n_edits = r->edit.n / sizeof *edit,
                             .to = r->c.end};
    const uint8_t *head = r->rest.p;
    struct attachment *a;
    for (size_t i = 0; i < w.n_edits; i++) {
        edit[i].head = head;
        head += edit[i].head_n;
    }
    TRY(onnx_rewrite_measure(&w, r->a, e));
    uint8_t *mem = arena_alloc(r->a, 1, (size_t)w.size + onnx_mark_bytes);
    if (!mem)
        return err_nomem(e, w.size);
    memcpy(mem, onnx_mark, onnx_mark_bytes);
    TRY(onnx_rewrite_emit(&w, &r->c, keep_piece, mem, e));
    TRY(model_attach(r->m, &a, e));
    *a = (struct attachment){.name = STR(ONNX_GRAPH),
                             .media_type = STR("application/x-protobuf"),
                             .n_bytes = w.size + onnx_mark_bytes,
                             .mem = mem};
    return ST_OK;
}

/* ---- scan ---- */

static void on_notice(void *ctx, const char *what, uint64_t at, struct str text)
{
    struct reader *r = ctx;
    char name[200], line[400];
    bool python = strcmp(what, "python-op") == 0;
    err_escape(text.p, text.n, name, sizeof name);
    (void)snprintf(line, sizeof line, "%s '%s'",
                   python                            ? "an operator that runs Python code:"
                   : strcmp(what, "domain") == 0     ? "operators of the custom domain"
                   : strcmp(what, "ep-context") == 0 ? "a compiled part for one device:"
                                                     : "a function of the model's own:",
                   name);
    r->opt->finding(r->opt->finding_ctx, python,
                    strcmp(what, "domain") == 0 ? "custom-domain" : what, at, line);
}

static enum status read_all(struct reader *r, struct source *s, struct err *e)
{
    struct onnx_item it;
    bool more;
    for (;;) {
        TRY(onnx_walk_next(&r->walk, &it, &more, e));
        if (!more)
            break;
        TRY(add_tensor(r, &it, e));
    }
    if (!r->walk.graph_seen)
        (void)cur_fail(&r->c, r->c.end, "truncated", "the model has no graph");
    TRY(cur_ok(&r->c, e));
    TRY(read_meta(r, e));
    TRY(onnx_external_place(s, r->f, (struct onnx_external *)(void *)r->external.p,
                            r->external.n / sizeof(struct onnx_external), r->opt, r->m, e));
    TRY(model_finish(r->m, e));
    for (size_t i = 0; i < r->sparse.n / sizeof(struct sparse); i++)
        TRY(check_sparse(r, (struct sparse *)(void *)r->sparse.p + i, e));
    if (!r->opt->weights_only && !r->opt->scan)
        TRY(keep_graph(r, e));
    return roles_by_name(r->m, e);
}

enum status onnx_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e)
{
    struct reader r = {.m = m, .f = s->file, .a = &m->arena, .opt = opt};
    s->file = NULL;
    m->format = "onnx";
    TRY(model_own_file(m, r.f, e));
    cur_file(&r.c, r.f, 0, file_size(r.f));
    onnx_walk_init(&r.walk, &r.c);
    if (opt->scan && opt->finding) {
        r.walk.notice = on_notice;
        r.walk.notice_ctx = &r;
    }
    enum status st = read_all(&r, s, e);
    onnx_walk_free(&r.walk);
    cur_close(&r.c);
    buf_free(&r.external);
    buf_free(&r.edit);
    buf_free(&r.rest);
    buf_free(&r.sparse);
    return st;
}
