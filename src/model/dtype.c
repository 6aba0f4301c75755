/* See dtype.h. */
#include "model/dtype.h"
#include "base/checked.h"

static const struct dtype_info table[DT_COUNT] = {
    [DT_NONE] = {"none", DK_UINT, 0, 1, 1},
    [DT_F64] = {"float64", DK_FLOAT, 64, 1, 8},
    [DT_F32] = {"float32", DK_FLOAT, 32, 1, 4},
    [DT_F16] = {"float16", DK_FLOAT, 16, 1, 2},
    [DT_BF16] = {"bfloat16", DK_FLOAT, 16, 1, 2},
    [DT_F8_E4M3FN] = {"float8_e4m3fn", DK_FLOAT, 8, 1, 1},
    [DT_F8_E5M2] = {"float8_e5m2", DK_FLOAT, 8, 1, 1},
    [DT_F8_E4M3FNUZ] = {"float8_e4m3fnuz", DK_FLOAT, 8, 1, 1},
    [DT_F8_E5M2FNUZ] = {"float8_e5m2fnuz", DK_FLOAT, 8, 1, 1},
    [DT_F8_E8M0FNU] = {"float8_e8m0fnu", DK_FLOAT, 8, 1, 1},
    [DT_F6_E2M3FN] = {"float6_e2m3fn", DK_FLOAT, 6, 4, 1},
    [DT_F6_E3M2FN] = {"float6_e3m2fn", DK_FLOAT, 6, 4, 1},
    [DT_F4_E2M1FN] = {"float4_e2m1fn", DK_FLOAT, 4, 2, 1},
    [DT_I64] = {"int64", DK_INT, 64, 1, 8},
    [DT_I32] = {"int32", DK_INT, 32, 1, 4},
    [DT_I16] = {"int16", DK_INT, 16, 1, 2},
    [DT_I8] = {"int8", DK_INT, 8, 1, 1},
    [DT_I4] = {"int4", DK_INT, 4, 2, 1},
    [DT_I2] = {"int2", DK_INT, 2, 4, 1},
    [DT_U64] = {"uint64", DK_UINT, 64, 1, 8},
    [DT_U32] = {"uint32", DK_UINT, 32, 1, 4},
    [DT_U16] = {"uint16", DK_UINT, 16, 1, 2},
    [DT_U8] = {"uint8", DK_UINT, 8, 1, 1},
    [DT_U4] = {"uint4", DK_UINT, 4, 2, 1},
    [DT_U2] = {"uint2", DK_UINT, 2, 4, 1},
    [DT_BOOL] = {"bool", DK_BOOL, 8, 1, 1},
    [DT_C32] = {"complex32", DK_COMPLEX, 32, 1, 2},
    [DT_C64] = {"complex64", DK_COMPLEX, 64, 1, 4},
    [DT_C128] = {"complex128", DK_COMPLEX, 128, 1, 8},
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
    uint64_t bits;
    if (!mul_u64(n_elems, dtype_info(t)->bits, &bits) || bits % 8 != 0)
        return false;
    *bytes = bits / 8;
    return true;
}
