/* See twins.h. */
#include "tests/lib/twins.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Test code: a failure here is a broken test. */
static void must(enum status st)
{
    if (st != ST_OK)
        abort();
}

/* Adds a float32 tensor of n values and gives its memory. */
float *twin_add(struct twin_net *n, struct layer *l, enum leaf leaf, const char *name,
                size_t n_dims, const uint64_t *dim)
{
    struct err e = {0};
    struct tensor *t;
    struct storage *s;
    uint32_t id;
    uint64_t elems = 1;
    for (size_t i = 0; i < n_dims; i++)
        elems *= dim[i];
    must(model_tensor_add(&n->m, &t, &e));
    must(model_storage_add(&n->m, &s, &id, &e));
    float *mem = arena_alloc(&n->m.arena, elems, sizeof *mem);
    s->kind = STORAGE_MEMORY;
    s->mem = (const uint8_t *)mem;
    s->raw_bytes = s->stored_bytes = elems * 4;
    t->name = arena_fmt(&n->m.arena, "%.*s.%s", STR_ARG(l->path), name);
    t->dtype = DT_F32;
    t->storage = id;
    must(tensor_set_shape(&n->m, t, dim, n_dims, &e));
    t->role = leaf == LEAF_MEAN || leaf == LEAF_VAR ? ROLE_STATISTIC : ROLE_PARAMETER;
    t->order = n->m.n_tensors - 1;
    l->tensor[leaf] = (int64_t)n->m.n_tensors - 1;
    return mem;
}
#define DIM(...)                                                                                   \
    sizeof((const uint64_t[]){__VA_ARGS__}) / 8, (const uint64_t[])                                \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

struct layer *twin_layer(struct twin_net *n, enum layer_kind kind, const char *path)
{
    struct layer *l = &n->layer[n->layers.n++];
    memset(l, 0, sizeof *l);
    l->kind = kind;
    l->path = str_from(path);
    for (int i = 0; i < LEAF_N; i++)
        l->tensor[i] = -1;
    return l;
}

float twin_value(unsigned stream, size_t i)
{
    uint64_t v = (uint64_t)(stream + 1) * 0x9e3779b97f4a7c15u + i * 0xd1342543de82ef95u;
    v ^= v >> 29;
    v *= 0xbf58476d1ce4e5b9u;
    v ^= v >> 32;
    return (float)((double)(v >> 40) / (1 << 23) - 1);
}

static const char *const paths[] = {"lin", "square", "conv", "conv3", "up",   "bn",
                                    "ln",  "gn",     "emb",  "att",   "flat", "pos"};
static const enum layer_kind kinds[] = {LAYER_LINEAR,    LAYER_LINEAR,         LAYER_CONV,
                                        LAYER_CONV,      LAYER_CONV_TRANSPOSE, LAYER_BATCHNORM,
                                        LAYER_LAYERNORM, LAYER_GROUPNORM,      LAYER_EMBEDDING,
                                        LAYER_ATTENTION, LAYER_LINEAR,         LAYER_PARAM};
static void begin(struct twin_net *n)
{
    memset(n, 0, sizeof *n);
    model_init(&n->m);
    n->layers.layer = n->layer;
    for (int i = 0; i < L_N; i++)
        twin_layer(n, kinds[i], paths[i]);
    n->layer[L_CONV].rank = 2;
    n->layer[L_CONV3].rank = 3;
    n->layer[L_UP].rank = 2;
    n->layer[L_CONV].groups = 2;
    n->layer[L_FLAT].flat_c = 4;
}
void twin_finish(struct twin_net *n, const char *framework)
{
    struct err e = {0};
    n->layers.framework = framework;
    must(model_finish(&n->m, &e));
    plan_init(&n->plan, &n->m);
    must(plan_identity(&n->plan, &e));
}
void twin_free(struct twin_net *n)
{
    plan_free(&n->plan);
    model_free(&n->m);
}

