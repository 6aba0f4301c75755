/* A model written as the files of a folder, as Hugging Face names them: STEM-00001-of-00003SUFFIX
 * and, where there are several, the index STEMSUFFIX.index.json. How tensors are cut into them is
 * hf_index.h's, what lies in a file its format's.
 */
#ifndef FORMAT_HF_SHARDS_H
#define FORMAT_HF_SHARDS_H
#include "format/hf_index.h"

struct hf_shards {
    const char *stem, *suffix;
    size_t n;
    uint64_t total; /* bytes of all tensors */
};
/* .p == NULL when memory is out. */
struct str hf_shards_name(struct arena *a, const struct hf_shards *x, size_t shard);
/* ST_CANNOT where an attachment would have the name of one of the files. */
MUSTCHECK enum status hf_shards_check(const struct hf_shards *x, const struct model *m,
                                      struct arena *a, struct err *e);
/* Writes the index. entry[n] has every tensor's name and shard, and is sorted. */
MUSTCHECK enum status hf_shards_index(const struct hf_shards *x, struct writer *w,
                                      struct hf_entry *entry, size_t n, struct err *e);
#endif
