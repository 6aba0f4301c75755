/* Recognising layers in Keras's spellings, in Keras's files and in TensorFlow's checkpoints. Files
 * name a variable ("kernel", "moving_mean"), or number it below its layer ("vars.2"); then the
 * layer's class says what the numbers are, from the config where there is one, else from the path,
 * whose segments are made of class names, else from the name kept with the group. Where none of
 * them tells, shapes do as far as they go, and what stays open is asked about.
 *
 * What a layer is called: the user's names where the file has them, without what the container
 * adds ("layers.", the model's name, a layer's name twice); else the file's path.
 *   dense1.sequential.dense1.kernel (legacy HDF5)           dense1
 *   layers.dense.vars.0, named "dense1"                     dense1
 *   layer_with_weights-0.kernel, variable "dense1/kernel"   dense1
 *   _operations.1._kernel, variable "dense1/kernel"         dense1
 * Where two layers would be called alike, all keep the file's paths.
 * Sources: keras/src/layers, keras/src/saving/saving_lib.py, tf_keras/saving.
 */
#include "framework/keras_style.h"
#include "framework/dense.h"
#include "framework/keras_vars.h"
#include <stdlib.h>
#include <string.h>

#define CONV_BITS (KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE))
#define NORM_BITS (KIND_BIT(LAYER_LAYERNORM) | KIND_BIT(LAYER_GROUPNORM))

/* ---- names ---- */

static struct str without_output(struct str s)
{
    uint64_t k;
    size_t colon = str_find(s, ':', 0);
    return colon < s.n && str_u64(str_sub(s, colon + 1, s.n), &k) ? str_sub(s, 0, colon) : s;
}

/* The leaf of "layers.dense.vars.0" is "0", its path "layers.dense"; of a variable at the top of a
 * file the path is "vars". */
static bool cut(const struct model *m, size_t t, struct member *out)
{
    const struct tensor *x = &m->tensor[t];
    uint64_t k;
    struct str parent, last;
    if (!tensor_is_weight(x))
        return false;
    name_tail(x->name, &out->path, &out->leaf);
    out->leaf = without_output(out->leaf);
    if (str_is(out->leaf, "_kernel") || str_is(out->leaf, "_embeddings"))
        out->leaf = str_sub(out->leaf, 1, out->leaf.n); /* Keras 3, where it may be quantised */
    name_tail(out->path, &parent, &last);
    if (str_is(last, "vars") && str_u64(out->leaf, &k) && parent.n) {
        out->collection = last;
        out->path = parent;
    }
    return true;
}

static bool is_list(struct str seg)
{
    return str_is(seg, "layers") || str_is(seg, "_layer_checkpoint_dependencies");
}

/* The user's name for the layer at a path of a weights file; empty when there is none, or when it
 * is Keras's own. */
static enum status given(struct keras_ctx *c, struct str path, struct str seg, struct str *out,
                         struct err *e)
{
    struct arena *a = c->list.a;
    *out = keras_group_name(&c->names, path, a);
    if (!out->n && c->names.n) {
        struct str at = keras_class_path(path, a);
        if (!at.p && path.n)
            return err_nomem(e, path.n);
        const struct keras_layer *l = keras_by_class(&c->names, at);
        *out = l ? l->name : STR_NONE;
    }
    if (str_eq(keras_stem(*out), keras_stem(seg)))
        *out = STR_NONE;
    return ST_OK;
}

/* A path of attributes and classes: "layers.sequential.layers.conv2d" to "inner.conv_1". */
static enum status walk_names(struct keras_ctx *c, struct str path, struct str *out, struct err *e)
{
    struct str rest = path, seg, last = STR_NONE;
    *out = STR("");
    while (name_head(&rest, &seg)) {
        struct str before = str_sub(path, 0, (size_t)(seg.p + seg.n - path.p)), name = STR_NONE;
        bool list = is_list(last);
        last = seg;
        if (is_list(seg) && rest.n)
            continue;
        if (list || keras_class_of(seg) != KERAS_UNKNOWN)
            TRY(given(c, before, seg, &name, e));
        if (!list && keras_class_of(name) != KERAS_UNKNOWN)
            name = STR_NONE; /* Keras's own, of an attribute that looks like a class */
        if (name.n) {
            TRY(path_join(*out, name, c->list.a, out, e));
        } else {
            *out = out->n ? arena_fmt(c->list.a, "%.*s.%.*s", STR_ARG(*out), STR_ARG(seg)) : seg;
            if (!out->p)
                return err_nomem(e, path.n);
        }
    }
    return ST_OK;
}

