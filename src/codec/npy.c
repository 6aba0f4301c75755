/* See npy.h. */
#include "codec/npy.h"
#include "base/checked.h"
#include <string.h>

enum { KEY_DESCR = 1, KEY_FORTRAN = 2, KEY_SHAPE = 4, KEY_ALL = 7 };
#define ELEMS_MAX ((uint64_t)1 << 62)

struct lit {
    struct cursor *c;
    const uint8_t *p; /* the literal */
    size_t n, at;
    uint64_t base; /* cursor position of p[0] */
};

static enum status bad(struct lit *x, size_t at, const char *code, const char *why, struct err *e)
{
    (void)cur_fail(x->c, x->base + at, code, "%s", why);
    return cur_ok(x->c, e);
}

static int peek(struct lit *x)
{
    while (x->at < x->n && (x->p[x->at] == ' ' || x->p[x->at] == '\t' || x->p[x->at] == '\n' ||
                            x->p[x->at] == '\r'))
        x->at++;
    return x->at < x->n ? x->p[x->at] : -1;
}

static bool take(struct lit *x, char ch)
{
    if (peek(x) != ch)
        return false;
    x->at++;
    return true;
}

static enum status text(struct lit *x, struct str *out, struct err *e)
{
    int quote = peek(x);
    size_t lo = x->at + 1;
    if (quote != '\'' && quote != '"')
        return bad(x, x->at, "npy-header", "a quoted string should stand here", e);
    for (x->at++; x->at < x->n && x->p[x->at] != quote; x->at++)
        if (x->p[x->at] < 0x20 || x->p[x->at] > 0x7e || x->p[x->at] == '\\')
            return bad(x, x->at, "npy-header", "a plain string should stand here", e);
    if (x->at == x->n)
        return bad(x, lo - 1, "npy-header", "the string does not end", e);
    *out = (struct str){(const char *)x->p + lo, x->at - lo};
    x->at++;
    return ST_OK;
}

static enum status read_descr(struct lit *x, struct npy *h, struct err *e)
{
    struct str s;
    uint64_t item;
    int ch = peek(x);
    size_t at = x->at;
    if (ch == '[' || ch == '(')
        return bad(x, at, "npy-structured", "structured types are no tensors", e);
    TRY(text(x, &s, e));
    if (s.n && strchr("<>|=", s.p[0])) {
        h->order = s.p[0];
        s = str_sub(s, 1, s.n);
    }
    if (s.n == 0)
        return bad(x, at, "npy-descr", "the element type is empty", e);
    h->type = s.p[0];
    if (!((h->type >= 'a' && h->type <= 'z') || (h->type >= 'A' && h->type <= 'Z')))
        return bad(x, at, "npy-descr", "the element type does not begin with a letter", e);
    size_t end = 1; /* M8[ns]: the unit is not our concern */
    while (end < s.n && s.p[end] >= '0' && s.p[end] <= '9')
        end++;
    bool unit = end < s.n && (h->type == 'M' || h->type == 'm') && s.p[end] == '[';
    if (end == 1 && s.n == 1 && h->type == 'O')
        return ST_OK;
    if ((end < s.n && !unit) || !str_u64(str_sub(s, 1, end), &item) || item > UINT32_MAX)
        return bad(x, at, "npy-descr", "the element type is not a letter and a size", e);
    h->item = (uint32_t)item;
    return ST_OK;
}

static enum status read_shape(struct lit *x, struct npy *h, struct err *e)
{
    bool comma = true;
    if (!take(x, '('))
        return bad(x, x->at, "npy-shape", "the shape is not a tuple", e);
    while (!take(x, ')')) {
        if (!comma)
            return bad(x, x->at, "npy-shape", "',' or ')' should stand here", e);
        if (h->n_dims == NPY_MAX_DIMS)
            return bad(x, x->at, "npy-shape", "too many dimensions", e);
        (void)peek(x);
        size_t lo = x->at;
        while (x->at < x->n && x->p[x->at] >= '0' && x->p[x->at] <= '9')
            x->at++;
        struct str digits = {(const char *)x->p + lo, x->at - lo};
        if (!str_u64(digits, &h->dim[h->n_dims]))
            return bad(x, lo, "npy-shape", "a dimension is not a whole number of 64 bits", e);
        if (x->at < x->n && x->p[x->at] == 'L')
            x->at++;
        h->n_dims++;
        comma = take(x, ',');
    }
    if (h->n_dims == 1 && !comma)
        return bad(x, x->at, "npy-shape", "the shape is a number, not a tuple", e);
    uint64_t elems = 1;
    for (size_t d = 0; d < h->n_dims; d++)
        if (h->dim[d] && (!mul_u64(elems, h->dim[d], &elems) || elems >= ELEMS_MAX))
            return bad(x, x->at, "npy-shape", "the product of the shape is too large", e);
    return ST_OK;
}

