/* Canonical: the spelling that every other framework is mapped to and from. Dotted paths and the
 * axis order of torch.nn, attention split into q, k, v and o. The letters of these layouts are the
 * meeting point: a table elsewhere uses the same letters for the same axes.
 */
#include "framework/family.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include "framework/spelling.h"

#define L(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "", x                                                        \
    }
static const struct leaf_rule leaves[] = {
    L(LINEAR, 0, WEIGHT, "weight", "O F"),
    L(LINEAR, 0, BIAS, "bias", "O"),
    {LAYER_LINEAR, 0, FORM_ROTARY, LEAF_WEIGHT, "weight", "", "(N p D) F"},
    {LAYER_LINEAR, 0, FORM_ROTARY, LEAF_BIAS, "bias", "", "(N p D)"},
    {LAYER_LINEAR, 0, FORM_HEADS_QKV, LEAF_WEIGHT, "weight", "", "(N t D) F"},
    {LAYER_LINEAR, 0, FORM_HEADS_QKV, LEAF_BIAS, "bias", "", "(N t D)"},
    {LAYER_LINEAR, 0, FORM_HEADS_OUT, LEAF_WEIGHT, "weight", "", "(N D) F"},
    {LAYER_LINEAR, 0, FORM_HEADS_OUT, LEAF_BIAS, "bias", "", "(N D)"},
    {LAYER_LINEAR, 0, FORM_HEADS_IN, LEAF_WEIGHT, "weight", "", "O (N D)"},
    L(CONV, 1, WEIGHT, "weight", "O I W"),
    L(CONV, 2, WEIGHT, "weight", "O I H W"),
    L(CONV, 3, WEIGHT, "weight", "O I D H W"),
    L(CONV, 0, BIAS, "bias", "O"),
    L(CONV_TRANSPOSE, 1, WEIGHT, "weight", "I O W"),
    L(CONV_TRANSPOSE, 2, WEIGHT, "weight", "I O H W"),
    L(CONV_TRANSPOSE, 3, WEIGHT, "weight", "I O D H W"),
    L(CONV_TRANSPOSE, 0, BIAS, "bias", "O"),
    /* a window's values as torch.nn.functional.unfold has them */
    L(CONV_LOCAL, 1, WEIGHT, "weight", "O F W"),
    L(CONV_LOCAL, 2, WEIGHT, "weight", "O F N W"),
    L(CONV_LOCAL, 3, WEIGHT, "weight", "O F D H W"),
    L(CONV_LOCAL, 1, BIAS, "bias", "O W"),
    L(CONV_LOCAL, 2, BIAS, "bias", "O N W"),
    L(CONV_LOCAL, 3, BIAS, "bias", "O D H W"),
    L(BATCHNORM, 0, WEIGHT, "weight", "F"),
    L(BATCHNORM, 0, BIAS, "bias", "F"),
    L(BATCHNORM, 0, MEAN, "running_mean", "F"),
    L(BATCHNORM, 0, VAR, "running_var", "F"),
    L(BATCHNORM, 0, COUNT, "num_batches_tracked", ""),
    L(BATCHNORM, 0, MEAN_HIDDEN, "mean_hidden", "F"),
    L(BATCHNORM, 0, VAR_HIDDEN, "var_hidden", "F"),
    L(BATCHNORM, 0, MEAN_COUNT, "mean_count", ""),
    L(BATCHNORM, 0, VAR_COUNT, "var_count", ""),
    L(BATCHNORM, 0, FIRST, "first_time", ""),
    L(BATCHNORM, 0, UPDATES, "updates", ""),
    L(LAYERNORM, 0, WEIGHT, "weight", "F"),
    L(LAYERNORM, 0, BIAS, "bias", "F"),
    L(GROUPNORM, 0, WEIGHT, "weight", "F"),
    L(GROUPNORM, 0, BIAS, "bias", "F"),
    L(EMBEDDING, 0, WEIGHT, "weight", "V D"),
    L(PRELU, 0, WEIGHT, "weight", "O"),
    {LAYER_PRELU, 0, FORM_ONE, LEAF_WEIGHT, "weight", "", "1"},
    {LAYER_PRELU, 2, FORM_MAP, LEAF_WEIGHT, "weight", "", "O W"},
    {LAYER_PRELU, 3, FORM_MAP, LEAF_WEIGHT, "weight", "", "O H W"},
    {LAYER_PRELU, 4, FORM_MAP, LEAF_WEIGHT, "weight", "", "O D H W"},
    L(ATTENTION, 0, Q_WEIGHT, "q.weight", "(N D) E"),
    L(ATTENTION, 0, K_WEIGHT, "k.weight", "(N D) E"),
    L(ATTENTION, 0, V_WEIGHT, "v.weight", "(N D) E"),
    L(ATTENTION, 0, O_WEIGHT, "o.weight", "E (N D)"),
    L(ATTENTION, 0, Q_BIAS, "q.bias", "(N D)"),
    L(ATTENTION, 0, K_BIAS, "k.bias", "(N D)"),
    L(ATTENTION, 0, V_BIAS, "v.bias", "(N D)"),
    L(ATTENTION, 0, O_BIAS, "o.bias", "E"),
};
#undef L
/* One direction of one layer: X.l0, X.l0_reverse for the layers of a module. A GRU that resets
 * before has a recurrent weight of another name, since it means another thing. A conv_lstm forgets
 * by sigmoid(f + 1), as it does in Flax and Haiku: a bias of -1 takes that away without rounding,
 * where a 1 added to theirs would round. */
