/* Reading an ONNX graph for its nodes' attributes. Nodes of the top graph are walked, one at a
 * time, and matched with a layer by the weight they read; what a node does not say is the
 * operator's default, which is the same in every version of the operator sets that has it.
 */
#include "framework/onnx_graph.h"
#include "base/mem.h"
#include "codec/json.h"
#include "codec/proto.h"
#include <stdio.h>
#include <string.h>

#define GRAPH_NAME "graph.onnx"
#define NODE_INPUTS 8 /* that are looked at */
#define NODE_INTS 8   /* of one attribute */
#define FUNCTIONS_MAX 4096
#define CELLS_MAX 1024
#define WORDS 6 /* of one attribute */

enum { MODEL_GRAPH = 7, GRAPH_NODE = 1 };
enum { NODE_INPUT = 1, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5, NODE_DOMAIN = 7 };
enum { ATTR_NAME = 1, ATTR_F = 2, ATTR_I = 3, ATTR_S = 4, ATTR_INTS = 8, ATTR_STRINGS = 9 };

struct ints {
    size_t n;
    int64_t v[NODE_INTS];
};
struct op_node {
    struct str op, name, domain, input[NODE_INPUTS];
    size_t n_inputs;
    bool has_epsilon, has_momentum, has_alpha, has_beta;
    float epsilon, momentum, alpha, beta;
    int64_t trans_b, count_pad;
    int64_t reset_after, coupled;
    bool clips;
    struct str approximate, auto_pad, direction, activation[WORDS];
    size_t n_activations;
    struct ints pads, strides, dilations, kernel;
};
struct told {
    const struct model *m;
    const struct spelling_rules *rules;
    bool (*settled)(void *ctx, struct str tensor);
    void *ctx;
    struct arena *a;
    struct layers *l;
    size_t *owner; /* per tensor: 1 + the layer's index; 0 = none */
    struct function *function;
    size_t n_functions;
};

/* ---- one node ---- */

static float f32(const struct proto *p)
{
    uint32_t bits = proto_fixed32(p);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void add_ints(const struct proto *p, struct ints *out)
{
    struct proto_list l;
    if (!proto_list(p, PROTO_VARINT, &l))
        return;
    while (proto_list_next(&l))
        if (out->n < NODE_INTS)
            out->v[out->n++] = (int64_t)l.u;
}

static void read_attribute(struct proto at, struct op_node *n, struct arena *a)
{
    struct str name = STR(""), s = STR(""), word[WORDS];
    size_t n_words = 0;
    struct ints ints = {0};
    bool has_f = false;
    float f = 0;
    int64_t i = 0;
    while (proto_next(&at))
        switch (at.field) {
        case ATTR_NAME:
            name = proto_str(&at, a);
            break;
        case ATTR_F:
            f = f32(&at);
            has_f = true;
            break;
        case ATTR_I:
            i = proto_i64(&at);
            break;
        case ATTR_S:
            s = proto_str(&at, a);
            break;
        case ATTR_INTS:
            add_ints(&at, &ints);
            break;
        case ATTR_STRINGS:
            if (n_words < WORDS)
                word[n_words++] = proto_str(&at, a);
            break;
        default: /* tensors, graphs: nothing that is asked here */
            break;
        }
    const struct {
        const char *name;
        bool *has;
        float *to;
    } floats[] = {{"epsilon", &n->has_epsilon, &n->epsilon},
                  {"momentum", &n->has_momentum, &n->momentum},
                  {"alpha", &n->has_alpha, &n->alpha},
                  {"beta", &n->has_beta, &n->beta}};
    const struct {
        const char *name;
        struct ints *to;
    } lists[] = {{"pads", &n->pads},
                 {"strides", &n->strides},
                 {"dilations", &n->dilations},
                 {"kernel_shape", &n->kernel}};
    for (size_t k = 0; k < 4 && name.p; k++) {
        if (has_f && str_is(name, floats[k].name)) {
            *floats[k].has = true;
            *floats[k].to = f;
        }
        if (str_is(name, lists[k].name))
            *lists[k].to = ints;
    }
    if (str_is(name, "transB"))
        n->trans_b = i;
    else if (str_is(name, "count_include_pad"))
        n->count_pad = i;
    else if (str_is(name, "approximate"))
        n->approximate = s;
    else if (str_is(name, "auto_pad"))
        n->auto_pad = s;
    else if (str_is(name, "direction"))
        n->direction = s;
    else if (str_is(name, "linear_before_reset"))
        n->reset_after = i;
    else if (str_is(name, "input_forget"))
        n->coupled = i;
    else if (str_is(name, "clip"))
        n->clips = true;
    else if (str_is(name, "activations"))
        for (; n->n_activations < n_words; n->n_activations++)
            n->activation[n->n_activations] = word[n->n_activations];
}

static void read_node(struct proto p, struct op_node *n, struct arena *a)
{
    struct proto sub;
    memset(n, 0, sizeof *n);
    n->op = n->name = n->domain = n->approximate = n->auto_pad = n->direction = STR("");
    while (proto_next(&p))
        switch (p.field) {
        case NODE_INPUT:
            if (n->n_inputs < NODE_INPUTS)
                n->input[n->n_inputs] = proto_str(&p, a);
            n->n_inputs++;
            break;
        case NODE_NAME:
            n->name = proto_str(&p, a);
            break;
        case NODE_OP:
            n->op = proto_str(&p, a);
            break;
        case NODE_DOMAIN:
            n->domain = proto_str(&p, a);
            break;
        case NODE_ATTRIBUTE:
            if (proto_sub(&p, &sub))
                read_attribute(sub, n, a);
            break;
        default:
            break;
        }
}

/* ---- what it says ---- */

static bool all_are(const struct ints *x, int64_t v)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i] != v)
            return false;
    return true;
}

