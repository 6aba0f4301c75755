/* XXH3-128 of the guest's header compiled for AVX2, which is faster than its AVX-512 form too; see
 * xxh.c for the choice. The digest is the same for any instruction set.
 */
#include "codec/xxh_impl.h"
#include <string.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#define XXH_VECTOR 2 /* XXH_AVX2 */
#include <xxhash.h>

void xxh128_avx2(const void *p, size_t n, uint8_t out[16])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(p, n));
    memcpy(out, c.digest, 16);
}

void xxh128_add_avx2(void *state, const void *p, size_t n)
{
    (void)XXH3_128bits_update(state, p, n);
}
