/* nnferry validate: do two checkpoints compute the same? Level tensor compares numbers in the
 * canonical spelling; level layer runs each layer under either framework's own convention.
 */
#include "base/log.h"
#include "base/mem.h"
#include "cli/command.h"
#include "convert/map.h"
#include "convert/pair.h"
#include "validate/validate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct side {
    struct model m;
    struct plan p;
    const struct format *f;
};

static void json_metrics(struct json_w *w, const struct metrics *m)
{
    json_w_key(w, STR("max_abs"));
    json_w_double(w, m->max_abs);
    json_w_key(w, STR("max_rel"));
    json_w_double(w, m->max_rel);
    json_w_key(w, STR("mse"));
    json_w_double(w, m->mse);
    json_w_key(w, STR("cosine"));
    json_w_double(w, m->cosine);
    json_w_key(w, STR("max_ref"));
    json_w_double(w, m->max_ref);
    json_w_key(w, STR("values"));
    json_w_u64(w, m->n);
    json_w_key(w, STR("failed"));
    json_w_u64(w, m->n_fail);
    json_w_key(w, STR("first"));
    json_w_u64(w, m->first);
    json_w_key(w, STR("nonfinite"));
    json_w_u64(w, m->n_nonfinite);
}

static void json_layer(const struct validate_layer *l)
{
    struct json_w *w = print_json();
    const struct {
        const char *key;
        struct str value;
    } texts[] = {{"a", l->path_a},
                 {"b", l->path_b},
                 {"kind", str_from(layer_kind_name(l->kind))},
                 {"verdict", str_from(verdict_name(l->verdict))},
                 {"rung", str_from(rung_name(l->rung))},
                 {"why", l->why},
                 {"stage", l->stage},
                 {"input", l->input},
                 {"assumed", l->assumed},
                 {"cause", l->cause}};
    json_w_object(w);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (i >= 5 && texts[i].value.n == 0)
            continue;
        json_w_key(w, str_from(texts[i].key));
        json_w_str(w, texts[i].value);
    }
    json_w_key(w, STR("parameters"));
    json_w_u64(w, l->n_params);
    json_metrics(w, &l->m);
    json_w_key(w, STR("kernel_ns"));
    json_w_u64(w, l->kernel_ns);
    json_w_object_end(w);
}

static void print_verdict(enum verdict v)
{
    print_ink(v == VERDICT_EQUAL     ? INK_GOOD
              : v == VERDICT_DIFFERS ? INK_BAD
                                     : INK_DOUBT,
              verdict_name(v));
}

static void text_layer(const struct args *a, const struct validate_layer *l)
{
    if (l->verdict == VERDICT_EQUAL && a->set[OPT_QUIET])
        return;
    print_verdict(l->verdict);
    print_fmt("%*s %-14s ", 9 - (int)strlen(verdict_name(l->verdict)), "",
              l->kind == LAYER_NONE ? "tensor" : layer_kind_name(l->kind));
    print_name(l->path_a.n ? l->path_a : l->path_b);
    if (l->path_a.n && l->path_b.n && !str_eq(l->path_a, l->path_b)) {
        print_fmt(" = ");
        print_name(l->path_b);
    }
    if (l->m.n)
        print_fmt("  max abs %.3g, mse %.3g, cosine %.9g", l->m.max_abs, l->m.mse, l->m.cosine);
    if (l->why.n) {
        print_fmt("  ");
        print_name(l->why);
    }
    if (l->cause.n) {
        print_fmt(" (likely: ");
        print_name(l->cause);
        print_fmt(")");
    }
    if (l->assumed.n && a->set[OPT_VERBOSE]) {
        print_fmt("  assumed ");
        print_name(l->assumed);
    }
    print_fmt("\n");
}

static void text_report(const struct args *a, const struct validate_report *r)
{
    struct str rest = r->note, line;
    for (size_t i = 0; i < r->n; i++)
        text_layer(a, &r->layer[i]);
    while (rest.n && str_split(&rest, '\n', &line)) {
        if (line.n == 0)
            continue;
        print_fmt("note: "); /* plain already */
        print_str(line);
        print_fmt("\n");
    }
    print_fmt("computed by: ");
    print_name(r->executor);
    print_fmt(", %s%s", r->fp64 ? "float64" : "float32 with compensated sums",
              r->fallback ? " (fallback)" : "");
    if (r->kernel_ns)
        print_fmt(", %.3f ms in kernels", (double)r->kernel_ns / 1e6);
    print_fmt("\nproven: meaning %.2f %%, transport %.2f %% of %llu parameters\n",
              r->params_total ? 100.0 * (double)r->params_at[RUNG_MEANING] / (double)r->params_total
                              : 0.0,
              r->params_total
                  ? 100.0 * (double)r->params_at[RUNG_TRANSPORT] / (double)r->params_total
                  : 0.0,
              (unsigned long long)r->params_total);
    print_fmt("verdict: ");
    print_verdict(r->overall);
    print_fmt(": %zu equal, %zu differ, %zu unproven; coverage %.4g of %.4g\n", r->n_equal,
              r->n_differs, r->n_unproven, r->coverage, r->min_coverage);
}

