/* TensorFlow: see keras_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/keras_forms.h"
};
static const struct cell_form cells[] = {
#include "validate/keras_cell_forms.h"
};
const struct convention tensorflow_convention = {
    .name = "tensorflow",
    .form = forms,
    .n = sizeof forms / sizeof forms[0],
    .cell = cells,
    .n_cells = sizeof cells / sizeof cells[0],
};
