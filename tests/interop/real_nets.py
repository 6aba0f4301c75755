"""The networks of real_models.py, written again in another framework, from their authors' code or
graphs: what each says of itself is its layers' names and how they are joined; every number comes
from the file that nnferry wrote. A function takes that file and the inputs, and gives the outputs.
"""

import numpy as np


def flax_tree(path):
    from flax import serialization
    return serialization.msgpack_restore(path.read_bytes())


def same_pads(size, kernel, stride):
    """TensorFlow's "same": the odd one behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


# ---- openWakeWord's classifier: a multilayer perceptron ----

def alexa_keras(skeleton, path, x):
    """Writes the skeleton where path is None, as all do that take one."""
    import keras
    net = keras.Sequential([keras.layers.Input((1536,)),
                            keras.layers.Dense(128, activation="relu", name="first"),
                            keras.layers.Dense(128, activation="relu", name="second"),
                            keras.layers.Dense(1, activation="sigmoid", name="last")])
    if path is None:
        return net.save_weights(skeleton)
    net.load_weights(path)
    return [np.asarray(net(x.reshape(len(x), -1)))]


def alexa_nnx(path, x):
    import jax.numpy as jnp
    from flax import nnx, serialization

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(1536, 128, rngs=rngs)
            self.second = nnx.Linear(128, 128, rngs=rngs)
            self.last = nnx.Linear(128, 1, rngs=rngs)

        def __call__(self, x):
            return nnx.sigmoid(self.last(nnx.relu(self.second(nnx.relu(self.first(x))))))
    net = Net(nnx.Rngs(0))
    nnx.update(net, nnx.State(serialization.msgpack_restore(path.read_bytes())))
    return [np.asarray(net(jnp.asarray(x.reshape(len(x), -1))))]


def alexa_equinox(skeleton, path, x):
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    net = eqx.nn.MLP(1536, 1, 128, 2, final_activation=jax.nn.sigmoid, key=jax.random.PRNGKey(0))
    if path is None:
        return eqx.tree_serialise_leaves(skeleton, net)
    net = eqx.tree_deserialise_leaves(path, net)
    return [np.asarray(jax.vmap(net)(jnp.asarray(x.reshape(len(x), -1))))]


# ---- openWakeWord's embedding: convolutions of three, by turns over frequency and time ----

def embedding_flax(skeleton, path, x):
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax import serialization

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            def leaky(x):
                return jnp.maximum(jnp.where(x < 0, 0.2 * x, x), -0.4)
            x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
            x = nn.Conv(24, (3, 3), padding="VALID", use_bias=False, name="conv0")(x)
            x = leaky(nn.BatchNorm(True, epsilon=1e-3, name="norm0")(nn.relu(x)))
            widths = [24] * 2 + [48] * 4 + [72] * 4 + [96] * 8
            pools = {2: (2, 2), 6: (1, 2), 10: (2, 2), 14: (1, 2), 18: (2, 2)}
            for i, width in enumerate(widths, 1):
                across = i % 2 == 1
                x = leaky(nn.Conv(width, (1, 3) if across else (3, 1),
                                  padding=((0, 0), (1, 1)) if across else "VALID",
                                  name=f"conv{i}")(x))
                if i in pools:
                    x = nn.max_pool(x, pools[i], pools[i])
            return nn.Conv(96, (3, 1), padding="VALID", use_bias=False, name="conv19")(x)
    net = Net()
    if path is None:
        empty = net.init(jax.random.PRNGKey(0), jnp.zeros((1, 76, 32, 1)))
        return skeleton.write_bytes(serialization.to_bytes(empty))
    return [np.asarray(net.apply(flax_tree(path), jnp.asarray(x)))]


# ---- Magika: a byte classifier; was Flax before it was ONNX ----

def magika_flax(path, x):
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.gelu(nn.Dense(64, name="Dense_0")(jax.nn.one_hot(x, 257)))
            x = x.reshape(len(x), 512, 256)
            # the names are those of the original; one norm is over time, not over channels
            x = nn.LayerNorm(reduction_axes=1, feature_axes=1, name="LayerNorm_0")(x)
            x = nn.gelu(nn.Conv(512, (5,), padding="VALID", name="Conv_0")(x)).max(1)
            x = nn.LayerNorm(name="LayerNorm_1")(x)
            return nn.softmax(nn.Dense(214, name="Dense_1")(x))
    return [np.asarray(Net().apply(flax_tree(path), jnp.asarray(x)))]


# ---- Silero's voice activity detector ----

def silero_flax(path, x):
    import flax.linen as nn
    import jax.numpy as jnp

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jnp.pad(x, ((0, 0), (0, 64)), mode="reflect")[..., None]
            x = nn.Conv(258, (256,), 128, "VALID", use_bias=False, name="stft_conv")(x)
            x = jnp.sqrt(x[..., :129] ** 2 + x[..., 129:] ** 2)
            for i, (width, stride) in enumerate([(128, 1), (64, 2), (64, 2), (128, 1)], 1):
                x = nn.relu(nn.Conv(width, (3,), stride, ((1, 1),), name=f"conv{i}")(x))
            h = jnp.zeros((len(x), 128))
            _, h = nn.OptimizedLSTMCell(128, name="lstm_cell")((h, h), x[:, 0])
            x = nn.Conv(1, (1,), name="final_conv")(nn.relu(h)[:, None])
            return nn.sigmoid(x)[:, 0]
    return [np.asarray(Net().apply(flax_tree(path), jnp.asarray(x)))]


def silero_torch(path, x):
    """The package's tinygrad_model.py, line by line."""
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F
    w = load_file(path)
    cell = torch.nn.LSTMCell(128, 128)
    cell.load_state_dict({n.split(".")[1]: t for n, t in w.items() if n.startswith("lstm_cell")})
    with torch.no_grad():
        x = F.pad(torch.from_numpy(x), (0, 64), mode="reflect")[:, None]
        x = F.conv1d(x, w["stft_conv.weight"], stride=128)
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for i, stride in enumerate([1, 2, 2, 1], 1):
            x = F.conv1d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"], stride, 1).relu()
        x = cell(x.squeeze(-1))[0][..., None].relu()
        return [F.conv1d(x, w["final_conv.weight"], w["final_conv.bias"]).sigmoid()[:, 0].numpy()]


