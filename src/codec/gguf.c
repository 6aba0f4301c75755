/* See gguf.h. */
#include "codec/gguf.h"
#include "base/checked.h"
#include <string.h>

static const struct {
    const char *name;
    uint8_t bytes;
} types[GGUF_TYPES] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

size_t gguf_type_bytes(uint32_t type)
{
    return type < GGUF_TYPES ? types[type].bytes : 0;
}

const char *gguf_type_name(uint32_t type)
{
    return type < GGUF_TYPES ? types[type].name : "unknown";
}

static uint32_t get_u32(struct gguf *g)
{
    return g->big ? cur_u32be(g->c) : cur_u32(g->c);
}

static uint64_t get_u64(struct gguf *g)
{
    return g->big ? cur_u64be(g->c) : cur_u64(g->c);
}

static uint64_t get_bits(struct gguf *g, size_t n)
{
    switch (n) {
    case 1:
        return cur_u8(g->c);
    case 2:
        return g->big ? cur_u16be(g->c) : cur_u16(g->c);
    case 4:
        return get_u32(g);
    default:
        return get_u64(g);
    }
}

enum status gguf_begin(struct gguf *g, struct cursor *c, struct err *e)
{
    const uint8_t *magic = cur_take(c, 4);
    *g = (struct gguf){.c = c};
    if (magic && memcmp(magic, "GGUF", 4) != 0)
        cur_fail(c, 0, "bad-magic", "a GGUF file begins with 'GGUF'");
    g->version = cur_u32(c);
    if (g->version != 0 && (g->version & 0xffff) == 0) {
        g->big = true;
        g->version = __builtin_bswap32(g->version);
    }
    if (!cur_failed(c) && g->version == 1)
        cur_fail(c, 4, "version-1", "GGUF version 1, with lengths of 32 bits, is not read");
    else if (!cur_failed(c) && g->version != 2 && g->version != 3)
        cur_fail(c, 4, "bad-version", "GGUF version %lu; 2 and 3 are read",
                 (unsigned long)g->version);
    g->n_tensors = get_u64(g);
    g->n_keys = get_u64(g);
    if (cur_failed(c))
        return cur_ok(c, e);
    /* an entry takes at least 8 + 4 + 8 + 4 + 8 bytes, a pair 8 + 4 + 1 */
    if (g->n_tensors > GGUF_TENSORS_MAX || g->n_tensors > cur_left(c) / 32)
        cur_fail(c, 8, "too-many-tensors", "%llu tensors in a file of %llu bytes",
                 (unsigned long long)g->n_tensors, (unsigned long long)c->end);
    else if (g->n_keys > GGUF_KEYS_MAX || g->n_keys > cur_left(c) / 13)
        cur_fail(c, 16, "too-many-keys", "%llu key-values in a file of %llu bytes",
                 (unsigned long long)g->n_keys, (unsigned long long)c->end);
    return cur_ok(c, e);
}

/* A key or a name, copied. */
static struct str get_name(struct gguf *g, struct arena *a, const char *code)
{
    struct cursor *c = g->c;
    uint64_t at = c->pos, n = get_u64(g);
    size_t bad;
    if (!cur_failed(c) && (n == 0 || n > GGUF_NAME_MAX))
        cur_fail(c, at, code, "a name of %llu bytes", (unsigned long long)n);
    if (cur_failed(c))
        return STR_NONE;
    struct str s = cur_str(c, (size_t)n, a);
    if (s.p && (!str_utf8(s, &bad) || str_find(s, 0, 0) < s.n))
        cur_fail(c, at + 8, code, "a name that is not UTF-8 or holds a NUL");
    return s;
}

/* The length of a string, which must lie in the file; the cursor stands before its bytes. */
static uint64_t get_length(struct gguf *g)
{
    uint64_t at = g->c->pos, n = get_u64(g);
    if (!cur_failed(g->c) && n > cur_left(g->c))
        cur_fail(g->c, at, "truncated", "a string of %llu bytes, %llu are left",
                 (unsigned long long)n, (unsigned long long)cur_left(g->c));
    return cur_failed(g->c) ? 0 : n;
}

static void skip_array(struct gguf *g, struct gguf_kv *kv)
{
    struct cursor *c = g->c;
    uint64_t at = c->pos, bytes;
    kv->elem = get_u32(g);
    kv->n = get_u64(g);
    kv->value_at = c->pos;
    size_t each = gguf_type_bytes(kv->elem);
    if (cur_failed(c))
        return;
    if (kv->elem == GGUF_ARRAY)
        cur_fail(c, at, "nested-array", "an array of arrays, which no reader takes");
    else if (kv->elem >= GGUF_TYPES)
        cur_fail(c, at, "bad-type", "an array of type %lu", (unsigned long)kv->elem);
    else if (!mul_u64(kv->n, each ? each : 8, &bytes) || bytes > cur_left(c))
        cur_fail(c, at + 4, "truncated", "an array of %llu %s, %llu bytes are left",
                 (unsigned long long)kv->n, gguf_type_name(kv->elem),
                 (unsigned long long)cur_left(c));
    else if (each)
        cur_skip(c, bytes);
    else
        for (uint64_t i = 0; i < kv->n && !cur_failed(c); i++)
            cur_skip(c, get_length(g));
}

