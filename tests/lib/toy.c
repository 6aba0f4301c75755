#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void *place(struct model *m, const char *name, enum dtype type, const uint64_t *dim,
                   size_t n_dims, uint64_t n, uint32_t *index)
{
    struct err e = {0};
    struct storage *s;
    struct tensor *t;
    uint32_t at;
    size_t size = dtype_bytes(type);
    assert_int_equal(model_storage_add(m, &s, &at, &e), ST_OK);
    s->kind = STORAGE_MEMORY;
    s->raw_bytes = s->stored_bytes = n * size;
    uint8_t *p = arena_alloc(&m->arena, n ? n : 1, size);
    s->mem = p;
    assert_int_equal(model_tensor_add(m, &t, &e), ST_OK);
    t->name = arena_str(&m->arena, name, strlen(name));
    t->dtype = type;
    t->storage = at;
    assert_int_equal(tensor_set_shape(m, t, dim, n_dims, &e), ST_OK);
    t->order = m->n_tensors - 1;
    t->requires_grad = true;
    *index = (uint32_t)(m->n_tensors - 1);
    return p;
}

uint32_t toy_tensor(struct model *m, const char *name, double base, const uint64_t *dim,
                    size_t n_dims)
{
    uint64_t n = 1;
    uint32_t index;
    for (size_t d = 0; d < n_dims; d++)
        n *= dim[d];
    float *p = place(m, name, DT_F32, dim, n_dims, n, &index);
    for (uint64_t i = 0; i < n; i++)
        p[i] = (float)(base + (double)i);
    return index;
}

uint32_t toy_add(struct model *m, const char *name, double base, ...)
{
    uint64_t dim[8];
    size_t n = 0;
    va_list ap;
    va_start(ap, base);
    for (int d = va_arg(ap, int); d >= 0; d = va_arg(ap, int))
        dim[n++] = (uint64_t)d;
    va_end(ap);
    return toy_tensor(m, name, base, dim, n);
}

uint32_t toy_counter(struct model *m, const char *name, int64_t v)
{
    uint32_t index;
    int64_t *p = place(m, name, DT_I64, NULL, 0, 1, &index);
    *p = v;
    return index;
}

void toy_done(struct model *m)
{
    struct err e = {0};
    if (model_finish(m, &e) != ST_OK)
        fail_msg("%s: %s", e.code, e.reason);
}

static double value(const uint8_t *p, enum dtype t, int64_t at)
{
    float f;
    double d;
    int64_t i;
    int32_t k;
    switch (t) {
    case DT_BOOL:
        return p[at];
    case DT_I32:
        memcpy(&k, p + at * 4, 4);
        return k;
    case DT_F32:
        memcpy(&f, p + at * 4, 4);
        return (double)f;
    case DT_F64:
        memcpy(&d, p + at * 8, 8);
        return d;
    case DT_I64:
        memcpy(&i, p + at * 8, 8);
        return (double)i;
    default:
        fail_msg("toy values know float32, float64, int32, int64 and bool only");
        return 0;
    }
}

/* Where element i of a view lies. */
static int64_t lies(const struct view_kept *v, uint64_t i)
{
    int64_t from = v->offset;
    for (size_t x = v->n_axes; x-- > 0;) {
        from += (int64_t)(i % v->axis[x].extent) * v->axis[x].stride;
        i /= v->axis[x].extent;
    }
    return from;
}

/* Element i of a part, its ops done: signs, sums and numbers added, in the source's type. */
static double element(const struct plan *p, const struct part *q, uint64_t i)
{
    const struct tensor *s = &p->src->tensor[q->src];
    double v = value(p->src->storage[s->storage].mem, s->dtype, lies(q->view, i));
    for (size_t k = 0; k < q->n_ops; k++) {
        const struct op *op = &q->op[k];
        double more = 0;
        if (op->kind == OP_NEG) {
            v = -v;
        } else if (op->kind == OP_OFFSET) {
            memcpy(&more, &op->scale_bits, sizeof more);
        } else if (op->kind == OP_ADD) {
            const struct tensor *o = &p->src->tensor[op->operand];
            more = value(p->src->storage[o->storage].mem, o->dtype, lies(op->view, i));
        }
        if (s->dtype == DT_F32)
            v = (double)(float)(v + more);
        else
            v += more;
    }
    return v;
}

