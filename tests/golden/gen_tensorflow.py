#!/usr/bin/env python3
"""Makes the TensorFlow goldens with TensorFlow itself: gen_tensorflow.py FOLDER.

What is expected comes from tf.train.load_checkpoint, and for the frozen graph from the values
that went into it.
"""

import os
import pathlib
import shutil
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
if tf.__version__ < "2.16":
    from tensorflow import keras as tf_keras  # noqa: E402
else:
    import tf_keras  # noqa: E402

import expected  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from checkpoints import path_text  # noqa: E402

tf1 = tf.compat.v1
MADE_BY = f"tensorflow {tf.__version__}"
TAIL = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def name_of(key, objects):
    if objects and key.endswith(TAIL):
        key = key[:-len(TAIL)]
    return path_text(tuple(key.split("/")))


def canonical(a):
    raw = np.ascontiguousarray(a).tobytes()
    return bytes(b & 15 for b in raw) if a.dtype.name in ("int4", "uint4") else raw


def listed(prefix):
    """[(name, dtype, shape, bytes)] of a checkpoint, strings left out."""
    reader = tf.train.load_checkpoint(str(prefix))
    keys = sorted(reader.get_variable_to_shape_map())
    out = []
    for k in keys:
        if reader.get_variable_to_dtype_map()[k] == tf.string:
            continue
        a = np.asarray(reader.get_tensor(k))
        out.append((name_of(k, GRAPH in keys), a.dtype.name, a.shape, canonical(a)))
    return out


def folder(top, name):
    shutil.rmtree(top / name, ignore_errors=True)
    (top / name).mkdir()
    return top / name


def names(top):
    """TF1 variables by name, two shards, slices, a string tensor; and the same as version 1."""
    two = tf1.ConfigProto(device_count={"CPU": 2})
    with tf.Graph().as_default(), tf1.Session(config=two) as s:
        tf1.set_random_seed(3)
        with tf1.device("/cpu:1"), tf1.variable_scope(
                "emb", partitioner=tf1.fixed_size_partitioner(3)):
            tf1.get_variable("w", [200, 2], initializer=tf1.initializers.random_normal(seed=1))
        with tf1.variable_scope("cols", partitioner=tf1.fixed_size_partitioner(2, axis=1)):
            tf1.get_variable("w", [3, 5], tf.float64,
                             initializer=tf1.initializers.random_normal(seed=2))
        step = tf1.train.get_or_create_global_step()
        kernel = tf1.get_variable("dense/kernel", [2, 3], use_resource=True)
        tf1.get_variable("dense/moving.mean", [3], use_resource=True)
        tf1.get_variable("words", initializer=tf.constant([["a", "bcd"], ["", "caf\u00e9"]]),
                         use_resource=True)
        train = tf1.train.AdamOptimizer().minimize(tf.reduce_sum(kernel * kernel), step)
        s.run(tf1.global_variables_initializer())
        s.run(train)
        one = folder(top, "names")
        tf1.train.Saver(sharded=True).save(s, str(one / "model"), write_meta_graph=False)
        want = listed(one / "model")
        expected.write(one, MADE_BY, want)
        with tf1.device("/cpu:0"):
            v1 = top / "version1.ckpt"
            tf1.train.Saver(write_version=tf1.train.SaverDef.V1).save(
                s, str(v1), write_meta_graph=False, write_state=False)
        expected.write(v1, MADE_BY, want)  # the reader of today takes no slices of version 1
        two = folder(top, "version1_shards")
        tf1.train.Saver(write_version=tf1.train.SaverDef.V1, sharded=True).save(
            s, str(two / "model"), write_meta_graph=False, write_state=False)
        expected.write(two, MADE_BY, want)


class Layer(tf.Module):
    def __init__(self, n, m, seed):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.kernel = tf.Variable(rng.normal(size=(n, m)).astype(np.float32), name="kernel")
        self.bias = tf.Variable(np.zeros(m, np.float32), name="bias")


class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.layers = [Layer(2, 3, 0), Layer(3, 1, 1)]
        setattr(self, "a.b", tf.Variable([1, 2], dtype=tf.int64))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def __call__(self, x):
        for layer in self.layers:
            x = x @ layer.kernel + layer.bias
        return {"y": x}


def objects(top):
    net = Net()
    weights = [net.layers[0].kernel, net.layers[0].bias]
    for name, opt in (("slots", tf_keras.optimizers.legacy.Adam()),
                      ("objects", tf_keras.optimizers.Adam())):
        where = folder(top, name)
        for _ in range(2):
            opt.apply_gradients([(w * 0.1 + 1.0, w) for w in weights])
        ck = tf.train.Checkpoint(net=net, optimizer=opt, note=tf.Variable("text"))
        path = ck.save(str(where / "ck"))
        expected.write(where, MADE_BY, listed(path))


def keras(top):
    tf_keras.utils.set_random_seed(5)
    model = tf_keras.Sequential([
        tf_keras.layers.Input((4, 4, 1)), tf_keras.layers.Conv2D(2, 3),
        tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten(),
        tf_keras.layers.Dense(3)])
    where = folder(top, "keras_weights")
    model.save_weights(str(where / "weights"), save_format="tf")
    expected.write(where, MADE_BY + f", tf-keras {tf_keras.__version__}",
                   listed(where / "weights"))


