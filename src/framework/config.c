/* Reading config.json: advice, so what does not parse is as if it were not there. */
#include "framework/config.h"
#include "codec/json.h"

static enum status one(struct json *j, struct arena *a, struct config *c, struct str key,
                       struct err *e)
{
    TRY(json_next(j, e));
    bool scalar = j->kind == JSON_STRING || j->kind == JSON_NUMBER || j->kind == JSON_BOOL ||
                  j->kind == JSON_NULL;
    if (scalar && c->n < CONFIG_MAX) {
        struct config_item *it = &c->item[c->n];
        it->key = key;
        it->is_text = j->kind == JSON_STRING;
        it->text = j->kind == JSON_BOOL   ? j->truth ? STR("true") : STR("false")
                   : j->kind == JSON_NULL ? STR("null")
                                          : arena_str(a, j->text.p, j->text.n);
        if (!it->text.p)
            return err_nomem(e, j->text.n);
        c->n++;
    }
    return json_skip(j, e);
}

static enum status object(struct json *j, struct arena *a, struct config *c, struct err *e)
{
    TRY(json_expect(j, JSON_OBJECT, "the config", e));
    for (;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_OBJECT_END)
            return ST_OK;
        struct str key = arena_str(a, j->text.p, j->text.n);
        if (!key.p)
            return err_nomem(e, j->text.n);
        TRY(one(j, a, c, key, e));
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
