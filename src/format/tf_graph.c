/* The object graph of a checkpoint: TrackableObjectGraph, a message in one string tensor.
 *
 *   graph   1 node ...
 *   node    1 child {1 node, 2 name}, 2 attribute {1 name, 2 full_name, 3 checkpoint_key},
 *           3 slot {1 variable's node, 2 slot's name, 3 slot's node}, 4, 5: registered savers,
 * flags node 0 is the root. Children, attributes and slots are looked at; the whole is carried as
 * it is. Source: core/protobuf/trackable_object_graph.proto.
 */
#include "base/mem.h"
#include "format/tf.h"
#include <stdlib.h>
#include <string.h>

static enum status read_attr(const struct proto *field, uint32_t node, struct buf *out,
                             struct arena *a, struct err *e)
{
    struct tf_attr x = {.node = node};
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m))
        if (m.field >= 1 && m.field <= 3)
            *(m.field == 1 ? &x.name : m.field == 2 ? &x.full_name : &x.key) = proto_str(&m, a);
    TRY(cur_ok(field->c, e));
    buf_bytes(out, &x, sizeof x);
    return buf_ok(out, e);
}

static enum status read_slot(const struct proto *field, struct buf *out, struct arena *a,
                             struct err *e)
{
    struct tf_slot x = {0};
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 1)
            x.variable = (uint32_t)proto_u64(&m);
        else if (m.field == 2)
            x.name = proto_str(&m, a);
        else if (m.field == 3)
            x.slot = (uint32_t)proto_u64(&m);
    }
    TRY(cur_ok(field->c, e));
    buf_bytes(out, &x, sizeof x);
    return buf_ok(out, e);
}

static enum status read_child(const struct proto *field, uint32_t parent, struct buf *out,
                              struct arena *a, struct err *e)
{
    struct tf_child x = {.parent = parent};
    struct proto m;
    if (!proto_sub(field, &m))
        return cur_ok(field->c, e);
    while (proto_next(&m)) {
        if (m.field == 1)
            x.node = (uint32_t)proto_u64(&m);
        else if (m.field == 2)
            x.name = proto_str(&m, a);
    }
    TRY(cur_ok(field->c, e));
    buf_bytes(out, &x, sizeof x);
    return buf_ok(out, e);
}

/* What the nodes hold, as lists. */
struct found {
    struct buf attrs, slots, children;
};

static enum status walk(struct cursor *c, struct arena *a, struct tf_graph *g, struct found *f,
                        struct err *e)
{
    struct proto m, node;
    proto_init(&m, c, c->end);
    while (proto_next(&m)) {
        if (m.field != 1 || !proto_sub(&m, &node))
            continue;
        while (proto_next(&node)) {
            if (node.field == 1)
                TRY(read_child(&node, (uint32_t)g->n_nodes, &f->children, a, e));
            else if (node.field == 2)
                TRY(read_attr(&node, (uint32_t)g->n_nodes, &f->attrs, a, e));
            else if (node.field == 3)
                TRY(read_slot(&node, &f->slots, a, e));
        }
        g->n_nodes++;
    }
    return cur_ok(c, e);
}

static enum status keep(struct arena *a, const struct buf *b, void **out, struct err *e)
{
    uint8_t *p = arena_alloc(a, 1, b->n + 1);
    if (!p)
        return err_nomem(e, b->n);
    for (size_t i = 0; i < b->n; i++)
        p[i] = b->p[i];
    *out = p;
    return ST_OK;
}

static enum status all_there(const struct tf_graph *g, const char *name, uint64_t base,
                             struct err *e)
{
    bool ok = true;
    for (size_t i = 0; i < g->n_slots && ok; i++)
        ok = g->slot[i].variable < g->n_nodes && g->slot[i].slot < g->n_nodes;
    if (!ok)
        (void)err_set(e, ST_INPUT, "tf-graph", "a slot names an object that is not there");
    for (size_t i = 0; i < g->n_children && ok; i++) {
        ok = g->child[i].node < g->n_nodes;
        if (!ok)
            (void)err_set(e, ST_INPUT, "tf-graph", "a child is an object that is not there");
    }
    if (!ok)
        err_at(e, name, base);
    return ok ? ST_OK : ST_INPUT;
}

