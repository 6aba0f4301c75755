/* The device executor: sends calls to a worker and trusts nothing. Operands and results lie in one
 * sealed shared memory; every result is checked against the worker's digest and, for a sample of
 * items (all of them for comparisons), against the same kernel run natively.
 */
#include "base/child.h"
#include "base/embed.h"
#include "base/mem.h"
#include "validate/devices.h"
#include "validate/executor.h"

#include <stdio.h>
#include <string.h>

enum { CHECKED_ITEMS = 16, ALIGN = 256 };

struct device {
    struct executor x; /* first: the executor is this */
    struct child *child;
    struct shared mem;
    struct device_opt o;
    uint64_t max_alloc;
};

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Shared memory of at least n bytes, known to the worker. */
static enum status make_room(struct device *d, uint64_t n, struct err *e)
{
    if (d->mem.p && d->mem.n >= n)
        return ST_OK;
    struct wire_memory m = {aligned(n)};
    shared_free(&d->mem);
    TRY(shared_new(m.n_bytes, &d->mem, e));
    return child_call(d->child, WIRE_MEMORY, &m, sizeof m, d->mem.fd, NULL, 0, d->o.hello_ms, e);
}

/* ---- checking results ---- */

static double at(bool fp64, const void *p, uint64_t i)
{
    return fp64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static bool finite_(double v)
{
    return v - v == 0;
}

/* Both arrays' elements [lo, hi) in steps agree to tol of the largest of them, and differ from
 * finite alike. */
static bool agree(bool fp64, const void *a, const void *b, const uint64_t *index, size_t n,
                  double tol, double scale)
{
    for (size_t i = 0; i < n; i++) {
        double v = at(fp64, b, index[i]);
        if (finite_(v) && (v < 0 ? -v : v) > scale)
            scale = v < 0 ? -v : v;
    }
    for (size_t i = 0; i < n; i++) {
        double x = at(fp64, a, index[i]), y = at(fp64, b, index[i]);
        if (finite_(x) && finite_(y)) {
            double d = x > y ? x - y : y - x;
            if (!(d <= tol * scale))
                return false;
        } else if (!(x == y || (x != x && y != y)))
            return false;
    }
    return true;
}

static uint64_t mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

/* before: the output as it was sent. Sampled items are run on it natively and compared with what
 * came back. */
static enum status check_items(struct device *d, const struct exec_call *c, void *before,
                               struct err *e)
{
    bool fp64 = d->x.fp64, all = c->kernel == NNF_COMPARE || c->kernel == NNF_MAX_ABS;
    uint64_t items = (uint64_t)c->p[NNF_P_ITEMS], width = (uint64_t)c->p[NNF_P_WIDTH];
    size_t n_items = all ? (size_t)items : items < CHECKED_ITEMS ? (size_t)items : CHECKED_ITEMS;
    double tol = fp64 ? 1e-9 : 2e-5;
    struct exec_call again = *c;
    again.out = before;
    uint64_t *index = mem_alloc(n_items * width * sizeof *index);
    if (!index)
        return err_nomem(e, n_items * width * sizeof *index);
    for (size_t k = 0; k < n_items; k++) {
        /* Small calls whole; of larger ones the last item and scattered others. */
        uint64_t item = n_items == items ? k
                        : k == 0         ? items - 1
                                         : mix(d->o.seed ^ mix(d->x.n_runs * 64 + k)) % items;
        for (uint64_t w = 0; w < width; w++)
            index[w * n_items + k] = item * width + w; /* columns together */
    }
    for (size_t k = 0; k < n_items; k++) {
        bool seen = false; /* kernels add to out: an item drawn twice runs once */
        for (size_t q = 0; q < k && !all && !seen; q++)
            seen = index[q] == index[k];
        if (!seen)
            native_item(fp64, &again, (int64_t)(index[k] / width));
    }
    bool same = true;
    if (c->kernel == NNF_COMPARE) {
        double energy = 0;
        for (size_t k = 0; k < n_items; k++)
            for (uint64_t w = NNF_C_AA; w <= NNF_C_BB; w++)
                if (at(fp64, before, index[w * n_items + k]) > energy)
                    energy = at(fp64, before, index[w * n_items + k]);
        for (uint64_t w = 0; w < width && same; w++)
            same = agree(fp64, c->out, before, index + w * n_items, n_items, tol,
                         w == NNF_C_DOT ? energy : 0);
    } else
        same = agree(fp64, c->out, before, index, n_items * width, tol, 0);
    mem_free(index);
    if (!same)
        return err_set(e, ST_DEVICE, "device-lied",
                       "the device's numbers are not the kernel's (kernel %d)", c->kernel);
    return ST_OK;
}

/* ---- running ---- */

static enum status run(struct executor *x, const struct exec_call *c, struct err *e)
{
    struct device *d = (struct device *)x;
    size_t real = exec_real_bytes(x);
    uint64_t in_bytes = c->n_in * real, out_bytes = c->n_out * real;
    struct wire_run w;
    struct wire_ran ran = {0, 0};
    if (c->kernel < 0 || c->kernel >= NNF_KERNEL_N || c->p[NNF_P_ITEMS] <= 0 || c->n_in == 0 ||
        (uint64_t)c->p[NNF_P_ITEMS] * (uint64_t)c->p[NNF_P_WIDTH] != c->n_out)
        return err_set(e, ST_BUG, NULL, "kernel call %d without items", c->kernel);
    if (in_bytes > d->max_alloc || out_bytes > d->max_alloc)
        return err_set(e, ST_DEVICE, "device-memory", "the device takes no buffer of %llu bytes",
                       (unsigned long long)(in_bytes > out_bytes ? in_bytes : out_bytes));
    TRY(make_room(d, aligned(in_bytes) + out_bytes, e));
    memset(&w, 0, sizeof w);
    w.kernel = (uint32_t)c->kernel;
    w.n_params = NNF_MAX_PARAMS;
    w.n_items = (uint64_t)c->p[NNF_P_ITEMS];
    w.in_bytes = in_bytes;
    w.out = aligned(in_bytes);
    w.out_bytes = out_bytes;
    memcpy(w.p, c->p, sizeof w.p);
    memcpy(d->mem.p, c->in, in_bytes);
    memcpy(d->mem.p + w.out, c->out, out_bytes);
    TRY(child_call(d->child, WIRE_RUN, &w, sizeof w, -1, &ran, sizeof ran, d->o.run_ms, e));
    void *before = mem_alloc(out_bytes);
    if (!before)
        return err_nomem(e, out_bytes);
    memcpy(before, c->out, out_bytes);
    memcpy(c->out, d->mem.p + w.out, out_bytes); /* once: the worker may still write there */
    enum status st = ST_OK;
    if (wire_sum(c->out, out_bytes) != ran.sum || ran.kernel_ns > 3600000000000u)
        st = err_set(e, ST_DEVICE, "device-lied", "the results are not those the worker announced");
    else {
        x->n_runs++;
        x->kernel_ns += ran.kernel_ns;
        st = check_items(d, c, before, e);
    }
    mem_free(before);
    return st;
}

static void close_device(struct executor *x)
{
    struct device *d = (struct device *)x;
    child_close(d->child);
    shared_free(&d->mem);
    mem_free(d);
}

/* ---- opening ---- */

/* The kernels as one text: what the host agrees on, what makes both compilers alike, then the
 * families in byte order. Includes are left out, everything is there already. */
static enum status kernel_text(struct buf *b, struct err *e)
{
    static const char *const first[] = {"abi.h", "compat.h"};
    for (size_t k = 0; k < 2; k++)
        for (const struct embed *f = embed_opencl; f->name; f++)
            if (strcmp(f->name, first[k]) == 0)
                buf_bytes(b, f->data, (size_t)(f->end - f->data));
    for (const struct embed *f = embed_opencl; f->name; f++)
        if (str_ends(str_from(f->name), STR(".cl")))
            buf_bytes(b, f->data, (size_t)(f->end - f->data));
    return buf_ok(b, e);
}

static enum status build(struct device *d, const struct device_row *row, struct err *e)
{
    static struct wire_built built;
    struct buf text = BUF_INIT;
    enum status st = kernel_text(&text, e);
    if (st == ST_OK)
        st = make_room(d, text.n < 1 << 20 ? 1 << 20 : text.n, e);
    if (st == ST_OK) {
        struct wire_build b = {row->place, d->x.fp64, 0, text.n};
        memcpy(d->mem.p, text.p, text.n);
        memset(&built, 0, sizeof built);
        st = child_call(d->child, WIRE_BUILD, &b, sizeof b, -1, &built, sizeof built, d->o.build_ms,
                        e);
        if (st == ST_DEVICE && e && child_alive(d->child) && memchr(built.log, 0, WIRE_TEXT) &&
            built.log[0]) {
            char why[sizeof e->reason];
            memcpy(why, e->reason, sizeof why);
            st = err_set(e, ST_DEVICE, e->code, "%.150s: %.300s", why, built.log);
        }
    }
    buf_free(&text);
    return st;
}

/* The device again, in a worker that stays. */
static enum status reopen(struct device *d, const struct device_row *row, struct err *e)
{
    static struct wire_devices found;
    struct wire_ask ask = {.use_loader = !d->o.direct};
    memcpy(ask.library, row->library, sizeof ask.library);
    TRY(child_call(d->child, WIRE_OPEN, &ask, sizeof ask, -1, &found, sizeof found, d->o.probe_ms,
                   e));
    if (found.n > WIRE_MAX_DEVICES || row->place >= found.n ||
        found.device[row->place].type != row->d.type ||
        found.device[row->place].fp64 != row->d.fp64)
        return err_set(e, ST_DEVICE, "device-lied", "the driver shows other devices than before");
    return ST_OK;
}

static enum status open_row(struct device *d, const struct device_row *row, struct buf *tried,
                            struct err *e)
{
    d->x.fp64 = row->d.fp64 != 0 && !d->o.single;
    snprintf(d->x.name, sizeof d->x.name, "%s (%s, driver %s)", row->d.name, row->d.platform,
             row->d.driver);
    d->max_alloc = row->d.max_alloc_bytes;
    TRY(child_open(row->icd[0] ? row->icd : NULL, d->o.hello_ms, &d->child, tried, e));
    TRY(reopen(d, row, e));
    return build(d, row, e);
}

enum status device_open(const struct device_opt *o, struct executor **out, struct buf *tried,
                        struct err *e)
{
    *out = NULL;
    struct devices *list = mem_zalloc(1, sizeof *list);
    struct device *d = mem_zalloc(1, sizeof *d);
    if (!list || !d) {
        mem_free(list);
        mem_free(d);
        return err_nomem(e, sizeof *list + sizeof *d);
    }
    d->mem.fd = -1;
    d->o = *o;
    d->o.hello_ms = o->hello_ms ? o->hello_ms : 10000;
    d->o.probe_ms = o->probe_ms ? o->probe_ms : 30000;
    d->o.build_ms = o->build_ms ? o->build_ms : 180000;
    d->o.run_ms = o->run_ms ? o->run_ms : 120000;
    d->x.run = run;
    d->x.close = close_device;
    struct devices_opt lo = {o->vendors, o->direct, d->o.hello_ms, d->o.probe_ms};
    const struct device_row *row;
    enum status st = devices_list(&lo, list, e);
    if (tried)
        buf_bytes(tried, list->note.p, list->note.n);
    if (st == ST_OK)
        st = devices_select(list, o->selector, &row, e);
    if (st == ST_OK)
        st = open_row(d, row, tried, e);
    devices_free(list);
    mem_free(list);
    if (st != ST_OK) {
        close_device(&d->x);
        return st;
    }
    *out = &d->x;
    return ST_OK;
}
