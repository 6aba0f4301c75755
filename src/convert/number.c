/* See number.h. Floats are described by a table; integers are their own description. */
#include "convert/number.h"
#include <string.h>

enum nan_kind {
    NAN_IEEE, /* all-ones exponent: infinity and NaNs */
    NAN_FN,   /* all ones is the only NaN, no infinity */
    NAN_FNUZ, /* the code of -0 is the only NaN, no infinity */
    NAN_NO    /* neither */
};
struct layout {
    uint8_t exp_bits, man_bits;
    enum nan_kind nan;
    int bias;
};
static const struct layout layouts[DT_COUNT] = {
    [DT_F64] = {11, 52, NAN_IEEE, 1023},    [DT_F32] = {8, 23, NAN_IEEE, 127},
    [DT_F16] = {5, 10, NAN_IEEE, 15},       [DT_BF16] = {8, 7, NAN_IEEE, 127},
    [DT_F8_E4M3FN] = {4, 3, NAN_FN, 7},     [DT_F8_E5M2] = {5, 2, NAN_IEEE, 15},
    [DT_F8_E4M3FNUZ] = {4, 3, NAN_FNUZ, 8}, [DT_F8_E5M2FNUZ] = {5, 2, NAN_FNUZ, 16},
    [DT_F6_E2M3FN] = {2, 3, NAN_NO, 1},     [DT_F6_E3M2FN] = {3, 2, NAN_NO, 3},
    [DT_F4_E2M1FN] = {2, 1, NAN_NO, 1},
};

static struct num finite(bool neg, uint64_t sig, int exp)
{
    if (sig == 0)
        return (struct num){NUM_ZERO, neg, 0, 0};
    int up = __builtin_clzll(sig);
    return (struct num){NUM_FINITE, neg, exp - up, sig << up};
}

static struct num decode_float(const struct layout *l, uint64_t code)
{
    unsigned width = 1u + l->exp_bits + l->man_bits;
    uint64_t man_mask = (UINT64_C(1) << l->man_bits) - 1;
    uint64_t exp_mask = (UINT64_C(1) << l->exp_bits) - 1;
    uint64_t man = code & man_mask, exp = code >> l->man_bits & exp_mask;
    bool neg = code >> (width - 1) & 1;
    if (l->nan == NAN_IEEE && exp == exp_mask)
        return (struct num){man ? NUM_NAN : NUM_INF, neg, 0, man << (64 - l->man_bits)};
    if (l->nan == NAN_FN && exp == exp_mask && man == man_mask)
        return (struct num){NUM_NAN, neg, 0, UINT64_C(1) << 63};
    if (l->nan == NAN_FNUZ && neg && exp == 0 && man == 0)
        return (struct num){NUM_NAN, false, 0, UINT64_C(1) << 63};
    if (exp == 0)
        return finite(neg, man, 1 - l->bias - l->man_bits);
    return finite(neg, man | UINT64_C(1) << l->man_bits, (int)exp - l->bias - l->man_bits);
}

