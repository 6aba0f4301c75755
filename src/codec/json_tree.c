/* See json_tree.h. */
#include "codec/json_tree.h"
#include <stdlib.h>
#include <string.h>

static int by_key(const void *a, const void *b)
{
    const struct json_value *x = *(const struct json_value *const *)a;
    const struct json_value *y = *(const struct json_value *const *)b;
    int c = str_cmp(x->key, y->key);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

static enum status keys_differ(struct json *j, const struct json_value *object, struct err *e)
{
    struct buf list = BUF_INIT;
    for (const struct json_value *c = object->child; c; c = c->next)
        buf_bytes(&list, &c, sizeof c);
    enum status st = buf_ok(&list, e);
    if (st == ST_OK && object->n > 1) {
        const struct json_value **v = (const struct json_value **)(void *)list.p;
        qsort(v, object->n, sizeof *v, by_key);
        for (size_t i = 1; st == ST_OK && i < object->n; i++)
            if (str_eq(v[i - 1]->key, v[i]->key)) {
                j->at = v[i]->at;
                st = json_fail(j, e, "key-twice", "a key stands twice in its object");
                err_in(e, v[i]->key.p, v[i]->key.n);
            }
    }
    buf_free(&list);
    return st;
}

static enum status take_text(const struct json *j, struct arena *a, struct str *out, struct err *e)
{
    *out = arena_str(a, j->text.p, j->text.n);
    return out->p ? ST_OK : err_nomem(e, j->text.n);
}

static enum status build(struct json *j, struct arena *a, size_t max_values,
                         struct json_value **root, struct err *e)
{
    struct json_value *open = NULL;
    struct str key = STR_NONE;
    for (size_t n = 0;;) {
        TRY(json_next(j, e));
        if (j->kind == JSON_END)
            return json_finish(j, " \t\r\n", e);
        if (j->kind == JSON_KEY) {
            TRY(take_text(j, a, &key, e));
            continue;
        }
        if (j->kind == JSON_OBJECT_END || j->kind == JSON_ARRAY_END) {
            if (open->kind == JSON_OBJECT)
                TRY(keys_differ(j, open, e));
            open = open->parent;
            continue;
        }
        if (n++ == max_values)
            return json_fail(j, e, "json-values", "more than %zu values", max_values);
        struct json_value *v = ARENA_NEW(a, struct json_value);
        if (!v)
            return err_nomem(e, sizeof *v);
        v->kind = j->kind;
        v->at = j->at;
        v->truth = j->truth;
        v->is_int = j->is_int;
        v->key = key;
        v->parent = open;
        if (j->kind == JSON_STRING || j->kind == JSON_NUMBER)
            TRY(take_text(j, a, &v->text, e));
        if (!open) {
            *root = v;
        } else {
            if (open->last)
                open->last->next = v;
            else
                open->child = v;
            open->last = v;
            open->n++;
        }
        if (v->kind == JSON_OBJECT || v->kind == JSON_ARRAY)
            open = v;
    }
}

enum status json_tree(struct cursor *c, struct arena *a, size_t max_values, struct json_value **out,
                      struct err *e)
{
    struct json j;
    *out = NULL;
    json_init(&j, c, 0);
    enum status st = build(&j, a, max_values, out, e);
    json_free(&j);
    return st;
}

const struct json_value *json_get(const struct json_value *object, const char *key)
{
    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    for (const struct json_value *v = object->child; v; v = v->next)
        if (str_is(v->key, key))
            return v;
    return NULL;
}

bool json_value_u64(const struct json_value *v, uint64_t *out)
{
    return v && v->kind == JSON_NUMBER && str_u64(v->text, out);
}

bool json_value_is(const struct json_value *v, const char *text)
{
    return v && v->kind == JSON_STRING && str_is(v->text, text);
}