/* The scope of a layer whose name TensorFlow had given away: "conv2d_1_1" of the layer "conv2d_1",
 * by the config a layer, and not a model with a layer of that name. */
static bool scope_again(const struct keras_ctx *c, struct str group, struct str seg)
{
    uint64_t k;
    if (!str_starts(seg, group) || seg.n < group.n + 2 || seg.p[group.n] != '_' ||
        !str_u64(str_sub(seg, group.n + 1, seg.n), &k) || !keras_by_name(&c->names, group))
        return false;
    struct str inner = arena_fmt(c->list.a, "%.*s.%.*s", STR_ARG(group), STR_ARG(seg));
    return inner.p && !keras_by_name(&c->names, inner);
}

/* Legacy HDF5: GROUP, then the variable's path, which begins with GROUP or, after the model's name,
 * goes on with it. */
static enum status walk_legacy(struct keras_ctx *c, struct str path, struct str *out, struct err *e)
{
    struct str rest = path, group, seg;
    *out = path;
    if (!name_head(&rest, &group) || !rest.n)
        return ST_OK;
    for (int k = 0; k < 2 && name_head(&rest, &seg); k++)
        if (str_eq(seg, group) || (k == 0 && scope_again(c, group, seg))) {
            *out =
                rest.n ? arena_fmt(c->list.a, "%.*s.%.*s", STR_ARG(group), STR_ARG(rest)) : group;
            return out->p ? ST_OK : err_nomem(e, path.n);
        }
    return ST_OK;
}

/* A segment of the variable's own name, which a checkpoint's graph keeps: the one `up` above the
 * variable, 1 for its layer's. */
static struct str variable_of(const struct keras_ctx *c, const struct module *mod, int up)
{
    const struct member *b = &c->ms.member[mod->first];
    struct str note = c->ms.m->tensor[b->tensor].note, seg = STR_NONE;
    size_t end = note.n;
    for (int k = 0; k <= up; k++) {
        size_t at = end;
        while (at > 0 && note.p[at - 1] != '/')
            at--;
        seg = str_sub(note, at, end);
        if (k == 0 && !str_eq(seg, b->leaf))
            return STR_NONE;
        if (at == 0)
            return k == up ? seg : STR_NONE;
        end = at - 1;
    }
    return seg;
}

/* Does a path end in a segment that only counts layers: layer_with_weights-0 of tf-keras, of Keras
 * 3 _operations.0, in a Sequential _functional._operations.0? *up is what stands before it. */
static bool counted(struct str path, struct str *up)
{
    struct str list, parent, last, seg;
    uint64_t k;
    name_tail(path, up, &last);
    if (str_starts(last, STR("layer_with_weights-")) || str_starts(last, STR("layer-")))
        return true;
    name_tail(*up, &parent, &list);
    if (!str_u64(last, &k) || !str_is(list, "_operations"))
        return false;
    *up = parent;
    name_tail(parent, &parent, &seg);
    if (str_is(seg, "_functional"))
        *up = parent;
    return true;
}

/* A segment that only counts layers gives way to the layer's name; of an attention, the segment
 * above its projections'. */
static enum status walk_counted(struct keras_ctx *c, const struct module *mod, struct str *out,
                                struct err *e)
{
    struct str parent, last, up;
    *out = mod->path;
    name_tail(mod->path, &parent, &last);
    struct str name = variable_of(c, mod, 1), outer = variable_of(c, mod, 2);
    if (name.n && counted(mod->path, &up))
        return path_join(up, name, c->list.a, out, e);
    if (!outer.n || !counted(parent, &up))
        return ST_OK;
    TRY(path_join(up, outer, c->list.a, out, e));
    *out = arena_fmt(c->list.a, "%.*s.%.*s", STR_ARG(*out), STR_ARG(last));
    return out->p ? ST_OK : err_nomem(e, mod->path.n);
}

struct called {
    struct str path;
};

static int by_called(const void *x, const void *y)
{
    return str_cmp(((const struct called *)x)->path, ((const struct called *)y)->path);
}

