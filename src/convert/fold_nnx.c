/* LoRA as Flax NNX keeps it: "X.lora_a" [inputs, rank] and "X.lora_b" [rank, outputs], whose
 * product is added to what the layer gives, without a factor. The kernel [inputs, outputs] is that
 * of nnx.LoRA's base_module, "X.base_module.kernel", which steps out, or stands beside, of
 * nnx.LoRALinear: "Y.kernel" for X = "Y.lora". A Variable saved as a node has its array one deeper,
 * under "value" or "raw_value". Source: flax/nnx/nn/lora.py.
 */
#include "convert/fold_find.h"
#include "framework/recognise.h"
#include <string.h>

#define WHY "LoRA merged: kernel + a b, in float64"

enum nnx_part { NNX_NONE, NNX_A, NNX_B };
/* The module's path, and the end that names have: "" or ".value". */
static enum nnx_part part_of(struct str name, struct str *path, struct str *end)
{
    struct str up, seg;
    name_tail(name, &up, &seg);
    *end = STR("");
    if (str_is(seg, "value") || str_is(seg, "raw_value")) {
        *end = str_sub(name, up.n, name.n);
        name_tail(up, &up, &seg);
    }
    *path = up;
    return str_is(seg, "lora_a") ? NNX_A : str_is(seg, "lora_b") ? NNX_B : NNX_NONE;
}

bool fold_nnx_holds(const struct model *m)
{
    struct str path, end;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (part_of(m->tensor[i].name, &path, &end) != NNX_NONE)
            return true;
    return false;
}

/* "PATH.leaf.value" */
static struct str name_of(struct arena *a, struct str path, const char *leaf, struct str end)
{
    return arena_fmt(a, "%.*s%s%s%.*s", STR_ARG(path), path.n ? "." : "", leaf, STR_ARG(end));
}

/* The kernel that a module's factors change, and its name then; ST_CANNOT: there is none, or two.
 */
static enum status kernel_of(struct fold_finder *w, const struct model *ad, size_t a,
                             struct str path, struct str end, int64_t *out, struct str *then,
                             struct err *e)
{
    struct arena *mem = &w->m->arena;
    struct str up, seg, inner = name_of(mem, path, "base_module.kernel", end), beside = STR_NONE;
    name_tail(path, &up, &seg);
    if (str_is(seg, "lora"))
        beside = name_of(mem, up, "kernel", end);
    *then = name_of(mem, path, "kernel", end);
    if (!inner.p || !then->p || (str_is(seg, "lora") && !beside.p))
        return err_nomem(e, path.n);
    int64_t in = model_find(w->m, inner), by = beside.p ? model_find(w->m, beside) : -1;
    if (in >= 0 && by >= 0)
        return fold_refuse(ad, a, "lora-several", "two kernels may be the one that it changes", e);
    *out = in >= 0 ? in : by;
    if (*out < 0)
        return fold_refuse(ad, a, "lora-base", "the model has no kernel that it changes", e);
    if (in < 0) {
        *then = beside;
        return ST_OK;
    }
    w->head[w->n_heads++] = str_sub(w->m->tensor[in].name, 0, path.n ? path.n + 1 : 0);
    return ST_OK;
}

static enum status merge(struct fold_finder *w, const struct model *ad, size_t a, size_t b,
                         struct str path, struct str end, struct err *e)
{
    const struct tensor *ta = &ad->tensor[a], *tb = &ad->tensor[b];
    struct fold_item *it;
    struct str then;
    int64_t t = -1;
    TRY(kernel_of(w, ad, a, path, end, &t, &then, e));
    const struct tensor *x = &w->m->tensor[t];
    bool fits = x->n_dims == 2 && ta->n_dims == 2 && tb->n_dims == 2 && ta->dim[1] > 0 &&
                ta->dim[0] == x->dim[0] && tb->dim[1] == x->dim[1] && ta->dim[1] == tb->dim[0];
    if (!fits)
        return fold_refuse(ad, a, "lora-shape", "a and b do not make up a change of the kernel", e);
    TRY(fold_reads(ad, a, e));
    TRY(fold_reads(ad, b, e));
    if (w->fate[t].value)
        return fold_refuse(w->m, (size_t)t, "lora-several", "several adapters change it", e);
    TRY(fold_add(w, FOLD_LORA, (size_t)t, &it, e));
    it->with = (uint32_t)b; /* [rank, cols] */
    it->also = (uint32_t)a; /* [rows, rank] */
    it->rank = ta->dim[1];
    it->rows = x->dim[0];
    it->cols = x->dim[1];
    it->scale = 1;
    TRY(fold_becomes(w, (size_t)t, then, WHY, e));
    w->fate[t].value = true;
    return ST_OK;
}

enum status fold_nnx(struct fold_finder *w, const struct model *ad, struct err *e)
{
    bool own = ad == w->m;
    for (size_t i = 0; i < ad->n_tensors; i++) {
        struct str path, end;
        enum nnx_part what = part_of(ad->tensor[i].name, &path, &end);
        if (what == NNX_NONE && !own)
            return fold_refuse(ad, i, "lora-other",
                               "the adapter holds more than factors a and b, which is not merged",
                               e);
        if (what == NNX_NONE)
            continue;
        struct str mate = name_of(&w->m->arena, path, what == NNX_A ? "lora_b" : "lora_a", end);
        if (!mate.p)
            return err_nomem(e, path.n);
        int64_t other = model_find(ad, mate);
        if (other < 0)
            return fold_refuse(ad, i, "lora-pair",
                               what == NNX_A ? "a without a b" : "b without an a", e);
        if (own)
            fold_goes(w, i, WHY);
        if (what == NNX_A)
            TRY(merge(w, ad, i, (size_t)other, path, end, e));
    }
    return fold_step_out(w, "base_module.", "of the module that a LoRA was around", e);
}
