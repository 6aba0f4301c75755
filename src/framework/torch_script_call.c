/* What torch's functions and modules say of themselves, by the names of their parameters. Sources:
 * aten/src/ATen/native/native_functions.yaml, torch/nn/functional.py, torch/nn/modules; a parameter
 * that is not written has the default of the schema.
 */
#include "base/checked.h"
#include "codec/json.h"
#include "framework/torch_script_code.h"
#include <string.h>

enum what {
    OP_BATCHNORM,
    OP_INSTANCENORM,
    OP_LAYERNORM,
    OP_GROUPNORM,
    OP_RMSNORM,
    OP_CONV,
    OP_CONV_TRANSPOSE,
    OP_CONVOLUTION, /* either, an argument says which */
    OP_LINEAR,
    OP_EMBEDDING,
    OP_PRELU,
    OP_LSTM,
    OP_GRU,
    OP_RNN,
    OP_RNN_RELU,
    OP_ATTENTION,
    OP_NATIVE_ATTENTION, /* what is run where nothing is trained */
    OP_ENCODER_LAYER,
    OP_GELU,
    OP_LEAKY_RELU,
    OP_HARD_SIGMOID,
    OP_MAX_POOL,
    OP_AVG_POOL
};
struct script_op {
    const char *name; /* behind "torch.", behind FUNCTIONAL, or a module's class */
    enum what what;
    const char *parameters;
};

#define NORM "input weight bias running_mean running_var training momentum eps"
#define CONV "input weight bias stride padding dilation groups"
#define TRANSPOSE "input weight bias stride padding output_padding groups dilation"
#define WHOLE "input weight bias stride padding dilation transposed output_padding groups"
#define CELL "input hx params has_biases num_layers dropout train bidirectional batch_first"
#define MAX_POOL "input kernel_size stride padding dilation ceil_mode"
#define AVG_POOL "input kernel_size stride padding ceil_mode count_include_pad"

#define NATIVE "query key value embed_dim heads qkv_weight"
#define ENCODER                                                                                    \
    "src embed_dim heads qkv_weight qkv_bias proj_weight proj_bias use_gelu norm_first eps "       \
    "norm_weight_1 norm_bias_1 norm_weight_2"

