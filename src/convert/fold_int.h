/* What fold.c finds and fold_run.c computes. Not for others. */
#ifndef CONVERT_FOLD_INT_H
#define CONVERT_FOLD_INT_H
#include "base/out.h"
#include "convert/fold.h"
#include "convert/plan.h"

enum fold_kind {
    FOLD_WEIGHT,
    FOLD_SPECTRAL,
    FOLD_LORA,
    FOLD_CUDNN_KERNEL, /* n gates */
    FOLD_CUDNN_STATE,
    FOLD_CUDNN_BIAS
};
/* One weight. Norms see it as [outer, n, inner]: n is the axis that keeps its norms apart. LoRA
 * sees it as [rows, cols]: + scale * sum over k of B[row,k] A[k,col], or of B[col,k] A[k,row]. */
struct fold_item {
    enum fold_kind kind;
    uint32_t tensor;     /* of the model: the weight, before and after */
    uint32_t with, also; /* g; u and v; A and B (of the adapter) */
    uint64_t outer, n, inner;
    uint64_t rows, cols, rank;
    bool turned;
    double eps, scale;
    uint64_t at, n_bytes; /* in the spool */
    uint32_t storage;
};
/* A compressed storage that folding reads, as it was. */
struct fold_packed {
    struct model *m;
    uint32_t storage;
    struct storage was;
};
struct fold {
    struct arena a;
    struct model *m;
    const struct tensor *before; /* m's, as they were */
    const struct model *ad;      /* holds the adapter's factors; may be m */
    struct spool *spool;
    struct file *file;
    struct fold_item *item;
    size_t n;
    uint64_t n_bytes;
    struct fold_packed *packed;
    size_t n_packed;
    uint64_t packed_bytes, n_decodes;
    const char *beside;
};
/* fold_packed.c. The plan: once the items are known and before their storages are added. The
 * adapter may be NULL. */
MUSTCHECK enum status fold_packed_plan(struct fold *f, struct model *adapter, struct err *e);
uint64_t fold_packed_memory(const struct fold *f);
MUSTCHECK enum status fold_packed_run(struct fold *f, struct err *e);
/* fold_cudnn.c: one tensor, p's first, held whole; and its shape, where that changes. */
MUSTCHECK enum status fold_cudnn_run(struct fold *f, const struct plan *p,
                                     const struct fold_item *it, struct err *e);
void fold_cudnn_shape(const struct fold_item *it, struct tensor *t, uint64_t dim[2],
                      size_t *n_dims);
#endif
