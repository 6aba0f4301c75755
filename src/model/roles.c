/* See roles.h. */
#include "model/roles.h"
#include "base/buf.h"
#include <stdio.h>
#include <string.h>

static bool among(struct str s, const char *const *list)
{
    for (; *list; list++)
        if (str_is(s, *list))
            return true;
    return false;
}

/* The next segment of a flat name: up to a '.' that no backslash guards. Escapes stay: the names
 * looked for have none. */
static bool segment(struct str *rest, struct str *out)
{
    if (!rest->p)
        return false;
    size_t i = 0;
    while (i < rest->n && rest->p[i] != '.')
        i += rest->p[i] == '\\' && i + 1 < rest->n ? 2 : 1;
    *out = str_sub(*rest, 0, i);
    *rest = i < rest->n ? str_sub(*rest, i + 1, rest->n) : STR_NONE;
    return true;
}

static const char *const training[] = {"opt_state", "optimizer",    "optimizer_states",
                                       "state",     "lr_scheduler", NULL};
static const char *const first_moment[] = {"mu", "trace", "exp_avg", "momentum_buffer", NULL};
static const char *const second_moment[] = {"nu",  "exp_avg_sq", "sum_of_squares", "nu_max", "e_g",
                                            "e_x", NULL};
static const char *const averages[] = {"ema", "ema_params", NULL};
static const char *const random_state[] = {"rng", "rngs", NULL};

static enum status find_of(struct model *m, struct tensor *t, struct str rest, struct err *e)
{
    static const char *const roots[] = {"params.", "model.", "", NULL};
    for (const char *const *r = roots; rest.n && *r; r++) {
        struct buf b = BUF_INIT;
        buf_z(&b, *r);
        buf_str(&b, rest);
        enum status st = buf_ok(&b, e);
        int64_t at = st == ST_OK ? model_find(m, buf_as_str(&b)) : -1;
        buf_free(&b);
        TRY(st);
        if (at >= 0 && &m->tensor[at] != t) {
            t->of = at;
            return ST_OK;
        }
    }
    return ST_OK;
}

static enum status training_role(struct model *m, struct tensor *t, struct str rest, struct err *e)
{
    struct str seg = STR_NONE;
    t->role = ROLE_OTHER;
    while (segment(&rest, &seg)) {
        bool one = among(seg, first_moment), two = among(seg, second_moment);
        if (one || two) {
            t->role = one ? ROLE_MOMENT1 : ROLE_MOMENT2;
            return find_of(m, t, rest, e);
        }
    }
    if (str_is(seg, "count") || str_is(seg, "step") || str_is(seg, "iter"))
        t->role = ROLE_COUNTER;
    return ST_OK;
}

/* torch numbers the entries of an optimizer's state; a module may be called state too */
static bool numbered(struct str rest)
{
    struct str seg = STR_NONE;
    uint64_t v;
    return segment(&rest, &seg) && str_u64(seg, &v);
}

/* Slots of TensorFlow's optimizers. */
static const struct {
    const char *name; /* the last segment of VARIABLE.SLOT */
    enum role role;
} slots[] = {
    {"Adam", ROLE_MOMENT1},       {"Adam_1", ROLE_MOMENT2},
    {"adam_m", ROLE_MOMENT1},     {"adam_v", ROLE_MOMENT2},
    {"Momentum", ROLE_MOMENT1},   {"RMSProp", ROLE_MOMENT2},
    {"RMSProp_1", ROLE_OTHER},    {"RMSProp_2", ROLE_OTHER},
    {"Adagrad", ROLE_MOMENT2},    {"Adadelta", ROLE_MOMENT2},
    {"Adadelta_1", ROLE_MOMENT2}, {"Ftrl", ROLE_MOMENT2},
    {"Ftrl_1", ROLE_OTHER},       {"ExponentialMovingAverage", ROLE_EMA},
};
static const char *const tf_first[] = {"m", "momentum", "momentums", NULL};
static const char *const tf_second[] = {"v", "rms", "accumulator", "velocities", NULL};
#define TF_SLOT ".\\.OPTIMIZER_SLOT."

