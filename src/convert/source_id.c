/* See source_id.h. */
#include "convert/source_id.h"
#include "base/mem.h"
#include "convert/number.h"
#include <string.h>

/* The tensor whose bytes these are. */
static size_t root(const struct model *m, size_t t)
{
    return m->tensor[t].alias_of >= 0 ? (size_t)m->tensor[t].alias_of : t;
}

/* Do both take the same elements one after the other, whatever the shape? */
static bool same_order(const struct view_kept *a, const struct view_kept *b)
{
    struct view v, w;
    if (a == b)
        return true;
    view_load(&v, a);
    view_load(&w, b);
    view_collapse(&v);
    view_collapse(&w);
    if (v.n_axes != w.n_axes || v.offset != w.offset)
        return false;
    for (size_t i = 0; i < v.n_axes; i++)
        if (v.axis[i].extent != w.axis[i].extent || v.axis[i].stride != w.axis[i].stride)
            return false;
    return true;
}

/* The source of a target that holds all of it and as it is, or -1. */
static int64_t carried(const struct plan *p, size_t t)
{
    const struct recipe *r = &p->recipe[t];
    const struct part *q = r->part;
    if (p->dst.tensor[t].alias_of >= 0 || r->n_parts != 1 || q->src < 0 || q->n_ops > 0)
        return -1;
    const struct tensor *from = &p->src->tensor[q->src];
    return p->dst.tensor[t].dtype == from->dtype && same_order(q->view, from->view) ? q->src : -1;
}

static enum status add_target(struct source_id *s, uint32_t src, struct err *e)
{
    struct plan *x = &s->more;
    const struct tensor *t = &x->src->tensor[src];
    struct tensor *d;
    uint64_t bytes;
    TRY(model_tensor_add(&x->dst, &d, e));
    *d = *t;
    d->storage = 0;
    d->unpacked = false;
    d->alias_of = -1;
    TRY(plan_shape(x, d, t->view, e));
    if (!tensor_bytes(d, &bytes))
        return err_set(e, ST_BUG, "source-id", "a tensor of more than 2^64 bytes");
    s->n_bytes += bytes;
    return ST_OK;
}

/* The plan's own targets, then a target for each source that asks for one. */
static enum status more(struct source_id *s, const struct plan *p, const uint32_t *beside, size_t n,
                        struct err *e)
{
    struct plan *x = &s->more;
    struct tensor *t;
    for (size_t i = 0; i < s->n_own; i++) {
        TRY(model_tensor_add(&x->dst, &t, e));
        *t = p->dst.tensor[i];
    }
    for (size_t i = 0; i < n; i++)
        TRY(add_target(s, beside[i], e));
    x->recipe = ARENA_ARRAY(&x->dst.arena, struct recipe, s->n_own + n);
    struct part *part = ARENA_ARRAY(&x->dst.arena, struct part, n);
    s->digest = arena_alloc(&x->dst.arena, n, 32);
    if (!x->recipe || !part || !s->digest)
        return err_nomem(e, n * sizeof *part);
    memcpy(x->recipe, p->recipe, s->n_own * sizeof *x->recipe);
    for (size_t i = 0; i < n; i++) {
        part[i].src = beside[i];
        part_share_view(&part[i], x->src->tensor[beside[i]].view);
        x->recipe[s->n_own + i] = (struct recipe){&part[i], 1};
    }
    s->plan = x;
    return ST_OK;
}

enum status source_id_plan(struct source_id *s, const struct plan *p, const struct origin *o,
                           struct err *e)
{
    const struct model *m = p->src;
    size_t n = 0;
    *s = (struct source_id){.plan = p, .n_own = p->dst.n_tensors};
    if (!o || !origin_has_id(o))
        return ST_OK;
    plan_init(&s->more, m);
    s->more.n_looked = p->n_looked;
    s->from = ARENA_ARRAY(&s->more.dst.arena, uint32_t, m->n_tensors + 1);
    uint32_t *beside = mem_zalloc(m->n_tensors + 1, sizeof *beside);
    if (!s->from || !beside) {
        mem_free(beside);
        return err_nomem(e, m->n_tensors * sizeof *beside);
    }
    memset(s->from, 0xff, (m->n_tensors + 1) * sizeof *s->from);
    for (size_t t = s->n_own; t-- > 0;) {
        int64_t src = carried(p, t);
        if (src >= 0)
            s->from[root(m, (size_t)src)] = (uint32_t)t;
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        size_t k = root(m, i);
        if (tensor_is_weight(&m->tensor[i]) && s->from[k] == NO_TARGET) {
            s->from[k] = (uint32_t)(s->n_own + n);
            beside[n++] = (uint32_t)k;
        }
    }
    enum status st = n > 0 ? more(s, p, beside, n, e) : ST_OK;
    mem_free(beside);
    return st;
}

