/* The configs that Keras keeps as JSON beside weights: looked at by scan, never interpreted.
 */
#ifndef FORMAT_KERAS_CONFIG_H
#define FORMAT_KERAS_CONFIG_H
#include "format/format.h"

#define KERAS_MODEL_CONFIG "model_config.json"       /* attachments: of keras-h5 */
#define KERAS_TRAINING_CONFIG "training_config.json" /* of keras-h5 */
#define KERAS_CONFIG "config.json"                   /* of keras */
#define KERAS_METADATA "metadata.json"               /* of keras */

/* Findings of a config's text: keras-lambda (a Lambda layer: code that loading runs), keras-module
 * (a class or function of a module that is not Keras's), keras-config (no JSON, or deeper than
 * 256). Does nothing but in scan. at: file offset of the text. */
void keras_config_scan(const struct read_opt *opt, struct str text, uint64_t at);
/* Keeps a text as an attachment named `name`. The text lives as long as the model. */
MUSTCHECK enum status keras_config_attach(struct model *m, const char *name, struct str text,
                                          struct err *e);
const struct attachment *keras_config_find(const struct model *m, const char *name);
#endif
