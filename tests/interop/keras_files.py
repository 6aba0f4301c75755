"""Keras 3, tf-keras and h5py take what nnferry writes, bit for bit, and the other way round.

Whole models with optimizer state, weights alone, shards and bfloat16; each goes through nnferry in
its own format, and through the archive; the framework loads the result. Files of h5py with every
layout are written anew. Lists of names of more than 64 KiB are split and read back.
"""

import os
import zipfile

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

from common import ROOT, convert, fresh, need  # noqa: E402

GOLDENS = ROOT / "tests" / "golden"


def equal(a, b, what):
    a, b = list(a), list(b)
    need(len(a) == len(b), f"{what}: {len(b)} arrays, expected {len(a)}")
    for i, (x, y) in enumerate(zip(a, b)):
        x, y = np.asarray(x), np.asarray(y)
        need(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes(),
             f"{what}: array {i} differs")
    return len(a)


def state(model):
    """Weights, then what the optimizer holds."""
    optimizer = getattr(model, "optimizer", None)
    return list(model.get_weights()) + [np.asarray(v) for v in getattr(optimizer, "variables", ())]


def network(keras):
    layers = keras.layers
    inner = keras.Sequential([layers.Input((6, 6, 2)), layers.Conv2D(4, 3, name="c.1"),
                              layers.BatchNormalization(), layers.Dropout(0.1)], name="inner")
    image, words = keras.Input((6, 6, 2)), keras.Input((5,), dtype="int32")
    x = layers.Flatten()(inner(image))
    w = layers.Embedding(11, 8)(words)
    w = layers.MultiHeadAttention(2, 4)(w, w)
    w = layers.Bidirectional(layers.LSTM(3))(layers.LayerNormalization()(w))
    w = layers.PReLU()(w)
    return keras.Model([image, words], layers.Dense(2, name="a_last")(
        layers.Concatenate()([x, w])))


def trained(keras):
    keras.utils.set_random_seed(5)
    m = network(keras)
    m.compile(keras.optimizers.Adam(0.01, amsgrad=True), "mean_squared_error")
    rng = np.random.default_rng(3)
    m.fit([rng.random((8, 6, 6, 2), "float32"), rng.integers(0, 11, (8, 5))],
          rng.random((8, 2), "float32"), verbose=0)
    return m


def frameworks():
    import keras
    import tf_keras
    return {"keras 3": keras, "tf-keras": tf_keras}


MODELS = {}


def model_of(name):
    if name not in MODELS:
        MODELS[name] = trained(frameworks()[name])
    return MODELS[name]


def through(source, target, way):
    if way == "straight":
        convert(source, target, "--as-is")
    else:
        convert(source, source.parent / "x.tar.zst", "--as-is")
        convert(source.parent / "x.tar.zst", target, "--as-is")


def whole(name, suffix, way, optimizer=True):
    keras, m, d = frameworks()[name], model_of(name), fresh("keras")
    m.save(d / f"in{suffix}")
    through(d / f"in{suffix}", d / f"out{suffix}", way)
    if suffix == ".h5":
        need(same_file(d / "in.h5", d / "out.h5"), "h5py reads something else")
    back = keras.models.load_model(d / f"out{suffix}", compile=optimizer)
    n = equal(state(m) if optimizer else m.get_weights(),
              state(back) if optimizer else back.get_weights(), suffix)
    return f"{n} arrays"


def alone(name, suffix, way):
    keras, m, d = frameworks()[name], model_of(name), fresh("keras")
    m.save_weights(d / f"in{suffix}")
    through(d / f"in{suffix}", d / f"out{suffix}", way)
    back = network(keras)
    back.load_weights(d / f"out{suffix}")
    return f"{equal(m.get_weights(), back.get_weights(), suffix)} arrays"


def sharded():
    keras, m, d = frameworks()["keras 3"], model_of("keras 3"), fresh("keras")
    m.save_weights(d / "in.weights.json", max_shard_size=8e-6)
    need(len(list(d.glob("*.weights.h5"))) > 1, "Keras made one shard")
    convert(d / "in.weights.json", d / "one.weights.h5", "--as-is")
    convert(d / "one.weights.h5", d / "many", "--format", "keras-weights", "--max-shard-size",
            "6000", "--as-is")
    need(len(list((d / "many").glob("*.weights.h5"))) > 1, "nnferry made one shard")
    for source in (d / "one.weights.h5", d / "many" / "model.weights.json"):
        back = network(keras)
        back.load_weights(source)
        equal(m.get_weights(), back.get_weights(), source.name)
    convert(d / "many", d / "again.weights.h5", "--as-is")
    need(same_file(d / "one.weights.h5", d / "again.weights.h5"), "shards do not come back")


