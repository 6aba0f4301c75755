/* See sniff.h. Source of the magics: each format's own specification. */
#include "format/sniff.h"
#include <string.h>

static const struct {
    uint16_t at, n;
    const char *magic, *what;
} table[] = {
    {0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive"},
    {0, 3, "\x1f\x8b\x08", "a gzip file"},
    {0, 6,
     "\xfd"
     "7zXZ",
     "an xz file"},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd file"},
    {0, 3, "BZh", "a bzip2 file"},
    {0, 6, "Rar!\x1a\x07", "a rar archive"},
    {0, 4, "\x04\x22\x4d\x18", "an lz4 file"},
    {257, 5, "ustar", "a tar archive"},
    {0, 4, "PK\x03\x04", "a zip archive"},
    {0, 4, "PK\x05\x06", "an empty zip archive"},
    {0, 8, "\x89HDF\r\n\x1a\n", "an HDF5 file"},
    {0, 4, "GGUF", "a GGUF file"},
    {4, 4, "TFL3", "a TFLite file"},
    {0, 6, "\x93NUMPY", "an npy array"},
    {0, 4, "\x0c\xdb\x3a\x2a", "an OCDBT manifest"},
    {0, 4,
     "\x7f"
     "ELF",
     "an ELF program"},
    {0, 4, "%PDF", "a PDF"},
    {0, 5, "<?xml", "XML text"},
    {0, 9, "<!DOCTYPE", "HTML text"},
    {0, 5, "<html", "HTML text"},
    {0, 23, "version https://git-lfs", "a Git LFS pointer, not the file itself"},
};

const char *sniff(const struct source *s)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (s->head_n >= (size_t)table[i].at + table[i].n &&
            memcmp(s->head + table[i].at, table[i].magic, table[i].n) == 0)
            return table[i].what;
    if (s->head_n >= 2 && s->head[0] == 0x80 && s->head[1] >= 2 && s->head[1] <= 5)
        return "a pickle";
    if (s->head_n == 0)
        return "an empty file";
    if (s->head[0] == '{' || s->head[0] == '[')
        return "JSON text, or something like it";
    return NULL;
}
