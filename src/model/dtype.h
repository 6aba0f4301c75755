/* Element types: name, logical kind, bits and packing. Names are the contract of
 * `inspect --json`; canonical bytes are little-endian.
 *
 * Block types hold a run of a row's elements in a few bytes with shared scales (ggml's quantised
 * types). A tensor of such a type has its logical shape; its last axis fills whole blocks.
 */
#ifndef MODEL_DTYPE_H
#define MODEL_DTYPE_H
#include "base/err.h"
#include "base/str.h"

enum dtype {
    DT_NONE = 0,
    DT_F64,
    DT_F32,
    DT_F16,
    DT_BF16,
    DT_F8_E4M3FN,
    DT_F8_E5M2,
    DT_F8_E4M3FNUZ,
    DT_F8_E5M2FNUZ,
    DT_F8_E8M0FNU,
    DT_F6_E2M3FN,
    DT_F6_E3M2FN, /* known, so that safetensors files that hold them can be listed */
    DT_F4_E2M1FN,
    DT_I64,
    DT_I32,
    DT_I16,
    DT_I8,
    DT_I4,
    DT_I2,
    DT_U64,
    DT_U32,
    DT_U16,
    DT_U8,
    DT_U4,
    DT_U2,
    DT_BOOL,
    DT_C32,
    DT_C64,
    DT_C128,
    /* block types, as ggml lays them out: n elements of a row to a block of bytes */
    DT_Q4_0,
    DT_Q4_1,
    DT_Q5_0,
    DT_Q5_1,
    DT_Q8_0,
    DT_Q8_1,
    DT_Q2_K,
    DT_Q3_K,
    DT_Q4_K,
    DT_Q5_K,
    DT_Q6_K,
    DT_Q8_K,
    DT_IQ1_S,
    DT_IQ1_M,
    DT_IQ2_XXS,
    DT_IQ2_XS,
    DT_IQ2_S,
    DT_IQ3_XXS,
    DT_IQ3_S,
    DT_IQ4_NL,
    DT_IQ4_XS,
    DT_TQ1_0,
    DT_TQ2_0,
    DT_MXFP4,
    DT_NVFP4,
    DT_Q1_0,
    DT_Q2_0,
    DT_COUNT
};

enum dtype_kind { DK_FLOAT, DK_INT, DK_UINT, DK_BOOL, DK_COMPLEX, DK_BLOCK };

struct dtype_info {
    const char *name; /* "float32" */
    enum dtype_kind kind;
    uint16_t bits;        /* of one element; complex64 is 64. Block types: 8, see dtype_units */
    uint16_t block_elems; /* 1; elements per block for block types, 2 for float4 pairs in storage */
    uint16_t swap_bytes;  /* width of the unit a byte swap reverses: complex64 is 4 */
    uint16_t block_bytes; /* block types: bytes of a block; 0 for others */
};
const struct dtype_info *dtype_info(enum dtype t); /* never NULL; DT_NONE is "none", 0 bits */
enum dtype dtype_parse(struct str name);           /* DT_NONE when unknown */
static inline bool dtype_is_block(enum dtype t)
{
    return dtype_info(t)->kind == DK_BLOCK;
}
/* What the mover counts in: elements, but raw bytes for block types, whose values are never taken
 * apart while they are carried. n_elems fills whole blocks and its bytes fit 64 bits (proved by
 * model_finish and plan_prove). */
static inline uint64_t dtype_units(enum dtype t, uint64_t n_elems)
{
    const struct dtype_info *d = dtype_info(t);
    return d->kind == DK_BLOCK ? n_elems / d->block_elems * d->block_bytes : n_elems;
}
/* Whole-byte element size; 0 for sub-byte types, 1 (the unit) for block types. */
static inline size_t dtype_bytes(enum dtype t)
{
    const struct dtype_info *d = dtype_info(t);
    return d->bits % 8 == 0 ? (size_t)(d->bits / 8) : 0;
}
/* Bytes of n packed elements in C order (sub-byte types packed low nibble first, n must fill whole
 * bytes; n fills whole blocks of a block type). false on overflow, a part byte or a part block. */
bool dtype_span(enum dtype t, uint64_t n_elems, uint64_t *bytes);
#endif
