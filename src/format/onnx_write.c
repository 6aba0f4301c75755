/* ONNX, writing: a graph that waits for its numbers, the one that came along or one made of
 * initializers alone, is walked; every TensorProto in it becomes one with its numbers in raw_data
 * or in an external file, and the lengths around it grow. The engine writes the numbers.
 */
#include "base/checked.h"
#include "base/log.h"
#include "format/attach.h"
#include "format/hf_index.h"
#include "format/onnx.h"
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX ((uint64_t)0x7fffffff) /* what protobuf takes */
#define INLINE_BYTES 1024u                 /* in a folder: smaller tensors stay in the model */
#define LARGE_BYTES ((uint64_t)1 << 20)    /* mapped by runtimes: at allocation granularity */
#define LARGE_ALIGN ((uint64_t)65536)
#define SMALL_ALIGN ((uint64_t)64)

struct out_tensor {
    uint32_t tensor;
    uint64_t bytes;
    bool external;
    uint32_t shard; /* external */
    uint64_t at;    /* in its shard */
};
struct layout {
    bool folder;
    const struct attachment *graph; /* the one that is filled, or NULL */
    struct buf made;                /* ... else this */
    struct cursor c;
    struct onnx_walk walk;
    struct buf head;       /* of all edits, one behind the other */
    struct buf edit, outs; /* struct onnx_edit, struct out_tensor, alike in number */
    struct onnx_rewrite w;
    struct str *shard_name;
    uint64_t *shard_bytes;
    size_t n_shards;
};

static struct onnx_edit *edits(struct layout *x)
{
    return (struct onnx_edit *)(void *)x->edit.p;
}
static struct out_tensor *outs(struct layout *x)
{
    return (struct out_tensor *)(void *)x->outs.p;
}
static size_t n_outs(const struct layout *x)
{
    return x->outs.n / sizeof(struct out_tensor);
}

static void layout_free(struct layout *x)
{
    onnx_walk_free(&x->walk);
    cur_close(&x->c);
    buf_free(&x->made);
    buf_free(&x->head);
    buf_free(&x->edit);
    buf_free(&x->outs);
}

static enum status cannot(const struct tensor *t, const char *code, const char *why, struct err *e)
{
    (void)err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
}

/* Packed; the last byte may be filled in part. */
static enum status bytes_of(const struct tensor *t, uint64_t *out, struct err *e)
{
    uint64_t bits;
    if (!mul_u64(tensor_elems(t), dtype_info(t->dtype)->bits, &bits))
        return cannot(t, "too-large", "the tensor is too large", e);
    *out = bits / 8 + (bits % 8 != 0);
    return ST_OK;
}

/* ---- a graph of initializers alone ---- */

/* Operator sets that came with the format's versions from 8 on. */
static const uint8_t opset[] = {17, 19, 21, 23, 24, 25, 28};
#define ONNX_IR_KNOWN (8 + sizeof opset)

static struct str meta_get(const struct model *m, const char *key, struct str otherwise)
{
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, key))
            return m->meta[i].value;
    return otherwise;
}

static bool own_meta(struct str key)
{
    return str_starts(key, STR("onnx.opset.")) || str_is(key, "onnx.ir_version") ||
           str_is(key, "onnx.producer_name") || str_is(key, "onnx.producer_version") ||
           str_is(key, "onnx.domain") || str_is(key, "onnx.model_version") ||
           str_is(key, "onnx.doc_string");
}

static int by_key(const void *a, const void *b)
{
    const struct meta *x = *(const struct meta *const *)a, *y = *(const struct meta *const *)b;
    int c = str_cmp(x->key, y->key);
    return c != 0 ? c : x < y ? -1 : x > y;
}

/* The first of a doubled key stays. */
static enum status put_meta(const struct model *m, struct buf *b, struct arena *a, struct err *e)
{
    const struct meta **list = ARENA_ARRAY(a, const struct meta *, m->n_meta + 1);
    struct buf kv = BUF_INIT;
    if (!list)
        return err_nomem(e, m->n_meta * sizeof *list);
    for (size_t i = 0; i < m->n_meta; i++)
        list[i] = &m->meta[i];
    if (m->n_meta)
        qsort(list, m->n_meta, sizeof *list, by_key);
    for (size_t i = 0; i < m->n_meta; i++) {
        if ((i > 0 && str_eq(list[i - 1]->key, list[i]->key)) || own_meta(list[i]->key))
            continue;
        buf_clear(&kv);
        proto_w_str(&kv, 1, list[i]->key);
        proto_w_str(&kv, 2, list[i]->value);
        proto_w_sub(b, 14, &kv);
    }
    b->failed |= kv.failed;
    buf_free(&kv);
    return ST_OK;
}

