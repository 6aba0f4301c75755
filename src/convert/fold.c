/* Finding what can be folded: norms by the names that frameworks give a weight's parts, and what
 * becomes of every tensor concerned. The adapter of LoRA is fold_lora.c's.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "convert/fold_find.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

static int64_t beside(struct fold_finder *w, struct str head, const char *tail)
{
    struct str name = arena_fmt(&w->m->arena, "%.*s%s", STR_ARG(head), tail);
    return name.p ? model_find(w->m, name) : -1;
}

enum status fold_refuse(const struct model *m, size_t t, const char *code, const char *why,
                        struct err *e)
{
    enum status st = err_set(e, ST_CANNOT, code, "%s", why);
    err_in(e, m->tensor[t].name.p, m->tensor[t].name.n);
    return st;
}

enum status fold_becomes(struct fold_finder *w, size_t t, struct str name, const char *why,
                         struct err *e)
{
    if (!name.p)
        return err_nomem(e, 256);
    w->fate[t] = (struct fate){.concerned = true, .name = name, .why = why};
    return ST_OK;
}

void fold_goes(struct fold_finder *w, size_t t, const char *why)
{
    w->fate[t] = (struct fate){.concerned = true, .why = why};
}

/* Eight bits and fewer are what they are by a scale beside them. */
enum status fold_reads(const struct model *m, size_t t, struct err *e)
{
    const struct dtype_info *d = dtype_info(m->tensor[t].dtype);
    return d->kind == DK_FLOAT && d->bits >= 16
               ? ST_OK
               : fold_refuse(m, t, "fold-type", "values of this type are not computed with", e);
}

enum status fold_add(struct fold_finder *w, enum fold_kind kind, size_t t, struct fold_item **out,
                     struct err *e)
{
    const struct tensor *x = &w->m->tensor[t];
    uint64_t n = tensor_elems(x);
    enum dtype d = x->dtype;
    TRY(fold_reads(w->m, t, e));
    if (n == 0)
        return fold_refuse(w->m, t, "fold-shape", "a weight without elements", e);
    if (w->shared[t])
        return fold_refuse(w->m, t, "fold-shared",
                           "the weight is another tensor's too, which would not change with it", e);
    struct fold_item *it = &w->f->item[w->f->n++];
    *it = (struct fold_item){.kind = kind, .tensor = (uint32_t)t};
    it->at = w->f->n_bytes;
    if (!mul_u64(n, dtype_bytes(d), &it->n_bytes) ||
        !add_u64(w->f->n_bytes, it->n_bytes, &w->f->n_bytes))
        return err_set(e, ST_LIMIT, "too-big", "the folded weights overflow");
    *out = it;
    return ST_OK;
}

/* ---- weight norm ---- */

/* [outer, n, inner] about one axis of the weight. */
static void about(struct fold_item *it, const struct tensor *w, size_t axis)
{
    it->outer = it->inner = 1;
    for (size_t d = 0; d < w->n_dims; d++)
        *(d < axis ? &it->outer : &it->inner) *= d == axis ? 1 : w->dim[d];
    it->n = w->dim[axis];
}

/* g has the weight's axes, all but one of them 1, or one element; in Flax it has that axis alone,
 * the last. */
static enum status weight_norm(struct fold_finder *w, size_t v, size_t g, bool last, struct err *e)
{
    const struct tensor *x = &w->m->tensor[v], *s = &w->m->tensor[g];
    size_t axis = x->n_dims;
    uint64_t n = tensor_elems(s);
    bool fits = x->n_dims > 0 && (s->n_dims == x->n_dims || n == 1 || last);
    if (last && fits) {
        axis = x->n_dims - 1u;
        fits = s->n_dims == 1 && s->dim[0] == x->dim[axis];
    }
    for (size_t d = 0; d < s->n_dims && fits && !last; d++) {
        if (s->dim[d] == 1)
            continue;
        fits = axis == x->n_dims && s->n_dims == x->n_dims && s->dim[d] == x->dim[d];
        axis = d;
    }
    if (!fits)
        return fold_refuse(w->m, g, "fold-shape", "it has not the axes of a weight's norms", e);
    TRY(fold_reads(w->m, g, e));
    struct fold_item *it;
    TRY(fold_add(w, FOLD_WEIGHT, v, &it, e));
    it->with = (uint32_t)g;
    it->eps = last ? 1e-12 : 0; /* what Flax adds to the sum of squares */
    if (axis < x->n_dims) {
        about(it, x, axis);
    } else {
        it->n = it->outer = 1;
        it->inner = tensor_elems(x);
    }
    return ST_OK;
}

