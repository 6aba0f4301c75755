/* Inside mapping: the state shared by map*.c. Not for others.
 *
 * A mapping makes a list of target tensors ("made"). Each is a join, along its first axis, of
 * "takes": one source tensor (or a run of its rows), carried from the source's layout to the
 * canonical one and on to the target's. The plan's recipes, the moments' recipes and the inverse
 * kept in archives all come from this one list.
 */
#ifndef CONVERT_MAP_INT_H
#define CONVERT_MAP_INT_H
#include "convert/map.h"
#include "framework/match.h"
#include "framework/rules.h"

#define AXES_TEXT 64
#define AXES_KEPT 16
#define CUTS 2
struct cut {
    uint8_t axis;
    uint64_t lo, hi;
};
struct take {
    uint32_t src;
    uint8_t part, n_parts; /* rows [part, part+1) of n_parts equal runs of axis 0; 0 = all */
    /* layouts: source's, canonical's, target's; empty = the tensor as it is */
    const char *src_axes, *can_axes, *dst_axes;
    const char *out_axes;         /* canonical's as dst_axes meets it; NULL: can_axes */
    uint64_t heads, flat_c;       /* extents that shapes do not tell; 0 = not known */
    const struct axes_size *size; /* ... from a rules file; may be NULL */
    bool zero; /* zeros of that shape: what it stands for is missing in the source */
    /* Cells. Cuts are boxes of the source's stored axes, taken before the layouts; a placed take
     * lands where at[] says (0 along other axes), the others are joined along axis 0 in order. */
    struct cut cut[CUTS], at[CUTS]; /* of at, only axis and lo */
    uint8_t n_cuts, n_at;
    bool placed;
    /* Values, in this order: the sign changed, a number added, another take's values added. */
    bool neg;
    int8_t offset;
    bool wide;      /* what the source has narrower becomes float32 before */
    uint64_t scale; /* IEEE double, 0 = none: moments that hold a learning rate; after the rest */
    const struct take *plus;
    /* zero: this number instead of 0, of shape fill_dim; no loss, since the source means it */
    int8_t fill;
    uint8_t n_fill_dims;
    const uint64_t *fill_dim;
    bool harmless;
    bool twin; /* ... because the other bias holds the sum: src is that one's */
};
struct made {
    struct str name;
    enum role role; /* of a synthesis; else ROLE_PARAMETER = the source's */
    struct take *take;
    size_t n_takes;   /* 0: a synthesis */
    enum dtype dtype; /* a synthesis': before --dtype; of others: DT_NONE, or cast to this */
    uint8_t n_dims;   /* synthesis only */
    const uint64_t *dim;
    uint8_t fill[16];
    bool harmless;      /* synthesis a rule allows */
    bool copy;          /* of a tensor that goes elsewhere too, or will change: shares nothing */
    struct str why;     /* may lie in mapping.tmp; of a synthesis, which the ledger keeps, not */
    int64_t of;         /* moments: index in mapping.made of the parameter, -1 = none */
    struct str of_name; /* restoring: its name */
    uint64_t order;
    bool has_order;
};

enum rule_what {
    RULE_PAIR,
    RULE_KIND,
    RULE_FLATTEN,
    RULE_HEADS,
    RULE_RANK,
    RULE_POSITIONS,
    RULE_STACK,   /* of the source */
    RULE_RESTACK, /* of the skeleton */
    RULE_LEAF,
    RULE_DROP,
    RULE_SYNTH
};
struct map_rule {
    enum rule_what what;
    struct str src, dst; /* patterns; src of DROP, KIND ..., dst of SYNTH */
    enum layer_kind kind;
    int8_t axis;                /* of blocks that are stacked; negative: from the end */
    bool has_kind, kept_kernel; /* kept_kernel: conv_transpose with transpose_kernel=True */
    uint64_t number;            /* heads; channels (0 = none); rows; SYNTH: 0 or 1 */
    struct str from_axes, to_axes;
    struct axes_size *size;
    size_t line;
    size_t n_used;
};
struct map_rules {
    struct map_rule *rule;
    size_t n;
    uint32_t *exact, *pattern; /* rules whose src is a name, by it; the others, in order */
    size_t n_exact, n_pattern;
};

