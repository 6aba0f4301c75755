/* One layer, one side. Weights are read block by block from the tensor's own storage order: the
 * kernels address them by strides, a reversed axis by a negative one, so no element is ever moved
 * into another layout. Vectors are small and are put into canonical order here.
 */
#include "base/mem.h"
#include "validate/evaluate_int.h"

#include <math.h>
#include <string.h>

double random_value(uint64_t seed, uint64_t stream, uint64_t i)
{
    uint64_t v = seed * 0x9e3779b97f4a7c15u ^ (stream + 1) * 0xd1342543de82ef95u;
    v += i * 0x9e3779b97f4a7c15u;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    v ^= v >> 31;
    return (double)((int64_t)(v >> 40) - (1 << 23)) / (1 << 23);
}

void job_put(const struct job *j, void *p, uint64_t i, double v)
{
    if (j->x->fp64)
        ((double *)p)[i] = v;
    else
        ((float *)p)[i] = (float)v;
}

double job_get(const struct job *j, const void *p, uint64_t i)
{
    return j->x->fp64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

void *job_place(const struct job *j, void *p, uint64_t i)
{
    return (char *)p + i * exec_real_bytes(j->x);
}

void job_random(const struct job *j, void *p, uint64_t n, uint64_t part, uint64_t from)
{
    for (uint64_t i = 0; i < n; i++)
        job_put(j, p, i, random_value(j->s->seed, j->s->stream * 16 + part, from + i));
}

static enum status read_values(const struct job *j, int64_t tensor, uint64_t lo, uint64_t n,
                               void *dst, struct err *e)
{
    return run_read(j->side->plan, (uint32_t)tensor, lo, lo + n, j->x->fp64 ? DT_F64 : DT_F32, dst,
                    e);
}

enum status job_alloc(const struct job *j, uint64_t n, void **out, struct err *e)
{
    *out = mem_alloc((size_t)(n ? n : 1) * exec_real_bytes(j->x));
    return *out ? ST_OK : err_nomem(e, n * exec_real_bytes(j->x));
}

/* n values of a vector in the order of letters, or absent everywhere where the layer has none. */
enum status job_vector(const struct job *j, enum leaf slot, const char *letters, uint64_t n,
                       double absent, void *dst, struct err *e)
{
    const struct operand *o = &j->side->op[slot];
    if (o->tensor < 0) {
        for (uint64_t i = 0; i < n; i++)
            job_put(j, dst, i, absent);
        return ST_OK;
    }
    void *raw;
    size_t real = exec_real_bytes(j->x);
    TRY(job_alloc(j, n, &raw, e));
    enum status st = read_values(j, o->tensor, o->base, n, raw, e);
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        /* i counts in the letters' order: find where that is stored. */
        uint64_t rest = i, at = 0;
        for (size_t k = strlen(letters); k-- > 0;) {
            uint64_t extent = operand_extent(o, letters[k]), index = rest % extent, stride = 1;
            rest /= extent;
            size_t a = o->n;
            while (a-- > 0 && o->ax[a].letter != letters[k])
                stride *= o->ax[a].extent;
            if (extent > 1)
                at += (o->ax[a].flip ? extent - 1 - index : index) * stride;
        }
        memcpy((char *)dst + i * real, (char *)raw + at * real, real);
        if (o->plus)
            job_put(j, dst, i, job_get(j, dst, i) + o->plus);
    }
    mem_free(raw);
    return st;
}

/* ---- weights in blocks ---- */

struct block { /* a dense range of the operand's elements, as a box of its stored axes */
    uint64_t lo[OPERAND_AXES], hi[OPERAND_AXES];
    uint64_t first, n; /* counted from the operand's base */
};

/* Block number q: outer axes one index at a time, one axis in ranges, inner axes whole. false when
 * there is none of that number. */
