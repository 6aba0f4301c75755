/* The outer grammar of an archive: zstd frames one after another, a skippable frame with a check of
 * every frame, and the seek table of zstd's seekable format.
 *
 *   data frames      codec/zstd.h says what they may be
 *   check frame      u32 0x184D2A5D, u32 bytes that follow,
 *                    "nnfchk1\0", u64 number of data frames n, u64 frame of the index member,
 *                    n * 16 bytes XXH3-128 of each data frame as stored,
 *                    16 bytes XXH3-128 of the seek table (the whole skippable frame),
 *                    16 bytes XXH3-128 of this frame so far
 *   seek table       u32 0x184D2A5E, u32 bytes that follow,
 *                    n + 1 entries (u32 stored, u32 raw; the check frame is the last, raw 0),
 *                    u32 n + 1, u8 0, u32 0x8F92EAB1
 *
 * Numbers are little-endian. Every byte of the file is covered by one of the checks.
 * Sources: RFC 8878; zstd's contrib/seekable_format.
 * Refused: frames-tail (no seek table, reserved bits, sizes that do not add up), frames-check (the
 * check frame or the table fails its check), frame-check (a data frame fails its check),
 * zstd-frame (codec/zstd.h).
 */
#ifndef CODEC_FRAMES_H
#define CODEC_FRAMES_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"

struct frames {
    struct file *f;
    uint64_t n;    /* data frames */
    uint64_t *off; /* n + 1: file offset of each, and of the check frame */
    uint64_t *raw; /* n + 1: place in the decoded stream */
    const uint8_t (*check)[16];
    uint64_t index;             /* the frame that begins the index member */
    size_t stored_max, raw_max; /* of a frame here: work buffers need no more */
};
/* Tail and check frame look like ours (or did, but for damage). Never fails loudly. */
bool frames_recognise(struct file *f);
MUSTCHECK enum status frames_open(struct file *f, struct arena *a, struct frames *out,
                                  struct err *e);
static inline size_t frame_stored(const struct frames *fr, uint64_t i)
{
    return (size_t)(fr->off[i + 1] - fr->off[i]);
}
static inline size_t frame_raw(const struct frames *fr, uint64_t i)
{
    return (size_t)(fr->raw[i + 1] - fr->raw[i]);
}
/* The stored bytes of frames [lo, hi), checked, into dst (off[hi] - off[lo] bytes). */
MUSTCHECK enum status frames_fetch(const struct frames *fr, uint64_t lo, uint64_t hi, void *dst,
                                   struct err *e);
/* Frame i decoded into dst (frame_raw bytes). scratch: frames_scratch(fr), 64-byte aligned. */
size_t frames_scratch(const struct frames *fr);
MUSTCHECK enum status frames_decode(const struct frames *fr, uint64_t i, void *dst, void *scratch,
                                    struct err *e);

/* Writing: what is kept of every frame, and the two closing frames. */
struct frame_note {
    uint32_t stored, raw;
    uint8_t check[16];
};
/* ST_CANNOT archive-too-big when the seekable format cannot say it. */
MUSTCHECK enum status frames_tail(struct buf *out, const struct frame_note *note, uint64_t n,
                                  uint64_t index, struct err *e);
#endif
