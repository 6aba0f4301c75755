/* What both sides of a layer share: their operands' extents must agree, attributes that the
 * weights do not hold get one value, and the input gets its sizes.
 */
#include "validate/evaluate_int.h"

#include <string.h>

#define SLOTS 8
struct need {
    enum leaf slot[SLOTS];
    size_t n, n_required; /* the first n_required must be there on both sides */
};

static struct need slots_of(enum layer_kind kind)
{
    switch (kind) {
    case LAYER_LINEAR:
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
    case LAYER_CONV_LOCAL:
        return (struct need){{LEAF_WEIGHT, LEAF_BIAS}, 2, 1};
    case LAYER_BATCHNORM:
        return (struct need){{LEAF_MEAN, LEAF_VAR, LEAF_WEIGHT, LEAF_BIAS}, 4, 2};
    case LAYER_LAYERNORM:
    case LAYER_GROUPNORM:
        return (struct need){{LEAF_WEIGHT, LEAF_BIAS}, 2, 0};
    case LAYER_EMBEDDING:
    case LAYER_PRELU:
        return (struct need){{LEAF_WEIGHT}, 1, 1};
    case LAYER_ATTENTION:
        return (struct need){{LEAF_Q_WEIGHT, LEAF_K_WEIGHT, LEAF_V_WEIGHT, LEAF_O_WEIGHT,
                              LEAF_Q_BIAS, LEAF_K_BIAS, LEAF_V_BIAS, LEAF_O_BIAS},
                             8,
                             4};
    default:
        return (struct need){{LEAF_VALUE}, 1, 1};
    }
}

static enum status say(struct arena *a, struct str *out, enum status st, struct str text,
                       struct err *e)
{
    (void)a;
    if (!text.p)
        return err_nomem(e, 256);
    *out = text;
    return st;
}

/* Which comes first in a window, its channels or its positions? */
static char window_order(const struct side *x)
{
    const struct convention *c = x->convention;
    for (size_t i = 0; i < c->n; i++)
        if (c->form[i].kind == LAYER_CONV_LOCAL && c->form[i].slot == LEAF_WEIGHT)
            return strstr(c->form[i].axes, "(C S)") ? 'C' : 'S';
    return 0;
}

