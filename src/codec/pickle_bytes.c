/* See pickle_bytes.h. Source of the spellings: CPython Lib/pickle.py (save_bytes, save_str),
 * Objects/unicodeobject.c (raw-unicode-escape), Python 2's repr of strings.
 */
#include "codec/pickle_bytes.h"
#include "base/checked.h"
#include "base/mem.h"
#include <string.h>

enum { IN_BYTES = 32 << 10, LONGEST = 10 }; /* \UXXXXXXXX */

struct pickle_bytes {
    struct file *file;
    enum pk_spelling spelling;
    uint64_t off, left; /* spelled bytes not yet read */
    uint64_t raw, done;
    uint8_t quote; /* QUOTED: 0 before the first character */
    size_t at, n;  /* of in[] */
    uint8_t in[IN_BYTES];
};

bool pickle_bytes_fit(const struct pk_far *w, uint64_t raw)
{
    /* bytes that one byte takes at most, and the quotes around */
    uint64_t wide = w->spelling == PK_UTF8      ? 2
                    : w->spelling == PK_ESCAPED ? LONGEST
                    : w->spelling == PK_QUOTED  ? 4
                                                : 1;
    uint64_t around = w->spelling == PK_QUOTED ? 2 : 0, most, least;
    if (!mul_u64(raw, wide, &most) || !add_u64(most, around, &most) ||
        !add_u64(raw, around, &least))
        return false;
    return w->bytes >= least && w->bytes <= most;
}

enum status pickle_bytes_open(struct file *f, const struct pk_far *where, uint64_t raw,
                              struct pickle_bytes **out, struct err *e)
{
    struct pickle_bytes *s = mem_zalloc(1, sizeof *s);
    *out = s;
    if (!s)
        return err_nomem(e, sizeof *s);
    s->file = f;
    s->spelling = where->spelling;
    s->off = where->offset;
    s->left = where->bytes;
    s->raw = raw;
    return ST_OK;
}

void pickle_bytes_close(struct pickle_bytes *s)
{
    mem_free(s);
}

static enum status bad(const struct pickle_bytes *s, const char *code, const char *why,
                       struct err *e)
{
    err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(s->file), s->off - (s->n - s->at));
    return ST_INPUT;
}

/* Makes the longest character visible, where the file has it. */
static enum status fill(struct pickle_bytes *s, struct err *e)
{
    if (s->n - s->at >= LONGEST || s->left == 0)
        return ST_OK;
    memmove(s->in, s->in + s->at, s->n - s->at);
    s->n -= s->at;
    s->at = 0;
    size_t more = s->left < IN_BYTES - s->n ? (size_t)s->left : IN_BYTES - s->n;
    TRY(file_pread(s->file, s->in + s->n, more, s->off, e));
    s->n += more;
    s->off += more;
    s->left -= more;
    return ST_OK;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}
/* The value of n hexadecimal digits; -1 when they are none, or too few. */
static int64_t number(const uint8_t *p, size_t left, size_t n)
{
    int64_t v = 0;
    if (left < n)
        return -1;
    for (size_t i = 0; i < n; i++) {
        int h = hex(p[i]);
        if (h < 0)
            return -1;
        v = v << 4 | h;
    }
    return v;
}

/* One byte at p; the length of its spelling, 0 when there is none. */
static size_t utf8(const uint8_t *p, size_t left, uint8_t *out)
{
    *out = p[0];
    if (p[0] < 0x80)
        return 1;
    if ((p[0] != 0xc2 && p[0] != 0xc3) || left < 2 || (p[1] & 0xc0) != 0x80)
        return 0;
    *out = (uint8_t)(p[0] << 6 | (p[1] & 0x3f));
    return 2;
}
static size_t escaped(const uint8_t *p, size_t left, uint8_t *out)
{
    *out = p[0];
    if (p[0] != '\\' || left < 2 || (p[1] != 'u' && p[1] != 'U'))
        return 1;
    size_t digits = p[1] == 'u' ? 4 : 8;
    int64_t v = number(p + 2, left - 2, digits);
    *out = (uint8_t)v;
    return v < 0 || v > 0xff ? 0 : 2 + digits;
}
static size_t quoted(const uint8_t *p, size_t left, uint8_t *out)
{
    static const char from[] = "\\'\"nrtabfv", to[] = "\\'\"\n\r\t\a\b\f\v";
    *out = p[0];
    if (p[0] != '\\')
        return 1;
    const char *k = left < 2 || p[1] == 0 ? NULL : strchr(from, p[1]);
    if (k) {
        *out = (uint8_t)to[k - from];
        return 2;
    }
    int64_t v = left < 2 || p[1] != 'x' ? -1 : number(p + 2, left - 2, 2);
    *out = (uint8_t)v;
    return v < 0 ? 0 : 4;
}

/* The quotes at both ends. *end when the second is met. */
static enum status quote(struct pickle_bytes *s, bool *end, struct err *e)
{
    size_t left = s->n - s->at;
    if (s->quote == 0) {
        if (left < 2 || (s->in[s->at] != '\'' && s->in[s->at] != '"'))
            return bad(s, "pickle-string", "string without its quotes", e);
        s->quote = s->in[s->at++];
        TRY(fill(s, e));
        left = s->n - s->at;
    }
    *end = left == 1 && s->left == 0;
    if (*end && s->in[s->at] != s->quote)
        return bad(s, "pickle-string", "string without its quotes", e);
    if (!*end && (left == 0 || s->in[s->at] == s->quote))
        return bad(s, "pickle-string", "quote inside a string", e);
    return ST_OK;
}

static enum status one(struct pickle_bytes *s, uint8_t *out, bool *end, struct err *e)
{
    size_t n = 0;
    TRY(fill(s, e));
    *end = s->at == s->n;
    if (s->spelling == PK_QUOTED)
        TRY(quote(s, end, e));
    if (*end)
        return ST_OK;
    const uint8_t *p = s->in + s->at;
    size_t left = s->n - s->at;
    switch (s->spelling) {
    case PK_UTF8:
        n = utf8(p, left, out);
        break;
    case PK_ESCAPED:
        n = escaped(p, left, out);
        break;
    case PK_QUOTED:
        n = quoted(p, left - (s->left == 0), out); /* the last quote is no part of it */
        break;
    case PK_NEAR:
    case PK_RAW:
        *out = *p;
        n = 1;
    }
    if (n == 0)
        return bad(s, s->spelling == PK_QUOTED ? "pickle-string" : "pickle-latin1",
                   s->spelling == PK_QUOTED ? "unknown escape in a string"
                                            : "text that is no bytes in Latin-1",
                   e);
    s->at += n;
    return ST_OK;
}

enum status pickle_bytes_read(struct pickle_bytes *s, void *dst, size_t *n, struct err *e)
{
    uint64_t left = s->raw - s->done;
    size_t room = left < *n ? (size_t)left : *n, got = 0;
    bool all_asked = *n != 0 || s->raw == 0, end = false;
    uint8_t *p = dst, more;
    *n = 0;
    while (got < room) {
        TRY(one(s, p + got, &end, e));
        if (end)
            return bad(s, "pickle-bytes", "fewer bytes than the array has", e);
        got++;
    }
    s->done += got;
    if (s->done == s->raw && all_asked) {
        TRY(one(s, &more, &end, e));
        if (!end)
            return bad(s, "pickle-bytes", "more bytes than the array has", e);
    }
    *n = got;
    return ST_OK;
}
