/* A dynamic loss scale: the scale, and the finite steps since it changed, from where the source has
 * them to where the skeleton has. How it grows and shrinks is settings, in code elsewhere: named,
 * or the skeleton's own. One step apart: Flax grows after growth_interval + 1 finite steps, torch,
 * Keras and jmp after as many as they say.
 */
#include "convert/number.h"
#include "convert/train.h"
#include <string.h>

static bool has(struct optim_number n)
{
    return n.node || n.tensor >= 0;
}

/* The skeleton's tensor t gets the value. */
static enum status put_real(struct train *x, int64_t t, double v, struct err *e)
{
    const struct tensor *k = &x->m->o->like->tensor[t];
    uint8_t wide[16] = {0};
    struct made *d;
    TRY(map_made(x->m, 0, &d, e));
    d->name = k->name;
    d->role = k->role;
    d->dtype = k->dtype;
    d->n_dims = k->n_dims;
    d->dim = k->dim;
    d->harmless = true;
    d->why = STR("the source's loss scale");
    memcpy(wide, &v, sizeof v);
    if (num_cast(DT_F64, wide, k->dtype, d->fill, 1) == 0)
        return err_set(e, ST_CANNOT, "train-number", "%.*s: the scale does not fit",
                       STR_ARG(k->name));
    x->filled[t] = true;
    return ST_OK;
}

enum status train_scale(struct train *x, struct err *e)
{
    const struct model *m = x->m->src, *like = x->m->o->like;
    double scale;
    int64_t good;
    if (!has(x->s.scale) || !has(x->s.good) || !has(x->k.scale) || !has(x->k.good) ||
        (x->s.scale.tensor >= 0 && !x->m->in[x->s.scale.tensor]) ||
        (x->s.good.tensor >= 0 && !x->m->in[x->s.good.tensor]))
        return ST_OK;
    TRY(train_real(m, x->s.scale, &scale, e));
    TRY(train_value(m, x->s.good, &good, e));
    if (x->k.scale.node)
        train_replace_real(x, x->k.scale.node, scale);
    else
        TRY(put_real(x, x->k.scale.tensor, scale, e));
    if (x->k.good.node) {
        train_replace(x, x->k.good.node, good);
        if (x->s.good.tensor >= 0)
            x->carried[x->s.good.tensor] = true;
    } else {
        const struct tensor *t = &like->tensor[x->k.good.tensor];
        TRY(train_number(x, x->s.good, t->name, t->dtype, true, e));
        x->filled[x->k.good.tensor] = true;
    }
    if (x->s.scale.tensor >= 0)
        x->carried[x->s.scale.tensor] = true;
    x->scaled = true;
    return ST_OK;
}
