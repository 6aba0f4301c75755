/* The parts of the format torch-dcp among themselves; the registry sees only torch_dcp_format.
 */
#ifndef FORMAT_TORCH_DCP_H
#define FORMAT_TORCH_DCP_H
#include "format/pytorch.h"

#define DCP_CHUNKS_MAX 32768 /* of one tensor */

/* A part of a tensor as it was saved: the box [lo, lo + n) of it. */
struct dcp_chunk {
    struct str name; /* of the tensor, as the container flattened it */
    uint8_t n_dims;
    const uint64_t *lo, *n;
    /* where its elements are, once looked up */
    enum dtype dtype;
    uint32_t storage; /* flat, of the model */
    const struct view_kept *view;
    uint64_t at; /* offset of its entry in decl */
    struct file *decl;
};
/* What the metadata says of a tensor or another value. */
struct dcp_item {
    struct str name;
    bool is_tensor;
    enum dtype dtype;
    bool requires_grad;
    uint8_t n_dims;
    const uint64_t *dim;
    struct dcp_chunk *chunk;
    size_t n_chunks;
    uint32_t path; /* planner_data: value of the pickle, 0 = none */
    uint64_t at;
    struct node *node; /* in the tree, once made */
};
/* Bytes of a file: the value of MetadataIndex(name, lo). */
struct dcp_place {
    struct str name;
    uint8_t n_dims;
    const uint64_t *lo; /* NULL: no tensor */
    struct str file;
    uint64_t offset, bytes;
    uint64_t at; /* of its entry in .metadata */
};
struct dcp {
    struct source *s;
    const struct read_opt *opt;
    struct model *m;
    struct file *decl;     /* .metadata, or NULL */
    struct pt_reader meta; /* its pickle */
    struct arena scratch;
    struct dcp_item *item; /* in the order of the tree */
    size_t n_items;
    struct dcp_place *place; /* sorted by name and lo */
    size_t n_places;
};

/* .metadata into items and places (torch_dcp_meta.c). */
MUSTCHECK enum status dcp_metadata(struct dcp *d, struct err *e);
/* The place of a part of an item; NULL. */
const struct dcp_place *dcp_find(const struct dcp *d, struct str name, const uint64_t *lo,
                                 uint8_t n_dims);
/* Adds the tensor whose parts are looked up (torch_dcp_join.c): they are proven to lie side by side
 * and to cover it. *index: in the model. */
MUSTCHECK enum status dcp_join(struct dcp *d, struct dcp_item *it, uint32_t *index, struct err *e);
/* Hangs the items' nodes into a tree (torch_dcp_tree.c). */
MUSTCHECK enum status dcp_tree(struct dcp *d, struct err *e);
#endif
