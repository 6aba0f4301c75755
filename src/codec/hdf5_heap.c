/* HDF5: local, global and fractal heaps.
 *
 *   local:   HEAP, 0, 3 zero, data size, free list, data address
 *   global:  GCOL, 1, 3 zero, size; objects: index u16, count u16, 4 zero, size, data padded to 8;
 *            index 0 is free space to the end
 *   fractal: FRHP, 0, id bytes u16, filter bytes u16, flags, largest managed u32, next huge id,
 *            huge tree, free space, its manager, 4 + 4 numbers, width u16, first block, largest
 *            direct block, bits of the heap's space u16, rows u16, root, rows in root u16, checksum
 *     FHDB:  0, heap, offset, [checksum], objects
 *     FHIB:  0, heap, offset, direct children, indirect children, checksum
 *     id:    0 offset length (managed), 1 number or address and length (huge), 2 bytes (tiny);
 *            the offset counts the blocks' own heads
 *
 * Refused: hdf5-heap (an object or a name outside its heap, sizes that cannot be, filtered heaps),
 * hdf5-signature, hdf5-version, hdf5-checksum.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/hdf5_int.h"
#include <stdlib.h>
#include <string.h>

#define MAX_LEVELS 16

/* ---- local ---- */

enum status h5_names_open(struct hdf5 *h, uint64_t addr, struct h5_names *x, struct err *e)
{
    struct h5_block b;
    TRY(h5_load(h, addr, 8 + 2ull * h->len_n + h->off_n, &b, e));
    enum status st = h5_begins(&b, "HEAP", 0, e);
    cur_skip(&b.c, 3);
    uint64_t n = h5_len(h, &b.c);
    (void)h5_len(h, &b.c);
    uint64_t data = h5_addr(h, &b.c);
    h5_free(&b);
    TRY(st);
    return h5_load(h, data, n, &x->block, e);
}

enum status h5_name(struct hdf5 *h, const struct h5_names *x, uint64_t off, struct str *out,
                    struct err *e)
{
    const uint8_t *nul =
        off < x->block.n ? memchr(x->block.p + off, 0, x->block.n - (size_t)off) : NULL;
    if (!nul)
        return h5_fail(h, x->block.addr, e, "hdf5-heap", "a name at %llu of a heap of %zu bytes",
                       (unsigned long long)off, x->block.n);
    *out = arena_str(h->arena, x->block.p + off, (size_t)(nul - (x->block.p + off)));
    return out->p ? ST_OK : err_nomem(e, x->block.n);
}

/* ---- global ---- */

struct hdf5_heap_block {
    struct hdf5_heap_block *next;
    struct h5_block block;
};

void hdf5_close(struct hdf5 *h)
{
    while (h->heap_) {
        struct hdf5_heap_block *x = h->heap_;
        h->heap_ = x->next;
        h5_free(&x->block);
        mem_free(x);
    }
}

static enum status collection(struct hdf5 *h, uint64_t addr, struct h5_block **out, struct err *e)
{
    struct hdf5_heap_block **link = &h->heap_, *x;
    for (; (x = *link); link = &x->next)
        if (x->block.addr == addr) {
            *link = x->next; /* to the front: neighbours ask for it again */
            x->next = h->heap_;
            h->heap_ = x;
            *out = &x->block;
            return ST_OK;
        }
    struct h5_block b;
    TRY(h5_load(h, addr, 8ull + h->len_n, &b, e));
    enum status st = h5_begins(&b, "GCOL", 1, e);
    cur_skip(&b.c, 3);
    uint64_t n = h5_len(h, &b.c);
    h5_free(&b);
    TRY(st);
    if (n < 8ull + h->len_n)
        return h5_fail(h, addr, e, "hdf5-heap", "a collection of %llu bytes",
                       (unsigned long long)n);
    x = mem_zalloc(1, sizeof *x);
    if (!x)
        return err_nomem(e, sizeof *x);
    st = h5_load(h, addr, n, &x->block, e);
    if (st != ST_OK) {
        mem_free(x);
        return st;
    }
    x->next = h->heap_;
    h->heap_ = x;
    *out = &x->block;
    return ST_OK;
}

