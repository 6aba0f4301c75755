/* Proofs over a finished pickle graph, and access to its values. The walk is iterative: a stack of
 * at most PICKLE_DEPTH frames; every value is entered once.
 */
#include "base/mem.h"
#include "codec/pickle_room.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHITE, GREY, BLACK };
struct frame {
    uint32_t val;
    uint32_t cell; /* next cell of the run at work */
    uint8_t stage; /* see next_child */
    uint16_t height;
};

/* Children in a fixed order: for instances fn, args, kwargs, state, items, pairs. 0 = no more. */
static uint32_t next_child(const struct pickle *p, struct frame *f)
{
    const struct pk_val *v = &p->val[f->val];
    uint32_t child = 0;
    while (child == 0) {
        if (f->cell) {
            child = p->cell[f->cell].val;
            f->cell = p->cell[f->cell].next;
            return child;
        }
        uint8_t stage = f->stage++;
        switch ((enum pk_kind)v->kind) {
        case PK_TUPLE:
        case PK_LIST:
        case PK_SET:
        case PK_FROZENSET:
        case PK_DICT:
            if (stage > 0)
                return 0;
            f->cell = v->seq.head;
            break;
        case PK_PERSID:
            return stage == 0 ? v->ref : 0;
        case PK_CALL:
        case PK_NEW: {
            const struct pk_more *m = &p->more[v->call.more];
            if (stage == 0)
                child = v->call.fn;
            else if (stage == 1)
                child = v->call.args;
            else if (stage == 2)
                child = m->kwargs;
            else if (stage == 3)
                child = m->state;
            else if (stage == 4)
                f->cell = m->items.head;
            else if (stage == 5)
                f->cell = m->pairs.head;
            else
                return 0;
            break;
        }
        default:
            return 0;
        }
    }
    return child;
}

struct key {
    const struct pickle *p;
    uint32_t val;
};
static int cmp_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}
/* Any order in which equal keys stand together: Python takes True for 1; containers as keys are
 * compared by identity. */
static int by_key(const void *pa, const void *pb)
{
    const struct key *a = pa, *b = pb;
    const struct pk_val *x = &a->p->val[a->val], *y = &b->p->val[b->val];
    int kx = x->kind == PK_BOOL ? PK_INT : (int)x->kind;
    int ky = y->kind == PK_BOOL ? PK_INT : (int)y->kind;
    if (kx != ky)
        return kx < ky ? -1 : 1;
    if (x->spelling || y->spelling) /* far strings are not compared: no reader takes them as keys */
        return cmp_u64(a->val, b->val);
    switch (kx) {
    case PK_INT:
        return cmp_u64((uint64_t)x->i, (uint64_t)y->i);
    case PK_FLOAT:
        return cmp_u64(x->bits, y->bits);
    case PK_NONE:
        return 0;
    case PK_STR:
    case PK_BYTES:
    case PK_BYTEARRAY:
    case PK_LONG:
        return str_cmp(pk_text(a->p, a->val), pk_text(b->p, b->val));
    case PK_GLOBAL:
        return cmp_u64(x->ref, y->ref);
    default:
        return cmp_u64(a->val, b->val);
    }
}

static enum status keys_once(struct pickle *p, uint32_t v, const struct pk_seq *s, struct err *e)
{
    uint32_t n = s->n / 2;
    if (n < 2)
        return ST_OK;
    struct key *k = mem_zalloc(n, sizeof *k);
    if (!k)
        return err_nomem(e, (uint64_t)n * sizeof *k);
    uint32_t i = 0;
    for (uint32_t c = s->head; c; c = p->cell[p->cell[c].next].next)
        k[i++] = (struct key){p, p->cell[c].val};
    qsort(k, n, sizeof *k, by_key);
    uint32_t twice = 0;
    for (i = 1; i < n && !twice; i++)
        if (by_key(&k[i - 1], &k[i]) == 0)
            twice = p->val[k[i].val].at > p->val[k[i - 1].val].at ? k[i].val : k[i - 1].val;
    mem_free(k);
    if (!twice)
        return ST_OK;
    enum status st = pickle_fail(p, twice, "pickle-key-twice", e, "a dict sets one key twice");
    struct str t = pk_text(p, twice);
    (void)v;
    if (t.p)
        err_in(e, t.p, t.n);
    return st;
}

/* State of an instance whose class is on the list must not change what the instance is. */
static enum status state_harmless(struct pickle *p, uint32_t v, uint32_t state, struct err *e)
{
    static const char *const key[] = {"__setstate__", "__class__",        "__dict__", "__reduce__",
                                      "__getattr__",  "__getattribute__", "__call__"};
    if (pk_call_tag(p, v) <= 0 || state == 0)
        return ST_OK;
    uint32_t part[3] = {state, pk_elem(p, state, 0), pk_elem(p, state, 1)};
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < sizeof key / sizeof *key; k++)
            if (part[i] && pk_get(p, part[i], key[k]))
                return pickle_fail(p, state, "pickle-build-key", e,
                                   "state sets %s of a known class", key[k]);
    return ST_OK;
}

static enum status leave(struct pickle *p, uint32_t v, struct err *e)
{
    const struct pk_val *x = &p->val[v];
    if (x->kind == PK_DICT)
        return keys_once(p, v, &x->seq, e);
    if (x->kind == PK_CALL || x->kind == PK_NEW) {
        const struct pk_more *m = &p->more[x->call.more];
        TRY(keys_once(p, v, &m->pairs, e));
        return state_harmless(p, v, m->state, e);
    }
    return ST_OK;
}

