/* Between huffman.c, histogram.c and their variants for one instruction set. */
#ifndef CODEC_HUFFMAN_IMPL_H
#define CODEC_HUFFMAN_IMPL_H
#include "codec/huffman.h"
#include <string.h>

/* One stream: the symbols of p[0..n) from the last to the first, low bits first, then a one. Stores
 * whole words, so up to 8 bytes behind the returned end are overwritten. most: symbols that usually
 * fit into 56 bits, 4, 8 or 16; a matter of speed only. */
uint8_t *huf_stream_plain(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                          uint8_t *dst);
void histogram_plain(const uint8_t *p, size_t n, uint32_t count[256]);
#if defined(__x86_64__)
uint8_t *huf_stream_avx2(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                         uint8_t *dst);
uint8_t *huf_stream_avx512(const struct huf_code *c, const uint8_t *p, size_t n, unsigned most,
                           uint8_t *dst);
void histogram_avx2(const uint8_t *p, size_t n, uint32_t count[256]);
void histogram_avx512(const uint8_t *p, size_t n, uint32_t count[256]); /* CPU_VBMI */
#endif

struct huf_reader {
    /* From d->code to what the streams are read by. */
    void (*tables)(struct huf_decoder *d);
    /* The four streams of a block at src, of the lengths size[]. */
    bool (*streams)(const struct huf_decoder *d, const uint8_t *src, const size_t size[4],
                    uint8_t *dst, size_t n);
};
extern const struct huf_reader huf_reader_plain;
#if defined(__x86_64__)
extern const struct huf_reader huf_reader_avx2; /* and BMI2 */
#endif

/* Bits, low ones first. n < 8 between calls. */
struct huf_bits {
    uint64_t acc;
    unsigned n;
    uint8_t *p;
};
/* v has `len` bits, at most 56. */
static inline void huf_put(struct huf_bits *b, uint64_t v, unsigned len)
{
    b->acc |= v << b->n;
    b->n += len;
    memcpy(b->p, &b->acc, 8);
    b->p += b->n >> 3;
    b->acc >>= b->n & 0x38;
    b->n &= 7;
}
static inline uint8_t *huf_close(struct huf_bits *b)
{
    huf_put(b, 1, 1);
    return b->p + (b->n > 0);
}
static inline void huf_put_symbols(struct huf_bits *b, const struct huf_code *c, const uint8_t *p,
                                   size_t n)
{
    while (n > 0) {
        uint64_t v = 0;
        unsigned len = 0;
        for (int i = 0; i < 4 && n > 0; i++) {
            unsigned s = p[--n];
            v |= (uint64_t)(c->lo[s] | c->hi[s] << 8) << len;
            len += c->len[s];
        }
        huf_put(b, v, len);
    }
}
#endif
