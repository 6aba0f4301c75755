"""The frameworks' defaults as the binary's table has them (`formats --json`), against the frameworks
themselves: each argument's default out of its signature or of an instance, and what it means by
running the layer. A row that no reader here knows is a failure, and so is a reader without a row."""

import inspect
import json
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import equinox as eqx
import flax.linen as fnn
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from flax import nnx

from common import convert, fresh, need, nnferry

RNG = np.random.default_rng(5)


def table():
    found = json.loads(nnferry("formats", "--json").stdout)["defaults"]
    return {(f["framework"], f["of"], f["setting"]): f for f in found}


def default(function, argument):
    """None: it must be given."""
    p = inspect.signature(function).parameters[argument]
    return None if p.default is inspect.Parameter.empty else shown(p.default)


def shown(value):
    if isinstance(value, str):
        return "'%s'" % value
    if isinstance(value, tuple) and value and all(v == value[0] for v in value):
        return shown(value[0])  # one number for every axis
    if callable(value):
        return getattr(value, "__name__", str(value))
    if isinstance(value, float):
        return "%g" % value
    return str(value)


def keras_2():
    import tf_keras
    return tf_keras


# (framework, of, setting): where the argument is read. A Keras 2 row has its own module.
def readers():
    tk = keras_2()
    n, tn = keras.layers, tk.layers
    norms = {"batchnorm": (torch.nn.BatchNorm2d, "BatchNormalization", fnn.BatchNorm, nnx.BatchNorm,
                           hk.BatchNorm, eqx.nn.BatchNorm),
             "layernorm": (torch.nn.LayerNorm, "LayerNormalization", fnn.LayerNorm, nnx.LayerNorm,
                           hk.LayerNorm, eqx.nn.LayerNorm),
             "groupnorm": (torch.nn.GroupNorm, "GroupNormalization", fnn.GroupNorm, nnx.GroupNorm,
                           hk.GroupNorm, eqx.nn.GroupNorm),
             "rmsnorm": (torch.nn.RMSNorm, "RMSNormalization", fnn.RMSNorm, nnx.RMSNorm, hk.RMSNorm,
                         eqx.nn.RMSNorm),
             "conv": (torch.nn.Conv2d, "Conv2D", fnn.Conv, nnx.Conv, hk.Conv2D, eqx.nn.Conv2d),
             "conv_transpose": (torch.nn.ConvTranspose2d, "Conv2DTranspose", fnn.ConvTranspose,
                                nnx.ConvTranspose, hk.Conv2DTranspose, eqx.nn.ConvTranspose2d),
             "max_pool": (torch.nn.MaxPool2d, "MaxPooling2D", fnn.max_pool, nnx.max_pool,
                          hk.max_pool, eqx.nn.MaxPool2d),
             "avg_pool": (torch.nn.AvgPool2d, "AveragePooling2D", fnn.avg_pool, nnx.avg_pool,
                          hk.avg_pool, eqx.nn.AvgPool2d)}
    cells = {"lstm": ("LSTM", fnn.LSTMCell, nnx.LSTMCell), "gru": ("GRU", fnn.GRUCell, nnx.GRUCell),
             "conv_lstm": ("ConvLSTM2D", fnn.ConvLSTMCell, None),
             "gru_before": ("GRU", None, None), "rnn": ("SimpleRNN", fnn.SimpleCell, nnx.SimpleCell)}
    out = {}
    for of, (pt, name, flax, nn, haiku, equinox) in norms.items():
        out[of] = {"pytorch": pt, "keras": getattr(n, name, None), "tensorflow": getattr(tn, name, None),
                   "flax": flax, "nnx": nn, "haiku": haiku, "equinox": equinox}
    for of, (name, flax, nn) in cells.items():
        out[of] = {"pytorch": {"rnn": torch.nn.RNN}.get(of), "keras": getattr(n, name),
                   "tensorflow": getattr(tn, name), "flax": flax, "nnx": nn}
    out["gelu"] = {"pytorch": torch.nn.GELU, "keras": keras.activations.gelu,
                   "tensorflow": tk.activations.gelu, "flax": fnn.gelu, "nnx": nnx.gelu,
                   "haiku": jax.nn.gelu, "equinox": jax.nn.gelu}
    out["leaky_relu"] = {"pytorch": torch.nn.LeakyReLU, "keras": n.LeakyReLU,
                         "tensorflow": tn.LeakyReLU, "flax": fnn.leaky_relu, "nnx": nnx.leaky_relu,
                         "haiku": jax.nn.leaky_relu, "equinox": jax.nn.leaky_relu}
    local = tn.LocallyConnected2D  # Keras 3 has none
    out["conv_local"] = {"keras": local, "tensorflow": local, "flax": fnn.ConvLocal}
    out["attention"] = {"pytorch": torch.nn.MultiheadAttention}
    out["rope"] = {}
    out["hard_sigmoid"] = {}
    return out