static void put_initializer(const struct tensor *t, struct buf *graph, struct buf *b)
{
    buf_clear(b);
    for (size_t d = 0; d < t->n_dims; d++)
        proto_w_u64(b, 1, t->dim[d]);
    proto_w_i64(b, 2, onnx_data_type(t->dtype));
    proto_w_str(b, 8, t->name);
    proto_w_sub(graph, 5, b);
}

static enum status make_graph(const struct model *m, struct buf *b, struct arena *a, struct err *e)
{
    struct buf graph = BUF_INIT, t = BUF_INIT;
    unsigned ir = 8;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (onnx_ir_version(m->tensor[i].dtype) > ir)
            ir = onnx_ir_version(m->tensor[i].dtype);
    proto_w_str(&graph, 2, STR("weights"));
    for (size_t i = 0; i < m->n_tensors; i++)
        put_initializer(&m->tensor[i], &graph, &t);
    buf_clear(&t);
    proto_w_str(&t, 1, STR(""));
    proto_w_u64(&t, 2, ir < ONNX_IR_KNOWN ? opset[ir - 8] : opset[ONNX_IR_KNOWN - 9]);
    proto_w_u64(b, 1, ir);
    proto_w_str(b, 2, meta_get(m, "onnx.producer_name", STR("nnferry")));
    proto_w_sub(b, 7, &graph);
    proto_w_sub(b, 8, &t);
    enum status st = put_meta(m, b, a, e);
    b->failed |= t.failed;
    buf_free(&graph);
    buf_free(&t);
    return st == ST_OK ? buf_ok(b, e) : st;
}

/* ---- tensors and their places ---- */

static enum status name_of(const struct onnx_item *it, const struct onnx_tensor *t, struct buf *b,
                           struct err *e)
{
    buf_clear(b);
    buf_bytes(b, it->prefix, it->prefix_n);
    if (it->own_name)
        buf_str(b, t->name);
    return buf_ok(b, e);
}

static bool is_same(const struct tensor *t, const struct onnx_tensor *x)
{
    bool same = t->dtype == x->dtype && t->n_dims == x->n_dims;
    for (size_t d = 0; same && d < x->n_dims; d++)
        same = t->dim[d] == x->dim[d];
    return same;
}

/* Walks the graph. *misfit: a tensor of it is not in the model (or not as it was), or the model has
 * one more. */
static enum status match(const struct model *m, struct layout *x, struct arena *a, bool *misfit,
                         struct err *e)
{
    struct onnx_item it;
    struct onnx_tensor t;
    struct buf name = BUF_INIT;
    bool more = true, *seen = ARENA_ARRAY(a, bool, m->n_tensors + 1);
    enum status st = seen ? ST_OK : err_nomem(e, m->n_tensors);
    *misfit = false;
    while (st == ST_OK && !*misfit) {
        st = onnx_walk_next(&x->walk, &it, &more, e);
        if (st != ST_OK || !more)
            break;
        st = onnx_tensor_read(&it.tensor, false, a, &t, e);
        if (st != ST_OK || t.dtype == DT_NONE)
            continue;
        st = name_of(&it, &t, &name, e);
        int64_t at = st == ST_OK ? model_find(m, buf_as_str(&name)) : -1;
        *misfit = at < 0 || seen[at] || !is_same(&m->tensor[at], &t);
        if (at >= 0)
            seen[at] = true;
        struct onnx_edit ed = {.at = it.at, .end = it.end, .span = it.span};
        struct out_tensor o = {.tensor = (uint32_t)at};
        if (st == ST_OK && !*misfit)
            st = bytes_of(&m->tensor[at], &o.bytes, e);
        buf_bytes(&x->edit, &ed, sizeof ed);
        buf_bytes(&x->outs, &o, sizeof o);
        if (st == ST_OK)
            st = buf_ok(&x->outs, e);
        if (st == ST_OK)
            st = buf_ok(&x->edit, e);
    }
    buf_free(&name);
    *misfit = *misfit || n_outs(x) != m->n_tensors;
    return st;
}

