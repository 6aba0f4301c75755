/* LoRA as peft keeps it: "X.lora_A[.ADAPTER].weight" and "X.lora_B[.ADAPTER].weight" (an
 * embedding's factors are parameters, "X.lora_embedding_A[.ADAPTER]"), in a file of their own or in
 * a whole model, whose weight is then "X.base_layer.weight". What adapter_config.json says of them
 * decides what is added: lora_alpha / r times B A, lora_alpha / sqrt(r) with use_rslora, the
 * transpose where a weight is stored [in,out]. An adapter that holds more than that is refused.
 */
#include "base/checked.h"
#include "codec/json_tree.h"
#include "convert/fold_find.h"
#include "framework/recognise.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOP "base_model.model."
#define WHY "LoRA merged: w + scale B A, in float64"

struct lora {
    struct fold_finder *w;
    const struct model *ad;
    struct arena *a;
    double alpha;
    uint64_t r;
    bool rslora, in_first, in_first_said;
    const struct json_value *alphas; /* alpha_pattern, or NULL */
    bool ranks;                      /* rank_pattern has entries */
};

/* ---- the config ---- */

static enum status bad_config(const char *why, struct err *e)
{
    return err_set(e, ST_CANNOT, "lora-config", "adapter_config.json: %s", why);
}

static bool truth(const struct json_value *c, const char *key)
{
    const struct json_value *v = json_get(c, key);
    return v && v->kind == JSON_BOOL && v->truth;
}

static bool number(const struct json_value *v, double *out)
{
    if (!v || v->kind != JSON_NUMBER || v->text.n > 63)
        return false;
    *out = json_text_double(v->text);
    return isfinite(*out);
}

static enum status read_config(struct lora *l, const struct fold_opt *o, struct err *e)
{
    struct cursor c;
    struct str text = o->config;
    struct json_value *v = NULL;
    if (!text.n)
        return bad_config("there is none, and without it nothing says how much to add", e);
    cur_mem(&c, text.p, text.n, o->config_path ? o->config_path : "adapter_config.json", 0);
    enum status st = json_tree(&c, l->a, 100000, &v, e);
    cur_close(&c);
    TRY(st);
    if (v->kind != JSON_OBJECT)
        return bad_config("it is no object", e);
    if (!json_value_is(json_get(v, "peft_type"), "LORA"))
        return bad_config("its peft_type is not LORA", e);
    if (truth(v, "use_dora"))
        return err_set(e, ST_CANNOT, "lora-dora",
                       "DoRA scales the rows of the merged weight, which is not done here");
    if (!number(json_get(v, "lora_alpha"), &l->alpha) || !json_value_u64(json_get(v, "r"), &l->r) ||
        l->r == 0)
        return bad_config("r and lora_alpha must be numbers", e);
    l->rslora = truth(v, "use_rslora");
    l->in_first = truth(v, "fan_in_fan_out");
    l->in_first_said = json_get(v, "fan_in_fan_out") != NULL;
    const struct json_value *ranks = json_get(v, "rank_pattern");
    l->ranks = ranks && ranks->n > 0;
    l->alphas = json_get(v, "alpha_pattern");
    if (l->alphas && l->alphas->kind == JSON_NULL)
        l->alphas = NULL;
    if (l->alphas && l->alphas->kind != JSON_OBJECT)
        return bad_config("alpha_pattern is no object", e);
    for (const struct json_value *p = l->alphas ? l->alphas->child : NULL; p; p = p->next) {
        double alpha;
        for (const char *odd = "*[](){}|+\\^$?"; *odd; odd++)
            if (str_find(p->key, *odd, 0) < p->key.n)
                return err_set(e, ST_CANNOT, "lora-pattern",
                               "a regular expression in alpha_pattern is not understood: %.*s",
                               STR_ARG(p->key));
        if (!number(p, &alpha))
            return bad_config("alpha_pattern must be numbers", e);
    }
    return ST_OK;
}

/* peft: the last segments of the module's name, "q_proj" or "layers.0.q_proj". */
static double alpha_of(const struct lora *l, struct str path)
{
    double v;
    for (const struct json_value *p = l->alphas ? l->alphas->child : NULL; p; p = p->next) {
        bool at =
            str_ends(path, p->key) && (path.n == p->key.n || path.p[path.n - p->key.n - 1] == '.');
        if (at && number(p, &v))
            return v;
    }
    return l->alpha;
}

/* ---- names ---- */

