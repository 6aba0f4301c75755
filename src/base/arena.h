/* Arena: everything a model or plan owns is allocated here and freed at once.
 * Not thread-safe; one owner. Blocks come from base/mem.h.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/str.h"
#include <stddef.h>

struct arena {
    struct arena_block *head;
};
#define ARENA_INIT                                                                                 \
    {                                                                                              \
        0                                                                                          \
    }

/* 16-byte aligned, zeroed. NULL when memory is out. */
void *arena_alloc(struct arena *a, size_t count, size_t size);
/* Copies n bytes and adds a NUL behind them. .p == NULL when memory is out. */
struct str arena_str(struct arena *a, const void *p, size_t n);
/* printf into the arena. .p == NULL when memory is out. */
struct str arena_fmt(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *a); /* a may be used again afterwards */

#define ARENA_NEW(a, T) ((T *)arena_alloc((a), 1, sizeof(T)))
#define ARENA_ARRAY(a, T, n) ((T *)arena_alloc((a), (n), sizeof(T)))
#endif