static const struct script_op ops[] = {
    {"batch_norm", OP_BATCHNORM, NORM},
    {"instance_norm", OP_INSTANCENORM, NORM},
    {"layer_norm", OP_LAYERNORM, "input normalized_shape weight bias eps"},
    {"group_norm", OP_GROUPNORM, "input num_groups weight bias eps"},
    {"rms_norm", OP_RMSNORM, "input normalized_shape weight eps"},
    {"conv1d", OP_CONV, CONV},
    {"conv2d", OP_CONV, CONV},
    {"conv3d", OP_CONV, CONV},
    {"_convolution_mode", OP_CONV, CONV},
    {"conv_transpose1d", OP_CONV_TRANSPOSE, TRANSPOSE},
    {"conv_transpose2d", OP_CONV_TRANSPOSE, TRANSPOSE},
    {"conv_transpose3d", OP_CONV_TRANSPOSE, TRANSPOSE},
    {"_convolution", OP_CONVOLUTION, WHOLE},
    {"convolution", OP_CONVOLUTION, WHOLE},
    {"linear", OP_LINEAR, "input weight bias"},
    {"embedding", OP_EMBEDDING, "weight input"},
    {"prelu", OP_PRELU, "input weight"},
    {"lstm", OP_LSTM, CELL},
    {"gru", OP_GRU, CELL},
    {"rnn_tanh", OP_RNN, CELL},
    {"rnn_relu", OP_RNN_RELU, CELL},
    {"_native_multi_head_attention", OP_NATIVE_ATTENTION, NATIVE},
    {"_transformer_encoder_layer_fwd", OP_ENCODER_LAYER, ENCODER},
    {"gelu", OP_GELU, "input approximate"},
    {"leaky_relu", OP_LEAKY_RELU, "input negative_slope"},
    {"leaky_relu_", OP_LEAKY_RELU, "input negative_slope"},
    {"hardsigmoid", OP_HARD_SIGMOID, "input"},
    {"hardsigmoid_", OP_HARD_SIGMOID, "input"},
    {"max_pool1d", OP_MAX_POOL, MAX_POOL},
    {"max_pool2d", OP_MAX_POOL, MAX_POOL},
    {"max_pool3d", OP_MAX_POOL, MAX_POOL},
    {"avg_pool1d", OP_AVG_POOL, AVG_POOL},
    {"avg_pool2d", OP_AVG_POOL, AVG_POOL},
    {"avg_pool3d", OP_AVG_POOL, AVG_POOL},
};
static const struct script_op functionals[] = {
    {"batch_norm", OP_BATCHNORM,
     "input running_mean running_var weight bias training momentum eps"},
    {"instance_norm", OP_INSTANCENORM,
     "input running_mean running_var weight bias use_input_stats momentum eps"},
    {"layer_norm", OP_LAYERNORM, "input normalized_shape weight bias eps"},
    {"group_norm", OP_GROUPNORM, "input num_groups weight bias eps"},
    {"rms_norm", OP_RMSNORM, "input normalized_shape weight eps"},
    {"linear", OP_LINEAR, "input weight bias"},
    {"embedding", OP_EMBEDDING, "input weight"},
    {"leaky_relu", OP_LEAKY_RELU, "input negative_slope"},
    {"hardsigmoid", OP_HARD_SIGMOID, "input"},
    {"_max_pool1d", OP_MAX_POOL, MAX_POOL},
    {"_max_pool2d", OP_MAX_POOL, MAX_POOL},
    {"_max_pool3d", OP_MAX_POOL, MAX_POOL},
};
static const struct script_op modules[] = {
    {"batchnorm.BatchNorm1d", OP_BATCHNORM, ""},
    {"batchnorm.BatchNorm2d", OP_BATCHNORM, ""},
    {"batchnorm.BatchNorm3d", OP_BATCHNORM, ""},
    {"instancenorm.InstanceNorm1d", OP_INSTANCENORM, ""},
    {"instancenorm.InstanceNorm2d", OP_INSTANCENORM, ""},
    {"instancenorm.InstanceNorm3d", OP_INSTANCENORM, ""},
    {"normalization.LayerNorm", OP_LAYERNORM, ""},
    {"normalization.GroupNorm", OP_GROUPNORM, ""},
    {"normalization.RMSNorm", OP_RMSNORM, ""},
    {"conv.Conv1d", OP_CONV, ""},
    {"conv.Conv2d", OP_CONV, ""},
    {"conv.Conv3d", OP_CONV, ""},
    {"conv.ConvTranspose1d", OP_CONV_TRANSPOSE, ""},
    {"conv.ConvTranspose2d", OP_CONV_TRANSPOSE, ""},
    {"conv.ConvTranspose3d", OP_CONV_TRANSPOSE, ""},
    {"rnn.LSTM", OP_LSTM, ""},
    {"rnn.GRU", OP_GRU, ""},
    {"rnn.RNN", OP_RNN, ""},
    {"activation.MultiheadAttention", OP_ATTENTION, ""},
};
#define FUNCTIONAL "__torch__.torch.nn.functional."
#define MODULES "__torch__.torch.nn.modules."
#define MANGLE "___torch_mangle_"

static const struct script_op *in_table(const struct script_op *t, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_is(name, t[i].name))
            return &t[i];
    return NULL;
}

const struct script_op *script_op_find(struct str name)
{
    if (str_starts(name, STR("torch.")))
        return in_table(ops, sizeof ops / sizeof *ops, str_sub(name, 6, name.n));
    struct str f = STR(FUNCTIONAL);
    if (!str_starts(name, f))
        return NULL;
    f = str_sub(name, f.n, name.n);
    if (str_starts(f, STR(MANGLE)))
        f = str_sub(f, str_find(f, '.', 0) + 1, f.n);
    return in_table(functionals, sizeof functionals / sizeof *functionals, f);
}

/* ---- arguments ---- */

struct call {
    struct script_scan *s;
    const struct script_op *op;
    const struct script_arg *arg;
    size_t n;
    bool declared; /* constants of a class: what is not there has no default */
};

/* Empty: not written. */
static struct str written(const struct call *c, const char *key)
{
    struct str rest = str_from(c->op->parameters), name;
    size_t place = 0;
    for (size_t i = 0; i < c->n; i++)
        if (str_is(c->arg[i].key, key))
            return c->arg[i].text;
    while (rest.p && str_split(&rest, ' ', &name) && place < c->n && !c->arg[place].key.n)
        if (str_is(name, key))
            return c->arg[place].text;
        else
            place++;
    return STR("");
}

