/* Mapping: chooses the frameworks, walks the layers, and turns the list of made tensors into a
 * plan. Which way a tensor goes is decided in the tables; this file only keeps the books.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "convert/block.h"
#include "convert/fold.h"
#include "convert/map_seen.h"
#include "framework/onnx_graph.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

bool glob_any(const char *const *globs, struct str name)
{
    for (; globs && *globs; globs++)
        if (str_glob(str_from(*globs), name))
            return true;
    return false;
}

/* ---- lists ---- */

void *map_grown(struct arena *a, void *p, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return p;
    size_t more = *cap ? *cap * 2 : 64;
    char *q = arena_alloc(a, more, size);
    if (!q)
        return NULL;
    if (n)
        memcpy(q, p, n * size);
    *cap = more;
    return q;
}

enum status map_made(struct mapping *m, size_t n_takes, struct made **out, struct err *e)
{
    *out = NULL;
    struct made *p = m->made;
    if (m->n_made == m->cap_made) {
        size_t cap = m->cap_made < 1024 ? m->cap_made * 2 + 64 : m->cap_made + m->cap_made / 4;
        size_t bytes;
        p = mul_size(cap, sizeof *p, &bytes) ? mem_resize(p, bytes) : NULL;
        if (p) {
            m->made = p;
            m->cap_made = cap;
        }
    }
    struct take *k = n_takes ? ARENA_ARRAY(m->tmp, struct take, n_takes) : NULL;
    if (!p || (n_takes && !k))
        return err_nomem(e, sizeof *p);
    p[m->n_made] = (struct made){.take = k, .n_takes = n_takes, .of = -1};
    for (size_t i = 0; i < n_takes; i++)
        k[i].src_axes = k[i].can_axes = k[i].dst_axes = "";
    *out = &p[m->n_made++];
    return ST_OK;
}

const char *map_axes(struct mapping *m, const char *text)
{
    for (size_t i = 0; i < AXES_KEPT && i < m->n_axes; i++)
        if (strcmp(m->axes[i], text) == 0)
            return m->axes[i];
    const char *kept = arena_str(m->tmp, text, strlen(text)).p;
    if (kept)
        m->axes[m->n_axes++ % AXES_KEPT] = kept;
    return kept;
}

enum status map_reason(struct mapping *m, uint32_t dst, struct str text, struct err *e)
{
    struct plan *p = m->p;
    struct reason *r = map_grown(m->a, p->reason, p->n_reasons, &m->cap_reasons, sizeof *r);
    if (!r)
        return err_nomem(e, sizeof *r);
    p->reason = r;
    r[p->n_reasons++] = (struct reason){dst, text};
    return ST_OK;
}

enum status map_note(struct mapping *m, const struct plan_note *note, struct err *e)
{
    struct plan *p = m->p;
    struct plan_note *n = map_grown(m->a, p->note, p->n_notes, &m->cap_notes, sizeof *n);
    if (!n)
        return err_nomem(e, sizeof *n);
    p->note = n;
    n[p->n_notes++] = *note;
    return ST_OK;
}

/* ---- what takes part ---- */

static bool is_weight(const struct tensor *t)
{
    struct str parent, leaf;
    switch (t->role) {
    case ROLE_PARAMETER:
    case ROLE_BUFFER:
    case ROLE_STATISTIC:
    case ROLE_EMA:
        return true;
    case ROLE_COUNTER:
        name_tail(t->name, &parent, &leaf);
        return str_is(leaf, "num_batches_tracked") ||
               (str_is(leaf, "counter") && str_ends(parent, STR("_ema"))); /* Haiku's averages */
    default:
        return false;
    }
}

bool map_renamed(const struct mapping *m)
{
    return m->o->upgrade && m->o->upgrade->n;
}

bool map_upgrade_lost(const struct mapping *m)
{
    const struct upgrade *u = m->o->upgrade;
    for (size_t i = 0; u && i < u->n; i++)
        if (!u->item[i].to.p)
            return true;
    return false;
}

struct str map_old_name(const struct mapping *m, size_t i)
{
    const struct upgrade *u = m->o->upgrade;
    size_t lo = 0, hi = u ? u->n : 0; /* in the order of the tensors */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (u->item[mid].tensor < i)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool renamed = u && lo < u->n && u->item[lo].tensor == i;
    return renamed ? u->item[lo].from : m->src->tensor[i].name;
}