static enum status call_all(struct keras_ctx *c, struct err *e)
{
    size_t n = c->ms.n;
    bool twice = false;
    struct called *all = ARENA_ARRAY(c->list.a, struct called, n + 1);
    if (!all)
        return err_nomem(e, n * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        struct keras_mod *x = &c->mod[i];
        if (x->numbered)
            TRY(walk_names(c, x->of->path, &x->path, e));
        else if (c->style->legacy)
            TRY(walk_legacy(c, x->of->path, &x->path, e));
        else
            TRY(walk_counted(c, x->of, &x->path, e));
        all[i].path = x->path;
    }
    if (n)
        qsort(all, n, sizeof *all, by_called);
    for (size_t i = 1; i < n; i++)
        twice = twice || str_eq(all[i].path, all[i - 1].path);
    for (size_t i = 0; i < n && twice; i++)
        c->mod[i].path = c->mod[i].of->path;
    return ST_OK;
}

/* ---- what a module holds ---- */

static enum status class_of(struct keras_ctx *c, struct keras_mod *x, struct err *e)
{
    struct arena *a = c->list.a;
    struct str parent, seg;
    struct str at = keras_class_path(x->of->path, a);
    if (!at.p && x->of->path.n)
        return err_nomem(e, x->of->path.n);
    x->config = x->numbered ? keras_by_class(&c->names, at) : keras_by_name(&c->names, x->path);
    if (!x->config && !x->numbered && c->style->legacy)
        x->config = keras_by_group(&c->names, x->path);
    while (x->config && str_is(x->config->cls, "timedistributed") && x->config->last >= 0)
        x->config = &c->names.layer[x->config->last]; /* what it wraps has the variables */
    if (x->config)
        x->cls =
            str_is(x->config->cls, "einsumdense") ? KERAS_EINSUM : keras_class_of(x->config->cls);
    name_tail(x->of->path, &parent, &seg);
    /* Below "layers" a segment is a class; an attribute only looks like one, and may be called so
     * against what Keras called the object. */
    struct str up, list;
    name_tail(parent, &up, &list);
    enum keras_class own = keras_class_of(keras_group_name(&c->names, x->of->path, a)),
                     said = keras_class_of(seg);
    if (!own)
        own = keras_class_of(variable_of(c, x->of, 1));
    if (!x->cls && (is_list(list) || !own || own == said))
        x->cls = said;
    if (!x->cls && !said)
        x->cls = own;
    return ST_OK;
}

/* ---- layers ---- */

static void claim(struct keras_ctx *c, struct layer *l, enum leaf leaf, const struct keras_mod *x,
                  enum var v)
{
    if (x->var[v] < 0)
        return;
    l->tensor[leaf] = x->var[v];
    for (uint32_t i = x->of->first; i < x->of->first + x->of->n; i++)
        if (c->ms.member[i].tensor == (uint32_t)x->var[v])
            c->ms.member[i].taken = true;
}

static struct layer *put(struct keras_ctx *c, enum layer_kind kind, struct str path,
                         const char *reason)
{
    return layer_add(&c->list, kind, path, str_from(reason));
}

static bool vector_of(const struct tensor *t, uint64_t n)
{
    return t && t->n_dims == 1 && t->dim[0] == n;
}

static void depthwise(struct layer *l, const struct tensor *w)
{
    l->rank = (uint8_t)(w->n_dims - 2);
    l->depth_c = l->groups = w->dim[w->n_dims - 2];
}

