/* Which variable of a Keras layer is which: by name ("kernel", "moving_mean"), or by number, in the
 * order in which the layer's class makes them. Sources: keras/src/layers.
 */
#include "framework/keras_vars.h"

static const struct {
    const char *name;
    enum var var;
} var_names[] = {
    {"kernel", V_KERNEL},
    {"bias", V_BIAS},
    {"gamma", V_GAMMA},
    {"beta", V_BETA},
    {"moving_mean", V_MEAN},
    {"moving_variance", V_VAR},
    {"embeddings", V_EMBEDDINGS},
    {"reverse_embeddings", V_REVERSE},
    {"depthwise_kernel", V_DEPTHWISE},
    {"pointwise_kernel", V_POINTWISE},
    {"scale", V_SCALE},
    {"alpha", V_ALPHA},
};

const struct tensor *keras_tensor(const struct keras_ctx *c, int64_t t)
{
    return t < 0 ? NULL : &c->ms.m->tensor[t];
}

size_t keras_rank(const struct keras_ctx *c, int64_t t)
{
    return t < 0 ? 0 : c->ms.m->tensor[t].n_dims;
}

/* Gives the variables of a class, in its order, their names. False: not so many. */
static bool in_order(struct keras_mod *x, const int64_t *t, const enum var *order, size_t least,
                     size_t most)
{
    if (x->n_vars < least || x->n_vars > most)
        return false;
    for (size_t i = 0; i < x->n_vars; i++)
        x->var[order[i]] = t[i];
    return true;
}

/* scale and center of a norm: where the config does not say, the number of variables does, unless
 * there is one of the two. */
static bool norm_order(struct keras_mod *x, const int64_t *t, size_t n_stats)
{
    enum var order[4];
    size_t n = 0, own = x->n_vars - n_stats;
    int scale = x->config ? x->config->scale : -1, center = x->config ? x->config->center : -1;
    if (x->n_vars < n_stats || own > 2)
        return false;
    if (own == 0)
        scale = center = 0;
    if (own == 2)
        scale = center = 1;
    if (scale < 0 || center < 0 || (size_t)(scale + center) != own)
        return false;
    if (scale)
        order[n++] = V_GAMMA;
    if (center)
        order[n++] = V_BETA;
    if (n_stats) {
        order[n++] = V_MEAN;
        order[n++] = V_VAR;
    }
    return in_order(x, t, order, n, n);
}

/* The one variable of a class of the user's own that nothing says to be a convolution: neither its
 * config nor its names (a class token, a table of positions). */
static bool own_value(const struct keras_mod *x)
{
    static const unsigned conv = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    struct str word = STR("conv");
    return x->config && x->config->cls.n && !x->config->kernel_size && x->n_vars == 1 &&
           str_find_str(x->config->cls, word, 0) == x->config->cls.n &&
           !(name_kinds(x->path) & conv);
}

/* A class that nothing tells: what the shapes of its variables can only be. */
static enum keras_class by_shapes(const struct keras_ctx *c, const struct keras_mod *x,
                                  const int64_t *t)
{
    const struct tensor *w = keras_tensor(c, t[0]), *b = keras_tensor(c, t[1]);
    if (x->n_vars > 2 || !w || w->n_dims < 2 || w->n_dims > 5)
        return KERAS_UNKNOWN;
    if (b && b->n_dims != 1)
        return KERAS_UNKNOWN;
    if (w->n_dims > 2 && own_value(x))
        return KERAS_UNKNOWN;
    if (w->n_dims > 2)
        return KERAS_CONV; /* of some kind: told by the bias, or asked about */
    return b && b->dim[0] == w->dim[1] ? KERAS_DENSE : KERAS_UNKNOWN;
}

