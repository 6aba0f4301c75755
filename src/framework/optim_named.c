/* Optimizer state whose names tell what it is: slots of Keras 2 and of TensorFlow 1 and 2.
 * See optim.h.
 */
#include "framework/keras_names.h"
#include "framework/optim_int.h"
#include "framework/recognise.h"
#include <string.h>

static const struct optim_number no_number = {.tensor = -1};

#define TF_SLOT ".\\.OPTIMIZER_SLOT."

static struct str no_output(struct str s)
{
    uint64_t number;
    size_t colon = str_find(s, ':', 0);
    return colon < s.n && str_u64(str_sub(s, colon + 1, s.n), &number) ? str_sub(s, 0, colon) : s;
}

/* Does a slot of Keras 2 stand without an optimizer's name, in a LossScaleOptimizer? */
static bool nameless(const struct tensor *t)
{
    struct str rest = t->name, note = t->note, seg;
    enum slot slot;
    if (note.p && str_find_str(rest, STR("._variables."), 0) < rest.n)
        return str_split(&note, '/', &seg) && slot_parse(STYLE_NAMED, seg, &slot);
    return name_head(&rest, &seg) && str_is(seg, "optimizer_weights") && name_head(&rest, &seg) &&
           slot_parse(STYLE_NAMED, seg, &slot);
}

static bool keras2_slot(struct str optimizer, struct str field, enum slot *slot)
{
    if (!slot_parse(STYLE_NAMED, field, slot))
        return false;
    if (str_is(keras_stem(optimizer), "SGD") && *slot == SLOT_MEAN)
        *slot = SLOT_TRACE; /* tf-keras's new SGD calls it m */
    return true;
}

/* Keras 3 in an object graph: the note is [WRAPPER/]OPTIMIZER/VARIABLE_SLOT. */
static bool keras3_slot(struct str note, enum slot *slot)
{
    struct str optimizer = STR(""), rest = STR(""), seg;
    while (note.p && str_split(&note, '/', &seg)) {
        optimizer = rest;
        rest = seg;
    }
    static const struct {
        const char *word;
        enum slot slot;
    } words[] = {
        {"velocity_hat", SLOT_MAX},
        {"momentum", SLOT_MEAN},
        {"momentum", SLOT_TRACE},
        {"velocity", SLOT_SQUARE},
        {"velocity", SLOT_POWER},
        {"average_gradient", SLOT_CENTER},
        {"accumulator", SLOT_SUM},
        {"accumulated_grad", SLOT_POWER},
        {"accumulated_delta_var", SLOT_DELTA},
        {"norm", SLOT_NORM},
    };
    enum optim kind = optim_of_keras(optimizer);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct str word = str_from(words[i].word);
        bool ends =
            str_ends(rest, word) && (rest.n == word.n || rest.p[rest.n - word.n - 1] == '_');
        *slot = words[i].slot;
        if (ends && optim_keeps(kind, *slot))
            return true;
    }
    return false;
}

/* The slot of a tensor, as its place in the name says it. */
static bool named_slot(const struct model *m, const struct tensor *t, enum optim_style *style,
                       enum slot *slot)
{
    struct str parent, leaf, rest = t->name, first = STR(""), opt = STR(""), field = STR("");
    name_tail(t->name, &parent, &leaf);
    *style = STYLE_NAMED;
    if (str_find_str(t->name, STR(TF_SLOT), 0) < t->name.n)
        return slot_parse(STYLE_NAMED, leaf, slot);
    if (str_ends(parent, STR("._variables"))) { /* the note is OPTIMIZER/SLOT/VARIABLE */
        struct str note = t->note;
        return keras3_slot(note, slot) ||
               (str_split(&note, '/', &opt) && note.p &&
                (keras2_slot(STR(""), opt, slot) ||
                 (str_split(&note, '/', &field) && keras2_slot(opt, field, slot))));
    }
    if (name_head(&rest, &first) && str_is(first, "optimizer_weights")) {
        if (!name_head(&rest, &opt) || !rest.n)
            return false;
        if (keras2_slot(STR(""), opt, slot)) /* a LossScaleOptimizer's; legacy, it is in a cond */
            return true;
        if (str_starts(opt, STR("cond")) && !name_head(&rest, &opt))
            return false;
        if (!name_head(&rest, &field) || !rest.n)
            return false;
        /* legacy optimizers have the slot behind the variable */
        return keras2_slot(opt, field, slot) || keras2_slot(opt, no_output(leaf), slot);
    }
    *style = STYLE_TF1;
    if (!str_eq(parent, m->tensor[t->of].name))
        return false;
    if (slot_parse(STYLE_TF1, leaf, slot))
        return true;
    /* RMSProp makes rms, then mg where it is centered, then momentum */
    struct str third = STR("RMSProp_2");
    bool centered = false;
    for (size_t i = 0; i < m->n_tensors && !centered; i++)
        centered = m->tensor[i].of == t->of && str_ends(m->tensor[i].name, third);
    if (str_is(leaf, "RMSProp_1"))
        *slot = centered ? SLOT_CENTER : SLOT_TRACE;
    else if (str_eq(leaf, third))
        *slot = SLOT_TRACE;
    else
        return false;
    return true;
}

