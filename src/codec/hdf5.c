/* HDF5, reading: superblock, blocks of structure, checksums.
 *
 *   superblock 0, 1:  signature 8, versions, sizes of addresses and lengths, K values, flags,
 *                     base, free space, end of file, driver; root's symbol table entry
 *   superblock 2, 3:  signature 8, version, sizes, flags, base, extension, end of file, root's
 *                     object header, checksum (lookup3, as on every structure since)
 *
 * Source: the HDF Group's file format specification, version 3.0, and the changes up to 4.0.
 *
 * Refused: hdf5-signature, hdf5-superblock (version, sizes other than 4 and 8, a base that is not
 * where the signature stands), hdf5-two-signatures (behind a user block), hdf5-driver (files of
 * several parts), hdf5-checksum, hdf5-loop, hdf5-size, truncated.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/hdf5_int.h"
#include <stdio.h>
#include <string.h>

#define BLOCK_MAX ((uint64_t)64 << 20)
static const char signature[] = "\x89HDF\r\n\x1a\n";

bool hdf5_is(const uint8_t *head, size_t n)
{
    return n >= 8 && memcmp(head, signature, 8) == 0;
}

/* ---- numbers ---- */

uint64_t h5_uint_at(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

uint64_t h5_uint(struct cursor *c, unsigned n)
{
    const uint8_t *p = cur_take(c, n);
    return p ? h5_uint_at(p, n) : 0;
}

uint64_t h5_len(const struct hdf5 *h, struct cursor *c)
{
    return h5_uint(c, h->len_n);
}

uint64_t h5_addr(const struct hdf5 *h, struct cursor *c)
{
    uint64_t v = h5_uint(c, h->off_n);
    return h->off_n == 4 && v == UINT32_MAX ? HDF5_UNDEF : v;
}

/* Bob Jenkins's hash, lookup3's hashlittle with a start of 0. */
static uint32_t rot(uint32_t x, int k)
{
    return x << k | x >> (32 - k);
}

uint32_t h5_lookup3(const uint8_t *p, size_t n)
{
    uint32_t a = 0xdeadbeef + (uint32_t)n, b = a, c = a;
    for (; n > 12; n -= 12, p += 12) {
        a += (uint32_t)h5_uint_at(p, 4);
        b += (uint32_t)h5_uint_at(p + 4, 4);
        c += (uint32_t)h5_uint_at(p + 8, 4);
        a = (a - c) ^ rot(c, 4), c += b;
        b = (b - a) ^ rot(a, 6), a += c;
        c = (c - b) ^ rot(b, 8), b += a;
        a = (a - c) ^ rot(c, 16), c += b;
        b = (b - a) ^ rot(a, 19), a += c;
        c = (c - b) ^ rot(b, 4), b += a;
    }
    if (n == 0)
        return c;
    uint8_t last[12] = {0};
    memcpy(last, p, n);
    a += (uint32_t)h5_uint_at(last, 4);
    b += (uint32_t)h5_uint_at(last + 4, 4);
    c += (uint32_t)h5_uint_at(last + 8, 4);
    c = (c ^ b) - rot(b, 14);
    a = (a ^ c) - rot(c, 11);
    b = (b ^ a) - rot(a, 25);
    c = (c ^ b) - rot(b, 16);
    a = (a ^ c) - rot(c, 4);
    b = (b ^ a) - rot(a, 14);
    c = (c ^ b) - rot(b, 24);
    return c;
}

/* ---- blocks ---- */

enum status h5_fail(const struct hdf5 *h, uint64_t addr, struct err *e, const char *code,
                    const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)err_set(e, ST_INPUT, code, "%s", text);
    err_at(e, file_path(h->file), h->base + addr);
    return ST_INPUT;
}

enum status h5_load(struct hdf5 *h, uint64_t addr, uint64_t n, struct h5_block *b, struct err *e)
{
    memset(b, 0, sizeof *b);
    if (!range_in(addr, n, h->size)) {
        (void)err_set(e, ST_INPUT, "truncated", "%llu bytes are declared at address %llu of %llu",
                      (unsigned long long)n, (unsigned long long)addr, (unsigned long long)h->size);
        err_at(e, file_path(h->file), addr < h->size ? h->base + addr : h->base + h->size);
        return ST_INPUT;
    }
    if (n > BLOCK_MAX)
        return h5_fail(h, addr, e, "hdf5-size", "a structure of %llu bytes", (unsigned long long)n);
    if (n > h->budget)
        return h5_fail(h, addr, e, "hdf5-loop", "the structure's parts lead back to each other");
    h->budget -= n;
    b->p = mem_alloc((size_t)n + 1);
    if (!b->p)
        return err_nomem(e, n);
    b->n = (size_t)n;
    b->addr = addr;
    enum status st = file_pread(h->file, b->p, (size_t)n, h->base + addr, e);
    if (st != ST_OK) {
        h5_free(b);
        return st;
    }
    cur_mem(&b->c, b->p, b->n, file_path(h->file), h->base + addr);
    return ST_OK;
}

void h5_free(struct h5_block *b)
{
    cur_close(&b->c);
    mem_free(b->p);
    b->p = NULL;
    b->n = 0;
}

enum status h5_tree_head(struct hdf5 *h, uint64_t addr, unsigned type, int level, unsigned *is,
                         uint64_t *n, struct err *e)
{
    struct h5_block b;
    TRY(h5_load(h, addr, 8, &b, e));
    unsigned have = b.p[4];
    bool sign = memcmp(b.p, "TREE", 4) == 0;
    *is = b.p[5];
    *n = h5_uint_at(b.p + 6, 2);
    h5_free(&b);
    if (!sign)
        return h5_fail(h, addr, e, "hdf5-signature", "no TREE stands here");
    if (have != type || (level >= 0 && (unsigned)level != *is))
        return h5_fail(h, addr, e, "hdf5-btree", "a node of type %u, level %u", have, *is);
    return ST_OK;
}

