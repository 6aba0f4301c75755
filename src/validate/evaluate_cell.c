/* One step of a recurrent cell under one convention: products of both sides, biases, the step, and
 * what an LSTM projects its state to. Gates are put into canonical order here, by the convention's
 * own text, with the signs it has. A convolutional cell's products are convolutions, of the input
 * without padding and of the state with as much as keeps its size; then every position is a cell.
 */
#include "base/mem.h"
#include "validate/evaluate_int.h"
#include <string.h>

enum { STAGE_INPUT, STAGE_STATE, STAGE_BIAS, STAGE_STEP, STAGE_PROJECTED };

static bool is_bias(int leaf)
{
    return leaf == LEAF_IH_BIAS || leaf == LEAF_HH_BIAS || leaf == LEAF_XH_BIAS ||
           leaf >= LEAF_IH_BIAS_0;
}
static bool has_input(int leaf) /* of weights */
{
    return leaf == LEAF_IH_WEIGHT || leaf == LEAF_XH_WEIGHT ||
           (leaf >= LEAF_IH_WEIGHT_0 && leaf < LEAF_HH_WEIGHT_0);
}
static bool has_state(int leaf)
{
    return leaf == LEAF_HH_WEIGHT || leaf == LEAF_XH_WEIGHT ||
           (leaf >= LEAF_HH_WEIGHT_0 && leaf < LEAF_IH_BIAS_0);
}

/* Gate k of a form: its place in canonical order, its sign, and whether 1 is added. */
struct gate {
    size_t at;
    bool minus, plus;
};
static size_t gates_of(enum layer_kind kind, const char *text, struct gate gate[GATES_MAX])
{
    size_t n = 0;
    struct gate g = {0};
    for (; text && *text && n < GATES_MAX; text++) {
        const char *at = strchr(cell_gates(kind), *text);
        g.minus = g.minus || *text == '-';
        g.plus = g.plus || *text == '+';
        if (!at)
            continue;
        g.at = (size_t)(at - cell_gates(kind));
        gate[n++] = g;
        g = (struct gate){0};
    }
    return n;
}

/* ---- what both sides share ---- */

struct widths {
    uint64_t inputs, units, state;
    uint64_t kernel[3];
};

static bool same_or_new(uint64_t *have, uint64_t v)
{
    if (*have == 0)
        *have = v;
    return *have == v;
}

static enum status widths_of(struct side *x, struct widths *w, struct err *e)
{
    bool fits = true;
    unsigned input = 0, state = 0; /* gates that weights are there for */
    const struct layer *l = x->layer;
    struct gate g[GATES_MAX];
    *w = (struct widths){0};
    for (int i = LEAF_IH_WEIGHT; i < LEAF_N; i++) {
        struct operand *o = &x->op[i];
        if (l->tensor[i] < 0)
            continue;
        TRY(convention_cell(x->convention, l, x->plan, (enum leaf)i, o, &x->gates[i], e));
        size_t n = gates_of(l->kind, x->gates[i], g);
        for (size_t k = 0; k < n; k++) {
            input |= has_input(i) ? 1u << g[k].at : 0;
            state |= has_state(i) ? 1u << g[k].at : 0;
        }
        uint64_t units = operand_extent(o, 'O');
        if (l->kind == LAYER_CONV_LSTM && (has_input(i) || has_state(i))) {
            fits = fits && n > 0 && units % n == 0;
            units /= n ? n : 1;
            for (int k = 0; k < 3; k++)
                fits = fits && same_or_new(&w->kernel[k], operand_extent(o, (char)('x' + k)));
        }
        fits = fits && same_or_new(&w->units, units);
        if (has_input(i) && i != LEAF_XH_WEIGHT)
            fits = fits && same_or_new(&w->inputs, operand_extent(o, 'I'));
        if ((has_state(i) && i != LEAF_XH_WEIGHT) || i == LEAF_HR_WEIGHT)
            fits = fits && same_or_new(&w->state, operand_extent(o, 'R'));
    }
    if (l->tensor[LEAF_XH_WEIGHT] >= 0) {
        uint64_t both = operand_extent(&x->op[LEAF_XH_WEIGHT], 'X');
        fits = fits && both > w->units && same_or_new(&w->state, w->units) &&
               same_or_new(&w->inputs, both - w->units);
    }
    unsigned all = (1u << strlen(cell_gates(l->kind))) - 1;
    if (!fits || input != all || state != all)
        return err_set(e, ST_CANNOT, "layer-shape", "its weights do not make up a cell");
    if (w->state != w->units && l->tensor[LEAF_HR_WEIGHT] < 0)
        return err_set(e, ST_CANNOT, "layer-shape", "the state is not as wide as the units");
    return ST_OK;
}

