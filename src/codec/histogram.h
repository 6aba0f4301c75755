/* How often each byte value occurs. Exact, so the same on every processor; vector variants only
 * count faster.
 */
#ifndef CODEC_HISTOGRAM_H
#define CODEC_HISTOGRAM_H
#include <stddef.h>
#include <stdint.h>

/* n < 2^32; count is set, not added to. */
void histogram(const uint8_t *p, size_t n, uint32_t count[256]);
#endif
