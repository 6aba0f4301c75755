/* Reading the layers of a canonical model's spelling. The text comes from a file: every field is
 * checked, and one that does not fit the tensors is refused.
 */
#include "framework/spelling.h"
#include "codec/json.h"
#include "framework/recognise.h"
#include <stdlib.h>
#include <string.h>

struct told {
    struct str path, kind;
    uint64_t heads, groups, flat_c, rank;
    bool flip;
};

static int by_path(const void *x, const void *y)
{
    const struct layer *const *a = x, *const *b = y;
    return str_cmp((*a)->path, (*b)->path);
}

static struct layer *layer_at(struct layer **l, size_t n, struct str path)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(l[mid]->path, path);
        if (c == 0)
            return l[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static enum status one_told(struct json *j, struct arena *a, struct told *t, struct err *e)
{
    *t = (struct told){0};
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            return ST_OK;
        struct str key = arena_str(a, j->text.p, j->text.n);
        if (j->kind != JSON_KEY || !key.p)
            return json_fail(j, e, "spelling-syntax", "not a layer");
        TRY(json_next(j, e));
        uint64_t *number = str_is(key, "heads")    ? &t->heads
                           : str_is(key, "groups") ? &t->groups
                           : str_is(key, "flat_c") ? &t->flat_c
                           : str_is(key, "rank")   ? &t->rank
                                                   : NULL;
        struct str *text = str_is(key, "path") ? &t->path : str_is(key, "kind") ? &t->kind : NULL;
        bool ok = true;
        if (number) {
            ok = j->kind == JSON_NUMBER && json_u64(j, number);
        } else if (text) {
            ok = j->kind == JSON_STRING;
            *text = arena_str(a, j->text.p, j->text.n);
        } else if (str_is(key, "flip")) {
            ok = j->kind == JSON_BOOL;
            t->flip = j->truth;
        } else {
            TRY(json_skip(j, e));
        }
        if (!ok)
            return json_fail(j, e, "spelling-syntax", "%.*s has a value of another type",
                             STR_ARG(key));
    }
}

/* Slopes for each position look like a kernel. */
static bool slopes(const struct model *m, struct layer *l, uint64_t rank)
{
    int64_t w = l->tensor[LEAF_WEIGHT];
    if (w < 0 || l->tensor[LEAF_BIAS] >= 0 || rank < 2 || m->tensor[w].n_dims != rank)
        return false;
    l->form = FORM_MAP;
    l->flip = false;
    l->groups = 0;
    return true;
}

/* A kernel for each position looks like one for all. */
static bool by_position(const struct model *m, const struct layer *l)
{
    int64_t w = l->tensor[LEAF_WEIGHT], b = l->tensor[LEAF_BIAS];
    if (w < 0 || m->tensor[w].n_dims < 3 || m->tensor[w].n_dims > 5)
        return false;
    const struct tensor *x = &m->tensor[w];
    bool fits = b < 0 || (m->tensor[b].n_dims + 1 == x->n_dims && m->tensor[b].dim[0] == x->dim[0]);
    for (size_t i = 1; fits && b >= 0 && i < m->tensor[b].n_dims; i++)
        fits = m->tensor[b].dim[i] == x->dim[i + 1];
    return fits;
}

static void decide(const struct model *m, struct layer *l, const struct told *t, enum layer_kind k)
{
    if (k == LAYER_PRELU && slopes(m, l, t->rank))
        layer_decide(l, k);
    if (k == LAYER_CONV_LOCAL && by_position(m, l)) {
        layer_decide(l, k);
        l->flip = false;
    }
    if (l->kind != k && !(l->kinds & KIND_BIT(k)))
        return; /* the tensors do not bear it out */
    layer_decide(l, k);
    l->heads = t->heads;
    l->groups = t->groups;
    l->flat_c = t->flat_c;
    if ((k == LAYER_BATCHNORM || k == LAYER_PRELU) && t->rank <= 4)
        l->rank = (uint8_t)t->rank;
    l->reason = STR("told by the archive");
}

static enum status read_layers(const struct model *m, struct json *j, struct arena *a,
                               struct layer **sorted, size_t n, struct err *e)
{
    TRY(json_expect(j, JSON_ARRAY, "layers", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_ARRAY_END)
            return ST_OK;
        if (j->kind != JSON_OBJECT)
            return json_fail(j, e, "spelling-syntax", "not a layer");
        struct told t;
        enum layer_kind k;
        TRY(one_told(j, a, &t, e));
        struct layer *l = layer_at(sorted, n, t.path);
        if (l && layer_kind_parse(t.kind, &k) && k != LAYER_NONE)
            decide(m, l, &t, k);
    }
}

enum status spelling_decide(const struct model *m, struct arena *a, struct layers *l, struct err *e)
{
    if (m->spelling.n == 0)
        return ST_OK;
    struct layer **sorted = ARENA_ARRAY(a, struct layer *, l->n + 1);
    if (!sorted)
        return err_nomem(e, l->n * sizeof *sorted);
    for (size_t i = 0; i < l->n; i++)
        sorted[i] = &l->layer[i];
    if (l->n)
        qsort(sorted, l->n, sizeof(struct layer *), by_path);
    struct cursor c;
    struct json j;
    cur_mem(&c, m->spelling.p, m->spelling.n, "spelling", 0);
    json_init(&j, &c, 0);
    enum status st = json_expect(&j, JSON_OBJECT, "the spelling", e);
    while (st == ST_OK) {
        st = json_next(&j, e);
        if (st != ST_OK || j.kind == JSON_OBJECT_END)
            break;
        if (str_is(j.text, "layers"))
            st = read_layers(m, &j, a, sorted, l->n, e);
        else if ((st = json_next(&j, e)) == ST_OK)
            st = json_skip(&j, e);
    }
    json_free(&j);
    cur_close(&c);
    return st;
}
