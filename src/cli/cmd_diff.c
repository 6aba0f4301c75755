/* nnferry diff: which tensors differ, by how much, under which name. Sources with the same names
 * are compared as they are; else both are brought to canonical names and axes first.
 */
#include "base/mem.h"
#include "cli/command.h"
#include "convert/map.h"
#include <string.h>

struct side {
    struct model m;
    struct plan p;
    const struct format *f;
};

static bool same_names(const struct model *a, const struct model *b)
{
    size_t hits = 0;
    for (size_t i = 0; i < a->n_tensors; i++)
        hits += model_find(b, a->tensor[i].name) >= 0;
    /* most of either side: a few missing tensors are what diff is asked for */
    size_t most = a->n_tensors > b->n_tensors ? a->n_tensors : b->n_tensors;
    return hits * 2 >= most;
}

static enum status open_side(const struct args *a, size_t i, struct side *s, struct err *e)
{
    model_init(&s->m);
    plan_init(&s->p, &s->m);
    return open_source(a, a->arg[i], &s->m, &s->f, e);
}

static enum status plan_side(const struct args *a, size_t i, struct side *s, bool canonical,
                             struct str rules, struct err *e)
{
    uint32_t version;
    enum status st = canonical
                         ? map_canonical_ruled(&s->p, NULL, rules, a->text[OPT_MAP], &version, e)
                         : plan_identity(&s->p, e);
    if (st == ST_OK)
        st = plan_unpack(&s->p, e);
    if (st != ST_OK)
        err_file(e, a->arg[i]);
    return st;
}

/* What the source holds: blocks are compared by what they unpack to. */
static enum dtype shown(const struct side *s, size_t t)
{
    const struct tensor *x = &s->p.dst.tensor[t];
    const struct recipe *r = &s->p.recipe[x->alias_of >= 0 ? (size_t)x->alias_of : t];
    return r->n_parts && part_unpacks(&r->part[0]) ? s->p.src->tensor[r->part[0].src].dtype
                                                   : x->dtype;
}

static bool same_shape(const struct tensor *x, const struct tensor *y)
{
    return x->n_dims == y->n_dims && memcmp(x->dim, y->dim, x->n_dims * sizeof *x->dim) == 0;
}

static void only(const struct args *a, const char *where, const struct tensor *t)
{
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_object(w);
        json_w_key(w, STR("name"));
        json_w_str(w, t->name);
        json_w_key(w, STR("only_in"));
        json_w_str(w, str_from(where));
        json_w_object_end(w);
    } else {
        print_fmt("only in %s: ", where);
        print_name(t->name);
        print_fmt("\n");
    }
}

static void shapes_differ(const struct args *a, const struct tensor *x, const struct tensor *y)
{
    char s1[1400], s2[1400];
    shape_text(x, s1, sizeof s1);
    shape_text(y, s2, sizeof s2);
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_object(w);
        json_w_key(w, STR("name"));
        json_w_str(w, x->name);
        json_w_key(w, STR("shape_a"));
        json_w_str(w, str_from(s1));
        json_w_key(w, STR("shape_b"));
        json_w_str(w, str_from(s2));
        json_w_object_end(w);
    } else {
        print_fmt("shape %s against %s: ", s1, s2);
        print_name(x->name);
        print_fmt("\n");
    }
}

static void values_differ(const struct args *a, const struct tensor *x, enum dtype tx,
                          enum dtype ty, const struct run_diff *d)
{
    if (a->set[OPT_JSON]) {
        struct json_w *w = print_json();
        json_w_object(w);
        json_w_key(w, STR("name"));
        json_w_str(w, x->name);
        json_w_key(w, STR("dtype_a"));
        json_w_str(w, str_from(dtype_info(tx)->name));
        json_w_key(w, STR("dtype_b"));
        json_w_str(w, str_from(dtype_info(ty)->name));
        json_w_key(w, STR("unequal"));
        json_w_u64(w, d->n_unequal);
        json_w_key(w, STR("first"));
        json_w_u64(w, d->first);
        json_w_key(w, STR("max_abs"));
        json_w_double(w, d->max_abs);
        json_w_key(w, STR("max_rel"));
        json_w_double(w, d->max_rel);
        json_w_key(w, STR("mse"));
        json_w_double(w, d->mse);
        json_w_key(w, STR("cosine"));
        json_w_double(w, d->cosine);
        json_w_key(w, STR("nonfinite"));
        json_w_u64(w, d->n_nonfinite);
        json_w_object_end(w);
        return;
    }
    print_ink(INK_BAD, "differs");
    print_fmt(": ");
    print_name(x->name);
    if (tx != ty)
        print_fmt(" %s against %s", dtype_info(tx)->name, dtype_info(ty)->name);
    if (d->n_unequal)
        print_fmt(" %llu of %llu values, first at %llu, max abs %.3g, mse %.3g, cosine %.9g",
                  (unsigned long long)d->n_unequal, (unsigned long long)tensor_elems(x),
                  (unsigned long long)d->first, d->max_abs, d->mse, d->cosine);
    else
        print_fmt(" in bits only");
    print_fmt("\n");
}

