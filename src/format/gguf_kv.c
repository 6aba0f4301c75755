/* GGUF's key-values. They become metadata, to be looked at and to travel into containers that hold
 * texts, and an attachment with the pairs as they stand, from which a GGUF file gets them back bit
 * for bit. A text is metadata as it is, a number as its digits, a short array of numbers as a JSON
 * array; long arrays and arrays of texts are only told of ("string[32000]").
 *
 * From another container's texts alone, general.architecture ("unknown") and, with quantised
 * tensors, general.quantization_version are added where missing.
 * Not carried: split.* (a file written here is one file). general.alignment is carried with the
 * pairs and obeyed; from bare metadata it is not taken.
 *
 * Refused: key-twice, bad-alignment (no u32, no power of two, larger than 1 MiB), bad-split.
 */
#include "base/mem.h"
#include "format/gguf.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((uint64_t)1 << 20) /* longer texts are only told of */
#define ARRAY_MAX 32                 /* so are longer arrays */

static enum status fail_kv(struct gguf *g, const struct gguf_kv *kv, const char *code,
                           const char *why, struct err *e)
{
    cur_fail(g->c, kv->at, code, "%s", why);
    enum status st = cur_ok(g->c, e);
    err_in(e, kv->key.p, kv->key.n);
    return st;
}

/* ---- what a value looks like ---- */

static int64_t sign_extend(uint64_t bits, size_t bytes)
{
    unsigned shift = 64 - 8 * (unsigned)bytes;
    return (int64_t)(bits << shift) >> shift;
}

/* Digits that give the same value again. */
static void float_text(struct buf *b, double v, int digits)
{
    if (isnan(v))
        buf_z(b, "nan");
    else if (isinf(v))
        buf_z(b, v < 0 ? "-inf" : "inf");
    else
        buf_fmt(b, "%.*g", digits, v);
}

static void scalar_text(struct buf *b, uint32_t type, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    switch (type) {
    case GGUF_BOOL:
        buf_z(b, bits ? "true" : "false");
        break;
    case GGUF_F32:
        memcpy(&f, &low, 4);
        float_text(b, (double)f, 9);
        break;
    case GGUF_F64:
        memcpy(&d, &bits, 8);
        float_text(b, d, 17);
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        buf_fmt(b, "%lld", (long long)sign_extend(bits, gguf_type_bytes(type)));
        break;
    default:
        buf_fmt(b, "%llu", (unsigned long long)bits);
    }
}

static uint64_t load(const uint8_t *p, size_t n, bool big)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * (big ? n - 1 - i : i);
    return v;
}

/* Reads on at the value and comes back. */
static enum status value_text(struct gguf *g, const struct gguf_kv *kv, struct buf *b,
                              struct err *e)
{
    struct cursor *c = g->c;
    size_t each = gguf_type_bytes(kv->type), bad;
    buf_clear(b);
    if (each) {
        scalar_text(b, kv->type, kv->bits);
        return buf_ok(b, e);
    }
    cur_seek(c, kv->value_at);
    if (kv->type == GGUF_STRING && kv->n <= TEXT_MAX) {
        const uint8_t *p = cur_take(c, (size_t)kv->n);
        struct str s = {(const char *)p, (size_t)kv->n};
        if (p && str_utf8(s, &bad) && str_find(s, 0, 0) == s.n)
            buf_str(b, s);
        else
            buf_fmt(b, "string of %llu bytes, not UTF-8", (unsigned long long)kv->n);
    } else if (kv->type == GGUF_STRING) {
        buf_fmt(b, "string of %llu bytes", (unsigned long long)kv->n);
    } else if ((each = gguf_type_bytes(kv->elem)) && kv->n <= ARRAY_MAX) {
        const uint8_t *p = cur_take(c, (size_t)kv->n * each);
        buf_u8(b, '[');
        for (size_t i = 0; p && i < kv->n; i++) {
            buf_z(b, i ? ", " : "");
            scalar_text(b, kv->elem, load(p + i * each, each, g->big));
        }
        buf_u8(b, ']');
    } else {
        buf_fmt(b, "%s[%llu]", gguf_type_name(kv->elem), (unsigned long long)kv->n);
    }
    cur_seek(c, kv->end);
    TRY(cur_ok(c, e));
    return buf_ok(b, e);
}

