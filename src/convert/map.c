/* Mapping: chooses the frameworks, walks the layers, and turns the list of made tensors into a
 * plan. Which way a tensor goes is decided in the tables; this file only keeps the books.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "convert/block.h"
#include "convert/map_int.h"
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

static void *grown(struct arena *a, void *p, size_t n, size_t *cap, size_t size)
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
    struct reason *r = grown(m->a, p->reason, p->n_reasons, &m->cap_reasons, sizeof *r);
    if (!r)
        return err_nomem(e, sizeof *r);
    p->reason = r;
    r[p->n_reasons++] = (struct reason){dst, text};
    return ST_OK;
}

/* Names are foreign: nothing in them may end a comment or a quotation, or steer a terminal. */
static void plain_text(struct buf *b, const char *before, struct str s)
{
    buf_z(b, before);
    for (size_t i = 0, n; i < s.n; i += n) {
        bool unsafe;
        n = err_char(s.p + i, s.n - i, &unsafe);
        for (size_t k = 0; k < n; k++)
            buf_u8(b, unsafe ? '?' : (uint8_t)s.p[i + k]);
    }
}

struct str map_line(struct mapping *m, const char *before, struct str name, const char *after)
{
    struct str out = arena_fmt(m->a, "%s\"%.*s\"%s", before, STR_ARG(name), after);
    char *w = (char *)(uintptr_t)out.p;
    size_t lo = strlen(before) + 1;
    for (size_t i = 0, n; w && i < name.n; i += n) {
        bool unsafe;
        n = err_char(name.p + i, name.n - i, &unsafe);
        if (unsafe || name.p[i] == '"' || name.p[i] == '*' || name.p[i] == '[')
            memset(w + lo + i, '?', n); /* each stands for any one byte */
    }
    return out;
}

enum status map_ledger(struct mapping *m, enum ledger_kind kind, struct str name, uint64_t n_elems,
                       bool harmless, struct str why, struct err *e)
{
    struct plan *p = m->p;
    struct ledger_line *l = grown(m->a, p->line, p->n_lines, &m->cap_lines, sizeof *l);
    if (!l)
        return err_nomem(e, sizeof *l);
    p->line = l;
    l[p->n_lines++] = (struct ledger_line){kind, harmless, name, n_elems, why};
    const char *const *allow = kind == LEDGER_DROP ? m->o->allow_drop : m->o->allow_synth;
    struct map_rule *r = map_rule_for(m, kind == LEDGER_DROP ? RULE_DROP : RULE_SYNTH, name);
    if (!harmless && !r && !glob_any(allow, name)) {
        if (m->n_lost++ == 0) {
            m->lost_1 =
                arena_fmt(m->a, "%.*s: %s (%.*s)", STR_ARG(name),
                          kind == LEDGER_DROP ? "would be lost" : "would be made up", STR_ARG(why));
            if (!m->lost_1.p)
                return err_nomem(e, name.n);
        }
        struct str line = map_line(m, kind == LEDGER_DROP ? "drop " : "synth ", name,
                                   kind == LEDGER_DROP ? "" : " = 0");
        plain_text(m->help, "# ", name);
        plain_text(m->help, ": ", why);
        buf_fmt(m->help, "\n#%.*s\n", STR_ARG(line));
    }
    return ST_OK;
}

void map_ask(struct mapping *m, const char *comment, struct str line)
{
    if (m->n_open++ == 0)
        m->open_1 = line;
    plain_text(m->help, "# ", str_from(comment));
    buf_fmt(m->help, "\n%.*s\n", STR_ARG(line));
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
        return str_is(leaf, "num_batches_tracked");
    default:
        return false;
    }
}

static enum status choose(struct mapping *m, struct err *e)
{
    size_t n = m->src->n_tensors;
    m->in = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->used = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->dropped = ARENA_ARRAY(m->tmp, bool, n + 1);
    if (!m->in || !m->used || !m->dropped)
        return err_nomem(e, 3 * n);
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &m->src->tensor[i];
        const char *why = NULL;
        bool train = t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2 || t->role == ROLE_RNG ||
                     t->role == ROLE_OTHER || (t->role == ROLE_COUNTER && !is_weight(t));
        if (m->o->select && !glob_any(m->o->select, t->name))
            why = "not selected";
        else if (m->o->weights_only && !is_weight(t))
            why = "weights only";
        else if (m->o->drop_train_state && train)
            why = "train state, dropped as asked";
        else if (map_rule_for(m, RULE_DROP, t->name))
            why = "dropped by a rule of the map";
        m->in[i] = !why;
        if (why) {
            m->dropped[i] = true;
            TRY(map_ledger(m, LEDGER_DROP, t->name, tensor_elems(t), true, str_from(why), e));
        }
    }
    return ST_OK;
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

