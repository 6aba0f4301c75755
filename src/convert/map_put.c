/* From made tensors to a plan: element types, recipes and shapes, what shares, what is left behind.
 */
#include "base/checked.h"
#include "convert/block.h"
#include "convert/map_int.h"
#include "convert/number.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

/* Does --dtype without a pattern speak of this tensor? Weights that are floats of some kind; to
 * blocks only such whose rows fill them, matrices and larger, and no blocks that lost already. */
static bool by_default(const struct tensor *t, enum dtype have, enum dtype to)
{
    const struct dtype_info *d = dtype_info(to);
    enum dtype_kind kind = dtype_info(have)->kind;
    if (!tensor_is_weight(t) && t->role != ROLE_EMA)
        return false;
    if (d->kind == DK_BLOCK)
        return kind == DK_FLOAT && t->n_dims > 1 && t->dim[t->n_dims - 1] % d->block_elems == 0;
    return (kind == DK_FLOAT || kind == DK_BLOCK) && d->kind == DK_FLOAT;
}

/* t is the target's so far: name, role, shape. */
enum status map_dtype(struct mapping *m, const struct tensor *t, enum dtype have, enum dtype *out,
                      struct err *e)
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
            return err_set(e, ST_USAGE, "unknown-dtype",
                           "no element type is called %.*s (but float32, float16, bfloat16 ...)",
                           STR_ARG(type));
        if (glob.p ? str_glob(glob, t->name) : by_default(t, have, to))
            *out = to;
    }
    if (*out == have)
        return ST_OK;
    bool blocks = dtype_is_block(*out);
    if (blocks && !block_packs(*out)) {
        (void)err_set(e, ST_CANNOT, "no-packing",
                      "%s blocks are carried and unpacked, not made: q8_0 and q4_0 are",
                      dtype_info(*out)->name);
    } else if (!num_castable(dtype_is_block(have) ? DT_F32 : have, blocks ? DT_F32 : *out)) {
        (void)err_set(e, ST_CANNOT, "no-cast", "%s cannot become %s", dtype_info(have)->name,
                      dtype_info(*out)->name);
    } else {
        return ST_OK;
    }
    err_in(e, t->name.p, t->name.n);
    return ST_CANNOT;
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

/* 1 or -1 in a dtype; a fill is an element of the target's type. */
static enum status fill_of(enum dtype t, int number, uint8_t out[16], struct err *e)
{
    const struct dtype_info *d = dtype_info(t);
    if (number != 1 && number != -1)
        return err_set(e, ST_BUG, "bad-fill", "a fill of %d", number);
    TRY(map_one(t, out, e));
    if (number == 1)
        return ST_OK;
    if (d->kind != DK_FLOAT || t == DT_F8_E8M0FNU)
        return err_set(e, ST_CANNOT, "no-one", "%s has no value -1", d->name);
    out[(d->bits - 1) / 8] |= (uint8_t)(1u << (d->bits - 1) % 8); /* the sign */
    return ST_OK;
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
                       k->plus     ? "a sum of biases"
                       : k->neg    ? "a sign"
                       : k->offset ? "a number added"
                                   : "a learning rate",
                       dtype_info(t)->name);
    q->op = ARENA_ARRAY(m->a, struct op, 7); /* as many as there are, and casts */
    if (!q->op)
        return err_nomem(e, 7 * sizeof *q->op);
    if (k->wide)
        q->op[q->n_ops++] = (struct op){.kind = OP_CAST, .to = DT_F32};
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
    if (k->fill && k->zero)
        TRY(fill_of(m->src->tensor[k->src].dtype, k->fill, q->fill, e));
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