static enum status compare(const struct args *a, struct side *s, uint64_t *n_differ, struct err *e)
{
    const struct model *ma = &s[0].p.dst, *mb = &s[1].p.dst;
    size_t n = ma->n_tensors ? ma->n_tensors : 1;
    struct run_diff *d = mem_zalloc(n, sizeof *d);
    int64_t *pair = mem_zalloc(n, sizeof *pair);
    struct run_opt ro;
    enum status st = d && pair ? ST_OK : err_nomem(e, n * sizeof *d);
    double rtol = a->set[OPT_RTOL] ? a->real[OPT_RTOL] : 0;
    double atol = a->set[OPT_ATOL] ? a->real[OPT_ATOL] : 0;
    bool tolerant = a->set[OPT_RTOL] || a->set[OPT_ATOL];
    run_opt_fill(a, &ro);
    for (size_t i = 0; st == ST_OK && i < ma->n_tensors; i++) {
        int64_t k = model_find(mb, ma->tensor[i].name);
        pair[i] = -1;
        if (k < 0)
            continue;
        if (same_shape(&ma->tensor[i], &mb->tensor[k]))
            pair[i] = k;
    }
    if (st == ST_OK)
        st = run_compare(&s[0].p, &s[1].p, pair, rtol, atol, &ro, d, e);
    for (size_t i = 0; st == ST_OK && i < ma->n_tensors; i++) {
        const struct tensor *x = &ma->tensor[i];
        int64_t k = model_find(mb, x->name);
        if (k < 0) {
            only(a, "A", x);
        } else if (pair[i] < 0) {
            shapes_differ(a, x, &mb->tensor[k]);
        } else if (tolerant ? d[i].n_fail || d[i].n_nonfinite
                            : !d[i].bit_equal || shown(&s[0], i) != shown(&s[1], (size_t)k)) {
            values_differ(a, x, shown(&s[0], i), shown(&s[1], (size_t)k), &d[i]);
        } else {
            continue;
        }
        ++*n_differ;
    }
    for (size_t i = 0; st == ST_OK && i < mb->n_tensors; i++) {
        if (model_find(ma, mb->tensor[i].name) < 0) {
            only(a, "B", &mb->tensor[i]);
            ++*n_differ;
        }
    }
    mem_free(pair);
    mem_free(d);
    return st;
}

static enum status run(struct args *a, struct err *e)
{
    struct side *s = mem_zalloc(2, sizeof *s);
    uint64_t n_differ = 0;
    if (!s)
        return err_nomem(e, 2 * sizeof *s);
    enum status st = open_side(a, 0, &s[0], e);
    if (st == ST_OK)
        st = open_side(a, 1, &s[1], e);
    bool canonical = st == ST_OK && !same_names(&s[0].m, &s[1].m);
    struct buf rules = BUF_INIT;
    if (st == ST_OK)
        st = read_rules_file(a, &rules, e);
    for (size_t i = 0; i < 2 && st == ST_OK; i++)
        st = plan_side(a, i, &s[i], canonical, buf_as_str(&rules), e);
    buf_free(&rules);
    if (st == ST_OK && a->set[OPT_JSON]) {
        json_w_key(print_json(), STR("canonical"));
        json_w_bool(print_json(), canonical);
        json_w_key(print_json(), STR("differences"));
        json_w_array(print_json());
    }
    if (st == ST_OK) {
        st = compare(a, s, &n_differ, e);
        if (a->set[OPT_JSON])
            json_w_array_end(print_json());
        else if (st == ST_OK)
            print_fmt("%llu of %zu tensors differ%s\n", (unsigned long long)n_differ,
                      s[0].p.dst.n_tensors, canonical ? " (canonical names and axes)" : "");
    }
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < s[k].m.n_files && st == ST_OK; i++)
            st = file_check(s[k].m.file[i], e);
    for (size_t k = 0; k < 2; k++) {
        plan_free(&s[k].p);
        model_free(&s[k].m);
    }
    mem_free(s);
    if (st == ST_OK && n_differ) {
        *e = (struct err){.status = ST_NO};
        st = ST_NO;
    }
    return st;
}

static const enum opt opts[] = {OPT_RTOL, OPT_ATOL, OPT_MAP, OPT_INPUT_FORMAT, OPT_N};
const struct command diff_command = {
    "diff", "A B", "Tell which tensors differ, by how much", opts, 2, 2, run, false};
