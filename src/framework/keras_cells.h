/* How Keras's recurrent layers spell their tensors, in Keras and in TensorFlow alike: the body of a
 * struct cell_rule table. Gates are i f c o and z r h; the biases of a GRU that resets after are
 * two rows. Sources: keras/src/layers/rnn/{lstm,conv_lstm,gru,simple_rnn}.py.
 */
// clang-format off
#define C(k, l, n, x, g, s) {LAYER_##k, 0, CELL_IF_HELD, LEAF_##l, n, "", x, g, s, NULL, NULL, NULL}
C(LSTM, IH_WEIGHT, "kernel", "I (G O)", "ifgo", NULL),
C(LSTM, HH_WEIGHT, "recurrent_kernel", "R (G O)", "ifgo", NULL),
C(LSTM, IH_BIAS, "bias", "(G O)", "ifgo", "ifgo"),
C(CONV_LSTM, IH_WEIGHT, "kernel", "* I (G O)", "ifgo", NULL),
C(CONV_LSTM, HH_WEIGHT, "recurrent_kernel", "* R (G O)", "ifgo", NULL),
C(CONV_LSTM, IH_BIAS, "bias", "(G O)", "ifgo", "ifgo"),
C(GRU, IH_WEIGHT, "kernel", "I (G O)", "zrn", NULL),
C(GRU, HH_WEIGHT, "recurrent_kernel", "R (G O)", "zrn", NULL),
C(GRU, XH_BIAS, "bias", "J (G O)", "zrn", NULL),
C(GRU_BEFORE, IH_WEIGHT, "kernel", "I (G O)", "zrn", NULL),
C(GRU_BEFORE, HH_WEIGHT, "recurrent_kernel", "R (G O)", "zrn", NULL),
C(GRU_BEFORE, IH_BIAS, "bias", "(G O)", "zrn", NULL),
C(RNN, IH_WEIGHT, "kernel", "I (G O)", "h", NULL),
C(RNN, HH_WEIGHT, "recurrent_kernel", "R (G O)", "h", NULL),
C(RNN, IH_BIAS, "bias", "(G O)", "h", "h"),
// clang-format on
#undef C