/* Equinox saves Python's numbers among its leaves: of leaves that were named those without a name,
 * and a dropout's rate and switch. */
static bool own_number(const struct mapping *m, const struct tensor *t)
{
    uint64_t number;
    struct str parent, leaf;
    if (t->n_dims != 0 || !str_is(m->src->framework, "equinox"))
        return false;
    name_tail(t->name, &parent, &leaf);
    return (m->leaves_named && str_u64(t->name, &number)) ||
           (t->dtype == DT_BOOL && str_is(leaf, "inference")) ||
           (t->dtype == DT_F64 && str_is(leaf, "p"));
}

enum status map_drop(struct mapping *m, size_t i, const char *why, struct err *e)
{
    const struct tensor *t = &m->src->tensor[i];
    m->in[i] = false;
    m->dropped[i] = true;
    return map_ledger(m, LEDGER_DROP, t->name, tensor_elems(t), true, str_from(why), e);
}

/* Layers may have other names than their tensors (Keras's users name layers, files number them):
 * a rule that drops one may use either. */
static enum status drop_layers(struct mapping *m, struct err *e)
{
    for (size_t i = 0; m->rules.n && i < m->sl.n; i++) {
        const struct layer *l = &m->sl.layer[i];
        if (!map_rule_for(m, RULE_DROP, l->path))
            continue;
        for (int k = 0; k < LEAF_N; k++)
            if (l->tensor[k] >= 0 && m->in[l->tensor[k]])
                TRY(map_drop(m, (size_t)l->tensor[k], "dropped by a rule of the map", e));
    }
    return ST_OK;
}

static enum status choose(struct mapping *m, struct err *e)
{
    size_t n = m->src->n_tensors;
    m->in = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->used = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->dropped = ARENA_ARRAY(m->tmp, bool, n + 1);
    if (!m->in || !m->used || !m->dropped)
        return err_nomem(e, 3 * n);
    const struct upgraded *up = m->o->upgrade ? m->o->upgrade->item : NULL;
    size_t n_up = up ? m->o->upgrade->n : 0;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &m->src->tensor[i];
        const char *why = NULL;
        if (n_up && up->tensor == i) { /* in the order of the tensors */
            struct str line = arena_fmt(m->a, "was %.*s (%s)", STR_ARG(up->from), up->why);
            if (!line.p)
                return err_nomem(e, up->from.n);
            if (up->to.p)
                TRY(map_ledger(m, up->value ? LEDGER_VALUE : LEDGER_RENAME, up->to,
                               up->value ? tensor_elems(t) : 0, true, line, e));
            else
                why = up->why;
            up++;
            n_up--;
        }
        bool train = t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2 || t->role == ROLE_RNG ||
                     t->role == ROLE_OTHER || (t->role == ROLE_COUNTER && !is_weight(t));
        if (why)
            m->in[i] = false;
        else if (own_number(m, t))
            why = "a number of the model's own, no part of a layer";
        else if (m->o->select && !glob_any(m->o->select, map_old_name(m, i)))
            why = "not selected";
        else if (m->o->weights_only && !is_weight(t))
            why = "weights only";
        else if (m->o->drop_train_state && train)
            why = "train state, dropped as asked";
        else if (map_rule_for(m, RULE_DROP, t->name))
            why = "dropped by a rule of the map";
        m->in[i] = true;
        if (why)
            TRY(map_drop(m, i, why, e));
    }
    return map_scales(m, e);
}

void map_thin(struct mapping *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->sl.n; i++) {
        struct layer *l = &m->sl.layer[i];
        size_t left = 0;
        for (int k = 0; k < LEAF_N; k++) {
            if (l->tensor[k] >= 0 && !m->in[l->tensor[k]])
                l->tensor[k] = -1;
            left += l->tensor[k] >= 0;
        }
        if (left)
            m->sl.layer[n++] = *l;
    }
    m->sl.n = n;
    n = 0;
    for (size_t i = 0; i < m->sl.n_maybe; i++) {
        bool whole = true;
        for (int k = 0; k < LEAF_N; k++)
            whole = whole && (m->sl.maybe[i].tensor[k] < 0 || m->in[m->sl.maybe[i].tensor[k]]);
        if (whole)
            m->sl.maybe[n++] = m->sl.maybe[i];
    }
    m->sl.n_maybe = n;
}

