/* A model as read: tensors (what, where, under which name, in which role), the storages that
 * hold their bytes, the structure around them and what travels along. Everything lives in the
 * model's arena; files stay open until model_free. Nobody frees a tensor.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H
#include "base/arena.h"
#include "base/file.h"
#include "model/dtype.h"
#include "model/name.h"
#include "model/origin.h"
#include "model/tree.h"
#include "model/view.h"

enum role {
    ROLE_PARAMETER,
    ROLE_BUFFER,
    ROLE_STATISTIC,
    ROLE_MOMENT1,
    ROLE_MOMENT2,
    ROLE_EMA,
    ROLE_COUNTER,
    ROLE_RNG,
    ROLE_CACHE,
    ROLE_OTHER
};
const char *role_name(enum role r); /* "parameter" ... "moment1" ... */
bool role_parse(struct str s, enum role *out);

enum storage_kind {
    STORAGE_FLAT,   /* addressable bytes: file, offset, bytes */
    STORAGE_TILED,  /* independently decodable tiles */
    STORAGE_STREAM, /* decodable from the start only */
    STORAGE_MEMORY  /* bytes in the model's arena (scalars read from text and the like) */
};

/* TILED whose tiles are boxes of an array (chunks of zarr and HDF5, the shards a tensor was saved
 * in): the storage's raw bytes are that array's in C order. Boxes lie inside the array and do not
 * overlap; what no box covers is `fill`. A tile decodes to all that its box holds. */
struct storage;
struct tile_grid {
    uint8_t n_dims;      /* 1 .. VIEW_MAX_AXES */
    size_t elem_bytes;   /* 1 .. 16 */
    const uint64_t *dim; /* the array; product * elem_bytes = raw_bytes */
    bool covers;         /* every element lies in a box */
    uint8_t fill[16];    /* one element, in the storage's byte order */
    /* Where tile t lies: lo[] its first element, n[] what of it counts, held[] (>= n) its extents
     * as decoded, where the border's chunks are kept whole. product(held) * elem_bytes is at most
     * tile_bytes. Thread-safe. */
    enum status (*where)(const struct storage *s, uint64_t t, uint64_t *lo, uint64_t *n,
                         uint64_t *held, struct err *e);
};

/* How a storage that is not flat turns into raw bytes. Implementations live in codec or format;
 * the run engine calls them from several threads, each with its own *state. */
struct decoder {
    const char *name;
    /* TILED: decodes tile number t into dst (exactly tile_bytes(t) raw bytes). scratch comes from
     * the engine (scratch_bytes of it, per thread). */
    enum status (*tile)(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e);
    /* STREAM: open at the start, then read raw bytes in order; *n is in: room, out: given (0 only
     * at the end). A stream that gives fewer or more bytes than s->raw_bytes is ST_INPUT. */
    enum status (*open)(const struct storage *s, void **state, struct err *e);
    enum status (*read)(const struct storage *s, void *state, void *dst, size_t *n, struct err *e);
    void (*close)(const struct storage *s, void *state);
};
struct storage {
    enum storage_kind kind;
    struct file *file;     /* NULL for MEMORY */
    uint64_t offset;       /* in file: FLAT data, STREAM compressed bytes */
    uint64_t stored_bytes; /* bytes in the file */
    uint64_t raw_bytes;    /* after decoding; = stored_bytes for FLAT */
    const uint8_t *mem;    /* MEMORY */
    bool big_endian;       /* elements need a byte swap (dtype_info.swap_bytes) */
    /* TILED: the raw bytes are cut into n_tiles pieces of tile_bytes (the last may be shorter), or,
     * with a grid, are n_tiles boxes whose decoded size is at most tile_bytes. */
    uint64_t n_tiles, tile_bytes;
    const struct tile_grid *grid; /* NULL: pieces in order */
    size_t scratch_bytes;         /* per thread, for decoder.tile */
    const struct decoder *dec;
    const void *priv; /* the format's, from the model's arena */
};

struct tensor {
    struct str name; /* flat path text, unique in the model */
    enum dtype dtype;
    uint8_t n_dims;               /* = view->n_dims */
    uint32_t storage;             /* index into model.storage */
    const uint64_t *dim;          /* = view->dim */
    const struct view_kept *view; /* elements in the storage, before byte swap; never NULL */
    enum role role;
    int64_t of;       /* index of the parameter a moment belongs to, -1 = none */
    uint64_t order;   /* place in the source (state_dict order) */
    int64_t alias_of; /* index of the tensor it shares exactly (storage, view, dtype), -1 = none */
    bool requires_grad; /* as far as the source says; true for parameters */
    /* one value a byte in the file although the dtype is sub-byte (numpy, flax int4) */
    bool unpacked;
    struct str note;   /* what the format wants said about it, or empty */
    uint64_t offset;   /* where the source declares it, for messages */
    struct file *decl; /* the file that declares it */
};

