"""Every format nnferry writes is loaded by its real library, and the other way round.

There: a torch file of every dtype the target can hold is converted, and safetensors.torch,
numpy, flax.serialization and torch (the newest and an old one) must read the same bits.
Back: every golden those libraries wrote (tests/golden) is converted to a second format and
the bits compared with what the framework itself said is in it.
"""

import hashlib
import json
import os
import subprocess

import ml_dtypes
import numpy as np
import torch
from flax import serialization

import safetensors.torch
from common import (OLD_PYTHON, ROOT, Failure, convert, entries, fresh, need, nnferry,
                    same_tensors)

GOLDEN = ROOT / "tests" / "golden"
TORCH = {  # dtype name: torch dtype
    n: getattr(torch, n) for n in (
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2",
        "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "int64", "int32", "int16", "int8",
        "uint64", "uint32", "uint16", "uint8", "bool", "complex32", "complex64", "complex128")
    if hasattr(torch, n)}
OLD_TORCH = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
             "uint8", "bool", "complex64", "complex128")
NUMPY = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
         "uint16", "uint8", "bool", "complex64", "complex128")


def tensors(names):
    """{name: tensor} with random bits (any NaN may be among them), several shapes."""
    g = torch.Generator().manual_seed(4)
    out = {}
    for name in names:
        dtype = TORCH[name]
        for i, shape in enumerate([(3, 5), (), (0, 4), (2, 1, 7, 3)]):
            n = int(np.prod(shape)) * dtype.itemsize
            raw = torch.randint(0, 256, (n,), generator=g, dtype=torch.uint8)
            if name == "bool":
                raw &= 1
            t = raw.view(dtype).reshape(shape) if n else torch.empty(shape, dtype=dtype)
            out[f"{name}.{i}"] = t
    return out


def bits(t):
    t = t.detach().contiguous()
    name = {v: k for k, v in TORCH.items()}[t.dtype]
    raw = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
    return name, tuple(t.shape), raw


def np_bits(a):
    a = np.asarray(a)
    return a.dtype.name, a.shape, np.ascontiguousarray(a).tobytes()


def made(names):
    """A torch file of those dtypes and what is in it."""
    where = fresh("formats")
    sd = tensors(names)
    torch.save(sd, where / "in.pt")
    return where, {k: bits(v) for k, v in sd.items()}


def write_safetensors():
    where, want = made([n for n in TORCH if n not in ("complex32", "complex128")])
    convert(where / "in.pt", where / "out.safetensors")
    got = safetensors.torch.load_file(where / "out.safetensors")
    same_tensors({k: bits(v) for k, v in got.items()}, want, "safetensors.torch.load_file")
    return f"{len(want)} tensors"


def write_shards():
    where, want = made(["float32", "int64", "bfloat16"])
    convert(where / "in.pt", where / "out", "--format", "safetensors", "--max-shard-size", "400")
    index = json.loads((where / "out" / "model.safetensors.index.json").read_text())
    need(index["metadata"]["total_size"] == sum(len(w[2]) for w in want.values()),
         "total_size is wrong")
    got = {}
    for shard in sorted(set(index["weight_map"].values())):
        for k, v in safetensors.torch.load_file(where / "out" / shard).items():
            need(index["weight_map"][k] == shard, f"{k} is not in {shard}")
            got[k] = bits(v)
    same_tensors(got, want, "shards")
    need(len(set(index["weight_map"].values())) > 1, "one shard only")


def write_npz():
    where, want = made(NUMPY)
    convert(where / "in.pt", where / "out.npz")
    with np.load(where / "out.npz", allow_pickle=False) as z:
        same_tensors({k: np_bits(z[k]) for k in z.files}, want, "np.load")
    need(subprocess.run(["python3", "-m", "zipfile", "-t", where / "out.npz"],
                        capture_output=True).returncode == 0, "zip test failed")
    return f"{len(want)} tensors"


def write_npy():
    where = fresh("formats")
    for name in NUMPY:
        t = tensors([name])[f"{name}.3"]
        torch.save({"arr_0": t}, where / "in.pt")
        convert(where / "in.pt", where / "out.npy")
        same_tensors({"arr_0": np_bits(np.load(where / "out.npy", allow_pickle=False))},
                     {"arr_0": bits(t)}, f"np.load {name}")
    return f"{len(NUMPY)} dtypes"


def write_msgpack():
    where, want = made([n for n in TORCH if n != "complex32"])
    convert(where / "in.pt", where / "out.msgpack")
    tree = serialization.msgpack_restore((where / "out.msgpack").read_bytes())
    got = {}

    def walk(x, path):
        for k, v in x.items():
            walk(v, path + (k,)) if isinstance(v, dict) else got.update(
                {".".join(path + (k,)): np_bits(v)})
    walk(tree, ())
    same_tensors(got, want, "msgpack_restore")
    return f"{len(want)} tensors"


