/* Flax Linen: see flax_forms.h. ConvLSTMCell sums two convolutions with a bias each, gates i g f o,
 * and sigmoid(f + 1) forgets. ConvLocal multiplies each position's window, channel by channel, by a
 * kernel of its own. Sources: flax/linen/{recurrent,linear}.py, jax.lax.conv_general_dilated_local.
 */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/flax_forms.h"
    {LAYER_CONV_LOCAL, LEAF_WEIGHT, LEAF_WEIGHT, 1, WHEN_ANY, 0, "u (C S) O"},
    {LAYER_CONV_LOCAL, LEAF_WEIGHT, LEAF_WEIGHT, 2, WHEN_ANY, 0, "u v (C S) O"},
    {LAYER_CONV_LOCAL, LEAF_WEIGHT, LEAF_WEIGHT, 3, WHEN_ANY, 0, "u v w (C S) O"},
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 1, WHEN_ANY, 0, "u O"},
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 2, WHEN_ANY, 0, "u v O"},
    {LAYER_CONV_LOCAL, LEAF_BIAS, LEAF_BIAS, 3, WHEN_ANY, 0, "u v w O"},
};
static const struct cell_form cells[] = {
#include "validate/flax_cell_forms.h"
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y z I O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y z R O", "igfo"},
    {LAYER_CONV_LSTM, LEAF_IH_BIAS, "(G O)", "igfo"},
    {LAYER_CONV_LSTM, LEAF_HH_BIAS, "(G O)", "ig+fo"},
};
const struct convention flax_convention = {
    .name = "flax",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
