/* Rule tables: how a framework spells the leaves of each layer kind (name, collection, axis
 * letters), as data. Canonical is such a table too; a leaf is carried from one framework to another
 * through the canonical letters, so N frameworks need N tables. Every lookup goes through
 * rules_find, which is where tests alter one entry.
 */
#ifndef FRAMEWORK_RULES_H
#define FRAMEWORK_RULES_H
#include "framework/axes.h"
#include "framework/framework.h"

#define RULES_VERSION 1u /* changes when any rule changes what a mapping gives */

enum {
    VARIANT_KEPT =
        1, /* transposed convolution that is not stored flipped (transpose_kernel=True) */
    VARIANT_DEPTH = 2,  /* depthwise convolution by channels, kernel [k.., C, m] */
    VARIANT_UPDATES = 3 /* batch norm whose statistics are not debiased, and counted */
};
struct leaf_rule {
    enum layer_kind kind;
    uint8_t rank;    /* spatial rank of convolutions; 0 = any */
    uint8_t variant; /* the layer's other spelling: VARIANT_*, else enum layer_form; 0: the usual */
    enum leaf leaf;
    const char *name;       /* below the layer's path: "weight", "query.kernel" */
    const char *collection; /* "params", "batch_stats", or "" */
    /* Layout. 'F' is an axis that may be a flattened map: it is read as "(C S)" or "(S C)"; of a
     * conv_local it is the flattened window of a position, and N the rows of positions. Fused
     * leaves (LEAF_QKV_*) give the layout of one part; parts are joined along axis 0. Where the
     * layer is over several axes, F and O stand for them: each by itself in a row of FORM_AXES,
     * else as one; K and B for those of weight and bias, as the layer stores them. */
    const char *axes;
};
/* How a framework spells one tensor of a cell. Its gates are one axis, G, which is outermost in the
 * axis it shares; cutting a gate leaves a layout over O (units of a gate), I (inputs) and R (width
 * of the state that comes back). J is the axis on which the tensor joins both sides: inputs before
 * state in LEAF_XH_WEIGHT, the two biases in LEAF_XH_BIAS. '*' stands for the spatial axes of a
 * conv_lstm, as many as its rank says: "W", "H W" or "D H W".
 *
 * What a framework computes with other values than torch is said gate by gate, as letters:
 *   sums   one bias stands for two: this one holds the sum, the other's gate is zero
 *   minus  stored with the other sign
 *   plus   the framework adds 1 when it runs, whether the tensor is there or not
 */
enum { CELL_IF_HELD, CELL_IF_BIASED, CELL_ALWAYS }; /* when a tensor is written, zeros if need be */
#define WORD_NONE ""
struct cell_rule {
    enum layer_kind kind;
    uint8_t variant; /* the framework's spellings of the kind; 0 is written where nothing says */
    uint8_t when;
    enum leaf leaf;
    /* As in leaf_rule. "{l}" stands for the last segment of the layer's path, which must read
     * "l<number>" or "l<number>_reverse" and is no module of its own. */
    const char *name, *collection;
    const char *axes;
    const char *gates; /* letters of cell_gates, in stored order; "" where there is no G */
    const char *sums, *minus, *plus;
    /* The layer's name must have it, and its modules must hold nothing else: its tensors look like
     * other layers'. WORD_NONE: only the latter. NULL: neither. */
    const char *word;
};
struct spelling_rules {
    const struct leaf_rule *leaf;
    size_t n;
    const struct cell_rule *cell; /* may be NULL */
    size_t n_cells;
    const char *flat;  /* order of a flattened map: "(C S)" or "(S C)" */
    const char *patch; /* ... of a conv_local's window; NULL: there is no such layer */
    const char *param; /* collection of bare parameters and unknown leaves, "" = none */
    bool fuses_qkv;    /* attention is spelled fused where q, k and v read the same width */
    bool counts;       /* batch norms have a counter; 0 where the source has none */
    bool groups_up;    /* transposed convolutions may have groups */
    bool square_qkv;   /* heads * width must equal the embedding width */
    bool averages;     /* batch norms keep debiased averages: hidden, and a count of updates */
    /* Between the segments of a module's path, where that is not '.' ('/' in Haiku): the flat name
     * of a tensor is then [COLLECTION.]MODULE.LEAF, and `top` the module of what has none. */
    char join;
    const char *top;
    bool shell; /* what stands around a skeleton's weights (configs, lists of layers, states of
                   random generators) belongs to what is written into it */
    bool bare;  /* no collections where the model has no statistics */
    bool no_computed; /* buffers that are computed again have no place */
    bool no_tied;     /* a head that shares its weight has none of its own */
    bool whole;       /* norms of FORM_RMS_LESS are stored with the 1 added */
    /* A layer's path from its canonical one; NULL: they are the same. out->p == NULL: the framework
     * has no such layer. */
    enum status (*path)(const struct layers *l, struct str canonical, struct arena *a,
                        struct str *out, struct err *e);
};
/* NULL when the framework has no spelling for it. */
const struct leaf_rule *rules_find(const struct spelling_rules *r, enum layer_kind kind,
                                   uint8_t rank, uint8_t variant, enum leaf leaf);
