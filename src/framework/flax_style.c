/* Recognising layers in Flax's spellings, Linen's and NNX's: kernels [in,out] and channels last,
 * scale and bias, mean and var, embedding; attention as query, key, value and out. What a module is
 * comes from its leaves, from class names where a tree has them, and from names.
 * Sources: flax/{linen,nnx/nn}/{linear,normalization,attention}.py.
 */
#include "framework/dense.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

static bool class_is(struct str path, const char *cls)
{
    struct str parent, leaf;
    name_tail(path, &parent, &leaf);
    size_t n = strlen(cls);
    if (leaf.n < n || memcmp(leaf.p, cls, n) != 0)
        return false;
    uint64_t k;
    return leaf.n == n || (leaf.p[n] == '_' && str_u64(str_sub(leaf, n + 1, leaf.n), &k));
}

struct ctx {
    struct modules ms;
    struct layer_list list;
    bool patches; /* it has layers with a kernel for each position */
    bool stacked; /* some norm's scale has several axes: blocks are stacked, dense layers too */
};

/* query, key, value, out with kernels of three axes */
static enum status attention(struct ctx *c, struct module *query, struct err *e)
{
    static const char *const child[4] = {"query", "key", "value", "out"};
    struct str parent, leaf;
    name_tail(query->path, &parent, &leaf);
    if (!str_is(leaf, "query"))
        return ST_OK;
    struct module *mod[4];
    const struct tensor *w[4];
    for (int i = 0; i < 4; i++) {
        mod[i] = parent.n ? module_child(&c->ms, parent, child[i], c->list.a)
                          : module_at(&c->ms, str_from(child[i]));
        w[i] = module_tensor(&c->ms, mod[i], "kernel");
        if (!w[i] || w[i]->n_dims != 3)
            return ST_OK;
    }
    uint64_t heads = w[0]->dim[1];
    if (w[1]->dim[1] != heads || w[2]->dim[1] != heads || w[3]->dim[0] != heads ||
        w[0]->dim[2] != w[1]->dim[2] || w[2]->dim[2] != w[3]->dim[1])
        return ST_OK;
    struct layer *l = layer_add(&c->list, LAYER_ATTENTION, parent,
                                STR("query, key, value and out with kernels of three axes"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->heads = heads;
    for (int i = 0; i < 4; i++) {
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_WEIGHT + i), mod[i], "kernel");
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_BIAS + i), mod[i], "bias");
    }
    return ST_OK;
}

/* A kernel for each position, [positions.., window, out]. The class says it, or the bias and the
 * name; without one of them it is an open question, and so are positions of one axis, which may be
 * dense layers in a stack. NULL: no such layer, or no memory (*lost). */
static struct layer *local(struct ctx *c, struct module *mod, const struct tensor *w,
                           const struct tensor *b, bool *lost)
{
    bool cls = class_is(mod->path, "ConvLocal"), named = cls || name_is_local(mod->path);
    bool fits = bias_by_position(w, b, w->n_dims - 2u);
    struct layer *l = NULL;
    if (!c->patches || w->n_dims < 3 || w->n_dims > 5 || class_is(mod->path, "DenseGeneral") ||
        class_is(mod->path, "Dense") || (b ? !fits : !named) || (c->stacked && !named) ||
        (!named && w->n_dims == 3 && w->dim[0] == w->dim[1])) /* or heads of a dense layer's */
        return NULL;
    if (cls || (fits && named && w->n_dims > 3)) {
        l = layer_add(&c->list, LAYER_CONV_LOCAL, mod->path,
                      cls ? STR("kernel of that class") : STR("bias by position, named so"));
    } else {
        l = layer_add(&c->list, LAYER_NONE, mod->path,
                      !fits            ? STR("kernel with spatial axes, or one for each position")
                      : w->n_dims == 3 ? STR("kernel that no rule knows")
                                       : STR("bias by position: locally connected, or no layer "
                                             "known here"));
        if (l)
            layer_open(l, fits ? KIND_BIT(LAYER_CONV_LOCAL) | KIND_BIT(LAYER_PARAM)
                               : KIND_BIT(LAYER_CONV_LOCAL) | KIND_BIT(LAYER_CONV));
    }
    *lost = !l;
    if (!l)
        return NULL;
    l->by_name = named;
    l->rank = (uint8_t)(w->n_dims - 2);
    return l;
}

/* A kernel of three axes or more whose bias has several, or whose class says that it is a dense
 * layer's: the bias is what it gives. Nothing else tells, here. */
