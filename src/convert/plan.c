/* Plans: the identity, and the proof that a plan does what it promises before a weight is read. */
#include "convert/plan.h"
#include "base/checked.h"
#include "base/mem.h"
#include "convert/op.h"
#include <stdlib.h>
#include <string.h>

void plan_init(struct plan *p, const struct model *src)
{
    memset(p, 0, sizeof *p);
    p->src = src;
    model_init(&p->dst);
}

void plan_written(struct plan *p)
{
    if (p->spelling.n)
        p->dst.spelling = STR_NONE;
    buf_free(&p->spelling);
}

void plan_free(struct plan *p)
{
    model_free(&p->dst);
    buf_free(&p->spelling);
    memset(p, 0, sizeof *p);
}

void part_share_view(struct part *q, const struct view_kept *k)
{
    q->lo = view_origin;
    q->hi = k->dim;
    q->view = k;
}

enum status part_set_view(struct part *q, struct arena *a, const struct view *v, struct err *e)
{
    const struct view_kept *k;
    TRY(view_keep(v, a, &k, e));
    part_share_view(q, k);
    return ST_OK;
}

enum status part_move(struct part *q, struct arena *a, size_t axis, uint64_t at, struct err *e)
{
    size_t n = q->view->n_dims;
    uint64_t *box = ARENA_ARRAY(a, uint64_t, 2 * n + 1);
    if (!box)
        return err_nomem(e, 2 * n * sizeof *box);
    for (size_t d = 0; d < n; d++) {
        box[d] = d == axis ? at : q->lo[d];
        box[n + d] = box[d] + (q->hi[d] - q->lo[d]);
    }
    q->lo = box;
    q->hi = box + n;
    return ST_OK;
}

enum status plan_shape(struct plan *p, struct tensor *t, const struct view_kept *like,
                       struct err *e)
{
    if (like->offset != 0 || like->n_axes != like->n_dims || !kept_is_c(like))
        return tensor_set_shape(&p->dst, t, like->dim, like->n_dims, e);
    tensor_share_view(t, like);
    return ST_OK;
}

static enum status copy_tensor(struct plan *p, const struct tensor *t, struct err *e)
{
    struct tensor *d;
    TRY(model_tensor_add(&p->dst, &d, e));
    *d = *t;
    d->storage = 0;
    d->unpacked = false;
    return plan_shape(p, d, t->view, e);
}

/* What is not a tensor is shared with the source, which outlives the plan. */
static enum status share_rest(struct plan *p, struct err *e)
{
    const struct model *s = p->src;
    p->dst.format = s->format;
    p->dst.framework = s->framework;
    p->dst.tree = s->tree;
    p->dst.has_opaque = s->has_opaque;
    p->dst.spelling = s->spelling;
    for (size_t i = 0; i < s->n_attachments; i++) {
        struct attachment *a;
        TRY(model_attach(&p->dst, &a, e));
        *a = s->attachment[i];
    }
    for (size_t i = 0; i < s->n_meta; i++)
        TRY(model_meta_add(&p->dst, s->meta[i].key, s->meta[i].value, e));
    return ST_OK;
}

enum status plan_identity(struct plan *p, struct err *e)
{
    const struct model *s = p->src;
    for (size_t i = 0; i < s->n_tensors; i++)
        TRY(copy_tensor(p, &s->tensor[i], e));
    TRY(share_rest(p, e));
    p->recipe = ARENA_ARRAY(&p->dst.arena, struct recipe, s->n_tensors);
    if (!p->recipe)
        return err_nomem(e, s->n_tensors * sizeof *p->recipe);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct tensor *t = &s->tensor[i];
        if (t->alias_of >= 0)
            continue;
        struct part *part = ARENA_NEW(&p->dst.arena, struct part);
        if (!part)
            return err_nomem(e, sizeof *part);
        part->src = (int64_t)i;
        part_share_view(part, t->view);
        p->recipe[i] = (struct recipe){part, 1};
    }
    return ST_OK;
}

