"""TensorFlow loads what nnferry writes, and nnferry reads what TensorFlow wrote, bit for bit.

Bundles by name and with an object graph, slices of partitioned variables, several shards, files of
version 1, Keras' weights, SavedModels and frozen graphs.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import torch  # noqa: E402

from common import (arrays, convert, entries, fresh, need, nnferry,  # noqa: E402
                    same_tensors)
from formats import TORCH, bits, tensors  # noqa: E402

tf1 = tf.compat.v1
TAIL = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
DTYPES = [n for n in TORCH if n not in ("complex32", "float8_e8m0fnu")]


def text(key):
    key = key[:-len(TAIL)] if key.endswith(TAIL) else key
    return ".".join(p.replace(".", "\\.") for p in key.split("/"))


def listed(prefix):
    """{name: (dtype, shape, bytes)} as tf.train.load_checkpoint has it; strings left out."""
    reader = tf.train.load_checkpoint(str(prefix))
    kinds = reader.get_variable_to_dtype_map()
    return {text(k): (a.dtype.name, a.shape, a.tobytes())
            for k in kinds if kinds[k] != tf.string
            for a in [np.asarray(reader.get_tensor(k))]}


def raw_bits(prefix):
    """The same for types that TensorFlow's reader gives no Python array of: by their bytes."""
    out = {}
    reader = tf.train.load_checkpoint(str(prefix))
    for k, kind in reader.get_variable_to_dtype_map().items():
        t = tf.raw_ops.RestoreV2(prefix=str(prefix), tensor_names=[k], shape_and_slices=[""],
                                 dtypes=[kind])[0]
        a = t.numpy()
        out[text(k)] = (kind.name.replace("half", "float16"), tuple(a.shape), a.tobytes())
    return out


# ---- written by nnferry ----

def write_names(shards):
    where = fresh("tf")
    sd = tensors(DTYPES)
    torch.save(sd, where / "in.pt")
    convert(where / "in.pt", where / "out", "--format", "tf-checkpoint",
            *(("--max-shard-size", "200") if shards else ()))
    want = {k: bits(v) for k, v in sd.items()}
    same_tensors(raw_bits(where / "out" / "ckpt"), want, "RestoreV2")
    names = dict(tf.train.list_variables(str(where / "out")))
    need({text(k): tuple(v) for k, v in names.items()} ==
         {k: w[1] for k, w in want.items()}, "list_variables")
    n = len(list((where / "out").glob("ckpt.data-*")))
    need((n > 1) == shards, f"{n} shards")
    return f"{len(want)} tensors, {n} shards"


def write_same_bytes():
    """A bundle of TensorFlow's own, read and written again, is the same file."""
    where = fresh("tf")
    tf.raw_ops.SaveV2(prefix=str(where / "a"), tensor_names=["b/w", "b/w2", "c", "zero"],
                      shape_and_slices=[""] * 4,
                      tensors=[tf.random.normal([5, 3]), tf.constant([1, 2]),
                               tf.constant("text"), tf.zeros([0, 2], tf.float64)])
    convert(where / "a", where / "out", "--format", "tf-checkpoint", "--as-is")
    for mine, theirs in (("ckpt.index", "a.index"),
                         ("ckpt.data-00000-of-00001", "a.data-00000-of-00001")):
        need((where / "out" / mine).read_bytes() == (where / theirs).read_bytes(),
             f"{theirs} has other bytes")


def write_many():
    """An index of several blocks."""
    where = fresh("tf")
    sd = {f"layer_{i:05d}.weight_of_some_name": torch.tensor([i, i + 1]) for i in range(25000)}
    torch.save(sd, where / "in.pt")
    convert(where / "in.pt", where / "out", "--format", "tf-checkpoint", "--as-is")
    need((where / "out" / "ckpt.index").stat().st_size > 2 * 262144, "one block only")
    same_tensors(listed(where / "out" / "ckpt"), {k: bits(v) for k, v in sd.items()}, "many")
    return f"{len(sd)} tensors"


def restore_by_saver():
    where = fresh("tf")
    want = {"dense.kernel": torch.randn(3, 2), "dense.bias": torch.randn(2)}
    torch.save(want, where / "in.pt")
    convert(where / "in.pt", where / "out", "--format", "tf-checkpoint", "--as-is")
    with tf.Graph().as_default(), tf1.Session() as s:
        v = {k: tf1.get_variable(k.replace(".", "/"), t.shape) for k, t in want.items()}
        tf1.train.Saver().restore(s, str(where / "out" / "ckpt"))
        for k, t in want.items():
            need(s.run(v[k]).tobytes() == t.numpy().tobytes(), k)


class Layer(tf.Module):
    def __init__(self, n, m, seed):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal([n, m], [seed, 1]), name="kernel")
        self.bias = tf.Variable(tf.zeros([m]), name="bias")


