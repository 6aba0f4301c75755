/* Equinox: Linear y = weight x + bias with weight [O,I]; Conv correlates kernels [O,I/g,k] over
 * channels first and adds a bias [O,1,..,1]; ConvTranspose is the convolution of the dilated input
 * with its kernel [O,I/g,k] as stored, which is the adjoint of a convolution with the kernel
 * reversed along every spatial axis and its channels exchanged. MultiheadAttention reshapes each
 * projection to [heads, width]. BatchNorm reads the mean and variance of its state, in mode "batch"
 * divided by 1 - momentum^count, which is 1 for the counts that are carried.
 * Sources: equinox/nn/{_linear,_conv,_batch_norm,_attention}.py.
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
static const struct form forms[] = {
    SAME(LINEAR, WEIGHT, "O (C S)"),
    SAME(LINEAR, BIAS, "O"),
    RANK(CONV, WEIGHT, 1, "O I x"),
    RANK(CONV, WEIGHT, 2, "O I x y"),
    RANK(CONV, WEIGHT, 3, "O I x y z"),
    RANK(CONV, BIAS, 1, "O 1"),
    RANK(CONV, BIAS, 2, "O 1 1"),
    RANK(CONV, BIAS, 3, "O 1 1 1"),
    RANK(CONV_TRANSPOSE, WEIGHT, 1, "O I -x"),
    RANK(CONV_TRANSPOSE, WEIGHT, 2, "O I -x -y"),
    RANK(CONV_TRANSPOSE, WEIGHT, 3, "O I -x -y -z"),
    RANK(CONV_TRANSPOSE, BIAS, 1, "O 1"),
    RANK(CONV_TRANSPOSE, BIAS, 2, "O 1 1"),
    RANK(CONV_TRANSPOSE, BIAS, 3, "O 1 1 1"),
    SAME(BATCHNORM, WEIGHT, "(C S)"),
    SAME(BATCHNORM, BIAS, "(C S)"),
    SAME(BATCHNORM, MEAN, "(C S)"),
    SAME(BATCHNORM, VAR, "(C S)"),
    SAME(LAYERNORM, WEIGHT, "(C S)"),
    SAME(LAYERNORM, BIAS, "(C S)"),
    SAME(GROUPNORM, WEIGHT, "(C S)"),
    SAME(GROUPNORM, BIAS, "(C S)"),
    SAME(EMBEDDING, WEIGHT, "V D"),
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 2, WHEN_FORM + FORM_MAP, 0, "O x"},
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 3, WHEN_FORM + FORM_MAP, 0, "O x y"},
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 4, WHEN_FORM + FORM_MAP, 0, "O x y z"},
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_ONE, 0, ""},
    RANK(PRELU, WEIGHT, 1, "O"),
    RANK(PRELU, WEIGHT, 2, "O 1"),
    RANK(PRELU, WEIGHT, 3, "O 1 1"),
    RANK(PRELU, WEIGHT, 4, "O 1 1 1"),
    SAME(ATTENTION, Q_WEIGHT, "(H D) E"),
    SAME(ATTENTION, K_WEIGHT, "(H D) E"),
    SAME(ATTENTION, V_WEIGHT, "(H D) E"),
    SAME(ATTENTION, O_WEIGHT, "E (H D)"),
    SAME(ATTENTION, Q_BIAS, "(H D)"),
    SAME(ATTENTION, K_BIAS, "(H D)"),
    SAME(ATTENTION, V_BIAS, "(H D)"),
    SAME(ATTENTION, O_BIAS, "E"),
};
/* Cells as torch's, with one bias of both sides; a GRU's bias_n is added before the reset. */
static const struct cell_form cells[] = {
    {LAYER_LSTM, LEAF_IH_WEIGHT, "(G O) I", "ifgo"},
    {LAYER_LSTM, LEAF_HH_WEIGHT, "(G O) R", "ifgo"},
    {LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
    {LAYER_GRU, LEAF_IH_WEIGHT, "(G O) I", "rzn"},
    {LAYER_GRU, LEAF_HH_WEIGHT, "(G O) R", "rzn"},
    {LAYER_GRU, LEAF_IH_BIAS, "(G O)", "rzn"},
    {LAYER_GRU, (enum leaf)(LEAF_HH_BIAS_0 + 2), "O", "n"},
};
const struct convention equinox_convention = {
    .name = "equinox",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
