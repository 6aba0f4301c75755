"""Every compressed tile and stream of a source is decoded once, and --dry-run says how many.

Three counts that know nothing of each other must agree: what other readers find in the file (zip
entries by zipfile, HDF5 chunks by h5py, chunk files and OCDBT keys by TensorStore, frames by the
archive's seek table), what --dry-run prints, and what a copy of the program decompresses, whose
calls of the decompressors are counted from outside (decode_log.c). Each decoded piece is known by
length and CRC-32 of its stored bytes, so that one done twice cannot hide another left out.
"""

import collections
import gzip
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import h5py
import numpy as np
import tensorstore
import torch

from common import ROOT, Failure, entries, fresh, need

sys.path.append(str(ROOT / "tests" / "hostile"))
import tables  # noqa: E402

COUNTED = ROOT / "build" / "release" / "tests" / "interop" / "nnferry-counted"
HEAD = 70000  # raw bytes: a reader may look at the head of a stream to learn what it holds
RNG = np.random.default_rng(11)


def build():
    got = subprocess.run(["make", "-s", "-f", "Makefile", "-f", "tests/interop/counted.mk",
                          "counted"], cwd=ROOT, capture_output=True, text=True)
    need(got.returncode == 0, f"make: {got.stderr[-800:]}")


def compressible(*shape, dtype="float32"):
    return RNG.integers(0, 9, size=shape).astype(dtype)


def piece(data):
    return len(data), zlib.crc32(data)


def one_run(folder, *argv):
    """(JSON, Counter of whole pieces by (kind, stored, crc), [(kind, raw) of partly read ones])"""
    log = folder / "decodes.log"
    log.unlink(missing_ok=True)
    env = os.environ | {"NNFERRY_DECODE_LOG": str(log)}
    got = subprocess.run([COUNTED, *map(str, argv), "--json"], capture_output=True, text=True,
                         env=env, timeout=300)
    if got.returncode != 0:
        raise Failure(f"{argv}: exit {got.returncode}: {got.stderr.strip()[-400:]}")
    done = []
    for line in log.read_text().splitlines() if log.exists() else []:
        kind, stored, raw, crc = line.split()
        done.append((kind, int(stored), int(crc, 16), int(raw)))
    return json.loads(got.stdout), done


def once(folder, source, kind, pieces, target, *options, plain=0, early=0, others=False):
    """Converts. pieces: [(stored, crc)] of all that is compressed in source; plain: tiles of it
    that are not; early: how many of them a reader must decode to read at all; others: the target
    is compressed itself, and read back."""
    argv = ["convert", source, "-o", folder / target, "-f", *options]
    want = collections.Counter(pieces)
    need(want and max(want.values()) == 1, "the test's own pieces are not told apart")
    told, dry = one_run(folder, *argv, "--dry-run")
    n = told["cost"]["decodes"]
    need(n == len(pieces) + plain, f"--dry-run says {n}, not {len(pieces)} + {plain}")
    whole = sum((k, (s, c)) == (kind, p) for k, s, c, _ in dry for p in [(s, c)] if p in want)
    need(whole == early, f"--dry-run itself decoded {whole}, not {early}")
    _, done = one_run(folder, *argv)
    have = collections.Counter((s, c) for k, s, c, _ in done if k == kind and (s, c) in want)
    need(have == want, f"decoded {sum(have.values())} of {len(want)}, "
         f"{sum(v > 1 for v in have.values())} of them more than once")
    rest = [(k, s, r) for k, s, c, r in done if k == kind and (s, c) not in want]
    heads = [x for x in rest if x[2] <= HEAD]
    need(others or len(rest) == len(heads), f"also decoded: {rest[:3]}")
    return len(pieces) + plain


# ---- what other readers find ----

def of_zip(path, suffix=""):
    out = []
    with zipfile.ZipFile(path) as z, open(path, "rb") as f:
        for m in z.infolist():
            f.seek(m.header_offset)
            names = struct.unpack("<26x2H", f.read(30))
            f.seek(sum(names), 1)
            data = f.read(m.compress_size)
            if m.compress_type == zipfile.ZIP_DEFLATED and m.filename.endswith(suffix):
                out.append(piece(data))
    return out


