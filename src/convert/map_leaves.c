/* Equinox files have no names, only an order of leaves. Here their leaves meet tensors that have
 * names, spelled as Equinox does and in its axes: those of a source that goes into a skeleton's
 * leaves, or those of a skeleton that gives a source's leaves their names (map_names.c). Each
 * tensor is given the leaf it must be:
 *  1. by a line "name" -> "number" of the rules file;
 *  2. by order, where the tensors stand in the order of a definition and the shapes of all are, one
 *     by one, those of all leaves, and no rule says otherwise; a state stands inside its module or
 *     behind all modules;
 *  3. as the only tensor and the only leaf of a shape, or those of the only layer;
 *  4. by number, where all of a shape stand in layers whose names differ in numbers alone, and
 *     there are as many leaves of it: n-th goes to n-th;
 *  5. beside its fellow: a bias follows its weight, a cell's leaves each other, a variance its
 *     mean, and the flag or counter of a state stands directly before it.
 * What stays open is asked about. Leaves without axes that nothing fits (Python's numbers: flags,
 * rates) are the skeleton's own values.
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

#define LINE_KEY "equinox.hyperparameters" /* meta of format/equinox.h */

struct item {
    struct str name;
    uint64_t key; /* hash of shape and kind: equal keys may be partners */
    uint64_t order;
    uint32_t index;        /* of the tensor or the leaf */
    int64_t pair;          /* place in the other list, -1 = open */
    struct str path, leaf; /* of a tensor: its layer, and what it is there */
    bool state;            /* of a tensor: part of a state */
};
struct table {
    struct mapping *m;
    const struct model *d;      /* the tensors, as Equinox spells them */
    const struct model *origin; /* ... what they come from: its order counts */
    const struct layers *order; /* ... its layers; may be NULL */
    const struct model *like;   /* the leaves */
    struct item *s, *t;         /* tensors in order; leaves in order */
    size_t n_s, n_t;
    const char **why; /* per tensor */
};

bool map_is_leaves(const struct model *like)
{
    if (!str_is(like->framework, "equinox"))
        return false;
    for (size_t i = 0; i < like->n_tensors; i++) {
        uint64_t at;
        if (!str_u64(like->tensor[i].name, &at) || at != i)
            return false;
    }
    return true;
}

static uint64_t fnv(uint64_t h, uint64_t v)
{
    for (int i = 0; i < 8; i++, v >>= 8)
        h = (h ^ (v & 0xff)) * 0x100000001b3u;
    return h;
}

static uint64_t key_of(const struct tensor *t)
{
    uint64_t h = fnv(0xcbf29ce484222325u, t->n_dims);
    h = fnv(h, t->n_dims ? (uint64_t)dtype_info(t->dtype)->kind : 64 + (uint64_t)t->dtype);
    for (size_t d = 0; d < t->n_dims; d++)
        h = fnv(h, t->dim[d]);
    return h;
}

