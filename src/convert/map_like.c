/* --like: meeting a skeleton. Both sides are recognised by their own framework, compared in
 * canonical shapes, matched, and only a complete matching becomes a mapping; else every open
 * question is written into a rules file.
 */
#include "base/checked.h"
#include "convert/map_seen.h"
#include "convert/sigs.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

static uint64_t fnv(uint64_t h, uint64_t v)
{
    for (int i = 0; i < 8; i++, v >>= 8)
        h = (h ^ (v & 0xff)) * 0x100000001b3u;
    return h;
}

/* Of sums of plain FNV hashes, bits of the widths can cancel. */
static uint64_t stirred(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
}

/* The heads have an axis, whose extent the shape tells. */
static bool by_heads(const struct layer *l)
{
    return l->form == FORM_HEADS_OUT || l->form == FORM_HEADS_IN;
}

/* Positions, window and outputs of a kernel for each position, however they are told apart. */
static bool local_signature(const struct model *md, const struct spelling_rules *r,
                            const struct layer *l, uint64_t *out)
{
    const struct leaf_rule *a = rules_find(r, LAYER_CONV_LOCAL, l->rank, 0, LEAF_WEIGHT);
    int64_t weight = l->tensor[LEAF_WEIGHT], bias = l->tensor[LEAF_BIAS];
    struct axes x;
    struct axes_size size = {0};
    struct err quiet;
    uint64_t h = fnv(fnv(0xcbf29ce484222325u, LAYER_CONV_LOCAL), l->rank), positions = 1;
    size.of['N'] = a && strstr(a->axes, "(N W)");
    if (!a || weight < 0 || axes_parse(str_from(a->axes), &x, &quiet) != ST_OK ||
        axes_learn(&x, md->tensor[weight].dim, md->tensor[weight].n_dims, &size, &quiet) != ST_OK)
        return false;
    for (const char *p = "NDHW"; *p; p++)
        if (strchr(a->axes, *p) && !mul_u64(positions, size.of[(unsigned char)*p], &positions))
            return false;
    h = fnv(fnv(fnv(h, positions), size.of['F']), size.of['O']);
    *out = fnv(h, bias >= 0);
    return bias < 0 ||
           tensor_elems(&md->tensor[bias]) / (size.of['O'] ? size.of['O'] : 1) == positions;
}

bool map_signature(const struct model *md, const struct spelling_rules *r, const struct layer *l,
                   enum layer_kind kind, uint64_t *out)
{
    const struct spelling_rules *can = framework_find(STR("canonical"))->rules;
    uint64_t h = fnv(0xcbf29ce484222325u, kind), sum = 0;
    struct err quiet;
    if (kind_is_cell(kind)) { /* biases may be one, two or none */
        struct axes_size size;
        bool fits = cell_learn(md, r, l, kind, &size);
        for (const char *p = "IORDHW"; *p; p++)
            h = fnv(h, size.of[(unsigned char)*p]);
        *out = h;
        return fits;
    }
    if (kind == LAYER_CONV_LOCAL)
        return local_signature(md, r, l, out);
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0 || leaf_is_count((enum leaf)i))
            continue;
        const struct tensor *t = &md->tensor[l->tensor[i]];
        uint64_t dim[VIEW_MAX_AXES], n_dims = t->n_dims;
        memcpy(dim, t->dim, t->n_dims * sizeof *dim);
        enum leaf part[3];
        size_t n = leaf_fuses((enum leaf)i, part);
        if (n && (n_dims == 0 || dim[0] % n))
            return false;
        if (n)
            dim[0] /= n;
        struct layer y = *l;
        y.kind = kind;
        y.flat_c = 0;
        const struct leaf_rule *a = rules_find(r, kind, l->rank, rules_variant(&y), (enum leaf)i);
        const struct leaf_rule *b =
            rules_find(can, kind, l->rank,
                       kind == LAYER_PRELU || by_heads(l) ? rules_variant(&y) : 0, part[0]);
        struct axes xa, xb;
        struct axes_size size = {0};
        char ta[AXES_TEXT], tb[AXES_TEXT];
        if (!a || !b || rules_axes(r, a, &y, &xa, ta, &quiet) != ST_OK ||
            rules_axes(can, b, &y, &xb, tb, &quiet) != ST_OK)
            return false;
        if (strstr(ta, "(N D)")) /* joined as in canonical: how many heads does not matter */
            size.of['N'] = 1;
        if (strcmp(ta, tb) != 0) {
            if (axes_learn(&xa, dim, n_dims, &size, &quiet) != ST_OK ||
                axes_shape(&xb, &size, dim, &quiet) != ST_OK)
                return false;
            n_dims = xb.n_dims;
        } else if (n_dims != xa.n_dims) {
            return false;
        }
        for (size_t j = 0; j < (n ? n : 1); j++) {
            uint64_t one = fnv(0xcbf29ce484222325u, (uint64_t)part[j] + 1);
            for (size_t d = 0; d < n_dims; d++)
                one = fnv(one, dim[d]);
            sum += stirred(one); /* leaves in any order, fused or not */
        }
    }
    *out = fnv(h, sum);
    return true;
}

