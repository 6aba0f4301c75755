/* HDF5: the bodies of header messages.
 *
 *   dataspace   1: version, rank, flags, 5 zero, extents [maxima]; 2: version, rank, flags, kind,
 * ... datatype    class | version << 4, 24 bits, size, properties; nested types are looked at one
 *               level deep, anything deeper is HDF5_OTHER
 *   layout      1, 2: version, rank, class, 5 zero, address, extents; 3, 4: version, class, ...
 *   filters     1: version, n, 6 zero, each with a name padded to 8; 2: version, n, names of ids
 *               from 256 on alone
 *   link        version, flags, [kind], [order], [charset], name length, name, target
 *   attribute   1: padded parts; 2: plain; 3: charset before the name
 *
 * Refused: hdf5-version, hdf5-type (size 0, a field outside the word), hdf5-space (rank over 32,
 * extents whose product overflows), hdf5-layout, hdf5-virtual, hdf5-filter (more than 32),
 * hdf5-link, hdf5-attribute, hdf5-shared.
 */
#include "base/checked.h"
#include "codec/hdf5_int.h"
#include <string.h>

/* ---- datatypes ---- */

struct head {
    unsigned cls, version;
    uint32_t bits, size;
};

static struct head type_head(struct cursor *c)
{
    struct head t;
    uint64_t at = c->pos;
    uint32_t v = cur_u32(c);
    t.cls = v & 15;
    t.version = v >> 4 & 15;
    t.bits = v >> 8;
    t.size = cur_u32(c);
    if (!cur_failed(c) && t.size == 0)
        (void)cur_fail(c, at, "hdf5-type", "a datatype of no bytes");
    return t;
}

static void integer(struct cursor *c, const struct head *x, struct hdf5_type *t)
{
    unsigned off = cur_u16(c), bits = cur_u16(c);
    t->big_endian = x->bits & 1;
    t->is_signed = x->bits & 8;
    bool whole = off == 0 && bits == x->size * 8 && x->size <= 8 && (x->size & (x->size - 1)) == 0;
    t->cls = whole ? HDF5_INT : HDF5_OTHER;
}

static void real(struct cursor *c, const struct head *x, struct hdf5_type *t)
{
    uint64_t at = c->pos;
    unsigned off = cur_u16(c), bits = cur_u16(c);
    unsigned exp_at = cur_u8(c), exp_n = cur_u8(c), man_at = cur_u8(c), man_n = cur_u8(c);
    uint32_t bias = cur_u32(c);
    unsigned sign = x->bits >> 8 & 255;
    if (off + bits > (uint64_t)x->size * 8 || exp_at + exp_n > bits || man_at + man_n > bits ||
        sign >= bits) {
        (void)cur_fail(c, at, "hdf5-type", "a float's fields lie outside its word");
        return;
    }
    t->big_endian = x->bits & 1;
    t->exp_bits = (uint8_t)exp_n;
    t->man_bits = (uint8_t)man_n;
    bool plain = off == 0 && bits == x->size * 8 && man_at == 0 && exp_at == man_n &&
                 sign == exp_n + man_n && sign + 1 == bits && (x->bits >> 4 & 3) == 2 &&
                 !(x->bits & 0x40) && exp_n >= 2 && exp_n < 16 && bias == (1u << (exp_n - 1)) - 1;
    t->cls = plain ? HDF5_FLOAT : HDF5_OTHER;
}

/* A name inside a compound or an enumeration; versions before 3 pad it to 8. */
static bool member_name(struct cursor *c, unsigned version, const char *want)
{
    size_t n = strlen(want) + 1, all = version < 3 ? (n + 7) / 8 * 8 : n;
    const uint8_t *p = cur_peek(c, all);
    if (!p || memcmp(p, want, n) != 0)
        return false;
    cur_skip(c, all);
    return true;
}

static void enumeration(struct cursor *c, const struct head *x, struct hdf5_type *t)
{
    struct head base = type_head(c);
    if (base.cls != 0) {
        t->cls = HDF5_OTHER;
        return;
    }
    integer(c, &base, t);
    if (base.size != x->size)
        t->cls = HDF5_OTHER;
    if (t->cls != HDF5_INT || x->size != 1 || (x->bits & 0xffff) != 2)
        return;
    if (!member_name(c, x->version, "FALSE") || !member_name(c, x->version, "TRUE"))
        return;
    const uint8_t *v = cur_take(c, 2);
    if (v && v[0] == 0 && v[1] == 1)
        t->cls = HDF5_BOOL;
}

