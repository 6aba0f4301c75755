/* See mem.h. A 16-byte header in front of each block holds its size, so that the ceiling can be
 * kept without asking the host's allocator.
 */
#include "base/mem.h"
#include "base/checked.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEAD 16
#define HUGE_BYTES ((size_t)2 << 20)

static _Atomic uint64_t ceiling, in_use, peak;

#ifdef NNFERRY_FAULT
static _Atomic uint64_t fault_n, fault_at;
static _Atomic int fault_forever;

void mem_fault_at(uint64_t nth, int forever)
{
    fault_n = 0;
    fault_at = nth;
    fault_forever = forever;
}

uint64_t mem_fault_count(void)
{
    return fault_n;
}

static bool faulted(void)
{
    uint64_t n = atomic_fetch_add(&fault_n, 1) + 1, at = fault_at;
    return at != 0 && (n == at || (fault_forever && n > at));
}
#else
static bool faulted(void)
{
    return false;
}
#endif

void mem_set_ceiling(uint64_t bytes)
{
    ceiling = bytes;
}

uint64_t mem_ceiling(void)
{
    return ceiling;
}

uint64_t mem_in_use(void)
{
    return in_use;
}

uint64_t mem_peak(void)
{
    return peak;
}

int mem_charge(uint64_t bytes)
{
    uint64_t was = in_use, now, top = ceiling, p = peak;
    do { /* what does not fit is never counted, so that it takes no room from what does */
        if (!add_u64(was, bytes, &now) || (top != 0 && now > top))
            return -1;
    } while (!atomic_compare_exchange_weak(&in_use, &was, now));
    while (now > p && !atomic_compare_exchange_weak(&peak, &p, now))
        ;
    return 0;
}

void mem_uncharge(uint64_t bytes)
{
    atomic_fetch_sub(&in_use, bytes);
}

void *mem_alloc(size_t n)
{
    size_t whole;
    if (!add_size(n, HEAD, &whole) || faulted() || mem_charge(whole) != 0)
        return NULL;
    char *p = malloc(whole);
    if (!p) {
        mem_uncharge(whole);
        return NULL;
    }
    memcpy(p, &whole, sizeof whole);
    return p + HEAD;
}

void *mem_zalloc(size_t count, size_t size)
{
    size_t n;
    if (!mul_size(count, size, &n))
        return NULL;
    void *p = mem_alloc(n);
    if (p)
        memset(p, 0, n);
    return p;
}

static size_t whole_of(const void *p)
{
    size_t whole;
    memcpy(&whole, (const char *)p - HEAD, sizeof whole);
    return whole;
}

void *mem_resize(void *p, size_t n)
{
    if (!p)
        return mem_alloc(n);
    size_t old = whole_of(p), whole;
    /* large blocks move by remapping, so only the difference is new */
    if (!add_size(n, HEAD, &whole) || faulted() || (whole > old && mem_charge(whole - old) != 0))
        return NULL;
    char *q = realloc((char *)p - HEAD, whole);
    if (!q) {
        if (whole > old)
            mem_uncharge(whole - old);
        return NULL;
    }
    if (whole < old)
        mem_uncharge(old - whole);
    memcpy(q, &whole, sizeof whole);
    return q + HEAD;
}

void mem_free(void *p)
{
    if (!p)
        return;
    mem_uncharge(whole_of(p));
    free((char *)p - HEAD);
}

void *mem_pages(size_t n)
{
    if (n == 0)
        n = 1;
    if (faulted() || mem_charge(n) != 0)
        return NULL;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        mem_uncharge(n);
        return NULL;
    }
    if (n >= HUGE_BYTES)
        (void)madvise(p, n, MADV_HUGEPAGE);
    return p;
}

void mem_pages_free(void *p, size_t n)
{
    if (!p)
        return;
    if (n == 0)
        n = 1;
    (void)munmap(p, n);
    mem_uncharge(n);
}
