/* HDF5: fixed and extensible arrays, two indexes of chunks by number.
 *
 *   entry:  address [, stored bytes, mask u32]
 *   FAHD:   0, client, entry size, page bits, n, data block, checksum
 *   FADB:   0, client, header; entries, checksum. With more entries than a page: a bitmap of the
 *           pages that are set (high bit first), checksum, pages of entries with checksums
 *   EAHD:   0, client, entry size, bits of the largest number, entries in the index block, fewest
 *           in a data block, fewest pointers in a super block, page bits, 6 statistics (the fifth:
 *           one past the highest number set), index block, checksum
 *   EAIB:   0, client, header, entries, data block addresses, super block addresses, checksum
 *   EASB:   0, client, header, first number, [bitmaps], data block addresses, checksum
 *   EADB:   0, client, header, first number, entries; or checksum and pages
 *
 * Super block u has 2^(u/2) data blocks of 2^((u+1)/2) * fewest entries; the first ones' data
 * blocks stand in the index block.
 *
 * Refused: hdf5-array (sizes that cannot be), hdf5-signature, hdf5-version, hdf5-checksum.
 */
#include "codec/hdf5_int.h"
#include <string.h>

struct array {
    struct h5_index *x;
    struct hdf5 *h;
    unsigned client, entry_n, page_bits;
    uint64_t left; /* entries from number on that may be set */
    uint64_t number;
};

/* n entries from b's cursor; those behind the last that is set are not looked at. */
static enum status entries(struct array *a, struct h5_block *b, uint64_t n, struct err *e)
{
    bool sized = a->client == 1;
    uint64_t raw = a->x->d->layout.chunk_bytes;
    for (uint64_t i = 0; i < n; i++, a->number++) {
        uint64_t at = b->c.base + b->c.pos;
        uint64_t addr = h5_addr(a->h, &b->c), stored = raw;
        uint32_t mask = 0;
        if (sized) {
            stored = h5_uint(&b->c, a->entry_n - a->h->off_n - 4);
            mask = cur_u32(&b->c);
        }
        TRY(cur_ok(&b->c, e));
        if (a->number < a->left)
            TRY(h5_chunk_number(a->x, a->number, addr, stored, mask, at, e));
    }
    return ST_OK;
}

static enum status client_fits(struct array *a, uint64_t addr, struct err *e)
{
    unsigned least = a->h->off_n + (a->client ? 5u : 0);
    bool sized = a->x->d->n_filters > 0;
    if (a->client > 1 || (a->client == 1) != sized || a->entry_n < least ||
        a->entry_n > (a->client ? least + 7 : least) || a->page_bits > 31)
        return h5_fail(a->h, addr, e, "hdf5-array", "entries of kind %u and %u bytes", a->client,
                       a->entry_n);
    return ST_OK;
}

/* Pages of entries behind a block's checked head; set: a bit for each page. */
static enum status pages(struct array *a, uint64_t addr, uint64_t n, const uint8_t *set,
                         struct err *e)
{
    uint64_t page = 1ull << a->page_bits;
    for (uint64_t i = 0; n; i++) {
        uint64_t k = n < page ? n : page, bytes = k * a->entry_n;
        n -= k;
        if (set[i / 8] & 0x80 >> i % 8 && a->number < a->left) {
            struct h5_block b;
            TRY(h5_load(a->h, addr, bytes + 4, &b, e));
            enum status st = h5_check(a->h, &b, (size_t)bytes, e);
            if (st == ST_OK)
                st = entries(a, &b, k, e);
            h5_free(&b);
            TRY(st);
        } else {
            a->number += k;
        }
        addr += bytes + 4;
    }
    return ST_OK;
}

/* ---- fixed ---- */

static enum status fixed_block(struct array *a, uint64_t addr, uint64_t n, struct err *e)
{
    struct hdf5 *h = a->h;
    struct h5_block b;
    uint64_t head = 6ull + h->off_n, page = 1ull << a->page_bits;
    bool paged = n > page;
    if (n > h->size)
        return h5_fail(h, addr, e, "hdf5-array", "%llu entries", (unsigned long long)n);
    uint64_t n_pages = (n + page - 1) / page, map = paged ? (n_pages + 7) / 8 : 0;
    uint64_t size = head + (paged ? map : n * a->entry_n);
    TRY(h5_load(h, addr, size + 4, &b, e));
    enum status st = h5_begins(&b, "FADB", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, (size_t)size, e);
    cur_seek(&b.c, head);
    if (st == ST_OK)
        st = paged ? pages(a, addr + size + 4, n, b.p + head, e) : entries(a, &b, n, e);
    h5_free(&b);
    return st;
}

enum status h5_fixed_array(struct h5_index *x, struct err *e)
{
    struct hdf5 *h = x->h;
    struct array a = {.x = x, .h = h};
    struct h5_block b;
    uint64_t addr = x->d->layout.addr;
    size_t n = 8u + h->len_n + h->off_n;
    TRY(h5_load(h, addr, n + 4, &b, e));
    enum status st = h5_begins(&b, "FAHD", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, n, e);
    a.client = cur_u8(&b.c);
    a.entry_n = cur_u8(&b.c);
    a.page_bits = cur_u8(&b.c);
    uint64_t entries_n = h5_len(h, &b.c), block = h5_addr(h, &b.c);
    h5_free(&b);
    TRY(st);
    TRY(client_fits(&a, addr, e));
    a.left = entries_n;
    return block == HDF5_UNDEF ? ST_OK : fixed_block(&a, block, entries_n, e);
}

/* ---- extensible ---- */

struct ext {
    struct array a;
    unsigned bits, index_n, least, pointers;
    unsigned first_n; /* bytes of a block's first number */
};