uint64_t map_bare_shape(const struct tensor *t)
{
    uint64_t h = fnv(0xcbf29ce484222325u, LAYER_PARAM);
    for (size_t d = 0; d < t->n_dims; d++)
        if (t->dim[d] != 1)
            h = fnv(h, t->dim[d]);
    return h;
}

static bool kept_signature(const struct model *md, const struct layer *l, uint64_t *out)
{
    uint64_t h = fnv(0xcbf29ce484222325u, LAYER_PARAM);
    for (int i = 0; i < LEAF_N; i++)
        if (l->tensor[i] >= 0) {
            const struct tensor *t = &md->tensor[l->tensor[i]];
            h = fnv(h, (uint64_t)i + 1);
            if (l->kind == LAYER_PARAM) {
                h = fnv(h, map_bare_shape(t));
                continue;
            }
            for (size_t d = 0; d < t->n_dims; d++)
                h = fnv(h, t->dim[d]);
        }
    *out = h;
    return true;
}

static void item_of(struct match_item *it, const struct model *md, const struct framework *f,
                    const struct layer *l, bool same)
{
    *it = (struct match_item){.path = l->path, .pair = -1, .kinds = l->kinds};
    if (l->kind == LAYER_PARAM || (l->kinds == 0 && same)) {
        it->kinds = KIND_BIT(LAYER_PARAM);
        it->n_sigs = kept_signature(md, l, &it->sig[0]);
        return;
    }
    for (unsigned k = LAYER_LINEAR; k < LAYER_PARAM && it->n_sigs < MATCH_SIGS; k++)
        if ((l->kinds & KIND_BIT(k)) &&
            map_signature(md, f->rules, l, (enum layer_kind)k, &it->sig[it->n_sigs]))
            it->n_sigs++;
}

static bool partner(const struct match_item *a, const struct match_item *b)
{
    for (size_t p = 0; p < a->n_sigs; p++)
        for (size_t q = 0; q < b->n_sigs; q++)
            if (a->sig[p] == b->sig[q])
                return true;
    return false;
}

/* The signatures of a list of items. */
static enum status sigs_of(struct mapping *m, const struct match_item *it, size_t n,
                           struct sigs *out, struct err *e)
{
    TRY(sigs_room(out, n * MATCH_SIGS, m->tmp, e));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < it[i].n_sigs; k++)
            out->v[out->n++] = it[i].sig[k];
    sigs_sort(out);
    return ST_OK;
}

static bool any_partner(const struct match_item *it, const struct sigs *s)
{
    for (size_t k = 0; k < it->n_sigs; k++)
        if (sigs_count(s, it->sig[k]) > 0)
            return true;
    return false;
}

