/* Matching by refinement: every item has a colour; items may pair when colours are equal and a
 * signature is shared. Each piece of evidence gives every item a key; items of one colour and one
 * key get a colour of their own where both sides have as many of them. So a pair that is made is
 * forced by what came before.
 */
#include "framework/match.h"
#include "framework/match_int.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

uint64_t match_mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h ^= h >> 31;
    h *= 0xbf58476d1ce4e5b9u;
    return h ^ (h >> 29);
}

bool match_shares(const struct match_item *s, const struct match_item *t)
{
    for (size_t i = 0; i < s->n_sigs; i++)
        for (size_t j = 0; j < t->n_sigs; j++)
            if (s->sig[i] == t->sig[j])
                return true;
    return false;
}

bool match_fits(const struct match_item *s, const struct match_item *t)
{
    return s->color == t->color && match_shares(s, t);
}

/* Which way a cell reads, where its name says so; a name that says both says nothing. */
static unsigned way_of(const struct side *x, size_t i)
{
    unsigned way = x->word[i].tower & (WAY_AHEAD | WAY_BACK);
    bool cell = (x->it[i].kinds & KIND_CELLS) != 0;
    return cell && way != (WAY_AHEAD | WAY_BACK) ? way : 0;
}

/* A query is no key, and what reads backwards does not read forwards, whatever else speaks for it.
 */
static bool contradict(const struct game *g, size_t i, size_t j)
{
    enum part_of a = g->s.word[i].part, b = g->t.word[j].part;
    unsigned x = way_of(&g->s, i), y = way_of(&g->t, j);
    return (a && b && a != b) || (x && y && x != y);
}

static void pair(struct game *g, size_t i, size_t j, const char *why)
{
    g->s.it[i].pair = (int64_t)j;
    g->t.it[j].pair = (int64_t)i;
    g->s.it[i].why = g->t.it[j].why = why;
}

/* ---- 1: equal names ---- */

struct entry {
    uint64_t form, text;
    uint32_t item;
};
static int by_form(const void *px, const void *py)
{
    const struct entry *x = px, *y = py;
    if (x->form != y->form)
        return x->form < y->form ? -1 : 1;
    if (x->text != y->text)
        return x->text < y->text ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Bytes of the segments that all paths of a side begin with. */
static size_t common_head(const struct side *x)
{
    if (x->n < 2)
        return 0;
    size_t n = x->it[0].path.n;
    for (size_t i = 1; i < x->n; i++) {
        struct str a = x->it[0].path, b = x->it[i].path;
        size_t k = 0;
        while (k < n && k < b.n && a.p[k] == b.p[k])
            k++;
        n = k;
    }
    while (n > 0 && x->it[0].path.p[n - 1] != '.')
        n--;
    return n;
}

enum { NO_HEAD = 1, NO_WRAPPERS = 2 };
static struct entry *entries(const struct side *x, unsigned how, struct arena *a)
{
    struct entry *out = ARENA_ARRAY(a, struct entry, x->n + 1);
    size_t skip = how & NO_HEAD ? common_head(x) : 0;
    for (size_t i = 0; out && i < x->n; i++) {
        struct str p = str_sub(x->it[i].path, skip, x->it[i].path.n);
        out[i] = (struct entry){text_hash(p, false, !(how & NO_WRAPPERS)),
                                text_hash(p, true, !(how & NO_WRAPPERS)), (uint32_t)i};
    }
    if (out && x->n)
        qsort(out, x->n, sizeof *out, by_form);
    return out;
}

static size_t group_end(const struct entry *x, size_t n, size_t lo)
{
    size_t hi = lo + 1;
    while (hi < n && x[hi].form == x[lo].form)
        hi++;
    return hi;
}

/* The same texts on both sides, each once. Else the numbers count from different starts (conv1,
 * conv2 against Conv_0, Conv_1), and equal ones say nothing. */
static bool same_texts(const struct entry *s, const struct entry *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i].text != t[i].text || (i && s[i].text == s[i - 1].text))
            return false;
    return true;
}

