#!/usr/bin/env python3
"""Makes the Haiku goldens: gen_haiku.py FOLDER.

Run with dm-haiku, optax, jax, ml_dtypes and joblib; two versions of them give two folders. What is
not installed (joblib of before 1.2 beside nothing else) is left out by name.
"""

import pathlib
import pickle
import sys

import joblib
import numpy as np

import expected

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from checkpoints import path_text  # noqa: E402


def leaves(x, where=(), scalar=False):
    """(name, array) of every array; named tuples go by their fields."""
    if isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "__jax_array__") or \
            type(x).__name__ in ("ArrayImpl", "Array", "DeviceArray"):
        yield path_text(where) if where else "arr_0", np.asarray(x)
    elif hasattr(x, "_fields"):
        for k in x._fields:
            yield from leaves(getattr(x, k), where + (k,))
    elif hasattr(x, "items"):
        for k, v in x.items():
            yield from leaves(v, where + (str(k),))
    elif isinstance(x, (list, tuple)):
        for i, v in enumerate(x):
            yield from leaves(v, where + (str(i),))


def has_values(x):
    if hasattr(x, "_fields"):
        return any(has_values(v) for v in x)
    if hasattr(x, "items"):
        return any(has_values(v) for v in x.values())
    if isinstance(x, (list, tuple)):
        return any(has_values(v) for v in x)
    return x is not None and not any(True for _ in leaves(x))


def dtype_name(a):
    if a.dtype.names == ("bfloat16",) or a.dtype == np.dtype("V2"):
        return "bfloat16"
    return {"void8": "uint8"}.get(a.dtype.name, a.dtype.name)


def canonical(a):
    """Little-endian; sub-byte values stand one a byte with their upper bits zero."""
    if a.dtype.byteorder == ">":
        a = a.astype(a.dtype.newbyteorder("<"))
    raw = np.ascontiguousarray(a).tobytes()
    mask = {"int4": 15, "uint4": 15}
    return bytes(b & mask[a.dtype.name] for b in raw) if a.dtype.name in mask else raw


def record(path, made_by, tree, **kw):
    expected.write(path, made_by, [(n, dtype_name(a), a.shape, canonical(a))
                                   for n, a in leaves(tree)], values=has_values(tree), **kw)


def every_numpy(rng):
    """Arrays of numpy's own types, with bits that text spellings must carry."""
    out = {}
    for name in ("float64", "float32", "float16", "complex64", "complex128", "int8", "int16", "int32",
                 "int64", "uint8", "uint16", "uint32", "uint64"):
        dt = np.dtype(name)
        raw = rng.integers(0, 256, 6 * dt.itemsize, dtype=np.uint8)
        out[name] = raw.view(dt).reshape(2, 3)
    out["bool"] = np.array([True, False])
    out["bytes"] = np.arange(256, dtype=np.uint8)
    out["text"] = np.frombuffer(b"\\u00e9\\n'\"\n\r\0\x1a\\", np.uint8).copy()
    out["fortran"] = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    out["big"] = np.arange(3, dtype=">f4")
    out["zero_d"] = np.array(3, np.int32)
    out["zero_size"] = np.zeros((2, 0), np.float32)
    out["scalar"] = np.float32(1.5)
    out["void"] = np.arange(4, dtype=np.uint16).view("V2").reshape(2, 2)
    out["record"] = np.arange(4, dtype=np.uint16).view([("bfloat16", "<u2")])
    return out


def by_numpy(out, rng):
    made_by = f"numpy {np.__version__}"
    tree = {"a/~/b": every_numpy(rng), "dot.ted": {"b\\": np.ones(1)}}
    for protocol in range(6):
        path = out / f"numpy{protocol}.pkl"
        path.write_bytes(pickle.dumps(tree, protocol))
        record(path, made_by, tree)
    # longer than what is kept in memory
    long = {"m": {"w": rng.integers(0, 256, 2600, dtype=np.uint8)}}
    for protocol in (0, 2, 4):
        path = out / f"long{protocol}.pkl"
        path.write_bytes(pickle.dumps(long, protocol))
        record(path, made_by, long)
    tied = np.arange(4, dtype=np.float32)
    path = out / "tied.pkl"
    tree = {"embed": {"embeddings": tied}, "head": {"w": tied}, "other": {"w": tied.copy()}}
    path.write_bytes(pickle.dumps(tree))
    record(path, made_by, tree, aliases=[("embed.embeddings", "head.w")])
    path = out / "array.pkl"
    path.write_bytes(pickle.dumps(np.arange(3, dtype=np.int16), 4))
    record(path, made_by, np.arange(3, dtype=np.int16))


def by_joblib(out, rng):
    made_by = f"joblib {joblib.__version__}, numpy {np.__version__}"
    tree = {"mlp/~/linear_0": {"w": rng.normal(size=(3, 5)).astype(np.float32), "b": np.zeros(5)},
            "f": {"w": np.asfortranarray(rng.normal(size=(3, 2)))}, "zero_d": np.array(1),
            "empty": np.zeros((0, 3), np.float32), "list": [np.arange(3), np.ones(2, np.int8)]}
    for name, compress in (("plain", 0), ("zlib", 3), ("gzip", ("gzip", 3))):
        path = out / f"{name}.joblib"
        joblib.dump(tree, path, compress=compress)
        record(path, made_by, tree)


def by_haiku(out, rng):
    import haiku as hk
    import jax
    import jax.numpy as jnp
    import ml_dtypes
    import optax
    made_by = f"dm-haiku {hk.__version__}, optax {optax.__version__}, jax {jax.__version__}, " \
              f"numpy {np.__version__}"

    def net(x, training):
        x = hk.nets.MLP([3, 2], name="mlp")(x)
        return hk.BatchNorm(True, True, 0.9, name="norm")(x, training)

    f = hk.transform_with_state(net)
    x = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    params, state = f.init(jax.random.PRNGKey(0), x, True)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    opt_state = tx.init(params)
    for i in range(2):
        grads = jax.tree_util.tree_map(lambda p, i=i: p * 0.1 + i, params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    for name, protocol, tree in (
            ("params", 4, params), ("params2", 2, params),
            ("train", 4, {"params": params, "state": state, "opt_state": opt_state, "step": 2}),
            ("tuple", 5, (params, state, opt_state)),
            ("flat_mapping", 3, hk.data_structures.to_immutable_dict(
                {"m/~/linear": {"w": np.ones((2, 3), np.float32), "b": np.zeros(3)}})),
            ("sgd", 4, {"params": params,
                        "opt_state": optax.sgd(0.1, momentum=0.9).init(params)}),
            ("bfloat16", 4, {"m": {"w": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)}}),
            ("bfloat16_2", 2, {"m": {"w": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)}})):
        path = out / f"{name}.pkl"
        path.write_bytes(pickle.dumps(tree, protocol))
        record(path, made_by, tree)
    small = {}
    for name in ("float8_e4m3fn", "float8_e5m2", "int4", "uint4"):
        if hasattr(ml_dtypes, name):
            a = np.array([1, 2, 3, 7], np.int8).astype(getattr(ml_dtypes, name))
            if a.tobytes() == canonical(a):  # ml_dtypes 0.2 leaves junk above the four bits
                small[name] = a
    path = out / "ml_dtypes.pkl"
    path.write_bytes(pickle.dumps(small, 4))
    record(path, made_by, small)


def main(folder, *parts):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    for name, part in (("numpy", by_numpy), ("joblib", by_joblib), ("haiku", by_haiku)):
        if not parts or name in parts:
            part(out, rng)


if __name__ == "__main__":
    main(*sys.argv[1:])