/* true when the name is a slot's: role and of are set. */
static bool tf_slot(const struct model *m, struct tensor *t, struct str last)
{
    size_t at = str_find_str(t->name, STR(TF_SLOT), 0);
    if (at < t->name.n) {
        t->of = model_find(m, str_sub(t->name, 0, at));
        t->role = among(last, tf_first)    ? ROLE_MOMENT1
                  : among(last, tf_second) ? ROLE_MOMENT2
                                           : ROLE_OTHER;
        return true;
    }
    if (last.n + 1 >= t->name.n)
        return false;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (str_is(last, slots[i].name)) {
            t->of = model_find(m, str_sub(t->name, 0, t->name.n - last.n - 1));
            if (t->of >= 0)
                t->role = slots[i].role;
            return t->of >= 0;
        }
    return false;
}

/* flax.optim, Flax before 0.6, and T5X: {target, state: {step, param_states}}, at the top or below
 * a key (optimizer). */
static const char *const flax_first[] = {"grad_ema", "momentum", "m", NULL};
static const char *const flax_second[] = {"grad_sq_ema", "v", "G", "sq_avg", NULL};
#define FLAX_STATES "state.param_states."

static enum status flax_optim(const struct model *m, struct tensor *t, struct str last, bool *is,
                              struct err *e)
{
    struct str name = t->name, under = STR("optimizer.");
    size_t at = str_find_str(name, STR(FLAX_STATES), 0), lo = at + sizeof FLAX_STATES - 1;
    *is = true;
    if (at < name.n && (at == 0 || name.p[at - 1] == '.') && lo + last.n + 1 < name.n) {
        struct buf b = BUF_INIT;
        buf_str(&b, str_sub(name, 0, at));
        buf_z(&b, "target.");
        buf_str(&b, str_sub(name, lo, name.n - last.n - 1));
        enum status st = buf_ok(&b, e);
        t->of = st == ST_OK ? model_find(m, buf_as_str(&b)) : -1;
        buf_free(&b);
        TRY(st);
        t->role = among(last, flax_first)    ? ROLE_MOMENT1
                  : among(last, flax_second) ? ROLE_MOMENT2
                                             : ROLE_OTHER;
        *is = t->of >= 0;
        return ST_OK;
    }
    if (str_starts(name, under))
        name = str_sub(name, under.n, name.n);
    t->role = str_is(name, "state.step") ? ROLE_COUNTER : ROLE_PARAMETER;
    *is = t->role == ROLE_COUNTER || (name.n < t->name.n && str_starts(name, STR("target.")));
    return ST_OK;
}

static bool beta_power(struct str last)
{
    return str_is(last, "beta1_power") || str_is(last, "beta2_power");
}

/* (params, state, opt_state), a checkpoint without keys: N.N.mu.REST where 0.REST is there, and
 * N.N.count. */
static enum status tuple_role(struct model *m, struct tensor *t, bool *is, struct err *e)
{
    struct str rest = t->name, seg = STR_NONE;
    uint64_t number;
    size_t depth = 0;
    *is = false;
    while (segment(&rest, &seg) && str_u64(seg, &number) && !(depth == 0 && number == 0))
        depth++;
    if (depth < 2)
        return ST_OK;
    if (!rest.p && str_is(seg, "count")) {
        t->role = ROLE_COUNTER;
        *is = true;
        return ST_OK;
    }
    bool one = among(seg, first_moment), two = among(seg, second_moment);
    if (!rest.p || (!one && !two))
        return ST_OK;
    struct buf b = BUF_INIT;
    buf_z(&b, "0.");
    buf_str(&b, rest);
    enum status st = buf_ok(&b, e);
    int64_t at = st == ST_OK ? model_find(m, buf_as_str(&b)) : -1;
    buf_free(&b);
    if (at < 0)
        return st;
    t->role = one ? ROLE_MOMENT1 : ROLE_MOMENT2;
    t->of = at;
    *is = true;
    return ST_OK;
}

/* What tf-keras' optimizers, new and legacy, call what they keep of a variable. */
static const char *const keras_first[] = {"m", "momentum", "average_gradient", "mg", NULL};
static const char *const keras_second[] = {"v",
                                           "vhat",
                                           "v_hat",
                                           "rms",
                                           "velocity",
                                           "accumulator",
                                           "accumulated_grad",
                                           "accumulated_delta_var",
                                           "accum_grad",
                                           "accum_var",
                                           "u",
                                           NULL};

/* optimizer_weights.Adam.m.LAYER.REST of tf-keras, and Adam.LAYER.REST.m of its legacy optimizers:
 * of LAYER.LAYER.REST, as legacy HDF5 names it. */
