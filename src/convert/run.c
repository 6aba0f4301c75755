/* Costs, digests and single reads: the small sinks. See run.h. */
#include "convert/run.h"
#include "base/mem.h"
#include "codec/sha256.h"
#include "convert/feed.h"
#include "convert/number.h"
#include "convert/op.h"
#include "convert/source_id.h"
#include <string.h>

/* Tensors that have bytes of their own. */
static enum status own_order(const struct plan *p, uint32_t **order, size_t *n, struct err *e)
{
    *n = 0;
    *order = mem_zalloc(p->dst.n_tensors + 1, sizeof **order);
    if (!*order)
        return err_nomem(e, p->dst.n_tensors * sizeof **order);
    for (size_t i = 0; i < p->dst.n_tensors; i++)
        if (p->dst.tensor[i].alias_of < 0)
            (*order)[(*n)++] = (uint32_t)i;
    return ST_OK;
}

enum status run_cost(const struct plan *p, const struct run_opt *o, struct run_cost *c,
                     struct err *e)
{
    struct feed f = {.plan = {p, NULL}};
    uint32_t *order;
    if (o)
        f.opt = *o;
    TRY(own_order(p, &order, &f.n, e));
    f.order = order;
    enum status st = feed_run(&f, c, e);
    mem_free(order);
    if (st == ST_OK) {
        c->n_decodes += p->src->n_decoded + p->n_looked;
        c->spool_bytes += p->src->spooled_bytes;
    }
    return st;
}

enum status run_write_cost(const struct plan *p, const struct write_opt *wo,
                           const struct run_opt *o, struct run_cost *c, uint64_t *beside,
                           struct err *e)
{
    struct source_id s;
    struct run_cost all;
    TRY(run_cost(p, o, c, e));
    enum status st = source_id_plan(&s, p, wo->origin, e);
    *beside = s.n_bytes;
    if (st == ST_OK && s.n_bytes > 0) {
        st = run_cost(s.plan, o, &all, e);
        if (c->read_bytes > 0) /* of the bytes that the target needs */
            all.read_amplification =
                c->read_amplification * (double)all.read_bytes / (double)c->read_bytes;
        all.write_bytes = c->write_bytes;
        *c = all;
    }
    source_id_free(&s);
    return st;
}

/* ---- digests ---- */

struct hash {
    const struct plan *p;
    uint8_t (*digest)[32];
    struct sha256 tree;
    uint8_t (*leaf)[32]; /* leaf_cap a slot */
    size_t leaf_cap;
};

static enum status hash_start(void *ctx, int n_slots, struct err *e)
{
    struct hash *h = ctx;
    h->leaf = mem_zalloc((size_t)n_slots * h->leaf_cap, 32);
    return h->leaf ? ST_OK : err_nomem(e, (size_t)n_slots * h->leaf_cap * 32);
}

static size_t slab_bytes(const struct plan *p, const struct slab *b)
{
    return b->n * num_bytes(p->dst.tensor[b->t].dtype);
}

static enum status hash_body(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct hash *h = ctx;
    (void)e;
    sha256_tree_leaves(b->data[0], slab_bytes(h->p, b), h->leaf + (size_t)slot * h->leaf_cap);
    return ST_OK;
}

static enum status hash_commit(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct hash *h = ctx;
    const struct tensor *t = &h->p->dst.tensor[b->t];
    (void)e;
    if (b->first)
        sha256_tree_begin(&h->tree, tensor_units(t) * num_bytes(t->dtype));
    sha256_tree_add(&h->tree, (const uint8_t(*)[32])(h->leaf + (size_t)slot * h->leaf_cap),
                    sha256_tree_n_leaves(slab_bytes(h->p, b)));
    if (b->last)
        sha256_tree_end(&h->tree, h->digest[b->t]);
    return ST_OK;
}

enum status run_hash(const struct plan *p, const struct run_opt *o, uint8_t (*digest)[32],
                     struct err *e)
{
    struct hash h = {.p = p, .digest = digest};
    struct sink sink = {.ctx = &h, .start = hash_start, .body = hash_body, .commit = hash_commit};
    struct feed f = {.plan = {p, NULL}, .sink = &sink};
    uint32_t *order;
    if (o)
        f.opt = *o;
    TRY(own_order(p, &order, &f.n, e));
    f.order = order;
    for (size_t j = 0; j < f.n; j++) {
        uint64_t bytes = feed_slab_elems(&f, j) * num_bytes(p->dst.tensor[order[j]].dtype);
        if (sha256_tree_n_leaves(bytes) > h.leaf_cap)
            h.leaf_cap = sha256_tree_n_leaves(bytes);
    }
    sink.slot_bytes = 32 * h.leaf_cap;
    enum status st = feed_run(&f, NULL, e);
    for (size_t i = 0; i < p->dst.n_tensors && st == ST_OK; i++)
        if (p->dst.tensor[i].alias_of >= 0)
            memcpy(digest[i], digest[p->dst.tensor[i].alias_of], 32);
    mem_free(h.leaf);
    mem_free(order);
    return st;
}

/* ---- one range ---- */

struct read {
    enum dtype from, as;
    uint64_t lo;
    uint8_t *dst;
};

static enum status read_body(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct read *r = ctx;
    (void)slot;
    (void)e;
    size_t from = num_bytes(r->from), to = num_bytes(r->as);
    for (uint64_t i = 0; i < b->n; i += OP_BLOCK) {
        size_t n = b->n - i < OP_BLOCK ? b->n - i : OP_BLOCK;
        (void)op_cast(r->from, b->data[0] + i * from, r->as, r->dst + (b->lo - r->lo + i) * to, n);
    }
    return ST_OK;
}

static bool readable(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi)
{
    return t < p->dst.n_tensors && lo <= hi && hi <= tensor_units(&p->dst.tensor[t]);
}

enum status run_read_cost(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi,
                          struct run_cost *c, struct err *e)
{
    if (!readable(p, t, lo, hi))
        return err_set(e, ST_BUG, "run-read", "a range the tensor does not have");
    struct feed f = {.plan = {p, NULL}, .order = &t, .n = 1, .lo = lo, .hi = hi};
    *c = (struct run_cost){0};
    return lo == hi ? ST_OK : feed_run(&f, c, e);
}

enum status run_read(const struct plan *p, uint32_t t, uint64_t lo, uint64_t hi, enum dtype as,
                     void *dst, struct err *e)
{
    if (!readable(p, t, lo, hi) ||
        (p->dst.tensor[t].dtype != as && !num_castable(p->dst.tensor[t].dtype, as)))
        return err_set(e, ST_BUG, "run-read", "a range or type the tensor does not have");
    struct read r = {p->dst.tensor[t].dtype, as, lo, dst};
    struct sink sink = {.ctx = &r, .body = read_body};
    struct feed f = {.plan = {p, NULL}, .order = &t, .n = 1, .lo = lo, .hi = hi, .sink = &sink};
    return lo == hi ? ST_OK : feed_run(&f, NULL, e);
}
