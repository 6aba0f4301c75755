/* Computing folded weights: a block of rows at a time, every sum in float64 and in one order, so
 * that neither memory nor threads show in the result.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "convert/fold_int.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/run.h"
#include <math.h>
#include <string.h>

#define BLOCK ((uint64_t)1 << 17) /* elements read at a time */

/* The tensors that one weight is made of, alone, so that reading them takes what they take, however
 * many others there are. */
enum { WEIGHT, WITH, ALSO, PARTS };
struct parts {
    struct model m; /* owns nothing */
    struct plan p;
    struct tensor tensor[PARTS];
    struct storage storage[PARTS];
};
struct work {
    struct fold *f;
    const struct fold_item *it;
    struct parts parts;
    double *w;    /* BLOCK elements of the weight */
    uint8_t *out; /* ... as they are written */
};

static enum status parts_of(const struct fold *f, const struct fold_item *it, struct parts *q,
                            struct err *e)
{
    const uint32_t at[PARTS] = {it->tensor, it->with, it->also};
    size_t n = it->kind == FOLD_WEIGHT ? 2 : it->kind <= FOLD_LORA ? PARTS : 1;
    memset(q, 0, sizeof *q);
    model_init(&q->m);
    q->m.tensor = q->tensor;
    q->m.storage = q->storage;
    q->m.n_tensors = q->m.n_storages = n;
    for (size_t k = 0; k < n; k++) {
        bool here = k == WEIGHT || it->kind != FOLD_LORA || f->ad == f->m;
        const struct model *m = here ? f->m : f->ad;
        const struct tensor *t = (here ? f->before : m->tensor) + at[k];
        q->tensor[k] = *t;
        q->tensor[k].alias_of = q->tensor[k].of = -1;
        q->tensor[k].storage = (uint32_t)k;
        q->storage[k] = m->storage[t->storage];
    }
    plan_init(&q->p, &q->m);
    enum status st = plan_identity(&q->p, e);
    if (st != ST_OK)
        plan_free(&q->p);
    return st;
}

static enum status values(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi, double *dst,
                          struct err *e)
{
    return run_read(p, t, lo, hi, DT_F64, dst, e);
}

/* A whole small tensor. */
static enum status all(const struct plan *p, uint32_t t, double **out, struct err *e)
{
    uint64_t n = tensor_elems(&p->src->tensor[t]);
    size_t bytes;
    *out = mul_size(n + 1, sizeof **out, &bytes) ? mem_alloc(bytes) : NULL;
    return *out ? values(p, t, 0, n, *out, e) : err_nomem(e, n * sizeof **out);
}

static const struct tensor *weight(const struct work *w)
{
    return &w->parts.tensor[WEIGHT];
}

/* n results, elements [lo, lo + n) of the weight. */
static enum status store(struct work *w, uint64_t lo, const double *v, size_t n, struct err *e)
{
    enum dtype t = weight(w)->dtype;
    size_t bytes = num_bytes(t);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return err_set(e, ST_CANNOT, "fold-value", "element %llu becomes %g",
                           (unsigned long long)(lo + i), v[i]);
    for (size_t i = 0; i < n; i += OP_BLOCK) {
        size_t k = n - i < OP_BLOCK ? n - i : OP_BLOCK;
        if (op_cast(DT_F64, v + i, t, w->out + i * bytes, k) < k)
            return err_set(e, ST_CANNOT, "overflow", "a folded value has no place in %s",
                           dtype_info(t)->name);
    }
    return spool_pwrite(w->f->spool, w->out, n * bytes, w->it->at + lo * bytes, e);
}

static enum status norm_is(double v, struct err *e)
{
    if (isfinite(v) && (v > 0 || v < 0))
        return ST_OK;
    return err_set(e, ST_CANNOT, "fold-zero", "a norm of %g: nothing can be divided by it", v);
}

/* Calls for every block of the weight, in order. */
typedef void visit(const struct fold_item *it, double *w, uint64_t lo, size_t n, const double *a,
                   const double *b, double *sum);
static enum status each(struct work *w, visit *fn, const double *a, const double *b, double *sum,
                        bool write, struct err *e)
{
    uint64_t n = tensor_elems(weight(w));
    for (uint64_t lo = 0; lo < n; lo += BLOCK) {
        uint64_t hi = n - lo < BLOCK ? n : lo + BLOCK;
        TRY(values(&w->parts.p, WEIGHT, lo, hi, w->w, e));
        fn(w->it, w->w, lo, (size_t)(hi - lo), a, b, sum);
        if (write)
            TRY(store(w, lo, w->w, (size_t)(hi - lo), e));
    }
    return ST_OK;
}

