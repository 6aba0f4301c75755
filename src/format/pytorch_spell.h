/* The pickle of a written PyTorch checkpoint. */
#ifndef FORMAT_PYTORCH_SPELL_H
#define FORMAT_PYTORCH_SPELL_H
#include "format/pytorch.h"

/* The tensors of one file, in order. */
struct pt_items {
    uint32_t *tensor;
    size_t n;
    const uint32_t *key; /* per tensor of the model that owns bytes: number of its record */
};
/* The tensor whose bytes t shares, or t. */
uint32_t pytorch_kept(const struct model *m, uint32_t t);
/* Appends a whole pickle. tree_allowed: the file holds all tensors, so model.tree may be spelled,
 * where it names every tensor as the model does; else (and without a tree) an OrderedDict of the
 * items. ST_CANNOT for values the weights-only unpickler has no opcode for. */
MUSTCHECK enum status pytorch_spell(const struct model *m, const struct pt_items *it,
                                    bool tree_allowed, struct buf *b, struct err *e);
/* Is it a frozenset? One is written as it was, which torch.load with weights_only=True takes as
 * little as the source: the writer says so. */
bool pytorch_frozen(const struct node *n);
/* struct format's keeps_tree. */
MUSTCHECK enum status pytorch_keeps_tree(const struct model *m, bool *keeps, struct err *e);
#endif
