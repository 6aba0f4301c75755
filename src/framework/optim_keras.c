/* Keras 3's optimizers: a list of variables. The count, the learning rate where it is a number,
 * then the slots in blocks. How many of them there are says which those are, and where it does not
 * (RMSprop with a momentum or centered) the settings that stand in the file beside them. Source:
 * keras/src/optimizers/{base_optimizer,rmsprop}.py, keras/src/trainers/trainer.py.
 */
#include "codec/json.h"
#include "framework/keras_names.h"
#include "framework/optim_int.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

static int64_t var_at(const struct optim_reader *r, struct str group, size_t k)
{
    struct str name = arena_fmt(r->a, "%.*s.vars.%zu", STR_ARG(group), k);
    return name.p ? model_find(r->m, name) : -1;
}

struct var {
    ptrdiff_t layer;
    struct str inner; /* below the layer: a cell, a direction, a projection */
    unsigned part;    /* in the order in which the layer makes them */
    uint64_t number;
    uint32_t tensor;
};
static int by_layer(const void *a, const void *b)
{
    const struct var *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* The config's layer at a path of classes, or the one that a part of it belongs to. */
static const struct keras_layer *layer_at(const struct keras_names *names, struct str path,
                                          struct var *v)
{
    static const char *const parts[] = {"forwardlayer", "backwardlayer", "querydense",
                                        "keydense",     "valuedense",    "outputdense"};
    struct str at = path, up, last, first;
    const struct keras_layer *l;
    while ((l = keras_by_class(names, at)) == NULL && at.n) {
        name_tail(at, &up, &last);
        at = up;
    }
    v->inner = at.n < path.n ? str_sub(path, at.n ? at.n + 1 : 0, path.n) : STR("");
    v->part = 0;
    struct str rest = v->inner;
    if (rest.n && name_head(&rest, &first))
        for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
            if (str_is(first, parts[i]))
                v->part = i + 1;
    return l;
}

static bool is_frozen(const struct keras_names *names, const struct keras_layer *l)
{
    while (!l->frozen && l->parent >= 0)
        l = &names->layer[l->parent];
    return l->frozen;
}

/* The trainable variables, or all that could be, in the order of the config's layers; *n is 0 where
 * one stands in none of them. */
static enum status keras_params(struct optim_reader *r, bool frozen, uint32_t *param, size_t *n)
{
    struct keras_names names;
    const struct model *m = r->m;
    struct var *list = ARENA_ARRAY(r->a, struct var, m->n_tensors + 1);
    size_t got = 0;
    bool all = true;
    *n = 0;
    if (!list)
        return err_nomem(r->e, m->n_tensors * sizeof *list);
    TRY(keras_names_read(m, r->a, &names, r->e));
    for (size_t i = 0; i < m->n_tensors && all; i++) {
        struct str parent, leaf, layer, vars, path;
        uint64_t number;
        if (m->tensor[i].role != ROLE_PARAMETER)
            continue;
        name_tail(m->tensor[i].name, &parent, &leaf);
        name_tail(parent, &layer, &vars);
        all = str_u64(leaf, &number) && str_is(vars, "vars");
        if (!all)
            break;
        path = keras_class_path(layer, r->a);
        if (!path.p)
            return err_nomem(r->e, layer.n);
        struct var v = {.number = number, .tensor = (uint32_t)i};
        const struct keras_layer *l = layer_at(&names, path, &v);
        all = l != NULL;
        if (!l)
            break;
        v.layer = l - names.layer;
        if (frozen || !is_frozen(&names, l))
            list[got++] = v;
    }
    if (!all)
        return ST_OK;
    if (got)
        qsort(list, got, sizeof *list, by_layer);
    for (size_t i = 0; i < got; i++) {
        param[i] = list[i].tensor;
        if (i && list[i].layer == list[i - 1].layer && list[i].part == list[i - 1].part &&
            !str_eq(list[i].inner, list[i - 1].inner))
            return ST_OK; /* parts whose order nothing tells */
    }
    *n = got;
    return ST_OK;
}

/* ---- settings ---- */

struct rms_said {
    bool known, momentum, centered;
};

/* Passes to the value of a key of the object that the reader stands in; false: there is none. */
static bool to_key(struct json *j, const char *key, struct err *e)
{
    while (json_next(j, e) == ST_OK && j->kind == JSON_KEY) {
        bool found = str_is(j->text, key);
        if (json_next(j, e) != ST_OK)
            return false;
        if (found)
            return true;
        if (json_skip(j, e) != ST_OK)
            return false;
    }
    return false;
}

static bool is_set(const struct json *j)
{
    double v = 0;
    return j->kind == JSON_BOOL ? j->truth : j->kind == JSON_NUMBER && json_double(j, &v) && v != 0;
}

/* compile_config.optimizer.config of the model's config; inner: that of the one it wraps. What does
 * not parse says nothing. */
static void settings_of(const struct attachment *t, bool inner, struct rms_said *out)
{
    static const char *const own[] = {"compile_config", "optimizer", "config", NULL};
    static const char *const wrapped[] = {"compile_config",  "optimizer", "config",
                                          "inner_optimizer", "config",    NULL};
    const char *const *path = inner ? wrapped : own;
    struct cursor c;
    struct json j;
    struct err quiet;
    bool there = true;
    if (t->mem)
        cur_mem(&c, t->mem, (size_t)t->n_bytes, "config.json", 0);
    else
        cur_file(&c, t->file, t->offset, t->n_bytes);
    json_init(&j, &c, 0);
    there = json_next(&j, &quiet) == ST_OK && j.kind == JSON_OBJECT;
    for (const char *const *k = path; *k && there; k++)
        there = to_key(&j, *k, &quiet) && j.kind == JSON_OBJECT;
    while (there && json_next(&j, &quiet) == ST_OK && j.kind == JSON_KEY) {
        bool momentum = str_is(j.text, "momentum"), centered = str_is(j.text, "centered");
        if (json_next(&j, &quiet) != ST_OK)
            break;
        if (momentum)
            out->momentum = is_set(&j);
        if (centered)
            out->centered = is_set(&j);
        out->known = out->known || centered;
        if (json_skip(&j, &quiet) != ST_OK)
            break;
    }
    json_free(&j);
    cur_close(&c);
}

/* What is kept for each variable, from how many tensors it is; 0: that does not say it. */
static unsigned keras_slots(const struct model *m, enum optim k, size_t n, bool inner)
{
    static const struct {
        enum optim kind;
        size_t n;
        unsigned slots;
    } of[] = {
        {OPTIM_SGD, 1, SLOT_BIT(SLOT_TRACE)},
        {OPTIM_ADAM, 2, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE)},
        {OPTIM_ADAM, 3, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE) | SLOT_BIT(SLOT_MAX)},
        {OPTIM_RMSPROP, 1, SLOT_BIT(SLOT_POWER)},
        {OPTIM_RMSPROP, 3, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_TRACE) | SLOT_BIT(SLOT_CENTER)},
        {OPTIM_ADAGRAD, 1, SLOT_BIT(SLOT_SUM)},
        {OPTIM_LION, 1, SLOT_BIT(SLOT_MEAN)},
        {OPTIM_ADADELTA, 2, SLOT_BIT(SLOT_POWER) | SLOT_BIT(SLOT_DELTA)},
        {OPTIM_ADAMAX, 2, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_NORM)},
        {OPTIM_NADAM, 2, SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_SQUARE)},
    };
    struct rms_said said = {0};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (of[i].kind == k && of[i].n == n)
            return of[i].slots;
    if (k != OPTIM_RMSPROP || n != 2)
        return 0;
    for (size_t i = 0; i < m->n_attachments && !said.known; i++)
        if (str_is(m->attachment[i].name, "config.json"))
            settings_of(&m->attachment[i], inner, &said);
    if (!said.known || said.momentum == said.centered)
        return 0;
    return SLOT_BIT(SLOT_POWER) | (said.momentum ? SLOT_BIT(SLOT_TRACE) : SLOT_BIT(SLOT_CENTER));
}