static bool block_at(const struct operand *o, uint64_t room, uint64_t q, struct block *b)
{
    uint64_t stride[OPERAND_AXES + 1];
    size_t cut = 0;
    stride[o->n] = 1;
    for (size_t i = o->n; i-- > 0;)
        stride[i] = stride[i + 1] * o->ax[i].extent;
    while (cut + 1 < o->n && stride[cut + 1] > room)
        cut++;
    uint64_t inner = o->n ? stride[cut + 1] : 1;
    uint64_t step = room / inner ? room / inner : 1, extent = o->n ? o->ax[cut].extent : 1;
    uint64_t ranges = (extent + step - 1) / step;
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < o->n; i++)
        b->hi[i] = o->ax[i].extent;
    if (o->n == 0) {
        b->n = 1;
        return q == 0;
    }
    b->lo[cut] = q % ranges * step;
    b->hi[cut] = b->lo[cut] + step < extent ? b->lo[cut] + step : extent;
    q /= ranges;
    for (size_t i = cut; i-- > 0;) {
        b->lo[i] = q % o->ax[i].extent;
        b->hi[i] = b->lo[i] + 1;
        q /= o->ax[i].extent;
    }
    for (size_t i = 0; i <= cut; i++)
        b->first += b->lo[i] * stride[i + 1];
    b->n = (b->hi[cut] - b->lo[cut]) * inner;
    return q == 0 && b->n > 0;
}

/* Writes the axes of the kernel's letters ('1' = none) and the weight's offset for a block that
 * stands at `at` in the operands. */
static void set_axes(const struct operand *o, const struct block *b, const char *letters,
                     int64_t at, int64_t *p)
{
    uint64_t stride = 1;
    for (size_t k = 0; letters[k]; k++) {
        int64_t *ax = p + NNF_P_AXES + (int64_t)k * NNF_AXIS_N;
        ax[NNF_AXIS_EXTENT] = 1;
        ax[NNF_AXIS_STRIDE] = 0;
        ax[NNF_AXIS_LO] = 0;
        ax[NNF_AXIS_HI] = 1;
    }
    p[NNF_P_W] = at - (int64_t)b->first;
    for (size_t i = o->n; i-- > 0;) {
        uint64_t extent = o->ax[i].extent;
        const char *k = strchr(letters, o->ax[i].letter);
        if (k) {
            int64_t *ax = p + NNF_P_AXES + (k - letters) * NNF_AXIS_N;
            ax[NNF_AXIS_EXTENT] = (int64_t)extent;
            ax[NNF_AXIS_STRIDE] = o->ax[i].flip ? -(int64_t)stride : (int64_t)stride;
            ax[NNF_AXIS_LO] = (int64_t)(o->ax[i].flip ? extent - b->hi[i] : b->lo[i]);
            ax[NNF_AXIS_HI] = (int64_t)(o->ax[i].flip ? extent - b->lo[i] : b->hi[i]);
        }
        if (o->ax[i].flip)
            p[NNF_P_W] += (int64_t)((extent - 1) * stride);
        stride *= extent;
    }
}

/* out += kernel over the whole weight, a block at a time; x stands before the block. */
static enum status run_matrix(const struct job *j, enum leaf slot, const char *letters,
                              struct exec_call *c, const void *x, uint64_t n_x, struct err *e)
{
    const struct operand *o = &j->side->op[slot];
    struct block b;
    uint64_t total = 1, most = j->block_elems;
    size_t real = exec_real_bytes(j->x);
    void *in;
    for (size_t i = 0; i < o->n; i++)
        total *= o->ax[i].extent;
    if (most > total)
        most = total;
    TRY(job_alloc(j, n_x + most, &in, e));
    memcpy(in, x, n_x * real);
    c->in = in;
    enum status st = ST_OK;
    for (uint64_t q = 0; st == ST_OK && block_at(o, most, q, &b); q++) {
        st = read_values(j, o->tensor, o->base + b.first, b.n, job_place(j, in, n_x), e);
        if (st != ST_OK)
            break;
        set_axes(o, &b, letters, (int64_t)n_x, c->p);
        c->p[NNF_P_X] = 0;
        c->n_in = n_x + b.n;
        st = j->x->run(j->x, c, e);
    }
    mem_free(in);
    return st;
}

