/* Blocks of Huffman-coded literals, read: the section's header, the tables, and the choice of a
 * reader for the streams.
 */
#include "base/cpu.h"
#include "codec/huffman.h"
#include "codec/huffman_impl.h"

#define NAME(f) f##_plain
#include "codec/huffman_read.h"

#define SIZE (1u << HUF_BITS)

/* one: each code at all numbers that begin with it. many: as many symbols as the bits hold, twice
 * doubled. */
static void make_tables(struct huf_decoder *d)
{
    uint32_t two[SIZE];
    for (unsigned s = 0; s < 256; s++) {
        unsigned len = d->code.len[s];
        if (len == 0)
            continue;
        unsigned first = (unsigned)(d->code.lo[s] | d->code.hi[s] << 8) << (HUF_BITS - len);
        uint16_t v = (uint16_t)(s | len << 8);
        for (unsigned i = 0; i < SIZE >> len; i++)
            d->one[first + i] = v;
    }
    for (unsigned i = 0; i < SIZE; i++) { /* symbols, from bit 16 bits used, from bit 24 how many */
        unsigned a = d->one[i], used = a >> 8, b = d->one[i << used & (SIZE - 1)];
        unsigned both = used + (b >> 8);
        two[i] = both <= HUF_BITS ? (a & 255) | (b & 255) << 8 | both << 16 | 2u << 24
                                  : (a & 255) | used << 16 | 1u << 24;
    }
    for (unsigned i = 0; i < SIZE; i++) {
        uint32_t a = two[i];
        unsigned used = a >> 16 & 255, n = a >> 24, rest = i << used & (SIZE - 1);
        uint32_t b = two[rest], c = d->one[rest];
        uint64_t symbols = a & 0xffff;
        if (used + (b >> 16 & 255) <= HUF_BITS) {
            symbols |= (uint64_t)(b & 0xffff) << 16;
            used += b >> 16 & 255;
            n += b >> 24;
        } else if (used + (c >> 8) <= HUF_BITS) {
            symbols |= (uint64_t)(c & 255) << 16;
            used += c >> 8;
            n++;
        }
        d->many[i] = symbols | (uint64_t)used << 32 | (uint64_t)n << 40;
    }
}

static huf_read_fn *reader(void)
{
#if defined(__x86_64__)
    if (cpu_have() & CPU_AVX2)
        return huf_read_avx2;
#endif
    return huf_read_plain;
}

bool huf_decode(struct huf_decoder *d, const uint8_t *src, size_t stored, uint8_t *dst, size_t n)
{
    uint8_t head[8] = {0};
    uint64_t v;
    memcpy(head, src, stored < 5 ? stored : 5);
    memcpy(&v, head, 8);
    unsigned type = v & 3, format = v >> 2 & 3;
    if (n < HUF_FOUR || type < 2 || format != (n < 1024 ? 1u : n < 16384 ? 2u : 3u))
        return false;
    unsigned width = format == 1 ? 10 : format == 2 ? 14 : 18;
    size_t at = (4 + 2 * width) / 8, coded = v >> (4 + width) & ((1u << width) - 1);
    if ((v >> 4 & ((1u << width) - 1)) != n || at + coded + 1 != stored || src[stored - 1] != 0)
        return false;
    if (type == 2) {
        d->code.top = 0;
        size_t described = huf_recall(src + at, coded, &d->code);
        if (described == 0) {
            d->code.top = 0;
            return false;
        }
        make_tables(d);
        at += described;
        coded -= described;
    } else if (d->code.top == 0) {
        return false;
    }
    size_t size[4], left = coded;
    if (left < 6)
        return false;
    left -= 6;
    for (size_t i = 0; i < 3; i++) {
        size[i] = src[at + 2 * i] | (size_t)src[at + 2 * i + 1] << 8;
        if (size[i] > left)
            return false;
        left -= size[i];
    }
    size[3] = left;
    return reader()(d, src + at + 6, size, dst, n);
}
