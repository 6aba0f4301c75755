/* validate --level layer and tensor on a network of every layer kind, spelled as PyTorch and as
 * Flax by index loops written here, and every mutation that a checker must notice.
 */
#include "base/child.h"
#include "base/mem.h"
#include "convert/run.h"
#include "validate/validate.h"
#include "worker/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

extern char **environ;

enum { MAX_LAYERS = 16 };
struct net {
    struct model m;
    struct plan plan;
    struct layer layer[MAX_LAYERS];
    struct layers layers;
};

/* Adds a float32 tensor of n values and gives its memory. */
static float *add(struct net *n, struct layer *l, enum leaf leaf, const char *name, size_t n_dims,
                  const uint64_t *dim)
{
    struct err e = {0};
    struct tensor *t;
    struct storage *s;
    uint32_t id;
    uint64_t elems = 1;
    for (size_t i = 0; i < n_dims; i++)
        elems *= dim[i];
    assert_int_equal(model_tensor_add(&n->m, &t, &e), ST_OK);
    assert_int_equal(model_storage_add(&n->m, &s, &id, &e), ST_OK);
    float *mem = arena_alloc(&n->m.arena, elems, sizeof *mem);
    s->kind = STORAGE_MEMORY;
    s->mem = (const uint8_t *)mem;
    s->raw_bytes = s->stored_bytes = elems * 4;
    t->name = arena_fmt(&n->m.arena, "%.*s.%s", STR_ARG(l->path), name);
    t->dtype = DT_F32;
    t->n_dims = (uint8_t)n_dims;
    memcpy(t->dim, dim, n_dims * sizeof *dim);
    t->storage = id;
    assert_int_equal(view_c(&t->view, dim, n_dims, &e), ST_OK);
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

static struct layer *layer(struct net *n, enum layer_kind kind, const char *path)
{
    struct layer *l = &n->layer[n->layers.n++];
    memset(l, 0, sizeof *l);
    l->kind = kind;
    l->path = str_from(path);
    for (int i = 0; i < LEAF_N; i++)
        l->tensor[i] = -1;
    return l;
}

static float value(unsigned stream, size_t i)
{
    uint64_t v = (uint64_t)(stream + 1) * 0x9e3779b97f4a7c15u + i * 0xd1342543de82ef95u;
    v ^= v >> 29;
    v *= 0xbf58476d1ce4e5b9u;
    v ^= v >> 32;
    return (float)((double)(v >> 40) / (1 << 23) - 1);
}

/* Every kind. O, I and the kernel's axes are chosen so that some are equal: a square Linear, a
 * square kernel, E = H * D. */
enum { L_LIN, L_SQUARE, L_CONV, L_CONV3, L_UP, L_BN, L_LN, L_GN, L_EMB, L_ATT, L_FLAT, L_POS, L_N };
static const char *const paths[] = {"lin", "square", "conv", "conv3", "up",   "bn",
                                    "ln",  "gn",     "emb",  "att",   "flat", "pos"};
static const enum layer_kind kinds[] = {LAYER_LINEAR,    LAYER_LINEAR,         LAYER_CONV,
                                        LAYER_CONV,      LAYER_CONV_TRANSPOSE, LAYER_BATCHNORM,
                                        LAYER_LAYERNORM, LAYER_GROUPNORM,      LAYER_EMBEDDING,
                                        LAYER_ATTENTION, LAYER_LINEAR,         LAYER_PARAM};
enum { E = 6, H = 2, D = 3, V = 11 };

static void begin(struct net *n)
{
    memset(n, 0, sizeof *n);
    model_init(&n->m);
    n->layers.layer = n->layer;
    for (int i = 0; i < L_N; i++)
        layer(n, kinds[i], paths[i]);
    n->layer[L_CONV].rank = 2;
    n->layer[L_CONV3].rank = 3;
    n->layer[L_UP].rank = 2;
    n->layer[L_CONV].groups = 2;
    n->layer[L_FLAT].flat_c = 4;
}
static void finish(struct net *n, const char *framework)
{
    struct err e = {0};
    n->layers.framework = framework;
    assert_int_equal(model_finish(&n->m, &e), ST_OK);
    plan_init(&n->plan, &n->m);
    assert_int_equal(plan_identity(&n->plan, &e), ST_OK);
}
static void end(struct net *n)
{
    plan_free(&n->plan);
    model_free(&n->m);
}

/* The reference number of a weight by layer, leaf and canonical (torch) index. */
static float ref(int l, enum leaf leaf, size_t i)
{
    float v = value((unsigned)l * 32 + (unsigned)leaf, i);
    return leaf == LEAF_VAR ? v * v + .3f : v;
}
static void vector(struct net *n, int l, enum leaf leaf, const char *name, uint64_t len)
{
    float *p = add(n, &n->layer[l], leaf, name, DIM(len));
    for (size_t i = 0; i < len; i++)
        p[i] = ref(l, leaf, i);
}
static void dense(struct net *n, int l, enum leaf leaf, const char *name, size_t n_dims,
                  const uint64_t *dim)
{
    uint64_t elems = 1;
    for (size_t i = 0; i < n_dims; i++)
        elems *= dim[i];
    float *p = add(n, &n->layer[l], leaf, name, n_dims, dim);
    for (size_t i = 0; i < elems; i++)
        p[i] = ref(l, leaf, i);
}

static void build_torch(struct net *n)
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
    float *w = add(n, &n->layer[L_ATT], LEAF_QKV_WEIGHT, "in_proj_weight", DIM(3 * E, E));
    float *b = add(n, &n->layer[L_ATT], LEAF_QKV_BIAS, "in_proj_bias", DIM(3 * E));
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
    finish(n, "pytorch");
}

