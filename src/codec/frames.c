/* Frames, their checks and their table. */
#include "codec/frames.h"
#include "base/checked.h"
#include "base/cursor.h"
#include "codec/xxh.h"
#include "codec/zstd.h"
#include <string.h>

#define CHECK_MAGIC 0x184D2A5Du
#define TABLE_MAGIC 0x184D2A5Eu
#define SEEKABLE_MAGIC 0x8F92EAB1u
#define TABLE_FIXED 17u /* 8 before the entries, 9 behind */
#define CHECK_FIXED 64u /* 8 + 8 + 8 + 8 before the checks, 32 behind */
#define N_MAX 0x8000000u
#define STORED_MAX (2u << 20)

static const char word[8] = "nnfchk1";

/* Fuzzing looks behind the checks; mending them would be the fuzzer's whole work. */
static bool check_holds(const uint8_t a[16], const uint8_t b[16])
{
#ifdef NNFERRY_FUZZ
    (void)a;
    (void)b;
    return true;
#else
    return memcmp(a, b, 16) == 0;
#endif
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool frames_recognise(struct file *f)
{
    uint64_t size = file_size(f);
    uint8_t end[9], mid[16];
    if (size < TABLE_FIXED + CHECK_FIXED || file_pread(f, end, 9, size - 9, NULL) != ST_OK)
        return false;
    uint64_t n = get32(end), table = TABLE_FIXED + 8 * n, check = CHECK_FIXED + 16 * (n - 1);
    if (n < 1 || table > size || check > size - table ||
        file_pread(f, mid, 16, size - table - check, NULL) != ST_OK)
        return false;
    return memcmp(mid + 8, word, 8) == 0;
}

static enum status bad(struct err *e, const struct file *f, uint64_t at, const char *code,
                       const char *why)
{
    (void)err_set(e, ST_INPUT, code, "%s", why);
    err_at(e, file_path(f), at);
    return ST_INPUT;
}

/* Entries of the table: frame sizes into off and raw. */
static enum status read_table(struct cursor *c, struct frames *fr, uint64_t table_at, struct err *e)
{
    uint64_t at = 0, raw = 0;
    for (uint64_t i = 0; i <= fr->n; i++) {
        uint32_t stored = cur_u32(c), r = cur_u32(c);
        TRY(cur_ok(c, e));
        fr->off[i] = at;
        fr->raw[i] = raw;
        bool fits = i < fr->n ? stored <= STORED_MAX && r <= ZS_FRAME_MAX
                              : stored == CHECK_FIXED + 16 * fr->n && r == 0;
        if (!fits || stored > table_at - at)
            return bad(e, fr->f, table_at + 8 + 8 * i, "frames-tail",
                       "a frame size of the seek table is impossible");
        at += stored;
        raw += r;
        if (i < fr->n && stored > fr->stored_max)
            fr->stored_max = stored;
        if (r > fr->raw_max)
            fr->raw_max = r;
    }
    if (at != table_at)
        return bad(e, fr->f, table_at, "frames-tail",
                   "the seek table's frames do not add up to the file");
    return ST_OK;
}

static enum status read_check(struct frames *fr, struct arena *a, const uint8_t table_sum[16],
                              struct err *e)
{
    uint64_t at = fr->off[fr->n], size = CHECK_FIXED + 16 * fr->n;
    uint8_t *p = arena_alloc(a, 1, (size_t)size), sum[16];
    if (!p)
        return err_nomem(e, size);
    TRY(file_pread(fr->f, p, (size_t)size, at, e));
    xxh128(p, (size_t)size - 16, sum);
    if (get32(p) != CHECK_MAGIC || get32(p + 4) != size - 8 || memcmp(p + 8, word, 8) != 0 ||
        get32(p + 16) != fr->n || get32(p + 20) != 0)
        return bad(e, fr->f, at, "frames-check", "there is no check frame before the seek table");
    if (!check_holds(sum, p + size - 16))
        return bad(e, fr->f, at, "frames-check", "the check frame does not match its own check");
    if (!check_holds(table_sum, p + size - 32))
        return bad(e, fr->f, at, "frames-check", "the seek table does not match its check");
    fr->index = (uint64_t)get32(p + 24) | (uint64_t)get32(p + 28) << 32;
    if (fr->index >= fr->n)
        return bad(e, fr->f, at + 24, "frames-check", "the index frame is not among the frames");
    fr->check = (const uint8_t(*)[16])(p + 32);
    return ST_OK;
}

/* XXH3-128 of a range, in bites. */
static enum status sum_range(struct file *f, uint64_t lo, uint64_t n, uint8_t out[16],
                             struct err *e)
{
    struct xxh128 x;
    uint8_t bite[16384];
    xxh128_begin(&x);
    while (n > 0) {
        size_t m = n < sizeof bite ? (size_t)n : sizeof bite;
        TRY(file_pread(f, bite, m, lo, e));
        xxh128_add(&x, bite, m);
        lo += m;
        n -= m;
    }
    xxh128_end(&x, out);
    return ST_OK;
}

enum status frames_open(struct file *f, struct arena *a, struct frames *fr, struct err *e)
{
    uint64_t size = file_size(f), table;
    uint8_t end[9], head[8], sum[16];
    memset(fr, 0, sizeof *fr);
    fr->f = f;
    if (size < TABLE_FIXED + 8 + CHECK_FIXED)
        return bad(e, f, size, "frames-tail", "too short for a seek table");
    TRY(file_pread(f, end, 9, size - 9, e));
    uint64_t n = get32(end);
    if (get32(end + 5) != SEEKABLE_MAGIC || end[4] != 0 || n < 1 || n > N_MAX)
        return bad(e, f, size - 9, "frames-tail",
                   "the file does not end with a seek table of ours");
    table = TABLE_FIXED + 8 * n;
    if (table > size)
        return bad(e, f, size - 9, "frames-tail", "the seek table is longer than the file");
    TRY(file_pread(f, head, 8, size - table, e));
    if (get32(head) != TABLE_MAGIC || get32(head + 4) != table - 8)
        return bad(e, f, size - table, "frames-tail", "the seek table does not start here");
    fr->n = n - 1;
    fr->off = ARENA_ARRAY(a, uint64_t, (size_t)n);
    fr->raw = ARENA_ARRAY(a, uint64_t, (size_t)n);
    if (!fr->off || !fr->raw)
        return err_nomem(e, 16 * n);
    struct cursor c;
    cur_file(&c, f, size - table + 8, 8 * n);
    enum status st = read_table(&c, fr, size - table, e);
    cur_close(&c);
    if (st != ST_OK)
        return st;
    TRY(sum_range(f, size - table, table, sum, e));
    return read_check(fr, a, sum, e);
}

enum status frames_fetch(const struct frames *fr, uint64_t lo, uint64_t hi, void *dst,
                         struct err *e)
{
    uint8_t *p = dst, sum[16];
    TRY(file_pread(fr->f, p, (size_t)(fr->off[hi] - fr->off[lo]), fr->off[lo], e));
    for (uint64_t i = lo; i < hi; i++) {
        xxh128(p, frame_stored(fr, i), sum);
        if (!check_holds(sum, fr->check[i]))
            return bad(e, fr->f, fr->off[i], "frame-check",
                       "the frame that begins here does not match its check");
        p += frame_stored(fr, i);
    }
    return ST_OK;
}

static size_t stored_room(const struct frames *fr)
{
    return (fr->stored_max + 63) / 64 * 64;
}
size_t frames_scratch(const struct frames *fr)
{
    return stored_room(fr) + zs_decode_scratch();
}

enum status frames_decode(const struct frames *fr, uint64_t i, void *dst, void *scratch,
                          struct err *e)
{
    uint8_t *stored = scratch;
    TRY(frames_fetch(fr, i, i + 1, stored, e));
    enum status st =
        zs_decode(stored, frame_stored(fr, i), dst, frame_raw(fr, i), stored + stored_room(fr), e);
    if (st != ST_OK)
        err_at(e, file_path(fr->f), fr->off[i]);
    return st;
}

enum status frames_tail(struct buf *out, const struct frame_note *note, uint64_t n, uint64_t index,
                        struct err *e)
{
    struct buf table = BUF_INIT;
    uint8_t sum[16];
    if (n + 1 > N_MAX)
        return err_set(e, ST_CANNOT, "archive-too-big", "more frames than a seek table can list");
    buf_u32(&table, TABLE_MAGIC);
    buf_u32(&table, (uint32_t)(8 * (n + 1) + 9));
    for (uint64_t i = 0; i < n; i++) {
        buf_u32(&table, note[i].stored);
        buf_u32(&table, note[i].raw);
    }
    buf_u32(&table, (uint32_t)(CHECK_FIXED + 16 * n));
    buf_u32(&table, 0);
    buf_u32(&table, (uint32_t)(n + 1));
    buf_u8(&table, 0);
    buf_u32(&table, SEEKABLE_MAGIC);
    size_t from = out->n;
    buf_u32(out, CHECK_MAGIC);
    buf_u32(out, (uint32_t)(CHECK_FIXED + 16 * n - 8));
    buf_bytes(out, word, 8);
    buf_u64(out, n);
    buf_u64(out, index);
    for (uint64_t i = 0; i < n; i++)
        buf_bytes(out, note[i].check, 16);
    enum status st = buf_ok(&table, e);
    if (st == ST_OK) {
        xxh128(table.p, table.n, sum);
        buf_bytes(out, sum, 16);
        st = buf_ok(out, e);
    }
    if (st == ST_OK) {
        xxh128(out->p + from, out->n - from, sum);
        buf_bytes(out, sum, 16);
        buf_bytes(out, table.p, table.n);
        st = buf_ok(out, e);
    }
    buf_free(&table);
    return st;
}
