/* What the program in a TorchScript archive says of the layers whose tensors it computes with:
 * kinds, epsilons, kept shares, paddings, groups, heads, where the batch stands, the functions
 * between them. The program is the attachments code/.../NAME.py; the model's modules say which
 * class each is of. Text that is compared with what torch writes, never run: what is not understood
 * says nothing.
 */
#ifndef FRAMEWORK_TORCH_SCRIPT_H
#define FRAMEWORK_TORCH_SCRIPT_H
#include "model/layers.h"

/* Settles kinds that l leaves open, fills what its layers' `said`, groups and heads leave open, and
 * its functions where it has none. Texts from a. Fails for want of memory only. */
MUSTCHECK enum status torch_script_told(const struct model *m, struct arena *a, struct layers *l,
                                        struct err *e);
#endif
