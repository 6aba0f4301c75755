/* See gather.h.
 *
 * A box with a contiguous innermost axis is copied in runs. Otherwise the axes that are contiguous
 * in the source (all of them together: I,H,W of a convolution kernel) become the columns and the
 * innermost target axis becomes the rows of a 2-D transpose, whose output rows may lie anywhere.
 */
#include "convert/gather.h"
#include "convert/kernel.h"
#include <stdlib.h>
#include <string.h>

void copy_run(uint8_t *dst, const uint8_t *src, size_t n)
{
    if (n >= 256) {
        memcpy(dst, src, n);
        return;
    }
    while (n >= 16) {
        __builtin_memcpy(dst, src, 16);
        dst += 16, src += 16, n -= 16;
    }
    if (n & 8) {
        __builtin_memcpy(dst, src, 8);
        dst += 8, src += 8;
    }
    if (n & 4) {
        __builtin_memcpy(dst, src, 4);
        dst += 4, src += 4;
    }
    if (n & 2) {
        __builtin_memcpy(dst, src, 2);
        dst += 2, src += 2;
    }
    if (n & 1)
        *dst = *src;
}

void box_next(const struct view *v, uint64_t lo, uint64_t hi, bool hull, struct box *b)
{
    uint64_t inner[VIEW_MAX_AXES + 1]; /* elements below axis k */
    uint64_t base = 0;                 /* C-order index of the box being looked into */
    int64_t at = v->offset;
    size_t n = v->n_axes, k = 0;
    inner[n] = 1;
    for (size_t i = n; i-- > 0;)
        inner[i] = inner[i + 1] * v->axis[i].extent;
    for (;; k++) {
        if (k == n) { /* one element */
            *b = (struct box){.offset = at, .lo = base, .hi = base + 1};
            return;
        }
        uint64_t each = inner[k + 1], first = (lo - base) / each, last = (hi - 1 - base) / each;
        bool thick = hull && each <= (hi - lo) / 4;
        if (last > v->axis[k].extent - 1)
            last = v->axis[k].extent - 1;
        if (!thick) {
            if ((lo - base) % each != 0) { /* a part of the first index: look into it */
                at += (int64_t)first * v->axis[k].stride;
                base += first * each;
                if (hi > base + each)
                    hi = base + each;
                continue;
            }
            uint64_t whole = (hi - base) / each;
            if (whole > v->axis[k].extent)
                whole = v->axis[k].extent;
            if (whole <= first) { /* less than one index */
                at += (int64_t)first * v->axis[k].stride;
                base += first * each;
                continue;
            }
            last = whole - 1;
        }
        b->offset = at + (int64_t)first * v->axis[k].stride;
        b->lo = base + first * each;
        b->hi = base + (last + 1) * each;
        b->n_axes = (uint8_t)(n - k);
        memcpy(b->axis, v->axis + k, (n - k) * sizeof b->axis[0]);
        b->axis[0].extent = last - first + 1;
        return;
    }
}

/* An axis of a copy, in bytes on both sides. */
struct step {
    uint64_t extent;
    int64_t src, dst;
};

static void copy_rows(const struct step *outer, size_t n_outer, const struct step *in,
                      const uint8_t *src, size_t size, uint8_t *dst)
{
    uint64_t at[VIEW_MAX_AXES] = {0};
    bool run = in->src == (int64_t)size;
    for (;;) {
        if (run) {
            copy_run(dst, src, in->extent * size);
        } else {
            const uint8_t *s = src;
            uint8_t *d = dst;
            for (uint64_t i = 0; i < in->extent; i++, s += in->src, d += size) {
                switch (size) {
                case 1:
                    *d = *s;
                    break;
                case 2:
                    __builtin_memcpy(d, s, 2);
                    break;
                case 4:
                    __builtin_memcpy(d, s, 4);
                    break;
                case 8:
                    __builtin_memcpy(d, s, 8);
                    break;
                default:
                    __builtin_memcpy(d, s, 16);
                }
            }
        }
        size_t k = n_outer;
        for (; k > 0; k--) {
            const struct step *o = &outer[k - 1];
            src += o->src;
            dst += o->dst;
            if (++at[k - 1] < o->extent)
                break;
            src -= (int64_t)o->extent * o->src;
            dst -= (int64_t)o->extent * o->dst;
            at[k - 1] = 0;
        }
        if (k == 0)
            return;
    }
}

