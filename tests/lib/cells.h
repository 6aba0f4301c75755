/* Tests of cells: models of a few small numbers, mapped, and each number compared bit for bit. For
 * test programs of which each has one of these.
 */
#ifndef TESTS_LIB_CELLS_H
#define TESTS_LIB_CELLS_H
#include "convert/map.h"
#include "tests/lib/toy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err err;

static inline enum status map_to(struct plan *p, const struct model *m, struct map_opt o)
{
    struct buf asked = BUF_INIT;
    plan_init(p, m);
    memset(&err, 0, sizeof err);
    enum status st = map_plan(p, &o, NULL, 0, &asked, &err);
    if (st != ST_OK && getenv("SHOW"))
        print_message("%s: %s\n%.*s", err.code ? err.code : "-", err.reason, (int)asked.n,
                      (const char *)asked.p);
    buf_free(&asked);
    return st;
}

static inline void becomes(const struct model *m, struct map_opt o, struct model *out)
{
    struct plan p;
    if (map_to(&p, m, o) != ST_OK)
        fail_msg("%s: %s (%s)", err.code ? err.code : "-", err.reason, err.tensor);
    toy_freeze(&p, out);
    plan_free(&p);
}

static inline void refused(const struct model *m, struct map_opt o, const char *code)
{
    struct plan p;
    assert_int_equal(map_to(&p, m, o), ST_CANNOT);
    assert_string_equal(err.code, code);
    plan_free(&p);
}

static inline float *values(const struct model *m, const char *name)
{
    return (float *)(uintptr_t)m->storage[m->tensor[toy_find(m, name)].storage].mem;
}

static inline void holds(const struct model *m, const char *name, const float *want, size_t n)
{
    const float *got = values(m, name);
    assert_int_equal(tensor_elems(&m->tensor[toy_find(m, name)]), n);
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: element %zu is %.9g, not %.9g", name, i, (double)got[i], (double)want[i]);
}

static inline void same(const struct model *a, const struct model *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        char name[256] = {0};
        memcpy(name, a->tensor[i].name.p, a->tensor[i].name.n);
        holds(b, name, values(a, name), (size_t)tensor_elems(&a->tensor[i]));
    }
}

#endif
