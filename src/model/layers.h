/* Layers: what groups of tensors mean. A framework recognises them in a model's names and shapes;
 * mapping and validation both start from this list, and share nothing else.
 */
#ifndef MODEL_LAYERS_H
#define MODEL_LAYERS_H
#include "model/model.h"

enum layer_kind {
    LAYER_NONE, /* tensors without a rule: kept as they are */
    LAYER_LINEAR,
    LAYER_CONV, /* rank = spatial axes 1..3; grouped and depthwise too */
    LAYER_CONV_TRANSPOSE,
    LAYER_CONV_LOCAL, /* a kernel of its own for each position; rank = spatial axes 1..3 */
    LAYER_BATCHNORM,
    LAYER_LAYERNORM,
    LAYER_GROUPNORM,
    LAYER_EMBEDDING,
    LAYER_ATTENTION, /* multi-head, split or fused */
    /* Cells: one direction of one recurrent layer. */
    LAYER_LSTM,
    LAYER_CONV_LSTM,  /* both products are convolutions; rank = spatial axes 1..3 */
    LAYER_GRU,        /* the reset gate scales what the recurrent weights gave (torch, CuDNN) */
    LAYER_GRU_BEFORE, /* ... scales the state before them: no other spelling of LAYER_GRU */
    LAYER_RNN,
    LAYER_PRELU, /* max(x, 0) + slope * min(x, 0) */
    LAYER_PARAM, /* a bare parameter (class token, position table, scale) */
    LAYER_KINDS
};
const char *layer_kind_name(enum layer_kind k); /* "linear" ... */
bool layer_kind_parse(struct str s, enum layer_kind *out);
#define KIND_BIT(k) (1u << (k))
#define KIND_CELLS                                                                                 \
    (KIND_BIT(LAYER_LSTM) | KIND_BIT(LAYER_CONV_LSTM) | KIND_BIT(LAYER_GRU) |                      \
     KIND_BIT(LAYER_GRU_BEFORE) | KIND_BIT(LAYER_RNN))
static inline bool kind_is_cell(enum layer_kind k)
{
    return (KIND_CELLS & KIND_BIT(k)) != 0;
}
#define GATES_MAX 4
/* The gates of a cell in canonical order, a letter each: "ifgo", "rzn", "h"; "" for no cell. */
const char *cell_gates(enum layer_kind k);

/* Leaf roles; a leaf is one tensor of a layer in the framework's own axes. */
enum leaf {
    LEAF_WEIGHT,
    LEAF_BIAS,
    LEAF_MEAN,
    LEAF_VAR,
    LEAF_COUNT, /* num_batches_tracked */
    /* Running averages that are debiased (average = hidden / (1 - decay^count)): MEAN and VAR are
     * what is read, these only let training go on. */
    LEAF_MEAN_HIDDEN,
    LEAF_VAR_HIDDEN,
    LEAF_MEAN_COUNT,
    LEAF_VAR_COUNT,
    LEAF_FIRST,   /* true until statistics are there */
    LEAF_UPDATES, /* MEAN and VAR are such hidden values themselves, after so many updates */
    LEAF_QKV_WEIGHT,
    LEAF_QKV_BIAS, /* fused, rows q then k then v */
    LEAF_Q_WEIGHT,
    LEAF_K_WEIGHT,
    LEAF_V_WEIGHT,
    LEAF_O_WEIGHT,
    LEAF_Q_BIAS,
    LEAF_K_BIAS,
    LEAF_V_BIAS,
    LEAF_O_BIAS,
    LEAF_VALUE, /* PARAM */
    /* Cells: input side, recurrent side, LSTM's projection of the state. */
    LEAF_IH_WEIGHT,
    LEAF_HH_WEIGHT,
    LEAF_IH_BIAS,
    LEAF_HH_BIAS,
    LEAF_HR_WEIGHT,
    LEAF_XH_WEIGHT, /* both weights in one tensor, input side first */
    LEAF_XH_BIAS,   /* both biases in one tensor */
    /* A tensor for each gate: GATES_MAX of each, in the order of the framework's rules. */
    LEAF_IH_WEIGHT_0,
    LEAF_HH_WEIGHT_0 = LEAF_IH_WEIGHT_0 + GATES_MAX,
    LEAF_IH_BIAS_0 = LEAF_HH_WEIGHT_0 + GATES_MAX,
    LEAF_HH_BIAS_0 = LEAF_IH_BIAS_0 + GATES_MAX,
    LEAF_N = LEAF_HH_BIAS_0 + GATES_MAX
};
const char *leaf_name(enum leaf l);

/* Stored forms of a kind that a framework has beside its usual one; the leaf tables have a row
 * where they differ. A table without the row has the usual form alone. */
