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
    uint32_t at; /* offset of the opcode at work */
    uint32_t *stack, *mark, *memo;
    size_t n_stack, cap_stack, n_mark, cap_mark, cap_memo, n_memo;
    uint64_t frame_end; /* 0 = none */
    uint64_t budget;
};

/* A refusal at the opcode at work. */
enum status pickle_bad(struct vm *m, const char *code, const char *fmt, ...) PRINTF(3, 4);
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

/* The opcodes I and L, F, S, V. */
enum status pickle_text_int(struct vm *m, bool is_long);
enum status pickle_text_float(struct vm *m);
enum status pickle_text_string(struct vm *m);
enum status pickle_text_unicode(struct vm *m);

/* Proves what the opcodes cannot: no cycle, no path longer than PICKLE_DEPTH, no key twice, no
 * state that would change what an allowed instance is. Only values reachable from the root. */
MUSTCHECK enum status pickle_prove(struct pickle *p, struct err *e);
#endif
