/* FlatBuffers, reading: every step from one table to the next is proved against the buffer's end
 * before it is taken. Knows no schema: the caller asks a table for field number i. Failures stick
 * in the cursor; an absent or unreachable thing reads as its default, so callers check cur_ok once.
 *
 *   0      u32   place of the root table
 *   4      4     file identifier
 *   table  i32   back to its vtable: u16 bytes of it, u16 bytes of the table, u16 per field: its
 *                place in the table, 0 = absent
 *   a reference is a u32, forward from its own place; a vector u32 count and elements, a string
 *   u32 length, bytes and a NUL
 *
 * Codes: truncated, flat-offset (a reference that leads nowhere in the buffer), flat-table,
 * flat-vector, flat-string. Nothing is owned.
 * Source: google/flatbuffers, docs/source/internals.md.
 */
#ifndef CODEC_FLATBUF_H
#define CODEC_FLATBUF_H
#include "base/cursor.h"

#define FLAT_MAX ((uint64_t)0x7fffffff) /* what 31-bit references reach */

struct flat_table {
    struct cursor *c;
    uint64_t at, vtable; /* range positions; 0, 0: absent, every field is its default */
    uint16_t vtable_bytes, bytes;
};
struct flat_vector {
    struct cursor *c;
    uint64_t at; /* of the first element, in the cursor's range */
    uint64_t n;
};

/* The root table of the buffer that begins where the cursor's range does. */
struct flat_table flat_root(struct cursor *c);
/* Numbers; `otherwise` where the field is absent. */
uint64_t flat_number(const struct flat_table *t, unsigned field, unsigned bytes,
                     uint64_t otherwise);
/* absent: at == 0 */
struct flat_table flat_sub(const struct flat_table *t, unsigned field);
/* A vector of elements of so many bytes; n == 0 where it is absent. */
struct flat_vector flat_vector(const struct flat_table *t, unsigned field, unsigned elem_bytes);
/* Element i < v->n as a number, or as a reference to a table. */
uint64_t flat_element(const struct flat_vector *v, uint64_t i, unsigned bytes);
struct flat_table flat_element_table(const struct flat_vector *v, uint64_t i);
/* The bytes of a string, its NUL proved but not counted; as a vector of bytes. */
struct flat_vector flat_string(const struct flat_table *t, unsigned field);
/* ... copied into the arena; .p == NULL after a failure. */
struct str flat_text(const struct flat_table *t, unsigned field, struct arena *a);
#endif
