/* What a framework is: one .c file with one exported `const struct framework NAME_framework`, and
 * one line in framework/list.h. A framework knows names, axes and layer spellings, as tables, and
 * maps only to and from canonical. Permutations are derived from axis letters ("OIHW" against
 * "HWIO"); no framework knows another.
 */
#ifndef FRAMEWORK_FRAMEWORK_H
#define FRAMEWORK_FRAMEWORK_H
#include "model/layers.h"

struct spelling_rules; /* rules.h */
struct framework {
    const char *name; /* "pytorch" */
    const char *title;
    const char *usual_format; /* "pytorch", "msgpack" ... */
    /* How sure these names and shapes are mine: 0 .. 100. */
    int (*bid)(const struct model *m);
    /* Finds the layers: kinds from names first, shapes only where they decide; every tensor of role
     * parameter, buffer or statistic belongs to exactly one layer (LAYER_NONE or LAYER_PARAM
     * where nothing is known). Memory from the arena. */
    enum status (*layers)(const struct model *m, struct arena *a, struct layers *out,
                          struct err *e);
    /* What travels along and means the same elsewhere, said anew (config.json from key-values, or
     * the other way): *give adds to dst what any other framework understands, *take what this one
     * does, from what src has. *why: what was missing, empty where nothing was. Either may be NULL.
     */
    enum status (*give)(const struct model *src, const struct layers *l, struct model *dst,
                        struct str *why, struct err *e);
    enum status (*take)(const struct model *src, const struct layers *l, struct model *dst,
                        struct str *why, struct err *e);
    /* Tables for spelling (axis letters, leaf names, tree conventions) follow here: see rules.h. */
    const struct spelling_rules *rules;
};
extern const struct framework *const frameworks[];
extern const size_t n_frameworks;
const struct framework *framework_find(struct str name);
/* The one that bids most; NULL when none bids, or on a tie. */
const struct framework *framework_of(const struct model *m);
#endif
