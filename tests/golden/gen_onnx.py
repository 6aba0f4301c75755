#!/usr/bin/env python3
"""Makes the ONNX goldens with onnx: gen_onnx.py FOLDER. An older onnx makes the same files
without the types it does not know."""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import expected

MADE_BY = f"onnx {onnx.__version__}"
NAMES = {  # ONNX: dtype, bits of an element
    "FLOAT": ("float32", 32), "UINT8": ("uint8", 8), "INT8": ("int8", 8),
    "UINT16": ("uint16", 16), "INT16": ("int16", 16), "INT32": ("int32", 32),
    "INT64": ("int64", 64), "BOOL": ("bool", 8), "FLOAT16": ("float16", 16),
    "DOUBLE": ("float64", 64), "UINT32": ("uint32", 32), "UINT64": ("uint64", 64),
    "COMPLEX64": ("complex64", 64), "COMPLEX128": ("complex128", 128),
    "BFLOAT16": ("bfloat16", 16), "FLOAT8E4M3FN": ("float8_e4m3fn", 8),
    "FLOAT8E4M3FNUZ": ("float8_e4m3fnuz", 8), "FLOAT8E5M2": ("float8_e5m2", 8),
    "FLOAT8E5M2FNUZ": ("float8_e5m2fnuz", 8), "FLOAT8E8M0": ("float8_e8m0fnu", 8),
    "UINT4": ("uint4", 4), "INT4": ("int4", 4), "FLOAT4E2M1": ("float4_e2m1fn", 4),
    "UINT2": ("uint2", 2), "INT2": ("int2", 2), "FLOAT6E2M3": ("float6_e2m3fn", 6),
    "FLOAT6E3M2": ("float6_e3m2fn", 6),
}
KNOWN = [n for n in NAMES if n in TensorProto.DataType.keys()]
RNG = np.random.default_rng(7)


def raw_of(kind, shape):
    """Random bits: packed as raw_data holds them, and one value a byte."""
    bits, n = NAMES[kind][1], int(np.prod(shape))
    if bits >= 8:
        raw = RNG.integers(0, 2 if kind == "BOOL" else 256, n * bits // 8, np.uint8).tobytes()
        return raw, raw
    codes = RNG.integers(0, 1 << bits, n, np.uint8)
    stream = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits].ravel()
    return np.packbits(stream, bitorder="little").tobytes(), codes.tobytes()


def tensor(name, kind, shape):
    t = TensorProto(name=name, data_type=getattr(TensorProto, kind), dims=shape)
    t.raw_data, canonical = raw_of(kind, shape)
    return t, (name, NAMES[kind][0], shape, canonical)


def same_by_onnx(t, canonical):
    """Where numpy has the type, onnx reads the bits that we expect."""
    try:
        a = numpy_helper.to_array(t)
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return
    kind = TensorProto.DataType.Name(t.data_type)
    if a.dtype.itemsize * a.size == len(canonical) and a.dtype.name == NAMES[kind][0]:
        got = np.ascontiguousarray(a).tobytes()
        if NAMES[kind][1] < 8:
            got = bytes(b & ((1 << NAMES[kind][1]) - 1) for b in got)
        assert got == canonical, (t.name, kind)


def typed(t):
    """The same tensor with its numbers in the list of its type."""
    kind = TensorProto.DataType.Name(t.data_type)
    raw, out = t.raw_data, TensorProto()
    out.CopyFrom(t)
    out.ClearField("raw_data")
    if kind in ("FLOAT", "COMPLEX64"):
        out.float_data.extend(np.frombuffer(raw, "<f4").tolist())
    elif kind in ("DOUBLE", "COMPLEX128"):
        out.double_data.extend(np.frombuffer(raw, "<f8").tolist())
    elif kind == "INT64":
        out.int64_data.extend(np.frombuffer(raw, "<i8").tolist())
    elif kind in ("UINT32", "UINT64"):
        out.uint64_data.extend(np.frombuffer(raw, "<u4" if kind == "UINT32" else "<u8").tolist())
    else:
        of = {"INT32": "<i4", "INT16": "<i2", "INT8": "i1", "UINT16": "<u2", "FLOAT16": "<u2",
              "BFLOAT16": "<u2"}.get(kind, "u1")
        values = np.frombuffer(raw, of)
        if NAMES[kind][1] == 6:
            values = np.packbits(np.unpackbits(values, bitorder="little")
                                 [:int(np.prod(t.dims)) * 6].reshape(-1, 6), axis=1,
                                 bitorder="little").ravel()
        out.int32_data.extend(values.tolist())
    return out


