/* HDF5: object headers and the messages in them.
 *
 *   version 1: 1, 0, n messages u16, links u32, bytes u32, 4 pad; messages: type u16, size u16,
 *              flags, 3 zero, body. Continued blocks are bare messages.
 *   version 2: OHDR, 2, flags, [4 times], [2 numbers], size of 1 to 8 bytes, messages: type u8,
 * size u16, flags, [order u16], body; a gap; checksum. Continued: OCHK ... checksum.
 *
 * Refused: hdf5-header, hdf5-version, hdf5-shared, hdf5-external (data in other files), and what
 * the messages' own parts refuse (hdf5_message.c).
 */
#include "codec/hdf5_int.h"
#include <string.h>

#define BLOCKS_MAX 65536u /* of one header */

struct message {
    unsigned type, flags;
    struct cursor *c; /* over the body alone */
};
typedef enum status (*each_message)(void *ctx, struct message *m, struct err *e);
struct range {
    uint64_t addr, n;
};
struct walk {
    struct hdf5 *h;
    bool v2, ordered;
    struct buf todo; /* struct range: blocks not yet read */
    each_message each;
    void *ctx;
};

static enum status continued(struct walk *w, struct cursor *c, struct err *e)
{
    struct range r;
    r.addr = h5_addr(w->h, c);
    r.n = h5_len(w->h, c);
    TRY(cur_ok(c, e));
    buf_bytes(&w->todo, &r, sizeof r);
    return buf_ok(&w->todo, e);
}

/* The messages of c, which ends where they end. */
static enum status messages(struct walk *w, struct cursor *c, struct err *e)
{
    size_t head = w->v2 ? (w->ordered ? 6 : 4) : 8;
    while (cur_left(c) >= head) {
        struct message m = {0};
        struct cursor body;
        uint64_t at = c->pos;
        m.type = w->v2 ? cur_u8(c) : cur_u16(c);
        size_t n = cur_u16(c);
        m.flags = cur_u8(c);
        cur_skip(c, head - (w->v2 ? 4 : 5));
        if (n > cur_left(c))
            (void)cur_fail(c, at, "hdf5-header", "a message of %zu bytes, %llu are left", n,
                           (unsigned long long)cur_left(c));
        const uint8_t *p = cur_take(c, n);
        TRY(cur_ok(c, e));
        cur_mem(&body, p, n, file_path(w->h->file), c->base + c->pos - n);
        m.c = &body;
        if (m.type == 0x10)
            TRY(continued(w, &body, e));
        else if (m.type != 0)
            TRY(w->each(w->ctx, &m, e));
    }
    if (!w->v2 && cur_left(c)) {
        (void)cur_fail(c, c->pos, "hdf5-header", "a message without a whole head");
        return cur_ok(c, e);
    }
    return ST_OK;
}

static enum status block_messages(struct walk *w, struct h5_block *b, uint64_t lo, struct err *e)
{
    struct cursor c;
    size_t hi = b->n;
    if (w->v2) {
        hi = b->n < lo + 4 ? (size_t)lo : b->n - 4;
        TRY(h5_check(w->h, b, hi, e));
    }
    cur_mem(&c, b->p + lo, hi - (size_t)lo, file_path(w->h->file), b->c.base + lo);
    return messages(w, &c, e);
}

static enum status first_block(struct walk *w, uint64_t addr, struct err *e)
{
    struct hdf5 *h = w->h;
    struct h5_block b;
    uint64_t lo, n;
    TRY(h5_load(h, addr, 16, &b, e));
    w->v2 = memcmp(b.p, "OHDR", 4) == 0;
    if (!w->v2) {
        if (b.p[0] != 1) {
            h5_free(&b);
            return h5_fail(h, addr, e, "hdf5-header", "no object header stands here");
        }
        lo = 16;
        n = 16 + h5_uint_at(b.p + 8, 4);
    } else {
        unsigned flags = b.p[5];
        w->ordered = flags & 4;
        lo = 6 + (flags & 32 ? 16u : 0) + (flags & 16 ? 4u : 0);
        unsigned version = b.p[4], size_n = 1u << (flags & 3);
        h5_free(&b);
        if (version != 2)
            return h5_fail(h, addr, e, "hdf5-version", "an object header of version %u", version);
        TRY(h5_load(h, addr, lo + size_n, &b, e));
        n = h5_uint_at(b.p + lo, size_n);
        lo += size_n;
        if (n > h->size) {
            h5_free(&b);
            return h5_fail(h, addr, e, "truncated", "an object header of %llu bytes",
                           (unsigned long long)n);
        }
        n += lo + 4;
    }
    h5_free(&b);
    TRY(h5_load(h, addr, n, &b, e));
    enum status st = block_messages(w, &b, lo, e);
    h5_free(&b);
    return st;
}