#define STEP_VALUES ((uint64_t)1 << 28) /* of the products, and of the input, at most */

/* Few positions, but as many as bring every tap of a kernel before one of them. False: more than
 * anyone would run. */
static bool positions(struct setting *s, const struct widths *w)
{
    static const uint64_t few[4][3] = {{1, 1, 1}, {3, 1, 1}, {2, 3, 1}, {1, 2, 3}};
    uint64_t x = s->rows;
    for (size_t k = 0; k < 3; k++) {
        uint64_t taps = w->kernel[k] / 2 + 1;
        s->kernel[k] = w->kernel[k];
        s->out_dim[k] = few[s->rank][k] > taps ? few[s->rank][k] : taps;
        s->in_dim[k] = s->out_dim[k] + s->kernel[k] - 1;
        if (w->kernel[k] == 0 || taps > STEP_VALUES ||
            __builtin_mul_overflow(s->rows, s->out_dim[k], &s->rows) ||
            __builtin_mul_overflow(x, s->in_dim[k], &x))
            return false;
    }
    uint64_t y = s->rows;
    return !__builtin_mul_overflow(y, 4 * w->units, &y) &&
           !__builtin_mul_overflow(x, w->inputs, &x) && x <= STEP_VALUES && y <= STEP_VALUES;
}

enum status cell_setting(struct setting *s, struct side *a, struct side *b, struct arena *arena,
                         struct str *why, struct str *assumed, struct str *input, struct err *e)
{
    struct widths wa, wb;
    struct err shape = {0};
    enum status st = widths_of(a, &wa, &shape);
    if (st == ST_OK)
        st = widths_of(b, &wb, &shape);
    if (st != ST_OK) {
        *why = arena_fmt(arena, "%s", shape.reason);
        return why->p ? ST_CANNOT : err_nomem(e, 128);
    }
    bool projected = a->layer->tensor[LEAF_HR_WEIGHT] >= 0;
    if (memcmp(&wa, &wb, sizeof wa) != 0 || projected != (b->layer->tensor[LEAF_HR_WEIGHT] >= 0)) {
        *why = arena_fmt(arena, "the cells differ in inputs, units or state");
        return why->p ? ST_NO : err_nomem(e, 128);
    }
    uint64_t n_gates = strlen(cell_gates(s->kind));
    bool conv = s->kind == LAYER_CONV_LSTM;
    s->rank = a->layer->rank <= 3 ? a->layer->rank : 3;
    s->rows = conv ? 2 : 3; /* times positions */
    if (conv && !positions(s, &wa)) {
        *why = arena_fmt(arena, "its kernels are too large for a step of it");
        return why->p ? ST_CANNOT : err_nomem(e, 64);
    }
    s->channels_in = wa.inputs;
    s->units = wa.units;
    s->state = wa.state;
    s->stage[STAGE_INPUT] = (struct stage){"input side", s->rows * n_gates * s->units};
    s->stage[STAGE_STATE] = (struct stage){"state side", s->rows * n_gates * s->units};
    s->stage[STAGE_BIAS] = (struct stage){"biases", (n_gates + 1) * s->units};
    s->stage[STAGE_STEP] = (struct stage){"step", s->rows * 2 * s->units};
    s->stage[STAGE_PROJECTED] = (struct stage){"projected state", s->rows * s->state};
    s->n_stages = projected ? STAGES_MAX : STAGE_PROJECTED;
    *assumed = arena_fmt(arena, "activation=tanh recurrent=sigmoid%s",
                         conv ? " stride=1 dilation=1 padding=0, of the state same" : "");
#define U(v) (unsigned long long)(v)
    if (conv)
        *input = arena_fmt(arena, "one step, x [2,%llu,%llu,%llu,%llu], h [2,%llu,%llu,%llu,%llu]",
                           U(s->channels_in), U(s->in_dim[0]), U(s->in_dim[1]), U(s->in_dim[2]),
                           U(s->state), U(s->out_dim[0]), U(s->out_dim[1]), U(s->out_dim[2]));
    else
        *input = arena_fmt(arena, "one step, x [%llu,%llu], h [%llu,%llu]", U(s->rows),
                           U(s->channels_in), U(s->rows), U(s->state));
#undef U
    return assumed->p && input->p ? ST_OK : err_nomem(e, 128);
}

