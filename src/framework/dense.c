/* Linear layers over several axes. Sources: flax/linen/linear.py (DenseGeneral: kernel
 * [batch.., contracted.., features..], bias [batch.., features..]);
 * keras/src/layers/core/einsum_dense.py (_analyze_einsum_string).
 */
#include "framework/dense.h"
#include <string.h>

const struct dense_axes *dense_split(size_t n_axes, size_t n_in, struct arena *a)
{
    size_t n_out = n_axes - n_in;
    if (n_in < 1 || n_in >= n_axes || n_in > DENSE_SIDE || n_out > DENSE_SIDE)
        return NULL;
    struct dense_axes *d = ARENA_NEW(a, struct dense_axes);
    if (!d)
        return NULL;
    memcpy(d->in, n_in == 1 ? "F" : DENSE_IN, n_in);
    memcpy(d->out, n_out == 1 ? "O" : DENSE_OUT, n_out);
    memcpy(d->weight, d->in, n_in);
    memcpy(d->weight + n_in, d->out, n_out);
    memcpy(d->bias, d->out, n_out);
    return d;
}

static bool same_dims(const uint64_t *x, const uint64_t *y, size_t n)
{
    return n == 0 || memcmp(x, y, n * sizeof *x) == 0;
}

size_t dense_inputs(const struct tensor *w, const struct tensor *b, size_t *n_batch)
{
    size_t found = 0, n_in = 0;
    *n_batch = 0;
    for (size_t n_b = 0; n_b < b->n_dims && b->n_dims < w->n_dims; n_b++) {
        size_t n_out = b->n_dims - n_b; /* features */
        if (n_b + n_out >= w->n_dims || !same_dims(w->dim, b->dim, n_b) ||
            !same_dims(w->dim + w->n_dims - n_out, b->dim + n_b, n_out))
            continue;
        found++;
        *n_batch = n_b;
        n_in = w->n_dims - n_b - n_out;
    }
    return found == 1 && n_in <= DENSE_SIDE && b->n_dims <= DENSE_SIDE ? n_in : 0;
}

/* ---- equations ---- */

#define SIDES "..."
struct einsum {
    struct str in, kernel, out;
    bool tail; /* the dots, if any, stand behind the letters */
    bool dots;
};

static bool letters(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        bool letter = (s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z');
        if (!letter || str_find(s, s.p[i], i + 1) < s.n) /* twice: a diagonal */
            return false;
    }
    return s.n > 0;
}

static bool cut_dots(struct str *s, bool tail)
{
    struct str dots = STR(SIDES);
    if (tail ? !str_ends(*s, dots) : !str_starts(*s, dots))
        return false;
    *s = tail ? str_sub(*s, 0, s->n - dots.n) : str_sub(*s, dots.n, s->n);
    return true;
}

static bool parse(struct str q, struct einsum *x)
{
    size_t comma = str_find(q, ',', 0), arrow = str_find_str(q, STR("->"), 0);
    if (comma >= q.n || arrow >= q.n || arrow < comma)
        return false;
    *x = (struct einsum){.in = str_sub(q, 0, comma),
                         .kernel = str_sub(q, comma + 1, arrow),
                         .out = str_sub(q, arrow + 2, q.n)};
    for (int tail = 0; tail < 2 && !x->dots; tail++)
        if (cut_dots(&x->in, tail)) {
            x->dots = true;
            x->tail = tail;
            if (!cut_dots(&x->out, tail))
                return false;
        }
    return letters(x->in) && letters(x->kernel) && letters(x->out);
}

static bool has(struct str s, char c)
{
    return str_find(s, c, 0) < s.n;
}

/* The letters that s shares with the kernel, in its order. *last: they are its last ones. */
static size_t shared(struct str s, struct str kernel, char *out, bool *last)
{
    size_t n = 0, behind = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool is = has(kernel, s.p[i]);
        behind += n > 0 && !is;
        if (is && n++ < DENSE_SIDE)
            out[n - 1] = s.p[i];
    }
    *last = behind == 0;
    return n;
}

static const char none[] = "an EinsumDense whose equation is none here";

