/* The planes codec on any bytes: coded the same at every instruction set, decoded to what they
 * were. The first byte chooses the kind of planes and how the rest is stretched. */
#include "base/cpu.h"
#include "codec/planes.h"
#include "codec/zstd.h"
#include <stdlib.h>
#include <string.h>

#define MOST (200u << 10) /* more than a block */

static void must(bool yes)
{
    if (!yes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t raw[MOST], back[MOST], *z[2], *scratch;
    static const unsigned levels[] = {0, CPU_SSSE3 | CPU_AVX2, ~0u};
    size_t cap = planes_bound(MOST), size[2][PLANES_MAX], total = 0, m = 0;
    struct err e;
    if (n < 2)
        return 0;
    if (!scratch) {
        size_t a = planes_encode_scratch(), b = planes_decode_scratch();
        scratch = aligned_alloc(64, (a > b ? a : b) / 64 * 64 + 64);
        z[0] = malloc(cap);
        z[1] = malloc(cap);
    }
    enum planes_kind k = (enum planes_kind)(data[0] % PLANES_N);
    unsigned w = planes_info(k)->width;
    size_t times = (size_t)1 << (data[0] / PLANES_N % 12);
    for (size_t t = 0; t < times && m < MOST; t++)
        for (size_t i = 1; i < n && m < MOST; i++)
            raw[m++] = data[1 + (i - 1) * (2 * t + 1) % (n - 1)];
    m = m / w * w;
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        cpu_limit(levels[l]);
        must(planes_encode(k, raw, m, z[l > 0], cap, scratch, size[l > 0], &e) == ST_OK);
        for (unsigned i = 0; i < w && l == 0; i++)
            total += size[0][i];
        must(l == 0 || (memcmp(size[0], size[1], w * sizeof size[0][0]) == 0 &&
                        memcmp(z[0], z[1], total) == 0));
    }
    cpu_limit(~0u);
    must(total <= planes_bound(m));
    must(planes_decode(k, z[0], size[0], back, m, scratch, &e) == ST_OK);
    must(memcmp(raw, back, m) == 0);
    return 0;
}
