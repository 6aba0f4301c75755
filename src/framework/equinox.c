/* Equinox: a module's leaves by attribute path, with torch's axes. What differs from torch: a
 * convolution's bias is [O,1,..,1]; a transposed one holds the kernel of the convolution that it
 * is, [O,I/g,k..], reversed against torch; attention has query_proj, key_proj, value_proj and
 * output_proj; a batch norm's statistics stand in a state, here below the attribute that holds its
 * index: ema_state_index (with ema_first_time_index), or batch_state_index (with batch_counter),
 * whose values are not debiased.
 * Files have no names (format/equinox.c): they come from a list of leaves or from a skeleton.
 * Sources: equinox/nn/{_linear,_conv,_batch_norm,_normalisation,_embedding,_attention,_rnn,
 * _activation}.py.
 */
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

#define L(k, r, l, n, x)                                                                           \
    {                                                                                              \
        LAYER_##k, r, 0, LEAF_##l, n, "", x                                                        \
    }
#define BATCH(l, n, x)                                                                             \
    {                                                                                              \
        LAYER_BATCHNORM, 0, VARIANT_UPDATES, LEAF_##l, n, "", x                                    \
    }
static const struct leaf_rule leaves[] = {
    L(LINEAR, 0, WEIGHT, "weight", "O F"),
    L(LINEAR, 0, BIAS, "bias", "O"),
    L(CONV, 1, WEIGHT, "weight", "O I W"),
    L(CONV, 2, WEIGHT, "weight", "O I H W"),
    L(CONV, 3, WEIGHT, "weight", "O I D H W"),
    L(CONV, 1, BIAS, "bias", "O 1"),
    L(CONV, 2, BIAS, "bias", "O 1 1"),
    L(CONV, 3, BIAS, "bias", "O 1 1 1"),
    L(CONV_TRANSPOSE, 1, WEIGHT, "weight", "O I -W"),
    L(CONV_TRANSPOSE, 2, WEIGHT, "weight", "O I -H -W"),
    L(CONV_TRANSPOSE, 3, WEIGHT, "weight", "O I -D -H -W"),
    L(CONV_TRANSPOSE, 1, BIAS, "bias", "O 1"),
    L(CONV_TRANSPOSE, 2, BIAS, "bias", "O 1 1"),
    L(CONV_TRANSPOSE, 3, BIAS, "bias", "O 1 1 1"),
    L(BATCHNORM, 0, WEIGHT, "weight", "F"),
    L(BATCHNORM, 0, BIAS, "bias", "F"),
    L(BATCHNORM, 0, FIRST, "ema_first_time_index", ""),
    L(BATCHNORM, 0, MEAN, "ema_state_index.0", "F"),
    L(BATCHNORM, 0, VAR, "ema_state_index.1", "F"),
    BATCH(UPDATES, "batch_counter", ""),
    BATCH(MEAN, "batch_state_index.0", "F"),
    BATCH(VAR, "batch_state_index.1", "F"),
    L(LAYERNORM, 0, WEIGHT, "weight", "F"),
    L(LAYERNORM, 0, BIAS, "bias", "F"),
    L(GROUPNORM, 0, WEIGHT, "weight", "F"),
    L(GROUPNORM, 0, BIAS, "bias", "F"),
    L(EMBEDDING, 0, WEIGHT, "weight", "V D"),
    L(PRELU, 1, WEIGHT, "negative_slope", "O"),
    L(PRELU, 2, WEIGHT, "negative_slope", "O 1"),
    L(PRELU, 3, WEIGHT, "negative_slope", "O 1 1"),
    L(PRELU, 4, WEIGHT, "negative_slope", "O 1 1 1"),
    {LAYER_PRELU, 0, FORM_ONE, LEAF_WEIGHT, "negative_slope", "", AXES_NONE},
    {LAYER_PRELU, 2, FORM_MAP, LEAF_WEIGHT, "negative_slope", "", "O W"},
    {LAYER_PRELU, 3, FORM_MAP, LEAF_WEIGHT, "negative_slope", "", "O H W"},
    {LAYER_PRELU, 4, FORM_MAP, LEAF_WEIGHT, "negative_slope", "", "O D H W"},
    L(ATTENTION, 0, Q_WEIGHT, "query_proj.weight", "(N D) E"),
    L(ATTENTION, 0, K_WEIGHT, "key_proj.weight", "(N D) E"),
    L(ATTENTION, 0, V_WEIGHT, "value_proj.weight", "(N D) E"),
    L(ATTENTION, 0, O_WEIGHT, "output_proj.weight", "E (N D)"),
    L(ATTENTION, 0, Q_BIAS, "query_proj.bias", "(N D)"),
    L(ATTENTION, 0, K_BIAS, "key_proj.bias", "(N D)"),
    L(ATTENTION, 0, V_BIAS, "value_proj.bias", "(N D)"),
    L(ATTENTION, 0, O_BIAS, "output_proj.bias", "E"),
};
#undef L
#undef BATCH
/* One bias, and a GRU's own beside the state for its new gate: equinox/nn/_rnn.py. */
#define C(k, l, n, x, g, s)                                                                        \
    {                                                                                              \
        LAYER_##k, 0, CELL_IF_HELD, LEAF_##l, n, "", x, g, s, NULL, NULL, NULL                     \
    }
