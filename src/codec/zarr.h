/* zarr arrays, versions 2 and 3: what their metadata says, what a chunk is called, and the stream
 * of a chunk's bytes through its codecs. Types and fill values stay text here.
 *
 *   v2 .zarray    {zarr_format, shape, chunks, dtype, fill_value, order, filters, compressor,
 *                  dimension_separator}; chunk 1.2, rank 0: 0
 *   v3 zarr.json  {zarr_format, node_type, shape, data_type, chunk_grid, chunk_key_encoding,
 *                  fill_value, codecs, ...}; chunk c/1/2, rank 0: c
 *   A chunk at the border is kept whole; one that is not there holds the fill value.
 *   sharding_indexed: inner chunks anywhere in the chunk, and u64 (offset, bytes) of each in C
 *   order, 2^64-1 twice for none, at its end or start, with a CRC-32C
 *
 * Codecs: bytes, transpose, sharding_indexed, crc32c, and at most one of zstd, gzip, zlib, blosc.
 * Sources: zarr-developers/zarr-specs, docs/v2 and docs/v3; google/tensorstore, driver/zarr*.
 *
 * ST_INPUT zarr-metadata, zarr-rank, zarr-chunk, zarr-codec, zarr-order, key-twice, json-*; of
 * chunks: chunk-short, chunk-long, chunk-crc, zstd-frame, deflate-bad, blosc-*, shard-index.
 */
#ifndef CODEC_ZARR_H
#define CODEC_ZARR_H
#include "base/buf.h"
#include "base/cursor.h"

#define ZARR_MAX_DIMS 32
#define ZARR_MAX_CODECS 4

enum zarr_codec { ZARR_STORED, ZARR_ZSTD, ZARR_GZIP, ZARR_ZLIB, ZARR_BLOSC, ZARR_CRC32C };
struct zarr_chain { /* in the order they are undone */
    uint8_t n, codec[ZARR_MAX_CODECS];
};
enum zarr_fill_kind { FILL_NULL, FILL_BOOL, FILL_NUMBER, FILL_TEXT, FILL_PAIR };
struct zarr {
    uint8_t version, n_dims;
    uint64_t *dim, *chunk;       /* n_dims each, from the arena, as the next two */
    uint64_t *inner;             /* extents of inner chunks; NULL: not sharded */
    uint8_t *perm;               /* stored axis i of a chunk is axis perm[i] of the array */
    struct str dtype;            /* v2: "<f4", "bfloat16"; v3: "float32" */
    bool big_endian;             /* v3 */
    char separator;              /* of chunk names */
    bool prefix;                 /* they begin with c */
    struct zarr_chain chain;     /* of a chunk; of an inner one when sharded */
    bool index_first, index_crc; /* of a shard's index */
    enum zarr_fill_kind fill;
    struct str fill_text[2]; /* NUMBER, TEXT, BOOL ("true", "false"), PAIR */
};
/* A fill value's text as the bits of a float: a number, NaN, Infinity, -Infinity. bits 64, 32 or 16
 * (bfloat16 or float16, rounded to even). */
bool zarr_float(struct str text, size_t bits, bool bf16, uint64_t *out);
/* "0x7fc00000": the bits of a value of so many bytes, up to 8. */
bool zarr_hex(struct str text, size_t bytes, uint64_t *out);
/* The cursor's range is the metadata; texts go into the arena. */
MUSTCHECK enum status zarr_v2(struct cursor *c, struct arena *a, struct zarr *z, struct err *e);
MUSTCHECK enum status zarr_v3(struct cursor *c, struct arena *a, struct zarr *z, struct err *e);
/* Chunks along axis d; extents are never 0. */
uint64_t zarr_chunks(const struct zarr *z, size_t d);
/* A chunk's name, behind the array's, to its place in the grid; false when it is none, or lies
 * outside (*outside). */
bool zarr_chunk_at(const struct zarr *z, struct str name, uint64_t *at, bool *outside);
/* And back. */
void zarr_chunk_name(const struct zarr *z, const uint64_t *at, struct buf *out);

/* ---- bytes of a chunk ---- */

struct zarr_bytes { /* where the stored ones lie */
    struct file *file;
    const uint8_t *mem; /* where file is NULL */
    uint64_t offset, bytes;
};
struct zarr_stream;
MUSTCHECK enum status zarr_open(const struct zarr_bytes *b, const struct zarr_chain *chain,
                                uint64_t raw, struct zarr_stream **out, struct err *e);
/* *n in: room; out: given, 0 only at the end. Exactly `raw` bytes come in all, or it fails. */
MUSTCHECK enum status zarr_read(struct zarr_stream *s, void *dst, size_t *n, struct err *e);
void zarr_close(struct zarr_stream *s); /* NULL allowed */
/* All of it at once. */
MUSTCHECK enum status zarr_decode(const struct zarr_bytes *b, const struct zarr_chain *chain,
                                  void *dst, uint64_t raw, struct err *e);

/* The index of a shard: (offset, bytes) of n inner chunks, checked to lie in the shard; both 2^64-1
 * for one that is not there. */
MUSTCHECK enum status zarr_index(const struct zarr *z, const struct zarr_bytes *shard, uint64_t n,
                                 uint64_t *pairs, struct err *e);
#endif