/* The optimizer's own name, where one stands in a slot's: of an object graph, in the note. */
static struct str called(const struct tensor *t)
{
    struct str rest = t->note, seg = STR(""), before = STR("");
    if (str_starts(t->name, STR("optimizer_weights."))) {
        rest = str_sub(t->name, 18, t->name.n);
        while (name_head(&rest, &seg) && str_starts(seg, STR("cond"))) {
        }
        return seg;
    }
    while (rest.p && str_split(&rest, '/', &seg) &&
           (str_starts(seg, STR("cond")) || optim_of_keras(seg) == OPTIM_NONE)) {
        if (!before.n && !str_starts(seg, STR("cond")))
            before = seg;
    }
    return optim_of_keras(seg) != OPTIM_NONE ? seg : before;
}

static bool is_count(struct str name)
{
    struct str rest = name, first, parent, leaf;
    name_tail(name, &parent, &leaf);
    leaf = no_output(leaf);
    bool below = (name_head(&rest, &first) && str_starts(first, STR("optimizer"))) ||
                 str_ends(parent, STR(".optimizer"));
    return str_is(name, "global_step") || str_is(leaf, "_iterations") ||
           (below && (str_is(leaf, "iter") || str_is(leaf, "iteration")));
}

/* Object graphs: PATH.optimizer of PATH.optimizer._variables.N, or behind a slot's mark; where
 * there are two, neither. */
static void graph_root(struct optim_state *s, struct str name, struct str parent)
{
    struct str list = STR("._variables"), inner = STR(".inner_optimizer"), mark = STR(TF_SLOT);
    size_t at = str_find_str(name, mark, 0);
    if (at < name.n && parent.n > at + mark.n)
        parent = str_sub(parent, at + mark.n, parent.n);
    else if (str_ends(parent, list))
        parent.n -= list.n;
    else
        return;
    if (str_ends(parent, inner))
        parent.n -= inner.n;
    if (s->root.n && !str_eq(s->root, parent))
        s->unclear = "there are several optimizers";
    s->root = parent;
}

enum status optim_named(struct optim_reader *r)
{
    const struct model *m = r->m;
    struct optim_state *s = r->s;
    struct optim_number count = no_number;
    struct str inner = STR("inner_optimizer"); /* a LossScaleOptimizer's: it alone counts */
    bool wraps = false, bare = false;
    for (size_t i = 0; i < m->n_tensors && !wraps; i++)
        wraps = str_find_str(m->tensor[i].name, STR(".inner_optimizer._iterations"), 0) <
                m->tensor[i].name.n;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        struct str parent, leaf;
        enum optim_style style;
        enum slot slot;
        if (!optim_is_state(t))
            continue;
        name_tail(t->name, &parent, &leaf);
        leaf = no_output(leaf);
        if (t->of < 0 && tensor_elems(t) == 1) {
            if (is_count(t->name) && wraps && !str_ends(parent, inner))
                s->mine[i] = s->idle[i] = true;
            else if (is_count(t->name))
                count.tensor = (int64_t)i;
            else if (str_is(leaf, "_learning_rate") && wraps && !str_ends(parent, inner))
                s->mine[i] = s->idle[i] = true;
            else if (str_is(leaf, "learning_rate") || str_is(leaf, "_learning_rate"))
                s->rate.tensor = (int64_t)i;
            else if (str_is(leaf, "beta1_power") || str_is(leaf, "beta2_power"))
                s->mine[i] = true;
        }
        if (t->of < 0 && tensor_elems(t) == 1 &&
            (str_is(leaf, "_u_product") || str_is(leaf, "momentum_cache")))
            s->product.tensor = (int64_t)i;
        if (t->of < 0 || !named_slot(m, t, &style, &slot))
            continue;
        struct str own = keras_stem(called(t));
        s->nadam = s->nadam || str_is(own, "Nadam") || str_is(own, "nadam");
        if (str_is(own, "Adamax") && slot == SLOT_SQUARE)
            slot = SLOT_NORM; /* the legacy one calls it v */
        if (s->style != STYLE_NONE && s->style != style)
            s->unclear = "there are several optimizers";
        s->style = style;
        bare = bare || nameless(t);
        graph_root(s, t->name, parent);
        optim_put(r, (uint32_t)i, (uint32_t)t->of, slot);
        optim_param_at(r, (uint32_t)t->of)->number = m->tensor[t->of].order;
    }
    if (s->style == STYLE_NONE)
        return ST_OK;
    if (bare && s->slots == SLOT_BIT(SLOT_MEAN)) /* both call it m */
        s->unclear = "SGD or Lion: a LossScaleOptimizer keeps no name of what it wraps";
    s->step = count;
    if (count.tensor >= 0)
        s->mine[count.tensor] = true;
    if (s->rate.tensor >= 0)
        s->mine[s->rate.tensor] = true;
    if (s->product.tensor >= 0)
        s->mine[s->product.tensor] = true;
    for (size_t i = 0; i < s->n; i++)
        s->param[i].n = count;
    if (!s->root.n)
        s->root = STR("optimizer");
    for (size_t i = 0; i < m->n_tensors; i++)
        if (str_starts(m->tensor[i].name, STR("optimizer_weights.")) &&
            optim_is_state(&m->tensor[i]))
            s->mine[i] = true;
    return ST_OK;
}
