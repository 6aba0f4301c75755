"""GGUF and the gguf package: what nnferry writes, its GGUFReader reads; what its GGUFWriter
writes, nnferry reads; blocks unpack to its numbers and are made as it makes them, bit for bit."""

import json
import pathlib

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES as SIZES
from gguf import GGMLQuantizationType as T

import safetensors.numpy
from common import convert, fresh, need, nnferry, same_tensors

PLAIN = {T.F32: np.float32, T.F16: np.float16, T.F64: np.float64, T.I8: np.int8, T.I16: np.int16,
         T.I32: np.int32, T.I64: np.int64}
# ggml's q8_1 is 36 bytes, the package's table says 40: nobody stores it
BLOCKS = [t for t in T if SIZES.get(t, (1,))[0] > 1 and t != T.Q8_1]


def canonical(t):
    """A tensor as GGUFReader has it: (dtype, shape, bytes)."""
    shape = tuple(int(d) for d in reversed(t.shape))
    name = {T.BF16: "bfloat16"}.get(t.tensor_type) or (
        np.dtype(PLAIN[t.tensor_type]).name if t.tensor_type in PLAIN
        else t.tensor_type.name.lower())
    return name, shape, np.ascontiguousarray(t.data).tobytes()


def read(path):
    return {t.name: canonical(t) for t in gguf.GGUFReader(path).tensors}


def values(reader):
    out = {}
    for name, f in reader.fields.items():
        if not name.startswith("GGUF."):
            out[name] = ([int(t) for t in f.types], [p.tobytes() for p in f.parts])
    return out


def noise(rng, shape):
    return rng.integers(0, 256, shape, np.uint8)


def write(path, rng, blocks=True, big=False, keys=True):
    w = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG if big
                        else gguf.GGUFEndian.LITTLE)
    if keys:
        w.add_uint64("k.u64", 1 << 63)
        w.add_float64("k.f64", 0.1)
        w.add_bool("k.bool", False)
        w.add_string("k.string", "é" * 100)
        w.add_array("k.floats", [float(x) for x in range(100)])
        w.add_token_list([f"token {i}" for i in range(20000)])
    for t, kind in PLAIN.items():
        size = np.dtype(kind).itemsize
        w.add_tensor(f"plain.{t.name}", noise(rng, (4, 3, 5 * size)).view(kind), raw_dtype=t)
    for t in BLOCKS if blocks else ():
        w.add_tensor(f"block.{t.name}", noise(rng, (3, 5, 4 * SIZES[t][1])), raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def carried():
    """There and back through GGUF and through the archive: the package reads the same."""
    where = fresh("gguf")
    write(where / "in.gguf", np.random.default_rng(1))
    want = read(where / "in.gguf")
    fields = values(gguf.GGUFReader(where / "in.gguf"))
    convert(where / "in.gguf", where / "out.gguf")
    convert(where / "in.gguf", where / "in.tar.zst")
    convert(where / "in.tar.zst", where / "back.gguf", "--to", "source")
    for name in ("out.gguf", "back.gguf"):
        same_tensors(read(where / name), want, name)
        need(values(gguf.GGUFReader(where / name)) == fields, f"{name}: other key-values")
        need((where / name).read_bytes() == (where / "in.gguf").read_bytes(), f"{name}: other bytes")
    listed = {t["name"]: (t["dtype"], tuple(t["shape"]))
              for t in json.loads(nnferry("inspect", "--json", where / "in.gguf").stdout)["tensors"]}
    need(listed == {k: v[:2] for k, v in want.items()}, "inspect: other types or shapes")
    return f"{len(want)} tensors, {len(fields)} key-values"


def unpacked():
    """Every type to float32, float16 and bfloat16: the package's numbers, NaN for NaN."""
    counted = set()
    for seed in range(8):
        where = fresh("gguf")
        write(where / "in.gguf", np.random.default_rng(100 + seed), keys=False)
        reader = gguf.GGUFReader(where / "in.gguf")
        made = {}
        for to in ("float32", "float16", "bfloat16"):
            convert(where / "in.gguf", where / f"{to}.safetensors", "--dtype", f"block.*={to}",
                    "--allow-overflow")
        made = {to: safetensors.numpy.load_file(where / f"{to}.safetensors")
                for to in ("float32", "float16")}
        blob = (where / "bfloat16.safetensors").read_bytes()
        head = json.loads(blob[8:8 + int.from_bytes(blob[:8], "little")])
        data = blob[8 + int.from_bytes(blob[:8], "little"):]
        for t in reader.tensors:
            if t.tensor_type in PLAIN:
                continue
            try:
                with np.errstate(all="ignore"):
                    ref = gguf.dequantize(t.data, t.tensor_type).astype(np.float32)
                    half = ref.astype(np.float16)
            except NotImplementedError:
                continue
            got = made["float32"][t.name]
            need(got.shape == ref.shape and got.tobytes() == ref.tobytes(), f"{t.name}: float32")
            h = made["float16"][t.name]
            same = (h.view(np.uint16) == half.view(np.uint16)) | (np.isnan(h) & np.isnan(half))
            need(same.all(), f"{t.name}: float16")
            lo, hi = head[t.name]["data_offsets"]
            b = np.frombuffer(data[lo:hi], np.uint16).reshape(ref.shape)
            # the package's bfloat16 makes every NaN a quiet one of its own
            want = gguf.quantize(ref, T.BF16).view(np.uint16)
            need(((b == want) | np.isnan(ref)).all(), f"{t.name}: bfloat16")
            counted.add(t.tensor_type.name)
    need(len(counted) == 23, f"{len(counted)} types: {sorted(counted)}")
    return f"{len(counted)} types: {' '.join(sorted(counted))}"


def packed():
    """q8_0 and q4_0 of many kinds of numbers."""
    where = fresh("gguf")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 1024)).astype(np.float32)
    x *= (10.0 ** rng.integers(-7, 4, (400, 1))).astype(np.float32)
    x[0] = 0
    x[1] = np.float32(2.0) ** -149
    x[2] = np.round(x[2] * 4) / 4
    x[3, ::3] = 0
    sd = {"w": x, "n": np.ones(1024, np.float32), "odd": np.ones((4, 33), np.float32),
          "h": x[10:20].astype(np.float16), "i": np.arange(64).reshape(2, 32)}
    safetensors.numpy.save_file(sd, where / "in.safetensors")
    for kind in (T.Q8_0, T.Q4_0):
        name = kind.name.lower()
        out = where / f"{name}.gguf"
        convert(where / "in.safetensors", out, "--dtype", name)
        got = read(out)
        with np.errstate(all="ignore"):
            for k in "wh":
                ref = gguf.quantize(sd[k].astype(np.float32), kind)
                need(got[k] == (name, sd[k].shape, ref.tobytes()), f"{name}: {k}")
        for k in ("n", "odd", "i"):
            need(got[k] == (sd[k].dtype.name, sd[k].shape, sd[k].tobytes()), f"{name}: {k} changed")
        convert(where / "in.safetensors", where / "no.gguf", "--dtype", f"odd={name}", exit=4)
        one, many = where / "one.gguf", where / "many.gguf"
        convert(where / "in.safetensors", one, "--dtype", name, "-j", "1", "--memory", "64M")
        convert(where / "in.safetensors", many, "--dtype", name, "-j", "8")
        need(one.read_bytes() == many.read_bytes() == out.read_bytes(), f"{name}: threads")
    convert(where / "in.safetensors", where / "no.gguf", "--dtype", "w=q4_k", exit=4)


