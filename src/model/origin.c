/* See origin.h. */
#include "model/origin.h"

const char *origin_word(enum origin_tensors t)
{
    static const char *const words[ORIGIN_N] = {
        [ORIGIN_SAME] = "same",
        [ORIGIN_CHANGED] = "changed",
        [ORIGIN_SELECTED] = "selected",
        [ORIGIN_COMPUTED] = "computed",
    };
    return words[t];
}

bool origin_has_id(const struct origin *o)
{
    return o->tensors == ORIGIN_SAME || o->tensors == ORIGIN_CHANGED;
}
