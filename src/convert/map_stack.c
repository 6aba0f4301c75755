/* Stacks: blocks that one side keeps in one subtree, every tensor with an axis of as many as there
 * are blocks (nn.scan, vmap, layer_stack), and the other side as numbered subtrees. That axis is at
 * one place in all tensors, counted from the front (0 mostly, 1 in large models) or from the end. A
 * subtree is taken for a stack where all its tensors share the extent there, the other side has
 * just one numbered list of that many blocks with as many elements in all, and this side has no
 * such list. Where both sides stack, no list tells: then a subtree of several layers counts in
 * which even what is a vector by its name (bias, scale ...) has an axis more, and the other side
 * has its like. Where several axes would do, a rules file says which.
 */
#include "convert/map_seen.h"
#include <stdlib.h>
#include <string.h>

/* Where blocks may be stacked, from the front or the end. */
static const int8_t tried[] = {0, 1, 2, 3, 4, -1, -2, -3};
#define TRIED (sizeof tried / sizeof *tried)
#define FRONT_LAST 4
#define BLOCKS_MOST 4096

struct lot { /* tensors below one prefix, or of one number of a list */
    uint64_t key, number;
    uint16_t extent[TRIED]; /* common extents at those axes, 0 = none; of a list: [0] = blocks */
    uint8_t plain;          /* bits, per axis: there is a tensor that nothing is stacked in: one
                               axis, or 1s beside it */
    uint8_t ruled;          /* place in tried + 1 that the rules file says; 0 = nothing said */
    uint8_t least, most;    /* axes of its tensors */
    uint64_t elems;
    uint64_t scalars; /* of elems, those without an axis: a rate, a flag */
    uint32_t tensor;  /* one of them */
    size_t end;       /* of the prefix, in that one's name without collection */
    uint64_t layer;   /* hash of that one's name less its leaf */
    bool several;     /* layers */
    bool vector;      /* there is one with a vector's name */
};
struct size {
    uint64_t extent, elems;
};
struct sizes { /* sorted */
    struct size *v;
    size_t n;
};
struct half {
    const struct model *m;
    struct str
        *name; /* per tensor, what its blocks are counted by; empty for what weighs nothing */
    struct lot *under; /* prefixes, by key */
    size_t n_under;
    struct lot *list; /* numbered lists: elems = of all */
    size_t n_lists;
    /* Of lists, with and without their scalars; of prefixes that are inside no stack; of those
     * that are stacks by themselves, of these where only one axis has the extent, and where the
     * first has it. */
    struct sizes lists, outer, alone, sole, first;
};

static bool weighs(const struct tensor *t)
{
    return tensor_is_weight(t) && !rules_harmless_drop(t->name);
}

/* Bytes of a collection in front of a name: what lies in params and in batch_stats is one tree. */
static size_t collection_of(struct str name)
{
    static const char *const is[] = {"params.params.", "params.batch_stats.", "params.",
                                     "batch_stats.", "state."};
    for (size_t i = 0; i < sizeof is / sizeof *is; i++)
        if (str_starts(name, str_from(is[i])))
            return strlen(is[i]);
    return 0;
}

static bool cuts(char c)
{
    return c == '.' || c == '/';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* No tree of layers is deeper; a name of separators alone must not cost its square. */
#define LEVELS_MOST 64

/* The next separator behind byte k, and counts it; name.n = none, or enough seen. */
static size_t next_cut(struct str name, size_t k, size_t *levels)
{
    for (k++; k < name.n && *levels < LEVELS_MOST; k++)
        if (cuts(name.p[k])) {
            ++*levels;
            return k;
        }
    return name.n;
}

/* The next end of a block's number behind byte k: "layers.3.", "layers_3/", "block__3_"; lo = where
 * the number begins. */
static size_t next_number(struct str name, size_t k, size_t *lo, size_t *levels)
{
    for (k++; k < name.n && *levels < LEVELS_MOST; k++) {
        if (!cuts(name.p[k]) && name.p[k] != '_')
            continue;
        for (*lo = k; *lo > 0 && digit(name.p[*lo - 1]);)
            --*lo;
        bool number = *lo > 0 && *lo < k;
        if (number && (cuts(name.p[k]) || name.p[*lo - 1] == '_')) {
            ++*levels;
            return k;
        }
    }
    return name.n;
}

/* What is looked at of tensor t: its name without collection; empty for what weighs nothing. */
static struct str name_of(const struct tensor *t)
{
    return weighs(t) ? str_sub(t->name, collection_of(t->name), t->name.n) : STR("");
}

static int by_key(const void *px, const void *py)
{
    const struct lot *x = px, *y = py;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static size_t count_cuts(const struct model *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct str name = name_of(&m->tensor[i]);
        size_t levels = 0, k = 0;
        while ((k = next_cut(name, k, &levels)) < name.n)
            n++;
    }
    return n;
}

static size_t count_numbers(const struct half *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        size_t levels = 0, k = 0, lo;
        while ((k = next_number(x->name[i], k, &lo, &levels)) < x->name[i].n)
            n++;
    }
    return n;
}

