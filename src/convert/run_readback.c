/* Reading back: the written thing goes through the format's own reader, and every slab's digest is
 * compared with the one kept while writing. See run.h.
 */
#include "base/mem.h"
#include "codec/xxh.h"
#include "convert/digests.h"
#include "convert/feed.h"
#include "convert/number.h"
#include <string.h>

struct back {
    const struct plan *p; /* what was to be written */
    const struct plan *q; /* what is there */
    const struct slab_digests *kept;
    uint32_t *of; /* target tensor per tensor read */
};

static const struct tensor_digests *kept_of(const struct back *b, uint32_t t)
{
    const struct tensor_digests *d = &b->kept->tensor[t];
    int64_t a = b->p->dst.tensor[t].alias_of;
    return d->xxh || a < 0 ? d : &b->kept->tensor[a];
}

static enum status differs(const char *what, struct str name, struct err *e)
{
    enum status st = err_set(e, ST_OUTPUT, "readback", "what was written reads back with %s", what);
    err_in(e, name.p, name.n);
    return st;
}

static uint64_t back_slab(void *ctx, uint32_t t)
{
    const struct back *b = ctx;
    return kept_of(b, b->of[t])->slab_elems;
}

static enum status back_body(void *ctx, const struct slab *s, int slot, struct err *e)
{
    const struct back *b = ctx;
    const struct tensor *t = &b->q->dst.tensor[s->t];
    const struct tensor_digests *d = kept_of(b, b->of[s->t]);
    uint8_t now[16];
    (void)slot;
    if (s->n == 0)
        return ST_OK;
    xxh128(s->data[0], s->n * num_bytes(t->dtype), now);
    if (s->index >= d->n_slabs || memcmp(now, d->xxh[s->index], sizeof now) != 0)
        return differs("other values", t->name, e);
    return ST_OK;
}

static enum status match(struct back *b, struct err *e)
{
    const struct model *want = &b->p->dst, *got = b->q->src;
    if (got->n_tensors != want->n_tensors)
        return differs("another number of tensors", STR_NONE, e);
    for (size_t i = 0; i < want->n_tensors; i++) {
        const struct tensor *t = &want->tensor[i];
        int64_t k = model_find(got, t->name);
        if (k < 0)
            return differs("a tensor missing", t->name, e);
        const struct tensor *g = &got->tensor[k];
        if (g->dtype != t->dtype)
            return differs("another element type", t->name, e);
        if (g->n_dims != t->n_dims || memcmp(g->dim, t->dim, t->n_dims * sizeof t->dim[0]) != 0)
            return differs("another shape", t->name, e);
        b->of[k] = (uint32_t)i;
    }
    return ST_OK;
}

/* Tensors to hash: an alias is as good as the tensor it shares when both were written alike. */
static size_t order_of(const struct back *b, uint32_t *order)
{
    const struct model *got = b->q->src;
    size_t n = 0;
    for (size_t k = 0; k < got->n_tensors; k++) {
        int64_t lead = got->tensor[k].alias_of;
        if (lead < 0 || kept_of(b, b->of[k]) != kept_of(b, b->of[lead]))
            order[n++] = (uint32_t)k;
    }
    return n;
}

static enum status check(struct back *b, const struct run_opt *o, struct err *e)
{
    size_t n = b->q->src->n_tensors;
    struct sink sink = {.ctx = b, .slab_elems = back_slab, .body = back_body};
    struct feed f = {.plan = {b->q, NULL}, .sink = &sink};
    uint32_t *order = mem_zalloc(n + 1, sizeof *order);
    b->of = mem_zalloc(n + 1, sizeof *b->of);
    enum status st = order && b->of ? ST_OK : err_nomem(e, n * sizeof *order);
    if (o)
        f.opt = *o;
    if (st == ST_OK)
        st = match(b, e);
    if (st == ST_OK) {
        f.n = order_of(b, order);
        f.order = order;
        st = feed_run(&f, NULL, e);
    }
    mem_free(order);
    mem_free(b->of);
    return st;
}

enum status run_readback(const struct plan *p, const struct format *fmt, const char *temp_path,
                         const struct slab_digests *kept, const struct run_opt *o, struct err *e)
{
    struct model m;
    struct plan q;
    const struct format *found;
    struct read_opt ro = {.weights_only = true};
    struct back b = {.p = p, .q = &q, .kept = kept};
    struct err why = {0};
    model_init(&m);
    plan_init(&q, &m);
    enum status st = format_open(temp_path, fmt, &ro, &m, &found, &why);
    if (st == ST_OK)
        st = plan_identity(&q, &why);
    if (st == ST_OK)
        st = check(&b, o, &why);
    if (st == ST_INPUT) { /* our own reader refuses our own file */
        st = err_set(e, ST_OUTPUT, "readback", "%s: %.400s", why.code ? why.code : "unreadable",
                     why.reason);
        err_in(e, why.tensor, strlen(why.tensor));
    } else if (st != ST_OK && e) {
        *e = why;
    }
    plan_free(&q);
    model_free(&m);
    return st;
}