/* What the equation's letters are, and how many of either side. */
static const char *sides(const struct einsum *x, char *in, size_t *n_in, char *out, size_t *n_out,
                         bool *moves)
{
    bool in_last, out_last;
    for (size_t i = 0; i < x->kernel.n; i++) {
        bool read = has(x->in, x->kernel.p[i]), given = has(x->out, x->kernel.p[i]);
        if (read && given)
            return "an EinsumDense with an axis that input, kernel and output share: a stack of "
                   "dense layers";
        if (!read && !given)
            return "an EinsumDense that sums its kernel over an axis";
    }
    for (size_t i = 0; i < x->in.n; i++)
        if (!has(x->kernel, x->in.p[i]) && !has(x->out, x->in.p[i]))
            return "an EinsumDense that sums its input over an axis";
    for (size_t i = 0; i < x->out.n; i++)
        if (!has(x->kernel, x->out.p[i]) && !has(x->in, x->out.p[i]))
            return none;
    *n_in = shared(x->in, x->kernel, in, &in_last);
    *n_out = shared(x->out, x->kernel, out, &out_last);
    if (!*n_in || !*n_out || *n_in > DENSE_SIDE || *n_out > DENSE_SIDE)
        return none;
    /* what passes by keeps its order in front of what is read and given */
    *moves = !in_last || !out_last || (x->dots && x->tail) ||
             !str_eq(str_sub(x->in, 0, x->in.n - *n_in), str_sub(x->out, 0, x->out.n - *n_out));
    return NULL;
}

/* The letter of an axis of the kernel. */
static char letter_of(char c, const char *in, size_t n_in, const char *out, size_t n_out)
{
    const char *p = memchr(in, c, n_in), *q = memchr(out, c, n_out);
    if (p)
        return n_in == 1 ? 'F' : DENSE_IN[p - in];
    return n_out == 1 ? 'O' : q ? DENSE_OUT[q - out] : '1';
}

/* The bias is as long as what is given, from the first of its own axes on. */
static const char *bias_fits(const struct einsum *x, struct str axes, const char *given, size_t n,
                             const struct tensor *w, const struct tensor *b, struct dense_axes *d)
{
    size_t lo = x->out.n, k = 0, own = 0;
    for (size_t i = 0; i < axes.n; i++) {
        size_t at = str_find(x->out, axes.p[i], 0);
        if (!memchr(given, axes.p[i], n))
            return "an EinsumDense with a bias over axes that its kernel does not give";
        lo = at < lo ? at : lo;
    }
    for (size_t i = 0; i < n; i++)
        own += has(axes, given[i]);
    if (own != n)
        return "an EinsumDense with one bias for several of its outputs";
    for (size_t i = lo; i < x->out.n && k < sizeof d->bias - 1; i++) {
        bool is = has(axes, x->out.p[i]);
        d->bias[k++] = is ? letter_of(x->out.p[i], "", 0, given, n) : '1';
    }
    if (x->dots && x->tail) /* as many more as the input has */
        while (k < b->n_dims && k < sizeof d->bias - 1)
            d->bias[k++] = '1';
    bool fits = k == b->n_dims;
    for (size_t i = 0; fits && i < k; i++) {
        const char *at = strchr(d->weight, d->bias[i]);
        fits = b->dim[i] == (at ? w->dim[at - d->weight] : 1);
    }
    return fits ? NULL : "an EinsumDense whose bias is not its equation's";
}

enum status dense_einsum(struct str equation, struct str bias_axes, const struct tensor *w,
                         const struct tensor *b, struct arena *a, const struct dense_axes **out,
                         bool *is, const char **why, struct err *e)
{
    struct einsum x;
    char in[DENSE_SIDE], given[DENSE_SIDE];
    size_t n_in = 0, n_out = 0;
    bool moves = false;
    *is = false;
    *out = NULL;
    *why = none;
    if (!parse(equation, &x) || x.kernel.n != w->n_dims)
        return ST_OK;
    const char *no = sides(&x, in, &n_in, given, &n_out, &moves);
    struct dense_axes *d = ARENA_NEW(a, struct dense_axes);
    if (!d)
        return err_nomem(e, sizeof *d);
    for (size_t i = 0; !no && i < n_in; i++)
        d->in[i] = letter_of(in[i], in, n_in, given, n_out);
    for (size_t i = 0; !no && i < n_out; i++)
        d->out[i] = letter_of(given[i], in, n_in, given, n_out);
    for (size_t i = 0; !no && i < x.kernel.n; i++)
        d->weight[i] = letter_of(x.kernel.p[i], in, n_in, given, n_out);
    d->moves = moves;
    if (!no && b)
        no = bias_axes.n ? bias_fits(&x, bias_axes, given, n_out, w, b, d) : none;
    *why = no;
    *is = !no;
    bool usual = n_in == 1 && n_out == 1 && !moves && d->weight[0] == 'F' && !d->bias[1];
    *out = no || usual ? NULL : d;
    return ST_OK;
}