#define WHY_WEIGHT "weight norm folded: g v / |v|, in float64"
#define WHY_SPECTRAL "spectral norm folded: w / (u' w v), in float64"

/* ---- spectral norm ---- */

static enum status spectral_norm(struct fold_finder *w, size_t t, size_t u, size_t v,
                                 struct str path, struct err *e)
{
    const struct tensor *x = &w->m->tensor[t], *a = &w->m->tensor[u], *b = &w->m->tensor[v];
    uint64_t n = tensor_elems(x), nu = tensor_elems(a), nv = tensor_elems(b);
    bool may[2] = {false, false};
    for (size_t d = 0; d < 2 && d < x->n_dims; d++)
        may[d] = a->n_dims == 1 && b->n_dims == 1 && nu == x->dim[d] && nu > 0 && nv == n / nu;
    if (may[0] && may[1]) { /* transposed convolutions turn about their second axis */
        unsigned said = name_kinds(path) & (KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE));
        may[0] = x->n_dims == 2 || said == KIND_BIT(LAYER_CONV);
        may[1] = x->n_dims > 2 && said == KIND_BIT(LAYER_CONV_TRANSPOSE);
        if (!may[0] && !may[1])
            return fold_refuse(w->m, t, "fold-axis",
                               "axes 0 and 1 are equal: a convolution, or a transposed one, whose "
                               "spectral norm is another",
                               e);
    }
    if (!may[0] && !may[1])
        return fold_refuse(w->m, t, "fold-shape", "u and v have not its axes", e);
    TRY(fold_reads(w->m, u, e));
    TRY(fold_reads(w->m, v, e));
    struct fold_item *it;
    TRY(fold_add(w, FOLD_SPECTRAL, t, &it, e));
    about(it, x, may[0] ? 0 : 1);
    it->with = (uint32_t)u;
    it->also = (uint32_t)v;
    return ST_OK;
}

/* ---- names ---- */

/* How a weight and its parts are called below a module: torch's hooks and parametrizations, and
 * Equinox's wrappers, in which the layer is one deeper. */
#define INSIDE "layer"
static const struct spelled {
    bool spectral;
    const char *weight, *with, *also; /* with: g; u and v */
    const char *gives;
    bool wrapper; /* a segment "layer" goes, of all the module's tensors */
} spelled[] = {
    {false, "weight_v", "weight_g", NULL, "weight", false},
    {false, "parametrizations.weight.original1", "parametrizations.weight.original0", NULL,
     "weight", false},
    {false, INSIDE ".weight", "g", NULL, "weight", true},
    {true, "weight_orig", "weight_u", "weight_v", "weight", false},
    {true, "parametrizations.weight.original", "parametrizations.weight.0._u",
     "parametrizations.weight.0._v", "weight", NULL},
    {true, INSIDE ".weight", "uv_index.0", "uv_index.1", "weight", true},
};
#define N_SPELLED (sizeof spelled / sizeof *spelled)

/* What stands before a last part of a name, with its dot; false where the name does not end so. */
static bool before(struct str name, const char *tail, struct str *head)
{
    struct str t = str_from(tail);
    *head = str_sub(name, 0, name.n - (t.n < name.n ? t.n : name.n));
    return str_ends(name, t) && (head->n == 0 || head->p[head->n - 1] == '.');
}

/* Tensors t, with, and of the rule; false where it is not all of them. */
static bool fits(struct fold_finder *w, const struct spelled *s, size_t t, struct str *head,
                 int64_t *with, int64_t *also)
{
    if (!before(w->m->tensor[t].name, s->weight, head))
        return false;
    *with = beside(w, *head, s->with);
    *also = s->also ? beside(w, *head, s->also) : 0;
    return *with >= 0 && *also >= 0;
}

