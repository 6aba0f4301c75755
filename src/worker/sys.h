/* The worker has no libc of its own: its system calls, its start and the few byte helpers it
 * needs are here. dlopen, dlsym and dlerror come from the libc that the host's loader brought
 * (DT_NEEDED libdl.so.2 and libc.so.6, without symbol versions, so that any glibc or musl serves).
 */
#ifndef WORKER_SYS_H
#define WORKER_SYS_H
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
enum { SYS_MMAP = 9, SYS_MUNMAP = 11, SYS_SENDMSG = 46, SYS_RECVMSG = 47, SYS_EXIT_GROUP = 231 };
enum { SYS_GETPID = 39, SYS_READ = 0, SYS_CLOSE = 3, SYS_OPENAT = 257, SYS_GETDENTS64 = 217 };
enum { SYS_CLOCK_GETTIME = 228 };
enum { SYS_O_DIRECTORY = 0x10000 };
static inline long sys_call(long n, long a, long b, long c, long d, long e, long f)
{
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}
/* The frame pointer ends here; the stack is 16-byte aligned before the call, as the ABI asks. */
__asm__(".text\n.globl _start\n.hidden _start\n.type _start,@function\n_start:\n"
        "xor %ebp,%ebp\nand $-16,%rsp\ncall worker_main\nhlt\n.size _start,.-_start\n");
#elif defined(__aarch64__)
enum {
    SYS_MMAP = 222,
    SYS_MUNMAP = 215,
    SYS_SENDMSG = 211,
    SYS_RECVMSG = 212,
    SYS_EXIT_GROUP = 94
};
enum { SYS_GETPID = 172, SYS_READ = 63, SYS_CLOSE = 57, SYS_OPENAT = 56, SYS_GETDENTS64 = 61 };
enum { SYS_CLOCK_GETTIME = 113 };
enum { SYS_O_DIRECTORY = 0x4000 };
static inline long sys_call(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
__asm__(".text\n.globl _start\n.hidden _start\n.type _start,%function\n_start:\n"
        "mov x29,#0\nmov x30,#0\nbl worker_main\nbrk #0\n.size _start,.-_start\n");
#else
#error "the worker knows x86-64 and aarch64"
#endif

extern void *dlopen(const char *path, int mode);
extern void *dlsym(void *lib, const char *name);
extern char *dlerror(void);
enum { DL_NOW = 2 };

/* gcc may call these for struct copies; hidden, so that no driver ever meets them. */
__attribute__((visibility("hidden"))) void *memcpy(void *d, const void *s, size_t n);
__attribute__((visibility("hidden"))) void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n)
{
    unsigned char *p = (unsigned char *)d;
    const unsigned char *q = (const unsigned char *)s;
    for (size_t i = 0; i < n; i++) {
        p[i] = q[i];
        __asm__ volatile("" ::: "memory"); /* or gcc makes this loop a call of itself */
    }
    return d;
}
void *memset(void *d, int c, size_t n)
{
    unsigned char *p = (unsigned char *)d;
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)c;
        __asm__ volatile("" ::: "memory");
    }
    return d;
}
static inline size_t text_len(const char *s)
{
    size_t n = 0;
    while (s[n] != 0)
        n++;
    return n;
}
/* dst[n] receives src, cut, always terminated. */
static inline void text_put(char *dst, size_t n, const char *src)
{
    size_t i = 0;
    for (; src && i + 1 < n && src[i] != 0; i++)
        dst[i] = src[i];
    dst[i] = 0;
}
static inline void text_add(char *dst, size_t n, const char *src)
{
    size_t at = text_len(dst);
    if (at < n)
        text_put(dst + at, n - at, src);
}
static inline int text_ends(const char *s, const char *end)
{
    size_t n = text_len(s), m = text_len(end);
    if (m > n)
        return 0;
    for (size_t i = 0; i < m; i++)
        if (s[n - m + i] != end[i])
            return 0;
    return 1;
}
static inline int text_less(const char *a, const char *b)
{
    while (*a != 0 && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a < (unsigned char)*b;
}
#endif