static enum status across(struct mapping *m, struct err *e)
{
    TRY(m->from->layers(m->src, m->tmp, &m->sl, e));
    map_thin(m);
    TRY(map_settle(m, e));
    TRY(map_train_begin(m, e));
    if (m->o->like) {
        TRY(map_like(m, e));
    } else {
        TRY(map_pairs(m, NULL, e));
        TRY(map_open(m, e));
        TRY(map_flatten(m, e));
        map_rank(m);
        for (size_t i = 0; i < m->sl.n; i++) /* every question at once */
            TRY(map_layer(m, &m->sl.layer[i], NULL, NULL, e));
    }
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    return map_train(m, e);
}

/* ---- from made tensors to a plan ---- */

/* Does --dtype without a pattern speak of this tensor? Weights that are floats of some kind; to
 * blocks only such whose rows fill them, matrices and larger, and no blocks that lost already. */
static bool by_default(const struct tensor *t, enum dtype have, enum dtype to)
{
    const struct dtype_info *d = dtype_info(to);
    enum dtype_kind kind = dtype_info(have)->kind;
    if (t->role != ROLE_PARAMETER && t->role != ROLE_BUFFER && t->role != ROLE_STATISTIC &&
        t->role != ROLE_EMA)
        return false;
    if (d->kind == DK_BLOCK)
        return kind == DK_FLOAT && t->n_dims > 1 && t->dim[t->n_dims - 1] % d->block_elems == 0;
    return (kind == DK_FLOAT || kind == DK_BLOCK) && d->kind == DK_FLOAT;
}

/* t is the target's so far: name, role, shape. */
static enum status dtype_of(struct mapping *m, const struct tensor *t, enum dtype have,
                            enum dtype *out, struct err *e)
{
    *out = have;
    for (const char *const *p = m->o->dtype; p && *p; p++) {
        struct str s = str_from(*p), glob = STR_NONE, type = s;
        size_t eq = s.n;
        while (eq > 0 && s.p[eq - 1] != '=')
            eq--;
        if (eq > 0) {
            glob = str_sub(s, 0, eq - 1);
            type = str_sub(s, eq, s.n);
        }
        enum dtype to = dtype_parse(type);
        if (to == DT_NONE)
            return err_set(e, ST_USAGE, "unknown-dtype", "no element type is called %.*s",
                           STR_ARG(type));
        if (glob.p ? str_glob(glob, t->name) : by_default(t, have, to))
            *out = to;
    }
    if (*out == have || !dtype_is_block(*out) || block_packs(*out))
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "no-packing",
                             "%s blocks are carried and unpacked, not made: q8_0 and q4_0 are",
                             dtype_info(*out)->name);
    err_in(e, t->name.p, t->name.n);
    return st;
}

/* From one type to another: blocks are unpacked to float32 first, and packed out of it last. */
static enum status add_cast(struct mapping *m, struct part *q, enum dtype from, enum dtype to,
                            struct err *e)
{
    if (from == to)
        return ST_OK;
    if (!q->op && !(q->op = ARENA_ARRAY(m->a, struct op, 3)))
        return err_nomem(e, 3 * sizeof *q->op);
    if (dtype_is_block(from)) {
        q->op[q->n_ops++].kind = OP_UNPACK;
        from = DT_F32;
    }
    if (dtype_is_block(to) && from != DT_F32)
        q->op[q->n_ops++] =
            (struct op){.kind = OP_CAST, .to = DT_F32, .allow_overflow = m->o->allow_overflow};
    if (to != from)
        q->op[q->n_ops++] =
            (struct op){.kind = OP_CAST, .to = to, .allow_overflow = m->o->allow_overflow};
    return ST_OK;
}

