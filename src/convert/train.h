/* Inside mapping: one optimizer's state on its way from the source's spelling to the target's.
 * map_train.c decides what goes where, train_number.c reads counts and makes them, train_torch.c
 * and train_optax.c spell it, train_tree.c puts the target's structure around it. Not for others.
 */
#ifndef CONVERT_TRAIN_H
#define CONVERT_TRAIN_H
#include "convert/map_int.h"
#include "framework/optim.h"

#define TRAIN_REPLACED 32

struct train {
    struct mapping *m;
    struct optim_state s; /* the source's */
    struct optim_state k; /* the skeleton's; style NONE without one, or where it has none */
    enum optim_style to;
    size_t n_params; /* made[0 .. n_params) are no train state */
    int64_t *entry;  /* per made parameter: place in s.param, -1 = the optimizer does not know it */
    uint64_t *number; /* torch: ... its number in the target */
    size_t *ordered;  /* torch: made parameters that have a number, by number */
    size_t n_ordered;
    struct str root;                 /* of the target's names: "optimizer", "opt_state" */
    bool decays;                     /* AdamW, not Adam */
    bool by_leaves;                  /* Equinox: no names, no collections, no count of its own */
    const struct optim_chain *chain; /* optax without a skeleton */
    bool *carried; /* per tensor of the source: a count that stands in the target as a value */
    bool *filled;  /* per tensor of the skeleton: state that something is made for */
    struct optim_number step; /* the source's number of updates, of whatever has one */
    bool has_step;
    double rate; /* the learning rate, where a moment holds it */
    bool has_rate;
    struct {
        const struct node *node; /* the skeleton's: the training's own count, a schedule's ... */
        int64_t by;              /* ... and its value here */
        bool real;               /* by is the bits of an IEEE double */
    } replaced[TRAIN_REPLACED];
    size_t n_replaced;
    bool scheduled;   /* the position of the source's schedule stands in the target */
    int64_t schedule; /* position of the source's schedule, where the skeleton has one; else 0 */
    bool scaled;      /* the source's loss scale stands in the target */
    const struct node *gone[16]; /* of the source's tree: in the ledger, or in the target */
    size_t n_gone;
};

/* ---- map_train.c ---- */

/* Appends the target tensor `name` of slot s for made parameter i; zeros where no part of it has
 * one, which the ledger says. */
MUSTCHECK enum status train_slot(struct train *x, size_t i, enum slot s, struct str name,
                                 struct err *e); /* The skeleton's name of a made parameter's place
                                                    in k.param; -1 = it has no state there. */
int64_t train_place(const struct train *x, size_t i);

/* ---- train_number.c ---- */
/* Appends a count: from x->step or from `n`, else 0, in the dtype given. */
MUSTCHECK enum status train_number(struct train *x, struct optim_number n, struct str name,
                                   enum dtype type, bool harmless, struct err *e);
/* The integer a number stands for. ST_CANNOT train-number: none, or not readable. */
MUSTCHECK enum status train_value(const struct model *m, struct optim_number n, int64_t *out,
                                  struct err *e);
/* As it stands; n is there. */
MUSTCHECK enum status train_real(const struct model *m, struct optim_number n, double *out,
                                 struct err *e);
/* One element of a tensor, little-endian. ST_CANNOT where it is stored in a way that only the
 * engine undoes. */
MUSTCHECK enum status train_element(const struct model *m, const struct tensor *t, uint8_t out[16],
                                    struct err *e);
/* A number of the skeleton's tree stands there with another value. NULL: nothing. */
void train_replace(struct train *x, const struct node *node, int64_t by);
void train_replace_real(struct train *x, const struct node *node, double by);
/* Gives a copy of the node its value; false: it stays. */
bool train_replaced(const struct train *x, const struct node *node, struct node *copy);

/* ---- one spelling each: all that is made for the state, by name ---- */
MUSTCHECK enum status train_to_torch(struct train *x, struct err *e);
MUSTCHECK enum status train_to_optax(struct train *x, struct err *e);

/* ---- train_scale.c ---- */
/* The loss scale and the steps since it changed, into the skeleton's. */
MUSTCHECK enum status train_scale(struct train *x, struct err *e);

/* Nadam's product of momenta: of made parameter i, or (SIZE_MAX) the one of all. like: the
 * skeleton's tensor, or -1. ST_CANNOT train-product: there is none, or not one. */
MUSTCHECK enum status train_product(struct train *x, size_t i, struct str name, int64_t like,
                                    struct err *e);
/* optax keeps for Adam, Adamax and Nadam the same: which it is the other side says, and the ledger
 * asks. ST_CANNOT train-like: another optimizer than the skeleton's. */
MUSTCHECK enum status train_alike(struct train *x, struct err *e);

/* ---- train_powers.c: TensorFlow 1's beta1_power and beta2_power ---- */
/* The number of updates that the source's powers tell: into x->s.param[].n. Powers of other betas
 * than the usual ones tell nothing. */
MUSTCHECK enum status train_powers(struct train *x, struct err *e);
/* Is the skeleton's tensor k one of them? Then its value goes to d->fill. ST_CANNOT train-powers:
 * neither the source's settings nor the skeleton say beta. */
MUSTCHECK enum status train_power(struct train *x, const struct tensor *k, struct made *d, bool *is,
                                  struct err *e);

/* ---- train_tree.c: the plan's tree, when the plan's tensors stand ---- */
MUSTCHECK enum status train_tree(struct train *x, struct err *e);
#endif
