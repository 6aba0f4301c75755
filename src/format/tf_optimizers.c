/* Keras 3's optimizers in an object graph. An optimizer is a node with the children _iterations,
 * _variables and _trainable_variables, the last the model's variables in the order of all its
 * lists: the k-th of _momentums is that of the k-th trainable variable. A checkpoint of a model and
 * its optimizer may keep a weight under the optimizer's path, if that is the shorter one; here the
 * weight is called by its path through the model, as in a checkpoint without the optimizer.
 * Source: keras/src/optimizers, keras/src/backend/tensorflow/optimizer.py;
 * tensorflow/python/checkpoint/{graph_view,util}.py.
 */
#include "base/mem.h"
#include "format/tf.h"
#include <string.h>

#define DEPTH_MAX 64
#define WEIGHTS "_trainable_variables"

/* The graph as it is walked. */
struct walk {
    const struct tf_graph *g;
    size_t *first;   /* per node: its first child; one more behind the last */
    bool *optimizer; /* per node */
    size_t *by;      /* per node: the child that leads to it, SIZE_MAX = none, or the root */
    uint8_t *depth;  /* per node; of a list: looked at */
};

static void walk_free(struct walk *w)
{
    mem_free(w->first);
    mem_free(w->optimizer);
    mem_free(w->by);
    mem_free(w->depth);
}

static enum status walk_init(struct walk *w, const struct tf_graph *g, struct err *e)
{
    size_t n = g->n_nodes + 1;
    *w = (struct walk){.g = g};
    w->first = mem_zalloc(n, sizeof *w->first);
    w->optimizer = mem_zalloc(n, sizeof *w->optimizer);
    w->by = mem_zalloc(n, sizeof *w->by);
    w->depth = mem_zalloc(n, sizeof *w->depth);
    if (!w->first || !w->optimizer || !w->by || !w->depth) {
        walk_free(w);
        return err_nomem(e, n * sizeof *w->first);
    }
    size_t k = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        unsigned has = 0;
        w->by[i] = SIZE_MAX;
        w->first[i] = k;
        for (; k < g->n_children && g->child[k].parent == i; k++)
            has |= (str_is(g->child[k].name, "_iterations") ? 1u : 0) |
                   (str_is(g->child[k].name, "_variables") ? 2u : 0) |
                   (str_is(g->child[k].name, WEIGHTS) ? 4u : 0);
        w->optimizer[i] = has == 7;
    }
    w->first[g->n_nodes] = k;
    return ST_OK;
}

/* ---- names ---- */

/* From the root, nearest first, not through optimizers. */
static enum status reach(struct walk *w, struct err *e)
{
    const struct tf_graph *g = w->g;
    uint32_t *queue = mem_zalloc(g->n_nodes + 1, sizeof *queue);
    size_t lo = 0, hi = 0;
    if (!queue)
        return err_nomem(e, g->n_nodes * sizeof *queue);
    if (g->n_nodes && !w->optimizer[0])
        queue[hi++] = 0;
    while (lo < hi) {
        uint32_t at = queue[lo++];
        for (size_t k = w->first[at]; k < w->first[at + 1]; k++) {
            uint32_t to = g->child[k].node;
            if (to == 0 || w->by[to] != SIZE_MAX || w->optimizer[to] || w->depth[at] == DEPTH_MAX)
                continue;
            w->by[to] = k;
            w->depth[to] = (uint8_t)(w->depth[at] + 1);
            queue[hi++] = to;
        }
    }
    mem_free(queue);
    return ST_OK;
}

/* OPTIMIZER/_trainable_variables/3/.ATTRIBUTES/VARIABLE_VALUE */
static bool among_weights(struct str key)
{
    struct str list = STR("/" WEIGHTS "/");
    size_t at;
    uint64_t number;
    if (!str_ends(key, STR(TF_TAIL)))
        return false;
    key.n -= sizeof TF_TAIL - 1;
    at = str_find_str(key, list, 0);
    return at < key.n && str_u64(str_sub(key, at + list.n, key.n), &number);
}

/* As TensorFlow writes a child's name into a key. */
static void put_local(struct buf *b, struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '.' || name.p[i] == '/')
            buf_u8(b, '.');
        buf_u8(b, name.p[i] == '/' ? 'S' : (uint8_t)name.p[i]);
    }
}

