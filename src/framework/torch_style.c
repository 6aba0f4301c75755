/* Recognising layers in torch-like spellings (weight, bias, running_mean ...). A kind is decided by
 * names, by sibling leaves, and by shapes only where the axes concerned differ; what stays open is
 * left open, with the kinds it may be and the reason. Layouts: torch's own modules
 * (torch/nn/modules/{linear,conv,batchnorm,normalization,sparse,activation}.py).
 */
#include "framework/bilinear.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include <stdlib.h>
#include <string.h>

struct ctx {
    const struct torch_style *style;
    struct modules ms;
    struct layer_list list;
    struct bilinear near;
    int gpt2_conv1d, gpt2_linear; /* votes: which way round are c_attn, c_fc, c_proj */
};

bool torch_cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    name_tail(x->name, &out->path, &out->leaf);
    switch (x->role) {
    case ROLE_PARAMETER:
    case ROLE_BUFFER:
    case ROLE_STATISTIC:
        return true;
    case ROLE_COUNTER:
        return str_is(out->leaf, "num_batches_tracked") || str_is(out->leaf, "mean_count") ||
               str_is(out->leaf, "var_count") || str_is(out->leaf, "first_time") ||
               str_is(out->leaf, "updates");
    default:
        return false;
    }
}

static const struct tensor *tensor_at(const struct ctx *c, int64_t t)
{
    return t < 0 ? NULL : &c->ms.m->tensor[t];
}

static bool vector_of(const struct tensor *t, uint64_t n)
{
    return t && t->n_dims == 1 && t->dim[0] == n;
}

static struct layer *put(struct ctx *c, enum layer_kind kind, const struct module *mod,
                         const char *reason)
{
    return layer_add(&c->list, kind, mod->path, str_from(reason));
}

/* ---- attention ---- */

static const char *const split_name[3] = {"q_proj_weight", "k_proj_weight", "v_proj_weight"};

static enum status torch_attention(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *in = tensor_at(c, module_leaf(&c->ms, mod, "in_proj_weight"));
    const struct tensor *bias = tensor_at(c, module_leaf(&c->ms, mod, "in_proj_bias"));
    const struct tensor *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = tensor_at(c, module_leaf(&c->ms, mod, split_name[i]));
    if (!in && !(part[0] && part[1] && part[2]))
        return ST_OK;
    struct module *out = module_child(&c->ms, mod->path, "out_proj", c->list.a);
    const struct tensor *o = tensor_at(c, module_leaf(&c->ms, out, "weight"));
    bool fits = o && o->n_dims == 2;
    uint64_t rows = 0;
    if (in) {
        fits = fits && in->n_dims == 2 && in->dim[0] % 3 == 0 && in->dim[0] / 3 == o->dim[1];
        rows = in->dim[0];
    } else if (fits) {
        for (int i = 0; i < 3; i++)
            fits = fits && part[i]->n_dims == 2 && part[i]->dim[0] == o->dim[1];
        rows = 3 * o->dim[1];
    }
    fits = fits && (!bias || vector_of(bias, rows)) && module_leaf(&c->ms, mod, "bias_k") < 0;
    if (!fits) {
        /* kept as it came, each tensor by itself */
        static const char *const names[] = {"in_proj_weight", "in_proj_bias",  "q_proj_weight",
                                            "k_proj_weight",  "v_proj_weight", "bias_k",
                                            "bias_v"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            int64_t t = module_leaf(&c->ms, mod, names[i]);
            if (t < 0)
                continue;
            struct layer *l = layer_add(&c->list, LAYER_NONE, c->ms.m->tensor[t].name,
                                        STR("attention of a shape that no rule knows"));
            if (!l)
                return err_nomem(e, sizeof *l);
            layer_claim(&c->ms, l, LEAF_VALUE, mod, names[i]);
        }
        return ST_OK;
    }
    struct layer *l = put(c, LAYER_ATTENTION, mod,
                          in ? "in_proj_weight of three equal parts and out_proj"
                             : "q_proj_weight, k_proj_weight, v_proj_weight and out_proj");
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    layer_claim(&c->ms, l, LEAF_QKV_WEIGHT, mod, "in_proj_weight");
    layer_claim(&c->ms, l, LEAF_QKV_BIAS, mod, "in_proj_bias");
    layer_claim(&c->ms, l, LEAF_Q_WEIGHT, mod, split_name[0]);
    layer_claim(&c->ms, l, LEAF_K_WEIGHT, mod, split_name[1]);
    layer_claim(&c->ms, l, LEAF_V_WEIGHT, mod, split_name[2]);
    layer_claim(&c->ms, l, LEAF_O_WEIGHT, out, "weight");
    layer_claim(&c->ms, l, LEAF_O_BIAS, out, "bias");
    return ST_OK;
}