/* Files of Keras number layers by class, and a config tells what they are called: there the layer's
 * path says which block a tensor is of. */
static enum status names(struct half *x, const struct layers *l, struct arena *a, struct err *e)
{
    x->name = ARENA_ARRAY(a, struct str, x->m->n_tensors + 1);
    if (!x->name)
        return err_nomem(e, x->m->n_tensors * sizeof *x->name);
    for (size_t i = 0; i < x->m->n_tensors; i++)
        x->name[i] = name_of(&x->m->tensor[i]);
    for (size_t i = 0; i < l->n; i++) {
        const struct layer *y = &l->layer[i];
        struct str path = STR_NONE;
        for (int k = 0; k < LEAF_N && y->path.n; k++) {
            struct str *name = y->tensor[k] >= 0 ? &x->name[y->tensor[k]] : NULL;
            if (!name || name->n == 0 || str_starts(*name, y->path))
                continue;
            if (!path.n && !(path = arena_fmt(a, "%.*s.", STR_ARG(y->path))).p)
                return err_nomem(e, y->path.n);
            *name = path;
        }
    }
    return ST_OK;
}

static bool names_vector(struct str leaf)
{
    static const char *const word[] = {"bias", "scale", "offset", "gamma", "beta", "b"};
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (str_is(leaf, word[i]))
            return true;
    return false;
}

/* Lots of one key become one: the extent that all share, and the sum. */
static size_t merge(struct lot *l, size_t n, bool numbers)
{
    size_t k = 0;
    if (n)
        qsort(l, n, sizeof *l, by_key);
    for (size_t i = 0; i < n; i++) {
        struct lot *last = k ? &l[k - 1] : NULL;
        if (last && last->key == l[i].key && (!numbers || last->number == l[i].number)) {
            last->elems += l[i].elems;
            last->scalars += l[i].scalars;
            last->several |= l[i].several || last->layer != l[i].layer;
            last->plain |= l[i].plain;
            last->vector |= l[i].vector;
            last->least = last->least < l[i].least ? last->least : l[i].least;
            last->most = last->most > l[i].most ? last->most : l[i].most;
            for (size_t c = 0; c < TRIED; c++)
                last->extent[c] = last->extent[c] == l[i].extent[c] ? l[i].extent[c] : 0;
        } else {
            l[k++] = l[i];
        }
    }
    return k;
}

/* Axis c of those tried, of n; false when there are not as many. */
static bool axis_at(size_t c, size_t n, uint8_t *at)
{
    if (tried[c] < 0 ? n < (size_t)-tried[c] : n <= (size_t)tried[c])
        return false;
    *at = (uint8_t)(tried[c] < 0 ? n - (size_t)-tried[c] : (size_t)tried[c]);
    return true;
}

static void extents_of(struct lot *l, const struct tensor *t)
{
    l->least = l->most = t->n_dims;
    for (size_t c = 0; c < TRIED; c++) {
        uint8_t at;
        if (!axis_at(c, t->n_dims, &at))
            continue;
        l->extent[c] = t->dim[at] <= BLOCKS_MOST ? (uint16_t)t->dim[at] : 0;
        if (t->n_dims < 2 || tensor_elems(t) == t->dim[at])
            l->plain |= (uint8_t)(1u << c);
    }
}

