/* What stands around a layer, sorted once for all that ask: which layers give how many values,
 * which channels a flattened map may have, and how numbers in names order the layers of a list.
 */
#include "convert/map_int.h"
#include "convert/sigs.h"
#include "framework/recognise.h"
#include <stdlib.h>

struct gift { /* a layer gives, or reads, so many */
    uint64_t n;
    uint32_t layer;
};
struct gifts {
    struct gift *v;
    size_t n;
};
struct seat { /* a layer that is no norm, parameter or PReLU, where names put it */
    struct str list;
    uint64_t number; /* UINT64_MAX: none */
    uint32_t layer;
    uint32_t conv; /* of those of the list up to here, the last convolution + 1; 0 = none */
    bool twice;    /* two of those have one number */
};
struct around {
    struct gifts gives, reads;
    struct sigs channels; /* distinct */
    struct width {
        uint64_t n;
        bool fed;
    } * width; /* distinct ones that are given, sorted: by a layer that the input reaches? */
    size_t n_widths;
    struct seat *seat; /* by list and number */
    size_t n_seats;
    uint32_t *convs; /* per seat, and at the end: convolutions before it */
    uint64_t last_n; /* of map_flattens */
    bool last;
};

/* The last number in a path at the level below `parent`; UINT64_MAX = none. */
static uint64_t number_of(struct str path)
{
    struct str parent, leaf;
    name_tail(path, &parent, &leaf);
    size_t n = leaf.n;
    while (n > 0 && leaf.p[n - 1] >= '0' && leaf.p[n - 1] <= '9')
        n--;
    uint64_t v;
    return str_u64(str_sub(leaf, n, leaf.n), &v) ? v : UINT64_MAX;
}

/* The parent that numbers it: "net" for "net.3" and "net.fc3"; for "layers.3.fc" the list. */
static void place_of(struct str path, struct str *list, uint64_t *k)
{
    struct str parent, leaf;
    *k = number_of(path);
    name_tail(path, &parent, &leaf);
    *list = parent;
    if (*k == UINT64_MAX && parent.n) {
        *k = number_of(parent);
        name_tail(parent, list, &leaf);
    }
}

