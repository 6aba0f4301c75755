"""A frame without a framework: it runs a network of models.py over arrays of zeros and keeps what
layers there are, in the order of their making. The checker learns from it which layer is which.
"""

from typing import NamedTuple

import numpy as np

from frames.models import MODELS, data


class Layer(NamedTuple):
    kind: str  # dense conv up bn ln gn rms embed mha value lstm gru rnn conv_lstm
    name: str  # as models.py says it
    bias: bool = True
    groups: int = 1
    channels: int = 0  # of a convolution's input
    heads: int = 0
    rank: int = 0  # of a batch norm's input
    space: int = 0  # spatial axes of a convolution
    chw: tuple = ()  # of the map that was flattened before a dense layer
    one: bool = False  # a depthwise layer where a framework has a class for it
    stack: str = ""  # the name of the row of equal blocks that it stands in
    place: int = 0  # and the block's number
    stacked: bool = False  # where a framework can, such a row is one block with one axis more


class Flat(np.ndarray):
    """A flattened map that knows what it was."""
    chw = ()


class Ops:
    def __init__(self):
        self.layers, self.stack = [], {}

    def add(self, kind, name, **keys):
        self.layers.append(Layer(kind, name, **keys, **self.stack))

    def blocks(self, name, n, body, x, stacked=False):
        for i in range(n):
            self.stack = {"stack": name, "place": i, "stacked": stacked}
            x = body(self, f"{name}.{i}.", x)
        self.stack = {}
        return x

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True, one=False):
        self.add("conv", name, bias=bias, groups=groups, channels=x.shape[1], one=one,
                 space=len(kernel))
        space = [(n + 2 * pad - k) // stride + 1 for n, k in zip(x.shape[2:], kernel)]
        return np.zeros([x.shape[0], out] + space)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[1], kernel, groups=x.shape[1], bias=False, one=True)

    def up(self, name, x, out, kernel, stride=None):
        self.add("up", name, space=len(kernel))
        space = [(n - 1) * (stride or k) + k for n, k in zip(x.shape[2:], kernel)]
        return np.zeros([x.shape[0], out] + space)

    def bn(self, name, x):
        self.add("bn", name, rank=x.ndim)
        return x

    def ln(self, name, x):
        self.add("ln", name)
        return x

    def rms(self, name, x):
        self.add("rms", name)
        return x

    def gn(self, name, x, groups):
        self.add("gn", name)
        return x

    def dense(self, name, x, out, bias=True):
        self.add("dense", name, bias=bias, chw=getattr(x, "chw", ()))
        return np.zeros(x.shape[:-1] + (out,))

    def embed(self, name, ids, n, width):
        self.add("embed", name)
        return np.zeros(ids.shape + (width,))

    def mha(self, name, x, heads):
        self.add("mha", name, heads=heads)
        return x

    def plus(self, name, x, shape):
        self.add("value", name)
        return x

    def token(self, name, x, shape):
        self.add("value", name)
        return np.zeros((x.shape[0], x.shape[1] + 1, x.shape[2]))

    def lstm(self, name, x, width):
        self.add("lstm", name)
        return np.zeros(x.shape[:-1] + (width,))

    def conv_lstm(self, name, x, out, kernel):
        self.add("conv_lstm", name, space=len(kernel))
        return x

    def gru(self, name, x, width):
        self.add("gru", name)
        return np.zeros(x.shape[:-1] + (width,))

    def rnn(self, name, x, width):
        self.add("rnn", name)
        return np.zeros(x.shape[:-1] + (width,))

    def bigru(self, name, x, width):
        self.add("bigru", name)
        return np.zeros(x.shape[:-1] + (2 * width,))

    def relu(self, x):
        return np.array(x)

    first = relu

    tanh = gelu = softmax = relu

    def flatten(self, x):
        out = x.reshape(x.shape[0], -1).view(Flat)
        out.chw = x.shape[1:]
        return out

    def gap(self, x):
        return x.mean(tuple(range(2, x.ndim)))

    def concat(self, xs):
        return np.concatenate(xs, 1)

    def patches(self, x):
        return np.moveaxis(x.reshape(x.shape[:2] + (-1,)), 1, 2)

    def reshape(self, x, shape):
        return x.reshape(shape)

    def swap(self, x, a, b):
        return np.swapaxes(x, a, b)

    matmul = staticmethod(np.matmul)

    def const(self, a):
        return np.asarray(a)


def layers(model):
    ops = Ops()
    MODELS[model][0](ops, data(model))
    return ops.layers
