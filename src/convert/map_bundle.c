/* Parts in one tensor or in several: attention that one side has as a layer of its own and the
 * other as dense layers, and dense layers that join query, key and value (key and value, gate and
 * up) where the other side has each by itself. What is joined is seen as its parts, named as the
 * name of the joined one says (qkv, c_attn, in_proj, kv, gate_up); where it says nothing, which
 * part is which is asked about.
 */
#include "convert/map_seen.h"
#include "convert/sigs.h"
#include "framework/recognise.h"
#include "framework/words.h"
#include <stdlib.h>
#include <string.h>

/* ---- a side ---- */

struct half {
    struct mapping *m;
    const struct framework *f;
    const struct layers *layers;
    struct seen *seen;
};

static const struct leaf_rule *dense_rule(const struct framework *f, const struct layer *l,
                                          enum leaf lf)
{
    struct layer as = *l;
    as.kind = LAYER_LINEAR;
    return rules_find(f->rules, LAYER_LINEAR, 0, rules_variant(&as), lf);
}

/* ---- attention as dense layers ---- */

/* "E N D": where N and D stand, one after the other, as axes of their own. */
static bool heads_at(const char *axes, uint8_t *pair)
{
    struct axes x;
    struct err quiet;
    if (axes_parse(str_from(axes), &x, &quiet) != ST_OK || x.n != x.n_dims)
        return false;
    for (uint8_t i = 0; i + 1 < x.n; i++)
        if (x.at[i].letter == 'N' && x.at[i + 1].letter == 'D') {
            *pair = i;
            return true;
        }
    return false;
}

static bool rows_first(const char *axes)
{
    return strncmp(axes, "(N D)", 5) == 0;
}

static const char *const part_word[] = {"query", "key", "value", "out"};

static bool dense_name(struct half *x, const struct tensor *t, const char *rule_name, size_t part,
                       bool bias, struct str *out)
{
    const struct leaf_rule *r =
        rules_find(x->f->rules, LAYER_LINEAR, 0, 0, bias ? LEAF_BIAS : LEAF_WEIGHT);
    size_t n = strlen(rule_name);
    if (!r || t->name.n < n || !str_ends(t->name, str_from(rule_name)))
        return false;
    *out = arena_fmt(x->m->a, "%.*s%s.%s", STR_ARG(str_sub(t->name, 0, t->name.n - n)),
                     part_word[part], r->name);
    return out->p != NULL;
}

/* Is every part of it a dense layer already (Haiku, Equinox)? Only the names make it one layer. */
static bool is_split(const struct half *x, const struct layer *l)
{
    for (int i = 0; i < LEAF_N; i++) {
        enum leaf part[3];
        uint8_t pair;
        const struct leaf_rule *r = rules_find(x->f->rules, LAYER_ATTENTION, 0, 0, (enum leaf)i);
        if (l->tensor[i] >= 0 && (!r || leaf_fuses((enum leaf)i, part) || heads_at(r->axes, &pair)))
            return false;
    }
    return true;
}