def write_torch():
    """A round through another format, so that the pickle is nnferry's own."""
    where, want = made([n for n in TORCH if n not in ("complex32", "complex128")])
    convert(where / "in.pt", where / "mid.safetensors")
    convert(where / "mid.safetensors", where / "out.pt")
    for mmap in (False, True):
        got = torch.load(where / "out.pt", weights_only=True, map_location="cpu", mmap=mmap)
        same_tensors({k: bits(v) for k, v in got.items()}, want, f"torch.load mmap={mmap}")
    return f"{len(want)} tensors"


OLD_DUMP = r"""
import hashlib, json, sys, torch
sd = torch.load(sys.argv[1], weights_only=True, map_location="cpu")
out = {}
for k, t in sd.items():
    t = t.contiguous()
    raw = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
    out[k] = [str(t.dtype)[6:], list(t.shape), hashlib.sha256(raw).hexdigest()]
print(json.dumps([torch.__version__, out]))
"""


def old_version():
    got = subprocess.run([OLD_PYTHON, "-c", "import torch; print(torch.__version__)"],
                         capture_output=True, text=True)
    return got.stdout.strip() if got.returncode == 0 else None


def write_old_torch():
    where, want = made(OLD_TORCH)
    convert(where / "in.pt", where / "mid.tar.zst")
    convert(where / "mid.tar.zst", where / "out.pt", "--to", "source")
    got = subprocess.run([OLD_PYTHON, "-c", OLD_DUMP, where / "out.pt"], capture_output=True,
                         text=True)
    need(got.returncode == 0, f"old torch does not load it: {got.stderr.strip()[-400:]}")
    version, loaded = json.loads(got.stdout)
    for k, (dtype, shape, raw) in want.items():
        need(k in loaded, f"{k} is missing")
        need(loaded[k] == [dtype, list(shape), hashlib.sha256(raw).hexdigest()],
             f"{k}: {loaded[k][:2]} or its bits differ")
    return f"torch {version}, {len(want)} tensors"


# The goldens of other formats are read in their own suites and by golden/check.py.
FOLDERS = ("flax", "numpy", "safetensors", "torch", "torch-1.13")


def goldens():
    for record in sorted(GOLDEN.rglob("*.json")):
        what = json.loads(record.read_text())
        if "made_by" in what and "refused" not in what and record.parent.name in FOLDERS:
            yield record.parent / what["file"], what


SPELLS = {  # dtypes that a target has no spelling for, and what may carry them
    "complex128": ".npz", "complex32": ".pt", "int4": ".msgpack", "uint4": ".msgpack",
    "int2": ".msgpack", "uint2": ".msgpack",
}


def read_golden(path, what):
    """Converted to another container, the tensors are what the framework said."""
    where = fresh("formats")
    dtypes = {t["dtype"] for t in what["tensors"]}
    suffix = ".safetensors"
    for dtype, other in SPELLS.items():
        if dtype in dtypes:
            suffix = other
    if "complex32" in dtypes:
        suffix = ".pt"
    if what.get("opaque"):
        nnferry("convert", path, "-o", where / "out.pt", exit=4)
        return "exit 4"
    if path.suffix == suffix:
        suffix = ".tar.zst"
    out = where / ("out" + suffix)
    lossy = what.get("values") and suffix in (".safetensors", ".npz")
    if lossy:  # numbers and texts that a flat format cannot hold
        convert(path, out, "--as-is", exit=4)
    convert(path, out, "--as-is", *(["--allow-drop", "*"] if lossy else []))
    if suffix == ".tar.zst":
        convert(out, where / ("back" + path.suffix), "--to", "source")
        out = where / ("back" + path.suffix)
    got = {n: (d, list(s), hashlib.sha256(b).hexdigest()) for n, (d, s, b) in
           entries(out).items()}
    want = {t["name"]: (t["dtype"], t["shape"], t["sha256"]) for t in what["tensors"]}
    if path.suffix == ".npy":
        need(len(got) == 1, f"{len(got)} tensors")
        got = {"": next(iter(got.values()))}
    same = {n for n in want if got.get(n) == want[n]}
    if len(same) != len(want) or set(got) != set(want):
        bad = sorted((set(want) - same) | (set(got) - set(want)))[0]
        raise Failure(f"{bad!r}: got {got.get(bad)}, expected {want.get(bad)}")
    return f"{len(want)} tensors"


def run(tally):
    for test in (write_safetensors, write_shards, write_npz, write_npy, write_msgpack,
                 write_torch):
        tally.run(test.__name__.replace("_", " "), test)
    if old_version():
        tally.run("write old torch", write_old_torch)
    elif os.environ.get("NNFERRY_NEED_OLD_TORCH"):
        tally.fail("write old torch", f"{OLD_PYTHON} has no torch")
    else:
        print(f"old torch: not tried, {OLD_PYTHON} has none (Debian: python3-torch)", flush=True)
    for path, what in goldens():
        name = f"read {path.parent.name}/{path.name}"
        tally.run(name, read_golden, path, what)
    assert ml_dtypes  # numpy's names for bfloat16 and float8 come from it
