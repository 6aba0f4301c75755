/* CRC-32C, and the joining of checksums of pieces: the sum of a whole from the sums of its parts,
 * so that threads may sum slabs in any order. CRC-32 itself is in codec/deflate.h.
 * CRC-32 (IEEE 802.3): reflected polynomial 0xedb88320. CRC-32C (RFC 3720): 0x82f63b78.
 */
#ifndef CODEC_CRC_H
#define CODEC_CRC_H
#include <stddef.h>
#include <stdint.h>

#define CRC32_POLY UINT32_C(0xedb88320)
#define CRC32C_POLY UINT32_C(0x82f63b78)

/* CRC-32C of the bytes so far and n more; start with 0. */
uint32_t crc32c_update(uint32_t crc, const void *p, size_t n);
/* The sum of a followed by b, from their sums and b's length. */
uint32_t crc_join(uint32_t poly, uint32_t a, uint32_t b, uint64_t b_bytes);
#endif
