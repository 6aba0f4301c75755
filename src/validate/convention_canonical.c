/* Canonical: the archive's own spelling, nnferry-archive.5. Linear [O,I], convolutions [O,I/g,k],
 * transposed ones [I,O/g,k], attention split, heads outermost in rows, channels first. What
 * follows is that page as forms.
 */
#include "validate/convention.h"

#define SAME(kind, leaf, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_##leaf, LEAF_##leaf, 0, WHEN_ANY, 0, axes                               \
    }
#define RANK(kind, rank, axes)                                                                     \
    {                                                                                              \
        LAYER_##kind, LEAF_WEIGHT, LEAF_WEIGHT, rank, WHEN_ANY, 0, axes                            \
    }
static const struct form forms[] = {
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
    RANK(CONV_LOCAL, 1, "O (C S) u"),
    RANK(CONV_LOCAL, 2, "O (C S) u v"),
    RANK(CONV_LOCAL, 3, "O (C S) u v w"),
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 1, WHEN_ANY, 0, "O u"},
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 2, WHEN_ANY, 0, "O u v"},
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 3, WHEN_ANY, 0, "O u v w"},
    SAME(BATCHNORM, WEIGHT, "(C S)"),
    SAME(BATCHNORM, BIAS, "(C S)"),
    SAME(BATCHNORM, MEAN, "(C S)"),
    SAME(BATCHNORM, VAR, "(C S)"),
    {LAYER_LAYERNORM, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_RMS_LESS, 0, "+(C S)"},
    SAME(LAYERNORM, WEIGHT, "(C S)"),
    SAME(LAYERNORM, BIAS, "(C S)"),
    SAME(GROUPNORM, WEIGHT, "(C S)"),
    SAME(GROUPNORM, BIAS, "(C S)"),
    SAME(EMBEDDING, WEIGHT, "V D"),
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 2, WHEN_FORM + FORM_MAP, 0, "O x"},
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 3, WHEN_FORM + FORM_MAP, 0, "O x y"},
    {LAYER_PRELU, LEAF_WEIGHT, LEAF_WEIGHT, 4, WHEN_FORM + FORM_MAP, 0, "O x y z"},
    SAME(PRELU, WEIGHT, "O"),
    SAME(ATTENTION, Q_WEIGHT, "(H D) E"),
    SAME(ATTENTION, K_WEIGHT, "(H D) E"),
    SAME(ATTENTION, V_WEIGHT, "(H D) E"),
    SAME(ATTENTION, O_WEIGHT, "E (H D)"),
    SAME(ATTENTION, Q_BIAS, "(H D)"),
    SAME(ATTENTION, K_BIAS, "(H D)"),
    SAME(ATTENTION, V_BIAS, "(H D)"),
    SAME(ATTENTION, O_BIAS, "E"),
};
static const struct cell_form cells[] = {
    {LAYER_LSTM, LEAF_IH_WEIGHT, "(G O) I", "ifgo"},
    {LAYER_LSTM, LEAF_HH_WEIGHT, "(G O) R", "ifgo"},
    {LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
    {LAYER_LSTM, LEAF_HH_BIAS, "(G O)", "ifgo"},
    {LAYER_LSTM, LEAF_HR_WEIGHT, "R O", ""},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "O I x", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "O I x y", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "O I x y z", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "O R x", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "O R x y", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "O R x y z", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
    {LAYER_CONV_LSTM, LEAF_HH_BIAS, "(G O)", "i+fgo"},
    {LAYER_GRU, LEAF_IH_WEIGHT, "(G O) I", "rzn"},
    {LAYER_GRU, LEAF_HH_WEIGHT, "(G O) R", "rzn"},
    {LAYER_GRU, LEAF_IH_BIAS, "(G O)", "rzn"},
    {LAYER_GRU, LEAF_HH_BIAS, "(G O)", "rzn"},
    {LAYER_GRU_BEFORE, LEAF_IH_WEIGHT, "(G O) I", "rzn"},
    {LAYER_GRU_BEFORE, LEAF_HH_WEIGHT, "(G O) R", "rzn"},
    {LAYER_GRU_BEFORE, LEAF_IH_BIAS, "(G O)", "rzn"},
    {LAYER_RNN, LEAF_IH_WEIGHT, "(G O) I", "h"},
    {LAYER_RNN, LEAF_HH_WEIGHT, "(G O) R", "h"},
    {LAYER_RNN, LEAF_IH_BIAS, "(G O)", "h"},
    {LAYER_RNN, LEAF_HH_BIAS, "(G O)", "h"},
};
const struct convention canonical_convention = {
    .name = "canonical",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
