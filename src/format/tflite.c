/* TensorFlow Lite: one FlatBuffer (codec/flatbuf.h), read only for its weights.
 *
 *   4                 "TFL3"
 *   Model             0 version u32 (3), 1 operator_codes, 2 subgraphs, 3 description, 4 buffers,
 *                     6 metadata {0 name, 1 buffer u32}, 8 external_buffer_groups,
 *                     9 external_buffers
 *   OperatorCode      1 custom_code
 *   SubGraph          0 tensors, 4 name
 *   Tensor            0 shape [i32], 1 type i8, 2 buffer u32, 3 name, 4 quantization, 6 sparsity,
 *                     10 external_buffer u32
 *   Buffer            0 data [u8]; or, for files over 2 GiB, 1 offset u64, 2 size u64 of bytes from
 *                     the file's start, behind the FlatBuffer
 *   QuantizationParameters  2 scale [f32], 3 zero_point [i64], 4 details_type u8,
 *                     6 quantized_dimension i32
 *
 * A tensor with bytes in its buffer is a weight, little-endian in C order, below 8 bits packed with
 * the lowest bits first; the others are what a run computes. Tensors of one buffer are tied. Names:
 * as they stand in the first subgraph, behind subgraph_N. in the others; tensor_N where there is
 * none; a name that stands twice gets #N, N being the tensor's number. What quantisation needs is
 * carried as NAME.scale and NAME.zero_point, its dimension in the metadata. String tensors and
 * metadata buffers are attachments. The graph itself is not carried.
 * Source: google-ai-edge/LiteRT, tflite/converter/schema/schema.fbs.
 *
 * Refused: what codec/flatbuf.h refuses, tflite-version, tflite-sparse, tflite-external-buffer,
 * tflite-buffer, unknown-dtype, bad-shape, shape-overflow, size-mismatch, too-many-tensors,
 * bad-name.
 */
#include "base/checked.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/flatbuf.h"
#include "format/format.h"
#include "model/roles.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 262144u
#define NAME_MAX_BYTES 65535u
#define TYPE_STRING 5

static const enum dtype types[] = {
    DT_F32, DT_F16, DT_I32,  DT_U8,   DT_I64, DT_NONE,      DT_BOOL,    DT_I16,
    DT_C64, DT_I8,  DT_F64,  DT_C128, DT_U64, DT_NONE,      DT_NONE,    DT_U32,
    DT_U16, DT_I4,  DT_BF16, DT_I2,   DT_U4,  DT_F8_E4M3FN, DT_F8_E5M2,
};

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    if (s->head_n >= 8 && memcmp(s->head + 4, "TFL3", 4) == 0)
        return 90;
    return str_ends(str_from(s->path), STR(".tflite")) ? 1 : 0;
}

struct reader {
    struct model *m;
    struct file *f;
    const struct read_opt *opt;
    struct cursor c;
    struct flat_vector buffers;
    uint32_t *storage; /* per buffer: its storage + 1, 0 = none yet */
    uint64_t n_seen, name_bytes;
    bool has_external;
};

static enum status refuse(struct reader *r, uint64_t at, struct str name, const char *code,
                          const char *why, struct err *e)
{
    (void)cur_fail(&r->c, at, code, "%s", why);
    enum status st = cur_ok(&r->c, e);
    err_in(e, name.p, name.n);
    return st;
}

/* ---- buffers ---- */

struct range {
    uint64_t at, n;
};