enum status h5_global(struct hdf5 *h, uint64_t addr, uint32_t index, uint64_t at, struct str *out,
                      struct err *e)
{
    struct h5_block *b = NULL;
    size_t head = 8u + h->len_n;
    TRY(collection(h, addr, &b, e));
    for (size_t pos = head; b->n - pos >= head;) {
        uint64_t i = h5_uint_at(b->p + pos, 2), n = h5_uint_at(b->p + pos + 8, h->len_n);
        if (i == 0)
            break;
        if (n > b->n - pos - head)
            return h5_fail(h, addr + pos, e, "hdf5-heap", "an object of %llu bytes in %zu",
                           (unsigned long long)n, b->n);
        if (i == index) {
            *out = arena_str(h->arena, b->p + pos + head, (size_t)n);
            return out->p ? ST_OK : err_nomem(e, n);
        }
        size_t step = head + ((size_t)n + 7) / 8 * 8;
        if (step > b->n - pos)
            break;
        pos += step;
    }
    (void)h5_fail(h, addr, e, "hdf5-heap", "no object %u in the collection, asked for at byte %llu",
                  index, (unsigned long long)at);
    return ST_INPUT;
}

enum status hdf5_text(struct hdf5 *h, const struct hdf5_attr *a, uint64_t i, struct str *out,
                      struct err *e)
{
    const uint8_t *p = (const uint8_t *)a->raw.p + (size_t)i * a->type.size;
    if (i >= a->n_elems || (a->type.cls != HDF5_STRING && a->type.cls != HDF5_VLEN_STRING))
        return err_set(e, ST_BUG, "hdf5-text", "not a text attribute");
    if (a->type.cls == HDF5_STRING) {
        struct str s = {(const char *)p, a->type.size};
        if (a->type.pad < 2)
            s = str_sub(s, 0, str_find(s, 0, 0));
        while (a->type.pad == 2 && s.n && s.p[s.n - 1] == ' ')
            s.n--;
        *out = s;
        return ST_OK;
    }
    uint64_t n = h5_uint_at(p, 4), addr = h5_uint_at(p + 4, h->off_n);
    if (a->type.size < 8u + h->off_n)
        return h5_fail(h, a->at - h->base, e, "hdf5-type", "a text reference of %u bytes",
                       a->type.size);
    if (n == 0 || addr == 0) {
        *out = STR("");
        return ST_OK;
    }
    TRY(h5_global(h, addr, (uint32_t)h5_uint_at(p + 4 + h->off_n, 4), a->at, out, e));
    if (out->n < n)
        return h5_fail(h, a->at - h->base, e, "hdf5-heap", "a text of %llu bytes, %zu are there",
                       (unsigned long long)n, out->n);
    out->n = (size_t)n;
    while (out->n && out->p[out->n - 1] == 0)
        out->n--;
    return ST_OK;
}

/* ---- fractal ---- */

struct fractal {
    uint16_t width, bits, rows;
    uint64_t start, max_direct, root;
    bool summed;
    unsigned off_n, max_direct_rows;
};
struct part { /* a block not yet read */
    uint64_t addr, lo, n;
    unsigned rows; /* 0: direct */
};

static bool power_of_two(uint64_t v)
{
    return v && (v & (v - 1)) == 0;
}

static enum status heap_head(struct hdf5 *h, uint64_t addr, struct h5_heap *x, struct fractal *f,
                             struct err *e)
{
    struct h5_block b;
    size_t n = 22 + 12u * h->len_n + 3u * h->off_n;
    TRY(h5_load(h, addr, n + 4, &b, e));
    enum status st = h5_begins(&b, "FRHP", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, n, e);
    x->id_n = cur_u16(&b.c);
    unsigned filters = cur_u16(&b.c);
    f->summed = cur_u8(&b.c) & 2;
    uint64_t max_managed = cur_u32(&b.c);
    (void)h5_len(h, &b.c); /* next huge id */
    x->huge_tree = h5_addr(h, &b.c);
    (void)h5_len(h, &b.c); /* free space */
    (void)h5_addr(h, &b.c);
    cur_skip(&b.c, 8ull * h->len_n);
    f->width = cur_u16(&b.c);
    f->start = h5_len(h, &b.c);
    f->max_direct = h5_len(h, &b.c);
    f->bits = cur_u16(&b.c);
    cur_skip(&b.c, 2);
    f->root = h5_addr(h, &b.c);
    f->rows = cur_u16(&b.c);
    if (st == ST_OK)
        st = cur_ok(&b.c, e);
    h5_free(&b);
    TRY(st);
    if (filters)
        return h5_fail(h, addr, e, "hdf5-heap", "a filtered heap");
    if (!power_of_two(f->start) || !power_of_two(f->max_direct) || f->start > f->max_direct ||
        f->max_direct > UINT32_MAX || f->width == 0 || f->bits == 0 || f->bits > 64 ||
        x->id_n < 2 || x->id_n > 64 || f->rows > 64)
        return h5_fail(h, addr, e, "hdf5-heap", "sizes that no heap can have");
    f->off_n = (f->bits + 7u) / 8;
    f->max_direct_rows = (unsigned)(__builtin_ctzll(f->max_direct) - __builtin_ctzll(f->start)) + 2;
    uint64_t least = max_managed < f->max_direct ? max_managed : f->max_direct;
    x->off_n = (uint8_t)f->off_n;
    x->len_n = (uint8_t)((63 - (least ? __builtin_clzll(least) : 63)) / 8 + 1);
    return ST_OK;
}