/* Is a layer of the source, as it is seen here, one of its own, and no part of a stack? */
static bool is_whole(const struct mapping *m, const struct layer *l)
{
    const struct model *real = m->p->src;
    for (int i = 0; i < LEAF_N; i++) {
        size_t t = l->tensor[i] < 0 ? 0 : (size_t)l->tensor[i];
        if (l->tensor[i] >= 0 &&
            (t >= real->n_tensors || !str_eq(m->src->tensor[t].name, real->tensor[t].name)))
            return false;
    }
    return true;
}

/* The same by the name of the layer, as questions have it. */
static bool may_by_path(struct mapping *m, const struct layer *l, bool drop)
{
    return drop ? glob_any(m->o->allow_drop, l->path) && is_whole(m, l)
                : glob_any(m->o->allow_synth, l->path) || map_rule_for(m, RULE_SYNTH, l->path);
}

/* May all tensors of a layer be lost (or made up) by name? */
static bool may_miss(struct mapping *m, const struct model *md, const struct layer *l, bool drop)
{
    if (may_by_path(m, l, drop))
        return true;
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        struct str name = md->tensor[l->tensor[i]].name;
        if (drop ? !rules_harmless_drop(name) && !glob_any(m->o->allow_drop, name) &&
                       !map_shared(md, (size_t)l->tensor[i])
                 : !glob_any(m->o->allow_synth, name) && !map_rule_for(m, RULE_SYNTH, name))
            return false;
    }
    return true;
}

static enum status make_up(struct mapping *m, struct skeleton *sk, const struct layer *l,
                           struct err *e)
{
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        const struct tensor *t = &sk->m->tensor[l->tensor[i]];
        struct map_rule *r = map_rule_for(m, RULE_SYNTH, t->name);
        struct made *d;
        if (!r)
            r = map_rule_for(m, RULE_SYNTH, l->path);
        TRY(map_made(m, 0, &d, e));
        d->name = t->name;
        d->role = t->role;
        d->dtype = t->dtype;
        d->n_dims = t->n_dims;
        d->dim = t->dim;
        d->harmless = may_by_path(m, l, false);
        d->why = STR("made up: the source has nothing for it");
        if (r && r->number)
            TRY(map_one(t->dtype, d->fill, e));
        sk->filled[l->tensor[i]] = true;
    }
    return ST_OK;
}

/* Python's numbers among the leaves of an Equinox model (flags, rates): the skeleton's own. */
static enum status own_number(struct mapping *m, struct skeleton *sk, const struct layer *l,
                              bool *is, struct err *e)
{
    int64_t at = l->tensor[LEAF_VALUE];
    *is = str_is(sk->m->framework, "equinox") && l->kind == LAYER_PARAM && at >= 0 &&
          sk->m->tensor[at].n_dims == 0;
    if (!*is)
        return ST_OK;
    const struct tensor *t = &sk->m->tensor[at];
    struct made *d;
    TRY(map_made(m, 0, &d, e));
    TRY(map_value(sk->m, t, d->fill, e));
    d->name = t->name;
    d->role = t->role;
    d->dtype = t->dtype;
    d->harmless = true;
    d->why = STR("a number without axes: the skeleton's own");
    sk->filled[at] = true;
    return ST_OK;
}

static enum status leave_layer(struct mapping *m, const struct layer *l, struct err *e)
{
    for (int i = 0; i < LEAF_N; i++)
        if (l->tensor[i] >= 0 && m->in[l->tensor[i]])
            TRY(map_drop(m, (size_t)l->tensor[i], "nothing in the skeleton fits, and it may go",
                         e));
    return ST_OK;
}