/* ---- the ways ---- */

/* Every tensor under its own name and axes. */
static enum status keep_all(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        if (!m->in[i])
            continue;
        struct made *d;
        TRY(map_made(m, 1, &d, e));
        d->take->src = (uint32_t)i;
        d->name = m->src->tensor[i].name;
        d->order = m->src->tensor[i].order;
        d->has_order = true;
    }
    int64_t *at = ARENA_ARRAY(m->tmp, int64_t, m->src->n_tensors + 1);
    if (!at)
        return err_nomem(e, m->src->n_tensors * sizeof *at);
    for (size_t i = 0; i < m->src->n_tensors; i++)
        at[i] = -1;
    for (size_t i = 0; i < m->n_made; i++)
        at[m->made[i].take->src] = (int64_t)i;
    for (size_t i = 0; i < m->n_made; i++) { /* moments point at their parameter */
        int64_t of = m->src->tensor[m->made[i].take->src].of;
        m->made[i].of = of >= 0 ? at[of] : -1;
    }
    return ST_OK;
}

static const struct framework *named(const char *name, struct err *e)
{
    const struct framework *f = framework_find(str_from(name));
    if (!f)
        (void)err_set(e, ST_USAGE, "unknown-framework", "no framework is called %s", name);
    return f;
}

static enum status recognise(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    m->from = o->from ? named(o->from, e) : framework_of(m->src);
    if (!m->from && o->from)
        return ST_USAGE;
    return ST_OK;
}

static bool one_of(const char *name, const char *a, const char *b)
{
    return strcmp(name, a) == 0 || strcmp(name, b) == 0;
}

/* What only its own framework computes with: parts of a weight that a norm makes up, cells in the
 * order of CuDNN. */
static enum status foreign_parts(const struct mapping *m, struct err *e)
{
    const char *to = m->to->name, *from = m->from->name;
    int64_t t = fold_found(m->src), c = fold_cudnn_found(m->src);
    enum status st = ST_OK;
    if (m->from == m->to || strcmp(to, "canonical") == 0)
        return ST_OK;
    if (t >= 0 && m->in[t] && !(one_of(to, "pytorch", "hf") && one_of(from, "pytorch", "hf")))
        st = err_set(e, ST_CANNOT, "norm-unfolded",
                     "part of a weight that a norm makes up, of which %s's layers know nothing: "
                     "--fold-norms computes the weight",
                     to);
    else if (c >= 0 && m->in[c] && !one_of(to, "keras", "tensorflow"))
        st = err_set(e, ST_CANNOT, "cudnn-cell",
                     "a cell in the order of CuDNN: --upgrade makes it one of Keras's own");
    if (st != ST_OK) {
        struct str name = m->src->tensor[strcmp(e->code, "cudnn-cell") == 0 ? c : t].name;
        err_in(e, name.p, name.n);
    }
    return st;
}

/* Does a line of the rules file say what becomes of the tensor? */
static bool by_pair(void *m, struct str tensor)
{
    return map_rule_for(m, RULE_PAIR, tensor) != NULL;
}

static enum status across(struct mapping *m, struct err *e)
{
    struct seen *graph;
    const struct model *src = m->src;
    TRY(foreign_parts(m, e));
    TRY(map_graph_see(m, &graph, e));
    TRY(m->from->layers(m->src, m->tmp, &m->sl, e));
    if (m->leaves || m->o->facts_only) /* an order is all that leaves without names have */
        TRY(layers_by_place(&m->sl, m->tmp, e));
    TRY(drop_layers(m, e));
    map_thin(m);
    TRY(map_settle(m, e));
    m->respelled = true;
    TRY(map_told_read(m, e));
    TRY(onnx_graph_told(m->src, m->from->rules, by_pair, m, m->tmp, &m->sl, e));
    if (graph)
        TRY(map_graph_said(m, graph, e));
    TRY(map_notes_functions(m, e));
    TRY(map_train_begin(m, e));
    if (m->o->like) {
        TRY(map_like(m, e));
    } else {
        TRY(map_pairs(m, NULL, e));
        TRY(map_maybe_alone(m, e));
        TRY(map_open(m, e));
        TRY(map_flatten(m, e));
        TRY(map_rank(m, e));
        for (size_t i = 0; i < m->sl.n; i++) /* every question at once */
            TRY(map_layer(m, &m->sl.layer[i], NULL, NULL, e));
    }
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    if (graph)
        TRY(map_graph_undo(m, graph, e));
    m->src = src;
    return map_train(m, e);
}