static enum status buffer_range(struct reader *r, uint64_t index, struct range *out, struct err *e)
{
    *out = (struct range){0, 0};
    if (index >= r->buffers.n) {
        (void)cur_fail(&r->c, r->buffers.at, "tflite-buffer", "there is no buffer %llu",
                       (unsigned long long)index);
        return cur_ok(&r->c, e);
    }
    struct flat_table b = flat_element_table(&r->buffers, index);
    struct flat_vector data = flat_vector(&b, 0, 1);
    uint64_t offset = flat_number(&b, 1, 8, 0), size = flat_number(&b, 2, 8, 0);
    TRY(cur_ok(&r->c, e));
    *out = (struct range){data.at, data.n};
    if (offset > 1 && size > 1) {
        if (data.n > 0 || !range_in(offset, size, r->c.end))
            (void)cur_fail(&r->c, b.at, "tflite-buffer",
                           data.n ? "a buffer lies both inside and outside"
                                  : "a buffer outside ends behind the file");
        *out = (struct range){offset, size};
    }
    return cur_ok(&r->c, e);
}

static enum status add_storage(struct reader *r, struct range q, uint32_t *index, struct err *e)
{
    struct storage *s;
    TRY(model_storage_add(r->m, &s, index, e));
    *s = (struct storage){
        .kind = STORAGE_FLAT, .file = r->f, .offset = q.at, .stored_bytes = q.n, .raw_bytes = q.n};
    return ST_OK;
}

static enum status attach(struct reader *r, const char *folder, struct str name, struct range q,
                          struct err *e)
{
    struct attachment *a;
    if (r->opt->weights_only)
        return ST_OK;
    TRY(model_attach(r->m, &a, e));
    *a = (struct attachment){.name = arena_fmt(&r->m->arena, "%s/%.*s", folder, STR_ARG(name)),
                             .media_type = STR("application/octet-stream"),
                             .file = r->f,
                             .offset = q.at,
                             .n_bytes = q.n};
    return a->name.p ? ST_OK : err_nomem(e, name.n);
}

/* ---- tensors ---- */

static enum status name_of(struct reader *r, const struct flat_table *t, uint64_t subgraph,
                           uint64_t index, struct str *out, struct err *e)
{
    struct arena *a = &r->m->arena;
    struct flat_vector v = flat_string(t, 3);
    TRY(cur_ok(&r->c, e));
    /* many tables may share one string: they must not take more than the file */
    r->name_bytes += v.n;
    if (v.n > NAME_MAX_BYTES || r->name_bytes > r->c.end)
        return refuse(r, t->at, STR_NONE, "bad-name", "names are too long", e);
    struct str s = v.n ? flat_text(t, 3, a) : STR("");
    TRY(cur_ok(&r->c, e));
    if (s.n == 0)
        s = arena_fmt(a, "tensor_%llu", (unsigned long long)index);
    if (s.p && subgraph > 0)
        s = arena_fmt(a, "subgraph_%llu.%.*s", (unsigned long long)subgraph, STR_ARG(s));
    *out = s;
    return s.p ? ST_OK : err_nomem(e, v.n);
}

static enum status shape_of(struct reader *r, const struct flat_table *t, struct str name,
                            struct view *v, struct err *e)
{
    struct flat_vector shape = flat_vector(t, 0, 4);
    uint64_t dim[VIEW_MAX_AXES];
    if (shape.n > VIEW_MAX_AXES)
        return refuse(r, t->at, name, "bad-shape", "more than 64 dimensions", e);
    for (uint64_t d = 0; d < shape.n; d++) {
        dim[d] = flat_element(&shape, d, 4);
        if (dim[d] > INT32_MAX)
            return refuse(r, t->at, name, "bad-shape", "a dimension below 0", e);
    }
    TRY(cur_ok(&r->c, e));
    if (view_c(v, dim, (size_t)shape.n, NULL) != ST_OK)
        return refuse(r, t->at, name, "shape-overflow", "the product of the shape is too large", e);
    return ST_OK;
}

static enum status add_tensor(struct reader *r, uint64_t at, struct str name, enum dtype dtype,
                              uint32_t storage, const struct view *v, struct err *e)
{
    struct tensor *t;
    if (r->m->n_tensors == MAX_TENSORS)
        return refuse(r, at, name, "too-many-tensors", "more tensors than this reader takes", e);
    TRY(model_tensor_add(r->m, &t, e));
    t->name = name;
    t->dtype = dtype;
    t->storage = storage;
    t->order = r->m->n_tensors - 1;
    t->requires_grad = true;
    t->decl = r->f;
    t->offset = at;
    return tensor_set_view(r->m, t, v, e);
}

