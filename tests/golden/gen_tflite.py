#!/usr/bin/env python3
"""Makes the TFLite goldens with TensorFlow's converter: gen_tflite.py FOLDER. What is in them is
said by the schema's own Python classes; the interpreter agrees on the values."""

import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import flatbuffers  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.lite.python import schema_py_generated as schema  # noqa: E402

import expected  # noqa: E402

MADE_BY = f"tensorflow {tf.__version__}"
TYPES = {0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8),
         4: ("int64", 64), 6: ("bool", 8), 7: ("int16", 16), 8: ("complex64", 64), 9: ("int8", 8),
         10: ("float64", 64), 11: ("complex128", 128), 12: ("uint64", 64), 15: ("uint32", 32),
         16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16), 19: ("int2", 2),
         20: ("uint4", 4), 21: ("float8_e4m3fn", 8), 22: ("float8_e5m2", 8)}


def unpacked(raw, bits, n):
    if bits >= 8:
        return bytes(raw)
    stream = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[:n * bits]
    return np.packbits(stream.reshape(-1, bits), axis=1, bitorder="little").tobytes()


def contents(blob):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(blob), 0))
    want = []
    for g, graph in enumerate(model.subgraphs):
        for t in graph.tensors:
            b = model.buffers[t.buffer]
            data = b.data
            if getattr(b, "offset", 0) > 1 and b.size > 1:  # schemas of before 2023 have none
                data = blob[b.offset:b.offset + b.size]
            if data is None or len(data) == 0 or t.type == 5:
                continue
            name = t.name.decode() if g == 0 else f"subgraph_{g}.{t.name.decode()}"
            dtype, bits = TYPES[t.type]
            shape = tuple(int(d) for d in t.shape) if t.shape is not None else ()
            want.append((name, dtype, shape, unpacked(bytes(data), bits, int(np.prod(shape)))))
            q = t.quantization
            if q is not None and q.scale is not None and len(q.scale):
                want.append((name + ".scale", "float32", (len(q.scale),),
                             np.asarray(q.scale, "<f4").tobytes()))
                if q.zeroPoint is not None and len(q.zeroPoint):
                    want.append((name + ".zero_point", "int64", (len(q.zeroPoint),),
                                 np.asarray(q.zeroPoint, "<i8").tobytes()))
    return want


def agrees(blob, want):
    """The interpreter holds the same constants."""
    runs = tf.lite.Interpreter(model_content=blob)
    held = {}
    for d in runs.get_tensor_details():
        try:
            held[d["name"]] = runs.get_tensor(d["index"])
        except ValueError:
            continue  # computed, not held
    n = 0
    for name, dtype, shape, raw in want:
        if name in held and held[name].dtype.name == dtype:
            assert held[name].shape == shape and held[name].tobytes() == raw, name
            n += 1
    assert n, "the interpreter holds none of the constants"


def save(path, blob, interpret=True):
    want = contents(blob)
    if interpret:
        agrees(blob, want)
    path.write_bytes(blob)
    expected.write(path, MADE_BY, want)


class Net(tf.Module):
    def __init__(self):
        super().__init__()
        g = np.random.default_rng(5)
        f = lambda n, *s: tf.Variable(g.standard_normal(s).astype(np.float32), name=n)  # noqa: E731
        self.conv, self.bias, self.dense = f("conv", 3, 3, 2, 4), f("bias", 4), f("dense", 64, 3)

    @tf.function(input_signature=[tf.TensorSpec([1, 4, 4, 2])])
    def __call__(self, x):
        y = tf.nn.relu(tf.nn.conv2d(x, self.conv, 1, "SAME") + self.bias)
        return tf.matmul(tf.reshape(y, [1, 64]), self.dense)


def converter(net):
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [net.__call__.get_concrete_function()], net)


def flatbuffer(model):
    b = flatbuffers.Builder(1024)
    b.Finish(model.Pack(b), b"TFL3")
    return bytes(b.Output())


def every_type():
    """No converter writes them all."""
    rng = np.random.default_rng(9)
    model = schema.ModelT()
    model.version, model.description = 3, "every type"
    model.buffers = [schema.BufferT()]
    graphs = []
    for g in range(2):
        graph = schema.SubGraphT()
        graph.name, graph.tensors = f"g{g}", []
        graph.inputs, graph.outputs, graph.operators = [], [], []
        for number, (dtype, bits) in TYPES.items():
            if number not in vars(schema.TensorType).values():
                continue  # a schema of before it
            for shape in ([3, 5], [], [2, 1, 3]):
                t, n = schema.TensorT(), int(np.prod(shape))
                raw = rng.integers(0, 2 if dtype == "bool" else 256, (n * bits + 7) // 8, np.uint8)
                if n * bits % 8:
                    raw[-1] &= (1 << n * bits % 8) - 1
                buf = schema.BufferT()
                buf.data = raw
                model.buffers.append(buf)
                t.shape, t.type, t.buffer = shape, number, len(model.buffers) - 1
                t.name = f"{dtype}.{len(shape)}"
                graph.tensors.append(t)
        graphs.append(graph)
    model.subgraphs = graphs[:1]
    second = graphs[1]
    second.tensors = second.tensors[:6]
    model.subgraphs.append(second)
    return flatbuffer(model)


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    net = Net()
    plain = converter(net).convert()
    save(out / "float.tflite", plain)
    c = converter(net)
    c.optimizations = [tf.lite.Optimize.DEFAULT]
    g = np.random.default_rng(1)
    c.representative_dataset = lambda: (
        [g.standard_normal((1, 4, 4, 2)).astype(np.float32)] for _ in range(8))
    c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    save(out / "int8.tflite", c.convert())
    if hasattr(schema.BufferT(), "offset"):
        c = converter(net)
        c._experimental_use_buffer_offset = True  # as models of more than 2 GiB are written
        outside = c.convert()
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(outside), 0))
        assert any(b.offset > 1 for b in model.buffers), "no buffer lies outside"
        save(out / "outside.tflite", outside)
    save(out / "types.tflite", every_type(), interpret=False)


if __name__ == "__main__":
    main(sys.argv[1])