static void build_flax(struct net *n)
{
    begin(n);
    float *w = add(n, &n->layer[L_LIN], LEAF_WEIGHT, "kernel", DIM(4, 5));
    for (size_t o = 0; o < 5; o++)
        for (size_t i = 0; i < 4; i++)
            w[i * 5 + o] = ref(L_LIN, LEAF_WEIGHT, o * 4 + i);
    vector(n, L_LIN, LEAF_BIAS, "bias", 5);
    w = add(n, &n->layer[L_SQUARE], LEAF_WEIGHT, "kernel", DIM(7, 7));
    for (size_t o = 0; o < 7; o++)
        for (size_t i = 0; i < 7; i++)
            w[i * 7 + o] = ref(L_SQUARE, LEAF_WEIGHT, o * 7 + i);
    w = add(n, &n->layer[L_CONV], LEAF_WEIGHT, "kernel", DIM(3, 3, 2, 6));
    for (size_t o = 0; o < 6; o++)
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < 9; k++)
                w[(k * 2 + i) * 6 + o] = ref(L_CONV, LEAF_WEIGHT, (o * 2 + i) * 9 + k);
    vector(n, L_CONV, LEAF_BIAS, "bias", 6);
    w = add(n, &n->layer[L_CONV3], LEAF_WEIGHT, "kernel", DIM(2, 3, 4, 2, 3));
    for (size_t o = 0; o < 3; o++)
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < 24; k++)
                w[(k * 2 + i) * 3 + o] = ref(L_CONV3, LEAF_WEIGHT, (o * 2 + i) * 24 + k);
    w = add(n, &n->layer[L_UP], LEAF_WEIGHT, "kernel", DIM(3, 2, 4, 5));
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
        w = add(n, &n->layer[L_ATT], leaf, name, DIM(E, H, D));
        for (size_t r = 0; r < E; r++)
            for (size_t i = 0; i < E; i++)
                w[i * E + r] = ref(L_ATT, leaf, r * E + i);
        snprintf(name, sizeof name, "%s.bias", part[k]);
        dense(n, L_ATT, (enum leaf)(LEAF_Q_BIAS + k), name, DIM(H, D));
    }
    w = add(n, &n->layer[L_ATT], LEAF_O_WEIGHT, "out.kernel", DIM(H, D, E));
    for (size_t o = 0; o < E; o++)
        for (size_t i = 0; i < E; i++)
            w[i * E + o] = ref(L_ATT, LEAF_O_WEIGHT, o * E + i);
    vector(n, L_ATT, LEAF_O_BIAS, "out.bias", E);
    w = add(n, &n->layer[L_FLAT], LEAF_WEIGHT, "kernel", DIM(2 * 5 * 4, 3));
    for (size_t o = 0; o < 3; o++)
        for (size_t c = 0; c < 4; c++)
            for (size_t s = 0; s < 10; s++)
                w[(s * 4 + c) * 3 + o] = ref(L_FLAT, LEAF_WEIGHT, (o * 4 + c) * 10 + s);
    dense(n, L_POS, LEAF_VALUE, "pos", DIM(1, 5, E));
    finish(n, "flax");
}

