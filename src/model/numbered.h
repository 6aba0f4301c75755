/* torch's optimizers know their parameters by number: which tensor is number i. Number i is
 * parameter i over all groups in order, so with one group it is parameter i of the module that was
 * optimised. That module is taken to be the one state_dict of the file whose parameters fit in
 * number and shapes, or, where some of them were left out (frozen), in the only way in which the
 * shapes of the state fit them in order; where none or two fit, or several groups may have been
 * made in any order, nothing is said. Newer torch may store the names (param_names), which settles
 * it. Source: torch/optim/optimizer.py (state_dict).
 */
#ifndef MODEL_NUMBERED_H
#define MODEL_NUMBERED_H
#include "model/model.h"

struct numbered {
    uint32_t *param;         /* given by the caller, room for n_tensors + 1; param[i] is number i */
    size_t n;                /* 0: not known */
    const struct node *dict; /* the state_dict they stand in */
};
/* Is this {"state": {...}, "param_groups": [...]}? */
bool numbered_is_optimizer(const struct node *n);
/* After model_finish and roles; root is the model's tree, opt an optimizer in it. */
MUSTCHECK enum status numbered_params(const struct model *m, const struct node *root,
                                      const struct node *opt, struct numbered *out, struct err *e);
#endif
