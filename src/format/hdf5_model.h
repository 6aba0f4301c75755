/* An HDF5 file as a model: what keras-h5, keras-weights and keras share when they read. Groups
 * become the tree, datasets tensors, text attributes meta: "PATH@NAME", at the root "NAME"; lists
 * of texts "PATH@NAME[]" as JSON.
 *
 * Refused: hdf5-link (soft, external: named by scan), hdf5-loop, hdf5-depth, too-many-nodes,
 * hdf5-dtype (text, references, compounds ... in a dataset), size-mismatch, hdf5-space (a dataset
 * without extents), and what codec/hdf5.h refuses.
 */
#ifndef FORMAT_HDF5_MODEL_H
#define FORMAT_HDF5_MODEL_H
#include "codec/hdf5.h"
#include "format/format.h"

struct hdf5_model {
    struct model *m;
    const struct read_opt *opt;
    struct hdf5 h;
    /* Asked for every attribute of a group or dataset before it becomes meta; true: it is taken
     * care of. node is the group's; path its names joined with '/'. NULL allowed. */
    enum status (*attr)(void *ctx, struct hdf5_model *x, struct node *node, struct str path,
                        const struct hdf5_attr *a, bool *taken, struct err *e);
    void *ctx;
    uint64_t n_nodes_, n_noted_;
};
/* Opens the range of f and adds its groups and datasets below root, each group's sorted by name;
 * the caller ends with hdf5_model_finish. */
MUSTCHECK enum status hdf5_model_read(struct hdf5_model *x, struct file *f, uint64_t lo, uint64_t n,
                                      struct node *root, struct err *e);
/* Sorts the tensors by their order, shares what hard links share, names them after the trees below
 * the roots, sets m->tree where there is one tree, and calls model_finish and roles_by_name. */
MUSTCHECK enum status hdf5_model_finish(struct model *m, struct node *const *root, size_t n_roots,
                                        struct err *e);
/* The texts of a list attribute, from the arena. ST_INPUT hdf5-attribute when it is none. */
MUSTCHECK enum status hdf5_model_texts(struct hdf5_model *x, const struct hdf5_attr *a,
                                       struct str **item, size_t *n, struct err *e);
/* The object below a tree's root that a path with '/' names, or NULL. */
struct node *hdf5_model_find(struct node *root, struct str path);
/* For bids: what stands at the root. */
enum hdf5_look { HDF5_LOOK_NONE, HDF5_LOOK_BAD, HDF5_LOOK_ANY, HDF5_LOOK_KERAS_H5 };
enum hdf5_look hdf5_model_look(const struct source *s);
#endif
