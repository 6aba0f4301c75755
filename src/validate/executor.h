/* Executors: who computes. A call names a kernel (opencl/abi.h), its integers, the operands laid
 * one after the other, and the output, which is read and written (kernels that accumulate add to
 * it). Numbers are double where fp64 is set, else float. The native executor compiles the same
 * kernel text as C; the device executor runs it on an OpenCL device through the worker.
 */
#ifndef VALIDATE_EXECUTOR_H
#define VALIDATE_EXECUTOR_H
#include "base/buf.h"
#include "base/err.h"
#include "opencl/abi.h"

struct exec_call {
    int kernel;
    int64_t p[NNF_MAX_PARAMS]; /* p[NNF_P_ITEMS], p[NNF_P_WIDTH] and the kernel's own */
    const void *in;
    uint64_t n_in; /* elements */
    void *out;
    uint64_t n_out; /* elements; items * width at most */
};
struct executor {
    bool fp64;
    char name[400];     /* "native", or device, driver and version */
    uint64_t kernel_ns; /* time on the device so far, by its own clock; 0 for native */
    uint64_t n_runs;
    enum status (*run)(struct executor *x, const struct exec_call *c, struct err *e);
    void (*close)(struct executor *x); /* frees x */
};
static inline size_t exec_real_bytes(const struct executor *x)
{
    return x->fp64 ? sizeof(double) : sizeof(float);
}

/* fp64 false runs the compensated float form that devices without double get. */
MUSTCHECK enum status native_open(bool fp64, struct executor **out, struct err *e);
/* One item of a call, for checking a device: out is the whole output. */
void native_item(bool fp64, const struct exec_call *c, int64_t item);

struct device_opt {
    const char *selector; /* "", NULL: the first usable; else see device_select */
    const char *vendors;  /* file, folder or library instead of the host's .icd folder; NULL */
    bool direct;          /* pass the ICD loader by */
    bool single;          /* as if the device had no double */
    uint64_t seed;        /* which items are computed again natively */
    int hello_ms, probe_ms, build_ms, run_ms; /* 0: 10 s, 30 s, 180 s, 120 s */
};
/* Opens a device through the worker (child_start must have been called). Every result is checked:
 * a digest of the shared memory, and a sample of items computed again natively ("device-lied"). */
MUSTCHECK enum status device_open(const struct device_opt *o, struct executor **out,
                                  struct buf *tried, struct err *e);
#endif
