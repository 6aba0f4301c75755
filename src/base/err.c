/* See err.h. */
#include "base/err.h"
#include "base/str.h"
#include <stdio.h>
#include <string.h>

size_t err_escape(const char *p, size_t len, char *out, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t o = 0, i = 0;
    if (n == 0)
        return 0;
    while (i < len) {
        size_t step = 1, bad;
        unsigned char c = (unsigned char)p[i];
        if (c >= 0x80) {
            /* the longest valid sequence that starts here, if any */
            for (step = 4; step > 1; step--)
                if (i + step <= len && str_utf8((struct str){p + i, step}, &bad))
                    break;
        }
        /* C1 control characters (U+0080..9F) steer terminals too */
        bool c1 = step == 2 && c == 0xc2 && (unsigned char)p[i + 1] < 0xa0;
        if ((step == 1 && (c < 0x20 || c >= 0x7f || c == '\\')) || c1) {
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
        i += step;
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