static bool alike(const struct tensor *a, const struct tensor *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dim, b->dim, a->n_dims * sizeof *a->dim) == 0;
}

static bool is_one(const struct model *m, int64_t t, bool real)
{
    return t >= 0 && tensor_elems(&m->tensor[t]) == 1 &&
           (dtype_info(m->tensor[t].dtype)->kind == DK_FLOAT) == real;
}

/* LossScaleOptimizer: a count and a rate that nothing reads, the finite steps, the scale, and then
 * all variables of the optimizer it wraps, which has them under its own path too. */
static void wrapped(struct optim_reader *r, struct str root, struct str inner)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    int64_t good = var_at(r, root, 2), scale = var_at(r, root, 3), from, to;
    if (is_one(m, good, false) && is_one(m, scale, true)) {
        s->good.tensor = good;
        s->scale.tensor = scale;
        s->scales = 1;
    }
    for (size_t k = 0; k < 2 && (to = var_at(r, root, k)) >= 0; k++)
        s->idle[to] = true;
    for (size_t k = 0; (from = var_at(r, inner, k)) >= 0; k++) {
        to = var_at(r, root, k + 4);
        if (to < 0)
            continue;
        s->twin[from] = to;
        s->idle[to] = true;
    }
}

/* optimizer.vars: the count, the learning rate where it is a number, then the slots. */
enum status optim_keras(struct optim_reader *r)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    struct str root = STR("optimizer"), inner = STR("optimizer.inner_optimizer");
    const char *named = "optimizer/vars@name";
    bool wraps = var_at(r, inner, 0) >= 0;
    if (wraps) {
        wrapped(r, root, inner);
        root = inner;
        named = "optimizer/inner_optimizer/vars@name";
    }
    int64_t count = var_at(r, root, 0);
    size_t at = 1, n = 1, n_params;
    enum optim kind = OPTIM_NONE;
    if (count < 0 || tensor_elems(&m->tensor[count]) != 1)
        return ST_OK;
    uint32_t *param = ARENA_ARRAY(r->a, uint32_t, m->n_tensors + 1);
    if (!param)
        return err_nomem(r->e, m->n_tensors * sizeof *param);
    s->style = STYLE_KERAS;
    s->root = STR("optimizer");
    s->step.tensor = count;
    int64_t rate = var_at(r, root, 1);
    if (rate >= 0 && m->tensor[rate].n_dims == 0 &&
        dtype_info(m->tensor[rate].dtype)->kind == DK_FLOAT) {
        s->rate.tensor = rate;
        at = 2;
    }
    while (var_at(r, root, n) >= 0)
        n++;
    for (size_t i = 0; i < m->n_meta; i++)
        if (str_is(m->meta[i].key, named))
            kind = optim_of_keras(m->meta[i].value);
    if (n == at)
        return ST_OK; /* nothing kept so far, or nothing to keep */
    int64_t last = var_at(r, root, n - 1);
    if (kind == OPTIM_NADAM && m->tensor[last].n_dims == 0) { /* Nadam's product comes last */
        s->product.tensor = last;
        s->nadam = true;
        n--;
    }
    unsigned slots = 0; /* layers may have been frozen when it was made, or later */
    for (int frozen = 0; frozen < 2 && !slots; frozen++) {
        TRY(keras_params(r, frozen, param, &n_params));
        if (n_params && (n - at) % n_params == 0)
            slots = keras_slots(m, kind, (n - at) / n_params, wraps);
    }
    if (!slots) {
        s->unclear = "its variables are not those of an optimizer and a model that the file names";
        return ST_OK;
    }
    unsigned block;
    for (size_t b = 0; (block = slot_block(kind, slots, b)) != 0; b++)
        for (size_t p = 0; p < n_params; p++)
            for (unsigned k = 0; k < SLOT_N; k++) {
                if (!(block & SLOT_BIT(k)))
                    continue;
                int64_t t = var_at(r, root, at++);
                if (t < 0 || !alike(&m->tensor[t], &m->tensor[param[p]])) {
                    s->unclear = "its variables do not follow the layers' order";
                    return ST_OK;
                }
                optim_put(r, (uint32_t)t, param[p], (enum slot)k);
                struct optim_param *x = optim_param_at(r, param[p]);
                x->n.tensor = count;
                x->number = p;
            }
    return ST_OK;
}