def where(read, row):
    """The signature that holds a row's argument."""
    framework, of, setting = row["framework"], row["of"], row["setting"]
    if setting == "batch":
        return {"pytorch": {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN,
                            "attention": torch.nn.MultiheadAttention}.get(of),
                "tensorflow": keras_2().layers.RNN, "flax": fnn.RNN, "nnx": nnx.RNN,
                "haiku": hk.dynamic_unroll}[framework]
    return read[of][framework]


def argument(read, row):
    """The default that the row names is the framework's."""
    if row["argument"] is None:
        need(row["value"] is None, "a value of no argument")
        return
    owner = where(read, row)
    need(owner is not None, "the framework has no such layer")
    if owner is torch.nn.RNN and row["setting"] == "activation":
        need(shown(torch.nn.RNN(1, 1).nonlinearity) == row["value"], torch.nn.RNN(1, 1).nonlinearity)
        return
    if inspect.isclass(owner) and owner in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN):
        need(shown(owner(1, 1).batch_first) == row["value"], owner(1, 1).batch_first)
        return
    if inspect.isclass(owner) and row["framework"] in ("pytorch", "equinox", "tensorflow", "keras",
                                                       "haiku", "nnx"):
        owner = owner.__init__
    if row["argument"] not in inspect.signature(owner).parameters and row["of"] == "avg_pool":
        owner = owner.__mro__[1].__init__
    got = default(owner, row["argument"])
    if row["setting"] == "gates" or row["setting"] == "activation":
        got = got.strip("'") if got else got
        need(got == row["value"].strip("'"), f"{got}, not {row['value']}")
        return
    need(got == row["value"] or (got and row["value"] and number(got) is not None and
                                 number(got) == number(row["value"])),
         f"{row['argument']}={got}, not {row['value']}")


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


# ---- what it means ----

def x4(c=4):
    return RNG.normal(size=(6, 5, 5, c)).astype(np.float32) + 3


def moving_mean(framework):
    """The share of the old mean (0) that one update on a batch of mean m keeps."""
    x = x4()
    m = x.mean((0, 1, 2))
    if framework == "pytorch":
        bn = torch.nn.BatchNorm2d(4)
        bn(torch.tensor(x.transpose(0, 3, 1, 2)))
        got = bn.running_mean.numpy()
    elif framework in ("keras", "tensorflow"):
        layers = keras.layers if framework == "keras" else keras_2().layers
        bn = layers.BatchNormalization()
        bn(x, training=True)
        got = np.asarray(bn.moving_mean)
    elif framework == "flax":
        bn = fnn.BatchNorm(use_running_average=False)
        _, new = bn.apply(bn.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        got = np.asarray(new["batch_stats"]["mean"])
    elif framework == "nnx":
        bn = nnx.BatchNorm(4, use_running_average=False, rngs=nnx.Rngs(0))
        bn(jnp.asarray(x))
        got = np.asarray(bn.mean[...])
    else:  # equinox: its first update takes the batch's as it is, so a second one from 0
        bn, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, axis_name="b", mode="ema")
        run = jax.vmap(bn, axis_name="b", in_axes=(0, None), out_axes=(0, None))
        chw = x.transpose(0, 3, 1, 2)
        _, state = run(jnp.asarray(chw - m[:, None, None]), state)
        _, state = run(jnp.asarray(chw), state)
        got = np.asarray(state.get(bn.ema_state_index)[0])
    return 1 - float(np.mean(got / m))


