/* See dtype.h. */
#include "model/dtype.h"
#include "base/checked.h"

#define BLOCK(NAME, ELEMS, BYTES)                                                                  \
    {                                                                                              \
        NAME, DK_BLOCK, 8, ELEMS, 1, BYTES                                                         \
    }
static const struct dtype_info table[DT_COUNT] = {
    [DT_NONE] = {"none", DK_UINT, 0, 1, 1, 0},
    [DT_F64] = {"float64", DK_FLOAT, 64, 1, 8, 0},
    [DT_F32] = {"float32", DK_FLOAT, 32, 1, 4, 0},
    [DT_F16] = {"float16", DK_FLOAT, 16, 1, 2, 0},
    [DT_BF16] = {"bfloat16", DK_FLOAT, 16, 1, 2, 0},
    [DT_F8_E4M3FN] = {"float8_e4m3fn", DK_FLOAT, 8, 1, 1, 0},
    [DT_F8_E5M2] = {"float8_e5m2", DK_FLOAT, 8, 1, 1, 0},
    [DT_F8_E4M3FNUZ] = {"float8_e4m3fnuz", DK_FLOAT, 8, 1, 1, 0},
    [DT_F8_E5M2FNUZ] = {"float8_e5m2fnuz", DK_FLOAT, 8, 1, 1, 0},
    [DT_F8_E8M0FNU] = {"float8_e8m0fnu", DK_FLOAT, 8, 1, 1, 0},
    [DT_F6_E2M3FN] = {"float6_e2m3fn", DK_FLOAT, 6, 4, 1, 0},
    [DT_F6_E3M2FN] = {"float6_e3m2fn", DK_FLOAT, 6, 4, 1, 0},
    [DT_F4_E2M1FN] = {"float4_e2m1fn", DK_FLOAT, 4, 2, 1, 0},
    [DT_I64] = {"int64", DK_INT, 64, 1, 8, 0},
    [DT_I32] = {"int32", DK_INT, 32, 1, 4, 0},
    [DT_I16] = {"int16", DK_INT, 16, 1, 2, 0},
    [DT_I8] = {"int8", DK_INT, 8, 1, 1, 0},
    [DT_I4] = {"int4", DK_INT, 4, 2, 1, 0},
    [DT_I2] = {"int2", DK_INT, 2, 4, 1, 0},
    [DT_U64] = {"uint64", DK_UINT, 64, 1, 8, 0},
    [DT_U32] = {"uint32", DK_UINT, 32, 1, 4, 0},
    [DT_U16] = {"uint16", DK_UINT, 16, 1, 2, 0},
    [DT_U8] = {"uint8", DK_UINT, 8, 1, 1, 0},
    [DT_U4] = {"uint4", DK_UINT, 4, 2, 1, 0},
    [DT_U2] = {"uint2", DK_UINT, 2, 4, 1, 0},
    [DT_BOOL] = {"bool", DK_BOOL, 8, 1, 1, 0},
    [DT_C32] = {"complex32", DK_COMPLEX, 32, 1, 2, 0},
    [DT_C64] = {"complex64", DK_COMPLEX, 64, 1, 4, 0},
    [DT_C128] = {"complex128", DK_COMPLEX, 128, 1, 8, 0},
    [DT_Q4_0] = BLOCK("q4_0", 32, 18),
    [DT_Q4_1] = BLOCK("q4_1", 32, 20),
    [DT_Q5_0] = BLOCK("q5_0", 32, 22),
    [DT_Q5_1] = BLOCK("q5_1", 32, 24),
    [DT_Q8_0] = BLOCK("q8_0", 32, 34),
    [DT_Q8_1] = BLOCK("q8_1", 32, 36),
    [DT_Q2_K] = BLOCK("q2_k", 256, 84),
    [DT_Q3_K] = BLOCK("q3_k", 256, 110),
    [DT_Q4_K] = BLOCK("q4_k", 256, 144),
    [DT_Q5_K] = BLOCK("q5_k", 256, 176),
    [DT_Q6_K] = BLOCK("q6_k", 256, 210),
    [DT_Q8_K] = BLOCK("q8_k", 256, 292),
    [DT_IQ1_S] = BLOCK("iq1_s", 256, 50),
    [DT_IQ1_M] = BLOCK("iq1_m", 256, 56),
    [DT_IQ2_XXS] = BLOCK("iq2_xxs", 256, 66),
    [DT_IQ2_XS] = BLOCK("iq2_xs", 256, 74),
    [DT_IQ2_S] = BLOCK("iq2_s", 256, 82),
    [DT_IQ3_XXS] = BLOCK("iq3_xxs", 256, 98),
    [DT_IQ3_S] = BLOCK("iq3_s", 256, 110),
    [DT_IQ4_NL] = BLOCK("iq4_nl", 32, 18),
    [DT_IQ4_XS] = BLOCK("iq4_xs", 256, 136),
    [DT_TQ1_0] = BLOCK("tq1_0", 256, 54),
    [DT_TQ2_0] = BLOCK("tq2_0", 256, 66),
    [DT_MXFP4] = BLOCK("mxfp4", 32, 17),
    [DT_NVFP4] = BLOCK("nvfp4", 64, 36),
    [DT_Q1_0] = BLOCK("q1_0", 128, 18),
    [DT_Q2_0] = BLOCK("q2_0", 64, 18),
};

const struct dtype_info *dtype_info(enum dtype t)
{
    return &table[(unsigned)t < DT_COUNT ? t : DT_NONE];
}

enum dtype dtype_parse(struct str name)
{
    for (int t = DT_NONE + 1; t < DT_COUNT; t++)
        if (str_is(name, table[t].name))
            return (enum dtype)t;
    return DT_NONE;
}

bool dtype_span(enum dtype t, uint64_t n_elems, uint64_t *bytes)
{
    const struct dtype_info *d = dtype_info(t);
    uint64_t bits;
    if (d->kind == DK_BLOCK)
        return n_elems % d->block_elems == 0 &&
               mul_u64(n_elems / d->block_elems, d->block_bytes, bytes);
    if (!mul_u64(n_elems, d->bits, &bits) || bits % 8 != 0)
        return false;
    *bytes = bits / 8;
    return true;
}