static const struct cell_rule cells[] = {
    C(LSTM, IH_WEIGHT, "weight_ih", "(G O) I", "ifgo", NULL),
    C(LSTM, HH_WEIGHT, "weight_hh", "(G O) R", "ifgo", NULL),
    C(LSTM, IH_BIAS, "bias", "(G O)", "ifgo", "ifgo"),
    C(GRU, IH_WEIGHT, "weight_ih", "(G O) I", "rzn", NULL),
    C(GRU, HH_WEIGHT, "weight_hh", "(G O) R", "rzn", NULL),
    C(GRU, IH_BIAS, "bias", "(G O)", "rzn", "rz"),
    C(GRU, HH_BIAS_0 + 2, "bias_n", "O", "n", NULL),
};
#undef C
static const struct spelling_rules rules = {
    .leaf = leaves,
    .n = sizeof leaves / sizeof *leaves,
    .cell = cells,
    .n_cells = sizeof cells / sizeof *cells,
    .flat = "(C S)",
    .param = "",
    .averages = true,
};

static bool cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    name_tail(x->name, &out->path, &out->leaf);
    switch (x->role) {
    case ROLE_PARAMETER:
    case ROLE_BUFFER:
    case ROLE_STATISTIC:
        return true;
    case ROLE_COUNTER:
        return str_is(out->leaf, "ema_first_time_index") || str_is(out->leaf, "batch_counter");
    default:
        return false;
    }
}

struct ctx {
    struct modules *ms;
    struct layer_list *list;
};

static bool vector_of(const struct tensor *t, uint64_t n)
{
    return !t || (t->n_dims == 1 && t->dim[0] == n);
}

