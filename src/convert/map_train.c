/* Train state. What one optimizer keeps is read by framework/optim.h and spelled as the target's
 * framework does it: moments by their parameters' recipes, counts in the target's type. Where no
 * optimizer is told, or the target spells none (archives, containers without structure), moments
 * and averaged copies ride the recipe of their parameter under their own names, and all else that
 * no layer took (counters, generator states, foreign parts) keeps its name and axes.
 */
#include "convert/train.h"
#include "framework/recognise.h"
#include <string.h>

/* ---- riding ---- */

static bool rides(const struct tensor *t)
{
    return (t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2 || t->role == ROLE_EMA) &&
           t->of >= 0;
}

/* The moment of parameter p that belongs with moment t of parameter q: same role, and the same name
 * but for the parameter's own. -1 = none. */
static int64_t fellow(const struct mapping *m, const struct tensor *t, uint32_t q, uint32_t p)
{
    if (p == q)
        return t - m->src->tensor;
    struct str qn = m->src->tensor[q].name, pn = m->src->tensor[p].name;
    int64_t found = -1;
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *u = &m->src->tensor[i];
        if (!m->in[i] || u->of != (int64_t)p || u->role != t->role)
            continue;
        bool alike =
            str_ends(t->name, qn) && str_ends(u->name, pn) &&
            str_eq(str_sub(t->name, 0, t->name.n - qn.n), str_sub(u->name, 0, u->name.n - pn.n));
        struct str a, b, la, lb;
        name_tail(t->name, &a, &la);
        name_tail(u->name, &b, &lb);
        if (alike || str_eq(la, lb))
            found = found < 0 ? (int64_t)i : -2;
    }
    return found < 0 ? -1 : found;
}

/* A name for the moment of a target parameter: where the moment's name ends in the parameter's, so
 * does the new one; else its own, with the part's name when the parameter was split. */
static struct str name_for(struct mapping *m, const struct tensor *t, const struct made *d,
                           bool is_split)
{
    struct str p = m->src->tensor[t->of].name;
    if (str_ends(t->name, p) && t->name.n > p.n)
        return arena_fmt(m->a, "%.*s%.*s", STR_ARG(str_sub(t->name, 0, t->name.n - p.n)),
                         STR_ARG(d->name));
    if (!is_split)
        return t->name;
    struct str parent, leaf, up;
    name_tail(d->name, &parent, &leaf);
    name_tail(parent, &up, &leaf);
    return arena_fmt(m->a, "%.*s.%.*s", STR_ARG(t->name), STR_ARG(leaf));
}

static bool reads(const struct take *k, uint32_t src)
{
    return k->src == src && (!k->zero || k->twin);
}

/* What a take's values become for a moment; the operand of a sum is the moment of that one. */
static enum status summand(struct mapping *m, const struct tensor *t, const struct made *of,
                           struct take *k, bool *done, struct err *e)
{
    const struct take *plus = k->plus;
    take_ride(k, t->role);
    if (!plus)
        return ST_OK;
    int64_t u = fellow(m, t, (uint32_t)t->of, plus->src);
    if (u < 0)
        return err_set(e, ST_CANNOT, "moment-parts",
                       "%.*s adds parameters whose moments do not pair up", STR_ARG(of->name));
    done[u] = true;
    if (!k->plus)
        return map_left(m, (uint32_t)u,
                        "the moment of a summed bias is that of either: the sum moves half as far "
                        "a step as the two",
                        true, e);
    struct take *own = ARENA_NEW(m->tmp, struct take);
    if (!own)
        return err_nomem(e, sizeof *own);
    *own = *plus;
    own->src = (uint32_t)u;
    k->plus = own;
    return ST_OK;
}

