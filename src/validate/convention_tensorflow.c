/* TensorFlow: see keras_forms.h. */
#include "validate/convention.h"

static const struct form forms[] = {
#include "validate/keras_forms.h"
};
const struct convention tensorflow_convention = {"tensorflow", forms,
                                                 sizeof forms / sizeof forms[0]};