/* canonical: X.q, X.k, X.v, X.o */
static enum status split_attention(struct ctx *c, struct module *q, struct err *e)
{
    struct str parent, leaf;
    name_tail(q->path, &parent, &leaf);
    if (!str_is(leaf, "q") || !parent.n)
        return ST_OK;
    static const char *const child[4] = {"q", "k", "v", "o"};
    struct module *mod[4];
    const struct tensor *w[4];
    for (int i = 0; i < 4; i++) {
        mod[i] = module_child(&c->ms, parent, child[i], c->list.a);
        w[i] = tensor_at(c, module_leaf(&c->ms, mod[i], "weight"));
        if (!w[i] || w[i]->n_dims != 2)
            return ST_OK;
    }
    if (w[0]->dim[0] != w[1]->dim[0] || w[2]->dim[0] != w[3]->dim[1])
        return ST_OK;
    struct layer *l = layer_add(&c->list, LAYER_ATTENTION, parent,
                                STR("children q, k, v and o of fitting widths"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    for (int i = 0; i < 4; i++) {
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_WEIGHT + i), mod[i], "weight");
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_BIAS + i), mod[i], "bias");
    }
    return ST_OK;
}

/* ---- GPT-2's Conv1D: a dense layer stored [in,out] under the name "weight" ---- */

static bool gpt2_name(struct str path)
{
    struct str parent, leaf;
    name_tail(path, &parent, &leaf);
    return str_is(leaf, "c_attn") || str_is(leaf, "c_proj") || str_is(leaf, "c_fc") ||
           str_is(leaf, "q_attn");
}

static void gpt2_vote(struct ctx *c)
{
    for (size_t i = 0; i < c->ms.n; i++) {
        const struct module *mod = &c->ms.module[i];
        const struct tensor *w = tensor_at(c, module_leaf(&c->ms, mod, "weight"));
        const struct tensor *b = tensor_at(c, module_leaf(&c->ms, mod, "bias"));
        if (!gpt2_name(mod->path) || !w || !b || w->n_dims != 2 || w->dim[0] == w->dim[1])
            continue;
        c->gpt2_conv1d += vector_of(b, w->dim[1]);
        c->gpt2_linear += vector_of(b, w->dim[0]);
    }
}

/* ---- one module with a leaf "weight" ---- */

static struct layer *conv1d(struct ctx *c, struct module *mod, const char *why)
{
    struct layer *l = put(c, LAYER_LINEAR, mod, why);
    if (l)
        l->form = FORM_INPUT_FIRST;
    return l;
}