double *toy_values(const struct plan *p, size_t index, uint64_t *n)
{
    const struct tensor *t = &p->dst.tensor[index];
    while (t->alias_of >= 0) {
        index = (size_t)t->alias_of;
        t = &p->dst.tensor[index];
    }
    *n = tensor_elems(t);
    double *out = malloc((size_t)(*n ? *n : 1) * sizeof *out);
    unsigned char *seen = calloc((size_t)(*n ? *n : 1), 1);
    assert_true(out && seen);
    for (size_t k = 0; k < p->recipe[index].n_parts; k++) {
        const struct part *q = &p->recipe[index].part[k];
        const struct view_kept *v = q->view;
        const uint64_t *size = v->dim;
        uint64_t total = kept_elems(v);
        assert_int_equal(v->n_dims, t->n_dims);
        for (uint64_t i = 0; i < total; i++) {
            /* where it goes */
            uint64_t rest = i, to = 0, stride = 1;
            for (size_t d = t->n_dims; d-- > 0;) {
                to += (q->lo[d] + rest % size[d]) * stride;
                rest /= size[d];
                stride *= t->dim[d];
            }
            assert_true(to < *n && !seen[to]);
            seen[to] = 1;
            out[to] = q->src < 0 ? value(q->fill, t->dtype, 0) : element(p, q, i);
        }
    }
    for (uint64_t i = 0; i < *n; i++)
        assert_true(seen[i]);
    free(seen);
    return out;
}

int64_t toy_find(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        if (str_is(m->tensor[i].name, name))
            return (int64_t)i;
    for (size_t i = 0; i < m->n_tensors; i++)
        print_message("  has %.*s\n", STR_ARG(m->tensor[i].name));
    fail_msg("no tensor %s", name);
    return -1;
}

void toy_freeze(const struct plan *p, struct model *out)
{
    model_init(out);
    for (size_t i = 0; i < p->dst.n_tensors; i++) {
        const struct tensor *t = &p->dst.tensor[i];
        struct str name = arena_str(&out->arena, t->name.p, t->name.n);
        uint64_t n;
        uint32_t at;
        double *v = toy_values(p, i, &n);
        if (t->alias_of >= 0) { /* shares: same storage */
            struct tensor *a;
            struct err e = {0};
            assert_int_equal(model_tensor_add(out, &a, &e), ST_OK);
            struct view shape;
            *a = *t;
            view_load(&shape, t->view);
            assert_int_equal(tensor_set_view(out, a, &shape, &e), ST_OK);
            a->alias_of = -1;
            a->name = name;
            assert_true((size_t)t->alias_of < i); /* the toy needs it so */
            a->storage = out->tensor[t->alias_of].storage;
        } else if (t->dtype == DT_I64) {
            int64_t *q = place(out, name.p, DT_I64, t->dim, t->n_dims, n, &at);
            for (uint64_t k = 0; k < n; k++)
                q[k] = (int64_t)v[k];
        } else if (t->dtype == DT_I32) {
            int32_t *q = place(out, name.p, DT_I32, t->dim, t->n_dims, n, &at);
            for (uint64_t k = 0; k < n; k++)
                q[k] = (int32_t)v[k];
        } else if (t->dtype == DT_BOOL) {
            uint8_t *q = place(out, name.p, DT_BOOL, t->dim, t->n_dims, n, &at);
            for (uint64_t k = 0; k < n; k++)
                q[k] = v[k] != 0;
        } else {
            float *q = place(out, name.p, DT_F32, t->dim, t->n_dims, n, &at);
            for (uint64_t k = 0; k < n; k++)
                q[k] = (float)v[k];
        }
        out->tensor[i].role = t->role;
        out->tensor[i].of = t->of;
        out->tensor[i].order = t->order;
        free(v);
    }
    out->spelling = arena_str(&out->arena, p->dst.spelling.p, p->dst.spelling.n);
    out->framework = p->dst.framework;
    toy_done(out);
}
