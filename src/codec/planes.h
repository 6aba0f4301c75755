/* Byte planes: how numbers are stored so that entropy coding finds what little redundancy trained
 * weights have. A chunk of at most PLANES_CHUNK raw bytes is read as little-endian words of `width`
 * bytes; each word is rotated left by one bit where `rotate` says so (the sign joins the mantissa,
 * the exponent fills the top byte), and plane k collects byte k of every word, lowest first. Every
 * plane is one zstd frame; the frames follow each other, plane 0 first.
 *
 * A plane whose bytes are equal is run-length coded, one that hardly shrinks is stored, any other
 * is coded with Huffman literals and no match search. The choice looks at bytes with integer
 * arithmetic only; coded bytes are a function of the chunk alone.
 */
#ifndef CODEC_PLANES_H
#define CODEC_PLANES_H
#include "base/err.h"

#define PLANES_CHUNK (1u << 20)
#define PLANES_MAX 8
#define PLANES_SMALL 2048 /* below this planes cost more in frames than they gain */

enum planes_kind {
    PLANES_NONE,   /* one plane, general compression: integers; Huffman: small tensors */
    PLANES_BYTE,   /* one plane, Huffman: 8-bit floats */
    PLANES_SPLIT2, /* float16 */
    PLANES_ROT2,   /* bfloat16 */
    PLANES_ROT4,   /* float32, complex64 */
    PLANES_ROT8,   /* float64, complex128 */
    PLANES_N
};
struct planes_info {
    const char
        *name;      /* as in manifests: "none" "byte" "split-2" "rotate-2" "rotate-4" "rotate-8" */
    unsigned width; /* bytes in a word = planes = frames in a chunk */
    bool rotate;
};
const struct planes_info *planes_info(enum planes_kind k);

/* Pure rearrangement; n_words words. dst holds the planes one after another, n_words bytes each.
 * Buffers do not overlap. */
void planes_split(enum planes_kind k, const void *src, size_t n_words, uint8_t *dst);
void planes_merge(enum planes_kind k, const uint8_t *src, size_t n_words, void *dst);

size_t planes_bound(size_t n);
size_t planes_encode_scratch(void);
/* raw: n <= PLANES_CHUNK bytes, a multiple of the width. size[i] receives the frames' stored sizes,
 * width of them. scratch 64-byte aligned. */
MUSTCHECK enum status planes_encode(enum planes_kind k, const void *raw, size_t n, void *dst,
                                    size_t cap, void *scratch, size_t size[PLANES_MAX],
                                    struct err *e);
size_t planes_decode_scratch(void); /* besides the stored bytes */
/* size[i]: stored bytes of the chunk's frames, which lie one after another at src. scratch 64-byte
 * aligned. */
MUSTCHECK enum status planes_decode(enum planes_kind k, const void *src,
                                    const size_t size[PLANES_MAX], void *raw, size_t n,
                                    void *scratch, struct err *e);
/* Whether the frames give these raw bytes, without keeping them; their checksums are left to
 * whoever knows what was stored. scratch: planes_holds_scratch(), 64-byte aligned. */
size_t planes_holds_scratch(void);
bool planes_hold(enum planes_kind k, const void *src, const size_t size[PLANES_MAX],
                 const void *raw, size_t n, void *scratch);
/* The same for who wants the planes too: scratch begins with them afterwards where the width is
 * over 1. */
MUSTCHECK enum status planes_decode_all(enum planes_kind k, const void *src,
                                        const size_t size[PLANES_MAX], void *raw, size_t n,
                                        void *scratch, struct err *e);
#endif