/* A kernel over several axes. Candidates by the class, then by the bias, then by the name. */
static struct layer *spatial(struct keras_ctx *c, const struct keras_mod *x, const struct tensor *w,
                             const struct tensor *b)
{
    enum { CONV = 1, TRANSPOSED = 2, DEPTH = 4 };
    uint64_t last = w->dim[w->n_dims - 1], before = w->dim[w->n_dims - 2], both = 0;
    bool told = x->cls == KERAS_CONV || x->cls == KERAS_CONV_TRANSPOSE || x->cls == KERAS_DEPTHWISE;
    unsigned may = x->cls == KERAS_CONV             ? CONV
                   : x->cls == KERAS_CONV_TRANSPOSE ? TRANSPOSED
                   : x->cls == KERAS_DEPTHWISE      ? DEPTH
                                                    : CONV | TRANSPOSED | DEPTH;
    const char *reason = told ? "kernel of a class of that kind" : "kernel whose bias tells";
    if (__builtin_mul_overflow(last, before, &both) || (b && b->n_dims != 1))
        may = 0;
    if (b && may)
        may &= (b->dim[0] == last ? CONV : 0u) | (b->dim[0] == before ? TRANSPOSED : 0u) |
               (b->dim[0] == both ? DEPTH : 0u);
    unsigned said = name_kinds(x->path);
    if ((may & (may - 1)) && (said & CONV_BITS) && (said & CONV_BITS) != CONV_BITS) {
        /* Keras calls a depthwise kernel so in old files; "conv" may be either of new ones */
        unsigned named = said & KIND_BIT(LAYER_CONV_TRANSPOSE) ? TRANSPOSED
                         : x->numbered                         ? CONV | DEPTH
                                                               : CONV;
        if (may & named) {
            may &= named;
            reason = "kernel, named so";
        }
    }
    struct layer *l;
    if (!told && w->n_dims == 3 && (said & KIND_BIT(LAYER_LINEAR)) && !(said & CONV_BITS)) {
        if ((l = put(c, LAYER_NONE, x->path, "kernel of three axes, named as a dense layer")) &&
            may)
            layer_open(l, CONV_BITS);
    } else if (may == CONV || may == TRANSPOSED || may == DEPTH) {
        l = put(c, may == TRANSPOSED ? LAYER_CONV_TRANSPOSE : LAYER_CONV, x->path, reason);
        if (l && may == DEPTH)
            depthwise(l, w);
    } else {
        l = put(c, LAYER_NONE, x->path,
                may ? "kernel with spatial axes: convolution, transposed or depthwise"
                    : "kernel whose bias fits none of its axes");
        if (l && may)
            layer_open(l, CONV_BITS);
    }
    if (l) {
        l->rank = (uint8_t)(w->n_dims - 2);
        l->by_name = told;
        if (x->config && l->kind == LAYER_CONV && !l->depth_c)
            l->groups = x->config->groups;
    }
    return l;
}

/* A kernel for each position, [positions, window, out]: by the class, or by a bias with the
 * positions' own axes. Its other implementations store a masked matrix, or a sparse one's values.
 */
static struct layer *local(struct keras_ctx *c, const struct keras_mod *x, const struct tensor *w,
                           const struct tensor *b)
{
    uint64_t positions;
    bool told = x->cls == KERAS_LOCAL_1D || x->cls == KERAS_LOCAL_2D;
    bool line = w->n_dims == 3 && bias_by_position(w, b, 1);
    bool map = w->n_dims == 3 && b && b->n_dims == 3 && b->dim[2] == w->dim[2] &&
               !__builtin_mul_overflow(b->dim[0], b->dim[1], &positions) && positions == w->dim[0];
    bool fits = x->cls == KERAS_LOCAL_1D   ? !b || line
                : x->cls == KERAS_LOCAL_2D ? !b || map
                                           : map || (line && name_is_local(x->path));
    const struct keras_layer *config = x->config;
    struct layer *l;
    if (w->n_dims != 3)
        return put(c, LAYER_NONE, x->path,
                   "locally connected, not as implementation 1 stores its kernel");
    if (!fits)
        return put(c, LAYER_NONE, x->path, "kernel that no rule knows");
    if (config && config->channels_first)
        return put(c, LAYER_NONE, x->path, "locally connected, channels first");
    l = put(c, LAYER_CONV_LOCAL, x->path,
            told ? "kernel of a class of that kind" : "bias by position");
    if (!l)
        return NULL;
    l->by_name = told;
    l->rank = x->cls == KERAS_LOCAL_2D || (!told && map) ? 2 : 1;
    l->heads = l->rank == 2 && b ? b->dim[0] : 0;
    if (config && config->window && w->dim[1] % config->window == 0) {
        l->flat_c = w->dim[1] / config->window;
        l->flat_said = true;
    }
    return l;
}

/* The same without a class or a telling name: another layer may have such a bias. */
static struct layer *maybe_local(struct keras_ctx *c, const struct keras_mod *x)
{
    struct layer *l =
        put(c, LAYER_NONE, x->path, "bias by position: locally connected, or no layer known here");
    if (l) {
        layer_open(l, KIND_BIT(LAYER_CONV_LOCAL) | KIND_BIT(LAYER_PARAM));
        l->rank = 1;
    }
    return l;
}

