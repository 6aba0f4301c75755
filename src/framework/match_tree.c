/* Evidence from the tree: what stands beside an item, in which block of how many, at which number.
 * Items are sorted by the steps of their paths, numbers by value, so that every place of the tree
 * is one run of them and what it holds is a difference of two sums.
 */
#include "framework/match_int.h"
#include <stdlib.h>
#include <string.h>

/* ---- the tree ---- */

static int by_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static uint64_t step_hash(uint64_t h, struct step s)
{
    return match_mix(match_mix(h, s.number), s.v);
}

/* "linear" beside "linear_1": it is the one before the first. */
static enum status number_first(struct side *x, struct arena *a, struct err *e)
{
    size_t cap = 1, n = 0;
    for (size_t i = 0; i < x->n; i++)
        cap += x->word[i].n;
    uint64_t *with = ARENA_ARRAY(a, uint64_t, cap);
    if (!with)
        return err_nomem(e, cap * sizeof *with);
    for (size_t i = 0; i < x->n; i++) {
        uint64_t h = 1;
        for (size_t k = 0; k + 1 < x->word[i].n; k++) {
            const struct step *s = &x->word[i].step[k];
            h = step_hash(h, s[0]);
            if (!s[0].number && s[1].number)
                with[n++] = h;
        }
    }
    if (n)
        qsort(with, n, sizeof *with, by_u64);
    for (size_t i = 0; i < x->n; i++) {
        struct spoken *w = &x->word[i];
        struct step out[2 * STEPS_MAX] = {{0}};
        size_t k = 0;
        uint64_t h = 1;
        for (size_t j = 0; j < w->n; j++) {
            out[k++] = w->step[j];
            h = step_hash(h, w->step[j]);
            if (!w->step[j].number && (j + 1 == w->n || !w->step[j + 1].number) && n &&
                bsearch(&h, with, n, sizeof h, by_u64))
                out[k++] = (struct step){true, 0};
        }
        memcpy(w->step, out, k * sizeof *out);
        w->n = k;
    }
    return ST_OK;
}

struct ranked {
    const struct spoken *word;
    uint32_t item;
};
static int by_steps(const void *px, const void *py)
{
    const struct ranked *x = px, *y = py;
    const struct spoken *a = x->word, *b = y->word;
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (a->step[i].number != b->step[i].number)
            return a->step[i].number ? 1 : -1;
        if (a->step[i].v != b->step[i].v)
            return a->step[i].v < b->step[i].v ? -1 : 1;
    }
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static size_t common_steps(const struct spoken *a, const struct spoken *b)
{
    size_t i = 0;
    while (i < a->n && i < b->n && a->step[i].number == b->step[i].number &&
           a->step[i].v == b->step[i].v)
        i++;
    return i;
}

static uint32_t holds(const struct place *p)
{
    return p->hi - p->lo;
}

static void finish(struct side *x)
{
    for (size_t i = 1; i < x->n_places; i++) {
        struct place *p = &x->place[i];
        struct place *around = &x->place[p->parent];
        bool same = holds(around) == holds(p);
        p->up = same ? around->up : p->parent;
        p->twin = same && (around->numbered || around->twin);
        p->counted = p->numbered || around->counted;
        if (p->numbered)
            p->nth = around->n_numbered++;
    }
}

enum status tree_build(struct side *x, struct arena *a, struct err *e)
{
    TRY(number_first(x, a, e));
    struct ranked *r = ARENA_ARRAY(a, struct ranked, x->n + 1);
    size_t cap = 1;
    for (size_t i = 0; i < x->n; i++)
        cap += x->word[i].n;
    x->perm = ARENA_ARRAY(a, uint32_t, x->n + 1);
    x->at = ARENA_ARRAY(a, uint32_t, x->n + 1);
    x->place = ARENA_ARRAY(a, struct place, cap);
    if (!r || !x->perm || !x->at || !x->place)
        return err_nomem(e, cap * sizeof *x->place);
    for (size_t i = 0; i < x->n; i++)
        r[i] = (struct ranked){&x->word[i], (uint32_t)i};
    if (x->n)
        qsort(r, x->n, sizeof *r, by_steps);
    uint32_t open[2 * STEPS_MAX + 1] = {0}; /* places of the steps of the last item; 0 = the top */
    size_t depth = 0;
    x->n_places = 1;
    x->place[0] = (struct place){.hi = (uint32_t)x->n, .form = 1};
    for (size_t i = 0; i < x->n; i++) {
        const struct spoken *w = r[i].word;
        size_t same = i ? common_steps(r[i - 1].word, w) : 0;
        for (; depth > same; depth--)
            x->place[open[depth]].hi = (uint32_t)i;
        for (; depth < w->n; depth++) {
            const struct place *around = &x->place[open[depth]];
            struct step s = w->step[depth];
            x->place[x->n_places] = (struct place){
                .lo = (uint32_t)i,
                .parent = open[depth],
                .form = match_mix(around->form, s.number ? 3 : s.v),
                .numbered = s.number,
            };
            open[depth + 1] = (uint32_t)x->n_places++;
        }
        x->perm[i] = r[i].item;
        x->at[r[i].item] = open[depth];
    }
    for (; depth > 0; depth--)
        x->place[open[depth]].hi = (uint32_t)x->n;
    finish(x);
    return ST_OK;
}