static uint64_t member_offset(struct cursor *c, const struct head *x)
{
    if (x->version >= 3)
        return h5_uint(c, x->size < 256 ? 1 : x->size < 65536 ? 2 : x->size < 1 << 24 ? 3 : 4);
    uint64_t off = cur_u32(c);
    if (x->version == 1)
        cur_skip(c, 28);
    return off;
}

/* numpy's complex numbers: {r, i}. Members that overlap or lie elsewhere make it no such type. */
static void compound(struct cursor *c, const struct head *x, struct hdf5_type *t)
{
    static const char *const names[] = {"r", "i"};
    t->cls = HDF5_OTHER;
    if ((x->bits & 0xffff) != 2)
        return;
    struct hdf5_type part[2];
    memset(part, 0, sizeof part);
    for (int k = 0; k < 2; k++) {
        if (!member_name(c, x->version, names[k]))
            return;
        uint64_t off = member_offset(c, x);
        struct head base = type_head(c);
        if (cur_failed(c) || base.cls != 1 || base.size * 2ull != x->size ||
            off != (uint64_t)k * base.size)
            return;
        real(c, &base, &part[k]);
        if (part[k].cls != HDF5_FLOAT)
            return;
    }
    if (part[0].big_endian != part[1].big_endian || part[0].exp_bits != part[1].exp_bits ||
        part[0].man_bits != part[1].man_bits)
        return;
    t->cls = HDF5_COMPLEX;
    t->big_endian = part[0].big_endian;
    t->exp_bits = part[0].exp_bits;
    t->man_bits = part[0].man_bits;
}

static void native_complex(struct cursor *c, const struct head *x, struct hdf5_type *t)
{
    struct head base = type_head(c);
    t->cls = HDF5_OTHER;
    if (base.cls != 1 || base.size * 2ull != x->size)
        return;
    real(c, &base, t);
    if (t->cls == HDF5_FLOAT)
        t->cls = HDF5_COMPLEX;
}

enum status h5_type(struct cursor *c, struct hdf5_type *t, struct err *e)
{
    uint64_t at = c->pos;
    struct head x = type_head(c);
    *t = (struct hdf5_type){.cls = HDF5_OTHER, .id = (uint8_t)x.cls, .size = x.size};
    if (!cur_failed(c) && (x.version < 1 || x.version > 5))
        (void)cur_fail(c, at, "hdf5-version", "a datatype of version %u", x.version);
    TRY(cur_ok(c, e));
    switch (x.cls) {
    case 0:
        integer(c, &x, t);
        break;
    case 1:
        real(c, &x, t);
        break;
    case 3:
        t->cls = HDF5_STRING;
        t->pad = x.bits & 15;
        break;
    case 5:
        t->cls = HDF5_OPAQUE;
        break;
    case 6:
        compound(c, &x, t);
        break;
    case 8:
        enumeration(c, &x, t);
        break;
    case 9:
        if ((x.bits & 15) == 1 && x.size >= 12)
            t->cls = HDF5_VLEN_STRING;
        break;
    case 11:
        native_complex(c, &x, t);
        break;
    default:
        break;
    }
    return cur_ok(c, e);
}

/* ---- dataspaces ---- */

enum status h5_space(const struct hdf5 *h, struct cursor *c, struct hdf5_space *s, struct err *e)
{
    uint64_t at = c->pos, n;
    unsigned version = cur_u8(c);
    memset(s, 0, sizeof *s);
    s->rank = cur_u8(c);
    unsigned flags = cur_u8(c), kind = 1;
    if (version == 1)
        cur_skip(c, 5);
    else if (version == 2)
        kind = cur_u8(c);
    else
        (void)cur_fail(c, at, "hdf5-version", "a dataspace of version %u", version);
    if (s->rank > HDF5_MAX_RANK || kind > 2)
        (void)cur_fail(c, at, "hdf5-space", "a dataspace of rank %u, kind %u", s->rank, kind);
    TRY(cur_ok(c, e));
    s->null = kind == 2;
    for (unsigned d = 0; d < s->rank; d++)
        s->max[d] = s->dim[d] = h5_len(h, c);
    for (unsigned d = 0; (flags & 1) && d < s->rank; d++) {
        s->max[d] = h5_len(h, c);
        if (h->len_n == 4 && s->max[d] == UINT32_MAX)
            s->max[d] = UINT64_MAX;
        if (s->max[d] < s->dim[d])
            (void)cur_fail(c, at, "hdf5-space", "an extent is larger than its maximum");
    }
    if (!prod_u64(s->dim, s->rank, &n))
        (void)cur_fail(c, at, "hdf5-space", "the product of the extents overflows");
    return cur_ok(c, e);
}