/* Into a skeleton without names: the source in the target's axes, where its framework is known,
 * then leaf by leaf. */
static enum status to_leaves(struct mapping *m, struct err *e)
{
    struct map_opt *own = ARENA_ARRAY(m->tmp, struct map_opt, 1);
    const struct model *like = m->o->like;
    const char *to = m->o->to ? m->o->to : "equinox";
    if (!own)
        return err_nomem(e, sizeof *own);
    *own = *m->o;
    own->like = NULL;
    m->o = own;
    m->leaves = like;
    TRY(recognise(m, e));
    m->to = own->to ? named(to, e) : framework_find(str_from(to));
    if (own->to && !m->to)
        return ST_USAGE;
    if (m->from && m->to && m->from != m->to)
        TRY(across(m, e));
    else
        TRY(keep_all(m, e));
    TRY(map_put(m, e));
    TRY(map_not_twice(m, e));
    TRY(map_leaves(m, like, e));
    TRY(map_tree(m, e));
    return map_rules_used(m, e);
}

static enum status plan_it(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    bool archive = m->target && strcmp(m->target->name, "archive") == 0;
    TRY(map_rules_parse(m, e));
    TRY(map_names(m, e));
    TRY(choose(m, e));
    if (o->like && map_is_leaves(o->like)) {
        enum status st = to_leaves(m, e);
        m->o = o;
        return st;
    }
    bool whole = true;
    for (size_t i = 0; i < m->src->n_tensors; i++)
        whole = whole && m->in[i];
    bool keep = !o->like && (o->as_is || (!o->to && !archive));
    if (o->to && strcmp(o->to, "source") == 0) {
        if (o->like)
            return err_set(e, ST_USAGE, "source-like", "--to source needs no skeleton");
        if (m->src->spelling.n) {
            TRY(spelling_restore(m, e));
            m->respelled = true;
            TRY(map_put(m, e));
            m->p->dst.framework = m->framework;
            TRY(map_not_twice(m, e));
            TRY(map_tree(m, e));
            return map_rules_used(m, e);
        }
        keep = true;
    }
    if (!keep)
        TRY(recognise(m, e));
    if (!keep && !m->from && !o->to && !o->like)
        keep = true; /* an archive of an unknown framework: stored as it came */
    else if (!keep && !m->from && map_is_leaves(m->src))
        return err_set(e, ST_CANNOT, "leaves-unnamed",
                       "the leaves of an Equinox file have no names: lines 'leaf N = NAME' of a "
                       "rules file give them, or a skeleton with --like");
    else if (!keep && !m->from)
        return err_set(e, ST_CANNOT, "framework-unknown",
                       "cannot tell the framework of the source; --from names it");
    if (!keep) {
        m->to = o->to ? named(o->to, e) : o->like ? framework_of(o->like) : named("canonical", e);
        if (!m->to)
            return o->to ? ST_USAGE
                         : err_set(e, ST_CANNOT, "framework-unknown",
                                   "cannot tell the framework of the skeleton; --to names it");
        bool cells = false; /* an ONNX graph's, which no framework spells so */
        if (m->to == m->from)
            TRY(map_graph_any(m, &cells, e));
        if (m->to == m->from && !o->like && m->rules.n == 0 && !cells)
            keep = true;
    }
    if (keep) {
        TRY(keep_all(m, e));
        m->keep_tree = whole && !map_renamed(m);
    } else {
        TRY(across(m, e));
    }
    TRY(map_put(m, e));
    TRY(map_not_twice(m, e));
    if (!keep && strcmp(m->to->name, "canonical") == 0)
        TRY(spelling_write(m, e));
    else if (keep)
        m->p->dst.spelling = m->src->spelling;
    TRY(map_train_tree(m, e));
    TRY(map_tree(m, e));
    return map_rules_used(m, e);
}

