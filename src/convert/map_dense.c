/* Linear layers over several axes: the extents of their letters, the target's axes beside the
 * source's, and kernels of which only the other side tells what is read and what is given.
 */
#include "base/checked.h"
#include "convert/map_int.h"
#include "framework/dense.h"
#include <string.h>

/* Letters that no layer of a source has: the two sides may divide their axes differently. */
static char other_letter(char c)
{
    static const char own[] = DENSE_IN DENSE_OUT, other[] = "rsuvwxyzBGHJKLPQ";
    const char *p = c ? strchr(own, c) : NULL;
    return p ? other[p - own] : c;
}

static void other_letters(char *text)
{
    for (; *text; text++)
        *text = other_letter(*text);
}

static void learn(struct axes_size *size, const struct dense_axes *d, const struct tensor *w)
{
    for (size_t i = 0; w && i < w->n_dims && d->weight[i]; i++)
        size->of[(unsigned char)d->weight[i]] = w->dim[i];
}

static const struct tensor *weight_of(const struct model *md, const struct layer *l)
{
    return l->tensor[LEAF_WEIGHT] >= 0 ? &md->tensor[l->tensor[LEAF_WEIGHT]] : NULL;
}

/* A flattened map by its axes has the channels last. */
static enum status flat_fits(const struct layer *l, const struct dense_axes *d,
                             const struct axes_size *size, struct err *e)
{
    size_t n = strlen(d->in);
    if (!l->flat_c || n < 2 || size->of[(unsigned char)d->in[n - 1]] == l->flat_c)
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "dense-flatten",
                             "reads a flattened map of %llu channels by %zu axes, the last of %llu",
                             (unsigned long long)l->flat_c, n,
                             (unsigned long long)size->of[(unsigned char)d->in[n - 1]]);
    err_in(e, l->path.p, l->path.n);
    return st;
}

static struct str side_text(struct mapping *m, const char *letters)
{
    char text[AXES_TEXT] = "";
    size_t k = 0;
    for (; *letters && k + 2 < sizeof text; letters++) {
        if (k)
            text[k++] = ' ';
        text[k++] = *letters;
    }
    return arena_str(m->a, text, k);
}

/* The weights say nothing of where the axes stand: a model elsewhere that reads the last axis must
 * turn what it is given. */
static enum status note_moves(struct mapping *m, const struct layer *l, const struct layer *t,
                              struct err *e)
{
    bool there = t ? t->dense && t->dense->moves : false;
    if (!l->dense || !l->dense->moves || there || m->from == m->to ||
        strcmp(m->to->name, "canonical") == 0)
        return ST_OK;
    struct plan_note note = {
        .layer = arena_str(m->a, l->path.p, l->path.n),
        .text = arena_fmt(m->a,
                          "its equation reads, or gives, other axes than the last ones: in %s the "
                          "model must turn them (%.*s)",
                          m->to->name, STR_ARG(l->reason)),
        .of = "linear",
        .setting = "axes",
        .source = side_text(m, l->dense->weight),
        .target = str_from(m->to->name),
        .set = STR(""),
        .known = true,
        .special = true};
    if (!note.layer.p || !note.text.p || !note.source.p)
        return err_nomem(e, 256);
    return map_note(m, &note, e);
}

enum status map_dense(struct mapping *m, const struct layer *l, const struct skeleton *sk,
                      const struct layer *t, struct layer *target, const struct axes_size **size,
                      struct err *e)
{
    *size = NULL;
    if (l->kind != LAYER_LINEAR || (!l->dense && !(t && t->dense)))
        return ST_OK;
    struct axes_size *s = ARENA_NEW(m->tmp, struct axes_size);
    if (!s)
        return err_nomem(e, sizeof *s);
    if (l->dense) {
        learn(s, l->dense, weight_of(m->src, l));
        TRY(flat_fits(l, l->dense, s, e));
    }
    if (t && t->dense) {
        struct dense_axes *d = ARENA_NEW(m->tmp, struct dense_axes);
        if (!d)
            return err_nomem(e, sizeof *d);
        *d = *t->dense;
        other_letters(d->in);
        other_letters(d->out);
        other_letters(d->weight);
        other_letters(d->bias);
        learn(s, d, weight_of(sk->m, t));
        TRY(flat_fits(l, d, s, e));
        target->dense = d;
    } else if (t) {
        target->dense = NULL;
    }
    /* one axis alone: each side's tensor says it, and a map's is C times S */
    s->of['F'] = s->of['O'] = 0;
    *size = s;
    return note_moves(m, l, t, e);
}

/* ---- kernels of which the other side tells what is read ---- */

struct matrix {
    uint64_t in, out;
};

