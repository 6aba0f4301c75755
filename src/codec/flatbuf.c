/* See flatbuf.h. */
#include "codec/flatbuf.h"
#include "base/checked.h"

static uint64_t number_at(struct cursor *c, uint64_t at, unsigned bytes)
{
    uint64_t v = 0;
    cur_seek(c, at);
    const uint8_t *p = cur_take(c, bytes);
    for (unsigned i = 0; p && i < bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint64_t limit(const struct cursor *c)
{
    return c->end < FLAT_MAX ? c->end : FLAT_MAX;
}

/* Where the reference at `at` leads; 0 after a failure. */
static uint64_t follow(struct cursor *c, uint64_t at)
{
    uint64_t step = number_at(c, at, 4);
    if (cur_failed(c))
        return 0;
    if (step == 0 || step >= limit(c) - at) { /* at < limit: a number stood there */
        (void)cur_fail(c, at, "flat-offset", "a reference leads %llu bytes on, behind the end",
                       (unsigned long long)step);
        return 0;
    }
    return at + step;
}

static struct flat_table table_at(struct cursor *c, uint64_t at)
{
    struct flat_table t = {.c = c};
    uint64_t end = limit(c);
    if (cur_failed(c) || at == 0)
        return t;
    int64_t back = (int32_t)(uint32_t)number_at(c, at, 4), vtable;
    if (cur_failed(c))
        return t;
    if (!add_i64((int64_t)at, -back, &vtable) || vtable < 0 ||
        !range_in((uint64_t)vtable, 4, end)) {
        (void)cur_fail(c, at, "flat-offset", "a table's layout lies outside the buffer");
        return t;
    }
    t.vtable_bytes = (uint16_t)number_at(c, (uint64_t)vtable, 2);
    t.bytes = (uint16_t)number_at(c, (uint64_t)vtable + 2, 2);
    if (cur_failed(c))
        return (struct flat_table){.c = c};
    if (t.vtable_bytes < 4 || t.vtable_bytes % 2 != 0 || t.bytes < 4 ||
        !range_in((uint64_t)vtable, t.vtable_bytes, end) || !range_in(at, t.bytes, end)) {
        (void)cur_fail(c, at, "flat-table", "a table of %u bytes, its layout of %u",
                       (unsigned)t.bytes, (unsigned)t.vtable_bytes);
        return (struct flat_table){.c = c};
    }
    t.at = at;
    t.vtable = (uint64_t)vtable;
    return t;
}

struct flat_table flat_root(struct cursor *c)
{
    return table_at(c, follow(c, 0));
}

/* Where a field of so many bytes lies; 0: absent, or after a failure. */
static uint64_t place(const struct flat_table *t, unsigned field, unsigned bytes)
{
    uint64_t slot = 4 + 2 * (uint64_t)field;
    if (t->at == 0 || cur_failed(t->c) || slot + 2 > t->vtable_bytes)
        return 0;
    uint64_t at = number_at(t->c, t->vtable + slot, 2);
    if (at == 0)
        return 0;
    if (at < 4 || !range_in(at, bytes, t->bytes)) {
        (void)cur_fail(t->c, t->vtable + slot, "flat-table", "field %u lies outside its table",
                       field);
        return 0;
    }
    return t->at + at;
}

uint64_t flat_number(const struct flat_table *t, unsigned field, unsigned bytes, uint64_t otherwise)
{
    uint64_t at = place(t, field, bytes);
    return at ? number_at(t->c, at, bytes) : otherwise;
}

struct flat_table flat_sub(const struct flat_table *t, unsigned field)
{
    uint64_t at = place(t, field, 4);
    return at ? table_at(t->c, follow(t->c, at)) : (struct flat_table){.c = t->c};
}

static struct flat_vector vector_at(struct cursor *c, uint64_t at, unsigned elem_bytes,
                                    uint64_t extra)
{
    struct flat_vector v = {.c = c};
    uint64_t n = at ? number_at(c, at, 4) : 0, bytes;
    if (cur_failed(c) || at == 0)
        return v;
    if (!mul_u64(n, elem_bytes, &bytes) || !add_u64(bytes, extra, &bytes) ||
        !range_in(at + 4, bytes, limit(c))) {
        (void)cur_fail(c, at, extra ? "flat-string" : "flat-vector",
                       "%llu elements of %u bytes reach behind the end", (unsigned long long)n,
                       elem_bytes);
        return v;
    }
    v.at = at + 4;
    v.n = n;
    return v;
}

struct flat_vector flat_vector(const struct flat_table *t, unsigned field, unsigned elem_bytes)
{
    uint64_t at = place(t, field, 4);
    return vector_at(t->c, at ? follow(t->c, at) : 0, elem_bytes, 0);
}

uint64_t flat_element(const struct flat_vector *v, uint64_t i, unsigned bytes)
{
    return number_at(v->c, v->at + i * bytes, bytes);
}

struct flat_table flat_element_table(const struct flat_vector *v, uint64_t i)
{
    return table_at(v->c, follow(v->c, v->at + i * 4));
}

struct flat_vector flat_string(const struct flat_table *t, unsigned field)
{
    uint64_t at = place(t, field, 4);
    struct flat_vector v = vector_at(t->c, at ? follow(t->c, at) : 0, 1, 1);
    if (v.at != 0 && number_at(t->c, v.at + v.n, 1) != 0)
        (void)cur_fail(t->c, v.at + v.n, "flat-string", "a string without a NUL behind it");
    return v;
}

struct str flat_text(const struct flat_table *t, unsigned field, struct arena *a)
{
    struct flat_vector v = flat_string(t, field);
    if (v.n == 0)
        return cur_failed(t->c) ? STR_NONE : STR("");
    cur_seek(t->c, v.at);
    return cur_str(t->c, (size_t)v.n, a);
}
