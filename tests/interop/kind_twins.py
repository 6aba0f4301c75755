"""Twins of layer kinds that few models have.

PReLU: PyTorch's slopes, one or one for each channel, in each framework that has them, run there, and
back bit for bit; Keras's slopes for each position, which only Equinox has too. What a framework
cannot hold is refused by name.

CuDNN cells: weights files of Keras 2's CuDNNLSTM and CuDNNGRU, made by tf_keras; --upgrade gives the
bits that its own loader gives, and PyTorch the same outputs.

Keras 3's ReversibleEmbedding with a head of its own, several cells on each other in one layer, and
attention with fewer heads of keys and values: PyTorch's layers give the same outputs, and what comes back is bit for bit what it was.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json

import jax
import jax.numpy as jnp
import numpy as np
import torch

from common import arrays, convert, fresh, need, same_tensors

DTYPES = {"float32": (torch.float32, 1e-5, 1e-6), "float64": (torch.float64, 1e-9, 0.0)}
CHANNELS, SIDE = 6, 4


def close(got, ref, precision):
    _, rtol, atol = DTYPES[precision]
    need(got.shape == ref.shape, f"shape {got.shape}, expected {ref.shape}")
    need(np.allclose(got, ref, rtol=rtol, atol=atol),
         f"outputs differ by {np.abs(got - ref).max():.3g}")


def map_file(where, *lines):
    path = where / "rules.map"
    path.write_text("# nnferry-map 1\n" + "".join(line + "\n" for line in lines))
    return ["--map", path] if lines else []


def refused(code, source, target, *options):
    got = convert(source, target, *options, exit=4)
    need(f"{code}:" in got.stderr, f"not refused as {code}: {got.stderr.strip()[-300:]}")


# ---- PReLU: how each framework's own class runs the slopes that were written; x is [N,C,H,W] ----


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def flax_prelu(path, x):
    import flax.linen as nn
    from flax import serialization
    tree = serialization.msgpack_restore(path.read_bytes())["params"]["act"]
    y = nn.PReLU(param_dtype=x.dtype).apply({"params": tree}, jnp.asarray(channels_last(x)))
    return np.moveaxis(np.asarray(y), -1, 1)


def nnx_prelu(path, x):
    from flax import nnx, serialization
    act = nnx.PReLU(param_dtype=x.dtype)
    nnx.update(act, nnx.State(serialization.msgpack_restore(path.read_bytes())["act"]))
    return np.moveaxis(np.asarray(act(jnp.asarray(channels_last(x)))), -1, 1)


def equinox_prelu(path, x):
    import equinox as eqx
    with open(path, "rb") as f:
        names = json.loads(f.readline())["nnferry.leaves"]
        slope = {name: np.load(f) for name in names}["act.negative_slope"]
    act = eqx.nn.PReLU(jnp.asarray(slope))
    return np.asarray(jax.vmap(act)(jnp.asarray(x)))


def keras_prelu(path, x):
    import h5py
    import keras
    found = []
    with h5py.File(path) as f:
        f.visititems(lambda name, a: found.append(a[()]) if "alpha" in name and
                     hasattr(a, "dtype") else None)
    shared = [d + 1 for d, n in enumerate(found[0].shape) if n == 1]
    act = keras.layers.PReLU(shared_axes=shared or None, dtype=x.dtype.name)
    act.build((None, *channels_last(x).shape[1:]))
    act.set_weights(found)
    return np.moveaxis(np.asarray(act(channels_last(x))), -1, 1)


FRAMEWORKS = {"flax": ("msgpack", flax_prelu), "nnx": ("msgpack", nnx_prelu),
              "equinox": ("eqx", equinox_prelu), "keras": ("h5", keras_prelu)}
ONLY_ONE = ("flax", "nnx")


def prelu(name, slopes, precision):
    dtype, _, _ = DTYPES[precision]
    where, (suffix, run) = fresh("kind_twins"), FRAMEWORKS[name]
    draw = np.random.default_rng(3)
    net = torch.nn.ModuleDict({"act": torch.nn.PReLU(slopes).to(dtype)})
    with torch.no_grad():
        net["act"].weight.copy_(torch.from_numpy(draw.normal(size=slopes)))
    torch.save(net.state_dict(), where / "in.pt")
    x = draw.normal(size=(2, CHANNELS, SIDE, SIDE)).astype(precision)
    out = where / f"out.{suffix}"
    if name in ONLY_ONE and slopes > 1:
        return refused("prelu-shape", where / "in.pt", out, "--to", name)
    asked = name == "keras" or (name == "equinox" and slopes > 1)
    if asked:
        refused("map-ambiguous", where / "in.pt", out, "--to", name)
    there = map_file(where, "rank act = 4") if asked else []
    convert(where / "in.pt", out, "--to", name, *there)
    with torch.no_grad():
        close(run(out, x), net["act"](torch.from_numpy(x)).numpy(), precision)
    convert(out, where / "back.pt", "--from", name, "--to", "pytorch")
    back = torch.load(where / "back.pt", weights_only=True)
    same_tensors(arrays({k: v.numpy() for k, v in back.items()}),
                 arrays({k: v.numpy() for k, v in net.state_dict().items()}), "back")


def prelu_of_a_net():
    """The convolution before it says how many axes it reads."""
    where = fresh("kind_twins")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, CHANNELS, 3), torch.nn.PReLU(CHANNELS))
    torch.save(net.state_dict(), where / "in.pt")
    convert(where / "in.pt", where / "out.eqx", "--to", "equinox",
            *map_file(where, "kind 1 = prelu"))
    back = where / "back.pt"
    convert(where / "out.eqx", back, "--from", "equinox", "--to", "pytorch",
            *map_file(where, "kind 0 = conv"))
    same_tensors(arrays({k: v.numpy() for k, v in torch.load(back, weights_only=True).items()}),
                 arrays({k: v.numpy() for k, v in net.state_dict().items()}), "back")


def prelu_map(precision):
    """Keras's slopes for each position: Equinox broadcasts any shape, the others refuse."""
    import keras
    keras.backend.clear_session()
    where, draw = fresh("kind_twins"), np.random.default_rng(4)
    model = keras.Sequential([keras.Input((SIDE, SIDE + 1, CHANNELS), dtype=precision),
                              keras.layers.PReLU(name="act", dtype=precision)])
    model.layers[0].set_weights([draw.normal(size=(SIDE, SIDE + 1, CHANNELS))])
    x = draw.normal(size=(2, CHANNELS, SIDE, SIDE + 1)).astype(precision)
    ref = np.moveaxis(np.asarray(model(channels_last(x))), -1, 1)
    for source in ("in.weights.h5", "in.keras", "in.h5"):
        (model.save_weights if "weights" in source else model.save)(where / source)
        convert(where / source, where / "out.eqx", "--to", "equinox")
        close(equinox_prelu(where / "out.eqx", x), ref, precision)
        refused("prelu-shape", where / source, where / "out.pt", "--to", "pytorch")
        refused("prelu-shape", where / source, where / "out.msgpack", "--to", "flax")
        refused("prelu-unknown", where / source, where / "out.pkl", "--to", "haiku")
        convert(where / source, where / "kept.tar.zst")
        convert(where / "kept.tar.zst", where / "again.eqx", "--to", "equinox")
        need((where / "again.eqx").read_bytes() == (where / "out.eqx").read_bytes(),
             "not the same by way of the archive")
        if source != "in.h5":
            convert(where / "out.eqx", where / "back.h5", "--from", "equinox", "--to", "keras")
            close(keras_prelu(where / "back.h5", x), ref, precision)


