/* What config.json says that weights do not: the epsilon of norms, and which of several functions a
 * word means. Sources: transformers, src/transformers/activations.py (ACT2FN), and
 * configuration_NAME.py and modeling_NAME.py of the families.
 */
#include "codec/json.h"
#include "framework/family.h"
#include <stdio.h>
#include <string.h>

/* A model of several parts has a config for each: "text_config.layer_norm_eps". */
static struct str in_part(const struct config *c, struct str path, const char *key)
{
    static const struct {
        const char *segment, *part;
    } parts[] = {{"text_model", "text_config"}, {"vision_model", "vision_config"}};
    char name[64];
    struct str seg;
    while (name_head(&path, &seg))
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (str_is(seg, parts[i].segment)) {
                int n = snprintf(name, sizeof name, "%s.%s", parts[i].part, key);
                struct str v = n > 0 && (size_t)n < sizeof name ? config_text(c, name) : STR("");
                if (v.n)
                    return v;
            }
    return config_text(c, key);
}

void family_norm(const struct config *c, struct layer *l)
{
    static const char *const keys[] = {"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"};
    static const char *const rms[] = {"rms_norm_eps", "layer_norm_epsilon", /* T5 */
                                      "norm_epsilon"};
    if (l->kind != LAYER_LAYERNORM || !l->by_name)
        return;
    bool root = l->form == FORM_RMS || l->form == FORM_RMS_LESS;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct str v = in_part(c, l->path, root ? rms[i] : keys[i]);
        double eps = v.n && v.n < 32 && v.p[0] >= '0' && v.p[0] <= '9' ? json_text_double(v) : 0;
        if (eps > 0 && eps < 1) {
            l->said.epsilon = eps;
            return;
        }
    }
}

/* ACT2FN's words. "silu", "relu", "tanh" and such are one function everywhere. */
static const struct {
    const char *word, *of, *setting, *means;
} acts[] = {
    {"gelu", "gelu", "form", "exact"},         {"gelu_python", "gelu", "form", "exact"},
    {"gelu_new", "gelu", "form", "tanh"},      {"gelu_fast", "gelu", "form", "tanh"},
    {"gelu_accurate", "gelu", "form", "tanh"}, {"gelu_pytorch_tanh", "gelu", "form", "tanh"},
    {"gated-gelu", "gelu", "form", "tanh"}, /* T5's feed_forward_proj: gelu_new */
    {"quick_gelu", "gelu", "form", "quick"},   {"leaky_relu", "leaky_relu", "slope", "0.01"},
};

enum status family_functions(const struct config *c, struct arena *a, struct layers *l,
                             struct err *e)
{
    static const char *const keys[] = {"hidden_act", "activation_function", "hidden_activation",
                                       "activation", "feed_forward_proj"};
    l->function = ARENA_ARRAY(a, struct function, c->n + 1);
    if (!l->function)
        return err_nomem(e, c->n * sizeof *l->function);
    for (size_t i = 0; i < c->n; i++) {
        struct str key = c->item[i].key, last, parent;
        name_tail(key, &parent, &last);
        bool named = false;
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            named = named || str_is(last, keys[k]);
        for (size_t k = 0; named && c->item[i].is_text && k < sizeof acts / sizeof *acts; k++)
            if (str_is(c->item[i].text, acts[k].word))
                l->function[l->n_functions++] =
                    (struct function){key, acts[k].of, acts[k].setting, str_from(acts[k].means)};
    }
    return ST_OK;
}
