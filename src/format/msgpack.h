/* The parts of the Flax msgpack format among themselves; the registry sees only msgpack_format
 * (msgpack.c).
 */
#ifndef FORMAT_MSGPACK_H
#define FORMAT_MSGPACK_H
#include "format/format.h"

#define FLAX_CHUNKED "__msgpack_chunked_array__"
#define FLAX_CHUNK_BYTES ((uint64_t)1 << 30) /* arrays above this are cut, as Flax does */
enum { FLAX_NDARRAY = 1, FLAX_COMPLEX = 2, FLAX_SCALAR = 3 };

/* text of a NODE_TENSOR that is a numpy scalar, not an array without axes */
#define FLAX_SCALAR_MARK "numpy.generic"

enum status flax_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e);
enum status flax_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status flax_begin(struct writer *w, struct err *e);
enum status flax_end(struct writer *w, struct err *e);
#endif
