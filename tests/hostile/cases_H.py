"""Hostile HDF5 files and Keras archives."""

import io
import json
import struct
import zipfile
import zlib

import hdf5 as h
from lib import case

F = "w.weights.h5"


def one(*more, **kw):
    f = h.File()
    return f.done(f.group(h.link("w", f.dataset(*more, **kw))))


GOOD = one()
WANT = {"w": struct.pack("<2f", 1, 2)}


def bad(id, code, body, offset=None, twin=GOOD, file=F, **kw):
    case(id, file, 3, code, offset, build=body, twin=twin, **kw)


# ---- H01: other files ----
def linked(*links):
    f = h.File()
    return f.done(f.group(h.link("w", f.dataset()), *links))


def external_storage(name):
    f = h.File()
    names = f.put(b"\0" * 8 + name.encode() + b"\0" * 8)
    heap = f.put(b"HEAP\0\0\0\0" + struct.pack("<QQQ", 16 + len(name), 1, names))
    ext = 7, struct.pack("<B3xHHQ", 1, 1, 1, heap) + struct.pack("<QQQ", 8, 0, 8)
    d = f.put(h.header(h.space(2), (3, h.F32), h.FILL, ext, h.contiguous(h.UNDEF, 8)))
    return f.done(f.group(h.link("w", d)))


def layout(message):
    f = h.File()
    return f.done(f.group(h.link("w", f.put(h.header(h.space(2), (3, h.F32), h.FILL, message)))))


bad("H01-storage", "hdf5-external", external_storage("../outside/x"))
bad("H01-storage-root", "hdf5-external", external_storage("/etc/passwd"))
bad("H01-link", "hdf5-link", linked(h.external("x", "../outside/x.h5", "/w")))
bad("H01-virtual", "hdf5-virtual", layout((8, struct.pack("<BBQI", 4, 3, 64, 1))))

# ---- H02: loops ----
bad("H02-soft", "hdf5-link", linked(h.soft("a", "/b"), h.soft("b", "/a")))


def cycle():
    f = h.File()
    b = len(f.data) + 200
    a = f.group(h.link("b", b))
    f.data += b"\0" * (b - len(f.data))
    assert f.group(h.link("a", a)) == b
    return f.done(f.group(h.link("a", a)))


def deep(n):
    f = h.File()
    at = f.dataset()
    for _ in range(n):
        at = f.group(h.link("w", at))
    return f.done(at)


bad("H02-cycle", "hdf5-loop", cycle())
bad("H02-self", "hdf5-loop", lambda d: self_link())
bad("H02-deep", "hdf5-depth", deep(10_000), twin=deep(60))


def self_link():
    f = h.File()
    return f.done(f.group(h.link("a", len(f.data))))


# ---- H04: chunks ----
def chunk_file(dims, chunk, entries, **kw):
    f = h.File()
    return f.done(f.group(h.link("w", f.chunks(dims, chunk, entries, **kw))))


ROW = struct.pack("<4f", 1, 2, 3, 4)
TILES = chunk_file((3,), (4,), [(ROW, 0, (0,))])
case("H04-edge", F, 0, build=TILES, expect_tensors={"w": ROW[:12]})
bad("H04-rank", "hdf5-chunk", chunk_file((3, 1), (4,), [(ROW, 0, (0,))], rank=1), twin=TILES)
bad("H04-zero", "hdf5-chunk", chunk_file((3,), (0,), [(ROW, 0, (0,))]), twin=TILES)
bad("H04-4g", "hdf5-chunk", chunk_file((2**31,), (2**30,), []), twin=TILES)
bad("H04-element", "hdf5-chunk", chunk_file((3,), (4,), [(ROW, 0, (0,))], elem=8), twin=TILES)
bad("H04-outside", "hdf5-chunk", chunk_file((3,), (4,), [(ROW, 0, (4,))]), twin=TILES)
bad("H04-odd", "hdf5-chunk", chunk_file((8,), (4,), [(ROW, 0, (2,))]), twin=TILES)
bad("H04-twice", "hdf5-chunk", chunk_file((8,), (4,), [(ROW, 0, (4,)), (ROW, 0, (4,))]), twin=TILES)
bad("H04-short", "hdf5-chunk", chunk_file((3,), (4,), [(ROW[:12], 0, (0,))]), twin=TILES)
bad("H04-bomb", "output-too-big", chunk_file((2**40,), (4,), []), offset=False,
    args=(("convert", "{file}", "-o", "{out}/OUT.safetensors"),), twin=TILES)