/* Items of both sides; layers that may be missed and fit nothing stay outside. */
static enum status items(struct meeting *w, bool may, struct err *e)
{
    struct mapping *m = w->m;
    struct layers *sl = &m->sl, *tl = &w->sk.layers;
    bool same = m->from == m->to;
    w->s = ARENA_ARRAY(m->tmp, struct match_item, sl->n + 1);
    w->t = ARENA_ARRAY(m->tmp, struct match_item, tl->n + 1);
    w->s_layer = ARENA_ARRAY(m->tmp, size_t, sl->n + 1);
    w->t_layer = ARENA_ARRAY(m->tmp, size_t, tl->n + 1);
    if (!w->s || !w->t || !w->s_layer || !w->t_layer)
        return err_nomem(e, (sl->n + tl->n) * sizeof *w->s);
    struct match_item *all = ARENA_ARRAY(m->tmp, struct match_item, sl->n + 1);
    struct sigs sigs;
    if (!all)
        return err_nomem(e, sl->n * sizeof *all);
    for (size_t i = 0; i < sl->n; i++)
        item_of(&all[i], m->src, m->from, &sl->layer[i], same);
    TRY(sigs_of(m, all, sl->n, &sigs, e));
    for (size_t i = 0; i < tl->n; i++) {
        struct match_item *it = &w->t[w->n_t];
        item_of(it, w->sk.m, m->to, &tl->layer[i], same);
        bool own = false;
        if (may && !any_partner(it, &sigs))
            TRY(own_number(m, &w->sk, &tl->layer[i], &own, e));
        if (own)
            continue;
        bool told = map_rule_exact(m, RULE_SYNTH, tl->layer[i].path);
        if (may && (told || !any_partner(it, &sigs)) &&
            may_miss(m, w->sk.m, &tl->layer[i], false)) {
            TRY(make_up(m, &w->sk, &tl->layer[i], e));
            continue;
        }
        w->t_layer[w->n_t++] = i;
    }
    TRY(sigs_of(m, w->t, w->n_t, &sigs, e));
    for (size_t i = 0; i < sl->n; i++) {
        if (may && !any_partner(&all[i], &sigs) && may_miss(m, m->src, &sl->layer[i], true)) {
            if (may_by_path(m, &sl->layer[i], true))
                TRY(leave_layer(m, &sl->layer[i], e));
            continue; /* in the ledger at the end */
        }
        w->s[w->n_s] = all[i];
        w->s_layer[w->n_s++] = i;
    }
    return ST_OK;
}

struct named {
    struct str path;
    size_t item;
};
static int by_path(const void *px, const void *py)
{
    const struct named *x = px, *y = py;
    int c = str_cmp(x->path, y->path);
    return c ? c : (x->item > y->item) - (x->item < y->item);
}

/* The skeleton's items by path. */
static struct named *targets(const struct meeting *w)
{
    struct named *t = ARENA_ARRAY(w->m->tmp, struct named, w->n_t + 1);
    for (size_t j = 0; t && j < w->n_t; j++)
        t[j] = (struct named){w->t[j].path, j};
    if (t && w->n_t)
        qsort(t, w->n_t, sizeof *t, by_path);
    return t;
}

static size_t target_at(const struct meeting *w, const struct named *t, struct str path)
{
    size_t lo = 0, hi = w->n_t;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (str_cmp(t[mid].path, path) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->n_t && str_eq(t[lo].path, path) ? t[lo].item : w->n_t;
}

static enum status by_rules(struct meeting *w, struct err *e)
{
    struct named *at = targets(w);
    if (!at)
        return err_nomem(e, w->n_t * sizeof *at);
    for (size_t i = 0; i < w->n_s; i++) {
        struct str dst;
        struct map_rule *r = map_rule_for(w->m, RULE_PAIR, w->s[i].path);
        if (!r || r->from_axes.n)
            continue;
        TRY(map_captured(w->m, r, w->s[i].path, &dst, e));
        size_t j = target_at(w, at, dst);
        if (j == w->n_t || w->t[j].pair >= 0)
            return err_set(e, ST_CANNOT, "map-pair",
                           "line %zu of the rules file: the skeleton has no layer %.*s%s", r->line,
                           STR_ARG(dst), j < w->n_t ? " left" : "");
        if (!partner(&w->s[i], &w->t[j]))
            return err_set(e, ST_CANNOT, "map-pair",
                           "line %zu of the rules file: %.*s and %.*s differ in kind or shape",
                           r->line, STR_ARG(w->s[i].path), STR_ARG(dst));
        w->s[i].pair = (int64_t)j;
        w->t[j].pair = (int64_t)i;
        w->s[i].why = w->t[j].why = "by the rules file";
    }
    return ST_OK;
}

/* ---- what stays open ---- */

static void shape_text(struct buf *b, const struct model *md, const struct layer *l)
{
    const char *sep = "";
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        const struct tensor *t = &md->tensor[l->tensor[i]];
        buf_fmt(b, "%s%s [", sep, leaf_name((enum leaf)i));
        for (size_t d = 0; d < t->n_dims; d++)
            buf_fmt(b, "%s%llu", d ? "," : "", (unsigned long long)t->dim[d]);
        buf_z(b, "]");
        sep = ", ";
    }
}

