/* See proto.h. */
#include "codec/proto.h"
#include <stdio.h>

#define FIELD_MAX ((UINT64_C(1) << 29) - 1)
#define VARINT_MAX 10

enum status proto_fail(const struct proto *m, const char *code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return cur_fail(m->c, m->at, code, "%s", text);
}

uint64_t cur_varint(struct cursor *c, uint64_t end)
{
    uint64_t at = c->pos, v = 0;
    uint64_t left = c->pos < end ? end - c->pos : 0;
    size_t n = left < VARINT_MAX ? (size_t)left : VARINT_MAX, i = 0;
    const uint8_t *p = cur_peek(c, n);
    if (!p) {
        (void)cur_take(c, n); /* says why */
        return 0;
    }
    for (; i < n; i++) {
        uint64_t low = p[i] & 0x7fu;
        if (i == VARINT_MAX - 1 && p[i] > 1)
            break;
        v |= low << (7 * i);
        if (!(p[i] & 0x80u)) {
            cur_skip(c, i + 1);
            return v;
        }
    }
    if (i == n && n < VARINT_MAX)
        (void)cur_fail(c, at, end == c->end ? "truncated" : "proto-length",
                       "a number ends behind its place");
    else
        (void)cur_fail(c, at, "proto-varint", "a number is longer than 64 bits");
    return 0;
}

void proto_init(struct proto *m, struct cursor *c, uint64_t end)
{
    *m = (struct proto){.c = c, .end = end, .at = c->pos, .next_ = c->pos};
    if (end > c->end || c->pos > end)
        (void)cur_fail(c, c->pos, "truncated", "the message ends behind its place");
}

/* The bytes of the current field, n of them from the cursor's place. */
static bool body(struct proto *m, uint64_t n)
{
    struct cursor *c = m->c;
    if (cur_failed(c))
        return false;
    if (n > m->end - c->pos) {
        (void)proto_fail(m, m->end == c->end ? "truncated" : "proto-length",
                         "field %u declares %llu bytes, %llu are left", (unsigned)m->field,
                         (unsigned long long)n, (unsigned long long)(m->end - c->pos));
        return false;
    }
    m->body = c->pos;
    m->n = n;
    m->next_ = c->pos + n;
    return true;
}

bool proto_next(struct proto *m)
{
    struct cursor *c = m->c;
    if (cur_failed(c) || m->next_ >= m->end)
        return false;
    cur_seek(c, m->next_);
    m->at = c->pos;
    uint64_t tag = cur_varint(c, m->end);
    if (cur_failed(c))
        return false;
    if (tag >> 3 == 0 || tag >> 3 > FIELD_MAX) {
        (void)proto_fail(m, "proto-tag", "no field is numbered %llu",
                         (unsigned long long)(tag >> 3));
        return false;
    }
    m->field = (uint32_t)(tag >> 3);
    m->wire = (enum proto_wire)(tag & 7);
    m->u = 0;
    switch (tag & 7) {
    case PROTO_VARINT: {
        uint64_t from = c->pos;
        m->u = cur_varint(c, m->end);
        if (cur_failed(c))
            return false;
        m->body = from;
        m->next_ = c->pos;
        m->n = c->pos - from;
        return true;
    }
    case PROTO_I64:
        if (!body(m, 8))
            return false;
        m->u = cur_u64(c);
        return !cur_failed(c);
    case PROTO_I32:
        if (!body(m, 4))
            return false;
        m->u = cur_u32(c);
        return !cur_failed(c);
    case PROTO_LEN: {
        uint64_t n = cur_varint(c, m->end);
        return body(m, n);
    }
    case 3:
    case 4:
        (void)proto_fail(m, "proto-group", "field %u is a group, which no current schema has",
                         (unsigned)m->field);
        return false;
    default:
        (void)proto_fail(m, "proto-type", "field %u has wire type %u", (unsigned)m->field,
                         (unsigned)(tag & 7));
        return false;
    }
}

static bool is(const struct proto *m, enum proto_wire wire)
{
    if (!cur_failed(m->c) && m->wire != wire)
        (void)proto_fail(m, "proto-type", "field %u has wire type %u where %u belongs",
                         (unsigned)m->field, (unsigned)m->wire, (unsigned)wire);
    return !cur_failed(m->c);
}

