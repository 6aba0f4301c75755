/* What a format is: one .c file with one exported `const struct format NAME_format`, and one line
 * in format/list.h. A reader describes bytes: it fills a struct model and moves no weights. A
 * writer describes places: it names the files, gives every tensor a place, and patches what could
 * not be known before; the run engine moves the numbers.
 *
 * Five writers this contract was sketched against:
 *  - archive:      APPEND with an encoder (planes): frames in tensor order, their stored sizes come
 * back in struct placed; end() appends manifest, sums, checks and seek table.
 *  - zip (torch):  FIXED places behind local headers written in begin(); WANT_CRC32, combined over
 * slabs written by many threads; end() writes data descriptors / central directory.
 *  - HDF5:         FIXED places; object headers patched with addresses in end().
 *  - TensorBundle: FIXED places in the data file, WANT_CRC32C per tensor; end() writes the index
 * file.
 *  - Orbax zarr:   one file per tile box, padded: place kind TILES (box shape, file id per tile),
 * added to the enum with the engine's support when that writer comes; begin() adds the files.
 */
#ifndef FORMAT_FORMAT_H
#define FORMAT_FORMAT_H
#include "base/buf.h"
#include "base/out.h"
#include "model/id.h"

/* ---- reading ---- */

/* What the user named. Either file or dir is set. */
struct source {
    const char *path;
    struct file *file;  /* regular file; owned by the opener until read() passes it to the model */
    uint8_t head[4096]; /* its first bytes */
    size_t head_n;
    struct dir *dir; /* folder */
    struct dir_entry *entry;
    size_t n_entries;
};
struct read_opt {
    bool weights_only; /* leave attachments aside */
    bool quick;        /* leave out checks of a container's own sums that read all the data */
    bool scan;         /* for `scan`: do not refuse hostile names, list them (see finding) */
    /* scan only: one call per oddity; text is already plain */
    void (*finding)(void *ctx, bool unsafe, const char *code, uint64_t offset, const char *text);
    void *finding_ctx;
};

/* ---- writing ---- */

enum place_kind { PLACE_NONE, PLACE_FIXED, PLACE_APPEND };
enum { WANT_CRC32 = 1, WANT_CRC32C = 2, WANT_TREE = 4 }; /* digests of a tensor's raw bytes */

struct piece {
    uint32_t stored, raw;
    uint8_t check[16]; /* the encoder's own, handed on to end() as it is */
};
/* Where a slab went: what is kept of those that were read back at once. */
struct kept_slab {
    const char *encoder; /* its name */
    uint64_t at;         /* in its file */
    const struct piece *piece;
    size_t n_pieces;
};
/* Turns raw slabs into stored bytes (APPEND places). Stateless between slabs; bytes are a function
 * of the slab and its place alone, never of threads or CPU. */
struct encoder {
    const char *name;
    size_t slab_bytes; /* raw bytes per slab (last may be shorter); fixed */
    /* upper bound of the stored size of n raw bytes, and scratch the call needs per thread */
    size_t (*bound)(size_t n);
    size_t scratch_bytes;
    /* piece_sizes receives the stored size of every independently decodable piece (frame) and its
     * raw size, up to max_pieces; *stored is the total. is_first / is_last say where in the tensor
     * the slab stands (streams such as deflate close with the last). */
    enum status (*encode)(const void *raw, size_t n, enum dtype dtype, bool is_first, bool is_last,
                          void *dst, size_t dst_cap, void *scratch, size_t *stored,
                          struct piece *piece, size_t max_pieces, size_t *n_pieces, struct err *e);
    size_t max_pieces;
    /* Whether the n raw bytes are what these stored bytes give by the format's own decoder, each
     * piece's check proved on the way; scratch as encode's. With it (and the format's tile_is)
     * slabs are read back as soon as they are written. NULL: when all is. */
    bool (*holds)(const void *stored, const struct piece *piece, size_t n_pieces, const void *raw,
                  size_t n, void *scratch);
};
struct place {
    enum place_kind kind;      /* NONE: an alias, nothing is written. An alias with another kind is
                                  written in full, from its target's recipe */
    int file;                  /* id from out_add */
    uint64_t offset;           /* FIXED: where the tensor's raw bytes start */
    unsigned want;             /* digests */
    const struct encoder *enc; /* APPEND; NULL = raw bytes as they are */
    bool unpacked;             /* sub-byte types one value a byte; else packed, lowest bits first */
    /* APPEND: the tensor is cut into parts of this many raw bytes (a multiple of enc->slab_bytes);
     * around() is called between parts. 0 = one part */
    uint64_t part_bytes;
    /* FIXED and part_bytes != 0: raw bytes [k * part_bytes, (k+1) * part_bytes) lie at
     * part_offset[k] (from the writer's arena); offset is not looked at */
    const uint64_t *part_offset;
};
/* What the engine tells back about a tensor once all of it is written. */
struct placed {
    uint32_t crc32, crc32c;
    uint8_t tree[32]; /* SHA-256 tree root (see codec/sha256.h) */
    uint64_t offset;  /* APPEND: file offset of its first stored byte */
    uint64_t stored_bytes;
    struct piece *piece; /* APPEND: every piece in order; valid as long as this */
    size_t n_pieces;
};
struct write_opt {
    uint64_t max_shard_size; /* 0 = one file */
    bool plain;              /* archive --layout plain */
    bool sums_full;          /* archive --sums full */
    bool compress;           /* npz: deflate members */
    /* Where the weights come from, for formats that tell it; NULL = do not. Unless it says SELECTED
     * or COMPUTED the engine finds what is missing: in end() it is complete. */
    const struct origin *origin;
    /* The source's own names and ties, where the model that is read has others by now; NULL = those
     * of the model. */
    const struct id_names *own_names;
};
#define WRITER_MAX_APPEND 16 /* file ids 0..15 may be appended to */
struct writer {
    const struct model *m; /* the target model: names, dtypes, shapes, roles, aliases, order, tree,
                              attachments, meta; tensors have no storage */
    struct out *out;
    struct write_opt opt;
    struct arena arena;    /* the writer's; freed by the caller */
    struct place *place;   /* one per tensor of m, zeroed before begin() */
    struct placed *placed; /* one per tensor, valid in end() */
    /* Tensor indices in the order the engine shall write them (APPEND order in the file). begin()
     * may permute it; starts as 0..n-1. */
    uint32_t *order;
    /* APPEND: where the next stored byte goes, per file id .
     * begin() sets it behind what it wrote; the engine advances it. */
    uint64_t file_end[WRITER_MAX_APPEND];
    void *priv;
};

