/* Weights of eight bits and the scales that make them what they are: a value is weight * scale, of
 * one scale for all, for each row, or for each block. The two travel together. Where --dtype casts
 * the weight its scale is multiplied in, in float32, and goes with it; the scale is never cast for
 * itself, never left behind alone, and its weight's axes are not turned beside it.
 *
 * ST_CANNOT fp8-scale: a scale that is to be cast, or that is multiplied in where that is not done
 * (a target that is no float, a value added before, an optimizer's state); fp8-scale-apart: one of
 * the two is left behind; fp8-scale-layout: the weight is turned, joined or renamed and the scale
 * would stay as it is; fp8-scale-shape: neither one scale nor one for each row or block.
 * Sources: transformers, integrations/finegrained_fp8.py (weight_scale_inv) and fbgemm_fp8.py;
 * compressed-tensors, quantization/lifecycle (weight_scale); ComfyUI, ops.py (scale_weight).
 */
#include "convert/map_int.h"
#include "framework/recognise.h"
#include <string.h>

static bool is_fp8(enum dtype t)
{
    return t == DT_F8_E4M3FN || t == DT_F8_E5M2 || t == DT_F8_E4M3FNUZ || t == DT_F8_E5M2FNUZ;
}

static enum status refuse(struct err *e, const char *code, const struct tensor *t, const char *why)
{
    enum status st = err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, t->name.p, t->name.n);
    return st;
}

enum status map_scales(struct mapping *m, struct err *e)
{
    static const char *const leaves[] = {"weight_scale", "weight_scale_inv", "scale_weight",
                                         "qscale_weight"};
    const struct model *s = m->src;
    bool any = false;
    for (size_t i = 0; i < s->n_tensors; i++)
        any = any || is_fp8(s->tensor[i].dtype);
    if (!any)
        return ST_OK;
    m->scale = ARENA_ARRAY(m->tmp, struct scaled, s->n_tensors + 1);
    if (!m->scale)
        return err_nomem(e, s->n_tensors * sizeof *m->scale);
    for (size_t i = 0; i < s->n_tensors; i++)
        m->scale[i] = (struct scaled){-1, -1, false};
    for (size_t i = 0; i < s->n_tensors; i++) {
        struct str parent, leaf;
        name_tail(s->tensor[i].name, &parent, &leaf);
        bool named = false;
        for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++)
            named = named || str_is(leaf, leaves[k]);
        if (!named || dtype_info(s->tensor[i].dtype)->kind != DK_FLOAT)
            continue;
        struct str name = rules_name(m->tmp, "", parent, "weight");
        if (!name.p)
            return err_nomem(e, parent.n);
        int64_t w = model_find(s, name);
        if (w < 0 || !is_fp8(s->tensor[w].dtype) || m->scale[w].scale >= 0)
            continue;
        m->scale[w].scale = (int64_t)i;
        m->scale[i].weight = w;
        if (m->in[w] != m->in[i])
            return refuse(e, "fp8-scale-apart", &s->tensor[m->in[w] ? w : (int64_t)i],
                          "a weight of eight bits and its scale are carried together");
    }
    return ST_OK;
}

/* Axes of the scale as the weight has them: those it has one value for are repeated. */
static enum status spread(const struct tensor *w, const struct tensor *s, struct view *out,
                          struct err *e)
{
    uint64_t n = tensor_elems(s);
    *out = (struct view){.offset = s->view->offset, .n_dims = w->n_dims};
    bool good = kept_is_c(s->view) && n > 0 && w->n_dims <= 8;
    bool rows = s->n_dims == 1 && w->n_dims > 1; /* of a matrix */
    good = good && (n == 1 || rows || s->n_dims == w->n_dims);
    int64_t stride = (int64_t)n;
    for (size_t d = 0; good && d < w->n_dims; d++) {
        uint64_t have = n == 1 ? 1 : rows ? (d == 0 ? n : 1) : s->dim[d], want = w->dim[d];
        uint64_t each = have && want % have == 0 ? want / have : 0;
        stride /= (int64_t)(have ? have : 1);
        /* blocks whose size is not 2^k may as well be larger ones, the last of them cut */
        good = have == 1 || each == 1 || (each && (each & (each - 1)) == 0);
        if (have > 1)
            out->axis[out->n_axes++] = (struct axis){have, stride};
        if (have == 1 || each != 1)
            out->axis[out->n_axes++] = (struct axis){have == 1 ? want : each, 0};
        out->group_end[d] = out->n_axes;
    }
    return good ? ST_OK
                : refuse(e, "fp8-scale-shape", s,
                         "neither one scale, nor one for each row, nor for blocks that fill the "
                         "weight");
}