enum status plan_unpack(struct plan *p, struct err *e)
{
    for (size_t i = 0; i < p->dst.n_tensors; i++) {
        struct tensor *t = &p->dst.tensor[i];
        struct recipe *r = &p->recipe[i];
        bool packs = false;
        if (!dtype_is_block(t->dtype))
            continue;
        for (size_t k = 0; k < r->n_parts; k++)
            packs |= r->part[k].src < 0 || r->part[k].n_ops > 0;
        if (packs)
            continue;
        for (size_t k = 0; k < r->n_parts; k++) {
            struct op *op = ARENA_NEW(&p->dst.arena, struct op);
            if (!op)
                return err_nomem(e, sizeof *op);
            op->kind = OP_UNPACK;
            r->part[k].op = op;
            r->part[k].n_ops = 1;
        }
        t->dtype = DT_F32;
    }
    for (size_t i = 0; i < p->dst.n_tensors; i++)
        if (p->dst.tensor[i].alias_of >= 0)
            p->dst.tensor[i].dtype = p->dst.tensor[p->dst.tensor[i].alias_of].dtype;
    return ST_OK;
}

/* ---- proof ---- */

static enum status broken(const struct plan *p, size_t t, const char *code, const char *why,
                          struct err *e)
{
    enum status st = err_set(e, ST_BUG, code, "%s", why);
    err_in(e, p->dst.tensor[t].name.p, p->dst.tensor[t].name.n);
    return st;
}

static enum status block_cut(const struct plan *p, size_t t, const char *code, enum dtype type,
                             const char *why, struct err *e)
{
    enum status st = err_set(e, ST_CANNOT, code, "%s: blocks of %u elements %s",
                             dtype_info(type)->name, dtype_info(type)->block_elems, why);
    err_in(e, p->dst.tensor[t].name.p, p->dst.tensor[t].name.n);
    return st;
}

static uint64_t volume(const struct part *q, size_t n_dims)
{
    uint64_t v = 1;
    for (size_t d = 0; d < n_dims; d++)
        v *= q->hi[d] - q->lo[d];
    return v;
}

static bool overlap(const struct part *a, const struct part *b, size_t n_dims)
{
    for (size_t d = 0; d < n_dims; d++)
        if (a->hi[d] <= b->lo[d] || b->hi[d] <= a->lo[d])
            return false;
    return true;
}

struct edge {
    uint64_t lo;
    const struct part *q;
};

static int by_lo(const void *pa, const void *pb)
{
    const struct edge *a = pa, *b = pb;
    return a->lo < b->lo ? -1 : a->lo > b->lo;
}

/* The axis with the most distinct starts, so that the sweep holds few parts at a time. Leaves the
 * edges sorted along it. */
static size_t sort_edges(struct edge *edge, size_t n, size_t n_dims)
{
    size_t best = 0, most = 0;
    for (size_t pass = 0; pass <= n_dims; pass++) {
        size_t d = pass < n_dims ? pass : best, distinct = 1;
        for (size_t i = 0; i < n; i++)
            edge[i].lo = edge[i].q->lo[d];
        qsort(edge, n, sizeof *edge, by_lo);
        for (size_t i = 1; i < n; i++)
            distinct += edge[i].lo != edge[i - 1].lo;
        if (pass < n_dims && distinct > most) {
            most = distinct;
            best = d;
        }
    }
    return best;
}

