/* Dense layers that read a flattened feature map, and what rules settle before mapping.
 *
 * Flattening channels first numbers the inputs c*S + s, channels last s*C + c, S the number of
 * positions. Only C is needed, but weights do not say whether a dense layer reads a map at all. So:
 * a layer whose inputs are C*k, k > 1, for a convolution that may come before it, is asked about;
 * which convolutions may come before is read from numbers in names where these order the layers.
 * Widths of maps that were put side by side are none of these (map_concat.c).
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <string.h>

bool map_is_norm(enum layer_kind k)
{
    return k == LAYER_LAYERNORM || k == LAYER_GROUPNORM || k == LAYER_BATCHNORM;
}

bool map_may_be(const struct layer *l, enum layer_kind k)
{
    if (k == LAYER_LINEAR && l->dense && l->kind != k)
        return false; /* of several axes, it is looked at as a convolution until it is settled */
    return l->kind == k || (l->kinds & KIND_BIT(k));
}

static bool has_vector(const struct mapping *m, const struct layer *l)
{
    return l->tensor[LEAF_BIAS] >= 0 && m->src->tensor[l->tensor[LEAF_BIAS]].n_dims == 1;
}

/* May a rule call it so? Leaves and axes must fit; names need not. */
static bool allowed(const struct mapping *m, const struct layer *l, enum layer_kind k)
{
    if (k == LAYER_NONE || k == LAYER_PARAM || (l->kinds & KIND_BIT(k)))
        return true;
    const struct tensor *w =
        l->tensor[LEAF_WEIGHT] >= 0 ? &m->src->tensor[l->tensor[LEAF_WEIGHT]] : NULL;
    bool bias = l->tensor[LEAF_BIAS] >= 0;
    if (!w || l->kind == LAYER_ATTENTION || l->tensor[LEAF_MEAN] >= 0)
        return false;
    switch (k) {
    case LAYER_LINEAR:
        return w->n_dims == 2;
    case LAYER_EMBEDDING:
        return w->n_dims == 2 && !bias;
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
        return w->n_dims >= 3 && w->n_dims <= 5 && l->rank == w->n_dims - 2;
    case LAYER_CONV_LOCAL:
        return m->from->rules->patch && w->n_dims >= 3 && l->rank && !has_vector(m, l);
    case LAYER_LAYERNORM:
    case LAYER_GROUPNORM:
        return w->n_dims == 1;
    case LAYER_PRELU:
        return w->n_dims == 1 && !bias;
    default:
        return false;
    }
}

/* Does the bias say that it is the other kind of convolution? */
static bool bias_denies(const struct mapping *m, const struct layer *l, enum layer_kind k)
{
    if ((k != LAYER_CONV && k != LAYER_CONV_TRANSPOSE) || l->tensor[LEAF_BIAS] < 0 ||
        l->tensor[LEAF_WEIGHT] < 0)
        return false;
    enum layer_kind other = k == LAYER_CONV ? LAYER_CONV_TRANSPOSE : LAYER_CONV;
    uint64_t n = tensor_elems(&m->src->tensor[l->tensor[LEAF_BIAS]]);
    return map_extent(m, l, k, LEAF_WEIGHT, 'O') != n &&
           map_extent(m, l, other, LEAF_WEIGHT, 'O') == n;
}