enum status tf_graph_read(struct str bytes, const char *name, uint64_t base, struct arena *a,
                          struct tf_graph *g, struct err *e)
{
    struct found f = {BUF_INIT, BUF_INIT, BUF_INIT};
    struct cursor c;
    void *attr = NULL, *slot = NULL, *child = NULL;
    *g = (struct tf_graph){0};
    cur_mem(&c, bytes.p, bytes.n, name, base);
    enum status st = walk(&c, a, g, &f, e);
    if (st == ST_OK)
        st = keep(a, &f.attrs, &attr, e);
    if (st == ST_OK)
        st = keep(a, &f.slots, &slot, e);
    if (st == ST_OK)
        st = keep(a, &f.children, &child, e);
    g->attr = attr;
    g->n_attrs = f.attrs.n / sizeof *g->attr;
    g->slot = slot;
    g->n_slots = f.slots.n / sizeof *g->slot;
    g->child = child;
    g->n_children = f.children.n / sizeof *g->child;
    buf_free(&f.attrs);
    buf_free(&f.slots);
    buf_free(&f.children);
    if (st == ST_OK)
        st = all_there(g, name, base, e);
    return st == ST_OK ? tf_optimizer_names(g, a, e) : st;
}

/* ---- roles ---- */

static bool among(struct str s, const char *const *list)
{
    for (; *list; list++)
        if (str_is(s, *list))
            return true;
    return false;
}

static const char *const first_moment[] = {"m",  "momentum",         "momentums",
                                           "mg", "average_gradient", NULL};
static const char *const second_moment[] = {"v",
                                            "vhat",
                                            "v_hat",
                                            "rms",
                                            "velocity",
                                            "velocities",
                                            "accumulator",
                                            "u",
                                            "accumulated_grad",
                                            "accumulated_delta_var",
                                            "accum_grad",
                                            "accum_var",
                                            NULL};

static void set_slot(struct tensor *t, struct str name, int64_t of)
{
    if (tensor_is_weight(t))
        return; /* roles go by names first, so that digests do not depend on the container */
    t->of = of;
    t->role = among(name, first_moment)    ? ROLE_MOMENT1
              : among(name, second_moment) ? ROLE_MOMENT2
                                           : ROLE_OTHER;
}

/* Tensors of nodes: -1 where a node keeps none. */
static void map_nodes(const struct tf_graph *g, struct model *m, int64_t *of)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        of[i] = -1;
    for (size_t i = 0; i < g->n_attrs; i++) {
        const struct tf_attr *x = &g->attr[i];
        int64_t at = model_find(m, x->tensor);
        if (at < 0)
            continue;
        of[x->node] = at;
        if (x->full_name.n && m->tensor[at].note.n == 0 && str_utf8(x->full_name, NULL))
            m->tensor[at].note = x->full_name;
    }
}

/* tf-keras' optimizers since 2.11 keep no slots: what they hold is numbered (_variables.3), and its
 * full name is OPTIMIZER/SLOT/VARIABLE with the variable's own. */
struct noted {
    struct str note;
    size_t at;
};
static int by_note(const void *a, const void *b)
{
    const struct noted *x = a, *y = b;
    return str_cmp(x->note, y->note);
}