static enum status equal_names(struct game *g, unsigned how_s, unsigned how_t, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct entry *s = entries(&g->s, how_s, &tmp), *t = entries(&g->t, how_t, &tmp);
    for (size_t i = 0, j = 0; s && t && i < g->s.n && j < g->t.n;) {
        size_t ie = group_end(s, g->s.n, i), je = group_end(t, g->t.n, j);
        uint64_t a = s[i].form, b = t[j].form;
        bool same = a == b && ie - i == je - j && same_texts(s + i, t + j, ie - i);
        for (size_t k = 0; same && k < ie - i; k++) {
            size_t x = s[i + k].item, y = t[j + k].item;
            if (g->s.it[x].pair < 0 && g->t.it[y].pair < 0 && match_fits(&g->s.it[x], &g->t.it[y]))
                pair(g, x, y, "equal names");
        }
        i = a <= b ? ie : i;
        j = b <= a ? je : j;
    }
    enum status st = s && t ? ST_OK : err_nomem(e, g->s.n * sizeof *s);
    arena_free(&tmp);
    return st;
}

/* As they are; without the segments that all paths of a side begin with ("net."); without words
 * that only wrap ("model.", "module."). */
static enum status names(struct game *g, struct err *e)
{
    for (unsigned k = 0; k < 4; k++)
        TRY(equal_names(g, k & 1 ? NO_HEAD : 0, k & 2 ? NO_HEAD : 0, e));
    return equal_names(g, NO_WRAPPERS, NO_WRAPPERS, e);
}

/* ---- splitting colours ---- */

struct open {
    uint64_t color, key;
    uint32_t item;
    bool target;
};
static int by_color(const void *px, const void *py)
{
    const struct open *x = px, *y = py;
    if (x->color != y->color)
        return x->color < y->color ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->target != y->target)
        return x->target ? 1 : -1;
    return (x->item > y->item) - (x->item < y->item);
}

/* The open items of both sides, equal colours together. */
static enum status open_items(struct game *g, bool keys, struct open **out, size_t *n,
                              struct arena *a, struct err *e)
{
    *out = ARENA_ARRAY(a, struct open, g->s.n + g->t.n + 1);
    *n = 0;
    if (!*out)
        return err_nomem(e, (g->s.n + g->t.n) * sizeof **out);
    for (int q = 0; q < 2; q++) {
        const struct side *x = q ? &g->t : &g->s;
        for (size_t i = 0; i < x->n; i++)
            if (x->it[i].pair < 0)
                (*out)[(*n)++] =
                    (struct open){x->it[i].color, keys ? x->key[i] : 0, (uint32_t)i, q};
    }
    if (*n)
        qsort(*out, *n, sizeof **out, by_color);
    return ST_OK;
}

static struct match_item *item_of(struct game *g, const struct open *o)
{
    return o->target ? &g->t.it[o->item] : &g->s.it[o->item];
}

static size_t color_end(const struct open *o, size_t n, size_t lo)
{
    size_t hi = lo + 1;
    while (hi < n && o[hi].color == o[lo].color)
        hi++;
    return hi;
}

static size_t key_end(const struct open *o, size_t hi, size_t lo)
{
    size_t k = lo + 1;
    while (k < hi && o[k].key == o[lo].key)
        k++;
    return k;
}

static size_t n_target(const struct open *o, size_t lo, size_t hi)
{
    size_t n = 0;
    for (size_t i = lo; i < hi; i++)
        n += o[i].target;
    return n;
}

/* One colour. whole: only where all keys are equally often on both sides; else those that are, and
 * the rest stays together. */