static enum status ride(struct mapping *m, size_t index, size_t n_params, bool *done, struct err *e)
{
    const struct tensor *t = &m->src->tensor[index];
    const struct tensor *p = &m->src->tensor[t->of];
    if (t->n_dims != p->n_dims || memcmp(t->dim, p->dim, t->n_dims * sizeof *t->dim) != 0)
        return ST_OK; /* factored moments and the like keep their own shape */
    size_t users = 0;
    for (size_t i = 0; i < n_params; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++) {
            const struct take *y = &m->made[i].take[k];
            users += reads(y, (uint32_t)t->of);
            if (y->plus && y->plus->src == (uint32_t)t->of)
                done[index] = true; /* goes with the one it is added to */
        }
    for (size_t i = 0; i < n_params; i++) {
        size_t at = 0, n = m->made[i].n_takes;
        while (at < n && !reads(&m->made[i].take[at], (uint32_t)t->of))
            at++;
        if (at == n)
            continue;
        struct made *d;
        TRY(map_made(m, n, &d, e));
        const struct made *of = &m->made[i];
        for (size_t k = 0; k < n; k++) {
            bool blank = of->take[k].n_fill_dims && !of->take[k].twin;
            int64_t u = blank ? (int64_t)index : fellow(m, t, (uint32_t)t->of, of->take[k].src);
            if (u < 0)
                return err_set(e, ST_CANNOT, "moment-parts",
                               "%.*s joins parameters whose moments do not pair up",
                               STR_ARG(of->name));
            d->take[k] = of->take[k];
            d->take[k].src = (uint32_t)u;
            TRY(summand(m, t, of, &d->take[k], done, e));
            if (u != (int64_t)index)
                done[u] = true;
        }
        d->name = name_for(m, t, of, users > 1);
        d->of = (int64_t)i;
        d->why = arena_fmt(m->tmp, "as its parameter %.*s", STR_ARG(of->name));
        if (!d->name.p || !d->why.p)
            return err_nomem(e, t->name.n);
        done[index] = true;
    }
    return ST_OK;
}

/* ---- slots ---- */

int64_t train_place(const struct train *x, size_t i)
{
    int64_t t = x->k.style == STYLE_NONE ? -1 : model_find(x->m->o->like, x->m->made[i].name);
    return t < 0 ? -1 : x->k.of[t];
}

/* The state of a source tensor, of another name of it where it is tied. */
static int64_t entry_of(const struct train *x, uint32_t src)
{
    const struct model *s = x->m->src;
    if (x->s.of[src] >= 0)
        return x->s.of[src];
    int64_t root = s->tensor[src].alias_of >= 0 ? s->tensor[src].alias_of : (int64_t)src;
    if (x->s.of[root] >= 0)
        return x->s.of[root];
    for (size_t i = 0; i < x->s.n; i++)
        if (s->tensor[x->s.param[i].param].alias_of == root)
            return (int64_t)i;
    return -1;
}

/* The one learning rate of torch's groups. */
static bool group_rate(const struct optim_state *s, double *out)
{
    bool any = false;
    uint64_t bits = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct node *n = node_get(s->param[i].group, STR("lr"));
        if (!n || n->kind != NODE_FLOAT || (any && n->bits[0] != bits))
            return false;
        bits = n->bits[0];
        memcpy(out, &bits, sizeof bits);
        any = true;
    }
    return any;
}

/* The source's rate, else the skeleton's. */
static enum status rate_of(struct train *x, struct err *e)
{
    const struct model *like = x->m->o->like;
    x->has_rate = true;
    if (x->s.rate.tensor >= 0)
        return train_real(x->m->src, x->s.rate, &x->rate, e);
    if (group_rate(&x->s, &x->rate))
        return ST_OK;
    if (like && x->k.style == STYLE_KERAS && x->k.rate.tensor >= 0)
        return train_real(like, x->k.rate, &x->rate, e);
    x->has_rate = like && x->k.style == STYLE_TORCH && group_rate(&x->k, &x->rate);
    return ST_OK;
}