/* A plain vector of the file as a tensor beside the one it belongs to. */
static enum status companion(struct reader *r, uint64_t at, struct str of, const char *what,
                             struct flat_vector v, enum dtype dtype, struct err *e)
{
    struct view view;
    uint32_t storage;
    struct str name = arena_fmt(&r->m->arena, "%.*s.%s", STR_ARG(of), what);
    if (!name.p)
        return err_nomem(e, of.n);
    TRY(view_c(&view, &v.n, 1, e));
    TRY(add_storage(r, (struct range){v.at, v.n * dtype_bytes(dtype)}, &storage, e));
    TRY(add_tensor(r, at, name, dtype, storage, &view, e));
    r->m->tensor[r->m->n_tensors - 1].note = STR("of a quantised tensor");
    return ST_OK;
}

static enum status quantization(struct reader *r, const struct flat_table *t, struct str name,
                                struct err *e)
{
    struct flat_table q = flat_sub(t, 4);
    struct flat_vector scale = flat_vector(&q, 2, 4), zero = flat_vector(&q, 3, 8);
    uint64_t details = flat_number(&q, 4, 1, 0), axis = flat_number(&q, 6, 4, 0);
    struct tensor *own = &r->m->tensor[r->m->n_tensors - 1];
    TRY(cur_ok(&r->c, e));
    if (details != 0)
        own->note = STR("quantised in a way that is not carried");
    if (scale.n == 0)
        return ST_OK;
    own->note = scale.n > 1 ? arena_fmt(&r->m->arena, "quantised along dimension %lld",
                                        (long long)(int32_t)(uint32_t)axis)
                            : STR("quantised");
    if (!own->note.p)
        return err_nomem(e, 64);
    TRY(companion(r, t->at, name, "scale", scale, DT_F32, e));
    if (zero.n > 0)
        TRY(companion(r, t->at, name, "zero_point", zero, DT_I64, e));
    if (scale.n == 1)
        return ST_OK;
    struct str key = arena_fmt(&r->m->arena, "tflite.quantized_dimension.%.*s", STR_ARG(name));
    struct str value = arena_fmt(&r->m->arena, "%lld", (long long)(int32_t)(uint32_t)axis);
    return key.p && value.p ? model_meta_add(r->m, key, value, e) : err_nomem(e, name.n);
}

static enum status read_tensor(struct reader *r, const struct flat_table *t, uint64_t subgraph,
                               uint64_t index, struct err *e)
{
    uint64_t type = flat_number(t, 1, 1, 0), buffer = flat_number(t, 2, 4, 0), bits;
    struct range q;
    struct view v;
    struct str name;
    TRY(buffer_range(r, buffer, &q, e));
    bool sparse = flat_sub(t, 6).at != 0;
    bool external = r->has_external && flat_number(t, 10, 4, 0) != 0;
    TRY(cur_ok(&r->c, e));
    if (q.n == 0 && !sparse && !external)
        return ST_OK; /* computed when the model runs */
    TRY(name_of(r, t, subgraph, index, &name, e));
    if (sparse)
        return refuse(r, t->at, name, "tflite-sparse", "a sparse tensor", e);
    if (external)
        return refuse(r, t->at, name, "tflite-external-buffer", "a tensor in another file", e);
    if (type == TYPE_STRING)
        return attach(r, "tflite/strings", name, q, e);
    enum dtype dtype = type < sizeof types / sizeof *types ? types[type] : DT_NONE;
    if (dtype == DT_NONE)
        return refuse(r, t->at, name, "unknown-dtype", "a type that no weight has", e);
    TRY(shape_of(r, t, name, &v, e));
    if (!mul_u64(view_elems(&v), dtype_info(dtype)->bits, &bits))
        return refuse(r, t->at, name, "shape-overflow", "the tensor's size is too large", e);
    if (bits / 8 + (bits % 8 != 0) != q.n)
        return refuse(r, t->at, name, "size-mismatch", "the buffer is not what the shape needs", e);
    if (r->storage[buffer] == 0) {
        uint32_t s;
        TRY(add_storage(r, q, &s, e));
        r->storage[buffer] = s + 1;
    }
    TRY(add_tensor(r, t->at, name, dtype, r->storage[buffer] - 1, &v, e));
    return quantization(r, t, name, e);
}

