/* Axis letters. A layout is written as one word per axis: a letter ("O"), letters in parentheses
 * for a flattened axis ("(N D)"), "1" for an axis of extent 1, "-H" for an axis stored reversed.
 * Two layouts over the same letters define the edits that carry a tensor from one to the other:
 *     "O I H W"  ->  "H W I O"        permute
 *     "(N D) E"  ->  "E N D"          split and permute
 *     "I O H W"  ->  "-H -W I O"      flip and permute
 * No data is touched; everything is an edit of a view.
 */
#ifndef FRAMEWORK_AXES_H
#define FRAMEWORK_AXES_H
#include "base/arena.h"
#include "model/view.h"

#define AXES_MAX 16   /* letters of one layout */
#define AXES_NONE " " /* the layout without axes; an empty text is no layout */
/* letters of a fixed extent in the tables: the pair that a rotary embedding turns; q, k and v */
#define AXES_PAIR 'p'
#define AXES_TRIPLE 't'
struct axes {
    uint8_t n_dims;
    uint8_t n; /* letters, in stored order */
    struct {
        char letter; /* '1' for an extent of 1 */
        bool flip;
        uint8_t dim; /* the axis it belongs to */
    } at[AXES_MAX];
};
/* Extents by letter; 0 = not known. */
struct axes_size {
    uint64_t of[128];
};

/* ST_USAGE "bad-axes" for text that is no layout: rules files are foreign. */
MUSTCHECK enum status axes_parse(struct str text, struct axes *out, struct err *e);
/* Learns extents from a shape; a parenthesis may leave at most one letter open. ST_CANNOT
 * "axes-shape" when the shape does not fit or an extent stays open (heads, channels). */
MUSTCHECK enum status axes_learn(const struct axes *x, const uint64_t *dim, size_t n_dims,
                                 struct axes_size *size, struct err *e);
/* The shape a layout has with these extents. ST_CANNOT when one is missing or overflows. */
MUSTCHECK enum status axes_shape(const struct axes *x, const struct axes_size *size, uint64_t *dim,
                                 struct err *e);
/* Edits v, whose dims are those of `from`, into `to`. Both hold the same letters. Extents known
 * beforehand are given in *size; those read from v are added. */
MUSTCHECK enum status axes_apply(struct view *v, const struct axes *from, const struct axes *to,
                                 struct axes_size *size, struct err *e);
#endif
