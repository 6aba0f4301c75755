/* The loops of planes_split and planes_merge, written once and compiled for several instruction
 * sets by including this file with NAME(f) and TARGET set: variants cannot differ, and the plain
 * one is the scalar twin.
 */

TARGET static void NAME(split2)(const uint8_t *restrict src, size_t n, uint8_t *const *dst,
                                unsigned rot)
{
    uint8_t *restrict lo = dst[0], *restrict hi = dst[1];
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, src + 2 * i, 2);
        if (rot)
            v = (uint16_t)(v << 1 | v >> 15);
        lo[i] = (uint8_t)v;
        hi[i] = (uint8_t)(v >> 8);
    }
}

TARGET static void NAME(merge2)(const uint8_t *const *src, size_t n, uint8_t *restrict dst,
                                unsigned rot)
{
    const uint8_t *restrict lo = src[0], *restrict hi = src[1];
    for (size_t i = 0; i < n; i++) {
        uint16_t v = (uint16_t)(lo[i] | hi[i] << 8);
        if (rot)
            v = (uint16_t)(v >> 1 | v << 15);
        memcpy(dst + 2 * i, &v, 2);
    }
}

TARGET static void NAME(split4)(const uint8_t *restrict src, size_t n, uint8_t *const *dst)
{
    uint8_t *restrict a = dst[0], *restrict b = dst[1], *restrict c = dst[2], *restrict d = dst[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t v;
        memcpy(&v, src + 4 * i, 4);
        v = v << 1 | v >> 31;
        a[i] = (uint8_t)v;
        b[i] = (uint8_t)(v >> 8);
        c[i] = (uint8_t)(v >> 16);
        d[i] = (uint8_t)(v >> 24);
    }
}

TARGET static void NAME(merge4)(const uint8_t *const *src, size_t n, uint8_t *restrict dst)
{
    const uint8_t *restrict a = src[0], *restrict b = src[1], *restrict c = src[2],
                            *restrict d = src[3];
    for (size_t i = 0; i < n; i++) {
        uint32_t v =
            (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        v = v >> 1 | v << 31;
        memcpy(dst + 4 * i, &v, 4);
    }
}

TARGET static void NAME(split8)(const uint8_t *restrict src, size_t n, uint8_t *const *dst)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, src + 8 * i, 8);
        v = v << 1 | v >> 63;
        for (unsigned k = 0; k < 8; k++)
            dst[k][i] = (uint8_t)(v >> 8 * k);
    }
}

TARGET static void NAME(merge8)(const uint8_t *const *src, size_t n, uint8_t *restrict dst)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 0;
        for (unsigned k = 0; k < 8; k++)
            v |= (uint64_t)src[k][i] << 8 * k;
        v = v >> 1 | v << 63;
        memcpy(dst + 8 * i, &v, 8);
    }
}

/* To the end, unlike memcmp: what is compared is equal. */
TARGET static bool NAME(same)(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t differ = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        differ |= x ^ y;
    }
    for (; i < n; i++)
        differ |= (uint64_t)(a[i] ^ b[i]);
    return differ == 0;
}

static const struct mover NAME(mover) = {NAME(split2), NAME(merge2), NAME(split4), NAME(merge4),
                                         NAME(split8), NAME(merge8), NAME(same)};
#undef NAME
#undef TARGET