class Net(tf.Module):
    def __init__(self, seed):
        super().__init__()
        self.layers = [Layer(4, 3, seed), Layer(3, 2, seed + 1)]
        self.scale = tf.Variable(float(seed))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def __call__(self, x):
        for layer in self.layers:
            x = tf.nn.relu(x @ layer.kernel + layer.bias)
        return x * self.scale


def trained(make, seed):
    net, opt = Net(seed), make()
    weights = [v for layer in net.layers for v in (layer.kernel, layer.bias)]
    for i in range(3 if seed else 1):
        opt.apply_gradients([(w * 0.1 + float(seed + i), w) for w in weights])
    return net, opt, weights


def state(net, opt, weights):
    out = [w.numpy() for w in weights] + [net.scale.numpy(), opt.iterations.numpy()]
    if hasattr(opt, "get_slot_names"):
        out += [opt.get_slot(w, n).numpy() for n in opt.get_slot_names() for w in weights]
    else:
        out += [v.numpy() for v in opt.variables]
    return out


def restore_objects(make, detour):
    where = fresh("tf")
    net, opt, weights = trained(make, 5)
    path = tf.train.Checkpoint(net=net, opt=opt).save(str(where / "ck"))
    source = path
    if detour:
        convert(path, where / "a.tar.zst", "--as-is")
        source = where / "a.tar.zst"
    convert(source, where / "out", "--format", "tf-checkpoint", "--as-is")
    want = state(net, opt, weights)
    net, opt, weights = trained(make, 0)
    status = tf.train.Checkpoint(net=net, opt=opt).restore(str(where / "out" / "ckpt"))
    status.assert_existing_objects_matched()
    for a, b in zip(state(net, opt, weights), want, strict=True):
        need(a.tobytes() == b.tobytes(), "restored values differ")
    same_tensors(entries_of(where / "out"), listed(path), "read again")


def entries_of(source):
    """What nnferry reads, by way of safetensors."""
    out = fresh("tf_read") / "o.safetensors"
    convert(source, out, "--as-is")
    return {k: (d, tuple(s), b) for k, (d, s, b) in entries(out).items()}


def restore_part():
    """Without the optimizer the graph is pruned, and the rest restores."""
    where = fresh("tf")
    net, opt, weights = trained(tf_keras.optimizers.legacy.Adam, 5)
    path = tf.train.Checkpoint(net=net, opt=opt).save(str(where / "ck"))
    convert(path, where / "out", "--format", "tf-checkpoint", "--as-is", "--select", "net.layers.*.kernel",
            "--allow-drop", "*")
    other = Net(0)
    tf.train.Checkpoint(net=other).restore(str(where / "out" / "ckpt")).expect_partial()
    for a, b in zip(net.layers, other.layers):
        need(a.kernel.numpy().tobytes() == b.kernel.numpy().tobytes(), "kernel")
    need(other.scale.numpy() == 0.0, "a value that is not there was restored")
    need(len(tf.train.list_variables(str(where / "out"))) == 3, "what was left out is there")


def keras_model(seed):
    tf_keras.utils.set_random_seed(seed)
    m = tf_keras.Sequential([
        tf_keras.layers.Input((6, 6, 2)), tf_keras.layers.Conv2D(3, 3),
        tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten(),
        tf_keras.layers.Dense(4)])
    m.compile("adam", "mse")
    m.train_on_batch(np.ones((2, 6, 6, 2), np.float32) * seed, np.ones((2, 4), np.float32))
    return m


def keras_weights():
    where = fresh("tf")
    m = keras_model(3)
    m.save_weights(str(where / "w"), save_format="tf")
    convert(where / "w", where / "out", "--format", "tf-checkpoint", "--as-is")
    other = keras_model(4)
    other.load_weights(str(where / "out" / "ckpt")).assert_existing_objects_matched()
    for a, b in zip(m.get_weights(), other.get_weights(), strict=True):
        need(a.tobytes() == b.tobytes(), "weights")
    return f"{len(m.get_weights())} weights, optimizer too"


def saved_model(detour, keras):
    where = fresh("tf")
    if keras:
        m = keras_model(2)
        x = tf.random.stateless_normal([3, 6, 6, 2], [1, 2])
        want = m(x).numpy()
        m.save(str(where / "m"), save_format="tf")
    else:
        m = Net(2)
        x = tf.random.stateless_normal([3, 4], [1, 2])
        want = m(x).numpy()
        tf.saved_model.save(m, str(where / "m"), signatures=m.__call__)
    source = where / "m"
    if detour:
        convert(source, where / "a.tar.zst", "--as-is")
        source = where / "a.tar.zst"
    convert(source, where / "out", "--format", "savedmodel", "--as-is")
    loaded = tf.saved_model.load(str(where / "out"))
    need(np.array_equal(loaded(x).numpy(), want), "the loaded model computes something else")
    need(loaded.signatures, "no signatures")
    if keras:
        again = tf_keras.models.load_model(str(where / "out"))
        need(np.array_equal(again(x).numpy(), want), "the loaded Keras model differs")
    same_tensors(entries_of(where / "out"), listed(where / "m" / "variables" / "variables"),
                 "variables")
    got = nnferry("convert", where / "m", "-o", where / "half", "--format", "savedmodel", "--as-is",
                  "--dtype", "*=float16", exit=4)
    need("graph-differs" in got.stderr, f"another type was taken: {got.stderr}")


