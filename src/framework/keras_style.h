/* Recogniser of Keras's spellings (kernel, gamma, moving_mean, embeddings ...): keras and
 * tensorflow.
 */
#ifndef FRAMEWORK_KERAS_STYLE_H
#define FRAMEWORK_KERAS_STYLE_H
#include "framework/recognise.h"

struct keras_style {
    const char *framework;
    bool legacy; /* names of legacy HDF5: a layer's group, then the variable's own path */
    const struct spelling_rules *rules; /* for its cells */
};
MUSTCHECK enum status keras_layers(const struct keras_style *style, const struct model *m,
                                   struct arena *a, struct layers *out, struct err *e);
/* Recurrent cells (keras_cells.c). called: what each module is called. */
struct keras_names;
MUSTCHECK enum status keras_cells(const struct spelling_rules *r, const struct keras_names *names,
                                  struct modules *ms, const struct str *called,
                                  struct layer_list *list, struct err *e);
/* The attention whose query projection is module `at`, called path; nothing where it is none. */
MUSTCHECK enum status keras_attention(struct modules *ms, struct layer_list *list, size_t at,
                                      struct str path, struct err *e);
bool keras_is_projection(struct str segment);
/* How sure the names alone are Keras's: 0 .. 85. */
int keras_words(const struct model *m);
#endif
