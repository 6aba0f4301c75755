/* Processor features: cpuid and xgetbv on x86-64, the kernel's auxiliary vector on aarch64. */
#include "base/cpu.h"
#include <stdatomic.h>
#include <stdbool.h>

#define KNOWN 0x80000000u /* marks the cached word as filled */

static atomic_uint cached;
static atomic_uint allowed = ~0u;

#if defined(__x86_64__)
#include <cpuid.h>

static unsigned xcr0(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

static unsigned probe(void)
{
    unsigned a, b, c, d, bits = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    bool ymm = false, zmm = false;
    if (c & bit_OSXSAVE) {
        unsigned x = xcr0();
        ymm = (x & 0x06u) == 0x06u;
        zmm = (x & 0xe6u) == 0xe6u;
    }
    if ((c & bit_SSSE3) && (c & bit_SSE4_1))
        bits |= CPU_SSSE3;
    unsigned b7, c7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d))
        return bits;
    if ((b7 & bit_SHA) && (bits & CPU_SSSE3))
        bits |= CPU_SHA;
    if (ymm && (b7 & bit_AVX2) && (b7 & bit_BMI) && (b7 & bit_BMI2))
        bits |= CPU_AVX2;
    unsigned need = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD;
    if (zmm && (bits & CPU_AVX2) && (b7 & need) == need) {
        bits |= CPU_AVX512;
        unsigned more = bit_AVX512VBMI | bit_AVX512VBMI2 | bit_AVX512VPOPCNTDQ | bit_GFNI;
        if ((c7 & more) == more)
            bits |= CPU_VBMI;
        if ((c7 & bit_VPCLMULQDQ) && (c & bit_PCLMUL))
            bits |= CPU_VPCLMUL;
    }
    return bits;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

static unsigned probe(void)
{
    unsigned long cap = getauxval(AT_HWCAP);
    unsigned bits = CPU_NEON;
    if (cap & (1ul << 6)) /* HWCAP_SHA2 */
        bits |= CPU_SHA;
    if ((cap & (1ul << 4)) && (cap & (1ul << 7))) /* HWCAP_PMULL, HWCAP_CRC32 */
        bits |= CPU_VPCLMUL;
    return bits;
}
#else
static unsigned probe(void)
{
    return 0;
}
#endif

unsigned cpu_have(void)
{
    unsigned v = atomic_load_explicit(&cached, memory_order_relaxed);
    if (!(v & KNOWN)) {
        v = probe() | KNOWN;
        atomic_store_explicit(&cached, v, memory_order_relaxed);
    }
    return v & ~KNOWN & atomic_load_explicit(&allowed, memory_order_relaxed);
}

void cpu_limit(unsigned keep)
{
    atomic_store_explicit(&allowed, keep, memory_order_relaxed);
}