static enum status prefixes(struct half *x, struct arena *a, struct err *e)
{
    size_t cap = count_cuts(x->m);
    x->under = ARENA_ARRAY(a, struct lot, cap + 1);
    if (!x->under)
        return err_nomem(e, cap * sizeof *x->under);
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        const struct tensor *t = &x->m->tensor[i];
        struct str name = name_of(t);
        size_t leaf = name.n, levels = 0, k = 0;
        while (leaf > 0 && !cuts(name.p[leaf - 1]))
            leaf--;
        struct lot one = {.elems = tensor_elems(t),
                          .tensor = (uint32_t)i,
                          .layer = str_hash(str_sub(name, 0, leaf), 1),
                          .vector = names_vector(str_sub(name, leaf, name.n))};
        extents_of(&one, t);
        while ((k = next_cut(name, k, &levels)) < name.n) {
            one.key = str_hash(str_sub(name, 0, k), 1);
            one.end = k;
            x->under[x->n_under++] = one;
        }
    }
    x->n_under = merge(x->under, x->n_under, false);
    return ST_OK;
}

/* Numbered subtrees: "layers.3.", "layers_3/", or by the names alone: "layers_3_". */
static enum status lists(struct half *x, struct arena *a, struct err *e)
{
    size_t cap = count_numbers(x), n = 0;
    struct lot *l = ARENA_ARRAY(a, struct lot, cap + 1);
    x->list = ARENA_ARRAY(a, struct lot, cap + 1);
    if (!l || !x->list)
        return err_nomem(e, cap * sizeof *l);
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        const struct tensor *t = &x->m->tensor[i];
        struct str name = x->name[i];
        size_t levels = 0, k = 0, lo;
        while ((k = next_number(name, k, &lo, &levels)) < name.n) {
            uint64_t number;
            if (!str_u64(str_sub(name, lo, k), &number))
                continue;
            l[n++] = (struct lot){.key = str_hash(str_sub(name, 0, lo), 1),
                                  .number = number,
                                  .elems = tensor_elems(t),
                                  .scalars = t->n_dims == 0,
                                  .tensor = (uint32_t)i,
                                  .end = k};
        }
    }
    n = merge(l, n, true);
    for (size_t i = 0, k; i < n; i = k) {
        bool alike = true;
        uint64_t sum = 0, scalars = 0;
        for (k = i; k < n && l[k].key == l[i].key; k++) {
            alike = alike && l[k].elems == l[i].elems && l[k].number == l[i].number + (k - i);
            sum += l[k].elems;
            scalars += l[k].scalars;
        }
        if (alike && k - i > 1 && k - i <= BLOCKS_MOST) {
            x->list[x->n_lists] = l[i];
            x->list[x->n_lists].extent[0] = (uint16_t)(k - i);
            x->list[x->n_lists].scalars = scalars;
            x->list[x->n_lists++].elems = sum;
        }
    }
    return ST_OK;
}

