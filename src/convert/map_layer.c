/* One layer from the source's spelling to the target's: which leaves there are, which the target
 * has, and the layouts between. Tables say everything; nothing here knows a framework.
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <string.h>

/* ---- what the source offers ---- */

struct offer {
    bool have;
    struct take take; /* dst_axes empty */
};

/* Canonical's layout of a leaf: as fine as the other side's row of that variant needs. */
static enum status canon_axes(const struct layer *l, enum leaf leaf, uint8_t variant,
                              char text[AXES_TEXT], struct err *e)
{
    const struct spelling_rules *r = framework_find(STR("canonical"))->rules;
    const struct leaf_rule *can = rules_find(r, l->kind, l->rank, variant, leaf);
    struct axes x;
    if (!can)
        return err_set(e, ST_BUG, "no-canonical", "no canonical spelling of %s.%s",
                       layer_kind_name(l->kind), leaf_name(leaf));
    return rules_axes(r, can, l, &x, text, e);
}

/* Fills offers by canonical leaf. */
static enum status offers_of(struct mapping *m, const struct layer *l, struct offer *of,
                             const struct axes_size *size, struct err *e)
{
    const struct spelling_rules *r = m->from->rules;
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        uint8_t variant = rules_variant(l);
        const struct leaf_rule *rule = rules_find(r, l->kind, l->rank, variant, (enum leaf)i);
        struct take k = {.src = (uint32_t)l->tensor[i],
                         .heads = l->heads,
                         .flat_c = l->depth_c ? l->depth_c : l->flat_c,
                         .size = size};
        if (!rule)
            return err_set(e, ST_CANNOT, "no-rule", "no spelling of %s.%s in %s",
                           layer_kind_name(l->kind), leaf_name((enum leaf)i), m->from->name);
        struct axes x;
        char text[AXES_TEXT];
        TRY(rules_axes(r, rule, l, &x, text, e));
        k.src_axes = map_axes(m, text);
        k.dst_axes = "";
        if (!k.src_axes)
            return err_nomem(e, AXES_TEXT);
        enum leaf part[3];
        size_t n = leaf_fuses((enum leaf)i, part);
        k.n_parts = (uint8_t)n;
        for (size_t j = 0; j < (n ? n : 1); j++) {
            struct offer *o = &of[part[j]];
            o->have = true;
            o->take = k;
            o->take.part = (uint8_t)j;
            TRY(canon_axes(l, part[j], rule->variant, text, e));
            o->take.can_axes = map_axes(m, text);
            if (!o->take.can_axes)
                return err_nomem(e, AXES_TEXT);
        }
    }
    return ST_OK;
}

/* ---- tensors that keep their names ---- */

/* A name in the target; collections are left out where the target does without them. */
static enum status name_in(struct mapping *m, const char *collection, struct str path,
                           const char *leaf, struct str *out, struct err *e)
{
    const struct spelling_rules *r = m->to->rules;
    if (r->bare && !m->stats_known) {
        m->stats_known = true;
        for (size_t i = 0; i < m->sl.n; i++)
            m->has_stats = m->has_stats || m->sl.layer[i].kind == LAYER_BATCHNORM;
    }
    return rules_spell(m->a, r, r->bare && !m->has_stats ? "" : collection, path, leaf, out, e);
}

/* A tensor that the target is better off without: in the ledger, by name. */
static enum status leave(struct mapping *m, const struct layer *l, enum leaf lf, bool harmless,
                         struct str why, struct err *e)
{
    int64_t t = l->tensor[lf];
    if (t < 0 || m->dropped[t])
        return ST_OK;
    m->dropped[t] = true;
    return map_ledger(m, LEDGER_DROP, m->src->tensor[t].name, tensor_elems(&m->src->tensor[t]),
                      harmless, why, e);
}

static bool below(struct str path, struct str top)
{
    return str_starts(path, top) && (path.n == top.n || path.p[top.n] == '.');
}

enum status map_path_of(struct mapping *m, struct str path, struct str *out, struct err *e)
{
    struct map_rule *r = map_rule_for(m, RULE_PAIR, path);
    *out = path;
    if (r && !r->from_axes.n)
        return map_captured(m, r, path, out, e);
    if (m->cut.n && below(path, m->cut))
        path = path.n > m->cut.n ? str_sub(path, m->cut.n + 1, path.n) : STR("");
    *out = path;
    if (m->to->rules->path)
        TRY(m->to->rules->path(&m->sl, path, m->a, out, e));
    if (m->put.n && out->p) {
        *out = out->n ? arena_fmt(m->a, "%.*s.%.*s", STR_ARG(m->put), STR_ARG(*out)) : m->put;
        return out->p ? ST_OK : err_nomem(e, path.n);
    }
    return ST_OK;
}

