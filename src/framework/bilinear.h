/* A weight of three axes is a convolution's over a sequence, [out, in, kernel], or nn.Bilinear's,
 * [out, in1, in2]: shapes alone never tell. What does: words in the name, a sequence of modules
 * that hands on one value each, and what stands around it.
 */
#ifndef FRAMEWORK_BILINEAR_H
#define FRAMEWORK_BILINEAR_H
#include "framework/recognise.h"

struct bilinear {
    const struct modules *ms;
    struct arena *a;
    uint64_t *feature; /* extents of all matrices, sorted: widths that layers read or give */
    size_t n_features;
    uint64_t *out, *in; /* axes 0 and 1 of the weights of three axes, sorted */
    size_t n_weights;
};
/* Looks at all modules, once; memory from the arena. */
MUSTCHECK enum status bilinear_learn(const struct modules *ms, struct arena *a,
                                     struct bilinear *out, struct err *e);
/* Does the layer's own name say that it is one? */
bool bilinear_named(struct str path);
/* Why a weight of three axes may not be a convolution's; NULL: it is one. */
const char *bilinear_doubt(const struct bilinear *x, struct str path, const struct tensor *w);
#endif
