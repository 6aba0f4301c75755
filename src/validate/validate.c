/* The run: an executor, the layers one after the other, the report. A device that fails, hangs or
 * lies is given up for the native executor, with a warning, unless the user named it; and a device
 * never has the last word on a difference: it is computed again natively.
 */
#include "validate/validate.h"
#include "base/child.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "validate/cause.h"
#include "validate/flatten.h"
#include "validate/verdict.h"

#include <math.h>
#include <string.h>

enum { PASS_ELEMS = 1 << 19, BLOCK_BYTES = 32 << 20, BLOCK_LEAST = 1 << 18 };

struct work {
    const struct plan *a, *b;
    const struct layers *la, *lb;
    const struct convention *ca, *cb;
    const struct validate_opt *o;
    struct executor *device; /* NULL: none, or given up */
    struct executor *native;
    bool named; /* the user chose the device: no falling back */
    uint64_t block_elems;
    struct coverage cover;
    struct validate_report *out;
};

static enum status text_line(struct validate_report *r, struct str *text, const char *line,
                             struct err *e)
{
    struct str t = arena_fmt(&r->arena, "%.*s%s\n", STR_ARG(*text), line);
    if (!t.p)
        return err_nomem(e, text->n);
    *text = t;
    return ST_OK;
}

/* ---- executors ---- */

static enum status give_up(struct work *w, const struct err *why, struct err *e)
{
    char line[700];
    err_line(why, line, sizeof line);
    if (w->named || why->status != ST_DEVICE) {
        if (e)
            *e = *why;
        return why->status;
    }
    log_warn("%s; computing natively", line);
    if (w->device) {
        w->out->kernel_ns += w->device->kernel_ns;
        w->device->close(w->device);
    }
    w->device = NULL;
    w->out->fallback = true;
    return text_line(w->out, &w->out->note, line, e);
}

static enum status open_executors(struct work *w, struct err *e)
{
    const struct validate_opt *o = w->o;
    const char *sel = o->device;
    struct executor *x = NULL;
    TRY(native_open(true, &w->native, e));
    w->named = sel && sel[0] && strcmp(sel, "native") != 0;
    if (!sel || strcmp(sel, "native") != 0) {
        struct buf tried = BUF_INIT;
        struct err why = {0};
        struct device_opt d = {.selector = sel,
                               .vendors = o->vendors,
                               .seed = o->seed,
                               .hello_ms = o->deadline_ms,
                               .probe_ms = o->deadline_ms,
                               .build_ms = o->deadline_ms,
                               .run_ms = o->deadline_ms};
        enum status st = device_open(&d, &x, &tried, &why);
        struct str note = arena_fmt(&w->out->arena, "%.*s", STR_ARG(buf_as_str(&tried)));
        buf_free(&tried);
        if (!note.p) {
            if (x)
                x->close(x);
            return err_nomem(e, 1024);
        }
        w->out->note = note;
        w->device = x;
        if (st != ST_OK)
            TRY(give_up(w, &why, e));
    }
    x = w->device ? w->device : w->native;
    w->out->executor = arena_fmt(&w->out->arena, "%s", x->name);
    w->out->fp64 = x->fp64;
    return w->out->executor.p ? ST_OK : err_nomem(e, sizeof x->name);
}

static void close_executors(struct work *w)
{
    if (w->device) {
        w->out->kernel_ns += w->device->kernel_ns;
        w->device->close(w->device);
    }
    if (w->native)
        w->native->close(w->native);
}

/* ---- one layer ---- */

static enum status unproven(struct work *w, struct validate_layer *l, enum verdict v,
                            struct str why, struct err *e)
{
    (void)w;
    l->verdict = v;
    l->why = why;
    return why.p ? ST_OK : err_nomem(e, 128);
}

