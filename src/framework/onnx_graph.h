/* What the graph of an ONNX file says of the layers whose tensors its nodes read: epsilons, kept
 * shares, paddings, the functions between them, and which way round a matrix is multiplied by. The
 * graph is the attachment graph.onnx (the format's), without its numbers. It is a hint: damaged, or
 * of another version, it says nothing. Source: onnx/onnx.proto, docs/Operators.md.
 */
#ifndef FRAMEWORK_ONNX_GRAPH_H
#define FRAMEWORK_ONNX_GRAPH_H
#include "framework/rules.h"

/* Fills what a layer's `said` and l's functions leave open. rules: of the framework that recognised
 * the layers. ST_CANNOT graph-turned: a node multiplies by a weight as [in,out] that those rules
 * read as [out,in], or the other way round; not asked of tensors that `settled` knows. */
MUSTCHECK enum status onnx_graph_told(const struct model *m, const struct spelling_rules *rules,
                                      bool (*settled)(void *ctx, struct str tensor), void *ctx,
                                      struct arena *a, struct layers *l, struct err *e);
#endif
