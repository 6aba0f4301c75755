/* See block.h. Sources of the layouts: ggml-common.h (the structs), ggml-quants.c
 * (dequantize_row_*, quantize_row_*_ref), gguf/quants.py. In the maps below `h` is a float16, a
 * number in brackets counts bytes.
 *
 *   q4_0  h d, [16] nibbles: byte j holds elements j (low) and j + 16     d * (q - 8)
 *   q4_1  h d, h m, [16] as q4_0                                          d * q + m
 *   q5_0  h d, [4] fifth bits, element by element, [16] as q4_0           d * (q - 16)
 *   q5_1  h d, h m, [4], [16]                                             d * q + m
 *   q8_0  h d, [32] signed                                                d * q
 *   q8_1  h d, h sum, [32] signed                                         d * q
 *   q2_k  [16] scale | min << 4, [64] crumbs, h d, h dmin                 d s q - dmin m
 *   q3_k  [32] third bits, [64] crumbs, [12] six-bit scales, h d          d s (q - 4 or q)
 *   q4_k  h d, h dmin, [12] six-bit scales and mins, [128] nibbles        d s q - dmin m
 *   q5_k  as q4_k with [32] fifth bits before the nibbles
 *   q6_k  [128] nibbles, [64] crumbs above them, [16] signed scales, h d  d s (q - 32)
 *   q8_k  float32 d, [256] signed, [32] sums                              d * q
 *   tq1_0 [48] five trits a byte, [4] four, h d;  tq2_0 [64] crumbs, h d  d * (q - 1)
 *   q1_0  h d, [16] bits: d or -d;  q2_0  h d, [16] crumbs in order       d * (q - 1)
 *   mxfp4 exponent byte, [16] as q4_0;  nvfp4 [4] UE4M3 scales, [32]      d * float4
 *   iq*   code books (block_grid.h): an index is eight or four values, signs beside it
 */
#include "convert/block.h"
#include "convert/block_grid.h"
#include "convert/number.h"
#include <math.h>
#include <string.h>

/* ---- float32, one rounding at a time ---- */

static uint32_t bits_of(float f)
{
    uint32_t b;
    memcpy(&b, &f, 4);
    return b;
}

static float float_of(uint32_t b)
{
    float f;
    memcpy(&f, &b, 4);
    return f;
}

static float nan_of(float a, float b)
{
    if (a != a)
        return float_of(bits_of(a) | 0x00400000u);
    if (b != b)
        return float_of(bits_of(b) | 0x00400000u);
    return float_of(0xffc00000u);
}

static float mul(float a, float b)
{
    float r = a * b;
    return r == r ? r : nan_of(a, b);
}

static float add(float a, float b)
{
    float r = a + b;
    return r == r ? r : nan_of(a, b);
}

static float sub(float a, float b)
{
    float r = a - b;
    return r == r ? r : nan_of(a, b);
}

static float half(const uint8_t *p)
{
    uint32_t h = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    uint32_t sign = (h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31)
        return float_of(sign | 0x7f800000u | man << 13);
    if (exp)
        return float_of(sign | (exp + 112) << 23 | man << 13);
    return float_of(sign | bits_of((float)man * 0x1p-24f));
}

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

/* ---- the plain types: 32 elements ---- */

static unsigned nibble16(const uint8_t *p, unsigned e)
{
    return (e < 16 ? p[e] : p[e - 16] >> 4) & 15u;
}

static void q4_0(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned e = 0; e < 32; e++)
        y[e] = mul(d, (float)((int)nibble16(b + 2, e) - 8));
}

static void q4_1(const uint8_t *b, float *y)
{
    float d = half(b), m = half(b + 2);
    for (unsigned e = 0; e < 32; e++)
        y[e] = add(mul(d, (float)nibble16(b + 4, e)), m);
}

static void q5_0(const uint8_t *b, float *y)
{
    float d = half(b);
    uint32_t high = u32(b + 2);
    for (unsigned e = 0; e < 32; e++)
        y[e] = mul(d, (float)((int)(nibble16(b + 6, e) | (high >> e & 1) << 4) - 16));
}

