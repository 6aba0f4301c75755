/* Any bytes as JSON: refused with a place, or taken; what is
 * taken and written again reads back as the same tokens. */
#include "tests/lib/json_again.h"
#include <stdlib.h>
#include <string.h>

/* Tokens of the text, written as compact JSON; false when it is refused. */
static bool rewrite(const uint8_t *data, size_t n, struct buf *out)
{
    struct err e = {0};
    enum status st = json_again(data, n, 4096, out, &e);
    if (st != ST_OK && (!e.code || !e.has_offset || e.offset > n))
        abort();
    return st == ST_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf once = BUF_INIT, twice = BUF_INIT;
    if (rewrite(data, n, &once)) {
        if (!rewrite(once.p, once.n, &twice) || twice.n != once.n ||
            memcmp(once.p, twice.p, once.n) != 0)
            abort();
    }
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
