"""Equinox: one module that holds its layers in a list, leaves as a .eqx file. Such a file has
no names: what this frame saves has them in its first line, as nnferry's own files do.
"""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from frames.jax_ops import Free, arrays_of, cast_tree, descend, fill, loss_of
from frames.models import MODELS, data

NAME = "equinox"
SUFFIX = ".eqx"
LACKS = ("one_rnn", "one_conv_lstm")  # it has no such cells
KEY = jax.random.PRNGKey(0)


class Tree(eqx.Module):
    """Layers in the order in which the network met them."""
    layers: list


class Cell(eqx.Module):
    cell: eqx.Module

    def __call__(self, x, reverse=False):
        width = self.cell.hidden_size
        zero = jnp.zeros(width, x.dtype)
        lstm = isinstance(self.cell, eqx.nn.LSTMCell)

        def step(carry, row):
            carry = self.cell(row, carry)
            return carry, carry[0] if lstm else carry
        return jax.lax.scan(step, (zero, zero) if lstm else zero, x, reverse=reverse)[1]


class Ops(Free):
    """One example at a time, channels first."""

    def __init__(self, dtype, made, names, state):
        self.dtype, self.made, self.names, self.state = dtype, made, names, state
        self.at = {}
        self.building = names is not None

    def layer(self, name, make):
        if self.building:
            self.made.append(make())
            self.names.append(name)
            return self.made[-1]
        i = len(self.at)
        self.at[name] = i
        return self.made[i]

    def conv(self, name, x, out, kernel, stride=1, pad=0, groups=1, bias=True):
        return self.layer(name, lambda: eqx.nn.Conv(
            len(kernel), x.shape[0], out, kernel, stride, pad, groups=groups, use_bias=bias,
            dtype=self.dtype, key=KEY))(x)

    def depthwise(self, name, x, kernel):
        return self.conv(name, x, x.shape[0], kernel, groups=x.shape[0], bias=False)

    def up(self, name, x, out, kernel, stride=None):
        return self.layer(name, lambda: eqx.nn.ConvTranspose(
            len(kernel), x.shape[0], out, kernel, stride or kernel, dtype=self.dtype, key=KEY))(x)

    def bn(self, name, x):
        layer = self.layer(name, lambda: eqx.nn.BatchNorm(
            x.shape[0], "batch", eps=1e-5, momentum=0.9, dtype=self.dtype, mode="ema"))
        if self.building:
            return x
        y, self.state = layer(x, self.state)
        return y

    def ln(self, name, x):
        layer = self.layer(name, lambda: eqx.nn.LayerNorm(
            x.shape[-1], eps=1e-5, dtype=self.dtype))
        return jax.vmap(layer)(x) if x.ndim == 2 else layer(x)

    def rms(self, name, x):
        layer = self.layer(name, lambda: eqx.nn.RMSNorm(
            x.shape[-1], eps=1e-5, use_bias=False, dtype=self.dtype))
        return jax.vmap(layer)(x) if x.ndim == 2 else layer(x)

    def gn(self, name, x, groups):
        return self.layer(name, lambda: eqx.nn.GroupNorm(
            groups, x.shape[0], eps=1e-5, dtype=self.dtype))(x)

    def dense(self, name, x, out, bias=True):
        layer = self.layer(name, lambda: eqx.nn.Linear(
            x.shape[-1], out, use_bias=bias, dtype=self.dtype, key=KEY))
        return jax.vmap(layer)(x) if x.ndim == 2 else layer(x)

    def embed(self, name, ids, n, width):
        return jax.vmap(self.layer(name, lambda: eqx.nn.Embedding(
            n, width, dtype=self.dtype, key=KEY)))(ids)

    def mha(self, name, x, heads):
        return self.layer(name, lambda: eqx.nn.MultiheadAttention(
            heads, x.shape[-1], use_query_bias=True, use_key_bias=True, use_value_bias=True,
            use_output_bias=True, dtype=self.dtype, key=KEY))(x, x, x)

    def plus(self, name, x, shape):
        return x + self.layer(name, lambda: jnp.zeros(shape, self.dtype)).reshape(shape[-2:])

    def token(self, name, x, shape):
        t = self.layer(name, lambda: jnp.zeros(shape, self.dtype))
        return jnp.concatenate([t.reshape(shape[-2:]), x])

    def lstm(self, name, x, width):
        return self.layer(name, lambda: Cell(eqx.nn.LSTMCell(
            x.shape[-1], width, dtype=self.dtype, key=KEY)))(x)

    def bigru(self, name, x, width):
        there, back = (self.layer(name + end, lambda: Cell(eqx.nn.GRUCell(
            x.shape[-1], width, dtype=self.dtype, key=KEY))) for end in (".l0", ".l0_reverse"))
        return jnp.concatenate([there(x), back(x, True)], -1)

    def gru(self, name, x, width):
        return self.layer(name, lambda: Cell(eqx.nn.GRUCell(
            x.shape[-1], width, dtype=self.dtype, key=KEY)))(x)

    def flatten(self, x):
        return x.reshape(-1)

    def first(self, x):
        return x

    def gap(self, x):
        return x.mean((1, 2))

    def concat(self, xs):
        return jnp.concatenate(xs, 0)

    def patches(self, x):
        return x.reshape(x.shape[0], -1).T


