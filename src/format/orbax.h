/* The parts of the Orbax format among themselves; the registry sees only orbax_format (orbax.c).
 */
#ifndef FORMAT_ORBAX_H
#define FORMAT_ORBAX_H
#include "codec/json_tree.h"
#include "codec/zarr.h"
#include "format/format.h"

struct orbax_chunk {
    uint64_t at; /* place in the grid, C order */
    struct zarr_bytes b;
};
/* An array of the store; everything from the model's arena. */
struct orbax_array {
    struct str name; /* key parts joined with '.', as they are */
    struct zarr z;   /* z.chunk: of what is decoded in one go, so of inner chunks where sharded */
    struct file *file;
    uint64_t offset;           /* where its metadata stands, for messages */
    struct orbax_chunk *chunk; /* ascending */
    uint64_t n_chunks, n_grid; /* there, and all */
    bool used;                 /* by a leaf */
};
struct orbax_arrays {
    struct orbax_array *v; /* by name */
    size_t n;
};
struct orbax_item {
    struct dir *dir; /* the item's folder */
    struct dir_entry *entry;
    size_t n_entries;
    struct model *m;
    struct arena *tmp;
    struct orbax_arrays arrays;
    bool complete; /* chunks equal to the fill value are stored: a missing one is damage */
};

/* ---- finding (orbax_find.c) ---- */

/* What is below a folder: paths of item folders, relative to it; "" is the folder itself. */
struct orbax_found {
    struct str *item;
    size_t n;
    bool temporary; /* a folder of an unfinished save */
};
MUSTCHECK enum status orbax_find(struct dir *d, const struct dir_entry *entry, size_t n,
                                 struct arena *a, struct orbax_found *out, struct err *e);

/* ---- the store (orbax_store.c) ---- */

/* Opens a file of the item and gives it to the model. */
MUSTCHECK enum status orbax_file(struct orbax_item *x, struct str path, struct file **out,
                                 struct err *e);
/* As dir_list, and what of Orbax' own files is no file: opening it is refused. */
MUSTCHECK enum status orbax_list(struct dir *d, struct arena *a, struct dir_entry **out, size_t *n,
                                 struct err *e);
bool orbax_has(const struct orbax_item *x, const char *name);
/* Finds arrays and their chunks, in OCDBT stores or in folders. */
MUSTCHECK enum status orbax_store(struct orbax_item *x, struct err *e);
struct orbax_array *orbax_array_named(const struct orbax_arrays *a, struct str name);

/* ---- arrays (orbax_array.c) ---- */

/* Adds the array as a tensor; gives its index. */
MUSTCHECK enum status orbax_tensor(const struct orbax_item *x, struct orbax_array *a,
                                   struct str name, uint32_t *index, struct err *e);
/* A scalar that Orbax gives back as a number of Python's (64 bits, bool, complex): the node becomes
 * that number. */
MUSTCHECK enum status orbax_number(const struct orbax_item *x, struct orbax_array *a,
                                   struct node *n, bool *is_one, struct err *e);

/* ---- the tree (orbax_tree.c) ---- */

#define ORBAX_KEY_MARK "prng:" /* text of a tensor's node that is a PRNG key; its kind follows */
/* Fills the model's tree and tensors from _METADATA, from the msgpack file `checkpoint`, or from
 * the arrays' names. */
MUSTCHECK enum status orbax_tree(struct orbax_item *x, struct err *e);

/* ---- writing (orbax_write.c) ---- */

enum status orbax_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status orbax_begin(struct writer *w, struct err *e);
enum status orbax_end(struct writer *w, struct err *e);
#endif
