/* Files that are a zlib or gzip stream as a whole. Such a stream can be read from its start only,
 * and a pickle in it must be stepped through; so it is decoded once, into a spool that then reads
 * like a file. zlib checks the stream's own sum. Knows no tensor.
 */
#ifndef CODEC_UNWRAP_H
#define CODEC_UNWRAP_H
#include "base/err.h"
#include "base/file.h"

/* Do these first bytes begin such a stream? Decodes up to cap bytes of it into out; *n of them. */
bool unwrap_peek(const uint8_t *head, size_t head_n, uint8_t *out, size_t cap, size_t *n);
/* The whole stream of f in a new file (an unlinked temporary, whose messages name f). ST_INPUT:
 * deflate-bad, deflate-short, deflate-tail (bytes behind the stream), deflate-long (more than
 * `most` bytes). */
MUSTCHECK enum status unwrap_spool(struct file *f, uint64_t most, struct file **out, struct err *e);
#endif
