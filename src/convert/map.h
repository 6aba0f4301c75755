/* Mapping: from a source model to a plan in the target framework's names and axes. Frameworks map
 * only to and from the canonical spelling; a layer without a rule keeps its names, axes and tag.
 */
#ifndef CONVERT_MAP_H
#define CONVERT_MAP_H
#include "convert/plan.h"
#include "format/format.h"
#include "framework/upgrade.h"

struct map_opt {
    const char *from; /* framework of the source; NULL = recognise */
    const char *to;   /* "flax" ...; "source" = the spelling before canonical; NULL = keep names and
                         axes   (canonical when the target is the archive, unless as_is) */
    const struct model *like;       /* target skeleton: names and shapes to meet; NULL = none */
    struct str rules;               /* text of a rules file (nnferry-map.5), empty = none */
    const char *rules_path;         /* for messages */
    const char *const *dtype;       /* --dtype entries "bfloat16" or "GLOB=bfloat16"; NULL ends */
    const char *const *select;      /* globs; NULL = all */
    const char *const *allow_drop;  /* globs */
    const char *const *allow_synth; /* globs */
    const struct upgrade *upgrade;  /* what --upgrade did to the source's names; NULL = not asked */
    bool allow_overflow;
    bool drop_train_state;
    bool weights_only;
    bool as_is;
    bool facts_only;  /* of the rules only what is said of layers (kind, flatten, heads, rank), used
                         or not */
    bool unexplained; /* nobody will read the plan's reasons: they may be missing */
    bool folder;      /* the target is a folder: attachments become files in it */
};
/* Fills *p (plan_init done by the caller). ST_CANNOT: what is ambiguous, lost or not expressible;
 * then *rules_out (a buf the caller frees) holds a rules file to complete, with the candidates as
 * comments, when one would help. Ends with plan_prove. */
MUSTCHECK enum status map_plan(struct plan *p, const struct map_opt *o, const struct format *target,
                               uint64_t max_output, struct buf *rules_out, struct err *e);
/* id --canonical: a plan whose target holds canonical names and axes; an unmapped layer is
 * ST_CANNOT. rules_version receives the version of the rules (a number that changes when any rule
 * does). */
MUSTCHECK enum status map_canonical(struct plan *p, const char *from, uint32_t *rules_version,
                                    struct err *e);
/* The same, with a rules file for what names and shapes do not tell. */
MUSTCHECK enum status map_canonical_ruled(struct plan *p, const char *from, struct str rules,
                                          const char *rules_path, uint32_t *rules_version,
                                          struct err *e);
#endif
