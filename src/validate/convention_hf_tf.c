/* Hugging Face's TensorFlow models: Keras's layers (keras_forms.h), and TFConv1D of GPT-2, y = x W
 * + b with W [in,out] and b [1,out]. Source: transformers, src/transformers/modeling_tf_utils.py.
 */
#include "validate/convention.h"

static const struct form forms[] = {
    {LAYER_LINEAR, LEAF_BIAS, LEAF_BIAS, 0, WHEN_FORM + FORM_INPUT_FIRST, 0, "S O"},
#include "validate/keras_forms.h"
};
const struct convention hf_tf_convention = {
    .name = "hf_tf", .form = forms, .n = sizeof forms / sizeof forms[0]};