static struct layer *general(struct ctx *c, struct module *mod, const struct tensor *w,
                             const struct tensor *b)
{
    size_t n_batch = 0, n_in = b ? dense_inputs(w, b, &n_batch) : 0;
    const char *reason = n_batch
                             ? "kernel with batch axes: a stack of dense layers"
                             : "kernel of several axes, whose bias does not tell which it reads";
    struct layer *l;
    if (n_in && !n_batch && !c->stacked) {
        if (!(l = layer_add(&c->list, LAYER_LINEAR, mod->path,
                            STR("kernel of several axes, whose last ones its bias has"))))
            return NULL;
        l->form = FORM_AXES;
        l->dense = dense_split(w->n_dims, n_in, c->list.a);
        return l->dense ? l : NULL;
    }
    if (n_in && !n_batch)
        reason = "kernel of several axes where blocks are stacked: its last ones may count them";
    if (!b)
        reason = "kernel of several axes, and no bias that tells which it reads";
    if ((l = layer_add(&c->list, LAYER_NONE, mod->path, str_from(reason))))
        l->split_open = !n_in && w->n_dims <= DENSE_SIDE;
    return l;
}

/* An einsum's equation is in no file: two axes are told by a bias that only the last one fits. */
static struct layer *einsum(struct ctx *c, struct module *mod, const struct tensor *w,
                            const struct tensor *b)
{
    bool told =
        w->n_dims == 2 && b && b->n_dims == 1 && b->dim[0] == w->dim[1] && w->dim[0] != w->dim[1];
    return layer_add(&c->list, told ? LAYER_LINEAR : LAYER_NONE, mod->path,
                     told ? STR("kernel of two axes, whose last one its bias has")
                          : STR("an einsum's kernel, whose equation is in no file"));
}

static struct layer *kernel(struct ctx *c, struct module *mod, const struct tensor *w,
                            const struct tensor *b)
{
    const unsigned both = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    bool conv = class_is(mod->path, "Conv"), convt = class_is(mod->path, "ConvTranspose");
    unsigned said = name_kinds(mod->path);
    bool lost = false;
    struct layer *l;
    if (class_is(mod->path, "Einsum"))
        return einsum(c, mod, w, b);
    if ((l = local(c, mod, w, b, &lost)) || lost)
        return l;
    if (w->n_dims == 2) {
        l = layer_add(&c->list, LAYER_LINEAR, mod->path, STR("kernel of two axes"));
        if (l && b && (b->n_dims != 1 || b->dim[0] != w->dim[1]))
            layer_decide(l, LAYER_NONE);
        return l;
    }
    bool dense = class_is(mod->path, "DenseGeneral");
    if (w->n_dims >= 3 && !conv && !convt && !class_is(mod->path, "ConvLocal") &&
        (dense || (b && b->n_dims > 1 && !class_is(mod->path, "Dense"))))
        return general(c, mod, w, b);
    if (class_is(mod->path, "ConvLocal") || w->n_dims < 3 || w->n_dims > 5 || (b && b->n_dims != 1))
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("kernel that no rule knows"));
    if (conv || convt || ((said & both) && (said & both) != both)) {
        bool t = convt || (!conv && (said & KIND_BIT(LAYER_CONV_TRANSPOSE)));
        l = layer_add(&c->list, t ? LAYER_CONV_TRANSPOSE : LAYER_CONV, mod->path,
                      STR("kernel, named so"));
        if (l)
            l->by_name = true;
    } else if ((said & both) == both) {
        l = layer_add(&c->list, LAYER_CONV, mod->path, STR("kernel, named a projection"));
    } else {
        bool read = b && b->dim[0] == w->dim[w->n_dims - 1]; /* all but the last, if it is dense */
        l = layer_add(&c->list, LAYER_NONE, mod->path,
                      STR("kernel of several axes: dense, convolution or transposed convolution"));
        if (l) {
            layer_open(l, read ? both | KIND_BIT(LAYER_LINEAR) : both);
            l->form = read ? FORM_AXES : FORM_USUAL;
            l->dense = read ? dense_split(w->n_dims, w->n_dims - 1u, c->list.a) : NULL;
            l->split_open = !b;
            if (read && !l->dense)
                return NULL;
        }
    }
    if (!l)
        return NULL;
    l->rank = (uint8_t)(w->n_dims - 2);
    uint64_t last = w->dim[w->n_dims - 1], before = w->dim[w->n_dims - 2];
    l->flip = true; /* transpose_kernel=False, flax's default, unless the bias says otherwise */
    if (b && b->dim[0] != last) {
        if (b->dim[0] == before && (l->kinds & KIND_BIT(LAYER_CONV_TRANSPOSE))) {
            layer_decide(l, LAYER_CONV_TRANSPOSE);
            l->flip = false;
            l->reason = STR("the bias fits the axis before the last: transpose_kernel=True");
        } else {
            layer_decide(l, LAYER_NONE);
            l->reason = STR("kernel whose bias fits neither of its last axes");
        }
    }
    if (l->kind == LAYER_CONV)
        l->flip = false;
    return l;
}