static enum status read_word(struct lit *x, bool *out, struct err *e)
{
    static const char *const word[] = {"False", "True"};
    (void)peek(x);
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(word[i]);
        if (x->n - x->at >= n && memcmp(x->p + x->at, word[i], n) == 0) {
            x->at += n;
            *out = i;
            return ST_OK;
        }
    }
    return bad(x, x->at, "npy-header", "True or False should stand here", e);
}

static enum status read_literal(struct lit *x, struct npy *h, struct err *e)
{
    unsigned seen = 0;
    bool comma = true;
    if (!take(x, '{'))
        return bad(x, x->at, "npy-header", "the header is not a dict", e);
    while (!take(x, '}')) {
        struct str key;
        if (!comma)
            return bad(x, x->at, "npy-header", "',' or '}' should stand here", e);
        (void)peek(x);
        size_t at = x->at;
        TRY(text(x, &key, e));
        unsigned bit = str_is(key, "descr")           ? KEY_DESCR
                       : str_is(key, "fortran_order") ? KEY_FORTRAN
                       : str_is(key, "shape")         ? KEY_SHAPE
                                                      : 0;
        if (!bit)
            return bad(x, at, "npy-key", "a key that no npy header has", e);
        if (seen & bit)
            return bad(x, at, "npy-key-twice", "a key stands twice", e);
        seen |= bit;
        if (!take(x, ':'))
            return bad(x, x->at, "npy-header", "':' should stand here", e);
        if (bit == KEY_DESCR)
            TRY(read_descr(x, h, e));
        else if (bit == KEY_FORTRAN)
            TRY(read_word(x, &h->fortran, e));
        else
            TRY(read_shape(x, h, e));
        comma = take(x, ',');
    }
    if (seen != KEY_ALL)
        return bad(x, 0, "npy-key", "a key is missing", e);
    size_t end = x->at;
    for (; end < x->n && x->p[end] == ' '; end++)
        ;
    if (end + 1 != x->n || x->p[end] != '\n')
        return bad(x, end, "npy-header", "blanks and one newline should end the header", e);
    return ST_OK;
}

enum status npy_read(struct cursor *c, struct npy *out, struct err *e)
{
    uint64_t start = c->pos;
    *out = (struct npy){0};
    size_t n_magic = cur_left(c) < 6 ? (size_t)cur_left(c) : 6;
    const uint8_t *p = cur_peek(c, n_magic);
    if (p && memcmp(p, "\x93NUMPY", n_magic) != 0) {
        (void)cur_fail(c, start, "npy-magic", "this is no npy array");
        return cur_ok(c, e);
    }
    p = cur_take(c, 8);
    if (!p)
        return cur_ok(c, e);
    uint8_t major = p[6], minor = p[7];
    if (major < 1 || major > 3 || minor != 0) {
        (void)cur_fail(c, start + 6, "npy-version", "version %u.%u is not known", major, minor);
        return cur_ok(c, e);
    }
    uint64_t at = c->pos, n = major == 1 ? cur_u16(c) : cur_u32(c);
    if (!cur_failed(c) && (n > NPY_HEADER_MAX || n > cur_left(c) || n == 0))
        (void)cur_fail(c, at, "npy-header-length", "the header's length is %llu, %llu are left",
                       (unsigned long long)n, (unsigned long long)cur_left(c));
    struct lit x = {.c = c, .base = c->pos, .n = (size_t)n};
    x.p = cur_take(c, x.n);
    if (!x.p)
        return cur_ok(c, e);
    TRY(read_literal(&x, out, e));
    out->data = c->pos - start;
    return ST_OK;
}

void npy_write(struct buf *b, const char *descr, const uint64_t *dim, size_t n_dims)
{
    size_t start = b->n, before;
    buf_bytes(b, "\x93NUMPY\x01\x00\0\0", 10);
    buf_fmt(b, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    before = b->n;
    for (size_t d = 0; d < n_dims; d++)
        buf_fmt(b, d ? ", %llu" : "%llu", (unsigned long long)dim[d]);
    buf_z(b, n_dims == 1 ? ",), }" : "), }");
    /* numpy leaves room for the first axis to grow to 21 digits */
    if (n_dims) {
        size_t digits = 0;
        while (!b->failed && before + digits < b->n && b->p[before + digits] >= '0' &&
               b->p[before + digits] <= '9')
            digits++;
        buf_fill(b, ' ', digits < 21 ? 21 - digits : 0);
    }
    size_t n = b->n - start;
    buf_fill(b, ' ', 64 - (n + 1) % 64);
    buf_u8(b, '\n');
    n = b->n - start - 10;
    if (!b->failed) {
        b->p[start + 8] = (uint8_t)n;
        b->p[start + 9] = (uint8_t)(n >> 8);
    }
}
