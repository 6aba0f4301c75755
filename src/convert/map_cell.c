/* One recurrent cell from the source's spelling to the target's. Every tensor of the source is cut
 * into atoms, one gate of one side; a tensor of the target is a row (or, where it joins both sides,
 * two) of gates, each an atom, a sum of two biases, or a number. Neighbours that stay neighbours
 * are taken in one piece. Which gates, in which order, with which signs: the tables say it.
 */
#include "base/checked.h"
#include "convert/map_int.h"
#include "convert/run.h"
#include "framework/recognise.h"
#include <string.h>

enum { SIDES = LEAF_HR_WEIGHT - LEAF_IH_WEIGHT + 1 };
struct atom {
    bool have, used;
    bool held;     /* by a tensor: the rest says where */
    int8_t number; /* added to it; or, where no tensor holds it, all there is */
    uint32_t src;
    uint8_t gate_axis, n_cuts; /* gate_axis: which cut is the gate's; n_cuts 0 where it is whole */
    struct cut cut[CUTS];
    uint64_t n_gates; /* of the tensor: all of them make it whole */
    bool other_cut;   /* one side of a joined tensor */
    const char *axes; /* layout of what the cuts leave */
    bool minus;       /* stored with the other sign */
};
struct cell {
    struct mapping *m;
    const struct layer *l; /* the source's */
    const struct layer *t; /* the skeleton's, or NULL */
    struct skeleton *sk;
    uint8_t variant;
    const char *gates; /* of the kind */
    size_t n_gates;
    struct axes_size size;
    struct atom atom[SIDES][GATES_MAX];
    uint32_t like; /* a tensor of the cell: element type and role of what is made up */
};

static bool holds(const char *letters, char c)
{
    return letters && c && strchr(letters, c);
}

static size_t gate_at(const struct cell *c, char letter)
{
    const char *p = letter ? strchr(c->gates, letter) : NULL;
    return p ? (size_t)(p - c->gates) : GATES_MAX;
}

/* ---- layouts ---- */

/* A rule's layout for one side, with the gates cut off. joined, gates: the axes of J and G, -1
 * where there is none. */
static enum status side_axes(const struct cell *cell, const struct cell_rule *r, enum leaf side,
                             const char **out, int *joined, int *gates, struct err *e)
{
    char text[AXES_TEXT], whole[AXES_TEXT];
    size_t n = 0;
    struct axes x;
    *joined = *gates = -1;
    TRY(rules_cell_axes(r, cell->l->rank, whole, e));
    TRY(axes_parse(str_from(whole), &x, e));
    for (size_t k = 0; k < x.n; k++) {
        char c = x.at[k].letter;
        size_t in_axis = 0;
        for (size_t j = 0; j < x.n; j++)
            in_axis += x.at[j].dim == x.at[k].dim;
        if (c == 'G') {
            *gates = x.at[k].dim;
            continue;
        }
        if (c == 'J') {
            *joined = x.at[k].dim;
            c = side == LEAF_IH_WEIGHT ? 'I' : side == LEAF_HH_WEIGHT ? 'R' : '1';
            if (in_axis > 1)
                continue;
        }
        if (n + 3 > sizeof text)
            return err_set(e, ST_BUG, "rule-too-long", "layout %s", r->axes);
        if (n)
            text[n++] = ' ';
        text[n++] = c;
    }
    text[n] = 0;
    *out = map_axes(cell->m, text);
    return *out ? ST_OK : err_nomem(e, sizeof text);
}

static enum status canonical_axes(const struct cell *c, enum leaf side, const char **out,
                                  struct err *e)
{
    struct mapping *m = c->m;
    if (c->l->kind == LAYER_CONV_LSTM && (side == LEAF_IH_WEIGHT || side == LEAF_HH_WEIGHT)) {
        struct cell_rule whole = {.axes = side == LEAF_IH_WEIGHT ? "O I *" : "O R *"};
        char text[AXES_TEXT];
        TRY(rules_cell_axes(&whole, c->l->rank, text, e));
        *out = map_axes(m, text);
        return *out ? ST_OK : err_nomem(e, sizeof text);
    }
    *out = map_axes(m, side == LEAF_IH_WEIGHT   ? "O I"
                       : side == LEAF_HH_WEIGHT ? "O R"
                       : side == LEAF_HR_WEIGHT ? "R O"
                                                : "O");
    return *out ? ST_OK : err_nomem(e, AXES_TEXT);
}

