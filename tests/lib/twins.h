/* One network of every layer kind, spelled as PyTorch and as Flax by index loops that share
 * nothing with src. Tensors are float32 in the model's arena; twin_data() gives their memory.
 */
#ifndef TESTS_LIB_TWINS_H
#define TESTS_LIB_TWINS_H
#include "convert/run.h"
#include "model/layers.h"

enum { MAX_LAYERS = 16 };
struct twin_net {
    struct model m;
    struct plan plan;
    struct layer layer[MAX_LAYERS];
    struct layers layers;
};

/* Every kind. O, I and the kernel's axes are chosen so that some are equal: a square Linear, a
 * square kernel, E = H * D. */
enum { L_LIN, L_SQUARE, L_CONV, L_CONV3, L_UP, L_BN, L_LN, L_GN, L_EMB, L_ATT, L_FLAT, L_POS, L_N };
enum { E = 6, H = 2, D = 3, V = 11 };

void twin_torch(struct twin_net *n);
void twin_flax(struct twin_net *n);
void twin_free(struct twin_net *n);
float *twin_data(struct twin_net *n, int l, enum leaf leaf);
/* For nets of a test's own. */
float *twin_add(struct twin_net *n, struct layer *l, enum leaf leaf, const char *name,
                size_t n_dims, const uint64_t *dim);
struct layer *twin_layer(struct twin_net *n, enum layer_kind kind, const char *path);
float twin_value(unsigned stream, size_t i);
void twin_finish(struct twin_net *n, const char *framework);
#define DIM(...)                                                                                   \
    sizeof((const uint64_t[]){__VA_ARGS__}) / 8, (const uint64_t[])                                \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#endif