static struct layer *norm(struct ctx *c, struct module *mod, const struct tensor *scale,
                          const struct tensor *mean)
{
    struct layer *l;
    unsigned said = name_kinds(mod->path);
    const unsigned norms = KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM);
    if (mean) {
        l = layer_add(&c->list, LAYER_BATCHNORM, mod->path, STR("mean and var in batch_stats"));
    } else if (scale && scale->n_dims != 1) {
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("scale over several axes"));
    } else if (class_is(mod->path, "GroupNorm") || said == KIND_BIT(LAYER_GROUPNORM)) {
        l = layer_add(&c->list, LAYER_GROUPNORM, mod->path, STR("scale, named so"));
    } else if (class_is(mod->path, "LayerNorm") || class_is(mod->path, "RMSNorm") ||
               said == KIND_BIT(LAYER_LAYERNORM)) {
        l = layer_add(&c->list, LAYER_LAYERNORM, mod->path, STR("scale, named so"));
    } else {
        l = layer_add(&c->list, LAYER_LAYERNORM, mod->path,
                      STR("scale without statistics: layer or group normalisation"));
        if (l)
            l->kinds = norms;
        return l;
    }
    if (l)
        l->by_name = true;
    return l;
}

static enum status plain_module(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *w = module_tensor(&c->ms, mod, "kernel");
    const struct tensor *b = module_tensor(&c->ms, mod, "bias");
    const struct tensor *emb = module_tensor(&c->ms, mod, "embedding");
    const struct tensor *scale = module_tensor(&c->ms, mod, "scale");
    const struct tensor *mean = module_tensor(&c->ms, mod, "mean");
    const struct tensor *var = module_tensor(&c->ms, mod, "var");
    const struct tensor *slope = module_tensor(&c->ms, mod, "negative_slope");
    struct layer *l;
    if (w && w->n_dims >= 2) {
        l = kernel(c, mod, w, b);
        if (!l)
            return err_nomem(e, sizeof *l);
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "kernel");
        layer_claim(&c->ms, l, LEAF_BIAS, mod, "bias");
    } else if (mean && var && mean->n_dims == 1) {
        if (!(l = norm(c, mod, scale, mean)))
            return err_nomem(e, sizeof *l);
        layer_claim(&c->ms, l, LEAF_MEAN, mod, "mean");
        layer_claim(&c->ms, l, LEAF_VAR, mod, "var");
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "scale");
        layer_claim(&c->ms, l, LEAF_BIAS, mod, "bias");
    } else if (scale && scale->n_dims >= 1) {
        if (!(l = norm(c, mod, scale, NULL)))
            return err_nomem(e, sizeof *l);
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "scale");
        layer_claim(&c->ms, l, LEAF_BIAS, mod, "bias");
    } else if (emb && emb->n_dims == 2) {
        l = layer_add(&c->list, LAYER_EMBEDDING, mod->path, STR("leaf named embedding"));
        if (!l)
            return err_nomem(e, sizeof *l);
        l->by_name = true;
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "embedding");
    } else if (slope && slope->n_dims == 0) {
        l = layer_add(&c->list, LAYER_PRELU, mod->path, STR("leaf named negative_slope"));
        if (!l)
            return err_nomem(e, sizeof *l);
        l->by_name = true;
        l->form = FORM_ONE;
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "negative_slope");
    }
    return ST_OK;
}

enum status flax_layers(const struct flax_style *style, const struct model *m, struct arena *a,
                        struct layers *out, struct err *e)
{
    struct ctx c = {.list = {.a = a}, .patches = style->rules->patch != NULL};
    TRY(modules_build(m, style->cut, a, &c.ms, e));
    c.list.most = c.ms.n;
    for (size_t i = 0; i < c.ms.n && !c.stacked; i++) {
        const struct tensor *scale = module_tensor(&c.ms, &c.ms.module[i], "scale");
        c.stacked = scale && scale->n_dims > 1;
    }
    TRY(cells_recognise(style->rules, &c.ms, &c.list, e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(attention(&c, &c.ms.module[i], e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(plain_module(&c, &c.ms.module[i], e));
    return layers_done(&c.list, &c.ms, style->framework, out, e);
}
