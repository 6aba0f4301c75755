/* Modules, words and the list of layers: the parts every recogniser is made of. */
#include "framework/recognise.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

void name_tail(struct str name, struct str *parent, struct str *leaf)
{
    size_t cut = name.n;
    while (cut > 0) {
        size_t slashes = 0;
        if (name.p[--cut] != '.')
            continue;
        while (slashes < cut && name.p[cut - 1 - slashes] == '\\')
            slashes++;
        if (slashes % 2 == 0) { /* an odd one makes the dot a part of the segment */
            *parent = str_sub(name, 0, cut);
            *leaf = str_sub(name, cut + 1, name.n);
            return;
        }
    }
    *parent = STR_NONE;
    *leaf = name;
}

bool name_head(struct str *rest, struct str *seg)
{
    if (!rest->p)
        return false;
    size_t i = 0;
    while (i < rest->n && rest->p[i] != '.') {
        bool pair = rest->p[i] == '\\' && i + 1 < rest->n &&
                    (rest->p[i + 1] == '.' || rest->p[i + 1] == '\\');
        i += pair ? 2 : 1;
    }
    *seg = str_sub(*rest, 0, i);
    *rest = i < rest->n ? str_sub(*rest, i + 1, rest->n) : STR_NONE;
    return true;
}