/* Rules of a cell that is one of several kinds, or none: the first kind that it was taken for. */
static const struct cell_rule *cell_rule_at(const struct mapping *m, const struct layer *l,
                                            size_t i)
{
    for (unsigned k = LAYER_LSTM; k <= LAYER_RNN; k++) {
        const struct cell_rule *c = rules_cell(m->from->rules, (enum layer_kind)k, l->variant, 0);
        bool own = c != NULL;
        for (size_t j = 0; own && c;
             c = rules_cell(m->from->rules, (enum layer_kind)k, l->variant, ++j)) {
            enum leaf side[2];
            (void)leaf_sides(c->leaf, side);
            own = l->tensor[c->leaf] >= 0 || side[0] == LEAF_IH_BIAS || side[0] == LEAF_HH_BIAS ||
                  side[0] == LEAF_HR_WEIGHT;
        }
        if (own)
            return rules_cell(m->from->rules, (enum layer_kind)k, l->variant, i);
    }
    return NULL;
}

/* A bare parameter whose shape differs from the skeleton's by axes of extent 1. */
static const char *letters_of(struct mapping *m, const struct tensor *t)
{
    char text[AXES_TEXT] = "";
    size_t k = 0;
    char next = 'a';
    for (size_t d = 0; d < t->n_dims && k + 3 < sizeof text; d++) {
        if (d)
            text[k++] = ' ';
        text[k++] = t->dim[d] == 1 ? '1' : next++;
    }
    if (k == 0)
        text[k++] = ' '; /* no axes, where "" would say nothing */
    text[k] = 0;
    return map_axes(m, text);
}

static enum status same_but_ones(struct mapping *m, const struct tensor *x, const struct tensor *t,
                                 struct take *k, struct err *e)
{
    if (x->n_dims == t->n_dims && memcmp(x->dim, t->dim, x->n_dims * sizeof *x->dim) == 0)
        return ST_OK;
    k->src_axes = letters_of(m, x);
    k->can_axes = k->dst_axes = letters_of(m, t);
    return k->src_axes && k->dst_axes ? ST_OK : err_nomem(e, AXES_TEXT);
}

/* A parameter of one number, with or without an axis of extent 1 as the target has it. */
static enum status scalar(struct mapping *m, const struct tensor *x, struct take *k, struct err *e)
{
    const struct leaf_rule *r = rules_find(m->to->rules, LAYER_PARAM, 0, FORM_SCALAR, LEAF_VALUE);
    if (x->n_dims == (r ? 1 : 0) || x->n_dims > 1 || (x->n_dims == 1 && x->dim[0] != 1))
        return ST_OK;
    k->src_axes = letters_of(m, x);
    k->can_axes = k->dst_axes = map_axes(m, r ? r->axes : " ");
    return k->src_axes && k->dst_axes ? ST_OK : err_nomem(e, AXES_TEXT);
}

/* What no rule knows arrives as the source's framework has it: the target's program must see to it,
 * and is told. */
static enum status note_kept(struct mapping *m, const struct layer *l, const struct layer *t,
                             struct err *e)
{
    if (l->kind == LAYER_PARAM || t || m->from == m->to || strcmp(m->to->name, "canonical") == 0)
        return ST_OK;
    struct str text = arena_fmt(m->a,
                                "no rule for such a layer: its names and axes are %s's, not "
                                "%s's (%.*s)",
                                m->from->name, m->to->name, STR_ARG(l->reason));
    struct plan_note note = {.layer = arena_str(m->a, l->path.p, l->path.n),
                             .text = text,
                             .of = "layer",
                             .setting = "axes",
                             .source = str_from(m->from->name),
                             .target = str_from(m->to->name),
                             .set = STR(""),
                             .known = true,
                             .special = true};
    return text.p && note.layer.p ? map_note(m, &note, e) : err_nomem(e, 128);
}

/* Every tensor of a layer without a rule, and bare parameters: own name below the target's
 * collection, own axes. */