/* Every leaf of one attention; false where a leaf has a layout that this does not know. */
static enum status as_dense(struct half *x, const struct layer *l, bool really, bool *can,
                            struct err *e)
{
    bool split = is_split(x, l);
    for (int i = 0; i < LEAF_N && *can; i++) {
        enum leaf part[3];
        if (l->tensor[i] < 0)
            continue;
        uint32_t at = (uint32_t)l->tensor[i];
        const struct tensor *t = &x->seen->model.tensor[at];
        const struct leaf_rule *r = rules_find(x->f->rules, LAYER_ATTENTION, 0, 0, (enum leaf)i);
        size_t n = leaf_fuses((enum leaf)i, part);
        struct lens lens = {0};
        if (!r || (n && !rows_first(r->axes)) || (n && t->dim[0] % n)) {
            *can = false;
            break;
        }
        if (!n && heads_at(r->axes, &lens.pair))
            lens.heads = t->dim[lens.pair];
        if (!n && !lens.heads && !split && strchr(r->name, '.'))
            continue; /* a dense layer of its own already */
        for (size_t j = 0; j < (n ? n : 1); j++) {
            enum leaf lf = n ? part[j] : (enum leaf)i;
            bool bias = lf >= LEAF_Q_BIAS;
            size_t which = (size_t)(lf - (bias ? LEAF_Q_BIAS : LEAF_Q_WEIGHT));
            struct str name = t->name; /* a module of its own keeps what its file calls it */
            bool own = !n && !split && strchr(r->name, '.');
            if (!own && (!dense_name(x, t, r->name, which, bias, &name) ||
                         (!str_eq(name, t->name) && seen_has(x->seen, name)))) {
                *can = false;
                break;
            }
            if (n)
                lens = (struct lens){
                    .cut = true, .lo = j * (t->dim[0] / n), .hi = (j + 1) * (t->dim[0] / n)};
            if (really)
                TRY(seen_add(x->seen, at, lens, name, x->m->a, e));
            t = &x->seen->model.tensor[at]; /* may have moved */
        }
        if (really && *can)
            seen_hide(x->seen, at);
    }
    return ST_OK;
}

static enum status attentions(struct half *x, struct sigs *out, struct err *e)
{
    TRY(sigs_room(out, x->layers->n, x->m->tmp, e));
    for (size_t i = 0; i < x->layers->n; i++) {
        const struct layer *l = &x->layers->layer[i];
        uint64_t sig = 0;
        if (l->kind != LAYER_ATTENTION)
            continue;
        (void)map_signature(&x->seen->model, x->f->rules, l, LAYER_ATTENTION, &sig);
        out->v[out->n++] = sig;
    }
    sigs_sort(out);
    return ST_OK;
}

/* Where the two sides do not have the same attentions, both have dense layers. */
static enum status see_attention(struct half *s, struct half *t, bool *did, struct err *e)
{
    struct sigs a, b;
    TRY(attentions(s, &a, e));
    TRY(attentions(t, &b, e));
    *did = !sigs_equal(&a, &b);
    for (int really = 0; really < 2 && *did; really++)
        for (int q = 0; q < 2 && *did; q++) {
            struct half *x = q ? t : s;
            for (size_t i = 0; i < x->layers->n && *did; i++)
                if (x->layers->layer[i].kind == LAYER_ATTENTION)
                    TRY(as_dense(x, &x->layers->layer[i], really, did, e));
        }
    return ST_OK;
}

/* ---- joined dense layers ---- */

struct dense {
    uint32_t layer;
    struct str parent;
    enum part_of part;
    enum joined joined;
    uint64_t rows, cols;
    bool bias;
};
struct bundle { /* parts of one parent */
    uint64_t rows[3], cols;
    bool bias;
};
static const struct {
    enum part_of part[3];
    const char *word[3];
    size_t n;
} bundles[] = {
    [JOINED_QKV] = {{PART_Q, PART_K, PART_V}, {"query", "key", "value"}, 3},
    [JOINED_KV] = {{PART_K, PART_V}, {"key", "value"}, 2},
    [JOINED_GATE_UP] = {{PART_GATE, PART_UP}, {"gate_proj", "up_proj"}, 2},
};

/* Which stored axis a letter is, by itself; -1 = none. */
static int axis_of(const char *axes, char letter)
{
    struct axes x;
    struct err quiet;
    if (axes_parse(str_from(axes), &x, &quiet) != ST_OK || x.n != x.n_dims)
        return -1;
    for (uint8_t i = 0; i < x.n; i++)
        if (x.at[i].letter == letter)
            return i;
    return -1;
}

