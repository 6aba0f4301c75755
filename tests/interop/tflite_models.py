"""TFLite: the LiteRT interpreter's constants against what nnferry reads.

A small network is converted by TensorFlow in four ways (floats, float16, dynamic int8, full
int8 with scales per channel) and every constant the interpreter holds must come out of nnferry
bit for bit, with its scales and zero points.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np  # noqa: E402

from common import convert, entries, fresh, need  # noqa: E402


def network():
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            g = np.random.default_rng(5)
            f = lambda *s: tf.Variable(g.standard_normal(s).astype(np.float32))  # noqa: E731
            self.conv, self.bias, self.dense = f(3, 3, 4, 32), f(32), f(32 * 64, 40)

        @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 4])])
        def __call__(self, x):
            y = tf.nn.relu(tf.nn.conv2d(x, self.conv, 1, "SAME") + self.bias)
            return tf.matmul(tf.reshape(y, [1, 32 * 64]), self.dense)

    net = Net()
    return tf, net, lambda: tf.lite.TFLiteConverter.from_concrete_functions(
        [net.__call__.get_concrete_function()], net)


def interpreted(tag):
    from ai_edge_litert.interpreter import Interpreter
    tf, net, make = network()
    c = make()
    if tag != "float32":
        c.optimizations = [tf.lite.Optimize.DEFAULT]
    if tag == "float16":
        c.target_spec.supported_types = [tf.float16]
    if tag == "int8":
        g = np.random.default_rng(1)
        c.representative_dataset = lambda: (
            [g.standard_normal((1, 8, 8, 4)).astype(np.float32)] for _ in range(8))
        c.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    blob = c.convert()
    runs, held = Interpreter(model_content=blob), {}
    for d in runs.get_tensor_details():
        try:
            a = runs.get_tensor(d["index"])
        except ValueError:
            continue  # computed, not held
        held[d["name"]] = (a, d["quantization_parameters"])
    return blob, held


def constants(tag):
    where = fresh("tflite")
    blob, held = interpreted(tag)
    (where / "in.tflite").write_bytes(blob)
    convert(where / "in.tflite", where / "out.safetensors")
    got, n = entries(where / "out.safetensors"), 0
    for name, (dtype, shape, data) in got.items():
        if name.endswith((".scale", ".zero_point")):
            continue
        need(name in held, f"the interpreter holds no {name!r}")
        a, q = held[name]
        need((a.dtype.name, a.shape, a.tobytes()) == (dtype, tuple(shape), bytes(data)),
             f"{name}: other bits")
        if len(q["scales"]):
            need(got[name + ".scale"][2] == q["scales"].astype("<f4").tobytes(),
                 f"{name}: other scales")
            need(got[name + ".zero_point"][2] == q["zero_points"].astype("<i8").tobytes(),
                 f"{name}: other zero points")
        n += 1
    need(n >= 3, f"{n} constants only")
    return f"{n} constants"


def run(tally):
    for tag in ("float32", "float16", "dynamic", "int8"):
        tally.run(tag, constants, tag)
