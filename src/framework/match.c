/* Matching by refinement: every item has a colour; items may pair when colours are equal and a
 * signature is shared. Each piece of evidence only splits colours, and only where it splits both
 * sides alike, so a pair that is made is forced by what came before.
 */
#include "framework/match.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

struct side {
    struct match_item *it;
    size_t n;
    struct str *text; /* words of the path, one blank between */
    struct str *form; /* ... with '#' for numbers */
    uint64_t *key;    /* of the evidence at hand */
};
struct game {
    struct side s, t;
    struct arena *a;
    size_t n_paired;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h ^= h >> 31;
    h *= 0xbf58476d1ce4e5b9u;
    return h ^ (h >> 29);
}

static bool share_sig(const struct match_item *s, const struct match_item *t)
{
    for (size_t i = 0; i < s->n_sigs; i++)
        for (size_t j = 0; j < t->n_sigs; j++)
            if (s->sig[i] == t->sig[j])
                return true;
    return false;
}

bool match_fits(const struct match_item *s, const struct match_item *t)
{
    return s->color == t->color && share_sig(s, t);
}

static void pair(struct game *g, size_t i, size_t j, const char *why)
{
    g->s.it[i].pair = (int64_t)j;
    g->t.it[j].pair = (int64_t)i;
    g->s.it[i].why = g->t.it[j].why = why;
    g->n_paired++;
}

/* ---- words of a path ---- */

enum { NO_NUMBERS = 1, LAST_ONLY = 2, HASH_NUMBERS = 4 };

static enum status text_of(struct game *g, struct str path, unsigned how, struct str *out,
                           struct err *e)
{
    struct buf b = BUF_INIT;
    struct str rest = path, seg;
    while (name_head(&rest, &seg)) {
        struct words w;
        words_of(seg, &w);
        bool number = w.n == 1 && w.word[0][0] >= '0' && w.word[0][0] <= '9';
        if ((how & LAST_ONLY) && !number)
            buf_clear(&b);
        for (size_t i = 0; i < w.n; i++) {
            bool digit = w.word[i][0] >= '0' && w.word[i][0] <= '9';
            if (digit && (how & NO_NUMBERS))
                continue;
            if (b.n)
                buf_u8(&b, ' ');
            buf_z(&b, digit && (how & HASH_NUMBERS) ? "#" : w.word[i]);
        }
    }
    enum status st = buf_ok(&b, e);
    if (st == ST_OK) {
        *out = arena_str(g->a, b.p ? (const char *)b.p : "", b.n);
        if (!out->p)
            st = err_nomem(e, b.n);
    }
    buf_free(&b);
    return st;
}

static enum status texts(struct game *g, struct side *x, unsigned how, struct err *e)
{
    for (size_t i = 0; i < x->n; i++)
        TRY(text_of(g, x->it[i].path, how, &x->text[i], e));
    return ST_OK;
}

/* ---- 1: equal names ---- */

/* The first segment of all paths of a side, where they share one. */
static struct str common_head(const struct side *x)
{
    struct str head = STR_NONE;
    for (size_t i = 0; i < x->n; i++) {
        struct str rest = x->it[i].path, seg;
        if (!name_head(&rest, &seg) || !rest.p)
            return STR_NONE;
        if (i == 0)
            head = seg;
        else if (!str_eq(head, seg))
            return STR_NONE;
    }
    return x->n > 1 ? head : STR_NONE;
}

struct entry {
    struct str form, text;
    size_t item;
};

static int by_form(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    int c = str_cmp(a->form, b->form);
    return c != 0 ? c : str_cmp(a->text, b->text);
}

static struct entry *entries(struct game *g, const struct side *x)
{
    struct entry *out = ARENA_ARRAY(g->a, struct entry, x->n + 1);
    for (size_t i = 0; out && i < x->n; i++)
        out[i] = (struct entry){x->form[i], x->text[i], i};
    if (out && x->n)
        qsort(out, x->n, sizeof *out, by_form);
    return out;
}

static size_t group_end(const struct entry *x, size_t n, size_t lo)
{
    size_t hi = lo + 1;
    while (hi < n && str_eq(x[hi].form, x[lo].form))
        hi++;
    return hi;
}

/* The same texts on both sides, each once. Else the numbers count from different starts (conv1,
 * conv2 against Conv_0, Conv_1), and equal ones say nothing. */
static bool same_texts(const struct entry *s, const struct entry *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!str_eq(s[i].text, t[i].text) || (i && str_eq(s[i].text, s[i - 1].text)))
            return false;
    return true;
}

