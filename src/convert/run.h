/* The run engine: the only code that moves numbers. One loop over slabs (boxes of the target's
 * C order), many sinks: write, hash, compare, read. Bounded memory for any tensor size, any number
 * of threads, same bytes.
 */
#ifndef CONVERT_RUN_H
#define CONVERT_RUN_H
#include "convert/plan.h"
#include "format/format.h"

struct run_opt {
    int threads;     /* 0 = par_threads() */
    uint64_t memory; /* bytes the process may hold, those in use at the start too; 0 = 1 GiB */
};
/* What a run will take, before it starts; printed by --dry-run. */
struct run_cost {
    uint64_t read_bytes, write_bytes; /* raw */
    uint64_t memory_bytes;            /* peak the run plans for */
    uint64_t spool_bytes;             /* disk in --tmpdir */
    double read_amplification;        /* bytes fetched / bytes needed, by plan */
    int threads;                      /* after fitting to memory */
    uint64_t n_decodes;               /* tiles and streams decoded, by reader and mapping too */
};
MUSTCHECK enum status run_cost(const struct plan *p, const struct run_opt *o, struct run_cost *c,
                               struct err *e);

/* What run_write takes in all: with what write_opt.origin asks for, *beside bytes of the source
 * that are hashed and not written as they are. Of the source those are read for that alone, where
 * no page of them is at hand any more. */
MUSTCHECK enum status run_write_cost(const struct plan *p, const struct write_opt *wo,
                                     const struct run_opt *o, struct run_cost *c, uint64_t *beside,
                                     struct err *e);

/* Digest kept of every slab while writing (XXH3-128 of raw bytes): what reading back is checked
 * against. */
struct slab_digests;
/* Writes every tensor of p->dst through fmt's writer into out. Afterwards its sync is
 * under way; out_publish waits for it. *kept (free with slab_digests_free) serves run_readback. */
MUSTCHECK enum status run_write(const struct plan *p, const struct format *fmt,
                                const struct write_opt *wo, const struct run_opt *o,
                                struct out *out, struct slab_digests **kept, struct err *e);
/* Reads the written thing again through fmt's own reader and compares with what was written: names,
 * dtypes, shapes, slab digests. ST_OUTPUT "readback" on any difference. */
MUSTCHECK enum status run_readback(const struct plan *p, const struct format *fmt,
                                   const char *temp_path, const struct slab_digests *kept,
                                   const struct run_opt *o, struct err *e);
void slab_digests_free(struct slab_digests *k);

/* SHA-256 tree digest (codec/sha256.h) of every target tensor's canonical bytes: little-endian, C
 * order, sub-byte values one a byte, block types raw. digest[i] 32 bytes each; aliases too. */
MUSTCHECK enum status run_hash(const struct plan *p, const struct run_opt *o, uint8_t (*digest)[32],
                               struct err *e);

/* Comparison of two plans' targets, tensor by tensor: b_of[i] is the tensor of b compared with
 * tensor i of a (-1: skip). Shapes must be equal, block types unpacked (plan_unpack). */
struct run_diff {
    bool bit_equal;                       /* same dtype, same bytes */
    uint64_t n_unequal;                   /* elements whose values differ (NaN equals NaN) */
    uint64_t first;                       /* C-order index of the first such element */
    double max_abs, mse, cosine, max_rel; /* in double over finite pairs */
    double max_ref;                       /* largest |b| */
    uint64_t n_fail;                      /* elements with |a-b| > atol + rtol*|b| */
    uint64_t n_nonfinite; /* NaN or infinity on one side only, or infinities that differ */
    uint64_t n_overflow;  /* finite in b, infinite or NaN in a */
    uint64_t n_flushed;   /* 0 in a alone */
    uint64_t n_subnormal; /* below the smallest normal number of a's type, in a, and not 0 */
};
MUSTCHECK enum status run_compare(const struct plan *a, const struct plan *b, const int64_t *b_of,
                                  double rtol, double atol, const struct run_opt *o,
                                  struct run_diff *out, struct err *e);

/* Elements [lo, hi) (C order) of target tensor t, converted to `as` (DT_F32, DT_F64, or the
 * tensor's own dtype), into dst. For validation and --stats. Of a block type that was not unpacked
 * these are its bytes. */
MUSTCHECK enum status run_read(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi,
                               enum dtype as, void *dst, struct err *e);
/* What that takes, without reading it. */
MUSTCHECK enum status run_read_cost(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi,
                                    struct run_cost *c, struct err *e);
#endif