static float *data(struct net *n, int l, enum leaf leaf)
{
    int64_t t = n->layer[l].tensor[leaf];
    return (float *)(uintptr_t)n->m.storage[n->m.tensor[t].storage].mem;
}

static void check(struct net *a, struct net *b, const char *device, uint64_t memory,
                  struct validate_report *r)
{
    struct err e = {0};
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .device = device,
                             .seed = 7,
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN,
                             .run.memory = memory};
    enum status st = validate_run(&a->plan, &a->layers, a->layers.framework, &b->plan, &b->layers,
                                  b->layers.framework, pair, &o, r, &e);
    if (st != ST_OK)
        print_error("%s\n", e.reason);
    assert_int_equal(st, ST_OK);
    assert_int_equal(r->n, L_N);
}

static void print(const struct validate_report *r)
{
    for (size_t i = 0; i < r->n; i++)
        print_message("%-8.*s %-10s %-9s %-12.*s |%.*s|%.*s|%.*s| max %g of %g, cause %.*s\n",
                      STR_ARG(r->layer[i].path_a), verdict_name(r->layer[i].verdict),
                      rung_name(r->layer[i].rung), STR_ARG(r->layer[i].stage),
                      STR_ARG(r->layer[i].why), STR_ARG(r->layer[i].assumed),
                      STR_ARG(r->layer[i].input), r->layer[i].m.max_abs, r->layer[i].m.max_ref,
                      STR_ARG(r->layer[i].cause));
}

static void twins_are_equal(const char *device)
{
    struct net t, f;
    struct validate_report r;
    build_torch(&t);
    build_flax(&f);
    check(&t, &f, device, 0, &r);
    if (r.overall != VERDICT_EQUAL)
        print(&r);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_int_equal(r.n_equal, L_N);
    assert_true(r.coverage == 1 && r.params_at[RUNG_MEANING] == r.params_total);
    assert_int_equal(r.fallback, false);
    print_message("%.*s, %llu ns\n", STR_ARG(r.executor), (unsigned long long)r.kernel_ns);
    for (size_t i = 0; i < r.n; i++) {
        assert_true(r.layer[i].m.n > 0 && r.layer[i].m.max_ref > 0);
        assert_true(r.layer[i].m.max_abs <= 1e-6 * r.layer[i].m.max_ref);
    }
    validate_free(&r);
    check(&f, &t, device, 0, &r); /* and the other way round */
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    end(&t);
    end(&f);
}
static void twins_are_equal_natively(void **s)
{
    (void)s;
    twins_are_equal("native");
}
static void twins_are_equal_on_the_device(void **s)
{
    (void)s;
    twins_are_equal("0");
}

/* ---- mutations ---- */