/* ---- one side ---- */

/* to [rows, gates, units] += what one weight makes of x, gate by gate. */
static enum status one_weight(const struct job *j, int leaf, const char *letters, const void *x,
                              uint64_t inputs, void *to, struct err *e)
{
    const struct setting *s = j->s;
    struct gate g[GATES_MAX];
    size_t n = gates_of(s->kind, j->side->gates[leaf], g), all = strlen(cell_gates(s->kind));
    void *part;
    TRY(job_alloc(j, s->rows * n * s->units, &part, e));
    enum status st =
        job_product(j, (enum leaf)leaf, letters, x, s->rows, inputs, n * s->units, part, e);
    for (uint64_t i = 0; st == ST_OK && i < s->rows * n * s->units; i++) {
        uint64_t u = i % s->units, k = i / s->units % n, row = i / s->units / n;
        uint64_t at = (row * all + g[k].at) * s->units + u;
        double v = job_get(j, part, i);
        job_put(j, to, at, job_get(j, to, at) + (g[k].minus ? -v : v));
    }
    mem_free(part);
    return st;
}

static uint64_t places(const uint64_t dim[3])
{
    return dim[0] * dim[1] * dim[2];
}

/* The same of a convolution; a row is a position of an item, the last to count. */
static enum status one_kernel(const struct job *j, int leaf, bool state, const void *x, void *to,
                              struct err *e)
{
    const struct setting *s = j->s;
    struct gate g[GATES_MAX];
    size_t n = gates_of(s->kind, j->side->gates[leaf], g), all = strlen(cell_gates(s->kind));
    uint64_t pad[3] = {0}, q = places(s->out_dim), items = s->rows / q, outputs = n * s->units;
    void *part;
    for (size_t k = 0; k < 3 && state; k++)
        pad[k] = (s->kernel[k] - 1) / 2;
    TRY(job_alloc(j, s->rows * outputs, &part, e));
    enum status st = job_convolve(j, (enum leaf)leaf, state ? "ORxyz" : "OIxyz", x, items,
                                  state ? s->state : s->channels_in, state ? s->out_dim : s->in_dim,
                                  pad, outputs, part, e);
    for (uint64_t i = 0; st == ST_OK && i < s->rows * outputs; i++) {
        uint64_t row = i / q / outputs * q + i % q, k = i / q / s->units % n;
        uint64_t at = (row * all + g[k].at) * s->units + i / q % s->units;
        double v = job_get(j, part, i);
        job_put(j, to, at, job_get(j, to, at) + (g[k].minus ? -v : v));
    }
    mem_free(part);
    return st;
}

