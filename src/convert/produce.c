/* See produce.h. */
#include "convert/produce.h"
#include "base/mem.h"
#include "convert/number.h"
#include "convert/op.h"
#include <string.h>

#define CACHE_BYTES ((uint64_t)1 << 20)
#define CACHE_COLS 256 /* bytes of a source row taken at a time */

/* An extent or a place along axis d, in units. */
static uint64_t along(const struct tensor *t, size_t d, uint64_t x)
{
    return d + 1 == t->n_dims ? dtype_units(t->dtype, x) : x;
}

static void place_part(struct made_part *q, const struct part *p, const struct tensor *dst)
{
    uint64_t step = 1;
    bool whole = true; /* the axes below are covered completely */
    q->p = p;
    q->op = part_unpacks(p) ? p->op + 1 : p->op;
    q->n_ops = part_unpacks(p) ? p->n_ops - 1 : p->n_ops;
    q->packs = q->n_ops > 0 && dtype_is_block(dst->dtype);
    q->n_units = q->run = 1;
    for (size_t d = dst->n_dims; d-- > 0;) {
        uint64_t extent = along(dst, d, p->hi[d] - p->lo[d]), all = along(dst, d, dst->dim[d]);
        q->n_units *= extent;
        q->base += along(dst, d, p->lo[d]) * step;
        step *= all;
        if (whole)
            q->run *= extent;
        whole = whole && extent == all;
    }
    /* axes of extent 1 above do not break a run */
    if (q->run == 0)
        q->run = 1;
}

enum status side_make(struct side *sd, const struct plan *p, const struct tensor *dst,
                      const struct recipe *r, const struct sources *x, struct err *e)
{
    size_t n_inputs = 0;
    memset(sd, 0, sizeof *sd);
    sd->dst = dst;
    for (size_t i = 0; i < r->n_parts; i++) {
        if (r->part[i].src < 0)
            continue;
        n_inputs++;
        for (size_t k = 0; k < r->part[i].n_ops; k++)
            n_inputs += op_reads(&r->part[i].op[k]);
    }
    sd->part = mem_zalloc(r->n_parts + 1, sizeof *sd->part);
    sd->input = mem_zalloc(n_inputs + 1, sizeof *sd->input);
    if (!sd->part || !sd->input)
        return err_nomem(e, n_inputs * sizeof *sd->input);
    sd->n_parts = r->n_parts;
    for (size_t i = 0; i < r->n_parts; i++) {
        struct made_part *q = &sd->part[i];
        const struct part *part = &r->part[i];
        place_part(q, part, dst);
        q->first_in = sd->n_inputs;
        if (part->src >= 0) {
            input_init(&sd->input[sd->n_inputs++], p->src, part->view, (uint32_t)part->src,
                       part_unpacks(part), x);
            for (size_t k = 0; k < part->n_ops; k++)
                if (op_reads(&part->op[k]))
                    input_init(&sd->input[sd->n_inputs++], p->src, part->op[k].view,
                               part->op[k].operand, false, x);
        }
        q->n_in = sd->n_inputs - q->first_in;
    }
    return ST_OK;
}

void side_free(struct side *sd)
{
    mem_free(sd->part);
    mem_free(sd->input);
    memset(sd, 0, sizeof *sd);
}

/* Target index of the part's run number r. */
static uint64_t run_start(const struct side *sd, const struct made_part *q, uint64_t r)
{
    const struct tensor *t = sd->dst;
    uint64_t at = q->base, step = 1, p = r * q->run;
    for (size_t d = t->n_dims; d-- > 0;) {
        uint64_t extent = along(t, d, q->p->hi[d] - q->p->lo[d]);
        at += p % extent * step;
        p /= extent;
        step *= along(t, d, t->dim[d]);
    }
    return at;
}

uint64_t part_floor(const struct side *sd, const struct made_part *q, uint64_t x)
{
    uint64_t lo = 0, hi = q->n_units / q->run; /* runs [0, lo) start below x */
    if (q->n_units == 0 || x <= q->base)
        return 0;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (run_start(sd, q, mid) < x)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return 0;
    uint64_t in = x - run_start(sd, q, lo - 1);
    return (lo - 1) * q->run + (in < q->run ? in : q->run);
}

void part_elems(const struct side *sd, const struct made_part *q, uint64_t *p0, uint64_t *p1)
{
    const struct dtype_info *d = dtype_info(sd->dst->dtype);
    if (!q->packs)
        return;
    *p0 = *p0 / d->block_bytes * d->block_elems;
    *p1 = (*p1 + d->block_bytes - 1) / d->block_bytes * d->block_elems;
}

