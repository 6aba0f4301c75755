/* The structure around the tensors: containers (empty ones too), lists against tuples, typed
 * scalars, opaque nodes. Formats build it when they read (pytorch pickles, msgpack) and spell it
 * when they write; tensors hang in it by index. Nodes live in the model's arena; no recursion
 * anywhere: walk with child/next.
 */
#ifndef MODEL_TREE_H
#define MODEL_TREE_H
#include "base/arena.h"
#include "base/str.h"
#include "model/dtype.h"

enum node_kind {
    NODE_NIL,
    NODE_BOOL,
    NODE_INT,
    NODE_BIGINT,
    NODE_FLOAT,
    NODE_COMPLEX,
    NODE_STR,
    NODE_BYTES,
    NODE_DTYPE, /* a dtype used as a value */
    NODE_DICT,  /* children carry keys */
    NODE_LIST,
    NODE_TUPLE,
    NODE_SET,
    NODE_TENSOR, /* tensor: index into model.tensor */
    NODE_OPAQUE  /* a foreign object kept as data: text = "module.Class", children = its parts */
};
struct node {
    enum node_kind kind;
    struct str
        text;  /* STR, BYTES; BIGINT: decimal; DICT: class name such as "collections.OrderedDict",
                  empty = plain dict; OPAQUE: global name; DTYPE: name */
    int64_t i; /* BOOL 0/1, INT */
    uint64_t bits[2]; /* FLOAT: IEEE double bits (never through FP registers); COMPLEX: re, im */
    uint32_t tensor;  /* TENSOR */
    uint64_t offset;  /* where in the file, for messages */
    struct node *key; /* this node's key inside a DICT (any scalar kind), else NULL. OPAQUE: not an
                         item but an attribute of the dict object, text names it ("_metadata"),
                         or an item whose key is no scalar, text "(key N)" */
    struct node *child; /* first child; in file order */
    struct node *last;  /* last child */
    struct node *next;  /* next sibling */
    struct node *parent;
    uint64_t n_children;
};
struct node *node_new(struct arena *a, enum node_kind kind); /* NULL = memory */
void node_add(struct node *parent, struct node *child);
/* next node in preorder inside root, or NULL */
struct node *node_step(const struct node *root, struct node *n);
struct node *node_get(const struct node *dict, struct str key); /* linear; NULL when absent */
#endif
