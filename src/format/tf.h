/* The parts that TensorFlow's formats share: element types, shapes, slices, names, tensor bundles,
 * string tensors, object graphs and tensor protos. The registry sees only tf_checkpoint_format,
 * savedmodel_format and graphdef_format.
 *
 * Names: a key of the bundle ("dense/kernel") is a path, its parts joined by '/': "dense.kernel".
 * In a checkpoint with an object graph the tail "/.ATTRIBUTES/VARIABLE_VALUE" of a key is left out.
 * Source: tensorflow, core/util/tensor_bundle; the .proto files of core/framework, core/protobuf.
 */
#ifndef FORMAT_TF_H
#define FORMAT_TF_H
#include "base/checked.h"
#include "codec/proto.h"
#include "format/format.h"

/* DataType numbers that are no plain array. */
enum { TF_STRING = 7, TF_RESOURCE = 20, TF_VARIANT = 21, TF_REFERENCE = 100 };
#define TF_TAIL "/.ATTRIBUTES/VARIABLE_VALUE"
#define TF_GRAPH_KEY "_CHECKPOINTABLE_OBJECT_GRAPH"
/* Attachments: the object graph, and what stands before the key of a string tensor. */
#define TF_GRAPH_NAME "tensorflow/object_graph.pb"
#define TF_STRINGS "tensorflow/strings/"
/* Media types: one string as it is; or the stored bytes of a tensor of strings or variants. */
#define TF_ONE_STRING "application/x-tensorflow-string"
#define TF_STORED "application/x-tensorflow-tensor"

/* ---- tf_type.c ---- */

struct tf_type {
    enum dtype dtype;
    bool unpacked;    /* one value a byte */
    const char *note; /* for quantised types, which have no type of their own here; else NULL */
};
/* false for numbers that are no plain array, or not known. */
bool tf_type(uint64_t number, struct tf_type *t);
unsigned tf_number(enum dtype t); /* 0: TensorFlow has none */
const char *tf_type_name(uint64_t number);

struct tf_shape {
    size_t n;
    uint64_t dim[VIEW_MAX_AXES];
};
/* A TensorShapeProto in the current field. ST_INPUT tf-shape: unknown rank, a negative extent, more
 * than VIEW_MAX_AXES. */
MUSTCHECK enum status tf_shape(const struct proto *field, struct tf_shape *s, struct err *e);

/* false: the product passes what a view can hold. */
static inline bool tf_elems(const uint64_t *dim, size_t n, uint64_t *elems)
{
    return prod_u64(dim, n, elems) && *elems <= UINT64_C(1) << 62;
}

#define TF_FULL UINT64_MAX /* a slice's length: all of that axis */
struct tf_slice {
    size_t n;
    uint64_t lo[VIEW_MAX_AXES], len[VIEW_MAX_AXES];
};
/* A TensorSliceProto in the current field. ST_INPUT tf-slice. */
MUSTCHECK enum status tf_slice(const struct proto *field, struct tf_slice *s, struct err *e);
/* The key that a slice of a tensor is stored under, in TensorFlow's ordered code. */
void tf_slice_key(struct buf *b, struct str name, size_t n, const uint64_t *lo,
                  const uint64_t *len);

/* The path text of a key; with strip the tail goes. */
MUSTCHECK enum status tf_name(struct str key, bool strip, struct arena *a, struct str *name,
                              struct err *e);
/* The key of a path text. ST_CANNOT name-not-spelled: a part is empty or holds a '/', or reading
 * the key again (with strip or without) would give another name. */
MUSTCHECK enum status tf_key(struct str name, bool strip, struct arena *a, struct str *key,
                             struct err *e);

/* Boxes of one array of n_dims dimensions: lo and len as pairs, box after box, none TF_FULL. They
 * must lie inside, apart, and cover it. *why says what is wrong, NULL when nothing is. */
MUSTCHECK enum status tf_boxes(size_t n_dims, const uint64_t *dim, size_t n_boxes,
                               const uint64_t *box, const char **why, struct err *e);

/* ---- tf_bundle.c ---- */

/* Reads the bundle of the index file (taken over) into m, up to and with model_finish and the
 * roles. stem is the shards' path beneath dir without ".data-...". */
MUSTCHECK enum status tf_bundle_read(struct dir *dir, struct str stem, struct file *index,
                                     const struct read_opt *opt, struct model *m, struct err *e);
/* Masked CRC-32C of a range, read in steps. */
MUSTCHECK enum status tf_sum(struct file *f, uint64_t off, uint64_t n, uint32_t *masked,
                             struct err *e);

/* ---- tf_strings.c ---- */