static struct layer *matrix(struct ctx *c, struct module *mod, const struct tensor *w,
                            const struct tensor *b)
{
    unsigned said = name_kinds(mod->path);
    bool square = w->dim[0] == w->dim[1], named = gpt2_name(mod->path);
    if (named && b && square && c->gpt2_linear == 0) {
        if (!c->gpt2_conv1d || !vector_of(b, w->dim[0]) || !c->style->conv1d)
            return put(c, LAYER_NONE, mod, "named as in GPT-2, square: [in,out] or [out,in]");
        return conv1d(c, mod, "GPT-2's Conv1D, [in,out]: square, as its siblings");
    }
    if (named && b && !square && vector_of(b, w->dim[1]) && c->style->conv1d)
        return conv1d(c, mod, "GPT-2's Conv1D, [in,out]: the bias fits the second axis");
    if (b && vector_of(b, w->dim[0]))
        return put(c, LAYER_LINEAR, mod, "2-D weight with a bias of its first axis");
    if (b && vector_of(b, w->dim[1]))
        return put(c, LAYER_NONE, mod,
                   "the bias fits the second axis: [in,out], as GPT-2's Conv1D");
    if (b)
        return put(c, LAYER_NONE, mod, "2-D weight whose bias fits neither axis");
    struct layer *l;
    if (said & KIND_BIT(LAYER_EMBEDDING)) {
        l = put(c, LAYER_EMBEDDING, mod, "2-D weight without bias, named an embedding");
    } else if (said & KIND_BIT(LAYER_LINEAR)) {
        l = put(c, LAYER_LINEAR, mod, "2-D weight without bias, named a dense layer");
    } else {
        l = put(c, LAYER_NONE, mod, "2-D weight without bias: linear or embedding");
        if (l)
            layer_open(l, KIND_BIT(LAYER_LINEAR) | KIND_BIT(LAYER_EMBEDDING));
        return l;
    }
    if (l)
        l->by_name = true;
    return l;
}

static struct layer *vector(struct ctx *c, struct module *mod, const struct tensor *w,
                            const struct tensor *b)
{
    const unsigned norms = KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM);
    unsigned said = name_kinds(mod->path), slope = 0;
    struct layer *l;
    if (b && !vector_of(b, w->dim[0]))
        return put(c, LAYER_NONE, mod, "1-D weight whose bias has another size");
    const struct leaf_rule *prelu = rules_find(c->style->rules, LAYER_PRELU, 0, 0, LEAF_WEIGHT);
    if (!b && prelu && strcmp(prelu->name, "weight") == 0)
        slope = KIND_BIT(LAYER_PRELU);
    if (slope && said == slope) {
        l = put(c, LAYER_PRELU, mod, "1-D weight without bias, named so");
        if (l) {
            l->by_name = true;
            l->form = w->dim[0] == 1 ? FORM_ONE : FORM_USUAL;
        }
        return l;
    }
    if (said == KIND_BIT(LAYER_BATCHNORM) || said == KIND_BIT(LAYER_GROUPNORM) ||
        said == KIND_BIT(LAYER_LAYERNORM)) {
        l = put(c, LAYER_NONE, mod, "1-D weight, named so");
        if (l) {
            layer_open(l, said);
            l->by_name = true;
        }
        return l;
    }
    if (b || (said & norms)) {
        /* the tensors are carried alike; what differs is how the layer is run */
        l = put(c, LAYER_LAYERNORM, mod,
                b ? "1-D weight and bias of one size: layer or group normalisation"
                  : "1-D weight, named a normalisation");
        if (l) {
            l->kinds = norms;
            l->by_name = (said & norms) != 0;
        }
        return l;
    }
    l = put(c, LAYER_NONE, mod, "1-D weight without bias: a normalisation, or a slope");
    if (l) {
        layer_open(l, norms | slope | KIND_BIT(LAYER_PARAM));
        l->form = slope && w->dim[0] == 1 ? FORM_ONE : FORM_USUAL;
    }
    return l;
}

