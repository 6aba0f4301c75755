/* Huffman codes: lengths from counts, limited; the codes zstd gives to lengths; and their
 * description, directly or through FSE (RFC 8878, 4.1 and 4.2.1), whichever is shorter.
 */
#include "codec/huffman.h"
#include <string.h>

/* ---- lengths ---- */

/* Ascending. Keys differ. */
static void sort(uint32_t *v, unsigned n)
{
    static const unsigned gaps[] = {57, 23, 10, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++)
        for (unsigned gap = gaps[g], i = gap; i < n; i++) {
            uint32_t x = v[i];
            unsigned j = i;
            for (; j >= gap && v[j - gap] > x; j -= gap)
                v[j] = v[j - gap];
            v[j] = x;
        }
}

/* Lengths of Huffman's tree over n >= 2 leaves in ascending order of weight. */
static void tree(const uint32_t *leaf, unsigned n, uint8_t *len)
{
    uint32_t weight[256];
    uint16_t up_leaf[256] = {0}, up[256] = {0};
    uint8_t depth[256];
    unsigned l = 0, k = 0, made = 0;
    for (; made < n - 1; made++) {
        uint32_t sum = 0;
        for (int i = 0; i < 2; i++)
            if (k == made || (l < n && leaf[l] <= weight[k])) {
                sum += leaf[l];
                up_leaf[l++] = (uint16_t)made;
            } else {
                sum += weight[k];
                up[k++] = (uint16_t)made;
            }
        weight[made] = sum;
    }
    depth[made - 1] = 0;
    for (unsigned i = made - 1; i-- > 0;)
        depth[i] = (uint8_t)(depth[up[i]] + 1);
    for (unsigned i = 0; i < n; i++)
        len[i] = (uint8_t)(depth[up_leaf[i]] + 1);
}

/* The best lengths of at most HUF_BITS, for leaves as above: package-merge. Each round pairs what
 * the round before left into packages and merges them with the leaves; the cheapest 2n - 2 of the
 * last round are taken, their packages opened, and a leaf's length is how often it was taken. */
static void limited(const uint32_t *leaf, unsigned n, uint8_t *len)
{
    uint32_t weight[2][512];
    bool package[HUF_BITS][512];
    unsigned size = 0;
    for (unsigned r = 0; r < HUF_BITS; r++) {
        const uint32_t *old = weight[(r + 1) & 1];
        uint32_t *now = weight[r & 1];
        unsigned l = 0, k = 0, n_packages = size / 2;
        for (size = 0; l < n || k < n_packages; size++) {
            uint32_t pair = k < n_packages ? old[2 * k] + old[2 * k + 1] : UINT32_MAX;
            package[r][size] = l == n || pair < leaf[l];
            now[size] = package[r][size] ? pair : leaf[l];
            if (package[r][size])
                k++;
            else
                l++;
        }
    }
    memset(len, 0, n);
    unsigned take = 2 * n - 2;
    for (unsigned r = HUF_BITS; r-- > 0;) {
        unsigned n_leaves = 0;
        for (unsigned i = 0; i < take; i++)
            n_leaves += !package[r][i];
        for (unsigned i = 0; i < n_leaves; i++)
            len[i]++;
        take = 2 * (take - n_leaves);
    }
}

/* Codes by length: the longest lengths take the lowest numbers, symbols in order. */
static void number(struct huf_code *c)
{
    unsigned n[HUF_BITS + 2] = {0}, next[HUF_BITS + 2];
    for (int s = 0; s < 256; s++)
        n[c->len[s]]++;
    unsigned first = 0;
    for (unsigned l = c->top; l > 0; l--) {
        next[l] = first;
        first = (first + n[l]) >> 1;
    }
    for (int s = 0; s < 256; s++) {
        unsigned v = c->len[s] > 0 ? next[c->len[s]]++ : 0;
        c->lo[s] = (uint8_t)v;
        c->hi[s] = (uint8_t)(v >> 8);
    }
}

