/* The parts of the ONNX format among themselves; the registry sees only onnx_format (onnx.c).
 * A file is walked (onnx_walk.c), each TensorProto told apart (onnx_tensor.c), its typed fields
 * decoded (onnx_data.c), its external ranges opened (onnx_external.c). What is left of a file
 * without the numbers is its graph (onnx_graph.c): the writer fills it again, or one of its own.
 */
#ifndef FORMAT_ONNX_H
#define FORMAT_ONNX_H
#include "codec/proto.h"
#include "format/format.h"

#define ONNX_MAX_TENSORS 262144u
/* Typed fields of up to so many bytes are decoded when the file is opened. */
#define ONNX_SMALL ((uint64_t)64 << 10)
/* Name of the attachment; it begins with onnx_mark. */
#define ONNX_GRAPH "graph.onnx"
extern const uint8_t onnx_mark[];
extern const size_t onnx_mark_bytes; /* = a metadata_props entry, so the graph is protobuf, too */

/* ---- element types ---- */

enum { ONNX_STRING = 8 };
enum dtype onnx_dtype(int32_t data_type); /* DT_NONE: none of ours */
int32_t onnx_data_type(enum dtype t);     /* 0: ONNX has none */
unsigned onnx_ir_version(enum dtype t);   /* the first that has it, at least 8 */

/* ---- walking ---- */

/* A message that encloses a tensor: tag, body and end in the cursor's range. */
struct onnx_span {
    uint64_t at, body, end;
    uint32_t field;
    int64_t parent; /* span, -1 = the model itself */
};
/* A TensorProto in place. */
struct onnx_item {
    struct proto tensor;   /* the TensorProto, to be walked */
    uint64_t at, end;      /* its whole field, tag included */
    uint32_t field;        /* its number in the enclosing message */
    int64_t span;          /* the enclosing message, -1 = none */
    const char *prefix;    /* what its name begins with; prefix_n bytes */
    size_t prefix_n;       /* valid until the next step */
    bool own_name;         /* the TensorProto's name follows the prefix; else the prefix is all */
    int part;              /* of a sparse tensor: 1 values, 2 indices; 0: dense */
    uint64_t sparse_at;    /* its SparseTensorProto's place, the same for both parts */
    const uint64_t *shape; /* ... and dense shape, as prefix */
    size_t n_shape;
};
enum onnx_kind {
    ONNX_MODEL,
    ONNX_TRAINING,
    ONNX_FUNCTION,
    ONNX_A_GRAPH,
    ONNX_NODE,
    ONNX_ATTRIBUTE,
    ONNX_SPARSE
};
#define ONNX_DEPTH 96
struct onnx_frame {
    struct proto m;
    enum onnx_kind kind;
    uint64_t at;
    uint32_t field;
    int64_t span;      /* -1 until a tensor was found in it */
    size_t name_n;     /* of the walk's name: what this frame's children begin with */
    uint64_t n_inside; /* nodes or list members seen so far */
    bool constant;     /* NODE, ATTRIBUTE: a Constant's value */
};
struct onnx_walk {
    struct cursor *c;
    struct onnx_frame frame[ONNX_DEPTH];
    size_t depth;
    struct buf name, span; /* struct onnx_span */
    uint64_t shape[VIEW_MAX_AXES];
    size_t n_shape;
    uint64_t n_tensors, name_bytes;
    /* what else is worth telling; NULL where nobody listens. what: "domain", "function",
     * "python-op", "ep-context". */
    void (*notice)(void *ctx, const char *what, uint64_t at, struct str text);
    void *notice_ctx;
    bool graph_seen;
};
/* Over the whole range of c, which outlives the walk. onnx_walk_free in any case. */
void onnx_walk_init(struct onnx_walk *w, struct cursor *c);
/* The next TensorProto in file order; *more false at the end. Refuses: nested-too-deep,
 * field-twice, too-many-tensors, bad-name, bad-shape and what codec/proto.h refuses. */
MUSTCHECK enum status onnx_walk_next(struct onnx_walk *w, struct onnx_item *it, bool *more,
                                     struct err *e);
void onnx_walk_free(struct onnx_walk *w);
static inline const struct onnx_span *onnx_spans(const struct onnx_walk *w)
{
    return (const struct onnx_span *)(const void *)w->span.p;
}
static inline size_t onnx_n_spans(const struct onnx_walk *w)
{
    return w->span.n / sizeof(struct onnx_span);
}