static int by_order(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* The next run of digits of *s as a number; false when there is none. Long ones saturate. */
static bool next_number(struct str *s, uint64_t *out)
{
    size_t i = 0;
    while (i < s->n && !(s->p[i] >= '0' && s->p[i] <= '9'))
        i++;
    *out = 0;
    size_t lo = i;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
        *out = *out > UINT64_MAX / 10 - 1 ? UINT64_MAX : *out * 10 + (uint64_t)(s->p[i] - '0');
    *s = str_sub(*s, i, s->n);
    return i > lo;
}
static int by_numbers(const void *pa, const void *pb)
{
    struct str a = (*(const struct item *const *)pa)->name;
    struct str b = (*(const struct item *const *)pb)->name;
    uint64_t x, y;
    bool has_a, has_b;
    do {
        has_a = next_number(&a, &x);
        has_b = next_number(&b, &y);
    } while (has_a && has_b && x == y);
    if (!has_a || !has_b)
        return has_a - has_b;
    return x < y ? -1 : 1;
}
static bool same_words(struct str a, struct str b)
{
    size_t i = 0, j = 0;
    for (;;) {
        while (i < a.n && a.p[i] >= '0' && a.p[i] <= '9')
            i++;
        while (j < b.n && b.p[j] >= '0' && b.p[j] <= '9')
            j++;
        if (i == a.n || j == b.n)
            return i == a.n && j == b.n;
        if (a.p[i++] != b.p[j++])
            return false;
    }
}

static void join(struct table *x, size_t s, size_t t, const char *why)
{
    x->s[s].pair = (int64_t)t;
    x->t[t].pair = (int64_t)s;
    x->why[s] = why;
}

/* Takes a name apart: "bn.ema_state_index.0" is part of bn's state. */
static struct item item_of(const struct tensor *t, size_t index)
{
    struct item it = {t->name, key_of(t), t->order, (uint32_t)index, -1, {0}, {0}, false};
    struct str up, seg;
    name_tail(t->name, &it.path, &it.leaf);
    name_tail(it.path, &up, &seg);
    if (str_is(seg, "ema_state_index") || str_is(seg, "batch_state_index")) {
        it.path = up;
        it.state = true;
    } else if (str_is(it.leaf, "ema_first_time_index") || str_is(it.leaf, "batch_counter")) {
        it.state = true;
    }
    return it;
}

/* The first leaf of an optimizer's state, which stands behind the model's. */
static size_t model_leaves(const struct model *leaves)
{
    size_t n = 0;
    while (n < leaves->n_tensors && leaves->tensor[n].role == ROLE_PARAMETER)
        n++;
    return n;
}

static bool in_opt_state(struct str name)
{
    return str_starts(name, STR("opt_state."));
}

static enum status fill(struct table *x, struct err *e)
{
    struct arena *a = x->m->tmp;
    x->n_s = x->d->n_tensors;
    x->n_t = model_leaves(x->like);
    x->s = ARENA_ARRAY(a, struct item, x->n_s + 1);
    x->t = ARENA_ARRAY(a, struct item, x->n_t + 1);
    x->why = ARENA_ARRAY(a, const char *, x->n_s + 1);
    if (!x->s || !x->t || !x->why)
        return err_nomem(e, (x->n_s + x->n_t) * sizeof *x->s);
    size_t n = 0;
    for (size_t i = 0; i < x->n_s; i++)
        if (x->n_t == x->like->n_tensors || !in_opt_state(x->d->tensor[i].name))
            x->s[n++] = item_of(&x->d->tensor[i], i);
    x->n_s = n;
    for (size_t i = 0; i < x->n_t; i++) {
        const struct tensor *leaf = &x->like->tensor[i];
        x->t[i] = (struct item){
            .name = leaf->name, .key = key_of(leaf), .order = i, .index = (uint32_t)i, .pair = -1};
    }
    if (x->n_s)
        qsort(x->s, x->n_s, sizeof *x->s, by_order);
    return ST_OK;
}

/* The one source tensor that a tensor of the target is made of; else no name. */
static struct str source_name(const struct mapping *m, const struct item *it)
{
    const struct recipe *r = &m->p->recipe[it->index];
    return r->n_parts == 1 && r->part->src >= 0 ? m->src->tensor[r->part->src].name : STR_NONE;
}

static enum status by_rules(struct table *x, struct err *e)
{
    for (size_t i = 0; i < x->n_s; i++) {
        struct str dst = x->s[i].name, name = dst;
        uint64_t at;
        struct map_rule *r = map_rule_for(x->m, RULE_PAIR, name);
        if (!r && (name = source_name(x->m, &x->s[i])).n)
            r = map_rule_for(x->m, RULE_PAIR, name);
        if (r && !r->from_axes.n)
            TRY(map_captured(x->m, r, name, &dst, e));
        else if (x->m->rules.n == 0 || !str_u64(dst, &at)) /* one with layouts has renamed it */
            continue;
        if (!str_u64(dst, &at) || at >= x->n_t || x->t[at].pair >= 0 ||
            x->t[at].key != x->s[i].key) {
            enum status st =
                err_set(e, ST_CANNOT, "map-pair",
                        "the rules file gives it leaf %.*s, which the skeleton does not "
                        "have, or in another shape, or twice",
                        STR_ARG(dst));
            err_in(e, x->s[i].name.p, x->s[i].name.n);
            return st;
        }
        join(x, i, (size_t)at, "by the rules file");
    }
    return ST_OK;
}

/* The name by which a layer stands in its file: of its first tensor. */
static struct str first_name(const struct model *md, const struct layer *l)
{
    int64_t first = -1;
    for (int i = 0; i < LEAF_N; i++)
        if (l->tensor[i] >= 0 &&
            (first < 0 || md->tensor[l->tensor[i]].order < md->tensor[first].order))
            first = l->tensor[i];
    return first < 0 ? STR_NONE : md->tensor[first].name;
}

/* Does b stand before a, below the same collection? */
static bool inverted(struct str a, struct str b)
{
    struct str seg_a, seg_b;
    return name_head(&a, &seg_a) && name_head(&b, &seg_b) && str_eq(seg_a, seg_b) &&
           str_cmp(a, b) > 0;
}

/* A definition's order is no accident of the names' alphabet. */
static bool defined_order(const struct table *x)
{
    const char *format = x->origin->format ? x->origin->format : "";
    const struct layers *l = x->order;
    if (strcmp(format, "pytorch") == 0 || strcmp(format, "equinox") == 0 || (l && l->placed))
        return true;
    for (size_t i = 1; l && l->n && i < l->n; i++)
        if (inverted(first_name(x->origin, &l->layer[i - 1]), first_name(x->origin, &l->layer[i])))
            return true;
    for (size_t i = 1; !(l && l->n) && i < x->n_s; i++)
        if (str_cmp(x->s[i - 1].name, x->s[i].name) > 0)
            return true;
    return false;
}

static bool in_play(const struct item *it, const struct model *m)
{
    return m->tensor[it->index].n_dims > 0;
}

/* May they be partners? Where one is joined already: are they? */
static bool may_join(const struct table *x, size_t i, size_t k)
{
    return x->s[i].key == x->t[k].key && (x->s[i].pair < 0 || x->s[i].pair == (int64_t)k) &&
           (x->t[k].pair < 0 || x->t[k].pair == (int64_t)i);
}

/* Goes through the items with axes of both lists side by side, states behind all else or where
 * they stand; joins them when asked to. What a rule has joined elsewhere shows that the order is
 * another one. */
static bool side_by_side(struct table *x, bool states_last, bool really)
{
    size_t i = 0, k = 0;
    int pass = states_last ? 0 : 2; /* 0: all but states, 1: states, 2: both */
    for (;; i++, k++) {
        for (;;) {
            while (i < x->n_s &&
                   (!in_play(&x->s[i], x->d) || (pass != 2 && x->s[i].state != (pass == 1))))
                i++;
            if (i < x->n_s || pass != 0)
                break;
            pass = 1;
            i = 0;
        }
        while (k < x->n_t && !in_play(&x->t[k], x->like))
            k++;
        if (i == x->n_s || k == x->n_t)
            return i == x->n_s && k == x->n_t;
        if (!may_join(x, i, k))
            return false;
        if (really && x->s[i].pair < 0)
            join(x, i, k, "by the order of both and equal shapes");
    }
}

/* Both places of the states fit, and give the same only where all states stand last anyway. */
static bool states_matter(const struct table *x)
{
    bool seen = false;
    for (size_t i = 0; i < x->n_s; i++) {
        if (!in_play(&x->s[i], x->d))
            continue;
        if (seen && !x->s[i].state)
            return true;
        seen = seen || x->s[i].state;
    }
    return false;
}

static void by_definition(struct table *x)
{
    if (!defined_order(x))
        return;
    bool last = side_by_side(x, true, false), inside = side_by_side(x, false, false);
    if (last && inside && states_matter(x))
        return;
    if (last || inside)
        (void)side_by_side(x, last, true);
}

static int by_key(const void *pa, const void *pb)
{
    const struct item *a = *(const struct item *const *)pa, *b = *(const struct item *const *)pb;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return by_order(a, b);
}
/* The open items of one side, equal keys together, in order within them. */
static size_t open_items(struct item *all, size_t n, struct item **out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (all[i].pair < 0)
            out[k++] = &all[i];
    if (k)
        qsort(out, k, sizeof *out, by_key);
    return k;
}
static size_t run_of(struct item *const *list, size_t n, size_t at)
{
    size_t k = at;
    while (k < n && list[k]->key == list[at]->key)
        k++;
    return k - at;
}

static int by_numbers_first(const void *pa, const void *pb)
{
    const struct item *a = *(const struct item *const *)pa, *b = *(const struct item *const *)pb;
    if (a->state != b->state)
        return a->state - b->state;
    int c = by_numbers(pa, pb);
    return c ? c : by_order(a, b);
}

/* A weight, its bias, or a part of a state: what has its place in a layer. */
static bool is_known(const struct item *it)
{
    return it->state || str_is(it->leaf, "weight") || str_is(it->leaf, "bias");
}

/* Groups of one key that have as many tensors as leaves: one of each, those of one layer, or of
 * layers that numbers tell apart. */
static enum status by_group(struct table *x, bool numbers, struct err *e)
{
    struct item **s = ARENA_ARRAY(x->m->tmp, struct item *, x->n_s + 1);
    struct item **t = ARENA_ARRAY(x->m->tmp, struct item *, x->n_t + 1);
    if (!s || !t)
        return err_nomem(e, (x->n_s + x->n_t) * sizeof *s);
    size_t n_s = open_items(x->s, x->n_s, s), n_t = open_items(x->t, x->n_t, t), k = 0;
    for (size_t i = 0, n; i < n_s; i += n) {
        bool alike = true, one = true, layers = true;
        n = run_of(s, n_s, i);
        for (size_t j = 0; j < n; j++) {
            alike = alike && same_words(s[i]->name, s[i + j]->name);
            one = one && str_eq(s[i]->path, s[i + j]->path) && is_known(s[i + j]);
            layers = layers && same_words(s[i]->path, s[i + j]->path) && is_known(s[i + j]) &&
                     !s[i + j]->state;
        }
        while (k < n_t && t[k]->key < s[i]->key)
            k++;
        if (k == n_t || t[k]->key != s[i]->key || run_of(t, n_t, k) != n ||
            !(numbers ? alike || layers : n == 1 || one) || x->d->tensor[s[i]->index].n_dims == 0)
            continue;
        if (numbers || one)
            qsort(s + i, n, sizeof *s, by_numbers_first);
        for (size_t j = 0; j < n; j++)
            join(x, (size_t)(s[i + j] - x->s), (size_t)(t[k + j] - x->t),
                 numbers  ? "by the numbers in the names"
                 : n == 1 ? "the only one of its shape"
                          : "the only layer of its shape");
    }
    return ST_OK;
}

/* Item i stands at leaf k when its fellow f stands beside that. */
static bool beside(struct table *x, size_t i, size_t f, int64_t step)
{
    int64_t k = x->s[f].pair < 0 ? -1 : x->s[f].pair + step;
    if (x->s[i].pair >= 0 || k < 0 || (size_t)k >= x->n_t || x->t[k].pair >= 0 ||
        x->t[k].key != x->s[i].key)
        return false;
    join(x, i, (size_t)k, "beside its fellow in the same layer");
    return true;
}

/* Fellows follow each other in the list as in a file. */
static bool is_fellow(const struct item *a, const struct item *b)
{
    static const char *const two[][2] = {
        {"weight", "bias"}, {"weight_ih", "weight_hh"}, {"weight_hh", "bias"}, {"bias", "bias_n"}};
    if (!str_eq(a->path, b->path) || a->state != b->state)
        return false;
    if (a->state)
        return str_is(a->leaf, "0") && str_is(b->leaf, "1");
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (str_is(a->leaf, two[i][0]) && str_is(b->leaf, two[i][1]))
            return true;
    return false;
}

static bool by_fellows(struct table *x)
{
    bool any = false;
    for (size_t i = 0; i + 1 < x->n_s; i++) {
        if (!is_fellow(&x->s[i], &x->s[i + 1]))
            continue;
        any = beside(x, i + 1, i, 1) || any;
        any = beside(x, i, i + 1, -1) || any;
    }
    return any;
}

static bool is_flag(const struct item *it)
{
    return str_is(it->leaf, "ema_first_time_index") || str_is(it->leaf, "batch_counter");
}

/* The flag or counter of a state stands directly before its mean, whatever its type. */
static void flags(struct table *x)
{
    for (size_t i = 0; i < x->n_s; i++) {
        if (!is_flag(&x->s[i]) || x->s[i].pair >= 0)
            continue;
        for (size_t j = 0; j < x->n_s; j++) {
            const struct item *mean = &x->s[j];
            if (!mean->state || !str_is(mean->leaf, "0") || !str_eq(mean->path, x->s[i].path) ||
                mean->pair < 1 || x->t[mean->pair - 1].pair >= 0)
                continue;
            const struct tensor *leaf = &x->like->tensor[mean->pair - 1];
            enum dtype_kind kind = dtype_info(leaf->dtype)->kind;
            if (leaf->n_dims == 0 && (kind == DK_BOOL || kind == DK_INT || kind == DK_UINT))
                join(x, i, (size_t)mean->pair - 1, "directly before its state");
        }
    }
}

static enum status match_all(struct table *x, struct err *e)
{
    by_definition(x);
    do {
        TRY(by_group(x, false, e));
        TRY(by_group(x, true, e));
    } while (by_fellows(x));
    flags(x);
    return ST_OK;
}

/* ---- what stays open ---- */

static void shape_text(struct buf *b, const struct tensor *t)
{
    buf_z(b, "[");
    for (size_t d = 0; d < t->n_dims; d++)
        buf_fmt(b, d ? ",%llu" : "%llu", (unsigned long long)t->dim[d]);
    buf_fmt(b, "] %s", dtype_info(t->dtype)->name);
}

static enum status ask(struct table *x, struct buf *b, struct str line, struct err *e)
{
    struct str text = arena_str(x->m->a, b->p, b->n);
    TRY(buf_ok(b, e));
    if (!text.p || !line.p)
        return err_nomem(e, b->n);
    map_ask(x->m, text.p, line);
    return ST_OK;
}

/* Will the answer for the one before it answer this one, too? Each leaf that may be that one's has
 * a leaf that may be this one's behind it. */
static bool goes_along(const struct table *x, size_t i)
{
    size_t n = 0;
    if (i == 0 || x->s[i - 1].pair >= 0 || !is_fellow(&x->s[i - 1], &x->s[i]))
        return false;
    for (size_t k = 0; k < x->n_t; k++) {
        if (x->t[k].pair >= 0 || x->t[k].key != x->s[i - 1].key)
            continue;
        if (k + 1 == x->n_t || x->t[k + 1].pair >= 0 || x->t[k + 1].key != x->s[i].key)
            return false;
        n++;
    }
    return n > 0;
}

static enum status report(struct table *x, struct buf *b, struct err *e)
{
    const struct model *d = x->d;
    for (size_t i = 0; i < x->n_s; i++) {
        size_t n = 0;
        if (x->s[i].pair >= 0 || goes_along(x, i))
            continue;
        buf_clear(b);
        buf_fmt(b, "%.*s: ", STR_ARG(x->s[i].name));
        shape_text(b, &d->tensor[x->s[i].index]);
        for (size_t k = 0; k < x->n_t; k++)
            if (x->t[k].pair < 0 && x->t[k].key == x->s[i].key && n++ < 16)
                buf_fmt(b, "%s %zu", n == 1 ? "; one of leaves" : ",", k);
        if (n == 0)
            buf_z(b, "; no leaf of the skeleton fits");
        else if (n > 16)
            buf_fmt(b, " and %zu more", n - 16);
        TRY(ask(x, b, map_line(x->m, "", x->s[i].name, " -> ?"), e));
    }
    for (size_t k = 0; k < x->n_t; k++) {
        bool any = x->t[k].pair >= 0 || x->like->tensor[k].n_dims == 0;
        for (size_t i = 0; i < x->n_s && !any; i++)
            any = x->s[i].pair < 0 && x->s[i].key == x->t[k].key;
        if (any)
            continue;
        buf_clear(b);
        buf_fmt(b, "nothing in the source fits leaf %zu: ", k);
        shape_text(b, &x->like->tensor[k]);
        TRY(ask(x, b, map_line(x->m, "? -> ", x->t[k].name, ""), e));
    }
    return ST_OK;
}

/* ---- the plan ---- */

/* What a state's flag is where the skeleton counts updates, or the other way round: the statistics
 * are there, and are read as they are. */
static enum status count_as(struct table *x, struct tensor *t, uint32_t index, enum dtype type,
                            struct err *e)
{
    struct recipe *r = &x->m->p->recipe[index];
    enum dtype_kind kind = dtype_info(type)->kind;
    if (r->n_parts != 1 || r->part->src >= 0 || (kind != DK_BOOL && dtype_bytes(type) < 4))
        return ST_OK; /* a value of the source: refused by its type */
    memset(r->part->fill, 0, sizeof r->part->fill);
    if (kind != DK_BOOL)
        map_many(r->part->fill);
    t->dtype = type;
    return map_reason(x->m, index,
                      kind == DK_BOOL ? STR("false: the statistics are there")
                                      : STR("1073741824 updates: no average is debiased any more"),
                      e);
}

/* A tensor of the target becomes that leaf. */
static enum status become(struct table *x, uint32_t index, size_t at, const char *how,
                          struct err *e)
{
    struct tensor *t = &x->m->p->dst.tensor[index];
    const struct tensor *leaf = &x->like->tensor[at];
    if (t->dtype != leaf->dtype) {
        (void)err_set(e, ST_CANNOT, "like-dtype",
                      "leaf %.*s of the skeleton is %s, the tensor %s: --dtype says so",
                      STR_ARG(leaf->name), dtype_info(leaf->dtype)->name,
                      dtype_info(t->dtype)->name);
        err_in(e, t->name.p, t->name.n);
        return ST_CANNOT;
    }
    struct str why =
        arena_fmt(x->m->a, "leaf %.*s <- %.*s: %s", STR_ARG(leaf->name), STR_ARG(t->name), how);
    struct str name = arena_str(x->m->a, leaf->name.p, leaf->name.n);
    if (!why.p || !name.p)
        return err_nomem(e, 64);
    for (size_t k = 0; k < x->m->p->n_lines; k++) /* what is made up is listed by its name */
        if (x->m->p->line[k].kind == LEDGER_SYNTH && str_eq(x->m->p->line[k].name, t->name))
            x->m->p->line[k].name = name;
    t->name = name;
    t->order = at;
    return map_reason(x->m, index, why, e);
}

static enum status take(struct table *x, struct err *e)
{
    for (size_t i = 0; i < x->n_s; i++) {
        struct tensor *t = &x->m->p->dst.tensor[x->s[i].index];
        const struct tensor *leaf = &x->like->tensor[x->s[i].pair];
        if (t->dtype != leaf->dtype && is_flag(&x->s[i]))
            TRY(count_as(x, t, x->s[i].index, leaf->dtype, e));
        TRY(become(x, x->s[i].index, (size_t)x->s[i].pair, x->why[i], e));
    }
    return ST_OK;
}

/* ---- an optimizer's leaves ---- */

/* A leaf of a state as optax's chain names it, given what its parameter is called; .n == 0: its
 * parameter has no name. */
static struct str state_leaf(struct arena *a, const struct model *leaves, size_t k,
                             const struct str *name)
{
    const struct tensor *t = &leaves->tensor[k];
    size_t n_counts = 0;
    if (t->role == ROLE_COUNTER) {
        for (size_t i = model_leaves(leaves); i < k; i++)
            n_counts += leaves->tensor[i].role == ROLE_COUNTER;
        return arena_fmt(a, "opt_state.%zu.count", n_counts);
    }
    if (t->of < 0 || !name[t->of].n)
        return STR("");
    return arena_fmt(a, "opt_state.0.%s.%.*s", t->role == ROLE_MOMENT1 ? "mu" : "nu",
                     STR_ARG(name[t->of]));
}

enum status map_state_leaves(struct mapping *m, const struct model *leaves, struct str *name,
                             struct err *e)
{
    for (size_t k = model_leaves(leaves); k < leaves->n_tensors; k++) {
        if (name[k].n)
            continue;
        name[k] = state_leaf(m->a, leaves, k, name);
        if (!name[k].p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}

/* The target's state, leaf by leaf. */
static enum status take_state(struct table *x, struct str *name, struct err *e)
{
    struct model *d = &x->m->p->dst;
    size_t first = model_leaves(x->like), n = 0, n_all = x->like->n_tensors - first;
    TRY(map_state_leaves(x->m, x->like, name, e));
    for (size_t i = 0; i < d->n_tensors && n_all; i++) {
        struct tensor *t = &d->tensor[i];
        size_t k = first;
        if (!in_opt_state(t->name))
            continue;
        while (k < x->like->n_tensors && !str_eq(name[k], t->name))
            k++;
        if (k == x->like->n_tensors)
            return err_set(e, ST_CANNOT, "train-like",
                           "the skeleton's optimizer has no leaf for %.*s", STR_ARG(t->name));
        n++;
        TRY(become(x, (uint32_t)i, k, "the same part of the same chain", e));
    }
    if (n == n_all)
        return ST_OK;
    return err_set(e, ST_CANNOT, "train-like",
                   "the skeleton's optimizer keeps %zu leaves, the source's %zu", n_all, n);
}

enum status map_value(const struct model *like, const struct tensor *t, uint8_t out[16],
                      struct err *e)
{
    const struct storage *s = &like->storage[t->storage];
    size_t n = dtype_bytes(t->dtype), unit = dtype_info(t->dtype)->swap_bytes;
    uint8_t raw[16] = {0};
    bool flat = s->kind == STORAGE_FLAT || s->kind == STORAGE_MEMORY;
    if (n == 0 || n > sizeof raw || !flat || s->raw_bytes != n)
        return err_set(e, ST_CANNOT, "like-value", "leaf %.*s of the skeleton cannot be taken over",
                       STR_ARG(t->name));
    if (s->kind == STORAGE_MEMORY)
        memcpy(raw, s->mem, n);
    else
        TRY(file_pread(s->file, raw, n, s->offset, e));
    for (size_t i = 0; i < n; i++)
        out[i] = s->big_endian && unit > 1 ? raw[i / unit * unit + (unit - 1 - i % unit)] : raw[i];
    return ST_OK;
}

bool map_scalar(const struct model *md, const struct tensor *t, uint64_t *out)
{
    uint8_t raw[16] = {0};
    struct err quiet;
    enum dtype_kind k = dtype_info(t->dtype)->kind;
    size_t n = dtype_bytes(t->dtype);
    if (t->n_dims != 0 || (k != DK_INT && k != DK_UINT && k != DK_BOOL) || n > 8 ||
        map_value(md, t, raw, &quiet) != ST_OK)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)raw[i] << (8 * i);
    return true;
}

static enum status make_up(struct table *x, struct err *e)
{
    struct plan *p = x->m->p;
    size_t old = p->dst.n_tensors, n = 0;
    for (size_t k = 0; k < x->n_t; k++)
        n += x->t[k].pair < 0;
    struct recipe *r = ARENA_ARRAY(x->m->a, struct recipe, old + n + 1);
    if (!r)
        return err_nomem(e, (old + n) * sizeof *r);
    if (old)
        memcpy(r, p->recipe, old * sizeof *r);
    p->recipe = r;
    for (size_t k = 0; k < x->n_t; k++) {
        const struct tensor *leaf = &x->like->tensor[k];
        struct tensor *t;
        struct view v;
        if (x->t[k].pair >= 0)
            continue;
        TRY(model_tensor_add(&p->dst, &t, e));
        t->name = arena_str(x->m->a, leaf->name.p, leaf->name.n);
        t->dtype = leaf->dtype;
        t->role = leaf->role;
        t->order = k;
        struct recipe *one = &r[p->dst.n_tensors - 1];
        one->part = ARENA_NEW(x->m->a, struct part);
        if (!t->name.p || !one->part)
            return err_nomem(e, sizeof *one->part);
        one->n_parts = 1;
        one->part->src = -1;
        TRY(map_value(x->like, leaf, one->part->fill, e));
        TRY(view_c(&v, NULL, 0, e));
        TRY(part_set_view(one->part, x->m->a, &v, e));
        TRY(plan_shape(p, t, one->part->view, e));
        TRY(map_ledger(x->m, LEDGER_SYNTH, t->name, 1, true,
                       STR("a number without axes: the skeleton's own"), e));
    }
    return ST_OK;
}

/* The hyper-parameters are the skeleton's: they build the model that will load this. */
static enum status line_of(struct table *x, struct err *e)
{
    struct model *d = &x->m->p->dst;
    size_t n = 0;
    for (size_t i = 0; i < d->n_meta; i++)
        if (!str_is(d->meta[i].key, LINE_KEY))
            d->meta[n++] = d->meta[i];
    d->n_meta = n;
    for (size_t i = 0; i < x->like->n_meta; i++)
        if (str_is(x->like->meta[i].key, LINE_KEY))
            TRY(model_meta_add(d, x->like->meta[i].key, x->like->meta[i].value, e));
    return ST_OK;
}

/* A state that counts its updates is not debiased, one with a flag is: the leaf before it tells,
 * whatever the skeleton was spelled as. */
static struct str state_name(struct table *x, size_t i)
{
    const struct item *it = &x->s[i];
    const struct tensor *flag = NULL;
    if (!it->state)
        return arena_str(x->m->a, it->name.p, it->name.n);
    for (size_t j = 0; j < x->n_s; j++)
        if (is_flag(&x->s[j]) && x->s[j].pair >= 0 && str_eq(x->s[j].path, it->path))
            flag = &x->like->tensor[x->s[j].pair];
    bool counted = flag && dtype_info(flag->dtype)->kind != DK_BOOL;
    const char *dot = it->path.n ? "." : "";
    if (is_flag(it))
        return arena_fmt(x->m->a, "%.*s%s%s", STR_ARG(it->path), dot,
                         counted ? "batch_counter" : "ema_first_time_index");
    return arena_fmt(x->m->a, "%.*s%s%s.%.*s", STR_ARG(it->path), dot,
                     counted ? "batch_state_index" : "ema_state_index", STR_ARG(it->leaf));
}

enum status map_leaf_names(struct mapping *m, const struct model *spelled,
                           const struct model *origin, const struct model *leaves, struct str *name,
                           struct err *e)
{
    struct table x = {.m = m, .d = spelled, .origin = origin, .like = leaves};
    struct layers order = {0};
    const struct framework *f =
        m->o->to ? framework_find(str_from(m->o->to)) : framework_of(origin);
    if (f)
        TRY(f->layers(origin, m->tmp, &order, e));
    TRY(layers_by_place(&order, m->tmp, e));
    x.order = &order;
    TRY(fill(&x, e));
    for (size_t k = 0; k < x.n_t; k++) /* told already */
        for (size_t i = 0; i < x.n_s && name[k].n; i++)
            if (str_eq(x.s[i].name, name[k]) && x.s[i].key == x.t[k].key)
                join(&x, i, k, "");
    TRY(match_all(&x, e));
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    for (size_t k = 0; k < x.n_t && st == ST_OK; k++) {
        if (name[k].n)
            continue;
        if (x.t[k].pair >= 0) {
            name[k] = state_name(&x, (size_t)x.t[k].pair);
            st = name[k].p ? ST_OK : err_nomem(e, 64);
            continue;
        }
        if (leaves->tensor[k].n_dims == 0)
            continue; /* Python's numbers */
        size_t n = 0;
        buf_clear(&b);
        buf_fmt(&b, "leaf %zu: ", k);
        shape_text(&b, &leaves->tensor[k]);
        for (size_t i = 0; i < x.n_s; i++)
            if (x.s[i].pair < 0 && x.s[i].key == x.t[k].key && n++ < 16)
                buf_fmt(&b, "%s %.*s", n == 1 ? "; one of" : ",", STR_ARG(x.s[i].name));
        if (n == 0)
            buf_z(&b, "; nothing in the skeleton fits");
        st = ask(&x, &b, arena_fmt(m->a, "leaf %zu = ?", k), e);
    }
    buf_free(&b);
    return st;
}

enum status map_leaves(struct mapping *m, const struct model *like, struct err *e)
{
    struct table x = {.m = m, .d = &m->p->dst, .origin = m->src, .order = &m->sl, .like = like};
    struct buf b = BUF_INIT;
    TRY(fill(&x, e));
    TRY(by_rules(&x, e));
    TRY(match_all(&x, e));
    enum status st = report(&x, &b, e);
    buf_free(&b);
    TRY(st);
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    struct str *name = ARENA_ARRAY(m->tmp, struct str, like->n_tensors + 1);
    if (!name)
        return err_nomem(e, like->n_tensors * sizeof *name);
    for (size_t i = 0; i < x.n_s; i++)
        name[x.s[i].pair] = x.s[i].name;
    TRY(take(&x, e));
    TRY(take_state(&x, name, e));
    TRY(make_up(&x, e));
    m->p->dst.framework = STR("equinox");
    return line_of(&x, e);
}
