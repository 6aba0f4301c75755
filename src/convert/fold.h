/* Weights that a module computes from others, computed once, on request: weight norm (g v / |v|),
 * spectral norm (w / (u' w v), u and v as stored) and LoRA (w + scale B A). These change values, so
 * that they are never done unasked; the ledger names each. The numbers are summed in float64, in
 * one order, and rounded once to the weight's own type.
 *
 * Keras 2's CuDNN cells become what its own cells hold by the same way: their kernels are permuted,
 * which changes no value.
 *
 * A folded weight is a prepass of the plan: fold_plan settles what becomes of each tensor and where
 * the result will lie (a spool, as long as the weights that change), fold_run computes it, a few
 * rows at a time. In between the model can be mapped and printed.
 *
 * Sources: torch/nn/utils/{weight_norm,spectral_norm,parametrizations}.py,
 * flax/linen/normalization.py, equinox/nn/{_weight_norm,_spectral_norm}.py,
 * keras/src/layers/normalization/spectral_normalization.py, peft/tuners/lora/layer.py.
 */
#ifndef CONVERT_FOLD_H
#define CONVERT_FOLD_H
#include "convert/run.h"
#include "framework/upgrade.h"

struct fold_opt {
    bool norms;              /* weight and spectral norms */
    bool cudnn;              /* Keras 2's CuDNN cells become its own */
    struct model *adapter;   /* LoRA: the model that may hold it; NULL = not asked */
    struct str config;       /* ... its adapter_config.json; empty = none was found */
    const char *config_path; /* for messages; NULL = its name alone */
    bool state_goes;         /* train state is not carried */
    const char *beside;      /* where the result will be written: the spool goes there */
};
struct fold;
/* Gives m the folded weights, as yet without numbers, and adds to *up what became of each tensor.
 * The adapter lives until fold_free, which *out needs whatever the outcome. ST_CANNOT: fold-shape,
 * fold-axis, fold-steps, fold-type, fold-shared, fold-state, fold-taken, lora-config, lora-base,
 * lora-pair, lora-shape, lora-several, lora-dora, lora-pattern, lora-other, lora-none. */
MUSTCHECK enum status fold_plan(struct model *m, const struct fold_opt *o, struct upgrade *up,
                                struct fold **out, struct err *e);
/* Are there weights to be computed, and not names alone to be changed? f may be NULL. */
bool fold_computes(const struct fold *f);
/* Of its spools: the result, and what is decoded ahead; f may be NULL. */
uint64_t fold_bytes(const struct fold *f);
/* Adds the spools and what is decoded into them, tiles and streams, each once; and raises c's
 * memory to what fold_run takes at most. ST_LIMIT memory: more than o allows. f may be NULL. */
MUSTCHECK enum status fold_cost(const struct fold *f, const struct run_opt *o, struct run_cost *c,
                                struct err *e);
/* ST_CANNOT fold-zero (a norm of zero, or of no number), fold-value (a weight of no number),
 * overflow. */
MUSTCHECK enum status fold_run(struct fold *f, struct err *e);
void fold_free(struct fold *f); /* NULL allowed; m's folded weights are gone then */
/* A tensor of a weight that is spelled by a norm, of a CuDNN cell; -1 where there is none. */
int64_t fold_found(const struct model *m);
int64_t fold_cudnn_found(const struct model *m);
#endif