/* ---- one tensor ---- */

struct onnx_tensor {
    int32_t data_type;
    enum dtype dtype; /* DT_NONE for strings */
    uint64_t dim[VIEW_MAX_AXES];
    size_t n_dims;
    uint64_t n_elems, raw_bytes; /* the last byte may be filled in part */
    struct str name;             /* from the arena */
    bool has_raw, external;
    bool unpacked;          /* one value a byte once decoded, although the type is smaller */
    uint64_t raw_at, raw_n; /* raw_data, in the cursor's range */
    uint32_t typed;         /* field number of the typed list, 0 = none */
    uint64_t typed_n;       /* bytes of its values */
    uint64_t typed_pieces;
    uint64_t flat_at; /* the values lie back to back here; UINT64_MAX: they do not */
    struct str location;
    uint64_t offset, length;
    bool has_length;
};
/* Walks the TensorProto. Refuses: field-twice, bad-shape, shape-overflow, unknown-dtype,
 * data-twice, tensor-segment, data-field, size-mismatch, external-key. */
MUSTCHECK enum status onnx_tensor_read(const struct proto *from, bool need_data, struct arena *a,
                                       struct onnx_tensor *t, struct err *e);
/* Copies the fields that are no data, as they stand. */
MUSTCHECK enum status onnx_tensor_rest(const struct proto *from, struct buf *b, struct err *e);

/* ---- typed fields ---- */

/* A TensorProto whose typed list must be decoded: fills *s (STREAM). body: the message's place in
 * the file. Refuses (when read): size-mismatch, value-range. */
MUSTCHECK enum status onnx_typed_storage(const struct onnx_tensor *t, struct file *f, uint64_t body,
                                         uint64_t n_bytes, struct arena *a, struct storage *s,
                                         struct err *e);
/* Reads raw bytes of a FLAT, MEMORY or STREAM storage in order, block by block. */
MUSTCHECK enum status onnx_each_block(const struct storage *s,
                                      enum status (*block)(void *ctx, const uint8_t *p, size_t n,
                                                           uint64_t at, struct err *e),
                                      void *ctx, struct err *e);

/* ---- external data ---- */

struct onnx_external {
    struct str location;
    uint64_t offset, length, want, at; /* want: bytes the tensor needs; at: its TensorProto */
    bool has_length;
    uint32_t tensor;
    struct str name;
};
/* Opens each file beneath the folder of s->path once and places the tensors in it; n refs, sorted
 * in place. Refuses: path-escape, external-length, external-range and what dir_file refuses. */
MUSTCHECK enum status onnx_external_place(const struct source *s, struct file *self,
                                          struct onnx_external *ref, size_t n,
                                          const struct read_opt *opt, struct model *m,
                                          struct err *e);

/* ---- rewriting ---- */

/* A range of a message tree to be replaced: [at, end) by head bytes and then data_bytes. */
struct onnx_edit {
    uint64_t at, end;
    int64_t span;
    const uint8_t *head;
    size_t head_n;
    uint64_t data_bytes; /* follow the head; not ours to write */
    uint64_t data_at;    /* out: where they lie in the new message */
};
/* Lengths of all spans after the edits. size: of the whole, from `from` on. Memory from a. */
struct onnx_rewrite {
    const struct onnx_span *span;
    size_t n_spans;
    struct onnx_edit *edit; /* in file order */
    size_t n_edits;
    uint64_t *length; /* new body lengths of the spans */
    uint64_t from, to, size;
};
MUSTCHECK enum status onnx_rewrite_measure(struct onnx_rewrite *r, struct arena *a, struct err *e);
/* Gives the new message piece by piece, in order; data is skipped over: the sink is told where each
 * piece lies. Fills data_at. */
MUSTCHECK enum status onnx_rewrite_emit(struct onnx_rewrite *r, struct cursor *c,
                                        enum status (*put)(void *ctx, const uint8_t *p, size_t n,
                                                           uint64_t at, struct err *e),
                                        void *ctx, struct err *e);

/* ---- the format ---- */

enum status onnx_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e);
enum status onnx_check(const struct model *m, const struct write_opt *opt, struct err *e);
/* Has graph.onnx the tensors that are to be written, and no others? */
bool onnx_graph_fits(const struct model *m, const struct attachment *a);
enum status onnx_begin(struct writer *w, struct err *e);
enum status onnx_end(struct writer *w, struct err *e);
#endif