static enum status later_blocks(struct walk *w, struct err *e)
{
    for (unsigned n = 0; w->todo.n; n++) {
        struct range r;
        struct h5_block b;
        w->todo.n -= sizeof r;
        memcpy(&r, w->todo.p + w->todo.n, sizeof r);
        if (r.n < 8 || n == BLOCKS_MAX)
            return h5_fail(w->h, r.addr, e, "hdf5-header", "block %u of a header, of %llu bytes", n,
                           (unsigned long long)r.n);
        TRY(h5_load(w->h, r.addr, r.n, &b, e));
        enum status st = ST_OK;
        if (w->v2 && memcmp(b.p, "OCHK", 4) != 0)
            st = h5_fail(w->h, r.addr, e, "hdf5-signature", "no OCHK stands here");
        if (st == ST_OK)
            st = block_messages(w, &b, w->v2 ? 4 : 0, e);
        h5_free(&b);
        TRY(st);
    }
    return ST_OK;
}

static enum status walk(struct hdf5 *h, uint64_t addr, each_message each, void *ctx, struct err *e)
{
    struct walk w = {.h = h, .each = each, .ctx = ctx};
    enum status st = first_block(&w, addr, e);
    if (st == ST_OK)
        st = later_blocks(&w, e);
    buf_free(&w.todo);
    return st;
}

/* ---- committed datatypes ---- */

struct committed {
    struct hdf5_type *t;
    bool found;
};

static enum status find_type(void *ctx, struct message *m, struct err *e)
{
    struct committed *x = ctx;
    if (m->type != 3)
        return ST_OK;
    if (m->flags & 2) {
        (void)cur_fail(m->c, 0, "hdf5-shared", "a shared datatype that is itself shared");
        return cur_ok(m->c, e);
    }
    x->found = true;
    return h5_type(m->c, x->t, e);
}

enum status h5_committed(struct hdf5 *h, uint64_t addr, struct hdf5_type *t, struct err *e)
{
    struct committed x = {t, false};
    TRY(walk(h, addr, find_type, &x, e));
    return x.found ? ST_OK
                   : h5_fail(h, addr, e, "hdf5-shared", "a shared datatype that is not there");
}

/* ---- objects ---- */

struct object {
    struct hdf5 *h;
    struct hdf5_object *o;
    struct hdf5_link **last_link;
    struct hdf5_attr **last_attr;
    uint32_t fill_n;
};

static enum status fill_value(struct object *x, struct message *m, struct err *e)
{
    struct cursor *c = m->c;
    uint32_t n = 0;
    if (m->type == 4) {
        n = cur_u32(c);
    } else {
        unsigned version = cur_u8(c);
        if (version == 3) {
            n = cur_u8(c) & 0x20 ? cur_u32(c) : 0;
        } else if (version == 1 || version == 2) {
            cur_skip(c, 2);
            n = cur_u8(c) || version == 1 ? cur_u32(c) : 0;
        } else {
            (void)cur_fail(c, 0, "hdf5-version", "a fill value of version %u", version);
        }
    }
    if (n > INT32_MAX)
        n = 0; /* -1: undefined */
    const uint8_t *p = cur_take(c, n);
    TRY(cur_ok(c, e));
    if (n == 0 || n > sizeof x->o->fill || (m->type == 4 && x->o->has_fill_))
        return ST_OK;
    memcpy(x->o->fill, p, n);
    x->fill_n = n;
    x->o->has_fill_ = true;
    return ST_OK;
}

static enum status external(struct object *x, struct message *m, struct err *e)
{
    struct cursor *c = m->c;
    struct str name = STR_NONE;
    struct h5_names names;
    struct err quiet;
    cur_skip(c, 8);
    uint64_t heap = h5_addr(x->h, c), off = h5_len(x->h, c);
    if (cur_ok(c, &quiet) == ST_OK && h5_names_open(x->h, heap, &names, &quiet) == ST_OK) {
        if (h5_name(x->h, &names, off, &name, &quiet) != ST_OK)
            name = STR_NONE;
        h5_free(&names.block);
    }
    (void)err_set(e, ST_INPUT, "hdf5-external", "the data lies in another file, '%.*s'",
                  STR_ARG(str_sub(name, 0, 200)));
    err_at(e, file_path(x->h->file), m->c->base);
    return ST_INPUT;
}

static enum status link_info(struct object *x, struct cursor *c, bool attr, struct err *e)
{
    struct hdf5_object *o = x->o;
    unsigned version = cur_u8(c), flags = cur_u8(c);
    if (version != 0)
        (void)cur_fail(c, 0, "hdf5-version", "link or attribute info of version %u", version);
    cur_skip(c, flags & 1 ? (attr ? 2 : 8) : 0);
    uint64_t heap = h5_addr(x->h, c), tree = h5_addr(x->h, c);
    TRY(cur_ok(c, e));
    if (attr) {
        o->attr_heap_ = heap;
        o->attr_tree_ = tree;
    } else {
        o->link_heap_ = heap;
        o->link_tree_ = tree;
        o->kind = HDF5_GROUP;
    }
    return ST_OK;
}