/* Volumes that sum to the whole, and no two boxes that meet: then they tile it exactly once. */
static enum status prove_tiling(const struct plan *p, size_t t, struct err *e)
{
    const struct tensor *d = &p->dst.tensor[t];
    const struct recipe *r = &p->recipe[t];
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n_parts; i++)
        if (!add_u64(sum, volume(&r->part[i], d->n_dims), &sum))
            return broken(p, t, "plan-tiling", "the parts do not tile the tensor", e);
    if (sum != tensor_elems(d))
        return broken(p, t, "plan-tiling", "the parts do not tile the tensor", e);
    if (r->n_parts < 2)
        return ST_OK;
    struct edge *edge = mem_zalloc(r->n_parts, sizeof *edge);
    const struct part **open = mem_zalloc(r->n_parts, sizeof *open);
    enum status st = edge && open ? ST_OK : err_nomem(e, r->n_parts * sizeof *edge);
    size_t n = 0, n_open = 0;
    for (size_t i = 0; i < r->n_parts && st == ST_OK; i++)
        if (volume(&r->part[i], d->n_dims) != 0)
            edge[n++].q = &r->part[i];
    size_t axis = st == ST_OK ? sort_edges(edge, n, d->n_dims) : 0;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        size_t keep = 0;
        for (size_t k = 0; k < n_open; k++) {
            if (open[k]->hi[axis] <= edge[i].lo)
                continue;
            if (overlap(open[k], edge[i].q, d->n_dims))
                st = broken(p, t, "plan-tiling", "two parts write the same elements", e);
            open[keep++] = open[k];
        }
        n_open = keep;
        open[n_open++] = edge[i].q;
    }
    mem_free(edge);
    mem_free(open);
    return st;
}

/* v reads tensor s of the source: inside its storage? */
static bool inside(const struct model *m, const struct tensor *s, const struct view_kept *v)
{
    int64_t lo, hi;
    uint64_t bits;
    kept_bounds(v, &lo, &hi);
    if (lo < 0 || s->storage >= m->n_storages)
        return false;
    if (s->unpacked)
        return (uint64_t)hi <= m->storage[s->storage].raw_bytes;
    if (dtype_is_block(s->dtype)) { /* the last element's block counts whole */
        uint64_t each = dtype_info(s->dtype)->block_elems;
        return dtype_span(s->dtype, ((uint64_t)hi + each - 1) / each * each, &bits) &&
               bits <= m->storage[s->storage].raw_bytes;
    }
    return mul_u64((uint64_t)hi, dtype_info(s->dtype)->bits, &bits) &&
           bits / 8 + (bits % 8 != 0) <= m->storage[s->storage].raw_bytes;
}

static bool dims_match(const struct view_kept *v, const struct part *q, size_t n_dims)
{
    bool same = v->n_dims == n_dims;
    for (size_t d = 0; d < n_dims && same; d++)
        same = v->dim[d] == q->hi[d] - q->lo[d];
    return same;
}

static enum status prove_ops(const struct plan *p, size_t t, const struct part *q, struct err *e)
{
    const struct tensor *d = &p->dst.tensor[t];
    enum dtype now = p->src->tensor[q->src].dtype;
    for (size_t i = 0; i < q->n_ops; i++) {
        const struct op *op = &q->op[i];
        if (op_reads(op)) {
            if (op->operand >= p->src->n_tensors)
                return broken(p, t, "plan-source", "an operand that the source does not have", e);
            const struct tensor *s = &p->src->tensor[op->operand];
            if (s->dtype != (op->kind == OP_MUL ? op->to : now) ||
                !dims_match(op->view, q, d->n_dims) || !inside(p->src, s, op->view))
                return broken(p, t, "plan-ops", "an operand that does not fit its part", e);
        }
        if (i > 0 && op->kind == OP_UNPACK)
            return broken(p, t, "plan-ops", "blocks are unpacked first", e);
        now = op_chain_type(op, 1, now);
    }
    if (now != d->dtype)
        return broken(p, t, "plan-ops", "the ops do not end in the target's element type", e);
    return ST_OK;
}

/* Blocks are carried whole and in order, and made of whole rows. */
static enum status prove_blocks(const struct plan *p, size_t t, const struct part *q, struct err *e)
{
    const struct tensor *d = &p->dst.tensor[t];
    const struct dtype_info *to = dtype_info(d->dtype), *from = NULL;
    struct view v;
    if (to->kind == DK_BLOCK) {
        size_t last = d->n_dims - 1u; /* prove_size has looked at the whole */
        if (q->lo[last] % to->block_elems != 0 || q->hi[last] % to->block_elems != 0)
            return block_cut(p, t, "block-shape", d->dtype, "do not fill the rows", e);
    }
    if (q->src >= 0)
        from = dtype_info(p->src->tensor[q->src].dtype);
    if (!from || from->kind != DK_BLOCK || q->n_ops > 0)
        return ST_OK;
    view_load(&v, q->view);
    if (!view_to_blocks(&v, from->block_elems, from->block_bytes))
        return block_cut(p, t, "block-view", p->src->tensor[q->src].dtype,
                         "cannot be cut or turned: ask for --dtype float32", e);
    return ST_OK;
}

