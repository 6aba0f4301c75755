/* JSON writer: canonical text onto a buffer. One spelling per value: no escapes but the needed
 * ones (short forms where JSON has them), UTF-8 as it is.
 */
#include "codec/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_w_init(struct json_w *w, struct buf *b, unsigned indent)
{
    *w = (struct json_w){.b = b, .indent = indent};
}

static void newline(struct json_w *w)
{
    if (w->indent) {
        buf_u8(w->b, '\n');
        buf_fill(w->b, ' ', (size_t)w->indent * w->depth);
    }
}

/* What stands between the previous element and this one. */
static void lead(struct json_w *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->any)
        buf_u8(w->b, ',');
    if (w->depth)
        newline(w);
    w->any = true;
}

static void open_with(struct json_w *w, uint8_t ch)
{
    lead(w);
    buf_u8(w->b, ch);
    w->depth++;
    w->any = false;
}

static void close_with(struct json_w *w, uint8_t ch)
{
    w->depth--;
    if (w->any)
        newline(w);
    buf_u8(w->b, ch);
    w->any = true;
}

void json_w_object(struct json_w *w)
{
    open_with(w, '{');
}
void json_w_object_end(struct json_w *w)
{
    close_with(w, '}');
}
void json_w_array(struct json_w *w)
{
    open_with(w, '[');
}
void json_w_array_end(struct json_w *w)
{
    close_with(w, ']');
}

static void quote(struct buf *b, struct str s)
{
    static const char hex[] = "0123456789abcdef";
    buf_u8(b, '"');
    size_t lo = 0;
    while (lo < s.n) {
        size_t bad = 0;
        struct str rest = str_sub(s, lo, s.n);
        size_t hi = str_utf8(rest, &bad) ? s.n : lo + bad;
        size_t run = lo;
        for (size_t i = lo; i < hi; i++) {
            uint8_t ch = (uint8_t)s.p[i];
            if (ch >= 0x20 && ch != '"' && ch != '\\')
                continue;
            buf_bytes(b, s.p + run, i - run);
            run = i + 1;
            const char *esc = ch == '"'    ? "\\\""
                              : ch == '\\' ? "\\\\"
                              : ch == '\b' ? "\\b"
                              : ch == '\f' ? "\\f"
                              : ch == '\n' ? "\\n"
                              : ch == '\r' ? "\\r"
                              : ch == '\t' ? "\\t"
                                           : NULL;
            if (esc) {
                buf_z(b, esc);
            } else {
                buf_z(b, "\\u00");
                buf_u8(b, (uint8_t)hex[ch >> 4]);
                buf_u8(b, (uint8_t)hex[ch & 15]);
            }
        }
        buf_bytes(b, s.p + run, hi - run);
        lo = hi;
        if (lo < s.n) {
            buf_z(b, "\xef\xbf\xbd");
            lo++;
        }
    }
    buf_u8(b, '"');
}

void json_w_key(struct json_w *w, struct str key)
{
    lead(w);
    quote(w->b, key);
    buf_z(w->b, w->indent ? ": " : ":");
    w->after_key = true;
}
void json_w_str(struct json_w *w, struct str s)
{
    lead(w);
    quote(w->b, s);
}
static void digits(struct buf *b, uint64_t v)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_bytes(b, text + at, sizeof text - at);
}
void json_w_u64(struct json_w *w, uint64_t v)
{
    lead(w);
    digits(w->b, v);
}
void json_w_i64(struct json_w *w, int64_t v)
{
    lead(w);
    if (v < 0)
        buf_u8(w->b, '-');
    digits(w->b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}
double json_text_double(struct str number)
{
    char text[64];
    if (number.n >= sizeof text)
        return 0;
    memcpy(text, number.p, number.n);
    text[number.n] = 0;
    return strtod(text, NULL);
}

void json_w_double(struct json_w *w, double v)
{
    char text[40];
    if (!isfinite(v)) {
        json_w_null(w);
        return;
    }
    for (int prec = 1; prec <= 17; prec++) {
        snprintf(text, sizeof text, "%.*g", prec, v);
        /* the process stays in the C locale, so the point is a point */
        if (strtod(text, NULL) == v)
            break;
    }
    lead(w);
    buf_z(w->b, text);
}
void json_w_bool(struct json_w *w, bool v)
{
    lead(w);
    buf_z(w->b, v ? "true" : "false");
}
void json_w_null(struct json_w *w)
{
    lead(w);
    buf_z(w->b, "null");
}
void json_w_raw(struct json_w *w, struct str text)
{
    lead(w);
    buf_str(w->b, text);
}
