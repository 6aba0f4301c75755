/* Making the tables and reading the four streams of a block, written once and compiled for two
 * instruction sets by including this file with NAME(f) set.
 *
 * A stream is read from its end. Its next bits stand at the top of a word; the lowest one bit of
 * the word is a mark, which moves up as bits are used: its place says how many were.
 */
#define SIZE (1u << HUF_BITS)

/* one: each code at all numbers that begin with it. many: as many symbols as the bits hold, twice
 * doubled. */
static void NAME(tables)(struct huf_decoder *d)
{
    uint32_t one[SIZE], two[SIZE];
    for (unsigned s = 0; s < 256; s++) {
        unsigned len = d->code.len[s];
        if (len == 0)
            continue;
        unsigned first = (unsigned)(d->code.lo[s] | d->code.hi[s] << 8) << (HUF_BITS - len);
        for (unsigned i = 0; i < SIZE >> len; i++)
            one[first + i] = s | len << 8;
    }
    for (unsigned i = 0; i < SIZE; i++)
        d->one[i] = (uint16_t)one[i];
    for (unsigned i = 0; i < SIZE; i++) { /* symbols, from bit 16 bits used, from bit 24 how many */
        unsigned a = one[i], used = a >> 8, b = one[i << used & (SIZE - 1)];
        unsigned both = used + (b >> 8);
        unsigned yes = (a & 255) | (b & 255) << 8 | both << 16 | 2u << 24;
        unsigned no = (a & 255) | used << 16 | 1u << 24;
        two[i] = both <= HUF_BITS ? yes : no;
    }
    for (unsigned i = 0; i < SIZE; i++) {
        uint32_t a = two[i], used = a >> 16 & 255, n = a >> 24, rest = i << used & (SIZE - 1);
        uint32_t b = two[rest], c = one[rest], with_b = used + (b >> 16 & 255);
        uint32_t with_c = used + (c >> 8);
        uint32_t symbols = (a & 0xffff) | b << 16; /* those behind the n are never looked at */
        uint32_t more = with_b | (n + (b >> 24)) << 8, one_more = with_c | (n + 1) << 8;
        uint32_t few = with_c <= HUF_BITS ? one_more : used | n << 8;
        d->many[i] = (uint64_t)symbols << 32 | (with_b <= HUF_BITS ? more : few);
    }
}

struct NAME(stream) {
    uint64_t bits;
    const uint8_t *p, *start; /* the word's place; the stream's */
    uint8_t *to, *end;
};

static inline bool NAME(open)(struct NAME(stream) * x, const uint8_t *p, size_t size, uint8_t *to,
                              size_t n)
{
    if (size < 8 || p[size - 1] == 0)
        return false;
    *x = (struct NAME(stream)){.p = p + size - 8, .start = p, .to = to, .end = to + n};
    memcpy(&x->bits, x->p, 8);
    x->bits = (x->bits | 1) << (__builtin_clz(p[size - 1]) - 24 + 1);
    return true;
}

static inline bool NAME(room)(const struct NAME(stream) * x)
{
    return x->p - x->start >= 8 && x->end - x->to >= 24;
}

/* Up to four symbols; 11 bits at most. */
static inline void NAME(step)(const struct huf_decoder *d, struct NAME(stream) * x)
{
    uint64_t e = d->many[x->bits >> (64 - HUF_BITS)];
    uint32_t symbols = (uint32_t)(e >> 32);
    memcpy(x->to, &symbols, 4);
    x->bits <<= e & 63;
    x->to += e >> 8 & 255;
}

static inline void NAME(refill)(struct NAME(stream) * x)
{
    unsigned used = (unsigned)__builtin_ctzll(x->bits);
    x->p -= used >> 3;
    memcpy(&x->bits, x->p, 8);
    x->bits = (x->bits | 1) << (used & 7);
}

static inline void NAME(five)(const struct huf_decoder *d, struct NAME(stream) * x)
{
    for (int i = 0; i < 5; i++)
        NAME(step)(d, x);
    NAME(refill)(x);
}

/* The last symbols one by one, with every bit counted. */
static bool NAME(last)(const struct huf_decoder *d, struct NAME(stream) * x)
{
    while (NAME(room)(x))
        NAME(five)(d, x);
    size_t left = (size_t)(x->p - x->start + 8) * 8 - (unsigned)__builtin_ctzll(x->bits);
    while (x->to < x->end) {
        unsigned v = 0;
        for (size_t i = 0; i < HUF_BITS; i++) { /* bits before the stream count as zero */
            size_t at = left - 1 - i;
            v = v << 1 | (left > i ? (unsigned)x->start[at / 8] >> at % 8 & 1 : 0);
        }
        unsigned one = d->one[v];
        if (one >> 8 > left)
            return false;
        left -= one >> 8;
        *x->to++ = (uint8_t)one;
    }
    return left == 0;
}

static bool NAME(streams)(const struct huf_decoder *d, const uint8_t *src, const size_t size[4],
                          uint8_t *dst, size_t n)
{
    struct NAME(stream) a, b, c, e;
    size_t each = (n + 3) / 4;
    const uint8_t *p1 = src + size[0], *p2 = p1 + size[1], *p3 = p2 + size[2];
    if (!NAME(open)(&a, src, size[0], dst, each) ||
        !NAME(open)(&b, p1, size[1], dst + each, each) ||
        !NAME(open)(&c, p2, size[2], dst + 2 * each, each) ||
        !NAME(open)(&e, p3, size[3], dst + 3 * each, n - 3 * each))
        return false;
    while (NAME(room)(&a) && NAME(room)(&b) && NAME(room)(&c) && NAME(room)(&e)) {
        for (int i = 0; i < 5; i++) {
            NAME(step)(d, &a);
            NAME(step)(d, &b);
            NAME(step)(d, &c);
            NAME(step)(d, &e);
        }
        NAME(refill)(&a);
        NAME(refill)(&b);
        NAME(refill)(&c);
        NAME(refill)(&e);
    }
    return NAME(last)(d, &a) && NAME(last)(d, &b) && NAME(last)(d, &c) && NAME(last)(d, &e);
}

const struct huf_reader NAME(huf_reader) = {NAME(tables), NAME(streams)};
#undef NAME
#undef SIZE
