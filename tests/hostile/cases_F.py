"""Hostile archives, and names on their way into one.

An archive's checks cover every byte, so a change from outside is told by a check (frames-tail,
frames-check, frame-check). Forgeries whose checks are mended are in tests/unit/test_archive.c,
which can compute them.
"""

import pathlib
import struct

from lib import case, safetensors_bytes

GOOD = (pathlib.Path(__file__).resolve().parent.parent / "fuzz/corpus/archive/planes").read_bytes()
READ = (("inspect", "{file}"),
        ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"))
VERIFY = (("verify", "{file}"),)
TABLE = len(GOOD) - 8 - struct.unpack("<I", GOOD[GOOD.rindex(b"\x5e\x2a\x4d\x18") + 4:][:4])[0]


def change(find, put, at=0):
    i = GOOD.index(find, at)
    assert len(find) == len(put)
    return GOOD[:i] + put + GOOD[i + len(find):]


def bad(tag, data, code, offset=None, read=True, unrecognised=False):
    """verify says no; reading refuses where it must look at the place."""
    case(f"F08-{tag}-verify", "a.tar.zst", 3 if unrecognised else 1, code, offset, VERIFY,
         build=data, twin=GOOD)
    if read:
        case(f"F08-{tag}-read", "a.tar.zst", 3, code, offset, READ, build=data, twin=GOOD)


bad("unknown-key", change(b'"framework"', b'"framewerk"', GOOD.index(b'{"attachments"')), "frame-check")
bad("weaker-hash", change(b'"sha256-tree"', b'"md5-----------'[:13]), "frame-check")
bad("stripped-check", GOOD[:TABLE], "frames-tail")
bad("stripped-sums", change(b"SHA256SUMS", b"SHA256SUMZ", GOOD.rindex(b"ustar") - 300), "frame-check")
bad("readme", change(b"nnferry archive", b"nnferry Archive"), "frame-check", read=False)
bad("extra-file", GOOD + GOOD[:GOOD.index(b"\x28\xb5\x2f\xfd", 4)], "frames-tail")
bad("other-table", GOOD[:TABLE + 8] + b"\xff\xff\xff\xff" + GOOD[TABLE + 12:], "frames-tail")
bad("frames-2p27", GOOD[:-9] + b"\xff\xff\xff\x07" + GOOD[-5:], "frames-tail")
bad("frames-0", GOOD[:-9] + bytes(4) + GOOD[-5:], "frames-tail")
bad("reserved-bit", GOOD[:-5] + b"\x04" + GOOD[-4:], "frames-tail", len(GOOD) - 9)
bad("tail", GOOD + b"\0", "frames-tail")
bad("half", GOOD[:len(GOOD) // 2], "frames-tail")
bad("strange", b"\x28\xb5\x2f\xfd" + bytes(64), "unrecognised", unrecognised=True, read=False)

NAMES = ["a/b", "..", "../../x", "n" * 300, "A", "a", "\u00e9", "e\u0301", "\x1b[31mred", "a b\n",
         "%41", ".hidden", "CON"]
case("F06-names", "n.safetensors", 0,
     args=(("convert", "{file}", "-o", "{out}/OUT.tar.zst", "--as-is"),),
     build=safetensors_bytes([(n, "U8", [1], bytes([i])) for i, n in enumerate(NAMES)]))
