/* The parts of the PyTorch format among themselves; the registry sees only pytorch_format
 * (pytorch.c).
 */
#ifndef FORMAT_PYTORCH_H
#define FORMAT_PYTORCH_H
#include "codec/pickle.h"
#include "codec/zip.h"
#include "format/format.h"

#define PT_INDEX ".bin.index."
/* model.tree, beyond model/tree.h: a child of a DICT whose key is NODE_OPAQUE is an attribute of
 * the dict object (key text "_metadata") or an entry whose key is no scalar; a TUPLE with a text
 * is that callable applied to its children ("torch.Size", "torch.device"). Compound tensors are
 * DICTs whose text is the rebuild function. */
#define PT_ORDERED "collections.OrderedDict"

/* What a name on the allow-list means. Storages and dtypes carry the dtype in the tag. */
enum pt_tag {
    PT_OTHER = 0, /* off the list */
    PT_REBUILD,
    PT_REBUILD_V2,
    PT_REBUILD_V3,
    PT_PARAMETER,
    PT_PARAMETER_STATE,
    PT_VARIABLE, /* Parameter(tensor), Variable(tensor): before 0.4 */
    PT_QTENSOR,
    PT_SPARSE,
    PT_NESTED,
    PT_META,
    PT_PERSID,     /* not a name: the persistent id of a tensor in the legacy tar */
    PT_FROM_NUMPY, /* device tensors carried as a numpy array or a cpu tensor */
    PT_FROM_TYPE,
    PT_QSCHEME_TENSOR,
    PT_QSCHEME_CHANNEL,
    PT_SIZE,  /* torch.Size */
    PT_PLAIN, /* a callable kept as TUPLE: torch.device, _get_layout */
    PT_ORDERED_DICT,
    PT_DICT,   /* other dict classes */
    PT_ENCODE, /* _codecs.encode */
    PT_SET,
    PT_BYTEARRAY,
    PT_COMPLEX,
    PT_SCRIPT_CLASS, /* a class of a TorchScript archive's own code */
    PT_SCRIPT_LIST,  /* torch.jit._pickle.build_intlist and its like */
    PT_SCRIPT_TAG,   /* torch.jit._pickle.restore_type_tag */
    PT_DCP_METADATA, /* what a .metadata of torch.distributed.checkpoint is made of */
    PT_DCP_TENSOR,
    PT_DCP_BYTES,
    PT_DCP_CHUNK,
    PT_DCP_PROPERTIES,
    PT_DCP_INDEX,
    PT_DCP_PLACE,
    PT_CLASS,         /* a class that is fine to name: Tensor, Parameter, FloatTensor */
    PT_RECONSTRUCTOR, /* copyreg._reconstructor */
    PT_NP_ARRAY,
    PT_NP_FROMBUFFER,
    PT_NP_SCALAR,
    PT_NP_DTYPE,
    PT_NP_NDARRAY,
    PT_DTYPE_F4X2,  /* torch.float4_e2m1fn_x2: two elements a byte */
    PT_DTYPE_OTHER, /* a torch dtype that is none of ours */
    PT_STORAGE_UNTYPED,
    PT_STORAGE_PACKED, /* quantised, several values a byte */
    PT_STORAGE = 1000, /* + enum dtype */
    PT_DTYPE = 2000,   /* + enum dtype: torch.float32 */
    PT_ML_DTYPE = 3000 /* + enum dtype: ml_dtypes.bfloat16 */
};
extern const struct pk_allow pytorch_allow[];
extern const size_t n_pytorch_allow;
extern const struct pk_member pytorch_members[];
extern const size_t n_pytorch_members;
/* Module and class of the storage, DT_NONE for types that go through UntypedStorage. */
const char *pytorch_storage_class(enum dtype t); /* "FloatStorage"; NULL */
const char *pytorch_dtype_name(enum dtype t);    /* "float8_e4m3fn"; NULL: torch has no such type */

/* Elements of one type in a row that no zip record holds: a storage of the legacy stream or tar. */
struct pt_blob {
    struct str key;
    enum dtype dtype; /* DT_NONE: bytes */
    uint64_t n_elems;
    uint64_t offset;  /* in the reader's file */
    uint32_t storage; /* the model's + 1, once a tensor uses it */
};
/* What a persistent id of the legacy tar stands for. */
struct pt_named {
    uint64_t key;
    uint32_t storage;
    enum dtype dtype;
    const struct view_kept *view;
    bool bare; /* a storage */
};
struct pt_reader {
    struct model *m;
    const struct read_opt *opt;
    struct file *file;
    struct zip zip;
    struct str prefix;    /* of every record, without '/' */
    const char *folder;   /* of the storages' records: "data", or TorchScript's "constants" */
    struct pt_blob *blob; /* legacy stream: sorted by key; NULL: a zip */
    size_t n_blobs;
    struct pt_named *named; /* legacy tar: sorted by key; NULL: another container */
    size_t n_named;
    bool big_endian;
    struct buf bytes; /* data.pkl */
    struct pickle pk;
    bool pk_flat;         /* data.pkl is stored: its bytes stand in the file at pk.base */
    uint32_t *storage_of; /* per zip entry: model storage + 1 */
    enum dtype *type_of;  /* per zip entry: dtype of its storage class */
    struct arena scratch; /* lives as long as the reader */
    uint64_t n_nodes;
    bool script; /* names below __torch__ are the archive's own */
    bool shard;  /* one of several: keeps no tree */
    struct node *root;
};
/* A tensor, not yet in the model. */
#define PYTORCH_NUMPY "a numpy array" /* note of a tensor that was one, or a scalar of numpy's */
struct pt_tensor {
    enum dtype dtype;
    uint32_t storage;
    struct view view;
    bool requires_grad;
    bool is_parameter;
    struct str note;
};
/* Is this value a tensor (rebuild call, numpy array or scalar, bare storage)? *is false when not;
 * ST_INPUT when it is one, but malformed. Follows wrappers (_rebuild_parameter ...). */
