#!/usr/bin/env python3
"""Makes the Equinox goldens with equinox.tree_serialise_leaves: gen_equinox.py FOLDER.

Run with two versions of equinox for two folders.
"""

import json
import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import expected

MADE_BY = f"equinox {eqx.__version__}, jax {jax.__version__}"


def leaves(tree):
    """What is written: arrays, and Python's numbers as arrays without axes."""
    out = []
    for x in jax.tree_util.tree_leaves(tree):
        if isinstance(x, (bool, int, float, complex, np.ndarray, jax.Array)):
            out.append(np.asarray(x))
    return out


def save(path, tree, line=None):
    with open(path, "wb") as f:
        if line is not None:
            f.write((json.dumps(line) + "\n").encode())
        eqx.tree_serialise_leaves(f, tree)
    with open(path, "rb") as f:
        if line is not None:
            assert json.loads(f.readline().decode()) == line
        back = eqx.tree_deserialise_leaves(f, tree)
    want = leaves(tree)
    assert [a.tobytes() for a in leaves(back)] == [a.tobytes() for a in want]
    expected.write(path, MADE_BY, [
        (str(i), a.dtype.name, a.shape, np.ascontiguousarray(a).tobytes())
        for i, a in enumerate(want)])


class Net(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    drop: eqx.nn.Dropout
    scale: float
    steps: int
    on: bool
    phase: complex
    name: str = "net"

    def __init__(self, key):
        self.linear = eqx.nn.Linear(3, 4, key=key)
        self.norm = eqx.nn.LayerNorm(4)
        self.drop = eqx.nn.Dropout(0.25)
        self.scale, self.steps, self.on, self.phase = 1.5, 7, True, 1 + 2j


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    key = jax.random.PRNGKey(5)
    line = {"in_size": 2, "out_size": 2, "width_size": 3, "depth": 1, "label": "caf\u00e9"}
    mlp = eqx.nn.MLP(in_size=2, out_size=2, width_size=3, depth=1, key=key)
    save(out / "mlp.eqx", mlp)
    save(out / "mlp_line.eqx", mlp, line)
    save(out / "net.eqx", Net(key))
    params = eqx.filter(mlp, eqx.is_inexact_array)
    tx = optax.adam(1e-2)
    state = tx.init(params)
    updates, state = tx.update(jax.tree_util.tree_map(lambda p: p * 0.1, params), state, params)
    save(out / "train.eqx", (eqx.apply_updates(mlp, updates), state, 3))
    if hasattr(eqx.nn, "make_with_state"):
        save(out / "state.eqx", eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, axis_name="batch"))
    save(out / "dtypes.eqx", {
        "bf16": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), "f16": jnp.ones(3, jnp.float16),
        "c64": jnp.ones((1, 2), jnp.complex64), "i8": jnp.arange(3, dtype=jnp.int8),
        "u32": jnp.arange(3, dtype=jnp.uint32), "b": jnp.array([True, False]),
        "f64": np.arange(3.0), "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": jnp.zeros((0, 4)), "zero_d": jnp.array(2.0)})
    save(out / "one.eqx", jnp.arange(4.0))


if __name__ == "__main__":
    main(sys.argv[1])
