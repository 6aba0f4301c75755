/* ZIP container: a strict reader and a deterministic writer. Knows no tensor.
 *
 * The reader takes an archive only when every reader would take it the same way: one end record,
 * one central directory in front of it, local headers that agree with it, names that differ even
 * after folding case, and records that cover the file from byte 0 without hole or overlap.
 * Source of the layout: PKWARE APPNOTE 6.3.10; what real writers do is noted in zip.c.
 */
#ifndef CODEC_ZIP_H
#define CODEC_ZIP_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

enum { ZIP_STORED = 0, ZIP_DEFLATED = 8 };
#define ZIP_NAME_MAX 4096 /* longer member names are refused */

struct zip_entry {
    struct str name;      /* relative, no "..", no NUL, UTF-8; ends in '/' for folders */
    uint64_t central;     /* file offset of its central record, for messages */
    uint64_t header;      /* file offset of its local header */
    uint64_t data;        /* file offset of its stored bytes */
    uint64_t stored, raw; /* bytes in the file, bytes after decoding */
    uint32_t crc;         /* CRC-32 of the raw bytes; see zip.no_crc */
    uint16_t flags;
    uint8_t method; /* ZIP_STORED or ZIP_DEFLATED */
    bool is_dir;
};
struct zip {
    struct file *file;       /* borrowed */
    struct zip_entry *entry; /* central order; from the arena */
    size_t n;
    struct zip_entry **by_name; /* sorted bytewise; for zip_find */
    bool no_crc;                /* every non-empty member says CRC 0: not checked, warned about */
};

/* Reads and proves the whole directory (no member data). Refusals: ST_INPUT, codes zip-*. */
MUSTCHECK enum status zip_read(struct file *f, struct arena *a, struct zip *out, struct err *e);
/* The same for an archive that is a part of a file: it ends in its end record, without a comment.
 * Entries' offsets are the file's. */
MUSTCHECK enum status zip_read_part(struct file *f, uint64_t at, uint64_t bytes, struct arena *a,
                                    struct zip *out, struct err *e);
/* Exact name, NULL when absent. */
const struct zip_entry *zip_find(const struct zip *z, struct str name);
/* Name in the first local header of a file's first bytes; empty when they are no zip. For bids. */
struct str zip_first_name(const uint8_t *head, size_t n);
/* A whole member, decoded and its CRC checked, appended to *b. A member of more than max raw bytes
 * is ST_LIMIT "zip-member-size". */
MUSTCHECK enum status zip_load(const struct zip *z, const struct zip_entry *m, uint64_t max,
                               struct buf *b, struct err *e);
/* Reads a whole member's stored bytes and compares the CRC ("zip-crc"); true at once with no_crc.
 */
MUSTCHECK enum status zip_check_crc(const struct zip *z, const struct zip_entry *m, struct err *e);

/* ---- writing ----
 * Bytes are a function of names, sizes and contents alone. Use: zip_add each member in file order
 * (it lays out header and data), write zip_local's bytes at .header, the data at .data; when CRCs
 * and sizes are known set them and write zip_local again at the same place; last zip_tail. */
struct zip_member {
    struct str name;
    uint64_t header, data; /* file offsets */
    uint64_t stored, raw;
    uint32_t crc;
    uint16_t pad;   /* bytes in the alignment extra, its own header included; 0 = none */
    uint8_t method; /* ZIP_STORED or ZIP_DEFLATED */
    bool zip64;     /* local header holds 64-bit sizes */
};
struct zip_writer {
    struct arena arena;
    struct zip_member *member;
    size_t n, cap_;
    uint64_t end; /* next free byte; header of the next member */
};
void zip_writer_init(struct zip_writer *z);
void zip_writer_free(struct zip_writer *z);
/* Next member at z->end. Stored: size is exact, data is aligned to 64 bytes, and z->end moves
 * behind it. Deflated: size is the raw size, not aligned; the caller sets .stored and moves z->end
 * (data + stored) before the next zip_add. *index counts from 0. */
MUSTCHECK enum status zip_add(struct zip_writer *z, struct str name, uint8_t method, uint64_t size,
                              size_t *index, struct err *e);
/* Appends the local header (always the same length for one member). */
void zip_local(const struct zip_writer *z, size_t index, struct buf *b);
/* Appends central directory and end records, to be written at z->end. */
void zip_tail(const struct zip_writer *z, struct buf *b);
#endif
