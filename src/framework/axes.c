/* Axis letters: parsing layouts and turning a pair of them into view edits. */
#include "framework/axes.h"
#include "base/checked.h"
#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '1';
}

enum status axes_parse(struct str text, struct axes *out, struct err *e)
{
    struct axes x = {0};
    bool used[128] = {false};
    bool inside = false, flip = false;
    size_t in_group = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == ' ' && !flip)
            continue;
        if (c == '(' && !inside && !flip) {
            inside = true;
            in_group = 0;
        } else if (c == ')' && inside && !flip && in_group > 0) {
            inside = false;
            x.n_dims++;
        } else if (c == '-' && !flip) {
            flip = true;
        } else if (is_letter(c) && x.n < AXES_MAX && !(c != '1' && used[(unsigned char)c]) &&
                   !(c == '1' && (inside || flip))) {
            used[(unsigned char)c] = true;
            x.at[x.n].letter = c;
            x.at[x.n].flip = flip;
            x.at[x.n].dim = x.n_dims;
            x.n++;
            flip = false;
            in_group++;
            if (!inside)
                x.n_dims++;
        } else {
            return err_set(e, ST_USAGE, "bad-axes", "'%.*s' is not a list of axis letters",
                           STR_ARG(text));
        }
    }
    if (inside || flip)
        return err_set(e, ST_USAGE, "bad-axes", "'%.*s' is not a list of axis letters",
                       STR_ARG(text));
    *out = x;
    return ST_OK;
}

enum status axes_learn(const struct axes *x, const uint64_t *dim, size_t n_dims,
                       struct axes_size *size, struct err *e)
{
    if (n_dims != x->n_dims)
        return err_set(e, ST_CANNOT, "axes-shape", "has %zu axes where the layout names %u", n_dims,
                       (unsigned)x->n_dims);
    size_t k = 0;
    for (size_t d = 0; d < n_dims; d++) {
        uint64_t known = 1;
        int open = -1;
        for (; k < x->n && x->at[k].dim == d; k++) {
            uint64_t s = x->at[k].letter == '1' ? 1 : size->of[(unsigned char)x->at[k].letter];
            if (s == 0 && open >= 0)
                return err_set(e, ST_CANNOT, "axes-shape",
                               "axis %zu is made of several parts whose extents are not known", d);
            if (s == 0)
                open = (unsigned char)x->at[k].letter;
            else if (!mul_u64(known, s, &known))
                return err_set(e, ST_CANNOT, "axes-shape", "axis %zu overflows", d);
        }
        if (open >= 0 && (known == 0 || dim[d] % known != 0))
            return err_set(e, ST_CANNOT, "axes-shape", "axis %zu of extent %llu has no %llu parts",
                           d, (unsigned long long)dim[d], (unsigned long long)known);
        if (open >= 0)
            size->of[open] = dim[d] / known;
        else if (known != dim[d])
            return err_set(e, ST_CANNOT, "axes-shape", "axis %zu is %llu, not %llu", d,
                           (unsigned long long)dim[d], (unsigned long long)known);
    }
    return ST_OK;
}

enum status axes_shape(const struct axes *x, const struct axes_size *size, uint64_t *dim,
                       struct err *e)
{
    for (size_t d = 0; d < x->n_dims; d++)
        dim[d] = 1;
    for (size_t k = 0; k < x->n; k++) {
        if (x->at[k].letter == '1')
            continue;
        if (!mul_u64(dim[x->at[k].dim], size->of[(unsigned char)x->at[k].letter],
                     &dim[x->at[k].dim]))
            return err_set(e, ST_CANNOT, "axes-shape", "axis %u overflows", (unsigned)x->at[k].dim);
    }
    return ST_OK;
}

/* position of a letter, -1 when absent */
static int find(const struct axes *x, char letter)
{
    for (int k = 0; k < x->n; k++)
        if (x->at[k].letter == letter)
            return k;
    return -1;
}

enum status axes_apply(struct view *v, const struct axes *from, const struct axes *to,
                       struct axes_size *size, struct err *e)
{
    uint64_t dim[VIEW_MAX_AXES];
    view_shape(v, dim);
    TRY(axes_learn(from, dim, v->n_dims, size, e));

    /* one axis per letter */
    size_t d = 0;
    char have[AXES_MAX];
    size_t n = 0;
    for (size_t k = 0; k < from->n; k++) {
        uint64_t inner = 1;
        for (size_t j = k + 1; j < from->n && from->at[j].dim == from->at[k].dim; j++)
            inner *= size->of[(unsigned char)from->at[j].letter]; /* fits: checked by axes_learn */
        bool last = k + 1 == from->n || from->at[k + 1].dim != from->at[k].dim;
        if (!last)
            TRY(view_split(v, d, inner, e));
        if (from->at[k].letter == '1') {
            TRY(view_drop(v, d, e));
            continue;
        }
        int t = find(to, from->at[k].letter);
        if (t < 0)
            return err_set(e, ST_USAGE, "bad-axes", "axis %c has no place in the target layout",
                           from->at[k].letter);
        if (to->at[t].flip != from->at[k].flip)
            TRY(view_flip(v, d, e));
        have[n++] = from->at[k].letter;
        d++;
    }
    /* the target's order */
    uint8_t perm[AXES_MAX];
    size_t m = 0;
    for (size_t k = 0; k < to->n; k++) {
        if (to->at[k].letter == '1')
            continue;
        const char *p = memchr(have, to->at[k].letter, n);
        if (!p)
            return err_set(e, ST_USAGE, "bad-axes", "axis %c has no place in the source layout",
                           to->at[k].letter);
        perm[m++] = (uint8_t)(p - have);
    }
    TRY(view_permute(v, perm, m, e));
    /* join and insert */
    d = 0;
    for (size_t k = 0; k < to->n; k++) {
        if (to->at[k].letter == '1') {
            TRY(view_insert(v, d, e));
        } else {
            while (k + 1 < to->n && to->at[k + 1].dim == to->at[k].dim) {
                TRY(view_join(v, d, e));
                k++;
            }
        }
        d++;
    }
    return ST_OK;
}
