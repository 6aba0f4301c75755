/* See arena.h. Blocks grow with use, so that small models stay small. */
#include "base/arena.h"
#include "base/checked.h"
#include "base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct arena_block {
    struct arena_block *next;
    size_t used, cap; /* of the bytes behind the struct */
    size_t pad_;
};
#define BLOCK_MIN ((size_t)4096)
#define BLOCK_MAX ((size_t)1 << 20)

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
    size_t n, whole;
    if (!mul_size(count, size, &n) || !add_size(n, 15, &n))
        return NULL;
    n &= ~(size_t)15;
    struct arena_block *b = a->head;
    if (!b || b->cap - b->used < n) {
        size_t cap = b ? b->cap * 2 : BLOCK_MIN;
        if (cap > BLOCK_MAX)
            cap = BLOCK_MAX;
        if (cap < n)
            cap = n;
        if (!add_size(cap, sizeof *b, &whole))
            return NULL;
        struct arena_block *fresh = mem_alloc(whole);
        if (!fresh)
            return NULL;
        fresh->used = 0;
        fresh->cap = cap;
        if (b && cap == n && b->cap - b->used > 64) {
            /* a large block of its own: keep filling the current one */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            a->head = fresh;
        }
        b = fresh;
    }
    char *p = (char *)(b + 1) + b->used;
    b->used += n;
    memset(p, 0, n);
    return p;
}

struct str arena_str(struct arena *a, const void *p, size_t n)
{
    size_t whole;
    if (!add_size(n, 1, &whole))
        return STR_NONE;
    char *q = arena_alloc(a, whole, 1);
    if (!q)
        return STR_NONE;
    if (n)
        memcpy(q, p, n);
    return (struct str){q, n};
}

struct str arena_fmt(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    struct str s = STR_NONE;
    if (n >= 0) {
        char *q = arena_alloc(a, (size_t)n + 1, 1);
        if (q) {
            vsnprintf(q, (size_t)n + 1, fmt, again);
            s = (struct str){q, (size_t)n};
        }
    }
    va_end(again);
    return s;
}

void arena_free(struct arena *a)
{
    struct arena_block *b = a->head;
    while (b) {
        struct arena_block *next = b->next;
        mem_free(b);
        b = next;
    }
    a->head = NULL;
}
