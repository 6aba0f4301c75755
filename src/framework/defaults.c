/* See defaults.h. Sources: the signatures of torch 2, flax 0.12, dm-haiku 0.0.16, equinox 0.13,
 * keras 3 and tf_keras 2 (here "tensorflow"); what no argument changes, their documentation.
 */
#include "framework/defaults.h"
#include "codec/json.h"
#include <string.h>

#define KERAS "keras tensorflow"
#define FLAX "flax nnx"
#define JAX "flax nnx haiku equinox"

const struct fact facts[] = {
    {"pytorch", "batchnorm", "epsilon", "eps", "1e-05", "1e-05"},
    {KERAS, "batchnorm", "epsilon", "epsilon", "0.001", "0.001"},
    {FLAX, "batchnorm", "epsilon", "epsilon", "1e-05", "1e-05"},
    {"haiku equinox", "batchnorm", "epsilon", "eps", "1e-05", "1e-05"},
    {"pytorch", "layernorm", "epsilon", "eps", "1e-05", "1e-05"},
    {KERAS, "layernorm", "epsilon", "epsilon", "0.001", "0.001"},
    {FLAX, "layernorm", "epsilon", "epsilon", "1e-06", "1e-06"},
    {"haiku equinox", "layernorm", "epsilon", "eps", "1e-05", "1e-05"},
    {"pytorch", "groupnorm", "epsilon", "eps", "1e-05", "1e-05"},
    {KERAS, "groupnorm", "epsilon", "epsilon", "0.001", "0.001"},
    {FLAX, "groupnorm", "epsilon", "epsilon", "1e-06", "1e-06"},
    {"haiku equinox", "groupnorm", "epsilon", "eps", "1e-05", "1e-05"},
    {"pytorch", "rmsnorm", "epsilon", "eps", "None", "1.1920929e-07"}, /* float32's own */
    {"keras", "rmsnorm", "epsilon", "epsilon", "1e-06", "1e-06"},
    {FLAX, "rmsnorm", "epsilon", "epsilon", "1e-06", "1e-06"},
    {"haiku equinox", "rmsnorm", "epsilon", "eps", "1e-05", "1e-05"},

    {"pytorch keras flax nnx haiku equinox", "rmsnorm", "factor", NULL, NULL, "weight"},

    {"pytorch", "batchnorm", "momentum", "momentum", "0.1", "0.9"},
    {KERAS, "batchnorm", "momentum", "momentum", "0.99", "0.99"},
    {FLAX, "batchnorm", "momentum", "momentum", "0.99", "0.99"},
    {"haiku", "batchnorm", "momentum", "decay_rate", NULL, NULL},
    {"equinox", "batchnorm", "momentum", "momentum", "0.99", "0.99"},

    {"pytorch", "groupnorm", "groups", "num_groups", NULL, NULL},
    {KERAS, "groupnorm", "groups", "groups", "32", "32"},
    {FLAX, "groupnorm", "groups", "num_groups", "32", "32"},
    {"haiku equinox", "groupnorm", "groups", "groups", NULL, NULL},

    {"pytorch equinox", "conv", "padding", "padding", "0", "none"},
    {KERAS, "conv", "padding", "padding", "'valid'", "none"},
    {"flax nnx haiku", "conv", "padding", "padding", "'SAME'", "same"},
    {"pytorch equinox", "conv_transpose", "padding", "padding", "0", "none"},
    {KERAS, "conv_transpose", "padding", "padding", "'valid'", "none"},
    {"flax nnx haiku", "conv_transpose", "padding", "padding", "'SAME'", "same"},
    {KERAS, "conv_local", "padding", NULL, NULL, "none"}, /* of implementation 1 */
    {"flax", "conv_local", "padding", "padding", "'SAME'", "same"},

    {"pytorch", "attention", "batch", "batch_first", "False", "second"},
    {"keras tensorflow flax nnx haiku", "attention", "batch", NULL, NULL, "first"},
    {"equinox", "attention", "batch", NULL, NULL, "absent"},
    {"pytorch", "lstm", "batch", "batch_first", "False", "second"},
    {"keras", "lstm", "batch", NULL, NULL, "first"},
    {"tensorflow", "lstm", "batch", "time_major", "False", "first"},
    {FLAX, "lstm", "batch", "time_major", "False", "first"},
    {"haiku", "lstm", "batch", "time_major", "True", "second"},
    {"equinox", "lstm", "batch", NULL, NULL, "absent"},
    {"pytorch", "gru", "batch", "batch_first", "False", "second"},
    {"keras", "gru", "batch", NULL, NULL, "first"},
    {"tensorflow", "gru", "batch", "time_major", "False", "first"},
    {FLAX, "gru", "batch", "time_major", "False", "first"},
    {"equinox", "gru", "batch", NULL, NULL, "absent"},
    {"pytorch", "rnn", "batch", "batch_first", "False", "second"},
    {KERAS, "rnn", "batch", NULL, NULL, "first"},
    {FLAX, "rnn", "batch", "time_major", "False", "first"},
    {"haiku", "rnn", "batch", "time_major", "True", "second"},

    {"pytorch haiku equinox", "lstm", "activation", NULL, NULL, "tanh"},
    {KERAS, "lstm", "activation", "activation", "'tanh'", "tanh"},
    {FLAX, "lstm", "activation", "activation_fn", "tanh", "tanh"},
    {"pytorch haiku equinox", "lstm", "gates", NULL, NULL, "sigmoid"},
    {KERAS, "lstm", "gates", "recurrent_activation", "'sigmoid'", "sigmoid"},
    {FLAX, "lstm", "gates", "gate_fn", "sigmoid", "sigmoid"},
    {KERAS, "conv_lstm", "batch", NULL, NULL, "first"},
    {"flax", "conv_lstm", "batch", "time_major", "False", "first"},
    {"haiku", "conv_lstm", "batch", "time_major", "True", "second"},
    {KERAS, "conv_lstm", "padding", "padding", "'valid'", "none"},
    {"flax haiku", "conv_lstm", "padding", NULL, NULL, "same"},
    {KERAS, "conv_lstm", "stride", "strides", "1", "1"},
    {"flax haiku", "conv_lstm", "stride", NULL, NULL, "1"},
    {KERAS, "conv_lstm", "dilation", "dilation_rate", "1", "1"},
    {"flax haiku", "conv_lstm", "dilation", NULL, NULL, "1"},
    {KERAS, "conv_lstm", "activation", "activation", "'tanh'", "tanh"},
    {"flax haiku", "conv_lstm", "activation", NULL, NULL, "tanh"},
    {"keras", "conv_lstm", "gates", "recurrent_activation", "'sigmoid'", "sigmoid"},
    {"tensorflow", "conv_lstm", "gates", "recurrent_activation", "'hard_sigmoid'", "hard_sigmoid"},
    {"flax haiku", "conv_lstm", "gates", NULL, NULL, "sigmoid"},
    {"pytorch equinox", "gru", "activation", NULL, NULL, "tanh"},
    {KERAS, "gru", "activation", "activation", "'tanh'", "tanh"},
    {FLAX, "gru", "activation", "activation_fn", "tanh", "tanh"},
    {"pytorch equinox", "gru", "gates", NULL, NULL, "sigmoid"},
    {KERAS, "gru", "gates", "recurrent_activation", "'sigmoid'", "sigmoid"},
    {FLAX, "gru", "gates", "gate_fn", "sigmoid", "sigmoid"},
    {"haiku", "gru_before", "activation", NULL, NULL, "tanh"},
    {KERAS, "gru_before", "activation", "activation", "'tanh'", "tanh"},
    {"haiku", "gru_before", "gates", NULL, NULL, "sigmoid"},
    {KERAS, "gru_before", "gates", "recurrent_activation", "'sigmoid'", "sigmoid"},
    {"haiku", "gru_before", "reset", NULL, NULL, "before"},
    {KERAS, "gru_before", "reset", "reset_after", "True", "after"},
    {"pytorch", "rnn", "activation", "nonlinearity", "'tanh'", "tanh"},
    {KERAS, "rnn", "activation", "activation", "'tanh'", "tanh"},
    {FLAX, "rnn", "activation", "activation_fn", "tanh", "tanh"},
    {"haiku", "rnn", "activation", NULL, NULL, "relu"},

    {"hf hf_flax equinox", "rope", "pairs", NULL, NULL, "halves"},
    {"pytorch keras tensorflow flax nnx haiku", "rope", "pairs", NULL, NULL, NULL},

    {"pytorch", "gelu", "form", "approximate", "'none'", "exact"},
    {KERAS, "gelu", "form", "approximate", "False", "exact"},
    {JAX, "gelu", "form", "approximate", "True", "tanh"},
    {"pytorch", "leaky_relu", "slope", "negative_slope", "0.01", "0.01"},
    {JAX, "leaky_relu", "slope", "negative_slope", "0.01", "0.01"},
    {"keras", "leaky_relu", "slope", "negative_slope", "0.3", "0.3"},
    {"tensorflow", "leaky_relu", "slope", "alpha", "0.3", "0.3"},
    {"pytorch keras flax nnx haiku equinox", "hard_sigmoid", "form", NULL, NULL, "x/6+1/2"},
    {"tensorflow", "hard_sigmoid", "form", NULL, NULL, "x/5+1/2"},

    {"pytorch equinox", "max_pool", "padding", "padding", "0", "none"},
    {KERAS, "max_pool", "padding", "padding", "'valid'", "none"},
    {FLAX, "max_pool", "padding", "padding", "'VALID'", "none"},
    {"haiku", "max_pool", "padding", "padding", NULL, NULL},
    {"pytorch equinox", "avg_pool", "padding", "padding", "0", "none"},
    {KERAS, "avg_pool", "padding", "padding", "'valid'", "none"},
    {FLAX, "avg_pool", "padding", "padding", "'VALID'", "none"},
    {"haiku", "avg_pool", "padding", "padding", NULL, NULL},
    {"pytorch", "avg_pool", "border", "count_include_pad", "True", "counted"},
    {FLAX, "avg_pool", "border", "count_include_pad", "True", "counted"},
    {"equinox", "avg_pool", "border", NULL, NULL, "counted"},
    {"keras tensorflow haiku", "avg_pool", "border", NULL, NULL, "left out"},
};
const size_t n_facts = sizeof facts / sizeof *facts;

