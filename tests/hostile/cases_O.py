"""Section O: Orbax items; zarr arrays in folders, OCDBT stores. The builders share nothing with src."""

import json
import os
import socket
import stat
import struct
import zlib

from lib import case

F = "item"
TO = (("inspect", "{file}"),
      ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"))
# what only decoding tells: listing the arrays reads none of their numbers
DATA = (("convert", "{file}", "-o", "{out}/OUT.safetensors", "--format", "safetensors"),)


def zarray(shape=(4,), chunks=(2,), **kw):
    return json.dumps({"chunks": list(chunks), "compressor": None, "dtype": "<f4",
                       "fill_value": None, "filters": None, "order": "C", "shape": list(shape),
                       "zarr_format": 2} | kw).encode()


def leaf(key, kind="np.ndarray", **kw):
    return {"key_metadata": [{"key": key, "key_type": 2}],
            "value_metadata": {"value_type": kind, "skip_deserialize": False} | kw}


def metadata(*leaves, **kw):
    return json.dumps({"tree_metadata": {str(i): x for i, x in enumerate(leaves)}} | kw).encode()


def folder(files):
    """A builder that makes {path: bytes} below item."""
    def build(d):
        for path, data in files.items():
            at = d / F / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(data)
    return build


def item(**files):
    """A good item with other files in place of some; None leaves one out."""
    all_of = {"_METADATA": metadata(leaf("w")), "w/.zarray": zarray(), "w/0": b"\1" * 8,
              "w/1": b"\2" * 8} | {k.replace("__", "/"): v for k, v in files.items()}
    return {k: v for k, v in all_of.items() if v is not None}


GOOD = folder(item())


def bad(id, code, files, offset=None, args=TO, twin=GOOD, exit=3):
    case(id, F, exit, code, offset, args=args, build=folder(files) if isinstance(files, dict) else files,
         twin=twin)


# ---- O01: names ----
for i, key in enumerate(("/abs/path", "..", "a/../../b", "../../../etc/passwd")):
    bad(f"O01-{i}", "orbax-name", item(_METADATA=metadata(leaf(key))))
bad("O01-nul", "orbax-metadata", item(_METADATA=metadata(leaf("a\0b"))))
bad("O01-empty", "orbax-metadata", item(_METADATA=b'{"tree_metadata":{"()":{"key_metadata":[]}}}'))
bad("O01-old", "orbax-name", {"checkpoint": b"\x81\xa1w" + b"\xb7PLACEHOLDER://../../etc"})

# ---- O02: shapes and chunks ----
for i, (code, z) in enumerate((
        ("shape-overflow", zarray((2**62,), (2,))),
        ("zarr-chunk", zarray((4,), (0,))), ("zarr-chunk", zarray((4,), (-1,))),
        ("zarr-metadata", zarray((-4,), (2,))), ("zarr-metadata", zarray((4.0,), (2,))),
        ("zarr-rank", zarray((4,), (2, 2))), ("zarr-rank", zarray((1,) * 33, (1,) * 33)),
        ("shape-overflow", zarray((2**32, 2**32), (2**31, 2**31))),
        ("shape-overflow", zarray((0, 2**40, 2**40), (1, 1, 1))),
        ("zarr-chunk", zarray((4,), (2**40,))),
        ("zarr-metadata", zarray("4", (2,))), ("zarr-metadata", b"[]"))):
    bad(f"O02-{i}", code, item(**{"w__.zarray": z}))

# a shape far beyond what is there: nothing is allocated for it
bad("O02-sparse", "output-too-big", {"w/.zarray": zarray((2**40,), (2,))}, False, DATA)

# ---- O04: chunks that are longer or shorter than they should be ----
ZLIB = {"compressor": {"id": "zlib", "level": 1}}
GZIP = {"compressor": {"id": "gzip", "level": 1}}
ZSTD = {"compressor": {"id": "zstd", "level": 1}}
BLOSC = {"compressor": {"id": "blosc"}}


def one_chunk(data, **kw):
    return {"w/.zarray": zarray((4,), (2,), **kw), "w/0": data, "w/1": data}


def gz(data):
    c = zlib.compressobj(wbits=31)
    return c.compress(data) + c.flush()


def zstd_raw(data, size=None, window=None):
    """A frame of one raw block; window: a header that asks for that much instead."""
    head = b"\x28\xb5\x2f\xfd"
    if window is None:
        head += b"\x20" + bytes([len(data) if size is None else size])
    else:
        head += b"\x00" + bytes([window])
    return head + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def blosc(data, stored=None, nbytes=None, block=None, flags=0x12, body=None):
    body = data if body is None else body
    nbytes = len(data) if nbytes is None else nbytes
    return struct.pack("<BBBBIII", 2, 1, flags, 4, nbytes,
                       nbytes if block is None else block,
                       len(body) + 16 if stored is None else stored) + body


E8 = b"\3" * 8
TWIN = {"zlib": folder(one_chunk(zlib.compress(E8), **ZLIB)), "gzip": folder(one_chunk(gz(E8), **GZIP)),
        "zstd": folder(one_chunk(zstd_raw(E8), **ZSTD)), "blosc": folder(one_chunk(blosc(E8), **BLOSC))}


def chunk(id, code, data, kw, twin):
    bad(id, code, one_chunk(data, **kw), args=DATA, twin=TWIN[twin])


bad("O04-raw-short", "chunk-short", item(w__0=b"\1" * 7))
bad("O04-raw-long", "chunk-long", item(w__0=b"\1" * 9))
chunk("O04-zlib-short", "chunk-short", zlib.compress(E8[:7]), ZLIB, "zlib")
chunk("O04-zlib-long", "chunk-long", zlib.compress(E8 + b"x"), ZLIB, "zlib")
chunk("O04-zlib-bomb", "chunk-long", zlib.compress(bytes(64 << 20)), ZLIB, "zlib")
chunk("O04-zlib-tail", "chunk-long", zlib.compress(E8) + b"x", ZLIB, "zlib")
chunk("O04-zlib-cut", "chunk-short", zlib.compress(E8)[:-1], ZLIB, "zlib")
chunk("O04-gzip-short", "chunk-short", gz(E8[:7]), GZIP, "gzip")
chunk("O04-gzip-sum", "deflate-bad", gz(E8)[:-5] + b"\0" * 5, GZIP, "gzip")
chunk("O04-zstd-short", "chunk-short", zstd_raw(E8[:7]), ZSTD, "zstd")
chunk("O04-zstd-long", "chunk-long", zstd_raw(E8 + b"x"), ZSTD, "zstd")
chunk("O04-zstd-lie", "zstd-frame", zstd_raw(E8, size=9), ZSTD, "zstd")
chunk("O04-zstd-window", "zstd-frame", zstd_raw(E8, window=0xb0), ZSTD, "zstd")  # 4 GiB
chunk("O04-zstd-cut", "chunk-short", zstd_raw(E8)[:-1], ZSTD, "zstd")
chunk("O04-blosc-4g", "blosc-size", blosc(E8, nbytes=2**32 - 1), BLOSC, "blosc")
chunk("O04-blosc-stored", "blosc-header", blosc(E8, stored=2**32 - 1), BLOSC, "blosc")
chunk("O04-blosc-short", "blosc-size", blosc(E8, body=E8[:7]), BLOSC, "blosc")
chunk("O04-blosc-block", "blosc-header", blosc(E8, block=0, flags=0x20, body=E8), BLOSC, "blosc")
chunk("O04-blosc-start", "blosc-block",
      blosc(E8, flags=0x30, body=struct.pack("<I", 2**31) + E8), BLOSC, "blosc")
chunk("O04-blosc-part", "blosc-block",
      blosc(E8, flags=0x30, body=struct.pack("<II", 20, 2**31) + E8), BLOSC, "blosc")
chunk("O04-blosc-lz4", "blosc-stream",
      blosc(E8, flags=0x30, body=struct.pack("<II", 20, 5) + b"\xf0\xff\xff\xff\xff"), BLOSC, "blosc")
chunk("O04-blosc-back", "blosc-stream",
      blosc(E8, flags=0x30, body=struct.pack("<II", 20, 4) + b"\x10a\xff\xff"), BLOSC, "blosc")
chunk("O04-blosc-snappy", "blosc-codec",
      blosc(E8, flags=0x50, body=struct.pack("<II", 20, 4) + b"abcd"), BLOSC, "blosc")

# ---- O05: places of chunks ----
bad("O05-outside", "zarr-chunk", item(w__2=b"\1" * 8))
bad("O05-far", "zarr-chunk", item(**{"w__99999999999999999999999": b"\1" * 8}))
bad("O05-both", "zarr-chunk",
    {"w/.zarray": zarray((2, 2), (1, 2)), "w/0.0": E8, "w/1.0": E8, "w/0/0": E8},
    twin=folder({"w/.zarray": zarray((2, 2), (1, 2)), "w/0.0": E8, "w/1.0": E8}))
bad("O05-zero", "zarr-chunk", item(**{"w__00": b"\1" * 8}))


def symlink_out(d):
    GOOD(d)
    (d / F / "w" / "1").unlink()
    (d / "../outside/chunk").write_bytes(b"\1" * 8)
    os.symlink("../../../outside/chunk", d / F / "w" / "1")


def fifo(d):
    GOOD(d)
    (d / F / "w" / "1").unlink()
    os.mkfifo(d / F / "w" / "1")


def folder_out(d):
    GOOD(d)
    (d / "../outside/w2").mkdir(exist_ok=True)
    (d / "../outside/w2/.zarray").write_bytes(zarray())
    os.symlink("../../outside/w2", d / F / "w2")


bad("O05-symlink", "path-escape", symlink_out, False)
bad("O05-fifo", "not-a-file", fifo)


def special_file(name, how):
    def make(d):
        GOOD(d)
        (d / F / name).unlink(missing_ok=True)
        if name == "checkpoint":  # read where there is no _METADATA
            (d / F / "_METADATA").unlink()
        how(d / F / name)
    return make


def device(path):
    os.symlink("/dev/zero", path)  # endless, and to be had by everybody


def node(path):
    """A device of its own where that is permitted, else a pipe."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        os.mkfifo(path)


def listening(path):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # such a name must be short
    s.bind(path.name)
    os.chdir(here)
    s.close()


for name in ("_METADATA", "manifest.ocdbt", "checkpoint", "_strings.json"):
    for kind, how, code in (("fifo", os.mkfifo, "not-a-file"), ("node", node, "not-a-file"),
                            ("socket", listening, "unreadable"), ("device", device, "path-escape")):
        bad(f"O05-{kind}-{name}", code, special_file(name, how), False)
bad("O05-device", "not-a-file", special_file("w/1", device), False)
bad("O05-node", "not-a-file", special_file("w/1", node))
bad("O05-folder", "path-escape", folder_out, False)

# ---- O06: metadata of arrays ----
bad("O06-twice", "key-twice", item(**{"w__.zarray": zarray()[:-1] + b',"shape":[1]}'}))
for i, (code, kw) in enumerate((
        ("unknown-dtype", {"dtype": "|O"}), ("unknown-dtype", {"dtype": "|V8"}),
        ("unknown-dtype", {"dtype": "<f3"}), ("unknown-dtype", {"dtype": [["a", "<f4"]]}),
        ("unknown-dtype", {"dtype": "|f4"}), ("zarr-codec", {"compressor": {"id": "lzma"}}),
        ("zarr-codec", {"compressor": "zstd"}), ("zarr-codec", {"filters": [{"id": "delta"}]}),
        ("zarr-order", {"order": "A"}), ("zarr-metadata", {"zarr_format": 3}),
        ("zarr-metadata", {"dimension_separator": "x"}), ("zarr-fill", {"fill_value": {}}))):
    bad(f"O06-{i}", code, item(**{"w__.zarray": zarray(**kw)}))
for i, fill in enumerate(("x", "0x", True, [1, 2], "0x7fc000000")):
    bad(f"O06-fill-{i}", "zarr-fill", item(w__1=None, **{"w__.zarray": zarray(fill_value=fill)}))
bad("O06-huge", "json-values", item(**{"w__.zarray": b'{"x":[' + b"1," * 300000 + b"1]}"}))
bad("O06-deep", "json-depth", item(**{"w__.zarray": b"[" * 100000}))


def v3(codecs, **kw):
    return json.dumps({"zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "float32",
                       "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
                       "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
                       "codecs": codecs} | kw).encode()


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def shard(inner=(1,), index=None, location="end", codecs=None):
    return {"name": "sharding_indexed", "configuration": {
        "chunk_shape": list(inner), "codecs": codecs or [LITTLE], "index_location": location,
        "index_codecs": index or [LITTLE]}}


V3 = folder({"w/zarr.json": v3([LITTLE]), "w/c/0": E8, "w/c/1": E8})
INDEX = struct.pack("<4Q", 0, 4, 4, 4)
SHARDS = folder({"w/zarr.json": v3([shard()]), "w/c/0": E8 + INDEX, "w/c/1": E8 + INDEX})
for i, (code, text) in enumerate((
        ("zarr-codec", v3([])), ("zarr-codec", v3([{"name": "numcodecs.delta"}, LITTLE])),
        ("zarr-codec", v3([LITTLE, LITTLE])), ("zarr-codec", v3([{"name": "gzip"}, LITTLE])),
        ("zarr-codec", v3([LITTLE, {"name": "gzip"}, {"name": "zstd"}])),
        ("zarr-codec", v3([LITTLE] + [{"name": "crc32c"}] * 5)),
        ("zarr-codec", v3([{"name": "transpose", "configuration": {"order": [1]}}, LITTLE])),
        ("zarr-codec", v3([{"name": "transpose", "configuration": {"order": [0, 0]}}, LITTLE])),
        ("zarr-codec", v3([shard(codecs=[shard()])])),
        ("zarr-codec", v3([shard(index=[LITTLE, {"name": "gzip"}])])),
        ("zarr-chunk", v3([shard(inner=(3,))])), ("zarr-chunk", v3([shard(inner=(0,))])),
        ("zarr-rank", v3([shard(inner=(1, 1))])), ("unknown-dtype", v3([LITTLE], data_type="r16")),
        ("zarr-metadata", v3([LITTLE], node_type="group")),
        ("zarr-metadata", v3([LITTLE], extra={"must_understand": True})),
        ("zarr-metadata", v3([LITTLE], chunk_key_encoding={"name": "other"})),
        ("zarr-metadata", v3([LITTLE], chunk_grid={"name": "rectangular"})))):
    bad(f"O06-v3-{i}", code, {"w/zarr.json": text, "w/c/0": E8, "w/c/1": E8}, twin=V3)
for i, (code, data) in enumerate((
        ("shard-index", E8), ("shard-index", E8 + struct.pack("<4Q", 0, 4, 2**63, 2**63)),
        ("shard-index", E8 + struct.pack("<4Q", 0, 4, 40, 4)),
        ("chunk-short", E8 + struct.pack("<4Q", 0, 4, 4, 3)),
        ("shard-index", E8 + struct.pack("<4Q", 0, 4, 2**64 - 1, 4)))):
    bad(f"O06-shard-{i}", code, {"w/zarr.json": v3([shard()]), "w/c/0": data, "w/c/1": E8 + INDEX},
        twin=SHARDS)
bad("O06-shard-crc", "chunk-crc",
    {"w/zarr.json": v3([shard(index=[LITTLE, {"name": "crc32c"}])]), "w/c/0": E8 + INDEX + b"\0" * 4,
     "w/c/1": E8 + INDEX + b"\0" * 4}, twin=SHARDS)

# ---- O08, O09, O10: OCDBT ----
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c = TABLE[(c ^ b) & 255] ^ c >> 8
    return c ^ 0xffffffff


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def varints(*numbers):
    return b"".join(map(varint, numbers))


def envelope(magic, body, version=0, compression=0, length=None, crc=None):
    head = struct.pack(">I", magic)
    rest = varints(version, compression) + body
    n = len(head) + 8 + len(rest) + 4
    data = head + struct.pack("<Q", n if length is None else length) + rest
    return data + struct.pack("<I", crc32c(data) if crc is None else crc)


def table(*paths):
    return (varint(len(paths)) + b"\0" * max(len(paths) - 1, 0) + varints(*(len(p) for p in paths)) +
            b"\0" * len(paths) + b"".join(paths))


DATA_FILE = b"d/data"


def leaf_node(entries, paths=(DATA_FILE,), height=0, prefixes=None, tail=b""):
    """entries: (key, bytes) inline, or (key, (file, offset, length))."""
    n = len(entries)
    body = bytes([height]) + table(*paths) + varint(n)
    body += varints(*(prefixes or [0] * (n - 1)))
    body += varints(*(len(k) for k, _ in entries)) + b"".join(k for k, _ in entries)
    body += varints(*(len(v) if isinstance(v, bytes) else v[2] for _, v in entries))
    body += bytes(0 if isinstance(v, bytes) else 1 for _, v in entries)
    out = [v for _, v in entries if not isinstance(v, bytes)]
    body += varints(*(v[0] for v in out)) + varints(*(v[1] for v in out))
    return envelope(0x0cdb20de, body + b"".join(v for _, v in entries if isinstance(v, bytes)) + tail)


def interior_node(children, height=1, paths=(DATA_FILE,)):
    """children: (key, common, file, offset, length, n_keys)."""
    n = len(children)
    body = bytes([height]) + table(*paths) + varint(n) + b"\0" * (n - 1)
    body += varints(*(len(c[0]) for c in children)) + varints(*(c[1] for c in children))
    body += b"".join(c[0] for c in children)
    for k in (2, 3, 4, 5):
        body += varints(*(c[k] for c in children))
    return envelope(0x0cdb20de, body + b"\0" * (2 * n))


def manifest(height, offset, length, n_keys, paths=(DATA_FILE,), file=0, **kw):
    body = bytes(16) + b"\0" + varints(1024, 100000000) + b"\4" + varint(0) + table(*paths)
    body += varint(1) + varint(1) + bytes([height]) + varints(file, offset, length, n_keys, 0, 0)
    return envelope(0x0cdb3a2a, body + struct.pack("<Q", 1) + b"\0", **kw)


ENTRIES = [(b"w/.zarray", zarray()), (b"w/0", b"\1" * 8), (b"w/1", b"\2" * 8)]


def store(root, n=3, height=0, before=b"", data=None, **kw):
    data = before + root if data is None else data
    return {"manifest.ocdbt": manifest(height, len(before), len(root), n, **kw), "d/data": data}


STORE = folder(store(leaf_node(ENTRIES)))
LEAF = leaf_node(ENTRIES)


def node(id, code, files, offset=None):
    bad(id, code, files, offset, twin=STORE)


def flip(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


# a node that is its own child: the heights cannot fall, and a file cannot hold it twice
itself = interior_node([(b"a", 0, 0, 0, 60, 3)])
itself = interior_node([(b"a", 0, 0, 0, len(itself), 3)])
node("O08-itself", "ocdbt-height", store(itself, height=1) | {"d/data": itself + bytes(1000)})
twice = interior_node([(b"a", 0, 0, 0, len(LEAF), 3), (b"b", 0, 0, 0, len(LEAF), 3)])
node("O08-twice", "ocdbt-twice", store(twice, 6, 1, LEAF))
node("O08-keys-fall", "ocdbt-key", store(twice, 6, 1, LEAF, data=LEAF + twice + bytes(1000)))
shared = interior_node([(bytes([97 + i]), 1, 0, 0, len(LEAF), 3) for i in range(20)])
node("O08-shared", "ocdbt-twice", store(shared, 60, 1, LEAF))
node("O08-height", "ocdbt-height", store(LEAF, height=1))
node("O08-height-leaf", "ocdbt-height", store(leaf_node(ENTRIES, height=1)))
node("O08-255", "ocdbt-height", store(itself, height=255))


def chain():
    """As deep as heights allow: one child each."""
    data, at, n = LEAF, 0, len(LEAF)
    for h in range(1, 100):
        one = interior_node([(b"w/.zarray", 0, 0, at, n, 3)], height=h)
        at, n = len(data), len(one)
        data += one
    return {"manifest.ocdbt": manifest(99, at, n, 3), "d/data": data}


node("O08-chain", "ocdbt-height", chain())
node("O08-keys", "ocdbt-count", store(LEAF, n=4))
node("O08-crc", "ocdbt-crc", store(flip(LEAF, 40)))
node("O08-magic", "ocdbt-magic", store(flip(LEAF, 0)))
node("O08-length", "ocdbt-length", store(leaf_node(ENTRIES)) | {
    "manifest.ocdbt": manifest(0, 0, len(LEAF) + 4, 3), "d/data": LEAF + bytes(4)})
node("O08-trailing", "ocdbt-trailing", store(leaf_node(ENTRIES, tail=b"\0")))
node("O08-none", "ocdbt-count", store(leaf_node([])))
node("O08-version", "ocdbt-version", {"manifest.ocdbt": manifest(0, 0, 9, 3, version=1), "d/data": LEAF})
node("O08-method", "ocdbt-compression",
     {"manifest.ocdbt": manifest(0, 0, 9, 3, compression=2), "d/data": LEAF})
node("O08-zstd", "zstd-frame",
     {"manifest.ocdbt": manifest(0, 0, 9, 3, compression=1), "d/data": LEAF})
node("O08-manifest-crc", "ocdbt-crc", store(LEAF) | {"manifest.ocdbt": flip(manifest(0, 0, 9, 3), 30)})
node("O08-manifest-cut", "truncated", store(LEAF) | {"manifest.ocdbt": manifest(0, 0, len(LEAF), 3)[:-1]})
node("O08-count", "ocdbt-count", store(envelope(0x0cdb20de, b"\0" + table(DATA_FILE) + varint(2**32))))

for i, path in enumerate((b"../../etc/passwd", b"/etc/passwd", b"a\0b", b"", b"d/../d/data", b"d//data")):
    node(f"O09-path-{i}", "path-escape", store(LEAF, paths=(path,)))
    node(f"O09-value-{i}", "path-escape", store(leaf_node(
        ENTRIES[:1] + [(b"w/0", (0, 0, 8))], paths=(path,)), n=2))
node("O09-missing", "unreadable", store(LEAF, paths=(b"d/none",)), False)
node("O09-past", "truncated", {"manifest.ocdbt": manifest(0, 2**40, len(LEAF), 3), "d/data": LEAF})
node("O09-wrap", "truncated", {"manifest.ocdbt": manifest(0, 2**64 - 4, len(LEAF), 3), "d/data": LEAF})
node("O09-value", "ocdbt-bounds", store(leaf_node(ENTRIES[:2] + [(b"w/1", (0, 4, 10**6))])))
node("O09-value-wrap", "ocdbt-bounds", store(leaf_node(ENTRIES[:2] + [(b"w/1", (0, 2**64 - 4, 8))])))
node("O09-id", "ocdbt-table", store(leaf_node(ENTRIES[:2] + [(b"w/1", (1, 0, 8))])))
node("O09-root-id", "ocdbt-table", store(LEAF, file=1))

node("O10-unsorted", "ocdbt-key", store(leaf_node([ENTRIES[0], ENTRIES[2], ENTRIES[1]])))
node("O10-twice", "ocdbt-key", store(leaf_node([ENTRIES[0], ENTRIES[1], ENTRIES[1]])))
node("O10-prefix", "ocdbt-key", store(leaf_node(ENTRIES, prefixes=[10, 0])))
node("O10-common", "ocdbt-key", store(interior_node([(b"w", 2, 0, 0, len(LEAF), 3)]), 3, 1, LEAF))
node("O10-orphan", "orbax-key", store(leaf_node([(b"v/0", E8)] + ENTRIES), n=4))
node("O10-array-twice", "zarr-twice", {"ocdbt.process_0/" + k: v for k, v in store(LEAF).items()} | {
    "ocdbt.process_1/" + k: v for k, v in store(leaf_node(
        [(b"w/.zarray", zarray((6,)))])).items() if k != "manifest.ocdbt"} | {
    "ocdbt.process_1/manifest.ocdbt": manifest(0, 0, len(leaf_node([(b"w/.zarray", zarray((6,)))])), 1)})

# keys that front coding makes long: a megabyte of node may not become gigabytes
deep = [(b"w" * 60000, b"")] + [(bytes([i]), b"") for i in range(1, 250)] * 4
node("O10-long", None, store(leaf_node(deep, prefixes=[60000 - i // 249 for i in range(996)]),
                             n=len(deep)))

# ---- O12: what the parts say of each other ----


def renamed(name):
    def build(d):
        GOOD(d)
        (d / F).rename(d / "was")
        (d / F).mkdir()
        (d / "was").rename(d / F / name)
    return build


case("O12-unfinished", F, 3, "orbax-uncommitted", 0, args=TO,
     build=renamed("5.orbax-checkpoint-tmp-17"), twin=renamed("5"))
bad("O12-shape", "orbax-shape", item(_METADATA=metadata(leaf("w", write_shape=[5]))))
bad("O12-rank", "orbax-shape", item(_METADATA=metadata(leaf("w", write_shape=[2, 2]))))
bad("O12-no-array", "orbax-missing", item(_METADATA=metadata(leaf("w"), leaf("v"))))
bad("O12-no-chunk", "chunk-missing",
    item(w__1=None, _METADATA=metadata(leaf("w"), store_array_data_equal_to_fill_value=True)))
bad("O12-no-text", "orbax-missing", item(_METADATA=metadata(leaf("s", "string"))))
bad("O12-leaf-twice", "orbax-tree", item(_METADATA=metadata(leaf("w"), leaf("w"))))
bad("O12-list", "orbax-tree", item(_METADATA=metadata(
    {"key_metadata": [{"key": "0", "key_type": 1}], "value_metadata": {"value_type": "None"}},
    leaf("w"))))
bad("O12-hole", "orbax-tree", item(_METADATA=metadata(
    {"key_metadata": [{"key": "1", "key_type": 1}], "value_metadata": {"value_type": "None"}})))
bad("O12-type", "orbax-metadata", item(_METADATA=metadata(
    {"key_metadata": [{"key": "w", "key_type": 3}], "value_metadata": {"value_type": "None"}})))
bad("O12-deep", "json-depth", item(_METADATA=b'{"a":' * 100000))
bad("O12-nothing", "orbax-metadata", item(_METADATA=b"{}"))


def two_steps(d):
    GOOD(d)
    (d / F).rename(d / "was")
    for step in ("1", "2"):
        folder({f"{step}/default/" + k: v for k, v in item().items()})(d)


case("O12-two-steps", F, 2, "several-weight-sets", False, args=TO, build=two_steps, twin=GOOD)

# every leaf of 30,000 in one flat map, and in a list: linear
many = {"_METADATA": metadata(*(leaf(f"k{i}", "None") for i in range(30000)), leaf("w"))}
case("O14-many", F, 0, None, False, args=(("inspect", "{file}"),),
     build=folder(item(**many)), metadata_bytes=8 << 20)

# ---- what a store may look like, and must be read ----
NUMBERS = {"w": b"\1" * 8 + b"\2" * 8}


def good(id, files):
    case(id, F, 0, None, False, args=DATA, build=folder(files), expect_tensors=NUMBERS)


def inside(entries, n):
    """The same entries behind n bytes that the parent has said."""
    return [(k[n:], v) for k, v in entries]


sub = leaf_node(inside(ENTRIES, 2))
good("O20-inherited", store(interior_node([(b"w/.zarray", 2, 0, 0, len(sub), 3)]), 3, 1, sub))
first, second = leaf_node(inside(ENTRIES[:1], 2)), leaf_node(inside(ENTRIES[1:], 1))
good("O20-two-children", store(interior_node([
    (b"w/.zarray", 2, 0, 0, len(first), 1), (b"w/0", 1, 0, len(first), len(second), 2)]), 3, 1,
    first + second))
good("O20-values", store(leaf_node(ENTRIES[:1] + [(b"w/0", (0, 3, 8)), (b"w/1", (0, 11, 8))]),
                         before=b"abc" + b"\1" * 8 + b"\2" * 8))
good("O20-coded-keys", store(leaf_node([ENTRIES[0], (b"0", b"\1" * 8), (b"1", b"\2" * 8)],
                                       prefixes=[2, 2])))


def based(base, relative):
    """A table of one path, whose first part the nodes there inherit."""
    return b"\1" + varints(len(base + relative), len(base)) + base + relative


def based_manifest(tab, height, offset, length, n_keys):
    body = bytes(16) + b"\0" + varints(1024, 100000000) + b"\4" + varint(0) + tab
    body += varint(1) + varint(1) + bytes([height]) + varints(0, offset, length, n_keys, 0, 0)
    return envelope(0x0cdb3a2a, body + struct.pack("<Q", 1) + b"\0")


inner = leaf_node(ENTRIES[:1] + [(b"w/0", (0, 0, 8)), (b"w/1", (0, 8, 8))], paths=(b"d/values",))
good("O20-base", {"manifest.ocdbt": based_manifest(based(b"ocdbt.process_3/", b"d/node"), 0, 0,
                                                   len(inner), 3),
                  "ocdbt.process_3/d/node": inner,
                  "ocdbt.process_3/d/values": b"\1" * 8 + b"\2" * 8})
numbered = envelope(0x0cdb3a2a, bytes(16) + b"\1" + varints(1024, 100000000) + b"\4" + varint(0))
old_leaf = leaf_node(ENTRIES[:1] + [(b"w/0", b"\7" * 8), (b"w/1", b"\7" * 8)])
good("O20-numbered", {"manifest.ocdbt": numbered,
                      "manifest.0000000000000002": manifest(0, 0, len(LEAF), 3),
                      "manifest.0000000000000001": manifest(0, len(LEAF), len(old_leaf), 3),
                      "d/data": LEAF + old_leaf})
node("O20-numbered-none", "ocdbt-config", {"manifest.ocdbt": numbered, "d/data": LEAF})
node("O20-numbered-again", "ocdbt-config", {"manifest.ocdbt": numbered, "d/data": LEAF,
                                            "manifest.0000000000000001": numbered})
good("O20-empty-process", {"ocdbt.process_0/" + k: v for k, v in store(LEAF).items()} | {
    "ocdbt.process_1/manifest.ocdbt": manifest(0, 2**64 - 1, 2**64 - 1, 0)})
good("O20-versions", {"manifest.ocdbt": envelope(
    0x0cdb3a2a, bytes(16) + b"\0" + varints(1024, 100000000) + b"\4" + varint(0) + table(DATA_FILE) +
    varint(2) + varints(1, 4) + b"\0\0" + varints(0, 0) + varints(2**64 - 1, 0) +
    varints(2**64 - 1, len(LEAF)) + varints(0, 3) + bytes(4) + struct.pack("<QQ", 1, 2) + b"\0"),
    "d/data": LEAF})
for name, (data, kw) in {"zlib": (zlib.compress(b"\1" * 8), ZLIB), "gzip": (gz(b"\1" * 8), GZIP),
                         "zstd": (zstd_raw(b"\1" * 8), ZSTD),
                         "blosc": (blosc(b"\1" * 8), BLOSC)}.items():
    case(f"O20-{name}", F, 0, None, False, args=DATA, build=folder(one_chunk(data, **kw)),
         expect_tensors={"w": b"\1" * 16})