/* Every slot of one side as far as the facts reach; *open is a letter still unknown, or 0. */
static enum status solve_side(struct setting *s, struct side *side, const struct need *need,
                              char *open, struct err *e)
{
    *open = 0;
    for (size_t i = 0; i < need->n; i++) {
        char letter;
        enum leaf slot = need->slot[i];
        enum status st = convention_operand(side->convention, side->layer, side->plan, slot,
                                            &s->facts, &side->op[slot], &letter, e);
        if (st == ST_NO)
            *open = letter;
        else if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status solve(struct setting *s, struct side *a, struct side *b, const struct need *need,
                         char *open, struct err *e)
{
    /* What one side's shapes tell may be what the other lacks. */
    char open_a = 0, open_b = 0;
    for (int round = 0; round < 2; round++) {
        TRY(solve_side(s, a, need, &open_a, e));
        TRY(solve_side(s, b, need, &open_b, e));
    }
    *open = open_a ? open_a : open_b;
    return ST_OK;
}

/* Heads that neither side tells: 64 wide where that divides, else the most of a few that do. */
static enum status assume_heads(struct setting *s, struct side *a, struct side *b,
                                const struct need *need, char *open, struct err *e)
{
    uint64_t rows = operand_extent(&a->op[LEAF_O_WEIGHT], 'E');
    for (size_t i = 0; i < 2 && rows <= 1; i++) { /* from the square of the output projection */
        const struct side *side = i ? b : a;
        int64_t t = side->layer->tensor[LEAF_O_WEIGHT];
        const struct tensor *w = t >= 0 ? &side->plan->dst.tensor[t] : NULL;
        if (w && w->n_dims >= 2)
            rows = w->dim[1];
    }
    uint64_t try[] = {rows / 64, 16, 12, 8, 6, 4, 3, 2, 1};
    enum status st = ST_NO;
    for (size_t i = 0; i < sizeof try / sizeof try[0] && st != ST_OK; i++) {
        if (try[i] == 0 || (i == 0 && rows % 64 != 0) || rows % try[i] != 0)
            continue;
        s->facts.of['H'] = try[i];
        st = solve(s, a, b, need, open, e);
        if (st == ST_OK && *open)
            st = ST_NO;
    }
    return st;
}

/* A window's channels, or the rows of positions, that neither side tells: where both have them in
 * one order, it does not matter how many they are. */
static enum status assume_joined(struct setting *s, struct side *a, struct side *b,
                                 const struct need *need, char *open, struct err *e)
{
    for (int k = 0; k < 2 && (*open == 'C' || *open == 'S' || *open == 'u'); k++) {
        if (*open != 'u' && window_order(a) != window_order(b))
            return ST_OK;
        s->facts.of[*open == 'u' ? 'u' : 'S'] = 1;
        TRY(solve(s, a, b, need, open, e));
    }
    return ST_OK;
}

/* Of a linear layer, whose axes may be divided otherwise on the other side. */
static uint64_t reads(const struct operand *w)
{
    return operand_extent(w, 'C') * operand_extent(w, 'S') * operand_extent(w, 'X') *
           operand_extent(w, 'Y');
}

static uint64_t gives(const struct operand *w)
{
    return operand_extent(w, 'O') * operand_extent(w, 'Q');
}

/* "" or the letter on which two operands' extents differ */
static char differing(const struct operand *a, const struct operand *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (operand_extent(b, a->ax[i].letter) != a->ax[i].extent)
            return a->ax[i].letter;
    for (size_t i = 0; i < b->n; i++)
        if (operand_extent(a, b->ax[i].letter) != b->ax[i].extent)
            return b->ax[i].letter;
    return 0;
}

static char differing_all(const struct operand *a, const struct operand *b)
{
    return reads(a) != reads(b) ? 'C' : gives(a) != gives(b) ? 'O' : 0;
}

static uint64_t values(const struct operand *o)
{
    uint64_t n = 1;
    for (size_t i = 0; i < o->n; i++)
        n *= o->ax[i].extent;
    return n;
}

/* A bare parameter has no form: its axes are its own. */
static enum status solve_param(struct side *a, struct side *b, struct arena *arena, struct str *why,
                               struct err *e)
{
    const struct tensor *t[2];
    struct side *side[2] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        struct operand *o = &side[i]->op[LEAF_VALUE];
        memset(o, 0, sizeof *o);
        o->tensor = side[i]->layer->tensor[LEAF_VALUE];
        if (o->tensor < 0)
            return say(arena, why, ST_CANNOT, arena_fmt(arena, "a parameter without a value"), e);
        t[i] = &side[i]->plan->dst.tensor[o->tensor];
    }
    if (t[0]->n_dims != t[1]->n_dims ||
        memcmp(t[0]->dim, t[1]->dim, t[0]->n_dims * sizeof t[0]->dim[0]) != 0)
        return say(arena, why, ST_NO, arena_fmt(arena, "the shapes differ"), e);
    return ST_OK;
}

static enum status conv_setting(struct setting *s, const struct side *a, const struct side *b,
                                struct arena *arena, struct str *why, struct str *assumed,
                                struct err *e)
{
    const struct operand *w = &a->op[LEAF_WEIGHT];
    bool transposed = s->kind == LAYER_CONV_TRANSPOSE;
    uint64_t ga = a->layer->groups, gb = b->layer->groups;
    if (ga != 0 && gb != 0 && ga != gb)
        return say(arena, why, ST_NO,
                   arena_fmt(arena, "groups: %llu against %llu", (unsigned long long)ga,
                             (unsigned long long)gb),
                   e);
    s->groups = ga ? ga : gb ? gb : 1;
    uint64_t outputs = operand_extent(w, 'O'), inputs = operand_extent(w, 'I');
    if ((transposed ? inputs : outputs) % s->groups != 0)
        return say(arena, why, ST_CANNOT, arena_fmt(arena, "the groups do not divide the channels"),
                   e);
    s->channels_in = transposed ? inputs : inputs * s->groups;
    s->channels_out = transposed ? outputs * s->groups : outputs;
    /* Few positions, no two spatial extents alike; fewer for large kernels. */
    static const uint64_t few[4][3] = {{1, 1, 1}, {3, 1, 1}, {2, 3, 1}, {1, 2, 3}};
    s->rank = a->layer->rank <= 3 ? a->layer->rank : 3;
    s->rows = 2;
    bool large = values(w) > (UINT64_C(1) << 22);
    for (size_t k = 0; k < 3; k++) {
        uint64_t positions = large && few[s->rank][k] > 2 ? 2 : few[s->rank][k];
        s->kernel[k] = operand_extent(w, (char)('x' + (int)k));
        s->stride[k] = transposed && k < s->rank ? 2 : 1;
        if (transposed) {
            s->in_dim[k] = positions;
            s->out_dim[k] = (positions - 1) * s->stride[k] + s->kernel[k];
        } else {
            s->out_dim[k] = positions;
            s->in_dim[k] = positions + s->kernel[k] - 1;
        }
    }
    *assumed = arena_fmt(arena, "stride=%d dilation=1 padding=0%s", transposed ? 2 : 1,
                         ga == 0 && gb == 0 ? " groups=1" : "");
    s->stage[0] = (struct stage){"output", s->rows * s->channels_out * s->out_dim[0] *
                                               s->out_dim[1] * s->out_dim[2]};
    s->n_stages = 1;
    return assumed->p ? ST_OK : err_nomem(e, 64);
}

/* Shapes of two tensors, axes of extent 1 aside. */
static bool same_extents(const struct tensor *x, const struct tensor *y)
{
    size_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < x->n_dims && x->dim[i] == 1)
            i++;
        while (k < y->n_dims && y->dim[k] == 1)
            k++;
        if (i == x->n_dims || k == y->n_dims)
            return i == x->n_dims && k == y->n_dims;
        if (x->dim[i] != y->dim[k])
            return false;
    }
}

