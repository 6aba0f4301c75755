/* Pairs of single tensors that a rules file makes, with or without layouts. They leave their
 * layers, on both sides.
 */
#include "convert/map_int.h"
#include <stdlib.h>

static int by_text(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* Paths of all layers, sorted. */
static struct str *paths_of(struct mapping *m)
{
    struct str *p = ARENA_ARRAY(m->tmp, struct str, m->sl.n + 1);
    for (size_t i = 0; p && i < m->sl.n; i++)
        p[i] = m->sl.layer[i].path;
    if (p && m->sl.n)
        qsort(p, m->sl.n, sizeof *p, by_text);
    return p;
}

/* Tensors that are out leave their layers; layers without any go. */
static void take_out(struct layers *l, const bool *out)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct layer *y = &l->layer[i];
        size_t left = 0;
        for (int k = 0; k < LEAF_N; k++) {
            if (y->tensor[k] >= 0 && out[y->tensor[k]])
                y->tensor[k] = -1;
            left += y->tensor[k] >= 0;
        }
        if (left)
            l->layer[n++] = *y;
    }
    l->n = n;
}

/* Without layouts a tensor keeps its axes; those of a layer's weight (and the gates of a cell) are
 * not the target's. A name that only says where it goes must not say that. */
static enum status same_axes(const struct mapping *m, const struct map_rule *r, size_t i,
                             struct err *e)
{
    if (r->from_axes.n || m->from == m->to)
        return ST_OK;
    for (size_t k = 0; k < m->sl.n; k++) {
        const struct layer *l = &m->sl.layer[k];
        bool cell = (l->kinds & KIND_CELLS) != 0;
        if (l->kind == LAYER_PARAM || l->kinds == 0 || (!cell && m->src->tensor[i].n_dims < 2))
            continue;
        for (int f = 0; f < LEAF_N; f++)
            if (l->tensor[f] == (int64_t)i)
                return err_set(e, ST_CANNOT, "map-axes",
                               "line %zu of the rules file: a part of the layer %.*s, whose axes "
                               "%s may store otherwise: name the layers, \"%.*s\" -> LAYER, or "
                               "say axes \"FROM\" -> \"TO\"",
                               r->line, STR_ARG(l->path), m->to->name, STR_ARG(l->path));
    }
    return ST_OK;
}

/* One tensor, as rule r says; it leaves its layer, and its partner in the skeleton too. */
static enum status one_pair(struct mapping *m, struct skeleton *sk, const struct map_rule *r,
                            size_t i, bool *out, struct err *e)
{
    struct str dst;
    struct made *d;
    TRY(map_captured(m, r, m->src->tensor[i].name, &dst, e));
    TRY(map_made(m, 1, &d, e));
    d->name = dst;
    d->take->src = (uint32_t)i;
    d->take->size = r->size;
    if (r->from_axes.n) {
        struct str from = arena_str(m->a, r->from_axes.p, r->from_axes.n),
                   to = arena_str(m->a, r->to_axes.p, r->to_axes.n);
        if (!from.p || !to.p)
            return err_nomem(e, AXES_TEXT);
        d->take->src_axes = from.p;
        d->take->can_axes = d->take->dst_axes = to.p;
    }
    d->why = arena_fmt(m->tmp, "line %zu of the rules file", r->line);
    if (!d->why.p)
        return err_nomem(e, 64);
    if (!sk)
        return ST_OK;
    int64_t t = model_find(sk->m, dst);
    struct view v;
    TRY(take_view(m->src, d->take, (uint32_t)i, &v, e));
    bool fits = t >= 0 && sk->m->tensor[t].n_dims == v.n_dims;
    for (size_t k = 0; fits && k < v.n_dims; k++)
        fits = sk->m->tensor[t].dim[k] == view_dim(&v, k);
    if (!fits)
        return err_set(e, ST_CANNOT, "map-pair",
                       "line %zu of the rules file: the skeleton has no %.*s of that shape",
                       r->line, STR_ARG(dst));
    sk->filled[t] = out[t] = true;
    return ST_OK;
}

enum status map_pairs(struct mapping *m, struct skeleton *sk, struct err *e)
{
    bool any = false;
    for (size_t i = 0; i < m->rules.n; i++)
        any = any || m->rules.rule[i].what == RULE_PAIR;
    if (!any)
        return ST_OK;
    struct str *path = paths_of(m);
    bool *out = ARENA_ARRAY(m->tmp, bool, m->src->n_tensors + 1),
         *filled = ARENA_ARRAY(m->tmp, bool, (sk ? sk->m->n_tensors : 0) + 1);
    if (!path || !out || !filled)
        return err_nomem(e, m->src->n_tensors);
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        struct str name = m->src->tensor[i].name;
        struct map_rule *r = m->in[i] ? map_rule_for(m, RULE_PAIR, name) : NULL;
        uint64_t leaf;
        if (r && m->leaves && !r->from_axes.n && str_u64(r->dst, &leaf))
            continue; /* which leaf it is, spelled as its layer is: map_leaves() */
        if (!r || (!r->from_axes.n && bsearch(&name, path, m->sl.n, sizeof name, by_text)))
            continue; /* without layouts, a parameter of its own is renamed as layers are */
        TRY(same_axes(m, r, i, e));
        TRY(one_pair(m, sk, r, i, filled, e));
        out[i] = true;
    }
    take_out(&m->sl, out);
    if (sk)
        take_out(&sk->layers, filled);
    return ST_OK;
}