/* A string tensor in a data file. */
struct tf_strings {
    struct file *f;
    uint64_t offset, size; /* stored */
    uint64_t n;            /* elements */
    uint32_t crc;          /* masked, as the entry says */
    bool big;
    uint64_t body; /* out: file offset of the first string's first byte */
};
/* Proves lengths and their sum; with sum the strings' too. ST_INPUT tf-string, tf-sum. */
MUSTCHECK enum status tf_strings_check(struct tf_strings *s, bool sum, struct err *e);
/* The stored bytes and masked sum of strings, one after another. */
struct tf_strings_w {
    struct buf lengths, bytes;
    uint32_t sum_lengths;
};
void tf_strings_add(struct tf_strings_w *w, struct str s);
/* Appends the stored bytes to out, frees w. */
void tf_strings_end(struct tf_strings_w *w, struct buf *out, uint32_t *masked);
/* The media type of stored strings. */
void tf_stored_type(struct buf *b, const char *dtype, uint32_t masked, const uint64_t *dim,
                    size_t n);

/* ---- tf_graph.c ---- */

struct tf_attr { /* a value that an object of the graph keeps in the bundle */
    uint32_t node;
    struct str name, full_name, key;
    struct str tensor; /* what the value is called here: its key's path, see tf_optimizers.c */
};
struct tf_child {
    uint32_t parent, node;
    struct str name;
};
struct tf_slot {
    uint32_t variable, slot; /* nodes */
    struct str name;         /* "m", "v", "momentum" ... */
};
struct tf_graph {
    struct tf_attr *attr;
    size_t n_attrs;
    struct tf_slot *slot;
    struct tf_child *child; /* by parent, as they stand */
    size_t n_slots, n_children, n_nodes;
};
/* TrackableObjectGraph; name and base are for messages. ST_INPUT tf-graph and those of proto.h. */
MUSTCHECK enum status tf_graph_read(struct str bytes, const char *name, uint64_t base,
                                    struct arena *a, struct tf_graph *g, struct err *e);
/* After roles_by_name: which optimizer slot belongs to which variable; full names as notes. */
MUSTCHECK enum status tf_graph_roles(const struct tf_graph *g, struct model *m, struct err *e);
/* The graph without the values whose keys are not in keys[0..n), which is sorted. */
MUSTCHECK enum status tf_graph_prune(struct str bytes, const struct str *keys, size_t n,
                                     struct buf *out, struct err *e);

/* ---- tf_optimizers.c ---- */

/* Called by tf_graph_read: sets every attribute's tensor. */
MUSTCHECK enum status tf_optimizer_names(struct tf_graph *g, struct arena *a, struct err *e);
/* What Keras 3's optimizers keep; of[] is a tensor for each node, or -1. */
MUSTCHECK enum status tf_optimizer_roles(const struct tf_graph *g, const int64_t *of,
                                         struct model *m, struct err *e);

/* ---- tf_values.c ---- */

/* A TensorProto: where its values are. Nothing is decoded. */
struct tf_values {
    uint64_t type;
    bool has_type, has_shape, has_content;
    struct tf_shape shape;
    uint64_t content, content_n; /* tensor_content: range position and bytes */
    uint32_t field;              /* the typed list with values in it, 0: none */
    uint64_t n;                  /* values in it */
    uint64_t first, first_n;     /* range position and bytes of its first occurrence */
    bool one_run;                /* ... which holds them all, and they are as wide as the type */
    uint64_t at;
};
MUSTCHECK enum status tf_values_read(const struct proto *field, struct tf_values *v, struct err *e);
/* Does v fit type and elems: content of the very size, or at most elems values of the right list?
 * ST_INPUT tf-values, at the tensor. */
MUSTCHECK enum status tf_values_fit(const struct proto *field, const struct tf_values *v,
                                    enum dtype type, uint64_t elems, struct err *e);
/* All elems elements of type into dst, little-endian. Fewer values than elements: the last one is
 * repeated, none gives zeros. */
MUSTCHECK enum status tf_values_decode(const struct proto *field, const struct tf_values *v,
                                       enum dtype type, uint64_t elems, uint8_t *dst,
                                       struct err *e);
/* The strings of the tensor as an attachment called TF_STRINGS key. */
MUSTCHECK enum status tf_values_attach(const struct proto *field, const struct tf_values *v,
                                       struct str key, struct model *m, struct err *e);

/* ---- tf_v1.c ---- */

/* A checkpoint of version 1; path is a shard's, f (taken over) that shard. */
MUSTCHECK enum status tf_v1_read(struct dir *dir, struct str base, struct file *f,
                                 const struct read_opt *opt, struct model *m, struct err *e);

/* ---- tf_write.c ---- */

/* Writes the bundle of w->m to files stem.index and stem.data-... of w->out. */
MUSTCHECK enum status tf_bundle_check(const struct model *m, const struct write_opt *opt,
                                      struct err *e);
MUSTCHECK enum status tf_bundle_begin(struct writer *w, struct str stem, struct err *e);
MUSTCHECK enum status tf_bundle_end(struct writer *w, struct err *e);
#endif