MUSTCHECK enum status pytorch_tensor(struct pt_reader *r, uint32_t v, bool *is,
                                     struct pt_tensor *out, struct err *e);
/* Strips wrappers: the rebuild call that makes the data, and what the wrappers said. */
MUSTCHECK enum status pytorch_unwrap(struct pt_reader *r, uint32_t v, int *tag, uint32_t *args,
                                     struct pt_tensor *said, struct err *e);
/* Bytes given as BYTES, BYTEARRAY or _codecs.encode(text, "latin1"): *flat true when *out points
 * into the pickle. .p == NULL when the value is no such thing. */
MUSTCHECK enum status pytorch_bytes(struct pt_reader *r, uint32_t v, struct str *out, bool *flat,
                                    struct err *e);
/* Storages of a file: a new one of the model, flat at offset. */
MUSTCHECK enum status pytorch_flat(struct pt_reader *r, uint64_t offset, uint64_t bytes,
                                   uint32_t *index, struct err *e);
/* A persistent id that names the class of a module (legacy): its global, else v itself. */
uint32_t pytorch_class(const struct pickle *p, uint32_t v);
MUSTCHECK enum status pytorch_numpy(struct pt_reader *r, uint32_t v, struct pt_tensor *out,
                                    bool *is, struct err *e);
MUSTCHECK enum status pytorch_np_dtype(struct pt_reader *r, uint32_t v, enum dtype *out, bool *big,
                                       bool *object, struct err *e);
/* Turns value v of r->pk into tensors of the model, named from `path` (STR_NONE: the top) on, and a
 * node. */
MUSTCHECK enum status pytorch_tree(struct pt_reader *r, uint32_t v, struct str path,
                                   struct node **out, struct err *e);
/* Loads the pickle at [at, at + n) of the file, or of one in a row whose end is not known (n == 0),
 * into p and b; *n is its length. */
MUSTCHECK enum status pytorch_pickle(struct pt_reader *r, uint64_t at, uint64_t *n,
                                     struct pickle *p, struct buf *b, struct err *e);
/* Opens the zip in [at, at + bytes) of r->file (m, opt and file are set): which record is the
 * object, and TorchScript's constants, or NULL. Close also after a failure. */
MUSTCHECK enum status pytorch_open(struct pt_reader *r, uint64_t at, uint64_t bytes,
                                   const struct zip_entry **data,
                                   const struct zip_entry **constants, struct err *e);
void pytorch_close(struct pt_reader *r);
/* The records' CRCs, of every storage a tensor uses (deflated ones are checked as they are
 * decoded). Nothing for a quick reader. */
MUSTCHECK enum status pytorch_check_records(struct pt_reader *r, struct err *e);
/* Roles, names, ties and moments of a model whose tensors and tree stand. */
MUSTCHECK enum status pytorch_finish(struct model *m, struct err *e);
/* A zip record that is a pickle, into r->pk, whatever it held before. */
MUSTCHECK enum status pytorch_record(struct pt_reader *r, const struct zip_entry *z, struct err *e);
/* TorchScript: modules, constants and code of a zip that has constants.pkl. */
MUSTCHECK enum status pytorch_script(struct pt_reader *r, const struct zip_entry *data,
                                     const struct zip_entry *constants, struct err *e);
/* The source text of module classes that persistent ids carry (legacy), as attachments. */
MUSTCHECK enum status pytorch_sources(struct pt_reader *r, struct err *e);
/* Container readers: the object's pickle into r->pk, the tree into r->root. */
MUSTCHECK enum status pytorch_stream(struct pt_reader *r, struct err *e);
MUSTCHECK enum status pytorch_tar(struct pt_reader *r, struct err *e);
/* Roles by place and name, before model_finish; moments' parameters, after it. */
void pytorch_roles(struct model *m, struct node *root);
MUSTCHECK enum status pytorch_moments(struct model *m, struct node *root, struct err *e);

enum status pytorch_read(struct source *s, const struct read_opt *opt, struct model *m,
                         struct err *e);
enum status pytorch_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status pytorch_begin(struct writer *w, struct err *e);
enum status pytorch_end(struct writer *w, struct err *e);
void pytorch_drop(struct writer *w);
#endif