/* ---- scan ---- */

/* A template is text for Jinja, run by whoever talks to the model. Names between double underscores
 * are how such text leaves its sandbox. */
static enum status scan_template(struct gguf *g, const struct gguf_kv *kv,
                                 const struct read_opt *opt, struct buf *text, struct err *e)
{
    static const char *const escapes[] = {
        "__class__", "__globals__", "__builtins__", "__import__",   "__subclasses__", "__mro__",
        "__bases__", "__base__",    "__init__",     "__getattr",    "__reduce",       "__code__",
        "__dict__",  "__self__",    "__loader__",   "func_globals", "|attr(",         "| attr("};
    if (kv->type != GGUF_STRING || str_find_str(kv->key, STR("chat_template"), 0) == kv->key.n)
        return ST_OK;
    buf_clear(text);
    buf_fmt(text, "%.*s: a template of %llu bytes, run by programs that use the model",
            STR_ARG(kv->key), (unsigned long long)kv->n);
    buf_u8(text, 0);
    TRY(buf_ok(text, e));
    opt->finding(opt->finding_ctx, false, "chat-template", kv->value_at, (const char *)text->p);
    if (kv->n > TEXT_MAX) {
        opt->finding(opt->finding_ctx, true, "template-size", kv->value_at,
                     "a template of more than 1 MiB is not looked through");
        return ST_OK;
    }
    cur_seek(g->c, kv->value_at);
    const uint8_t *p = cur_take(g->c, (size_t)kv->n);
    struct str s = {(const char *)p, p ? (size_t)kv->n : 0};
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        size_t at = str_find_str(s, str_from(escapes[i]), 0);
        if (at >= s.n)
            continue;
        buf_clear(text);
        buf_fmt(text, "%.*s: the template names %s, a way out of its sandbox", STR_ARG(kv->key),
                escapes[i]);
        buf_u8(text, 0);
        TRY(buf_ok(text, e));
        opt->finding(opt->finding_ctx, true, "template-escape", kv->value_at + at,
                     (const char *)text->p);
    }
    cur_seek(g->c, kv->end);
    return cur_ok(g->c, e);
}

/* ---- reading ---- */

static bool is_split(struct str key)
{
    return str_starts(key, STR("split."));
}