enum layer_form {
    FORM_USUAL,
    FORM_INPUT_FIRST, /* linear: GPT-2's Conv1D, where a framework has one of its own */
    FORM_ROTARY,      /* linear: rows of heads whose pairs a rotary embedding turns */
    FORM_HEADS_QKV,   /* linear: rows of q, k and v head by head, where others have all q first */
    FORM_HEADS_OUT,   /* linear: what it gives has an axis for heads, in weight and bias ... */
    FORM_HEADS_IN,    /* ... or what it reads */
    FORM_RMS,         /* layernorm without bias, which some frameworks name otherwise */
    FORM_RMS_LESS,    /* ... whose weight is the factor less 1: Gemma */
    FORM_ONE,         /* prelu: one slope for all, where the usual has one for each channel */
    FORM_MAP,         /* prelu: one for each channel and position */
    FORM_TABLE,       /* embedding that is also read as a matrix, which some name otherwise */
    FORM_SCALAR,      /* parameter of one number, which some keep in an axis of extent 1 */
    FORM_AXES         /* linear: over several axes, see struct dense_axes */
};
bool leaf_parse(struct str s, enum leaf *out);
/* Bookkeeping of running statistics: computes nothing. */
static inline bool leaf_is_count(enum leaf l)
{
    return l >= LEAF_COUNT && l <= LEAF_UPDATES;
}

/* What a config beside the weights tells of a layer, in words that mean the same everywhere
 * (framework/defaults.h): 0 or empty where it tells nothing. */
struct said_at { /* where a config has a number: bytes of one of the model's attachments */
    uint32_t attachment, lo, n; /* n == 0: nowhere */
};
struct layer_settings {
    double epsilon;     /* norms: what is added to the variance, or to the mean of squares */
    double momentum;    /* batch norms: the share of a running average that an update keeps */
    struct str padding; /* convolutions: "none", "same", "causal" */
    struct str activation, gates; /* cells: of the new state, of the gates */
    struct str batch;             /* cells, attention: the axis, "first", "second" (after time) */
    bool strided, dilated;        /* a convolution whose stride, or dilation, is not 1 */
    struct said_at at_epsilon, at_momentum;
};
/* A function without weights that a config names and frameworks compute differently. */
struct function {
    struct str path;          /* of its layer, or the config's key */
    const char *of, *setting; /* "gelu", "form": framework/defaults.h */
    struct str means;
};

/* A linear layer over several axes: a letter for each axis of its weight. One axis alone on its
 * side is F (read) or O (given). */
#define DENSE_SIDE 8
struct dense_axes {
    char in[DENSE_SIDE + 1], out[DENSE_SIDE + 1]; /* as the flattened input and output have them */
    char weight[2 * DENSE_SIDE + 1];              /* as stored */
    char bias[2 * DENSE_SIDE + 1]; /* as stored; '1' is an axis of extent 1, which has no letter */
    bool moves; /* its axes are not the last of what it reads, or gives, in that order */
};

struct layer {
    enum layer_kind kind; /* LAYER_NONE while undecided */
    unsigned kinds;  /* KIND_BIT set of the kinds that names and shapes allow; several = undecided,
                        leaves lie in LEAF_WEIGHT, LEAF_BIAS; 0 = no rule knows it */
    struct str path; /* the source's own path of the layer, flat text ("" = top) */
    int64_t tensor[LEAF_N]; /* tensor index in the model, -1 = absent */
    uint8_t rank;    /* spatial rank of convolutions, and of conv_lstm; axes of extent 1 before the
                        channels in    the tensors of a batch norm that keeps them, axes of a prelu's
                        input    without the batch, 0 = not known */
    uint64_t groups; /* convolution groups; 0 = not known from the weights */
    uint64_t heads;  /* attention heads; conv_local of two spatial axes: rows of positions; 0 = not
                        known */
    /* Linear (or norm) after flatten: channels of the flattened map, 0 = none or not known. The
     * spatial extents need not be known: channels first and channels last differ only in where C
     * stands, the order of the positions is one and the same. Of a conv_local: channels of the
     * window that a position reads. */
    uint64_t flat_c;
    bool flat_said; /* a rule or a config told flat_c, 0 meaning: no flattened map */
    /* Depthwise convolution whose kernel stands by channels, [k.., C, m]: C. 0 = any other. */
    uint64_t depth_c;
    uint8_t form;                   /* enum layer_form */
    const struct dense_axes *dense; /* of FORM_AXES; NULL: any other */
    /* Kernel of several axes that may be a linear layer's: which it reads, the first, and which it
     * gives nothing here tells. dense is not known then. */
    bool split_open;
    uint32_t place; /* among the layers of a config, from 1; 0 = not told */
    struct layer_settings said;
    bool computed;     /* buffer that its own framework computes again: others have no place */
    bool again;        /* a second copy in the file of a tensor that is another layer's */
    bool tied;         /* its weight is another layer's too, and frameworks may leave it out */
    bool flip;         /* transposed convolution whose kernel is stored flipped against torch */
    uint8_t variant;   /* cells: which of the framework's spellings */
    bool by_name;      /* kind told by the names alone */
    struct str reason; /* why this kind: printed by inspect and convert */
};
struct family; /* framework/family.h */
struct layers {
    struct layer *layer; /* from the arena given */
    size_t n;
    /* Cells that some of these layers may be, whose tensors look like theirs; no layers
     * yet. kinds 0: settled, one way or the other. */
    struct layer *maybe;
    size_t n_maybe;
    bool placed;                 /* they stand as a config has them: layers_by_place */
    const char *framework;       /* who recognised them */
    const struct family *family; /* of Hugging Face's models, NULL = none known */
    bool family_sure;            /* told by the container, not by names alone */
    struct function *function;   /* told by a config */
    size_t n_functions;
};
#endif
