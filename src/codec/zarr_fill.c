/* Fill values of zarr metadata as bits: see zarr.h. */
#include "codec/zarr.h"
#include <stdlib.h>
#include <string.h>

/* float16 or bfloat16 from float32: rounds to nearest even, by integers. */
static uint64_t narrow16(uint32_t f, bool bf16)
{
    uint32_t sign = f >> 31 << 15, exp = f >> 23 & 0xff, man = f & 0x7fffff;
    if (bf16) {
        uint32_t up = f + 0x7fff + (f >> 16 & 1);
        return exp == 0xff ? (f >> 16 | (man ? 0x40u : 0u)) : up >> 16;
    }
    if (exp == 0xff)
        return sign | 0x7c00 | (man ? 0x200u : 0u);
    int32_t to = (int32_t)exp - 112;
    if (to >= 31)
        return sign | 0x7c00;
    unsigned drop = to > 0 ? 13u : (unsigned)(14 - to);
    if (drop > 24)
        return sign;
    uint32_t whole = man | (to > 0 ? 0u : 0x800000u), kept = whole >> drop;
    uint32_t rest = whole & ((1u << drop) - 1), half = 1u << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1));
    return sign | ((to > 0 ? (uint32_t)to << 10 : 0u) + kept);
}

bool zarr_float(struct str text, size_t bits, bool bf16, uint64_t *out)
{
    char z[64];
    uint32_t f;
    uint64_t sign = text.n && text.p[0] == '-';
    if (text.n == 0 || text.n >= sizeof z)
        return false;
    uint64_t inf = bits == 64   ? 0x7ffULL << 52
                   : bits == 32 ? 0x7f800000u
                   : bf16       ? 0x7f80u
                                : 0x7c00u;
    uint64_t quiet = bits == 64 ? 1ULL << 51 : bits == 32 ? 0x400000u : bf16 ? 0x40u : 0x200u;
    if (str_is(text, "NaN")) {
        *out = inf | quiet;
        return true;
    }
    if (str_is(text, "Infinity") || str_is(text, "-Infinity")) {
        *out = inf | sign << (bits - 1);
        return true;
    }
    for (size_t i = 0; i < text.n; i++) /* what JSON has as a number, and nothing else */
        if (!strchr("0123456789+-.eE", text.p[i]))
            return false;
    memcpy(z, text.p, text.n);
    z[text.n] = 0;
    char *end;
    if (bits == 64) {
        double d = strtod(z, &end);
        memcpy(out, &d, 8);
    } else {
        float d = strtof(z, &end);
        memcpy(&f, &d, 4);
        *out = bits == 32 ? f : narrow16(f, bf16);
    }
    return *end == 0;
}

bool zarr_hex(struct str text, size_t bytes, uint64_t *out)
{
    *out = 0;
    if (text.n != 2 + 2 * bytes || bytes > 8 || !str_starts(text, STR("0x")))
        return false;
    for (size_t i = 2; i < text.n; i++) {
        int c = (unsigned char)text.p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0)
            return false;
        *out = *out << 4 | (uint64_t)v;
    }
    return true;
}
