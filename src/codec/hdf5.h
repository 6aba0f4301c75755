/* HDF5: groups, attributes, datasets and their chunks; and a writer of files whose datasets are
 * contiguous. Knows no tensor. Byte map and source in hdf5.c, refusals at each part:
 * superblock and blocks (hdf5.c), object headers (hdf5_object.c), types, spaces, layouts, filters
 * (hdf5_message.c), links (hdf5_group.c), heaps (hdf5_heap.c), B-trees version 2 (hdf5_btree2.c),
 * chunk indexes (hdf5_chunk.c, hdf5_array.c), filters undone (hdf5_filter.c), writing
 * (hdf5_write.c).
 *
 * Every structure that is read is charged to a budget of four times the file's size: a loop, or
 * parts that many others point to, ends as ST_INPUT hdf5-loop.
 */
#ifndef CODEC_HDF5_H
#define CODEC_HDF5_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

#define HDF5_UNDEF UINT64_MAX
#define HDF5_MAX_RANK 32
#define HDF5_MAX_FILTERS 32
#define HDF5_DEPTH 64 /* groups in groups */

struct hdf5_heap_block; /* a global heap collection, read once */
struct hdf5 {
    struct file *file;    /* borrowed */
    uint64_t base;        /* file offset of address 0 */
    uint64_t size;        /* addresses end here */
    uint64_t root;        /* address of the root group's object header */
    uint64_t budget;      /* bytes of structure that may still be read */
    uint8_t off_n, len_n; /* bytes of an address, of a length */
    struct arena *arena;
    struct hdf5_heap_block *heap_; /* latest first */
};
/* True when the bytes may begin an HDF5 file without a user block. */
bool hdf5_is(const uint8_t *head, size_t n);
/* The file is the range [lo, lo + n) of f; the signature may stand at 0, 512, 1024 ... in it.
 * hdf5-signature, hdf5-superblock, hdf5-two-signatures, hdf5-driver, hdf5-checksum, truncated. */
MUSTCHECK enum status hdf5_open(struct file *f, uint64_t lo, uint64_t n, struct arena *a,
                                struct hdf5 *out, struct err *e);
void hdf5_close(struct hdf5 *h); /* zeroed allowed */

enum hdf5_class {
    HDF5_INT,
    HDF5_FLOAT,
    HDF5_BOOL,    /* enumeration of int8: FALSE 0, TRUE 1 */
    HDF5_COMPLEX, /* two floats, real part first */
    HDF5_OPAQUE,
    HDF5_STRING, /* fixed size */
    HDF5_VLEN_STRING,
    HDF5_OTHER /* well-formed as far as looked at, but nothing above */
};
struct hdf5_type {
    enum hdf5_class cls;
    uint8_t id;    /* class number in the file */
    uint32_t size; /* of one element */
    bool big_endian, is_signed;
    uint8_t exp_bits, man_bits; /* of a float, or of each half of a complex number */
    uint8_t pad;                /* STRING: 0 NUL-terminated, 1 NUL-padded, 2 blank-padded */
};
struct hdf5_space {
    bool null; /* holds nothing, has no shape */
    uint8_t rank;
    uint64_t dim[HDF5_MAX_RANK];
    uint64_t max[HDF5_MAX_RANK]; /* UINT64_MAX: unlimited */
};
struct hdf5_attr {
    struct str name;
    struct hdf5_type type;
    struct hdf5_space space;
    uint64_t n_elems;
    struct str raw; /* n_elems * type.size bytes; shorter only for OTHER */
    uint64_t at;    /* file offset of the message, for errors */
    struct hdf5_attr *next;
};
enum hdf5_layout_kind { HDF5_NONE, HDF5_COMPACT, HDF5_CONTIGUOUS, HDF5_CHUNKED };
enum hdf5_index {
    HDF5_IX_BTREE1,
    HDF5_IX_SINGLE,
    HDF5_IX_IMPLICIT,
    HDF5_IX_FIXED,
    HDF5_IX_EXTENSIBLE,
    HDF5_IX_BTREE2
};
struct hdf5_filter {
    uint16_t id;
    uint32_t value; /* its first client value, 0 where none */
};
struct hdf5_layout {
    enum hdf5_layout_kind kind;
    uint64_t addr;  /* CONTIGUOUS: of the data, HDF5_UNDEF = never written. CHUNKED: of the index */
    uint64_t bytes; /* CONTIGUOUS, COMPACT */
    uint64_t at;    /* COMPACT: file offset of the data */
    /* CHUNKED */
    enum hdf5_index index;
    uint8_t rank;                  /* without the element's own */
    uint32_t chunk[HDF5_MAX_RANK]; /* extents */
    uint32_t elem;                 /* element size as the layout says */
    uint64_t chunk_bytes;          /* < 4 GiB */
    bool plain_edges;              /* chunks that the border cuts are not filtered */
    bool sized;                    /* SINGLE: filtered, stored bytes and mask below */
    uint64_t stored;
    uint32_t mask;
};
enum hdf5_kind { HDF5_GROUP, HDF5_DATASET, HDF5_NEITHER };
struct hdf5_link;
struct hdf5_object {
    enum hdf5_kind kind;
    uint64_t addr, at;      /* of its header: address, file offset */
    struct hdf5_attr *attr; /* in the order found; strings are read with hdf5_text */
    struct hdf5_type type;
    struct hdf5_space space;
    struct hdf5_layout layout;
    uint8_t n_filters;
    struct hdf5_filter filter[HDF5_MAX_FILTERS];
    uint8_t fill[16]; /* one element, where it fits and is set; else zeros */
    /* private: where links and attributes are */
    uint64_t tree_, heap_, link_heap_, link_tree_, attr_heap_, attr_tree_;
    struct hdf5_link *link_;
    uint64_t n_links_;
    bool has_type_, has_space_, has_fill_;
};
/* Reads an object's header; attributes too. */
MUSTCHECK enum status hdf5_object(struct hdf5 *h, uint64_t addr, struct hdf5_object *out,
                                  struct err *e);

