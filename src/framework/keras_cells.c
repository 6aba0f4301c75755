/* Recurrent layers of Keras: their variables stand in a module of the cell below the layer, and
 * Bidirectional holds two such layers. A layer is called as Keras calls it, its cell left out;
 * since it is a layer and not a cell alone, it is one of a stack in canonical form:
 *   lstm.lstm_cell.kernel, layers.lstm.cell.vars.0          lstm.l0
 *   bi.forward_gru.gru_cell.kernel, bi.forward_layer.cell   bi.l0, and bi.l0_reverse
 * A cell of several in one layer (StackedRNNCells) is a cell alone, and keeps its path.
 */
#include "framework/keras_names.h"
#include "framework/keras_style.h"
#include "framework/rules.h"

static const char *const variable[] = {"kernel", "recurrent_kernel", "bias"};

static bool is_cell(struct str seg)
{
    struct str stem = keras_stem(seg);
    return str_is(stem, "cell") || str_is(stem, "lstm_cell") || str_is(stem, "gru_cell") ||
           str_is(stem, "simple_rnn_cell") || str_is(stem, "conv_lstm_cell");
}

/* Cells of a StackedRNNCells. */
static bool in_list(struct str seg)
{
    return str_is(seg, "cells") || str_is(keras_stem(seg), "stacked_rnn_cells");
}

/* vars.0 .. vars.2 of a cell, as they are called elsewhere; true when these are all there is. */
static bool numbered(const struct modules *ms, const struct module *mod)
{
    struct str up, seg;
    name_tail(mod->path, &up, &seg);
    if (!is_cell(seg) || mod->n < 2 || mod->n > 3)
        return false;
    for (uint32_t i = 0; i < mod->n; i++) {
        const struct member *b = &ms->member[mod->first + i];
        uint64_t k;
        if (!b->collection.n || !str_u64(b->leaf, &k) || k != i)
            return false;
    }
    return true;
}

/* Where the last segment that only counts layers begins (see keras_style.c); the whole length:
 * there is none. */
static size_t last_counted(struct str path)
{
    struct str outer = STR("_functional.");
    for (size_t at = path.n; at-- > 0;) {
        struct str rest = str_sub(path, at, path.n);
        if (at > 0 && path.p[at - 1] != '.')
            continue;
        if (str_starts(rest, STR("layer_with_weights-")))
            return at;
        if (str_starts(rest, STR("_operations.")))
            return str_ends(str_sub(path, 0, at), outer) ? at - outer.n : at;
    }
    return path.n;
}

/* "lstm/lstm_cell/kernel", the name a checkpoint's graph keeps, as the path of the cell. */
static enum status noted(const struct modules *ms, const struct module *mod, struct arena *a,
                         struct str *path, struct err *e)
{
    struct str note = ms->m->tensor[ms->member[mod->first].tensor].note, seg;
    size_t end = note.n, at = last_counted(*path);
    while (end > 0 && note.p[end - 1] != '/')
        end--;
    if (at == path->n || end < 2)
        return ST_OK;
    struct str rest = str_sub(note, 0, end - 1), out = str_sub(*path, 0, at ? at - 1 : 0);
    while (rest.p && str_split(&rest, '/', &seg))
        TRY(path_join(out, seg, a, &out, e));
    *path = out;
    return ST_OK;
}

/* What a layer is called, of what its cell's module is. */
static enum status layer_path(struct str called, struct arena *a, struct str *out, struct err *e)
{
    struct str up, seg, path = called;
    const char *layer = "l0";
    name_tail(path, &up, &seg);
    if (is_cell(seg)) {
        struct str list, above;
        name_tail(up, &above, &list);
        if (in_list(list)) { /* one of several, on each other at every step */
            *out = path;
            return ST_OK;
        }
        path = up;
        name_tail(path, &up, &seg);
    }
    if (up.n && (str_starts(seg, STR("forward_")) || str_starts(seg, STR("backward_")))) {
        layer = str_starts(seg, STR("backward_")) ? "l0_reverse" : "l0";
        path = up;
    } else if (path_in_stack(path)) {
        *out = path;
        return ST_OK;
    }
    *out = path.n ? arena_fmt(a, "%.*s.%s", STR_ARG(path), layer) : str_from(layer);
    return out->p ? ST_OK : err_nomem(e, path.n);
}

/* What the config says of the layer that a cell's module stands in: the nearest above it that the
 * config has. */
static enum status said(const struct keras_names *x, struct str module, struct str called,
                        struct arena *a, struct layer_settings *out, struct err *e)
{
    for (int up = 0; up < 3 && x->n; up++) {
        struct str by_class = keras_class_path(module, a), seg;
        if (!by_class.p && module.n)
            return err_nomem(e, module.n);
        const struct keras_layer *l = keras_by_class(x, by_class);
        if (!l)
            l = keras_by_name(x, called);
        if (l) {
            *out = l->said;
            return ST_OK;
        }
        name_tail(module, &module, &seg);
        name_tail(called, &called, &seg);
    }
    return ST_OK;
}

enum status keras_cells(const struct spelling_rules *r, const struct keras_names *names,
                        struct modules *ms, const struct str *called, struct layer_list *list,
                        struct err *e)
{
    size_t before = list->n;
    for (size_t i = 0; i < ms->n; i++)
        if (numbered(ms, &ms->module[i]))
            for (uint32_t k = 0; k < ms->module[i].n; k++)
                ms->member[ms->module[i].first + k].leaf = str_from(variable[k]);
    TRY(cells_recognise(r, ms, list, e));
    for (size_t i = 0; i < ms->n; i++) /* what was no cell keeps its numbers */
        for (uint32_t k = 0; k < ms->module[i].n; k++) {
            struct member *b = &ms->member[ms->module[i].first + k];
            if (b->collection.n && !b->taken && k < 3 && str_is(b->leaf, variable[k]))
                b->leaf = str_sub(STR("012"), k, k + 1);
        }
    for (size_t k = before; k < list->n; k++) {
        const struct module *mod = module_at(ms, list->layer[k].path);
        if (!mod)
            continue;
        struct str path = called[mod - ms->module];
        TRY(noted(ms, mod, list->a, &path, e));
        TRY(said(names, mod->path, path, list->a, &list->layer[k].said, e));
        TRY(layer_path(path, list->a, &list->layer[k].path, e));
    }
    return ST_OK;
}