static void mutate_transpose(struct net *n)
{
    float *w = data(n, L_SQUARE, LEAF_WEIGHT);
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < i; k++) {
            float t = w[i * 7 + k];
            w[i * 7 + k] = w[k * 7 + i];
            w[k * 7 + i] = t;
        }
}
static void mutate_variance(struct net *n)
{
    for (int i = 0; i < 6; i++)
        data(n, L_BN, LEAF_VAR)[i] *= 1.01f;
}
static void swap_floats(float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}
static void mutate_flip(struct net *n)
{
    float *w = data(n, L_CONV, LEAF_WEIGHT); /* [3, 3, 2, 6] */
    for (size_t k = 0; k < 4; k++)
        swap_floats(w + k * 12, w + (8 - k) * 12, 12);
}
static void mutate_unflip(struct net *n)
{
    float *w = data(n, L_UP, LEAF_WEIGHT); /* [3, 2, 4, 5] */
    for (size_t k = 0; k < 3; k++)
        swap_floats(w + k * 20, w + (5 - k) * 20, 20);
}
static void mutate_scale_bias(struct net *n)
{
    swap_floats(data(n, L_LN, LEAF_WEIGHT), data(n, L_LN, LEAF_BIAS), 9);
}
static void mutate_mean_var(struct net *n)
{
    for (int i = 0; i < 6; i++) /* a mean that can be a variance */
        assert_true(data(n, L_BN, LEAF_VAR)[i] > 0);
    swap_floats(data(n, L_BN, LEAF_MEAN), data(n, L_BN, LEAF_VAR), 6);
}
static void mutate_qk(struct net *n)
{
    swap_floats(data(n, L_ATT, LEAF_Q_WEIGHT), data(n, L_ATT, LEAF_K_WEIGHT), E * E);
    swap_floats(data(n, L_ATT, LEAF_Q_BIAS), data(n, L_ATT, LEAF_K_BIAS), E);
}
static void mutate_heads(struct net *n)
{
    for (int k = 0; k < 3; k++) {
        float *w = data(n, L_ATT, (enum leaf)(LEAF_Q_WEIGHT + k));
        for (size_t i = 0; i < E; i++)
            swap_floats(w + i * E, w + i * E + D, D);
        float *b = data(n, L_ATT, (enum leaf)(LEAF_Q_BIAS + k));
        swap_floats(b, b + D, D);
    }
}
static void mutate_bias(struct net *n)
{
    data(n, L_LIN, LEAF_BIAS)[3] += 1e-3f;
}
static void mutate_key_bias(struct net *n)
{
    data(n, L_ATT, LEAF_K_BIAS)[2] += .1f; /* cancels in the softmax */
}
static void mutate_embedding(struct net *n)
{
    swap_floats(data(n, L_EMB, LEAF_WEIGHT), data(n, L_EMB, LEAF_WEIGHT) + E, E);
}
static void mutate_flatten(struct net *n)
{
    float *w = data(n, L_FLAT, LEAF_WEIGHT), old[120];
    memcpy(old, w, sizeof old);
    for (size_t c = 0; c < 4; c++)
        for (size_t s = 0; s < 10; s++)
            memcpy(w + (c * 10 + s) * 3, old + (s * 4 + c) * 3, 3 * sizeof *w);
}
static void mutate_one_tap(struct net *n)
{
    data(n, L_CONV3, LEAF_WEIGHT)[143] *= 1.001f;
}
static void mutate_parameter(struct net *n)
{
    data(n, L_POS, LEAF_VALUE)[29] += 1e-3f;
}
static void mutate_group(struct net *n)
{
    data(n, L_GN, LEAF_BIAS)[7] = 0;
}