static enum status keep_tensors(struct mapping *m, const struct layer *l, struct skeleton *sk,
                                const struct layer *t, struct err *e)
{
    bool keep_name = m->to == m->from;
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        const struct tensor *x = &m->src->tensor[l->tensor[i]];
        struct made *d;
        TRY(map_made(m, 1, &d, e));
        struct str path = l->path, parent, leaf;
        if (!t) /* else the name is the skeleton's */
            TRY(map_path_of(m, l->path, &path, e));
        if (!path.p && l->path.n) {
            m->n_made--;
            TRY(leave(m, l, (enum leaf)i, false, STR("the target has no name for it"), e));
            continue;
        }
        bool renamed = !str_eq(path, l->path);
        const struct cell_rule *c;
        for (size_t k = 0; i > LEAF_VALUE && (c = cell_rule_at(m, l, k)) != NULL; k++)
            if ((int)c->leaf == i)
                path = rules_name(m->a, "", path, c->name);
        if (i < LEAF_VALUE) {
            name_tail(x->name, &parent, &leaf);
            path = path.n ? arena_fmt(m->a, "%.*s.%.*s", STR_ARG(path), STR_ARG(leaf)) : leaf;
        }
        d->take->src = (uint32_t)l->tensor[i];
        if (t) {
            d->name = sk->m->tensor[t->tensor[i]].name;
            sk->filled[t->tensor[i]] = true;
            TRY(same_but_ones(m, x, &sk->m->tensor[t->tensor[i]], d->take, e));
        } else if (!path.p && path.n) {
            return err_nomem(e, x->name.n);
        } else if (keep_name && !renamed) {
            d->name = x->name;
        } else {
            TRY(name_in(m, m->to->rules->param, path, "", &d->name, e));
        }
        if (l->kind == LAYER_PARAM && l->form == FORM_SCALAR && !t)
            TRY(scalar(m, x, d->take, e));
        d->why = l->kind == LAYER_PARAM
                     ? arena_fmt(m->tmp, "param, axes kept (%.*s)", STR_ARG(l->reason))
                     : arena_fmt(m->tmp, "no rule: kept as %s has it (%.*s)", m->from->name,
                                 STR_ARG(l->reason));
    }
    return ST_OK;
}

/* A layer whose like the target has not. */
static enum status keep_unlike(struct mapping *m, struct layer *l, struct err *e)
{
    l->reason = arena_fmt(m->a, "%s has no %s", m->to->name, layer_kind_name(l->kind));
    if (!l->reason.p)
        return err_nomem(e, 64);
    TRY(keep_tensors(m, l, NULL, NULL, e));
    return note_kept(m, l, NULL, e);
}

/* ---- the target's leaves ---- */

/* Is it a factor less 1, which some frameworks store whole? */
static bool less_one(const struct layer *l, enum leaf lf)
{
    return l->kind == LAYER_LAYERNORM && l->form == FORM_RMS_LESS && lf == LEAF_WEIGHT;
}

/* What a tensor is made of, for people. more: of a 1 added or taken off. */
static enum status explain(struct mapping *m, const struct layer *l, struct made *d, bool joined,
                           const char *dst, int more, struct err *e)
{
    const struct take *k = d->take;
    struct str text = k->n_parts ? arena_fmt(m->tmp, "%u of %u of [%s]", k->part + 1u,
                                             (unsigned)k->n_parts, k->src_axes)
                                 : arena_fmt(m->tmp, "[%s]", k->src_axes);
    d->why = arena_fmt(m->tmp, "%s %.*s -> %s[%s]%s (%.*s)", layer_kind_name(l->kind),
                       STR_ARG(text), joined ? "joined " : "", dst,
                       more > 0   ? ", 1 added"
                       : more < 0 ? ", 1 taken off"
                                  : "",
                       STR_ARG(l->reason));
    return text.p && d->why.p ? ST_OK : err_nomem(e, 128);
}

/* One target tensor from one leaf rule. l: the layer as the target has its axes. */
static enum status emit(struct mapping *m, const struct layer *l, const struct offer *of,
                        const struct leaf_rule *rule, struct str name, struct err *e)
{
    enum leaf part[3];
    size_t n = leaf_fuses(rule->leaf, part);
    size_t n_parts = n ? n : 1;
    char dst[AXES_TEXT];
    struct axes x;
    TRY(rules_axes(m->to->rules, rule, l, &x, dst, e));
    const char *dst_axes = map_axes(m, dst);
    char out[AXES_TEXT];
    TRY(canon_axes(l, part[0], rule->variant, out, e));
    const char *out_text = map_axes(m, out);
    if (!dst_axes || !out_text)
        return err_nomem(e, sizeof dst);
    struct made *d;
    TRY(map_made(m, n_parts, &d, e));
    d->name = name;
    if (rule->leaf == LEAF_MEAN || rule->leaf == LEAF_VAR)
        d->role = ROLE_STATISTIC; /* not every container can tell */
    for (size_t j = 0; j < n_parts; j++) {
        size_t from = j;
        while (!of[part[from]].have) /* zeros of the shape of one that is there */
            from = (from + 1) % n_parts;
        d->take[j] = of[part[from]].take;
        d->take[j].zero = from != j;
        d->take[j].dst_axes = dst_axes;
        d->take[j].out_axes = out_text;
    }
    int more = less_one(l, rule->leaf) ? m->to->rules->whole - m->from->rules->whole : 0;
    if (more) {
        d->take->offset = (int8_t)more;
        /* a narrower type would lose what the 1 pushes out */
        d->take->wide = more > 0 && dtype_info(m->src->tensor[d->take->src].dtype)->bits < 32;
        d->dtype = d->take->wide ? DT_F32 : DT_NONE;
    }
    return m->o->unexplained ? ST_OK : explain(m, l, d, n > 0, dst, more, e);
}

