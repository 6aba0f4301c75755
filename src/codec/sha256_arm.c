/* SHA-256 on aarch64 with the ARMv8 SHA-256 instructions. */
#include "codec/sha256_impl.h"
#if defined(__aarch64__)
#include <arm_neon.h>

__attribute__((target("+crypto"))) void sha256_blocks_arm(uint32_t h[8], const uint8_t *p, size_t n)
{
    uint32x4_t s0 = vld1q_u32(h), s1 = vld1q_u32(h + 4);
    for (; n > 0; n--, p += 64) {
        uint32x4_t a = s0, b = s1, w[4];
        for (int i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (int i = 0; i < 16; i++) {
            uint32x4_t m = vaddq_u32(w[i % 4], vld1q_u32(sha256_k + 4 * i));
            uint32x4_t t = a;
            a = vsha256hq_u32(a, b, m);
            b = vsha256h2q_u32(b, t, m);
            if (i < 12)
                w[i % 4] = vsha256su1q_u32(vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]),
                                           w[(i + 2) % 4], w[(i + 3) % 4]);
        }
        s0 = vaddq_u32(s0, a);
        s1 = vaddq_u32(s1, b);
    }
    vst1q_u32(h, s0);
    vst1q_u32(h + 4, s1);
}
#else
typedef int sha256_arm_is_empty_here;
#endif