#define COLS 256

/* Columns are all combinations of col[0..n_col) in source order (col[0] the fastest). */
static void transpose(const struct step *col, size_t n_col, const struct step *rows,
                      const uint8_t *src, size_t size, uint8_t *dst, kernel_transpose *fn)
{
    uint8_t *row[COLS];
    uint64_t total = 1, at[VIEW_MAX_AXES] = {0};
    for (size_t i = 0; i < n_col; i++)
        total *= col[i].extent;
    for (uint64_t c = 0; c < total;) {
        size_t n = total - c < COLS ? (size_t)(total - c) : COLS;
        for (size_t i = 0; i < n; i++) {
            row[i] = dst;
            for (size_t k = 0; k < n_col; k++) {
                dst += col[k].dst;
                if (++at[k] < col[k].extent)
                    break;
                dst -= (int64_t)col[k].extent * col[k].dst;
                at[k] = 0;
            }
        }
        fn(row, src + c * size, rows->src, rows->extent, n);
        c += n;
    }
}

static kernel_transpose *transpose_of(size_t size)
{
    const struct kernel *k = kernel();
    switch (size) {
    case 1:
        return k->transpose1;
    case 2:
        return k->transpose2;
    case 4:
        return k->transpose4;
    case 8:
        return k->transpose8;
    default:
        return NULL;
    }
}

/* Takes the axes contiguous in the source out of s[0..*n) into col, fastest first; flipped axes
 * are turned round. Returns how many. */
static size_t take_columns(struct step *s, size_t *n, size_t size, struct step *col,
                           const uint8_t **src, uint8_t **dst)
{
    uint64_t want = size;
    size_t n_col = 0;
    for (bool found = true; found;) {
        found = false;
        for (size_t i = 0; i < *n && !found; i++) {
            if ((uint64_t)llabs(s[i].src) != want)
                continue;
            found = true;
            if (s[i].src < 0) {
                *src += (int64_t)(s[i].extent - 1) * s[i].src;
                *dst += (int64_t)(s[i].extent - 1) * s[i].dst;
                s[i].src = -s[i].src;
                s[i].dst = -s[i].dst;
            }
            want *= s[i].extent;
            col[n_col++] = s[i];
            memmove(s + i, s + i + 1, (*n - i - 1) * sizeof *s);
            (*n)--;
        }
    }
    return n_col;
}

static void gather_box(const struct box *b, const uint8_t *origin, size_t size, uint8_t *dst)
{
    struct step s[VIEW_MAX_AXES], col[VIEW_MAX_AXES], in = {1, (int64_t)size, (int64_t)size};
    size_t n = 0;
    int64_t step = (int64_t)size;
    const uint8_t *src = origin + b->offset * (int64_t)size;
    for (size_t i = b->n_axes; i-- > 0;) {
        struct step x = {b->axis[i].extent, b->axis[i].stride * (int64_t)size, step};
        step *= (int64_t)b->axis[i].extent;
        if (x.extent > 1)
            s[n++] = x; /* innermost first for now */
    }
    if (n > 0) {
        in = s[0];
        for (size_t i = 0; i + 1 < n; i++)
            s[i] = s[i + 1];
        n--;
    }
    for (size_t i = 0; i < n / 2; i++) {
        struct step t = s[i];
        s[i] = s[n - 1 - i];
        s[n - 1 - i] = t;
    }
    kernel_transpose *fn = in.src == (int64_t)size ? NULL : transpose_of(size);
    size_t n_col = fn ? take_columns(s, &n, size, col, &src, &dst) : 0;
    if (n_col == 0) {
        copy_rows(s, n, &in, src, size, dst);
        return;
    }
    uint64_t at[VIEW_MAX_AXES] = {0};
    for (;;) {
        transpose(col, n_col, &in, src, size, dst, fn);
        size_t k = n;
        for (; k > 0; k--) {
            src += s[k - 1].src;
            dst += s[k - 1].dst;
            if (++at[k - 1] < s[k - 1].extent)
                break;
            src -= (int64_t)s[k - 1].extent * s[k - 1].src;
            dst -= (int64_t)s[k - 1].extent * s[k - 1].dst;
            at[k - 1] = 0;
        }
        if (k == 0)
            return;
    }
}