static int by_path(const void *x, const void *y)
{
    const struct member *a = x, *b = y;
    int c = str_cmp(a->path, b->path);
    if (c == 0)
        c = str_cmp(a->leaf, b->leaf);
    if (c == 0)
        c = str_cmp(a->collection, b->collection);
    return c != 0 ? c : (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

bool weight_cut(const struct model *m, size_t t, struct member *out)
{
    if (!tensor_is_weight(&m->tensor[t]))
        return false;
    name_tail(m->tensor[t].name, &out->path, &out->leaf);
    return true;
}

enum status modules_build(const struct model *m, name_cut *cut, struct arena *a,
                          struct modules *out, struct err *e)
{
    *out = (struct modules){.m = m};
    out->member = ARENA_ARRAY(a, struct member, m->n_tensors + 1);
    out->module = ARENA_ARRAY(a, struct module, m->n_tensors + 1);
    if (!out->member || !out->module)
        return err_nomem(e, m->n_tensors * sizeof *out->member);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct member *b = &out->member[out->n_members];
        *b = (struct member){0};
        if (!cut(m, i, b))
            continue;
        b->tensor = (uint32_t)i;
        out->n_members++;
    }
    modules_group(out);
    return ST_OK;
}

void modules_group(struct modules *ms)
{
    ms->n = 0;
    if (ms->n_members)
        qsort(ms->member, ms->n_members, sizeof *ms->member, by_path);
    for (size_t i = 0; i < ms->n_members; i++) {
        if (i == 0 || !str_eq(ms->member[i].path, ms->member[i - 1].path))
            ms->module[ms->n++] = (struct module){.path = ms->member[i].path, .first = (uint32_t)i};
        ms->module[ms->n - 1].n++;
    }
}

struct module *module_at(const struct modules *ms, struct str path)
{
    size_t lo = 0, hi = ms->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(ms->module[mid].path, path);
        if (c == 0)
            return &ms->module[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

struct module *module_child(const struct modules *ms, struct str path, const char *child,
                            struct arena *a)
{
    struct str p = path.n ? arena_fmt(a, "%.*s.%s", STR_ARG(path), child) : str_from(child);
    return p.p ? module_at(ms, p) : NULL;
}

int64_t module_leaf(const struct modules *ms, const struct module *mod, const char *leaf)
{
    if (mod)
        for (uint32_t i = mod->first; i < mod->first + mod->n; i++)
            if (!ms->member[i].taken && str_is(ms->member[i].leaf, leaf))
                return ms->member[i].tensor;
    return -1;
}

const struct tensor *module_tensor(const struct modules *ms, const struct module *mod,
                                   const char *leaf)
{
    int64_t t = module_leaf(ms, mod, leaf);
    return t < 0 ? NULL : &ms->m->tensor[t];
}

void module_take(struct modules *ms, const struct module *mod, const char *leaf)
{
    if (mod)
        for (uint32_t i = mod->first; i < mod->first + mod->n; i++)
            if (str_is(ms->member[i].leaf, leaf))
                ms->member[i].taken = true;
}

void layer_claim(struct modules *ms, struct layer *l, enum leaf leaf, const struct module *mod,
                 const char *name)
{
    int64_t t = module_leaf(ms, mod, name);
    if (t < 0)
        return;
    l->tensor[leaf] = t;
    module_take(ms, mod, name);
}

/* ---- words ---- */

enum cls { C_LOW, C_UP, C_DIGIT, C_SEP };
static enum cls cls_of(char c)
{
    if (c >= 'a' && c <= 'z')
        return C_LOW;
    if (c >= 'A' && c <= 'Z')
        return C_UP;
    if (c >= '0' && c <= '9')
        return C_DIGIT;
    return C_SEP;
}

void words_of(struct str s, struct words *out)
{
    out->n = 0;
    size_t k = 0;
    for (size_t i = 0; i <= s.n; i++) {
        enum cls c = i < s.n ? cls_of(s.p[i]) : C_SEP;
        enum cls p = i > 0 ? cls_of(s.p[i - 1]) : C_SEP;
        bool next_low = i + 1 < s.n && cls_of(s.p[i + 1]) == C_LOW;
        bool cut = c == C_SEP || ((c == C_DIGIT) != (p == C_DIGIT)) ||
                   (c == C_UP && (p == C_LOW || (p == C_UP && next_low)));
        if (cut && k > 0 && out->n < WORD_MAX) {
            out->word[out->n][k] = 0;
            out->n++;
            k = 0;
        }
        if (c != C_SEP && k + 1 < sizeof out->word[0] && out->n < WORD_MAX) {
            char ch = s.p[i];
            out->word[out->n][k++] = c == C_UP ? (char)(ch - 'A' + 'a') : ch;
        }
    }
}

struct hint {
    const char *word;
    unsigned kinds;
};
#define NORMS (KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM))
#define CONVS (KIND_BIT(LAYER_CONV))
#define LINS (KIND_BIT(LAYER_LINEAR))
#define EMBS (KIND_BIT(LAYER_EMBEDDING))
/* A projection may be a dense layer or a convolution: the number of axes says which. */
static const struct hint hints[] = {
    {"embed", EMBS},
    {"embedding", EMBS},
    {"embeddings", EMBS},
    {"emb", EMBS},
    {"wte", EMBS},
    {"wpe", EMBS},
    {"tok", EMBS},
    {"token", EMBS},
    {"tokens", EMBS},
    {"vocab", EMBS},
    {"lookup", EMBS},
    {"shared", EMBS},
    {"positions", EMBS},
    {"fc", LINS},
    {"linear", LINS},
    {"dense", LINS},
    {"lin", LINS},
    {"proj", LINS | CONVS},
    {"projection", LINS | CONVS},
    {"projector", LINS},
    {"head", LINS},
    {"heads", LINS},
    {"classifier", LINS},
    {"mlp", LINS},
    {"query", LINS},
    {"key", LINS},
    {"value", LINS},
    {"out", LINS},
    {"output", LINS},
    {"q", LINS},
    {"k", LINS},
    {"v", LINS},
    {"o", LINS},
    {"wi", LINS},
    {"wo", LINS},
    {"wq", LINS},
    {"wk", LINS},
    {"wv", LINS},
    {"w", LINS},
    {"qkv", LINS},
    {"gate", LINS},
    {"ff", LINS},
    {"ffn", LINS},
    {"logits", LINS},
    {"pooler", LINS},
    {"relationship", LINS},
    {"transform", LINS},
    {"conv", CONVS},
    {"convolution", CONVS},
    {"convs", CONVS},
    {"downsample", CONVS},
    {"shortcut", CONVS},
    {"depthwise", CONVS},
    {"pointwise", CONVS},
    {"dw", CONVS},
    {"pw", CONVS},
    {"patch", CONVS},
    {"stem", CONVS},
    {"deconv", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"convtranspose", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"convt", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"upconv", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"tconv", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"transpose", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"transposed", KIND_BIT(LAYER_CONV_TRANSPOSE)},
    {"norm", NORMS},
    {"normalization", NORMS},
    {"ln", KIND_BIT(LAYER_LAYERNORM)},
    {"layernorm", KIND_BIT(LAYER_LAYERNORM)},
    {"rmsnorm", KIND_BIT(LAYER_LAYERNORM)},
    {"rms", KIND_BIT(LAYER_LAYERNORM)},
    {"gn", KIND_BIT(LAYER_GROUPNORM)},
    {"groupnorm", KIND_BIT(LAYER_GROUPNORM)},
    {"bn", KIND_BIT(LAYER_BATCHNORM)},
    {"batchnorm", KIND_BIT(LAYER_BATCHNORM)},
    {"prelu", KIND_BIT(LAYER_PRELU)},
    {"relu", KIND_BIT(LAYER_PRELU)},
    {"act", KIND_BIT(LAYER_PRELU)},
    {"activation", KIND_BIT(LAYER_PRELU)},
};

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (cls_of(s.p[i]) != C_DIGIT)
            return false;
    return s.n > 0;
}

static bool has_word(const struct words *w, const char *word)
{
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->word[i], word) == 0)
            return true;
    return false;
}