/* ---- names that stand twice ---- */

static int by_name(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a,
                        *y = *(const struct tensor *const *)b;
    int c = str_cmp(x->name, y->name);
    return c != 0 ? c : x->order < y->order ? -1 : x->order > y->order;
}

static enum status tell_apart(struct reader *r, struct err *e)
{
    struct model *m = r->m;
    struct tensor **list = mem_zalloc(m->n_tensors + 1, sizeof *list);
    enum status st = ST_OK;
    if (!list)
        return err_nomem(e, m->n_tensors * sizeof *list);
    for (size_t i = 0; i < m->n_tensors; i++)
        list[i] = &m->tensor[i];
    if (m->n_tensors)
        qsort(list, m->n_tensors, sizeof *list, by_name);
    struct str before = STR_NONE;
    bool told = false;
    for (size_t i = 0; i < m->n_tensors && st == ST_OK; i++) {
        struct str name = list[i]->name;
        if (i > 0 && str_eq(name, before)) {
            if (!told)
                log_warn("%s: names-twice: tensors have one name, '%.*s'; they are numbered",
                         file_path(r->f), STR_ARG(name));
            told = true;
            list[i]->name = arena_fmt(&m->arena, "%.*s#%llu", STR_ARG(name),
                                      (unsigned long long)list[i]->order);
            if (!list[i]->name.p)
                st = err_nomem(e, name.n);
        }
        before = name;
    }
    mem_free(list);
    return st;
}

/* ---- the model ---- */

/* Tables may be shared, so it is their number that is bounded, before any is looked at. */
static enum status count(struct reader *r, const struct flat_vector *v, struct err *e)
{
    TRY(cur_ok(&r->c, e));
    if (v->n > MAX_TENSORS || (r->n_seen += v->n) > MAX_TENSORS)
        return refuse(r, v->at, STR_NONE, "too-many-tensors", "more tables than this reader takes",
                      e);
    return ST_OK;
}

static enum status read_subgraphs(struct reader *r, const struct flat_table *model, struct err *e)
{
    struct flat_vector graphs = flat_vector(model, 2, 4);
    TRY(count(r, &graphs, e));
    for (uint64_t g = 0; g < graphs.n; g++) {
        struct flat_table graph = flat_element_table(&graphs, g);
        struct flat_vector tensors = flat_vector(&graph, 0, 4);
        TRY(count(r, &tensors, e));
        for (uint64_t i = 0; i < tensors.n; i++) {
            struct flat_table t = flat_element_table(&tensors, i);
            TRY(cur_ok(&r->c, e));
            TRY(read_tensor(r, &t, g, i, e));
        }
    }
    return ST_OK;
}

static bool runs_code(struct str op)
{
    return str_is(op, "FlexPyFunc") || str_is(op, "FlexEagerPyFunc") ||
           str_is(op, "FlexPyFuncStateless") || str_is(op, "FlexReadFile") ||
           str_is(op, "FlexWriteFile");
}

