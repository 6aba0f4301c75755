"""Haiku: transformed functions, parameters and state as a pickle of nested dicts of numpy."""

import pickle

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from frames.jax_ops import Free, arrays_of, cast_tree, channels_last, descend, fill, loss_of
from frames.models import MODELS

NAME = "haiku"
SUFFIX = ".pkl"
LACKS = ("bigru", "one_gru", "one_rnn")  # its GRU resets before the product, its RNN has relu

CONVS = {1: hk.Conv1D, 2: hk.Conv2D, 3: hk.Conv3D}
CONV_LSTMS = {1: hk.Conv1DLSTM, 2: hk.Conv2DLSTM, 3: hk.Conv3DLSTM}
UPS = {1: hk.Conv1DTranspose, 2: hk.Conv2DTranspose, 3: hk.Conv3DTranspose}


def n(name):
    return name.replace(".", "_")


class Ops(Free):
    def __init__(self, dtype, train):
        self.dtype, self.train = dtype, train

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
        return CONVS[len(kernel)](out, kernel, stride, padding=[(pad, pad)] * len(kernel),
                                  feature_group_count=groups, with_bias=bias, name=n(name))(x)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[-1], kernel, groups=x.shape[-1], bias=False)

    def up(self, name, x, out, kernel, stride=None):
        return UPS[len(kernel)](out, kernel, stride or kernel, padding="VALID", name=n(name))(x)

    def bn(self, name, x):
        return hk.BatchNorm(True, True, 0.9, eps=1e-5, name=n(name))(x, self.train)

    def ln(self, name, x):
        return hk.LayerNorm(-1, True, True, eps=1e-5, name=n(name))(x)

    def rms(self, name, x):
        return hk.RMSNorm(-1, eps=1e-5, name=n(name))(x)

    def gn(self, name, x, groups):
        return hk.GroupNorm(groups, eps=1e-5, name=n(name))(x)

    def dense(self, name, x, out, bias=True):
        return hk.Linear(out, with_bias=bias, name=n(name))(x)

    def embed(self, name, ids, count, width):
        table = hk.Embed(embedding_matrix=None, vocab_size=count, embed_dim=width, name=n(name))
        return table(ids).astype(self.dtype)

    def mha(self, name, x, heads):
        width = x.shape[-1]
        return hk.MultiHeadAttention(heads, width // heads, model_size=width,
                                     w_init=hk.initializers.VarianceScaling(1.0),
                                     name=n(name))(x, x, x)

    def plus(self, name, x, shape):
        return x + hk.get_parameter(name, shape, self.dtype, jnp.zeros)

    def token(self, name, x, shape):
        t = hk.get_parameter(name, shape, self.dtype, jnp.zeros)
        return jnp.concatenate([jnp.broadcast_to(t, (x.shape[0], 1, shape[-1])), x], 1)

    def lstm(self, name, x, width):
        return self.unrolled(hk.LSTM(width, name=n(name)), x)

    def conv_lstm(self, name, x, out, kernel):
        return self.unrolled(CONV_LSTMS[len(kernel)](x.shape[2:-1], out, kernel, name=n(name)), x)

    def unrolled(self, cell, x):
        start = jax.tree_util.tree_map(lambda s: s.astype(self.dtype),
                                       cell.initial_state(x.shape[0]))
        return hk.dynamic_unroll(cell, x, start, time_major=False)[0]


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, getattr(jnp, dtype)
        self.x = channels_last(model, self.dtype)
        self.f = hk.without_apply_rng(hk.transform_with_state(
            lambda x, train: MODELS[model][0](Ops(self.dtype, train), x)))
        self.shapes = jax.eval_shape(lambda x: self.f.init(jax.random.PRNGKey(0), x, True),
                                     self.x)
        self.jit = jax.jit(lambda p, s, x: self.f.apply(p, s, x, False)[0])
        self.reset(1)

    def reset(self, seed):
        self.params, self.state = cast_tree(fill(self.shapes, seed), self.dtype)

    def train_steps(self, steps):
        def loss(params, state):
            y, state = self.f.apply(params, state, self.x, True)
            return loss_of(y), state
        self.params, self.state = descend(loss, self.params, self.state, steps)

    def save(self, path):
        with open(path, "wb") as f:
            pickle.dump(jax.tree_util.tree_map(np.asarray, (self.params, self.state)), f)

    def load(self, path):
        with open(path, "rb") as f:
            params, state = pickle.load(f)
        for have, got in ((self.params, params), (self.state, state)):
            a, b = (jax.tree_util.tree_structure(dict(t)) for t in (have, got))
            if a != b:
                raise ValueError(f"another tree: {a} and {b}")
        self.params, self.state = params, state

    def run(self):
        return arrays_of(self.jit(self.params, self.state, self.x))

    def leaves(self):
        return {f"{i}/{module}/{leaf}": np.asarray(a)
                for i, tree in enumerate((self.params, self.state))
                for module, found in tree.items() for leaf, a in found.items()}

    def cast(self, dtype):
        other = Net(self.model, dtype)
        other.params = cast_tree(self.params, dtype)
        other.state = cast_tree(self.state, dtype)
        return other


def bits(path):
    with open(path, "rb") as f:
        parts = pickle.load(f)
    return {f"{i}/{module}/{leaf}": (str(a.dtype), a.shape, np.asarray(a).tobytes())
            for i, tree in enumerate(parts)
            for module, leaves in tree.items() for leaf, a in leaves.items()}