static int by_parent(const void *px, const void *py)
{
    const struct dense *x = px, *y = py;
    int c = str_cmp(x->parent, y->parent);
    if (c != 0)
        return c;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static enum status dense_layers(struct half *x, struct dense **out, size_t *n, struct err *e)
{
    *n = 0;
    *out = ARENA_ARRAY(x->m->tmp, struct dense, x->layers->n + 1);
    if (!*out)
        return err_nomem(e, x->layers->n * sizeof **out);
    for (size_t i = 0; i < x->layers->n; i++) {
        const struct layer *l = &x->layers->layer[i];
        if (!(l->kinds & KIND_BIT(LAYER_LINEAR)) || l->tensor[LEAF_WEIGHT] < 0 ||
            l->form == FORM_HEADS_QKV) /* rows head by head are no parts one after the other */
            continue;
        const struct leaf_rule *r = dense_rule(x->f, l, LEAF_WEIGHT);
        const struct tensor *w = &x->seen->model.tensor[l->tensor[LEAF_WEIGHT]];
        int o = r ? axis_of(r->axes, 'O') : -1, c = r ? axis_of(r->axes, 'F') : -1;
        if (o < 0 || c < 0 || w->n_dims != 2)
            continue;
        struct dense *d = &(*out)[(*n)++];
        struct str leaf;
        *d = (struct dense){.layer = (uint32_t)i,
                            .part = part_said(l->path),
                            .joined = joined_said(l->path),
                            .rows = w->dim[o],
                            .cols = w->dim[c],
                            .bias = l->tensor[LEAF_BIAS] >= 0};
        struct str path = l->path, up;
        uint64_t k;
        do { /* a list and its index are one step */
            name_tail(path, &up, &leaf);
            path = up;
        } while (str_u64(leaf, &k) && up.n);
        d->parent = up;
    }
    if (*n)
        qsort(*out, *n, sizeof **out, by_parent);
    return ST_OK;
}

/* The bundles of one sort that a side has apart. */
static enum status bundles_of(struct half *x, const struct dense *d, size_t n, enum joined what,
                              struct bundle **out, size_t *n_out, struct err *e)
{
    *n_out = 0;
    *out = ARENA_ARRAY(x->m->tmp, struct bundle, n + 1);
    if (!*out)
        return err_nomem(e, n * sizeof **out);
    size_t parts = bundles[what].n;
    for (size_t i = 0, k; i < n; i = k) {
        struct bundle b = {.cols = d[i].cols, .bias = d[i].bias};
        size_t found = 0;
        bool good = true;
        for (k = i; k < n && str_eq(d[k].parent, d[i].parent); k++)
            for (size_t j = 0; j < parts; j++) {
                if (d[k].part != bundles[what].part[j])
                    continue;
                good = good && b.rows[j] == 0 &&
                       (found == 0 || (d[k].cols == b.cols && d[k].bias == b.bias));
                b.rows[j] = d[k].rows;
                b.cols = d[k].cols;
                b.bias = d[k].bias;
                found++;
            }
        if (good && found == parts)
            (*out)[(*n_out)++] = b;
    }
    return ST_OK;
}

static bool same_bundle(const struct bundle *a, const struct bundle *b)
{
    return memcmp(a->rows, b->rows, sizeof a->rows) == 0 && a->cols == b->cols &&
           a->bias == b->bias;
}

/* The name of a part: the last word of the path that is in the name makes way for it. */
static bool part_name(struct half *x, const struct tensor *t, struct str path, bool named,
                      const char *word, struct str *out)
{
    struct str up, leaf;
    name_tail(path, &up, &leaf);
    size_t at = SIZE_MAX;
    for (size_t k = str_find_str(t->name, leaf, 0); leaf.n && k < t->name.n;
         k = str_find_str(t->name, leaf, k + 1))
        at = k; /* the last */
    if (at == SIZE_MAX)
        return false;
    size_t end = at + leaf.n;
    if (named)
        *out = arena_fmt(x->m->a, "%.*s%s%.*s", STR_ARG(str_sub(t->name, 0, at)), word,
                         STR_ARG(str_sub(t->name, end, t->name.n)));
    else
        *out = arena_fmt(x->m->a, "%.*s_%s%.*s", STR_ARG(str_sub(t->name, 0, end)), word,
                         STR_ARG(str_sub(t->name, end, t->name.n)));
    return out->p != NULL;
}

static enum status see_parts(struct half *x, const struct dense *d, enum joined what, bool named,
                             const struct bundle *b, struct err *e)
{
    static const char *const unnamed[3] = {"part_a", "part_b", "part_c"};
    const struct layer *l = &x->layers->layer[d->layer];
    for (int i = 0; i < 2; i++) {
        enum leaf lf = i ? LEAF_BIAS : LEAF_WEIGHT;
        if (l->tensor[lf] < 0)
            continue;
        uint32_t at = (uint32_t)l->tensor[lf];
        const struct leaf_rule *r = dense_rule(x->f, l, lf);
        int axis = r ? axis_of(r->axes, 'O') : -1;
        uint64_t lo = 0;
        if (axis < 0)
            return ST_OK;
        for (size_t j = 0; j < bundles[what].n; j++) {
            struct str name;
            struct lens lens = {
                .cut = true, .axis = (uint8_t)axis, .lo = lo, .hi = lo + b->rows[j]};
            const char *word = named ? bundles[what].word[j] : unnamed[j];
            if (!part_name(x, &x->seen->model.tensor[at], l->path, named, word, &name))
                return err_nomem(e, l->path.n);
            TRY(seen_add(x->seen, at, lens, name, x->m->a, e));
            lo = lens.hi;
        }
        seen_hide(x->seen, at);
    }
    return ST_OK;
}

/* Can the parts be named? */
static bool can_name(struct half *x, const struct dense *d, enum joined what, bool named)
{
    const struct layer *l = &x->layers->layer[d->layer];
    for (size_t j = 0; j < bundles[what].n && named; j++) {
        struct str name;
        const struct tensor *t = &x->seen->model.tensor[l->tensor[LEAF_WEIGHT]];
        if (!part_name(x, t, l->path, true, bundles[what].word[j], &name) ||
            seen_has(x->seen, name))
            return false;
    }
    return true;
}

/* What dense layers and bundles of equal size are counted and found by. */
struct wide {
    uint64_t rows, cols;
    bool bias;
    uint32_t at; /* of the list it was made from */
};
struct wides {
    struct wide *v;
    size_t n;
};
static int by_size(const void *px, const void *py)
{
    const struct wide *x = px, *y = py;
    if (x->rows != y->rows)
        return x->rows < y->rows ? -1 : 1;
    if (x->cols != y->cols)
        return x->cols < y->cols ? -1 : 1;
    return (x->bias > y->bias) - (x->bias < y->bias);
}
static int by_wide(const void *px, const void *py)
{
    const struct wide *x = px, *y = py;
    int c = by_size(x, y);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static struct wide wide_of(const struct bundle *b)
{
    return (struct wide){b->rows[0] + b->rows[1] + b->rows[2], b->cols, b->bias, 0};
}

/* Of dense layers where d is given, else of bundles. */
static enum status wides_of(struct half *x, const struct dense *d, const struct bundle *b, size_t n,
                            struct wides *out, struct err *e)
{
    *out = (struct wides){.v = ARENA_ARRAY(x->m->tmp, struct wide, n + 1), .n = n};
    if (!out->v)
        return err_nomem(e, n * sizeof *out->v);
    for (size_t i = 0; i < n; i++) {
        out->v[i] = d ? (struct wide){d[i].rows, d[i].cols, d[i].bias, 0} : wide_of(&b[i]);
        out->v[i].at = (uint32_t)i;
    }
    if (n)
        qsort(out->v, n, sizeof *out->v, by_wide);
    return ST_OK;
}

/* Those of b's size: the first; *n how many. */
static const struct wide *like(const struct wides *w, const struct bundle *b, size_t *n)
{
    struct wide key = wide_of(b);
    size_t at[2];
    for (int end = 0; end < 2; end++) {
        size_t lo = 0, hi = w->n;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            int c = by_size(&w->v[mid], &key);
            if (c < 0 || (end && c == 0))
                lo = mid + 1;
            else
                hi = mid;
        }
        at[end] = lo;
    }
    *n = at[1] - at[0];
    return w->v + at[0];
}

static size_t n_same(const struct bundle *list, const struct wide *w, size_t n,
                     const struct bundle *b)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += same_bundle(&list[w[i].at], b);
    return k;
}

