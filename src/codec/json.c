/* JSON pull reader. Bytes come from the cursor in blocks; a token is read byte by byte, strings in
 * runs of plain bytes. The grammar is a six-state machine with one bit per open container.
 */
#include "codec/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)
#define NUMBER_MAX 4096

enum state {
    S_VALUE,     /* a value must follow */
    S_ELEM_1,    /* just inside '[' */
    S_KEY_1,     /* just inside '{' */
    S_AFTER_KEY, /* ':' and a value must follow */
    S_AFTER,     /* after a value: ',' or the container's end */
    S_DONE
};

void json_init(struct json *j, struct cursor *c, size_t max_text)
{
    *j = (struct json){.c = c, .max_text = max_text ? max_text : (size_t)1 << 20};
    j->state_ = S_VALUE;
}

void json_free(struct json *j)
{
    buf_free(&j->buf_);
}

static uint64_t here(const struct json *j)
{
    return j->block_ ? j->block_at_ + (uint64_t)(j->p_ - j->block_) : j->c->pos;
}

static enum status failv(struct json *j, uint64_t at, struct err *e, const char *code,
                         const char *fmt, va_list ap)
{
    char text[400];
    vsnprintf(text, sizeof text, fmt, ap);
    if (!cur_failed(j->c))
        (void)cur_fail(j->c, at, code, "%s", text);
    return cur_ok(j->c, e);
}

static PRINTF(5, 6) enum status
    fail(struct json *j, uint64_t at, struct err *e, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    enum status st = failv(j, at, e, code, fmt, ap);
    va_end(ap);
    return st;
}

enum status json_fail(struct json *j, struct err *e, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    enum status st = failv(j, j->at, e, code, fmt, ap);
    va_end(ap);
    return st;
}

/* The next byte without taking it, or -1 at the end (or after a failed read). */
static int peek(struct json *j)
{
    if (j->p_ == j->hi_) {
        uint64_t left = cur_left(j->c), at = j->c->pos;
        size_t n = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        const uint8_t *p = n && !cur_failed(j->c) ? cur_take(j->c, n) : NULL;
        if (!p)
            return -1;
        j->p_ = j->block_ = p;
        j->hi_ = p + n;
        j->block_at_ = at;
    }
    return *j->p_;
}

static enum status truncated(struct json *j, struct err *e)
{
    return fail(j, here(j), e, "json-truncated", "the text ends inside a value");
}

static enum status syntax(struct json *j, struct err *e, const char *wanted)
{
    int ch = peek(j);
    if (ch < 0)
        return truncated(j, e);
    if (ch > 0x20 && ch < 0x7f)
        return fail(j, here(j), e, "json-syntax", "'%c' where %s should be", ch, wanted);
    return fail(j, here(j), e, "json-syntax", "byte 0x%02x where %s should be", (unsigned)ch,
                wanted);
}

static int skip_space(struct json *j)
{
    int ch;
    while ((ch = peek(j)) == ' ' || ch == '\n' || ch == '\r' || ch == '\t')
        j->p_++;
    return ch;
}

static enum status hex4(struct json *j, unsigned *out, struct err *e)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        int ch = peek(j);
        if (ch >= '0' && ch <= '9')
            v = v * 16 + (unsigned)(ch - '0');
        else if (ch >= 'a' && ch <= 'f')
            v = v * 16 + (unsigned)(ch - 'a') + 10;
        else if (ch >= 'A' && ch <= 'F')
            v = v * 16 + (unsigned)(ch - 'A') + 10;
        else
            return syntax(j, e, "a hexadecimal digit");
        j->p_++;
    }
    *out = v;
    return ST_OK;
}

