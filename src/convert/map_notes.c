/* What the same weights would compute otherwise in the target, since its defaults are not the
 * source's (framework/defaults.h): an epsilon, a padding, the gelu that is meant. A note for each
 * layer says what the source has, what the target does unless told, and what to set. Where a config
 * tells the value that one counts, else the source framework's own default.
 *
 * What a config told is carried on where the target keeps key-values, under "nnferry.settings":
 *   {"layers":[{"path":"bn1","epsilon":0.001,"momentum":0.99,"padding":"same","strided":true,
 *               "activation":"tanh","gates":"sigmoid","batch":"first"}],
 *    "functions":[{"path":"act","of":"gelu","setting":"form","means":"exact"}]}
 * so that an archive knows it as its source did. Read, it is a hint: damaged, it says nothing.
 */
#include "base/cursor.h"
#include "codec/json_tree.h"
#include "convert/map_int.h"
#include "framework/defaults.h"
#include <stdlib.h>
#include <string.h>

#define SETTINGS_KEY "nnferry.settings"
#define NOTES_LOOKED_AT 16
#define SIDES_MAX 80 /* of text: three numbers */
#define SETTINGS_BYTES_MAX ((uint64_t)8 << 20)
#define VALUE_BYTES 8 /* of text, at least, for each of our values */

/* ---- notes ---- */

/* Who spelled the weights: of an archive the framework it came from. */
const char *map_origin(struct mapping *m)
{
    struct cursor c;
    struct json j;
    struct err quiet = {0};
    if (m->origin)
        return m->origin;
    m->origin = m->from->name;
    if (strcmp(m->from->name, "canonical") != 0 || !m->src->spelling.n)
        return m->origin;
    cur_mem(&c, m->src->spelling.p, m->src->spelling.n, "spelling", 0);
    json_init(&j, &c, 0);
    enum status st = json_expect(&j, JSON_OBJECT, "the spelling", &quiet);
    while (st == ST_OK) {
        st = json_next(&j, &quiet);
        if (st != ST_OK || j.kind != JSON_KEY)
            break;
        bool found = str_is(j.text, "framework");
        st = json_next(&j, &quiet);
        const struct framework *f = st == ST_OK && found ? framework_find(j.text) : NULL;
        if (f)
            m->origin = f->name;
        if (found || st != ST_OK)
            break;
        st = json_skip(&j, &quiet);
    }
    json_free(&j);
    cur_close(&c);
    return m->origin;
}

/* One setting of a layer or a function, on both sides. */
struct pair_of {
    struct str path;
    const char *of, *setting;
    struct str said; /* by the source's config; empty: not said */
    struct str met;  /* by the skeleton's */
    const char *hint;
    struct said_at at; /* where the skeleton's config has `met` */
};

/* Whose defaults count for a setting: files of Keras 2 are Keras's, and the gates of its
 * convolutional LSTM are not those of Keras 3. */
static const char *rules_of(struct mapping *m, const char *of, const char *setting)
{
    const char *from = map_origin(m);
    if (strcmp(from, "keras") != 0 || strcmp(of, "conv_lstm") != 0 || strcmp(setting, "gates") != 0)
        return from;
    for (size_t i = 0; i < m->src->n_meta; i++)
        if (str_is(m->src->meta[i].key, "keras_version") &&
            str_starts(m->src->meta[i].value, STR("2.")))
            return "tensorflow";
    return from;
}

static struct str kept(struct arena *a, struct str text)
{
    return text.n ? arena_str(a, text.p, text.n) : STR("");
}

/* A note of the last ones that says the same of another layer. */
static const struct plan_note *alike(const struct plan *p, const struct pair_of *x, struct str a,
                                     struct str b, bool known)
{
    for (size_t i = p->n_notes; i-- > 0 && p->n_notes - i <= NOTES_LOOKED_AT;) {
        const struct plan_note *n = &p->note[i];
        if (!x->hint && !x->met.n && !n->special && strcmp(n->of, x->of) == 0 &&
            strcmp(n->setting, x->setting) == 0 && n->known == known && str_eq(n->source, a) &&
            str_eq(n->target, b))
            return n;
    }
    return NULL;
}