/* All weights of a side. Joined ones read both, the other half being zero. */
static enum status side_of(const struct job *j, bool state, const void *x, void *to, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t inputs = state ? s->state : s->channels_in, both = s->channels_in + s->state;
    size_t real = exec_real_bytes(j->x);
    memset(to, 0, (size_t)s->stage[STAGE_INPUT].n * real);
    for (int i = LEAF_IH_WEIGHT; i < LEAF_N; i++) {
        if (j->side->op[i].tensor < 0 || !(state ? has_state(i) : has_input(i)))
            continue;
        if (s->kind == LAYER_CONV_LSTM) {
            TRY(one_kernel(j, i, state, x, to, e));
            continue;
        }
        if (i != LEAF_XH_WEIGHT) {
            TRY(one_weight(j, i, state ? "GOR111" : "GOI111", x, inputs, to, e));
            continue;
        }
        void *wide;
        TRY(job_alloc(j, s->rows * both, &wide, e));
        memset(wide, 0, (size_t)(s->rows * both) * real);
        for (uint64_t r = 0; r < s->rows; r++)
            memcpy(job_place(j, wide, r * both + (state ? s->channels_in : 0)),
                   (const char *)x + r * inputs * real, (size_t)inputs * real);
        enum status st = one_weight(j, i, "GOX111", wide, both, to, e);
        mem_free(wide);
        TRY(st);
    }
    return ST_OK;
}

/* to [gates + 1, units]: sums of both sides' biases; the state's own of a GRU's new gate is last.
 */
static enum status biases(const struct job *j, void *to, struct err *e)
{
    const struct setting *s = j->s;
    size_t all = strlen(cell_gates(s->kind));
    memset(to, 0, (size_t)s->stage[STAGE_BIAS].n * exec_real_bytes(j->x));
    for (int i = LEAF_IH_WEIGHT; i < LEAF_N; i++) {
        const struct operand *o = &j->side->op[i];
        struct gate g[GATES_MAX];
        if (!is_bias(i))
            continue;
        if (o->tensor < 0) { /* what is added even so */
            size_t m =
                gates_of(s->kind, convention_gates(j->side->convention, s->kind, (enum leaf)i), g);
            for (size_t k = 0; k < m * s->units; k++)
                if (g[k / s->units].plus) {
                    uint64_t at = g[k / s->units].at * s->units + k % s->units;
                    job_put(j, to, at, job_get(j, to, at) + 1);
                }
            continue;
        }
        size_t n = gates_of(s->kind, j->side->gates[i], g);
        uint64_t sides = operand_extent(o, 'B');
        bool own = (i == LEAF_HH_BIAS || i >= LEAF_HH_BIAS_0) && s->kind == LAYER_GRU;
        void *v;
        TRY(job_alloc(j, sides * n * s->units, &v, e));
        enum status st = job_vector(j, (enum leaf)i, "BGO", sides * n * s->units, 0, v, e);
        for (uint64_t k = 0; st == ST_OK && k < sides * n * s->units; k++) {
            uint64_t u = k % s->units, q = k / s->units % n;
            bool second = own || (k / s->units / n == 1 && s->kind == LAYER_GRU);
            uint64_t at = (second && g[q].at == 2 ? all : g[q].at) * s->units + u;
            double b = job_get(j, v, k) + (g[q].plus ? 1 : 0);
            job_put(j, to, at, job_get(j, to, at) + (g[q].minus ? -b : b));
        }
        mem_free(v);
        TRY(st);
    }
    return ST_OK;
}

static int64_t cell_number(enum layer_kind k)
{
    return k == LAYER_LSTM || k == LAYER_CONV_LSTM ? NNF_CELL_LSTM
           : k == LAYER_GRU                        ? NNF_CELL_GRU
           : k == LAYER_RNN                        ? NNF_CELL_RNN
                                                   : NNF_CELL_GRU_BEFORE;
}