static uint64_t extent(const struct cell *c, char letter)
{
    return letter == '1' ? 1 : c->size.of[(unsigned char)letter];
}

/* ---- what the source has ---- */

static enum status atoms_of(struct cell *c, const struct cell_rule *r, uint32_t src, struct err *e)
{
    enum leaf side[2];
    size_t n_sides = leaf_sides(r->leaf, side), n = *r->gates ? strlen(r->gates) : 1;
    uint64_t o = c->size.of['O'], at = 0;
    for (size_t s = 0; s < n_sides; s++) {
        int joined, gates;
        const char *axes;
        TRY(side_axes(c, r, side[s], &axes, &joined, &gates, e));
        bool one_axis = joined >= 0 && joined == gates;
        uint64_t width = side[s] == LEAF_IH_WEIGHT   ? c->size.of['I']
                         : side[s] == LEAF_HH_WEIGHT ? c->size.of['R']
                                                     : 1;
        for (size_t g = 0; g < n; g++) {
            size_t of = *r->gates ? gate_at(c, r->gates[g]) : 0;
            if (of == GATES_MAX)
                return err_set(e, ST_BUG, "no-gate", "no gate %c in %s", r->gates[g],
                               layer_kind_name(r->kind));
            struct atom *a = &c->atom[side[s] - LEAF_IH_WEIGHT][of];
            *a = (struct atom){.have = true,
                               .held = true,
                               .number = a->number,
                               .src = src,
                               .axes = axes,
                               .n_gates = n,
                               .other_cut = joined >= 0,
                               .minus = holds(r->minus, r->gates[g])};
            if (joined >= 0 && !one_axis)
                a->cut[a->n_cuts++] = (struct cut){(uint8_t)joined, at, at + width};
            if (gates >= 0) {
                uint64_t lo = ((one_axis ? s * n : 0) + g) * o;
                a->gate_axis = a->n_cuts;
                a->cut[a->n_cuts++] = (struct cut){(uint8_t)gates, lo, lo + o};
            } else {
                a->gate_axis = CUTS;
            }
        }
        at += width;
    }
    return ST_OK;
}

/* What the source's framework adds when it runs is kept beside the state's bias, where no sum
 * rounds it. */
static void numbers_of(struct cell *c, const struct cell_rule *r)
{
    for (const char *p = r->plus; p && *p; p++) {
        size_t of = gate_at(c, *p);
        if (of == GATES_MAX)
            continue;
        struct atom *a = &c->atom[LEAF_HH_BIAS - LEAF_IH_WEIGHT][of];
        if (!a->have)
            a->src = c->like;
        a->have = true;
        a->number++;
    }
}

/* ---- pieces of a target tensor ---- */

struct gate_run {
    struct atom *a, *b; /* values; both: their sum. NULL: none */
    struct atom *twin;  /* of a number: the bias that holds the sum */
    int number;         /* added; alone, a fill */
    bool minus;         /* the target stores the other sign */
    enum leaf side;
    size_t gate, n; /* place in the target's order, and how many */
};

static struct atom *real(struct atom *a)
{
    return a->have && a->held ? a : NULL;
}

/* The bias that holds the sum of both, for the other one. Of the new gate of a GRU that resets
 * after its weights, the recurrent bias is another thing. */
static struct atom *sum_of(struct cell *c, enum leaf side, size_t gate)
{
    if ((side != LEAF_IH_BIAS && side != LEAF_HH_BIAS) ||
        (c->l->kind == LAYER_GRU && c->gates[gate] == 'n'))
        return NULL;
    return real(
        &c->atom[(side == LEAF_HH_BIAS ? LEAF_IH_BIAS : LEAF_HH_BIAS) - LEAF_IH_WEIGHT][gate]);
}

/* The atoms of gate g of a rule; *other: the second bias of a sum, or NULL. */
static struct atom *atom_at(struct cell *c, const struct cell_rule *r, enum leaf side, size_t g,
                            struct atom **other)
{
    char letter = *r->gates ? r->gates[g] : 0;
    size_t of = letter ? gate_at(c, letter) : 0;
    *other = NULL;
    if (of == GATES_MAX)
        return NULL;
    if (holds(r->sums, letter))
        *other =
            &c->atom[(side == LEAF_IH_BIAS ? LEAF_HH_BIAS : LEAF_IH_BIAS) - LEAF_IH_WEIGHT][of];
    return &c->atom[side - LEAF_IH_WEIGHT][of];
}

