/* Bounds-checked reading of foreign bytes. A cursor walks [0, size) of a file, a part of a file,
 * or a block of memory. The first failure sticks: later reads return zeros and cur_ok says what
 * failed, with file and offset. Windows of a file slide; a pointer from cur_take stays valid only
 * until the next call on the same cursor, so names are copied with cur_str.
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H
#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"

struct cursor {
    uint64_t pos;   /* next byte, counted from the start of the range */
    uint64_t end;   /* size of the range */
    struct file *f; /* NULL: memory */
    uint64_t base;  /* file offset (for messages) of range byte 0 */
    const uint8_t *win;
    uint64_t win_lo, win_hi; /* range positions win covers */
    struct window w;
    size_t step_;     /* of the last window */
    struct err err;   /* status != ST_OK once failed */
    const char *name; /* for messages where f is NULL */
};

/* Over [off, off+len) of f; the range must lie inside the file (else the cursor starts failed with
 * "truncated"). Close with cur_close. */
void cur_file(struct cursor *c, struct file *f, uint64_t off, uint64_t len);
/* Over memory that outlives the cursor; name and base are for messages. */
void cur_mem(struct cursor *c, const void *p, size_t n, const char *name, uint64_t base);
void cur_close(struct cursor *c);

/* ST_OK, or the first failure copied into *e. */
MUSTCHECK enum status cur_ok(const struct cursor *c, struct err *e);
static inline bool cur_failed(const struct cursor *c)
{
    return c->err.status != ST_OK;
}
static inline uint64_t cur_left(const struct cursor *c)
{
    return c->end - c->pos;
}
/* Marks a failure at absolute range position at (code static). Returns ST_INPUT. */
enum status cur_fail(struct cursor *c, uint64_t at, const char *code, const char *fmt, ...)
    PRINTF(4, 5);

/* n bytes, or NULL (failed). n is limited to 64 MiB in file cursors. */
const uint8_t *cur_take(struct cursor *c, size_t n);
const uint8_t *cur_peek(struct cursor *c, size_t n); /* NULL and no failure when fewer are left */
void cur_skip(struct cursor *c, uint64_t n);
void cur_seek(struct cursor *c, uint64_t pos); /* pos <= end */
uint8_t cur_u8(struct cursor *c);
uint16_t cur_u16(struct cursor *c); /* little-endian; */
uint32_t cur_u32(struct cursor *c);
uint64_t cur_u64(struct cursor *c);
uint16_t cur_u16be(struct cursor *c);
uint32_t cur_u32be(struct cursor *c);
uint64_t cur_u64be(struct cursor *c);
/* copies n bytes into the arena (NUL added); .p == NULL when failed */
struct str cur_str(struct cursor *c, size_t n, struct arena *a);
/* bytes up to (not including) delim, at most max; the delim is consumed */
struct str cur_line(struct cursor *c, char delim, size_t max, struct arena *a);
#endif
