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
    uint64_t heads = w[0]->dim[1];
    if (w[1]->dim[1] != heads || w[2]->dim[1] != heads || w[3]->dim[0] != heads ||
        w[0]->dim[2] != w[1]->dim[2] || w[2]->dim[2] != w[3]->dim[1])
        return ST_OK;
    name_tail(path, &called, &seg);
    struct layer *l = layer_add(list, LAYER_ATTENTION, called,
                                STR("query, key, value and output with kernels of three axes"));
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    l->heads = heads;
    for (int i = 0; i < 4; i++)
        for (int bias = 0; bias < 2; bias++) {
            int64_t t = leaf_of(ms, mod[i], bias);
            l->tensor[(bias ? LEAF_Q_BIAS : LEAF_Q_WEIGHT) + i] = t;
            for (uint32_t q = 0; t >= 0 && q < mod[i]->n; q++)
                if (ms->member[mod[i]->first + q].tensor == (uint32_t)t)
                    ms->member[mod[i]->first + q].taken = true;
        }
    return ST_OK;
}

bool keras_is_projection(struct str segment)
{
    size_t set, part;
    return part_of(segment, &set, &part);
}
