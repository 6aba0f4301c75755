/* Goldens: files made by the real frameworks, each with NAME.json that says what is in it.
 */
#ifndef TESTS_LIB_GOLDEN_H
#define TESTS_LIB_GOLDEN_H
#include "format/format.h"

/* Opens the golden (content decides the format) and compares names, dtypes, shapes, bytes and
 * aliases with NAME.json. Fails through cmocka. */
void golden_check(const char *path, const char *format);
/* Names in a folder that end in suffix, sorted, malloc'ed; *n of them. */
char **golden_list(const char *folder, const char *suffix, size_t *n);
void golden_list_free(char **list, size_t n);
#endif
