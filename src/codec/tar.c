/* The one header. Byte map: name 0/100, mode 100/8, uid 108/8, gid 116/8, size 124/12, mtime
 * 136/12, chksum 148/8, typeflag 156, magic 257/6, version 263/2, devmajor 329/8, devminor 337/8,
 * prefix 345/155.
 */
#include "codec/tar.h"
#include <string.h>

#define OCTAL_MAX 077777777777ull

static void octal(uint8_t *p, size_t digits, uint64_t v)
{
    for (size_t i = digits; i > 0; i--, v >>= 3)
        p[i - 1] = (uint8_t)('0' + (v & 7));
}

bool tar_header(uint8_t h[TAR_BLOCK], struct str name, uint64_t size)
{
    memset(h, 0, TAR_BLOCK);
    size_t cut = 0; /* the name's bytes before a '/' that go to the prefix */
    if (name.n == 0 || memchr(name.p, 0, name.n))
        return false;
    if (name.n > 100) {
        for (cut = name.n - 1 < 155 ? name.n - 1 : 155; cut > 0; cut--)
            if (name.p[cut] == '/')
                break;
        if (cut == 0 || name.n - cut - 1 > 100 || name.n - cut - 1 == 0)
            return false;
        memcpy(h + 345, name.p, cut);
        cut++;
    }
    memcpy(h, name.p + cut, name.n - cut);
    memcpy(h + 100, "0000644", 7);
    memcpy(h + 108, "0000000", 7);
    memcpy(h + 116, "0000000", 7);
    if (size <= OCTAL_MAX) {
        octal(h + 124, 11, size);
    } else {
        h[124] = 0x80;
        for (int i = 0; i < 8; i++)
            h[135 - i] = (uint8_t)(size >> 8 * i);
    }
    memcpy(h + 136, "00000000000", 11);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257, "ustar\00000", 8);
    memcpy(h + 329, "0000000", 7);
    memcpy(h + 337, "0000000", 7);
    uint64_t sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += h[i];
    octal(h + 148, 6, sum);
    h[154] = 0;
    return true;
}

bool tar_size(const uint8_t h[TAR_BLOCK], uint64_t *size)
{
    uint64_t v = 0;
    if (h[124] == 0x80) {
        if (h[125] != 0 || h[126] != 0 || h[127] != 0)
            return false;
        for (int i = 128; i < 136; i++)
            v = v << 8 | h[i];
        *size = v;
        return v > OCTAL_MAX;
    }
    for (int i = 124; i < 135; i++) {
        if (h[i] < '0' || h[i] > '7')
            return false;
        v = v << 3 | (uint64_t)(h[i] - '0');
    }
    *size = v;
    return h[135] == 0;
}
