"""PyTorch's networks in Keras 3, tf-keras (Keras 2) and TensorFlow, and back.

Each network's weights are converted with an untrained Keras model as the skeleton, straight and by
way of Flax, in every container that Keras saves; the real framework loads what was written, holds
what the formulas of tests/lib/keras_layouts.py say, and gives the same outputs: float32 at rtol
1e-5, atol 1e-6; float64 at rtol 1e-9. Back in PyTorch every tensor is the same, bit for bit, and
validate calls both files equal.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # over JAX its float64 is float32 somewhere
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import keras_layouts  # noqa: E402
from common import arrays, convert, fresh, need, nnferry, same_tensors  # noqa: E402
from keras_nets import TWINS  # noqa: E402
from nets import randomise  # noqa: E402
from twins import without_counters  # noqa: E402

RTOL = {"float32": (1e-5, 1e-6), "float64": (1e-9, 0.0)}


def frameworks():
    import keras
    import tf_keras
    return {"keras 3": keras, "tf-keras": tf_keras}


def rules(flatten, where):
    if not flatten:
        return []
    text = "".join(f'flatten "{layer}" = {c}\n' for layer, c in flatten.items())
    (where / "rules.map").write_text("# nnferry-map 1\n" + text)
    return ["--map", where / "rules.map"]


def layer_of(model, path):
    for name in path.split("/"):
        model = model.get_layer(name)
    return model


def save(model, path, suffix):
    if suffix == ".ckpt":
        model.save_weights(str(path), save_format="tf")
    elif suffix == ".weights.h5":
        model.save_weights(path)
    else:
        model.save(path)


def load(keras, make, path, suffix):
    if suffix in (".keras", ".h5"):
        return keras.models.load_model(path, compile=False)
    back = make()
    status = back.load_weights(str(path / "ckpt" if suffix == ".ckpt" else path))
    if suffix == ".ckpt":
        status.assert_existing_objects_matched()
    return back


def twin(library, name, precision, suffix, way):
    keras = frameworks()[library]
    torch_class, make, layers, inputs, flatten = TWINS[name]
    where = fresh("keras_twins")
    if library == "keras 3":  # a model casts what it is given to its own policy
        keras.config.set_dtype_policy(precision)
    net = randomise(torch_class().to(getattr(torch, precision)), 8)
    torch.save(net.state_dict(), where / "in.pt")
    x, y = inputs(np.random.default_rng(9))
    if x.dtype.kind == "f":
        x, y = x.astype(precision), y.astype(precision)
    with torch.no_grad():
        ref = net(torch.from_numpy(x)).numpy()
    sd = {k: v.numpy() for k, v in net.state_dict().items()}
    skeleton, out = where / f"skeleton{suffix}", where / f"out{suffix}"
    save(make(keras, precision), skeleton, suffix)
    to = ["--to", "tensorflow" if suffix == ".ckpt" else "keras", "--like", skeleton]
    if suffix == ".ckpt":
        to += ["--format", "tf-checkpoint"]
    rule, source = rules(flatten, where), where / "in.pt"
    if way == "flax":
        heads = [x["heads"] for x in layers if x["kind"] == "attention"]
        if heads:
            (where / "heads.map").write_text(f'# nnferry-map 1\nheads "attn" = {heads[0]}\n')
            rule = ["--map", where / "heads.map"]
        convert(source, where / "flax.msgpack", "--to", "flax", *rule)
        source, rule = where / "flax.msgpack", []
    convert(source, out, *to, *rule)

    back = load(keras, lambda: make(keras, precision), out, suffix)
    for layer in layers:
        want = keras_layouts.weights(layer, sd)
        got = [np.asarray(w) for w in layer_of(back, layer["keras"]).get_weights()]
        same_tensors(arrays({str(i): a for i, a in enumerate(got)}),
                     arrays({str(i): a for i, a in enumerate(want)}), layer["keras"])
    got = np.asarray(back(y, training=False))
    rtol, atol = RTOL[precision]
    if precision == "float64":
        atol = 1e-11 * np.abs(ref).max()
    if got.ndim == 4:
        got = np.moveaxis(got, -1, 1)
    worst = np.abs(got - ref).max()
    need(np.allclose(got, ref, rtol=rtol, atol=atol), f"outputs differ by {worst:.3g}")

    if (library, suffix) == ("tf-keras", ".weights.h5"):  # keeps no names: the file's own paths
        flatten = {"dense": c for c in flatten.values()}
    rule = rules(flatten, where)
    save(back, where / f"again{suffix}", suffix)  # what Keras itself writes of it
    convert(where / f"again{suffix}", where / "back.pt", "--to", "pytorch", "--like",
            where / "in.pt", "--train-state", "drop", *rule)
    again = {k: v.numpy() for k, v in torch.load(where / "back.pt", weights_only=True).items()}
    same_tensors(arrays(without_counters(again)), arrays(without_counters(sd)), "back")
    torch_class().to(getattr(torch, precision)).load_state_dict(
        torch.load(where / "back.pt", weights_only=True))
    return f"{worst:.2g}"


def same(x, kernel, strides):
    """SAME: the odd unit of the padding goes to the end."""
    pads = []
    for n, k, s in reversed(list(zip(x.shape[2:], kernel, strides))):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return torch.nn.functional.pad(x, pads)


def chain(model, sd, x):
    """A Keras model that is one chain, in torch, with the weights of sd under the layers' names."""
    F = torch.nn.functional
    for layer in model.layers:
        kind, own = type(layer).__name__, layer.name
        w, b = sd.get(own + ".weight"), sd.get(own + ".bias")
        if kind in ("Conv2D", "DepthwiseConv2D"):
            if layer.padding == "same":
                x = same(x, layer.kernel_size, layer.strides)
            groups = x.shape[1] if kind == "DepthwiseConv2D" else 1
            x = F.conv2d(x, w, b, stride=layer.strides, groups=groups)
        elif kind == "BatchNormalization":
            x = F.batch_norm(x, sd[own + ".running_mean"], sd[own + ".running_var"], w, b,
                             eps=layer.epsilon)
        elif kind == "ReLU":
            x = x.clamp(0, layer.max_value)
        elif kind == "ZeroPadding2D":
            (top, bottom), (left, right) = layer.padding
            x = F.pad(x, (left, right, top, bottom))
        elif kind == "GlobalAveragePooling2D":
            x = x.mean((2, 3), keepdim=True)
        elif kind == "Reshape":
            x = x.flatten(1)
        elif kind == "Activation":
            x = x.softmax(-1)
        else:
            need(kind in ("InputLayer", "Dropout"), f"{own}: a layer of class {kind}")
    return x