static struct layer *kernel(struct keras_ctx *c, const struct keras_mod *x, const struct tensor *w,
                            const struct tensor *b)
{
    bool own = x->cls == KERAS_LOCAL_1D || x->cls == KERAS_LOCAL_2D;
    if (own || (x->cls == KERAS_UNKNOWN && b && w->n_dims == 3 && b->n_dims == 3) ||
        (x->cls == KERAS_UNKNOWN && bias_by_position(w, b, 1) && w->n_dims == 3 &&
         name_is_local(x->path)))
        return local(c, x, w, b);
    if (x->cls == KERAS_UNKNOWN && w->n_dims == 3 && bias_by_position(w, b, 1) &&
        w->dim[0] != w->dim[1]) /* of equal ones, heads of a dense layer's output */
        return maybe_local(c, x);
    bool conv = x->cls == KERAS_CONV || x->cls == KERAS_CONV_TRANSPOSE || x->cls == KERAS_DEPTHWISE;
    if (x->cls == KERAS_OTHER || (x->cls == KERAS_DENSE && w->n_dims != 2) ||
        (conv && w->n_dims == 2) || w->n_dims < 2 || w->n_dims > 5)
        return put(c, LAYER_NONE, x->path, "kernel that no rule knows");
    if (w->n_dims > 2)
        return spatial(c, x, w, b);
    if (b && !vector_of(b, w->dim[1]))
        return put(c, LAYER_NONE, x->path, "kernel of two axes whose bias does not fit");
    return put(c, LAYER_LINEAR, x->path, "kernel of two axes");
}

/* What its equation says, if it is in the config. */
static enum status einsum(struct keras_ctx *c, const struct keras_mod *x, const struct tensor *w,
                          const struct tensor *b, struct layer **l, struct err *e)
{
    const struct dense_axes *d = NULL;
    const char *why = NULL;
    bool is = false;
    TRY(dense_einsum(x->config->equation, x->config->bias_axes, w, b, c->list.a, &d, &is, &why, e));
    *l = put(c, is ? LAYER_LINEAR : LAYER_NONE, x->path, is ? "" : why);
    if (!*l || !is)
        return *l ? ST_OK : err_nomem(e, sizeof **l);
    (*l)->by_name = true;
    (*l)->dense = d;
    (*l)->form = d ? FORM_AXES : FORM_USUAL;
    (*l)->reason = arena_fmt(c->list.a, "an EinsumDense of %.*s", STR_ARG(x->config->equation));
    return (*l)->reason.p ? ST_OK : err_nomem(e, 64);
}

static struct layer *norm(struct keras_ctx *c, const struct keras_mod *x)
{
    unsigned said = name_kinds(x->path);
    bool one = x->cls == KERAS_LAYERNORM || x->cls == KERAS_GROUPNORM || x->cls == KERAS_RMSNORM;
    struct layer *l;
    if (x->var[V_MEAN] >= 0)
        return put(c, LAYER_BATCHNORM, x->path, "moving mean and variance");
    if (x->cls == KERAS_GROUPNORM || (!one && said == KIND_BIT(LAYER_GROUPNORM)))
        l = put(c, LAYER_GROUPNORM, x->path, "gamma and beta, named so");
    else if (one || said == KIND_BIT(LAYER_LAYERNORM))
        l = put(c, LAYER_LAYERNORM, x->path, "gamma and beta, named so");
    else {
        l = put(c, LAYER_LAYERNORM, x->path,
                "gamma and beta without statistics: layer or group normalisation");
        if (l)
            l->kinds = NORM_BITS;
        return l;
    }
    if (l) {
        l->by_name = true;
        if (l->kind == LAYER_GROUPNORM && x->config)
            l->groups = x->config->groups;
    }
    return l;
}

/* All vectors of one size? */
static bool vectors(const struct keras_ctx *c, const struct keras_mod *x)
{
    static const enum var part[] = {V_GAMMA, V_BETA, V_MEAN, V_VAR, V_SCALE};
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        const struct tensor *t = keras_tensor(c, x->var[part[i]]);
        if (!t)
            continue;
        if (t->n_dims != 1 || (n && t->dim[0] != n))
            return false;
        n = t->dim[0];
    }
    return true;
}

/* Depthwise without bias, then 1x1 with it. */
static enum status separable(struct keras_ctx *c, struct keras_mod *x, const struct tensor *w,
                             struct err *e)
{
    const struct tensor *p = keras_tensor(c, x->var[V_POINTWISE]);
    struct str first, second;
    if (w->n_dims < 3 || w->n_dims > 5 || p->n_dims != w->n_dims)
        return ST_OK;
    TRY(path_join(x->path, STR("depthwise"), c->list.a, &first, e));
    TRY(path_join(x->path, STR("pointwise"), c->list.a, &second, e));
    struct layer *l = put(c, LAYER_CONV, first, "depthwise kernel of a separable convolution");
    if (!l)
        return err_nomem(e, sizeof *l);
    depthwise(l, w);
    l->by_name = true;
    if (x->config)
        l->said = x->config->said;
    claim(c, l, LEAF_WEIGHT, x, V_DEPTHWISE);
    if (!(l = put(c, LAYER_CONV, second, "pointwise kernel of a separable convolution")))
        return err_nomem(e, sizeof *l);
    l->rank = (uint8_t)(w->n_dims - 2);
    l->groups = 1;
    l->by_name = true;
    claim(c, l, LEAF_WEIGHT, x, V_POINTWISE);
    claim(c, l, LEAF_BIAS, x, V_BIAS);
    return ST_OK;
}

