/* The door to memory. Everything private the process holds passes here: one ceiling
 * (--memory), one place to inject failures. NULL means the ceiling or the host said no;
 * callers turn it into err_nomem. Safe from any thread. Guests (zstd) are given
 * these functions as their allocators.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H
#include <stddef.h>
#include <stdint.h>

void mem_set_ceiling(uint64_t bytes); /* 0 = none; the default */
uint64_t mem_ceiling(void);
uint64_t mem_in_use(void);
uint64_t mem_peak(void);
/* 16-byte aligned, not zeroed; n == 0 gives a unique pointer */
void *mem_alloc(size_t n);
void *mem_zalloc(size_t count, size_t size); /* overflow-checked, zeroed */
void *mem_resize(void *p, size_t n);         /* p may be NULL; on NULL return p is untouched */
void mem_free(void *p);
/* Whole pages from mmap, zeroed, 2 MiB-aligned hint and MADV_HUGEPAGE when n >= 2 MiB.
 * For slab and panel buffers: one per thread, reused. Free with the same n. */
void *mem_pages(size_t n);
void mem_pages_free(void *p, size_t n);
/* Charges bytes that live elsewhere (shared windows) against the ceiling.
 * Returns 0 on success, -1 when the ceiling would be passed. */
int mem_charge(uint64_t bytes);
void mem_uncharge(uint64_t bytes);
#ifdef NNFERRY_FAULT
void mem_fault_at(uint64_t nth, int forever); /* nth allocation from now fails; 0 = off */
uint64_t mem_fault_count(void);               /* allocations seen so far */
#endif
#endif