static enum status prove_part(const struct plan *p, size_t t, const struct part *q, struct err *e)
{
    const struct tensor *d = &p->dst.tensor[t];
    for (size_t k = 0; k < d->n_dims; k++)
        if (q->lo[k] > q->hi[k] || q->hi[k] > d->dim[k])
            return broken(p, t, "plan-tiling", "a part reaches outside the tensor", e);
    TRY(prove_blocks(p, t, q, e));
    if (q->src < 0)
        return q->n_ops == 0 ? ST_OK : broken(p, t, "plan-ops", "a fill takes no ops", e);
    if ((uint64_t)q->src >= p->src->n_tensors)
        return broken(p, t, "plan-source", "a part of a tensor the source does not have", e);
    if (!dims_match(q->view, q, d->n_dims))
        return broken(p, t, "plan-view", "a part's view and box differ in shape", e);
    if (!inside(p->src, &p->src->tensor[q->src], q->view))
        return broken(p, t, "plan-view", "a part's view leaves its storage", e);
    return prove_ops(p, t, q, e);
}

static enum status prove_recipe(const struct plan *p, size_t t, struct err *e)
{
    const struct recipe *r = &p->recipe[t];
    const struct tensor *d = &p->dst.tensor[t];
    if (d->alias_of >= 0) {
        if ((uint64_t)d->alias_of >= p->dst.n_tensors || r->n_parts != 0)
            return broken(p, t, "plan-alias", "an alias of nothing", e);
        const struct tensor *a = &p->dst.tensor[d->alias_of];
        if (a->alias_of >= 0 || a->dtype != d->dtype || a->n_dims != d->n_dims ||
            memcmp(a->dim, d->dim, d->n_dims * sizeof d->dim[0]) != 0)
            return broken(p, t, "plan-alias", "an alias that differs from its target", e);
        return ST_OK;
    }
    for (size_t i = 0; i < r->n_parts; i++)
        TRY(prove_part(p, t, &r->part[i], e));
    return prove_tiling(p, t, e);
}

/* ---- ledger ---- */

/* Elements named by lines of one kind, keyed by tensor index. */
static void add_lines(const struct plan *p, enum ledger_kind kind, const struct model *m,
                      uint64_t *n)
{
    for (size_t i = 0; i < p->n_lines; i++) {
        int64_t t = p->line[i].kind == kind ? model_find(m, p->line[i].name) : -1;
        if (t >= 0)
            n[t] += p->line[i].n_elems;
    }
}

/* Elements a view touches: axes of stride 0 repeat them. */
static uint64_t distinct(const struct view_kept *v)
{
    uint64_t n = 1;
    for (size_t i = 0; i < v->n_axes; i++)
        n *= v->axis[i].stride != 0 || v->axis[i].extent == 0 ? v->axis[i].extent : 1;
    return n;
}

static void count_reads(struct plan *p, uint64_t *read, uint64_t *filled)
{
    for (size_t t = 0; t < p->dst.n_tensors; t++) {
        const struct tensor *d = &p->dst.tensor[t];
        for (size_t i = 0; i < p->recipe[t].n_parts; i++) {
            const struct part *q = &p->recipe[t].part[i];
            uint64_t n = volume(q, d->n_dims);
            p->elems_written += n;
            if (q->src < 0) {
                filled[t] += n;
                p->elems_synth += n;
                continue;
            }
            read[q->src] += n;
            for (size_t k = 0; k < q->n_ops; k++)
                if (op_reads(&q->op[k]))
                    read[q->op[k].operand] += distinct(q->op[k].view);
        }
    }
}

/* Every source element is read or lies in a named drop; every fill is named. An alias is covered
 * when the tensor it shares is, and the other way round. */
