/* Recognising recurrent cells by the rules that spell them. The recurrent weight is what a cell is
 * found by; names tell which kinds it may be, shapes which it is: rows of a weight are gates times
 * units, and the units are the width of the state that comes back.
 */
#include "base/checked.h"
#include "framework/recognise.h"
#include "framework/rules.h"
#include <string.h>

/* ---- layouts ---- */

/* Learns a tensor's extents; J is an axis of its own, made of I and R in weights, of two in biases.
 */
static bool learn(const struct cell_rule *c, uint8_t rank, const struct tensor *t,
                  struct axes_size *size)
{
    struct axes x;
    struct err quiet;
    char text[64];
    for (size_t d = 0; rank && d < t->n_dims; d++)
        if (t->dim[d] == 0) /* an extent of 0 counts as not known */
            return false;
    size->of['G'] = *c->gates ? strlen(c->gates) : 1;
    size->of['J'] = c->leaf == LEAF_XH_BIAS ? 2 : 0;
    if (rules_cell_axes(c, rank, text, &quiet) != ST_OK ||
        axes_parse(str_from(text), &x, &quiet) != ST_OK ||
        axes_learn(&x, t->dim, t->n_dims, size, &quiet) != ST_OK)
        return false;
    if (c->leaf == LEAF_XH_WEIGHT) { /* the state is as wide as the cell has units */
        uint64_t j = size->of['J'], o = size->of['O'];
        if (o == 0 || j <= o || (size->of['I'] && size->of['I'] != j - o))
            return false;
        size->of['I'] = j - o;
        size->of['R'] = o;
    }
    return true;
}

bool cell_learn(const struct model *m, const struct spelling_rules *r, const struct layer *l,
                enum layer_kind kind, struct axes_size *size)
{
    const struct cell_rule *c;
    *size = (struct axes_size){0};
    for (size_t i = 0; (c = rules_cell(r, kind, l->variant, i)) != NULL; i++)
        if (l->tensor[c->leaf] >= 0 && !learn(c, l->rank, &m->tensor[l->tensor[c->leaf]], size))
            return false;
    size->of['G'] = 1;
    size->of['J'] = 0;
    return size->of['O'] && size->of['I'] && size->of['R'] &&
           (size->of['R'] == size->of['O'] || l->tensor[LEAF_HR_WEIGHT] >= 0);
}

/* ---- names ---- */

/* What a cell is found by: a rule of its recurrent weight, the name cut into child modules and leaf
 * ("hi", "kernel"). */
struct anchor {
    struct str child, leaf;
    enum layer_kind kind;
};

static bool is_anchor(const struct cell_rule *c)
{
    enum leaf side[2] = {LEAF_WEIGHT, LEAF_WEIGHT};
    size_t n = leaf_sides(c->leaf, side);
    return n > 0 && side[n - 1] == LEAF_HH_WEIGHT;
}

/* Does a leaf fit a rule's, and which layer of a stack does it then name? */
static bool leaf_fits(struct str rule, struct str leaf, struct str *layer)
{
    *layer = STR_NONE;
    if (!str_ends(rule, STR("{l}")))
        return str_eq(rule, leaf);
    struct str head = str_sub(rule, 0, rule.n - 3);
    *layer = str_sub(leaf, head.n, leaf.n);
    return str_starts(leaf, head) && path_in_stack(*layer);
}

/* The path of the layer whose recurrent weight is `leaf` of a module. */
static bool base_of(const struct anchor *c, struct str module, struct str leaf, struct str *base,
                    struct str *layer)
{
    if (!leaf_fits(c->leaf, leaf, layer))
        return false;
    *base = module;
    if (c->child.n == 0)
        return true;
    if (!str_ends(module, c->child))
        return false;
    *base = str_sub(module, 0, module.n - c->child.n);
    if (base->n && base->p[base->n - 1] != '.')
        return false;
    *base = str_sub(*base, 0, base->n ? base->n - 1 : 0);
    return true;
}

bool cell_named(const struct spelling_rules *r, struct str name)
{
    struct str module, leaf, base, layer;
    name_tail(name, &module, &leaf);
    for (size_t i = 0; i < r->n_cells; i++) {
        struct anchor c = {0};
        name_tail(str_from(r->cell[i].name), &c.child, &c.leaf);
        if (is_anchor(&r->cell[i]) && base_of(&c, module, leaf, &base, &layer))
            return true;
    }
    return false;
}

