/* Seen models: made from views of the real tensors, and undone by rewriting takes. Layout texts
 * carry it all: a dropped axis is a "1", two axes seen as one are "N D" where one letter stood.
 */
#include "convert/map_seen.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

enum status seen_init(struct seen *x, const struct model *real, struct arena *a, struct err *e)
{
    *x = (struct seen){.real = real, .model = *real};
    x->model.index_ = NULL; /* the real one's */
    x->model.cap_tensors_ = real->n_tensors + 64;
    x->model.tensor = ARENA_ARRAY(a, struct tensor, x->model.cap_tensors_);
    x->lens = ARENA_ARRAY(a, struct lens, x->model.cap_tensors_);
    if (!x->model.tensor || !x->lens)
        return err_nomem(e, x->model.cap_tensors_ * sizeof *x->lens);
    if (real->n_tensors)
        memcpy(x->model.tensor, real->tensor, real->n_tensors * sizeof *real->tensor);
    for (size_t i = 0; i < real->n_tensors; i++)
        x->lens[i].real = (uint32_t)i;
    return ST_OK;
}

static enum status grow(struct seen *x, struct arena *a, struct err *e)
{
    struct model *m = &x->model;
    if (m->n_tensors < m->cap_tensors_)
        return ST_OK;
    size_t cap = m->cap_tensors_ * 2;
    struct tensor *t = ARENA_ARRAY(a, struct tensor, cap);
    struct lens *l = ARENA_ARRAY(a, struct lens, cap);
    if (!t || !l || cap >= UINT32_MAX)
        return err_nomem(e, cap * sizeof *t);
    memcpy(t, m->tensor, m->n_tensors * sizeof *t);
    memcpy(l, x->lens, m->n_tensors * sizeof *l);
    m->tensor = t;
    x->lens = l;
    m->cap_tensors_ = cap;
    return ST_OK;
}

/* ---- names of what was added ---- */

static void put_slot(const struct seen *x, uint32_t *slot, size_t n, size_t tensor)
{
    size_t at = (size_t)str_hash(x->model.tensor[tensor].name, 1) & (n - 1);
    while (slot[at])
        at = (at + 1) & (n - 1);
    slot[at] = (uint32_t)tensor + 1;
}

/* Room for one more, half of the slots free. */
static enum status more_slots(struct seen *x, struct arena *a, struct err *e)
{
    size_t n_added = x->model.n_tensors - x->real->n_tensors;
    if (x->n_slots > 2 * (n_added + 1))
        return ST_OK;
    size_t n = x->n_slots ? 2 * x->n_slots : 64;
    uint32_t *slot = ARENA_ARRAY(a, uint32_t, n);
    if (!slot)
        return err_nomem(e, n * sizeof *slot);
    for (size_t i = 0; i < n_added; i++)
        put_slot(x, slot, n, x->real->n_tensors + i);
    x->slot = slot;
    x->n_slots = n;
    return ST_OK;
}

enum status seen_add(struct seen *x, uint32_t of, struct lens lens, struct str name,
                     struct arena *a, struct err *e)
{
    struct view v;
    struct lens sum = x->lens[of];
    TRY(grow(x, a, e));
    TRY(more_slots(x, a, e));
    struct tensor t = x->model.tensor[of];
    view_load(&v, t.view);
    if (lens.n_blocks) {
        TRY(view_slice(&v, lens.block_axis, lens.block, lens.block + 1, e));
        TRY(view_drop(&v, lens.block_axis, e));
        sum.n_blocks = lens.n_blocks;
        sum.block = lens.block;
        sum.block_axis = lens.block_axis;
    }
    if (lens.cut) {
        TRY(view_slice(&v, lens.axis, lens.lo, lens.hi, e));
        sum.cut = true;
        sum.axis = lens.axis;
        sum.lo = lens.lo;
        sum.hi = lens.hi;
    }
    if (lens.heads) {
        TRY(view_join(&v, lens.pair, e));
        sum.heads = lens.heads;
        sum.pair = lens.pair;
    }
    TRY(view_keep(&v, a, &t.view, e));
    tensor_share_view(&t, t.view);
    t.name = name;
    t.alias_of = -1;
    x->model.tensor[x->model.n_tensors] = t;
    x->lens[x->model.n_tensors++] = sum;
    put_slot(x, x->slot, x->n_slots, x->model.n_tensors - 1);
    x->any = true;
    return ST_OK;
}