/* What is added to what a rule's tensor holds: the source's numbers, less what the target adds. */
static int number_of(const struct cell_rule *r, size_t g, const struct atom *own,
                     const struct atom *other)
{
    return own->number + (other ? other->number : 0) - holds(r->plus, *r->gates ? r->gates[g] : 0);
}

static enum status piece_of(struct cell *c, const struct cell_rule *r, enum leaf side, size_t g,
                            struct gate_run *p, struct err *e)
{
    char letter = *r->gates ? r->gates[g] : 0;
    size_t of = letter ? gate_at(c, letter) : 0;
    if (of == GATES_MAX)
        return err_set(e, ST_BUG, "no-gate", "no gate %c in %s", letter, layer_kind_name(r->kind));
    struct atom *other, *own = atom_at(c, r, side, g, &other);
    own->used = true;
    *p = (struct gate_run){.a = real(own),
                           .number = number_of(r, g, own, other),
                           .minus = holds(r->minus, letter),
                           .side = side,
                           .gate = g,
                           .n = 1};
    if (other) {
        other->used = true;
        p->b = real(other);
        if (!p->a) {
            p->a = p->b;
            p->b = NULL;
        }
    }
    if (p->b && p->a->minus != p->b->minus)
        return err_set(e, ST_CANNOT, "value-sign", "two biases of other signs have no sum here");
    if (p->a)
        p->minus = p->minus != p->a->minus;
    else
        p->twin = sum_of(c, side, of);
    return ST_OK;
}

/* Does atom b follow a in one tensor? */
static bool follows(const struct atom *a, const struct atom *b, size_t n)
{
    if (!a || !b)
        return a == b;
    if (a->src != b->src || a->axes != b->axes || a->gate_axis != b->gate_axis ||
        a->gate_axis == CUTS || a->n_cuts != b->n_cuts || a->minus != b->minus)
        return false;
    uint64_t o = a->cut[a->gate_axis].hi - a->cut[a->gate_axis].lo;
    return b->cut[b->gate_axis].lo == a->cut[a->gate_axis].lo + n * o;
}

static bool joins(const struct gate_run *p, const struct gate_run *q)
{
    return p->side == q->side && p->number == q->number && p->minus == q->minus &&
           follows(p->a, q->a, p->n) && follows(p->b, q->b, p->n) &&
           follows(p->twin, q->twin, p->n);
}

static void cut_take(const struct atom *a, size_t n, struct take *k)
{
    k->src = a->src;
    k->src_axes = a->axes;
    k->n_cuts = a->n_cuts;
    memcpy(k->cut, a->cut, sizeof k->cut);
    if (a->gate_axis < CUTS) {
        struct cut *g = &k->cut[a->gate_axis];
        g->hi = g->lo + n * (g->hi - g->lo);
        if (n == a->n_gates && !a->other_cut) /* the whole tensor */
            k->n_cuts = 0;
    }
}

static enum status fill_take(struct cell *c, const struct gate_run *p, const char *dst_axes,
                             struct take *k, struct err *e)
{
    uint64_t dim[VIEW_MAX_AXES], *kept;
    struct axes x;
    TRY(axes_parse(str_from(dst_axes), &x, e));
    for (size_t d = 0; d < x.n; d++)
        dim[d] = extent(c, x.at[d].letter) * (x.at[d].letter == 'O' ? p->n : 1);
    kept = ARENA_ARRAY(c->m->tmp, uint64_t, x.n + 1u);
    if (!kept)
        return err_nomem(e, sizeof dim);
    memcpy(kept, dim, x.n * sizeof *dim);
    if (p->twin) /* its moments are the sum's */
        cut_take(p->twin, p->n, k);
    k->src = p->twin ? p->twin->src : c->like;
    k->twin = p->twin != NULL;
    k->zero = k->harmless = true;
    k->fill = (int8_t)p->number;
    k->fill_dim = kept;
    k->n_fill_dims = x.n;
    return ST_OK;
}

