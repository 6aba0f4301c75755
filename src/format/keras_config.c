/* See keras_config.h. Source: keras/src/saving/serialization_lib.py, keras/src/layers/core/
 * lambda_layer.py.
 */
#include "format/keras_config.h"
#include "codec/json.h"
#include <stdio.h>
#include <string.h>

#define TEXT_MAX ((size_t)64 << 20)

struct scan {
    const struct read_opt *opt;
    uint64_t at;
};

static void found(const struct scan *s, const char *code, uint64_t at, const char *fmt,
                  struct str what)
{
    char name[200], text[300];
    (void)err_escape(what.p ? what.p : "", what.n < 150 ? what.n : 150, name, sizeof name);
    snprintf(text, sizeof text, fmt, name);
    s->opt->finding(s->opt->finding_ctx, true, code, s->at + at, text);
}

static bool of_keras(struct str module)
{
    static const char *const roots[] = {"keras",    "tf_keras",  "keras_nlp",
                                        "keras_cv", "keras_hub", "builtins"};
    struct str rest = module, first = module;
    (void)str_split(&rest, '.', &first);
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        if (str_is(first, roots[i]))
            return true;
    return str_starts(module, STR("tensorflow.python.keras")) ||
           str_starts(module, STR("tensorflow.keras"));
}

static void value(const struct scan *s, const struct json *j, struct str key)
{
    if (str_is(key, "class_name") && (str_is(j->text, "Lambda") || str_is(j->text, "__lambda__")))
        found(s, "keras-lambda", j->at, "a %s layer or function: loading it runs code", j->text);
    if (str_is(key, "module") && !of_keras(j->text))
        found(s, "keras-module", j->at, "loading takes a class from the module '%s'", j->text);
}

static enum status walk(const struct scan *s, struct json *j, struct err *e)
{
    char key[32] = "";
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_END)
            return json_finish(j, " \t\r\n", e);
        if (j->kind == JSON_KEY) {
            snprintf(key, sizeof key, "%.*s", STR_ARG(str_sub(j->text, 0, sizeof key - 1)));
            continue;
        }
        if (j->kind == JSON_STRING && key[0])
            value(s, j, str_from(key));
        key[0] = 0;
    }
}

void keras_config_scan(const struct read_opt *opt, struct str text, uint64_t at)
{
    struct scan s = {.opt = opt, .at = at};
    struct cursor c;
    struct json j;
    struct err err;
    if (!opt->scan || !opt->finding)
        return;
    cur_mem(&c, text.p, text.n, "config", 0);
    json_init(&j, &c, TEXT_MAX);
    if (walk(&s, &j, &err) != ST_OK)
        found(&s, "keras-config", err.has_offset ? err.offset : 0, "the config is no JSON: %s",
              str_from(err.reason));
    json_free(&j);
    cur_close(&c);
}

enum status keras_config_attach(struct model *m, const char *name, struct str text, struct err *e)
{
    struct attachment *a;
    TRY(model_attach(m, &a, e));
    a->name = str_from(name);
    a->media_type = STR("application/json");
    a->mem = (const uint8_t *)text.p;
    a->n_bytes = text.n;
    return ST_OK;
}

const struct attachment *keras_config_find(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, name))
            return &m->attachment[i];
    return NULL;
}