static int64_t under_at(const struct half *x, uint64_t key)
{
    size_t lo = 0, hi = x->n_under;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (x->under[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < x->n_under && x->under[lo].key == key ? (int64_t)lo : -1;
}

/* The nearest prefix around one; *levels and *k go on with the next. NULL: no more. */
static const struct lot *around(const struct half *x, const struct lot *l, size_t *k,
                                size_t *levels)
{
    struct str name = name_of(&x->m->tensor[l->tensor]);
    while ((*k = next_cut(name, *k, levels)) < l->end) {
        int64_t at = under_at(x, str_hash(str_sub(name, 0, *k), 1));
        if (at >= 0)
            return &x->under[at];
    }
    return NULL;
}

/* Is a prefix inside one that shares the extent at that axis, too? */
static bool inside(const struct half *x, const struct lot *l, size_t c)
{
    const struct lot *o;
    size_t k = 0, levels = 0;
    while ((o = around(x, l, &k, &levels)))
        if (o->extent[c])
            return true;
    return false;
}

/* May blocks of that prefix lie along axis c? Where all tensors have as many axes, the last is one
 * that has been counted from the front. */
static bool may_lie(const struct lot *l, size_t c)
{
    if (l->ruled)
        return c + 1 == l->ruled;
    bool twice = tried[c] < 0 && l->least == l->most && l->most + tried[c] <= FRONT_LAST;
    return l->extent[c] > 1 && !twice;
}

static int by_size(const void *px, const void *py)
{
    const struct size *x = px, *y = py;
    if (x->extent != y->extent)
        return x->extent < y->extent ? -1 : 1;
    return (x->elems > y->elems) - (x->elems < y->elems);
}

static size_t n_alike(const struct sizes *s, uint64_t extent, uint64_t elems)
{
    struct size key = {extent, elems};
    size_t at[2];
    for (int end = 0; end < 2; end++) {
        size_t lo = 0, hi = s->n;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            int c = by_size(&s->v[mid], &key);
            if (c < 0 || (end && c == 0))
                lo = mid + 1;
            else
                hi = mid;
        }
        at[end] = lo;
    }
    return at[1] - at[0];
}

/* A stack that no list of the other side tells of. */
static bool by_itself(const struct half *x, const struct lot *l, size_t c)
{
    return may_lie(l, c) && l->several && l->vector && !(l->plain & (1u << c)) && !inside(x, l, c);
}

static bool outermost(const struct half *x, const struct lot *l, size_t c)
{
    return may_lie(l, c) && !inside(x, l, c);
}

typedef bool which(const struct half *x, const struct lot *l, size_t c);

/* How many axes of those have the extent that axis c has; *before: one that was tried earlier. */
static size_t n_axes(const struct half *x, const struct lot *l, size_t c, which *is, bool *before)
{
    size_t n = 0;
    *before = false;
    for (size_t d = 0; d < TRIED; d++)
        if (l->extent[d] == l->extent[c] && is(x, l, d)) {
            n++;
            *before = *before || d < c;
        }
    return n;
}

static bool may_lie_any(const struct half *x, const struct lot *l, size_t c)
{
    (void)x;
    return may_lie(l, c);
}

static void put_size(struct sizes *s, uint64_t extent, uint64_t elems)
{
    if (s->v)
        s->v[s->n] = (struct size){extent, elems};
    s->n++;
}

static void put_prefixes(struct half *x)
{
    bool before;
    for (size_t i = 0; i < x->n_under; i++) {
        const struct lot *l = &x->under[i];
        for (size_t c = 0; c < TRIED; c++) {
            if (outermost(x, l, c) && n_axes(x, l, c, outermost, &before) && !before)
                put_size(&x->outer, l->extent[c], l->elems);
            if (!by_itself(x, l, c))
                continue;
            size_t n = n_axes(x, l, c, by_itself, &before);
            if (!before)
                put_size(&x->alone, l->extent[c], l->elems);
            if (n == 1)
                put_size(&x->sole, l->extent[c], l->elems);
            if (c == 0)
                put_size(&x->first, l->extent[c], l->elems);
        }
    }
}

static enum status sizes_of(struct half *x, struct arena *a, struct err *e)
{
    struct sizes *all[] = {&x->outer, &x->alone, &x->sole, &x->first, &x->lists};
    const size_t n = sizeof all / sizeof *all;
    put_prefixes(x); /* counts */
    x->lists.n = 2 * x->n_lists;
    for (size_t i = 0; i < n; i++) {
        all[i]->v = ARENA_ARRAY(a, struct size, all[i]->n + 1);
        if (!all[i]->v)
            return err_nomem(e, all[i]->n * sizeof *all[i]->v);
        all[i]->n = 0;
    }
    for (size_t i = 0; i < x->n_lists; i++) {
        const struct lot *l = &x->list[i];
        put_size(&x->lists, l->extent[0], l->elems);
        if (l->scalars)
            put_size(&x->lists, l->extent[0], l->elems - l->scalars);
    }
    put_prefixes(x);
    for (size_t i = 0; i < n; i++)
        if (all[i]->n)
            qsort(all[i]->v, all[i]->n, sizeof *all[i]->v, by_size);
    return ST_OK;
}

static struct str path_of(const struct half *x, const struct lot *l)
{
    return str_sub(name_of(&x->m->tensor[l->tensor]), 0, l->end);
}

static bool is_under(const struct tensor *t, struct str prefix)
{
    struct str name = name_of(t);
    return str_starts(name, prefix) && name.n > prefix.n && cuts(name.p[prefix.n]);
}

static enum status unstack(struct mapping *m, const struct half *x, const struct lot *l, size_t c,
                           struct seen *s, struct err *e)
{
    struct str prefix = path_of(x, l);
    for (size_t i = 0; i < x->m->n_tensors; i++)
        if (is_under(&x->m->tensor[i], prefix) && s->model.tensor[i].role == ROLE_OTHER)
            return ST_OK; /* a part of it, or all, is another stack's */
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        const struct tensor *t = &x->m->tensor[i];
        struct lens lens = {.n_blocks = l->extent[c]};
        if (!is_under(t, prefix) || !axis_at(c, t->n_dims, &lens.block_axis))
            continue;
        size_t at = collection_of(t->name) + prefix.n;
        for (; lens.block < lens.n_blocks; lens.block++) {
            struct str new =
                arena_fmt(m->a, "%.*s%c%llu%.*s", STR_ARG(str_sub(t->name, 0, at)), t->name.p[at],
                          (unsigned long long)lens.block, STR_ARG(str_sub(t->name, at, t->name.n)));
            if (!new.p)
                return err_nomem(e, t->name.n);
            TRY(seen_add(s, (uint32_t)i, lens, new, m->a, e));
        }
        seen_hide(s, (uint32_t)i);
    }
    return ST_OK;
}

