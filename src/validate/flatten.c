/* Whether a linear layer may follow a flattened map. */
#include "validate/flatten.h"

#include <string.h>

static bool channels_first(const struct convention *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->form[i].kind == LAYER_LINEAR && c->form[i].slot == LEAF_WEIGHT)
            return strstr(c->form[i].axes, "(C S)") != NULL;
    return false;
}

/* One extent of a layer's operand under its convention; 0 when it has none. */
static uint64_t extent_of(const struct convention *c, const struct layer *l, const struct plan *p,
                          enum leaf slot, char letter)
{
    struct facts f = {{0}};
    struct operand o;
    char open;
    f.of['S'] = 1;
    f.of['H'] = f.of['u'] = l->heads ? l->heads : 1;
    if (convention_operand(c, l, p, slot, &f, &o, &open, NULL) != ST_OK || o.tensor < 0)
        return 0;
    return operand_extent(&o, letter);
}

/* ... of several letters, which a linear layer over several axes has. */
static uint64_t product_of(const struct convention *c, const struct layer *l, const struct plan *p,
                           const char *letters)
{
    uint64_t n = 1;
    for (; *letters; letters++)
        n *= extent_of(c, l, p, LEAF_WEIGHT, *letters);
    return n;
}

/* What a layer gives to the next: channels or features. */
static uint64_t outputs_of(const struct convention *c, const struct layer *l, const struct plan *p)
{
    uint64_t groups = l->groups ? l->groups : 1;
    switch (l->kind) {
    case LAYER_LINEAR:
        return product_of(c, l, p, "OQ");
    case LAYER_CONV:
    case LAYER_CONV_LOCAL:
        return extent_of(c, l, p, LEAF_WEIGHT, 'O');
    case LAYER_CONV_TRANSPOSE:
        return extent_of(c, l, p, LEAF_WEIGHT, 'O') * groups;
    case LAYER_EMBEDDING:
        return extent_of(c, l, p, LEAF_WEIGHT, 'D');
    case LAYER_ATTENTION:
        return extent_of(c, l, p, LEAF_O_WEIGHT, 'E');
    default:
        return 0;
    }
}

size_t flatten_candidates(const struct layers *la, size_t i, const struct plan *p,
                          const struct convention *a, const struct convention *b,
                          uint64_t channels[FLATTEN_MAX], uint64_t *inputs)
{
    const struct layer *l = &la->layer[i];
    size_t n = 0;
    *inputs = 0;
    if (l->kind != LAYER_LINEAR || l->flat_c != 0 || l->flat_said ||
        channels_first(a) == channels_first(b))
        return 0;
    *inputs = product_of(a, l, p, "CSXY");
    for (size_t k = 0; k<la->n && * inputs> 0; k++) {
        const struct layer *o = &la->layer[k];
        uint64_t c = k == i ? 0 : outputs_of(a, o, p);
        bool conv = o->kind == LAYER_CONV || o->kind == LAYER_CONV_TRANSPOSE ||
                    o->kind == LAYER_CONV_LOCAL,
             known = false;
        if (c == *inputs)
            return 0;
        if (!conv || c < 2 || *inputs % c != 0) /* one channel: both orders are the same */
            continue;
        for (size_t q = 0; q < n; q++)
            known = known || channels[q] == c;
        if (!known && n < FLATTEN_MAX)
            channels[n++] = c;
    }
    return n;
}