static enum status keras_of(struct model *m, struct tensor *t, struct str rest, struct str output,
                            struct err *e)
{
    struct str after = rest, layer = STR_NONE;
    struct buf b = BUF_INIT;
    (void)segment(&after, &layer);
    buf_str(&b, layer);
    buf_u8(&b, '.');
    buf_str(&b, rest);
    buf_str(&b, output);
    enum status st = buf_ok(&b, e);
    if (st == ST_OK)
        t->of = model_find(m, buf_as_str(&b));
    buf_free(&b);
    return st;
}

static enum status find_var(const struct model *m, struct str group, uint64_t k, int64_t *at,
                            struct err *e)
{
    char text[24];
    struct buf b = BUF_INIT;
    buf_str(&b, group);
    snprintf(text, sizeof text, "%llu", (unsigned long long)k);
    buf_z(&b, text);
    enum status st = buf_ok(&b, e);
    *at = st == ST_OK ? model_find(m, buf_as_str(&b)) : -1;
    buf_free(&b);
    return st;
}

/* layers.batch_normalization_3.vars.2: trainable variables come first, then mean and variance, then
 * three more of a renormalisation. */
static enum status keras_statistic(const struct model *m, struct tensor *t, bool *is, struct err *e)
{
    struct str name = t->name, suffix = STR(".vars.");
    size_t dot = name.n;
    uint64_t k, n = 0;
    *is = false;
    while (dot > 0 && name.p[dot - 1] != '.')
        dot--;
    struct str group = str_sub(name, 0, dot), seg;
    if (!str_ends(group, suffix) || !str_u64(str_sub(name, dot, name.n), &k))
        return ST_OK;
    size_t end = group.n - suffix.n, lo = end;
    while (lo > 0 && name.p[lo - 1] != '.')
        lo--;
    seg = str_sub(name, lo, end);
    if (!str_starts(seg, STR("batch_normalization")))
        return ST_OK;
    for (int64_t at = 0; at >= 0 && n < 8; n += at >= 0)
        TRY(find_var(m, group, n, &at, e));
    *is = n >= 2 && n <= 7 && k + (n > 4 ? 5 : 2) >= n;
    return ST_OK;
}

/* Keras: what legacy HDF5 keeps of an optimizer, and states of random streams. */
static enum status keras_role(struct model *m, struct tensor *t, struct str first, struct str rest,
                              struct str leaf, bool *is, struct err *e)
{
    struct str seg = STR_NONE, name = t->name;
    *is = true;
    if (str_is(leaf, "seed_generator_state") || str_starts(name, STR("seed_generator.vars.")) ||
        str_find_str(name, STR(".seed_generator.vars."), 0) < name.n) {
        t->role = ROLE_RNG;
        return ST_OK;
    }
    if (str_is(name, "optimizer.vars.0")) {
        t->role = ROLE_COUNTER;
        return ST_OK;
    }
    if (str_is(first, "metrics") && str_find_str(name, STR(".vars."), 0) < name.n) {
        t->role = ROLE_OTHER; /* running means of a training loop */
        return ST_OK;
    }
    if (!str_is(first, "optimizer_weights") || !rest.p) {
        TRY(keras_statistic(m, t, is, e));
        t->role = ROLE_STATISTIC;
        return ST_OK;
    }
    bool one = among(leaf, keras_first) || str_ends(leaf, STR("_momentum"));
    bool two = among(leaf, keras_second) || str_ends(leaf, STR("_velocity"));
    t->role = one                                                 ? ROLE_MOMENT1
              : two                                               ? ROLE_MOMENT2
              : str_is(leaf, "iteration") || str_is(leaf, "iter") ? ROLE_COUNTER
                                                                  : ROLE_OTHER;
    struct str variable, wrapped = rest;
    (void)segment(&wrapped, &seg);
    if (wrapped.p && str_starts(seg, STR("cond"))) { /* a LossScaleOptimizer's, legacy */
        rest = wrapped;
    } else if (wrapped.p && (among(seg, keras_first) || among(seg, keras_second))) { /* ... new */
        t->role = among(seg, keras_first) ? ROLE_MOMENT1 : ROLE_MOMENT2;
        return keras_of(m, t, wrapped, STR(""), e);
    }
    if (!segment(&rest, &seg) || !rest.p) /* the optimizer */
        return ST_OK;
    variable = rest;
    if (!segment(&rest, &seg) || !rest.p)
        return ST_OK;
    bool first_of = among(seg, keras_first), second_of = among(seg, keras_second);
    if (first_of || second_of) { /* Adam.m.fc1.kernel:0 */
        t->role = first_of ? ROLE_MOMENT1 : ROLE_MOMENT2;
        return keras_of(m, t, rest, STR(""), e);
    }
    size_t end = variable.n; /* Adam.fc1.kernel.m:0 */
    while ((one || two) && end > 0 && variable.p[end - 1] != '.')
        end--;
    if (end < 2 || (!among(leaf, keras_first) && !among(leaf, keras_second)))
        return ST_OK;
    struct str output = str_sub(name, (size_t)(leaf.p - name.p) + leaf.n, name.n);
    return keras_of(m, t, str_sub(variable, 0, end - 1), output, e);
}