static struct script_value value(const struct call *c, const char *key)
{
    return script_value_of(c->s, written(c, key));
}

/* As it is written; `otherwise` where it is not there; empty where it is no constant. */
static struct str text(const struct call *c, const char *key, const char *otherwise)
{
    struct script_value v = value(c, key);
    if (!written(c, key).n)
        return str_from(c->declared ? "" : otherwise);
    return v.kind == VALUE_TEXT ? v.text : STR("");
}

/* 0: none of use. Python writes 2. for 2.0. */
static double positive(struct str number)
{
    if (number.n > 1 && number.p[number.n - 1] == '.')
        number.n--;
    double v = number.n && number.n < 32 ? json_text_double(number) : 0;
    return v > 0 && v < 1e30 ? v : 0;
}

static struct str trim(struct str s)
{
    while (s.n && s.p[0] == ' ')
        s = str_sub(s, 1, s.n);
    while (s.n && s.p[s.n - 1] == ' ')
        s.n--;
    return s;
}

/* The elements of "[a, b]" or "(a, b)", a trailing comma or not; SIZE_MAX: no list, or too long. */
static size_t elements(struct str list, struct str *out, size_t max)
{
    size_t n = 0;
    struct str part;
    if (list.n < 2 || !((list.p[0] == '[' && list.p[list.n - 1] == ']') ||
                        (list.p[0] == '(' && list.p[list.n - 1] == ')')))
        return SIZE_MAX;
    struct str rest = trim(str_sub(list, 1, list.n - 1));
    if (rest.n && rest.p[rest.n - 1] == ',')
        rest.n--;
    while (rest.n && rest.p && str_split(&rest, ',', &part)) {
        if (n == max)
            return SIZE_MAX;
        out[n++] = trim(part);
    }
    return n;
}

static struct script_ints ints(const struct call *c, const char *key, const char *otherwise)
{
    static const struct script_ints none = {0};
    struct script_ints x = {.n = 1};
    struct str s = text(c, key, otherwise), part[SCRIPT_RANK];
    if (str_u64(s, &x.v[0]))
        return x;
    x.n = elements(s, part, SCRIPT_RANK);
    for (size_t i = 0; x.n != SIZE_MAX && i < x.n; i++)
        if (!str_u64(part[i], &x.v[i]))
            return none;
    return x.n == SIZE_MAX ? none : x;
}

static uint64_t at(const struct script_ints *x, size_t axis)
{
    return x->v[x->n == 1 ? 0 : axis];
}

static bool all_are(const struct script_ints *x, uint64_t v)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i] != v)
            return false;
    return x->n > 0;
}

static bool fits(const struct script_ints *x, size_t rank)
{
    return x->n == 1 || x->n == rank;
}

struct str script_padding(const struct script_ints *stride, const struct script_ints *padding,
                          const struct script_ints *dilation, const uint64_t *kernel, size_t rank,
                          struct arena *a)
{
    struct str text = STR("(");
    if (!fits(padding, rank) || rank == 0 || rank > SCRIPT_RANK)
        return STR("");
    if (all_are(padding, 0))
        return STR("none");
    if (!fits(stride, rank) || !fits(dilation, rank))
        return STR("");
    bool same = kernel && all_are(stride, 1);
    for (size_t d = 0; d < rank && same; d++) {
        uint64_t all, twice;
        same = kernel[d] > 0 && mul_u64(kernel[d] - 1, at(dilation, d), &all) &&
               mul_u64(at(padding, d), 2, &twice) && all == twice;
    }
    if (same)
        return STR("same");
    for (size_t d = 0; d < rank && text.p; d++)
        text = arena_fmt(a, "%.*s%llu%s", STR_ARG(text), (unsigned long long)at(padding, d),
                         d + 1 < rank ? ", " : ")");
    return text;
}

/* ---- what is said ---- */

static bool about(struct script_use *u, struct script_value v)
{
    u->tensor = v.attr;
    return v.kind == VALUE_ATTR;
}

static struct script_use *add(const struct call *c, const struct script_use *x)
{
    struct script_use *u = script_use_new(c->s), *next = NULL;
    if (u) {
        next = u->next;
        *u = *x;
        u->next = next;
    }
    return u;
}

