/* See crc.h. Joining multiplies the first sum by x^(8n) modulo the polynomial, by squaring. */
#include "codec/crc.h"
#include <pthread.h>
#include <string.h>

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ CRC32C_POLY : c >> 1;
        table[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
}

uint32_t crc32c_update(uint32_t crc, const void *p, size_t n)
{
    const uint8_t *b = p;
    uint32_t c = ~crc;
    pthread_once(&once, fill);
    for (; n >= 8; n -= 8, b += 8) {
        uint32_t lo, hi;
        memcpy(&lo, b, 4);
        memcpy(&hi, b + 4, 4);
        lo ^= c;
        c = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
            table[4][lo >> 24] ^ table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^
            table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
    }
    for (; n > 0; n--, b++)
        c = c >> 8 ^ table[0][(c ^ *b) & 0xff];
    return ~c;
}

/* a * b modulo the polynomial; bit 31 is x^0 */
static uint32_t multiply(uint32_t poly, uint32_t a, uint32_t b)
{
    uint32_t r = 0;
    for (uint32_t m = UINT32_C(1) << 31; m; m >>= 1) {
        if (a & m)
            r ^= b;
        b = b & 1 ? b >> 1 ^ poly : b >> 1;
    }
    return r;
}

uint32_t crc_join(uint32_t poly, uint32_t a, uint32_t b, uint64_t b_bytes)
{
    uint32_t power = UINT32_C(1) << 23, shift = UINT32_C(1) << 31; /* x^8, x^0 */
    for (uint64_t n = b_bytes; n; n >>= 1) {
        if (n & 1)
            shift = multiply(poly, shift, power);
        power = multiply(poly, power, power);
    }
    return multiply(poly, shift, a) ^ b;
}
