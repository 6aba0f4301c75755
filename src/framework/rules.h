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

struct leaf_rule {
    enum layer_kind kind;
    uint8_t rank;    /* spatial rank of convolutions; 0 = any */
    uint8_t variant; /* 1: the layer's other spelling (transpose_kernel=True) */
    enum leaf leaf;
    const char *name;       /* below the layer's path: "weight", "query.kernel" */
    const char *collection; /* "params", "batch_stats", or "" */
    /* Layout. 'F' is an axis that may be a flattened map: it is read as "(C S)" or "(S C)". Fused
     * leaves (LEAF_QKV_*) give the layout of one part; parts are joined along axis 0. */
    const char *axes;
};
struct spelling_rules {
    const struct leaf_rule *leaf;
    size_t n;
    const char *flat;  /* order of a flattened map: "(C S)" or "(S C)" */
    const char *param; /* collection of bare parameters and unknown leaves, "" = none */
    bool fuses_qkv;    /* attention is spelled fused where q, k and v read the same width */
    bool counts;       /* batch norms have a counter; 0 where the source has none */
    bool square_qkv;   /* heads * width must equal the embedding width */
    bool averages;     /* batch norms keep debiased averages: hidden, and a count of updates */
    /* Between the segments of a module's path, where that is not '.' ('/' in Haiku): the flat name
     * of a tensor is then [COLLECTION.]MODULE.LEAF, and `top` the module of what has none. */
    char join;
    const char *top;
};
/* NULL when the framework has no spelling for it. */
const struct leaf_rule *rules_find(const struct spelling_rules *r, enum layer_kind kind,
                                   uint8_t rank, uint8_t variant, enum leaf leaf);
/* The layout of a rule for one layer, with F replaced as flat_c says. */
MUSTCHECK enum status rules_axes(const struct spelling_rules *r, const struct leaf_rule *l,
                                 uint64_t flat_c, struct axes *out, char text[64], struct err *e);
/* Which leaves a fused leaf joins, in order; 0 for the others. */
size_t leaf_fuses(enum leaf l, enum leaf part[3]);
/* "conv1.weight" for path "conv1", leaf "weight"; either may be empty. .p == NULL: no memory. */
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
#endif
#endif