#define HEAD "# nnferry-map 1\n"
#define HEAD_ASK                                                                                   \
    HEAD "# Complete the lines with a question mark and pass this file with --map.\n"              \
         "# In lines without -> a * stands for any text: one line may answer several.\n"
#define HEAD_ALLOW                                                                                 \
    HEAD "# Take the number sign off what may happen and pass this file with --map.\n"             \
         "# (--train-state drop leaves optimizer state behind, --weights-only more.)\n"

enum status map_plan(struct plan *p, const struct map_opt *o, const struct format *target,
                     uint64_t max_output, struct buf *rules_out, struct err *e)
{
    struct buf help = BUF_INIT;
    struct arena tmp = ARENA_INIT;
    struct mapping m = {.p = p,
                        .o = o,
                        .target = target,
                        .src = p->src,
                        .a = &p->dst.arena,
                        .tmp = &tmp,
                        .help = &help};
    enum status st = plan_it(&m, e);
    if (st == ST_OK)
        st = map_aside(&m, e);
    if (st == ST_OK && m.n_lost)
        st = err_set(e, ST_CANNOT, "ledger", "%zu entr%s not allowed by name, the first: %.*s",
                     m.n_lost, m.n_lost == 1 ? "y" : "ies", STR_ARG(m.lost_1));
    if (st == ST_OK)
        st = buf_ok(&help, e);
    if (st == ST_CANNOT && rules_out && help.n) {
        buf_z(rules_out, m.n_open ? HEAD_ASK : HEAD_ALLOW);
        buf_bytes(rules_out, help.p, help.n);
    }
    buf_free(&help);
    buf_free(&m.told);
    mem_free(m.made);
    arena_free(&tmp);
    return st == ST_OK ? plan_prove(p, max_output, e) : st;
}

/* ---- canonical ---- */

static enum status canonical(struct mapping *m, struct err *e)
{
    TRY(map_rules_parse(m, e));
    TRY(map_names(m, e));
    TRY(choose(m, e));
    TRY(recognise(m, e));
    if (!m->from)
        return err_set(e, ST_CANNOT, "framework-unknown",
                       "cannot tell the framework of the source; --from names it");
    m->to = framework_find(STR("canonical"));
    TRY(m->from->layers(m->src, m->tmp, &m->sl, e));
    TRY(map_settle(m, e));
    TRY(map_open(m, e));
    TRY(map_flatten(m, e));
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    for (size_t i = 0; i < m->sl.n; i++) {
        struct layer *l = &m->sl.layer[i];
        if (l->kind == LAYER_NONE) {
            enum status st = err_set(e, ST_CANNOT, "layer-unmapped", "no canonical spelling (%.*s)",
                                     STR_ARG(l->reason));
            err_in(e, l->path.p, l->path.n);
            return st;
        }
        for (int k = 0; k < LEAF_N; k++)
            if (leaf_is_count((enum leaf)k))
                l->tensor[k] = -1;
        TRY(map_layer(m, l, NULL, NULL, e));
    }
    TRY(map_put(m, e));
    return map_not_twice(m, e);
}

enum status map_canonical_ruled(struct plan *p, const char *from, struct str rules,
                                const char *rules_path, uint32_t *rules_version, struct err *e)
{
    struct buf help = BUF_INIT;
    struct map_opt o = {.from = from, .to = "canonical", .rules = rules, .rules_path = rules_path};
    struct arena tmp = ARENA_INIT;
    struct mapping m = {
        .p = p, .o = &o, .src = p->src, .a = &p->dst.arena, .tmp = &tmp, .help = &help};
    enum status st = canonical(&m, e);
    buf_free(&help);
    buf_free(&m.told);
    mem_free(m.made);
    arena_free(&tmp);
    *rules_version = RULES_VERSION;
    return st == ST_OK ? plan_prove(p, UINT64_MAX, e) : st;
}

enum status map_canonical(struct plan *p, const char *from, uint32_t *rules_version, struct err *e)
{
    return map_canonical_ruled(p, from, STR_NONE, NULL, rules_version, e);
}
