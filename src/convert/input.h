/* How the elements of one view are got at: straight from the file, through a mapped window, from
 * memory, by decoding whole tiles, or from a buffer that the feed fills ahead (a panel of a
 * strided view, a stretch of a stream). Chosen once per tensor by input_choose.
 */
#ifndef CONVERT_INPUT_H
#define CONVERT_INPUT_H
#include "base/out.h"
#include "convert/gather.h"
#include "convert/plan.h"

enum input_kind {
    IN_FILE,   /* contiguous: pread */
    IN_SPOOL,  /* contiguous: pread of a spool */
    IN_MEMORY, /* any view: memory, resident storages, mapped windows */
    IN_TILES,  /* contiguous, ranges start at tile bounds: decoded by whoever asks */
    IN_PANEL,  /* strided, fetched ahead by rows from file or spool */
    IN_ORDERED /* contiguous, decoded ahead from a stream or from tiles that fit no slab */
};

/* A storage decoded once and kept until its last user is done: in memory, else spooled. */
struct resident {
    uint64_t users; /* inputs of jobs still to come */
    bool ready;
    uint8_t *mem;
    uint64_t mem_bytes;
    struct spool *spool;
};

/* A tensor of blocks as the float32 storage that OP_UNPACK makes of it, tile by tile (unpack.c).
 * What lies over it (slabs, panels, spools) is what lies over any tiled storage. */
#define UNPACK_ELEMS ((uint64_t)65536) /* of a tile; whole blocks of every type */
struct unpacked {
    struct storage s; /* TILED, float32; s.priv is this */
    struct resident res;
    const struct storage *base;
    struct resident *base_res; /* of base; loaded first where base is no plain bytes */
    enum dtype dtype;          /* the block type */
};
/* What the storages of one plan's source have turned into so far. */
struct sources {
    struct resident *storage; /* per storage of the source */
    struct unpacked **tensor; /* per tensor of the source; NULL: not unpacked. May be NULL */
};
MUSTCHECK enum status sources_make(struct sources *x, const struct model *m, struct err *e);
/* A tensor's float32 storage, made when first asked for. */
MUSTCHECK enum status sources_unpacked(struct sources *x, const struct model *m, uint32_t tensor,
                                       struct unpacked **out, struct err *e);
void sources_free(struct sources *x, const struct model *m);

/* A fetched box: one range of the view's C order. */
struct piece_box {
    uint64_t lo, hi;
    struct view v; /* on the panel, collapsed */
    /* where its bytes come from: rows of run_bytes, row r at the mixed radix of axis[] */
    uint64_t n_rows, run_bytes, pitch_bytes;
    int64_t first_byte; /* in the storage, of the lowest row */
    uint8_t n_axes;
    struct axis axis[VIEW_MAX_AXES]; /* outermost first; strides in bytes, positive */
    uint64_t at;                     /* place in the panel buffer */
};
#define MAX_PIECES 130 /* a range has at most 2 * VIEW_MAX_AXES boxes */

struct input {
    const struct model *m;
    const struct storage *s;
    struct resident *res;    /* of s */
    struct unpacked *blocks; /* UNPACK: s and res are its own */
    enum dtype dtype;        /* of the elements it gives: float32 after UNPACK */
    bool packed;             /* sub-byte, several elements a byte */
    bool tidy;               /* sub-byte, one a byte: mask what a file may hold */
    size_t swap;             /* unit to reverse, 0 = none */
    size_t size;             /* bytes of an element (packed: 1, after unpacking) */
    struct view v;           /* collapsed; raw blocks are viewed as bytes, an element each */
    bool contiguous;
    int64_t lo, hi; /* elements touched in the storage */
    enum input_kind kind;
    /* IN_MEMORY: where element 0 of the storage lies or would lie */
    const uint8_t *origin;
    struct window win;
    /* IN_PANEL */
    struct piece_box *piece;
    size_t n_pieces;
    const uint8_t *panel;
    /* IN_ORDERED: raw bytes [buf_lo, buf_hi) of the storage */
    uint8_t *buf;
    uint64_t buf_cap, buf_lo, buf_hi;
    void *stream;
    bool stream_open;
};

