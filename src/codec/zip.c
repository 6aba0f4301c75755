/* ZIP reader.
 *
 *   [local header, name, extra][data][descriptor]...   records, from byte 0, no holes
 *   [central record]...                                 one per member
 *   [zip64 end record][zip64 locator]                   when needed
 *   [end record][comment]                               last byte of the file
 *
 * Tolerated because real writers do it: PyTorch's data descriptors (flag bit 3, zeros in the local
 * header, also next to a zip64 extra that holds the local offset) and its "FB" padding extra;
 * CPython's force_zip64 local headers of both generations (real 32-bit sizes plus a zip64 extra,
 * or 0xffffffff plus the extra) with a central record of plain 32-bit sizes; all CRCs zero
 * (torch.save without crc32), with a warning.
 * Refused: zip-no-end zip-end-length zip-two-ends zip-disks zip-zip64 zip-zip64-twice
 * zip-central-place zip-central zip-count zip-method zip-encrypted zip-flags zip-size zip-extra
 * zip-name zip-name-long zip-name-extra zip-name-twice zip-name-case zip-prefix zip-local
 * zip-local-name zip-local-method zip-local-flags zip-local-size zip-local-crc zip-overlap zip-gap
 * zip-descriptor zip-crc zip-member-size, and what codec/deflate.c refuses.
 */
#include "codec/zip.h"
#include "base/checked.h"
#include "base/cursor.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/deflate.h"
#include <stdlib.h>
#include <string.h>

#define SIG_LOCAL 0x04034b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_END 0x06054b50u
#define SIG_END64 0x06064b50u
#define SIG_LOC64 0x07064b50u
#define SIG_DESC 0x08074b50u
enum { END_BYTES = 22, LOC64_BYTES = 20, END64_BYTES = 56, LOCAL_BYTES = 30, CENTRAL_BYTES = 46 };
enum { FLAG_CRYPT = 1, FLAG_DESC = 8, FLAG_UTF8 = 0x800, FLAG_KNOWN = 0x080e };

/* A refusal at a place of the file. */
#define BAD(e, f, at, code, ...)                                                                   \
    (err_set((e), ST_INPUT, (code), __VA_ARGS__), err_at((e), file_path(f), (at)), ST_INPUT)

