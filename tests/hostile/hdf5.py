"""Small HDF5 files, piece by piece, for hostile cases and their twins: superblock 2, object headers
of version 2 with checksums (version 1 where a case wants one). Standard library only."""

import struct

UNDEF = 2**64 - 1
F32 = bytes.fromhex("11201f000400000000002000170800177f000000")
I8 = bytes.fromhex("1008000001000000") + b"\0\0\x08\0"
U8 = bytes.fromhex("1000000001000000") + b"\0\0\x08\0"
FILL = (5, b"\3\x0a")


def rot(x, k):
    return (x << k | x >> (32 - k)) & 0xffffffff


def lookup3(data):
    m = 0xffffffff
    a = b = c = (0xdeadbeef + len(data)) & m
    while len(data) > 12:
        x, y, z = struct.unpack_from("<3I", data)
        data = data[12:]
        a, b, c = (a + x) & m, (b + y) & m, (c + z) & m
        for i, k in enumerate((4, 6, 8, 16, 19, 4)):
            if i % 3 == 0:
                a = ((a - c) & m) ^ rot(c, k)
                c = (c + b) & m
            elif i % 3 == 1:
                b = ((b - a) & m) ^ rot(a, k)
                a = (a + c) & m
            else:
                c = ((c - b) & m) ^ rot(b, k)
                b = (b + a) & m
    if not data:
        return c
    x, y, z = struct.unpack("<3I", data.ljust(12, b"\0"))
    a, b, c = (a + x) & m, (b + y) & m, (c + z) & m
    for p, q, k in (("c", "b", 14), ("a", "c", 11), ("b", "a", 25), ("c", "b", 16), ("a", "c", 4),
                    ("b", "a", 14), ("c", "b", 24)):
        v = {"a": a, "b": b, "c": c}
        v[p] = ((v[p] ^ v[q]) - rot(v[q], k)) & m
        a, b, c = v["a"], v["b"], v["c"]
    return c


def summed(data):
    return data + struct.pack("<I", lookup3(data))


def messages(msgs):
    return b"".join(struct.pack("<BHB", m[0], len(m[1]), m[2] if len(m) > 2 else 0) + m[1]
                    for m in msgs)


def header(*msgs):
    body = messages(msgs)
    return summed(b"OHDR\2\2" + struct.pack("<I", len(body)) + body)


def header1(*msgs):
    body = b"".join(struct.pack("<HHB3x", m[0], -(-len(m[1]) // 8) * 8, 0)
                    + m[1].ljust(-(-len(m[1]) // 8) * 8, b"\0") for m in msgs)
    return struct.pack("<BxHII4x", 1, len(msgs), 1, len(body)) + body


def space(*dims):
    return 1, struct.pack("<4B", 2, len(dims), 0, 1 if dims else 0) + struct.pack(
        f"<{len(dims)}Q", *dims)


def contiguous(addr, n):
    return 8, struct.pack("<BBQQ", 3, 1, addr, n)


def chunked(addr, dims, elem):
    return 8, struct.pack("<3BQ", 3, 2, len(dims) + 1, addr) + struct.pack(
        f"<{len(dims) + 1}I", *dims, elem)


def filters(*list_):
    return 11, bytes([2, len(list_)]) + b"".join(
        struct.pack("<H", i) + (b"\0\0" if i >= 256 else b"") + struct.pack("<HH", 0, len(v))
        + struct.pack(f"<{len(v)}I", *v) for i, v in list_)


def link(name, addr):
    return 6, b"\1\0" + bytes([len(name)]) + name.encode() + struct.pack("<Q", addr)


def soft(name, target):
    return 6, b"\1\x08\1" + bytes([len(name)]) + name.encode() + struct.pack("<H", len(target)) \
        + target.encode()


def external(name, file, path):
    body = b"\0" + file.encode() + b"\0" + path.encode() + b"\0"
    return 6, b"\1\x08\x40" + bytes([len(name)]) + name.encode() + struct.pack("<H", len(body)) + body


GROUP = ((2, b"\0\0" + struct.pack("<QQ", UNDEF, UNDEF)), (10, b"\0\0"))


def attribute(name, type_, dims, data, version=3):
    sp = space(*dims)[1]
    n = name.encode() + b"\0"
    return 12, struct.pack("<BBHHH", version, 0, len(n), len(type_), len(sp)) + b"\0" + n + type_ \
        + sp + data


def names(name, *items):
    n = max([len(i) for i in items] + [1])
    return attribute(name, b"\x13\1\0\0" + struct.pack("<I", n), (len(items),),
                     b"".join(i.encode().ljust(n, b"\0") for i in items))


class File:
    def __init__(self, block=0):
        self.block = block
        self.data = bytearray(48)

    def put(self, data):
        self.data += b"\0" * (-len(self.data) % 8)
        at = len(self.data)
        self.data += data
        return at

    def dataset(self, *more, values=b"\0\0\x80\x3f\0\0\0\x40", dims=(2,), type_=F32):
        at = self.put(values)
        return self.put(header(space(*dims), (3, type_), FILL, contiguous(at, len(values)), *more))

    def chunks(self, dims, chunk, entries, pipe=(), elem=4, type_=F32, rank=None):
        """entries: [(stored bytes, mask, offsets)]"""
        keys = b""
        for data, mask, at in entries:
            addr = self.put(data)
            keys += struct.pack("<II", len(data), mask) + struct.pack(
                f"<{len(at) + 1}Q", *at, 0) + struct.pack("<Q", addr)
        rank = len(chunk) if rank is None else rank
        keys += struct.pack("<II", 0, 0) + struct.pack(f"<{rank + 1}Q", *dims[:rank], 0)
        tree = self.put(b"TREE\1\0" + struct.pack("<HQQ", len(entries), UNDEF, UNDEF) + keys)
        more = [filters(*pipe)] if pipe else []
        return self.put(header(space(*dims), (3, type_), FILL, chunked(tree, chunk, elem), *more))

    def group(self, *links, attrs=()):
        return self.put(header(*GROUP, *links, *attrs))

    def done(self, root, sizes=(8, 8), eof=None):
        end = len(self.data) + self.block
        sb = b"\x89HDF\r\n\x1a\n\2" + bytes(sizes) + b"\0" + struct.pack(
            "<QQQQ", self.block, UNDEF, end if eof is None else eof, root)
        self.data[:48] = summed(sb)
        return bytes(self.block) + bytes(self.data)