bool proto_sub(const struct proto *m, struct proto *sub)
{
    *sub = (struct proto){.c = m->c, .at = m->at};
    if (!is(m, PROTO_LEN))
        return false;
    cur_seek(m->c, m->body);
    proto_init(sub, m->c, m->body + m->n);
    return !cur_failed(m->c);
}

uint64_t proto_u64(const struct proto *m)
{
    return is(m, PROTO_VARINT) ? m->u : 0;
}

int64_t proto_i64(const struct proto *m)
{
    return (int64_t)proto_u64(m);
}

int32_t proto_i32(const struct proto *m)
{
    return (int32_t)(uint32_t)proto_u64(m);
}

bool proto_bool(const struct proto *m)
{
    return proto_u64(m) != 0;
}

int64_t proto_s64(const struct proto *m)
{
    uint64_t u = proto_u64(m);
    return (int64_t)(u >> 1 ^ (0 - (u & 1)));
}

uint32_t proto_fixed32(const struct proto *m)
{
    return is(m, PROTO_I32) ? (uint32_t)m->u : 0;
}

uint64_t proto_fixed64(const struct proto *m)
{
    return is(m, PROTO_I64) ? m->u : 0;
}

struct str proto_str(const struct proto *m, struct arena *a)
{
    if (!is(m, PROTO_LEN))
        return STR_NONE;
    cur_seek(m->c, m->body);
    return cur_str(m->c, (size_t)m->n, a);
}

const uint8_t *proto_bytes(const struct proto *m, size_t *n)
{
    if (!is(m, PROTO_LEN))
        return NULL;
    cur_seek(m->c, m->body);
    *n = (size_t)m->n;
    return cur_take(m->c, *n);
}

bool proto_list(const struct proto *m, enum proto_wire wire, struct proto_list *l)
{
    *l = (struct proto_list){.c = m->c, .wire = wire};
    if (m->wire != PROTO_LEN && !is(m, wire))
        return false;
    l->pos = m->body;
    l->end = m->body + m->n;
    uint64_t width = wire == PROTO_I32 ? 4 : wire == PROTO_I64 ? 8 : 1;
    if (!cur_failed(m->c) && m->n % width != 0)
        (void)proto_fail(m, "proto-packed", "%llu bytes are not a whole number of values",
                         (unsigned long long)m->n);
    return !cur_failed(m->c);
}

bool proto_list_next(struct proto_list *l)
{
    struct cursor *c = l->c;
    if (cur_failed(c) || l->pos >= l->end)
        return false;
    cur_seek(c, l->pos);
    if (l->wire == PROTO_VARINT)
        l->u = cur_varint(c, l->end);
    else
        l->u = l->wire == PROTO_I32 ? cur_u32(c) : cur_u64(c);
    l->pos = c->pos;
    return !cur_failed(c);
}

unsigned proto_varint_bytes(uint64_t v)
{
    unsigned n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

void proto_w_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_u8(b, (uint8_t)(v | 0x80));
    buf_u8(b, (uint8_t)v);
}

static void tag(struct buf *b, uint32_t field, enum proto_wire wire)
{
    proto_w_varint(b, (uint64_t)field << 3 | (uint64_t)wire);
}

void proto_w_u64(struct buf *b, uint32_t field, uint64_t v)
{
    tag(b, field, PROTO_VARINT);
    proto_w_varint(b, v);
}

void proto_w_i64(struct buf *b, uint32_t field, int64_t v)
{
    proto_w_u64(b, field, (uint64_t)v);
}

void proto_w_s64(struct buf *b, uint32_t field, int64_t v)
{
    proto_w_u64(b, field, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
}

void proto_w_fixed32(struct buf *b, uint32_t field, uint32_t bits)
{
    tag(b, field, PROTO_I32);
    buf_u32(b, bits);
}

void proto_w_fixed64(struct buf *b, uint32_t field, uint64_t bits)
{
    tag(b, field, PROTO_I64);
    buf_u64(b, bits);
}

void proto_w_len(struct buf *b, uint32_t field, uint64_t n_bytes)
{
    tag(b, field, PROTO_LEN);
    proto_w_varint(b, n_bytes);
}

void proto_w_str(struct buf *b, uint32_t field, struct str s)
{
    proto_w_len(b, field, s.n);
    buf_str(b, s);
}

void proto_w_sub(struct buf *b, uint32_t field, const struct buf *sub)
{
    proto_w_str(b, field, buf_as_str(sub));
    b->failed |= sub->failed;
}
