/* jansson as a second opinion on JSON, kept apart: its names meet those of codec/json.h. */
#ifndef TESTS_LIB_JSON_OTHER_H
#define TESTS_LIB_JSON_OTHER_H
#include "base/str.h"
#include <stdbool.h>

enum json_other {
    OTHER_REFUSES,
    OTHER_TAKES,
    OTHER_CANNOT /* a number beyond a double or 64 bits, which is jansson's limit, not JSON's */
};
enum json_other json_other_reads(struct str text);
/* Both are JSON and the same value. */
bool json_other_same(struct str a, struct str b);
#endif
