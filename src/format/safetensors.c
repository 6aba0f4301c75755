/* safetensors: a JSON table of tensors and one buffer of their bytes.
 *
 *   0       u64     N, at most 100,000,000
 *   8       N       JSON object, first byte '{', may end in blanks:
 *                   {"__metadata__":{text:text}, NAME:{"dtype","shape","data_offsets":[lo,hi]}}
 *   8+N             the buffer; ranges tile it without hole, overlap or rest
 *
 * Source: huggingface/safetensors, README and safetensors/src/tensor.rs. Cut into shards, with an
 * index, as huggingface_hub does (hf_index.h).
 *
 * Tied tensors are written in full under every name, so that each loader finds each key; the
 * metadata key "nnferry.aliases" holds {alias: kept} as compact JSON. The reader believes it only
 * after comparing the two ranges byte by byte (up to 4 GiB); what differs stays two tensors, with
 * a warning, so a file that lies loses nothing. The older custom, metadata REMOVED -> KEPT for a
 * name that was left out, is read as an alias of KEPT.
 *
 * Refused: truncated, header-length, header-start, json-* (codec/json.h), bad-entry, key-twice,
 * bad-metadata, bad-name, name-too-long, unknown-dtype, bad-shape, shape-overflow, bad-offsets,
 * out-of-bounds, size-mismatch, part-byte, hole, overlap, trailing-bytes, too-many-tensors;
 * of an index: path-escape, index-mismatch, index-empty.
 */
#include "format/safetensors.h"
#include "format/hf_index.h"

/* A damaged file is bid for too, low, so that the reader can say what is wrong with it. */
static int bid(const struct source *s)
{
    size_t at;
    if (s->dir)
        return hf_index_find(s, ST_INDEX, &at) ? 95 : 0;
    uint64_t n = 0, size = file_size(s->file);
    bool named = str_ends(str_from(s->path), STR(".safetensors"));
    if (s->head_n < 8)
        return named ? 1 : 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | s->head[i];
    bool fits = n <= size - 8 && n <= ST_HEADER_MAX;
    uint8_t first = s->head_n > 8 ? s->head[8] : 0;
    if (first == '{' && fits)
        return 90;
    if (first == '{' || (fits && (first == '[' || first == ' ' || first == 0xef)))
        return 20;
    return named ? 1 : 0;
}

const struct format safetensors_format = {
    .name = "safetensors",
    .title = "safetensors, one file or a folder of shards with an index",
    .suffix = {".safetensors", NULL},
    .reads = true,
    .writes = true,
    .dir_source = true,
    .dir_target = true,
    .aliases = true,
    .keeps_meta = {"*"},
    .framework = "hf",
    .refuses = "ranges that overlap, leave a hole or a rest; doubled or unknown keys' values; "
               "names with NUL or of 64 KiB; shards outside the folder",
    .bid = bid,
    .read = safetensors_read,
    .check = safetensors_check,
    .begin = safetensors_begin,
    .end = safetensors_end,
};