/* ---- kinds ---- */

/* out [n, outputs] = x W + bias. */
static enum status run_linear(const struct job *j, enum leaf slot, enum leaf bias,
                              const char *letters, const char *bias_letters, const void *x,
                              uint64_t n, uint64_t inputs, uint64_t outputs, void *out,
                              struct err *e)
{
    struct exec_call c = {.kernel = NNF_LINEAR, .out = out, .n_out = n * outputs};
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    TRY(job_vector(j, bias, bias_letters, outputs, 0, out, e));
    for (uint64_t r = 1; r < n; r++)
        memcpy(job_place(j, out, r * outputs), out, outputs * exec_real_bytes(j->x));
    return run_matrix(j, slot, letters, &c, x, n * inputs, e);
}

enum status job_product(const struct job *j, enum leaf slot, const char *letters, const void *x,
                        uint64_t n, uint64_t inputs, uint64_t outputs, void *out, struct err *e)
{
    struct exec_call c = {.kernel = NNF_LINEAR, .out = out, .n_out = n * outputs};
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    memset(out, 0, (size_t)c.n_out * exec_real_bytes(j->x));
    return run_matrix(j, slot, letters, &c, x, n * inputs, e);
}

enum status job_convolve(const struct job *j, enum leaf slot, const char *letters, const void *x,
                         uint64_t n, uint64_t inputs, const uint64_t in_dim[3],
                         const uint64_t pad[3], uint64_t outputs, void *out, struct err *e)
{
    struct exec_call c = {.kernel = NNF_CONV, .out = out, .n_out = n * outputs};
    uint64_t n_x = n * inputs;
    c.p[NNF_P_GROUPS] = 1;
    c.p[NNF_P_CHANNELS_IN] = (int64_t)inputs;
    c.p[NNF_P_CHANNELS_OUT] = (int64_t)outputs;
    for (size_t k = 0; k < 3; k++) {
        c.n_out *= j->s->out_dim[k];
        n_x *= in_dim[k];
        c.p[NNF_P_IN_DIM + k] = (int64_t)in_dim[k];
        c.p[NNF_P_OUT_DIM + k] = (int64_t)j->s->out_dim[k];
        c.p[NNF_P_STRIDE + k] = c.p[NNF_P_DILATION + k] = 1;
        c.p[NNF_P_PAD + k] = (int64_t)pad[k];
    }
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    memset(out, 0, (size_t)c.n_out * exec_real_bytes(j->x));
    return run_matrix(j, slot, letters, &c, x, n_x, e);
}

static enum status eval_linear(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    void *x;
    TRY(job_alloc(j, s->rows * s->channels_in, &x, e));
    job_random(j, x, s->rows * s->channels_in, 0, 0);
    enum status st = run_linear(j, LEAF_WEIGHT, LEAF_BIAS, "OQCSXY", "OQ", x, s->rows,
                                s->channels_in, s->channels_out, out[0], e);
    mem_free(x);
    return st;
}