/* Does one side part the heads where the other joins them? */
static bool parts_heads(const struct mapping *m)
{
    const struct leaf_rule *a = rules_find(m->from->rules, LAYER_ATTENTION, 0, 0, LEAF_Q_WEIGHT);
    const struct leaf_rule *b = rules_find(m->to->rules, LAYER_ATTENTION, 0, 0, LEAF_Q_WEIGHT);
    return a && b && !strstr(a->axes, "(N D)") != !strstr(b->axes, "(N D)");
}

/* torch's attention holds one width: heads * width = embedding width. */
static enum status attention_fits(struct mapping *m, const struct offer *of, bool *fused,
                                  struct err *e)
{
    uint64_t rows[4] = {0}, cols[4] = {0};
    for (int i = 0; i < 4; i++) {
        struct take k = of[LEAF_Q_WEIGHT + i].take;
        struct view v;
        if (!of[LEAF_Q_WEIGHT + i].have)
            return err_set(e, ST_CANNOT, "attention-part", "the attention lacks one of q, k, v, o");
        TRY(take_view(m->src, &k, k.src, &v, e));
        rows[i] = view_dim(&v, 0);
        cols[i] = view_dim(&v, 1);
    }
    *fused = rows[0] == rows[1] && rows[1] == rows[2] && cols[0] == cols[1] && cols[1] == cols[2];
    if (m->to->rules->square_qkv &&
        (rows[0] != cols[0] || rows[1] != rows[0] || rows[2] != rows[0] || rows[3] != rows[0] ||
         cols[3] != rows[0]))
        return err_set(e, ST_CANNOT, "attention-shape",
                       "%s has no attention whose projections are not as wide as its embedding",
                       m->to->name);
    return ST_OK;
}

static const enum leaf order[] = {
    LEAF_WEIGHT,     LEAF_BIAS,       LEAF_MEAN,      LEAF_VAR,      LEAF_COUNT,   LEAF_MEAN_HIDDEN,
    LEAF_VAR_HIDDEN, LEAF_MEAN_COUNT, LEAF_VAR_COUNT, LEAF_FIRST,    LEAF_UPDATES, LEAF_QKV_WEIGHT,
    LEAF_QKV_BIAS,   LEAF_Q_WEIGHT,   LEAF_Q_BIAS,    LEAF_K_WEIGHT, LEAF_K_BIAS,  LEAF_V_WEIGHT,
    LEAF_V_BIAS,     LEAF_O_WEIGHT,   LEAF_O_BIAS,
};

/* Updates after which no decay below 0.99999999 debiases an average any more; fits an int32. */
#define UPDATES_MANY (1u << 30)

void map_many(uint8_t out[16])
{
    out[3] = UPDATES_MANY >> 24;
}

static enum status counter(struct mapping *m, struct str name, const struct layer *l, enum leaf lf,
                           struct err *e)
{
    struct made *d;
    TRY(map_made(m, 0, &d, e));
    d->name = name;
    d->dtype = lf == LEAF_COUNT ? DT_I64 : DT_I32;
    d->role = ROLE_COUNTER;
    d->harmless = true;
    d->order = l->tensor[LEAF_VAR] >= 0 ? m->src->tensor[l->tensor[LEAF_VAR]].order : 0;
    d->why = STR("0: the source has no counter; it matters only to a cumulative average");
    if (lf == LEAF_FIRST) {
        d->dtype = DT_BOOL;
        d->why = STR("false: the statistics are there, and are gone on with");
    } else if (lf != LEAF_COUNT) {
        map_many(d->fill);
        d->why = STR("1073741824: the source's average is not debiased, and goes on as it is");
    }
    return ST_OK;
}

/* A debiased average is hidden / (1 - decay^count): hidden without its count tells nothing, so
 * that both come from the source or neither. */
