"""Flax NNX: modules in a tree of attributes, a pure dict of its state as msgpack."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, serialization, traverse_util

from frames.jax_ops import Free, arrays_of, cast_tree, channels_last, descend, fill, loss_of
from frames.models import MODELS

NAME = "nnx"
SUFFIX = ".msgpack"
LACKS = ("bigru", "one_gru", "one_conv_lstm")  # its GRUCell has no recurrent bias


class Node(nnx.Module):
    pass


def attend(q, k, v, **_):
    """NNX's own computes scores in float32."""
    score = jnp.einsum("...qhd,...khd->...hqk", q, k) / q.shape[-1] ** 0.5
    return jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(score, -1), v)


class Ops(Free):
    def __init__(self, root, dtype):
        self.root, self.dtype = root, dtype
        self.kw = {"param_dtype": dtype, "dtype": dtype, "rngs": nnx.Rngs(0)}

    def layer(self, name, make):
        at = self.root
        *path, last = name.split(".")
        path = [p if p[0].isalpha() else "_" + p for p in path]
        for part in path:
            if not hasattr(at, part):
                setattr(at, part, Node())
            at = getattr(at, part)
        if not hasattr(at, last):
            setattr(at, last, make())
        return getattr(at, last)

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
        return self.layer(name, lambda: nnx.Conv(
            x.shape[-1], out, kernel, stride, padding=[(pad, pad)] * len(kernel),
            feature_group_count=groups, use_bias=bias, **self.kw))(x)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[-1], kernel, groups=x.shape[-1], bias=False)

    def up(self, name, x, out, kernel, stride=None):
        strides = (stride,) * len(kernel) if stride else kernel
        return self.layer(name, lambda: nnx.ConvTranspose(
            x.shape[-1], out, kernel, strides, padding="VALID", **self.kw))(x)

    def bn(self, name, x):
        return self.layer(name, lambda: nnx.BatchNorm(
            x.shape[-1], momentum=0.9, epsilon=1e-5, **self.kw))(x)

    def ln(self, name, x):
        return self.layer(name, lambda: nnx.LayerNorm(
            x.shape[-1], epsilon=1e-5, use_fast_variance=False, **self.kw))(x)

    def rms(self, name, x):
        return self.layer(name, lambda: nnx.RMSNorm(x.shape[-1], epsilon=1e-5, **self.kw))(x)

    def gn(self, name, x, groups):
        return self.layer(name, lambda: nnx.GroupNorm(
            x.shape[-1], groups, epsilon=1e-5, use_fast_variance=False, **self.kw))(x)

    def dense(self, name, x, out, bias=True):
        return self.layer(name, lambda: nnx.Linear(
            x.shape[-1], out, use_bias=bias, **self.kw))(x)

    def embed(self, name, ids, n, width):
        return self.layer(name, lambda: nnx.Embed(n, width, **self.kw))(ids)

    def mha(self, name, x, heads):
        return self.layer(name, lambda: nnx.MultiHeadAttention(
            heads, x.shape[-1], decode=False, attention_fn=attend, **self.kw))(x)

    def plus(self, name, x, shape):
        return x + self.layer(name, lambda: nnx.Param(jnp.zeros(shape, self.dtype)))[...]

    def token(self, name, x, shape):
        t = self.layer(name, lambda: nnx.Param(jnp.zeros(shape, self.dtype)))[...]
        return jnp.concatenate([jnp.broadcast_to(t, (x.shape[0], 1, shape[-1])), x], 1)

    def lstm(self, name, x, width):
        cell = self.layer(name, lambda: nnx.OptimizedLSTMCell(x.shape[-1], width, **self.kw))
        return nnx.RNN(cell)(x)

    def rnn(self, name, x, width):
        return nnx.RNN(self.layer(name, lambda: nnx.SimpleCell(
            x.shape[-1], width, **self.kw)))(x)

    def blocks(self, name, n, body, x, stacked=False):
        if not stacked:
            return super().blocks(name, n, body, x)

        def make():
            block = Node()
            body(Ops(block, self.dtype), "", x)
            graph, state = nnx.split(block)
            return nnx.merge(graph, jax.tree_util.tree_map(lambda a: jnp.stack([a] * n), state))

        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return body(Ops(block, self.dtype), "", x)
        return run(x, self.layer(name, make))


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, getattr(jnp, dtype)
        self.x = channels_last(model, self.dtype)

        def make():
            module = Node()
            MODELS[model][0](Ops(module, self.dtype), self.x)
            return module
        self.module = nnx.eval_shape(make)
        self.module.eval()
        self.jit = nnx.jit(self.forward)
        self.reset(1)

    def forward(self, module, x):
        return MODELS[self.model][0](Ops(module, self.dtype), x)

    def reset(self, seed):
        # a batch norm's statistics are float32 whatever is asked for
        nnx.update(self.module, cast_tree(fill(nnx.state(self.module), seed), self.dtype))

    def train_steps(self, steps):
        self.module.train()
        graph, params, rest = nnx.split(self.module, nnx.Param, ...)

        def loss(params, rest):
            module = nnx.merge(graph, params, rest, copy=True)
            y = self.forward(module, self.x)
            return loss_of(y), nnx.split(module, nnx.Param, ...)[2]
        params, rest = descend(loss, params, rest, steps)
        self.module = nnx.merge(graph, params, rest)
        self.module.eval()

    def weights(self):
        return nnx.state(self.module, nnx.Any(nnx.Param, nnx.BatchStat))

    def save(self, path):
        with open(path, "wb") as f:
            f.write(serialization.msgpack_serialize(
                jax.tree_util.tree_map(np.asarray, nnx.to_pure_dict(self.weights()))))

    def load(self, path):
        with open(path, "rb") as f:
            pure = serialization.msgpack_restore(f.read())
        state = self.weights()
        nnx.replace_by_pure_dict(state, pure)
        nnx.update(self.module, state)

    def run(self):
        return arrays_of(self.jit(self.module, self.x))

    def leaves(self):
        flat = traverse_util.flatten_dict(nnx.to_pure_dict(self.weights()), sep="/")
        return {k: np.asarray(v) for k, v in flat.items()}

    def cast(self, dtype):
        other = Net(self.model, dtype)
        nnx.update(other.module, cast_tree(self.weights(), dtype))
        return other


def bits(path):
    with open(path, "rb") as f:
        tree = serialization.msgpack_restore(f.read())
    return {k: (str(v.dtype), v.shape, np.asarray(v).tobytes())
            for k, v in traverse_util.flatten_dict(tree, sep="/").items()}
