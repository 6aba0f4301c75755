/* The kernels compiled as C, once for each type of number: the includer sets NNF_FP64 and the name
 * NNF_RUN of the one function that runs items [lo, hi) of a kernel.
 */
#include "opencl/abi.h"
#include "opencl/compat.h"
#include "validate/native.h"
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
#include "opencl/attention.cl"
#include "opencl/cell.cl"
#include "opencl/conv.cl"
#include "opencl/elementwise.cl"
#include "opencl/embedding.cl"
#include "opencl/linear.cl"
#include "opencl/local.cl"
#include "opencl/norm.cl"
#include "opencl/reduce.cl"

void NNF_RUN(int kernel, const int64_t *p, const void *in, void *out, int64_t lo, int64_t hi)
{
    typedef void (*kernel_fn)(const i64 *, const real *, real *);
    static const kernel_fn fn[NNF_KERNEL_N] = {[NNF_LINEAR] = nnf_linear,
                                               [NNF_CONV] = nnf_conv,
                                               [NNF_CONV_TRANSPOSE] = nnf_conv_transpose,
                                               [NNF_BATCHNORM] = nnf_batchnorm,
                                               [NNF_GROUPNORM] = nnf_groupnorm,
                                               [NNF_EMBEDDING] = nnf_embedding,
                                               [NNF_ATTENTION] = nnf_attention,
                                               [NNF_MULTIPLY] = nnf_multiply,
                                               [NNF_MAX_ABS] = nnf_max_abs,
                                               [NNF_COMPARE] = nnf_compare,
                                               [NNF_CELL] = nnf_cell,
                                               [NNF_LOCAL] = nnf_local};
    for (nnf_id = lo; nnf_id < hi; nnf_id++)
        fn[kernel](p, in, out);
}