def big_endian():
    where = fresh("gguf")
    write(where / "in.gguf", np.random.default_rng(5), blocks=False, big=True)
    convert(where / "in.gguf", where / "out.gguf")
    reader = gguf.GGUFReader(where / "in.gguf")
    want = {t.name: (np.dtype(PLAIN[t.tensor_type]).name, t.data.shape,
                     t.data.astype(PLAIN[t.tensor_type]).tobytes()
                     if t.data.dtype.kind == "i" else
                     t.data.byteswap().view(PLAIN[t.tensor_type]).tobytes())
            for t in reader.tensors}
    same_tensors(read(where / "out.gguf"), want, "big-endian")
    have = gguf.GGUFReader(where / "out.gguf")
    for name, f in reader.fields.items():
        if not name.startswith("GGUF."):
            a, b = f.contents(), have.fields[name].contents()
            need(a == b, f"{name}: {b} is not {a}")
    return f"{len(want)} tensors"


def parts():
    where = fresh("gguf")
    w = gguf.GGUFWriter(where / "m.gguf", "llama", split_max_tensors=3)
    w.add_array("tokenizer.ggml.tokens", [str(i) for i in range(50)])
    rng = np.random.default_rng(6)
    want = {}
    for i in range(10):
        a = rng.standard_normal((3, i + 1)).astype(np.float32)
        w.add_tensor(f"t{i}", a)
        want[f"t{i}"] = ("float32", a.shape, a.tobytes())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    need(len(list(where.glob("*.gguf"))) == 4, "not four parts")
    out = pathlib.Path(fresh("gguf-out"))
    for source in (where, where / "m-00001-of-00004.gguf", where / "m-00003-of-00004.gguf"):
        convert(source, out / "out.gguf")
        same_tensors(read(out / "out.gguf"), want, f"parts from {source.name}")
        fields = gguf.GGUFReader(out / "out.gguf").fields
        need("tokenizer.ggml.tokens" in fields and "split.count" not in fields, "key-values")


def others():
    """From another container: the package takes names, shapes and metadata."""
    where = fresh("gguf")
    sd = {"a.weight": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
          "é": np.arange(6, dtype=np.int16), "h": np.ones((2, 2), np.float16)}
    safetensors.numpy.save_file(sd, where / "in.safetensors", {"who": "me", "general.name": "x"})
    convert(where / "in.safetensors", where / "out.gguf")
    r = gguf.GGUFReader(where / "out.gguf")
    same_tensors(read(where / "out.gguf"),
                 {k: (v.dtype.name, v.shape, v.tobytes()) for k, v in sd.items()}, "others")
    need(r.fields["who"].contents() == "me" and
         r.fields["general.architecture"].contents() == "unknown", "key-values")


def run(tally):
    for name, test in (("carried", carried), ("unpacked", unpacked), ("packed", packed),
                       ("big-endian", big_endian), ("parts", parts), ("others", others)):
        tally.run(name, test)
