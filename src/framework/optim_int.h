/* Inside optim_read: one file for each family of spellings. Each sets s->style and what it finds,
 * or leaves STYLE_NONE. Not for others.
 */
#ifndef FRAMEWORK_OPTIM_INT_H
#define FRAMEWORK_OPTIM_INT_H
#include "framework/optim.h"

struct optim_reader {
    const struct model *m;
    struct arena *a;
    struct optim_state *s;
    struct err *e;
};
/* A parameter's place in s->param, appended where it has none. */
struct optim_param *optim_param_at(struct optim_reader *r, uint32_t param);
/* One tensor of a slot; a second one makes the whole unclear. */
void optim_put(struct optim_reader *r, uint32_t t, uint32_t param, enum slot slot);

void optim_scale(struct optim_reader *r);                  /* optim_scale.c: after the others */
MUSTCHECK enum status optim_keras(struct optim_reader *r); /* optim_keras.c */
MUSTCHECK enum status optim_named(struct optim_reader *r); /* optim_named.c: Keras 2, TensorFlow */
#endif