enum status map_settle(struct mapping *m, struct err *e)
{
    TRY(map_maybe_ruled(m, m->src, &m->sl, e));
    for (size_t i = 0; i < m->sl.n; i++) {
        struct layer *l = &m->sl.layer[i];
        struct map_rule *r = map_rule_for(m, RULE_KIND, l->path);
        if (!r) {
            r = map_rule_for(m, RULE_PAIR, l->path);
            if (r && !r->has_kind)
                r = NULL;
        }
        if (r && r->what == RULE_KIND && map_rule_is_pattern(r) &&
            (!allowed(m, l, r->kind) || bias_denies(m, l, r->kind))) {
            r->n_used--; /* for many layers: those that cannot be of that kind stay what they are */
            r = NULL;
        }
        if (r) {
            enum layer_kind k = r->kind;
            if (!allowed(m, l, k))
                return err_set(e, ST_CANNOT, "map-kind",
                               "line %zu of the rules file: %.*s cannot be %s (%.*s)", r->line,
                               STR_ARG(l->path), layer_kind_name(k), STR_ARG(l->reason));
            layer_decide(l, k == LAYER_PARAM ? LAYER_NONE : k);
            const struct leaf_rule *w = rules_find(m->from->rules, k, l->rank, 0, LEAF_WEIGHT);
            l->flip = k == LAYER_CONV_TRANSPOSE && !r->kept_kernel && w && strchr(w->axes, '-');
            l->reason = STR("by the rules file");
        }
        r = map_rule_for(m, RULE_HEADS, l->path);
        if (r &&
            (l->kind == LAYER_ATTENTION || l->form == FORM_ROTARY || l->form == FORM_HEADS_QKV))
            l->heads = r->number;
        else if (r)
            r->n_used--;
        r = map_rule_for(m, RULE_RANK, l->path);
        if (r && (l->kind == LAYER_BATCHNORM || l->kind == LAYER_PRELU) &&
            (l->rank == 0 || l->rank == r->number - 1))
            l->rank = (uint8_t)(r->number - 1);
        else if (r)
            r->n_used--;
    }
    return ST_OK;
}

/* ---- widths ---- */

static const struct tensor *leaf_of(const struct mapping *m, const struct layer *l, enum leaf lf)
{
    return l->tensor[lf] >= 0 ? &m->src->tensor[l->tensor[lf]] : NULL;
}

/* Extent of a canonical axis letter of a leaf; 0 = unknown. */
uint64_t map_extent(const struct mapping *m, const struct layer *l, enum layer_kind kind,
                    enum leaf lf, char letter)
{
    const struct tensor *t = leaf_of(m, l, lf);
    struct layer y = *l;
    y.kind = kind;
    y.flat_c = 0;
    const struct leaf_rule *r = rules_find(m->from->rules, kind, l->rank, rules_variant(&y), lf);
    struct axes x;
    struct axes_size size = {0};
    char text[AXES_TEXT];
    struct err quiet;
    bool heads = r && strstr(r->axes, "(N D)"), rows = r && strstr(r->axes, "(N W)");
    if (rows && (letter == 'N' || letter == 'W'))
        return 0;
    size.of['N'] = heads || rows; /* one width, however many heads; positions, however many rows */
    if (!t || !r || rules_axes(m->from->rules, r, &y, &x, text, &quiet) != ST_OK ||
        axes_learn(&x, t->dim, t->n_dims, &size, &quiet) != ST_OK)
        return 0;
    if (letter == 'O' && y.depth_c) /* spelled as channels times multiplier */
        return kind == LAYER_CONV ? size.of['C'] * size.of['M'] : size.of['O'];
    if (kind == LAYER_LINEAR && y.dense && (letter == 'F' || letter == 'O')) {
        uint64_t all = 1; /* of a tensor: no overflow */
        for (const char *p = letter == 'F' ? y.dense->in : y.dense->out; *p; p++)
            all *= size.of[(unsigned char)*p];
        return all;
    }
    return size.of[(unsigned char)letter];
}

/* Channels a convolution gives; up to two, where its kind is open. */
size_t map_channels(const struct mapping *m, const struct layer *l, uint64_t c[2])
{
    size_t n = 0;
    uint64_t groups = l->groups ? l->groups : 1;
    if (map_may_be(l, LAYER_CONV))
        c[n++] = map_extent(m, l, LAYER_CONV, LEAF_WEIGHT, 'O');
    if (l->kind == LAYER_CONV_LOCAL)
        c[n++] = map_extent(m, l, LAYER_CONV_LOCAL, LEAF_WEIGHT, 'O');
    if (map_may_be(l, LAYER_CONV_TRANSPOSE))
        c[n++] = groups * map_extent(m, l, LAYER_CONV_TRANSPOSE, LEAF_WEIGHT, 'O');
    return n == 2 && c[0] == c[1] ? 1 : n;
}