static uint64_t row_size(const struct fractal *f, unsigned row)
{
    unsigned shift = row ? row - 1 : 0;
    return shift < 63 && f->start <= UINT64_MAX >> shift ? f->start << shift : 0;
}

static enum status indirect(struct hdf5 *h, const struct fractal *f, const struct part *p,
                            struct buf *todo, struct err *e)
{
    struct h5_block b;
    unsigned n_direct = p->rows < f->max_direct_rows ? p->rows : f->max_direct_rows;
    size_t n = 5u + h->off_n + f->off_n + (size_t)p->rows * f->width * h->off_n;
    TRY(h5_load(h, p->addr, n + 4, &b, e));
    enum status st = h5_begins(&b, "FHIB", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, n, e);
    (void)h5_addr(h, &b.c);
    cur_skip(&b.c, f->off_n);
    uint64_t lo = p->lo;
    for (unsigned row = 0; st == ST_OK && row < p->rows; row++) {
        uint64_t size = row_size(f, row);
        if (size == 0)
            st = h5_fail(h, p->addr, e, "hdf5-heap", "a heap too large to be");
        for (unsigned k = 0; st == ST_OK && k < f->width; k++) {
            struct part q = {.addr = h5_addr(h, &b.c), .lo = lo, .n = size};
            if (row >= n_direct) { /* its rows: log2(size / (start * width)) + 1 */
                uint64_t first = f->start * f->width;
                q.rows =
                    size < first || first == 0
                        ? 1
                        : (unsigned)(__builtin_ctzll(size) - (63 - __builtin_clzll(first))) + 1;
            }
            if (q.addr != HDF5_UNDEF)
                buf_bytes(todo, &q, sizeof q);
            if (!add_u64(lo, size, &lo))
                st = h5_fail(h, p->addr, e, "hdf5-heap", "a heap too large to be");
        }
        if (st == ST_OK)
            st = buf_ok(todo, e);
    }
    if (st == ST_OK)
        st = cur_ok(&b.c, e);
    h5_free(&b);
    return st;
}

static enum status direct(struct hdf5 *h, const struct fractal *f, const struct part *p,
                          struct h5_heap *x, struct err *e)
{
    struct h5_span s = {.lo = p->lo, .n = p->n};
    size_t head = 5u + h->off_n + f->off_n;
    TRY(h5_load(h, p->addr, p->n, &s.block, e));
    enum status st = h5_begins(&s.block, "FHDB", 0, e);
    if (st == ST_OK && f->summed) {
        if (s.block.n < head + 4) {
            st = h5_fail(h, p->addr, e, "hdf5-heap", "a block of %zu bytes", s.block.n);
        } else {
            uint32_t want = (uint32_t)h5_uint_at(s.block.p + head, 4);
            memset(s.block.p + head, 0, 4);
            if (h5_lookup3(s.block.p, s.block.n) != want)
                st =
                    h5_fail(h, p->addr, e, "hdf5-checksum", "the checksum of a structure is wrong");
        }
    }
    if (st == ST_OK) {
        buf_bytes(&x->span, &s, sizeof s);
        st = buf_ok(&x->span, e);
    }
    if (st != ST_OK)
        h5_free(&s.block);
    return st;
}

