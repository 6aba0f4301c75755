/* The mover's kernels in memory, one thread, as ratios against memcpy of the same bytes in the
 * same run, in processor time (other load disturbs less): transposes in output slabs of 4 MiB (as
 * the engine makes them where memory allows), casts. Usage: bench_mover [repeats]. Prints medians.
 */
#include "base/cpu.h"
#include "convert/gather.h"
#include "convert/kernel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SLAB ((uint64_t)4 << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static uint8_t *src, *dst;
static volatile uint8_t sink;

/* Rows by columns transposed, slab by slab into one reused buffer. */
static void transposed(uint64_t rows, uint64_t cols, size_t size, bool cast)
{
    uint64_t dim[2] = {cols, rows}, n = rows * cols, slab = SLAB / (cast ? size / 2 : size);
    int64_t stride[2] = {1, (int64_t)cols};
    struct view v;
    struct err e;
    if (view_strided(&v, dim, stride, 2, 0, &e) != ST_OK)
        abort();
    for (uint64_t lo = 0; lo < n; lo += slab) {
        uint64_t hi = lo + slab < n ? lo + slab : n;
        bool over;
        if (!cast)
            gather(&v, lo, hi, src, size, dst);
        else if (!gather_bf16(&v, lo, hi, src, dst, &over))
            abort();
        sink = dst[0];
    }
}

static double measure(int how, uint64_t rows, uint64_t cols, size_t size, int repeats)
{
    double t[64];
    for (int i = 0; i < repeats; i++) {
        double t0 = now();
        if (how == 0) {
            memcpy(dst, src, rows * cols * size);
            sink = dst[1];
        } else {
            transposed(rows, cols, size, how == 2);
        }
        t[i] = now() - t0;
    }
    qsort(t, (size_t)repeats, sizeof *t, by_value);
    return (double)(rows * cols * size) / t[repeats / 2] / 1e9;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t rows, cols;
        size_t size;
        int how;
    } work[] = {
        {"transpose 4 bytes  4096 x  4096", 4096, 4096, 4, 1},
        {"transpose 4 bytes  4096 x 11008", 4096, 11008, 4, 1},
        {"transpose 4 bytes 11008 x  4096", 11008, 4096, 4, 1},
        {"transpose 2 bytes  4096 x  4096", 4096, 4096, 2, 1},
        {"transpose 2 bytes  4096 x 11008", 4096, 11008, 2, 1},
        {"transpose 1 byte   4096 x 11008", 4096, 11008, 1, 1},
        {"transpose 8 bytes  4096 x  4096", 4096, 4096, 8, 1},
        {"transpose + bf16   4096 x  4096", 4096, 4096, 4, 2},
        {"transpose + bf16   4096 x 11008", 4096, 11008, 4, 2},
    };
    static const unsigned levels[] = {0, CPU_AVX2, ~0u};
    int repeats = argc > 1 ? atoi(argv[1]) : 7;
    size_t n = (size_t)256 << 20;
    if (repeats < 1 || repeats > 64)
        return 2;
    src = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    dst = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (src == MAP_FAILED || dst == MAP_FAILED)
        return 1;
    (void)madvise(src, n, MADV_HUGEPAGE);
    (void)madvise(dst, n, MADV_HUGEPAGE);
    memset(src, 0x3c, n);
    memset(dst, 1, n);
    printf("%-34s %8s", "GB/s of input (ratio to memcpy)", "memcpy");
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        cpu_limit(levels[l]);
        printf(" %15s", kernel()->name);
    }
    printf("\n");
    for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
        double copy = measure(0, work[i].rows, work[i].cols, work[i].size, repeats);
        printf("%-34s %8.2f", work[i].name, copy);
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
            cpu_limit(levels[l]);
            double x = measure(work[i].how, work[i].rows, work[i].cols, work[i].size, repeats);
            printf(" %7.2f (%5.2f)", x, x / copy);
        }
        printf("\n");
    }
    return 0;
}