/* A plain matrix transpose, v being columns of stride 1 by rows. The first and the last output row
 * may be partial: the source rows are cut into at most three stretches in which the columns wanted
 * stay the same, so that no column is walked alone. */
struct turn {
    size_t from, to; /* bytes of an element */
    kernel_transpose *move;
    kernel_transpose_cast *cast; /* where move is NULL */
};
static bool gather_matrix(const struct view *v, uint64_t lo, uint64_t hi, const uint8_t *origin,
                          uint8_t *dst, const struct turn *t)
{
    bool over = false;
    uint64_t n_rows = v->axis[1].extent, c0 = lo / n_rows, c1 = (hi - 1) / n_rows;
    uint64_t from = lo % n_rows, to = (hi - 1) % n_rows + 1;
    uint64_t cut[4] = {0, from < to ? from : to, from < to ? to : from, n_rows};
    int64_t stride = v->axis[1].stride * (int64_t)t->from;
    for (int i = 0; i < 3; i++) {
        uint64_t r0 = cut[i], r1 = cut[i + 1], a = c0 + (r0 < from), b = c1 + (r1 <= to);
        uint8_t *row[COLS];
        for (uint64_t c = a; c < b && r0 < r1; c += COLS) {
            size_t n = b - c < COLS ? (size_t)(b - c) : COLS;
            for (size_t k = 0; k < n; k++) /* never before dst: from <= r0 where c is c0 */
                row[k] = dst + ((c + k) * n_rows + r0 - lo) * t->to;
            const uint8_t *src =
                origin + (v->offset + (int64_t)c) * (int64_t)t->from + (int64_t)r0 * stride;
            if (t->move)
                t->move(row, src, stride, r1 - r0, n);
            else
                over |= t->cast(row, src, stride, r1 - r0, n);
        }
    }
    return over;
}

static bool is_matrix(const struct view *v)
{
    return v->n_axes == 2 && v->axis[0].stride == 1 && v->axis[1].stride != 1;
}

bool gather_bf16(const struct view *v, uint64_t lo, uint64_t hi, const uint8_t *origin,
                 uint8_t *dst, bool *over)
{
    struct turn t = {4, 2, NULL, kernel()->transpose_bf16};
    if (!is_matrix(v) || lo >= hi)
        return false;
    *over = gather_matrix(v, lo, hi, origin, dst, &t);
    return true;
}

void gather(const struct view *v, uint64_t lo, uint64_t hi, const uint8_t *origin, size_t size,
            uint8_t *dst)
{
    struct box b;
    kernel_transpose *fn = transpose_of(size);
    if (fn && is_matrix(v) && lo < hi) {
        struct turn t = {size, size, fn, NULL};
        (void)gather_matrix(v, lo, hi, origin, dst, &t);
        return;
    }
    for (uint64_t at = lo; at < hi; at = b.hi) {
        box_next(v, at, hi, false, &b);
        gather_box(&b, origin, size, dst + (at - lo) * size);
    }
}