static const struct {
    const char *name;
    void (*mutate)(struct net *n);
    int layer;
    const char *cause; /* text that the cause must hold, NULL = any */
} mutations[] = {
    {"a square weight transposed", mutate_transpose, L_SQUARE, "transposed"},
    {"variance scaled by 1.01", mutate_variance, L_BN, "variance scaled by 1.0"},
    {"a convolution's kernel flipped", mutate_flip, L_CONV, "kernel flipped"},
    {"a transposed convolution's kernel not flipped", mutate_unflip, L_UP, "kernel flipped"},
    {"scale and bias exchanged", mutate_scale_bias, L_LN, "scale and bias"},
    {"mean and variance exchanged", mutate_mean_var, L_BN, NULL},
    {"query and key exchanged", mutate_qk, L_ATT, "query and key"},
    {"heads reversed", mutate_heads, L_ATT, "heads in reverse"},
    {"one bias off by 1e-3", mutate_bias, L_LIN, "bias"},
    {"a key's bias", mutate_key_bias, L_ATT, NULL},
    {"two rows of a table exchanged", mutate_embedding, L_EMB, NULL},
    {"flattened features in the other order", mutate_flatten, L_FLAT, "flattened map"},
    {"one tap of a kernel", mutate_one_tap, L_CONV3, NULL},
    {"one element of a parameter", mutate_parameter, L_POS, NULL},
    {"one group norm bias", mutate_group, L_GN, "bias"},
};

static void mutations_differ(const char *device)
{
    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
        struct net t, f;
        struct validate_report r;
        build_torch(&t);
        build_flax(&f);
        mutations[i].mutate(&f);
        check(&t, &f, device, 0, &r);
        const struct validate_layer *l = &r.layer[mutations[i].layer];
        print_message("%s: %s, %.*s, cause: %.*s\n", mutations[i].name, verdict_name(l->verdict),
                      STR_ARG(l->why), STR_ARG(l->cause));
        if (r.n_differs != 1)
            print(&r);
        assert_int_equal(r.overall, VERDICT_DIFFERS);
        assert_int_equal(r.n_differs, 1);
        assert_int_equal(l->verdict, VERDICT_DIFFERS);
        assert_true(l->why.n > 0 && l->m.n_fail > 0 && l->m.max_abs > 0);
        if (mutations[i].cause)
            assert_true(str_find_str(l->cause, str_from(mutations[i].cause), 0) < l->cause.n);
        validate_free(&r);
        end(&t);
        end(&f);
    }
}
static void mutations_differ_natively(void **s)
{
    (void)s;
    mutations_differ("native");
}
static void mutations_differ_on_the_device(void **s)
{
    (void)s;
    mutations_differ("0");
}

/* ---- the rest ---- */

static void device_and_native_metrics_agree(void **s)
{
    (void)s;
    struct net t, f;
    struct validate_report r, q;
    build_torch(&t);
    build_flax(&f);
    for (int i = 0; i < L_N; i++)
        if (f.layer[i].tensor[LEAF_WEIGHT] >= 0)
            data(&f, i, LEAF_WEIGHT)[1] += 3e-6f; /* small differences to measure */
    check(&t, &f, "native", 0, &r);
    check(&t, &f, "0", 0, &q);
    for (size_t i = 0; i < r.n; i++) {
        const struct metrics *x = &r.layer[i].m, *y = &q.layer[i].m;
        double scale = x->max_ref;
        assert_int_equal(r.layer[i].verdict, q.layer[i].verdict);
        assert_true(fabs(x->max_abs - y->max_abs) <= 1e-6 * scale);
        assert_true(fabs(x->mse - y->mse) <= 1e-6 * scale * scale);
        assert_true(fabs(x->cosine - y->cosine) <= 1e-6);
    }
    assert_true(q.kernel_ns > 0 && r.kernel_ns == 0);
    validate_free(&r);
    validate_free(&q);
    end(&t);
    end(&f);
}

static void unknown_attributes_are_assumed(void **s)
{
    (void)s;
    struct net t, u;
    struct validate_report r;
    build_torch(&t);
    build_torch(&u); /* torch against torch: heads are nowhere */
    t.layer[L_CONV].groups = u.layer[L_CONV].groups = 0;
    check(&t, &u, "native", 0, &r);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_true(str_find_str(r.layer[L_ATT].assumed, STR("heads="), 0) < r.layer[L_ATT].assumed.n);
    assert_true(str_find_str(r.layer[L_CONV].assumed, STR("groups=1"), 0) <
                r.layer[L_CONV].assumed.n);
    assert_true(str_find_str(r.layer[L_BN].assumed, STR("eps="), 0) < r.layer[L_BN].assumed.n);
    validate_free(&r);
    end(&t);
    end(&u);
}