static bool split_color(struct game *g, const struct open *o, size_t lo, size_t hi, bool whole,
                        const char *why)
{
    bool any = false, all = true;
    for (size_t i = lo, k; i < hi; i = k) {
        k = key_end(o, hi, i);
        all = all && 2 * n_target(o, i, k) == k - i;
    }
    for (size_t i = lo, k; i < hi; i = k) {
        k = key_end(o, hi, i);
        bool one = i == lo && k == hi; /* nothing to tell apart, but a reason to pair */
        bool fits = 2 * n_target(o, i, k) == k - i && (whole ? all : o[i].key != 0);
        if (!fits || (one && (o[i].key == 0 || item_of(g, &o[i])->why)))
            continue;
        for (size_t j = i; j < k; j++) {
            struct match_item *it = item_of(g, &o[j]);
            if (!one)
                it->color = match_mix(it->color, o[j].key);
            if (o[j].key)
                it->why = why;
        }
        any = any || !one || k - i == 2;
    }
    return any;
}

static enum status split(struct game *g, bool whole, const char *why, bool *changed, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct open *o;
    size_t n;
    enum status st = open_items(g, true, &o, &n, &tmp, e);
    for (size_t i = 0, k; st == ST_OK && i < n; i = k) {
        k = color_end(o, n, i);
        if (split_color(g, o, i, k, whole, why))
            *changed = true;
    }
    arena_free(&tmp);
    return st;
}

/* ---- necessity ---- */

#define CLASSES 64
struct class
{ /* items of one colour with the same signatures */
    uint32_t item;
    size_t n;
};
struct crowd {
    struct class c[CLASSES];
    size_t n;
};

static bool same_sigs(const struct match_item *x, const struct match_item *y)
{
    return x->n_sigs == y->n_sigs && memcmp(x->sig, y->sig, x->n_sigs * sizeof *x->sig) == 0;
}

static bool join_class(struct game *g, struct crowd *c, const struct open *o)
{
    for (size_t i = 0; i < c->n; i++) {
        struct open rep = {.item = c->c[i].item, .target = o->target};
        if (same_sigs(item_of(g, &rep), item_of(g, o))) {
            c->c[i].n++;
            return true;
        }
    }
    if (c->n == CLASSES)
        return false;
    c->c[c->n++] = (struct class){o->item, 1};
    return true;
}

/* How many partners a class has, and one of them. */
static size_t degree(struct game *g, const struct class *x, bool target, const struct crowd *y,
                     size_t *at)
{
    size_t n = 0;
    for (size_t j = 0; j < y->n; j++) {
        const struct match_item *a = target ? &g->t.it[x->item] : &g->s.it[x->item];
        const struct match_item *b = target ? &g->s.it[y->c[j].item] : &g->t.it[y->c[j].item];
        if (y->c[j].n && match_shares(a, b)) {
            n += y->c[j].n;
            *at = j;
        }
    }
    return n;
}

struct group {
    const struct open *o;
    size_t lo, hi;
    struct crowd s, t;
};

static bool crowds(struct game *g, struct group *r)
{
    r->s.n = r->t.n = 0;
    for (size_t i = r->lo; i < r->hi; i++)
        if (item_of(g, &r->o[i])->pair < 0 &&
            !join_class(g, r->o[i].target ? &r->t : &r->s, &r->o[i]))
            return false; /* too many to think about: they stay open */
    return true;
}

/* Is there a partner for all? Then who has but one must have that. */
static bool complete(struct game *g, struct group *r)
{
    size_t n_t = n_target(r->o, r->lo, r->hi), at = 0;
    if (2 * n_t != r->hi - r->lo || !crowds(g, r))
        return false;
    for (size_t i = 0; i < r->s.n; i++)
        if (degree(g, &r->s.c[i], false, &r->t, &at) == 0)
            return false;
    for (size_t i = 0; i < r->t.n; i++)
        if (degree(g, &r->t.c[i], true, &r->s, &at) == 0)
            return false;
    return true;
}

static uint32_t open_of_class(struct game *g, const struct group *r, const struct class *c,
                              bool target)
{
    struct open rep = {.item = c->item, .target = target};
    for (size_t i = r->lo; i < r->hi; i++) {
        const struct match_item *it = item_of(g, &r->o[i]);
        if (r->o[i].target == target && it->pair < 0 && same_sigs(it, item_of(g, &rep)))
            return r->o[i].item;
    }
    return c->item;
}