static enum status open_graph(const struct model *m, struct layout *x, struct arena *a,
                              bool *misfit, struct err *e)
{
    const struct attachment *g = x->graph;
    if (!g)
        cur_mem(&x->c, x->made.p, x->made.n, "the graph", 0);
    else if (g->mem)
        cur_mem(&x->c, g->mem, (size_t)g->n_bytes, ONNX_GRAPH, 0);
    else
        cur_file(&x->c, g->file, g->offset, g->n_bytes);
    onnx_walk_init(&x->walk, &x->c);
    return match(m, x, a, misfit, e);
}

static void close_graph(struct layout *x)
{
    onnx_walk_free(&x->walk);
    cur_close(&x->c);
    buf_clear(&x->edit);
    buf_clear(&x->outs);
    memset(&x->walk, 0, sizeof x->walk);
}

static const struct attachment *find_graph(const struct model *m)
{
    for (size_t i = 0; i < m->n_attachments; i++) {
        const struct attachment *g = &m->attachment[i];
        uint8_t head[32];
        if (!str_is(g->name, ONNX_GRAPH) || g->n_bytes < onnx_mark_bytes)
            continue;
        if (g->mem)
            memcpy(head, g->mem, onnx_mark_bytes);
        else if (file_pread(g->file, head, onnx_mark_bytes, g->offset, NULL) != ST_OK)
            continue;
        if (memcmp(head, onnx_mark, onnx_mark_bytes) == 0)
            return g;
    }
    return NULL;
}

bool onnx_graph_fits(const struct model *m, const struct attachment *a)
{
    struct layout x = {0};
    struct arena room = ARENA_INIT;
    bool misfit = false;
    if (!str_is(a->name, ONNX_GRAPH))
        return true;
    x.graph = find_graph(m);
    if (x.graph != a)
        return false; /* a file of that name that no reader of ours left */
    struct err why = {0};
    enum status st = open_graph(m, &x, &room, &misfit, &why);
    layout_free(&x);
    arena_free(&room);
    return st == ST_OK ? !misfit : st != ST_INPUT; /* the writer says what else is wrong */
}

static enum status choose_graph(const struct model *m, bool tell, struct layout *x, struct arena *a,
                                struct err *e)
{
    bool misfit = false;
    x->graph = find_graph(m);
    if (x->graph) {
        struct err why = {0};
        enum status st = open_graph(m, x, a, &misfit, &why);
        if (st == ST_OK && !misfit) {
            x->w.from = onnx_mark_bytes;
            return ST_OK;
        }
        if (st != ST_OK && st != ST_INPUT) {
            if (e)
                *e = why;
            return st;
        }
        if (tell)
            log_warn("graph-left-out: " ONNX_GRAPH " has other tensors than the model: "
                     "initializers alone are written");
        close_graph(x);
        x->graph = NULL;
    }
    TRY(make_graph(m, &x->made, a, e));
    if (x->made.n > MESSAGE_MAX)
        return err_set(e, ST_CANNOT, "too-large", "the names and shapes pass 2 GiB");
    TRY(open_graph(m, x, a, &misfit, e));
    return misfit ? err_set(e, ST_BUG, "onnx-graph", "a graph made of the model does not fit it")
                  : ST_OK;
}

/* In a folder: which tensors lie outside, in which file, where. */
static enum status place_external(const struct write_opt *opt, struct layout *x, struct arena *a,
                                  struct err *e)
{
    size_t n = n_outs(x), k = 0;
    uint64_t *bytes = ARENA_ARRAY(a, uint64_t, n + 1);
    uint32_t *shard = ARENA_ARRAY(a, uint32_t, n + 1);
    if (!bytes || !shard)
        return err_nomem(e, n * sizeof *bytes);
    for (size_t i = 0; i < n; i++)
        if (outs(x)[i].bytes >= INLINE_BYTES)
            bytes[k++] = outs(x)[i].bytes;
    if (k == 0)
        return ST_OK;
    x->n_shards = hf_shard_cut(bytes, k, opt->max_shard_size, shard);
    x->shard_name = ARENA_ARRAY(a, struct str, x->n_shards);
    x->shard_bytes = ARENA_ARRAY(a, uint64_t, x->n_shards);
    if (!x->shard_name || !x->shard_bytes)
        return err_nomem(e, x->n_shards * sizeof *x->shard_name);
    for (size_t s = 0; s < x->n_shards; s++)
        if (!(x->shard_name[s] = hf_shard_name(a, "model", ".onnx.data", s, x->n_shards)).p)
            return err_nomem(e, 64);
    for (size_t i = k = 0; i < n; i++) {
        struct out_tensor *o = &outs(x)[i];
        if (o->bytes < INLINE_BYTES)
            continue;
        o->external = true;
        o->shard = shard[k++];
        uint64_t *end = &x->shard_bytes[o->shard];
        if (!round_up_u64(*end, o->bytes >= LARGE_BYTES ? LARGE_ALIGN : SMALL_ALIGN, &o->at) ||
            !add_u64(o->at, o->bytes, end))
            return err_set(e, ST_CANNOT, "too-large", "the tensors pass 2^64 bytes");
    }
    return ST_OK;
}

