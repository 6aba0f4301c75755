/* The parts of the Flax msgpack format among themselves; the registry sees only msgpack_format
 * (msgpack.c).
 */
#ifndef FORMAT_MSGPACK_H
#define FORMAT_MSGPACK_H
#include "format/format.h"

#define FLAX_CHUNKED "__msgpack_chunked_array__"
#define FLAX_CHUNK_BYTES ((uint64_t)1 << 30) /* arrays above this are cut, as Flax does */
enum { FLAX_NDARRAY = 1, FLAX_COMPLEX = 2, FLAX_SCALAR = 3 };

/* text of a NODE_TENSOR that is a numpy scalar, not an array without axes */
#define FLAX_SCALAR_MARK "numpy.generic"

/* Orbax keeps such a file for what it does not store as arrays: called for every text in the tree,
 * with the path to it; may turn the node into another kind. */
struct flax_leaves {
    void *ctx;
    enum status (*text)(void *ctx, struct node *n, struct str path, struct err *e);
};
/* Tree and tensors of a file that the model owns already; the caller finishes the model. leaves may
 * be NULL. */
enum status flax_tree(struct model *m, struct file *f, const struct flax_leaves *leaves,
                      struct err *e);
/* A dump of an nnx.State (every leaf is the `value` of a Variable), or of its pure dict (a mean
 * stands beside its scale). After model_finish. */
bool flax_is_nnx(const struct model *m);
enum status flax_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e);
/* A tree whose keys, joined, are the tensors' names: the model's own, or one made of the names. */
enum status flax_spelled(const struct model *m, struct arena *a, const struct node **root,
                         struct err *e);
/* n, or its next sibling that is no mere attribute of a foreign object; NULL at the end. */
const struct node *flax_kept(const struct node *n);
enum status flax_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status flax_begin(struct writer *w, struct err *e);
enum status flax_end(struct writer *w, struct err *e);
#endif
