/* NEON kernels; see kernel.h. */
#include "convert/kernel.h"

const struct kernel kernel_neon = {0};