def factor_of(framework):
    """By what a new RMS norm, whose weight is 1, multiplies."""
    x = np.ones((2, 8), np.float32)
    if framework == "flax":
        layer = fnn.RMSNorm()
        params = layer.init(jax.random.key(0), x)
        w, y = params["params"]["scale"], layer.apply(params, x)
    elif framework == "haiku":
        t = hk.without_apply_rng(hk.transform(lambda v: hk.RMSNorm(-1)(v)))
        params = t.init(jax.random.key(0), x)
        w, y = params["rms_norm"]["scale"], t.apply(params, x)
    else:
        layer = {"pytorch": lambda: torch.nn.RMSNorm(8), "keras": keras.layers.RMSNormalization,
                 "nnx": lambda: nnx.RMSNorm(8, rngs=nnx.Rngs(0)),
                 "equinox": lambda: eqx.nn.RMSNorm(8)}[framework]()
        y = jax.vmap(layer)(x) if framework == "equinox" else layer(
            torch.tensor(x) if framework == "pytorch" else jnp.asarray(x) if framework == "nnx" else x)
        w = layer.scale if framework in ("nnx", "keras") else layer.weight
    w, y = (np.asarray(v.detach() if isinstance(v, torch.Tensor) else v) for v in (w, y))
    need(np.allclose(w, 1), f"a new norm's weight is {w}")
    return {1: "weight", 2: "weight + 1"}[round(float(y.mean()))]