/* What a slot's values are multiplied with, as IEEE double; 0 = nothing. */
static enum status scale_of(struct train *x, enum slot s, uint64_t *bits, struct err *e)
{
    int from = slot_rate(x->s.style, x->s.kind, s), to = slot_rate(x->to, x->s.kind, s);
    double v = 1;
    *bits = 0;
    if (from == to)
        return ST_OK;
    if (from && to) {
        v = -1;
    } else {
        if (!x->has_rate)
            TRY(rate_of(x, e));
        if (!x->has_rate || !(x->rate > 0))
            return err_set(e, ST_CANNOT, "train-rate",
                           "the %s of %s holds the learning rate in one framework and not in the "
                           "other, and neither source nor skeleton tells one rate",
                           slot_name(s), optim_name(x->s.kind));
        v = to ? to * x->rate : from / x->rate;
    }
    memcpy(bits, &v, sizeof v);
    return ST_OK;
}

static int64_t moment_of(const struct train *x, uint32_t src, enum slot s)
{
    int64_t p = entry_of(x, src);
    int64_t t = p < 0 ? -1 : x->s.param[p].slot[s];
    return t >= 0 && x->m->in[t] ? t : -1;
}

/* A parameter's take for one of its moments. *have: not zeros. */
static enum status take_slot(struct train *x, const struct take *of, enum slot s, struct take *k,
                             bool *have, struct err *e)
{
    struct mapping *m = x->m;
    int64_t t = moment_of(x, of->src, s), also = of->plus ? moment_of(x, of->plus->src, s) : -1;
    *k = *of;
    *have = false;
    take_ride(k, slot_role(s));
    if (k->zero || t < 0) {
        k->zero = true;
        k->harmless = k->zero && of->zero && of->n_fill_dims;
        k->fill = 0;
        return ST_OK;
    }
    const struct tensor *u = &m->src->tensor[t], *q = &m->src->tensor[of->src];
    if (u->n_dims != q->n_dims || memcmp(u->dim, q->dim, u->n_dims * sizeof *u->dim) != 0)
        return err_set(e, ST_CANNOT, "moment-shape", "%.*s has another shape than %.*s",
                       STR_ARG(u->name), STR_ARG(q->name));
    k->src = (uint32_t)t;
    TRY(scale_of(x, s, &k->scale, e));
    *have = true;
    return also < 0 ? ST_OK
                    : map_left(m, (uint32_t)also,
                               "the moment of a summed bias is that of either: the sum moves half "
                               "as far a step as the two",
                               true, e);
}

enum status train_slot(struct train *x, size_t i, enum slot s, struct str name, struct err *e)
{
    struct mapping *m = x->m;
    size_t n = m->made[i].n_takes, n_have = 0;
    struct made *d;
    if (n == 0)
        return ST_OK; /* a parameter made up has no state */
    TRY(map_made(m, n, &d, e));
    const struct made *of = &m->made[i];
    for (size_t k = 0; k < n; k++) {
        bool have;
        TRY(take_slot(x, &of->take[k], s, &d->take[k], &have, e));
        n_have += have;
    }
    for (size_t k = 0; k < n; k++)
        if (d->take[k].zero && n_have && !of->take[k].zero)
            return err_set(e, ST_CANNOT, "moment-parts",
                           "%.*s joins parameters of which some have no %s", STR_ARG(of->name),
                           slot_name(s));
    d->name = name;
    d->copy = true;
    d->role = slot_role(s);
    d->of = (int64_t)i;
    d->why = arena_fmt(m->tmp, "%s of %s, as its parameter %.*s", slot_name(s),
                       optim_name(x->s.kind), STR_ARG(of->name));
    return d->name.p && d->why.p ? ST_OK : err_nomem(e, name.n);
}

/* ---- what there is ---- */

static void gone(struct train *x, const struct node *n)
{
    if (n && x->n_gone < sizeof x->gone / sizeof *x->gone)
        x->gone[x->n_gone++] = n;
}

