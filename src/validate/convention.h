/* Conventions: how a framework computes a layer from its own tensors, written from the framework's
 * semantics and sharing nothing with the mapping's tables. A convention is a table of forms: which
 * tensor holds a canonical operand, and under which axes, in stored order:
 *
 *     "O (C S)"   axis 0 is output features, axis 1 is channels times positions, channels outer
 *     "-x -y I O" two kernel axes whose stored order is reversed, then inputs, then outputs
 *     "(P H D) E" three parts (q, k, v) of heads times width; the form's part is taken
 *     "x y O*"    the last two stored axes count outputs together, outer axis first
 *     "+(C S)"    1 is added to the values (a norm's factor)
 *     "C+ O+"     as many stored axes as the layer reads, then as many as it gives
 *     "="         ... in the order that the layer's equation has them
 *
 * Letters: O, I outputs and inputs (I per group in conv, O per group in conv_transpose); x y z
 * kernel axes; C S channels and positions of a flattened map, or of the window at a position; u v w
 * positions; H D heads and their width; E model width; V rows of a table; P fused parts; O Q
 * outputs and C S X Y inputs of a linear layer over several axes, outer ones first, axes that lie
 * beside each other in that order as one. A form's letters with the tensor's extents are an
 * explicit index formula: element (i, j ...) lies at base + sum of index * stride.
 */
#ifndef VALIDATE_CONVENTION_H
#define VALIDATE_CONVENTION_H
#include "convert/plan.h"
#include "model/layers.h"

#define OPERAND_AXES 8

/* on layer.flip, on layer.depth_c; WHEN_FORM + n: on layer.form being n, before the rows of any
 * form */
enum { WHEN_ANY, WHEN_FLIP, WHEN_NO_FLIP, WHEN_DEPTH, WHEN_FORM };
struct form {
    enum layer_kind kind;
    enum leaf slot; /* the canonical operand */
    enum leaf from; /* the tensor that holds it */
    uint8_t rank;   /* spatial rank; 0 = any */
    uint8_t when;
    uint8_t part; /* which of P */
    const char *axes;
};
/* How one tensor of a recurrent cell enters its sums. Letters: G gates, O units, I inputs, R the
 * state that comes back, X inputs followed by state, B the two biases. gates, in stored order: i f
 * g o, r z n, h; '-' before one that enters with the other sign, '+' before one that 1 is added to,
 * whether there is such a tensor or not. Of a convolution's weight, O counts the units of all gates
 * and x y z are the kernel's axes; there is a form for each number of them.
 */
struct cell_form {
    enum layer_kind kind;
    enum leaf from;
    const char *axes, *gates;
};
struct convention {
    const char *name; /* the framework's */
    const struct form *form;
    size_t n;
    const struct cell_form *cell;
    size_t n_cells;
};
/* NULL when there is none of that name. */
const struct convention *convention_find(const char *framework);

/* Extents known beyond the tensors' shapes, by letter; 0 = not known. Shared by both sides. */
struct facts {
    uint64_t of[128];
};

struct operand {
    int64_t tensor; /* -1: the layer has none */
    uint64_t base;  /* first element in the tensor's C order */
    uint8_t n;      /* axes in stored order, dense in C order from base on */
    uint8_t plus;   /* added to its values; of vectors only */
    struct {
        char letter;
        bool flip;
        uint64_t extent;
    } ax[OPERAND_AXES];
};
uint64_t operand_extent(const struct operand *o, char letter); /* 1 when it has no such axis */

/* Fills *o for one slot of a layer. ST_OK with tensor -1 where the layer has none. Learns the
 * number of heads into *f where it is 0.
 * ST_NO: an extent is not known yet (*open names the letter). ST_CANNOT: the shape does not fit the
 * form, or there is no form. p's target tensors are the layer's. */
MUSTCHECK enum status convention_operand(const struct convention *c, const struct layer *l,
                                         const struct plan *p, enum leaf slot, struct facts *f,
                                         struct operand *o, char *open, struct err *e);
/* The same for a tensor of a cell, under the leaf it stands at. *gates is its form's. */
MUSTCHECK enum status convention_cell(const struct convention *c, const struct layer *l,
                                      const struct plan *p, enum leaf from, struct operand *o,
                                      const char **gates, struct err *e);
/* The gates of a cell's leaf, whether or not the layer has it; NULL: no such leaf. */
const char *convention_gates(const struct convention *c, enum layer_kind kind, enum leaf from);
#endif
