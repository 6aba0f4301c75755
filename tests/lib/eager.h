/* An eager reader for tests: the whole tensor's canonical bytes (little-endian, C order, sub-byte
 * values one a byte), element by element, without the run engine.
 */
#ifndef TESTS_LIB_EAGER_H
#define TESTS_LIB_EAGER_H
#include "model/model.h"

/* malloc'ed, *n bytes; NULL when the storage could not be decoded (then *e says why). */
uint8_t *eager_read(const struct model *m, size_t tensor, size_t *n, struct err *e);
/* Decodes a whole storage; malloc'ed. */
uint8_t *eager_storage(const struct storage *s, struct err *e);
/* Lower-case hex of the SHA-256 of p. */
void sha_hex(const void *p, size_t n, char hex[65]);
#endif