def save(out, name, graph, want, opset=13, ir=None, check=True, **more):
    model = helper.make_model(graph, producer_name="golden", opset_imports=[
        helper.make_opsetid("", opset)], **more)
    model.ir_version = ir or onnx.IR_VERSION
    helper.set_model_props(model, {"made for": "tests"})
    if check:
        onnx.checker.check_model(model)
    path = out / name
    path.write_bytes(model.SerializeToString(deterministic=True))
    expected.write(path, MADE_BY, want)


def dtypes(out, kinds, stem):
    inits, want = [], []
    for kind in kinds:
        for i, shape in enumerate([(3, 5), (), (0, 4)]):
            if NAMES[kind][1] < 8 and int(np.prod(shape)) % 4:
                shape = (4, 2)
            t, w = tensor(f"{kind}.{i}", kind, shape)
            same_by_onnx(t, w[3])
            inits.append(t)
            want.append(w)
    save(out, stem + "raw.onnx", helper.make_graph([], "g", [], [], inits), want)
    lists, kept = [], []
    for t, w in zip(inits, want):
        kind = TensorProto.DataType.Name(t.data_type)
        if kind in ("FLOAT", "DOUBLE", "COMPLEX64", "COMPLEX128"):
            # through Python's numbers a signalling NaN would not come back
            t.raw_data = np.arange(len(t.raw_data) // (4 if kind in ("FLOAT", "COMPLEX64") else 8),
                                   dtype="<f4" if kind in ("FLOAT", "COMPLEX64") else "<f8").tobytes()
            w = (*w[:3], t.raw_data)
        same_by_onnx(typed(t), w[3])
        lists.append(typed(t))
        kept.append(w)
    save(out, stem + "typed.onnx", helper.make_graph([], "g", [], [], lists), kept)


def odd(out):
    """Packed types whose last byte is filled in part."""
    inits, want = [], []
    for kind in KNOWN:
        if NAMES[kind][1] < 8:
            for shape in ((3,), (), (5, 1)):
                t, w = tensor(f"{kind}.{len(inits)}", kind, shape)
                inits.append(t)
                want.append(w)
    if inits:
        save(out, "odd.onnx", helper.make_graph([], "g", [], [], inits), want)


