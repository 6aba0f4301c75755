/* Flax Linen: see flax_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/flax_forms.h"
};
const struct convention flax_convention = {"flax", forms, sizeof forms / sizeof forms[0]};
