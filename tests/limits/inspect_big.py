#!/usr/bin/env python3
"""`inspect` of ten gibibytes in every format that is read, from a cold cache, reads the metadata and
at most 64 KiB a tensor: counted by strace with --io read, and by the pages that a run with --io mmap
leaves in the page cache. The bodies are holes, so the files cost nothing.

Some formats hold no such file, or none made of holes, and are bounded all the same:
  deflated npz    ten gibibytes of values in 10 MB: of each stream its head alone may be read
  tf-checkpoint   version 1, whose table holds the values: the tables' blocks are holes too
  archive         64 MiB that do not compress: what stands behind the weights is the metadata
  joblib, gzip    one stream, decoded to its end: read once and not twice
"""
# timeout: 1200
import ctypes
import json
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "hostile")]
import cases_G as gguf  # noqa: E402
import cases_M as msgpack  # noqa: E402
import cases_O as orbax  # noqa: E402
import cases_P_dcp as dcp  # noqa: E402
import cases_P_haiku as haiku  # noqa: E402
import cases_P_torch as torch  # noqa: E402
import cases_T as tf  # noqa: E402
import cases_X as onnx  # noqa: E402
import cases_G_tflite as tflite  # noqa: E402
import hdf5  # noqa: E402
import tables  # noqa: E402
import zips  # noqa: E402
from common import BINARY, check, main  # noqa: E402

N, SIDE = 10, 16384
ONE = 4 * SIDE * SIDE  # a tensor: 1 GiB of float32
PER_TENSOR = 64 << 10


class Rope:
    """Bytes and holes (numbers), put together by + like bytes."""

    def __init__(self, *parts):
        self.parts = list(parts)

    def __add__(self, other):
        return Rope(*self.parts, *(other.parts if isinstance(other, Rope) else [bytes(other)]))

    def __radd__(self, other):
        return Rope(bytes(other), *self.parts)

    def __len__(self):
        return sum(p if isinstance(p, int) else len(p) for p in self.parts)

    def solid(self):
        return sum(len(p) for p in self.parts if not isinstance(p, int))


HOLE = Rope(ONE)


def join(parts):
    """As b"".join, in time linear in the number of parts."""
    out = Rope()
    for p in parts:
        out.parts += p.parts if isinstance(p, Rope) else [p]
    return out


def put(path, data):
    """Writes a rope; the number of bytes that are no hole."""
    data = data if isinstance(data, Rope) else Rope(data)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    at = 0
    with open(path, "wb") as f:
        for p in data.parts:
            if isinstance(p, int):
                at += p
            else:
                f.seek(at)
                f.write(p)
                at += len(p)
        f.truncate(at)
    return data.solid()


# ---- sums of zeros, by squaring the matrix of one zero bit ----

def zeros_crc(crc, n, poly):
    """The register (before its last inversion) after n zero bytes."""
    def times(m, v):
        out = 0
        for row in m:
            if v & 1:
                out ^= row
            v >>= 1
        return out
    m = [poly] + [1 << i for i in range(31)]
    n *= 8
    while n:
        if n & 1:
            crc = times(m, crc)
        m = [times(m, row) for row in m]
        n >>= 1
    return crc


def crc(rope, poly, piece):
    """piece(bytes, crc so far): the sum of bytes that follow."""
    out = 0
    for p in rope.parts if isinstance(rope, Rope) else [rope]:
        if isinstance(p, int):
            out = zeros_crc(out ^ 0xffffffff, p, poly) ^ 0xffffffff
        else:
            out = piece(p, out)
    return out


def crc32(rope):
    return crc(rope, 0xEDB88320, zlib.crc32)


def crc32c_piece(data, c):
    c ^= 0xffffffff
    for b in data:
        c = tables._TABLE[(c ^ b) & 255] ^ (c >> 8)
    return c ^ 0xffffffff


def masked(rope):
    c = crc(rope, 0x82F63B78, crc32c_piece)
    return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xffffffff


# ---- containers ----