static enum status norm_setting(struct setting *s, const struct side *a, const struct side *b,
                                struct arena *arena, struct str *why, struct str *assumed,
                                struct err *e)
{
    const enum leaf any[] = {LEAF_MEAN, LEAF_WEIGHT, LEAF_BIAS};
    s->n_elems = 0;
    for (size_t i = 0; i < 3 && s->n_elems == 0; i++) {
        if (a->op[any[i]].tensor >= 0)
            s->n_elems = values(&a->op[any[i]]);
        else if (b->op[any[i]].tensor >= 0)
            s->n_elems = values(&b->op[any[i]]);
    }
    for (size_t i = 1; i < 3; i++) { /* over several axes: no convention says their order */
        int64_t ta = a->op[any[i]].tensor, tb = b->op[any[i]].tensor;
        const struct tensor *x = ta >= 0 ? &a->plan->dst.tensor[ta] : NULL;
        const struct tensor *y = tb >= 0 ? &b->plan->dst.tensor[tb] : NULL;
        if (x && y && (x->n_dims > 1 || y->n_dims > 1) && !same_extents(x, y))
            return say(arena, why, ST_CANNOT,
                       arena_fmt(arena, "a norm over several axes, in another order"), e);
    }
    s->eps = 1e-5;
    s->rows = 4;
    s->in_dim[0] = 1;
    s->groups = 1;
    if (s->kind == LAYER_BATCHNORM)
        s->in_dim[0] = 2;
    *assumed = arena_fmt(arena, "eps=1e-05");
    if (s->kind == LAYER_GROUPNORM) {
        uint64_t ga = a->layer->groups, gb = b->layer->groups;
        if (ga != 0 && gb != 0 && ga != gb)
            return say(arena, why, ST_NO, arena_fmt(arena, "the numbers of groups differ"), e);
        s->groups = ga ? ga : gb;
        s->in_dim[0] = 6;
        s->rows = 2;
        if (s->groups == 0) {
            for (s->groups = 32; s->n_elems % s->groups != 0; s->groups--)
                ;
            *assumed = arena_fmt(arena, "eps=1e-05 groups=%llu", (unsigned long long)s->groups);
        }
        if (s->n_elems % s->groups != 0)
            return say(arena, why, ST_CANNOT,
                       arena_fmt(arena, "the groups do not divide the channels"), e);
    }
    uint64_t n = s->rows * s->n_elems * s->in_dim[0];
    s->stage[0] = (struct stage){"normalised", n};
    s->stage[1] = (struct stage){"output", n};
    s->n_stages = 2;
    return assumed->p ? ST_OK : err_nomem(e, 64);
}

