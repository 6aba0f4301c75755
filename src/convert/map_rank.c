/* How many axes the input of a batch norm or a PReLU has. Most frameworks hold vectors and do not
 * say; one that keeps axes of extent 1 beside the channels must know. The layer directly before
 * tells where numbers order the layers; else all layers whose channels the norm may have must
 * agree: convolutions that give or read as many, or, in a model without sequences, dense layers
 * that give as many. Nothing is told by a norm that fits none, or several kinds.
 */
#include "convert/map_int.h"

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
    return l->kind == LAYER_CONV || l->kind == LAYER_CONV_TRANSPOSE;
}

/* Axes before the channels of what a layer gives; 0 = not told. */
static uint8_t axes_of(const struct layer *l, bool sequences)
{
    return is_conv(l) ? (uint8_t)(l->rank + 1) : l->kind == LAYER_LINEAR && !sequences ? 1 : 0;
}

static bool reads(const struct mapping *m, const struct layer *l, uint64_t n)
{
    return is_conv(l) && map_extent(m, l, l->kind, LEAF_WEIGHT, 'I') == n;
}

static void one(const struct mapping *m, struct layer *l, bool sequences)
{
    bool slope = l->kind == LAYER_PRELU, any = slope && l->form == FORM_ONE;
    uint64_t n = slope ? map_extent(m, l, LAYER_PRELU, LEAF_WEIGHT, 'O')
                       : map_extent(m, l, LAYER_BATCHNORM, LEAF_MEAN, 'F');
    const struct layer *prev, *conv;
    uint8_t convs = 0, others = 0, k;
    bool agree = true;
    if (map_before(m, l, &prev, &conv) && prev && (any || map_gives(m, prev, n)) &&
        axes_of(prev, sequences)) {
        l->rank = axes_of(prev, sequences);
        return;
    }
    for (size_t i = 0; i < m->sl.n; i++) {
        const struct layer *o = &m->sl.layer[i];
        if (any || (!map_gives(m, o, n) && !reads(m, o, n)))
            continue;
        k = axes_of(o, sequences);
        uint8_t *seen = is_conv(o) ? &convs : &others;
        agree = agree && k && (*seen == 0 || *seen == k);
        *seen = k;
    }
    if (agree && (!convs || !others))
        l->rank = convs ? convs : others;
}

void map_rank(struct mapping *m)
{
    bool sequences = false;
    for (size_t i = 0; i < m->sl.n; i++) {
        enum layer_kind k = m->sl.layer[i].kind;
        sequences = sequences || k == LAYER_EMBEDDING || k == LAYER_ATTENTION || k == LAYER_NONE;
    }
    for (size_t i = 0; i < m->sl.n; i++) {
        struct layer *l = &m->sl.layer[i];
        if (l->rank == 0 && map_needs_rank(m->to->rules, l))
            one(m, l, sequences);
    }
}