def application(suffix):
    """keras.applications' MobileNet: no skeleton, no rules, and back with one."""
    import keras
    keras.config.set_dtype_policy("float64")
    where, rng = fresh("keras_twins"), np.random.default_rng(4)

    def make():
        return keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None,
                                            classes=10)

    model = make()
    model.set_weights([rng.random(w.shape) + 0.5 if w.ndim == 1 else rng.normal(size=w.shape)
                       for w in model.get_weights()])
    save(model, where / f"in{suffix}", suffix)
    convert(where / f"in{suffix}", where / "out.pt", "--to", "pytorch")
    sd = torch.load(where / "out.pt", weights_only=True)
    x = rng.normal(size=(2, 32, 32, 3))
    want = np.asarray(model(x, training=False))
    got = chain(model, sd, torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
    need(np.allclose(got, want, rtol=1e-9, atol=1e-11), f"differ by {np.abs(got - want).max():.3g}")
    save(make(), where / f"like{suffix}", suffix)
    convert(where / "out.pt", where / f"back{suffix}", "--to", "keras", "--like",
            where / f"like{suffix}")
    back = load(keras, make, where / f"back{suffix}", suffix)
    for i, (a, b) in enumerate(zip(model.get_weights(), back.get_weights(), strict=True)):
        need(a.tobytes() == b.tobytes(), f"weight {i} differs")
    return f"{len(sd)} tensors, {np.abs(got - want).max():.2g}"


def by_name():
    """TF1: variables by name, restored by a Saver; and what a Saver wrote, back."""
    import tensorflow as tf
    where = fresh("keras_twins")
    net = randomise(TWINS["mlp"][0](), 8)
    torch.save(net.state_dict(), where / "in.pt")
    x, _ = TWINS["mlp"][3](np.random.default_rng(9))
    x = x.astype("float32")
    convert(where / "in.pt", where / "out", "--to", "tensorflow", "--format", "tf-checkpoint")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as s:
        v = {n: v1.get_variable(n, shape) for n, shape in (
            ("fc1/kernel", (6, 6)), ("fc1/bias", (6,)), ("ln1/gamma", (6,)), ("ln1/beta", (6,)),
            ("fc2/kernel", (6, 5)), ("fc2/bias", (5,)))}
        v1.train.Saver().restore(s, str(where / "out" / "ckpt"))
        y = tf.matmul(x, v["fc1/kernel"]) + v["fc1/bias"]
        mean, var = tf.nn.moments(y, [1], keepdims=True)
        y = tf.nn.batch_normalization(y, mean, var, v["ln1/beta"], v["ln1/gamma"], 1e-5)
        y = s.run(tf.matmul(tf.nn.relu(y), v["fc2/kernel"]) + v["fc2/bias"])
        v1.train.Saver().save(s, str(where / "again"), write_meta_graph=False)
    with torch.no_grad():
        need(np.allclose(y, net(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6),
             "outputs differ")
    convert(where / "again", where / "back.pt", "--to", "pytorch", "--like", where / "in.pt")
    got = {k: v.numpy() for k, v in torch.load(where / "back.pt", weights_only=True).items()}
    same_tensors(arrays(got), arrays({k: v.numpy() for k, v in net.state_dict().items()}), "back")


def judged(library, name, suffix):
    """validate, on what the real framework wrote; a spoiled file is not called equal."""
    keras = frameworks()[library]
    torch_class, make, _, _, flatten = TWINS[name]
    where = fresh("keras_twins")
    model = make(keras, "float32")
    rng = np.random.default_rng(3)
    model.set_weights([rng.random(w.shape).astype(w.dtype) + 0.5 for w in model.get_weights()])
    save(model, where / f"in{suffix}", suffix)
    rule = rules(flatten, where)
    torch.save(torch_class().state_dict(), where / "like.pt")
    convert(where / f"in{suffix}", where / "out.pt", "--to", "pytorch", "--like",
            where / "like.pt", "--train-state", "drop", *rule)
    nnferry("validate", where / f"in{suffix}", where / "out.pt", "--device", "native", *rule)
    sd = torch.load(where / "out.pt", weights_only=True)
    key = next(k for k, v in sd.items() if v.ndim > 1)
    sd[key] = sd[key].flip(0)
    torch.save(sd, where / "spoiled.pt")
    nnferry("validate", where / f"in{suffix}", where / "spoiled.pt", "--device", "native", *rule,
            exit=1)


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for name in TWINS:
        for library, suffix in (("keras 3", ".weights.h5"), ("keras 3", ".keras"),
                                ("tf-keras", ".weights.h5"), ("tf-keras", ".h5"),
                                ("tf-keras", ".ckpt")):
            tally.run(f"{library} {name} float32 {suffix}", twin, library, name, "float32", suffix,
                      "straight")
        tally.run(f"tf-keras {name} float64", twin, "tf-keras", name, "float64", ".h5", "straight")
        tally.run(f"keras 3 {name} float64", twin, "keras 3", name, "float64", ".keras", "straight")
        tally.run(f"keras 3 {name} from flax", twin, "keras 3", name, "float32", ".keras", "flax")
        tally.run(f"keras 3 {name} judged", judged, "keras 3", name, ".keras")
        tally.run(f"tf-keras {name} judged", judged, "tf-keras", name, ".ckpt")
    tally.run("MobileNet .keras", application, ".keras")
    tally.run("MobileNet .weights.h5", application, ".weights.h5")
    tally.run("TF1 variable names", by_name)
    for name in TWINS:  # last: Keras 3 loads legacy files with other defaults from then on
        tally.run(f"keras 3 {name} .h5", twin, "keras 3", name, "float32", ".h5", "straight")
