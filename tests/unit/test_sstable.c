/* Sorted string tables and snappy: written and read back, known bytes, refusals by name, every
 * flipped bit and every truncation told. */
#include "codec/crc.h"
#include "codec/proto.h"
#include "codec/snappy.h"
#include "codec/sstable.h"
#include "tests/unit/truncate.h"

static char temp[] = "/tmp/nnferry-sstable-XXXXXX";

static enum status walk(const void *p, size_t n, struct buf *seen, struct err *e)
{
    struct file *f;
    struct sstable t;
    bool more = true;
    memset(e, 0, sizeof *e);
    put_file(temp, p, n);
    TRY(file_open(temp, &f, e));
    enum status st = sstable_open(&t, f, e);
    while (st == ST_OK && more) {
        st = sstable_next(&t, &more, e);
        if (st == ST_OK && more && seen) {
            buf_u32(seen, (uint32_t)t.key.n);
            buf_str(seen, t.key);
            buf_u32(seen, (uint32_t)t.value.n);
            buf_str(seen, t.value);
        }
    }
    sstable_close(&t);
    file_close(f);
    return st;
}

static void empty(void **state)
{
    (void)state;
    struct sstable_w w = SSTABLE_W_INIT;
    struct err e;
    struct buf seen = BUF_INIT;
    assert_true(sstable_w_end(&w, &e) == ST_OK);
    /* an empty block: one restart, type 0, the sum a real table has */
    assert_memory_equal(w.out.p, "\0\0\0\0\1\0\0\0\0\xc0\xf2\xa1\xb0", 13);
    assert_true(walk(w.out.p, w.out.n, &seen, &e) == ST_OK);
    assert_true(seen.n == 0);
    sstable_w_free(&w);
}

static void table(struct sstable_w *w, struct buf *want, size_t n_keys, size_t n_value)
{
    char key[64];
    struct buf value = BUF_INIT;
    struct err e;
    for (size_t i = 0; i < n_keys; i++) {
        size_t n = (size_t)snprintf(key, sizeof key, "layer_%04zu/%s", i / 3,
                                    i % 3 == 0   ? "bias"
                                    : i % 3 == 1 ? "kernel"
                                                 : "kernel/m");
        buf_clear(&value);
        buf_fill(&value, (uint8_t)i, i % (n_value + 1));
        sstable_w_add(w, (struct str){key, n}, buf_as_str(&value));
        if (!want)
            continue;
        buf_u32(want, (uint32_t)n);
        buf_bytes(want, key, n);
        buf_u32(want, (uint32_t)value.n);
        buf_str(want, buf_as_str(&value));
    }
    assert_true(sstable_w_end(w, &e) == ST_OK);
    buf_free(&value);
}

static void round_trip(void **state)
{
    (void)state;
    static const size_t n[][2] = {{1, 0}, {16, 3}, {17, 3}, {100, 40}, {3000, 900}};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        struct sstable_w w = SSTABLE_W_INIT;
        struct buf want = BUF_INIT, seen = BUF_INIT;
        struct err e;
        table(&w, &want, n[i][0], n[i][1]);
        assert_true(walk(w.out.p, w.out.n, &seen, &e) == ST_OK);
        assert_true(seen.n == want.n && memcmp(seen.p, want.p, want.n) == 0);
        buf_free(&want);
        buf_free(&seen);
        sstable_w_free(&w);
    }
}