/* Which of these axes (bits) is it? */
static enum status ask(struct mapping *m, const struct half *x, const struct lot *l, unsigned axes,
                       bool source, struct err *e)
{
    struct buf b = BUF_INIT;
    struct str path = path_of(x, l);
    buf_fmt(&b, "%.*s: blocks may be stacked along", STR_ARG(path));
    const char *sep = " axis";
    for (size_t c = 0; c < TRIED; c++)
        if (axes & (1u << c)) {
            buf_fmt(&b, "%s %d (%u blocks)", sep, tried[c], (unsigned)l->extent[c]);
            sep = " or";
        }
    enum status st = buf_ok(&b, e);
    struct str text = st == ST_OK ? arena_str(m->a, (const char *)b.p, b.n) : STR_NONE;
    struct str line = map_line(m, source ? "stack " : "restack ", path, " = ?");
    buf_free(&b);
    if (!text.p || !line.p)
        return st != ST_OK ? st : err_nomem(e, path.n);
    map_ask(m, text.p, line);
    return ST_OK;
}

/* ---- what the rules file says ---- */

static enum status find_rules(struct mapping *m, struct half *x, bool source, struct err *e)
{
    enum rule_what what = source ? RULE_STACK : RULE_RESTACK;
    for (size_t i = 0; i < x->n_under; i++) {
        struct lot *l = &x->under[i];
        const struct map_rule *r = map_rule_for(m, what, path_of(x, l));
        for (size_t c = 0; r && c < TRIED; c++)
            if (tried[c] == r->axis)
                l->ruled = (uint8_t)(c + 1);
        if (!r)
            continue;
        if (!l->ruled || !l->extent[l->ruled - 1])
            return err_set(e, ST_CANNOT, "stack-axis",
                           "line %zu of the rules file: the tensors of %.*s do not share an extent "
                           "of up to %d along axis %d",
                           r->line, STR_ARG(path_of(x, l)), BLOCKS_MOST, r->axis);
    }
    return ST_OK;
}

static enum status by_rules(struct mapping *m, const struct half *x, struct seen *s, struct err *e)
{
    for (size_t i = 0; i < x->n_under; i++) {
        const struct lot *l = &x->under[i], *o = NULL;
        size_t k = 0, levels = 0;
        while (l->ruled && (o = around(x, l, &k, &levels)) && !o->ruled)
            ;
        if (l->ruled && !o)
            TRY(unstack(m, x, l, l->ruled - 1u, s, e));
    }
    return ST_OK;
}

/* ---- what the other side tells ---- */

/* Those axes and, since that is no reason why it should not be they, all others of their extents.
 */
