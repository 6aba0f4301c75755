/* Haiku: {module path: {name: array}}, parameters and state apart. A path joins the segments by
 * '/'; "~" stands for a module's constructor and "~m" for its method m, and neither is part of a
 * layer's name, unless two modules differ in nothing else. Leaves are w, b, scale, offset and
 * embeddings; a batch norm's parameters and averages keep axes of extent 1 before the channels, and
 * its averages are modules below it. Files hold the two trees bare, as "params" and "state" of a
 * dict, or as a tuple. Layouts: [in,out], channels last; a transposed convolution holds [k,out,in]
 * and does not flip where torch does.
 * Sources: haiku/_src/{module,basic,conv,batch_norm,moving_averages,layer_norm,embed,attention}.py.
 */
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

#define P(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "params", x                                                  \
    }
#define S(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "state", x                                                   \
    }
#define NORM(r, x)                                                                                 \
    P(BATCHNORM, r, WEIGHT, "scale", x), P(BATCHNORM, r, BIAS, "offset", x),                       \
        S(BATCHNORM, r, MEAN, "~.mean_ema.average", x),                                            \
        S(BATCHNORM, r, VAR, "~.var_ema.average", x),                                              \
        S(BATCHNORM, r, MEAN_HIDDEN, "~.mean_ema.hidden", x),                                      \
        S(BATCHNORM, r, VAR_HIDDEN, "~.var_ema.hidden", x)
static const struct leaf_rule leaves[] = {
    P(LINEAR, 0, WEIGHT, "w", "F O"),
    P(LINEAR, 0, BIAS, "b", "O"),
    P(CONV, 1, WEIGHT, "w", "W I O"),
    P(CONV, 2, WEIGHT, "w", "H W I O"),
    P(CONV, 3, WEIGHT, "w", "D H W I O"),
    P(CONV, 0, BIAS, "b", "O"),
    P(CONV_TRANSPOSE, 1, WEIGHT, "w", "-W O I"),
    P(CONV_TRANSPOSE, 2, WEIGHT, "w", "-H -W O I"),
    P(CONV_TRANSPOSE, 3, WEIGHT, "w", "-D -H -W O I"),
    P(CONV_TRANSPOSE, 0, BIAS, "b", "O"),
    NORM(1, "1 F"),
    NORM(2, "1 1 F"),
    NORM(3, "1 1 1 F"),
    NORM(4, "1 1 1 1 F"),
    S(BATCHNORM, 0, MEAN_COUNT, "~.mean_ema.counter", ""),
    S(BATCHNORM, 0, VAR_COUNT, "~.var_ema.counter", ""),
    P(LAYERNORM, 0, WEIGHT, "scale", "F"),
    P(LAYERNORM, 0, BIAS, "offset", "F"),
    P(GROUPNORM, 0, WEIGHT, "scale", "F"),
    P(GROUPNORM, 0, BIAS, "offset", "F"),
    P(EMBEDDING, 0, WEIGHT, "embeddings", "V D"),
    P(ATTENTION, 0, Q_WEIGHT, "query.w", "E (N D)"),
    P(ATTENTION, 0, K_WEIGHT, "key.w", "E (N D)"),
    P(ATTENTION, 0, V_WEIGHT, "value.w", "E (N D)"),
    P(ATTENTION, 0, O_WEIGHT, "linear.w", "(N D) E"),
    P(ATTENTION, 0, Q_BIAS, "query.b", "(N D)"),
    P(ATTENTION, 0, K_BIAS, "key.b", "(N D)"),
    P(ATTENTION, 0, V_BIAS, "value.b", "(N D)"),
    P(ATTENTION, 0, O_BIAS, "linear.b", "E"),
};
#undef P
#undef S
#undef NORM
/* An LSTM is one linear layer of inputs and state together, and adds 1 to its forget gate; so does
 * Conv1DLSTM .. Conv3DLSTM, a convolution for each side; a GRU
 * resets the state before its weights, and z says how much is new, not how much is kept; a vanilla
 * RNN is two linear layers, with relu. Linear layers are told by the name of what holds them.
 * Source: haiku/_src/recurrent.py. */
