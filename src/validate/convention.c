/* Reading forms: letters against shapes. */
#include "validate/convention.h"

#include <string.h>

#define CONVENTION(name) extern const struct convention name##_convention;
#include "validate/list.h"
#undef CONVENTION
#define CONVENTION(name) &name##_convention,
static const struct convention *const conventions[] = {
#include "validate/list.h"
};
#undef CONVENTION

const struct convention *convention_find(const char *framework)
{
    for (size_t i = 0; framework && i < sizeof conventions / sizeof conventions[0]; i++)
        if (strcmp(conventions[i]->name, framework) == 0)
            return conventions[i];
    return NULL;
}

uint64_t operand_extent(const struct operand *o, char letter)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->ax[i].letter == letter)
            return o->ax[i].extent;
    return 1;
}

static bool when_fits(unsigned when, const struct layer *l)
{
    switch (when) {
    case WHEN_FLIP:
        return l->flip;
    case WHEN_NO_FLIP:
        return !l->flip;
    case WHEN_DEPTH:
        return l->depth_c != 0;
    case WHEN_ANY:
        return true;
    default:
        return when - WHEN_FORM == l->form;
    }
}

static const struct form *find_form(const struct convention *c, const struct layer *l,
                                    enum leaf slot)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct form *f = &c->form[i];
        if (f->kind == l->kind && f->slot == slot && (f->rank == 0 || f->rank == l->rank) &&
            l->tensor[f->from] >= 0 && when_fits(f->when, l))
            return f;
    }
    return NULL;
}

/* Is the slot one that the layer holds under any form? Then a missing form is our gap. */
static bool holds_leaf(const struct layer *l, enum leaf slot)
{
    return l->tensor[slot] >= 0;
}

static bool shared_letter(char c)
{
    return c == 'H' || c == 'C' || c == 'S' || c == 'G' || c == 'B' || c == 'u';
}

/* Gives the letters ax[lo, hi), which make up one stored axis of this extent, their extents. */
static enum status solve_group(struct operand *o, size_t lo, size_t hi, uint64_t dim,
                               struct facts *f, char *open, struct err *e)
{
    uint64_t product = 1;
    size_t unknown = hi;
    for (size_t i = lo; i < hi; i++) {
        char c = o->ax[i].letter;
        uint64_t known = c == 'P' ? 3 : shared_letter(c) && hi - lo > 1 ? f->of[(int)c] : 0;
        if (hi - lo == 1) /* alone, the shape says it */
            known = dim;
        if (known == 0) {
            if (unknown != hi) {
                *open = o->ax[unknown].letter;
                return ST_NO;
            }
            unknown = i;
            continue;
        }
        o->ax[i].extent = known;
        if (__builtin_mul_overflow(product, known, &product))
            product = 0;
        if (product == 0)
            break;
    }
    if (unknown < hi && product != 0 && dim % product == 0) {
        o->ax[unknown].extent = dim / product;
        product = dim;
    }
    if (product != dim)
        return err_set(e, ST_CANNOT, "layer-shape", "an axis of %llu does not divide as %c needs",
                       (unsigned long long)dim, o->ax[lo].letter);
    return ST_OK;
}

