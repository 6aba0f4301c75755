/* Names of layer kinds and leaves: what messages, rules files and the archive call them. */
#include "model/layers.h"

static const char *const kind_names[LAYER_KINDS] = {
    [LAYER_NONE] = "none",
    [LAYER_LINEAR] = "linear",
    [LAYER_CONV] = "conv",
    [LAYER_CONV_TRANSPOSE] = "conv_transpose",
    [LAYER_CONV_LOCAL] = "conv_local",
    [LAYER_BATCHNORM] = "batchnorm",
    [LAYER_LAYERNORM] = "layernorm",
    [LAYER_GROUPNORM] = "groupnorm",
    [LAYER_EMBEDDING] = "embedding",
    [LAYER_ATTENTION] = "attention",
    [LAYER_LSTM] = "lstm",
    [LAYER_CONV_LSTM] = "conv_lstm",
    [LAYER_GRU] = "gru",
    [LAYER_GRU_BEFORE] = "gru_before",
    [LAYER_RNN] = "rnn",
    [LAYER_PRELU] = "prelu",
    [LAYER_PARAM] = "param",
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
    [LEAF_IH_WEIGHT] = "ih_weight",
    [LEAF_HH_WEIGHT] = "hh_weight",
    [LEAF_IH_BIAS] = "ih_bias",
    [LEAF_HH_BIAS] = "hh_bias",
    [LEAF_HR_WEIGHT] = "hr_weight",
    [LEAF_XH_WEIGHT] = "xh_weight",
    [LEAF_XH_BIAS] = "xh_bias",
    [LEAF_IH_WEIGHT_0] = "ih_weight_0",
    [LEAF_IH_WEIGHT_0 + 1] = "ih_weight_1",
    [LEAF_IH_WEIGHT_0 + 2] = "ih_weight_2",
    [LEAF_IH_WEIGHT_0 + 3] = "ih_weight_3",
    [LEAF_HH_WEIGHT_0] = "hh_weight_0",
    [LEAF_HH_WEIGHT_0 + 1] = "hh_weight_1",
    [LEAF_HH_WEIGHT_0 + 2] = "hh_weight_2",
    [LEAF_HH_WEIGHT_0 + 3] = "hh_weight_3",
    [LEAF_IH_BIAS_0] = "ih_bias_0",
    [LEAF_IH_BIAS_0 + 1] = "ih_bias_1",
    [LEAF_IH_BIAS_0 + 2] = "ih_bias_2",
    [LEAF_IH_BIAS_0 + 3] = "ih_bias_3",
    [LEAF_HH_BIAS_0] = "hh_bias_0",
    [LEAF_HH_BIAS_0 + 1] = "hh_bias_1",
    [LEAF_HH_BIAS_0 + 2] = "hh_bias_2",
    [LEAF_HH_BIAS_0 + 3] = "hh_bias_3",
    [LEAF_MEAN_HIDDEN] = "mean_hidden",
    [LEAF_VAR_HIDDEN] = "var_hidden",
    [LEAF_MEAN_COUNT] = "mean_count",
    [LEAF_VAR_COUNT] = "var_count",
    [LEAF_FIRST] = "first",
    [LEAF_UPDATES] = "updates",
};

const char *cell_gates(enum layer_kind k)
{
    return k == LAYER_LSTM || k == LAYER_CONV_LSTM   ? "ifgo"
           : k == LAYER_GRU || k == LAYER_GRU_BEFORE ? "rzn"
           : k == LAYER_RNN                          ? "h"
                                                     : "";
}

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