/* A fill is an element of the target's type. */
static enum status fill_cast(struct part *q, enum dtype have, enum dtype to, struct err *e)
{
    static const uint8_t zero[16] = {0};
    if (have == to || memcmp(q->fill, zero, sizeof zero) == 0)
        return ST_OK;
    memset(q->fill, 0, sizeof q->fill);
    return map_one(to, q->fill, e);
}

/* What a take does to values, in the source's element type: before any cast. */
static enum status add_values(struct mapping *m, const struct take *k, struct part *q,
                              struct err *e)
{
    enum dtype t = m->src->tensor[k->src].dtype;
    if (take_is_plain(k))
        return ST_OK;
    if (dtype_info(t)->kind != DK_FLOAT || t == DT_F8_E8M0FNU)
        return err_set(e, ST_CANNOT, "value-type",
                       "its values would change (%s), which is not done to %s",
                       k->plus  ? "a sum of biases"
                       : k->neg ? "a sign"
                       : k->offset ? "a number added" : "a learning rate",
                       dtype_info(t)->name);
    q->op = ARENA_ARRAY(m->a, struct op, 7); /* as many as there are, and casts */
    if (!q->op)
        return err_nomem(e, 7 * sizeof *q->op);
    if (k->neg)
        q->op[q->n_ops++].kind = OP_NEG;
    if (k->offset) {
        double v = k->offset;
        memcpy(&q->op[q->n_ops].scale_bits, &v, sizeof v);
        q->op[q->n_ops++].kind = OP_OFFSET;
    }
    if (k->plus) {
        struct view v;
        const struct view_kept *kept;
        if (m->src->tensor[k->plus->src].dtype != t)
            return err_set(e, ST_CANNOT, "parts-differ", "the biases to add differ in dtype");
        TRY(take_view(m->src, k->plus, k->plus->src, &v, e));
        TRY(view_keep(&v, m->a, &kept, e));
        q->op[q->n_ops++] = (struct op){.kind = OP_ADD, .operand = k->plus->src, .view = kept};
        m->used[k->plus->src] = true;
    }
    if (k->scale)
        q->op[q->n_ops++] = (struct op){.kind = OP_SCALE, .scale_bits = k->scale};
    return ST_OK;
}

static enum status take_part(struct mapping *m, const struct take *k, struct part *q, struct err *e)
{
    struct view v;
    q->src = k->zero ? -1 : (int64_t)k->src;
    if (k->fill) {
        uint8_t one[16];
        enum dtype t = m->src->tensor[k->src].dtype;
        if (k->fill < 0)
            return err_set(e, ST_BUG, "bad-fill", "a fill of %d", k->fill);
        TRY(map_one(t, one, e));
        memcpy(q->fill, one, sizeof one);
    }
    if (take_is_whole(k)) {
        part_share_view(q, m->src->tensor[k->src].view);
        return ST_OK;
    }
    TRY(take_view(m->src, k, k->src, &v, e));
    return part_set_view(q, m->a, &v, e);
}

/* Parts that say where they land. Recipes come from foreign text too: what does not tile the tensor
 * is refused here. */
static enum status placed_parts(struct mapping *m, const struct made *d, struct tensor *t,
                                struct recipe *r, struct err *e)
{
    uint64_t dim[VIEW_MAX_AXES] = {0}, sum = 0, all = 1;
    size_t n_dims = 0;
    bool good = true;
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct take *k = &d->take[i];
        struct part *q = &r->part[i];
        TRY(take_part(m, k, q, e));
        n_dims = i ? n_dims : q->view->n_dims;
        good = good && k->placed && q->view->n_dims == n_dims;
        for (size_t j = 0; good && j < k->n_at; j++) {
            uint64_t end;
            good =
                k->at[j].axis < n_dims && add_u64(k->at[j].lo, q->view->dim[k->at[j].axis], &end);
            if (good)
                TRY(part_move(q, m->a, k->at[j].axis, k->at[j].lo, e));
        }
        uint64_t n = 1;
        for (size_t x = 0; good && x < n_dims; x++) {
            dim[x] = q->hi[x] > dim[x] ? q->hi[x] : dim[x];
            n *= q->hi[x] - q->lo[x];
        }
        good = good && add_u64(sum, n, &sum);
        for (size_t j = 0; good && j < i; j++) {
            bool apart = n_dims == 0 ? false : n == 0;
            for (size_t x = 0; x < n_dims; x++)
                apart = apart || q->hi[x] <= r->part[j].lo[x] || r->part[j].hi[x] <= q->lo[x];
            good = apart;
        }
    }
    for (size_t x = 0; good && x < n_dims; x++)
        good = mul_u64(all, dim[x], &all);
    if (!good || sum != all)
        return err_set(e, ST_CANNOT, "parts-differ", "the parts of %.*s do not make up a tensor",
                       STR_ARG(d->name));
    return d->n_takes > 1 || r->part->lo != view_origin
               ? tensor_set_shape(&m->p->dst, t, dim, n_dims, e)
               : plan_shape(m->p, t, r->part->view, e);
}

