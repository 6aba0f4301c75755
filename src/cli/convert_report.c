/* See convert_report.h. */
#include "cli/convert_report.h"
#include "base/log.h"
#include "cli/command.h"
#include <stdio.h>

/* ---- notes ---- */

/* Layers alike have one text: said once, of the first of them. */
static size_t alike(const struct plan *p, size_t at)
{
    size_t n = 0;
    for (size_t i = 0; i < at; i++)
        if (str_eq(p->note[i].text, p->note[at].text))
            return 0;
    for (size_t i = at; i < p->n_notes; i++)
        n += str_eq(p->note[i].text, p->note[at].text);
    return n;
}

static struct str on(const struct plan_note *n)
{
    return n->layer.n ? n->layer : STR("the model");
}

/* at most `most` different texts */
void notes_say(const struct plan *p, size_t most)
{
    for (size_t i = 0, n = 0; i < p->n_notes && i < 100000 && n < most; i++) {
        size_t k = alike(p, i);
        char more[32] = "";
        if (k == 0)
            continue;
        n++;
        if (k > 1)
            snprintf(more, sizeof more, " and %zu more", k - 1);
        log_note("note on %.*s%s: %.*s", STR_ARG(on(&p->note[i])), more, STR_ARG(p->note[i].text));
    }
}

void notes_print(const struct plan *p)
{
    for (size_t i = 0; i < p->n_notes; i++) {
        print_fmt("note on ");
        print_name(on(&p->note[i]));
        print_fmt(": ");
        print_name(p->note[i].text);
        print_fmt("\n");
    }
}

static void json_pair(struct json_w *w, const char *key, struct str value)
{
    json_w_key(w, str_from(key));
    json_w_str(w, value);
}

void notes_json(const struct plan *p)
{
    struct json_w *w = print_json();
    json_w_key(w, STR("notes"));
    json_w_array(w);
    for (size_t i = 0; i < p->n_notes; i++) {
        const struct plan_note *n = &p->note[i];
        w = print_json();
        json_w_object(w);
        json_pair(w, "layer", n->layer);
        json_pair(w, "of", str_from(n->of));
        json_pair(w, "setting", str_from(n->setting));
        json_pair(w, "source", n->source);
        json_w_key(w, STR("known"));
        json_w_bool(w, n->known);
        json_pair(w, "target", n->target);
        json_pair(w, "set", n->set);
        json_pair(w, "note", n->text);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

/* ---- casts ---- */

enum status casts_measure(struct casts *c, const struct plan *p, const struct run_opt *o,
                          struct err *e)
{
    c->asked = true;
    return cast_cost(p, o, &c->a, &c->cost, &c->n, e);
}

void casts_free(struct casts *c)
{
    arena_free(&c->a);
}

static void json_cost(struct json_w *w, const struct run_diff *d)
{
    json_w_key(w, STR("changed"));
    json_w_u64(w, d->n_unequal);
    json_w_key(w, STR("max_abs"));
    json_w_double(w, d->max_abs);
    json_w_key(w, STR("max_rel"));
    json_w_double(w, d->max_rel);
    json_w_key(w, STR("overflow"));
    json_w_u64(w, d->n_overflow);
    json_w_key(w, STR("flushed"));
    json_w_u64(w, d->n_flushed);
    json_w_key(w, STR("subnormal"));
    json_w_u64(w, d->n_subnormal);
}

static void say_cost(const struct run_diff *d, uint64_t n)
{
    print_fmt("%llu of %llu values changed, by at most %.3g, relative %.3g; overflow %llu, flushed "
              "to 0 %llu, subnormal %llu\n",
              (unsigned long long)d->n_unequal, (unsigned long long)n, d->max_abs, d->max_rel,
              (unsigned long long)d->n_overflow, (unsigned long long)d->n_flushed,
              (unsigned long long)d->n_subnormal);
}

static void add_cost(struct run_diff *all, const struct run_diff *d)
{
    all->n_unequal += d->n_unequal;
    all->n_overflow += d->n_overflow;
    all->n_flushed += d->n_flushed;
    all->n_subnormal += d->n_subnormal;
    all->max_abs = d->max_abs > all->max_abs ? d->max_abs : all->max_abs;
    all->max_rel = d->max_rel > all->max_rel ? d->max_rel : all->max_rel;
}

/* Of all that was measured; the greatest differences among them. */
static struct run_diff in_all(const struct casts *c, const struct plan *p, uint64_t *elems)
{
    struct run_diff all = {0};
    *elems = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (!c->cost[i].measured)
            continue;
        add_cost(&all, &c->cost[i].diff);
        *elems += tensor_elems(&p->dst.tensor[c->cost[i].tensor]);
    }
    return all;
}

void casts_print(const struct casts *c, const struct plan *p)
{
    uint64_t elems;
    struct run_diff all = in_all(c, p, &elems);
    if (!c->asked)
        return;
    for (size_t i = 0; i < c->n; i++) {
        const struct cast_cost *x = &c->cost[i];
        const struct tensor *t = &p->dst.tensor[x->tensor];
        print_fmt("cast ");
        print_name(t->name);
        print_fmt(": %s to %s: ", dtype_info(x->from)->name, dtype_info(x->to)->name);
        if (x->measured)
            say_cost(&x->diff, tensor_elems(t));
        else
            print_fmt("not measured\n");
    }
    print_fmt("casts in all, %zu tensor%s: ", c->n, c->n == 1 ? "" : "s");
    say_cost(&all, elems);
}

void casts_json(const struct casts *c, const struct plan *p)
{
    uint64_t elems;
    struct run_diff all = in_all(c, p, &elems);
    struct json_w *w = print_json();
    if (!c->asked)
        return;
    json_w_key(w, STR("casts"));
    json_w_array(w);
    for (size_t i = 0; i < c->n; i++) {
        const struct cast_cost *x = &c->cost[i];
        const struct tensor *t = &p->dst.tensor[x->tensor];
        w = print_json();
        json_w_object(w);
        json_pair(w, "tensor", t->name);
        json_pair(w, "from", str_from(dtype_info(x->from)->name));
        json_pair(w, "to", str_from(dtype_info(x->to)->name));
        json_w_key(w, STR("elements"));
        json_w_u64(w, tensor_elems(t));
        json_w_key(w, STR("measured"));
        json_w_bool(w, x->measured);
        if (x->measured)
            json_cost(w, &x->diff);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_key(w, STR("casts_in_all"));
    json_w_object(w);
    json_w_key(w, STR("elements"));
    json_w_u64(w, elems);
    json_cost(w, &all);
    json_w_object_end(w);
}