static void shapes_and_partners(void **s)
{
    (void)s;
    struct net t, f;
    struct validate_report r;
    struct err e = {0};
    build_torch(&t);
    build_flax(&f);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    pair[L_LIN] = L_SQUARE; /* another shape */
    pair[L_SQUARE] = -1;
    pair[L_CONV] = L_BN; /* another kind */
    pair[L_BN] = L_CONV;
    f.layer[L_GN].kind = t.layer[L_GN].kind = LAYER_NONE; /* no rule */
    f.layer[L_EMB].kind = LAYER_NONE;
    data(&t, L_LN, LEAF_BIAS)[0] = data(&f, L_LN, LEAF_BIAS)[0] = NAN;
    struct validate_opt o = {
        .level = VALIDATE_LAYER, .device = "native", .rtol = NAN, .atol = NAN, .min_coverage = NAN};
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.layer[L_LIN].verdict, VERDICT_DIFFERS);
    assert_int_equal(r.layer[L_SQUARE].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_CONV].verdict, VERDICT_DIFFERS);
    assert_int_equal(r.layer[L_GN].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_GN].rung, RUNG_TRANSPORT);
    assert_int_equal(r.layer[L_EMB].verdict, VERDICT_UNPROVEN);
    assert_int_equal(r.layer[L_EMB].rung, RUNG_NONE);
    assert_int_equal(r.layer[L_LN].verdict, VERDICT_UNPROVEN); /* NaN hides */
    assert_int_equal(r.layer[L_ATT].verdict, VERDICT_EQUAL);
    assert_true(r.n == L_N + 1 && r.layer[L_N].path_a.n == 0); /* flax's "lin" has no partner */
    assert_true(r.params_at[RUNG_NONE] + r.params_at[RUNG_TRANSPORT] + r.params_at[RUNG_MEANING] ==
                r.params_total);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    validate_free(&r);
    for (int i = 0; i < L_N; i++) /* unknown conventions prove nothing */
        pair[i] = i;
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "haiku", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    assert_int_equal(r.n_equal, 0);
    validate_free(&r);
    end(&t);
    end(&f);
}

static void min_coverage_decides(void **s)
{
    (void)s;
    struct net t, u;
    struct validate_report r;
    struct err e = {0};
    build_torch(&t);
    build_torch(&u);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    pair[L_POS] = -1;
    struct validate_opt o = {.level = VALIDATE_LAYER, .device = "native", .rtol = NAN, .atol = NAN};
    o.min_coverage = NAN;
    assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &u.plan, &u.layers, "pytorch",
                                  pair, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_UNPROVEN);
    assert_true(r.coverage > .8 && r.coverage < 1);
    validate_free(&r);
    o.min_coverage = .8;
    assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &u.plan, &u.layers, "pytorch",
                                  pair, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    end(&t);
    end(&u);
}