static void norm(const struct call *c, struct script_use *x)
{
    static const enum layer_kind kinds[] = {
        [OP_BATCHNORM] = LAYER_BATCHNORM, [OP_INSTANCENORM] = LAYER_NONE,
        [OP_LAYERNORM] = LAYER_LAYERNORM, [OP_GROUPNORM] = LAYER_GROUPNORM,
        [OP_RMSNORM] = LAYER_LAYERNORM,
    };
    x->kind = kinds[c->op->what];
    x->rms = c->op->what == OP_RMSNORM;
    x->epsilon = positive(text(c, "eps", x->rms ? "" : "1e-05"));
    if (c->op->what == OP_BATCHNORM || c->op->what == OP_INSTANCENORM) {
        double taken = positive(text(c, "momentum", ""));
        x->momentum = taken < 1 && taken > 0 ? 1 - taken : 0;
    }
    if (x->kind == LAYER_GROUPNORM && !str_u64(text(c, "num_groups", ""), &x->groups))
        x->groups = 0;
}

static void convolution(const struct call *c, struct script_use *x, bool padded)
{
    struct str turned = text(c, "transposed", "");
    bool either = c->op->what == OP_CONVOLUTION, up = c->op->what == OP_CONV_TRANSPOSE;
    if (either && !str_is(turned, "True") && !str_is(turned, "False"))
        return;
    up = up || str_is(turned, "True");
    struct script_ints more = ints(c, "output_padding", "0");
    struct str mode = text(c, "padding_mode", "\"zeros\"");
    x->kind = up ? LAYER_CONV_TRANSPOSE : LAYER_CONV;
    if (!str_u64(text(c, "groups", "1"), &x->groups))
        x->groups = 0;
    x->stride = ints(c, "stride", "1");
    x->dilation = ints(c, "dilation", "1");
    if (padded || !str_is(mode, "\"zeros\"") || (up && !all_are(&more, 0)))
        return;
    x->same = str_is(text(c, "padding", "0"), "\"same\"");
    x->padding = ints(c, "padding", "0");
    if (str_is(text(c, "padding", "0"), "\"valid\""))
        x->padding = (struct script_ints){.n = 1};
}

static void cell(const struct call *c, struct script_use *x)
{
    struct str first = text(c, "batch_first", ""), mode = text(c, "mode", "");
    enum what w = c->op->what;
    x->kind = w == OP_LSTM ? LAYER_LSTM : w == OP_GRU ? LAYER_GRU : LAYER_RNN;
    x->batch = str_is(first, "True")    ? STR("first")
               : str_is(first, "False") ? STR("second")
                                        : STR("");
    if (w == OP_RNN_RELU || (w == OP_RNN && str_is(mode, "\"RNN_RELU\"")))
        x->activation = STR("relu");
    else if (w == OP_RNN && (!c->declared || str_is(mode, "\"RNN_TANH\"")))
        x->activation = STR("tanh");
}

static void function(const struct call *c, const char *of, const char *setting, struct str means)
{
    struct script_use x = {.of = of, .setting = setting, .means = means};
    if (means.n)
        (void)add(c, &x);
}

static void pool(const struct call *c)
{
    struct script_ints kernel = ints(c, "kernel_size", ""), stride = ints(c, "stride", ""),
                       padding = ints(c, "padding", "0"), dilation = ints(c, "dilation", "1");
    bool avg = c->op->what == OP_AVG_POOL;
    size_t rank = (size_t)(c->op->name[strlen(c->op->name) - 2] - '0');
    struct str counted = text(c, "count_include_pad", "True");
    uint64_t extent[SCRIPT_RANK] = {0};
    if (rank > SCRIPT_RANK || !fits(&kernel, rank))
        return;
    if (stride.n == 0)
        stride = kernel; /* as where it is not told, or [] */
    for (size_t d = 0; d < rank; d++)
        extent[d] = at(&kernel, d);
    struct str means =
        script_padding(&stride, &padding, &dilation, extent, rank, script_arena(c->s));
    if (!means.n || str_is(means, "none"))
        return;
    function(c, avg ? "avg_pool" : "max_pool", "padding", means);
    if (avg)
        function(c, "avg_pool", "border",
                 str_is(counted, "True")    ? STR("counted")
                 : str_is(counted, "False") ? STR("left out")
                                            : STR(""));
}

/* An attention, or a whole layer of an encoder, in one call; the batch comes first or it would not
 * have been called. */
