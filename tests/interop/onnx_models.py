"""ONNX: onnx, its checker and onnxruntime against nnferry.

Every element type goes there and back. A model with subgraphs and constants goes through the
archive, one file, a folder with external data and a folder of safetensors, and must compute, bit
for bit, what it computed before.
"""

import json
import os
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import convert, entries, fresh, need, nnferry, same_tensors

DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
          "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn",
          "float4_e2m1fn", "int64", "int32", "int16", "int8", "int4", "int2", "uint64", "uint32",
          "uint16", "uint8", "uint4", "uint2", "bool", "complex64", "complex128")
BITS = {"float6_e2m3fn": 6, "float6_e3m2fn": 6, "float4_e2m1fn": 4, "int4": 4, "uint4": 4,
        "int2": 2, "uint2": 2}


def np_dtype(name):
    import ml_dtypes
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def bits(a):
    """(dtype, shape, bytes), small types one value a byte without the sign's copies."""
    raw = np.ascontiguousarray(a).tobytes()
    if a.dtype.name in BITS:
        raw = bytes(b & ((1 << BITS[a.dtype.name]) - 1) for b in raw)
    return a.dtype.name, a.shape, raw


def values(name, shape, rng):
    dtype, n = np_dtype(name), int(np.prod(shape))
    if name in BITS:
        return rng.integers(0, 1 << BITS[name], n, np.uint8).view(dtype).reshape(shape)
    raw = rng.integers(0, 2 if name == "bool" else 256, n * dtype.itemsize, np.uint8)
    return raw.view(dtype).reshape(shape)


def initializers(path):
    model = onnx.load(str(path))
    onnx.checker.check_model(str(path))
    return {t.name: bits(numpy_helper.to_array(t)) for t in model.graph.initializer}


def from_onnx(where, names):
    """A file of those types made by onnx."""
    rng = np.random.default_rng(3)
    arrays = {f"{n}.{i}": values(n, s, rng) for n in names
              for i, s in enumerate([(3, 8), (), (0, 4), (2, 1, 7, 4), (5,)])}
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(a, n)
                                                for n, a in arrays.items()])
    onnx.save_model(helper.make_model(graph), str(where / "in.onnx"))
    return {n: bits(a) for n, a in arrays.items()}


def every_dtype():
    where = fresh("onnx")
    want = from_onnx(where, DTYPES)
    same_tensors(initializers(where / "in.onnx"), want, "what onnx wrote")
    convert(where / "in.onnx", where / "out.onnx")
    same_tensors(initializers(where / "out.onnx"), want, "one file")
    convert(where / "in.onnx", where / "out", "--format", "onnx", "--max-shard-size", "1GB")
    same_tensors(initializers(where / "out" / "model.onnx"), want, "a folder")
    convert(where / "out", where / "again.onnx")
    same_tensors(initializers(where / "again.onnx"), want, "from a folder")
    return f"{len(want)} tensors, {len(DTYPES)} types"


def long_lists():
    """Typed fields too long to be decoded when the file is opened: streams, each decoded once."""
    where = fresh("onnx")
    rng, inits = np.random.default_rng(8), []
    kinds = {helper.tensor_dtype_to_np_dtype(k).name: k for k in TensorProto.DataType.values()
             if k not in (TensorProto.UNDEFINED, TensorProto.STRING)}
    for name in DTYPES:
        n = 300000 if BITS.get(name, 8) < 8 else 140000 // min(np_dtype(name).itemsize, 2)
        a = values(name, (n,), rng)
        if name.startswith(("float", "complex")) and np_dtype(name).itemsize >= 4:
            a = np.arange(n).astype(a.dtype)  # no signalling NaN through Python's numbers
        shape = (n // 20, 4, 5)
        t = helper.make_tensor(name, kinds[name], shape, a)
        need(not t.HasField("raw_data"), f"{name}: onnx wrote raw_data")
        inits.append(t)
    onnx.save_model(helper.make_model(helper.make_graph([], "g", [], [], inits)),
                    str(where / "in.onnx"))
    want = initializers(where / "in.onnx")  # making the lists may have changed NaNs
    convert(where / "in.onnx", where / "out.onnx")
    same_tensors(initializers(where / "out.onnx"), want, "one file")
    plan = nnferry("convert", "--dry-run", where / "in.onnx", "-o", where / "other.onnx")
    note = [line for line in (plan.stdout + plan.stderr).splitlines() if "decode" in line]
    return "; ".join(note) or "no decodes are told"


def from_torch():
    """No graph comes along: initializers alone."""
    import torch
    where = fresh("onnx")
    names = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64",
             "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128")
    rng = np.random.default_rng(5)
    want, sd = {}, {}
    for n in names:
        a = values(n, (3, 4, 2), rng)
        want[n] = bits(a)
        sd[n] = torch.from_numpy(np.frombuffer(bytearray(a.tobytes()), np.uint8)).view(
            getattr(torch, n)).reshape(3, 4, 2)
    torch.save(sd, where / "in.pt")
    convert(where / "in.pt", where / "out.onnx")
    same_tensors(initializers(where / "out.onnx"), want, "from torch")
    convert(where / "out.onnx", where / "back.pt")
    back = torch.load(where / "back.pt", weights_only=True)
    same_tensors({k: (str(v.dtype)[6:], tuple(v.shape),
                      v.contiguous().view(torch.uint8).numpy().tobytes())
                  for k, v in back.items()}, want, "and back")
    return f"{len(want)} tensors"


