#!/usr/bin/env python3
"""Makes the GGUF goldens with the gguf package: gen_gguf.py FOLDER.

The package writes version 3 only; v2.gguf is such a file with its version patched (the layouts
are the same). Of big-endian files it turns round plain tensors, not the numbers inside blocks:
those are turned here as its own gguf_convert_endian does it, before they are written."""

import hashlib
import json
import pathlib
import shutil
import sys

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES as SIZES
from gguf import GGMLQuantizationType as T

import expected

MADE_BY = "gguf 0.19.0"
PLAIN = {T.F32: "float32", T.F16: "float16", T.F64: "float64", T.I8: "int8", T.I16: "int16",
         T.I32: "int32", T.I64: "int64"}
HALVES = {T.Q4_0: [0], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q6_K: [208]}  # where float16 numbers lie


def special(kind, shape):
    rng = np.random.default_rng(5)
    n = int(np.prod(shape))
    return rng.integers(0, 256, n * np.dtype(kind).itemsize, np.uint8).view(kind).reshape(shape)


class File:
    def __init__(self, path, endian=gguf.GGUFEndian.LITTLE, **kw):
        self.path, self.tensors, self.big = path, [], endian == gguf.GGUFEndian.BIG
        self.w = gguf.GGUFWriter(path, "llama", endianess=endian, **kw)

    def plain(self, name, kind, shape):
        a = special(PLAIN[kind], shape)
        self.w.add_tensor(name, a, raw_dtype=kind)
        self.tensors.append((name, PLAIN[kind], shape, a.tobytes()))

    def bf16(self, name, shape):
        a = special("uint16", shape)
        if self.big:  # to the package these are bytes, which it does not turn round
            self.w.add_tensor(name, a.byteswap().view(np.uint8), raw_dtype=T.BF16)
        else:
            self.w.add_tensor(name, a.view(np.uint8), raw_dtype=T.BF16)
        self.tensors.append((name, "bfloat16", shape, a.tobytes()))

    def blocks(self, name, kind, rows, n):
        elems, size = SIZES[kind]
        raw = special("uint8", (*rows, n * size))
        stored = raw.copy()
        if self.big:
            b = stored.reshape(-1, size)
            for at in HALVES[kind]:
                b[:, [at, at + 1]] = b[:, [at + 1, at]]
        self.w.add_tensor(name, stored, raw_dtype=kind)
        self.tensors.append((name, kind.name.lower(), (*rows, n * elems), raw.tobytes()))

    def done(self, record=True):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()
        if record:
            expected.write(self.path, MADE_BY, self.tensors)


def every_kv(w):
    w.add_uint8("kv.u8", 200)
    w.add_int8("kv.i8", -100)
    w.add_uint16("kv.u16", 60000)
    w.add_int16("kv.i16", -30000)
    w.add_uint32("kv.u32", 4000000000)
    w.add_int32("kv.i32", -2000000000)
    w.add_float32("kv.f32", 0.1)
    w.add_bool("kv.bool", True)
    w.add_string("kv.string", "naïve 模型")
    w.add_uint64("kv.u64", 1 << 63)
    w.add_int64("kv.i64", -(1 << 62))
    w.add_float64("kv.f64", 1 / 3)
    w.add_array("kv.ints", [1, -2, 3])
    w.add_array("kv.floats", [0.5, 1e30])
    w.add_array("kv.bools", [True, False])
    w.add_array("tokenizer.ggml.tokens", [f"tok{i}" for i in range(40)] + ["é", ""])
    w.add_array("kv.long", list(range(100)))


def unpacked(out):
    """types.float32.json: SHA-256 of what the package dequantises the tensors of types.gguf to."""
    found = {}
    for t in gguf.GGUFReader(out / "types.gguf").tensors:
        if t.tensor_type not in PLAIN:
            try:
                with np.errstate(all="ignore"):
                    a = gguf.dequantize(t.data, t.tensor_type)
            except NotImplementedError:
                continue
            found[t.name] = hashlib.sha256(a.astype(np.float32).tobytes()).hexdigest()
    text = json.dumps(found, indent=1) + "\n"
    (out / "types.float32.json").write_text(text)


