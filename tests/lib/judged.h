/* Two models validated layer by layer as the command does, natively. */
#ifndef TESTS_LIB_JUDGED_H
#define TESTS_LIB_JUDGED_H
#include "convert/pair.h"
#include "validate/validate.h"
#include <math.h>

/* *r is freed with validate_free, whatever the status. */
static inline enum status judged(const struct model *a, const char *from, const struct model *b,
                                 const char *to, const char *rules, struct validate_report *r,
                                 struct err *e)
{
    struct pairing pr;
    struct plan pa, pb;
    struct pair_opt po = {.from = {from, to}, .rules = str_from(rules)};
    struct validate_opt vo = {.level = VALIDATE_LAYER,
                              .device = "native",
                              .seed = 1,
                              .rtol = NAN,
                              .atol = NAN,
                              .min_coverage = NAN,
                              .run = {.threads = 1}};
    *r = (struct validate_report){0};
    enum status st = pair_layers(a, b, &po, &pr, e);
    if (st != ST_OK)
        return st;
    plan_init(&pa, pr.model[0]);
    plan_init(&pb, pr.model[1]);
    st = plan_identity(&pa, e);
    if (st == ST_OK)
        st = plan_identity(&pb, e);
    if (st == ST_OK)
        st = validate_run(&pa, &pr.layers[0], from, &pb, &pr.layers[1], to, pr.pair, &vo, r, e);
    plan_free(&pa);
    plan_free(&pb);
    pair_free(&pr);
    return st;
}
#endif