/* The norm that follows a numbered module under the same parent: its width, 0 = none. */
static uint64_t next_norm(struct ctx *c, struct str path)
{
    struct str parent, leaf;
    uint64_t k, bias = 0, weight = 0;
    name_tail(path, &parent, &leaf);
    if (!str_u64(leaf, &k) || k == UINT64_MAX)
        return 0;
    struct str text = arena_fmt(c->list.a, "%llu", (unsigned long long)(k + 1));
    if (!text.p)
        return 0;
    struct module *mod = module_child(&c->ms, parent, text.p, c->list.a);
    for (uint32_t i = 0; mod && i < mod->n; i++) { /* may be taken already */
        const struct member *b = &c->ms.member[mod->first + i];
        const struct tensor *t = &c->ms.m->tensor[b->tensor];
        if (t->n_dims != 1)
            continue;
        if (str_is(b->leaf, "running_mean"))
            return t->dim[0];
        if (str_is(b->leaf, "bias"))
            bias = t->dim[0];
        else if (str_is(b->leaf, "weight"))
            weight = t->dim[0];
    }
    return bias == weight ? bias : 0; /* a layer or group norm */
}

/* Called a convolution and no more, with equal axes and a kernel as transposed ones have it: two
 * or four values long on each side, so that what it gives is twice as large. */
static bool may_grow(struct str path, const struct tensor *w)
{
    static const char *const shrinks[] = {"down", "downsample", "patch", "stem", "encoder"};
    struct str rest = path, seg;
    struct words words;
    bool conv = false;
    for (size_t d = 2; d < w->n_dims; d++)
        if (w->dim[d] != w->dim[2] || (w->dim[d] != 2 && w->dim[d] != 4))
            return false;
    while (name_head(&rest, &seg)) {
        words_of(seg, &words);
        for (size_t i = 0; i < words.n; i++)
            for (size_t k = 0; k < sizeof shrinks / sizeof *shrinks; k++)
                if (strcmp(words.word[i], shrinks[k]) == 0)
                    return false;
    }
    words_of(name_own(path), &words);
    for (size_t i = 0; i < words.n; i++)
        conv = conv || strcmp(words.word[i], "conv") == 0;
    return conv && w->dim[0] == w->dim[1];
}

static struct layer *convolution(struct ctx *c, struct module *mod, const struct tensor *w,
                                 const struct tensor *b)
{
    const unsigned both = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    unsigned said = name_kinds_of(mod->path, both);
    uint64_t d0 = w->dim[0], d1 = w->dim[1];
    struct layer *l;
    if (b && b->n_dims != 1)
        return put(c, LAYER_NONE, mod, "convolution-like weight whose bias is no vector");
    if (b && b->dim[0] != d0) {
        uint64_t o = b->dim[0];
        if (d1 == 0 || o == 0 || o % d1 != 0 || d0 % (o / d1) != 0)
            return put(c, LAYER_NONE, mod, "convolution-like weight whose bias fits neither axis");
        l = put(c, LAYER_CONV_TRANSPOSE, mod, "the bias fits the second axis, [in,out,...]");
        if (l)
            l->groups = o / d1;
        return l;
    }
    if (said == KIND_BIT(LAYER_CONV) && may_grow(mod->path, w)) {
        l = put(c, LAYER_NONE, mod,
                "axes 0 and 1 are equal, and the kernel may be a transposed convolution's");
        if (l)
            layer_open(l, both);
        return l;
    }
    if (said && said != both) {
        l = put(c, LAYER_NONE, mod, "named so");
        if (l) {
            layer_open(l, said);
            l->by_name = true;
            if (b && l->kind == LAYER_CONV_TRANSPOSE && d1)
                l->groups = d0 / d1;
        }
        return l;
    }
    if (b && d0 != d1)
        return put(c, LAYER_CONV, mod, "the bias fits the first axis, [out,in,...]");
    uint64_t n = d0 != d1 ? next_norm(c, mod->path) : 0;
    if (n && n == d0)
        return put(c, LAYER_CONV, mod, "the norm that follows has as many channels as axis 0");
    if (n && n == d1)
        return put(c, LAYER_CONV_TRANSPOSE, mod,
                   "the norm that follows has as many channels as axis 1");
    l = put(c, LAYER_NONE, mod,
            d0 == d1 ? "axes 0 and 1 are equal: convolution or transposed convolution"
                     : "no bias and no telling name: convolution or transposed convolution");
    if (l)
        layer_open(l, both);
    return l;
}