struct format {
    const char *name;      /* "safetensors": what --format says */
    const char *title;     /* one line for `nnferry formats` */
    const char *suffix[6]; /* of target names, first is the usual one; NULL ends */
    bool reads, writes;
    bool dir_source; /* takes folders */
    bool dir_target; /* writes a folder (always, or when sharded) */
    bool dir_only;   /* ... always */
    bool tree;       /* nested names; flat otherwise */
    bool aliases;    /* can say that two tensors are one */
    bool trains;     /* can carry optimizer state and typed scalars (model.tree) */
    bool origin;     /* tells write_opt.origin; all its places WANT_TREE */
    /* What of a model's attachments and key-values a target keeps: globs of names and of keys, NULL
     * ends; the first that fits decides, and one behind a '!' says no. A target that is a folder
     * keeps every attachment, as a file of its own. The rest is named in the ledger. */
    const char *keeps[4], *keeps_meta[4];
    /* In a target of one file, does an attachment that keeps[] names fit the model m to be written,
     * whose names, types and shapes stand? NULL: every one. */
    bool (*fits)(const struct model *m, const struct attachment *a);
    /* Does a file that holds m keep all of m->tree but foreign objects? Where it does not, no typed
     * scalar of it arrives. NULL: it does. */
    enum status (*keeps_tree)(const struct model *m, bool *keeps, struct err *e);
    const char *framework; /* the framework whose usual format it is, or NULL */
    const char *refuses;   /* for nnferry-formats.7: what is refused, one sentence */

    /* How sure this content is mine: 0 no, 1..100. Looks at content, never at the suffix alone. May
     * pread through s->file, never fails loudly. */
    int (*bid)(const struct source *s);
    /* In a folder: does `name` (a file, or a folder in it) belong to the set in the file `set`, so
     * that it is no set and no attachment of its own? With an empty name: may a file called `set`
     * be one that has such company? With an empty set: the folder itself is the set. NULL: a set
     * is one file. */
    bool (*companion)(struct str set, struct str name);
    /* Fills m (model_init done by the caller); ends with model_finish. */
    enum status (*read)(struct source *s, const struct read_opt *opt, struct model *m,
                        struct err *e);
    /* ST_CANNOT when the model's names, dtypes or structure cannot be written; before any file. */
    enum status (*check)(const struct model *m, const struct write_opt *opt, struct err *e);
    /* Adds files to w->out, fills w->place and w->order, writes what stands before the data. */
    enum status (*begin)(struct writer *w, struct err *e);
    /* APPEND only, may be NULL: called in order just before tensor t's first slab (when = 0), just
     * after its last (when = 1; also for a tensor without bytes) and between its parts (when = 2);
     * appends bytes to *extra (cleared by the caller), which the engine writes at the current end.
     * at = stored bytes so far in that file. */
    enum status (*around)(struct writer *w, uint32_t t, int when, uint64_t at, struct buf *extra,
                          struct err *e);
    /* All tensors are written, w->placed and w->file_end are filled: patch headers, write indexes.
     */
    enum status (*end)(struct writer *w, struct err *e);
    /* Whether tile t of what was read is slab t of a tensor that enc wrote: with these pieces,
     * checks and all, at this file offset, and read as enc's slabs are. NULL where no encoder has
     * holds. */
    bool (*tile_is)(const struct storage *s, uint64_t t, const struct kept_slab *slab);
    /* Frees what the writer took outside w->arena. Called once after begin(), whatever came of it
     * and of the run; may be NULL. */
    void (*drop)(struct writer *w);
};
/* Does a target carry optimizer state and typed scalars? A folder of shards, where the format has
 * single files too, holds tensors alone. */
static inline bool format_trains(const struct format *f, bool folder)
{
    return f->trains && (!folder || f->dir_only);
}

/* Registry, from format/list.h (order never means anything). */
extern const struct format *const formats[];
extern const size_t n_formats;
const struct format *format_find(struct str name);
/* By the target's suffix; the longest that fits; NULL when none. */
const struct format *format_by_suffix(struct str path);

/* Does a target of this format keep the attachment, the key-value? */
bool format_keeps(const struct format *f, bool folder, struct str name);
bool format_keeps_meta(const struct format *f, struct str key);

/* Opens path, recognises it by content (or takes `force` when not NULL), reads it into *m (which
 * the caller frees with model_free, also after a failure). Names what was found instead: ST_INPUT
 * "unrecognised". Several weight sets in one folder: ST_USAGE with a list. */
MUSTCHECK enum status format_open(const char *path, const struct format *force,
                                  const struct read_opt *opt, struct model *m,
                                  const struct format **found, struct err *e);
#endif
