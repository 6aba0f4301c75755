"""ZIP containers that readers disagree about (PyTorch files)."""

import struct

import zips
from lib import case
from zips import DATA, Member, torch_members, torch_zip, zip_bytes

GOOD = torch_zip()
TENSORS = {"w": DATA}


def z(id, blob, code, offset=None, exit=3, **kw):
    case(id, "m.pt", exit, code, offset, build=blob, twin=GOOD, **kw)


def members(change):
    """The good members, changed in place by change(list)."""
    m = torch_members()
    change(m)
    return zip_bytes(m)


def set_field(i, side, **fields):
    return members(lambda m: getattr(m[i], side).update(fields))


def cd_at(blob):
    return struct.unpack_from("<I", blob, blob.rindex(b"PK\5\6") + 16)[0]


def central_of(blob, i):
    at = cd_at(blob)
    for _ in range(i):
        n, x, c = struct.unpack_from("<HHH", blob, at + 28)
        at += 46 + n + x + c
    return at


def local_of(blob, i):
    return struct.unpack_from("<I", blob, central_of(blob, i) + 42)[0]


case("Z00-good", "m.pt", 0, build=GOOD, expect_tensors=TENSORS)

twice = members(lambda m: m.append(Member("a/data.pkl", b"N.")))
z("Z01", twice, "zip-name-twice", central_of(twice, 4))

upper = zip_bytes([Member("a/DATA.PKL", zips.state_dict(("w", zips.tensor())))] + torch_members()[1:])
z("Z02-only", upper, "torch-no-pickle", central_of(upper, 0))
pair = members(lambda m: m.append(Member("a/DATA.PKL", b"N.")))
z("Z02-pair", pair, "zip-name-case", central_of(pair, 4))

b = set_field(2, "local", name=b"a/data/1")
z("Z04", b, "zip-local-name", local_of(b, 2) + 30)

b = set_field(2, "local", method=8)
z("Z05-local", b, "zip-local-method", local_of(b, 2) + 8)
b = set_field(2, "central", method=8)
z("Z05-central", b, "zip-local-method", local_of(b, 2) + 8)
b = members(lambda m: m.__setitem__(2, Member("a/data/0", DATA, method=8, stored=b"\xff" * 9)))
z("Z05-noise", b, {"inspect": None, "convert": "deflate-bad"}, exit={"inspect": 0, "convert": 3})
b = members(lambda m: m.__setitem__(0, Member("a/data.pkl", zips.state_dict(("w", zips.tensor())),
                                              method=8, stored=b"\xff" * 9)))
z("Z05-pickle", b, "deflate-bad")

for field, code, at in (("stored", "zip-local-size", 18), ("raw", "zip-local-size", 18),
                        ("crc", "zip-local-crc", 14)):
    b = set_field(2, "local", **{field: 4})
    z(f"Z06-{field}", b, code, local_of(b, 2) + at)

b = members(lambda m: setattr(m[2], "crc", m[2].crc ^ 1))
z("Z08", b, {"inspect": None, "convert": "zip-crc"}, exit={"inspect": 0, "convert": 3})
b = members(lambda m: setattr(m[0], "crc", m[0].crc ^ 1))
z("Z08-pickle", b, "zip-crc", zips.pickle_at(b))
b = members(lambda m: [setattr(x, "crc", 0) for x in m])
case("Z08b", "m.pt", 0, build=b, expect_warn="zip-no-crc", expect_tensors=TENSORS)


def shared(m):
    m[2] = Member("a/data/0", b"\0" * 4096)
    for i in range(200):
        m.append(Member(f"a/data/{i + 1}", b"\0" * 4096, skip_local=True, header=0,
                        local=None))


def one_header():
    m = torch_members()
    shared(m)
    blob = zip_bytes(m)
    at = local_of(blob, 2)
    for x in m[4:]:
        x.header = at
    return zip_bytes(m)


b = one_header()
z("Z09", b, "zip-overlap")


def quoted():
    """Fifield: each deflate stream is one stored block that quotes the next local header."""
    kernel = Member("a/data/3", b"\0" * 60000, method=8, pad=False)
    quote = zips.local_header(kernel, 0)
    block = b"\0" + struct.pack("<HH", len(quote), 0xFFFF ^ len(quote)) + quote
    outer = Member("a/data/2", quote + kernel.data, method=8, stored=block + quote + kernel.stored)
    outer.stored = block + kernel.stored
    m = torch_members() + [outer]
    inner = Member("a/data/3", kernel.data, method=8, stored=kernel.stored, skip_local=True)
    blob = zip_bytes(m)
    inner.header = blob.rindex(quote)
    return zip_bytes(m + [inner])


z("Z10", quoted(), "zip-overlap")

good = torch_members()
second = GOOD[GOOD.rindex(b"PK\5\6"):]
z("Z12-inside", zip_bytes(good, comment=b"x" * 10 + second), "zip-two-ends")
z("Z12-short", zip_bytes(good, comment=b"hello", comment_n=4), "zip-end-length")
z("Z12-long", zip_bytes(good, comment=b"hello", comment_n=6), "zip-end-length")
case("Z12-comment", "m.pt", 0, build=zip_bytes(good, comment=b"hello"), expect_tensors=TENSORS)

z("Z13-more", zip_bytes(good, count=5), "zip-count")
z("Z13-less", zip_bytes(good, count=3), "zip-count")


