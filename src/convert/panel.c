/* Panels: strided ranges of a file or spool, fetched by rows into memory so that every byte is
 * read about once however the target's order runs. See input.h.
 */
#include "convert/input.h"
#include <string.h>

#define PAGE 4096
#define SPAN_BYTES 512 /* innermost strides up to this are read through, gaps and all */

static uint64_t size_of(int64_t stride)
{
    return stride < 0 ? (uint64_t)0 - (uint64_t)stride : (uint64_t)stride;
}

/* One box: its axes sorted by stride give rows; the view on the panel keeps their C order. */
static void place(struct piece_box *q, const struct box *b, size_t size, uint64_t *at)
{
    size_t order[VIEW_MAX_AXES], n = 0;
    int64_t low = b->offset;
    memset(q, 0, sizeof *q);
    q->lo = b->lo;
    q->hi = b->hi;
    q->at = *at;
    for (size_t i = 0; i < b->n_axes; i++) {
        const struct axis *a = &b->axis[i];
        if (a->stride < 0)
            low += (int64_t)(a->extent - 1) * a->stride;
        if (a->extent <= 1 || a->stride == 0)
            continue;
        size_t k = n++;
        for (; k > 0 && size_of(b->axis[order[k - 1]].stride) < size_of(a->stride); k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    /* the run: axes that continue each other from stride 1 up, or one dense enough to read through
     */
    int64_t stride[VIEW_MAX_AXES] = {0}; /* on the panel, in elements */
    uint64_t run = 1;
    while (n > 0) {
        const struct axis *a = &b->axis[order[n - 1]];
        uint64_t s = size_of(a->stride);
        bool through = run == 1 && s * size <= SPAN_BYTES;
        if (s != run && !through)
            break;
        stride[order[n - 1]] = (int64_t)s;
        run = (a->extent - 1) * s + run;
        n--;
    }
    q->run_bytes = q->pitch_bytes = run * size;
    q->first_byte = low * (int64_t)size;
    q->n_rows = 1;
    q->n_axes = (uint8_t)n;
    if (n > 0 && q->pitch_bytes % PAGE == 0)
        q->pitch_bytes += 64; /* rows a page apart would fall into the same cache sets */
    uint64_t step = q->pitch_bytes / size;
    for (size_t k = n; k-- > 0;) {
        const struct axis *a = &b->axis[order[k]];
        q->axis[k] = (struct axis){a->extent, (int64_t)(size_of(a->stride) * size)};
        stride[order[k]] = (int64_t)step;
        step *= a->extent;
        q->n_rows *= a->extent;
    }
    q->v.n_axes = q->v.n_dims = b->n_axes;
    for (size_t i = 0; i < b->n_axes; i++) {
        bool back = b->axis[i].stride < 0;
        q->v.group_end[i] = (uint8_t)(i + 1);
        q->v.axis[i] = (struct axis){b->axis[i].extent, back ? -stride[i] : stride[i]};
        if (back)
            q->v.offset += (int64_t)(b->axis[i].extent - 1) * stride[i];
    }
    *at += (q->n_rows * q->pitch_bytes + 63) / 64 * 64;
}

void panel_cut(struct input *in, uint64_t p0, uint64_t p1, uint64_t *at)
{
    struct box b;
    in->n_pieces = 0;
    for (uint64_t p = p0; p < p1 && in->n_pieces < MAX_PIECES; p = b.hi) {
        box_next(&in->v, p, p1, true, &b);
        place(&in->piece[in->n_pieces++], &b, in->size, at);
    }
}

static uint64_t row_byte(const struct piece_box *q, uint64_t r)
{
    uint64_t at = (uint64_t)q->first_byte;
    for (size_t k = q->n_axes; k-- > 0;) {
        at += r % q->axis[k].extent * (uint64_t)q->axis[k].stride;
        r /= q->axis[k].extent;
    }
    return at;
}

static enum status read_raw(const struct input *in, void *dst, uint64_t n, uint64_t off,
                            struct feed_counts *c, struct err *e)
{
    c->bytes_fetched += n;
    if (in->res->spool)
        return spool_pread(in->res->spool, dst, n, off, e);
    return file_pread(in->s->file, dst, n, in->s->offset + off, e);
}

/* Rows closer than this are read in one go. */
static bool dense(const struct piece_box *q)
{
    uint64_t step = q->n_axes ? (uint64_t)q->axis[q->n_axes - 1].stride : 0;
    return q->n_axes && step >= q->run_bytes && step <= STAGE_BYTES / 2 &&
           (step <= PAGE || step <= 2 * q->run_bytes);
}

enum status panel_fetch(const struct input *in, const struct piece_box *q, uint64_t r0, uint64_t r1,
                        uint8_t *panel, uint8_t *stage, struct feed_counts *c, struct err *e)
{
    uint64_t inner = q->n_axes ? q->axis[q->n_axes - 1].extent : 1;
    uint64_t step = q->n_axes ? (uint64_t)q->axis[q->n_axes - 1].stride : q->run_bytes;
    bool together = dense(q);
    for (uint64_t r = r0; r < r1;) {
        uint8_t *dst = panel + q->at + r * q->pitch_bytes;
        uint64_t off = row_byte(q, r);
        if (!together) {
            TRY(read_raw(in, dst, q->run_bytes, off, c, e));
            r++;
            continue;
        }
        uint64_t n = inner - r % inner;
        if (n > r1 - r)
            n = r1 - r;
        if (n > (STAGE_BYTES - q->run_bytes) / step + 1)
            n = (STAGE_BYTES - q->run_bytes) / step + 1;
        TRY(read_raw(in, stage, (n - 1) * step + q->run_bytes, off, c, e));
        for (uint64_t i = 0; i < n; i++)
            copy_run(dst + i * q->pitch_bytes, stage + i * step, q->run_bytes);
        r += n;
    }
    return ST_OK;
}

uint64_t panel_cost(const struct piece_box *q)
{
    if (q->n_axes == 0)
        return q->run_bytes;
    uint64_t step = (uint64_t)q->axis[q->n_axes - 1].stride;
    uint64_t run = dense(q) ? step : (q->run_bytes + 2 * PAGE - 2) / PAGE * PAGE;
    if (run > step && step >= q->run_bytes)
        run = step;
    return q->n_rows * run;
}
