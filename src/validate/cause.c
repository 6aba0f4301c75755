/* The mistakes tried, each an edit of how B's operands are read. */
#include "validate/cause.h"

#include <math.h>
#include <string.h>

#define TRY_ELEMS (UINT64_C(1) << 22)

static bool swap_letters(struct operand *o, char x, char y)
{
    size_t i = 0, k = 0;
    while (i < o->n && o->ax[i].letter != x)
        i++;
    while (k < o->n && o->ax[k].letter != y)
        k++;
    if (i == o->n || k == o->n || o->ax[i].extent != o->ax[k].extent || o->ax[i].extent < 2)
        return false;
    o->ax[i].letter = y;
    o->ax[k].letter = x;
    return true;
}

/* [E][H][D] read as [H][D][E] or the other way: the transpose of a square projection. */
static bool transpose_projection(struct operand *o)
{
    struct operand t = *o;
    uint64_t heads = operand_extent(o, 'H'), width = operand_extent(o, 'D');
    if (o->n != 3 || operand_extent(o, 'E') != heads * width)
        return false;
    size_t shift = o->ax[0].letter == 'E' ? 1 : 2;
    for (size_t i = 0; i < 3; i++)
        o->ax[i] = t.ax[(i + shift) % 3];
    return true;
}

static bool transposed(struct side *a, struct side *b)
{
    struct operand *w = &b->op[LEAF_WEIGHT];
    (void)a;
    if (b->layer->kind == LAYER_LINEAR) { /* the unit axis S is in the way */
        struct operand t = *w;
        t.n = 0;
        for (size_t i = 0; i < w->n; i++)
            if (w->ax[i].letter != 'S' || w->ax[i].extent != 1)
                t.ax[t.n++] = w->ax[i];
        *w = t;
        return swap_letters(w, 'O', 'C');
    }
    return swap_letters(w, 'O', 'I');
}
static bool transposed_all(struct side *a, struct side *b)
{
    (void)a;
    bool any = b->layer->kind == LAYER_ATTENTION;
    for (int i = LEAF_Q_WEIGHT; i <= LEAF_O_WEIGHT; i++)
        any = any && transpose_projection(&b->op[i]);
    return any;
}
#define TRANSPOSED(name, leaf)                                                                     \
    static bool name(struct side *a, struct side *b)                                               \
    {                                                                                              \
        (void)a;                                                                                   \
        return b->layer->kind == LAYER_ATTENTION && transpose_projection(&b->op[leaf]);            \
    }
TRANSPOSED(transposed_q, LEAF_Q_WEIGHT)
TRANSPOSED(transposed_k, LEAF_K_WEIGHT)
TRANSPOSED(transposed_v, LEAF_V_WEIGHT)
TRANSPOSED(transposed_o, LEAF_O_WEIGHT)

static bool flip_letters(struct operand *o, const char *letters)
{
    bool any = false;
    for (size_t i = 0; i < o->n; i++)
        if (strchr(letters, o->ax[i].letter) && o->ax[i].extent > 1) {
            o->ax[i].flip = !o->ax[i].flip;
            any = true;
        }
    return any;
}
static bool flipped(struct side *a, struct side *b)
{
    (void)a;
    return flip_letters(&b->op[LEAF_WEIGHT], "xyz");
}
static bool flipped_x(struct side *a, struct side *b)
{
    (void)a;
    return flip_letters(&b->op[LEAF_WEIGHT], "x");
}
static bool flipped_y(struct side *a, struct side *b)
{
    (void)a;
    return flip_letters(&b->op[LEAF_WEIGHT], "y");
}
static bool flipped_transposed(struct side *a, struct side *b)
{
    return flipped(a, b) && transposed(a, b);
}
static bool spatial_swapped(struct side *a, struct side *b)
{
    (void)a;
    return swap_letters(&b->op[LEAF_WEIGHT], 'x', 'y');
}

static void exchange(struct side *s, enum leaf x, enum leaf y)
{
    struct operand t = s->op[x];
    s->op[x] = s->op[y];
    s->op[y] = t;
}
#define EXCHANGED(name, condition, ...)                                                            \
    static bool name(struct side *a, struct side *b)                                               \
    {                                                                                              \
        static const enum leaf pair[][2] = {__VA_ARGS__};                                          \
        (void)a;                                                                                   \
        if (!(condition))                                                                          \
            return false;                                                                          \
        for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)                                  \
            exchange(b, pair[i][0], pair[i][1]);                                                   \
        return true;                                                                               \
    }
#define IS_NORM                                                                                    \
    (b->layer->kind == LAYER_BATCHNORM || b->layer->kind == LAYER_LAYERNORM ||                     \
     b->layer->kind == LAYER_GROUPNORM)
