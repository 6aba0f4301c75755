/* See pickle_value.h. */
#include "format/pickle_value.h"
#include <string.h>

#define NODES_FLOOR ((uint64_t)1 << 18)

enum status pickle_node(const struct pickle *p, struct model *m, uint64_t *n_nodes,
                        enum node_kind kind, uint32_t v, struct node **out, struct err *e)
{
    uint64_t most = (p->n_bytes - p->far_bytes) / 2;
    if (most < NODES_FLOOR)
        most = NODES_FLOOR;
    if (++*n_nodes > most)
        return pickle_fail(p, v, "nodes", e, "shared values unfold to more than %llu nodes",
                           (unsigned long long)most);
    *out = node_new(&m->arena, kind);
    if (!*out)
        return err_nomem(e, sizeof **out);
    (*out)->offset = p->base + pk_at(p, v)->at;
    return ST_OK;
}

struct str pickle_global_name(const struct pickle *p, struct arena *a, uint32_t v)
{
    if (pk_kind(p, v) != PK_GLOBAL)
        return STR("(object)");
    const struct pk_global *g = &p->global[pk_at(p, v)->ref];
    return arena_fmt(a, "%.*s.%.*s", STR_ARG(g->module), STR_ARG(g->name));
}

enum status pickle_decimal(struct arena *a, struct str s, struct str *out, struct err *e)
{
    uint8_t mag[1024];
    size_t n = s.n < sizeof mag ? s.n : sizeof mag, at = 3 * n + 2;
    char *t = arena_alloc(a, at + 1, 1);
    if (!t)
        return err_nomem(e, at);
    memcpy(mag, s.p, n);
    bool negative = n > 0 && mag[n - 1] >= 0x80;
    unsigned carry = 1;
    for (size_t i = 0; negative && i < n; i++) {
        carry += (uint8_t)~mag[i];
        mag[i] = (uint8_t)carry;
        carry >>= 8;
    }
    size_t end = at;
    while (n > 0 && mag[n - 1] == 0)
        n--;
    do {
        unsigned rest = 0;
        for (size_t i = n; i-- > 0;) {
            rest = rest << 8 | mag[i];
            mag[i] = (uint8_t)(rest / 10);
            rest %= 10;
        }
        t[--at] = (char)('0' + rest);
        while (n > 0 && mag[n - 1] == 0)
            n--;
    } while (n > 0);
    if (negative)
        t[--at] = '-';
    *out = (struct str){t + at, end - at};
    return ST_OK;
}

enum status pickle_key_text(const struct pickle *p, struct arena *a, uint32_t v, uint64_t place,
                            struct str *out, struct err *e)
{
    int64_t i;
    size_t bad;
    if (pk_i64(p, v, &i))
        *out = arena_fmt(a, "%lld", (long long)i);
    else if ((pk_kind(p, v) == PK_STR || pk_kind(p, v) == PK_BYTES) &&
             str_utf8(pk_text(p, v), &bad))
        *out = pk_text(p, v);
    else if (pk_kind(p, v) == PK_BOOL)
        *out = pk_at(p, v)->i ? STR("True") : STR("False");
    else if (pk_kind(p, v) == PK_NONE)
        *out = STR("None");
    else
        *out = arena_fmt(a, "(key %llu)", (unsigned long long)place);
    return out->p ? ST_OK : err_nomem(e, 64);
}

void pickle_tell_globals(const struct pickle *p, const struct read_opt *opt, struct arena *a)
{
    for (uint32_t i = 0; opt->scan && opt->finding && i < p->n_global; i++) {
        const struct pk_global *g = &p->global[i];
        char text[1200];
        struct str n = arena_fmt(a, "%.*s.%.*s", STR_ARG(g->module), STR_ARG(g->name));
        err_escape(n.p ? n.p : "", n.p ? n.n : 0, text, sizeof text);
        opt->finding(opt->finding_ctx, g->tag == 0,
                     g->runs_code  ? "pickle-runs-code"
                     : g->tag == 0 ? "pickle-unknown-name"
                                   : "pickle-name",
                     p->base + g->at, text);
    }
}