static void put_utf8(struct buf *b, unsigned cp)
{
    if (cp < 0x80) {
        buf_u8(b, (uint8_t)cp);
    } else if (cp < 0x800) {
        buf_u8(b, (uint8_t)(0xc0 | cp >> 6));
        buf_u8(b, (uint8_t)(0x80 | (cp & 63)));
    } else if (cp < 0x10000) {
        buf_u8(b, (uint8_t)(0xe0 | cp >> 12));
        buf_u8(b, (uint8_t)(0x80 | (cp >> 6 & 63)));
        buf_u8(b, (uint8_t)(0x80 | (cp & 63)));
    } else {
        buf_u8(b, (uint8_t)(0xf0 | cp >> 18));
        buf_u8(b, (uint8_t)(0x80 | (cp >> 12 & 63)));
        buf_u8(b, (uint8_t)(0x80 | (cp >> 6 & 63)));
        buf_u8(b, (uint8_t)(0x80 | (cp & 63)));
    }
}

/* p_ stands on the backslash. */
static enum status escape(struct json *j, struct err *e)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint64_t at = here(j);
    j->p_++;
    int ch = peek(j);
    const char *k = ch > 0 ? strchr(from, ch) : NULL;
    if (k) {
        j->p_++;
        buf_u8(&j->buf_, (uint8_t)to[k - from]);
        return ST_OK;
    }
    if (ch != 'u')
        return syntax(j, e, "an escape");
    j->p_++;
    unsigned cp = 0, low = 0;
    TRY(hex4(j, &cp, e));
    if (cp >= 0xdc00 && cp < 0xe000)
        return fail(j, at, e, "json-surrogate", "low surrogate without a high one");
    if (cp >= 0xd800 && cp < 0xdc00) {
        for (const char *w = "\\u"; *w; w++) {
            if (peek(j) != *w)
                return peek(j) < 0
                           ? truncated(j, e)
                           : fail(j, at, e, "json-surrogate", "high surrogate without a low one");
            j->p_++;
        }
        TRY(hex4(j, &low, e));
        if (low < 0xdc00 || low >= 0xe000)
            return fail(j, at, e, "json-surrogate", "high surrogate without a low one");
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    }
    if (cp == 0)
        j->has_nul = true;
    put_utf8(&j->buf_, cp);
    return ST_OK;
}

/* p_ stands on a byte of 0x80 or more. */
static enum status multibyte(struct json *j, struct err *e)
{
    uint64_t at = here(j);
    unsigned lead = *j->p_++, n, lo = 0x80, hi = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf)
        n = 1;
    else if (lead >= 0xe0 && lead <= 0xef)
        n = 2;
    else if (lead >= 0xf0 && lead <= 0xf4)
        n = 3;
    else
        return fail(j, at, e, "json-utf8", "byte 0x%02x is not UTF-8", lead);
    if (lead == 0xe0)
        lo = 0xa0; /* overlong */
    else if (lead == 0xed)
        hi = 0x9f; /* surrogates */
    else if (lead == 0xf0)
        lo = 0x90; /* overlong */
    else if (lead == 0xf4)
        hi = 0x8f; /* above U+10FFFF */
    buf_u8(&j->buf_, (uint8_t)lead);
    for (unsigned i = 0; i < n; i++, lo = 0x80, hi = 0xbf) {
        int ch = peek(j);
        if (ch < 0)
            return truncated(j, e);
        if ((unsigned)ch < lo || (unsigned)ch > hi)
            return fail(j, at, e, "json-utf8", "bytes after 0x%02x are not UTF-8", lead);
        buf_u8(&j->buf_, (uint8_t)ch);
        j->p_++;
    }
    return ST_OK;
}

static enum status text_done(struct json *j, struct err *e)
{
    TRY(buf_ok(&j->buf_, e));
    j->text = (struct str){j->buf_.p ? (const char *)j->buf_.p : "", j->buf_.n};
    return ST_OK;
}

/* p_ stands on the opening quote. */
static enum status string(struct json *j, struct err *e)
{
    buf_clear(&j->buf_);
    j->has_nul = false;
    j->p_++;
    for (;;) {
        int ch = peek(j);
        if (ch < 0)
            return truncated(j, e);
        const uint8_t *q = j->p_;
        while (q < j->hi_ && *q >= 0x20 && *q < 0x80 && *q != '"' && *q != '\\')
            q++;
        if (q > j->p_) {
            buf_bytes(&j->buf_, j->p_, (size_t)(q - j->p_));
            j->p_ = q;
        } else if (ch == '"') {
            j->p_++;
            return text_done(j, e);
        } else if (ch == '\\') {
            TRY(escape(j, e));
        } else if (ch < 0x20) {
            return fail(j, here(j), e, "json-control", "raw control byte 0x%02x in a string",
                        (unsigned)ch);
        } else {
            TRY(multibyte(j, e));
        }
        if (j->buf_.n > j->max_text)
            return fail(j, j->at, e, "json-too-long", "string of more than %zu bytes", j->max_text);
        TRY(buf_ok(&j->buf_, e));
    }
}

