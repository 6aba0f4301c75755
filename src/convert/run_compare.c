/* The comparing sink: two plans side by side, statistics in double. Sums are taken per slab and
 * added in slab order, so the result does not depend on threads. See run.h.
 */
#include "base/mem.h"
#include "convert/feed.h"
#include "convert/kernel.h"
#include "convert/number.h"
#include "convert/op.h"
#include <float.h>
#include <math.h>
#include <string.h>

struct sums {
    bool bits_differ;
    uint64_t n_unequal, first, n_fail, n_nonfinite, n_finite, n_overflow, n_flushed, n_subnormal;
    double max_abs, max_rel, max_ref, sq, aa, bb, ab;
};
struct compare {
    const struct plan *a, *b;
    const uint32_t *partner;
    double rtol, atol;
    struct sums *slot; /* per thread */
    double *block;     /* 4 OP_BLOCK a thread: a and b, halves of complex values apart */
    struct sums now;   /* of the tensor in turn */
    struct run_diff *out;
};

static enum status start(void *ctx, int n_slots, struct err *e)
{
    struct compare *c = ctx;
    c->slot = mem_zalloc((size_t)n_slots, sizeof *c->slot);
    c->block = mem_zalloc((size_t)n_slots * 4 * OP_BLOCK, sizeof *c->block);
    return c->slot && c->block ? ST_OK : err_nomem(e, (size_t)n_slots * 4 * OP_BLOCK * 8);
}