static void damaged(void **state)
{
    (void)state;
    struct sstable_w w = SSTABLE_W_INIT;
    struct err e;
    table(&w, NULL, 40, 5);
    for (size_t i = 0; i < w.out.n * 8; i++) {
        w.out.p[i / 8] ^= (uint8_t)(1u << i % 8);
        if (walk(w.out.p, w.out.n, NULL, &e) != ST_INPUT || !e.code || !e.has_offset)
            fail_msg("bit %zu of byte %zu flipped: not refused", i % 8, i / 8);
        w.out.p[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t n = 0; n < w.out.n; n++)
        assert_true(walk(w.out.p, n, NULL, &e) == ST_INPUT && e.code);
    sstable_w_free(&w);
}

/* ---- tables made by hand ---- */

static struct sstable_handle block(struct buf *b, const char *p, size_t n, uint8_t type)
{
    struct sstable_handle h = {b->n, n};
    buf_bytes(b, p, n);
    buf_u8(b, type);
    buf_u32(b, crc32c_mask(crc32c_update(0, b->p + h.at, n + 1)));
    return h;
}

static void handle(struct buf *b, struct sstable_handle h)
{
    proto_w_varint(b, h.at);
    proto_w_varint(b, h.n);
}

/* A table of one data block whose index entry is (key, data's handle + add). */
static void make(struct buf *b, const char *p, size_t n, uint8_t type, const char *key,
                 uint64_t add_at, uint64_t add_n)
{
    struct buf x = BUF_INIT, f = BUF_INIT, h = BUF_INIT;
    buf_clear(b);
    struct sstable_handle data = block(b, p, n, type);
    struct sstable_handle meta = block(b, "\0\0\0\0\1\0\0\0", 8, 0);
    data.at += add_at;
    data.n += add_n;
    handle(&h, data);
    proto_w_varint(&x, 0);
    proto_w_varint(&x, strlen(key));
    proto_w_varint(&x, h.n);
    buf_z(&x, key);
    buf_str(&x, buf_as_str(&h));
    buf_u32(&x, 0);
    buf_u32(&x, 1);
    struct sstable_handle index = block(b, (const char *)x.p, x.n, 0);
    handle(&f, meta);
    handle(&f, index);
    buf_fill(&f, 0, 40 - f.n);
    buf_u64(&f, SSTABLE_MAGIC);
    buf_str(b, buf_as_str(&f));
    assert_false(b->failed);
    buf_free(&x);
    buf_free(&f);
    buf_free(&h);
}

#define R1 "\0\0\0\0\1\0\0\0" /* the one restart */

static void refused(void **state)
{
    (void)state;
#define T(code, type, bytes)                                                                       \
    {                                                                                              \
        code, bytes, sizeof bytes - 1, type, "z", 0, 0                                             \
    }
    static const struct {
        const char *code, *bytes;
        size_t n;
        uint8_t type;
        const char *key;
        uint64_t at, add;
    } bad[] = {
        T(NULL, 0, "\0\1\1aA\1\1\1bB" R1),
        T(NULL, 1, "\x0d\x30\0\1\1aA\0\0\0\0\1\0\0\0"),
        T("sstable-entry", 0, "\0\1\1aA\2\1\1bB" R1),
        T("sstable-entry", 0,
          "\0\1\x09"
          "aA" R1),
        T("sstable-entry", 0, "\0\xff\xff\xff\xff\x0f\1aA" R1),
        T("sstable-entry", 0, "\0\x81\x80\x80\x80\x80\0\1aA" R1),
        T("sstable-order", 0, "\0\1\1bB\0\1\1aA" R1),
        T("sstable-order", 0, "\0\1\1aA\0\1\1aA" R1),
        T("sstable-order", 0, "\0\2\1zzA" R1),
        T("sstable-restart", 0, "\0\1\1aA\0\0\0\0\0\0\0\0"),
        T("sstable-restart", 0, "\0\1\1aA\0\0\0\0\xff\0\0\0"),
        T("sstable-restart", 0, "\0\1\1aA\2\0\0\0\1\0\0\0"),
        T("sstable-restart", 0, "\0\1\1aA\0\0\0\0\2\0\0\0\2\0\0\0"),
        T("sstable-restart", 0, "\0\1\1aA\1\1\1bB\0\0\0\0\5\0\0\0\2\0\0\0"),
        T("sstable-restart", 0, "\0\1\1aA\0\0\0\0\5\0\0\0\2\0\0\0"),
        T("sstable-block", 2, "\0\1\1aA" R1),
        T("sstable-block", 0, "\1\0\0"),
        T("snappy-length", 1, "\xff\xff\xff\xff\x0f\0"),
        T("snappy-length", 1, "\xff\xff\xff\xff\xff\x0f\0"),
        T("snappy-length", 1, "\x80"),
        T("snappy-data", 1, "\x0d\x30\0\1\1aA\0\0\0\0\1\0\0"),
        T("snappy-data", 1, "\x0e\x30\0\1\1aA\0\0\0\0\1\0\0\0"),
        T("snappy-data", 1, "\x04\x05\x01"),
        T("snappy-data", 1, "\x05\x00\x01\x0e\x02\x00"),
        T("snappy-data", 1, "\x09\x00\x01\x06\x01\x00\x02"),
        T("snappy-data", 1, "\x05\x00\x01\x09\x00"),
        {"sstable-handle", "\0\1\1aA" R1, 13, 0, "z", 1, 0},
        {"sstable-handle", "\0\1\1aA" R1, 13, 0, "z", UINT64_MAX, 0},
        {"sstable-handle", "\0\1\1aA" R1, 13, 0, "z", 0, UINT64_MAX - 14},
        {"sstable-handle", "\0\1\1aA" R1, 13, 0, "z", 0, 1 << 20},
        {"sstable-sum", "\0\1\1aA" R1, 13, 0, "z", 0, UINT64_MAX},
    };
    struct buf b = BUF_INIT;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make(&b, bad[i].bytes, bad[i].n, bad[i].type, bad[i].key, bad[i].at, bad[i].add);
        enum status st = walk(b.p, b.n, NULL, &e);
        if (bad[i].code
                ? st != ST_INPUT || !e.code || strcmp(e.code, bad[i].code) != 0 || !e.has_offset
                : st != ST_OK)
            fail_msg("%zu: %s, wanted %s", i, e.code ? e.code : "accepted",
                     bad[i].code ? bad[i].code : "none");
    }
    buf_free(&b);
#undef T
}