def of_hdf5(path):
    """Pieces of filtered chunks, and how many chunks have no filter."""
    out, plain = [], 0
    with h5py.File(path) as f:
        found = []
        f.visititems(lambda _, x: found.append(x) if isinstance(x, h5py.Dataset) else None)
        for d in found:
            if d.chunks is None:
                continue
            for i in range(d.id.get_num_chunks()):
                _, data = d.id.read_direct_chunk(d.id.get_chunk_info(i).chunk_offset)
                if d.compression or d.shuffle or d.fletcher32:
                    out.append(piece(data))
                else:
                    plain += 1
    return out, plain


def of_store(path, ocdbt):
    """Chunks of a folder of zarr arrays: keys that are no metadata."""
    path = str(path.absolute()) + "/"
    spec = {"driver": "file", "path": path}
    if ocdbt:
        spec = {"driver": "ocdbt", "base": spec}
    kv, out = tensorstore.KvStore.open(spec).result(), []
    keys = [k.decode() for k in kv.list().result()]
    roots = {k[:-len(".zarray")] for k in keys if k.endswith(".zarray")}
    roots |= {k[:-len("zarr.json")] for k in keys if k.endswith("zarr.json")}
    for k in keys:
        if any(k.startswith(r) for r in roots) and not k.endswith((".zarray", "zarr.json")):
            root = next(r for r in roots if k.startswith(r))
            data = kv.read(k).result().value
            meta = kv.read(root + "zarr.json").result().value if not is_v2(keys, root) else b"{}"
            out += map(piece, inner_chunks(json.loads(meta), data))
    return out


def is_v2(keys, root):
    return root + ".zarray" in keys