bool map_train_has(const struct mapping *m, const struct node *n)
{
    for (; m->train && n; n = n->parent)
        for (size_t i = 0; i < m->train->n_gone; i++)
            if (m->train->gone[i] == n)
                return true;
    return false;
}

/* Adam or AdamW: their chains differ in optax. torch says it since 2.7 (decoupled_weight_decay); a
 * decay of 0 is Adam's either way. */
static enum status decay_of(struct train *x, struct err *e)
{
    const struct node *g = NULL;
    for (size_t i = 0; i < x->s.n && !g; i++)
        g = x->s.param[i].group;
    const struct node *says = node_get(g, STR("decoupled_weight_decay"));
    const struct node *decay = node_get(g, STR("weight_decay"));
    bool zero = !decay || (decay->kind == NODE_FLOAT && decay->bits[0] == 0) ||
                (decay->kind == NODE_INT && decay->i == 0);
    x->decays = says && says->kind == NODE_BOOL && says->i;
    if (says && !x->decays && !zero)
        return err_set(e, ST_CANNOT, "train-decay",
                       "a decay added to the gradients is a chain of its own in optax: --like");
    if (!says && !zero)
        return err_set(e, ST_CANNOT, "train-decay",
                       "Adam or AdamW? weight_decay is set and nothing tells: --like");
    return ST_OK;
}

enum status map_train_begin(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    enum optim_style to = optim_style_of(m->to);
    bool numbers = to != STYLE_TORCH && to != STYLE_OPTAX; /* tensors alone say it */
    bool plain = m->target && !format_trains(m->target, o->folder) && !numbers && !m->leaves;
    if (to == STYLE_NONE || plain || o->weights_only || o->drop_train_state)
        return ST_OK;
    struct train *x = ARENA_NEW(m->tmp, struct train);
    if (!x)
        return err_nomem(e, sizeof *x);
    x->m = m;
    x->to = to;
    x->k.step.tensor = -1;
    x->k.rate.tensor = x->k.scale.tensor = x->k.good.tensor = -1;
    TRY(optim_read(m->src, m->from, m->tmp, &x->s, e));
    if (x->s.style == STYLE_NONE)
        return ST_OK;
    if (o->like)
        TRY(optim_read(o->like, m->to, m->tmp, &x->k, e));
    TRY(train_powers(x, e));
    if (to != STYLE_TORCH && to != STYLE_OPTAX && x->k.style != STYLE_NONE)
        x->to = to = x->k.style; /* Keras and TensorFlow spell it in several ways */
    m->train = x;
    if (o->like)
        return ST_OK;
    if (x->s.style == STYLE_TORCH && to == STYLE_TORCH) { /* stays where it is */
        x->root = x->s.root;
        return ST_OK;
    }
    if (numbers) /* its variables have numbers, which only a compiled model tells */
        return ST_OK;
    m->cut = x->s.weights;
    m->put = to == STYLE_TORCH ? STR("model") : STR_NONE;
    x->root = to == STYLE_TORCH ? STR("optimizer") : STR("opt_state");
    if (to != STYLE_OPTAX || x->s.unclear)
        return ST_OK;
    x->by_leaves = str_is(str_from(m->to->name), "equinox");
    if (x->s.kind == OPTIM_ADAM && !x->by_leaves) /* what they keep is the same */
        TRY(decay_of(x, e));
    unsigned slots = x->s.slots & ~SLOT_BIT(SLOT_MAX);
    x->chain = optim_chain_of(x->s.kind, slots, x->decays);
    return ST_OK;
}

/* ---- what stays behind ---- */

static enum status lost(struct mapping *m, size_t t, bool harmless, const char *why, struct err *e)
{
    const struct tensor *x = &m->src->tensor[t];
    m->dropped[t] = true;
    return map_ledger(m, LEDGER_DROP, x->name, tensor_elems(x), harmless, str_from(why), e);
}

