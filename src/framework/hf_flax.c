/* Hugging Face transformers, Flax: FlaxXxxModel.params. The paths are the PyTorch models' own, the
 * leaves Linen's, but for GPT-2's FlaxConv1D, whose kernel is [out,in] and turned when used, and
 * the root mean square norms of Llama, T5 and Gemma, whose leaf is "weight". Collections stand at
 * the top only where a model has statistics (ResNet). What is computed again and a head that is
 * tied have no leaf. Sources: transformers 4, src/transformers/modeling_flax_pytorch_utils.py and
 * src/transformers/models/NAME/modeling_flax_NAME.py.
 */
#include "framework/family.h"
#include "framework/recognise.h"
#include "framework/rules.h"

#define FLAX_PARAMS "params"
#define FLAX_STATS "batch_stats"
static const struct leaf_rule leaves[] = {
#include "framework/flax_leaves.h"
    {LAYER_LINEAR, 0, FORM_INPUT_FIRST, LEAF_WEIGHT, "kernel", FLAX_PARAMS, "O F"},
    {LAYER_LAYERNORM, 0, FORM_RMS, LEAF_WEIGHT, "weight", FLAX_PARAMS, "F"},
    {LAYER_LAYERNORM, 0, FORM_RMS_LESS, LEAF_WEIGHT, "weight", FLAX_PARAMS, "F"},
};
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .flat = "(S C)",
    .param = "params",
    .shell = true,
    .bare = true,
    .no_computed = true,
    .no_tied = true,
};

static bool cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    struct str rest = x->name, seg;
    if (!tensor_is_weight(x))
        return false;
    if (name_head(&rest, &seg) && rest.n && (str_is(seg, "params") || str_is(seg, "batch_stats")))
        out->collection = seg;
    else
        rest = x->name;
    name_tail(rest, &out->path, &out->leaf);
    return true;
}

static int bid(const struct model *m)
{
    bool sure, kernels = false;
    if (str_is(m->framework, "hf_flax"))
        return 101;
    if (m->spelling.n ||
        (m->framework.n && !str_is(m->framework, "flax") && !str_is(m->framework, "nnx")))
        return 0;
    for (size_t i = 0; i < m->n_tensors && !kernels; i++) {
        struct str parent, leaf;
        name_tail(m->tensor[i].name, &parent, &leaf);
        kernels = str_is(leaf, "kernel") && m->tensor[i].n_dims == 2;
    }
    return kernels && family_of(m, cut, NULL, &sure) ? 101 : 0;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct flax_style style = {"hf_flax", cut, &rules};
    TRY(flax_layers(&style, m, a, out, e));
    return family_settle(m, cut, &rules, a, out, e);
}

const struct framework hf_flax_framework = {
    .name = "hf_flax",
    .title = "Hugging Face transformers, Flax names",
    .usual_format = "msgpack",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
