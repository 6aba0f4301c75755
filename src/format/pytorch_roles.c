/* What the tensors of a PyTorch checkpoint are for, told by where they stand and what they are
 * called: statistics, counters and buffers of modules; moments and step counts of optimizers; rng
 * states; averaged copies.
 *
 * An optimizer's state names its parameters by number only (model/numbered.h). Distributed
 * checkpoints key the state by names.
 */
#include "base/mem.h"
#include "format/pytorch.h"
#include "model/numbered.h"
#include <string.h>

static struct str key_of(const struct node *n)
{
    return n->key && n->key->kind == NODE_STR ? n->key->text : STR_NONE;
}
static struct str last_segment(struct str name)
{
    size_t at = name.n;
    while (at > 0 && name.p[at - 1] != '.')
        at--;
    return str_sub(name, at, name.n);
}
static bool one_of(struct str s, const char *const *list)
{
    for (; *list; list++)
        if (str_is(s, *list))
            return true;
    return false;
}

static enum role moment_role(struct str leaf)
{
    static const char *const first[] = {"exp_avg", "momentum_buffer", "grad_avg", "m", NULL};
    static const char *const second[] = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum",
                                         "exp_inf",    "acc_delta",      "v",          NULL};
    return one_of(leaf, first)    ? ROLE_MOMENT1
           : one_of(leaf, second) ? ROLE_MOMENT2
           : str_is(leaf, "step") ? ROLE_COUNTER
                                  : ROLE_OTHER;
}

/* The parameter in "state.PARAMETER.exp_avg", a key of an optimizer's state made flat. */
static struct str flat_key(struct str key)
{
    struct str leaf = last_segment(key);
    bool one =
        str_starts(key, STR("state.")) && key.n > leaf.n + 7 && moment_role(leaf) != ROLE_OTHER;
    return one ? str_sub(key, 6, key.n - leaf.n - 1) : STR_NONE;
}

static enum role module_role(const struct tensor *t, bool in_buffers)
{
    struct str leaf = last_segment(t->name);
    enum dtype_kind k = dtype_info(t->dtype)->kind;
    if (str_is(leaf, "running_mean") || str_is(leaf, "running_var"))
        return ROLE_STATISTIC;
    if (str_is(leaf, "num_batches_tracked"))
        return ROLE_COUNTER;
    if (k == DK_INT || k == DK_UINT || k == DK_BOOL || str_is(leaf, "position_ids"))
        return ROLE_BUFFER;
    return in_buffers ? ROLE_BUFFER : ROLE_PARAMETER;
}

static enum role role_of(const struct model *m, const struct node *n)
{
    static const char *const ema[] = {
        "ema",       "ema_state_dict", "model_ema",      "state_dict_ema",
        "ema_model", "shadow_params",  "averaged_model", NULL};
    static const char *const beside[] = {
        "lr_schedulers", "lr_scheduler", "scheduler",        "callbacks", "loops",
        "scaler",        "grad_scaler",  "hyper_parameters", NULL};
    const struct tensor *t = &m->tensor[n->tensor];
    struct str leaf = last_segment(t->name);
    for (const struct node *up = n; up; up = up->parent) {
        struct str key = key_of(up);
        if (up != n ? numbered_is_optimizer(up) : flat_key(key).p != NULL)
            return moment_role(leaf);
        if (one_of(key, ema))
            return ROLE_EMA;
        if (one_of(key, beside))
            return ROLE_OTHER;
        if (key.p && dtype_info(t->dtype)->kind == DK_UINT &&
            str_find_str(key, STR("rng"), 0) < key.n)
            return ROLE_RNG;
    }
    return module_role(t, n->parent && str_is(key_of(n->parent), "_buffers"));
}

void pytorch_roles(struct model *m, struct node *root)
{
    for (struct node *n = root; n; n = node_step(root, n))
        if (n->kind == NODE_TENSOR)
            m->tensor[n->tensor].role = role_of(m, n);
}

/* ---- moments ---- */

static enum status claim(struct model *m, const struct node *root, const struct node *opt,
                         uint32_t *param, struct err *e)
{
    struct numbered ids = {.param = param};
    TRY(numbered_params(m, root, opt, &ids, e));
    for (const struct node *c = node_get(opt, STR("state"))->child; c && ids.n; c = c->next)
        for (const struct node *d = c->child; d; d = d->next)
            if (d->kind == NODE_TENSOR)
                m->tensor[d->tensor].of = ids.param[c->key->i];
    return ST_OK;
}