static bool both_given(const struct offer *of, enum leaf lf)
{
    bool var = lf == LEAF_VAR_HIDDEN || lf == LEAF_VAR_COUNT;
    if (lf == LEAF_FIRST || lf == LEAF_UPDATES)
        return of[lf].have;
    return of[var ? LEAF_VAR_HIDDEN : LEAF_MEAN_HIDDEN].have &&
           of[var ? LEAF_VAR_COUNT : LEAF_MEAN_COUNT].have;
}

/* Without them, hidden is the average itself, counted so often that it is taken as it is. */
static enum status averaged(struct mapping *m, const struct layer *l, const struct offer *of,
                            const struct leaf_rule *rule, struct str name, struct err *e)
{
    enum leaf lf = rule->leaf;
    if (lf != LEAF_MEAN_HIDDEN && lf != LEAF_VAR_HIDDEN)
        return counter(m, name, l, lf, e);
    struct leaf_rule as = *rule;
    as.leaf = lf == LEAF_MEAN_HIDDEN ? LEAF_MEAN : LEAF_VAR;
    if (!of[as.leaf].have)
        return err_set(e, ST_CANNOT, "leaf-missing", "the source has no average for %.*s",
                       STR_ARG(name));
    TRY(emit(m, l, of, &as, name, e));
    m->made[m->n_made - 1].copy = true;
    return ST_OK;
}

/* Statistics that are not debiased are what a target without their count would read only after many
 * updates, or before the first: then they are taken as they are. The momentum that says more is in
 * no file. */
static enum status debiased(struct mapping *m, const struct layer *l, bool kept, struct err *e)
{
    int64_t t = l->tensor[LEAF_UPDATES];
    uint64_t n = 0;
    if (t < 0 || kept)
        return ST_OK;
    bool read = map_scalar(m->src, &m->src->tensor[t], &n);
    if (read && (n == 0 || n >= UPDATES_MANY))
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "not-debiased",
                             "the statistics after %llu updates are to be divided by 1 - momentum^"
                             "updates, and the momentum is not in the file",
                             (unsigned long long)n);
    err_in(e, l->path.p, l->path.n);
    return st;
}

/* Slopes that the target's PReLU cannot have are no other layer's either. */
static enum status prelu_fits(const struct mapping *m, const struct layer *l, uint8_t rank,
                              const struct layer *t, struct err *e)
{
    const struct spelling_rules *r = m->to->rules;
    uint8_t form = rules_variant(l);
    const struct leaf_rule *own = rules_find(r, LAYER_PRELU, rank, form, LEAF_WEIGHT),
                           *one = rules_find(r, LAYER_PRELU, rank, FORM_ONE, LEAF_WEIGHT);
    if (own && own->variant == form && (!t || rules_variant(t) == form))
        return ST_OK;
    const char *have = form == FORM_ONE   ? "one slope for all"
                       : form == FORM_MAP ? "a slope for each channel and position"
                                          : "a slope for each channel";
    enum status st =
        !own && !one
            ? err_set(e, ST_CANNOT, "prelu-unknown", "%s has no PReLU (%s)", m->to->name, have)
            : err_set(e, ST_CANNOT, "prelu-shape", "%s, which %s of %s cannot hold", have,
                      t ? "the skeleton's" : "a PReLU", m->to->name);
    err_in(e, l->path.p, l->path.n);
    return st;
}

/* Does one side have the layer's rows in another order, by heads? */
static bool turns_rows(const struct mapping *m, const struct layer *l)
{
    const struct leaf_rule *a = rules_find(m->from->rules, l->kind, l->rank, l->form, LEAF_WEIGHT);
    const struct leaf_rule *b = rules_find(m->to->rules, l->kind, l->rank, l->form, LEAF_WEIGHT);
    bool rows = l->form == FORM_ROTARY || l->form == FORM_HEADS_QKV;
    return rows && a && b && (a->variant == l->form) != (b->variant == l->form);
}

/* A kernel for each position: are the positions and the window the skeleton's? */
static enum status local_fits(const struct layer *l, const struct layer *t, uint64_t theirs,
                              struct err *e)
{
    bool rows = l->heads && theirs && l->heads != theirs,
         window = l->flat_c && t->flat_c && l->flat_c != t->flat_c;
    if (!rows && !window)
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "local-shape", "%llu %s, the skeleton's has %llu",
                             (unsigned long long)(rows ? l->heads : l->flat_c),
                             rows ? "rows of positions" : "channels in a window",
                             (unsigned long long)(rows ? theirs : t->flat_c));
    err_in(e, l->path.p, l->path.n);
    return st;
}