static bool peel_side(struct game *g, struct group *r, bool target)
{
    struct crowd *x = target ? &r->t : &r->s, *y = target ? &r->s : &r->t;
    bool any = false;
    for (size_t i = 0; i < x->n; i++) {
        size_t j = 0;
        if (x->c[i].n != 1 || degree(g, &x->c[i], target, y, &j) != 1)
            continue;
        uint32_t a = open_of_class(g, r, &x->c[i], target),
                 b = open_of_class(g, r, &y->c[j], !target);
        uint32_t s = target ? b : a, t = target ? a : b;
        if (contradict(g, s, t))
            continue;
        pair(g, s, t, g->s.it[s].why ? g->s.it[s].why : "the only one that fits");
        x->c[i].n = y->c[j].n = 0;
        any = true;
    }
    return any;
}

/* Pairs what evidence has singled out. Pairs by necessity hold only in a complete pairing: where
 * an item has no partner at all, nothing that only shapes say is necessary. */
static enum status settle(struct game *g, bool *changed, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct group *r = ARENA_ARRAY(&tmp, struct group, 1);
    struct open *o;
    size_t n;
    enum status st = r ? open_items(g, false, &o, &n, &tmp, e) : err_nomem(e, sizeof *r);
    bool all = true;
    for (size_t i = 0, k; st == ST_OK && i < n; i = k) {
        k = color_end(o, n, i);
        r->o = o;
        r->lo = i;
        r->hi = k;
        all = all && complete(g, r);
    }
    for (size_t i = 0, k; st == ST_OK && i < n; i = k) {
        k = color_end(o, n, i);
        r->o = o;
        r->lo = i;
        r->hi = k;
        bool told = k - i == 2 && !o[i].target && o[i + 1].target && item_of(g, &o[i])->why;
        if (told && match_shares(item_of(g, &o[i]), item_of(g, &o[i + 1])) &&
            !contradict(g, o[i].item, o[i + 1].item)) {
            pair(g, o[i].item, o[i + 1].item, item_of(g, &o[i])->why);
            *changed = true;
        } else if (all && crowds(g, r)) {
            bool any = true;
            while (any) {
                any = peel_side(g, r, false);
                any = peel_side(g, r, true) || any;
                *changed = *changed || any;
            }
        }
    }
    arena_free(&tmp);
    return st;
}

/* ---- what is known, for the tree ---- */

static void look(struct side *x, bool source)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct match_item *it = &x->it[i];
        x->known[i] =
            it->pair >= 0 ? match_mix(1, source ? i : (uint64_t)it->pair) : match_mix(2, it->color);
    }
    x->sum[0] = 0;
    for (size_t i = 0; i < x->n; i++)
        x->sum[i + 1] = x->sum[i] + match_mix(3, x->known[x->perm[i]]);
}

static enum status count_like(struct game *g, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct open *o;
    size_t n;
    enum status st = open_items(g, false, &o, &n, &tmp, e);
    for (size_t i = 0, k; st == ST_OK && i < n; i = k) {
        k = color_end(o, n, i);
        size_t n_t = n_target(o, i, k);
        for (size_t j = i; j < k; j++)
            *(o[j].target ? &g->t.n_like[o[j].item] : &g->s.n_like[o[j].item]) =
                (uint32_t)(o[j].target ? n_t : k - i - n_t);
    }
    arena_free(&tmp);
    look(&g->s, true);
    look(&g->t, false);
    return st;
}

/* ---- the evidence, one after the other ---- */

enum evidence {
    BY_FULL,
    BY_TELLING,
    BY_TOWER,
    BY_TREES,
    BY_TREE,
    BY_INNER,
    BY_OUTER,
    BY_ACROSS,
    BY_OWN,
    BY_LAST,
    BY_RANK,
    BY_NUMBER,
    BY_PLACE,
    BY_ORDER,
    EVIDENCES
};

