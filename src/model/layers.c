/* Names of layer kinds and leaves: what messages, rules files and the archive call them. */
#include "model/layers.h"

static const char *const kind_names[LAYER_KINDS] = {
    [LAYER_NONE] = "none",           [LAYER_LINEAR] = "linear",
    [LAYER_CONV] = "conv",           [LAYER_CONV_TRANSPOSE] = "conv_transpose",
    [LAYER_BATCHNORM] = "batchnorm", [LAYER_LAYERNORM] = "layernorm",
    [LAYER_GROUPNORM] = "groupnorm", [LAYER_EMBEDDING] = "embedding",
    [LAYER_ATTENTION] = "attention", [LAYER_PARAM] = "param",
};
static const char *const leaf_names[LEAF_N] = {
    [LEAF_WEIGHT] = "weight",
    [LEAF_BIAS] = "bias",
    [LEAF_MEAN] = "mean",
    [LEAF_VAR] = "var",
    [LEAF_COUNT] = "count",
    [LEAF_QKV_WEIGHT] = "qkv_weight",
    [LEAF_QKV_BIAS] = "qkv_bias",
    [LEAF_Q_WEIGHT] = "q_weight",
    [LEAF_K_WEIGHT] = "k_weight",
    [LEAF_V_WEIGHT] = "v_weight",
    [LEAF_O_WEIGHT] = "o_weight",
    [LEAF_Q_BIAS] = "q_bias",
    [LEAF_K_BIAS] = "k_bias",
    [LEAF_V_BIAS] = "v_bias",
    [LEAF_O_BIAS] = "o_bias",
    [LEAF_VALUE] = "value",
    [LEAF_MEAN_HIDDEN] = "mean_hidden",
    [LEAF_VAR_HIDDEN] = "var_hidden",
    [LEAF_MEAN_COUNT] = "mean_count",
    [LEAF_VAR_COUNT] = "var_count",
    [LEAF_FIRST] = "first",
    [LEAF_UPDATES] = "updates",
};

const char *layer_kind_name(enum layer_kind k)
{
    return (unsigned)k < LAYER_KINDS ? kind_names[k] : "none";
}

bool layer_kind_parse(struct str s, enum layer_kind *out)
{
    for (unsigned k = 0; k < LAYER_KINDS; k++)
        if (str_is(s, kind_names[k])) {
            *out = (enum layer_kind)k;
            return true;
        }
    return false;
}

const char *leaf_name(enum leaf l)
{
    return (unsigned)l < LEAF_N ? leaf_names[l] : "value";
}

bool leaf_parse(struct str s, enum leaf *out)
{
    for (unsigned l = 0; l < LEAF_N; l++)
        if (str_is(s, leaf_names[l])) {
            *out = (enum leaf)l;
            return true;
        }
    return false;
}
