/* How Flax's layers spell their leaves, Linen's and NNX's alike: the body of a struct leaf_rule
 * table. Before including, define FLAX_PARAMS and FLAX_STATS, the collections that parameters and
 * statistics stand in ("" = none). Sources:
 * flax/{linen,nnx/nn}/{linear,normalization,attention}.py,
 * flax/linen/activation.py.
 */
// clang-format off
#define P(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, FLAX_PARAMS, x                                               \
    }
#define S(k, l, n, x)                                                                              \
    {                                                                                              \
        LAYER_##k, 0, 0, LEAF_##l, n, FLAX_STATS, x                                                \
    }
P(LINEAR, 0, WEIGHT, "kernel", "F O"),
P(LINEAR, 0, BIAS, "bias", "O"),
/* DenseGeneral, LinearGeneral: what is contracted, then the features */
{LAYER_LINEAR, 0, FORM_AXES, LEAF_WEIGHT, "kernel", FLAX_PARAMS, "F O"},
{LAYER_LINEAR, 0, FORM_AXES, LEAF_BIAS, "bias", FLAX_PARAMS, "O"},
P(CONV, 1, WEIGHT, "kernel", "W I O"),
P(CONV, 2, WEIGHT, "kernel", "H W I O"),
P(CONV, 3, WEIGHT, "kernel", "D H W I O"),
P(CONV, 0, BIAS, "bias", "O"),
/* transpose_kernel=False, the default: stored as the kernel of the equivalent convolution */
P(CONV_TRANSPOSE, 1, WEIGHT, "kernel", "-W I O"),
P(CONV_TRANSPOSE, 2, WEIGHT, "kernel", "-H -W I O"),
P(CONV_TRANSPOSE, 3, WEIGHT, "kernel", "-D -H -W I O"),
{LAYER_CONV_TRANSPOSE, 1, 1, LEAF_WEIGHT, "kernel", FLAX_PARAMS, "W O I"},
{LAYER_CONV_TRANSPOSE, 2, 1, LEAF_WEIGHT, "kernel", FLAX_PARAMS, "H W O I"},
{LAYER_CONV_TRANSPOSE, 3, 1, LEAF_WEIGHT, "kernel", FLAX_PARAMS, "D H W O I"},
P(CONV_TRANSPOSE, 0, BIAS, "bias", "O"),
P(BATCHNORM, 0, WEIGHT, "scale", "F"),
P(BATCHNORM, 0, BIAS, "bias", "F"),
S(BATCHNORM, MEAN, "mean", "F"),
S(BATCHNORM, VAR, "var", "F"),
P(LAYERNORM, 0, WEIGHT, "scale", "F"),
P(LAYERNORM, 0, BIAS, "bias", "F"),
P(GROUPNORM, 0, WEIGHT, "scale", "F"),
P(GROUPNORM, 0, BIAS, "bias", "F"),
P(EMBEDDING, 0, WEIGHT, "embedding", "V D"),
{LAYER_PRELU, 0, FORM_ONE, LEAF_WEIGHT, "negative_slope", FLAX_PARAMS, AXES_NONE},
P(ATTENTION, 0, Q_WEIGHT, "query.kernel", "E N D"),
P(ATTENTION, 0, K_WEIGHT, "key.kernel", "E N D"),
P(ATTENTION, 0, V_WEIGHT, "value.kernel", "E N D"),
P(ATTENTION, 0, O_WEIGHT, "out.kernel", "N D E"),
P(ATTENTION, 0, Q_BIAS, "query.bias", "N D"),
P(ATTENTION, 0, K_BIAS, "key.bias", "N D"),
P(ATTENTION, 0, V_BIAS, "value.bias", "N D"),
P(ATTENTION, 0, O_BIAS, "out.bias", "E"),
// clang-format on
#undef P
#undef S
