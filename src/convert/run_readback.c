/* Reading back: the written thing goes through the format's own reader, and every slab's digest is
 * compared with the one kept while writing. Slabs that were read back as soon as they were written
 * only have to be where the reader looks for them. See run.h.
 */
#include "base/file.h"
#include "base/mem.h"
#include "codec/xxh.h"
#include "convert/digests.h"
#include "convert/feed.h"
#include "convert/number.h"
#include <string.h>

struct back {
    const struct plan *p; /* what was to be written */
    const struct plan *q; /* what is there */
    const struct format *fmt;
    const struct slab_digests *kept;
    uint32_t *of; /* target tensor per tensor read */
};

static const struct tensor_digests *kept_of(const struct back *b, uint32_t t)
{
    const struct tensor_digests *d = &b->kept->tensor[t];
    int64_t a = b->p->dst.tensor[t].alias_of;
    return d->slab_elems || a < 0 ? d : &b->kept->tensor[a];
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

/* Is the tensor made of the slabs that were proved? */
static bool is_proved(const struct back *b, uint32_t k, const struct tensor_digests *d)
{
    const struct tensor *t = &b->q->src->tensor[k];
    const struct storage *s = &b->q->src->storage[t->storage];
    int64_t lo, hi;
    kept_bounds(t->view, &lo, &hi);
    if (s->kind != STORAGE_TILED || s->grid || s->big_endian || s->n_tiles != d->n_slabs ||
        t->unpacked != d->unpacked || !kept_is_c(t->view) || lo != 0)
        return false;
    for (uint64_t i = 0; i < d->n_slabs; i++)
        if (!b->fmt->tile_is(s, i, &d->slab[i]))
            return false;
    return true;
}

/* Tensors to hash: an alias is as good as the tensor it shares when both were written alike. */
static enum status order_of(const struct back *b, uint32_t *order, size_t *n, struct err *e)
{
    const struct model *got = b->q->src;
    for (size_t k = 0; k < got->n_tensors; k++) {
        const struct tensor_digests *d = kept_of(b, b->of[k]);
        int64_t lead = got->tensor[k].alias_of;
        if (lead >= 0 && d == kept_of(b, b->of[lead]))
            continue;
        if (!d->proved)
            order[(*n)++] = (uint32_t)k;
        else if (!is_proved(b, (uint32_t)k, d))
            return differs("other places of its values", got->tensor[k].name, e);
    }
    return ST_OK;
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
    if (st == ST_OK)
        st = order_of(b, order, &f.n, e);
    f.order = order;
    if (st == ST_OK && f.n > 0)
        st = feed_run(&f, NULL, e);
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
    struct back b = {.p = p, .q = &q, .fmt = fmt, .kept = kept};
    struct err why = {0};
    model_init(&m);
    plan_init(&q, &m);
    file_set_ours(true); /* it is being synced */
    enum status st = format_open(temp_path, fmt, &ro, &m, &found, &why);
    file_set_ours(false);
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