/* Three axes: a convolution, where nothing speaks for nn.Bilinear. */
static struct layer *sequence(struct ctx *c, struct module *mod, const struct tensor *w,
                              const struct tensor *b)
{
    struct layer *l;
    if (bilinear_named(mod->path)) {
        l = put(c, LAYER_NONE, mod, "named nn.Bilinear, [out,in1,in2]");
        if (l && c->ms.m->spelling.n) /* unless the archive tells otherwise */
            layer_open(l, KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_PARAM));
        return l;
    }
    l = convolution(c, mod, w, b);
    const char *doubt = l && l->kinds ? bilinear_doubt(&c->near, mod->path, w) : NULL;
    if (doubt) {
        layer_open(l, l->kinds | KIND_BIT(LAYER_PARAM));
        l->reason = str_from(doubt);
    }
    return l;
}

static enum status batchnorm(struct ctx *c, struct module *mod, const struct tensor *mean,
                             struct err *e)
{
    static const struct {
        const char *name;
        enum leaf leaf;
    } leaf[] = {{"weight", LEAF_WEIGHT},           {"bias", LEAF_BIAS},
                {"running_mean", LEAF_MEAN},       {"running_var", LEAF_VAR},
                {"mean_hidden", LEAF_MEAN_HIDDEN}, /* canonical alone */
                {"var_hidden", LEAF_VAR_HIDDEN}};
    size_t n = c->style->split_attention ? 6 : 4;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = tensor_at(c, module_leaf(&c->ms, mod, leaf[i].name));
        if (t && !vector_of(t, mean->dim[0]))
            return ST_OK; /* each by itself */
    }
    struct layer *l = put(c, LAYER_BATCHNORM, mod, "running_mean and running_var beside it");
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    for (size_t i = 0; i < n; i++)
        layer_claim(&c->ms, l, leaf[i].leaf, mod, leaf[i].name);
    layer_claim(&c->ms, l, LEAF_COUNT, mod, "num_batches_tracked");
    if (n > 4) {
        layer_claim(&c->ms, l, LEAF_MEAN_COUNT, mod, "mean_count");
        layer_claim(&c->ms, l, LEAF_VAR_COUNT, mod, "var_count");
        layer_claim(&c->ms, l, LEAF_FIRST, mod, "first_time");
        layer_claim(&c->ms, l, LEAF_UPDATES, mod, "updates");
    }
    return ST_OK;
}

static enum status plain_module(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *mean = tensor_at(c, module_leaf(&c->ms, mod, "running_mean"));
    if (mean && mean->n_dims == 1 && module_leaf(&c->ms, mod, "running_var") >= 0)
        return batchnorm(c, mod, mean, e);
    const struct tensor *w = tensor_at(c, module_leaf(&c->ms, mod, "weight"));
    const struct tensor *b = tensor_at(c, module_leaf(&c->ms, mod, "bias"));
    if (!w || w->n_dims == 0)
        return ST_OK;
    struct layer *l;
    uint8_t rank = 0;
    if (w->n_dims == 1) {
        l = vector(c, mod, w, b);
    } else if (b && b->n_dims == w->n_dims && b->n_dims > 1) {
        l = put(c, LAYER_NONE, mod, "weight and bias over several axes: a norm of unknown order");
    } else if (w->n_dims == 2) {
        l = matrix(c, mod, w, b);
    } else if (w->n_dims <= 5) {
        l = w->n_dims == 3 && c->style->bilinear ? sequence(c, mod, w, b)
                                                 : convolution(c, mod, w, b);
        rank = (uint8_t)(w->n_dims - 2);
    } else {
        return ST_OK;
    }
    if (!l)
        return err_nomem(e, sizeof *l);
    l->rank = rank;
    layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "weight");
    layer_claim(&c->ms, l, LEAF_BIAS, mod, "bias");
    return ST_OK;
}

