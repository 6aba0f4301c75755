/* Flax msgpack: one map with text keys, nested; arrays are extensions. Grammar: codec/msgpack.h.
 *
 *   leaf    nil, bool, int, float64, str, bin, or ext
 *   ext 1   array: [shape [int ...], dtype name, data in C order, little-endian]
 *   ext 2   complex number: [re, im], float64
 *   ext 3   numpy scalar: as ext 1 with shape []
 *   array of more than 2^30 bytes:
 *           {"__msgpack_chunked_array__": true, "shape": {"0": d0 ...}, "chunks": {"0": ext1 ...}},
 *           each chunk flat; they are one tensor here
 *
 * Lists and tuples are maps with the keys "0", "1" ...; 4-bit and 2-bit types lie one value a byte.
 * Everything that is no array hangs in model.tree. Roles: model/roles.h.
 * Source: google/flax, flax/serialization.py.
 *
 * Written so that flax.serialization.from_bytes and msgpack_restore take it, in the bytes Flax
 * itself would write for that tree. A model without a tree becomes nested maps, its names cut at
 * the dots, keys in byte order.
 *
 * Refused beside what the grammar refuses: flax-top (the top is no map), msgpack-key (a key that is
 * no text), key-twice, bad-name, unknown-dtype, shape-overflow, bad-array, size-mismatch,
 * bad-scalar, unknown-ext, chunked-array, msgpack-numpy, gda-placeholder, too-many-nodes.
 */
#include "format/msgpack.h"

static int bid(const struct source *s)
{
    if (s->dir)
        return 0;
    struct str path = str_from(s->path);
    bool named = str_ends(path, STR(".msgpack")) || str_ends(path, STR(".flax"));
    if (s->head_n == 0)
        return named ? 1 : 0;
    uint8_t t = s->head[0];
    size_t key = t >= 0x80 && t <= 0x8f ? 1 : t == 0xde ? 3 : t == 0xdf ? 5 : 0;
    if (t == 0x80) /* an empty map, one byte: too little to know it by */
        return !named ? 0 : file_size(s->file) == 1 ? 60 : 20;
    if (key == 0)
        return named ? 1 : 0;
    if (s->head_n <= key)
        return named ? 20 : 0;
    uint8_t k = s->head[key];
    bool text = (k >= 0xa0 && k <= 0xbf) || (k >= 0xd9 && k <= 0xdb);
    /* the four bytes of count and key prove little; a name and text behind them prove more */
    size_t lo = key + (k == 0xdb ? 5u : k == 0xda ? 3u : k == 0xd9 ? 2u : 1u);
    bool plain = text && lo <= s->head_n;
    for (size_t i = lo; plain && i < lo + (k & 31) && i < s->head_n && k <= 0xbf; i++)
        plain = s->head[i] >= 0x20 && s->head[i] != 0x7f;
    return plain ? 60 : named ? 20 : 0;
}

const struct format msgpack_format = {
    .name = "msgpack",
    .title = "Flax msgpack: variables, TrainState",
    .suffix = {".msgpack", ".flax", NULL},
    .reads = true,
    .writes = true,
    .tree = true,
    .trains = true,
    .framework = "flax",
    .refuses = "keys that are no text or stand twice, sizes that disagree with shape and dtype, "
               "chunks out of order, unknown extensions, multi-host placeholders, pickles of "
               "msgpack-numpy, bytes behind the map",
    .bid = bid,
    .read = flax_read,
    .check = flax_check,
    .begin = flax_begin,
    .end = flax_end,
};