static void q5_1(const uint8_t *b, float *y)
{
    float d = half(b), m = half(b + 2);
    uint32_t high = u32(b + 4);
    for (unsigned e = 0; e < 32; e++)
        y[e] = add(mul(d, (float)(nibble16(b + 8, e) | (high >> e & 1) << 4)), m);
}

static void bytes_by(float d, const uint8_t *q, unsigned n, float *y)
{
    for (unsigned e = 0; e < n; e++)
        y[e] = mul((float)(int8_t)q[e], d);
}

static void q8_0(const uint8_t *b, float *y)
{
    bytes_by(half(b), b + 2, 32, y);
}

static void q8_1(const uint8_t *b, float *y)
{
    bytes_by(half(b), b + 4, 32, y);
}

static void q8_k(const uint8_t *b, float *y)
{
    bytes_by(float_of(u32(b)), b + 4, 256, y);
}

static void q1_0(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned e = 0; e < 128; e++)
        y[e] = b[2 + e / 8] >> e % 8 & 1 ? d : -d;
}

static void q2_0(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned e = 0; e < 64; e++)
        y[e] = mul((float)((b[2 + e / 4] >> 2 * (e % 4) & 3) - 1), d);
}

/* ---- K types: 256 elements ---- */

/* Two bits an element: 32 bytes hold the 128 elements of a half, a crumb of each a quarter. */
static unsigned crumb(const uint8_t *p, unsigned e)
{
    return (unsigned)p[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3u;
}

/* Bit k of byte i belongs to element 32 k + i. */
static unsigned plane_bit(const uint8_t *p, unsigned e)
{
    return (unsigned)p[e % 32] >> e / 32 & 1u;
}

static void q2_k(const uint8_t *b, float *y)
{
    float d = half(b + 80), dmin = half(b + 82);
    for (unsigned s = 0; s < 16; s++) {
        float dl = mul(d, (float)(b[s] & 15)), ml = mul(dmin, (float)(b[s] >> 4));
        for (unsigned e = s * 16; e < s * 16 + 16; e++)
            y[e] = sub(mul(dl, (float)crumb(b + 16, e)), ml);
    }
}

static void q3_k(const uint8_t *b, float *y)
{
    const uint8_t *sc = b + 96;
    float d = half(b + 108);
    for (unsigned s = 0; s < 16; s++) {
        unsigned low = (s < 8 ? sc[s] : sc[s - 8] >> 4) & 15u,
                 high = (unsigned)sc[8 + s % 4] >> s / 4 * 2 & 3u;
        float dl = mul(d, (float)((int)(low | high << 4) - 32));
        for (unsigned e = s * 16; e < s * 16 + 16; e++)
            y[e] = mul(dl, (float)((int)crumb(b + 32, e) - (plane_bit(b, e) ? 0 : 4)));
    }
}

/* Scale and min number k of the twelve bytes that q4_k and q5_k share. */
static void scale_min(const uint8_t *p, unsigned k, unsigned *scale, unsigned *min)
{
    if (k < 4) {
        *scale = p[k] & 63u;
        *min = p[k + 4] & 63u;
    } else {
        *scale = (p[k + 4] & 15u) | (p[k - 4] >> 2 & 48u);
        *min = p[k + 4] >> 4 | (p[k] >> 2 & 48u);
    }
}

static void q45_k(const uint8_t *b, const uint8_t *high, const uint8_t *low, float *y)
{
    float d = half(b), dmin = half(b + 2);
    for (unsigned s = 0; s < 8; s++) {
        unsigned scale, min;
        scale_min(b + 4, s, &scale, &min);
        float dl = mul(d, (float)scale), ml = mul(dmin, (float)min);
        for (unsigned e = s * 32; e < s * 32 + 32; e++) {
            unsigned q = (unsigned)low[e / 64 * 32 + e % 32] >> s % 2 * 4 & 15u;
            if (high)
                q |= plane_bit(high, e) << 4;
            y[e] = sub(mul(dl, (float)q), ml);
        }
    }
}

static void q4_k(const uint8_t *b, float *y)
{
    q45_k(b, NULL, b + 16, y);
}

static void q5_k(const uint8_t *b, float *y)
{
    q45_k(b, b + 16, b + 48, y);
}

static void q6_k(const uint8_t *b, float *y)
{
    float d = half(b + 208);
    for (unsigned s = 0; s < 16; s++) {
        float dl = mul(d, (float)(int8_t)b[192 + s]);
        for (unsigned e = s * 16; e < s * 16 + 16; e++) {
            unsigned q = (unsigned)b[e / 128 * 64 + e % 64] >> e % 128 / 64 * 4 & 15u;
            y[e] = mul(dl, (float)((int)(q | crumb(b + 128, e) << 4) - 32));
        }
    }
}

/* ---- trits ---- */

static float trit(float d, uint8_t packed, unsigned place)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    unsigned q = (uint8_t)(packed * power[place]);
    return mul(d, (float)((int)(q * 3 >> 8) - 1));
}

