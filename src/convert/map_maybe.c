/* Cells whose tensors look like other layers' (Haiku's LSTM is one linear layer): what a rules file
 * says of them, what the other side has, and where nothing tells, a question or a note. Until then
 * they are the layers that they look like.
 */
#include "convert/map_int.h"
#include "convert/sigs.h"
#include "framework/recognise.h"
#include <string.h>

/* Per tensor: its layer + 1; 0 = none. */
static enum status owners(struct mapping *m, const struct layers *l, size_t n_tensors,
                          uint32_t **out, struct err *e)
{
    *out = ARENA_ARRAY(m->tmp, uint32_t, n_tensors + 1);
    if (!*out)
        return err_nomem(e, n_tensors * sizeof **out);
    for (size_t i = 0; i < l->n; i++)
        for (int k = 0; k < LEAF_N; k++)
            if (l->layer[i].tensor[k] >= 0)
                (*out)[l->layer[i].tensor[k]] = (uint32_t)i + 1;
    return ST_OK;
}

static bool owns(const struct layer *l, int64_t tensor)
{
    for (int k = 0; tensor >= 0 && k < LEAF_N; k++)
        if (l->tensor[k] == tensor)
            return true;
    return false;
}

/* The cell takes its tensors; layers that are left without any go. */
static void become(struct layers *l, size_t at)
{
    struct layer cell = l->maybe[at];
    size_t n = 0;
    l->maybe[at].kinds = 0; /* settled */
    for (size_t i = 0; i < l->n; i++) {
        struct layer *y = &l->layer[i];
        size_t left = 0;
        for (int k = 0; k < LEAF_N; k++) {
            if (owns(&cell, y->tensor[k]))
                y->tensor[k] = -1;
            left += y->tensor[k] >= 0;
        }
        if (left)
            l->layer[n++] = *y;
    }
    l->layer[n++] = cell; /* in the place of one that went */
    l->n = n;
}

static bool any_kinds(const struct mapping *m)
{
    for (size_t i = 0; i < m->rules.n; i++)
        if (m->rules.rule[i].what == RULE_KIND)
            return true;
    return false;
}

/* Is there a rule for a layer that the cell looks like? */
static bool layer_ruled(struct mapping *m, const struct layers *l, const struct layer *cell,
                        const uint32_t *owner)
{
    for (int k = 0; k < LEAF_N; k++) {
        uint32_t at = cell->tensor[k] >= 0 ? owner[cell->tensor[k]] : 0;
        if (at && map_rule_for(m, RULE_KIND, l->layer[at - 1].path))
            return true;
    }
    return false;
}

enum status map_maybe_ruled(struct mapping *m, const struct model *md, struct layers *l,
                            struct err *e)
{
    uint32_t *owner;
    if (!l->n_maybe || !any_kinds(m))
        return ST_OK;
    TRY(owners(m, l, md->n_tensors, &owner, e));
    for (size_t i = 0; i < l->n_maybe; i++) {
        const struct layer *x = &l->maybe[i];
        if (!x->kinds)
            continue;
        struct map_rule *r = map_rule_for(m, RULE_KIND, x->path);
        bool own = !r && layer_ruled(m, l, x, owner);
        if (r && !(x->kinds & KIND_BIT(r->kind)) && r->kind != LAYER_LINEAR)
            return err_set(e, ST_CANNOT, "map-kind",
                           "line %zu of the rules file: %.*s cannot be %s (%.*s)", r->line,
                           STR_ARG(x->path), layer_kind_name(r->kind), STR_ARG(x->reason));
        if (r && r->kind != LAYER_LINEAR) {
            l->maybe[i].reason = STR("by the rules file");
            become(l, i);
            TRY(owners(m, l, md->n_tensors, &owner, e));
        } else if (r || own) {
            l->maybe[i].kinds = 0;
        }
    }
    return ST_OK;
}

/* ---- what the other side has ---- */

/* The signatures of a side's layers under one kind. */
static enum status sigs_of(struct mapping *m, const struct model *md, const struct framework *f,
                           const struct layer *l, size_t n, enum layer_kind k, struct sigs *out,
                           struct err *e)
{
    TRY(sigs_room(out, n, m->tmp, e));
    for (size_t i = 0; i < n; i++)
        if ((l[i].kinds & KIND_BIT(k)) && map_signature(md, f->rules, &l[i], k, &out->v[out->n]))
            out->n++;
    sigs_sort(out);
    return ST_OK;
}

struct side {
    uint32_t *owner;
    const struct model *m;
    const struct framework *f;
    struct layers *l;
    struct sigs cell, plain, maybe; /* of the kind at hand; plain: dense layers */
};