def network(external_to=None):
    """Convolution, batch norm, If with weights in both branches, Constant, int8 weights."""
    rng = np.random.default_rng(11)
    f = lambda n, *s: numpy_helper.from_array(  # noqa: E731
        rng.standard_normal(s).astype(np.float32), n)
    info = helper.make_tensor_value_info
    branch = {}
    for side in ("then", "else"):
        branch[side] = helper.make_graph(
            [helper.make_node("MatMul", ["flat", f"{side}_w"], [f"{side}_y"])], side, [],
            [info(f"{side}_y", TensorProto.FLOAT, [1, 10])], [f(f"{side}_w", 128, 10)])
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "bn.s", "bn.b", "bn.m", "bn.v"], ["n"]),
        helper.make_node("Constant", [], ["shape"],
                         value=numpy_helper.from_array(np.array([1, 128], np.int64))),
        helper.make_node("Reshape", ["n", "shape"], ["flat"]),
        helper.make_node("ReduceSum", ["flat"], ["sum"], keepdims=0),
        helper.make_node("Constant", [], ["zero"],
                         value=numpy_helper.from_array(np.array(0, np.float32))),
        helper.make_node("Greater", ["sum", "zero"], ["cond"]),
        helper.make_node("If", ["cond"], ["logits"], then_branch=branch["then"],
                         else_branch=branch["else"]),
        helper.make_node("DequantizeLinear", ["q", "q.scale", "q.zero"], ["qf"]),
        helper.make_node("Add", ["logits", "qf"], ["y"]),
    ]
    inits = [f("conv.weight", 8, 3, 3, 3), f("conv.bias", 8), f("bn.s", 8), f("bn.b", 8),
             f("bn.m", 8), numpy_helper.from_array(np.full(8, 2, np.float32), "bn.v"),
             numpy_helper.from_array(rng.integers(-128, 128, 10).astype(np.int8), "q"),
             numpy_helper.from_array(np.array(0.5, np.float32), "q.scale"),
             numpy_helper.from_array(np.array(3, np.int8), "q.zero")]
    graph = helper.make_graph(nodes, "net", [info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
                              [info("y", TensorProto.FLOAT, [1, 10])], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="interop", ir_version=8)
    helper.set_model_props(model, {"author": "interop"})
    if external_to:
        onnx.save_model(model, str(external_to), save_as_external_data=True,
                        location="weights.bin", size_threshold=0)
    return model


def compute(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options,
                                           providers=["CPUExecutionProvider"])
    out = []
    for seed in range(4):  # both branches
        x = np.random.default_rng(seed).standard_normal((1, 3, 4, 4)).astype(np.float32)
        out.append(session.run(None, {"x": x})[0].tobytes())
    return out


def runs_again(external):
    where = fresh("onnx")
    source = where / "in.onnx"
    model = network(source if external else None)
    if not external:
        onnx.save_model(model, str(source))
    want = compute(source)
    convert(source, where / "w.tar.zst")
    made = [where / "archive.onnx", where / "one.onnx"]
    convert(where / "w.tar.zst", made[0], "--to", "source")
    convert(source, made[1])
    convert(source, where / "folder", "--format", "onnx", "--max-shard-size", "6KB")
    made.append(where / "folder" / "model.onnx")
    convert(where / "folder", where / "st", "--format", "safetensors", "--max-shard-size", "1GB")
    convert(where / "st", where / "from_st.onnx", "--from", "canonical", "--to", "canonical")
    made.append(where / "from_st.onnx")
    for path in made:
        onnx.checker.check_model(str(path), full_check=True)
        need(compute(path) == want, f"{path.name} computes something else")
    need(len(list((where / "folder").glob("*.data"))) > 1, "one data file only")
    need(onnx.load(str(made[0])).metadata_props[0].value == "interop", "metadata is lost")
    nnferry("diff", source, where / "folder")
    return "archive, one file, sharded external data, safetensors folder and back"


def tensor_names():
    where = fresh("onnx")
    onnx.save_model(network(), str(where / "in.onnx"))
    convert(where / "in.onnx", where / "out.safetensors")
    got = {n for n in entries(where / "out.safetensors")}
    need({"conv.weight", "shape", "zero", "logits.then_branch.then_w",
          "logits.else_branch.else_w"} <= got, f"names: {sorted(got)}")


def exported():
    """What torch's own exporter writes of a network tells its settings, layer by layer."""
    import torch
    where = fresh("onnx")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.bn1 = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.25)
            self.ln1 = torch.nn.LayerNorm(5, eps=1e-12)
            self.fc = torch.nn.Linear(4, 4)

        def forward(self, x):
            x = self.bn1(self.conv1(x)).relu()
            x = torch.nn.functional.leaky_relu(self.ln1(x), 0.125)
            return self.fc(torch.nn.functional.avg_pool2d(x, 5).flatten(1))

    net, x = Net().eval(), torch.randn(2, 3, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), str(where / "in.onnx"), dynamo=False, opset_version=18,
                          do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)
    (where / "rules").write_text("flatten fc = 4\n")
    said = convert(where / "in.onnx", where / "out.weights.h5", "--from", "pytorch", "--to",
                   "keras", "--json", "--dry-run", "--format", "keras-weights", "--map",
                   where / "rules")
    notes = {(n["layer"], n["setting"]): n["source"] for n in json.loads(said.stdout)["notes"]}
    need(("bn1", "epsilon") not in notes, "an epsilon that is Keras's own")
    need(notes.get(("ln1", "epsilon")) == "1e-12", f"epsilon: {notes}")
    need(notes.get(("conv1", "padding")) == "same", f"padding: {notes}")
    need("0.125" in notes.values(), f"slope: {notes}")
    return f"{len(notes)} notes"


