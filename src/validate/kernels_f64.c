/* The kernels in double: what the native executor runs. */
#define NNF_FP64 1
#define NNF_RUN nnf_run_f64
#include "validate/kernels.h"