/* A head that is not tied to its embedding: logits = x R, [width, rows]. */
static enum status reverse(struct keras_ctx *c, const struct keras_mod *x, const struct tensor *emb,
                           struct err *e)
{
    const struct tensor *r = keras_tensor(c, x->var[V_REVERSE]);
    struct str path;
    if (!r || r->n_dims != 2 || r->dim[0] != emb->dim[1] || r->dim[1] != emb->dim[0])
        return ST_OK;
    TRY(path_join(x->path, STR("reverse"), c->list.a, &path, e));
    struct layer *l = put(c, LAYER_LINEAR, path, "variable named reverse_embeddings");
    if (!l)
        return err_nomem(e, sizeof *l);
    l->by_name = true;
    claim(c, l, LEAF_WEIGHT, x, V_REVERSE);
    return ST_OK;
}

/* One variable by a number. A class of the user's own, which the config names, holds a bare
 * parameter; of two axes and nothing that tells the class, one of two kinds. */
static enum status lone(struct keras_ctx *c, struct keras_mod *x, struct err *e)
{
    const struct member *b = &c->ms.member[x->of->first];
    if (!x->numbered || x->of->n != 1 || x->cls != KERAS_UNKNOWN || b->taken ||
        !str_is(b->leaf, "0") || (!x->config && keras_rank(c, b->tensor) != 2))
        return ST_OK;
    x->var[V_KERNEL] = b->tensor;
    if (x->config) {
        struct layer *own =
            put(c, LAYER_PARAM, x->path, "the variable of a layer of the user's own class");
        if (!own)
            return err_nomem(e, sizeof *own);
        claim(c, own, LEAF_VALUE, x, V_KERNEL);
        return ST_OK;
    }
    struct layer *l =
        put(c, LAYER_NONE, x->path, "one variable of two axes: a dense kernel or an embedding");
    if (!l)
        return err_nomem(e, sizeof *l);
    unsigned kinds = KIND_BIT(LAYER_LINEAR) | KIND_BIT(LAYER_EMBEDDING),
             said = name_kinds(x->path) & kinds;
    layer_open(l, said ? said : kinds);
    claim(c, l, LEAF_WEIGHT, x, V_KERNEL);
    return ST_OK;
}

/* A slope for each element of the input, 1 along the axes that share it; a variable called so may
 * be a user's own. */
static struct layer *prelu(struct keras_ctx *c, const struct keras_mod *x,
                           const struct tensor *alpha)
{
    bool told = x->cls == KERAS_PRELU || name_kinds(x->path) == KIND_BIT(LAYER_PRELU);
    struct layer *l = told ? put(c, LAYER_PRELU, x->path, "slopes of a PReLU")
                           : put(c, LAYER_NONE, x->path, "variable named alpha: a PReLU, or not");
    if (!l)
        return NULL;
    if (!told)
        layer_open(l, KIND_BIT(LAYER_PRELU) | KIND_BIT(LAYER_PARAM));
    l->by_name = told;
    l->rank = alpha->n_dims;
    l->form = alpha->dim[alpha->n_dims - 1] == 1 ? FORM_ONE : FORM_USUAL;
    for (size_t d = 0; d + 1 < alpha->n_dims; d++)
        if (alpha->dim[d] != 1)
            l->form = FORM_MAP;
    return l;
}

