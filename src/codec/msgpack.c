/* See msgpack.h. */
#include "codec/msgpack.h"
#include <stdio.h>

void msgpack_init(struct msgpack *r, struct cursor *c, uint64_t end)
{
    *r = (struct msgpack){.c = c, .end = end, .next_ = c->pos, .owed_ = 1};
}

enum status msgpack_fail(struct msgpack *r, struct err *e, const char *code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)cur_fail(r->c, r->at, code, "%s", text);
    return cur_ok(r->c, e);
}

/* n bytes, big-endian. */
static uint64_t number(struct msgpack *r, size_t n)
{
    return n == 1   ? cur_u8(r->c)
           : n == 2 ? cur_u16be(r->c)
           : n == 4 ? cur_u32be(r->c)
                    : cur_u64be(r->c);
}

static int64_t as_signed(uint64_t v, size_t n)
{
    uint64_t sign = (uint64_t)1 << (8 * n - 1);
    return v & sign ? (int64_t)(v | ~(sign * 2 - 1)) : (int64_t)v;
}

static enum status bytes(struct msgpack *r, enum msgpack_kind kind, uint64_t n, struct err *e)
{
    if (kind == MSGPACK_EXT)
        r->type = (int8_t)cur_u8(r->c);
    if (cur_failed(r->c))
        return cur_ok(r->c, e);
    if (r->c->pos > r->end || n > r->end - r->c->pos)
        return msgpack_fail(r, e, "truncated", "%llu bytes are declared, %llu are left",
                            (unsigned long long)n,
                            (unsigned long long)(r->c->pos > r->end ? 0 : r->end - r->c->pos));
    r->kind = kind;
    r->n = n;
    r->body = r->c->pos;
    r->next_ = r->body + n;
    return ST_OK;
}

static enum status container(struct msgpack *r, enum msgpack_kind kind, uint64_t n, struct err *e)
{
    uint64_t values = kind == MSGPACK_MAP ? 2 * n : n; /* n < 2^32 */
    if (cur_failed(r->c))
        return cur_ok(r->c, e);
    if (r->depth == MSGPACK_MAX_DEPTH)
        return msgpack_fail(r, e, "msgpack-depth", "nested deeper than %d", MSGPACK_MAX_DEPTH);
    r->owed_ += values;
    if (r->c->pos > r->end || r->owed_ > r->end - r->c->pos)
        return msgpack_fail(r, e, "msgpack-count",
                            "%llu values are declared, more than the bytes left can hold",
                            (unsigned long long)values);
    r->kind = kind;
    r->n = n;
    r->left_[r->depth++] = values;
    r->next_ = r->c->pos;
    return ST_OK;
}

static enum status scalar(struct msgpack *r, enum msgpack_kind kind, uint64_t v, struct err *e)
{
    r->kind = kind;
    r->u = v;
    r->next_ = r->c->pos;
    if (!cur_failed(r->c) && r->c->pos > r->end)
        return msgpack_fail(r, e, "truncated", "the value ends behind its place");
    return cur_ok(r->c, e);
}

static enum status integer(struct msgpack *r, size_t n, struct err *e)
{
    int64_t v = as_signed(number(r, n), n);
    r->i = v;
    return scalar(r, v < 0 ? MSGPACK_INT : MSGPACK_UINT, v < 0 ? 0 : (uint64_t)v, e);
}

static enum status token(struct msgpack *r, uint8_t t, struct err *e)
{
    if (t < 0x80)
        return scalar(r, MSGPACK_UINT, t, e);
    if (t < 0x90)
        return container(r, MSGPACK_MAP, t & 15, e);
    if (t < 0xa0)
        return container(r, MSGPACK_ARRAY, t & 15, e);
    if (t < 0xc0)
        return bytes(r, MSGPACK_STR, t & 31, e);
    if (t >= 0xe0) {
        r->i = (int64_t)t - 256;
        return scalar(r, MSGPACK_INT, 0, e);
    }
    switch (t) {
    case 0xc0:
        return scalar(r, MSGPACK_NIL, 0, e);
    case 0xc2:
    case 0xc3:
        return scalar(r, MSGPACK_BOOL, t & 1, e);
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return bytes(r, MSGPACK_BIN, number(r, (size_t)1 << (t - 0xc4)), e);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return bytes(r, MSGPACK_EXT, number(r, (size_t)1 << (t - 0xc7)), e);
    case 0xca:
        return scalar(r, MSGPACK_F32, number(r, 4), e);
    case 0xcb:
        return scalar(r, MSGPACK_F64, number(r, 8), e);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return scalar(r, MSGPACK_UINT, number(r, (size_t)1 << (t - 0xcc)), e);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return integer(r, (size_t)1 << (t - 0xd0), e);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return bytes(r, MSGPACK_EXT, (uint64_t)1 << (t - 0xd4), e);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return bytes(r, MSGPACK_STR, number(r, (size_t)1 << (t - 0xd9)), e);
    case 0xdc:
    case 0xdd:
        return container(r, MSGPACK_ARRAY, number(r, t == 0xdc ? 2 : 4), e);
    case 0xde:
    case 0xdf:
        return container(r, MSGPACK_MAP, number(r, t == 0xde ? 2 : 4), e);
    default:
        return msgpack_fail(r, e, "msgpack-type", "byte 0x%02x begins no value", t);
    }
}