/* Offsets are the file's; what the archive says counts from its own first byte, base. */
struct end {
    uint64_t base, count, cd_off, cd_bytes, cd_end;
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

/* Finds the end record in the file's last bytes, buf[0..n) standing at base. The record with the
 * highest offset is the one readers take; another that also claims to end the file makes two. */
static enum status find_end(struct file *f, const uint8_t *buf, size_t n, uint64_t base,
                            uint64_t *at, struct err *e)
{
    bool found = false;
    for (size_t i = n - END_BYTES + 1; i-- > 0;) {
        if (get32(buf + i) != SIG_END)
            continue;
        bool closes = i + END_BYTES + get16(buf + i + 20) == n;
        if (!found) {
            found = true;
            *at = base + i;
            if (closes)
                continue;
            /* A record inside another's comment, or a wrong comment length: told apart below. */
            for (size_t k = i; k-- > 0;)
                if (get32(buf + k) == SIG_END && k + END_BYTES + get16(buf + k + 20) == n)
                    return BAD(e, f, base + i, "zip-two-ends",
                               "end record inside the archive comment");
            return BAD(e, f, base + i + 20, "zip-end-length",
                       "comment length does not reach the end of the file");
        }
        if (closes)
            return BAD(e, f, base + i, "zip-two-ends", "two end records claim this file");
    }
    if (!found)
        return BAD(e, f, base, "zip-no-end", "no end record: truncated, or not a zip");
    return ST_OK;
}

static enum status read_end64(struct file *f, uint64_t loc, struct end *d, struct err *e)
{
    struct cursor c;
    cur_file(&c, f, loc, LOC64_BYTES);
    cur_skip(&c, 4);
    uint32_t disk = cur_u32(&c);
    uint64_t at = cur_u64(&c);
    uint32_t disks = cur_u32(&c);
    enum status st = cur_ok(&c, e);
    cur_close(&c);
    TRY(st);
    if (disk != 0 || disks > 1)
        return BAD(e, f, loc, "zip-disks", "archive spans several disks");
    if (!range_in(at, END64_BYTES, loc - d->base))
        return BAD(e, f, loc + 8, "zip-zip64", "zip64 end record lies outside the file");
    at += d->base;
    cur_file(&c, f, at, END64_BYTES);
    uint32_t sig = cur_u32(&c);
    uint64_t bytes = cur_u64(&c);
    cur_skip(&c, 4);
    uint32_t disk_a = cur_u32(&c), disk_b = cur_u32(&c);
    uint64_t n_here = cur_u64(&c), n_all = cur_u64(&c), cd_bytes = cur_u64(&c),
             cd_off = cur_u64(&c);
    st = cur_ok(&c, e);
    cur_close(&c);
    TRY(st);
    if (sig != SIG_END64 || bytes != loc - at - 12)
        return BAD(e, f, at, "zip-zip64", "zip64 end record does not end at its locator");
    if (disk_a != 0 || disk_b != 0 || n_here != n_all)
        return BAD(e, f, at, "zip-disks", "archive spans several disks");
    /* Fields of the short record are either saturated or the same. */
    if ((d->count != 0xffff && d->count != n_all) ||
        (d->cd_bytes != 0xffffffff && d->cd_bytes != cd_bytes) ||
        (d->cd_off != 0xffffffff && d->cd_off != cd_off))
        return BAD(e, f, at, "zip-zip64", "zip64 end record contradicts the end record");
    *d = (struct end){d->base, n_all, cd_off, cd_bytes, at};
    return ST_OK;
}

/* whole: the zip is all of a file, and may end in a comment; else in the end record. */
static enum status read_end(struct file *f, uint64_t base, uint64_t size, bool whole, struct end *d,
                            struct err *e)
{
    if (size < END_BYTES)
        return BAD(e, f, base, "zip-no-end", "too short for a zip");
    size_t most = END_BYTES + (whole ? 65535 : 0), n = size < most ? (size_t)size : most;
    uint8_t *tail = mem_alloc(n);
    if (!tail)
        return err_nomem(e, n);
    uint64_t at = 0;
    enum status st = file_pread(f, tail, n, base + size - n, e);
    if (st == ST_OK)
        st = find_end(f, tail, n, base + size - n, &at, e);
    mem_free(tail);
    TRY(st);

    struct cursor c;
    cur_file(&c, f, at, END_BYTES);
    cur_skip(&c, 4);
    uint16_t disk_a = cur_u16(&c), disk_b = cur_u16(&c), here = cur_u16(&c), all = cur_u16(&c);
    uint32_t cd_bytes = cur_u32(&c), cd_off = cur_u32(&c);
    st = cur_ok(&c, e);
    cur_close(&c);
    TRY(st);
    if ((disk_a != 0 && disk_a != 0xffff) || (disk_b != 0 && disk_b != 0xffff) || here != all)
        return BAD(e, f, at + 4, "zip-disks", "archive spans several disks");
    *d = (struct end){base, all, cd_off, cd_bytes, at};

    uint32_t sig = 0;
    if (at - base >= LOC64_BYTES + END64_BYTES) {
        uint8_t b[4];
        TRY(file_pread(f, b, 4, at - LOC64_BYTES, e));
        sig = get32(b);
    }
    if (sig == SIG_LOC64)
        TRY(read_end64(f, at - LOC64_BYTES, d, e));
    else if (cd_bytes == 0xffffffff || cd_off == 0xffffffff || disk_a || disk_b)
        return BAD(e, f, at, "zip-zip64", "64-bit sizes promised, but no zip64 end record");
    if (!range_in(d->cd_off, d->cd_bytes, d->cd_end - base) ||
        d->cd_off + d->cd_bytes != d->cd_end - base)
        return BAD(e, f, at + 12, "zip-central-place",
                   "central directory does not end where the end record starts");
    d->cd_off += base;
    if (d->count > d->cd_bytes / CENTRAL_BYTES)
        return BAD(e, f, at + 8, "zip-count", "more members declared than the directory can hold");
    return ST_OK;
}

/* ---- names and extras ---- */

static enum status check_name(struct file *f, uint64_t at, struct str s, uint16_t flags,
                              struct err *e)
{
    if (s.n == 0)
        return BAD(e, f, at, "zip-name", "member without a name");
    if (s.n > ZIP_NAME_MAX)
        return BAD(e, f, at, "zip-name-long", "member name of %zu bytes", s.n);
    bool ascii = true;
    size_t where;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == 0)
            return BAD(e, f, at, "zip-name", "NUL in a member name");
        if ((uint8_t)s.p[i] >= 0x80)
            ascii = false;
    }
    if (!ascii && (!(flags & FLAG_UTF8) || !str_utf8(s, &where)))
        return BAD(e, f, at, "zip-name", "member name is not declared and valid UTF-8");
    if (s.p[0] == '/' || str_find(s, '\\', 0) != s.n)
        return BAD(e, f, at, "zip-name", "member name is absolute or holds a backslash");
    struct str rest = s, part;
    while (str_split(&rest, '/', &part))
        if (str_is(part, "..") || str_is(part, "."))
            return BAD(e, f, at, "zip-name", "member name leaves the archive");
    return ST_OK;
}