static bool is_lora(struct str seg)
{
    return str_is(seg, "lora_A") || str_is(seg, "lora_B");
}

/* The last segment that is no number; *parent is what stands before it. */
static struct str own_segment(struct str path, struct str *parent)
{
    struct str seg;
    *parent = path;
    do {
        name_tail(*parent, parent, &seg);
    } while ((all_digits(seg) || str_is(seg, "base_layer")) && parent->n);
    return seg;
}

bool name_is_local(struct str path)
{
    struct str parent;
    struct words w;
    words_of(own_segment(path, &parent), &w);
    return has_word(&w, "local") || has_word(&w, "locally");
}

bool bias_by_position(const struct tensor *w, const struct tensor *b, size_t positions)
{
    if (!b || b->n_dims != positions + 1 || w->n_dims < 3)
        return false;
    for (size_t i = 0; i < positions; i++)
        if (b->dim[i] != w->dim[i])
            return false;
    return b->dim[positions] == w->dim[w->n_dims - 1];
}

struct str name_own(struct str path)
{
    struct str parent;
    return own_segment(path, &parent);
}

unsigned name_kinds(struct str path)
{
    return name_kinds_of(path, ~0u);
}

unsigned name_kinds_of(struct str path, unsigned kinds)
{
    struct str parent, up, seg = own_segment(path, &parent);
    if (is_lora(seg))
        return (LINS | CONVS) & kinds; /* peft: dense layers and convolutions of their own */
    name_tail(parent, &up, &parent);
    if (is_lora(parent)) /* below it, the adapter's name */
        return (LINS | CONVS) & kinds;
    if (str_is(seg, "relative_attention_bias"))
        return EMBS & kinds;
    struct words w;
    words_of(seg, &w);
    if (has_word(&w, "transpose") || has_word(&w, "transposed"))
        return KIND_BIT(LAYER_CONV_TRANSPOSE) & kinds;
    if (has_word(&w, "batch") && has_word(&w, "norm"))
        return KIND_BIT(LAYER_BATCHNORM) & kinds;
    if (has_word(&w, "group") && has_word(&w, "norm"))
        return KIND_BIT(LAYER_GROUPNORM) & kinds;
    if ((has_word(&w, "layer") || has_word(&w, "rms")) &&
        (has_word(&w, "norm") || has_word(&w, "normalization")))
        return KIND_BIT(LAYER_LAYERNORM) & kinds;
    if (has_word(&w, "p") && has_word(&w, "re") && has_word(&w, "lu")) /* PReLU_0, p_re_lu */
        return KIND_BIT(LAYER_PRELU) & kinds;
    for (size_t i = w.n; i-- > 0;) /* the last telling word: token_embedding, embed_out */
        for (size_t h = 0; h < sizeof hints / sizeof *hints; h++)
            if ((hints[h].kinds & kinds) && strcmp(w.word[i], hints[h].word) == 0)
                return hints[h].kinds & kinds;
    return 0;
}

