/* See name.h. */
#include "model/name.h"
#include "base/buf.h"
#include <string.h>

/* Length of the segment at the front of text, and how many separators (0 or 1) follow. */
static size_t seg_span(struct str text, bool *more)
{
    size_t i = 0;
    while (i < text.n && text.p[i] != '.') {
        bool pair =
            text.p[i] == '\\' && i + 1 < text.n && (text.p[i + 1] == '.' || text.p[i + 1] == '\\');
        i += pair ? 2 : 1;
    }
    *more = i < text.n;
    return i;
}

static struct str unescape(struct str s, struct arena *a)
{
    struct str out = arena_str(a, s.p, s.n);
    char *w = (char *)(uintptr_t)out.p;
    if (!w)
        return out;
    out.n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n && (s.p[i + 1] == '.' || s.p[i + 1] == '\\'))
            i++;
        w[out.n++] = s.p[i];
    }
    w[out.n] = 0;
    return out;
}

enum status path_parse(struct str text, struct arena *a, struct path *out, struct err *e)
{
    size_t n = 1, lo = 0;
    bool more;
    for (struct str rest = text;;) {
        size_t k = seg_span(rest, &more);
        if (!more)
            break;
        n++;
        rest = str_sub(rest, k + 1, rest.n);
    }
    out->seg = ARENA_ARRAY(a, struct seg, n);
    out->n = n;
    if (!out->seg)
        return err_nomem(e, n * sizeof *out->seg);
    for (size_t i = 0; i < n; i++) {
        struct str rest = str_sub(text, lo, text.n);
        size_t k = seg_span(rest, &more);
        struct str raw = str_sub(rest, 0, k);
        struct seg *s = &out->seg[i];
        s->key =
            memchr(raw.p ? raw.p : "", '\\', raw.n) ? unescape(raw, a) : arena_str(a, raw.p, raw.n);
        if (!s->key.p)
            return err_nomem(e, raw.n);
        s->kind = str_u64(s->key, &s->index) ? SEG_INDEX : SEG_KEY;
        lo += k + 1;
    }
    return ST_OK;
}

static void put_escaped(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool last = i + 1 == s.n;
        if (c == '.' || (c == '\\' && (last || s.p[i + 1] == '.' || s.p[i + 1] == '\\')))
            buf_u8(b, '\\');
        buf_u8(b, (uint8_t)c);
    }
}

static enum status take(struct buf *b, struct arena *a, struct str *out, struct err *e)
{
    enum status st = buf_ok(b, e);
    if (st == ST_OK) {
        *out = arena_str(a, b->p, b->n);
        if (!out->p)
            st = err_nomem(e, b->n);
    }
    buf_free(b);
    return st;
}

enum status path_print(const struct path *p, struct arena *a, struct str *out, struct err *e)
{
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < p->n; i++) {
        if (i)
            buf_u8(&b, '.');
        put_escaped(&b, p->seg[i].key);
    }
    return take(&b, a, out, e);
}

enum status path_join(struct str text, struct str segment, struct arena *a, struct str *out,
                      struct err *e)
{
    struct buf b = BUF_INIT;
    buf_str(&b, text);
    if (text.n)
        buf_u8(&b, '.');
    put_escaped(&b, segment);
    return take(&b, a, out, e);
}

enum status path_round_trips(struct str text, struct arena *a, bool *ok, struct err *e)
{
    struct path p;
    struct str again;
    TRY(path_parse(text, a, &p, e));
    TRY(path_print(&p, a, &again, e));
    *ok = str_eq(text, again);
    return ST_OK;
}
