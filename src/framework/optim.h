/* Optimizers: what each keeps for a parameter, and how each framework spells it, as tables. Read
 * from a model into one form (optim_state) that says no framework's names; written from there by
 * convert/map_train*.c. Sources:
 * torch/optim/{adam,adamw,sgd,rmsprop,adagrad,adadelta,adamax,nadam}.py; optax
 * _src/{transform,alias}.py; keras/src/optimizers; tf_keras/optimizers;
 * tensorflow/python/training.
 */
#ifndef FRAMEWORK_OPTIM_H
#define FRAMEWORK_OPTIM_H
#include "framework/framework.h"

/* Which optimizer; those that keep the same slots and count alike are one (Adam and AdamW). */
enum optim {
    OPTIM_NONE,
    OPTIM_SGD,
    OPTIM_ADAM,
    OPTIM_RMSPROP,
    OPTIM_ADAGRAD,
    OPTIM_LION,
    OPTIM_ADADELTA,
    OPTIM_ADAMAX,
    OPTIM_NADAM, /* Adam's slots, and a product of momenta beside them */
    OPTIMS
};
/* What is kept for one parameter, in the parameter's shape. */
enum slot {
    SLOT_MEAN,   /* running mean of gradients: exp_avg, mu, m */
    SLOT_SQUARE, /* ... of their squares, Adam's: exp_avg_sq, nu, v */
    SLOT_MAX,    /* amsgrad: the largest of the squares so far, raw */
    SLOT_TRACE,  /* sum of gradients that fades: momentum_buffer, trace, momentum */
    SLOT_POWER,  /* running mean of squares, RMSprop's: square_avg, nu, rms */
    SLOT_CENTER, /* RMSprop centered: grad_avg, mu, mg */
    SLOT_SUM,    /* Adagrad's sum of squares */
    SLOT_DELTA,  /* Adadelta's running mean of squared updates, beside SLOT_POWER */
    SLOT_NORM,   /* Adamax's fading maximum: exp_inf, u, optax's nu */
    SLOT_N
};
#define SLOT_BIT(s) (1u << (s))
/* How what an optimizer keeps lies in a checkpoint. */
enum optim_style {
    STYLE_NONE,
    STYLE_TORCH, /* OPT.state.NUMBER.SLOT beside OPT.param_groups */
    STYLE_OPTAX, /* CHAIN.SLOT.PARAMETER, a tuple of states */
    STYLE_KERAS, /* optimizer.vars.NUMBER */
    STYLE_NAMED, /* Keras 2: optimizer_weights.OPTIMIZER.SLOT.PARAMETER, or (TensorFlow 2)
                    PARAMETER.\.OPTIMIZER_SLOT.OPTIMIZER.SLOT */
    STYLE_TF1,   /* PARAMETER.SLOT, of tf.compat.v1.train */
    STYLES
};
const char *optim_name(enum optim k); /* "adam" */
const char *slot_name(enum slot s);   /* "mean" ... */
/* Is what stands there torch's times the learning rate (1), minus that (-1), or torch's (0)? */
int slot_rate(enum optim_style style, enum optim k, enum slot s);
/* Keras numbers the slots: blocks of slots, those of one block by turns for each variable. The i-th
 * block's; 0 behind the last. */
unsigned slot_block(enum optim k, unsigned slots, size_t i);
/* Which one Keras calls so: "adam", "rm_sprop_1"; NONE. */
enum optim optim_of_keras(struct str name);
/* Has it a place for the slot? */
bool optim_keeps(enum optim k, enum slot s);
/* Which moment it is: what a change of sign does to it. */
enum role slot_role(enum slot s);
/* The one that keeps exactly these slots; NONE. */
enum optim optim_of(unsigned slots);
/* Does its update read the number of steps? */
bool optim_counts(enum optim k);
/* Does the style keep that number per parameter all the same? */
bool optim_steps(enum optim_style style, enum optim k);
/* "exp_avg"; NULL: the style has no place for it. */
const char *slot_spelled(enum optim_style style, enum optim k, enum slot s);
/* Any optimizer's slot of that leaf. False: none. */
bool slot_parse(enum optim_style style, struct str leaf, enum slot *out);
enum optim_style optim_style_of(const struct framework *f);

/* optax: what the states of the usual chain hold, in order, as optax.NAME(number) makes it. */
struct optim_chain {
    enum optim kind;
    unsigned slots;
    bool decays;              /* AdamW's chain is longer than Adam's */
    const char *const *state; /* per state: its fields by names with blanks between; NULL ends */
};
const struct optim_chain *optim_chain_of(enum optim k, unsigned slots, bool decays);

/* Settings of a group of parameters, as torch names them. */
enum hyper_kind { HYPER_NONE, HYPER_BOOL, HYPER_FLOAT, HYPER_PAIR };
struct optim_hyper {
    const char *name;
    unsigned kinds; /* 1 << enum optim */
    enum hyper_kind what;
    uint64_t bits[2]; /* torch's default: IEEE double, or 0 and 1 */
    bool plain;       /* says how it is computed, not what */
};
extern const struct optim_hyper optim_hypers[];
extern const size_t n_optim_hypers;

/* ---- as read ---- */

/* A number in the checkpoint: an element of a tensor, a node of the tree, or neither. */
struct optim_number {
    int64_t tensor; /* -1 = none */
    const struct node *node;
};
static inline bool optim_told(struct optim_number n)
{
    return n.node || n.tensor >= 0;
}
struct optim_param {
    uint32_t param;              /* tensor of the model */
    int64_t slot[SLOT_N];        /* tensors; -1 = none */
    struct optim_number n;       /* updates made */
    struct optim_number product; /* torch's NAdam: its product of momenta */
    uint64_t number;             /* torch: its id */
    const struct node *group;    /* torch: its param_group, or NULL */
};
struct optim_state {
    enum optim_style style; /* NONE: nothing found, or nothing that is one optimizer's */
    enum optim kind;
    unsigned slots;            /* that any parameter has */
    struct str root;           /* of the names: "optimizer", "opt_state"; may be empty */
    struct optim_param *param; /* in the optimizer's order */
    size_t n;
    struct optim_number step;      /* of the training as a whole */
    struct optim_number rate;      /* Keras: the learning rate */
    struct optim_number *schedule; /* optax: counts that belong to no moment; torch: last_epoch */
    size_t n_schedules;
    struct optim_number product; /* Keras's Nadam: the same, one for all */
    bool nadam;                  /* what else looks like Adam's is Nadam's */
    struct optim_number scale;   /* a dynamic loss scale ... */
    struct optim_number good;    /* ... and the finite steps since it changed */
    unsigned scales;             /* how many of them there are; of two neither is told */
    int64_t *twin;               /* per tensor: one that must hold the same; or -1 */
    bool *idle;                  /* per tensor: such a one, or one that nothing reads */
    int64_t *of;                 /* per tensor of the model: its place in param, -1 = none */
    bool *mine;                  /* per tensor of the model: part of this state */
    const struct node *node;     /* the state in the model's tree; NULL */
    const struct node *dict;     /* torch: the state_dict its parameters stand in; NULL */
    struct str weights;          /* torch: names of that state_dict begin so ("model"), or empty */
    const char *unclear;         /* why there is none although there is something; or NULL */
};
/* Memory from the arena. */
MUSTCHECK enum status optim_read(const struct model *m, const struct framework *f, struct arena *a,
                                 struct optim_state *out, struct err *e);
/* Is this tensor of the model train state rather than a weight? */
bool optim_is_state(const struct tensor *t);
#endif
