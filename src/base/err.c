/* See err.h. */
#include "base/err.h"
#include "base/stop.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the one UTF-8 character at p, or 1 where none starts. */
static size_t char_bytes(const char *p, size_t left)
{
    unsigned char c = (unsigned char)*p;
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1, bad;
    return n > 1 && n <= left && str_utf8((struct str){p, n}, &bad) ? n : 1;
}

/* What a terminal obeys instead of showing: C0, DEL, C1, line separators, marks that turn the
 * direction of writing. A byte that is no UTF-8 is among them. */
static bool steers(const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[0], d = n > 1 ? (unsigned char)p[1] : 0,
                  t = n > 2 ? (unsigned char)p[2] : 0;
    if (n == 1)
        return c < 0x20 || c >= 0x7f;
    if (n == 2)
        return c == 0xc2 && d < 0xa0; /* U+0080..9F */
    return n == 3 && c == 0xe2 &&
           ((d == 0x80 && (t == 0x8e || t == 0x8f || (t >= 0xa8 && t <= 0xae))) || /* U+200E.. */
            (d == 0x81 && t >= 0xa6 && t <= 0xa9));                                /* U+2066..69 */
}

size_t err_char(const char *p, size_t left, bool *unsafe)
{
    size_t n = char_bytes(p, left);
    *unsafe = steers(p, n);
    return n;
}

size_t err_escape(const char *p, size_t len, char *out, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t o = 0;
    if (n == 0)
        return 0;
    for (size_t i = 0, step; i < len; i += step) {
        bool unsafe;
        step = err_char(p + i, len - i, &unsafe);
        if (unsafe || p[i] == '\\') {
            if (o + 4 * step >= n)
                break;
            for (size_t k = 0; k < step; k++) {
                unsigned char b = (unsigned char)p[i + k];
                out[o++] = '\\';
                out[o++] = 'x';
                out[o++] = hex[b >> 4];
                out[o++] = hex[b & 15];
            }
        } else {
            if (o + step >= n)
                break;
            memcpy(out + o, p + i, step);
            o += step;
        }
    }
    out[o] = 0;
    return o;
}

static void vset(struct err *e, enum status st, const char *code, const char *fmt, va_list ap)
{
    char raw[sizeof e->reason];
    int n = vsnprintf(raw, sizeof raw, fmt, ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
    memset(e, 0, sizeof *e);
    e->status = st;
    e->code = code;
    err_escape(raw, len, e->reason, sizeof e->reason);
}

enum status err_set(struct err *e, enum status st, const char *code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        vset(e, st, code, fmt, ap);
        va_end(ap);
    }
    return st;
}

enum status err_sys(struct err *e, enum status st, const char *code, int sys, const char *fmt, ...)
{
    if (sys == EINTR && stop_requested())
        return stop_check(e);
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        vset(e, st, code, fmt, ap);
        va_end(ap);
        e->sys = sys;
        size_t n = strlen(e->reason);
        snprintf(e->reason + n, sizeof e->reason - n, ": %s", strerror(sys));
    }
    return st;
}

enum status err_nomem(struct err *e, uint64_t wanted_bytes)
{
    return err_set(e, ST_LIMIT, "memory", "memory limit hit: %llu more bytes are needed",
                   (unsigned long long)wanted_bytes);
}

void err_file(struct err *e, const char *file)
{
    if (e && e->file[0] == 0 && file)
        err_escape(file, strlen(file), e->file, sizeof e->file);
}

void err_at(struct err *e, const char *file, uint64_t offset)
{
    if (!e || e->has_offset)
        return;
    err_file(e, file);
    e->offset = offset;
    e->has_offset = true;
}

void err_in(struct err *e, const char *tensor, size_t n)
{
    if (e && e->tensor[0] == 0 && tensor)
        err_escape(tensor, n, e->tensor, sizeof e->tensor);
}

size_t err_line(const struct err *e, char *out, size_t n)
{
    struct {
        char *p;
        size_t o, n;
    } b = {out, 0, n};
    if (n == 0)
        return 0;
    out[0] = 0;
#define PUT(...)                                                                                   \
    do {                                                                                           \
        int k_ = b.o < b.n ? snprintf(b.p + b.o, b.n - b.o, __VA_ARGS__) : 0;                      \
        b.o += k_ > 0 ? (size_t)k_ : 0;                                                            \
        if (b.o >= b.n)                                                                            \
            b.o = b.n - 1;                                                                         \
    } while (0)
    if (e->file[0])
        PUT("%s: ", e->file);
    if (e->has_offset)
        PUT("byte %llu: ", (unsigned long long)e->offset);
    if (e->code)
        PUT("%s: ", e->code);
    PUT("%s", e->reason);
    if (e->tensor[0])
        PUT(" (%s)", e->tensor);
#undef PUT
    return b.o;
}