/* ---- states by name ---- */

/* Where a moment stands in an optimizer whose states bear their parameters' names: under
 * OPTIMIZER.state.PARAMETER, or flat in OPTIMIZER. False: elsewhere. */
static bool named_place(const struct node *n, const struct node **opt, struct str *param)
{
    const struct node *entry = n->parent, *state = entry ? entry->parent : NULL;
    *param = flat_key(key_of(n));
    *opt = entry;
    if (param->p)
        return true;
    *param = entry ? key_of(entry) : STR_NONE;
    *opt = state ? state->parent : NULL;
    return param->p && *opt && str_is(key_of(state), "state") && numbered_is_optimizer(*opt);
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dim, b->dim, a->n_dims * sizeof a->dim[0]) == 0;
}

static void candidate(const struct model *m, const struct tensor *t, struct str prefix,
                      struct str dict, struct str param, int64_t *found, bool *two)
{
    char full[2048];
    struct str part[] = {prefix, dict, param};
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        if (part[i].n + n + 1 > sizeof full)
            return;
        if (n && part[i].n)
            full[n++] = '.';
        if (part[i].n)
            memcpy(full + n, part[i].p, part[i].n);
        n += part[i].n;
    }
    int64_t at = model_find(m, (struct str){full, n});
    if (at < 0 || at == *found || !same_shape(&m->tensor[at], t) ||
        (m->tensor[at].role != ROLE_PARAMETER && m->tensor[at].role != ROLE_BUFFER))
        return;
    *two = *found >= 0;
    *found = at;
}

/* The parameter of that name in a dict beside the optimizer; where two have one, none is claimed.
 */
static void by_names(struct model *m, struct node *root)
{
    for (struct node *n = root; n; n = node_step(root, n)) {
        struct tensor *t = n->kind == NODE_TENSOR ? &m->tensor[n->tensor] : NULL;
        const struct node *opt;
        struct str param;
        if (!t || t->of >= 0 || (t->role != ROLE_MOMENT1 && t->role != ROLE_MOMENT2) ||
            !named_place(n, &opt, &param) || !opt->parent)
            continue;
        /* OUTER.OPTIMIZER.state.PARAMETER.leaf */
        size_t inner = key_of(opt).n + 7 + param.n + 1 + last_segment(t->name).n;
        struct str outer =
            t->name.n > inner + 1 ? str_sub(t->name, 0, t->name.n - inner - 1) : STR("");
        int64_t found = -1;
        bool two = false;
        int left = 64;
        candidate(m, t, outer, STR(""), param, &found, &two);
        for (const struct node *d = opt->parent->child; d && left > 0; d = d->next, left--)
            if (d != opt && d->kind == NODE_DICT)
                candidate(m, t, outer, key_of(d), param, &found, &two);
        t->of = two ? -1 : found;
    }
}

/* An averaged copy belongs to the parameter of the same name in another dict of the file. */
static void averaged(struct model *m)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        if (t->role != ROLE_EMA)
            continue;
        static const char *const wrapper[] = {
            "model", "state_dict", "model_state_dict", "module", "net", "", NULL};
        struct str rest = str_sub(t->name, str_find(t->name, '.', 0) + 1, t->name.n);
        for (const char *const *w = wrapper; *w && t->of < 0; w++) {
            char full[1024];
            size_t n = strlen(*w), all = n + (n > 0) + rest.n;
            if (all > sizeof full || rest.n == 0)
                continue;
            memcpy(full, *w, n);
            if (n)
                full[n++] = '.';
            memcpy(full + n, rest.p, rest.n);
            int64_t p = model_find(m, (struct str){full, all});
            if (p >= 0 && m->tensor[p].role != ROLE_EMA && same_shape(&m->tensor[p], t))
                t->of = p;
        }
    }
}

enum status pytorch_moments(struct model *m, struct node *root, struct err *e)
{
    uint32_t *param = mem_zalloc(m->n_tensors + 1, sizeof *param);
    enum status st = param ? ST_OK : err_nomem(e, m->n_tensors * 4);
    for (struct node *n = root; n && st == ST_OK; n = node_step(root, n))
        if (numbered_is_optimizer(n))
            st = claim(m, root, n, param, e);
    if (st == ST_OK && root)
        by_names(m, root);
    if (st == ST_OK)
        averaged(m);
    mem_free(param);
    return st;
}
