/* See sigs.h. Room for one more than asked: an empty list has an address, too. Lists are short
 * beside the tensors they stand for, and asked often: halving finds both ends of a run. */
#include "convert/sigs.h"
#include <stdlib.h>
#include <string.h>

enum status sigs_room(struct sigs *s, size_t most, struct arena *a, struct err *e)
{
    s->n = 0;
    s->v = ARENA_ARRAY(a, uint64_t, most + 1);
    return s->v ? ST_OK : err_nomem(e, most * sizeof *s->v);
}

static int by_value(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

void sigs_sort(struct sigs *s)
{
    if (s->n)
        qsort(s->v, s->n, sizeof *s->v, by_value);
}

size_t sigs_count(const struct sigs *s, uint64_t v)
{
    size_t at[2] = {0, 0};
    for (int end = 0; end < 2; end++) {
        size_t lo = 0, hi = s->n;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (s->v[mid] < v || (end && s->v[mid] == v))
                lo = mid + 1;
            else
                hi = mid;
        }
        at[end] = lo;
    }
    return at[1] - at[0];
}

bool sigs_equal(const struct sigs *a, const struct sigs *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, a->n * sizeof *a->v) == 0);
}