#define LISTED 16 /* candidates named in one question */

/* Open items of one side by colour: those that an item of the other may still be. */
struct tint {
    uint64_t color;
    size_t item;
};
struct tints {
    struct tint *v;
    size_t n;
};
static int by_color(const void *px, const void *py)
{
    const struct tint *x = px, *y = py;
    if (x->color != y->color)
        return x->color < y->color ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static enum status tints_of(struct mapping *m, const struct match_item *it, size_t n,
                            struct tints *out, struct err *e)
{
    *out = (struct tints){.v = ARENA_ARRAY(m->tmp, struct tint, n + 1)};
    if (!out->v)
        return err_nomem(e, n * sizeof *out->v);
    for (size_t i = 0; i < n; i++)
        if (it[i].pair < 0)
            out->v[out->n++] = (struct tint){it[i].color, i};
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, by_color);
    return ST_OK;
}

static size_t first_of(const struct tints *t, uint64_t color)
{
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->v[mid].color < color)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static enum status ask_source(struct meeting *w, size_t i, const struct tints *t, struct buf *b,
                              struct err *e)
{
    struct mapping *m = w->m;
    const struct layer *l = &m->sl.layer[w->s_layer[i]];
    struct str drop = map_line(m, "drop ", l->path, "");
    size_t n = 0;
    if (!drop.p)
        return err_nomem(e, l->path.n);
    buf_clear(b);
    buf_fmt(b, "%.*s: ", STR_ARG(l->path));
    shape_text(b, m->src, l);
    for (size_t k = first_of(t, w->s[i].color);
         k < t->n && t->v[k].color == w->s[i].color && n <= LISTED; k++) {
        const struct match_item *it = &w->t[t->v[k].item];
        if (match_fits(&w->s[i], it) && n++ < LISTED)
            buf_fmt(b, "%s %.*s", n == 1 ? "; one of:" : ",", STR_ARG(it->path));
    }
    if (n == 0)
        buf_fmt(b, "; nothing in the skeleton fits; to leave it behind: %.*s", STR_ARG(drop));
    else if (n > LISTED)
        buf_z(b, " and more");
    TRY(buf_ok(b, e));
    struct str text = arena_str(m->a, (const char *)b->p, b->n);
    struct str line = map_line(m, "", l->path, " -> ?");
    if (!text.p || !line.p)
        return err_nomem(e, b->n);
    map_ask(m, text.p, line);
    return ST_OK;
}

static enum status ask_target(struct meeting *w, size_t j, struct buf *b, struct err *e)
{
    struct mapping *m = w->m;
    const struct layer *l = &w->sk.layers.layer[w->t_layer[j]];
    buf_clear(b);
    shape_text(b, w->sk.m, l);
    buf_u8(b, 0);
    TRY(buf_ok(b, e));
    struct str line = map_line(m, "? -> ", l->path, "");
    struct str zeros = map_line(m, "synth ", l->path, " = 0");
    struct str text =
        arena_fmt(m->a, "nothing in the source fits %.*s: %s; to fill it with zeros: %.*s",
                  STR_ARG(l->path), (const char *)b->p, STR_ARG(zeros));
    if (!line.p || !zeros.p || !text.p)
        return err_nomem(e, b->n);
    map_ask(m, text.p, line);
    return ST_OK;
}