static bool number_vars(const struct keras_ctx *c, struct keras_mod *x, const int64_t *t)
{
    static const enum var kernel[] = {V_KERNEL, V_BIAS}, depthwise[] = {V_DEPTHWISE, V_BIAS},
                          separable[] = {V_DEPTHWISE, V_POINTWISE, V_BIAS},
                          embeddings[] = {V_EMBEDDINGS, V_REVERSE}, scale[] = {V_SCALE},
                          alpha[] = {V_ALPHA};
    if (x->cls == KERAS_UNKNOWN && x->n_vars == 4 && keras_rank(c, t[0]) == 1 &&
        keras_rank(c, t[1]) == 1 && keras_rank(c, t[2]) == 1 && keras_rank(c, t[3]) == 1 &&
        name_kinds(x->path) == KIND_BIT(LAYER_BATCHNORM))
        x->cls = KERAS_BATCHNORM;
    enum keras_class cls = x->cls ? x->cls : by_shapes(c, x, t);
    switch (cls) {
    case KERAS_DENSE:
    case KERAS_EINSUM:
    case KERAS_CONV:
    case KERAS_CONV_TRANSPOSE:
    case KERAS_LOCAL_1D:
    case KERAS_LOCAL_2D:
        return in_order(x, t, kernel, 1, 2);
    case KERAS_DEPTHWISE:
        return in_order(x, t, depthwise, 1, 2);
    case KERAS_SEPARABLE:
        return in_order(x, t, separable, 2, 3);
    case KERAS_BATCHNORM:
        return norm_order(x, t, 2);
    case KERAS_LAYERNORM:
    case KERAS_GROUPNORM:
        return norm_order(x, t, 0);
    case KERAS_RMSNORM:
        return in_order(x, t, scale, 1, 1);
    case KERAS_EMBEDDING:
        return in_order(x, t, embeddings, 1, keras_rank(c, t[1]) == 2 ? 2 : 1);
    case KERAS_PRELU:
        return in_order(x, t, alpha, 1, 1);
    case KERAS_ATTENTION:
    case KERAS_OTHER:
    case KERAS_UNKNOWN:
        break;
    }
    return false;
}

/* As tf.slim (weights, biases) and modules written by hand and Sonnet's (w, b) name them, where the
 * shapes bear it out: a bias of the kernel's outputs, or alone a kernel over space. */
static void old_names(const struct keras_ctx *c, struct keras_mod *x)
{
    static const struct {
        const char *name;
        enum var var;
        bool slim;
    } old[] = {{"weights", V_KERNEL, true},
               {"biases", V_BIAS, true},
               {"depthwise_weights", V_DEPTHWISE, true},
               {"pointwise_weights", V_POINTWISE, true},
               {"w", V_KERNEL, false},
               {"b", V_BIAS, false}};
    int64_t var[V_N];
    bool slim = false, plain = false;
    for (size_t i = 0; i < V_N; i++)
        var[i] = -1;
    for (uint32_t i = x->of->first; i < x->of->first + x->of->n; i++) {
        const struct member *b = &c->ms.member[i];
        size_t k = 0;
        while (k < sizeof old / sizeof *old && !str_is(b->leaf, old[k].name))
            k++;
        if (k == sizeof old / sizeof *old || b->taken)
            return;
        var[old[k].var] = b->tensor;
        slim = slim || old[k].slim;
        plain = plain || !old[k].slim;
    }
    const struct tensor *b = keras_tensor(c, var[V_BIAS]);
    size_t rank = keras_rank(c, var[V_KERNEL]), depth = keras_rank(c, var[V_DEPTHWISE]);
    const struct tensor *w = keras_tensor(c, var[rank ? V_KERNEL : V_DEPTHWISE]);
    if ((slim && plain) || !w || (rank && depth) || (b && b->n_dims != 1))
        return;
    bool fits = b && (b->dim[0] == w->dim[w->n_dims - 1] ||
                      (w->n_dims > 2 && b->dim[0] == w->dim[w->n_dims - 2]));
    if (!depth && (rank < 2 || rank > 5 || (b ? !fits : !slim || rank < 4)))
        return;
    if (depth && (depth < 3 || depth > 5))
        return;
    for (size_t i = 0; i < V_N; i++)
        x->var[i] = var[i];
    x->odd = false;
}

#define VARS_MAX 8
void keras_vars_of(struct keras_ctx *c, struct keras_mod *x)
{
    int64_t t[VARS_MAX];
    for (size_t i = 0; i < VARS_MAX; i++)
        t[i] = -1;
    for (uint32_t i = x->of->first; i < x->of->first + x->of->n; i++) {
        const struct member *b = &c->ms.member[i];
        uint64_t at = VARS_MAX;
        size_t k = 0;
        x->n_vars += !b->taken;
        if (x->numbered) {
            if (b->taken || !b->collection.n || !str_u64(b->leaf, &at) || at >= VARS_MAX)
                x->odd = true;
            else
                t[at] = b->tensor;
            continue;
        }
        while (k < sizeof var_names / sizeof *var_names && !str_is(b->leaf, var_names[k].name))
            k++;
        if (k == sizeof var_names / sizeof *var_names || x->var[var_names[k].var] >= 0)
            x->odd = true;
        else
            x->var[var_names[k].var] = b->tensor;
    }
    x->odd = x->odd || (x->var[V_ALPHA] >= 0 && x->n_vars > 1);
    for (size_t i = 0; x->numbered && i < x->n_vars; i++)
        x->odd = x->odd || x->n_vars > VARS_MAX || t[i] < 0;
    if (x->numbered && !x->odd)
        x->odd = !number_vars(c, x, t);
    if (!x->numbered && x->odd && str_is(STR("tensorflow"), c->style->framework))
        old_names(c, x);
}