/* One size of joined layers: x has them, as many as y has bundles b, and nothing else could be
 * meant. */
static enum status see_size(struct half *x, const struct dense *dx, const struct wide *joined,
                            size_t n_joined, enum joined what, const struct bundle *b, size_t same,
                            size_t theirs, bool *did, struct err *e)
{
    size_t named = 0;
    for (size_t k = 0; k < n_joined; k++)
        named += dx[joined[k].at].joined == what;
    bool by_name = named > 0, can = true;
    if (by_name ? named != same : n_joined != same || theirs)
        return ST_OK;
    for (size_t k = 0; k < n_joined && can; k++)
        if (!by_name || dx[joined[k].at].joined == what)
            can = can_name(x, &dx[joined[k].at], what, by_name);
    for (size_t k = 0; k < n_joined && can; k++)
        if (!by_name || dx[joined[k].at].joined == what) {
            TRY(see_parts(x, &dx[joined[k].at], what, by_name, b, e));
            *did = true;
        }
    return ST_OK;
}

/* x has joined what y has apart. Bundles of one size are of one sort, or it is not told which. */
static enum status see_joined(struct half *x, struct half *y, enum joined what, bool *did,
                              struct err *e)
{
    struct dense *dx, *dy;
    struct bundle *bx, *by;
    size_t n_dx, n_dy, n_bx, n_by;
    struct wides joined, theirs, mine, apart;
    TRY(dense_layers(x, &dx, &n_dx, e));
    TRY(dense_layers(y, &dy, &n_dy, e));
    TRY(bundles_of(x, dx, n_dx, what, &bx, &n_bx, e));
    TRY(bundles_of(y, dy, n_dy, what, &by, &n_by, e));
    TRY(wides_of(x, dx, NULL, n_dx, &joined, e));
    TRY(wides_of(x, dy, NULL, n_dy, &theirs, e));
    TRY(wides_of(x, NULL, bx, n_bx, &mine, e));
    TRY(wides_of(x, NULL, by, n_by, &apart, e));
    for (size_t i = 0, n; i < n_by; i += n) {
        const struct bundle *b = &by[apart.v[i].at];
        const struct wide *all = like(&apart, b, &n);
        size_t n_joined, n_theirs, n_mine;
        const struct wide *in_x = like(&joined, b, &n_joined), *own = like(&mine, b, &n_mine);
        (void)like(&theirs, b, &n_theirs);
        if (n_joined == 0 || n_same(by, all, n, b) != n || n_same(bx, own, n_mine, b))
            continue;
        TRY(see_size(x, dx, in_x, n_joined, what, b, n, n_theirs, did, e));
    }
    return ST_OK;
}

