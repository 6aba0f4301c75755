/* Hugging Face transformers, TensorFlow: tf_model.h5 of TFXxxModel.save_pretrained, Keras 2
 * variables by their own names:
 *   bert.tf_bert_model.bert.encoder.layer_\._0.attention.self.query.kernel:0
 * the group of the model's outermost layer, the model's name (which the loader leaves out: any),
 * and the path of the PyTorch model, where a list's name and a number in it are one part
 * ("layer_._0", or "layers.0"), and "mlm___cls" is "cls". Leaves are Keras's, but for GPT-2's
 * Conv1D (weight, and a bias of two axes), root mean square norms and embeddings that are a head
 * too (weight). Weights that two outermost layers share are in the file twice; the second copy is
 * left behind. Sources: transformers 4, src/transformers/modeling_tf_utils.py
 * (load_tf_weights_from_h5), modeling_tf_pytorch_utils.py
 * (convert_tf_weight_name_to_pt_weight_name) and src/transformers/models/NAME/modeling_tf_NAME.py.
 */
#include "framework/family.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include <stdlib.h>
#include <string.h>

#define L(k, r, form, l, n, x)                                                                     \
    {                                                                                              \
        LAYER_##k, r, FORM_##form, LEAF_##l, n, "", x                                              \
    }
static const struct leaf_rule leaves[] = {
    L(LINEAR, 0, USUAL, WEIGHT, "kernel:0", "F O"),
    L(LINEAR, 0, USUAL, BIAS, "bias:0", "O"),
    L(LINEAR, 0, INPUT_FIRST, WEIGHT, "weight:0", "F O"),
    L(LINEAR, 0, INPUT_FIRST, BIAS, "bias:0", "1 O"),
    L(CONV, 1, USUAL, WEIGHT, "kernel:0", "W I O"),
    L(CONV, 2, USUAL, WEIGHT, "kernel:0", "H W I O"),
    L(CONV, 0, USUAL, BIAS, "bias:0", "O"),
    L(BATCHNORM, 0, USUAL, WEIGHT, "gamma:0", "F"),
    L(BATCHNORM, 0, USUAL, BIAS, "beta:0", "F"),
    L(BATCHNORM, 0, USUAL, MEAN, "moving_mean:0", "F"),
    L(BATCHNORM, 0, USUAL, VAR, "moving_variance:0", "F"),
    L(LAYERNORM, 0, USUAL, WEIGHT, "gamma:0", "F"),
    L(LAYERNORM, 0, USUAL, BIAS, "beta:0", "F"),
    L(LAYERNORM, 0, RMS, WEIGHT, "weight:0", "F"),
    L(EMBEDDING, 0, USUAL, WEIGHT, "embeddings:0", "V D"),
    L(EMBEDDING, 0, TABLE, WEIGHT, "weight:0", "V D"),
    L(PARAM, 0, SCALAR, VALUE, ":0", "1"),
};
#undef L

/* ---- to TensorFlow ---- */

static bool is_number(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

/* A name of a list and the numbers behind it are one part. */
static enum status spell_parts(const struct family *f, struct str path, struct arena *a,
                               struct str *out, struct err *e)
{
    struct str seg, part = STR_NONE;
    for (bool more = true; more;) {
        more = name_head(&path, &seg);
        if (more && part.p && is_number(seg)) {
            part = arena_fmt(a, "%.*s%s%.*s", STR_ARG(part), f->tf_join, STR_ARG(seg));
            if (!part.p)
                return err_nomem(e, seg.n);
            continue;
        }
        if (part.p)
            TRY(path_join(*out, part, a, out, e));
        part = seg;
    }
    return ST_OK;
}

static enum status path(const struct layers *l, struct str canonical, struct arena *a,
                        struct str *out, struct err *e)
{
    const struct family *f = l->family;
    *out = STR_NONE;
    if (!f)
        return err_set(e, ST_CANNOT, "family-unknown",
                       "TensorFlow's names depend on the model's family: no table has these names");
    if (!f->tf_join)
        return err_set(e, ST_CANNOT, "no-tf-model", "transformers has no %s in TensorFlow",
                       f->name);
    struct family_place at = family_at(f, canonical);
    if (!at.row || at.row->kind == LAYER_NONE)
        return ST_OK;
    const char *base = f->tf_base ? f->tf_base : f->prefix;
    size_t n = strlen(base);
    bool has_base =
        str_starts(canonical, str_from(base)) && canonical.n > n && canonical.p[n] == '.';
    bool add = n && !has_base && at.row->path[0] != '/';
    if (add && !f->tf_base && !l->family_sure)
        return err_set(e, ST_CANNOT, "family-unknown",
                       "a base model's names do not tell its family: a config.json must tell it");
    struct str within = STR_NONE, group = STR_NONE, rest, text = canonical;
    if (add)
        text = arena_fmt(a, "%s.%.*s", base, STR_ARG(canonical));
    for (size_t i = 0; i < 2 && f->tf_head[i].path; i++)
        if (str_starts(canonical, str_from(f->tf_head[i].path))) {
            size_t cut = str_find(canonical, '.', 0);
            text = arena_fmt(a, "%s%.*s", f->tf_head[i].tf,
                             STR_ARG(str_sub(canonical, cut, canonical.n)));
        }
    if (!text.p)
        return err_nomem(e, canonical.n);
    TRY(spell_parts(f, text, a, &within, e));
    rest = within;
    if (!name_head(&rest, &group))
        return ST_OK;
    *out = arena_fmt(a, "%.*s.tf_%s_model.%.*s%s", STR_ARG(group), f->name, STR_ARG(within),
                     at.row->kind == LAYER_PARAM ? ":0" : "");
    return out->p ? ST_OK : err_nomem(e, canonical.n);
}

static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .flat = "(S C)",
    .param = "",
    .shell = true,
    .no_computed = true,
    .no_tied = true,
    .path = path,
};