/* A layer nobody has a rule for: its tensors, if they pair, can still hold the same values. */
static enum status transport(struct work *w, const struct layer *x, const struct layer *y,
                             struct validate_layer *l, struct err *e)
{
    size_t n = w->a->dst.n_tensors;
    int64_t *b_of = mem_alloc(n * sizeof *b_of + 1);
    struct run_diff *diff = mem_zalloc(n + 1, sizeof *diff);
    enum status st = b_of && diff ? ST_OK : err_nomem(e, n * sizeof *diff);
    bool paired = true, equal = true;
    for (size_t i = 0; st == ST_OK && i < n; i++)
        b_of[i] = -1;
    for (int i = 0; st == ST_OK && i < LEAF_N; i++) {
        int64_t ta = x->tensor[i], tb = y->tensor[i];
        if (ta < 0 && tb < 0)
            continue;
        const struct tensor *p = ta >= 0 ? &w->a->dst.tensor[ta] : NULL;
        const struct tensor *q = tb >= 0 ? &w->b->dst.tensor[tb] : NULL;
        paired = paired && p && q && p->dtype == q->dtype && p->n_dims == q->n_dims &&
                 memcmp(p->dim, q->dim, p->n_dims * sizeof p->dim[0]) == 0;
        if (paired)
            b_of[ta] = tb;
    }
    if (st == ST_OK && paired) {
        st = run_compare(w->a, w->b, b_of, 0, 0, &w->o->run, diff, e);
        for (size_t i = 0; st == ST_OK && i < n; i++)
            if (b_of[i] >= 0 && diff[i].n_unequal > 0)
                equal = false;
    }
    mem_free(b_of);
    mem_free(diff);
    TRY(st);
    l->rung = paired && equal ? RUNG_TRANSPORT : RUNG_NONE;
    return unproven(w, l, paired && !equal ? VERDICT_DIFFERS : VERDICT_UNPROVEN,
                    paired && equal ? STR("no rule for this layer; its tensors hold equal values")
                    : paired        ? STR("no rule for this layer, and its values differ")
                                    : STR("no rule for this layer"),
                    e);
}

/* The stage to tell about: the first with a fault, else the last. */
static size_t telling_stage(const struct setting *s, const struct comparison *c)
{
    size_t k = 0;
    while (k + 1 < s->n_stages && c[k].m.n_fail == 0)
        k++;
    return k;
}

static enum status compute(struct work *w, const struct setting *s, const struct side *a,
                           const struct side *b, const struct layer_types *t,
                           struct validate_layer *l, struct err *e)
{
    struct comparison c[STAGES_MAX];
    bool equal = false, on_device = w->device && (w->device->fp64 || !t->has_f64);
    uint64_t before = on_device ? w->device->kernel_ns : 0;
    struct err why = {0};
    enum status st = ST_OK;
    memset(c, 0, sizeof c);
    if (on_device) {
        st = stages_compare(s, a, b, w->device, w->block_elems, t->rtol, t->atol, c, &equal, &why);
        if (st == ST_DEVICE) {
            TRY(give_up(w, &why, e));
            on_device = false;
        } else if (st != ST_OK) {
            if (e)
                *e = why;
            return st;
        } else
            l->kernel_ns = w->device->kernel_ns - before;
    }
    if (!on_device || !equal) {
        TRY(stages_compare(s, a, b, w->native, w->block_elems, t->rtol, t->atol, c, &equal, e));
        if (on_device && equal) {
            (void)err_set(&why, ST_DEVICE, "device-lied", "%s found a difference that is not there",
                          w->device->name);
            TRY(give_up(w, &why, e));
            on_device = false;
            l->kernel_ns = 0;
        }
    }
    l->native = !on_device;
    size_t k = telling_stage(s, c);
    l->m = c[k].m;
    l->stage = str_from(s->stage[k].name);
    l->verdict = equal ? VERDICT_EQUAL : VERDICT_DIFFERS;
    l->rung = equal ? RUNG_MEANING : RUNG_NONE;
    if (!equal) {
        TRY(cause_find(s, a, b, w->native, t->rtol, t->atol, c, &w->out->arena, &l->cause, e));
        return unproven(w, l, VERDICT_DIFFERS,
                        arena_fmt(&w->out->arena, "%s: %llu of %llu values", s->stage[k].name,
                                  (unsigned long long)c[k].m.n_fail, (unsigned long long)c[k].m.n),
                        e);
    }
    for (size_t i = 0; i < s->n_stages; i++)
        if (c[i].m.n_finite < c[i].m.n) {
            l->rung = RUNG_NONE;
            return unproven(w, l, VERDICT_UNPROVEN,
                            STR("values that are not finite hide the others"), e);
        }
    return ST_OK;
}