/* ---- tables and scales that one side has as parameters of their own ---- */

struct shaped {
    uint64_t shape;
    struct layer *layer;
    bool target, bare;
};
static int by_shape(const void *px, const void *py)
{
    const struct shaped *x = px, *y = py;
    if (x->shape != y->shape)
        return x->shape < y->shape ? -1 : 1;
    if (x->target != y->target)
        return x->target ? 1 : -1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

/* A layer of one tensor that is stored as canonical has it, or a bare parameter. */
static bool one_tensor(const struct half *x, const struct layer *l, bool *bare)
{
    const struct spelling_rules *can = framework_find(STR("canonical"))->rules;
    *bare = l->kind == LAYER_PARAM;
    if (*bare)
        return l->tensor[LEAF_VALUE] >= 0;
    if (l->kind != LAYER_EMBEDDING && l->kind != LAYER_LAYERNORM)
        return false;
    for (int i = 0; i < LEAF_N; i++)
        if ((l->tensor[i] >= 0) != (i == LEAF_WEIGHT))
            return false;
    const struct leaf_rule *a = rules_find(x->f->rules, l->kind, l->rank, 0, LEAF_WEIGHT),
                           *b = rules_find(can, l->kind, l->rank, 0, LEAF_WEIGHT);
    return a && b && strcmp(a->axes, b->axes) == 0;
}

static void shapes_of(struct half *x, bool target, struct shaped *out, size_t *n)
{
    for (size_t i = 0; i < x->layers->n; i++) {
        struct layer *l = &x->layers->layer[i];
        bool bare;
        if (!one_tensor(x, l, &bare))
            continue;
        int64_t at = l->tensor[bare ? LEAF_VALUE : LEAF_WEIGHT];
        out[(*n)++] = (struct shaped){map_bare_shape(&x->seen->model.tensor[at]), l, target, bare};
    }
}

/* A position table is an embedding here and a parameter there: where both sides have as many of a
 * shape, and not as many of either sort, all of them are parameters. */
static enum status see_bare(struct half *s, struct half *t, struct err *e)
{
    size_t n = 0;
    struct shaped *l = ARENA_ARRAY(s->m->tmp, struct shaped, s->layers->n + t->layers->n + 1);
    if (!l)
        return err_nomem(e, (s->layers->n + t->layers->n) * sizeof *l);
    shapes_of(s, false, l, &n);
    shapes_of(t, true, l, &n);
    if (n)
        qsort(l, n, sizeof *l, by_shape);
    for (size_t i = 0, k; i < n; i = k) {
        size_t all[2] = {0}, bare[2] = {0};
        for (k = i; k < n && l[k].shape == l[i].shape; k++) {
            all[l[k].target]++;
            bare[l[k].target] += l[k].bare;
        }
        if (all[0] != all[1] || bare[0] == bare[1])
            continue;
        for (size_t j = i; j < k; j++) {
            struct layer *y = l[j].layer;
            if (l[j].bare)
                continue;
            y->tensor[LEAF_VALUE] = y->tensor[LEAF_WEIGHT];
            y->tensor[LEAF_WEIGHT] = -1;
            y->kind = LAYER_PARAM;
            y->kinds = KIND_BIT(LAYER_PARAM);
            y->reason = STR("a parameter of its own on the other side");
        }
    }
    return ST_OK;
}

/* ---- both sides ---- */

static enum status again(struct mapping *m, struct skeleton *sk, struct seen *s, struct seen *t,
                         struct err *e)
{
    size_t n = s->model.n_tensors;
    bool *in = ARENA_ARRAY(m->tmp, bool, n + 1), *used = ARENA_ARRAY(m->tmp, bool, n + 1),
         *dropped = ARENA_ARRAY(m->tmp, bool, n + 1),
         *filled = ARENA_ARRAY(m->tmp, bool, t->model.n_tensors + 1);
    if (!in || !used || !dropped || !filled)
        return err_nomem(e, 4 * n);
    for (size_t i = 0; i < n; i++) {
        in[i] = m->in[s->lens[i].real];
        dropped[i] = m->dropped[s->lens[i].real];
        used[i] = m->used[s->lens[i].real];
    }
    m->in = in;
    m->used = used;
    m->dropped = dropped;
    sk->filled = filled;
    m->src = &s->model;
    sk->m = &t->model;
    TRY(m->from->layers(m->src, m->tmp, &m->sl, e));
    map_thin(m);
    TRY(map_settle(m, e));
    return m->to->layers(sk->m, m->tmp, &sk->layers, e);
}

enum status see_bundles(struct mapping *m, struct skeleton *sk, struct seen *s, struct seen *t,
                        struct err *e)
{
    struct half x = {m, m->from, &m->sl, s}, y = {m, m->to, &sk->layers, t};
    bool did = false;
    if (s->any || t->any)
        TRY(again(m, sk, s, t, e));
    TRY(see_attention(&x, &y, &did, e));
    if (did)
        TRY(again(m, sk, s, t, e));
    for (enum joined w = JOINED_QKV; w <= JOINED_GATE_UP; w++) {
        did = false;
        TRY(see_joined(&x, &y, w, &did, e));
        TRY(see_joined(&y, &x, w, &did, e));
        if (did)
            TRY(again(m, sk, s, t, e));
    }
    return see_bare(&x, &y, e);
}
