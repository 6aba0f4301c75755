/* What the parts of the HDF5 reader share: blocks of structure and their checksums.
 */
#ifndef CODEC_HDF5_INT_H
#define CODEC_HDF5_INT_H
#include "base/cursor.h"
#include "codec/hdf5.h"

/* A piece of structure in private memory, with a cursor over it. */
struct h5_block {
    struct cursor c; /* its messages name the file and the true offset */
    uint8_t *p;
    size_t n;
    uint64_t addr;
};
/* Loads n bytes at an address: truncated, hdf5-loop, hdf5-size (more than 64 MiB). */
MUSTCHECK enum status h5_load(struct hdf5 *h, uint64_t addr, uint64_t n, struct h5_block *b,
                              struct err *e);
void h5_free(struct h5_block *b); /* zeroed allowed */
/* The head of a node of a version 1 B-tree: its level and number of entries. level: the one it must
 * have, or -1. ST_INPUT hdf5-signature, hdf5-btree. */
MUSTCHECK enum status h5_tree_head(struct hdf5 *h, uint64_t addr, unsigned type, int level,
                                   unsigned *is, uint64_t *n, struct err *e);
/* The block begins with a four-letter signature and this version: hdf5-signature, hdf5-version. */
MUSTCHECK enum status h5_begins(struct h5_block *b, const char *sig, unsigned version,
                                struct err *e);
/* lookup3 of the first n bytes stands behind them: hdf5-checksum. */
MUSTCHECK enum status h5_check(const struct hdf5 *h, const struct h5_block *b, size_t n,
                               struct err *e);
uint32_t h5_lookup3(const uint8_t *p, size_t n);
/* ST_INPUT at an address. */
enum status h5_fail(const struct hdf5 *h, uint64_t addr, struct err *e, const char *code,
                    const char *fmt, ...) PRINTF(5, 6);
/* An unsigned number of n (1 .. 8) bytes; addresses, where all ones of fewer than 8 bytes become
 * HDF5_UNDEF. */
uint64_t h5_uint(struct cursor *c, unsigned n);
uint64_t h5_addr(const struct hdf5 *h, struct cursor *c);
uint64_t h5_len(const struct hdf5 *h, struct cursor *c);
uint64_t h5_uint_at(const uint8_t *p, unsigned n);

/* ---- messages: hdf5_message.c ---- */
enum status h5_type(struct cursor *c, struct hdf5_type *t, struct err *e) MUSTCHECK;
enum status h5_space(const struct hdf5 *h, struct cursor *c, struct hdf5_space *s,
                     struct err *e) MUSTCHECK;
enum status h5_layout(const struct hdf5 *h, struct cursor *c, struct hdf5_layout *l,
                      struct err *e) MUSTCHECK;
enum status h5_filters(struct cursor *c, struct hdf5_object *o, struct err *e) MUSTCHECK;
/* The body of a link message; *l from the arena. */
enum status h5_link(struct hdf5 *h, struct cursor *c, struct hdf5_link **l,
                    struct err *e) MUSTCHECK;
/* The body of an attribute message. */
enum status h5_attribute(struct hdf5 *h, struct cursor *c, struct hdf5_attr **a,
                         struct err *e) MUSTCHECK;
/* The type of a committed datatype: hdf5_object.c. */
enum status h5_committed(struct hdf5 *h, uint64_t addr, struct hdf5_type *t,
                         struct err *e) MUSTCHECK;
/* A shared message's address: hdf5-shared where it lies in a heap of shared messages. */
enum status h5_shared(const struct hdf5 *h, struct cursor *c, uint64_t *addr,
                      struct err *e) MUSTCHECK;

/* ---- heaps: hdf5_heap.c ---- */
struct h5_span {
    uint64_t lo, n; /* in heap space */
    struct h5_block block;
};
struct h5_heap { /* a fractal heap, all of it read */
    uint16_t id_n;
    uint8_t off_n, len_n;
    uint64_t huge_tree;
    struct buf span; /* struct h5_span, sorted by lo */
};
enum status h5_heap_open(struct hdf5 *h, uint64_t addr, struct h5_heap *x, struct err *e) MUSTCHECK;
void h5_heap_close(struct h5_heap *x);
/* The object an id (of x->id_n bytes) names: *c walks it. own: memory that c looks at, freed by
 * the caller with h5_free. */
enum status h5_heap_get(struct hdf5 *h, struct h5_heap *x, const uint8_t *id, struct h5_block *own,
                        struct cursor *c, struct err *e) MUSTCHECK;
/* An object of the global heap, in the arena. */
enum status h5_global(struct hdf5 *h, uint64_t addr, uint32_t index, uint64_t at, struct str *out,
                      struct err *e) MUSTCHECK;
/* A NUL-terminated name in an old group's local heap. */
struct h5_names {
    struct h5_block block;
};
enum status h5_names_open(struct hdf5 *h, uint64_t addr, struct h5_names *x,
                          struct err *e) MUSTCHECK;
enum status h5_name(struct hdf5 *h, const struct h5_names *x, uint64_t off, struct str *out,
                    struct err *e) MUSTCHECK;

/* ---- B-trees, version 2: hdf5_btree2.c ---- */
typedef enum status (*h5_each)(void *ctx, const uint8_t *rec, size_t n, uint64_t at, struct err *e);
enum status h5_btree2(struct hdf5 *h, uint64_t addr, unsigned type, h5_each each, void *ctx,
                      struct err *e) MUSTCHECK;

/* ---- chunk indexes ---- */
struct h5_index {
    struct hdf5 *h;
    const struct hdf5_object *d;
    struct hdf5_chunks *out;
    struct buf found; /* struct hdf5_chunk */
};
/* One chunk as an index names it: by its number over the maximal extents, unlimited axis first
 * where `swizzle` says so; or by its coordinates in chunks. */
enum status h5_chunk_at(struct h5_index *x, const uint64_t *scaled, uint64_t addr, uint64_t stored,
                        uint32_t mask, uint64_t at, struct err *e) MUSTCHECK;
enum status h5_chunk_number(struct h5_index *x, uint64_t number, uint64_t addr, uint64_t stored,
                            uint32_t mask, uint64_t at, struct err *e) MUSTCHECK;
enum status h5_fixed_array(struct h5_index *x, struct err *e) MUSTCHECK;
enum status h5_extensible_array(struct h5_index *x, struct err *e) MUSTCHECK;
#endif
