/* Archives of our own: what the command `verify` needs besides reading and writing. The format
 * itself is archive_format (archive.c); nnferry-archive(5) says what lies in a file.
 */
#ifndef FORMAT_ARCHIVE_H
#define FORMAT_ARCHIVE_H
#include "base/err.h"

struct archive_facts {
    uint64_t n_frames, n_members, n_tensors; /* aliases counted among the tensors */
    uint64_t stored_bytes, raw_bytes;        /* of the file; of the decoded tar stream */
};
/* Reads everything: structure, every check, every tar header, every tensor's digest, every sum.
 * Memory is bounded by the metadata and by the number of threads, not by the tensors. ST_OK: all of
 * it holds. ST_NO: recognised and wrong, *e says where. ST_INPUT: not to be opened or not an
 * archive. Others as everywhere. */
MUSTCHECK enum status archive_verify(const char *path, struct archive_facts *facts, struct err *e);
#endif
