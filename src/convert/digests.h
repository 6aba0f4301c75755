/* What run_write keeps of every slab for run_readback; private to the run engine. */
#ifndef CONVERT_DIGESTS_H
#define CONVERT_DIGESTS_H
#include "base/arena.h"
#include "base/err.h"
#include "format/format.h"

struct tensor_digests {
    uint64_t slab_elems; /* 0: an alias that was not written */
    uint64_t n_slabs;
    bool proved;            /* every slab was read back when it was written */
    bool unpacked;          /* as in struct place */
    struct kept_slab *slab; /* of those */
    uint8_t (*xxh)[16];     /* of the others */
};
struct slab_digests {
    struct arena arena;
    size_t n_tensors;
    struct tensor_digests *tensor; /* per target tensor */
};
#endif
