/* See op.h. Sums and scales are the only places where the mover computes with floating point:
 * they are value changes that a mapping asked for, never part of a lossless path.
 */
#include "convert/op.h"
#include "convert/block.h"
#include "convert/kernel.h"
#include "convert/number.h"
#include <math.h>
#include <string.h>

size_t op_cast(enum dtype from, const void *src, enum dtype to, void *dst, size_t n)
{
    const struct kernel *k = kernel();
    bool over = false;
    if (from == to)
        memcpy(dst, src, n * num_bytes(from));
    else if (from == DT_F32 && to == DT_BF16)
        over = k->f32_bf16(src, dst, n);
    else if (from == DT_BF16 && to == DT_F32)
        k->bf16_f32(src, dst, n);
    else if (from == DT_F32 && to == DT_F16)
        over = k->f32_f16(src, dst, n);
    else if (from == DT_F16 && to == DT_F32)
        k->f16_f32(src, dst, n);
    else
        return (size_t)num_cast(from, src, to, dst, n);
    /* the kernels store the right values; where it happened is found the slow way */
    return over ? (size_t)num_cast(from, src, to, dst, n) : n;
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

static double to_double(enum dtype t, const uint8_t *p)
{
    uint64_t bits;
    bool over = false;
    double v;
    bits =
        t == DT_F64 ? load(p, 8) : num_encode(DT_F64, num_decode(t, load(p, num_bytes(t))), &over);
    memcpy(&v, &bits, 8);
    return v;
}

static bool from_double(enum dtype t, double v, uint8_t *p)
{
    uint64_t bits;
    bool over = false;
    memcpy(&bits, &v, 8);
    if (t != DT_F64)
        bits = num_encode(t, num_decode(DT_F64, bits), &over);
    memcpy(p, &bits, num_bytes(t));
    return over;
}

/* A sum of two values of at most 24 significant bits is rounded once to double and once to the
 * type; 53 >= 2 * 24 + 2, so the result is the correctly rounded sum. */
static bool add_real(enum dtype t, const uint8_t *a, const uint8_t *b, uint8_t *out)
{
    const struct dtype_info *d = dtype_info(t);
    bool over = false;
    if (d->kind == DK_FLOAT)
        return from_double(t, to_double(t, a) + to_double(t, b), out);
    size_t n = num_bytes(t);
    struct num x = num_decode(t, load(a, n)), y = num_decode(t, load(b, n));
    __int128 sx = x.cls == NUM_ZERO ? 0 : (__int128)(x.sig >> -x.exp);
    __int128 sy = y.cls == NUM_ZERO ? 0 : (__int128)(y.sig >> -y.exp);
    __int128 sum = (x.neg ? -sx : sx) + (y.neg ? -sy : sy);
    struct num r = {NUM_ZERO, sum < 0, 0, 0};
    unsigned __int128 size = (unsigned __int128)(sum < 0 ? -sum : sum);
    if (size >> 64) {
        over = true;
        size = UINT64_MAX;
    }
    if (size != 0) {
        int up = __builtin_clzll((uint64_t)size);
        r = (struct num){NUM_FINITE, sum < 0, -up, (uint64_t)size << up};
    }
    uint64_t code = num_encode(t, r, &over);
    op_tidy(t, (uint8_t *)&code, 1);
    memcpy(out, &code, n);
    return over;
}

/* A product of two floats is exact in double and rounded once; that of a float and a double twice.
 */
static bool mul_real(enum dtype t, const uint8_t *a, enum dtype with, const uint8_t *b,
                     uint8_t *out)
{
    if (t == DT_F32 && with == DT_F32) {
        float x, y, z;
        memcpy(&x, a, 4);
        memcpy(&y, b, 4);
        z = x * y;
        memcpy(out, &z, 4);
        return isinf(z) && !isinf(x) && !isinf(y);
    }
    return from_double(t, to_double(t, a) * to_double(with, b), out);
}

static bool neg_real(enum dtype t, const uint8_t *a, uint8_t *out)
{
    const struct dtype_info *d = dtype_info(t);
    size_t n = num_bytes(t);
    uint64_t code = load(a, n);
    bool over = false;
    if (d->kind == DK_FLOAT && t != DT_F8_E4M3FNUZ && t != DT_F8_E5M2FNUZ) {
        code ^= UINT64_C(1) << (d->bits - 1);
    } else {
        struct num v = num_decode(t, code);
        v.neg = v.cls != NUM_ZERO && !v.neg;
        code = num_encode(t, v, &over);
        op_tidy(t, (uint8_t *)&code, 1);
    }
    memcpy(out, &code, n);
    return over;
}

void op_apply(const struct op *op, enum dtype from, const void *src, const void *operand, void *dst,
              size_t n, enum dtype *out, size_t *bad)
{
    const uint8_t *s = src, *o = operand;
    uint8_t *d = dst;
    *bad = n;
    *out = from;
    if (op->kind == OP_CAST) {
        *out = op->to;
        size_t at = dtype_is_block(op->to) ? block_pack(op->to, src, dst, n)
                                           : op_cast(from, src, op->to, dst, n);
        if (!op->allow_overflow)
            *bad = at;
        return;
    }
    enum dtype half = num_half(from);
    size_t size = num_bytes(half), count = n * (num_bytes(from) / size);
    double scale;
    uint8_t offset[16];
    memcpy(&scale, &op->scale_bits, 8);
    if (op->kind == OP_OFFSET)
        (void)from_double(half, scale, offset);
    for (size_t i = 0; i < count; i++) {
        size_t at = i * size;
        bool over;
        if (op->kind == OP_MUL)
            over = mul_real(half, s + at, op->to, o + i * num_bytes(op->to), d + at);
        else if (op->kind == OP_ADD)
            over = add_real(half, s + at, o + at, d + at);
        else if (op->kind == OP_OFFSET)
            over = add_real(half, s + at, offset, d + at);
        else if (op->kind == OP_NEG)
            over = neg_real(half, s + at, d + at);
        else
            over = from_double(half, to_double(half, s + at) * scale, d + at);
        if (over && *bad == n && !op->allow_overflow)
            *bad = i / (count / n);
    }
}

enum dtype op_chain_type(const struct op *op, size_t n_ops, enum dtype from)
{
    for (size_t i = 0; i < n_ops && from != DT_NONE; i++) {
        enum dtype_kind k = dtype_info(from)->kind;
        bool ok = k != DK_BLOCK;
        switch (op[i].kind) {
        case OP_UNPACK:
            ok = !ok;
            from = DT_F32;
            break;
        case OP_CAST:
            ok = ok && (dtype_is_block(op[i].to) ? from == DT_F32 && block_packs(op[i].to)
                                                 : num_castable(from, op[i].to));
            from = op[i].to;
            break;
        case OP_ADD:
            ok = ok && k != DK_BOOL && from != DT_F8_E8M0FNU;
            break;
        case OP_MUL:
            ok = ok && k == DK_FLOAT && dtype_info(op[i].to)->kind == DK_FLOAT;
            break;
        case OP_NEG:
            ok = ok && k != DK_BOOL && k != DK_UINT && from != DT_F8_E8M0FNU;
            break;
        case OP_SCALE:
            ok = ok && (k == DK_FLOAT || k == DK_COMPLEX);
            break;
        case OP_OFFSET:
            ok = ok && k == DK_FLOAT && from != DT_F8_E8M0FNU;
            break;
        }
        if (!ok)
            return DT_NONE;
    }
    return from;
}

/* ---- packing: element i of a packed run lies at bit i * bits, lowest bits first ---- */

void op_unpack(enum dtype t, const uint8_t *p, uint64_t at, uint8_t *dst, size_t n)
{
    unsigned bits = dtype_info(t)->bits, mask = (1u << bits) - 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = (at + i) * bits;
        unsigned v = p[bit / 8], shift = (unsigned)(bit % 8);
        if (shift + bits > 8)
            v |= (unsigned)p[bit / 8 + 1] << 8;
        dst[i] = (uint8_t)(v >> shift & mask);
    }
}

void op_tidy(enum dtype t, uint8_t *p, size_t n)
{
    const struct dtype_info *d = dtype_info(t);
    if (d->bits >= 8)
        return;
    unsigned mask = (1u << d->bits) - 1;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(p[i] & mask);
}

void op_pack(enum dtype t, const uint8_t *src, uint8_t *dst, size_t n)
{
    unsigned bits = dtype_info(t)->bits, mask = (1u << bits) - 1, acc = 0, have = 0;
    for (size_t i = 0; i < n; i++) {
        acc |= (src[i] & mask) << have;
        have += bits;
        if (have >= 8) {
            *dst++ = (uint8_t)acc;
            acc >>= 8;
            have -= 8;
        }
    }
    if (have > 0)
        *dst = (uint8_t)acc;
}