/* What Keras's optimizers keep in an object graph, below the optimizer or a model that has one:
 * [PATH.]optimizer._variables.N ... The weights that it knows are none of it. */
static bool graph_optimizer(struct tensor *t, struct str last)
{
    static const char *const below[] = {"_variables",
                                        "_iterations",
                                        "_learning_rate",
                                        "_trainable_variables",
                                        "inner_optimizer",
                                        "dynamic_scale",
                                        "step_counter",
                                        "loss_scale",
                                        "_u_product",
                                        "momentum_cache",
                                        NULL};
    static const char *const legacy[] = {"iter",          "decay",    "beta_1", "beta_2",
                                         "learning_rate", "momentum", "rho",    NULL};
    struct str rest = t->name, seg = STR_NONE, optimizer = STR("optimizer");
    while (rest.p && segment(&rest, &seg) && !str_eq(seg, optimizer)) {
    }
    if (!rest.p || !segment(&rest, &seg) || !(among(seg, below) || (!rest.p && among(seg, legacy))))
        return false;
    bool step = str_is(rest, "vars.0") || str_is(last, "_iterations") ||
                str_is(last, "step_counter") || str_is(last, "good_steps") || str_is(last, "iter");
    t->role = str_is(seg, "_trainable_variables") ? ROLE_PARAMETER
              : step                              ? ROLE_COUNTER
                                                  : ROLE_OTHER;
    return true;
}

/* Dynamic loss scales: PATH.scale with PATH.fin_steps (Flax); PATH.loss_scale, counter, period,
 * factor and min_loss_scale (jmp). */
static enum status loss_scale(const struct model *m, struct tensor *t, struct str last, bool *is,
                              struct err *e)
{
    static const struct {
        const char *leaf, *with;
        bool counts;
    } of[] = {
        {"fin_steps", "scale", true},        {"scale", "fin_steps", false},
        {"counter", "period", true},         {"loss_scale", "period", false},
        {"period", "counter", false},        {"factor", "period", false},
        {"min_loss_scale", "period", false},
    };
    *is = false;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct buf b = BUF_INIT;
        if (!str_is(last, of[i].leaf) || t->n_dims != 0)
            continue;
        buf_str(&b, str_sub(t->name, 0, t->name.n - last.n));
        buf_z(&b, of[i].with);
        enum status st = buf_ok(&b, e);
        *is = st == ST_OK && model_find(m, buf_as_str(&b)) >= 0;
        buf_free(&b);
        TRY(st);
        t->role = of[i].counts ? ROLE_COUNTER : ROLE_OTHER;
        return ST_OK;
    }
    return ST_OK;
}

/* A name without the number of its output: "kernel:0". */
static struct str without_output(struct str s)
{
    uint64_t number;
    size_t colon = str_find(s, ':', 0);
    return colon < s.n && str_u64(str_sub(s, colon + 1, s.n), &number) ? str_sub(s, 0, colon) : s;
}

/* Haiku's moving averages: NORM/~/mean_ema and NORM/~/var_ema hold hidden, average, counter. */
static bool haiku_average(struct str module)
{
    return str_ends(module, STR("/mean_ema")) || str_ends(module, STR("/var_ema"));
}

/* Equinox's states of a batch norm: NORM.ema_state_index.N, NORM.batch_state_index.N */
static bool equinox_state(struct str module, struct str last)
{
    uint64_t n;
    return str_u64(last, &n) &&
           (str_is(module, "ema_state_index") || str_is(module, "batch_state_index"));
}

