/* Tar, as far as archives of ours need it: POSIX ustar headers whose bytes are a function of name
 * and size alone (mode 0644, owner 0, time 0, no names of users, no devices). Reading is comparing:
 * a header is right when it equals the one that would be written for its name and size, so links,
 * devices, pax records and forged fields need no list of refusals.
 * Source: POSIX.1-2017 pax, ustar interchange format; sizes from 8 GiB on in base 256, as GNU tar,
 * libarchive and Python read them.
 */
#ifndef CODEC_TAR_H
#define CODEC_TAR_H
#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/str.h"

#define TAR_BLOCK 512
/* false: the name cannot be said (empty, over 255 bytes, or no '/' where it must be cut). */
bool tar_header(uint8_t out[TAR_BLOCK], struct str name, uint64_t size);
/* The size a header states, or false when the field is not one tar_header writes. */
bool tar_size(const uint8_t head[TAR_BLOCK], uint64_t *size);
/* Zero bytes that fill a member of this size up to a whole block. */
static inline size_t tar_pad(uint64_t size)
{
    return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* ---- foreign archives ---- */

struct tar_entry {
    struct str name;
    uint64_t header, data, bytes; /* file offsets; bytes of the data */
};
/* Every member of a tar of plain files: ustar, GNU and pax headers; folders are left out. Names are
 * foreign. ST_INPUT tar-checksum, tar-header, tar-type (links, devices), tar-pax (a record that
 * would change name, size or target), tar-name-twice, tar-end, "truncated". */
MUSTCHECK enum status tar_list(struct file *f, struct arena *a, struct tar_entry **out, size_t *n,
                               struct err *e);
#endif
