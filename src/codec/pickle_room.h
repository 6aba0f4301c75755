/* Between the files of the pickle reader. */
#ifndef CODEC_PICKLE_ROOM_H
#define CODEC_PICKLE_ROOM_H
#include "base/cursor.h"
#include "codec/pickle.h"

struct vm {
    struct pickle *p;
    const struct pickle_opt *o;
    struct cursor c;
    struct err *e;
    uint64_t at;         /* offset of the opcode at work */
    uint64_t text_bytes; /* copied from a file */
    uint32_t *stack, *mark, *memo;
    size_t n_stack, cap_stack, n_mark, cap_mark, cap_memo, n_memo;
    uint64_t frame_end; /* 0 = none */
};

/* A refusal at the opcode at work. */
enum status pickle_bad(struct vm *m, const char *code, const char *fmt, ...) PRINTF(3, 4);
/* pickle_stack.c */

/* Makes room for one more element of an array (void **); everything held counts against the budget.
 */
enum status pickle_grow(struct vm *m, void *array, size_t n, size_t *cap, size_t size);
enum status vm_push(struct vm *m, uint32_t v);
/* Pops stop at the open mark: ST_INPUT pickle-underflow. */
enum status vm_pop(struct vm *m, uint32_t *v);
enum status vm_top(struct vm *m, uint32_t *v);
size_t vm_floor(const struct vm *m); /* the stack's size at the open mark */
enum status vm_open_mark(struct vm *m);
/* Closes the open mark: values [*lo, n_stack) stood above it; the caller cuts the stack. */
enum status vm_close_mark(struct vm *m, size_t *lo);
/* A new value, not on the stack. */
enum status vm_value(struct vm *m, enum pk_kind kind, uint32_t *v);
/* What a window of the file shows is copied to stay. */
enum status vm_keep(struct vm *m, struct str *s);
/* A string of n bytes from here on, which stays in the file. */
enum status vm_push_far(struct vm *m, enum pk_kind kind, enum pk_spelling spelling, uint64_t n);
enum status vm_seq_add(struct vm *m, struct pk_seq *s, uint32_t v);
/* Appends stack[lo..hi) to the sequence of value v (not an instance). */
enum status vm_seq_fill(struct vm *m, uint32_t v, size_t lo, size_t hi);
/* Makes a container of stack[lo..) and puts it there. */
enum status vm_collect(struct vm *m, enum pk_kind kind, size_t lo);

/* A new value on the stack. *out is valid until the next one. */
enum status pickle_push(struct vm *m, enum pk_kind kind, struct pk_val **out);
enum status pickle_push_int(struct vm *m, int64_t i);
enum status pickle_push_bool(struct vm *m, bool b);
/* The bytes must outlive the pickle; STR must be UTF-8. */
enum status pickle_push_text(struct vm *m, enum pk_kind kind, const void *s, size_t n);
/* Python 2's byte strings: text where they can be. */
enum status pickle_push_string(struct vm *m, const void *s, size_t n);
/* Text up to a newline, at most max bytes. */
enum status pickle_line(struct vm *m, size_t max, struct str *out);
/* The same for a line that may be long: in a file, one of more than PICKLE_NEAR_MAX bytes is pushed
 * as a value of that kind and spelling, and *far is true. */
enum status pickle_long_line(struct vm *m, enum pk_kind kind, enum pk_spelling spelling,
                             struct str *out, bool *far);

/* The opcodes I and L, F, S, V. */
enum status pickle_text_int(struct vm *m, bool is_long);
enum status pickle_text_float(struct vm *m);
enum status pickle_text_string(struct vm *m);
enum status pickle_text_unicode(struct vm *m);

/* builtins.getattr, under the name of either Python? */
bool pickle_is_getattr(struct str module, struct str name);
/* Every use of getattr, reachable from the root or not, fetches a listed member of a listed enum;
 * else pickle-runs-code, and in a scan the name is flagged. pickle_members.c */
MUSTCHECK enum status pickle_members(struct vm *m);

/* Proves what the opcodes cannot: no cycle, no path longer than PICKLE_DEPTH, no key twice, no
 * state that would change what an allowed instance is. Only values reachable from the root. */
MUSTCHECK enum status pickle_prove(struct pickle *p, struct err *e);
#endif