static enum status attention_setting(struct setting *s, const struct side *a, bool assumed_heads,
                                     struct arena *arena, struct str *why, struct str *assumed,
                                     struct err *e)
{
    const struct operand *q = &a->op[LEAF_Q_WEIGHT], *k = &a->op[LEAF_K_WEIGHT];
    const struct operand *v = &a->op[LEAF_V_WEIGHT], *o = &a->op[LEAF_O_WEIGHT];
    s->heads = operand_extent(q, 'H');
    s->head_dim = operand_extent(q, 'D');
    s->value_dim = operand_extent(v, 'D');
    s->width[0] = operand_extent(q, 'E');
    s->width[1] = operand_extent(k, 'E');
    s->width[2] = operand_extent(v, 'E');
    s->width[3] = operand_extent(o, 'E');
    if (operand_extent(k, 'H') != s->heads || operand_extent(v, 'H') != s->heads ||
        operand_extent(o, 'H') != s->heads || operand_extent(k, 'D') != s->head_dim ||
        operand_extent(o, 'D') != s->value_dim)
        return say(arena, why, ST_CANNOT,
                   arena_fmt(arena, "query, key, value and output do not fit together"), e);
    s->rows = 2;
    s->t = 3;
    s->keys = 5;
    uint64_t hd = s->heads * s->head_dim, hv = s->heads * s->value_dim;
    s->stage[0] = (struct stage){"query", s->rows * s->t * hd};
    s->stage[1] = (struct stage){"key", s->rows * s->keys * hd};
    s->stage[2] = (struct stage){"value", s->rows * s->keys * hv};
    s->stage[3] = (struct stage){"context", s->rows * s->t * hv};
    s->stage[4] = (struct stage){"output", s->rows * s->t * s->width[3]};
    s->n_stages = 5;
    *assumed = assumed_heads ? arena_fmt(arena, "heads=%llu mask=none scale=1/sqrt(width)",
                                         (unsigned long long)s->heads)
                             : arena_fmt(arena, "mask=none scale=1/sqrt(width)");
    return assumed->p ? ST_OK : err_nomem(e, 64);
}

/* A vector must have as many elements as what it is added to. */
static bool vectors_fit(const struct setting *s, const struct side *side)
{
    const struct operand *w = &side->op[LEAF_WEIGHT], *b = &side->op[LEAF_BIAS];
    switch (s->kind) {
    case LAYER_LINEAR:
        return b->tensor < 0 || values(b) == gives(w);
    case LAYER_CONV_LOCAL:
        for (const char *p = "Ouvw"; *p && b->tensor >= 0; p++)
            if (operand_extent(b, *p) != operand_extent(w, *p))
                return false;
        return true;
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
        return b->tensor < 0 || values(b) == s->channels_out;
    case LAYER_ATTENTION:
        for (int i = 0; i < 3; i++) {
            const struct operand *x = &side->op[LEAF_Q_BIAS + i];
            if (x->tensor >= 0 && values(x) != s->heads * (i == 2 ? s->value_dim : s->head_dim))
                return false;
        }
        return side->op[LEAF_O_BIAS].tensor < 0 || values(&side->op[LEAF_O_BIAS]) == s->width[3];
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
    case LAYER_GROUPNORM:
        for (int i = 0; i < LEAF_N; i++)
            if (side->op[i].tensor >= 0 && values(&side->op[i]) != s->n_elems)
                return false;
        return true;
    default:
        return true;
    }
}