/* Two layers with a rule, under both conventions. */
static enum status do_pair(struct work *w, size_t i, const struct layer *x, const struct layer *y,
                           struct validate_layer *l, struct err *e)
{
    struct setting s;
    struct side a = {.convention = w->ca, .layer = x, .plan = w->a};
    struct side b = {.convention = w->cb, .layer = y, .plan = w->b};
    struct layer_types types;
    struct str why;
    memset(&s, 0, sizeof s);
    s.seed = w->o->seed;
    s.stream = i;
    enum status st =
        setting_make(&s, &a, &b, PASS_ELEMS, &w->out->arena, &why, &l->assumed, &l->input, e);
    if (st == ST_NO || st == ST_CANNOT)
        return unproven(w, l, st == ST_NO ? VERDICT_DIFFERS : VERDICT_UNPROVEN, why, e);
    TRY(st);
    if (!layer_dtypes(&a, &b, &types))
        return unproven(w, l, VERDICT_UNPROVEN, STR("complex and block types are not computed"), e);
    if (!isnan(w->o->rtol))
        types.rtol = w->o->rtol;
    if (!isnan(w->o->atol))
        types.atol = w->o->atol;
    return compute(w, &s, &a, &b, &types, l, e);
}

/* Nobody says whether the layer follows a flattened map: which answers would make it equal? */
static enum status do_open(struct work *w, size_t i, const struct layer *y,
                           const uint64_t *channels, size_t n, uint64_t inputs,
                           struct validate_layer *l, struct err *e)
{
    struct arena *arena = &w->out->arena;
    struct validate_layer plain = *l;
    struct str answers = STR_NONE;
    for (size_t k = 0; k <= n; k++) {
        struct layer x2 = w->la->layer[i], y2 = *y;
        struct validate_layer t = *l;
        x2.flat_c = y2.flat_c = k == 0 ? 0 : channels[k - 1];
        TRY(do_pair(w, i, &x2, &y2, &t, e));
        if (k == 0)
            plain = t;
        if (t.verdict != VERDICT_EQUAL)
            continue;
        struct str first = answers.p ? STR(" or ") : STR("");
        struct str text =
            k == 0 ? arena_fmt(arena, "not a flattened map")
                   : arena_fmt(arena, "%.*s%.*sa flattened map of %llu channels", STR_ARG(answers),
                               STR_ARG(first), (unsigned long long)channels[k - 1]);
        if (!text.p)
            return err_nomem(e, 128);
        if (!answers.p)
            plain = t;
        answers = text;
    }
    *l = plain;
    if (!answers.p)
        return ST_OK;
    l->rung = RUNG_NONE;
    return unproven(w, l, VERDICT_UNPROVEN,
                    arena_fmt(arena, "equal if its %llu inputs are %.*s; a rules file must tell",
                              (unsigned long long)inputs, STR_ARG(answers)),
                    e);
}

/* Paths outlive the layers: kept with the report. */
static enum status path_kept(struct arena *a, struct str path, struct str *out, struct err *e)
{
    *out = arena_str(a, path.p ? path.p : "", path.n);
    return out->p ? ST_OK : err_nomem(e, path.n);
}

static enum status do_layer(struct work *w, size_t i, int64_t partner, struct validate_layer *l,
                            struct err *e)
{
    const struct layer *x = &w->la->layer[i];
    TRY(path_kept(&w->out->arena, x->path, &l->path_a, e));
    l->kind = x->kind;
    if (partner < 0)
        return unproven(w, l, VERDICT_UNPROVEN, STR("no partner"), e);
    const struct layer *y = &w->lb->layer[partner];
    TRY(path_kept(&w->out->arena, y->path, &l->path_b, e));
    if (x->kind == LAYER_NONE && y->kind == LAYER_NONE)
        return transport(w, x, y, l, e);
    if (x->kind == LAYER_NONE || y->kind == LAYER_NONE)
        return unproven(w, l, VERDICT_UNPROVEN, STR("no rule for this layer on one side"), e);
    if (!w->ca || !w->cb)
        return unproven(w, l, VERDICT_UNPROVEN,
                        arena_fmt(&w->out->arena, "no convention of %s",
                                  !w->ca ? w->la->framework : w->lb->framework),
                        e);
    uint64_t channels[FLATTEN_MAX], inputs;
    size_t n = y->flat_c || y->flat_said
                   ? 0
                   : flatten_candidates(w->la, i, w->a, w->ca, w->cb, channels, &inputs);
    if (n > 0)
        return do_open(w, i, y, channels, n, inputs, l, e);
    return do_pair(w, i, x, y, l, e);
}

/* ---- all of them ---- */