def spread(framework, of):
    """What is added to a variance of v: from the output on an input that varies little."""
    c = 32  # as many as the groups that some take by default
    if of == "groupnorm":
        c = 64
    x = (RNG.normal(size=(2, 3, 3, c)) * 1e-3).astype(np.float32)
    ct = torch.tensor(x.transpose(0, 3, 1, 2))
    axes, y = {"batchnorm": (0, 1, 2), "layernorm": (3,), "rmsnorm": (3,)}.get(of), None
    if framework == "pytorch":
        y = {"batchnorm": lambda: torch.nn.BatchNorm2d(c)(ct).detach().numpy().transpose(0, 2, 3, 1),
             "layernorm": lambda: torch.nn.LayerNorm(c)(torch.tensor(x)).detach().numpy(),
             "rmsnorm": lambda: torch.nn.RMSNorm(c)(torch.tensor(x)).detach().numpy(),
             "groupnorm": lambda: torch.nn.GroupNorm(32, c)(ct).detach().numpy().transpose(0, 2, 3, 1)}[of]()
    elif framework in ("keras", "tensorflow"):
        layers = keras.layers if framework == "keras" else keras_2().layers
        layer = getattr(layers, {"batchnorm": "BatchNormalization", "layernorm": "LayerNormalization",
                                 "groupnorm": "GroupNormalization", "rmsnorm": "RMSNormalization"}[of])()
        y = np.asarray(layer(x, training=True) if of == "batchnorm" else layer(x))
    elif framework == "flax":
        layer = {"batchnorm": lambda: fnn.BatchNorm(use_running_average=False), "layernorm": fnn.LayerNorm,
                 "groupnorm": fnn.GroupNorm, "rmsnorm": fnn.RMSNorm}[of]()
        y = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])[0]
    elif framework == "nnx":
        kind = {"batchnorm": nnx.BatchNorm, "layernorm": nnx.LayerNorm, "groupnorm": nnx.GroupNorm,
                "rmsnorm": nnx.RMSNorm}[of]
        y = kind(c, rngs=nnx.Rngs(0))(jnp.asarray(x))
    elif framework == "haiku":
        def f(v):
            if of == "batchnorm":
                return hk.BatchNorm(True, True, 0.9)(v, is_training=True)
            if of == "groupnorm":
                return hk.GroupNorm(32)(v)
            return hk.LayerNorm(-1, True, True)(v) if of == "layernorm" else hk.RMSNorm(-1)(v)
        t = hk.transform_with_state(f)
        p, s = t.init(jax.random.key(0), x)
        y = t.apply(p, s, None, x)[0]
    else:
        if of == "batchnorm":
            bn, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(c, axis_name="b", mode="ema")
            y, _ = jax.vmap(bn, axis_name="b", in_axes=(0, None), out_axes=(0, None))(
                jnp.asarray(x.transpose(0, 3, 1, 2)), state)
            y = np.asarray(y).transpose(0, 2, 3, 1)
        elif of == "groupnorm":
            y = np.asarray(jax.vmap(eqx.nn.GroupNorm(32, c))(x.transpose(0, 3, 1, 2))).transpose(0, 2, 3, 1)
        else:
            kind = eqx.nn.LayerNorm if of == "layernorm" else eqx.nn.RMSNorm
            y = jax.vmap(jax.vmap(jax.vmap(kind(c))))(x)
    y = np.asarray(y, np.float64)
    x = x.astype(np.float64)
    if of == "groupnorm":
        g = x.reshape(2, 3, 3, 32, c // 32)
        z = (g - g.mean((1, 2, 4), keepdims=True))
        v = np.broadcast_to(g.var((1, 2, 4), keepdims=True), g.shape).reshape(x.shape)
        z = z.reshape(x.shape)
    elif of == "rmsnorm":
        z, v = x, np.broadcast_to((x * x).mean(axes, keepdims=True), x.shape)
    else:
        z = x - x.mean(axes, keepdims=True)
        v = np.broadcast_to(x.var(axes, keepdims=True), x.shape)
    far = np.abs(z) > 1e-4
    return float(np.median((z[far] / y[far]) ** 2 - v[far]))


def gelu_of(framework):
    f = {"pytorch": lambda v: torch.nn.GELU()(torch.tensor(v)).numpy(),
         "keras": lambda v: np.asarray(keras.activations.gelu(v)),
         "tensorflow": lambda v: np.asarray(keras_2().activations.gelu(v)),
         "flax": lambda v: np.asarray(fnn.gelu(v)), "nnx": lambda v: np.asarray(nnx.gelu(v)),
         "haiku": lambda v: np.asarray(jax.nn.gelu(v)), "equinox": lambda v: np.asarray(jax.nn.gelu(v))}
    v = np.linspace(-3, 3, 31).astype(np.float32)
    got = f[framework](v)
    exact = torch.nn.functional.gelu(torch.tensor(v)).numpy()
    near = torch.nn.functional.gelu(torch.tensor(v), approximate="tanh").numpy()
    return "exact" if np.abs(got - exact).max() < np.abs(got - near).max() else "tanh"


def hard_sigmoid_of(framework):
    f = {"pytorch": lambda v: torch.nn.functional.hardsigmoid(torch.tensor(v)).numpy(),
         "keras": lambda v: np.asarray(keras.activations.hard_sigmoid(v)),
         "tensorflow": lambda v: np.asarray(keras_2().activations.hard_sigmoid(keras_2().backend.constant(v))),
         "flax": lambda v: np.asarray(fnn.hard_sigmoid(v)), "nnx": lambda v: np.asarray(nnx.hard_sigmoid(v)),
         "haiku": lambda v: np.asarray(jax.nn.hard_sigmoid(v)),
         "equinox": lambda v: np.asarray(jax.nn.hard_sigmoid(v))}
    got = float(f[framework](np.float32([1]))[0])
    return "x/5+1/2" if abs(got - 0.7) < 1e-6 else "x/6+1/2" if abs(got - 4 / 6) < 1e-6 else str(got)


def border_of(framework):
    """A corner of an average pool with padding over ones: below 1 where padding is counted."""
    x = np.ones((1, 5, 5, 1), np.float32)
    if framework == "pytorch":
        y = torch.nn.AvgPool2d(3, 1, 1)(torch.ones(1, 1, 5, 5)).numpy()
    elif framework in ("keras", "tensorflow"):
        layers = keras.layers if framework == "keras" else keras_2().layers
        y = np.asarray(layers.AveragePooling2D(3, 1, padding="same")(x))
    elif framework in ("flax", "nnx"):
        y = np.asarray((fnn if framework == "flax" else nnx).avg_pool(x, (3, 3), padding="SAME"))
    elif framework == "haiku":
        y = np.asarray(hk.avg_pool(jnp.asarray(x), (1, 3, 3, 1), (1, 1, 1, 1), "SAME"))
    else:
        y = np.asarray(eqx.nn.AvgPool2d(3, 1, 1)(jnp.ones((1, 5, 5))))
    return "counted" if y.min() < 0.9 else "left out"


def conv_lstm_of(framework):
    """The extent that a convolutional LSTM gives of 9."""
    x = np.ones((1, 2, 9, 9, 2), np.float32)
    if framework in ("keras", "tensorflow"):
        layers = keras.layers if framework == "keras" else keras_2().layers
        return layers.ConvLSTM2D(2, 3)(x).shape[1]
    if framework == "flax":
        f = fnn.RNN(fnn.ConvLSTMCell(2, (3, 3)))
        return f.apply(f.init(jax.random.key(0), x), x).shape[2]

    def run(x):
        core = hk.Conv2DLSTM((9, 9), 2, 3)
        return core(x, core.initial_state(1))[0]
    t = hk.transform(run)
    return t.apply(t.init(jax.random.key(0), x[:, 0]), None, x[:, 0]).shape[1]


def padding_of(framework, of):
    """Of extents: 9 read, a kernel of 3: the same number given, or those without padding."""
    if of == "conv_lstm":
        n = conv_lstm_of(framework)
        return "same" if n == 9 else "none" if n == 7 else str(n)
    full = {"conv": 7, "conv_transpose": 11, "conv_local": 7, "max_pool": 7, "avg_pool": 7}[of]
    x = np.ones((1, 9, 9, 2), np.float32)
    chw = x.transpose(0, 3, 1, 2)
    if framework == "pytorch":
        f = {"conv": lambda: torch.nn.Conv2d(2, 2, 3), "conv_transpose": lambda: torch.nn.ConvTranspose2d(2, 2, 3),
             "max_pool": lambda: torch.nn.MaxPool2d(3, 1), "avg_pool": lambda: torch.nn.AvgPool2d(3, 1)}[of]()
        n = f(torch.tensor(chw)).shape[2]
    elif framework in ("keras", "tensorflow") and of == "conv_local":
        n = keras_2().layers.LocallyConnected2D(2, 3)(x).shape[1]
    elif framework in ("keras", "tensorflow"):
        layers = keras.layers if framework == "keras" else keras_2().layers
        f = {"conv": lambda: layers.Conv2D(2, 3), "conv_transpose": lambda: layers.Conv2DTranspose(2, 3),
             "max_pool": lambda: layers.MaxPooling2D(3, 1), "avg_pool": lambda: layers.AveragePooling2D(3, 1)}[of]()
        n = f(x).shape[1]
    elif framework in ("flax", "nnx") and of.endswith("pool"):
        n = getattr(fnn if framework == "flax" else nnx, of)(x, (3, 3), strides=(1, 1)).shape[1]
    elif framework == "flax":
        f = {"conv": fnn.Conv, "conv_local": fnn.ConvLocal}.get(of, fnn.ConvTranspose)(2, (3, 3))
        n = f.apply(f.init(jax.random.key(0), x), x).shape[1]
    elif framework == "nnx":
        f = (nnx.Conv if of == "conv" else nnx.ConvTranspose)(2, 2, (3, 3), rngs=nnx.Rngs(0))
        n = f(jnp.asarray(x)).shape[1]
    elif framework == "haiku":
        t = hk.transform(lambda v: (hk.Conv2D if of == "conv" else hk.Conv2DTranspose)(2, 3)(v))
        n = t.apply(t.init(jax.random.key(0), x), None, x).shape[1]
    else:
        f = {"conv": lambda: eqx.nn.Conv2d(2, 2, 3, key=jax.random.key(0)),
             "conv_transpose": lambda: eqx.nn.ConvTranspose2d(2, 2, 3, key=jax.random.key(0)),
             "max_pool": lambda: eqx.nn.MaxPool2d(3, 1), "avg_pool": lambda: eqx.nn.AvgPool2d(3, 1)}[of]()
        n = f(jnp.asarray(chw[0])).shape[1]
    return "same" if n == 9 else "none" if n == full else str(n)


def rnn_of(framework):
    """The plain cell's function, from one big input: tanh stays below 1."""
    if framework == "haiku":
        t = hk.transform(lambda v: hk.VanillaRNN(2)(v, hk.VanillaRNN(2).initial_state(1))[0])
        p = t.init(jax.random.key(0), jnp.ones((1, 3)))
        y = np.asarray([t.apply(p, None, 100 * s * jnp.ones((1, 3))) for s in (-1, 1)])
        return "tanh" if y.min() < 0 and abs(y).max() <= 1 else "relu"
    return None


def pairs_of(framework):
    """Which column the first one is turned with, of four."""
    if framework == "equinox":
        y = np.asarray(eqx.nn.RotaryPositionalEmbedding(4)(jnp.eye(4)[:1].repeat(2, 0)))[1]
    elif framework == "hf":
        # a process of its own: transformers beside TensorFlow is one LLVM too many
        code = ("import torch; from transformers.models.llama.modeling_llama import rotate_half; "
                "print(*rotate_half(torch.eye(4)[:1])[0].tolist())")
        y = [abs(float(v)) for v in subprocess.run([sys.executable, "-c", code], check=True, text=True,
                                                   stdout=subprocess.PIPE).stdout.split()[-4:]]
    else:
        return None
    return "halves" if abs(y[2]) > 0.1 and abs(y[1]) < 1e-6 else "neighbours"


def meaning(row):
    """What a default does, seen by running it; None where the argument's own name is the meaning."""
    framework, of, setting = row["framework"], row["of"], row["setting"]
    if row["means"] is None:
        return None
    if setting == "momentum":
        return "%.4g" % moving_mean(framework)
    if setting == "epsilon":
        return "%.4g" % spread(framework, of)
    if setting == "factor":
        return factor_of(framework)
    if setting == "form":
        return gelu_of(framework) if of == "gelu" else hard_sigmoid_of(framework)
    if setting == "pairs":
        return pairs_of(framework)
    if setting == "border":
        return border_of(framework)
    if setting == "padding":
        return padding_of(framework, of)
    if setting == "activation" and of == "rnn":
        return rnn_of(framework)
    return None


def agrees(row):
    got = meaning(row)
    if got is None:
        return
    a, b = number(got), number(row["means"])
    if a is None or b is None:
        need(got == row["means"], f"means {got}, not {row['means']}")
    else:
        need(abs(a - b) <= 2e-2 * abs(b) + 2e-9, f"means {got}, not {row['means']}")


def rows_there(found):
    """Every framework says something of every layer it has: no row was forgotten."""
    for of in ("batchnorm", "layernorm", "groupnorm", "conv", "conv_transpose", "gelu", "leaky_relu",
               "hard_sigmoid", "lstm"):
        for framework in ("pytorch", "keras", "tensorflow", "flax", "nnx", "haiku", "equinox"):
            need(any(k[:2] == (framework, of) for k in found), f"no row for {of} of {framework}")
    need(len(found) > 150, f"{len(found)} rows")


def keras_net(epsilon, momentum, seed):
    keras.utils.set_random_seed(seed)
    net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, name="d"),
                            keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name="bn"),
                            keras.layers.LayerNormalization(epsilon=epsilon, name="ln")])
    net.layers[1].moving_variance.assign(RNG.random(6) * 1e-4)
    return net