/* Reads a tensor's shape as the letters say. */
static enum status read_axes(const char *axes, enum leaf from, const struct layer *l,
                             const struct plan *p, struct facts *f, struct operand *o, char *open,
                             struct err *e)
{
    const struct tensor *t = &p->dst.tensor[l->tensor[from]];
    size_t dim = 0, lo = 0;
    bool inside = false, flip = false, alone = false;
    o->plus = *axes == '+';
    axes += o->plus;
    for (const char *s = axes; *s; s++) {
        if (*s == ' ')
            continue;
        if (*s == '-') {
            flip = true;
            continue;
        }
        if (*s == '(') {
            inside = true;
            lo = o->n;
            continue;
        }
        if (*s != ')') {
            if (!inside)
                lo = o->n;
            o->ax[o->n].letter = *s;
            o->ax[o->n].flip = flip;
            o->n++;
            flip = false;
            if (inside)
                continue;
        }
        inside = false;
        /* A norm over several axes holds them all as one. */
        alone = axes[0] == '(' && axes[strlen(axes) - 1] == ')' && strchr(axes + 1, '(') == NULL;
        uint64_t extent = dim < t->n_dims ? t->dim[dim] : 1;
        if (alone && t->n_dims > 1 && l->kind == LAYER_LAYERNORM) {
            extent = tensor_elems(t);
            dim = t->n_dims - 1u;
        } else if (dim >= t->n_dims)
            return err_set(e, ST_CANNOT, "layer-shape", "%s has %u axes, \"%s\" has more",
                           leaf_name(from), t->n_dims, axes);
        dim++;
        if (s[0] != ')' && s[1] == '*') { /* and the next stored axis */
            if (dim == t->n_dims || __builtin_mul_overflow(extent, t->dim[dim], &extent))
                return err_set(e, ST_CANNOT, "layer-shape", "%s has %u axes, \"%s\" has more",
                               leaf_name(from), t->n_dims, axes);
            dim++;
            s++;
        }
        TRY(solve_group(o, lo, o->n, extent, f, open, e));
    }
    if (dim != t->n_dims)
        return err_set(e, ST_CANNOT, "layer-shape", "%s has %u axes, \"%s\" has %zu",
                       leaf_name(from), t->n_dims, axes, dim);
    return ST_OK;
}

/* Place of an axis of a linear layer over several in what is read, or given; -1 = in neither. A
 * flattened map's channels are its last axis, and its outermost inputs. */
static int place_of(const struct dense_axes *d, char c, bool flat, bool *out)
{
    const char *p = strchr(d->in, c), *q = strchr(d->out, c);
    size_t n = strlen(d->in);
    *out = !p && q;
    if (p)
        return (int)(flat && n > 1 ? ((size_t)(p - d->in) + 1) % n : (size_t)(p - d->in));
    return q ? (int)(q - d->out) : -1;
}

/* Letters for runs of axes, by the place of each one's first axis. */
static bool name_runs(struct operand *o, const int *place, const bool *out)
{
    for (size_t i = 0; i < o->n; i++) {
        const char *letters = out[i] ? "OQ" : "CSXY";
        size_t before = 0;
        for (size_t k = 0; k < o->n; k++)
            before += out[k] == out[i] && place[k] < place[i];
        if (before >= strlen(letters))
            return false;
        o->ax[i].letter = letters[before];
    }
    return true;
}

/* The stored axes of a linear layer over several. */
static enum status read_dense(const char *axes, enum leaf from, const struct layer *l,
                              const struct plan *p, const struct facts *f, struct operand *o,
                              struct err *e)
{
    const struct tensor *t = &p->dst.tensor[l->tensor[from]];
    const struct dense_axes *d = l->dense;
    struct str stored[2] = {STR(""), STR("")};
    int place[2 * DENSE_SIDE], next = 0;
    bool out[2 * DENSE_SIDE], beside = false;
    if (d && *axes == '=')
        stored[0] = str_from(from == LEAF_BIAS ? d->bias : d->weight);
    else if (d) {
        stored[0] = str_from(*axes == 'C' ? d->in : "");
        stored[1] = str_from(d->out);
    }
    if (!d || stored[0].n + stored[1].n != t->n_dims)
        return err_set(e, ST_CANNOT, "layer-shape", "%s has %u axes, its layer %zu",
                       leaf_name(from), t->n_dims, stored[0].n + stored[1].n);
    for (size_t i = 0; i < t->n_dims; i++) {
        bool gives = false;
        char c = i < stored[0].n ? stored[0].p[i] : stored[1].p[i - stored[0].n];
        bool flat = f->of['C'] != 0;
        if (c == '1') {
            if (t->dim[i] != 1)
                return err_set(e, ST_CANNOT, "layer-shape", "axis %zu is not 1", i);
            continue;
        }
        int at = place_of(d, c, flat, &gives);
        bool map = flat && !gives && !d->in[1]; /* one axis of positions, then channels */
        if (at >= 0 && beside && at == next && out[o->n - 1] == gives) {
            o->ax[o->n - 1].extent *= t->dim[i]; /* of a tensor: no overflow */
        } else if (at < 0 || o->n + (size_t)map + 1 > OPERAND_AXES) {
            return err_set(e, ST_CANNOT, "layer-form", "%s has an axis of neither side",
                           leaf_name(from));
        } else if (map) {
            if (t->dim[i] % f->of['C'])
                return err_set(e, ST_CANNOT, "layer-shape", "an axis of %llu is no map",
                               (unsigned long long)t->dim[i]);
            for (int k = 0; k < 2; k++, o->n++) { /* places: channels 0, positions 1 */
                place[o->n] = 1 - k;
                out[o->n] = false;
                o->ax[o->n].extent = k ? f->of['C'] : t->dim[i] / f->of['C'];
            }
        } else {
            place[o->n] = at;
            out[o->n] = gives;
            o->ax[o->n++].extent = t->dim[i];
        }
        beside = !map;
        next = at + 1;
    }
    return name_runs(o, place, out)
               ? ST_OK
               : err_set(e, ST_CANNOT, "layer-form", "%s has its axes in more runs than can be run",
                         leaf_name(from));
}