def saved_model_tf1():
    where = fresh("tf")
    with tf.Graph().as_default(), tf1.Session() as s:
        x = tf1.placeholder(tf.float32, [None, 3], "x")
        w = tf1.get_variable("dense/kernel", [3, 2], use_resource=False)
        y = tf.matmul(x, w, name="y")
        s.run(tf1.global_variables_initializer())
        want = s.run(y, {x: np.ones((1, 3))})
        tf1.saved_model.simple_save(s, str(where / "m"), {"x": x}, {"y": y})
    convert(where / "m", where / "out", "--format", "savedmodel", "--as-is")
    with tf.Graph().as_default(), tf1.Session() as s:
        tf1.saved_model.load(s, ["serve"], str(where / "out"))
        need(np.array_equal(s.run("y:0", {"x:0": np.ones((1, 3))}), want), "other values")


# ---- read by nnferry ----

def read_partitioned():
    where = fresh("tf")
    want = {}
    with tf.Graph().as_default(), tf1.Session() as s:
        for name, shape, parts, axis in (("rows", [1000, 3], 7, 0), ("cols", [5, 900], 4, 1),
                                         ("one", [70], 2, 0)):
            with tf1.variable_scope(name, partitioner=tf1.fixed_size_partitioner(parts, axis)):
                v = tf1.get_variable("w", shape, initializer=tf1.initializers.random_normal())
            want[f"{name}.w"] = v
        s.run(tf1.global_variables_initializer())
        want = arrays({k: s.run(tf.convert_to_tensor(v)) for k, v in want.items()})
        for i, kind in enumerate((tf1.train.SaverDef.V2, tf1.train.SaverDef.V1)):
            tf1.train.Saver(write_version=kind).save(s, str(where / f"v{2 - i}"),
                                                     write_meta_graph=False)
    for prefix in ("v2", "v1"):
        same_tensors(entries_of(where / prefix), want, prefix)
    with tf.Graph().as_default(), tf1.Session() as s:  # and written whole: slices are the reader's
        convert(where / "v1", where / "out", "--format", "tf-checkpoint", "--as-is")
        with tf1.variable_scope("rows", partitioner=tf1.fixed_size_partitioner(3, 0)):
            v = tf1.get_variable("w", [1000, 3])
        tf1.train.Saver().restore(s, str(where / "out" / "ckpt"))
        got = s.run(tf.convert_to_tensor(v))
        need(got.tobytes() == want["rows.w"][2], "restored into other slices")


def read_frozen():
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2)
    where = fresh("tf")
    net = Net(3)
    f = convert_variables_to_constants_v2(net.__call__.get_concrete_function())
    tf.io.write_graph(f.graph, str(where), "f.pb", as_text=False)
    got = entries_of(where / "f.pb")
    have = sorted(v[2] for v in got.values())
    for v in net.variables:
        need(v.numpy().tobytes() in have, f"{v.name} is not among the constants")
    want = {text(n.name): tf.make_ndarray(n.attr["value"].tensor)
            for n in f.graph.as_graph_def().node if n.op == "Const"}
    same_tensors(got, arrays(want), "constants")
    return f"{len(want)} constants"


def scan_graph():
    where = fresh("tf")

    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def __call__(self, path):
            return tf.io.read_file(path)

    tf.saved_model.save(Reads(), str(where / "m"))
    got = nnferry("scan", where / "m", exit=1)
    need("ReadFile" in got.stdout and "graph-op" in got.stdout, got.stdout)
    tf.saved_model.save(Net(1), str(where / "n"))
    nnferry("scan", where / "n")


def run(tally):
    tally.run("names", write_names, False)
    tally.run("shards", write_names, True)
    tally.run("same bytes", write_same_bytes)
    tally.run("many", write_many)
    tally.run("Saver.restore", restore_by_saver)
    for name, make in (("legacy Adam", tf_keras.optimizers.legacy.Adam),
                       ("Adam", tf_keras.optimizers.Adam),
                       ("SGD with momentum",
                        lambda: tf_keras.optimizers.legacy.SGD(momentum=0.9))):
        tally.run(f"Checkpoint.restore, {name}", restore_objects, make, False)
        tally.run(f"Checkpoint.restore, {name}, by the archive", restore_objects, make, True)
    tally.run("Checkpoint.restore of a part", restore_part)
    tally.run("Keras weights", keras_weights)
    for keras in (False, True):
        for detour in (False, True):
            tally.run(f"saved_model.load, keras={keras}, archive={detour}", saved_model, detour,
                      keras)
    tally.run("saved_model of graph mode", saved_model_tf1)
    tally.run("partitioned, version 1", read_partitioned)
    tally.run("frozen", read_frozen)
    tally.run("scan", scan_graph)