# ---- Resemblyzer's voice encoder: three LSTM layers ----

def voice_torch(path, x):
    import torch

    class Net(torch.nn.Module):
        """resemblyzer.voice_encoder.VoiceEncoder, without what it needs for sound files."""

        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = torch.nn.Linear(256, 256)

        def forward(self, x):
            out = torch.relu(self.linear(self.lstm(x)[1][0][-1]))
            return out / torch.norm(out, dim=1, keepdim=True)
    net = Net()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model_state"], strict=False)
    with torch.no_grad():
        return [net(torch.from_numpy(x)).numpy()]


def voice_keras(skeleton, path, x):
    import keras
    lstm = [keras.layers.LSTM(256, return_sequences=i < 2, name=f"l{i}") for i in range(3)]
    net = keras.Sequential([keras.layers.Input((None, 40)), *lstm,
                            keras.layers.Dense(256, activation="relu", name="linear")])
    if path is None:
        return net.save_weights(skeleton)
    net.load_weights(path)
    out = np.asarray(net(x))
    return [out / np.linalg.norm(out, axis=1, keepdims=True)]


def voice_haiku(path, x):
    import pickle
    import haiku as hk
    import jax
    import jax.numpy as jnp

    def f(x):
        for i in range(3):
            core = hk.LSTM(256, name=f"lstm_{i}")
            x, state = hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)
        return jax.nn.relu(hk.Linear(256, name="linear")(state.hidden))
    params = pickle.loads(path.read_bytes())["params"]
    out = np.asarray(hk.without_apply_rng(hk.transform(f)).apply(params, jnp.asarray(x)))
    return [out / np.linalg.norm(out, axis=1, keepdims=True)]


# ---- MTCNN's output net ----

