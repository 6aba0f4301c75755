/* Pairing for validation: the meeting of --like, without its demand to be complete. What one side
 * knows of a layer (kind, heads, channels before a flatten) holds for its partner too.
 */
#include "convert/pair.h"
#include "convert/map_int.h"
#include "convert/map_seen.h"

static enum status framework(const char *name, const struct model *m, const struct framework **out,
                             struct err *e)
{
    *out = name ? framework_find(str_from(name)) : framework_of(m);
    if (*out)
        return ST_OK;
    return name ? err_set(e, ST_USAGE, "unknown-framework", "no framework is called %s", name)
                : err_set(e, ST_CANNOT, "framework-unknown",
                          "cannot tell the framework; --from and --to name them");
}

static void share(struct meeting *w, size_t i)
{
    struct layer *a = &w->m->sl.layer[w->s_layer[i]];
    struct layer *b = &w->sk.layers.layer[w->t_layer[w->s[i].pair]];
    if (a->kind != LAYER_PARAM && a->kinds) {
        unsigned kinds = map_common(w, i);
        enum layer_kind k = map_one_kind(kinds);
        if (k != LAYER_NONE) {
            a->kind = b->kind = k;
            a->kinds = b->kinds = kinds;
        }
    }
    struct map_rule *r = map_rule_for(w->m, RULE_KIND, a->path);
    if (!r)
        r = map_rule_for(w->m, RULE_KIND, b->path);
    if (r && r->kept_kernel)
        a->flip = b->flip = false;
    if (a->heads == 0)
        a->heads = b->heads;
    if (b->heads == 0)
        b->heads = a->heads;
    if (a->groups == 0)
        a->groups = b->groups;
    if (b->groups == 0)
        b->groups = a->groups;
    if (a->flat_c == 0)
        a->flat_c = b->flat_c;
    if (b->flat_c == 0)
        b->flat_c = a->flat_c;
}

/* Stacks and joined parts apart, as they are for --like: every block is compared by itself. What
 * could be taken apart in several ways stays as it is. */
static enum status see(struct mapping *m, struct skeleton *sk, struct err *e)
{
    struct seen *s = ARENA_NEW(m->a, struct seen), *t = ARENA_NEW(m->a, struct seen);
    size_t n = m->src->n_tensors;
    m->in = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->used = ARENA_ARRAY(m->tmp, bool, n + 1);
    m->dropped = ARENA_ARRAY(m->tmp, bool, n + 1);
    sk->filled = ARENA_ARRAY(m->tmp, bool, sk->m->n_tensors + 1);
    if (!s || !t || !m->in || !m->used || !m->dropped || !sk->filled)
        return err_nomem(e, n);
    for (size_t i = 0; i < n; i++)
        m->in[i] = tensor_is_weight(&m->src->tensor[i]);
    return see_alike(m, sk, s, t, e);
}

static enum status pair(struct mapping *m, const struct model *b, const struct pair_opt *o,
                        struct pairing *out, struct err *e)
{
    struct meeting w = {.m = m, .sk = {.m = b}};
    TRY(framework(o->from[0], m->src, &m->from, e));
    TRY(framework(o->from[1], b, &m->to, e));
    TRY(map_rules_parse(m, e));
    TRY(m->from->layers(m->src, m->a, &m->sl, e));
    TRY(m->to->layers(b, m->a, &w.sk.layers, e));
    TRY(map_settle(m, e));
    TRY(see(m, &w.sk, e));
    struct mapping other = *m; /* rules may name the layers of either side */
    other.src = w.sk.m;
    other.from = m->to;
    other.sl = w.sk.layers;
    TRY(map_settle(&other, e));
    w.sk.layers = other.sl;
    TRY(map_maybe(m, &w.sk, e));
    TRY(map_meet(&w, false, e));
    out->pair = ARENA_ARRAY(m->a, int64_t, m->sl.n + 1);
    if (!out->pair)
        return err_nomem(e, m->sl.n * sizeof *out->pair);
    for (size_t i = 0; i < m->sl.n; i++) {
        bool said;
        out->pair[i] = -1;
        TRY(map_flatten_ruled(m, &m->sl.layer[i], &said, e));
    }
    for (size_t i = 0; i < w.sk.layers.n; i++) {
        bool said;
        TRY(map_flatten_ruled(&other, &w.sk.layers.layer[i], &said, e));
    }
    for (size_t i = 0; i < w.n_s; i++) {
        if (w.s[i].pair < 0)
            continue;
        share(&w, i);
        out->pair[w.s_layer[i]] = (int64_t)w.t_layer[w.s[i].pair];
    }
    out->model[0] = m->src;
    out->model[1] = w.sk.m;
    out->layers[0] = m->sl;
    out->layers[1] = w.sk.layers;
    return ST_OK;
}

enum status pair_layers(const struct model *a, const struct model *b, const struct pair_opt *o,
                        struct pairing *out, struct err *e)
{
    struct buf help = BUF_INIT;
    struct map_opt mo = {.rules = o->rules, .rules_path = o->rules_path};
    *out = (struct pairing){0};
    struct mapping m = {.o = &mo, .src = a, .a = &out->arena, .tmp = &out->arena, .help = &help};
    enum status st = pair(&m, b, o, out, e);
    buf_free(&help);
    if (st != ST_OK)
        pair_free(out);
    return st;
}

void pair_free(struct pairing *p)
{
    arena_free(&p->arena);
    *p = (struct pairing){0};
}