static enum status place(struct cell *c, const struct cell_rule *r, size_t s,
                         const struct gate_run *p, struct take *k, struct err *e)
{
    int joined, gates;
    const char *can_axes;
    TRY(side_axes(c, r, p->side, &k->dst_axes, &joined, &gates, e));
    TRY(canonical_axes(c, p->side, &can_axes, e));
    const char *dst_axes = k->dst_axes;
    if (p->a) {
        /* where a number is added too, it goes to the second bias first: 1 - 1 leaves the other */
        cut_take(p->b ? p->b : p->a, p->n, k);
        k->neg = p->minus;
        k->offset = (int8_t)p->number;
        if (p->b) {
            struct take *plus = ARENA_NEW(c->m->tmp, struct take);
            if (!plus)
                return err_nomem(e, sizeof *plus);
            cut_take(p->a, p->n, plus);
            plus->can_axes = can_axes;
            plus->dst_axes = dst_axes;
            k->plus = plus;
        }
    } else {
        TRY(fill_take(c, p, dst_axes, k, e));
    }
    k->can_axes = can_axes;
    k->dst_axes = dst_axes;
    k->placed = true;
    size_t n = *r->gates ? strlen(r->gates) : 1;
    uint64_t at = 0;
    if (s > 0)
        at = p->side == LEAF_HH_WEIGHT ? c->size.of['I'] : 1;
    if (joined >= 0 && joined != gates && at)
        k->at[k->n_at++] = (struct cut){(uint8_t)joined, at, 0};
    uint64_t lo = ((joined >= 0 && joined == gates ? s * n : 0) + p->gate) * c->size.of['O'];
    if (gates >= 0 && lo)
        k->at[k->n_at++] = (struct cut){(uint8_t)gates, lo, 0};
    return ST_OK;
}

/* ---- one target tensor ---- */

static void say(struct buf *b, const struct cell *c, const struct cell_rule *r,
                const struct gate_run *p)
{
    buf_fmt(b, " %.*s:", (int)p->n, *r->gates ? r->gates + p->gate : "");
    if (p->a)
        buf_fmt(b, "%s%.*s", p->minus ? "-" : "", STR_ARG(c->m->src->tensor[p->a->src].name));
    if (p->b)
        buf_fmt(b, " + %.*s (sum of biases)", STR_ARG(c->m->src->tensor[p->b->src].name));
    if (p->number || !p->a)
        buf_fmt(b, p->a ? " %+d" : "%d", p->number);
    if (p->a && p->minus)
        buf_z(b, " (sign changed)");
}

static enum status emit(struct cell *c, const struct cell_rule *r, struct str name, struct err *e)
{
    struct gate_run piece[2 * GATES_MAX];
    enum leaf side[2];
    size_t n_sides = leaf_sides(r->leaf, side), n = *r->gates ? strlen(r->gates) : 1, n_pieces = 0;
    struct made *d;
    for (size_t s = 0; s < n_sides; s++)
        for (size_t g = 0; g < n; g++) {
            struct gate_run *p = &piece[n_pieces];
            TRY(piece_of(c, r, side[s], g, p, e));
            if (n_pieces && joins(p - 1, p))
                p[-1].n++;
            else
                n_pieces++;
        }
    TRY(map_made(c->m, n_pieces, &d, e));
    d->name = name;
    d->role = ROLE_PARAMETER;
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    for (size_t i = 0; i < n_pieces && st == ST_OK; i++) {
        st = place(c, r, piece[i].side != side[0], &piece[i], &d->take[i], e);
        say(&b, c, r, &piece[i]);
    }
    if (st == ST_OK)
        st = buf_ok(&b, e);
    char axes[AXES_TEXT];
    if (st == ST_OK)
        st = rules_cell_axes(r, c->l->rank, axes, e);
    if (st == ST_OK) {
        d->why = arena_fmt(c->m->tmp, "%s [%s]%.*s (%.*s)", layer_kind_name(r->kind), axes,
                           (int)b.n, (const char *)b.p, STR_ARG(c->l->reason));
        st = d->why.p ? ST_OK : err_nomem(e, b.n);
    }
    buf_free(&b);
    return st;
}

/* Is there a value for any gate of a rule, in the source or as a number? */
static bool has_value(struct cell *c, const struct cell_rule *r)
{
    enum leaf side[2];
    size_t n_sides = leaf_sides(r->leaf, side), n = *r->gates ? strlen(r->gates) : 1;
    for (size_t s = 0; s < n_sides; s++)
        for (size_t g = 0; g < n; g++) {
            struct atom *other, *own = atom_at(c, r, side[s], g, &other);
            if (own && (own->held || (other && other->held) || number_of(r, g, own, other)))
                return true;
        }
    return false;
}