/* Whether all counts of the source are one and the same; that is x->step. */
static enum status one_step(struct train *x, struct err *e)
{
    int64_t first = 0;
    struct str where = STR("");
    x->step = (struct optim_number){.tensor = -1};
    for (size_t i = 0; i < x->s.n; i++) {
        struct optim_number n = x->s.param[i].n;
        int64_t v;
        if (!optim_told(n) || (n.tensor >= 0 && !x->m->in[n.tensor]))
            continue;
        TRY(train_value(x->m->src, n, &v, e));
        if (!optim_told(x->step)) {
            x->step = n;
            first = v;
            where = x->m->src->tensor[x->s.param[i].param].name;
        } else if (v != first && x->to != STYLE_TORCH) {
            return err_set(e, ST_CANNOT, "train-steps",
                           "%.*s has made %lld updates, %.*s %lld: the target has one count",
                           STR_ARG(where), (long long)first,
                           STR_ARG(x->m->src->tensor[x->s.param[i].param].name), (long long)v);
        }
    }
    if (!optim_told(x->step))
        x->step = x->s.step;
    return ST_OK;
}

/* The same number, added elsewhere: no value of the file can say it. */
static enum status keras_eps(struct train *x, struct err *e)
{
    bool other = (x->s.style > STYLE_OPTAX) != (x->to > STYLE_OPTAX);
    if (!other || x->s.kind != OPTIM_ADAM)
        return ST_OK;
    return map_ledger(x->m, LEDGER_DROP, STR("optimizer.epsilon"), 0, true,
                      STR("Keras adds it to the rescaled root: its epsilon is "
                          "eps * sqrt(1 - beta_2^t) of the others at update t"),
                      e);
}

/* Counts that nothing was made from say what another one says, or are lost. */
static enum status counts_left(struct train *x, const bool *used, struct err *e)
{
    struct mapping *m = x->m;
    int64_t want = 0, v;
    if (optim_told(x->step))
        TRY(train_value(m->src, x->step, &want, e));
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *t = &m->src->tensor[i];
        if (!x->s.mine[i] || !m->in[i] || used[i] || m->dropped[i] || t->role != ROLE_COUNTER ||
            x->s.idle[i] || tensor_elems(t) != 1)
            continue;
        TRY(train_value(m->src, (struct optim_number){.tensor = (int64_t)i}, &v, e));
        bool same = x->carried[i] || (optim_told(x->step) && v == want);
        TRY(lost(m, i, same,
                 x->carried[i] ? "carried as a value"
                 : same        ? "the same number of updates as the rest"
                               : "another count",
                 e));
    }
    return ST_OK;
}

static bool off(const struct node *n)
{
    return n->kind == NODE_NIL || ((n->kind == NODE_BOOL || n->kind == NODE_INT) && n->i == 0) ||
           (n->kind == NODE_FLOAT && n->bits[0] << 1 == 0);
}

static bool plain_hyper(struct str key)
{
    for (size_t i = 0; i < n_optim_hypers; i++)
        if (str_is(key, optim_hypers[i].name) && optim_hypers[i].plain)
            return true;
    return false;
}

static void put_text(struct buf *b, const struct node *n)
{
    double v;
    memcpy(&v, &n->bits[0], sizeof v);
    if (n->kind == NODE_FLOAT)
        buf_fmt(b, "%.17g", v);
    else if (n->kind == NODE_STR)
        buf_str(b, str_sub(n->text, 0, 64));
    else if (n->kind == NODE_NIL)
        buf_z(b, "None");
    else if (n->kind == NODE_BOOL)
        buf_z(b, n->i ? "True" : "False");
    else
        buf_fmt(b, "%lld", (long long)n->i);
}

/* A setting of torch's groups, in code elsewhere. Those that are off, and those that say how and
 * not what is computed, are lost without harm. */
