/* Archive: names of members, the choice of planes, and README.txt. */
#include "codec/tar.h"
#include "format/archive_impl.h"

bool ar_span(enum dtype t, uint64_t n_elems, bool plain, uint64_t *bytes, bool *unpacked)
{
    bool six = t == DT_F6_E2M3FN || t == DT_F6_E3M2FN;
    *unpacked = false;
    if (!six && dtype_span(t, n_elems, bytes))
        return true;
    if (plain || dtype_info(t)->bits >= 8)
        return false;
    *unpacked = true;
    *bytes = n_elems;
    return true;
}

enum planes_kind ar_kind(enum dtype t, uint64_t bytes, bool plain)
{
    if (plain || bytes < PLANES_SMALL)
        return PLANES_NONE;
    switch (t) {
    case DT_BF16:
        return PLANES_ROT2;
    case DT_F16:
    case DT_C32:
        return PLANES_SPLIT2;
    case DT_F32:
    case DT_C64:
        return PLANES_ROT4;
    case DT_F64:
    case DT_C128:
        return PLANES_ROT8;
    case DT_F8_E4M3FN:
    case DT_F8_E5M2:
    case DT_F8_E4M3FNUZ:
    case DT_F8_E5M2FNUZ:
    case DT_F6_E2M3FN:
    case DT_F6_E3M2FN:
        return PLANES_BYTE;
    default:
        return PLANES_NONE;
    }
}

uint32_t ar_parts(uint64_t bytes)
{
    return bytes == 0 ? 1 : (uint32_t)((bytes - 1) / AR_PART_BYTES + 1);
}

uint64_t ar_part_bytes(uint64_t bytes, uint32_t part)
{
    uint64_t lo = part * AR_PART_BYTES;
    return bytes - lo < AR_PART_BYTES ? bytes - lo : AR_PART_BYTES;
}

struct str ar_part_name(struct arena *a, uint32_t member, uint32_t part)
{
    return arena_fmt(a, "weights/%06u.%03u", member, part);
}

struct str ar_shard_name(struct arena *a, uint32_t shard, uint32_t n_shards)
{
    return arena_fmt(a, "weights/model-%05u-of-%05u.safetensors", shard + 1, n_shards);
}

struct str ar_weight_name(struct arena *a, const struct ar *ar, const struct ar_tensor *t)
{
    return ar->plain ? ar_shard_name(a, t->member, ar->n_shards)
                     : arena_fmt(a, "weights/%06u", t->member);
}

static bool plain_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

struct str ar_attach_name(struct arena *a, struct str name, size_t number)
{
    char out[256] = "attach/";
    size_t n = 7;
    bool start = true, fits = name.n > 0; /* start: at the first byte of a part */
    for (size_t i = 0; fits && i < name.n; i++) {
        uint8_t c = (uint8_t)name.p[i];
        bool cut = c == '/' && !start && i + 1 < name.n;
        if (cut || plain_byte(c) || (c == '.' && !start)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = "0123456789ABCDEF"[c >> 4];
            out[n++] = "0123456789ABCDEF"[c & 15];
        }
        start = cut;
        fits = n <= 240;
    }
    uint8_t head[TAR_BLOCK];
    struct str s = {out, n};
    return fits && tar_header(head, s, 0) ? arena_str(a, s.p, s.n)
                                          : arena_fmt(a, "attach/%%%06zu", number);
}

#define CHECKING                                                                                   \
    "To check the members after unpacking (the weights are bound by manifest.json):\n"             \
    "\n"                                                                                           \
    "    sha256sum -c SHA256SUMS\n"                                                                \
    "\n"                                                                                           \
    "manifest.json lists every tensor: name, dtype, shape, role, the member that holds it, and\n"  \
    "the digest of its bytes (little-endian, C order; values below a byte one a byte, in its\n"    \
    "lowest bits). The digest of bytes b is a SHA-256 tree, in Python:\n"                          \
    "\n"                                                                                           \
    "    from hashlib import sha256\n"                                                             \
    "    leaves = [sha256(b[i:i+65536]).digest() for i in range(0, len(b), 65536)]\n"              \
    "    sha256(b'nnt1' + len(b).to_bytes(8, 'little') + b''.join(leaves)).hexdigest()\n"          \
    "\n"                                                                                           \
    "Tensors that are the same one twice say so in alias_of (the number of the other, from 0).\n"  \
    "attach/ holds files that came along, train.json containers and values around the tensors,\n"  \
    "provenance.json where the weights came from.\n"

static const char planes_text[] =
    AR_HEAD "\n"
            "\n"
            "This is a tar file in zstd frames. Any zstd and tar unpack it:\n"
            "\n"
            "    zstd -dc FILE.tar.zst | tar -xf -\n"
            "\n" CHECKING "\n"
            "Weights are stored as byte planes. A tensor is one file per 2^30 bytes,\n"
            "weights/NNNNNN.000, weights/NNNNNN.001 ...; the manifest's \"planes\" names the way:\n"
            "\n"
            "    rotate-2 rotate-4 rotate-8   words of 2, 4, 8 bytes, rotated left by one bit\n"
            "    split-2                      words of 2 bytes\n"
            "    byte none                    the bytes as they are\n"
            "\n"
            "Every 2^20 bytes of a part stand for themselves: first the lowest byte of all their\n"
            "words, then the second lowest, and so on. In numpy, with w the word's bytes and p\n"
            "the file's bytes (np.fromfile(name, np.uint8)):\n"
            "\n"
            "    x = b''.join(p[i:i+2**20].reshape(w, -1).T.tobytes() for i in range(0, p.size, "
            "2**20))\n"
            "    x = np.frombuffer(x, '<u%d' % w)\n"
            "    x = x >> 1 | x << 8 * w - 1            # rotate-* only\n"
            "\n"
            "and x.view(dtype).reshape(shape) is the tensor. The same as a C program, from\n"
            "standard input to standard output; arguments: w, and 1 for rotate-*:\n"
            "\n"
            "    #include <stdint.h>\n"
            "    #include <stdio.h>\n"
            "    #include <stdlib.h>\n"
            "    int main(int argc, char **argv)\n"
            "    {\n"
            "        static unsigned char p[1 << 20];\n"
            "        size_t n, w = argc > 1 ? atoi(argv[1]) : 1;\n"
            "        int rotate = argc > 2 && atoi(argv[2]);\n"
            "        while ((n = fread(p, 1, sizeof p, stdin)) > 0)\n"
            "            for (size_t i = 0; i < n / w; i++) {\n"
            "                uint64_t v = 0;\n"
            "                for (size_t k = 0; k < w; k++)\n"
            "                    v |= (uint64_t)p[k * (n / w) + i] << 8 * k;\n"
            "                if (rotate)\n"
            "                    v = v >> 1 | (v & 1) << (8 * w - 1);\n"
            "                for (size_t k = 0; k < w; k++)\n"
            "                    putchar(v >> 8 * k & 255);\n"
            "            }\n"
            "        return 0;\n"
            "    }\n";

static const char plain_text[] =
    AR_HEAD "\n"
            "\n"
            "This is a tar file in zstd frames. Any zstd and tar unpack it:\n"
            "\n"
            "    zstd -dc FILE.tar.zst | tar -xf -\n"
            "\n" CHECKING "\n"
            "Weights are stored as safetensors files under weights/, which load as they are.\n";

const char *ar_readme(bool plain)
{
    return plain ? plain_text : planes_text;
}
