/* Telling a family, and settling layers by its table: what the table says is taken only where the
 * shapes bear it out.
 */
#include "framework/family.h"
#include <stdio.h>
#include <string.h>

#ifdef NNFERRY_MUTATE
static const struct family_row *mutate_from;
static struct family_row mutate_to;
static char mutate_text[96];

bool family_mutate(const struct family *f, int i, enum family_change what)
{
    mutate_from = NULL;
    if (i < 0)
        return true;
    if ((size_t)i >= f->n)
        return false;
    const struct family_row *r = &f->row[i];
    bool weight = r->kind != LAYER_NONE && r->kind != LAYER_PARAM;
    const char *text = what == FAMILY_PATH ? r->path : what == FAMILY_GGUF ? r->gguf : NULL;
    mutate_to = *r;
    if (text)
        snprintf(mutate_text, sizeof mutate_text, "%s_", text);
    switch (what) {
    case FAMILY_PATH:
        mutate_to.path = mutate_text;
        break;
    case FAMILY_KIND:
        mutate_to.kind = r->kind == LAYER_NONE     ? LAYER_PARAM
                         : r->kind == LAYER_PARAM  ? LAYER_NONE
                         : r->kind == LAYER_LINEAR ? LAYER_EMBEDDING
                                                   : LAYER_LINEAR;
        break;
    case FAMILY_FORM:
        mutate_to.form = FORM_USUAL;
        break;
    case FAMILY_KV:
        mutate_to.kv = !r->kv;
        break;
    case FAMILY_GGUF:
        mutate_to.gguf = mutate_text;
        break;
    case FAMILY_CHANGES:
        return false;
    }
    if ((what == FAMILY_FORM && r->form == FORM_USUAL) ||
        (what == FAMILY_KV && (!weight || r->form != FORM_ROTARY)) ||
        (what == FAMILY_GGUF && (!r->gguf || !f->arch)))
        return false;
    mutate_from = r;
    return true;
}
#endif

static const struct family_row *row_at(const struct family *f, size_t i)
{
#ifdef NNFERRY_MUTATE
    if (&f->row[i] == mutate_from)
        return &mutate_to;
#endif
    return &f->row[i];
}

static bool digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static bool fits(const char *pattern, struct str path, struct family_place *at)
{
    struct str p = str_from(pattern), s = path, want, have;
    at->n_numbers = 0;
    for (;;) {
        bool more_p = p.p && str_split(&p, '.', &want), more_s = s.p && str_split(&s, '.', &have);
        if (!more_p || !more_s)
            return more_p == more_s;
        if (!str_is(want, "{}")) {
            if (!str_eq(want, have))
                return false;
        } else if (!digits(have) || at->n_numbers == FAMILY_NUMBERS) {
            return false;
        } else {
            at->number[at->n_numbers++] = have;
        }
    }
}

/* Below the prefix, where the path has it; *inside = it had. */
static struct str below(const struct family *f, struct str path, bool *inside)
{
    size_t n = strlen(f->prefix);
    *inside =
        n == 0 || (path.n > n + 1 && str_starts(path, str_from(f->prefix)) && path.p[n] == '.');
    return n && *inside ? str_sub(path, n + 1, path.n) : path;
}

struct family_place family_at(const struct family *f, struct str path)
{
    bool inside;
    struct str rest = below(f, path, &inside);
    for (size_t i = 0; i < f->n; i++) {
        struct family_place at = {.row = row_at(f, i)};
        bool beside = at.row->path[0] == '/';
        if (fits(at.row->path + beside, beside ? path : rest, &at))
            return at;
    }
    return (struct family_place){0};
}

struct family_place family_at_gguf(const struct family *f, struct str path, size_t skip)
{
    for (size_t i = 0; i < f->n; i++) {
        struct family_place at = {.row = row_at(f, i)};
        if (at.row->gguf && fits(at.row->gguf, path, &at) && skip-- == 0)
            return at;
    }
    return (struct family_place){0};
}