/* The recipe's parts and the shape of one made tensor. */
static enum status parts_of(struct mapping *m, const struct made *d, struct tensor *t,
                            struct recipe *r, struct err *e)
{
    uint64_t rows = 0;
    r->n_parts = d->n_takes ? d->n_takes : 1;
    r->part = ARENA_ARRAY(m->a, struct part, r->n_parts);
    if (!r->part)
        return err_nomem(e, r->n_parts * sizeof *r->part);
    if (d->n_takes && d->take->placed)
        return placed_parts(m, d, t, r, e);
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct take *k = &d->take[i];
        struct part *q = &r->part[i];
        TRY(take_part(m, k, q, e));
        const struct view_kept *first = r->part->view;
        bool same = q->view->n_dims == first->n_dims;
        for (size_t x = 1; same && x < first->n_dims; x++)
            same = q->hi[x] == first->dim[x];
        if (!same || (d->n_takes > 1 && first->n_dims == 0))
            return err_set(e, ST_CANNOT, "parts-differ",
                           "the parts of %.*s differ in their other axes", STR_ARG(d->name));
        if (d->n_takes > 1) {
            TRY(part_move(q, m->a, 0, rows, e));
            rows = q->hi[0];
        }
    }
    if (d->n_takes > 1) {
        uint64_t dim[VIEW_MAX_AXES];
        const struct view_kept *first = r->part->view;
        memcpy(dim, first->dim, first->n_dims * sizeof *dim);
        dim[0] = rows;
        return tensor_set_shape(&m->p->dst, t, dim, first->n_dims, e);
    }
    if (d->n_takes == 0) {
        struct view v;
        memcpy(r->part->fill, d->fill, sizeof d->fill);
        r->part->src = -1;
        TRY(view_c(&v, d->dim, d->n_dims, e));
        TRY(part_set_view(r->part, m->a, &v, e));
    }
    return plan_shape(m->p, t, r->part->view, e);
}

static enum status put_tensor(struct mapping *m, struct made *d, struct recipe *r, struct err *e)
{
    struct tensor *t;
    TRY(model_tensor_add(&m->p->dst, &t, e));
    uint32_t index = (uint32_t)(m->p->dst.n_tensors - 1);
    const struct tensor *s = d->n_takes ? &m->src->tensor[d->take->src] : NULL;
    t->name = d->name;
    t->role = d->role != ROLE_PARAMETER || !s ? d->role : s->role;
    t->order = d->has_order ? d->order : index;
    t->requires_grad = s && d->role == ROLE_PARAMETER ? s->requires_grad : false;
    t->note = s ? s->note : STR_NONE;
    t->of = d->of;
    enum dtype have = s ? s->dtype : d->dtype;
    if (s && d->n_takes == 1)
        t->unpacked = false;
    TRY(parts_of(m, d, t, r, e));
    TRY(dtype_of(m, t, have, &t->dtype, e));
    if (s && d->dtype != DT_NONE)
        t->dtype = d->dtype;
    uint64_t zeros[2] = {0};
    bool harmless = true;
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct take *k = &d->take[i];
        if (m->src->tensor[k->src].dtype != have)
            return err_set(e, ST_CANNOT, "parts-differ", "the parts of %.*s differ in dtype",
                           STR_ARG(d->name));
        if (k->zero) {
            zeros[k->fill != 0] += kept_elems(r->part[i].view);
            harmless = harmless && k->harmless;
        } else {
            m->used[k->src] = true;
        }
        if (k->zero) {
            TRY(fill_cast(&r->part[i], have, t->dtype, e));
            continue;
        }
        TRY(add_values(m, k, &r->part[i], e));
        TRY(add_cast(m, &r->part[i], have, t->dtype, e));
    }
    for (int i = 0; i < 2; i++)
        if (zeros[i])
            TRY(map_ledger(m, LEDGER_SYNTH, d->name, zeros[i], harmless,
                           i          ? STR("ones that the source's framework adds when it runs")
                           : harmless ? STR("zeros: the other bias holds the sum, or there is none")
                                      : STR("zeros for a part the source does not have"),
                           e));
    if (d->n_takes == 0)
        TRY(map_ledger(m, LEDGER_SYNTH, d->name, tensor_elems(t), d->harmless, d->why, e));
    if (d->why.n)
        TRY(map_reason(m, index,
                       arena_fmt(m->a, "%.*s <- %.*s: %.*s", STR_ARG(d->name),
                                 STR_ARG(s ? s->name : STR("nothing")), STR_ARG(d->why)),
                       e));
    return ST_OK;
}