static struct str input_text(const struct setting *s, const struct side *a, struct arena *arena)
{
#define U(v) (unsigned long long)(v)
    switch (s->kind) {
    case LAYER_LINEAR:
        return arena_fmt(arena, "x [%llu,%llu] -> y [%llu,%llu]", U(s->rows), U(s->channels_in),
                         U(s->rows), U(s->channels_out));
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
        return arena_fmt(arena, "x [%llu,%llu,%llu,%llu,%llu] -> y [%llu,%llu,%llu,%llu,%llu]",
                         U(s->rows), U(s->channels_in), U(s->in_dim[0]), U(s->in_dim[1]),
                         U(s->in_dim[2]), U(s->rows), U(s->channels_out), U(s->out_dim[0]),
                         U(s->out_dim[1]), U(s->out_dim[2]));
    case LAYER_CONV_LOCAL:
        return arena_fmt(arena, "a window [%llu] at each of %llu positions, %llu times",
                         U(s->channels_in), U(s->n_elems), U(s->rows));
    case LAYER_ATTENTION:
        return arena_fmt(arena, "queries [%llu,%llu,%llu], keys and values [%llu,%llu,%llu]",
                         U(s->rows), U(s->t), U(s->width[0]), U(s->rows), U(s->keys),
                         U(s->width[1]));
    case LAYER_EMBEDDING:
        return arena_fmt(arena, "every one of %llu rows", U(s->n_elems));
    case LAYER_PARAM:
        return arena_fmt(arena, "x [%llu] times the parameter",
                         U(tensor_elems(&a->plan->dst.tensor[a->op[LEAF_VALUE].tensor])));
    default:
        return arena_fmt(arena, "x [%llu,%llu,%llu]", U(s->rows), U(s->n_elems), U(s->in_dim[0]));
    }
#undef U
}

static void in_passes(struct setting *s, const char *name, uint64_t items, uint64_t item_values,
                      uint64_t pass_elems)
{
    s->pass_items = pass_elems / (item_values ? item_values : 1);
    if (s->pass_items == 0)
        s->pass_items = 1;
    if (s->pass_items > items)
        s->pass_items = items;
    s->n_passes = s->pass_items ? (items + s->pass_items - 1) / s->pass_items : 0;
    s->stage[0] = (struct stage){name, s->pass_items * item_values};
    s->n_stages = 1;
}

uint64_t setting_stage_n(const struct setting *s, size_t stage, uint64_t pass)
{
    if ((s->kind == LAYER_EMBEDDING || s->kind == LAYER_PARAM) && pass + 1 == s->n_passes) {
        uint64_t left = s->n_elems - pass * s->pass_items;
        return left * (s->kind == LAYER_EMBEDDING ? s->dim : 1);
    }
    return s->stage[stage].n;
}

/* The operands of both sides against each other and the kind's needs. */
static enum status operands(struct setting *s, struct side *a, struct side *b, bool *assumed_heads,
                            struct arena *arena, struct str *why, struct err *e)
{
    struct need need = slots_of(s->kind);
    struct err shape = {0};
    char open = 0;
    if (s->kind == LAYER_PARAM)
        return solve_param(a, b, arena, why, e);
    enum status st = solve(s, a, b, &need, &open, &shape);
    if (st == ST_OK && s->kind == LAYER_CONV_LOCAL)
        st = assume_joined(s, a, b, &need, &open, &shape);
    if (st == ST_OK && open == 'H') {
        st = assume_heads(s, a, b, &need, &open, &shape);
        *assumed_heads = st == ST_OK;
    }
    if (st == ST_NO || (st == ST_OK && open))
        return say(arena, why, ST_CANNOT,
                   arena_fmt(arena, "the extent of %c is not known", open ? open : 'H'), e);
    if (st == ST_CANNOT)
        return say(arena, why, ST_CANNOT, arena_fmt(arena, "%s", shape.reason), e);
    TRY(st);
    for (size_t i = 0; i < need.n; i++) {
        const struct operand *oa = &a->op[need.slot[i]], *ob = &b->op[need.slot[i]];
        if (i < need.n_required && (oa->tensor < 0 || ob->tensor < 0))
            return say(arena, why, ST_CANNOT,
                       arena_fmt(arena, "%s is missing", leaf_name(need.slot[i])), e);
        char letter = oa->tensor < 0 || ob->tensor < 0     ? 0
                      : a->layer->dense || b->layer->dense ? differing_all(oa, ob)
                                                           : differing(oa, ob);
        if (letter)
            return say(arena, why, ST_NO,
                       arena_fmt(arena, "%s: axis %c is %llu against %llu", leaf_name(need.slot[i]),
                                 letter, (unsigned long long)operand_extent(oa, letter),
                                 (unsigned long long)operand_extent(ob, letter)),
                       e);
    }
    return ST_OK;
}

