/* How many axes the input of a batch norm or a PReLU has. Most frameworks hold vectors and do not
 * say; one that keeps axes of extent 1 beside the channels must know. The layer directly before
 * tells where numbers order the layers; else all layers whose channels the norm may have must
 * agree: convolutions that give or read as many, or, in a model without sequences, dense layers
 * that give as many. Nothing is told by a norm that fits none, or several kinds.
 */
#include "convert/map_int.h"
#include <stdlib.h>

bool map_needs_rank(const struct spelling_rules *r, const struct layer *l)
{
    enum leaf lf = l->kind == LAYER_PRELU ? LEAF_WEIGHT : LEAF_MEAN;
    uint8_t form = l->kind == LAYER_PRELU ? rules_variant(l) : 0;
    if ((l->kind != LAYER_BATCHNORM && l->kind != LAYER_PRELU) || l->tensor[lf] < 0)
        return false;
    return !rules_find(r, l->kind, 0, form, lf) && rules_find(r, l->kind, 1, form, lf);
}

static bool is_conv(const struct layer *l)
{
    return l->kind == LAYER_CONV || l->kind == LAYER_CONV_TRANSPOSE || l->kind == LAYER_CONV_LOCAL;
}

/* Axes before the channels of what a layer gives; 0 = not told. */
static uint8_t axes_of(const struct layer *l, bool sequences)
{
    return is_conv(l) ? (uint8_t)(l->rank + 1) : l->kind == LAYER_LINEAR && !sequences ? 1 : 0;
}

struct rank { /* what all layers beside norms of one width agree upon */
    uint64_t n;
    uint32_t layer;
    uint8_t rank;
};

static int by_width(const void *px, const void *py)
{
    const struct rank *x = px, *y = py;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static uint8_t agreed(const struct mapping *m, uint64_t n, bool sequences, uint32_t *room)
{
    uint8_t convs = 0, others = 0;
    size_t k = map_beside(m, n, room);
    for (size_t i = 0; i < k; i++) {
        const struct layer *o = &m->sl.layer[room[i]];
        uint8_t axes = axes_of(o, sequences), *seen = is_conv(o) ? &convs : &others;
        if (!axes || (*seen && *seen != axes))
            return 0;
        *seen = axes;
    }
    return convs && others ? 0 : convs ? convs : others;
}

static bool by_place(const struct mapping *m, struct layer *l, uint64_t n, bool sequences)
{
    const struct layer *prev, *conv;
    bool any = l->kind == LAYER_PRELU && l->form == FORM_ONE; /* one slope has no width */
    if (!map_before(m, l, &prev, &conv) || !prev || !(any || map_gives(m, prev, n)) ||
        !axes_of(prev, sequences))
        return false;
    l->rank = axes_of(prev, sequences);
    return true;
}

enum status map_rank(struct mapping *m, struct err *e)
{
    bool sequences = false;
    size_t n = m->sl.n, k = 0;
    struct rank *r = ARENA_ARRAY(m->tmp, struct rank, n + 1);
    uint32_t *room = ARENA_ARRAY(m->tmp, uint32_t, 6 * n + 1);
    if (!r || !room)
        return err_nomem(e, n * sizeof *r);
    for (size_t i = 0; i < n; i++) {
        enum layer_kind kind = m->sl.layer[i].kind;
        sequences =
            sequences || kind == LAYER_EMBEDDING || kind == LAYER_ATTENTION || kind == LAYER_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        struct layer *l = &m->sl.layer[i];
        if (l->rank || !map_needs_rank(m->to->rules, l))
            continue;
        bool slope = l->kind == LAYER_PRELU;
        uint64_t width = slope ? map_extent(m, l, LAYER_PRELU, LEAF_WEIGHT, 'O')
                               : map_extent(m, l, LAYER_BATCHNORM, LEAF_MEAN, 'F');
        if (!by_place(m, l, width, sequences) && !(slope && l->form == FORM_ONE))
            r[k++] = (struct rank){.n = width, .layer = (uint32_t)i};
    }
    if (k)
        qsort(r, k, sizeof *r, by_width);
    for (size_t i = 0; i < k; i++) {
        r[i].rank = i && r[i].n == r[i - 1].n ? r[i - 1].rank : agreed(m, r[i].n, sequences, room);
        m->sl.layer[r[i].layer].rank = r[i].rank;
    }
    return ST_OK;
}
