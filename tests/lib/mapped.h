/* Tests of the mapping: a plan made by some options, what was asked meanwhile, shapes. For test
 * programs of which each has one of these.
 */
#ifndef TESTS_LIB_MAPPED_H
#define TESTS_LIB_MAPPED_H
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err err;
static struct buf asked;

static inline enum status map_to(struct plan *p, const struct model *m, struct map_opt o)
{
    plan_init(p, m);
    memset(&err, 0, sizeof err);
    buf_free(&asked);
    asked = (struct buf)BUF_INIT;
    enum status st = map_plan(p, &o, NULL, 0, &asked, &err);
    if (st != ST_OK && getenv("SHOW"))
        print_message("%s: %s (%s)\n%.*s", err.code ? err.code : "-", err.reason, err.tensor,
                      (int)asked.n, (const char *)asked.p);
    return st;
}

static inline void must(enum status st)
{
    if (st != ST_OK)
        fail_msg("%d %s: %s (%s)\n%.*s", (int)st, err.code ? err.code : "-", err.reason, err.tensor,
                 (int)asked.n, (const char *)asked.p);
}

/* The tensor has this shape: dims that end with -1. */
static inline void has_shape(const struct tensor *x, va_list ap)
{
    size_t d = 0;
    for (int n = va_arg(ap, int); n >= 0; n = va_arg(ap, int), d++) {
        assert_true(d < x->n_dims);
        assert_int_equal(x->dim[d], n);
    }
    assert_int_equal(d, x->n_dims);
}

#endif