/* Words of the frameworks for a meaning, where it is no number. */
static const struct word {
    const char *frameworks, *setting, *means, *text;
} words[] = {
    {"pytorch equinox", "padding", "none", "0"},
    {KERAS, "padding", "none", "'valid'"},
    {"flax nnx haiku", "padding", "none", "'VALID'"},
    {"pytorch keras tensorflow", "padding", "same", "'same'"},
    {JAX, "padding", "same", "'SAME'"},
    {KERAS, "padding", "causal", "'causal'"},
    {FLAX, "padding", "causal", "'CAUSAL'"},
    {"pytorch", "batch", "first", "True"},
    {"pytorch", "batch", "second", "False"},
    {"tensorflow flax nnx haiku", "batch", "first", "False"},
    {"tensorflow flax nnx haiku", "batch", "second", "True"},
    {"pytorch keras tensorflow", "activation", "tanh", "'tanh'"},
    {"pytorch keras tensorflow", "activation", "relu", "'relu'"},
    {FLAX, "activation", "tanh", "tanh"},
    {FLAX, "activation", "relu", "relu"},
    {KERAS, "gates", "sigmoid", "'sigmoid'"},
    {KERAS, "gates", "hard_sigmoid", "'hard_sigmoid'"},
    {FLAX, "gates", "sigmoid", "sigmoid"},
    {FLAX, "gates", "hard_sigmoid", "hard_sigmoid"},
    {KERAS, "stride", "1", "1"},
    {KERAS, "dilation", "1", "1"},
    {KERAS, "reset", "before", "False"},
    {KERAS, "reset", "after", "True"},
    {"pytorch", "form", "exact", "'none'"},
    {"pytorch", "form", "tanh", "'tanh'"},
    {"keras tensorflow flax nnx haiku equinox", "form", "exact", "False"},
    {"keras tensorflow flax nnx haiku equinox", "form", "tanh", "True"},
    {"pytorch flax nnx", "border", "counted", "True"},
    {"pytorch flax nnx", "border", "left out", "False"},
};