/* ---- layouts ---- */

static void chunk_dims(struct cursor *c, struct hdf5_layout *l, unsigned n, unsigned bytes)
{
    uint64_t at = c->pos;
    l->kind = HDF5_CHUNKED;
    if (n < 2 || n > HDF5_MAX_RANK + 1) {
        (void)cur_fail(c, at, "hdf5-chunk", "chunks of %u extents", n);
        return;
    }
    l->rank = (uint8_t)(n - 1);
    l->chunk_bytes = 1;
    for (unsigned d = 0; d < n; d++) {
        uint64_t v = h5_uint(c, bytes);
        if (cur_failed(c))
            return;
        if (v == 0 || v > UINT32_MAX || !mul_u64(l->chunk_bytes, v, &l->chunk_bytes) ||
            l->chunk_bytes > UINT32_MAX) {
            (void)cur_fail(c, at, "hdf5-chunk", "a chunk of no bytes, or of 4 GiB and more");
            return;
        }
        if (d < n - 1)
            l->chunk[d] = (uint32_t)v;
        else
            l->elem = (uint32_t)v;
    }
}

static void chunked4(const struct hdf5 *h, struct cursor *c, struct hdf5_layout *l)
{
    static const uint8_t params[] = {0, 0, 0, 1, 5, 6};
    unsigned flags = cur_u8(c), n = cur_u8(c), bytes = cur_u8(c);
    uint64_t at = c->pos;
    if (bytes < 1 || bytes > 8)
        (void)cur_fail(c, at - 1, "hdf5-layout", "extents of %u bytes", bytes);
    if (cur_failed(c))
        return;
    chunk_dims(c, l, n, bytes);
    l->plain_edges = flags & 1;
    at = c->pos;
    unsigned index = cur_u8(c);
    if (index < HDF5_IX_SINGLE || index > HDF5_IX_BTREE2)
        (void)cur_fail(c, at, "hdf5-layout", "a chunk index of type %u", index);
    if (cur_failed(c))
        return;
    l->index = (enum hdf5_index)index;
    if (index == HDF5_IX_SINGLE && (flags & 2)) {
        l->sized = true;
        l->stored = h5_len(h, c);
        l->mask = cur_u32(c);
    }
    cur_skip(c, params[index]); /* the index's own header says them again */
    l->addr = h5_addr(h, c);
}

static void old_layout(const struct hdf5 *h, struct cursor *c, struct hdf5_layout *l)
{
    unsigned rank = cur_u8(c), cls = cur_u8(c);
    cur_skip(c, 5);
    if (cls > 2)
        (void)cur_fail(c, 2, "hdf5-layout", "a layout of class %u", cls);
    if (cls != 0)
        l->addr = h5_addr(h, c);
    if (cur_failed(c))
        return;
    if (cls == 2) {
        chunk_dims(c, l, rank, 4);
        return;
    }
    l->kind = cls == 0 ? HDF5_COMPACT : HDF5_CONTIGUOUS;
    l->bytes = UINT64_MAX; /* the extents say it */
    cur_skip(c, 4ull * rank);
    if (cls == 0) {
        l->bytes = cur_u32(c);
        l->at = c->base + c->pos;
        cur_skip(c, l->bytes);
    }
}