static enum status setting(struct train *x, size_t group, const struct node *n, struct err *e)
{
    struct mapping *m = x->m;
    struct str key = n->key && n->key->kind == NODE_STR ? n->key->text : STR("?");
    struct buf b = BUF_INIT;
    if (str_is(key, "params") || str_is(key, "param_names"))
        return ST_OK;
    if (n->child)
        for (const struct node *c = n->child; c; c = c->next) {
            put_text(&b, c);
            buf_z(&b, c->next ? ", " : "");
        }
    else
        put_text(&b, n);
    enum status st = buf_ok(&b, e);
    struct str name = arena_fmt(m->a, "%.*s%sparam_groups.%zu.%.*s", STR_ARG(x->s.root),
                                x->s.root.n ? "." : "", group, STR_ARG(key));
    struct str why = arena_fmt(m->a, "a setting of the optimizer (%.*s): the target has it in code",
                               (int)b.n, (const char *)b.p);
    buf_free(&b);
    TRY(st);
    if (!name.p || !why.p)
        return err_nomem(e, 64);
    return map_ledger(m, LEDGER_DROP, name, 0, off(n) || plain_hyper(key), why, e);
}

static enum status settings(struct train *x, struct err *e)
{
    const struct node *groups = x->s.node ? node_get(x->s.node, STR("param_groups")) : NULL;
    size_t at = 0;
    for (const struct node *g = groups ? groups->child : NULL; g; g = g->next, at++)
        for (const struct node *c = g->child; c; c = c->next)
            TRY(setting(x, at, c, e));
    return ST_OK;
}

static enum status left(struct train *x, const bool *used, struct err *e)
{
    struct mapping *m = x->m;
    TRY(counts_left(x, used, e));
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *t = &m->src->tensor[i];
        if (!m->in[i] || used[i] || m->dropped[i] || (m->left && m->left[i].why))
            continue;
        struct str parent, leaf;
        name_tail(t->name, &parent, &leaf);
        if (x->s.mine[i] && optim_told(x->step) &&
            (str_starts(leaf, STR("beta1_power")) || str_starts(leaf, STR("beta2_power"))))
            TRY(lost(m, i, true, "follows from the number of updates", e));
        else if (x->s.idle[i])
            TRY(lost(m, i, true, "the wrapper's own copy, or what nothing reads", e));
        else if (x->carried[i])
            TRY(lost(m, i, true, "carried as a value", e));
        else if (x->s.rate.tensor == (int64_t)i)
            TRY(lost(m, i, false, "the learning rate: the target has it in code or in its settings",
                     e));
        else if (x->s.mine[i] || (t->role == ROLE_OTHER && x->s.unclear) || rides(t))
            TRY(lost(m, i, false, "the target's optimizer has no place for it", e));
        else if (x->to == STYLE_OPTAX && t->role == ROLE_RNG)
            TRY(lost(m, i, false, "a random state of one framework means nothing to another", e));
    }
    gone(x, x->s.node);
    gone(x, x->s.step.node);
    if (x->scaled) {
        gone(x, x->s.scale.node);
        gone(x, x->s.good.node);
    }
    if (x->scheduled && x->s.schedule[0].node) {
        gone(x, x->s.schedule[0].node);
        gone(x, node_get(x->s.schedule[0].node->parent, STR("_step_count")));
    }
    return x->s.style == STYLE_TORCH && x->to != STYLE_TORCH ? settings(x, e) : ST_OK;
}

/* ---- all of it ---- */

static enum status spell(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    size_t n = m->n_made;
    x->n_params = n;
    x->entry = ARENA_ARRAY(m->tmp, int64_t, n + 1);
    x->number = ARENA_ARRAY(m->tmp, uint64_t, n + 1);
    x->ordered = ARENA_ARRAY(m->tmp, size_t, n + 1);
    x->filled = ARENA_ARRAY(m->tmp, bool, m->o->like ? m->o->like->n_tensors + 1 : 1);
    x->carried = ARENA_ARRAY(m->tmp, bool, m->src->n_tensors + 1);
    if (!x->carried || !x->entry || !x->number || !x->ordered || !x->filled)
        return err_nomem(e, n * sizeof *x->entry);
    for (size_t i = 0; i < n; i++) {
        x->entry[i] = -1;
        for (size_t k = 0; k < m->made[i].n_takes && x->entry[i] < 0; k++)
            if (!m->made[i].take[k].zero || m->made[i].take[k].twin)
                x->entry[i] = entry_of(x, m->made[i].take[k].src);
    }
    TRY(one_step(x, e));
    TRY(keras_eps(x, e));
    return x->to == STYLE_TORCH ? train_to_torch(x, e) : train_to_optax(x, e);
}