/* Per source tensor: a weight of eight bits has a scale, and a scale a weight; -1 = none. */
struct scaled {
    int64_t scale, weight;
    bool applied; /* a weight whose scale is multiplied in */
};

/* A number of the skeleton's config that is written as the source's. */
struct patch {
    struct said_at at;
    struct str text;
};

struct train;  /* train.h */
struct around; /* map_around.c */
struct concat; /* map_concat.c */
struct mapping {
    struct plan *p;
    const struct map_opt *o;
    const struct format *target; /* may be NULL: a target that keeps everything */
    const struct model *src;
    const struct framework *from, *to;
    struct arena *a;   /* the target model's: names and texts that stay */
    struct arena *tmp; /* what only mapping needs; nothing in the plan points into it */
    struct map_rules rules;
    struct layers sl;
    bool *in;          /* per source tensor: selected */
    bool *used;        /* ... read by a take */
    bool *dropped;     /* ... its drop is in the ledger */
    struct made *made; /* from mem, freed when mapping is done */
    size_t n_made, cap_made;
    /* per source tensor: why a part of it is left behind; NULL until one is */
    struct left {
        const char *why;
        bool harmless;
    } * left;
    size_t cap_reasons, cap_lines, cap_notes;
    const char *axes[AXES_KEPT]; /* texts that takes share, the last ones met */
    size_t n_axes;
    struct train *train;   /* map_train.c: of one optimizer, spelled anew; NULL */
    struct around *around; /* map_around.c; NULL before it is asked for */
    struct concat *concat; /* map_concat.c, likewise */
    struct str cut, put;   /* a layer's path loses cut where it begins so, then gets put before */
    struct offer *offer;   /* map_layer.c: of one layer at a time */
    const struct model *leaves;  /* the skeleton, where it has leaves without names; NULL */
    bool leaves_named;           /* src is a copy of a source whose leaves had numbers */
    bool stats_known, has_stats; /* are there running statistics? (rules' `bare`) */
    bool respelled;              /* layers were spelled anew, or as before they were canonical */
    bool keep_tree;              /* the target carries the source's tree as it is */
    struct node *tree;           /* restored from the spelling */
    struct str framework;        /* ... its framework */
    struct buf *help;            /* rules file to complete */
    struct scaled *scale;        /* map_scale.c; NULL: no scales */
    struct patch *patch;         /* map_notes.c */
    size_t n_patches, cap_patches;
    struct buf told;    /* map_notes.c: settings of layers, for the target's key-values */
    const char *origin; /* ... the framework that spelled the weights; NULL = not asked */
    size_t n_open;      /* questions in it */
    struct str open_1;  /* the first, for the error line */
    size_t n_lost;      /* ledger lines that are neither harmless nor allowed */
    struct str lost_1;
};

/* map.c */
/* Has --upgrade given tensors other names? The source's tree has the old ones then. */
bool map_renamed(const struct mapping *m);
/* The name that source tensor i had before. */
struct str map_old_name(const struct mapping *m, size_t i);
/* Has it left tensors out? The source's tree cannot come back then. */
bool map_upgrade_lost(const struct mapping *m);
/* Room for one more in a list of n that grows in an arena; NULL: no memory. */
void *map_grown(struct arena *a, void *p, size_t n, size_t *cap, size_t size);
MUSTCHECK enum status map_reason(struct mapping *m, uint32_t made, struct str text, struct err *e);
/* A note on a layer; its texts live as long as the plan. */
MUSTCHECK enum status map_note(struct mapping *m, const struct plan_note *note, struct err *e);
/* Appends a zeroed made tensor. */
MUSTCHECK enum status map_made(struct mapping *m, size_t n_takes, struct made **out, struct err *e);
/* A text of axes (below AXES_TEXT bytes), kept once for the takes that share it. NULL: no memory.
 */