static enum status eval_conv(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    bool transposed = s->kind == LAYER_CONV_TRANSPOSE;
    uint64_t positions = s->out_dim[0] * s->out_dim[1] * s->out_dim[2];
    uint64_t n_x = s->rows * s->channels_in * s->in_dim[0] * s->in_dim[1] * s->in_dim[2];
    struct exec_call c = {.kernel = transposed ? NNF_CONV_TRANSPOSE : NNF_CONV,
                          .out = out[0],
                          .n_out = s->stage[0].n};
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    c.p[NNF_P_GROUPS] = (int64_t)s->groups;
    c.p[NNF_P_CHANNELS_IN] = (int64_t)s->channels_in;
    c.p[NNF_P_CHANNELS_OUT] = (int64_t)s->channels_out;
    for (size_t k = 0; k < 3; k++) {
        c.p[NNF_P_IN_DIM + k] = (int64_t)s->in_dim[k];
        c.p[NNF_P_OUT_DIM + k] = (int64_t)s->out_dim[k];
        c.p[NNF_P_STRIDE + k] = (int64_t)s->stride[k];
        c.p[NNF_P_DILATION + k] = 1;
    }
    void *x, *bias;
    size_t real = exec_real_bytes(j->x);
    TRY(job_alloc(j, n_x + s->channels_out, &x, e));
    bias = job_place(j, x, n_x);
    job_random(j, x, n_x, 0, 0);
    enum status st = job_vector(j, LEAF_BIAS, "O", s->channels_out, 0, bias, e);
    for (uint64_t i = 0; st == ST_OK && i < c.n_out; i++)
        memcpy(job_place(j, out[0], i), job_place(j, bias, i / positions % s->channels_out), real);
    if (st == ST_OK)
        st = run_matrix(j, LEAF_WEIGHT, transposed ? "IOxyz" : "OIxyz", &c, x, n_x, e);
    mem_free(x);
    return st;
}

/* A kernel for each position: each has a window of its own, whatever the stride and the padding. */
static enum status eval_local(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t each = s->channels_out * s->n_elems, n_x = s->rows * s->n_elems * s->channels_in;
    struct exec_call c = {.kernel = NNF_LOCAL, .out = out[0], .n_out = s->rows * each};
    c.p[NNF_P_ITEMS] = (int64_t)c.n_out;
    c.p[NNF_P_WIDTH] = 1;
    void *x;
    TRY(job_alloc(j, n_x, &x, e));
    job_random(j, x, n_x, 0, 0);
    enum status st = job_vector(j, LEAF_BIAS, "Ouvw", each, 0, out[0], e);
    for (uint64_t r = 1; st == ST_OK && r < s->rows; r++)
        memcpy(job_place(j, out[0], r * each), out[0], each * exec_real_bytes(j->x));
    if (st == ST_OK)
        st = run_matrix(j, LEAF_WEIGHT, "OCSuvw", &c, x, n_x, e);
    mem_free(x);
    return st;
}

static enum status eval_norm(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t c = s->n_elems, positions = s->in_dim[0], n = s->stage[0].n;
    bool batch = s->kind == LAYER_BATCHNORM;
    struct exec_call call = {
        .kernel = batch ? NNF_BATCHNORM : NNF_GROUPNORM, .n_in = n + 4 * c + 1, .n_out = n};
    void *in;
    int64_t *p = call.p;
    p[NNF_P_ITEMS] = (int64_t)(batch ? n : s->rows * s->groups);
    p[NNF_P_WIDTH] = (int64_t)(n / (uint64_t)p[NNF_P_ITEMS]);
    p[NNF_P_C] = (int64_t)c;
    p[NNF_P_S] = (int64_t)positions;
    p[NNF_P_G] = (int64_t)s->groups;
    p[NNF_P_MEAN] = (int64_t)n;
    p[NNF_P_VAR] = (int64_t)(n + c);
    p[NNF_P_GAMMA] = (int64_t)(n + 2 * c);
    p[NNF_P_BETA] = (int64_t)(n + 3 * c);
    p[NNF_P_EPS] = (int64_t)(n + 4 * c);
    p[NNF_P_PER_ELEMENT] = s->kind == LAYER_LAYERNORM;
    TRY(job_alloc(j, call.n_in, &in, e));
    job_random(j, in, n, 0, 0);
    job_put(j, in, n + 4 * c, s->eps);
    enum status st = job_vector(j, LEAF_MEAN, "CS", c, 0, job_place(j, in, n), e);
    if (st == ST_OK)
        st = job_vector(j, LEAF_VAR, "CS", c, 1, job_place(j, in, n + c), e);
    if (st == ST_OK)
        st = job_vector(j, LEAF_WEIGHT, "CS", c, 1, job_place(j, in, n + 2 * c), e);
    if (st == ST_OK)
        st = job_vector(j, LEAF_BIAS, "CS", c, 0, job_place(j, in, n + 3 * c), e);
    call.in = in;
    for (int64_t stage = 0; stage < 2 && st == ST_OK; stage++) {
        p[NNF_P_STAGE] = stage;
        call.out = out[stage];
        memset(call.out, 0, n * exec_real_bytes(j->x));
        st = j->x->run(j->x, &call, e);
    }
    mem_free(in);
    return st;
}

