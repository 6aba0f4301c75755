/* Numbers beside an optimizer's slots. A dynamic loss scale: the scale, and the finite steps since
 * it changed, from where the source has them to where the skeleton has. How it grows and shrinks is
 * settings, in code elsewhere: named, or the skeleton's own. One step apart: Flax grows after
 * growth_interval + 1 finite steps, torch, Keras and jmp after as many as they say.
 */
#include "convert/number.h"
#include "convert/train.h"
#include <string.h>

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
    if (!optim_told(x->s.scale) || !optim_told(x->s.good) || !optim_told(x->k.scale) ||
        !optim_told(x->k.good) || (x->s.scale.tensor >= 0 && !x->m->in[x->s.scale.tensor]) ||
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

/* ---- Nadam ---- */

enum status train_product(struct train *x, size_t i, struct str name, int64_t like, struct err *e)
{
    const struct model *m = x->m->src;
    struct optim_number n = x->s.product;
    double first = 0, v = 0;
    bool one = true;
    for (size_t k = 0; k < x->s.n; k++) {
        const struct optim_param *p = &x->s.param[k];
        if (!optim_told(p->product) || (i != SIZE_MAX && x->entry[i] != (int64_t)k))
            continue;
        TRY(train_real(m, p->product, &v, e));
        one = one && (!optim_told(n) || v == first);
        first = v;
        n = p->product;
    }
    if (!optim_told(n) || !one)
        return err_set(e, ST_CANNOT, "train-product", "%.*s: %s", STR_ARG(name),
                       one ? "the source keeps no product of Nadam's momenta"
                           : "the source's products of momenta are not one");
    TRY(train_real(m, n, &v, e));
    if (n.tensor >= 0)
        x->carried[n.tensor] = true;
    for (size_t k = 0; k < x->s.n && i == SIZE_MAX; k++)
        if (x->s.param[k].product.tensor >= 0)
            x->carried[x->s.param[k].product.tensor] = true;
    if (like >= 0)
        return put_real(x, like, v, e);
    uint8_t wide[16] = {0};
    struct made *d;
    TRY(map_made(x->m, 0, &d, e));
    d->name = name;
    d->role = ROLE_OTHER;
    d->dtype = DT_F32;
    d->harmless = true;
    d->why = STR("the source's product of momenta");
    memcpy(wide, &v, sizeof v);
    if (num_cast(DT_F64, wide, DT_F32, d->fill, 1) == 0)
        return err_set(e, ST_CANNOT, "train-number", "%.*s does not fit", STR_ARG(name));
    return ST_OK;
}

/* Which one torch's settings name, where its optimizer has made no step. */
static enum optim fresh_kind(const struct optim_state *k)
{
    const struct node *g = k->n ? k->param[0].group : NULL;
    if (k->style != STYLE_TORCH || !node_get(g, STR("betas")) || !node_get(g, STR("eps")))
        return OPTIM_NONE;
    return node_get(g, STR("momentum_decay")) ? OPTIM_NADAM
           : node_get(g, STR("amsgrad"))      ? OPTIM_ADAM
                                              : OPTIM_ADAMAX;
}

/* optax's state is of that kind. */
static void be(struct optim_state *s, enum optim kind)
{
    s->kind = kind;
    if (kind != OPTIM_ADAMAX)
        return;
    s->slots = SLOT_BIT(SLOT_MEAN) | SLOT_BIT(SLOT_NORM);
    for (size_t i = 0; i < s->n; i++) {
        s->param[i].slot[SLOT_NORM] = s->param[i].slot[SLOT_SQUARE];
        s->param[i].slot[SLOT_SQUARE] = -1;
    }
}

enum status train_alike(struct train *x, struct err *e)
{
    struct optim_state *s = &x->s, *k = &x->k;
    enum optim want = k->slots ? k->kind : fresh_kind(k);
    bool asks = false;
    if (s->style == STYLE_OPTAX && s->kind == OPTIM_ADAM && k->style != STYLE_OPTAX &&
        (want == OPTIM_ADAMAX || want == OPTIM_NADAM)) {
        be(s, want);
        asks = true;
    } else if (k->style == STYLE_OPTAX && k->kind == OPTIM_ADAM && s->style != STYLE_OPTAX &&
               (s->kind == OPTIM_ADAMAX || s->kind == OPTIM_NADAM)) {
        be(k, s->kind);
        asks = true;
    } else if (!k->slots && want != OPTIM_NONE && s->slots && s->kind != want) {
        return err_set(e, ST_CANNOT, "train-like",
                       "the skeleton's optimizer (%s) is not the source's (%s)", optim_name(want),
                       optim_name(s->kind));
    }
    if (!asks)
        return ST_OK;
    return map_ledger(x->m, LEDGER_SYNTH, STR("optimizer.kind"), 0, false,
                      want == OPTIM_ADAMAX || s->kind == OPTIM_ADAMAX
                          ? STR("optax keeps the same for Adam and Adamax: taken to be Adamax's")
                          : STR("optax's nadam has no schedule of the momentum: another formula"),
                      e);
}