struct str family_path(const char *prefix, const char *pattern, const struct family_place *at,
                       struct arena *a)
{
    struct str rest = str_from(pattern), seg,
               out = arena_fmt(a, "%s%s", prefix, *prefix ? "." : "");
    size_t k = 0;
    for (bool first = true; out.p && rest.p && str_split(&rest, '.', &seg); first = false) {
        if (str_is(seg, "{}") && k < at->n_numbers)
            seg = at->number[k++];
        out = arena_fmt(a, "%.*s%s%.*s", STR_ARG(out), first ? "" : ".", STR_ARG(seg));
    }
    return out;
}

/* ---- which family ---- */

/* How many of the names stand where the table has something, and whether its anchor is there. */
static size_t score(const struct family *f, const struct model *m, name_cut *cut, bool *anchored,
                    size_t *n_names)
{
    size_t n = 0;
    *anchored = false;
    *n_names = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct member b = {0};
        if (!cut(m, i, &b))
            continue;
        ++*n_names;
        struct family_place at = family_at(f, b.path);
        if (!at.row) { /* a bare parameter: its own name is the path */
            size_t lo = b.path.n ? (size_t)(b.path.p - m->tensor[i].name.p) : 0;
            struct str whole =
                b.path.n ? str_sub(m->tensor[i].name, lo, m->tensor[i].name.n) : b.leaf;
            at = family_at(f, whole);
            if (at.row && at.row->kind != LAYER_PARAM && at.row->kind != LAYER_NONE)
                at.row = NULL;
        }
        n += at.row != NULL;
        *anchored = *anchored || (at.row && strcmp(at.row->path, f->anchor) == 0);
    }
    return n;
}

/* Any tensor at a family's anchor? Cheap: most models have none of them. */
static bool anchored_at_all(const struct family *f, const struct model *m, name_cut *cut)
{
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct member b = {0};
        struct family_place at;
        bool inside;
        if (cut(m, i, &b) && fits(f->anchor, below(f, b.path, &inside), &at))
            return true;
    }
    return false;
}

const struct family *family_of(const struct model *m, name_cut *cut, const struct config *c,
                               bool *sure)
{
    const struct family *best = NULL;
    size_t most = 0;
    struct str type = c ? config_text(c, "model_type") : STR_NONE;
    *sure = false;
    for (size_t i = 0; i < n_families; i++) {
        const struct family *f = families[i];
        bool anchored, named = false;
        size_t n_names;
        if (!anchored_at_all(f, m, cut))
            continue;
        size_t n = score(f, m, cut, &anchored, &n_names);
        for (size_t k = 0; k < FAMILY_TYPES && type.n && f->type[k]; k++)
            named = named || str_is(type, f->type[k]);
        if (named) {
            *sure = true;
            return f;
        }
        if (n * 10 >= n_names * 9 && n > most) {
            most = n;
            best = f;
        }
    }
    return best;
}

/* ---- settling ---- */

/* Do the layer's tensors have the axes that a kind's row names? */
static bool shapes_fit(const struct model *m, const struct spelling_rules *rules,
                       const struct layer *l, enum layer_kind kind, uint8_t form)
{
    struct axes_size size = {0};
    struct err quiet;
    size.of['N'] = l->heads;
    size.of[AXES_PAIR] = 2;
    size.of[AXES_TRIPLE] = 3;
    for (int k = LEAF_N; k-- > 0;) { /* a bias tells O before the weight is read */
        if (l->tensor[k] < 0)
            continue;
        const struct tensor *t = &m->tensor[l->tensor[k]];
        const struct leaf_rule *r = rules_find(rules, kind, l->rank, form, (enum leaf)k);
        struct axes x;
        char text[64];
        if (!r || rules_axes(rules, r, NULL, &x, text, &quiet) != ST_OK)
            return false;
        if (*r->axes && axes_learn(&x, t->dim, t->n_dims, &size, &quiet) != ST_OK)
            return false;
    }
    return true;
}

/* Leaves of one tensor each that the recogniser took for parameters of their own: "weight" of a
 * norm in Flax. */