static void put_pair(struct buf *b, struct buf *kv, const char *key, struct str value)
{
    buf_clear(kv);
    proto_w_str(kv, 1, str_from(key));
    proto_w_str(kv, 2, value);
    proto_w_sub(b, 13, kv);
}

static void put_place(const struct layout *x, const struct out_tensor *o, struct buf *b)
{
    struct buf kv = BUF_INIT, number = BUF_INIT;
    put_pair(b, &kv, "location", x->shard_name[o->shard]);
    buf_fmt(&number, "%llu", (unsigned long long)o->at);
    put_pair(b, &kv, "offset", buf_as_str(&number));
    buf_clear(&number);
    buf_fmt(&number, "%llu", (unsigned long long)o->bytes);
    put_pair(b, &kv, "length", buf_as_str(&number));
    proto_w_u64(b, 14, 1);
    b->failed |= kv.failed || number.failed;
    buf_free(&kv);
    buf_free(&number);
}

/* The head of every TensorProto: all fields but raw_data's bytes, which come last. */
static enum status make_heads(struct layout *x, struct err *e)
{
    struct buf body = BUF_INIT;
    enum status st = ST_OK;
    for (size_t i = 0; i < n_outs(x) && st == ST_OK; i++) {
        struct onnx_edit *ed = &edits(x)[i];
        const struct out_tensor *o = &outs(x)[i];
        struct proto field, tensor;
        size_t from = x->head.n;
        cur_seek(&x->c, ed->at);
        proto_init(&field, &x->c, ed->end);
        if (!proto_next(&field) || !proto_sub(&field, &tensor)) {
            st = cur_ok(&x->c, e);
            break;
        }
        buf_clear(&body);
        st = onnx_tensor_rest(&tensor, &body, e);
        if (o->external)
            put_place(x, o, &body);
        else
            proto_w_len(&body, 9, o->bytes);
        ed->data_bytes = o->external ? 0 : o->bytes;
        proto_w_len(&x->head, field.field, body.n + ed->data_bytes);
        buf_bytes(&x->head, body.p, body.n);
        x->head.failed |= body.failed;
        ed->head_n = x->head.n - from;
    }
    buf_free(&body);
    TRY(st);
    TRY(buf_ok(&x->head, e));
    const uint8_t *head = x->head.p;
    for (size_t i = 0; i < n_outs(x); i++) {
        edits(x)[i].head = head;
        head += edits(x)[i].head_n;
    }
    return ST_OK;
}

static enum status lay_out(const struct model *m, const struct write_opt *opt, bool tell,
                           struct arena *a, struct layout *x, struct err *e)
{
    x->folder = opt->max_shard_size > 0;
    TRY(choose_graph(m, tell, x, a, e));
    if (x->folder)
        TRY(place_external(opt, x, a, e));
    TRY(make_heads(x, e));
    x->w.span = onnx_spans(&x->walk);
    x->w.n_spans = onnx_n_spans(&x->walk);
    x->w.edit = edits(x);
    x->w.n_edits = n_outs(x);
    x->w.to = x->c.end;
    TRY(onnx_rewrite_measure(&x->w, a, e));
    if (x->w.size > MESSAGE_MAX)
        return err_set(e, ST_CANNOT, "too-large",
                       "one ONNX file holds at most 2 GiB: write a folder with --max-shard-size");
    return ST_OK;
}

/* ---- the writer ---- */

