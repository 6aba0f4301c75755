/* Byte strings that pickles of protocol 0 to 2 spell as text, decoded from their place in a file in
 * bounded memory: Python 3 writes bytes as text of code points below 256 (_codecs.encode(text,
 * "latin1")), Python 2 as its own quoted strings.
 */
#ifndef CODEC_PICKLE_BYTES_H
#define CODEC_PICKLE_BYTES_H
#include "codec/pickle.h"

/* Can a place of that spelling and length hold raw bytes? A stream may still prove shorter or
 * longer. */
bool pickle_bytes_fit(const struct pk_far *where, uint64_t raw);

struct pickle_bytes;
/* where outlives the stream. */
MUSTCHECK enum status pickle_bytes_open(struct file *f, const struct pk_far *where, uint64_t raw,
                                        struct pickle_bytes **out, struct err *e);
/* *n in: room in dst; out: bytes given, 0 only at the end. ST_INPUT: pickle-latin1 (a character
 * beyond U+00FF, or no UTF-8), pickle-string (quotes or escapes), pickle-bytes (other than `raw`
 * bytes in all). */
MUSTCHECK enum status pickle_bytes_read(struct pickle_bytes *s, void *dst, size_t *n,
                                        struct err *e);
void pickle_bytes_close(struct pickle_bytes *s); /* NULL allowed */
#endif