static enum status full_names(struct model *m, struct err *e)
{
    struct noted *list = mem_zalloc(m->n_tensors + 1, sizeof *list);
    size_t n = 0;
    if (!list)
        return err_nomem(e, m->n_tensors * sizeof *list);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (m->tensor[i].role == ROLE_PARAMETER && m->tensor[i].note.n)
            list[n++] = (struct noted){m->tensor[i].note, i};
    if (n)
        qsort(list, n, sizeof *list, by_note);
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        struct str slot, rest = t->note;
        if (t->role != ROLE_OTHER || !rest.n)
            continue;
        if (str_ends(t->name, STR("._iterations")) && t->n_dims == 0)
            t->role = ROLE_COUNTER;
        if (str_find_str(t->name, STR("._variables."), 0) == t->name.n ||
            !str_split(&rest, '/', &slot))
            continue;
        /* inside a LossScaleOptimizer there is no OPTIMIZER */
        bool alone = among(slot, first_moment) || among(slot, second_moment);
        if (!rest.p || (!alone && (!str_split(&rest, '/', &slot) || !rest.p)))
            continue;
        const struct noted key = {.note = rest};
        const struct noted *f = n ? bsearch(&key, list, n, sizeof *list, by_note) : NULL;
        bool twice = f && ((f > list && str_eq(f[-1].note, rest)) ||
                           (f + 1 < list + n && str_eq(f[1].note, rest)));
        const struct tensor *p = f && !twice ? &m->tensor[f->at] : NULL;
        if (p && p->n_dims == t->n_dims && memcmp(p->dim, t->dim, p->n_dims * sizeof *p->dim) == 0)
            set_slot(t, slot, (int64_t)f->at);
    }
    mem_free(list);
    return ST_OK;
}

enum status tf_graph_roles(const struct tf_graph *g, struct model *m, struct err *e)
{
    int64_t *of = mem_zalloc(g->n_nodes + 1, sizeof *of);
    if (!of)
        return err_nomem(e, g->n_nodes * sizeof *of);
    map_nodes(g, m, of);
    for (size_t i = 0; i < g->n_slots; i++) {
        const struct tf_slot *s = &g->slot[i];
        if (of[s->slot] >= 0 && of[s->variable] >= 0)
            set_slot(&m->tensor[of[s->slot]], s->name, of[s->variable]);
    }
    enum status st = tf_optimizer_roles(g, of, m, e);
    mem_free(of);
    return st == ST_OK ? full_names(m, e) : st;
}

/* ---- writing again ---- */

static bool has(const struct str *keys, size_t n, struct str key)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(keys[mid], key);
        if (c == 0)
            return true;
        *(c < 0 ? &lo : &hi) = c < 0 ? mid + 1 : mid;
    }
    return false;
}

/* The current field with its tag, as it stands. */
static void copy_field(const struct proto *m, struct str bytes, struct buf *out)
{
    uint64_t end = m->body + m->n;
    buf_bytes(out, bytes.p + m->at, (size_t)(end - m->at));
}

static enum status prune_node(const struct proto *field, struct str bytes, const struct str *keys,
                              size_t n, struct buf *out, struct err *e)
{
    struct proto node, x;
    if (!proto_sub(field, &node))
        return cur_ok(field->c, e);
    while (proto_next(&node)) {
        bool keep_it = true;
        if (node.field == 2 && proto_sub(&node, &x))
            while (proto_next(&x))
                if (x.field == 3 && x.wire == PROTO_LEN)
                    keep_it = has(keys, n, str_sub(bytes, (size_t)x.body, (size_t)(x.body + x.n)));
        if (keep_it && !cur_failed(node.c))
            copy_field(&node, bytes, out);
    }
    return cur_ok(field->c, e);
}

enum status tf_graph_prune(struct str bytes, const struct str *keys, size_t n, struct buf *out,
                           struct err *e)
{
    struct cursor c;
    struct proto m;
    struct buf node = BUF_INIT;
    enum status st = ST_OK;
    cur_mem(&c, bytes.p, bytes.n, TF_GRAPH_NAME, 0);
    proto_init(&m, &c, c.end);
    while (st == ST_OK && proto_next(&m)) {
        if (m.field != 1) {
            copy_field(&m, bytes, out);
            continue;
        }
        buf_clear(&node);
        st = prune_node(&m, bytes, keys, n, &node, e);
        proto_w_sub(out, 1, &node);
    }
    buf_free(&node);
    if (st == ST_OK)
        st = cur_ok(&c, e);
    return st == ST_OK ? buf_ok(out, e) : st;
}