static enum status equal_names(struct game *g, struct err *e)
{
    struct entry *s = entries(g, &g->s), *t = entries(g, &g->t);
    if (!s || !t)
        return err_nomem(e, g->s.n * sizeof *s);
    for (size_t i = 0, j = 0; i < g->s.n && j < g->t.n;) {
        size_t ie = group_end(s, g->s.n, i), je = group_end(t, g->t.n, j);
        int c = str_cmp(s[i].form, t[j].form);
        bool same = c == 0 && ie - i == je - j && s[i].form.n && same_texts(s + i, t + j, ie - i);
        for (size_t k = 0; same && k < ie - i; k++) {
            size_t a = s[i + k].item, b = t[j + k].item;
            if (g->s.it[a].pair < 0 && g->t.it[b].pair < 0 && match_fits(&g->s.it[a], &g->t.it[b]))
                pair(g, a, b, "equal names");
        }
        i = c <= 0 ? ie : i;
        j = c >= 0 ? je : j;
    }
    return ST_OK;
}

static enum status named(struct game *g, struct side *x, size_t skip, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        struct str p = str_sub(x->it[i].path, skip, x->it[i].path.n);
        TRY(text_of(g, p, 0, &x->text[i], e));
        TRY(text_of(g, p, HASH_NUMBERS, &x->form[i], e));
    }
    return ST_OK;
}

/* As they are, and without a first segment that all paths of a side share ("model.", "net."). */
static enum status names(struct game *g, struct err *e)
{
    struct str hs = common_head(&g->s), ht = common_head(&g->t);
    for (int k = 0; k < 4; k++) {
        if (((k & 1) && !hs.p) || ((k & 2) && !ht.p))
            continue;
        TRY(named(g, &g->s, k & 1 ? hs.n + 1 : 0, e));
        TRY(named(g, &g->t, k & 2 ? ht.n + 1 : 0, e));
        TRY(equal_names(g, e));
    }
    return ST_OK;
}

/* ---- 2: necessity ---- */

static void degrees(struct side *x, const struct side *y)
{
    for (size_t i = 0; i < x->n; i++) {
        x->it[i].degree = 0;
        for (size_t j = 0; x->it[i].pair < 0 && j < y->n; j++)
            x->it[i].degree += y->it[j].pair < 0 && match_fits(&x->it[i], &y->it[j]);
    }
}

static bool peel_side(struct game *g, struct side *x, struct side *y, bool flip)
{
    bool any = false;
    for (size_t i = 0; i < x->n; i++) {
        if (x->it[i].pair >= 0 || x->it[i].degree != 1)
            continue;
        size_t j = 0;
        while (j < y->n && (y->it[j].pair >= 0 || !match_fits(&x->it[i], &y->it[j])))
            j++;
        if (j == y->n)
            continue; /* its last partner went to another: no complete pairing */
        for (size_t k = 0; k < x->n; k++)
            if (x->it[k].pair < 0 && match_fits(&x->it[k], &y->it[j]))
                x->it[k].degree--;
        for (size_t k = 0; k < y->n; k++)
            if (y->it[k].pair < 0 && k != j && match_fits(&x->it[i], &y->it[k]))
                y->it[k].degree--;
        pair(g, flip ? j : i, flip ? i : j, "the only one that fits");
        any = true;
    }
    return any;
}

/* Pairs by necessity hold only in a complete pairing: where an item has no partner at all, nothing
 * of its group is necessary. */
static void peel(struct game *g)
{
    if (g->s.n != g->t.n)
        return;
    degrees(&g->s, &g->t);
    degrees(&g->t, &g->s);
    for (size_t i = 0; i < g->s.n; i++)
        if ((g->s.it[i].pair < 0 && g->s.it[i].degree == 0) ||
            (g->t.it[i].pair < 0 && g->t.it[i].degree == 0))
            return;
    bool any = true;
    while (any) {
        any = peel_side(g, &g->s, &g->t, false);
        any = peel_side(g, &g->t, &g->s, true) || any;
    }
}

/* ---- 3, 4: splitting colours ---- */