static int by_gift(const void *px, const void *py)
{
    const struct gift *x = px, *y = py;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static int by_seat(const void *px, const void *py)
{
    const struct seat *x = px, *y = py;
    int c = str_cmp(x->list, y->list);
    if (c != 0)
        return c;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static bool is_conv(const struct layer *l)
{
    return map_may_be(l, LAYER_CONV) || map_may_be(l, LAYER_CONV_TRANSPOSE) ||
           l->kind == LAYER_CONV_LOCAL;
}

static void give(struct gifts *g, uint64_t n, size_t layer)
{
    if (n)
        g->v[g->n++] = (struct gift){n, (uint32_t)layer};
}

#define GIFTS_MOST 5 /* of a layer: as two convolutions, dense, embedding, attention */
static void look(const struct mapping *m, struct around *x, size_t i)
{
    const struct layer *l = &m->sl.layer[i];
    uint64_t c[2];
    size_t n = map_channels(m, l, c);
    for (size_t k = 0; k < n; k++) {
        give(&x->gives, c[k], i);
        if (c[k] > 1) /* one channel is the same, first or last */
            x->channels.v[x->channels.n++] = c[k];
    }
    if (map_may_be(l, LAYER_LINEAR))
        give(&x->gives, map_extent(m, l, LAYER_LINEAR, LEAF_WEIGHT, 'O'), i);
    if (map_may_be(l, LAYER_EMBEDDING))
        give(&x->gives, map_extent(m, l, LAYER_EMBEDDING, LEAF_WEIGHT, 'D'), i);
    if (l->kind == LAYER_ATTENTION)
        give(&x->gives, map_extent(m, l, LAYER_ATTENTION, LEAF_O_WEIGHT, 'E'), i);
    if (l->kind == LAYER_CONV || l->kind == LAYER_CONV_TRANSPOSE)
        give(&x->reads, map_extent(m, l, l->kind, LEAF_WEIGHT, 'I'), i);
    if (l->kind == LAYER_PARAM || l->kind == LAYER_PRELU || map_is_norm(l->kind))
        return;
    struct seat *s = &x->seat[x->n_seats++];
    *s = (struct seat){.layer = (uint32_t)i};
    place_of(l->path, &s->list, &s->number);
}

static void seats(const struct mapping *m, struct around *x)
{
    if (x->n_seats)
        qsort(x->seat, x->n_seats, sizeof *x->seat, by_seat);
    for (size_t i = 0; i < x->n_seats; i++) {
        struct seat *s = &x->seat[i];
        const struct seat *up = i && str_eq(s->list, s[-1].list) ? s - 1 : NULL;
        bool conv = is_conv(&m->sl.layer[s->layer]);
        s->conv = conv ? s->layer + 1 : up ? up->conv : 0;
        s->twice = up && (up->twice || up->number == s->number);
        x->convs[i + 1] = x->convs[i] + conv;
    }
}

static struct width *width_at(const struct around *x, uint64_t n)
{
    size_t lo = 0, hi = x->n_widths;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (x->width[mid].n < n)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < x->n_widths && x->width[lo].n == n ? &x->width[lo] : NULL;
}

struct dense {
    uint64_t in;
    size_t out; /* a place in around.width */
};
static int by_in(const void *px, const void *py)
{
    const struct dense *x = px, *y = py;
    if (x->in != y->in)
        return x->in < y->in ? -1 : 1;
    return (x->out > y->out) - (x->out < y->out);
}

/* Which widths come from more than a chain through the dense layer that reads them? A dense layer
 * gives its own once it has what it reads: from a layer of another kind, from a dense layer that
 * has, or, where no layer gives that, from the input. In an autoencoder the last dense layer gives
 * what the first reads, and yet does not come before it. */
static enum status feed(struct mapping *m, struct around *x, struct err *e)
{
    struct dense *d = ARENA_ARRAY(m->tmp, struct dense, x->gives.n + 1);
    size_t *queue = ARENA_ARRAY(m->tmp, size_t, x->gives.n + 1), n = 0, n_d = 0;
    x->width = ARENA_ARRAY(m->tmp, struct width, x->gives.n + 1);
    if (!d || !queue || !x->width)
        return err_nomem(e, x->gives.n * sizeof *d);
    for (size_t i = 0; i < x->gives.n; i++) {
        const struct gift *g = &x->gives.v[i];
        const struct layer *l = &m->sl.layer[g->layer];
        if (x->n_widths == 0 || x->width[x->n_widths - 1].n != g->n)
            x->width[x->n_widths++] = (struct width){.n = g->n};
        struct map_rule *r = map_rule_for(m, RULE_FLATTEN, l->path);
        if (r)
            r->n_used--; /* it is heard elsewhere */
        if (l->kind == LAYER_LINEAR && !r && !l->flat_c && !l->flat_said)
            d[n_d++] = (struct dense){map_extent(m, l, l->kind, LEAF_WEIGHT, 'F'), x->n_widths - 1};
        else
            x->width[x->n_widths - 1].fed = true;
    }
    for (size_t i = 0; i < n_d; i++)
        if (!width_at(x, d[i].in))
            x->width[d[i].out].fed = true;
    if (n_d)
        qsort(d, n_d, sizeof *d, by_in);
    for (size_t i = 0; i < x->n_widths; i++)
        if (x->width[i].fed)
            queue[n++] = i;
    for (size_t at = 0; at < n; at++) {
        uint64_t have = x->width[queue[at]].n;
        size_t lo = 0, hi = n_d;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (d[mid].in < have)
                lo = mid + 1;
            else
                hi = mid;
        }
        for (; lo < n_d && d[lo].in == have; lo++)
            if (!x->width[d[lo].out].fed) {
                x->width[d[lo].out].fed = true;
                queue[n++] = d[lo].out;
            }
    }
    return ST_OK;
}

enum status map_look_around(struct mapping *m, struct err *e)
{
    size_t n = m->sl.n;
    struct around *x = ARENA_NEW(m->tmp, struct around);
    if (!x)
        return err_nomem(e, sizeof *x);
    x->gives.v = ARENA_ARRAY(m->tmp, struct gift, GIFTS_MOST * n + 1);
    x->reads.v = ARENA_ARRAY(m->tmp, struct gift, n + 1);
    TRY(sigs_room(&x->channels, 2 * n, m->tmp, e));
    x->seat = ARENA_ARRAY(m->tmp, struct seat, n + 1);
    x->convs = ARENA_ARRAY(m->tmp, uint32_t, n + 1);
    if (!x->gives.v || !x->reads.v || !x->seat || !x->convs)
        return err_nomem(e, n * sizeof *x->seat);
    for (size_t i = 0; i < n; i++)
        look(m, x, i);
    if (x->gives.n)
        qsort(x->gives.v, x->gives.n, sizeof *x->gives.v, by_gift);
    if (x->reads.n)
        qsort(x->reads.v, x->reads.n, sizeof *x->reads.v, by_gift);
    sigs_sort(&x->channels);
    size_t k = 0;
    for (size_t i = 0; i < x->channels.n; i++)
        if (i == 0 || x->channels.v[i] != x->channels.v[i - 1])
            x->channels.v[k++] = x->channels.v[i];
    x->channels.n = k;
    seats(m, x);
    TRY(feed(m, x, e));
    m->around = x;
    return ST_OK;
}

/* The run of gifts of n. */
static void run_of(const struct gifts *g, uint64_t n, size_t *lo, size_t *hi)
{
    for (int end = 0; end < 2; end++) {
        size_t a = 0, b = g->n;
        while (a < b) {
            size_t mid = a + (b - a) / 2;
            if (g->v[mid].n < n || (end && g->v[mid].n == n))
                a = mid + 1;
            else
                b = mid;
        }
        *(end ? hi : lo) = a;
    }
}

static size_t index_of(const struct mapping *m, const struct layer *l)
{
    return (size_t)(l - m->sl.layer);
}

bool map_given(const struct mapping *m, const struct layer *but, uint64_t n)
{
    const struct gifts *g = &m->around->gives;
    size_t lo, hi, own = index_of(m, but);
    run_of(g, n, &lo, &hi);
    while (lo < hi && g->v[lo].layer == own)
        lo++;
    return lo < hi && width_at(m->around, n)->fed;
}

bool map_gives(const struct mapping *m, const struct layer *o, uint64_t n)
{
    const struct gifts *g = &m->around->gives;
    size_t lo, hi, own = index_of(m, o), end;
    run_of(g, n, &lo, &hi);
    end = hi;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (g->v[mid].layer < own)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end && g->v[lo].layer == own;
}

bool map_flattens(const struct mapping *m, uint64_t n)
{
    struct around *x = m->around;
    if (x->last_n == n && n)
        return x->last;
    x->last_n = n;
    x->last = false;
    for (size_t i = 0; i < x->channels.n && x->channels.v[i] < n && !x->last; i++)
        x->last = n % x->channels.v[i] == 0;
    return x->last;
}

size_t map_beside(const struct mapping *m, uint64_t n, uint32_t *out)
{
    const struct gifts *g[2] = {&m->around->gives, &m->around->reads};
    size_t k = 0;
    for (int q = 0; q < 2; q++) {
        size_t lo, hi;
        run_of(g[q], n, &lo, &hi);
        for (size_t i = lo; i < hi; i++)
            out[k++] = g[q]->v[i].layer;
    }
    return k;
}

/* The first seat of a list that has at least that number; past: the first behind the list. */
static size_t seat_at(const struct around *x, struct str list, uint64_t number, bool past)
{
    size_t lo = 0, hi = x->n_seats;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(x->seat[mid].list, list);
        if (c < 0 || (c == 0 && (past || x->seat[mid].number < number)))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool map_before(const struct mapping *m, const struct layer *l, const struct layer **prev,
                const struct layer **conv)
{
    const struct around *x = m->around;
    const struct seat *s = x->seat;
    struct str list;
    uint64_t k;
    size_t own = index_of(m, l);
    *prev = *conv = NULL;
    place_of(l->path, &list, &k);
    size_t first = seat_at(x, list, 0, false), end = seat_at(x, list, 0, true),
           at = seat_at(x, list, k, false), none = seat_at(x, list, UINT64_MAX, false);
    /* without a number, or two of one: they order nothing */
    for (size_t i = k == UINT64_MAX ? first : none; i < end; i++)
        if (s[i].layer != own)
            return false;
    for (size_t i = at; i < end && s[i].number == k; i++)
        if (s[i].layer != own)
            return false;
    if (at > first) {
        if (s[at - 1].twice)
            return false;
        *prev = &m->sl.layer[s[at - 1].layer];
        *conv = s[at - 1].conv ? &m->sl.layer[s[at - 1].conv - 1] : NULL;
    }
    bool elsewhere = x->convs[x->n_seats] > x->convs[end] - x->convs[first];
    return *prev || !elsewhere; /* the first of a list may follow another list */
}
