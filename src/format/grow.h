/* The tree that a tree format writes: a model's own where its keys spell its tensors' names, else
 * dicts nested by the parts of the names, with the other leaves of its tree beside them.
 */
#ifndef FORMAT_GROW_H
#define FORMAT_GROW_H
#include "model/model.h"

#define GROW_MAX_DEPTH 256

/* Nodes come from the arena, or are the model's. Every tensor hangs in it once. Lists and tuples
 * count as keys "0", "1" ...; attributes (keys that are NODE_OPAQUE) and what is below a
 * NODE_OPAQUE are left out of a grown tree. A lone tensor "arr_0" may be the whole tree. ST_CANNOT:
 * name (it has too many parts, or is no path), name-prefix (one name is the path of another),
 * tree-depth. */
MUSTCHECK enum status grow_tree(const struct model *m, struct arena *a, const struct node **out,
                                struct err *e);

/* A leaf to come: a tensor, or the value of another leaf. */
struct grow_leaf {
    struct path path;
    const struct node *leaf; /* NULL: a tensor and nothing more */
    uint32_t tensor;
    struct str name; /* for messages */
};
/* Parses x->name into x->path. ST_CANNOT name: it is none, or has more than `most` parts. */
MUSTCHECK enum status grow_path(struct grow_leaf *x, struct arena *a, size_t most, struct err *e);
/* Dicts with the n leaves in them, which are sorted. ST_CANNOT name-prefix. */
MUSTCHECK enum status grow_dicts(struct arena *a, struct grow_leaf *list, size_t n,
                                 struct node **out, struct err *e);
#endif
