/* See cursor.h. */
#include "base/cursor.h"
#include "base/checked.h"
#include <stdio.h>
#include <string.h>

/* Windows of a file: small where the cursor came from elsewhere, so that a header between large
 * arrays costs a page and not what stands behind it; each the double of the last where it goes on
 * nearby. */
#define WIN_MIN ((size_t)4 << 10)
#define WIN_READ ((size_t)64 << 10) /* the largest where files are read */
#define WIN_MAP ((size_t)1 << 20)   /* ... where they are mapped */
#define TAKE_MAX ((size_t)64 << 20)

void cur_file(struct cursor *c, struct file *f, uint64_t off, uint64_t len)
{
    memset(c, 0, sizeof *c);
    c->f = f;
    c->base = off;
    c->end = len;
    if (!range_in(off, len, file_size(f))) {
        c->end = 0;
        (void)err_set(&c->err, ST_INPUT, "truncated", "%llu bytes are declared here, %llu are left",
                      (unsigned long long)len,
                      (unsigned long long)(off < file_size(f) ? file_size(f) - off : 0));
        err_at(&c->err, file_path(f), off);
    }
}

void cur_mem(struct cursor *c, const void *p, size_t n, const char *name, uint64_t base)
{
    memset(c, 0, sizeof *c);
    c->name = name;
    c->base = base;
    c->end = n;
    c->win = p;
    c->win_hi = n;
}

void cur_close(struct cursor *c)
{
    window_close(&c->w);
    c->win = NULL;
    c->win_lo = c->win_hi = 0;
}

enum status cur_ok(const struct cursor *c, struct err *e)
{
    if (e && c->err.status != ST_OK)
        *e = c->err;
    return c->err.status;
}

enum status cur_fail(struct cursor *c, uint64_t at, const char *code, const char *fmt, ...)
{
    char text[sizeof c->err.reason];
    va_list ap;
    if (c->err.status != ST_OK)
        return c->err.status;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)err_set(&c->err, ST_INPUT, code, "%s", text);
    err_at(&c->err, c->f ? file_path(c->f) : c->name, c->base + at);
    return ST_INPUT;
}

/* Makes [pos, pos+n) visible; n is at most what is left. */
static bool slide(struct cursor *c, size_t n)
{
    if (c->pos >= c->win_lo && c->pos + n <= c->win_hi)
        return true;
    if (!c->f)
        return false; /* memory is all visible; cannot happen for pos + n <= end */
    size_t most = file_maps(c->f) ? WIN_MAP : WIN_READ, step = c->step_;
    bool near = c->pos + step >= c->win_lo && c->pos <= c->win_hi + step;
    step = step == 0 || !near ? WIN_MIN : step * 2 < most ? step * 2 : most;
    c->step_ = step;
    uint64_t left = c->end - c->pos;
    size_t want = n > step ? n : left < step ? (size_t)left : step;
    window_close(&c->w);
    c->win = NULL;
    c->win_lo = c->win_hi = 0;
    if (window_open(c->f, c->base + c->pos, want, &c->w, &c->err) != ST_OK)
        return false;
    c->win = c->w.p;
    c->win_lo = c->pos;
    c->win_hi = c->pos + want;
    return true;
}

const uint8_t *cur_peek(struct cursor *c, size_t n)
{
    if (c->err.status != ST_OK || n > c->end - c->pos || (c->f && n > TAKE_MAX) || !slide(c, n))
        return NULL;
    return n == 0 ? (const uint8_t *)"" : c->win + (c->pos - c->win_lo);
}

const uint8_t *cur_take(struct cursor *c, size_t n)
{
    if (c->err.status != ST_OK)
        return NULL;
    if (n > c->end - c->pos) {
        cur_fail(c, c->pos, "truncated", "%llu bytes are needed here, %llu are left",
                 (unsigned long long)n, (unsigned long long)(c->end - c->pos));
        return NULL;
    }
    if (c->f && n > TAKE_MAX) {
        cur_fail(c, c->pos, "too-long", "a piece of %llu bytes is too long here",
                 (unsigned long long)n);
        return NULL;
    }
    const uint8_t *p = cur_peek(c, n);
    if (p)
        c->pos += n;
    return p;
}

void cur_skip(struct cursor *c, uint64_t n)
{
    if (c->err.status != ST_OK)
        return;
    if (n > c->end - c->pos)
        cur_fail(c, c->pos, "truncated", "%llu bytes are needed here, %llu are left",
                 (unsigned long long)n, (unsigned long long)(c->end - c->pos));
    else
        c->pos += n;
}

void cur_seek(struct cursor *c, uint64_t pos)
{
    if (c->err.status != ST_OK)
        return;
    if (pos > c->end)
        cur_fail(c, c->end, "truncated", "offset %llu lies behind the end",
                 (unsigned long long)pos);
    else
        c->pos = pos;
}

static uint64_t get(struct cursor *c, size_t n, bool big)
{
    const uint8_t *p = cur_take(c, n);
    uint64_t v = 0;
    if (!p)
        return 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * (big ? n - 1 - i : i));
    return v;
}

uint8_t cur_u8(struct cursor *c)
{
    return (uint8_t)get(c, 1, false);
}

uint16_t cur_u16(struct cursor *c)
{
    return (uint16_t)get(c, 2, false);
}

uint32_t cur_u32(struct cursor *c)
{
    return (uint32_t)get(c, 4, false);
}

uint64_t cur_u64(struct cursor *c)
{
    return get(c, 8, false);
}

uint16_t cur_u16be(struct cursor *c)
{
    return (uint16_t)get(c, 2, true);
}

uint32_t cur_u32be(struct cursor *c)
{
    return (uint32_t)get(c, 4, true);
}

uint64_t cur_u64be(struct cursor *c)
{
    return get(c, 8, true);
}

struct str cur_str(struct cursor *c, size_t n, struct arena *a)
{
    const uint8_t *p = cur_take(c, n);
    if (!p)
        return STR_NONE;
    struct str s = arena_str(a, p, n);
    if (!s.p)
        (void)err_nomem(&c->err, n);
    return s;
}

struct str cur_line(struct cursor *c, char delim, size_t max, struct arena *a)
{
    size_t n = 0;
    /* look in growing pieces, so that a window slides forward once */
    for (size_t look = 64;; look *= 4) {
        uint64_t left = c->end - c->pos;
        size_t k = look < left ? look : (size_t)left;
        const uint8_t *p = cur_peek(c, k);
        if (!p && !cur_failed(c))
            cur_fail(c, c->pos, "too-long", "a line is too long here");
        if (!p)
            return STR_NONE;
        const uint8_t *q = k > n ? memchr(p + n, delim, k - n) : NULL;
        n = q ? (size_t)(q - p) : k;
        if (n > max || (!q && k == left)) {
            cur_fail(c, c->pos, n > max ? "too-long" : "truncated",
                     "a line of at most %zu bytes should end here", max);
            return STR_NONE;
        }
        if (q) {
            struct str s = cur_str(c, n, a);
            cur_skip(c, 1);
            return s;
        }
    }
}
