/* GGUF: the files of ggml and llama.cpp, versions 2 and 3, either byte order.
 *
 *   "GGUF"  u32 version  u64 n_tensors  u64 n_keys
 *   key-values, tensor entries (codec/gguf.h)
 *   zeros up to general.alignment (32 where it is not said)
 *   tensor data, in the entries' order, each padded to the alignment
 *
 * An entry's dimensions stand the innermost first; shapes here are C order. A quantised tensor is
 * carried as raw blocks (model/dtype.h). Numbers in blocks of a big-endian file are turned round.
 * A model in parts, NAME-00001-of-00003.gguf, has its key-values in the first.
 * Source: ggml, docs/gguf.md, src/gguf.cpp, include/ggml.h; gguf-py for what its reader takes.
 *
 * Refused: bad-magic, version-1, bad-version, too-many-tensors, too-many-keys, truncated, bad-key,
 * bad-name, bad-type, nested-array, key-twice, bad-alignment, bad-split, bad-dims, unknown-type,
 * shape-overflow, part-block, unaligned, overlap, hole, out-of-bounds, name-twice.
 * With a warning: long-name, trailing-bytes.
 * Not written: names of more than 63 bytes, tensors without dimensions or elements or with more
 * than four dimensions, types that ggml has not.
 */
#include "format/gguf.h"
#include <string.h>

static int bid(const struct source *s)
{
    uint32_t part, n;
    size_t stem;
    if (s->dir) {
        for (size_t i = 0; i < s->n_entries; i++)
            if (!s->entry[i].is_dir && gguf_part_name(s->entry[i].name, &part, &n, &stem) &&
                part == 1 && n > 1)
                return 95;
        return 0;
    }
    if (s->head_n < 4 || memcmp(s->head, "GGUF", 4) != 0)
        return str_ends(str_from(s->path), STR(".gguf")) ? 1 : 0;
    /* in a folder, parts are not sets of their own */
    return gguf_part_name(str_from(s->path), &part, &n, &stem) && n > 1 ? 45 : 90;
}

static bool companion(struct str set, struct str name)
{
    return set.n == 0 && str_ends(name, STR(".gguf"));
}

const struct format gguf_format = {
    .name = "gguf",
    .title = "GGUF of ggml and llama.cpp, with quantised tensors",
    .suffix = {".gguf", NULL},
    .reads = true,
    .writes = true,
    .dir_source = true,
    .keeps = {GGUF_ATTACHMENT},
    .keeps_meta = {"*"},
    .refuses = "version 1; offsets that overlap, leave a hole or are not aligned; arrays of "
               "arrays; doubled keys or names; parts that are missing or do not fit their names",
    .bid = bid,
    .companion = companion,
    .read = gguf_read,
    .check = gguf_check,
    .begin = gguf_begin_file,
    .end = gguf_end_file,
};
