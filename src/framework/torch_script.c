/* What a TorchScript program says, told to the layers: each module runs its class, and what the
 * class says of self.A.B is said of the tensor that the module has there. Two that disagree
 * of one tensor say nothing of it.
 */
#include "framework/torch_script.h"
#include "framework/recognise.h"
#include "framework/torch_script_code.h"
#include <stdlib.h>

#define STEPS_MAX (1u << 24) /* nodes looked at; a tree that takes more says nothing */
#define FUNCTIONS_MAX 4096
#define DEPTH_MAX 64 /* of a module's path */

enum {
    IN_KIND,
    IN_EPSILON,
    IN_MOMENTUM,
    IN_GROUPS,
    IN_BATCH,
    IN_ACTIVATION,
    IN_STRIDE,
    IN_PADDING,
    IN_DILATION,
    IN_HEADS
};
struct said {
    struct script_use u;
    unsigned against; /* bits of what was said in two ways */
};
struct telling {
    const struct model *m;
    struct arena *a;
    struct script_class *class;
    size_t n_classes;
    struct said **of; /* per tensor; NULL: nothing */
    struct function *function;
    size_t n_functions;
    size_t steps;
    bool no_memory;
};

/* ---- gathering ---- */

static bool same_ints(const struct script_ints *x, const struct script_ints *y)
{
    if (x->n != y->n)
        return false;
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i] != y->v[i])
            return false;
    return true;
}

static void ints(struct said *s, int bit, struct script_ints *old, const struct script_ints *new)
{
    if (old->n && new->n && !same_ints(old, new))
        s->against |= 1u << bit;
    if (new->n)
        *old = *new;
}

static void word(struct said *s, int bit, struct str *old, struct str new)
{
    if (old->n && new.n && !str_eq(*old, new))
        s->against |= 1u << bit;
    if (new.n)
        *old = new;
}

static void number(struct said *s, int bit, double *old, double new)
{
    if (*old > 0 && new > 0 && (*old < new || *old > new))
        s->against |= 1u << bit;
    if (new > 0)
        *old = new;
}

static void count(struct said *s, int bit, uint64_t *old, uint64_t new)
{
    if (*old && new &&*old != new)
        s->against |= 1u << bit;
    if (new)
        *old = new;
}

static void hear(struct telling *t, uint32_t tensor, const struct script_use *u, uint64_t heads)
{
    struct said *s = t->of[tensor];
    if (!s)
        s = t->of[tensor] = ARENA_NEW(t->a, struct said);
    if (!s) {
        t->no_memory = true;
        return;
    }
    struct script_use *old = &s->u;
    if (old->kind != LAYER_NONE && u->kind != LAYER_NONE &&
        (old->kind != u->kind || old->rms != u->rms))
        s->against |= 1u << IN_KIND;
    if (u->kind != LAYER_NONE) {
        old->kind = u->kind;
        old->rms = u->rms;
    }
    /* "same" beside numbers is two ways too */
    if ((old->same && u->padding.n) || (u->same && old->padding.n))
        s->against |= 1u << IN_PADDING;
    old->same = old->same || u->same;
    number(s, IN_EPSILON, &old->epsilon, u->epsilon);
    number(s, IN_MOMENTUM, &old->momentum, u->momentum);
    count(s, IN_GROUPS, &old->groups, u->groups);
    count(s, IN_HEADS, &old->heads, heads ? heads : u->heads);
    word(s, IN_BATCH, &old->batch, u->batch);
    word(s, IN_ACTIVATION, &old->activation, u->activation);
    ints(s, IN_STRIDE, &old->stride, &u->stride);
    ints(s, IN_PADDING, &old->padding, &u->padding);
    ints(s, IN_DILATION, &old->dilation, &u->dilation);
}

static const struct node *child(struct telling *t, const struct node *n, struct str name)
{
    for (const struct node *c = n->child; c && t->steps < STEPS_MAX; c = c->next) {
        t->steps++;
        if (c->key && c->key->kind == NODE_STR && str_eq(c->key->text, name))
            return c;
    }
    return NULL;
}

static const struct node *reached(struct telling *t, const struct node *n,
                                  const struct script_attr *attr)
{
    const struct script_attr *way[SCRIPT_DEPTH] = {NULL};
    size_t depth = 0;
    for (; attr && depth < SCRIPT_DEPTH; attr = attr->outer)
        way[depth++] = attr;
    while (n && depth > 0)
        n = child(t, n, way[--depth]->name);
    return n;
}

