/* Pairing: which layer of one model is which layer of another, for validation. Uses the names,
 * kinds and structure that mapping uses, but moves nothing.
 */
#ifndef CONVERT_PAIR_H
#define CONVERT_PAIR_H
#include "model/layers.h"

struct pair_opt {
    const char *from[2]; /* framework of a and of b; NULL = recognise */
    struct str rules;    /* text of a rules file, empty = none */
    const char *rules_path;
};
struct pairing {
    struct arena arena;
    /* What the layers' tensors are numbers of: a and b, or, where one side stacks or joins what the
     * other has apart, the same storages seen apart (the real tensors first, those as ROLE_OTHER).
     */
    const struct model *model[2];
    struct layers layers[2]; /* of a and b; kinds settled as far as rules, names and the other side
                                tell */
    int64_t *pair;           /* per layer of a: the layer of b, -1 = none */
};
/* ST_CANNOT when no framework knows a model's names and none is given. What stays undecided or
 * unpaired is not a failure here: validation reports it as unproven. Free with pair_free. */
MUSTCHECK enum status pair_layers(const struct model *a, const struct model *b,
                                  const struct pair_opt *o, struct pairing *out, struct err *e);
void pair_free(struct pairing *p);
#endif