struct zip64 {
    bool found;
    uint16_t n; /* bytes */
    const uint8_t *p;
};

/* Walks an extra field; keeps the zip64 part, checks the Unicode path part against the name. */
static enum status read_extra(struct file *f, uint64_t at, const uint8_t *p, size_t n,
                              struct str name, struct zip64 *z, struct err *e)
{
    *z = (struct zip64){0};
    for (size_t i = 0; i < n;) {
        if (n - i < 4 || get16(p + i + 2) > n - i - 4)
            return BAD(e, f, at + i, "zip-extra", "extra field runs past its header");
        uint16_t id = get16(p + i), len = get16(p + i + 2);
        const uint8_t *body = p + i + 4;
        if (id == 0x0001) {
            if (z->found)
                return BAD(e, f, at + i, "zip-zip64-twice", "two zip64 fields");
            *z = (struct zip64){true, len, body};
        } else if (id == 0x7075 &&
                   (len < 5 || !str_eq((struct str){(const char *)body + 5, len - 5u}, name))) {
            return BAD(e, f, at + i, "zip-name-extra", "Unicode path field names another member");
        }
        i += 4u + len;
    }
    return ST_OK;
}
static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ---- central directory ---- */

static enum status central_record(struct file *f, struct cursor *c, uint64_t base, uint64_t cd_off,
                                  struct arena *a, struct zip_entry *m, struct err *e)
{
    uint64_t at = m->central = cd_off + c->pos;
    if (cur_left(c) < CENTRAL_BYTES)
        return BAD(e, f, at, "zip-count", "fewer members than declared");
    uint32_t sig = cur_u32(c);
    cur_skip(c, 4);
    m->flags = cur_u16(c);
    uint16_t method = cur_u16(c);
    cur_skip(c, 4);
    m->crc = cur_u32(c);
    uint32_t stored = cur_u32(c), raw = cur_u32(c);
    uint16_t name_n = cur_u16(c), extra_n = cur_u16(c), comment_n = cur_u16(c), disk = cur_u16(c);
    cur_skip(c, 6);
    uint32_t header = cur_u32(c);
    TRY(cur_ok(c, e));
    if (sig != SIG_CENTRAL)
        return BAD(e, f, at, "zip-central", "not a central record");
    if (cur_left(c) < (uint64_t)name_n + extra_n + comment_n)
        return BAD(e, f, at, "zip-central", "central record runs past the directory");
    if (name_n > ZIP_NAME_MAX)
        return BAD(e, f, at + 28, "zip-name-long", "member name of %u bytes", name_n);
    m->name = cur_str(c, name_n, a);
    if (!m->name.p)
        return cur_failed(c) ? cur_ok(c, e) : err_nomem(e, name_n);
    TRY(check_name(f, at + CENTRAL_BYTES, m->name, m->flags, e));
    m->is_dir = m->name.p[m->name.n - 1] == '/';

    struct zip64 z;
    uint64_t extra_at = cd_off + c->pos;
    const uint8_t *x = cur_take(c, extra_n);
    if (!x)
        return cur_ok(c, e);
    TRY(read_extra(f, extra_at, x, extra_n, m->name, &z, e));
    size_t used = 0;
    uint64_t *field[3] = {&m->raw, &m->stored, &m->header};
    uint32_t short_field[3] = {raw, stored, header};
    for (int k = 0; k < 3; k++) {
        *field[k] = short_field[k];
        if (short_field[k] != 0xffffffff)
            continue;
        if (!z.found || z.n < used + 8)
            return BAD(e, f, at + 20, "zip-zip64", "64-bit size promised, but not given");
        *field[k] = get64(z.p + used);
        used += 8;
    }
    if (disk == 0xffff && z.found && z.n == used + 4 && get32(z.p + used) == 0) {
        disk = 0;
        used += 4;
    }
    if (z.found && used != z.n)
        return BAD(e, f, extra_at, "zip-zip64", "zip64 field holds values nothing asked for");
    cur_skip(c, comment_n);
    TRY(cur_ok(c, e));