/* The reference number of a weight by layer, leaf and canonical (torch) index. */
static float ref(int l, enum leaf leaf, size_t i)
{
    float v = twin_value((unsigned)l * 32 + (unsigned)leaf, i);
    return leaf == LEAF_VAR ? v * v + .3f : v;
}
static void vector(struct twin_net *n, int l, enum leaf leaf, const char *name, uint64_t len)
{
    float *p = twin_add(n, &n->layer[l], leaf, name, DIM(len));
    for (size_t i = 0; i < len; i++)
        p[i] = ref(l, leaf, i);
}
static void dense(struct twin_net *n, int l, enum leaf leaf, const char *name, size_t n_dims,
                  const uint64_t *dim)
{
    uint64_t elems = 1;
    for (size_t i = 0; i < n_dims; i++)
        elems *= dim[i];
    float *p = twin_add(n, &n->layer[l], leaf, name, n_dims, dim);
    for (size_t i = 0; i < elems; i++)
        p[i] = ref(l, leaf, i);
}

void twin_torch(struct twin_net *n)
{
    begin(n);
    dense(n, L_LIN, LEAF_WEIGHT, "weight", DIM(5, 4));
    vector(n, L_LIN, LEAF_BIAS, "bias", 5);
    dense(n, L_SQUARE, LEAF_WEIGHT, "weight", DIM(7, 7));
    dense(n, L_CONV, LEAF_WEIGHT, "weight", DIM(6, 2, 3, 3));
    vector(n, L_CONV, LEAF_BIAS, "bias", 6);
    dense(n, L_CONV3, LEAF_WEIGHT, "weight", DIM(3, 2, 2, 3, 4));
    dense(n, L_UP, LEAF_WEIGHT, "weight", DIM(4, 5, 3, 2));
    vector(n, L_UP, LEAF_BIAS, "bias", 5);
    vector(n, L_BN, LEAF_WEIGHT, "weight", 6);
    vector(n, L_BN, LEAF_BIAS, "bias", 6);
    vector(n, L_BN, LEAF_MEAN, "running_mean", 6);
    vector(n, L_BN, LEAF_VAR, "running_var", 6);
    vector(n, L_LN, LEAF_WEIGHT, "weight", 9);
    vector(n, L_LN, LEAF_BIAS, "bias", 9);
    vector(n, L_GN, LEAF_WEIGHT, "weight", 8);
    vector(n, L_GN, LEAF_BIAS, "bias", 8);
    dense(n, L_EMB, LEAF_WEIGHT, "weight", DIM(V, E));
    float *w = twin_add(n, &n->layer[L_ATT], LEAF_QKV_WEIGHT, "in_proj_weight", DIM(3 * E, E));
    float *b = twin_add(n, &n->layer[L_ATT], LEAF_QKV_BIAS, "in_proj_bias", DIM(3 * E));
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < E * E; i++) {
            w[(size_t)k * E * E + i] = ref(L_ATT, (enum leaf)(LEAF_Q_WEIGHT + k), i);
            if (i < E)
                b[(size_t)k * E + i] = ref(L_ATT, (enum leaf)(LEAF_Q_BIAS + k), i);
        }
    dense(n, L_ATT, LEAF_O_WEIGHT, "out_proj.weight", DIM(E, E));
    vector(n, L_ATT, LEAF_O_BIAS, "out_proj.bias", E);
    dense(n, L_FLAT, LEAF_WEIGHT, "weight", DIM(3, 4 * 2 * 5)); /* [O, C H W] */
    dense(n, L_POS, LEAF_VALUE, "pos", DIM(1, 5, E));
    twin_finish(n, "pytorch");
}

