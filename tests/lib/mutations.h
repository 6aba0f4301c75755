/* The twins through validate, and every mutation that it must notice; on whatever device is named.
 */
#ifndef TESTS_LIB_MUTATIONS_H
#define TESTS_LIB_MUTATIONS_H
#include "tests/lib/twins.h"
#include "validate/validate.h"

/* Level layer, every layer paired with its namesake. memory: struct run_opt; 0 = the default. */
void twin_check(struct twin_net *a, struct twin_net *b, const char *device, uint64_t memory,
                struct validate_report *r);
void twin_print(const struct validate_report *r);
void twins_are_equal(const char *device);
void mutations_differ(const char *device);
#endif