    if (!add_u64(m->header, base, &m->header))
        return BAD(e, f, at + 42, "zip-overlap", "local header inside the directory");
    if (disk != 0)
        return BAD(e, f, at + 34, "zip-disks", "archive spans several disks");
    if (m->flags & FLAG_CRYPT)
        return BAD(e, f, at + 8, "zip-encrypted", "member is encrypted");
    if (m->flags & ~FLAG_KNOWN)
        return BAD(e, f, at + 8, "zip-flags", "unknown flags 0x%04x", m->flags);
    if (method != ZIP_STORED && method != ZIP_DEFLATED)
        return BAD(e, f, at + 10, "zip-method", "compression method %u", method);
    m->method = (uint8_t)method;
    if (method == ZIP_STORED && m->stored != m->raw)
        return BAD(e, f, at + 20, "zip-size", "stored member with two different sizes");
    if (m->is_dir && m->raw != 0)
        return BAD(e, f, at + 20, "zip-size", "folder entry with data");
    /* deflate cannot do better than 1032:1 */
    if (method == ZIP_DEFLATED && m->raw / 1032 > m->stored)
        return BAD(e, f, at + 20, "zip-size", "declared size is beyond what deflate can hold");
    return ST_OK;
}

static int by_name(const void *pa, const void *pb)
{
    const struct zip_entry *a = *(struct zip_entry *const *)pa, *b = *(struct zip_entry *const *)pb;
    return str_cmp(a->name, b->name);
}
static int fold(char ch)
{
    uint8_t u = (uint8_t)ch;
    return u >= 'A' && u <= 'Z' ? u + 32 : u;
}
static int cmp_folded(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    for (size_t i = 0; i < n; i++) {
        int d = fold(a.p[i]) - fold(b.p[i]);
        if (d)
            return d;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}
static int by_folded(const void *pa, const void *pb)
{
    const struct zip_entry *a = *(struct zip_entry *const *)pa, *b = *(struct zip_entry *const *)pb;
    int d = cmp_folded(a->name, b->name);
    return d ? d : str_cmp(a->name, b->name);
}
static int by_header(const void *pa, const void *pb)
{
    const struct zip_entry *a = *(struct zip_entry *const *)pa, *b = *(struct zip_entry *const *)pb;
    return a->header < b->header ? -1 : a->header > b->header;
}

static enum status name_clash(struct file *f, const struct zip_entry *a, const struct zip_entry *b,
                              struct err *e)
{
    const struct zip_entry *later = a->central > b->central ? a : b;
    bool same = str_eq(a->name, b->name);
    enum status st =
        BAD(e, f, later->central, same ? "zip-name-twice" : "zip-name-case",
            same ? "two members of one name" : "two members whose names differ in case only");
    err_in(e, later->name.p, later->name.n);
    return st;
}

/* ---- local headers ---- */

/* With flag bit 3 the sizes follow the data; the local fields are zero or already right. */
static bool one_of(uint64_t v, uint64_t real)
{
    return v == 0 || v == real;
}

static enum status local_sizes(struct file *f, uint64_t base, const struct zip_entry *m,
                               const struct zip64 *z, uint32_t crc, uint32_t stored, uint32_t raw,
                               struct err *e)
{
    uint64_t at = m->header;
    bool desc = (m->flags & FLAG_DESC) != 0;
    if (z->found && z->n % 8 != 0)
        return BAD(e, f, at, "zip-zip64", "zip64 field of %u bytes", z->n);
    if (desc) {
        if (!one_of(crc, m->crc))
            return BAD(e, f, at + 14, "zip-local-crc", "local CRC differs from the directory");
        bool ok = (one_of(stored, m->stored) || (stored == 0xffffffff && z->found)) &&
                  (one_of(raw, m->raw) || (raw == 0xffffffff && z->found));
        for (uint16_t i = 0; z->found && i < z->n; i += 8) {
            uint64_t v = get64(z->p + i);
            ok = ok && (one_of(v, m->raw) || v == m->stored || v == m->header - base);
        }
        if (!ok)
            return BAD(e, f, at + 18, "zip-local-size", "local sizes differ from the directory");
        return ST_OK;
    }
    if (crc != m->crc)
        return BAD(e, f, at + 14, "zip-local-crc", "local CRC differs from the directory");
    uint64_t full_raw = raw, full_stored = stored;
    if (z->found) {
        if (z->n < 16 || z->n > 24)
            return BAD(e, f, at, "zip-zip64", "zip64 field of %u bytes", z->n);
        full_raw = raw == 0xffffffff ? get64(z->p) : raw;
        full_stored = stored == 0xffffffff ? get64(z->p + 8) : stored;
        if (get64(z->p) != m->raw || get64(z->p + 8) != m->stored ||
            (z->n == 24 && get64(z->p + 16) != m->header - base))
            return BAD(e, f, at + 18, "zip-local-size", "local sizes differ from the directory");
    }
    if (full_raw != m->raw || full_stored != m->stored)
        return BAD(e, f, at + 18, "zip-local-size", "local sizes differ from the directory");
    return ST_OK;
}

static enum status descriptor(struct file *f, const struct zip_entry *m, uint64_t at, uint64_t n,
                              struct err *e)
{
    uint8_t b[24];
    if (n != 12 && n != 16 && n != 20 && n != 24)
        return BAD(e, f, at, n < 12 ? "zip-descriptor" : "zip-gap",
                   "%llu bytes behind the data that are no data descriptor", (unsigned long long)n);
    TRY(file_pread(f, b, (size_t)n, at, e));
    const uint8_t *p = b;
    if (n == 16 || n == 24) {
        if (get32(p) != SIG_DESC)
            return BAD(e, f, at, "zip-descriptor", "no data descriptor behind the data");
        p += 4;
    }
    bool wide = n >= 20;
    uint64_t stored = wide ? get64(p + 4) : get32(p + 4);
    uint64_t raw = wide ? get64(p + 12) : get32(p + 8);
    if (get32(p) != m->crc || stored != m->stored || raw != m->raw)
        return BAD(e, f, at, "zip-descriptor", "data descriptor differs from the directory");
    return ST_OK;
}

/* The record starts at m->header and owns the bytes up to lim. */
static enum status local_record(struct file *f, uint64_t base, struct zip_entry *m, uint64_t lim,
                                struct buf *b, struct err *e)
{
    uint64_t at = m->header, need = LOCAL_BYTES + (uint64_t)m->name.n;
    if (lim - at < need)
        return BAD(e, f, at, "zip-overlap", "record overlaps the next one");
    uint8_t h[LOCAL_BYTES];
    TRY(file_pread(f, h, sizeof h, at, e));
    struct cursor c;
    cur_mem(&c, h, sizeof h, file_path(f), at);
    uint32_t sig = cur_u32(&c);
    cur_skip(&c, 2);
    uint16_t flags = cur_u16(&c), method = cur_u16(&c);
    cur_skip(&c, 4);
    uint32_t crc = cur_u32(&c), stored = cur_u32(&c), raw = cur_u32(&c);
    uint16_t name_n = cur_u16(&c), extra_n = cur_u16(&c);
    enum status st = cur_ok(&c, e);
    cur_close(&c);
    TRY(st);
    if (sig != SIG_LOCAL)
        return BAD(e, f, at, "zip-local", "no local header where the directory puts one");
    if (name_n != m->name.n)
        return BAD(e, f, at + 26, "zip-local-name", "local name differs from the directory");
    need += extra_n;
    if (lim - at < need)
        return BAD(e, f, at + 28, "zip-extra", "extra field runs into the next record");
    buf_clear(b);
    if (!buf_reserve(b, (size_t)name_n + extra_n))
        return buf_ok(b, e);
    TRY(file_pread(f, b->p, (size_t)name_n + extra_n, at + LOCAL_BYTES, e));
    if (memcmp(b->p, m->name.p, name_n) != 0)
        return BAD(e, f, at + LOCAL_BYTES, "zip-local-name",
                   "local name differs from the directory");
    if (method != m->method)
        return BAD(e, f, at + 8, "zip-local-method", "local method differs from the directory");
    if (flags != m->flags)
        return BAD(e, f, at + 6, "zip-local-flags", "local flags differ from the directory");
    struct zip64 z;
    TRY(read_extra(f, at + LOCAL_BYTES + name_n, b->p + name_n, extra_n, m->name, &z, e));
    TRY(local_sizes(f, base, m, &z, crc, stored, raw, e));
    m->data = at + need;
    if (lim - m->data < m->stored)
        return BAD(e, f, at, "zip-overlap", "record overlaps the next one");
    uint64_t rest = lim - m->data - m->stored;
    if (m->flags & FLAG_DESC)
        return descriptor(f, m, m->data + m->stored, rest, e);
    if (rest != 0)
        return BAD(e, f, m->data + m->stored, "zip-gap", "%llu bytes that belong to no record",
                   (unsigned long long)rest);
    return ST_OK;
}

static enum status read_locals(struct zip *z, struct zip_entry **sorted, uint64_t base,
                               uint64_t cd_off, struct err *e)
{
    struct file *f = z->file;
    if (z->n == 0 && cd_off != base)
        return BAD(e, f, base, "zip-gap", "bytes in front of an empty directory");
    for (size_t i = 0; i < z->n; i++) {
        struct zip_entry *m = sorted[i];
        if (m->header >= cd_off)
            return BAD(e, f, m->central, "zip-overlap", "local header inside the directory");
        if (i > 0 && m->header == sorted[i - 1]->header)
            return BAD(e, f, m->central, "zip-overlap", "two members share one local header");
    }
    if (z->n > 0 && sorted[0]->header != base)
        return BAD(e, f, base, "zip-prefix", "bytes in front of the first record");
    struct buf b = BUF_INIT;
    enum status st = ST_OK;
    for (size_t i = 0; i < z->n && st == ST_OK; i++) {
        st = local_record(f, base, sorted[i], i + 1 < z->n ? sorted[i + 1]->header : cd_off, &b, e);
        if (st != ST_OK)
            err_in(e, sorted[i]->name.p, sorted[i]->name.n);
    }
    buf_free(&b);
    return st;
}

static enum status read_range(struct file *f, uint64_t at, uint64_t bytes, bool whole,
                              struct arena *a, struct zip *out, struct err *e)
{
    *out = (struct zip){.file = f};
    struct end d = {0};
    TRY(read_end(f, at, bytes, whole, &d, e));
    out->n = (size_t)d.count;
    out->entry = ARENA_ARRAY(a, struct zip_entry, out->n + 1);
    out->by_name = ARENA_ARRAY(a, struct zip_entry *, out->n + 1);
    struct zip_entry **sorted = ARENA_ARRAY(a, struct zip_entry *, out->n + 1);
    if (!out->entry || !out->by_name || !sorted)
        return err_nomem(e, d.count * sizeof *out->entry);

    struct cursor c;
    cur_file(&c, f, d.cd_off, d.cd_bytes);
    enum status st = ST_OK;
    bool any = false, crc = false;
    for (size_t i = 0; i < out->n && st == ST_OK; i++) {
        struct zip_entry *m = sorted[i] = out->by_name[i] = &out->entry[i];
        st = central_record(f, &c, at, d.cd_off, a, m, e);
        if (st != ST_OK)
            err_in(e, m->name.p, m->name.n);
        any = any || m->raw != 0;
        crc = crc || m->crc != 0;
    }
    if (st == ST_OK)
        st = cur_ok(&c, e);
    if (st == ST_OK && cur_left(&c) != 0)
        st = BAD(e, f, d.cd_off + c.pos, "zip-count", "the directory holds more than declared");
    cur_close(&c);
    TRY(st);

    qsort(sorted, out->n, sizeof *sorted, by_folded);
    for (size_t i = 1; i < out->n; i++)
        if (cmp_folded(sorted[i - 1]->name, sorted[i]->name) == 0)
            return name_clash(f, sorted[i - 1], sorted[i], e);
    qsort(out->by_name, out->n, sizeof *out->by_name, by_name);
    qsort(sorted, out->n, sizeof *sorted, by_header);
    TRY(read_locals(out, sorted, at, d.cd_off, e));
    out->no_crc = any && !crc;
    if (out->no_crc)
        log_warn("%s: zip-no-crc: the archive carries no checksums, its data is not verified",
                 file_path(f));
    return ST_OK;
}

enum status zip_read(struct file *f, struct arena *a, struct zip *out, struct err *e)
{
    return read_range(f, 0, file_size(f), true, a, out, e);
}

enum status zip_read_part(struct file *f, uint64_t at, uint64_t bytes, struct arena *a,
                          struct zip *out, struct err *e)
{
    if (!range_in(at, bytes, file_size(f)))
        return BAD(e, f, at, "truncated", "%llu bytes are declared here, past the end of the file",
                   (unsigned long long)bytes);
    return read_range(f, at, bytes, false, a, out, e);
}

const struct zip_entry *zip_find(const struct zip *z, struct str name)
{
    size_t lo = 0, hi = z->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = str_cmp(z->by_name[mid]->name, name);
        if (d == 0)
            return z->by_name[mid];
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

struct str zip_first_name(const uint8_t *head, size_t n)
{
    if (n < LOCAL_BYTES || get32(head) != SIG_LOCAL)
        return STR_NONE;
    size_t name_n = get16(head + 26);
    if (name_n > n - LOCAL_BYTES)
        name_n = n - LOCAL_BYTES;
    return (struct str){(const char *)head + LOCAL_BYTES, name_n};
}

/* ---- member data ---- */

static enum status crc_differs(const struct zip *z, const struct zip_entry *m, struct err *e)
{
    enum status st = BAD(e, z->file, m->data, "zip-crc", "CRC-32 does not match the data");
    err_in(e, m->name.p, m->name.n);
    return st;
}

enum status zip_load(const struct zip *z, const struct zip_entry *m, uint64_t max, struct buf *b,
                     struct err *e)
{
    if (m->raw > max) {
        err_set(e, ST_LIMIT, "zip-member-size", "member of %llu bytes where %llu are the limit",
                (unsigned long long)m->raw, (unsigned long long)max);
        err_at(e, file_path(z->file), m->data);
        err_in(e, m->name.p, m->name.n);
        return ST_LIMIT;
    }
    size_t n = (size_t)m->raw;
    if (!buf_reserve(b, n ? n : 1))
        return buf_ok(b, e);
    uint8_t *dst = b->p + b->n;
    if (m->method == ZIP_STORED) {
        TRY(file_pread(z->file, dst, n, m->data, e));
        if (!z->no_crc && crc32_update(0, dst, n) != m->crc)
            return crc_differs(z, m, e);
    } else {
        struct inflater *s;
        TRY(inflate_open(z->file, m->data, m->stored, m->raw, z->no_crc ? NULL : &m->crc, &s, e));
        enum status st = ST_OK;
        for (size_t at = 0; st == ST_OK;) {
            size_t got = n - at;
            st = inflate_read(s, dst + at, &got, e);
            at += got;
            if (got == 0)
                break;
        }
        inflate_close(s);
        if (st != ST_OK) {
            err_in(e, m->name.p, m->name.n);
            return st;
        }
    }
    b->n += n;
    return ST_OK;
}

enum status zip_check_crc(const struct zip *z, const struct zip_entry *m, struct err *e)
{
    if (z->no_crc)
        return ST_OK;
    enum { CHUNK = 32 << 10 }; /* stays in the first-level cache */
    uint8_t p[CHUNK];
    enum status st = ST_OK;
    if (m->method == ZIP_STORED) {
        uint32_t crc = 0;
        for (uint64_t at = 0; at < m->stored && st == ST_OK;) {
            size_t n = m->stored - at < CHUNK ? (size_t)(m->stored - at) : CHUNK;
            st = file_pread(z->file, p, n, m->data + at, e);
            if (st == ST_OK)
                crc = crc32_update(crc, p, n);
            at += n;
        }
        if (st == ST_OK && crc != m->crc)
            st = crc_differs(z, m, e);
    } else {
        struct inflater *s;
        st = inflate_open(z->file, m->data, m->stored, m->raw, &m->crc, &s, e);
        if (st == ST_OK) {
            size_t n;
            do {
                n = CHUNK;
                st = inflate_read(s, p, &n, e);
            } while (st == ST_OK && n != 0);
            inflate_close(s);
        }
    }
    return st;
}
