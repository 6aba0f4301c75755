/* --like with a skeleton that has no names (Equinox): its leaves have an order, shapes and types.
 * The source is spelled in the target's axes first; then each tensor is given the leaf it must be:
 *  1. by a line "name" -> "number" of the rules file;
 *  2. as the only tensor and the only leaf of a shape;
 *  3. by order, where the source stands in the order of its definition and the shapes of all
 * tensors are, one by one, those of all leaves;
 *  4. by number, where all tensors of a shape have names that differ in numbers alone, and the
 *     skeleton has as many leaves of it: n-th goes to n-th.
 * What stays open is asked about. Leaves without axes that nothing fits (Python's numbers: flags,
 * rates) are the skeleton's own values.
 */
#include "convert/map_int.h"
#include <stdlib.h>
#include <string.h>

#define LINE_KEY "equinox.hyperparameters" /* meta of format/equinox.h */

struct item {
    struct str name;
    uint64_t key; /* hash of shape and kind: equal keys may be partners */
    uint64_t order;
    uint32_t index; /* of the tensor or the leaf */
    int64_t pair;   /* place in the other list, -1 = open */
};
struct table {
    struct mapping *m;
    const struct model *like;
    struct item *s, *t; /* tensors in order; leaves in order */
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

static enum status fill(struct table *x, struct err *e)
{
    struct arena *a = x->m->tmp;
    const struct model *d = &x->m->p->dst;
    x->n_s = d->n_tensors;
    x->n_t = x->like->n_tensors;
    x->s = ARENA_ARRAY(a, struct item, x->n_s + 1);
    x->t = ARENA_ARRAY(a, struct item, x->n_t + 1);
    x->why = ARENA_ARRAY(a, const char *, x->n_s + 1);
    if (!x->s || !x->t || !x->why)
        return err_nomem(e, (x->n_s + x->n_t) * sizeof *x->s);
    for (size_t i = 0; i < x->n_s; i++)
        x->s[i] = (struct item){d->tensor[i].name, key_of(&d->tensor[i]), d->tensor[i].order,
                                (uint32_t)i, -1};
    for (size_t i = 0; i < x->n_t; i++)
        x->t[i] =
            (struct item){x->like->tensor[i].name, key_of(&x->like->tensor[i]), i, (uint32_t)i, -1};
    if (x->n_s)
        qsort(x->s, x->n_s, sizeof *x->s, by_order);
    return ST_OK;
}

static enum status by_rules(struct table *x, struct err *e)
{
    for (size_t i = 0; i < x->n_s; i++) {
        struct str dst = x->s[i].name;
        uint64_t at;
        struct map_rule *r = map_rule_for(x->m, RULE_PAIR, dst);
        if (r)
            TRY(map_captured(x->m, r, x->s[i].name, &dst, e));
        else if (x->m->rules.n == 0 || !str_u64(dst, &at)) /* across() has renamed it */
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

/* A definition's order is no accident of the names' alphabet. */
static bool defined_order(const struct table *x)
{
    const char *format = x->m->src->format;
    if (strcmp(format, "pytorch") == 0 || strcmp(format, "equinox") == 0)
        return true;
    for (size_t i = 1; i < x->n_s; i++)
        if (str_cmp(x->s[i - 1].name, x->s[i].name) > 0)
            return true;
    return false;
}

static bool in_play(const struct item *it, const struct model *m)
{
    return it->pair < 0 && m->tensor[it->index].n_dims > 0;
}

/* Goes through the open items with axes of both lists side by side; joins them when asked to. */
static bool side_by_side(struct table *x, bool really)
{
    const struct model *d = &x->m->p->dst;
    size_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < x->n_s && !in_play(&x->s[i], d))
            i++;
        while (k < x->n_t && !in_play(&x->t[k], x->like))
            k++;
        if (i == x->n_s || k == x->n_t)
            return i == x->n_s && k == x->n_t;
        if (x->s[i].key != x->t[k].key)
            return false;
        if (really)
            join(x, i, k, "by the order of both and equal shapes");
    }
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

/* Groups of one key that have as many tensors as leaves: one of each, or told apart by numbers. */
static enum status by_group(struct table *x, bool numbers, struct err *e)
{
    struct item **s = ARENA_ARRAY(x->m->tmp, struct item *, x->n_s + 1);
    struct item **t = ARENA_ARRAY(x->m->tmp, struct item *, x->n_t + 1);
    if (!s || !t)
        return err_nomem(e, (x->n_s + x->n_t) * sizeof *s);
    size_t n_s = open_items(x->s, x->n_s, s), n_t = open_items(x->t, x->n_t, t), k = 0;
    for (size_t i = 0, n; i < n_s; i += n) {
        bool alike = true;
        n = run_of(s, n_s, i);
        for (size_t j = 1; j < n; j++)
            alike = alike && same_words(s[i]->name, s[i + j]->name);
        while (k < n_t && t[k]->key < s[i]->key)
            k++;
        if (k == n_t || t[k]->key != s[i]->key || run_of(t, n_t, k) != n ||
            !(numbers ? alike : n == 1))
            continue;
        qsort(s + i, n, sizeof *s, by_numbers);
        for (size_t j = 0; j < n; j++)
            join(x, (size_t)(s[i + j] - x->s), (size_t)(t[k + j] - x->t),
                 numbers ? "by the numbers in the names" : "the only one of its shape");
    }
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

static enum status report(struct table *x, struct buf *b, struct err *e)
{
    const struct model *d = &x->m->p->dst;
    for (size_t i = 0; i < x->n_s; i++) {
        size_t n = 0;
        if (x->s[i].pair >= 0)
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

static enum status take(struct table *x, struct err *e)
{
    struct model *d = &x->m->p->dst;
    for (size_t i = 0; i < x->n_s; i++) {
        struct tensor *t = &d->tensor[x->s[i].index];
        const struct tensor *leaf = &x->like->tensor[x->s[i].pair];
        if (t->dtype != leaf->dtype) {
            (void)err_set(e, ST_CANNOT, "like-dtype",
                          "leaf %.*s of the skeleton is %s, the tensor %s: --dtype says so",
                          STR_ARG(leaf->name), dtype_info(leaf->dtype)->name,
                          dtype_info(t->dtype)->name);
            err_in(e, t->name.p, t->name.n);
            return ST_CANNOT;
        }
        struct str why = arena_fmt(x->m->a, "leaf %.*s <- %.*s: %s", STR_ARG(leaf->name),
                                   STR_ARG(t->name), x->why[i]);
        t->name = arena_str(x->m->a, leaf->name.p, leaf->name.n);
        t->order = (uint64_t)x->s[i].pair;
        if (!why.p || !t->name.p)
            return err_nomem(e, 64);
        TRY(map_reason(x->m, x->s[i].index, why, e));
    }
    return ST_OK;
}

/* The element of a leaf without axes, little-endian. */
static enum status value_of(const struct model *like, const struct tensor *t, uint8_t out[16],
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
        value_of(md, t, raw, &quiet) != ST_OK)
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
        TRY(value_of(x->like, leaf, one->part->fill, e));
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

enum status map_leaves(struct mapping *m, const struct model *like, struct err *e)
{
    struct table x = {.m = m, .like = like};
    struct buf b = BUF_INIT;
    TRY(fill(&x, e));
    TRY(by_rules(&x, e));
    if (defined_order(&x) && side_by_side(&x, false))
        (void)side_by_side(&x, true);
    TRY(by_group(&x, false, e));
    TRY(by_group(&x, true, e));
    enum status st = report(&x, &b, e);
    buf_free(&b);
    TRY(st);
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    TRY(take(&x, e));
    TRY(make_up(&x, e));
    m->p->dst.framework = STR("equinox");
    return line_of(&x, e);
}