/* A scattered order of the pass's rows: a step prime to their number. */
static uint64_t prime_step(uint64_t n, uint64_t seed)
{
    uint64_t step = n > 2 ? n / 2 + seed % (n / 2) : 1;
    for (;; step++) {
        uint64_t a = n, b = step % n;
        while (b != 0) {
            uint64_t t = a % b;
            a = b;
            b = t;
        }
        if (a == 1 || n <= 1)
            return n <= 1 ? 1 : step % n;
    }
}

static enum status eval_table(const struct job *j, uint64_t pass, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t lo = pass * s->pass_items, n = setting_stage_n(s, 0, pass);
    bool table = s->kind == LAYER_EMBEDDING;
    uint64_t per = table ? s->dim : 1, rows = n / per;
    const struct operand *o = &j->side->op[table ? LEAF_WEIGHT : LEAF_VALUE];
    struct exec_call c = {
        .kernel = table ? NNF_EMBEDDING : NNF_MULTIPLY, .out = out[0], .n_out = n};
    void *in;
    c.p[NNF_P_ITEMS] = (int64_t)n;
    c.p[NNF_P_WIDTH] = 1;
    c.n_in = table ? n : 2 * n;
    if (table) { /* stored [V, D] everywhere: a pass is a range of rows */
        c.p[NNF_P_ROWS] = (int64_t)rows;
        c.p[NNF_P_DIM] = (int64_t)per;
        c.p[NNF_P_STEP] = (int64_t)prime_step(rows, s->seed);
        c.p[NNF_P_SHIFT] = (int64_t)(s->seed % rows);
    } else
        c.p[NNF_P_X] = (int64_t)n;
    TRY(job_alloc(j, c.n_in, &in, e));
    c.in = in;
    enum status st = read_values(j, o->tensor, o->base + lo * per, n, in, e);
    if (!table)
        job_random(j, job_place(j, in, n), n, 0, lo);
    memset(c.out, 0, n * exec_real_bytes(j->x));
    if (st == ST_OK)
        st = j->x->run(j->x, &c, e);
    mem_free(in);
    return st;
}

/* x times 1 or its slope, by its sign; every second row is negative. */
static enum status eval_prelu(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t c = s->n_elems, n = s->stage[0].n;
    struct exec_call call = {.kernel = NNF_MULTIPLY, .out = out[0], .n_out = n, .n_in = 2 * n};
    void *in, *slope;
    call.p[NNF_P_ITEMS] = (int64_t)n;
    call.p[NNF_P_WIDTH] = 1;
    call.p[NNF_P_X] = (int64_t)n;
    TRY(job_alloc(j, 2 * n + c, &in, e));
    slope = job_place(j, in, 2 * n);
    call.in = in;
    enum status st = job_vector(j, LEAF_WEIGHT, "Oxyz", c, 1, slope, e);
    for (uint64_t i = 0; st == ST_OK && i < n; i++) {
        double x = random_value(s->seed, s->stream * 16, i);
        if (i / c % 2)
            x = -fabs(x);
        job_put(j, in, n + i, x);
        job_put(j, in, i, x < 0 ? job_get(j, slope, i % c) : 1);
    }
    memset(call.out, 0, n * exec_real_bytes(j->x));
    if (st == ST_OK)
        st = j->x->run(j->x, &call, e);
    mem_free(in);
    return st;
}

