/* Old spellings and the wrappers around a model, made plain: `convert --upgrade`. Whole leading
 * segments that a wrapper put before every weight are taken off, names that newer releases write
 * otherwise are renamed, buffers that are computed again are left out; each line of it is told. The
 * rules are a table (upgrade.c), listed in nnferry-map.5. What is new already stays as it is.
 */
#ifndef FRAMEWORK_UPGRADE_H
#define FRAMEWORK_UPGRADE_H
#include "model/model.h"

struct upgraded {
    uint32_t tensor;
    struct str from, to; /* to.p == NULL: left out */
    const char *why;
    bool value; /* its values are computed (convert/fold.h), under whichever name */
};
struct upgrade {
    struct upgraded *item; /* in the model's arena, by tensor */
    size_t n;
};
/* Renames the weights of m that pass one of the globs (NULL: all). like: a skeleton whose names
 * prove what a prefix is, or NULL. ST_CANNOT "upgrade-taken" where two weights would have one name:
 * m is unchanged then. */
MUSTCHECK enum status upgrade_names(struct model *m, const struct model *like,
                                    const char *const *select, struct upgrade *out, struct err *e);
#endif
