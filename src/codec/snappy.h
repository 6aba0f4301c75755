/* Snappy, raw blocks (no framing): a bounded decoder. Nothing is written in this codec.
 *
 *   varint32 length of the output, then elements: a tag byte, its low two bits say
 *   00  literal: length - 1 in the upper six bits, 60..63 = in the next 1..4 bytes
 *   01  copy of 4..11 bytes (bits 2-4), offset of 11 bits (bits 5-7 and the next byte)
 *   10  copy of 1..64 bytes (upper six bits), offset in the next 2 bytes
 *   11  copy of 1..64 bytes, offset in the next 4 bytes
 *
 * Codes: snappy-length (no length, or one that so few bytes cannot give), snappy-data (an element
 * that ends behind the block, a copy from before the output, more or less output than declared).
 * Source: google/snappy, format_description.txt.
 */
#ifndef CODEC_SNAPPY_H
#define CODEC_SNAPPY_H
#include "base/err.h"

/* The output's size. It is at most 22 times n: no element gives more than 64 bytes for three. */
MUSTCHECK enum status snappy_length(const uint8_t *p, size_t n, size_t *out, struct err *e);
/* Exactly out_n bytes, which snappy_length said. */
MUSTCHECK enum status snappy_decode(const uint8_t *p, size_t n, uint8_t *out, size_t out_n,
                                    struct err *e);
#endif
