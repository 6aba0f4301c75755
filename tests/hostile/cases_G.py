"""Hostile GGUF files."""

import struct

from lib import case, safetensors_bytes

U8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 2, 4, 5, 6, 7, 8, 9, 10


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def u32(key, value):
    return kv(key, U32, struct.pack("<I", value))


def entry(name="w", kind=0, dims=(3, 2), offset=0, n_dims=None):
    return (text(name) + struct.pack("<I", len(dims) if n_dims is None else n_dims)
            + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset))


def gguf(keys=(), entries=None, data=b"\1" * 24, version=3, n_keys=None, n_tensors=None, align=32):
    entries = [entry()] if entries is None else entries
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries) if n_tensors is None else n_tensors,
                                 len(keys) if n_keys is None else n_keys)
    head += b"".join(keys) + b"".join(entries)
    return head + b"\0" * (-len(head) % align) + data


ARCH = kv("general.architecture", STRING, text("llama"))
GOOD = gguf([ARCH])
AT = 24 + len(ARCH)  # of the first entry, or of a second key


def bad(id, code, build, offset=None, twin=GOOD, **kw):
    case(id, "m.gguf", 3, code, offset, build=build, twin=twin, **kw)


# ---- G01, G02: versions and counts ----
bad("G01-0", "bad-version", gguf(version=0), 4)
bad("G01-1", "version-1", gguf(version=1), 4)
bad("G01-4", "bad-version", gguf(version=4), 4)
bad("G01-swapped", "too-many-tensors", gguf(version=0x03000000), 8)
bad("G01-magic", "truncated", b"GGUF", 4)
for v in (2, 3):
    case(f"G01-v{v}", "m.gguf", 0, build=gguf([ARCH], version=v), expect_tensors={"w": b"\1" * 24})
for tag, n in (("2p63", 1 << 63), ("1e9", 10**9), ("all", (1 << 64) - 1)):
    bad(f"G02-keys-{tag}", "too-many-keys", gguf(n_keys=n)[:56], 16)
    bad(f"G02-tensors-{tag}", "too-many-tensors", gguf(n_tensors=n)[:56], 8)

# ---- G04: values ----
bad("G04-array", "truncated",
    (gguf([kv("a", ARRAY, struct.pack("<IQ", U8, 1 << 30))]) + b"\0" * 519)[:519])