# ---- H05, H06: object headers ----
def continued(target, body=b""):
    f = h.File()
    at = f.put(h.header((16, struct.pack("<QQ", target(f) if callable(target) else target,
                                         len(body) or 24)), *h.GROUP))
    return f.done(at)


def ring():
    f = h.File()
    at = len(f.data) + 200
    root = f.put(h.header(*h.GROUP, (16, struct.pack("<QQ", at, 28))))
    f.data += b"\0" * (at - len(f.data))
    f.data += h.summed(b"OCHK" + h.messages([(16, struct.pack("<QQ", at, 28))]))
    return f.done(root)


def chain(n):
    f = h.File()
    root = f.put(h.header1((0x10, struct.pack("<QQ", len(f.data) + 40, 24)), *h.GROUP[:0]))
    first = len(f.data)
    for i in range(n):
        f.data += struct.pack("<HHB3xQQ", 0x10, 16, 0, first + 24 * (i + 1), 24)
    f.data += struct.pack("<HHB3x", 2, 24, 0) + h.GROUP[0][1].ljust(24, b"\0")
    f.data[first + 24 * (n - 1) + 16:first + 24 * n] = struct.pack("<Q", 32)
    return f.done(root)


bad("H05-self", "hdf5-loop", ring())
bad("H05-chain", "hdf5-header", chain(1_000_000), twin=chain(100))
bad("H05-eof", "truncated", continued(10**6))
bad("H05-near-2-64", "truncated", continued(2**64 - 8))


def header_bytes(body):
    f = h.File()
    return f.done(f.put(h.summed(b"OHDR\2\2" + struct.pack("<I", len(body)) + body)))


bad("H06-size", "hdf5-header", header_bytes(h.messages(h.GROUP) + struct.pack("<BHB", 6, 9, 0)
                                            + b"\0" * 8))
bad("H06-sum", "hdf5-checksum", GOOD[:-3] + bytes([GOOD[-3] ^ 1]) + GOOD[-2:])


# ---- H08: heaps ----
def old_group(name_at, heap=b"\0" * 8 + b"w" + b"\0" * 7):
    f = h.File()
    d = f.dataset()
    data = f.put(heap)
    local = f.put(b"HEAP\0\0\0\0" + struct.pack("<QQQ", len(heap), 1, data))
    snod = f.put(b"SNOD\1\0\1\0" + struct.pack("<QQII16x", name_at, d, 0, 0))
    tree = f.put(b"TREE\0\0\1\0" + struct.pack("<QQQQQ", h.UNDEF, h.UNDEF, 0, snod, 8))
    return f.done(f.put(h.header1((0x11, struct.pack("<QQ", tree, local)))))


OLD = old_group(8)
case("H08-old", F, 0, build=OLD, expect_tensors=WANT)
bad("H08-offset", "hdf5-heap", old_group(2**40), twin=OLD)
bad("H08-end", "hdf5-heap", old_group(16), twin=OLD)
bad("H08-unterminated", "hdf5-heap", old_group(8, b"\0" * 8 + b"wwwwwwww"), twin=OLD)
bad("H08-empty", "hdf5-name", old_group(0), twin=OLD)
bad("H08-slash", "hdf5-name", old_group(8, b"\0" * 8 + b"../w\0\0\0\0"), twin=OLD)

VLEN = bytes.fromhex("1901010010000000") + bytes.fromhex("1000000001000000") + b"\0\0\x08\0"


def global_heap(size, index=1):
    f = h.File()
    heap = f.put(b"GCOL\1\0\0\0" + struct.pack("<Q", 4096) + struct.pack("<HH4xQ", 1, 1, size)
                 + b"text" + b"\0" * 4092)
    ref = struct.pack("<IQI", 4, heap, index)
    return f.done(f.group(h.link("w", f.dataset()),
                          attrs=[h.attribute("note", VLEN, (), ref)]))


bad("H08-global", "hdf5-heap", global_heap(2**63), twin=global_heap(4))
bad("H08-global-none", "hdf5-heap", global_heap(4, 7), twin=global_heap(4))
bad("H08-global-short", "hdf5-heap", global_heap(3), twin=global_heap(4))


# ---- H09: superblocks ----
def with_block(n, second=False):
    f = h.File(n)
    out = bytearray(f.done(f.group(h.link("w", f.dataset(values=bytes(4096), dims=(1024,))))))
    if second:
        out[2 * n:2 * n + 8] = b"\x89HDF\r\n\x1a\n"
    return bytes(out)


def root_only(**kw):
    f = h.File()
    return f.done(f.group(h.link("w", f.dataset())), **kw)


