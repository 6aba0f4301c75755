"""Recurrent twins: LSTM (two layers, both directions), GRU and RNN of PyTorch, written for each other
framework, run by that framework's own cells, and back.

Weights come back bit for bit. Biases do where no sum stands between: what a framework with one bias
holds is the sum of torch's two (SUMS), Haiku's less 1 for the forget gate; going there again from
what came back gives the same file. A GRU that resets the state before its weights (Haiku, Keras's
reset_after=False) is another cell: torch's is refused by name, and theirs are each other's twins.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import torch

from common import arrays, convert, entries, fresh, need, nnferry, same_tensors

DTYPES = {"float32": (torch.float32, 1e-5, 1e-6), "float64": (torch.float64, 1e-9, 0.0)}
INPUTS, UNITS, LENGTH, BATCH = 5, 4, 7, 3
NETS = {
    "lstm": lambda: torch.nn.LSTM(INPUTS, UNITS, 2, bidirectional=True, batch_first=True),
    "gru": lambda: torch.nn.GRU(INPUTS, UNITS, 2, bidirectional=True, batch_first=True),
    "rnn": lambda: torch.nn.RNN(INPUTS, UNITS, 2, bidirectional=True, batch_first=True),
}


def randomised(net, seed):
    """Every parameter of a size that tells; of NNX's GRU, the bias it cannot hold is zero."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.from_numpy(draw.normal(size=tuple(p.shape)) * 0.7))
    return net


class Net(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        setattr(self, kind, NETS[kind]())


def stack(cell, tree, x):
    """Two layers, both directions: cell(parameters, x) runs one over time."""
    for layer in range(2):
        ahead = cell(tree[f"l{layer}"], x)
        behind = cell(tree[f"l{layer}_reverse"], x[:, ::-1])[:, ::-1]
        x = np.concatenate([ahead, behind], -1)
    return x


# ---- each framework: how a file is read, and how one cell runs ----


def nested(flat, cut):
    tree = {}
    for name, array in flat.items():
        *path, leaf = cut(name)
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[leaf] = array
    return tree


def flax_read(path):
    from flax import serialization
    return serialization.msgpack_restore(path.read_bytes())["params"]


def flax_cell(kind, dtype):
    import flax.linen as nn
    cls = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}[kind]
    cell = nn.RNN(cls(UNITS, dtype=dtype, param_dtype=dtype))
    return lambda p, x: np.asarray(cell.apply({"params": {"cell": p}}, jnp.asarray(x)))


def nnx_read(path):
    from flax import serialization
    return serialization.msgpack_restore(path.read_bytes())


def nnx_cell(kind, dtype):
    from flax import nnx
    cls = {"lstm": nnx.LSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}[kind]

    def run(p, x):
        width = x.shape[-1]
        cell = cls(width, UNITS, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
        nnx.update(cell, nnx.State(p))
        return np.asarray(nnx.RNN(cell)(jnp.asarray(x)))
    return run


def haiku_read(path):
    import pickle
    flat = pickle.loads(path.read_bytes())
    flat = flat.get("params", flat)
    return nested({f"{module}/{leaf}": a for module, d in flat.items() for leaf, a in d.items()},
                  lambda name: name.split("/"))


def haiku_cell(kind, dtype):
    import haiku as hk
    cls = {"lstm": hk.LSTM, "gru": hk.GRU, "rnn": hk.VanillaRNN}[kind]

    def run(p, x):
        def f(x):
            core = cls(UNITS, name="core")
            state = jax.tree_util.tree_map(lambda a: a.astype(dtype), core.initial_state(len(x)))
            return hk.dynamic_unroll(core, x, state, time_major=False)[0]
        flat = {}
        for name, v in p.items():
            if isinstance(v, dict):
                flat[f"core/{name}"] = v
            else:
                flat.setdefault("core", {})[name] = v
        return np.asarray(hk.without_apply_rng(hk.transform(f)).apply(flat, jnp.asarray(x)))
    return run


def keras_read(path):
    import h5py
    flat = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, a: flat.update({name: a[()]} if hasattr(a, "dtype") else {}))
    cells = {}
    for name, a in flat.items():
        *path, leaf = [part.split(":")[0] for part in name.split("/")]
        layer = next(part for part in path if part.startswith("l") and part[1:2].isdigit())
        kind = next(part for part in path if part in NETS)
        cells.setdefault(kind, {}).setdefault(layer, {})[leaf] = a
    return cells