const char *map_axes(struct mapping *m, const char *text);
bool glob_any(const char *const *globs, struct str name);
/* Source tensor i takes no part, and the ledger says so; nothing is lost without being asked. */
MUSTCHECK enum status map_drop(struct mapping *m, size_t i, const char *why, struct err *e);
/* m->sl without the tensors that do not take part. */
void map_thin(struct mapping *m);

/* map_ledger.c */
/* A ledger line; counts it as lost unless harmless or allowed by an option. */
MUSTCHECK enum status map_ledger(struct mapping *m, enum ledger_kind kind, struct str name,
                                 uint64_t n_elems, bool harmless, struct str why, struct err *e);
/* The same of something that is no tensor, with its bytes; only drops. */
MUSTCHECK enum status map_ledger_drop(struct mapping *m, enum ledger_what what, struct str name,
                                      uint64_t n_bytes, bool harmless, struct str why,
                                      struct err *e);
/* Two names that were one tensor, written in full under each: harmless, no number is lost. */
MUSTCHECK enum status map_ledger_tie(struct mapping *m, struct str name, struct str of,
                                     struct err *e);
/* Roles that a skeleton has tensors of, a bit each; like may be NULL. */
unsigned map_roles(const struct model *like);
/* Does what stands beside the weights stay behind? TensorFlow's count of its checkpoints, which
 * loaders elsewhere do not know; what may go, where a skeleton has no place for it. */
bool map_not_wanted(const struct mapping *m, const struct tensor *t, bool has_place);
/* A question that only a rules file settles: one line of it, with a comment before. */
void map_ask(struct mapping *m, const char *comment, struct str line);
/* before "name" after, as a line of a rules file: '?' stands for bytes that would break the line or
 * are patterns. .p == NULL: no memory. */
struct str map_line(struct mapping *m, const char *before, struct str name, const char *after);
/* Does a tensor share all it has with another one of the model (a tied head)? */
bool map_shared(const struct model *m, size_t t);
/* What travels along. Attachments and key-values that the target does not keep leave
 * the plan and stand in the ledger, as harmless: no number lies in them. After everything else. */
MUSTCHECK enum status map_aside(struct mapping *m, struct err *e);

/* map_notes.c: where the target's defaults are not the source's. t: the skeleton's layer, or NULL.
 */
MUSTCHECK enum status map_notes(struct mapping *m, const struct layer *l, const struct layer *t,
                                struct err *e);
MUSTCHECK enum status map_notes_functions(struct mapping *m, struct err *e);
/* What a config told of a layer, as key-value of the target: told layer by layer (path: the
 * target's), added at the end, read again into m->sl. */
void map_tell(struct mapping *m, struct str path, const struct layer *l);
MUSTCHECK enum status map_told(struct mapping *m, struct err *e);
MUSTCHECK enum status map_told_read(struct mapping *m, struct err *e);
bool map_is_settings(struct str key);
/* The framework that spelled the weights: of an archive the one before it. */
const char *map_origin(struct mapping *m);
/* The skeleton's attachment with the numbers that are the source's; as it is where none is. */
MUSTCHECK enum status map_patched(struct mapping *m, size_t index, struct attachment *a,
                                  struct err *e);

/* map_scale.c: scales of weights of eight bits. Found once it is known which tensors take part;
 * applied to what was made, before it is put; then a part's ops, up to float32 (*scaled). */
MUSTCHECK enum status map_scales(struct mapping *m, struct err *e);
MUSTCHECK enum status map_scales_apply(struct mapping *m, struct err *e);
MUSTCHECK enum status map_scale_op(struct mapping *m, const struct take *k, struct part *q,
                                   enum dtype to, bool *scaled, struct err *e);