static enum status add_attr(struct object *x, struct cursor *c, struct err *e)
{
    struct hdf5_attr *a;
    TRY(h5_attribute(x->h, c, &a, e));
    *x->last_attr = a;
    x->last_attr = &a->next;
    return ST_OK;
}

static enum status take_message(void *ctx, struct message *m, struct err *e)
{
    struct object *x = ctx;
    struct hdf5_object *o = x->o;
    struct hdf5_link *l;
    uint64_t addr;
    if (m->flags & 2) {
        if (m->type != 3) {
            if (m->type != 1 && m->type != 4 && m->type != 5 && m->type != 11 && m->type != 12)
                return ST_OK;
            (void)cur_fail(m->c, 0, "hdf5-shared", "a shared message of type %u", m->type);
            return cur_ok(m->c, e);
        }
        TRY(h5_shared(x->h, m->c, &addr, e));
        o->has_type_ = true;
        return h5_committed(x->h, addr, &o->type, e);
    }
    switch (m->type) {
    case 0x01:
        o->has_space_ = true;
        return h5_space(x->h, m->c, &o->space, e);
    case 0x02:
        return link_info(x, m->c, false, e);
    case 0x03:
        o->has_type_ = true;
        return h5_type(m->c, &o->type, e);
    case 0x04:
    case 0x05:
        return fill_value(x, m, e);
    case 0x06:
        TRY(h5_link(x->h, m->c, &l, e));
        *x->last_link = l;
        x->last_link = &l->next;
        o->n_links_++;
        return ST_OK;
    case 0x07:
        return external(x, m, e);
    case 0x08:
        return h5_layout(x->h, m->c, &o->layout, e);
    case 0x0b:
        return h5_filters(m->c, o, e);
    case 0x0c:
        return add_attr(x, m->c, e);
    case 0x11:
        o->tree_ = h5_addr(x->h, m->c);
        o->heap_ = h5_addr(x->h, m->c);
        o->kind = HDF5_GROUP;
        return cur_ok(m->c, e);
    case 0x15:
        return link_info(x, m->c, true, e);
    default: /* times, comments, sizes of groups, reference counts */
        return ST_OK;
    }
}

struct dense {
    struct object *x;
    struct h5_heap heap;
};

static enum status dense_attr(void *ctx, const uint8_t *rec, size_t n, uint64_t at, struct err *e)
{
    struct dense *d = ctx;
    struct h5_block own = {0};
    struct cursor c;
    (void)at;
    if (n < (size_t)d->heap.id_n + 1)
        return h5_fail(d->x->h, 0, e, "hdf5-btree", "records too short for a heap id");
    if (rec[d->heap.id_n] & 2)
        return h5_fail(d->x->h, d->x->o->addr, e, "hdf5-shared", "a shared attribute");
    TRY(h5_heap_get(d->x->h, &d->heap, rec, &own, &c, e));
    enum status st = add_attr(d->x, &c, e);
    h5_free(&own);
    return st;
}

static enum status dense_attrs(struct object *x, struct err *e)
{
    struct dense d = {.x = x};
    enum status st = h5_heap_open(x->h, x->o->attr_heap_, &d.heap, e);
    if (st == ST_OK)
        st = h5_btree2(x->h, x->o->attr_tree_, 8, dense_attr, &d, e);
    h5_heap_close(&d.heap);
    return st;
}

enum status hdf5_object(struct hdf5 *h, uint64_t addr, struct hdf5_object *o, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->addr = addr;
    o->at = h->base + addr;
    o->kind = HDF5_NEITHER;
    o->tree_ = o->heap_ = o->link_heap_ = o->link_tree_ = HDF5_UNDEF;
    o->attr_heap_ = o->attr_tree_ = HDF5_UNDEF;
    struct object x = {.h = h, .o = o, .last_link = &o->link_, .last_attr = &o->attr};
    TRY(walk(h, addr, take_message, &x, e));
    if (o->attr_heap_ != HDF5_UNDEF && o->attr_tree_ != HDF5_UNDEF)
        TRY(dense_attrs(&x, e));
    if (o->layout.kind != HDF5_NONE) {
        if (o->kind == HDF5_GROUP || !o->has_type_ || !o->has_space_)
            return h5_fail(h, addr, e, "hdf5-header",
                           "a dataset that is a group too, or has no type or extents");
        o->kind = HDF5_DATASET;
        if (x.fill_n != o->type.size)
            memset(o->fill, 0, sizeof o->fill);
    } else if (o->kind != HDF5_GROUP && o->link_) {
        o->kind = HDF5_GROUP;
    }
    return ST_OK;
}

const struct hdf5_attr *hdf5_attr(const struct hdf5_object *o, const char *name)
{
    for (const struct hdf5_attr *a = o->attr; a; a = a->next)
        if (str_is(a->name, name))
            return a;
    return NULL;
}
