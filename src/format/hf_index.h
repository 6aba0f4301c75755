/* The index of a model cut into shards, as Hugging Face writes it beside the shards:
 *   {"metadata": {"total_size": N}, "weight_map": {"tensor": "file", ...}}
 * Used for safetensors and for PyTorch shards. File names in it are foreign: one plain name, no
 * '/', nothing that leaves the folder (code path-escape).
 * Source: huggingface_hub, serialization/_base.py.
 */
#ifndef FORMAT_HF_INDEX_H
#define FORMAT_HF_INDEX_H
#include "base/buf.h"
#include "base/file.h"
#include "format/format.h"

struct hf_entry {
    struct str name;
    uint32_t shard;  /* index into hf_index.file */
    uint64_t offset; /* of the name in the index file */
};
struct hf_index {
    struct hf_entry *entry; /* in file order */
    size_t n;
    struct str *file; /* shard names, sorted, each once */
    size_t n_files;
};
/* Memory from the arena. A tensor named twice is ST_INPUT key-twice, an index without a weight_map
 * index-empty. */
MUSTCHECK enum status hf_index_read(struct file *f, struct arena *a, struct hf_index *out,
                                    struct err *e);
/* Is this the name of an index ("x.index.json", "x.safetensors.index.fp16.json") ? */
bool hf_index_named(struct str file);
/* The indexes among a folder's entries whose name holds `what` (".safetensors.index." or
 * ".bin.index."): how many, and the place of the first in *at. */
size_t hf_index_find(const struct source *s, const char *what, size_t *at);

/* Shard number i (from 0) of n: "model-00001-of-00003.safetensors"; "model.safetensors" when n
 * is 1. */
struct str hf_shard_name(struct arena *a, const char *stem, const char *suffix, size_t i, size_t n);
/* Text of an index: Python's json.dumps(indent=2, sort_keys=True) and a newline. entry[] is sorted
 * in place by name. */
void hf_index_write(struct buf *b, const struct hf_index *x, uint64_t total_size);
/* Greedy cut in the order given, as huggingface_hub does: a tensor joins the open shard unless that
 * passes max; one larger than max stands alone. bytes[i] of item i; shard[i] receives its shard.
 * Returns the number of shards (at least 1). */
size_t hf_shard_cut(const uint64_t *bytes, size_t n, uint64_t max, uint32_t *shard);
#endif