static bool listed(const char *names, const char *name)
{
    struct str rest = str_from(names), one;
    while (rest.p && str_split(&rest, ' ', &one))
        if (str_is(one, name))
            return true;
    return false;
}

bool fact_is_of(const struct fact *f, const char *framework)
{
    return listed(f->frameworks, framework);
}

/* Most differ in the first letter: this is asked for every setting of every layer. */
static bool same(const char *a, const char *b)
{
    return *a == *b && strcmp(a, b) == 0;
}

const struct fact *fact_find(const char *framework, const char *of, const char *setting)
{
    for (size_t i = 0; i < n_facts; i++)
        if (same(facts[i].setting, setting) && same(facts[i].of, of) &&
            fact_is_of(&facts[i], framework))
            return &facts[i];
    return NULL;
}

static bool numeric(const char *setting)
{
    return strcmp(setting, "epsilon") == 0 || strcmp(setting, "momentum") == 0 ||
           strcmp(setting, "slope") == 0 || strcmp(setting, "groups") == 0;
}

bool fact_same(struct str a, struct str b)
{
    double x = json_text_double(a), y = json_text_double(b);
    double more = x > y ? x : y, less = x > y ? y : x;
    return str_eq(a, b) || (less > 0 && more - less < more * 1e-6);
}