void huf_build(const uint32_t count[256], struct huf_code *c)
{
    uint32_t key[256];
    uint8_t symbol[256], len[256] = {0};
    unsigned n = 0;
    for (uint32_t s = 0; s < 256; s++)
        if (count[s] > 0)
            key[n++] = count[s] << 8 | s;
    sort(key, n);
    for (unsigned i = 0; i < n; i++) {
        symbol[i] = (uint8_t)key[i];
        key[i] >>= 8;
    }
    tree(key, n, len);
    if (len[0] > HUF_BITS)
        limited(key, n, len);
    memset(c, 0, sizeof *c);
    for (unsigned i = 0; i < n; i++) {
        c->len[symbol[i]] = len[i];
        if (len[i] > c->top)
            c->top = len[i];
    }
    number(c);
}

/* ---- description ---- */

#define WEIGHTS 12 /* values of a weight: 0 to HUF_BITS */
#define FSE_MAX 6
#define FSE_MIN 5

struct bits {
    uint8_t *p;
    size_t n, cap; /* bits written; bytes there are */
    uint64_t acc;  /* those that fill no byte yet, n % 8 of them */
};
static void put(struct bits *b, unsigned v, unsigned len)
{
    unsigned have = b->n % 8;
    size_t at = b->n / 8;
    b->acc |= (uint64_t)v << have;
    b->n += len;
    for (have += len; have >= 8; have -= 8, at++) {
        if (at < b->cap) /* too long: the caller sees it by n */
            b->p[at] = (uint8_t)b->acc;
        b->acc >>= 8;
    }
}
static void flush(struct bits *b)
{
    if (b->n % 8 != 0)
        put(b, 0, 8 - b->n % 8);
}

static unsigned log2_floor(unsigned v)
{
    return 31u - (unsigned)__builtin_clz(v);
}

/* Shares of 1 << log among the values that occur, each at least one. */
static bool shares(const unsigned *count, unsigned total, unsigned log, unsigned *share)
{
    unsigned sum = 0, big = 0, size = 1u << log;
    for (unsigned s = 0; s < WEIGHTS; s++) {
        share[s] = count[s] == 0 ? 0 : (count[s] * size + total / 2) / total;
        if (count[s] > 0 && share[s] == 0)
            share[s] = 1;
        sum += share[s];
        if (share[s] > share[big])
            big = s;
    }
    if (sum > size && share[big] <= sum - size) /* would leave it none */
        return false;
    share[big] = share[big] + size - sum;
    return share[big] < size;
}

static void put_shares(struct bits *b, const unsigned *share, unsigned log)
{
    unsigned left = 1u << log;
    put(b, log - FSE_MIN, 4);
    for (unsigned s = 0; left > 0;) {
        /* a number 0 to left + 1; the low ones take a bit less */
        unsigned v = share[s] + 1, wide = log2_floor(left + 1) + 1;
        unsigned low = (1u << wide) - 1 - (left + 1);
        if (v < low)
            put(b, v, wide - 1);
        else
            put(b, v < 1u << (wide - 1) ? v : v + low, wide);
        left -= share[s++];
        if (v != 1)
            continue;
        unsigned none = 0;
        while (share[s + none] == 0)
            none++;
        s += none;
        for (; none >= 3; none -= 3)
            put(b, 3, 2);
        put(b, none, 2);
    }
}