bool map_is_scale(const struct mapping *m, const struct made *d);
/* The element type that --dtype gives a tensor: its name, role and shape are the target's. */
MUSTCHECK enum status map_dtype(struct mapping *m, const struct tensor *t, enum dtype have,
                                enum dtype *out, struct err *e);

/* map_put.c: recipes of all that was made, and the ledger of what was not taken. */
MUSTCHECK enum status map_put(struct mapping *m, struct err *e);
/* ST_CANNOT name-taken. */
MUSTCHECK enum status map_not_twice(struct mapping *m, struct err *e);

/* map_rules.c */
MUSTCHECK enum status map_rules_parse(struct mapping *m, struct err *e);
/* The last rule of a kind whose pattern fits; NULL when none. Counts it as used. */
struct map_rule *map_rule_for(struct mapping *m, enum rule_what what, struct str name);
/* Does its name stand for several? */
bool map_rule_is_pattern(const struct map_rule *r);
/* Is there one of just this name, and no pattern? Does not count it. */
bool map_rule_exact(struct mapping *m, enum rule_what what, struct str name);
/* Pattern with {name} captures and globs; expands dst with what src caught. */
bool map_capture(struct str pattern, struct str name, struct str dst, struct arena *a,
                 struct str *out);
/* What a rule makes of a name that its pattern fits. */
MUSTCHECK enum status map_captured(struct mapping *m, const struct map_rule *r, struct str name,
                                   struct str *out, struct err *e);
MUSTCHECK enum status map_rules_used(struct mapping *m, struct err *e);

/* map_layer.c: one source layer, spelled in the target. skel: the layer of the skeleton it was
 * matched with, or NULL. */
struct skeleton {
    const struct model *m;
    struct layers layers;
    bool *filled; /* per tensor */
};
/* Settles kinds, heads, flatten from rules; to be called once before matching. */
MUSTCHECK enum status map_settle(struct mapping *m, struct err *e);
MUSTCHECK enum status map_layer(struct mapping *m, const struct layer *l, struct skeleton *sk,
                                const struct layer *t, struct err *e);
/* Layers whose kind is open: settled where every kind gives the same, kept as they came in an
 * archive, asked about elsewhere. */
MUSTCHECK enum status map_open(struct mapping *m, struct err *e);
/* map_pairs.c: pairs of single tensors that a rules file makes; they leave their layers. sk may be
 * NULL. */
MUSTCHECK enum status map_pairs(struct mapping *m, struct skeleton *sk, struct err *e);
/* The target's path of a layer: as a rule says, else as its framework has it, in the target's
 * state_dict instead of the source's; .p == NULL: it has none. */
MUSTCHECK enum status map_path_of(struct mapping *m, struct str path, struct str *out,
                                  struct err *e);
/* A cell: gates put in the target's order, biases summed or parted (map_cell.c). */
MUSTCHECK enum status map_cell(struct mapping *m, const struct layer *l, struct skeleton *sk,
                               const struct layer *t, struct err *e);
/* What a source tensor's elements that no take reads are left behind for. */
MUSTCHECK enum status map_left(struct mapping *m, uint32_t src, const char *why, bool harmless,
                               struct err *e);
/* Does a take change no value? */
bool take_is_plain(const struct take *k);
/* What a moment does with its parameter's take: signs of first moments change with it, of second
 * ones not; what is added to a parameter is not added to its moments; a sum's moment is that of
 * either part, whose gradients are one and the same. Averaged copies are as their parameter. */
void take_ride(struct take *k, enum role role);
/* The value 1 in a dtype, little-endian. */
MUSTCHECK enum status map_one(enum dtype t, uint8_t out[16], struct err *e);
/* An average that has been updated so often is not debiased any more: an int32, little-endian. */
void map_many(uint8_t out[16]);
/* The element of a tensor without axes, little-endian. ST_CANNOT like-value. */
MUSTCHECK enum status map_value(const struct model *like, const struct tensor *t, uint8_t out[16],
                                struct err *e);
