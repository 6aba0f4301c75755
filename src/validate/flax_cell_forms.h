/* How Linen and NNX compute cells with a Dense for each gate: sums of input and state side, the
 * names of flax/linen/recurrent.py. A bias that stands on the state side of an LSTM is added all
 * the same. Body of a table of cell forms.
 */
// clang-format off
#define GATE(k, l, i, x, g) {LAYER_##k, (enum leaf)(LEAF_##l##_0 + (i)), x, g}
GATE(LSTM, IH_WEIGHT, 0, "I O", "i"),
GATE(LSTM, HH_WEIGHT, 0, "R O", "i"),
GATE(LSTM, IH_BIAS, 0, "O", "i"),
GATE(LSTM, IH_WEIGHT, 1, "I O", "f"),
GATE(LSTM, HH_WEIGHT, 1, "R O", "f"),
GATE(LSTM, IH_BIAS, 1, "O", "f"),
GATE(LSTM, IH_WEIGHT, 2, "I O", "g"),
GATE(LSTM, HH_WEIGHT, 2, "R O", "g"),
GATE(LSTM, IH_BIAS, 2, "O", "g"),
GATE(LSTM, IH_WEIGHT, 3, "I O", "o"),
GATE(LSTM, HH_WEIGHT, 3, "R O", "o"),
GATE(LSTM, IH_BIAS, 3, "O", "o"),
GATE(GRU, IH_WEIGHT, 0, "I O", "r"),
GATE(GRU, HH_WEIGHT, 0, "R O", "r"),
GATE(GRU, IH_BIAS, 0, "O", "r"),
GATE(GRU, IH_WEIGHT, 1, "I O", "z"),
GATE(GRU, HH_WEIGHT, 1, "R O", "z"),
GATE(GRU, IH_BIAS, 1, "O", "z"),
GATE(GRU, IH_WEIGHT, 2, "I O", "n"),
GATE(GRU, HH_WEIGHT, 2, "R O", "n"),
GATE(GRU, IH_BIAS, 2, "O", "n"),
GATE(GRU, HH_BIAS, 2, "O", "n"),
GATE(RNN, IH_WEIGHT, 0, "I O", "h"),
GATE(RNN, HH_WEIGHT, 0, "R O", "h"),
GATE(RNN, IH_BIAS, 0, "O", "h"),
// clang-format on
#undef GATE