/* Tensors that share in the source and come out alike share in the target too: all point to the
 * bytewise smallest name among them. */
static enum status share(struct mapping *m, struct err *e)
{
    struct plan *p = m->p;
    size_t n = m->src->n_tensors;
    if (m->target && !m->target->aliases)
        return ST_OK;
    /* made tensors that carry one whole source tensor, listed by what that tensor shares */
    int64_t *first = ARENA_ARRAY(m->tmp, int64_t, n + 1);
    int64_t *next = ARENA_ARRAY(m->tmp, int64_t, m->n_made + 1);
    if (!first || !next)
        return err_nomem(e, n * sizeof *first);
    for (size_t i = 0; i < n; i++)
        first[i] = -1;
    for (size_t i = m->n_made; i-- > 0;) {
        const struct made *d = &m->made[i];
        next[i] = -1;
        if (d->n_takes != 1 || d->take->zero || d->copy || !take_is_plain(d->take))
            continue;
        int64_t of = m->src->tensor[d->take->src].alias_of;
        size_t root = of >= 0 ? (size_t)of : d->take->src;
        next[i] = first[root];
        first[root] = (int64_t)i;
    }
    for (size_t root = 0; root < n; root++)
        for (int64_t i = first[root]; i >= 0 && next[first[root]] >= 0; i = next[i]) {
            int64_t least = i;
            for (int64_t j = first[root]; j >= 0; j = next[j])
                if (p->dst.tensor[i].dtype == p->dst.tensor[j].dtype &&
                    kept_same(p->recipe[i].part->view, p->recipe[j].part->view) &&
                    str_cmp(p->dst.tensor[j].name, p->dst.tensor[least].name) < 0)
                    least = j;
            if (least != i)
                p->dst.tensor[i].alias_of = least;
        }
    for (size_t i = 0; i < m->n_made; i++)
        if (p->dst.tensor[i].alias_of >= 0)
            p->recipe[i] = (struct recipe){0};
    return ST_OK;
}