static size_t digits(struct json *j)
{
    size_t n = 0;
    for (int ch; (ch = peek(j)) >= '0' && ch <= '9'; n++) {
        if (n < NUMBER_MAX)
            buf_u8(&j->buf_, (uint8_t)ch);
        j->p_++;
    }
    return n;
}

static enum status number(struct json *j, struct err *e)
{
    buf_clear(&j->buf_);
    j->is_int = true;
    if (peek(j) == '-') {
        buf_u8(&j->buf_, '-');
        j->p_++;
    }
    bool zero = peek(j) == '0';
    size_t n = digits(j), total = n;
    if (n == 0)
        return syntax(j, e, "a digit");
    if (zero && n > 1)
        return fail(j, j->at, e, "json-syntax", "number with a leading zero");
    if (peek(j) == '.') {
        j->is_int = false;
        buf_u8(&j->buf_, '.');
        j->p_++;
        if ((n = digits(j)) == 0)
            return syntax(j, e, "a digit");
        total += n;
    }
    if (peek(j) == 'e' || peek(j) == 'E') {
        j->is_int = false;
        buf_u8(&j->buf_, (uint8_t)peek(j));
        j->p_++;
        if (peek(j) == '+' || peek(j) == '-') {
            buf_u8(&j->buf_, (uint8_t)peek(j));
            j->p_++;
        }
        if ((n = digits(j)) == 0)
            return syntax(j, e, "a digit");
        total += n;
    }
    if (total > NUMBER_MAX)
        return fail(j, j->at, e, "json-too-long", "number of more than %d digits", NUMBER_MAX);
    return text_done(j, e);
}

static enum status word(struct json *j, const char *w, struct err *e)
{
    for (; *w; w++) {
        if (peek(j) != *w)
            return syntax(j, e, "true, false or null");
        j->p_++;
    }
    return ST_OK;
}

static bool in_object(const struct json *j)
{
    unsigned k = j->depth - 1;
    return j->open_[k / 64] >> (k % 64) & 1;
}

static enum status open_container(struct json *j, bool object, struct err *e)
{
    if (j->depth == JSON_MAX_DEPTH)
        return fail(j, j->at, e, "json-depth", "nested deeper than %d", JSON_MAX_DEPTH);
    uint64_t bit = (uint64_t)1 << (j->depth % 64);
    if (object)
        j->open_[j->depth / 64] |= bit;
    else
        j->open_[j->depth / 64] &= ~bit;
    j->depth++;
    j->p_++;
    j->kind = object ? JSON_OBJECT : JSON_ARRAY;
    j->state_ = object ? S_KEY_1 : S_ELEM_1;
    return ST_OK;
}

static enum status close_container(struct json *j, enum json_kind kind)
{
    j->p_++;
    j->depth--;
    j->kind = kind;
    j->state_ = S_AFTER;
    return ST_OK;
}

static enum status value(struct json *j, int ch, struct err *e)
{
    j->at = here(j);
    switch (ch) {
    case '{':
    case '[':
        return open_container(j, ch == '{', e);
    case '"':
        j->kind = JSON_STRING;
        TRY(string(j, e));
        break;
    case 't':
    case 'f':
        j->kind = JSON_BOOL;
        j->truth = ch == 't';
        TRY(word(j, ch == 't' ? "true" : "false", e));
        break;
    case 'n':
        j->kind = JSON_NULL;
        TRY(word(j, "null", e));
        break;
    default:
        if (ch != '-' && (ch < '0' || ch > '9'))
            return syntax(j, e, "a value");
        j->kind = JSON_NUMBER;
        TRY(number(j, e));
    }
    j->state_ = S_AFTER;
    return ST_OK;
}

