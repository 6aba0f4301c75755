/* Blocks of Huffman-coded literals, read: the section's header, the tables, and the choice of a
 * reader for the streams.
 */
#include "base/cpu.h"
#include "codec/huffman.h"
#include "codec/huffman_impl.h"

#define NAME(f) f##_plain
#include "codec/huffman_read.h"

static const struct huf_reader *reader(void)
{
#if defined(__x86_64__)
    if (cpu_have() & CPU_AVX2)
        return &huf_reader_avx2;
#endif
    return &huf_reader_plain;
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
        reader()->tables(d);
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
    return reader()->streams(d, src + at + 6, size, dst, n);
}