enum status gguf_next_kv(struct gguf *g, struct arena *a, struct gguf_kv *kv, struct err *e)
{
    struct cursor *c = g->c;
    *kv = (struct gguf_kv){.at = c->pos};
    kv->key = get_name(g, a, "bad-key");
    uint64_t at = c->pos;
    kv->type = get_u32(g);
    kv->value_at = c->pos;
    size_t each = gguf_type_bytes(kv->type);
    if (cur_failed(c))
        return cur_ok(c, e);
    if (each) {
        kv->bits = get_bits(g, each);
    } else if (kv->type == GGUF_STRING) {
        kv->n = get_length(g);
        kv->value_at = c->pos;
        cur_skip(c, kv->n);
    } else if (kv->type == GGUF_ARRAY) {
        skip_array(g, kv);
    } else {
        cur_fail(c, at, "bad-type", "a value of type %lu", (unsigned long)kv->type);
    }
    kv->end = c->pos;
    return cur_ok(c, e);
}

/* n bytes at the cursor, in steps; units of `unit` bytes are turned round where the file is big. */
static void copy_run(struct gguf *g, uint64_t n, size_t unit, struct buf *b)
{
    enum { STEP = 1 << 16 };
    for (uint64_t at = 0; at < n && !cur_failed(g->c) && !b->failed; at += STEP) {
        size_t k = n - at < STEP ? (size_t)(n - at) : STEP, first = b->n;
        const uint8_t *p = cur_take(g->c, k);
        if (!p)
            return;
        buf_bytes(b, p, k);
        for (size_t i = 0; g->big && unit > 1 && !b->failed && i < k; i += unit)
            for (size_t x = 0; x < unit / 2; x++) {
                uint8_t *lo = b->p + first + i + x, *hi = b->p + first + i + unit - 1 - x, t = *lo;
                *lo = *hi;
                *hi = t;
            }
    }
}

static void copy_string(struct gguf *g, struct buf *b)
{
    uint64_t n = get_length(g);
    buf_u64(b, n);
    copy_run(g, n, 1, b);
}

enum status gguf_copy_kv(struct gguf *g, const struct gguf_kv *kv, struct buf *b, struct err *e)
{
    struct cursor *c = g->c;
    cur_seek(c, kv->at);
    if (!g->big) {
        copy_run(g, kv->end - kv->at, 1, b);
    } else {
        size_t each = gguf_type_bytes(kv->type);
        copy_string(g, b);
        buf_u32(b, get_u32(g));
        if (each) {
            copy_run(g, each, each, b);
        } else if (kv->type == GGUF_STRING) {
            copy_string(g, b);
        } else {
            each = gguf_type_bytes(kv->elem);
            buf_u32(b, get_u32(g));
            buf_u64(b, get_u64(g));
            if (each)
                copy_run(g, kv->n * each, each, b);
            for (uint64_t i = 0; !each && i < kv->n && !cur_failed(c) && !b->failed; i++)
                copy_string(g, b);
        }
    }
    TRY(cur_ok(c, e));
    return buf_ok(b, e);
}

enum status gguf_next_entry(struct gguf *g, struct arena *a, struct gguf_entry *t, struct err *e)
{
    struct cursor *c = g->c;
    *t = (struct gguf_entry){.at = c->pos};
    t->name = get_name(g, a, "bad-name");
    uint64_t at = c->pos;
    t->n_dims = get_u32(g);
    if (!cur_failed(c) && (t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX))
        cur_fail(c, at, "bad-dims", "a tensor of %lu dimensions", (unsigned long)t->n_dims);
    for (uint32_t d = 0; d < t->n_dims && !cur_failed(c); d++) {
        at = c->pos;
        t->dim[d] = get_u64(g);
        if (!cur_failed(c) && t->dim[d] == 0)
            cur_fail(c, at, "bad-dims", "a dimension of 0");
    }
    t->type_at = c->pos;
    t->type = get_u32(g);
    t->offset = get_u64(g);
    return cur_ok(c, e);
}

/* ---- writing ---- */

void gguf_w_begin(struct buf *b, uint64_t n_tensors, uint64_t n_keys)
{
    buf_z(b, "GGUF");
    buf_u32(b, 3);
    buf_u64(b, n_tensors);
    buf_u64(b, n_keys);
}

void gguf_w_string(struct buf *b, struct str s)
{
    buf_u64(b, s.n);
    buf_str(b, s);
}

void gguf_w_kv_string(struct buf *b, struct str key, struct str value)
{
    gguf_w_string(b, key);
    buf_u32(b, GGUF_STRING);
    gguf_w_string(b, value);
}

void gguf_w_kv_u32(struct buf *b, struct str key, uint32_t value)
{
    gguf_w_string(b, key);
    buf_u32(b, GGUF_U32);
    buf_u32(b, value);
}

void gguf_w_entry(struct buf *b, const struct gguf_entry *t)
{
    gguf_w_string(b, t->name);
    buf_u32(b, t->n_dims);
    for (uint32_t d = 0; d < t->n_dims; d++)
        buf_u64(b, t->dim[d]);
    buf_u32(b, t->type);
    buf_u64(b, t->offset);
}
