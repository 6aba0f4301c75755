/* Pickle writer: protocol 2 without memo and frames, or 3 and 4 with a memo. What is of protocol 2
 * is the subset that PyTorch's weights-only unpickler accepts since 1.13 (see codec/pickle.h). Each
 * call appends one opcode.
 */
#include "codec/pickle.h"

void pw_proto(struct buf *b)
{
    buf_bytes(b, "\x80\x02", 2);
}
void pw_stop(struct buf *b)
{
    buf_u8(b, '.');
}
void pw_op(struct buf *b, char op)
{
    buf_u8(b, (uint8_t)op);
}
void pw_global(struct buf *b, const char *module, const char *name)
{
    buf_u8(b, 'c');
    buf_z(b, module);
    buf_u8(b, '\n');
    buf_z(b, name);
    buf_u8(b, '\n');
}
void pw_none(struct buf *b)
{
    buf_u8(b, 'N');
}
void pw_bool(struct buf *b, bool v)
{
    buf_u8(b, v ? 0x88 : 0x89);
}
void pw_long(struct buf *b, const void *p, uint8_t n)
{
    buf_u8(b, 0x8a);
    buf_u8(b, n);
    buf_bytes(b, p, n);
}
void pw_int(struct buf *b, int64_t v)
{
    if (v >= 0 && v <= 0xff) {
        buf_u8(b, 'K');
        buf_u8(b, (uint8_t)v);
    } else if (v >= 0 && v <= 0xffff) {
        buf_u8(b, 'M');
        buf_u16(b, (uint16_t)v);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        buf_u8(b, 'J');
        buf_u32(b, (uint32_t)v);
    } else {
        uint8_t t[8];
        uint8_t n = 8;
        for (int i = 0; i < 8; i++)
            t[i] = (uint8_t)((uint64_t)v >> (8 * i));
        while (n > 1 &&
               ((t[n - 1] == 0 && t[n - 2] < 0x80) || (t[n - 1] == 0xff && t[n - 2] >= 0x80)))
            n--;
        pw_long(b, t, n);
    }
}
void pw_u64(struct buf *b, uint64_t v)
{
    if (v <= INT64_MAX) {
        pw_int(b, (int64_t)v);
        return;
    }
    uint8_t t[9] = {0};
    for (int i = 0; i < 8; i++)
        t[i] = (uint8_t)(v >> (8 * i));
    pw_long(b, t, 9);
}
void pw_float(struct buf *b, uint64_t bits)
{
    buf_u8(b, 'G');
    buf_u64be(b, bits);
}
void pw_str(struct buf *b, struct str s)
{
    if (s.n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    buf_u8(b, 'X');
    buf_u32(b, (uint32_t)s.n);
    buf_str(b, s);
}
void pw_bytes(struct buf *b, struct str s)
{
    size_t n = s.n;
    for (size_t i = 0; i < s.n; i++)
        n += (uint8_t)s.p[i] >= 0x80;
    if (n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    pw_global(b, "_codecs", "encode");
    buf_u8(b, 'X');
    buf_u32(b, (uint32_t)n);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t u = (uint8_t)s.p[i];
        if (u >= 0x80) {
            buf_u8(b, (uint8_t)(0xc0 | u >> 6));
            u = (uint8_t)(0x80 | (u & 0x3f));
        }
        buf_u8(b, u);
    }
    pw_str(b, STR("latin1"));
    pw_tuple(b, 2);
    buf_u8(b, 'R');
}
void pw_tuple(struct buf *b, size_t n)
{
    static const uint8_t op[4] = {')', 0x85, 0x86, 0x87};
    buf_u8(b, n <= 3 ? op[n] : (uint8_t)'t');
}

void pw_proto_n(struct buf *b, uint8_t version)
{
    buf_u8(b, 0x80);
    buf_u8(b, version);
}
void pw_bytes_head(struct buf *b, uint64_t n)
{
    if (n <= 0xff) {
        buf_u8(b, 'C');
        buf_u8(b, (uint8_t)n);
    } else if (n <= UINT32_MAX) {
        buf_u8(b, 'B');
        buf_u32(b, (uint32_t)n);
    } else {
        buf_u8(b, 0x8e);
        buf_u64(b, n);
    }
}
void pw_put(struct buf *b, uint32_t memo)
{
    buf_u8(b, memo <= 0xff ? 'q' : 'r');
    if (memo <= 0xff)
        buf_u8(b, (uint8_t)memo);
    else
        buf_u32(b, memo);
}
void pw_get(struct buf *b, uint32_t memo)
{
    buf_u8(b, memo <= 0xff ? 'h' : 'j');
    if (memo <= 0xff)
        buf_u8(b, (uint8_t)memo);
    else
        buf_u32(b, memo);
}
