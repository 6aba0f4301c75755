/* How Linen spells its cells, a Dense for each gate: rows of a struct cell_rule table. Before
 * including, define FLAX_PARAMS, and FLAX_IF, the forget gate's input side ("if", which is no
 * attribute's name in NNX). Biases stand on one side only, but for the new gate of a GRU. Source:
 * flax/linen/recurrent.py, flax/nnx/nn/recurrent.py.
 */
// clang-format off
#define C(k, l, n, x, g)                                                                           \
    {LAYER_##k, 0, CELL_ALWAYS, LEAF_##l, n, FLAX_PARAMS, x, g, NULL, NULL, NULL, NULL}
#define B(k, l, n, g, s)                                                                           \
    {LAYER_##k, 0, CELL_ALWAYS, LEAF_##l, n, FLAX_PARAMS, "O", g, s, NULL, NULL, NULL}
C(LSTM, IH_WEIGHT_0, "ii.kernel", "I O", "i"),
C(LSTM, IH_WEIGHT_0 + 1, FLAX_IF ".kernel", "I O", "f"),
C(LSTM, IH_WEIGHT_0 + 2, "ig.kernel", "I O", "g"),
C(LSTM, IH_WEIGHT_0 + 3, "io.kernel", "I O", "o"),
C(LSTM, HH_WEIGHT_0, "hi.kernel", "R O", "i"),
C(LSTM, HH_WEIGHT_0 + 1, "hf.kernel", "R O", "f"),
C(LSTM, HH_WEIGHT_0 + 2, "hg.kernel", "R O", "g"),
C(LSTM, HH_WEIGHT_0 + 3, "ho.kernel", "R O", "o"),
B(LSTM, IH_BIAS_0, "hi.bias", "i", "i"),
B(LSTM, IH_BIAS_0 + 1, "hf.bias", "f", "f"),
B(LSTM, IH_BIAS_0 + 2, "hg.bias", "g", "g"),
B(LSTM, IH_BIAS_0 + 3, "ho.bias", "o", "o"),
#ifdef FLAX_GATED_GRU
C(GRU, IH_WEIGHT_0, "ir.kernel", "I O", "r"),
C(GRU, IH_WEIGHT_0 + 1, "iz.kernel", "I O", "z"),
C(GRU, IH_WEIGHT_0 + 2, "in.kernel", "I O", "n"),
C(GRU, HH_WEIGHT_0, "hr.kernel", "R O", "r"),
C(GRU, HH_WEIGHT_0 + 1, "hz.kernel", "R O", "z"),
C(GRU, HH_WEIGHT_0 + 2, "hn.kernel", "R O", "n"),
B(GRU, IH_BIAS_0, "ir.bias", "r", "r"),
B(GRU, IH_BIAS_0 + 1, "iz.bias", "z", "z"),
B(GRU, IH_BIAS_0 + 2, "in.bias", "n", ""),
B(GRU, HH_BIAS_0 + 2, "hn.bias", "n", ""),
C(RNN, IH_WEIGHT_0, "i.kernel", "I O", "h"),
C(RNN, HH_WEIGHT_0, "h.kernel", "R O", "h"),
B(RNN, IH_BIAS_0, "i.bias", "h", "h"),
#endif
// clang-format on
#undef C
#undef B
