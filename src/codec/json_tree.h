/* A small JSON text as a tree of values, for metadata whose keys come in any order. Built over the
 * pull reader (codec/json.h): no recursion, a limit on the number of values, no key twice.
 *
 * ST_INPUT as json.h says; json-values (more than max_values), key-twice.
 */
#ifndef CODEC_JSON_TREE_H
#define CODEC_JSON_TREE_H
#include "codec/json.h"

struct json_value {
    enum json_kind kind; /* OBJECT, ARRAY, STRING, NUMBER, BOOL, NULL */
    bool truth;
    bool is_int;     /* NUMBER: no fraction, no exponent */
    struct str key;  /* inside an object */
    struct str text; /* STRING: unescaped; NUMBER: as written */
    uint64_t at;     /* in the cursor's range */
    size_t n;        /* children */
    struct json_value *child, *last, *next, *parent;
};
/* One value, filling the cursor's range but for blanks. */
MUSTCHECK enum status json_tree(struct cursor *c, struct arena *a, size_t max_values,
                                struct json_value **out, struct err *e);
const struct json_value *json_get(const struct json_value *object, const char *key); /* or NULL */
/* A whole number in range; false else, and for NULL. */
bool json_value_u64(const struct json_value *v, uint64_t *out);
bool json_value_is(const struct json_value *v, const char *text); /* a string, this one */
#endif