/* Width of what a layer reads (dense) or normalises; 0 = not concerned. */
static uint64_t width_in(const struct mapping *m, const struct layer *l)
{
    if (map_may_be(l, LAYER_LINEAR))
        return map_extent(m, l, LAYER_LINEAR, LEAF_WEIGHT, 'F');
    if (l->kind != LAYER_LAYERNORM && l->kind != LAYER_BATCHNORM)
        return 0; /* a group norm has channels */
    enum leaf lf = l->tensor[LEAF_WEIGHT] >= 0 ? LEAF_WEIGHT : LEAF_MEAN;
    return map_extent(m, l, l->kind, lf, 'F');
}

/* ---- asking ---- */

static enum status ask(struct mapping *m, const struct layer *l, uint64_t n,
                       const struct layer *only, struct err *e)
{
    struct buf b = BUF_INIT;
    buf_fmt(&b, "%.*s reads %llu values; a flattened map of", STR_ARG(l->path),
            (unsigned long long)n);
    size_t said = 0;
    for (size_t i = 0; i < m->sl.n && said < 8; i++) {
        const struct layer *o = &m->sl.layer[i];
        uint64_t c[2];
        size_t nc = only && o != only ? 0 : map_channels(m, o, c);
        for (size_t j = 0; j < nc; j++)
            if (c[j] > 1 && n % c[j] == 0 && n / c[j] > 1) {
                buf_fmt(&b, "%s %llu channels (%.*s)", said ? " or" : "", (unsigned long long)c[j],
                        STR_ARG(o->path));
                said++;
            }
    }
    buf_fmt(&b, ", or none?");
    enum status st = buf_ok(&b, e);
    struct str comment = arena_str(m->a, (const char *)b.p, b.n);
    struct str line = map_line(m, "flatten ", l->path, " = ?");
    buf_free(&b);
    if (st == ST_OK && (!comment.p || !line.p))
        st = err_nomem(e, 256);
    if (st == ST_OK)
        map_ask(m, comment.p, line);
    return st;
}

/* May n be a flattened map of this convolution, larger than one position? One channel is no matter:
 * its map is the same, first or last. */
static bool flattens(const struct mapping *m, const struct layer *conv, uint64_t n)
{
    uint64_t c[2];
    size_t nc = map_channels(m, conv, c);
    for (size_t j = 0; j < nc; j++)
        if (c[j] > 1 && n % c[j] == 0 && n / c[j] > 1)
            return true;
    return false;
}

/* Is what a dense layer reads accounted for: by a rule, by a map, by another layer's width? One
 * that is not says nothing about the layer after it. */
static bool accounted(struct mapping *m, const struct layer *l)
{
    uint64_t n = width_in(m, l);
    if (!map_may_be(l, LAYER_LINEAR))
        return !map_may_be(l, LAYER_EMBEDDING);
    return l->flat_c != 0 || map_rule_for(m, RULE_FLATTEN, l->path) || map_given(m, l, n) ||
           map_flattens(m, n);
}

/* ---- a kernel for each position ---- */

uint64_t map_rows(const struct model *md, const struct spelling_rules *r, const struct layer *l)
{
    for (int k = 0; k < 2 && l->rank == 2 && !l->heads; k++) {
        enum leaf lf = k ? LEAF_WEIGHT : LEAF_BIAS;
        const struct leaf_rule *a = rules_find(r, LAYER_CONV_LOCAL, l->rank, 0, lf);
        const struct tensor *t = l->tensor[lf] >= 0 ? &md->tensor[l->tensor[lf]] : NULL;
        struct axes x;
        struct axes_size size = {0};
        struct err quiet;
        if (a && t && axes_parse(str_from(a->axes), &x, &quiet) == ST_OK &&
            axes_learn(&x, t->dim, t->n_dims, &size, &quiet) == ST_OK)
            return size.of['N'];
    }
    return l->heads;
}

static enum status no_multiple(const struct map_rule *r, const struct layer *l, uint64_t n,
                               const char *what, struct err *e)
{
    return err_set(e, ST_CANNOT, "map-flatten",
                   "line %zu of the rules file: the %llu %s of %.*s are no multiple of %llu",
                   r->line, (unsigned long long)n, what, STR_ARG(l->path),
                   (unsigned long long)r->number);
}