static int by_u64(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* The open items of one colour; their keys, sorted. */
static size_t keys_of(const struct side *x, uint64_t color, uint64_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        if (x->it[i].pair < 0 && x->it[i].color == color)
            out[n++] = x->key[i];
    if (n)
        qsort(out, n, sizeof *out, by_u64);
    return n;
}

/* Splits every colour whose keys are the same multiset on both sides and not all equal. */
static enum status split(struct game *g, bool *changed, struct err *e)
{
    uint64_t *ks = ARENA_ARRAY(g->a, uint64_t, g->s.n + 1);
    uint64_t *kt = ARENA_ARRAY(g->a, uint64_t, g->t.n + 1);
    bool *seen = ARENA_ARRAY(g->a, bool, g->s.n + 1);
    if (!ks || !kt || !seen)
        return err_nomem(e, g->s.n * 8);
    for (size_t i = 0; i < g->s.n; i++) {
        if (seen[i] || g->s.it[i].pair >= 0)
            continue;
        uint64_t color = g->s.it[i].color;
        size_t n = keys_of(&g->s, color, ks), m = keys_of(&g->t, color, kt);
        bool split_it = n == m && n > 1 && ks[0] != ks[n - 1] && memcmp(ks, kt, n * 8) == 0;
        for (size_t k = i; k < g->s.n; k++)
            if (g->s.it[k].pair < 0 && g->s.it[k].color == color) {
                seen[k] = true;
                if (split_it)
                    g->s.it[k].color = mix(color, g->s.key[k]);
            }
        for (size_t k = 0; split_it && k < g->t.n; k++)
            if (g->t.it[k].pair < 0 && g->t.it[k].color == color)
                g->t.it[k].color = mix(color, g->t.key[k]);
        *changed = *changed || split_it;
    }
    return ST_OK;
}

static enum status by_words(struct game *g, unsigned how, bool *changed, struct err *e)
{
    TRY(texts(g, &g->s, how, e));
    TRY(texts(g, &g->t, how, e));
    for (size_t i = 0; i < g->s.n; i++)
        g->s.key[i] = str_hash(g->s.text[i], 1);
    for (size_t i = 0; i < g->t.n; i++)
        g->t.key[i] = str_hash(g->t.text[i], 1);
    return split(g, changed, e);
}

/* The parent of a layer in the tree, a list and its index being one step. */
static struct str parent_of(struct str path)
{
    struct str parent, leaf;
    uint64_t k;
    do {
        name_tail(path, &parent, &leaf);
        path = parent;
    } while (str_u64(leaf, &k) && parent.n);
    return parent;
}

/* What an item is known to be, the same number on both sides. */
static uint64_t known(const struct side *x, size_t i, bool source)
{
    const struct match_item *it = &x->it[i];
    if (it->pair >= 0)
        return mix(1, source ? i : (uint64_t)it->pair);
    return mix(2, it->color);
}

/* Key: what lies below the parent that is `up` levels above, as a multiset. */
static void tree_keys(struct side *x, bool source, unsigned up, struct str *at)
{
    for (size_t i = 0; i < x->n; i++) {
        at[i] = x->it[i].path;
        for (unsigned k = 0; k < up; k++)
            at[i] = parent_of(at[i]);
    }
    for (size_t i = 0; i < x->n; i++) {
        uint64_t sum = 0;
        if (x->it[i].pair >= 0)
            continue;
        for (size_t j = 0; j < x->n; j++) {
            struct str p = x->it[j].path;
            bool below =
                at[i].n == 0 || (p.n > at[i].n && p.p[at[i].n] == '.' && str_starts(p, at[i]));
            if (below)
                sum += mix(3, known(x, j, source));
        }
        x->key[i] = sum;
    }
}

static enum status by_tree(struct game *g, bool *changed, struct err *e)
{
    size_t n = g->s.n > g->t.n ? g->s.n : g->t.n;
    struct str *at = ARENA_ARRAY(g->a, struct str, n + 1);
    if (!at)
        return err_nomem(e, n * sizeof *at);
    for (unsigned up = 1; up < 4; up++) {
        tree_keys(&g->s, true, up, at);
        tree_keys(&g->t, false, up, at);
        TRY(split(g, changed, e));
    }
    return ST_OK;
}

/* ---- 5: numbers ---- */

#define NUMBERS 8
struct numbered {
    size_t item;
    uint64_t v[NUMBERS];
    size_t n;
};

static bool numbers_of(struct str path, struct numbered *out)
{
    struct str rest = path, seg;
    out->n = 0;
    while (name_head(&rest, &seg)) {
        struct words w;
        words_of(seg, &w);
        for (size_t i = 0; i < w.n; i++) {
            if (w.word[i][0] < '0' || w.word[i][0] > '9')
                continue;
            if (out->n == NUMBERS)
                return false;
            uint64_t v = 0; /* leading zeros are fine here, and so is wrapping: only order counts */
            for (const char *p = w.word[i]; *p; p++)
                v = v * 10 + (uint64_t)(*p - '0');
            out->v[out->n++] = v;
        }
    }
    return out->n > 0;
}

static int by_numbers(const void *x, const void *y)
{
    const struct numbered *a = x, *b = y;
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (a->v[i] != b->v[i])
            return a->v[i] < b->v[i] ? -1 : 1;
    return (a->item > b->item) - (a->item < b->item);
}

/* All items that may be of these kinds, in numeric order; 0 when one of them is named otherwise, or
 * two have one number. text holds the paths with '#' for numbers. */
static size_t sequence(const struct side *x, unsigned kinds, struct numbered *out)
{
    size_t n = 0, first = SIZE_MAX;
    for (size_t i = 0; i < x->n; i++) {
        if (!(x->it[i].kinds & kinds))
            continue;
        if (first == SIZE_MAX)
            first = i;
        if (!str_eq(x->text[i], x->text[first]) || !numbers_of(x->it[i].path, &out[n]))
            return 0;
        out[n++].item = i;
    }
    if (n)
        qsort(out, n, sizeof *out, by_numbers);
    for (size_t i = 1; i < n; i++)
        if (memcmp(out[i].v, out[i - 1].v, sizeof out[i].v[0] * out[i].n) == 0)
            return 0;
    return n;
}

static bool same_parent(const struct side *x, const struct numbered *a, const struct numbered *b)
{
    return str_eq(parent_of(x->it[a->item].path), parent_of(x->it[b->item].path));
}

static enum status by_number(struct game *g, bool *changed, struct err *e)
{
    struct numbered *ns = ARENA_ARRAY(g->a, struct numbered, g->s.n + 1);
    struct numbered *nt = ARENA_ARRAY(g->a, struct numbered, g->t.n + 1);
    if (!ns || !nt)
        return err_nomem(e, g->s.n * sizeof *ns);
    TRY(texts(g, &g->s, HASH_NUMBERS, e));
    TRY(texts(g, &g->t, HASH_NUMBERS, e));
    for (size_t i = 0; i < g->s.n; i++) {
        if (g->s.it[i].pair >= 0)
            continue;
        unsigned kinds = g->s.it[i].kinds;
        size_t n = sequence(&g->s, kinds, ns);
        if (n == 0 || sequence(&g->t, kinds, nt) != n)
            continue;
        bool agree = true;
        for (size_t k = 0; agree && k < n; k++) {
            const struct match_item *a = &g->s.it[ns[k].item], *b = &g->t.it[nt[k].item];
            agree =
                a->pair >= 0 || b->pair >= 0 ? a->pair == (int64_t)nt[k].item : match_fits(a, b);
            if (k > 0)
                agree = agree && same_parent(&g->s, &ns[k], &ns[k - 1]) ==
                                     same_parent(&g->t, &nt[k], &nt[k - 1]);
        }
        for (size_t k = 0; agree && k < n; k++)
            if (g->s.it[ns[k].item].pair < 0) {
                pair(g, ns[k].item, nt[k].item, "n-th of its kind on both sides");
                *changed = true;
            }
    }
    return ST_OK;
}

/* ---- the whole ---- */

/* Items linked by signatures, over both sides, begin with one colour: the least signature of the
 * group. */
static void first_colors(struct game *g)
{
    struct side *x[2] = {&g->s, &g->t};
    bool any = true;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < x[k]->n; i++) {
            struct match_item *it = &x[k]->it[i];
            it->color = it->n_sigs ? it->sig[0] : 0;
            for (size_t j = 1; j < it->n_sigs; j++)
                it->color = it->sig[j] < it->color ? it->sig[j] : it->color;
        }
    while (any) {
        any = false;
        for (int k = 0; k < 2; k++)
            for (size_t i = 0; i < x[k]->n; i++) {
                struct match_item *a = &x[k]->it[i];
                if (a->n_sigs < 2)
                    continue; /* single signatures follow those of several */
                for (int q = 0; q < 2; q++)
                    for (size_t j = 0; j < x[q]->n; j++) {
                        struct match_item *b = &x[q]->it[j];
                        if (a->color == b->color || !share_sig(a, b))
                            continue;
                        a->color = b->color = a->color < b->color ? a->color : b->color;
                        any = true;
                    }
            }
    }
}

