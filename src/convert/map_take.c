/* Takes: what a piece of a source tensor goes through on its way, as a view; what it does to
 * values, and to the moments of its parameter.
 */
#include "convert/map_int.h"
#include <string.h>

/* Does a step from one layout to another move nothing? */
static bool step_is_idle(const char *from, const char *to)
{
    return !*from || !*to || strcmp(from, to) == 0;
}

static const char *out_axes(const struct take *k)
{
    return k->out_axes ? k->out_axes : k->can_axes;
}

bool take_is_whole(const struct take *k)
{
    return k->n_parts == 0 && k->n_cuts == 0 && k->n_fill_dims == 0 &&
           step_is_idle(k->src_axes, k->can_axes) && step_is_idle(out_axes(k), k->dst_axes);
}

bool take_is_plain(const struct take *k)
{
    return !k->neg && !k->offset && !k->plus && !k->scale;
}

void take_ride(struct take *k, enum role role)
{
    if (role == ROLE_EMA)
        return;
    k->neg = k->neg && role == ROLE_MOMENT1;
    k->offset = 0;
    k->wide = false;
    k->plus = NULL;
    if (k->twin)
        k->zero = false;
}

enum status take_view(const struct model *src, const struct take *k, uint32_t t, struct view *out,
                      struct err *e)
{
    if (k->zero && k->n_fill_dims)
        return view_c(out, k->fill_dim, k->n_fill_dims, e);
    view_load(out, src->tensor[t].view);
    return take_turn(k, out, src->tensor[t].name, e);
}

enum status take_turn(const struct take *k, struct view *out, struct str name, struct err *e)
{
    for (size_t i = 0; i < k->n_cuts; i++)
        TRY(view_slice(out, k->cut[i].axis, k->cut[i].lo, k->cut[i].hi, e));
    if (k->n_parts) {
        uint64_t rows = view_dim(out, 0) / k->n_parts;
        TRY(view_slice(out, 0, k->part * rows, (k->part + 1) * rows, e));
    }
    const char *step[2][2] = {{k->src_axes, k->can_axes}, {out_axes(k), k->dst_axes}};
    struct axes_size size = {0};
    if (k->size)
        size = *k->size;
    if (k->heads)
        size.of['N'] = k->heads;
    if (k->flat_c)
        size.of['C'] = k->flat_c;
    /* heads that neither side tells apart from their width */
    bool joined = true;
    for (int i = 0; i < 4; i++)
        joined = joined && (!*step[i / 2][i % 2] || strstr(step[i / 2][i % 2], "(N D)"));
    if (joined && size.of['N'] == 0)
        size.of['N'] = 1;
    for (int i = 0; i < 2; i++) {
        if (step_is_idle(step[i][0], step[i][1]))
            continue;
        struct axes from, to;
        if (!k->size) { /* letters of a rules file mean what it says */
            size.of[AXES_PAIR] = 2;
            size.of[AXES_TRIPLE] = 3;
        }
        TRY(axes_parse(str_from(step[i][0]), &from, e));
        TRY(axes_parse(str_from(step[i][1]), &to, e));
        enum status st = axes_apply(out, &from, &to, &size, e);
        if (st != ST_OK) {
            err_in(e, name.p, name.n);
            return st;
        }
    }
    return ST_OK;
}