/* Are the positions one axis? */
static bool joined(const struct spelling_rules *r, const struct layer *l)
{
    const struct leaf_rule *w = rules_find(r, LAYER_CONV_LOCAL, l->rank, 0, LEAF_WEIGHT);
    return w && strstr(w->axes, "(N W)");
}

/* The channels of a window and the rows of positions, as rules say. */
static enum status local_ruled(struct mapping *m, struct layer *l, bool *said, struct err *e)
{
    uint64_t n = map_extent(m, l, LAYER_CONV_LOCAL, LEAF_WEIGHT, 'F');
    struct map_rule *c = map_rule_for(m, RULE_FLATTEN, l->path),
                    *p = l->rank == 2 ? map_rule_for(m, RULE_POSITIONS, l->path) : NULL;
    *said = c || p;
    if (c && c->number && n % c->number)
        return no_multiple(c, l, n, "values in a window", e);
    if (p && joined(m->from->rules, l)) {
        uint64_t all = m->src->tensor[l->tensor[LEAF_WEIGHT]].dim[0];
        if (all % p->number)
            return no_multiple(p, l, all, "positions", e);
        l->heads = p->number;
    }
    if (c) {
        l->flat_c = c->number ? c->number : n;
        l->flat_said = true;
    }
    return ST_OK;
}

enum status map_flatten_ruled(struct mapping *m, struct layer *l, bool *said, struct err *e)
{
    if (map_may_be(l, LAYER_CONV_LOCAL))
        return local_ruled(m, l, said, e);
    uint64_t n = width_in(m, l);
    struct map_rule *r = n ? map_rule_for(m, RULE_FLATTEN, l->path) : NULL;
    *said = r != NULL;
    if (!r)
        return ST_OK;
    l->flat_c = r->number;
    l->flat_said = true;
    if (r->number && n % r->number)
        return err_set(
            e, ST_CANNOT, "map-flatten",
            "line %zu of the rules file: the %llu inputs of %.*s are no multiple of %llu", r->line,
            (unsigned long long)n, STR_ARG(l->path), (unsigned long long)r->number);
    return ST_OK;
}

/* A question about a kernel for each position; an archive keeps it as it came. */
static enum status ask_local(struct mapping *m, struct layer *l, const char *word, struct str text,
                             struct err *e)
{
    if (!m->o->to && !m->o->like) {
        layer_decide(l, LAYER_NONE);
        l->reason = text;
        return text.p ? ST_OK : err_nomem(e, 128);
    }
    struct str line = map_line(m, word, l->path, " = ?");
    if (!text.p || !line.p)
        return err_nomem(e, 128);
    map_ask(m, text.p, line);
    return ST_OK;
}

/* ... and what is asked, where the target must tell them apart. */
static enum status window(struct mapping *m, struct layer *l, struct err *e)
{
    const struct spelling_rules *a = m->from->rules, *b = m->to->rules;
    uint64_t n = map_extent(m, l, l->kind, LEAF_WEIGHT, 'F');
    bool said;
    TRY(local_ruled(m, l, &said, e));
    l->heads = map_rows(m->src, a, l);
    if (!a->patch || !b->patch || !rules_find(b, l->kind, l->rank, 0, LEAF_WEIGHT))
        return ST_OK;
    if (!l->flat_c && n > 1 && strcmp(a->patch, b->patch) != 0)
        TRY(ask_local(m, l, "flatten ",
                      arena_fmt(m->a,
                                "%.*s: a window of %llu values for each position; of how many "
                                "channels? The weights do not tell.",
                                STR_ARG(l->path), (unsigned long long)n),
                      e));
    if (l->rank == 2 && !l->heads && !joined(b, l) && l->kind == LAYER_CONV_LOCAL)
        return ask_local(
            m, l, "positions ",
            arena_fmt(m->a,
                      "%.*s: %llu positions, a kernel for each; in how many rows? The weights do "
                      "not tell.",
                      STR_ARG(l->path),
                      (unsigned long long)m->src->tensor[l->tensor[LEAF_WEIGHT]].dim[0]),
            e);
    return ST_OK;
}