def in_file(leaf):
    return eqx.is_array(leaf) or isinstance(leaf, (bool, int, float, complex))


class Net:
    def __init__(self, model, dtype):
        self.model, self.dtype = model, getattr(jnp, dtype)
        self.x = data(model, lambda x: jnp.asarray(x, self.dtype if x.dtype.kind == "f" else None))
        self.names = []

        def make():
            made = []
            self.names.clear()
            jax.eval_shape(lambda x: MODELS[model][0](
                Ops(self.dtype, made, self.names, None), x),
                jax.tree_util.tree_map(lambda x: x[0], self.x))
            return Tree(made)
        self.tree, self.state = eqx.filter_eval_shape(eqx.nn.make_with_state(make))
        self.jit = eqx.filter_jit(lambda tree, state: self.forward(
            eqx.nn.inference_mode(tree), state)[0])
        self.reset(1)
        self.state = jax.tree_util.tree_map(  # its norms have been asked before
            lambda x: jnp.zeros_like(x) if x.dtype == bool else x, self.state)

    def forward(self, tree, state):
        def one(x, state):
            ops = Ops(self.dtype, tree.layers, None, state)
            y = MODELS[self.model][0](ops, x)
            return y, ops.state
        return jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            self.x, state)

    def reset(self, seed):
        self.tree, self.state = fill((self.tree, self.state), seed)

    def train_steps(self, steps):
        arrays, rest = eqx.partition(self.tree, eqx.is_inexact_array)

        def loss(arrays, state):
            y, state = self.forward(eqx.combine(arrays, rest), state)
            return loss_of(y), state
        arrays, self.state = descend(loss, arrays, self.state, steps)
        self.tree = eqx.combine(arrays, rest)

    def leaf_names(self):
        """A name for each leaf that a file holds, in its order."""
        out = []
        norms = [n for n, layer in zip(self.names, self.tree.layers)
                 if isinstance(layer, eqx.nn.BatchNorm)]
        stats = [f"{n}.{leaf}" for n in norms for leaf in
                 ("ema_first_time_index", "ema_state_index.0", "ema_state_index.1")]
        for path, leaf in jax.tree_util.tree_leaves_with_path((self.tree, self.state)):
            if not in_file(leaf):
                continue
            text = jax.tree_util.keystr(path)
            if not text.startswith("[0].layers["):  # the state's: three of each batch norm
                out.append(stats.pop(0))
                continue
            number, _, rest = text[len("[0].layers["):].partition("]")
            out.append(self.names[int(number)] +
                       rest.replace(".cell", "").replace("[", ".").replace("]", ""))
        return out

    def save(self, path):
        with open(path, "wb") as f:
            f.write((json.dumps({"nnferry.leaves": self.leaf_names()}) + "\n").encode())
            eqx.tree_serialise_leaves(f, (self.tree, self.state))

    def save_skeleton(self, path):
        """As users save it: no names."""
        eqx.tree_serialise_leaves(path, (self.tree, self.state))

    def load(self, path):
        with open(path, "rb") as f:
            if f.read(1) == b"{":
                f.readline()
            else:
                f.seek(0)
            self.tree, self.state = eqx.tree_deserialise_leaves(f, (self.tree, self.state))

    def run(self):
        return arrays_of(self.jit(self.tree, self.state))

    def leaves(self):
        found = filter(in_file, jax.tree_util.tree_leaves((self.tree, self.state)))
        return dict(zip(self.leaf_names(), map(np.asarray, found), strict=True))

    def cast(self, dtype):
        other = Net(self.model, dtype)
        shape = jax.tree_util.tree_structure((other.tree, other.state))
        leaves = jax.tree_util.tree_leaves(cast_tree((self.tree, self.state), dtype))
        other.tree, other.state = jax.tree_util.tree_unflatten(shape, leaves)
        return other


def bits(path):
    out = {}
    with open(path, "rb") as f:
        if f.read(1) == b"{":
            f.readline()
        else:
            f.seek(0)
        while f.peek(1):
            a = np.load(f)
            out[str(len(out))] = (str(a.dtype), a.shape, a.tobytes())
    return out