static int by_str(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static bool among(const struct str *sorted, size_t n, struct str s)
{
    return n && bsearch(&s, sorted, n, sizeof s, by_str);
}

/* What stands around the weights: the source's, and before it the skeleton's where the target's
 * files need their own. */
static enum status carry(struct mapping *m, struct err *e)
{
    struct model *d = &m->p->dst;
    const struct model *from[2] = {m->o->like && m->to && m->to->rules->shell ? m->o->like : NULL,
                                   m->src};
    size_t n_meta = from[0] ? from[0]->n_meta : 0, n_att = from[0] ? from[0]->n_attachments : 0;
    struct str *key = ARENA_ARRAY(m->tmp, struct str, n_meta + 1);
    struct str *name = ARENA_ARRAY(m->tmp, struct str, n_att + 1);
    if (!key || !name)
        return err_nomem(e, (n_meta + n_att) * sizeof *key);
    for (size_t i = 0; i < n_meta; i++)
        key[i] = from[0]->meta[i].key;
    for (size_t i = 0; i < n_att; i++)
        name[i] = from[0]->attachment[i].name;
    if (n_meta)
        qsort(key, n_meta, sizeof *key, by_str);
    if (n_att)
        qsort(name, n_att, sizeof *name, by_str);
    for (int k = 0; k < 2; k++) {
        const struct model *s = from[k];
        for (size_t i = 0; s && i < s->n_meta; i++)
            if (k == 0 || !among(key, n_meta, s->meta[i].key))
                TRY(model_meta_add(d, s->meta[i].key, s->meta[i].value, e));
        for (size_t i = 0; s && i < s->n_attachments && !m->o->weights_only; i++) {
            struct attachment *a;
            if (k == 1 && among(name, n_att, s->attachment[i].name))
                continue;
            TRY(model_attach(d, &a, e));
            *a = s->attachment[i];
        }
    }
    return ST_OK;
}

enum status map_left(struct mapping *m, uint32_t src, const char *why, bool harmless, struct err *e)
{
    if (!m->left && !(m->left = ARENA_ARRAY(m->tmp, struct left, m->src->n_tensors + 1)))
        return err_nomem(e, m->src->n_tensors * sizeof *m->left);
    m->left[src] = (struct left){why, harmless};
    return ST_OK;
}

/* Elements of a source tensor that the recipes read. */
static uint64_t elems_read(const struct plan *p, size_t src)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->dst.n_tensors; i++)
        for (size_t k = 0; k < p->recipe[i].n_parts; k++) {
            const struct part *q = &p->recipe[i].part[k];
            n += q->src == (int64_t)src ? kept_elems(q->view) : 0;
            for (size_t j = 0; j < q->n_ops; j++)
                if (q->op[j].kind == OP_ADD && q->op[j].operand == src)
                    n += kept_elems(q->op[j].view);
        }
    return n;
}

static enum status left_over(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *t = &m->src->tensor[i];
        const struct left *left = m->left && m->left[i].why ? &m->left[i] : NULL;
        if (m->dropped[i] || (m->used[i] && !left))
            continue;
        uint64_t n = tensor_elems(t), got = m->used[i] ? elems_read(m->p, i) : 0;
        bool harmless = left ? left->harmless : rules_harmless_drop(t->name);
        if (got < n)
            TRY(map_ledger(m, LEDGER_DROP, t->name, n - got, harmless,
                           left       ? str_from(left->why)
                           : harmless ? STR("the target has no place for it and needs none")
                                      : STR("the target has no place for it"),
                           e));
    }
    return ST_OK;
}

/* Names: unique, and spelled unambiguously where the target is a tree. */
static enum status names_fit(struct mapping *m, struct err *e)
{
    const struct model *d = &m->p->dst;
    for (size_t i = 0; i < d->n_tensors && m->target && m->target->tree; i++) {
        struct str name = d->tensor[i].name;
        struct arena a = ARENA_INIT;
        bool ok = true;
        enum status parsed = path_round_trips(name, &a, &ok, e);
        arena_free(&a);
        TRY(parsed);
        if (!ok) {
            enum status st = err_set(e, ST_CANNOT, "name-not-spelled",
                                     "the target cannot spell this name unambiguously");
            err_in(e, name.p, name.n);
            return st;
        }
    }
    return ST_OK;
}

static enum status to_plan(struct mapping *m, struct err *e)
{
    struct plan *p = m->p;
    p->recipe = ARENA_ARRAY(m->a, struct recipe, m->n_made + 1);
    if (!p->recipe)
        return err_nomem(e, m->n_made * sizeof *p->recipe);
    if (!p->reason) { /* most have one */
        p->reason = ARENA_ARRAY(m->a, struct reason, m->n_made + 1);
        m->cap_reasons = p->reason ? m->n_made + 1 : 0;
    }
    for (size_t i = 0; i < m->n_made; i++) {
        enum status st = put_tensor(m, &m->made[i], &p->recipe[i], e);
        if (st != ST_OK) {
            err_in(e, m->made[i].name.p, m->made[i].name.n);
            return st;
        }
    }
    TRY(share(m, e));
    TRY(left_over(m, e));
    TRY(carry(m, e));
    TRY(names_fit(m, e));
    p->dst.format = m->src->format;
    p->dst.framework = m->to ? str_from(m->to->name) : m->src->framework;
    return ST_OK;
}