def keras_cell(kind, dtype):
    import keras
    cls = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU,
           "rnn": keras.layers.SimpleRNN}[kind]

    def run(p, x):
        more = {"reset_after": p["bias"].ndim == 2} if kind == "gru" else {}
        layer = cls(UNITS, return_sequences=True, dtype=dtype, **more)
        layer.build(x.shape)
        layer.set_weights([p["kernel"], p["recurrent_kernel"], p["bias"]])
        return np.asarray(layer(np.ascontiguousarray(x)))
    return run


def equinox_read(path):
    import json
    with open(path, "rb") as f:
        names = json.loads(f.readline())["nnferry.leaves"]
        return nested({name: np.load(f) for name in names}, lambda name: name.split("."))


def equinox_cell(kind, dtype):
    import equinox as eqx
    cls = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind]

    def run(p, x):
        cell = cls(x.shape[-1], UNITS, dtype=dtype, key=jax.random.PRNGKey(0))
        keys = sorted(p)
        cell = eqx.tree_at(lambda c: [getattr(c, k) for k in keys], cell,
                           [jnp.asarray(p[k]) for k in keys])

        def one(x):
            start = jnp.zeros(UNITS, dtype)
            start = (start, start) if kind == "lstm" else start

            def step(state, x):
                state = cell(x, state)
                return state, state[0] if kind == "lstm" else state
            return jax.lax.scan(step, start, x)[1]
        return np.asarray(jax.vmap(one)(jnp.asarray(x)))
    return run


FRAMEWORKS = {
    "equinox": ("eqx", equinox_read, equinox_cell),
    "flax": ("msgpack", flax_read, flax_cell),
    "nnx": ("msgpack", nnx_read, nnx_cell),
    "haiku": ("pkl", haiku_read, haiku_cell),
    "keras": ("h5", keras_read, keras_cell),
}


def held(path, read):
    """What a file holds, for comparing: by the independent reader, or by the framework's own."""
    if path.suffix in (".pt", ".msgpack"):
        return entries(path)
    flat, rest = {}, [("", read(path))]
    while rest:
        at, v = rest.pop()
        if isinstance(v, dict):
            rest.extend((f"{at}/{k}", x) for k, x in v.items())
        else:
            flat[at] = np.asarray(v)
    return arrays(flat)


# Tensors of torch that do not come back as they went: the first holds the sum, the second zeros
# (Haiku: 1 for the forget gate's). bound: |sum - (b_ih + b_hh)| in units of the last place.
SUMS = {
    ("flax", "lstm"): "all", ("flax", "gru"): "r z", ("flax", "rnn"): "all",
    ("nnx", "lstm"): "all", ("nnx", "gru"): "r z", ("nnx", "rnn"): "all",
    ("keras", "lstm"): "all", ("keras", "rnn"): "all",
    ("haiku", "lstm"): "all",
    ("equinox", "lstm"): "all", ("equinox", "gru"): "r z",
}


def same_biases(sd, back, name, kind):
    """What a sum of biases leaves of them: its value, and zeros (or Haiku's 1) beside it."""
    state = SUMS.get((name, kind))
    for key in (k for k in sd if "bias_ih" in k):
        other = key.replace("bias_ih", "bias_hh")
        a, b, c, d = sd[key], sd[other], back[key], back[other]
        if not state:
            need(np.array_equal(a, c) and np.array_equal(b, d), f"{key}: not as it was")
            continue
        part = slice(0, 2 * UNITS if state == "r z" else None)
        eps = np.finfo(a.dtype).eps * 4 * max(1.0, np.abs(a).max() + np.abs(b).max())
        need(np.abs((a + b)[part] - (c + d)[part]).max() <= eps, f"{key}: not the sum")
        if state == "r z":
            need(np.array_equal(a[2 * UNITS:], c[2 * UNITS:]) and
                 np.array_equal(b[2 * UNITS:], d[2 * UNITS:]), f"{key}: gate n is not as it was")
        want = np.zeros_like(d)
        if name == "haiku":
            want[UNITS:2 * UNITS] = 1
        need(np.array_equal(d[part], want[part]), f"{other}: neither zero nor what the rules say")


