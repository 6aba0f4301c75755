/* The kernels in compensated float: what devices without double run, compiled as C to check them
 * and to be checked itself.
 */
#define NNF_FP64 0
#define NNF_RUN nnf_run_f32
#include "validate/kernels.h"
