/* PyTorch: state_dict names and the layouts of torch.nn. Source: torch/nn/modules; layouts
 * [out,in], channels first; attention fused in in_proj_weight (rows q, k, v), split when key and
 * value widths differ.
 */
#include "framework/recognise.h"
#include "framework/rules.h"
#include "framework/torch_script.h"

static const struct leaf_rule leaves[] = {
#include "framework/torch_leaves.h"
};
/* Modules name layer and direction in the leaf, cells have none. */
#define C(k, v, w, l, n, x)                                                                        \
    {                                                                                              \
        LAYER_##k, v, CELL_##w, LEAF_##l, n, "", x, GATES_##k, NULL, NULL, NULL, NULL              \
    }
#define GATES_LSTM "ifgo"
#define GATES_GRU "rzn"
#define GATES_RNN "h"
static const struct cell_rule cells[] = {
    C(LSTM, 0, ALWAYS, IH_WEIGHT, "weight_ih_{l}", "(G O) I"),
    C(LSTM, 0, ALWAYS, HH_WEIGHT, "weight_hh_{l}", "(G O) R"),
    C(LSTM, 0, IF_BIASED, IH_BIAS, "bias_ih_{l}", "(G O)"),
    C(LSTM, 0, IF_BIASED, HH_BIAS, "bias_hh_{l}", "(G O)"),
    {LAYER_LSTM, 0, CELL_IF_HELD, LEAF_HR_WEIGHT, "weight_hr_{l}", "", "R O", "", NULL, NULL, NULL,
     NULL},
    C(GRU, 0, ALWAYS, IH_WEIGHT, "weight_ih_{l}", "(G O) I"),
    C(GRU, 0, ALWAYS, HH_WEIGHT, "weight_hh_{l}", "(G O) R"),
    C(GRU, 0, IF_BIASED, IH_BIAS, "bias_ih_{l}", "(G O)"),
    C(GRU, 0, IF_BIASED, HH_BIAS, "bias_hh_{l}", "(G O)"),
    C(RNN, 0, ALWAYS, IH_WEIGHT, "weight_ih_{l}", "(G O) I"),
    C(RNN, 0, ALWAYS, HH_WEIGHT, "weight_hh_{l}", "(G O) R"),
    C(RNN, 0, IF_BIASED, IH_BIAS, "bias_ih_{l}", "(G O)"),
    C(RNN, 0, IF_BIASED, HH_BIAS, "bias_hh_{l}", "(G O)"),
    C(LSTM, 1, ALWAYS, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(LSTM, 1, ALWAYS, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(LSTM, 1, IF_BIASED, IH_BIAS, "bias_ih", "(G O)"),
    C(LSTM, 1, IF_BIASED, HH_BIAS, "bias_hh", "(G O)"),
    C(GRU, 1, ALWAYS, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(GRU, 1, ALWAYS, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(GRU, 1, IF_BIASED, IH_BIAS, "bias_ih", "(G O)"),
    C(GRU, 1, IF_BIASED, HH_BIAS, "bias_hh", "(G O)"),
    C(RNN, 1, ALWAYS, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(RNN, 1, ALWAYS, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(RNN, 1, IF_BIASED, IH_BIAS, "bias_ih", "(G O)"),
    C(RNN, 1, IF_BIASED, HH_BIAS, "bias_hh", "(G O)"),
/* An ONNX node's, gate by gate, under the names that map_graph.c gives them: torch's modules have
 * no such names, and none is written. */
#define O(k, l, i, n, o, x, g)                                                                     \
    {                                                                                              \
        LAYER_##k, 2, CELL_IF_HELD, LEAF_##l##_0 + i, n "[" o "]", "", x, g, NULL, NULL, NULL,     \
            NULL                                                                                   \
    }
#define ONNX(k, i, g, o)                                                                           \
    O(k, IH_WEIGHT, i, "W", o, "O I", g), O(k, HH_WEIGHT, i, "R", o, "O R", g),                    \
        O(k, IH_BIAS, i, "Wb", o, "O", g), O(k, HH_BIAS, i, "Rb", o, "O", g)
    ONNX(LSTM, 0, "i", "i"),
    ONNX(LSTM, 1, "o", "o"),
    ONNX(LSTM, 2, "f", "f"),
    ONNX(LSTM, 3, "g", "c"),
    ONNX(GRU, 0, "z", "z"),
    ONNX(GRU, 1, "r", "r"),
    ONNX(GRU, 2, "n", "h"),
    ONNX(RNN, 0, "h", "i"),
};
#undef C
#undef O
#undef ONNX
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(C S)",
    .param = "",
    .fuses_qkv = true,
    .counts = true,
    .groups_up = true,
    .square_qkv = true,
};

static int bid(const struct model *m)
{
    if (str_is(m->framework, "pytorch"))
        return 100;
    size_t weight = 0, other = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str parent, leaf;
        name_tail(m->tensor[i].name, &parent, &leaf);
        if (str_is(leaf, "weight") || str_is(leaf, "running_mean") || str_is(leaf, "running_var") ||
            str_is(leaf, "num_batches_tracked") || str_is(leaf, "in_proj_weight") ||
            cell_named(&rules, m->tensor[i].name))
            weight++;
        else if (str_is(leaf, "kernel") || str_is(leaf, "scale") || str_is(leaf, "embedding"))
            other++;
    }
    return weight > other ? 60 : weight ? 20 : 0;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct torch_style style = {
        .framework = "pytorch", .bilinear = true, .conv1d = true, .rules = &rules};
    TRY(torch_layers(&style, m, a, out, e));
    return torch_script_told(m, a, out, e);
}

const struct framework pytorch_framework = {
    .name = "pytorch",
    .title = "PyTorch modules, state_dict names",
    .usual_format = "pytorch",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
