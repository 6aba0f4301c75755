/* SHA-256: the scalar rounds, the incremental form, the tree, and the choice among variants.
 * Vector variants live in sha256_x86.c and sha256_arm.c; all give equal results.
 */
#include "codec/sha256.h"
#include "base/cpu.h"
#include "codec/sha256_impl.h"
#include <string.h>

const uint32_t sha256_h0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
const uint32_t sha256_k[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t ror(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}
static inline uint32_t load_be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void store_be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* One round; the caller rotates the names instead of the values. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                           \
    do {                                                                                           \
        uint32_t t1 =                                                                              \
            h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + sha256_k[i] + w[i];  \
        d += t1;                                                                                   \
        h = t1 + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b)));                \
    } while (0)

void sha256_blocks_scalar(uint32_t s[8], const uint8_t *p, size_t n)
{
    for (; n > 0; n--, p += 64) {
        uint32_t w[64];
        for (int i = 0; i < 16; i++)
            w[i] = load_be(p + 4 * i);
        for (int i = 16; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (ror(x, 7) ^ ror(x, 18) ^ x >> 3) + w[i - 7] +
                   (ror(y, 17) ^ ror(y, 19) ^ y >> 10);
        }
        uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        for (int i = 0; i < 64; i += 8) {
            ROUND(a, b, c, d, e, f, g, h, i);
            ROUND(h, a, b, c, d, e, f, g, i + 1);
            ROUND(g, h, a, b, c, d, e, f, i + 2);
            ROUND(f, g, h, a, b, c, d, e, i + 3);
            ROUND(e, f, g, h, a, b, c, d, i + 4);
            ROUND(d, e, f, g, h, a, b, c, i + 5);
            ROUND(c, d, e, f, g, h, a, b, i + 6);
            ROUND(b, c, d, e, f, g, h, a, i + 7);
        }
        s[0] += a;
        s[1] += b;
        s[2] += c;
        s[3] += d;
        s[4] += e;
        s[5] += f;
        s[6] += g;
        s[7] += h;
    }
}

static void blocks(uint32_t h[8], const uint8_t *p, size_t n)
{
#if defined(__x86_64__)
    if (cpu_have() & CPU_SHA) {
        sha256_blocks_shani(h, p, n);
        return;
    }
#elif defined(__aarch64__)
    if (cpu_have() & CPU_SHA) {
        sha256_blocks_arm(h, p, n);
        return;
    }
#endif
    sha256_blocks_scalar(h, p, n);
}

void sha256_begin(struct sha256 *s)
{
    memcpy(s->h, sha256_h0, sizeof s->h);
    s->n_bytes = 0;
}

void sha256_add(struct sha256 *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t have = (size_t)(s->n_bytes % 64);
    s->n_bytes += n;
    if (n == 0)
        return;
    if (have > 0) {
        size_t take = n < 64 - have ? n : 64 - have;
        memcpy(s->tail + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64)
            return;
        blocks(s->h, s->tail, 1);
    }
    blocks(s->h, p, n / 64);
    memcpy(s->tail, p + n / 64 * 64, n % 64);
}

/* The padding that ends a message of n bytes, at the end of have bytes of buffered tail. */
static size_t pad(uint8_t *tail, size_t have, uint64_t n_bytes)
{
    size_t total = have < 56 ? 64 : 128;
    tail[have] = 0x80;
    memset(tail + have + 1, 0, total - 8 - have - 1);
    store_be(tail + total - 8, (uint32_t)(n_bytes >> 29));
    store_be(tail + total - 4, (uint32_t)(n_bytes << 3));
    return total / 64;
}

void sha256_end(struct sha256 *s, uint8_t out[32])
{
    uint8_t last[128];
    size_t have = (size_t)(s->n_bytes % 64);
    memcpy(last, s->tail, have);
    blocks(s->h, last, pad(last, have, s->n_bytes));
    for (int i = 0; i < 8; i++)
        store_be(out + 4 * i, s->h[i]);
}

void sha256(const void *p, size_t n, uint8_t out[32])
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, p, n);
    sha256_end(&s, out);
}

#if defined(__x86_64__)
static size_t leaves16(const uint8_t *p, size_t n_leaves, size_t leaf, uint8_t (*out)[32])
{
    uint8_t last[64];
    size_t done = 0;
    (void)pad(last, 0, leaf);
    for (; n_leaves - done >= 16; done += 16) {
        uint32_t h[8][16] __attribute__((aligned(64)));
        for (int i = 0; i < 8; i++)
            for (int l = 0; l < 16; l++)
                h[i][l] = sha256_h0[i];
        sha256_lanes16_avx512(h, p + done * leaf, leaf, leaf / 64);
        sha256_lanes16_avx512(h, last, 0, 1);
        for (int l = 0; l < 16; l++)
            for (int i = 0; i < 8; i++)
                store_be(out[done + (size_t)l] + 4 * i, h[i][l]);
    }
    return done;
}