def zip64(members, align=1):
    """members: (name, data) stored, or (name, data, bytes before deflate, crc)."""
    out, central = Rope(), b""
    at = 0
    for name, data, *packed in members:
        name = name.encode()
        raw, sum, method = (*packed, 8) if packed else (len(data), crc32(data), 0)
        local = struct.pack("<HHQQ", 1, 16, raw, len(data))
        pad = -(at + 30 + len(name) + len(local) + 4) % align
        local += struct.pack("<HH", 0x4246, pad) + b"Z" * pad if align > 1 else b""
        head = struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0x0800, method, 0, 0x21, sum, 0xffffffff,
                           0xffffffff, len(name), len(local)) + name + local
        extra = struct.pack("<HHQQQ", 1, 24, raw, len(data), at)
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0x0800, method, 0, 0x21, sum,
                               0xffffffff, 0xffffffff, len(name), len(extra), 0, 0, 0, 0,
                               0xffffffff) + name + extra
        out = out + head + data
        at += len(head) + len(data)
    n = len(members)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, n, n, len(central), at)
    end += struct.pack("<IIQI", 0x07064B50, 0, at + len(central), 1)
    end += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff, 0)
    return out + central + end


def npy_head(shape=(SIDE, SIDE)):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': %r, }" % (shape,)
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def safetensors(names):
    head, at = {}, 0
    for name in names:
        head[name] = {"dtype": "F32", "shape": [SIDE, SIDE], "data_offsets": [at, at + ONE]}
        at += ONE
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + Rope(at)


NAMES = ["layer%d.w" % i for i in range(N)]


# ---- one file or folder of each format: what to name, and the metadata's bytes ----

def make_safetensors(d):
    return d / "m.safetensors", put(d / "m.safetensors", safetensors(NAMES))


def make_shards(d):
    files = ["model-%05d-of-00002.safetensors" % i for i in (1, 2)]
    n = sum(put(d / "m" / f, safetensors(NAMES[i::2])) for i, f in enumerate(files))
    index = {"metadata": {"total_size": N * ONE}, "weight_map": {
        name: files[i % 2] for i, name in enumerate(NAMES)}}
    return d / "m", n + put(d / "m/model.safetensors.index.json", json.dumps(index).encode())


def make_npy(d):
    return d / "m.npy", put(d / "m.npy", npy_head((N * SIDE, SIDE)) + Rope(N * ONE))


def make_npz(d):
    return d / "m.npz", put(d / "m.npz", zip64([(n + ".npy", npy_head() + HOLE) for n in NAMES]))


