/* The archive of our own: one file that `zstd -dc F | tar xf -` opens, and that is read in parallel
 * and at random. nnferry-archive(5) is its specification.
 *
 *   data frames of zstd         codec/frames.h; their raw bytes are a ustar stream, every tar
 * header, every chunk of 1 MiB of a member and every padding a frame (of a chunk of planes: one
 * frame a plane, codec/planes.h): README.txt              how to check and load it without nnferry
 *       weights/NNNNNN.PPP      planes: a tensor in parts of 1 GiB
 *       weights/model-*         plain: safetensors files of 1 GiB or one tensor
 *       attach/...              attachments, their names escaped (%XX)
 *       train.json              containers and values around the tensors (archive_tree.c)
 *       provenance.json         where the weights came from (archive_origin.c)
 *       manifest.json           all of the above as data (archive_manifest.c)
 *       SHA256SUMS              of every member before it but the weights (--sums full: them too)
 *   check frame, seek table     codec/frames.h
 *
 * Files: archive_write.c writes; archive_map.c proves the structure, archive_read.c gives the
 * tiles, archive_verify.c reads everything. Refused: frames-tail frames-check frame-check
 * (codec/frames.h), zstd-frame (codec/zstd.h), archive-member archive-frames archive-padding
 * archive-shard frame-ratio (archive_map.c), manifest-key manifest-value manifest-canonical
 * manifest-version unknown-dtype shape-overflow (archive_manifest.c), tree-json (archive_tree.c),
 * provenance-key provenance-value provenance-canonical (archive_origin.c), and what codec/json.h
 * and model_finish refuse.
 */
#include "format/archive_impl.h"

const struct format archive_format = {
    .name = "archive",
    .title = "nnferry's own archive: tar in zstd frames, weights as byte planes",
    .suffix = {".tar.zst"},
    .reads = true,
    .writes = true,
    .tree = false,
    .aliases = true,
    .trains = true,
    .origin = true,
    .keeps = {"*"},
    .keeps_meta = {"*"},
    .refuses = "anything but what nnferry writes: damaged frames, members not listed in the "
               "manifest, unknown manifest keys",
    .bid = ar_bid,
    .read = ar_read,
    .check = ar_check,
    .begin = ar_begin,
    .around = ar_around,
    .end = ar_end,
    .tile_is = ar_tile_is,
};
