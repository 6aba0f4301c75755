/* PyTorch: torch.nn of 2.x. Linear y = x W^T + b; convolutions cross-correlate kernels [O,I/g,k];
 * ConvTranspose is the adjoint with kernels [I,O/g,k]; a flattened map is channels first;
 * MultiheadAttention fuses q, k and v by rows, heads outermost inside each. Sources: the classes'
 * documentation and torch/nn/modules/{linear,conv,batchnorm,normalization,sparse,activation}.py.
 */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/torch_forms.h"
};
#define GATE(k, i, g)                                                                              \
    {LAYER_##k, (enum leaf)(LEAF_IH_WEIGHT_0 + (i)), "O I", g},                                    \
        {LAYER_##k, (enum leaf)(LEAF_HH_WEIGHT_0 + (i)), "O R", g},                                \
        {LAYER_##k, (enum leaf)(LEAF_IH_BIAS_0 + (i)), "O", g},                                    \
    {                                                                                              \
        LAYER_##k, (enum leaf)(LEAF_HH_BIAS_0 + (i)), "O", g                                       \
    }
/* h' as torch/nn/modules/rnn.py documents it: both sides have a bias, gates i f g o, r z n. */
static const struct cell_form cells[] = {
    {LAYER_LSTM, LEAF_IH_WEIGHT, "(G O) I", "ifgo"},
    {LAYER_LSTM, LEAF_HH_WEIGHT, "(G O) R", "ifgo"},
    {LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
    {LAYER_LSTM, LEAF_HH_BIAS, "(G O)", "ifgo"},
    {LAYER_LSTM, LEAF_HR_WEIGHT, "R O", ""},
    {LAYER_GRU, LEAF_IH_WEIGHT, "(G O) I", "rzn"},
    {LAYER_GRU, LEAF_HH_WEIGHT, "(G O) R", "rzn"},
    {LAYER_GRU, LEAF_IH_BIAS, "(G O)", "rzn"},
    {LAYER_GRU, LEAF_HH_BIAS, "(G O)", "rzn"},
    {LAYER_RNN, LEAF_IH_WEIGHT, "(G O) I", "h"},
    {LAYER_RNN, LEAF_HH_WEIGHT, "(G O) R", "h"},
    {LAYER_RNN, LEAF_IH_BIAS, "(G O)", "h"},
    {LAYER_RNN, LEAF_HH_BIAS, "(G O)", "h"},
    /* an ONNX node's gates one by one, in its order: i o f c, z r h with the update gate keeping
       the old state; docs/Operators.md */
    GATE(LSTM, 0, "i"),
    GATE(LSTM, 1, "o"),
    GATE(LSTM, 2, "f"),
    GATE(LSTM, 3, "g"),
    GATE(GRU, 0, "z"),
    GATE(GRU, 1, "r"),
    GATE(GRU, 2, "n"),
    GATE(RNN, 0, "h"),
};
#undef GATE
const struct convention pytorch_convention = {
    .name = "pytorch",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
