/* validate: do two models compute the same? The source is A, the reference that tolerances refer to
 * is B. Three rungs, a report names the one reached:
 *   transport  the tensors hold the same values
 *   meaning    each layer runs under A's convention on A's tensors and under B's on B's, on the
 *              same seeded input, and the results agree
 *   (truth     activations recorded from the real framework; not here)
 *
 * Level layer. Inputs come from a counter-based generator in integer arithmetic, the same on every
 * host: value i of stream s under a seed is a 24-bit number in [-1, 1). Batches are larger than
 * one, spatial extents differ from each other. Every weight element takes part: linear layers and
 * projections run whole (3 rows, every output), convolutions run whole over a few positions so
 * that every kernel tap meets an input, tables look up every row. A layer is compared in stages
 * (normalised before scaled; q, k, v, context, output), since a later one can hide an earlier: a
 * key's bias cancels in the softmax. What the weights do not hold takes one assumed value on both
 * sides, listed in `assumed`.
 *
 * A difference is a fault when |a - b| > atol * (largest |b| of the stage) + rtol * |b|.
 */
#ifndef VALIDATE_VALIDATE_H
#define VALIDATE_VALIDATE_H
#include "convert/run.h"
#include "model/layers.h"

enum validate_level { VALIDATE_TENSOR, VALIDATE_LAYER };
struct validate_opt {
    enum validate_level level;
    const char *device;  /* --device: validate/devices.h; NULL = the best there is, falling back to
                            native; "native" = no device. With another selector there is no fallback:
                            ST_DEVICE */
    const char *vendors; /* instead of the host's .icd folder; NULL */
    uint64_t seed;
    double rtol, atol;   /* NaN: by dtype, see tolerance_for */
    double min_coverage; /* 0..1 of the parameters at this level; NaN: 1 */
    int deadline_ms;     /* per call to the device; 0: the defaults of device_open */
    struct run_opt run;
};

enum verdict { VERDICT_EQUAL, VERDICT_DIFFERS, VERDICT_UNPROVEN };
const char *verdict_name(enum verdict v); /* "equal" "differs" "unproven" */
enum rung { RUNG_NONE, RUNG_TRANSPORT, RUNG_MEANING, RUNG_N };
const char *rung_name(enum rung r); /* "none" "transport" "meaning" */

struct metrics {
    double max_abs, mse, cosine, max_rel;
    double max_ref;       /* largest |b| */
    uint64_t n;           /* values compared */
    uint64_t n_fail;      /* faults */
    uint64_t first;       /* number of the first fault, when n_fail > 0 */
    uint64_t n_nonfinite; /* finite on one side only, or other infinities */
    uint64_t n_finite;    /* pairs with both finite */
};

struct validate_layer {
    struct str path_a, path_b; /* path_b empty: no partner (and the other way round) */
    enum layer_kind kind;      /* LAYER_NONE at level tensor */
    enum verdict verdict;
    enum rung rung;
    struct str why;     /* differs: where; unproven: why. Else empty */
    struct str stage;   /* the stage that metrics are of: the worst, "output" ... */
    struct str input;   /* "x [3,64] -> y [3,10]" */
    struct str assumed; /* "eps=1e-05 stride=1"; empty: nothing */
    struct str cause;   /* differs: what would explain it ("transposed"), empty = no idea */
    struct metrics m;
    bool bit_equal;     /* level tensor */
    uint64_t n_params;  /* elements of A's tensors in this layer (B's where A has none) */
    uint64_t kernel_ns; /* on the device */
    bool native;        /* computed natively although a device was in use */
};
struct validate_report {
    struct arena arena;
    struct validate_layer *layer;
    size_t n;
    size_t n_equal, n_differs, n_unproven;
    uint64_t params_total;         /* every parameter, buffer and statistic once; counters apart */
    uint64_t params_at[RUNG_N];    /* proven at that rung, and not at a higher one */
    double coverage, min_coverage; /* share proven at the level asked for; what was asked */
    struct str executor;           /* "native", or device, driver and version */
    bool fp64;                     /* its arithmetic */
    uint64_t kernel_ns;
    bool fallback;   /* a device was there or asked for, the native executor answered */
    struct str note; /* lines: why there is no device, what it did */
    enum verdict overall;
};
/* plan a, b: identity plans (level layer), or plans into canonical spelling (level tensor). la, lb:
 * layers of a->src and b->src, whose tensors are numbered as in the plans' targets; pair[i] is the
 * layer of b for layer i of la, -1 = none. Level tensor pairs by name and may have la, lb, pair
 * NULL. ST_OK whatever the answer (out->overall); out is freed with validate_free in any case. */
MUSTCHECK enum status validate_run(const struct plan *a, const struct layers *la,
                                   const char *framework_a, const struct plan *b,
                                   const struct layers *lb, const char *framework_b,
                                   const int64_t *pair, const struct validate_opt *o,
                                   struct validate_report *out, struct err *e);
void validate_free(struct validate_report *r);

/* The default tolerances for tensors of these two types. Equal types are only permuted, and both
 * sides compute in the same arithmetic: float64 1e-10/1e-12, all others 1e-5/1e-6. Where the types
 * differ, the coarser one's rounding is the difference to expect: bfloat16 2e-2/1e-2, float16
 * 1e-2/1e-3, 8-bit floats 1.5e-1/1e-1, else 1e-5/1e-6. At level tensor equal types must hold equal
 * values: 0/0. */
void tolerance_for(enum dtype a, enum dtype b, bool values_only, double *rtol, double *atol);
#endif