static enum status plain(struct keras_ctx *c, struct keras_mod *x, struct err *e)
{
    if (x->odd)
        return lone(c, x, e);
    const struct tensor *w = keras_tensor(c, x->var[V_KERNEL]),
                        *b = keras_tensor(c, x->var[V_BIAS]),
                        *d = keras_tensor(c, x->var[V_DEPTHWISE]),
                        *emb = keras_tensor(c, x->var[V_EMBEDDINGS]),
                        *scale = keras_tensor(c, x->var[V_SCALE]),
                        *alpha = keras_tensor(c, x->var[V_ALPHA]);
    bool gamma = x->var[V_GAMMA] >= 0 || x->var[V_BETA] >= 0,
         stats = x->var[V_MEAN] >= 0 && x->var[V_VAR] >= 0;
    struct layer *l = NULL;
    if (d && x->var[V_POINTWISE] >= 0)
        return separable(c, x, d, e);
    if (d && d->n_dims >= 3 && d->n_dims <= 5) {
        struct keras_mod y = *x;
        y.cls = KERAS_DEPTHWISE;
        l = spatial(c, &y, d, b);
        if (!l)
            return err_nomem(e, sizeof *l);
        claim(c, l, LEAF_WEIGHT, x, V_DEPTHWISE);
        claim(c, l, LEAF_BIAS, x, V_BIAS);
    } else if (w && w->n_dims >= 1) {
        if (x->cls == KERAS_EINSUM)
            TRY(einsum(c, x, w, b, &l, e));
        else if (!(l = kernel(c, x, w, b)))
            return err_nomem(e, sizeof *l);
        claim(c, l, LEAF_WEIGHT, x, V_KERNEL);
        claim(c, l, LEAF_BIAS, x, V_BIAS);
        if (!l->dense)
            TRY(keras_flat_layer(&c->names, x->config, keras_tensor(c, l->tensor[LEAF_WEIGHT]), l,
                                 c->list.a, e));
    } else if ((stats || (gamma && x->var[V_MEAN] < 0 && x->var[V_VAR] < 0) ||
                (scale && x->cls == KERAS_RMSNORM)) &&
               vectors(c, x)) {
        l = norm(c, x);
        if (!l)
            return err_nomem(e, sizeof *l);
        claim(c, l, LEAF_WEIGHT, x, scale && !gamma ? V_SCALE : V_GAMMA);
        claim(c, l, LEAF_BIAS, x, V_BETA);
        claim(c, l, LEAF_MEAN, x, V_MEAN);
        claim(c, l, LEAF_VAR, x, V_VAR);
        if (x->cls == KERAS_RMSNORM)
            l->form = FORM_RMS;
        TRY(keras_flat_layer(&c->names, x->config, keras_tensor(c, l->tensor[LEAF_WEIGHT]), l,
                             c->list.a, e));
    } else if (emb && emb->n_dims == 2) {
        l = put(c, LAYER_EMBEDDING, x->path, "variable named embeddings");
        if (!l)
            return err_nomem(e, sizeof *l);
        l->by_name = true;
        claim(c, l, LEAF_WEIGHT, x, V_EMBEDDINGS);
        if (x->config)
            l->said = x->config->said;
        return reverse(c, x, emb, e);
    } else if (alpha && alpha->n_dims >= 1 && alpha->n_dims <= 4) {
        if (!(l = prelu(c, x, alpha)))
            return err_nomem(e, sizeof *l);
        claim(c, l, LEAF_WEIGHT, x, V_ALPHA);
    }
    if (l && x->config)
        l->said = x->config->said;
    return ST_OK;
}

/* ---- the whole ---- */

static enum status modules(struct keras_ctx *c, struct err *e)
{
    c->mod = ARENA_ARRAY(c->list.a, struct keras_mod, c->ms.n + 1);
    if (!c->mod)
        return err_nomem(e, c->ms.n * sizeof *c->mod);
    for (size_t i = 0; i < c->ms.n; i++) {
        struct keras_mod *x = &c->mod[i];
        x->of = &c->ms.module[i];
        x->path = x->of->path;
        x->numbered = c->ms.member[x->of->first].collection.n > 0;
        for (int v = 0; v < V_N; v++)
            x->var[v] = -1;
    }
    TRY(call_all(c, e));
    for (size_t i = 0; i < c->ms.n; i++)
        TRY(class_of(c, &c->mod[i], e));
    return ST_OK;
}

/* What no layer took is called as its module is. */
static enum status call_rest(struct keras_ctx *c, struct err *e)
{
    for (size_t i = 0; i < c->ms.n; i++) {
        const struct keras_mod *x = &c->mod[i];
        for (uint32_t k = x->of->first; k < x->of->first + x->of->n; k++) {
            struct member *b = &c->ms.member[k];
            if (b->taken)
                continue;
            b->path = x->path;
            if (b->collection.n) {
                b->path = arena_fmt(c->list.a, "%.*s.vars", STR_ARG(x->path));
                if (!b->path.p)
                    return err_nomem(e, x->path.n);
            }
        }
    }
    return ST_OK;
}