/* A layer on its way: what stands still while its leaves are spelled. */
struct spelled {
    struct layer l, out;   /* as the source has it; as the target does */
    const struct layer *t; /* the skeleton's, or NULL */
    struct skeleton *sk;
    struct offer *of;
    uint8_t variant, rank; /* of the target's rules */
    bool fused;            /* q, k and v in one tensor */
};

/* Layers that have no leaves to spell: left behind, kept as they are, or cells. */
static enum status whole_layer(struct mapping *m, struct layer *l, struct skeleton *sk,
                               const struct layer *t, bool *done, struct err *e)
{
    *done = true;
    if (!t && l->again && strcmp(m->to->name, "canonical") != 0)
        return leave(m, l, LEAF_VALUE, true, l->reason, e);
    if (!t && l->computed && m->to->rules->no_computed)
        return leave(m, l, LEAF_VALUE, true, STR("computed again by the model"), e);
    if (l->kind == LAYER_NONE || l->kind == LAYER_PARAM) {
        TRY(keep_tensors(m, l, sk, t, e));
        return note_kept(m, l, t, e);
    }
    if (l->kind == LAYER_CONV_LSTM && !t && !rules_cell(m->to->rules, l->kind, 0, 0))
        return keep_unlike(m, l, e);
    if (l->kind == LAYER_CONV_LOCAL && !t &&
        !rules_find(m->to->rules, l->kind, l->rank, 0, LEAF_WEIGHT))
        return keep_unlike(m, l, e);
    if (l->kind == LAYER_CONV_LOCAL && t)
        TRY(local_fits(l, t, map_rows(sk->m, m->to->rules, t), e));
    if (l->kind == LAYER_CONV_LOCAL && l->rank == 2 && !l->heads)
        l->heads = 1; /* joined on either side */
    TRY(map_notes(m, l, t, e));
    if (kind_is_cell(l->kind))
        return map_cell(m, l, sk, t, e);
    *done = false;
    return ST_OK;
}

/* What the source offers of it, in m->offer. */
static enum status offered(struct mapping *m, struct spelled *x, struct err *e)
{
    const struct layer *t = x->t;
    if (!m->offer)
        m->offer = ARENA_ARRAY(m->tmp, struct offer, LEAF_N);
    x->of = m->offer;
    if (!x->of)
        return err_nomem(e, sizeof *x->of * LEAF_N);
    memset(x->of, 0, sizeof *x->of * LEAF_N);
    if (t && t->heads)
        x->l.heads = t->heads;
    if (t && t->depth_c && x->l.kind == LAYER_CONV)
        x->l.depth_c = t->depth_c;
    x->out = x->l;
    const struct axes_size *size = NULL;
    TRY(map_dense(m, &x->l, x->sk, t, &x->out, &size, e));
    return offers_of(m, &x->l, x->of, size, e);
}

/* Its path and variant in the target. done: the target has no name for it, and it is left. */
static enum status target_of(struct mapping *m, struct spelled *x, bool *done, struct err *e)
{
    struct layer *l = &x->l;
    *done = false;
    x->rank = x->t ? x->t->rank : l->rank;
    if (x->t) {
        x->out.path = x->t->path;
        x->variant = rules_variant(x->t);
        return ST_OK;
    }
    TRY(map_path_of(m, l->path, &x->out.path, e));
    if (!x->out.path.p && l->path.n) {
        bool tied = l->tied && m->to->rules->no_tied;
        for (int i = 0; i < LEAF_N; i++)
            TRY(leave(m, l, (enum leaf)i, tied,
                      tied ? STR("the embedding's own weight, which the model uses")
                           : STR("the target has no name for it"),
                      e));
        *done = true;
        return ST_OK;
    }
    struct map_rule *k = map_rule_for(m, RULE_KIND, l->path);
    if (k)
        k->n_used--; /* heard when kinds were settled */
    x->variant = l->kind == LAYER_CONV_TRANSPOSE ? (k && k->kept_kernel ? VARIANT_KEPT : 0)
                                                 : rules_variant(l);
    return ST_OK;
}

static enum status ask_heads(struct mapping *m, const struct layer *l, const char *comment,
                             struct err *e)
{
    struct str q = map_line(m, "heads ", l->path, " = ?");
    map_ask(m, comment, q);
    return q.p ? ST_OK : err_nomem(e, 64);
}

static enum status ask_rank(struct mapping *m, const struct layer *l, struct err *e)
{
    struct str q = map_line(m, "rank ", l->path, " = ?");
    struct str text = arena_fmt(m->tmp,
                                "%s: how many axes has its input, batch and channels "
                                "with them?",
                                l->kind == LAYER_PRELU ? "PReLU" : "batch norm");
    if (!q.p || !text.p)
        return err_nomem(e, 64);
    map_ask(m, text.p, q);
    return ST_OK;
}