void twin_flax(struct twin_net *n)
{
    begin(n);
    float *w = twin_add(n, &n->layer[L_LIN], LEAF_WEIGHT, "kernel", DIM(4, 5));
    for (size_t o = 0; o < 5; o++)
        for (size_t i = 0; i < 4; i++)
            w[i * 5 + o] = ref(L_LIN, LEAF_WEIGHT, o * 4 + i);
    vector(n, L_LIN, LEAF_BIAS, "bias", 5);
    w = twin_add(n, &n->layer[L_SQUARE], LEAF_WEIGHT, "kernel", DIM(7, 7));
    for (size_t o = 0; o < 7; o++)
        for (size_t i = 0; i < 7; i++)
            w[i * 7 + o] = ref(L_SQUARE, LEAF_WEIGHT, o * 7 + i);
    w = twin_add(n, &n->layer[L_CONV], LEAF_WEIGHT, "kernel", DIM(3, 3, 2, 6));
    for (size_t o = 0; o < 6; o++)
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < 9; k++)
                w[(k * 2 + i) * 6 + o] = ref(L_CONV, LEAF_WEIGHT, (o * 2 + i) * 9 + k);
    vector(n, L_CONV, LEAF_BIAS, "bias", 6);
    w = twin_add(n, &n->layer[L_CONV3], LEAF_WEIGHT, "kernel", DIM(2, 3, 4, 2, 3));
    for (size_t o = 0; o < 3; o++)
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < 24; k++)
                w[(k * 2 + i) * 3 + o] = ref(L_CONV3, LEAF_WEIGHT, (o * 2 + i) * 24 + k);
    w = twin_add(n, &n->layer[L_UP], LEAF_WEIGHT, "kernel", DIM(3, 2, 4, 5));
    for (size_t i = 0; i < 4; i++)
        for (size_t o = 0; o < 5; o++)
            for (size_t a = 0; a < 3; a++)
                for (size_t b = 0; b < 2; b++)
                    w[(((2 - a) * 2 + (1 - b)) * 4 + i) * 5 + o] =
                        ref(L_UP, LEAF_WEIGHT, ((i * 5 + o) * 3 + a) * 2 + b);
    n->layer[L_UP].flip = true;
    vector(n, L_UP, LEAF_BIAS, "bias", 5);
    vector(n, L_BN, LEAF_WEIGHT, "scale", 6);
    vector(n, L_BN, LEAF_BIAS, "bias", 6);
    vector(n, L_BN, LEAF_MEAN, "mean", 6);
    vector(n, L_BN, LEAF_VAR, "var", 6);
    vector(n, L_LN, LEAF_WEIGHT, "scale", 9);
    vector(n, L_LN, LEAF_BIAS, "bias", 9);
    vector(n, L_GN, LEAF_WEIGHT, "scale", 8);
    vector(n, L_GN, LEAF_BIAS, "bias", 8);
    dense(n, L_EMB, LEAF_WEIGHT, "embedding", DIM(V, E));
    static const char *const part[] = {"query", "key", "value"};
    for (int k = 0; k < 3; k++) {
        char name[32];
        snprintf(name, sizeof name, "%s.kernel", part[k]);
        enum leaf leaf = (enum leaf)(LEAF_Q_WEIGHT + k);
        w = twin_add(n, &n->layer[L_ATT], leaf, name, DIM(E, H, D));
        for (size_t r = 0; r < E; r++)
            for (size_t i = 0; i < E; i++)
                w[i * E + r] = ref(L_ATT, leaf, r * E + i);
        snprintf(name, sizeof name, "%s.bias", part[k]);
        dense(n, L_ATT, (enum leaf)(LEAF_Q_BIAS + k), name, DIM(H, D));
    }
    w = twin_add(n, &n->layer[L_ATT], LEAF_O_WEIGHT, "out.kernel", DIM(H, D, E));
    for (size_t o = 0; o < E; o++)
        for (size_t i = 0; i < E; i++)
            w[i * E + o] = ref(L_ATT, LEAF_O_WEIGHT, o * E + i);
    vector(n, L_ATT, LEAF_O_BIAS, "out.bias", E);
    w = twin_add(n, &n->layer[L_FLAT], LEAF_WEIGHT, "kernel", DIM(2 * 5 * 4, 3));
    for (size_t o = 0; o < 3; o++)
        for (size_t c = 0; c < 4; c++)
            for (size_t s = 0; s < 10; s++)
                w[(s * 4 + c) * 3 + o] = ref(L_FLAT, LEAF_WEIGHT, (o * 4 + c) * 10 + s);
    dense(n, L_POS, LEAF_VALUE, "pos", DIM(1, 5, E));
    twin_finish(n, "flax");
}

float *twin_data(struct twin_net *n, int l, enum leaf leaf)
{
    int64_t t = n->layer[l].tensor[leaf];
    return (float *)(uintptr_t)n->m.storage[n->m.tensor[t].storage].mem;
}