enum status h5_layout(const struct hdf5 *h, struct cursor *c, struct hdf5_layout *l, struct err *e)
{
    uint64_t at = c->pos;
    unsigned version = cur_u8(c);
    memset(l, 0, sizeof *l);
    l->addr = HDF5_UNDEF;
    if (version == 1 || version == 2) {
        old_layout(h, c, l);
        return cur_ok(c, e);
    }
    if (version != 3 && version != 4)
        (void)cur_fail(c, at, "hdf5-version", "a data layout of version %u", version);
    unsigned cls = cur_u8(c);
    TRY(cur_ok(c, e));
    if (cls == 0) {
        l->kind = HDF5_COMPACT;
        l->bytes = cur_u16(c);
        l->at = c->base + c->pos;
        cur_skip(c, l->bytes);
    } else if (cls == 1) {
        l->kind = HDF5_CONTIGUOUS;
        l->addr = h5_addr(h, c);
        l->bytes = h5_len(h, c);
    } else if (cls == 2 && version == 3) {
        unsigned n = cur_u8(c);
        l->addr = h5_addr(h, c);
        chunk_dims(c, l, n, 4);
    } else if (cls == 2) {
        chunked4(h, c, l);
    } else if (cls == 3) {
        (void)cur_fail(c, at, "hdf5-virtual", "the dataset lies in other files");
    } else {
        (void)cur_fail(c, at, "hdf5-layout", "a layout of class %u", cls);
    }
    return cur_ok(c, e);
}

/* ---- filters ---- */

enum status h5_filters(struct cursor *c, struct hdf5_object *o, struct err *e)
{
    uint64_t at = c->pos;
    unsigned version = cur_u8(c), n = cur_u8(c);
    if (version == 1)
        cur_skip(c, 6);
    else if (version != 2)
        (void)cur_fail(c, at, "hdf5-version", "a filter pipeline of version %u", version);
    if (n > HDF5_MAX_FILTERS)
        (void)cur_fail(c, at, "hdf5-filter", "%u filters", n);
    for (unsigned i = 0; i < n && !cur_failed(c); i++) {
        struct hdf5_filter *f = &o->filter[i];
        *f = (struct hdf5_filter){.id = cur_u16(c)};
        unsigned name = version == 1 || f->id >= 256 ? cur_u16(c) : 0;
        cur_skip(c, 2);
        unsigned values = cur_u16(c);
        cur_skip(c, version == 1 ? (name + 7) / 8 * 8 : name);
        for (unsigned k = 0; k < values; k++) {
            uint32_t v = cur_u32(c);
            if (k == 0)
                f->value = v;
        }
        if (version == 1 && values % 2)
            cur_skip(c, 4);
    }
    o->n_filters = (uint8_t)n;
    return cur_ok(c, e);
}

/* ---- links ---- */

static enum status link_target(struct hdf5 *h, struct cursor *c, struct hdf5_link *l, unsigned kind,
                               struct err *e)
{
    if (kind == 0) {
        l->addr = h5_addr(h, c);
        return cur_ok(c, e);
    }
    unsigned n = cur_u16(c);
    if (kind == 1) {
        l->kind = HDF5_SOFT;
        l->target = cur_str(c, n, h->arena);
        return cur_ok(c, e);
    }
    l->kind = HDF5_EXTERNAL;
    if (kind != 64 || n < 2) {
        l->target = STR("(a link of a kind of its own)");
        cur_skip(c, n);
        return cur_ok(c, e);
    }
    cur_skip(c, 1);
    l->target = cur_str(c, n - 1, h->arena);
    TRY(cur_ok(c, e));
    l->target = str_sub(l->target, 0, str_find(l->target, 0, 0)); /* file, NUL, object, NUL */
    return ST_OK;
}

enum status h5_link(struct hdf5 *h, struct cursor *c, struct hdf5_link **out, struct err *e)
{
    uint64_t at = c->pos;
    struct hdf5_link *l = ARENA_NEW(h->arena, struct hdf5_link);
    if (!l)
        return err_nomem(e, sizeof *l);
    l->at = c->base + at;
    unsigned version = cur_u8(c), flags = cur_u8(c), kind = 0;
    if (version != 1)
        (void)cur_fail(c, at, "hdf5-version", "a link of version %u", version);
    if (flags & 8)
        kind = cur_u8(c);
    cur_skip(c, (flags & 4 ? 8 : 0) + (flags & 16 ? 1 : 0));
    uint64_t n = h5_uint(c, 1u << (flags & 3));
    if (n == 0 || n > 65535)
        (void)cur_fail(c, at, "hdf5-link", "a name of %llu bytes", (unsigned long long)n);
    TRY(cur_ok(c, e));
    l->name = cur_str(c, (size_t)n, h->arena);
    TRY(cur_ok(c, e));
    *out = l;
    return link_target(h, c, l, kind, e);
}

