/* Names. The one spelling that users, digests and rules see is the flat path text: segments
 * joined with '.'. In a segment that comes from a tree format, '.' is written "\." and '\' is
 * written "\\" where it stands before '.' or '\' or at the segment's end. A flat format's name
 * (state_dict key, safetensors name) is taken as text, dots being separators.
 */
#ifndef MODEL_NAME_H
#define MODEL_NAME_H
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum seg_kind { SEG_KEY, SEG_INDEX, SEG_ATTR };
struct seg {
    enum seg_kind kind;
    struct str key; /* unescaped text; decimal digits for SEG_INDEX */
    uint64_t index;
};
struct path {
    struct seg *seg;
    size_t n;
};
/* Splits text into segments (from the arena). A segment of plain decimal digits is SEG_INDEX. */
MUSTCHECK enum status path_parse(struct str text, struct arena *a, struct path *out, struct err *e);
/* Joins with escapes. */
MUSTCHECK enum status path_print(const struct path *p, struct arena *a, struct str *out,
                                 struct err *e);
/* text + '.' + one escaped segment (text may be empty) */
MUSTCHECK enum status path_join(struct str text, struct str segment, struct arena *a,
                                struct str *out, struct err *e);
/* true when print(parse(text)) == text: a tree format can spell it unambiguously */
MUSTCHECK enum status path_round_trips(struct str text, struct arena *a, bool *ok, struct err *e);
#endif
