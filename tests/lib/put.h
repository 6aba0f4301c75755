/* A writer's engine for tests: one thread, tensors from memory, every call a format's writer may
 * expect from the run engine, in the plainest way. */
#ifndef TESTS_LIB_PUT_H
#define TESTS_LIB_PUT_H
#include "format/format.h"

/* Writes m to path (replacing it); data[i] are tensor i's bytes (NULL for aliases). */
MUSTCHECK enum status put_model(const struct format *f, const struct model *m,
                                const uint8_t *const *data, const struct write_opt *opt,
                                const char *path, struct err *e);
#endif