enum { TEXT_OR_IMAGE, FIRST_OR_SECOND, WAY };
static uint64_t word_key(const struct side *x, size_t i, enum evidence v, unsigned part)
{
    const struct spoken *w = &x->word[i];
    switch (v) {
    case BY_FULL:
        return w->full;
    case BY_TELLING:
        return w->telling;
    case BY_OWN:
        return w->own;
    case BY_LAST:
        return w->last;
    default: /* forwards is what torch's names do not say */
        return part == WAY               ? way_of(x, i) & WAY_BACK
               : part == FIRST_OR_SECOND ? w->tower & (TOWER_FIRST | TOWER_SECOND)
                                         : w->tower & (TOWER_TEXT | TOWER_IMAGE);
    }
}

static enum status by_words(struct game *g, enum evidence v, unsigned part, bool *changed,
                            struct err *e)
{
    for (int q = 0; q < 2; q++) {
        struct side *x = q ? &g->t : &g->s;
        for (size_t i = 0; i < x->n; i++)
            x->key[i] = word_key(x, i, v, part);
    }
    return split(g, false, "the same words in both names", changed, e);
}

#define PLACES_UP 4
static enum status by_tree(struct game *g, bool whole, bool *changed, struct err *e)
{
    for (unsigned up = 1; up <= PLACES_UP; up++) {
        TRY(count_like(g, e));
        keys_of_parents(&g->s, up);
        keys_of_parents(&g->t, up);
        TRY(split(g, whole, "the same things stand beside it", changed, e));
    }
    return ST_OK;
}

/* One side's tree may be deeper: a parent here is a grandparent there. */
static enum status by_tree_across(struct game *g, bool *changed, struct err *e)
{
    for (unsigned a = 1; a <= PLACES_UP; a++)
        for (unsigned b = 1; b <= PLACES_UP; b++) {
            if (a == b)
                continue;
            TRY(count_like(g, e));
            keys_of_parents(&g->s, a);
            keys_of_parents(&g->t, b);
            TRY(split(g, false, "the same things stand beside it", changed, e));
        }
    return ST_OK;
}

static enum status look_at(struct game *g, enum evidence v, bool *changed, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    enum status st = ST_OK;
    const char *why = "";
    switch (v) {
    case BY_FULL:
    case BY_TELLING:
    case BY_OWN:
    case BY_LAST:
        return by_words(g, v, 0, changed, e);
    case BY_TOWER:
        TRY(by_words(g, v, TEXT_OR_IMAGE, changed, e));
        TRY(by_words(g, v, FIRST_OR_SECOND, changed, e));
        return by_words(g, v, WAY, changed, e);
    case BY_TREES:
        return by_tree(g, true, changed, e);
    case BY_TREE:
        return by_tree(g, false, changed, e);
    case BY_ACROSS:
        return by_tree_across(g, changed, e);
    default:
        break;
    }
    TRY(count_like(g, e));
    if (v == BY_INNER || v == BY_OUTER) {
        st = keys_of_blocks(g, v == BY_INNER, &tmp, e);
        why = "in the block of the same number on both sides";
    } else if (v == BY_RANK) {
        keys_of_ranks(&g->s);
        keys_of_ranks(&g->t);
        why = "the same of two norms";
    } else if (v == BY_NUMBER) {
        st = keys_of_numbers(g, &tmp, e);
        why = "n-th of its kind on both sides";
    } else if (v == BY_PLACE) {
        st = keys_of_places(g, &tmp, e);
        why = "n-th of its kind on both sides";
    } else {
        st = keys_of_order(g, &tmp, e);
        why = "at the same place in the order of both";
    }
    if (st == ST_OK)
        st = split(g, false, why, changed, e);
    arena_free(&tmp);
    return st;
}

/* ---- the whole ---- */

/* Items linked by signatures, over both sides, begin with one colour: the least signature of the
 * group. */
