/* How much of a tensor a slab holds. See feed.h. */
#include "base/par.h"
#include "convert/feed.h"
#include "convert/number.h"

#define SLAB_BYTES_MAX ((uint64_t)8 << 20)
#define TURN_SLAB_MAX ((uint64_t)4 << 20)
#define TURN_BYTES 512

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Bytes of a slab that makes a matrix transpose read its source's rows in runs of TURN_BYTES: a row
 * costs a page, whatever is taken from it. Wide slabs are left where memory is short. */
static uint64_t turn_slab(const struct feed *f, size_t job)
{
    const struct recipe *r = feed_recipe(f, job, 0);
    uint64_t memory = f->opt.memory ? f->opt.memory : (uint64_t)1 << 30, bytes = SLAB_BYTES;
    if (f->plan[1] || r->n_parts != 1 || r->part[0].src < 0)
        return bytes;
    const struct tensor *t = &f->plan[0]->src->tensor[r->part[0].src];
    struct view v;
    view_load(&v, r->part[0].view);
    view_collapse(&v);
    if (v.n_axes != 2 || v.axis[0].stride != 1 || v.axis[1].stride == 1)
        return bytes;
    uint64_t most = memory / 32 / (uint64_t)par_threads(), rows = v.axis[1].extent;
    uint64_t want = TURN_BYTES / num_bytes(part_unpacks(&r->part[0]) ? DT_F32 : t->dtype) *
                    num_bytes(feed_target(f, job, 0)->dtype);
    if (most > TURN_SLAB_MAX)
        most = TURN_SLAB_MAX;
    while (bytes * 2 <= most && bytes / rows < want)
        bytes *= 2;
    return bytes;
}

uint64_t feed_slab_elems(const struct feed *f, size_t job)
{
    uint64_t size = num_bytes(feed_target(f, job, 0)->dtype), n;
    if (f->plan[1] && num_bytes(feed_target(f, job, 1)->dtype) > size)
        size = num_bytes(feed_target(f, job, 1)->dtype);
    n = turn_slab(f, job) / size;
    /* whole tiles to a slab where that is possible, so that each is decoded once in place */
    for (int k = 0; k < (f->plan[1] ? 2 : 1); k++) {
        const struct recipe *r = feed_recipe(f, job, k);
        if (r->n_parts != 1 || r->part[0].src < 0)
            continue;
        const struct model *m = f->plan[k]->src;
        const struct tensor *t = &m->tensor[r->part[0].src];
        const struct storage *s = &m->storage[t->storage];
        uint64_t each = num_bytes(t->dtype), bytes = s->tile_bytes;
        bool tiled = s->kind == STORAGE_TILED && !s->grid;
        if (part_unpacks(&r->part[0])) {
            each = num_bytes(DT_F32);
            bytes = UNPACK_ELEMS * each;
            tiled = true;
        }
        if (!tiled || bytes == 0 || bytes % each != 0)
            continue;
        uint64_t tile = bytes / each, both = n / gcd(n, tile) * tile;
        if (both * (size > each ? size : each) <= SLAB_BYTES_MAX)
            n = both;
    }
    return n;
}