static void tq1_0(const uint8_t *b, float *y)
{
    float d = half(b + 52);
    for (unsigned e = 0; e < 160; e++)
        y[e] = trit(d, b[e % 32], e / 32);
    for (unsigned e = 0; e < 80; e++)
        y[160 + e] = trit(d, b[32 + e % 16], e / 16);
    for (unsigned e = 0; e < 16; e++)
        y[240 + e] = trit(d, b[48 + e % 4], e / 4);
}

static void tq2_0(const uint8_t *b, float *y)
{
    float d = half(b + 64);
    for (unsigned e = 0; e < 256; e++)
        y[e] = mul(d, (float)((int)crumb(b, e) - 1));
}

/* ---- four-bit floats and tables ---- */

static const int8_t e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

static void mxfp4(const uint8_t *b, float *y)
{
    float d = float_of(b[0] < 2 ? 0x00200000u << b[0] : (b[0] - 1u) << 23); /* 2^(e-128) */
    for (unsigned e = 0; e < 32; e++)
        y[e] = mul(d, (float)e2m1_twice[nibble16(b + 1, e)]);
}

/* Half of an unsigned float8 e4m3; 0x7f is 0, the sign bit is not looked at but for that. */
static float ue4m3_half(uint8_t x)
{
    unsigned exp = x >> 3 & 15u, man = x & 7u;
    if (x == 0 || x == 0x7f)
        return 0;
    if (exp == 0)
        return (float)man * 0x1p-10f;
    return float_of((exp + 119) << 23 | man << 20);
}

static void nvfp4(const uint8_t *b, float *y)
{
    for (unsigned e = 0; e < 64; e++) {
        uint8_t q = b[4 + e / 16 * 8 + e % 8];
        y[e] = mul(ue4m3_half(b[e / 16]), (float)e2m1_twice[(e % 16 < 8 ? q : q >> 4) & 15]);
    }
}

static void iq4_nl(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned e = 0; e < 32; e++)
        y[e] = mul(d, (float)iq4_values[nibble16(b + 2, e)]);
}

static void iq4_xs(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned s = 0; s < 8; s++) {
        unsigned low = (unsigned)b[4 + s / 2] >> s % 2 * 4 & 15u, high = u16(b + 2) >> 2 * s & 3;
        float dl = mul(d, (float)((int)(low | high << 4) - 32));
        for (unsigned e = 0; e < 32; e++)
            y[s * 32 + e] = mul(dl, (float)iq4_values[nibble16(b + 8 + s * 16, e)]);
    }
}

/* ---- code books ---- */

/* Seven sign bits; the eighth makes their number even. */
static unsigned even_signs(uint32_t seven)
{
    return seven | (unsigned)(__builtin_popcount(seven) & 1) << 7;
}

static void eight_of_iq2(float db, uint16_t entry, unsigned signs, float *y)
{
    static const uint8_t value[4] = {8, 25, 43, 0};
    for (unsigned j = 0; j < 8; j++)
        y[j] = mul(mul(db, (float)value[entry >> 2 * j & 3]), signs >> j & 1 ? -1.0f : 1.0f);
}

static void iq2_xxs(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned s = 0; s < 8; s++) {
        const uint8_t *index = b + 2 + s * 8;
        uint32_t rest = u32(index + 4);
        float db = mul(mul(d, 0.5f + (float)(rest >> 28)), 0.25f);
        for (unsigned l = 0; l < 4; l++)
            eight_of_iq2(db, block_grid_iq2_xxs[index[l]], even_signs(rest >> 7 * l & 127),
                         y + s * 32 + l * 8);
    }
}