static void add_squares(const struct fold_item *it, double *w, uint64_t lo, size_t n,
                        const double *a, const double *b, double *sum)
{
    (void)a;
    (void)b;
    for (size_t i = 0; i < n; i++)
        sum[(lo + i) / it->inner % it->n] += w[i] * w[i];
}

static void add_product(const struct fold_item *it, double *w, uint64_t lo, size_t n,
                        const double *u, const double *v, double *sum)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t at = lo + i, k = at / it->inner % it->n;
        *sum += u[k] * w[i] * v[at / it->inner / it->n * it->inner + at % it->inner];
    }
}

static void times(const struct fold_item *it, double *w, uint64_t lo, size_t n, const double *by,
                  const double *b, double *sum)
{
    (void)b;
    (void)sum;
    for (size_t i = 0; i < n; i++)
        w[i] *= by[(lo + i) / it->inner % it->n];
}

static void over(const struct fold_item *it, double *w, uint64_t lo, size_t n, const double *by,
                 const double *b, double *sum)
{
    (void)it;
    (void)lo;
    (void)b;
    (void)sum;
    for (size_t i = 0; i < n; i++)
        w[i] /= *by;
}

static enum status weight_norm(struct work *w, struct err *e)
{
    const struct fold_item *it = w->it;
    double *g = NULL, *sum = mem_zalloc((size_t)it->n, sizeof *sum);
    enum status st = sum ? all(&w->parts.p, WITH, &g, e) : err_nomem(e, it->n * sizeof *sum);
    if (st == ST_OK)
        st = each(w, add_squares, NULL, NULL, sum, false, e);
    for (uint64_t k = 0; k < it->n && st == ST_OK; k++) {
        double norm = sqrt(sum[k] + it->eps);
        st = norm_is(norm, e);
        sum[k] = g[k] / norm;
    }
    if (st == ST_OK)
        st = each(w, times, sum, NULL, NULL, true, e);
    mem_free(sum);
    mem_free(g);
    return st;
}

static enum status spectral_norm(struct work *w, struct err *e)
{
    double *u = NULL, *v = NULL, sigma = 0;
    enum status st = all(&w->parts.p, WITH, &u, e);
    if (st == ST_OK)
        st = all(&w->parts.p, ALSO, &v, e);
    if (st == ST_OK)
        st = each(w, add_product, u, v, &sigma, false, e);
    if (st == ST_OK)
        st = norm_is(sigma, e);
    if (st == ST_OK)
        st = each(w, over, &sigma, NULL, NULL, true, e);
    mem_free(u);
    mem_free(v);
    return st;
}

/* ---- LoRA ---- */

/* A factor with its rank along the other axis: dst [n, rank] of a stored [rank, all], elements
 * [lo, lo + n) of all. */
static enum status factor_across(const struct work *w, uint32_t t, uint64_t width, uint64_t lo,
                                 uint64_t n, double *dst, double *row, bool by_rank, struct err *e)
{
    const struct plan *p = &w->parts.p;
    for (uint64_t k = 0; k < w->it->rank; k++) {
        TRY(values(p, t, k * width + lo, k * width + lo + n, by_rank ? dst + k * n : row, e));
        for (uint64_t i = 0; i < n && !by_rank; i++)
            dst[i * w->it->rank + k] = row[i];
    }
    return ST_OK;
}

/* The same of a stored [all, rank]. */
static enum status factor_along(const struct work *w, uint32_t t, uint64_t lo, uint64_t n,
                                double *dst, double *tmp, bool by_rank, struct err *e)
{
    const struct plan *p = &w->parts.p;
    uint64_t r = w->it->rank;
    TRY(values(p, t, lo * r, (lo + n) * r, by_rank ? tmp : dst, e));
    for (uint64_t k = 0; k < r && by_rank; k++)
        for (uint64_t i = 0; i < n; i++)
            dst[k * n + i] = tmp[i * r + k];
    return ST_OK;
}

