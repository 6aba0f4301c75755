/* The inverse that a canonical model carries (model.spelling): JSON text
 *
 *   {"format":1, "framework":"flax", "rules":1,
 *    "layers":[{"path":"attn","kind":"attention","heads":4,"groups":0,"flat_c":0,"rank":0}],
 *    "tensors":[{"name":"params.attn.query.kernel","order":3,"role":"parameter","of":-1,
 *                "from":[{"tensor":"attn.q.weight","canonical":"(N D) E","source":"E N D",
 *                         "heads":4,"flat_c":0}]}],
 *    "made_up":["gru.bias_hh"], "nodes":[...]}
 *
 * "layers" says what the weights do not (kinds, heads, channels before a flatten); "tensors" says
 * how each tensor of the source is made: its parts, joined along the first axis, each carried from
 * the canonical layout to the source's. Format 2 has parts with a place: "cut" is the box of the
 * canonical tensor they come from ([axis, lo, hi], whole axes left out), taken before the layouts,
 * "at" where they stand in the source's ([axis, lo]), "neg" that the sign changes. "made_up" names
 * tensors with elements that the source does not have. "nodes" is the source's tree, parents first.
 */
#ifndef FRAMEWORK_SPELLING_H
#define FRAMEWORK_SPELLING_H
#include "framework/framework.h"

#define SPELLING_FORMAT 1u
#define SPELLING_PLACED 2u /* some parts say where they lie */
/* Settles what layers of a canonical model are from its spelling; no-op without one. */
MUSTCHECK enum status spelling_decide(const struct model *m, struct arena *a, struct layers *l,
                                      struct err *e);
#endif
