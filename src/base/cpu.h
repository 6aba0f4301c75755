/* What this processor can do, asked once at run time: a static binary has no ifunc, so rooms with
 * vector code choose a variant by these bits. Every vector variant has a scalar twin with equal
 * results; tests force the twin with cpu_limit.
 */
#ifndef BASE_CPU_H
#define BASE_CPU_H

enum cpu_bit {
    CPU_SSSE3 = 1,    /* and SSE4.1 */
    CPU_AVX2 = 2,     /* and BMI1, BMI2, LZCNT */
    CPU_AVX512 = 4,   /* F, BW, DQ, VL, CD, all state saved by the kernel */
    CPU_VBMI = 8,     /* AVX-512 VBMI, VBMI2, VPOPCNTDQ and GFNI (Ice Lake, Zen 4) */
    CPU_SHA = 16,     /* x86 SHA extensions, or the ARMv8 SHA-256 instructions */
    CPU_VPCLMUL = 32, /* VPCLMULQDQ with AVX-512, and CRC32 / PMULL on ARM */
    CPU_NEON = 64
};
/* The bits this host has and the limit allows. Cheap, safe from any thread. */
unsigned cpu_have(void);
/* Keeps only these bits from now on (0 = scalar code everywhere). For tests and for cli; call
 * before the first thread. */
void cpu_limit(unsigned keep);
#endif
