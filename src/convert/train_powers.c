/* TensorFlow 1's Adam counts by two numbers: beta1_power and beta2_power are the betas, multiplied
 * with themselves in float32 after every update, beta^(t+1) after t of them. Read: the betas are
 * those of a short list of usual ones whose product is both numbers, bit for bit, after one and the
 * same number of updates. Written: the same products, from the source's betas (torch's groups),
 * else from those that the skeleton's own powers tell, as a whole or (with a global_step of 0) as
 * they are. Source: tensorflow/python/training/adam.py, _finish.
 */
#include "convert/number.h"
#include "convert/train.h"
#include "framework/recognise.h"
#include <string.h>

#define MOST_UPDATES 100000000u /* products are 0 or stand still long before */

static float product(float beta, uint64_t n_updates)
{
    float p = beta;
    for (uint64_t i = 0; i < n_updates; i++) {
        float next = p * beta;
        if (next == p)
            break; /* 0, 1 or too small to change */
        p = next;
    }
    return p;
}

static bool is_power(struct str name, int which)
{
    struct str parent, leaf;
    name_tail(name, &parent, &leaf);
    return str_is(leaf, which ? "beta2_power" : "beta1_power");
}

/* A model's two powers; false where it has not just those, in float32. */
static enum status powers_of(const struct model *m, const struct optim_state *s, float p[2],
                             bool *found, struct err *e)
{
    int64_t at[2] = {-1, -1};
    *found = false;
    for (size_t i = 0; i < m->n_tensors; i++)
        for (int k = 0; k < 2; k++)
            if (is_power(m->tensor[i].name, k) && s->mine[i]) {
                if (at[k] >= 0)
                    return ST_OK;
                at[k] = (int64_t)i;
            }
    for (int k = 0; k < 2; k++) {
        uint8_t raw[16];
        if (at[k] < 0 || m->tensor[at[k]].dtype != DT_F32 || tensor_elems(&m->tensor[at[k]]) != 1)
            return ST_OK;
        TRY(train_element(m, &m->tensor[at[k]], raw, e));
        memcpy(&p[k], raw, sizeof p[k]);
    }
    *found = true;
    return ST_OK;
}

/* The betas, and how often they were multiplied; false: none of the usual ones give these two. */
static bool known(const float p[2], float beta[2], uint64_t *n_updates)
{
    static const float first[] = {0.9f, 0.5f, 0.8f, 0.95f};
    static const float second[] = {0.999f, 0.99f, 0.98f, 0.95f, 0.9f, 0.9999f};
    for (size_t j = 0; j < sizeof second / sizeof *second; j++) {
        float b = second[j], x = b;
        uint64_t n = 0;
        while (x > p[1] && n < MOST_UPDATES && x * b < x) {
            x *= b;
            n++;
        }
        if (x != p[1] || x < 1e-30f) /* where it is next to nothing it does not count any more */
            continue;
        for (size_t i = 0; i < sizeof first / sizeof *first; i++)
            if (product(first[i], n) == p[0]) {
                beta[0] = first[i];
                beta[1] = b;
                *n_updates = n;
                return true;
            }
    }
    return false;
}

enum status train_powers(struct train *x, struct err *e)
{
    float p[2], beta[2];
    bool found;
    uint64_t n;
    if (x->s.style != STYLE_TF1 || x->s.unclear)
        return ST_OK;
    TRY(powers_of(x->m->src, &x->s, p, &found, e));
    if (!found || !known(p, beta, &n))
        return ST_OK;
    struct node *count = ARENA_NEW(x->m->tmp, struct node);
    if (!count)
        return err_nomem(e, sizeof *count);
    count->kind = NODE_INT;
    count->i = (int64_t)n;
    for (size_t i = 0; i < x->s.n; i++)
        x->s.param[i].n = (struct optim_number){.tensor = -1, .node = count};
    return ST_OK;
}

/* The betas of all of torch's groups. */
static bool group_betas(const struct optim_state *s, float beta[2])
{
    bool any = false;
    for (size_t i = 0; i < s->n; i++) {
        const struct node *n = node_get(s->param[i].group, STR("betas"));
        const struct node *c = n ? n->child : NULL;
        for (int k = 0; k < 2; k++, c = c->next) {
            double v;
            if (!c || c->kind != NODE_FLOAT)
                return false;
            memcpy(&v, &c->bits[0], sizeof v);
            float f = (float)v;
            if (any && f != beta[k])
                return false;
            beta[k] = f;
        }
        any = true;
    }
    return any;
}

static enum status betas(struct train *x, float beta[2], bool *found, struct err *e)
{
    const struct model *like = x->m->o->like;
    float p[2];
    uint64_t n;
    int64_t steps = -1;
    *found = x->s.style == STYLE_TORCH && group_betas(&x->s, beta);
    if (*found)
        return ST_OK;
    if (x->s.style == STYLE_TF1) {
        TRY(powers_of(x->m->src, &x->s, p, found, e));
        *found = *found && known(p, beta, &n);
        if (*found)
            return ST_OK;
    }
    TRY(powers_of(like, &x->k, p, found, e));
    if (!*found || known(p, beta, &n))
        return ST_OK;
    if (x->k.step.tensor >= 0)
        TRY(train_value(like, x->k.step, &steps, e));
    *found = steps == 0;
    memcpy(beta, p, sizeof p);
    return ST_OK;
}

enum status train_power(struct train *x, const struct tensor *k, struct made *d, bool *is,
                        struct err *e)
{
    float beta[2], value;
    bool found;
    int64_t n;
    int which = is_power(k->name, 1);
    *is = is_power(k->name, which);
    if (!*is)
        return ST_OK;
    TRY(betas(x, beta, &found, e));
    if (!found || k->dtype != DT_F32 || (!x->step.node && x->step.tensor < 0))
        return err_set(e, ST_CANNOT, "train-powers", "%.*s is beta^(t+1), and no file says %s",
                       STR_ARG(k->name), found ? "t" : "beta");
    TRY(train_value(x->m->src, x->step, &n, e));
    value = product(beta[which], n > 0 ? (uint64_t)n : 0);
    memcpy(d->fill, &value, sizeof value);
    return ST_OK;
}
