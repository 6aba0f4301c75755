/* Stacks: blocks that one side keeps in one subtree, every tensor with a first axis of as many as
 * there are blocks (nn.scan, vmap, layer_stack), and the other side as numbered subtrees. A subtree
 * is taken for a stack where all its tensors share their first extent, the other side has just one
 * numbered list of that many blocks with as many elements in all, and this side has no such list.
 * Where both sides stack, no list tells: then a subtree of several layers counts in which even what
 * is a vector by its name (bias, scale ...) has an axis more, and the other side has its like.
 */
#include "convert/map_seen.h"
#include <stdlib.h>
#include <string.h>

struct lot { /* tensors below one prefix, or of one number of a list */
    uint64_t key, number;
    uint64_t extent; /* common first extent; 0 = none */
    uint64_t elems;
    uint64_t scalars; /* of elems, those without an axis: a rate, a flag */
    uint32_t tensor;  /* one of them */
    size_t end;       /* of the prefix, in that one's name without collection */
    uint64_t layer;   /* hash of that one's name less its leaf */
    bool several;     /* layers */
    bool plain;       /* there is a tensor that nothing is stacked in: one axis, or 1s behind it */
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
    struct lot *list; /* numbered lists: extent = blocks, elems = of all */
    size_t n_lists;
    /* Of lists, with and without their scalars; of prefixes that are inside no stack; of those
     * that are stacks by themselves. */
    struct sizes lists, outer, alone;
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
            last->extent = last->extent == l[i].extent ? l[i].extent : 0;
        } else {
            l[k++] = l[i];
        }
    }
    return k;
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
        uint64_t extent = t->n_dims ? t->dim[0] : 0, elems = tensor_elems(t);
        size_t leaf = name.n, levels = 0, k = 0;
        while (leaf > 0 && !cuts(name.p[leaf - 1]))
            leaf--;
        struct lot one = {.extent = extent,
                          .elems = elems,
                          .tensor = (uint32_t)i,
                          .layer = str_hash(str_sub(name, 0, leaf), 1),
                          .plain = t->n_dims < 2 || elems == extent,
                          .vector = names_vector(str_sub(name, leaf, name.n))};
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
                                  .extent = 1,
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
        if (alike && k - i > 1) {
            x->list[x->n_lists] = l[i];
            x->list[x->n_lists].extent = k - i;
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

/* Is a prefix inside one that shares the extent, too? */
static bool inside(const struct half *x, const struct lot *l)
{
    struct str name = name_of(&x->m->tensor[l->tensor]);
    size_t levels = 0, k = 0;
    while ((k = next_cut(name, k, &levels)) < l->end) {
        int64_t at = under_at(x, str_hash(str_sub(name, 0, k), 1));
        if (at >= 0 && x->under[at].extent)
            return true;
    }
    return false;
}

static int by_size(const void *px, const void *py)
{
    const struct size *x = px, *y = py;
    if (x->extent != y->extent)
        return x->extent < y->extent ? -1 : 1;
    return (x->elems > y->elems) - (x->elems < y->elems);
}

static size_t n_alike(const struct sizes *s, const struct lot *what)
{
    struct size key = {what->extent, what->elems};
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

#define BLOCKS_MOST 4096
/* A stack that no list of the other side tells of. */
static bool by_itself(const struct half *x, const struct lot *l)
{
    return l->extent >= 2 && l->extent <= BLOCKS_MOST && l->several && l->vector && !l->plain &&
           !inside(x, l);
}

static void put_size(struct sizes *s, uint64_t extent, uint64_t elems)
{
    s->v[s->n++] = (struct size){extent, elems};
}

static void sort_sizes(struct sizes *s)
{
    if (s->n)
        qsort(s->v, s->n, sizeof *s->v, by_size);
}

static enum status sizes_of(struct half *x, struct arena *a, struct err *e)
{
    x->lists.v = ARENA_ARRAY(a, struct size, 2 * x->n_lists + 1);
    x->outer.v = ARENA_ARRAY(a, struct size, x->n_under + 1);
    x->alone.v = ARENA_ARRAY(a, struct size, x->n_under + 1);
    if (!x->lists.v || !x->outer.v || !x->alone.v)
        return err_nomem(e, (x->n_lists + x->n_under) * sizeof *x->outer.v);
    for (size_t i = 0; i < x->n_lists; i++) {
        const struct lot *l = &x->list[i];
        put_size(&x->lists, l->extent, l->elems);
        if (l->scalars)
            put_size(&x->lists, l->extent, l->elems - l->scalars);
    }
    for (size_t i = 0; i < x->n_under; i++) {
        const struct lot *l = &x->under[i];
        if (l->extent > 1 && !inside(x, l))
            put_size(&x->outer, l->extent, l->elems);
        if (by_itself(x, l))
            put_size(&x->alone, l->extent, l->elems);
    }
    sort_sizes(&x->lists);
    sort_sizes(&x->outer);
    sort_sizes(&x->alone);
    return ST_OK;
}

static enum status unstack(struct mapping *m, const struct half *x, const struct lot *l,
                           struct seen *s, struct err *e)
{
    struct str one = x->m->tensor[l->tensor].name;
    struct str prefix = str_sub(one, collection_of(one), collection_of(one) + l->end);
    for (size_t i = 0; i < x->m->n_tensors; i++) {
        const struct tensor *t = &x->m->tensor[i];
        size_t skip = collection_of(t->name), at = skip + prefix.n;
        struct str name = str_sub(t->name, skip, t->name.n);
        if (!weighs(t) || !str_starts(name, prefix) || name.n <= prefix.n ||
            !cuts(name.p[prefix.n]))
            continue;
        for (uint64_t b = 0; b < l->extent; b++) {
            struct str new =
                arena_fmt(m->a, "%.*s%c%llu%.*s", STR_ARG(str_sub(t->name, 0, at)), t->name.p[at],
                          (unsigned long long)b, STR_ARG(str_sub(t->name, at, t->name.n)));
            if (!new.p)
                return err_nomem(e, t->name.n);
            TRY(seen_add(s, (uint32_t)i, (struct lens){.n_blocks = l->extent, .block = b}, new,
                         m->a, e));
        }
        seen_hide(s, (uint32_t)i);
    }
    return ST_OK;
}

static enum status stacks_of(struct mapping *m, const struct half *x, const struct half *y,
                             struct seen *s, struct err *e)
{
    for (size_t i = 0; i < x->n_under && y->n_lists; i++) {
        const struct lot *l = &x->under[i];
        if (l->extent < 2 || l->extent > BLOCKS_MOST || n_alike(&x->lists, l) > 0 || inside(x, l))
            continue;
        size_t want = n_alike(&y->lists, l);
        if (want && want == n_alike(&x->outer, l))
            TRY(unstack(m, x, l, s, e));
    }
    return ST_OK;
}

static enum status both_stack(struct mapping *m, const struct half *x, const struct half *y,
                              struct seen *s, struct err *e)
{
    for (size_t i = 0; i < x->n_under; i++) {
        const struct lot *l = &x->under[i];
        if (by_itself(x, l) && n_alike(&x->lists, l) == 0 && n_alike(&y->lists, l) == 0 &&
            n_alike(&x->alone, l) == n_alike(&y->alone, l))
            TRY(unstack(m, x, l, s, e));
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
    TRY(sizes_of(&x, m->tmp, e));
    TRY(sizes_of(&y, m->tmp, e));
    TRY(stacks_of(m, &x, &y, s, e));
    TRY(stacks_of(m, &y, &x, t, e));
    TRY(both_stack(m, &x, &y, s, e));
    return both_stack(m, &y, &x, t, e);
}