static enum status settle(struct plan *p, uint64_t *read, uint64_t *dropped, uint64_t *filled,
                          uint64_t *named, struct err *e)
{
    const struct model *s = p->src;
    for (size_t i = 0; i < s->n_tensors; i++) {
        int64_t a = s->tensor[i].alias_of;
        if (a >= 0 && read[i] > read[a])
            read[a] = read[i];
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct tensor *t = &s->tensor[i];
        size_t lead = t->alias_of >= 0 ? (size_t)t->alias_of : i;
        uint64_t n = tensor_elems(t), got;
        if (!add_u64(read[lead], dropped[i], &got) || got >= n) {
            if (t->alias_of < 0)
                p->elems_read += read[i] < n ? read[i] : n;
            continue;
        }
        enum status st = err_set(e, ST_BUG, "plan-ledger",
                                 "%llu of %llu elements are neither read nor named as left behind",
                                 (unsigned long long)(n - got), (unsigned long long)n);
        err_in(e, t->name.p, t->name.n);
        return st;
    }
    for (size_t i = 0; i < p->dst.n_tensors; i++)
        if (filled[i] > named[i])
            return broken(p, i, "plan-ledger", "elements are filled in that no line names", e);
    for (size_t i = 0; i < p->n_lines; i++)
        if (p->line[i].kind == LEDGER_DROP)
            p->elems_dropped += p->line[i].n_elems;
    return ST_OK;
}

static enum status prove_ledger(struct plan *p, struct err *e)
{
    size_t ns = p->src->n_tensors, nd = p->dst.n_tensors;
    uint64_t *n = mem_zalloc(2 * (ns + nd) + 1, sizeof *n);
    if (!n)
        return err_nomem(e, 2 * (ns + nd) * sizeof *n);
    uint64_t *read = n, *dropped = n + ns, *filled = n + 2 * ns, *named = n + 2 * ns + nd;
    p->elems_read = p->elems_dropped = p->elems_written = p->elems_synth = 0;
    count_reads(p, read, filled);
    add_lines(p, LEDGER_DROP, p->src, dropped);
    add_lines(p, LEDGER_SYNTH, &p->dst, named);
    enum status st = settle(p, read, dropped, filled, named, e);
    mem_free(n);
    return st;
}

static enum status prove_size(const struct plan *p, uint64_t max_output, struct err *e)
{
    uint64_t in = 0, out = 0, n;
    for (size_t i = 0; i < p->src->n_storages; i++)
        if (!add_u64(in, p->src->storage[i].stored_bytes, &in))
            in = UINT64_MAX;
    for (size_t i = 0; i < p->dst.n_tensors; i++) {
        const struct tensor *d = &p->dst.tensor[i];
        if (dtype_is_block(d->dtype) &&
            (d->n_dims == 0 || d->dim[d->n_dims - 1u] % dtype_info(d->dtype)->block_elems != 0))
            return block_cut(p, i, "block-shape", d->dtype,
                             "do not fill the rows: ask for another --dtype, float32 unpacks", e);
        if (d->alias_of < 0 && (!tensor_bytes(d, &n) || !add_u64(out, n, &out)))
            out = UINT64_MAX;
    }
    uint64_t limit = max_output;
    if (limit == 0 && (!mul_u64(in, 64, &limit) || limit < UINT64_C(1) << 30))
        limit = in > UINT64_MAX / 64 ? UINT64_MAX : UINT64_C(1) << 30;
    if (out <= limit)
        return ST_OK;
    return err_set(e, ST_INPUT, "output-too-big",
                   "%llu bytes would be written from %llu, the limit is %llu: see --max-output",
                   (unsigned long long)out, (unsigned long long)in, (unsigned long long)limit);
}

enum status plan_prove(struct plan *p, uint64_t max_output, struct err *e)
{
    TRY(prove_size(p, max_output, e));
    for (size_t t = 0; t < p->dst.n_tensors; t++)
        TRY(prove_recipe(p, t, e));
    return prove_ledger(p, e);
}
