/* Hugging Face transformers in PyTorch: torch.nn's layers, each dense layer of an attention by
 * itself, and the Conv1D of GPT-2, y = x W + b with W as it is stored. Source:
 * transformers, src/transformers/pytorch_utils.py.
 */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/torch_forms.h"
};
const struct convention hf_convention = {
    .name = "hf", .form = forms, .n = sizeof forms / sizeof forms[0]};
