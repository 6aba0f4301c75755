/* The zip codec: what the writer makes the reader takes, byte for byte the same each time; every
 * truncation and every flipped bit of the structure is refused; deflate in slabs. */
#include "base/mem.h"
#include "codec/deflate.h"
#include "codec/zip.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A file of these bytes. */
static struct file *file_of(const void *p, size_t n, int *fd)
{
    char path[64];
    struct file *f = NULL;
    struct err e = {0};
    *fd = memfd_create("zip", MFD_CLOEXEC);
    assert_true(*fd >= 0);
    assert_int_equal(write(*fd, p, n), (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    assert_int_equal(file_open(path, &f, &e), ST_OK);
    return f;
}

struct member {
    const char *name, *data;
    uint8_t method;
};
static const struct member members[] = {{"a/data.pkl", "hello", ZIP_STORED},
                                        {"a/data/0", "", ZIP_STORED},
                                        {"a/deflated", "abcabcabcabcabcabcabcabc", ZIP_DEFLATED},
                                        {"a/data/1", "0123456789", ZIP_STORED}};

static void put_at(struct buf *b, uint64_t at, const void *p, size_t n)
{
    if (b->n < at + n)
        buf_fill(b, 0xee, (size_t)(at + n) - b->n);
    if (n)
        memcpy(b->p + at, p, n);
}

/* Bytes whose value means nothing: versions, times, what fills the padding, attributes. */
static bool idle[4096];
static void mark_idle(uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        idle[at + i] = true;
}
static void note_idle(const struct zip_writer *z)
{
    uint64_t c = z->end;
    memset(idle, 0, sizeof idle);
    for (size_t i = 0; i < z->n; i++) {
        const struct zip_member *m = &z->member[i];
        uint64_t extra = m->header + 30 + m->name.n;
        mark_idle(m->header + 4, 2);
        mark_idle(m->header + 10, 4);
        if (m->pad) {
            mark_idle(extra, 2);
            mark_idle(extra + 4, m->pad - 4u);
        }
        mark_idle(c + 4, 4);
        mark_idle(c + 12, 4);
        mark_idle(c + 36, 6);
        c += 46 + m->name.n;
    }
}

static void make(struct buf *out)
{
    struct zip_writer z;
    struct err e = {0};
    zip_writer_init(&z);
    for (size_t i = 0; i < 4; i++) {
        size_t n = strlen(members[i].data), index, stored = n;
        struct buf h = BUF_INIT;
        assert_int_equal(zip_add(&z, str_from(members[i].name), members[i].method, n, &index, &e),
                         ST_OK);
        assert_int_equal(index, i);
        struct zip_member *m = &z.member[i];
        if (members[i].method == ZIP_STORED) {
            assert_int_equal(m->data % 64, 0);
            put_at(out, m->data, members[i].data, n);
        } else {
            uint8_t *packed = malloc(deflate_bound(n)), *scratch = malloc(DEFLATE_SCRATCH);
            assert_int_equal(deflate_slab(members[i].data, n, true, packed, deflate_bound(n),
                                          scratch, &stored, &e),
                             ST_OK);
            m->stored = stored;
            z.end = m->data + stored;
            put_at(out, m->data, packed, stored);
            free(packed);
            free(scratch);
        }
        m->crc = crc32_update(0, members[i].data, n);
        zip_local(&z, i, &h);
        assert_int_equal(m->header + h.n, m->data);
        put_at(out, m->header, h.p, h.n);
        buf_free(&h);
    }
    note_idle(&z);
    zip_tail(&z, out);
    zip_writer_free(&z);
    assert_false(out->failed);
    assert_true(out->n < sizeof idle);
}

/* ST_OK when the archive opens and all members decode with their CRCs. */
static enum status open_all(const void *p, size_t n, struct err *e)
{
    int fd;
    struct file *f = file_of(p, n, &fd);
    struct arena a = ARENA_INIT;
    struct zip z;
    enum status st = zip_read(f, &a, &z, e);
    for (size_t i = 0; st == ST_OK && i < z.n; i++) {
        struct buf b = BUF_INIT;
        st = zip_load(&z, &z.entry[i], 1 << 20, &b, e);
        if (st == ST_OK)
            st = zip_check_crc(&z, &z.entry[i], e);
        if (st == ST_OK && z.n == 4) {
            assert_int_equal(b.n, strlen(members[i].data));
            if (b.n)
                assert_memory_equal(b.p, members[i].data, b.n);
        }
        buf_free(&b);
    }
    arena_free(&a);
    file_close(f);
    close(fd);
    return st;
}

static void round_trip(void **state)
{
    struct buf a = BUF_INIT, b = BUF_INIT;
    struct err e = {0};
    (void)state;
    make(&a);
    make(&b);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n);
    assert_int_equal(open_all(a.p, a.n, &e), ST_OK);
    buf_free(&a);
    buf_free(&b);
}

static void every_truncation(void **state)
{
    struct buf a = BUF_INIT;
    (void)state;
    make(&a);
    for (size_t n = 0; n < a.n; n++) {
        struct err e = {0};
        assert_int_equal(open_all(a.p, n, &e), ST_INPUT);
        assert_true(e.code && e.has_offset);
    }
    buf_free(&a);
}

/* An archive in the middle of a file: its range, to the byte, and nothing else. */
static void part_of_a_file(void **state)
{
    struct buf a = BUF_INIT, all = BUF_INIT;
    int fd;
    (void)state;
    make(&a);
    buf_fill(&all, 'x', 77);
    buf_bytes(&all, a.p, a.n);
    buf_bytes(&all, a.p, a.n); /* another one follows */
    struct file *f = file_of(all.p, all.n, &fd);
    for (int lo = -2; lo <= 2; lo++)
        for (int hi = -2; hi <= 2; hi++) {
            struct arena arena = ARENA_INIT;
            struct zip z;
            struct buf b = BUF_INIT;
            struct err e = {0};
            uint64_t n = (uint64_t)((int64_t)a.n + hi - lo);
            enum status st = zip_read_part(f, (uint64_t)(77 + lo), n, &arena, &z, &e);
            assert_int_equal(st, lo == 0 && hi == 0 ? ST_OK : ST_INPUT);
            if (st == ST_OK) {
                const struct zip_entry *m = zip_find(&z, STR("a/data/1"));
                assert_non_null(m);
                assert_int_equal(zip_load(&z, m, 64, &b, &e), ST_OK);
                assert_memory_equal(b.p, "0123456789", 10);
                assert_true(m->data > 77);
            } else {
                assert_true(e.code && e.has_offset);
            }
            buf_free(&b);
            arena_free(&arena);
        }
    struct arena arena = ARENA_INIT;
    struct zip z;
    struct err e = {0};
    assert_int_equal(zip_read_part(f, 77, UINT64_MAX - 5, &arena, &z, &e), ST_INPUT);
    assert_string_equal(e.code, "truncated");
    arena_free(&arena);
    file_close(f);
    close(fd);
    buf_free(&all);
    buf_free(&a);
}

/* Every flipped bit that means something is noticed. */
static void every_bit(void **state)
{
    struct buf a = BUF_INIT;
    (void)state;
    make(&a);
    for (size_t bit = 0; bit < 8 * a.n; bit++) {
        struct err e = {0};
        a.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum status st = open_all(a.p, a.n, &e);
        if (!idle[bit / 8] && st == ST_OK)
            fail_msg("bit %zu of byte %zu goes unnoticed", bit % 8, bit / 8);
        a.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_free(&a);
}

static void big_sizes(void **state)
{
    struct zip_writer z;
    struct buf b = BUF_INIT;
    struct err e = {0};
    size_t i;
    (void)state;
    zip_writer_init(&z);
    assert_int_equal(zip_add(&z, STR("a/0"), ZIP_STORED, 5ull << 30, &i, &e), ST_OK);
    assert_true(z.member[0].zip64);
    assert_int_equal(zip_add(&z, STR("a/1"), ZIP_STORED, 3, &i, &e), ST_OK);
    assert_false(z.member[1].zip64);
    assert_int_equal(z.member[1].data % 64, 0);
    zip_tail(&z, &b);
    /* the second member's place needs 64 bits, so does the end of the archive */
    assert_memory_equal(b.p + b.n - 22 - 20 - 56, "PK\x06\x06", 4);
    assert_memory_equal(b.p + b.n - 22 - 20, "PK\x06\x07", 4);
    assert_int_equal(zip_add(&z, STR("a/2"), ZIP_STORED, UINT64_MAX - 5, &i, &e), ST_CANNOT);
    buf_free(&b);
    zip_writer_free(&z);
}

static void slabs_make_one_stream(void **state)
{
    enum { N = 100000, SLAB = 33333 };
    uint8_t *raw = malloc(N), *packed = malloc(2 * N), *scratch = malloc(DEFLATE_SCRATCH);
    struct err e = {0};
    size_t at = 0;
    (void)state;
    for (size_t i = 0; i < N; i++)
        raw[i] = (uint8_t)(i * 2654435761u >> (i % 3 * 8));
    for (size_t lo = 0; lo < N; lo += SLAB) {
        size_t n = N - lo < SLAB ? N - lo : SLAB, stored;
        assert_int_equal(deflate_slab(raw + lo, n, lo + n == N, packed + at, deflate_bound(n),
                                      scratch, &stored, &e),
                         ST_OK);
        at += stored;
    }
    int fd;
    struct file *f = file_of(packed, at, &fd);
    uint32_t crc = crc32_update(0, raw, N);
    struct inflater *s;
    assert_int_equal(inflate_open(f, 0, at, N, &crc, &s, &e), ST_OK);
    uint8_t *back = malloc(N);
    size_t got = 0;
    for (;;) {
        size_t n = 1000;
        if (n > N - got)
            n = N - got;
        assert_int_equal(inflate_read(s, back + got, &n, &e), ST_OK);
        if (n == 0)
            break;
        got += n;
    }
    assert_int_equal(got, N);
    assert_memory_equal(raw, back, N);
    inflate_close(s);
    /* declared one byte less, one more, and with a byte behind */
    for (int k = -1; k <= 1; k += 2) {
        size_t n = N + 1;
        assert_int_equal(inflate_open(f, 0, at, (uint64_t)(N + k), NULL, &s, &e), ST_OK);
        uint8_t *room = malloc(N + 1);
        assert_int_equal(inflate_read(s, room, &n, &e), ST_INPUT);
        assert_string_equal(e.code, k < 0 ? "deflate-long" : "deflate-short");
        inflate_close(s);
        free(room);
    }
    file_close(f);
    close(fd);
    packed[at] = 0;
    f = file_of(packed, at + 1, &fd);
    size_t n = N;
    assert_int_equal(inflate_open(f, 0, at + 1, N, NULL, &s, &e), ST_OK);
    assert_int_equal(inflate_read(s, back, &n, &e), ST_INPUT);
    assert_string_equal(e.code, "deflate-tail");
    inflate_close(s);
    file_close(f);
    close(fd);
    free(raw);
    free(packed);
    free(scratch);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),     cmocka_unit_test(every_truncation),
        cmocka_unit_test(part_of_a_file), cmocka_unit_test(every_bit),
        cmocka_unit_test(big_sizes),      cmocka_unit_test(slabs_make_one_stream)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
