/* What run_write keeps of every slab for run_readback; private to the run engine. */
#ifndef CONVERT_DIGESTS_H
#define CONVERT_DIGESTS_H
#include "base/arena.h"
#include "base/err.h"

struct tensor_digests {
    uint64_t slab_elems;
    uint64_t n_slabs;
    uint8_t (*xxh)[16]; /* NULL: an alias that was not written */
};
struct slab_digests {
    struct arena arena;
    size_t n_tensors;
    struct tensor_digests *tensor; /* per target tensor */
};
#endif