/* In the words of framework/defaults.h; empty where there is none. */
static struct str padding_of(const struct op_node *n)
{
    size_t rank = n->pads.n / 2;
    if (str_is(n->auto_pad, "SAME_UPPER"))
        return STR("same");
    if (str_is(n->auto_pad, "VALID"))
        return STR("none");
    if ((n->auto_pad.n && !str_is(n->auto_pad, "NOTSET")) || n->pads.n % 2)
        return STR("");
    if (all_are(&n->pads, 0))
        return STR("none");
    bool same = n->kernel.n == rank && all_are(&n->strides, 1);
    for (size_t d = 0; d < rank && same; d++) { /* odd units would stand at the end */
        int64_t step = d < n->dilations.n ? n->dilations.v[d] : 1, need;
        same = !__builtin_mul_overflow(n->kernel.v[d] - 1, step, &need) && need >= 0 &&
               n->pads.v[d] == need / 2 && n->pads.v[d + rank] == need - need / 2;
    }
    return same ? STR("same") : STR("");
}

/* A float32's number as it was written: 1e-05 and not 9.99999975e-06. 0: none of use. */
static double positive(bool has, float v, double otherwise)
{
    char text[32];
    if (!has)
        return otherwise;
    if (!(v > 0) || v > 1e30f)
        return 0;
    (void)snprintf(text, sizeof text, "%.7g", (double)v);
    return json_text_double(str_from(text));
}

static void settings(const struct op_node *n, struct layer *l)
{
    struct layer_settings *s = &l->said;
    bool bn = str_is(n->op, "BatchNormalization"),
         norm = bn || str_is(n->op, "LayerNormalization") || str_is(n->op, "GroupNormalization") ||
                str_is(n->op, "InstanceNormalization") || str_is(n->op, "RMSNormalization");
    bool conv = str_is(n->op, "Conv") || str_is(n->op, "ConvTranspose");
    if (norm && !(s->epsilon > 0))
        s->epsilon = positive(n->has_epsilon, n->epsilon, 1e-5);
    if (bn && !(s->momentum > 0))
        s->momentum = positive(n->has_momentum, n->momentum, 0.9);
    if (!conv)
        return;
    s->strided = s->strided || !all_are(&n->strides, 1);
    if (!s->padding.n && str_is(n->op, "Conv"))
        s->padding = padding_of(n);
}