void seen_hide(struct seen *x, uint32_t of)
{
    x->model.tensor[of].role = ROLE_OTHER;
}

bool seen_has(const struct seen *x, struct str name)
{
    if (model_find(x->real, name) >= 0)
        return true;
    if (!x->n_slots)
        return false;
    size_t at = (size_t)str_hash(name, 1) & (x->n_slots - 1);
    for (; x->slot[at]; at = (at + 1) & (x->n_slots - 1))
        if (str_eq(x->model.tensor[x->slot[at] - 1].name, name))
            return true;
    return false;
}

/* ---- layout texts ---- */

/* Letters of a tensor that is carried as it is. */
static const char *letters(struct mapping *m, size_t n)
{
    char text[AXES_TEXT];
    size_t k = 0;
    for (size_t i = 0; i < n && k + 2 < sizeof text; i++) {
        if (i)
            text[k++] = ' ';
        text[k++] = (char)('a' + (int)i);
    }
    text[k] = 0;
    return map_axes(m, text);
}

/* The letter that is axis d by itself; 0 when that axis is something else. */
static char letter_at(const char *text, size_t d)
{
    struct axes x;
    struct err quiet;
    char found = 0;
    if (axes_parse(str_from(text), &x, &quiet) != ST_OK)
        return 0;
    for (size_t i = 0; i < x.n; i++)
        if (x.at[i].dim == d) {
            if (found || x.at[i].flip || x.at[i].letter == '1')
                return 0;
            found = x.at[i].letter;
        }
    return found;
}

/* Every `letter` becomes "N D", in parentheses unless it stands in some, or as axis `apart`. */
static const char *two_for(struct mapping *m, const char *text, char letter, bool apart)
{
    char out[AXES_TEXT];
    size_t k = 0;
    bool inside = false;
    for (const char *p = text; *p && k + 6 < sizeof out; p++) {
        inside = *p == '(' || (inside && *p != ')');
        if (*p != letter) {
            out[k++] = *p;
            continue;
        }
        bool paren = !inside && !apart;
        if (paren)
            out[k++] = '(';
        out[k++] = 'N';
        out[k++] = ' ';
        out[k++] = 'D';
        if (paren)
            out[k++] = ')';
    }
    out[k] = 0;
    return map_axes(m, out);
}

/* "(N D) E" seen with its heads apart, at axis d: "N D E". */
static const char *apart_at(struct mapping *m, const char *text, size_t d)
{
    char out[AXES_TEXT];
    struct axes x;
    struct err quiet;
    size_t k = 0;
    bool here = false;
    if (axes_parse(str_from(text), &x, &quiet) != ST_OK)
        return NULL;
    size_t at = 0, n_at = 0;
    for (size_t i = 0; i < x.n; i++)
        if (x.at[i].dim == d) {
            n_at++;
            at = i;
        }
    here = n_at == 2 && x.at[at - 1].letter == 'N' && x.at[at].letter == 'D';
    if (!here)
        return NULL;
    for (size_t i = 0; i < x.n && k + 6 < sizeof out; i++) {
        bool first = i == 0 || x.at[i - 1].dim != x.at[i].dim,
             last = i + 1 == x.n || x.at[i + 1].dim != x.at[i].dim, alone = first && last;
        if (i && (first || alone))
            out[k++] = ' ';
        if (first && !alone && x.at[i].dim != d)
            out[k++] = '(';
        if (!first)
            out[k++] = ' ';
        if (x.at[i].flip)
            out[k++] = '-';
        out[k++] = x.at[i].letter;
        if (last && !alone && x.at[i].dim != d)
            out[k++] = ')';
    }
    out[k] = 0;
    return map_axes(m, out);
}