bad("G04-array-wraps", "truncated", gguf([kv("a", ARRAY, struct.pack("<IQ", U64, 1 << 61))]))
bad("G04-array-strings", "truncated", gguf([kv("a", ARRAY, struct.pack("<IQ", STRING, 1 << 61))]))
bad("G04-nested", "nested-array", gguf([kv("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 10000)]))
bad("G04-element", "bad-type", gguf([kv("a", ARRAY, struct.pack("<IQ", 99, 1))]))
bad("G04-type", "bad-type", gguf([kv("a", 99, b"\0" * 8)]))
bad("G04-string", "truncated", gguf([kv("a", STRING, struct.pack("<Q", (1 << 64) - 1))]))
bad("G04-key", "bad-key", gguf([struct.pack("<Q", 1 << 40) + b"k" * 64]), 24)
bad("G04-key-twice", "key-twice", gguf([ARCH, ARCH]), AT)
bad("G04-key-utf8", "bad-key", gguf([kv(b"\xff", U8, b"\0")]))

# ---- G05: alignment ----
for tag, n in (("0", 0), ("3", 3), ("2p31", 1 << 31)):
    bad(f"G05-{tag}", "bad-alignment", gguf([u32("general.alignment", n)]), 24,
        twin=gguf([u32("general.alignment", 64)], align=64))
bad("G05-string", "bad-alignment", gguf([kv("general.alignment", STRING, text("32"))]), 24)
bad("G05-twice", "key-twice",
    gguf([u32("general.alignment", 32), u32("general.alignment", 64)]),
    twin=gguf([u32("general.alignment", 32)]))

# ---- G06: dimensions ----
for n in (0, 5, 0xFFFFFFFF):
    bad(f"G06-n{n}", "bad-dims", gguf([ARCH], [entry(n_dims=n)]), AT + 9)
bad("G06-dim0", "bad-dims", gguf([ARCH], [entry(dims=(0, 2))]), AT + 13)
bad("G06-wraps", "shape-overflow", gguf([ARCH], [entry(dims=((1 << 63) + 500, 2))]), AT)
bad("G06-bytes", "shape-overflow", gguf([ARCH], [entry(kind=28, dims=(1 << 30, 1 << 29))]), AT)
bad("G06-part-block", "part-block", gguf([ARCH], [entry(kind=2, dims=(48, 2))], b"\1" * 54))

# ---- G08: types ----
for t in (4, 5, 31, 36, 999, (1 << 32) - 1):
    bad(f"G08-{t}", "unknown-type", gguf([ARCH], [entry(kind=t)]), AT + 29)

# ---- G09: places ----
PAIR = gguf([ARCH], [entry("a"), entry("b", offset=32)], b"\1" * 64)
bad("G09-unaligned", "unaligned", gguf([ARCH], [entry(offset=4)], b"\1" * 64))
bad("G09-far", "hole", gguf([ARCH], [entry(offset=1 << 32)]))
bad("G09-alias", "overlap", gguf([ARCH], [entry("a"), entry("b")], b"\1" * 64), twin=PAIR)
bad("G09-hole", "hole", gguf([ARCH], [entry("a"), entry("b", offset=64)], b"\1" * 128), twin=PAIR)
bad("G09-order", "hole", gguf([ARCH], [entry("b", offset=32), entry("a")], b"\1" * 64), twin=PAIR)
bad("G09-huge", "out-of-bounds", gguf([ARCH], [entry(dims=(1 << 30, 1 << 28))]))
bad("G09-wraps", "unaligned", gguf([ARCH], [entry(offset=(1 << 64) - 4)]))
case("G09-tail", "m.gguf", 0, build=GOOD + b"\7" * 512, expect_warn="trailing-bytes",
     expect_tensors={"w": b"\1" * 24})

# ---- G10: names ----
bad("G10-twice", "name-twice", gguf([ARCH], [entry("a"), entry("a", offset=32)], b"\1" * 64),
    twin=PAIR)
case("G10-65", "m.gguf", 0, build=gguf([ARCH], [entry("n" * 65)]), expect_warn="long-name",
     expect_tensors={"n" * 65: b"\1" * 24})
bad("G10-64k", "bad-name", gguf([ARCH], [entry("n" * 65536)]), AT)
bad("G10-utf8", "bad-name", gguf([ARCH], [entry(b"w\xc3")]))
bad("G10-nul", "bad-name", gguf([ARCH], [entry(b"w\0x")]))
bad("G10-empty", "bad-name", gguf([ARCH], [entry("")]), AT)


# ---- G12: parts ----
def part(no, count, tensors=2, keys=(), **kw):
    return gguf([kv("split.no", U16, struct.pack("<H", no)),
                 kv("split.count", U16, struct.pack("<H", count)),
                 kv("split.tensors.count", I32, struct.pack("<i", tensors)), *keys],
                [entry(f"t{no}")], **kw)


def parts(second, first=None, name="m-00002-of-00002.gguf"):
    def build(folder):
        (folder / "m-00001-of-00002.gguf").write_bytes(first or part(0, 2))
        if second is not None:
            (folder / name).write_bytes(second)
    return build


def split(id, code, build, offset=None):
    case(id, "m-00001-of-00002.gguf", 3, code, offset, build=build, twin=parts(part(1, 2)))


split("G12-count", "bad-split", parts(part(1, 2), part(0, 65535)), 0)
split("G12-no-twice", "bad-split", parts(part(0, 2, data=b"\2" * 24)), None)
split("G12-missing", None, parts(None), False)
split("G12-elsewhere", None, parts(part(1, 2), name="x-00002-of-00002.gguf"), False)
split("G12-tensors", "bad-split", parts(part(1, 2), part(0, 2, 3)), 0)
split("G12-negative", "bad-split", parts(part(1, 2), part(0, 2, -1)), None)
split("G12-short", "out-of-bounds", parts(part(1, 2)[:-1]), None)
split("G12-alone", "bad-split", parts(GOOD), 0)
case("G12-name", "m.gguf", 3, "bad-split", 0, build=part(0, 2), twin=GOOD)
bad("G12-last-byte", "out-of-bounds", GOOD[:-1])

# ---- attachments: pairs that are no pairs ----
def attached(folder, pairs):
    (folder / "in").mkdir()
    (folder / "in" / "model.safetensors").write_bytes(
        safetensors_bytes([("w", "F32", [2], b"\0" * 8)]))
    (folder / "in" / "gguf.kv").write_bytes(pairs)


case("G-attached", "in", 3, None, False,
     args=(("convert", "{file}", "-o", "{out}/o.gguf"),),
     build=lambda d: attached(d, b"\xff" * 40), twin=lambda d: attached(d, ARCH))