static enum status not_twice(struct mapping *m, struct err *e)
{
    struct model *d = &m->p->dst;
    struct str *name = ARENA_ARRAY(m->tmp, struct str, d->n_tensors + 1);
    if (!name)
        return err_nomem(e, d->n_tensors * sizeof *name);
    for (size_t i = 0; i < d->n_tensors; i++)
        name[i] = d->tensor[i].name;
    if (d->n_tensors)
        qsort(name, d->n_tensors, sizeof *name, by_str);
    for (size_t i = 1; i < d->n_tensors; i++)
        if (str_eq(name[i - 1], name[i])) {
            enum status st = err_set(e, ST_CANNOT, "name-taken",
                                     "two tensors would have this name in the target");
            err_in(e, name[i].p, name[i].n);
            return st;
        }
    return ST_OK;
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
    TRY(recognise(m, e));
    m->to = own->to ? named(to, e) : framework_find(str_from(to));
    if (own->to && !m->to)
        return ST_USAGE;
    if (m->from && m->to && m->from != m->to)
        TRY(across(m, e));
    else
        TRY(keep_all(m, e));
    TRY(to_plan(m, e));
    TRY(not_twice(m, e));
    TRY(map_leaves(m, like, e));
    TRY(map_tree(m, e));
    return map_rules_used(m, e);
}

static enum status plan_it(struct mapping *m, struct err *e)
{
    const struct map_opt *o = m->o;
    bool archive = m->target && strcmp(m->target->name, "archive") == 0;
    TRY(map_rules_parse(m, e));
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
            TRY(to_plan(m, e));
            m->p->dst.framework = m->framework;
            TRY(not_twice(m, e));
            TRY(map_tree(m, e));
            return map_rules_used(m, e);
        }
        keep = true;
    }
    if (!keep)
        TRY(recognise(m, e));
    if (!keep && !m->from && !o->to && !o->like)
        keep = true; /* an archive of an unknown framework: stored as it came */
    else if (!keep && !m->from)
        return err_set(e, ST_CANNOT, "framework-unknown",
                       "cannot tell the framework of the source; --from names it");
    if (!keep) {
        m->to = o->to ? named(o->to, e) : o->like ? framework_of(o->like) : named("canonical", e);
        if (!m->to)
            return o->to ? ST_USAGE
                         : err_set(e, ST_CANNOT, "framework-unknown",
                                   "cannot tell the framework of the skeleton; --to names it");
        if (m->to == m->from && !o->like && m->rules.n == 0)
            keep = true;
    }
    if (keep) {
        TRY(keep_all(m, e));
        m->keep_tree = whole;
    } else {
        TRY(across(m, e));
    }
    TRY(to_plan(m, e));
    TRY(not_twice(m, e));
    if (!keep && strcmp(m->to->name, "canonical") == 0)
        TRY(spelling_write(m, e));
    else if (keep)
        m->p->dst.spelling = m->src->spelling;
    TRY(map_train_tree(m, e));
    TRY(map_tree(m, e));
    return map_rules_used(m, e);
}

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
    buf_fmt(&help, "# nnferry-map 1\n# Complete the lines with a question mark and pass this file "
                   "with --map.\n");
    size_t empty = help.n;
    enum status st = plan_it(&m, e);
    if (st == ST_OK && m.n_lost)
        st = err_set(e, ST_CANNOT, "ledger", "%zu entr%s not allowed by name, the first: %.*s",
                     m.n_lost, m.n_lost == 1 ? "y" : "ies", STR_ARG(m.lost_1));
    if (st == ST_OK)
        st = buf_ok(&help, e);
    if (st == ST_CANNOT && rules_out && help.n > empty)
        buf_bytes(rules_out, help.p, help.n);
    buf_free(&help);
    mem_free(m.made);
    arena_free(&tmp);
    return st == ST_OK ? plan_prove(p, max_output, e) : st;
}

/* ---- canonical ---- */

static enum status canonical(struct mapping *m, struct err *e)
{
    TRY(map_rules_parse(m, e));
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
    TRY(to_plan(m, e));
    return not_twice(m, e);
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
    mem_free(m.made);
    arena_free(&tmp);
    *rules_version = RULES_VERSION;
    return st == ST_OK ? plan_prove(p, UINT64_MAX, e) : st;
}

enum status map_canonical(struct plan *p, const char *from, uint32_t *rules_version, struct err *e)
{
    return map_canonical_ruled(p, from, STR_NONE, NULL, rules_version, e);
}