/* "" at the top; .p == NULL: no memory, or a name that cannot be shown. */
static struct str path_of(struct telling *t, const struct node *n)
{
    const struct node *way[DEPTH_MAX] = {NULL};
    size_t depth = 0;
    struct str path = STR("");
    for (; n->parent; n = n->parent) {
        if (depth == DEPTH_MAX || !n->key || n->key->kind != NODE_STR || n->key->text.n > 256 ||
            !str_utf8(n->key->text, NULL))
            return STR_NONE;
        way[depth++] = n;
    }
    while (depth > 0) {
        struct str key = way[--depth]->key->text;
        for (size_t i = 0; i < key.n; i++)
            if ((unsigned char)key.p[i] < ' ')
                return STR_NONE;
        path = arena_fmt(t->a, "%.*s%s%.*s", STR_ARG(path), path.n ? "." : "", STR_ARG(key));
        if (!path.p) {
            t->no_memory = true;
            return path;
        }
    }
    return path.n ? path : STR("forward");
}

static void function(struct telling *t, const struct node *n, const struct script_use *u,
                     struct str *path)
{
    if (!path->p)
        *path = path_of(t, n);
    for (size_t i = t->n_functions; i-- > 0 && str_eq(t->function[i].path, *path);)
        if (t->function[i].of == u->of && t->function[i].setting == u->setting &&
            str_eq(t->function[i].means, u->means))
            return;
    if (path->p && t->n_functions < FUNCTIONS_MAX)
        t->function[t->n_functions++] = (struct function){*path, u->of, u->setting, u->means};
}

static void whole(struct telling *t, const struct node *n, const struct script_use *u)
{
    const struct node *heads = u->kind == LAYER_ATTENTION ? child(t, n, STR("num_heads")) : NULL;
    uint64_t n_heads = heads && heads->kind == NODE_INT && heads->i > 0 ? (uint64_t)heads->i : 0;
    for (const struct node *c = n->child; c && t->steps < STEPS_MAX; c = c->next, t->steps++)
        if (c->kind == NODE_TENSOR)
            hear(t, c->tensor, u, n_heads);
}

static int by_name(const void *x, const void *y)
{
    return str_cmp(((const struct script_class *)x)->name, ((const struct script_class *)y)->name);
}

static void module(struct telling *t, const struct node *n)
{
    const struct script_class want = {.name = n->text};
    const struct script_class *c = bsearch(&want, t->class, t->n_classes, sizeof want, by_name);
    struct str path = STR_NONE;
    for (const struct script_use *u = c ? c->use : NULL; u && t->steps < STEPS_MAX; u = u->next) {
        t->steps++;
        if (u->of) {
            function(t, n, u, &path);
        } else if (!u->tensor) {
            whole(t, n, u);
        } else {
            const struct node *at = reached(t, n, u->tensor);
            if (at && at->kind == NODE_TENSOR)
                hear(t, at->tensor, u, 0);
        }
    }
}

/* ---- telling ---- */

static bool agreed(const struct said *s, int bit)
{
    return !(s->against & (1u << bit));
}

static void settle(const struct model *m, const struct said *s, struct layer *l)
{
    enum layer_kind k = s->u.kind;
    if (k == LAYER_NONE || !agreed(s, IN_KIND) || !(l->kinds & KIND_BIT(k)))
        return;
    if (l->kinds != KIND_BIT(k)) {
        layer_decide(l, k);
        l->reason = STR("as the archive's program uses it");
        if (k != LAYER_PRELU && l->form == FORM_ONE)
            l->form = FORM_USUAL;
    }
    if (s->u.rms && l->form == FORM_USUAL && l->tensor[LEAF_BIAS] < 0)
        l->form = FORM_RMS;
    const struct tensor *w =
        l->tensor[LEAF_WEIGHT] >= 0 ? &m->tensor[l->tensor[LEAF_WEIGHT]] : NULL;
    bool grouped = k == LAYER_GROUPNORM || k == LAYER_CONV_TRANSPOSE;
    if (grouped && l->groups == 0 && agreed(s, IN_GROUPS) && s->u.groups && w && w->n_dims > 0 &&
        w->dim[0] % s->u.groups == 0)
        l->groups = s->u.groups;
    const struct tensor *o =
        l->tensor[LEAF_O_WEIGHT] >= 0 ? &m->tensor[l->tensor[LEAF_O_WEIGHT]] : NULL;
    if (k == LAYER_ATTENTION && l->heads == 0 && agreed(s, IN_HEADS) && s->u.heads && o &&
        o->n_dims == 2 && o->dim[1] % s->u.heads == 0)
        l->heads = s->u.heads;
}

