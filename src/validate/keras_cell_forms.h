/* How Keras computes its recurrent layers: kernels [I, gates], gates i f c o and z r h, one bias,
 * but for the GRU that resets after, whose biases of both sides are two rows. h' = z h + (1 - z)
 * hh. Body of a table of cell forms. Source: keras/src/layers/rnn.
 */
// clang-format off
{LAYER_LSTM, LEAF_IH_WEIGHT, "I (G O)", "ifgo"},
{LAYER_LSTM, LEAF_HH_WEIGHT, "R (G O)", "ifgo"},
{LAYER_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
{LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x I O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y I O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_IH_WEIGHT, "x y z I O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x R O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y R O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_HH_WEIGHT, "x y z R O", "ifgo"},
{LAYER_CONV_LSTM, LEAF_IH_BIAS, "(G O)", "ifgo"},
{LAYER_GRU, LEAF_IH_WEIGHT, "I (G O)", "zrn"},
{LAYER_GRU, LEAF_HH_WEIGHT, "R (G O)", "zrn"},
{LAYER_GRU, LEAF_XH_BIAS, "B (G O)", "zrn"},
{LAYER_GRU_BEFORE, LEAF_IH_WEIGHT, "I (G O)", "zrn"},
{LAYER_GRU_BEFORE, LEAF_HH_WEIGHT, "R (G O)", "zrn"},
{LAYER_GRU_BEFORE, LEAF_IH_BIAS, "(G O)", "zrn"},
{LAYER_RNN, LEAF_IH_WEIGHT, "I (G O)", "h"},
{LAYER_RNN, LEAF_HH_WEIGHT, "R (G O)", "h"},
{LAYER_RNN, LEAF_IH_BIAS, "(G O)", "h"},
    // clang-format on