/* Which of a layer's spellings it has; a table without it gives the only one it has. */
uint8_t rules_variant(const struct layer *l);
/* The layout of a rule for one layer, with F replaced as flat_c says, and a convolution's O and I
 * by "(C M)" and "1" where it is depthwise (depth_c). `of` NULL: as the table has it. */
MUSTCHECK enum status rules_axes(const struct spelling_rules *r, const struct leaf_rule *l,
                                 const struct layer *of, struct axes *out, char text[64],
                                 struct err *e);
/* i counts the rules of a cell's spelling; NULL past the last. */
const struct cell_rule *rules_cell(const struct spelling_rules *r, enum layer_kind kind,
                                   uint8_t variant, size_t i);
/* The variant to write for a layer of that path, where no skeleton says; false: none. */
bool rules_cell_variant(const struct spelling_rules *r, enum layer_kind kind, struct str path,
                        uint8_t *variant);
/* The layout of a cell's rule for layers of a spatial rank. */
MUSTCHECK enum status rules_cell_axes(const struct cell_rule *c, uint8_t rank, char text[64],
                                      struct err *e);
/* Does the path end in "l<number>[_reverse]", the layer of a module? */
bool path_in_stack(struct str path);
/* Which leaf a rule is about, of LEAF_IH_WEIGHT .. LEAF_HR_WEIGHT; the joined ones: two. */
size_t leaf_sides(enum leaf l, enum leaf side[2]);
/* Which leaves a fused leaf joins, in order; 0 for the others. */
size_t leaf_fuses(enum leaf l, enum leaf part[3]);
/* "conv1.weight" for path "conv1", leaf "weight"; either may be empty. A leaf with "{l}" takes the
 * path's last segment in its place. .p == NULL: no memory. */
struct str rules_name(struct arena *a, const char *collection, struct str path, const char *leaf);
/* The same in a framework's own way of joining. ST_CANNOT "name-not-spelled": a segment holds the
 * character that joins them. */
MUSTCHECK enum status rules_spell(struct arena *a, const struct spelling_rules *r,
                                  const char *collection, struct str path, const char *leaf,
                                  struct str *out, struct err *e);

/* Names that carry nothing the target needs; a drop of them is harmless. List in nnferry-map.5. */
bool rules_harmless_drop(struct str name);

#ifdef NNFERRY_MUTATE
/* Alters entry i of framework f's table (axes reversed, a flip removed, a fused order rotated; a
 * name of a one-axis leaf changed); -1 restores. Returns false when there is no such entry. */
bool rules_mutate(const struct framework *f, int i);
/* The same for its cells' rules; false too where the entry has nothing of that sort. */
enum cell_change { CELL_GATES, CELL_AXES, CELL_SUMS, CELL_MINUS, CELL_PLUS, CELL_CHANGES };
bool rules_mutate_cell(const struct framework *f, size_t i, enum cell_change what);
#endif
#endif
