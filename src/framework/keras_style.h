/* Recogniser of Keras's spellings (kernel, gamma, moving_mean, embeddings ...): keras and
 * tensorflow.
 */
#ifndef FRAMEWORK_KERAS_STYLE_H
#define FRAMEWORK_KERAS_STYLE_H
#include "framework/recognise.h"

struct keras_style {
    const char *framework;
    bool legacy; /* names of legacy HDF5: a layer's group, then the variable's own path */
};
MUSTCHECK enum status keras_layers(const struct keras_style *style, const struct model *m,
                                   struct arena *a, struct layers *out, struct err *e);
/* How sure the names alone are Keras's: 0 .. 85. */
int keras_words(const struct model *m);
#endif
