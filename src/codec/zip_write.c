/* ZIP writer: lays members out and spells their headers. It writes nothing itself.
 *
 * Dates are 1980-01-01, names are flagged UTF-8, sizes stand in the local headers (no data
 * descriptors). A stored member's data starts at a multiple of 64, padded by the "FB" extra that
 * PyTorch uses. zip64 fields appear only where a value does not fit.
 */
#include "base/checked.h"
#include "base/mem.h"
#include "codec/zip.h"
#include <string.h>

enum { ALIGN = 64, DOS_DATE = 0x0021, LOCAL_BYTES = 30 };
#define BIG 0xffffffffu

void zip_writer_init(struct zip_writer *z)
{
    *z = (struct zip_writer){0};
}
void zip_writer_free(struct zip_writer *z)
{
    mem_free(z->member);
    arena_free(&z->arena);
    *z = (struct zip_writer){0};
}

enum status zip_add(struct zip_writer *z, struct str name, uint8_t method, uint64_t size,
                    size_t *index, struct err *e)
{
    if (name.n == 0 || name.n > 65535)
        return err_set(e, ST_CANNOT, "zip-name", "a zip cannot hold a name of %zu bytes", name.n);
    if (z->n == z->cap_) {
        size_t cap = z->cap_ < 1024 ? z->cap_ * 2 + 64 : z->cap_ + z->cap_ / 4, bytes;
        struct zip_member *p =
            mul_size(cap, sizeof *p, &bytes) ? mem_resize(z->member, bytes) : NULL;
        if (!p)
            return err_nomem(e, cap * sizeof *p);
        z->member = p;
        z->cap_ = cap;
    }
    struct zip_member m = {.name = arena_str(&z->arena, name.p, name.n),
                           .header = z->end,
                           .method = method,
                           .raw = size,
                           .stored = method == ZIP_STORED ? size : 0};
    if (!m.name.p)
        return err_nomem(e, name.n);
    /* A deflated member may grow a little: its 32-bit fields are used only with room to spare. */
    m.zip64 = method == ZIP_STORED ? size >= BIG : size >= BIG - (BIG >> 6);
    uint64_t data = 0;
    bool ok = add_u64(z->end, LOCAL_BYTES + name.n + (m.zip64 ? 20u : 0u), &data);
    if (ok && method == ZIP_STORED) {
        uint64_t up = 0;
        ok = add_u64(data, 4, &data) && round_up_u64(data, ALIGN, &up);
        m.pad = (uint16_t)(up - data + 4);
        data = up;
    }
    m.data = data;
    uint64_t end = data;
    if (ok && method == ZIP_STORED)
        ok = add_u64(data, size, &end);
    if (!ok)
        return err_set(e, ST_CANNOT, "zip-size", "archive passes 2^64 bytes");
    z->end = end;
    z->member[z->n] = m;
    *index = z->n++;
    return ST_OK;
}

void zip_local(const struct zip_writer *z, size_t index, struct buf *b)
{
    const struct zip_member *m = &z->member[index];
    buf_u32(b, 0x04034b50);
    buf_u16(b, m->zip64 ? 45 : 20);
    buf_u16(b, 0x0800);
    buf_u16(b, m->method);
    buf_u16(b, 0);
    buf_u16(b, DOS_DATE);
    buf_u32(b, m->crc);
    buf_u32(b, m->zip64 ? BIG : (uint32_t)m->stored);
    buf_u32(b, m->zip64 ? BIG : (uint32_t)m->raw);
    buf_u16(b, (uint16_t)m->name.n);
    buf_u16(b, (uint16_t)((m->zip64 ? 20 : 0) + m->pad));
    buf_str(b, m->name);
    if (m->zip64) {
        buf_u16(b, 1);
        buf_u16(b, 16);
        buf_u64(b, m->raw);
        buf_u64(b, m->stored);
    }
    if (m->pad) {
        buf_bytes(b, "FB", 2);
        buf_u16(b, (uint16_t)(m->pad - 4));
        buf_fill(b, 'Z', m->pad - 4u);
    }
}

static void central(const struct zip_member *m, struct buf *b)
{
    bool raw = m->raw >= BIG, stored = m->stored >= BIG, header = m->header >= BIG;
    uint16_t extra = (uint16_t)(8 * (raw + stored + header));
    buf_u32(b, 0x02014b50);
    buf_u16(b, extra || m->zip64 ? 45 : 20);
    buf_u16(b, extra || m->zip64 ? 45 : 20);
    buf_u16(b, 0x0800);
    buf_u16(b, m->method);
    buf_u16(b, 0);
    buf_u16(b, DOS_DATE);
    buf_u32(b, m->crc);
    buf_u32(b, stored ? BIG : (uint32_t)m->stored);
    buf_u32(b, raw ? BIG : (uint32_t)m->raw);
    buf_u16(b, (uint16_t)m->name.n);
    buf_u16(b, extra ? (uint16_t)(extra + 4) : 0);
    buf_fill(b, 0, 10); /* comment, disk, attributes */
    buf_u32(b, header ? BIG : (uint32_t)m->header);
    buf_str(b, m->name);
    if (extra) {
        buf_u16(b, 1);
        buf_u16(b, extra);
        if (raw)
            buf_u64(b, m->raw);
        if (stored)
            buf_u64(b, m->stored);
        if (header)
            buf_u64(b, m->header);
    }
}

void zip_tail(const struct zip_writer *z, struct buf *b)
{
    size_t start = b->n;
    for (size_t i = 0; i < z->n; i++)
        central(&z->member[i], b);
    uint64_t bytes = b->n - start;
    if (z->n >= 0xffff || bytes >= BIG || z->end >= BIG) {
        buf_u32(b, 0x06064b50);
        buf_u64(b, 44);
        buf_u16(b, 45);
        buf_u16(b, 45);
        buf_u32(b, 0);
        buf_u32(b, 0);
        buf_u64(b, z->n);
        buf_u64(b, z->n);
        buf_u64(b, bytes);
        buf_u64(b, z->end);
        buf_u32(b, 0x07064b50);
        buf_u32(b, 0);
        buf_u64(b, z->end + bytes);
        buf_u32(b, 1);
    }
    uint16_t n = z->n >= 0xffff ? 0xffff : (uint16_t)z->n;
    buf_u32(b, 0x06054b50);
    buf_u32(b, 0);
    buf_u16(b, n);
    buf_u16(b, n);
    buf_u32(b, bytes >= BIG ? BIG : (uint32_t)bytes);
    buf_u32(b, z->end >= BIG ? BIG : (uint32_t)z->end);
    buf_u16(b, 0);
}
