/* Lookups in the rule tables, and the table of names that are harmless to drop. */
#include "framework/rules.h"
#include <stdio.h>
#include <string.h>

#ifdef NNFERRY_MUTATE
static const struct leaf_rule *mutate_from;
static struct leaf_rule mutate_to;
static char mutate_axes[64];
static char mutate_name[64];

static const struct cell_rule *mutate_cell_from;
static struct cell_rule mutate_cell_to;

bool rules_mutate_cell(const struct framework *f, size_t i, enum cell_change what)
{
    mutate_cell_from = NULL;
    if (i >= f->rules->n_cells)
        return false;
    const struct cell_rule *c = &f->rules->cell[i];
    struct cell_rule to = *c;
    const char *all = cell_gates(c->kind), **said = what == CELL_SUMS    ? &to.sums
                                                    : what == CELL_MINUS ? &to.minus
                                                                         : &to.plus;
    size_t n = strlen(c->axes), g = strlen(c->gates);
    if (what == CELL_GATES) {
        if (g == 0 || strlen(all) < 2)
            return false;
        for (size_t k = 0; k < g; k++) /* the next of the cell's gates, or of its own */
            mutate_axes[k] = g > 1
                                 ? c->gates[(k + 1) % g]
                                 : all[(size_t)(strchr(all, c->gates[0]) - all + 1) % strlen(all)];
        mutate_axes[g] = 0;
        to.gates = mutate_axes;
    } else if (what == CELL_AXES) {
        if (n < 3 || n >= sizeof mutate_axes || c->leaf == LEAF_XH_BIAS ||
            strcmp(c->axes, "(G O)") == 0)
            return false;
        /* "(G O) I" <-> "I (G O)", "I O" <-> "O I" */
        const char *cut = c->axes[0] == '(' ? strchr(c->axes, ')') + 1 : c->axes + 1;
        snprintf(mutate_axes, sizeof mutate_axes, "%s %.*s", cut + 1, (int)(cut - c->axes),
                 c->axes);
        to.axes = mutate_axes;
    } else {
        if (!*said || !**said)
            return false;
        *said = "";
    }
    mutate_cell_to = to;
    mutate_cell_from = c;
    return true;
}

bool rules_mutate(const struct framework *f, int i)
{
    mutate_from = NULL;
    mutate_cell_from = NULL;
    if (i < 0)
        return true;
    if ((size_t)i >= f->rules->n)
        return false;
    const struct leaf_rule *l = &f->rules->leaf[i];
    mutate_to = *l;
    size_t n = strlen(l->axes), k = 0;
    const char *dash = strchr(l->axes, '-');
    if (dash) { /* drop the flips */
        for (size_t j = 0; j < n && k + 1 < sizeof mutate_axes; j++)
            if (l->axes[j] != '-')
                mutate_axes[k++] = l->axes[j];
        mutate_axes[k] = 0;
        mutate_to.axes = mutate_axes;
    } else if (strlen(l->axes) > 1 && l->axes[0] != l->axes[n - 1] && l->axes[0] != '(' &&
               l->axes[n - 1] != ')' && n < sizeof mutate_axes) { /* swap the outer axes */
        memcpy(mutate_axes, l->axes, n + 1);
        mutate_axes[0] = l->axes[n - 1];
        mutate_axes[n - 1] = l->axes[0];
        mutate_to.axes = mutate_axes;
    } else if (n + 1 < sizeof mutate_axes && strchr(l->axes, '(')) {
        /* the other order inside the parenthesis */
        memcpy(mutate_axes, l->axes, n + 1);
        char *p = strchr(mutate_axes, '(');
        char t = p[1];
        p[1] = p[3];
        p[3] = t;
        mutate_to.axes = mutate_axes;
    } else if (strlen(l->name) + 2 < sizeof mutate_name) {
        snprintf(mutate_name, sizeof mutate_name, "%s_", l->name);
        mutate_to.name = mutate_name;
    }
    mutate_from = l;
    return true;
}
#endif

const struct leaf_rule *rules_find(const struct spelling_rules *r, enum layer_kind kind,
                                   uint8_t rank, uint8_t variant, enum leaf leaf)
{
    const struct leaf_rule *found = NULL;
    for (size_t i = 0; i < r->n; i++) {
        const struct leaf_rule *l = &r->leaf[i];
        if (l->kind != kind || l->leaf != leaf || (l->rank && l->rank != rank))
            continue;
        if (l->variant == variant || (l->variant == 0 && !found))
            found = l;
    }
#ifdef NNFERRY_MUTATE
    if (found && found == mutate_from)
        return &mutate_to;
#endif
    return found;
}