enum what { NOT_LORA, FACTOR_A, FACTOR_B, OTHER };
/* The module's path before "lora_A", and what comes after: "ADAPTER" or nothing. */
static enum what part_of(struct str name, struct str *path, struct str *adapter, bool *table)
{
    static const struct {
        const char *word;
        enum what what;
        bool table;
    } part[] = {{"lora_A", FACTOR_A, false},
                {"lora_B", FACTOR_B, false},
                {"lora_embedding_A", FACTOR_A, true},
                {"lora_embedding_B", FACTOR_B, true}};
    struct str rest = name, seg;
    while (name_head(&rest, &seg)) {
        for (size_t k = 0; k < 4; k++) {
            if (!str_is(seg, part[k].word) || seg.p == name.p)
                continue;
            *path = str_sub(name, 0, (size_t)(seg.p - name.p) - 1);
            *table = part[k].table;
            *adapter = rest.p ? rest : STR("");
            if (!*table) { /* a dense layer or a convolution of its own */
                struct str up, leaf;
                if (!rest.p)
                    return OTHER;
                name_tail(rest, &up, &leaf);
                *adapter = up;
                return str_is(leaf, "weight") ? part[k].what : OTHER;
            }
            return part[k].what;
        }
        if (str_starts(seg, STR("lora_")))
            return OTHER; /* lora_magnitude_vector and the like */
        if (str_is(seg, "modules_to_save") || str_is(seg, "original_module") ||
            str_is(seg, "original_layer") || str_is(seg, "trainable_tokens_delta"))
            return OTHER;
    }
    return NOT_LORA;
}

/* Without what peft puts around a model, and around a layer. .p == NULL: no memory. */
static struct str plain_name(struct lora *l, struct str name)
{
    struct str top = STR(TOP), in = STR("base_layer.");
    if (str_starts(name, top))
        name = str_sub(name, top.n, name.n);
    size_t at = str_find_str(name, in, 0);
    while (at < name.n && at > 0 && name.p[at - 1] != '.')
        at = str_find_str(name, in, at + 1);
    if (at < name.n)
        return arena_fmt(l->a, "%.*s%.*s", STR_ARG(str_sub(name, 0, at)),
                         STR_ARG(str_sub(name, at + in.n, name.n)));
    return arena_fmt(l->a, "%.*s", STR_ARG(name));
}

/* The weight that a module's factors belong to, -1 where the model has none. */
static enum status weight_of(struct lora *l, struct str path, int64_t *out, struct err *e)
{
    const struct model *m = l->w->m;
    struct str name[3], bare = plain_name(l, path);
    *out = -1;
    name[0] = arena_fmt(l->a, "%.*s.base_layer.weight", STR_ARG(path));
    name[1] = arena_fmt(l->a, "%.*s.weight", STR_ARG(path));
    name[2] = arena_fmt(l->a, "%.*s.weight", STR_ARG(bare));
    for (size_t k = 0; k < 3 && *out < 0; k++) {
        if (!name[k].p || !bare.p)
            return err_nomem(e, path.n);
        *out = model_find(m, name[k]);
    }
    return ST_OK;
}

/* ---- one weight ---- */

static uint64_t below(const struct tensor *t)
{
    uint64_t n = 1;
    for (size_t d = 1; d < t->n_dims; d++)
        n *= t->dim[d];
    return n;
}

static enum status merge(struct lora *l, size_t a, size_t b, struct str path, bool table,
                         struct err *e)
{
    struct fold_finder *w = l->w;
    const struct tensor *ta = &l->ad->tensor[a], *tb = &l->ad->tensor[b];
    int64_t t;
    TRY(weight_of(l, path, &t, e));
    if (t < 0)
        return fold_refuse(l->ad, a, "lora-base", "the model has no weight that it changes", e);
    const struct tensor *x = &w->m->tensor[t];
    uint64_t r = ta->n_dims > 1 ? ta->dim[0] : 0, in = below(ta), out = tb->n_dims ? tb->dim[0] : 0;
    bool shapes = x->n_dims > 1 && r > 0 && below(tb) == r && in > 0 && out > 0;
    bool plain = shapes && !table && x->dim[0] == out && below(x) == in &&
                 (x->n_dims == 2 || x->n_dims == ta->n_dims);
    bool turned = shapes && x->n_dims == 2 && x->dim[0] == in && x->dim[1] == out;
    for (size_t d = 1; plain && d < x->n_dims; d++)
        plain = ta->dim[d] == x->dim[d];
    if (!plain && !turned)
        return fold_refuse(l->ad, a, "lora-shape", "A and B do not make up a change of the weight",
                           e);
    if (plain && turned) {
        if (!l->in_first_said)
            return bad_config("a square weight needs fan_in_fan_out", e);
        plain = !l->in_first;
        turned = l->in_first;
    }
    if (r != l->r && !l->ranks)
        return fold_refuse(l->ad, a, "lora-shape", "its rank is not the config's r", e);
    if (w->fate[t].value)
        return fold_refuse(w->m, (size_t)t, "lora-several", "several adapters change it", e);
    TRY(fold_reads(l->ad, a, e));
    TRY(fold_reads(l->ad, b, e));
    struct fold_item *it;
    TRY(fold_add(w, FOLD_LORA, (size_t)t, &it, e));
    it->with = (uint32_t)a;
    it->also = (uint32_t)b;
    it->turned = turned;
    it->rank = r;
    it->rows = turned ? in : out;
    it->cols = turned ? out : in;
    it->scale = alpha_of(l, path) / (l->rslora ? sqrt((double)r) : (double)r);
    TRY(fold_becomes(w, (size_t)t, plain_name(l, x->name), WHY, e));
    w->fate[t].value = true;
    return ST_OK;
}

