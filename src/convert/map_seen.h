/* A model seen otherwise, for matching: a tensor that stacks blocks along an axis as one tensor a
 * block, one that joins query, key and value as three, kernels with an axis for the heads
 * as matrices. Recognisers, matcher and layer tables meet the seen model and know nothing of it;
 * afterwards what was mapped is told again in terms of the real tensors.
 */
#ifndef CONVERT_MAP_SEEN_H
#define CONVERT_MAP_SEEN_H
#include "convert/map_int.h"

/* How a seen tensor lies in a real one, in this order. */
struct lens {
    uint32_t real;
    uint64_t n_blocks, block; /* n_blocks != 0: slice `block` of axis block_axis, which goes */
    uint8_t block_axis;
    bool cut; /* run [lo, hi) of axis `axis` (counted without that one) */
    uint8_t axis;
    uint64_t lo, hi;
    uint64_t heads; /* != 0: axes pair, pair + 1 (N heads, D wide) are seen as one */
    uint8_t pair;
};
struct seen {
    const struct model *real;
    struct model model; /* the real tensors first; those seen otherwise are ROLE_OTHER */
    struct lens *lens;  /* per tensor of model */
    bool any;
    uint32_t *slot; /* added tensors + 1 by the hash of their names, 0 = free; private */
    size_t n_slots;
};
/* Nothing seen otherwise yet. */
MUSTCHECK enum status seen_init(struct seen *x, const struct model *real, struct arena *a,
                                struct err *e);
/* Adds tensor `of`, itself real or seen, as `lens` (real is filled in) sees it; seen_hide when all
 * of it is. Roles and order are those of `of`. */
MUSTCHECK enum status seen_add(struct seen *x, uint32_t of, struct lens lens, struct str name,
                               struct arena *a, struct err *e);
void seen_hide(struct seen *x, uint32_t of);
bool seen_has(const struct seen *x, struct str name);

/* From m->src and the skeleton as they are: what must be seen otherwise so that both sides agree.
 * Layers (m->sl, sk->layers) and m->in are those of the seen models then, m->src and sk->m point to
 * them. map_stack.c, map_bundle.c. */
MUSTCHECK enum status see_stacks(struct mapping *m, const struct layers *skeleton, struct seen *s,
                                 struct seen *t, struct err *e);
MUSTCHECK enum status see_bundles(struct mapping *m, struct skeleton *sk, struct seen *s,
                                  struct seen *t, struct err *e);
/* Both, unless the target is canonical: an archive keeps an inverse, layer by layer. map_like.c */
MUSTCHECK enum status see_alike(struct mapping *m, struct skeleton *sk, struct seen *s,
                                struct seen *t, struct err *e);
/* map_graph.c: has m->src an ONNX graph with recurrent cells that m->from would know? */
MUSTCHECK enum status map_graph_any(struct mapping *m, bool *any, struct err *e);
/* An ONNX graph's recurrent cells, as tensors of PyTorch's kind; *out NULL: there are
 * none, and m is as it was. What the nodes say of the layers then; and back. */
MUSTCHECK enum status map_graph_see(struct mapping *m, struct seen **out, struct err *e);
MUSTCHECK enum status map_graph_said(struct mapping *m, const struct seen *s, struct err *e);
MUSTCHECK enum status map_graph_undo(struct mapping *m, const struct seen *s, struct err *e);
/* Back to the real tensors: m->src, m->in, what m->made (from `first` on) takes and makes.
 * ST_CANNOT parts-differ, heads-differ. */
MUSTCHECK enum status seen_undo(struct mapping *m, const struct seen *s, const struct seen *t,
                                size_t first, struct err *e);
#endif