/* ---- parents ---- */

static uint64_t content(const struct side *x, const struct place *p)
{
    return match_mix(x->sum[p->hi] - x->sum[p->lo], holds(p));
}

/* The place that many places around an item; 0 is the top. */
static uint32_t around(const struct side *x, size_t item, unsigned up)
{
    uint32_t p = x->at[item];
    if (holds(&x->place[p]) > 1 && up)
        up--;
    for (; up && p; up--)
        p = x->place[p].up;
    return p;
}

void keys_of_parents(struct side *x, unsigned up)
{
    for (size_t i = 0; i < x->n; i++) {
        uint32_t p = around(x, i, up);
        x->key[i] = p ? content(x, &x->place[p]) : 0;
    }
}

void keys_of_ranks(struct side *x)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct spoken *w = &x->word[i];
        const struct place *p = &x->place[x->at[i]];
        x->key[i] = w->rank;
        if (w->norm && !w->rank && p->numbered && x->place[p->parent].n_numbered == 2)
            x->key[i] = 1 + p->nth;
    }
}

/* ---- sequences ---- */

struct seq {
    uint64_t hash;
    size_t first, n; /* in a list of members */
};
struct member {
    uint64_t group;     /* what one sequence has in common */
    uint32_t lo, index; /* where it lies; the place or item */
};
struct seqs {
    struct member *m;
    size_t n_m;
    struct seq *q;
    size_t n;
};