#define C(k, l, n, x, g, s, minus, plus, word)                                                     \
    {                                                                                              \
        LAYER_##k, 0, CELL_ALWAYS, LEAF_##l, n, "params", x, g, s, minus, plus, word               \
    }
static const struct cell_rule cells[] = {
    C(LSTM, XH_WEIGHT, "linear.w", "J (G O)", "igfo", NULL, NULL, NULL, "lstm"),
    C(LSTM, IH_BIAS, "linear.b", "(G O)", "igfo", "ifgo", NULL, "f", "lstm"),
    C(CONV_LSTM, IH_WEIGHT, "input_to_hidden.w", "* I (G O)", "igfo", NULL, NULL, NULL, WORD_NONE),
    C(CONV_LSTM, HH_WEIGHT, "hidden_to_hidden.w", "* R (G O)", "igfo", NULL, NULL, NULL, WORD_NONE),
    C(CONV_LSTM, IH_BIAS, "input_to_hidden.b", "(G O)", "igfo", NULL, NULL, NULL, WORD_NONE),
    C(CONV_LSTM, HH_BIAS, "hidden_to_hidden.b", "(G O)", "igfo", NULL, NULL, "f", WORD_NONE),
    C(GRU_BEFORE, IH_WEIGHT, "w_i", "I (G O)", "zrn", NULL, "z", NULL, NULL),
    C(GRU_BEFORE, HH_WEIGHT, "w_h", "R (G O)", "zrn", NULL, "z", NULL, NULL),
    C(GRU_BEFORE, IH_BIAS, "b", "(G O)", "zrn", NULL, "z", NULL, NULL),
    C(RNN, IH_WEIGHT, "linear.w", "I (G O)", "h", NULL, NULL, NULL, "rnn"),
    C(RNN, HH_WEIGHT, "linear_1.w", "R (G O)", "h", NULL, NULL, NULL, "rnn"),
    C(RNN, IH_BIAS, "linear.b", "(G O)", "h", NULL, NULL, NULL, "rnn"),
    C(RNN, HH_BIAS, "linear_1.b", "(G O)", "h", NULL, NULL, NULL, "rnn"),
};
#undef C
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(S C)",
    .param = "params",
    .averages = true,
    .join = '/',
    .top = "~",
};

/* ---- names ---- */

/* A name taken apart: [before.]module.leaf */
struct parts {
    struct str before, module, leaf;
};
static struct parts parts_of(struct str name)
{
    struct parts p;
    struct str up;
    name_tail(name, &up, &p.leaf);
    name_tail(up, &p.before, &p.module);
    return p;
}

static bool is_average(struct str module)
{
    return str_ends(module, STR("/mean_ema")) || str_ends(module, STR("/var_ema"));
}

static bool takes_part(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    struct parts p = parts_of(x->name);
    *out = (struct member){.collection = p.before, .path = p.module, .leaf = p.leaf};
    switch (x->role) {
    case ROLE_PARAMETER:
    case ROLE_BUFFER:
    case ROLE_STATISTIC:
        return true;
    case ROLE_COUNTER:
        return str_is(p.leaf, "counter") && is_average(p.module);
    default:
        return false;
    }
}

/* "0" and "1" are parameters and state of a tuple, unless 1 holds the parameters of 0 again: then
 * they are two models. */
static bool is_tuple(const struct model *m, struct arena *a, struct err *e, enum status *st)
{
    bool first = false;
    *st = ST_OK;
    for (size_t i = 0; i < m->n_tensors && *st == ST_OK; i++) {
        struct str name = m->tensor[i].name;
        first = first || str_starts(name, STR("0."));
        if (!str_starts(name, STR("1.")) || m->tensor[i].role != ROLE_PARAMETER)
            continue;
        struct str twin = arena_fmt(a, "0%.*s", STR_ARG(str_sub(name, 1, name.n)));
        if (!twin.p)
            *st = err_nomem(e, name.n);
        else if (model_find(m, twin) >= 0)
            return false;
    }
    return first;
}

static bool is_collection(struct str before, bool tuple)
{
    return before.n == 0 || str_is(before, "params") || str_is(before, "state") ||
           (tuple && (str_is(before, "0") || str_is(before, "1")));
}

