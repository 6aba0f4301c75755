/* What fold.c and fold_lora.c share while they look. Not for others. */
#ifndef CONVERT_FOLD_FIND_H
#define CONVERT_FOLD_FIND_H
#include "convert/fold_int.h"

struct fate { /* of a tensor of the model */
    bool concerned, value;
    struct str name; /* .p == NULL: left out */
    const char *why;
};
struct fold_finder {
    struct fold *f;
    struct model *m;
    struct fate *fate; /* per tensor */
    bool *shared;      /* per tensor: another is the same */
    struct str *head;  /* of wrapped layers, with a dot after */
    size_t n_heads;
};
MUSTCHECK enum status fold_refuse(const struct model *m, size_t t, const char *code,
                                  const char *why, struct err *e);
/* ST_CANNOT fold-type: values of t are nothing to compute with. */
MUSTCHECK enum status fold_reads(const struct model *m, size_t t, struct err *e);
/* name.p == NULL: there was no memory for it. */
MUSTCHECK enum status fold_becomes(struct fold_finder *w, size_t t, struct str name,
                                   const char *why, struct err *e);
void fold_goes(struct fold_finder *w, size_t t, const char *why);
/* A weight that is computed; checks what its type and its other names allow. */
MUSTCHECK enum status fold_add(struct fold_finder *w, enum fold_kind kind, size_t t,
                               struct fold_item **out, struct err *e);
/* Of the wrapped layers in w->head, which are taken: all tensors below head + "layer." that are
 * not concerned yet step out, to head. */
MUSTCHECK enum status fold_step_out(struct fold_finder *w, const char *inside, const char *why,
                                    struct err *e);
/* fold_nnx.c: factors of NNX's; ad is w's model or another. */
bool fold_nnx_holds(const struct model *m);
MUSTCHECK enum status fold_nnx(struct fold_finder *w, const struct model *ad, struct err *e);
/* fold_cudnn.c */
MUSTCHECK enum status fold_cudnn(struct fold_finder *w, struct err *e);
/* fold_lora.c */
MUSTCHECK enum status fold_lora(struct fold_finder *w, const struct fold_opt *o, struct err *e);
#endif
