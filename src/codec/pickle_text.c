/* Numbers and strings that pickles of protocol 0 spell as text. Python takes more spellings than
 * Python writes; here only what repr() writes is taken, so that no two readers can differ.
 */
#include "base/mem.h"
#include "codec/pickle_room.h"
#include <stdlib.h>
#include <string.h>

static bool decimal(struct str s, bool *negative, struct str *digits)
{
    *negative = s.n > 0 && s.p[0] == '-';
    *digits = str_sub(s, *negative ? 1 : 0, s.n);
    if (digits->n == 0 || (digits->p[0] == '0' && digits->n > 1))
        return false;
    for (size_t i = 0; i < digits->n; i++)
        if (digits->p[i] < '0' || digits->p[i] > '9')
            return false;
    return true;
}

enum status pickle_text_int(struct vm *m, bool is_long)
{
    struct str s, digits;
    bool negative;
    TRY(pickle_line(m, 64, &s));
    if (!is_long && (str_is(s, "00") || str_is(s, "01")))
        return pickle_push_bool(m, s.p[1] == '1');
    if (is_long) {
        if (s.n == 0 || s.p[s.n - 1] != 'L')
            return pickle_bad(m, "pickle-number", "long integer without its L");
        s.n--;
    }
    uint64_t u;
    if (!decimal(s, &negative, &digits) || (negative && str_is(digits, "0")))
        return pickle_bad(m, "pickle-number", "not a plain decimal integer");
    if (!str_u64(digits, &u) || u > (uint64_t)INT64_MAX + negative)
        return pickle_bad(m, "pickle-number", "integer beyond 64 bits as text");
    return pickle_push_int(m, negative ? (int64_t)(0 - u) : (int64_t)u);
}

static bool float_text(struct str s)
{
    size_t i = s.n > 0 && s.p[0] == '-', digits = 0;
    struct str rest = str_sub(s, i, s.n);
    if (str_is(rest, "inf") || str_is(rest, "nan"))
        return true;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        digits++;
    if (i < s.n && s.p[i] == '.')
        for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
            digits++;
    if (digits == 0)
        return false;
    if (i == s.n)
        return true;
    if (s.p[i] != 'e' && s.p[i] != 'E')
        return false;
    i++;
    if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
        i++;
    size_t from = i;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    return i == s.n && i > from && i - from <= 4;
}

enum status pickle_text_float(struct vm *m)
{
    struct str s;
    TRY(pickle_line(m, 64, &s));
    if (!float_text(s))
        return pickle_bad(m, "pickle-number", "not a plain decimal number");
    char t[65];
    memcpy(t, s.p, s.n);
    t[s.n] = 0;
    double d = strtod(t, NULL);
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    if ((bits & INT64_MAX) == 0x7ff0000000000000u && s.p[s.n - 1] != 'f')
        return pickle_bad(m, "pickle-number", "number beyond a double");
    struct pk_val *x;
    TRY(pickle_push(m, PK_FLOAT, &x));
    x->bits = bits;
    return ST_OK;
}

static enum status arena_text(struct vm *m, size_t n, char **out)
{
    *out = arena_alloc(&m->p->arena, n + 1, 1);
    return *out ? ST_OK : err_nomem(m->e, n);
}

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F')
        return ch - 'A' + 10;
    return -1;
}
static bool hex_run(const char *s, size_t n, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        int h = hex(s[i]);
        if (h < 0)
            return false;
        *out = *out << 4 | (uint32_t)h;
    }
    return true;
}

/* STRING: what Python 2's repr of a byte string gives, in quotes. */
enum status pickle_text_string(struct vm *m)
{
    struct str s;
    bool far;
    TRY(pickle_long_line(m, PK_BYTES, PK_QUOTED, &s, &far));
    if (far)
        return ST_OK;
    if (s.n < 2 || (s.p[0] != '\'' && s.p[0] != '"') || s.p[s.n - 1] != s.p[0])
        return pickle_bad(m, "pickle-string", "string without its quotes");
    char *t;
    TRY(arena_text(m, s.n, &t));
    size_t n = 0;
    for (size_t i = 1; i < s.n - 1; i++) {
        if (s.p[i] == s.p[0])
            return pickle_bad(m, "pickle-string", "quote inside a string");
        if (s.p[i] != '\\') {
            t[n++] = s.p[i];
            continue;
        }
        static const char from[] = "\\'\"nrtabfv", to[] = "\\'\"\n\r\t\a\b\f\v";
        const char *k = ++i < s.n - 1 ? strchr(from, s.p[i]) : NULL;
        uint32_t u = 0;
        if (k && *k) {
            t[n++] = to[k - from];
        } else if (i + 2 < s.n - 1 && s.p[i] == 'x' && hex_run(s.p + i + 1, 2, &u)) {
            t[n++] = (char)u;
            i += 2;
        } else {
            return pickle_bad(m, "pickle-string", "unknown escape in a string");
        }
    }
    return pickle_push_string(m, t, n);
}

/* UNICODE: raw-unicode-escape; bytes are Latin-1, \u and \U are code points. */
enum status pickle_text_unicode(struct vm *m)
{
    struct str s;
    bool far;
    TRY(pickle_long_line(m, PK_STR, PK_ESCAPED, &s, &far));
    if (far)
        return ST_OK;
    char *t;
    TRY(arena_text(m, s.n * 2, &t));
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint32_t u = (uint8_t)s.p[i];
        if (u == '\\' && i + 1 < s.n && (s.p[i + 1] == 'u' || s.p[i + 1] == 'U')) {
            size_t digits = s.p[i + 1] == 'u' ? 4 : 8;
            if (s.n - i - 2 < digits || !hex_run(s.p + i + 2, digits, &u) || u > 0x10ffff)
                return pickle_bad(m, "pickle-string", "unknown escape in a string");
            i += 1 + digits;
        }
        if (u < 0x80) {
            t[n++] = (char)u;
        } else if (u < 0x800) {
            t[n++] = (char)(0xc0 | u >> 6);
            t[n++] = (char)(0x80 | (u & 0x3f));
        } else if (u < 0x10000) {
            t[n++] = (char)(0xe0 | u >> 12);
            t[n++] = (char)(0x80 | (u >> 6 & 0x3f));
            t[n++] = (char)(0x80 | (u & 0x3f));
        } else {
            t[n++] = (char)(0xf0 | u >> 18);
            t[n++] = (char)(0x80 | (u >> 12 & 0x3f));
            t[n++] = (char)(0x80 | (u >> 6 & 0x3f));
            t[n++] = (char)(0x80 | (u & 0x3f));
        }
    }
    return pickle_push_text(m, PK_STR, t, n);
}