uint8_t rules_variant(const struct layer *l)
{
    if (l->kind == LAYER_CONV_TRANSPOSE && !l->flip)
        return VARIANT_KEPT;
    if (l->kind == LAYER_BATCHNORM && l->tensor[LEAF_UPDATES] >= 0)
        return VARIANT_UPDATES;
    return l->kind == LAYER_CONV && l->depth_c ? VARIANT_DEPTH : l->form;
}

/* The axes of a linear layer, each by itself or as one. An input that is a flattened map by its
 * axes has the channels last, and first in the frameworks that have them first. */
static const char *several(const struct spelling_rules *r, const struct leaf_rule *l,
                           const struct layer *of, char axis, char text[64])
{
    const struct dense_axes *d = of->dense;
    const char *from = axis == 'F' ? d->in : axis == 'O' ? d->out : axis == 'K' ? d->weight : NULL;
    bool apart = l->variant == FORM_AXES;
    if (axis == 'B')
        from = d->bias[0] ? d->bias : d->out;
    if (!from || (!apart && !from[1]))
        return NULL;
    size_t n = strlen(from), k = 0,
           turn = axis == 'F' && !apart && of->flat_c && r->flat[1] == 'C' ? n - 1 : 0;
    if (!apart)
        text[k++] = '(';
    for (size_t i = 0; i < n; i++) {
        char c = from[(i + turn) % n];
        const char *map = c == 'F' && of->flat_c ? r->flat : NULL;
        k +=
            (size_t)snprintf(text + k, 64 - k, "%s%.*s", i ? " " : "", map ? 5 : 1, map ? map : &c);
    }
    if (!apart)
        text[k++] = ')';
    text[k] = 0;
    return text;
}

/* What an axis of the table stands for in this layer. */
static const char *meant(const struct spelling_rules *r, const struct leaf_rule *l,
                         const struct layer *of, char axis, char text[64])
{
    const char *axes = l->kind == LAYER_LINEAR && of->dense ? several(r, l, of, axis, text) : NULL;
    if (axes)
        return axes;
    if (axis == 'F' && of->flat_c)
        return l->kind == LAYER_CONV_LOCAL ? r->patch : r->flat;
    if (l->kind == LAYER_CONV && l->leaf == LEAF_WEIGHT && of->depth_c)
        return axis == 'O' ? "(C M)" : axis == 'I' ? "1" : NULL;
    return NULL;
}

enum status rules_axes(const struct spelling_rules *r, const struct leaf_rule *l,
                       const struct layer *of, struct axes *out, char text[64], struct err *e)
{
    size_t k = 0;
    for (const char *p = l->axes; *p; p++) {
        char own[64];
        const char *as = of ? meant(r, l, of, *p, own) : NULL;
        size_t n = as ? strlen(as) : 1;
        if (k + n >= 63)
            return err_set(e, ST_BUG, "rule-too-long", "layout %s", l->axes);
        memcpy(text + k, as ? as : p, n);
        k += n;
    }
    text[k] = 0;
    return axes_parse((struct str){text, k}, out, e);
}

size_t leaf_fuses(enum leaf l, enum leaf part[3])
{
    if (l == LEAF_QKV_WEIGHT) {
        part[0] = LEAF_Q_WEIGHT;
        part[1] = LEAF_K_WEIGHT;
        part[2] = LEAF_V_WEIGHT;
        return 3;
    }
    if (l == LEAF_QKV_BIAS) {
        part[0] = LEAF_Q_BIAS;
        part[1] = LEAF_K_BIAS;
        part[2] = LEAF_V_BIAS;
        return 3;
    }
    part[0] = l;
    return 0;
}

/* ---- cells ---- */

const struct cell_rule *rules_cell(const struct spelling_rules *r, enum layer_kind kind,
                                   uint8_t variant, size_t i)
{
    for (size_t k = 0; k < r->n_cells; k++) {
        if (r->cell[k].kind != kind || r->cell[k].variant != variant || i-- > 0)
            continue;
#ifdef NNFERRY_MUTATE
        if (&r->cell[k] == mutate_cell_from)
            return &mutate_cell_to;
#endif
        return &r->cell[k];
    }
    return NULL;
}

enum status rules_cell_axes(const struct cell_rule *c, uint8_t rank, char text[64], struct err *e)
{
    static const char *const spatial[] = {"W", "H W", "D H W"};
    const char *star = strchr(c->axes, '*');
    if (star && (rank < 1 || rank > 3))
        return err_set(e, ST_CANNOT, "axes-shape", "a cell of %u spatial axes", (unsigned)rank);
    int n = star ? snprintf(text, 64, "%.*s%s%s", (int)(star - c->axes), c->axes, spatial[rank - 1],
                            star + 1)
                 : snprintf(text, 64, "%s", c->axes);
    return n > 0 && n < 64 ? ST_OK : err_set(e, ST_BUG, "rule-too-long", "layout %s", c->axes);
}