enum status convention_operand(const struct convention *c, const struct layer *l,
                               const struct plan *p, enum leaf slot, struct facts *f,
                               struct operand *o, char *open, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->tensor = -1;
    *open = 0;
    const struct form *form = find_form(c, l, slot);
    if (!form) {
        if (holds_leaf(l, slot))
            return err_set(e, ST_CANNOT, "layer-form", "no convention of %s for %s of a %s layer",
                           c->name, leaf_name(slot), layer_kind_name(l->kind));
        return ST_OK;
    }
    if (form->kind == LAYER_LINEAR && (strchr(form->axes, '=') || strstr(form->axes, "O+"))) {
        TRY(read_dense(form->axes, form->from, l, p, f, o, e));
        o->tensor = l->tensor[form->from];
        return ST_OK;
    }
    TRY(read_axes(form->axes, form->from, l, p, f, o, open, e));
    for (size_t i = 0; i < o->n; i++)
        if ((o->ax[i].letter == 'H' || o->ax[i].letter == 'u') && f->of[(int)o->ax[i].letter] == 0)
            f->of[(int)o->ax[i].letter] = o->ax[i].extent;
    if (o->n > 0 && o->ax[0].letter == 'P') { /* take one part; P is always outermost */
        uint64_t part = 1;
        for (size_t i = 1; i < o->n; i++)
            part *= o->ax[i].extent;
        o->base = part * form->part;
        for (size_t i = 1; i < o->n; i++)
            o->ax[i - 1] = o->ax[i];
        o->n--;
    }
    o->tensor = l->tensor[form->from];
    return ST_OK;
}

const char *convention_gates(const struct convention *c, enum layer_kind kind, enum leaf from)
{
    for (size_t i = 0; i < c->n_cells; i++)
        if (c->cell[i].kind == kind && c->cell[i].from == from)
            return c->cell[i].gates;
    return NULL;
}

/* Stored axes of a cell's form. */
static size_t axes_of(const char *axes)
{
    size_t n = 0;
    bool inside = false;
    for (; *axes; axes++) {
        n += *axes == '(' || (!inside && *axes != ' ' && *axes != ')');
        inside = *axes == '(' || (inside && *axes != ')');
    }
    return n;
}

enum status convention_cell(const struct convention *c, const struct layer *l, const struct plan *p,
                            enum leaf from, struct operand *o, const char **gates, struct err *e)
{
    struct facts f = {{0}};
    char open = 0;
    memset(o, 0, sizeof *o);
    o->tensor = -1;
    for (size_t i = 0; i < c->n_cells; i++) {
        const struct cell_form *x = &c->cell[i], *next = i + 1 < c->n_cells ? x + 1 : NULL;
        if (x->kind != l->kind || x->from != from)
            continue;
        if (next && next->kind == x->kind && next->from == from && /* of another rank */
            axes_of(x->axes) != p->dst.tensor[l->tensor[from]].n_dims)
            continue;
        for (const char *g = x->gates; *g; g++)
            f.of['G'] += *g != '-' && *g != '+';
        f.of['B'] = 2;
        *gates = x->gates;
        TRY(read_axes(x->axes, from, l, p, &f, o, &open, e));
        o->tensor = l->tensor[from];
        return ST_OK;
    }
    return err_set(e, ST_CANNOT, "layer-form", "no convention of %s for %s of a %s layer", c->name,
                   leaf_name(from), layer_kind_name(l->kind));
}