/* The layout with a "1" as axis `at`; NULL: it has not as many, or no memory. */
static const char *with_one(struct mapping *m, const char *text, size_t at)
{
    char out[AXES_TEXT];
    const char *p = text;
    bool inside = false;
    for (size_t d = 0; *p && d < at; p++) {
        inside = *p == '(' || (inside && *p != ')');
        d += !inside && (p[1] == ' ' || p[1] == 0);
    }
    while (*p == ' ')
        p++;
    int n = snprintf(out, sizeof out, "%.*s%s1%s%s", (int)(p - text), text,
                     p > text && p[-1] != ' ' ? " " : "", *p ? " " : "", p);
    return n > 0 && (size_t)n < sizeof out ? map_axes(m, out) : NULL;
}

/* Axis d of what is seen, among those of the real tensor. */
static uint8_t real_axis(const struct lens *l, size_t d)
{
    return (uint8_t)(d + (l->n_blocks && d >= l->block_axis));
}

/* ---- undoing ---- */

static enum status too_much(const struct made *d, struct err *e)
{
    enum status st = err_set(e, ST_CANNOT, "parts-differ",
                             "its layout is not carried through stacks and joined parts");
    err_in(e, d->name.p, d->name.n);
    return st;
}

/* All four texts are there, and say nothing is moved where nothing was said. */
static enum status spell_out(struct mapping *m, struct take *k, size_t n_dims, struct err *e)
{
    if (!*k->src_axes && !*k->can_axes && !*k->dst_axes)
        k->src_axes = k->can_axes = k->dst_axes = letters(m, n_dims);
    else if (!*k->src_axes)
        k->src_axes = k->can_axes;
    else if (!*k->dst_axes)
        k->dst_axes = k->can_axes;
    return k->src_axes && k->dst_axes ? ST_OK : err_nomem(e, AXES_TEXT);
}

/* The heads of one side apart, of axis d of layout *own; the other layouts follow. */
static enum status part_heads(struct mapping *m, struct take *k, const char **own, size_t d,
                              uint64_t heads, const struct made *y, struct err *e)
{
    if (k->out_axes && strcmp(k->out_axes, k->can_axes) != 0)
        return too_much(y, e); /* rows that are turned by heads already */
    if (k->heads && k->heads != heads)
        return err_set(e, ST_CANNOT, "heads-differ", "%.*s: %llu heads in the source, %llu here",
                       STR_ARG(y->name), (unsigned long long)k->heads, (unsigned long long)heads);
    k->heads = heads;
    char c = letter_at(*own, d);
    if (!c) { /* the other side has parted them already */
        *own = apart_at(m, *own, d);
        return *own ? ST_OK : too_much(y, e);
    }
    const char **text[] = {&k->src_axes, &k->can_axes, &k->dst_axes};
    k->out_axes = NULL;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        if (text[i] == own)
            continue;
        *text[i] = two_for(m, *text[i], c, false);
        if (!*text[i])
            return err_nomem(e, AXES_TEXT);
    }
    *own = two_for(m, *own, c, true);
    return *own ? ST_OK : err_nomem(e, AXES_TEXT);
}

static enum status add_cut(struct take *k, size_t axis, uint64_t lo, uint64_t hi,
                           const struct made *d, struct err *e)
{
    if (k->n_cuts == CUTS)
        return too_much(d, e);
    k->cut[k->n_cuts++] = (struct cut){(uint8_t)axis, lo, hi};
    return ST_OK;
}