/* What the dense layers of the other side read and give. */
static bool matrix_of(const struct model *md, const struct spelling_rules *r, const struct layer *l,
                      bool bias, struct matrix *out)
{
    const struct tensor *w = weight_of(md, l);
    const struct leaf_rule *rule = rules_find(r, LAYER_LINEAR, 0, rules_variant(l), LEAF_WEIGHT);
    struct layer y = *l;
    struct axes x;
    struct axes_size size = {0};
    char text[AXES_TEXT];
    struct err quiet;
    y.flat_c = 0;
    y.kind = LAYER_LINEAR;
    if (!(l->kinds & KIND_BIT(LAYER_LINEAR)) || !w || !rule ||
        (l->tensor[LEAF_BIAS] >= 0) != bias || rules_axes(r, rule, &y, &x, text, &quiet) != ST_OK ||
        strstr(text, "(") || axes_learn(&x, w->dim, w->n_dims, &size, &quiet) != ST_OK)
        return false;
    *out = (struct matrix){1, 1};
    for (const char *p = l->dense ? l->dense->in : "F"; *p; p++)
        out->in *= size.of[(unsigned char)*p]; /* of a tensor: no overflow */
    for (const char *p = l->dense ? l->dense->out : "O"; *p; p++)
        out->out *= size.of[(unsigned char)*p];
    return true;
}

/* The first axes of w that read as much; 0 = they are not these. */
static size_t split_at(const struct tensor *w, const struct matrix *x)
{
    uint64_t in = 1, out = 1;
    for (size_t k = 0; k + 1 < w->n_dims; k++) {
        out = 1;
        if (!mul_u64(in, w->dim[k], &in))
            return 0;
        for (size_t d = k + 1; d < w->n_dims; d++)
            if (!mul_u64(out, w->dim[d], &out))
                return 0;
        if (in == x->in && out == x->out)
            return k + 1;
    }
    return 0;
}

/* The path that a rules file pairs the layer with, either way; .p == NULL: none. */
static enum status told_partner(struct mapping *m, const struct layer *l, struct str *path,
                                struct err *e)
{
    struct map_rule *r = map_rule_for(m, RULE_PAIR, l->path);
    *path = STR_NONE;
    if (!r || r->from_axes.n)
        return ST_OK;
    r->n_used--; /* heard when the layers meet */
    return map_captured(m, r, l->path, path, e);
}

/* One layer of a side that the rules spell so, against all of the other; told: its only partner. */
static enum status settle(struct mapping *m, const struct model *md, struct layer *l,
                          const struct model *other, const struct spelling_rules *r,
                          const struct layers *ol, struct str told, struct err *e)
{
    const struct tensor *w = weight_of(md, l);
    size_t n_in = 0;
    struct matrix first = {0};
    bool several = false;
    for (size_t i = 0; w && i < ol->n && !several; i++) {
        struct matrix x;
        if (ol->layer[i].split_open || (told.p && !str_eq(told, ol->layer[i].path)) ||
            !matrix_of(other, r, &ol->layer[i], l->tensor[LEAF_BIAS] >= 0, &x))
            continue;
        size_t k = split_at(w, &x);
        several = k && n_in && (first.in != x.in || first.out != x.out);
        if (k && !n_in) {
            n_in = k;
            first = x;
        }
    }
    if (!n_in || several)
        return ST_OK;
    l->dense = dense_split(w->n_dims, n_in, m->a);
    if (!l->dense)
        return err_nomem(e, sizeof *l->dense);
    l->form = FORM_AXES;
    l->split_open = false;
    l->kinds |= KIND_BIT(LAYER_LINEAR);
    if (l->kinds == KIND_BIT(LAYER_LINEAR)) {
        l->kind = LAYER_LINEAR;
        l->reason = arena_fmt(m->a,
                              "kernel of %u axes, of which the other side's dense layers of "
                              "its size read %zu",
                              (unsigned)w->n_dims, n_in);
        if (!l->reason.p)
            return err_nomem(e, 128);
    }
    return ST_OK;
}

enum status map_dense_settle(struct meeting *w, struct err *e)
{
    struct mapping *m = w->m;
    struct layers *sl = &m->sl, *tl = &w->sk.layers;
    for (size_t i = 0; i < sl->n; i++) {
        struct str told;
        if (!sl->layer[i].split_open)
            continue;
        TRY(told_partner(m, &sl->layer[i], &told, e));
        TRY(settle(m, m->src, &sl->layer[i], w->sk.m, m->to->rules, tl, told, e));
    }
    for (size_t k = 0; k < tl->n; k++) {
        struct str told = STR_NONE;
        if (!tl->layer[k].split_open)
            continue;
        for (size_t i = 0; i < sl->n && !told.p; i++) {
            struct str path;
            TRY(told_partner(m, &sl->layer[i], &path, e));
            if (path.p && str_eq(path, tl->layer[k].path))
                told = sl->layer[i].path;
        }
        TRY(settle(m, w->sk.m, &tl->layer[k], m->src, m->from->rules, sl, told, e));
    }
    return ST_OK;
}