static enum status one(struct mapping *m, struct layer *l, struct err *e)
{
    if (l->kind == LAYER_CONV_LOCAL)
        return window(m, l, e);
    uint64_t n = width_in(m, l);
    bool said;
    TRY(map_flatten_ruled(m, l, &said, e));
    if (said || !n || l->flat_c || l->flat_said ||
        strcmp(m->from->rules->flat, m->to->rules->flat) == 0)
        return ST_OK;
    const struct layer *prev, *conv;
    if (!map_flattens(m, n)) /* no convolution it could follow: there is nothing to ask */
        return ST_OK;
    if (map_concat(m, l, n))
        return ST_OK;
    if (map_before(m, l, &prev, &conv)) {
        bool norm = map_is_norm(l->kind); /* one over a flattened map follows it directly */
        bool plain = prev && map_gives(m, prev, n) && accounted(m, prev);
        bool ask_it = conv && flattens(m, conv, n) && !plain && !(norm && conv != prev);
        return ask_it ? ask(m, l, n, conv, e) : ST_OK;
    }
    return map_given(m, l, n) ? ST_OK : ask(m, l, n, NULL, e);
}

static uint64_t power(uint64_t x, unsigned n)
{
    uint64_t p = 1;
    while (n-- > 0 && p < UINT32_MAX)
        p *= x;
    return p;
}

/* Does the layer behind a dense one read a map of so many channels, all sides of one length? */
static const struct layer *reads_map(const struct mapping *m, size_t i, uint64_t n, uint64_t *c)
{
    const struct layer *l = NULL;
    while (++i < m->sl.n &&
           (map_is_norm(m->sl.layer[i].kind) || m->sl.layer[i].kind == LAYER_PRELU))
        ;
    if (i == m->sl.n)
        return NULL;
    l = &m->sl.layer[i];
    if ((l->kind != LAYER_CONV && l->kind != LAYER_CONV_TRANSPOSE) || l->rank == 0)
        return NULL;
    *c = map_extent(m, l, l->kind, LEAF_WEIGHT, 'I');
    uint64_t side = 2, k = *c ? n / *c : 0;
    while (power(side, l->rank) < k && side < 1024)
        side++;
    return k > 1 && n % *c == 0 && power(side, l->rank) == k ? l : NULL;
}

/* What a dense layer gives may be shaped into a map: which axis its channels are is the program's
 * doing, and no rule's. */
static enum status unflattened(struct mapping *m, size_t i, struct err *e)
{
    const struct layer *l = &m->sl.layer[i];
    uint64_t n = l->kind == LAYER_LINEAR ? map_extent(m, l, l->kind, LEAF_WEIGHT, 'O') : 0, c = 0;
    const struct layer *to = n ? reads_map(m, i, n, &c) : NULL;
    if (!to || strcmp(m->to->name, "canonical") == 0)
        return ST_OK;
    const struct framework *from = framework_find(str_from(map_origin(m)));
    if (!from || strcmp(from->rules->flat, m->to->rules->flat) == 0)
        return ST_OK;
    bool first = from->rules->flat[1] == 'C';
    struct str text = arena_fmt(
        m->a,
        "where its %llu values become a map of %llu channels (%.*s), the channels are %s in %s, "
        "%s in %s: the model must turn the map",
        (unsigned long long)n, (unsigned long long)c, STR_ARG(to->path), first ? "first" : "last",
        from->name, first ? "last" : "first", m->to->name);
    struct plan_note note = {.layer = arena_str(m->a, l->path.p, l->path.n),
                             .text = text,
                             .of = "linear",
                             .setting = "unflatten",
                             .source = first ? STR("first") : STR("last"),
                             .target = first ? STR("last") : STR("first"),
                             .set = STR(""),
                             .known = true,
                             .special = true};
    return text.p && note.layer.p ? map_note(m, &note, e) : err_nomem(e, 256);
}

enum status map_flatten(struct mapping *m, struct err *e)
{
    TRY(map_look_around(m, e));
    TRY(map_concat_learn(m, e));
    for (size_t i = 0; i < m->sl.n; i++)
        TRY(one(m, &m->sl.layer[i], e));
    for (size_t i = 0; i < m->sl.n && m->n_open == 0 && !m->o->facts_only; i++)
        TRY(unflattened(m, i, e));
    return ST_OK;
}