enum status setting_make(struct setting *s, struct side *a, struct side *b, uint64_t pass_elems,
                         struct arena *arena, struct str *why, struct str *assumed,
                         struct str *input, struct err *e)
{
    const struct layer *la = a->layer, *lb = b->layer;
    bool assumed_heads = false;
    *why = *assumed = *input = STR_NONE;
    for (size_t i = 0; i < LEAF_N; i++)
        a->op[i].tensor = b->op[i].tensor = -1;
    bool ranked = la->kind != LAYER_BATCHNORM && la->kind != LAYER_PRELU &&
                  la->kind != LAYER_LINEAR; /* which may have been taken for a convolution */
    if (la->kind != lb->kind || (ranked && la->rank != lb->rank))
        return say(arena, why, ST_NO,
                   arena_fmt(arena, "a %s layer against a %s layer", layer_kind_name(la->kind),
                             layer_kind_name(lb->kind)),
                   e);
    s->kind = la->kind;
    s->facts.of['H'] = la->heads ? la->heads : lb->heads;
    s->facts.of['C'] = la->flat_c ? la->flat_c : lb->flat_c;
    if (la->flat_c != 0 && lb->flat_c != 0 && la->flat_c != lb->flat_c)
        return say(arena, why, ST_NO, arena_fmt(arena, "the flattened maps' channels differ"), e);
    bool local = la->kind == LAYER_CONV_LOCAL;
    if (s->facts.of['C'] == 0 && !local)
        s->facts.of['S'] = 1;
    if (local)
        s->facts.of['u'] = la->rank != 2 ? 0 : la->heads ? la->heads : lb->heads;
    s->n_passes = 1;
    s->rows = 3;
    if (kind_is_cell(s->kind))
        return cell_setting(s, a, b, arena, why, assumed, input, e);
    TRY(operands(s, a, b, &assumed_heads, arena, why, e));
    const struct operand *w = &a->op[LEAF_WEIGHT];
    switch (s->kind) {
    case LAYER_LINEAR:
        s->channels_in = reads(w);
        s->channels_out = gives(w);
        s->stage[0] = (struct stage){"output", s->rows * s->channels_out};
        s->n_stages = 1;
        break;
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
        TRY(conv_setting(s, a, b, arena, why, assumed, e));
        break;
    case LAYER_CONV_LOCAL:
        s->channels_in = operand_extent(w, 'C') * operand_extent(w, 'S');
        s->channels_out = operand_extent(w, 'O');
        s->n_elems = operand_extent(w, 'u') * operand_extent(w, 'v') * operand_extent(w, 'w');
        s->rows = 2;
        s->stage[0] = (struct stage){"output", s->rows * s->channels_out * s->n_elems};
        s->n_stages = 1;
        break;
    case LAYER_ATTENTION:
        TRY(attention_setting(s, a, assumed_heads, arena, why, assumed, e));
        break;
    case LAYER_EMBEDDING:
        s->n_elems = operand_extent(w, 'V');
        s->dim = operand_extent(w, 'D');
        in_passes(s, "rows", s->n_elems, s->dim, pass_elems);
        break;
    case LAYER_PRELU: /* every slope meets values of either sign */
        s->n_elems = values(w);
        s->in_dim[0] = 1;
        s->stage[0] = (struct stage){"output", 4 * s->n_elems};
        s->rows = 4;
        s->n_stages = 1;
        break;
    case LAYER_PARAM:
        s->n_elems = tensor_elems(&a->plan->dst.tensor[a->op[LEAF_VALUE].tensor]);
        in_passes(s, "value", s->n_elems, 1, pass_elems);
        break;
    default:
        TRY(norm_setting(s, a, b, arena, why, assumed, e));
    }
    if (!vectors_fit(s, a) || !vectors_fit(s, b))
        return say(arena, why, ST_CANNOT,
                   arena_fmt(arena, "a bias or scale does not fit its layer"), e);
    uint64_t n = 0;
    for (size_t k = 0; k < s->n_stages; k++)
        n += s->stage[k].n;
    if (n == 0 || s->n_passes == 0)
        return say(arena, why, ST_CANNOT, arena_fmt(arena, "nothing to compute"), e);
    *input = input_text(s, a, arena);
    return input->p ? ST_OK : err_nomem(e, 128);
}
