/* Huffman-coded literals of zstd blocks, written without libzstd: a compressed block that holds
 * literals only, in four streams (one below HUF_FOUR bytes), under a code of at most HUF_BITS bits.
 * Source of the layout: RFC 8878, 3.1.1.3 and 4.
 *
 * Bytes are a function of the data alone: code lengths come from exact counts with ties broken by
 * symbol, and vector variants only put the same bits together faster.
 */
#ifndef CODEC_HUFFMAN_H
#define CODEC_HUFFMAN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HUF_BLOCK (128u << 10) /* bytes in a block, at most */
#define HUF_BITS 11u
#define HUF_FOUR 256u

/* A prefix code: len is 0 for symbols without one; hi:lo is the code, its first bit on top. */
struct huf_code {
    uint8_t len[256], lo[256], hi[256];
    unsigned top; /* the longest length; 0: no code */
};
/* The code of at most HUF_BITS a symbol that costs count[] the fewest bits. At least two symbols
 * occur; counts sum to at most HUF_BLOCK. */
void huf_build(const uint32_t count[256], struct huf_code *c);
/* Its description as in a literals section, into dst (HUF_DESCRIBED bytes). Returns the bytes, or 0
 * where the format cannot describe it. */
#define HUF_DESCRIBED 160u
size_t huf_describe(const struct huf_code *c, uint8_t *dst);

/* The content of a compressed block that holds p[0..n), 2 <= n <= HUF_BLOCK, without its header.
 * `last` is the code of the frame's last such block (top 0 at the frame's start), used again where
 * that is shorter, else replaced. Returns the bytes, at most n, or 0 where they would not be fewer
 * than n by a 64th. Any of dst's n bytes may have been written. */
size_t huf_encode(struct huf_code *last, const uint8_t *p, size_t n, uint8_t *dst);

/* What is kept between a frame's blocks. code.top is 0 before the first. */
struct huf_decoder {
    struct huf_code code;
    uint16_t one[1 << HUF_BITS];  /* by the next bits: a symbol, its length above it */
    uint64_t many[1 << HUF_BITS]; /* bits used, from bit 8 how many symbols, from bit 32 those (up
                                   * to four) */
};
/* The reverse of huf_encode for blocks of HUF_FOUR bytes and more: dst gets n bytes, and its
 * content is meaningless when the result is false: the block is not as huf_encode writes it, which
 * says nothing about whether it is valid. What is taken has the one description of its code that
 * huf_describe gives, streams that end where they should, and no sequences. */
bool huf_decode(struct huf_decoder *d, const uint8_t *src, size_t stored, uint8_t *dst, size_t n);
/* The reverse of huf_describe, with the bytes it took; 0 for any other text. */
size_t huf_recall(const uint8_t *src, size_t size, struct huf_code *c);
#endif