static float iq2_scale(float d, const uint8_t *scales, unsigned k)
{
    return mul(mul(d, 0.5f + (float)(scales[k / 2] >> k % 2 * 4 & 15)), 0.25f);
}

static void iq2_xs(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned i = 0; i < 32; i++) {
        uint32_t q = u16(b + 2 + 2 * i);
        eight_of_iq2(iq2_scale(d, b + 66, i / 2), block_grid_iq2_xs[q & 511], even_signs(q >> 9),
                     y + i * 8);
    }
}

static void iq2_s(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned i = 0; i < 32; i++) {
        unsigned high = (unsigned)b[66 + i / 4] >> i % 4 * 2 & 3u;
        eight_of_iq2(iq2_scale(d, b + 74, i / 2), block_grid_iq2_s[b[2 + i] | high << 8], b[34 + i],
                     y + i * 8);
    }
}

static void four_of_iq3(float db, uint16_t entry, const uint8_t value[8], unsigned signs, float *y)
{
    for (unsigned j = 0; j < 4; j++)
        y[j] = mul(mul(db, (float)value[entry >> 3 * j & 7]), signs >> j & 1 ? -1.0f : 1.0f);
}

static void iq3_xxs(const uint8_t *b, float *y)
{
    static const uint8_t value[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    float d = half(b);
    for (unsigned s = 0; s < 8; s++) {
        uint32_t rest = u32(b + 66 + 4 * s);
        float db = mul(mul(d, 0.5f + (float)(rest >> 28)), 0.5f);
        for (unsigned l = 0; l < 8; l++)
            four_of_iq3(db, block_grid_iq3_xxs[b[2 + s * 8 + l]], value,
                        even_signs(rest >> 7 * (l / 2) & 127) >> l % 2 * 4, y + s * 32 + l * 4);
    }
}

static void iq3_s(const uint8_t *b, float *y)
{
    static const uint8_t value[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    float d = half(b);
    for (unsigned i = 0; i < 64; i++) {
        unsigned s = i / 8, high = (unsigned)b[66 + s] >> i % 8 & 1u;
        float db = mul(d, (float)(1 + 2 * (b[106 + s / 2] >> s % 2 * 4 & 15)));
        four_of_iq3(db, block_grid_iq3_s[b[2 + i] | high << 8], value,
                    (unsigned)b[74 + i / 2] >> i % 2 * 4, y + i * 4);
    }
}

static void eight_of_iq1(float dl, uint16_t entry, bool down, float *y)
{
    for (unsigned j = 0; j < 8; j++)
        y[j] = mul(dl, (float)((int)(entry >> 2 * j & 3) - 1) + (down ? -0.125f : 0.125f));
}

static void iq1_s(const uint8_t *b, float *y)
{
    float d = half(b);
    for (unsigned i = 0; i < 32; i++) {
        uint32_t h = u16(b + 34 + i / 4 * 2);
        eight_of_iq1(mul(d, (float)(2 * (h >> 12 & 7) + 1)),
                     block_grid_iq1[b[2 + i] | (h >> i % 4 * 3 & 7) << 8], h >> 15, y + i * 8);
    }
}

static void iq1_m(const uint8_t *b, float *y)
{
    /* the float16 scale is spread over the top nibbles of the four words of scales */
    uint32_t s[4];
    for (unsigned i = 0; i < 4; i++)
        s[i] = u16(b + 48 + 2 * i);
    uint32_t spread = s[0] >> 12 | (s[1] >> 8 & 0xf0) | (s[2] >> 4 & 0xf00) | (s[3] & 0xf000);
    uint8_t whole[2] = {(uint8_t)spread, (uint8_t)(spread >> 8)};
    float d = half(whole);
    for (unsigned i = 0; i < 32; i++) {
        unsigned k = i / 2, h = (unsigned)b[32 + k] >> i % 2 * 4 & 15u;
        eight_of_iq1(mul(d, (float)(2 * (s[k / 4] >> k % 4 * 3 & 7) + 1)),
                     block_grid_iq1[b[i] | (h & 7) << 8], h >> 3, y + i * 8);
    }
}

/* ---- all of them ---- */

static void (*const unpack[DT_COUNT])(const uint8_t *, float *) = {
    [DT_Q4_0] = q4_0,     [DT_Q4_1] = q4_1,       [DT_Q5_0] = q5_0,       [DT_Q5_1] = q5_1,
    [DT_Q8_0] = q8_0,     [DT_Q8_1] = q8_1,       [DT_Q2_K] = q2_k,       [DT_Q3_K] = q3_k,
    [DT_Q4_K] = q4_k,     [DT_Q5_K] = q5_k,       [DT_Q6_K] = q6_k,       [DT_Q8_K] = q8_k,
    [DT_IQ1_S] = iq1_s,   [DT_IQ1_M] = iq1_m,     [DT_IQ2_XXS] = iq2_xxs, [DT_IQ2_XS] = iq2_xs,
    [DT_IQ2_S] = iq2_s,   [DT_IQ3_XXS] = iq3_xxs, [DT_IQ3_S] = iq3_s,     [DT_IQ4_NL] = iq4_nl,
    [DT_IQ4_XS] = iq4_xs, [DT_TQ1_0] = tq1_0,     [DT_TQ2_0] = tq2_0,     [DT_MXFP4] = mxfp4,
    [DT_NVFP4] = nvfp4,   [DT_Q1_0] = q1_0,       [DT_Q2_0] = q2_0,
};

void block_unpack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n)
{
    const struct dtype_info *d = dtype_info(t);
    float y[BLOCK_ELEMS_MAX];
    for (size_t i = 0; i < n; i++) {
        unpack[t](src + i * d->block_bytes, y);
        memcpy(dst + i * d->block_elems * sizeof *y, y, d->block_elems * sizeof *y);
    }
}

/* ---- making blocks ---- */

bool block_packs(enum dtype t)
{
    return t == DT_Q8_0 || t == DT_Q4_0;
}

/* The scale as a float16; false where it is beyond that. */
static bool put_half(uint8_t *p, float d)
{
    bool over = false;
    uint64_t h = num_encode(DT_F16, num_decode(DT_F32, bits_of(d)), &over);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    return !over && d - d == 0;
}

/* The first of the 32 values that is largest in size; a NaN is larger than all. */
static unsigned largest(const float *x)
{
    unsigned at = 0;
    for (unsigned e = 1; e < 32 && x[at] == x[at]; e++)
        if (!(fabsf(x[e]) <= fabsf(x[at])))
            at = e;
    return at;
}

/* Both return the element that has no place, 32 when all have. A product that is not finite (the
 * inverse of a scale that float16 calls 0) is 0. */
static unsigned pack_q8_0(const float *x, uint8_t *b)
{
    unsigned at = largest(x);
    float d = fabsf(x[at]) / 127, inverse = d == 0 ? 0 : 1 / d;
    for (unsigned e = 0; e < 32; e++) {
        float v = x[e] * inverse, size = fabsf(v), whole = floorf(size);
        int q = v - v == 0 ? (int)(whole + floorf(2 * (size - whole))) : 0;
        b[2 + e] = (uint8_t)(v < 0 ? -q : q);
    }
    return put_half(b, d) ? 32 : at;
}

static unsigned pack_q4_0(const float *x, uint8_t *b)
{
    unsigned at = largest(x);
    float d = x[at] / -8, inverse = d == 0 ? 0 : 1 / d;
    uint8_t q[32];
    for (unsigned e = 0; e < 32; e++) {
        float v = x[e] * inverse, up = v + 8.5f;
        int n = v - v == 0 ? (int)up : 0;
        q[e] = (uint8_t)(n > 15 ? 15 : n);
    }
    for (unsigned e = 0; e < 16; e++)
        b[2 + e] = (uint8_t)(q[e] | q[e + 16] << 4);
    return put_half(b, d) ? 32 : at;
}

size_t block_pack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n_elems)
{
    size_t bad = n_elems;
    for (size_t i = 0; i + 32 <= n_elems; i += 32) {
        float x[32];
        memcpy(x, src + i * sizeof *x, sizeof x);
        unsigned at = t == DT_Q8_0 ? pack_q8_0(x, dst) : pack_q4_0(x, dst);
        if (at < 32 && bad == n_elems)
            bad = i + at;
        dst += dtype_info(t)->block_bytes;
    }
    return bad;
}
