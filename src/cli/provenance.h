/* provenance.json of an archive: where the weights came from. Facts alone, without host, clock or
 * folder, so that the same files give the same bytes.
 */
#ifndef CLI_PROVENANCE_H
#define CLI_PROVENANCE_H
#include "base/buf.h"
#include "model/model.h"

/* {"files":[{"bytes", "name", "sha256_tree"}...], "format", "framework", "writer"} of m's files,
 * NUL-terminated in *out. sha256_tree is the digest of codec/sha256.h over the whole file, each of
 * which is read for it. */
MUSTCHECK enum status provenance_json(const struct model *m, const char *format, struct buf *out,
                                      struct err *e);
#endif