/* "(1, 2)", as torch has it: pairs of both sides where the framework wants those. A transposed
 * convolution's is of what it gives, which JAX's is not; Keras has the two words alone. */
static struct str sides(const struct fact *f, const char *framework, struct str means,
                        struct arena *a)
{
    bool up = strcmp(f->of, "conv_transpose") == 0, pool = strstr(f->of, "pool") != NULL;
    struct str rest = str_sub(means, 1, means.n - 1), one, text = STR("(");
    if (listed("pytorch equinox", framework))
        return means;
    if (up || !listed(pool ? FLAX : "flax nnx haiku", framework))
        return STR("");
    while (text.p && rest.p && str_split(&rest, ',', &one)) {
        one = one.n && one.p[0] == ' ' ? str_sub(one, 1, one.n) : one;
        text = arena_fmt(a, "%.*s(%.*s, %.*s)%s", STR_ARG(text), STR_ARG(one), STR_ARG(one),
                         rest.p        ? ", "
                         : text.n == 1 ? ",)"
                                       : ")");
    }
    return text;
}

struct str fact_spell(const struct fact *f, const char *framework, struct str means,
                      struct arena *a)
{
    if (!f->argument)
        return STR("");
    if (numeric(f->setting)) {
        bool new = strcmp(f->setting, "momentum") == 0 && strcmp(framework, "pytorch") == 0;
        return new ? arena_fmt(a, "%.7g", 1 - json_text_double(means)) : means;
    }
    if (means.n > 2 && means.p[0] == '(')
        return sides(f, framework, means, a);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].setting, f->setting) == 0 && str_is(means, words[i].means) &&
            listed(words[i].frameworks, framework))
            return str_from(words[i].text);
    return STR("");
}

bool fact_trains(const char *setting)
{
    return strcmp(setting, "momentum") == 0;
}

const char *fact_of_layer(const struct layer *l)
{
    if (l->kind == LAYER_NONE || l->kind == LAYER_PARAM)
        return NULL;
    if (l->form == FORM_ROTARY)
        return "rope";
    return l->kind == LAYER_LAYERNORM && (l->form == FORM_RMS || l->form == FORM_RMS_LESS)
               ? "rmsnorm"
               : layer_kind_name(l->kind);
}