def make_npz_deflated(d):
    c = zlib.compressobj(1, zlib.DEFLATED, -15)
    piece = 16 << 20
    head = c.compress(npy_head()) + c.flush(zlib.Z_FULL_FLUSH)
    zeros = c.compress(bytes(piece)) + c.flush(zlib.Z_FULL_FLUSH)
    data = head + zeros * (ONE // piece) + c.flush()
    sum = crc32(npy_head() + HOLE)
    blob = zip64([(n + ".npy", data, ONE + len(npy_head()), sum) for n in NAMES])
    put(d / "m.npz", blob)
    return d / "m.npz", len(blob) - N * len(data)


def torch_tensor(i, **kw):
    return zips.tensor(zips.persid(str(i), ONE // 4, **kw), 0, (SIDE, SIDE), (SIDE, 1))


def torch_zip(pickle, n, more=()):
    return zip64([("a/data.pkl", pickle), ("a/byteorder", b"little"),
                  *[("a/data/%d" % i, HOLE) for i in range(n)], ("a/version", b"3\n"), *more], 64)


def make_torch(d):
    state = zips.state_dict(*[(n, torch_tensor(i)) for i, n in enumerate(NAMES)])
    return d / "m.pt", put(d / "m.pt", torch_zip(state, N))


def make_script(d):
    names = ["w%d" % i for i in range(N)]
    data = b"\x80\x02" + torch.module(*[(n, torch_tensor(i)) for i, n in enumerate(names)]) + b"."
    source = ("class Net(Module):\n  __parameters__ = [%s]\n  __buffers__ = []\n" %
              "".join('"%s", ' % n for n in names)).encode()
    return d / "m.pt", put(d / "m.pt", torch_zip(data, N, [("a/constants.pkl", b"\x80\x02)."),
                                                           ("a/code/__torch__/net.py", source)]))


def make_torch_stream(d):
    keys = b"\x80\x02](" + b"".join(zips.text(str(i)) for i in range(N)) + b"e."
    state = zips.state_dict(*[(n, zips.tensor(torch.stored(str(i), zips.integer(ONE // 4)), 0,
                                              (SIDE, SIDE), (SIDE, 1))) for i, n in enumerate(NAMES)])
    tail = join([struct.pack("<q", ONE // 4) + HOLE for _ in range(N)])
    return d / "m.pt", put(d / "m.pt", torch.stream(state, keys=keys, tail=tail))


def make_torch_tar(d):
    body = join([torch.entry(i, count=ONE // 4, data=HOLE) for i in range(N)])
    rows = b"".join(torch.row(100 + i, zips.integer(i), (SIDE, SIDE), (SIDE, 1)) for i in range(N))
    parts = {"storages": torch.storages(N, body), "tensors": torch.tensors(N, rows),
             "pickle": zips.state_dict(*[(n, zips.text(str(100 + i)) + b"Q")
                                         for i, n in enumerate(NAMES)])}
    out = Rope()
    for name, data in parts.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        out = out + info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return d / "m.tar", put(d / "m.tar", out + bytes(1024))


def make_dcp(d):
    blob = torch_zip(b"\x80\x02" + torch_tensor(0) + b".", 1)
    items, places = [], []
    for i, n in enumerate(NAMES):
        items.append((zips.text(n), dcp.storage_metadata((SIDE, SIDE), [((0, 0), (SIDE, SIDE))])))
        places.append((dcp.index(n, (0, 0)), dcp.place(offset=i * len(blob), length=len(blob))))
    meta = dcp.metadata(dcp.dictionary(*items), places=places)
    return d / "m", put(d / "m/.metadata", meta) + put(d / "m/__0_0.distcp", join([blob] * N))


def make_msgpack(d):
    leaves = [msgpack.text("w%d" % i) + msgpack.nd([SIDE, SIDE], "float32", HOLE) for i in range(N)]
    return d / "m.msgpack", put(d / "m.msgpack", bytes([0x80 | N]) + join(leaves))


def item(d, files, **kw):
    names = [n.replace(".", "_") for n in NAMES]
    meta = orbax.metadata(*(orbax.leaf(n) for n in names), **kw)
    return sum(put(d / "m" / f, data) for f, data in files(names).items()) + put(d / "m/_METADATA", meta)


ZARRAY = orbax.zarray((SIDE, SIDE), (SIDE, SIDE))


def make_zarr2(d):
    return d / "m", item(d, lambda names: {n + f: data for n in names for f, data in (
        ("/.zarray", ZARRAY), ("/0.0", HOLE))})


def make_zarr3(d):
    array = json.dumps({"chunk_grid": {"configuration": {"chunk_shape": [SIDE, SIDE]}, "name": "regular"},
                        "chunk_key_encoding": {"name": "default"}, "data_type": "float32",
                        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                        "fill_value": 0.0, "node_type": "array", "shape": [SIDE, SIDE],
                        "zarr_format": 3}).encode()
    return d / "m", item(d, lambda names: {n + f: data for n in names for f, data in (
        ("/zarr.json", array), ("/c/0/0", HOLE))}, use_zarr3=True)


def make_ocdbt(d):
    def files(names):
        rows, at = [], 1 << 20
        for n in names:
            rows += [(n.encode() + b"/.zarray", ZARRAY), (n.encode() + b"/0.0", (0, at, ONE))]
            at += ONE
        root = orbax.leaf_node(rows)
        return {"manifest.ocdbt": orbax.manifest(0, 0, len(root), 2 * N),
                "d/data": root + Rope((1 << 20) - len(root) + N * ONE)}
    return d / "m", item(d, files, use_ocdbt=True)


def h5(build):
    """build(file, data): data(k) is a dataset in the k-th hole; the file, and what is no hole."""
    f, start = hdf5.File(), 1 << 20

    def dataset(k):
        return f.put(hdf5.header(hdf5.space(SIDE, SIDE), (3, hdf5.F32), hdf5.FILL,
                                 hdf5.contiguous(start + k * ONE, ONE)))
    blob = f.done(build(f, dataset), eof=start + N * ONE)
    return blob + Rope(start - len(blob) + N * ONE)


def keras3(f, dataset):
    layers = [hdf5.link("dense_%d" % i, f.group(hdf5.link("vars", f.group(hdf5.link("0", dataset(i))))))
              for i in range(N)]
    return f.group(hdf5.link("layers", f.group(*layers)))


def make_keras_weights(d):
    return d / "m.weights.h5", put(d / "m.weights.h5", h5(keras3))


def make_keras_h5(d):
    def build(f, dataset):
        return f.group(*[hdf5.link("dense_%d" % i, f.group(
            hdf5.link("kernel:0", dataset(i)), attrs=[hdf5.names("weight_names", "kernel:0")]))
            for i in range(N)], attrs=[hdf5.names("layer_names", *("dense_%d" % i for i in range(N)))])
    return d / "m.h5", put(d / "m.h5", h5(build))


def make_keras(d):
    return d / "m.keras", put(d / "m.keras", zip64([
        ("metadata.json", b'{"keras_version": "3.0.0"}'), ("config.json", b"{}"),
        ("model.weights.h5", h5(keras3))]))


def bundle(stem):
    sum = masked(HOLE)
    index = tables.bundle({n.encode(): tables.entry(1, [SIDE, SIDE], ONE, sum, i * ONE)
                           for i, n in enumerate(NAMES)})
    return put(str(stem) + ".index", index) + put(str(stem) + ".data-00000-of-00001", Rope(N * ONE))


def make_tf(d):
    return d / "m.index", bundle(d / "m")


def make_savedmodel(d):
    return d / "m", put(d / "m/saved_model.pb", tf.saved()) + bundle(d / "m/variables/variables")


def make_tf1(d):
    """A table with a block for what the tensors are and one for each tensor's values."""
    every = [tables.slice_of((None, None))]
    meta = tables.msg(1, b"".join(tables.msg(1, tables.msg(1, n.encode()) + tables.msg(
        2, tables.shape([SIDE, SIDE])) + tables.num(3, 1) + tables.msg(4, every[0])) for n in NAMES))
    rows = [(b"", meta)] + [(tables.slice_key(n.encode(), (None, None)), tables.msg(
        2, tables.msg(1, n.encode()) + tables.msg(2, every[0]) + tables.msg(3, tables.msg(5, HOLE))))
        for n in NAMES]
    out, index = Rope(), []
    for key, value in rows:
        block = b"\0" + tables.varint(len(key)) + tables.varint(len(value)) + key + value
        block = block + struct.pack("<II", 0, 1)
        index.append((key, tables.handle(len(out), len(block))))
        out = out + block + b"\0" + struct.pack("<I", masked(block + b"\0"))
    empty = tables.block(tables.EMPTY)
    list_ = tables.block(tables.entries(index))
    at = len(out)
    out = out + empty + list_ + tables.footer(
        tables.handle(at, len(tables.EMPTY)), tables.handle(at + len(empty), len(list_) - 5))
    return d / "m.ckpt", put(d / "m.ckpt", out)


def make_graphdef(d):
    nodes = [tf.const(tf.tensor([SIDE, SIDE], tables.msg(4, HOLE), 1), n.encode()) for n in NAMES]
    return d / "m.pb", put(d / "m.pb", join(nodes))


def make_onnx(d):
    graph = [onnx.sub(5, onnx.tensor(n.encode(), (SIDE, SIDE), raw=HOLE)) for n in NAMES]
    body = join(graph)
    return d / "m.onnx", put(d / "m.onnx", onnx.num(1, 8) + onnx.sub(7, body) +
                             onnx.sub(8, onnx.num(2, 13)))


def make_onnx_external(d):
    model = onnx.inits(*[onnx.external(b"m.data", i * ONE, ONE, name=n.encode(), dims=(SIDE, SIDE))
                         for i, n in enumerate(NAMES)])
    return d / "m", put(d / "m/m.onnx", model) + put(d / "m/m.data", Rope(N * ONE))


def make_gguf(d):
    rows = [gguf.entry(n, 0, (SIDE, SIDE), i * ONE) for i, n in enumerate(NAMES)]
    vocabulary = gguf.kv("tokenizer.ggml.tokens", gguf.ARRAY, struct.pack("<IQ", gguf.STRING, 250000) +
                         b"".join(gguf.text("token%d" % i) for i in range(250000)))
    return d / "m.gguf", put(d / "m.gguf", gguf.gguf([gguf.ARCH, vocabulary], rows, Rope(N * ONE)))


def make_tflite(d):
    """A buffer outside the tables, of which one file holds one tensor's."""
    head, _ = tflite.model(shape=(N * SIDE, SIDE), outside=(1 << 16, N * ONE))
    return d / "m.tflite", put(d / "m.tflite", head + Rope((1 << 16) - len(head) + N * ONE))


def make_equinox(d):
    return d / "m.eqx", put(d / "m.eqx", join([npy_head() + HOLE for _ in range(N)]))


MARK = b"\xff mark \xff"


def make_haiku(d):
    leaves = []
    for n in NAMES:
        head, tail = haiku.array((SIDE, SIDE), body=b"\x8e" + MARK).split(MARK)
        leaves.append(zips.text(n) + head + struct.pack("<Q", ONE) + HOLE + tail + b"s")
    leaves = join(leaves)
    return d / "m.pkl", put(d / "m.pkl", b"\x80\x04}" + zips.text("m") + b"}" + leaves + b"s.")


def make_joblib(d):
    """Arrays behind their place in the pickle, as joblib leaves them without compression."""
    leaves = join([zips.text(n) + haiku.wrapped((SIDE, SIDE), data=HOLE) + b"s" for n in NAMES])
    return d / "m.joblib", put(d / "m.joblib", b"\x80\x03}" + zips.text("m") + b"}" + leaves + b"s.")


def make_archive(d):
    src, dst = d / "m.safetensors", d / "m.tar.zst"
    side, n = 2048, 4
    head = {"w%d" % i: {"dtype": "F32", "shape": [side, side],
                        "data_offsets": [i * 4 * side * side, (i + 1) * 4 * side * side]} for i in range(n)}
    text = json.dumps(head).encode()
    put(src, struct.pack("<Q", len(text)) + text + os.urandom(n * 4 * side * side))
    subprocess.run([BINARY, "convert", str(src), "-o", str(dst)], check=True)
    src.unlink()
    with open(dst, "rb") as f:
        f.seek(-9, 2)
        frames, flags, magic = struct.unpack("<IBI", f.read(9))
        check("archive: a seek table", magic == 0x8F92EAB1)
        f.seek(-9 - frames * (12 if flags & 0x80 else 8), 2)
        at, last = 0, 0
        for _ in range(frames):
            stored, _ = struct.unpack("<II", f.read(12 if flags & 0x80 else 8)[:8])
            at += stored
            if stored > 64 << 10:
                last = at
    return dst, dst.stat().st_size - last


def make_gzip(d):
    """All of it has to be decoded: the file is the metadata."""
    import gzip
    n = 1 << 22
    data = gzip.compress(haiku.params(haiku.array((n // 4,), body=b"B" + struct.pack("<I", n) +
                                                  os.urandom(n))), 1)
    return d / "m.pkl", put(d / "m.pkl", data)


# (format, tensors, smallest sum of the files' sizes, maker)
CASES = [(f, n, N * ONE, make) for f, n, make in (
    ("safetensors", N, make_safetensors), ("safetensors", N, make_shards), ("npy", 1, make_npy),
    ("npz", N, make_npz), ("pytorch", N, make_torch), ("pytorch", N, make_script),
    ("pytorch", N, make_torch_stream), ("pytorch", N, make_torch_tar), ("torch-dcp", N, make_dcp),
    ("msgpack", N, make_msgpack), ("orbax", N, make_zarr2), ("orbax", N, make_zarr3),
    ("orbax", N, make_ocdbt), ("keras-weights", N, make_keras_weights),
    ("keras-h5", N, make_keras_h5), ("keras", N, make_keras), ("tf-checkpoint", N, make_tf),
    ("tf-checkpoint", N, make_tf1), ("savedmodel", N, make_savedmodel), ("graphdef", N, make_graphdef),
    ("onnx", N, make_onnx), ("onnx", N, make_onnx_external), ("gguf", N, make_gguf),
    ("tflite", 1, make_tflite), ("equinox", N, make_equinox), ("haiku", N, make_haiku),
    ("haiku", N, make_joblib))] + [
    ("npz", N, 10 << 20, make_npz_deflated), ("archive", 4, 1 << 25, make_archive),
    ("haiku", 1, 1 << 22, make_gzip)]


# ---- measuring ----

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
CALL = re.compile(r"^(\d+) +(read|pread64|readv|preadv|preadv2)\(\d+<(.*?)>.*?(?:= (-?\d+).*|<unfinished \.\.\.>)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>.*= (-?\d+)")


def files_of(path):
    path = pathlib.Path(path)
    if path.suffix == ".index":
        return sorted(path.parent.glob(path.stem + ".*"))
    return [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]


def cool(path):
    """Out of the cache; what the kernel is busy with at the moment goes a little later."""
    memory = in_memory(path, False)
    for _ in range(100):
        for p in files_of(path):
            fd = os.open(p, os.O_RDWR)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        if memory or resident(path) == 0:
            break
        time.sleep(0.05)


def resident(path):
    total = 0
    for p in files_of(path):
        size = p.stat().st_size
        if size == 0:
            continue
        fd = os.open(p, os.O_RDWR)
        at = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        pages = -(-size // mmap.PAGESIZE)
        seen = ctypes.create_string_buffer(pages)
        if LIBC.mincore(at, size, seen) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        LIBC.munmap(at, size)
        os.close(fd)
        total += sum(b & 1 for b in seen.raw) if pages < 1 << 16 else bytes(
            seen.raw[:pages]).translate(FLAGS).count(b"\1")
    return total * mmap.PAGESIZE


def in_memory(path, say=True):
    """A file system that is nothing but the page cache."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(path)], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()
    if say and kind in ("tmpfs", "ramfs"):
        print("%s lies in memory: the calls alone are counted" % path)
    return kind in ("tmpfs", "ramfs")


def read_ahead(path):
    """Twice the window of the path's device, in bytes; the kernel's usual one where it is not told."""
    dev = os.stat(path).st_dev
    try:
        with open("/sys/class/bdi/%d:%d/read_ahead_kb" % (os.major(dev), os.minor(dev))) as f:
            return 2 * (int(f.read()) << 10)
    except (OSError, ValueError):
        return 256 << 10


FLAGS = bytes(i & 1 for i in range(256))


def inspect(path, io, fmt, trace):
    """(object printed, bytes that system calls read from the files)"""
    r = subprocess.run(["strace", "-f", "-qq", "-y", "-s", "0", "-e", "signal=none", "-e",
                        "trace=read,pread64,readv,preadv,preadv2", "-o", trace, BINARY, "inspect",
                        "--json", "--io", io, *(["--input-format", fmt] if fmt else []), str(path)],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    check("inspect %s" % path, r.returncode == 0, r.stderr[-500:])
    total, waits = 0, {}
    inside = str(pathlib.Path(path).parent) + "/"
    with open(trace) as f:
        for line in f:
            m = CALL.match(line)
            if m and m[3].startswith(inside):
                if m[4] is None:
                    waits[m[1]] = True
                else:
                    total += max(int(m[4]), 0)
            elif not m and (m := RESUMED.match(line)) and waits.pop(m[1], False):
                total += max(int(m[2]), 0)
    return json.loads(r.stdout), total


def one(fmt, n, least, make):
    def part(work):
        d = pathlib.Path(work) / "in"
        d.mkdir()
        path, metadata = make(d)
        size = sum(p.stat().st_size for p in files_of(path))
        what = make.__name__[5:]
        check(what + ": large enough", size >= least, size)
        bound = metadata + n * PER_TENSOR
        trace = os.path.join(work, "trace")
        cool(path)
        cold = not in_memory(path)
        check(what + ": cold", not cold or resident(path) == 0, resident(path))
        got, n_read = inspect(path, "read", None, trace)
        check(what + ": is " + fmt, got["format"] == fmt and len(got["tensors"]) == n, got["format"])
        in_cache = resident(path)
        cool(path)
        got, n_mapped = inspect(path, "mmap", None, trace)
        touched = resident(path)
        print("%-16s %12d bytes, metadata %8d, bound %8d: read %8d, %8d in the cache; mmap: read %8d, "
              "%8d in the cache" % (what, size, metadata, bound, n_read, in_cache, n_mapped, touched))
        sys.stdout.flush()
        check(what + ": bytes read", n_read <= bound, (n_read, bound))
        check(what + ": bytes read where files are mapped", n_mapped <= bound, (n_mapped, bound))
        if cold:
            # what the kernel reads ahead of the last byte asked for is its own affair
            check(what + ": pages", max(in_cache, touched) <= bound + read_ahead(path),
                  (in_cache, touched, bound, read_ahead(path)))
    part.__name__ = make.__name__
    return part


if __name__ == "__main__":
    listed = json.loads(subprocess.run([BINARY, "formats", "--json"], stdout=subprocess.PIPE,
                                       check=True).stdout)["formats"]
    check("every format that is read has its file", {f["name"] for f in listed if f["reads"]} ==
          {c[0] for c in CASES}, sorted({f["name"] for f in listed} ^ {c[0] for c in CASES}))
    main(*(one(*c) for c in CASES if not sys.argv[1:] or c[3].__name__[5:] in sys.argv[1:]))