static int by_lo(const void *a, const void *b)
{
    const struct h5_span *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

enum status h5_heap_open(struct hdf5 *h, uint64_t addr, struct h5_heap *x, struct err *e)
{
    struct fractal f;
    struct buf todo = BUF_INIT;
    memset(x, 0, sizeof *x);
    TRY(heap_head(h, addr, x, &f, e));
    struct part p = {f.root, 0, f.start, f.rows};
    enum status st = ST_OK;
    if (p.addr != HDF5_UNDEF)
        buf_bytes(&todo, &p, sizeof p);
    while (st == ST_OK && todo.n) {
        todo.n -= sizeof p;
        memcpy(&p, todo.p + todo.n, sizeof p);
        st = p.rows ? indirect(h, &f, &p, &todo, e) : direct(h, &f, &p, x, e);
    }
    buf_free(&todo);
    if (st == ST_OK && x->span.n)
        qsort(x->span.p, x->span.n / sizeof(struct h5_span), sizeof(struct h5_span), by_lo);
    return st;
}

void h5_heap_close(struct h5_heap *x)
{
    struct h5_span *s = (struct h5_span *)(void *)x->span.p;
    for (size_t i = 0; i < x->span.n / sizeof *s; i++)
        h5_free(&s[i].block);
    buf_free(&x->span);
}

static enum status managed(struct hdf5 *h, struct h5_heap *x, const uint8_t *id, struct cursor *c,
                           struct err *e)
{
    uint64_t off, n;
    if (x->id_n < 1u + x->off_n + x->len_n)
        return h5_fail(h, 0, e, "hdf5-heap", "ids of %u bytes", x->id_n);
    off = h5_uint_at(id + 1, x->off_n);
    n = h5_uint_at(id + 1 + x->off_n, x->len_n);
    struct h5_span *s = (struct h5_span *)(void *)x->span.p;
    size_t lo = 0, hi = x->span.n / sizeof *s;
    while (lo < hi) { /* the first that begins behind off */
        size_t mid = lo + (hi - lo) / 2;
        if (s[mid].lo <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0 || !range_in(off - s[lo - 1].lo, n, s[lo - 1].n))
        return h5_fail(h, 0, e, "hdf5-heap", "an object of %llu bytes at %llu lies in no block",
                       (unsigned long long)n, (unsigned long long)off);
    const struct h5_block *b = &s[lo - 1].block;
    size_t at = (size_t)(off - s[lo - 1].lo);
    cur_mem(c, b->p + at, (size_t)n, file_path(h->file), b->c.base + at);
    return ST_OK;
}

struct huge {
    struct hdf5 *h;
    uint64_t id, addr, n;
    bool found;
};

static enum status huge_record(void *ctx, const uint8_t *rec, size_t n, uint64_t at, struct err *e)
{
    struct huge *x = ctx;
    unsigned o = x->h->off_n, l = x->h->len_n;
    (void)at;
    if (n < o + 2 * l)
        return h5_fail(x->h, 0, e, "hdf5-btree", "records of %zu bytes", n);
    if (h5_uint_at(rec + o + l, l) == x->id) {
        x->addr = h5_uint_at(rec, o);
        x->n = h5_uint_at(rec + o, l);
        x->found = true;
    }
    return ST_OK;
}

enum status h5_heap_get(struct hdf5 *h, struct h5_heap *x, const uint8_t *id, struct h5_block *own,
                        struct cursor *c, struct err *e)
{
    unsigned kind = id[0] >> 4 & 3;
    if (id[0] >> 6)
        return h5_fail(h, 0, e, "hdf5-version", "a heap id of version %u", id[0] >> 6);
    if (kind == 0)
        return managed(h, x, id, c, e);
    if (kind == 2) {
        size_t n = x->id_n <= 18 ? (id[0] & 15u) + 1 : ((id[0] & 15u) << 8 | id[1]) + 1;
        size_t at = x->id_n <= 18 ? 1 : 2;
        if (n > x->id_n - at)
            return h5_fail(h, 0, e, "hdf5-heap", "a tiny object of %zu bytes", n);
        cur_mem(c, id + at, n, file_path(h->file), h->base);
        return ST_OK;
    }
    if (kind != 1)
        return h5_fail(h, 0, e, "hdf5-heap", "an id of kind %u", kind);
    struct huge g = {.h = h, .id = h5_uint_at(id + 1, x->id_n > 9 ? 8 : x->id_n - 1u)};
    if (x->id_n >= 1u + h->off_n + h->len_n) {
        g.addr = h5_uint_at(id + 1, h->off_n);
        g.n = h5_uint_at(id + 1 + h->off_n, h->len_n);
    } else {
        TRY(h5_btree2(h, x->huge_tree, 1, huge_record, &g, e));
        if (!g.found)
            return h5_fail(h, x->huge_tree == HDF5_UNDEF ? 0 : x->huge_tree, e, "hdf5-heap",
                           "no huge object %llu", (unsigned long long)g.id);
    }
    TRY(h5_load(h, g.addr, g.n, own, e));
    *c = own->c;
    return ST_OK;
}
