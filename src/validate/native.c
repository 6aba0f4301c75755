/* The native executor: the kernels compiled as C, items shared among threads. It answers where
 * there is no device, and checks devices.
 */
#include "validate/native.h"
#include "base/mem.h"
#include "base/par.h"
#include "validate/executor.h"

#include <string.h>

enum { CHUNK = 64 }; /* items a thread takes at once */

struct job {
    const struct exec_call *c;
    bool fp64;
};

static void run_items(bool fp64, const struct exec_call *c, int64_t lo, int64_t hi)
{
    if (fp64)
        nnf_run_f64(c->kernel, c->p, c->in, c->out, lo, hi);
    else
        nnf_run_f32(c->kernel, c->p, c->in, c->out, lo, hi);
}

void native_item(bool fp64, const struct exec_call *c, int64_t item)
{
    run_items(fp64, c, item, item + 1);
}

static enum status body(void *ctx, uint64_t item, int slot, struct err *e)
{
    const struct job *j = ctx;
    int64_t lo = (int64_t)item * CHUNK, hi = lo + CHUNK;
    (void)slot;
    (void)e;
    if (hi > j->c->p[NNF_P_ITEMS])
        hi = j->c->p[NNF_P_ITEMS];
    run_items(j->fp64, j->c, lo, hi);
    return ST_OK;
}

static enum status run(struct executor *x, const struct exec_call *c, struct err *e)
{
    struct job j = {c, x->fp64};
    struct par_job job = {
        .n_items = ((uint64_t)c->p[NNF_P_ITEMS] + CHUNK - 1) / CHUNK, .ctx = &j, .body = body};
    if (c->kernel < 0 || c->kernel >= NNF_KERNEL_N || c->p[NNF_P_ITEMS] <= 0 ||
        (uint64_t)c->p[NNF_P_ITEMS] * (uint64_t)c->p[NNF_P_WIDTH] != c->n_out)
        return err_set(e, ST_BUG, NULL, "kernel call %d without items", c->kernel);
    x->n_runs++;
    return par_run(&job, e);
}

static void close_native(struct executor *x)
{
    mem_free(x);
}

enum status native_open(bool fp64, struct executor **out, struct err *e)
{
    struct executor *x = mem_zalloc(1, sizeof *x);
    *out = x;
    if (!x)
        return err_nomem(e, sizeof *x);
    x->fp64 = fp64;
    memcpy(x->name, "native", 7);
    x->run = run;
    x->close = close_native;
    return ST_OK;
}
