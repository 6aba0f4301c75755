/* Sorted string tables, LevelDB's and TensorFlow's: keys in byte order with their values, in blocks
 * that may be compressed with snappy, each with a masked CRC-32C.
 *
 *   data blocks | metaindex block | index block | footer, 48 bytes
 *   footer   metaindex handle, index handle (varint64 offset, varint64 size each), zeros up to 40,
 *            magic 57 fb 80 8b 24 75 47 db
 *   block    contents | u8 type (0 raw, 1 snappy) | u32 masked crc32c of contents and type;
 *            a handle's size counts the contents alone
 *   contents entries | u32 restart offset ... | u32 how many (at least one)
 *   entry    varint32 shared, varint32 unshared, varint32 value size, rest of the key, value;
 * shared counts from the previous key and is 0 at a restart index    a key at or behind the block's
 * last and before the next block's first; its handle
 *
 * A walk goes through the table in order, one block in memory. Everything it meets is proved: sums,
 * handles in order and apart, keys ascending (all through the table), restarts that are entries.
 * Codes: sstable-footer, sstable-handle, sstable-block, sstable-sum, sstable-entry, sstable-order,
 * sstable-restart, and those of snappy.h.
 * Source: google/leveldb, doc/table_format.md; tensorflow, core/lib/io/format.cc.
 */
#ifndef CODEC_SSTABLE_H
#define CODEC_SSTABLE_H
#include "base/buf.h"
#include "base/cursor.h"

#define SSTABLE_FOOTER 48
#define SSTABLE_MAGIC UINT64_C(0xdb4775248b80fb57)

static inline uint32_t crc32c_mask(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

struct sstable_handle {
    uint64_t at, n; /* of the contents, in the file */
};
/* A block's contents in memory. */
struct sstable_block {
    uint8_t *p; /* from mem */
    size_t n;
    uint64_t at;     /* in the file, for messages */
    bool compressed; /* so offsets inside p are not the file's */
};
/* A walk through one block. */
struct sstable_walk {
    struct file *f;
    const struct sstable_block *b;
    struct buf key;   /* the current one */
    struct str value; /* in the block */
    uint64_t at;      /* file offset of the current entry (of its block where compressed) */
    /* private */
    size_t next_, entries_, restart_, n_restarts_;
    bool started_;
};
struct sstable {
    struct file *f;
    struct sstable_handle metaindex, index;
    /* the current entry */
    struct str key, value; /* valid until the next call */
    uint64_t at;           /* file offset, for messages */
    struct sstable_handle in;
    /* private */
    struct sstable_block index_, block_;
    struct sstable_walk index_walk_, walk_;
    struct buf last_; /* the last key of the blocks before */
    uint64_t end_;    /* where the next block may begin */
    bool open_, any_;
};

/* Is it one? Looks at the last bytes. */
bool sstable_is(struct file *f);
/* Footer, metaindex and index; close it whatever the outcome. f stays the caller's. */
MUSTCHECK enum status sstable_open(struct sstable *t, struct file *f, struct err *e);
/* The next entry; *more = false at the end. */
MUSTCHECK enum status sstable_next(struct sstable *t, bool *more, struct err *e);
/* The next block, not read: its handle in t->in, its last key (or one behind it) in t->key. For
 * tables whose values are large; not to be mixed with sstable_next. */
MUSTCHECK enum status sstable_next_block(struct sstable *t, bool *more, struct err *e);
void sstable_close(struct sstable *t);

/* One block by its handle: sum proved, decompressed. Free with sstable_block_free. */
MUSTCHECK enum status sstable_load(struct file *f, struct sstable_handle h, struct sstable_block *b,
                                   struct err *e);
void sstable_block_free(struct sstable_block *b);
void sstable_walk_init(struct sstable_walk *w, struct file *f, const struct sstable_block *b);
MUSTCHECK enum status sstable_walk_next(struct sstable_walk *w, bool *more, struct err *e);
void sstable_walk_free(struct sstable_walk *w);

/* Writing: entries in ascending order of their keys, blocks uncompressed, bytes as TensorFlow
 * writes them. The table grows in `out`. */
struct sstable_w {
    struct buf out;
    /* private */
    struct buf block_, restarts_, index_, index_restarts_, last_, last_index_;
    unsigned since_restart_;
    struct sstable_handle pending_; /* a block whose index entry waits for the next key */
    bool has_pending_;
};
#define SSTABLE_W_INIT                                                                             \
    {                                                                                              \
        .has_pending_ = false                                                                      \
    }
void sstable_w_add(struct sstable_w *w, struct str key, struct str value);
/* Finishes; then w->out is the file. */
MUSTCHECK enum status sstable_w_end(struct sstable_w *w, struct err *e);
void sstable_w_free(struct sstable_w *w);
#endif