/* "mlp/~/linear_0" to "mlp.linear_0"; what stands before it goes in front. */
static struct str dotted(struct arena *a, struct str before, struct str module, bool keep)
{
    struct str out = arena_fmt(a, "%.*s", STR_ARG(before)), rest = module, seg;
    while (out.p && rest.p && str_split(&rest, '/', &seg)) {
        if (!keep && seg.n > 0 && seg.p[0] == '~')
            seg = str_sub(seg, 1, seg.n);
        if (seg.n)
            out = arena_fmt(a, "%.*s%s%.*s", STR_ARG(out), out.n ? "." : "", STR_ARG(seg));
    }
    return out;
}

/* Gives the members their layers' paths; *clash: two of them are one without the tildes. */
static enum status rename_all(struct modules *ms, struct arena *a, bool tuple, bool keep,
                              bool *clash, struct err *e)
{
    for (size_t i = 0; i < ms->n_members; i++) {
        struct member *b = &ms->member[i];
        struct parts p = parts_of(ms->m->tensor[b->tensor].name);
        bool known = is_collection(p.before, tuple);
        b->collection = known ? p.before : STR_NONE;
        b->path = dotted(a, known ? STR_NONE : p.before, p.module, keep);
        if (!b->path.p)
            return err_nomem(e, p.module.n);
    }
    modules_group(ms);
    *clash = false;
    for (size_t i = 1; i < ms->n_members; i++) {
        const struct member *x = &ms->member[i - 1], *y = &ms->member[i];
        *clash = *clash || (str_eq(x->path, y->path) && str_eq(x->leaf, y->leaf));
    }
    return ST_OK;
}

/* ---- layers ---- */

struct ctx {
    struct modules ms;
    struct layer_list list;
};

/* Axes of extent 1 before the channels; 0 when there are none, or the shape is another. */
static uint8_t ones(const struct tensor *t)
{
    if (t->n_dims < 2 || t->n_dims > 5)
        return 0;
    for (size_t d = 0; d + 1 < t->n_dims; d++)
        if (t->dim[d] != 1)
            return 0;
    return (uint8_t)(t->n_dims - 1);
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return !b ||
           (a->n_dims == b->n_dims && memcmp(a->dim, b->dim, a->n_dims * sizeof *a->dim) == 0);
}

