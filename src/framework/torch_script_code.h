/* The program of a TorchScript archive, read: what each class does with its attributes. Inside,
 * torch_script_code.c takes lines apart and torch_script_call.c knows torch's functions and
 * modules.
 */
#ifndef FRAMEWORK_TORCH_SCRIPT_CODE_H
#define FRAMEWORK_TORCH_SCRIPT_CODE_H
#include "model/layers.h"

#define SCRIPT_RANK 3   /* spatial axes */
#define SCRIPT_ARGS 24  /* of one call, or constants of one class, that are looked at */
#define SCRIPT_PARTS 64 /* tensors of one list */
#define SCRIPT_DEPTH 16 /* attributes of attributes */

/* self.A.B is {"B", {"A", NULL}} */
struct script_attr {
    const struct script_attr *outer; /* NULL: the module's own */
    struct str name;
    unsigned depth;
};
struct script_ints { /* n == 0: not known; n == 1: the same for every axis */
    size_t n;
    uint64_t v[SCRIPT_RANK];
};
/* What a call says of a tensor that it reads, or a class of torch's own of those it has. */
struct script_use {
    const struct script_attr *tensor; /* NULL: every tensor that the module itself has */
    enum layer_kind kind;             /* LAYER_NONE = not said */
    bool rms;                         /* kind LAYER_LAYERNORM: of the mean of squares */
    double epsilon, momentum;         /* 0 = not said; momentum: the share that is kept */
    uint64_t groups, heads;           /* 0 = not said */
    struct str batch, activation;     /* as in struct layer_settings */
    struct script_ints stride, padding, dilation; /* of convolutions */
    bool same;                                    /* padding="same" */
    const char *of, *setting;                     /* of a function, which has no tensor; or NULL */
    struct str means;
    struct script_use *next;
};
struct script_class {
    struct str name; /* as tree nodes say it: __torch__.PATH.CLASS */
    struct script_use *use, *last;
};
/* Sorted by name, from a. *n == 0: there is no such program, or one of a size that says nothing. */
MUSTCHECK enum status script_read(const struct model *m, struct arena *a, struct script_class **out,
                                  size_t *n, struct err *e);
/* "none", "same", or what is added on both sides of each axis, "(1, 1)"; empty: not known. .p ==
 * NULL: no memory. kernel: extents of its axes; NULL: nothing is the same. */
struct str script_padding(const struct script_ints *stride, const struct script_ints *padding,
                          const struct script_ints *dilation, const uint64_t *kernel, size_t rank,
                          struct arena *a);

/* ---- between the two files ---- */

struct script_scan;
struct script_value {
    enum {
        VALUE_UNKNOWN,
        VALUE_SELF,
        VALUE_ATTR,
        VALUE_NAME, /* of a function or class, dotted */
        VALUE_TEXT  /* a number, a string, a list: as it is written */
    } kind;
    struct str text;
    const struct script_attr *attr;
};
struct script_value script_value_of(struct script_scan *s, struct str text);
/* A use of the class that is read now; NULL: no memory, or too many. */
struct script_use *script_use_new(struct script_scan *s);
struct arena *script_arena(struct script_scan *s);

struct script_arg {
    struct str key; /* empty: by its place */
    struct str text;
};
/* Does a call of that name say anything? name: "torch.F", or "__torch__.torch.nn.functional.F". */
struct script_op;
const struct script_op *script_op_find(struct str name);
/* Notes what a call says. padded: what it reads was made larger before. */
void script_called(struct script_scan *s, const struct script_op *op, const struct script_arg *arg,
                   size_t n, bool padded);
/* Notes what the constants of a class say, where it is one of torch's own. */
void script_declared(struct script_scan *s, struct str class, const struct script_arg *constant,
                     size_t n);
#endif