static enum status report(struct meeting *w, struct err *e)
{
    struct buf b = BUF_INIT;
    struct tints s, t;
    TRY(tints_of(w->m, w->s, w->n_s, &s, e));
    TRY(tints_of(w->m, w->t, w->n_t, &t, e));
    enum status st = ST_OK;
    for (size_t i = 0; i < w->n_s && st == ST_OK; i++)
        if (w->s[i].pair < 0)
            st = ask_source(w, i, &t, &b, e);
    for (size_t j = 0; j < w->n_t && st == ST_OK; j++) {
        const struct match_item *it = &w->t[j];
        bool any = it->pair >= 0;
        for (size_t k = first_of(&s, it->color); !any && k < s.n && s.v[k].color == it->color; k++)
            any = match_fits(&w->s[s.v[k].item], it);
        if (!any)
            st = ask_target(w, j, &b, e);
    }
    buf_free(&b);
    return st;
}

unsigned map_common(const struct meeting *w, size_t i)
{
    const struct mapping *m = w->m;
    const struct layer *l = &m->sl.layer[w->s_layer[i]];
    const struct layer *t = &w->sk.layers.layer[w->t_layer[w->s[i].pair]];
    unsigned kinds = 0;
    for (unsigned k = LAYER_LINEAR; k < LAYER_PARAM; k++) {
        uint64_t a, b;
        if ((l->kinds & t->kinds & KIND_BIT(k)) &&
            map_signature(m->src, m->from->rules, l, (enum layer_kind)k, &a) &&
            map_signature(w->sk.m, m->to->rules, t, (enum layer_kind)k, &b) && a == b)
            kinds |= KIND_BIT(k);
    }
    return kinds;
}

enum layer_kind map_one_kind(unsigned kinds)
{
    if (kinds == (KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM)))
        return LAYER_LAYERNORM; /* carried alike */
    for (unsigned k = LAYER_LINEAR; k < LAYER_PARAM; k++)
        if (kinds == KIND_BIT(k))
            return (enum layer_kind)k;
    return LAYER_NONE;
}

/* The kind of a pair: what both sides may be. Asks when that is still more than one and it
 * matters. */
static enum status settle_pair(struct meeting *w, size_t i, struct err *e)
{
    struct mapping *m = w->m;
    struct layer *l = &m->sl.layer[w->s_layer[i]];
    if (l->kind == LAYER_PARAM || l->kinds == 0)
        return ST_OK;
    unsigned kinds = map_common(w, i);
    enum layer_kind k = map_one_kind(kinds);
    if (k == LAYER_NONE) {
        struct str line = map_line(m, "kind ", l->path, " = ?");
        if (!line.p)
            return err_nomem(e, 64);
        map_ask(m, l->reason.p, line);
        return ST_OK;
    }
    l->kinds = kinds;
    l->kind = k;
    l->reason = arena_fmt(m->a, "%.*s; %s", STR_ARG(l->reason), w->s[i].why);
    return l->reason.p ? ST_OK : err_nomem(e, 64);
}

/* What the skeleton's own config tells of flattened maps holds for the source, too. */
static void lend_flat(const struct meeting *w, size_t i)
{
    struct layer *l = &w->m->sl.layer[w->s_layer[i]];
    const struct layer *t = &w->sk.layers.layer[w->t_layer[w->s[i].pair]];
    if (l->kind == LAYER_CONV_LOCAL && !l->heads)
        l->heads = map_rows(w->sk.m, w->m->to->rules, t);
    if (l->flat_c || l->flat_said)
        return;
    l->flat_c = t->flat_c;
    l->flat_said = t->flat_said;
}