def twin(kind, name, precision):
    suffix, read, cell = FRAMEWORKS[name]
    dtype, rtol, atol = DTYPES[precision]
    where = fresh("rnn_twins")
    net = randomised(Net(kind).to(dtype), 3)
    if (name, kind) == ("nnx", "gru"):
        with torch.no_grad():
            for key, p in net.named_parameters():
                if "bias_hh" in key:
                    p[2 * UNITS:] = 0
    if (name, kind) == ("haiku", "rnn"):
        for module in net.children():
            module.nonlinearity, module.mode = "relu", "RNN_RELU"
    torch.save(net.state_dict(), where / "in.pt")
    out = where / f"out.{suffix}"
    if (name, kind) in (("haiku", "gru"), ("equinox", "rnn")):
        got = convert(where / "in.pt", out, "--to", name, exit=4)
        need("cell-unlike" in got.stderr, f"refused for another reason: {got.stderr[-200:]}")
        return
    convert(where / "in.pt", out, "--to", name)
    x = np.random.default_rng(9).normal(size=(BATCH, LENGTH, INPUTS)).astype(precision)
    with torch.no_grad():
        ref = getattr(net, kind)(torch.from_numpy(x))[0].numpy()
    got = stack(cell(kind, precision), read(out)[kind], x)
    need(got.shape == ref.shape and np.allclose(got, ref, rtol=rtol, atol=atol + 1e-11),
         f"outputs differ by {np.abs(got - ref).max():.3g}")
    nnferry("validate", "--device", "native", where / "in.pt", out, "--to", name)

    convert(out, where / "back.pt", "--from", name, "--to", "pytorch")
    sd = {k: v.numpy() for k, v in net.state_dict().items()}
    back = {k: v.numpy() for k, v in torch.load(where / "back.pt", weights_only=True).items()}
    need(sorted(sd) == sorted(back), f"other names: {sorted(set(sd) ^ set(back))[:4]}")
    same_tensors(arrays({k: v for k, v in back.items() if "weight" in k}),
                 arrays({k: v for k, v in sd.items() if "weight" in k}), "back")
    same_biases(sd, back, name, kind)
    other = Net(kind).to(dtype)
    other.load_state_dict(torch.load(where / "back.pt", weights_only=True))
    if (name, kind) == ("haiku", "rnn"):
        for module in other.children():
            module.nonlinearity, module.mode = "relu", "RNN_RELU"
    with torch.no_grad():
        again = getattr(other, kind)(torch.from_numpy(x))[0].numpy()
    need(np.allclose(again, ref, rtol=rtol, atol=atol + 1e-11), "back in torch, other outputs")
    # from here on nothing is rounded any more
    convert(where / "back.pt", where / f"again.{suffix}", "--to", name)
    same_tensors(held(where / f"again.{suffix}", read), held(out, read), "there again")
    for made in ("in.pt", f"out.{suffix}"):
        convert(where / made, where / "a.tar.zst", *(() if made == "in.pt" else ("--from", name)))
        ending = made.split(".")[-1]
        convert(where / "a.tar.zst", where / f"restored.{ending}", "--to", "source")
        same_tensors(held(where / f"restored.{ending}", read), held(where / made, read),
                     "archive")


def before(precision):
    """A GRU that resets first: Keras's reset_after=False, Haiku's, and back."""
    import keras
    where = fresh("rnn_before")
    layer = keras.layers.GRU(UNITS, return_sequences=True, reset_after=False, dtype=precision,
                             name="gru")
    model = keras.Sequential([keras.layers.Input((LENGTH, INPUTS), dtype=precision), layer])
    draw = np.random.default_rng(4)
    layer.set_weights([draw.normal(size=w.shape).astype(precision) for w in layer.get_weights()])
    model.save(where / "in.keras")
    x = draw.normal(size=(BATCH, LENGTH, INPUTS)).astype(precision)
    ref = np.asarray(layer(x))
    convert(where / "in.keras", where / "out.pkl", "--to", "haiku", "--weights-only")
    p = haiku_read(where / "out.pkl")["gru"]["l0"]
    _, rtol, atol = DTYPES[precision]
    got = haiku_cell("gru", precision)(p, x)
    need(np.allclose(got, ref, rtol=rtol, atol=atol + 1e-11),
         f"outputs differ by {np.abs(got - ref).max():.3g}")
    convert(where / "out.pkl", where / "back.h5", "--to", "keras")
    back = keras_read(where / "back.h5")["gru"]["l0"]
    for key, want in zip(("kernel", "recurrent_kernel", "bias"), layer.get_weights()):
        need(np.array_equal(back[key], want), f"{key}: not as it was")
    got = convert(where / "in.keras", where / "no.pt", "--to", "pytorch", exit=4)
    need("cell-unlike" in got.stderr, f"refused for another reason: {got.stderr[-200:]}")


def run(tally):
    jax.config.update("jax_enable_x64", True)
    for kind in NETS:
        for name in FRAMEWORKS:
            for precision in DTYPES:
                tally.run(f"{kind} {name} {precision}", twin, kind, name, precision)
    for precision in DTYPES:
        tally.run(f"gru before {precision}", before, precision)