static int by_group(const void *px, const void *py)
{
    const struct member *x = px, *y = py;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static int by_hash(const void *px, const void *py)
{
    const struct seq *x = px, *y = py;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

static bool seqs_room(struct seqs *out, size_t n, struct arena *a)
{
    *out = (struct seqs){0};
    out->m = ARENA_ARRAY(a, struct member, n + 1);
    out->q = ARENA_ARRAY(a, struct seq, n + 1);
    return out->m && out->q;
}

typedef uint64_t member_hash(const struct side *x, const struct member *m,
                             const struct member *old);

/* Members of one group, in order, are a sequence; those of two and more are kept. */
static void seqs_make(const struct side *x, struct seqs *s, member_hash *hash)
{
    if (s->n_m)
        qsort(s->m, s->n_m, sizeof *s->m, by_group);
    for (size_t i = 0, k; i < s->n_m; i = k) {
        uint64_t h = 11;
        for (k = i; k < s->n_m && s->m[k].group == s->m[i].group; k++)
            h = match_mix(h, hash(x, &s->m[k], k > i ? &s->m[k - 1] : NULL));
        if (k - i > 1)
            s->q[s->n++] = (struct seq){match_mix(h, k - i), i, k - i};
    }
    if (s->n)
        qsort(s->q, s->n, sizeof *s->q, by_hash);
}

/* The next hash that both sides have, each once. */
static bool seqs_both(const struct seqs *s, const struct seqs *t, size_t *i, size_t *j,
                      const struct seq **qs, const struct seq **qt)
{
    while (*i < s->n && *j < t->n) {
        uint64_t a = s->q[*i].hash, b = t->q[*j].hash;
        size_t ie = *i, je = *j;
        while (ie < s->n && s->q[ie].hash == a)
            ie++;
        while (je < t->n && t->q[je].hash == b)
            je++;
        bool one = a == b && ie - *i == 1 && je - *j == 1;
        *qs = &s->q[*i];
        *qt = &t->q[*j];
        *i = a <= b ? ie : *i;
        *j = b <= a ? je : *j;
        if (one)
            return true;
    }
    return false;
}

/* ---- blocks ---- */

static uint64_t block_hash(const struct side *x, const struct member *m, const struct member *old)
{
    (void)old;
    return content(x, &x->place[m->index]);
}

static enum status blocks_of(const struct side *x, struct seqs *out, struct arena *a, struct err *e)
{
    if (!seqs_room(out, x->n_places, a))
        return err_nomem(e, x->n_places * sizeof *out->m);
    for (size_t i = 0; i < x->n_places; i++)
        if (x->place[i].numbered && !x->place[i].twin)
            out->m[out->n_m++] = (struct member){x->place[i].form, x->place[i].lo, (uint32_t)i};
    seqs_make(x, out, block_hash);
    return ST_OK;
}

/* Blocks of one layer each say something only where no other layer could be one of them. */
static enum status closed(const struct side *x, const struct member *m, size_t n, bool *out,
                          struct arena *a, struct err *e)
{
    uint64_t *color = ARENA_ARRAY(a, uint64_t, n + 1);
    *out = true;
    if (!color)
        return err_nomem(e, n * sizeof *color);
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (x->it[m[i].index].pair < 0)
            color[k++] = x->it[m[i].index].color;
    if (k)
        qsort(color, k, sizeof *color, by_u64);
    for (size_t i = 0; i < n && *out; i++) {
        const struct match_item *it = &x->it[m[i].index];
        if (it->pair >= 0)
            continue;
        size_t lo = 0, hi = k;
        while (lo < hi) { /* the first of its colour */
            size_t mid = lo + (hi - lo) / 2;
            if (color[mid] < it->color)
                lo = mid + 1;
            else
                hi = mid;
        }
        /* as many as there are: the last of them would stand n_like - 1 further */
        size_t last = lo + x->n_like[m[i].index] - 1;
        *out = last < k && color[last] == it->color;
    }
    return ST_OK;
}

static enum status blocks_say(const struct side *x, const struct member *m, size_t n, bool *out,
                              struct arena *a, struct err *e)
{
    *out = true;
    for (size_t i = 0; i < n; i++)
        if (holds(&x->place[m[i].index]) < 2)
            *out = false;
    if (*out)
        return ST_OK;
    struct member *one = ARENA_ARRAY(a, struct member, n + 1);
    if (!one)
        return err_nomem(e, n * sizeof *one);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const struct place *p = &x->place[m[i].index];
        if (holds(p) != 1) /* some of one, some of more: by their contents or not at all */
            return ST_OK;
        one[k++].index = x->perm[p->lo];
    }
    return closed(x, one, k, out, a, e);
}

static void key_blocks(struct side *x, const struct member *m, size_t n, uint64_t hash, bool inner,
                       uint32_t *size)
{
    for (size_t i = 0; i < n; i++) {
        const struct place *p = &x->place[m[i].index];
        for (uint32_t k = p->lo; k < p->hi; k++) {
            uint32_t item = x->perm[k], had = size[item];
            if (had && (inner ? had <= holds(p) : had >= holds(p)))
                continue;
            size[item] = holds(p);
            x->key[item] = match_mix(hash, i + 1);
        }
    }
}

static void no_keys(struct game *g)
{
    memset(g->s.key, 0, g->s.n * sizeof *g->s.key);
    memset(g->t.key, 0, g->t.n * sizeof *g->t.key);
}

enum status keys_of_blocks(struct game *g, bool inner, struct arena *a, struct err *e)
{
    struct seqs s, t;
    const struct seq *qs, *qt;
    uint32_t *size_s = ARENA_ARRAY(a, uint32_t, g->s.n + 1);
    uint32_t *size_t_ = ARENA_ARRAY(a, uint32_t, g->t.n + 1);
    no_keys(g);
    if (!size_s || !size_t_)
        return err_nomem(e, g->s.n * sizeof *size_s);
    TRY(blocks_of(&g->s, &s, a, e));
    TRY(blocks_of(&g->t, &t, a, e));
    for (size_t i = 0, j = 0; seqs_both(&s, &t, &i, &j, &qs, &qt);) {
        bool a_says, b_says;
        if (qs->n != qt->n)
            continue;
        TRY(blocks_say(&g->s, s.m + qs->first, qs->n, &a_says, a, e));
        TRY(blocks_say(&g->t, t.m + qt->first, qt->n, &b_says, a, e));
        if (!a_says || !b_says)
            continue;
        key_blocks(&g->s, s.m + qs->first, qs->n, qs->hash, inner, size_s);
        key_blocks(&g->t, t.m + qt->first, qt->n, qs->hash, inner, size_t_);
    }
    return ST_OK;
}

/* ---- numbers ---- */

static uint64_t number_hash(const struct side *x, const struct member *m, const struct member *old)
{
    bool same = old && around(x, m->index, 1) == around(x, old->index, 1);
    bool twice = old && x->at[m->index] == x->at[old->index];
    /* two of one number: no sequence, and like no other */
    return twice ? match_mix((uint64_t)(uintptr_t)m, 1) : match_mix(x->known[m->index], same);
}

static enum status numbers_of(const struct side *x, struct seqs *out, struct arena *a,
                              struct err *e)
{
    if (!seqs_room(out, x->n, a))
        return err_nomem(e, x->n * sizeof *out->m);
    for (size_t i = 0; i < x->n; i++) {
        uint32_t item = x->perm[i];
        const struct place *p = &x->place[x->at[item]];
        if (p->counted)
            out->m[out->n_m++] =
                (struct member){match_mix(p->form, x->it[item].kinds), (uint32_t)i, item};
    }
    seqs_make(x, out, number_hash);
    return ST_OK;
}

enum status keys_of_numbers(struct game *g, struct arena *a, struct err *e)
{
    struct seqs s, t;
    const struct seq *qs, *qt;
    no_keys(g);
    TRY(numbers_of(&g->s, &s, a, e));
    TRY(numbers_of(&g->t, &t, a, e));
    for (size_t i = 0, j = 0; seqs_both(&s, &t, &i, &j, &qs, &qt);) {
        const struct member *ms = s.m + qs->first, *mt = t.m + qt->first;
        bool ok = qs->n == qt->n, also = true;
        for (size_t k = 0; ok && k < qs->n; k++)
            ok = match_shares(&g->s.it[ms[k].index], &g->t.it[mt[k].index]);
        if (ok)
            TRY(closed(&g->s, ms, qs->n, &ok, a, e));
        if (ok)
            TRY(closed(&g->t, mt, qt->n, &also, a, e));
        for (size_t k = 0; ok && also && k < qs->n; k++)
            g->s.key[ms[k].index] = g->t.key[mt[k].index] = match_mix(qs->hash, k + 1);
    }
    return ST_OK;
}

/* ---- numbers in parts of sequences ---- */

struct kin { /* an open item, and the sequence it lies in */
    uint64_t color;
    uint32_t seq, item;
};
static int by_kin(const void *px, const void *py)
{
    const struct kin *x = px, *y = py;
    if (x->color != y->color)
        return x->color < y->color ? -1 : 1;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* One of each colour whose open items, two and more, all lie in one sequence; in home[], per item,
 * that sequence + 1. */
static enum status kin_of(const struct side *x, const struct seqs *s, struct kin **out, size_t *n,
                          uint32_t **home, struct arena *a, struct err *e)
{
    struct kin *k = ARENA_ARRAY(a, struct kin, x->n + 1);
    size_t n_k = 0;
    *home = ARENA_ARRAY(a, uint32_t, x->n + 1);
    if (!k || !*home)
        return err_nomem(e, x->n * sizeof *k);
    for (size_t q = 0; q < s->n; q++)
        for (size_t i = 0; i < s->q[q].n; i++) {
            uint32_t item = s->m[s->q[q].first + i].index;
            if (x->it[item].pair < 0 && x->n_like[item] > 1)
                k[n_k++] = (struct kin){x->it[item].color, (uint32_t)q, item};
        }
    if (n_k)
        qsort(k, n_k, sizeof *k, by_kin);
    *n = 0;
    for (size_t i = 0, j; i < n_k; i = j) {
        for (j = i; j < n_k && k[j].color == k[i].color && k[j].seq == k[i].seq; j++)
            ;
        if (j - i != x->n_like[k[i].item])
            continue;
        struct kin one = k[i];
        for (; i < j; i++)
            (*home)[k[i].item] = one.seq + 1;
        k[(*n)++] = one;
    }
    *out = k;
    return ST_OK;
}

struct couple { /* two sequences that share colours */
    uint32_t s, t;
};
static int by_couple(const void *px, const void *py)
{
    const struct couple *x = px, *y = py;
    if (x->s != y->s)
        return x->s < y->s ? -1 : 1;
    return (x->t > y->t) - (x->t < y->t);
}

static int by_u64_of(const uint64_t *list, size_t n, uint64_t v)
{
    return n && bsearch(&v, list, n, sizeof v, by_u64) != NULL;
}

/* What both sequences have equally often, in the order of one of them. */
static size_t shared(const struct side *x, const struct seqs *s, const struct seq *q,
                     const uint64_t *both, size_t n_both, uint32_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < q->n; i++) {
        uint32_t item = s->m[q->first + i].index;
        if (by_u64_of(both, n_both, x->known[item]))
            out[n++] = item;
    }
    return n;
}

static size_t sorted_known(const struct side *x, const struct seqs *s, const struct seq *q,
                           uint64_t *out)
{
    for (size_t i = 0; i < q->n; i++)
        out[i] = x->known[s->m[q->first + i].index];
    qsort(out, q->n, sizeof *out, by_u64);
    return q->n;
}

static size_t run_of(const uint64_t *v, size_t n, size_t at)
{
    size_t k = at;
    while (k < n && v[k] == v[at])
        k++;
    return k - at;
}

/* Values that both lists hold equally often. */
static size_t common(const uint64_t *a, size_t n_a, const uint64_t *b, size_t n_b, uint64_t *out)
{
    size_t n = 0;
    for (size_t i = 0, j = 0; i < n_a && j < n_b;) {
        size_t ra = run_of(a, n_a, i), rb = run_of(b, n_b, j);
        if (a[i] == b[j] && ra == rb)
            out[n++] = a[i];
        uint64_t x = a[i], y = b[j];
        i += x <= y ? ra : 0;
        j += y <= x ? rb : 0;
    }
    return n;
}

struct room {
    uint64_t *a, *b, *both;
    uint32_t *ls, *lt, *home_s, *home_t;
};

static void key_couple(struct game *g, const struct seqs *s, const struct seqs *t,
                       const struct couple *c, const struct room *r)
{
    const struct seq *qs = &s->q[c->s], *qt = &t->q[c->t];
    size_t n_a = sorted_known(&g->s, s, qs, r->a), n_b = sorted_known(&g->t, t, qt, r->b);
    size_t n_both = common(r->a, n_a, r->b, n_b, r->both);
    size_t n = shared(&g->s, s, qs, r->both, n_both, r->ls);
    bool same = shared(&g->t, t, qt, r->both, n_both, r->lt) == n;
    for (size_t i = 0; same && i < n; i++)
        same = g->s.known[r->ls[i]] == g->t.known[r->lt[i]] &&
               (i == 0 || (g->s.at[r->ls[i]] != g->s.at[r->ls[i - 1]] &&
                           g->t.at[r->lt[i]] != g->t.at[r->lt[i - 1]]));
    for (size_t i = 0; same && i < n; i++) {
        uint32_t x = r->ls[i], y = r->lt[i];
        if (r->home_s[x] == c->s + 1 && r->home_t[y] == c->t + 1)
            g->s.key[x] = g->t.key[y] = match_mix(match_mix(qs->hash, qt->hash), i + 1);
    }
}

#define WORK_MOST 64 /* times the number of items: beyond, sequences stay as they are */
enum status keys_of_places(struct game *g, struct arena *a, struct err *e)
{
    struct seqs s, t;
    struct kin *ks, *kt;
    size_t n_ks, n_kt, n = 0, work = 0, most = g->s.n + g->t.n;
    struct room r = {ARENA_ARRAY(a, uint64_t, most + 1),
                     ARENA_ARRAY(a, uint64_t, most + 1),
                     ARENA_ARRAY(a, uint64_t, most + 1),
                     ARENA_ARRAY(a, uint32_t, most + 1),
                     ARENA_ARRAY(a, uint32_t, most + 1),
                     NULL,
                     NULL};
    no_keys(g);
    TRY(numbers_of(&g->s, &s, a, e));
    TRY(numbers_of(&g->t, &t, a, e));
    TRY(kin_of(&g->s, &s, &ks, &n_ks, &r.home_s, a, e));
    TRY(kin_of(&g->t, &t, &kt, &n_kt, &r.home_t, a, e));
    struct couple *c = ARENA_ARRAY(a, struct couple, n_ks + 1);
    if (!c || !r.a || !r.b || !r.both || !r.ls || !r.lt)
        return err_nomem(e, most * sizeof *r.a);
    for (size_t i = 0, j = 0; i < n_ks && j < n_kt;) {
        uint64_t x = ks[i].color, y = kt[j].color;
        if (x == y && g->s.n_like[ks[i].item] == g->t.n_like[kt[j].item])
            c[n++] = (struct couple){ks[i].seq, kt[j].seq};
        i += x <= y;
        j += y <= x;
    }
    if (n)
        qsort(c, n, sizeof *c, by_couple);
    for (size_t i = 0; i < n; i++) {
        if (i && c[i].s == c[i - 1].s && c[i].t == c[i - 1].t)
            continue;
        work += s.q[c[i].s].n + t.q[c[i].t].n;
        if (work > WORK_MOST * most)
            break;
        key_couple(g, &s, &t, &c[i], &r);
    }
    return ST_OK;
}

/* ---- the order of definition ---- */

struct listed {
    uint64_t order;
    uint32_t item;
};
static int by_order(const void *px, const void *py)
{
    const struct listed *x = px, *y = py;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* A sequence for each place: its items in order. Between two that look alike another must stand,
 * or the order of the two would be all there is to go by. */
static enum status orders_of(const struct side *x, struct seqs *out, uint32_t *list, size_t room,
                             struct arena *a, struct err *e)
{
    struct listed *l = ARENA_ARRAY(a, struct listed, x->n + 1);
    out->q = ARENA_ARRAY(a, struct seq, x->n_places + 1);
    out->n = 0;
    if (!l || !out->q)
        return err_nomem(e, x->n * sizeof *l);
    size_t used = 0;
    for (size_t i = 0; i < x->n_places; i++) {
        const struct place *p = &x->place[i];
        size_t n = holds(p), open = 0;
        bool same = i > 0 && holds(&x->place[p->parent]) == n;
        if (n < 3 || same || used + n > room)
            continue;
        for (size_t k = 0; k < n; k++) {
            uint32_t item = x->perm[p->lo + k];
            l[k] = (struct listed){x->it[item].order, item};
            open += x->it[item].pair < 0;
        }
        if (!open)
            continue;
        qsort(l, n, sizeof *l, by_order);
        uint64_t h = 13;
        bool apart = true;
        for (size_t k = 0; k < n; k++) {
            h = match_mix(h, x->known[l[k].item]);
            apart = apart && (k == 0 || x->known[l[k].item] != x->known[l[k - 1].item]);
            list[used + k] = l[k].item;
        }
        if (!apart)
            continue;
        out->q[out->n++] = (struct seq){match_mix(h, n), used, n};
        used += n;
    }
    if (out->n)
        qsort(out->q, out->n, sizeof *out->q, by_hash);
    return ST_OK;
}

enum status keys_of_order(struct game *g, struct arena *a, struct err *e)
{
    struct seqs s = {0}, t = {0};
    const struct seq *qs, *qt;
    size_t room_s = 8 * g->s.n, room_t = 8 * g->t.n; /* deeper trees: what lies outside them */
    no_keys(g);
    if (!g->s.defined || !g->t.defined)
        return ST_OK;
    uint32_t *ls = ARENA_ARRAY(a, uint32_t, room_s + 1), *lt = ARENA_ARRAY(a, uint32_t, room_t + 1);
    if (!ls || !lt)
        return err_nomem(e, room_s * sizeof *ls);
    TRY(orders_of(&g->s, &s, ls, room_s, a, e));
    TRY(orders_of(&g->t, &t, lt, room_t, a, e));
    for (size_t i = 0, j = 0; seqs_both(&s, &t, &i, &j, &qs, &qt);)
        for (size_t k = 0; qs->n == qt->n && k < qs->n; k++) {
            uint32_t x = ls[qs->first + k], y = lt[qt->first + k];
            if (!g->s.key[x] && !g->t.key[y])
                g->s.key[x] = g->t.key[y] = match_mix(qs->hash, k + 1);
        }
    return ST_OK;
}
