/* Protocol buffers, wire format: a pull reader over a cursor and the pieces of a writer. The reader
 * knows no schema: it walks the fields of one message, and the caller switches on the number. A
 * message is a range of the cursor; a sub-message is another struct proto on the same cursor, so
 * depth is the caller's: foreign nesting is walked with an explicit, bounded array of struct proto.
 * Bytes of strings, packed lists and sub-messages stay in the file until they are asked for.
 *
 * Failures stick in the cursor (cursor.h). proto_next is false at the end and after a failure, so a
 * walk is a loop and one check:
 *
 *     struct proto m;
 *     proto_init(&m, c, c->end);
 *     while (proto_next(&m))
 *         switch (m.field) {
 *         case 1: x = proto_u64(&m); break;               // refuses another wire type
 *         case 2: if (proto_sub(&m, &sub)) ...; break;    // then walk sub the same way
 *         }                                               // others are skipped
 *     TRY(cur_ok(c, e));
 *
 * Codes: truncated (the cursor's range ends), proto-length (a field reaches behind its message),
 * proto-varint (longer than ten bytes or above 64 bits), proto-tag (field number 0 or above
 * 2^29-1), proto-group (wire types 3 and 4), proto-type (wire types 6 and 7, or not the one the
 * field has), proto-packed (a packed list that ends inside a value).
 * Source: protobuf.dev, "Encoding". Little-endian; a varint need not be the shortest.
 */
#ifndef CODEC_PROTO_H
#define CODEC_PROTO_H
#include "base/buf.h"
#include "base/cursor.h"

enum proto_wire { PROTO_VARINT = 0, PROTO_I64 = 1, PROTO_LEN = 2, PROTO_I32 = 5 };

struct proto {
    struct cursor *c;
    uint64_t end; /* range position the message ends at */
    /* the current field */
    uint64_t at; /* of its tag, in the cursor's range */
    uint32_t field;
    enum proto_wire wire;
    uint64_t u;    /* VARINT, I64, I32: the bits */
    uint64_t body; /* LEN: range position of its bytes; others: of the number */
    uint64_t n;    /* ... and how many they are */
    /* private */
    uint64_t next_;
};

/* The message [c->pos, end) of the cursor's range; fails (in the cursor) when end lies outside. */
void proto_init(struct proto *m, struct cursor *c, uint64_t end);
/* Moves to the next field; false at the message's end and after a failure. It does not matter where
 * the cursor stands: a walk may be left and taken up again. */
MUSTCHECK bool proto_next(struct proto *m);
/* The current LEN field as a message of its own; false after a failure (another wire type). */
MUSTCHECK bool proto_sub(const struct proto *m, struct proto *sub);

/* The current VARINT field; 0 after a failure. proto_i32 takes the low 32 bits, as protobuf does
 * (negative int32 and enums are written as ten bytes). */
uint64_t proto_u64(const struct proto *m);
int64_t proto_i64(const struct proto *m);
int32_t proto_i32(const struct proto *m);
bool proto_bool(const struct proto *m);
/* sint32 and sint64: zigzag. */
int64_t proto_s64(const struct proto *m);
/* The current I32 or I64 field's bits (fixed32, float; fixed64, double). */
uint32_t proto_fixed32(const struct proto *m);
uint64_t proto_fixed64(const struct proto *m);
/* The current LEN field's bytes copied into the arena, a NUL added; .p == NULL after a failure. Any
 * bytes: check UTF-8 where it matters. */
struct str proto_str(const struct proto *m, struct arena *a);
/* The same without a copy, valid until the cursor's next call; NULL after a failure. */
const uint8_t *proto_bytes(const struct proto *m, size_t *n);

/* A repeated number: one occurrence of the field, packed (LEN) or single, both are legal. wire is
 * the element's type. Elements of fixed width lie at p.pos, back to back. */
struct proto_list {
    struct cursor *c;
    enum proto_wire wire;
    uint64_t pos, end; /* range positions: what is left */
    uint64_t u;        /* the current element's bits */
};
/* false after a failure (another wire type, or not a whole number of fixed-width elements). */
MUSTCHECK bool proto_list(const struct proto *m, enum proto_wire wire, struct proto_list *l);
/* false at the end and after a failure. */
MUSTCHECK bool proto_list_next(struct proto_list *l);

/* ST_INPUT at the current field. */
enum status proto_fail(const struct proto *m, const char *code, const char *fmt, ...) PRINTF(3, 4);

/* A varint at the cursor's place that must end at range position end or before. */
uint64_t cur_varint(struct cursor *c, uint64_t end);

/* Writer: each appends one whole field. Zeros are written too; leave the call out for a default. */
void proto_w_u64(struct buf *b, uint32_t field, uint64_t v); /* also bool, enum, uint32 */
void proto_w_i64(struct buf *b, uint32_t field, int64_t v);  /* also int32 */
void proto_w_s64(struct buf *b, uint32_t field, int64_t v);  /* zigzag */
void proto_w_fixed32(struct buf *b, uint32_t field, uint32_t bits);
void proto_w_fixed64(struct buf *b, uint32_t field, uint64_t bits);
void proto_w_str(struct buf *b, uint32_t field, struct str s);
/* A finished sub-message or packed list; takes over sub's failure, sub stays the caller's. */
void proto_w_sub(struct buf *b, uint32_t field, const struct buf *sub);
/* The head of a LEN field whose n_bytes follow from elsewhere. */
void proto_w_len(struct buf *b, uint32_t field, uint64_t n_bytes);
/* Bare pieces, for packed lists and for sizes reckoned ahead. */
void proto_w_varint(struct buf *b, uint64_t v);
unsigned proto_varint_bytes(uint64_t v);
static inline unsigned proto_tag_bytes(uint32_t field)
{
    return proto_varint_bytes((uint64_t)field << 3);
}
#endif
