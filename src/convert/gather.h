/* Strided copies out of memory: any range of a view's C order becomes a dense run. The one place
 * that walks axes; transposes go through the kernels.
 */
#ifndef CONVERT_GATHER_H
#define CONVERT_GATHER_H
#include "model/view.h"

/* A box of a collapsed view that is one range of its C order. */
struct box {
    int64_t offset;  /* of its first element, in elements */
    uint64_t lo, hi; /* the C-order range */
    uint8_t n_axes;
    struct axis axis[VIEW_MAX_AXES];
};
/* Cuts [lo, hi) of v's C order (v collapsed) off at the front: *b receives the first box, the
 * caller goes on from b->hi. With `hull`, boxes may reach past lo and hi (by less than half of the
 * range) so that they get thicker; b->lo <= lo then. */
void box_next(const struct view *v, uint64_t lo, uint64_t hi, bool hull, struct box *b);

/* dst[0 .. hi-lo) = elements lo..hi of v (collapsed) of `size` bytes each, whose storage element 0
 * would lie at origin (only bytes that the range touches are read). */
void gather(const struct view *v, uint64_t lo, uint64_t hi, const uint8_t *origin, size_t size,
            uint8_t *dst);
/* As gather for a plain matrix transpose of 4-byte floats, each cast to bf16 on the way. False when
 * the view is no such transpose; nothing is done then. *over: a finite value overflowed. */
bool gather_bf16(const struct view *v, uint64_t lo, uint64_t hi, const uint8_t *origin,
                 uint8_t *dst, bool *over);
/* A dense run of elements, by size. Small moves do not pass through the libc. */
void copy_run(uint8_t *dst, const uint8_t *src, size_t n);
#endif