static enum status eval_context(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t nq = s->stage[0].n, nk = s->stage[1].n, nv = s->stage[2].n;
    struct exec_call c = {
        .kernel = NNF_ATTENTION, .n_in = nq + nk + nv + 1, .out = out[3], .n_out = s->stage[3].n};
    size_t real = exec_real_bytes(j->x);
    void *in;
    c.p[NNF_P_ITEMS] = (int64_t)(s->rows * s->t * s->heads);
    c.p[NNF_P_WIDTH] = (int64_t)s->value_dim;
    c.p[NNF_P_T] = (int64_t)s->t;
    c.p[NNF_P_KEYS] = (int64_t)s->keys;
    c.p[NNF_P_HEADS] = (int64_t)s->heads;
    c.p[NNF_P_HEAD_DIM] = (int64_t)s->head_dim;
    c.p[NNF_P_VALUE_DIM] = (int64_t)s->value_dim;
    c.p[NNF_P_Q] = 0;
    c.p[NNF_P_K] = (int64_t)nq;
    c.p[NNF_P_V] = (int64_t)(nq + nk);
    c.p[NNF_P_SCALE] = (int64_t)(nq + nk + nv);
    TRY(job_alloc(j, c.n_in, &in, e));
    memcpy(in, out[0], nq * real);
    memcpy(job_place(j, in, nq), out[1], nk * real);
    memcpy(job_place(j, in, nq + nk), out[2], nv * real);
    job_put(j, in, nq + nk + nv, 1 / sqrt((double)s->head_dim));
    memset(out[3], 0, c.n_out * real);
    c.in = in;
    enum status st = j->x->run(j->x, &c, e);
    mem_free(in);
    return st;
}

static enum status eval_attention(const struct job *j, void *const *out, struct err *e)
{
    const struct setting *s = j->s;
    uint64_t hd = s->heads * s->head_dim, hv = s->heads * s->value_dim;
    for (uint64_t k = 0; k < 3; k++) { /* query, key, value, each from its own input */
        uint64_t n = s->rows * (k == 0 ? s->t : s->keys);
        void *x;
        TRY(job_alloc(j, n * s->width[k], &x, e));
        job_random(j, x, n * s->width[k], k, 0);
        enum status st = run_linear(j, (enum leaf)(LEAF_Q_WEIGHT + k), (enum leaf)(LEAF_Q_BIAS + k),
                                    "HDE111", "HD", x, n, s->width[k], k == 2 ? hv : hd, out[k], e);
        mem_free(x);
        TRY(st);
    }
    TRY(eval_context(j, out, e));
    return run_linear(j, LEAF_O_WEIGHT, LEAF_O_BIAS, "E1HD11", "E", out[3], s->rows * s->t, hv,
                      s->width[3], out[4], e);
}

enum status evaluate(const struct setting *s, const struct side *side, struct executor *x,
                     uint64_t block_elems, uint64_t pass, void *const *out, struct err *e)
{
    struct job j = {s, side, x, block_elems ? block_elems : 1};
    switch (s->kind) {
    case LAYER_LINEAR:
        return eval_linear(&j, out, e);
    case LAYER_CONV:
    case LAYER_CONV_TRANSPOSE:
        return eval_conv(&j, out, e);
    case LAYER_CONV_LOCAL:
        return eval_local(&j, out, e);
    case LAYER_BATCHNORM:
    case LAYER_LAYERNORM:
    case LAYER_GROUPNORM:
        return eval_norm(&j, out, e);
    case LAYER_ATTENTION:
        return eval_attention(&j, out, e);
    case LAYER_LSTM:
    case LAYER_CONV_LSTM:
    case LAYER_GRU:
    case LAYER_GRU_BEFORE:
    case LAYER_RNN:
        return evaluate_cell(&j, out, e);
    case LAYER_PRELU:
        return eval_prelu(&j, out, e);
    case LAYER_EMBEDDING:
    case LAYER_PARAM:
        return eval_table(&j, pass, out, e);
    default:
        return err_set(e, ST_BUG, NULL, "a layer of kind %d cannot be evaluated", (int)s->kind);
    }
}