static uint64_t root_of(const uint64_t *sig, uint32_t *up, size_t n, uint64_t s, uint32_t *out)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (sig[mid] < s)
            lo = mid + 1;
        else
            hi = mid;
    }
    uint32_t at = (uint32_t)lo;
    while (up[at] != at) {
        up[at] = up[up[at]];
        at = up[at];
    }
    *out = at;
    return sig[at];
}

static int by_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

static enum status first_colors(struct game *g, struct err *e)
{
    struct arena tmp = ARENA_INIT;
    struct side *x[2] = {&g->s, &g->t};
    size_t most = (g->s.n + g->t.n) * MATCH_SIGS, n = 0, k = 0;
    uint64_t *sig = ARENA_ARRAY(&tmp, uint64_t, most + 1);
    uint32_t *up = ARENA_ARRAY(&tmp, uint32_t, most + 1);
    if (!sig || !up) {
        arena_free(&tmp);
        return err_nomem(e, most * sizeof *sig);
    }
    for (int q = 0; q < 2; q++)
        for (size_t i = 0; i < x[q]->n; i++)
            for (size_t j = 0; j < x[q]->it[i].n_sigs; j++)
                sig[n++] = x[q]->it[i].sig[j];
    if (n)
        qsort(sig, n, sizeof *sig, by_u64);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || sig[i] != sig[i - 1])
            sig[k++] = sig[i];
    for (size_t i = 0; i < k; i++)
        up[i] = (uint32_t)i;
    for (int pass = 0; pass < 2; pass++)
        for (int q = 0; q < 2; q++)
            for (size_t i = 0; i < x[q]->n; i++) {
                struct match_item *it = &x[q]->it[i];
                uint32_t a = 0, b = 0;
                it->color = it->n_sigs ? root_of(sig, up, k, it->sig[0], &a) : 0;
                for (size_t j = 1; j < it->n_sigs; j++) {
                    (void)root_of(sig, up, k, it->sig[j], &b);
                    up[a > b ? a : b] = a < b ? a : b;
                    a = a < b ? a : b;
                }
            }
    arena_free(&tmp);
    return ST_OK;
}

static enum status room(struct game *g, struct side *x, struct match_item *it, size_t n,
                        struct err *e)
{
    if (n >= UINT32_MAX / 4)
        return err_set(e, ST_LIMIT, "too-many", "%zu layers are too many to match", n);
    x->it = it;
    x->n = n;
    x->word = ARENA_ARRAY(g->a, struct spoken, n + 1);
    x->key = ARENA_ARRAY(g->a, uint64_t, n + 1);
    x->known = ARENA_ARRAY(g->a, uint64_t, n + 1);
    x->sum = ARENA_ARRAY(g->a, uint64_t, n + 1);
    x->n_like = ARENA_ARRAY(g->a, uint32_t, n + 1);
    if (!x->word || !x->key || !x->known || !x->sum || !x->n_like)
        return err_nomem(e, n * sizeof *x->word);
    for (size_t i = 0; i < n; i++) {
        TRY(speak(it[i].path, g->a, &x->word[i], e));
        x->defined = x->defined || it[i].order != it[0].order;
        if (it[i].pair < 0)
            it[i].why = NULL;
    }
    return tree_build(x, g->a, e);
}

#define ROUNDS 256
enum status match(struct match_item *s, size_t n_s, struct match_item *t, size_t n_t,
                  struct arena *a, struct err *e)
{
    struct game g = {.a = a};
    TRY(room(&g, &g.s, s, n_s, e));
    TRY(room(&g, &g.t, t, n_t, e));
    TRY(first_colors(&g, e));
    TRY(names(&g, e));
    bool changed = false;
    TRY(settle(&g, &changed, e));
    /* the strong before the weak: after each that says something, from the start */
    for (int v = 0, round = 0; v < EVIDENCES && round < ROUNDS; round++) {
        changed = false;
        TRY(look_at(&g, (enum evidence)v, &changed, e));
        if (changed)
            TRY(settle(&g, &changed, e));
        v = changed ? 0 : v + 1;
    }
    return ST_OK;
}