# ---- cells in the order of CuDNN ----


def cudnn():
    import tf_keras
    from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM
    where, draw = fresh("kind_twins"), np.random.default_rng(5)
    layers = tf_keras.layers

    def net(lstm, gru):
        return tf_keras.Sequential([tf_keras.Input((7, 5)), lstm, gru])

    def plain():
        return net(layers.LSTM(4, return_sequences=True, name="enc"),
                   layers.GRU(3, reset_after=True, name="dec"))

    old = net(CuDNNLSTM(4, return_sequences=True, name="enc"), CuDNNGRU(3, name="dec"))
    for layer in old.layers:
        layer.set_weights([draw.normal(size=w.shape) for w in layer.get_weights()])
    old.save_weights(where / "in.h5")
    want = plain()
    want.load_weights(where / "in.h5")
    refused("cudnn-cell", where / "in.h5", where / "out.pt", "--to", "pytorch")
    convert(where / "in.h5", where / "out.h5", "--upgrade")
    got = plain()
    got.load_weights(where / "out.h5")
    for a, b in zip(got.get_weights(), want.get_weights()):
        need(np.array_equal(a, b), "not what Keras's own loader makes of them")
    convert(where / "in.h5", where / "out.pt", "--to", "pytorch", "--upgrade")
    sd = torch.load(where / "out.pt", weights_only=True)
    enc = torch.nn.LSTM(5, 4, batch_first=True)
    dec = torch.nn.GRU(4, 3, batch_first=True)
    enc.load_state_dict({k[4:]: v for k, v in sd.items() if k.startswith("enc")})
    dec.load_state_dict({k[4:]: v for k, v in sd.items() if k.startswith("dec")})
    x = draw.normal(size=(2, 7, 5)).astype("float32")
    with torch.no_grad():
        close(dec(enc(torch.from_numpy(x))[0])[0][:, -1].numpy(), want(x).numpy(), "float32")