/* Is this tensor of the target made by a cast of a weight that has a scale? */
static enum status cast_here(struct mapping *m, const struct made *d, bool *out, struct err *e)
{
    *out = false;
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct tensor *s = &m->src->tensor[d->take[i].src];
        struct tensor as = {.name = d->name, .role = s->role, .n_dims = s->n_dims, .dim = s->dim};
        enum dtype to = d->dtype;
        if (d->take[i].zero || m->scale[d->take[i].src].scale < 0)
            continue;
        if (to == DT_NONE)
            TRY(map_dtype(m, &as, s->dtype, &to, e));
        m->scale[d->take[i].src].applied = to != s->dtype;
        *out = *out || to != s->dtype;
    }
    return ST_OK;
}

/* The scale of a weight that is not cast: both lie as they did, under names that tell it. */
static enum status kept_pair(struct mapping *m, const struct made *d, struct err *e)
{
    for (size_t i = 0; i < d->n_takes; i++) {
        const struct take *k = &d->take[i];
        int64_t s = k->zero ? -1 : m->scale[k->src].scale;
        if (s < 0)
            continue;
        struct str parent, leaf;
        name_tail(d->name, &parent, &leaf);
        bool one = tensor_elems(&m->src->tensor[s]) == 1;
        if (!str_is(leaf, "weight") || d->n_takes > 1 || (!one && !take_is_whole(k)) ||
            !take_is_plain(k))
            return refuse(e, "fp8-scale-layout", &m->src->tensor[k->src],
                          "it would be turned, joined or renamed and its scale would not: --dtype "
                          "multiplies the scale in");
    }
    return ST_OK;
}

enum status map_scales_apply(struct mapping *m, struct err *e)
{
    if (!m->scale)
        return ST_OK;
    bool any = false, cast;
    for (size_t i = 0; i < m->n_made; i++) {
        TRY(cast_here(m, &m->made[i], &cast, e));
        if (!cast)
            TRY(kept_pair(m, &m->made[i], e));
        any = any || cast;
    }
    if (!any)
        return ST_OK;
    if (m->train)
        return err_set(e, ST_CANNOT, "fp8-scale",
                       "scales are not multiplied in beside an optimizer's state");
    size_t n = 0;
    int64_t *at = ARENA_ARRAY(m->tmp, int64_t, m->n_made + 1);
    if (!at)
        return err_nomem(e, m->n_made * sizeof *at);
    for (size_t i = 0; i < m->n_made; i++) {
        const struct made *d = &m->made[i];
        int64_t w = d->n_takes == 1 && !d->take->zero ? m->scale[d->take->src].weight : -1;
        at[i] = w >= 0 && m->scale[w].applied ? -1 : (int64_t)n;
        if (at[i] < 0) {
            struct str why =
                arena_fmt(m->a, "multiplied into %.*s", STR_ARG(m->src->tensor[w].name));
            if (!why.p)
                return err_nomem(e, 64);
            TRY(map_ledger(m, LEDGER_DROP, m->src->tensor[d->take->src].name, 0, true, why, e));
            m->used[d->take->src] = true;
        } else {
            m->made[n++] = *d;
        }
    }
    m->n_made = n;
    for (size_t i = 0; i < n; i++)
        if (m->made[i].of >= 0)
            m->made[i].of = at[m->made[i].of];
    return ST_OK;
}

enum status map_scale_op(struct mapping *m, const struct take *k, struct part *q, enum dtype to,
                         bool *scaled, struct err *e)
{
    *scaled = false;
    if (!m->scale || k->zero || m->scale[k->src].scale < 0)
        return ST_OK;
    const struct tensor *w = &m->src->tensor[k->src], *s = &m->src->tensor[m->scale[k->src].scale];
    if (to == w->dtype)
        return ST_OK;
    enum dtype_kind kind = dtype_info(to)->kind;
    if (!m->scale[k->src].applied || k->offset || k->plus || k->scale || is_fp8(to) ||
        (kind != DK_FLOAT && kind != DK_BLOCK))
        return refuse(e, "fp8-scale", w, "its scale cannot be multiplied in here");
    struct view v;
    const struct view_kept *kept;
    TRY(spread(w, s, &v, e));
    TRY(take_turn(k, &v, w->name, e));
    TRY(view_keep(&v, m->a, &kept, e));
    if (!q->op && !(q->op = ARENA_ARRAY(m->a, struct op, 8)))
        return err_nomem(e, 8 * sizeof *q->op);
    q->op[q->n_ops++] =
        (struct op){.kind = OP_CAST, .to = DT_F32, .allow_overflow = m->o->allow_overflow};
    q->op[q->n_ops++] = (struct op){.kind = OP_MUL,
                                    .to = s->dtype,
                                    .operand = (uint32_t)m->scale[k->src].scale,
                                    .view = kept,
                                    .allow_overflow = m->o->allow_overflow};
    *scaled = true;
    return ST_OK;
}

bool map_is_scale(const struct mapping *m, const struct made *d)
{
    return m->scale && d->n_takes == 1 && !d->take->zero && m->scale[d->take->src].weight >= 0;
}