#define C(k, l, n, x)                                                                              \
    {                                                                                              \
        LAYER_##k, 0, CELL_IF_HELD, LEAF_##l, n, "", x, GATES_##k, NULL, NULL, NULL, NULL          \
    }
#define GATES_LSTM "ifgo"
#define GATES_CONV_LSTM GATES_LSTM
#define GATES_GRU "rzn"
#define GATES_RNN "h"
#define GATES_GRU_BEFORE GATES_GRU
static const struct cell_rule cells[] = {
    C(LSTM, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(LSTM, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(LSTM, IH_BIAS, "bias_ih", "(G O)"),
    C(LSTM, HH_BIAS, "bias_hh", "(G O)"),
    {LAYER_LSTM, 0, CELL_IF_HELD, LEAF_HR_WEIGHT, "weight_hr", "", "R O", "", NULL, NULL, NULL,
     NULL},
    C(CONV_LSTM, IH_WEIGHT, "weight_ih", "(G O) I *"),
    C(CONV_LSTM, HH_WEIGHT, "weight_hh", "(G O) R *"),
    C(CONV_LSTM, IH_BIAS, "bias_ih", "(G O)"),
    {LAYER_CONV_LSTM, 0, CELL_IF_HELD, LEAF_HH_BIAS, "bias_hh", "", "(G O)", GATES_LSTM, NULL, NULL,
     "f", NULL},
    C(GRU, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(GRU, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(GRU, IH_BIAS, "bias_ih", "(G O)"),
    C(GRU, HH_BIAS, "bias_hh", "(G O)"),
    C(GRU_BEFORE, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(GRU_BEFORE, HH_WEIGHT, "weight_rh", "(G O) R"),
    C(GRU_BEFORE, IH_BIAS, "bias", "(G O)"),
    C(RNN, IH_WEIGHT, "weight_ih", "(G O) I"),
    C(RNN, HH_WEIGHT, "weight_hh", "(G O) R"),
    C(RNN, IH_BIAS, "bias_ih", "(G O)"),
    C(RNN, HH_BIAS, "bias_hh", "(G O)"),
};
#undef C
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .groups_up = true,
    .flat = "(C S)",
    .patch = "(C S)",
    .param = "",
};

static int bid(const struct model *m)
{
    return str_is(m->framework, "canonical") || m->spelling.n ? 100 : 0;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    bool sure; /* families have their attention as dense layers, T5's called q, k, v and o */
    struct torch_style style = {.framework = "canonical",
                                .bilinear = true,
                                .split_attention = !family_of(m, torch_cut, NULL, &sure),
                                .rules = &rules};
    TRY(torch_layers(&style, m, a, out, e));
    TRY(family_settle(m, torch_cut, &rules, a, out, e));
    return spelling_decide(m, a, out, e);
}

const struct framework canonical_framework = {
    .name = "canonical",
    .title = "nnferry's own spelling: torch's names and axes, attention split",
    .usual_format = "archive",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