static bool same_widths(const struct side *s)
{
    const struct operand *q = &s->op[LEAF_Q_WEIGHT], *k = &s->op[LEAF_K_WEIGHT];
    const struct operand *v = &s->op[LEAF_V_WEIGHT];
    return s->layer->kind == LAYER_ATTENTION && operand_extent(q, 'E') == operand_extent(k, 'E') &&
           operand_extent(q, 'E') == operand_extent(v, 'E') &&
           operand_extent(q, 'D') == operand_extent(v, 'D');
}
EXCHANGED(scale_bias, IS_NORM, {LEAF_WEIGHT, LEAF_BIAS})
EXCHANGED(mean_var, b->layer->kind == LAYER_BATCHNORM, {LEAF_MEAN, LEAF_VAR})
EXCHANGED(qk, same_widths(b), {LEAF_Q_WEIGHT, LEAF_K_WEIGHT}, {LEAF_Q_BIAS, LEAF_K_BIAS})
EXCHANGED(kv, same_widths(b), {LEAF_K_WEIGHT, LEAF_V_WEIGHT}, {LEAF_K_BIAS, LEAF_V_BIAS})
EXCHANGED(qv, same_widths(b), {LEAF_Q_WEIGHT, LEAF_V_WEIGHT}, {LEAF_Q_BIAS, LEAF_V_BIAS})
EXCHANGED(vqk, same_widths(b), {LEAF_Q_WEIGHT, LEAF_K_WEIGHT}, {LEAF_K_WEIGHT, LEAF_V_WEIGHT},
          {LEAF_Q_BIAS, LEAF_K_BIAS}, {LEAF_K_BIAS, LEAF_V_BIAS})
EXCHANGED(kvq, same_widths(b), {LEAF_K_WEIGHT, LEAF_V_WEIGHT}, {LEAF_Q_WEIGHT, LEAF_K_WEIGHT},
          {LEAF_K_BIAS, LEAF_V_BIAS}, {LEAF_Q_BIAS, LEAF_K_BIAS})

static bool heads_reversed(struct side *a, struct side *b)
{
    bool any = false;
    (void)a;
    for (int i = LEAF_Q_WEIGHT; i <= LEAF_V_BIAS; i++)
        if (b->layer->kind == LAYER_ATTENTION && b->op[i].tensor >= 0 && i != LEAF_O_WEIGHT)
            any |= flip_letters(&b->op[i], "H");
    return any;
}

static bool heads_reversed_all(struct side *a, struct side *b)
{
    return heads_reversed(a, b) && flip_letters(&b->op[LEAF_O_WEIGHT], "H");
}

/* [C][S] read as [S][C]: features of a flattened map left in the other framework's order */
static bool features_swapped(struct side *a, struct side *b)
{
    struct operand *w = &b->op[LEAF_WEIGHT];
    (void)a;
    for (size_t i = 0; b->layer->kind == LAYER_LINEAR && i + 1 < w->n; i++)
        if ((w->ax[i].letter == 'C' && w->ax[i + 1].letter == 'S') ||
            (w->ax[i].letter == 'S' && w->ax[i + 1].letter == 'C')) {
            struct operand t = *w;
            w->ax[i] = t.ax[i + 1];
            w->ax[i + 1] = t.ax[i];
            return w->ax[i].extent > 1 && w->ax[i + 1].extent > 1;
        }
    return false;
}

static bool bias_alone(struct side *a, struct side *b)
{
    if (a->op[LEAF_BIAS].tensor < 0 && b->op[LEAF_BIAS].tensor < 0)
        return false;
    a->op[LEAF_BIAS].tensor = b->op[LEAF_BIAS].tensor = -1;
    return true;
}
static bool scale_alone(struct side *a, struct side *b)
{
    if (!IS_NORM || (a->op[LEAF_WEIGHT].tensor < 0 && b->op[LEAF_WEIGHT].tensor < 0))
        return false;
    a->op[LEAF_WEIGHT].tensor = b->op[LEAF_WEIGHT].tensor = -1;
    return true;
}

static const struct {
    const char *text;
    bool (*undo)(struct side *a, struct side *b);
} mistakes[] = {
    {"transposed", transposed},
    {"kernel flipped", flipped},
    {"kernel flipped along its first axis", flipped_x},
    {"kernel flipped along its second axis", flipped_y},
    {"kernel flipped, inputs and outputs exchanged", flipped_transposed},
    {"the kernel's spatial axes exchanged", spatial_swapped},
    {"scale and bias exchanged", scale_bias},
    {"mean and variance exchanged", mean_var},
    {"every projection transposed", transposed_all},
    {"query transposed", transposed_q},
    {"key transposed", transposed_k},
    {"value transposed", transposed_v},
    {"output projection transposed", transposed_o},
    {"query and key exchanged", qk},
    {"key and value exchanged", kv},
    {"query and value exchanged", qv},
    {"query, key and value rotated", vqk},
    {"query, key and value rotated", kvq},
    {"heads in reverse order", heads_reversed},
    {"heads in reverse order", heads_reversed_all},
    {"features of the flattened map in the other order", features_swapped},
    {"the bias alone differs", bias_alone},
    {"the scale alone differs", scale_alone},
};