/* NNX keeps no collections: a mean beside a variance of its shape is a norm's statistics. */
static enum status nnx_statistic(const struct model *m, const struct tensor *t, bool *is,
                                 struct err *e)
{
    static const char *const wrapped[] = {"", ".value", ".raw_value"};
    static const char *const pair[][2] = {{".mean", ".var"}, {".var", ".mean"}};
    *is = false;
    for (size_t w = 0; str_is(m->framework, "nnx") && w < sizeof wrapped / sizeof *wrapped; w++) {
        struct str name = t->name, tail = str_from(wrapped[w]);
        if (!str_ends(name, tail))
            continue;
        name.n -= tail.n;
        for (size_t i = 0; i < 2 && !*is; i++) {
            struct buf other = BUF_INIT;
            if (!str_ends(name, str_from(pair[i][0])))
                continue;
            buf_str(&other, str_sub(name, 0, name.n - strlen(pair[i][0])));
            buf_z(&other, pair[i][1]);
            buf_str(&other, tail);
            enum status st = buf_ok(&other, e);
            int64_t at = st == ST_OK ? model_find(m, buf_as_str(&other)) : -1;
            buf_free(&other);
            TRY(st);
            *is = at >= 0 && t->n_dims > 0 && m->tensor[at].n_dims == t->n_dims &&
                  memcmp(m->tensor[at].dim, t->dim, t->n_dims * sizeof *t->dim) == 0;
        }
    }
    return ST_OK;
}

static enum status one(struct model *m, struct tensor *t, struct err *e)
{
    struct str rest = t->name, first = STR_NONE, last = STR_NONE, before = STR_NONE, part;
    (void)segment(&rest, &first);
    for (struct str r = t->name; segment(&r, &part);) {
        before = last;
        last = part;
    }
    bool told;
    struct str leaf = without_output(last);
    TRY(tuple_role(m, t, &told, e));
    if (!told)
        TRY(flax_optim(m, t, last, &told, e));
    if (!told)
        told = graph_optimizer(t, last);
    if (!told)
        TRY(loss_scale(m, t, last, &told, e));
    if (told && t->role == ROLE_PARAMETER)
        return ST_OK;
    if (!told)
        TRY(keras_role(m, t, first, rest, leaf, &told, e));
    bool nnx = false;
    if (!told)
        TRY(nnx_statistic(m, t, &nnx, e));
    if (told) {
        ; /* there */
    } else if (nnx) {
        t->role = ROLE_STATISTIC;
    } else if (str_is(last, "num_batches_tracked") || str_is(t->name, "step") ||
               str_is(t->name, "n_averaged") || str_is(t->name, "global_step") ||
               str_is(t->name, "save_counter")) {
        t->role = ROLE_COUNTER;
    } else if (tf_slot(m, t, last)) {
        /* set there */
    } else if (beta_power(last)) {
        t->role = ROLE_OTHER;
    } else if ((among(first, training) && !(str_is(first, "state") && !numbered(rest))) ||
               str_starts(t->name, STR("optim.state."))) {
        TRY(training_role(m, t, rest, e));
    } else if (rest.p && among(first, averages)) {
        t->role = ROLE_EMA;
        TRY(find_of(m, t, rest, e));
    } else if (str_is(last, "running_mean") || str_is(last, "running_var") ||
               str_is(leaf, "moving_mean") || str_is(leaf, "moving_variance") ||
               str_is(first, "batch_stats")) {
        t->role = ROLE_STATISTIC;
    } else if (haiku_average(before) &&
               (str_is(last, "average") || str_is(last, "hidden") || str_is(last, "counter"))) {
        t->role = str_is(last, "counter") ? ROLE_COUNTER : ROLE_STATISTIC;
    } else if (equinox_state(before, last)) {
        t->role = ROLE_STATISTIC;
    } else if (str_is(last, "ema_first_time_index") || str_is(last, "batch_counter")) {
        t->role = ROLE_COUNTER;
    } else if ((rest.p && among(first, random_state)) ||
               str_find_str(t->name, STR(".rngs."), 0) < t->name.n) {
        t->role = ROLE_RNG;
    } else if (rest.p && str_is(first, "cache")) {
        t->role = ROLE_CACHE;
    } else {
        t->role = ROLE_PARAMETER;
        return ST_OK;
    }
    t->requires_grad = false;
    return ST_OK;
}

enum status roles_by_name(struct model *m, struct err *e)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        TRY(one(m, &m->tensor[i], e));
    return ST_OK;
}