static void snappy(void **state)
{
    (void)state;
    /* every kind of element; the copies overlap what they write */
    static const char in[] = "\x8e\x01"       /* 142 */
                             "\xf0\x02"       /* literal, 3 bytes by a length byte */
                             "abc"            /* abc */
                             "\x05\x03"       /* copy 5 from 3 before: abcab */
                             "\xfe\x01\x00"   /* copy 64 from 1 before */
                             "\xff\x08\0\0\0" /* copy 64 from 8 before */
                             "\xf4\x00\x00x"  /* literal, 1 byte by two length bytes */
                             "\x04yz"         /* literal, 2 bytes */
                             "\x0a\x02\x00";  /* copy 3 from 2 before */
    uint8_t want[142], out[142];
    size_t n, at = 0;
    struct err e;
    for (; at < 3; at++)
        want[at] = (uint8_t) "abc"[at];
    for (; at < 8; at++)
        want[at] = want[at - 3];
    for (; at < 72; at++)
        want[at] = want[at - 1];
    for (; at < 136; at++)
        want[at] = want[at - 8];
    memcpy(want + at, "xyzyzy", 6);
    assert_true(snappy_length((const uint8_t *)in, sizeof in - 1, &n, &e) == ST_OK && n == 142);
    assert_true(snappy_decode((const uint8_t *)in, sizeof in - 1, out, n, &e) == ST_OK);
    assert_memory_equal(out, want, 142);
    for (size_t k = 0; k < sizeof in - 1; k++) {
        uint8_t *p = malloc(k + 1), *o = malloc(142);
        assert_true(p && o);
        p = realloc(p, k ? k : 1);
        assert_non_null(p);
        memcpy(p, in, k);
        assert_true(snappy_decode(p, k, o, 142, &e) == ST_INPUT);
        free(p);
        free(o);
    }
}

static void masked(void **state)
{
    (void)state;
    assert_true(crc32c_mask(crc32c_update(0, "\0\0\0\0", 4)) == 0x3a117ba6u);
    assert_true(crc32c_mask(crc32c_update(0, "\0\0\0\0\0\0\0\0", 8)) == 0x07980329u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),   cmocka_unit_test(round_trip), cmocka_unit_test(damaged),
        cmocka_unit_test(refused), cmocka_unit_test(snappy),     cmocka_unit_test(masked),
    };
    int fd = mkstemp(temp);
    if (fd < 0)
        return 1;
    close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(temp);
    return rc;
}
