/* The parts of the archive format among themselves; the registry sees only archive_format. */
#ifndef FORMAT_ARCHIVE_IMPL_H
#define FORMAT_ARCHIVE_IMPL_H
#include "codec/frames.h"
#include "codec/planes.h"
#include "codec/sha256.h"
#include "format/format.h"

#define AR_PART_BYTES (UINT64_C(1) << 30) /* of a tensor, in a member of planes */
#define AR_HEAD "nnferry archive"         /* README.txt begins so */
#define AR_SCRATCH_ALIGN 64

/* What the manifest says beyond struct model. */
struct ar_tensor {
    enum planes_kind kind;
    uint64_t bytes;
    bool unpacked;   /* one value a byte, see ar_span */
    uint32_t member; /* planes: the number in weights/NNNNNN.PPP; plain: the shard */
    uint64_t at;     /* plain: where the tensor starts in its member */
    uint8_t digest[32];
};
struct ar {
    bool plain, sums_full, provenance;
    struct ar_tensor *tensor; /* model.n_tensors; an alias holds its target's facts */
    struct str *attach;       /* member names, model.n_attachments */
    uint64_t *shard_head;     /* plain: bytes before the data of each shard */
    uint32_t n_shards;
};

/* Bytes of n elements as stored, before planes. Values below a byte are packed, lowest bits first;
 * *unpacked where they lie one a byte: 6-bit floats, and tensors whose elements fill no whole byte.
 * false: too large, or the plain layout, where all are packed, cannot hold them. */
bool ar_span(enum dtype t, uint64_t n_elems, bool plain, uint64_t *bytes, bool *unpacked);
/* How a tensor's bytes are cut into planes; a function of dtype and size alone. */
enum planes_kind ar_kind(enum dtype t, uint64_t bytes, bool plain);
uint32_t ar_parts(uint64_t bytes);
uint64_t ar_part_bytes(uint64_t bytes, uint32_t part);
/* Names of members; .p == NULL when memory is out. */
struct str ar_weight_name(struct arena *a, const struct ar *ar, const struct ar_tensor *t);
struct str ar_part_name(struct arena *a, uint32_t member, uint32_t part);
struct str ar_shard_name(struct arena *a, uint32_t shard, uint32_t n_shards);
/* attach/ and the name with all but [A-Za-z0-9._-] of each part as %XX (also a first dot and a
 * whole "." or ".."); attach/%N where that would be too long for a tar header. */
struct str ar_attach_name(struct arena *a, struct str name, size_t number);
const char *ar_readme(bool plain);

/* manifest.json and train.json. Reading refuses whatever writing would not have written. */
MUSTCHECK enum status ar_manifest_write(const struct model *m, const struct ar *ar, struct buf *b,
                                        struct err *e);
MUSTCHECK enum status ar_manifest_read(const struct frames *fr, const uint8_t *p, size_t n,
                                       struct model *m, struct ar *ar, bool *tree, struct err *e);
/* provenance.json; the file and its offset are for messages. Fills m->origin. */
MUSTCHECK enum status ar_origin_write(const struct origin *o, struct buf *b, struct err *e);
MUSTCHECK enum status ar_origin_read(const uint8_t *p, size_t n, const char *file, uint64_t at,
                                     struct model *m, struct err *e);
MUSTCHECK enum status ar_tree_check(const struct model *m, struct err *e);
MUSTCHECK enum status ar_tree_write(const struct model *m, struct buf *b, struct err *e);
MUSTCHECK enum status ar_tree_read(const uint8_t *p, size_t n, const char *file, uint64_t at,
                                   struct model *m, struct err *e);

/* The plain layout, a function of the tensors alone: fills member and at of every tensor, n_shards
 * and shard_head, and *order: the tensors as they lie in the shards, without aliases. Shards hold
 * at most 1 GiB or one tensor. ST_CANNOT dtype / name where safetensors has no word for it. */
MUSTCHECK enum status ar_plain_lay(const struct model *m, struct ar *ar, struct arena *a,
                                   uint32_t **order, size_t *n, struct err *e);
/* What stands before the data of a shard; order and n as above. */
MUSTCHECK enum status ar_plain_header(const struct model *m, const struct ar *ar,
                                      const uint32_t *order, size_t n, uint32_t shard,
                                      struct buf *b, struct err *e);

/* A walk over the frames in the order every archive has. */
enum ar_what { AR_README, AR_WEIGHT, AR_ATTACH, AR_TREE, AR_PROVENANCE, AR_MANIFEST, AR_SUMS };
struct ar_member {
    enum ar_what what;
    struct str name;
    uint64_t bytes;  /* in the tar stream */
    uint64_t head;   /* frame of its tar header */
    uint64_t first;  /* first data frame */
    uint64_t end;    /* one past the last */
    uint32_t number; /* WEIGHT: shard, or tensor; ATTACH: attachment */
    uint32_t part;   /* WEIGHT in planes */
};
struct ar_map { /* the whole file, proved to add up */
    struct frames fr;
    struct ar ar;
    struct ar_member *member;
    size_t n_members;
    uint64_t *first; /* of each tensor: its first data frame */
    uint32_t *order; /* tensors as they lie in the file, without aliases */
    size_t n_order;
    size_t manifest; /* its place in member */
};
/* Opens, proves the structure and fills m (all but attachments' bytes and model_finish). Memory
 * from m->arena. f stays the caller's. */
MUSTCHECK enum status ar_open(struct file *f, struct model *m, struct ar_map **out, struct err *e);
/* Decodes a whole member of n bytes into dst; scratch: frames_scratch(&x->fr). */
MUSTCHECK enum status ar_member_read(const struct ar_map *x, const struct ar_member *mb,
                                     uint8_t *dst, void *scratch, struct err *e);
/* Frame of tile i of a tensor. */
uint64_t ar_tile_frame(const struct ar_map *x, uint32_t tensor, uint64_t tile);
/* Content looks like an archive, whole or damaged: 0 .. 100. */
int ar_bid(const struct source *s);

MUSTCHECK enum status ar_read(struct source *s, const struct read_opt *opt, struct model *m,
                              struct err *e);
extern const struct decoder ar_decoder;
bool ar_tile_is(const struct storage *s, uint64_t t, const struct kept_slab *slab);
/* Decodes the chunk of n raw bytes whose frames begin with f. scratch: ar_decoder_scratch().
 * *stream (may be NULL): the bytes as the tar stream has them, in dst or scratch. */
MUSTCHECK enum status ar_chunk_read(const struct ar_map *x, enum planes_kind k, uint64_t f,
                                    size_t n, void *dst, void *scratch, const uint8_t **stream,
                                    struct err *e);
size_t ar_decoder_scratch(void);

MUSTCHECK enum status ar_check(const struct model *m, const struct write_opt *opt, struct err *e);
MUSTCHECK enum status ar_begin(struct writer *w, struct err *e);
MUSTCHECK enum status ar_around(struct writer *w, uint32_t t, int when, uint64_t at,
                                struct buf *extra, struct err *e);
MUSTCHECK enum status ar_end(struct writer *w, struct err *e);

static inline void *ar_align(void *scratch)
{
    return (uint8_t *)scratch + (-(uintptr_t)scratch & (AR_SCRATCH_ALIGN - 1));
}
#endif