static enum status cells(struct keras_ctx *c, struct err *e)
{
    struct str *called = ARENA_ARRAY(c->list.a, struct str, c->ms.n + 1);
    if (!called)
        return err_nomem(e, c->ms.n * sizeof *called);
    for (size_t i = 0; i < c->ms.n; i++)
        called[i] = c->mod[i].path;
    return keras_cells(c->style->rules, &c->names, &c->ms, called, &c->list, e);
}

/* Where the config has the layer that a module belongs to; 0: it does not say. */
static enum status place_of(const struct keras_ctx *c, const struct keras_mod *x, uint32_t *out,
                            struct err *e)
{
    const struct keras_layer *l = x->config;
    *out = 0;
    struct str path = x->numbered ? keras_class_path(x->of->path, c->list.a) : x->path, leaf;
    if (!path.p && x->of->path.n)
        return err_nomem(e, x->of->path.n);
    while (!l && path.n) { /* a projection's attention, a cell's layer */
        name_tail(path, &path, &leaf);
        l = x->numbered        ? keras_by_class(&c->names, path)
            : c->style->legacy ? keras_by_group(&c->names, path)
                               : keras_by_name(&c->names, path);
    }
    bool model = l && l->last >= 0 && !c->names.layer[l->last].attr.n;
    *out = l && !model ? (uint32_t)(l - c->names.layer) + 1 : 0;
    return ST_OK;
}

static enum status places(const struct keras_ctx *c, struct layers *out, struct err *e)
{
    uint32_t *at = ARENA_ARRAY(c->list.a, uint32_t, c->ms.m->n_tensors + 1), place = 0;
    if (!at)
        return err_nomem(e, c->ms.m->n_tensors * sizeof *at);
    for (size_t i = 0; i < c->ms.n && c->names.n; i++) {
        const struct module *mod = c->mod[i].of;
        TRY(place_of(c, &c->mod[i], &place, e));
        for (uint32_t k = mod->first; k < mod->first + mod->n; k++)
            at[c->ms.member[k].tensor] = place;
    }
    for (size_t i = 0; i < out->n; i++)
        for (int k = 0; k < LEAF_N && !out->layer[i].place; k++)
            if (out->layer[i].tensor[k] >= 0)
                out->layer[i].place = at[out->layer[i].tensor[k]];
    return ST_OK;
}

enum status keras_layers(const struct keras_style *style, const struct model *m, struct arena *a,
                         struct layers *out, struct err *e)
{
    struct keras_ctx c = {.style = style, .list = {.a = a}};
    TRY(keras_names_read(m, a, &c.names, e));
    TRY(modules_build(m, cut, a, &c.ms, e));
    c.list.most = c.ms.n;
    TRY(modules(&c, e));
    TRY(cells(&c, e));
    for (size_t i = 0; i < c.ms.n; i++)
        TRY(keras_attention(&c.ms, &c.list, i, c.mod[i].path, e));
    for (size_t i = 0; i < c.ms.n; i++) {
        struct str parent, seg;
        name_tail(c.mod[i].of->path, &parent, &seg);
        keras_vars_of(&c, &c.mod[i]);
        bool lost = keras_is_projection(seg) && keras_rank(&c, c.mod[i].var[V_KERNEL]) == 3 &&
                    c.mod[i].cls != KERAS_EINSUM;
        if (!lost) /* a projection of an attention that no rule knows */
            TRY(plain(&c, &c.mod[i], e));
    }
    TRY(call_rest(&c, e));
    TRY(layers_done(&c.list, &c.ms, style->framework, out, e));
    TRY(places(&c, out, e));
    return keras_functions(&c.names, a, out, e);
}

int keras_words(const struct model *m)
{
    int most = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str parent, leaf, up, last;
        uint64_t k;
        name_tail(m->tensor[i].name, &parent, &leaf);
        name_tail(parent, &up, &last);
        struct str plain = without_output(leaf);
        bool said = str_is(plain, "kernel") || str_is(plain, "gamma") ||
                    str_is(plain, "moving_variance") || str_is(plain, "embeddings");
        if (str_is(leaf, "weight") || str_is(leaf, "running_var"))
            return 0;
        if (str_is(plain, "moving_variance") || str_is(plain, "embeddings") ||
            str_is(plain, "depthwise_kernel") || (str_is(last, "vars") && str_u64(leaf, &k)))
            most = most > 70 ? most : 70;
        if (said && plain.n < leaf.n)
            most = 85;
    }
    return most;
}