def recurrent():
    """LSTM, GRU and RNN nodes, whose weights torch's exporter stores in ONNX's order of gates: back
    in torch bit for bit, and in Keras, with the outputs that onnxruntime computes."""
    os.environ["KERAS_BACKEND"] = "jax"  # its usual one does not share a process with torch's
    import keras
    import torch
    where = fresh("onnx")

    class Cells(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
            self.gru = torch.nn.GRU(8, 3, batch_first=True)
            self.rnn = torch.nn.RNN(3, 6, nonlinearity="relu", batch_first=True)
            self.fc = torch.nn.Linear(6, 2)

        def forward(self, x):
            x = self.rnn(self.gru(self.enc(x)[0])[0])[0]
            return self.fc(x[:, -1])

    torch.manual_seed(31)
    net = Cells().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * 0.5)
    x = np.random.default_rng(32).normal(size=(2, 7, 5)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.from_numpy(x),), str(where / "in.onnx"), dynamo=False,
                          input_names=["x"])
    run_it = onnxruntime.InferenceSession(str(where / "in.onnx"), providers=["CPUExecutionProvider"])
    want = run_it.run(None, {"x": x})[0]
    ours = ("--from", "pytorch", "--select", "fc.*", "--select", "onnx::[LGR][SRN]*")
    convert(where / "in.onnx", where / "out.pt", "--to", "pytorch", *ours)
    back = torch.load(where / "out.pt", weights_only=True)
    for name, value in net.state_dict().items():
        need(torch.equal(back[name], value), f"{name} differs")
    need(len(back) == len(net.state_dict()), f"{sorted(back)}")
    layers = keras.layers
    other = keras.Sequential([
        keras.Input((7, 5)),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="enc_l0"), name="enc_0"),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="enc_l1"), name="enc_1"),
        layers.GRU(3, return_sequences=True, name="gru"),
        layers.SimpleRNN(6, activation="relu", name="rnn"), layers.Dense(2, name="fc")])
    other.save(where / "like.keras")
    convert(where / "in.onnx", where / "out.keras", "--like", where / "like.keras", *ours)
    got = np.asarray(keras.models.load_model(where / "out.keras")(x))
    need(np.abs(got - want).max() <= 1e-5 * np.abs(want).max(), f"Keras: {np.abs(got - want).max()}")
    return f"{len(back)} tensors"


def run(tally):
    tally.run("every dtype", every_dtype)
    tally.run("long lists", long_lists)
    tally.run("initializers from torch", from_torch)
    tally.run("runs again", runs_again, False)
    tally.run("runs again, external data", runs_again, True)
    tally.run("names", tensor_names)
    tally.run("settings that torch exports", exported)
    tally.run("recurrent nodes", recurrent)
