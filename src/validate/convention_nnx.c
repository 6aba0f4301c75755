/* Flax NNX: see flax_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/flax_forms.h"
};
const struct convention nnx_convention = {"nnx", forms, sizeof forms / sizeof forms[0]};