case("H09-block", F, 0, build=with_block(512), expect_tensors={"w": bytes(4096)})
bad("H09-16", "hdf5-superblock", root_only(sizes=(16, 8)))
bad("H09-lengths", "hdf5-superblock", root_only(sizes=(8, 3)))
bad("H09-eof", "truncated", root_only(eof=10**6))
bad("H09-two", "hdf5-two-signatures", with_block(512, True), twin=with_block(512))
bad("H09-version", "hdf5-superblock", GOOD[:8] + b"\x09" + GOOD[9:])

# ---- H10: filters ----
Z = zlib.compress
CONVERT = {"inspect": 0, "convert": 3}
PIPED = chunk_file((3,), (4,), [(Z(ROW), 0, (0,))], pipe=[(1, [6])])
case("H10-deflate", F, 0, build=PIPED, expect_tensors={"w": ROW[:12]})
for tag, data in (("long", Z(ROW + b"\0")), ("short", Z(ROW[:-1])), ("bomb", Z(bytes(10**7))),
                  ("tail", Z(ROW) + b"\0")):
    case(f"H10-{tag}", F, CONVERT, "hdf5-chunk-size", build=chunk_file(
        (3,), (4,), [(data, 0, (0,))], pipe=[(1, [6])]), twin=PIPED)
case("H10-garbage", F, CONVERT, "deflate-bad", build=chunk_file(
    (3,), (4,), [(b"garbage!", 0, (0,))], pipe=[(1, [6])]), twin=PIPED)
case("H10-fletcher", F, CONVERT, "hdf5-fletcher", build=chunk_file(
    (3,), (4,), [(ROW + b"\1\2\3\4", 0, (0,))], pipe=[(3, [])]), twin=PIPED)
for tag, data in (("ahead", b"\x20\x05"), ("past", b"\x1f" + b"x" * 32), ("cut", b"\x0fabc")):
    case(f"H10-lzf-{tag}", F, CONVERT, "lzf-bad", build=chunk_file(
        (3,), (4,), [(data, 0, (0,))], pipe=[(32000, [])]), twin=PIPED)
for tag, pipe in (("nbit", [(5, [1, 2, 3])]), ("unknown", [(65000, [])]), ("szip", [(4, [])]),
                  ("33", [(2, [4])] * 33), ("two", [(1, [6]), (1, [6])])):
    bad(f"H10-{tag}", "hdf5-filter", chunk_file((3,), (4,), [(ROW, 0, (0,))], pipe=pipe), twin=PIPED)
bad("H10-contiguous", "hdf5-filter", one(h.filters((1, [6]))))


# ---- H12: datatypes ----
def compound(members, size):
    return struct.pack("<BBBBI", 0x36, len(members), 0, 0, size) + b"".join(
        n.encode() + b"\0" + bytes([at]) + t for n, at, t in members)


COMPLEX = compound([("r", 0, h.F32), ("i", 4, h.F32)], 8)
PAIR = one(type_=COMPLEX, dims=(1,))
case("H12-complex", F, 0, args=(("inspect", "{file}"),), build=PAIR)
bad("H12-overlap", "hdf5-dtype", one(type_=compound([("r", 0, h.F32), ("i", 2, h.F32)], 8),
                                     dims=(1,)), twin=PAIR)
bad("H12-members", "hdf5-dtype", one(type_=compound([("r", 0, h.F32), ("i", 4, h.F32)], 8)[:1]
                                     + b"\xff\xff\0" + COMPLEX[4:], dims=(1,)), twin=PAIR)
nested = h.F32
for _ in range(1500):
    nested = compound([("m", 0, nested)], 4)
bad("H12-deep", "hdf5-dtype", one(type_=nested))
bad("H12-zero", "hdf5-type", one(type_=h.F32[:4] + bytes(4) + h.F32[8:]))
bad("H12-huge", "hdf5-dtype", one(type_=h.F32[:1] + b"\x20\x1f\0\xff\xff\xff\xff" + h.F32[8:]))
bad("H12-exponent", "hdf5-type", one(type_=h.F32[:12] + b"\x1e\x08" + h.F32[14:]))
bad("H12-vlen", "hdf5-dtype", one(type_=VLEN, values=bytes(16), dims=(1,)))
bad("H12-string", "hdf5-dtype", one(type_=b"\x13\0\0\0\4\0\0\0"))
bad("H12-opaque", "hdf5-dtype", one(type_=b"\x15\0\0\0\4\0\0\0"))
bad("H12-precision", "hdf5-dtype", one(type_=b"\x10\x08\0\0\4\0\0\0\0\0\x07\0"))
bad("H12-size", "size-mismatch", one(dims=(3,)))
bad("H12-wrap", "hdf5-space", one(dims=(2**32, 2**33)))
bad("H12-rank", "hdf5-space", one(dims=(1,) * 33))