def config_written():
    """A skeleton with other settings: what Keras loads has the source's, and computes the same."""
    d = fresh("defaults")
    a, b = keras_net(1e-6, 0.8, 1), keras_net(1e-3, 0.99, 2)
    a.save(d / "a.keras")
    b.save(d / "b.keras")
    convert(d / "a.keras", d / "c.keras", "--like", d / "b.keras")
    c = keras.models.load_model(d / "c.keras")
    need((c.layers[1].epsilon, c.layers[1].momentum, c.layers[2].epsilon) == (1e-6, 0.8, 1e-6),
         (c.layers[1].epsilon, c.layers[1].momentum, c.layers[2].epsilon))
    x = RNG.random((3, 8)).astype(np.float32)
    need(np.array_equal(np.asarray(a(x)), np.asarray(c(x))), "other outputs")
    need(not np.allclose(np.asarray(a(x)), np.asarray(b(x)), atol=1e-2), "the test tells nothing")


def run(tally):
    found, read = table(), readers()
    tally.run("rows", rows_there, found)
    tally.run("a skeleton's config", config_written)
    for key, row in sorted(found.items()):
        name = "%s %s %s" % key
        tally.run(f"{name}: argument", argument, read, row)
        tally.run(f"{name}: meaning", agrees, row)