static unsigned with_equal(const struct half *x, const struct lot *l, unsigned axes, which *is)
{
    unsigned all = axes;
    for (size_t c = 0; c < TRIED; c++)
        for (size_t d = 0; d < TRIED && (axes & (1u << c)); d++)
            if (l->extent[d] == l->extent[c] && is(x, l, d))
                all |= 1u << d;
    return all;
}

static enum status settle(struct mapping *m, const struct half *x, const struct lot *l,
                          unsigned axes, struct seen *s, bool source, struct err *e)
{
    if (axes & (axes - 1))
        return ask(m, x, l, axes, source, e);
    for (size_t c = 0; c < TRIED; c++)
        if (axes & (1u << c))
            return unstack(m, x, l, c, s, e);
    return ST_OK;
}

static enum status stacks_of(struct mapping *m, const struct half *x, const struct half *y,
                             struct seen *s, bool source, struct err *e)
{
    for (size_t i = 0; i < x->n_under && y->n_lists; i++) {
        const struct lot *l = &x->under[i];
        unsigned axes = 0;
        for (size_t c = 0; c < TRIED && !l->ruled; c++) {
            size_t want = outermost(x, l, c) ? n_alike(&y->lists, l->extent[c], l->elems) : 0;
            if (want && n_alike(&x->lists, l->extent[c], l->elems) == 0 &&
                want == n_alike(&x->outer, l->extent[c], l->elems))
                axes |= 1u << c;
        }
        TRY(settle(m, x, l, with_equal(x, l, axes, may_lie_any), s, source, e));
    }
    return ST_OK;
}

/* Both sides stack as many blocks of as many elements. First axes come first, and what both sides
 * have along one axis only: then what is left is the same on both sides whichever of two such axes
 * is taken apart (a width and a depth), and the fewer blocks are taken. */
static enum status both_stack(struct mapping *m, const struct half *x, const struct half *y,
                              struct seen *s, bool source, struct err *e)
{
    for (size_t i = 0; i < x->n_under; i++) {
        const struct lot *l = &x->under[i];
        unsigned axes = 0, best = 0;
        uint64_t n_blocks = 0;
        for (size_t c = 0; c < TRIED && !l->ruled; c++) {
            uint64_t k = l->extent[c], n = l->elems;
            if (!by_itself(x, l, c) || n_alike(&x->lists, k, n) || n_alike(&y->lists, k, n) ||
                n_alike(&x->alone, k, n) != n_alike(&y->alone, k, n))
                continue;
            bool here = n_alike(&x->first, k, n), there = n_alike(&y->first, k, n);
            bool sole = n_alike(&x->sole, k, n) == n_alike(&x->alone, k, n) &&
                        n_alike(&y->sole, k, n) == n_alike(&y->alone, k, n);
            unsigned rank = 1u + 2u * here + 2u * there + sole;
            if (rank < best || (rank == best && sole && k >= n_blocks))
                continue;
            axes = rank > best || sole ? 1u << c : axes | 1u << c;
            n_blocks = k;
            best = rank;
        }
        TRY(settle(m, x, l, axes, s, source, e));
    }
    return ST_OK;
}

enum status see_stacks(struct mapping *m, const struct layers *skeleton, struct seen *s,
                       struct seen *t, struct err *e)
{
    struct half x = {.m = s->real}, y = {.m = t->real};
    TRY(names(&x, &m->sl, m->tmp, e));
    TRY(names(&y, skeleton, m->tmp, e));
    TRY(lists(&x, m->tmp, e));
    TRY(lists(&y, m->tmp, e));
    TRY(prefixes(&x, m->tmp, e));
    TRY(prefixes(&y, m->tmp, e));
    TRY(find_rules(m, &x, true, e));
    TRY(find_rules(m, &y, false, e));
    TRY(sizes_of(&x, m->tmp, e));
    TRY(sizes_of(&y, m->tmp, e));
    TRY(by_rules(m, &x, s, e));
    TRY(by_rules(m, &y, t, e));
    TRY(stacks_of(m, &x, &y, s, true, e));
    TRY(stacks_of(m, &y, &x, t, false, e));
    TRY(both_stack(m, &x, &y, s, true, e));
    return both_stack(m, &y, &x, t, false, e);
}
