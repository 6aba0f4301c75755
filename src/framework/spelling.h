/* The inverse that a canonical model carries (model.spelling): JSON text
 *
 *   {"format":1, "framework":"flax", "rules":1,
 *    "layers":[{"path":"attn","kind":"attention","heads":4,"groups":0,"flat_c":0,"rank":0}],
 *    "tensors":[{"name":"params.attn.query.kernel","order":3,"role":"parameter","of":-1,
 *                "from":[{"tensor":"attn.q.weight","canonical":"(N D) E","source":"E N D",
 *                         "heads":4,"flat_c":0}]}],
 *    "nodes":[...]}
 *
 * "layers" says what the weights do not (kinds, heads, channels before a flatten); "tensors" says
 * how each tensor of the source is made: its parts, joined along the first axis, each carried from
 * the canonical layout to the source's; "nodes" is the source's tree, parents first.
 */
#ifndef FRAMEWORK_SPELLING_H
#define FRAMEWORK_SPELLING_H
#include "framework/framework.h"

#define SPELLING_FORMAT 1u
/* Settles what layers of a canonical model are from its spelling; no-op without one. */
MUSTCHECK enum status spelling_decide(const struct model *m, struct arena *a, struct layers *l,
                                      struct err *e);
#endif
