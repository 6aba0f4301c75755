/* Between native.c and the two compilations of the kernels. */
#ifndef VALIDATE_NATIVE_H
#define VALIDATE_NATIVE_H
#include <stdint.h>

void nnf_run_f64(int kernel, const int64_t *p, const void *in, void *out, int64_t lo, int64_t hi);
void nnf_run_f32(int kernel, const int64_t *p, const void *in, void *out, int64_t lo, int64_t hi);
#endif
