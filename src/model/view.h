/* Views: where the elements of a tensor lie in its storage. A view is an offset and a list of
 * atomic axes (extent, signed stride), grouped into logical axes; all in elements of the dtype.
 * Edits touch no data: permute, slice, split, join, flip, reshape, expand. Element
 * (i0,i1,..) over the atomic axes lies at offset + sum(i_k * stride_k). Logical order is C order
 * of the atomic axes.
 *
 * Sub-byte and block types: offset and strides count elements; the innermost axis
 * must be stride 1 and slices fall on byte (block) bounds, else an unpack op is needed
 * (view_to_blocks says whether).
 */
#ifndef MODEL_VIEW_H
#define MODEL_VIEW_H
#include "base/arena.h"
#include "base/err.h"

#define VIEW_MAX_AXES 64 /* atomic and logical */

struct axis {
    uint64_t extent;
    int64_t stride;
};
struct view {
    int64_t offset;
    uint8_t n_axes; /* atomic axes */
    uint8_t n_dims; /* logical axes */
    uint8_t
        group_end[VIEW_MAX_AXES]; /* logical axis d covers atomic [group_end[d-1], group_end[d]) */
    struct axis axis[VIEW_MAX_AXES];
};

/* A view as tensors and parts hold it: as long as its axes need, in an arena, never changed. `dim`
 * is its logical shape, n_dims long, readable (and not NULL) for n_dims == 0, too. Edits load it
 * into a struct view and keep the outcome. */
struct view_kept {
    int64_t offset;
    const uint64_t *dim;
    uint8_t n_axes, n_dims; /* as in struct view */
    struct axis axis[];     /* n_axes; then the extents; then group ends, unless one axis a dim */
};
extern const struct view_kept view_scalar;        /* no axes, offset 0 */
extern const uint64_t view_origin[VIEW_MAX_AXES]; /* zeros: where a box at the origin begins */
MUSTCHECK enum status view_keep(const struct view *v, struct arena *a, const struct view_kept **out,
                                struct err *e);
void view_load(struct view *v, const struct view_kept *k);
/* What view_elems, view_bounds, view_is_c and view_same say of the view that was kept. */
uint64_t kept_elems(const struct view_kept *k);
void kept_bounds(const struct view_kept *k, int64_t *lo, int64_t *hi);
bool kept_is_c(const struct view_kept *k);
bool kept_same(const struct view_kept *a, const struct view_kept *b);

/* C-order view of a shape; offset 0. ST_LIMIT with more than VIEW_MAX_AXES dims, ST_INPUT
 * "shape-overflow" when the product passes 2^62. */
MUSTCHECK enum status view_c(struct view *v, const uint64_t *dim, size_t n, struct err *e);
/* With explicit strides (in elements). */
MUSTCHECK enum status view_strided(struct view *v, const uint64_t *dim, const int64_t *stride,
                                   size_t n, int64_t offset, struct err *e);
uint64_t view_dim(const struct view *v, size_t d);
uint64_t view_elems(const struct view *v); /* product; views are checked when made */
void view_shape(const struct view *v, uint64_t *dim);
/* Lowest and one past the highest element touched; 0,0 for an empty view. */
void view_bounds(const struct view *v, int64_t *lo, int64_t *hi);
bool view_is_c(const struct view *v); /* contiguous C order (offset apart) */
bool view_same(const struct view *a,
               const struct view *b); /* same elements in the same order and shape */

/* Edits, in place. ST_BUG for arguments out of range (ours, never the file's). ST_CANNOT "view-cut"
 * where a slice or split of a joined axis is no box of its parts; v is unchanged then. */
MUSTCHECK enum status view_permute(struct view *v, const uint8_t *perm, size_t n, struct err *e);
MUSTCHECK enum status view_slice(struct view *v, size_t d, uint64_t lo, uint64_t hi, struct err *e);
/* logical axis d of extent a*b becomes two axes a, b (C order) */
MUSTCHECK enum status view_split(struct view *v, size_t d, uint64_t inner, struct err *e);
/* logical axes d and d+1 become one (C order) */
MUSTCHECK enum status view_join(struct view *v, size_t d, struct err *e);
MUSTCHECK enum status view_flip(struct view *v, size_t d, struct err *e);
/* inserts an axis of extent 1 before d, or drops such an axis */
MUSTCHECK enum status view_insert(struct view *v, size_t d, struct err *e);
MUSTCHECK enum status view_drop(struct view *v, size_t d, struct err *e);
/* axis d of extent 1 becomes extent n with stride 0 */
MUSTCHECK enum status view_expand(struct view *v, size_t d, uint64_t n, struct err *e);
/* Any shape with the same product: regroups, splitting atomic axes by divisors. *ok = false (and v
 * unchanged) when the shapes cut across groups: the planner must materialise first. */
MUSTCHECK enum status view_reshape(struct view *v, const uint64_t *dim, size_t n, bool *ok,
                                   struct err *e);
/* Same elements with the fewest atomic axes (merges neighbours that continue each other, drops
 * extent 1); logical grouping is lost: one logical axis per atomic axis. For the mover. */
void view_collapse(struct view *v);
/* Block types: v, counted in elements of blocks of n elements in `bytes` bytes, becomes a collapsed
 * view of those raw bytes, C order of whole blocks. False, and v undefined, where v cuts blocks or
 * does not take their elements in order. */
MUSTCHECK bool view_to_blocks(struct view *v, uint64_t n, uint64_t bytes);
#endif