enum status pickle_prove(struct pickle *p, struct err *e)
{
    struct frame *st = mem_zalloc(PICKLE_DEPTH + 1, sizeof *st);
    if (!st)
        return err_nomem(e, (PICKLE_DEPTH + 1) * sizeof *st);
    size_t n = 1;
    enum status r = ST_OK;
    st[0] = (struct frame){.val = p->root};
    p->val[p->root].mark_ = GREY;
    while (n > 0 && r == ST_OK) {
        struct frame *f = &st[n - 1];
        uint32_t child = next_child(p, f);
        if (child) {
            struct pk_val *c = &p->val[child];
            if (c->mark_ == GREY) {
                r = pickle_fail(p, child, "pickle-cycle", e, "a value contains itself");
            } else if (c->mark_ == BLACK) {
                if (n + c->height_ > PICKLE_DEPTH)
                    r = pickle_fail(p, child, "pickle-depth", e, "nested more than %d deep",
                                    PICKLE_DEPTH);
                if (c->height_ + 1 > f->height)
                    f->height = (uint16_t)(c->height_ + 1);
            } else if (n > PICKLE_DEPTH) {
                r = pickle_fail(p, child, "pickle-depth", e, "nested more than %d deep",
                                PICKLE_DEPTH);
            } else {
                c->mark_ = GREY;
                st[n++] = (struct frame){.val = child};
            }
            continue;
        }
        p->val[f->val].mark_ = BLACK;
        p->val[f->val].height_ = f->height & 1023u;
        r = leave(p, f->val, e);
        if (n > 1 && f->height + 1 > st[n - 2].height)
            st[n - 2].height = (uint16_t)(f->height + 1);
        n--;
    }
    mem_free(st);
    return r;
}

/* ---- access ---- */

bool pk_far(const struct pickle *p, uint32_t v, struct pk_far *out)
{
    const struct pk_val *x = &p->val[v];
    *out = (struct pk_far){(enum pk_spelling)x->spelling, 0, 0};
    if (x->spelling == PK_NEAR)
        return false;
    out->offset = p->base + x->far.offset;
    out->bytes = x->far.bytes;
    return true;
}
struct str pk_text(const struct pickle *p, uint32_t v)
{
    if (p->val[v].spelling != PK_NEAR)
        return STR_NONE;
    switch (pk_kind(p, v)) {
    case PK_STR:
    case PK_BYTES:
    case PK_BYTEARRAY:
    case PK_LONG:
        return (struct str){p->val[v].text.p, p->val[v].text.n};
    default:
        return STR_NONE;
    }
}
bool pk_is_text(const struct pickle *p, uint32_t v, const char *z)
{
    return pk_kind(p, v) == PK_STR && str_is(pk_text(p, v), z);
}
bool pk_i64(const struct pickle *p, uint32_t v, int64_t *out)
{
    *out = p->val[v].i;
    return pk_kind(p, v) == PK_INT;
}
bool pk_u64(const struct pickle *p, uint32_t v, uint64_t *out)
{
    if (pk_kind(p, v) == PK_INT) {
        *out = (uint64_t)p->val[v].i;
        return p->val[v].i >= 0;
    }
    struct str t = pk_text(p, v);
    if (pk_kind(p, v) != PK_LONG || t.n != 9 || t.p[8] != 0)
        return false;
    *out = 0;
    for (size_t i = 8; i-- > 0;)
        *out = *out << 8 | (uint8_t)t.p[i];
    return true;
}
int pk_tag(const struct pickle *p, uint32_t v)
{
    return pk_kind(p, v) == PK_GLOBAL ? p->global[p->val[v].ref].tag : -1;
}
int pk_call_tag(const struct pickle *p, uint32_t v)
{
    enum pk_kind k = pk_kind(p, v);
    return k == PK_CALL || k == PK_NEW ? pk_tag(p, p->val[v].call.fn) : -1;
}
uint32_t pk_elem(const struct pickle *p, uint32_t v, uint32_t i)
{
    enum pk_kind k = pk_kind(p, v);
    if (k != PK_TUPLE && k != PK_LIST)
        return 0;
    uint32_t c = p->val[v].seq.head;
    while (c && i-- > 0)
        c = p->cell[c].next;
    return c ? p->cell[c].val : 0;
}
uint32_t pk_count(const struct pickle *p, uint32_t v)
{
    enum pk_kind k = pk_kind(p, v);
    return k >= PK_TUPLE && k <= PK_DICT ? p->val[v].seq.n : 0;
}
uint32_t pk_get(const struct pickle *p, uint32_t dict, const char *key)
{
    if (pk_kind(p, dict) != PK_DICT)
        return 0;
    for (uint32_t c = p->val[dict].seq.head; c;) {
        uint32_t v = p->cell[c].next;
        if (pk_is_text(p, p->cell[c].val, key))
            return p->cell[v].val;
        c = p->cell[v].next;
    }
    return 0;
}
struct pk_more pk_more(const struct pickle *p, uint32_t v)
{
    enum pk_kind k = pk_kind(p, v);
    return p->more[k == PK_CALL || k == PK_NEW ? p->val[v].call.more : 0];
}
enum status pickle_fail(const struct pickle *p, uint32_t v, const char *code, struct err *e,
                        const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(e, ST_INPUT, code, "%s", text);
    err_at(e, p->file, p->base + p->val[v].at);
    return ST_INPUT;
}
