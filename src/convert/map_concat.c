/* Channels put side by side: what several layers give becomes one map, whose width no layer has.
 * A norm or a dense layer over such a width reads no flattened map. Two things tell, both by names
 * that pair and widths that fit exactly:
 *   - blocks that norm before they convolve: in a block each norm has a convolution of its number
 *     that reads as many channels (norm1, conv1, norm2, conv2);
 *   - numbered blocks that each read what the one before read and gave together (DenseNet): the
 *     last one's sum is what comes out.
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <stdlib.h>

struct unit { /* a norm or a convolution of a block */
    struct str block;
    uint64_t number; /* after its name; UINT64_MAX: none */
    uint64_t in, out;
    uint32_t layer;
    bool norm;
};
struct block { /* its norms are all paired */
    struct str list;
    uint64_t number;
    uint64_t in, out;
};
struct sum {
    struct str list; /* "features.denseblock4": the blocks' parent */
    uint64_t n;
};
struct concat {
    struct unit *unit;
    size_t n_units;
    struct sum *sum;
    size_t n_sums;
    bool *paired; /* per layer */
};

/* 2 of "conv2"; UINT64_MAX where there is none. */
static uint64_t number_after(struct str seg)
{
    size_t n = seg.n;
    uint64_t v;
    while (n > 0 && seg.p[n - 1] >= '0' && seg.p[n - 1] <= '9')
        n--;
    return str_u64(str_sub(seg, n, seg.n), &v) ? v : UINT64_MAX;
}

static int by_block(const void *px, const void *py)
{
    const struct unit *x = px, *y = py;
    int c = str_cmp(x->block, y->block);
    if (c != 0)
        return c;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    if (x->norm != y->norm)
        return x->norm ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static int by_list(const void *px, const void *py)
{
    const struct block *x = px, *y = py;
    int c = str_cmp(x->list, y->list);
    return c ? c : (x->number > y->number) - (x->number < y->number);
}

static uint64_t norm_width(const struct mapping *m, const struct layer *l)
{
    enum leaf lf = l->tensor[LEAF_WEIGHT] >= 0 ? LEAF_WEIGHT : LEAF_MEAN;
    return map_extent(m, l, l->kind, lf, 'F');
}

static void collect(const struct mapping *m, struct concat *x)
{
    for (size_t i = 0; i < m->sl.n; i++) {
        const struct layer *l = &m->sl.layer[i];
        bool norm = l->kind == LAYER_BATCHNORM || l->kind == LAYER_LAYERNORM;
        struct unit p = {.layer = (uint32_t)i, .norm = norm};
        struct str seg;
        if (!norm && l->kind != LAYER_CONV)
            continue;
        name_tail(l->path, &p.block, &seg);
        if (str_u64(seg, &p.number))
            continue; /* a place in a sequence pairs with nothing */
        p.number = number_after(seg);
        p.in = norm ? norm_width(m, l) : map_extent(m, l, l->kind, LEAF_WEIGHT, 'I');
        p.out = norm ? p.in : map_extent(m, l, l->kind, LEAF_WEIGHT, 'O');
        x->unit[x->n_units++] = p;
    }
    if (x->n_units)
        qsort(x->unit, x->n_units, sizeof *x->unit, by_block);
}

/* Norm and convolution by turns, each pair of one number and width? Of a block [lo, hi). */
static bool pairs(const struct unit *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        if (!p[i].norm || p[i + 1].norm || p[i].number != p[i + 1].number ||
            p[i].in != p[i + 1].in || p[i].in == 0)
            return false;
    return n > 0 && n % 2 == 0;
}

/* Of the blocks of one list, in order: does each read what the one before read and gave? */
static bool grows(const struct block *b, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (b[i].number != b[i - 1].number + 1 || b[i].in != b[i - 1].in + b[i - 1].out)
            return false;
    return n > 2; /* two sums at least: one alone may be chance */
}

static enum status learn(struct mapping *m, struct concat *x, struct err *e)
{
    size_t n_blocks = 0;
    struct block *b = ARENA_ARRAY(m->tmp, struct block, m->sl.n + 1);
    x->unit = ARENA_ARRAY(m->tmp, struct unit, m->sl.n + 1);
    x->sum = ARENA_ARRAY(m->tmp, struct sum, m->sl.n + 1);
    x->paired = ARENA_ARRAY(m->tmp, bool, m->sl.n + 1);
    if (!b || !x->unit || !x->sum || !x->paired)
        return err_nomem(e, m->sl.n * sizeof *b);
    collect(m, x);
    for (size_t lo = 0, hi; lo < x->n_units; lo = hi) {
        for (hi = lo; hi < x->n_units && str_eq(x->unit[hi].block, x->unit[lo].block); hi++)
            ;
        if (!pairs(&x->unit[lo], hi - lo))
            continue;
        for (size_t i = lo; i < hi; i += 2)
            x->paired[x->unit[i].layer] = true;
        struct block k = {.in = x->unit[lo].in, .out = x->unit[hi - 1].out};
        struct str seg;
        name_tail(x->unit[lo].block, &k.list, &seg);
        k.number = number_after(seg);
        if (k.number != UINT64_MAX)
            b[n_blocks++] = k;
    }
    if (n_blocks)
        qsort(b, n_blocks, sizeof *b, by_list);
    for (size_t lo = 0, hi; lo < n_blocks; lo = hi) {
        for (hi = lo; hi < n_blocks && str_eq(b[hi].list, b[lo].list); hi++)
            ;
        if (grows(&b[lo], hi - lo))
            x->sum[x->n_sums++] = (struct sum){b[lo].list, b[hi - 1].in + b[hi - 1].out};
    }
    return ST_OK;
}

enum status map_concat_learn(struct mapping *m, struct err *e)
{
    m->concat = ARENA_NEW(m->tmp, struct concat);
    if (!m->concat)
        return err_nomem(e, sizeof *m->concat);
    return learn(m, m->concat, e);
}

bool map_concat(const struct mapping *m, const struct layer *l, uint64_t n)
{
    const struct concat *x = m->concat;
    struct str block, seg;
    if (x->paired[l - m->sl.layer])
        return true;
    name_tail(l->path, &block, &seg);
    for (size_t i = 0; i < x->n_sums; i++) {
        /* behind the blocks: a norm beside them, a dense layer anywhere */
        struct str up;
        name_tail(x->sum[i].list, &up, &seg);
        if (x->sum[i].n == n && (l->kind == LAYER_LINEAR || str_eq(up, block)))
            return true;
    }
    return false;
}
