/* Any bytes as a TorchScript archive; what is no zip, as the program of one, whose modules are of
 * classes that such programs have: it is read, and what is said is one of the words for it. */
#include "tests/fuzz/fuzz_format.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define TORCH "__torch__.torch.nn.modules."
static const struct {
    const char *module, *class, *key;
    uint64_t dim[4];
    size_t n_dims;
} tensors[] = {
    {"a", "__torch__.A", "weight", {4}, 1},
    {"b", "__torch__.B", "weight", {4, 4, 3}, 3},
    {"c", "__torch__.C", "weight", {6, 4}, 2},
    {"l", "__torch__.L", "weight_ih_l0", {3, 2}, 2},
    {"l", "__torch__.L", "weight_hh_l0", {3, 3}, 2},
    {"n", TORCH "normalization.GroupNorm", "weight", {4}, 1},
    {"s", TORCH "batchnorm.BatchNorm1d", "running_mean", {4}, 1},
    {"s", TORCH "batchnorm.BatchNorm1d", "running_var", {4}, 1},
    {"t", TORCH "conv.ConvTranspose1d", "weight", {4, 4, 3}, 3},
    {"v", TORCH "conv.Conv1d", "weight", {4, 4, 3}, 3},
    {"x", TORCH "activation.MultiheadAttention", "in_proj_weight", {12, 4}, 2},
};
static const char *const files[] = {
    "code/__torch__.py", "code/__torch__/torch/nn/modules/normalization.py",
    "code/__torch__/torch/nn/modules/batchnorm.py", "code/__torch__/torch/nn/modules/conv.py",
    "code/__torch__/torch/nn/modules/activation.py"};

static void must(bool ok)
{
    if (!ok)
        abort();
}

static struct node *child(struct model *m, struct node *outer, const char *key, enum node_kind kind)
{
    struct str text = str_from(key);
    for (struct node *c = outer->child; c; c = c->next)
        if (str_eq(c->key->text, text))
            return c;
    struct node *n = node_new(&m->arena, kind), *name = node_new(&m->arena, NODE_STR);
    must(n && name);
    name->text = text;
    n->key = name;
    node_add(outer, n);
    return n;
}

static void build(struct model *m, const uint8_t *data, size_t n)
{
    struct err e = {0};
    m->framework = STR("pytorch");
    m->modules = node_new(&m->arena, NODE_OPAQUE);
    must(m->modules);
    m->modules->text = STR("__torch__.Net");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        struct tensor *t;
        struct node *of = child(m, m->modules, tensors[i].module, NODE_OPAQUE);
        of->text = str_from(tensors[i].class);
        child(m, of, tensors[i].key, NODE_TENSOR)->tensor = (uint32_t)m->n_tensors;
        must(model_tensor_add(m, &t, &e) == ST_OK);
        t->name = arena_fmt(&m->arena, "%s.%s", tensors[i].module, tensors[i].key);
        must(t->name.p && tensor_set_shape(m, t, tensors[i].dim, tensors[i].n_dims, &e) == ST_OK);
    }
    child(m, child(m, m->modules, "x", NODE_OPAQUE), "num_heads", NODE_INT)->i = 2;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct attachment *a;
        must(model_attach(m, &a, &e) == ST_OK);
        a->name = str_from(files[i]);
        a->mem = data;
        a->n_bytes = n;
    }
}

static bool one_of(struct str s, const char *x, const char *y)
{
    return !s.n || str_is(s, x) || str_is(s, y);
}

static void program(const uint8_t *data, size_t n)
{
    struct model m;
    struct arena a = ARENA_INIT;
    struct layers l = {0};
    struct err e = {0};
    model_init(&m);
    build(&m, data, n);
    must(framework_find(STR("pytorch"))->layers(&m, &a, &l, &e) == ST_OK);
    for (size_t i = 0; i < l.n; i++) {
        const struct layer_settings *s = &l.layer[i].said;
        must(s->epsilon >= 0 && s->epsilon < 1e31 && s->momentum >= 0 && s->momentum < 1);
        must(one_of(s->batch, "first", "second") && one_of(s->activation, "relu", "tanh"));
        must(l.layer[i].groups <= 12 && l.layer[i].heads <= 2);
    }
    for (size_t i = 0; i < l.n_functions; i++)
        must(l.function[i].of && l.function[i].setting && l.function[i].means.n &&
             str_utf8(l.function[i].path, NULL));
    arena_free(&a);
    model_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n >= 2 && memcmp(data, "PK", 2) == 0)
        return fuzz_format("pytorch", data, n);
    program(data, n);
    return 0;
}
