/* GGUF's names, as llama.cpp writes and reads them: "blk.0.attn_q.weight". Which layer of a Hugging
 * Face model a name stands for is a column of the families' tables; the family is
 * general.architecture. Dense weights are [out,in] in C order, Conv1D turned so; rows of q and k
 * whose pairs a rotary embedding turns stand pairwise in the architecture "llama", rows of a fused
 * q, k, v stand q first. Gemma's norms are stored as the factor, 1 more than in the model. Source:
 * llama.cpp, convert_hf_to_gguf.py and conversion/gemma.py,
 * gguf-py/gguf/{constants,tensor_mapping}.py.
 */
#include "framework/gguf.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

#define L(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "", x                                                        \
    }
static const struct leaf_rule leaves[] = {
    L(LINEAR, 0, WEIGHT, "weight", "O F"),
    L(LINEAR, 0, BIAS, "bias", "O"),
    {LAYER_LINEAR, 0, FORM_ROTARY, LEAF_WEIGHT, "weight", "", "(N D p) F"},
    {LAYER_LINEAR, 0, FORM_ROTARY, LEAF_BIAS, "bias", "", "(N D p)"},
    {LAYER_LINEAR, 0, FORM_HEADS_QKV, LEAF_WEIGHT, "weight", "", "(t N D) F"},
    {LAYER_LINEAR, 0, FORM_HEADS_QKV, LEAF_BIAS, "bias", "", "(t N D)"},
    L(LAYERNORM, 0, WEIGHT, "weight", "F"),
    L(LAYERNORM, 0, BIAS, "bias", "F"),
    L(EMBEDDING, 0, WEIGHT, "weight", "V D"),
};
#undef L

static enum status path(const struct layers *l, struct str canonical, struct arena *a,
                        struct str *out, struct err *e)
{
    *out = STR_NONE;
    if (!l->family || !l->family_sure)
        return err_set(e, ST_CANNOT, "family-unknown",
                       "GGUF's names depend on the model's family: a config.json must tell it");
    if (!l->family->arch)
        return err_set(e, ST_CANNOT, "no-architecture", "no table of GGUF's names for %s",
                       l->family->name);
    struct family_place at = family_at(l->family, canonical);
    if (!at.row || !at.row->gguf)
        return ST_OK;
    *out = family_path("", at.row->gguf, &at, a);
    return out->p ? ST_OK : err_nomem(e, canonical.n);
}

static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .flat = "(C S)",
    .param = "",
    .no_computed = true,
    .no_tied = true,
    .whole = true,
    .path = path,
};

static uint64_t number(const struct model *m, const char *arch, const char *key)
{
    uint64_t v;
    return str_u64(gguf_meta(m, arch, key), &v) ? v : 0;
}

/* Two rows of one name: the first is the layer's that has no gate beside it. */
static enum status place_of(const struct family *f, struct modules *ms, const struct module *mod,
                            struct arena *a, struct family_place *out, struct err *e)
{
    struct str parent, leaf;
    *out = family_at_gguf(f, mod->path, 0);
    struct family_place other = family_at_gguf(f, mod->path, 1);
    if (!other.row)
        return ST_OK;
    name_tail(mod->path, &parent, &leaf);
    struct str gate = rules_name(a, "", parent, "ffn_gate");
    if (!gate.p)
        return err_nomem(e, parent.n);
    if (module_at(ms, gate))
        *out = other;
    return ST_OK;
}

/* One module of a GGUF file as a layer of the family. */
static enum status one(const struct model *m, const struct family *f, struct modules *ms,
                       const struct module *mod, struct layer_list *list, struct err *e)
{
    struct family_place at;
    TRY(place_of(f, ms, mod, list->a, &at, e));
    if (!at.row)
        return ST_OK;
    bool beside = at.row->path[0] == '/';
    struct str path =
        family_path(beside || f->bare ? "" : f->prefix, at.row->path + beside, &at, list->a);
    struct str why = arena_fmt(list->a, "architecture %s", f->arch);
    struct layer *l = path.p && why.p ? layer_add(list, at.row->kind, path, why) : NULL;
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->form = (uint8_t)at.row->form;
    family_heads(at.row, l, number(m, f->arch, "attention.head_count"),
                 number(m, f->arch, "attention.head_count_kv"));
    static const struct {
        const char *name;
        enum leaf leaf;
    } leaf[] = {{"weight", LEAF_WEIGHT}, {"bias", LEAF_BIAS}};
    for (size_t i = 0; i < 2; i++) {
        int64_t t = module_leaf(ms, mod, leaf[i].name);
        if (t < 0)
            continue;
        l->tensor[leaf[i].leaf] = t;
        module_take(ms, mod, leaf[i].name);
    }
    return ST_OK;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    struct modules ms;
    struct layer_list list = {.a = a};
    const struct family *f = gguf_family(m);
    if (!f)
        return err_set(e, ST_CANNOT, "no-architecture",
                       "no table of the names of this architecture (general.architecture)");
    TRY(modules_build(m, weight_cut, a, &ms, e));
    list.most = ms.n;
    for (size_t i = 0; i < ms.n; i++)
        TRY(one(m, f, &ms, &ms.module[i], &list, e));
    TRY(layers_done(&list, &ms, "gguf", out, e));
    for (size_t i = 0; i < out->n; i++) /* derived from the config when loaded */
        out->layer[i].computed = str_is(out->layer[i].path, "rope_freqs.weight");
    out->family = f;
    out->family_sure = true;
    return ST_OK;
}

static int bid(const struct model *m)
{
    if (str_is(m->framework, "gguf"))
        return 101;
    return m->format && strcmp(m->format, "gguf") == 0 && gguf_family(m) ? 101 : 0;
}

const struct framework gguf_framework = {
    .name = "gguf",
    .title = "GGUF, names and rows as llama.cpp has them",
    .usual_format = "gguf",
    .bid = bid,
    .layers = layers,
    .give = gguf_give,
    .take = gguf_take,
    .rules = &rules,
};
