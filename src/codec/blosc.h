/* Blosc 1 buffers, as zarr keeps them: decoding only.
 *
 *    0 u8  format version 1 or 2        4 u32 raw bytes
 *    1 u8  version of the inner format  8 u32 bytes of a block
 *    2 u8  flags                       12 u32 stored bytes, this header included
 *    3 u8  bytes of an element         16 blocks: i32 places, then their streams
 *   flags: 1 bytes shuffled, 2 stored plain, 4 bits shuffled, 16 blocks are not split,
 *   bits 5-7 the inner format: 0 blosclz, 1 lz4, 2 snappy, 3 zlib, 4 zstd
 *
 * A block is one stream, or one for each byte of an element (i32 size, bytes; a stream as long as
 * its raw bytes is stored plain). Source: Blosc/c-blosc, README_HEADER.rst and its readers.
 *
 * ST_INPUT blosc-header, blosc-codec (snappy, unknown), blosc-size (other than expected),
 * blosc-block, blosc-stream.
 */
#ifndef CODEC_BLOSC_H
#define CODEC_BLOSC_H
#include "base/err.h"

#define BLOSC_HEAD 16
/* Decodes exactly stored bytes into exactly n. */
MUSTCHECK enum status blosc_decode(const void *src, size_t stored, void *dst, size_t n,
                                   struct err *e);
/* One LZ4 block (no frame) of exactly these sizes; false when it is damaged. */
bool lz4_block(const uint8_t *src, size_t stored, uint8_t *dst, size_t n);
#endif
