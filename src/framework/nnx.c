/* Flax NNX: a state is a nested dict by attribute path, lists by index, with Linen's leaves but no
 * collections: mean and var stand beside scale and bias. A Variable saved as a node has its array
 * under "value" (or "raw_value"), which is no part of the layer's name; a model written by us is a
 * pure dict, without it. States of random generators are no weights.
 * Sources: flax/nnx/{statelib,variablelib}.py, flax/nnx/nn/{linear,normalization,attention}.py.
 */
#include "framework/recognise.h"
#include "framework/rules.h"

#define FLAX_PARAMS ""
#define FLAX_STATS ""
static const struct leaf_rule leaves[] = {
#include "framework/flax_leaves.h"
};
#define FLAX_IF "if_"
/* ... or one Dense for the input side and one for the state. A GRU has no bias beside its state. */
#define N(k, v, l, n, x, g)                                                                        \
    {                                                                                              \
        LAYER_##k, v, CELL_ALWAYS, LEAF_##l, n, "", x, g, NULL, NULL, NULL, NULL                   \
    }
#define NB(k, v, n, g, s)                                                                          \
    {                                                                                              \
        LAYER_##k, v, CELL_ALWAYS, LEAF_IH_BIAS, n, "", "(G O)", g, s, NULL, NULL, NULL            \
    }
static const struct cell_rule cells[] = {
#include "framework/flax_cells.h"
    N(LSTM, 1, IH_WEIGHT, "dense_i.kernel", "I (G O)", "ifgo"),
    N(LSTM, 1, HH_WEIGHT, "dense_h.kernel", "R (G O)", "ifgo"),
    NB(LSTM, 1, "dense_h.bias", "ifgo", "ifgo"),
    N(GRU, 0, IH_WEIGHT, "dense_i.kernel", "I (G O)", "rzn"),
    N(GRU, 0, HH_WEIGHT, "dense_h.kernel", "R (G O)", "rzn"),
    NB(GRU, 0, "dense_i.bias", "rzn", "rz"),
    N(RNN, 0, IH_WEIGHT, "dense_i.kernel", "I (G O)", "h"),
    N(RNN, 0, HH_WEIGHT, "dense_h.kernel", "R (G O)", "h"),
    NB(RNN, 0, "dense_i.bias", "h", "h"),
};
#undef N
#undef NB
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(S C)",
    .param = "",
};

static void cut_name(struct str name, struct member *out)
{
    struct str parent, leaf;
    name_tail(name, &parent, &leaf);
    if (parent.n && (str_is(leaf, "value") || str_is(leaf, "raw_value")))
        name = parent;
    name_tail(name, &out->path, &out->leaf);
}

static bool nnx_cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    if (x->role != ROLE_PARAMETER && x->role != ROLE_BUFFER && x->role != ROLE_STATISTIC)
        return false;
    cut_name(x->name, out);
    return true;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct flax_style style = {"nnx", nnx_cut, &rules};
    return flax_layers(&style, m, a, out, e);
}

/* Bare parameters of Linen look alike: only Variables, and statistics beside a scale, tell. */
static int bid(const struct model *m)
{
    if (str_is(m->framework, "nnx"))
        return 100;
    if (str_is(m->framework, "keras") || str_is(m->framework, "tensorflow"))
        return 0;
    bool variables = m->n_tensors > 0, stats = false, rooted = false, kernels = false;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct member b = {0};
        struct str parent, leaf, rest = m->tensor[i].name, seg = STR_NONE;
        cut_name(m->tensor[i].name, &b);
        name_tail(m->tensor[i].name, &parent, &leaf);
        variables = variables && (str_is(leaf, "value") || str_is(leaf, "raw_value"));
        kernels = kernels || str_is(b.leaf, "kernel") || str_is(b.leaf, "scale");
        stats = stats || str_is(b.leaf, "mean");
        rooted = rooted || (name_head(&rest, &seg) && rest.n &&
                            (str_is(seg, "params") || str_is(seg, "batch_stats")));
    }
    return rooted || !kernels ? 0 : variables ? 85 : stats ? 70 : 0;
}

const struct framework nnx_framework = {
    .name = "nnx",
    .title = "Flax NNX states",
    .usual_format = "msgpack",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