static enum status key(struct json *j, int ch, struct err *e)
{
    if (ch != '"')
        return syntax(j, e, "a key");
    j->at = here(j);
    j->kind = JSON_KEY;
    TRY(string(j, e));
    j->state_ = S_AFTER_KEY;
    return ST_OK;
}

enum status json_next(struct json *j, struct err *e)
{
    j->text = STR_NONE;
    if (cur_failed(j->c))
        return cur_ok(j->c, e);
    if (j->state_ == S_DONE || (j->state_ == S_AFTER && j->depth == 0)) {
        j->state_ = S_DONE;
        j->kind = JSON_END;
        j->at = here(j);
        return ST_OK;
    }
    int ch = skip_space(j);
    if (j->state_ == S_AFTER_KEY) {
        if (ch != ':')
            return syntax(j, e, "':'");
        j->p_++;
        ch = skip_space(j);
        j->state_ = S_VALUE;
    } else if (j->state_ == S_AFTER || j->state_ == S_KEY_1 || j->state_ == S_ELEM_1) {
        bool obj = in_object(j);
        j->at = here(j);
        if (ch == (obj ? '}' : ']'))
            return close_container(j, obj ? JSON_OBJECT_END : JSON_ARRAY_END);
        if (j->state_ == S_AFTER) {
            if (ch != ',')
                return syntax(j, e, obj ? "',' or '}'" : "',' or ']'");
            j->p_++;
            ch = skip_space(j);
        }
        if (obj)
            return key(j, ch, e);
        j->state_ = S_VALUE;
    }
    return value(j, ch, e);
}

static const char *kind_name(enum json_kind k)
{
    switch (k) {
    case JSON_OBJECT:
        return "an object";
    case JSON_OBJECT_END:
        return "the object's end";
    case JSON_ARRAY:
        return "an array";
    case JSON_ARRAY_END:
        return "the array's end";
    case JSON_KEY:
        return "a key";
    case JSON_STRING:
        return "a string";
    case JSON_NUMBER:
        return "a number";
    case JSON_BOOL:
        return "a truth value";
    case JSON_NULL:
        return "null";
    case JSON_END:
    case JSON_NONE:
        break;
    }
    return "the end";
}

enum status json_expect(struct json *j, enum json_kind kind, const char *what, struct err *e)
{
    TRY(json_next(j, e));
    if (j->kind != kind)
        return json_fail(j, e, "json-syntax", "%s is %s, not %s", what, kind_name(j->kind),
                         kind_name(kind));
    return ST_OK;
}

enum status json_skip(struct json *j, struct err *e)
{
    if (j->kind != JSON_OBJECT && j->kind != JSON_ARRAY)
        return ST_OK;
    unsigned outer = j->depth - 1;
    while (j->depth > outer)
        TRY(json_next(j, e));
    return ST_OK;
}

enum status json_finish(struct json *j, const char *blanks, struct err *e)
{
    int ch;
    if (cur_failed(j->c))
        return cur_ok(j->c, e);
    while ((ch = peek(j)) > 0 && strchr(blanks, ch))
        j->p_++;
    if (ch >= 0)
        return fail(j, here(j), e, "json-trailing", "byte 0x%02x after the JSON text",
                    (unsigned)ch);
    return cur_ok(j->c, e);
}

bool json_u64(const struct json *j, uint64_t *out)
{
    return j->kind == JSON_NUMBER && j->is_int && str_u64(j->text, out);
}

bool json_double(const struct json *j, double *out)
{
    if (j->kind != JSON_NUMBER || j->text.n > 63)
        return false;
    *out = json_text_double(j->text);
    return isfinite(*out);
}

bool json_i64(const struct json *j, int64_t *out)
{
    if (j->kind != JSON_NUMBER || !j->is_int || j->text.n == 0)
        return false;
    bool neg = j->text.p[0] == '-';
    uint64_t v;
    if (!str_u64(str_sub(j->text, neg, j->text.n), &v))
        return false;
    if (neg ? v == 0 || v > (uint64_t)1 << 63 : v > INT64_MAX)
        return false;
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}
