/* The grammar of a GGUF header, byte orders 'little' and 'big': counts, key-values, tensor
 * entries. Values are told where they lie and how long they are; no tensor type is known here.
 * Source: ggml, docs/gguf.md and src/gguf.cpp.
 *
 *   "GGUF"  u32 version  u64 n_tensors  u64 n_keys
 *   n_keys x     string key, u32 type, value
 *   n_tensors x  string name, u32 n_dims, n_dims x u64, u32 type, u64 offset
 *   string: u64 bytes, bytes; array: u32 type of elements, u64 n, elements
 *
 * A file whose version has no bits in its low half is a big-endian one.
 */
#ifndef CODEC_GGUF_H
#define CODEC_GGUF_H
#include "base/buf.h"
#include "base/cursor.h"

#define GGUF_KEYS_MAX 65536u
#define GGUF_TENSORS_MAX 262144u
#define GGUF_NAME_MAX 65535u /* bytes of a key or a tensor's name */
#define GGUF_DIMS_MAX 4

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};
size_t gguf_type_bytes(uint32_t type);     /* of a number or a bool; 0 for others */
const char *gguf_type_name(uint32_t type); /* "u8" ... "string" */

struct gguf {
    struct cursor *c;
    bool big;
    uint32_t version;
    uint64_t n_tensors, n_keys;
};
/* Magic, version, counts. Refused: version-1, bad-version, too-many-keys, too-many-tensors (by what
 * the file's bytes allow, too). */
MUSTCHECK enum status gguf_begin(struct gguf *g, struct cursor *c, struct err *e);

struct gguf_kv {
    struct str key;
    uint64_t at, end;  /* of the pair, in the cursor's range */
    uint32_t type;     /* enum gguf_type */
    uint64_t value_at; /* of the value; of a string's or an array's first byte */
    uint64_t bits;     /* numbers and bools: the value's bits, zero-extended */
    uint32_t elem;     /* ARRAY: type of its elements */
    uint64_t n;        /* STRING: bytes; ARRAY: elements */
};
/* The next key-value; the cursor stands behind it then. Key in a. Refused: bad-key (UTF-8, NUL,
 * length), bad-type, nested-array, truncated (lengths beyond the file). */
MUSTCHECK enum status gguf_next_kv(struct gguf *g, struct arena *a, struct gguf_kv *kv,
                                   struct err *e);
/* Appends a pair as a little-endian file holds it. The cursor moves. */
MUSTCHECK enum status gguf_copy_kv(struct gguf *g, const struct gguf_kv *kv, struct buf *b,
                                   struct err *e);

struct gguf_entry {
    struct str name;
    uint64_t at;      /* in the cursor's range */
    uint64_t type_at; /* where its type stands */
    uint32_t n_dims, type;
    uint64_t dim[GGUF_DIMS_MAX]; /* as they stand: the innermost first */
    uint64_t offset;             /* in the data */
};
/* Refused: bad-dims (none, more than four, one that is 0), bad-name. */
MUSTCHECK enum status gguf_next_entry(struct gguf *g, struct arena *a, struct gguf_entry *t,
                                      struct err *e);

/* ---- writing, little-endian, version 3 ---- */
void gguf_w_begin(struct buf *b, uint64_t n_tensors, uint64_t n_keys);
void gguf_w_string(struct buf *b, struct str s);
void gguf_w_kv_string(struct buf *b, struct str key, struct str value);
void gguf_w_kv_u32(struct buf *b, struct str key, uint32_t value);
void gguf_w_entry(struct buf *b, const struct gguf_entry *t);
#endif