/* Which way round a dense layer's weight is multiplied by: it is the second input. */
static enum status turned(const struct told *t, const struct op_node *n, const struct layer *l,
                          struct str input, struct err *e)
{
    bool gemm = str_is(n->op, "Gemm");
    if ((!gemm && !str_is(n->op, "MatMul")) || l->kind != LAYER_LINEAR)
        return ST_OK;
    const struct leaf_rule *r = rules_find(t->rules, LAYER_LINEAR, 0, l->form, LEAF_WEIGHT);
    bool out_first = r && r->axes[0] == 'O', node_out_first = gemm && n->trans_b;
    if (!r || out_first == node_out_first || t->settled(t->ctx, input))
        return ST_OK;
    enum status st = err_set(e, ST_CANNOT, "graph-turned",
                             "the graph's %.*s multiplies by it as %s, and %s has such weights as "
                             "%s: a rule with axes must say what it becomes",
                             STR_ARG(n->op), node_out_first ? "[out,in]" : "[in,out]",
                             t->l->framework, out_first ? "[out,in]" : "[in,out]");
    err_in(e, input.p, input.n);
    return st;
}

static bool add(struct told *t, const struct op_node *n, const char *of, const char *setting,
                struct str means)
{
    if (t->n_functions == FUNCTIONS_MAX || !means.n)
        return true;
    struct str path = arena_str(t->a, n->name.p, n->name.n);
    if (path.p && means.p)
        t->function[t->n_functions++] = (struct function){path, of, setting, means};
    return path.p && means.p;
}

/* Functions without weights. false: no memory. */
static bool functions(struct told *t, const struct op_node *n)
{
    if (str_is(n->op, "Gelu"))
        return add(t, n, "gelu", "form",
                   str_is(n->approximate, "tanh") ? STR("tanh") : STR("exact"));
    if (str_is(n->op, "LeakyRelu"))
        return add(t, n, "leaky_relu", "slope",
                   arena_fmt(t->a, "%g", positive(n->has_alpha, n->alpha, 0.01)));
    if (str_is(n->op, "HardSigmoid")) {
        double x = positive(n->has_alpha, n->alpha, 0.2), y = positive(n->has_beta, n->beta, 0.5);
        return add(t, n, "hard_sigmoid", "form",
                   y < 0.4999 || y > 0.5001         ? STR("")
                   : x > 0.1999 && x < 0.2001       ? STR("x/5+1/2")
                   : x > 1 / 6.001 && x < 1 / 5.999 ? STR("x/6+1/2")
                                                    : STR(""));
    }
    bool avg = str_is(n->op, "AveragePool");
    struct str pads = avg || str_is(n->op, "MaxPool") ? padding_of(n) : STR("");
    if (!str_is(pads, "same"))
        return true;
    return add(t, n, avg ? "avg_pool" : "max_pool", "padding", pads) &&
           (!avg ||
            add(t, n, "avg_pool", "border", n->count_pad ? STR("counted") : STR("left out")));
}

static enum status take(struct told *t, const struct op_node *n, struct err *e)
{
    if (n->domain.n && !str_is(n->domain, "ai.onnx"))
        return ST_OK;
    if (!functions(t, n))
        return err_nomem(e, n->name.n);
    if (n->n_inputs < 2 || !n->input[1].p)
        return ST_OK;
    int64_t at = model_find(t->m, n->input[1]); /* where operators have their weight */
    if (at >= 0 && t->m->tensor[at].alias_of >= 0)
        at = t->m->tensor[at].alias_of;
    if (at < 0 || !t->owner[at])
        return ST_OK;
    struct layer *l = &t->l->layer[t->owner[at] - 1];
    settings(n, l);
    return turned(t, n, l, n->input[1], e);
}

/* ---- recurrent nodes ---- */

struct cells {
    const struct model *m;
    struct arena *a;
    struct onnx_cell *cell;
    size_t n;
};

static const struct recurrent {
    const char *op, *word; /* word: of a path, where the node has no name */
    enum layer_kind kind;
    uint64_t gates;
    const char *activation[3]; /* of one direction */
} recurrents[] = {
    {"LSTM", "lstm", LAYER_LSTM, 4, {"Sigmoid", "Tanh", "Tanh"}},
    {"GRU", "gru", LAYER_GRU, 3, {"Sigmoid", "Tanh", NULL}},
    {"RNN", "rnn", LAYER_RNN, 1, {"Tanh", NULL, NULL}},
};