/* What the target cannot have is refused; what it must know and nothing tells is asked. */
static enum status fits_target(struct mapping *m, struct spelled *x, bool *asked, struct err *e)
{
    const struct spelling_rules *r = m->to->rules;
    const struct layer *l = &x->l;
    *asked = true;
    if (less_one(l, LEAF_WEIGHT) && m->from->rules->whole && strcmp(m->to->name, "canonical") == 0)
        return err_set(e, ST_CANNOT, "norm-whole",
                       "%s stores the norms of this family with 1 added, which does not come back "
                       "bit for bit: --as-is keeps them, --to hf takes it off",
                       m->from->name);
    if (l->kind == LAYER_BATCHNORM)
        TRY(debiased(m, l, rules_find(r, l->kind, 0, x->variant, LEAF_UPDATES) != NULL, e));
    if (x->rank == 0 && map_needs_rank(r, l))
        return ask_rank(m, l, e);
    if (l->kind == LAYER_PRELU)
        TRY(prelu_fits(m, l, x->rank, x->t, e));
    if (l->kind == LAYER_CONV_TRANSPOSE && l->groups > 1 && !r->groups_up) {
        enum status st = err_set(e, ST_CANNOT, "grouped-transpose",
                                 "%s has no transposed convolution of %llu groups", m->to->name,
                                 (unsigned long long)l->groups);
        err_in(e, l->path.p, l->path.n);
        return st;
    }
    if (!l->heads && l->kind == LAYER_LINEAR && turns_rows(m, l))
        return ask_heads(m, l, "rows lie head by head: how many heads? The weights do not tell.",
                         e);
    if (l->kind == LAYER_ATTENTION) {
        if (!l->heads && parts_heads(m))
            return ask_heads(m, l, "attention: how many heads? The weights do not tell.", e);
        TRY(attention_fits(m, x->of, &x->fused, e));
        x->fused = x->fused && r->fuses_qkv;
    }
    *asked = false;
    return ST_OK;
}

/* One leaf, where the target has it. */
static enum status spell_leaf(struct mapping *m, struct spelled *x, enum leaf lf, struct err *e)
{
    const struct spelling_rules *r = m->to->rules;
    const struct layer *l = &x->l, *t = x->t;
    const struct offer *of = x->of;
    const struct leaf_rule *rule = rules_find(r, l->kind, x->rank, x->variant, lf);
    enum leaf part[3];
    if (t ? t->tensor[lf] < 0 : !rule || (lf == LEAF_FIRST && x->variant))
        return ST_OK;
    if (!rule)
        return err_set(e, ST_CANNOT, "no-rule", "no spelling of %s.%s in %s",
                       layer_kind_name(l->kind), leaf_name(lf), m->to->name);
    if (!t && lf == LEAF_WEIGHT && l->tied && r->no_tied)
        return leave(m, l, lf, true, STR("the embedding's own weight, which the model uses"), e);
    size_t n = leaf_fuses(lf, part);
    bool weights =
        lf == LEAF_QKV_WEIGHT || lf == LEAF_Q_WEIGHT || lf == LEAF_K_WEIGHT || lf == LEAF_V_WEIGHT;
    if (!t && weights && r->fuses_qkv && x->fused != (lf == LEAF_QKV_WEIGHT))
        return ST_OK;
    size_t have = 0;
    for (size_t j = 0; j < (n ? n : 1); j++)
        have += of[part[j]].have;
    struct str name = STR_NONE;
    if (t)
        name = x->sk->m->tensor[t->tensor[lf]].name;
    else
        TRY(name_in(m, rule->collection, x->out.path, rule->name, &name, e));
    if (t)
        x->sk->filled[t->tensor[lf]] = true;
    if (lf != LEAF_COUNT && leaf_is_count(lf) && (t || r->averages) && !both_given(of, lf) &&
        (t || of[LEAF_MEAN].have))
        return averaged(m, l, of, rule, name, e);
    if (have > 0)
        return emit(m, &x->out, of, rule, name, e);
    if (lf == LEAF_COUNT && (t || (r->counts && of[LEAF_MEAN].have)))
        return counter(m, name, l, lf, e);
    if (t)
        return err_set(e, ST_CANNOT, "leaf-missing", "the source has nothing for %.*s",
                       STR_ARG(name));
    return ST_OK;
}