# ---- H13: attributes and lists of names ----
bad("H13-dims", "hdf5-space", one(h.attribute("a", h.U8, (2**63, 4), b"")))
bad("H13-count", "hdf5-attribute", one(h.attribute("a", h.U8, (2**40,), b"abcd")))


def legacy(layers, weights, top=()):
    f = h.File()
    d = [f.dataset() for _ in range(2)]
    dense = f.group(h.link("bias", d[0]), h.link("kernel", d[1]), attrs=[h.names("weight_names",
                                                                              *weights)])
    return f.done(f.group(h.link("dense", dense), *top, attrs=[h.names("layer_names", *layers)]))


L = "w.h5"
KERAS = legacy(["dense"], ["kernel", "bias"])
case("H13-legacy", L, 0, build=KERAS)
bad("H13-fewer", "keras-names", legacy(["dense"], ["kernel"]), twin=KERAS, file=L)
bad("H13-twice", "keras-names", legacy(["dense"], ["kernel", "kernel"]), twin=KERAS, file=L)
bad("H13-more", "keras-names", legacy(["dense"], ["kernel", "bias", "x"]), twin=KERAS, file=L)
bad("H13-up", "keras-names", legacy(["dense"], ["kernel", "../dense/bias"]), twin=KERAS, file=L)
bad("H13-layer", "keras-names", legacy(["dense", "other"], ["kernel", "bias"]), twin=KERAS, file=L)
bad("H13-layer-twice", "keras-names", legacy(["dense", "dense"], ["kernel", "bias"]), twin=KERAS,
    file=L)


# ---- H14: .keras ----
def archive(config, weights=GOOD, method=zipfile.ZIP_STORED, extra=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in (("metadata.json", b'{"keras_version": "3.0.0"}'),
                           ("config.json", config), ("model.weights.h5", weights), *extra):
            if data is not None:
                z.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def config(module, name, **kw):
    return json.dumps({"module": module, "class_name": name, "config": {}, **kw}).encode()


K = "m.keras"
SAFE = archive(config("keras.layers", "Dense"))
case("H14-good", K, 0, build=SAFE, args=(("inspect", "{file}"), ("scan", "{file}"),
                                         ("convert", "{file}", "-o", "{out}/OUT.keras")))
for tag, text in (("os", config("os", "system")), ("lambda", config("keras.layers", "Lambda")),
                  ("deep", b"[" * 100_000 + b"]" * 100_000), ("no-json", b"garbage")):
    # text to every command but scan, whose findings the unit test looks at
    case(f"H14-{tag}", K, 0, build=archive(text), args=(
        ("inspect", "{file}"), ("convert", "{file}", "-o", "{out}/OUT.keras")))
bad("H14-bomb", "keras-member", archive(b" " * 10**8, method=zipfile.ZIP_DEFLATED), twin=SAFE, file=K)
bad("H14-weights-bomb", "keras-member",
    archive(b"{}", GOOD + bytes(10**8), zipfile.ZIP_DEFLATED), twin=SAFE, file=K)
bad("H14-no-weights", "keras-member", archive(b"{}", None), twin=SAFE, file=K)
bad("H14-inside", "hdf5-link", archive(b"{}", linked(h.soft("a", "/w"))), twin=SAFE, file=K)
bad("H14-cut", "truncated", archive(b"{}", GOOD[:-8]), twin=SAFE, file=K)


# ---- H15: shards ----
def shards(text):
    def build(d):
        (d / "m_00000.weights.h5").write_bytes(GOOD)
        (d / "m.weights.json").write_text(text)
    return build


S = "m.weights.json"
SHARDS = shards('{"metadata": {}, "weight_map": {"/": "m_00000.weights.h5"}}')
for tag, code, value in (("up", "path-escape", '"../outside/x"'), ("root", "path-escape", '"/etc/x"'),
                         ("number", "path-escape", "3"), ("missing", None, '"m_00001.weights.h5"'),
                         ("twice", "keras-shards", '["m_00000.weights.h5", "m_00000.weights.h5"]')):
    bad(f"H15-{tag}", code, shards('{"weight_map": {"/": %s}}' % value), twin=SHARDS, file=S,
        offset=False)
bad("H15-group", "keras-shards", shards('{"weight_map": {"/x/vars": "m_00000.weights.h5"}}'),
    twin=SHARDS, file=S)
bad("H15-none", "keras-shards", shards('{"metadata": {}}'), twin=SHARDS, file=S)