/* Rows [0, n_rows) of w, columns n_cols: + scale * x [rows, rank] y [rank, cols]. */
static void add_low_rank(const struct fold_item *it, double *w, uint64_t n_rows, uint64_t n_cols,
                         const double *x, const double *y, double *row)
{
    for (uint64_t i = 0; i < n_rows; i++, w += n_cols, x += it->rank) {
        memset(row, 0, (size_t)n_cols * sizeof *row);
        for (uint64_t k = 0; k < it->rank; k++)
            for (uint64_t j = 0; j < n_cols; j++)
                row[j] += x[k] * y[k * n_cols + j];
        for (uint64_t j = 0; j < n_cols; j++)
            w[j] += it->scale * row[j];
    }
}

/* A strip of columns at a time: its part of one factor stays, rows pass by. */
static enum status strip(struct work *w, uint64_t c0, uint64_t n_cols, double *y, double *x,
                         double *tmp, struct err *e)
{
    const struct fold_item *it = w->it;
    bool whole = n_cols == it->cols;
    uint64_t step = whole ? BLOCK / n_cols : 1, most = BLOCK / it->rank;
    step = step > most ? most : step;
    step = step ? step : 1;
    if (it->turned) /* columns are the outputs, B [cols, rank] */
        TRY(factor_along(w, ALSO, c0, n_cols, y, tmp, true, e));
    else
        TRY(factor_across(w, WITH, it->cols, c0, n_cols, y, tmp, true, e));
    for (uint64_t r = 0; r < it->rows; r += step) {
        uint64_t n = it->rows - r < step ? it->rows - r : step, lo = r * it->cols + c0;
        if (it->turned)
            TRY(factor_across(w, WITH, it->rows, r, n, x, tmp, false, e));
        else
            TRY(factor_along(w, ALSO, r, n, x, tmp, false, e));
        TRY(values(&w->parts.p, WEIGHT, lo, lo + n * n_cols, w->w, e));
        add_low_rank(it, w->w, n, n_cols, x, y, tmp);
        TRY(store(w, lo, w->w, (size_t)(n * n_cols), e));
    }
    return ST_OK;
}

/* Columns of a strip, and elements of what is held. */
struct strips {
    uint64_t wide, n_y, n_x, n_tmp;
};
#define STRIP_ELEMS ((uint64_t)1 << 21) /* of the factor that stays: 16 MiB */
static struct strips strips_of(const struct fold_item *it)
{
    uint64_t most = STRIP_ELEMS / it->rank, wide = it->cols < BLOCK ? it->cols : BLOCK;
    if (wide > most)
        wide = most ? most : 1;
    uint64_t n_y = wide * it->rank;
    return (struct strips){wide, n_y, BLOCK > it->rank ? BLOCK : it->rank,
                           BLOCK > n_y ? BLOCK : n_y};
}

static enum status lora(struct work *w, struct err *e)
{
    const struct fold_item *it = w->it;
    struct strips s = strips_of(it);
    double *y = mem_zalloc((size_t)s.n_y, sizeof *y), *x = mem_zalloc((size_t)s.n_x, sizeof *x),
           *tmp = mem_zalloc((size_t)s.n_tmp, sizeof *tmp);
    enum status st = x && y && tmp ? ST_OK : err_nomem(e, s.n_tmp * sizeof *tmp);
    for (uint64_t c = 0; c < it->cols && st == ST_OK; c += s.wide)
        st = strip(w, c, it->cols - c < s.wide ? it->cols - c : s.wide, y, x, tmp, e);
    mem_free(y);
    mem_free(x);
    mem_free(tmp);
    return st;
}

/* ---- what it takes ---- */

static uint64_t of_doubles(uint64_t n)
{
    return n > UINT64_MAX / 64 ? UINT64_MAX / 4 : n * sizeof(double);
}

static uint64_t elems(const struct plan *p, uint32_t t)
{
    return t < p->src->n_tensors ? tensor_elems(&p->src->tensor[t]) : 0;
}

static uint64_t held(const struct parts *q, const struct fold_item *it)
{
    uint64_t blocks = of_doubles(2 * BLOCK), with = of_doubles(elems(&q->p, WITH) + 1);
    struct strips s;
    switch (it->kind) {
    case FOLD_WEIGHT:
        return blocks + of_doubles(it->n) + with;
    case FOLD_SPECTRAL:
        return blocks + with + of_doubles(elems(&q->p, ALSO) + 1);
    case FOLD_LORA:
        s = strips_of(it);
        return blocks + of_doubles(s.n_y) + of_doubles(s.n_x) + of_doubles(s.n_tmp);
    case FOLD_CUDNN_KERNEL:
    case FOLD_CUDNN_STATE:
    case FOLD_CUDNN_BIAS:
        break;
    }
    return blocks + 2 * (it->n_bytes > UINT64_MAX / 16 ? UINT64_MAX / 16 : it->n_bytes);
}