def inner_chunks(meta, data):
    """Of a shard, its chunks by the index at its end; else the chunk itself."""
    for codec in meta.get("codecs", []):
        if codec["name"] == "sharding_indexed":
            inner = codec["configuration"]["chunk_shape"]
            outer = meta["chunk_grid"]["configuration"]["chunk_shape"]
            n = math.prod(b // a for a, b in zip(inner, outer))
            need(codec["configuration"].get("index_location", "end") == "end", "index elsewhere")
            pairs = struct.unpack(f"<{2 * n}Q", data[-16 * n - 4:-4])
            return [data[o:o + s] for o, s in zip(pairs[::2], pairs[1::2]) if o != 2 ** 64 - 1]
    return [data]


def of_archive(path):
    """All frames whose content lies in weights/, by the seek table and the tar headers."""
    data = path.read_bytes()
    n, flags, magic = struct.unpack("<IBI", data[-9:])
    need(magic == 0x8F92EAB1, "no seek table")
    width = 12 if flags & 128 else 8
    table = data[-9 - n * width:-9]
    frames, at = [], 0
    for i in range(n):
        stored, raw = struct.unpack_from("<II", table, i * width)
        frames.append((data[at:at + stored], raw))
        at += stored
    tar = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        spans = [(m.offset_data, m.offset_data + m.size) for m in t if
                 m.name.startswith("weights/")]
    out, at = [], 0
    for body, raw in frames:
        if raw and any(lo <= at < hi for lo, hi in spans):
            out.append(piece(body))
        at += raw
    return out


# ---- sources and ways ----

SMALL = ("--memory", "48M", "-j", "2")  # the least there may be, far below the large tensors


def deflated_npz():
    folder = fresh("decodes")
    a = {"large": compressible(5000, 4096), "odd": compressible(1231, 777, dtype="float64"),
         "half": compressible(9000, dtype="float16"), "swapped": compressible(300, 400).astype(">f4")}
    np.savez_compressed(folder / "in.npz", **a)
    pieces = of_zip(folder / "in.npz")
    n = once(folder, folder / "in.npz", "inflate", pieces, "a.safetensors", *SMALL)
    n += once(folder, folder / "in.npz", "inflate", pieces, "b", "--format", "safetensors",
              "--max-shard-size", "3M", "-j", "4")
    n += once(folder, folder / "in.npz", "inflate", pieces, "c.safetensors", "--dtype",
              "float16", "-j", "1")
    n += once(folder, folder / "in.npz", "inflate", pieces, "d.npz", "--compress", others=True)
    n += once(folder, folder / "in.npz", "inflate", pieces, "e.tar.zst", *SMALL, others=True)
    # what is cast is hashed beside, as it was: decoded once for both, in memory and in a spool
    n += once(folder, folder / "in.npz", "inflate", pieces, "f.tar.zst", "--dtype", "bfloat16",
              others=True)
    n += once(folder, folder / "in.npz", "inflate", pieces, "g.tar.zst", "--dtype", "bfloat16",
              *SMALL, others=True)
    same = entries(folder / "a.safetensors")
    need(same["large"][2] == a["large"].tobytes(), "other values")
    return f"{n} streams"


def chunked_hdf5(filters):
    """A Keras file whose kernels are turned on their way to PyTorch."""
    import keras
    folder = fresh("decodes")
    net = keras.Sequential([keras.layers.Input((61, 67, 3)), keras.layers.Conv2D(19, 5),
                            keras.layers.Flatten(), keras.layers.Dense(257)])
    net.layers[-1].kernel.assign(compressible(*net.layers[-1].kernel.shape))
    net.layers[0].kernel.assign(RNG.normal(size=net.layers[0].kernel.shape))
    net.save(folder / "plain.h5")
    with h5py.File(folder / "plain.h5") as f, h5py.File(folder / "in.h5", "w") as g:
        def copy(name, x):
            if isinstance(x, h5py.Group):
                y = g.require_group(name)
            elif x.ndim == 0 or x.size < 16:
                y = g.create_dataset(name, data=x[()])
            else:
                chunks = tuple(max(1, (n + 6) // 7 - 1) for n in x.shape)
                y = g.create_dataset(name, data=x[()], chunks=chunks, **filters)
                if x.ndim == 1:  # no two pieces alike
                    y[()] = RNG.normal(size=x.shape)
            for k, v in x.attrs.items():
                y.attrs[k] = v
        for k, v in f.attrs.items():
            g.attrs[k] = v
        f.visititems(copy)
    pieces, plain = of_hdf5(folder / "in.h5")
    need(len(pieces) + plain > 100, "hardly a chunk")
    source, kind = folder / "in.h5", "hdf5"
    if not pieces:  # only to be counted
        told, _ = one_run(folder, "convert", source, "-o", folder / "x.npz", "--dry-run")
        need(told["cost"]["decodes"] == plain, f"--dry-run says {told['cost']['decodes']}")
        return f"{plain} chunks"
    n = 0
    for target, options in (("a.safetensors", ("--to", "pytorch", *SMALL)),
                            ("b.npz", ("--as-is", "-j", "3")),
                            ("c.safetensors", ("--to", "pytorch", "--dtype", "bfloat16")),
                            ("d", ("--to", "flax", "--format", "safetensors", "--max-shard-size",
                                   "2M", *SMALL))):
        n += once(folder, source, kind, pieces, target, *options, plain=plain)
    same = entries(folder / "a.safetensors")
    kernel = next(v for k, v in same.items() if v[1] == (257, 57 * 63 * 19))
    want = np.asarray(net.layers[-1].kernel).reshape(57, 63, 19, 257).transpose(3, 2, 0, 1)
    need(kernel[2] == np.ascontiguousarray(want).tobytes(), "other values")
    return f"{n} chunks"


def deflated_keras():
    """A .keras file packed again by a tool that compresses: its weights unfold once."""
    import keras
    folder = fresh("decodes")
    net = keras.Sequential([keras.layers.Input((300,)), keras.layers.Dense(400)])
    net.layers[0].kernel.assign(compressible(300, 400))
    net.save(folder / "plain.keras")
    with zipfile.ZipFile(folder / "plain.keras") as z, \
            zipfile.ZipFile(folder / "in.keras", "w", zipfile.ZIP_DEFLATED) as out:
        for m in z.namelist():
            out.writestr(m, z.read(m))
    pieces = of_zip(folder / "in.keras", ".h5")
    once(folder, folder / "in.keras", "inflate", pieces, "a.safetensors", "--to", "pytorch", early=1)
    return "1 stream"


def orbax(**kw):
    import jax
    import orbax.checkpoint as ocp
    folder = fresh("decodes")
    big = compressible(3000, 5000)
    tree = {"params": {"dense": {"kernel": big, "bias": compressible(5000)},
                       "conv": {"kernel": compressible(3, 3, 8, 64)}},
            "step": np.int64(7) * np.ones(200, np.int64)}
    tree = jax.tree.map(jax.numpy.asarray, tree)
    handler = ocp.PyTreeCheckpointHandler(**kw)
    args = jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=1 << 20), tree)
    with ocp.Checkpointer(handler) as c:
        c.save((folder / "in").absolute(), args=ocp.args.PyTreeSave(tree, save_args=args))
    pieces = of_store(folder / "in", kw.get("use_ocdbt", True))
    need(len(pieces) > 30, f"{len(pieces)} chunks only")
    n = 0
    for target, options in (("a.safetensors", ("--as-is", *SMALL)),
                            ("b.safetensors", ("--to", "pytorch", *SMALL)),
                            ("c.npz", ("--dtype", "float16", "-j", "4"))):
        n += once(folder, folder / "in", "zstd", pieces, target, *options)
    need(entries(folder / "a.safetensors")["params.dense.kernel"][2] == big.tobytes(),
         "other values")
    return f"{n} chunks"


def zarr_codecs(compressor):
    """Arrays of zarr's own compressors in a folder like Orbax' of old."""
    folder = fresh("decodes")
    a = {"w": compressible(700, 900), "b": compressible(4000)}
    for name, x in a.items():
        t = tensorstore.open({
            "driver": "zarr", "kvstore": {"driver": "file",
                                          "path": str((folder / "in" / name).absolute())},
            "metadata": {"compressor": compressor, "dtype": "<f4", "shape": list(x.shape),
                         "chunks": [max(1, n // 3) for n in x.shape]}}, create=True).result()
        t.write(x).result()
    (folder / "in" / "_METADATA").write_text(json.dumps({"tree_metadata": {
        f"('{k}',)": {"key_metadata": [{"key": k, "key_type": 2}],
                      "value_metadata": {"value_type": "jax.Array", "skip_deserialize": False}}
        for k in a}, "use_zarr3": False}))
    pieces = of_store(folder / "in", False)
    kind = {"blosc": "blosc", "zstd": "zstd"}.get(compressor["id"], "inflate")
    n = once(folder, folder / "in", kind, pieces, "a.safetensors", "--as-is", *SMALL)
    need(entries(folder / "a.safetensors")["w"][2] == a["w"].tobytes(), "other values")
    return f"{n} chunks"


def deflated_pytorch():
    """Tensors that share a stream: ties, views of one storage, turned ones; in any order."""
    folder = fresh("decodes")
    base = torch.from_numpy(compressible(2000, 3000))
    sd = {"tied.a": base, "z": torch.from_numpy(compressible(77, 999)), "tied.b": base,
          "rows": base[100:900], "turned": base.T, "columns": base[:, 5:40],
          "alone_turned": torch.from_numpy(compressible(1111, 2500)).T}
    torch.save(sd, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as z, \
            zipfile.ZipFile(folder / "in.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for m in z.namelist():
            out.writestr(m, z.read(m), zipfile.ZIP_DEFLATED if "/data/" in m else
                         zipfile.ZIP_STORED)
    pieces = [p for p in of_zip(folder / "in.pt") if p[0] > 100]
    n = 0
    for target, options in (("a.npz", SMALL), ("b.safetensors", ("-j", "4")),
                            ("c.npz", ("--dtype", "float16", *SMALL)),
                            ("d.pt", SMALL)):
        n += once(folder, folder / "in.pt", "inflate", pieces, target, "--as-is", *options)
    got = entries(folder / "a.npz")
    for k, t in sd.items():
        need(got[k][2] == t.contiguous().numpy().tobytes(), f"{k}: other values")
    return f"{n} streams"


def folded():
    """Norms are summed before they are folded, LoRA passes by in strips: one decode all the same."""
    folder = fresh("decodes")
    sd = {"fc.weight_v": torch.from_numpy(compressible(900, 1300)),
          "fc.weight_g": torch.from_numpy(compressible(900, 1)) + 1,
          "fc.bias": torch.from_numpy(compressible(900)),
          "other.weight": torch.from_numpy(compressible(60, 700))}
    sd["fc.weight_v"][:, 0] += 1
    torch.save(sd, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as z, \
            zipfile.ZipFile(folder / "in.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for m in z.namelist():
            out.writestr(m, z.read(m), zipfile.ZIP_DEFLATED if "/data/" in m else
                         zipfile.ZIP_STORED)
    pieces = of_zip(folder / "in.pt")
    n = once(folder, folder / "in.pt", "inflate", pieces, "a.safetensors", "--fold-norms")
    got = entries(folder / "a.safetensors")["fc.weight"]
    want = torch._weight_norm(sd["fc.weight_v"].double(), sd["fc.weight_g"].double(), 0)
    need(np.allclose(np.frombuffer(got[2], "<f4").reshape(900, 1300), want.numpy(), rtol=1e-6),
         "other values")
    told, _ = one_run(folder, "convert", folder / "in.pt", "-o", folder / "b.safetensors",
                      "--fold-norms", "--dtype", "float16", "--cast-report", "--dry-run")
    changed = {c["tensor"]: c["changed"] for c in told["casts"] if c["measured"]}
    half = np.frombuffer(got[2], "<f4")
    need(changed["fc.weight"] == int((half.astype("float16").astype("float32") != half).sum()) > 0,
         f"--cast-report measures other than what is folded: {changed}")
    return f"{n} streams"


def gzipped_pickle():
    """A stream that must be decoded to be read at all: once, and --dry-run says so."""
    folder = fresh("decodes")
    tree = {"linear": {"w": compressible(300, 500), "b": compressible(500)}}
    (folder / "in.pkl").write_bytes(gzip.compress(pickle.dumps(tree), mtime=0))
    pieces = [piece((folder / "in.pkl").read_bytes())]
    n = once(folder, folder / "in.pkl", "inflate", pieces, "a.safetensors", "--as-is", early=1)
    import joblib
    joblib.dump(tree, folder / "in.joblib", compress=("zlib", 3))
    pieces = [piece((folder / "in.joblib").read_bytes())]
    n += once(folder, folder / "in.joblib", "inflate", pieces, "b.npz", "--as-is", early=1)
    return f"{n} streams"


def snappy_literals(raw):
    out = tables.varint(len(raw))
    for i in range(0, len(raw), 60):
        out += bytes([len(raw[i:i + 60]) - 1 << 2]) + raw[i:i + 60]
    return out


def snappy_table():
    """A TensorFlow checkpoint of version 1, each block of which holds many tensors."""
    folder, msg = fresh("decodes"), tables.msg
    rows, metas, want = [], [], {}
    for i in range(60):
        name, data = b"t%02d" % i, compressible(37, 5, dtype="uint8")
        want[name.decode()] = data
        metas.append(msg(1, msg(1, name) + msg(2, tables.shape((37, 5))) + tables.num(3, 4) + msg(
            4, tables.slice_of((None, None)))))
        values = msg(3, msg(7, b"".join(map(tables.varint, data.tobytes()))))
        rows.append((tables.slice_key(name, (None, None)), msg(2, values)))
    contents = [tables.entries([(b"", msg(1, b"".join(metas)))])]
    contents += [tables.entries(rows[i:i + 20]) for i in range(0, 60, 20)]
    lasts, body, index, pieces = [b""] + [rows[i + 19][0] for i in range(0, 60, 20)], b"", [], []
    for last, raw in zip(lasts, contents):
        packed = snappy_literals(raw)
        index.append((last, tables.handle(len(body), len(packed))))
        body += tables.block(packed, 1)
        pieces.append(piece(packed))
    meta, index = tables.block(tables.EMPTY), tables.block(tables.entries(index))
    (folder / "in.ckpt").write_bytes(body + meta + index + tables.footer(
        tables.handle(len(body), len(meta) - 5),
        tables.handle(len(body) + len(meta), len(index) - 5)))
    n = 0
    for target, options in (("a.safetensors", ()), ("b.npz", ("--dtype", "*=float32")),
                            ("c.tar.zst", ("--dtype", "*=float32")),
                            ("d.safetensors", ("-j", "4"))):
        n += once(folder, folder / "in.ckpt", "snappy", pieces[1:], target, "--as-is", *options,
                  others=target.endswith("zst"))
    same = entries(folder / "d.safetensors")
    need(all(same[k][2] == v.tobytes() for k, v in want.items()), "other values")
    return f"{n} blocks of {len(want)} tensors"


def archive_frames():
    folder = fresh("decodes")
    sd = {"a": torch.from_numpy(compressible(3000, 4000)),
          "b": torch.from_numpy(compressible(999, 333)).to(torch.bfloat16),
          "c": torch.arange(300000), "d": torch.zeros(7)}
    sd["tied"] = sd["a"]
    torch.save(sd, folder / "in.pt")
    one_run(folder, "convert", folder / "in.pt", "-o", folder / "in.tar.zst", "--as-is")
    pieces = of_archive(folder / "in.tar.zst")
    want = collections.Counter(pieces)  # equal frames may stand twice
    tiles = sum((t.nbytes + (1 << 20) - 1) >> 20 for k, t in sd.items() if k != "tied")
    for target, options in (("a.safetensors", SMALL), ("b.npz", ("--dtype", "float16"))):
        argv = ["convert", folder / "in.tar.zst", "-o", folder / target, "-f", "--as-is", *options]
        told, dry = one_run(folder, *argv, "--dry-run")
        need(told["cost"]["decodes"] == tiles, f"--dry-run says {told['cost']['decodes']}, "
             f"not {tiles}")
        need(not [x for x in dry if x[0] == "frame"], "--dry-run decodes weights")
        _, done = one_run(folder, *argv)
        have = collections.Counter((s, c) for k, s, c, _ in done if k == "frame")
        need(have == want, f"{sum(have.values())} frames decoded, {sum(want.values())} in the file")
    return f"{2 * tiles} chunks of {2 * len(pieces)} frames"


def run(tally):
    tally.run("(build)", build)
    if tally.failed:
        return
    tally.run("deflated npz", deflated_npz)
    for name, filters in (("gzip", {"compression": "gzip"}),
                          ("gzip, shuffle, fletcher32", {"compression": "gzip", "shuffle": True,
                                                         "fletcher32": True}),
                          ("lzf", {"compression": "lzf"}), ("no filter", {})):
        tally.run(f"chunked HDF5, {name}", chunked_hdf5, filters)
    tally.run("deflated .keras", deflated_keras)
    tally.run("snappy table", snappy_table)
    tally.run("deflated PyTorch, shared streams", deflated_pytorch)
    for name, kw in (("OCDBT", {}), ("zarr 2", {"use_ocdbt": False}),
                     ("zarr 3", {"use_ocdbt": False, "use_zarr3": True}),
                     ("OCDBT, zarr 3", {"use_zarr3": True})):
        tally.run(f"Orbax, {name}", lambda kw=kw: orbax(**kw))
    for codec in ({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
                  {"id": "zlib", "level": 1}, {"id": "gzip", "level": 1}, {"id": "zstd", "level": 1}):
        tally.run(f"zarr 2, {codec['id']}", zarr_codecs, codec)
    tally.run("folded weights", folded)
    tally.run("gzip and zlib pickles", gzipped_pickle)
    tally.run("the archive", archive_frames)
