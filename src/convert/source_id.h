/* The source's digest (model/id.h), found while its tensors are carried. Most pass as they are:
 * what the writer hashes is what they hash to. Those that are turned, cast or cut, and those left
 * behind, are hashed beside the others, in the same run: each is one more target, of its own bytes,
 * in line behind the last that reads it, so that a file's pages are still at hand and what is
 * compressed is decoded once for both.
 */
#ifndef CONVERT_SOURCE_ID_H
#define CONVERT_SOURCE_ID_H
#include "codec/sha256.h"
#include "convert/feed.h"

struct source_id {           /* zeroed: nothing is asked for */
    const struct plan *plan; /* what is to run: the one given, or `more` */
    struct plan more;        /* the targets given, then those hashed beside */
    size_t n_own;            /* targets that are written */
    uint32_t *from;          /* per tensor of the source: the target with its digest; NO_TARGET */
    uint8_t (*digest)[32];   /* of targets from n_own on */
    uint64_t n_bytes;        /* hashed beside the others */
    struct sha256 tree;      /* of the target in work */
};
#define NO_TARGET UINT32_MAX
/* o: may be NULL, or say that there is none; then s->plan is p. source_id_free in any case. */
MUSTCHECK enum status source_id_plan(struct source_id *s, const struct plan *p,
                                     const struct origin *o, struct err *e);
void source_id_free(struct source_id *s);
static inline bool source_id_beside(const struct source_id *s, uint32_t t)
{
    return t >= s->n_own;
}
/* The n targets in order that are written, with those beside in between, to all[], which has room
 * for both. */
MUSTCHECK enum status source_id_order(const struct source_id *s, const uint32_t *order, size_t n,
                                      uint32_t *all, size_t *n_all, struct err *e);
/* The leaves of a slab of a target beside; slabs in order. */
void source_id_add(struct source_id *s, const struct slab *b, const uint8_t (*leaf)[32],
                   size_t n_leaves);
/* All have run: completes o. written: the targets that are, with the digests in placed. names:
 * write_opt.own_names. */
MUSTCHECK enum status source_id_end(const struct source_id *s, const struct model *written,
                                    const struct placed *placed, const struct id_names *names,
                                    struct origin *o, struct err *e);
#endif
