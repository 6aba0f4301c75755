/* The tensor types of GGUF: ggml's numbers, and the fields of blocks that a big-endian machine
 * writes the other way round. Source: ggml.h (enum ggml_type), ggml-common.h (the structs).
 *
 * Numbers 4, 5, 31-33, 36-38 were types once and are refused. Number 42 is 64 elements to a block
 * here, as in ggml; a fork's files with 128 are told by sizes that do not fit.
 */
#include "base/checked.h"
#include "format/gguf.h"
#include <string.h>

struct field {
    uint16_t at;
    uint8_t bytes, n; /* n fields of so many bytes */
};
struct row {
    enum dtype dtype;
    uint32_t type;
    struct field field[2]; /* of blocks */
};
static const struct row table[] = {
    {DT_F32, 0, {{0}}},
    {DT_F16, 1, {{0}}},
    {DT_Q4_0, 2, {{0, 2, 1}}},
    {DT_Q4_1, 3, {{0, 2, 2}}},
    {DT_Q5_0, 6, {{0, 2, 1}}},
    {DT_Q5_1, 7, {{0, 2, 2}}},
    {DT_Q8_0, 8, {{0, 2, 1}}},
    {DT_Q8_1, 9, {{0, 2, 2}}},
    {DT_Q2_K, 10, {{80, 2, 2}}},
    {DT_Q3_K, 11, {{108, 2, 1}}},
    {DT_Q4_K, 12, {{0, 2, 2}}},
    {DT_Q5_K, 13, {{0, 2, 2}}},
    {DT_Q6_K, 14, {{208, 2, 1}}},
    {DT_Q8_K, 15, {{0, 4, 1}, {260, 2, 16}}},
    {DT_IQ2_XXS, 16, {{0, 2, 33}}},
    {DT_IQ2_XS, 17, {{0, 2, 33}}},
    {DT_IQ3_XXS, 18, {{0, 2, 1}}},
    {DT_IQ1_S, 19, {{0, 2, 1}, {34, 2, 8}}},
    {DT_IQ4_NL, 20, {{0, 2, 1}}},
    {DT_IQ3_S, 21, {{0, 2, 1}}},
    {DT_IQ2_S, 22, {{0, 2, 1}}},
    {DT_IQ4_XS, 23, {{0, 2, 2}}},
    {DT_I8, 24, {{0}}},
    {DT_I16, 25, {{0}}},
    {DT_I32, 26, {{0}}},
    {DT_I64, 27, {{0}}},
    {DT_F64, 28, {{0}}},
    {DT_IQ1_M, 29, {{0}}},
    {DT_BF16, 30, {{0}}},
    {DT_TQ1_0, 34, {{52, 2, 1}}},
    {DT_TQ2_0, 35, {{64, 2, 1}}},
    {DT_MXFP4, 39, {{0}}},
    {DT_NVFP4, 40, {{0}}},
    {DT_Q1_0, 41, {{0, 2, 1}}},
    {DT_Q2_0, 42, {{0, 2, 1}}},
};
#define N_TABLE (sizeof table / sizeof table[0])
#define TILE_BLOCKS 512u

enum dtype gguf_dtype(uint32_t type)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].type == type)
            return table[i].dtype;
    return DT_NONE;
}

bool gguf_type_of(enum dtype t, uint32_t *out)
{
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].dtype == t) {
            *out = table[i].type;
            return true;
        }
    return false;
}

static void swap(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        uint8_t t = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = t;
    }
}

static enum status tile(const struct storage *s, uint64_t t, void *dst, void *scratch,
                        struct err *e)
{
    const struct row *r = s->priv;
    const struct field *f = r->field;
    size_t block = dtype_info(r->dtype)->block_bytes;
    uint64_t at = t * s->tile_bytes, left = s->raw_bytes - at;
    size_t n = (size_t)(left < s->tile_bytes ? left : s->tile_bytes);
    (void)scratch;
    TRY(file_pread(s->file, dst, n, s->offset + at, e));
    for (uint8_t *b = dst; n >= block; b += block, n -= block)
        for (int k = 0; k < 2; k++)
            for (size_t i = 0; i < f[k].n; i++)
                swap(b + f[k].at + i * f[k].bytes, f[k].bytes);
    return ST_OK;
}

static const struct decoder swapping = {.name = "big-endian blocks", .tile = tile};

void gguf_swap_blocks(struct storage *s, enum dtype t)
{
    for (size_t i = 0; i < N_TABLE; i++) {
        if (table[i].dtype != t || table[i].field[0].n == 0)
            continue;
        s->kind = STORAGE_TILED;
        s->tile_bytes = (uint64_t)TILE_BLOCKS * dtype_info(t)->block_bytes;
        s->n_tiles = s->raw_bytes / s->tile_bytes + (s->raw_bytes % s->tile_bytes != 0);
        s->dec = &swapping;
        s->priv = &table[i];
    }
}
