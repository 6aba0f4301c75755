/* Keras 2's CuDNNLSTM and CuDNNGRU hold their weights as CuDNN's flat buffer has them: each gate's
 * block of the kernel [inputs, gates * units] is the bytes of [units, inputs], each block of the
 * recurrent kernel is transposed, and the bias has one for the input side and one for the state. As
 * Keras's own loader does, they become what LSTM and GRU(reset_after=True) hold: a permutation; the
 * LSTM's two biases, of which a Keras LSTM has one, are summed.
 * Source: tf_keras/src/saving/legacy/hdf5_format.py, _convert_rnn_weights.
 */
#include "base/mem.h"
#include "convert/fold_find.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/run.h"
#include "framework/recognise.h"
#include <string.h>

/* "kernel" of "kernel:0" */
static struct str plain(struct str leaf)
{
    return str_sub(leaf, 0, str_find(leaf, ':', 0));
}

/* The tensor beside one, of another leaf with the same end. */
static int64_t beside(const struct model *m, struct arena *a, struct str parent, struct str leaf,
                      const char *name)
{
    struct str stem = plain(leaf);
    struct str full = arena_fmt(a, "%.*s%s%s%.*s", STR_ARG(parent), parent.n ? "." : "", name,
                                STR_ARG(str_sub(leaf, stem.n, leaf.n)));
    return full.p ? model_find(m, full) : -1;
}

/* A cell by its recurrent kernel: [U, n U], a kernel [I, n U] and a bias of 2 n U. 0 = none. */
static uint64_t gates(const struct model *m, struct arena *a, size_t t, int64_t *kernel,
                      int64_t *bias)
{
    const struct tensor *r = &m->tensor[t];
    struct str parent, leaf;
    name_tail(r->name, &parent, &leaf);
    if (!str_is(plain(leaf), "recurrent_kernel") || r->n_dims != 2 || r->dim[0] == 0 ||
        r->dim[1] % r->dim[0] != 0)
        return 0;
    uint64_t n = r->dim[1] / r->dim[0];
    *kernel = beside(m, a, parent, leaf, "kernel");
    *bias = beside(m, a, parent, leaf, "bias");
    if ((n != 3 && n != 4) || *kernel < 0 || *bias < 0)
        return 0;
    const struct tensor *k = &m->tensor[*kernel], *b = &m->tensor[*bias];
    bool fits = k->n_dims == 2 && k->dim[1] == r->dim[1] && k->dim[0] > 0 && b->n_dims == 1 &&
                b->dim[0] / 2 == r->dim[1] && b->dim[0] % 2 == 0;
    return fits ? n : 0;
}

int64_t fold_cudnn_found(const struct model *m)
{
    struct arena a = ARENA_INIT;
    int64_t found = -1, k, b;
    for (size_t i = 0; i < m->n_tensors && found < 0; i++)
        found = gates(m, &a, i, &k, &b) ? (int64_t)i : -1;
    arena_free(&a);
    return found;
}

static enum status add(struct fold_finder *w, enum fold_kind kind, size_t t, uint64_t n,
                       const char *why, struct err *e)
{
    struct fold_item *it;
    TRY(fold_add(w, kind, t, &it, e));
    it->n = n;
    TRY(fold_becomes(w, t, w->m->tensor[t].name, why, e));
    w->fate[t].value = true;
    return ST_OK;
}

enum status fold_cudnn(struct fold_finder *w, struct err *e)
{
    for (size_t i = 0; i < w->m->n_tensors; i++) {
        int64_t k, b;
        uint64_t n = gates(w->m, &w->m->arena, i, &k, &b);
        if (n == 0)
            continue;
        TRY(add(w, FOLD_CUDNN_KERNEL, (size_t)k, n, "a CuDNN cell's, in the order of Keras's own",
                e));
        TRY(add(w, FOLD_CUDNN_STATE, i, n, "a CuDNN cell's, each gate transposed", e));
        TRY(add(w, FOLD_CUDNN_BIAS, (size_t)b, n,
                n == 4 ? "a CuDNN cell's two biases, summed as Keras's own loader does"
                       : "a CuDNN cell's two biases, as rows",
                e));
    }
    return ST_OK;
}

void fold_cudnn_shape(const struct fold_item *it, struct tensor *t, uint64_t dim[2], size_t *n_dims)
{
    if (it->kind != FOLD_CUDNN_BIAS)
        return;
    *n_dims = it->n == 4 ? 1 : 2;
    dim[0] = it->n == 4 ? t->dim[0] / 2 : 2;
    dim[1] = t->dim[0] / 2;
}

/* Gate g's block of a kernel of n gates, rows * cols elements in C order of the block. */
struct block {
    const uint8_t *src;
    uint8_t *dst;
    uint64_t rows, cols, all; /* all: columns of the whole */
    size_t bytes;
};

static void kernel_block(const struct block *b)
{
    for (uint64_t u = 0, at = 0; u < b->cols; u++)
        for (uint64_t i = 0; i < b->rows; i++, at++)
            memcpy(b->dst + (i * b->all + u) * b->bytes,
                   b->src + (at / b->cols * b->all + at % b->cols) * b->bytes, b->bytes);
}

static void state_block(const struct block *b)
{
    for (uint64_t i = 0; i < b->rows; i++)
        for (uint64_t j = 0; j < b->cols; j++)
            memcpy(b->dst + (j * b->all + i) * b->bytes, b->src + (i * b->all + j) * b->bytes,
                   b->bytes);
}

enum status fold_cudnn_run(struct fold *f, const struct plan *p, const struct fold_item *it,
                           struct err *e)
{
    const struct tensor *t = &p->src->tensor[0];
    uint64_t n = tensor_elems(t), half = n / 2;
    size_t bytes = num_bytes(t->dtype);
    uint8_t *src = mem_zalloc((size_t)n, bytes), *dst = mem_zalloc((size_t)n, bytes);
    enum status st = src && dst ? run_read(p, 0, 0, n, t->dtype, src, e) : err_nomem(e, n * bytes);
    if (st == ST_OK && it->kind == FOLD_CUDNN_BIAS && it->n == 3) {
        memcpy(dst, src, (size_t)n * bytes);
    } else if (st == ST_OK && it->kind == FOLD_CUDNN_BIAS) {
        struct op op = {.kind = OP_ADD};
        enum dtype now;
        size_t bad = OP_BLOCK;
        for (uint64_t i = 0, k; i < half && st == ST_OK; i += k) {
            k = half - i < OP_BLOCK ? half - i : OP_BLOCK;
            op_apply(&op, t->dtype, src + i * bytes, src + (half + i) * bytes, dst + i * bytes,
                     (size_t)k, &now, &bad);
            if (bad < k)
                st = err_set(e, ST_CANNOT, "overflow", "a sum of biases has no place in %s",
                             dtype_info(t->dtype)->name);
        }
        n = half;
    } else if (st == ST_OK) {
        struct block b = {src, dst, t->dim[0], t->dim[1] / it->n, t->dim[1], bytes};
        for (uint64_t g = 0; g < it->n; g++, b.src += b.cols * bytes, b.dst += b.cols * bytes)
            (it->kind == FOLD_CUDNN_KERNEL ? kernel_block : state_block)(&b);
    }
    if (st == ST_OK)
        st = spool_pwrite(f->spool, dst, (size_t)n * bytes, it->at, e);
    mem_free(src);
    mem_free(dst);
    return st;
}