def keras3(top):
    """A Keras 3 model and its optimizer, which TensorFlow keeps the weights under. They are called
    as in a checkpoint of the model alone: by the variables' own names."""
    import keras as k3
    k3.utils.set_random_seed(6)
    x = inputs = k3.Input((2,))
    x = k3.layers.LayerNormalization(name="ln")(k3.layers.Dense(3, name="fc1")(x))
    model = k3.Model(inputs, k3.layers.Dense(2, name="fc2")(x))
    where = folder(top, "keras3")
    alone = tf.train.Checkpoint(model=model).write(str(where / "alone"))
    path_of = {full: name for name, full in full_names(alone)}
    for f in where.iterdir():
        f.unlink()
    model.compile(k3.optimizers.Adam(amsgrad=True), "mse")
    model.train_on_batch(np.ones((2, 2), "float32"), np.zeros((2, 2), "float32"))
    both = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(where / "both"))
    called = {name: path_of.get(full, name) for name, full in full_names(both)}
    expected.write(where, MADE_BY + f", keras {k3.__version__}",
                   [(called[name], *rest) for name, *rest in listed(both)])


def full_names(prefix):
    """(name, the variable's full name) of an object graph."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(tf.train.load_checkpoint(str(prefix)).get_tensor(GRAPH))
    return [(name_of(a.checkpoint_key, True), a.full_name)
            for n in graph.nodes for a in n.attributes]


def dtypes(top):
    every = {}
    for t in (tf.float64, tf.float32, tf.float16, tf.bfloat16, tf.complex64, tf.complex128):
        n = t.size
        raw = bytes((i * 37 + n) % 251 for i in range(n * 6))
        every[t.name] = tf.constant(np.frombuffer(raw, t.as_numpy_dtype).reshape(2, 3))
    for t in (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64):
        every[t.name] = tf.constant([[t.min, t.max], [1, 2]], t)
    every["bool"] = tf.constant([True, False, True])
    for n in ("int4", "uint4"):
        t = getattr(tf, n, None) or getattr(tf.dtypes.experimental, n, None)
        if t:  # not in every older one
            every[n] = tf.cast(tf.constant([1, 2, 3, 7]), t)
    every["scalar"] = tf.constant(2.5)
    every["zero"] = tf.zeros([2, 0, 3])
    every["deep"] = tf.constant(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 1, 2, 2))
    every["na\u00efve/\u5c42"] = tf.constant([1.0])
    every["double//slash"] = tf.constant([2.0])
    where = folder(top, "dtypes")
    tf.raw_ops.SaveV2(prefix=str(where / "d"), tensor_names=list(every),
                      shape_and_slices=[""] * len(every), tensors=list(every.values()))
    expected.write(where, MADE_BY, listed(where / "d"))


def saved_model(top):
    class WithAsset(tf.Module):
        def __init__(self, path):
            super().__init__()
            self.layer = Layer(2, 3, 4)
            self.words = tf.saved_model.Asset(path)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def serve(self, x):
            return {"y": x @ self.layer.kernel}

    asset = top / "words.txt"
    asset.write_text("one\ntwo\n")
    m = WithAsset(str(asset))
    where = top / "saved_model"
    shutil.rmtree(where, ignore_errors=True)
    tf.saved_model.save(m, str(where), signatures={"serving_default": m.serve},
                        options=tf.saved_model.SaveOptions(save_debug_info=False))
    asset.unlink()
    expected.write(where, MADE_BY, listed(where / "variables" / "variables"))


def frozen(top):
    rng = np.random.default_rng(9)
    values = {
        "dense/kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "dense/bias": np.full(4, 0.5, np.float32),
        "step": np.array(7, np.int64),
        "flags": np.array([True, False]),
        "half": rng.normal(size=3).astype(np.float16),
        "small": np.array([-3, 4], np.int8),
        "complex": np.array([1 + 2j, -1j], np.complex64),
        "repeated": np.array([1, 2, 2, 2, 2, 2], np.int32),
        "empty": np.zeros((0, 3), np.float32),
    }
    with tf.Graph().as_default() as g:
        x = tf1.placeholder(tf.float32, [None, 3], "x")
        made = {n: tf1.constant(v, name=n) for n, v in values.items()}
        tf.add(x @ made["dense/kernel"], made["dense/bias"], name="y")
        tf1.constant("text", name="label")
    d = g.as_graph_def()
    # the typed lists that older writers and other tools leave
    for node in d.node:
        if node.op == "Const" and node.name in ("dense/bias", "flags", "half", "small",
                                                "complex", "repeated", "step"):
            t = node.attr["value"].tensor
            t.ClearField("tensor_content")
            for f in ("float_val", "bool_val", "half_val", "int_val", "scomplex_val", "int64_val"):
                t.ClearField(f)
            v = values[node.name]
            if node.name == "dense/bias":
                t.float_val.append(0.5)  # one value for all
            elif node.name == "repeated":
                t.int_val.extend([1, 2])
            elif node.name == "flags":
                t.bool_val.extend([True, False])
            elif node.name == "half":
                t.half_val.extend(int(b) for b in v.view(np.uint16))
            elif node.name == "small":
                t.int_val.extend(int(b) for b in v)
            elif node.name == "complex":
                t.scomplex_val.extend([1, 2, -0.0, -1])
                values["complex"] = np.array([1 + 2j, complex(-0.0, -1)], np.complex64)
            elif node.name == "step":
                t.int64_val.append(7)
            assert tf.make_ndarray(t).tobytes() == values[node.name].tobytes(), node.name
    path = top / "frozen.pb"
    path.write_bytes(d.SerializeToString(deterministic=True))
    expected.write(path, MADE_BY, [(name_of(n, False), v.dtype.name, v.shape, canonical(v))
                                   for n, v in values.items()])


def main(where):
    top = pathlib.Path(where)
    top.mkdir(parents=True, exist_ok=True)
    names(top)
    objects(top)
    keras(top)
    if tf.__version__ >= "2.16":
        keras3(top)
    dtypes(top)
    saved_model(top)
    frozen(top)


if __name__ == "__main__":
    main(sys.argv[1])
