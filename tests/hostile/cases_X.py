"""Hostile ONNX models. The protobuf is built by hand."""

import os
import struct

from lib import case

TO_ST = (("inspect", "{file}"),
         ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"))
SCAN = (("scan", "{file}"),)


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v > 127:
        out, v = out + bytes([v & 127 | 128]), v >> 7
    return out + bytes([v])


def num(field, v):
    return varint(field << 3) + varint(v)


def sub(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name=b"w", dims=(2,), kind=1, raw=b"\0" * 8, more=b""):
    return (b"".join(num(1, d) for d in dims) + num(2, kind) + (sub(8, name) if name else b"")
            + (b"" if raw is None else sub(9, raw)) + more)


def model(graph, tail=b""):
    return num(1, 8) + sub(7, graph) + sub(8, num(2, 13)) + tail


def inits(*tensors):
    return model(b"".join(sub(5, t) for t in tensors))


def external(location, offset=None, length=None, **kw):
    more = sub(13, sub(1, b"location") + sub(2, location))
    for key, v in ((b"offset", offset), (b"length", length)):
        if v is not None:
            more += sub(13, sub(1, key) + sub(2, str(v).encode()))
    return tensor(raw=None, more=more + num(14, 1), **kw)


GOOD = inits(tensor())


def bad(id, code, build, twin=GOOD, **kw):
    kw.setdefault("args", TO_ST)
    case(id, "m.onnx", 3, code, None, build=build, twin=twin, **kw)


# ---- X01, X02, X04: shapes and types ----
bad("X01-wrap", "shape-overflow", inits(tensor(dims=(1 << 32, 1 << 32), raw=b"\0" * 16)))
bad("X01-2p62", "shape-overflow", inits(tensor(dims=(1 << 62, 8))))
bad("X01-100", "bad-shape", inits(tensor(dims=(1,) * 100, raw=b"\0" * 4)))
bad("X02", "bad-shape", inits(tensor(dims=(4, -1), raw=b"\0" * 16)))
bad("X04-bf16", "size-mismatch", inits(tensor(dims=(10 ** 10,), kind=16, raw=b"\0" * 20)))
bad("X04-type-0", "unknown-dtype", inits(tensor(kind=0)))
bad("X04-type-99", "unknown-dtype", inits(tensor(kind=99)))
bad("X04-type-2p32", "unknown-dtype", inits(tensor(kind=(1 << 31) + 1)))
bad("X04-int4-short", "size-mismatch", inits(tensor(dims=(3,), kind=22, raw=b"\x21")),
    twin=inits(tensor(dims=(4,), kind=22, raw=b"\x21\x43")),
    args=(("inspect", "{file}"), ("id", "{file}")))
case("X04-int4-odd", "m.onnx", 0, build=inits(tensor(dims=(3,), kind=22, raw=b"\x21\x03")),
     args=(("inspect", "{file}"), ("convert", "{file}", "-o", "{out}/OUT.onnx")))
bad("X04-twice", "data-twice", inits(tensor(more=sub(4, b"\0" * 8))))
bad("X04-raw-twice", "field-twice", inits(tensor(more=sub(9, b"\0" * 8))))
bad("X04-list-short", "size-mismatch", inits(tensor(dims=(10 ** 9,), kind=7, raw=None,
                                                    more=sub(7, b"\1" * 100))))
bad("X04-range", "value-range", inits(tensor(dims=(1,), kind=3, raw=None, more=num(5, 200))))
bad("X04-long-varint", "proto-varint",
    inits(tensor(dims=(1,), kind=7, raw=None, more=b"\x38" + b"\xff" * 10 + b"\1")))

# a long list is decoded only when it is read: `inspect` has not looked at its numbers
MANY = b"".join(varint(i % 100) for i in range(20000))
case("X04-list-late", "m.onnx", {"inspect": 0, "convert": 3}, "size-mismatch", None, args=TO_ST,
     build=inits(tensor(dims=(19999,), kind=7, raw=None, more=sub(7, MANY))),
     twin=inits(tensor(dims=(20000,), kind=7, raw=None, more=sub(7, MANY))))

# ---- X05, X06: external data ----
DATA = bytes(range(16))


def with_data(blob, extra=None):
    def build(folder):
        (folder / "d.bin").write_bytes(DATA)
        (folder / "sub").mkdir()
        (folder / "sub" / "d.bin").write_bytes(DATA)
        (folder.parent / "outside" / "x").write_bytes(DATA)
        if extra:
            extra(folder)
        return blob
    return build


GOOD_EXT = with_data(inits(external(b"d.bin", 4, 8)))
for name, location in (("up", b"../../x"), ("up-one", b"../outside/x"), ("abs", b"/x"),
                       ("hash", b"#../x"), ("empty", b""), ("nul", b"d.bin\0"),
                       ("url", b"file:///x"), ("hops", b"sub/../../outside/x"),
                       ("dot", b"./d.bin"), ("slashes", b"sub//d.bin")):
    bad(f"X05-{name}", "unreadable" if name == "hash" else "path-escape",
        with_data(inits(external(location))), GOOD_EXT)
case("X05-sub", "m.onnx", 0, build=with_data(inits(external(b"sub/d.bin", 4, 8))),
     expect_tensors={"w": DATA[4:12]}, args=TO_ST)
bad("X05-offset", "external-range", with_data(inits(external(b"d.bin", 9))), GOOD_EXT)
bad("X05-offset-wraps", "external-range", with_data(inits(external(b"d.bin", (1 << 64) - 4))),
    GOOD_EXT)
bad("X05-offset-2p64", "external-key", with_data(inits(external(b"d.bin", 1 << 64))), GOOD_EXT)
bad("X05-offset-sign", "external-key", with_data(inits(external(b"d.bin", -4))), GOOD_EXT)
bad("X05-length", "external-length", with_data(inits(external(b"d.bin", 0, 16))), GOOD_EXT)
bad("X06-symlink", "path-escape", with_data(
    inits(external(b"l")), lambda d: os.symlink("../outside/x", d / "l")), GOOD_EXT)
bad("X06-parent", "path-escape", with_data(
    inits(external(b"l/x")), lambda d: os.symlink("../outside", d / "l")), GOOD_EXT)
case("X06-hardlink", "m.onnx", 0, expect_warn="hard link", args=TO_ST, build=with_data(
    inits(external(b"l", 4, 8)), lambda d: os.link(d / "d.bin", d / "l")))
bad("X06-folder", "not-a-file", with_data(inits(external(b"sub"))), GOOD_EXT)
bad("X06-fifo", "not-a-file", with_data(inits(external(b"p")), lambda d: os.mkfifo(d / "p")),
    GOOD_EXT)

# ---- X08: names, shared ranges ----
bad("X08", "name-twice", inits(tensor(), tensor()))
bad("X08-nameless", "bad-name", inits(tensor(name=None)))
bad("X08-nul", "bad-name", inits(tensor(name=b"w\0")))
bad("X08-utf8", "bad-name", inits(tensor(name=b"w\xff")))
case("X08-shared", "m.onnx", 0, expect_warn="shared-range", args=TO_ST,
     build=with_data(inits(external(b"d.bin", 0, 8), external(b"d.bin", 0, 8, name=b"v"))))
case("X08-overlap", "m.onnx", 0, expect_warn="shared-range", args=TO_ST,
     build=with_data(inits(external(b"d.bin", 0, 8), external(b"d.bin", 4, 8, name=b"v"))))


# ---- X09: structure ----
def nest(n):
    """Graphs inside each other, heads made from the inside out without copying."""
    heads, size = [], len(sub(5, tensor()))
    for _ in range(n):
        for head, field in ((b"\x0a\x01a", 6), (b"\x12\x01y", 5), (b"", 1)):
            h = head + varint(field << 3 | 2) + varint(size)
            heads.append(h)
            size += len(h)
    return model(b"".join(reversed(heads)) + sub(5, tensor()))


case("X09-31", "m.onnx", 0, build=nest(31), args=TO_ST)
bad("X09-5000", "nested-too-deep", nest(5000))
fn = sub(1, b"F") + sub(10, b"d") + sub(7, sub(2, b"y") + sub(4, b"F") + sub(7, b"d"))
case("X09-recursive", "m.onnx", 0, args=TO_ST + SCAN,
     build=model(sub(5, tensor()), sub(25, fn)))
bad("X09-two-graphs", "field-twice", GOOD + sub(7, b""))
bad("X09-group", "proto-group", model(b"\x0b" + sub(5, tensor())))
bad("X09-length", None, num(1, 8) + b"\x3a" + varint(1 << 40) + sub(5, tensor()))
bad("X09-inner-length", "proto-length",
    model(b"\x2a\x7f" + tensor()) + sub(14, sub(1, b"k") + sub(2, b"v" * 200)))
long_name = b"n" * 60000
node = sub(2, long_name) + b"".join(
    sub(5, sub(1, b"%d" % i) + sub(5, tensor(None, (), 2, b"\0"))) for i in range(5000))
bad("X09-long-names", "bad-name", model(sub(1, node)))


# ---- X10: sparse ----
def sparse(index, dims=(3, 4), n=2):
    data = b"".join(struct.pack("<q", i) for i in index)
    indices = tensor(b"", (len(index),), 7, data)
    return model(sub(15, sub(1, tensor(dims=(n,), raw=b"\0" * 4 * n)) + sub(2, indices)
                     + b"".join(num(3, d) for d in dims)))


GOOD_SPARSE = sparse((0, 11))
bad("X10-range", "sparse-index", sparse((0, 12)), GOOD_SPARSE)
bad("X10-negative", "sparse-index", sparse((-1, 3)), GOOD_SPARSE)
bad("X10-unsorted", "sparse-order", sparse((5, 2)), GOOD_SPARSE)
bad("X10-twice", "sparse-order", sparse((5, 5)), GOOD_SPARSE)
bad("X10-count", "sparse-shape", sparse((5,)), GOOD_SPARSE)
bad("X10-huge", "sparse-size", sparse((0, 11), (10 ** 6, 10 ** 6)), GOOD_SPARSE)
bad("X10-overflow", "shape-overflow", sparse((0, 11), (1 << 40, 1 << 40)), GOOD_SPARSE)
case("X10-good", "m.onnx", 0, args=TO_ST, build=GOOD_SPARSE,
     expect_tensors={"w.values": b"\0" * 8, "w.indices": struct.pack("<qq", 0, 11)})