/* "/encoder/lstm/LSTM_1" is layer 1 of encoder.lstm; *n counts the nodes without such a name. */
static struct str cell_path(struct arena *a, const struct recurrent *r, struct str name, size_t n)
{
    struct str out = STR(""), rest = name, seg, last = STR("");
    size_t op = strlen(r->op);
    while (rest.p && str_split(&rest, '/', &seg)) {
        if (last.n)
            out = arena_fmt(a, "%.*s%s%.*s", STR_ARG(out), out.n ? "." : "", STR_ARG(last));
        last = seg;
        if (!out.p)
            return out;
    }
    uint64_t layer = 0;
    bool named =
        out.n && str_starts(last, str_from(r->op)) &&
        (last.n == op || (last.p[op] == '_' && str_u64(str_sub(last, op + 1, last.n), &layer)));
    return named ? arena_fmt(a, "%.*s.l%llu", STR_ARG(out), (unsigned long long)layer)
                 : arena_fmt(a, "%s_%zu.l0", r->word, n);
}

static int64_t weight(const struct cells *c, const struct op_node *n, size_t input, uint64_t dirs,
                      uint64_t rows, uint64_t columns)
{
    if (input >= n->n_inputs || !n->input[input].n)
        return -1;
    int64_t at = model_find(c->m, n->input[input]);
    const struct tensor *t = at >= 0 ? &c->m->tensor[at] : NULL;
    if (!t || t->n_dims != (columns ? 3 : 2) || t->dim[0] != dirs || t->dim[1] != rows ||
        (columns && t->dim[2] != columns))
        return -1;
    return at;
}

static bool usual(const struct recurrent *r, const struct op_node *n, uint64_t dirs,
                  struct str *activation)
{
    size_t each = 0;
    *activation = STR("");
    while (each < 3 && r->activation[each])
        each++;
    bool all = n->n_activations == 0 || n->n_activations == each * dirs, relu = all;
    for (size_t i = 0; i < n->n_activations; i++) {
        all = all && n->activation[i].p && str_is(n->activation[i], r->activation[i % each]);
        relu = relu && n->activation[i].p && str_is(n->activation[i], "Relu");
    }
    if (relu && n->n_activations && r->kind == LAYER_RNN)
        *activation = STR("relu");
    return all || activation->n;
}

static enum status add_cell(struct cells *c, const struct op_node *n, struct err *e)
{
    const struct recurrent *r = NULL;
    for (size_t i = 0; i < 3 && !r; i++)
        if (str_is(n->op, recurrents[i].op))
            r = &recurrents[i];
    if (!r || (n->domain.n && !str_is(n->domain, "ai.onnx")) || c->n == CELLS_MAX ||
        n->n_inputs < 3 || !n->input[2].n)
        return ST_OK;
    struct onnx_cell x = {.kind = r->kind,
                          .dirs = str_is(n->direction, "bidirectional") ? 2 : 1,
                          .backward = str_is(n->direction, "reverse")};
    int64_t at = model_find(c->m, n->input[2]), in = model_find(c->m, n->input[1]);
    if (at < 0 || in < 0 || c->m->tensor[at].n_dims != 3 || c->m->tensor[in].n_dims != 3)
        return ST_OK;
    x.units = c->m->tensor[at].dim[2];
    x.inputs = c->m->tensor[in].dim[2];
    bool bias = n->n_inputs > 3 && n->input[3].n;
    bool peeps = n->n_inputs > 7 && n->input[7].n;
    uint64_t rows = r->gates * x.units;
    if (x.units == 0 || x.inputs == 0 || x.units > UINT32_MAX)
        return ST_OK;
    x.w = weight(c, n, 1, x.dirs, rows, x.inputs);
    x.r = weight(c, n, 2, x.dirs, rows, x.units);
    x.b = bias ? weight(c, n, 3, x.dirs, 2 * rows, 0) : -1;
    if (x.w < 0 || x.r < 0 || (bias && x.b < 0) || peeps || n->coupled || n->clips ||
        (r->kind == LAYER_GRU && !n->reset_after) || !usual(r, n, x.dirs, &x.activation))
        return ST_OK;
    x.path = cell_path(c->a, r, n->name.p ? n->name : STR(""), c->n);
    for (size_t i = 0; i < c->n && x.path.p; i++) /* two nodes of one name */
        if (str_eq(c->cell[i].path, x.path))
            x.path = arena_fmt(c->a, "%s_%zu.l0", r->word, c->n);
    if (!x.path.p)
        return err_nomem(e, n->name.n);
    c->cell[c->n++] = x;
    return ST_OK;
}

