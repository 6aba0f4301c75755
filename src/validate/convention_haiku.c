/* Haiku: hk.Linear y = x w + b with w [I,O]; hk.ConvND cross-correlates kernels [k,I/g,O] over
 * channels last, so a flattened map is positions first; hk.ConvNDTranspose hands jax's
 * conv_transpose a kernel [k,O,I] and numbers "...OI" for its axes, which correlates the dilated
 * input with the kernel as stored: the adjoint of a convolution with the kernel reversed along
 * every spatial axis. BatchNorm reads `average` of its two averages and broadcasts [1,...,1,C].
 * MultiHeadAttention reshapes the outputs of query, key and value to [heads, width] and the
 * weighted values back before `linear`. Sources:
 * haiku/_src/{basic,conv,batch_norm,attention,embed}.py.
 */
#include "validate/convention.h"

#define SAME(kind, leaf, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, 0, WHEN_ANY, 0, axes                               \
    }
#define RANK(kind, leaf, rank, axes)                                                               \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, rank, WHEN_ANY, 0, axes                            \
    }
#define NORM(rank, axes)                                                                           \
    RANK(BATCHNORM, WEIGHT, rank, axes), RANK(BATCHNORM, BIAS, rank, axes),                        \
        RANK(BATCHNORM, MEAN, rank, axes), RANK(BATCHNORM, VAR, rank, axes)
static const struct form forms[] = {
    SAME(LINEAR, WEIGHT, "(S C) O"),
    SAME(LINEAR, BIAS, "O"),
    RANK(CONV, WEIGHT, 1, "x I O"),
    RANK(CONV, WEIGHT, 2, "x y I O"),
    RANK(CONV, WEIGHT, 3, "x y z I O"),
    SAME(CONV, BIAS, "O"),
    RANK(CONV_TRANSPOSE, WEIGHT, 1, "-x O I"),
    RANK(CONV_TRANSPOSE, WEIGHT, 2, "-x -y O I"),
    RANK(CONV_TRANSPOSE, WEIGHT, 3, "-x -y -z O I"),
    SAME(CONV_TRANSPOSE, BIAS, "O"),
    NORM(1, "1 (S C)"),
    NORM(2, "1 1 (S C)"),
    NORM(3, "1 1 1 (S C)"),
    NORM(4, "1 1 1 1 (S C)"),
    SAME(LAYERNORM, WEIGHT, "(S C)"),
    SAME(LAYERNORM, BIAS, "(S C)"),
    SAME(GROUPNORM, WEIGHT, "(S C)"),
    SAME(GROUPNORM, BIAS, "(S C)"),
    SAME(EMBEDDING, WEIGHT, "V D"),
    SAME(ATTENTION, Q_WEIGHT, "E (H D)"),
    SAME(ATTENTION, K_WEIGHT, "E (H D)"),
    SAME(ATTENTION, V_WEIGHT, "E (H D)"),
    SAME(ATTENTION, O_WEIGHT, "(H D) E"),
    SAME(ATTENTION, Q_BIAS, "(H D)"),
    SAME(ATTENTION, K_BIAS, "(H D)"),
    SAME(ATTENTION, V_BIAS, "(H D)"),
    SAME(ATTENTION, O_BIAS, "E"),
};
/* An LSTM's one matrix reads inputs and state, gates i g f o, and sigmoid(f + 1) forgets;
 * Conv1DLSTM and its like do the same with a convolution for each, and a bias for each. A GRU
 * resets the state first, and h' = (1 - z) h + z a: z as torch has it is that of the negated sum.
 */
static const struct cell_form cells[] = {
    {LAYER_LSTM, LEAF_XH_WEIGHT, "X (G O)", "igfo"},
    {LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ig+fo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y z I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y z R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_BIAS, "(G O)", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_BIAS, "(G O)", "ig+fo"},
    {LAYER_GRU_BEFORE, LEAF_IH_WEIGHT, "I (G O)", "-zrn"},
    {LAYER_GRU_BEFORE, LEAF_HH_WEIGHT, "R (G O)", "-zrn"},
    {LAYER_GRU_BEFORE, LEAF_IH_BIAS, "(G O)", "-zrn"},
    {LAYER_RNN, LEAF_IH_WEIGHT, "I (G O)", "h"},
    {LAYER_RNN, LEAF_HH_WEIGHT, "R (G O)", "h"},
    {LAYER_RNN, LEAF_IH_BIAS, "(G O)", "h"},
    {LAYER_RNN, LEAF_HH_BIAS, "(G O)", "h"},
};
const struct convention haiku_convention = {
    .name = "haiku",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
