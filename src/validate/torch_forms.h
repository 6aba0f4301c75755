/* How torch.nn's layers compute from their tensors: the body of a table of forms, for plain modules
 * and Hugging Face's models. Linear y = x W^T + b; convolutions cross-correlate kernels [O,I/g,k];
 * ConvTranspose is the adjoint with kernels [I,O/g,k]; a flattened map is channels first. Sources:
 * the classes' documentation and torch/nn/modules.
 */
// clang-format off
#define SAME(kind, leaf, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, 0, WHEN_ANY, 0, axes                               \
    }
#define RANK(kind, rank, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_WEIGHT, LEAF_WEIGHT, rank, WHEN_ANY, 0, axes                            \
    }
#define FUSED(leaf, from, part, axes)                                                              \
    {                                                                                              \
        LAYER_ATTENTION, LEAF_##leaf, LEAF_##from, 0, WHEN_ANY, part, axes                         \
    }
/* GPT-2's Conv1D: y = x W + b, W as it is stored */
{LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_INPUT_FIRST, 0, "(C S) O"},
/* Gemma's norms: x (1 + w) */
{LAYER_LAYERNORM, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_RMS_LESS, 0, "+(C S)"},
SAME(LINEAR, WEIGHT, "O (C S)"),
SAME(LINEAR, BIAS, "O"),
RANK(CONV, 1, "O I x"),
RANK(CONV, 2, "O I x y"),
RANK(CONV, 3, "O I x y z"),
SAME(CONV, BIAS, "O"),
RANK(CONV_TRANSPOSE, 1, "I O x"),
RANK(CONV_TRANSPOSE, 2, "I O x y"),
RANK(CONV_TRANSPOSE, 3, "I O x y z"),
SAME(CONV_TRANSPOSE, BIAS, "O"),
SAME(BATCHNORM, WEIGHT, "(C S)"),
SAME(BATCHNORM, BIAS, "(C S)"),
SAME(BATCHNORM, MEAN, "(C S)"),
SAME(BATCHNORM, VAR, "(C S)"),
SAME(LAYERNORM, WEIGHT, "(C S)"),
SAME(LAYERNORM, BIAS, "(C S)"),
SAME(GROUPNORM, WEIGHT, "(C S)"),
SAME(GROUPNORM, BIAS, "(C S)"),
SAME(EMBEDDING, WEIGHT, "V D"),
SAME(PRELU, WEIGHT, "O"), /* one for all has an O of 1 */
SAME(ATTENTION, Q_WEIGHT, "(H D) E"),
SAME(ATTENTION, K_WEIGHT, "(H D) E"),
SAME(ATTENTION, V_WEIGHT, "(H D) E"),
SAME(ATTENTION, O_WEIGHT, "E (H D)"),
SAME(ATTENTION, Q_BIAS, "(H D)"),
SAME(ATTENTION, K_BIAS, "(H D)"),
SAME(ATTENTION, V_BIAS, "(H D)"),
SAME(ATTENTION, O_BIAS, "E"),
FUSED(Q_WEIGHT, QKV_WEIGHT, 0, "(P H D) E"),
FUSED(K_WEIGHT, QKV_WEIGHT, 1, "(P H D) E"),
FUSED(V_WEIGHT, QKV_WEIGHT, 2, "(P H D) E"),
FUSED(Q_BIAS, QKV_BIAS, 0, "(P H D)"),
FUSED(K_BIAS, QKV_BIAS, 1, "(P H D)"),
FUSED(V_BIAS, QKV_BIAS, 2, "(P H D)"),
// clang-format on
#undef SAME
#undef RANK
#undef FUSED