/* ---- all ---- */

static enum status take_told(void *ctx, const struct op_node *n, struct err *e)
{
    return take(ctx, n, e);
}

static enum status take_cell(void *ctx, const struct op_node *n, struct err *e)
{
    return add_cell(ctx, n, e);
}

static enum status walk(struct cursor *c,
                        enum status (*each)(void *ctx, const struct op_node *n, struct err *e),
                        void *ctx, struct err *e)
{
    struct proto model, graph, node;
    struct arena tmp = ARENA_INIT;
    enum status st = ST_OK;
    proto_init(&model, c, c->end);
    while (st == ST_OK && proto_next(&model)) {
        if (model.field != MODEL_GRAPH || !proto_sub(&model, &graph))
            continue;
        while (st == ST_OK && proto_next(&graph)) {
            struct op_node n;
            if (graph.field != GRAPH_NODE || !proto_sub(&graph, &node))
                continue;
            read_node(node, &n, &tmp);
            if (!cur_failed(c))
                st = each(ctx, &n, e);
            arena_free(&tmp);
            tmp = (struct arena)ARENA_INIT;
        }
    }
    arena_free(&tmp);
    return st;
}

static const struct attachment *graph_of(const struct model *m)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, GRAPH_NAME))
            return &m->attachment[i];
    return NULL;
}

/* What was read before it broke off was said. */
static enum status walk_graph(const struct attachment *g,
                              enum status (*each)(void *ctx, const struct op_node *n,
                                                  struct err *e),
                              void *ctx, struct err *e)
{
    struct cursor c;
    if (g->mem)
        cur_mem(&c, g->mem, (size_t)g->n_bytes, GRAPH_NAME, 0);
    else
        cur_file(&c, g->file, g->offset, g->n_bytes);
    enum status st = walk(&c, each, ctx, e);
    cur_close(&c);
    return st;
}

enum status onnx_graph_cells(const struct model *m, struct arena *a, struct onnx_cell **out,
                             size_t *n, struct err *e)
{
    const struct attachment *g = graph_of(m);
    struct cells c = {.m = m, .a = a};
    *n = 0;
    if (!g)
        return ST_OK;
    c.cell = ARENA_ARRAY(a, struct onnx_cell, CELLS_MAX);
    if (!c.cell)
        return err_nomem(e, CELLS_MAX * sizeof *c.cell);
    TRY(walk_graph(g, take_cell, &c, e));
    *out = c.cell;
    *n = c.n;
    return ST_OK;
}

enum status onnx_graph_told(const struct model *m, const struct spelling_rules *rules,
                            bool (*settled)(void *ctx, struct str tensor), void *ctx,
                            struct arena *a, struct layers *l, struct err *e)
{
    const struct attachment *g = graph_of(m);
    struct told t = {.m = m, .rules = rules, .settled = settled, .ctx = ctx, .a = a, .l = l};
    if (!g)
        return ST_OK;
    t.owner = ARENA_ARRAY(a, size_t, m->n_tensors + 1);
    t.function = ARENA_ARRAY(a, struct function, FUNCTIONS_MAX);
    if (!t.owner || !t.function)
        return err_nomem(e, m->n_tensors * sizeof *t.owner);
    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < LEAF_N; k++)
            if (l->layer[i].tensor[k] >= 0) {
                int64_t at = l->layer[i].tensor[k], of = m->tensor[at].alias_of;
                t.owner[of >= 0 ? of : at] = i + 1;
            }
    enum status st = walk_graph(g, take_told, &t, e);
    if (st == ST_OK && !l->n_functions) {
        l->function = t.function;
        l->n_functions = t.n_functions;
    }
    return st;
}
