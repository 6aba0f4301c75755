/* Which layers read a flattened map, from the config's graph: back from a layer to what gives its
 * input, through what changes neither order nor number of the values, across models in models.
 * Only what is known in every step counts; anything else tells nothing.
 */
#include "framework/keras_names.h"
#include <string.h>

static bool one_of(struct str cls, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_is(cls, list[i]))
            return true;
    return false;
}
#define ONE_OF(cls, list) one_of(cls, list, sizeof list / sizeof *list)

/* Value by value, or vector by vector. */
static const char *const passes[] = {"dropout",
                                     "activation",
                                     "relu",
                                     "leakyrelu",
                                     "elu",
                                     "selu",
                                     "gelu",
                                     "softmax",
                                     "thresholdedrelu",
                                     "prelu",
                                     "gaussiannoise",
                                     "gaussiandropout",
                                     "alphadropout",
                                     "activityregularization",
                                     "batchnormalization",
                                     "batchnormalizationv1",
                                     "layernormalization",
                                     "rmsnormalization",
                                     "unitnormalization"};
/* Map by map: the channels stay what they are. */
static const char *const keeps_channels[] = {
    "maxpooling1d",     "maxpooling2d",     "maxpooling3d",  "averagepooling1d",
    "averagepooling2d", "averagepooling3d", "zeropadding1d", "zeropadding2d",
    "zeropadding3d",    "cropping1d",       "cropping2d",    "cropping3d",
    "upsampling1d",     "upsampling2d",     "upsampling3d",  "spatialdropout1d",
    "spatialdropout2d", "spatialdropout3d"};
/* What follows them reads no flattened map: the last axis is their own. */
static const char *const own_width[] = {"dense",
                                        "embedding",
                                        "lstm",
                                        "gru",
                                        "simplernn",
                                        "globalaveragepooling1d",
                                        "globalaveragepooling2d",
                                        "globalaveragepooling3d",
                                        "globalmaxpooling1d",
                                        "globalmaxpooling2d",
                                        "globalmaxpooling3d"};

/* The layer whose output a layer reads; -1 = not told, or the model's input. */
static int64_t before(const struct keras_names *x, int64_t at)
{
    while (at >= 0 && x->layer[at].parent >= 0) {
        const struct keras_layer *l = &x->layer[at];
        bool list = str_is(x->layer[l->parent].cls, "sequential");
        if (l->attr.n == 0 && l->n_inbound == 1)
            return keras_child(x, l->parent, l->inbound);
        if (l->attr.n == 0 && (l->n_inbound > 1 || (!list && !str_is(l->cls, "inputlayer"))))
            return -1;
        if (l->attr.n == 0 && list && l->prev >= 0)
            return l->prev;
        at = l->parent; /* the first of its model, its input, or what a wrapper wraps */
    }
    return -1;
}

/* What a layer reads, from models and wrappers in to the layer that gives what they give, from an
 * input out to what feeds it. */
static int64_t giver(struct keras_names *x, int64_t at)
{
    for (at = before(x, at); at >= 0 && x->budget > 0; x->budget--) {
        const struct keras_layer *l = &x->layer[at];
        if (str_is(l->cls, "inputlayer"))
            at = before(x, at);
        else if (str_is(l->cls, "sequential") || str_is(l->cls, "timedistributed"))
            at = l->last;
        else if (str_is(l->cls, "functional") || str_is(l->cls, "model"))
            at = l->n_output == 1 ? keras_child(x, at, l->output) : -1;
        else
            break;
    }
    if (x->budget == 0)
        return -1;
    x->budget--;
    return at;
}

static bool is_local(enum keras_class k)
{
    return k == KERAS_LOCAL_1D || k == KERAS_LOCAL_2D;
}

/* Channels of the map that a Flatten reads; 0 = not told. */
static uint64_t channels(struct keras_names *x, int64_t at)
{
    if (x->layer[at].in_dims)
        return x->layer[at].in_last;
    while ((at = giver(x, at)) >= 0) {
        const struct keras_layer *l = &x->layer[at];
        enum keras_class k = keras_class_of(l->cls);
        if (k == KERAS_CONV || k == KERAS_CONV_TRANSPOSE || k == KERAS_SEPARABLE || is_local(k))
            return l->filters;
        if (!ONE_OF(l->cls, keeps_channels) && !ONE_OF(l->cls, passes))
            return 0;
    }
    return 0;
}

/* Does a layer read a flattened map? False: the config does not tell. *c: the channels of that map,
 * 0 where it reads none; *flat: the Flatten. */
static bool flat_of(struct keras_names *x, const struct keras_layer *l, uint64_t *c,
                    const struct keras_layer **flat)
{
    int64_t at = l - x->layer;
    *c = 0;
    *flat = NULL;
    while (!x->channels_first && (at = giver(x, at)) >= 0) {
        const struct keras_layer *q = &x->layer[at];
        if (str_is(q->cls, "flatten") && q->in_dims != 2) {
            *c = channels(x, at);
            *flat = q;
            return *c != 0;
        }
        if (ONE_OF(q->cls, own_width) || ONE_OF(q->cls, keeps_channels) ||
            keras_class_of(q->cls) == KERAS_CONV || is_local(keras_class_of(q->cls)))
            return true;
        if (!str_is(q->cls, "flatten") && !ONE_OF(q->cls, passes))
            return false;
    }
    return false;
}

enum status keras_flat_layer(struct keras_names *x, const struct keras_layer *config,
                             const struct tensor *w, struct layer *l, struct arena *a,
                             struct err *e)
{
    const struct keras_layer *at;
    if (!config || !w ||
        (l->kind != LAYER_LINEAR && l->kind != LAYER_LAYERNORM && l->kind != LAYER_BATCHNORM))
        return ST_OK;
    l->flat_said = flat_of(x, config, &l->flat_c, &at);
    if (l->flat_c && w->dim[0] % l->flat_c) { /* the config is another model's */
        l->flat_said = false;
        l->flat_c = 0;
    }
    if (!l->flat_c)
        return ST_OK;
    l->reason = arena_fmt(a, "%.*s; reads a map of %llu channels, flattened by %.*s",
                          STR_ARG(l->reason), (unsigned long long)l->flat_c, STR_ARG(at->by_name));
    return l->reason.p ? ST_OK : err_nomem(e, 64);
}