void source_id_free(struct source_id *s)
{
    plan_free(&s->more);
    memset(s, 0, sizeof *s);
}

/* ---- the run ---- */

/* A target beside whose source the recipe is the last to read, put in front of all[at]. */
static void put_before(const struct source_id *s, uint32_t src, bool *placed, uint32_t *all,
                       size_t *at)
{
    uint32_t t = s->from[root(s->plan->src, src)];
    if (t == NO_TARGET || t < s->n_own || placed[t - s->n_own])
        return;
    placed[t - s->n_own] = true;
    all[--*at] = t;
}

/* From the last back: each stands behind the last that reads its source, those of no reader first
 * of all. */
enum status source_id_order(const struct source_id *s, const uint32_t *order, size_t n,
                            uint32_t *all, size_t *n_all, struct err *e)
{
    const struct plan *p = s->plan;
    size_t n_beside = p->dst.n_tensors - s->n_own, at = n + n_beside;
    bool *placed = mem_zalloc(n_beside + 1, sizeof *placed);
    if (!placed)
        return err_nomem(e, n_beside);
    *n_all = at;
    for (size_t i = n; i-- > 0; all[--at] = order[i]) {
        int64_t alias = p->dst.tensor[order[i]].alias_of;
        const struct recipe *r = &p->recipe[alias >= 0 ? (size_t)alias : order[i]];
        for (size_t k = 0; n_beside > 0 && k < r->n_parts; k++) {
            const struct part *q = &r->part[k];
            if (q->src < 0)
                continue;
            put_before(s, (uint32_t)q->src, placed, all, &at);
            for (size_t o = 0; o < q->n_ops; o++)
                if (op_reads(&q->op[o]))
                    put_before(s, q->op[o].operand, placed, all, &at);
        }
    }
    for (size_t i = n_beside; i-- > 0;)
        if (!placed[i])
            all[--at] = (uint32_t)(s->n_own + i);
    mem_free(placed);
    return ST_OK;
}

void source_id_add(struct source_id *s, const struct slab *b, const uint8_t (*leaf)[32],
                   size_t n_leaves)
{
    const struct tensor *t = &s->plan->dst.tensor[b->t];
    if (b->first)
        sha256_tree_begin(&s->tree, tensor_units(t) * num_bytes(t->dtype));
    sha256_tree_add(&s->tree, leaf, n_leaves);
    if (b->last)
        sha256_tree_end(&s->tree, s->digest[b->t - s->n_own]);
}

/* ---- the digests ---- */

static const uint8_t *digest_of(const struct source_id *s, const struct placed *placed, uint32_t t)
{
    return t < s->n_own ? placed[t].tree : s->digest[t - s->n_own];
}

/* Gathered by tensor, m's digest. from: the target of each tensor's root; NULL = its own. */
static enum status id_of(const struct source_id *s, const struct model *m, const uint32_t *from,
                         const struct placed *placed, const struct id_names *names, uint8_t out[32],
                         struct err *e)
{
    uint8_t(*digest)[32] = mem_zalloc(m->n_tensors + 1, sizeof *digest);
    if (!digest)
        return err_nomem(e, m->n_tensors * sizeof *digest);
    for (size_t i = 0; i < m->n_tensors; i++) {
        uint32_t t = (uint32_t)root(m, i);
        if (from)
            t = from[t];
        if (tensor_is_weight(&m->tensor[i]))
            memcpy(digest[i], digest_of(s, placed, t), 32);
    }
    enum status st = id_plain(m, names, (const uint8_t(*)[32])digest, out, e);
    mem_free(digest);
    return st;
}

enum status source_id_end(const struct source_id *s, const struct model *written,
                          const struct placed *placed, const struct id_names *names,
                          struct origin *o, struct err *e)
{
    uint8_t here[32];
    if (!origin_has_id(o))
        return ST_OK;
    TRY(id_of(s, s->plan->src, s->from, placed, names, o->id, e));
    TRY(id_of(s, written, NULL, placed, NULL, here, e));
    o->tensors = memcmp(here, o->id, sizeof here) == 0 ? ORIGIN_SAME : ORIGIN_CHANGED;
    return ST_OK;
}