static uint64_t layer_params(const struct plan *p, const struct layer *l)
{
    uint64_t n = 0;
    for (int i = 0; i < LEAF_N; i++)
        if (!leaf_is_count((enum leaf)i) && l->tensor[i] >= 0)
            n += tensor_elems(&p->dst.tensor[l->tensor[i]]);
    return n;
}

static enum status do_layers(struct work *w, const int64_t *pair, struct err *e)
{
    struct validate_report *out = w->out;
    bool *met = mem_zalloc(w->lb->n + 1, sizeof *met);
    if (!met)
        return err_nomem(e, w->lb->n);
    enum status st = ST_OK;
    for (size_t i = 0; i < w->la->n && st == ST_OK; i++)
        for (int k = 0; k < LEAF_N; k++)
            if (leaf_is_count((enum leaf)k))
                coverage_apart(&w->cover, w->la->layer[i].tensor[k]);
    for (size_t i = 0; i < w->la->n && st == ST_OK; i++) {
        const struct layer *x = &w->la->layer[i];
        struct validate_layer *l = &out->layer[out->n++];
        int64_t k = pair[i];
        if (k >= (int64_t)w->lb->n)
            st = err_set(e, ST_BUG, NULL, "a layer is paired with number %lld of %zu", (long long)k,
                         w->lb->n);
        if (st == ST_OK && k >= 0)
            met[k] = true;
        if (st == ST_OK)
            st = stop_check(e);
        if (st == ST_OK)
            st = do_layer(w, i, k, l, e);
        if (st == ST_OK) {
            l->n_params = layer_params(w->a, x);
            for (int q = 0; q < LEAF_N; q++)
                coverage_add(&w->cover, x->tensor[q], l->rung);
            log_detail("%.*s: %s", STR_ARG(l->path_a), verdict_name(l->verdict));
        }
    }
    for (size_t k = 0; k < w->lb->n && st == ST_OK; k++) {
        uint64_t n = layer_params(w->b, &w->lb->layer[k]);
        if (met[k] || n == 0)
            continue;
        struct validate_layer *l = &out->layer[out->n++];
        st = path_kept(&out->arena, w->lb->layer[k].path, &l->path_b, e);
        l->kind = w->lb->layer[k].kind;
        l->verdict = VERDICT_UNPROVEN;
        l->why = STR("no partner");
        l->n_params = n;
        out->params_total += n;
        out->params_at[RUNG_NONE] += n;
    }
    mem_free(met);
    return st;
}

static enum status validate_layers(const struct plan *a, const struct layers *la,
                                   const char *framework_a, const struct plan *b,
                                   const struct layers *lb, const char *framework_b,
                                   const int64_t *pair, const struct validate_opt *o,
                                   struct validate_report *out, struct err *e)
{
    struct work w = {.a = a,
                     .b = b,
                     .la = la,
                     .lb = lb,
                     .ca = convention_find(framework_a),
                     .cb = convention_find(framework_b),
                     .o = o,
                     .out = out};
    uint64_t room = o->run.memory ? o->run.memory / 8 : BLOCK_BYTES;
    if (mem_ceiling() > 0 && mem_ceiling() / 8 < room)
        room = mem_ceiling() / 8;
    room = room > BLOCK_BYTES ? BLOCK_BYTES : room < BLOCK_LEAST ? BLOCK_LEAST : room;
    w.block_elems = room / sizeof(double);
    out->layer = ARENA_ARRAY(&out->arena, struct validate_layer, la->n + lb->n + 1);
    if (!out->layer)
        return err_nomem(e, (la->n + lb->n) * sizeof *out->layer);
    TRY(coverage_begin(&w.cover, a, e));
    enum status st = open_executors(&w, e);
    if (st == ST_OK)
        st = do_layers(&w, pair, e);
    close_executors(&w);
    coverage_end(&w.cover, out);
    if (st == ST_OK)
        verdict_overall(out, o);
    return st;
}

enum status validate_run(const struct plan *a, const struct layers *la, const char *framework_a,
                         const struct plan *b, const struct layers *lb, const char *framework_b,
                         const int64_t *pair, const struct validate_opt *o,
                         struct validate_report *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (o->level == VALIDATE_LAYER)
        return validate_layers(a, la, framework_a, b, lb, framework_b, pair, o, out, e);
    out->executor = STR("native");
    out->fp64 = true;
    return validate_tensors(a, b, o, out, e);
}

void validate_free(struct validate_report *r)
{
    arena_free(&r->arena);
    r->layer = NULL;
    r->n = 0;
}