/* A batch norm by its state: PATH.ema_state_index.{0,1} or PATH.batch_state_index.{0,1}. */
static enum status batchnorm(struct ctx *c, struct module *state, struct err *e)
{
    struct str path, leaf;
    name_tail(state->path, &path, &leaf);
    bool batch = str_is(leaf, "batch_state_index");
    if (!batch && !str_is(leaf, "ema_state_index"))
        return ST_OK;
    struct module *mod = module_at(c->ms, path);
    const struct tensor *mean = module_tensor(c->ms, state, "0"),
                        *var = module_tensor(c->ms, state, "1");
    if (!mean || !var || mean->n_dims != 1 || !vector_of(var, mean->dim[0]) ||
        !vector_of(module_tensor(c->ms, mod, "weight"), mean->dim[0]) ||
        !vector_of(module_tensor(c->ms, mod, "bias"), mean->dim[0]))
        return ST_OK; /* each by itself */
    struct layer *l = layer_add(c->list, LAYER_BATCHNORM, path,
                                batch ? STR("batch_state_index") : STR("ema_state_index"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    layer_claim(c->ms, l, LEAF_WEIGHT, mod, "weight");
    layer_claim(c->ms, l, LEAF_BIAS, mod, "bias");
    layer_claim(c->ms, l, LEAF_MEAN, state, "0");
    layer_claim(c->ms, l, LEAF_VAR, state, "1");
    if (batch)
        layer_claim(c->ms, l, LEAF_UPDATES, mod, "batch_counter");
    else
        layer_claim(c->ms, l, LEAF_FIRST, mod, "ema_first_time_index");
    return ST_OK;
}

static enum status attention(struct ctx *c, struct module *query, struct err *e)
{
    static const char *const child[4] = {"query_proj", "key_proj", "value_proj", "output_proj"};
    struct str parent, leaf;
    name_tail(query->path, &parent, &leaf);
    if (!str_is(leaf, "query_proj"))
        return ST_OK;
    struct module *mod[4];
    const struct tensor *w[4];
    for (int i = 0; i < 4; i++) {
        mod[i] = parent.n ? module_child(c->ms, parent, child[i], c->list->a)
                          : module_at(c->ms, str_from(child[i]));
        w[i] = module_tensor(c->ms, mod[i], "weight");
        if (!w[i] || w[i]->n_dims != 2 ||
            !vector_of(module_tensor(c->ms, mod[i], "bias"), w[i]->dim[0]))
            return ST_OK;
    }
    if (w[0]->dim[0] != w[1]->dim[0] || w[2]->dim[0] != w[3]->dim[1])
        return ST_OK;
    struct layer *l = layer_add(c->list, LAYER_ATTENTION, parent,
                                STR("query_proj, key_proj, value_proj and output_proj"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    for (int i = 0; i < 4; i++) {
        layer_claim(c->ms, l, (enum leaf)(LEAF_Q_WEIGHT + i), mod[i], "weight");
        layer_claim(c->ms, l, (enum leaf)(LEAF_Q_BIAS + i), mod[i], "bias");
    }
    return ST_OK;
}

/* [O,1,..,1], one 1 for each spatial axis */
static bool bias_of(const struct tensor *b, const struct tensor *w)
{
    bool is = !b || (b->n_dims + 1 == w->n_dims && b->dim[0] == w->dim[0]);
    for (size_t d = 1; b && is && d < b->n_dims; d++)
        is = b->dim[d] == 1;
    return is;
}

/* Both kinds of convolution are stored alike: only the name tells. */
static struct layer *convolution(struct ctx *c, struct module *mod, const struct tensor *w)
{
    const unsigned both = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    unsigned said = name_kinds(mod->path) & both;
    bool told = said && said != both;
    struct layer *l = layer_add(c->list, LAYER_NONE, mod->path,
                                told ? STR("weight with spatial axes, named so")
                                     : STR("weight with spatial axes: convolution or transposed "
                                           "convolution"));
    if (!l)
        return NULL;
    layer_open(l, told ? said : both);
    l->by_name = told;
    l->rank = (uint8_t)(w->n_dims - 2);
    l->flip = l->kind != LAYER_CONV;
    return l;
}

/* A slope for all, for each channel, [O,1,..,1], or for each element. */
static enum status prelu(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *w = module_tensor(c->ms, mod, "negative_slope");
    if (!w || w->n_dims > 4)
        return ST_OK;
    struct layer *l =
        layer_add(c->list, LAYER_PRELU, mod->path, STR("attribute named negative_slope"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->rank = w->n_dims;
    l->form = w->n_dims ? FORM_USUAL : FORM_ONE;
    for (size_t d = 1; d < w->n_dims; d++)
        if (w->dim[d] != 1)
            l->form = FORM_MAP;
    layer_claim(c->ms, l, LEAF_WEIGHT, mod, "negative_slope");
    return ST_OK;
}

static enum status weights(struct ctx *c, struct module *mod, struct err *e)
{
    const struct tensor *w = module_tensor(c->ms, mod, "weight"),
                        *b = module_tensor(c->ms, mod, "bias");
    struct layer *l = NULL;
    if (w && w->n_dims >= 3 && w->n_dims <= 5 && bias_of(b, w))
        l = convolution(c, mod, w);
    else if (w && b && w->n_dims == 2 && vector_of(b, w->dim[0])) /* whatever it is called */
        l = layer_add(c->list, LAYER_LINEAR, mod->path,
                      STR("2-D weight with a bias of its first axis"));
    else
        return ST_OK;
    if (!l)
        return err_nomem(e, sizeof *l);
    layer_claim(c->ms, l, LEAF_WEIGHT, mod, "weight");
    layer_claim(c->ms, l, LEAF_BIAS, mod, "bias");
    return ST_OK;
}

static enum status first(struct modules *ms, struct layer_list *list, struct err *e)
{
    struct ctx c = {ms, list};
    for (size_t i = 0; i < ms->n; i++)
        TRY(batchnorm(&c, &ms->module[i], e));
    for (size_t i = 0; i < ms->n; i++)
        TRY(attention(&c, &ms->module[i], e));
    for (size_t i = 0; i < ms->n; i++)
        TRY(weights(&c, &ms->module[i], e));
    for (size_t i = 0; i < ms->n; i++)
        TRY(prelu(&c, &ms->module[i], e));
    return ST_OK;
}

static enum status layers(const struct model *m, struct arena *a, struct layers *out, struct err *e)
{
    static const struct torch_style style = {
        .framework = "equinox", .rules = &rules, .cut = cut, .first = first};
    return torch_layers(&style, m, a, out, e);
}

/* Torch's names, but for the states: only they tell. */
static int bid(const struct model *m)
{
    uint64_t number;
    bool numbers = m->n_tensors > 0; /* leaves of a file: nothing is known of them */
    for (size_t i = 0; i < m->n_tensors && numbers; i++)
        numbers = str_u64(m->tensor[i].name, &number) && number == i;
    if (str_is(m->framework, "equinox"))
        return numbers ? 0 : 100;
    bool told = false;
    for (size_t i = 0; i < m->n_tensors && !m->framework.n; i++) {
        struct str parent, leaf, up, seg;
        name_tail(m->tensor[i].name, &parent, &leaf);
        name_tail(parent, &up, &seg);
        told = told || str_is(seg, "ema_state_index") || str_is(seg, "batch_state_index");
    }
    return told ? 70 : 0;
}

const struct framework equinox_framework = {
    .name = "equinox",
    .title = "Equinox modules, by attribute path",
    .usual_format = "equinox",
    .bid = bid,
    .layers = layers,
    .rules = &rules,
};
