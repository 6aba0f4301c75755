/* Any bytes as a frame: what zs_decode takes, libzstd takes too, and reads the same; what it
 * refuses has a code. Checksums are not looked at (both sides), or nothing would be taken. */
#define ZSTD_STATIC_LINKING_ONLY
#include "base/cpu.h"
#include "codec/zstd.h"
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define MOST (300u << 10) /* more than two blocks */

static void must(bool yes)
{
    if (!yes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t ours[MOST], theirs[MOST], *scratch;
    static ZSTD_DCtx *d;
    static const unsigned levels[] = {0, ~0u};
    uint64_t content;
    size_t head;
    struct err e;
    if (!scratch) {
        scratch = aligned_alloc(64, zs_decode_scratch());
        d = ZSTD_createDCtx();
        must(d && !ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_forceIgnoreChecksum,
                                                       ZSTD_d_ignoreChecksum)));
    }
    if (!zs_frame_head(data, n, &content, &head) || content > MOST)
        return 0;
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        cpu_limit(levels[l]);
        enum status st = zs_decode(data, n, ours, (size_t)content, scratch, &e);
        cpu_limit(~0u);
        size_t r = ZSTD_decompressDCtx(d, theirs, (size_t)content, data, n);
        must(st == ST_OK ? r == content : st == ST_INPUT && strcmp(e.code, "zstd-frame") == 0);
        must(st != ST_OK || memcmp(ours, theirs, (size_t)content) == 0);
    }
    return 0;
}