/* Has the target's cell a bias that is not nothing? */
static bool has_bias(struct cell *c)
{
    const struct cell_rule *r;
    for (size_t i = 0; (r = rules_cell(c->m->to->rules, c->l->kind, c->variant, i)) != NULL; i++) {
        enum leaf side[2];
        (void)leaf_sides(r->leaf, side);
        if ((side[0] == LEAF_IH_BIAS || side[0] == LEAF_HH_BIAS) && has_value(c, r))
            return true;
    }
    return false;
}

/* A bias that the target's cell goes without: what it adds when it runs must be what the source's
 * adds. What else is lost is told by left_over. */
static enum status goes_without(struct cell *c, const struct cell_rule *r, struct err *e)
{
    enum leaf side[2];
    size_t n_sides = leaf_sides(r->leaf, side), n = *r->gates ? strlen(r->gates) : 1;
    for (size_t s = 0; s < n_sides; s++)
        for (size_t g = 0; g < n; g++) {
            struct atom *other, *own = atom_at(c, r, side[s], g, &other);
            if (!own || own->held || (other && other->held))
                continue;
            int number = number_of(r, g, own, other);
            if (number)
                return err_set(e, ST_CANNOT, "value-missing",
                               "its cell has no bias of gate %c to hold %d in", r->gates[g],
                               number);
            own->used = true;
            if (other)
                other->used = true;
        }
    return ST_OK;
}

/* ---- the layer ---- */

#define LOOK_MAX 65536
/* A bias that is zero everywhere adds nothing, and may be left behind. These few numbers are the
 * only ones that mapping looks at. */
static enum status is_zero(const struct cell *c, const struct atom *a, bool *zero, struct err *e)
{
    struct plan one;
    struct view v;
    struct tensor *t;
    double *value = NULL;
    *zero = false;
    plan_init(&one, c->m->src);
    view_load(&v, c->m->src->tensor[a->src].view);
    enum status st = ST_OK;
    for (size_t i = 0; i < a->n_cuts && st == ST_OK; i++)
        st = view_slice(&v, a->cut[i].axis, a->cut[i].lo, a->cut[i].hi, e);
    uint64_t n = st == ST_OK ? view_elems(&v) : 0;
    if (n > 0 && n <= LOOK_MAX && dtype_info(c->m->src->tensor[a->src].dtype)->kind == DK_FLOAT) {
        st = model_tensor_add(&one.dst, &t, e);
        struct part *q = ARENA_NEW(&one.dst.arena, struct part);
        one.recipe = ARENA_NEW(&one.dst.arena, struct recipe);
        value = ARENA_ARRAY(&one.dst.arena, double, n);
        if (st == ST_OK && (!q || !one.recipe || !value))
            st = err_nomem(e, n * sizeof *value);
        if (st == ST_OK) {
            t->dtype = c->m->src->tensor[a->src].dtype;
            q->src = a->src;
            *one.recipe = (struct recipe){q, 1};
            st = part_set_view(q, &one.dst.arena, &v, e);
        }
        if (st == ST_OK)
            st = plan_shape(&one, t, q->view, e);
        struct run_cost cost = {0};
        if (st == ST_OK)
            st = run_cost(&one, NULL, &cost, e);
        if (st == ST_OK)
            st = run_read(&one, 0, 0, n, DT_F64, value, e);
        c->m->p->n_looked += cost.n_decodes - c->m->src->n_decoded;
        *zero = st == ST_OK;
        for (uint64_t i = 0; i < n && *zero; i++)
            *zero = value[i] == 0;
    }
    plan_free(&one);
    return st;
}

