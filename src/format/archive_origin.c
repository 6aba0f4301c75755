/* Archive: provenance.json, canonical JSON on one line (keys sorted, no blanks, a newline at the
 * end).
 *
 *   {"files":[{"bytes","name"}...],"format":TEXT,"framework":TEXT,
 *    "source_id":null or "nnf1:" and 64 hex digits,
 *    "tensors":"same"|"changed"|"selected"|"computed","writer":TEXT}
 *
 * Refused: provenance-key (another key, a missing one), provenance-value (a value out of its
 * range), provenance-canonical (another spelling), and what codec/json.h refuses.
 */
#include "codec/json.h"
#include "format/archive_impl.h"
#include "model/id.h"
#include <string.h>

#define ID_TEXT (sizeof ID_PREFIX_PLAIN + 64) /* "nnf1:" and the digits */

static struct str id_text(const struct origin *o, char out[ID_TEXT + 1])
{
    memcpy(out, ID_PREFIX_PLAIN ":", ID_TEXT - 64);
    sha256_hex(o->id, out + ID_TEXT - 64);
    return (struct str){out, ID_TEXT};
}

enum status ar_origin_write(const struct origin *o, struct buf *b, struct err *e)
{
    struct json_w w;
    char id[ID_TEXT + 1];
    json_w_init(&w, b, 0);
    json_w_object(&w);
    json_w_key(&w, STR("files"));
    json_w_array(&w);
    for (size_t i = 0; i < o->n_files; i++) {
        json_w_object(&w);
        json_w_key(&w, STR("bytes"));
        json_w_u64(&w, o->file[i].n_bytes);
        json_w_key(&w, STR("name"));
        json_w_str(&w, o->file[i].name);
        json_w_object_end(&w);
    }
    json_w_array_end(&w);
    json_w_key(&w, STR("format"));
    json_w_str(&w, o->format);
    json_w_key(&w, STR("framework"));
    json_w_str(&w, o->framework);
    json_w_key(&w, STR("source_id"));
    if (origin_has_id(o))
        json_w_str(&w, id_text(o, id));
    else
        json_w_null(&w);
    json_w_key(&w, STR("tensors"));
    json_w_str(&w, str_from(origin_word(o->tensors)));
    json_w_key(&w, STR("writer"));
    json_w_str(&w, o->writer);
    json_w_object_end(&w);
    buf_u8(b, '\n');
    return buf_ok(b, e);
}

/* ---- reading ---- */

struct reader {
    struct json j;
    struct arena *a;
    struct err *e;
};

static enum status bad(struct reader *r, const char *why)
{
    return json_fail(&r->j, r->e, "provenance-value", "%s", why);
}

static enum status key(struct reader *r, const char *want)
{
    TRY(json_expect(&r->j, JSON_KEY, want, r->e));
    if (!str_is(r->j.text, want))
        return json_fail(&r->j, r->e, "provenance-key", "another key where '%s' belongs", want);
    return ST_OK;
}

static enum status get_text(struct reader *r, const char *k, struct str *out)
{
    TRY(key(r, k));
    TRY(json_expect(&r->j, JSON_STRING, k, r->e));
    *out = arena_str(r->a, r->j.text.p, r->j.text.n);
    return out->p ? ST_OK : err_nomem(r->e, r->j.text.n);
}

static enum status get_file(struct reader *r, struct origin_file *f)
{
    TRY(key(r, "bytes"));
    TRY(json_expect(&r->j, JSON_NUMBER, "bytes", r->e));
    if (!json_u64(&r->j, &f->n_bytes))
        return bad(r, "not a whole number of 64 bits");
    TRY(get_text(r, "name", &f->name));
    return json_expect(&r->j, JSON_OBJECT_END, "file", r->e);
}