static int by_name(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

enum status fold_step_out(struct fold_finder *w, const char *inside, const char *why, struct err *e)
{
    struct str in = str_from(inside);
    if (w->n_heads)
        qsort(w->head, w->n_heads, sizeof *w->head, by_name);
    for (size_t i = 0; w->n_heads && i < w->m->n_tensors; i++) {
        struct str name = w->m->tensor[i].name;
        for (size_t at = str_find_str(name, in, 0); at < name.n && !w->fate[i].concerned;
             at = str_find_str(name, in, at + 1)) {
            struct str head = str_sub(name, 0, at), rest = str_sub(name, at + in.n, name.n);
            if ((at == 0 || name.p[at - 1] == '.') &&
                bsearch(&head, w->head, w->n_heads, sizeof head, by_name))
                TRY(fold_becomes(w, i,
                                 arena_fmt(&w->m->arena, "%.*s%.*s", STR_ARG(head), STR_ARG(rest)),
                                 why, e));
        }
    }
    w->n_heads = 0;
    return ST_OK;
}

static enum status by_spelling(struct fold_finder *w, size_t t, struct err *e)
{
    for (size_t k = 0; k < N_SPELLED; k++) {
        const struct spelled *s = &spelled[k];
        struct str head;
        int64_t with, also;
        if (!fits(w, s, t, &head, &with, &also))
            continue;
        struct str path = str_sub(head, 0, head.n ? head.n - 1 : 0);
        struct str name = arena_fmt(&w->m->arena, "%.*s%s", STR_ARG(head), s->gives);
        if (!name.p)
            return err_nomem(e, head.n);
        TRY(s->spectral ? spectral_norm(w, t, (size_t)with, (size_t)also, path, e)
                        : weight_norm(w, t, (size_t)with, false, e));
        const char *why = s->spectral ? WHY_SPECTRAL : WHY_WEIGHT;
        TRY(fold_becomes(w, t, name, why, e));
        w->fate[t].value = true;
        fold_goes(w, (size_t)with, why);
        if (s->also)
            fold_goes(w, (size_t)also, why);
        if (s->wrapper)
            w->head[w->n_heads++] = head;
        return ST_OK;
    }
    return ST_OK;
}

/* Flax: "[params.]PATH.WeightNorm_0.Dense_1/kernel/scale" beside "[params.]PATH.Dense_1.kernel"; of
 * a wrapper at the top, beside it. The same with /u and /sigma under batch_stats for a spectral
 * norm. Nothing else has leaves with such names. */
static enum status flax_weight(struct fold_finder *w, size_t t, struct str *out, int64_t *at,
                               struct err *e)
{
    struct str parent, leaf, up, seg;
    name_tail(w->m->tensor[t].name, &parent, &leaf);
    name_tail(parent, &up, &seg);
    leaf.n -= strlen("/scale");
    for (int k = 0; k < 2; k++, up = parent) {
        *out = arena_fmt(&w->m->arena, "%.*s%s%.*s", STR_ARG(up), up.n ? "." : "", STR_ARG(leaf));
        char *p = (char *)(uintptr_t)out->p;
        if (!p)
            return err_nomem(e, leaf.n);
        for (size_t i = up.n; i < out->n; i++)
            p[i] = p[i] == '/' ? '.' : p[i];
        if ((*at = model_find(w->m, *out)) >= 0)
            break;
    }
    return ST_OK;
}

static enum status by_flax(struct fold_finder *w, size_t t, struct err *e)
{
    struct str name = w->m->tensor[t].name;
    if (str_ends(name, STR("/u")) || str_ends(name, STR("/sigma")))
        return fold_refuse(w->m, t, "fold-steps",
                           "Flax's spectral norm iterates whenever it runs, and how often is in no "
                           "file",
                           e);
    if (!str_ends(name, STR("/scale")))
        return ST_OK;
    struct str of;
    int64_t v;
    TRY(flax_weight(w, t, &of, &v, e));
    if (v < 0)
        return ST_OK;
    TRY(weight_norm(w, (size_t)v, t, true, e));
    TRY(fold_becomes(w, (size_t)v, of, WHY_WEIGHT, e));
    w->fate[v].value = true;
    fold_goes(w, t, WHY_WEIGHT);
    return ST_OK;
}

static bool is_keras_u(struct str name)
{
    struct str parent, leaf;
    name_tail(name, &parent, &leaf);
    return str_is(leaf, "vector_u") || str_is(leaf, "vector_u:0") || str_is(leaf, "sn_u") ||
           str_is(leaf, "sn_u:0");
}

static bool is_flax_part(struct str name)
{
    struct str parent, leaf;
    name_tail(name, &parent, &leaf);
    return str_find(leaf, '/', 0) < leaf.n &&
           (str_ends(leaf, STR("/scale")) || str_ends(leaf, STR("/u")) ||
            str_ends(leaf, STR("/sigma")));
}

static enum status norms(struct fold_finder *w, struct err *e)
{
    for (size_t i = 0; i < w->m->n_tensors; i++) {
        struct str name = w->m->tensor[i].name;
        if (is_flax_part(name))
            TRY(by_flax(w, i, e));
        else if (is_keras_u(name))
            fold_goes(w, i,
                      "Keras has divided the kernel by its norm already: this is read in "
                      "training alone");
        else
            TRY(by_spelling(w, i, e));
    }
    return fold_step_out(w, INSIDE ".", "of a layer inside a norm that is folded", e);
}

int64_t fold_found(const struct model *m)
{
    struct arena a = ARENA_INIT;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str name = m->tensor[i].name, head;
        bool found = is_flax_part(name);
        for (size_t k = 0; k < N_SPELLED && !found; k++) {
            if (!before(name, spelled[k].weight, &head))
                continue;
            struct str g = arena_fmt(&a, "%.*s%s", STR_ARG(head), spelled[k].with);
            found = g.p && model_find(m, g) >= 0;
        }
        if (found) {
            arena_free(&a);
            return (int64_t)i;
        }
    }
    arena_free(&a);
    return -1;
}

