/* The state of an optimizer behind a model's leaves: what tree_serialise_leaves((model, opt_state))
 * writes of optax's chains that count (Adam, AdamW, Lion), leaf by leaf
 *
 *   model's leaves, int32 count, the first moments, the second moments, int32 counts of schedules
 *
 * Nothing in the file says so. The count and trees of just the model's shapes behind it do, where
 * they can be read in one way only: each moment belongs to one leaf, in order, and leaves of a
 * model that is trained in part are left out where the shapes tell which. Anything else stays as it
 * is, leaves without a role. Source: optax/_src/transform.py, patrick-kidger/equinox
 * equinox/_serialisation.py.
 */
#include "base/mem.h"
#include "format/equinox.h"
#include <string.h>

static bool is_count(const struct tensor *t)
{
    return t->n_dims == 0 && t->dtype == DT_I32;
}

static bool is_real(const struct tensor *t)
{
    return dtype_info(t->dtype)->kind == DK_FLOAT;
}

static bool alike(const struct tensor *a, const struct tensor *b)
{
    return is_real(a) && is_real(b) && a->n_dims == b->n_dims &&
           (a->n_dims == 0 || memcmp(a->dim, b->dim, a->n_dims * sizeof *a->dim) == 0);
}

enum fit { FIT_NONE, FIT_ONE, FIT_SEVERAL };

/* Which of the model's leaves [0, end) the leaves [lo, hi) are of, in order: the first that fit and
 * the last that fit are the same ones, or there are several ways. */
static enum fit embed(const struct tensor *t, size_t end, size_t lo, size_t hi, uint32_t *of)
{
    size_t at = 0, k = hi;
    for (size_t i = lo; i < hi; i++) {
        while (at < end && !alike(&t[at], &t[i]))
            at++;
        if (at == end)
            return FIT_NONE;
        of[i - lo] = (uint32_t)at++;
    }
    for (at = end; k > lo; k--) {
        while (at > 0 && !alike(&t[at - 1], &t[k - 1]))
            at--;
        if (at == 0 || of[k - 1 - lo] != --at)
            return FIT_SEVERAL;
    }
    return hi > lo ? FIT_ONE : FIT_NONE;
}

/* Leaves from `count` on as `n` trees. */
static enum fit parse(const struct model *m, size_t count, size_t n, size_t *tail, uint32_t *of)
{
    const struct tensor *t = m->tensor;
    *tail = m->n_tensors;
    while (*tail > count + 1 && is_count(&t[*tail - 1]))
        (*tail)--;
    size_t each = (*tail - count - 1) / n, lo = count + 1;
    if (each == 0 || each * n != *tail - lo)
        return FIT_NONE;
    for (size_t i = lo + each; i < *tail; i++)
        if (!alike(&t[i], &t[i - each]))
            return FIT_NONE;
    return embed(t, count, lo, lo + each, of);
}

enum status equinox_roles(struct model *m, struct err *e)
{
    size_t n_found = 0, count = 0, trees = 0, tail = 0, n_counts = 0;
    uint32_t *of = mem_zalloc(m->n_tensors + 1, sizeof *of);
    if (!of)
        return err_nomem(e, m->n_tensors * sizeof *of);
    for (size_t i = 1; i < m->n_tensors && n_counts < 64; i++) {
        if (!is_count(&m->tensor[i]))
            continue;
        n_counts++;
        for (size_t n = 1; n <= 2; n++)
            if (parse(m, i, n, &tail, of) != FIT_NONE) {
                n_found++;
                count = i;
                trees = n;
            }
    }
    if (n_found == 1 && parse(m, count, trees, &tail, of) == FIT_ONE) {
        size_t each = (tail - count - 1) / trees;
        for (size_t i = count; i < m->n_tensors; i++) {
            struct tensor *t = &m->tensor[i];
            bool moment = i > count && i < tail;
            t->requires_grad = false;
            t->role = !moment ? ROLE_COUNTER : i < count + 1 + each ? ROLE_MOMENT1 : ROLE_MOMENT2;
            if (moment)
                t->of = of[(i - count - 1) % each];
        }
    }
    mem_free(of);
    return ST_OK;
}