static enum status get_files(struct reader *r, struct origin *o)
{
    struct buf b = BUF_INIT; /* struct origin_file */
    enum status st = key(r, "files");
    if (st == ST_OK)
        st = json_expect(&r->j, JSON_ARRAY, "files", r->e);
    while (st == ST_OK && (st = json_next(&r->j, r->e)) == ST_OK && r->j.kind == JSON_OBJECT) {
        struct origin_file f;
        st = get_file(r, &f);
        if (st == ST_OK)
            buf_bytes(&b, &f, sizeof f);
    }
    if (st == ST_OK && r->j.kind != JSON_ARRAY_END)
        st = bad(r, "no file");
    if (st == ST_OK)
        st = buf_ok(&b, r->e);
    if (st == ST_OK) {
        struct origin_file *f = arena_alloc(r->a, b.n + 1, 1);
        if (!f)
            st = err_nomem(r->e, b.n);
        else if (b.n > 0)
            memcpy(f, b.p, b.n);
        o->file = f;
        o->n_files = b.n / sizeof *f;
    }
    buf_free(&b);
    return st;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* *there: not null. */
static enum status get_id(struct reader *r, uint8_t id[32], bool *there)
{
    TRY(key(r, "source_id"));
    TRY(json_next(&r->j, r->e));
    *there = r->j.kind == JSON_STRING;
    if (r->j.kind == JSON_NULL)
        return ST_OK;
    if (!*there || r->j.text.n != ID_TEXT || !str_starts(r->j.text, STR(ID_PREFIX_PLAIN ":")))
        return bad(r, "no digest of a model");
    const char *p = r->j.text.p + (ID_TEXT - 64);
    for (size_t i = 0; i < 32; i++) {
        int hi = digit(p[2 * i]), lo = digit(p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return bad(r, "no digest of a model");
        id[i] = (uint8_t)(hi << 4 | lo);
    }
    return ST_OK;
}

static enum status get_word(struct reader *r, enum origin_tensors *out)
{
    TRY(key(r, "tensors"));
    TRY(json_expect(&r->j, JSON_STRING, "tensors", r->e));
    for (int i = 0; i < ORIGIN_N; i++)
        if (str_is(r->j.text, origin_word((enum origin_tensors)i))) {
            *out = (enum origin_tensors)i;
            return ST_OK;
        }
    return bad(r, "a word of another version");
}

static enum status get_all(struct reader *r, struct origin *o)
{
    bool there;
    TRY(json_expect(&r->j, JSON_OBJECT, "provenance.json", r->e));
    TRY(get_files(r, o));
    TRY(get_text(r, "format", &o->format));
    TRY(get_text(r, "framework", &o->framework));
    TRY(get_id(r, o->id, &there));
    TRY(get_word(r, &o->tensors));
    if (there != origin_has_id(o))
        return bad(r, there ? "a digest, and a word that says there is none"
                            : "no digest, and no word that says why");
    TRY(get_text(r, "writer", &o->writer));
    return json_expect(&r->j, JSON_OBJECT_END, "provenance.json", r->e);
}

enum status ar_origin_read(const uint8_t *p, size_t n, const char *file, uint64_t at,
                           struct model *m, struct err *e)
{
    struct cursor c;
    struct reader r = {.a = &m->arena, .e = e};
    struct buf again = BUF_INIT;
    struct origin *o = ARENA_NEW(&m->arena, struct origin);
    if (!o)
        return err_nomem(e, sizeof *o);
    cur_mem(&c, p, n, file, at);
    json_init(&r.j, &c, n + 1);
    enum status st = get_all(&r, o);
    if (st == ST_OK)
        st = ar_origin_write(o, &again, e);
    if (st == ST_OK && (again.n != n || memcmp(again.p, p, n) != 0)) {
        st = err_set(e, ST_INPUT, "provenance-canonical",
                     "provenance.json is not what its content gives");
        err_at(e, file, at);
    }
    if (st == ST_OK)
        m->origin = o;
    buf_free(&again);
    json_free(&r.j);
    cur_close(&c);
    return st;
}
