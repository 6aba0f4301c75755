/* Tests of --like: a source, a skeleton, the plan made of them, and its numbers. For test programs
 * of which each has one of these.
 */
#ifndef TESTS_LIB_LIKE_H
#define TESTS_LIB_LIKE_H
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m, sk;
static struct plan p;
static struct err err;
static struct buf asked;

static inline int begin(void **state)
{
    (void)state;
    model_init(&m);
    model_init(&sk);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    plan_free(&p);
    model_free(&m);
    model_free(&sk);
    buf_free(&asked);
    asked = (struct buf)BUF_INIT;
    return 0;
}

static inline enum status go_with(const char *from, const char *to, const char *rules)
{
    toy_done(&m);
    toy_done(&sk);
    plan_init(&p, &m);
    memset(&err, 0, sizeof err);
    struct map_opt o = {.from = from, .to = to, .like = &sk, .rules = str_from(rules)};
    return map_plan(&p, &o, NULL, UINT64_MAX, &asked, &err);
}

static inline void go(const char *from, const char *to)
{
    enum status st = go_with(from, to, NULL);
    if (st != ST_OK)
        fail_msg("%d %s: %s\n%.*s", (int)st, err.code ? err.code : "-", err.reason, (int)asked.n,
                 (const char *)asked.p);
}

static inline void same(const char *name, const double *want, size_t n)
{
    uint64_t have;
    double *v = toy_values(&p, (size_t)toy_find(&p.dst, name), &have);
    assert_int_equal(have, n);
    for (size_t i = 0; i < n; i++)
        if (v[i] != want[i])
            fail_msg("%s[%zu] is %g, not %g", name, i, v[i], want[i]);
    free(v);
}

/* What the numbers of a block begin with. */
static inline double base(int block, int what)
{
    return 100000.0 * block + 10000.0 * what;
}

enum { E = 6, H = 2, D = 3 };

/* Blocks whose attention has query, key and value in one layer of that name. */
static inline void joined(struct model *x, const char *word, bool values)
{
    char name[64];
    for (int b = 0; b < 2; b++) {
        snprintf(name, sizeof name, "h.%d.attn.%s.weight", b, word);
        toy_add(x, name, values ? base(b, 0) : 0, 3 * E, E, -1);
        snprintf(name, sizeof name, "h.%d.attn.%s.bias", b, word);
        toy_add(x, name, values ? base(b, 1) : 0, 3 * E, -1);
        snprintf(name, sizeof name, "h.%d.attn.proj.weight", b);
        toy_add(x, name, values ? base(b, 2) : 0, E, E, -1);
        snprintf(name, sizeof name, "h.%d.attn.proj.bias", b);
        toy_add(x, name, values ? base(b, 3) : 0, E, -1);
    }
}

static const char *const part[3] = {"query", "key", "value"};
#endif
