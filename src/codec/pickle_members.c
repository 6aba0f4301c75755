/* Enum members as early releases of Python 3.11 pickle them: builtins.getattr applied to the enum's
 * class and the member's name (other Pythons: the class applied to the value). getattr reaches any
 * attribute of anything, so it may stand in a pickle only as what such calls apply, with a class
 * and a name that the caller lists; one other use anywhere, popped values too, and the name is
 * refused like others that run code. The finished graph is looked at slot by slot, not walked.
 * Source: CPython 3.11 Lib/enum.py, Enum.__reduce_ex__.
 */
#include "codec/pickle_room.h"

bool pickle_is_getattr(struct str module, struct str name)
{
    return (str_is(module, "builtins") || str_is(module, "__builtin__")) && str_is(name, "getattr");
}

static bool is_getattr(const struct pickle *p, uint32_t v)
{
    return pk_tag(p, v) == PICKLE_GETATTR;
}

/* Is this call getattr(listed class, "listed member"), and nothing done to what it gave? */
static bool fetches_member(const struct vm *m, uint32_t v)
{
    const struct pickle *p = m->p;
    const struct pk_call *call = &pk_at(p, v)->call;
    if (pk_kind(p, v) != PK_CALL || call->more || pk_kind(p, call->args) != PK_TUPLE ||
        pk_count(p, call->args) != 2)
        return false;
    uint32_t class = pk_elem(p, call->args, 0), name = pk_elem(p, call->args, 1);
    if (pk_kind(p, class) != PK_GLOBAL || pk_tag(p, class) <= 0)
        return false;
    const struct pk_global *g = &p->global[pk_at(p, class)->ref];
    for (size_t i = 0; i < m->o->n_members; i++)
        if (str_is(g->module, m->o->member[i].module) && str_is(g->name, m->o->member[i].name) &&
            pk_is_text(p, name, m->o->member[i].member))
            return true;
    return false;
}

static bool value_harmless(const struct vm *m, uint32_t v)
{
    const struct pickle *p = m->p;
    switch (pk_kind(p, v)) {
    case PK_CALL:
    case PK_NEW:
        return !is_getattr(p, pk_at(p, v)->call.args) &&
               (!is_getattr(p, pk_at(p, v)->call.fn) || fetches_member(m, v));
    case PK_PERSID:
        return !is_getattr(p, pk_at(p, v)->ref);
    default:
        return true; /* what stands in containers, stands in cells */
    }
}

enum status pickle_members(struct vm *m)
{
    struct pickle *p = m->p;
    bool named = false, harmless = !is_getattr(p, p->root);
    for (uint32_t g = 0; g < p->n_global; g++)
        named |= p->global[g].tag == PICKLE_GETATTR;
    if (!named)
        return ST_OK;
    for (uint32_t v = 1; v < p->n_val && harmless; v++)
        harmless = value_harmless(m, v);
    for (uint32_t c = 1; c < p->n_cell && harmless; c++)
        harmless = !is_getattr(p, p->cell[c].val);
    for (uint32_t i = 1; i < p->n_more && harmless; i++)
        harmless = !is_getattr(p, p->more[i].state) && !is_getattr(p, p->more[i].kwargs);
    for (uint32_t g = 0; g < p->n_global && !harmless; g++) {
        if (p->global[g].tag != PICKLE_GETATTR)
            continue;
        p->global[g].tag = 0;
        p->global[g].runs_code = true;
        m->at = p->global[g].at;
        if (!m->o->scan)
            return pickle_bad(m, "pickle-runs-code",
                              "the pickle names %.*s.getattr, which runs code, and fetches more by "
                              "it than members of known enums",
                              STR_ARG(p->global[g].module));
    }
    return ST_OK;
}