/* ---- the outcome ---- */

static enum status not_taken(const struct fold_finder *w, struct err *e)
{
    const struct model *m = w->m;
    struct str *all = ARENA_ARRAY(&w->f->a, struct str, m->n_tensors + 1);
    size_t n = 0;
    if (!all)
        return err_nomem(e, m->n_tensors * sizeof *all);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!w->fate[i].concerned || w->fate[i].name.p)
            all[n++] = w->fate[i].concerned ? w->fate[i].name : m->tensor[i].name;
    if (n)
        qsort(all, n, sizeof *all, by_name);
    for (size_t i = 1; i < n; i++)
        if (str_eq(all[i - 1], all[i])) {
            enum status st =
                err_set(e, ST_CANNOT, "fold-taken", "folding would give two tensors this name");
            err_in(e, all[i].p, all[i].n);
            return st;
        }
    return ST_OK;
}

/* What --upgrade told of the same tensors goes on from there. */
static enum status report(struct fold_finder *w, struct upgrade *up, struct err *e)
{
    struct model *m = w->m;
    struct upgrade all = {0};
    size_t k = 0;
    all.item = ARENA_ARRAY(&m->arena, struct upgraded, m->n_tensors + 1);
    if (!all.item)
        return err_nomem(e, m->n_tensors * sizeof *all.item);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct upgraded *old = k < up->n && up->item[k].tensor == i ? &up->item[k++] : NULL;
        const struct fate *to = &w->fate[i];
        if (!to->concerned && !old)
            continue;
        struct upgraded it =
            old ? *old
                : (struct upgraded){(uint32_t)i, m->tensor[i].name, m->tensor[i].name, NULL, false};
        if (to->concerned && (!old || old->to.p)) {
            it.to = to->name;
            it.why = to->why;
            it.value = to->value;
        }
        if (to->concerned && to->name.p)
            m->tensor[i].name = to->name;
        all.item[all.n++] = it;
    }
    *up = all;
    return ST_OK;
}