/* How a note begins: "epsilon is", before the value. */
static const char *phrase(const struct pair_of *x)
{
    static const struct {
        const char *of, *setting, *text;
    } phrases[] = {
        {NULL, "epsilon", "epsilon is"},
        {NULL, "momentum", "momentum keeps"},
        {NULL, "groups", "the number of groups is"},
        {NULL, "factor", "the norm's factor is"},
        {"max_pool", "padding", "the pool's padding is"},
        {"avg_pool", "padding", "the pool's padding is"},
        {NULL, "padding", "padding is"},
        {NULL, "stride", "the stride is"},
        {NULL, "dilation", "the dilation is"},
        {NULL, "batch", "the batch axis is"},
        {NULL, "activation", "the activation is"},
        {NULL, "gates", "the gates' function is"},
        {NULL, "reset", "the reset comes"},
        {NULL, "pairs", "rotary columns are paired as"},
        {"gelu", "form", "gelu is"},
        {"hard_sigmoid", "form", "hard_sigmoid is"},
        {NULL, "slope", "leaky_relu's slope is"},
        {NULL, "border", "padding in the pool's divisor is"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (strcmp(phrases[i].setting, x->setting) == 0 &&
            (!phrases[i].of || strcmp(phrases[i].of, x->of) == 0))
            return phrases[i].text;
    return x->setting;
}

static enum status note(struct mapping *m, const struct pair_of *x, const struct fact *to,
                        struct str a, struct str b, struct err *e)
{
    const char *from = rules_of(m, x->of, x->setting), *target = m->to->name;
    /* what the source's framework always does is as good as said */
    const struct fact *own = fact_find(from, x->of, x->setting);
    bool known = x->said.n || (own && !own->argument);
    const struct plan_note *like = alike(m->p, x, a, b, known);
    if (like) {
        struct plan_note n = *like;
        n.layer = x->path;
        return map_note(m, &n, e);
    }
    struct str value = fact_spell(to, target, a, m->a), set = STR("");
    if (!value.p)
        return err_nomem(e, 64);
    if (known && value.n)
        set = arena_fmt(m->a, "%s=%.*s", to->argument, STR_ARG(value));
    struct str now = x->met.n       ? arena_fmt(m->a, "%.*s in the skeleton", STR_ARG(b))
                     : !b.n         ? arena_fmt(m->a, "%s has no default", target)
                     : to->argument ? arena_fmt(m->a, "%.*s in %s by default", STR_ARG(b), target)
                                    : arena_fmt(m->a, "always %.*s in %s", STR_ARG(b), target);
    struct str todo = x->hint        ? str_from(x->hint)
                      : set.n        ? arena_fmt(m->a, "set %.*s", STR_ARG(set))
                      : known        ? STR("the model must do it itself")
                      : to->argument ? arena_fmt(m->a, "set %s to what the model has", to->argument)
                                     : STR("the model must see to it");
    struct str text = arena_fmt(m->a, "%s %.*s in %s%s, %.*s: %.*s%s", phrase(x), STR_ARG(a), from,
                                known ? "" : " by default", STR_ARG(now), STR_ARG(todo),
                                fact_trains(x->setting) ? " (training alone)" : "");
    a = kept(m->a, a);
    b = kept(m->a, b);
    if (!set.p || !now.p || !todo.p || !text.p || !a.p || !b.p)
        return err_nomem(e, 256);
    struct plan_note n = {.layer = x->path,
                          .text = text,
                          .of = x->of,
                          .setting = x->setting,
                          .source = a,
                          .target = b,
                          .set = x->hint && !x->at.n ? STR("") : set,
                          .special = x->hint || x->met.n,
                          .known = known};
    return map_note(m, &n, e);
}

/* What the target's cell can never do is no matter of settings: its results are others. */
static enum status not_done(struct mapping *m, const struct pair_of *x, struct str b, struct err *e)
{
    struct str name = arena_fmt(m->a, "%.*s.%s", STR_ARG(x->path), x->setting);
    struct str why = arena_fmt(m->a, "%s's %s has %.*s and no other, not %.*s", m->to->name, x->of,
                               STR_ARG(b), STR_ARG(x->said));
    return name.p && why.p ? map_ledger_drop(m, LEDGER_STRUCTURE, name, 0, false, why, e)
                           : err_nomem(e, x->path.n);
}

static enum status compare(struct mapping *m, const struct pair_of *x, struct err *e)
{
    const struct fact *from = fact_find(rules_of(m, x->of, x->setting), x->of, x->setting),
                      *to = fact_find(m->to->name, x->of, x->setting);
    struct str a = x->said.n             ? x->said
                   : from && from->means ? str_from(from->means)
                                         : STR(""),
               b = x->met.n          ? x->met
                   : to && to->means ? str_from(to->means)
                                     : STR("");
    if (!to || !a.n || fact_same(a, b))
        return ST_OK;
    bool cell = strcmp(x->setting, "activation") == 0 || strcmp(x->setting, "gates") == 0 ||
                (strcmp(x->of, "conv_lstm") == 0 && strcmp(x->setting, "batch") != 0);
    return cell && x->said.n && !to->argument ? not_done(m, x, b, e) : note(m, x, to, a, b, e);
}

/* Both are told, by configs, and the skeleton's goes along: then it says the source's. */
static enum status patch(struct mapping *m, struct pair_of *x, struct err *e)
{
    struct buf b = BUF_INIT;
    struct json_w w;
    struct patch *p;
    if (!x->at.n || !x->said.n || !x->met.n || fact_same(x->said, x->met) || !m->to->rules->shell ||
        m->o->weights_only)
        return ST_OK;
    x->hint = "its config is written so";
    for (size_t i = 0; i < m->n_patches; i++) /* a layer used twice */
        if (m->patch[i].at.attachment == x->at.attachment && m->patch[i].at.lo == x->at.lo)
            return ST_OK;
    p = map_grown(m->tmp, m->patch, m->n_patches, &m->cap_patches, sizeof *p);
    if (!p)
        return err_nomem(e, sizeof *p);
    json_w_init(&w, &b, 0);
    json_w_double(&w, json_text_double(x->said));
    struct str text = arena_str(m->tmp, b.p, b.n);
    enum status st = buf_ok(&b, e);
    buf_free(&b);
    if (st != ST_OK || !text.p)
        return st != ST_OK ? st : err_nomem(e, 32);
    m->patch = p;
    p[m->n_patches++] = (struct patch){x->at, text};
    return ST_OK;
}

static int by_place(const void *x, const void *y)
{
    const struct said_at *a = &((const struct patch *)x)->at, *b = &((const struct patch *)y)->at;
    if (a->attachment != b->attachment)
        return a->attachment < b->attachment ? -1 : 1;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

enum status map_patched(struct mapping *m, size_t index, struct attachment *a, struct err *e)
{
    struct buf out = BUF_INIT;
    size_t from = 0, any = 0;
    for (size_t i = 0; i < m->n_patches; i++)
        any += m->patch[i].at.attachment == index;
    if (!any)
        return ST_OK;
    qsort(m->patch, m->n_patches, sizeof *m->patch, by_place);
    size_t n = (size_t)a->n_bytes;
    uint8_t *old = arena_alloc(m->tmp, 1, n + 1);
    if (!old)
        return err_nomem(e, n);
    if (a->mem)
        memcpy(old, a->mem, n);
    else if (n)
        TRY(file_pread(a->file, old, n, a->offset, e));
    for (size_t i = 0; i < m->n_patches; i++) {
        const struct said_at *at = &m->patch[i].at;
        if (at->attachment != index || at->lo < from || at->lo > n || at->n > n - at->lo)
            continue; /* ours are in order and inside */
        buf_bytes(&out, old + from, at->lo - from);
        buf_bytes(&out, m->patch[i].text.p, m->patch[i].text.n);
        from = (size_t)at->lo + at->n;
    }
    buf_bytes(&out, old + from, n - from);
    enum status st = buf_ok(&out, e);
    struct str text = st == ST_OK ? arena_str(m->a, out.p, out.n) : STR_NONE;
    buf_free(&out);
    if (st != ST_OK || !text.p)
        return st != ST_OK ? st : err_nomem(e, n);
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
    a->file = NULL;
    a->offset = 0;
    return ST_OK;
}

static struct str number(struct mapping *m, double v)
{
    return v > 0 ? arena_fmt(m->tmp, "%g", v) : STR("");
}

static struct str count(struct mapping *m, uint64_t v)
{
    return v > 0 ? arena_fmt(m->tmp, "%llu", (unsigned long long)v) : STR("");
}

static struct str text(struct str s)
{
    return s.n ? s : STR("");
}

static struct str above_1(bool so)
{
    return str_from(so ? "above 1" : "");
}

/* "(1, 1)": framework/defaults.h. */
static bool is_sides(struct str s)
{
    bool digit = false;
    if (s.n < 3 || s.n > SIDES_MAX || s.p[0] != '(' || s.p[s.n - 1] != ')')
        return false;
    for (size_t i = 1; i + 1 < s.n; i++) {
        bool was = digit;
        digit = s.p[i] >= '0' && s.p[i] <= '9';
        if (!digit && !(was && s.p[i] == ',') && !(s.p[i] == ' ' && s.p[i - 1] == ','))
            return false;
    }
    return digit;
}

/* No padding whatever it is called, where every extent of the kernel is 1. */
static bool is_point(const struct mapping *m, const struct layer *l)
{
    static const char axes[] = "DHW";
    bool any = false;
    for (size_t i = 0; axes[i]; i++) {
        uint64_t n = map_extent(m, l, l->kind, LEAF_WEIGHT, axes[i]);
        any = any || n > 0;
        if (n > 1)
            return false;
    }
    return any;
}

enum status map_notes(struct mapping *m, const struct layer *l, const struct layer *t,
                      struct err *e)
{
    static const struct layer_settings none = {0};
    static const char *const strided =
        "where the stride is not 1 it pads by the input's size, more at the end than at the start: "
        "pad by hand";
    static const char *const numbers = "set it to what the model has";
    const struct layer_settings *s = &l->said, *k = t ? &t->said : &none;
    const char *of = fact_of_layer(l);
    struct str path = kept(m->a, t ? t->path : l->path);
    if (!of || !path.p)
        return of ? err_nomem(e, l->path.n) : ST_OK;
    bool same = str_is(s->padding, "same") && s->strided && strcmp(m->to->name, "pytorch") == 0;
    const char *reset = l->kind == LAYER_GRU_BEFORE ? "before" : "";
    bool less = l->form == FORM_RMS_LESS; /* wherever it came from, it is written so */
    bool point = l->kind == LAYER_CONV && is_point(m, l);
    struct pair_of x[] = {
        {path, of, "epsilon", number(m, s->epsilon), number(m, k->epsilon), NULL, k->at_epsilon},
        {path, of, "momentum", number(m, s->momentum), number(m, k->momentum), NULL,
         k->at_momentum},
        {path, of, "groups", count(m, l->groups), count(m, t ? t->groups : 0), NULL,
         none.at_epsilon},
        {path, of, "padding", text(s->padding), text(k->padding), same ? strided : NULL,
         none.at_epsilon},
        {path, of, "stride", above_1(s->strided), above_1(k->strided), numbers, none.at_epsilon},
        {path, of, "dilation", above_1(s->dilated), above_1(k->dilated), numbers, none.at_epsilon},
        {path, of, "batch", text(s->batch), text(k->batch), NULL, none.at_epsilon},
        {path, of, "factor", str_from(less ? "weight + 1" : ""), STR(""), NULL, none.at_epsilon},
        {path, of, "activation", text(s->activation), text(k->activation), NULL, none.at_epsilon},
        {path, of, "gates", text(s->gates), text(k->gates), NULL, none.at_epsilon},
        {path, of, "reset", str_from(reset), STR(""), NULL, none.at_epsilon},
        {path, of, "pairs", STR(""), STR(""), NULL, none.at_epsilon},
    };
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        if (!x[i].said.p || !x[i].met.p)
            return err_nomem(e, 64);
        TRY(patch(m, &x[i], e));
        if (!(point && strcmp(x[i].setting, "padding") == 0 && !is_sides(s->padding)))
            TRY(compare(m, &x[i], e));
    }
    return ST_OK;
}

enum status map_notes_functions(struct mapping *m, struct err *e)
{
    for (size_t i = 0; i < m->sl.n_functions; i++) {
        const struct function *f = &m->sl.function[i];
        struct pair_of x = {
            kept(m->a, f->path), f->of, f->setting, f->means, STR(""), NULL, {0, 0, 0}};
        if (!x.path.p)
            return err_nomem(e, f->path.n);
        TRY(compare(m, &x, e));
    }
    return ST_OK;
}

/* ---- carried on ---- */

static bool says(const struct layer_settings *s)
{
    return s->epsilon > 0 || s->momentum > 0 || s->padding.n || s->activation.n || s->gates.n ||
           s->batch.n || s->strided || s->dilated;
}

static void put_text(struct json_w *w, const char *key, struct str v)
{
    if (!v.n)
        return;
    json_w_key(w, str_from(key));
    json_w_str(w, v);
}

static void put_number(struct json_w *w, const char *key, double v)
{
    if (v <= 0)
        return;
    json_w_key(w, str_from(key));
    json_w_double(w, v);
}

void map_tell(struct mapping *m, struct str path, const struct layer *l)
{
    struct json_w w;
    if (!says(&l->said) || l->kind == LAYER_NONE || l->kind == LAYER_PARAM)
        return;
    if (m->told.n)
        buf_u8(&m->told, ',');
    json_w_init(&w, &m->told, 0);
    json_w_object(&w);
    put_text(&w, "path", path);
    put_number(&w, "epsilon", l->said.epsilon);
    put_number(&w, "momentum", l->said.momentum);
    put_text(&w, "padding", l->said.padding);
    if (l->said.strided) {
        json_w_key(&w, STR("strided"));
        json_w_bool(&w, true);
    }
    if (l->said.dilated) {
        json_w_key(&w, STR("dilated"));
        json_w_bool(&w, true);
    }
    put_text(&w, "activation", l->said.activation);
    put_text(&w, "gates", l->said.gates);
    put_text(&w, "batch", l->said.batch);
    json_w_object_end(&w);
}

static void put_functions(struct json_w *w, const struct layers *l)
{
    json_w_key(w, STR("functions"));
    json_w_array(w);
    for (size_t i = 0; i < l->n_functions; i++) {
        json_w_object(w);
        json_w_key(w, STR("path"));
        json_w_str(w, l->function[i].path);
        put_text(w, "of", str_from(l->function[i].of));
        put_text(w, "setting", str_from(l->function[i].setting));
        put_text(w, "means", l->function[i].means);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

bool map_is_settings(struct str key)
{
    return str_is(key, SETTINGS_KEY);
}

enum status map_told(struct mapping *m, struct err *e)
{
    struct buf out = BUF_INIT;
    struct json_w w;
    TRY(buf_ok(&m->told, e));
    if ((!m->told.n && !m->sl.n_functions) || m->o->weights_only || !m->target ||
        !format_keeps_meta(m->target, STR(SETTINGS_KEY)) || strcmp(m->to->name, "gguf") == 0)
        return ST_OK;
    buf_fmt(&out, "{\"layers\":[");
    buf_bytes(&out, m->told.p, m->told.n);
    buf_fmt(&out, "],");
    struct buf rest = BUF_INIT;
    json_w_init(&w, &rest, 0);
    json_w_object(&w);
    put_functions(&w, &m->sl);
    json_w_object_end(&w);
    if (rest.n > 1)
        buf_bytes(&out, rest.p + 1, rest.n - 1);
    enum status st = buf_ok(&rest, e);
    if (st == ST_OK)
        st = buf_ok(&out, e);
    struct str text = st == ST_OK ? arena_str(m->a, out.p, out.n) : STR_NONE;
    if (st == ST_OK)
        st = text.p ? model_meta_add(&m->p->dst, STR(SETTINGS_KEY), text, e) : err_nomem(e, out.n);
    buf_free(&rest);
    buf_free(&out);
    return st;
}

/* ---- read again ---- */

static double number_of(const struct json_value *v)
{
    double x = v && v->kind == JSON_NUMBER ? json_text_double(v->text) : 0;
    return x > 0 && x < 1e30 ? x : 0;
}

/* One of the words that a setting may be; a foreign text never becomes one. */
static struct str word_of(const struct json_value *v, const char *setting)
{
    if (!v || v->kind != JSON_STRING)
        return STR("");
    if (strcmp(setting, "padding") == 0 && str_is(v->text, "causal"))
        return STR("causal");
    if (strcmp(setting, "padding") == 0 && is_sides(v->text))
        return v->text;
    if (strcmp(setting, "activation") == 0 && str_is(v->text, "relu"))
        return STR("relu");
    if (strcmp(setting, "gates") == 0 && str_is(v->text, "hard_sigmoid"))
        return STR("hard_sigmoid");
    for (size_t i = 0; i < n_facts; i++)
        if (strcmp(facts[i].setting, setting) == 0 && facts[i].means &&
            str_is(v->text, facts[i].means))
            return str_from(facts[i].means);
    return STR("");
}

static void read_layer(const struct json_value *v, struct layer_settings *s)
{
    if (!(s->epsilon > 0))
        s->epsilon = number_of(json_get(v, "epsilon"));
    if (!(s->momentum > 0))
        s->momentum = number_of(json_get(v, "momentum"));
    if (!s->padding.n)
        s->padding = word_of(json_get(v, "padding"), "padding");
    if (!s->activation.n)
        s->activation = word_of(json_get(v, "activation"), "activation");
    if (!s->gates.n)
        s->gates = word_of(json_get(v, "gates"), "gates");
    if (!s->batch.n)
        s->batch = word_of(json_get(v, "batch"), "batch");
    const struct json_value *far = json_get(v, "strided");
    s->strided = s->strided || (far && far->kind == JSON_BOOL && far->truth);
    const struct json_value *wide = json_get(v, "dilated");
    s->dilated = s->dilated || (wide && wide->kind == JSON_BOOL && wide->truth);
}

struct by_path {
    struct str path;
    struct layer *l;
};

static int by_path(const void *x, const void *y)
{
    return str_cmp(((const struct by_path *)x)->path, ((const struct by_path *)y)->path);
}

static enum status read_layers(struct mapping *m, const struct json_value *list, struct err *e)
{
    size_t n = m->sl.n;
    struct by_path *at = ARENA_ARRAY(m->tmp, struct by_path, n + 1);
    if (!at)
        return err_nomem(e, n * sizeof *at);
    for (size_t i = 0; i < n; i++)
        at[i] = (struct by_path){m->sl.layer[i].path, &m->sl.layer[i]};
    qsort(at, n, sizeof *at, by_path);
    for (const struct json_value *v = list->child; v && n; v = v->next) {
        const struct json_value *path = v->kind == JSON_OBJECT ? json_get(v, "path") : NULL;
        struct by_path want = {.path = path && path->kind == JSON_STRING ? path->text : STR("")};
        const struct by_path *hit = path ? bsearch(&want, at, n, sizeof want, by_path) : NULL;
        if (hit)
            read_layer(v, &hit->l->said);
    }
    return ST_OK;
}

static enum status read_functions(struct mapping *m, const struct json_value *list, struct err *e)
{
    struct function *f = ARENA_ARRAY(m->tmp, struct function, list->n + 1);
    if (!f)
        return err_nomem(e, list->n * sizeof *f);
    size_t n = 0;
    for (const struct json_value *v = list->child; v; v = v->next) {
        const struct json_value *path = json_get(v, "path"), *means = json_get(v, "means");
        for (size_t i = 0; path && path->kind == JSON_STRING && i < n_facts; i++) {
            if (!json_value_is(json_get(v, "of"), facts[i].of) ||
                !json_value_is(json_get(v, "setting"), facts[i].setting))
                continue;
            struct str word = word_of(means, facts[i].setting);
            double x = strcmp(facts[i].setting, "slope") == 0 && means &&
                               means->kind == JSON_STRING && means->text.n < 32
                           ? json_text_double(means->text)
                           : 0;
            if (x > 0 && x < 1e30)
                word = arena_fmt(m->a, "%g", x);
            if (!word.p)
                return err_nomem(e, 32);
            if (word.n)
                f[n++] = (struct function){path->text, facts[i].of, facts[i].setting, word};
            break;
        }
    }
    m->sl.function = f;
    m->sl.n_functions = n;
    return ST_OK;
}

enum status map_told_read(struct mapping *m, struct err *e)
{
    struct json_value *top = NULL;
    struct cursor c;
    struct err quiet = {0};
    struct str text = STR_NONE;
    for (size_t i = 0; i < m->src->n_meta; i++)
        if (map_is_settings(m->src->meta[i].key))
            text = m->src->meta[i].value;
    if (!text.n || text.n > SETTINGS_BYTES_MAX)
        return ST_OK;
    cur_mem(&c, text.p, text.n, SETTINGS_KEY, 0);
    enum status st = json_tree(&c, m->tmp, text.n / VALUE_BYTES + 16, &top, &quiet);
    cur_close(&c);
    if (st != ST_OK || top->kind != JSON_OBJECT)
        return ST_OK; /* it says nothing */
    const struct json_value *layers = json_get(top, "layers"),
                            *functions = json_get(top, "functions");
    if (layers && layers->kind == JSON_ARRAY)
        TRY(read_layers(m, layers, e));
    if (functions && functions->kind == JSON_ARRAY && !m->sl.n_functions)
        TRY(read_functions(m, functions, e));
    return ST_OK;
}
