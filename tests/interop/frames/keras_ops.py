"""What Keras 3 and Keras 2 share: a functional model, layers named with the dots of models.py
as underscores.
"""

import numpy as np

from frames.models import MODELS, Unrolled, data


def ops_of(layers, functions, extra):
    """The Ops of one Keras: its layers module, its functions by name, its own two layers."""

    class Ops(Unrolled):
        def __init__(self, floats):
            self.floats = floats

        def n(self, name):
            return name.replace(".", "_")

        def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
            if pad:
                x = layers.ZeroPadding2D(pad)(x)
            made = getattr(layers, f"Conv{len(kernel)}D")
            return made(out, kernel, stride, groups=groups, use_bias=bias, name=self.n(name))(x)

        def depthwise(self, name, x, kernel):
            return layers.DepthwiseConv2D(kernel, use_bias=False, name=self.n(name))(x)

        def up(self, name, x, out, kernel, stride=None):
            made = getattr(layers, f"Conv{len(kernel)}DTranspose")
            step = stride or kernel
            return made(out, kernel, step, name=self.n(name))(x)

        def bn(self, name, x):
            return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=self.n(name))(x)

        def ln(self, name, x):
            return layers.LayerNormalization(epsilon=1e-5, name=self.n(name))(x)

        def rms(self, name, x):
            return extra["RMS"](name=self.n(name))(x)

        def gn(self, name, x, groups):
            return layers.GroupNormalization(groups, epsilon=1e-5, name=self.n(name))(x)

        def dense(self, name, x, out, bias=True):
            return layers.Dense(out, use_bias=bias, name=self.n(name))(x)

        def embed(self, name, ids, count, width):
            return layers.Embedding(count, width, name=self.n(name))(ids)

        def mha(self, name, x, heads):
            return layers.MultiHeadAttention(heads, x.shape[-1] // heads,
                                             name=self.n(name))(x, x)

        def plus(self, name, x, shape):
            return extra["Plus"](shape, name=self.n(name))(x)

        def token(self, name, x, shape):
            return extra["Token"](shape, name=self.n(name))(x)

        def lstm(self, name, x, width):
            return layers.LSTM(width, return_sequences=True, name=self.n(name))(x)

        def conv_lstm(self, name, x, out, kernel):
            made = getattr(layers, f"ConvLSTM{len(kernel)}D")
            return made(out, kernel, padding="same", recurrent_activation="sigmoid",
                        return_sequences=True, name=self.n(name))(x)

        def bigru(self, name, x, width):
            return layers.Bidirectional(layers.GRU(width, return_sequences=True),
                                        name=self.n(name))(x)

        def gru(self, name, x, width):
            return layers.GRU(width, return_sequences=True, name=self.n(name))(x)

        def rnn(self, name, x, width):
            return layers.SimpleRNN(width, return_sequences=True, name=self.n(name))(x)

        def flatten(self, x):
            return layers.Flatten()(x)

        def gap(self, x):
            return layers.GlobalAveragePooling2D()(x)

        def concat(self, xs):
            return layers.Concatenate(-1)(xs)

        def patches(self, x):
            return layers.Reshape((x.shape[1] * x.shape[2], x.shape[3]))(x)

        def first(self, x):
            return layers.Permute((len(x.shape) - 1,) + tuple(range(1, len(x.shape) - 1)))(x)

        def const(self, a):
            return np.asarray(a, self.floats)

        relu, tanh, softmax, reshape, swap, matmul, gelu = (
            staticmethod(functions[k]) for k in
            ("relu", "tanh", "softmax", "reshape", "swap", "matmul", "gelu"))

    return Ops


def channels_last(model, dtype):
    def one(x, name=""):
        if x.dtype.kind != "f":
            return x.astype("int32")
        return np.moveaxis(x, 1, -1).astype(dtype) if x.ndim > 3 or name.startswith("map") else \
            x.astype(dtype)
    x = data(model)
    return {k: one(v, k) for k, v in x.items()} if isinstance(x, dict) else one(x)


def filled(weights, seed):
    """Numbers for a list of variables, by their names."""
    rng = np.random.default_rng(seed)
    out = []
    for w in weights:
        shape = tuple(w.shape)
        a = rng.normal(size=shape) * (0.3 if len(shape) < 2 else
                                      (np.prod(shape) / max(shape)) ** -0.5)
        if any(k in w.name for k in ("gamma", "variance", "scale")):
            a = np.abs(1 + a)
        out.append(a)
    return out


def build(keras, ops, model, dtype):
    keras.backend.clear_session()
    keras.backend.set_floatx(dtype)
    x = channels_last(model, dtype)

    def given(x, name="given"):
        return keras.layers.Input(batch_shape=x.shape, dtype=x.dtype.name, name=name)
    inputs = {k: given(v, k) for k, v in x.items()} if isinstance(x, dict) else given(x)
    return keras.Model(inputs, MODELS[model][0](ops(dtype), inputs)), x
