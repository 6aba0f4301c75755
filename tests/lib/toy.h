/* Small models in memory for tests of mapping, and an eager evaluation of a plan's recipes that
 * shares nothing with the run engine: element by element through the views.
 */
#ifndef TESTS_LIB_TOY_H
#define TESTS_LIB_TOY_H
#include "convert/plan.h"
#include <stdarg.h>

/* Adds a float32 tensor (dims end with -1) whose elements are `base`, base + 1, ... in C order. */
uint32_t toy_add(struct model *m, const char *name, double base, ...);
/* The same with an array of dims. */
uint32_t toy_tensor(struct model *m, const char *name, double base, const uint64_t *dim,
                    size_t n_dims);
/* int64 scalar */
uint32_t toy_counter(struct model *m, const char *name, int64_t v);
void toy_done(struct model *m); /* model_finish, must succeed */
/* Values of target tensor t as doubles (float32, float64, int64); malloc'ed. */
double *toy_values(const struct plan *p, size_t t, uint64_t *n);
int64_t toy_find(const struct model *m, const char *name); /* fails the test when absent */
/* A model that holds the plan's target in memory, for going on from there; tree and spelling are
 * taken along. */
void toy_freeze(const struct plan *p, struct model *out);
#endif