static void fused(const struct call *c)
{
    static const char *const norms[] = {"norm_weight_1", "norm_weight_2"};
    struct script_use x = {.kind = LAYER_ATTENTION, .batch = STR("first")},
                      norm = {.kind = LAYER_LAYERNORM};
    if (!str_u64(text(c, "heads", ""), &x.heads))
        x.heads = 0;
    if (about(&x, value(c, "qkv_weight")) && !add(c, &x))
        return;
    if (c->op->what != OP_ENCODER_LAYER)
        return;
    norm.epsilon = positive(text(c, "eps", ""));
    for (size_t i = 0; i < 2; i++)
        if (about(&norm, value(c, norms[i])) && !add(c, &norm))
            return;
    if (str_is(text(c, "use_gelu", ""), "True"))
        function(c, "gelu", "form", STR("exact"));
}

static void functions(const struct call *c)
{
    struct str form = text(c, "approximate", "\"none\"");
    double slope = positive(text(c, "negative_slope", "0.01"));
    switch (c->op->what) {
    case OP_GELU:
        function(c, "gelu", "form",
                 str_is(form, "\"none\"")   ? STR("exact")
                 : str_is(form, "\"tanh\"") ? STR("tanh")
                                            : STR(""));
        return;
    case OP_LEAKY_RELU:
        if (slope > 0)
            function(c, "leaky_relu", "slope", arena_fmt(script_arena(c->s), "%g", slope));
        return;
    case OP_HARD_SIGMOID:
        function(c, "hard_sigmoid", "form", STR("x/6+1/2"));
        return;
    case OP_NATIVE_ATTENTION:
    case OP_ENCODER_LAYER:
        fused(c);
        return;
    default:
        pool(c);
        return;
    }
}

/* false: it is a function, or several layers. */
static bool said(const struct call *c, struct script_use *x, bool padded)
{
    switch (c->op->what) {
    case OP_BATCHNORM:
    case OP_INSTANCENORM:
    case OP_LAYERNORM:
    case OP_GROUPNORM:
    case OP_RMSNORM:
        norm(c, x);
        return true;
    case OP_CONV:
    case OP_CONV_TRANSPOSE:
    case OP_CONVOLUTION:
        convolution(c, x, padded);
        return true;
    case OP_LINEAR:
        x->kind = LAYER_LINEAR;
        return true;
    case OP_EMBEDDING:
        x->kind = LAYER_EMBEDDING;
        return true;
    case OP_PRELU:
        x->kind = LAYER_PRELU;
        return true;
    case OP_LSTM:
    case OP_GRU:
    case OP_RNN:
    case OP_RNN_RELU:
    case OP_ATTENTION:
        cell(c, x);
        if (c->op->what == OP_ATTENTION)
            x->kind = LAYER_ATTENTION;
        return true;
    default:
        return false;
    }
}

void script_called(struct script_scan *s, const struct script_op *op, const struct script_arg *arg,
                   size_t n, bool padded)
{
    struct call c = {s, op, arg, n, false};
    struct script_use x = {0};
    struct str part[SCRIPT_PARTS];
    if (!said(&c, &x, padded)) {
        functions(&c);
        return;
    }
    if (kind_is_cell(x.kind)) {
        size_t parts = elements(text(&c, "params", ""), part, SCRIPT_PARTS);
        for (size_t i = 0; parts != SIZE_MAX && i < parts; i++)
            if (about(&x, script_value_of(s, part[i])) && !add(&c, &x))
                return;
        return;
    }
    if (about(&x, value(&c, "weight")) && !add(&c, &x))
        return;
    if (about(&x, value(&c, "running_mean")))
        (void)add(&c, &x);
}

void script_declared(struct script_scan *s, struct str class, const struct script_arg *constant,
                     size_t n)
{
    struct str own = STR(MODULES), mangle = STR("." MANGLE);
    char name[64];
    if (!str_starts(class, own))
        return;
    class = str_sub(class, own.n, class.n);
    size_t cut = str_find_str(class, mangle, 0), rest = cut;
    if (cut < class.n)
        rest = str_find(class, '.', cut + 1);
    if (cut + (class.n - rest) >= sizeof name)
        return;
    memcpy(name, class.p, cut);
    memcpy(name + cut, class.p + rest, class.n - rest);
    struct call c = {s,
                     in_table(modules, sizeof modules / sizeof *modules,
                              (struct str){name, cut + (class.n - rest)}),
                     constant, n, true};
    struct script_use x = {0};
    /* a traced class has no constants: then it is the calls that tell */
    if (!c.op || n == 0 || !said(&c, &x, false))
        return;
    (void)add(&c, &x);
}
