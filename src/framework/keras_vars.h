/* Variables of Keras's layers: which of a module's tensors is the kernel, the bias, the slopes.
 * What keras_style.c and keras_vars.c share; not for others.
 */
#ifndef FRAMEWORK_KERAS_VARS_H
#define FRAMEWORK_KERAS_VARS_H
#include "framework/keras_names.h"
#include "framework/keras_style.h"

enum var {
    V_KERNEL,
    V_BIAS,
    V_GAMMA,
    V_BETA,
    V_MEAN,
    V_VAR,
    V_EMBEDDINGS,
    V_REVERSE, /* of a ReversibleEmbedding that is not tied */
    V_DEPTHWISE,
    V_POINTWISE,
    V_SCALE,
    V_ALPHA,
    V_N
};
struct keras_mod {
    struct module *of;
    struct str path; /* what the layer is called */
    enum keras_class cls;
    const struct keras_layer *config; /* may be NULL */
    bool numbered;                    /* its variables are vars.N */
    size_t n_vars;                    /* not yet taken */
    int64_t var[V_N];                 /* tensors, -1 = absent */
    bool odd;                         /* holds more than the above */
};
struct keras_ctx {
    const struct keras_style *style;
    struct keras_names names;
    struct modules ms;
    struct keras_mod *mod; /* as ms.module */
    struct layer_list list;
};
const struct tensor *keras_tensor(const struct keras_ctx *c, int64_t t); /* NULL for -1 */
size_t keras_rank(const struct keras_ctx *c, int64_t t);                 /* 0 for -1 */
/* Fills x->var by the variables' names, or by their numbers in the class's order; x->odd where the
 * module holds anything else. */
void keras_vars_of(struct keras_ctx *c, struct keras_mod *x);
#endif
