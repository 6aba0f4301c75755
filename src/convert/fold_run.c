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

struct work {
    struct fold *f;
    const struct fold_item *it;
    struct str name; /* for messages */
    double *w;       /* BLOCK elements of the weight */
    uint8_t *out;    /* ... as they are written */
};

static enum status values(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi, double *dst,
                          struct err *e)
{
    int64_t of = p->src->tensor[t].alias_of;
    return run_read(p, of >= 0 ? (uint32_t)of : t, lo, hi, DT_F64, dst, e);
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
    return &w->f->before.tensor[w->it->tensor];
}

/* n results, elements [lo, lo + n) of the weight. */
static enum status store(struct work *w, uint64_t lo, const double *v, size_t n, struct err *e)
{
    enum dtype t = weight(w)->dtype;
    size_t bytes = num_bytes(t);
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
    if (v > 0 || v < 0)
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
        TRY(values(&w->f->p, w->it->tensor, lo, hi, w->w, e));
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
    enum status st = sum ? all(&w->f->p, it->with, &g, e) : err_nomem(e, it->n * sizeof *sum);
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
    enum status st = all(&w->f->p, w->it->with, &u, e);
    if (st == ST_OK)
        st = all(&w->f->p, w->it->also, &v, e);
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
    const struct plan *p = w->f->own_adapter ? &w->f->p : &w->f->pa;
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
    const struct plan *p = w->f->own_adapter ? &w->f->p : &w->f->pa;
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
        TRY(factor_along(w, it->also, c0, n_cols, y, tmp, true, e));
    else
        TRY(factor_across(w, it->with, it->cols, c0, n_cols, y, tmp, true, e));
    for (uint64_t r = 0; r < it->rows; r += step) {
        uint64_t n = it->rows - r < step ? it->rows - r : step, lo = r * it->cols + c0;
        if (it->turned)
            TRY(factor_across(w, it->with, it->rows, r, n, x, tmp, false, e));
        else
            TRY(factor_along(w, it->also, r, n, x, tmp, false, e));
        TRY(values(&w->f->p, it->tensor, lo, lo + n * n_cols, w->w, e));
        add_low_rank(it, w->w, n, n_cols, x, y, tmp);
        TRY(store(w, lo, w->w, (size_t)(n * n_cols), e));
    }
    return ST_OK;
}

#define STRIP_ELEMS ((uint64_t)1 << 21) /* of the factor that stays: 16 MiB */
static enum status lora(struct work *w, struct err *e)
{
    const struct fold_item *it = w->it;
    uint64_t most = STRIP_ELEMS / it->rank;
    uint64_t wide = it->cols < BLOCK ? it->cols : BLOCK;
    if (wide > most)
        wide = most ? most : 1;
    uint64_t n_tmp = BLOCK > wide * it->rank ? BLOCK : wide * it->rank;
    uint64_t n_x = BLOCK > it->rank ? BLOCK : it->rank;
    double *y = mem_alloc((size_t)(wide * it->rank) * sizeof *y),
           *x = mem_alloc((size_t)n_x * sizeof *x), *tmp = mem_alloc((size_t)n_tmp * sizeof *tmp);
    enum status st = x && y && tmp ? ST_OK : err_nomem(e, n_tmp * sizeof *tmp);
    for (uint64_t c = 0; c < it->cols && st == ST_OK; c += wide)
        st = strip(w, c, it->cols - c < wide ? it->cols - c : wide, y, x, tmp, e);
    mem_free(y);
    mem_free(x);
    mem_free(tmp);
    return st;
}

/* ---- all ---- */

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
        st = w.it->kind == FOLD_WEIGHT     ? weight_norm(&w, e)
             : w.it->kind == FOLD_SPECTRAL ? spectral_norm(&w, e)
             : w.it->kind == FOLD_LORA     ? lora(&w, e)
                                           : fold_cudnn_run(f, w.it, e);
        if (st != ST_OK)
            err_in(e, f->before.tensor[w.it->tensor].name.p, f->before.tensor[w.it->tensor].name.n);
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