bool path_in_stack(struct str path)
{
    size_t at = path.n, end;
    while (at > 0 && path.p[at - 1] != '.')
        at--;
    struct str seg = str_sub(path, at, path.n);
    if (str_ends(seg, STR("_reverse")))
        seg.n -= strlen("_reverse");
    for (end = 1; end < seg.n && seg.p[end] >= '0' && seg.p[end] <= '9'; end++)
        ;
    return seg.n > 1 && seg.p[0] == 'l' && end == seg.n;
}

bool rules_cell_variant(const struct spelling_rules *r, enum layer_kind kind, struct str path,
                        uint8_t *variant)
{
    const struct cell_rule *c;
    for (*variant = 0; (c = rules_cell(r, kind, *variant, 0)) != NULL; ++*variant)
        if (!strstr(c->name, "{l}") || path_in_stack(path))
            return true;
    return false;
}

size_t leaf_sides(enum leaf l, enum leaf side[2])
{
    side[0] = side[1] = l;
    if (l == LEAF_XH_WEIGHT || l == LEAF_XH_BIAS) {
        side[0] = l == LEAF_XH_WEIGHT ? LEAF_IH_WEIGHT : LEAF_IH_BIAS;
        side[1] = l == LEAF_XH_WEIGHT ? LEAF_HH_WEIGHT : LEAF_HH_BIAS;
        return 2;
    }
    if (l >= LEAF_IH_WEIGHT_0)
        side[0] = (enum leaf)(LEAF_IH_WEIGHT + (l - LEAF_IH_WEIGHT_0) / GATES_MAX);
    return 1;
}

struct str rules_name(struct arena *a, const char *collection, struct str path, const char *leaf)
{
    bool c = collection && *collection, l = leaf && *leaf;
    const char *in = l ? strstr(leaf, "{l}") : NULL;
    if (in) {
        size_t at = path.n;
        while (at > 0 && path.p[at - 1] != '.')
            at--;
        return arena_fmt(a, "%s%s%.*s%.*s%.*s%s", c ? collection : "", c ? "." : "",
                         STR_ARG(str_sub(path, 0, at)), (int)(in - leaf), leaf,
                         STR_ARG(str_sub(path, at, path.n)), in + 3);
    }
    return arena_fmt(a, "%s%s%.*s%s%s", c ? collection : "", c && (path.n || l) ? "." : "",
                     STR_ARG(path), path.n && l ? "." : "", l ? leaf : "");
}

enum status rules_spell(struct arena *a, const struct spelling_rules *r, const char *collection,
                        struct str path, const char *leaf, struct str *out, struct err *e)
{
    *out = rules_name(a, r->join ? "" : collection, path, leaf);
    if (!out->p)
        return err_nomem(e, path.n);
    if (!r->join)
        return ST_OK;
    struct str name = *out;
    if (str_find(path, r->join, 0) < path.n) {
        enum status st = err_set(e, ST_CANNOT, "name-not-spelled",
                                 "a module of the target cannot have '%c' in its name", r->join);
        err_in(e, path.p, path.n);
        return st;
    }
    char *w = (char *)(uintptr_t)name.p, *last = NULL;
    for (size_t i = 0; i < name.n; i++) {
        if (w[i] == '\\' && i + 1 < name.n) {
            i++; /* an escaped byte of a segment */
        } else if (w[i] == '.') {
            if (last)
                *last = r->join;
            last = &w[i];
        }
    }
    if (!last)
        name = arena_fmt(a, "%s.%.*s", r->top, STR_ARG(name));
    if (name.p && collection && *collection)
        name = arena_fmt(a, "%s.%.*s", collection, STR_ARG(name));
    *out = name;
    return name.p ? ST_OK : err_nomem(e, path.n);
}

/* Buffers that are recomputed, counters and masks: B.10 of the reference of layouts. */
static const char *const harmless[] = {
    "*num_batches_tracked",
    "*/mean_ema.hidden",
    "*/mean_ema.counter",
    "*/var_ema.hidden",
    "*/var_ema.counter",
    "*mean_hidden",
    "*mean_count",
    "*var_hidden",
    "*var_count",
    "*.ema_first_time_index",
    "*.batch_counter",
    "*.first_time",
    "*.updates",
    "*position_ids",
    "*.attn.masked_bias",
    "*rotary_emb.inv_freq",
    "*embed_positions._float_tensor",
    "*decoder.version",
    "save_counter",
};

bool rules_harmless_drop(struct str name)
{
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (str_glob(str_from(harmless[i]), name))
            return true;
    return false;
}