/* A pattern that speaks of the scale alone would change its weight. */
static enum status scale_dtype(struct mapping *m, struct tensor *t, enum dtype have, struct err *e)
{
    struct tensor as = *t;
    enum dtype to;
    t->dtype = have;
    as.role = ROLE_OTHER; /* which --dtype without a pattern does not mean */
    TRY(map_dtype(m, &as, have, &to, e));
    if (to == have)
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "fp8-scale",
                             "the scale of a weight of eight bits is not cast by itself");
    err_in(e, t->name.p, t->name.n);
    return st;
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
    if (map_is_scale(m, d))
        TRY(scale_dtype(m, t, have, e));
    else
        TRY(map_dtype(m, t, have, &t->dtype, e));
    if (s && d->dtype != DT_NONE)
        t->dtype = d->dtype;
    uint64_t zeros[3] = {0}; /* and ones, and minus ones */
    bool harmless = true;
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct take *k = &d->take[i];
        if (m->src->tensor[k->src].dtype != have)
            return err_set(e, ST_CANNOT, "parts-differ", "the parts of %.*s differ in dtype",
                           STR_ARG(d->name));
        if (k->zero) {
            zeros[k->fill > 0 ? 1 : k->fill < 0 ? 2 : 0] += kept_elems(r->part[i].view);
            harmless = harmless && k->harmless;
        } else {
            m->used[k->src] = true;
        }
        if (k->zero) {
            if (k->fill && t->dtype != have)
                TRY(fill_of(t->dtype, k->fill, r->part[i].fill, e));
            continue;
        }
        bool scaled;
        TRY(add_values(m, k, &r->part[i], e));
        TRY(map_scale_op(m, k, &r->part[i], t->dtype, &scaled, e));
        TRY(add_cast(m, &r->part[i], scaled || k->wide ? DT_F32 : have, t->dtype, e));
    }
    for (int i = 0; i < 3; i++)
        if (zeros[i])
            TRY(map_ledger(m, LEDGER_SYNTH, d->name, zeros[i], harmless,
                           i == 1     ? STR("ones that the source's framework adds when it runs")
                           : i == 2   ? STR("minus ones: the target adds 1 when it runs")
                           : harmless ? STR("zeros: the other bias holds the sum, or there is none")
                                      : STR("zeros for a part the source does not have"),
                           e));
    if (d->n_takes == 0)
        TRY(map_ledger(m, LEDGER_SYNTH, d->name, tensor_elems(t), d->harmless, d->why, e));
    if (d->why.n && !m->o->unexplained)
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
            if (least == i)
                continue;
            if (!m->target || m->target->aliases)
                p->dst.tensor[i].alias_of = least;
            else
                TRY(map_ledger_tie(m, p->dst.tensor[i].name, p->dst.tensor[least].name, e));
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
            if (k == 0)
                TRY(map_patched(m, i, a, e));
        }
    }
    return ST_OK;
}

enum status map_left(struct mapping *m, uint32_t src, const char *why, bool harmless, struct err *e)
{
    if (!m->left && !(m->left = ARENA_ARRAY(m->tmp, struct left, m->src->n_tensors + 1)))
        return err_nomem(e, m->src->n_tensors * sizeof *m->left);
    if (!m->left[src].why || m->left[src].harmless)
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
                if (op_reads(&q->op[j]) && q->op[j].operand == src)
                    n += kept_elems(q->op[j].view);
        }
    return n;
}

/* Configs that one framework writes and another reads differently. */
static enum status carry_configs(struct mapping *m, struct err *e)
{
    struct str why = STR_NONE;
    if (!m->from || !m->to || m->from == m->to || m->o->weights_only)
        return ST_OK;
    if (m->from->give)
        TRY(m->from->give(m->src, &m->sl, &m->p->dst, &why, e));
    if (why.n)
        TRY(map_ledger(m, LEDGER_DROP, STR("config.json"), 0, true, why, e));
    why = STR_NONE;
    if (m->to->take)
        TRY(m->to->take(m->src, &m->sl, &m->p->dst, &why, e));
    return why.n ? map_ledger(m, LEDGER_DROP, STR("key-values"), 0, true, why, e) : ST_OK;
}

bool map_shared(const struct model *m, size_t t)
{
    bool shared = m->tensor[t].alias_of >= 0;
    for (size_t i = 0; i < m->n_tensors && !shared; i++)
        shared = m->tensor[i].alias_of == (int64_t)t;
    return shared;
}

/* Is a tensor that shares everything with this one carried? */
static bool carried_by_another(const struct mapping *m, size_t t)
{
    int64_t root = m->src->tensor[t].alias_of;
    if (root < 0)
        root = (int64_t)t;
    bool any = m->used[root];
    for (size_t i = 0; i < m->src->n_tensors && !any; i++)
        any = m->src->tensor[i].alias_of == root && m->used[i];
    return any;
}

static enum status left_over(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const struct tensor *t = &m->src->tensor[i];
        const struct left *left = m->left && m->left[i].why ? &m->left[i] : NULL;
        if (m->dropped[i] || (m->used[i] && !left))
            continue;
        uint64_t n = tensor_elems(t), got = m->used[i] ? elems_read(m->p, i) : 0;
        bool twin = got == 0 && carried_by_another(m, i);
        bool harmless = left ? left->harmless : rules_harmless_drop(t->name) || twin;
        if (got < n)
            TRY(map_ledger(m, LEDGER_DROP, t->name, n - got, harmless,
                           left       ? str_from(left->why)
                           : twin     ? STR("another name of a tensor that is carried")
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

enum status map_put(struct mapping *m, struct err *e)
{
    struct plan *p = m->p;
    TRY(map_scales_apply(m, e));
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
    TRY(carry_configs(m, e));
    TRY(names_fit(m, e));
    p->dst.format = m->src->format;
    p->dst.framework = m->to ? str_from(m->to->name) : m->src->framework;
    return ST_OK;
}

enum status map_not_twice(struct mapping *m, struct err *e)
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
