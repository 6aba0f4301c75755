"""What the four JAX frameworks share: functions without weights, and the training loop."""

import os

# Networks this small run once or twice: compiling costs more than running.
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") +
                           " --xla_backend_optimization_level=0"
                           " --xla_llvm_disable_expensive_passes=true")

import jax
import jax.numpy as jnp
import numpy as np

from frames.models import Unrolled, data, every

jax.config.update("jax_enable_x64", True)


class Free(Unrolled):
    """Operations without weights, channels last, batch first."""
    relu, tanh = staticmethod(jax.nn.relu), staticmethod(jnp.tanh)
    matmul = staticmethod(jnp.matmul)

    def gelu(self, x):
        return jax.nn.gelu(x, approximate=True)

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)

    def gap(self, x):
        return x.mean((1, 2))

    def concat(self, xs):
        return jnp.concatenate(xs, -1)

    def patches(self, x):
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def reshape(self, x, shape):
        return x.reshape(shape)

    def swap(self, x, a, b):
        return jnp.swapaxes(x, a, b)

    def softmax(self, x):
        return jax.nn.softmax(x, -1)

    def const(self, a):
        return jnp.asarray(a, self.dtype)

    def first(self, x):
        return jnp.moveaxis(x, -1, 1)


def channels_last(model, dtype):
    """The input of a network; a map is what has no sequence's three axes, or is called so."""
    def one(x, name=""):
        x = jnp.asarray(x, dtype) if x.dtype.kind == "f" else jnp.asarray(x)
        return jnp.moveaxis(x, 1, -1) if x.ndim > 3 or name.startswith("map") else x
    x = data(model)
    return {k: one(v, k) for k, v in x.items()} if isinstance(x, dict) else one(x)


def loss_of(y):
    return ((y - 0.5) ** 2).mean()


def arrays_of(y):
    return every(np.asarray, y)


def fill(shapes, seed):
    """Numbers for a tree of shapes, as a reset wants them: neither 0 nor 1. Of another type than
    floating point: zeros."""
    rng = np.random.default_rng(seed)

    def one(path, x):
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.inexact):
            number = hasattr(x, "dtype")  # a batch norm of Equinox asks whether it is the first time
            return jnp.full(x.shape, x.dtype == bool, x.dtype) if number else x
        name = jax.tree_util.keystr(path)
        a = rng.normal(size=x.shape) * (0.3 if x.ndim < 2 else (x.size / max(x.shape)) ** -0.5)
        if "scale" in name or "var" in name or name.startswith("[1]"):  # or the state's
            a = np.abs(1 + a)
        return jnp.asarray(a, x.dtype)
    return jax.tree_util.tree_map_with_path(one, shapes)


def descend(loss, params, state, steps):
    """loss(params, state) -> (number, state). Plain SGD."""
    grad = jax.jit(jax.grad(loss, has_aux=True))
    for _ in range(steps):
        g, state = grad(params, state)
        params = jax.tree_util.tree_map(lambda p, d: p - 0.05 * d, params, g)
    return params, state


def cast_tree(tree, dtype):
    def one(x):
        inexact = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.asarray(x, dtype) if inexact else x
    return jax.tree_util.tree_map(one, tree)