static uint64_t int_mask(enum dtype t)
{
    unsigned bits = dtype_info(t)->bits;
    return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

struct num num_decode(enum dtype t, uint64_t code)
{
    const struct dtype_info *d = dtype_info(t);
    uint64_t mask = int_mask(t);
    if (t == DT_F8_E8M0FNU)
        return (code & 0xff) == 0xff ? (struct num){NUM_NAN, false, 0, UINT64_C(1) << 63}
                                     : finite(false, 1, (int)(code & 0xff) - 127);
    if (d->kind == DK_FLOAT)
        return decode_float(&layouts[t], code);
    code &= mask;
    if (d->kind == DK_INT && code >> (d->bits - 1))
        return finite(true, (~code + 1) & mask, 0);
    return finite(false, d->kind == DK_BOOL ? code != 0 : code, 0);
}

/* sig rounded to its top `keep` bits (keep <= 63, may be 0 or less), ties to even */
static uint64_t round_top(uint64_t sig, int keep)
{
    if (keep < 0)
        return 0;
    if (keep == 0)
        return sig > UINT64_C(1) << 63;
    uint64_t q = sig >> (64 - keep), rest = sig << keep, half = UINT64_C(1) << 63;
    return q + (rest > half || (rest == half && (q & 1)));
}

static uint64_t encode_e8m0(struct num v, bool *overflow)
{
    if (v.cls == NUM_NAN)
        return 0xff;
    if (v.cls != NUM_FINITE || v.neg) {
        *overflow = true;
        return 0xff;
    }
    int code = v.exp + 63 + 127;
    uint64_t rest = v.sig << 1, half = UINT64_C(1) << 63;
    code += rest > half || (rest == half && (code & 1));
    if (code < 0 || code > 254) {
        *overflow = true;
        return code < 0 ? 0 : 0xff;
    }
    return (uint64_t)code;
}

static uint64_t encode_float(const struct layout *l, struct num v, bool *overflow)
{
    unsigned m = l->man_bits;
    uint64_t sign = (uint64_t)v.neg << (l->exp_bits + m);
    uint64_t top = ((UINT64_C(1) << l->exp_bits) - 1) << m; /* infinity of IEEE types */
    uint64_t all = top | ((UINT64_C(1) << m) - 1);
    uint64_t max = l->nan == NAN_IEEE ? top - 1 : l->nan == NAN_FN ? all - 1 : all;
    uint64_t fnuz_nan = UINT64_C(1) << (l->exp_bits + m);
    uint64_t code = 0;
    switch (v.cls) {
    case NUM_ZERO:
        return l->nan == NAN_FNUZ ? 0 : sign;
    case NUM_NAN:
        if (l->nan == NAN_IEEE) {
            uint64_t payload = v.sig >> (64 - m);
            return sign | top | (payload ? payload : UINT64_C(1) << (m - 1));
        }
        *overflow |= l->nan == NAN_NO;
        return l->nan == NAN_FN ? sign | all : l->nan == NAN_FNUZ ? fnuz_nan : 0;
    case NUM_INF:
        code = max + 1;
        *overflow |= l->nan != NAN_IEEE;
        break;
    case NUM_FINITE: {
        int e = v.exp + 63, e_min = 1 - l->bias;
        if (e > 1 << 12)
            code = max + 1;
        else if (e >= e_min)
            code = ((uint64_t)(e - e_min) << m) + round_top(v.sig, (int)m + 1);
        else
            code = round_top(v.sig, (int)m + 1 - (e_min - e));
        *overflow |= code > max;
        break;
    }
    }
    if (code <= max)
        return l->nan == NAN_FNUZ && code == 0 ? 0 : sign | code;
    switch (l->nan) {
    case NAN_IEEE:
        return sign | top;
    case NAN_FN:
        return sign | all;
    case NAN_FNUZ:
        return fnuz_nan;
    case NAN_NO:
    default:
        return sign | max;
    }
}

static uint64_t encode_int(enum dtype t, struct num v, bool *overflow)
{
    const struct dtype_info *d = dtype_info(t);
    uint64_t mask = int_mask(t), max = d->kind == DK_INT ? mask >> 1 : mask;
    uint64_t min = d->kind == DK_INT ? max + 1 : 0; /* magnitude of the lowest value */
    uint64_t limit = v.neg ? min : max, size = 0;
    bool over = false;
    if (v.cls == NUM_ZERO)
        return 0;
    if (v.cls == NUM_NAN) {
        *overflow = true;
        return 0;
    }
    if (v.cls == NUM_INF || v.exp > 0)
        over = true;
    else if (v.exp > -64)
        size = v.sig >> -v.exp;
    if (over || size > limit) {
        *overflow = true;
        size = limit;
    }
    return (v.neg ? ~size + 1 : size) & mask;
}

uint64_t num_encode(enum dtype t, struct num v, bool *overflow)
{
    const struct dtype_info *d = dtype_info(t);
    if (t == DT_F8_E8M0FNU)
        return encode_e8m0(v, overflow);
    if (d->kind == DK_FLOAT)
        return encode_float(&layouts[t], v, overflow);
    if (d->kind == DK_BOOL)
        return v.cls != NUM_ZERO;
    return encode_int(t, v, overflow);
}

double num_smallest(enum dtype t)
{
    if (dtype_info(t)->kind != DK_FLOAT || layouts[t].exp_bits == 0)
        return 0;
    uint64_t bits = (uint64_t)(1 - layouts[t].bias + 1023) << 52;
    double v;
    if (t == DT_F64)
        bits = UINT64_C(1) << 52;
    memcpy(&v, &bits, 8);
    return v;
}

enum dtype num_half(enum dtype t)
{
    switch (t) {
    case DT_C32:
        return DT_F16;
    case DT_C64:
        return DT_F32;
    case DT_C128:
        return DT_F64;
    default:
        return t;
    }
}

bool num_castable(enum dtype a, enum dtype b)
{
    bool ca = dtype_info(a)->kind == DK_COMPLEX, cb = dtype_info(b)->kind == DK_COMPLEX;
    if (dtype_is_block(a) || dtype_is_block(b))
        return false; /* op.h and block.h */
    return a != DT_NONE && b != DT_NONE && (a == b || !ca || cb || b == DT_BOOL);
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static void store(uint8_t *p, size_t n, uint64_t code)
{
    memcpy(p, &code, n);
}

uint64_t num_cast(enum dtype from, const void *src, enum dtype to, void *dst, uint64_t n)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    size_t size_a = num_bytes(from), size_b = num_bytes(to);
    enum dtype ha = num_half(from), hb = num_half(to);
    bool ca = ha != from, cb = hb != to;
    size_t na = ca ? size_a / 2 : size_a, nb = cb ? size_b / 2 : size_b;
    uint64_t bad = n;
    for (uint64_t i = 0; i < n; i++, s += size_a, d += size_b) {
        bool over = false;
        struct num v = num_decode(ha, load(s, na));
        if (to == DT_BOOL && ca && v.cls == NUM_ZERO)
            v = num_decode(ha, load(s + na, na));
        store(d, nb, num_encode(hb, v, &over));
        if (cb) {
            struct num im = {NUM_ZERO, false, 0, 0};
            if (ca)
                im = num_decode(ha, load(s + na, na));
            store(d + nb, nb, num_encode(hb, im, &over));
        }
        if (over && bad == n)
            bad = i;
    }
    return bad;
}
