/* One layer under one convention: its operands read in place (strides, no copies in another
 * layout), its input from the generator, its stages computed by an executor.
 */
#ifndef VALIDATE_EVALUATE_H
#define VALIDATE_EVALUATE_H
#include "validate/convention.h"
#include "validate/executor.h"
#include "validate/validate.h"

#define STAGES_MAX 5

struct side {
    const struct convention *convention;
    const struct layer *layer;
    const struct plan *plan;
    struct operand
        op[LEAF_N]; /* canonical slots; tensor -1 = absent. Cells: by the tensor's leaf */
    const char *gates[LEAF_N]; /* cells: cell_form.gates */
};
/* What both sides share: sizes, assumed attributes, the generator. */
struct setting {
    enum layer_kind kind;
    struct facts facts;
    uint64_t seed, stream;
    uint8_t rank;
    uint64_t rows;   /* batch: N of x */
    uint64_t groups; /* convolutions and group norm */
    uint64_t in_dim[3], out_dim[3], kernel[3], stride[3];
    uint64_t t, keys;                              /* attention */
    uint64_t heads, head_dim, value_dim, width[4]; /* E of q, k, v; output width */
    uint64_t channels_in, channels_out;
    uint64_t units, state; /* cells; channels_in are the inputs */
    double eps;
    uint64_t n_elems;    /* norms, tables, parameters: elements of the operand */
    uint64_t dim;        /* tables: width of a row */
    uint64_t pass_items; /* tables and parameters: rows or elements per pass */
    uint64_t n_passes;   /* 1 for the others */
    size_t n_stages;
    struct stage {
        const char *name;
        uint64_t n; /* values, in every pass but the last, which may have fewer */
    } stage[STAGES_MAX];
};

/* Finds both sides' operands and settles what they share; texts go to the arena. ST_OK;
 * ST_NO: the sides cannot be the same, *why says so; ST_CANNOT: no convention fits, *why. */
MUSTCHECK enum status setting_make(struct setting *s, struct side *a, struct side *b,
                                   uint64_t pass_elems, struct arena *arena, struct str *why,
                                   struct str *assumed, struct str *input, struct err *e);
/* Values of a stage in a pass. */
uint64_t setting_stage_n(const struct setting *s, size_t stage, uint64_t pass);

/* Computes every stage of one pass; out[k] has room for setting_stage_n values of the executor's
 * type. block_elems bounds how much of a weight is held at once. */
MUSTCHECK enum status evaluate(const struct setting *s, const struct side *side, struct executor *x,
                               uint64_t block_elems, uint64_t pass, void *const *out,
                               struct err *e);

/* value i of stream s: k / 2^23 - 1 for a 24-bit k, exact in float */
double random_value(uint64_t seed, uint64_t stream, uint64_t i);

/* Comparing, in pieces: begin, add ..., end. */
struct comparison {
    struct metrics m; /* mse and cosine are set by comparison_end */
    double squares, dot, aa, bb;
};
void comparison_begin(struct comparison *c);
/* n values of each side. The absolute tolerance is atol times the largest |b| among them.
 * index_base is added to the number of a fault. */
MUSTCHECK enum status comparison_add(struct comparison *c, struct executor *x, const void *a,
                                     const void *b, uint64_t n, double rtol, double atol,
                                     uint64_t index_base, struct err *e);
void comparison_end(struct comparison *c);
#endif
