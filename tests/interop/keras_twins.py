"""PyTorch's networks in Keras 3, tf-keras (Keras 2) and TensorFlow, and back.

Each network's weights are converted with an untrained Keras model as the skeleton, straight and by
way of Flax, in every container that Keras saves; the real framework loads what was written, holds
what the formulas of tests/lib/keras_layouts.py say, and gives the same outputs: float32 at rtol
1e-5, atol 1e-6; float64 at rtol 1e-9. Back in PyTorch every tensor is the same, bit for bit, and
validate calls both files equal.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
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

    rule = rules(flatten, where)
    save(back, where / f"again{suffix}", suffix)  # what Keras itself writes of it
    convert(where / f"again{suffix}", where / "back.pt", "--to", "pytorch", "--like",
            where / "in.pt", "--train-state", "drop", *rule)
    again = {k: v.numpy() for k, v in torch.load(where / "back.pt", weights_only=True).items()}
    same_tensors(arrays(without_counters(again)), arrays(without_counters(sd)), "back")
    torch_class().to(getattr(torch, precision)).load_state_dict(
        torch.load(where / "back.pt", weights_only=True))
    return f"{worst:.2g}"


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
            if (library, suffix) == ("tf-keras", ".weights.h5") and name in ("cnn", "block"):
                continue  # without names: see nameless
            tally.run(f"{library} {name} float32 {suffix}", twin, library, name, "float32", suffix,
                      "straight")
        if name != "up":  # Keras 3's GroupNormalization computes in float32 whatever its policy
            tally.run(f"keras 3 {name} float64", twin, "keras 3", name, "float64", ".weights.h5",
                      "straight")
        tally.run(f"tf-keras {name} float64", twin, "tf-keras", name, "float64", ".h5", "straight")
        tally.run(f"keras 3 {name} from flax", twin, "keras 3", name, "float32", ".keras", "flax")
        tally.run(f"keras 3 {name} judged", judged, "keras 3", name, ".keras")
        tally.run(f"tf-keras {name} judged", judged, "tf-keras", name, ".ckpt")
    for name in TWINS:  # last: Keras 3 loads legacy files with other defaults from then on
        tally.run(f"keras 3 {name} .h5", twin, "keras 3", name, "float32", ".h5", "straight")
