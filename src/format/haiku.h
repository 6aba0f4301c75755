/* The parts of the Haiku format among themselves; the registry sees only haiku_format (haiku.c).
 */
#ifndef FORMAT_HAIKU_H
#define FORMAT_HAIKU_H
#include "codec/pickle.h"
#include "format/format.h"

#define HAIKU_SCALAR_MARK "numpy.generic" /* text of a NODE_TENSOR that is a numpy scalar */

/* What a name on the list means. */
enum hk_tag {
    HK_OTHER = 0, /* off the list */
    HK_RECONSTRUCT,
    HK_FROMBUFFER,
    HK_SCALAR,
    HK_DTYPE,
    HK_NDARRAY,
    HK_JAX_ARRAY,
    HK_ENCODE,
    HK_BYTES,
    HK_BYTEARRAY,
    HK_COMPLEX,
    HK_SET,
    HK_MAPPING, /* a class applied to the dict it holds */
    HK_DICT,    /* a dict class, filled by SETITEMS */
    HK_RECONSTRUCTOR,
    HK_TUPLE,
    HK_CLASS, /* fine to name */
    HK_JOBLIB,
    HK_JOBLIB_FILES, /* joblib before 0.10: arrays in files of their own */
    HK_TYPE = 1000,  /* + enum dtype: a type of numpy or ml_dtypes */
    HK_NAMED = 2000  /* + row of haiku_named: a named tuple of optax */
};
struct hk_named {
    const char *module, *name, *fields; /* fields split by blanks */
};
extern const struct hk_named haiku_named[];
extern const size_t n_haiku_named;
/* The whole list, from the arena. */
MUSTCHECK enum status haiku_allow(struct arena *a, struct pk_allow **out, size_t *n, struct err *e);

/* Raw data between opcodes (joblib). */
struct hk_raw {
    uint32_t val;
    uint64_t offset; /* in the file */
};
struct hk_reader {
    struct model *m;
    const struct read_opt *opt;
    struct file *file;    /* the pickle's: what the user named, or what it unfolds to */
    struct pickle pk;     /* read from `file` */
    struct arena scratch; /* lives as long as the reader */
    struct buf raw;       /* struct hk_raw, by rising val */
    uint32_t *storage_of; /* per value: model storage + 1 */
    uint64_t n_nodes;
    struct node *root;
};
/* An array, as its pickle describes it. */
struct hk_array {
    enum dtype dtype;
    bool big, fortran, scalar;
    uint32_t n_dims;
    uint64_t dim[VIEW_MAX_AXES];
    uint32_t data; /* the value that is its bytes; 0: raw data at `offset` */
    uint64_t offset;
};
/* Is this value an array of numbers? ST_INPUT when it is an array, but malformed, or of objects. */
MUSTCHECK enum status haiku_array(struct hk_reader *r, uint32_t v, bool *is, struct hk_array *out,
                                  struct err *e);
/* Where its bytes are; the same value gives the same storage. */
MUSTCHECK enum status haiku_storage(struct hk_reader *r, uint32_t v, const struct hk_array *a,
                                    uint32_t *storage, struct err *e);
/* Type of a numpy.dtype value; DT_NONE for text, dates, records and objects. *item: bytes of an
 * element, 0 where not told; *object: references to Python objects. */
MUSTCHECK enum status haiku_dtype(struct hk_reader *r, uint32_t v, enum dtype *out, bool *big,
                                  uint64_t *item, bool *object, struct err *e);
/* Small bytes: BYTES, BYTEARRAY, _codecs.encode(text, "latin1"), bytes(). .p == NULL when the value
 * is none of those, or stays in the file (*far then says where). */
MUSTCHECK enum status haiku_bytes(struct hk_reader *r, uint32_t v, struct str *out,
                                  struct pk_far *far, struct err *e);
/* pickle_opt.built of joblib's streams; ctx is the reader. */
enum status haiku_raw(void *ctx, const struct pickle *p, uint32_t v, uint64_t at, uint64_t *skip,
                      struct err *e);
/* Turns the pickle into tensors of the model and r->root. */
MUSTCHECK enum status haiku_tree(struct hk_reader *r, struct err *e);
/* Roles that the classes of optimizer states tell, after model_finish and roles_by_name. */
MUSTCHECK enum status haiku_roles(struct model *m, const struct node *root, struct err *e);

enum status haiku_read(struct source *s, const struct read_opt *opt, struct model *m,
                       struct err *e);
enum status haiku_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status haiku_begin(struct writer *w, struct err *e);
enum status haiku_end(struct writer *w, struct err *e);
#endif
