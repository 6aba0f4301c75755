/* One text, two compilers. On a device this precedes the kernels (OpenCL C 1.2; NNF_FP64 says
 * whether the device has double). Under a C compiler it gives the same words a meaning: kernels
 * become static functions, and get_global_id reads a thread's own counter.
 *
 * real is the type of every number. struct nnf_sum adds products: in double plainly, in float
 * compensated (error-free sum and product, the error kept beside), so that a device without
 * double agrees to a few units in the last place.
 */
#ifndef OPENCL_COMPAT_H
#define OPENCL_COMPAT_H

#ifdef __OPENCL_VERSION__
typedef long i64;
#if NNF_FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
typedef double real;
#else
typedef float real;
#endif
#pragma OPENCL FP_CONTRACT OFF
#define NNF_KERNEL __kernel
#define NNF_FN
#define NNF_PRODUCT_ERROR(a, b, p) fma((a), (b), -(p))
#define NNF_SQRT(v) sqrt(v)
#define NNF_EXP(v) exp(v)
#define NNF_TANH(v) tanh(v)
#define NNF_FABS(v) fabs(v)
#define NNF_ID() ((i64)get_global_id(0))
#else
#include <math.h>
#include <stdint.h>
typedef int64_t i64;
#define __global
#define NNF_KERNEL static
#define NNF_FN static inline
#if NNF_FP64
typedef double real;
#define NNF_SQRT(v) sqrt(v)
#define NNF_EXP(v) exp(v)
#define NNF_TANH(v) tanh(v)
#define NNF_FABS(v) fabs(v)
#else
typedef float real;
/* The product of two floats is exact in double, and so is what p lost of it. */
#define NNF_PRODUCT_ERROR(a, b, p) ((float)((double)(a) * (double)(b) - (double)(p)))
#define NNF_SQRT(v) sqrtf(v)
#define NNF_EXP(v) expf(v)
#define NNF_TANH(v) tanhf(v)
#define NNF_FABS(v) fabsf(v)
#endif
static _Thread_local int64_t nnf_id;
#define NNF_ID() (nnf_id)
#endif

struct nnf_sum {
    real hi, lo;
};
NNF_FN void nnf_add(struct nnf_sum *s, real v)
{
#if NNF_FP64
    s->hi += v;
#else
    real t = s->hi + v;
    real z = t - s->hi;
    s->lo += (s->hi - (t - z)) + (v - z);
    s->hi = t;
#endif
}
NNF_FN void nnf_add_product(struct nnf_sum *s, real a, real b)
{
#if NNF_FP64
    s->hi += a * b;
#else
    real p = a * b;
    nnf_add(s, p);
    s->lo += NNF_PRODUCT_ERROR(a, b, p);
#endif
}
NNF_FN real nnf_total(const struct nnf_sum *s)
{
#if NNF_FP64
    return s->hi;
#else
    /* An infinite sum has no error to add (its lo is NaN). */
    real t = s->hi + s->lo;
    return s->hi - s->hi == (real)0 ? t : s->hi;
#endif
}
NNF_FN int nnf_finite(real v)
{
    return v - v == (real)0;
}
#endif