/* B beside A: the same name with the other word. */
static enum status mate(struct lora *l, size_t a, struct str path, bool table, int64_t *b,
                        struct err *e)
{
    struct str name = l->ad->tensor[a].name;
    size_t at = path.n + 1 + strlen(table ? "lora_embedding_" : "lora_");
    struct str other = arena_fmt(l->a, "%.*sB%.*s", STR_ARG(str_sub(name, 0, at)),
                                 STR_ARG(str_sub(name, at + 1, name.n)));
    *b = other.p ? model_find(l->ad, other) : -1;
    return other.p ? ST_OK : err_nomem(e, name.n);
}

static bool holds_factors(const struct model *m)
{
    struct str path, adapter;
    bool table;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (part_of(m->tensor[i].name, &path, &adapter, &table) == FACTOR_A)
            return true;
    return false;
}

/* Everything that peft has renamed is called as it was. */
static enum status rest_of(struct lora *l, struct err *e)
{
    struct fold_finder *w = l->w;
    for (size_t i = 0; i < w->m->n_tensors; i++) {
        struct str name = w->m->tensor[i].name, bare = plain_name(l, name);
        if (!bare.p)
            return err_nomem(e, name.n);
        if (!w->fate[i].concerned && !str_eq(bare, name))
            TRY(fold_becomes(w, i, bare, "peft", e));
    }
    return ST_OK;
}

enum status fold_lora(struct fold_finder *w, const struct fold_opt *o, struct err *e)
{
    struct lora l = {.w = w, .ad = o->adapter, .a = &w->m->arena};
    size_t n = 0;
    if (holds_factors(w->m))
        l.ad = w->m;
    bool nnx = fold_nnx_holds(w->m);
    if (nnx || (l.ad != w->m && fold_nnx_holds(l.ad))) {
        w->f->ad = nnx ? w->m : l.ad;
        return fold_nnx(w, w->f->ad, e);
    }
    bool own = l.ad == w->m;
    w->f->ad = l.ad;
    TRY(read_config(&l, o, e));
    for (size_t i = 0; i < l.ad->n_tensors; i++) {
        struct str path, adapter;
        bool table;
        int64_t b;
        enum what what = part_of(l.ad->tensor[i].name, &path, &adapter, &table);
        if (what == OTHER || (what == NOT_LORA && !own))
            return fold_refuse(l.ad, i, "lora-other",
                               "the adapter holds more than factors A and B, which is not merged",
                               e);
        if (what == NOT_LORA)
            continue;
        if (own)
            fold_goes(w, i, WHY);
        if (what == FACTOR_B) {
            struct str name = l.ad->tensor[i].name;
            size_t at = path.n + 1 + strlen(table ? "lora_embedding_" : "lora_");
            struct str other = arena_fmt(l.a, "%.*sA%.*s", STR_ARG(str_sub(name, 0, at)),
                                         STR_ARG(str_sub(name, at + 1, name.n)));
            if (!other.p)
                return err_nomem(e, name.n);
            if (model_find(l.ad, other) < 0)
                return fold_refuse(l.ad, i, "lora-pair", "B without an A", e);
            continue;
        }
        TRY(mate(&l, i, path, table, &b, e));
        if (b < 0)
            return fold_refuse(l.ad, i, "lora-pair", "A without a B", e);
        TRY(merge(&l, i, (size_t)b, path, table, e));
        n++;
    }
    if (n == 0)
        return err_set(e, ST_CANNOT, "lora-none", "there are no factors A and B to merge");
    return own ? rest_of(&l, e) : ST_OK;
}