/* in: a, s, biases, state, memory, one after the other */
static enum status step(const struct job *j, void *in, uint64_t n_in, int64_t stage, void *out,
                        struct err *e)
{
    const struct setting *s = j->s;
    uint64_t side = s->stage[STAGE_INPUT].n, rest = 2 * side + s->stage[STAGE_BIAS].n;
    struct exec_call c = {
        .kernel = NNF_CELL, .in = in, .n_in = n_in, .out = out, .n_out = s->stage[STAGE_STEP].n};
    c.p[NNF_P_ITEMS] = (int64_t)(s->rows * s->units);
    c.p[NNF_P_WIDTH] = 2;
    c.p[NNF_P_STAGE] = stage;
    c.p[NNF_P_CELL] = cell_number(s->kind);
    c.p[NNF_P_UNITS] = (int64_t)s->units;
    c.p[NNF_P_GATES] = (int64_t)strlen(cell_gates(s->kind));
    c.p[NNF_P_STATE_SIDE] = (int64_t)side;
    c.p[NNF_P_BIASES] = (int64_t)(2 * side);
    c.p[NNF_P_STATE] = (int64_t)rest;
    c.p[NNF_P_MEMORY] = (int64_t)(rest + s->rows * s->units);
    memset(out, 0, (size_t)c.n_out * exec_real_bytes(j->x));
    return j->x->run(j->x, &c, e);
}

/* A GRU that resets before: the new gate's state side is made of the state that was reset. */
static enum status reset_first(const struct job *j, void *in, uint64_t n_in, void *out,
                               void *const *stages, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t side = s->stage[STAGE_INPUT].n;
    void *h, *again;
    TRY(step(j, in, n_in, 0, out, e));
    TRY(job_alloc(j, s->rows * s->units + side, &h, e));
    again = job_place(j, h, s->rows * s->units);
    for (uint64_t i = 0; i < s->rows * s->units; i++)
        job_put(j, h, i, job_get(j, out, 2 * i));
    enum status st = side_of(j, true, h, again, e);
    for (uint64_t i = 0; st == ST_OK && i < side; i++)
        if (i / s->units % 3 == 2) {
            job_put(j, stages[STAGE_STATE], i, job_get(j, again, i));
            job_put(j, in, side + i, job_get(j, again, i));
        }
    mem_free(h);
    return st;
}

enum status evaluate_cell(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t side = s->stage[STAGE_INPUT].n, n_bias = s->stage[STAGE_BIAS].n;
    uint64_t n_units = s->rows * s->units, n_state = s->rows * s->state;
    uint64_t n_in = 2 * side + n_bias + 2 * n_units, n_x = s->rows * s->channels_in;
    if (s->kind == LAYER_CONV_LSTM)
        n_x = s->rows / places(s->out_dim) * s->channels_in * places(s->in_dim);
    size_t real = exec_real_bytes(j->x);
    void *in, *x;
    TRY(job_alloc(j, n_in + n_x + n_state, &in, e));
    x = job_place(j, in, n_in);
    void *h = job_place(j, x, n_x), *memory = job_place(j, in, n_in - n_units);
    job_random(j, x, n_x, 0, 0);
    job_random(j, h, n_state, 1, 0);
    job_random(j, memory, n_units, 2, 0);
    enum status st = side_of(j, false, x, out[STAGE_INPUT], e);
    if (st == ST_OK)
        st = side_of(j, true, h, out[STAGE_STATE], e);
    if (st == ST_OK)
        st = biases(j, out[STAGE_BIAS], e);
    if (st == ST_OK) {
        memcpy(in, out[STAGE_INPUT], (size_t)side * real);
        memcpy(job_place(j, in, side), out[STAGE_STATE], (size_t)side * real);
        memcpy(job_place(j, in, 2 * side), out[STAGE_BIAS], (size_t)n_bias * real);
        /* a projected state is no factor of anything in the step */
        memcpy(job_place(j, in, 2 * side + n_bias), s->state == s->units ? h : memory,
               (size_t)n_units * real);
        if (s->kind == LAYER_GRU_BEFORE)
            st = reset_first(j, in, n_in, out[STAGE_STEP], out, e);
    }
    if (st == ST_OK)
        st = step(j, in, n_in, 1, out[STAGE_STEP], e);
    if (st == ST_OK && s->n_stages > STAGE_PROJECTED) {
        for (uint64_t i = 0; i < n_units; i++)
            job_put(j, memory, i, job_get(j, out[STAGE_STEP], 2 * i));
        st = job_product(j, LEAF_HR_WEIGHT, "R1O111", memory, s->rows, s->units, s->state,
                         out[STAGE_PROJECTED], e);
    }
    mem_free(in);
    return st;
}