static void json_report(const struct validate_report *r)
{
    struct json_w *w = print_json();
    json_w_key(w, STR("verdict"));
    json_w_str(w, str_from(verdict_name(r->overall)));
    json_w_key(w, STR("equal"));
    json_w_u64(w, r->n_equal);
    json_w_key(w, STR("differs"));
    json_w_u64(w, r->n_differs);
    json_w_key(w, STR("unproven"));
    json_w_u64(w, r->n_unproven);
    json_w_key(w, STR("coverage"));
    json_w_double(w, r->coverage);
    json_w_key(w, STR("min_coverage"));
    json_w_double(w, r->min_coverage);
    json_w_key(w, STR("parameters"));
    json_w_u64(w, r->params_total);
    json_w_key(w, STR("proven_by_meaning"));
    json_w_u64(w, r->params_at[RUNG_MEANING]);
    json_w_key(w, STR("proven_by_transport"));
    json_w_u64(w, r->params_at[RUNG_TRANSPORT]);
    json_w_key(w, STR("executor"));
    json_w_str(w, r->executor);
    json_w_key(w, STR("fp64"));
    json_w_bool(w, r->fp64);
    json_w_key(w, STR("fallback"));
    json_w_bool(w, r->fallback);
    json_w_key(w, STR("kernel_ns"));
    json_w_u64(w, r->kernel_ns);
    json_w_key(w, STR("notes"));
    json_w_str(w, r->note);
    json_w_key(w, STR("layers"));
    json_w_array(w);
    for (size_t i = 0; i < r->n; i++)
        json_layer(&r->layer[i]);
    json_w_array_end(print_json());
}

static void options(const struct args *a, struct validate_opt *o)
{
    *o = (struct validate_opt){
        .level = a->text[OPT_LEVEL] && strcmp(a->text[OPT_LEVEL], "tensor") == 0 ? VALIDATE_TENSOR
                                                                                 : VALIDATE_LAYER,
        .device = a->text[OPT_DEVICE],
        .vendors = getenv("OCL_ICD_VENDORS"),
        .seed = a->set[OPT_SEED] ? a->number[OPT_SEED] : 1,
        .rtol = a->set[OPT_RTOL] ? a->real[OPT_RTOL] : NAN,
        .atol = a->set[OPT_ATOL] ? a->real[OPT_ATOL] : NAN,
        .min_coverage = a->set[OPT_MIN_COVERAGE] ? a->real[OPT_MIN_COVERAGE] : NAN,
    };
    run_opt_fill(a, &o->run);
}

/* Level tensor: both sides in canonical names and axes. */
static enum status by_tensor(const struct args *a, struct side *s, struct validate_report *r,
                             struct err *e)
{
    struct validate_opt o;
    const char *from[2] = {a->text[OPT_FROM], a->text[OPT_TO]};
    uint32_t version;
    struct buf rules = BUF_INIT;
    enum status st = read_rules_file(a, &rules, e);
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        st = map_canonical_ruled(&s[i].p, from[i], buf_as_str(&rules), a->text[OPT_MAP], &version,
                                 e);
        if (st == ST_OK)
            st = plan_unpack(&s[i].p, e);
        if (st != ST_OK)
            err_file(e, a->arg[i]);
    }
    buf_free(&rules);
    if (st != ST_OK)
        return st;
    options(a, &o);
    return validate_run(&s[0].p, NULL, "canonical", &s[1].p, NULL, "canonical", NULL, &o, r, e);
}

/* The report's paths lie in *p: it is freed after printing. */
static enum status by_layer(const struct args *a, struct side *s, struct pairing *p,
                            struct validate_report *r, struct err *e)
{
    struct validate_opt o;
    struct buf rules = BUF_INIT;
    struct pair_opt po = {.from = {a->text[OPT_FROM], a->text[OPT_TO]},
                          .rules_path = a->text[OPT_MAP]};
    enum status st = read_rules_file(a, &rules, e);
    po.rules = buf_as_str(&rules);
    if (st == ST_OK)
        st = pair_layers(&s[0].m, &s[1].m, &po, p, e);
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        plan_init(&s[i].p, p->model[i]);
        st = plan_identity(&s[i].p, e);
        if (st == ST_OK)
            st = plan_unpack(&s[i].p, e);
    }
    if (st == ST_OK) {
        options(a, &o);
        st = validate_run(&s[0].p, &p->layers[0], p->layers[0].framework, &s[1].p, &p->layers[1],
                          p->layers[1].framework, p->pair, &o, r, e);
    }
    buf_free(&rules);
    return st;
}

static enum status run(struct args *a, struct err *e)
{
    struct side *s = mem_zalloc(2, sizeof *s);
    struct validate_report r = {0};
    struct pairing pairing = {0};
    enum status st = s ? ST_OK : err_nomem(e, 2 * sizeof *s);
    bool tensor = a->text[OPT_LEVEL] && strcmp(a->text[OPT_LEVEL], "tensor") == 0;
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        model_init(&s[i].m);
        plan_init(&s[i].p, &s[i].m);
        st = open_source(a, a->arg[i], &s[i].m, &s[i].f, e);
    }
    if (st == ST_OK)
        st = tensor ? by_tensor(a, s, &r, e) : by_layer(a, s, &pairing, &r, e);
    for (size_t k = 0; s && k < 2; k++)
        for (size_t i = 0; i < s[k].m.n_files && st == ST_OK; i++)
            st = file_check(s[k].m.file[i], e);
    if (st == ST_OK) {
        if (a->set[OPT_JSON])
            json_report(&r);
        else
            text_report(a, &r);
        if (r.overall != VERDICT_EQUAL) {
            *e = (struct err){.status = ST_NO};
            st = ST_NO;
        }
    }
    validate_free(&r);
    pair_free(&pairing);
    for (size_t k = 0; s && k < 2; k++) {
        plan_free(&s[k].p);
        model_free(&s[k].m);
    }
    mem_free(s);
    return st;
}

static const enum opt opts[] = {OPT_DEVICE,       OPT_LEVEL, OPT_SEED, OPT_RTOL, OPT_ATOL,
                                OPT_MIN_COVERAGE, OPT_FROM,  OPT_TO,   OPT_MAP,  OPT_N};
const struct command validate_command = {
    "validate", "A B", "Tell whether two checkpoints compute the same", opts, 2, 2, run, true};
