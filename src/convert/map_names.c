/* Names for a source that has none: Equinox's leaves, called by their numbers. Lines
 * `leaf N = NAME` of the rules file say some or all; with a skeleton that has names, its layers are
 * spelled as Equinox would, and its leaves meet the source's by order, shapes and structure
 * (map_leaves.c). The mapping then goes on with a copy of the source that has the names.
 */
#include "convert/map_int.h"
#include "model/roles.h"
#include <string.h>

static enum status told(struct mapping *m, struct str *name, size_t *n_told, struct err *e)
{
    for (size_t i = 0; i < m->rules.n; i++) {
        struct map_rule *r = &m->rules.rule[i];
        if (r->what != RULE_LEAF)
            continue;
        if (!map_is_leaves(m->src) || r->number >= m->src->n_tensors)
            return err_set(e, ST_CANNOT, "map-leaf",
                           "line %zu of the rules file: the source has no leaf %llu without a name",
                           r->line, (unsigned long long)r->number);
        r->n_used++;
        *n_told += name[r->number].n == 0;
        name[r->number] = arena_str(m->a, r->dst.p, r->dst.n);
        if (!name[r->number].p)
            return err_nomem(e, r->dst.n);
    }
    return ST_OK;
}

/* The skeleton as Equinox would spell it. */
static enum status by_skeleton(struct mapping *m, struct str *name, struct err *e)
{
    struct plan p;
    struct map_opt o = {.from = m->o->to,
                        .to = "equinox",
                        .rules = m->o->rules,
                        .rules_path = m->o->rules_path,
                        .drop_train_state = true,
                        .facts_only = true};
    struct buf asked = BUF_INIT;
    plan_init(&p, m->o->like);
    enum status st = map_plan(&p, &o, NULL, UINT64_MAX, &asked, e);
    if (st == ST_OK)
        st = map_leaf_names(m, &p.dst, m->o->like, m->src, name, e);
    size_t line = 0; /* the first two are the head that every rules file has */
    for (int i = 0; i < 2; i++) {
        while (line < asked.n && asked.p[line] != '\n')
            line++;
        line += line < asked.n;
    }
    if (st == ST_CANNOT)
        buf_bytes(m->help, asked.p + line, asked.n - line);
    buf_free(&asked);
    plan_free(&p);
    return st;
}

static bool taken(const struct str *name, size_t n, size_t at)
{
    for (size_t i = 0; i < n; i++)
        if (i != at && name[i].n && str_eq(name[i], name[at]))
            return true;
    return false;
}

enum status map_names(struct mapping *m, struct err *e)
{
    size_t n = m->src->n_tensors, n_told = 0;
    const struct model *like = m->o->like;
    struct str *name = ARENA_ARRAY(m->tmp, struct str, n + 1);
    if (!name)
        return err_nomem(e, n * sizeof *name);
    TRY(told(m, name, &n_told, e));
    if (!map_is_leaves(m->src) || (n_told == 0 && (!like || map_is_leaves(like))))
        return ST_OK;
    if (like && !map_is_leaves(like)) {
        TRY(by_skeleton(m, name, e));
        TRY(map_state_leaves(m, m->src, name, e));
    } else {
        TRY(map_state_leaves(m, m->src, name, e));
        for (size_t i = 0; i < n; i++) {
            struct str line = arena_fmt(m->a, "leaf %zu = ?", i);
            if (!line.p)
                return err_nomem(e, 32);
            if (!name[i].n && m->src->tensor[i].n_dims)
                map_ask(m, "a leaf without a name beside others that have one", line);
        }
    }
    if (m->n_open)
        return err_set(e, ST_CANNOT, "map-ambiguous",
                       "%zu question%s a rules file must answer, the first: %.*s", m->n_open,
                       m->n_open == 1 ? "" : "s", STR_ARG(m->open_1));
    struct model *copy = ARENA_NEW(m->a, struct model); /* lives as long as the plan */
    struct tensor *t = ARENA_ARRAY(m->a, struct tensor, n + 1);
    if (!copy || !t)
        return err_nomem(e, n * sizeof *t);
    *copy = *m->src;
    memcpy(t, m->src->tensor, n * sizeof *t);
    copy->tensor = t;
    copy->index_ = NULL;
    copy->index_cap_ = 0;
    for (size_t i = 0; i < n; i++) {
        if (name[i].n)
            t[i].name = name[i];
        if (name[i].n && taken(name, n, i)) {
            enum status st = err_set(e, ST_CANNOT, "map-leaf", "two leaves would have this name");
            err_in(e, name[i].p, name[i].n);
            return st;
        }
    }
    m->src = m->p->src = copy;
    m->leaves_named = true;
    return roles_by_name(copy, e);
}