static struct family_place named_weight(const struct model *m, const struct family *f,
                                        struct layer *l)
{
    struct str parent, leaf;
    name_tail(l->path, &parent, &leaf);
    struct family_place at = family_at(f, parent);
    const struct tensor *t = l->tensor[LEAF_VALUE] >= 0 ? &m->tensor[l->tensor[LEAF_VALUE]] : NULL;
    bool rms = at.row && (at.row->form == FORM_RMS || at.row->form == FORM_RMS_LESS);
    if (!rms || !str_is(leaf, "weight") || !t || t->n_dims != 1)
        return (struct family_place){0};
    l->path = parent;
    l->tensor[LEAF_WEIGHT] = l->tensor[LEAF_VALUE];
    l->tensor[LEAF_VALUE] = -1;
    return at;
}

void family_heads(const struct family_row *row, struct layer *l, uint64_t heads, uint64_t kv_heads)
{
    if (row->form == FORM_ROTARY || row->form == FORM_HEADS_QKV)
        l->heads = row->kv && kv_heads ? kv_heads : heads;
}

static enum status one(const struct model *m, const struct family *f,
                       const struct spelling_rules *rules, const struct config *c, struct arena *a,
                       struct layer *l, struct err *e)
{
    struct family_place at = family_at(f, l->path);
    if (!at.row && l->kind == LAYER_PARAM)
        at = named_weight(m, f, l);
    if (!at.row)
        return ST_OK;
    if (at.row->kind == LAYER_NONE) {
        l->computed = l->kind == LAYER_PARAM;
        return ST_OK;
    }
    if (at.row->kind == LAYER_PARAM) {
        l->form = l->kind == LAYER_PARAM ? (uint8_t)at.row->form : l->form;
        return ST_OK;
    }
    enum layer_form form = at.row->form;
    family_heads(at.row, l, config_u64(c, "num_attention_heads"),
                 config_u64(c, "num_key_value_heads"));
    if (form == FORM_INPUT_FIRST && !shapes_fit(m, rules, l, at.row->kind, FORM_INPUT_FIRST))
        form = FORM_USUAL; /* the same names over plain dense layers: later ports */
    if (!shapes_fit(m, rules, l, at.row->kind, (uint8_t)form))
        return ST_OK;
    layer_decide(l, at.row->kind);
    l->form = (uint8_t)form;
    l->by_name = true;
    l->reason = arena_fmt(a, "%s of transformers", f->name);
    return l->reason.p ? ST_OK : err_nomem(e, 64);
}

static struct layer *layer_of(const struct family *f, struct layers *l, const char *pattern)
{
    for (size_t i = 0; pattern && i < l->n; i++) {
        struct family_place at = family_at(f, l->layer[i].path);
        if (at.row && strcmp(at.row->path, pattern) == 0)
            return &l->layer[i];
    }
    return NULL;
}

static size_t root_of(const struct model *m, int64_t t)
{
    return (size_t)(m->tensor[t].alias_of >= 0 ? m->tensor[t].alias_of : t);
}

enum status family_settle(const struct model *m, name_cut *cut, const struct spelling_rules *rules,
                          struct arena *a, struct layers *l, struct err *e)
{
    struct config *c = ARENA_NEW(a, struct config);
    bool sure;
    if (!c)
        return err_nomem(e, sizeof *c);
    TRY(config_read(m, a, c, e));
    const struct family *f = l->family = family_of(m, cut, c, &sure);
    if (!f)
        return ST_OK;
    l->family_sure = sure;
    for (size_t i = 0; i < l->n; i++) {
        TRY(one(m, f, rules, c, a, &l->layer[i], e));
        family_norm(c, &l->layer[i]);
    }
    TRY(family_functions(c, a, l, e));
    struct layer *head = layer_of(f, l, f->head), *table = layer_of(f, l, f->tied);
    if (head && table && head->tensor[LEAF_WEIGHT] >= 0 && table->tensor[LEAF_WEIGHT] >= 0)
        head->tied =
            root_of(m, head->tensor[LEAF_WEIGHT]) == root_of(m, table->tensor[LEAF_WEIGHT]);
    return ST_OK;
}
