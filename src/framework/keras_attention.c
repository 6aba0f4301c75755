/* Attention in Keras's spellings: four projections whose kernels have an axis for the heads, under
 * the names that its releases and its libraries gave them.
 */
#include "framework/keras_style.h"

static const char *const parts[][4] = {
    {"query", "key", "value", "attention_output"},
    {"query_dense", "key_dense", "value_dense", "output_dense"},
    {"_query_dense", "_key_dense", "_value_dense", "_output_dense"},
};

/* Which spelling, and which part of it; false for other names. */
static bool part_of(struct str seg, size_t *set, size_t *part)
{
    for (*set = 0; *set < sizeof parts / sizeof *parts; ++*set)
        for (*part = 0; *part < 4; ++*part)
            if (str_is(seg, parts[*set][*part]))
                return true;
    return false;
}

/* Kernel and bias of one projection, by name or by number. */
static int64_t leaf_of(const struct modules *ms, const struct module *mod, bool bias)
{
    int64_t t = module_leaf(ms, mod, bias ? "bias" : "kernel");
    return t >= 0 ? t : module_leaf(ms, mod, bias ? "1" : "0");
}

static void take_leaf(struct modules *ms, const struct module *mod, struct layer *l, enum leaf leaf,
                      int64_t t)
{
    l->tensor[leaf] = t;
    for (uint32_t q = 0; t >= 0 && q < mod->n; q++)
        if (ms->member[mod->first + q].tensor == (uint32_t)t)
            ms->member[mod->first + q].taken = true;
}

/* Fewer heads of keys and values: four dense layers, as others have them. */
static enum status grouped(struct modules *ms, struct layer_list *list, struct module *const *mod,
                           struct str called, struct err *e)
{
    for (int i = 0; i < 4; i++) {
        int64_t b = leaf_of(ms, mod[i], true);
        const struct tensor *t = b < 0 ? NULL : &ms->m->tensor[b];
        const uint64_t *dim = ms->m->tensor[leaf_of(ms, mod[i], false)].dim;
        if (t && (i == 3 ? t->n_dims != 1 || t->dim[0] != dim[2]
                         : t->n_dims != 2 || t->dim[0] != dim[1] || t->dim[1] != dim[2]))
            return ST_OK;
    }
    for (int i = 0; i < 4; i++) {
        struct str up, seg, path;
        int64_t w = leaf_of(ms, mod[i], false);
        name_tail(mod[i]->path, &up, &seg);
        if (seg.n > 1 && seg.p[0] == '_')
            seg = str_sub(seg, 1, seg.n);
        path = called.n ? arena_fmt(list->a, "%.*s.%.*s", STR_ARG(called), STR_ARG(seg)) : seg;
        if (!path.p)
            return err_nomem(e, called.n);
        struct layer *l = layer_add(list, LAYER_LINEAR, path,
                                    STR("a projection whose kernel has an axis for the heads"));
        if (!l)
            return err_nomem(e, sizeof *l);
        l->by_name = true;
        l->form = i == 3 ? FORM_HEADS_IN : FORM_HEADS_OUT;
        l->heads = ms->m->tensor[w].dim[i == 3 ? 0 : 1];
        take_leaf(ms, mod[i], l, LEAF_WEIGHT, w);
        take_leaf(ms, mod[i], l, LEAF_BIAS, leaf_of(ms, mod[i], true));
    }
    return ST_OK;
}

enum status keras_attention(struct modules *ms, struct layer_list *list, size_t at, struct str path,
                            struct err *e)
{
    struct str parent, seg, called;
    struct module *mod[4];
    const struct tensor *w[4];
    size_t set, k;
    name_tail(ms->module[at].path, &parent, &seg);
    if (!part_of(seg, &set, &k) || k != 0)
        return ST_OK;
    for (int i = 0; i < 4; i++) {
        mod[i] = parent.n ? module_child(ms, parent, parts[set][i], list->a)
                          : module_at(ms, str_from(parts[set][i]));
        int64_t t = leaf_of(ms, mod[i], false);
        w[i] = t < 0 ? NULL : &ms->m->tensor[t];
        if (!w[i] || w[i]->n_dims != 3 || mod[i]->n > 2)
            return ST_OK;
    }
    uint64_t heads = w[0]->dim[1], fewer = w[1]->dim[1];
    name_tail(path, &called, &seg);
    if (fewer && fewer < heads && heads % fewer == 0 && w[2]->dim[1] == fewer &&
        w[3]->dim[0] == heads && w[0]->dim[2] == w[1]->dim[2] && w[2]->dim[2] == w[3]->dim[1])
        return grouped(ms, list, mod, called, e);
    if (w[1]->dim[1] != heads || w[2]->dim[1] != heads || w[3]->dim[0] != heads ||
        w[0]->dim[2] != w[1]->dim[2] || w[2]->dim[2] != w[3]->dim[1])
        return ST_OK;
    struct layer *l = layer_add(list, LAYER_ATTENTION, called,
                                STR("query, key, value and output with kernels of three axes"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->heads = heads;
    for (int i = 0; i < 4; i++)
        for (int bias = 0; bias < 2; bias++) {
            int64_t t = leaf_of(ms, mod[i], bias);
            take_leaf(ms, mod[i], l, (enum leaf)((bias ? LEAF_Q_BIAS : LEAF_Q_WEIGHT) + i), t);
        }
    return ST_OK;
}

bool keras_is_projection(struct str segment)
{
    size_t set, part;
    return part_of(segment, &set, &part);
}
