/* Hugging Face transformers, PyTorch: the names of its models' state_dicts. Layers are torch.nn's,
 * but for GPT-2's Conv1D (weight [in,out]); which layer stands where is known by family
 * (family_table.c), so that no shape has to decide. Attention is spelled as its dense layers, split
 * or fused, as the models have them. Sources: transformers, src/transformers/pytorch_utils.py and
 * src/transformers/models.
 */
#include "framework/family.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include "framework/torch_script.h"

static const struct leaf_rule leaves[] = {
#include "framework/torch_leaves.h"
};
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .flat = "(C S)",
    .param = "",
    .fuses_qkv = true,
    .counts = true,
    .groups_up = true,
    .square_qkv = true,
    .shell = true,
};

/* A family proven by its names is more than torch.nn's leaves alone. */
static int bid(const struct model *m)
{
    bool sure;
    if (str_is(m->framework, "hf"))
        return 101;
    if (m->spelling.n || (m->framework.n && !str_is(m->framework, "pytorch")))
        return 0;
    if (!family_of(m, torch_cut, NULL, &sure))
        return 0;
    for (size_t i = 0; i < m->n_tensors; i++) { /* Flax's norms of some families are named alike */
        struct str parent, leaf;
        name_tail(m->tensor[i].name, &parent, &leaf);
        if (str_is(leaf, "kernel") || str_is(leaf, "embedding"))
            return 0;
    }
    return 101;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct torch_style style = {
        .framework = "hf", .bilinear = true, .conv1d = true, .rules = &rules};
    TRY(torch_layers(&style, m, a, out, e));
    TRY(family_settle(m, torch_cut, &rules, a, out, e));
    return torch_script_told(m, a, out, e);
}

const struct framework hf_framework = {
    .name = "hf",
    .title = "Hugging Face transformers, PyTorch names",
    .usual_format = "safetensors",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