static enum status room(struct game *g, struct side *x, struct match_item *it, size_t n,
                        struct err *e)
{
    x->it = it;
    x->n = n;
    x->text = ARENA_ARRAY(g->a, struct str, n + 1);
    x->form = ARENA_ARRAY(g->a, struct str, n + 1);
    x->key = ARENA_ARRAY(g->a, uint64_t, n + 1);
    return x->text && x->form && x->key ? ST_OK : err_nomem(e, n * 8);
}

enum status match(struct match_item *s, size_t n_s, struct match_item *t, size_t n_t,
                  struct arena *a, struct err *e)
{
    struct game g = {.a = a};
    TRY(room(&g, &g.s, s, n_s, e));
    TRY(room(&g, &g.t, t, n_t, e));
    first_colors(&g);
    TRY(names(&g, e));
    peel(&g);
    bool changed = true;
    for (int round = 0; changed && round < 64; round++) {
        size_t was = g.n_paired;
        changed = false;
        TRY(by_words(&g, NO_NUMBERS, &changed, e));
        TRY(by_words(&g, NO_NUMBERS | LAST_ONLY, &changed, e));
        TRY(by_tree(&g, &changed, e));
        peel(&g);
        if (g.n_paired == was && !changed)
            TRY(by_number(&g, &changed, e));
        changed = changed || g.n_paired != was;
    }
    return ST_OK;
}
