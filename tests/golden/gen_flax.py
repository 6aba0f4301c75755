#!/usr/bin/env python3
"""Makes the Flax msgpack goldens with flax.serialization: gen_flax.py FOLDER."""

import pathlib
import sys
import tempfile

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
from flax import serialization
from flax.training import train_state

import expected

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from checkpoints import path_text  # noqa: E402

MADE_BY = f"flax {flax.__version__}, jax {jax.__version__}"


def leaves(tree, where=()):
    for k, v in tree.items():
        if isinstance(v, dict):
            yield from leaves(v, where + (k,))
        elif isinstance(v, (np.ndarray, np.generic, jax.Array)):
            yield path_text(where + (k,)), np.asarray(v)


def canonical(a):
    """Sub-byte values stand one a byte with their upper bits zero."""
    raw = np.ascontiguousarray(a).tobytes()
    mask = {"int4": 15, "uint4": 15, "int2": 3, "uint2": 3, "float4_e2m1fn": 15}
    return bytes(b & mask[a.dtype.name] for b in raw) if a.dtype.name in mask else raw


def save(path, target, **kw):
    """Writes target; the expected contents are what msgpack_restore gives back."""
    blob = serialization.to_bytes(target)
    path.write_bytes(blob)
    back = serialization.msgpack_restore(blob)
    assert jax.tree_util.tree_all(jax.tree_util.tree_map(
        lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(),
        serialization.to_state_dict(target), back))
    expected.write(path, MADE_BY, [
        (n, a.dtype.name, a.shape, canonical(a)) for n, a in leaves(back)],
        values=has_values(back), **kw)


def has_values(x):
    if isinstance(x, dict):
        return not x or any(has_values(v) for v in x.values())
    return not isinstance(x, (np.ndarray, np.generic, jax.Array))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(3, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.relu(x).reshape(x.shape[0], -1)
        return nn.Dense(4)(x)


class State(train_state.TrainState):
    batch_stats: dict = None


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)

    x = jnp.asarray(rng.normal(size=(2, 4, 4, 2)), jnp.float32)
    variables = Net().init(jax.random.PRNGKey(0), x)
    variables = {"params": variables["params"], "batch_stats": {"BatchNorm_0": {
        "mean": rng.normal(size=3).astype(np.float32),
        "var": rng.uniform(0.5, 2, size=3).astype(np.float32)}}}
    save(out / "variables.msgpack", variables)

    bits = {8: [1 << 63, 1, 0x7ff8000000001234, 0xfff0000000000001],
            4: [1 << 31, 1, 0x7fc01234, 0xff800001], 2: [1 << 15, 1, 0x7e12, 0xfc01]}
    every = {}
    for name in ("float64", "float32", "float16", "bfloat16", "complex64", "complex128"):
        dt = np.dtype(getattr(ml_dtypes, name, None) or name)
        n = dt.itemsize // (2 if dt.kind == "c" else 1)
        raw = b"".join(v.to_bytes(n, "little") for v in bits[n] * (dt.itemsize // n))
        every[name] = np.frombuffer(raw, dt).reshape(2, 2)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        info = np.iinfo(name)
        every[name] = np.array([[info.min, info.max], [1, 2]], name)
    every["bool"] = np.array([[True, False], [False, True]])
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                 "float8_e8m0fnu"):
        every[name] = np.array([0x80, 1, 0x7f, 0xff], np.uint8).view(getattr(ml_dtypes, name))
    for name in ("int4", "uint4"):
        every[name] = np.array([1, 2, 3, -1 if name == "int4" else 15]).astype(
            getattr(ml_dtypes, name))
    save(out / "dtypes.msgpack", every)

    save(out / "tree.msgpack", {
        "scalars": {"int": 7, "negative": -70000, "big": 2 ** 63, "float": 0.1, "true": True,
                    "none": None, "complex": 1 + 2j, "text": "caf\u00e9",
                    "numpy": np.float32(1.5), "numpy_int": np.int64(-9)},
        "list": [np.arange(2), {"w": np.ones((1, 2), np.float32)}], "tuple": (np.zeros(1),),
        "empty": {}, "a.b": {"c": np.arange(3)}, "a": {"b.c": np.arange(4)},
        "back\\slash": np.arange(1), "ends\\": {"x": np.arange(2, dtype=np.int8)},
        "zero_d": np.array(3, np.int32), "zero_size": np.zeros((2, 0), np.float32),
        "0": {"10": np.ones(1), "9": np.zeros(1)},
    })
    save(out / "no_name.msgpack", {"": np.arange(2, dtype=np.uint8), "w": np.ones(1)})

    class Small(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.LayerNorm()(nn.Dense(3)(x)))

    params = Small().init(jax.random.PRNGKey(1), jnp.ones((1, 2)))["params"]
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    state = State.create(apply_fn=None, params=params, tx=tx, batch_stats={})
    for i in range(3):
        grads = jax.tree_util.tree_map(lambda p, i=i: p * 0.1 + i, state.params)
        state = state.apply_gradients(grads=grads)
    save(out / "train_state.msgpack", state)

    limit, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, 100
    try:
        save(out / "chunked.msgpack", {
            "w": rng.normal(size=(7, 9)).astype(np.float32), "small": np.arange(5),
            "h": np.asarray(rng.normal(size=(3, 5, 11)), ml_dtypes.bfloat16)})
    finally:
        serialization.MAX_CHUNK_SIZE = limit

    from flax import nnx
    from flax.training import checkpoints

    class Module(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
            self.norm = nnx.BatchNorm(3, rngs=rngs)

    state = nnx.to_pure_dict(nnx.state(Module(nnx.Rngs(0))))
    save(out / "nnx_pure.msgpack", state)

    # the file that Flax's own saver wrote before Orbax
    flax.config.update("flax_use_orbax_checkpointing", False)
    target = {"params": params, "step": 3}
    with tempfile.TemporaryDirectory() as room:
        made = checkpoints.save_checkpoint(room, target, 3)
        blob = pathlib.Path(made).read_bytes()
    save(out / "checkpoint_3", target)
    assert (out / "checkpoint_3").read_bytes() == blob


if __name__ == "__main__":
    main(sys.argv[1])