static enum status known_key(struct gguf *g, const struct gguf_kv *kv, struct gguf_keys *out,
                             struct err *e)
{
    bool whole = kv->type == GGUF_U8 || kv->type == GGUF_U16 || kv->type == GGUF_U32 ||
                 kv->type == GGUF_U64 || kv->type == GGUF_I8 || kv->type == GGUF_I16 ||
                 kv->type == GGUF_I32 || kv->type == GGUF_I64;
    if (str_is(kv->key, "general.alignment")) {
        uint64_t a = kv->bits;
        if (kv->type != GGUF_U32 || a == 0 || (a & (a - 1)) != 0 || a > GGUF_ALIGNMENT_MAX)
            return fail_kv(g, kv, "bad-alignment",
                           "the alignment is no u32 that is a power of two, at most 1 MiB", e);
        out->alignment = (uint32_t)a;
    }
    if (!is_split(kv->key))
        return ST_OK;
    bool no = str_is(kv->key, "split.no"), count = str_is(kv->key, "split.count");
    bool tensors = str_is(kv->key, "split.tensors.count");
    if (!no && !count && !tensors)
        return ST_OK;
    if (!whole || kv->bits > (tensors ? GGUF_TENSORS_MAX : 65535u))
        return fail_kv(g, kv, "bad-split", "no number that parts of a file can have", e);
    if (no)
        out->split_no = (uint32_t)kv->bits;
    else if (count)
        out->split_count = (uint32_t)kv->bits;
    else
        out->split_tensors = kv->bits;
    out->has_split = true;
    return ST_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_kv *x = a, *y = b;
    int c = str_cmp(x->key, y->key);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

static enum status no_key_twice(struct gguf *g, struct gguf_kv *kv, size_t n, struct err *e)
{
    if (n)
        qsort(kv, n, sizeof *kv, by_key);
    for (size_t i = 1; i < n; i++)
        if (str_eq(kv[i - 1].key, kv[i].key))
            return fail_kv(g, &kv[i], "key-twice", "a key stands twice", e);
    return ST_OK;
}

/* The pairs as little-endian bytes: where they stand, or copied. */
static enum status attach(struct gguf *g, struct file *f, uint64_t from, uint64_t to,
                          const struct gguf_kv *kv, size_t n, struct model *m, struct err *e)
{
    struct attachment *a;
    struct buf b = BUF_INIT;
    uint8_t *copy = NULL;
    enum status st = ST_OK;
    if (from == to)
        return ST_OK;
    if (g->big) {
        for (size_t i = 0; st == ST_OK && i < n; i++)
            st = gguf_copy_kv(g, &kv[i], &b, e);
        if (st == ST_OK && !(copy = arena_alloc(&m->arena, 1, b.n + 1)))
            st = err_nomem(e, b.n);
        if (st == ST_OK)
            memcpy(copy, b.p, b.n);
        buf_free(&b);
        cur_seek(g->c, to);
        TRY(st);
    }
    TRY(model_attach(m, &a, e));
    a->name = STR(GGUF_ATTACHMENT);
    a->media_type = STR(GGUF_MEDIA_TYPE);
    a->n_bytes = to - from;
    a->mem = copy;
    if (!copy) {
        a->file = f;
        a->offset = from;
    }
    return ST_OK;
}

static enum status all_keys(struct gguf *g, struct file *f, const struct read_opt *opt, bool first,
                            struct gguf_kv *kv, struct buf *text, struct model *m,
                            struct gguf_keys *out, struct err *e)
{
    uint64_t from = g->c->pos;
    size_t n = (size_t)g->n_keys;
    for (size_t i = 0; i < n; i++) {
        TRY(gguf_next_kv(g, &m->arena, &kv[i], e));
        TRY(known_key(g, &kv[i], out, e));
        if (opt->scan && opt->finding)
            TRY(scan_template(g, &kv[i], opt, text, e));
        if (!first || is_split(kv[i].key))
            continue;
        TRY(value_text(g, &kv[i], text, e));
        TRY(model_meta_add(m, kv[i].key, buf_as_str(text), e));
    }
    uint64_t to = g->c->pos;
    if (first && !opt->weights_only)
        TRY(attach(g, f, from, to, kv, n, m, e));
    TRY(no_key_twice(g, kv, n, e));
    return ST_OK;
}

enum status gguf_read_keys(struct gguf *g, struct file *f, const struct read_opt *opt, bool first,
                           struct model *m, struct gguf_keys *out, struct err *e)
{
    struct buf text = BUF_INIT;
    *out = (struct gguf_keys){.alignment = GGUF_ALIGNMENT, .split_tensors = UINT64_MAX};
    struct gguf_kv *kv = mem_zalloc((size_t)g->n_keys + 1, sizeof *kv);
    enum status st = kv ? ST_OK : err_nomem(e, g->n_keys * sizeof *kv);
    if (st == ST_OK)
        st = all_keys(g, f, opt, first, kv, &text, m, out, e);
    mem_free(kv);
    buf_free(&text);
    return st;
}

/* ---- writing ---- */

/* Keys that a file must have, added where texts of another container are all there is: pairs that
 * came from a GGUF file are left as they were. */
struct present {
    bool architecture, quantization;
};

static void note(struct present *p, struct str key)
{
    p->architecture |= str_is(key, "general.architecture");
    p->quantization |= str_is(key, "general.quantization_version");
}

/* The attachment comes from a file of anybody's: it passes the cursor again. */
static enum status from_attachment(struct cursor *c, struct buf *b, uint64_t *n,
                                   uint32_t *alignment, struct err *e)
{
    struct gguf g = {.c = c};
    struct arena a = ARENA_INIT;
    struct gguf_keys k = {.alignment = GGUF_ALIGNMENT};
    enum status st = ST_OK;
    while (st == ST_OK && cur_left(c) > 0) {
        struct gguf_kv kv;
        st = gguf_next_kv(&g, &a, &kv, e);
        if (st == ST_OK)
            st = known_key(&g, &kv, &k, e);
        if (st == ST_OK && !is_split(kv.key)) {
            st = gguf_copy_kv(&g, &kv, b, e);
            ++*n;
        }
    }
    *alignment = k.alignment;
    arena_free(&a);
    return st;
}

static int by_meta_key(const void *a, const void *b)
{
    const struct meta *const *x = a, *const *y = b;
    int c = str_cmp((*x)->key, (*y)->key);
    return c ? c : *x < *y ? -1 : *x > *y;
}

/* Texts of another container, by key; the first of a doubled key stays. */
static enum status from_meta(const struct model *m, struct buf *b, uint64_t *n, struct present *p,
                             struct err *e)
{
    enum status st = ST_OK;
    const struct meta **list = mem_zalloc(m->n_meta + 1, sizeof *list);
    if (!list)
        return err_nomem(e, m->n_meta * sizeof *list);
    for (size_t i = 0; i < m->n_meta; i++)
        list[i] = &m->meta[i];
    qsort(list, m->n_meta, sizeof *list, by_meta_key);
    for (size_t i = 0; i < m->n_meta && st == ST_OK; i++) {
        struct str key = list[i]->key;
        size_t bad;
        if ((i && str_eq(list[i - 1]->key, key)) || is_split(key) ||
            str_is(key, "general.alignment") || str_is(key, "general.quantization_version"))
            continue;
        if (key.n == 0 || key.n > GGUF_NAME_MAX || !str_utf8(key, &bad) || *n == GGUF_KEYS_MAX) {
            st = err_set(e, ST_CANNOT, "metadata", "GGUF cannot hold a key like this");
            err_in(e, key.p, key.n);
            break;
        }
        gguf_w_kv_string(b, key, list[i]->value);
        note(p, key);
        ++*n;
    }
    mem_free(list);
    return st;
}

static bool quantised(const struct model *m)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        if (dtype_is_block(m->tensor[i].dtype))
            return true;
    return false;
}

