/* Counting by bit planes: 64 bytes at a time become eight rows of bits (a bit matrix transposed in
 * each eight bytes), a value's occurrences are the ones in an AND of eight rows or their
 * complements. Values are taken eight at a time by their upper five bits, and those that do not
 * occur in a tile cost next to nothing. Needs CPU_VBMI.
 */
#include "codec/huffman_impl.h"
#include <immintrin.h>

#define ROUNDS 16 /* of 512 bytes, one register a plane */
#define TILE (ROUNDS * 512u)

typedef __m512i planes[8][ROUNDS];

/* 512 bytes into one register per bit; where a byte ends up is the same in all. */
static inline __attribute__((always_inline)) void gather(const uint8_t *p, planes x, int r)
{
    const __m512i each = _mm512_set1_epi64((long long)0x8040201008040201);
    /* byte k of every eight together */
    const __m512i by_bit = _mm512_set_epi64(
        0x3f372f271f170f07, 0x3e362e261e160e06, 0x3d352d251d150d05, 0x3c342c241c140c04,
        0x3b332b231b130b03, 0x3a322a221a120a02, 0x3931292119110901, 0x3830282018100800);
    __m512i a[8], b[8];
    for (int i = 0; i < 8; i++) {
        a[i] = _mm512_loadu_si512(p + 64 * i);
        /* matrix times identity: row k of the result holds bit k of the eight bytes */
        a[i] = _mm512_gf2p8affine_epi64_epi8(each, a[i], 0);
        a[i] = _mm512_permutexvar_epi8(by_bit, a[i]);
    }
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 8; j += 4) {
            a[i + j] = _mm512_shuffle_i64x2(b[i + j], b[i + j + 2], 0x88);
            a[i + j + 2] = _mm512_shuffle_i64x2(b[i + j], b[i + j + 2], 0xdd);
        }
    for (int i = 0; i < 4; i++) {
        x[i][r] = _mm512_shuffle_i64x2(a[i], a[i + 4], 0x88);
        x[i + 4][r] = _mm512_shuffle_i64x2(a[i], a[i + 4], 0xdd);
    }
}

/* All ones where bit k of v is clear: what a row is XORed with. */
static inline __attribute__((always_inline)) __m512i turn(unsigned v, unsigned k)
{
    return _mm512_set1_epi64(v >> k & 1 ? 0 : -1);
}

#define AND_XOR 0x60 /* a & (b ^ c) */

/* The eight values with bits 3 to 5 as in `mid`, of the bytes that `in` holds a one for. */
static inline __attribute__((always_inline)) void eight(planes x, planes low, const __m512i *in,
                                                        unsigned mid, uint32_t *count)
{
    __m512i t3 = turn(mid, 0), t4 = turn(mid, 1), t5 = turn(mid, 2);
    __m512i m[ROUNDS], any = _mm512_setzero_si512();
    for (int r = 0; r < ROUNDS; r++) {
        __m512i v = _mm512_ternarylogic_epi64(in[r], x[3][r], t3, AND_XOR);
        v = _mm512_ternarylogic_epi64(v, x[4][r], t4, AND_XOR);
        m[r] = _mm512_ternarylogic_epi64(v, x[5][r], t5, AND_XOR);
        any = _mm512_or_si512(any, m[r]);
    }
    if (_mm512_test_epi64_mask(any, any) == 0)
        return;
    for (unsigned c = 0; c < 8; c++) {
        __m512i sum = _mm512_setzero_si512();
        for (int r = 0; r < ROUNDS; r++)
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_and_si512(m[r], low[c][r])));
        count[c] += (uint32_t)_mm512_reduce_add_epi64(sum);
    }
}

static void tile(const uint8_t *p, uint32_t count[256])
{
    planes x, low;
    for (int r = 0; r < ROUNDS; r++) {
        gather(p + 512 * r, x, r);
        __m512i ones = _mm512_set1_epi64(-1);
        __m512i n0 = _mm512_xor_si512(x[0][r], ones);
        __m512i a = x[1][r], b = x[2][r];
        __m512i c00 = _mm512_ternarylogic_epi64(a, b, b, 0x03), c10 = _mm512_andnot_si512(b, a),
                c01 = _mm512_andnot_si512(a, b), c11 = _mm512_and_si512(a, b);
        low[0][r] = _mm512_and_si512(n0, c00);
        low[1][r] = _mm512_and_si512(x[0][r], c00);
        low[2][r] = _mm512_and_si512(n0, c10);
        low[3][r] = _mm512_and_si512(x[0][r], c10);
        low[4][r] = _mm512_and_si512(n0, c01);
        low[5][r] = _mm512_and_si512(x[0][r], c01);
        low[6][r] = _mm512_and_si512(n0, c11);
        low[7][r] = _mm512_and_si512(x[0][r], c11);
    }
    for (unsigned top = 0; top < 4; top++) {
        __m512i t6 = turn(top, 0), t7 = turn(top, 1), any = _mm512_setzero_si512();
        __m512i in[ROUNDS];
        for (int r = 0; r < ROUNDS; r++) {
            in[r] = _mm512_ternarylogic_epi64(_mm512_xor_si512(x[6][r], t6), x[7][r], t7, AND_XOR);
            any = _mm512_or_si512(any, in[r]);
        }
        if (_mm512_test_epi64_mask(any, any) != 0)
            for (unsigned mid = 0; mid < 8; mid++)
                eight(x, low, in, mid, count + top * 64 + mid * 8);
    }
}

void histogram_avx512(const uint8_t *p, size_t n, uint32_t count[256])
{
    size_t tail = n % TILE;
    histogram_plain(p + n - tail, tail, count);
    for (n -= tail; n > 0; n -= TILE)
        tile(p + n - TILE, count);
}
