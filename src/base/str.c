/* See str.h. */
#include "base/str.h"
#include "base/checked.h"
#include <string.h>

struct str str_from(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}

bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_is(struct str a, const char *z)
{
    return str_eq(a, str_from(z));
}

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_eq((struct str){s.p, prefix.n}, prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_eq(str_sub(s, s.n - suffix.n, s.n), suffix);
}

struct str str_sub(struct str s, size_t lo, size_t hi)
{
    if (hi > s.n)
        hi = s.n;
    if (lo > hi)
        lo = hi;
    return (struct str){s.p ? s.p + lo : NULL, hi - lo};
}

size_t str_find(struct str s, char c, size_t from)
{
    if (from >= s.n)
        return s.n;
    const char *q = memchr(s.p + from, c, s.n - from);
    return q ? (size_t)(q - s.p) : s.n;
}

size_t str_find_str(struct str s, struct str what, size_t from)
{
    if (what.n == 0)
        return from < s.n ? from : s.n;
    while (from < s.n && s.n - from >= what.n) {
        from = str_find(s, what.p[0], from);
        if (s.n - from < what.n)
            break;
        if (memcmp(s.p + from, what.p, what.n) == 0)
            return from;
        from++;
    }
    return s.n;
}

bool str_split(struct str *rest, char sep, struct str *part)
{
    if (!rest->p)
        return false;
    size_t at = str_find(*rest, sep, 0);
    *part = str_sub(*rest, 0, at);
    *rest = at < rest->n ? str_sub(*rest, at + 1, rest->n) : STR_NONE;
    return true;
}

bool str_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 20 || (s.n > 1 && s.p[0] == '0'))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (!mul_u64(v, 10, &v) || !add_u64(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool str_utf8(struct str s, size_t *bad_at)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t i = 0;
    while (i < s.n) {
        unsigned c = p[i];
        size_t len = c < 0x80                ? 1
                     : c >= 0xc2 && c < 0xe0 ? 2
                     : (c & 0xf0) == 0xe0    ? 3
                     : c >= 0xf0 && c < 0xf5 ? 4
                                             : 0;
        bool ok = len != 0 && s.n - i >= len;
        for (size_t k = 1; ok && k < len; k++)
            ok = (p[i + k] & 0xc0) == 0x80;
        if (ok && len == 3)
            ok = !(c == 0xe0 && p[i + 1] < 0xa0) && !(c == 0xed && p[i + 1] >= 0xa0);
        if (ok && len == 4)
            ok = !(c == 0xf0 && p[i + 1] < 0x90) && !(c == 0xf4 && p[i + 1] >= 0x90);
        if (!ok) {
            if (bad_at)
                *bad_at = i;
            return false;
        }
        i += len;
    }
    return true;
}

/* One [set] at pattern[*i]; moves *i behind it. An unclosed '[' stands for itself. */
static bool set_matches(struct str pat, size_t *i, unsigned char c)
{
    size_t k = *i + 1;
    bool negate = k < pat.n && pat.p[k] == '!';
    bool hit = false;
    size_t first = k += negate;
    while (k < pat.n && (pat.p[k] != ']' || k == first)) {
        unsigned char lo = (unsigned char)pat.p[k], hi = lo;
        if (k + 2 < pat.n && pat.p[k + 1] == '-' && pat.p[k + 2] != ']') {
            hi = (unsigned char)pat.p[k + 2];
            k += 2;
        }
        hit |= lo <= c && c <= hi;
        k++;
    }
    if (k >= pat.n) {
        bool same = c == '[';
        (*i)++;
        return same;
    }
    *i = k + 1;
    return hit != negate;
}

bool str_glob(struct str pat, struct str s)
{
    size_t i = 0, j = 0, star = SIZE_MAX, star_j = 0;
    while (j < s.n) {
        size_t next = i;
        bool ok = false;
        if (i < pat.n && pat.p[i] == '*') {
            star = i++;
            star_j = j;
            continue;
        }
        if (i < pat.n && pat.p[i] == '[') {
            ok = set_matches(pat, &next, (unsigned char)s.p[j]);
        } else if (i < pat.n) {
            ok = pat.p[i] == '?' || pat.p[i] == s.p[j];
            next = i + 1;
        }
        if (ok) {
            i = next;
            j++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            j = ++star_j;
        } else {
            return false;
        }
    }
    while (i < pat.n && pat.p[i] == '*')
        i++;
    return i == pat.n;
}

uint64_t str_hash(struct str s, uint64_t key)
{
    /* a multiply-xorshift chain over 8-byte words, keyed against chosen collisions */
    uint64_t h = key ^ (s.n * UINT64_C(0x9e3779b97f4a7c15));
    size_t i = 0;
    for (; i < s.n; i += 8) {
        uint64_t w = 0;
        size_t k = s.n - i < 8 ? s.n - i : 8;
        memcpy(&w, s.p + i, k);
        h ^= w * UINT64_C(0xbf58476d1ce4e5b9) + key;
        h = (h ^ (h >> 29)) * UINT64_C(0x94d049bb133111eb);
    }
    return h ^ (h >> 32);
}