enum hdf5_link_kind { HDF5_HARD, HDF5_SOFT, HDF5_EXTERNAL };
struct hdf5_link {
    enum hdf5_link_kind kind;
    struct str name;   /* no '/', no NUL, not empty, not "." */
    uint64_t addr;     /* HARD */
    struct str target; /* SOFT: path; EXTERNAL: file */
    uint64_t at;       /* file offset, for errors */
    struct hdf5_link *next;
};
/* The links of a group, sorted by name, unique (hdf5-name-twice). */
MUSTCHECK enum status hdf5_links(struct hdf5 *h, const struct hdf5_object *group,
                                 struct hdf5_link **list, size_t *n, struct err *e);
/* Element i of a STRING or VLEN_STRING attribute, without padding; lives in the arena. */
MUSTCHECK enum status hdf5_text(struct hdf5 *h, const struct hdf5_attr *a, uint64_t i,
                                struct str *out, struct err *e);
const struct hdf5_attr *hdf5_attr(const struct hdf5_object *o, const char *name);

struct hdf5_chunk {
    uint64_t addr, stored; /* in the file */
    uint64_t number;       /* in C order of the grid of chunks over the dataset's extents */
    uint32_t mask;         /* bit i set: filter i was skipped */
};
struct hdf5_chunks {
    struct hdf5_chunk *chunk; /* sorted by number; from the arena */
    uint64_t n;
    uint64_t grid[HDF5_MAX_RANK]; /* chunks along each axis */
    uint64_t total;               /* of the whole grid */
    uint64_t max_stored;
};
/* Where the chunks of a CHUNKED dataset lie. Refused: hdf5-chunk (rank, extent 0, 4 GiB, outside
 * the extents, twice, a size that cannot be), hdf5-filter (unknown, or two that compress). */
MUSTCHECK enum status hdf5_chunks(struct hdf5 *h, const struct hdf5_object *d,
                                  struct hdf5_chunks *out, struct err *e);
/* Undoes the filters of one chunk. The stored bytes lie in scratch (hdf5_chunk_scratch bytes of
 * room); chunk_bytes raw bytes go to dst. Refused: hdf5-chunk-size, hdf5-fletcher, deflate-bad,
 * lzf-bad. */
size_t hdf5_chunk_scratch(const struct hdf5_object *d, uint64_t max_stored);
MUSTCHECK enum status hdf5_unfilter(const struct hdf5_object *d, const struct hdf5_chunk *c,
                                    bool edge, void *dst, uint8_t *scratch, struct err *e);

/* ---- writing: see hdf5_write.c ----
 * A tree of groups and datasets is laid out in memory; the data's places follow behind it. */
struct hdf5_wattr { /* a text, or a list of texts as fixed-size strings */
    struct str name;
    bool list;
    struct str text;
    const struct str *item;
    size_t n_items;
    struct hdf5_wattr *next;
    uint64_t heap_; /* private: where a text stands */
    uint32_t index_;
};
struct hdf5_wnode {
    struct str name; /* in its group */
    struct hdf5_wattr *attr;
    /* group */
    struct hdf5_wnode *child, *next; /* children sorted bytewise by name */
    struct hdf5_wnode *parent;       /* NULL: the root */
    struct hdf5_wnode *hint;         /* the caller's own, as is order */
    uint64_t order;
    size_t n_children;
    /* dataset */
    bool is_data;
    const uint8_t *type; /* an encoded datatype message body */
    size_t type_n;
    const uint64_t *dim;
    uint8_t rank;
    uint64_t bytes;          /* of its data */
    uint64_t data;           /* out: address of its data, HDF5_UNDEF where it has none */
    struct hdf5_wnode *same; /* a second name of another dataset, which has no `same`: nothing of
                                its own, data is not set */
    /* private */
    uint64_t header_, tree_, heap_, patch_;
    uint64_t name_at_;
    uint32_t n_links_;
};
/* Text of more than this in one list is split into NAME0, NAME1 ... as Keras does. */
#define HDF5_LIST_MAX 64512
/* Appends the whole structure to *b and sets every data; *end: the file's size. Data stands at
 * multiples of 64, in the order of `order` (n_order datasets). ST_CANNOT hdf5-attribute: a list
 * with an item of more than HDF5_LIST_MAX bytes. */
MUSTCHECK enum status hdf5_write(struct hdf5_wnode *root, struct hdf5_wnode **order, size_t n_order,
                                 struct buf *b, uint64_t *end, struct err *e);
#endif