enum status msgpack_next(struct msgpack *r, struct err *e)
{
    if (cur_failed(r->c))
        return cur_ok(r->c, e);
    cur_seek(r->c, r->next_);
    r->at = r->next_;
    if (r->depth && r->left_[r->depth - 1] == 0) {
        r->depth--;
        r->kind = MSGPACK_CLOSE;
        return cur_ok(r->c, e);
    }
    if (r->depth == 0 && r->done_) {
        r->kind = MSGPACK_DONE;
        return cur_ok(r->c, e);
    }
    if (r->depth)
        r->left_[r->depth - 1]--;
    else
        r->done_ = true;
    r->owed_--;
    if (r->at >= r->end)
        return msgpack_fail(r, e, "truncated", "a value is missing");
    uint8_t t = cur_u8(r->c);
    return cur_failed(r->c) ? cur_ok(r->c, e) : token(r, t, e);
}

enum status msgpack_body(struct msgpack *r, struct arena *a, struct str *out, struct err *e)
{
    size_t bad;
    cur_seek(r->c, r->body);
    *out = cur_str(r->c, (size_t)r->n, a);
    TRY(cur_ok(r->c, e));
    if (r->kind == MSGPACK_STR && !str_utf8(*out, &bad))
        return msgpack_fail(r, e, "msgpack-utf8", "the text is not UTF-8");
    return ST_OK;
}

enum status msgpack_finish(struct msgpack *r, struct err *e)
{
    TRY(cur_ok(r->c, e));
    if (r->next_ != r->end) {
        r->at = r->next_;
        return msgpack_fail(r, e, "msgpack-trailing", "%llu bytes follow the value",
                            (unsigned long long)(r->end - r->next_));
    }
    return ST_OK;
}

/* ---- writer ---- */

void msgpack_w_nil(struct buf *b)
{
    buf_u8(b, 0xc0);
}

void msgpack_w_bool(struct buf *b, bool v)
{
    buf_u8(b, v ? 0xc3 : 0xc2);
}

/* One of three heads, by the size of n; the first two may be absent (0). */
static void head(struct buf *b, uint8_t h8, uint8_t h16, uint8_t h32, uint32_t n)
{
    if (n < 0x100 && h8) {
        buf_u8(b, h8);
        buf_u8(b, (uint8_t)n);
    } else if (n < 0x10000) {
        buf_u8(b, h16);
        buf_u16be(b, (uint16_t)n);
    } else {
        buf_u8(b, h32);
        buf_u32be(b, n);
    }
}

void msgpack_w_u64(struct buf *b, uint64_t v)
{
    if (v < 0x80) {
        buf_u8(b, (uint8_t)v);
    } else if (v <= UINT32_MAX) {
        head(b, 0xcc, 0xcd, 0xce, (uint32_t)v);
    } else {
        buf_u8(b, 0xcf);
        buf_u64be(b, v);
    }
}

void msgpack_w_i64(struct buf *b, int64_t v)
{
    if (v >= 0) {
        msgpack_w_u64(b, (uint64_t)v);
    } else if (v >= -32) {
        buf_u8(b, (uint8_t)v);
    } else if (v >= INT8_MIN) {
        buf_u8(b, 0xd0);
        buf_u8(b, (uint8_t)v);
    } else if (v >= INT16_MIN) {
        buf_u8(b, 0xd1);
        buf_u16be(b, (uint16_t)v);
    } else if (v >= INT32_MIN) {
        buf_u8(b, 0xd2);
        buf_u32be(b, (uint32_t)v);
    } else {
        buf_u8(b, 0xd3);
        buf_u64be(b, (uint64_t)v);
    }
}

void msgpack_w_f64(struct buf *b, uint64_t bits)
{
    buf_u8(b, 0xcb);
    buf_u64be(b, bits);
}

void msgpack_w_str(struct buf *b, struct str s)
{
    if (s.n < 32)
        buf_u8(b, (uint8_t)(0xa0 | s.n));
    else
        head(b, 0xd9, 0xda, 0xdb, (uint32_t)s.n);
    buf_str(b, s);
}

void msgpack_w_map(struct buf *b, uint32_t n_pairs)
{
    if (n_pairs < 16)
        buf_u8(b, (uint8_t)(0x80 | n_pairs));
    else
        head(b, 0, 0xde, 0xdf, n_pairs);
}

void msgpack_w_array(struct buf *b, uint32_t n)
{
    if (n < 16)
        buf_u8(b, (uint8_t)(0x90 | n));
    else
        head(b, 0, 0xdc, 0xdd, n);
}

void msgpack_w_bin_head(struct buf *b, uint32_t n_bytes)
{
    head(b, 0xc4, 0xc5, 0xc6, n_bytes);
}

void msgpack_w_ext_head(struct buf *b, int8_t type, uint32_t n_bytes)
{
    if (n_bytes == 1 || n_bytes == 2 || n_bytes == 4 || n_bytes == 8 || n_bytes == 16)
        buf_u8(b, (uint8_t)(0xd4 + __builtin_ctz(n_bytes)));
    else
        head(b, 0xc7, 0xc8, 0xc9, n_bytes);
    buf_u8(b, (uint8_t)type);
}
