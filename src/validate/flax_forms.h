/* How Flax computes its layers, Linen and NNX alike: the body of a table of forms. Dense y = x K +
 * b with K [I,O]; convolutions cross-correlate kernels [k,I/g,O] over channels last, so a flattened
 * map is positions first; ConvTranspose dilates the input and correlates with its kernel [k,I,O] as
 * stored, which is the adjoint of a convolution with the kernel reversed along every spatial axis;
 * with transpose_kernel=True it holds [k,O,I] and is the adjoint itself.
 * DenseGeneral's kernel has the axes that it contracts, then its features.
 * MultiHeadDotProductAttention's projections are [E,H,D] and [H,D,E]. PReLU has one slope. Sources:
 * flax/{linen,nnx/nn}/{linear,normalization,attention}.py, jax.lax.conv_transpose.
 */
// clang-format off
#define SAME(kind, leaf, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, 0, WHEN_ANY, 0, axes                               \
    }
#define RANK(kind, rank, when, axes)                                                               \
    {                                                                                              \
        LAYER_##kind, LEAF_WEIGHT, LEAF_WEIGHT, rank, WHEN_##when, 0, axes                         \
    }
{LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_AXES, 0, "C+ O+"},
{LAYER_LINEAR, LEAF_BIAS, LEAF_BIAS, 0, WHEN_FORM + FORM_AXES, 0, "O+"},
SAME(LINEAR, WEIGHT, "(S C) O"),
SAME(LINEAR, BIAS, "O"),
RANK(CONV, 1, ANY, "x I O"),
RANK(CONV, 2, ANY, "x y I O"),
RANK(CONV, 3, ANY, "x y z I O"),
SAME(CONV, BIAS, "O"),
RANK(CONV_TRANSPOSE, 1, FLIP, "-x I O"),
RANK(CONV_TRANSPOSE, 2, FLIP, "-x -y I O"),
RANK(CONV_TRANSPOSE, 3, FLIP, "-x -y -z I O"),
RANK(CONV_TRANSPOSE, 1, NO_FLIP, "x O I"),
RANK(CONV_TRANSPOSE, 2, NO_FLIP, "x y O I"),
RANK(CONV_TRANSPOSE, 3, NO_FLIP, "x y z O I"),
SAME(CONV_TRANSPOSE, BIAS, "O"),
SAME(BATCHNORM, WEIGHT, "(S C)"),
SAME(BATCHNORM, BIAS, "(S C)"),
SAME(BATCHNORM, MEAN, "(S C)"),
SAME(BATCHNORM, VAR, "(S C)"),
SAME(LAYERNORM, WEIGHT, "(S C)"),
SAME(LAYERNORM, BIAS, "(S C)"),
SAME(GROUPNORM, WEIGHT, "(S C)"),
SAME(GROUPNORM, BIAS, "(S C)"),
SAME(EMBEDDING, WEIGHT, "V D"),
SAME(PRELU, WEIGHT, ""),
SAME(ATTENTION, Q_WEIGHT, "E H D"),
SAME(ATTENTION, K_WEIGHT, "E H D"),
SAME(ATTENTION, V_WEIGHT, "E H D"),
SAME(ATTENTION, O_WEIGHT, "H D E"),
SAME(ATTENTION, Q_BIAS, "H D"),
SAME(ATTENTION, K_BIAS, "H D"),
SAME(ATTENTION, V_BIAS, "H D"),
SAME(ATTENTION, O_BIAS, "E"),
// clang-format on
#undef SAME
#undef RANK
