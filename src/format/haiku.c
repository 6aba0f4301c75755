/* Haiku checkpoints: pickles of nested dicts of numpy or jax arrays, as `pickle.dump` and
 * `joblib.dump` write them, of any protocol.
 *
 *   pickle  opcodes; an array is a call of numpy's or jax's own (haiku_array.c), whose bytes stand
 *           in the file (protocol 3 to 5) or are spelled as text in it (0 to 2)
 *   joblib  the same, but an array is an object NumpyArrayWrapper, behind whose BUILD opcode stand
 *           [1 byte p, p bytes of ff,] and the raw elements, outside of any opcode; the file as a
 *           whole may be a zlib or gzip stream, which is then decoded into a spool
 *
 *   usual contents: {module path: {parameter: array}}, as dicts, FlatMapping or frozendict; or a
 * dict or tuple of such with hk state and optax states (named tuples). Nothing in the file is
 * called: names off the list of haiku_table.c are opaque nodes.
 *
 * Written: protocol 3, or 4 where an array passes 4 GiB: plain dicts, lists and tuples, and arrays
 * that pickle.load makes with numpy alone. bfloat16 is numpy's two-byte void there. A model without
 * a tree becomes dicts by the parts of its names, which for Haiku's names are their two levels.
 * Source: google-deepmind/dm-haiku haiku/_src/data_structures.py; see haiku_array.c, haiku_table.c.
 *
 * Refused: what codec/pickle.c refuses; numpy-array, numpy-dtype, numpy-object, jax-array,
 * haiku-mapping, pickle-latin1, pickle-string, pickle-bytes, pickle-persid, bad-name, nodes,
 * joblib-compression, joblib-zfile, joblib-files, deflate-bad, deflate-short, deflate-long,
 * deflate-tail.
 */
#include "format/haiku.h"
#include "codec/unwrap.h"
#include <string.h>

static bool named_so(const struct source *s)
{
    static const char *const suffix[] = {".pkl", ".pickle", ".joblib", ".p", ".pkl.gz", ".pkl.z"};
    struct str path = str_from(s->path);
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++)
        if (str_ends(path, str_from(suffix[i])))
            return true;
    return false;
}

static bool names_arrays(const uint8_t *p, size_t n)
{
    static const char *const package[] = {"numpy", "jax", "haiku", "joblib", "optax", "ml_dtypes"};
    struct str head = {(const char *)p, n};
    for (size_t i = 0; i < sizeof package / sizeof *package; i++)
        if (str_find_str(head, str_from(package[i]), 0) < n)
            return true;
    return false;
}

/* How much these first bytes look like a pickle; peeked: they are few, out of a compressed file. In
 * a folder less than 50 is no set of weights. */
static int looks(const uint8_t *p, size_t n, bool named, bool peeked)
{
    static const char text_start[] = "(]})clNIFSVL}", *const plain[] = {"(dp", "(lp", "cnumpy",
                                                                        "(tp"};
    if (n < 2)
        return named ? 1 : 0;
    if (p[0] == 0x80 && p[1] >= 2 && p[1] <= 5)
        return peeked || names_arrays(p, n) ? 75 : 45; /* vocabularies are pickles, too */
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (n >= strlen(plain[i]) && memcmp(p, plain[i], strlen(plain[i])) == 0)
            return 50;
    bool opcode = p[0] >= 0x80 ? p[0] <= 0x98 : p[0] != 0 && strchr(text_start, p[0]) != NULL;
    return named && opcode ? 40 : named ? 2 : 0;
}

static int bid(const struct source *s)
{
    uint8_t first[64];
    size_t n;
    if (s->dir)
        return 0;
    bool named = named_so(s);
    if (unwrap_peek(s->head, s->head_n, first, sizeof first, &n)) {
        int b = looks(first, n, named, true);
        return b > 5 ? b - 5 : b;
    }
    if (named && s->head_n >= 3 &&
        (memcmp(s->head, "BZh", 3) == 0 ||
         memcmp(s->head,
                "\xfd"
                "7z",
                3) == 0 ||
         memcmp(s->head, "\x5d\0\0", 3) == 0 || memcmp(s->head, "\x04\x22\x4d", 3) == 0 ||
         memcmp(s->head, "ZF", 2) == 0))
        return 45;
    return looks(s->head, s->head_n, named, false);
}

const struct format haiku_format = {
    .name = "haiku",
    .title = "Haiku pickle: nested dicts of numpy or jax arrays; joblib",
    .suffix = {".pkl", ".pickle", ".joblib", NULL},
    .reads = true,
    .writes = true,
    .tree = true,
    .aliases = true,
    .trains = true,
    .framework = "haiku",
    .refuses = "pickles that name code, arrays whose bytes disagree with shape and dtype, object "
               "arrays, out-of-band buffers, joblib streams of bzip2, xz, lzma and lz4",
    .bid = bid,
    .read = haiku_read,
    .check = haiku_check,
    .begin = haiku_begin,
    .end = haiku_end,
};