static struct member *member_of(const struct modules *ms, struct str name)
{
    struct str path, leaf;
    name_tail(name, &path, &leaf);
    const struct module *mod = module_at(ms, path);
    for (uint32_t i = 0; mod && i < mod->n; i++)
        if (str_eq(ms->member[mod->first + i].leaf, leaf))
            return &ms->member[mod->first + i];
    return NULL;
}

/* ---- one group of rules at one path ---- */

struct ctx {
    const struct spelling_rules *r;
    struct modules *ms;
    struct layer_list *list;
};

static bool is_weight(enum leaf l)
{
    enum leaf side[2];
    (void)leaf_sides(l, side);
    return side[0] == LEAF_IH_WEIGHT || side[0] == LEAF_HH_WEIGHT;
}

/* Is there a tensor beside a cell's own that no rule of its kind knows? Modules of a stack hold
 * other layers. */
static bool has_other(const struct ctx *c, const struct cell_rule *of, const struct layer *l,
                      struct str name)
{
    struct str path, leaf;
    if (strstr(of->name, "{l}"))
        return false;
    name_tail(name, &path, &leaf);
    const struct module *mod = module_at(c->ms, path);
    for (uint32_t i = 0; mod && i < mod->n; i++) {
        bool own = false;
        for (int k = 0; k < LEAF_N; k++)
            own = own || l->tensor[k] == (int64_t)c->ms->member[mod->first + i].tensor;
        if (!own)
            return true;
    }
    return false;
}

/* Has the layer's own segment the word? Of a stack's layer, the module's. */
static bool has_word(struct str path, const char *word)
{
    struct str up, seg;
    struct words w;
    name_tail(path, &up, &seg);
    if (path_in_stack(path) && up.n)
        name_tail(up, &up, &seg);
    words_of(seg, &w);
    for (size_t i = 0; i < w.n; i++)
        if (strcmp(w.word[i], word) == 0)
            return true;
    return false;
}

static bool owns(const struct layer *l, uint32_t tensor)
{
    for (int k = 0; k < LEAF_N; k++)
        if (l->tensor[k] == (int64_t)tensor)
            return true;
    return false;
}

/* Do only the cell's own tensors lie in the module at base and below? */
static bool alone(const struct ctx *c, const struct layer *l, struct str base)
{
    const struct modules *ms = c->ms;
    size_t lo = 0, hi = ms->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (str_cmp(ms->module[mid].path, base) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < ms->n && str_starts(ms->module[lo].path, base); lo++) {
        const struct module *mod = &ms->module[lo];
        if (base.n && mod->path.n > base.n && mod->path.p[base.n] != '.')
            continue; /* "core_1" beside "core" */
        for (uint32_t i = 0; i < mod->n; i++)
            if (!owns(l, ms->member[mod->first + i].tensor))
                return false;
    }
    return true;
}

/* How sure a group is the cell that its tensors can be. */
enum sure { NOT_IT, MAYBE, SURE };

/* Fills l->tensor by one group. */
static enum status group(const struct ctx *c, enum layer_kind kind, uint8_t variant,
                         struct str base, struct layer *l, enum sure *sure, struct err *e)
{
    const struct cell_rule *rule;
    struct axes_size size;
    bool words = false, word = false, said = true;
    *sure = NOT_IT;
    *l = (struct layer){.path = base, .variant = variant};
    for (int k = 0; k < LEAF_N; k++)
        l->tensor[k] = -1;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; (rule = rules_cell(c->r, kind, variant, i)) != NULL; i++) {
            struct str name = rules_name(c->list->a, "", base, rule->name);
            if (!name.p)
                return err_nomem(e, base.n);
            words = words || rule->word;
            word = word || (rule->word && *rule->word);
            said = said && (!rule->word || !*rule->word || has_word(base, rule->word));
            if (pass == 1) {
                if (has_other(c, rule, l, name))
                    return ST_OK;
                continue;
            }
            const struct member *b = member_of(c->ms, name);
            if ((!b || b->taken) && is_weight(rule->leaf))
                return ST_OK;
            if (b && !b->taken)
                l->tensor[rule->leaf] = b->tensor;
        }
    if (kind == LAYER_CONV_LSTM && l->tensor[LEAF_HH_WEIGHT] >= 0) {
        const struct tensor *t = &c->ms->m->tensor[l->tensor[LEAF_HH_WEIGHT]];
        l->rank = t->n_dims > 2 && t->n_dims <= 5 ? (uint8_t)(t->n_dims - 2) : 0;
    }
    if (!cell_learn(c->ms->m, c->r, l, kind, &size))
        return ST_OK;
    bool whole = !words || ((base.n || !word) && alone(c, l, base));
    if (said && whole)
        *sure = SURE;
    else if (base.n && word && (said || whole) && l->tensor[LEAF_IH_BIAS] >= 0)
        *sure = MAYBE;
    return ST_OK;
}