enum status map_meet(struct meeting *w, bool may, struct err *e)
{
    TRY(map_dense_settle(w, e));
    TRY(items(w, may, e));
    TRY(by_rules(w, e));
    return match(w->s, w->n_s, w->t, w->n_t, w->m->tmp, e);
}

/* What the skeleton holds beside layers and its files need: states of random generators, made up
 * as zeros, where the source has none of that name. */
static enum status states(struct mapping *m, struct skeleton *sk, struct err *e)
{
    for (size_t i = 0; i < sk->m->n_tensors; i++) {
        const struct tensor *t = &sk->m->tensor[i];
        struct made *d;
        if (t->role != ROLE_RNG || sk->filled[i] || model_find(m->src, t->name) >= 0)
            continue;
        TRY(map_made(m, 0, &d, e));
        d->name = t->name;
        d->role = t->role;
        d->dtype = t->dtype;
        d->n_dims = t->n_dims;
        d->dim = t->dim;
        d->harmless = true;
        d->why = STR("0: a random generator's state; training draws from it, nothing else");
    }
    return ST_OK;
}

/* Tensors stand in the skeleton's order: loaders go by it. */
static void in_its_order(struct mapping *m, const struct model *like)
{
    for (size_t i = 0; i < m->n_made; i++) {
        int64_t at = model_find(like, m->made[i].name);
        if (at < 0)
            continue;
        m->made[i].order = like->tensor[at].order;
        m->made[i].has_order = true;
    }
}

enum status see_alike(struct mapping *m, struct skeleton *sk, struct seen *s, struct seen *t,
                      struct err *e)
{
    TRY(seen_init(s, m->src, m->a, e));
    TRY(seen_init(t, sk->m, m->a, e));
    if (strcmp(m->to->name, "canonical") == 0)
        return ST_OK;
    TRY(see_stacks(m, &sk->layers, s, t, e));
    return see_bundles(m, sk, s, t, e);
}

static enum status meet(struct meeting *w, struct err *e)
{
    struct mapping *m = w->m;
    TRY(map_maybe(m, &w->sk, e));
    TRY(map_pairs(m, &w->sk, e));
    TRY(map_meet(w, true, e));
    TRY(report(w, e));
    for (size_t i = 0; i < w->n_s && m->n_open == 0; i++) {
        TRY(settle_pair(w, i, e));
        lend_flat(w, i);
    }
    if (m->n_open)
        return ST_OK;
    TRY(map_flatten(m, e));
    if (m->n_open)
        return ST_OK;
    for (size_t i = 0; i < w->n_s; i++) {
        const struct layer *l = &m->sl.layer[w->s_layer[i]];
        const struct layer *t = &w->sk.layers.layer[w->t_layer[w->s[i].pair]];
        TRY(map_layer(m, l, &w->sk, t, e));
    }
    return ST_OK;
}

enum status map_like(struct mapping *m, struct err *e)
{
    struct meeting w = {.m = m, .sk = {.m = m->o->like}};
    const struct model *src = m->src;
    struct seen *s = ARENA_NEW(m->tmp, struct seen), *t = ARENA_NEW(m->tmp, struct seen);
    size_t first = m->n_made;
    w.sk.filled = ARENA_ARRAY(m->tmp, bool, w.sk.m->n_tensors + 1);
    if (!w.sk.filled || !s || !t)
        return err_nomem(e, w.sk.m->n_tensors);
    TRY(m->to->layers(w.sk.m, m->tmp, &w.sk.layers, e));
    enum status st = see_alike(m, &w.sk, s, t, e);
    if (st == ST_OK && m->n_open == 0)
        st = meet(&w, e);
    if (st == ST_OK && m->n_open == 0)
        st = seen_undo(m, s, t, first, e);
    m->src = src;
    w.sk.m = m->o->like;
    if (st == ST_OK && m->n_open == 0 && m->to->rules->shell)
        st = states(m, &w.sk, e);
    if (st == ST_OK)
        in_its_order(m, w.sk.m);
    return st;
}