/* Files and blobs that travel along: configs, tokenizers, key-values. */
struct attachment {
    struct str name;       /* relative name, '/' between parts */
    struct str media_type; /* "application/json" ... */
    struct file *file;     /* either file, offset, bytes ... */
    uint64_t offset, n_bytes;
    const uint8_t *mem; /* ... or memory */
};
struct meta { /* flat key-values of the container itself (safetensors __metadata__ ...) */
    struct str key, value;
};

struct model {
    struct arena arena;
    const char *format;   /* "safetensors" ...: which reader made it */
    struct str framework; /* tag as far as the container says: "pytorch", "flax", "" */
    struct tensor *tensor;
    size_t n_tensors, cap_tensors_;
    struct storage *storage;
    size_t n_storages, cap_storages_;
    struct node *tree;    /* NULL: flat */
    struct node *modules; /* of a TorchScript archive: its objects, with their classes; a hint
                             beside the program that is attached, nothing to carry. NULL: none */
    struct attachment *attachment;
    size_t n_attachments, cap_attachments_;
    struct meta *meta;
    size_t n_meta, cap_meta_;
    struct file **file; /* owned: closed by model_free */
    size_t n_files, cap_files_;
    /* Streams that had to be decoded to be read at all (a pickle in gzip), and their raw bytes,
     * which lie in spools. */
    uint64_t n_decoded, spooled_bytes;
    bool has_opaque; /* the tree holds opaque nodes: a ledger drop */
    /* Archives and other formats of ours: what restores the source's spelling (see
     * convert/map.h); opaque JSON text here, empty where none. */
    struct str spelling;
    const struct origin *origin; /* as far as an archive tells it; else NULL */
    size_t *index_;              /* names, after model_finish */
    size_t index_cap_;
};
void model_init(struct model *m);
void model_free(struct model *m);
/* Each appends a zeroed element and gives its address, valid until the next add of the same kind
 * (keep indexes, not pointers). tensor_add makes a scalar and sets of and alias_of to
 * -1. */
MUSTCHECK enum status model_tensor_add(struct model *m, struct tensor **out, struct err *e);
MUSTCHECK enum status model_storage_add(struct model *m, struct storage **out, uint32_t *index,
                                        struct err *e);
MUSTCHECK enum status model_attach(struct model *m, struct attachment **out, struct err *e);
MUSTCHECK enum status model_meta_add(struct model *m, struct str key, struct str value,
                                     struct err *e);
/* Takes ownership of f (closed at once on failure). */
MUSTCHECK enum status model_own_file(struct model *m, struct file *f, struct err *e);
/* Every reader ends with this: names unique (ST_INPUT "name-twice"), view inside its storage
 * (ST_INPUT "out-of-bounds"), whole blocks of block types (ST_INPUT "part-block"), dims equal the
 * view's, names valid UTF-8 without NUL ("bad-name"),
 * and aliases found: tensors with one storage, dtype and view point to the bytewise smallest name.
 */
MUSTCHECK enum status model_finish(struct model *m, struct err *e);
int64_t model_find(const struct model *m, struct str name); /* index or -1; hashed after finish */
/* Keeps v in the model's arena and points n_dims, dim and view to it; t need not be one of m's
 * (yet). */
MUSTCHECK enum status tensor_set_view(struct model *m, struct tensor *t, const struct view *v,
                                      struct err *e);
/* The same for a view_c of dim. */
MUSTCHECK enum status tensor_set_shape(struct model *m, struct tensor *t, const uint64_t *dim,
                                       size_t n, struct err *e);
/* Points to a view that lives as long as t does. */
void tensor_share_view(struct tensor *t, const struct view_kept *k);
uint64_t tensor_elems(const struct tensor *t);
uint64_t tensor_units(const struct tensor *t); /* dtype_units of them */
/* Canonical (unpacked for sub-byte, raw for block types) bytes; false on overflow. */
bool tensor_bytes(const struct tensor *t, uint64_t *out);
/* A parameter, a buffer or a statistic: what the model is, apart from its training. */
bool tensor_is_weight(const struct tensor *t);
#endif