static enum status no_state(const struct model *m, struct err *e)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].role == ROLE_MOMENT1 || m->tensor[i].role == ROLE_MOMENT2 ||
            m->tensor[i].role == ROLE_EMA)
            return fold_refuse(m, i, "fold-state",
                               "train state is of the weights before folding: --train-state drop "
                               "leaves it behind",
                               e);
    return ST_OK;
}

/* The weights' places: the spool, as long as it will be, and nothing in it yet. */
static enum status lay_out(struct fold *f, const struct fold_opt *o, struct err *e)
{
    struct model *m = f->m;
    f->beside = o->beside;
    TRY(spool_open(o->beside, &f->spool, e));
    TRY(spool_pwrite(f->spool, "", 1, f->n_bytes - 1, e));
    TRY(spool_file(f->spool, "folded weights", &f->file, e));
    TRY(fold_packed_plan(f, o->adapter, e));
    for (size_t i = 0; i < f->n; i++) {
        struct storage *s;
        TRY(model_storage_add(m, &s, &f->item[i].storage, e));
        s->kind = STORAGE_FLAT;
        s->file = f->file;
        s->offset = f->item[i].at;
        s->stored_bytes = s->raw_bytes = f->item[i].n_bytes;
    }
    return ST_OK;
}

static enum status replace(struct fold *f, struct err *e)
{
    for (size_t i = 0; i < f->n; i++) {
        struct tensor *t = &f->m->tensor[f->item[i].tensor];
        uint64_t dim[VIEW_MAX_AXES];
        size_t n_dims = t->n_dims;
        memcpy(dim, t->dim, n_dims * sizeof *dim);
        fold_cudnn_shape(&f->item[i], t, dim, &n_dims);
        t->storage = f->item[i].storage;
        t->unpacked = false;
        TRY(tensor_set_shape(f->m, t, dim, n_dims, e));
    }
    return ST_OK;
}

static enum status plan_it(struct fold *f, const struct fold_opt *o, struct upgrade *up,
                           struct err *e)
{
    struct model *m = f->m;
    struct fold_finder w = {.f = f, .m = m};
    f->item = ARENA_ARRAY(&f->a, struct fold_item, m->n_tensors + 1);
    w.fate = ARENA_ARRAY(&f->a, struct fate, m->n_tensors + 1);
    w.shared = ARENA_ARRAY(&f->a, bool, m->n_tensors + 1);
    w.head = ARENA_ARRAY(&f->a, struct str, m->n_tensors + 1);
    struct tensor *copy = ARENA_ARRAY(&f->a, struct tensor, m->n_tensors + 1);
    if (!f->item || !w.fate || !w.shared || !w.head || !copy)
        return err_nomem(e, m->n_tensors * sizeof *copy);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].alias_of >= 0)
            w.shared[i] = w.shared[m->tensor[i].alias_of] = true;
    if (o->norms)
        TRY(norms(&w, e));
    if (o->cudnn)
        TRY(fold_cudnn(&w, e));
    if (o->adapter)
        TRY(fold_lora(&w, o, e));
    if (f->n && !o->state_goes)
        TRY(no_state(m, e));
    TRY(not_taken(&w, e));
    memcpy(copy, m->tensor, m->n_tensors * sizeof *copy);
    f->before = copy;
    TRY(report(&w, up, e));
    if (f->n) {
        TRY(lay_out(f, o, e));
        TRY(replace(f, e));
    }
    return model_finish(m, e);
}

enum status fold_plan(struct model *m, const struct fold_opt *o, struct upgrade *up,
                      struct fold **out, struct err *e)
{
    struct fold *f = mem_zalloc(1, sizeof *f);
    *out = NULL;
    if (!f)
        return err_nomem(e, sizeof *f);
    f->m = m;
    *out = f;
    return plan_it(f, o, up, e);
}

bool fold_computes(const struct fold *f)
{
    return f && f->n > 0;
}

uint64_t fold_bytes(const struct fold *f)
{
    return f ? f->n_bytes + f->packed_bytes : 0;
}

void fold_free(struct fold *f)
{
    if (!f)
        return;
    spool_close(f->spool);
    file_close(f->file);
    arena_free(&f->a);
    mem_free(f);
}
