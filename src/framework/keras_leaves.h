/* How Keras's layers spell their leaves, in Keras and in TensorFlow alike: the body of a struct
 * leaf_rule table. Kernels are [in,out] and channels last; a transposed convolution's is [k..,O,I],
 * not flipped; a depthwise one's stands by channels, [k..,C,m]; attention's projections part the
 * heads; a PReLU has an axis for each of its input but the batch. LocallyConnected (Keras 2 alone)
 * as its implementation 1 has it: [positions, window * channels, out], channels innermost. Sources:
 * keras/src/layers/{core,convolutional,normalization,attention,activations}, tf_keras/layers.
 */
// clang-format off
#define L(k, r, v, l, n, x)                                                                        \
    {                                                                                              \
        LAYER_##k, r, v, LEAF_##l, n, "", x                                                        \
    }
L(LINEAR, 0, 0, WEIGHT, "kernel", "F O"),
L(LINEAR, 0, 0, BIAS, "bias", "O"),
L(LINEAR, 0, FORM_HEADS_OUT, WEIGHT, "kernel", "F N D"),
L(LINEAR, 0, FORM_HEADS_OUT, BIAS, "bias", "N D"),
L(LINEAR, 0, FORM_HEADS_IN, WEIGHT, "kernel", "N D O"),
/* EinsumDense, as its equation has them */
L(LINEAR, 0, FORM_AXES, WEIGHT, "kernel", "K"),
L(LINEAR, 0, FORM_AXES, BIAS, "bias", "B"),
L(CONV, 1, 0, WEIGHT, "kernel", "W I O"),
L(CONV, 2, 0, WEIGHT, "kernel", "H W I O"),
L(CONV, 3, 0, WEIGHT, "kernel", "D H W I O"),
L(CONV, 1, VARIANT_DEPTH, WEIGHT, "depthwise_kernel", "W C M"),
L(CONV, 2, VARIANT_DEPTH, WEIGHT, "depthwise_kernel", "H W C M"),
L(CONV, 3, VARIANT_DEPTH, WEIGHT, "depthwise_kernel", "D H W C M"),
L(CONV, 0, 0, BIAS, "bias", "O"),
L(CONV_TRANSPOSE, 1, 0, WEIGHT, "kernel", "W O I"),
L(CONV_TRANSPOSE, 2, 0, WEIGHT, "kernel", "H W O I"),
L(CONV_TRANSPOSE, 3, 0, WEIGHT, "kernel", "D H W O I"),
L(CONV_TRANSPOSE, 0, 0, BIAS, "bias", "O"),
L(CONV_LOCAL, 1, 0, WEIGHT, "kernel", "W F O"),
L(CONV_LOCAL, 2, 0, WEIGHT, "kernel", "(N W) F O"),
L(CONV_LOCAL, 1, 0, BIAS, "bias", "W O"),
L(CONV_LOCAL, 2, 0, BIAS, "bias", "N W O"),
L(BATCHNORM, 0, 0, WEIGHT, "gamma", "F"),
L(BATCHNORM, 0, 0, BIAS, "beta", "F"),
L(BATCHNORM, 0, 0, MEAN, "moving_mean", "F"),
L(BATCHNORM, 0, 0, VAR, "moving_variance", "F"),
L(LAYERNORM, 0, 0, WEIGHT, "gamma", "F"),
L(LAYERNORM, 0, 0, BIAS, "beta", "F"),
L(GROUPNORM, 0, 0, WEIGHT, "gamma", "F"),
L(GROUPNORM, 0, 0, BIAS, "beta", "F"),
L(EMBEDDING, 0, 0, WEIGHT, "embeddings", "V D"),
L(PRELU, 1, 0, WEIGHT, "alpha", "O"),
L(PRELU, 2, 0, WEIGHT, "alpha", "1 O"),
L(PRELU, 3, 0, WEIGHT, "alpha", "1 1 O"),
L(PRELU, 4, 0, WEIGHT, "alpha", "1 1 1 O"),
L(PRELU, 1, FORM_ONE, WEIGHT, "alpha", "1"),
L(PRELU, 2, FORM_ONE, WEIGHT, "alpha", "1 1"),
L(PRELU, 3, FORM_ONE, WEIGHT, "alpha", "1 1 1"),
L(PRELU, 4, FORM_ONE, WEIGHT, "alpha", "1 1 1 1"),
L(PRELU, 2, FORM_MAP, WEIGHT, "alpha", "W O"),
L(PRELU, 3, FORM_MAP, WEIGHT, "alpha", "H W O"),
L(PRELU, 4, FORM_MAP, WEIGHT, "alpha", "D H W O"),
L(ATTENTION, 0, 0, Q_WEIGHT, "query.kernel", "E N D"),
L(ATTENTION, 0, 0, K_WEIGHT, "key.kernel", "E N D"),
L(ATTENTION, 0, 0, V_WEIGHT, "value.kernel", "E N D"),
L(ATTENTION, 0, 0, O_WEIGHT, "attention_output.kernel", "N D E"),
L(ATTENTION, 0, 0, Q_BIAS, "query.bias", "N D"),
L(ATTENTION, 0, 0, K_BIAS, "key.bias", "N D"),
L(ATTENTION, 0, 0, V_BIAS, "value.bias", "N D"),
L(ATTENTION, 0, 0, O_BIAS, "attention_output.bias", "E"),
// clang-format on
#undef L