/* A norm by its averages: PATH[.~].mean_ema and .var_ema beside it. */
static enum status averaged(struct ctx *c, struct module *mean, struct err *e)
{
    struct str up, leaf, parent, tilde;
    name_tail(mean->path, &up, &leaf);
    if (!str_is(leaf, "mean_ema") || !up.n)
        return ST_OK;
    name_tail(up, &parent, &tilde);
    struct str path = str_is(tilde, "~") ? parent : up;
    struct module *var = module_child(&c->ms, up, "var_ema", c->list.a);
    struct module *norm = module_at(&c->ms, path);
    const struct tensor *m = module_tensor(&c->ms, mean, "average"),
                        *v = module_tensor(&c->ms, var, "average");
    if (!m || !v || !ones(m) || !same_shape(m, v) ||
        !same_shape(m, module_tensor(&c->ms, norm, "scale")) ||
        !same_shape(m, module_tensor(&c->ms, norm, "offset")) ||
        !same_shape(m, module_tensor(&c->ms, mean, "hidden")) ||
        !same_shape(m, module_tensor(&c->ms, var, "hidden")))
        return ST_OK; /* each by itself */
    struct layer *l = layer_add(&c->list, LAYER_BATCHNORM, path, STR("mean_ema and var_ema"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->rank = ones(m);
    layer_claim(&c->ms, l, LEAF_WEIGHT, norm, "scale");
    layer_claim(&c->ms, l, LEAF_BIAS, norm, "offset");
    layer_claim(&c->ms, l, LEAF_MEAN, mean, "average");
    layer_claim(&c->ms, l, LEAF_MEAN_HIDDEN, mean, "hidden");
    layer_claim(&c->ms, l, LEAF_MEAN_COUNT, mean, "counter");
    layer_claim(&c->ms, l, LEAF_VAR, var, "average");
    layer_claim(&c->ms, l, LEAF_VAR_HIDDEN, var, "hidden");
    layer_claim(&c->ms, l, LEAF_VAR_COUNT, var, "counter");
    return ST_OK;
}

static enum status attention(struct ctx *c, struct module *query, struct err *e)
{
    static const char *const child[4] = {"query", "key", "value", "linear"};
    struct str parent, leaf;
    name_tail(query->path, &parent, &leaf);
    if (!str_is(leaf, "query"))
        return ST_OK;
    struct module *mod[4];
    const struct tensor *w[4];
    for (int i = 0; i < 4; i++) {
        mod[i] = module_child(&c->ms, parent, child[i], c->list.a);
        w[i] = module_tensor(&c->ms, mod[i], "w");
        const struct tensor *b = module_tensor(&c->ms, mod[i], "b");
        if (!w[i] || w[i]->n_dims != 2 || (b && (b->n_dims != 1 || b->dim[0] != w[i]->dim[1])))
            return ST_OK;
    }
    if (w[0]->dim[1] != w[1]->dim[1] || w[2]->dim[1] != w[3]->dim[0])
        return ST_OK;
    struct layer *l = layer_add(&c->list, LAYER_ATTENTION, parent,
                                STR("query, key, value and linear of fitting widths"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    for (int i = 0; i < 4; i++) {
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_WEIGHT + i), mod[i], "w");
        layer_claim(&c->ms, l, (enum leaf)(LEAF_Q_BIAS + i), mod[i], "b");
    }
    return ST_OK;
}

static struct layer *kernel(struct ctx *c, struct module *mod, const struct tensor *w,
                            const struct tensor *b)
{
    const unsigned both = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    unsigned said = name_kinds(mod->path) & both;
    uint64_t last = w->dim[w->n_dims - 1], before = w->dim[w->n_dims - 2];
    struct layer *l;
    if (b && (b->n_dims != 1 || (b->dim[0] != last && (w->n_dims == 2 || b->dim[0] != before))))
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("w whose bias fits no axis of it"));
    if (w->n_dims == 2)
        return layer_add(&c->list, LAYER_LINEAR, mod->path, STR("w of two axes"));
    if (w->n_dims > 5)
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("w that no rule knows"));
    if (b && last != before) {
        bool t = b->dim[0] == before;
        l = layer_add(&c->list, t ? LAYER_CONV_TRANSPOSE : LAYER_CONV, mod->path,
                      t ? STR("the bias fits the axis before the last, [...,out,in]")
                        : STR("the bias fits the last axis, [...,in,out]"));
    } else if (said && said != both) {
        l = layer_add(&c->list, LAYER_NONE, mod->path, STR("w, named so"));
        if (l) {
            layer_open(l, said);
            l->by_name = true;
        }
    } else {
        l = layer_add(&c->list, LAYER_NONE, mod->path,
                      STR("w with spatial axes: convolution or transposed convolution"));
        if (l)
            layer_open(l, both);
    }
    if (!l)
        return NULL;
    l->rank = (uint8_t)(w->n_dims - 2);
    l->flip = l->kind != LAYER_CONV;
    return l;
}

static struct layer *norm(struct ctx *c, struct module *mod, const struct tensor *scale,
                          const struct tensor *offset)
{
    const unsigned norms = KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM);
    const struct tensor *any = scale ? scale : offset;
    unsigned said = name_kinds(mod->path);
    struct layer *l;
    if (!same_shape(any, offset))
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("scale and offset that differ"));
    if (ones(any)) {
        l = layer_add(&c->list, LAYER_BATCHNORM, mod->path,
                      STR("axes of extent 1 before the channels: a batch norm without its state"));
        if (l)
            l->rank = ones(any);
        return l;
    }
    if (any->n_dims != 1)
        return layer_add(&c->list, LAYER_NONE, mod->path, STR("scale over several axes"));
    bool group = said == KIND_BIT(LAYER_GROUPNORM), layer = said == KIND_BIT(LAYER_LAYERNORM);
    l = layer_add(&c->list, group ? LAYER_GROUPNORM : LAYER_LAYERNORM, mod->path,
                  group || layer ? STR("scale or offset, named so")
                                 : STR("scale or offset: layer or group normalisation"));
    if (l && !group && !layer)
        l->kinds = norms;
    else if (l)
        l->by_name = true;
    return l;
}