/* A source that has no optimizer the tables know, into a target that spells one. */
static enum status unclear(struct train *x, struct err *e)
{
    struct mapping *m = x->m;
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *t = &m->src->tensor[i];
        if (m->in[i] && !m->dropped[i] && optim_is_state(t) && t->role != ROLE_COUNTER)
            TRY(lost(m, i, false, x->s.unclear, e));
    }
    return ST_OK;
}

/* Roles that the skeleton has tensors of, a bit each. */
static unsigned roles_of(const struct model *like)
{
    unsigned roles = 0;
    for (size_t i = 0; like && i < like->n_tensors; i++)
        roles |= 1u << like->tensor[i].role;
    return roles;
}

/* Does what stands beside the weights stay behind? TensorFlow's count of its checkpoints, which
 * loaders elsewhere do not know; what may go, where a skeleton has no place for it. */
static bool not_wanted(const struct mapping *m, const struct tensor *t, unsigned roles)
{
    const char *to = m->to->name;
    if (strcmp(to, "canonical") == 0)
        return false;
    if (str_is(t->name, "save_counter") && strcmp(to, "tensorflow") != 0)
        return true;
    return m->o->like && model_find(m->o->like, t->name) < 0 &&
           !(rides(t) && (roles & 1u << t->role)) && glob_any(m->o->allow_drop, t->name);
}

enum status map_train(struct mapping *m, struct err *e)
{
    struct train *x = m->train;
    size_t n = m->src->n_tensors, n_params = m->n_made;
    bool *done = ARENA_ARRAY(m->tmp, bool, n + 1);
    bool *taken = ARENA_ARRAY(m->tmp, bool, n + 1);
    unsigned roles = roles_of(m->o->like);
    if (!done || !taken)
        return err_nomem(e, n);
    if (x && x->s.unclear)
        TRY(unclear(x, e));
    else if (x)
        TRY(spell(x, e));
    for (size_t i = 0; i < m->n_made; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++)
            taken[m->made[i].take[k].src] = true;
    if (x && !x->s.unclear)
        TRY(left(x, taken, e));
    for (size_t i = 0; i < m->sl.n; i++) /* dropped on purpose: the ledger says so */
        for (int k = 0; k < LEAF_N; k++)
            if (m->sl.layer[i].tensor[k] >= 0)
                taken[m->sl.layer[i].tensor[k]] = true;
    for (size_t i = 0; i < n; i++) {
        if (!m->in[i] || taken[i] || done[i] || m->dropped[i] || (m->left && m->left[i].why))
            continue;
        const struct tensor *t = &m->src->tensor[i];
        if (not_wanted(m, t, roles)) {
            TRY(lost(m, i, rules_harmless_drop(t->name), "the target has no place for it", e));
            continue;
        }
        if (rides(t))
            TRY(ride(m, i, n_params, done, e));
        if (done[i])
            continue;
        struct made *d;
        TRY(map_made(m, 1, &d, e));
        d->take->src = (uint32_t)i;
        d->name = t->name;
        d->why = arena_fmt(m->tmp, "%s, kept as it is", role_name(t->role));
        if (!d->why.p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}

enum status map_train_tree(struct mapping *m, struct err *e)
{
    const struct train *x = m->train;
    bool structured = x && (x->to == STYLE_TORCH || x->to == STYLE_OPTAX);
    return structured && !x->s.unclear ? train_tree(m->train, e) : ST_OK;
}