static enum status ext_block(struct ext *x, uint64_t addr, uint64_t n, const uint8_t *set,
                             struct err *e)
{
    struct array *a = &x->a;
    struct hdf5 *h = a->h;
    struct h5_block b;
    if (addr == HDF5_UNDEF) {
        a->number += n;
        return ST_OK;
    }
    if (n > h->size)
        return h5_fail(h, addr, e, "hdf5-array", "%llu entries", (unsigned long long)n);
    uint64_t head = 6ull + h->off_n + x->first_n;
    bool paged = n > 1ull << a->page_bits;
    uint64_t size = head + (paged ? 0 : n * a->entry_n);
    TRY(h5_load(h, addr, size + 4, &b, e));
    enum status st = h5_begins(&b, "EADB", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, (size_t)size, e);
    cur_seek(&b.c, head);
    if (st == ST_OK && paged && !set)
        st = h5_fail(h, addr, e, "hdf5-array", "pages without a map");
    if (st == ST_OK)
        st = paged ? pages(a, addr + size + 4, n, set, e) : entries(a, &b, n, e);
    h5_free(&b);
    return st;
}

static enum status super_block(struct ext *x, uint64_t addr, unsigned u, struct err *e)
{
    struct hdf5 *h = x->a.h;
    struct h5_block b;
    uint64_t blocks = 1ull << u / 2, n = (1ull << (u + 1) / 2) * x->least;
    uint64_t page = 1ull << x->a.page_bits, map = n > page ? (n / page + 7) / 8 : 0;
    if (addr == HDF5_UNDEF) {
        x->a.number += blocks * n;
        return ST_OK;
    }
    if (blocks > h->size || map > h->size / blocks)
        return h5_fail(h, addr, e, "hdf5-array", "%llu blocks", (unsigned long long)blocks);
    uint64_t head = 6ull + h->off_n + x->first_n, size = head + blocks * (map + h->off_n);
    TRY(h5_load(h, addr, size + 4, &b, e));
    enum status st = h5_begins(&b, "EASB", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, (size_t)size, e);
    cur_seek(&b.c, head + blocks * map);
    for (uint64_t k = 0; st == ST_OK && k < blocks && x->a.number < x->a.left; k++)
        st = ext_block(x, h5_addr(h, &b.c), n, map ? b.p + head + k * map : NULL, e);
    h5_free(&b);
    return st;
}

static enum status index_block(struct ext *x, uint64_t addr, struct err *e)
{
    struct hdf5 *h = x->a.h;
    struct h5_block b;
    unsigned log_least = (unsigned)__builtin_ctz(x->least);
    unsigned log_ptrs = (unsigned)__builtin_ctz(x->pointers);
    unsigned n_super = 1 + x->bits - log_least, direct = 2 * log_ptrs;
    if (direct > n_super)
        direct = n_super;
    uint64_t n_blocks = 2ull * (x->pointers - 1);
    uint64_t head = 6ull + h->off_n;
    uint64_t size =
        head + (uint64_t)x->index_n * x->a.entry_n + (n_blocks + n_super - direct) * h->off_n;
    TRY(h5_load(h, addr, size + 4, &b, e));
    enum status st = h5_begins(&b, "EAIB", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, (size_t)size, e);
    cur_seek(&b.c, head);
    if (st == ST_OK)
        st = entries(&x->a, &b, x->index_n, e);
    for (unsigned u = 0; st == ST_OK && u < n_super && x->a.number < x->a.left; u++) {
        if (u >= direct) {
            st = super_block(x, h5_addr(h, &b.c), u, e);
            continue;
        }
        uint64_t n = (1ull << (u + 1) / 2) * x->least;
        for (uint64_t k = 0; st == ST_OK && k < 1ull << u / 2; k++)
            st = ext_block(x, h5_addr(h, &b.c), n, NULL, e);
    }
    if (st == ST_OK)
        st = cur_ok(&b.c, e);
    h5_free(&b);
    return st;
}

static bool power_of_two(unsigned v)
{
    return v && (v & (v - 1)) == 0;
}

enum status h5_extensible_array(struct h5_index *ix, struct err *e)
{
    struct hdf5 *h = ix->h;
    struct ext x = {.a = {.x = ix, .h = h}};
    struct h5_block b;
    uint64_t addr = ix->d->layout.addr;
    size_t n = 12u + 6u * h->len_n + h->off_n;
    TRY(h5_load(h, addr, n + 4, &b, e));
    enum status st = h5_begins(&b, "EAHD", 0, e);
    if (st == ST_OK)
        st = h5_check(h, &b, n, e);
    x.a.client = cur_u8(&b.c);
    x.a.entry_n = cur_u8(&b.c);
    x.bits = cur_u8(&b.c);
    x.index_n = cur_u8(&b.c);
    x.least = cur_u8(&b.c);
    x.pointers = cur_u8(&b.c);
    x.a.page_bits = cur_u8(&b.c);
    cur_skip(&b.c, 4ull * h->len_n);
    x.a.left = h5_len(h, &b.c);
    (void)h5_len(h, &b.c);
    uint64_t block = h5_addr(h, &b.c);
    h5_free(&b);
    TRY(st);
    TRY(client_fits(&x.a, addr, e));
    x.first_n = (x.bits + 7) / 8;
    if (!power_of_two(x.least) || !power_of_two(x.pointers) || x.bits > 64 ||
        x.bits < (unsigned)__builtin_ctz(x.least) + 2u * (unsigned)__builtin_ctz(x.pointers))
        return h5_fail(h, addr, e, "hdf5-array", "sizes that no array can have");
    return block == HDF5_UNDEF ? ST_OK : index_block(&x, block, e);
}