enum status gguf_write_keys(const struct model *m, struct buf *b, uint64_t *n, uint32_t *alignment,
                            struct err *e)
{
    const struct attachment *from = NULL;
    struct present p = {false, false};
    enum status st;
    *n = 0;
    *alignment = GGUF_ALIGNMENT;
    for (size_t i = 0; i < m->n_attachments; i++)
        if (str_is(m->attachment[i].name, GGUF_ATTACHMENT))
            from = &m->attachment[i];
    if (from) {
        struct cursor c;
        if (from->mem)
            cur_mem(&c, from->mem, (size_t)from->n_bytes, GGUF_ATTACHMENT, 0);
        else
            cur_file(&c, from->file, from->offset, from->n_bytes);
        st = from_attachment(&c, b, n, alignment, e);
        cur_close(&c);
    } else {
        st = from_meta(m, b, n, &p, e);
    }
    if (st == ST_INPUT && from->mem &&
        e) /* an offset in the attachment, not in a file of its own */
        e->file[0] = 0;
    if (st == ST_INPUT)
        err_in(e, GGUF_ATTACHMENT, sizeof GGUF_ATTACHMENT - 1);
    TRY(st);
    if (!from && !p.architecture) {
        gguf_w_kv_string(b, STR("general.architecture"), STR("unknown"));
        ++*n;
    }
    if (!from && !p.quantization && quantised(m)) {
        gguf_w_kv_u32(b, STR("general.quantization_version"), 2);
        ++*n;
    }
    return buf_ok(b, e);
}
