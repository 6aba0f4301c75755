/* Telling a convolution over a sequence from nn.Bilinear (torch/nn/modules/linear.py). Where
 * nothing tells, the doubt has a text for the question.
 */
#include "framework/bilinear.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

static int by_width(const void *px, const void *py)
{
    uint64_t x = *(const uint64_t *)px, y = *(const uint64_t *)py;
    return (x > y) - (x < y);
}

static void sort(uint64_t *v, size_t n)
{
    if (n)
        qsort(v, n, sizeof *v, by_width);
}

enum status bilinear_learn(const struct modules *ms, struct arena *a, struct bilinear *out,
                           struct err *e)
{
    size_t n = ms->n_members;
    *out = (struct bilinear){.ms = ms, .a = a};
    out->feature = ARENA_ARRAY(a, uint64_t, 2 * n + 1);
    out->out = ARENA_ARRAY(a, uint64_t, n + 1);
    out->in = ARENA_ARRAY(a, uint64_t, n + 1);
    if (!out->feature || !out->out || !out->in)
        return err_nomem(e, 4 * n * sizeof *out->in);
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &ms->m->tensor[ms->member[i].tensor];
        if (t->n_dims == 2) {
            out->feature[out->n_features++] = t->dim[0];
            out->feature[out->n_features++] = t->dim[1];
        } else if (t->n_dims == 3 && str_is(ms->member[i].leaf, "weight")) {
            out->out[out->n_weights] = t->dim[0];
            out->in[out->n_weights++] = t->dim[1];
        }
    }
    sort(out->feature, out->n_features);
    sort(out->out, out->n_weights);
    sort(out->in, out->n_weights);
    return ST_OK;
}

/* How often a number stands in a sorted list: 0, 1, or 2 for more. */
static size_t times(const uint64_t *v, size_t n, uint64_t x)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (v[mid] < x)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == n || v[lo] != x)
        return 0;
    return lo + 1 < n && v[lo + 1] == x ? 2 : 1;
}

bool bilinear_named(struct str path)
{
    struct words w;
    words_of(name_own(path), &w);
    for (size_t i = 0; i < w.n; i++)
        if (strstr(w.word[i], "bilin") || strstr(w.word[i], "biaff") ||
            (i && strcmp(w.word[i - 1], "bi") == 0 &&
             (strncmp(w.word[i], "lin", 3) == 0 || strncmp(w.word[i], "aff", 3) == 0)))
            return true;
    return false;
}

/* Words of networks that convolve. */
static bool word_convolves(const char *word)
{
    static const char *const is[] = {"tcn",       "unet",     "wavenet",   "patch",      "stem",
                                     "up",        "ups",      "down",      "downs",      "upsample",
                                     "upsampler", "resblock", "resblocks", "downsample", "dilated",
                                     "causal",    "dw",       "pw"};
    if (strstr(word, "conv") || strstr(word, "cnn"))
        return true;
    for (size_t i = 0; i < sizeof is / sizeof *is; i++)
        if (strcmp(word, is[i]) == 0)
            return true;
    return false;
}

static bool convolves(struct str path)
{
    struct str seg;
    struct words w;
    while (name_head(&path, &seg)) {
        words_of(seg, &w);
        for (size_t i = 0; i < w.n; i++)
            if (word_convolves(w.word[i]))
                return true;
    }
    return false;
}

/* Is there a module of that path, or below it? */
static bool stands(const struct modules *ms, struct str path)
{
    size_t lo = 0, hi = ms->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (str_cmp(ms->module[mid].path, path) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    /* "net.1" and what is below it stand before "net.10" */
    for (; lo < ms->n && str_starts(ms->module[lo].path, path); lo++) {
        struct str at = ms->module[lo].path;
        if (at.n == path.n || at.p[path.n] == '.')
            return true;
        if (at.p[path.n] > '.')
            return false;
    }
    return false;
}

/* The module numbered k below a path; .p == NULL: no memory. */
static struct str numbered(const struct bilinear *x, struct str parent, uint64_t k)
{
    return parent.n ? arena_fmt(x->a, "%.*s.%llu", STR_ARG(parent), (unsigned long long)k)
                    : arena_fmt(x->a, "%llu", (unsigned long long)k);
}

/* Does it stand in a sequence, where each module reads what the one before gives? Told by modules
 * without tensors between those that have some, and by norms and dense layers among them. A list
 * of layers alike is none. nn.Bilinear reads two values: it can stand in a list alone. */
static bool in_sequence(const struct bilinear *x, struct str path)
{
    struct str parent, seg, at[4]; /* one before, itself, and two after */
    bool there[4];
    uint64_t k;
    name_tail(path, &parent, &seg);
    if (!str_u64(seg, &k) || k >= UINT32_MAX)
        return false;
    for (uint64_t i = 0; i < 4; i++) {
        there[i] = false;
        if (k + i == 0)
            continue;
        at[i] = numbered(x, parent, k + i - 1);
        if (!at[i].p)
            return false;
        there[i] = stands(x->ms, at[i]);
    }
    if ((k > 0 && !there[0]) || (!there[2] && there[3]))
        return true;
    for (size_t i = 0; i < 3; i += 2) {
        const struct module *mod = there[i] ? module_at(x->ms, at[i]) : NULL;
        for (uint32_t j = 0; mod && j < mod->n; j++) { /* may be taken already */
            const struct member *b = &x->ms->member[mod->first + j];
            if ((str_is(b->leaf, "weight") || str_is(b->leaf, "running_mean")) &&
                x->ms->m->tensor[b->tensor].n_dims < 3)
                return true;
        }
    }
    return false;
}

/* Does another weight of three axes give what it reads, or read what it gives? */
static bool chained(const struct bilinear *x, const struct tensor *w)
{
    uint64_t out = w->dim[0], in = w->dim[1];
    size_t own = out == in ? 1 : 0;
    return times(x->out, x->n_weights, in) > own || times(x->in, x->n_weights, out) > own;
}

#define KERNEL_MOST 11 /* odd lengths up to this are a kernel's, where all else agrees */

const char *bilinear_doubt(const struct bilinear *x, struct str path, const struct tensor *w)
{
    uint64_t in = w->dim[1], k = w->dim[2];
    const unsigned both = KIND_BIT(LAYER_CONV) | KIND_BIT(LAYER_CONV_TRANSPOSE);
    if (k == 1 || in == 1) /* nobody multiplies with one feature so */
        return NULL;
    if ((name_kinds(path) & both) || convolves(name_own(path)) || in_sequence(x, path))
        return NULL;
    if (times(x->feature, x->n_features, k))
        return "the third axis is as long as what other layers read or give: a convolution, or "
               "nn.Bilinear's [out,in1,in2], which is kept as param";
    if (convolves(path) || (k % 2 && k <= KERNEL_MOST && k != in && chained(x, w)))
        return NULL;
    return "nothing around it tells a convolution from nn.Bilinear's [out,in1,in2], which is kept "
           "as param";
}
