/* Any bytes as a zarr array: a byte for the version, metadata up to a NUL, and what follows as one
 * chunk (and as a shard with its index) of it.
 */
#include "base/checked.h"
#include "codec/zarr.h"
#include <stdlib.h>
#include <string.h>

#define RAW_MAX ((uint64_t)1 << 20)

static void decode(const struct zarr *z, const uint8_t *p, size_t n, uint64_t elem)
{
    struct zarr_bytes b = {.mem = p, .bytes = n};
    struct err e = {0};
    uint64_t raw = elem, n_inner = 1;
    const uint64_t *extent = z->inner ? z->inner : z->chunk;
    for (size_t d = 0; d < z->n_dims; d++)
        if (!mul_u64(raw, extent[d], &raw) ||
            (z->inner && !mul_u64(n_inner, z->chunk[d] / z->inner[d], &n_inner)))
            return;
    if (raw <= RAW_MAX) {
        uint8_t *out = malloc(raw + 1);
        enum status st = zarr_decode(&b, &z->chain, out, raw, &e);
        if (!out || st == ST_BUG || (st != ST_OK && !e.code))
            abort();
        free(out);
    }
    if (z->inner && n_inner <= n / 16) {
        uint64_t *pairs = malloc(n_inner * 16 + 1);
        enum status st = zarr_index(z, &b, n_inner, pairs, &e);
        if (!pairs || st == ST_BUG || (st != ST_OK && !e.code))
            abort();
        for (uint64_t i = 0; st == ST_OK && i < n_inner; i++)
            if (pairs[2 * i] != UINT64_MAX && !range_in(pairs[2 * i], pairs[2 * i + 1], n))
                abort();
        free(pairs);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = ARENA_INIT;
    struct cursor c;
    struct zarr z;
    struct err e = {0};
    uint64_t at[ZARR_MAX_DIMS] = {0}, bits;
    bool outside;
    if (n < 2)
        return 0;
    const uint8_t *nul = memchr(data + 1, 0, n - 1);
    size_t text = nul ? (size_t)(nul - data) - 1 : n - 1;
    cur_mem(&c, data + 1, text, "zarr", 0);
    enum status st = data[0] & 1 ? zarr_v3(&c, &a, &z, &e) : zarr_v2(&c, &a, &z, &e);
    cur_close(&c);
    if (st == ST_BUG || (st != ST_OK && !e.code))
        abort();
    if (st == ST_OK) {
        struct buf name = BUF_INIT;
        zarr_chunk_name(&z, at, &name);
        bool any = true;
        for (size_t d = 0; d < z.n_dims; d++)
            any = any && z.dim[d] > 0;
        if (zarr_chunk_at(&z, buf_as_str(&name), at, &outside) != any)
            abort();
        buf_free(&name);
        (void)(zarr_float(z.fill_text[0], 16, false, &bits) || zarr_hex(z.fill_text[0], 4, &bits));
        if (nul)
            decode(&z, nul + 1, n - text - 2, data[0] >> 4);
    }
    arena_free(&a);
    return 0;
}
