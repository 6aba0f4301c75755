/* How Keras computes its layers, Keras 2 and 3 and what TensorFlow's checkpoints hold of them: the
 * body of a table of forms. Dense y = x K + b with K [I,O]; convolutions cross-correlate kernels
 * [k,I/g,O] over channels last, so a flattened map is positions first. DepthwiseConv's kernel is
 * [k,C,m]: channel c gives the outputs c*m .. c*m+m-1, so its last two axes count the outputs.
 * An EinsumDense's kernel and bias have the axes of its equation.
 * ConvTranspose is the gradient of a convolution with kernel [k,O,I] as stored.
 * MultiHeadAttention's projections are [E,H,D] and [H,D,E], and so are GroupedQueryAttention's,
 * with fewer heads of keys and values. LocallyConnected reads the window at each position as
 * backend.local_conv flattens it, channels innermost, positions row by row. A PReLU's slopes are
 * broadcast against the input without its batch. Sources:
 * keras/src/layers/{core/dense,convolutional/base_*, attention/multi_head_attention}.py,
 * keras/src/backend/tensorflow/nn.py (conv, depthwise_conv, conv_transpose).
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
{LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_HEADS_OUT, 0, "C O*"},
{LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_HEADS_IN, 0, "C* O"},
{LAYER_LINEAR, LEAF_BIAS, LEAF_BIAS, 0, WHEN_FORM + FORM_HEADS_OUT, 0, "O*"},
{LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_AXES, 0, "="},
{LAYER_LINEAR, LEAF_BIAS, LEAF_BIAS, 0, WHEN_FORM + FORM_AXES, 0, "="},
SAME(LINEAR, WEIGHT, "(S C) O"),
SAME(LINEAR, BIAS, "O"),
RANK(CONV, 1, DEPTH, "x O*"),
RANK(CONV, 2, DEPTH, "x y O*"),
RANK(CONV, 3, DEPTH, "x y z O*"),
RANK(CONV, 1, ANY, "x I O"),
RANK(CONV, 2, ANY, "x y I O"),
RANK(CONV, 3, ANY, "x y z I O"),
SAME(CONV, BIAS, "O"),
RANK(CONV_TRANSPOSE, 1, ANY, "x O I"),
RANK(CONV_TRANSPOSE, 2, ANY, "x y O I"),
RANK(CONV_TRANSPOSE, 3, ANY, "x y z O I"),
SAME(CONV_TRANSPOSE, BIAS, "O"),
RANK(CONV_LOCAL, 1, ANY, "u (S C) O"),
RANK(CONV_LOCAL, 2, ANY, "(u v) (S C) O"),
{LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 1, WHEN_ANY, 0, "u O"},
{LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 2, WHEN_ANY, 0, "u v O"},
SAME(BATCHNORM, WEIGHT, "(S C)"),
SAME(BATCHNORM, BIAS, "(S C)"),
SAME(BATCHNORM, MEAN, "(S C)"),
SAME(BATCHNORM, VAR, "(S C)"),
SAME(LAYERNORM, WEIGHT, "(S C)"),
SAME(LAYERNORM, BIAS, "(S C)"),
SAME(GROUPNORM, WEIGHT, "(S C)"),
SAME(GROUPNORM, BIAS, "(S C)"),
SAME(EMBEDDING, WEIGHT, "V D"),
RANK(PRELU, 2, FORM + FORM_MAP, "x O"),
RANK(PRELU, 3, FORM + FORM_MAP, "x y O"),
RANK(PRELU, 4, FORM + FORM_MAP, "x y z O"),
RANK(PRELU, 1, ANY, "O"),
RANK(PRELU, 2, ANY, "1 O"),
RANK(PRELU, 3, ANY, "1 1 O"),
RANK(PRELU, 4, ANY, "1 1 1 O"),
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