def nested(out):
    """Constants, a subgraph in both branches, a function, sparse tensors, strings."""
    f = lambda n, *shape: numpy_helper.from_array(  # noqa: E731
        RNG.standard_normal(shape).astype(np.float32), n)
    info = helper.make_tensor_value_info
    want = []

    def note(name, t):
        a = numpy_helper.to_array(t)
        want.append((name, a.dtype.name, a.shape, a.tobytes()))
        return t

    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y1"])], "then", [],
                             [info("y1", 1, [2])], [note("y.then_branch.w", f("w", 2))])
    els = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=note("y.else_branch.c", f("", 2))),
         helper.make_node("Mul", ["x", "c"], ["y2"])], "else", [], [info("y2", 1, [2])])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=note("k", f("k_value", 2))),
        helper.make_node("ConstantOfShape", ["shape"], ["z"],
                         value=note("z.value", numpy_helper.from_array(np.array([3], np.int64)))),
        helper.make_node("If", ["cond"], ["y"], then_branch=then, else_branch=els),
    ]
    want.sort(key=lambda w: ["k", "z.value", "y.then_branch.w", "y.else_branch.c"].index(w[0]))
    inits = [note("cond", numpy_helper.from_array(np.array(True), "cond")),
             note("shape", numpy_helper.from_array(np.array([2], np.int64), "shape")),
             note("名/a.b", f("名/a.b", 1, 2))]
    values, indices = f("sp", 3), numpy_helper.from_array(np.array([0, 3, 11], np.int64), "si")
    sparse = helper.make_sparse_tensor(values, indices, [3, 4])
    text = helper.make_tensor("text", TensorProto.STRING, [2], [b"one", b"\xff two"])
    graph = helper.make_graph(nodes, "g", [info("x", 1, [2])], [info("y", 1, [2])], inits + [text],
                              sparse_initializer=[sparse])
    note("sp.values", values)
    note("sp.indices", indices)
    fn = helper.make_function("golden.ops", "Twice", ["a"], ["b"], [
        helper.make_node("Constant", [], ["two"],
                         value=note("functions.golden.ops.Twice.two", f("", 1))),
        helper.make_node("Mul", ["a", "two"], ["b"])], [helper.make_opsetid("", 13)])
    save(out, "nested.onnx", graph, want, functions=[fn], check=False)


def unpacked(out):
    """Lists as older writers left them: field by field, not packed."""
    def varint(v):
        b = b""
        while v > 127:
            b, v = b + bytes([v & 127 | 128]), v >> 7
        return b + bytes([v])

    def field(n, data):
        return varint(n << 3 | 2) + varint(len(data)) + data

    f32 = np.arange(5, dtype="<f4")
    i64 = np.array([0, 1, -1, 1 << 40], "<i8")
    i8 = np.array([-128, 127, 0], "i1")
    a = b"".join(b"\x25" + v.tobytes() for v in f32) + b"\x08\x05\x10\x01" + field(8, b"f")
    b = field(8, b"i") + field(1, b"\x02\x02") + b"\x10\x07" + b"".join(
        b"\x38" + varint(int(v) & (1 << 64) - 1) for v in i64)
    c = b"\x08\x03\x10\x03" + field(8, b"s") + b"".join(
        b"\x28" + varint(int(v) & (1 << 64) - 1) for v in i8)
    graph = b"".join(field(5, t) for t in (a, b, c)) + field(2, b"g")
    blob = b"\x08\x08" + field(7, graph) + field(8, b"\x10\x0d")
    back = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(blob).graph.initializer}
    want = [("f", "float32", (5,), f32.tobytes()), ("i", "int64", (2, 2), i64.tobytes()),
            ("s", "int8", (3,), i8.tobytes())]
    for n, d, s, raw in want:
        assert back[n].tobytes() == raw and back[n].shape == s and back[n].dtype.name == d
    path = out / "unpacked.onnx"
    path.write_bytes(blob)
    expected.write(path, MADE_BY, want)


def external(out):
    """A folder: the model and its data in one file, some of it inside."""
    folder = out / "external"
    folder.mkdir(exist_ok=True)
    arrays = {"big": RNG.standard_normal((16, 20)).astype(np.float32),
              "small": np.arange(4, dtype=np.int64),
              "half": RNG.standard_normal((700,)).astype(np.float16)}
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(a, n)
                                                for n, a in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save_model(model, str(folder / "model.onnx"), save_as_external_data=True,
                    all_tensors_to_one_file=True, location="model.onnx.data", size_threshold=1024)
    onnx.checker.check_model(str(folder / "model.onnx"))
    expected.write(folder, MADE_BY, [(n, a.dtype.name, a.shape, a.tobytes())
                                     for n, a in arrays.items()])


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    sixes = [k for k in KNOWN if NAMES[k][1] == 6]
    dtypes(out, [k for k in KNOWN if k not in sixes], "")
    if sixes:
        dtypes(out, sixes, "float6_")
    odd(out)
    nested(out)
    unpacked(out)
    external(out)


if __name__ == "__main__":
    main(sys.argv[1])
