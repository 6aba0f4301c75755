"""Hostile TFLite models: one FlatBuffer built by hand, then broken in one place."""

import struct

from lib import case

ARGS = (("inspect", "{file}"),
        ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"))


class Builder:
    """Tables and vectors one behind the other; references lead forward."""

    def __init__(self):
        self.b = bytearray(b"\0\0\0\0TFL3")

    def put(self, data):
        self.b += data
        return len(self.b) - len(data)

    def refer(self, at):
        struct.pack_into("<I", self.b, at, len(self.b) - at)

    def table(self, fields, n):
        """fields: {index: number of 8 bytes}; gives {index: place} and the table's place."""
        vtable = self.put(struct.pack("<HH", 4 + 2 * n, 4 + 8 * n) + b"".join(
            struct.pack("<H", 4 + 8 * i if i in fields else 0) for i in range(n)))
        at = self.put(struct.pack("<i", len(self.b) - vtable))
        for i in range(n):
            self.put(struct.pack("<Q", fields.get(i, 0)))
        return {i: at + 4 + 8 * i for i in range(n)}, at

    def vector(self, count, data=b""):
        at = self.put(struct.pack("<I", count) + data)
        return at


def model(version=3, shape=(2,), kind=0, buffer=1, name=b"w", data=b"\0" * 8, outside=None,
          extra_tensor=None, n_tensors=None, share=1, tail=b""):
    b = Builder()
    root, at = b.table({0: version, 2: 0, 4: 0}, 10)
    struct.pack_into("<I", b.b, 0, at)
    b.refer(root[4])
    buffers = b.vector(2, b"\0" * 8)
    _, at = b.table({}, 3)
    struct.pack_into("<I", b.b, buffers + 4, at - (buffers + 4))
    fields = {0: 0} if outside is None else {1: outside[0], 2: outside[1]}
    buf, at = b.table(fields, 3)
    struct.pack_into("<I", b.b, buffers + 8, at - (buffers + 8))
    if outside is None:
        b.refer(buf[0])
        b.vector(len(data), data)
    b.refer(root[2])
    graphs = b.vector(1, b"\0" * 4)
    graph, at = b.table({0: 0}, 1)
    struct.pack_into("<I", b.b, graphs + 4, at - (graphs + 4))
    b.refer(graph[0])
    tensors = b.vector(n_tensors or share, b"\0" * 4 * share)
    t, at = b.table({0: 0, 1: kind, 2: buffer, 3: 0, **(extra_tensor or {})}, 11)
    for i in range(share):
        struct.pack_into("<I", b.b, tensors + 4 + 4 * i, at - (tensors + 4 + 4 * i))
    b.refer(t[0])
    b.vector(len(shape), b"".join(struct.pack("<i", d) for d in shape))
    b.refer(t[3])
    b.put(struct.pack("<I", len(name)) + name + b"\0")
    b.put(bytes(-len(b.b) % 4) + tail)
    places = {"root": root, "buffer": buf, "tensor": t, "tensors": tensors}
    return bytes(b.b), places


GOOD, P = model()


def bad(id, code, build, **kw):
    case(id, "m.tflite", 3, code, None, args=ARGS, build=build, twin=GOOD, **kw)


def poked(at, data):
    return GOOD[:at] + data + GOOD[at + len(data):]


bad("GT01-root", "flat-offset", poked(0, b"\xff\xff\xff\x7f"))
bad("GT01-root-0", "flat-offset", poked(0, b"\0\0\0\0"))
bad("GT01-self", None, poked(0, b"\x04\0\0\0"))
bad("GT01-short", None, GOOD[:12])
bad("GT02-version", "tflite-version", model(version=4)[0])
bad("GT03-vtable", "flat-offset", poked(P["root"][0] - 4, b"\xff\xff\xff\x7f"))
bad("GT03-vtable-behind", "flat-offset", poked(P["root"][0] - 4, b"\0\0\0\x80"))
bad("GT04-count", "flat-vector", model(n_tensors=0xffffffff)[0])
bad("GT04-count-2p30", "flat-vector", model(n_tensors=1 << 30)[0])
bad("GT05-buffer", "tflite-buffer", model(buffer=2)[0])
bad("GT05-buffer-max", "tflite-buffer", model(buffer=0xffffffff)[0])
bad("GT06-negative", "bad-shape", model(shape=(-1,))[0])
bad("GT06-wrap", "shape-overflow", model(shape=(0x7fffffff,) * 3)[0])
bad("GT06-short", "size-mismatch", model(shape=(3,))[0])
bad("GT06-dims", "bad-shape", model(shape=(1,) * 65, data=b"\0" * 4)[0])
bad("GT07-type", "unknown-dtype", model(kind=99)[0])
bad("GT07-resource", "unknown-dtype", model(kind=13)[0])
bad("GT08-outside", "tflite-buffer", model(outside=(1 << 40, 8))[0])
bad("GT08-outside-wraps", "tflite-buffer", model(outside=((1 << 64) - 4, 8))[0])
AT = len(model(outside=(2, 8))[0])
case("GT08-outside-good", "m.tflite", 0, args=ARGS, expect_tensors={"w": b"outside!"},
     build=model(outside=(AT, 8), tail=b"outside!")[0])
bad("GT09-nul", "bad-name", model(name=b"w\0x")[0])
bad("GT09-utf8", "bad-name", model(name=b"w\xff")[0])
bad("GT09-shared-name", "bad-name", model(name=b"n" * 4000, share=3000)[0])
bad("GT10-broken", "flat-table", model(extra_tensor={6: 4})[0])
# one table under many references: numbered apart, in linear time
case("GT11-shared", "m.tflite", 0, args=ARGS, expect_warn="names-twice", build=model(share=2000)[0])
bad("GT11-many", "too-many-tensors", model(share=1200000, buffer=0)[0])