/* n real values; exact for every type but 64-bit integers */
static void to_double(enum dtype t, const uint8_t *p, double *out, size_t n)
{
    float f[256];
    if (t == DT_F64) {
        memcpy(out, p, n * 8);
        return;
    }
    if (t != DT_F32 && t != DT_F16 && t != DT_BF16) {
        (void)num_cast(t, p, DT_F64, out, n);
        return;
    }
    for (size_t i = 0; i < n; i += 256) {
        size_t k = n - i < 256 ? n - i : 256;
        (void)op_cast(t, p + i * num_bytes(t), DT_F32, f, k);
        for (size_t x = 0; x < k; x++)
            out[i + x] = (double)f[x];
    }
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

/* Equal as numbers, whatever the two types; NaN equals NaN. */
static bool same_number(enum dtype ta, const uint8_t *a, enum dtype tb, const uint8_t *b)
{
    struct num x = num_decode(ta, load(a, num_bytes(ta)));
    struct num y = num_decode(tb, load(b, num_bytes(tb)));
    if (x.cls != y.cls)
        return false;
    if (x.cls == NUM_ZERO || x.cls == NUM_NAN)
        return true;
    return x.neg == y.neg && (x.cls == NUM_INF || (x.exp == y.exp && x.sig == y.sig));
}

static bool is_real_float(enum dtype t)
{
    return dtype_info(t)->kind == DK_FLOAT;
}

static void one_pair(const struct compare *c, struct sums *s, double a, double b, double smallest)
{
    double ref = fabs(b);
    if (!isfinite(a) || !isfinite(b)) {
        bool same = (isnan(a) && isnan(b)) || (isinf(a) && isinf(b) && (a > 0) == (b > 0));
        s->n_nonfinite += !same;
        s->n_overflow += isfinite(b) != 0;
        return;
    }
    double d = fabs(a - b);
    s->n_finite++;
    s->n_flushed += a == 0 && b != 0;
    s->n_subnormal += fabs(a) < smallest && a != 0;
    s->sq += d * d;
    s->aa += a * a;
    s->bb += b * b;
    s->ab += a * b;
    if (d > s->max_abs)
        s->max_abs = d;
    if (ref > s->max_ref)
        s->max_ref = ref;
    if (ref > 0 && d / ref > s->max_rel)
        s->max_rel = d / ref;
    s->n_fail += d > c->atol + c->rtol * ref;
}

static enum status body(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct compare *c = ctx;
    struct sums *s = &c->slot[slot];
    double *x = c->block + (size_t)slot * 4 * OP_BLOCK, *y = x + 2 * OP_BLOCK;
    enum dtype ta = c->a->dst.tensor[b->t].dtype;
    enum dtype tb = c->b->dst.tensor[c->partner[b->job]].dtype;
    enum dtype ha = num_half(ta), hb = num_half(tb);
    size_t na = num_bytes(ha), nb = num_bytes(hb);
    uint64_t halves_a = num_bytes(ta) / na, halves = num_bytes(tb) / nb;
    (void)e;
    memset(s, 0, sizeof *s);
    s->first = UINT64_MAX;
    if (halves_a != halves) { /* a complex and a real tensor share no values */
        s->bits_differ = true;
        s->n_unequal = s->n_nonfinite = b->n;
        s->first = b->lo;
        return ST_OK;
    }
    s->bits_differ = ta != tb || memcmp(b->data[0], b->data[1], b->n * num_bytes(ta)) != 0;
    double smallest = num_smallest(ha);
    bool by_double = is_real_float(ha) && is_real_float(hb);
    for (uint64_t i = 0; i < b->n; i += OP_BLOCK) {
        uint64_t n = b->n - i < OP_BLOCK ? b->n - i : OP_BLOCK;
        const uint8_t *pa = b->data[0] + i * halves * na, *pb = b->data[1] + i * halves * nb;
        to_double(ha, pa, x, n * halves);
        to_double(hb, pb, y, n * halves);
        uint64_t last = UINT64_MAX; /* element counted as unequal already */
        for (uint64_t k = 0; k < n * halves; k++) {
            one_pair(c, s, x[k], y[k], smallest);
            if (!s->bits_differ)
                continue;
            bool same = by_double ? x[k] == y[k] || (isnan(x[k]) && isnan(y[k]))
                                  : same_number(ha, pa + k * na, hb, pb + k * nb);
            if (same || k / halves == last)
                continue;
            last = k / halves;
            s->n_unequal++;
            if (s->first == UINT64_MAX)
                s->first = b->lo + i + last;
        }
    }
    return ST_OK;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void settle(const struct sums *s, struct run_diff *d)
{
    double norm = sqrt(s->aa) * sqrt(s->bb);
    *d = (struct run_diff){.bit_equal = !s->bits_differ,
                           .n_unequal = s->n_unequal,
                           .first = s->n_unequal ? s->first : 0,
                           .max_abs = s->max_abs,
                           .mse = s->n_finite ? s->sq / (double)s->n_finite : 0,
                           .cosine = norm > 0         ? s->ab / norm
                                     : s->aa == s->bb ? 1
                                                      : 0,
                           .max_rel = s->max_rel,
                           .max_ref = s->max_ref,
                           .n_fail = s->n_fail,
                           .n_nonfinite = s->n_nonfinite,
                           .n_overflow = s->n_overflow,
                           .n_flushed = s->n_flushed,
                           .n_subnormal = s->n_subnormal};
}

static enum status commit(void *ctx, const struct slab *b, int slot, struct err *e)
{
    struct compare *c = ctx;
    struct sums *t = &c->now;
    const struct sums *s = &c->slot[slot];
    (void)e;
    if (b->first) {
        memset(t, 0, sizeof *t);
        t->first = UINT64_MAX;
    }
    t->bits_differ |= s->bits_differ;
    t->n_unequal += s->n_unequal;
    if (t->first == UINT64_MAX)
        t->first = s->first;
    t->n_fail += s->n_fail;
    t->n_nonfinite += s->n_nonfinite;
    t->n_finite += s->n_finite;
    t->n_overflow += s->n_overflow;
    t->n_flushed += s->n_flushed;
    t->n_subnormal += s->n_subnormal;
    t->sq += s->sq;
    t->aa += s->aa;
    t->bb += s->bb;
    t->ab += s->ab;
    t->max_abs = larger(t->max_abs, s->max_abs);
    t->max_rel = larger(t->max_rel, s->max_rel);
    t->max_ref = larger(t->max_ref, s->max_ref);
    if (b->last)
        settle(t, &c->out[b->t]);
    return ST_OK;
}

static enum status pairs(const struct plan *a, const struct plan *b, const int64_t *b_of,
                         uint32_t *order, uint32_t *partner, size_t *n, struct err *e)
{
    *n = 0;
    for (size_t i = 0; i < a->dst.n_tensors; i++) {
        const struct tensor *t = &a->dst.tensor[i];
        if (b_of[i] < 0)
            continue;
        if ((uint64_t)b_of[i] >= b->dst.n_tensors)
            return err_set(e, ST_BUG, "run-compare", "no such tensor");
        const struct tensor *u = &b->dst.tensor[b_of[i]];
        if (dtype_is_block(t->dtype) || dtype_is_block(u->dtype))
            return err_set(e, ST_BUG, "run-compare", "blocks that were not unpacked");
        if (t->n_dims != u->n_dims || memcmp(t->dim, u->dim, t->n_dims * sizeof t->dim[0]) != 0)
            return err_set(e, ST_BUG, "run-compare", "shapes differ");
        order[*n] = (uint32_t)i;
        partner[(*n)++] = (uint32_t)b_of[i];
    }
    return ST_OK;
}

enum status run_compare(const struct plan *a, const struct plan *b, const int64_t *b_of,
                        double rtol, double atol, const struct run_opt *o, struct run_diff *out,
                        struct err *e)
{
    struct compare c = {.a = a, .b = b, .rtol = rtol, .atol = atol, .out = out};
    struct sink sink = {.ctx = &c,
                        .slot_bytes = 4 * OP_BLOCK * sizeof(double),
                        .start = start,
                        .body = body,
                        .commit = commit};
    struct feed f = {.plan = {a, b}, .sink = &sink};
    size_t count = a->dst.n_tensors + 1;
    uint32_t *order = mem_zalloc(count, sizeof *order), *partner = mem_zalloc(count, sizeof *order);
    enum status st = order && partner ? ST_OK : err_nomem(e, count * 8);
    if (o)
        f.opt = *o;
    if (st == ST_OK)
        st = pairs(a, b, b_of, order, partner, &f.n, e);
    f.order = order;
    f.partner = c.partner = partner;
    if (st == ST_OK)
        st = feed_run(&f, NULL, e);
    mem_free(order);
    mem_free(partner);
    mem_free(c.slot);
    mem_free(c.block);
    return st;
}
