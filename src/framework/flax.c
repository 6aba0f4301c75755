/* Flax Linen: {collection: nested dict}, kernels [in,out] and channels last, statistics in
 * batch_stats. Sources: flax/linen/{linear,normalization,attention}.py and flax/linen/module.py
 * for names. A tree may hold the collections, bare params, or a TrainState around either.
 */
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

#define FLAX_PARAMS "params"
#define FLAX_STATS "batch_stats"
/* ConvLocal: kernel [positions.., channels * window, out], the channels outermost, as
 * jax.lax.conv_general_dilated_patches has them; a bias for each position. */
#define P(r, l, n, x)                                                                              \
    {                                                                                              \
        LAYER_CONV_LOCAL, r, 0, LEAF_##l, n, FLAX_PARAMS, x                                        \
    }
static const struct leaf_rule leaves[] = {
    P(1, WEIGHT, "kernel", "W F O"),     P(2, WEIGHT, "kernel", "N W F O"),
    P(3, WEIGHT, "kernel", "D H W F O"), P(1, BIAS, "bias", "W O"),
    P(2, BIAS, "bias", "N W O"),         P(3, BIAS, "bias", "D H W O"),
#undef P
#include "framework/flax_leaves.h"
};
#define FLAX_IF "if"
#define FLAX_GATED_GRU
/* A ConvLSTMCell is two convolutions, each with all gates and a bias; it adds 1 to its forget gate.
 * Source: flax/linen/recurrent.py. */
#define S(w, l, n, x, p)                                                                           \
    {                                                                                              \
        LAYER_CONV_LSTM, 0, CELL_##w, LEAF_##l, n, "params", x, "igfo", NULL, NULL, p, WORD_NONE   \
    }
static const struct cell_rule cells[] = {
#include "framework/flax_cells.h"
    S(ALWAYS, IH_WEIGHT, "ih.kernel", "* I (G O)", NULL),
    S(ALWAYS, HH_WEIGHT, "hh.kernel", "* R (G O)", NULL),
    S(IF_BIASED, IH_BIAS, "ih.bias", "(G O)", NULL),
    S(IF_BIASED, HH_BIAS, "hh.bias", "(G O)", "f"),
};
#undef S
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(S C)",
    .patch = "(C S)",
    .param = "params",
};

/* "[params.]params.path.leaf", "[params.]batch_stats.path.leaf", or a bare "path.leaf" */
static void cut_name(struct str name, struct member *out)
{
    struct str rest = name, seg = STR_NONE, whole = name;
    if (name_head(&rest, &seg) && str_is(seg, "params") && rest.n) {
        struct str more = rest, second;
        /* TrainState.params holding all variables */
        if (name_head(&more, &second) && more.n &&
            (str_is(second, "params") || str_is(second, "batch_stats")))
            rest = more;
        else
            second = seg;
        out->collection = second;
        whole = rest;
    } else if (str_is(seg, "batch_stats") && rest.n) {
        out->collection = seg;
        whole = rest;
    }
    name_tail(whole, &out->path, &out->leaf);
}

/* flax.optim, Flax before 0.6, and T5X: the parameters stand below "target", beside "state". */
static struct str below_target(const struct model *m, struct str name)
{
    static const struct {
        const char *target, *step;
    } at[] = {{"target.", "state.step"}, {"optimizer.target.", "optimizer.state.step"}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct str head = str_from(at[i].target);
        if (str_starts(name, head) && name.n > head.n && model_find(m, str_from(at[i].step)) >= 0)
            return str_sub(name, head.n, name.n);
    }
    return name;
}

static bool flax_cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    if (x->role != ROLE_PARAMETER && x->role != ROLE_BUFFER && x->role != ROLE_STATISTIC)
        return false;
    struct str rest = x->name, seg;
    if (name_head(&rest, &seg) && (str_is(seg, "opt_state") || (str_is(seg, "step") && !rest.p)))
        return false; /* train state: mapped with its parameters, or kept */
    cut_name(below_target(m, x->name), out);
    return true;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct flax_style style = {"flax", flax_cut, &rules};
    return flax_layers(&style, m, a, out, e);
}

static int bid(const struct model *m)
{
    if (str_is(m->framework, "flax"))
        return 100;
    if (str_is(m->framework, "keras") || str_is(m->framework, "tensorflow"))
        return 0; /* they have kernels too, and norms and layouts of their own */
    size_t leaf = 0, other = 0;
    bool rooted = false;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct member b = {0};
        cut_name(below_target(m, m->tensor[i].name), &b);
        if (str_is(b.leaf, "kernel") || str_is(b.leaf, "scale") || str_is(b.leaf, "embedding"))
            leaf++;
        else if (str_is(b.leaf, "weight"))
            other++;
        rooted = rooted || str_is(b.collection, "params");
    }
    return leaf > other ? (rooted ? 80 : 60) : rooted ? 30 : 0;
}

const struct framework flax_framework = {
    .name = "flax",
    .title = "Flax Linen variables",
    .usual_format = "msgpack",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