/* Units [p0, p1) of the part, dense at src, to their places; dst is target index lo. */
static void scatter(const struct side *sd, const struct made_part *q, uint64_t p0, uint64_t p1,
                    const uint8_t *src, uint8_t *dst, uint64_t lo, size_t size)
{
    while (p0 < p1) {
        uint64_t r = p0 / q->run, in = p0 % q->run, n = q->run - in;
        if (n > p1 - p0)
            n = p1 - p0;
        copy_run(dst + (run_start(sd, q, r) + in - lo) * size, src, n * size);
        src += n * size;
        p0 += n;
    }
}

static void fill(const struct side *sd, const struct made_part *q, uint64_t p0, uint64_t p1,
                 uint8_t *dst, uint64_t lo, size_t size)
{
    while (p0 < p1) {
        uint64_t r = p0 / q->run, in = p0 % q->run, n = q->run - in;
        if (n > p1 - p0)
            n = p1 - p0;
        uint8_t *d = dst + (run_start(sd, q, r) + in - lo) * size;
        for (uint64_t i = 0; i < n; i++, d += size)
            memcpy(d, q->p->fill, size);
        p0 += n;
    }
}

static enum status overflow(const struct op *op, enum dtype from, uint64_t at, struct err *e)
{
    return err_set(e, ST_CANNOT, "overflow",
                   "element %llu of a part, %s, has no place in %s: see --allow-overflow",
                   (unsigned long long)at, dtype_info(from)->name,
                   dtype_info(op->kind == OP_CAST ? op->to : from)->name);
}

/* The chain on one block; the last op writes to out. Returns where the result lies. */
static enum status run_ops(struct side *sd, const struct made_part *q, uint64_t p0, uint64_t n,
                           const uint8_t *src, uint8_t *out, struct scratch *sc,
                           struct feed_counts *c, struct err *e)
{
    enum dtype now = sd->input[q->first_in].dtype;
    size_t operand = q->first_in + 1;
    for (size_t k = 0; k < q->n_ops; k++) {
        const struct op *op = &q->op[k];
        const uint8_t *with = NULL;
        uint8_t *to = k + 1 == q->n_ops ? out : sc->block[k % 2];
        enum dtype next;
        size_t bad;
        if (op_reads(op))
            TRY(input_get(&sd->input[operand++], p0, n, sc->operand, sc, c, &with, e));
        op_apply(op, now, src, with, to, n, &next, &bad);
        if (bad < n)
            return overflow(op, now, p0 + bad, e);
        now = next;
        src = to;
    }
    return ST_OK;
}

/* Where a strided range is best cut so that gathered and computed elements stay in the second-level
 * cache: whole cache lines of source columns of a transposed matrix. */
static uint64_t cache_end(const struct input *in, uint64_t p0, uint64_t p1)
{
    if (in->v.n_axes != 2 || in->v.axis[0].stride != 1)
        return p1;
    uint64_t step = in->v.axis[1].extent * (CACHE_COLS / in->size);
    uint64_t end = p0 / step * step + step;
    return step * in->size <= CACHE_BYTES && end < p1 ? end : p1;
}

/* A transpose with a cast to bf16 and nothing else, out of memory: one pass. False when it is not
 * such, or when a value overflowed and somebody wants to know which. */
static bool turn_and_cast(const struct input *in, const struct made_part *q, uint64_t p0,
                          uint64_t p1, uint8_t *dst)
{
    const struct op *op = q->op;
    bool over;
    return q->n_ops == 1 && op->kind == OP_CAST && op->to == DT_BF16 && in->dtype == DT_F32 &&
           in->kind == IN_MEMORY && in->swap == 0 &&
           gather_bf16(&in->v, p0, p1, in->origin, dst, &over) && (!over || op->allow_overflow);
}