/* Below a layer_stack, all of it? One layer seen by itself has its number behind the stack. */
static bool stacked(struct str path)
{
    struct str rest = path, seg;
    uint64_t k;
    while (name_head(&rest, &seg)) {
        struct str behind = rest;
        if (str_starts(seg, STR("__layer_stack")))
            return !name_head(&behind, &seg) || !str_u64(seg, &k);
    }
    return false;
}

static enum status plain_module(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *w = module_tensor(&c->ms, mod, "w"), *b = module_tensor(&c->ms, mod, "b");
    const struct tensor *emb = module_tensor(&c->ms, mod, "embeddings");
    const struct tensor *scale = module_tensor(&c->ms, mod, "scale");
    const struct tensor *offset = module_tensor(&c->ms, mod, "offset");
    struct layer *l;
    if (stacked(mod->path))
        return ST_OK; /* every leaf has an axis of layers before its own */
    if (w && w->n_dims >= 2) {
        if (!(l = kernel(c, mod, w, b)))
            return err_nomem(e, sizeof *l);
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "w");
        layer_claim(&c->ms, l, LEAF_BIAS, mod, "b");
    } else if ((scale && scale->n_dims) || (!scale && offset && offset->n_dims)) {
        if (!(l = norm(c, mod, scale, offset)))
            return err_nomem(e, sizeof *l);
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "scale");
        layer_claim(&c->ms, l, LEAF_BIAS, mod, "offset");
    } else if (emb && emb->n_dims == 2) {
        l = layer_add(&c->list, LAYER_EMBEDDING, mod->path, STR("leaf named embeddings"));
        if (!l)
            return err_nomem(e, sizeof *l);
        l->by_name = true;
        layer_claim(&c->ms, l, LEAF_WEIGHT, mod, "embeddings");
    }
    return ST_OK;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    struct ctx c = {.list = {.a = a}};
    enum status st;
    bool clash, tuple = is_tuple(m, a, e, &st);
    TRY(st);
    TRY(modules_build(m, takes_part, a, &c.ms, e));
    TRY(rename_all(&c.ms, a, tuple, false, &clash, e));
    if (clash)
        TRY(rename_all(&c.ms, a, tuple, true, &clash, e));
    c.list.most = c.ms.n;
    TRY(cells_recognise(&rules, &c.ms, &c.list, e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(averaged(&c, &c.ms.module[i], e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(attention(&c, &c.ms.module[i], e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(plain_module(&c, &c.ms.module[i], e));
    return layers_done(&c.list, &c.ms, "haiku", out, e);
}

/* Leaves of Haiku's names, in paths of Haiku's kind: w and b alone stand in many a file. */
static int bid(const struct model *m)
{
    static const char *const mine[] = {"w", "embeddings", "offset", "average", "w_i", "w_h"};
    static const char *const others[] = {"kernel", "weight", "embedding", "gamma"};
    if (str_is(m->framework, "haiku"))
        return 100;
    if (m->framework.n)
        return 0;
    size_t n_mine = 0, n_others = 0;
    bool tilde = false, slash = false;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct parts p = parts_of(m->tensor[i].name);
        bool is = false;
        for (size_t k = 0; k < sizeof mine / sizeof *mine; k++)
            is = is || str_is(p.leaf, mine[k]);
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            n_others += str_is(p.leaf, others[k]);
        n_mine += is;
        tilde = tilde || str_find_str(p.module, STR("/~"), 0) < p.module.n;
        slash = slash || (is && str_find(p.module, '/', 0) < p.module.n);
    }
    if (n_mine <= n_others)
        return 0;
    return tilde || (m->format && strcmp(m->format, "haiku") == 0) ? 90 : slash ? 70 : 0;
}

const struct framework haiku_framework = {
    .name = "haiku",
    .title = "Haiku modules: parameters and state by module path",
    .usual_format = "haiku",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