/* ---- attributes ---- */

enum status h5_shared(const struct hdf5 *h, struct cursor *c, uint64_t *addr, struct err *e)
{
    uint64_t at = c->pos;
    unsigned version = cur_u8(c), kind = cur_u8(c);
    if (version == 1)
        cur_skip(c, 6);
    else if (version < 1 || version > 3)
        (void)cur_fail(c, at, "hdf5-version", "a shared message of version %u", version);
    if (version == 3 && kind != 2)
        (void)cur_fail(c, at, "hdf5-shared", "a message in a heap of shared messages");
    *addr = h5_addr(h, c);
    return cur_ok(c, e);
}

static uint64_t padded(uint64_t n, unsigned version)
{
    return version == 1 ? (n + 7) / 8 * 8 : n;
}

static enum status attr_parts(struct hdf5 *h, struct cursor *c, struct hdf5_attr *a,
                              unsigned version, unsigned flags, const uint16_t n[3], struct err *e)
{
    struct cursor part;
    uint64_t start = c->pos;
    a->name = cur_str(c, n[0], h->arena);
    TRY(cur_ok(c, e));
    a->name = str_sub(a->name, 0, str_find(a->name, 0, 0));
    cur_seek(c, start + padded(n[0], version) < c->end ? start + padded(n[0], version) : c->end);
    start = c->pos;
    const uint8_t *p = cur_take(c, n[1]);
    TRY(cur_ok(c, e));
    cur_mem(&part, p, n[1], file_path(h->file), c->base + start);
    if (flags & 1) {
        uint64_t addr;
        TRY(h5_shared(h, &part, &addr, e));
        TRY(h5_committed(h, addr, &a->type, e));
    } else {
        TRY(h5_type(&part, &a->type, e));
    }
    cur_seek(c, start + padded(n[1], version) < c->end ? start + padded(n[1], version) : c->end);
    start = c->pos;
    p = cur_take(c, n[2]);
    TRY(cur_ok(c, e));
    cur_mem(&part, p, n[2], file_path(h->file), c->base + start);
    TRY(h5_space(h, &part, &a->space, e));
    cur_seek(c, start + padded(n[2], version) < c->end ? start + padded(n[2], version) : c->end);
    return ST_OK;
}

enum status h5_attribute(struct hdf5 *h, struct cursor *c, struct hdf5_attr **out, struct err *e)
{
    uint64_t at = c->pos, bytes = 0;
    struct hdf5_attr *a = ARENA_NEW(h->arena, struct hdf5_attr);
    uint16_t n[3];
    if (!a)
        return err_nomem(e, sizeof *a);
    a->at = c->base + at;
    unsigned version = cur_u8(c), flags = cur_u8(c);
    if (version < 1 || version > 3)
        (void)cur_fail(c, at, "hdf5-version", "an attribute of version %u", version);
    for (int k = 0; k < 3; k++)
        n[k] = cur_u16(c);
    if (version == 3)
        cur_skip(c, 1);
    if (version > 1 && (flags & 2))
        (void)cur_fail(c, at, "hdf5-shared", "a shared dataspace");
    TRY(cur_ok(c, e));
    TRY(attr_parts(h, c, a, version, version > 1 ? flags : 0, n, e));
    if (a->space.null || !prod_u64(a->space.dim, a->space.rank, &a->n_elems))
        a->n_elems = 0;
    if (!mul_u64(a->n_elems, a->type.size, &bytes) || bytes > cur_left(c)) {
        (void)cur_fail(c, at, "hdf5-attribute", "%llu elements of %u bytes, %llu bytes are left",
                       (unsigned long long)a->n_elems, a->type.size,
                       (unsigned long long)cur_left(c));
        return cur_ok(c, e);
    }
    a->raw = cur_str(c, (size_t)bytes, h->arena);
    *out = a;
    return cur_ok(c, e);
}
