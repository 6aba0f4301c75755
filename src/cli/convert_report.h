/* What convert says beside its plan and its ledger: notes on layers, and what casts cost. */
#ifndef CLI_CONVERT_REPORT_H
#define CLI_CONVERT_REPORT_H
#include "convert/cast_cost.h"

/* To standard error, at most `most` different texts; layers alike in one line. */
void notes_say(const struct plan *p, size_t most);
void notes_print(const struct plan *p); /* all, to standard output */
void notes_json(const struct plan *p);  /* all, as "notes" */

struct casts { /* zeroed: not asked for, nothing is printed */
    struct arena a;
    struct cast_cost *cost;
    size_t n;
    bool asked;
};
MUSTCHECK enum status casts_measure(struct casts *c, const struct plan *p, const struct run_opt *o,
                                    struct err *e);
void casts_print(const struct casts *c, const struct plan *p);
void casts_json(const struct casts *c, const struct plan *p); /* "casts", "casts_in_all" */
void casts_free(struct casts *c);
#endif
