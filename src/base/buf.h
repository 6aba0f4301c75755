/* Growable byte buffer on base/mem.h. The first failure sticks in .failed, so a run of
 * appends is checked once at the end with buf_ok.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include "base/err.h"
#include "base/str.h"
#include <stdarg.h>

struct buf {
    uint8_t *p;
    size_t n, cap;
    bool failed;
};
#define BUF_INIT                                                                                   \
    {                                                                                              \
        0                                                                                          \
    }

void buf_bytes(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, struct str s);
void buf_z(struct buf *b, const char *z);
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v); /* little-endian */
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_u16be(struct buf *b, uint16_t v);
void buf_u32be(struct buf *b, uint32_t v);
void buf_u64be(struct buf *b, uint64_t v);
void buf_fill(struct buf *b, uint8_t v, size_t n);
void buf_fmt(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
bool buf_reserve(struct buf *b, size_t more);
MUSTCHECK enum status buf_ok(const struct buf *b, struct err *e); /* ST_LIMIT when failed */
static inline struct str buf_as_str(const struct buf *b)
{
    return (struct str){(const char *)b->p, b->n};
}
void buf_clear(struct buf *b); /* keeps the memory */
void buf_free(struct buf *b);
#endif
