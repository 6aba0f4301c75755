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
    uint8_t variant; /* 1: transpose_kernel=True; others: enum layer_form; 0: the usual one */
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
    bool bare;         /* no collections where the model has no statistics */
    bool no_computed;  /* buffers that are computed again have no place */
    bool no_tied;      /* a head that shares its weight has none of its own */
    /* A layer's path from its canonical one; NULL: they are the same. out->p == NULL: the framework
     * has no such layer. */
    enum status (*path)(const struct layers *l, struct str canonical, struct arena *a,
                        struct str *out, struct err *e);
};
/* The variant of a layer as the model has it: transpose_kernel=True, else its form. */
uint8_t layer_variant(const struct layer *l, enum layer_kind kind);
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

/* Names that carry nothing the target needs; a drop of them is harmless. List in nnferry-map.5. */
bool rules_harmless_drop(struct str name);

#ifdef NNFERRY_MUTATE
/* Alters entry i of framework f's table (axes reversed, a flip removed, a fused order rotated; a
 * name of a one-axis leaf changed); -1 restores. Returns false when there is no such entry. */
bool rules_mutate(const struct framework *f, int i);
#endif
#endif
