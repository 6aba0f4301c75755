/* PyTorch checkpoints (.pt .pth .bin .ckpt): a zip of records under one prefix; the stream and the
 * tar of before it are told in pytorch_stream.c and pytorch_tar.c, TorchScript in pytorch_script.c.
 *
 *   PREFIX/data.pkl     protocol 2 pickle of the saved object (others are read)
 *   PREFIX/byteorder    "little" or "big"; absent = little
 *   PREFIX/data/KEY     raw bytes of storage KEY, exactly numel elements
 *   PREFIX/version      decimal, 1 to 10
 *
 * A tensor is a call of a torch._utils._rebuild_* function over a storage (persistent id), an
 * offset, a shape and strides in elements; storages may be shared. Cut into shards with an index as
 * Hugging Face does (hf_index.h). Source: pytorch/pytorch torch/serialization.py, torch/_utils.py.
 *
 * Read: state_dicts, checkpoints of nested containers, optimizer state, whole modules (classes are
 * opaque, their arrays are found), numpy arrays inside the pickle.
 * Written: protocol 2 that the weights-only unpickler takes, from torch 1.13 to today's: the tree
 * where it spells the tensors' names, else one OrderedDict; records stored at multiples of 64, one
 * per tensor, ties sharing one; no .format_version record.
 *
 * Refused: what codec/zip.c and codec/pickle.c refuse; torch-no-pickle, torch-version,
 * torch-byteorder, torch-package (told by name, not read), torch-persid,
 * torch-key, torch-device, torch-storage, torch-storage-size, torch-record-missing, torch-args,
 * torch-shape, torch-stride, torch-conj, torch-quantised, numpy-array, numpy-dtype, nodes.
 */
#include "format/pytorch.h"
#include "format/hf_index.h"
#include "format/pytorch_spell.h"
#include <string.h>

static bool fold_ends(struct str s, struct str suffix)
{
    if (s.n < suffix.n)
        return false;
    for (size_t i = 0; i < suffix.n; i++) {
        char c = s.p[s.n - suffix.n + i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        if (c != suffix.p[i])
            return false;
    }
    return true;
}

/* The directory stands at the end of a zip: does it name a data.pkl? */
static bool tail_names_pickle(const struct source *s)
{
    uint8_t tail[4096];
    uint64_t size = file_size(s->file);
    size_t n = size < sizeof tail ? (size_t)size : sizeof tail;
    struct err quiet;
    if (file_pread(s->file, tail, n, size - n, &quiet) != ST_OK)
        return false;
    struct str t = {(const char *)tail, n};
    return str_find_str(t, STR("/data.pkl"), 0) < n || str_find_str(t, STR("/DATA.PKL"), 0) < n;
}

/* The first member's name; a pax header of one block may stand in front. */
static int tar_bid(const struct source *s)
{
    static const char *const names[] = {"storages", "tensors", "pickle", "sys_info"};
    size_t at = s->head[156] == 'x' && s->head_n >= 1536 ? 1024 : 0;
    struct str name = {(const char *)s->head + at, strnlen((const char *)s->head + at, 100)};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(name, names[i]))
            return 80;
    return 0;
}

static int bid(const struct source *s)
{
    static const uint8_t legacy[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9};
    size_t at;
    if (s->dir)
        return hf_index_find(s, PT_INDEX, &at) ? 95 : 0;
    if (s->head_n >= sizeof legacy && memcmp(s->head, legacy, sizeof legacy) == 0)
        return 95;
    if (s->head_n >= 512 && memcmp(s->head + 257, "ustar", 5) == 0)
        return tar_bid(s);
    struct str first = zip_first_name(s->head, s->head_n);
    if (first.n == 0)
        return 0;
    if (fold_ends(first, STR("/data.pkl")))
        return 90;
    if (str_ends(first, STR(".npy")))
        return 0;
    if (tail_names_pickle(s))
        return 70;
    bool named = str_ends(str_from(s->path), STR(".pt")) ||
                 str_ends(str_from(s->path), STR(".pth")) ||
                 str_ends(str_from(s->path), STR(".bin"));
    if (str_find_str(first, STR("/data/"), 0) < first.n || str_ends(first, STR("/version")) ||
        str_ends(first, STR("/constants.pkl")) || str_ends(first, STR("/byteorder")))
        return 60;
    return named ? 35 : 0;
}

const struct format pytorch_format = {
    .name = "pytorch",
    .title =
        "PyTorch checkpoint (zip, TorchScript, legacy stream or tar), one file or indexed shards",
    .suffix = {".pt", ".pth", ".bin", ".ckpt", NULL},
    .reads = true,
    .writes = true,
    .dir_source = true,
    .dir_target = true,
    .aliases = true,
    .trains = true,
    .keeps_tree = pytorch_keeps_tree,
    .framework = "pytorch",
    .refuses = "zips two readers would take differently; pickles that name code; storages whose "
               "record has another size; several objects in one legacy stream; torch.package",
    .bid = bid,
    .read = pytorch_read,
    .check = pytorch_check,
    .begin = pytorch_begin,
    .end = pytorch_end,
    .drop = pytorch_drop,
};
