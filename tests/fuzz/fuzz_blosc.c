/* Any bytes as a blosc buffer of the size that its own header says (up to a megabyte). */
#include "codec/blosc.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    if (n < BLOSC_HEAD)
        return 0;
    size_t raw = data[4] | (size_t)data[5] << 8 | (size_t)(data[6] & 15) << 16;
    uint8_t *out = malloc(raw + 1);
    if (!out)
        abort();
    enum status st = blosc_decode(data, n, out, raw, &e);
    if (st == ST_BUG || (st != ST_OK && !e.code))
        abort();
    free(out);
    return 0;
}
