/* Hugging Face's Flax models: Linen's layers (flax_forms.h), and FlaxConv1D of GPT-2, which keeps
 * its kernel [features, in] and computes x times its transpose, and Gemma's norms, x (1 + w).
 */
#include "validate/convention.h"

static const struct form forms[] = {
    {LAYER_LINEAR, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_INPUT_FIRST, 0, "O (S C)"},
    {LAYER_LAYERNORM, LEAF_WEIGHT, LEAF_WEIGHT, 0, WHEN_FORM + FORM_RMS_LESS, 0, "+(S C)"},
#include "validate/flax_forms.h"
};
const struct convention hf_flax_convention = {
    .name = "hf_flax", .form = forms, .n = sizeof forms / sizeof forms[0]};