def onet_flax(path, x):
    import flax.linen as nn
    import jax.numpy as jnp

    class Slope(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.where(x < 0, x * self.param("weight", nn.initializers.ones, x.shape[-1:]), x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i, (width, kernel, pool) in enumerate([(32, 3, 3), (64, 3, 3), (64, 3, 2),
                                                       (128, 2, 0)], 1):
                x = nn.Conv(width, (kernel, kernel), padding="VALID", name=f"conv{i}")(x)
                x = Slope(name=f"prelu{i}")(x)
                if pool:  # ceil_mode
                    over = -(x.shape[1] - pool) % 2
                    x = nn.max_pool(x, (pool, pool), (2, 2), ((0, over), (0, over)))
            x = x.transpose(0, 2, 1, 3).reshape(len(x), -1)  # width first, as its author has it
            x = Slope(name="prelu5")(nn.Dense(256, name="dense5")(x))
            a, b, c = (nn.Dense(n, name=f"dense6_{i}")(x) for i, n in ((1, 2), (2, 4), (3, 10)))
            return b, c, nn.softmax(a)
    out = Net().apply(flax_tree(path), jnp.asarray(x.transpose(0, 2, 3, 1)))
    return [np.asarray(a) for a in out]


# ---- FER's emotion model: a small Xception ----

def fer_torch(path, x):
    import torch
    state = torch.load(path, weights_only=True)

    class Block(torch.nn.Module):
        def __init__(self, m, n, first):
            super().__init__()
            self.first = first
            for i, width in ((0, m), (1, n)):
                self.add_module(f"sep{i}_depthwise",
                                torch.nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False))
                self.add_module(f"sep{i}_pointwise", torch.nn.Conv2d(width, n, 1, bias=False))
                self.add_module(f"norm{i}", torch.nn.BatchNorm2d(n, eps=1e-3))
            self.short = torch.nn.Conv2d(m, n, 1, 2, bias=False)
            self.short_norm = torch.nn.BatchNorm2d(n, eps=1e-3)

        def forward(self, x):
            y = x
            for i in range(2):
                y = self.get_submodule(f"sep{i}_pointwise")(
                    self.get_submodule(f"sep{i}_depthwise")(y))
                y = self.get_submodule(f"norm{i}")(y)
                y = torch.relu(y) if i == 0 else y
            pads = [p for side in (3, 2) for p in same_pads(y.shape[side], 3, 2)]
            y = torch.nn.functional.pad(y, pads, value=-torch.inf)
            return torch.nn.functional.max_pool2d(y, 3, 2) + self.short_norm(self.short(x))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(1, 8, 3, bias=False)
            self.norm1 = torch.nn.BatchNorm2d(8, eps=1e-3)
            self.conv2 = torch.nn.Conv2d(8, 8, 3, bias=False)
            self.norm2 = torch.nn.BatchNorm2d(8, eps=1e-3)
            self.block = torch.nn.ModuleList(Block(8 << i, 16 << i, i) for i in range(4))
            self.last = torch.nn.Conv2d(128, 7, 3, 1, 1)

        def forward(self, x):
            x = torch.relu(self.norm1(self.conv1(x)))
            x = torch.relu(self.norm2(self.conv2(x)))
            for block in self.block:
                x = block(x)
            return torch.softmax(self.last(x).mean((2, 3)), -1)
    net = Net().eval()
    net.load_state_dict(state)
    with torch.no_grad():
        return [net(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()]


# ---- Basic Pitch, behind its constant-Q transform ----

def stacked(x, shifts, length, concatenate, pad):
    """Harmonics of each frequency beside each other: x is [batch, time, frequency, 1]."""
    out = [x if s == 0 else pad(x[:, :, s:], 0, s) if s > 0 else pad(x[:, :, :s], -s, 0)
           for s in shifts]
    return concatenate(out)[:, :, :length]


SHIFTS = [round(36 * float(np.log2(h))) for h in [0.5] + list(range(1, 8))]


def pitch_torch(path, x):
    import torch
    from torch.nn import functional as F
    state = torch.load(path, weights_only=True)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1, eps=1e-3)
            self.contour = torch.nn.Conv2d(8, 8, (3, 39), padding=(1, 19))
            self.contour_norm = torch.nn.BatchNorm2d(8, eps=1e-3)
            self.contour_out = torch.nn.Conv2d(8, 1, 5, padding=2)
            self.note = torch.nn.Conv2d(1, 32, 7, (1, 3), padding=(3, 2))
            self.note_out = torch.nn.Conv2d(32, 1, (7, 3), padding=(3, 1))
            self.onset = torch.nn.Conv2d(8, 32, 5, (1, 3), padding=(2, 1))
            self.onset_norm = torch.nn.BatchNorm2d(32, eps=1e-3)
            self.onset_out = torch.nn.Conv2d(33, 1, 3, padding=1)

        def forward(self, x):
            x = self.norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            x = stacked(x, SHIFTS, 264, lambda y: torch.cat(y, -1),
                        lambda y, a, b: F.pad(y, (0, 0, a, b))).permute(0, 3, 1, 2)
            contour = torch.sigmoid(self.contour_out(
                torch.relu(self.contour_norm(self.contour(x)))))
            note = torch.sigmoid(self.note_out(torch.relu(self.note(contour))))
            onset = torch.relu(self.onset_norm(self.onset(x)))
            onset = torch.sigmoid(self.onset_out(torch.cat([note, onset], 1)))
            return onset[:, 0], note[:, 0], contour[:, 0]
    net = Net().eval()
    net.load_state_dict(state)
    with torch.no_grad():
        return [a.numpy() for a in net(torch.from_numpy(x))]
