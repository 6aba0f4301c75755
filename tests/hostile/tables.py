"""Sorted string tables and protobuf messages for the hostile cases. Standard library only."""

import struct

MAGIC = bytes.fromhex("57fb808b247547db")
_TABLE = []
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = (_c >> 1) ^ (0x82F63B78 if _c & 1 else 0)
    _TABLE.append(_c)


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = _TABLE[(c ^ b) & 255] ^ (c >> 8)
    return c ^ 0xFFFFFFFF


def masked(data):
    c = crc32c(data)
    return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v >= 128:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def num(field, v):
    return varint(field << 3) + varint(v)


def fixed32(field, v):
    return varint(field << 3 | 5) + struct.pack("<I", v)


def msg(field, body):
    return varint(field << 3 | 2) + varint(len(body)) + body


def block(contents, kind=0, sum=None):
    """Contents, type and sum as they lie in the file."""
    return contents + bytes([kind]) + struct.pack(
        "<I", masked(contents + bytes([kind])) if sum is None else sum)


def entries(pairs, restart_every=16, shared=True):
    """Contents of a block."""
    out, restarts, last = b"", [], b""
    for i, (k, v) in enumerate(pairs):
        n = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        elif shared:
            while n < min(len(k), len(last)) and k[n] == last[n]:
                n += 1
        out += varint(n) + varint(len(k) - n) + varint(len(v)) + k[n:] + v
        last = k
    restarts = restarts or [0]
    return out + b"".join(struct.pack("<I", r) for r in restarts) + struct.pack("<I", len(restarts))


EMPTY = struct.pack("<II", 0, 1)


def handle(at, n):
    return varint(at) + varint(n)


def footer(meta, index):
    return (meta + index).ljust(40, b"\0") + MAGIC


def table(data, last_key=b"\xff", place=None, kind=0):
    """A table of one data block with these contents; place: another handle for it."""
    d = block(data, kind)
    m = block(EMPTY)
    i = block(entries([(last_key, place or handle(0, len(data)))]))
    return d + m + i + footer(handle(len(d), len(EMPTY)),
                              handle(len(d) + len(m), len(i) - 5))


# ---- tensor bundles ----

def shape(dims):
    return b"".join(msg(2, num(1, d) if d else b"") for d in dims)


def entry(dtype, dims, size, crc, offset=0, shard=0, slices=()):
    out = num(1, dtype) + msg(2, shape(dims))
    if shard:
        out += num(3, shard)
    if offset:
        out += num(4, offset)
    out += num(5, size) + fixed32(6, crc)
    return out + b"".join(msg(7, slice_of(s)) for s in slices)


def slice_of(pairs):
    return b"".join(msg(1, b"" if p is None else num(1, p[0]) + num(2, p[1])) for p in pairs)


def signed(v):
    """Ordered code of -64 <= v < 8192."""
    return bytes([v & 255 ^ 0x80]) if -64 <= v < 64 else struct.pack(">H", v ^ 0xC000)


def slice_key(name, pairs):
    out = b"\0" + name.replace(b"\0", b"\0\xff").replace(b"\xff", b"\xff\0") + b"\0\1"
    out += bytes([1, len(pairs)]) if pairs else b"\0"
    for p in pairs:
        out += signed(0) + signed(-1) if p is None else signed(p[0]) + signed(p[1])
    return out


def header(shards=1, endian=0, consumer=0):
    return num(1, shards) + (num(2, endian) if endian else b"") + msg(
        3, num(1, 1) + (num(2, consumer) if consumer else b""))


def bundle(pairs, head=None):
    """The index of a bundle: {key: entry}, the header added."""
    all = [(b"", head if head is not None else header()), *sorted(pairs.items())]
    return table(entries(all))
