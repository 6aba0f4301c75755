/* AVX-512 kernels; see kernel.h. */
#include "convert/kernel.h"

const struct kernel kernel_avx512 = {0};