/* Read even where nobody asks, so that a file cut short is noticed. */
static enum status read_operators(struct reader *r, const struct flat_table *model, struct err *e)
{
    struct flat_vector ops = flat_vector(model, 1, 4);
    char name[200], line[300];
    TRY(count(r, &ops, e));
    for (uint64_t i = 0; i < ops.n; i++) {
        struct flat_table op = flat_element_table(&ops, i);
        struct flat_vector custom = flat_string(&op, 1);
        TRY(cur_ok(&r->c, e));
        if (custom.n == 0 || custom.n > 1000 || !r->opt->scan || !r->opt->finding)
            continue;
        struct str text = flat_text(&op, 1, &r->m->arena);
        TRY(cur_ok(&r->c, e));
        bool unsafe = runs_code(text);
        err_escape(text.p, text.n, name, sizeof name);
        (void)snprintf(
            line, sizeof line, "%s '%s'",
            unsafe ? "an operator that runs code or touches files:" : "a custom operator:", name);
        r->opt->finding(r->opt->finding_ctx, unsafe, unsafe ? "code-op" : "custom-op", op.at, line);
    }
    return ST_OK;
}

static enum status read_meta(struct reader *r, const struct flat_table *model, struct err *e)
{
    struct arena *a = &r->m->arena;
    struct flat_vector list = flat_vector(model, 6, 4);
    struct str text = flat_text(model, 3, a);
    TRY(count(r, &list, e));
    if (text.n)
        TRY(model_meta_add(r->m, STR("tflite.description"), text, e));
    for (uint64_t i = 0; i < list.n; i++) {
        struct flat_table t = flat_element_table(&list, i);
        struct range q;
        TRY(cur_ok(&r->c, e));
        TRY(buffer_range(r, flat_number(&t, 1, 4, 0), &q, e));
        r->name_bytes += flat_string(&t, 0).n;
        if (r->name_bytes > r->c.end)
            return refuse(r, t.at, STR_NONE, "bad-name", "names are too long", e);
        struct str name = flat_text(&t, 0, a);
        TRY(cur_ok(&r->c, e));
        if (q.n > 0 && name.n > 0)
            TRY(attach(r, "tflite/metadata", name, q, e));
    }
    return ST_OK;
}

static enum status read_model(struct reader *r, struct err *e)
{
    cur_seek(&r->c, 4);
    const uint8_t *magic = cur_take(&r->c, 4);
    if (magic && memcmp(magic, "TFL3", 4) != 0)
        (void)cur_fail(&r->c, 4, "tflite-version", "the file identifier is not TFL3");
    TRY(cur_ok(&r->c, e));
    struct flat_table model = flat_root(&r->c);
    uint64_t version = flat_number(&model, 0, 4, 0);
    r->buffers = flat_vector(&model, 4, 4);
    r->has_external = flat_vector(&model, 9, 4).n > 0;
    if (!cur_failed(&r->c) && version != 3)
        (void)cur_fail(&r->c, model.at, "tflite-version", "version %llu where 3 is known",
                       (unsigned long long)version);
    TRY(cur_ok(&r->c, e));
    r->storage = mem_zalloc((size_t)r->buffers.n + 1, sizeof *r->storage);
    if (!r->storage)
        return err_nomem(e, r->buffers.n);
    TRY(read_subgraphs(r, &model, e));
    TRY(read_meta(r, &model, e));
    TRY(read_operators(r, &model, e));
    TRY(tell_apart(r, e));
    TRY(model_finish(r->m, e));
    return roles_by_name(r->m, e);
}

static enum status read_file(struct source *s, const struct read_opt *opt, struct model *m,
                             struct err *e)
{
    struct reader r = {.m = m, .f = s->file, .opt = opt};
    s->file = NULL;
    m->format = "tflite";
    TRY(model_own_file(m, r.f, e));
    cur_file(&r.c, r.f, 0, file_size(r.f));
    enum status st = read_model(&r, e);
    mem_free(r.storage);
    cur_close(&r.c);
    return st;
}

const struct format tflite_format = {
    .name = "tflite",
    .title = "TensorFlow Lite model, its weights",
    .suffix = {".tflite", NULL},
    .reads = true,
    .refuses = "references that leave the buffer, buffers of another size than the shape, sparse "
               "tensors, tensors in other files, versions other than 3",
    .bid = bid,
    .read = read_file,
};
