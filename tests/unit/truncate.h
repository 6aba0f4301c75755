/* Truncation: every proper prefix of a golden must be refused with ST_INPUT and a code, by the
 * format's own reader and by the one that content chooses, and never crash. Goldens are up to
 * 16 KiB. A prefix that is a whole file again (a format whose end is not marked) can be allowed.
 * TEST_PREFIX_STEP=N tries every Nth prefix only, and those near both ends: for flavours that
 * repeat what the sanitizers' flavour has tried in full.
 */
#ifndef TESTS_UNIT_TRUNCATE_H
#define TESTS_UNIT_TRUNCATE_H
#include "format/format.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

/* Writes p to a new file path. */
static inline void put_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), (ssize_t)n);
    assert_int_equal(close(fd), 0);
}

static inline uint8_t *get_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(1 << 20);
    assert_non_null(f);
    assert_non_null(p);
    *n = fread(p, 1, 1 << 20, f);
    assert_true(*n < 1 << 20);
    fclose(f);
    return p;
}

static inline bool prefix_wanted(size_t k, size_t n, size_t at_least)
{
    const char *text = getenv("TEST_PREFIX_STEP");
    unsigned long step = text ? strtoul(text, NULL, 10) : 1;
    step = step > at_least ? step : at_least;
    return step <= 1 || k % step == 0 || k < 64 || n - k < 40;
}

static inline enum status open_once(const char *path, const struct format *f, struct err *e)
{
    struct model m;
    struct read_opt opt = {0};
    const struct format *found;
    memset(e, 0, sizeof *e);
    model_init(&m);
    enum status st = format_open(path, f, &opt, &m, &found, e);
    model_free(&m);
    return st;
}

/* may_pass(bytes, n) says whether a prefix of n bytes may be accepted; NULL: none may. Prefixes
 * whose length is a multiple of step, and those near both ends. */
static inline void truncate_some(const char *golden, const char *format,
                                 bool (*may_pass)(const uint8_t *p, size_t n), size_t step)
{
    const struct format *f = format_find(str_from(format));
    char path[] = "/tmp/nnferry-truncate-XXXXXX";
    int fd = mkstemp(path);
    size_t n;
    uint8_t *p = get_file(golden, &n);
    assert_non_null(f);
    assert_true(fd >= 0);
    close(fd);
    for (size_t k = n; k-- > 0;) {
        struct err e;
        if (!prefix_wanted(k, n, step))
            continue;
        assert_int_equal(truncate(path, 0), 0);
        put_file(path, p, k);
        for (int own = 0; own < 2; own++) {
            enum status st = open_once(path, own ? f : NULL, &e);
            if (st == ST_OK && may_pass && may_pass(p, k))
                continue;
            if (st != ST_INPUT || !e.code)
                fail_msg("%s cut to %zu of %zu bytes: status %d, code %s", golden, k, n, (int)st,
                         e.code ? e.code : "none");
        }
    }
    unlink(path);
    free(p);
}
static inline void truncate_every(const char *golden, const char *format,
                                  bool (*may_pass)(const uint8_t *p, size_t n))
{
    truncate_some(golden, format, may_pass, 1);
}
#endif
