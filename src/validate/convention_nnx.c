/* Flax NNX: see flax_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/flax_forms.h"
};
/* ... and those with one Dense for each side: flax/nnx/nn/recurrent.py */
static const struct cell_form cells[] = {
#include "validate/flax_cell_forms.h"
    {LAYER_LSTM, LEAF_IH_WEIGHT, "I (G O)", "ifgo"},
    {LAYER_LSTM, LEAF_HH_WEIGHT, "R (G O)", "ifgo"},
    {LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
    {LAYER_GRU, LEAF_IH_WEIGHT, "I (G O)", "rzn"},
    {LAYER_GRU, LEAF_HH_WEIGHT, "R (G O)", "rzn"},
    {LAYER_GRU, LEAF_IH_BIAS, "(G O)", "rzn"},
    {LAYER_RNN, LEAF_IH_WEIGHT, "I (G O)", "h"},
    {LAYER_RNN, LEAF_HH_WEIGHT, "R (G O)", "h"},
    {LAYER_RNN, LEAF_IH_BIAS, "(G O)", "h"},
};
const struct convention nnx_convention = {
    .name = "nnx",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