static bool not_one(const struct script_ints *x)
{
    bool any = false;
    for (size_t i = 0; i < x->n; i++)
        any = any || x->v[i] != 1;
    return any;
}

static void convolution(struct telling *t, const struct said *s, struct layer *l)
{
    const struct tensor *w = &t->m->tensor[l->tensor[LEAF_WEIGHT]];
    const struct script_ints *stride = &s->u.stride;
    bool up = l->kind == LAYER_CONV_TRANSPOSE;
    if (!agreed(s, IN_KIND) || s->u.kind != l->kind || w->n_dims < 3 || w->n_dims != l->rank + 2u)
        return;
    l->said.strided = agreed(s, IN_STRIDE) && not_one(&s->u.stride);
    l->said.dilated = agreed(s, IN_DILATION) && not_one(&s->u.dilation);
    if (l->said.padding.n || !agreed(s, IN_STRIDE) || !agreed(s, IN_DILATION) ||
        !agreed(s, IN_PADDING))
        return;
    for (size_t d = 0; up && d < l->rank; d++)
        if ((stride->n != 1 && stride->n != l->rank) ||
            w->dim[2 + d] < stride->v[stride->n == 1 ? 0 : d])
            return; /* what no kernel reaches: torch leaves it out at the end, others do not */
    l->said.padding = s->u.same ? STR("same")
                                : script_padding(stride, &s->u.padding, &s->u.dilation,
                                                 up ? NULL : w->dim + 2, l->rank, t->a);
    t->no_memory = t->no_memory || !l->said.padding.p;
}

static void tell(struct telling *t, const struct said *s, struct layer *l)
{
    settle(t->m, s, l);
    bool bn = l->kind == LAYER_BATCHNORM,
         norm = bn || l->kind == LAYER_LAYERNORM || l->kind == LAYER_GROUPNORM,
         ordered = kind_is_cell(l->kind) || l->kind == LAYER_ATTENTION;
    if (norm && !(l->said.epsilon > 0) && agreed(s, IN_EPSILON))
        l->said.epsilon = s->u.epsilon;
    if (bn && !(l->said.momentum > 0) && agreed(s, IN_MOMENTUM))
        l->said.momentum = s->u.momentum;
    if ((l->kind == LAYER_CONV || l->kind == LAYER_CONV_TRANSPOSE) && l->tensor[LEAF_WEIGHT] >= 0)
        convolution(t, s, l);
    if (ordered && !l->said.batch.n && agreed(s, IN_BATCH))
        l->said.batch = s->u.batch;
    if (l->kind == LAYER_RNN && !l->said.activation.n && agreed(s, IN_ACTIVATION))
        l->said.activation = s->u.activation;
}

static const struct said *said_of(const struct telling *t, const struct layer *l)
{
    static const enum leaf at[] = {LEAF_WEIGHT, LEAF_MEAN, LEAF_QKV_WEIGHT, LEAF_Q_WEIGHT,
                                   LEAF_IH_WEIGHT};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        if (l->tensor[at[i]] >= 0 && t->of[l->tensor[at[i]]])
            return t->of[l->tensor[at[i]]];
    return NULL;
}

enum status torch_script_told(const struct model *m, struct arena *a, struct layers *l,
                              struct err *e)
{
    struct telling t = {.m = m, .a = a};
    if (!m->modules)
        return ST_OK;
    TRY(script_read(m, a, &t.class, &t.n_classes, e));
    if (!t.n_classes)
        return ST_OK;
    t.of = ARENA_ARRAY(a, struct said *, m->n_tensors + 1);
    t.function = ARENA_ARRAY(a, struct function, FUNCTIONS_MAX);
    if (!t.of || !t.function)
        return err_nomem(e, m->n_tensors * sizeof *t.of);
    for (struct node *n = m->modules; n && t.steps < STEPS_MAX;
         n = node_step(m->modules, n), t.steps++)
        if (n->kind == NODE_OPAQUE)
            module(&t, n);
    for (size_t i = 0; i < l->n && t.steps < STEPS_MAX; i++) {
        const struct said *s = said_of(&t, &l->layer[i]);
        if (s)
            tell(&t, s, &l->layer[i]);
    }
    if (t.no_memory)
        return err_nomem(e, sizeof(struct said));
    if (!l->n_functions && t.steps < STEPS_MAX) {
        l->function = t.function;
        l->n_functions = t.n_functions;
    }
    return ST_OK;
}
