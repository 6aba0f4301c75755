/* The door to libzstd, and frames written by hand, whose bytes do not depend on libzstd's version.
 * Contexts live in scratch memory that the caller gives (no allocation, nothing kept between
 * calls), so bytes depend on the input alone.
 *
 * Every frame written here: one segment, content size and checksum set, at most ZS_FRAME_MAX raw
 * bytes. Every frame read here: the same, exactly one frame, exactly the size asked for.
 * Source of the layout: RFC 8878.
 */
#ifndef CODEC_ZSTD_H
#define CODEC_ZSTD_H
#include "base/err.h"
#include "codec/huffman.h"

#define ZS_FRAME_MAX (1u << 20) /* raw bytes in a frame */

enum zs_how {
    ZS_RAW,     /* stored: raw blocks, written by hand */
    ZS_RLE,     /* all bytes equal: RLE blocks, written by hand */
    ZS_HUFFMAN, /* Huffman literals, no match search, written by hand (codec/huffman.h) */
    ZS_FAST,    /* level 1 */
    ZS_USUAL    /* level 3 */
};
/* Upper bound of a frame of n <= ZS_FRAME_MAX raw bytes, whatever the way. */
size_t zs_bound(size_t n);
size_t zs_encode_scratch(void);
/* n <= ZS_FRAME_MAX; cap >= zs_bound(n); scratch 64-byte aligned. The compressing ways fall back to
 * ZS_RAW where they would not be smaller. ST_BUG when libzstd fails. */
MUSTCHECK enum status zs_encode(enum zs_how how, const void *src, size_t n, void *dst, size_t cap,
                                void *scratch, size_t *stored, struct err *e);
/* The same for ZS_RAW, ZS_RLE and ZS_HUFFMAN where XXH64 of src is known. Returns the bytes. */
size_t zs_by_hand(enum zs_how how, const void *src, size_t n, uint64_t xxh, void *dst);
/* The same block by block, for content that is still being made: begin, then a block for every
 * ZS_BLOCK bytes and for the rest (of no bytes: one block), then end. */
#define ZS_BLOCK (128u << 10)
struct zs_put {
    uint8_t *dst;
    size_t out, left; /* bytes written; raw bytes to come */
    struct huf_code code;
};
void zs_put_begin(struct zs_put *w, size_t n, void *dst);
/* Where the next block's raw bytes stand if it is stored: made there they are not copied. */
static inline uint8_t *zs_put_room(const struct zs_put *w)
{
    return w->dst + w->out + 3;
}
void zs_put_block(struct zs_put *w, enum zs_how how, const uint8_t *p);
size_t zs_put_end(struct zs_put *w, uint64_t xxh);
size_t zs_raw_size(size_t n); /* of a ZS_RAW frame */

size_t zs_decode_scratch(void);
/* Decodes one frame of exactly `stored` bytes into exactly n bytes. ST_INPUT zstd-frame (not such a
 * frame, trailing bytes, wrong size, damaged). */
MUSTCHECK enum status zs_decode(const void *src, size_t stored, void *dst, size_t n, void *scratch,
                                struct err *e);
/* The same block by block for the frames that zs_by_hand writes, with the checksum left to the
 * caller (zs_same_xxh). False or NULL for any other frame, damaged or not: zs_decode judges those.
 */
struct zs_take {
    const uint8_t *src;
    size_t at, stored, left; /* left: raw bytes to come */
};
bool zs_take_begin(struct zs_take *t, const void *src, size_t stored, size_t n);
/* The next ZS_BLOCK bytes or the rest: in the frame itself, or in room. d is the frame's own from
 * its first block (d->code.top is 0 then) to its last. */
const uint8_t *zs_take_block(struct zs_take *t, struct huf_decoder *d, uint8_t *room);
bool zs_take_end(const struct zs_take *t, uint32_t *xxh);
bool zs_same_xxh(uint32_t frame, uint64_t data); /* data: its XXH64; always true when fuzzing */
/* Whether p[0..n) starts with a frame as above; *content its raw size, *head the header's bytes. */
bool zs_frame_head(const void *p, size_t n, uint64_t *content, size_t *head);

/* ---- frames of others, decoded as a stream ---- */

struct zs_stream; /* state and window from base/mem.h */
/* raw: how much is expected in all; it bounds the window (8 MiB, or raw up to 128 MiB). */
MUSTCHECK enum status zs_open(uint64_t raw, struct zs_stream **out, struct err *e);
/* Takes from *in, gives to *out; moves both on and counts their sizes down. *whole: a frame is
 * complete and the next has not begun. ST_INPUT zstd-frame, ST_LIMIT memory. */
MUSTCHECK enum status zs_step(struct zs_stream *s, const uint8_t **in, size_t *n_in, uint8_t **out,
                              size_t *n_out, bool *whole, struct err *e);
void zs_close(struct zs_stream *s); /* NULL allowed */
#endif