/* The attachments but the graph that is filled. */
static enum status others(const struct model *m, const struct layout *x, struct arena *a,
                          struct model *out, struct err *e)
{
    struct attachment *list = ARENA_ARRAY(a, struct attachment, m->n_attachments + 1);
    if (!list)
        return err_nomem(e, m->n_attachments * sizeof *list);
    *out = *m;
    out->attachment = list;
    out->n_attachments = 0;
    for (size_t i = 0; i < m->n_attachments; i++)
        if (&m->attachment[i] != x->graph)
            list[out->n_attachments++] = m->attachment[i];
    return ST_OK;
}

static enum status check_attachments(const struct model *m, const struct layout *x, struct arena *a,
                                     struct err *e)
{
    struct model rest;
    struct str *taken = ARENA_ARRAY(a, struct str, x->n_shards + 1);
    if (!taken)
        return err_nomem(e, x->n_shards * sizeof *taken);
    for (size_t s = 0; s < x->n_shards; s++)
        taken[s] = x->shard_name[s];
    taken[x->n_shards] = STR("model.onnx");
    TRY(others(m, x, a, &rest, e));
    return attach_check(&rest, taken, x->n_shards + 1, e);
}

static enum status check_tensor(const struct tensor *t, struct err *e)
{
    if (onnx_data_type(t->dtype) == 0) {
        (void)err_set(e, ST_CANNOT, "dtype", "ONNX has no type for %s", dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    return t->name.n == 0 ? cannot(t, "name", "ONNX has no tensor without a name", e) : ST_OK;
}

enum status onnx_check(const struct model *m, const struct write_opt *opt, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct layout x = {0};
    if (m->n_tensors > ONNX_MAX_TENSORS)
        return err_set(e, ST_CANNOT, "too-many-tensors", "more than %u tensors", ONNX_MAX_TENSORS);
    for (size_t i = 0; i < m->n_tensors; i++)
        TRY(check_tensor(&m->tensor[i], e));
    enum status st = lay_out(m, opt, true, &a, &x, e);
    if (st == ST_OK && x.folder)
        st = check_attachments(m, &x, &a, e);
    layout_free(&x);
    arena_free(&a);
    return st;
}

struct file_sink {
    struct out *out;
    int id;
};

static enum status put_piece(void *ctx, const uint8_t *p, size_t n, uint64_t at, struct err *e)
{
    const struct file_sink *f = ctx;
    return out_pwrite(f->out, f->id, p, n, at, e);
}

static enum status write_model(struct writer *w, struct layout *x, struct err *e)
{
    struct file_sink f = {.out = w->out};
    int *id = ARENA_ARRAY(&w->arena, int, x->n_shards + 1);
    struct model *rest = ARENA_NEW(&w->arena, struct model);
    if (!id || !rest)
        return err_nomem(e, x->n_shards * sizeof *id);
    TRY(out_add(w->out, x->folder ? STR("model.onnx") : STR(""), x->w.size, &f.id, e));
    for (size_t s = 0; s < x->n_shards; s++)
        TRY(out_add(w->out, x->shard_name[s], x->shard_bytes[s], &id[s], e));
    TRY(onnx_rewrite_emit(&x->w, &x->c, put_piece, &f, e));
    for (size_t i = 0; i < n_outs(x); i++) {
        const struct out_tensor *o = &outs(x)[i];
        w->order[i] = o->tensor;
        w->place[o->tensor] =
            o->external
                ? (struct place){.kind = PLACE_FIXED, .file = id[o->shard], .offset = o->at}
                : (struct place){.kind = PLACE_FIXED, .file = f.id, .offset = edits(x)[i].data_at};
    }
    TRY(others(w->m, x, &w->arena, rest, e));
    w->priv = x->folder ? rest : NULL; /* what is left to be written */
    return ST_OK;
}

enum status onnx_begin(struct writer *w, struct err *e)
{
    struct layout x = {0};
    enum status st = lay_out(w->m, &w->opt, false, &w->arena, &x, e);
    if (st == ST_OK)
        st = write_model(w, &x, e);
    layout_free(&x);
    return st;
}

enum status onnx_end(struct writer *w, struct err *e)
{
    const struct model *all = w->m;
    if (!w->priv)
        return ST_OK;
    w->m = w->priv;
    enum status st = attach_write(w, e);
    w->m = all;
    return st;
}