static enum status learn(struct mapping *m, struct side *x, enum layer_kind k, struct err *e)
{
    TRY(owners(m, x->l, x->m->n_tensors, &x->owner, e));
    TRY(sigs_of(m, x->m, x->f, x->l->maybe, x->l->n_maybe, k, &x->maybe, e));
    TRY(sigs_of(m, x->m, x->f, x->l->layer, x->l->n, LAYER_LINEAR, &x->plain, e));
    return sigs_of(m, x->m, x->f, x->l->layer, x->l->n, k, &x->cell, e);
}

static enum status ask(struct mapping *m, const struct layer *x, struct err *e)
{
    struct str line = map_line(m, "kind ", x->path, " = ?");
    struct str text = arena_fmt(m->a, "%.*s: %.*s: %s, or linear?", STR_ARG(x->path),
                                STR_ARG(x->reason), layer_kind_name(x->kind));
    if (!line.p || !text.p)
        return err_nomem(e, x->path.n);
    map_ask(m, text.p, line);
    return ST_OK;
}

/* Does the other side lack a dense layer for each that the cell would take? */
static bool spare(const struct side *x, const struct side *y, const struct layer *cell)
{
    for (int k = 0; k < LEAF_N; k++) {
        uint32_t at = cell->tensor[k] >= 0 ? x->owner[cell->tensor[k]] : 0;
        uint64_t sig;
        if (at && (!map_signature(x->m, x->f->rules, &x->l->layer[at - 1], LAYER_LINEAR, &sig) ||
                   sigs_count(&y->plain, sig) >= sigs_count(&x->plain, sig)))
            return false;
    }
    return true;
}

/* Those of x that y has as cells: as many as y has more than x, and y's dense layers agree. */
static enum status meet(struct mapping *m, struct side *x, const struct side *y, enum layer_kind k,
                        struct err *e)
{
    for (size_t i = 0; i < x->l->n_maybe; i++) {
        const struct layer *c = &x->l->maybe[i];
        uint64_t sig;
        if (!c->kinds || c->kind != k || !map_signature(x->m, x->f->rules, c, k, &sig))
            continue;
        size_t theirs = sigs_count(&y->cell, sig), mine = sigs_count(&x->cell, sig);
        size_t want = theirs > mine ? theirs - mine : 0;
        if (want >= sigs_count(&x->maybe, sig) && spare(x, y, c)) {
            x->l->maybe[i].reason = STR("linear layers where the other side has a cell");
            become(x->l, i);
            TRY(owners(m, x->l, x->m->n_tensors, &x->owner, e));
        } else if (want) {
            TRY(ask(m, c, e));
        }
    }
    return ST_OK;
}

enum status map_maybe(struct mapping *m, struct skeleton *sk, struct err *e)
{
    struct side s = {.m = m->src, .f = m->from, .l = &m->sl};
    struct side t = {.m = sk->m, .f = m->to, .l = &sk->layers};
    TRY(map_maybe_ruled(m, t.m, t.l, e));
    for (enum layer_kind k = LAYER_LSTM; k <= LAYER_RNN && (s.l->n_maybe || t.l->n_maybe); k++) {
        TRY(learn(m, &s, k, e));
        TRY(learn(m, &t, k, e));
        TRY(meet(m, &s, &t, k, e));
        TRY(meet(m, &t, &s, k, e));
    }
    return ST_OK;
}

/* ---- no other side ---- */

static bool sounds_so(struct str path)
{
    static const char *const is[] = {"lstm", "rnn",    "recurrent", "cell",
                                     "core", "bilstm", "blstm",     "memory"};
    struct str up, seg;
    struct words w;
    name_tail(path, &up, &seg);
    if (path_in_stack(path))
        return true;
    words_of(seg, &w);
    for (size_t i = 0; i < w.n; i++)
        for (size_t k = 0; k < sizeof is / sizeof *is; k++)
            if (strcmp(w.word[i], is[k]) == 0)
                return true;
    return false;
}

enum status map_maybe_alone(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->sl.n_maybe; i++) {
        const struct layer *x = &m->sl.maybe[i];
        if (!x->kinds)
            continue;
        if (sounds_so(x->path) && m->o->to) {
            TRY(ask(m, x, e));
            continue;
        }
        struct plan_note note = {.layer = arena_str(m->a, x->path.p, x->path.n), .special = true};
        note.text = arena_fmt(m->a,
                              "taken as linear; if it is a recurrent cell, a rules file must say "
                              "so: kind %.*s = %s",
                              STR_ARG(x->path), layer_kind_name(x->kind));
        note.of = layer_kind_name(x->kind);
        note.setting = "kind";
        note.source = STR("linear");
        if (!note.text.p || !note.layer.p)
            return err_nomem(e, x->path.n);
        TRY(map_note(m, &note, e));
    }
    return ST_OK;
}
