/* Raw deflate, both ways, and CRC-32; zlib does the work. Knows no tensor.
 */
#ifndef CODEC_DEFLATE_H
#define CODEC_DEFLATE_H
#include "base/err.h"
#include "base/file.h"

/* CRC-32 (IEEE) of the bytes so far and n more; start with 0. */
uint32_t crc32_update(uint32_t crc, const void *p, size_t n);
/* CRC-32 of A then B, from those of A and of B and the length of B. */
uint32_t crc32_join(uint32_t a, uint32_t b, uint64_t b_bytes);

/* A raw deflate stream of a file range, decoded from its start in bounded memory (48 KiB window
 * and input buffer). Decoded size, end of stream and CRC are proven when the last byte is given. */
struct inflater;
/* stored bytes at off decode to exactly raw bytes; crc may be NULL (not checked). */
MUSTCHECK enum status inflate_open(struct file *f, uint64_t off, uint64_t stored, uint64_t raw,
                                   const uint32_t *crc, struct inflater **out, struct err *e);
/* *n in: room in dst; out: bytes given, 0 only at the end. ST_INPUT: deflate-bad (not a deflate
 * stream), deflate-short, deflate-long, deflate-tail (bytes behind the stream), zip-crc. */
MUSTCHECK enum status inflate_read(struct inflater *s, void *dst, size_t *n, struct err *e);
void inflate_close(struct inflater *s); /* NULL allowed */

/* A zlib or gzip stream (one member), from memory to memory, a piece at a time. */
struct unzip;
MUSTCHECK enum status unzip_open(bool gzip, struct unzip **out, struct err *e);
/* Takes from *in, gives to *out; moves both on and counts their sizes down. *whole: the stream has
 * ended (its own sum was right); nothing more is taken then. ST_INPUT deflate-bad. */
MUSTCHECK enum status unzip_step(struct unzip *s, const uint8_t **in, size_t *n_in, uint8_t **out,
                                 size_t *n_out, bool *whole, struct err *e);
void unzip_close(struct unzip *s); /* NULL allowed */

/* Deflates one slab on its own: the pieces of consecutive slabs, laid end to end, are one raw
 * deflate stream, which ends with the slab that is_last. No history crosses slabs, so the bytes
 * depend on the slab alone. scratch: DEFLATE_SCRATCH bytes, 16-byte aligned. */
#define DEFLATE_SCRATCH ((size_t)384 << 10)
size_t deflate_bound(size_t n);
MUSTCHECK enum status deflate_slab(const void *raw, size_t n, bool is_last, void *dst,
                                   size_t dst_cap, void *scratch, size_t *stored, struct err *e);
#endif