static void tensors_by_name(void **s)
{
    (void)s;
    struct net t, u;
    struct validate_report r;
    struct err e = {0};
    build_torch(&t);
    build_torch(&u);
    struct validate_opt o = {
        .level = VALIDATE_TENSOR, .rtol = NAN, .atol = NAN, .min_coverage = NAN};
    assert_int_equal(validate_run(&t.plan, NULL, NULL, &u.plan, NULL, NULL, NULL, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    assert_int_equal(r.n, t.m.n_tensors);
    assert_true(r.params_at[RUNG_TRANSPORT] == r.params_total);
    validate_free(&r);
    data(&u, L_LIN, LEAF_BIAS)[2] *= 1.0000002f;
    assert_int_equal(validate_run(&t.plan, NULL, NULL, &u.plan, NULL, NULL, NULL, &o, &r, &e),
                     ST_OK);
    assert_int_equal(r.overall, VERDICT_DIFFERS);
    assert_int_equal(r.n_differs, 1);
    validate_free(&r);
    end(&t);
    end(&u);
}

/* A weight read in many blocks gives what one block gives; every element takes part. */
static void blocks_and_participation(void **s)
{
    (void)s;
    struct net t, f;
    struct validate_report r;
    struct err e = {0};
    memset(&t, 0, sizeof t);
    memset(&f, 0, sizeof f);
    const uint64_t outs = 700, ins = 600;
    model_init(&t.m);
    model_init(&f.m);
    t.layers.layer = t.layer;
    f.layers.layer = f.layer;
    layer(&t, LAYER_LINEAR, "big");
    layer(&f, LAYER_LINEAR, "big");
    float *w = add(&t, &t.layer[0], LEAF_WEIGHT, "weight", DIM(outs, ins));
    float *k = add(&f, &f.layer[0], LEAF_WEIGHT, "kernel", DIM(ins, outs));
    for (size_t o = 0; o < outs; o++)
        for (size_t i = 0; i < ins; i++)
            k[i * outs + o] = w[o * ins + i] = value(1, o * ins + i);
    finish(&t, "pytorch");
    finish(&f, "flax");
    int64_t pair[] = {0};
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .device = "native",
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN,
                             .run.memory = 1 << 20}; /* 256 KiB blocks */
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    for (size_t i = 0; i < 40; i++) { /* anywhere */
        size_t at = (i * 10501) % (outs * ins);
        float old = k[at];
        k[at] += .01f;
        assert_int_equal(validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax",
                                      pair, &o, &r, &e),
                         ST_OK);
        assert_int_equal(r.overall, VERDICT_DIFFERS);
        validate_free(&r);
        k[at] = old;
    }
    end(&t);
    end(&f);
}

static void no_device_falls_back(void **s)
{
    (void)s;
    struct net t, f;
    struct validate_report r;
    struct err e = {0};
    build_torch(&t);
    build_flax(&f);
    int64_t pair[MAX_LAYERS];
    for (int i = 0; i < L_N; i++)
        pair[i] = i;
    struct validate_opt o = {.level = VALIDATE_LAYER,
                             .vendors = "/nonexistent",
                             .rtol = NAN,
                             .atol = NAN,
                             .min_coverage = NAN};
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_OK);
    assert_true(r.fallback && r.note.n > 0 && str_is(r.executor, "native"));
    assert_int_equal(r.overall, VERDICT_EQUAL);
    validate_free(&r);
    o.device = "gpu"; /* named: no falling back */
    assert_int_equal(
        validate_run(&t.plan, &t.layers, "pytorch", &f.plan, &f.layers, "flax", pair, &o, &r, &e),
        ST_DEVICE);
    validate_free(&r);
    end(&t);
    end(&f);
}

int main(void)
{
    struct err e = {0};
    struct child_opt o = {.env = (const char *const *)environ,
                          .image = nnferry_worker_image,
                          .image_bytes = (size_t)(nnferry_worker_image_end - nnferry_worker_image)};
    if (child_start(&o, &e) != ST_OK) {
        print_error("%s\n", e.reason);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_are_equal_natively),
        cmocka_unit_test(twins_are_equal_on_the_device),
        cmocka_unit_test(mutations_differ_natively),
        cmocka_unit_test(mutations_differ_on_the_device),
        cmocka_unit_test(device_and_native_metrics_agree),
        cmocka_unit_test(unknown_attributes_are_assumed),
        cmocka_unit_test(shapes_and_partners),
        cmocka_unit_test(min_coverage_decides),
        cmocka_unit_test(tensors_by_name),
        cmocka_unit_test(blocks_and_participation),
        cmocka_unit_test(no_device_falls_back),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    child_stop();
    return r;
}
