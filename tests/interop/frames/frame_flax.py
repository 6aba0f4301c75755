"""Flax Linen: one compact module, layers named with the dots of models.py as underscores."""

from typing import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization, traverse_util

from frames.jax_ops import Free, arrays_of, cast_tree, channels_last, descend, fill, loss_of
from frames.models import MODELS

NAME = "flax"
SUFFIX = ".msgpack"
LACKS = ()


class Ops(Free):
    def __init__(self, module, dtype, train):
        self.module, self.dtype, self.train = module, dtype, train
        self.kw = {"param_dtype": dtype, "dtype": dtype}

    def n(self, name):
        return {"name": name.replace(".", "_"), **self.kw}

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
        return nn.Conv(out, kernel, stride, [(pad, pad)] * len(kernel), feature_group_count=groups,
                       use_bias=bias, **self.n(name))(x)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[-1], kernel, groups=x.shape[-1], bias=False)

    def up(self, name, x, out, kernel, stride=None):
        strides = (stride,) * len(kernel) if stride else kernel
        return nn.ConvTranspose(out, kernel, strides, "VALID", **self.n(name))(x)

    def bn(self, name, x):
        return nn.BatchNorm(not self.train, momentum=0.9, epsilon=1e-5, **self.n(name))(x)

    def ln(self, name, x):
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, **self.n(name))(x)

    def rms(self, name, x):
        return nn.RMSNorm(epsilon=1e-5, **self.n(name))(x)

    def gn(self, name, x, groups):
        return nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False, **self.n(name))(x)

    def dense(self, name, x, out, bias=True):
        return nn.Dense(out, use_bias=bias, **self.n(name))(x)

    def embed(self, name, ids, n, width):
        return nn.Embed(n, width, **self.n(name))(ids)

    def mha(self, name, x, heads):
        return nn.MultiHeadDotProductAttention(heads, **self.n(name))(x, x)

    def plus(self, name, x, shape):
        return x + self.module.param(name, nn.initializers.zeros, shape, self.dtype)

    def token(self, name, x, shape):
        t = self.module.param(name, nn.initializers.zeros, shape, self.dtype)
        return jnp.concatenate([jnp.broadcast_to(t, (x.shape[0], 1, shape[-1])), x], 1)

    def lstm(self, name, x, width):
        return nn.RNN(nn.OptimizedLSTMCell(width, **self.n(name)))(x)

    def conv_lstm(self, name, x, out, kernel):
        return nn.RNN(nn.ConvLSTMCell(out, kernel, **self.n(name)))(x)

    def bigru(self, name, x, width):
        there, back = (nn.RNN(nn.GRUCell(width, **self.n(name + end)))
                       for end in ("_l0", "_l0_reverse"))
        return nn.Bidirectional(there, back)(x)

    def gru(self, name, x, width):
        return nn.RNN(nn.GRUCell(width, **self.n(name)))(x)

    def rnn(self, name, x, width):
        return nn.RNN(nn.SimpleCell(width, **self.n(name)))(x)

    def blocks(self, name, n, body, x, stacked=False):
        if not stacked:
            return super().blocks(name, n, body, x)
        many = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=n)
        return many(body, self.dtype, self.train, name=name)(x, None)[0]


class Block(nn.Module):
    body: Callable
    dtype: object
    train: bool

    @nn.compact
    def __call__(self, x, _):
        return self.body(Ops(self, self.dtype, self.train), "", x), None


class Module(nn.Module):
    model: str
    dtype: object

    @nn.compact
    def __call__(self, x, train=False):
        return MODELS[self.model][0](Ops(self, self.dtype, train), x)


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, getattr(jnp, dtype)
        self.module = Module(model, self.dtype)
        self.x = channels_last(model, self.dtype)
        self.shapes = jax.eval_shape(self.module.init, jax.random.PRNGKey(0), self.x)
        self.jit = jax.jit(self.module.apply)
        self.reset(1)

    def reset(self, seed):
        # a batch norm's statistics are float32 whatever is asked for
        self.state = cast_tree(fill(self.shapes, seed), self.dtype)

    def train_steps(self, steps):
        def loss(params, rest):
            y, new = self.module.apply({"params": params, **rest}, self.x, True,
                                       mutable=list(rest))
            return loss_of(y), dict(new)
        rest = {k: v for k, v in self.state.items() if k != "params"}
        params, rest = descend(loss, self.state["params"], rest, steps)
        self.state = {"params": params, **rest}

    def save(self, path):
        with open(path, "wb") as f:
            f.write(serialization.to_bytes(self.state))

    def load(self, path):
        with open(path, "rb") as f:
            self.state = serialization.from_bytes(self.state, f.read())

    def run(self):
        return arrays_of(self.jit(self.state, self.x))

    def leaves(self):
        flat = traverse_util.flatten_dict(self.state, sep="/")
        return {k: np.asarray(v) for k, v in flat.items()}

    def cast(self, dtype):
        other = Net(self.model, dtype)
        other.state = cast_tree(self.state, dtype)
        return other


def bits(path):
    with open(path, "rb") as f:
        tree = serialization.msgpack_restore(f.read())
    return {k: (str(v.dtype), v.shape, np.asarray(v).tobytes())
            for k, v in traverse_util.flatten_dict(tree, sep="/").items()}