# ---- layers of Keras 3 that PyTorch has in pieces ----


def pieces(make, x, run, precision, call=lambda layer, x: layer(x)):
    """A model of make(); what came of it in PyTorch, run by run(state_dict, x), and back."""
    import keras
    keras.backend.clear_session()
    keras.backend.set_floatx(precision)
    where, draw = fresh("kind_twins"), np.random.default_rng(6)
    given = keras.Input(x.shape[1:], dtype=x.dtype.name)
    model = keras.Model(given, call(make(keras.layers), given))
    model.set_weights([draw.normal(size=w.shape) for w in model.get_weights()])
    model.save(where / "in.keras")
    convert(where / "in.keras", where / "out.pt", "--to", "pytorch")
    sd = torch.load(where / "out.pt", weights_only=True)
    with torch.no_grad():
        close(run(sd, torch.from_numpy(x)).numpy(), np.asarray(model(x)), precision)
    convert(where / "out.pt", where / "back.keras", "--like", where / "in.keras")
    back = keras.saving.load_model(where / "back.keras")
    for a, b in zip(back.get_weights(), model.get_weights()):
        need(np.array_equal(a, b), "back: not as it was")
    keras.backend.set_floatx("float32")


def reversible(precision):
    def make(layers):
        return layers.ReversibleEmbedding(11, 6, tie_weights=False, name="table", dtype=precision)
    x = np.random.default_rng(7).integers(0, 11, size=(2, 5)).astype("int32")

    def run(sd, x):
        need(sorted(sd) == ["table.reverse.weight", "table.weight"], f"names {sorted(sd)}")
        need(sd["table.reverse.weight"].shape == (11, 6), "the head is not [out,in]")
        return torch.nn.functional.embedding(x, sd["table.weight"])
    pieces(make, x, run, precision)


def stacked(precision):
    def make(layers):
        cells = [layers.LSTMCell(4, dtype=precision), layers.LSTMCell(3, dtype=precision)]
        return layers.RNN(cells, return_sequences=True, name="enc", dtype=precision)
    x = np.random.default_rng(7).normal(size=(2, 5, 6)).astype(precision)

    def run(sd, x):
        states = []
        for name, inputs, units in (("lstm_cell", 6, 4), ("lstm_cell_1", 4, 3)):
            cell = torch.nn.LSTMCell(inputs, units, dtype=x.dtype)
            own = {k.rsplit(".", 1)[1]: v for k, v in sd.items() if k.split(".")[-2] == name}
            cell.load_state_dict({"bias_hh": torch.zeros(4 * units, dtype=x.dtype), **own})
            zero = torch.zeros(2, units, dtype=x.dtype)
            states.append([cell, (zero, zero)])
        out = []
        for t in range(x.shape[1]):
            y = x[:, t]
            for state in states:
                state[1] = state[0](y, state[1])
                y = state[1][0]
            out.append(y)
        return torch.stack(out, 1)
    pieces(make, x, run, precision)


def grouped(precision):
    heads, fewer, width = 6, 2, 4  # a width whose root has no rounding
    x = np.random.default_rng(7).normal(size=(2, 5, 6)).astype(precision)

    def run(sd, x):
        def part(name):
            own = {k.rsplit(".", 1)[1]: v for k, v in sd.items() if k.startswith(f"att.{name}")}
            return own["weight"], own["bias"]

        def parted(name, n):
            y = torch.nn.functional.linear(x, *part(name)).unflatten(-1, (n, width))
            return y.transpose(1, 2).repeat_interleave(heads // n, 1)
        y = torch.nn.functional.scaled_dot_product_attention(
            parted("query", heads), parted("key", fewer), parted("value", fewer))
        return torch.nn.functional.linear(y.transpose(1, 2).flatten(2), *part("output"))
    pieces(lambda layers: layers.GroupQueryAttention(width, heads, fewer, name="att",
                                                     dtype=precision),
           x, run, precision, lambda layer, x: layer(x, x))


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for precision in DTYPES:
        for name in FRAMEWORKS:
            for slopes in (1, CHANNELS):
                tally.run(f"prelu {name} {slopes} {precision}", prelu, name, slopes, precision)
        tally.run(f"prelu of each position {precision}", prelu_map, precision)
        tally.run(f"reversible embedding {precision}", reversible, precision)
        tally.run(f"cells on each other {precision}", stacked, precision)
        tally.run(f"grouped queries {precision}", grouped, precision)
    tally.run("prelu of a net", prelu_of_a_net)
    tally.run("cudnn cells", cudnn)