/* ---- from TensorFlow ---- */

struct seen {
    struct str name;
    bool home; /* in the group of its own outermost layer */
    uint32_t tensor;
};

static int by_name(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;
    int c = str_cmp(a->name, b->name);
    if (c == 0)
        c = b->home - a->home;
    return c != 0 ? c : (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

/* "bert.tf_bert_model.bert.encoder.layer_\._0.x:0" to "bert.encoder.layer.0.x"; STR_NONE where it
 * is no such name. */
static enum status plain(struct str name, struct arena *a, struct seen *out, struct err *e)
{
    struct path p;
    struct str text = STR_NONE;
    out->name = STR_NONE;
    TRY(path_parse(name, a, &p, e));
    if (p.n < 3 || !str_ends(p.seg[p.n - 1].key, STR(":0")))
        return ST_OK;
    out->home = str_eq(p.seg[0].key, p.seg[2].key);
    for (size_t i = 2; i < p.n; i++) {
        struct str s = p.seg[i].key;
        size_t under = str_find_str(s, STR("___"), 0), join = str_find_str(s, STR("_._"), 0);
        if (i + 1 == p.n)
            s = str_sub(s, 0, s.n - 2);
        if (under < s.n && i + 1 < p.n)
            s = str_sub(s, under + 3, s.n);
        if (i == 2)
            for (size_t k = 0; k < n_families && !text.p; k++)
                if (families[k]->tf_base && str_is(s, families[k]->tf_base))
                    text = STR("");
        if (i == 2 && text.p)
            continue;
        if (join < s.n)
            s = arena_fmt(a, "%.*s.%.*s", STR_ARG(str_sub(s, 0, join)),
                          STR_ARG(str_sub(s, join + 3, s.n)));
        text = text.n ? arena_fmt(a, "%.*s.%.*s", STR_ARG(text), STR_ARG(s)) : s;
        if (!text.p)
            return err_nomem(e, name.n);
    }
    out->name = text;
    return ST_OK;
}

/* The model under PyTorch's paths: the same tensors. Second copies have the role other. */
static enum status renamed(const struct model *m, struct arena *a, struct model *out, struct err *e)
{
    struct seen *all = ARENA_ARRAY(a, struct seen, m->n_tensors + 1);
    *out = *m;
    out->tensor = ARENA_ARRAY(a, struct tensor, m->n_tensors + 1);
    if (!all || !out->tensor)
        return err_nomem(e, m->n_tensors * sizeof *out->tensor);
    size_t n = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        out->tensor[i] = m->tensor[i];
        TRY(plain(m->tensor[i].name, a, &all[n], e));
        if (!all[n].name.n)
            continue;
        out->tensor[i].name = all[n].name;
        all[n++].tensor = (uint32_t)i;
    }
    if (n)
        qsort(all, n, sizeof *all, by_name);
    for (size_t i = 1; i < n; i++)
        if (str_eq(all[i].name, all[i - 1].name))
            out->tensor[all[i].tensor].role = ROLE_OTHER;
    return ST_OK;
}

static enum layer_kind kind_of(const struct modules *ms, const struct module *mod)
{
    const struct tensor *k = module_tensor(ms, mod, "kernel"),
                        *table = module_tensor(ms, mod, "embeddings");
    if (k)
        return k->n_dims == 2                     ? LAYER_LINEAR
               : k->n_dims == 3 || k->n_dims == 4 ? LAYER_CONV
                                                  : LAYER_NONE;
    if (module_tensor(ms, mod, "gamma") || module_tensor(ms, mod, "beta"))
        return module_tensor(ms, mod, "moving_mean") ? LAYER_BATCHNORM : LAYER_LAYERNORM;
    return table && table->n_dims == 2 ? LAYER_EMBEDDING : LAYER_NONE;
}

static enum status one(const struct family *f, struct modules *ms, const struct module *mod,
                       struct layer_list *list, struct err *e)
{
    static const struct {
        const char *name;
        enum leaf leaf;
    } leaf[] = {{"kernel", LEAF_WEIGHT},     {"weight", LEAF_WEIGHT},
                {"embeddings", LEAF_WEIGHT}, {"gamma", LEAF_WEIGHT},
                {"bias", LEAF_BIAS},         {"beta", LEAF_BIAS},
                {"moving_mean", LEAF_MEAN},  {"moving_variance", LEAF_VAR}};
    const struct family_row *row = f ? family_at(f, mod->path).row : NULL;
    const struct tensor *w = module_tensor(ms, mod, "weight");
    enum layer_kind kind = kind_of(ms, mod);
    if (kind == LAYER_NONE && w && row && row->kind != LAYER_PARAM)
        kind = row->kind;
    if (kind == LAYER_NONE)
        return ST_OK;
    struct layer *l = layer_add(list, kind, mod->path, STR("leaves of that kind"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    for (size_t i = 0; i < sizeof leaf / sizeof *leaf; i++)
        if (l->tensor[leaf[i].leaf] < 0)
            layer_claim(ms, l, leaf[i].leaf, mod, leaf[i].name);
    if (kind == LAYER_CONV)
        l->rank = (uint8_t)(ms->m->tensor[l->tensor[LEAF_WEIGHT]].n_dims - 2);
    return ST_OK;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    struct model x;
    struct modules ms;
    struct layer_list list = {.a = a};
    bool sure;
    TRY(renamed(m, a, &x, e));
    struct config *c = ARENA_NEW(a, struct config);
    if (!c)
        return err_nomem(e, sizeof *c);
    TRY(config_read(m, a, c, e));
    const struct family *f = family_of(&x, weight_cut, c, &sure);
    TRY(modules_build(&x, weight_cut, a, &ms, e));
    list.most = ms.n;
    for (size_t i = 0; i < ms.n; i++)
        TRY(one(f, &ms, &ms.module[i], &list, e));
    for (size_t i = 0; i < m->n_tensors; i++) {
        if (x.tensor[i].role == m->tensor[i].role)
            continue;
        struct layer *l = layer_add(&list, LAYER_PARAM, m->tensor[i].name,
                                    STR("the same variable in another group"));
        if (!l)
            return err_nomem(e, sizeof *l);
        l->tensor[LEAF_VALUE] = (int64_t)i;
        l->again = true;
    }
    TRY(layers_done(&list, &ms, "hf_tf", out, e));
    return family_settle(&x, weight_cut, &rules, a, out, e);
}

/* ---- bids ---- */

/* The model's own name, second in every name: "tf_bert_model", "tfgpt2lm_head_model". */
static bool any_tf(const struct model *m)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str rest = m->tensor[i].name, group, second;
        if (name_head(&rest, &group) && name_head(&rest, &second) && str_starts(second, STR("tf")))
            return true;
    }
    return false;
}

static int bid(const struct model *m)
{
    struct arena a = ARENA_INIT;
    struct model x;
    struct err quiet;
    bool sure;
    if (str_is(m->framework, "hf_tf"))
        return 101;
    if (m->spelling.n || (m->framework.n && !str_is(m->framework, "keras")) || !any_tf(m))
        return 0;
    bool mine = renamed(m, &a, &x, &quiet) == ST_OK && family_of(&x, weight_cut, NULL, &sure);
    arena_free(&a);
    return mine ? 101 : 0;
}

const struct framework hf_tf_framework = {
    .name = "hf_tf",
    .title = "Hugging Face transformers, TensorFlow names",
    .usual_format = "keras-h5",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