static enum status add_maybe(const struct ctx *c, enum layer_kind kind, const struct layer *l,
                             struct err *e)
{
    struct arena *a = c->list->a;
    if (!c->list->maybe) {
        c->list->maybe = ARENA_NEW(a, struct layer_list);
        if (!c->list->maybe)
            return err_nomem(e, sizeof *c->list->maybe);
        *c->list->maybe = (struct layer_list){.a = a};
    }
    struct layer *y = layer_add(c->list->maybe, kind, l->path,
                                STR("linear layers that can be a recurrent cell's"));
    if (!y)
        return err_nomem(e, sizeof *y);
    memcpy(y->tensor, l->tensor, sizeof y->tensor);
    y->variant = l->variant;
    return ST_OK;
}

static void take_all(const struct ctx *c, const struct layer *l)
{
    for (size_t i = 0; i < c->r->n_cells; i++) {
        int64_t t = l->tensor[c->r->cell[i].leaf];
        if (t < 0 || c->r->cell[i].variant != l->variant)
            continue;
        struct str name = rules_name(c->list->a, "", l->path, c->r->cell[i].name);
        struct member *b = name.p ? member_of(c->ms, name) : NULL;
        if (b && (int64_t)b->tensor == t)
            b->taken = true;
    }
}

/* Every kind that the tensors at a path may be; of, the kind whose recurrent weight was found. */
static enum status at_path(const struct ctx *c, struct str base, enum layer_kind of, struct err *e)
{
    struct layer found = {0}, l;
    unsigned kinds = 0;
    for (unsigned k = LAYER_LSTM; k <= LAYER_RNN; k++) {
        enum sure sure = NOT_IT;
        for (uint8_t v = 0; sure == NOT_IT && rules_cell(c->r, (enum layer_kind)k, v, 0); v++)
            TRY(group(c, (enum layer_kind)k, v, base, &l, &sure, e));
        if (sure == MAYBE && k == of)
            TRY(add_maybe(c, (enum layer_kind)k, &l, e));
        if (sure != SURE)
            continue;
        if (kinds == 0)
            found = l;
        kinds |= KIND_BIT(k);
    }
    if (kinds == 0)
        return ST_OK;
    struct layer *y = layer_add(c->list, LAYER_NONE, base, STR("weights of a recurrent cell"));
    if (!y)
        return err_nomem(e, sizeof *y);
    memcpy(y->tensor, found.tensor, sizeof y->tensor);
    y->variant = found.variant;
    y->rank = found.rank;
    y->by_name = true;
    layer_open(y, kinds);
    take_all(c, y);
    return ST_OK;
}

enum status cells_recognise(const struct spelling_rules *r, struct modules *ms,
                            struct layer_list *list, struct err *e)
{
    struct ctx c = {r, ms, list};
    struct anchor *anchor = ARENA_ARRAY(list->a, struct anchor, r->n_cells + 1);
    size_t n = 0;
    if (!anchor)
        return err_nomem(e, r->n_cells * sizeof *anchor);
    for (size_t k = 0; k < r->n_cells; k++)
        if (is_anchor(&r->cell[k])) {
            name_tail(str_from(r->cell[k].name), &anchor[n].child, &anchor[n].leaf);
            anchor[n++].kind = r->cell[k].kind;
        }
    for (size_t i = 0; i < ms->n_members; i++) {
        const struct member *b = &ms->member[i];
        for (size_t k = 0; k < n && !b->taken; k++) {
            struct str base, layer;
            if (!base_of(&anchor[k], b->path, b->leaf, &base, &layer))
                continue;
            if (layer.n)
                base =
                    base.n ? arena_fmt(list->a, "%.*s.%.*s", STR_ARG(base), STR_ARG(layer)) : layer;
            if (!base.p && layer.n)
                return err_nomem(e, b->path.n);
            TRY(at_path(&c, base, anchor[k].kind, e));
        }
    }
    return ST_OK;
}