/* A take of a seen source tensor, told of the real one. */
static enum status real_take(struct mapping *m, const struct seen *s, struct take *k,
                             const struct made *d, struct err *e)
{
    const struct lens *l = &s->lens[k->src];
    const struct tensor *seen = &s->model.tensor[k->src];
    if (k->plus) {
        struct take *plus = ARENA_NEW(m->tmp, struct take);
        if (!plus)
            return err_nomem(e, sizeof *plus);
        *plus = *k->plus;
        TRY(real_take(m, s, plus, d, e));
        k->plus = plus;
    }
    if (l->real == k->src)
        return ST_OK;
    if (k->n_fill_dims)
        return too_much(d, e);
    TRY(spell_out(m, k, seen->n_dims, e));
    uint8_t cut_axis = real_axis(l, l->axis), rows_axis = real_axis(l, 0);
    for (size_t i = 0; i < k->n_cuts; i++) {
        k->cut[i].axis = real_axis(l, k->cut[i].axis);
        if (l->cut && k->cut[i].axis == cut_axis) {
            k->cut[i].lo += l->lo;
            k->cut[i].hi += l->lo;
        }
    }
    if (k->n_parts) {
        uint64_t rows = seen->dim[0] / k->n_parts, lo = k->part * rows;
        uint64_t at = l->cut && l->axis == 0 ? l->lo : 0;
        TRY(add_cut(k, rows_axis, at + lo, at + lo + rows, d, e));
        k->n_parts = k->part = 0;
        if (l->cut && l->axis != 0)
            TRY(add_cut(k, cut_axis, l->lo, l->hi, d, e));
    } else if (l->cut) {
        TRY(add_cut(k, cut_axis, l->lo, l->hi, d, e));
    }
    if (l->heads)
        TRY(part_heads(m, k, &k->src_axes, l->pair, l->heads, d, e));
    if (l->n_blocks) {
        TRY(add_cut(k, l->block_axis, l->block, l->block + 1, d, e));
        k->src_axes = with_one(m, k->src_axes, l->block_axis);
        if (!k->src_axes)
            return too_much(d, e);
    }
    k->src = l->real;
    return ST_OK;
}

struct found {
    uint64_t hash;
    uint32_t tensor;
};
static int by_hash(const void *px, const void *py)
{
    const struct found *x = px, *y = py;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* Seen tensors of the skeleton by name; not those that are seen otherwise once more. */
static struct found *names_of(const struct seen *t, size_t *n, struct arena *a)
{
    struct found *f = ARENA_ARRAY(a, struct found, t->model.n_tensors + 1);
    *n = 0;
    for (size_t i = t->real->n_tensors; f && i < t->model.n_tensors; i++)
        if (t->model.tensor[i].role != ROLE_OTHER)
            f[(*n)++] = (struct found){str_hash(t->model.tensor[i].name, 1), (uint32_t)i};
    if (f && *n)
        qsort(f, *n, sizeof *f, by_hash);
    return f;
}

static int64_t name_at(const struct seen *t, const struct found *f, size_t n, struct str name)
{
    uint64_t h = str_hash(name, 1);
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (f[mid].hash < h)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n && f[lo].hash == h; lo++)
        if (str_eq(t->model.tensor[f[lo].tensor].name, name))
            return f[lo].tensor;
    return -1;
}

/* Where a take of a seen target tensor lands in the real one, and in which layout. m->src is still
 * what is seen. */
static enum status real_place(struct mapping *m, const struct seen *t, uint32_t at,
                              const struct made *d, struct take *k, uint64_t *rows, struct err *e)
{
    const struct lens *l = &t->lens[at];
    struct view v;
    uint8_t cut_axis = real_axis(l, l->axis);
    TRY(take_view(m->src, k, k->src, &v, e));
    if (!k->placed && d->n_takes > 1) { /* joined along axis 0, in order */
        k->at[k->n_at++] = (struct cut){.axis = 0, .lo = *rows};
        *rows += view_dim(&v, 0);
    }
    k->placed = true;
    TRY(spell_out(m, k, v.n_dims, e));
    for (size_t i = 0; i < k->n_at; i++) {
        if (l->cut && k->at[i].axis == l->axis)
            k->at[i].lo += l->lo;
        k->at[i].axis = real_axis(l, k->at[i].axis);
    }
    bool has = false;
    for (size_t i = 0; i < k->n_at; i++)
        has = has || (l->cut && k->at[i].axis == cut_axis);
    size_t more = (size_t)(l->cut && !has) + (l->n_blocks != 0);
    if (k->n_at + more > CUTS || (l->heads && k->n_at))
        return too_much(d, e);
    if (l->cut && !has)
        k->at[k->n_at++] = (struct cut){.axis = cut_axis, .lo = l->lo};
    if (l->heads)
        TRY(part_heads(m, k, &k->dst_axes, l->pair, l->heads, d, e));
    if (l->n_blocks) {
        k->at[k->n_at++] = (struct cut){.axis = l->block_axis, .lo = l->block};
        k->dst_axes = with_one(m, k->dst_axes, l->block_axis);
        if (!k->dst_axes)
            return too_much(d, e);
    }
    return ST_OK;
}

