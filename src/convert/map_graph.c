/* Recurrent nodes of an ONNX graph: their weights hold all gates and both directions and are named
 * after nothing. They are seen as a tensor a gate and direction, with the path of the node, which
 * the rules of PyTorch's cells know; what was mapped is told again in terms of the real tensors.
 */
#include "convert/map_seen.h"
#include "framework/onnx_graph.h"
#include <string.h>

static const char *gates_of(enum layer_kind k)
{
    return k == LAYER_LSTM ? "iofc" : k == LAYER_GRU ? "zrh" : "i";
}

/* One tensor's gates from row `first` on, of one direction. */
static enum status gates(struct mapping *m, struct seen *s, const struct onnx_cell *c, int64_t at,
                         const char *word, uint64_t first, uint64_t dir, struct err *e)
{
    const char *g = gates_of(c->kind);
    bool backward = c->backward || dir == 1;
    for (uint64_t i = 0; g[i]; i++) {
        struct lens lens = {.n_blocks = c->dirs,
                            .block = dir,
                            .cut = true,
                            .lo = first + i * c->units,
                            .hi = first + (i + 1) * c->units};
        struct str name = arena_fmt(m->a, "%.*s%s.%s[%c]", STR_ARG(c->path),
                                    backward ? "_reverse" : "", word, g[i]);
        if (!name.p)
            return err_nomem(e, c->path.n);
        TRY(seen_add(s, (uint32_t)at, lens, name, m->a, e));
    }
    return ST_OK;
}

static bool hidden(const struct seen *s, int64_t at)
{
    return at >= 0 && s->model.tensor[at].role == ROLE_OTHER;
}

static enum status one(struct mapping *m, struct seen *s, const struct onnx_cell *c, struct err *e)
{
    uint64_t rows = strlen(gates_of(c->kind)) * c->units;
    int64_t all[3] = {c->w, c->r, c->b};
    for (int i = 0; i < 3; i++) /* weights that two nodes share, or that are left out, stay */
        if (hidden(s, all[i]) || (all[i] >= 0 && !m->in[all[i]]))
            return ST_OK;
    for (uint64_t dir = 0; dir < c->dirs; dir++) {
        TRY(gates(m, s, c, c->w, "W", 0, dir, e));
        TRY(gates(m, s, c, c->r, "R", 0, dir, e));
        if (c->b >= 0) {
            TRY(gates(m, s, c, c->b, "Wb", 0, dir, e));
            TRY(gates(m, s, c, c->b, "Rb", rows, dir, e));
        }
    }
    for (int i = 0; i < 3; i++)
        if (all[i] >= 0)
            seen_hide(s, (uint32_t)all[i]);
    return ST_OK;
}

/* Other tables than PyTorch's do not know the names. */
static enum status cells_of(struct mapping *m, struct onnx_cell **cell, size_t *n, struct err *e)
{
    *n = 0;
    return strcmp(m->from->name, "pytorch") == 0 ? onnx_graph_cells(m->src, m->tmp, cell, n, e)
                                                 : ST_OK;
}

enum status map_graph_any(struct mapping *m, bool *any, struct err *e)
{
    struct onnx_cell *cell = NULL;
    size_t n;
    TRY(cells_of(m, &cell, &n, e));
    *any = n > 0;
    return ST_OK;
}

enum status map_graph_see(struct mapping *m, struct seen **out, struct err *e)
{
    struct onnx_cell *cell = NULL;
    size_t n = 0;
    *out = NULL;
    if (strcmp(m->to->name, "canonical") == 0)
        return ST_OK; /* an archive gives back what came */
    TRY(cells_of(m, &cell, &n, e));
    if (!n)
        return ST_OK;
    struct seen *s = ARENA_NEW(m->tmp, struct seen);
    if (!s)
        return err_nomem(e, sizeof *s);
    TRY(seen_init(s, m->src, m->a, e));
    for (size_t i = 0; i < n; i++)
        TRY(one(m, s, &cell[i], e));
    size_t all = s->model.n_tensors;
    bool *in = ARENA_ARRAY(m->tmp, bool, all + 1), *used = ARENA_ARRAY(m->tmp, bool, all + 1),
         *dropped = ARENA_ARRAY(m->tmp, bool, all + 1);
    if (!in || !used || !dropped)
        return err_nomem(e, 3 * all);
    for (size_t i = 0; i < all; i++) {
        in[i] = m->in[s->lens[i].real];
        used[i] = m->used[s->lens[i].real];
        dropped[i] = m->dropped[s->lens[i].real];
    }
    m->in = in;
    m->used = used;
    m->dropped = dropped;
    m->src = &s->model;
    *out = s;
    return ST_OK;
}

enum status map_graph_said(struct mapping *m, const struct seen *s, struct err *e)
{
    struct onnx_cell *cell = NULL;
    size_t n = 0;
    TRY(onnx_graph_cells(s->real, m->tmp, &cell, &n, e));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m->sl.n && cell[i].activation.n; k++) {
            struct layer *l = &m->sl.layer[k];
            struct str rest = str_sub(l->path, cell[i].path.n, l->path.n);
            if (kind_is_cell(l->kind) && str_starts(l->path, cell[i].path) &&
                (!rest.n || str_is(rest, "_reverse")))
                l->said.activation = cell[i].activation;
        }
    return ST_OK;
}

enum status map_graph_undo(struct mapping *m, const struct seen *s, struct err *e)
{
    static const struct seen none = {0};
    return seen_undo(m, s, &none, 0, e);
}