/* The value of a small integer, or boolean, without axes; false where it cannot be read as one. */
bool map_scalar(const struct model *md, const struct tensor *t, uint64_t *out);
/* Does a take carry its source tensor as it lies? */
bool take_is_whole(const struct take *k);
/* The view of a take on source tensor t (take->src, or a moment of it). */
MUSTCHECK enum status take_view(const struct model *src, const struct take *k, uint32_t t,
                                struct view *out, struct err *e);
/* ... on any view that has that tensor's shape. */
MUSTCHECK enum status take_turn(const struct take *k, struct view *v, struct str name,
                                struct err *e);

/* map_dense.c: linear layers over several axes. What a layer's tensors go through: *target gets the
 * axes that the skeleton's layer t has, under letters of their own, and *size the extents of all;
 * NULL where neither side has such axes. ST_CANNOT "dense-flatten". */
MUSTCHECK enum status map_dense(struct mapping *m, const struct layer *l, const struct skeleton *sk,
                                const struct layer *t, struct layer *target,
                                const struct axes_size **size, struct err *e);

/* map_flat.c: which dense layers and norms read a flattened map. */
MUSTCHECK enum status map_flatten(struct mapping *m, struct err *e);
/* What the rules file says of it, and nothing else. */
MUSTCHECK enum status map_flatten_ruled(struct mapping *m, struct layer *l, bool *said,
                                        struct err *e);

/* Rows of positions of a conv_local of two spatial axes; 0 = not known. */
uint64_t map_rows(const struct model *md, const struct spelling_rules *r, const struct layer *l);

/* Extent of a canonical axis letter of a leaf; 0 = unknown. */
uint64_t map_extent(const struct mapping *m, const struct layer *l, enum layer_kind kind,
                    enum leaf lf, char letter);
/* Channels a convolution gives; up to two, where its kind is open. */
size_t map_channels(const struct mapping *m, const struct layer *l, uint64_t c[2]);
bool map_may_be(const struct layer *l, enum layer_kind k);
bool map_is_norm(enum layer_kind k);

/* map_around.c: what stands around a layer of m->sl, which l and o point into. look_around sorts
 * it all, anew where the layers have changed; the others ask. */
MUSTCHECK enum status map_look_around(struct mapping *m, struct err *e);
/* Does this layer give exactly n values, or channels? Any layer but
 * one, that does not itself live on what that one gives? */
bool map_gives(const struct mapping *m, const struct layer *o, uint64_t n);
bool map_given(const struct mapping *m, const struct layer *but, uint64_t n);
/* May n be a flattened map of some convolution, larger than one position? */
bool map_flattens(const struct mapping *m, uint64_t n);
/* The layers that give n, and the convolutions that read n; out: room for six of each layer. A
 * layer may stand there twice. */
size_t map_beside(const struct mapping *m, uint64_t n, uint32_t *out);
/* What numbers in names say of the layers before l: the one directly before (norms passed over) and
 * the nearest convolution. False when they do not order the layers around l. */
bool map_before(const struct mapping *m, const struct layer *l, const struct layer **prev,
                const struct layer **conv);

/* map_concat.c: channels put side by side, of m->sl, learnt once. Is n a number of channels, for
 * this norm or dense layer, though no layer gives it? */
MUSTCHECK enum status map_concat_learn(struct mapping *m, struct err *e);
bool map_concat(const struct mapping *m, const struct layer *l, uint64_t n);

/* map_rank.c: how many axes batch norms and PReLUs read, where the target's spelling depends on it:
 * from the layers whose channels they may have. What stays open is asked about by map_layer. */
MUSTCHECK enum status map_rank(struct mapping *m, struct err *e);
/* Does a spelling of the layer depend on it? */
bool map_needs_rank(const struct spelling_rules *r, const struct layer *l);

/* map_like.c: the source's layers meet the skeleton's. m->sl and sk.layers are given. */
struct meeting {
    struct mapping *m;
    struct skeleton sk;
    struct match_item *s, *t;
    size_t *s_layer, *t_layer; /* layer of each item */
    size_t n_s, n_t;
};
/* Hash of a layer's canonical leaves and shapes under one kind; false when they do not fit it. */
bool map_signature(const struct model *md, const struct spelling_rules *r, const struct layer *l,
                   enum layer_kind kind, uint64_t *out);