static enum status path_of(const struct walk *w, uint32_t node, struct arena *a, struct str *out,
                           struct err *e)
{
    struct str part[DEPTH_MAX];
    size_t n = 0;
    struct buf b = BUF_INIT;
    for (uint32_t at = node; w->by[at] != SIZE_MAX; at = w->g->child[w->by[at]].parent)
        part[n++] = w->g->child[w->by[at]].name;
    while (n-- > 0) {
        put_local(&b, part[n]);
        buf_z(&b, n ? "/" : TF_TAIL);
    }
    enum status st = buf_ok(&b, e);
    struct str key = st == ST_OK ? arena_str(a, b.p, b.n) : STR_NONE;
    buf_free(&b);
    TRY(st);
    return key.p ? tf_name(key, true, a, out, e) : err_nomem(e, 64);
}

enum status tf_optimizer_names(struct tf_graph *g, struct arena *a, struct err *e)
{
    struct walk w;
    bool any = false;
    enum status st = ST_OK;
    for (size_t i = 0; i < g->n_attrs; i++)
        any = any || among_weights(g->attr[i].key);
    if (any) {
        TRY(walk_init(&w, g, e));
        st = reach(&w, e);
    }
    for (size_t i = 0; i < g->n_attrs && st == ST_OK; i++) {
        struct tf_attr *x = &g->attr[i];
        if (any && w.by[x->node] != SIZE_MAX && among_weights(x->key))
            st = path_of(&w, x->node, a, &x->tensor, e);
        else
            st = tf_name(x->key, true, a, &x->tensor, e);
    }
    if (any)
        walk_free(&w);
    return st;
}

/* ---- roles ---- */

static const struct {
    const char *list;
    enum role role;
} lists[] = {
    {"_momentums", ROLE_MOMENT1},
    {"momentums", ROLE_MOMENT1},
    {"_average_gradients", ROLE_MOMENT1},
    {"_m", ROLE_MOMENT1},
    {"_velocities", ROLE_MOMENT2},
    {"_velocity_hats", ROLE_MOMENT2},
    {"_accumulators", ROLE_MOMENT2},
    {"_accumulated_grads", ROLE_MOMENT2},
    {"_accumulated_delta_vars", ROLE_MOMENT2},
    {"_u", ROLE_MOMENT2},
    {"_model_variables_moving_average", ROLE_EMA},
};

/* The tensor of the k-th object of a list; -1: none. */
static int64_t member(const struct walk *w, uint32_t list, uint64_t k, const int64_t *of)
{
    size_t at = w->first[list] + k;
    uint64_t number;
    if (k >= w->first[list + 1] - w->first[list] || !str_u64(w->g->child[at].name, &number) ||
        number != k)
        return -1;
    return of[w->g->child[at].node];
}

/* One list of an optimizer beside its list of weights. */
static void slots_of(struct walk *w, const struct tf_child *list, uint32_t weights,
                     const int64_t *of, struct model *m)
{
    enum role role = ROLE_OTHER;
    size_t n = w->first[list->node + 1] - w->first[list->node];
    if (w->depth[list->node]) /* each list once, however many name it */
        return;
    w->depth[list->node] = 1;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (str_is(list->name, lists[i].list))
            role = lists[i].role;
    for (uint64_t k = 0; k < n; k++) {
        int64_t p = member(w, weights, k, of), s = member(w, list->node, k, of);
        struct tensor *t = s < 0 ? NULL : &m->tensor[s];
        const struct tensor *x = p < 0 ? NULL : &m->tensor[p];
        if (!t || !x || s == p || t->of >= 0 || t->role == ROLE_PARAMETER ||
            x->n_dims != t->n_dims || memcmp(x->dim, t->dim, x->n_dims * sizeof *x->dim) != 0)
            continue;
        t->of = p;
        t->role = role;
    }
}

enum status tf_optimizer_roles(const struct tf_graph *g, const int64_t *of, struct model *m,
                               struct err *e)
{
    struct walk w;
    TRY(walk_init(&w, g, e));
    for (size_t i = 0; i < g->n_nodes; i++) {
        size_t at = w.first[i];
        while (w.optimizer[i] && !str_is(g->child[at].name, WEIGHTS))
            at++;
        for (size_t k = w.first[i]; w.optimizer[i] && k < w.first[i + 1]; k++) {
            struct str name = g->child[k].name;
            if (!str_is(name, "_variables") && !str_starts(name, STR(WEIGHTS)))
                slots_of(&w, &g->child[k], g->child[at].node, of, m);
        }
    }
    walk_free(&w);
    return ST_OK;
}
