/* MessagePack: a pull reader over a cursor and the pieces of a writer. The reader keeps one number
 * per open container, on an explicit stack; the bytes of texts, blobs and extensions stay in the
 * file until they are asked for. A container is taken only when the values still owed, in it and in
 * all around it, could fit into the bytes left, a byte each.
 *
 * Codes: truncated, msgpack-type, msgpack-count, msgpack-depth, msgpack-utf8, msgpack-trailing.
 * Source: github.com/msgpack/msgpack, spec.md. All numbers big-endian.
 */
#ifndef CODEC_MSGPACK_H
#define CODEC_MSGPACK_H
#include "base/buf.h"
#include "base/cursor.h"

#define MSGPACK_MAX_DEPTH 256

enum msgpack_kind {
    MSGPACK_NIL,
    MSGPACK_BOOL, /* u */
    MSGPACK_UINT, /* u */
    MSGPACK_INT,  /* i, below zero */
    MSGPACK_F32,  /* u: the bits */
    MSGPACK_F64,  /* u: the bits */
    MSGPACK_STR,  /* n bytes at body */
    MSGPACK_BIN,  /* n bytes at body */
    MSGPACK_EXT,  /* n bytes at body, type */
    MSGPACK_ARRAY,
    MSGPACK_MAP,   /* n pairs: 2n values follow */
    MSGPACK_CLOSE, /* the innermost container is complete */
    MSGPACK_DONE   /* the top value is complete */
};
struct msgpack {
    struct cursor *c;
    uint64_t end; /* range position the text may reach to */
    enum msgpack_kind kind;
    uint64_t at; /* of the token, in the cursor's range */
    uint64_t u, n, body;
    int64_t i;
    int8_t type;
    unsigned depth;
    /* private */
    uint64_t next_, owed_;
    uint64_t left_[MSGPACK_MAX_DEPTH];
    bool done_;
};
/* From the cursor's place up to range position end (a reader inside an extension's body shares the
 * outer one's cursor). */
void msgpack_init(struct msgpack *r, struct cursor *c, uint64_t end);
MUSTCHECK enum status msgpack_next(struct msgpack *r, struct err *e);
/* The current STR, BIN or EXT's bytes, copied into the arena; a STR must be UTF-8. */
MUSTCHECK enum status msgpack_body(struct msgpack *r, struct arena *a, struct str *out,
                                   struct err *e);
/* After DONE: nothing may follow up to end. */
MUSTCHECK enum status msgpack_finish(struct msgpack *r, struct err *e);
/* ST_INPUT at the current token. */
enum status msgpack_fail(struct msgpack *r, struct err *e, const char *code, const char *fmt, ...)
    PRINTF(4, 5);

/* Writer: each appends one value, or the head of one, in its shortest form. */
void msgpack_w_nil(struct buf *b);
void msgpack_w_bool(struct buf *b, bool v);
void msgpack_w_u64(struct buf *b, uint64_t v);
void msgpack_w_i64(struct buf *b, int64_t v);
void msgpack_w_f64(struct buf *b, uint64_t bits);
void msgpack_w_str(struct buf *b, struct str s);
void msgpack_w_map(struct buf *b, uint32_t n_pairs);
void msgpack_w_array(struct buf *b, uint32_t n);
void msgpack_w_bin_head(struct buf *b, uint32_t n_bytes);
void msgpack_w_ext_head(struct buf *b, int8_t type, uint32_t n_bytes);
#endif
