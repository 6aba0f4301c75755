/* See json_other.h. */
#include "tests/lib/json_other.h"
#include <jansson.h>

static json_t *load(struct str text, enum json_error_code *why)
{
    json_error_t e = {0};
    json_t *v = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    *why = v ? json_error_unknown : json_error_code(&e);
    return v;
}

enum json_other json_other_reads(struct str text)
{
    enum json_error_code why;
    json_t *v = load(text, &why);
    if (!v)
        return why == json_error_numeric_overflow ? OTHER_CANNOT : OTHER_REFUSES;
    json_decref(v);
    return OTHER_TAKES;
}

bool json_other_same(struct str a, struct str b)
{
    enum json_error_code why;
    json_t *x = load(a, &why), *y = load(b, &why);
    bool same = x && y && json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}