enum status h5_begins(struct h5_block *b, const char *sig, unsigned version, struct err *e)
{
    const uint8_t *p = cur_take(&b->c, 4);
    if (p && memcmp(p, sig, 4) != 0)
        (void)cur_fail(&b->c, 0, "hdf5-signature", "no %s stands here", sig);
    unsigned v = cur_u8(&b->c);
    if (v != version)
        (void)cur_fail(&b->c, 4, "hdf5-version", "%s of version %u", sig, v);
    return cur_ok(&b->c, e);
}

enum status h5_check(const struct hdf5 *h, const struct h5_block *b, size_t n, struct err *e)
{
    if (n + 4 > b->n)
        return h5_fail(h, b->addr, e, "truncated", "the structure ends before its checksum");
#ifndef NNFERRY_FUZZ /* no fuzzer finds sums */
    if (h5_lookup3(b->p, n) != (uint32_t)h5_uint_at(b->p + n, 4))
        return h5_fail(h, b->addr, e, "hdf5-checksum", "the checksum of a structure is wrong");
#endif
    return ST_OK;
}

/* ---- superblock ---- */

static bool signed_at(struct file *f, uint64_t lo, uint64_t n, uint64_t at)
{
    uint8_t p[8];
    struct err quiet;
    return range_in(at, 8, n) && file_pread(f, p, 8, lo + at, &quiet) == ST_OK && hdf5_is(p, 8);
}

static enum status sizes(struct hdf5 *h, struct cursor *c, struct err *e)
{
    uint64_t at = c->pos;
    h->off_n = cur_u8(c);
    h->len_n = cur_u8(c);
    if ((h->off_n != 4 && h->off_n != 8) || (h->len_n != 4 && h->len_n != 8))
        (void)cur_fail(c, at, "hdf5-superblock", "addresses of %u and lengths of %u bytes",
                       h->off_n, h->len_n);
    return cur_ok(c, e);
}

static enum status old_superblock(struct hdf5 *h, struct cursor *c, unsigned version,
                                  uint64_t *base, uint64_t *eof, struct err *e)
{
    cur_skip(c, 4);
    TRY(sizes(h, c, e));
    cur_skip(c, version ? 13 : 9);
    *base = h5_addr(h, c);
    (void)h5_addr(h, c);
    *eof = h5_addr(h, c);
    uint64_t at = c->pos;
    if (h5_addr(h, c) != HDF5_UNDEF)
        (void)cur_fail(c, at, "hdf5-driver", "the file is one of several that belong together");
    (void)h5_addr(h, c);
    h->root = h5_addr(h, c);
    return cur_ok(c, e);
}

static enum status new_superblock(struct hdf5 *h, struct h5_block *b, uint64_t *base, uint64_t *eof,
                                  struct err *e)
{
    TRY(sizes(h, &b->c, e));
    cur_skip(&b->c, 1);
    *base = h5_addr(h, &b->c);
    (void)h5_addr(h, &b->c);
    *eof = h5_addr(h, &b->c);
    h->root = h5_addr(h, &b->c);
    TRY(cur_ok(&b->c, e));
    return h5_check(h, b, (size_t)b->c.pos, e);
}

static enum status superblock(struct hdf5 *h, uint64_t lo, uint64_t n, uint64_t at, struct err *e)
{
    struct h5_block b;
    uint64_t base = 0, eof = 0, left = n - at;
    h->base = lo + at;
    h->size = left;
    TRY(h5_load(h, 0, left < 128 ? left : 128, &b, e));
    cur_skip(&b.c, 8);
    unsigned version = cur_u8(&b.c);
    enum status st = version < 2   ? old_superblock(h, &b.c, version, &base, &eof, e)
                     : version < 4 ? new_superblock(h, &b, &base, &eof, e)
                                   : cur_fail(&b.c, 8, "hdf5-superblock", "version %u", version);
    if (st != ST_OK && version >= 4)
        st = cur_ok(&b.c, e);
    h5_free(&b);
    TRY(st);
    if (base != at)
        return h5_fail(h, 0, e, "hdf5-superblock", "the base is %llu, the signature stands at %llu",
                       (unsigned long long)base, (unsigned long long)at);
    if (eof > n) {
        (void)h5_fail(h, 0, e, "truncated", "the file shall have %llu bytes, it has %llu",
                      (unsigned long long)eof, (unsigned long long)n);
        return ST_INPUT;
    }
    return ST_OK;
}

enum status hdf5_open(struct file *f, uint64_t lo, uint64_t n, struct arena *a, struct hdf5 *out,
                      struct err *e)
{
    uint64_t at = 0;
    *out = (struct hdf5){.file = f, .arena = a, .base = lo};
    if (!mul_u64(n, 4, &out->budget) || !add_u64(out->budget, 1 << 16, &out->budget))
        out->budget = UINT64_MAX;
    while (!signed_at(f, lo, n, at)) {
        at = at ? at * 2 : 512;
        if (at >= n)
            return h5_fail(out, 0, e, "hdf5-signature", "no HDF5 signature is in the file");
    }
    for (uint64_t next = at ? at * 2 : 0; next && next < n; next *= 2)
        if (signed_at(f, lo, n, next))
            return h5_fail(out, next, e, "hdf5-two-signatures",
                           "a second HDF5 signature stands behind the first");
    return superblock(out, lo, n, at, e);
}
