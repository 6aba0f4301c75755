/* See snappy.h. */
#include "codec/snappy.h"
#include <string.h>

#define RATIO_MAX 22

static bool head(const uint8_t *p, size_t n, uint64_t *length, size_t *used)
{
    *length = 0;
    for (size_t i = 0; i < n && i < 5; i++) {
        *length |= (uint64_t)(p[i] & 0x7fu) << (7 * i);
        if (!(p[i] & 0x80u)) {
            *used = i + 1;
            return *length <= UINT32_MAX;
        }
    }
    return false;
}

enum status snappy_length(const uint8_t *p, size_t n, size_t *out, struct err *e)
{
    uint64_t length;
    size_t used;
    if (!head(p, n, &length, &used))
        return err_set(e, ST_INPUT, "snappy-length", "the compressed block has no length");
    if (length / RATIO_MAX > n)
        return err_set(e, ST_INPUT, "snappy-length",
                       "%zu compressed bytes cannot give the %llu declared", n,
                       (unsigned long long)length);
    *out = (size_t)length;
    return ST_OK;
}

static enum status bad(struct err *e, const char *why)
{
    return err_set(e, ST_INPUT, "snappy-data", "%s", why);
}

/* n bytes at out + done from `back` bytes before; they may overlap. */
static void copy(uint8_t *out, size_t done, size_t back, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[done + i] = out[done + i - back];
}

/* The little-endian number of k bytes at p. */
static size_t number(const uint8_t *p, size_t k)
{
    size_t v = 0;
    for (size_t i = 0; i < k; i++)
        v |= (size_t)p[i] << (8 * i);
    return v;
}

enum status snappy_decode(const uint8_t *p, size_t n, uint8_t *out, size_t out_n, struct err *e)
{
    uint64_t length;
    size_t at, done = 0;
    if (!head(p, n, &length, &at) || length != out_n)
        return bad(e, "the compressed block declares another length");
    while (at < n) {
        uint8_t tag = p[at++];
        size_t len = (size_t)(tag >> 2) + 1, back = 0;
        size_t more = (tag & 3) == 0 ? (len > 60 ? len - 60 : 0) : (tag & 3) == 3 ? 4 : tag & 3;
        if (more > n - at)
            return bad(e, "the compressed block ends inside an element");
        if ((tag & 3) == 0 && more) {
            len = number(p + at, more) + 1;
        } else if ((tag & 3) == 1) {
            len = (size_t)(tag >> 2 & 7) + 4;
            back = (size_t)(tag >> 5) << 8 | p[at];
        } else if (tag & 3) {
            back = number(p + at, more);
        }
        at += more;
        if (len > out_n - done)
            return bad(e, "the compressed block gives more than it declares");
        if ((tag & 3) == 0) {
            if (len > n - at)
                return bad(e, "the compressed block ends inside a literal");
            memcpy(out + done, p + at, len);
            at += len;
        } else if (back == 0 || back > done) {
            return bad(e, "a copy from before the block's output");
        } else {
            copy(out, done, back, len);
        }
        done += len;
    }
    return done == out_n ? ST_OK : bad(e, "the compressed block gives less than it declares");
}