enum status map_layer(struct mapping *m, const struct layer *l, struct skeleton *sk,
                      const struct layer *t, struct err *e)
{
    struct spelled x = {.l = *l, .t = t, .sk = sk};
    bool done;
    TRY(whole_layer(m, &x.l, sk, t, &done, e));
    if (done)
        return ST_OK;
    TRY(offered(m, &x, e));
    TRY(target_of(m, &x, &done, e));
    if (done)
        return ST_OK;
    map_tell(m, x.out.path, &x.l);
    TRY(fits_target(m, &x, &done, e));
    for (size_t i = 0; !done && i < sizeof order / sizeof *order; i++)
        TRY(spell_leaf(m, &x, order[i], e));
    return ST_OK;
}

/* ---- layers whose kind is open ---- */

/* What a layer's leaf becomes under one kind: "name|layouts"; empty where the kind has none. */
static enum status outcome(struct mapping *m, const struct layer *l, enum layer_kind kind,
                           struct str *out, bool *same_axes, struct err *e)
{
    struct layer y = *l;
    y.kind = kind;
    *out = STR("");
    *same_axes = true;
    if (kind_is_cell(kind)) { /* cells of two kinds never compute the same */
        *out = str_from(layer_kind_name(kind));
        *same_axes = false;
        return ST_OK;
    }
    for (int i = 0; i < LEAF_N; i++) {
        if (l->tensor[i] < 0)
            continue;
        struct str parent, leaf;
        name_tail(m->src->tensor[l->tensor[i]].name, &parent, &leaf);
        const char *collection = m->to->rules->param;
        if (kind != LAYER_PARAM) {
            const struct leaf_rule *a =
                rules_find(m->from->rules, kind, l->rank, rules_variant(&y), (enum leaf)i);
            const struct leaf_rule *b =
                rules_find(m->to->rules, kind, l->rank, kind == LAYER_PRELU ? rules_variant(&y) : 0,
                           (enum leaf)i);
            if (!a || !b) { /* a table without that kind: nothing comes out */
                *out = str_from(layer_kind_name(kind));
                *same_axes = false;
                return ST_OK;
            }
            leaf = str_from(b->name);
            collection = b->collection;
            *same_axes = *same_axes && strcmp(a->axes, b->axes) == 0 &&
                         (kind != LAYER_CONV_LOCAL ||
                          strcmp(m->from->rules->patch, m->to->rules->patch) == 0);
        }
        *out = arena_fmt(m->a, "%.*s|%s.%.*s", STR_ARG(*out), collection, STR_ARG(leaf));
        if (!out->p)
            return err_nomem(e, 64);
    }
    return ST_OK;
}

enum status map_open(struct mapping *m, struct err *e)
{
    bool archive = !m->o->to && !m->o->like;
    for (size_t i = 0; i < m->sl.n; i++) {
        struct layer *l = &m->sl.layer[i];
        if (l->kind != LAYER_NONE || l->kinds == 0)
            continue;
        if (l->kinds == (KIND_BIT(LAYER_CONV_LOCAL) | KIND_BIT(LAYER_PARAM)) &&
            (!m->to->rules->patch || (l->rank == 1 && !l->by_name))) {
            l->kinds = 0; /* kept as it came: there is no such layer, or most are another */
            continue;
        }
        bool same = true, seen = false;
        struct str first = STR_NONE;
        enum layer_kind kind = LAYER_NONE;
        struct buf b = BUF_INIT;
        buf_fmt(&b, "%.*s:", STR_ARG(l->reason));
        for (unsigned k = LAYER_LINEAR; k < LAYER_KINDS; k++) {
            if (!(l->kinds & KIND_BIT(k)))
                continue;
            struct str what;
            bool axes;
            enum status st = outcome(m, l, (enum layer_kind)k, &what, &axes, e);
            if (st != ST_OK) {
                buf_free(&b);
                return st;
            }
            buf_fmt(&b, "%s %s", seen ? " |" : "", layer_kind_name((enum layer_kind)k));
            same = same && axes && (!seen || str_eq(what, first));
            if (!seen) {
                first = what;
                kind = (enum layer_kind)k;
            }
            seen = true;
        }
        enum status st = buf_ok(&b, e);
        struct str comment = arena_str(m->a, b.p ? (const char *)b.p : "", b.n);
        buf_free(&b);
        TRY(st);
        if (same) { /* whichever it is, the same comes out */
            l->kind = kind;
        } else if (archive) { /* stored as it came */
            l->kinds = 0;
        } else {
            struct str line = map_line(m, "kind ", l->path, " = ?");
            if (!comment.p || !line.p)
                return err_nomem(e, 64);
            map_ask(m, comment.p, line);
        }
    }
    return ST_OK;
}