/* Hash of a bare parameter's shape; axes of extent 1 do not count. */
uint64_t map_bare_shape(const struct tensor *t);
/* map_dense.c: kernels of several axes whose inputs only the other side's dense layers tell. */
MUSTCHECK enum status map_dense_settle(struct meeting *w, struct err *e);
/* Fills the items and matches them. may: layers that options allow to miss and that fit nothing
 * stay outside. */
MUSTCHECK enum status map_meet(struct meeting *w, bool may, struct err *e);
/* KIND_BIT set of what a pair may be on both sides. */
unsigned map_common(const struct meeting *w, size_t i);
/* The kind when there is one, or when the difference moves no number; else LAYER_NONE. */
enum layer_kind map_one_kind(unsigned kinds);
MUSTCHECK enum status map_like(struct mapping *m, struct err *e);

/* map_maybe.c: cells that look like other layers (struct layers' maybe), of m->sl or the skeleton.
 * Ruled: what the rules file says. Without a skeleton, what sounds like one is asked about and the
 * others are noted. */
MUSTCHECK enum status map_maybe_ruled(struct mapping *m, const struct model *md, struct layers *l,
                                      struct err *e);
MUSTCHECK enum status map_maybe(struct mapping *m, struct skeleton *sk, struct err *e);
MUSTCHECK enum status map_maybe_alone(struct mapping *m, struct err *e);

/* map_leaves.c: a skeleton that has no names, only an order. Renames the tensors of the plan that
 * is made to the leaves' numbers, and adds the numbers that only the skeleton has. ST_CANNOT
 * map-ambiguous with the candidates asked about; map-pair, like-dtype, like-value. */
bool map_is_leaves(const struct model *like);
MUSTCHECK enum status map_leaves(struct mapping *m, const struct model *like, struct err *e);
/* Names for leaves without any, per leaf of `leaves`; those that are given stay. `spelled` is a
 * model that Equinox spells, made from `origin`, whose order counts. What stays open is asked
 * about. */
MUSTCHECK enum status map_leaf_names(struct mapping *m, const struct model *spelled,
                                     const struct model *origin, const struct model *leaves,
                                     struct str *name, struct err *e);

/* Names for the leaves of an optimizer's state, as optax's chain has them, from those of the
 * model's leaves; those that are given stay. */
MUSTCHECK enum status map_state_leaves(struct mapping *m, const struct model *leaves,
                                       struct str *name, struct err *e);

/* map_names.c: a source of Equinox's leaves gets their names, from lines `leaf N = NAME` and from
 * the skeleton; m->src is then a copy that has them. */
MUSTCHECK enum status map_names(struct mapping *m, struct err *e);

/* map_train.c: what an optimizer keeps is spelled as the target's framework does, its moments by
 * their parameters' recipes; other train state keeps its names. begin: before layers are mapped. */
MUSTCHECK enum status map_train_begin(struct mapping *m, struct err *e);
MUSTCHECK enum status map_train(struct mapping *m, struct err *e);
/* The target's tree around it, once the plan's tensors stand; nothing without m->train. */
MUSTCHECK enum status map_train_tree(struct mapping *m, struct err *e);
/* Is this node of the source's tree accounted for by the train state? */
bool map_train_has(const struct mapping *m, const struct node *n);

/* map_tree.c: the structure around the tensors; what the target cannot hold goes to the ledger. */
MUSTCHECK enum status map_tree(struct mapping *m, struct err *e);

/* map_spelling.c: the inverse kept with a canonical archive, as the plan's spelling. */
MUSTCHECK enum status spelling_write(struct mapping *m, struct err *e);
MUSTCHECK enum status spelling_restore(struct mapping *m, struct err *e);
#endif