/* What no tensor of the target took. */
static enum status left_over(struct cell *c, struct err *e)
{
    for (size_t s = 0; s < SIDES; s++)
        for (size_t g = 0; g < GATES_MAX; g++) {
            const struct atom *a = &c->atom[s][g];
            if (!a->have || a->used)
                continue;
            const char *side = s == LEAF_HH_BIAS - LEAF_IH_WEIGHT   ? "recurrent bias of gate"
                               : s == LEAF_IH_BIAS - LEAF_IH_WEIGHT ? "bias of gate"
                                                                    : "weight of gate";
            const char *to = c->m->to->name, *kind = layer_kind_name(c->l->kind);
            struct str why =
                s == LEAF_HR_WEIGHT - LEAF_IH_WEIGHT
                    ? arena_fmt(c->m->a, "%s's %s does not project its state", to, kind)
                    : arena_fmt(c->m->a, "%s's %s has no %s %c", to, kind, side, c->gates[g]);
            if (!why.p)
                return err_nomem(e, 128);
            bool bias = s == LEAF_HH_BIAS - LEAF_IH_WEIGHT || s == LEAF_IH_BIAS - LEAF_IH_WEIGHT;
            bool zero = false;
            if (bias && a->held && !a->number)
                TRY(is_zero(c, a, &zero, e));
            if (!a->held)
                return err_set(e, ST_CANNOT, "value-missing", "%.*s", STR_ARG(why));
            TRY(map_left(c->m, a->src, zero ? "zeros: they add nothing" : why.p, zero, e));
        }
    return ST_OK;
}

static enum status no_spelling(const struct cell *c, struct err *e)
{
    const char *kind = layer_kind_name(c->l->kind);
    enum status st =
        c->l->kind == LAYER_GRU_BEFORE
            ? err_set(e, ST_CANNOT, "cell-unlike",
                      "%s has no GRU that resets the state before its weights (%s), and none of "
                      "its cells computes the same",
                      c->m->to->name, kind)
            : err_set(e, ST_CANNOT, "cell-unlike", "%s has no cell of kind %s", c->m->to->name,
                      kind);
    err_in(e, c->l->path.p, c->l->path.n);
    return st;
}

enum status map_cell(struct mapping *m, const struct layer *l, struct skeleton *sk,
                     const struct layer *t, struct err *e)
{
    struct cell *c = ARENA_NEW(m->tmp, struct cell);
    const struct cell_rule *r;
    if (!c)
        return err_nomem(e, sizeof *c);
    *c = (struct cell){.m = m, .l = l, .t = t, .sk = sk, .gates = cell_gates(l->kind)};
    c->n_gates = strlen(c->gates);
    if (!cell_learn(m->src, m->from->rules, l, l->kind, &c->size)) {
        enum status st = err_set(e, ST_CANNOT, "cell-shape", "its tensors do not make up a %s",
                                 layer_kind_name(l->kind));
        err_in(e, l->path.p, l->path.n);
        return st;
    }
    for (size_t i = 0; (r = rules_cell(m->from->rules, l->kind, l->variant, i)) != NULL; i++)
        if (l->tensor[r->leaf] >= 0) {
            c->like = (uint32_t)l->tensor[r->leaf];
            TRY(atoms_of(c, r, c->like, e));
        }
    for (size_t i = 0; (r = rules_cell(m->from->rules, l->kind, l->variant, i)) != NULL; i++)
        numbers_of(c, r);
    struct str path = t ? t->path : l->path;
    if (!t)
        TRY(map_path_of(m, l->path, &path, e));
    if (!path.p)
        return no_spelling(c, e);
    c->variant = t ? t->variant : 0;
    if (!t && !rules_cell_variant(m->to->rules, l->kind, path, &c->variant))
        return no_spelling(c, e);
    map_tell(m, path, l);
    bool biased = has_bias(c);
    for (size_t i = 0; (r = rules_cell(m->to->rules, l->kind, c->variant, i)) != NULL; i++) {
        bool value = has_value(c, r);
        bool want = t ? t->tensor[r->leaf] >= 0
                      : value || r->when == CELL_ALWAYS || (r->when == CELL_IF_BIASED && biased);
        enum leaf side[2];
        (void)leaf_sides(r->leaf, side);
        if (!want) {
            TRY(goes_without(c, r, e));
            continue;
        }
        if (!value && side[0] != LEAF_IH_BIAS && side[0] != LEAF_HH_BIAS)
            return err_set(e, ST_CANNOT, "leaf-missing", "the source has nothing for %s of %.*s",
                           r->name, STR_ARG(path));
        struct str name;
        if (t) {
            name = sk->m->tensor[t->tensor[r->leaf]].name;
            sk->filled[t->tensor[r->leaf]] = true;
        } else {
            TRY(rules_spell(m->a, m->to->rules, r->collection, path, r->name, &name, e));
        }
        TRY(emit(c, r, name, e));
    }
    return left_over(c, e);
}