#define ENGINE_BYTES ((uint64_t)4 << 20) /* the engine's tables, and slots that it may add */
/* What the engine holds while it reads some of each. */
static enum status reading(const struct plan *p, uint64_t *most, struct err *e)
{
    for (uint32_t t = 0; t < p->src->n_tensors; t++) {
        struct run_cost c;
        uint64_t n = elems(p, t);
        TRY(run_read_cost(p, t, 0, n < BLOCK ? n : BLOCK, &c, e));
        *most = c.memory_bytes + ENGINE_BYTES > *most ? c.memory_bytes + ENGINE_BYTES : *most;
    }
    return ST_OK;
}

static enum status too_much(const struct parts *q, uint64_t need, uint64_t left, struct err *e)
{
    enum status st =
        err_set(e, ST_LIMIT, "memory", "computing it needs %llu bytes, --memory leaves %llu",
                (unsigned long long)need, (unsigned long long)left);
    err_in(e, q->tensor[WEIGHT].name.p, q->tensor[WEIGHT].name.n);
    return st;
}

enum status fold_cost(const struct fold *f, const struct run_opt *o, struct run_cost *c,
                      struct err *e)
{
    uint64_t limit = o->memory ? o->memory : mem_ceiling(), used = mem_in_use();
    uint64_t left = limit == 0 ? UINT64_MAX : used > limit ? 0 : limit - used;
    for (size_t i = 0; f && i < f->n; i++) {
        struct parts q;
        uint64_t need = 0;
        TRY(parts_of(f, &f->item[i], &q, e));
        enum status st = reading(&q.p, &need, e);
        need += held(&q, &f->item[i]);
        if (st == ST_OK && need > left)
            st = too_much(&q, need, left, e);
        plan_free(&q.p);
        TRY(st);
        c->memory_bytes = need > c->memory_bytes ? need : c->memory_bytes;
    }
    uint64_t ahead = f ? fold_packed_memory(f) : 0;
    if (ahead > left)
        return err_set(e, ST_LIMIT, "memory",
                       "decoding ahead of folding needs %llu bytes of --memory",
                       (unsigned long long)ahead);
    c->memory_bytes = ahead > c->memory_bytes ? ahead : c->memory_bytes;
    c->spool_bytes += fold_bytes(f);
    c->n_decodes += f ? f->n_decodes : 0;
    return ST_OK;
}

/* ---- all ---- */

static enum status one(struct work *w, struct err *e)
{
    TRY(parts_of(w->f, w->it, &w->parts, e));
    enum status st = w->it->kind == FOLD_WEIGHT     ? weight_norm(w, e)
                     : w->it->kind == FOLD_SPECTRAL ? spectral_norm(w, e)
                     : w->it->kind == FOLD_LORA     ? lora(w, e)
                                                    : fold_cudnn_run(w->f, &w->parts.p, w->it, e);
    if (st != ST_OK)
        err_in(e, weight(w)->name.p, weight(w)->name.n);
    plan_free(&w->parts.p);
    return st;
}

enum status fold_run(struct fold *f, struct err *e)
{
    struct work w = {.f = f};
    struct file *file;
    enum status st = ST_OK;
    if (f->n == 0) /* nothing but names has changed */
        return ST_OK;
    TRY(fold_packed_run(f, e));
    w.w = mem_alloc((size_t)BLOCK * sizeof *w.w);
    w.out = mem_alloc((size_t)BLOCK * sizeof *w.w);
    if (!w.w || !w.out)
        st = err_nomem(e, BLOCK * sizeof *w.w);
    for (size_t i = 0; i < f->n && st == ST_OK; i++) {
        w.it = &f->item[i];
        st = one(&w, e);
    }
    mem_free(w.w);
    mem_free(w.out);
    TRY(st);
    /* known from now on by what it is when all is written */
    TRY(spool_file(f->spool, "folded weights", &file, e));
    for (size_t i = 0; i < f->n; i++)
        f->m->storage[f->item[i].storage].file = file;
    file_close(f->file);
    f->file = file;
    return ST_OK;
}