struct gathered { /* of one real target tensor */
    size_t made;  /* place of the first in m->made, + 1; 0 = none yet */
    size_t n_made, n_takes, n_blank;
};

static enum status count_takes(struct mapping *m, const struct seen *t, const struct found *f,
                               size_t n_f, struct gathered *g, int64_t *at, size_t first)
{
    for (size_t i = first; i < m->n_made; i++) {
        at[i - first] = name_at(t, f, n_f, m->made[i].name);
        if (at[i - first] < 0)
            continue;
        struct gathered *one = &g[t->lens[at[i - first]].real];
        one->n_made++;
        one->n_takes += m->made[i].n_takes;
        one->n_blank += m->made[i].n_takes == 0;
    }
    return ST_OK;
}

static enum status join_made(struct mapping *m, const struct seen *t, size_t first, struct err *e)
{
    size_t n_f, kept = first;
    struct found *f = names_of(t, &n_f, m->tmp);
    struct gathered *g = ARENA_ARRAY(m->tmp, struct gathered, t->real->n_tensors + 1);
    int64_t *at = ARENA_ARRAY(m->tmp, int64_t, m->n_made - first + 1);
    if (!f || !g || !at)
        return err_nomem(e, t->real->n_tensors * sizeof *g);
    TRY(count_takes(m, t, f, n_f, g, at, first));
    for (size_t i = first; i < m->n_made; i++) {
        struct made d = m->made[i];
        if (at[i - first] < 0) {
            m->made[kept++] = d;
            continue;
        }
        const struct tensor *real = &t->real->tensor[t->lens[at[i - first]].real];
        struct gathered *one = &g[t->lens[at[i - first]].real];
        if (one->n_blank && one->n_blank != one->n_made)
            return too_much(&d, e);
        uint64_t rows = 0;
        for (size_t k = 0; k < d.n_takes; k++)
            TRY(real_place(m, t, (uint32_t)at[i - first], &d, &d.take[k], &rows, e));
        if (one->made == 0) {
            struct made *to = &m->made[kept++];
            one->made = kept;
            *to = d;
            to->name = real->name;
            to->dim = real->dim;
            to->n_dims = real->n_dims;
            to->n_takes = 0;
            to->take = one->n_takes ? ARENA_ARRAY(m->tmp, struct take, one->n_takes) : NULL;
            if (one->n_takes && !to->take)
                return err_nomem(e, one->n_takes * sizeof *to->take);
        }
        struct made *to = &m->made[one->made - 1];
        if (d.n_takes)
            memcpy(to->take + to->n_takes, d.take, d.n_takes * sizeof *d.take);
        to->n_takes += d.n_takes;
    }
    m->n_made = kept;
    return ST_OK;
}

enum status seen_undo(struct mapping *m, const struct seen *s, const struct seen *t, size_t first,
                      struct err *e)
{
    if (t->any)
        TRY(join_made(m, t, first, e));
    for (size_t i = first; s->any && i < m->n_made; i++)
        for (size_t k = 0; k < m->made[i].n_takes; k++)
            TRY(real_take(m, s, &m->made[i].take[k], &m->made[i], e));
    m->src = s->real;
    return ST_OK;
}
