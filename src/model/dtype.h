/* Element types: name, logical kind, bits and packing. Names are the contract of
 * `inspect --json`; canonical bytes are little-endian.
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
    DT_COUNT /* block types join here */
};

enum dtype_kind { DK_FLOAT, DK_INT, DK_UINT, DK_BOOL, DK_COMPLEX, DK_BLOCK };

struct dtype_info {
    const char *name; /* "float32" */
    enum dtype_kind kind;
    uint16_t bits;        /* of one element; complex64 is 64 */
    uint16_t block_elems; /* 1; elements per block for block types, 2 for float4 pairs in storage */
    uint16_t swap_bytes;  /* width of the unit a byte swap reverses: complex64 is 4 */
};
const struct dtype_info *dtype_info(enum dtype t); /* never NULL; DT_NONE is "none", 0 bits */
enum dtype dtype_parse(struct str name);           /* DT_NONE when unknown */
/* Whole-byte element size; 0 for sub-byte types. */
static inline size_t dtype_bytes(enum dtype t)
{
    const struct dtype_info *d = dtype_info(t);
    return d->bits % 8 == 0 ? (size_t)(d->bits / 8) : 0;
}
/* Bytes of n packed elements in C order (sub-byte types packed low nibble first, n must fill whole
 * bytes). false on overflow or a part byte. */
bool dtype_span(enum dtype t, uint64_t n_elems, uint64_t *bytes);
#endif
