/* See buf.h. */
#include "base/buf.h"
#include "base/checked.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

bool buf_reserve(struct buf *b, size_t more)
{
    size_t want;
    if (b->failed)
        return false;
    if (!add_size(b->n, more, &want))
        return !(b->failed = true);
    if (want <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < want)
        cap = cap > SIZE_MAX / 2 ? want : cap * 2;
    uint8_t *p = mem_resize(b->p, cap);
    if (!p && cap > want)
        p = mem_resize(b->p, cap = want);
    if (!p)
        return !(b->failed = true);
    b->p = p;
    b->cap = cap;
    return true;
}

/* Few bytes are the rule; musl's memcpy takes its time for them. */
static void copy(uint8_t *to, const uint8_t *p, size_t n)
{
    if (n > 32) {
        memcpy(to, p, n);
    } else if (n >= 16) {
        memcpy(to, p, 16);
        memcpy(to + n - 16, p + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, p, 8);
        memcpy(to + n - 8, p + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, p, 4);
        memcpy(to + n - 4, p + n - 4, 4);
    } else { /* 1 to 3 */
        to[0] = p[0];
        /* cppcheck-suppress objectIndex */
        to[n / 2] = p[n / 2];
        /* cppcheck-suppress objectIndex */
        to[n - 1] = p[n - 1];
    }
}

void buf_bytes(struct buf *b, const void *p, size_t n)
{
    if (n == 0 || !buf_reserve(b, n))
        return;
    copy(b->p + b->n, p, n);
    b->n += n;
}

void buf_str(struct buf *b, struct str s)
{
    buf_bytes(b, s.p, s.n);
}

void buf_z(struct buf *b, const char *z)
{
    buf_bytes(b, z, strlen(z));
}

void buf_u8(struct buf *b, uint8_t v)
{
    buf_bytes(b, &v, 1);
}

static void put_le(struct buf *b, uint64_t v, size_t n)
{
    uint8_t t[8];
    for (size_t i = 0; i < n; i++)
        t[i] = (uint8_t)(v >> (8 * i));
    buf_bytes(b, t, n);
}

static void put_be(struct buf *b, uint64_t v, size_t n)
{
    uint8_t t[8];
    for (size_t i = 0; i < n; i++)
        t[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    buf_bytes(b, t, n);
}

void buf_u16(struct buf *b, uint16_t v)
{
    put_le(b, v, 2);
}

void buf_u32(struct buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void buf_u64(struct buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void buf_u16be(struct buf *b, uint16_t v)
{
    put_be(b, v, 2);
}

void buf_u32be(struct buf *b, uint32_t v)
{
    put_be(b, v, 4);
}

void buf_u64be(struct buf *b, uint64_t v)
{
    put_be(b, v, 8);
}

void buf_fill(struct buf *b, uint8_t v, size_t n)
{
    if (n == 0 || !buf_reserve(b, n))
        return;
    memset(b->p + b->n, v, n);
    b->n += n;
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
    char few[64]; /* most texts; no text is made twice then */
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(few, sizeof few, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof few) {
        buf_bytes(b, few, (size_t)n);
    } else if (buf_reserve(b, (size_t)n + 1)) {
        vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

enum status buf_ok(const struct buf *b, struct err *e)
{
    return b->failed ? err_nomem(e, b->cap * 2) : ST_OK;
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

void buf_free(struct buf *b)
{
    mem_free(b->p);
    *b = (struct buf)BUF_INIT;
}