def deflated():
    keras, m, d = frameworks()["keras 3"], model_of("keras 3"), fresh("keras")
    m.save(d / "in.keras")
    with zipfile.ZipFile(d / "in.keras") as z, \
            zipfile.ZipFile(d / "packed.keras", "w", zipfile.ZIP_DEFLATED) as to:
        for name in z.namelist():
            to.writestr(name, z.read(name))
    convert(d / "packed.keras", d / "out.keras", "--as-is")
    equal(state(m), state(keras.models.load_model(d / "out.keras")), "deflated")


def bfloat16():
    import keras
    d = fresh("keras")
    make = lambda: keras.Sequential([keras.layers.Input((4,)),  # noqa: E731
                                     keras.layers.Dense(3, dtype="bfloat16")])
    m = make()
    m.save_weights(d / "in.weights.h5")
    convert(d / "in.weights.h5", d / "w.safetensors", "--as-is")
    convert(d / "w.safetensors", d / "out.weights.h5", "--as-is")
    back = make()
    back.load_weights(d / "out.weights.h5")
    equal([np.asarray(w) for w in m.weights], [np.asarray(w) for w in back.weights], "bfloat16")


def long_names():
    """layer_names of more than 64 KiB: split by Keras, split by us."""
    import keras
    d = fresh("keras")

    def make():
        x = first = keras.Input((1,))
        for i in range(560):
            x = keras.layers.Dense(1, use_bias=False, name=f"layer_{i:04}_" + "n" * 110)(x)
        return keras.Model(first, x)

    m = make()
    m.save(d / "in.h5")
    with h5py.File(d / "in.h5") as f:
        need("layer_names0" in f["model_weights"].attrs, "Keras did not split its list")
    convert(d / "in.h5", d / "w.safetensors", "--as-is")
    for source in ("in.h5", "w.safetensors"):
        convert(d / source, d / "out.h5", "--as-is", "--force")
        with h5py.File(d / "out.h5") as f:
            need("layer_names1" in f.get("model_weights", f).attrs, "the list was not split")
        back = make()
        back.load_weights(d / "out.h5")
        equal(m.get_weights(), back.get_weights(), source)


def same_file(a, b):
    """Groups, datasets and their bits, text attributes; hard links shared in both or in none."""
    found = []
    for path in (a, b):
        seen, ties, todo = {}, {}, []
        with h5py.File(path) as f:
            todo.append(("", f))
            while todo:
                name, o = todo.pop()
                text = {k: v for k, v in o.attrs.items() if isinstance(v, str)}
                if isinstance(o, h5py.Group):
                    seen[name] = (text,)
                    todo += [(f"{name}/{k}", o[k]) for k in o
                             if isinstance(o.get(k, getclass=True), type)
                             and o.get(k, getclass=True) is not h5py.Datatype]
                    continue
                v = np.ascontiguousarray(o[()])
                v = v.astype(v.dtype.newbyteorder("<"), copy=False)
                seen[name] = (text, v.dtype.str, o.shape, v.tobytes())
                ties.setdefault(h5py.h5o.get_info(o.id).addr, []).append(name)
        found.append((seen, sorted(sorted(t) for t in ties.values())))
    return found[0] == found[1]


def anew(golden):
    d = fresh("keras")
    convert(golden, d / "out.weights.h5", "--as-is")
    need(same_file(golden, d / "out.weights.h5"), "h5py reads something else")


def many_links():
    """A group whose tree has three levels, and one name of 60 KiB."""
    d = fresh("keras")
    with h5py.File(d / "in.h5", "w", libver="latest") as f:
        for i in range(3000):
            f[f"g/{i}"] = np.float32(i)
        f["n" * 50000] = np.arange(3)
        f["ünï/çödé"] = np.arange(2)
    convert(d / "in.h5", d / "out.weights.h5", "--as-is")
    need(same_file(d / "in.h5", d / "out.weights.h5"), "h5py reads something else")


def run(tally):
    for way in ("straight", "archive"):
        for name in ("keras 3", "tf-keras"):
            tally.run(f"{name} .keras, {way}", whole, name, ".keras", way)
            if name != "keras 3":
                tally.run(f"{name} .h5, {way}", whole, name, ".h5", way)
            tally.run(f"{name} .weights.h5, {way}", alone, name, ".weights.h5", way)
        tally.run(f"tf-keras weights .h5, {way}", alone, "tf-keras", ".h5", way)
    tally.run("shards", sharded)
    tally.run("deflated", deflated)
    tally.run("bfloat16", bfloat16)
    tally.run("long names", long_names)
    tally.run("many links", many_links)
    for golden in sorted((GOLDENS / "h5py").glob("*.h5")):
        tally.run(f"anew {golden.name}", anew, golden)
    # Last, and not compiled: Keras 3 takes another optimizer for what it loads from .h5, and for
    # whatever it loads afterwards in the same process.
    for way in ("straight", "archive"):
        tally.run(f"keras 3 .h5, {way}", whole, "keras 3", ".h5", way, False)