/* ---- layers ---- */

struct layer *layer_add(struct layer_list *l, enum layer_kind kind, struct str path,
                        struct str reason)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : l->most + 64;
        struct layer *p = ARENA_ARRAY(l->a, struct layer, cap);
        if (!p)
            return NULL;
        if (l->n)
            memcpy(p, l->layer, l->n * sizeof *p);
        l->layer = p;
        l->cap = cap;
    }
    struct layer *y = &l->layer[l->n++];
    *y = (struct layer){.path = path, .reason = reason};
    for (int i = 0; i < LEAF_N; i++)
        y->tensor[i] = -1;
    layer_decide(y, kind);
    return y;
}

void layer_decide(struct layer *l, enum layer_kind kind)
{
    l->kind = kind;
    l->kinds = kind == LAYER_NONE ? 0 : KIND_BIT(kind);
}

void layer_open(struct layer *l, unsigned kinds)
{
    l->kind = LAYER_NONE;
    l->kinds = kinds;
    for (unsigned k = 0; k < LAYER_KINDS; k++)
        if (kinds == KIND_BIT(k))
            l->kind = (enum layer_kind)k;
}

struct ranked {
    uint64_t order;
    size_t layer;
};
static int by_order(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return (a->layer > b->layer) - (a->layer < b->layer);
}

/* Sorted as r says, whose layers count from 0. */
static void arrange(struct layer *layer, size_t n, struct ranked *r)
{
    if (n)
        qsort(r, n, sizeof *r, by_order);
    /* in place, one cycle after the other: r[i].layer is where layer i comes from */
    for (size_t i = 0; i < n; i++) {
        if (r[i].layer == i)
            continue;
        struct layer first = layer[i];
        size_t at = i;
        for (size_t from = r[at].layer; from != i; from = r[at].layer) {
            layer[at] = layer[from];
            r[at].layer = at;
            at = from;
        }
        layer[at] = first;
        r[at].layer = at;
    }
}

enum status layers_done(struct layer_list *l, struct modules *ms, const char *framework,
                        struct layers *out, struct err *e)
{
    for (size_t i = 0; i < ms->n_members; i++) {
        struct member *b = &ms->member[i];
        if (b->taken)
            continue;
        struct str path =
            b->path.n ? arena_fmt(l->a, "%.*s.%.*s", STR_ARG(b->path), STR_ARG(b->leaf)) : b->leaf;
        struct layer *y =
            path.p ? layer_add(l, LAYER_PARAM, path, STR("a parameter of its own")) : NULL;
        if (!y)
            return err_nomem(e, sizeof *y);
        y->tensor[LEAF_VALUE] = b->tensor;
        b->taken = true;
    }
    struct ranked *r = ARENA_ARRAY(l->a, struct ranked, l->n + 1);
    if (!r)
        return err_nomem(e, l->n * sizeof *r);
    for (size_t i = 0; i < l->n; i++) {
        r[i] = (struct ranked){UINT64_MAX, i};
        for (int k = 0; k < LEAF_N; k++)
            if (l->layer[i].tensor[k] >= 0 &&
                ms->m->tensor[l->layer[i].tensor[k]].order < r[i].order)
                r[i].order = ms->m->tensor[l->layer[i].tensor[k]].order;
    }
    arrange(l->layer, l->n, r);
    out->layer = l->layer;
    out->n = l->n;
    out->maybe = l->maybe ? l->maybe->layer : NULL;
    out->n_maybe = l->maybe ? l->maybe->n : 0;
    out->framework = framework;
    return ST_OK;
}

enum status layers_by_place(struct layers *l, struct arena *a, struct err *e)
{
    struct ranked *r = ARENA_ARRAY(a, struct ranked, l->n + 1);
    if (!r)
        return err_nomem(e, l->n * sizeof *r);
    for (size_t i = 0; i < l->n; i++) {
        r[i] = (struct ranked){l->layer[i].place, i};
        if (!l->layer[i].place)
            return ST_OK;
    }
    arrange(l->layer, l->n, r);
    l->placed = l->n > 0;
    return ST_OK;
}