def many():
    m = torch_members() + [Member(f"a/x/{i}", b"", pad=False) for i in range(65533)]
    return zip_bytes(m, count=1)


z("Z13-many", lambda d: many(), "zip-count", metadata_bytes=6_000_000)

z("Z14-offset", zip_bytes(good, cd_shift=1), "zip-central-place")
z("Z14-size", zip_bytes(good, cd_more=-1), "zip-central-place")
case("Z14-byte", "m.pt", 3, None, False, build=zip_bytes(good, prefix=b"\0"), twin=GOOD)
z("Z14-byte-forced", zip_bytes(good, prefix=b"\0", shift=0), "zip-prefix", 0,
  args=(("inspect", "--input-format", "pytorch", "{file}"),))
z("Z14-mib", zip_bytes(good, prefix=b"\0" * (1 << 20), shift=0), "zip-prefix", 0,
  args=(("inspect", "--input-format", "pytorch", "{file}"),))
z("Z14-tail", zip_bytes(good, tail=b"\0"), "zip-end-length")


def extra(side, data, **fields):
    def change(m):
        setattr(m[2], side + "_extra", data)
        getattr(m[2], side).update(fields)
        m[2].pad = False
    return members(change)


zip64 = struct.pack("<HHQQ", 1, 16, len(DATA), len(DATA))
b = extra("central", zip64[:12] * 2, raw=0xFFFFFFFF)
z("Z16-twice", extra("central", (struct.pack("<HHQ", 1, 8, len(DATA))) * 2, raw=0xFFFFFFFF),
  "zip-zip64-twice")
z("Z16-local-twice", extra("local", zip64 * 2), "zip-zip64-twice")
z("Z16-none", set_field(2, "central", raw=0xFFFFFFFF), "zip-zip64")
z("Z16-past", extra("central", struct.pack("<HH", 0x5455, 9) + b"\0" * 5), "zip-extra")
z("Z16-local-past", extra("local", struct.pack("<HH", 0x5455, 9) + b"\0" * 5), "zip-extra")
case("Z16-forced", "m.pt", 0, build=extra("local", zip64), expect_tensors=TENSORS)
case("Z16-forced-new", "m.pt", 0,
     build=extra("local", zip64, raw=0xFFFFFFFF, stored=0xFFFFFFFF), expect_tensors=TENSORS)

z("Z17-hidden", members(lambda m: m.insert(2, Member("a/x", b"secret", skip_central=True))),
  "zip-gap")
z("Z17-gap", zip_bytes(good, gap=b"\0" * 7), "zip-gap")
z("Z17-between", members(lambda m: setattr(m[1], "after", b"abc")), "zip-gap")


def named(name, flags=0x0800, extra=b""):
    return members(lambda m: m.append(Member(name, b"x", flags=flags, central_extra=extra,
                                             local_extra=extra, pad=False)))


z("Z18-absolute", named("/etc/x"), "zip-name")
z("Z18-parent", named("../../x"), "zip-name")
z("Z18-inner", named("a/../../x"), "zip-name")
z("Z18-nul", named(b"a/x\0y"), "zip-name")
z("Z18-long", named("a" * 65535), "zip-name-long")
z("Z18-utf8", named(b"a/\xff\xfe"), "zip-name")
z("Z18-cp437", named("a/\u00e9", flags=0), "zip-name")
z("Z18-unicode", named("a/x", extra=struct.pack("<HHBI", 0x7075, 8, 1, 0) + b"b/y"),
  "zip-name-extra")

for what, head in (("7z", b"7z\xbc\xaf\x27\x1c\0\4"), ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
                   ("xz", b"\xfd7zXZ\0\0\4"), ("zstd", b"\x28\xb5\x2f\xfd\x04\0\x01\0\0")):
    z(f"Z20-{what}", head + b"\0" * 600, "unrecognised")
tar = b"x.pt" + b"\0" * 253 + b"ustar\00000" + b"\0" * (1024 - 265)
z("Z20-tar", tar, "unrecognised")


def described(at64=False):
    """Data descriptors, as PyTorch writes them."""
    def change(m):
        for x in m:
            if not x.data:
                continue
            x.flags = 0x0808
            x.local.update(crc=0, stored=0, raw=0)
            x.after = struct.pack("<IIQQ" if at64 else "<IIII", 0x08074B50, x.crc, len(x.data),
                                  len(x.data))
    return members(change)


case("Z21-descriptors", "m.pt", 0, build=described(), expect_tensors=TENSORS)
case("Z21-wide", "m.pt", 0, build=described(True), expect_tensors=TENSORS)
b = bytearray(described())
at = b.index(b"PK\7\x08", local_of(bytes(b), 2))
b[at + 4] ^= 1
z("Z21-differs", bytes(b), "zip-descriptor", at)
z("Z22-encrypted", members(lambda m: setattr(m[2], "flags", 0x0801)), "zip-encrypted")
z("Z22-flags", members(lambda m: setattr(m[2], "flags", 0x0820)), "zip-flags")
z("Z22-method", members(lambda m: [setattr(m[2], "method", 12), setattr(m[2], "pad", False)]),
  "zip-method")
z("Z22-bomb", members(lambda m: m[2].central.update(raw=1 << 31, method=8) or
                      m[2].local.update(raw=1 << 31, method=8)), "zip-size")