static enum status attempt(const struct setting *s, const struct side *a, const struct side *b,
                           struct executor *x, double rtol, double atol, bool *equal, struct err *e)
{
    struct comparison c[STAGES_MAX];
    return stages_compare(s, a, b, x, TRY_ELEMS, rtol, atol, c, equal, e);
}

/* A Dense after a flattened map whose features were left in the other framework's order. */
static enum status flatten_order(const struct setting *s, const struct side *a,
                                 const struct side *b, struct executor *x, double rtol, double atol,
                                 uint64_t *channels, struct err *e)
{
    *channels = 0;
    const struct operand *w = &b->op[LEAF_WEIGHT];
    uint64_t n = operand_extent(w, 'C');
    if (s->kind != LAYER_LINEAR || operand_extent(w, 'S') != 1)
        return ST_OK;
    int tries = 0;
    for (uint64_t positions = 2; positions <= n / 2 && positions <= 1024 && tries < 24;
         positions++) {
        if (n % positions != 0)
            continue;
        tries++;
        for (int order = 0; order < 2; order++) {
            struct side other = *b;
            struct operand *o = &other.op[LEAF_WEIGHT];
            o->n = 0;
            for (size_t i = 0; i < w->n; i++) {
                if (w->ax[i].letter == 'S')
                    continue;
                o->ax[o->n] = w->ax[i];
                if (w->ax[i].letter == 'C') { /* [S][C]: the same digits read the other way round */
                    o->ax[o->n].letter = 'S';
                    o->ax[o->n].extent = order ? n / positions : positions;
                    o->n++;
                    o->ax[o->n].letter = 'C';
                    o->ax[o->n].flip = false;
                    o->ax[o->n].extent = order ? positions : n / positions;
                }
                o->n++;
            }
            bool equal;
            TRY(attempt(s, a, &other, x, rtol, atol, &equal, e));
            if (equal) {
                *channels = order ? positions : n / positions;
                return ST_OK;
            }
        }
    }
    return ST_OK;
}

/* b = r a to rounding: one number explains it. */
static bool scaled(const struct comparison *c, double *r)
{
    if (!(c->aa > 0) || !(c->bb > 0) || c->m.n_nonfinite > 0)
        return false;
    *r = c->dot / c->aa;
    return fabs(c->m.cosine) > 1 - 1e-9 && fabs(fabs(*r) - 1) > 1e-9;
}

enum status cause_find(const struct setting *s, const struct side *a, const struct side *b,
                       struct executor *x, double rtol, double atol,
                       const struct comparison c[STAGES_MAX], struct arena *arena,
                       struct str *cause, struct err *e)
{
    uint64_t n = 0, channels;
    double r;
    size_t k = 0;
    *cause = STR_NONE;
    for (size_t i = 0; i < LEAF_N; i++) {
        uint64_t m = a->op[i].tensor >= 0;
        for (size_t q = 0; q < a->op[i].n; q++)
            m *= a->op[i].ax[q].extent;
        n += m;
    }
    while (k + 1 < s->n_stages && c[k].m.n_fail == 0)
        k++;
    if (c[k].aa > 0 && c[k].bb == 0)
        *cause = arena_fmt(arena, "zero on one side");
    else if (scaled(&c[k], &r) && s->kind == LAYER_BATCHNORM && k == 0)
        *cause = arena_fmt(arena, "variance scaled by %.6g", 1 / (r * r));
    else if (scaled(&c[k], &r))
        *cause = arena_fmt(arena, "scaled by %.6g", r);
    if (cause->p || n > TRY_ELEMS || s->kind == LAYER_EMBEDDING || s->kind == LAYER_PARAM ||
        s->kind == LAYER_PRELU || kind_is_cell(s->kind))
        return ST_OK;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct side other_a = *a, other_b = *b;
        bool equal;
        if (!mistakes[i].undo(&other_a, &other_b))
            continue;
        TRY(attempt(s, &other_a, &other_b, x, rtol, atol, &equal, e));
        if (equal) {
            *cause = arena_fmt(arena, "%s", mistakes[i].text);
            return cause->p ? ST_OK : err_nomem(e, 64);
        }
    }
    TRY(flatten_order(s, a, b, x, rtol, atol, &channels, e));
    if (channels)
        *cause = arena_fmt(arena, "features of a flattened map with %llu channels in another order",
                           (unsigned long long)channels);
    return ST_OK;
}