static enum status make_range(struct side *sd, const struct made_part *q, uint64_t p0, uint64_t p1,
                              uint8_t *dst, uint64_t lo, struct scratch *sc, struct feed_counts *c,
                              struct err *e)
{
    size_t size = num_bytes(sd->dst->dtype);
    struct input *in = &sd->input[q->first_in];
    uint64_t r0 = p0 / q->run, r1 = (p1 - 1) / q->run;
    uint64_t d0 = run_start(sd, q, r0) + p0 % q->run - lo;
    uint64_t d1 = run_start(sd, q, r1) + (p1 - 1) % q->run - lo;
    uint8_t *direct = d1 - d0 == p1 - 1 - p0 ? dst + d0 * size : NULL; /* it lies together */
    const uint8_t *whole = NULL; /* all of [p0, p1), native, where it came in one piece */
    const uint8_t *got;
    if (direct && turn_and_cast(in, q, p0, p1, direct))
        return ST_OK;
    if (!in->packed && (!in->contiguous || in->kind == IN_TILES || q->n_ops == 0)) {
        uint8_t *to = direct && q->n_ops == 0 ? direct : sc->raw;
        TRY(input_get(in, p0, p1 - p0, to, sc, c, &whole, e));
        if (q->n_ops == 0) {
            if (!direct)
                scatter(sd, q, p0, p1, whole, dst, lo, size);
            else if (whole != direct)
                memcpy(direct, whole, (p1 - p0) * size);
            return ST_OK;
        }
    }
    for (uint64_t p = p0; p < p1; p += OP_BLOCK) {
        uint64_t n = p1 - p < OP_BLOCK ? p1 - p : OP_BLOCK;
        uint8_t *out = direct ? direct + (p - p0) * size : sc->block[(q->n_ops + 1) % 2];
        if (whole)
            got = whole + (p - p0) * in->size;
        else
            TRY(input_get(in, p, n, sc->raw, sc, c, &got, e));
        if (q->n_ops > 0)
            TRY(run_ops(sd, q, p, n, got, out, sc, c, e));
        else
            memcpy(out, got, n * size);
        if (!direct)
            scatter(sd, q, p, p + n, out, dst, lo, size);
    }
    return ST_OK;
}

/* Units [p0, p1) of a part that packs: its blocks are made whole, those that the range cuts too. */
static enum status pack_range(struct side *sd, const struct made_part *q, uint64_t p0, uint64_t p1,
                              uint8_t *dst, uint64_t lo, struct scratch *sc, struct feed_counts *c,
                              struct err *e)
{
    struct input *in = &sd->input[q->first_in];
    uint64_t x0 = p0, x1 = p1, most = OP_BLOCK / 2;
    part_elems(sd, q, &x0, &x1);
    for (uint64_t x = x0; x < x1; x += most) {
        uint64_t n = x1 - x < most ? x1 - x : most;
        uint64_t u0 = dtype_units(sd->dst->dtype, x), u1 = dtype_units(sd->dst->dtype, x + n);
        uint64_t cut0 = u0 > p0 ? u0 : p0, cut1 = u1 < p1 ? u1 : p1;
        uint8_t *out = sc->block[(q->n_ops + 1) % 2];
        const uint8_t *got;
        TRY(input_get(in, x, n, sc->raw, sc, c, &got, e));
        TRY(run_ops(sd, q, x, n, got, out, sc, c, e));
        scatter(sd, q, cut0, cut1, out + (cut0 - u0), dst, lo, 1);
    }
    return ST_OK;
}

static enum status make_part(struct side *sd, const struct made_part *q, uint64_t p0, uint64_t p1,
                             uint8_t *dst, uint64_t lo, struct scratch *sc, struct feed_counts *c,
                             struct err *e)
{
    if (q->p->src < 0) {
        fill(sd, q, p0, p1, dst, lo, num_bytes(sd->dst->dtype));
        return ST_OK;
    }
    const struct input *in = &sd->input[q->first_in];
    if (q->packs)
        return pack_range(sd, q, p0, p1, dst, lo, sc, c, e);
    for (uint64_t end; p0 < p1; p0 = end) {
        end = q->n_ops > 0 && !in->contiguous ? cache_end(in, p0, p1) : p1;
        TRY(make_range(sd, q, p0, end, dst, lo, sc, c, e));
    }
    return ST_OK;
}

enum status side_produce(struct side *sd, uint64_t lo, uint64_t n, uint8_t *dst, struct scratch *sc,
                         struct feed_counts *c, struct err *e)
{
    for (size_t i = 0; i < sd->n_parts && n > 0; i++) {
        const struct made_part *q = &sd->part[i];
        uint64_t p0 = part_floor(sd, q, lo), p1 = part_floor(sd, q, lo + n);
        if (p0 < p1)
            TRY(make_part(sd, q, p0, p1, dst, lo, sc, c, e));
    }
    return ST_OK;
}
