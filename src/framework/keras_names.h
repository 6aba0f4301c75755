/* What a Keras file says of its layers beside their tensors: the config's tree of layers, and the
 * names that Keras 3 keeps with every group of variables. Both are hints: a damaged config is no
 * error here, it says nothing.
 */
#ifndef FRAMEWORK_KERAS_NAMES_H
#define FRAMEWORK_KERAS_NAMES_H
#include "framework/framework.h"

enum keras_class {
    KERAS_UNKNOWN,
    KERAS_DENSE,
    KERAS_CONV,
    KERAS_CONV_TRANSPOSE,
    KERAS_DEPTHWISE,
    KERAS_SEPARABLE,
    KERAS_BATCHNORM,
    KERAS_LAYERNORM,
    KERAS_GROUPNORM,
    KERAS_RMSNORM,
    KERAS_EMBEDDING,
    KERAS_ATTENTION,
    KERAS_PRELU,
    KERAS_LOCAL_1D, /* LocallyConnected: Keras 2 alone */
    KERAS_LOCAL_2D,
    KERAS_EINSUM, /* an EinsumDense with its equation */
    KERAS_OTHER   /* a class of Keras's without a rule here */
};
/* Of "Conv2DTranspose", "conv2d_transpose", "conv2d_transpose_3"; KERAS_UNKNOWN for other words. */
enum keras_class keras_class_of(struct str name);

struct keras_layer {     /* one layer of the config */
    struct str cls;      /* class, lower case without '_' */
    struct str name;     /* the user's or Keras's own */
    int64_t parent;      /* -1: the model itself */
    struct str attr;     /* of a wrapper's own layer, where it stands in it: "layer"; else empty */
    struct str by_class; /* "layers.sequential.layers.conv2d#1", see keras_class_path */
    struct str by_name;  /* "inner.conv_1" */
    struct str by_group; /* "outer.conv_1", the models between left out: as Keras 2 stores it */
    int64_t prev;        /* the layer before it in its parent's list; -1 = none */
    int64_t last;        /* the last layer of its own; -1 = none */
    struct str inbound, output;     /* what it reads, in its parent; what gives what it gives */
    uint8_t n_inbound, n_output;    /* how many those are; 2 = several */
    uint64_t filters;               /* 0 = not said */
    bool frozen;                    /* "trainable": false */
    bool kernel_size;               /* it has one, as convolutions do */
    uint64_t window;                /* ... its extents' product; 0 = not said */
    bool channels_first;            /* its own maps are so */
    uint8_t in_dims;                /* axes of what it reads, batch with them; 0 = not said */
    uint64_t in_last;               /* ... extent of the last; 0 = not said */
    struct layer_settings said;     /* of a wrapper: of the layer inside it */
    double slope;                   /* of a leaky ReLU; 0 = not said */
    int scale, center;              /* norms: 1, 0; -1 = not said */
    uint64_t groups;                /* 0 = not said */
    struct str equation, bias_axes; /* of an EinsumDense */
};
struct keras_names {
    struct keras_layer *layer;
    uint32_t *by_class, *by_name, *by_group; /* layers, sorted */
    uint32_t *by_sibling;                    /* ... by parent and own name */
    size_t budget; /* steps that questions about the graph may still take */
    size_t n;
    bool channels_first; /* some layer has its maps so */
    struct keras_group {
        struct str key, name; /* "layers/dense" */
    } * group;                /* sorted by key */
    size_t n_groups;
    int version; /* 2 or 3: of the Keras that wrote the file; 0 = not said */
};
/* Memory from the arena; the texts live as long as the model. */
MUSTCHECK enum status keras_names_read(const struct model *m, struct arena *a,
                                       struct keras_names *out, struct err *e);
const struct keras_layer *keras_by_class(const struct keras_names *x, struct str class_path);
const struct keras_layer *keras_by_name(const struct keras_names *x, struct str path);
/* By the path of legacy HDF5, which may leave out models between. */
const struct keras_layer *keras_by_group(const struct keras_names *x, struct str path);
/* The only layer of that name right below a parent; -1 = none, or several. */
int64_t keras_child(const struct keras_names *x, int64_t parent, struct str name);
/* keras_flatten.c: what the config tells of a dense layer or a norm, whose weight is w, and the map
 * that it reads flattened: flat_c, flat_said and the reason. config may be NULL. */
MUSTCHECK enum status keras_flat_layer(struct keras_names *x, const struct keras_layer *config,
                                       const struct tensor *w, struct layer *l, struct arena *a,
                                       struct err *e);
/* Functions without weights that the config names and frameworks compute differently. */
MUSTCHECK enum status keras_functions(const struct keras_names *x, struct arena *a,
                                      struct layers *out, struct err *e);
/* Name of the group of variables below a path of a weights file; empty when it has none. */
struct str keras_group_name(const struct keras_names *x, struct str path, struct arena *a);
/* A path of a weights file with its classes in one spelling: "layers.conv2dtranspose#1".
 * .p == NULL: no memory. */
struct str keras_class_path(struct str path, struct arena *a);
/* "conv2d" of "conv2d_12": without the number that Keras appends. */
struct str keras_stem(struct str segment);
#endif