/* FSE with two states taking turns, written from the last weight to the first. */
static void put_weights(struct bits *b, const uint8_t *w, unsigned n, const unsigned *share,
                        unsigned log)
{
    unsigned size = 1u << log, first[WEIGHTS], at = 0, state[2] = {0, 0};
    uint8_t cell[1 << FSE_MAX] = {0}, place[1 << FSE_MAX];
    for (unsigned s = 0; s < WEIGHTS; s++)
        for (unsigned i = 0; i < share[s]; i++) {
            cell[at] = (uint8_t)s;
            at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
        }
    unsigned sum = 0, next[WEIGHTS];
    for (unsigned s = 0; s < WEIGHTS; s++) {
        next[s] = first[s] = sum;
        sum += share[s];
    }
    for (unsigned i = 0; i < size; i++) /* place: the cells of each value, in order */
        place[next[cell[i]]++] = (uint8_t)i;
    for (unsigned i = n; i-- > 0;) {
        unsigned s = w[i], *x = &state[i & 1];
        if (i + 2 >= n) { /* its first cell, which always asks for a bit: the reader sees the end */
            *x = size + place[first[s]];
            continue;
        }
        unsigned len = log - log2_floor(share[s]);
        if (*x >> len < share[s])
            len--;
        put(b, *x & ((1u << len) - 1), len);
        *x = size + place[first[s] + (*x >> len) - share[s]];
    }
    put(b, state[1] - size, log);
    put(b, state[0] - size, log);
    put(b, 1, 1);
    flush(b);
}

/* Bytes, or 0: no description of this kind, or none below cap. */
static size_t by_fse(const uint8_t *w, unsigned n, unsigned log, uint8_t *dst, size_t cap)
{
    unsigned count[WEIGHTS] = {0}, share[WEIGHTS];
    if (n < 3)
        return 0;
    for (unsigned i = 0; i < n; i++)
        count[w[i]]++;
    if (!shares(count, n, log, share))
        return 0;
    struct bits b = {.p = dst, .cap = cap};
    put_shares(&b, share, log);
    flush(&b);
    put_weights(&b, w, n, share, log);
    return b.n / 8 < cap ? b.n / 8 : 0;
}

size_t huf_describe(const struct huf_code *c, uint8_t *dst)
{
    uint8_t w[256];
    unsigned n = 256;
    while (c->len[n - 1] == 0)
        n--;
    n--; /* the last one's weight is what is left */
    for (unsigned s = 0; s < n; s++)
        w[s] = (uint8_t)(c->len[s] > 0 ? c->top + 1 - c->len[s] : 0);
    size_t size = 0;
    for (unsigned log = FSE_MIN; log <= FSE_MAX; log++) {
        uint8_t tmp[128];
        size_t r = by_fse(w, n, log, tmp, sizeof tmp);
        if (r > 0 && (size == 0 || r + 1 < size)) {
            dst[0] = (uint8_t)r;
            memcpy(dst + 1, tmp, r);
            size = r + 1;
        }
    }
    if (n <= 128 && (size == 0 || (n + 1) / 2 + 1 <= size)) {
        w[n] = 0;
        dst[0] = (uint8_t)(127 + n);
        for (unsigned i = 0; i < n; i += 2)
            dst[1 + i / 2] = (uint8_t)(w[i] << 4 | w[i + 1]);
        size = (n + 1) / 2 + 1;
    }
    return size;
}

/* ---- and back ---- */

/* The `len` bits that end at bit `end`, those below bit 0 taken as zero. */
static unsigned bits_before(const uint8_t *p, size_t end, unsigned len)
{
    unsigned v = 0;
    for (unsigned i = 0; i < len; i++) {
        size_t at = end - 1 - i;
        v = v << 1 | (end > i ? (unsigned)p[at / 8] >> at % 8 & 1 : 0);
    }
    return v;
}

/* Shares and their bytes; 0 where they are none of put_shares's. */
static size_t get_shares(const uint8_t *p, size_t size, unsigned *share, unsigned *log)
{
    size_t at = 4;
    unsigned s = 0;
    *log = FSE_MIN + (p[0] & 15u);
    if (*log > FSE_MAX)
        return 0;
    memset(share, 0, WEIGHTS * sizeof *share);
    for (unsigned left = 1u << *log; left > 0;) {
        unsigned wide = log2_floor(left + 1) + 1, low = (1u << wide) - 1 - (left + 1);
        if (s >= WEIGHTS || at + wide > size * 8)
            return 0;
        unsigned v = bits_before(p, at + wide, wide), half = v & ((1u << (wide - 1)) - 1);
        at += half < low ? wide - 1 : wide;
        v = half < low ? half : v >= 1u << (wide - 1) ? v - low : v;
        if (v == 0 || v - 1 > left)
            return 0;
        share[s++] = v - 1;
        left -= v - 1;
        for (unsigned none = v == 1 ? 3 : 0; none == 3; s += none) {
            if (at + 2 > size * 8)
                return 0;
            none = bits_before(p, at + 2, 2);
            at += 2;
        }
    }
    return (at + 7) / 8;
}

