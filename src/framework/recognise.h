/* What the recognisers share: tensors sorted into modules (a path and its leaves), and what words
 * in a name say about a layer's kind.
 */
#ifndef FRAMEWORK_RECOGNISE_H
#define FRAMEWORK_RECOGNISE_H
#include "framework/framework.h"

/* One weight-like tensor, its name taken apart: [collection.]path.leaf */
struct member {
    uint32_t tensor;
    struct str collection, path, leaf;
    bool taken; /* already belongs to a layer */
};
struct module {
    struct str path;
    uint32_t first, n; /* members, sorted by leaf name */
};
struct modules {
    const struct model *m;
    struct member *member;
    size_t n_members;
    struct module *module; /* sorted by path */
    size_t n;
};
/* Takes a name apart; false leaves the tensor out (not a weight). */
typedef bool name_cut(const struct model *m, size_t t, struct member *out);
/* The usual one: weights, the name's last part is the leaf. */
bool weight_cut(const struct model *m, size_t t, struct member *out);
MUSTCHECK enum status modules_build(const struct model *m, name_cut *cut, struct arena *a,
                                    struct modules *out, struct err *e);
/* Sorts the members again and groups them, for a recogniser that has changed their paths. */
void modules_group(struct modules *ms);
struct module *module_at(const struct modules *ms, struct str path); /* NULL when absent */
/* Child of a path by its segment; NULL when absent. The path text comes from the arena. */
struct module *module_child(const struct modules *ms, struct str path, const char *child,
                            struct arena *a);
int64_t module_leaf(const struct modules *ms, const struct module *mod,
                    const char *leaf); /* tensor index or -1 */
/* ... the tensor, NULL when absent */
const struct tensor *module_tensor(const struct modules *ms, const struct module *mod,
                                   const char *leaf);
void module_take(struct modules *ms, const struct module *mod, const char *leaf);
/* The module's leaf of that name, where it has one, is the layer's. */
void layer_claim(struct modules *ms, struct layer *l, enum leaf leaf, const struct module *mod,
                 const char *name);

/* Cuts flat text at its last separator (escapes respected); parent is empty without one. */
void name_tail(struct str name, struct str *parent, struct str *leaf);
/* First segment off *rest; false when used up. */
bool name_head(struct str *rest, struct str *seg);

/* Words a segment consists of: lower case, cut at '_', '-', case changes and digits. */
#define WORD_MAX 32
struct words {
    char word[WORD_MAX][24];
    size_t n;
};
void words_of(struct str segment, struct words *out);

/* What the module's own name says (the last segment that is not a number, else the one before):
 * KIND_BIT set, 0 = nothing. Never looks at shapes. */
unsigned name_kinds(struct str path);
/* Does that segment say that a layer is locally connected ("local1", "locally_connected2d")? */
bool name_is_local(struct str path);
/* Has a bias a value for each of the first `positions` extents of a kernel, by its last one? */
bool bias_by_position(const struct tensor *w, const struct tensor *b, size_t positions);
/* ... of some kinds alone: "conv_head" with three axes or more is a convolution. */
unsigned name_kinds_of(struct str path, unsigned kinds);
/* That segment; of "net.score.0" the score. */
struct str name_own(struct str path);

/* Growing list of layers, finished by layers_done: leftover members become LAYER_PARAM, layers are
 * sorted by the smallest order of their tensors. */
struct layer_list {
    struct layer *layer;
    size_t n, cap;
    size_t most; /* layers expected: room for so many is made at once */
    struct arena *a;
    struct layer_list *maybe; /* struct layers' maybe; NULL: none */
};
struct layer *layer_add(struct layer_list *l, enum layer_kind kind, struct str path,
                        struct str reason); /* NULL: no memory */
void layer_decide(struct layer *l, enum layer_kind kind);
void layer_open(struct layer *l, unsigned kinds); /* undecided between kinds */
MUSTCHECK enum status layers_done(struct layer_list *l, struct modules *ms, const char *framework,
                                  struct layers *out, struct err *e);
/* Sorts them as a config has them, where it tells the place of all. */
MUSTCHECK enum status layers_by_place(struct layers *l, struct arena *a, struct err *e);

/* Recurrent cells, by the framework's own rules: a group of tensors that has the names of one
 * kind's weights, all of them, in shapes that go together, and nothing else in their modules. To be
 * called before what would take the tensors one by one. Where shapes leave several kinds, it stays
 * open. Where a rule wants a word that the name lacks, or other modules stand beside the cell's
 * own, its tensors stay with other layers and the cell becomes one of list->maybe. */
MUSTCHECK enum status cells_recognise(const struct spelling_rules *r, struct modules *ms,
                                      struct layer_list *list, struct err *e);
/* Extents of a cell by letter: O, I, R, and G as 1. False where the tensors do not go together as
 * that kind. */
struct axes_size;
bool cell_learn(const struct model *m, const struct spelling_rules *r, const struct layer *l,
                enum layer_kind kind, struct axes_size *size);
/* Does the name end as a cell's recurrent weight does ("weight_hh_l0")? For bids. */
bool cell_named(const struct spelling_rules *r, struct str name);

/* Recogniser of torch-like spellings (weight, bias, running_mean ...): pytorch and canonical. */
struct torch_style {
    const char *framework;
    bool split_attention;               /* children q, k, v, o are one attention layer */
    bool bilinear;                      /* there is nn.Bilinear, [out,in1,in2] */
    bool conv1d;                        /* GPT-2's Conv1D may stand there as it is, [in,out] */
    const struct spelling_rules *rules; /* for its cells */
    name_cut *cut;                      /* NULL: state_dict names */
    /* What is recognised before the rest; NULL = nothing. */
    enum status (*first)(struct modules *ms, struct layer_list *list, struct err *e);
};
bool torch_cut(const struct model *m, size_t t, struct member *out); /* a name_cut */
MUSTCHECK enum status torch_layers(const struct torch_style *style, const struct model *m,
                                   struct arena *a, struct layers *out, struct err *e);

/* Recogniser of Flax's spellings (kernel, scale, embedding ...): flax and nnx. */
struct flax_style {
    const char *framework;
    name_cut *cut;
    const struct spelling_rules *rules; /* for its cells */
};
MUSTCHECK enum status flax_layers(const struct flax_style *style, const struct model *m,
                                  struct arena *a, struct layers *out, struct err *e);
#endif