/* Scratch of one thread, all of it carved from one block. */
struct scratch {
    uint8_t *base;
    uint64_t base_bytes;
    uint8_t *stage; /* STAGE_BYTES, for panel_fetch */
    uint8_t *raw;   /* gathered source elements of a slab, or decoded tiles */
    size_t raw_bytes;
    uint8_t *block[2]; /* OP_BLOCK_BYTES each */
    uint8_t *operand;  /* OP_BLOCK_BYTES */
    uint8_t *packed;   /* OP_BLOCK bytes */
    void *decode;      /* for decoder.tile */
    size_t decode_bytes;
};

/* Counters of what was really done, from all threads. */
struct feed_counts {
    _Atomic uint64_t bytes_fetched, n_decodes, spool_bytes;
};

/* What the chooser may use. */
struct input_budget {
    uint64_t window_bytes;   /* left for mapped windows of this batch */
    unsigned windows;        /* left in this batch */
    uint64_t resident_bytes; /* left for decoded storages */
    uint64_t panel_bytes;
    bool dry; /* cost only: nothing is opened, mapped or decoded */
    const char *spool_beside;
    struct feed_counts *counts;
    struct scratch *scratch; /* one per slot */
    int n_slots, n_threads;
};

/* Describes the view; no I/O. unpack: the tensor is in x->tensor and OP_UNPACK comes first. */
void input_init(struct input *in, const struct model *m, const struct view_kept *v, uint32_t tensor,
                bool unpack, const struct sources *x);
/* Chooses and opens. alone: the only input of its tensor, whose order is the view's; slabs of
 * `slab` elements start at element `first`. */
MUSTCHECK enum status input_choose(struct input *in, bool alone, uint64_t first, uint64_t slab,
                                   struct input_budget *b, struct err *e);
/* Releases what choose opened, and the storage when this was its last user. */
void input_close(struct input *in, struct input_budget *b);

/* Elements [p0, p0+n) of the view's C order as native elements. Gives either dst, filled, or a
 * pointer to where they already lie. Packed inputs: n <= OP_BLOCK. */
MUSTCHECK enum status input_get(struct input *in, uint64_t p0, uint64_t n, uint8_t *dst,
                                struct scratch *sc, struct feed_counts *c, const uint8_t **out,
                                struct err *e);

/* ---- storages that are decoded once and kept (resident.c) ---- */

/* Decodes s into memory where the budget has room, else into a spool. Nothing when that was done;
 * a dry budget only counts. ST_INPUT box-bounds for a grid that lies. */
MUSTCHECK enum status resident_load(const struct storage *s, struct resident *r,
                                    struct input_budget *b, struct err *e);
void resident_free(struct resident *r);

/* ---- filled ahead (panel.c, ordered.c) ---- */

/* IN_PANEL: cuts [p0, p1) into boxes (in->piece has room for MAX_PIECES) placed from *at on in the
 * panel buffer; *at advances. */
void panel_cut(struct input *in, uint64_t p0, uint64_t p1, uint64_t *at);
/* Fetches rows [r0, r1) of a piece into the panel. stage: STAGE_BYTES of scratch. */
#define STAGE_BYTES ((size_t)256 << 10)
MUSTCHECK enum status panel_fetch(const struct input *in, const struct piece_box *q, uint64_t r0,
                                  uint64_t r1, uint8_t *panel, uint8_t *stage,
                                  struct feed_counts *c, struct err *e);
/* Bytes that fetching a piece moves, pages of 4096 counted whole where runs are apart. */
uint64_t panel_cost(const struct piece_box *q);

/* IN_ORDERED: makes the view's elements [p0, p1) ready. Streams are decoded here; of tiles, numbers
 * [*t0, *t1) are left to ordered_tile, in any order. last: nothing is wanted behind p1. */
MUSTCHECK enum status ordered_advance(struct input *in, uint64_t p0, uint64_t p1, bool last,
                                      uint64_t *t0, uint64_t *t1, struct feed_counts *c,
                                      struct err *e);
MUSTCHECK enum status ordered_tile(struct input *in, uint64_t t, struct scratch *sc,
                                   struct feed_counts *c, struct err *e);
#endif