static size_t leaves8(const uint8_t *p, size_t n_leaves, size_t leaf, uint8_t (*out)[32])
{
    uint8_t last[64];
    size_t done = 0;
    (void)pad(last, 0, leaf);
    for (; n_leaves - done >= 8; done += 8) {
        uint32_t h[8][8] __attribute__((aligned(32)));
        for (int i = 0; i < 8; i++)
            for (int l = 0; l < 8; l++)
                h[i][l] = sha256_h0[i];
        sha256_lanes8_avx2(h, p + done * leaf, leaf, leaf / 64);
        sha256_lanes8_avx2(h, last, 0, 1);
        for (int l = 0; l < 8; l++)
            for (int i = 0; i < 8; i++)
                store_be(out[done + (size_t)l] + 4 * i, h[i][l]);
    }
    return done;
}

typedef void ni_fn(uint32_t (*h)[8], const uint8_t *p, size_t stride, size_t n);
static size_t leaves_ni(ni_fn *fn, size_t n_lanes, const uint8_t *p, size_t n_leaves, size_t leaf,
                        uint8_t (*out)[32])
{
    uint8_t last[64];
    size_t done = 0;
    (void)pad(last, 0, leaf);
    for (; n_leaves - done >= n_lanes; done += n_lanes) {
        uint32_t h[4][8];
        for (size_t l = 0; l < n_lanes; l++)
            memcpy(h[l], sha256_h0, sizeof h[l]);
        fn(h, p + done * leaf, leaf, leaf / 64);
        fn(h, last, 0, 1);
        for (size_t l = 0; l < n_lanes; l++)
            for (int i = 0; i < 8; i++)
                store_be(out[done + l] + 4 * i, h[l][i]);
    }
    return done;
}

/* Sixteen lanes beat streams of SHA instructions, those beat eight lanes. A leaf alone takes as
 * long as three together, hence threes and fours. */
static size_t leaves_sha(unsigned have, const uint8_t *p, size_t n, size_t leaf, uint8_t (*out)[32])
{
    size_t i = 0;
    if (have & CPU_AVX512) {
        i = leaves16(p, n, leaf, out);
        size_t left = n - i, fours = left % 3; /* as many leave a multiple of three */
        if (left >= 4 * fours)
            i += leaves_ni(sha256_lanes4_shani, 4, p + i * leaf, 4 * fours, leaf, out + i);
        i += leaves_ni(sha256_lanes3_shani, 3, p + i * leaf, n - i, leaf, out + i);
    }
    return i + leaves_ni(sha256_lanes2_shani, 2, p + i * leaf, n - i, leaf, out + i);
}
#endif

void sha256_leaves(const uint8_t *p, size_t n_leaves, size_t leaf_bytes, uint8_t (*out)[32])
{
    size_t i = 0;
#if defined(__x86_64__)
    unsigned have = cpu_have();
    if (leaf_bytes > 0 && leaf_bytes % 64 == 0) {
        if (have & CPU_SHA)
            i = leaves_sha(have, p, n_leaves, leaf_bytes, out);
        else if (have & CPU_AVX512)
            i = leaves16(p, n_leaves, leaf_bytes, out);
        if (!(have & CPU_SHA) && (have & CPU_AVX2))
            i += leaves8(p + i * leaf_bytes, n_leaves - i, leaf_bytes, out + i);
    }
#endif
    for (; i < n_leaves; i++)
        sha256(p + i * leaf_bytes, leaf_bytes, out[i]);
}

void sha256_tree_leaves(const void *data, size_t n, uint8_t (*out)[32])
{
    const uint8_t *p = data;
    size_t whole = n / SHA256_LEAF;
    sha256_leaves(p, whole, SHA256_LEAF, out);
    if (n % SHA256_LEAF != 0)
        sha256(p + whole * SHA256_LEAF, n % SHA256_LEAF, out[whole]);
}

void sha256_tree_begin(struct sha256 *s, uint64_t total_bytes)
{
    uint8_t head[12] = {'n', 'n', 't', '1'};
    for (int i = 0; i < 8; i++)
        head[4 + i] = (uint8_t)(total_bytes >> 8 * i);
    sha256_begin(s);
    sha256_add(s, head, sizeof head);
}

void sha256_tree_add(struct sha256 *s, const uint8_t (*leaf)[32], size_t n_leaves)
{
    sha256_add(s, leaf, n_leaves * 32);
}

void sha256_tree_end(struct sha256 *s, uint8_t out[32])
{
    sha256_end(s, out);
}

void sha256_tree(const void *data, size_t n, uint8_t out[32])
{
    const uint8_t *p = data;
    struct sha256 s;
    uint8_t leaf[16][32];
    const size_t step = 16 * SHA256_LEAF;
    sha256_tree_begin(&s, n);
    for (size_t lo = 0; lo < n; lo += step) {
        size_t m = n - lo < step ? n - lo : step;
        sha256_tree_leaves(p + lo, m, leaf);
        sha256_tree_add(&s, (const uint8_t(*)[32])leaf, (size_t)sha256_tree_n_leaves(m));
    }
    sha256_tree_end(&s, out);
}

void sha256_hex(const uint8_t digest[32], char out[65])
{
    for (int i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[64] = 0;
}