def packed(out):
    """packed.gguf: numbers, and what the package makes of them."""
    rng = np.random.default_rng(9)
    x = (rng.standard_normal((24, 32)) * 10.0 ** rng.integers(-6, 5, (24, 1))).astype(np.float32)
    x[0] = 0
    x[1] = -0.0
    x[2] = np.arange(-16, 16) * 0.5  # halves: q4_0 and q8_0 round them differently
    x[3] = np.arange(-127, 1, 4) - 0.5
    x[3, 0] = 127
    x[4] = np.where(np.arange(32) % 2, 1, -1)  # equal in size: the first counts
    x[5] = np.arange(32) * np.float32(1e-43)
    x[6] = np.float32(65504 * 127) * np.linspace(-1, 1, 32, dtype=np.float32)
    x[7] = np.float32(65504 * 8) * np.linspace(-1, 1, 32, dtype=np.float32)
    f = File(out / "packed.gguf")
    with np.errstate(all="ignore"):
        for name, kind, rows in (("q8_0", T.Q8_0, x), ("q4_0", T.Q4_0, np.delete(x, 6, 0))):
            f.w.add_tensor(f"{name}.x", rows)
            f.tensors.append((f"{name}.x", "float32", rows.shape, rows.tobytes()))
            raw = gguf.quantize(rows, kind)
            f.w.add_tensor(name, raw, raw_dtype=kind)
            f.tensors.append((name, name, rows.shape, raw.tobytes()))
    f.done()


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    assert f"gguf {__import__('importlib.metadata').metadata.version('gguf')}" == MADE_BY

    f = File(out / "types.gguf")
    for kind in T:
        if kind in PLAIN:
            f.plain(kind.name, kind, (2, 3))
        elif kind == T.BF16:
            f.bf16(kind.name, (2, 3))
        elif kind != T.Q8_1:  # the package has another size for it than ggml
            f.blocks(kind.name, kind, (2,), 1 if SIZES[kind][0] > 64 else 2)
    f.done()
    unpacked(out)
    packed(out)

    f = File(out / "shapes.gguf")
    every_kv(f.w)
    f.plain("one", T.F32, (5,))
    f.plain("two.weight", T.F16, (2, 3))
    f.plain("three/ñ", T.I32, (2, 3, 4))
    f.plain("four", T.F64, (2, 1, 3, 2))
    f.blocks("blk.0.ffn.weight", T.Q4_0, (2, 2, 3), 2)
    f.done()
    shutil.copy(out / "shapes.gguf", out / "v2.gguf")
    raw = bytearray((out / "v2.gguf").read_bytes())
    raw[4] = 2
    (out / "v2.gguf").write_bytes(raw)
    expected.write(out / "v2.gguf", MADE_BY + ", version patched to 2", f.tensors)

    f = File(out / "big.gguf", gguf.GGUFEndian.BIG)
    every_kv(f.w)
    for kind in PLAIN:
        f.plain(kind.name, kind, (2, 3))
    f.bf16("BF16", (2, 3))
    for kind in HALVES:
        f.blocks(kind.name, kind, (3,), 1)
    f.done()

    f = File(out / "aligned.gguf")
    f.w.add_custom_alignment(128)
    f.plain("a", T.F32, (3,))
    f.plain("b", T.I8, (5,))
    f.done()

    parts = out / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    f = File(parts / "m.gguf", split_max_tensors=2)
    every_kv(f.w)
    for i in range(5):
        f.plain(f"t{i}", T.F32, (2, i + 1))
    f.done(record=False)
    expected.write(parts, MADE_BY, f.tensors)


if __name__ == "__main__":
    main(sys.argv[1])
