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
/* A recurrent node whose weights are tensors of the model: one cell a direction. W [dirs, gates *
 * units, inputs], R [dirs, gates * units, units], B [dirs, 2 * gates * units]: input side, then
 * recurrent side. Gates stand in the order i o f c (LSTM), z r h (GRU), as ONNX has them. */
struct onnx_cell {
    enum layer_kind kind;
    struct str path; /* of the cell that reads forward: "lstm.l0" */
    int64_t w, r, b; /* b: -1 = none */
    uint64_t dirs, units, inputs;
    bool backward;         /* the only one reads backward */
    struct str activation; /* as in struct layer_settings; "" = the usual */
};
/* Nodes that torch's cells do not compute (peepholes, coupled gates, clipping, other activations, a
 * reset before the recurrent product) are no cells here. Arrays from a. */
MUSTCHECK enum status onnx_graph_cells(const struct model *m, struct arena *a,
                                       struct onnx_cell **out, size_t *n, struct err *e);
#endif