/* ---- convolutions of one position, by their siblings ---- */

struct like { /* a convolution of one position, by its path with the numbers left out */
    struct str path;
    size_t layer;
};

static int by_like(const void *px, const void *py)
{
    const struct like *x = px, *y = py;
    int c = str_cmp(x->path, y->path);
    return c ? c : (x->layer > y->layer) - (x->layer < y->layer);
}

static bool one_position(const struct ctx *c, const struct layer *l)
{
    const struct tensor *w = tensor_at(c, l->tensor[LEAF_WEIGHT]);
    bool one = w && w->n_dims >= 3 && w->n_dims <= 5 &&
               (l->kinds & (KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE)));
    for (size_t d = 2; one && d < w->n_dims; d++)
        one = w->dim[d] == 1;
    return one;
}

static struct str without_numbers(struct arena *a, struct str path)
{
    char *p = arena_alloc(a, path.n + 1, 1);
    size_t n = 0;
    if (!p)
        return STR_NONE;
    for (size_t i = 0; i < path.n; i++) {
        bool digit = path.p[i] >= '0' && path.p[i] <= '9';
        if (!digit || n == 0 || p[n - 1] != '#')
            p[n++] = digit ? '#' : path.p[i];
    }
    return (struct str){p, n};
}

/* Of blocks that repeat, one has a convolution of one position whose axes are equal: it is what the
 * same layer is in the other blocks, where axes or norms tell. */
static enum status as_siblings(struct ctx *c, struct err *e)
{
    size_t n = 0;
    struct like *s = ARENA_ARRAY(c->list.a, struct like, c->list.n + 1);
    if (!s)
        return err_nomem(e, c->list.n * sizeof *s);
    for (size_t i = 0; i < c->list.n; i++) {
        if (!one_position(c, &c->list.layer[i]))
            continue;
        s[n].path = without_numbers(c->list.a, c->list.layer[i].path);
        s[n].layer = i;
        if (!s[n++].path.p)
            return err_nomem(e, 64);
    }
    if (n)
        qsort(s, n, sizeof *s, by_like);
    for (size_t lo = 0, hi; lo < n; lo = hi) {
        unsigned told = 0;
        for (hi = lo; hi < n && str_eq(s[hi].path, s[lo].path); hi++)
            if (c->list.layer[s[hi].layer].kind != LAYER_NONE)
                told |= c->list.layer[s[hi].layer].kinds;
        for (size_t i = lo; i < hi && told == KIND_BIT(LAYER_CONV); i++) {
            struct layer *l = &c->list.layer[s[i].layer];
            if (l->kind != LAYER_NONE || !(l->kinds & told))
                continue;
            layer_decide(l, LAYER_CONV);
            l->reason = STR("one position, as its siblings in blocks that repeat");
        }
    }
    return ST_OK;
}

enum status torch_layers(const struct torch_style *style, const struct model *m, struct arena *a,
                         struct layers *out, struct err *e)
{
    struct ctx c = {.style = style, .list = {.a = a}};
    TRY(modules_build(m, style->cut ? style->cut : torch_cut, a, &c.ms, e));
    c.list.most = c.ms.n;
    if (style->bilinear)
        TRY(bilinear_learn(&c.ms, a, &c.near, e));
    if (style->first)
        TRY(style->first(&c.ms, &c.list, e));
    TRY(cells_recognise(style->rules, &c.ms, &c.list, e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(style->split_attention ? split_attention(&c, &c.ms.module[i], e)
                                   : torch_attention(&c, &c.ms.module[i], e));
    gpt2_vote(&c);
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(plain_module(&c, &c.ms.module[i], e));
    TRY(as_siblings(&c, e));
    return layers_done(&c.list, &c.ms, style->framework, out, e);
}
