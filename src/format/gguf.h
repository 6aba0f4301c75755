/* The parts of the gguf format, among themselves. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H
#include "codec/gguf.h"
#include "format/format.h"

#define GGUF_ALIGNMENT 32u            /* where general.alignment says nothing */
#define GGUF_ALIGNMENT_MAX (1u << 20) /* more is refused */
#define GGUF_TENSOR_NAME_MAX 63u      /* ggml's loader takes no longer ones */
/* All key-values of a file, each as a little-endian file holds it, one after the other. */
#define GGUF_ATTACHMENT "gguf.kv"
#define GGUF_MEDIA_TYPE "application/x-gguf-kv"

/* ---- types (gguf_types.c) ---- */
enum dtype gguf_dtype(uint32_t type);           /* DT_NONE when unknown */
bool gguf_type_of(enum dtype t, uint32_t *out); /* false: GGUF has none */
/* A storage whose blocks lie in a big-endian file at *s (FLAT): tiled, put right tile by tile. */
void gguf_swap_blocks(struct storage *s, enum dtype t);

/* ---- reading (gguf_read.c) ---- */
enum status gguf_read(struct source *s, const struct read_opt *opt, struct model *m, struct err *e);
/* Is this a name of part N of M ("x-00001-of-00003.gguf")? *stem_n: bytes before "-00001". */
bool gguf_part_name(struct str name, uint32_t *part, uint32_t *n_parts, size_t *stem_n);

/* ---- key-values (gguf_kv.c) ---- */
/* One file's pairs, as they stand: the cursor is behind the counts, and behind the pairs then.
 * Fills m's metadata and, unless bare, its attachment; tells scan what it asks for. */
struct gguf_keys {
    uint32_t alignment;
    bool has_split;
    uint32_t split_no, split_count;
    uint64_t split_tensors; /* UINT64_MAX: not said */
};
enum status gguf_read_keys(struct gguf *g, struct file *f, const struct read_opt *opt, bool first,
                           struct model *m, struct gguf_keys *out, struct err *e);
/* The pairs a file of m's shall have, into b; *n how many, *alignment what they say. */
enum status gguf_write_keys(const struct model *m, struct buf *b, uint64_t *n, uint32_t *alignment,
                            struct err *e);

/* ---- writing (gguf_write.c) ---- */
enum status gguf_check(const struct model *m, const struct write_opt *opt, struct err *e);
enum status gguf_begin_file(struct writer *w, struct err *e);
enum status gguf_end_file(struct writer *w, struct err *e);
#endif
