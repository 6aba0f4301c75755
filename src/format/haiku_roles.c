/* What the tensors of a Haiku checkpoint are for, where names alone do not tell: inside the state
 * of an optimizer its class does, whatever the container around it is called. A moment belongs to
 * the one parameter whose name ends as its own does below the moment's field, and that has its
 * shape. Source: google-deepmind/optax, the classes of haiku_table.c.
 */
#include "format/haiku.h"
#include <string.h>

struct field_role {
    const char *field;
    enum role role;
};
static const struct field_role fields[] = {
    {"mu", ROLE_MOMENT1},
    {"trace", ROLE_MOMENT1},
    {"m1", ROLE_MOMENT1},
    {"exp_avg", ROLE_MOMENT1},
    {"nu", ROLE_MOMENT2},
    {"nu_max", ROLE_MOMENT2},
    {"exp_avg_sq", ROLE_MOMENT2},
    {"sum_of_squares", ROLE_MOMENT2},
    {"e_g", ROLE_MOMENT2},
    {"e_x", ROLE_MOMENT2},
    {"v_row", ROLE_MOMENT2},
    {"v_col", ROLE_MOMENT2},
    {"v", ROLE_MOMENT2},
    {"ema", ROLE_EMA},
    {"count", ROLE_COUNTER},
    {"step", ROLE_COUNTER},
    {"mini_step", ROLE_COUNTER},
    {"micro_step", ROLE_COUNTER},
    {"gradient_step", ROLE_COUNTER},
    {"steps_since_sync", ROLE_COUNTER},
    {"notfinite_count", ROLE_COUNTER},
    {"total_notfinite", ROLE_COUNTER},
    {"rng_key", ROLE_RNG},
    {"key", ROLE_RNG},
};

static bool is_state(const struct node *n)
{
    return n->kind == NODE_DICT && str_starts(n->text, STR("optax."));
}

/* The field of the innermost optimizer state that holds n, or NULL. */
static const struct node *field_of(const struct node *n)
{
    for (; n->parent; n = n->parent)
        if (is_state(n->parent))
            return n;
    return NULL;
}

/* Name of n below the field's: empty when n is the field itself. */
static struct str below(const struct model *m, const struct node *n, const struct node *field)
{
    struct str name = m->tensor[n->tensor].name;
    size_t depth = 0, at = name.n;
    for (const struct node *p = n; p != field; p = p->parent)
        depth++;
    if (depth == 0)
        return STR("");
    /* segments from the end: a dot that a backslash guards is none */
    while (at > 0) {
        at--;
        size_t slashes = 0;
        while (slashes < at && name.p[at - 1 - slashes] == '\\')
            slashes++;
        if (name.p[at] == '.' && slashes % 2 == 0 && --depth == 0)
            return str_sub(name, at + 1, name.n);
    }
    return STR("");
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dim, b->dim, a->n_dims * sizeof a->dim[0]) == 0;
}

/* Containers that parameters may stand in: prefixes of names, each once. */
struct prefixes {
    struct str *list;
    size_t n;
};

static bool has_state(const struct node *root, const struct node *n)
{
    for (const struct node *p = n; p; p = p == root ? NULL : p->parent)
        if (is_state(p))
            return true;
    return false;
}

/* The parts of a checkpoint are its first two levels at most: {"params": ...}, (params, state,
 * opt),
 * {"state": {"params": ...}}. */
static enum status find_prefixes(struct model *m, const struct node *root, struct arena *a,
                                 struct prefixes *out, struct err *e)
{
    size_t n = 1;
    for (const struct node *c = root->child; c; c = c->next)
        n += 1 + (size_t)c->n_children;
    out->list = ARENA_ARRAY(a, struct str, n);
    if (!out->list)
        return err_nomem(e, n * sizeof *out->list);
    out->list[out->n++] = STR("");
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str name = m->tensor[i].name;
        size_t at = 0;
        for (int level = 0; level < 2; level++) {
            at = str_find(name, '.', at);
            if (at == name.n || m->tensor[i].role != ROLE_PARAMETER)
                break;
            struct str p = str_sub(name, 0, ++at);
            /* names come in order: the same container's tensors stand together */
            bool seen = false;
            for (size_t k = out->n; k-- > 0 && out->n - k <= 4 && !seen;)
                seen = str_eq(out->list[k], p);
            if (!seen && out->n < n)
                out->list[out->n++] = p;
        }
    }
    return ST_OK;
}

static enum status belongs(struct model *m, struct tensor *t, struct str rest,
                           const struct prefixes *p, struct arena *a, struct err *e)
{
    int64_t found = -1;
    for (size_t i = 0; i < p->n && found != -2; i++) {
        struct str full = arena_fmt(a, "%.*s%.*s", STR_ARG(p->list[i]), STR_ARG(rest));
        if (!full.p)
            return err_nomem(e, rest.n);
        int64_t at = model_find(m, full);
        if (at < 0 || at == found || m->tensor[at].role != ROLE_PARAMETER ||
            !same_shape(&m->tensor[at], t))
            continue;
        found = found < 0 ? at : -2;
    }
    if (found >= 0)
        t->of = found;
    return ST_OK;
}

enum status haiku_roles(struct model *m, const struct node *root, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct prefixes p = {0};
    enum status st = ST_OK;
    for (struct node *n = (struct node *)(uintptr_t)root; n; n = node_step(root, n)) {
        const struct node *f = n->kind == NODE_TENSOR ? field_of(n) : NULL;
        if (!f)
            continue;
        struct tensor *t = &m->tensor[n->tensor];
        t->role = ROLE_OTHER;
        t->requires_grad = false;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (f->key && str_is(f->key->text, fields[i].field))
                t->role = fields[i].role;
    }
    if (root && root->child && !has_state(root, root))
        st = find_prefixes(m, root, &a, &p, e);
    for (struct node *n = (struct node *)(uintptr_t)root; n && st == ST_OK;
         n = node_step(root, n)) {
        const struct node *f = n->kind == NODE_TENSOR ? field_of(n) : NULL;
        if (!f)
            continue;
        struct tensor *t = &m->tensor[n->tensor];
        struct str rest = below(m, n, f);
        if (rest.n && t->of < 0 &&
            (t->role == ROLE_MOMENT1 || t->role == ROLE_MOMENT2 || t->role == ROLE_EMA))
            st = belongs(m, t, rest, &p, &a, e);
    }
    arena_free(&a);
    return st;
}
