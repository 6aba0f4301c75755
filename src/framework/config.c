/* Reading config.json: advice, so what does not parse is as if it were not there. */
#include "framework/config.h"
#include "codec/json.h"

static enum status keep(struct json *j, struct arena *a, struct config *c, struct str key,
                        struct err *e)
{
    if (c->n == CONFIG_MAX)
        return ST_OK;
    struct config_item *it = &c->item[c->n];
    it->key = key;
    it->is_text = j->kind == JSON_STRING;
    it->text = j->kind == JSON_BOOL   ? j->truth ? STR("true") : STR("false")
               : j->kind == JSON_NULL ? STR("null")
                                      : arena_str(a, j->text.p, j->text.n);
    c->n += it->text.p != NULL;
    return it->text.p ? ST_OK : err_nomem(e, j->text.n);
}

static bool scalar(const struct json *j)
{
    return j->kind == JSON_STRING || j->kind == JSON_NUMBER || j->kind == JSON_BOOL ||
           j->kind == JSON_NULL;
}

/* Scalars of an object, and of the objects in it: "rope_parameters.rope_theta". */
static enum status object(struct json *j, struct arena *a, struct config *c, struct err *e)
{
    struct str outer = STR_NONE;
    TRY(json_expect(j, JSON_OBJECT, "the config", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END) {
            if (!outer.p)
                return ST_OK;
            outer = STR_NONE;
            continue;
        }
        struct str key = outer.p ? arena_fmt(a, "%.*s.%.*s", STR_ARG(outer), STR_ARG(j->text))
                                 : arena_str(a, j->text.p, j->text.n);
        if (!key.p)
            return err_nomem(e, j->text.n);
        TRY(json_next(j, e));
        if (scalar(j))
            TRY(keep(j, a, c, key, e));
        else if (j->kind == JSON_OBJECT && !outer.p)
            outer = key;
        else
            TRY(json_skip(j, e));
    }
}

enum status config_read(const struct model *m, struct arena *a, struct config *out, struct err *e)
{
    out->n = 0;
    out->found = false;
    for (size_t i = 0; i < m->n_attachments; i++) {
        const struct attachment *t = &m->attachment[i];
        if (!str_is(t->name, "config.json") || t->n_bytes > CONFIG_BYTES_MAX)
            continue;
        struct cursor c;
        struct json j;
        struct err quiet = {0};
        if (t->mem)
            cur_mem(&c, t->mem, (size_t)t->n_bytes, "config.json", 0);
        else
            cur_file(&c, t->file, t->offset, t->n_bytes);
        json_init(&j, &c, 0);
        enum status st = object(&j, a, out, &quiet);
        json_free(&j);
        cur_close(&c);
        if (st != ST_OK && quiet.code && str_is(str_from(quiet.code), "memory"))
            return err_nomem(e, 0);
        out->found = st == ST_OK;
        if (!out->found)
            out->n = 0;
        return ST_OK;
    }
    return ST_OK;
}

struct str config_text(const struct config *c, const char *key)
{
    for (size_t i = 0; i < c->n; i++)
        if (str_is(c->item[i].key, key))
            return c->item[i].text;
    return STR_NONE;
}

uint64_t config_u64(const struct config *c, const char *key)
{
    uint64_t v;
    return str_u64(config_text(c, key), &v) ? v : 0;
}
