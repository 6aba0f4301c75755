/* Hugging Face transformers, PyTorch: the names of its models' state_dicts. Layers are torch.nn's,
 * but for GPT-2's Conv1D (weight [in,out]); which layer stands where is known by family
 * (family_table.c), so that no shape has to decide. Attention is spelled as its dense layers, split
 * or fused, as the models have them. Sources: transformers, src/transformers/pytorch_utils.py and
 * src/transformers/models.
 */
#include "framework/family.h"
#include "framework/recognise.h"
#include "framework/rules.h"

#define L(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "", x                                                        \
    }
static const struct leaf_rule leaves[] = {
    L(LINEAR, 0, WEIGHT, "weight", "O F"),
    L(LINEAR, 0, BIAS, "bias", "O"),
    {LAYER_LINEAR, 0, FORM_INPUT_FIRST, LEAF_WEIGHT, "weight", "", "F O"}, /* Conv1D */
    L(CONV, 1, WEIGHT, "weight", "O I W"),
    L(CONV, 2, WEIGHT, "weight", "O I H W"),
    L(CONV, 3, WEIGHT, "weight", "O I D H W"),
    L(CONV, 0, BIAS, "bias", "O"),
    L(CONV_TRANSPOSE, 1, WEIGHT, "weight", "I O W"),
    L(CONV_TRANSPOSE, 2, WEIGHT, "weight", "I O H W"),
    L(CONV_TRANSPOSE, 3, WEIGHT, "weight", "I O D H W"),
    L(CONV_TRANSPOSE, 0, BIAS, "bias", "O"),
    L(BATCHNORM, 0, WEIGHT, "weight", "F"),
    L(BATCHNORM, 0, BIAS, "bias", "F"),
    L(BATCHNORM, 0, MEAN, "running_mean", "F"),
    L(BATCHNORM, 0, VAR, "running_var", "F"),
    L(BATCHNORM, 0, COUNT, "num_batches_tracked", ""),
    L(LAYERNORM, 0, WEIGHT, "weight", "F"),
    L(LAYERNORM, 0, BIAS, "bias", "F"),
    L(GROUPNORM, 0, WEIGHT, "weight", "F"),
    L(GROUPNORM, 0, BIAS, "bias", "F"),
    L(EMBEDDING, 0, WEIGHT, "weight", "V D"),
    L(ATTENTION, 0, QKV_WEIGHT, "in_proj_weight", "(N D) E"),
    L(ATTENTION, 0, QKV_BIAS, "in_proj_bias", "(N D)"),
    L(ATTENTION, 0, Q_WEIGHT, "q_proj_weight", "(N D) E"),
    L(ATTENTION, 0, K_WEIGHT, "k_proj_weight", "(N D) E"),
    L(ATTENTION, 0, V_WEIGHT, "v_proj_weight", "(N D) E"),
    L(ATTENTION, 0, O_WEIGHT, "out_proj.weight", "E (N D)"),
    L(ATTENTION, 0, O_BIAS, "out_proj.bias", "E"),
};
#undef L
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .flat = "(C S)",
    .param = "",
    .fuses_qkv = true,
    .counts = true,
    .square_qkv = true,
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
    static const struct torch_style style = {.framework = "hf", .conv1d = true, .rules = &rules};
    TRY(torch_layers(&style, m, a, out, e));
    return family_settle(m, torch_cut, &rules, a, out, e);
}

const struct framework hf_framework = {
    .name = "hf",
    .title = "Hugging Face transformers, PyTorch names",
    .usual_format = "safetensors",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
