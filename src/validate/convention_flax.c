/* Flax Linen: see flax_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/flax_forms.h"
};
static const struct cell_form cells[] = {
#include "validate/flax_cell_forms.h"
};
const struct convention flax_convention = {
    .name = "flax",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
