/* OCDBT, the key-value store of tensorstore: a manifest, and a B+tree of nodes inside data files.
 * Knows no tensor. Files are named by the store, below its folder; the caller opens them.
 *
 *   envelope  u32be magic, u64 length of all, varint version 0, varint 0 raw / 1 zstd, body,
 *             u32 crc32c of all before; all else little-endian
 *   manifest  0cdb3a2a: uuid[16], u8 kind (0 here, 1 in manifest.GENERATION), varint inline limit,
 *             varint node limit, u8 version tree arity, varint compression [i32 level], then
 *             (kind 0) file table, versions in columns: generation, u8 root height, file, offset,
 *             length, keys, tree bytes, value bytes, u64 time; then nodes of older versions
 *   node      0cdb20de: u8 height, file table, varint n, keys: prefix lengths (n - 1), suffix
 *             lengths, [interior: prefix length of all below], suffixes;
 *             leaf: value lengths, u8 kinds (0 inline, 1 in a file), files, offsets, inline values;
 *             interior: files, offsets, lengths, keys, tree bytes, value bytes
 *   table     varint n, prefix lengths (n - 1), suffix lengths, base lengths, suffixes
 *
 * Source: google/tensorstore, kvstore/ocdbt/index.rst and format/. All sums are checked, keys
 * ascend over the whole tree, heights fall by one, and no more node bytes are read than the files
 * hold, so that no node can stand twice.
 *
 * ST_INPUT ocdbt-magic, ocdbt-length, ocdbt-crc, ocdbt-version, ocdbt-compression, ocdbt-varint,
 * ocdbt-table, ocdbt-config, ocdbt-height, ocdbt-count, ocdbt-key, ocdbt-value, ocdbt-bounds,
 * ocdbt-twice, ocdbt-trailing, zstd-frame.
 */
#ifndef CODEC_OCDBT_H
#define CODEC_OCDBT_H
#include "base/buf.h"
#include "base/cursor.h"

struct ocdbt_value {
    struct str key;    /* valid during the call, as is bytes */
    struct str bytes;  /* inline */
    struct file *file; /* NULL: inline */
    uint64_t offset, length;
};
struct ocdbt {
    /* Gives the file at a path below the store's folder, the same one for the same path; it stays
     * the caller's. The path is foreign. */
    enum status (*open)(void *ctx, struct str path, struct file **out, struct err *e);
    /* Every key in ascending order. */
    enum status (*each)(void *ctx, const struct ocdbt_value *v, struct err *e);
    void *ctx;
};
/* kind 1 in a manifest: *numbered, and nothing else was done; the caller then gives the manifest
 * with the highest number. */
MUSTCHECK enum status ocdbt_read(const struct ocdbt *o, struct file *manifest, bool *numbered,
                                 struct err *e);

/* ---- writing: one data file, one version ---- */

struct ocdbt_entry {
    struct str key;
    struct str bytes; /* inline; in the data file where p is NULL */
    uint64_t offset, length;
};
/* Appends a raw root leaf of these (ascending keys). */
void ocdbt_w_leaf(struct buf *b, struct str data_path, const struct ocdbt_entry *v, size_t n);
/* An interior node above leaves, one entry for each; and the manifest. */
struct ocdbt_child {
    struct str first_key;
    uint64_t offset, length, n_keys, value_bytes;
};
void ocdbt_w_interior(struct buf *b, struct str data_path, const struct ocdbt_child *v, size_t n);
struct ocdbt_root {
    uint8_t height;
    uint64_t offset, length, n_keys, tree_bytes, value_bytes;
};
void ocdbt_w_manifest(struct buf *b, const uint8_t uuid[16], struct str data_path,
                      const struct ocdbt_root *r);
#endif