static unsigned get_weights(const uint8_t *p, size_t size, const unsigned *share, unsigned log,
                            uint8_t *w)
{
    unsigned cells = 1u << log, at = 0, state[2], n = 0, next[WEIGHTS];
    uint8_t cell[1 << FSE_MAX], len[1 << FSE_MAX], base[1 << FSE_MAX];
    if (size == 0 || p[size - 1] == 0)
        return 0;
    for (unsigned s = 0; s < WEIGHTS; s++) {
        next[s] = share[s];
        for (unsigned i = 0; i < share[s]; i++) {
            cell[at] = (uint8_t)s;
            at = (at + (cells >> 1) + (cells >> 3) + 3) & (cells - 1);
        }
    }
    for (unsigned i = 0; i < cells; i++) {
        unsigned x = next[cell[i]]++;
        len[i] = (uint8_t)(log - log2_floor(x));
        base[i] = (uint8_t)((x << len[i]) - cells);
    }
    size_t end = (size - 1) * 8 + log2_floor(p[size - 1]);
    if (end < 2 * log)
        return 0;
    state[0] = bits_before(p, end, log);
    state[1] = bits_before(p, end - log, log);
    for (end -= 2 * log; n < 254; n++) {
        unsigned *x = &state[n & 1];
        w[n] = cell[*x];
        if (len[*x] > end) {
            w[n + 1] = cell[state[(n + 1) & 1]];
            return n + 2;
        }
        unsigned more = bits_before(p, end, len[*x]);
        end -= len[*x];
        *x = base[*x] + more;
    }
    return 0;
}

size_t huf_recall(const uint8_t *src, size_t size, struct huf_code *c)
{
    uint8_t w[256], text[HUF_DESCRIBED];
    unsigned n = 0, share[WEIGHTS], log, sum = 0;
    if (size == 0)
        return 0;
    size_t bytes = src[0] < 128 ? src[0] + 1u : (src[0] - 127u + 1) / 2 + 1;
    if (bytes > size || bytes < 2)
        return 0;
    if (src[0] < 128) {
        size_t head = get_shares(src + 1, bytes - 1, share, &log);
        if (head == 0 || head >= bytes - 1)
            return 0;
        n = get_weights(src + 1 + head, bytes - 1 - head, share, log, w);
    } else {
        for (; n < src[0] - 127u; n++)
            w[n] = src[1 + n / 2] >> (n % 2 ? 0 : 4) & 15;
    }
    for (unsigned i = 0; i < n; i++) {
        if (w[i] > HUF_BITS)
            return 0;
        sum += w[i] > 0 ? 1u << (w[i] - 1) : 0;
    }
    if (sum == 0)
        return 0;
    memset(c, 0, sizeof *c);
    c->top = log2_floor(sum) + 1;
    unsigned rest = (1u << c->top) - sum;
    if (c->top > HUF_BITS || (rest & (rest - 1)) != 0)
        return 0;
    bool longest = rest == 1; /* a code of the length that weights count from */
    for (unsigned i = 0; i < n; i++) {
        c->len[i] = (uint8_t)(w[i] > 0 ? c->top + 1 - w[i] : 0);
        longest |= w[i] == 1;
    }
    if (!longest)
        return 0;
    c->len[n] = (uint8_t)(c->top - log2_floor(rest));
    number(c);
    return huf_describe(c, text) == bytes && memcmp(text, src, bytes) == 0 ? bytes : 0;
}
